//! The files that every place finds in `/etc`: names, one user, and which resolver to ask.
//!
//! Where the lab has a Service `kube-system/kube-dns`, pods ask it, with the search list that a kubelet writes; only the pods
//! behind it know names by themselves. Elsewhere, and on hosts outside, names come from `/etc/hosts`.

use crate::node::Node;
use crate::{paths, pod};
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

/// Writes `hosts`, `resolv.conf`, `passwd` and `group` into the folder of every place.
pub(crate) fn write_all(node: &Node) -> io::Result<()> {
    let names = names(node);
    let resolver = resolver(node);
    for pod in &node.plan.pods {
        let own = pod.place.rsplit('/').next().unwrap_or(&pod.place);
        let own = format!("{} {own}\n{} {own}\n", pod.v4, pod.v6);
        let asks = resolver.as_ref().filter(|resolver| !resolver.pods.contains(&pod.place));
        match asks {
            Some(resolver) => {
                let namespace = &node.lab.pods[pod.spec].namespace;
                write(&pod.place, &format!("{LOCALHOST}{own}"), &resolver.configuration(namespace))?;
            }
            None => write(&pod.place, &format!("{names}{own}"), NO_RESOLVER)?,
        }
    }
    for host in &node.lab.outside {
        write(&format!("outside/{}", host.name), &names, NO_RESOLVER)?;
    }
    Ok(())
}

const LOCALHOST: &str = "127.0.0.1 localhost\n::1 localhost\n";
const NO_RESOLVER: &str = "# names come from /etc/hosts\n";

/// The cluster's resolver: the Service of this name.
pub(crate) const RESOLVER: &str = "kube-system/kube-dns";

struct Resolver {
    address: Ipv4Addr,
    /// Places behind it.
    pods: Vec<String>,
}

impl Resolver {
    /// What a kubelet writes.
    fn configuration(&self, namespace: &str) -> String {
        let address = self.address;
        format!(
            "nameserver {address}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\n\
             options ndots:5 timeout:2 attempts:2\n"
        )
    }
}

fn resolver(node: &Node) -> Option<Resolver> {
    let mut services = node.lab.services.iter().zip(&node.plan.services);
    let (service, (address, _)) =
        services.find(|(service, _)| format!("{}/{}", service.namespace, service.name) == RESOLVER)?;
    let pods = node.plan.endpoints(&node.lab, service).map(|pod| pod.place.clone()).collect();
    Some(Resolver { address: *address, pods })
}

fn write(place: &str, hosts: &str, resolver: &str) -> io::Result<()> {
    let folder = paths::folder(place);
    fs::create_dir_all(&folder)?;
    let uid = pod::APP_UID;
    fs::write(folder.join("hosts"), hosts)?;
    fs::write(folder.join("resolv.conf"), resolver)?;
    fs::write(
        folder.join("passwd"),
        format!("root:x:0:0::/root:/bin/sh\napp:x:{uid}:{uid}::/tmp:/bin/sh\n"),
    )?;
    fs::write(folder.join("group"), format!("root:x:0:\napp:x:{uid}:\n"))
}

/// Services by their short and full names, and hosts outside.
fn names(node: &Node) -> String {
    let mut text = LOCALHOST.to_owned();
    for (service, (v4, v6)) in node.lab.services.iter().zip(&node.plan.services) {
        let (name, namespace) = (&service.name, &service.namespace);
        let names =
            format!("{name}.{namespace} {name} {name}.{namespace}.svc {name}.{namespace}.svc.cluster.local");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{v4} {names}\n{v6} {names}");
    }
    for host in &node.lab.outside {
        for address in host.addresses {
            let _ = writeln!(text, "{address} {}", host.name);
        }
    }
    text
}

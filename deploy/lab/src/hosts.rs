//! The files that every place finds in `/etc`: names until DNS is inspected, one user, no resolver.

use crate::node::Node;
use crate::{paths, pod};
use std::fmt::Write;
use std::fs;
use std::io;

/// Writes `hosts`, `resolv.conf`, `passwd` and `group` into the folder of every place.
pub(crate) fn write_all(node: &Node) -> io::Result<()> {
    let names = names(node);
    for pod in &node.plan.pods {
        let own = pod.place.rsplit('/').next().unwrap_or(&pod.place);
        write(&pod.place, &format!("{names}{} {own}\n{} {own}\n", pod.v4, pod.v6))?;
    }
    for host in &node.lab.outside {
        write(&format!("outside/{}", host.name), &names)?;
    }
    Ok(())
}

fn write(place: &str, hosts: &str) -> io::Result<()> {
    let folder = paths::folder(place);
    fs::create_dir_all(&folder)?;
    let uid = pod::APP_UID;
    fs::write(folder.join("hosts"), hosts)?;
    fs::write(folder.join("resolv.conf"), "# names come from /etc/hosts\n")?;
    fs::write(
        folder.join("passwd"),
        format!("root:x:0:0::/root:/bin/sh\napp:x:{uid}:{uid}::/tmp:/bin/sh\n"),
    )?;
    fs::write(folder.join("group"), format!("root:x:0:\napp:x:{uid}:\n"))
}

/// Services by their short and full names, and hosts outside.
fn names(node: &Node) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
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

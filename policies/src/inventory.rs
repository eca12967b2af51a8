//! What is known of the cluster: namespaces, pods, Services, nodes.
//!
//! Plain values, built from Kubernetes objects (`kubectl get … -o yaml`, the API server, or a lab's files) by
//! [`crate::documents`]. Everything is sorted by key, so equal clusters give equal programs.

use crate::limits::LENT_ADDRESSES_MAX;
use bulkhead_facts::{L4Protocol, WorkloadRef};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A namespace and a name within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What is known of the cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Namespaces with their labels.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods that run (Succeeded and Failed ones hold no address any more and are left out).
    pub pods: BTreeMap<ObjectName, Pod>,
    /// Services with their endpoints.
    pub services: BTreeMap<ObjectName, Service>,
    /// Addresses of nodes by name.
    pub nodes: BTreeMap<String, Vec<IpAddr>>,
    /// Labels of nodes by name.
    pub node_labels: BTreeMap<String, Labels>,
}

impl Inventory {
    /// Gives each pod that has no address yet one that nobody else has, so that questions about pods which do not run have
    /// answers: of 198.18.0.0/15 (RFC 2544) and 2001:2::/48 (RFC 5180), in the families that other pods have, else IPv4. A
    /// pod on its node's network gets the node's. Names those that got one.
    pub fn lend_addresses(&mut self) -> Vec<ObjectName> {
        let used: BTreeSet<IpAddr> = self
            .pods
            .values()
            .flat_map(|pod| &pod.addresses)
            .chain(self.nodes.values().flatten())
            .copied()
            .collect();
        let has = |v4: bool| self.pods.values().flat_map(|pod| &pod.addresses).any(|one| one.is_ipv4() == v4);
        let (v6, v4) = (has(false), has(true) || !has(false));
        let mut free = (1..=LENT_ADDRESSES_MAX)
            .map(|number| [v4.then(|| lent_v4(number)), v6.then(|| lent_v6(number))])
            .filter(|pair| !pair.iter().flatten().any(|address| used.contains(address)));
        let mut lent = Vec::new();
        for (name, pod) in self.pods.iter_mut().filter(|(_, pod)| pod.addresses.is_empty()) {
            pod.addresses = match pod.host_network {
                true => self.nodes.get(&pod.node).cloned().unwrap_or_default(),
                false => free.next().into_iter().flatten().flatten().collect(),
            };
            if !pod.addresses.is_empty() {
                lent.push(name.clone());
            }
        }
        lent
    }
}

fn lent_v4(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + number))
}

fn lent_v6(number: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits((0x2001_0002 << 96) + u128::from(number)))
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Unique identifier: an address that changes hands is told apart by it.
    pub uid: String,
    /// The owner: Deployment, StatefulSet, Job, or the pod itself.
    pub workload: WorkloadRef,
    /// Labels.
    pub labels: Labels,
    /// Service account.
    pub service_account: String,
    /// Addresses of both families.
    pub addresses: Vec<IpAddr>,
    /// True if it lives in the node's network namespace: then it is seen as its node.
    pub host_network: bool,
    /// Name of its node; empty if unknown.
    pub node: String,
    /// Named container ports.
    pub ports: Vec<NamedPort>,
    /// Ports that the kubelet probes (HTTP, TCP and gRPC probes of all containers).
    pub probe_ports: Vec<u16>,
}

/// A named container port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    /// Name.
    pub name: String,
    /// Protocol.
    pub protocol: L4Protocol,
    /// Number.
    pub port: u16,
}

/// One Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Cluster addresses of both families; none for a headless Service.
    pub addresses: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service with its ready endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Port on the Service's address.
    pub port: u16,
    /// Protocol.
    pub protocol: L4Protocol,
    /// Ready endpoints: address and target port.
    pub endpoints: Vec<(IpAddr, u16)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Source;
    use crate::documents::load_inventory;

    fn inventory(pods: &[(&str, &str)]) -> Inventory {
        let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n}\nstatus: {addresses: [{type: InternalIP, address: 10.9.0.1}]}\n";
        let pod = |(name, rest): &(&str, &str)| {
            format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x}}\n{rest}\n")
        };
        let text = node.to_owned() + &pods.iter().map(pod).collect::<String>();
        load_inventory(&[Source { name: "inventory.yaml".into(), text }]).expect("an inventory")
    }

    fn addresses(inventory: &Inventory, name: &str) -> Vec<String> {
        let name = ObjectName { namespace: "x".into(), name: name.into() };
        inventory.pods[&name].addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pods_that_do_not_run_yet_are_lent_addresses_that_nobody_has() {
        let mut inventory = inventory(&[
            ("a", "spec: {containers: [{name: c}]}"),
            ("b", "status: {phase: Running, podIPs: [{ip: 198.18.0.1}, {ip: \"fd00::1\"}]}"),
            ("c", "spec: {containers: [{name: c}]}"),
            ("d", "spec: {hostNetwork: true, nodeName: n, containers: [{name: c}]}"),
            ("e", "spec: {hostNetwork: true, containers: [{name: c}]}"),
        ]);
        let lent: Vec<String> = inventory.lend_addresses().into_iter().map(|name| name.name).collect();
        assert_eq!(lent, ["a", "c", "d"]);
        assert_eq!(addresses(&inventory, "a"), ["198.18.0.2", "2001:2::2"]);
        assert_eq!(addresses(&inventory, "b"), ["198.18.0.1", "fd00::1"]);
        assert_eq!(addresses(&inventory, "c"), ["198.18.0.3", "2001:2::3"]);
        assert_eq!(addresses(&inventory, "d"), ["10.9.0.1"]);
        assert!(addresses(&inventory, "e").is_empty());
        assert!(inventory.lend_addresses().is_empty());
    }

    #[test]
    fn where_no_pod_has_an_address_those_of_ipv4_are_lent() {
        let mut inventory = inventory(&[("a", "spec: {containers: [{name: c}]}")]);
        assert_eq!(inventory.lend_addresses().len(), 1);
        assert_eq!(addresses(&inventory, "a"), ["198.18.0.1"]);
    }
}

//! The built-in rules: what a pod needs to live.
//!
//! Under `default: kubernetes` (and without a collection) the pod's own node may reach it and be reached, as Kubernetes
//! grants it. Under `default: deny` the node reaches only the ports that the kubelet probes, and the pod reaches the
//! cluster's resolver. A pod's traffic to its own address never leaves it and is judged by nobody; by way of its own
//! Service it is judged as any other. Neighbour discovery is the kernel tables' own.

use super::clauses::{Clause, PortBlock};
use super::cluster::Cluster;
use super::peers::{Reach, Region, resolver};
use crate::inventory::{Pod, ServicePort};
use crate::model::{Collection, CollectionDefault, Infrastructure};
use bulkhead_facts::{Direction, L4Protocol, PolicyRef, PortRange};
use std::sync::Arc;

/// Kind of the policy that built-in rules name.
pub const BUILTIN_KIND: &str = "Builtin";
/// Port on which a resolver is asked.
const DNS_PORT: u16 = 53;

/// One built-in rule.
pub(crate) struct BuiltinRule {
    /// Name in verdicts.
    pub(crate) name: &'static str,
    /// What it allows; never empty.
    pub(crate) clauses: Vec<Clause>,
}

/// The policy that built-in rules name.
pub fn builtin_policy() -> PolicyRef {
    PolicyRef { kind: BUILTIN_KIND.to_owned(), namespace: None, name: "infrastructure".to_owned() }
}

/// The built-in rules of a workload in one direction.
pub(crate) fn builtin_rules(
    cluster: &Cluster<'_>,
    pod: &Pod,
    collection: Option<&Collection>,
    direction: Direction,
) -> Vec<BuiltinRule> {
    let default = collection.map_or(CollectionDefault::Kubernetes, |collection| collection.default);
    let holds = collection.map_or(Infrastructure::ALL, |collection| collection.infrastructure);
    let node = || Arc::new(Reach::Set(Region::new(cluster.node(&pod.node))));
    let (name, reach, ports) = match (default, direction) {
        (CollectionDefault::Kubernetes, _) => ("own-node", node(), vec![every_port()]),
        (CollectionDefault::Deny, Direction::Ingress) => ("probes", node(), probe_ports(pod)),
        (CollectionDefault::Deny, Direction::Egress) => {
            ("resolver", Arc::new(Reach::Set(Region::new(resolver(cluster)))), resolver_ports(cluster))
        }
    };
    let kept = match name {
        "own-node" => holds.own_node,
        "probes" => holds.probes,
        _ => holds.resolver,
    };
    let empty =
        !kept || ports.is_empty() || matches!(&*reach, Reach::Set(region) if region.addresses.is_empty());
    if empty { Vec::new() } else { vec![BuiltinRule { name, clauses: vec![Clause { reach, ports }] }] }
}

fn every_port() -> PortBlock {
    PortBlock { protocol_first: 0, protocol_last: u8::MAX, ports: PortRange::ALL }
}

fn one(protocol: L4Protocol, port: u16) -> PortBlock {
    PortBlock { protocol_first: protocol.0, protocol_last: protocol.0, ports: PortRange::single(port) }
}

fn probe_ports(pod: &Pod) -> Vec<PortBlock> {
    sorted(pod.probe_ports.iter().map(|port| one(L4Protocol::TCP, *port)).collect())
}

/// Port 53, and where the resolver's Service leads elsewhere, the ports it leads to.
fn resolver_ports(cluster: &Cluster<'_>) -> Vec<PortBlock> {
    let mut blocks = vec![one(L4Protocol::UDP, DNS_PORT), one(L4Protocol::TCP, DNS_PORT)];
    let service = cluster.service("kube-system", "kube-dns");
    let asked = |port: &&ServicePort| {
        port.port == DNS_PORT && matches!(port.protocol, L4Protocol::UDP | L4Protocol::TCP)
    };
    for port in service.into_iter().flat_map(|service| &service.ports).filter(asked) {
        blocks.extend(port.endpoints.iter().map(|(_, target)| one(port.protocol, *target)));
    }
    sorted(blocks)
}

fn sorted(mut blocks: Vec<PortBlock>) -> Vec<PortBlock> {
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

//! From a rule to clauses: addresses with concrete ports.
//!
//! A rule with named ports means another number at each destination, so on egress it falls apart into one clause per
//! number. On ingress the destination is the workload itself.

use super::cluster::{Cluster, PortChange};
use super::peers::{Reach, Reading, Region, pod_addresses};
use crate::inventory::Pod;
use crate::model::{PortMatch, Ports, RuleAction};
use bulkhead_facts::{L4Protocol, PortRange};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Consecutive protocols with a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortBlock {
    /// First protocol number.
    pub(crate) protocol_first: u8,
    /// Last protocol number.
    pub(crate) protocol_last: u8,
    /// Ports.
    pub(crate) ports: PortRange,
}

impl PortBlock {
    const ALL: Self = Self { protocol_first: 0, protocol_last: u8::MAX, ports: PortRange::ALL };

    fn one(protocol: L4Protocol, ports: PortRange) -> Self {
        Self { protocol_first: protocol.0, protocol_last: protocol.0, ports }
    }

    /// True if it covers this protocol and port.
    pub(crate) fn covers(&self, protocol: L4Protocol, port: u16) -> bool {
        (self.protocol_first..=self.protocol_last).contains(&protocol.0) && self.ports.contains(port)
    }
}

/// Addresses and the ports that are meant on them.
#[derive(Clone, Debug)]
pub(crate) struct Clause {
    /// Addresses of the peer.
    pub(crate) reach: Arc<Reach>,
    /// Ports of the destination; never empty.
    pub(crate) ports: Vec<PortBlock>,
}

impl Clause {
    /// True if one of the two ports of some change is meant and the other is not.
    pub(crate) fn tells_apart(&self, changes: &[PortChange]) -> bool {
        let covers = |protocol, port| self.ports.iter().any(|block| block.covers(protocol, port));
        changes
            .iter()
            .any(|(protocol, dialled, target)| covers(*protocol, *dialled) != covers(*protocol, *target))
    }
}

/// How a rule of this action reads what is in doubt.
pub(crate) fn reading(action: RuleAction) -> Reading {
    match action {
        RuleAction::Allow => Reading::Certain,
        RuleAction::Deny | RuleAction::Pass => Reading::Possible,
    }
}

/// Clauses towards the workload: named ports are its own.
pub(crate) fn ingress_clauses(ports: &Ports, reach: &Arc<Reach>, pod: &Pod) -> Vec<Clause> {
    let mut blocks = numeric_ports(ports);
    for (protocol, name) in named_ports(ports) {
        let own =
            pod.ports.iter().filter(|own| own.name == name && protocol.is_none_or(|p| p == own.protocol));
        blocks.extend(own.map(|own| PortBlock::one(own.protocol, PortRange::single(own.port))));
    }
    clause(reach.clone(), blocks).into_iter().collect()
}

/// Clauses from the workload: named ports are those of each pod that is reached.
pub(crate) fn egress_clauses(
    cluster: &Cluster<'_>,
    ports: &Ports,
    reach: &Arc<Reach>,
    reading: Reading,
) -> Vec<Clause> {
    let mut clauses: Vec<_> = clause(reach.clone(), numeric_ports(ports)).into_iter().collect();
    let mut by_number: BTreeMap<(L4Protocol, u16), Vec<usize>> = BTreeMap::new();
    for (protocol, name) in named_ports(ports) {
        for (pod, actual, port) in cluster.named_ports(name) {
            if protocol.is_none_or(|protocol| protocol == *actual) {
                by_number.entry((*actual, *port)).or_default().push(*pod);
            }
        }
    }
    for ((protocol, port), mut pods) in by_number {
        pods.sort_unstable();
        pods.dedup();
        let named = pod_addresses(cluster, &pods, reading);
        let reached = match &**reach {
            Reach::Any => named,
            Reach::Set(region) => region.addresses.intersection(&named),
        };
        let block = PortBlock::one(protocol, PortRange::single(port));
        clauses.extend(clause(Arc::new(Reach::Set(Region::new(reached))), vec![block]));
    }
    clauses
}

fn clause(reach: Arc<Reach>, mut ports: Vec<PortBlock>) -> Option<Clause> {
    let reaches_nobody = matches!(&*reach, Reach::Set(region) if region.addresses.is_empty());
    ports.sort_unstable();
    ports.dedup();
    (!ports.is_empty() && !reaches_nobody).then_some(Clause { reach, ports })
}

/// The ports that a rule names by number.
pub(crate) fn numeric_ports(ports: &Ports) -> Vec<PortBlock> {
    match ports {
        Ports::Any => vec![PortBlock::ALL],
        Ports::These(these) => these
            .iter()
            .filter_map(|port| match port {
                PortMatch::Range(protocol, range) => Some(PortBlock::one(*protocol, *range)),
                PortMatch::Named(..) => None,
            })
            .collect(),
    }
}

fn named_ports(ports: &Ports) -> impl Iterator<Item = (Option<L4Protocol>, &str)> {
    let these = match ports {
        Ports::Any => &[],
        Ports::These(these) => these.as_slice(),
    };
    these.iter().filter_map(|port| match port {
        PortMatch::Named(protocol, name) => Some((*protocol, name.as_str())),
        PortMatch::Range(..) => None,
    })
}

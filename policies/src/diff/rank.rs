//! How grave a change is.

use super::{Change, ChangeKind, Extent, Side};
use crate::compile::METADATA;
use bulkhead_facts::{L4Protocol, PortRange};
use std::cmp::Reverse;
use std::net::IpAddr;

/// 0 to 100: how far the edge reaches, and how much of its traffic changes.
pub(super) fn risk(change: &Change) -> u8 {
    let reach = match (&change.from, &change.to) {
        (_, Side::Outside(blocks)) if METADATA.iter().any(|address| holds(blocks, *address)) => 70,
        (Side::Outside(_), _) => 60,
        (_, Side::Outside(_)) => 50,
        // Who holds the name chooses the addresses, but nobody else does.
        (_, Side::Name(_)) => 40,
        (Side::Workload(from), Side::Workload(to)) if from.namespace == to.namespace => 10,
        (Side::Workload(from), Side::Service(to)) if from.namespace == to.namespace => 10,
        (Side::Workload(_) | Side::Service(_) | Side::Name(_), _) => 30,
    };
    let every_port = change.ports == PortRange::ALL && change.protocols.contains(L4Protocol::TCP);
    let amount = match &change.extent {
        Extent::Everything if every_port => 25,
        Extent::Everything if change.ports.first() != change.ports.last() => 20,
        Extent::Undecided => 20,
        Extent::Everything => 15,
        Extent::Kinds { .. } => 5,
    };
    reach + amount
}

fn holds(blocks: &[(IpAddr, IpAddr)], address: IpAddr) -> bool {
    let inside = |(first, last): &(IpAddr, IpAddr)| {
        first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last
    };
    blocks.iter().any(inside)
}

/// Widened first, the gravest first, then by name.
pub(super) fn order(change: &Change) -> impl Ord + use<> {
    let ends = (change.from.clone(), change.to.clone());
    let kind: ChangeKind = change.kind;
    (kind, Reverse(change.risk), ends, change.protocols, change.ports, format!("{:?}", change.extent))
}

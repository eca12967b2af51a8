//! What denials of one attacker look like: some by themselves, some only together.
//!
//! By itself: a sidecar's port, a metadata address, a request that was read and refused. Of the rest, many ports of
//! one target are a scan, one port of many targets is a sweep, and what remains is an attempt to get to another
//! workload, or out of the cluster.

use crate::flows::{Edge, SeenEdge};
use crate::limits::{SCAN_PORTS_MIN, SWEEP_TARGETS_MIN};
use bulkhead_api::rest::{IncidentKind, Party, PartyKind};
use bulkhead_facts::{L4Protocol, Reason};
use bulkhead_policies::compile::METADATA;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub(super) type Groups<'a> = BTreeMap<(&'a Party, IncidentKind), Vec<&'a SeenEdge>>;

/// Denials by attacker and kind, without those that say nothing of who was denied.
pub(super) fn groups<'a>(denied: &[&'a SeenEdge]) -> Groups<'a> {
    let mut by_attacker: BTreeMap<&Party, Vec<&SeenEdge>> = BTreeMap::new();
    for one in denied.iter().filter(|one| !is_operational(&one.edge)) {
        by_attacker.entry(&one.edge.source.party).or_default().push(one);
    }
    let mut groups = Groups::new();
    for (attacker, denials) in by_attacker {
        let (scanned, swept) = (scanned_targets(&denials), swept_ports(&denials));
        for one in denials {
            let edge = &one.edge;
            let kind = by_itself(edge).unwrap_or_else(|| together(edge, &scanned, &swept));
            groups.entry((attacker, kind)).or_default().push(one);
        }
    }
    groups
}

/// True for what we did, or could not do, ourselves: no policy yet, a flow cut off because its port is inspected now, an
/// address that changed hands, a Service without endpoints.
fn is_operational(edge: &Edge) -> bool {
    let reason = Reason::parse(&edge.enforced.reason);
    matches!(reason, Some(Reason::NoPolicy | Reason::TierChanged | Reason::StalePeer | Reason::NoEndpoint))
}

/// What one denial looks like whatever else there is.
fn by_itself(edge: &Edge) -> Option<IncidentKind> {
    if METADATA.contains(&edge.destination.address) {
        return Some(IncidentKind::MetadataAccess);
    }
    match Reason::parse(&edge.enforced.reason)? {
        Reason::SidecarPort => Some(IncidentKind::SidecarTampering),
        Reason::L7Mismatch
        | Reason::NameMismatch
        | Reason::NameHidden
        | Reason::Malformed
        | Reason::Ambiguous
        | Reason::ProtocolMismatch => Some(IncidentKind::L7Probing),
        Reason::AllowedByRule
        | Reason::NotIsolated
        | Reason::NoRule
        | Reason::DeniedByRule
        | Reason::IdentityUnproven
        | Reason::NameUnknown
        | Reason::Limit
        | Reason::NoPolicy
        | Reason::StalePeer
        | Reason::NoEndpoint
        | Reason::EndpointsDiffer
        | Reason::TierChanged
        | Reason::SpoofedSource
        | Reason::InvalidPacket => {
            let was_read = edge.http.is_some() || edge.request.is_some();
            was_read.then_some(IncidentKind::L7Probing)
        }
    }
}

fn together(edge: &Edge, scanned: &BTreeSet<IpAddr>, swept: &BTreeSet<(u8, u16)>) -> IncidentKind {
    let address = edge.destination.address;
    if scanned.contains(&address) {
        return IncidentKind::PortScan;
    }
    if address.is_multicast() || is_broadcast(address) || swept.contains(&sweep_key(edge)) {
        return IncidentKind::Sweep;
    }
    match edge.destination.party.kind {
        PartyKind::Workload | PartyKind::Service | PartyKind::Node => IncidentKind::LateralMovement,
        PartyKind::Outside => IncidentKind::Exfiltration,
    }
}

/// Addresses of which many ports were tried.
fn scanned_targets(denials: &[&SeenEdge]) -> BTreeSet<IpAddr> {
    let mut ports: BTreeMap<IpAddr, BTreeSet<(u8, u16)>> = BTreeMap::new();
    for edge in rest(denials).filter(|edge| L4Protocol(edge.protocol).has_ports()) {
        ports.entry(edge.destination.address).or_default().insert((edge.protocol, edge.dialled_port));
    }
    ports.into_iter().filter(|(_, ports)| ports.len() >= SCAN_PORTS_MIN).map(|(address, _)| address).collect()
}

/// Ports that were tried on many addresses.
fn swept_ports(denials: &[&SeenEdge]) -> BTreeSet<(u8, u16)> {
    let mut targets: BTreeMap<(u8, u16), BTreeSet<IpAddr>> = BTreeMap::new();
    for edge in rest(denials) {
        targets.entry(sweep_key(edge)).or_default().insert(edge.destination.address);
    }
    targets
        .into_iter()
        .filter(|(_, targets)| targets.len() >= SWEEP_TARGETS_MIN)
        .map(|(port, _)| port)
        .collect()
}

fn rest<'a>(denials: &[&'a SeenEdge]) -> impl Iterator<Item = &'a Edge> {
    denials.iter().map(|one| &one.edge).filter(|edge| by_itself(edge).is_none())
}

/// Echo requests of both families are one sweep, whatever their code.
fn sweep_key(edge: &Edge) -> (u8, u16) {
    let protocol = L4Protocol(edge.protocol);
    if protocol.is_icmp() { (L4Protocol::ICMP.0, 0) } else { (edge.protocol, edge.dialled_port) }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

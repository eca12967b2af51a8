//! What a pod can reach as things stand: where its own egress and the destination's ingress both allow.

use crate::IndexedPod;
use bulkhead_facts::{Direction, Effect, L4Protocol, PortRange};
use bulkhead_policies::decide::{InvalidProgram, Judge};
use bulkhead_policies::inventory::{Inventory, Pod};
use bulkhead_policies::program::{Action, DirectionProgram, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One way from a pod to another workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reachable {
    /// Namespace of the workload that can be reached.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Transport protocol.
    pub protocol: L4Protocol,
    /// Ports.
    pub ports: PortRange,
    /// True if only some requests pass.
    pub only_some_requests: bool,
}

/// Every workload that the pod with this UID can open a conversation with over TCP, UDP or SCTP. The targets'
/// programs are looked up in `pods`; a pod without a program (host network) counts as reachable where egress allows.
pub fn reach(
    uid: &str,
    pods: &BTreeMap<String, IndexedPod>,
    inventory: &Inventory,
) -> Result<Vec<Reachable>, InvalidProgram> {
    let Some(source) = pods.get(uid) else { return Ok(Vec::new()) };
    let Some(source_pod) = inventory.pods.get(&source.name) else { return Ok(Vec::new()) };
    let egress = Judge::new(Program::clone(&source.program))?;
    let mut found = BTreeSet::new();
    for target in inventory.pods.values().filter(|pod| pod.uid != uid && pod.workload != source_pod.workload)
    {
        let ingress = pods.get(&target.uid).map(|pod| &pod.program);
        let ingress = ingress.map(|program| Judge::new(Program::clone(program))).transpose()?;
        for (from, to) in pairs(source_pod, target) {
            add_ways(&egress, ingress.as_ref(), (from, to), target, &mut found);
        }
    }
    Ok(joined(found))
}

/// Addresses of one family at both ends.
fn pairs(source: &Pod, target: &Pod) -> Vec<(IpAddr, IpAddr)> {
    let froms = source.addresses.iter();
    froms
        .flat_map(|from| target.addresses.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from.is_ipv4() == to.is_ipv4())
        .collect()
}

fn add_ways(
    egress: &Judge,
    ingress: Option<&Judge>,
    (from, to): (IpAddr, IpAddr),
    target: &Pod,
    found: &mut BTreeSet<Reachable>,
) {
    for protocol in [L4Protocol::TCP, L4Protocol::UDP, L4Protocol::SCTP] {
        for ports in intervals(egress, ingress, protocol) {
            let out = pass(egress, Direction::Egress, to, protocol, ports.first());
            let into = ingress
                .map_or(Pass::All, |judge| pass(judge, Direction::Ingress, from, protocol, ports.first()));
            let only_some_requests = match (out, into) {
                (Pass::None, _) | (_, Pass::None) => continue,
                (Pass::All, Pass::All) => false,
                (Pass::Some, _) | (_, Pass::Some) => true,
            };
            found.insert(Reachable {
                namespace: target.workload.namespace.clone(),
                name: target.workload.name.clone(),
                protocol,
                ports,
                only_some_requests,
            });
        }
    }
}

#[derive(Clone, Copy)]
enum Pass {
    All,
    Some,
    None,
}

fn pass(judge: &Judge, direction: Direction, peer: IpAddr, protocol: L4Protocol, port: u16) -> Pass {
    match judge.action(direction, peer, protocol, port) {
        Action::Answer(id) | Action::Learn(id) => match judge.answer(id).enforced.effect {
            Effect::Allow => Pass::All,
            Effect::Deny => Pass::None,
        },
        Action::Inspect { .. } => Pass::Some,
    }
}

/// The ports cut where any box of either side begins or ends: within one interval every port is judged alike.
fn intervals(egress: &Judge, ingress: Option<&Judge>, protocol: L4Protocol) -> Vec<PortRange> {
    let mut starts = BTreeSet::from([0u16]);
    let tables =
        std::iter::once(&egress.program().egress).chain(ingress.map(|judge| &judge.program().ingress));
    for table in tables {
        add_starts(table, protocol, &mut starts);
    }
    let starts: Vec<u16> = starts.into_iter().collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    starts.iter().zip(ends).filter_map(|(first, last)| PortRange::new(*first, last)).collect()
}

fn add_starts(table: &DirectionProgram, protocol: L4Protocol, starts: &mut BTreeSet<u16>) {
    let of_protocol = |b: &&bulkhead_policies::program::PortBox| {
        b.protocol_first <= protocol && protocol <= b.protocol_last
    };
    for port_box in table.boxes.iter().filter(of_protocol) {
        starts.insert(port_box.ports.first());
        starts.extend(port_box.ports.last().checked_add(1));
    }
}

/// Neighbouring ranges of one kind become one.
fn joined(found: BTreeSet<Reachable>) -> Vec<Reachable> {
    let mut ways: Vec<Reachable> = Vec::with_capacity(found.len());
    for way in found {
        let last = ways.last_mut().filter(|last| {
            last.namespace == way.namespace
                && last.name == way.name
                && last.protocol == way.protocol
                && last.only_some_requests == way.only_some_requests
                && u32::from(way.ports.first()) <= u32::from(last.ports.last()) + 1
        });
        match last.and_then(|l| {
            PortRange::new(l.ports.first(), l.ports.last().max(way.ports.last())).map(|r| (l, r))
        }) {
            Some((last, ports)) => last.ports = ports,
            None => ways.push(way),
        }
    }
    ways
}

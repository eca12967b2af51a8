//! What a pod can reach as things stand: where its own egress and the destination's ingress both allow.

use crate::IndexedPod;
use bulkhead_facts::{Direction, Effect, L4Protocol, PortRange};
use bulkhead_policies::decide::{InvalidProgram, Judge};
use bulkhead_policies::inventory::{Inventory, Pod};
use bulkhead_policies::program::{Action, DirectionProgram, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

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

/// Answers what pods can reach. Pods that share a program share its judge.
#[derive(Debug)]
pub struct Reach<'a> {
    pods: &'a BTreeMap<String, IndexedPod>,
    inventory: &'a Inventory,
    judges: Vec<Judge>,
    /// By UID: position in `judges`.
    judge_of: BTreeMap<&'a str, usize>,
}

impl<'a> Reach<'a> {
    /// Builds the judges of these pods.
    pub fn new(
        pods: &'a BTreeMap<String, IndexedPod>,
        inventory: &'a Inventory,
    ) -> Result<Self, InvalidProgram> {
        let mut reach = Self { pods, inventory, judges: Vec::new(), judge_of: BTreeMap::new() };
        let mut known: BTreeMap<*const Program, usize> = BTreeMap::new();
        for (uid, pod) in pods {
            let at = match known.get(&Arc::as_ptr(&pod.program)) {
                Some(at) => *at,
                None => {
                    reach.judges.push(Judge::new(Program::clone(&pod.program))?);
                    known.insert(Arc::as_ptr(&pod.program), reach.judges.len() - 1);
                    reach.judges.len() - 1
                }
            };
            reach.judge_of.insert(uid, at);
        }
        Ok(reach)
    }

    /// Every workload that the pod with this UID can open a conversation with over TCP, UDP or SCTP. A pod without a
    /// program (host network) counts as reachable where egress allows it.
    pub fn of(&self, uid: &str) -> Vec<Reachable> {
        let source_pod = self.pods.get(uid).and_then(|source| self.inventory.pods.get(&source.name));
        let (Some(source_pod), Some(egress)) = (source_pod, self.judge(uid)) else { return Vec::new() };
        let others = self.inventory.pods.values();
        let mut found = BTreeSet::new();
        for target in others.filter(|pod| pod.uid != uid && pod.workload != source_pod.workload) {
            for (from, to) in pairs(source_pod, target) {
                add_ways(egress, self.judge(&target.uid), (from, to), target, &mut found);
            }
        }
        joined(found)
    }

    fn judge(&self, uid: &str) -> Option<&Judge> {
        self.judge_of.get(uid).map(|at| &self.judges[*at])
    }
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
        Action::Inspect { .. } | Action::Choose { .. } => Pass::Some,
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

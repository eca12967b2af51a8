//! How each rule that selects a pod bears on one flow: what [`crate::explain`] is told from.
//!
//! Asks the same sets of addresses and ports as the compiler, so a trace cannot disagree with the program.

use super::Compiler;
use super::clauses::{Clause, egress_clauses, ingress_clauses, reading};
use super::infrastructure::builtin_rules;
use super::peers::{Reach, reach};
use crate::inventory::ObjectName;
use crate::model::{Policy, Rule};
use bulkhead_facts::{Direction, L4Protocol};
use std::net::IpAddr;
use std::sync::Arc;

/// One policy that selects the pod, with its rules of the direction, in the order of evaluation.
#[derive(Clone, Debug)]
pub struct PolicyTrace<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its rules.
    pub rules: Vec<RuleTrace<'a>>,
}

/// One rule with what of it matches the flow at layer 4.
#[derive(Clone, Copy, Debug)]
pub struct RuleTrace<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Its position in the document.
    pub position: usize,
    /// It names the peer.
    pub peer: bool,
    /// It names the protocol and port.
    pub port: bool,
}

impl<'a> Compiler<'a> {
    /// The policies that select a pod, each rule compared with one flow; none for a pod that is not there.
    pub fn trace(
        &self,
        pod: &ObjectName,
        direction: Direction,
        peer: IpAddr,
        protocol: L4Protocol,
        port: u16,
    ) -> Vec<PolicyTrace<'a>> {
        let Some(at) = self.cluster.pod(pod) else { return Vec::new() };
        let pod = self.cluster.pods[at].1;
        let peer = peer.to_canonical();
        let any = Arc::new(Reach::Any);
        let trace_rule = |(position, rule): (usize, &'a Rule)| {
            let reading = reading(rule.action);
            let clauses = match direction {
                Direction::Ingress => ingress_clauses(&rule.ports, &any, pod),
                Direction::Egress => egress_clauses(&self.cluster, &rule.ports, &any, reading),
            };
            RuleTrace {
                rule,
                position,
                peer: reaches(&reach(&self.cluster, &rule.peers, reading), peer),
                port: clauses.iter().any(|clause| covers(clause, peer, protocol, port)),
            }
        };
        let selecting = self.policies.selecting(&self.cluster, at);
        let traces = selecting.into_iter().map(|index| {
            let policy: &'a Policy = self.policies.all[index];
            PolicyTrace {
                policy,
                rules: policy.rules(direction).iter().enumerate().map(trace_rule).collect(),
            }
        });
        traces.collect()
    }

    /// Names of the built-in rules that allow a flow.
    pub fn trace_builtin(
        &self,
        pod: &ObjectName,
        direction: Direction,
        peer: IpAddr,
        protocol: L4Protocol,
        port: u16,
    ) -> Vec<&'static str> {
        let Some(at) = self.cluster.pod(pod) else { return Vec::new() };
        let collection = self.collection_of(pod);
        let rules = builtin_rules(&self.cluster, self.cluster.pods[at].1, collection, direction);
        let hit = |clauses: &[Clause]| {
            clauses.iter().any(|clause| covers(clause, peer.to_canonical(), protocol, port))
        };
        rules.into_iter().filter(|rule| hit(&rule.clauses)).map(|rule| rule.name).collect()
    }
}

fn reaches(reach: &Reach, peer: IpAddr) -> bool {
    match reach {
        Reach::Any => true,
        Reach::Set(region) => region.addresses.contains(peer),
    }
}

fn covers(clause: &Clause, peer: IpAddr, protocol: L4Protocol, port: u16) -> bool {
    reaches(&clause.reach, peer) && clause.ports.iter().any(|block| block.covers(protocol, port))
}

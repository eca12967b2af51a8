//! Learning: from what was seen to policies that a person can approve.
//!
//! [`propose`] is pure and does not depend on the order of what it is given. What only one odd observation speaks for, or
//! what nobody should allow without thinking, is not part of the proposed documents but listed beside them, with the
//! reason ([`Caution`]). Nothing is widened: a rule allows the peers, ports and kinds of requests that were seen, no more.
//!
//! Where to look: [`kinds`] is what requests are told apart by, [`edges`] adds observations up, [`cautions`] judges them,
//! [`selectors`] finds stable labels, [`sections`] narrows rules to what was asked, [`rules`] and [`document`] write policies.

mod cautions;
mod document;
mod edges;
mod kinds;
#[cfg(test)]
mod protocol_tests;
mod rules;
mod sections;
mod selectors;
#[cfg(test)]
mod tests;

pub use cautions::Caution;
pub use kinds::{DnsKind, HttpKind, KafkaKind, PostgresKind, RedisKind, RequestKind, TlsKind};

use crate::compile::covered_workloads;
use crate::inventory::{Inventory, ObjectName};
use crate::model::Collection;
use bulkhead_facts::{Direction, L4Protocol, PolicyRef, WorkloadRef};
use edges::Edges;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Something that was seen from one end of a flow: connections, requests of one kind, or packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observation {
    /// Who opened it.
    pub source: Endpoint,
    /// Whom it reached.
    pub destination: Endpoint,
    /// Which end's sidecar tells.
    pub witness: Witness,
    /// Protocol.
    pub protocol: L4Protocol,
    /// The destination's own port, after any Service; `type << 8 | code` for ICMP.
    pub port: u16,
    /// The request, where one was read.
    pub request: Option<RequestKind>,
    /// What the bytes looked like (`http/1.1`, `postgres`, `unknown`); empty where nobody looked.
    pub application: String,
    /// Whether it was let through; what was denied is not learned.
    pub allowed: bool,
    /// Requests where there is one, else connections, else packets.
    pub count: u64,
    /// First time, milliseconds since the epoch.
    pub first_seen_ms: u64,
    /// Last time, milliseconds since the epoch.
    pub last_seen_ms: u64,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Whose the address was when it was seen.
    pub party: Party,
    /// The pod, where it was one.
    pub pod: Option<String>,
}

/// Whose an address was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// A pod, by its workload.
    Workload(WorkloadRef),
    /// A Service with several workloads behind it, or none.
    Service(ObjectName),
    /// A node.
    Node(String),
    /// Nobody of the cluster.
    Outside(IpAddr),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(workload) => write!(f, "{workload}"),
            Self::Service(service) => write!(f, "service {}/{}", service.namespace, service.name),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Outside(address) => write!(f, "{address}"),
        }
    }
}

/// Which end's sidecar tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    /// The source's.
    Source,
    /// The destination's.
    Destination,
}

/// What the learner is told beside observations and inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnOptions {
    /// The collections in force: a proposal is for one of them.
    pub collections: Vec<Collection>,
    /// Thresholds.
    pub thresholds: Thresholds,
}

/// From when on something needs a person. Rules about time apply only once a window of that length was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Rare: seen fewer times than this …
    pub rare_count: u64,
    /// … within a window of at least this, or on one day only of a window of three times [`Thresholds::late_window_ms`].
    pub rare_window_ms: u64,
    /// Late: seen first in the last tenth of a window of at least this.
    pub late_window_ms: u64,
    /// Fan-out: one source with more than this many destinations and ports that it tried at most twice each.
    pub fan_out_max: usize,
    /// Wide: more than this many addresses outside on one port.
    pub outside_addresses_max: usize,
    /// More kinds of requests than this on one edge: a person has to say what they have in common.
    pub kinds_max: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            rare_count: 3,
            rare_window_ms: 3_600_000,
            late_window_ms: 86_400_000,
            fan_out_max: 12,
            outside_addresses_max: 16,
            kinds_max: 200,
        }
    }
}

/// What is proposed for one collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The collection.
    pub collection: String,
    /// The policy documents, as YAML in one canonical form; empty if nothing is proposed.
    pub document: String,
    /// How many policies are in it.
    pub policies: usize,
    /// Its rules with what speaks for them, in the order of the document.
    pub rules: Vec<ProposedRule>,
    /// What was seen and is not proposed without a person.
    pub needs_person: Vec<HeldBack>,
}

/// One rule with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedRule {
    /// The policy.
    pub policy: PolicyRef,
    /// Direction.
    pub direction: Direction,
    /// Name of the rule.
    pub rule: String,
    /// The rule in one line.
    pub summary: String,
    /// What speaks for it.
    pub evidence: Evidence,
}

/// What was seen of the traffic that a rule would allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Requests or connections; the larger of what both ends counted.
    pub count: u64,
    /// Days on which it was seen.
    pub days: u64,
    /// Pods of the source that did it.
    pub source_replicas: u64,
    /// Pods of the destination that took it.
    pub destination_replicas: u64,
    /// First time, milliseconds since the epoch.
    pub first_seen_ms: u64,
    /// Last time, milliseconds since the epoch.
    pub last_seen_ms: u64,
    /// True if both ends' sidecars saw it.
    pub both_sides: bool,
    /// Estimated chance, in millionths, that the next request is of a kind not seen yet (Good-Turing: kinds seen once
    /// over requests).
    pub unseen_millionths: u64,
}

/// Something that was seen and is not proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Who opened it.
    pub source: Party,
    /// Whom it reached.
    pub destination: Party,
    /// Protocol.
    pub protocol: L4Protocol,
    /// Port.
    pub port: u16,
    /// The request, if only this kind of it is held back.
    pub request: Option<String>,
    /// Why; never empty.
    pub cautions: Vec<Caution>,
    /// What was seen of it.
    pub evidence: Evidence,
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}/{}", self.source, self.destination, self.protocol, self.port)?;
        if let Some(request) = &self.request {
            write!(f, " {request}")?;
        }
        let reasons: Vec<_> = self.cautions.iter().map(|caution| caution.explanation()).collect();
        write!(f, ": {}", reasons.join("; "))
    }
}

/// The section, by its name, and the alternative in it that means requests like this one and no others, as YAML in one line; of
/// `tls` the whole section. `None` for HTTP, and where no rule can mean exactly this.
pub fn alternative(request: &RequestKind) -> Option<(&'static str, String)> {
    let kind = edges::of_request(request, false);
    if !cautions::unnamed(&kind, kind.spoken()).is_empty() {
        return None;
    }
    let section = sections::sections(&[&kind]).into_iter().next()?;
    Some((section.name(), document::items(&section).into_iter().next()?))
}

/// What the observations come to, for each collection that any of them concerns, sorted by name.
pub fn propose(observations: &[Observation], inventory: &Inventory, options: &LearnOptions) -> Vec<Proposal> {
    let covered = covered_workloads(&options.collections, inventory);
    let edges = Edges::new(observations, inventory, options);
    let mut by_collection: BTreeMap<&str, Vec<&WorkloadRef>> = BTreeMap::new();
    for (workload, collection) in &covered {
        by_collection.entry(&collection.name).or_default().push(workload);
    }
    let mut proposals = Vec::new();
    for workloads in by_collection.into_values() {
        let collection = covered[workloads[0]];
        if let Some(proposal) = rules::proposal(collection, &workloads, &edges, inventory) {
            proposals.push(proposal);
        }
    }
    proposals
}

//! Learning for one collection, now: stored edges become the learner's observations, its answer a proposal.
//!
//! What is learned and what is held back is decided in `bulkhead_policies::learn`; here are only conversions.

use crate::flows::{Endpoint, SeenEdge, workload};
use crate::world::World;
use bulkhead_api::rest::{self, Effect, HttpSummary, PartyKind, ProposalState, RequestSummary, Side};
use bulkhead_facts::{L4Protocol, WorkloadRef};
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::learn::{
    self, DnsKind, Evidence, HttpKind, KafkaKind, LearnOptions, Observation, Party, PostgresKind, Proposal,
    ProposedRule, RedisKind, RequestKind, Thresholds, TlsKind, Witness,
};
use bulkhead_policies::questions::record_number;
use std::collections::BTreeSet;

/// What reports call the name system.
const DNS: &str = "dns";

/// Why nothing is proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// No such collection.
    #[error("there is no collection `{0}`")]
    NoCollection(String),
    /// No flows of its workloads, or none that may be learned from.
    #[error("nothing was seen of collection `{0}`: let its workloads run under `observe` first")]
    NothingSeen(String),
}

/// Proposes from these edges and the inventory in force.
pub fn propose(
    collection: &str,
    edges: &[SeenEdge],
    world: &World,
    now_ms: u64,
) -> Result<rest::Proposal, LearnError> {
    let collections = world.policies.set().collections.clone();
    if !collections.iter().any(|known| known.name == collection) {
        return Err(LearnError::NoCollection(collection.to_owned()));
    }
    let observations: Vec<Observation> = edges.iter().filter_map(observation).collect();
    let options = LearnOptions { collections, thresholds: Thresholds::default() };
    let proposals = learn::propose(&observations, &world.inventory, &options);
    let found = proposals.into_iter().find(|proposal| proposal.collection == collection);
    let proposal = found.ok_or_else(|| LearnError::NothingSeen(collection.to_owned()))?;
    Ok(describe(proposal, now_ms))
}

/// Which stored edges the learner of one collection needs.
pub struct Relevance {
    /// The workloads of the collection.
    workloads: BTreeSet<rest::Party>,
    /// Pods of which an edge was kept.
    reporting: BTreeSet<String>,
}

impl Relevance {
    /// By the programs and the inventory in force.
    pub fn new(collection: &str, world: &World) -> Self {
        let pods = world.pods.values().filter(|pod| pod.program.collection.as_deref() == Some(collection));
        let workloads = pods.filter_map(|pod| world.inventory.pods.get(&pod.name)).map(workload).collect();
        Self { workloads, reporting: BTreeSet::new() }
    }

    /// True for what passed from or to the collection, and for one edge of every other pod: that it reports at all
    /// says how much the silence of others means.
    pub fn wants(&mut self, one: &SeenEdge) -> bool {
        let edge = &one.edge;
        let touches =
            self.workloads.contains(&edge.source.party) || self.workloads.contains(&edge.destination.party);
        let is_first = !self.reporting.contains(&one.pod_uid) && self.reporting.insert(one.pod_uid.clone());
        is_first || touches && edge.enforced.effect == Effect::Allow
    }
}

/// `None` for an edge that stands for a whole network: what a pod did there is too much to learn from.
fn observation(seen: &SeenEdge) -> Option<Observation> {
    let (edge, totals) = (&seen.edge, &seen.totals);
    let of_http = |http: &HttpSummary| match edge.application.as_str() {
        DNS => question(http),
        _ => Some(RequestKind::Http(HttpKind {
            method: http.method.clone(),
            path: http.path.clone(),
            host: http.host.clone(),
            status_class: http.status,
        })),
    };
    let request = edge.request.as_ref().map(request_kind).or_else(|| edge.http.as_ref().and_then(of_http));
    Some(Observation {
        source: endpoint(&edge.source)?,
        destination: endpoint(&edge.destination)?,
        witness: match edge.observed_by {
            Side::Source => Witness::Source,
            Side::Destination => Witness::Destination,
        },
        protocol: L4Protocol(edge.protocol),
        port: edge.port,
        request,
        application: edge.application.clone(),
        allowed: edge.enforced.effect == Effect::Allow,
        count: totals.count,
        first_seen_ms: totals.first_seen_ms,
        last_seen_ms: totals.last_seen_ms,
    })
}

/// A question to a name server: reports have the type of record for a method, the name for a path.
fn question(http: &HttpSummary) -> Option<RequestKind> {
    // Names beyond a limit, not told apart.
    if http.path == "*" {
        return Some(RequestKind::Others);
    }
    let record = record_number(&http.method)?;
    Some(RequestKind::Dns(DnsKind { name: http.path.clone(), record, answered: http.status < 4 }))
}

/// A stored request as the learner takes it.
pub fn request_kind(request: &RequestSummary) -> RequestKind {
    match request {
        RequestSummary::Tls(hello) => hello.version().map_or(RequestKind::Others, |lowest| {
            let (server_name, encrypted) = (hello.server_name.clone(), hello.encrypted);
            RequestKind::Tls(TlsKind { server_name, lowest, encrypted })
        }),
        RequestSummary::Redis(command) => RequestKind::Redis(RedisKind {
            command: command.command.clone(),
            key_prefix: command.key_prefix.clone(),
            database: command.database,
        }),
        RequestSummary::Postgres(message) => RequestKind::Postgres(PostgresKind {
            user: message.user.clone(),
            database: message.database.clone(),
            statements: message.classes(),
        }),
        RequestSummary::Kafka(request) => {
            RequestKind::Kafka(KafkaKind { api: request.api, topics: request.topics.clone() })
        }
        RequestSummary::Others => RequestKind::Others,
    }
}

fn endpoint(end: &Endpoint) -> Option<learn::Endpoint> {
    let name = end.party.name.clone();
    let namespace = end.party.namespace.clone();
    let party = match end.party.kind {
        PartyKind::Workload => Party::Workload(WorkloadRef { namespace: namespace?, name }),
        PartyKind::Service => Party::Service(ObjectName { namespace: namespace?, name }),
        PartyKind::Node => Party::Node(name),
        PartyKind::Outside if end.party.name.contains('/') => return None,
        PartyKind::Outside => Party::Outside(end.address),
    };
    Some(learn::Endpoint { party, pod: end.pod.clone() })
}

fn describe(proposal: Proposal, now_ms: u64) -> rest::Proposal {
    rest::Proposal {
        id: 0,
        collection: proposal.collection,
        created_ms: now_ms,
        state: ProposalState::Open,
        document: proposal.document,
        policies: proposal.policies,
        rules: proposal.rules.into_iter().map(rule).collect(),
        held_back: proposal.needs_person.iter().map(ToString::to_string).collect(),
        decided_ms: None,
        written_to: None,
    }
}

fn rule(rule: ProposedRule) -> rest::RuleEvidence {
    rest::RuleEvidence {
        policy: rule.policy.to_string(),
        direction: rule.direction.as_str().to_owned(),
        rule: rule.rule,
        summary: rule.summary,
        evidence: evidence(&rule.evidence),
    }
}

fn evidence(evidence: &Evidence) -> rest::Evidence {
    let Evidence {
        count,
        days,
        source_replicas,
        destination_replicas,
        first_seen_ms,
        last_seen_ms,
        both_sides,
        unseen_millionths,
    } = *evidence;
    rest::Evidence {
        count,
        days,
        source_replicas,
        destination_replicas,
        first_seen_ms,
        last_seen_ms,
        both_sides,
        unseen_millionths,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::testing::{Seen, seen};
    use bulkhead_api::rest::TlsSummary;
    use bulkhead_facts::TlsVersion;

    #[test]
    fn the_learner_gets_what_its_collection_did_and_one_sign_of_every_other_pod() {
        let party = |one: &SeenEdge| one.edge.source.party.clone();
        let own = seen(Seen { pod: "web-0", destination: "", address: "1.1.1.1", ..Seen::default() });
        let foreign = seen(Seen { pod: "bank-0", source: "bank", destination: "vault", ..Seen::default() });
        let towards = seen(Seen { pod: "bank-0", source: "bank", destination: "web", ..Seen::default() });
        let denied = seen(Seen { pod: "web-0", denied: Some("no_rule"), ..Seen::default() });
        let mut relevance = Relevance { workloads: [party(&own)].into(), reporting: BTreeSet::new() };
        let wanted = [&own, &foreign, &own, &foreign, &towards, &denied].map(|one| relevance.wants(one));
        assert_eq!(wanted, [true, true, true, false, true, false]);
    }

    #[test]
    fn questions_to_name_servers_are_learned_with_their_type() {
        let mut one = seen(Seen { path: Some("catalog.shop"), ..Seen::default() });
        one.edge.application = DNS.into();
        let mut kind = |method: &str, name: &str| {
            one.edge.http = Some(HttpSummary { method: method.into(), path: name.into(), ..http() });
            observation(&one).expect("an observation").request
        };
        let dns =
            |record| Some(RequestKind::Dns(DnsKind { name: "catalog.shop".into(), record, answered: true }));
        assert_eq!(kind("AAAA", "catalog.shop"), dns(28));
        assert_eq!(kind("TYPE70", "catalog.shop"), dns(70));
        assert_eq!(kind("*", "*"), Some(RequestKind::Others));
        assert_eq!(kind("A", "*"), Some(RequestKind::Others));
    }

    #[test]
    fn a_version_that_a_newer_controller_stored_widens_nothing() {
        let kind = |lowest: &str| {
            let hello = TlsSummary { server_name: None, lowest: lowest.into(), encrypted: false };
            request_kind(&RequestSummary::Tls(hello))
        };
        assert_eq!(kind("1.4"), RequestKind::Others);
        let known = TlsKind { server_name: None, lowest: TlsVersion::V1_3, encrypted: false };
        assert_eq!(kind("1.3"), RequestKind::Tls(known));
    }

    fn http() -> HttpSummary {
        HttpSummary { method: String::new(), path: String::new(), host: String::new(), status: 2 }
    }

    #[test]
    fn nothing_is_learned_from_a_whole_network() {
        let mut one = seen(Seen { destination: "", address: "1.1.1.1", ..Seen::default() });
        assert!(observation(&one).is_some());
        one.edge = one.edge.by_network();
        assert!(observation(&one).is_none());
    }
}

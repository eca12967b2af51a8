//! Adds up equal observations in bounded memory.
//!
//! Pure: the caller passes the time. Equal means all but time, size and count. Rules are named at the first sight
//! of a flow, so that a record still names the right rule when the program changes before it is sent.
//!
//! Hosts, paths and peers come from the network, so whoever makes up many must not push others out: names are bounded per
//! edge, requests share half of the room, and beyond it an edge and its answer are counted without the request. The last
//! quarter is for denials alone.

use super::Observation;
use super::names::{NamedEdge, Names};
use crate::limits::{
    FLOW_ENTRIES_FOR_DENIALS, FLOW_ENTRIES_MAX, FLOW_METHOD_BYTES_MAX, FLOW_PATH_BYTES_MAX,
    FLOW_REPORT_IDS_MAX, FLOW_REQUEST_ENTRIES_MAX,
};
use bulkhead_api::{Flow, FlowAnswer, HttpSignature, RequestSignature};
use bulkhead_facts::limits::HOST_BYTES_MAX;
use bulkhead_facts::{Direction, Effect, L4Protocol};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Answer, AnswerPair};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// Flows since the last batch.
#[derive(Default)]
pub(super) struct Aggregate {
    entries: HashMap<Key, Totals>,
    names: Names,
    report_ids: usize,
    dropped: u64,
}

/// Whether an observation found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It was counted.
    Counted,
    /// There was none: the caller keeps it for later, or gives it up.
    NoRoom,
}

#[derive(PartialEq, Eq)]
struct Key {
    direction: Direction,
    peer: IpAddr,
    local: IpAddr,
    protocol: L4Protocol,
    port: u16,
    http: Option<Arc<HttpSignature>>,
    request: Option<Arc<RequestSignature>>,
    application: &'static str,
    answers: AnswerPair,
    revision: u64,
    sender_uid: Option<u32>,
    report_id: Option<String>,
    endpoint: Option<std::net::SocketAddr>,
}

struct Totals {
    enforced: FlowAnswer,
    shadow: FlowAnswer,
    count: u64,
    bytes_to_destination: u64,
    bytes_to_source: u64,
    first_seen_ms: u64,
    last_seen_ms: u64,
}

impl Aggregate {
    /// Adds an observation that `judge` answered, seen at `now_ms` since the epoch.
    pub(super) fn add(&mut self, judge: &Judge, observation: Observation, now_ms: u64) -> Added {
        let (count, to_destination, to_source) =
            (observation.count, observation.bytes_to_destination, observation.bytes_to_source);
        let key = self.key(judge, observation);
        // Most requests are like one before.
        if let Some(totals) = self.entries.get_mut(&key) {
            totals.add(count, to_destination, to_source, now_ms);
            return Added::Counted;
        }
        let Some(key) = self.key_with_room(key) else { return Added::NoRoom };
        let totals =
            self.entries.entry(key).or_insert_with_key(|key| Totals::new(judge, &key.answers, now_ms));
        totals.add(count, to_destination, to_source, now_ms);
        Added::Counted
    }

    /// Counts as lost what found no room and will not be told later.
    pub(super) fn give_up(&mut self, count: u64) {
        self.dropped = self.dropped.saturating_add(count.max(1));
    }

    /// The key that something new is counted under: with names that are not too many; as told, else without its request.
    fn key_with_room(&mut self, mut key: Key) -> Option<Key> {
        let edge = key.named_edge();
        if let Some(http) = &mut key.http {
            self.names.bound(&edge, http);
        }
        if let Some(request) = &mut key.request {
            self.names.bound_request(&edge, request);
        }
        if self.entries.contains_key(&key) {
            return Some(key);
        }
        if self.entries.len() >= key.room() {
            (key.http, key.report_id, key.endpoint) = (None, None, None);
            key.request = key.request.map(|_| Arc::new(RequestSignature::Others));
            let has_place = self.entries.contains_key(&key) || self.entries.len() < key.room();
            return has_place.then_some(key);
        }
        self.report_ids += usize::from(key.report_id.is_some());
        self.names.learn_all(key.named_edge(), key.http.as_deref(), key.request.as_ref());
        Some(key)
    }

    /// Takes up to `limit` flows, the first seen first.
    pub(super) fn take(&mut self, limit: usize) -> Vec<Flow> {
        if self.entries.len() <= limit {
            self.report_ids = 0;
            self.names = Names::default();
            let mut flows: Vec<_> = self.entries.drain().map(|(key, totals)| flow(key, totals)).collect();
            self.entries.shrink_to(limit);
            flows.sort_by_key(|flow| flow.first_seen_ms);
            return flows;
        }
        let mut seen: Vec<u64> = self.entries.values().map(|totals| totals.first_seen_ms).collect();
        seen.sort_unstable();
        let (newest, mut room) = (seen[limit.saturating_sub(1)], limit);
        let taken = self.entries.extract_if(|_, totals| {
            let take = room > 0 && totals.first_seen_ms <= newest;
            room -= usize::from(take);
            take
        });
        let mut flows: Vec<_> = taken.map(|(key, totals)| flow(key, totals)).collect();
        self.report_ids = self.entries.keys().filter(|key| key.report_id.is_some()).count();
        self.names = Names::default();
        for key in self.entries.keys() {
            self.names.learn_all(key.named_edge(), key.http.as_deref(), key.request.as_ref());
        }
        flows.sort_by_key(|flow| flow.first_seen_ms);
        flows
    }

    /// Observations that were given up since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Distinct flows that wait.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn key(&self, judge: &Judge, observation: Observation) -> Key {
        let report_id = observation.report_id.filter(|_| self.report_ids < FLOW_REPORT_IDS_MAX);
        Key {
            direction: observation.direction,
            peer: observation.peer.to_canonical(),
            local: observation.local.to_canonical(),
            protocol: observation.protocol,
            port: observation.port,
            http: observation.http.map(cut_signature),
            request: observation.request,
            application: observation.application,
            answers: observation.answers,
            revision: judge.program().revision,
            sender_uid: observation.sender_uid,
            report_id,
            endpoint: observation.endpoint,
        }
    }
}

impl Hash for Key {
    /// Of everything that somebody else can choose, and as little as that takes: each call costs, and this is done for each
    /// request. What is left out has few values, and is compared.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let peer = match self.peer {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let rule = self.answers.enforced.rule.map_or(u32::MAX, |rule| rule.0);
        let uid = self.sender_uid.unwrap_or_default();
        let numbers = u128::from(self.port) | u128::from(rule) << 16 | u128::from(uid) << 48;
        state.write([peer.to_ne_bytes(), numbers.to_ne_bytes()].as_flattened());
        if let Some(http) = &self.http {
            let HttpSignature { method, path_template, host, status } = &**http;
            for text in [path_template, host, method] {
                state.write(text.as_bytes());
            }
            // What ends where, so that no two divide the same bytes differently.
            let ends = (path_template.len() << 32) ^ (host.len() << 16) ^ usize::from(*status);
            state.write_usize(ends);
        }
        if let Some(request) = &self.request {
            request.hash(state);
        }
        if self.report_id.is_some() || self.endpoint.is_some() {
            (&self.report_id, self.endpoint).hash(state);
        }
    }
}

impl Key {
    /// How many entries there may be before this one.
    fn room(&self) -> usize {
        match self.answers.enforced.effect {
            _ if self.http.is_some() || self.report_id.is_some() || self.is_named() => {
                FLOW_REQUEST_ENTRIES_MAX
            }
            Effect::Allow => FLOW_ENTRIES_MAX - FLOW_ENTRIES_FOR_DENIALS,
            Effect::Deny => FLOW_ENTRIES_MAX,
        }
    }

    /// True for a request of another protocol than HTTP that is told apart from others.
    fn is_named(&self) -> bool {
        self.request.as_deref().is_some_and(|request| *request != RequestSignature::Others)
    }

    fn named_edge(&self) -> NamedEdge {
        (self.direction, self.peer, self.port)
    }
}

impl Totals {
    fn new(judge: &Judge, answers: &AnswerPair, now_ms: u64) -> Self {
        Self {
            enforced: flow_answer(judge, &answers.enforced),
            shadow: flow_answer(judge, &answers.shadow),
            count: 0,
            bytes_to_destination: 0,
            bytes_to_source: 0,
            first_seen_ms: now_ms,
            last_seen_ms: now_ms,
        }
    }

    fn add(&mut self, count: u64, to_destination: u64, to_source: u64, now_ms: u64) {
        self.count = self.count.saturating_add(count);
        self.bytes_to_destination = self.bytes_to_destination.saturating_add(to_destination);
        self.bytes_to_source = self.bytes_to_source.saturating_add(to_source);
        self.first_seen_ms = self.first_seen_ms.min(now_ms);
        self.last_seen_ms = self.last_seen_ms.max(now_ms);
    }
}

fn flow(key: Key, totals: Totals) -> Flow {
    Flow {
        direction: key.direction,
        peer: key.peer,
        local: key.local,
        protocol: key.protocol,
        port: key.port,
        http: key.http.map(Arc::unwrap_or_clone),
        request: key.request,
        application: key.application.to_owned(),
        enforced: totals.enforced,
        shadow: totals.shadow,
        count: totals.count,
        bytes_to_destination: totals.bytes_to_destination,
        bytes_to_source: totals.bytes_to_source,
        first_seen_ms: totals.first_seen_ms,
        last_seen_ms: totals.last_seen_ms,
        revision: key.revision,
        sender_uid: key.sender_uid,
        report_id: key.report_id,
        endpoint: key.endpoint,
    }
}

fn flow_answer(judge: &Judge, answer: &Answer) -> FlowAnswer {
    FlowAnswer {
        effect: answer.effect,
        reason: answer.reason,
        rule: answer.rule.map(|index| judge.rule(index).clone()),
    }
}

/// A peer chose these texts: a batch of the longest must still fit into one message.
fn cut_signature(mut http: Arc<HttpSignature>) -> Arc<HttpSignature> {
    let fits = http.method.len() <= FLOW_METHOD_BYTES_MAX
        && http.path_template.len() <= FLOW_PATH_BYTES_MAX
        && http.host.len() <= HOST_BYTES_MAX;
    if !fits {
        let http = Arc::make_mut(&mut http);
        cut(&mut http.method, FLOW_METHOD_BYTES_MAX);
        cut(&mut http.path_template, FLOW_PATH_BYTES_MAX);
        cut(&mut http.host, HOST_BYTES_MAX);
    }
    http
}

fn cut(text: &mut String, bytes_max: usize) {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FLOW_NAMES_PER_EDGE_MAX;
    use crate::test_program;
    use bulkhead_api::RedisSignature;
    use bulkhead_policies::program::AnswerId;
    use std::net::Ipv4Addr;

    const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn judge(revision: u64) -> Judge {
        Judge::new(test_program::allowing_egress_to(DATABASE, revision)).expect("valid")
    }

    fn connection(judge: &Judge, answer: u16) -> Observation {
        Observation {
            direction: Direction::Egress,
            peer: DATABASE.into(),
            local: Ipv4Addr::new(10, 0, 0, 7).into(),
            protocol: L4Protocol::TCP,
            port: 5432,
            http: None,
            request: None,
            application: "",
            answers: judge.answer(AnswerId(answer)),
            bytes_to_destination: 10,
            bytes_to_source: 100,
            sender_uid: None,
            count: 1,
            report_id: None,
            endpoint: None,
        }
    }

    #[test]
    fn equal_observations_are_added_up() {
        let (judge, mut aggregate) = (judge(3), Aggregate::default());
        aggregate.add(&judge, connection(&judge, 1), 2_000);
        aggregate.add(&judge, connection(&judge, 1), 1_000);
        aggregate.add(&judge, Observation { count: 0, ..connection(&judge, 1) }, 5_000);
        let flows = aggregate.take(10);
        assert_eq!(flows.len(), 1);
        let flow = &flows[0];
        assert_eq!((flow.count, flow.bytes_to_destination, flow.bytes_to_source), (2, 30, 300));
        assert_eq!((flow.first_seen_ms, flow.last_seen_ms, flow.revision), (1_000, 5_000, 3));
        assert_eq!(flow.enforced.rule.as_ref().expect("a rule").rule, "database");
        assert_eq!(aggregate.len(), 0);
    }

    #[test]
    fn what_differs_in_answer_revision_or_request_stays_apart() {
        let (old, new, mut aggregate) = (judge(3), judge(4), Aggregate::default());
        let request = |path: &str| HttpSignature {
            method: "GET".to_owned(),
            path_template: path.to_owned(),
            host: String::new(),
            status: 2,
        };
        aggregate.add(&old, connection(&old, 1), 1);
        aggregate.add(&new, connection(&new, 1), 2);
        aggregate.add(&new, connection(&new, 0), 3);
        aggregate.add(&new, Observation { http: Some(Arc::new(request("/a"))), ..connection(&new, 1) }, 4);
        aggregate.add(&new, Observation { http: Some(Arc::new(request("/b"))), ..connection(&new, 1) }, 5);
        assert_eq!(aggregate.take(10).len(), 5);
    }

    fn requested(judge: &Judge, answer: u16, host: &str, path: &str) -> Observation {
        let http = HttpSignature {
            method: "GET".to_owned(),
            path_template: path.to_owned(),
            host: host.to_owned(),
            status: 4,
        };
        Observation { http: Some(Arc::new(http)), ..connection(judge, answer) }
    }

    fn to_port(judge: &Judge, answer: u16, port: usize) -> Observation {
        Observation { port: u16::try_from(port).expect("a port"), ..connection(judge, answer) }
    }

    #[test]
    fn more_than_the_limit_finds_no_room_and_known_flows_go_on() {
        let (judge, mut aggregate) = (judge(1), Aggregate::default());
        let most = FLOW_ENTRIES_MAX - FLOW_ENTRIES_FOR_DENIALS;
        for port in 0..most {
            assert_eq!(aggregate.add(&judge, to_port(&judge, 1, port), 1), Added::Counted);
        }
        assert_eq!(aggregate.add(&judge, to_port(&judge, 1, most), 1), Added::NoRoom);
        assert_eq!(aggregate.add(&judge, to_port(&judge, 1, 0), 1), Added::Counted);
        aggregate.give_up(1);
        assert_eq!((aggregate.len(), aggregate.take_dropped(), aggregate.take_dropped()), (most, 1, 0));
    }

    #[test]
    fn more_kinds_of_requests_than_the_limit_are_told_as_others() {
        let (judge, mut aggregate) = (judge(1), Aggregate::default());
        let mut add = |number: usize| {
            let command = RedisSignature { command: format!("c{number}"), key_prefix: None, database: None };
            let request = Some(Arc::new(RequestSignature::Redis(command)));
            aggregate.add(&judge, Observation { request, ..connection(&judge, 1) }, 1);
        };
        (0..3 * FLOW_NAMES_PER_EDGE_MAX).for_each(&mut add);
        add(0);
        let flows = aggregate.take(1_000);
        assert_eq!(flows.len(), FLOW_NAMES_PER_EDGE_MAX + 1);
        let count = |request: &RequestSignature| {
            let found = flows.iter().find(|flow| flow.request.as_deref() == Some(request));
            found.map(|flow| flow.count)
        };
        let others = u64::try_from(2 * FLOW_NAMES_PER_EDGE_MAX).expect("a count");
        assert_eq!(count(&RequestSignature::Others), Some(others));
        let first = RedisSignature { command: "c0".into(), key_prefix: None, database: None };
        assert_eq!(count(&RequestSignature::Redis(first)), Some(2));
    }

    #[test]
    fn a_flood_of_allowed_flows_and_requests_leaves_room_for_denials() {
        let (judge, mut aggregate) = (judge(1), Aggregate::default());
        for n in 0..2 * FLOW_ENTRIES_MAX {
            aggregate.add(&judge, Observation { port: 80, ..requested(&judge, 0, &format!("h{n}"), "/") }, 1);
            aggregate.add(&judge, to_port(&judge, 1, n), 1);
            let asked = to_port(&judge, 1, n);
            aggregate.add(&judge, Observation { http: requested(&judge, 1, "a", "/").http, ..asked }, 1);
        }
        for port in 0..FLOW_ENTRIES_FOR_DENIALS - 2 {
            assert_eq!(aggregate.add(&judge, to_port(&judge, 0, port), 1), Added::Counted, "{port}");
        }
        assert!(aggregate.len() <= FLOW_ENTRIES_MAX);
    }

    #[test]
    fn a_request_without_room_is_counted_by_edge_and_answer() {
        let (judge, mut aggregate) = (judge(1), Aggregate::default());
        for port in 0..FLOW_REQUEST_ENTRIES_MAX {
            aggregate.add(&judge, to_port(&judge, 1, port + 10_000), 1);
        }
        for n in 0..1_000 {
            let report_id = Some(format!("r{n}"));
            let denied = Observation { report_id, ..requested(&judge, 0, "a", &format!("/{n}")) };
            assert_eq!(aggregate.add(&judge, denied, 1), Added::Counted);
        }
        let denied: Vec<_> =
            aggregate.take(FLOW_ENTRIES_MAX).into_iter().filter(|flow| flow.port == 5432).collect();
        assert_eq!(denied.len(), 1, "{denied:?}");
        assert_eq!((denied[0].count, &denied[0].http, &denied[0].report_id), (1_000, &None, &None));
        assert_eq!(denied[0].enforced.effect, Effect::Deny);
    }

    #[test]
    fn hosts_and_paths_beyond_the_limit_of_their_edge_become_any() {
        let (judge, mut aggregate) = (judge(1), Aggregate::default());
        for n in 0..1_000 {
            aggregate.add(&judge, requested(&judge, 1, &format!("h{n}"), "/"), 1);
            let elsewhere = Observation { port: 81, ..requested(&judge, 1, "a", &format!("/{n}")) };
            aggregate.add(&judge, elsewhere, 1);
        }
        for limit in [10, FLOW_ENTRIES_MAX] {
            aggregate.add(&judge, requested(&judge, 1, "h0", "/"), 1);
            aggregate.add(&judge, requested(&judge, 1, "new", "/"), 1);
            let flows = aggregate.take(limit);
            assert!(flows.len() <= 2 * (FLOW_NAMES_PER_EDGE_MAX + 1));
        }
        for n in 0..100 {
            aggregate.add(&judge, requested(&judge, 1, &format!("h{n}"), "/"), 1);
        }
        let flows = aggregate.take(FLOW_ENTRIES_MAX);
        let any: Vec<_> = flows
            .iter()
            .filter(|flow| {
                flow.http.as_ref().is_some_and(|http| http.host == "*" && http.path_template == "*")
            })
            .map(|flow| flow.count)
            .collect();
        assert_eq!((flows.len(), any), (FLOW_NAMES_PER_EDGE_MAX + 1, vec![36]), "a new batch begins anew");
    }

    #[test]
    fn the_first_seen_are_taken_first_and_none_is_lost() {
        let (judge, mut aggregate) = (judge(1), Aggregate::default());
        for port in 0..10u16 {
            aggregate.add(&judge, Observation { port, ..connection(&judge, 1) }, 100 - u64::from(port));
        }
        let first: Vec<u16> = aggregate.take(4).iter().map(|flow| flow.port).collect();
        assert_eq!(first, [9, 8, 7, 6]);
        let rest: Vec<u16> = aggregate.take(40).iter().map(|flow| flow.port).collect();
        assert_eq!(rest, [5, 4, 3, 2, 1, 0]);
    }

    #[test]
    fn report_identifiers_stay_until_there_are_too_many() {
        let (judge, mut aggregate) = (judge(1), Aggregate::default());
        for number in 0..FLOW_REPORT_IDS_MAX + 5 {
            let report_id = Some(format!("r{number}"));
            aggregate.add(&judge, Observation { report_id, ..connection(&judge, 0) }, 1);
        }
        let flows = aggregate.take(FLOW_ENTRIES_MAX);
        assert_eq!(flows.iter().filter(|flow| flow.report_id.is_some()).count(), FLOW_REPORT_IDS_MAX);
        assert_eq!(flows.iter().map(|flow| flow.count).sum::<u64>(), FLOW_REPORT_IDS_MAX as u64 + 5);
    }

    #[test]
    fn texts_of_a_peer_are_cut_at_a_character() {
        let (judge, mut aggregate) = (judge(1), Aggregate::default());
        let long = HttpSignature {
            method: "M".repeat(1_000),
            path_template: "\u{e9}".repeat(FLOW_PATH_BYTES_MAX),
            host: "h".repeat(1_000),
            status: 0,
        };
        aggregate.add(&judge, Observation { http: Some(Arc::new(long)), ..connection(&judge, 1) }, 1);
        let http = aggregate.take(1).remove(0).http.expect("a request");
        assert_eq!((http.method.len(), http.host.len()), (FLOW_METHOD_BYTES_MAX, HOST_BYTES_MAX));
        assert_eq!(http.path_template, "\u{e9}".repeat(FLOW_PATH_BYTES_MAX / 2));
    }
}

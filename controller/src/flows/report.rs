//! Stored edges as people read them: the service map, and what was denied.

use super::edge::{Edge, Judgement, SeenEdge, Totals};
use bulkhead_api::rest::{
    Effect, FlowEdge, HttpSummary, Party, RequestSummary, RuleSummary, SeenBy, Side, VerdictCount,
};
use bulkhead_facts::L4Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// The service map: one edge per source, destination, port, request and verdict, seen from both sides.
///
/// Where the destination read the requests, the source's count of mere connections is left out.
pub fn service_map(seen: &[SeenEdge]) -> Vec<FlowEdge> {
    let mut edges: BTreeMap<MapKey<'_>, Sides<'_>> = BTreeMap::new();
    let mut seen_by: BTreeMap<L4Key<'_>, SeenBy> = BTreeMap::new();
    let mut read_at_destination: BTreeSet<L4Key<'_>> = BTreeSet::new();
    for one in seen {
        let edge = &one.edge;
        let l4 = l4_key(edge);
        let both = seen_by.entry(l4).or_default();
        match edge.observed_by {
            Side::Source => both.source = true,
            Side::Destination => {
                both.destination = true;
                if asked(edge) != (None, None) {
                    read_at_destination.insert(l4);
                }
            }
        }
        let key = (l4, asked(edge), edge.enforced.effect, edge.shadow.effect);
        edges.entry(key).or_default().add(one);
    }
    let superseded = |(key, sides): &(MapKey<'_>, Sides<'_>)| {
        key.1 == (None, None) && sides.destination.is_none() && read_at_destination.contains(&key.0)
    };
    edges
        .into_iter()
        .filter(|both| !superseded(both))
        .filter_map(|(key, sides)| sides.flow_edge(key, seen_by.get(&key.0).copied().unwrap_or_default()))
        .collect()
}

/// What was denied, or would be if audited policies counted; most recent first.
pub fn verdicts(seen: &[SeenEdge]) -> Vec<VerdictCount> {
    let mut counts: BTreeMap<VerdictKey<'_>, VerdictCount> = BTreeMap::new();
    for one in seen {
        let Some((enforced, judgement)) = denial(&one.edge) else { continue };
        let edge = &one.edge;
        let key = (
            (&edge.source.party, &edge.destination.party, edge.protocol, edge.dialled_port),
            asked(edge),
            (edge.observed_by, enforced, judgement.reason.as_str(), judgement.rule.as_ref()),
        );
        let totals = &one.totals;
        let count = counts.entry(key).or_insert_with(|| verdict(edge, enforced, judgement, totals));
        count.count = count.count.saturating_add(totals.count);
        count.first_seen_ms = count.first_seen_ms.min(totals.first_seen_ms);
        count.last_seen_ms = count.last_seen_ms.max(totals.last_seen_ms);
        count.revision = count.revision.max(totals.revision);
        count.sender_uid = totals.sender_uid.or(count.sender_uid);
        count.report_id = totals.report_id.clone().or(count.report_id.take());
    }
    let mut counts: Vec<VerdictCount> = counts.into_values().collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.last_seen_ms));
    counts
}

/// The answer that denied, and whether it was enforced.
fn denial(edge: &Edge) -> Option<(bool, &Judgement)> {
    match (edge.enforced.effect, edge.shadow.effect) {
        (Effect::Deny, _) => Some((true, &edge.enforced)),
        (Effect::Allow, Effect::Deny) => Some((false, &edge.shadow)),
        (Effect::Allow, Effect::Allow) => None,
    }
}

type L4Key<'a> = (&'a Party, &'a Party, u8, u16);
/// The request, of HTTP or else of another protocol.
type Asked<'a> = (Option<&'a HttpSummary>, Option<&'a RequestSummary>);
type MapKey<'a> = (L4Key<'a>, Asked<'a>, Effect, Effect);
type VerdictKey<'a> = (L4Key<'a>, Asked<'a>, (Side, bool, &'a str, Option<&'a RuleSummary>));

fn l4_key(edge: &Edge) -> L4Key<'_> {
    (&edge.source.party, &edge.destination.party, edge.protocol, edge.port)
}

fn asked(edge: &Edge) -> Asked<'_> {
    (edge.http.as_ref(), edge.request.as_ref())
}

fn verdict(edge: &Edge, enforced: bool, judgement: &Judgement, totals: &Totals) -> VerdictCount {
    VerdictCount {
        source: edge.source.party.clone(),
        destination: edge.destination.party.clone(),
        protocol: L4Protocol(edge.protocol).to_string(),
        port: edge.dialled_port,
        http: edge.http.clone(),
        request: edge.request.clone(),
        denied_by: edge.observed_by,
        enforced,
        reason: judgement.reason.clone(),
        rule: judgement.rule.clone(),
        revision: 0,
        sender_uid: None,
        report_id: None,
        count: 0,
        first_seen_ms: totals.first_seen_ms,
        last_seen_ms: totals.last_seen_ms,
    }
}

/// What both sides say of one edge.
#[derive(Default)]
struct Sides<'a> {
    source: Option<Sum<'a>>,
    destination: Option<Sum<'a>>,
}

/// What one side says: sums, and the answer of the last time.
struct Sum<'a> {
    edge: &'a Edge,
    totals: Totals,
}

impl<'a> Sides<'a> {
    fn add(&mut self, one: &'a SeenEdge) {
        let side = match one.edge.observed_by {
            Side::Source => &mut self.source,
            Side::Destination => &mut self.destination,
        };
        match side {
            Some(sum) => sum.add(one),
            None => *side = Some(Sum { edge: &one.edge, totals: one.totals.clone() }),
        }
    }

    /// The destination is the authority on identity and layer 7, so its answer is shown if there is one.
    fn flow_edge(&self, (l4, (http, request), ..): MapKey<'_>, seen_by: SeenBy) -> Option<FlowEdge> {
        let sums = || self.destination.iter().chain(&self.source);
        let edge = sums().next()?.edge;
        let largest = |of: fn(&Totals) -> u64| sums().map(|sum| of(&sum.totals)).max().unwrap_or_default();
        let application = sums().map(|sum| &sum.edge.application).find(|application| !application.is_empty());
        Some(FlowEdge {
            source: l4.0.clone(),
            destination: l4.1.clone(),
            via_service: sums().find_map(|sum| sum.edge.via_service.clone()),
            protocol: L4Protocol(l4.2).to_string(),
            port: l4.3,
            http: http.cloned(),
            request: request.cloned(),
            application: application.cloned().unwrap_or_default(),
            verdict: edge.enforced.effect,
            reason: edge.enforced.reason.clone(),
            rule: edge.enforced.rule.clone(),
            shadow_verdict: edge.shadow.effect,
            shadow_reason: edge.shadow.reason.clone(),
            shadow_rule: edge.shadow.rule.clone(),
            seen_by,
            count: largest(|totals| totals.count),
            bytes_to_destination: largest(|totals| totals.bytes_to_destination),
            bytes_to_source: largest(|totals| totals.bytes_to_source),
            first_seen_ms: sums().map(|sum| sum.totals.first_seen_ms).min().unwrap_or_default(),
            last_seen_ms: largest(|totals| totals.last_seen_ms),
        })
    }
}

impl<'a> Sum<'a> {
    fn add(&mut self, one: &'a SeenEdge) {
        let totals = &one.totals;
        if totals.last_seen_ms >= self.totals.last_seen_ms {
            self.edge = &one.edge;
        }
        self.totals.count = self.totals.count.saturating_add(totals.count);
        self.totals.bytes_to_destination =
            self.totals.bytes_to_destination.saturating_add(totals.bytes_to_destination);
        self.totals.bytes_to_source = self.totals.bytes_to_source.saturating_add(totals.bytes_to_source);
        self.totals.first_seen_ms = self.totals.first_seen_ms.min(totals.first_seen_ms);
        self.totals.last_seen_ms = self.totals.last_seen_ms.max(totals.last_seen_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::testing::{Seen, seen};
    use bulkhead_api::rest::RedisSummary;

    #[test]
    fn an_edge_that_both_sides_saw_is_one_with_the_larger_count() {
        let map = service_map(&[
            seen(Seen { side: Side::Source, count: 7, ..Seen::default() }),
            seen(Seen { side: Side::Destination, count: 9, ..Seen::default() }),
        ]);
        assert_eq!(map.len(), 1);
        assert_eq!((map[0].count, map[0].seen_by), (9, SeenBy { source: true, destination: true }));
    }

    #[test]
    fn days_and_pods_of_one_side_add_up() {
        let map = service_map(&[
            seen(Seen { pod: "web-0", count: 7, ..Seen::default() }),
            seen(Seen { pod: "web-1", count: 9, ..Seen::default() }),
        ]);
        assert_eq!(map.iter().map(|edge| edge.count).collect::<Vec<_>>(), [16]);
    }

    #[test]
    fn connections_at_the_source_give_way_to_requests_at_the_destination() {
        let map = service_map(&[
            seen(Seen { side: Side::Source, ..Seen::default() }),
            seen(Seen { side: Side::Destination, path: Some("/orders/{id}"), ..Seen::default() }),
            seen(Seen { side: Side::Destination, path: Some("/health"), ..Seen::default() }),
        ]);
        let paths: Vec<_> =
            map.iter().map(|edge| edge.http.as_ref().map(|http| http.path.as_str())).collect();
        assert_eq!(paths, [Some("/health"), Some("/orders/{id}")]);
        assert!(map.iter().all(|edge| edge.seen_by.source && edge.seen_by.destination));
    }

    #[test]
    fn requests_of_other_protocols_are_edges_of_their_own() {
        let command = |command: &str| {
            let summary = RedisSummary { command: command.into(), key_prefix: None, database: Some(0) };
            Some(RequestSummary::Redis(summary))
        };
        let map = service_map(&[
            seen(Seen { side: Side::Source, ..Seen::default() }),
            seen(Seen { side: Side::Destination, request: command("get"), ..Seen::default() }),
            seen(Seen { side: Side::Destination, request: command("set"), ..Seen::default() }),
        ]);
        let shown: Vec<_> = map.iter().map(|edge| edge.request.clone()).collect();
        assert_eq!(shown, [command("get"), command("set")]);
    }

    #[test]
    fn denials_are_apart_from_what_passed_and_only_they_are_verdicts() {
        let edges = [
            seen(Seen { count: 3, ..Seen::default() }),
            seen(Seen { count: 2, denied: Some("no_rule"), ..Seen::default() }),
            seen(Seen { count: 4, denied: Some("no_rule"), pod: "web-1", ..Seen::default() }),
        ];
        assert_eq!(service_map(&edges).len(), 2);
        let verdicts = verdicts(&edges);
        assert_eq!(verdicts.len(), 1);
        assert_eq!((verdicts[0].count, verdicts[0].enforced), (6, true));
        assert_eq!(verdicts[0].reason, "no_rule");
    }

    #[test]
    fn what_only_audited_policies_would_deny_is_told_apart() {
        let mut audited = seen(Seen { denied: Some("no_rule"), ..Seen::default() });
        audited.edge.enforced.effect = Effect::Allow;
        let verdicts = verdicts(&[audited]);
        assert_eq!(verdicts.iter().map(|v| v.enforced).collect::<Vec<_>>(), [false]);
    }
}

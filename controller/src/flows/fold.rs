//! Stored edges added up while they are read, so that a report needs memory for what differs, not for every row.
//!
//! Whatever a pod does, it takes no more than its share ([`FOLD_EDGES_PER_POD_MAX`]) and all together no more than
//! [`FOLD_EDGES_MAX`]. Rows come newest day first: what finds no room is the oldest, and is counted.

use super::edge::{Edge, Endpoint, SeenEdge, Totals};
use crate::limits::{FOLD_EDGES_MAX, FOLD_EDGES_PER_POD_MAX};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// What is still told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Workloads; no pods, no days, no addresses but those of outsiders, which are their names.
    Workload,
    /// Pods and addresses; no days.
    Pod,
    /// Everything.
    Day,
}

/// Adds up edges.
#[derive(Debug)]
pub struct Fold {
    detail: Detail,
    edges: BTreeMap<Key, Totals>,
    /// Edges that each pod's sidecar has brought in, outside (true) and inside: the one must not crowd out the other.
    shares: BTreeMap<(String, bool), usize>,
    left_out: u64,
}

/// Day, pod and edge, without what is not told apart.
type Key = (u64, String, Edge);

impl Fold {
    /// Begins with nothing.
    pub fn new(detail: Detail) -> Self {
        Self { detail, edges: BTreeMap::new(), shares: BTreeMap::new(), left_out: 0 }
    }

    /// Takes in one row.
    pub fn add(&mut self, one: SeenEdge) {
        let SeenEdge { day, pod_uid, edge, totals } = one;
        let is_outside = edge.is_outside();
        let key = match self.detail {
            Detail::Workload => (0, String::new(), without_pods(edge)),
            Detail::Pod => (0, pod_uid.clone(), edge),
            Detail::Day => (day, pod_uid.clone(), edge),
        };
        if let Some(held) = self.edges.get_mut(&key) {
            return add_totals(held, totals);
        }
        let share = self.shares.entry((pod_uid, is_outside)).or_default();
        if *share >= FOLD_EDGES_PER_POD_MAX || self.edges.len() >= FOLD_EDGES_MAX {
            self.left_out += 1;
            return;
        }
        *share += 1;
        self.edges.insert(key, totals);
    }

    /// Rows that found no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The sums. The day of what is not told apart by day is that of its last time.
    pub fn finish(self) -> Vec<SeenEdge> {
        let edges = self.edges.into_iter();
        edges.map(|((day, pod_uid, edge), totals)| SeenEdge { day, pod_uid, edge, totals }).collect()
    }
}

fn without_pods(mut edge: Edge) -> Edge {
    for end in [&mut edge.source, &mut edge.destination] {
        let Endpoint { party: _, pod, address } = end;
        *pod = None;
        *address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    }
    edge
}

/// What cannot be added up is that of the last time.
fn add_totals(held: &mut Totals, more: Totals) {
    let is_later = more.last_seen_ms >= held.last_seen_ms;
    held.count = held.count.saturating_add(more.count);
    held.bytes_to_destination = held.bytes_to_destination.saturating_add(more.bytes_to_destination);
    held.bytes_to_source = held.bytes_to_source.saturating_add(more.bytes_to_source);
    held.first_seen_ms = held.first_seen_ms.min(more.first_seen_ms);
    held.last_seen_ms = held.last_seen_ms.max(more.last_seen_ms);
    held.revision = held.revision.max(more.revision);
    if is_later {
        held.sender_uid = more.sender_uid.or(held.sender_uid);
        held.report_id = more.report_id.or(held.report_id.take());
    } else {
        held.sender_uid = held.sender_uid.or(more.sender_uid);
        held.report_id = held.report_id.take().or(more.report_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::testing::{Seen, seen};
    use crate::flows::{service_map, verdicts};
    use bulkhead_api::rest::Side;

    #[test]
    fn pods_days_and_addresses_are_told_apart_as_far_as_asked() {
        let rows = || {
            let days = (0..3).flat_map(|day| {
                ["web-0", "web-1"].map(|pod| SeenEdge { day, ..seen(Seen { pod, ..Seen::default() }) })
            });
            days.collect::<Vec<_>>()
        };
        for (detail, expected) in [(Detail::Workload, 1), (Detail::Pod, 2), (Detail::Day, 6)] {
            let folded = fold(detail, rows()).finish();
            assert_eq!(folded.len(), expected, "{detail:?}");
            assert_eq!(folded.iter().map(|one| one.totals.count).sum::<u64>(), 6, "{detail:?}");
        }
    }

    #[test]
    fn reports_of_folded_rows_are_those_of_the_rows() {
        let rows = vec![
            seen(Seen { count: 2, denied: Some("no_rule"), last_seen_ms: 9_000, ..Seen::default() }),
            seen(Seen { count: 4, denied: Some("no_rule"), pod: "web-1", ..Seen::default() }),
            seen(Seen { side: Side::Destination, path: Some("/health"), ..Seen::default() }),
            seen(Seen { destination: "", address: "1.1.1.1", ..Seen::default() }),
            seen(Seen { destination: "", address: "1.1.1.2", ..Seen::default() }),
        ];
        let folded = fold(Detail::Workload, rows.clone()).finish();
        assert_eq!(service_map(&folded), service_map(&rows));
        assert_eq!(verdicts(&folded), verdicts(&rows));
    }

    #[test]
    fn a_pod_takes_no_more_than_its_share_and_the_rest_is_counted() {
        let noise = |number: usize| {
            let mut one = seen(Seen::default());
            one.edge.application = number.to_string();
            one
        };
        let mut fold = fold(Detail::Workload, (0..FOLD_EDGES_PER_POD_MAX + 3).map(noise).collect());
        fold.add(seen(Seen { pod: "web-1", denied: Some("no_rule"), ..Seen::default() }));
        assert_eq!(fold.left_out(), 3);
        fold.add(seen(Seen {
            destination: "",
            address: "1.1.1.1",
            denied: Some("no_rule"),
            ..Seen::default()
        }));
        assert_eq!(verdicts(&fold.finish()).len(), 2, "another pod's denial is there, and its own outside");
    }

    fn fold(detail: Detail, rows: Vec<SeenEdge>) -> Fold {
        let mut fold = Fold::new(detail);
        rows.into_iter().for_each(|one| fold.add(one));
        fold
    }
}

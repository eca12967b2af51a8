//! Observations added up: per edge, and per kind of request on it.

use super::cautions::{self, Caution};
use super::{Evidence, LearnOptions, Observation, Party, Witness};
use crate::inventory::Inventory;
use bulkhead_facts::{L4Protocol, WorkloadRef};
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// Who reached whom where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EdgeKey {
    pub(super) source: Party,
    pub(super) destination: Party,
    pub(super) protocol: L4Protocol,
    pub(super) port: u16,
}

/// What the bytes on an edge were.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A kind of HTTP request. The host is kept for destinations outside only, where one address serves many.
    Http { method: String, path: String, host: Option<String> },
    /// Another protocol.
    Opaque,
    /// HTTP that could not be read, and would be refused under enforcement.
    Unreadable,
}

/// Sums.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    counts: [u64; 2],
    witnessed: [bool; 2],
    pub(super) source_pods: BTreeSet<String>,
    destination_pods: BTreeSet<String>,
    days: BTreeSet<u64>,
    pub(super) first_seen_ms: Option<u64>,
    pub(super) last_seen_ms: u64,
    /// Some answer was no error, or none was seen.
    pub(super) succeeded: bool,
}

/// One edge.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge {
    pub(super) total: Tally,
    pub(super) kinds: BTreeMap<Kind, Tally>,
    /// Why nothing of it is proposed.
    pub(super) cautions: BTreeSet<Caution>,
    /// Why a kind of it is not.
    pub(super) kind_cautions: BTreeMap<Kind, BTreeSet<Caution>>,
}

/// Everything that was seen and let through.
pub(super) struct Edges {
    pub(super) all: BTreeMap<EdgeKey, Edge>,
}

impl Edges {
    pub(super) fn new(observations: &[Observation], inventory: &Inventory, options: &LearnOptions) -> Self {
        let mut all: BTreeMap<EdgeKey, Edge> = BTreeMap::new();
        let mut reporting: BTreeSet<WorkloadRef> = BTreeSet::new();
        for seen in observations {
            let witness = match seen.witness {
                Witness::Source => &seen.source.party,
                Witness::Destination => &seen.destination.party,
            };
            if let Party::Workload(workload) = witness {
                reporting.insert(workload.clone());
            }
            if seen.allowed {
                all.entry(key(seen)).or_default().add(seen);
            }
        }
        cautions::weigh(&mut all, &reporting, inventory, &options.thresholds);
        Self { all }
    }
}

fn key(seen: &Observation) -> EdgeKey {
    EdgeKey {
        source: seen.source.party.clone(),
        destination: seen.destination.party.clone(),
        protocol: seen.protocol,
        // Rules name the type of an ICMP message, whatever its code.
        port: if seen.protocol.is_icmp() { seen.port & 0xff00 } else { seen.port },
    }
}

impl Edge {
    fn add(&mut self, seen: &Observation) {
        self.total.add(seen);
        if let Some(kind) = kind(seen) {
            self.kinds.entry(kind).or_default().add(seen);
        }
    }

    /// The kinds of requests that may be proposed.
    pub(super) fn proposed_kinds(&self) -> impl Iterator<Item = (&Kind, &Tally)> {
        self.kinds.iter().filter(|(kind, _)| !self.kind_cautions.contains_key(kind))
    }

    /// True if requests were read on it, so that a rule names them.
    pub(super) fn speaks_http(&self) -> bool {
        self.kinds.keys().any(|kind| matches!(kind, Kind::Http { .. }))
    }
}

fn kind(seen: &Observation) -> Option<Kind> {
    let Some(request) = &seen.request else {
        return match seen.application.as_str() {
            "" => None,
            "http/1.1" => Some(Kind::Unreadable),
            _ => Some(Kind::Opaque),
        };
    };
    let outside = matches!(seen.destination.party, Party::Outside(_)) && !request.host.is_empty();
    let host = outside.then(|| request.host.clone());
    Some(Kind::Http { method: request.method.clone(), path: request.path.clone(), host })
}

impl Tally {
    fn add(&mut self, seen: &Observation) {
        let at = seen.witness as usize;
        self.counts[at] = self.counts[at].saturating_add(seen.count);
        self.witnessed[at] = true;
        self.source_pods.extend(seen.source.pod.clone());
        self.destination_pods.extend(seen.destination.pod.clone());
        self.days.extend([seen.first_seen_ms / DAY_MS, seen.last_seen_ms / DAY_MS]);
        self.first_seen_ms =
            Some(self.first_seen_ms.map_or(seen.first_seen_ms, |first| first.min(seen.first_seen_ms)));
        self.last_seen_ms = self.last_seen_ms.max(seen.last_seen_ms);
        self.succeeded |= seen.request.as_ref().is_none_or(|request| request.status_class < 4);
    }

    /// The larger of what both ends counted.
    pub(super) fn count(&self) -> u64 {
        self.counts[0].max(self.counts[1])
    }

    /// Days on which it was seen.
    pub(super) fn days(&self) -> usize {
        self.days.len()
    }

    /// True if that end's sidecar saw it.
    pub(super) fn witnessed_by(&self, witness: Witness) -> bool {
        self.witnessed[witness as usize]
    }

    /// The evidence of a rule that allows these kinds on an edge with this total; without kinds, of the edge itself.
    pub(super) fn evidence(&self, kinds: &[&Self]) -> Evidence {
        let narrowed = Self::sum(kinds);
        let of = if kinds.is_empty() { self } else { &narrowed };
        let count = of.count();
        let once = match kinds {
            [] => u64::from(count == 1),
            kinds => kinds.iter().map(|kind| u64::from(kind.count() == 1)).sum(),
        };
        Evidence {
            count,
            days: length(of.days.len()),
            source_replicas: length(of.source_pods.len()),
            destination_replicas: length(of.destination_pods.len()),
            first_seen_ms: of.first_seen_ms.unwrap_or_default(),
            last_seen_ms: of.last_seen_ms,
            both_sides: self.witnessed == [true, true],
            unseen_millionths: (once * 1_000_000).checked_div(count).unwrap_or(1_000_000),
        }
    }

    fn sum(tallies: &[&Self]) -> Self {
        let mut sum = Self::default();
        for tally in tallies {
            for at in 0..2 {
                sum.counts[at] = sum.counts[at].saturating_add(tally.counts[at]);
            }
            sum.source_pods.extend(tally.source_pods.iter().cloned());
            sum.destination_pods.extend(tally.destination_pods.iter().cloned());
            sum.days.extend(&tally.days);
            let firsts = [sum.first_seen_ms, tally.first_seen_ms];
            sum.first_seen_ms = firsts.into_iter().flatten().min();
            sum.last_seen_ms = sum.last_seen_ms.max(tally.last_seen_ms);
        }
        sum
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

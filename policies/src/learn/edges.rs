//! Observations added up: per edge, and per kind of request on it.

use super::cautions::{self, Caution};
use super::{
    Evidence, KafkaKind, LearnOptions, Observation, Party, PostgresKind, RedisKind, RequestKind, TlsKind,
    Witness,
};
use crate::inventory::Inventory;
use crate::questions::{api_name, record_name};
use bulkhead_facts::{L4Protocol, WorkloadRef};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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
    /// The first message of a TLS client.
    Tls(TlsKind),
    /// A question to a name server.
    Dns { name: String, record: u16 },
    /// A command to Redis.
    Redis(RedisKind),
    /// A message of a session with PostgreSQL.
    Postgres(PostgresKind),
    /// A request to Kafka.
    Kafka(KafkaKind),
    /// Requests that were not told apart.
    Others,
    /// Bytes of a protocol of which requests are read elsewhere, without one.
    Unread(Spoken),
    /// Another protocol.
    Opaque,
}

/// Protocols that sections speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spoken {
    Http,
    Tls,
    Dns,
    Redis,
    Postgres,
    Kafka,
}

impl Spoken {
    /// By what reports call it.
    fn of_application(application: &str) -> Option<Self> {
        match application {
            "http/1.1" | "http/2" => Some(Self::Http),
            "tls" => Some(Self::Tls),
            "dns" => Some(Self::Dns),
            "redis" => Some(Self::Redis),
            "postgres" => Some(Self::Postgres),
            "kafka" => Some(Self::Kafka),
            _ => None,
        }
    }
}

impl Kind {
    /// The protocol, where it is a request that a rule could name.
    pub(super) fn spoken(&self) -> Option<Spoken> {
        match self {
            Self::Http { .. } => Some(Spoken::Http),
            Self::Tls(_) => Some(Spoken::Tls),
            Self::Dns { .. } => Some(Spoken::Dns),
            Self::Redis(_) => Some(Spoken::Redis),
            Self::Postgres(_) => Some(Spoken::Postgres),
            Self::Kafka(_) => Some(Spoken::Kafka),
            Self::Others | Self::Unread(_) | Self::Opaque => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { method, path, .. } => write!(f, "{method} {path}"),
            Self::Tls(hello) => {
                let name = hello.server_name.as_deref().filter(|_| !hello.encrypted);
                let absent = if hello.encrypted { "with a hidden name" } else { "without a name" };
                write!(f, "tls {} from {}", name.unwrap_or(absent), hello.lowest)
            }
            Self::Dns { name, record } => write!(f, "dns {name} {}", record_name(*record)),
            Self::Redis(command) => {
                write!(f, "redis {}", command.command)?;
                command.key_prefix.iter().try_for_each(|prefix| write!(f, " {prefix}*"))?;
                match command.database {
                    Some(number) => write!(f, " in {number}"),
                    None => f.write_str(" in an unknown database"),
                }
            }
            Self::Postgres(message) => {
                let classes: Vec<_> = message.statements.iter().map(|class| class.as_str()).collect();
                let what = if classes.is_empty() { "a session".to_owned() } else { classes.join("+") };
                write!(f, "postgres {what} as {} in {}", message.user, message.database)
            }
            Self::Kafka(request) => {
                write!(f, "kafka {} {}", api_name(request.api), request.topics.join(","))
            }
            Self::Others => f.write_str("requests that were not told apart"),
            Self::Unread(_) | Self::Opaque => f.write_str("unread bytes"),
        }
    }
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
        all.values_mut().for_each(Edge::leave_out_search_ends);
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

    /// Names that there are not because a search list added an end to one that there is: sidecars answer these by themselves.
    fn leave_out_search_ends(&mut self) {
        let known = self.resolved();
        self.kinds.retain(|kind, tally| match kind {
            Kind::Dns { name, .. } if !tally.succeeded => {
                let is_end =
                    |own: &String| name.strip_prefix(own.as_str()).is_some_and(|end| end.starts_with('.'));
                !known.iter().any(is_end)
            }
            _ => true,
        });
    }

    /// True for a name that there is not because a search list was gone through on the way to one that there is:
    /// `a.b.b.cluster.local` before `a.b.cluster.local`. It has to be allowed, or resolvers stop at it.
    pub(super) fn is_search(kind: &Kind, resolved: &BTreeSet<String>) -> bool {
        let Kind::Dns { name, .. } = kind else { return false };
        let is_longer = |own: &String| {
            let dots = own.match_indices('.').map(|(at, _)| own.split_at(at));
            dots.into_iter().any(|(front, end)| {
                let rest = name.strip_prefix(front).filter(|rest| rest.starts_with('.'));
                rest.and_then(|rest| rest.strip_suffix(end)).is_some_and(|between| between.len() > 1)
            })
        };
        resolved.iter().any(is_longer)
    }

    /// Names that were asked for and answered.
    pub(super) fn resolved(&self) -> BTreeSet<String> {
        let names = self.kinds.iter().filter_map(|(kind, tally)| match kind {
            Kind::Dns { name, .. } if tally.succeeded => Some(name.clone()),
            _ => None,
        });
        names.collect()
    }

    /// The kinds of requests that may be proposed.
    pub(super) fn proposed_kinds(&self) -> impl Iterator<Item = (&Kind, &Tally)> {
        self.kinds.iter().filter(|(kind, _)| !self.kind_cautions.contains_key(kind))
    }

    /// The protocol of its requests: HTTP if there is any, else the one that was seen most.
    pub(super) fn spoken(&self) -> Option<Spoken> {
        let mut counts: BTreeMap<Spoken, u64> = BTreeMap::new();
        for (kind, tally) in &self.kinds {
            if let Some(spoken) = kind.spoken() {
                let count = counts.entry(spoken).or_default();
                *count = count.saturating_add(tally.count());
            }
        }
        let by_count = || counts.iter().max_by_key(|(spoken, count)| (**count, std::cmp::Reverse(**spoken)));
        match counts.contains_key(&Spoken::Http) {
            true => Some(Spoken::Http),
            false => by_count().map(|(spoken, _)| *spoken),
        }
    }
}

fn kind(seen: &Observation) -> Option<Kind> {
    let Some(request) = &seen.request else {
        return match seen.application.as_str() {
            "" => None,
            application => Some(Spoken::of_application(application).map_or(Kind::Opaque, Kind::Unread)),
        };
    };
    Some(of_request(request, matches!(seen.destination.party, Party::Outside(_))))
}

/// The kind of a request; hosts of HTTP are told apart for destinations outside.
pub(super) fn of_request(request: &RequestKind, outside: bool) -> Kind {
    match request {
        RequestKind::Http(http) => {
            let host = Some(http.host.clone()).filter(|host| outside && !host.is_empty());
            Kind::Http { method: http.method.clone(), path: http.path.clone(), host }
        }
        RequestKind::Tls(hello) => Kind::Tls(hello.clone()),
        RequestKind::Dns(question) => Kind::Dns { name: question.name.clone(), record: question.record },
        RequestKind::Redis(command) => Kind::Redis(command.clone()),
        RequestKind::Postgres(message) => Kind::Postgres(message.clone()),
        RequestKind::Kafka(request) => Kind::Kafka(request.clone()),
        RequestKind::Others => Kind::Others,
    }
}

/// True unless the answer was an error, as far as answers are seen.
fn succeeded(request: &RequestKind) -> bool {
    match request {
        RequestKind::Http(http) => http.status_class < 4,
        RequestKind::Dns(question) => question.answered,
        RequestKind::Tls(_)
        | RequestKind::Redis(_)
        | RequestKind::Postgres(_)
        | RequestKind::Kafka(_)
        | RequestKind::Others => true,
    }
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
        self.succeeded |= seen.request.as_ref().is_none_or(succeeded);
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

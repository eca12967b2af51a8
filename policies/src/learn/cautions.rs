//! What needs a person before it is allowed, and why.

use super::edges::{Edge, EdgeKey, Kind, Spoken, Tally};
use super::{Party, Thresholds, Witness};
use crate::compile::METADATA;
use crate::explain::{is_name, is_word};
use crate::inventory::{Inventory, ObjectName};
use bulkhead_facts::{HostName, L4Protocol, NamePattern, PathTemplate, PostgresStatement, WorkloadRef};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

macro_rules! cautions {
    ($($variant:ident = $name:literal, $explanation:literal;)+) => {
        /// Why something is not proposed without a person.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Caution { $(#[doc = concat!("`", $name, "`: ", $explanation, ".")] $variant,)+ }

        impl Caution {
            /// Its name in reports.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)+ }
            }
        }
    };
}

cautions! {
    Metadata = "metadata", "a metadata address hands out credentials";
    Node = "node", "a node reaches, or is reached on, more than the probes";
    KubeApiserver = "kube_apiserver", "the API server is reached";
    SpecialAddress = "special_address", "a loopback, link-local, multicast or reserved address";
    UnknownAddress = "unknown_address", "an address among those of pods that no pod held";
    Wide = "wide", "many addresses outside: an address block has to be chosen";
    SingleReplica = "single_replica", "only one of several replicas does it";
    OneSided = "one_sided", "only one end saw it although both have a sidecar";
    Rare = "rare", "seen too seldom for the time that was watched";
    Late = "late", "seen first at the end of the time that was watched";
    FanOut = "fan_out", "one of many destinations or ports that the source tried once or twice";
    OnlyErrors = "only_errors", "every answer was an error";
    Unreadable = "unreadable", "it cannot be read without doubt and would be refused";
    MixedProtocols = "mixed_protocols", "bytes of another protocol where requests were read";
    ManyKinds = "many_kinds", "too many kinds of requests: say what they have in common";
    NoSelector = "no_selector", "no stable labels select exactly the pods of the workload";
    UnsupportedProtocol = "unsupported_protocol", "a protocol that rules cannot name";
    Unnameable = "unnameable", "no rule can mean exactly this";
    Varying = "varying", "names that differ each time: a pattern has to be chosen";
}

/// How often something thin was seen at most.
const THIN_COUNT_MAX: u64 = 2;

/// Notes every caution.
pub(super) fn weigh(
    edges: &mut BTreeMap<EdgeKey, Edge>,
    reporting: &BTreeSet<WorkloadRef>,
    inventory: &Inventory,
    thresholds: &Thresholds,
) {
    let known = Known::new(edges, inventory, thresholds);
    for (key, edge) in edges.iter_mut() {
        for party in [&key.source, &key.destination] {
            edge.cautions.extend(known.party(party));
        }
        edge.cautions.extend(known.shape(key));
        edge.cautions.extend(known.evidence(key, &edge.total, reporting));
        edge.cautions.extend(known.time(&edge.total, thresholds));
        weigh_kinds(edge, &known, thresholds);
    }
}

fn weigh_kinds(edge: &mut Edge, known: &Known, thresholds: &Thresholds) {
    let spoken = edge.spoken();
    if edge.kinds.keys().filter(|kind| kind.spoken().is_some()).count() > thresholds.kinds_max {
        edge.cautions.insert(Caution::ManyKinds);
    }
    let resolved = edge.resolved();
    for (kind, tally) in &edge.kinds {
        let mut found = unnamed(kind, spoken);
        if !tally.succeeded && !Edge::is_search(kind, &resolved) {
            found.insert(Caution::OnlyErrors);
        }
        found.extend(known.time(tally, thresholds));
        if !found.is_empty() {
            edge.kind_cautions.insert(kind.clone(), found);
        }
    }
    let incomplete: Vec<Kind> =
        edge.proposed_kinds().map(|(kind, _)| kind).filter(|kind| is_alone(kind, edge)).cloned().collect();
    for kind in incomplete {
        edge.kind_cautions.insert(kind, BTreeSet::from([Caution::Unnameable]));
    }
}

/// What speaks against a rule that names this kind, on an edge that speaks a protocol.
pub(super) fn unnamed(kind: &Kind, spoken: Option<Spoken>) -> BTreeSet<Caution> {
    let mixed = || BTreeSet::from([Caution::MixedProtocols]);
    let unless = |nameable: bool| match nameable {
        true => BTreeSet::new(),
        false => BTreeSet::from([Caution::Unnameable]),
    };
    match kind {
        Kind::Others => BTreeSet::from([Caution::ManyKinds]),
        Kind::Unread(Spoken::Http) => BTreeSet::from([Caution::Unreadable]),
        Kind::Unread(own) if spoken == Some(*own) => BTreeSet::from([Caution::Unreadable]),
        Kind::Unread(_) | Kind::Opaque if spoken.is_some() => mixed(),
        Kind::Unread(_) | Kind::Opaque => BTreeSet::new(),
        named if named.spoken() != spoken => mixed(),
        Kind::Http { method, path, host } => request(method, path, host.as_deref()),
        Kind::Tls(hello) if hello.encrypted => BTreeSet::new(),
        Kind::Tls(hello) => hello.server_name.as_deref().map_or_else(BTreeSet::new, name),
        Kind::Dns { name: asked, .. } => name(asked),
        Kind::Redis(command) => {
            unless(is_word(&command.command, "_.-", 64) && command.key_prefix.as_deref().is_none_or(is_name))
        }
        Kind::Postgres(message) => unless(
            is_name(&message.user)
                && is_name(&message.database)
                && !message.statements.contains(&PostgresStatement::Other),
        ),
        Kind::Kafka(request) => unless(request.topics.iter().all(|topic| is_word(topic, "._-", 249))),
    }
}

/// True for what only means something beside another kind that may be proposed: a session of PostgreSQL without a
/// statement, for which a rule would allow all, and a command to Redis in a database that was not known.
fn is_alone(kind: &Kind, edge: &Edge) -> bool {
    let mut others = edge.proposed_kinds().map(|(other, _)| other);
    match kind {
        Kind::Postgres(start) if start.statements.is_empty() => !others.any(|other| {
            matches!(other, Kind::Postgres(message) if !message.statements.is_empty()
                && (&message.user, &message.database) == (&start.user, &start.database))
        }),
        Kind::Redis(command) if command.database.is_none() => !others.any(|other| {
            matches!(other, Kind::Redis(known) if known.database.is_some()
                && (&known.command, &known.key_prefix) == (&command.command, &command.key_prefix))
        }),
        _ => false,
    }
}

/// A name that stands for many is for a person to allow.
fn name(text: &str) -> BTreeSet<Caution> {
    match NamePattern::parse(text) {
        Ok(NamePattern::Exact(_)) => BTreeSet::new(),
        Ok(_) => BTreeSet::from([Caution::Varying]),
        Err(_) => BTreeSet::from([Caution::Unnameable]),
    }
}

/// A rule has to be able to name exactly what was seen.
fn request(method: &str, path: &str, host: Option<&str>) -> BTreeSet<Caution> {
    let template = PathTemplate::parse(path);
    let cut_off = template.as_ref().is_ok_and(PathTemplate::matches_below);
    let readable =
        template.is_ok() && host.is_none_or(|host| HostName::parse(host).is_ok()) && method != "OTHER";
    if readable && !cut_off { BTreeSet::new() } else { BTreeSet::from([Caution::Unreadable]) }
}

/// What has to be known of all edges to judge one.
struct Known {
    /// First and last moment at which anything was seen.
    window: (u64, u64),
    pod_blocks: BTreeSet<IpAddr>,
    apiserver: BTreeSet<IpAddr>,
    replicas: BTreeMap<WorkloadRef, usize>,
    /// Thin edges of sources that have too many of them.
    fanned_out: BTreeSet<EdgeKey>,
    /// Ports with too many addresses outside: on which side, with whom.
    wide: BTreeSet<(bool, Party, L4Protocol, u16)>,
}

impl Known {
    fn new(edges: &BTreeMap<EdgeKey, Edge>, inventory: &Inventory, thresholds: &Thresholds) -> Self {
        let first = edges.values().filter_map(|edge| edge.total.first_seen_ms).min();
        let last = edges.values().map(|edge| edge.total.last_seen_ms).max();
        let pods = || inventory.pods.values().filter(|pod| !pod.host_network);
        let mut replicas: BTreeMap<WorkloadRef, usize> = BTreeMap::new();
        pods().for_each(|pod| *replicas.entry(pod.workload.clone()).or_default() += 1);
        Self {
            window: (first.unwrap_or_default(), last.unwrap_or_default()),
            pod_blocks: pods().flat_map(|pod| &pod.addresses).map(|address| block(*address)).collect(),
            apiserver: apiserver(inventory),
            replicas,
            fanned_out: fanned_out(edges, thresholds),
            wide: wide(edges, thresholds),
        }
    }

    fn party(&self, party: &Party) -> Option<Caution> {
        match party {
            Party::Workload(_) => None,
            Party::Service(name) => (*name == apiserver_name()).then_some(Caution::KubeApiserver),
            Party::Node(_) => Some(Caution::Node),
            Party::Outside(address) if METADATA.contains(address) => Some(Caution::Metadata),
            Party::Outside(address) if self.apiserver.contains(address) => Some(Caution::KubeApiserver),
            Party::Outside(address) if is_special(*address) => Some(Caution::SpecialAddress),
            Party::Outside(address) => {
                self.pod_blocks.contains(&block(*address)).then_some(Caution::UnknownAddress)
            }
        }
    }

    fn shape(&self, key: &EdgeKey) -> BTreeSet<Caution> {
        let mut found = BTreeSet::new();
        if !key.protocol.has_ports() && !key.protocol.is_icmp() {
            found.insert(Caution::UnsupportedProtocol);
        }
        if self.fanned_out.contains(key) {
            found.insert(Caution::FanOut);
        }
        if wide_keys(key).iter().any(|key| self.wide.contains(key)) {
            found.insert(Caution::Wide);
        }
        found
    }

    fn evidence(&self, key: &EdgeKey, total: &Tally, reporting: &BTreeSet<WorkloadRef>) -> BTreeSet<Caution> {
        let mut found = BTreeSet::new();
        let reports =
            |party: &Party| matches!(party, Party::Workload(workload) if reporting.contains(workload));
        let both_report = reports(&key.source) && reports(&key.destination);
        if both_report && !(total.witnessed_by(Witness::Source) && total.witnessed_by(Witness::Destination)) {
            found.insert(Caution::OneSided);
        }
        if let Party::Workload(workload) = &key.source
            && self.replicas.get(workload).is_some_and(|replicas| *replicas > 1)
            && total.source_pods.len() == 1
        {
            found.insert(Caution::SingleReplica);
        }
        found
    }

    fn time(&self, tally: &Tally, thresholds: &Thresholds) -> BTreeSet<Caution> {
        let (start, end) = self.window;
        let window = end.saturating_sub(start);
        let mut found = BTreeSet::new();
        let seldom = window >= thresholds.rare_window_ms && tally.count() < thresholds.rare_count;
        let one_day = window >= thresholds.late_window_ms.saturating_mul(3) && tally.days() == 1;
        if seldom || one_day {
            found.insert(Caution::Rare);
        }
        let first = tally.first_seen_ms.unwrap_or(end);
        if window >= thresholds.late_window_ms && first > end - window / 10 {
            found.insert(Caution::Late);
        }
        found
    }
}

/// Thin edges of sources with more of them than anybody who knows where to go needs.
fn fanned_out(edges: &BTreeMap<EdgeKey, Edge>, thresholds: &Thresholds) -> BTreeSet<EdgeKey> {
    let mut thin: BTreeMap<&Party, Vec<&EdgeKey>> = BTreeMap::new();
    for (key, _) in edges.iter().filter(|(_, edge)| edge.total.count() <= THIN_COUNT_MAX) {
        thin.entry(&key.source).or_default().push(key);
    }
    thin.into_values().filter(|keys| keys.len() > thresholds.fan_out_max).flatten().cloned().collect()
}

fn wide(
    edges: &BTreeMap<EdgeKey, Edge>,
    thresholds: &Thresholds,
) -> BTreeSet<(bool, Party, L4Protocol, u16)> {
    let mut addresses: BTreeMap<_, usize> = BTreeMap::new();
    edges.keys().flat_map(wide_keys).for_each(|key| *addresses.entry(key).or_default() += 1);
    addresses.retain(|_, count| *count > thresholds.outside_addresses_max);
    addresses.into_keys().collect()
}

/// Under what an address outside is counted: the other end with the port.
fn wide_keys(key: &EdgeKey) -> Vec<(bool, Party, L4Protocol, u16)> {
    let mut keys = Vec::new();
    if matches!(key.source, Party::Outside(_)) {
        keys.push((false, key.destination.clone(), key.protocol, key.port));
    }
    if matches!(key.destination, Party::Outside(_)) {
        keys.push((true, key.source.clone(), key.protocol, key.port));
    }
    keys
}

fn apiserver_name() -> ObjectName {
    ObjectName { namespace: "default".to_owned(), name: "kubernetes".to_owned() }
}

fn apiserver(inventory: &Inventory) -> BTreeSet<IpAddr> {
    let Some(service) = inventory.services.get(&apiserver_name()) else { return BTreeSet::new() };
    let endpoints = service.ports.iter().flat_map(|port| &port.endpoints).map(|(address, _)| *address);
    service.addresses.iter().copied().chain(endpoints).collect()
}

/// First address of the /24 or /64 around an address.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & !0xff).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

fn is_special(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified()
        }
    }
}

//! Peers that no rule tells apart become one class; spans of addresses point to classes.

use super::cluster::{Cluster, ServiceIndex};
use super::intervals::{AddressSet, Interval, Number};
use super::lineup::{Lineup, Version};
use super::peers::{Reach, Region};
use super::sweep::sweep;
use bulkhead_facts::{Direction, Mode};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// A rule's position in the line-up and a clause's position in the rule.
pub(crate) type ClauseIndex = (u32, u32);

/// What makes the peers of a class alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ClassKey {
    /// Clauses that name them, apart from those that name everybody; ascending.
    pub(crate) clauses: Vec<ClauseIndex>,
    /// Pods, and Services that lead to pods: what is learned of them is learned at their own side.
    pub(crate) inside: bool,
    /// A node's, where a name might lead there.
    pub(crate) node: bool,
    /// The Service whose address it is, where its ports need answers of their own.
    pub(crate) service: Option<ServiceIndex>,
    /// Rules that name it by a name that leads to it; ascending. Never of a span.
    pub(crate) named: Vec<u32>,
}

/// A span with the position of its class in [`Classes::keys`].
pub(crate) type Span<N> = (N, N, usize);

/// Classes of one direction.
pub(crate) struct Classes {
    /// By first appearance, IPv4 before IPv6.
    pub(crate) keys: Vec<ClassKey>,
    /// Spans that cover all of IPv4.
    pub(crate) v4: Vec<Span<u32>>,
    /// Spans that cover all of IPv6.
    pub(crate) v6: Vec<Span<u128>>,
    /// Clauses that name everybody.
    pub(crate) everybody: Vec<ClauseIndex>,
}

impl Classes {
    /// The class of an address.
    pub(crate) fn class_of(&self, address: IpAddr) -> &ClassKey {
        let class = match address.to_canonical() {
            IpAddr::V4(v4) => find(&self.v4, v4.into()),
            IpAddr::V6(v6) => find(&self.v6, v6.into()),
        };
        &self.keys[class]
    }
}

fn find<N: Number>(spans: &[Span<N>], address: N) -> usize {
    // Spans cover the family without gaps.
    let at = spans.partition_point(|(_, last, _)| *last < address);
    spans[at].2
}

/// Sets of addresses with what they mean, and how many of them are clauses.
struct Markers<'a> {
    clauses: Vec<(ClauseIndex, &'a Region)>,
    inside: Option<&'a AddressSet>,
    nodes: Option<&'a AddressSet>,
    services: Vec<(ServiceIndex, AddressSet)>,
}

impl ClassKey {
    /// True if no name is meant to lead there: it lies within the cluster.
    pub(crate) fn is_never_named(&self) -> bool {
        self.inside || self.node
    }
}

/// Sorts all addresses into classes.
pub(crate) fn classes(cluster: &Cluster<'_>, lineup: &Lineup<'_>) -> Classes {
    let mut everybody = Vec::new();
    let mut clauses = Vec::new();
    for (rule, line) in (0u32..).zip(&lineup.rules) {
        for (position, clause) in (0u32..).zip(&line.clauses) {
            match &*clause.reach {
                Reach::Any => everybody.push((rule, position)),
                Reach::Set(region) => clauses.push(((rule, position), region)),
            }
        }
    }
    let has_names = lineup.direction == Direction::Egress && lineup.has_names();
    let tells_inside = has_names || lineup.direction == Direction::Egress && lineup.mode == Mode::Observe;
    let services = services(cluster, lineup, &clauses, &everybody);
    let inside = tells_inside.then_some(&cluster.inside);
    let nodes = has_names.then_some(&cluster.node_addresses);
    let markers = Markers { clauses, inside, nodes, services };
    let mut table = Table { keys: Vec::new(), known: HashMap::new() };
    let v4 = table.spans(&markers, |set| &set.v4);
    let v6 = table.spans(&markers, |set| &set.v6);
    Classes { keys: table.keys, v4, v6, everybody }
}

/// The Services whose addresses need answers of their own: those that some clause tells apart from the pods behind them, by
/// address or by port, and those without endpoints where that is a denial.
fn services(
    cluster: &Cluster<'_>,
    lineup: &Lineup<'_>,
    clauses: &[(ClauseIndex, &Region)],
    everybody: &[ClauseIndex],
) -> Vec<(ServiceIndex, AddressSet)> {
    if lineup.direction == Direction::Ingress {
        return Vec::new();
    }
    let clause = |(rule, clause): &ClauseIndex| &lineup.rules[*rule as usize].clauses[*clause as usize];
    let mut needed = BTreeSet::new();
    for (at, region) in clauses {
        let touched = region.touched(cluster);
        needed.extend(&touched.uneven);
        let told_apart = |group: &usize| clause(at).tells_apart(&cluster.renumbered[*group].changes);
        needed.extend(
            touched
                .renumbered
                .iter()
                .filter(|(group, _)| told_apart(group))
                .flat_map(|(_, services)| services),
        );
    }
    for group in &cluster.renumbered {
        if everybody.iter().any(|at| clause(at).tells_apart(&group.changes)) {
            needed.extend(&group.services);
        }
    }
    if Version::BOTH.into_iter().any(|version| lineup.is_confined(version)) {
        needed.extend(&cluster.lacking);
    }
    needed.into_iter().map(|at| (at, own_addresses(cluster, at))).filter(|(_, own)| !own.is_empty()).collect()
}

/// An address that two Services claim belongs to the first.
fn own_addresses(cluster: &Cluster<'_>, service: ServiceIndex) -> AddressSet {
    let mine = cluster.services[service].1.addresses.iter().map(|address| address.to_canonical());
    AddressSet::of(mine.filter(|address| {
        let claimed = cluster.service_addresses.binary_search_by_key(address, |(address, _)| *address);
        claimed.is_ok_and(|found| cluster.service_addresses[found].1 == service)
    }))
}

struct Table {
    keys: Vec<ClassKey>,
    known: HashMap<ClassKey, usize>,
}

impl Table {
    fn spans<'a, N: Number>(
        &mut self,
        markers: &Markers<'a>,
        family: impl for<'s> Fn(&'s AddressSet) -> &'s Vec<Interval<N>>,
    ) -> Vec<Span<N>> {
        let sets = markers.clauses.iter().map(|(_, region)| &region.addresses);
        let sets = sets.chain(markers.inside).chain(markers.nodes);
        let sets = sets.chain(markers.services.iter().map(|(_, set)| set));
        let sets: Vec<_> = (0u32..).zip(sets).map(|(marker, set)| (marker, family(set).as_slice())).collect();
        let mut spans: Vec<Span<N>> = Vec::new();
        sweep(&sets, |first, last, active| {
            let class = self.class(markers.key(active));
            match spans.last_mut() {
                Some(before) if before.2 == class => before.1 = last,
                Some(_) | None => spans.push((first, last, class)),
            }
        });
        spans
    }

    fn class(&mut self, key: ClassKey) -> usize {
        if let Some(class) = self.known.get(&key) {
            return *class;
        }
        self.keys.push(key.clone());
        self.known.insert(key, self.keys.len() - 1);
        self.keys.len() - 1
    }
}

impl Markers<'_> {
    fn key(&self, active: &[u32]) -> ClassKey {
        let mut key = ClassKey::default();
        let nodes = self.clauses.len() + usize::from(self.inside.is_some());
        let first_service = nodes + usize::from(self.nodes.is_some());
        for marker in active.iter().map(|marker| *marker as usize) {
            if let Some((clause, _)) = self.clauses.get(marker) {
                key.clauses.push(*clause);
            } else if marker < nodes {
                key.inside = true;
            } else if marker < first_service {
                key.node = true;
            } else {
                key.service = self.services.get(marker - first_service).map(|(service, _)| *service);
            }
        }
        key
    }
}

//! What passed for the first time after a policy was approved: allowed, but not part of what was learned.
//!
//! Only where something was learned and approved there is a before; elsewhere every edge would be new.

use crate::flows::SeenEdge;
use crate::world::World;
use bulkhead_api::rest::{Effect, Party};
use bulkhead_facts::Tier;
use std::collections::BTreeMap;

type Key<'a> = (&'a Party, &'a Party, u8, u16);

/// Allowed edges of collections with an approved proposal that nobody had seen before the approval.
pub(super) fn new_edges<'a>(
    edges: &'a [SeenEdge],
    approved_ms: &BTreeMap<String, u64>,
    world: &World,
) -> Vec<&'a SeenEdge> {
    if approved_ms.is_empty() {
        return Vec::new();
    }
    let mut first_seen_ms: BTreeMap<Key<'_>, u64> = BTreeMap::new();
    for one in edges.iter().filter(|one| allowed(one)) {
        let first = first_seen_ms.entry(key(one)).or_insert(u64::MAX);
        *first = (*first).min(one.totals.first_seen_ms);
    }
    let is_new = |one: &&SeenEdge| {
        let approved = world
            .pods
            .get(&one.pod_uid)
            .and_then(|indexed| indexed.program.collection.as_ref())
            .and_then(|collection| approved_ms.get(collection));
        approved.is_some_and(|approved| first_seen_ms.get(&key(one)).is_some_and(|first| first > approved))
    };
    edges.iter().filter(|one| allowed(one) && !is_infrastructure(one)).filter(is_new).collect()
}

fn key(one: &SeenEdge) -> Key<'_> {
    (&one.edge.source.party, &one.edge.destination.party, one.edge.protocol, one.edge.port)
}

fn allowed(one: &SeenEdge) -> bool {
    one.edge.enforced.effect == Effect::Allow
}

/// What every pod needs to live is nobody's news.
fn is_infrastructure(one: &SeenEdge) -> bool {
    one.edge.enforced.rule.as_ref().is_some_and(|rule| rule.tier == Tier::Infrastructure.as_str())
}

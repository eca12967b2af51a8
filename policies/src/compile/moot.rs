//! Sections that the built-in rules make moot.
//!
//! The infrastructure tier comes before the namespaces' own. Its rule `resolver` lets every question to the cluster's resolver
//! pass, so that a `dns` section of a team decides nothing there: probably not what was meant.

use super::lineup::{LineRule, Lineup};
use super::peers::Reach;
use crate::model::{L7Section, RuleAction};
use crate::program::RuleIndex;
use bulkhead_facts::Tier;

/// Rules of the namespace tier whose `dns` section decides nothing at the resolver, in order.
pub(super) fn open_questions(egress: &Lineup<'_>) -> Vec<RuleIndex> {
    let resolver = || egress.rules.iter().filter(|rule| rule.tier == Tier::Infrastructure);
    let moot = |rule: &&LineRule<'_>| {
        rule.tier == Tier::Namespace
            && rule.action == RuleAction::Allow
            && matches!(rule.section, Some(L7Section::Dns(_)))
            && resolver().any(|other| meets(rule, other))
    };
    egress.rules.iter().filter(moot).map(|rule| rule.index).collect()
}

/// True if some address, protocol and port is meant by both.
fn meets(one: &LineRule<'_>, other: &LineRule<'_>) -> bool {
    let pairs = one.clauses.iter().flat_map(|a| other.clauses.iter().map(move |b| (a, b)));
    pairs.into_iter().any(|(a, b)| {
        let addresses = match (&*a.reach, &*b.reach) {
            (Reach::Any, _) | (_, Reach::Any) => true,
            (Reach::Set(a), Reach::Set(b)) => !a.addresses.intersection(&b.addresses).is_empty(),
        };
        let blocks = a.ports.iter().flat_map(|a| b.ports.iter().map(move |b| (a, b)));
        addresses
            && blocks.into_iter().any(|(a, b)| {
                a.protocol_first <= b.protocol_last
                    && b.protocol_first <= a.protocol_last
                    && a.ports.first() <= b.ports.last()
                    && b.ports.first() <= a.ports.last()
            })
    })
}

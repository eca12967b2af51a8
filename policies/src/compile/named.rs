//! Classes of addresses that are known by a name only.
//!
//! Which address a name has is learned while the program is in force, so that the classes have to be there before: for each
//! class that an address may have anyway, one for every set of rules by name that can meet on one address. A name is named
//! by every rule with a pattern that it matches; an address that several names share, by all rules of all of them.
//!
//! What lies inside the cluster is never meant by name: pods, Services and nodes have labels and names of their own, and whoever
//! decides what a name resolves to must not choose among them.

use super::boxes::BoxBuilder;
use super::classes::{ClassKey, Classes};
use super::emit::Merged;
use super::intern::TooMany;
use super::intervals::Number;
use super::lineup::Lineup;
use crate::limits::{NAME_SETS_MAX, NAMED_CLASSES_MAX};
use crate::program::{ClassId, NamedClass};
use bulkhead_facts::{IpFamily, NamePattern};
use std::collections::{BTreeSet, HashMap};

/// Rules by name, as positions in the line-up, that can meet on one address.
type RuleSet = BTreeSet<u32>;

/// The classes of one family. `ids` are the classes of addresses that no name leads to.
pub(super) fn named_classes<N: Number>(
    builder: &mut BoxBuilder<'_, '_>,
    merged: &mut Merged,
    classes: &Classes,
    spans: &[(N, N, usize)],
    ids: &HashMap<usize, Option<ClassId>>,
    family: IpFamily,
) -> Result<Vec<NamedClass>, TooMany> {
    let sets = rule_sets(builder.lineup);
    let outside: BTreeSet<usize> =
        spans.iter().map(|(_, _, key)| *key).filter(|key| !classes.keys[*key].is_never_named()).collect();
    let mut named = Vec::new();
    let mut bases = BTreeSet::new();
    for key in outside {
        let base = ids.get(&key).copied().flatten();
        if !bases.insert(base) {
            continue;
        }
        for set in &sets {
            let class = ClassKey { named: set.iter().copied().collect(), ..classes.keys[key].clone() };
            let cells = builder.boxes(&class, family == IpFamily::V4)?;
            let rules = set.iter().map(|rule| builder.lineup.rules[*rule as usize].index).collect();
            named.push(NamedClass { family, base, rules, class: merged.id(cells) });
            if named.len() > NAMED_CLASSES_MAX {
                return Err(TooMany { what: "classes of addresses by name", limit: NAMED_CLASSES_MAX });
            }
        }
    }
    named.sort_unstable();
    Ok(named)
}

/// Every set of rules that a name can be named by, and, up to the limit, every union of them.
fn rule_sets(lineup: &Lineup<'_>) -> BTreeSet<RuleSet> {
    let named = || (0u32..).zip(&lineup.rules).filter_map(|(at, rule)| Some((at, rule.by_name.as_ref()?)));
    let rules = || named().filter(|(_, named)| !named.ports.is_empty());
    let patterns: BTreeSet<&NamePattern> =
        rules().flat_map(|(_, named)| named.names.iter().copied()).collect();
    let naming = |pattern: &&NamePattern| -> RuleSet {
        let names = |own: &&NamePattern| own.includes(pattern);
        rules().filter(|(_, named)| named.names.iter().any(names)).map(|(at, _)| at).collect()
    };
    let single: BTreeSet<RuleSet> = patterns.iter().map(naming).filter(|set| !set.is_empty()).collect();
    let mut all = single.clone();
    let mut newest: Vec<RuleSet> = single.iter().cloned().collect();
    while let Some(set) = newest.pop() {
        for other in &single {
            let union: RuleSet = set.union(other).copied().collect();
            if all.len() < NAME_SETS_MAX.max(single.len()) && all.insert(union.clone()) {
                newest.push(union);
            }
        }
    }
    all
}

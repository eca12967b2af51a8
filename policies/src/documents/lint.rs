//! What is well-formed and probably not meant: rules that cannot fire, rules that a wider one makes moot, ties.
//!
//! Judged on the checked model alone, without inventory, and only where it is certain: one part covers another
//! because of how it is written, not because of who happens to run.

use super::places::Places;
use crate::diagnostics::{Diagnostic, Report, quoted};
use crate::model::{
    NamespaceMatch, Operator, Peer, Peers, Policy, PolicySet, PortMatch, Ports, Requirement, Rule,
    RuleAction, Selector, Subject,
};
use bulkhead_facts::{Direction, Tier};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Findings on a set without errors, by place.
pub(super) fn lint(set: &PolicySet, places: &Places) -> Vec<Diagnostic> {
    let mut lint = Lint { places, reports: BTreeMap::new() };
    for policy in &set.policies {
        for direction in Direction::BOTH {
            lint.unmatchable_peers(policy, direction);
            if policy.tier == Tier::Namespace {
                lint.moot_rules(set, policy, direction);
            } else {
                lint.shadowed_rules(policy, direction);
            }
        }
    }
    lint.ties(set);
    lint.reports.into_values().flat_map(Report::finish).collect()
}

struct Lint<'a> {
    places: &'a Places,
    reports: BTreeMap<String, Report>,
}

impl Lint<'_> {
    fn report(&mut self, file: &str) -> &mut Report {
        self.reports.entry(file.to_owned()).or_insert_with(|| Report::new(file))
    }

    /// Rules behind one that takes everything of theirs.
    fn shadowed_rules(&mut self, policy: &Policy, direction: Direction) {
        let rules = policy.rules(direction);
        for (index, rule) in rules.iter().enumerate() {
            let Some(wider) =
                rules[..index].iter().find(|before| before.l7.is_none() && covers(before, rule))
            else {
                continue;
            };
            let Some(place) = self.places.rule(&policy.origin, direction, index) else { continue };
            let message = format!(
                "rule {} can never fire: {} before it takes all it names",
                quoted(&rule.name),
                quoted(&wider.name)
            );
            let ours = policy.origin.kind == "ClusterSegmentPolicy";
            let report = self.report(&place.file);
            let found = if ours && rule.action == RuleAction::Deny {
                report.error("never-fires", place.span, message)
            } else {
                report.warning("never-fires", place.span, message)
            };
            found.help("rules are asked in order: move it up or remove it");
        }
    }

    /// Rules with an L7 section beside one without that allows the same.
    fn moot_rules(&mut self, set: &PolicySet, policy: &Policy, direction: Direction) {
        for (index, rule) in policy.rules(direction).iter().enumerate() {
            if rule.l7.is_none() {
                continue;
            }
            let beside = set.policies.iter().filter(|other| {
                other.tier == Tier::Namespace
                    && other.subject.namespaces == policy.subject.namespaces
                    && other.isolates[direction as usize]
                    && subject_covers(&other.subject, &policy.subject)
            });
            let hit = |other: &&Rule| other.l7.is_none() && covers(other, rule);
            let wider =
                beside.filter_map(|other| Some((other, other.rules(direction).iter().find(hit)?))).next();
            let Some((other, wider)) = wider else { continue };
            let Some(place) = self.places.rule(&policy.origin, direction, index) else { continue };
            self.report(&place.file)
                .warning(
                    "moot-section",
                    place.span,
                    format!(
                        "rule {} narrows nothing: {} of {} allows the same peers and ports whole",
                        quoted(&rule.name),
                        quoted(&wider.name),
                        other.origin
                    ),
                )
                .help("allows are a union: narrow the other rule, or remove this one");
        }
    }

    /// Peers whose parts contradict each other.
    fn unmatchable_peers(&mut self, policy: &Policy, direction: Direction) {
        for (index, rule) in policy.rules(direction).iter().enumerate() {
            let Peers::These(peers) = &rule.peers else { continue };
            for (number, peer) in peers.iter().enumerate().filter(|(_, peer)| is_unmatchable(peer)) {
                let Some(place) = self.places.peer(&policy.origin, direction, index, number) else {
                    continue;
                };
                let kind = if matches!(peer, Peer::Cidr { .. }) {
                    "its exceptions cover the whole block"
                } else {
                    "its requirements contradict each other"
                };
                let message = format!("peer matches nobody: {kind}");
                let report = self.report(&place.file);
                let found = if rule.action == RuleAction::Deny && policy.origin.kind == "ClusterSegmentPolicy"
                {
                    report.error("never-fires", place.span, message)
                } else {
                    report.warning("matches-nobody", place.span, message)
                };
                found.help("correct or remove the peer");
            }
        }
    }

    /// Policies of one tier and priority: their order is settled by kind and name, which nobody reads out of them.
    fn ties(&mut self, set: &PolicySet) {
        let mut first: BTreeMap<(Tier, i32), &Policy> = BTreeMap::new();
        for policy in set.policies.iter().filter(|policy| policy.tier != Tier::Namespace) {
            let before = *first.entry((policy.tier, policy.priority)).or_insert(policy);
            if before.origin == policy.origin {
                continue;
            }
            let Some(place) = self.places.policy(&policy.origin) else { continue };
            let message = format!(
                "priority {} of the {} tier is taken by {}",
                policy.priority,
                policy.tier.as_str(),
                before.origin
            );
            self.report(&place.file)
                .warning("priority-tie", place.span, message)
                .help("give each its own priority: a tie is settled by kind and name");
        }
    }
}

/// True if everything that `narrow` names, L7 aside, is named by `wide`.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    peers_cover(&wide.peers, &narrow.peers) && ports_cover(&wide.ports, &narrow.ports)
}

fn peers_cover(wide: &Peers, narrow: &Peers) -> bool {
    match (wide, narrow) {
        (Peers::Any, _) => true,
        (Peers::These(_), Peers::Any) => false,
        (Peers::These(wide), Peers::These(narrow)) => {
            !narrow.is_empty() && narrow.iter().all(|peer| wide.iter().any(|other| peer_covers(other, peer)))
        }
    }
}

fn peer_covers(wide: &Peer, narrow: &Peer) -> bool {
    match (wide, narrow) {
        (
            Peer::Workloads { namespaces: wide_namespaces, workloads: wide },
            Peer::Workloads { namespaces, workloads },
        ) => namespaces_cover(wide_namespaces, namespaces) && selector_covers(wide, workloads),
        (Peer::Cidr { block: wide, except: holes }, Peer::Cidr { block, except }) => {
            wide.covers(*block)
                && holes.iter().all(|hole| {
                    except.iter().any(|other| other.covers(*hole))
                        || !(hole.covers(*block) || block.covers(*hole))
                })
        }
        (Peer::Unknown(_), _) | (_, Peer::Unknown(_)) => false,
        (
            Peer::Service { .. }
            | Peer::Nodes(_)
            | Peer::Entity(_)
            | Peer::Name(_)
            | Peer::Cidr { .. }
            | Peer::Workloads { .. },
            Peer::Service { .. }
            | Peer::Nodes(_)
            | Peer::Entity(_)
            | Peer::Name(_)
            | Peer::Cidr { .. }
            | Peer::Workloads { .. },
        ) => wide == narrow,
    }
}

fn subject_covers(wide: &Subject, narrow: &Subject) -> bool {
    namespaces_cover(&wide.namespaces, &narrow.namespaces)
        && selector_covers(&wide.workloads, &narrow.workloads)
}

fn namespaces_cover(wide: &NamespaceMatch, narrow: &NamespaceMatch) -> bool {
    selector_covers(&by_labels(wide), &by_labels(narrow))
}

fn by_labels(namespaces: &NamespaceMatch) -> Selector {
    match namespaces {
        NamespaceMatch::Labels(selector) => selector.clone(),
        NamespaceMatch::Own(name) => Selector {
            requirements: vec![Requirement {
                key: super::selectors::NAMESPACE_NAME_LABEL.to_owned(),
                operator: Operator::In(vec![name.clone()]),
            }],
        },
    }
}

/// Each requirement of the wide one follows from a requirement of the narrow one.
fn selector_covers(wide: &Selector, narrow: &Selector) -> bool {
    wide.requirements.iter().all(|wide| {
        narrow.requirements.iter().filter(|narrow| narrow.key == wide.key).any(|narrow| {
            match (&wide.operator, &narrow.operator) {
                (Operator::In(wide), Operator::In(narrow)) => narrow.iter().all(|value| wide.contains(value)),
                (Operator::NotIn(wide), Operator::NotIn(narrow)) => {
                    wide.iter().all(|value| narrow.contains(value))
                }
                (Operator::NotIn(wide), Operator::In(narrow)) => {
                    narrow.iter().all(|value| !wide.contains(value))
                }
                (Operator::Exists, Operator::In(_) | Operator::Exists) => true,
                (Operator::DoesNotExist | Operator::NotIn(_), Operator::DoesNotExist) => true,
                (Operator::In(_) | Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist, _) => {
                    false
                }
            }
        })
    })
}

fn ports_cover(wide: &Ports, narrow: &Ports) -> bool {
    match (wide, narrow) {
        (Ports::Any, _) => true,
        (Ports::These(_), Ports::Any) => false,
        (Ports::These(wide), Ports::These(narrow)) => {
            !narrow.is_empty() && narrow.iter().all(|port| wide.iter().any(|other| port_covers(other, port)))
        }
    }
}

fn port_covers(wide: &PortMatch, narrow: &PortMatch) -> bool {
    match (wide, narrow) {
        (PortMatch::Range(wide_protocol, wide), PortMatch::Range(protocol, range)) => {
            wide_protocol == protocol && wide.contains(range.first()) && wide.contains(range.last())
        }
        (PortMatch::Range(wide_protocol, wide), PortMatch::Named(protocol, _)) => {
            Some(*wide_protocol) == *protocol && *wide == bulkhead_facts::PortRange::ALL
        }
        (PortMatch::Named(wide_protocol, wide), PortMatch::Named(protocol, name)) => {
            wide == name && (wide_protocol.is_none() || wide_protocol == protocol)
        }
        (PortMatch::Named(..), PortMatch::Range(..)) => false,
    }
}

fn is_unmatchable(peer: &Peer) -> bool {
    match peer {
        Peer::Workloads { namespaces, workloads } => {
            contradicts(workloads)
                || matches!(namespaces, NamespaceMatch::Labels(selector) if contradicts(selector))
        }
        Peer::Cidr { block, except } => is_used_up(block.first(), block.last(), except),
        Peer::Nodes(labels) => contradicts(labels),
        Peer::Service { .. } | Peer::Entity(_) | Peer::Name(_) | Peer::Unknown(_) => false,
    }
}

/// True if two requirements on one key can never hold together.
fn contradicts(selector: &Selector) -> bool {
    let pairs = selector.requirements.iter().enumerate().flat_map(|(index, first)| {
        selector.requirements[index + 1..]
            .iter()
            .filter(|second| second.key == first.key)
            .map(move |second| (first, second))
    });
    let excludes = |a: &Operator, b: &Operator| match (a, b) {
        (Operator::In(a), Operator::In(b)) => !a.iter().any(|value| b.contains(value)),
        (Operator::In(a), Operator::NotIn(b)) => a.iter().all(|value| b.contains(value)),
        (Operator::In(_) | Operator::Exists, Operator::DoesNotExist) => true,
        (Operator::In(_) | Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist, _) => false,
    };
    pairs.into_iter().any(|(a, b)| excludes(&a.operator, &b.operator) || excludes(&b.operator, &a.operator))
}

/// True if the exceptions leave no address of the block.
fn is_used_up(first: IpAddr, last: IpAddr, except: &[bulkhead_facts::Cidr]) -> bool {
    let mut holes: Vec<(u128, u128)> =
        except.iter().map(|hole| (number(hole.first()), number(hole.last()))).collect();
    holes.sort_unstable();
    let mut next = number(first);
    for (from, to) in holes {
        if from > next {
            return false;
        }
        if to >= number(last) {
            return true;
        }
        next = next.max(to + 1);
    }
    false
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

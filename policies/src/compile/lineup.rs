//! Everything that counts for one workload in one direction, in the order of evaluation.

use super::clauses::{Clause, PortBlock, numeric_ports};
use super::cluster::{Cluster, PodIndex};
use super::infrastructure::{builtin_policy, builtin_rules};
use super::policies::{Policies, PolicyIndex};
use crate::model::{Collection, CollectionDefault, L7Section, Peer, Peers, Policy, PolicyMode, RuleAction};
use crate::program::{RuleIndex, RuleInfo, RuleNames};
use bulkhead_facts::{Direction, Mode, NamePattern, Tier};
use std::collections::BTreeSet;

/// Which of the two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// What holds.
    Enforced = 0,
    /// What would hold.
    Shadow = 1,
}

impl Version {
    /// Both.
    pub(crate) const BOTH: [Self; 2] = [Self::Enforced, Self::Shadow];
}

/// The rules, isolation and default of one direction. Arrays are `[enforced, shadow]`.
pub(crate) struct Lineup<'a> {
    /// Rules by tier, then in the order of evaluation.
    pub(crate) rules: Vec<LineRule<'a>>,
    /// What the namespace tier does not allow is denied.
    pub(crate) isolated: [bool; 2],
    /// The default lets pass.
    pub(crate) open: [bool; 2],
    /// Mode that the collection holds the pod in.
    pub(crate) mode: Mode,
    /// Direction.
    pub(crate) direction: Direction,
}

/// One rule as it counts here.
pub(crate) struct LineRule<'a> {
    /// Tier.
    pub(crate) tier: Tier,
    /// What a match means.
    pub(crate) action: RuleAction,
    /// What it narrows to.
    pub(crate) section: Option<&'a L7Section>,
    /// Whether it counts in each version.
    pub(crate) counts: [bool; 2],
    /// Where it matches.
    pub(crate) clauses: Vec<Clause>,
    /// Its number in the program.
    pub(crate) index: RuleIndex,
    /// Names among its peers.
    pub(crate) names: Vec<&'a NamePattern>,
    /// The ports that it means on the addresses of those names.
    pub(crate) named_ports: Vec<PortBlock>,
}

impl Lineup<'_> {
    /// True if some rule allows traffic to names.
    pub(crate) fn has_names(&self) -> bool {
        self.rules.iter().any(|rule| !rule.named_ports.is_empty())
    }

    /// True if what no rule allows is denied in this version.
    pub(crate) fn is_confined(&self, version: Version) -> bool {
        self.isolated[version as usize] || !self.open[version as usize]
    }
}

/// Builds the line-up and appends its rules to `infos`.
pub(crate) fn lineup<'a>(
    cluster: &Cluster<'_>,
    policies: &Policies<'a>,
    selecting: &[PolicyIndex],
    collection: Option<&Collection>,
    (pod, direction): (PodIndex, Direction),
    infos: &mut Vec<RuleInfo>,
) -> Lineup<'a> {
    let pod = cluster.pods[pod].1;
    let mode = collection.map_or(Mode::Enforce, |collection| collection.mode_of(&pod.uid));
    let default = collection.map_or(CollectionDefault::Kubernetes, |collection| collection.default);
    let open = match default {
        CollectionDefault::Kubernetes => [true, true],
        CollectionDefault::Deny => [mode != Mode::Enforce, false],
    };
    let mut lineup = Lineup { rules: Vec::new(), isolated: [false; 2], open, mode, direction };
    for at in selecting.iter().filter(|at| policies.all[**at].tier == Tier::Admin) {
        lineup.add_policy(cluster, policies, *at, pod, infos);
    }
    for rule in builtin_rules(cluster, pod, collection, direction) {
        let info = RuleInfo {
            tier: Tier::Infrastructure,
            policy: builtin_policy(),
            rule: rule.name.to_owned(),
            direction,
        };
        lineup.rules.push(LineRule {
            tier: Tier::Infrastructure,
            action: RuleAction::Allow,
            section: None,
            counts: [true, true],
            clauses: rule.clauses,
            index: push_info(infos, info),
            names: Vec::new(),
            named_ports: Vec::new(),
        });
    }
    for at in selecting.iter().filter(|at| policies.all[**at].tier != Tier::Admin) {
        lineup.add_policy(cluster, policies, *at, pod, infos);
    }
    lineup
}

impl<'a> Lineup<'a> {
    fn add_policy(
        &mut self,
        cluster: &Cluster<'_>,
        policies: &Policies<'a>,
        at: PolicyIndex,
        pod: &crate::inventory::Pod,
        infos: &mut Vec<RuleInfo>,
    ) {
        let policy: &'a Policy = policies.all[at];
        let counts = counts(policy, self.mode);
        if policy.tier == Tier::Namespace && policy.isolates[self.direction as usize] {
            // Under `observe` the tier's allows count and nothing else of it.
            self.isolated[0] |= counts[0] && self.mode == Mode::Enforce;
            self.isolated[1] |= counts[1];
        }
        for (position, rule) in policy.rules(self.direction).iter().enumerate() {
            let info = RuleInfo {
                tier: policy.tier,
                policy: policy.origin.clone(),
                rule: rule.name.clone(),
                direction: self.direction,
            };
            let names = names_of(&rule.peers);
            let named_ports = if names.is_empty() { Vec::new() } else { numeric_ports(&rule.ports) };
            self.rules.push(LineRule {
                tier: policy.tier,
                action: rule.action,
                section: rule.l7.as_ref(),
                counts,
                clauses: policies.clauses(cluster, (at, self.direction, position), pod),
                index: push_info(infos, info),
                names,
                named_ports,
            });
        }
    }
}

/// The names that rules of the line-up allow traffic to.
pub(crate) fn names(lineup: &Lineup<'_>) -> Vec<RuleNames> {
    let named = lineup.rules.iter().filter(|rule| !rule.names.is_empty());
    named
        .map(|rule| RuleNames { rule: rule.index, names: rule.names.iter().copied().cloned().collect() })
        .collect()
}

fn names_of(peers: &Peers) -> Vec<&NamePattern> {
    let Peers::These(peers) = peers else { return Vec::new() };
    let names = peers.iter().filter_map(|peer| if let Peer::Name(name) = peer { Some(name) } else { None });
    let names: BTreeSet<&NamePattern> = names.collect();
    names.into_iter().collect()
}

/// In which versions a policy counts: its own mode, and for the namespace tier the collection's.
fn counts(policy: &Policy, mode: Mode) -> [bool; 2] {
    let own = match policy.mode {
        PolicyMode::Inherit => [true, true],
        PolicyMode::Audit => [false, true],
        PolicyMode::AuditRemoval => [true, false],
    };
    let held = policy.tier != Tier::Namespace || mode != Mode::Audit;
    [own[0] && held, own[1]]
}

fn push_info(infos: &mut Vec<RuleInfo>, info: RuleInfo) -> RuleIndex {
    infos.push(info);
    // More rules than the limit are refused before this is used.
    RuleIndex(u32::try_from(infos.len() - 1).unwrap_or(u32::MAX))
}

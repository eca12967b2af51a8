//! Everything that counts for one workload in one direction, in the order of evaluation.

use super::by_name::ByName;
use super::clauses::Clause;
use super::cluster::{Cluster, PodIndex};
use super::infrastructure::{builtin_policy, builtin_rules};
use super::policies::{Policies, PolicyIndex};
use crate::model::{Collection, CollectionDefault, L7Section, Policy, PolicyMode, RuleAction};
use crate::program::{RuleIndex, RuleInfo, RuleNames};
use bulkhead_facts::{Direction, L4Protocol, Mode, Tier};

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
    /// What it matches on addresses that names lead to. Such a line has no clauses: it stands beside the one for all
    /// other peers of the rule, under the same number.
    pub(crate) by_name: Option<ByName<'a>>,
}

/// What bytes have to do with whether a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// Nothing: it matches.
    Any,
    /// They decide.
    Decide,
    /// No bytes of this protocol can be decided on.
    Undecidable,
}

impl LineRule<'_> {
    /// What bytes on a flow of this protocol have to do with whether it matches.
    pub(crate) fn bytes(&self, protocol: L4Protocol) -> Bytes {
        let (mut sections, otherwise) = match (&self.by_name, self.section) {
            (Some(named), _) => (named.sections.iter().collect::<Vec<_>>(), named.otherwise()),
            (None, Some(section)) => (vec![section], Bytes::Undecidable),
            (None, None) => (Vec::new(), Bytes::Any),
        };
        sections.retain(|section| section.runs_on(protocol));
        if sections.is_empty() { otherwise } else { Bytes::Decide }
    }

    /// True if it matches bytes that cannot be read, as far as they can be told not to name anybody.
    pub(crate) fn takes_unread(&self) -> bool {
        self.by_name.as_ref().is_some_and(|named| named.otherwise() == Bytes::Any)
    }
}

impl Lineup<'_> {
    /// True if some rule allows traffic to names.
    pub(crate) fn has_names(&self) -> bool {
        self.rules.iter().any(|rule| rule.by_name.as_ref().is_some_and(|named| !named.ports.is_empty()))
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
            by_name: None,
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
            let line = LineRule {
                tier: policy.tier,
                action: rule.action,
                section: rule.l7.as_ref(),
                counts,
                clauses: policies.clauses(cluster, (at, self.direction, position), pod),
                index: push_info(infos, info),
                by_name: None,
            };
            let named = ByName::of(policy, rule).map(|by_name| LineRule {
                clauses: Vec::new(),
                by_name: Some(by_name),
                ..line
            });
            self.rules.push(line);
            self.rules.extend(named);
        }
    }
}

/// The names that rules of the line-up allow traffic to.
pub(crate) fn names(lineup: &Lineup<'_>) -> Vec<RuleNames> {
    let named = lineup.rules.iter().filter_map(|rule| Some((rule.index, rule.by_name.as_ref()?)));
    named
        .map(|(rule, named)| RuleNames { rule, names: named.names.iter().copied().cloned().collect() })
        .collect()
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

//! The policies in their order of evaluation, indexed by the workloads they select.

use super::clauses::{Clause, egress_clauses, ingress_clauses, reading};
use super::cluster::{Cluster, PodIndex};
use super::peers::{Reach, Reading, reach};
use super::selectors::selects;
use crate::inventory::Pod;
use crate::model::{NamespaceMatch, Operator, Peers, Policy, Rule, Selector, Subject};
use bulkhead_facts::Direction;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Position of a policy in the order of evaluation.
pub(crate) type PolicyIndex = usize;

/// A selector's index key: its namespace if it is one, and one label it asks for if it asks for one.
pub(crate) type SubjectKey<'a> = (Option<&'a str>, Option<(&'a str, &'a str)>);

/// All policies of a set.
pub(crate) struct Policies<'a> {
    /// Sorted by tier, priority, kind, namespace, name.
    pub(crate) all: Vec<&'a Policy>,
    by_subject: HashMap<SubjectKey<'a>, Vec<PolicyIndex>>,
    /// `[ingress, egress]` of each policy, in the order of its rules.
    rules: Vec<[Vec<CompiledRule>; 2]>,
    reaches: Vec<SharedReach<'a>>,
}

/// One rule with what does not depend on the subject.
struct CompiledRule {
    /// Position in [`Policies::reaches`].
    reach: usize,
    egress: OnceLock<Vec<Clause>>,
}

/// Peers that several rules write alike are resolved once.
struct SharedReach<'a> {
    peers: &'a Peers,
    reading: Reading,
    reach: OnceLock<Arc<Reach>>,
}

impl<'a> Policies<'a> {
    pub(crate) fn new(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut all: Vec<&Policy> = policies.into_iter().collect();
        all.sort_by_cached_key(|policy| (policy.tier, policy.priority, &policy.origin, *policy));
        let mut policies =
            Self { rules: Vec::with_capacity(all.len()), all, by_subject: HashMap::new(), reaches: vec![] };
        policies.index_subjects();
        policies.share_reaches();
        policies
    }

    fn index_subjects(&mut self) {
        for (at, policy) in self.all.iter().enumerate() {
            for key in subject_keys(&policy.subject.namespaces, &policy.subject.workloads) {
                self.by_subject.entry(key).or_default().push(at);
            }
        }
    }

    fn share_reaches(&mut self) {
        let mut known: HashMap<(&Peers, Reading), usize> = HashMap::new();
        for policy in &self.all {
            let compiled = Direction::BOTH.map(|direction| {
                let rules = policy.rules(direction).iter();
                rules
                    .map(|rule| {
                        let key = (&rule.peers, reading(rule.action));
                        let reach = *known.entry(key).or_insert_with(|| {
                            let (peers, reading) = key;
                            self.reaches.push(SharedReach { peers, reading, reach: OnceLock::new() });
                            self.reaches.len() - 1
                        });
                        CompiledRule { reach, egress: OnceLock::new() }
                    })
                    .collect()
            });
            self.rules.push(compiled);
        }
    }

    /// The policies that select a pod, in order; none for a pod in its node's network namespace.
    pub(crate) fn selecting(&self, cluster: &Cluster<'_>, pod: PodIndex) -> Vec<PolicyIndex> {
        let (name, pod) = cluster.pods[pod];
        if pod.host_network {
            return Vec::new();
        }
        let namespaces = [Some(name.namespace.as_str()), None];
        let labels = pod.labels.iter().map(|(key, value)| Some((key.as_str(), value.as_str())));
        let labels: Vec<_> = labels.chain([None]).collect();
        let keys =
            namespaces.iter().flat_map(|namespace| labels.iter().map(move |label| (*namespace, *label)));
        let mut selecting: Vec<PolicyIndex> = keys
            .filter_map(|key| self.by_subject.get(&key))
            .flatten()
            .copied()
            .filter(|at| covers(cluster, &self.all[*at].subject, &name.namespace, pod))
            .collect();
        selecting.sort_unstable();
        selecting.dedup();
        selecting
    }

    /// The clauses of one rule for one workload.
    pub(crate) fn clauses(
        &self,
        cluster: &Cluster<'_>,
        (policy, direction, rule): (PolicyIndex, Direction, usize),
        pod: &Pod,
    ) -> Vec<Clause> {
        let compiled = &self.rules[policy][direction as usize][rule];
        let rule: &Rule = &self.all[policy].rules(direction)[rule];
        let shared = &self.reaches[compiled.reach];
        let reach = shared.reach.get_or_init(|| Arc::new(reach(cluster, shared.peers, shared.reading)));
        match direction {
            Direction::Ingress => ingress_clauses(&rule.ports, reach, pod),
            Direction::Egress => {
                let egress = || egress_clauses(cluster, &rule.ports, reach, shared.reading);
                compiled.egress.get_or_init(egress).clone()
            }
        }
    }
}

/// True if the subject names a pod of this namespace with its labels.
pub(crate) fn covers(cluster: &Cluster<'_>, subject: &Subject, namespace: &str, pod: &Pod) -> bool {
    cluster.namespace_matches(&subject.namespaces, namespace) && selects(&subject.workloads, &pod.labels)
}

/// Keys under one of which every selected pod finds the selector.
pub(crate) fn subject_keys<'a>(
    namespaces: &'a NamespaceMatch,
    workloads: &'a Selector,
) -> Vec<SubjectKey<'a>> {
    let namespace = match namespaces {
        NamespaceMatch::Own(own) => Some(own.as_str()),
        NamespaceMatch::Labels(_) => None,
    };
    let asked = workloads.requirements.iter().find_map(|requirement| match &requirement.operator {
        Operator::In(values) => Some((requirement.key.as_str(), values)),
        Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => None,
    });
    match asked {
        Some((key, values)) => values.iter().map(|value| (namespace, Some((key, value.as_str())))).collect(),
        None => vec![(namespace, None)],
    }
}

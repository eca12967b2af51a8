//! The smallest set of stable labels that selects exactly the pods of a workload.

use crate::inventory::{Inventory, Labels, Pod};
use bulkhead_facts::WorkloadRef;
use std::collections::BTreeMap;

/// Labels that change with a rollout, a replica or a release, and so select nothing tomorrow.
const UNSTABLE: [&str; 14] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/job-completion-index",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "version",
    "rollouts-pod-template-hash",
];

/// Labels that name a workload, best first; others follow by name.
const PREFERRED: [&str; 5] =
    ["app.kubernetes.io/name", "app", "k8s-app", "app.kubernetes.io/instance", "app.kubernetes.io/component"];

/// Labels of a selector at most; a workload that needs more is for a person to name.
const LABELS_MAX: usize = 3;

/// The labels, or `None` if no set of stable ones selects exactly the workload's pods among those of its namespace.
pub(super) fn selector(workload: &WorkloadRef, inventory: &Inventory) -> Option<Labels> {
    let in_namespace =
        inventory.pods.iter().filter(|(name, pod)| name.namespace == workload.namespace && !pod.host_network);
    let (own, others): (Vec<&Pod>, Vec<&Pod>) =
        in_namespace.map(|(_, pod)| pod).partition(|pod| pod.workload == *workload);
    let candidates = candidates(&own);
    (1..=LABELS_MAX.min(candidates.len()))
        .find_map(|size| smallest(&candidates, &others, size, &mut Vec::new()))
}

/// Stable labels that all pods share, best first.
fn candidates<'a>(own: &[&'a Pod]) -> Vec<(&'a str, &'a str)> {
    let Some((first, rest)) = own.split_first() else { return Vec::new() };
    let stable = first.labels.iter().filter(|(key, value)| {
        !UNSTABLE.contains(&key.as_str()) && rest.iter().all(|pod| pod.labels.get(*key) == Some(value))
    });
    let mut candidates: Vec<_> = stable.map(|(key, value)| (key.as_str(), value.as_str())).collect();
    candidates.sort_by_key(|(key, _)| {
        (PREFERRED.iter().position(|preferred| preferred == key).unwrap_or(PREFERRED.len()), *key)
    });
    candidates
}

/// The first combination of this size, in order of preference, that no other pod carries.
fn smallest<'a>(
    candidates: &[(&'a str, &'a str)],
    others: &[&Pod],
    size: usize,
    chosen: &mut Vec<(&'a str, &'a str)>,
) -> Option<Labels> {
    if size == 0 {
        let carries = |pod: &&Pod| {
            chosen.iter().all(|(key, value)| pod.labels.get(*key).is_some_and(|own| own == value))
        };
        let labels = || chosen.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        return (!others.iter().any(carries)).then(|| labels().collect::<BTreeMap<_, _>>());
    }
    for (at, candidate) in candidates.iter().enumerate() {
        chosen.push(*candidate);
        let found = smallest(&candidates[at + 1..], others, size - 1, chosen);
        chosen.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

//! Names in policies that the inventory does not know.
//!
//! Warnings, not errors: a policy may be there before the namespace or the workload that it names.

use super::places::Places;
use super::selectors::NAMESPACE_NAME_LABEL;
use crate::diagnostics::{Diagnostic, Report, quoted};
use crate::inventory::{Inventory, Labels, ObjectName};
use crate::model::{NamespaceMatch, Operator, Peer, Peers, Policy, PolicySet, Requirement, Selector};
use bulkhead_facts::Direction;
use std::collections::BTreeMap;

/// Warns of namespaces and Services that are not there, and of subjects and peers that select no pod.
pub fn references<'a>(set: &'a PolicySet, places: &Places, inventory: &'a Inventory) -> Vec<Diagnostic> {
    let mut check = Check { inventory, selected: BTreeMap::new(), reports: BTreeMap::new() };
    for policy in &set.policies {
        check.subject(policy, places);
        for direction in Direction::BOTH {
            for (index, rule) in policy.rules(direction).iter().enumerate() {
                let Peers::These(peers) = &rule.peers else { continue };
                for (number, peer) in peers.iter().enumerate() {
                    if let Some(place) = places.peer(&policy.origin, direction, index, number)
                        && let Some(message) = check.peer(peer)
                    {
                        let report = check
                            .reports
                            .entry(place.file.clone())
                            .or_insert_with(|| Report::new(&*place.file));
                        report
                            .warning("unknown-reference", place.span, message)
                            .help("correct the name, or ignore this if it is yet to come");
                    }
                }
            }
        }
    }
    check.reports.into_values().flat_map(Report::finish).collect()
}

struct Check<'a> {
    inventory: &'a Inventory,
    /// Whether a pod is selected, by selectors that were asked about: rules repeat their peers.
    selected: BTreeMap<(&'a NamespaceMatch, &'a Selector), bool>,
    reports: BTreeMap<String, Report>,
}

impl<'a> Check<'a> {
    fn subject(&mut self, policy: &'a Policy, places: &Places) {
        let Some(place) = places.policies.get(&policy.origin) else { return };
        let subject = &policy.subject;
        let message = match &subject.namespaces {
            NamespaceMatch::Own(name) if !self.inventory.namespaces.contains_key(name) => {
                Some(format!("namespace {} is not in the inventory", quoted(name)))
            }
            NamespaceMatch::Own(_) | NamespaceMatch::Labels(_) => (!self
                .selects(&subject.namespaces, &subject.workloads))
            .then(|| format!("{} selects no pod of the inventory", policy.origin)),
        };
        if let Some(message) = message {
            let report = self.reports.entry(place.file.clone()).or_insert_with(|| Report::new(&*place.file));
            report
                .warning("unknown-reference", place.subject, message)
                .help("correct the selector, or ignore this if the workload is yet to come");
        }
    }

    /// What is missing, if anything.
    fn peer(&mut self, peer: &'a Peer) -> Option<String> {
        match peer {
            Peer::Workloads { namespaces, workloads } => {
                if let Some(name) = self.missing_namespace(namespaces) {
                    return Some(format!("namespace {} is not in the inventory", quoted(&name)));
                }
                (!self.selects(namespaces, workloads))
                    .then(|| "the peer selects no pod of the inventory".to_owned())
            }
            Peer::Service { namespace, name } => {
                let key = ObjectName { namespace: namespace.clone(), name: name.clone() };
                (!self.inventory.services.contains_key(&key)).then(|| {
                    format!("Service {} is not in the inventory", quoted(&format!("{namespace}/{name}")))
                })
            }
            Peer::Nodes(labels) => {
                let selected = |own: &Labels| matches(labels, own);
                (!self.inventory.node_labels.values().any(selected))
                    .then(|| "the peer selects no node of the inventory".to_owned())
            }
            Peer::Cidr { .. } | Peer::Entity(_) | Peer::Name(_) | Peer::Unknown(_) => None,
        }
    }

    fn missing_namespace(&self, namespaces: &NamespaceMatch) -> Option<String> {
        let missing = |name: &&String| !self.inventory.namespaces.contains_key(*name);
        match namespaces {
            NamespaceMatch::Own(name) => Some(name).filter(missing).cloned(),
            NamespaceMatch::Labels(selector) => {
                let by_name = selector.requirements.iter().find(|r| r.key == NAMESPACE_NAME_LABEL)?;
                match &by_name.operator {
                    Operator::In(names) => names.iter().find(missing).cloned(),
                    Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => None,
                }
            }
        }
    }

    fn selects(&mut self, namespaces: &'a NamespaceMatch, workloads: &'a Selector) -> bool {
        let inventory = self.inventory;
        *self.selected.entry((namespaces, workloads)).or_insert_with(|| {
            inventory.pods.iter().any(|(key, pod)| {
                let in_namespace = match namespaces {
                    NamespaceMatch::Own(name) => *name == key.namespace,
                    NamespaceMatch::Labels(selector) => inventory
                        .namespaces
                        .get(&key.namespace)
                        .is_some_and(|labels| matches(selector, labels)),
                };
                in_namespace && matches(workloads, &pod.labels)
            })
        })
    }
}

fn matches(selector: &Selector, labels: &Labels) -> bool {
    selector.requirements.iter().all(|Requirement { key, operator }| {
        let value = labels.get(key);
        match operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    })
}

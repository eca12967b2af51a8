//! What most dialects come to: per direction whether a workload is isolated, what is allowed, what is denied.
//!
//! Denials win over allows and become rules of the admin tier. Allows of a namespaced policy that isolates are a SegmentPolicy. Allows that
//! do not isolate, or that hold in many namespaces, become rules of the admin tier behind every denial, which is the same union;
//! isolation across namespaces is a denial at the end of the baseline tier's first place.

use super::{Carrier, Dialect, present};
use crate::documents::NAMESPACE_NAME_LABEL;
use crate::model::{
    NamespaceMatch, Operator, Peer, Peers, Policy, PolicyMode, Ports, Requirement, Rule, RuleAction,
    Selector, Subject,
};
use crate::yaml::Node;
use bulkhead_facts::{PolicyRef, Tier};

/// Priority of allows in the admin tier: behind every denial.
const LAST: i32 = 1000;

/// One policy of the original.
pub(super) struct Statement {
    pub(super) dialect: Dialect,
    pub(super) name: String,
    /// `None` if it holds in many namespaces.
    pub(super) namespace: Option<String>,
    pub(super) subject: Subject,
    pub(super) mode: PolicyMode,
    /// Ingress and egress.
    pub(super) sides: [Side; 2],
}

/// One direction.
#[derive(Default)]
pub(super) struct Side {
    pub(super) isolates: bool,
    pub(super) allows: Vec<Rule>,
    pub(super) denies: Vec<Rule>,
}

impl Statement {
    /// Writes it into the carrier.
    pub(super) fn carry(self, carrier: &mut Carrier<'_>) {
        let Self { dialect, name, namespace, subject, mode, sides } = self;
        let stem = match &namespace {
            Some(namespace) => format!("{}.{namespace}.{name}", dialect.as_str()),
            None => format!("{}.{name}", dialect.as_str()),
        };
        let [ingress, egress] = sides;
        let cluster = |suffix: &str, tier, priority, ingress, egress| {
            let name = format!("{stem}.{suffix}");
            cluster_policy(name, tier, priority, subject.clone(), mode, [ingress, egress])
        };
        let denies =
            cluster("deny", Tier::Admin, carrier.denials.min(LAST - 1), ingress.denies, egress.denies);
        if denies.is_some() {
            carrier.denials += 1;
        }
        let isolates = [ingress.isolates, egress.isolates];
        let own = |side: bool, rules: Vec<Rule>| match (&namespace, side) {
            (Some(_), true) => (rules, Vec::new()),
            (Some(_) | None, _) => (Vec::new(), rules),
        };
        let (inner_ingress, outer_ingress) = own(isolates[0], ingress.allows);
        let (inner_egress, outer_egress) = own(isolates[1], egress.allows);
        let allows = cluster("allow", Tier::Admin, LAST, outer_ingress, outer_egress);
        let mut found: Vec<Policy> = denies.into_iter().chain(allows).collect();
        match namespace {
            Some(namespace) if isolates != [false; 2] => found.push(Policy {
                origin: PolicyRef {
                    kind: "SegmentPolicy".to_owned(),
                    namespace: Some(namespace.clone()),
                    name,
                },
                tier: Tier::Namespace,
                priority: 0,
                subject: Subject {
                    namespaces: NamespaceMatch::Own(namespace.clone()),
                    workloads: subject.workloads.clone(),
                },
                isolates,
                mode,
                ingress: numbered(within(inner_ingress, &namespace)),
                egress: numbered(within(inner_egress, &namespace)),
            }),
            Some(_) => {}
            None => {
                let closed = |side: bool| if side { vec![deny_all()] } else { Vec::new() };
                found.extend(cluster("isolate", Tier::Baseline, 0, closed(isolates[0]), closed(isolates[1])));
            }
        }
        carrier.policies.extend(found);
    }
}

/// A ClusterSegmentPolicy; `None` without rules.
pub(super) fn cluster_policy(
    name: String,
    tier: Tier,
    priority: i32,
    subject: Subject,
    mode: PolicyMode,
    [ingress, egress]: [Vec<Rule>; 2],
) -> Option<Policy> {
    if ingress.is_empty() && egress.is_empty() {
        return None;
    }
    let origin = PolicyRef { kind: "ClusterSegmentPolicy".to_owned(), namespace: None, name };
    let (ingress, egress) = (numbered(ingress), numbered(egress));
    Some(Policy { origin, tier, priority, subject, isolates: [false; 2], mode, ingress, egress })
}

/// Everybody on every port.
pub(super) fn deny_all() -> Rule {
    rule(RuleAction::Deny, Peers::Any, Ports::Any)
}

/// A rule without a name and a section.
pub(super) fn rule(action: RuleAction, peers: Peers, ports: Ports) -> Rule {
    Rule { name: String::new(), action, peers, ports, l7: None }
}

/// Names of rules: what they do and their number.
fn numbered(mut rules: Vec<Rule>) -> Vec<Rule> {
    for (index, rule) in rules.iter_mut().enumerate() {
        let word = match rule.action {
            RuleAction::Allow => "allow",
            RuleAction::Deny => "deny",
            RuleAction::Pass => "pass",
        };
        rule.name = format!("{word}-{}", index + 1);
    }
    rules
}

/// Peers of the policy's own namespace in their short form.
fn within(mut rules: Vec<Rule>, namespace: &str) -> Vec<Rule> {
    let own = named_namespace(namespace);
    for rule in &mut rules {
        let Peers::These(peers) = &mut rule.peers else { continue };
        for peer in peers {
            if let Peer::Workloads { namespaces, .. } = peer
                && *namespaces == own
            {
                *namespaces = NamespaceMatch::Own(namespace.to_owned());
            }
        }
    }
    rules
}

/// The namespace of a name, by its label.
pub(super) fn named_namespace(name: &str) -> NamespaceMatch {
    NamespaceMatch::Labels(selector(vec![in_values(NAMESPACE_NAME_LABEL, &[name])]))
}

/// `key in values`.
pub(super) fn in_values(key: &str, values: &[&str]) -> Requirement {
    let mut values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    values.sort();
    values.dedup();
    Requirement { key: key.to_owned(), operator: Operator::In(values) }
}

/// A selector in canonical order.
pub(super) fn selector(mut requirements: Vec<Requirement>) -> Selector {
    requirements.sort();
    requirements.dedup();
    Selector { requirements }
}

/// Every pod of these namespaces.
pub(super) fn pods(namespaces: NamespaceMatch) -> Peer {
    Peer::Workloads { namespaces, workloads: Selector::default() }
}

/// Name and namespace of a document.
pub(super) fn head<'a>(carrier: &mut Carrier<'_>, node: &'a Node) -> Option<(&'a str, &'a str)> {
    let metadata = present(node, "metadata");
    let name = metadata.and_then(|metadata| present(metadata, "name")).and_then(Node::as_str);
    let Some(name) = name else {
        carrier.refused(node.span, "a policy without `metadata.name`");
        return None;
    };
    let namespace = metadata.and_then(|metadata| present(metadata, "namespace")).and_then(Node::as_str);
    Some((name, namespace.unwrap_or("default")))
}

/// A selector in the form of Kubernetes; `None` if it is not understood.
pub(super) fn requirements(node: &Node) -> Option<Vec<Requirement>> {
    let mut found = Vec::new();
    for entry in node.as_map()? {
        match entry.key.as_str() {
            "matchLabels" => {
                for label in entry.value.as_map().unwrap_or_default() {
                    found.push(in_values(&label.key, &[scalar(&label.value)?]));
                }
            }
            "matchExpressions" => {
                for expression in entry.value.as_list().unwrap_or_default() {
                    found.push(expression_of(expression)?);
                }
            }
            _ => return None,
        }
    }
    Some(found)
}

fn expression_of(node: &Node) -> Option<Requirement> {
    let entries = node.as_map()?;
    if entries.iter().any(|entry| !["key", "operator", "values"].contains(&entry.key.as_str())) {
        return None;
    }
    let key = node.child("key")?.as_str()?.to_owned();
    let values: Option<Vec<String>> = present(node, "values")
        .and_then(Node::as_list)
        .unwrap_or_default()
        .iter()
        .map(|value| scalar(value).map(ToOwned::to_owned))
        .collect();
    let mut values = values?;
    values.sort();
    values.dedup();
    let operator = match (node.child("operator")?.as_str()?, values.is_empty()) {
        ("In", false) => Operator::In(values),
        ("NotIn", false) => Operator::NotIn(values),
        ("Exists", true) => Operator::Exists,
        ("DoesNotExist", true) => Operator::DoesNotExist,
        _ => return None,
    };
    Some(Requirement { key, operator })
}

fn scalar(node: &Node) -> Option<&str> {
    node.as_str().or_else(|| node.is_null().then_some(""))
}

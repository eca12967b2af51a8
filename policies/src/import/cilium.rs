//! CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy.
//!
//! Other than in Kubernetes a rule without peers and ports selects nobody, and so does an empty list. `ingressDeny` and
//! `egressDeny` win over every allow. A direction with a rule of either kind isolates, unless `enableDefaultDeny` says no.

use super::cilium_peers::{self, Scope};
use super::cilium_ports;
use super::statement::{Side, Statement, head, named_namespace, rule, selector};
use super::{Carrier, Dialect, Sense, items, present};
use crate::model::{NamespaceMatch, Peers, PolicyMode, Ports, Rule, RuleAction, Selector, Subject};
use crate::yaml::Node;
use bulkhead_facts::Direction;

/// Reads one document into as many statements as it has specifications.
pub(super) fn read(carrier: &mut Carrier<'_>, node: &Node, clusterwide: bool) {
    let Some((name, namespace)) = head(carrier, node) else { return };
    carrier.knows_all(node, &["apiVersion", "kind", "metadata", "spec", "specs", "status"]);
    let mut specs: Vec<&Node> = present(node, "spec").into_iter().collect();
    specs.extend(items(carrier, node, "specs"));
    if specs.is_empty() {
        carrier.refused(node.span, "a policy without `spec`");
    }
    for (index, spec) in specs.into_iter().enumerate() {
        let name = if index == 0 { name.to_owned() } else { format!("{name}-{}", index + 1) };
        if let Some(statement) = read_spec(carrier, spec, name, (!clusterwide).then_some(namespace)) {
            statement.carry(carrier);
        }
    }
}

const SPEC_FIELDS: [&str; 9] = [
    "endpointSelector",
    "ingress",
    "ingressDeny",
    "egress",
    "egressDeny",
    "enableDefaultDeny",
    "labels",
    "description",
    "log",
];

fn read_spec(
    carrier: &mut Carrier<'_>,
    spec: &Node,
    name: String,
    namespace: Option<&str>,
) -> Option<Statement> {
    if let Some(nodes) = present(spec, "nodeSelector") {
        carrier.refused(nodes.span, "a policy for nodes: no sidecar protects a node");
        return None;
    }
    let known = carrier.knows_all(spec, &SPEC_FIELDS);
    let subject = read_subject(carrier, spec, namespace);
    let scope = Scope { namespace };
    let sides = Direction::BOTH.map(|direction| read_side(carrier, spec, direction, scope));
    Some(Statement {
        dialect: Dialect::Cilium,
        name,
        namespace: namespace.map(ToOwned::to_owned),
        subject: subject.filter(|_| known)?,
        mode: PolicyMode::Inherit,
        sides,
    })
}

/// The subject has to be exact: a narrower one would leave pods open.
fn read_subject(carrier: &mut Carrier<'_>, spec: &Node, namespace: Option<&str>) -> Option<Subject> {
    let Some(node) = present(spec, "endpointSelector") else {
        carrier.refused(spec.span, "a policy without `endpointSelector`");
        return None;
    };
    let Some(picked) = cilium_peers::pick(node) else {
        carrier.refused(node.span, "`endpointSelector` selects by something that is no label of a pod");
        return None;
    };
    if namespace.is_some() && !picked.namespaces.is_empty() {
        carrier.refused(node.span, "`endpointSelector` of a namespaced policy names a namespace");
        return None;
    }
    let namespaces = match namespace {
        Some(name) => named_namespace(name),
        None if picked.namespaces.is_empty() => NamespaceMatch::Labels(Selector::default()),
        None => NamespaceMatch::Labels(selector(picked.namespaces)),
    };
    Some(Subject { namespaces, workloads: selector(picked.workloads) })
}

fn read_side(carrier: &mut Carrier<'_>, spec: &Node, direction: Direction, scope: Scope<'_>) -> Side {
    let (allow, deny) = match direction {
        Direction::Ingress => ("ingress", "ingressDeny"),
        Direction::Egress => ("egress", "egressDeny"),
    };
    let (allows, denies) = (items(carrier, spec, allow), items(carrier, spec, deny));
    let wish = present(spec, "enableDefaultDeny").and_then(|wish| present(wish, direction.as_str()));
    let wish = wish.and_then(|wish| wish.expect_boolean(&mut carrier.report, direction.as_str()));
    Side {
        isolates: wish.unwrap_or(!allows.is_empty() || !denies.is_empty()),
        allows: allows
            .iter()
            .flat_map(|node| read_rule(carrier, node, direction, Sense::Allow, scope))
            .collect(),
        denies: denies
            .iter()
            .flat_map(|node| read_rule(carrier, node, direction, Sense::Deny, scope))
            .collect(),
    }
}

/// One rule; several for several `toPorts`, since each has its own requests.
fn read_rule(
    carrier: &mut Carrier<'_>,
    node: &Node,
    direction: Direction,
    sense: Sense,
    scope: Scope<'_>,
) -> Vec<Rule> {
    let mut known = cilium_peers::fields(direction).to_vec();
    known.extend(["toPorts", "icmps", "authentication"]);
    let mut lost = carrier.unknown_fields(node, &known);
    if let Some(required) = present(node, "authentication")
        && required.child("mode").and_then(Node::as_str) != Some("disabled")
    {
        lost.push(("`authentication`".to_owned(), required.span));
    }
    for (what, span) in &lost {
        carrier.lost(sense, *span, what);
    }
    if !lost.is_empty() && sense == Sense::Allow {
        return Vec::new();
    }
    let ports = cilium_ports::read(carrier, node, sense);
    let peers = match cilium_peers::read(carrier, node, direction, sense, scope) {
        Some(peers) => peers,
        // Without peers, ports mean everybody; without both, the rule selects nobody.
        None if ports.is_some() => Peers::Any,
        None => return Vec::new(),
    };
    if peers == Peers::These(Vec::new()) {
        return Vec::new();
    }
    let action = if sense == Sense::Allow { RuleAction::Allow } else { RuleAction::Deny };
    let ports = ports.unwrap_or_else(|| vec![(Ports::Any, None)]);
    ports.into_iter().map(|(ports, l7)| Rule { l7, ..rule(action, peers.clone(), ports) }).collect()
}

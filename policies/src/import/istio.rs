//! AuthorizationPolicy of Istio, for its layer 4 and HTTP fields.
//!
//! DENY before ALLOW; a workload that an ALLOW selects is closed for the rest; `spec: {}` allows nothing, `rules: [{}]` everything; DENY
//! without rules does nothing. AUDIT says nothing of verdicts, CUSTOM asks somebody else and is refused. A policy with the
//! dry-run annotation is imported with `mode: audit`.

use super::istio_requests::{Operation, operation};
use super::statement::{Side, Statement, head, in_values, named_namespace, pods, rule, selector};
use super::{Carrier, Dialect, Sense, cilium_peers, items, present, texts};
use crate::documents::NAMESPACE_NAME_LABEL;
use crate::model::{
    Entity, L7Section, NamespaceMatch, Operator, Peer, Peers, PolicyMode, PortMatch, Ports, Requirement,
    Rule, RuleAction, Selector, Subject,
};
use crate::yaml::Node;
use bulkhead_facts::{Cidr, L4Protocol, PortRange};

/// Reads one policy.
pub(super) fn read(carrier: &mut Carrier<'_>, node: &Node) {
    let Some((name, namespace)) = head(carrier, node) else { return };
    let empty = Node { span: node.span, value: crate::yaml::Value::Map(Vec::new()) };
    let spec = present(node, "spec").unwrap_or(&empty);
    let known = carrier.knows_all(node, &["apiVersion", "kind", "metadata", "spec", "status"]);
    let sense = match present(spec, "action").map_or(Some("ALLOW"), Node::as_str) {
        Some("ALLOW") => Sense::Allow,
        Some("DENY") => Sense::Deny,
        Some("AUDIT") => {
            return carrier.narrowed(node.span, "an AUDIT policy, which decides nothing, is left out");
        }
        other => {
            let action = other.unwrap_or("this").to_owned();
            return carrier.refused(node.span, format!("action `{action}`: somebody else decides"));
        }
    };
    let known = carrier.knows_all(spec, &["selector", "rules", "action"]) && known;
    let (Some(workloads), true) = (read_selector(carrier, spec), known) else { return };
    let wide = namespace == carrier.options.root_namespace;
    let namespaces =
        if wide { NamespaceMatch::Labels(Selector::default()) } else { named_namespace(namespace) };
    let mut rules = Vec::new();
    for item in items(carrier, spec, "rules") {
        rules.extend(read_rule(carrier, item, sense));
    }
    let mut ingress = Side { isolates: sense == Sense::Allow, ..Side::default() };
    match sense {
        Sense::Allow => ingress.allows = rules,
        Sense::Deny => ingress.denies = rules,
    }
    Statement {
        dialect: Dialect::Istio,
        name: name.to_owned(),
        namespace: (!wide).then(|| namespace.to_owned()),
        subject: Subject { namespaces, workloads },
        mode: if is_dry_run(node) { PolicyMode::Audit } else { PolicyMode::Inherit },
        sides: [ingress, Side::default()],
    }
    .carry(carrier);
}

fn is_dry_run(node: &Node) -> bool {
    let annotations = present(node, "metadata").and_then(|metadata| present(metadata, "annotations"));
    annotations.and_then(|all| all.child("istio.io/dry-run")).and_then(Node::as_str) == Some("true")
}

fn read_selector(carrier: &mut Carrier<'_>, spec: &Node) -> Option<Selector> {
    let Some(node) = present(spec, "selector") else { return Some(Selector::default()) };
    if !carrier.knows_all(node, &["matchLabels"]) {
        return None;
    }
    let found = super::statement::requirements(node);
    if found.is_none() {
        carrier.refused(node.span, "`selector` is not understood");
    }
    found.map(selector)
}

/// What one source, or all conditions on it together, come to.
#[derive(Clone, Default)]
struct Sources {
    /// Alternatives by namespace, and by address; `None`: not asked for. Both: both have to hold.
    pods: Option<Vec<Peer>>,
    blocks: Option<Vec<Peer>>,
}

/// A field that cannot be expressed: an allow is gone with it, a deny goes on without it.
fn short(carrier: &mut Carrier<'_>, node: &Node, sense: Sense, what: &str) -> Option<()> {
    carrier.lost(sense, node.span, what);
    (sense == Sense::Deny).then_some(())
}

/// One rule, as one of ours for each operation.
fn read_rule(carrier: &mut Carrier<'_>, node: &Node, sense: Sense) -> Vec<Rule> {
    if !carrier.knows_all(node, &["from", "to", "when"]) {
        return Vec::new();
    }
    let Some((conditions, condition_sources)) = read_conditions(carrier, node, sense) else {
        return Vec::new();
    };
    let from = items(carrier, node, "from");
    let mut peers = Vec::new();
    for item in from {
        carrier.knows_all(item, &["source"]);
        let Some(source) = item.child("source") else {
            carrier.refused(item.span, "an item of `from` without `source`");
            continue;
        };
        let read = read_source(carrier, source, sense, condition_sources.clone());
        peers.extend(read.and_then(|sources| peers_of(carrier, source, sense, sources)));
    }
    let peers = match from.is_empty() {
        true => peers_of(carrier, node, sense, condition_sources),
        false => union(peers),
    };
    let Some(peers) = peers else { return Vec::new() };
    let to = items(carrier, node, "to");
    let mut operations = Vec::new();
    for item in to {
        carrier.knows_all(item, &["operation"]);
        match item.child("operation") {
            Some(found) => operations.extend(operation(carrier, found, sense)),
            None => carrier.refused(item.span, "an item of `to` without `operation`"),
        }
    }
    if to.is_empty() {
        operations.push(Operation::default());
    }
    let rules: Vec<Rule> = operations
        .into_iter()
        .filter_map(|operation| built(sense, &peers, operation.and(&conditions)?))
        .collect();
    let wrote_something =
        node.as_map().is_some_and(|fields| fields.iter().any(|field| !field.value.is_null()));
    let takes_all = |rule: &Rule| rule.peers == Peers::Any && rule.ports == tcp() && rule.l7.is_none();
    if sense == Sense::Deny && wrote_something && rules.iter().any(takes_all) {
        carrier
            .refused(node.span, "nothing of what narrows this deny can be carried: it would deny everything");
        return Vec::new();
    }
    rules
}

fn union(all: Vec<Peers>) -> Option<Peers> {
    let mut found = Vec::new();
    for peers in all {
        match peers {
            Peers::Any => return Some(Peers::Any),
            Peers::These(peers) => found.extend(peers),
        }
    }
    (!found.is_empty()).then_some(Peers::These(found))
}

/// Istio speaks of TCP only.
fn tcp() -> Ports {
    Ports::These(vec![PortMatch::Range(L4Protocol::TCP, PortRange::ALL)])
}

fn built(sense: Sense, peers: &Peers, operation: Operation) -> Option<Rule> {
    let ports = match (operation.ports, sense) {
        (Some(ranges), _) if ranges.is_empty() => return None,
        (Some(ranges), _) => {
            Ports::These(ranges.into_iter().map(|range| PortMatch::Range(L4Protocol::TCP, range)).collect())
        }
        // What is not TCP passes there anyway.
        (None, Sense::Allow) if operation.requests.is_none() => Ports::Any,
        (None, _) => tcp(),
    };
    let action = if sense == Sense::Allow { RuleAction::Allow } else { RuleAction::Deny };
    let l7 = operation.requests.map(L7Section::Http);
    Some(Rule { l7, ..rule(action, peers.clone(), ports) })
}

fn read_source(
    carrier: &mut Carrier<'_>,
    node: &Node,
    sense: Sense,
    mut sources: Sources,
) -> Option<Sources> {
    if node.as_map().is_none_or(<[_]>::is_empty) {
        carrier.refused(node.span, "an empty `source`, which Istio refuses");
        return None;
    }
    for entry in node.as_map()? {
        let values: Vec<(&str, _)> = texts(carrier, node, &entry.key);
        let values: Vec<&str> = values.into_iter().map(|(text, _)| text).collect();
        narrow(carrier, &mut sources, &entry.key, &values, &entry.value, sense)?;
    }
    Some(sources)
}

/// Adds one list of values to what has to hold of the source.
fn narrow(
    carrier: &mut Carrier<'_>,
    sources: &mut Sources,
    field: &str,
    values: &[&str],
    node: &Node,
    sense: Sense,
) -> Option<()> {
    if values.is_empty() {
        carrier.refused(node.span, format!("`{field}` without values, which Istio refuses"));
        return None;
    }
    let (slot, peers) = match field {
        "namespaces" => (&mut sources.pods, in_namespaces(values)),
        "notNamespaces" => (&mut sources.pods, not_in_namespaces(values)),
        "ipBlocks" => {
            (&mut sources.blocks, parsed(values).map(|blocks| blocks.into_iter().map(whole).collect()))
        }
        "notIpBlocks" => (&mut sources.blocks, parsed(values).map(|holes| outside(&holes))),
        _ => return short(carrier, node, sense, &format!("`{field}`")),
    };
    let Some(peers) = peers else { return short(carrier, node, sense, &format!("a value of `{field}`")) };
    let joined = match slot.take() {
        None => Some(peers),
        Some(before) => both(&before, &peers),
    };
    match joined {
        Some(peers) => {
            *slot = Some(peers);
            Some(())
        }
        // A deny goes on without either.
        None => {
            sources.blocks = None;
            sources.pods = None;
            short(carrier, node, sense, &format!("`{field}` together with another limit of the source"))
        }
    }
}

/// Blocks that both name, less what either leaves out; `None` if they are no blocks.
fn both(left: &[Peer], right: &[Peer]) -> Option<Vec<Peer>> {
    let mut found = Vec::new();
    for a in left {
        for b in right {
            let (Peer::Cidr { block: a, except: less }, Peer::Cidr { block: b, except: more }) = (a, b)
            else {
                return None;
            };
            let inner = if a.covers(*b) { *b } else { *a };
            if a.covers(*b) || b.covers(*a) {
                found.extend(cilium_peers::except(inner, less.iter().chain(more).copied().collect()));
            }
        }
    }
    Some(found)
}

fn parsed(values: &[&str]) -> Option<Vec<Cidr>> {
    values.iter().map(|text| text.parse().ok()).collect()
}

fn whole(block: Cidr) -> Peer {
    Peer::Cidr { block, except: Vec::new() }
}

fn outside(holes: &[Cidr]) -> Vec<Peer> {
    let everything = ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse().ok());
    everything.filter_map(|block| cilium_peers::except(block, holes.to_vec())).collect()
}

fn in_namespaces(names: &[&str]) -> Option<Vec<Peer>> {
    if names.contains(&"*") {
        return Some(vec![pods(NamespaceMatch::Labels(Selector::default()))]);
    }
    let plain = names.iter().all(|name| !name.contains('*'));
    let labels = selector(vec![in_values(NAMESPACE_NAME_LABEL, names)]);
    plain.then(|| vec![pods(NamespaceMatch::Labels(labels))])
}

/// Pods of other namespaces, and everybody who is of none.
fn not_in_namespaces(names: &[&str]) -> Option<Vec<Peer>> {
    if names.iter().any(|name| name.contains('*')) {
        return None;
    }
    let mut values: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    values.sort();
    values.dedup();
    let other = Requirement { key: NAMESPACE_NAME_LABEL.to_owned(), operator: Operator::NotIn(values) };
    Some(vec![
        pods(NamespaceMatch::Labels(selector(vec![other]))),
        Peer::Entity(Entity::World),
        Peer::Entity(Entity::Node),
    ])
}

/// One list of peers of it all; `None` if an allow is gone or nobody is meant.
fn peers_of(carrier: &mut Carrier<'_>, node: &Node, sense: Sense, sources: Sources) -> Option<Peers> {
    let peers = match (sources.pods, sources.blocks) {
        (None, None) => return Some(Peers::Any),
        (Some(peers), None) | (None, Some(peers)) => peers,
        (Some(peers), Some(_)) => {
            short(carrier, node, sense, "namespaces and address blocks of one source together")?;
            peers
        }
    };
    (!peers.is_empty()).then_some(Peers::These(peers))
}

/// What `when` adds to every operation, and to every source; `None` if the rule is gone.
fn read_conditions(carrier: &mut Carrier<'_>, node: &Node, sense: Sense) -> Option<(Operation, Sources)> {
    let (mut operation, mut sources) = (Operation::default(), Sources::default());
    for item in items(carrier, node, "when") {
        let lists = [("values", false), ("notValues", true)];
        if !carrier.knows_all(item, &["key", "values", "notValues"]) {
            return None;
        }
        if lists.iter().all(|(list, _)| present(item, list).is_none()) {
            carrier.refused(item.span, "a condition without values, which Istio refuses");
            return None;
        }
        let key = item.child("key").and_then(Node::as_str).unwrap_or_default();
        for (list, negated) in lists.into_iter().filter(|(list, _)| present(item, list).is_some()) {
            let values: Vec<&str> = texts(carrier, item, list).into_iter().map(|(text, _)| text).collect();
            match (key, negated) {
                ("source.ip", false) => narrow(carrier, &mut sources, "ipBlocks", &values, item, sense)?,
                ("source.ip", true) => narrow(carrier, &mut sources, "notIpBlocks", &values, item, sense)?,
                ("source.namespace", false) => {
                    narrow(carrier, &mut sources, "namespaces", &values, item, sense)?;
                }
                ("source.namespace", true) => {
                    narrow(carrier, &mut sources, "notNamespaces", &values, item, sense)?;
                }
                _ => match super::istio_requests::condition(key, negated, &values) {
                    Some(found) => match operation.clone().and(&found) {
                        Some(both) => operation = both,
                        None => short(carrier, item, sense, &format!("condition `{key}` beside another"))?,
                    },
                    None => short(carrier, item, sense, &format!("condition `{key}`"))?,
                },
            }
        }
    }
    Some((operation, sources))
}

//! NetworkPolicy and GlobalNetworkPolicy of Calico, of its tier `default`.
//!
//! Rules are ordered and the first match decides, across policies by their `order`: so all become ClusterSegmentPolicies of the admin
//! tier in that order. The denial at the end of the tier stands in the baseline tier, behind the NetworkPolicies of Kubernetes, which
//! Calico keeps in the same tier. `Log` decides nothing. Staged policies hold nothing.

use super::calico_selector::{self, Alternatives};
use super::statement::{cluster_policy, deny_all, head, in_values, rule, selector};
use super::{Carrier, Sense, cilium_peers, istio_requests, items, present, texts};
use crate::documents::NAMESPACE_NAME_LABEL;
use crate::model::{
    HttpMatch, L7Section, NamespaceMatch, Peer, Peers, Policy, PolicyMode, PortMatch, Ports, Requirement,
    Rule, RuleAction, Selector, Subject,
};
use crate::yaml::Node;
use bulkhead_facts::{Direction, L4Protocol, PathTemplate, PortRange, Tier};

/// A policy with its place among the others.
pub(super) struct Ordered {
    /// Bits of `order` in an order that compares, then the name.
    key: (u64, String),
    subject: Subject,
    isolates: [bool; 2],
    rules: [Vec<Rule>; 2],
}

/// The policies in order, each with its own priority as long as there are enough, and what closes their subjects.
pub(super) fn in_order(mut all: Vec<Ordered>) -> Vec<Policy> {
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let mut found = Vec::new();
    for (index, policy) in all.into_iter().enumerate() {
        // Behind the last priority a tie is settled by name, so the name begins with the place.
        let priority = i32::try_from(index).unwrap_or(i32::MAX).min(1000);
        let stem = format!("calico.{index:06}.{}", policy.key.1);
        let closed = policy.isolates.map(|side| if side { vec![deny_all()] } else { Vec::new() });
        let mode = PolicyMode::Inherit;
        found.extend(cluster_policy(
            stem.clone(),
            Tier::Admin,
            priority,
            policy.subject.clone(),
            mode,
            policy.rules,
        ));
        found.extend(cluster_policy(
            format!("{stem}.isolate"),
            Tier::Baseline,
            0,
            policy.subject,
            mode,
            closed,
        ));
    }
    found
}

const SPEC_FIELDS: [&str; 9] = [
    "tier",
    "order",
    "selector",
    "namespaceSelector",
    "types",
    "ingress",
    "egress",
    "performanceHints",
    "serviceAccountSelector",
];

/// Reads one document.
pub(super) fn read(carrier: &mut Carrier<'_>, node: &Node, kind: &str) {
    let global = match kind {
        "NetworkPolicy" => false,
        "GlobalNetworkPolicy" => true,
        _ if kind.starts_with("Staged") => {
            return carrier.narrowed(node.span, format!("a {kind}, which holds nothing yet, is left out"));
        }
        _ => return carrier.refused(node.span, format!("a {kind} changes what policies mean")),
    };
    let (Some((name, namespace)), Some(spec)) = (head(carrier, node), present(node, "spec")) else {
        return carrier.refused(node.span, "a policy without `spec`");
    };
    let mut known = carrier.knows_all(node, &["apiVersion", "kind", "metadata", "spec"]);
    known &= carrier.knows_all(spec, &SPEC_FIELDS);
    if let Some(tier) = present(spec, "tier")
        && tier.as_str() != Some("default")
    {
        return carrier
            .refused(tier.span, "a tier other than `default`: its end and its `Pass` have no counterpart");
    }
    if let Some(accounts) = present(spec, "serviceAccountSelector")
        && accounts.as_str() != Some("")
    {
        return carrier.refused(accounts.span, "`serviceAccountSelector` of the subject");
    }
    let Some(key) = order(carrier, spec) else { return };
    let home = (!global).then_some(namespace);
    let subjects = subjects(carrier, spec, home);
    let sides = Direction::BOTH.map(|direction| items(carrier, spec, direction.as_str()));
    let isolates = types(carrier, spec, [!sides[0].is_empty(), !sides[1].is_empty()]);
    let rules = Direction::BOTH.map(|direction| {
        let written = if isolates[direction as usize] { sides[direction as usize] } else { &[] };
        written.iter().flat_map(|item| read_rule(carrier, item, direction, home)).collect::<Vec<_>>()
    });
    let (Some(subjects), true) = (subjects, known) else { return };
    let several = subjects.len() > 1;
    for (index, subject) in subjects.into_iter().enumerate() {
        let mut name = home.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}.{name}"));
        if several {
            name = format!("{name}-{}", index + 1);
        }
        carrier.ordered.push(Ordered { key: (key, name), subject, isolates, rules: rules.clone() });
    }
}

/// `order` as bits that compare like the number; none is last.
fn order(carrier: &mut Carrier<'_>, spec: &Node) -> Option<u64> {
    let Some(node) = present(spec, "order") else { return Some(u64::MAX) };
    let number =
        node.as_scalar().and_then(|scalar| scalar.text.parse::<f64>().ok()).filter(|n| n.is_finite());
    let Some(number) = number else {
        carrier.refused(node.span, "`order` is no number");
        return None;
    };
    let bits = (number + 0.0).to_bits();
    Some(if bits >> 63 == 1 { !bits } else { bits | 1 << 63 })
}

/// Ingress if there is no egress rule; egress where there is one.
fn types(carrier: &mut Carrier<'_>, spec: &Node, written: [bool; 2]) -> [bool; 2] {
    let named = texts(carrier, spec, "types");
    if named.is_empty() {
        return [written[0] || !written[1], written[1]];
    }
    for (text, span) in &named {
        if !["ingress", "egress"].iter().any(|known| text.eq_ignore_ascii_case(known)) {
            carrier.refused(*span, format!("type `{text}` is neither `Ingress` nor `Egress`"));
        }
    }
    let has = |name: &str| named.iter().any(|(text, _)| text.eq_ignore_ascii_case(name));
    [has("ingress"), has("egress")]
}

/// Subjects have to be exact, one for each alternative.
fn subjects(carrier: &mut Carrier<'_>, spec: &Node, home: Option<&str>) -> Option<Vec<Subject>> {
    let found = workloads(present(spec, "selector"), present(spec, "namespaceSelector"), home);
    if found.is_none() {
        carrier.refused(spec.span, "the selector of the subject has no counterpart");
    }
    Some(found?.into_iter().map(|(namespaces, workloads)| Subject { namespaces, workloads }).collect())
}

/// Pods by both selectors; `None` if one cannot be expressed.
fn workloads(
    pods: Option<&Node>,
    namespaces: Option<&Node>,
    home: Option<&str>,
) -> Option<Vec<(NamespaceMatch, Selector)>> {
    let alternatives = |node: Option<&Node>| -> Option<Alternatives> {
        calico_selector::parse(node.map_or(Some(""), Node::as_str)?)
    };
    let by_namespace = match (namespaces, home) {
        (None, Some(home)) => vec![vec![in_values(NAMESPACE_NAME_LABEL, &[home])]],
        (namespaces, _) => alternatives(namespaces)?,
    };
    let mut found = Vec::new();
    for pod in alternatives(pods)? {
        for namespace in &by_namespace {
            let (mut of_namespace, mut of_pod) = (Vec::new(), Vec::new());
            for requirement in namespace {
                of_namespace.push(renamed(requirement, "projectcalico.org/name")?);
            }
            for requirement in &pod {
                let renamed = renamed(requirement, "projectcalico.org/namespace")?;
                let list = if renamed.key == *requirement.key { &mut of_pod } else { &mut of_namespace };
                list.push(renamed);
            }
            found.push((NamespaceMatch::Labels(selector(of_namespace)), selector(of_pod)));
        }
    }
    Some(found)
}

/// The requirement with the label of a namespace's name as Kubernetes calls it; `None` for other labels that Calico makes up.
fn renamed(requirement: &Requirement, name: &str) -> Option<Requirement> {
    let key = requirement.key.as_str();
    let made_up =
        key.starts_with("projectcalico.org/") || key.starts_with("pcns.") || key.starts_with("pcsa.");
    match key {
        key if key == name => {
            Some(Requirement { key: NAMESPACE_NAME_LABEL.to_owned(), operator: requirement.operator.clone() })
        }
        _ => (!made_up).then(|| requirement.clone()),
    }
}

fn read_rule(
    carrier: &mut Carrier<'_>,
    node: &Node,
    direction: Direction,
    home: Option<&str>,
) -> Option<Rule> {
    let action = present(node, "action").and_then(Node::as_str).unwrap_or_default();
    let (sense, action) = match action {
        "Allow" => (Sense::Allow, RuleAction::Allow),
        "Deny" => (Sense::Deny, RuleAction::Deny),
        "Log" => return None,
        _ => {
            carrier.refused(node.span, "a rule that is neither `Allow`, `Deny` nor `Log`: what comes behind the tier is not imported");
            return None;
        }
    };
    let (near, far) = match direction {
        Direction::Ingress => ("destination", "source"),
        Direction::Egress => ("source", "destination"),
    };
    let empty = Node { span: node.span, value: crate::yaml::Value::Map(Vec::new()) };
    let far_node = present(node, far).unwrap_or(&empty);
    let near_node = present(node, near).unwrap_or(&empty);
    // Ports are the destination's; what else is said of the near end would split the subject.
    let (near_known, far_known): (&[&str], &[&str]) = match direction {
        Direction::Ingress => (&["ports", "notPorts"], &PEER_FIELDS),
        Direction::Egress => (&[], &PEER_AND_PORT_FIELDS),
    };
    let mut lost = carrier
        .unknown_fields(node, &["action", "protocol", "icmp", "source", "destination", "http", "metadata"]);
    lost.extend(carrier.unknown_fields(near_node, near_known));
    lost.extend(carrier.unknown_fields(far_node, far_known));
    for (what, span) in &lost {
        carrier.lost(sense, *span, what);
    }
    if !lost.is_empty() && sense == Sense::Allow {
        return None;
    }
    let peers = read_peers(carrier, far_node, sense, home)?;
    let target = if direction == Direction::Ingress { near_node } else { far_node };
    let ports = read_ports(carrier, node, target, sense)?;
    let l7 = match present(node, "http") {
        None => None,
        Some(http) if sense == Sense::Allow && is_tcp(node) => {
            Some(L7Section::Http(requests(carrier, http)?))
        }
        Some(http) => {
            carrier.refused(http.span, "`http` in a rule that does not allow TCP, which Calico refuses");
            return None;
        }
    };
    Some(Rule { l7, ..rule(action, peers, ports) })
}

const PEER_FIELDS: [&str; 4] = ["nets", "notNets", "selector", "namespaceSelector"];
const PEER_AND_PORT_FIELDS: [&str; 6] =
    ["nets", "notNets", "selector", "namespaceSelector", "ports", "notPorts"];

/// Whom the far end names; `None` if an allow is gone or nobody is meant.
fn read_peers(carrier: &mut Carrier<'_>, node: &Node, sense: Sense, home: Option<&str>) -> Option<Peers> {
    let mut blocks = Vec::new();
    for item in items(carrier, node, "nets") {
        blocks.push(carrier.cidr(item)?);
    }
    let mut holes = Vec::new();
    for item in items(carrier, node, "notNets") {
        holes.push(carrier.cidr(item)?);
    }
    // An empty expression counts as none.
    let written = |name| present(node, name).filter(|text| text.as_str() != Some(""));
    let (pods, namespaces) = (written("selector"), written("namespaceSelector"));
    let by_address = !blocks.is_empty() || !holes.is_empty();
    if pods.is_some() || namespaces.is_some() {
        if by_address {
            carrier.lost(sense, node.span, "addresses and a selector together");
            if sense == Sense::Allow {
                return None;
            }
        }
        return match workloads(pods, namespaces, home) {
            Some(found) => Some(Peers::These(
                found
                    .into_iter()
                    .map(|(namespaces, workloads)| Peer::Workloads { namespaces, workloads })
                    .collect(),
            )),
            None => {
                carrier.lost(sense, node.span, "this selector");
                (sense == Sense::Deny).then_some(Peers::Any)
            }
        };
    }
    if !by_address {
        return Some(Peers::Any);
    }
    if blocks.is_empty() {
        blocks.extend(
            ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse::<bulkhead_facts::Cidr>().ok()),
        );
    }
    let peers: Vec<Peer> =
        blocks.into_iter().filter_map(|block| cilium_peers::except(block, holes.clone())).collect();
    (!peers.is_empty()).then_some(Peers::These(peers))
}

fn is_tcp(node: &Node) -> bool {
    let protocol = present(node, "protocol").and_then(Node::as_scalar);
    protocol.is_some_and(|text| text.text.eq_ignore_ascii_case("tcp") || text.text == "6")
}

/// Protocol and ports; `None` if an allow is gone.
fn read_ports(carrier: &mut Carrier<'_>, node: &Node, target: &Node, sense: Sense) -> Option<Ports> {
    let written = texts(carrier, target, "ports");
    let refused = texts(carrier, target, "notPorts");
    let Some(named) = present(node, "protocol") else {
        if written.is_empty() && refused.is_empty() && present(node, "icmp").is_none() {
            return Some(Ports::Any);
        }
        carrier.lost(sense, node.span, "ports without a protocol");
        return (sense == Sense::Deny).then_some(Ports::Any);
    };
    let text = named.as_scalar().map_or("", |scalar| scalar.text.as_str());
    let protocol = L4Protocol::parse(text).or_else(|| text.parse().ok().map(L4Protocol));
    let protocol = protocol.filter(|protocol| protocol.has_ports() || protocol.is_icmp());
    let Some(protocol) = protocol else {
        carrier.lost(sense, named.span, "this protocol");
        return (sense == Sense::Deny).then_some(Ports::Any);
    };
    if protocol.is_icmp() {
        return messages(carrier, node, protocol, sense);
    }
    let mut found = Vec::new();
    for (text, span) in &written {
        match port(text, protocol) {
            Some(port) => found.push(port),
            None => {
                carrier.lost(sense, *span, "this port");
                if sense == Sense::Deny {
                    return Some(Ports::These(vec![PortMatch::Range(protocol, PortRange::ALL)]));
                }
            }
        }
    }
    if written.is_empty() {
        found.push(PortMatch::Range(protocol, PortRange::ALL));
    }
    if !refused.is_empty() {
        found = less(carrier, found, &refused, protocol, sense)?;
    }
    (!found.is_empty()).then_some(Ports::These(found))
}

/// Ports less others; names cannot be taken away.
fn less(
    carrier: &mut Carrier<'_>,
    found: Vec<PortMatch>,
    refused: &[(&str, crate::diagnostics::Span)],
    protocol: L4Protocol,
    sense: Sense,
) -> Option<Vec<PortMatch>> {
    let range = |port: &PortMatch| match port {
        PortMatch::Range(_, range) => Some(*range),
        PortMatch::Named(..) => None,
    };
    let holes: Option<Vec<PortRange>> =
        refused.iter().map(|(text, _)| port(text, protocol).and_then(|port| range(&port))).collect();
    let ranges: Option<Vec<PortRange>> = found.iter().map(range).collect();
    let (Some(holes), Some(ranges)) = (holes, ranges) else {
        carrier.lost(sense, refused[0].1, "`notPorts` with names");
        return (sense == Sense::Deny).then_some(found);
    };
    let rest = istio_requests::other_ports(&holes);
    let pairs = ranges.iter().flat_map(|a| rest.iter().map(move |b| (a, b)));
    let both = pairs.filter_map(|(a, b)| PortRange::new(a.first().max(b.first()), a.last().min(b.last())));
    Some(both.map(|range| PortMatch::Range(protocol, range)).collect())
}

fn port(text: &str, protocol: L4Protocol) -> Option<PortMatch> {
    if let Some((first, last)) = text.split_once(':') {
        let range = PortRange::new(first.parse().ok()?, last.parse().ok()?)?;
        return Some(PortMatch::Range(protocol, range));
    }
    match text.parse::<u16>() {
        Ok(number) => Some(PortMatch::Range(protocol, PortRange::single(number))),
        Err(_) => Some(PortMatch::Named(Some(protocol), text.to_owned())),
    }
}

fn messages(carrier: &mut Carrier<'_>, node: &Node, protocol: L4Protocol, sense: Sense) -> Option<Ports> {
    let all = PortMatch::Range(protocol, PortRange::ALL);
    let kind = present(node, "icmp").and_then(|icmp| present(icmp, "type")).and_then(Node::as_scalar);
    let code = present(node, "icmp").is_some_and(|icmp| present(icmp, "code").is_some());
    let kind = kind.and_then(|kind| kind.text.parse::<u8>().ok());
    match (kind, sense) {
        (Some(kind), _) if !code => {
            Some(Ports::These(vec![PortMatch::Range(protocol, PortRange::icmp_type(kind))]))
        }
        (None, _) if present(node, "icmp").is_none() && protocol == L4Protocol::ICMPV6 => {
            Some(Ports::These(vec![all]))
        }
        (_, Sense::Deny) => {
            carrier.lost(sense, node.span, "these messages of ICMP");
            // All of ICMP is written for both families at once.
            Some(Ports::These(vec![all]))
        }
        (_, Sense::Allow) => {
            carrier.lost(sense, node.span, "ICMP without a type, or with a code,");
            None
        }
    }
}

fn requests(carrier: &mut Carrier<'_>, node: &Node) -> Option<Vec<HttpMatch>> {
    if !carrier.knows_all(node, &["methods", "paths"]) {
        return None;
    }
    let methods = texts(carrier, node, "methods").into_iter().map(|(text, _)| text.to_owned()).collect();
    let written = items(carrier, node, "paths");
    let first = HttpMatch { methods, ..HttpMatch::default() };
    if written.is_empty() {
        return Some(vec![first]);
    }
    let mut found = Vec::new();
    for item in written {
        let paths = path(carrier, item);
        if paths.is_empty() {
            carrier.lost(Sense::Allow, item.span, "this path");
        }
        found.extend(paths.into_iter().map(|path| HttpMatch { path: Some(path), ..first.clone() }));
    }
    (!found.is_empty()).then_some(found)
}

/// Templates of a path: an exact one, or a prefix, of which only whole segments are allowed.
fn path(carrier: &mut Carrier<'_>, node: &Node) -> Vec<PathTemplate> {
    let text = |name| present(node, name).and_then(Node::as_str);
    let parse = |text: &str| PathTemplate::parse(text).ok().filter(|_| !text.contains(['{', '?']));
    match (text("exact"), text("prefix")) {
        (Some(exact), None) if carrier.options.ignore_query_and_port => parse(exact).into_iter().collect(),
        (None, Some(prefix)) => {
            let folder = prefix.strip_suffix('/');
            let below = PathTemplate::parse(&format!("{}/**", folder.unwrap_or(prefix))).ok();
            let below = below.filter(|_| !prefix.contains(['{', '?', '*']));
            if folder.is_some() {
                return below.into_iter().collect();
            }
            carrier.narrowed(node.span, format!("of the prefix `{prefix}` only whole segments are allowed"));
            parse(prefix).into_iter().chain(below).collect()
        }
        _ => Vec::new(),
    }
}

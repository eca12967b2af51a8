//! NvSecurityRule and NvClusterSecurityRule of NeuVector: the network rules.
//!
//! A group is its criteria: `domain` is the namespace, a key of one's own a label; criteria of one key are alternatives. In the mode Protect a
//! group is closed in both directions, in Discover and Monitor it is imported with `mode: audit`. Rules are ordered there; here every denial
//! wins. Of applications HTTP, SSL, DNS, Redis, PostgreSQL and Kafka can be told from others; an allow of another one is left out. Rules for processes
//! and files, and sensors, are no network policy.

use super::statement::{Side, Statement, head, in_values, named_namespace, rule, selector};
use super::{Carrier, Dialect, Sense, cilium_peers, items, present};
use crate::documents::NAMESPACE_NAME_LABEL;
use crate::model::{
    DnsMatch, Entity, HttpMatch, KafkaMatch, L7Section, NamespaceMatch, Peer, Peers, PolicyMode, PortMatch,
    Ports, PostgresMatch, RedisMatch, Requirement, Rule, RuleAction, Selector, Subject, TlsMatch,
};
use crate::yaml::Node;
use bulkhead_facts::{Cidr, Direction, L4Protocol, PortRange};
use std::collections::BTreeMap;

/// Reads one document.
pub(super) fn read(carrier: &mut Carrier<'_>, node: &Node, clusterwide: bool) {
    let Some((name, namespace)) = head(carrier, node) else { return };
    let Some(spec) = present(node, "spec") else {
        return carrier.refused(node.span, "a rule without `spec`");
    };
    let unread = ["process", "file", "process_profile", "dlp", "waf"];
    for field in unread.iter().filter_map(|field| present(spec, field)) {
        if field.as_list().is_some_and(|list| !list.is_empty()) {
            carrier.narrowed(field.span, "rules that are not about the network are left out");
        }
    }
    let known = carrier.knows_all(spec, &[&["target", "ingress", "egress"][..], &unread].concat());
    let target = present(spec, "target");
    let group = target.and_then(|target| present(target, "selector")).and_then(group);
    let Some(Group::Pods(namespaces, workloads)) = group else {
        let span = target.map_or(spec.span, |target| target.span);
        return carrier.refused(span, "the target is no group of labels within namespaces");
    };
    let home = (!clusterwide).then(|| named_namespace(namespace));
    if !known || home.as_ref().is_some_and(|home| *home != namespaces && namespaces != every_namespace()) {
        return carrier.refused(spec.span, "the target is in another namespace than its rule");
    }
    let mode = match target.and_then(|target| present(target, "policymode")).and_then(Node::as_str) {
        Some("Discover" | "Monitor") => PolicyMode::Audit,
        _ => PolicyMode::Inherit,
    };
    let sides = Direction::BOTH.map(|direction| read_side(carrier, spec, direction));
    Statement {
        dialect: Dialect::Neuvector,
        name: object_name(name),
        namespace: home.is_some().then(|| namespace.to_owned()),
        subject: Subject { namespaces: home.unwrap_or(namespaces), workloads },
        mode,
        sides,
    }
    .carry(carrier);
}

/// Names of groups have dots and upper case.
fn object_name(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', ':'], "-")
}

fn every_namespace() -> NamespaceMatch {
    NamespaceMatch::Labels(Selector::default())
}

fn read_side(carrier: &mut Carrier<'_>, spec: &Node, direction: Direction) -> Side {
    let mut side = Side { isolates: true, ..Side::default() };
    for item in items(carrier, spec, direction.as_str()) {
        let sense = match present(item, "action").and_then(Node::as_str) {
            Some("allow") => Sense::Allow,
            Some("deny") => Sense::Deny,
            _ => {
                carrier.refused(item.span, "a rule that neither allows nor denies");
                continue;
            }
        };
        let rules = read_rule(carrier, item, sense);
        if sense == Sense::Deny && !side.allows.is_empty() {
            carrier.narrowed(item.span, "a denial behind an allow: here it wins");
        }
        match sense {
            Sense::Allow => side.allows.extend(rules),
            Sense::Deny => side.denies.extend(rules),
        }
    }
    side
}

const RULE_FIELDS: [&str; 6] = ["name", "action", "applications", "ports", "priority", "selector"];

fn read_rule(carrier: &mut Carrier<'_>, node: &Node, sense: Sense) -> Vec<Rule> {
    let unknown = carrier.unknown_fields(node, &RULE_FIELDS);
    for (what, span) in &unknown {
        carrier.lost(sense, *span, what);
    }
    if sense == Sense::Allow && !unknown.is_empty() {
        return Vec::new();
    }
    let peers = match present(node, "selector").and_then(group) {
        Some(Group::Pods(namespaces, workloads)) => {
            Peers::These(vec![Peer::Workloads { namespaces, workloads }])
        }
        Some(Group::Peers(peers)) => Peers::These(peers),
        Some(Group::Anybody) => Peers::Any,
        None => {
            carrier.lost(sense, node.span, "the group of this rule");
            if sense == Sense::Allow {
                return Vec::new();
            }
            Peers::Any
        }
    };
    let ports =
        match ports(present(node, "ports").and_then(Node::as_scalar).map_or("any", |text| &text.text), sense)
        {
            Some(ports) => ports,
            None => {
                carrier.lost(sense, node.span, "these ports");
                if sense == Sense::Allow {
                    return Vec::new();
                }
                Ports::Any
            }
        };
    let action = if sense == Sense::Allow { RuleAction::Allow } else { RuleAction::Deny };
    let openings = applications(carrier, node, ports, sense);
    openings.into_iter().map(|(ports, l7)| Rule { l7, ..rule(action, peers.clone(), ports) }).collect()
}

/// What the applications narrow to, each in a rule of its own.
fn applications(
    carrier: &mut Carrier<'_>,
    node: &Node,
    ports: Ports,
    sense: Sense,
) -> Vec<(Ports, Option<L7Section>)> {
    let names: Vec<&str> =
        super::texts(carrier, node, "applications").into_iter().map(|(text, _)| text).collect();
    if names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case("any")) {
        return vec![(ports, None)];
    }
    if sense == Sense::Deny {
        carrier.lost(sense, node.span, "`applications`");
        return vec![(ports, None)];
    }
    let mut found = Vec::new();
    for name in names {
        match application(name) {
            Some(section) => found.extend(narrowed(&ports, section)),
            None => carrier.lost(sense, node.span, &format!("the application `{name}`")),
        }
    }
    found
}

/// All of a protocol that rules can tell from others.
fn application(name: &str) -> Option<L7Section> {
    Some(match name.to_ascii_lowercase().as_str() {
        "http" => L7Section::Http(vec![HttpMatch::default()]),
        "ssl" => L7Section::Tls(TlsMatch::default()),
        "dns" => L7Section::Dns(vec![DnsMatch::default()]),
        "redis" => L7Section::Redis(vec![RedisMatch::default()]),
        "postgresql" => L7Section::Postgres(vec![PostgresMatch::default()]),
        "kafka" => L7Section::Kafka(vec![KafkaMatch::default()]),
        _ => return None,
    })
}

/// The section on those ports that its protocol runs on; `None` if there is none.
fn narrowed(ports: &Ports, section: L7Section) -> Option<(Ports, Option<L7Section>)> {
    let all = [L4Protocol::TCP, L4Protocol::UDP].map(|protocol| PortMatch::Range(protocol, PortRange::ALL));
    let mut ports = match ports {
        Ports::Any => all.to_vec(),
        Ports::These(these) => these.clone(),
    };
    ports.retain(|port| matches!(port, PortMatch::Range(protocol, _) if section.runs_on(*protocol)));
    (!ports.is_empty()).then_some((Ports::These(ports), Some(section)))
}

/// `any`, or `tcp/80,udp/53,tcp/8000-8010,8080`; a bare number is TCP in an allow and both in a deny.
fn ports(text: &str, sense: Sense) -> Option<Ports> {
    if text.is_empty() || text.eq_ignore_ascii_case("any") {
        return Some(Ports::Any);
    }
    let mut found = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (protocols, numbers) = match part.split_once('/') {
            Some((protocol, numbers)) => (vec![L4Protocol::parse(protocol)?], numbers),
            None if part.eq_ignore_ascii_case("icmp") => {
                found.push(PortMatch::Range(L4Protocol::ICMP, PortRange::icmp_type(8)));
                if sense == Sense::Deny {
                    return None;
                }
                continue;
            }
            None if sense == Sense::Deny => (vec![L4Protocol::TCP, L4Protocol::UDP], part),
            None => (vec![L4Protocol::TCP], part),
        };
        let range = match numbers.split_once('-') {
            _ if numbers.eq_ignore_ascii_case("any") => PortRange::ALL,
            Some((first, last)) => PortRange::new(first.parse().ok()?, last.parse().ok()?)?,
            None => PortRange::single(numbers.parse().ok()?),
        };
        for protocol in protocols {
            if !protocol.has_ports() {
                return None;
            }
            found.push(PortMatch::Range(protocol, range));
        }
    }
    Some(Ports::These(found))
}

/// What a group stands for.
enum Group {
    Pods(NamespaceMatch, Selector),
    Peers(Vec<Peer>),
    Anybody,
}

/// Reads a selector of a group; `None` if it cannot be expressed.
fn group(node: &Node) -> Option<Group> {
    let criteria = present(node, "criteria").and_then(Node::as_list).unwrap_or_default();
    let name = present(node, "name").and_then(Node::as_str).unwrap_or_default();
    if criteria.is_empty() {
        return match name {
            "any" => Some(Group::Anybody),
            "external" => Some(Group::Peers(vec![Peer::Entity(Entity::World)])),
            "nodes" => Some(Group::Peers(vec![Peer::Entity(Entity::Node)])),
            "containers" => Some(Group::Pods(every_namespace(), Selector::default())),
            _ => None,
        };
    }
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for item in criteria {
        let part = |name| present(item, name).and_then(Node::as_str);
        if part("op")? != "=" || part("value")?.contains(['*', '?']) {
            return None;
        }
        by_key.entry(part("key")?).or_default().push(part("value")?);
    }
    if let Some(values) = by_key.get("address") {
        let blocks: Option<Vec<Cidr>> = values.iter().map(|text| text.parse().ok()).collect();
        let peers = blocks?.into_iter().filter_map(|block| cilium_peers::except(block, Vec::new()));
        return (by_key.len() == 1).then(|| Group::Peers(peers.collect()));
    }
    let (mut namespaces, mut workloads): (Vec<Requirement>, Vec<Requirement>) = (Vec::new(), Vec::new());
    for (key, values) in &by_key {
        match *key {
            "domain" => namespaces.push(in_values(NAMESPACE_NAME_LABEL, values)),
            "service" | "image" | "container" | "workload" | "node" | "user" => return None,
            label => workloads.push(in_values(label, values)),
        }
    }
    Some(Group::Pods(NamespaceMatch::Labels(selector(namespaces)), selector(workloads)))
}

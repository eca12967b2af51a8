//! Kubernetes NetworkPolicy, `networking.k8s.io/v1`, with its exact meaning.
//!
//! Defaults and validation are those of the API server: `policyTypes`, protocol TCP, absent or empty `from` and
//! `ports` as "any", peers as alternatives whose selectors hold together.

use super::Read;
use super::foreign::{close, finish};
use super::names::{is_port_name, metadata, namespace_or_default};
use super::places::{PolicyPlace, RulePlace};
use super::selectors::full;
use crate::diagnostics::{Report, Span, quoted};
use crate::limits::{RULE_ITEMS_MAX, RULES_MAX};
use crate::model::{
    NamespaceMatch, Peer, Peers, Policy, PolicyMode, PortMatch, Ports, Rule, RuleAction, Selector, Subject,
};
use crate::yaml::{Fields, Node, Nulls, ScalarKind};
use bulkhead_facts::{Cidr, Direction, L4Protocol, PolicyRef, PortRange, Tier};

/// Reads one document.
pub(super) fn read(report: &mut Report, node: &Node) -> Read {
    let mut document = Fields::open(report, node, "a NetworkPolicy", Nulls::Absent)?;
    document.ignore(&["apiVersion", "kind", "status"]);
    let metadata = metadata(report, &mut document)?;
    let namespace = namespace_or_default(report, &metadata);
    let spec_node = document.required(report, "spec");
    let mut unknown = false;
    finish(report, document, &mut unknown);
    let mut spec = Fields::open(report, spec_node?, "spec", Nulls::Absent)?;
    let selector_node = spec.get(report, "podSelector");
    let workloads = match selector_node {
        Some(node) => full(report, node, "podSelector", Some(&mut unknown))?,
        None => Selector::default(),
    };
    let directions = policy_types(report, &mut spec);
    let mut place = PolicyPlace {
        file: report.file().to_owned(),
        name: metadata.name_span,
        subject: selector_node.map_or(spec.span(), |node| node.span),
        rules: Default::default(),
    };
    let mut rules = [Vec::new(), Vec::new()];
    for direction in Direction::BOTH {
        (rules[direction as usize], place.rules[direction as usize]) =
            read_rules(report, &mut spec, namespace, direction);
    }
    finish(report, spec, &mut unknown);
    let isolates = drop_unlisted(report, directions, &mut rules, &mut place);
    let [ingress, egress] = rules.map(|rules| rules.into_iter().map(|rule| close(rule, unknown)).collect());
    let origin = PolicyRef {
        kind: "NetworkPolicy".to_owned(),
        namespace: Some(namespace.to_owned()),
        name: metadata.name.to_owned(),
    };
    let subject = Subject { namespaces: NamespaceMatch::Own(namespace.to_owned()), workloads };
    let mode = PolicyMode::Inherit;
    Some((
        Policy { origin, tier: Tier::Namespace, priority: 0, subject, isolates, mode, ingress, egress },
        place,
    ))
}

/// The directions that are named; `None` where the default holds.
fn policy_types(report: &mut Report, spec: &mut Fields<'_>) -> Option<[bool; 2]> {
    let named = spec.texts(report, "policyTypes")?;
    let mut directions = [false; 2];
    for (text, span) in &named {
        match *text {
            "Ingress" => directions[0] = true,
            "Egress" => directions[1] = true,
            other => {
                report
                    .error("bad-value", *span, format!("policy type {} is unknown", quoted(other)))
                    .help("write `Ingress` or `Egress`");
            }
        }
    }
    (!named.is_empty()).then_some(directions)
}

/// Settles which directions are isolated: those named, else ingress, and egress if it has rules. Rules of a
/// direction that is not named do not count.
fn drop_unlisted(
    report: &mut Report,
    named: Option<[bool; 2]>,
    rules: &mut [Vec<Rule>; 2],
    place: &mut PolicyPlace,
) -> [bool; 2] {
    let isolates = named.unwrap_or([true, !rules[1].is_empty()]);
    for direction in Direction::BOTH {
        let index = direction as usize;
        if !isolates[index] && !rules[index].is_empty() {
            report
                .warning(
                    "rules-without-effect",
                    place.rules[index][0].span,
                    format!("{direction} rules have no effect: `policyTypes` does not name the direction"),
                )
                .help("add the direction to `policyTypes` or remove the rules");
            rules[index].clear();
            place.rules[index].clear();
        }
    }
    isolates
}

fn read_rules(
    report: &mut Report,
    spec: &mut Fields<'_>,
    namespace: &str,
    direction: Direction,
) -> (Vec<Rule>, Vec<RulePlace>) {
    let items = spec.list(report, direction.as_str()).unwrap_or_default();
    if items.len() > RULES_MAX {
        report.over_limit(
            "RULES_MAX",
            spec.span(),
            format!("more than {RULES_MAX} rules"),
            "split the policy",
        );
        return Default::default();
    }
    items
        .iter()
        .enumerate()
        .filter_map(|(index, node)| read_rule(report, node, namespace, direction, index))
        .unzip()
}

fn read_rule(
    report: &mut Report,
    node: &Node,
    namespace: &str,
    direction: Direction,
    index: usize,
) -> Option<(Rule, RulePlace)> {
    let mut unknown = false;
    let mut fields = Fields::open(report, node, "a rule", Nulls::Absent)?;
    let peer_field = if direction == Direction::Ingress { "from" } else { "to" };
    let peer_nodes = fields.list(report, peer_field).unwrap_or_default();
    let port_nodes = fields.list(report, "ports").unwrap_or_default();
    finish(report, fields, &mut unknown);
    within_limit(report, node.span, peer_nodes.len().max(port_nodes.len()))?;
    let peers: Vec<(Peer, Span)> =
        peer_nodes.iter().filter_map(|node| Some((read_peer(report, node, namespace)?, node.span))).collect();
    let ports: Vec<PortMatch> =
        port_nodes.iter().filter_map(|node| read_port(report, node, &mut unknown)).collect();
    let (peers, spans): (Vec<Peer>, Vec<Span>) = peers.into_iter().unzip();
    let rule = Rule {
        name: format!("{direction}[{index}]"),
        action: RuleAction::Allow,
        peers: if peer_nodes.is_empty() { Peers::Any } else { Peers::These(peers) },
        ports: if port_nodes.is_empty() { Ports::Any } else { Ports::These(ports) },
        l7: None,
    };
    Some((close(rule, unknown), RulePlace { span: node.span, peers: spans, section: None }))
}

pub(super) fn within_limit(report: &mut Report, span: Span, count: usize) -> Option<()> {
    let sound = count <= RULE_ITEMS_MAX;
    if !sound {
        report.over_limit(
            "RULE_ITEMS_MAX",
            span,
            format!("{count} items in a rule, at most {RULE_ITEMS_MAX} are read"),
            "split the rule",
        );
    }
    sound.then_some(())
}

fn read_peer(report: &mut Report, node: &Node, namespace: &str) -> Option<Peer> {
    let mut unknown = false;
    let mut fields = Fields::open(report, node, "a peer", Nulls::Absent)?;
    let pods = fields.get(report, "podSelector");
    let namespaces = fields.get(report, "namespaceSelector");
    let block = fields.get(report, "ipBlock");
    let nothing = pods.is_none() && namespaces.is_none() && block.is_none();
    finish(report, fields, &mut unknown);
    if nothing && !unknown {
        report
            .error("empty-peer", node.span, "a peer names nobody")
            .help("write `podSelector`, `namespaceSelector` or `ipBlock`; `podSelector: {}` is every pod of the namespace");
        return None;
    }
    let peer = match block {
        Some(_) if pods.is_some() || namespaces.is_some() => {
            report
                .error("bad-peer", node.span, "`ipBlock` stands beside a selector")
                .help("make two peers of it: each begins with its own `- `");
            return None;
        }
        Some(block) => ip_block(report, block, &mut unknown)?,
        None => {
            let workloads = selector(report, pods, "podSelector", &mut unknown)?;
            let namespaces = match namespaces {
                Some(_) => {
                    NamespaceMatch::Labels(selector(report, namespaces, "namespaceSelector", &mut unknown)?)
                }
                None => NamespaceMatch::Own(namespace.to_owned()),
            };
            Peer::Workloads { namespaces, workloads }
        }
    };
    Some(if unknown { Peer::Unknown("a field that is not understood".to_owned()) } else { peer })
}

fn selector(report: &mut Report, node: Option<&Node>, what: &str, unknown: &mut bool) -> Option<Selector> {
    match node {
        Some(node) => full(report, node, what, Some(unknown)),
        None => Some(Selector::default()),
    }
}

fn ip_block(report: &mut Report, node: &Node, unknown: &mut bool) -> Option<Peer> {
    let mut fields = Fields::open(report, node, "ipBlock", Nulls::Absent)?;
    let cidr_node = fields.required(report, "cidr");
    let cidr_text = cidr_node.and_then(|node| node.expect_text(report, "cidr"));
    let except_texts = fields.texts(report, "except").unwrap_or_default();
    finish(report, fields, unknown);
    let block = cidr(report, cidr_text?, cidr_node?.span)?;
    let mut except = Vec::new();
    for (text, span) in except_texts {
        let hole = cidr(report, text, span)?;
        if !block.covers(hole) || hole == block {
            report
                .error(
                    "bad-except",
                    span,
                    format!("{} is no part of {}", quoted(text), quoted(&block.to_string())),
                )
                .help("an `except` must be smaller than `cidr` and inside of it");
            return None;
        }
        except.push(hole);
    }
    Some(Peer::Cidr { block, except })
}

/// An address block with its prefix length; host bits are cleared with a warning, as the API server warns.
pub(super) fn cidr(report: &mut Report, text: &str, span: Span) -> Option<Cidr> {
    match text.parse::<Cidr>() {
        Ok(_) if !text.contains('/') => {
            report
                .error("bad-cidr", span, format!("{} has no prefix length", quoted(text)))
                .help(format!("write `{text}/{}`", if text.contains(':') { 128 } else { 32 }));
            None
        }
        Ok(block) => {
            let written = text.split('/').next().and_then(|address| address.parse().ok());
            if written.is_some_and(|address: std::net::IpAddr| address.to_canonical() != block.first()) {
                report
                    .warning(
                        "host-bits",
                        span,
                        format!("{} has bits beyond its prefix: read as `{block}`", quoted(text)),
                    )
                    .help(format!("write `{block}`"));
            }
            Some(block)
        }
        Err(error) => {
            report.error("bad-cidr", span, format!("{}: {error}", quoted(text)));
            None
        }
    }
}

fn read_port(report: &mut Report, node: &Node, unknown: &mut bool) -> Option<PortMatch> {
    let mut fields = Fields::open(report, node, "a port", Nulls::Absent)?;
    let choices = [("TCP", L4Protocol::TCP), ("UDP", L4Protocol::UDP), ("SCTP", L4Protocol::SCTP)];
    let has_protocol = fields.get(report, "protocol").is_some();
    let protocol = fields.choice(report, "protocol", &choices);
    let port = fields.get(report, "port");
    let has_end = fields.get(report, "endPort").is_some();
    let end = fields.integer(report, "endPort", 1..=65535);
    finish(report, fields, unknown);
    if has_protocol && protocol.is_none() || has_end && end.is_none() {
        return None;
    }
    let protocol = protocol.unwrap_or(L4Protocol::TCP);
    let Some(port) = port else {
        if has_end {
            report
                .error("bad-port", node.span, "`endPort` needs `port`")
                .help("write the first port of the range as `port`");
            return None;
        }
        return Some(PortMatch::Range(protocol, PortRange::ALL));
    };
    if port.as_scalar().is_some_and(|scalar| scalar.kind() == ScalarKind::Text) {
        return named_port(report, port, protocol, has_end);
    }
    let first = u16::try_from(port.expect_integer(report, "port", 1..=65535)?).ok()?;
    let last = end.and_then(|end| u16::try_from(end).ok()).unwrap_or(first);
    let range = PortRange::new(first, last);
    if range.is_none() {
        report
            .error("bad-port", node.span, format!("`endPort` {last} is below `port` {first}"))
            .help("`endPort` is the last port of the range");
    }
    Some(PortMatch::Range(protocol, range?))
}

fn named_port(report: &mut Report, node: &Node, protocol: L4Protocol, has_end: bool) -> Option<PortMatch> {
    let name = node.as_str()?;
    if has_end {
        report
            .error("bad-port", node.span, "`endPort` needs a number as `port`, not a name")
            .help("write the first port's number");
        return None;
    }
    port_name(report, name, node.span)?;
    Some(PortMatch::Named(Some(protocol), name.to_owned()))
}

pub(super) fn port_name(report: &mut Report, name: &str, span: Span) -> Option<()> {
    if is_port_name(name) {
        return Some(());
    }
    let diagnostic = report.error("bad-port", span, format!("{} is no name of a port", quoted(name)));
    if name.parse::<u16>().is_ok() {
        diagnostic.help(format!("a number is written without quotes: {name}"));
    } else {
        diagnostic.help(
            "a port name has at most 15 lower-case letters, digits and single `-`, and at least one letter",
        );
    }
    None
}

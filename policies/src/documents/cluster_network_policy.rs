//! ClusterNetworkPolicy, `policy.networking.k8s.io/v1alpha2`, with its exact meaning.
//!
//! Tiers, priority, ordered Accept, Deny and Pass. A field that is not understood closes the rule it stands in
//! ([`super::foreign`]); so do `domainNames` and `nodes` selected by label, which cannot be resolved yet.

use super::Read;
use super::foreign::{close, finish};
use super::names::{metadata, refuse_namespace};
use super::network_policy::{cidr, port_name, within_limit};
use super::peers::name_pattern;
use super::places::{PolicyPlace, RulePlace};
use super::selectors::full;
use crate::diagnostics::{Report, quoted};
use crate::model::{
    Entity, NamespaceMatch, Peer, Peers, Policy, PolicyMode, PortMatch, Ports, Rule, RuleAction, Selector,
    Subject,
};
use crate::yaml::{Fields, Node, Nulls};
use bulkhead_facts::{Direction, L4Protocol, PolicyRef, PortRange, Tier};

/// Rules of one direction, as the API has it.
const RULES_MAX: usize = 25;
/// Characters of a rule name, as the API has it.
const RULE_NAME_MAX: usize = 100;

/// Reads one document.
pub(super) fn read(report: &mut Report, node: &Node) -> Read {
    let mut document = Fields::open(report, node, "a ClusterNetworkPolicy", Nulls::Absent)?;
    document.ignore(&["apiVersion", "kind", "status"]);
    let metadata = metadata(report, &mut document)?;
    refuse_namespace(report, &metadata, node, "ClusterNetworkPolicy");
    let spec_node = document.required(report, "spec");
    let mut unknown = false;
    finish(report, document, &mut unknown);
    let mut spec = Fields::open(report, spec_node?, "spec", Nulls::Absent)?;
    spec.required(report, "tier");
    let tier = spec.choice(report, "tier", &[("Admin", Tier::Admin), ("Baseline", Tier::Baseline)]);
    spec.required(report, "priority");
    let priority = spec.integer(report, "priority", 0..=1000);
    let subject_node = spec.required(report, "subject");
    let subject = subject_node.and_then(|node| read_subject(report, node, &mut unknown));
    let mut place = PolicyPlace {
        file: report.file().to_owned(),
        name: metadata.name_span,
        subject: subject_node.map_or(spec.span(), |node| node.span),
        rules: Default::default(),
    };
    let mut rules = [Vec::new(), Vec::new()];
    for direction in Direction::BOTH {
        (rules[direction as usize], place.rules[direction as usize]) =
            read_rules(report, &mut spec, direction);
    }
    finish(report, spec, &mut unknown);
    let [ingress, egress] = rules.map(|rules| rules.into_iter().map(|rule| close(rule, unknown)).collect());
    let origin = PolicyRef {
        kind: "ClusterNetworkPolicy".to_owned(),
        namespace: None,
        name: metadata.name.to_owned(),
    };
    let policy = Policy {
        origin,
        tier: tier?,
        priority: i32::try_from(priority?).ok()?,
        subject: subject?,
        isolates: [false; 2],
        mode: PolicyMode::Inherit,
        ingress,
        egress,
    };
    Some((policy, place))
}

fn read_subject(report: &mut Report, node: &Node, unknown: &mut bool) -> Option<Subject> {
    let mut fields = Fields::open(report, node, "subject", Nulls::Absent)?;
    let namespaces = fields.get(report, "namespaces");
    let pods = fields.get(report, "pods");
    finish(report, fields, unknown);
    match (namespaces, pods) {
        (Some(namespaces), None) => Some(Subject {
            namespaces: NamespaceMatch::Labels(full(report, namespaces, "namespaces", Some(unknown))?),
            workloads: Selector::default(),
        }),
        (None, Some(pods)) => {
            let (namespaces, workloads) = read_pods(report, pods, unknown)?;
            Some(Subject { namespaces: NamespaceMatch::Labels(namespaces), workloads })
        }
        (Some(_), Some(_)) | (None, None) => {
            report
                .error("bad-subject", node.span, "a subject is either `namespaces` or `pods`")
                .help("write one of them; `namespaces: {}` is every namespace");
            None
        }
    }
}

/// Both selectors of a `pods` subject or peer; each has to be there.
fn read_pods(report: &mut Report, node: &Node, unknown: &mut bool) -> Option<(Selector, Selector)> {
    let mut fields = Fields::open(report, node, "pods", Nulls::Absent)?;
    let namespaces = fields.required(report, "namespaceSelector");
    let pods = fields.required(report, "podSelector");
    finish(report, fields, unknown);
    let namespaces = full(report, namespaces?, "namespaceSelector", Some(unknown));
    Some((namespaces?, full(report, pods?, "podSelector", Some(unknown))?))
}

fn read_rules(
    report: &mut Report,
    spec: &mut Fields<'_>,
    direction: Direction,
) -> (Vec<Rule>, Vec<RulePlace>) {
    let items = spec.list(report, direction.as_str()).unwrap_or_default();
    if items.len() > RULES_MAX {
        report
            .error(
                "limit",
                items[RULES_MAX].span,
                format!("more than {RULES_MAX} {direction} rules, which the API does not allow"),
            )
            .help("split the policy");
        return Default::default();
    }
    items.iter().enumerate().filter_map(|(index, node)| read_rule(report, node, direction, index)).unzip()
}

fn read_rule(
    report: &mut Report,
    node: &Node,
    direction: Direction,
    index: usize,
) -> Option<(Rule, RulePlace)> {
    let mut unknown = false;
    let mut fields = Fields::open(report, node, "a rule", Nulls::Absent)?;
    let name_node = fields.get(report, "name");
    let name = name_node.and_then(|node| node.expect_text(report, "name"));
    fields.required(report, "action");
    let actions = [("Accept", RuleAction::Allow), ("Deny", RuleAction::Deny), ("Pass", RuleAction::Pass)];
    let action = fields.choice(report, "action", &actions);
    let peer_field = if direction == Direction::Ingress { "from" } else { "to" };
    let peer_list = fields.required(report, peer_field);
    let protocol_nodes = fields.list(report, "protocols").unwrap_or_default();
    finish(report, fields, &mut unknown);
    if let (Some(name), Some(node)) = (name, name_node)
        && name.chars().count() > RULE_NAME_MAX
    {
        report.error("bad-name", node.span, format!("rule name is longer than {RULE_NAME_MAX} characters"));
    }
    let peer_nodes = peer_list?.expect_list(report, peer_field)?;
    if peer_nodes.is_empty() {
        report
            .error("matches-nobody", peer_list?.span, format!("`{peer_field}` names nobody"))
            .help("name at least one peer; `namespaces: {}` is every pod");
        return None;
    }
    within_limit(report, node.span, peer_nodes.len().max(protocol_nodes.len()))?;
    let ports: Vec<PortMatch> =
        protocol_nodes.iter().filter_map(|node| read_protocol(report, node, &mut unknown)).collect();
    let has_named = ports.iter().any(|port| matches!(port, PortMatch::Named(..)));
    let (mut peers, mut spans) = (Vec::new(), Vec::new());
    for node in peer_nodes {
        let found = read_peer(report, node, (direction, action), has_named, &mut unknown);
        spans.resize(spans.len() + found.len(), node.span);
        peers.extend(found);
    }
    let rule = Rule {
        name: name.map_or_else(|| format!("{direction}[{index}]"), str::to_owned),
        action: action?,
        peers: Peers::These(peers),
        ports: if protocol_nodes.is_empty() { Ports::Any } else { Ports::These(ports) },
        l7: None,
    };
    Some((close(rule, unknown), RulePlace { span: node.span, peers: spans, section: None }))
}

/// The peers of one item: several for a list of networks, none if it was not understood.
fn read_peer(
    report: &mut Report,
    node: &Node,
    (direction, action): (Direction, Option<RuleAction>),
    has_named: bool,
    unknown: &mut bool,
) -> Vec<Peer> {
    let Some(mut fields) = Fields::open(report, node, "a peer", Nulls::Absent) else { return Vec::new() };
    let namespaces = fields.get(report, "namespaces");
    let pods = fields.get(report, "pods");
    let egress = direction == Direction::Egress;
    let mut outside = |name| if egress { fields.get(report, name) } else { None };
    let (networks, nodes, names) = (outside("networks"), outside("nodes"), outside("domainNames"));
    finish(report, fields, unknown);
    let named_fields = [namespaces, pods, networks, nodes, names].iter().flatten().count();
    if named_fields == 0 {
        if !*unknown {
            *unknown = true;
            report
                .warning("empty-peer", node.span, "a peer names nobody that is known")
                .help("an allow with it matches nothing, a deny or pass with it denies all");
        }
        return Vec::new();
    }
    if named_fields > 1 {
        report
            .error("bad-peer", node.span, "a peer has exactly one field")
            .help("make several peers of it: each begins with its own `- `");
        return Vec::new();
    }
    if has_named && (networks.is_some() || nodes.is_some() || names.is_some()) {
        report
            .error(
                "bad-peer",
                node.span,
                "a named port cannot stand beside `networks`, `nodes` or `domainNames`",
            )
            .help("write the port's number");
        return Vec::new();
    }
    let peer = match (namespaces, pods, networks, nodes) {
        (None, None, None, None) => return read_names(report, names, action),
        (Some(namespaces), ..) => full(report, namespaces, "namespaces", Some(unknown))
            .map(|found| workloads(found, Selector::default())),
        (_, Some(pods), ..) => {
            read_pods(report, pods, unknown).map(|(namespaces, pods)| workloads(namespaces, pods))
        }
        (_, _, Some(networks), _) => return read_networks(report, networks),
        (_, _, _, Some(nodes)) => read_nodes(report, nodes, unknown),
    };
    peer.into_iter().collect()
}

fn workloads(namespaces: Selector, workloads: Selector) -> Peer {
    Peer::Workloads { namespaces: NamespaceMatch::Labels(namespaces), workloads }
}

fn read_networks(report: &mut Report, node: &Node) -> Vec<Peer> {
    let items = node.expect_list(report, "networks").unwrap_or_default();
    if items.is_empty() {
        report
            .error("matches-nobody", node.span, "`networks` names nobody")
            .help("name at least one address block");
    }
    let mut peers = Vec::new();
    for item in items {
        let block = item.expect_text(report, "networks").and_then(|text| cidr(report, text, item.span));
        peers.extend(block.map(|block| Peer::Cidr { block, except: Vec::new() }));
    }
    peers
}

fn read_nodes(report: &mut Report, node: &Node, unknown: &mut bool) -> Option<Peer> {
    let selector = full(report, node, "nodes", Some(unknown))?;
    if selector.requirements.is_empty() {
        return Some(Peer::Entity(Entity::Node));
    }
    Some(Peer::Nodes(selector))
}

/// `NAME`, or `*.NAME` for one or more labels before it. Only what is accepted can be named so.
fn read_names(report: &mut Report, node: Option<&Node>, action: Option<RuleAction>) -> Vec<Peer> {
    let Some(node) = node else { return Vec::new() };
    let items = node.expect_list(report, "domainNames").unwrap_or_default();
    if items.is_empty() {
        report
            .error("matches-nobody", node.span, "`domainNames` names nobody")
            .help("name at least one domain");
    }
    if action.is_some_and(|action| action != RuleAction::Allow) {
        report
            .error("bad-peer", node.span, "`domainNames` stands in a rule that does not accept")
            .help("a deny by name is avoided by dialling the address: name `networks`");
        return Vec::new();
    }
    let mut peers = Vec::new();
    for item in items {
        let Some(text) = item.expect_text(report, "domainNames") else { continue };
        // Here one star is what two are in a policy of ours.
        let ours = text.strip_prefix("*.").map(|rest| format!("**.{rest}"));
        if text.starts_with("**.") {
            report
                .error("bad-name", item.span, format!("{} has two stars", quoted(text)))
                .help("`*.example.com` means one label or more before it");
            continue;
        }
        peers.extend(name_pattern(report, ours.as_deref().unwrap_or(text), item.span).map(Peer::Name));
    }
    peers
}

fn read_protocol(report: &mut Report, node: &Node, unknown: &mut bool) -> Option<PortMatch> {
    let mut fields = Fields::open(report, node, "a protocol", Nulls::Absent)?;
    let named = fields.get(report, "destinationNamedPort");
    let mut found: Vec<PortMatch> = Vec::new();
    let mut written = usize::from(named.is_some());
    for (name, protocol) in [("tcp", L4Protocol::TCP), ("udp", L4Protocol::UDP), ("sctp", L4Protocol::SCTP)] {
        if let Some(node) = fields.get(report, name) {
            written += 1;
            found.extend(read_destination(report, node, name, protocol, unknown));
        }
    }
    finish(report, fields, unknown);
    if let Some(node) = named {
        let name = node.expect_text(report, "destinationNamedPort")?;
        port_name(report, name, node.span)?;
        found.push(PortMatch::Named(None, name.to_owned()));
    }
    if written > 1 {
        report
            .error("bad-port", node.span, "a protocol has exactly one field")
            .help("make several items of it: each begins with its own `- `");
        return None;
    }
    if written == 0 && !*unknown {
        report
            .error("bad-port", node.span, "a protocol names nothing")
            .help("write `tcp`, `udp`, `sctp` or `destinationNamedPort`");
    }
    found.pop()
}

fn read_destination(
    report: &mut Report,
    node: &Node,
    what: &'static str,
    protocol: L4Protocol,
    unknown: &mut bool,
) -> Option<PortMatch> {
    let mut fields = Fields::open(report, node, what, Nulls::Absent)?;
    let destination = fields.get(report, "destinationPort");
    finish(report, fields, unknown);
    let Some(destination) = destination else { return Some(PortMatch::Range(protocol, PortRange::ALL)) };
    let mut fields = Fields::open(report, destination, "destinationPort", Nulls::Absent)?;
    let has_number = fields.has("number");
    let number = fields.integer(report, "number", 1..=65535);
    let range_node = fields.get(report, "range");
    finish(report, fields, unknown);
    let (first, last) = match (has_number, range_node) {
        (true, None) => (number?, number?),
        (false, Some(node)) => {
            let mut fields = Fields::open(report, node, "range", Nulls::Absent)?;
            fields.required(report, "start");
            fields.required(report, "end");
            let ends = (fields.integer(report, "start", 1..=65535), fields.integer(report, "end", 1..=65535));
            finish(report, fields, unknown);
            (ends.0?, ends.1?)
        }
        (true, Some(_)) | (false, None) => {
            report
                .error("bad-port", destination.span, "`destinationPort` is either `number` or `range`")
                .help("write one of them");
            return None;
        }
    };
    if range_node.is_some() && first >= last {
        report
            .error("bad-port", destination.span, format!("range ends at {last}, not after its start {first}"))
            .help("`end` must be above `start`");
        return None;
    }
    let range = PortRange::new(u16::try_from(first).ok()?, u16::try_from(last).ok()?)?;
    Some(PortMatch::Range(protocol, range))
}

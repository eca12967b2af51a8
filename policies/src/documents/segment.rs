//! SegmentPolicy and ClusterSegmentPolicy.
//!
//! Both have the same rules; a SegmentPolicy only allows, within its namespace, and isolates the directions that it
//! writes (`ingress: []` lets nothing in); a ClusterSegmentPolicy allows, denies and passes in order.

use super::Read;
use super::names::{metadata, namespace_or_default, refuse_namespace};
use super::network_policy::within_limit;
use super::peers::Scope;
use super::places::{PolicyPlace, RulePlace};
use super::sections::{self, SECTIONS};
use super::selectors::{Of, short_or_full};
use super::{peers, ports};
use crate::diagnostics::{Report, Span, quoted};
use crate::limits::RULES_MAX;
use crate::model::{
    L7Section, NamespaceMatch, Peer, Peers, Policy, PolicyMode, PortMatch, Ports, Rule, RuleAction, Selector,
    Subject,
};
use crate::yaml::{Fields, Node, Nulls};
use bulkhead_facts::{Direction, L4Protocol, PolicyRef, PortRange, Tier};

const MODES: [(&str, PolicyMode); 3] = [
    ("enforce", PolicyMode::Inherit),
    ("audit", PolicyMode::Audit),
    ("audit-removal", PolicyMode::AuditRemoval),
];

/// Reads a SegmentPolicy.
pub(super) fn read_namespaced(report: &mut Report, node: &Node) -> Read {
    let mut document = Fields::open(report, node, "a SegmentPolicy", Nulls::Refused)?;
    document.ignore(&["apiVersion", "kind", "status"]);
    let metadata = metadata(report, &mut document)?;
    let namespace = namespace_or_default(report, &metadata);
    let spec_node = document.required(report, "spec");
    document.finish(report);
    let mut spec = Fields::open(report, spec_node?, "spec", Nulls::Refused)?;
    let workloads_node = spec.get(report, "workloads");
    let workloads = match workloads_node {
        Some(node) => short_or_full(report, node, Of::Workloads),
        None => Some(Selector::default()),
    };
    let mode = spec.choice(report, "mode", &MODES).unwrap_or_default();
    let isolates = [spec.has("ingress"), spec.has("egress")];
    let scope =
        Scope { namespace: Some(namespace), action: RuleAction::Allow, direction: Direction::Ingress };
    let (rules, places) = read_directions(report, &mut spec, scope);
    if isolates == [false; 2] && spec.unknown().next().is_none() {
        report
            .error("empty-policy", spec.span(), "the policy says nothing of ingress or egress")
            .help("write `ingress: […]`, `egress: […]` or both; `ingress: []` lets nothing in");
    }
    let subject_span = workloads_node.map_or(spec.span(), |node| node.span);
    spec.finish(report);
    let origin = PolicyRef {
        kind: "SegmentPolicy".to_owned(),
        namespace: Some(namespace.to_owned()),
        name: metadata.name.to_owned(),
    };
    let [ingress, egress] = rules;
    let subject = Subject { namespaces: NamespaceMatch::Own(namespace.to_owned()), workloads: workloads? };
    let policy =
        Policy { origin, tier: Tier::Namespace, priority: 0, subject, isolates, mode, ingress, egress };
    Some((policy, policy_place(report, metadata.name_span, subject_span, places)))
}

/// Reads a ClusterSegmentPolicy.
pub(super) fn read_cluster(report: &mut Report, node: &Node) -> Read {
    let mut document = Fields::open(report, node, "a ClusterSegmentPolicy", Nulls::Refused)?;
    document.ignore(&["apiVersion", "kind", "status"]);
    let metadata = metadata(report, &mut document)?;
    refuse_namespace(report, &metadata, node, "ClusterSegmentPolicy");
    let spec_node = document.required(report, "spec");
    document.finish(report);
    let mut spec = Fields::open(report, spec_node?, "spec", Nulls::Refused)?;
    spec.required(report, "tier");
    let tier = spec.choice(report, "tier", &[("admin", Tier::Admin), ("baseline", Tier::Baseline)]);
    let has_priority = spec.required(report, "priority").is_some();
    let priority = if has_priority { spec.integer(report, "priority", 0..=1000) } else { None };
    let subjects_node = spec.required(report, "subjects");
    let subject = subjects_node.and_then(|node| read_subjects(report, node, "subjects"));
    let mode = spec.choice(report, "mode", &MODES).unwrap_or_default();
    let scope = Scope { namespace: None, action: RuleAction::Allow, direction: Direction::Ingress };
    let (rules, places) = read_directions(report, &mut spec, scope);
    if !spec.has("ingress") && !spec.has("egress") && spec.unknown().next().is_none() {
        report
            .error("empty-policy", spec.span(), "the policy has no rules")
            .help("write `ingress: […]`, `egress: […]` or both");
    }
    let subject_span = subjects_node.map_or(spec.span(), |node| node.span);
    spec.finish(report);
    let origin = PolicyRef {
        kind: "ClusterSegmentPolicy".to_owned(),
        namespace: None,
        name: metadata.name.to_owned(),
    };
    let [ingress, egress] = rules;
    let (tier, priority, subject) = (tier?, i32::try_from(priority?).ok()?, subject?);
    let policy = Policy { origin, tier, priority, subject, isolates: [false; 2], mode, ingress, egress };
    Some((policy, policy_place(report, metadata.name_span, subject_span, places)))
}

/// Namespaces and workloads of a cluster kind; namespaces have to be named.
pub(super) fn read_subjects(report: &mut Report, node: &Node, what: &str) -> Option<Subject> {
    let mut fields = Fields::open(report, node, what, Nulls::Refused)?;
    let namespaces = fields.get(report, "namespaces");
    let workloads = fields.get(report, "workloads");
    fields.finish(report);
    let Some(namespaces) = namespaces else {
        report
            .error("missing-field", node.span, format!("`{what}` needs `namespaces`"))
            .help("write `namespaces: {}` for every namespace, or `namespaces: {name: …}`");
        return None;
    };
    let namespaces = short_or_full(report, namespaces, Of::Namespaces).map(NamespaceMatch::Labels);
    let workloads = match workloads {
        Some(node) => short_or_full(report, node, Of::Workloads)?,
        None => Selector::default(),
    };
    Some(Subject { namespaces: namespaces?, workloads })
}

fn policy_place(report: &Report, name: Span, subject: Span, rules: [Vec<RulePlace>; 2]) -> PolicyPlace {
    PolicyPlace { file: report.file().to_owned(), name, subject, rules }
}

fn read_directions(
    report: &mut Report,
    spec: &mut Fields<'_>,
    scope: Scope<'_>,
) -> ([Vec<Rule>; 2], [Vec<RulePlace>; 2]) {
    let mut rules = [Vec::new(), Vec::new()];
    let mut places = [Vec::new(), Vec::new()];
    for direction in Direction::BOTH {
        let items = spec.list(report, direction.as_str()).unwrap_or_default();
        if items.len() > RULES_MAX {
            report.over_limit(
                "RULES_MAX",
                items[RULES_MAX].span,
                format!("more than {RULES_MAX} {direction} rules"),
                "split the policy",
            );
            continue;
        }
        for (index, node) in items.iter().enumerate() {
            if let Some((rule, place)) = read_rule(report, node, direction, index, scope) {
                refuse_same_name(report, &rules[direction as usize], &rule, node);
                rules[direction as usize].push(rule);
                places[direction as usize].push(place);
            }
        }
    }
    (rules, places)
}

fn refuse_same_name(report: &mut Report, before: &[Rule], rule: &Rule, node: &Node) {
    if before.iter().any(|other| other.name == rule.name) {
        let span = node.child("name").map_or(node.span, |name| name.span);
        report
            .error("duplicate-rule", span, format!("rule {} is there twice", quoted(&rule.name)))
            .help("verdicts name the rule: give each its own name");
    }
}

fn read_rule(
    report: &mut Report,
    node: &Node,
    direction: Direction,
    index: usize,
    scope: Scope<'_>,
) -> Option<(Rule, RulePlace)> {
    let mut fields = Fields::open(report, node, "a rule", Nulls::Refused)?;
    let name = match fields.get(report, "name") {
        Some(node) => rule_name(report, node)?,
        None => format!("{direction}[{index}]"),
    };
    let action = read_action(report, &mut fields, scope)?;
    let scope = Scope { action, direction, ..scope };
    let (peer_field, other_field) =
        if direction == Direction::Ingress { ("from", "to") } else { ("to", "from") };
    if let Some(entry) = node.as_map()?.iter().find(|entry| entry.key == other_field) {
        report
            .error(
                "unknown-field",
                entry.key_span,
                format!("an {direction} rule has no field `{other_field}`"),
            )
            .help(format!("write `{peer_field}`"));
        fields.ignore(&["from", "to"]);
    }
    let peers = read_peers(report, &mut fields, peer_field, scope);
    let ports = read_ports(report, &mut fields);
    let l7 = read_section(report, &mut fields, action);
    let section = SECTIONS.into_iter().find(|name| fields.has(name));
    fields.finish(report);
    let (peers, peer_spans) = peers?;
    let mut rule = Rule { name, action, peers, ports: ports?, l7: l7? };
    if let Some(section) = rule.l7.clone() {
        narrow_to_carriers(report, &mut rule, &section, node);
    }
    Some((rule, RulePlace { span: node.span, peers: peer_spans, section }))
}

fn rule_name(report: &mut Report, node: &Node) -> Option<String> {
    let text = node.expect_text(report, "name")?;
    let sound =
        !text.is_empty() && text.len() <= 100 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if !sound || text.trim() != text || text.contains(['[', ']', '/']) {
        report
            .error("bad-name", node.span, format!("{} is no name of a rule", quoted(text)))
            .help("use up to 100 letters, digits and signs other than `/`, `[` and `]`, for example `checkout-charges`");
        return None;
    }
    Some(text.to_owned())
}

/// `allow`, `deny` or `pass`; a SegmentPolicy only allows.
fn read_action(report: &mut Report, fields: &mut Fields<'_>, scope: Scope<'_>) -> Option<RuleAction> {
    let choices = [("allow", RuleAction::Allow), ("deny", RuleAction::Deny), ("pass", RuleAction::Pass)];
    if scope.namespace.is_none() {
        fields.required(report, "action");
        return fields.choice(report, "action", &choices);
    }
    if !fields.has("action") {
        return Some(RuleAction::Allow);
    }
    let node = fields.get(report, "action")?;
    let action = fields.choice(report, "action", &choices)?;
    if action == RuleAction::Allow {
        return Some(action);
    }
    report
        .error("bad-action", node.span, "a SegmentPolicy only allows: what no rule allows is denied already")
        .help("remove the rule, or write it in a ClusterSegmentPolicy");
    None
}

fn read_peers(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
    scope: Scope<'_>,
) -> Option<(Peers, Vec<Span>)> {
    if !fields.has(name) {
        return Some((Peers::Any, Vec::new()));
    }
    let node = fields.get(report, name)?;
    let items = node.expect_list(report, name)?;
    if items.is_empty() {
        report
            .error("matches-nobody", node.span, format!("`{name}` is empty: it names nobody"))
            .help(format!("remove the rule, or remove `{name}` if everybody is meant"));
        return None;
    }
    within_limit(report, node.span, items.len())?;
    let found: Vec<(Peer, Span)> =
        items.iter().filter_map(|item| Some((peers::read(report, item, scope)?, item.span))).collect();
    let (peers, spans) = found.into_iter().unzip();
    Some((Peers::These(peers), spans))
}

fn read_ports(report: &mut Report, fields: &mut Fields<'_>) -> Option<Ports> {
    if !fields.has("ports") {
        return Some(Ports::Any);
    }
    let node = fields.get(report, "ports")?;
    let items = node.expect_list(report, "ports")?;
    if items.is_empty() {
        report
            .error("matches-nobody", node.span, "`ports` is empty: it names none")
            .help("remove `ports` if every port is meant");
        return None;
    }
    within_limit(report, node.span, items.len())?;
    Some(Ports::These(items.iter().flat_map(|item| ports::read(report, item)).collect()))
}

/// The L7 section, at most one; outer `None` if it was refused.
fn read_section(
    report: &mut Report,
    fields: &mut Fields<'_>,
    action: RuleAction,
) -> Option<Option<L7Section>> {
    let written: Vec<&'static str> = SECTIONS.into_iter().filter(|name| fields.has(name)).collect();
    let entries: Vec<_> =
        written.iter().map(|name| Some((*name, fields.entry(report, name)?))).collect::<Option<_>>()?;
    let read: Vec<_> =
        entries.iter().map(|(name, entry)| sections::read(report, name, &entry.value, action)).collect();
    if let [(first, _), (second, entry), ..] = entries[..] {
        let both = format!("a rule has one section, and this one has `{first}` and `{second}`");
        report.error("two-sections", entry.key_span, both).help("give each its own rule: allows are a union");
        return None;
    }
    if entries.is_empty() {
        return Some(None);
    }
    Some(Some(read.into_iter().next()??))
}

/// A section is read on the protocols that what it speaks of runs on. An allow keeps its ports of those; one that names
/// others is an error.
fn narrow_to_carriers(report: &mut Report, rule: &mut Rule, section: &L7Section, node: &Node) {
    let span = node.child("ports").map_or(node.span, |ports| ports.span);
    if matches!(section, L7Section::Dns(_)) && never_asks_resolvers(&rule.ports) {
        report
            .warning("unusual-port", span, "`dns` on ports that are not 53: few resolvers listen there")
            .help("write `ports: [53, udp/53]`");
    }
    let carriers: Vec<L4Protocol> =
        [L4Protocol::TCP, L4Protocol::UDP].into_iter().filter(|carrier| section.runs_on(*carrier)).collect();
    let is_other = |port: &PortMatch| match port {
        PortMatch::Range(protocol, _) => !section.runs_on(*protocol),
        PortMatch::Named(protocol, _) => protocol.is_some_and(|protocol| !section.runs_on(protocol)),
    };
    if let Ports::These(ports) = &rule.ports
        && ports.iter().any(is_other)
    {
        let (name, on) =
            (written_name(section, node), if carriers.len() > 1 { "TCP and UDP" } else { "TCP" });
        let code = if name == "http" { "not-http" } else { "not-readable" };
        let shown = if name == "http" { "HTTP" } else { name };
        report
            .error(
                code,
                span,
                format!("`{name}` is read on {on}: a port of another protocol cannot be {shown}"),
            )
            .help(format!("give the other ports a rule of their own, without `{name}`"));
    }
    if rule.action != RuleAction::Allow {
        return;
    }
    let everywhere = |carrier: &L4Protocol| PortMatch::Range(*carrier, PortRange::ALL);
    rule.ports = match std::mem::replace(&mut rule.ports, Ports::Any) {
        Ports::Any => Ports::These(carriers.iter().map(everywhere).collect()),
        Ports::These(ports) => {
            Ports::These(ports.into_iter().flat_map(|port| on_carriers(port, &carriers)).collect())
        }
    };
}

fn never_asks_resolvers(ports: &Ports) -> bool {
    let elsewhere =
        |port: &PortMatch| matches!(port, PortMatch::Range(_, range) if !range.contains(DNS_PORT));
    matches!(ports, Ports::These(ports) if ports.iter().all(elsewhere))
}

/// Port on which a resolver is asked.
const DNS_PORT: u16 = 53;

/// The field that the section was written as.
fn written_name(section: &L7Section, node: &Node) -> &'static str {
    if node.child("grpc").is_some() { "grpc" } else { section.name() }
}

fn on_carriers(port: PortMatch, carriers: &[L4Protocol]) -> Vec<PortMatch> {
    match port {
        PortMatch::Named(None, name) => {
            carriers.iter().map(|carrier| PortMatch::Named(Some(*carrier), name.clone())).collect()
        }
        named @ PortMatch::Named(Some(_), _) => vec![named],
        range @ PortMatch::Range(..) => vec![range],
    }
}

//! `PolicyTest` documents to cases.

use super::{Case, Expected, Suite, requests};
use crate::diagnostics::{Diagnostic, Report, Source, Span, nearest, quoted};
use crate::documents::{companions, joined_ends, named_ends, opened};
use crate::model::PortMatch;
use crate::questions::{RequestQuestion, Version};
use crate::yaml::{Fields, Node, Nulls};
use bulkhead_facts::{Effect, L4Protocol, Reason};

/// The suites of sources, in their order. Documents of other kinds are passed over; a source that is no YAML is
/// reported by whoever reads its policies, and here as well.
pub fn load(sources: &[Source]) -> (Vec<Suite>, Vec<Diagnostic>) {
    companions(sources, "PolicyTest", suite)
}

fn suite(report: &mut Report, node: &Node) -> Option<Suite> {
    let (name, mut spec) = opened(report, node, "a PolicyTest")?;
    let mut cases = Vec::new();
    for (field, effect) in [("allow", Effect::Allow), ("deny", Effect::Deny)] {
        for node in spec.list(report, field).unwrap_or_default() {
            cases.extend(case(report, node, effect));
        }
    }
    if !spec.has("allow") && !spec.has("deny") {
        report
            .error("missing-field", spec.span(), "a PolicyTest needs `allow` or `deny`")
            .help("list the flows that must pass or must not");
    }
    spec.finish(report);
    Some(Suite { name: name?.to_owned(), file: report.file().to_owned(), cases })
}

fn case(report: &mut Report, node: &Node, effect: Effect) -> Option<Case> {
    let before = report.error_count();
    let mut fields = Fields::open(report, node, "a case", Nulls::Refused)?;
    let name = fields.text(report, "name");
    let from = fields.required(report, "from").map(|node| named_ends(report, node, "from"));
    let to = fields.required(report, "to").map(|node| named_ends(report, node, "to"));
    let ports = fields.required(report, "port").map(|node| ports(report, node));
    let request = requests::read(report, &mut fields);
    let versions = [("enforced", Version::Enforced), ("shadow", Version::Shadow)];
    let version = fields.choice(report, "answer", &versions).unwrap_or_default();
    let rule = fields.text(report, "rule").map(str::to_owned);
    let reason = fields.get(report, "reason").and_then(|node| reason(report, node));
    fields.finish(report);
    if report.error_count() > before {
        return None;
    }
    let (from, to, ports) = (from?, to?, ports?);
    let name = name.map_or_else(|| made_name(&from, &to, &ports, request.as_ref(), effect), str::to_owned);
    Some(Case {
        name,
        span: node.span,
        from,
        to,
        ports,
        request,
        expected: Expected { effect, version, rule, reason },
    })
}

fn made_name(
    from: &[(String, Span)],
    to: &[(String, Span)],
    ports: &[(L4Protocol, u16)],
    request: Option<&RequestQuestion>,
    effect: Effect,
) -> String {
    let ports = ports.iter().map(|port| shown_port(*port)).collect::<Vec<_>>().join(", ");
    let request = request.map(|request| format!(" {request}")).unwrap_or_default();
    format!("{effect} {} to {} {ports}{request}", joined_ends(from), joined_ends(to))
}

/// `tcp/80`, `icmp/8`.
pub(super) fn shown_port((protocol, port): (L4Protocol, u16)) -> String {
    if protocol.is_icmp() { format!("{protocol}/{}", port >> 8) } else { format!("{protocol}/{port}") }
}

/// One port, or a list of them; each a single one by number.
fn ports(report: &mut Report, node: &Node) -> Vec<(L4Protocol, u16)> {
    let items = node.as_list().unwrap_or(std::slice::from_ref(node));
    if items.is_empty() {
        report.error("empty-list", node.span, "`port` is empty").help("name at least one port");
    }
    let mut found = Vec::new();
    for item in items {
        for port in crate::documents::read_port(report, item) {
            match port {
                PortMatch::Range(protocol, range) if is_single(protocol, range) => {
                    found.push((protocol, range.first()))
                }
                PortMatch::Range(..) | PortMatch::Named(..) => {
                    report
                        .error("bad-port", item.span, "a case asks about one port by number")
                        .help("write `8080`, `udp/53` or `icmp/echo-request`; several in a list");
                    return Vec::new();
                }
            }
        }
    }
    found
}

fn is_single(protocol: L4Protocol, range: bulkhead_facts::PortRange) -> bool {
    if protocol.is_icmp() { range.first() >> 8 == range.last() >> 8 } else { range.first() == range.last() }
}

fn reason(report: &mut Report, node: &Node) -> Option<Reason> {
    let text = node.expect_text(report, "reason")?;
    let reason = Reason::parse(text);
    if reason.is_none() {
        let names = Reason::ALL.iter().map(|reason| reason.as_str());
        let help = match nearest(text, names) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "docs/reasons.md lists them".to_owned(),
        };
        report.error("bad-value", node.span, format!("reason {} is unknown", quoted(text))).help(help);
    }
    reason
}

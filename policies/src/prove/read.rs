//! `PolicyProof` documents to assertions.

use super::{Assertion, Claim, Names, Proof};
use crate::diagnostics::{Diagnostic, Report, Source};
use crate::documents::{SECTIONS, companions, joined_ends, named_ends, opened, read_port, read_section};
use crate::model::{L7Section, PortMatch};
use crate::yaml::{Fields, Node, Nulls};
use bulkhead_facts::{L4Protocol, PortRange};

/// The proofs of sources, in their order. Documents of other kinds are passed over.
pub fn load(sources: &[Source]) -> (Vec<Proof>, Vec<Diagnostic>) {
    companions(sources, "PolicyProof", proof)
}

fn proof(report: &mut Report, node: &Node) -> Option<Proof> {
    let (name, mut spec) = opened(report, node, "a PolicyProof")?;
    let mut assertions = Vec::new();
    for (field, read) in [("never", never as Read), ("only", only), ("contained", contained)] {
        let items = spec.list(report, field).unwrap_or_default();
        assertions.extend(items.iter().filter_map(|item| assertion(report, item, read)));
    }
    let written = ["never", "only", "contained"].into_iter().filter(|field| spec.has(field)).count();
    if written == 0 {
        report
            .error("missing-field", spec.span(), "a PolicyProof needs `never`, `only` or `contained`")
            .help("list what must never pass, who alone may, or how far a workload may reach");
    }
    spec.finish(report);
    Some(Proof { name: name?.to_owned(), file: report.file().to_owned(), assertions })
}

/// Reads the fields of one kind of assertion: the name that it would have, and what it says.
type Read = fn(&mut Report, &mut Fields<'_>) -> Option<(String, Claim)>;

fn assertion(report: &mut Report, node: &Node, read: Read) -> Option<Assertion> {
    let before = report.error_count();
    let mut fields = Fields::open(report, node, "an assertion", Nulls::Refused)?;
    let name = fields.text(report, "name");
    let found = read(report, &mut fields);
    fields.finish(report);
    if report.error_count() > before {
        return None;
    }
    let (made, claim) = found?;
    Some(Assertion { name: name.map_or(made, str::to_owned), span: node.span, claim })
}

fn never(report: &mut Report, fields: &mut Fields<'_>) -> Option<(String, Claim)> {
    let from = names(report, fields, "from");
    let except = names(report, fields, "except").unwrap_or_default();
    let to = names(report, fields, "to");
    if from.is_none() && to.is_none() {
        report
            .error("missing-field", fields.span(), "an assertion of `never` needs `from` or `to`")
            .help("name who must not, or what must not be reached");
    }
    let Traffic { ports, section, words } = traffic(report, fields);
    let apart = if except.is_empty() { String::new() } else { format!(" except {}", joined_ends(&except)) };
    let (who, what) = (
        from.as_deref().map_or("anybody".into(), joined_ends),
        to.as_deref().map_or("anything".into(), joined_ends),
    );
    let name = format!("never {who}{apart} to {what}{}", shown(ports.as_deref(), &words));
    Some((name, Claim::Never { from, except, to, ports, section }))
}

fn only(report: &mut Report, fields: &mut Fields<'_>) -> Option<(String, Claim)> {
    fields.required(report, "from");
    fields.required(report, "to");
    let (except, to) = (names(report, fields, "from"), names(report, fields, "to"));
    let Traffic { ports, section, words } = traffic(report, fields);
    let (except, to) = (except?, to?);
    let name =
        format!("only {} to {}{}", joined_ends(&except), joined_ends(&to), shown(ports.as_deref(), &words));
    Some((name, Claim::Never { from: None, except, to: Some(to), ports, section }))
}

fn contained(report: &mut Report, fields: &mut Fields<'_>) -> Option<(String, Claim)> {
    fields.required(report, "from");
    fields.required(report, "within");
    let (from, within) = (names(report, fields, "from")?, names(report, fields, "within")?);
    Some((
        format!("{} reaches only {}", joined_ends(&from), joined_ends(&within)),
        Claim::Contained { from, within },
    ))
}

fn names(report: &mut Report, fields: &mut Fields<'_>, field: &'static str) -> Names {
    let node = fields.get(report, field)?;
    Some(named_ends(report, node, field))
}

/// What a flow has to carry to count.
struct Traffic {
    ports: Option<Vec<(L4Protocol, PortRange)>>,
    section: Option<L7Section>,
    /// The section, for a name.
    words: String,
}

fn traffic(report: &mut Report, fields: &mut Fields<'_>) -> Traffic {
    let ports = fields.get(report, "port").map(|node| ports(report, node));
    let written: Vec<(&str, &Node)> =
        SECTIONS.into_iter().filter_map(|name| Some((name, fields.get(report, name)?))).collect();
    let read: Vec<(&str, Option<L7Section>)> =
        written.iter().map(|(name, node)| (*name, read_section(report, name, node))).collect();
    if let [(first, _), (second, node), ..] = written[..] {
        report
            .error(
                "two-sections",
                node.span,
                format!("an assertion is about one protocol, and this one has `{first}` and `{second}`"),
            )
            .help("write two assertions");
    }
    let Some((name, section)) = read.into_iter().next() else {
        return Traffic { ports, section: None, words: String::new() };
    };
    let words = section.as_ref().map_or(String::new(), |section| words(name, section));
    Traffic { ports, section, words }
}

/// Requests of HTTP are told, of other protocols only that there are some.
fn words(name: &str, section: &L7Section) -> String {
    let L7Section::Http(requests) = section else { return format!(" {name}") };
    let requests = requests.iter().map(|http| {
        let path = http.path.as_ref().map_or("…", |path| path.as_str());
        let methods = if http.methods.is_empty() { "any".to_owned() } else { http.methods.join("|") };
        format!(" {methods} {path}")
    });
    requests.collect()
}

fn ports(report: &mut Report, node: &Node) -> Vec<(L4Protocol, PortRange)> {
    let items = node.as_list().unwrap_or(std::slice::from_ref(node));
    if items.is_empty() {
        report.error("empty-list", node.span, "`port` is empty").help("leave it out if every port is meant");
    }
    let mut found = Vec::new();
    for item in items {
        for port in read_port(report, item) {
            match port {
                PortMatch::Range(protocol, range) => found.push((protocol, range)),
                PortMatch::Named(..) => {
                    report
                        .error("bad-port", item.span, "an assertion names ports by number")
                        .help("write `8080`, `\"8000-8010\"`, `udp/53` or `icmp/echo-request`");
                }
            }
        }
    }
    found
}

fn shown(ports: Option<&[(L4Protocol, PortRange)]>, words: &str) -> String {
    let ports = ports.unwrap_or_default().iter().map(|(protocol, range)| format!(" {protocol}/{range}"));
    ports.chain([words.to_owned()]).collect()
}

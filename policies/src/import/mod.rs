//! Policies of other products to documents of ours.
//!
//! [`import`] reads documents of one [`Dialect`] and writes SegmentPolicies and ClusterSegmentPolicies. What cannot be
//! carried is told at its place: a warning `not-carried` where the result is stricter than the original (an allow that
//! is left out, a deny that is widened), an error where leaving it out would let more through. The result is never weaker.
//!
//! One file for each dialect; `statement` holds the shape that they share, `pattern` reads regular expressions that are templates,
//! `write` prints.

mod calico;
mod calico_selector;
mod cilium;
mod cilium_peers;
mod cilium_ports;
mod istio;
mod istio_requests;
mod neuvector;
mod pattern;
mod statement;
mod write;

use crate::diagnostics::{Diagnostic, Report, Severity, Source, Span, quoted};
use crate::documents::{items_of, load, type_of, type_of_item};
use crate::model::Policy;
use crate::yaml::{self, Node};
use bulkhead_facts::Cidr;

/// The code of what cannot be carried.
const NOT_CARRIED: &str = "not-carried";

/// Whose documents are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy.
    Cilium,
    /// AuthorizationPolicy of Istio.
    Istio,
    /// NetworkPolicy and GlobalNetworkPolicy of Calico.
    Calico,
    /// NvSecurityRule and NvClusterSecurityRule of NeuVector.
    Neuvector,
}

impl Dialect {
    /// The name in lower case, which also begins the names of imported cluster policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cilium => "cilium",
            Self::Istio => "istio",
            Self::Calico => "calico",
            Self::Neuvector => "neuvector",
        }
    }
}

/// What a person knows and the documents do not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportOptions {
    /// Addresses of pods, nodes and Services, which address blocks of Cilium never mean. Empty: private blocks are taken for them.
    pub cluster_networks: Vec<Cidr>,
    /// True if patterns of paths and hosts are not meant to refuse a query or a port behind them.
    pub ignore_query_and_port: bool,
    /// The namespace whose AuthorizationPolicies hold for the whole mesh.
    pub root_namespace: String,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            cluster_networks: Vec::new(),
            ignore_query_and_port: false,
            root_namespace: "istio-system".to_owned(),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The documents in their one layout; none if there are errors.
    pub documents: String,
    /// How many there are.
    pub count: usize,
    /// What cannot be carried: warnings where the result is stricter, errors where nothing sound can be written.
    pub diagnostics: Vec<Diagnostic>,
}

impl Imported {
    /// True if the documents must not be used.
    pub fn has_errors(&self) -> bool {
        crate::diagnostics::has_errors(&self.diagnostics)
    }

    /// True if something was left out or widened.
    pub fn has_losses(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity == Severity::Warning)
    }
}

/// Reads documents of one dialect. Documents of other kinds are errors if they are policies or part of such, else left alone.
pub fn import(dialect: Dialect, sources: &[Source], options: &ImportOptions) -> Imported {
    let mut policies = Vec::new();
    let mut diagnostics = Vec::new();
    let mut ordered = Vec::new();
    let mut denials = 0;
    for source in sources {
        let documents = match yaml::parse(source) {
            Ok(documents) => documents,
            Err(found) => {
                diagnostics.extend(found);
                continue;
            }
        };
        let report = Report::new(&*source.name);
        let mut carrier = Carrier { report, options, policies, ordered, denials };
        for document in &documents {
            read_document(dialect, &mut carrier, document);
        }
        diagnostics.extend(carrier.report.finish());
        (policies, ordered, denials) = (carrier.policies, carrier.ordered, carrier.denials);
    }
    policies.extend(calico::in_order(ordered));
    let mut documents = write::documents(&policies);
    diagnostics.extend(unsound(&documents, diagnostics.is_empty()));
    if crate::diagnostics::has_errors(&diagnostics) {
        documents = String::new();
    }
    Imported { documents, count: policies.len(), diagnostics }
}

/// What our own reader refuses in the result: a limit that is reached, a name that is taken twice.
fn unsound(documents: &str, report_nothing: bool) -> Vec<Diagnostic> {
    let loaded = load(&[Source { name: "(imported)".to_owned(), text: documents.to_owned() }]);
    let mut found = loaded.diagnostics;
    found.retain(|diagnostic| diagnostic.severity == Severity::Error);
    if loaded.set.policies.is_empty() && found.is_empty() && report_nothing {
        let mut report = Report::new("(imported)");
        report
            .error(NOT_CARRIED, Span::default(), "no policy of this format is in the files")
            .help("name the format that the files are written in");
        found.extend(report.finish());
    }
    found
}

/// A rule of the original allows or denies: that decides which way an error goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    /// What cannot be carried is left out.
    Allow,
    /// What cannot be carried is widened.
    Deny,
}

/// What is being written, and what was found.
struct Carrier<'a> {
    report: Report,
    options: &'a ImportOptions,
    policies: Vec<Policy>,
    /// Policies of Calico, which have an order among each other.
    ordered: Vec<calico::Ordered>,
    /// Policies with denials so far: each has its own priority.
    denials: i32,
}

impl Carrier<'_> {
    /// Something that is left out of an allow or widens a deny.
    fn lost(&mut self, sense: Sense, span: Span, what: &str) {
        let (message, help) = match sense {
            Sense::Allow => (
                format!("{what} cannot be carried: the allow is left out"),
                "write the allow by hand if it is needed",
            ),
            Sense::Deny => (
                format!("{what} cannot be carried: the deny is widened"),
                "narrow the deny by hand if it takes too much",
            ),
        };
        self.report.warning(NOT_CARRIED, span, message).help(help);
    }

    /// Something that is stricter than it was.
    fn narrowed(&mut self, span: Span, message: impl Into<String>) {
        self.report.warning(NOT_CARRIED, span, message);
    }

    /// Something without which the result would be weaker.
    fn refused(&mut self, span: Span, message: impl Into<String>) {
        self.report
            .error(NOT_CARRIED, span, message)
            .help("take it out of the files and write what it protects by hand");
    }

    /// A block of addresses as people write it, masked.
    fn cidr(&mut self, node: &Node) -> Option<Cidr> {
        let text = node.expect_text(&mut self.report, "an address block")?;
        match text.parse::<Cidr>() {
            Ok(block) => Some(block),
            Err(error) => {
                self.report.error("bad-cidr", node.span, format!("{}: {error}", quoted(text)));
                None
            }
        }
    }

    /// Every field of a mapping that is not among these.
    fn unknown_fields(&self, node: &Node, known: &[&str]) -> Vec<(String, Span)> {
        let entries = node.as_map().unwrap_or_default();
        let unknown = entries.iter().filter(|entry| !known.contains(&entry.key.as_str()));
        unknown
            .filter(|entry| !entry.value.is_null())
            .map(|entry| (format!("field {}", quoted(&entry.key)), entry.key_span))
            .collect()
    }

    /// Refuses fields that are not known; true if there is none.
    fn knows_all(&mut self, node: &Node, known: &[&str]) -> bool {
        let unknown = self.unknown_fields(node, known);
        for (what, span) in &unknown {
            self.refused(*span, format!("{what} is not understood"));
        }
        unknown.is_empty()
    }
}

/// A value that is there: a field without one counts as absent, as in Kubernetes.
fn present<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    node.child(name).filter(|value| !value.is_null())
}

/// The items of a list field; none if it is absent.
fn items<'a>(carrier: &mut Carrier<'_>, node: &'a Node, name: &str) -> &'a [Node] {
    present(node, name).and_then(|list| list.expect_list(&mut carrier.report, name)).unwrap_or_default()
}

/// The texts of a list field; numbers count as text where a product writes ports so.
fn texts<'a>(carrier: &mut Carrier<'_>, node: &'a Node, name: &str) -> Vec<(&'a str, Span)> {
    let mut found = Vec::new();
    for item in items(carrier, node, name) {
        match item.as_scalar() {
            Some(scalar) if !item.is_null() => found.push((scalar.text.as_str(), item.span)),
            Some(_) | None => {
                item.expect_text(&mut carrier.report, name);
            }
        }
    }
    found
}

fn read_document(dialect: Dialect, carrier: &mut Carrier<'_>, node: &Node) {
    let Some((version, kind)) = type_of(&mut carrier.report, node) else { return };
    let Some(items) = items_of(&mut carrier.report, node, kind) else {
        return read_kind(dialect, carrier, node, version, kind);
    };
    for item in items {
        let found = type_of_item(&mut carrier.report, item, (version, kind));
        if let Some((version, kind)) = found {
            read_kind(dialect, carrier, item, version, kind);
        }
    }
}

/// Kinds beside policies that change what policies mean.
const BEARING: [&str; 7] = [
    "Tier",
    "NetworkSet",
    "GlobalNetworkSet",
    "HostEndpoint",
    "CiliumCIDRGroup",
    "CiliumLocalRedirectPolicy",
    "NvGroupDefinition",
];

fn read_kind(dialect: Dialect, carrier: &mut Carrier<'_>, node: &Node, version: &str, kind: &str) {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    match (dialect, group, kind) {
        (Dialect::Cilium, "cilium.io", "CiliumNetworkPolicy") => cilium::read(carrier, node, false),
        (Dialect::Cilium, "cilium.io", "CiliumClusterwideNetworkPolicy") => cilium::read(carrier, node, true),
        (Dialect::Istio, "security.istio.io", "AuthorizationPolicy") => istio::read(carrier, node),
        (Dialect::Calico, "projectcalico.org" | "crd.projectcalico.org", _) => {
            calico::read(carrier, node, kind);
        }
        (Dialect::Neuvector, "neuvector.com", "NvSecurityRule") => neuvector::read(carrier, node, false),
        (Dialect::Neuvector, "neuvector.com", "NvClusterSecurityRule") => {
            neuvector::read(carrier, node, true)
        }
        _ if kind.ends_with("Policy") || kind.starts_with("Nv") || BEARING.contains(&kind) => {
            let message = format!("{kind} of {} is not read as {}", quoted(version), dialect.as_str());
            carrier.refused(node.span, message);
        }
        _ => {}
    }
}

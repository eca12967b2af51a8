//! Documents that stand beside policies and are no policies: cases and proofs.
//!
//! They share files with policies, so whoever reads one kind passes over all others.

use super::API_VERSION;
use crate::diagnostics::{Diagnostic, Report, Source, Span};
use crate::yaml::{self, Fields, Node, Nulls};

/// All documents of one kind of ours in the sources, in their order, each read by `read`. A source that is no YAML is reported.
pub(crate) fn companions<T>(
    sources: &[Source],
    kind: &str,
    read: impl Fn(&mut Report, &Node) -> Option<T>,
) -> (Vec<T>, Vec<Diagnostic>) {
    let (mut all, mut found) = (Vec::new(), Vec::new());
    for source in sources {
        match yaml::parse(source) {
            Ok(documents) => {
                let mut report = Report::new(&*source.name);
                let mine = documents.iter().filter(|node| is_of(node, kind));
                all.extend(mine.filter_map(|node| read(&mut report, node)));
                found.extend(report.finish());
            }
            Err(diagnostics) => found.extend(diagnostics),
        }
    }
    (all, found)
}

/// The name of a companion, and the fields of its `spec`.
pub(crate) fn opened<'n>(
    report: &mut Report,
    node: &'n Node,
    called: &'static str,
) -> Option<(Option<&'n str>, Fields<'n>)> {
    let mut document = Fields::open(report, node, called, Nulls::Refused)?;
    document.ignore(&["apiVersion", "kind"]);
    let metadata = document.required(report, "metadata");
    let spec = document.required(report, "spec");
    document.finish(report);
    let mut metadata = Fields::open(report, metadata?, "metadata", Nulls::Refused)?;
    metadata.ignore(&["labels", "annotations"]);
    let name = metadata.required_text(report, "name");
    metadata.finish(report);
    Some((name, Fields::open(report, spec?, "spec", Nulls::Refused)?))
}

/// One text, or a list of them, each with its place: the ends that a case or an assertion names.
pub(crate) fn named_ends(report: &mut Report, node: &Node, field: &str) -> Vec<(String, Span)> {
    let items = node.as_list().unwrap_or(std::slice::from_ref(node));
    if items.is_empty() {
        report.error("empty-list", node.span, format!("`{field}` is empty")).help("name at least one end");
    }
    items.iter().filter_map(|item| Some((item.expect_text(report, field)?.to_owned(), item.span))).collect()
}

/// Ends as they were written, for the name of a case or an assertion.
pub(crate) fn joined_ends(ends: &[(String, Span)]) -> String {
    ends.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn is_of(node: &Node, kind: &str) -> bool {
    let field = |name| node.child(name).and_then(Node::as_str);
    field("kind") == Some(kind) && field("apiVersion") == Some(API_VERSION)
}

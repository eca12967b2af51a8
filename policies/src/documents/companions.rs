//! Documents that stand beside policies and are no policies: cases and proofs.
//!
//! They share files with policies, so whoever reads one kind passes over all others.

use super::API_VERSION;
use crate::diagnostics::{Diagnostic, Report, Source};
use crate::yaml::{self, Node};

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

fn is_of(node: &Node, kind: &str) -> bool {
    let field = |name| node.child(name).and_then(Node::as_str);
    field("kind") == Some(kind) && field("apiVersion") == Some(API_VERSION)
}

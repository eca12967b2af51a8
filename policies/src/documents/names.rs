//! Names, namespaces, labels and metadata, as Kubernetes validates them.

use crate::diagnostics::{Report, Span, quoted};
use crate::yaml::{Fields, Node, Nulls};

/// Name and namespace of an object.
pub(super) struct Metadata<'a> {
    pub(super) name: &'a str,
    pub(super) name_span: Span,
    /// `None` where the document gives none.
    pub(super) namespace: Option<&'a str>,
}

/// Fields of metadata that say nothing about traffic.
const UNREAD: [&str; 12] = [
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "managedFields",
    "ownerReferences",
    "selfLink",
];

/// Reads `metadata` of a document of ours or of Kubernetes.
pub(super) fn metadata<'a>(report: &mut Report, document: &mut Fields<'a>) -> Option<Metadata<'a>> {
    let node = document.required(report, "metadata")?;
    let mut fields = Fields::open(report, node, "metadata", Nulls::Absent)?;
    fields.ignore(&UNREAD);
    let name_node = fields.required(report, "name");
    let name = name_node.and_then(|node| node.expect_text(report, "name"));
    let namespace_node = fields.get(report, "namespace");
    let namespace = namespace_node.and_then(|node| node.expect_text(report, "namespace"));
    fields.finish(report);
    if let (Some(node), Some(text)) = (namespace_node, namespace) {
        namespace_name(report, node.span, text)?;
    }
    let (name, name_span) = (name?, name_node.map(|node| node.span)?);
    object_name(report, name_span, name)?;
    Some(Metadata { name, name_span, namespace })
}

/// A namespaced document without a namespace belongs to `default`, as with `kubectl`.
pub(super) fn namespace_or_default<'a>(report: &mut Report, metadata: &Metadata<'a>) -> &'a str {
    metadata.namespace.unwrap_or_else(|| {
        report
            .warning(
                "no-namespace",
                metadata.name_span,
                format!("{} has no namespace: read as `default`", quoted(metadata.name)),
            )
            .help("write `namespace: …` in metadata");
        "default"
    })
}

/// Refuses a namespace on a cluster-scoped kind.
pub(super) fn refuse_namespace(report: &mut Report, metadata: &Metadata<'_>, document: &Node, kind: &str) {
    if metadata.namespace.is_some() {
        let node = document.child("metadata").and_then(|metadata| metadata.child("namespace"));
        let span = node.map_or(metadata.name_span, |node| node.span);
        report
            .error("unknown-field", span, format!("a {kind} belongs to no namespace"))
            .help("remove `namespace` from metadata");
    }
}

/// A DNS subdomain (RFC 1123), as names of objects are.
pub(super) fn object_name(report: &mut Report, span: Span, text: &str) -> Option<()> {
    let sound = text.len() <= 253 && text.split('.').all(is_label);
    if !sound {
        report
            .error("bad-name", span, format!("{} is no name of an object", quoted(text)))
            .help("use lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit");
    }
    sound.then_some(())
}

/// A DNS label (RFC 1123), as names of namespaces and Services are.
pub(super) fn namespace_name(report: &mut Report, span: Span, text: &str) -> Option<()> {
    let sound = is_label(text);
    if !sound {
        report.error("bad-name", span, format!("{} is no name of a namespace", quoted(text))).help(
            "use at most 63 lower-case letters, digits and `-`, beginning and ending with a letter or digit",
        );
    }
    sound.then_some(())
}

/// True for a DNS label (RFC 1123): lower-case letters, digits and inner hyphens.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Checks a label key: `name` or `prefix/name`.
pub(super) fn label_key(report: &mut Report, span: Span, text: &str) -> Option<()> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let prefix_sound = prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_label));
    let sound = prefix_sound && !name.is_empty() && is_label_text(name);
    if !sound {
        report
            .error("bad-label", span, format!("{} is no label key", quoted(text)))
            .help("write `name` or `prefix.example/name`: letters, digits, `-`, `_` and `.`, at most 63 after the `/`");
    }
    sound.then_some(())
}

/// Checks a label value: empty, or at most 63 characters.
pub(super) fn label_value(report: &mut Report, span: Span, text: &str) -> Option<()> {
    let sound = is_label_text(text);
    if !sound {
        report
            .error("bad-label", span, format!("{} is no label value: no object can have it", quoted(text)))
            .help("use at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit");
    }
    sound.then_some(())
}

fn is_label_text(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(text.as_bytes().first())
        && edge(text.as_bytes().last())
}

/// The name of a container port (RFC 6335 section 5.1).
pub(super) fn is_port_name(text: &str) -> bool {
    text.len() <= 15 && is_label(text) && !text.contains("--") && text.bytes().any(|b| b.is_ascii_lowercase())
}

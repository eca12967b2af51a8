//! Label selectors in the short and in the full Kubernetes form.

use super::names::{label_key, label_value, namespace_name};
use crate::diagnostics::{Report, Span, quoted};
use crate::limits::SELECTOR_ITEMS_MAX;
use crate::model::{Operator, Requirement, Selector};
use crate::yaml::{Entry, Fields, Node, Nulls};

/// The label that the API server puts on every namespace.
pub(crate) const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What the labels of a selector belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Pods.
    Workloads,
    /// Namespaces: in the short form `name` is the namespace's own name.
    Namespaces,
}

/// Reads `{app: payments}` or `{matchLabels: …, matchExpressions: …}`.
pub(super) fn short_or_full(report: &mut Report, node: &Node, of: Of) -> Option<Selector> {
    let what = match of {
        Of::Workloads => "a selector of workloads",
        Of::Namespaces => "a selector of namespaces",
    };
    if node.child("matchLabels").is_some() || node.child("matchExpressions").is_some() {
        return full(report, node, what, None);
    }
    let entries = Fields::open(report, node, what, Nulls::Refused).and(node.as_map())?;
    let mut requirements = Vec::new();
    for entry in entries {
        requirements.extend(short_requirement(report, entry, of));
    }
    limited(report, node.span, requirements.len())?;
    requirements.sort();
    Some(Selector { requirements })
}

/// `key: value`, or `key: [one, another]`.
fn short_requirement(report: &mut Report, entry: &Entry, of: Of) -> Option<Requirement> {
    let is_name = of == Of::Namespaces && entry.key == "name";
    let key = if is_name { NAMESPACE_NAME_LABEL } else { &entry.key };
    label_key(report, entry.key_span, key)?;
    let nodes = entry.value.as_list().unwrap_or(std::slice::from_ref(&entry.value));
    if nodes.is_empty() {
        report
            .error("matches-nobody", entry.value.span, format!("label {} has no values", quoted(&entry.key)))
            .help("an empty list matches nobody: name the values or remove the line");
    }
    limited(report, entry.value.span, nodes.len())?;
    let mut values = Vec::new();
    for node in nodes {
        let value = node.expect_text(report, &entry.key)?;
        if is_name {
            namespace_name(report, node.span, value)?;
        }
        label_value(report, node.span, value)?;
        values.push(value.to_owned());
    }
    Some(requirement(key, Operator::In(values)))
}

/// Reads the full Kubernetes form. With `unknown`, an unknown field is a warning that sets the flag.
pub(super) fn full(
    report: &mut Report,
    node: &Node,
    what: &str,
    unknown: Option<&mut bool>,
) -> Option<Selector> {
    let mut fields = Fields::open(report, node, what, Nulls::Absent)?;
    let mut requirements = Vec::new();
    if let Some(labels) = fields.get(report, "matchLabels") {
        requirements.extend(match_labels(report, labels)?);
    }
    let mut unknown = unknown;
    for expression in fields.list(report, "matchExpressions").unwrap_or_default() {
        requirements.extend(match_expression(report, expression, unknown.as_deref_mut()));
    }
    match unknown {
        Some(unknown) => super::foreign::finish(report, fields, unknown),
        None => fields.finish(report),
    }
    limited(report, node.span, requirements.len())?;
    requirements.sort();
    Some(Selector { requirements })
}

fn match_labels(report: &mut Report, node: &Node) -> Option<Vec<Requirement>> {
    Fields::open(report, node, "matchLabels", Nulls::Absent)?;
    let mut requirements = Vec::new();
    for entry in node.as_map()? {
        let value = entry.value.expect_text(report, &entry.key);
        if label_key(report, entry.key_span, &entry.key).is_some()
            && let Some(value) = value
            && label_value(report, entry.value.span, value).is_some()
        {
            requirements.push(requirement(&entry.key, Operator::In(vec![value.to_owned()])));
        }
    }
    Some(requirements)
}

fn match_expression(report: &mut Report, node: &Node, unknown: Option<&mut bool>) -> Option<Requirement> {
    let mut fields = Fields::open(report, node, "a label expression", Nulls::Absent)?;
    let key_node = fields.required(report, "key");
    let key = key_node.and_then(|node| node.expect_text(report, "key"));
    let choices = [("In", 0), ("NotIn", 1), ("Exists", 2), ("DoesNotExist", 3)];
    fields.required(report, "operator");
    let operator = fields.choice(report, "operator", &choices);
    let values = fields.texts(report, "values").unwrap_or_default();
    let span = fields.span();
    match unknown {
        Some(unknown) => super::foreign::finish(report, fields, unknown),
        None => fields.finish(report),
    }
    let (key, operator) = (key?, operator?);
    label_key(report, key_node?.span, key)?;
    for (value, span) in &values {
        label_value(report, *span, value)?;
    }
    limited(report, span, values.len())?;
    let takes_values = operator < 2;
    if takes_values && values.is_empty() {
        report
            .error("matches-nobody", span, "`In` and `NotIn` need `values`")
            .help("name at least one value");
        return None;
    }
    if !takes_values && !values.is_empty() {
        report
            .error("bad-value", span, "`Exists` and `DoesNotExist` take no `values`")
            .help("remove `values`");
        return None;
    }
    let mut values: Vec<String> = values.into_iter().map(|(value, _)| value.to_owned()).collect();
    values.sort();
    values.dedup();
    let operator = match operator {
        0 => Operator::In(values),
        1 => Operator::NotIn(values),
        2 => Operator::Exists,
        _ => Operator::DoesNotExist,
    };
    Some(Requirement { key: key.to_owned(), operator })
}

fn requirement(key: &str, operator: Operator) -> Requirement {
    let operator = match operator {
        Operator::In(mut values) => {
            values.sort();
            values.dedup();
            Operator::In(values)
        }
        other @ (Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist) => other,
    };
    Requirement { key: key.to_owned(), operator }
}

fn limited(report: &mut Report, span: Span, count: usize) -> Option<()> {
    let sound = count <= SELECTOR_ITEMS_MAX;
    if !sound {
        report.over_limit(
            "SELECTOR_ITEMS_MAX",
            span,
            format!("{count} items in a selector, at most {SELECTOR_ITEMS_MAX} are read"),
            "select by a label that they share",
        );
    }
    sound.then_some(())
}

//! Collections: what a team owns and how strictly it is held.

use super::names::{metadata, refuse_namespace};
use super::peers::unsupported;
use super::segment::read_subjects;
use crate::diagnostics::{Report, Span, quoted};
use crate::model::{Collection, CollectionDefault, Criticality};
use crate::yaml::{Fields, Node, Nulls};
use bulkhead_facts::Mode;

/// Reads one document.
pub(super) fn read(report: &mut Report, node: &Node) -> Option<Collection> {
    let mut document = Fields::open(report, node, "a Collection", Nulls::Refused)?;
    document.ignore(&["apiVersion", "kind", "status"]);
    let metadata = metadata(report, &mut document)?;
    refuse_namespace(report, &metadata, node, "Collection");
    let spec_node = document.required(report, "spec");
    document.finish(report);
    let mut spec = Fields::open(report, spec_node?, "spec", Nulls::Refused)?;
    let covers = spec.required(report, "covers").and_then(|node| read_subjects(report, node, "covers"));
    let owners = spec.texts(report, "owners").unwrap_or_default();
    let defaults = [("deny", CollectionDefault::Deny), ("kubernetes", CollectionDefault::Kubernetes)];
    let default = spec.choice(report, "default", &defaults);
    let modes = [("observe", Mode::Observe), ("audit", Mode::Audit), ("enforce", Mode::Enforce)];
    let mode = spec.choice(report, "mode", &modes);
    let weights = [("low", Criticality::Low), ("normal", Criticality::Normal), ("high", Criticality::High)];
    let criticality = spec.choice(report, "criticality", &weights).unwrap_or_default();
    for name in ["schedule", "freeze", "infrastructure"] {
        if let Some(entry) = spec.entry(report, name) {
            unsupported(report, entry.key_span, &format!("`{name}` entries"));
        }
    }
    spec.finish(report);
    Some(Collection {
        name: metadata.name.to_owned(),
        covers: covers?,
        owners: owners.iter().filter_map(|(text, span)| owner(report, text, *span)).collect(),
        default: default.unwrap_or_default(),
        mode: mode.unwrap_or_default(),
        criticality,
    })
}

/// `user:NAME` or `group:NAME`.
fn owner(report: &mut Report, text: &str, span: Span) -> Option<String> {
    let name = text.strip_prefix("user:").or_else(|| text.strip_prefix("group:"));
    let sound = name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic()));
    if !sound {
        report
            .error("bad-value", span, format!("{} is no owner", quoted(text)))
            .help("write `user:NAME` or `group:NAME`");
    }
    sound.then(|| text.to_owned())
}

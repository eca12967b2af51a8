//! Collections: what a team owns and how strictly it is held.

use super::dates;
use super::names::{metadata, refuse_namespace};
use super::segment::read_subjects;
use crate::diagnostics::{Report, Span, quoted};
use crate::limits::RULE_ITEMS_MAX;
use crate::model::{Collection, CollectionDefault, Criticality, Freeze, Infrastructure, ScheduleStep, Share};
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
    let mode = spec.choice(report, "mode", &MODES);
    let weights = [("low", Criticality::Low), ("normal", Criticality::Normal), ("high", Criticality::High)];
    let criticality = spec.choice(report, "criticality", &weights).unwrap_or_default();
    let schedule = read_schedule(report, &mut spec);
    let freeze = read_freeze(report, &mut spec);
    let infrastructure = read_infrastructure(report, &mut spec, default.unwrap_or_default());
    spec.finish(report);
    Some(Collection {
        name: metadata.name.to_owned(),
        covers: covers?,
        owners: owners.iter().filter_map(|(text, span)| owner(report, text, *span)).collect(),
        default: default.unwrap_or_default(),
        mode: mode.unwrap_or_default(),
        canary: Share::ALL,
        schedule,
        freeze,
        infrastructure,
        criticality,
    })
}

const MODES: [(&str, Mode); 3] =
    [("observe", Mode::Observe), ("audit", Mode::Audit), ("enforce", Mode::Enforce)];

fn items<'a>(report: &mut Report, spec: &mut Fields<'a>, name: &'static str) -> &'a [Node] {
    let Some(node) = spec.get(report, name) else { return &[] };
    let found = node.expect_list(report, name).unwrap_or_default();
    if found.len() > RULE_ITEMS_MAX {
        report.over_limit(
            "RULE_ITEMS_MAX",
            node.span,
            format!("more than {RULE_ITEMS_MAX} entries in `{name}`"),
            "remove those that are past",
        );
        return &[];
    }
    found
}

fn read_schedule(report: &mut Report, spec: &mut Fields<'_>) -> Vec<ScheduleStep> {
    let mut steps: Vec<ScheduleStep> = Vec::new();
    for node in items(report, spec, "schedule") {
        let Some(mut fields) = Fields::open(report, node, "a step", Nulls::Refused) else { continue };
        let from = dates::required(report, &mut fields, "from");
        fields.required(report, "mode");
        let mode = fields.choice(report, "mode", &MODES);
        let canary = read_canary(report, &mut fields, mode);
        fields.finish(report);
        let (Some(from), Some(mode)) = (from, mode) else { continue };
        if steps.last().is_some_and(|before| before.from >= from) {
            report
                .error(
                    "bad-order",
                    node.span,
                    format!("the step of {from} does not come after the one before it"),
                )
                .help("write steps in the order of their days, one a day");
        }
        steps.push(ScheduleStep { from, mode, canary });
    }
    steps
}

/// The share of pods that a step enforces for; all of them where nothing is said.
fn read_canary(report: &mut Report, fields: &mut Fields<'_>, mode: Option<Mode>) -> Share {
    let Some(node) = fields.get(report, "canary") else { return Share::ALL };
    let share = node.as_str().and_then(Share::parse);
    if share.is_none() {
        report
            .error("bad-value", node.span, "`canary` is no share of pods".to_owned())
            .help("write a whole percentage, such as `10%`");
    }
    if mode.is_some_and(|mode| mode != Mode::Enforce) {
        report
            .error("bad-value", node.span, "`canary` stands in a step that does not enforce".to_owned())
            .help("write `mode: enforce`: the pods of the share enforce, the others are audited");
    }
    share.unwrap_or_default()
}

fn read_freeze(report: &mut Report, spec: &mut Fields<'_>) -> Vec<Freeze> {
    let mut found = Vec::new();
    for node in items(report, spec, "freeze") {
        let Some(mut fields) = Fields::open(report, node, "a freeze", Nulls::Refused) else { continue };
        let from = dates::required(report, &mut fields, "from");
        let to = dates::required(report, &mut fields, "to");
        fields.finish(report);
        let (Some(from), Some(to)) = (from, to) else { continue };
        if to < from {
            report
                .error("bad-order", node.span, format!("the freeze ends on {to}, before it begins"))
                .help("`to` is its last day");
        }
        found.push(Freeze { from, to });
    }
    found.sort_unstable();
    found
}

/// The built-in rules that hold; absent: all.
fn read_infrastructure(
    report: &mut Report,
    spec: &mut Fields<'_>,
    default: CollectionDefault,
) -> Infrastructure {
    if !spec.has("infrastructure") {
        return Infrastructure::ALL;
    }
    let mut kept = Infrastructure::NONE;
    for (text, span) in spec.texts(report, "infrastructure").unwrap_or_default() {
        let (rule, under) = match text {
            "own-node" => (&mut kept.own_node, CollectionDefault::Kubernetes),
            "probes" => (&mut kept.probes, CollectionDefault::Deny),
            "resolver" => (&mut kept.resolver, CollectionDefault::Deny),
            _ => {
                report
                    .error("bad-value", span, format!("built-in rule {} is unknown", quoted(text)))
                    .help("write `own-node`, `probes` or `resolver`");
                continue;
            }
        };
        *rule = true;
        if under != default {
            report
                .warning(
                    "never-fires",
                    span,
                    format!("the built-in rule {} is not there under this `default`", quoted(text)),
                )
                .help(
                    "`own-node` belongs to `default: kubernetes`, `probes` and `resolver` to `default: deny`",
                );
        }
    }
    kept
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

//! `bulkhead policy diff`: what a change of policies changes in verdicts.

use super::set::Set;
use super::{BAD_INPUT, DOES_NOT_HOLD, DateArguments, HOLDS, InventoryArguments, report, requests};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::nearest;
use bulkhead_policies::diff::{Change, ChangeKind, Difference, Example, Extent, Reset, Said, Side, diff};
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::model::PolicySet;
use bulkhead_policies::questions::Version;
use bulkhead_policies::space::{Programs, shown_block};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::fmt::Display;
use std::path::PathBuf;

/// Blocks of addresses that text names; the rest are counted.
const BLOCKS_TOLD_MAX: usize = 4;

/// Tell what becomes allowed or denied between two sets of policies
///
/// Verdicts are compared, not text: for every pair of pods, every Service, every outside address and name, on all ports and
/// with all requests. With `--without` or `--staged` one set is enough. Exit code 0 unless `--fail-on` says otherwise.
#[derive(clap::Args, Debug)]
pub(super) struct DiffArguments {
    /// File or folder with the old policies
    old: PathBuf,
    /// File or folder with the new ones
    #[arg(required_unless_present_any = ["without", "staged"], conflicts_with_all = ["without", "staged"])]
    new: Option<PathBuf>,
    /// Instead of NEW: the old policies without this one, `KIND/NAMESPACE/NAME` or `KIND/NAME`; may be repeated
    #[arg(long, value_name = "POLICY")]
    without: Vec<String>,
    /// Instead of NEW: the old policies once what is audited counts and what is on its way out is gone
    #[arg(long, conflicts_with_all = ["without", "answer"])]
    staged: bool,
    #[command(flatten)]
    inventory: InventoryArguments,
    #[command(flatten)]
    date: DateArguments,
    /// Exit with 1 if access widens, or if anything changes
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Option<FailOn>,
    /// The answer that is compared
    #[arg(long, value_enum, default_value_t)]
    answer: Answer,
    #[arg(long, value_enum, default_value_t)]
    format: DiffFormat,
}

/// What counts as a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Something is allowed that was not
    Widen,
    /// Something changes
    Change,
}

/// Which answer is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Answer {
    /// What holds
    #[default]
    Enforced,
    /// What would hold if audited policies counted
    Shadow,
}

impl From<Answer> for Version {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Enforced => Self::Enforced,
            Answer::Shadow => Self::Shadow,
        }
    }
}

/// How changes are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum DiffFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

pub(super) fn run(arguments: &DiffArguments) -> u8 {
    let found = match compare(arguments) {
        Ok(found) => found,
        Err(code) => return code,
    };
    match arguments.format {
        DiffFormat::Text => print_text(&found),
        DiffFormat::Json => say!("{:#}", to_json(&found)),
    }
    match arguments.fail_on {
        Some(FailOn::Widen) if found.widens() => DOES_NOT_HOLD,
        Some(FailOn::Change) if !found.changes.is_empty() => DOES_NOT_HOLD,
        Some(FailOn::Widen | FailOn::Change) | None => HOLDS,
    }
}

fn compare(arguments: &DiffArguments) -> Result<Difference, u8> {
    if arguments.inventory.files.is_empty() {
        return Err(report::refuse(
            &"give `--inventory FILE` with the output of `kubectl get namespaces,pods,services,endpointslices,nodes -A -o yaml`: both sets are compared over one inventory",
        ));
    }
    let old = Set::read(std::slice::from_ref(&arguments.old), &arguments.inventory, arguments.date)?;
    let version = Version::from(arguments.answer);
    let found = match &arguments.new {
        Some(new) => {
            let new = old.beside(std::slice::from_ref(new), arguments.date)?;
            diff(&programs(&old)?, &programs(&new)?, &new.inventory, [version; 2])
        }
        None if arguments.staged => {
            let programs = programs(&old)?;
            diff(&programs, &programs, &old.inventory, [Version::Enforced, Version::Shadow])
        }
        None => {
            let before = programs(&old)?;
            let Set { inventory, .. } = &old;
            let without = without(&old, &arguments.without)?;
            let compiler = Compiler::new(&without, inventory)
                .map_err(|errors| errors.first().map_or(BAD_INPUT, |error| report::refuse(error)))?;
            let after = Programs::new(&compiler).map_err(|error| report::refuse(&error))?;
            diff(&before, &after, inventory, [version; 2])
        }
    };
    Ok(found)
}

/// The set without some of its policies, each of which has to be there.
fn without(set: &Set, names: &[String]) -> Result<PolicySet, u8> {
    let mut left = set.loaded.set.clone();
    for name in names {
        let before = left.policies.len();
        left.policies.retain(|policy| policy.origin.to_string() != *name);
        if left.policies.len() == before {
            let known: Vec<String> =
                set.loaded.set.policies.iter().map(|policy| policy.origin.to_string()).collect();
            let hint = match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write `SegmentPolicy/shop/payments`, or `ClusterSegmentPolicy/guard` for a kind of no namespace".to_owned(),
            };
            return Err(report::refuse(&format!("no policy of the set is called `{name}`: {hint}")));
        }
    }
    Ok(left)
}

/// The programs of a set; what cannot be compiled is printed.
pub(super) fn programs(set: &Set) -> Result<Programs, u8> {
    Programs::new(&set.compiler()?).map_err(|error| report::refuse(&error))
}

fn print_text(found: &Difference) {
    let (widened, narrowed): (Vec<&Change>, Vec<&Change>) =
        found.changes.iter().partition(|change| change.kind == ChangeKind::Widened);
    for change in &found.changes {
        print_change(change);
    }
    for reset in &found.resets {
        say!(
            "reset     {} {} of {}: {} {} was admitted by the kernel and is inspected now; established flows are reset (tier_changed)",
            shown_side(&reset.peer),
            if reset.direction == bulkhead_facts::Direction::Ingress {
                "into ingress"
            } else {
                "from egress"
            },
            reset.workload,
            reset.protocols,
            reset.ports
        );
    }
    say!("{} widened, {} narrowed, {} reset", widened.len(), narrowed.len(), found.resets.len());
}

fn print_change(change: &Change) {
    say!(
        "{:9} {} -> {} {} [risk {}, {} flows]",
        change.kind.as_str(),
        shown_side(&change.from),
        shown_side(&change.to),
        shown_ports(change),
        change.risk,
        change.flows
    );
    match &change.extent {
        Extent::Everything => {}
        Extent::Kinds { listed, more } => {
            listed.iter().for_each(|kind| say!("            {}", kind.shown));
            if *more > 0 {
                say!("            and {more} more kinds of requests");
            }
        }
        Extent::Undecided => say!("            undecided: rules tell too many kinds of requests apart"),
    }
    say!("          before: {}", shown_said(&change.before));
    say!("          after:  {}", shown_said(&change.after));
    say!("          for example {}", shown_example(&change.example));
}

fn shown_ports(change: &Change) -> String {
    match (change.ports.first(), change.ports.last()) {
        (0, u16::MAX) => change.protocols.to_string(),
        _ => format!("{}/{}", change.protocols, change.ports),
    }
}

fn shown_side(side: &Side) -> String {
    match side {
        Side::Workload(workload) => workload.to_string(),
        Side::Service(name) => format!("service/{}", shown_name(name)),
        Side::Name(name) => format!("fqdn/{name}"),
        Side::Outside(blocks) => {
            let told: Vec<String> =
                blocks.iter().take(BLOCKS_TOLD_MAX).map(|block| shown_block(*block)).collect();
            let more = match blocks.len().saturating_sub(BLOCKS_TOLD_MAX) {
                0 => String::new(),
                more => format!(" and {more} more blocks"),
            };
            format!("outside {}{more}", told.join(", "))
        }
    }
}

pub(super) fn shown_name(name: &ObjectName) -> String {
    format!("{}/{}", name.namespace, name.name)
}

fn shown_said(said: &Said) -> String {
    let by = said.rule.as_ref().map(|rule| format!(" by `{rule}`")).unwrap_or_default();
    let at = said.direction.map(|direction| format!(" at {direction}")).unwrap_or_default();
    format!("{}{by}{at} ({})", said.effect, said.reason)
}

fn shown_example(example: &Example) -> String {
    let end = |pod: &Option<ObjectName>, address: &dyn Display| match pod {
        Some(pod) => format!("{} ({address})", shown_name(pod)),
        None => address.to_string(),
    };
    let (from, mut to) = (end(&example.from, &example.source), end(&example.to, &example.destination));
    if let Some(name) = &example.name {
        to = format!("{name} ({to})");
    }
    let request = example.request.as_ref().map(|request| format!(": {request}")).unwrap_or_default();
    format!("{from} to {to} {}/{}{request}", example.protocol, example.port)
}

fn to_json(found: &Difference) -> Value {
    json!({
        "widens": found.widens(),
        "changes": found.changes.iter().map(change_json).collect::<Vec<_>>(),
        "resets": found.resets.iter().map(reset_json).collect::<Vec<_>>(),
    })
}

fn change_json(change: &Change) -> Value {
    let (extent, kinds, more) = match &change.extent {
        Extent::Everything => ("everything", Vec::new(), 0),
        Extent::Kinds { listed, more } => {
            ("requests", listed.iter().map(|kind| kind.shown.clone()).collect(), *more)
        }
        Extent::Undecided => ("undecided", Vec::new(), 0),
    };
    json!({
        "kind": change.kind.as_str(),
        "risk": change.risk,
        "from": side_json(&change.from),
        "to": side_json(&change.to),
        "protocols": change.protocols.to_string(),
        "ports": change.ports.to_string(),
        "extent": extent,
        "requests": kinds,
        "more_requests": more,
        "before": said_json(&change.before),
        "after": said_json(&change.after),
        "flows": change.flows,
        "example": {
            "from": change.example.from.as_ref().map(shown_name),
            "source": change.example.source.to_string(),
            "to": change.example.to.as_ref().map(shown_name),
            "destination": change.example.destination.to_string(),
            "name": change.example.name.as_ref().map(|name| name.as_str()),
            "protocol": change.example.protocol.to_string(),
            "port": change.example.port,
            "request": change.example.request.as_ref().map(requests::to_json),
        },
    })
}

fn side_json(side: &Side) -> Value {
    match side {
        Side::Workload(workload) => json!({"workload": workload.to_string()}),
        Side::Service(name) => json!({"service": shown_name(name)}),
        Side::Name(name) => json!({"fqdn": name.as_str()}),
        Side::Outside(blocks) => {
            json!({"outside": blocks.iter().map(|block| shown_block(*block)).collect::<Vec<_>>()})
        }
    }
}

fn said_json(said: &Said) -> Value {
    json!({
        "verdict": said.effect.as_str(),
        "reason": said.reason.as_str(),
        "rule": said.rule,
        "direction": said.direction.map(bulkhead_facts::Direction::as_str),
    })
}

fn reset_json(reset: &Reset) -> Value {
    json!({
        "workload": reset.workload.to_string(),
        "direction": reset.direction.as_str(),
        "peer": side_json(&reset.peer),
        "protocols": reset.protocols.to_string(),
        "ports": reset.ports.to_string(),
        "reason": "tier_changed",
    })
}

//! `bulkhead policy prove`: assertions that are decided for all requests and all peers.

use super::diff::{Answer, programs, shown_name};
use super::set::Set;
use super::{BAD_INPUT, DOES_NOT_HOLD, DateArguments, Format, HOLDS, InventoryArguments, report, requests};
use bulkhead_policies::diagnostics::{Diagnostic, formats, has_errors};
use bulkhead_policies::prove::{self, Flow, Outcome, Reached, reach};
use bulkhead_policies::questions::Ends;
use clap::ValueEnum;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Prove assertions (kind `PolicyProof`) for all requests and all peers, or show a flow that contradicts them
///
/// Exit code 0 if all hold, 1 if one does not, 2 for bad input.
#[derive(clap::Args, Debug)]
pub(super) struct ProveArguments {
    /// Files or folders with policies and proofs
    #[arg(required = true, value_name = "POLICY")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    inventory: InventoryArguments,
    #[command(flatten)]
    date: DateArguments,
    /// Instead of proofs: tell all that a compromised pod or workload reaches, over any number of steps
    #[arg(long, value_name = "NAMESPACE/NAME")]
    reach: Option<String>,
    /// The answer that is proven
    #[arg(long, value_enum, default_value_t)]
    answer: Answer,
    #[arg(long, value_enum, default_value_t)]
    format: ProveFormat,
}

/// How outcomes are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ProveFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

pub(super) fn run(arguments: &ProveArguments) -> u8 {
    let done = match &arguments.reach {
        Some(name) => tell_reach(arguments, name),
        None => tell_outcomes(arguments),
    };
    match done {
        Ok(code) | Err(code) => code,
    }
}

fn tell_outcomes(arguments: &ProveArguments) -> Result<u8, u8> {
    let set = Set::read(&arguments.paths, &arguments.inventory, arguments.date)?;
    let (proofs, found) = prove::load(&set.sources);
    if has_errors(&found) {
        report::print(Format::Text, &found, &set.sources);
        return Err(BAD_INPUT);
    }
    if proofs.iter().all(|proof| proof.assertions.is_empty()) {
        return Err(report::refuse(
            &"no assertions found: write a document of kind `PolicyProof` beside the policies",
        ));
    }
    let programs = programs(&set)?;
    let outcomes: Vec<Outcome> = proofs
        .iter()
        .flat_map(|proof| prove::prove(proof, &programs, &set.inventory, arguments.answer.into()))
        .collect();
    let problems: Vec<Diagnostic> =
        outcomes.iter().flat_map(|outcome| outcome.problems.iter().cloned()).collect();
    match arguments.format {
        ProveFormat::Text => {
            report::print(Format::Text, &problems, &set.sources);
            outcomes.iter().for_each(print_outcome);
            let failed = outcomes.iter().filter(|outcome| !outcome.holds()).count();
            say!("{} assertions: {failed} do not hold", outcomes.len());
        }
        ProveFormat::Json => {
            say!("{:#}", Value::from(outcomes.iter().map(outcome_json).collect::<Vec<_>>()));
        }
    }
    Ok(match problems.iter().any(|problem| problem.code != "not-proven") {
        true => BAD_INPUT,
        false if problems.is_empty() => HOLDS,
        false => DOES_NOT_HOLD,
    })
}

fn print_outcome(outcome: &Outcome) {
    let verdict = if outcome.holds() { "proven" } else { "NOT PROVEN" };
    say!("{verdict:10} {}: {}", outcome.proof, outcome.assertion);
    for reached in &outcome.path {
        say!("             step {}: {}", reached.steps, reached.flow);
    }
}

fn tell_reach(arguments: &ProveArguments, name: &str) -> Result<u8, u8> {
    let set = Set::read(&arguments.paths, &arguments.inventory, arguments.date)?;
    let ends = Ends::find(name, &set.inventory)
        .map_err(|unknown| report::refuse(&format!("{unknown}\n  help: {}", unknown.help())))?;
    let Ends::Pods(pods) = ends else {
        return Err(report::refuse(&format!("`{name}` is no pod or workload: `--reach` starts from one")));
    };
    let start: BTreeSet<_> = pods.into_iter().collect();
    let programs = programs(&set)?;
    let found = reach(&programs, &set.inventory, &start, arguments.answer.into())
        .map_err(|error| report::refuse(&error))?;
    match arguments.format {
        ProveFormat::Text => {
            for reached in &found {
                say!(
                    "{:40} step {} from {}: {}",
                    reached.station.to_string(),
                    reached.steps,
                    reached.by,
                    reached.flow
                );
            }
            say!("{} stations are reached from {name}", found.len());
        }
        ProveFormat::Json => {
            say!("{:#}", Value::from(found.iter().map(reached_json).collect::<Vec<_>>()))
        }
    }
    Ok(HOLDS)
}

fn outcome_json(outcome: &Outcome) -> Value {
    json!({
        "proof": outcome.proof,
        "assertion": outcome.assertion,
        "file": outcome.place.file,
        "line": outcome.place.span.line,
        "holds": outcome.holds(),
        "counter_example": outcome.counter_example.as_ref().map(flow_json),
        "path": outcome.path.iter().map(reached_json).collect::<Vec<_>>(),
        "problems": formats::to_json(&outcome.problems),
    })
}

fn reached_json(reached: &Reached) -> Value {
    json!({
        "station": reached.station.to_string(),
        "steps": reached.steps,
        "by": reached.by.to_string(),
        "flow": flow_json(&reached.flow),
    })
}

fn flow_json(flow: &Flow) -> Value {
    json!({
        "from": flow.from.as_ref().map(shown_name),
        "source": flow.source.to_string(),
        "to": flow.to.as_ref().map(shown_name),
        "destination": flow.destination.to_string(),
        "name": flow.name.as_ref().map(|name| name.as_str()),
        "service": flow.service.as_ref().map(|(name, ..)| shown_name(name)),
        "protocol": flow.protocol.to_string(),
        "port": flow.port,
        "request": flow.request.as_ref().map(requests::to_json),
        "rules": flow.rules,
    })
}

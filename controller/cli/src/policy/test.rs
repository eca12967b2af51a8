//! `bulkhead policy test`: the cases that stand beside policies.
//!
//! A folder that holds a `PolicyTest` is one set: its policies, its inventory (Kubernetes objects in any file) and its
//! cases, with all folders below it. A folder without one is looked through for such folders.

use super::set::inventory_of;
use super::{BAD_INPUT, DOES_NOT_HOLD, DateArguments, Format, HOLDS, InventoryArguments, read, report};
use bulkhead_policies::cases::{self, Outcome, Suite};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::{Diagnostic, Source, formats, has_errors};
use bulkhead_policies::documents;
use bulkhead_policies::questions::Judges;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Test policies against the cases beside them: what must be allowed, what must be denied
#[derive(clap::Args, Debug)]
pub(super) struct TestArguments {
    /// Folders or files with policies, inventory and cases (kind `PolicyTest`)
    #[arg(required = true, value_name = "DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    inventory: InventoryArguments,
    #[command(flatten)]
    date: DateArguments,
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &TestArguments) -> u8 {
    let sets = match sets(&arguments.paths) {
        Ok(sets) => sets,
        Err(error) => return report::refuse(&error),
    };
    let inventory = match arguments.inventory.sources() {
        Ok(inventory) => inventory,
        Err(code) => return code,
    };
    let mut total = Tested::default();
    for sources in sets {
        let tested = test(&sources, &inventory, arguments.date);
        total.sources.extend(sources);
        total.outcomes.extend(tested.outcomes);
        total.found.extend(tested.found);
    }
    if total.outcomes.is_empty() && !has_errors(&total.found) {
        return report::refuse(&"no cases found: write a document of kind `PolicyTest` beside the policies");
    }
    print(arguments.format, &total);
    exit_code(&total)
}

/// What came out of a set of sources.
#[derive(Default)]
struct Tested {
    sources: Vec<Source>,
    outcomes: Vec<Outcome>,
    /// Findings on the documents themselves.
    found: Vec<Diagnostic>,
}

/// Loads, compiles and asks. The inventory is what stands beside the policies and what was named apart.
fn test(sources: &[Source], inventory: &[Source], date: DateArguments) -> Tested {
    let mut loaded = documents::load(sources);
    let (suites, in_cases) = cases::load(sources);
    let mut found = loaded.diagnostics.clone();
    found.extend(in_cases.into_iter().filter(|diagnostic| !loaded.diagnostics.contains(diagnostic)));
    let inventory = match inventory_of(&[sources, inventory].concat()) {
        Ok(inventory) => inventory,
        Err(in_inventory) => {
            found.extend(
                in_inventory.into_iter().filter(|diagnostic| !loaded.diagnostics.contains(diagnostic)),
            );
            return Tested { found, ..Tested::default() };
        }
    };
    if has_errors(&found) {
        return Tested { found, ..Tested::default() };
    }
    date.hold(&mut loaded);
    let file = sources.first().map_or("", |source| source.name.as_str());
    match Compiler::new(&loaded.set, &inventory) {
        Ok(compiler) => {
            let mut judges = Judges::new(&compiler, &inventory);
            let outcomes = suites.iter().flat_map(|suite: &Suite| cases::run(suite, &mut judges)).collect();
            Tested { outcomes, found, ..Tested::default() }
        }
        Err(errors) => {
            found.extend(report::compile_errors(&errors, &loaded.places, file));
            Tested { found, ..Tested::default() }
        }
    }
}

/// The sources of each set.
fn sets(paths: &[PathBuf]) -> Result<Vec<Vec<Source>>, read::ReadError> {
    let files: Vec<PathBuf> = paths.iter().filter(|path| !path.is_dir()).cloned().collect();
    let mut found = Vec::new();
    if !files.is_empty() {
        found.push(read::sources(&files)?);
    }
    for path in paths.iter().filter(|path| path.is_dir()) {
        let before = found.len();
        look_through(path, &mut found)?;
        if found.len() == before {
            // Without cases it is still checked, so that what is wrong with it is said.
            found.push(read::sources(std::slice::from_ref(path))?);
        }
    }
    Ok(found)
}

fn look_through(path: &Path, found: &mut Vec<Vec<Source>>) -> Result<(), read::ReadError> {
    let (files, folders) = read::entries(path)?;
    let here: Vec<Source> = files.iter().map(|file| read::source(file)).collect::<Result<_, _>>()?;
    if here.iter().any(|source| source.text.contains("PolicyTest")) {
        found.push(read::sources(&[path.to_owned()])?);
        return Ok(());
    }
    folders.iter().try_for_each(|folder| look_through(folder, found))
}

fn print(format: Format, total: &Tested) {
    let problems: Vec<Diagnostic> =
        total.outcomes.iter().flat_map(|outcome| outcome.problems.iter().cloned()).collect();
    let all: Vec<Diagnostic> = total.found.iter().chain(&problems).cloned().collect();
    let failed = total.outcomes.iter().filter(|outcome| !outcome.problems.is_empty()).count();
    let flows: usize = total.outcomes.iter().map(|outcome| outcome.flows).sum();
    match format {
        Format::Text => {
            report::print(format, &all, &total.sources);
            for outcome in &total.outcomes {
                let verdict = if outcome.problems.is_empty() { "ok" } else { "DIFFERS" };
                say!("{verdict:8} {}: {}", outcome.suite, outcome.case);
            }
            say!("{} cases, {flows} flows: {failed} differ", total.outcomes.len());
        }
        Format::Junit => {
            report::print(Format::Text, &total.found, &total.sources);
            say_raw!("{}", report::junit(&total.outcomes));
        }
        Format::Json => {
            let cases: Vec<_> = total.outcomes.iter().map(outcome_json).collect();
            let (cases_total, diagnostics) = (total.outcomes.len(), formats::to_json(&total.found));
            say!(
                "{:#}",
                json!({"total": cases_total, "differ": failed, "flows": flows, "cases": cases, "diagnostics": diagnostics})
            );
        }
        Format::Sarif | Format::Github => report::print(format, &all, &total.sources),
    }
}

fn outcome_json(outcome: &Outcome) -> serde_json::Value {
    json!({
        "suite": outcome.suite,
        "case": outcome.case,
        "file": outcome.place.file,
        "line": outcome.place.span.line,
        "flows": outcome.flows,
        "holds": outcome.problems.is_empty(),
        "problems": formats::to_json(&outcome.problems),
    })
}

/// Wrong documents or cases before differing ones.
fn exit_code(total: &Tested) -> u8 {
    let problems = || total.outcomes.iter().flat_map(|outcome| &outcome.problems);
    if has_errors(&total.found) || problems().any(|problem| problem.code != "case-differs") {
        BAD_INPUT
    } else if problems().next().is_some() {
        DOES_NOT_HOLD
    } else {
        HOLDS
    }
}

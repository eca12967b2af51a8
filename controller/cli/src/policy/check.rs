//! `bulkhead policy check`: what is wrong with documents, and what is probably not meant.

use super::{BAD_INPUT, DOES_NOT_HOLD, DateArguments, Format, HOLDS, InventoryArguments, read, report};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::{Diagnostic, Source};
use bulkhead_policies::documents::{self, Loaded};
use bulkhead_policies::{cases, prove};
use clap::ValueEnum;
use std::path::PathBuf;

/// Check policy documents: errors exit with 2, warnings are told
#[derive(clap::Args, Debug)]
pub(super) struct CheckArguments {
    /// Files or folders; `-` is standard input
    #[arg(required = true, value_name = "POLICY")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    inventory: InventoryArguments,
    #[command(flatten)]
    date: DateArguments,
    #[arg(long, value_enum, default_value_t)]
    format: CheckFormat,
    /// Exit with 1 if there is a warning
    #[arg(long)]
    strict: bool,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum CheckFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Workflow commands of GitHub
    Github,
}

impl From<CheckFormat> for Format {
    fn from(format: CheckFormat) -> Self {
        match format {
            CheckFormat::Text => Self::Text,
            CheckFormat::Json => Self::Json,
            CheckFormat::Sarif => Self::Sarif,
            CheckFormat::Github => Self::Github,
        }
    }
}

pub(super) fn run(arguments: &CheckArguments) -> u8 {
    let mut sources = match read::sources(&arguments.paths) {
        Ok(sources) => sources,
        Err(error) => return report::refuse(&error),
    };
    let mut loaded = documents::load(&sources);
    let mut found = loaded.diagnostics.clone();
    let (_, in_cases) = cases::load(&sources);
    let (_, in_proofs) = prove::load(&sources);
    // A source that is no YAML is reported by every reader.
    let beside = in_cases.into_iter().chain(in_proofs);
    found.extend(beside.filter(|diagnostic| !loaded.diagnostics.contains(diagnostic)));
    arguments.date.hold(&mut loaded);
    if !arguments.inventory.files.is_empty() {
        match arguments.inventory.sources() {
            Ok(inventory) => {
                found.extend(against_inventory(&loaded, &inventory));
                sources.extend(inventory);
            }
            Err(code) => return code,
        }
    }
    report::print(arguments.format.into(), &found, &sources);
    let (errors, warnings) = report::counts(&found);
    if arguments.format == CheckFormat::Text {
        let policies = loaded.set.policies.len();
        let collections = loaded.set.collections.len();
        for collection in loaded.set.collections.iter().filter(|_| arguments.date.date.is_some()) {
            say!("collection {}: {}", collection.name, collection.mode.as_str());
        }
        say!("{policies} policies, {collections} collections: {errors} errors, {warnings} warnings");
    }
    match (errors, warnings) {
        (0, 0) => HOLDS,
        (0, _) if arguments.strict => DOES_NOT_HOLD,
        (0, _) => HOLDS,
        (_, _) => BAD_INPUT,
    }
}

/// Names that the inventory does not know, and what the compiler says.
fn against_inventory(loaded: &Loaded, sources: &[Source]) -> Vec<Diagnostic> {
    let inventory = match documents::load_inventory(sources) {
        Ok(inventory) => inventory,
        Err(found) => return found,
    };
    if loaded.has_errors() {
        return Vec::new();
    }
    let mut found = documents::references(&loaded.set, &loaded.places, &inventory);
    let file = sources.first().map_or("", |source| source.name.as_str());
    match Compiler::new(&loaded.set, &inventory) {
        Ok(compiler) => found.extend(report::compile_warnings(&compiler.warnings(), file)),
        Err(errors) => found.extend(report::compile_errors(&errors, &loaded.places, file)),
    }
    found
}

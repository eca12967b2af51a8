//! `bulkhead policy`: tools for policy documents, all on files, none of which needs a controller.
//!
//! Exit codes are the same everywhere: 0 holds, 1 does not, 2 bad input. Machine formats go to standard output; in text,
//! diagnostics go to standard error and the answer to standard output.

/// A line on standard output.
macro_rules! say {
    ($($argument:tt)*) => { $crate::policy::report::put(format_args!("{}\n", format_args!($($argument)*))) };
}
/// Text on standard output.
macro_rules! say_raw {
    ($($argument:tt)*) => { $crate::policy::report::put(format_args!($($argument)*)) };
}

mod check;
mod dates;
mod diff;
mod explain;
mod format;
mod import;
mod inventory;
mod matrix;
mod prove;
mod read;
mod report;
mod requests;
mod schema;
mod set;
mod test;

use clap::{Subcommand, ValueEnum};
use dates::DateArguments;
use inventory::InventoryArguments;

/// Check, test and question policy documents
#[derive(clap::Args, Debug)]
pub(crate) struct PolicyArguments {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    Check(check::CheckArguments),
    Test(test::TestArguments),
    Explain(explain::ExplainArguments),
    Import(import::ImportArguments),
    Matrix(matrix::MatrixArguments),
    Diff(diff::DiffArguments),
    Prove(prove::ProveArguments),
    Fmt(format::FormatArguments),
    Schema(schema::SchemaArguments),
}

/// Runs it and gives the exit code.
pub(crate) fn run(arguments: PolicyArguments) -> u8 {
    match arguments.command {
        PolicyCommand::Check(arguments) => check::run(&arguments),
        PolicyCommand::Test(arguments) => test::run(&arguments),
        PolicyCommand::Explain(arguments) => explain::run(&arguments),
        PolicyCommand::Import(arguments) => import::run(&arguments),
        PolicyCommand::Matrix(arguments) => matrix::run(&arguments),
        PolicyCommand::Diff(arguments) => diff::run(&arguments),
        PolicyCommand::Prove(arguments) => prove::run(&arguments),
        PolicyCommand::Fmt(arguments) => format::run(&arguments),
        PolicyCommand::Schema(arguments) => schema::run(&arguments),
    }
}

/// It holds.
const HOLDS: u8 = 0;
/// It does not hold.
const DOES_NOT_HOLD: u8 = 1;
/// Wrong documents, files or flags.
const BAD_INPUT: u8 = 2;

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Workflow commands of GitHub
    Github,
    /// JUnit XML, for test reports
    Junit,
}

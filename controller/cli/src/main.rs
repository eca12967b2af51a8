//! The command line of Bulkhead.
//!
//! Each command is a module with its arguments and a `run` that gives the exit code: 0 for success, 1 for "no" (a
//! check that found something, a story that failed), 2 for wrong input or a machine that lacks something.

mod lab;
mod policy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A sidecar firewall for containers: policy tools and the lab
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lab(lab::LabArguments),
    Policy(policy::PolicyArguments),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = bulkhead_lab::internal::dispatch(&arguments) {
        return code;
    }
    match Arguments::parse().command {
        Command::Lab(arguments) => lab::run(arguments).into(),
        Command::Policy(arguments) => policy::run(arguments).into(),
    }
}

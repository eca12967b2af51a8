//! `bulkhead lab`: arguments for [`bulkhead_lab`], and nothing else.

use bulkhead_lab::{DEFAULT_NAME, Options};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Run a whole protected cluster on this machine: learn, propose, enforce, attack, report
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct LabArguments {
    #[command(subcommand)]
    command: Option<LabCommand>,
    /// Lab file; without one, a small shop that needs no package
    file: Option<PathBuf>,
    /// End when the story is told; exit code 0 only if nothing legitimate failed and nothing hostile arrived
    #[arg(long)]
    once: bool,
    /// Print one JSON document on standard output; progress goes to standard error
    #[arg(long)]
    json: bool,
    /// Leave the lab running in the background when the story is told
    #[arg(long)]
    keep: bool,
    #[arg(long, default_value = DEFAULT_NAME, help = NAME_HELP)]
    name: String,
}

const NAME_HELP: &str = "Name of the lab; one of each name runs at a time";

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Run a command in a pod of a running lab
    Exec {
        #[arg(long, default_value = DEFAULT_NAME, help = NAME_HELP)]
        name: String,
        /// Pod: `shop/cart-0`, `cart-0`, or `cart` for its first replica
        pod: String,
        /// The command with its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// End a running lab
    Down {
        #[arg(long, default_value = DEFAULT_NAME, help = NAME_HELP)]
        name: String,
    },
}

/// Runs it and gives the exit code.
pub(crate) fn run(arguments: LabArguments) -> u8 {
    match arguments.command {
        Some(LabCommand::Exec { name, pod, command }) => bulkhead_lab::exec(&name, &pod, &command),
        Some(LabCommand::Down { name }) => bulkhead_lab::down(&name),
        None => bulkhead_lab::run(&Options {
            file: arguments.file,
            name: arguments.name,
            once: arguments.once,
            json: arguments.json,
            keep: arguments.keep,
        }),
    }
}

//! The demo shop: programs that talk to each other, so that a lab needs no package.
//!
//! `serve` is an HTTP/1.1 JSON service that calls its upstreams, `datastore` answers lines over TCP and datagrams
//! over UDP, `client` drives calls at a rate and counts what did not succeed. They know nothing of Bulkhead: they are
//! ordinary programs on an ordinary network. Which service calls which is given by `--call`, never built in.
//!
//! Everything they say goes to standard output as one JSON object a line: each request that a service received (its
//! own witness of what reached it), each failure of a client with its detail.

mod call;
mod client;
mod connection;
mod datastore;
mod names;
mod service;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;

pub use call::{Call, CallError};

/// Runs `lab-demo` with the arguments that follow its name; returns the exit code of the process.
pub fn main(arguments: &[String]) -> ExitCode {
    let named = std::iter::once("lab-demo".to_owned()).chain(arguments.iter().cloned());
    let command = match Command::try_parse_from(named) {
        Ok(command) => command,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What one process of the demo shop does.
#[derive(Parser)]
#[command(name = "lab-demo", about = "The demo shop of the lab")]
enum Command {
    /// An HTTP/1.1 JSON service that calls its upstreams for each request under /api
    Serve(service::Arguments),
    /// Answers `GET key` lines over TCP and datagrams over UDP
    Datastore(datastore::Arguments),
    /// Drives calls and counts failures; `batch N`, `pause`, `resume`, `totals`, `quit` on standard input
    Client(client::Arguments),
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve(arguments) => service::run(arguments).await,
            Command::Datastore(arguments) => datastore::run(arguments).await,
            Command::Client(arguments) => client::run(arguments).await,
        }
    })
}

/// Prints one JSON line; a reader that went away is not our concern.
fn say(line: &serde_json::Value) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// A v4-mapped address of a dual-stack socket in its plain form.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

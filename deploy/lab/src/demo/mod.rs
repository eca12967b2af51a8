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
mod resolver;
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
    /// Answers questions for the names of a hosts file
    Names(resolver::Arguments),
    /// Drives calls and counts failures; `batch N`, `pause`, `resume`, `totals`, `quit` on standard input
    Client(client::Arguments),
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve(arguments) => service::run(arguments).await,
            Command::Datastore(arguments) => datastore::run(arguments).await,
            Command::Names(arguments) => resolver::run(arguments).await,
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

#[cfg(test)]
mod tests {
    use super::*;
    use connection::Caller;
    use names::{Family, Names};

    async fn start(arguments: &[&str]) -> Vec<u16> {
        let named = ["lab-demo"].into_iter().chain(arguments.iter().copied());
        match Command::try_parse_from(named).expect("good arguments") {
            Command::Serve(arguments) => service::listen(arguments).await.expect("a service"),
            Command::Datastore(arguments) => datastore::listen(arguments).await.expect("a datastore"),
            Command::Names(arguments) => vec![resolver::listen(arguments).await.expect("a name server")],
            Command::Client(_) => panic!("a client listens on nothing"),
        }
    }

    async fn call(text: &str, fresh: bool) -> (Result<(), String>, u64) {
        let caller =
            Caller::new(Names { hosts: None, family: Family::Both }, std::time::Duration::from_secs(5));
        let call: Call = text.parse().expect("a call");
        let mut result = Ok(());
        for number in 0..4 {
            let made = caller.make(&call, number, fresh).await;
            result = result.and(made.map_err(|failure| failure.detail));
        }
        (result, caller.retried())
    }

    #[tokio::test]
    async fn a_chain_of_services_answers_over_tcp_udp_and_http() {
        let store = start(&["datastore", "--listen=0", "--listen-udp=0"]).await;
        let [tcp, udp] = store[..] else { panic!("two ports") };
        let line = format!("--call=tcp://127.0.0.1:{tcp}/orders");
        let datagram = format!("--call=udp://[::1]:{udp}/count");
        let orders = start(&["serve", "--name=orders", "--listen=0", &line, &datagram]).await[0];
        let upstream = format!("--call=POST http://127.0.0.1:{orders}/api/orders/{{id}}");
        let front = start(&["serve", "--name=front", "--listen=0", &upstream]).await[0];
        for fresh in [false, true] {
            let made = call(&format!("GET http://127.0.0.1:{front}/api/x/{{id}}"), fresh).await;
            assert_eq!(made, (Ok(()), 0));
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_success_is_a_failure_and_not_tried_again() {
        let port = start(&["serve", "--name=front", "--listen=0"]).await[0];
        let (result, retried) = call(&format!("GET http://127.0.0.1:{port}/nowhere"), false).await;
        assert!(result.is_err_and(|detail| detail.starts_with("answered 404")));
        assert_eq!(retried, 0);
    }

    #[tokio::test]
    async fn a_service_whose_upstream_fails_says_so() {
        let port = start(&["serve", "--name=front", "--listen=0", "--call=tcp://127.0.0.1:1/x"]).await[0];
        let (result, _) = call(&format!("GET http://127.0.0.1:{port}/api/x"), false).await;
        assert!(result.is_err_and(
            |detail| detail.starts_with("answered 502") && detail.contains("tcp://127.0.0.1:1/x")
        ));
        let (health, _) = call(&format!("GET http://127.0.0.1:{port}/healthz"), false).await;
        assert_eq!(health, Ok(()));
    }
}

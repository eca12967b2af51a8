//! How many instructions of user mode is an inspected request? Counted by callgrind, so it is the same on a noisy machine.
//!
//! Sessions run in a process of their own, on one thread, as the sidecar runs them: fifty rules of which the last one
//! matches, flow records, metrics. Client and origin are threads of this process, and take turns with it, so that each
//! round is like the one before. Two counts, with few and with many requests, leave out everything but requests.
//! `-- WORD` for workloads of that name; `-- WORD --profile FILE` keeps what callgrind saw with many.

#[path = "../inspect/program.rs"]
#[allow(dead_code, reason = "the benchmark beside others asks for more")]
mod program;
mod sessions;
mod traffic;

use bulkhead_benches::{collected, counted, report};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use traffic::{WORKLOADS, Workload};

/// Rounds of each of the two counts.
const FEW: usize = 50;
const MANY: usize = 250;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |word: &str| {
        let at = arguments.iter().position(|argument| argument == word)?;
        arguments.get(at + 1)
    };
    if let Some(origin) = after("--sessions") {
        let port = after("--port").and_then(|port| port.parse().ok()).expect("a port");
        return sessions::serve_until_told(origin.parse().expect("an address"), port);
    }
    let profile = after("--profile").map_or("/dev/null", String::as_str);
    let wanted = arguments.first().filter(|word| !word.starts_with('-')).map_or("", String::as_str);
    let figures: Vec<(&str, f64)> = WORKLOADS
        .iter()
        .filter(|workload| workload.name.contains(wanted))
        .map(|workload| (workload.name, instructions_per_request(workload, profile)))
        .collect();
    report("requests", &[], &figures);
}

fn instructions_per_request(workload: &Workload, profile: &str) -> f64 {
    let few = instructions(workload, FEW, "/dev/null");
    let many = instructions(workload, MANY, profile);
    (many - few) as f64 / ((MANY - FEW) * workload.at_once) as f64
}

/// Instructions of a process of sessions that saw so many rounds.
fn instructions(workload: &Workload, rounds: usize, profile: &str) -> u64 {
    let origin = traffic::origin(workload.kind);
    let mut child = counted(profile)
        .args(["--sessions", &origin.to_string(), "--port", &workload.kind.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind can be started: `deploy/tools.sh count` installs it");
    let mut line = String::new();
    let output = child.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut line).expect("the address of sessions");
    let entrance = line.trim().parse().unwrap_or_else(|error| panic!("`{line}`: {error}"));
    traffic::ask(workload, entrance, rounds);
    // Its end of file is the end.
    drop(child.stdin.take());
    let mut text = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
    child.wait().expect("a process that ends");
    collected(&text)
}

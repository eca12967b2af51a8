//! Legitimate traffic: commands of the lab file, run in their pods and counted.
//!
//! A command counts as one request, failed if its exit code is not zero or its output lacks what is expected. A
//! program that counts by itself ends with a JSON line that has `sent` and `failed`, and counts as that.

use crate::file::TrafficSpec;
use crate::ground::Privilege;
use crate::launch::{Finished, Launcher};
use crate::limits::TRAFFIC_TIMEOUT;
use crate::node::Node;
use serde_json::Value;
use std::io;
use tokio::task::JoinSet;

/// Requests of one phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    /// One line for each command with a failure.
    pub(crate) failures: Vec<String>,
}

impl Totals {
    /// Counts what happened in another phase, too.
    pub(crate) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }
}

/// Runs all traffic once, every pod at the same time.
pub(crate) async fn run(node: &Node) -> io::Result<Totals> {
    let mut running = JoinSet::new();
    for traffic in &node.lab.traffic {
        let pods = node.plan.pods.iter().filter(|pod| node.lab.pods[pod.spec].full_name() == traffic.from);
        for pod in pods {
            running.spawn(repeat(node.launcher.clone(), pod.place.clone(), traffic.clone()));
        }
    }
    let mut totals = Totals::default();
    while let Some(done) = running.join_next().await {
        totals.add(done.map_err(io::Error::other)??);
    }
    totals.failures.sort();
    Ok(totals)
}

async fn repeat(launcher: Launcher, place: String, traffic: TrafficSpec) -> io::Result<Totals> {
    let mut totals = Totals::default();
    for _ in 0..traffic.repeat {
        let finished = launcher.run(&place, Privilege::App, &traffic.command, TRAFFIC_TIMEOUT).await?;
        let (sent, failed) = count(&finished, &traffic.expect);
        totals.sent += sent;
        totals.failed += failed;
        if failed > 0 {
            totals.failures.push(format!("{} in {place}: {}", traffic.name, describe(&finished)));
        }
    }
    Ok(totals)
}

/// Requests sent and failed, by the program's own count or by its end.
fn count(finished: &Finished, expect: &str) -> (u64, u64) {
    let own = finished.stdout.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some((line.get("sent")?.as_u64()?, line.get("failed")?.as_u64()?))
    });
    let good = finished.code == Some(0) && finished.stdout.contains(expect);
    match own {
        // A program that fails has a failure, whatever it counted.
        Some((sent, 0)) if !good => (sent.max(1), 1),
        Some(counted) => counted,
        None => (1, u64::from(!good)),
    }
}

fn describe(finished: &Finished) -> String {
    const LINES: usize = 4;
    let end = finished.code.map_or("did not end by itself".to_owned(), |code| format!("exit code {code}"));
    let said = finished.stdout.lines().chain(finished.stderr.lines()).filter(|line| {
        !line.trim().is_empty()
            && !["progress", "ready"].iter().any(|event| line.contains(&format!("\"event\":\"{event}\"")))
    });
    let said: Vec<&str> = said.take(LINES).collect();
    format!("{end}: {}", said.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(code: Option<i32>, stdout: &str) -> Finished {
        Finished { code, stdout: stdout.into(), stderr: String::new() }
    }

    #[test]
    fn a_plain_program_counts_as_one_request_by_its_end() {
        assert_eq!(count(&finished(Some(0), "PONG\n"), "PONG"), (1, 0));
        assert_eq!(count(&finished(Some(0), "ERR\n"), "PONG"), (1, 1));
        assert_eq!(count(&finished(Some(7), ""), ""), (1, 1));
        assert_eq!(count(&finished(None, ""), ""), (1, 1));
    }

    #[test]
    fn a_program_that_counts_is_believed_unless_it_says_too_little() {
        let text = "{\"event\":\"progress\",\"sent\":1,\"failed\":0}\n{\"event\":\"final\",\"sent\":20,\"failed\":2}\n";
        assert_eq!(count(&finished(Some(1), text), ""), (20, 2));
        assert_eq!(count(&finished(Some(1), "{\"sent\":20,\"failed\":0}"), ""), (20, 1));
        assert_eq!(count(&finished(None, "{\"sent\":0,\"failed\":0}"), ""), (1, 1));
    }
}

//! The controller as a process: killed at any moment, started with wrong flags, told to end.

use crate::flow;
use crate::support::{Controller, Place};
use bulkhead_api::Flow;
use bulkhead_api::rest::VerdictCount;
use bulkhead_facts::Reason;
use std::process::Command;
use std::time::Duration;
use tokio::time::sleep;

/// Rounds of kill -9; more with `BULKHEAD_LONG`.
const ROUNDS: u64 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_any_time_loses_no_acknowledged_flow() {
    let rounds = if std::env::var_os("BULKHEAD_LONG").is_some() { ROUNDS * 20 } else { ROUNDS };
    let mut controller = Controller::start_at(Place::Process, "enforce").await;
    let token = controller.join_token("uid-web").await;
    let enrolled = controller.enrol(&token).await.expect("enrolled");
    let mut acknowledged = 0;
    for round in 0..rounds {
        let mut web = controller.attach(&enrolled, "one run").await.expect("attached");
        web.program().await;
        // A different moment each round, while batches are on their way.
        let sending = tokio::spawn(async move {
            let mut next = acknowledged + 1;
            while web.try_report(next, vec![Flow { count: 1, ..flow(Reason::NoRule) }]).await {
                next += 1;
            }
            next - 1
        });
        sleep(Duration::from_millis(30 + 17 * round % 100)).await;
        controller.stop().await;
        acknowledged = sending.await.expect("no panic");
        controller.restart().await;
        let verdicts: Vec<VerdictCount> = controller.get("/api/v1/verdicts").await;
        let stored: u64 = verdicts.iter().map(|verdict| verdict.count).sum();
        // One more may have been stored whose acknowledgement was cut off.
        assert!(
            (acknowledged..=acknowledged + 1).contains(&stored),
            "{stored} of {acknowledged} in round {round}"
        );
    }
    assert!(acknowledged > rounds, "batches were under way");
}

#[test]
fn wrong_flags_end_with_code_2_and_one_message_and_make_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let there = folder.path().display().to_string();
    let state = folder.path().join("state").display().to_string();
    let good = ["--state", &state, "--policies", &there, "--inventory", &there];
    let cases: &[(&[&str], &str)] = &[
        (&["--policies", &there, "--inventory", &there], "--state"),
        (&["--state", &state, "--policies", "/not/there", "--inventory", &there], "/not/there"),
        (&[&good[..], &["--listen-http", "nonsense"]].concat(), "--listen-http"),
        (&[&good[..], &["--certificate-hours", "0"]].concat(), "--certificate-hours"),
        (&[&good[..], &["--unknown"]].concat(), "--unknown"),
        (&[&good[..], &["--log", "bulkhead_controller=loud"]].concat(), "--log"),
    ];
    for (flags, named) in cases {
        let output =
            Command::new(env!("CARGO_BIN_EXE_bulkhead-controller")).args(*flags).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.contains(named), "{flags:?}: {text}");
        assert_eq!(text.matches("error:").count(), 1, "{text}");
    }
    assert!(!folder.path().join("state").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_ends_with_code_2_and_its_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let there = folder.path().display().to_string();
    let state = folder.path().join("state").display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead-controller"))
        .args(["--state", &state, "--policies", &there, "--inventory", &there, "--listen-sidecars", &address])
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains(&format!("--listen-sidecars {address}")), "{text}");
}

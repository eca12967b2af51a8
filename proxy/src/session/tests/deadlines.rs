//! Under the gate: what is dropped on time, and who is not.

use super::origin::{self, raw};
use super::{Client, Hold, Lab};
use crate::session::limits::{
    HEAD_TIMEOUT, IDLE_TIMEOUT, PACE_BYTES_MIN, PACE_TIMEOUT, SILENCE_TIMEOUT, STALL_TIMEOUT,
};
use bulkhead_inspect::limits::REQUESTS_OUTSTANDING_MAX;
use std::future::pending;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// Time until the connection is closed in order, or a moment more: virtual time passes only while every task waits,
/// so the session may be behind the clock.
async fn closed_after(client: &mut Client) -> Duration {
    let start = Instant::now();
    assert_eq!(client.stream.read(&mut [0; 1]).await.ok(), Some(0), "closed in order");
    start.elapsed()
}

/// True if nothing becomes of it in a day.
async fn lasts(client: &mut Client) -> bool {
    let day = Duration::from_secs(26 * 3600);
    tokio::time::timeout(day, client.stream.read(&mut [0; 1])).await.is_err() && !client.session.is_finished()
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_dropped_on_time_and_an_idle_connection_is_not() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut idle = lab.connect().await;
    idle.send(get("/ok/1")).await;
    idle.read_until("GET /ok/1 0 0\n").await;
    let mut slow = lab.connect().await;
    slow.send("GET /ok/1 HTTP/1.1\r\n").await;
    let after = closed_after(&mut slow).await;
    assert!(after >= HEAD_TIMEOUT && after < HEAD_TIMEOUT * 2, "{after:?}");
    slow.finish().await;
    let after = closed_after(&mut idle).await;
    assert!(after >= IDLE_TIMEOUT - HEAD_TIMEOUT * 2, "{after:?}");
    idle.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_says_anything_is_dropped_soon() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut silent = lab.connect().await;
    let after = closed_after(&mut silent).await;
    assert!(after >= SILENCE_TIMEOUT && after < SILENCE_TIMEOUT * 2, "{after:?}");
    silent.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_observed_client_may_be_silent() {
    let origin = raw(|stream, _| async move {
        pending::<()>().await;
        drop(stream);
    })
    .await;
    let lab = Lab::inbound(Hold::Observe, origin.address);
    let mut silent = lab.connect().await;
    let patience = tokio::time::timeout(IDLE_TIMEOUT * 2, silent.stream.read(&mut [0; 1])).await;
    assert!(patience.is_err() && !silent.session.is_finished(), "still open");
}

#[tokio::test(start_paused = true)]
async fn heads_that_overlap_are_timed_each_on_its_own() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    let head = get("/ok/1");
    let (first, rest) = head.split_at(10);
    client.send(first).await;
    for _ in 0..5 {
        tokio::time::sleep(HEAD_TIMEOUT * 2 / 3).await;
        client.send(format!("{rest}{first}")).await;
        client.read_until("GET /ok/1 0 0\n").await;
    }
    let after = closed_after(&mut client).await;
    assert!(after >= HEAD_TIMEOUT / 2 && after < HEAD_TIMEOUT * 2, "{after:?}");
    client.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_waits_for_its_turn_is_not_unfinished() {
    let silent = raw(|mut stream, _| async move {
        let mut bytes = [0; 4096];
        while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, silent.address);
    let mut client = lab.connect().await;
    client.send(get("/ok/1").repeat(REQUESTS_OUTSTANDING_MAX + 1)).await;
    assert!(lasts(&mut client).await, "closed");
}

#[tokio::test(start_paused = true)]
async fn what_stalls_is_reset_on_time() {
    let silent = raw(|stream, _| async move {
        pending::<()>().await;
        drop(stream);
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, silent.address);
    let mut slow = lab.connect().await;
    slow.send("POST /ok/1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n64\r\nonly a part").await;
    let start = Instant::now();
    assert!(slow.stream.read(&mut [0; 1]).await.is_err(), "reset");
    assert!(start.elapsed() >= STALL_TIMEOUT && start.elapsed() < STALL_TIMEOUT * 2, "{:?}", start.elapsed());
    slow.finish().await;

    let mut waiting = lab.connect().await;
    waiting.send(get("/ok/1")).await;
    assert!(lasts(&mut waiting).await, "a slow answer is no stall");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_in_is_reset_on_time_and_one_that_keeps_its_pace_is_not() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let length = usize::try_from(PACE_BYTES_MIN).expect("few") * 8;
    let head = format!("POST /ok/1 HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    for (bytes, arrives) in [(1, false), (length / 8, true)] {
        let mut client = lab.connect().await;
        client.send(&head).await;
        let (start, part) = (Instant::now(), "x".repeat(bytes));
        for _ in 0..8 {
            tokio::time::sleep(PACE_TIMEOUT / 3).await;
            let _ = client.stream.write_all(part.as_bytes()).await;
        }
        if arrives {
            client.read_until(" 8192 983040\n").await;
        } else {
            client.session.await.expect("no panic");
            assert!(start.elapsed() < PACE_TIMEOUT * 3, "{:?}", start.elapsed());
            continue;
        }
        client.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hardly_takes_its_answer_is_reset_on_time() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut slow = lab.connect().await;
    slow.send(get("/ok/big/50000000")).await;
    slow.read_until("\r\n\r\n").await;
    let start = Instant::now();
    slow.session.await.expect("no panic");
    assert!(start.elapsed() < PACE_TIMEOUT * 2, "{:?}", start.elapsed());
}

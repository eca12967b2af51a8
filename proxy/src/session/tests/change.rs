//! A new program applies to what is open.

use super::origin::{self, raw};
use super::{Client, Hold, Lab, lines};
use std::future::pending;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn get(client: &mut Client, path: &str) -> String {
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    let head = client.read_until("\r\n\r\n").await;
    let rest = if head.starts_with("HTTP/1.1 200") { format!("{path} 0 0\n") } else { "}\n".to_owned() };
    client.read_until(&rest).await;
    head
}

/// Takes one request and never answers; or a tunnel that says nothing.
async fn silent(greeting: &'static str) -> origin::Origin {
    raw(move |mut stream, seen| async move {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).await.unwrap_or_default();
        seen.push(&bytes[..count]);
        let _ = stream.write_all(greeting.as_bytes()).await;
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            seen.push(&bytes[..count]);
        }
    })
    .await
}

#[tokio::test]
async fn the_next_request_on_an_open_connection_is_judged_by_the_new_program() {
    let origin = origin::http().await;
    for from in [Hold::Audit, Hold::Observe, Hold::Open] {
        let lab = Lab::inbound(from, origin.address);
        let mut client = lab.connect().await;
        assert!(get(&mut client, "/other").await.starts_with("HTTP/1.1 200"));
        lab.change(Hold::Gate);
        assert!(get(&mut client, "/other").await.starts_with("HTTP/1.1 403"), "{from:?} to gate");
        assert!(get(&mut client, "/ok/1").await.starts_with("HTTP/1.1 200"), "{from:?} to gate");
        lab.change(from);
        assert!(get(&mut client, "/other").await.starts_with("HTTP/1.1 200"), "gate to {from:?}");
        client.finish().await;
    }
}

#[tokio::test]
async fn a_connection_that_may_not_be_any_more_is_reset() {
    let origin = origin::http().await;
    for from in [Hold::Gate, Hold::Audit, Hold::Observe, Hold::Open] {
        let lab = Lab::inbound(from, origin.address);
        let mut client = lab.connect().await;
        get(&mut client, "/ok/1").await;
        lab.change(Hold::Closed);
        assert!(!client.read_to_end().await.1, "{from:?}: reset");
        client.finish().await;
        assert!(lines(&lab.flows()).iter().any(|line| line.contains("deny/deny no_rule")), "{from:?}");
    }
}

#[tokio::test]
async fn a_request_in_flight_that_is_denied_now_is_reset() {
    let origin = silent("").await;
    let lab = Lab::inbound(Hold::Audit, origin.address);
    let mut denied = lab.connect().await;
    denied.send("GET /other HTTP/1.1\r\nhost: a\r\n\r\n").await;
    while !origin.seen.text().contains("/other") {
        tokio::task::yield_now().await;
    }
    let mut allowed = lab.connect().await;
    allowed.send("GET /ok/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    while !origin.seen.text().contains("/ok/1") {
        tokio::task::yield_now().await;
    }
    lab.change(Hold::Gate);
    assert!(!denied.read_to_end().await.1, "reset");
    assert!(!allowed.session.is_finished());
    lab.change(Hold::Closed);
    assert!(!allowed.read_to_end().await.1, "reset");
}

#[tokio::test]
async fn a_tunnel_is_judged_by_the_request_that_opened_it() {
    let origin = silent("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n").await;
    let lab = Lab::inbound(Hold::Observe, origin.address);
    let upgrade =
        |path| format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    let (mut allowed, mut denied) = (lab.connect().await, lab.connect().await);
    allowed.send(upgrade("/ws")).await;
    allowed.read_until("\r\n\r\n").await;
    denied.send(upgrade("/elsewhere")).await;
    denied.read_until("\r\n\r\n").await;
    lab.change(Hold::Gate);
    assert!(!denied.read_to_end().await.1, "reset");
    assert!(!allowed.session.is_finished());
}

#[tokio::test]
async fn another_protocol_is_reset_when_only_requests_may_pass() {
    let origin = silent("+PONG\r\n").await;
    let lab = Lab::inbound(Hold::Observe, origin.address);
    let mut client = lab.connect().await;
    client.send("*1\r\n$4\r\nPING\r\n").await;
    client.read_until("+PONG\r\n").await;
    lab.change(Hold::Gate);
    assert!(!client.read_to_end().await.1, "reset");
    client.finish().await;
    assert_eq!(
        lines(&lab.flows()),
        ["redis allow/allow allowed_by_rule x1", "redis deny/deny protocol_mismatch x1"]
    );
}

#[tokio::test]
async fn a_request_too_many_to_be_remembered_is_reset_when_something_can_be_denied() {
    let origin = silent("").await;
    let lab = Lab::inbound(Hold::Observe, origin.address);
    // Those alike would share what is kept.
    let large =
        |number: usize| format!("GET /ok/{number} HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(15_000));
    let mut client = lab.connect().await;
    for count in 1..=3 {
        client.send(&large(count)).await;
        while origin.seen.text().len() < count * large(count).len() {
            tokio::task::yield_now().await;
        }
    }
    lab.change(Hold::Audit);
    client.send(&large(4)).await;
    while origin.seen.text().len() < 4 * large(4).len() {
        tokio::task::yield_now().await;
    }
    lab.change(Hold::Gate);
    assert!(!client.read_to_end().await.1, "reset");
    client.finish().await;
    assert!(lines(&lab.flows()).iter().any(|line| line.contains("tier_changed")));
}

#[tokio::test]
async fn half_a_head_that_has_left_is_not_completed_if_it_is_denied_now() {
    let origin = silent("").await;
    let lab = Lab::inbound(Hold::Observe, origin.address);
    for (path, arrives) in [("/other", false), ("/ok/1", true)] {
        lab.change(Hold::Observe);
        let mut client = lab.connect().await;
        client.send(format!("GET {path} HTTP/1.1\r\n")).await;
        while !origin.seen.text().contains(path) {
            tokio::task::yield_now().await;
        }
        lab.change(Hold::Gate);
        tokio::task::yield_now().await;
        client.send("host: canary\r\n\r\n").await;
        if arrives {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(50), pending::<()>()).await;
            assert!(!client.session.is_finished(), "allowed, and goes on");
        } else {
            assert!(!client.read_to_end().await.1, "reset");
            assert!(!origin.seen.text().contains("canary"));
        }
    }
}

#[tokio::test]
async fn from_the_drain_on_a_connection_ends_once_nothing_is_open_on_it() {
    let origin = origin::http().await;
    let slow = raw(|mut stream, seen| async move {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            seen.push(&bytes[..count]);
            if bytes[..count].ends_with(b"nd") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await;
            }
        }
    })
    .await;
    for hold in [Hold::Gate, Hold::Audit, Hold::Open] {
        let lab = Lab::inbound(hold, origin.address);
        let (mut silent, mut idle) = (lab.connect().await, lab.connect().await);
        get(&mut idle, "/ok/1").await;
        let busy_lab = Lab::inbound(hold, slow.address);
        let mut busy = busy_lab.connect().await;
        busy.send("POST /ok/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\ne").await;
        while !slow.seen.text().ends_with("\r\n\r\ne") {
            tokio::task::yield_now().await;
        }
        for lab in [&lab, &busy_lab] {
            lab.stage.send_replace(crate::drain::Stage::Draining);
        }
        assert_eq!(silent.read_to_end().await, (String::new(), true), "{hold:?}");
        assert_eq!(idle.read_to_end().await, (String::new(), true), "{hold:?}");
        busy.send("nd").await;
        let (answer, orderly) = busy.read_to_end().await;
        assert!(orderly && answer.ends_with("done"), "{hold:?}: {answer}");
        busy.finish().await;
    }
}

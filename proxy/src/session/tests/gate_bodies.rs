//! Under the gate: bodies of every framing, tunnels, early answers, ends.

use super::origin::{self, pattern, raw};
use super::{Hold, Lab, PATIENCE, lines};
use crate::session::COUNTERS;
use crate::session::limits::PIPES_IN_USE_MAX;
use crate::splice::tests::IN_USE_MAX;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn large_bodies_pass_unchanged_in_both_directions() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    let body = pattern(3_000_000);
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    let before = COUNTERS.spliced_bytes.load(Ordering::Relaxed);
    for round in 0..2 {
        client
            .send(format!("POST /ok/{round} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()))
            .await;
        client.send(&body).await;
        client.read_until(&format!("POST /ok/{round} {} {sum}\n", body.len())).await;
    }
    client.send("GET /ok/big/2000000 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read_until("\r\n\r\n").await;
    assert_eq!(client.read(2_000_000).await, pattern(2_000_000));
    client.send("GET /canary HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(client.read_until("}\n").await.starts_with("HTTP/1.1 403"));
    client.finish().await;
    let spliced = COUNTERS.spliced_bytes.load(Ordering::Relaxed) - before;
    assert!(spliced > 7_000_000, "{spliced} bytes through the kernel");
    let flows = lab.flows();
    let posted = flows.iter().find(|flow| flow.http.as_ref().is_some_and(|http| http.method == "POST"));
    assert!(posted.expect("a report").bytes_to_destination > 2 * 3_000_000);
}

#[tokio::test]
async fn without_a_pipe_large_bodies_are_copied() {
    IN_USE_MAX.set(0);
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    let body = pattern(1_000_000);
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    client.send(format!("POST /ok/1 HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    client.send(&body).await;
    client.read_until(&format!("POST /ok/1 {} {sum}\n", body.len())).await;
    client.send("GET /ok/big/1000000 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read_until("\r\n\r\n").await;
    assert_eq!(client.read(1_000_000).await, body);
    client.finish().await;
    IN_USE_MAX.set(PIPES_IN_USE_MAX);
}

#[tokio::test]
async fn chunked_bodies_pass_in_both_directions_and_the_next_request_is_judged() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send("POST /ok/chunked HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for chunk in pattern(200_000).chunks(7_001) {
        client.send(format!("{:x};x=y\r\n", chunk.len())).await;
        client.send(chunk).await;
        client.send("\r\n").await;
    }
    client.send("0\r\ntrailer: x\r\n\r\nGET /canary HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.read_until("0\r\n\r\n").await;
    assert!(answer.contains("POST /ok/chunked 200000 "), "{answer}");
    assert!(client.read_until("}\n").await.starts_with("HTTP/1.1 403"));
    client.finish().await;
    assert_eq!(origin.seen.text(), "POST /ok/chunked\n");
}

#[tokio::test]
async fn a_chunk_that_breaks_its_framing_closes_both_sides() {
    let origin = raw(|mut stream, seen| async move {
        let mut bytes = [0; 4096];
        while let Ok(count) = stream.read(&mut bytes).await {
            if count == 0 {
                return;
            }
            seen.push(&bytes[..count]);
        }
        seen.push(b"<reset>");
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send("POST /ok/1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nab").await;
    while !origin.seen.text().ends_with("ab") {
        tokio::task::yield_now().await;
    }
    client.send("cdX\r\n0\r\n\r\n").await;
    assert!(!client.read_to_end().await.1, "reset");
    client.finish().await;
    while !origin.seen.text().ends_with("<reset>") {
        tokio::task::yield_now().await;
    }
    assert!(!origin.seen.text().contains('X'));
}

#[tokio::test]
async fn head_and_bodiless_answers_keep_the_order() {
    let origin = raw(|mut stream, _| async move {
        let mut bytes = [0; 4096];
        while let Ok(count) = stream.read(&mut bytes).await {
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            for line in text.lines().filter(|line| line.ends_with("HTTP/1.1")) {
                let answer = match line.split(' ').nth(1) {
                    Some("/ok/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                    Some("/ok/304") => "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
                    _ if line.starts_with("HEAD") => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                    _ => "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            if count == 0 {
                return;
            }
        }
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    for (method, path, end) in [
        ("HEAD", "/ok/1", "content-length: 5\r\n\r\n"),
        ("GET", "/ok/204", "No Content\r\n\r\n"),
        ("GET", "/ok/304", "content-length: 9\r\n\r\n"),
        ("GET", "/ok/2", "hello"),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        client.read_until(end).await;
    }
    client.send("HEAD /no HTTP/1.1\r\nhost: a\r\n\r\nGET /ok/3 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let denied = client.read_until("\r\n\r\n").await;
    assert!(denied.starts_with("HTTP/1.1 403"), "{denied}");
    let next = client.read_until("hello").await;
    assert!(next.starts_with("HTTP/1.1 103"), "a denied HEAD has no body: {next}");
    client.finish().await;
}

/// Agrees to an upgrade if the path says so; then echoes.
async fn upgrader(mut stream: TcpStream, seen: origin::Seen) {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).await.unwrap_or_default();
    seen.push(&bytes[..count]);
    let agreed = bytes[..count].starts_with(b"GET /ws");
    let answer = match agreed {
        true => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        false => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno",
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    while let Ok(count) = stream.read(&mut bytes).await {
        seen.push(&bytes[..count]);
        if count == 0 {
            return;
        }
        if agreed {
            let _ = stream.write_all(&bytes[..count]).await;
        }
    }
}

#[tokio::test]
async fn after_a_101_the_connection_is_a_tunnel() {
    let origin = raw(upgrader).await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client
        .send("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nFRAME")
        .await;
    client.read_until("\r\n\r\n").await;
    assert_eq!(client.read(5).await, b"FRAME");
    let much = pattern(1_000_000);
    let (mut read, mut write) = client.stream.split();
    let mut echoed = vec![0; much.len()];
    let (sent, received) = tokio::join!(write.write_all(&much), read.read_exact(&mut echoed));
    sent.expect("room");
    received.expect("an echo");
    assert_eq!(echoed, much);
    client.shut().await;
    assert_eq!(client.read_to_end().await, (String::new(), true));
    client.finish().await;
    let flows = lab.flows();
    assert_eq!(lines(&flows), ["GET /ws 1 allow/allow allowed_by_rule x1"]);
    assert!(flows[0].bytes_to_destination > 1_000_000 && flows[0].bytes_to_source > 1_000_000);
}

#[tokio::test]
async fn after_a_declined_upgrade_the_held_request_is_judged() {
    let origin = raw(upgrader).await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client
        .send(
            "GET /ok/1 HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: foo\r\n\r\n\
             GET /canary HTTP/1.1\r\nhost: a\r\n\r\n",
        )
        .await;
    let text = client.read_until("}\n").await;
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains("HTTP/1.1 403"), "{text}");
    client.finish().await;
    assert!(!origin.seen.text().contains("canary"));
}

#[tokio::test]
async fn an_offer_of_clear_text_http2_is_cut_out() {
    let origin = raw(upgrader).await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client
        .send(
            "GET /ok/1 HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: a\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAEAAEAA\r\nUser-Agent: Java\r\n\r\n",
        )
        .await;
    client.read_until("no").await;
    client.finish().await;
    assert_eq!(origin.seen.text(), "GET /ok/1 HTTP/1.1\r\nHost: a\r\nUser-Agent: Java\r\n\r\n");
}

#[tokio::test]
async fn an_early_answer_passes_and_neither_what_is_left_of_the_body_nor_anything_behind_it_follows() {
    let origin = raw(|mut stream, seen| async move {
        let mut bytes = [0; 4096];
        let mut first = true;
        while let Ok(count) = stream.read(&mut bytes).await {
            if count == 0 {
                return;
            }
            seen.push(&bytes[..count]);
            if std::mem::take(&mut first) {
                let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let body = "GET /canary HTTP/1.1\r\nhost: a\r\n\r\n";
    for (framing, begin, end) in [
        (format!("content-length: {}", body.len() + 5), "begun", ""),
        ("transfer-encoding: chunked".to_owned(), "5\r\nbegun\r\n21\r\n", "\r\n0\r\n\r\n"),
    ] {
        let mut client = lab.connect().await;
        client.send(format!("POST /ok/1 HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{begin}")).await;
        client.read_until("\r\n\r\n").await;
        assert_eq!(client.read(1).await, b"", "it is told at once that nothing follows");
        client.send(format!("{body}{end}GET /ok/2 HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!(client.read_to_end().await, (String::new(), true));
        client.finish().await;
        assert_eq!(lines(&lab.flows()), ["POST /ok/{id} 4 allow/allow allowed_by_rule x1"]);
        assert!(origin.seen.text().ends_with(begin), "{}", origin.seen.text());
    }
    assert!(!origin.seen.text().contains("canary"), "the server has answered, and wants no more");
}

#[tokio::test]
async fn a_body_that_the_server_runs_as_a_request_is_not_answered_and_reported() {
    let origin = raw(|mut stream, _| async move {
        let mut bytes = [0; 4096];
        while let Ok(count) = stream.read(&mut bytes).await {
            for _ in bytes[..count].windows(8).filter(|bytes| *bytes == b"HTTP/1.1") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret").await;
            }
            if count == 0 {
                return;
            }
        }
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let body = "GET /canary HTTP/1.1\r\nhost: a\r\n\r\n";
    for left_out in [0, 1] {
        let mut client = lab.connect().await;
        let length = body.len() + left_out;
        client
            .send(format!("POST /ok/1 HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}"))
            .await;
        let (text, _) = client.read_to_end().await;
        assert!(text.matches("secret").count() <= 1, "{text}");
        timeout(PATIENCE, &mut client.session).await.expect("an end").expect("no panic");
    }
    assert_eq!(
        lines(&lab.flows()),
        [
            "POST /ok/{id} 2 allow/allow allowed_by_rule x2",
            "http/1.1 deny/deny malformed x1",
            "http/1.1 deny/deny malformed x1"
        ]
    );
}

#[tokio::test]
async fn a_body_until_the_end_ends_with_the_connection() {
    let origin = raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = stream.write_all(&pattern(300_000)).await;
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send("GET /ok/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read_until("\r\n\r\n").await;
    assert_eq!(client.read(400_000).await, pattern(300_000));
    client.finish().await;
    assert_eq!(lines(&lab.flows()), ["GET /ok/{id} 2 allow/allow allowed_by_rule x1"]);
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_seen_as_cut_short() {
    let origin = raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").await;
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send("GET /ok/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!client.read_to_end().await.1, "reset");
    client.finish().await;
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_from_the_origin() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send("POST /ok/1 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 100"));
    client.send("body").await;
    client.read_until("POST /ok/1 4 430\n").await;
    client.send("POST /no HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    let (text, _) = client.read_to_end().await;
    assert!(text.starts_with("HTTP/1.1 403") && text.contains("connection: close"), "{text}");
    client.finish().await;
}

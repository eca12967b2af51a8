//! Under the gate: verdict per request, denials in order, nothing early.

use super::origin::{self, raw};
use super::{Ends, Hold, Lab, To, lines, serve};
use bulkhead_facts::Direction;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: orders.shop\r\n\r\n")
}

/// Status lines in what a client received.
fn statuses(text: &str) -> Vec<&str> {
    text.match_indices("HTTP/1.1 ").filter_map(|(at, _)| text.get(at + 9..at + 12)).collect()
}

#[tokio::test]
async fn allowed_requests_on_one_connection_reach_the_origin_and_are_reported() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    for path in ["/ok/orders/1", "/ok/orders/2", "/ok/orders/3"] {
        client.send(get(path)).await;
        let answer = client.read_until(&format!("GET {path} 0 0\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    client.finish().await;
    assert_eq!(origin.seen.text(), "GET /ok/orders/1\nGET /ok/orders/2\nGET /ok/orders/3\n");
    assert_eq!(origin.seen.connections(), 1);
    let flows = lab.flows();
    assert_eq!(lines(&flows), ["GET /ok/orders/{id} 2 allow/allow allowed_by_rule x3"]);
    assert_eq!(flows[0].bytes_to_destination, 3 * get("/ok/orders/1").len() as u64);
    assert!(flows[0].bytes_to_source > 3 * 80);
}

#[tokio::test]
async fn a_denied_request_never_reaches_the_origin_and_the_connection_goes_on() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send(get("/admin/canary")).await;
    let denial = client.read_until("}\n").await;
    assert!(denial.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{denial}");
    assert!(denial.contains("\"reason\":\"l7_mismatch\""), "{denial}");
    assert!(!denial.contains("orders"), "a peer is told nothing of the policy: {denial}");
    assert_eq!(origin.seen.connections(), 0, "a denied peer does not even open a connection to the workload");
    client.send(get("/ok/1")).await;
    client.read_until("GET /ok/1 0 0\n").await;
    client.finish().await;
    assert_eq!(origin.seen.text(), "GET /ok/1\n");
    let flows = lab.flows();
    assert_eq!(
        lines(&flows),
        ["GET /admin/canary 4 deny/deny l7_mismatch x1", "GET /ok/{id} 2 allow/allow allowed_by_rule x1"]
    );
    let report = flows.iter().find_map(|flow| flow.report_id.clone()).expect("a report identifier");
    assert!(denial.contains(&report), "{denial} names {report}");
}

#[tokio::test]
async fn the_pods_own_app_is_told_policy_rule_and_change() {
    let origin = origin::http().await;
    let lab = Lab::new(Hold::Gate, Direction::Egress, origin.address);
    let mut client = lab.connect().await;
    client.send(get("/admin/7")).await;
    let denial = client.read_until("}\n").await;
    for part in
        ["SegmentPolicy/shop/orders", "\"rule\":\"web\"", "{methods: [GET], path: \\\"/admin/{id}\\\"}"]
    {
        assert!(denial.contains(part), "`{part}` in {denial}");
    }
    client.finish().await;
}

#[tokio::test]
async fn many_denials_at_once_come_in_their_turn_to_a_client_that_ends_before_it_reads() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let client = lab.connect().await;
    socket2::SockRef::from(&client.stream).set_recv_buffer_size(4_096).expect("a socket");
    let (mut reads, mut writes) = client.stream.into_split();
    let paths = ["/ok/1", "/no/1", "/no/2", "/no/3", "/ok/2", "/no/4"].repeat(500);
    let requests: String = paths.iter().map(|path| get(path)).collect();
    let sends = tokio::spawn(async move {
        writes.write_all(requests.as_bytes()).await.expect("a session that reads");
        writes.shutdown().await.expect("an end");
    });
    let mut text = String::new();
    reads.read_to_string(&mut text).await.expect("an orderly end");
    sends.await.expect("no panic");
    client.session.await.expect("no panic");
    let expected: Vec<&str> = ["200", "403", "403", "403", "200", "403"].repeat(500);
    assert_eq!(statuses(&text), expected);
    assert_eq!(origin.seen.text(), "GET /ok/1\nGET /ok/2\n".repeat(500));
}

#[tokio::test]
async fn denials_in_a_pipeline_come_in_their_turn() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send([get("/ok/1"), get("/canary"), get("/ok/2"), get("/canary"), get("/ok/3")].concat()).await;
    client.shut().await;
    let (text, orderly) = client.read_to_end().await;
    assert!(orderly);
    assert_eq!(statuses(&text), ["200", "403", "200", "403", "200"], "{text}");
    client.finish().await;
    assert_eq!(origin.seen.text(), "GET /ok/1\nGET /ok/2\nGET /ok/3\n");
}

#[tokio::test]
async fn a_denied_request_with_a_body_ends_the_connection_and_its_body_is_no_request() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    let smuggled = get("/ok/smuggled");
    client
        .send(format!("POST /no HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{smuggled}", smuggled.len()))
        .await;
    let (text, orderly) = client.read_to_end().await;
    assert!(orderly);
    assert_eq!(statuses(&text), ["403"]);
    assert!(text.contains("connection: close"), "{text}");
    client.finish().await;
    assert_eq!(origin.seen.text(), "");
}

#[tokio::test]
async fn malformed_requests_are_refused_before_any_rule() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    for (head, status) in [
        ("GET /ok/1 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        ("GET /ok/1 HTTP/1.1\nhost: a\n\n", "400"),
        ("POST /ok/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n", "400"),
        ("GET /ok/%2e%2e%2fadmin HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "403"),
    ] {
        let mut client = lab.connect().await;
        client.send(head).await;
        let (text, _) = client.read_to_end().await;
        assert_eq!(statuses(&text), [status], "{head:?}: {text}");
        client.finish().await;
    }
    assert_eq!(origin.seen.connections(), 0);
    let reasons: Vec<String> = lab.flows().iter().map(|flow| flow.enforced.reason.to_string()).collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "malformed").count(), 3, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| *reason == "ambiguous").count(), 1, "{reasons:?}");
}

#[tokio::test]
async fn another_protocol_is_refused_and_reported_by_name() {
    let origin = raw(|mut stream, seen| async move {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        seen.push(&bytes);
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let told = [("\x15\x03\x03\0\x02\x021", true), ("", false), ("-NOPERM", true)];
    let said = [&b"\x16\x03\x01\x02\x00\x01"[..], b"SSH-2.0-client\r\n", b"*1\r\n$4\r\nPING\r\n"];
    for (bytes, (word, in_order)) in said.into_iter().zip(told) {
        let mut client = lab.connect().await;
        client.send(bytes).await;
        let (text, orderly) = client.read_to_end().await;
        assert!(text.starts_with(word) && orderly == in_order, "{text:?}");
        client.finish().await;
    }
    assert_eq!(origin.seen.connections(), 0);
    assert_eq!(
        lines(&lab.flows()),
        [
            "redis deny/deny protocol_mismatch x1",
            "ssh deny/deny protocol_mismatch x1",
            "tls deny/deny protocol_mismatch x1"
        ]
    );
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_decided_whole() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    let head = get("/ok/1");
    let (last, rest) = head.as_bytes().split_last().expect("bytes");
    for byte in rest {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(origin.seen.connections(), 0, "nothing leaves before the head is complete");
    client.send([*last]).await;
    client.read_until("GET /ok/1 0 0\n").await;
    client.finish().await;
}

#[tokio::test]
async fn a_client_that_half_closes_still_gets_its_answer() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send(get("/ok/1")).await;
    client.shut().await;
    let (text, orderly) = client.read_to_end().await;
    assert!(orderly && text.ends_with("GET /ok/1 0 0\n"), "{text}");
    client.finish().await;
}

#[tokio::test]
async fn half_a_head_before_the_end_is_dropped() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send("GET /ok/1 HTTP/1.1\r\nhost:").await;
    client.shut().await;
    assert_eq!(client.read_to_end().await, (String::new(), true));
    client.finish().await;
    assert_eq!(origin.seen.connections(), 0);
}

#[tokio::test]
async fn a_destination_that_is_not_there_resets_the_client_and_is_no_denial() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody: SocketAddr = listener.local_addr().expect("an address");
    drop(listener);
    for direction in Direction::BOTH {
        let lab = Lab::new(Hold::Gate, direction, nobody);
        let mut client = lab.connect().await;
        let _ = client.stream.write_all(get("/ok/1").as_bytes()).await;
        assert!(!client.read_to_end().await.1, "reset");
        client.finish().await;
        assert!(lab.flows().iter().all(|flow| flow.enforced.effect == bulkhead_facts::Effect::Allow));
    }
}

#[tokio::test]
async fn a_response_that_nobody_asked_for_is_not_delivered_and_the_one_before_it_is() {
    let origin = raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let evil =
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
        let _ = stream.write_all(evil).await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send(get("/ok/1")).await;
    let (text, orderly) = client.read_to_end().await;
    assert_eq!((text.as_str(), orderly), ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true));
    client.finish().await;
    assert!(lines(&lab.flows()).contains(&"http/1.1 deny/deny malformed x1".to_owned()));
}

#[tokio::test]
async fn a_connection_that_may_not_be_is_reset_and_reported() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Closed, origin.address);
    let mut client = lab.connect().await;
    assert!(!client.read_to_end().await.1, "reset");
    client.finish().await;
    assert_eq!(lines(&lab.flows()), [" deny/deny no_rule x1"]);
    assert_eq!(origin.seen.connections(), 0);
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stream, _) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
    let ends = Ends { client: address, destination: origin.address };
    let shared = lab.shared();
    let dial = To(origin.address);
    let session = serve(Direction::Ingress, stream.expect("a connection"), ends, shared, &dial);
    // Sockets and their registration in the runtime come on top; buffers are in the pool while nothing moves.
    let bytes = size_of_val(&session);
    assert!(bytes <= 2_688, "{bytes} bytes for the task of a connection");
}

/// A client whose last request was answered by a server that stays connected.
async fn answered_for_the_last_time() -> (Lab, super::Client, tokio::net::TcpStream) {
    let origin = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let lab = Lab::inbound(Hold::Gate, origin.local_addr().expect("an address"));
    let mut client = lab.connect().await;
    client.send("GET /ok/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let (mut server, _) = origin.accept().await.expect("a connection");
    let mut head = [0; 256];
    assert!(server.read(&mut head).await.expect("a request") > 0);
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("room");
    let (answer, orderly) = client.read_to_end().await;
    assert!(orderly && answer.ends_with("\r\n\r\nok"), "{answer}");
    (lab, client, server)
}

#[tokio::test]
async fn the_end_follows_the_answer_to_the_last_request_although_the_server_stays() {
    let (_lab, client, mut server) = answered_for_the_last_time().await;
    client.finish().await;
    assert_eq!(server.read(&mut [0; 8]).await.expect("orderly"), 0);
}

#[tokio::test]
async fn what_a_server_says_after_the_answer_to_the_last_request_is_refused_and_reported() {
    let (lab, client, mut server) = answered_for_the_last_time().await;
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno").await.expect("room");
    let _ = server.read(&mut [0; 8]).await;
    client.finish().await;
    let lines = lines(&lab.flows());
    assert!(lines.iter().any(|line| line.contains("deny/deny")), "{lines:?}");
}

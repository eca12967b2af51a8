//! WebSockets whose frames are checked, over HTTP/1.1 and over HTTP/2.

use super::http2::{Http2Client, Http2Origin, request};
use super::origin::{Seen, raw};
use super::*;
use bytes::Bytes;

/// A program under which `/ok/**` may become WebSockets, checked if so said.
fn program_of(checked: bool) -> Arc<Current> {
    let mut program = program(Hold::Gate, Direction::Ingress);
    let any = |websocket, frames_checked| HttpMatch {
        path: PathTemplate::parse("/ok/**").ok(),
        websocket: Some(websocket),
        frames_checked,
        ..HttpMatch::default()
    };
    let requests = vec![any(false, false), any(true, checked)];
    program.l7_chains[0].enforced[0].entries[0].section = Some(L7Section::Http(requests));
    let judge = Arc::new(Judge::new(program).expect("a valid program"));
    Arc::new(Current { judge, ..(*current(Hold::Gate, Direction::Ingress)).clone() })
}

fn checking(destination: SocketAddr) -> Lab {
    let lab = Lab::inbound(Hold::Gate, destination);
    lab.policy.send_replace(program_of(true));
    lab
}

/// Agrees to an upgrade, says what stands behind `say-` in the path in hexadecimal, and keeps what comes.
async fn agreeing(mut stream: TcpStream, seen: Seen) {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).await.unwrap_or_default();
    let head = String::from_utf8_lossy(&bytes[..count]).into_owned();
    let compressed = head.contains("permessage-deflate");
    let extension = if compressed { "sec-websocket-extensions: permessage-deflate\r\n" } else { "" };
    let agreed = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n{extension}\r\n"
    );
    let _ = stream.write_all(agreed.as_bytes()).await;
    let said = head.split("say-").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let said: Vec<u8> =
        (0..said.len() / 2).filter_map(|at| u8::from_str_radix(&said[2 * at..2 * at + 2], 16).ok()).collect();
    let _ = stream.write_all(&said).await;
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        seen.push(&bytes[..count]);
    }
}

fn upgrade(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n{more}\r\n")
}

/// `hi` as a client says it.
const HI: &[u8] = b"\x81\x82\0\0\0\0hi";
const DEFLATE: &str = "sec-websocket-extensions: permessage-deflate\r\n";

/// What a client reads behind the head: the code of a close, if one comes before the end.
async fn code_of_close(client: &mut Client) -> Option<u16> {
    client.read_until("\r\n\r\n").await;
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, client.stream.read_to_end(&mut bytes)).await.expect("an end in time");
    let at = bytes.iter().position(|byte| *byte == 0x88)?;
    Some(u16::from_be_bytes(bytes.get(at + 2..at + 4)?.try_into().ok()?))
}

#[tokio::test]
async fn a_wrong_frame_of_a_client_never_arrives_and_both_sides_are_told_by_a_close() {
    for (wrong, more) in [
        (&b"\x81\x02hi"[..], ""),
        (b"\xc1\x82\0\0\0\0hi", ""),
        (b"\xa1\x82\0\0\0\0hi", DEFLATE),
        (b"\x83\x80\0\0\0\0", ""),
        (b"\x80\x80\0\0\0\0", ""),
        (b"\x89\xfe\0\x7e\0\0\0\0", ""),
        (b"\x88\x82\0\0\0\0\x03\xed", ""),
        (b"GET /canary HTTP/1.1\r\nhost: a\r\n\r\n", ""),
    ] {
        let origin = raw(agreeing).await;
        let lab = checking(origin.address);
        let mut client = lab.connect().await;
        client.send([upgrade("/ok/socket", more).as_bytes(), HI].concat()).await;
        for byte in wrong {
            // It may be over before the last one.
            let _ = client.stream.write_all(&[*byte]).await;
        }
        assert_eq!(code_of_close(&mut client).await, Some(1002), "{wrong:?}");
        client.finish().await;
        let arrived = origin.seen.bytes();
        assert!(arrived.starts_with(HI), "{arrived:?}");
        let close = &arrived[HI.len()..];
        assert!(close.is_empty() || close.starts_with(b"\x88"), "{wrong:?}: {close:?}");
        let told = lines(&lab.flows());
        assert!(told.contains(&"http/1.1 deny/deny malformed x1".to_owned()), "{told:?}");
    }
}

#[tokio::test]
async fn a_wrong_frame_of_a_server_never_arrives() {
    for (said, passes) in
        [("810268698a00", true), ("8182", false), ("c10161", false), ("8300", false), ("88020064", false)]
    {
        let origin = raw(agreeing).await;
        let lab = checking(origin.address);
        let mut client = lab.connect().await;
        client.send(upgrade(&format!("/ok/say-{said}"), "")).await;
        if passes {
            client.read_until("\r\n\r\n").await;
            assert_eq!(client.read(6).await, b"\x81\x02hi\x8a\0");
        } else {
            assert_eq!(code_of_close(&mut client).await, Some(1002), "{said}");
        }
        client.finish().await;
    }
}

#[tokio::test]
async fn compressed_messages_pass_where_the_server_agreed() {
    let origin = raw(agreeing).await;
    let lab = checking(origin.address);
    let mut client = lab.connect().await;
    client.send(upgrade("/ok/say-c10161", DEFLATE)).await;
    client.read_until("\r\n\r\n").await;
    assert_eq!(client.read(3).await, b"\xc1\x01a");
    client.send(b"\xc1\x81\0\0\0\0a").await;
    client.shut().await;
    client.finish().await;
}

#[tokio::test]
async fn large_messages_pass_in_both_directions() {
    let origin = raw(|mut stream: TcpStream, _| async move {
        let mut bytes = vec![0; 4096];
        let _ = stream.read(&mut bytes).await;
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let _ = stream.write_all(head.as_bytes()).await;
        let mut frame = vec![0; 14 + 1_000_000];
        if stream.read_exact(&mut frame).await.is_ok() {
            let answer = [&b"\x82\x7f"[..], &frame[2..10], &frame[14..]].concat();
            let _ = stream.write_all(&answer).await;
        }
    })
    .await;
    let lab = checking(origin.address);
    let mut client = lab.connect().await;
    client.send(upgrade("/ok/socket", "")).await;
    client.read_until("\r\n\r\n").await;
    let length = 1_000_000u64.to_be_bytes();
    let payload: Vec<u8> = (0..1_000_000u32).map(|at| at.to_le_bytes()[0]).collect();
    client.send([&b"\x82\xff"[..], &length, &[0; 4], &payload].concat()).await;
    let answer = client.read(10 + payload.len()).await;
    assert_eq!(answer, [&b"\x82\x7f"[..], &length, &payload].concat());
    client.finish().await;
}

#[tokio::test]
async fn a_socket_that_was_not_checked_ends_when_a_policy_wants_it_checked() {
    let origin = raw(agreeing).await;
    let lab = checking(origin.address);
    lab.policy.send_replace(program_of(false));
    let mut client = lab.connect().await;
    client.send([upgrade("/ok/socket", "").as_bytes(), b"any bytes"].concat()).await;
    client.read_until("\r\n\r\n").await;
    origin.seen.has(b"any bytes").await;
    lab.policy.send_replace(program_of(true));
    timeout(PATIENCE, client.session).await.expect("the session ends").expect("no panic");
    let mut checked = lab.connect().await;
    checked.send([upgrade("/ok/socket", "").as_bytes(), HI].concat()).await;
    checked.read_until("\r\n\r\n").await;
    origin.seen.has(HI).await;
    lab.policy.send_replace(program_of(true));
    checked.send(HI).await;
    origin.seen.has(&[HI, HI].concat()).await;
    checked.finish().await;
}

#[tokio::test]
async fn an_upgrade_that_waits_for_its_answer_outlives_a_policy_that_wants_the_same_check() {
    let origin = raw(|stream: TcpStream, seen| async move {
        let mut head = [0; 4096];
        let count = stream.peek(&mut head).await.unwrap_or_default();
        seen.push(&head[..count]);
        // It agrees once the test says so.
        seen.has(b"go on").await;
        agreeing(stream, seen).await;
    })
    .await;
    let lab = checking(origin.address);
    let mut client = lab.connect().await;
    client.send(upgrade("/ok/socket", "")).await;
    origin.seen.has(b"\r\n\r\n").await;
    lab.policy.send_replace(program_of(true));
    client.send(b"\x81\x02hi").await;
    origin.seen.push(b"go on");
    assert_eq!(code_of_close(&mut client).await, Some(1002), "it goes on, and is checked");
    client.finish().await;

    let lab = checking(origin.address);
    lab.policy.send_replace(program_of(false));
    let mut client = lab.connect().await;
    client.send(upgrade("/ok/socket", "")).await;
    origin.seen.has(b"\r\n\r\n").await;
    lab.policy.send_replace(program_of(true));
    timeout(PATIENCE, client.session).await.expect("one that would go unchecked ends").expect("no panic");
}

#[tokio::test]
async fn over_http2_a_wrong_frame_ends_the_connection_before_it_arrives() {
    for (frame, passes) in [
        (&b"\x81\x82\0\0\0\0hi"[..], true),
        (b"\x81\x02hi", false),
        (b"\xc1\x82\0\0\0\0hi", false),
        (b"\x83\x80\0\0\0\0", false),
    ] {
        let origin = Http2Origin::silent().await;
        let lab = checking(origin.address);
        let mut client = Http2Client::connect(&lab).await;
        let (first, _) = client.start(request("GET", "/ok/a"), true).await;
        origin.has(1).await;
        while !client.send.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let mut connect = request("CONNECT", "/ok/socket");
        connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (_response, mut frames) = client.start(connect, false).await;
        origin.has(2).await;
        frames.send_data(Bytes::from_static(frame), false).expect("an open stream");
        let ended = timeout(Duration::from_millis(if passes { 200 } else { 10_000 }), first).await;
        assert_eq!(ended.is_err(), passes, "{frame:?}");
        let told = lines(&lab.flows());
        assert_eq!(told.contains(&"http/2 deny/deny malformed x1".to_owned()), !passes, "{told:?}");
    }
}

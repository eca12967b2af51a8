//! HTTP/2 while something changes: the policy, the life of the process, the patience of a client.

use super::http2::{Http2Client, Http2Origin, request, send, whole};
use super::*;
use crate::session::limits::HEAD_TIMEOUT;
use bytes::Bytes;
use h2::Reason as Code;
use http::StatusCode;
use tokio::time::Instant;

#[tokio::test]
async fn under_the_tee_requests_pass_unchanged_and_are_reported() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Audit, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    assert_eq!(client.get("/ok/a").await.0, StatusCode::OK);
    assert_eq!(client.get("/no/b").await.0, StatusCode::OK);
    let upload = Bytes::from(vec![b'x'; 300_000]);
    let (status, body) = client.post("/no/c", upload.clone()).await.expect("a response");
    assert_eq!((status, body.len()), (StatusCode::OK, upload.len()));
    client.finish().await;
    assert_eq!(
        lines(&lab.flows()),
        [
            "GET /no/b 2 allow/deny allowed_by_rule x1",
            "GET /ok/a 2 allow/allow allowed_by_rule x1",
            "POST /no/c 2 allow/deny allowed_by_rule x1",
        ]
        .map(|line| line.to_owned())
    );
}

#[tokio::test]
async fn a_server_that_greets_first_is_understood() {
    let origin = origin::raw(|mut stream, seen| async move {
        let _ = stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await;
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            seen.push(&bytes[..count]);
            if bytes[..count].ends_with(b"/ok/1") {
                // A response to stream 1 that is complete with its head.
                let _ = stream.write_all(b"\0\0\x01\x01\x05\0\0\0\x01\x88").await;
            }
        }
    })
    .await;
    let request = b"\0\0\x0c\x01\x05\0\0\0\x01\x82\x86\x41\x01a\x44\x05/ok/1";
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice(), request].concat();
    for hold in [Hold::Audit, Hold::Observe] {
        let lab = Lab::inbound(hold, origin.address);
        let mut client = lab.connect().await;
        assert_eq!(client.read(9).await, b"\0\0\0\x04\0\0\0\0\0", "before the client has said anything");
        client.send(&hello).await;
        assert_eq!(client.read(10).await, b"\0\0\x01\x01\x05\0\0\0\x01\x88");
        client.finish().await;
        assert_eq!(lines(&lab.flows()), ["GET /ok/{id} 2 allow/allow allowed_by_rule x1"], "{hold:?}");
    }
}

#[tokio::test]
async fn a_live_connection_goes_from_tee_to_gate_and_only_what_is_denied_ends() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Observe, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    let (going_on, mut going_on_body) = client.start(request("POST", "/ok/long"), false).await;
    let (ending, mut ending_body) = client.start(request("POST", "/no/long"), false).await;
    // Both have their first answer, so that both are in the middle.
    let (going_on, ending) = (going_on.await.expect("a response"), ending.await.expect("a response"));
    lab.change(Hold::Gate);
    let mut rest = ending.into_body();
    let end = timeout(PATIENCE, async { rest.data().await.expect("an end").expect_err("a reset") }).await;
    assert_eq!(end.expect("in time").reason(), Some(Code::CANCEL));
    assert!(send(&mut ending_body, Bytes::from(vec![0; 100_000])).await.is_err());
    send(&mut going_on_body, Bytes::from_static(b"all of it")).await.expect("an open stream");
    going_on_body.send_data(Bytes::new(), true).expect("an open stream");
    let mut body = going_on.into_body();
    assert_eq!(body.data().await.expect("a body").expect("a body"), "all of it");
    assert_eq!(client.get("/no/again").await.0, StatusCode::FORBIDDEN);
    assert_eq!(client.get("/ok/again").await.0, StatusCode::OK);
    lab.change(Hold::Observe);
    assert_eq!(client.get("/no/again").await.0, StatusCode::OK, "and what is allowed again passes");
    drop((going_on_body, ending_body, body, rest));
    client.finish().await;
    assert_eq!(origin.asked(), ["POST /ok/long", "POST /no/long", "GET /ok/again", "GET /no/again"]);
}

#[tokio::test]
async fn a_request_that_waits_is_told_when_it_is_not_allowed_any_more() {
    let origin = Http2Origin::silent().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    let (left, _) = client.start(request("GET", "/ok/left/a"), true).await;
    let (right, _) = client.start(request("GET", "/ok/right/a"), true).await;
    origin.has(2).await;
    lab.change(Hold::Narrow);
    let (status, body) = whole(right).await.expect("a response");
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("denied by bulkhead"), "{body}");
    assert!(timeout(Duration::from_millis(50), left).await.is_err(), "the other one waits on");
    lab.change(Hold::Closed);
    timeout(PATIENCE, client.session).await.expect("the session ends").expect("no panic");
}

#[tokio::test]
async fn while_it_drains_open_streams_end_as_they_like_and_then_the_connection() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    let (response, mut body) = client.start(request("POST", "/ok/long"), false).await;
    let response = response.await.expect("a response");
    lab.stage.send_replace(Stage::Draining);
    // The client hears of it, and opens no stream any more.
    let closed = async {
        while client.send.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closed).await.expect("in time");
    assert!(!client.session.is_finished());
    body.send_data(Bytes::from_static(b"text"), true).expect("an open stream");
    let mut rest = response.into_body();
    assert_eq!(rest.data().await.expect("a body").expect("a body"), "text");
    client.finish().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_stalls_one_stream_and_no_other() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    let (stalled, mut upload) = client.start(request("POST", "/ok/stalled"), false).await;
    let stalled = stalled.await.expect("a response");
    // More than the window of one stream, less than that of the connection for the others.
    let sent = timeout(Duration::from_millis(200), send(&mut upload, Bytes::from(vec![b'x'; 50_000]))).await;
    sent.expect("within the window").expect("an open stream");
    for number in 0..20 {
        let (status, body) =
            client.post(&format!("/ok/{number}"), Bytes::from_static(b"small")).await.expect("one");
        assert_eq!((status, body.as_str()), (StatusCode::OK, "small"));
    }
    upload.send_data(Bytes::new(), true).expect("an open stream");
    let mut body = stalled.into_body();
    let mut count = 0;
    while let Some(Ok(data)) = body.data().await {
        count += data.len();
        let _ = body.flow_control().release_capacity(data.len());
    }
    assert_eq!(count, 50_000);
    drop((upload, body));
    client.finish().await;
}

#[tokio::test]
async fn malformed_requests_end_alone_and_are_reported() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    let mut sent = request("GET", "/ok/a");
    // A body is announced, and the stream ends without it.
    sent.headers_mut().insert("content-length", "5".parse().expect("sound"));
    let (response, _) = client.start(sent, true).await;
    assert_eq!(whole(response).await.expect_err("a reset").reason(), Some(Code::PROTOCOL_ERROR));
    assert_eq!(client.get("/ok/b").await.0, StatusCode::OK);
    client.finish().await;
    assert_eq!(origin.asked(), ["GET /ok/b"]);
    let flows = lines(&lab.flows());
    assert!(flows.contains(&"http/2 deny/deny malformed x1".to_owned()), "{flows:?}");
}

#[tokio::test]
async fn a_flood_ends_with_a_word_and_the_origin_sees_no_more_of_it() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    for _ in 0..200 {
        // A client whose connection has ended may fail to send.
        let _ = client.stream.write_all(b"\0\0\x08\x06\0\0\0\0\0whatever").await;
    }
    let (told, _) = client.read_to_end().await;
    let go_away = told.as_bytes().windows(4).filter(|window| *window == [0, 0, 0, 11]).count();
    assert_eq!(go_away, 1, "ENHANCE_YOUR_CALM: {told:?}");
    client.finish().await;
    assert!(lines(&lab.flows()).contains(&"http/2 deny/deny limit x1".to_owned()));
}

#[tokio::test]
async fn a_websocket_over_http2_is_judged_like_the_get_that_it_stands_for() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    // With the first answer it is known that the server takes such requests.
    assert_eq!(client.get("/ok/a").await.0, StatusCode::OK);
    let connect = |path| {
        let mut connect = request("CONNECT", path);
        connect.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        connect
    };
    let (response, mut frames) = client.start(connect("/ok/socket"), false).await;
    let response = response.await.expect("a response");
    assert_eq!(response.status(), StatusCode::OK);
    frames.send_data(Bytes::from_static(b"\x81\x02hi"), false).expect("an open stream");
    let mut answers = response.into_body();
    assert_eq!(answers.data().await.expect("bytes").expect("bytes"), &b"\x81\x02hi"[..]);
    let (response, _) = client.start(connect("/no/socket"), false).await;
    assert_eq!(whole(response).await.expect("a response").0, StatusCode::FORBIDDEN);
    drop((frames, answers));
    client.finish().await;
    assert_eq!(origin.asked(), ["GET /ok/a", "CONNECT /ok/socket"]);
    let flows = lines(&lab.flows());
    assert!(flows.contains(&"GET /ok/socket 2 allow/allow allowed_by_rule x1".to_owned()), "{flows:?}");
}

/// CVE-2026-22045, CVE-2026-25949, GO-2026-6089: a client that stops in any state is dropped on time.
#[tokio::test(start_paused = true)]
async fn cve_2026_22045_a_slow_client_is_dropped_in_every_state_and_a_waiting_one_is_not() {
    let origin = Http2Origin::plain().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    let greeted = [&preface[..], settings].concat();
    let half_block = b"\0\0\x03\x01\0\0\0\0\x01\x82\x86\x84";
    for sent in [
        preface[..10].to_vec(),
        preface.clone(),
        [&preface[..], &settings[..4]].concat(),
        [&greeted[..], &half_block[..5]].concat(),
        [&greeted[..], &half_block[..]].concat(),
        [&greeted[..], &half_block[..], b"\0\0\x02\x09\0\0\0\0\x01\x86"].concat(),
    ] {
        let mut slow = lab.connect().await;
        slow.send(&sent).await;
        let start = Instant::now();
        let mut rest = Vec::new();
        let _ = slow.stream.read_to_end(&mut rest).await;
        let after = start.elapsed();
        assert!(after >= HEAD_TIMEOUT && after < HEAD_TIMEOUT * 2, "{after:?} after {} bytes", sent.len());
        slow.finish().await;
    }
    // A stream that waits for its own client, or a connection without any, is as long-lived as anywhere else.
    let mut waiting = lab.connect().await;
    let head = b"\0\0\x0c\x01\x04\0\0\0\x01\x83\x86\x44\x05/ok/a\x41\x01a";
    waiting.send([&greeted[..], &head[..]].concat()).await;
    let quiet = timeout(HEAD_TIMEOUT * 20, async {
        let mut bytes = [0; 1024];
        while waiting.stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    });
    assert!(quiet.await.is_err(), "still open");
    waiting.finish().await;
}

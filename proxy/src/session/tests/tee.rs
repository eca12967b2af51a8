//! Under the tee: whatever worked without us works, and what it was is reported.

use super::origin::{self, pattern, raw};
use super::{Hold, Lab, lines};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TEES: [Hold; 3] = [Hold::Audit, Hold::Observe, Hold::Open];

/// Sends back what it gets.
async fn echo() -> origin::Origin {
    raw(|mut stream, seen| async move {
        let mut bytes = vec![0; 32 * 1024];
        while let Ok(count) = stream.read(&mut bytes).await {
            if count == 0 {
                return;
            }
            seen.push(&bytes[..count]);
            let _ = stream.write_all(&bytes[..count]).await;
        }
    })
    .await
}

#[tokio::test]
async fn requests_that_enforcement_would_deny_pass_and_are_reported() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Audit, origin.address);
    let mut client = lab.connect().await;
    for path in ["/ok/1", "/admin"] {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        client.read_until(&format!("GET {path} 0 0\n")).await;
    }
    client.finish().await;
    assert_eq!(
        lines(&lab.flows()),
        ["GET /admin 2 allow/deny allowed_by_rule x1", "GET /ok/{id} 2 allow/allow allowed_by_rule x1"]
    );
}

#[tokio::test]
async fn requests_are_learned_from() {
    for hold in [Hold::Observe, Hold::Open] {
        let origin = origin::http().await;
        let lab = Lab::inbound(hold, origin.address);
        let mut client = lab.connect().await;
        client.send("POST /orders/17 HTTP/1.1\r\nhost: Orders.Shop:80\r\ncontent-length: 2\r\n\r\nhi").await;
        client.read_until("POST /orders/17 2 209\n").await;
        client.finish().await;
        let flows = lab.flows();
        assert_eq!(lines(&flows), ["POST /orders/{id} 2 allow/allow allowed_by_rule x1"], "{hold:?}");
        assert_eq!(flows[0].http.as_ref().map(|http| http.host.as_str()), Some("orders.shop"));
    }
}

#[tokio::test]
async fn arbitrary_bytes_pass_unchanged_in_any_pieces() {
    let origin = echo().await;
    let mut conversations: Vec<Vec<u8>> = vec![
        pattern(100_000),
        b"GET / HTTP/1.1\nhost: a\n\n".to_vec(),
        b"GET /a HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_vec(),
        [b"GET /long HTTP/1.1\r\nx: ".as_slice(), &b"a".repeat(40_000)].concat(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n"
            .to_vec(),
        b"P".to_vec(),
    ];
    // A source of bytes that gives the same ones in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in [1usize, 3, 17, 5_000] {
        let random = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        conversations.push(random.take(length).collect());
    }
    for hold in TEES {
        let lab = Lab::inbound(hold, origin.address);
        for bytes in &conversations {
            for piece in [1_usize, 7, 1_000, usize::MAX] {
                if piece < 1_000 && bytes.len() > 6_000 {
                    continue;
                }
                let mut client = lab.connect().await;
                let (mut read, mut write) = client.stream.split();
                let send = async {
                    for part in bytes.chunks(piece) {
                        write.write_all(part).await.expect("room");
                        tokio::task::yield_now().await;
                    }
                    write.shutdown().await.expect("an open socket");
                };
                let mut echoed = Vec::new();
                let (result, ()) = tokio::join!(read.read_to_end(&mut echoed), send);
                result.expect("an orderly end");
                assert!(
                    echoed == *bytes,
                    "{hold:?}: {:?}… by {piece}",
                    bytes[..bytes.len().min(40)].escape_ascii().to_string()
                );
                client.finish().await;
            }
        }
    }
}

#[tokio::test]
async fn a_server_may_speak_first_and_is_told_by_its_greeting() {
    let origin = raw(|mut stream, _| async move {
        let _ = stream.write_all(b"J\0\0\0\n8.0.36\0greeting").await;
        let mut bytes = [0; 100];
        let count = stream.read(&mut bytes).await.unwrap_or_default();
        let _ = stream.write_all(&bytes[..count]).await;
    })
    .await;
    for hold in TEES {
        let lab = Lab::inbound(hold, origin.address);
        let mut client = lab.connect().await;
        client.read_until("greeting").await;
        client.send("login").await;
        client.read_until("login").await;
        client.finish().await;
        let shadow = if hold == Hold::Audit { "deny" } else { "allow" };
        assert_eq!(lines(&lab.flows()), [format!("mysql allow/{shadow} allowed_by_rule x1")], "{hold:?}");
    }
}

#[tokio::test]
async fn a_half_closed_connection_stays_half_open() {
    let origin = raw(|mut stream, _| async move {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let _ = stream.write_all(&pattern(200_000)).await;
    })
    .await;
    for hold in TEES {
        let lab = Lab::inbound(hold, origin.address);
        let mut client = lab.connect().await;
        client.send(b"\x01binary request").await;
        client.shut().await;
        assert_eq!(client.read(300_000).await, pattern(200_000), "{hold:?}");
        client.finish().await;
    }
}

#[tokio::test]
async fn a_malformed_request_passes_and_the_shadow_answer_says_so() {
    let origin = echo().await;
    let lab = Lab::inbound(Hold::Audit, origin.address);
    let mut client = lab.connect().await;
    client.send("GET /ok/1 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    client.read_until("host: b\r\n\r\n").await;
    client.finish().await;
    let flows = lab.flows();
    assert_eq!(lines(&flows), ["http/1.1 allow/deny allowed_by_rule x1"]);
    assert_eq!(flows[0].shadow.reason, bulkhead_facts::Reason::Malformed);
}

#[tokio::test]
async fn a_tunnel_after_an_upgrade_passes() {
    let origin = raw(|mut stream, _| async move {
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes).await;
        let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n").await;
        let count = stream.read(&mut bytes).await.unwrap_or_default();
        let _ = stream.write_all(&bytes[..count]).await;
    })
    .await;
    for hold in TEES {
        let lab = Lab::inbound(hold, origin.address);
        let mut client = lab.connect().await;
        client.send("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
        client.read_until("\r\n\r\n").await;
        client.send("frame").await;
        client.read_until("frame").await;
        client.finish().await;
        assert_eq!(lines(&lab.flows()), ["GET /ws 1 allow/allow allowed_by_rule x1"], "{hold:?}");
    }
}

//! Requests that take two readers apart, of the kinds that public tools try: each against every origin that
//! [`super::evasion`] knows, and by its rule: an origin reads what was allowed, as often, and never a canary.
//!
//! How they are written: `|` ends a line; `@` is a whole request for a canary, `LEN` and `HEX` its length; characters up
//! to U+00FF are single bytes.

use super::evasion::{Late, Log, cuts, each_origin, send};
use super::{Hold, Lab};
use std::net::SocketAddr;

/// A body that is a request, for readers that do not believe in the body (CL.0, 0.CL, TE.0).
const BODIES: &[&str] = &[
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Content-Length: LEN||@",
    "HEAD /ok/1 HTTP/1.1|Host: a|Content-Length: LEN||@",
    "OPTIONS * HTTP/1.1|Host: a|Content-Length: LEN||@",
    "DELETE /ok/1 HTTP/1.1|Host: a|Content-Length: LEN||@",
    "PUT /ok/1 HTTP/1.1|Host: a|Content-Length: 00LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked||HEX|@|0||",
    "HEAD /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked||HEX|@|0||",
    "OPTIONS /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked||HEX|@|0||",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: 1||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: 2||xxGARBAGE|@",
    "POST /ok/1 HTTP/1.0|Content-Length: LEN|Connection: keep-alive||@",
    "POST /ok/1 HTTP/1.1|Host: a||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: LEN|Connection: close||@@",
    "GET /ok/1 HTTP/1.1|Connection: keep-alive|Host: a|Content-Length: LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Content-Length: LEN|Connection: Keep-Alive, TE|TE: trailers||@@",
    "GET /ok/1 HTTP/1.1|Connection: keep-alive|Host: a|Content-Length: LEN|Connection: te||@",
    "GET /ok/1 HTTP/1.0|Connection: keep-alive|Content-Length: LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket|Content-Length: LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: x|Content-Length: LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Proxy-Connection: keep-alive|Keep-Alive: timeout=9|Content-Length: LEN||@",
    "HEAD /ok/1 HTTP/1.1|Host: a|Connection: keep-alive|Content-Length: LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Content-Length: 1||G@",
    "GET /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked||1;a=b|x|HEX|@|0|x: y||@",
];

/// Lengths that one reader sees and another does not.
const LENGTHS: &[&str] = &[
    "POST /ok/1 HTTP/1.1| Content-Length: LEN|Host: a||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length:| LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length : LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length:\tLEN\t||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: LEN\x0b||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: \x0cLEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: 0 LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: LEN,LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: LEN;||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: LEN.0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: 1e2||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: 0_0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: \u{b2}||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length:||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: -0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: 18446744073709551616||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: 18446744073709551615||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length: LEN|Content-Length: LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length\0: LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Length:LEN:LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|\u{ff}Content-Length: LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content Length: LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|\"Content-Length\": LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|X: y\0Content-Length: LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|X: y\rContent-Length: LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|X: y\nContent-Length: LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|X|Content-Length: LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|:|Content-Length: LEN||@",
];

/// Codings that one reader takes for chunks and another for nothing.
const CODINGS: &[&str] = &[
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: Chunked||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked\t||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked, chunked||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked;q=1||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: \"chunked\"||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked,||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: ,chunked||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: identity, chunked||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked, identity||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked\0||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked\r\r\n|0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chun\u{fe}ked||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding:||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding|: chunked||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer_Encoding: chunked|Content-Length: 5||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer_Encoding: x||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|X: y| Transfer-Encoding: chunked|Content-Length: 5||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|X: y\0Transfer-Encoding: chunked|Content-Length: 5||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 0||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Content-Encoding: chunked|Content-Length: 5||0||@",
    "POST /ok/1 HTTP/1.1|Host: a|TE: chunked|Content-Length: 5||0||@",
];

/// Chunks whose sizes, extensions and ends are read in two ways.
const CHUNKS: &[&str] = &[
    "5;|hello|0||@",
    "5;x\nhello|0||@",
    "5;x=\"|\"|hello|0||@",
    "5 ;x|hello|0||@",
    "5\t|hello|0||@",
    "5;x=y\rzhello|0||@",
    "5\rXhello|0||@",
    "5\nhello|0||@",
    "5|hello\n0||@",
    "5|helloXX0||@",
    "5|hello|0;\n|@",
    " 5|hello|0||@",
    "5\x0b|hello|0||@",
    "5,5|hello|0||@",
    "5_0|hello|0||@",
    "00000000000000005|hello|0||@",
    "fffffffffffffffb|hello|0||@",
    "0x5|hello|0||@",
    "+5|hello|0||@",
    "|5|hello|0||@",
    "5||hello|0||@",
    "5|hello||0||@",
    "5|hello|0|@",
    "5|hello|0| x: y||@",
    "5|hello|0|Content-Length: LEN||@",
    "5|hello|0|Transfer-Encoding: chunked||@",
    "5|hello|0|Host: b|X-Original-URL: /no/1||@",
    "5|hello|0|x: y\n\n@",
    "5|hello|0|x\0: y||@",
    "5|hello|0|x : y||@",
    "5|hello|0|:||@",
    "5|hello|-1|@",
    "5;a=\"b\\\"|\"|hello|0||@",
    "5;a;b=c|hello|0;z||@",
];

/// Lines that end, begin or continue where only some readers see it.
const LINES: &[&str] = &[
    "GET /ok/1 HTTP/1.1\rHost: a||@",
    "GET /ok/1\r@",
    "GET /ok/1 HTTP/1.1|Host: a|X: y\r@",
    "GET /ok/1 HTTP/1.1|Host: a|X: y\n@",
    "GET /ok/1 HTTP/1.1|Host: a\n\r\n@",
    "GET /ok/1 HTTP/1.1|Host: a||\n@",
    "GET /ok/1 HTTP/1.1|Host: a||\r@",
    "GET /ok/1 HTTP/1.1|Host: a|||||@",
    "GET /ok/1 HTTP/1.1 |Host: a||@",
    "GET  /ok/1 HTTP/1.1|Host: a||@",
    "GET /ok/1 HTTP/1.2|Host: a||@",
    "GET /ok/1 HTTP/1.10|Host: a||@",
    "GET /ok/1 HTTP/01.1|Host: a||@",
    "GET /ok/1 http/1.1|Host: a||@",
    "GET /ok/1 HTTP/2.0|Host: a||@",
    "GET /ok/1 HTTP/1.1|Host: a| folded: y||@",
    "GET /ok/1 HTTP/1.1|Host: a|\tfolded||@",
    "GET /ok/1|Host: a||@",
    "GET /ok/1?x=\u{a0}HTTP/1.1|Host: a||@",
    "GET /ok/1\u{85}HTTP/1.1|Host: a||@",
    "GET /ok/1%0d%0a%0d%0a@",
    "GET /ok/1%20HTTP/1.1%0d%0aHost:%20a%0d%0a%0d%0a HTTP/1.1|Host: a||@",
    "G\0ET /ok/1 HTTP/1.1|Host: a||@",
    "GET /ok/1 HTTP/1.1|Host: a||PRI * HTTP/2.0||SM||@",
    "GET /ok/1 HTTP/1.1|Host: a||get /no/1 HTTP/1.1|Host: a||@",
    "GET /ok/1 HTTP/1.1|Host: a||X",
];

/// What is said of the connection, the host or the next step.
const FIELDS: &[&str] = &[
    "POST /ok/1 HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Expect: 100-continue||@",
    "POST /ok/1 HTTP/1.1|Host: a|Expect: y 100-continue|Content-Length: LEN||@",
    "POST /ok/1 HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: 0||@",
    "POST /ok/1 HTTP/1.1|Host: a|Expect: 100-continue|Transfer-Encoding: chunked||HEX|@|0||",
    "POST /no/1 HTTP/1.1|Host: a|Expect: 100-continue|Transfer-Encoding: chunked||0||@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: Content-Length|Content-Length: LEN||@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: Host||@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: keep-alive, close||@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: close|Connection: keep-alive||@",
    "GET /ok/1 HTTP/1.1|Host: a|Proxy-Connection: close||@",
    "GET /ok/1 HTTP/1.0|Connection: keep-alive||@",
    "GET /ok/1 HTTP/1.1|Host: a|Host: b||@",
    "GET /ok/1 HTTP/1.1|Host: a, b||@",
    "GET /ok/1 HTTP/1.1|Host:||@",
    "GET /ok/1 HTTP/1.1|Host: a:80:80||@",
    "GET /ok/1 HTTP/1.1|Host: a/no/1?||@",
    "GET /ok/1 HTTP/1.1|Host: a\\@b||@",
    "GET /ok/1 HTTP/1.1|Host : a||@",
    "GET /ok/1 HTTP/1.1|Host: a|Upgrade: h2c||@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket, h2c||@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: TLS/1.0||@",
    "GET /ws HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Version: 777||@",
    "POST /ws HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket|Content-Length: LEN||@@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: HTTP/2.0||@",
    "GET /ok/1 HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: foo, tls/1.3||@",
    "GET /ok/1 HTTP/1.1|Host: a|Proxy-Connection: Upgrade|Upgrade: foo||@",
    "CONNECT /ok/1 HTTP/1.1|Host: a||@",
    "CONNECT a:80 HTTP/1.1|Host: a:80|Content-Length: LEN||@",
    "TRACE /ok/1 HTTP/1.1|Host: a|Content-Length: LEN||@",
    "GET http://a/ok/1 HTTP/1.1|Host: b||@",
    "GET http://a@b/ok/1 HTTP/1.1|Host: b||@",
    "GET //CANARY HTTP/1.1|Host: a||",
    "GET /ok/%252e%252e/CANARY HTTP/1.1|Host: a||",
    "GET /ok/%c0%ae%c0%ae/CANARY HTTP/1.1|Host: a||",
    "GET /ok/..%5cCANARY HTTP/1.1|Host: a||",
    "GET /%6e%6f/1 HTTP/1.1|Host: a||@",
    "GET /ok/1/..;/../CANARY HTTP/1.1|Host: a||",
];

/// Every case as bytes, its canary numbered.
fn cases() -> Vec<Vec<u8>> {
    let chunked =
        CHUNKS.iter().map(|body| format!("POST /ok/1 HTTP/1.1|Host: a|Transfer-Encoding: chunked||{body}"));
    let lists = [BODIES, LENGTHS, CODINGS, LINES, FIELDS].into_iter().flatten();
    let all = lists.map(|case| (*case).to_owned()).chain(chunked);
    all.enumerate().map(|(number, case)| written_out(&case, number)).collect()
}

fn written_out(case: &str, number: usize) -> Vec<u8> {
    let path = format!("/no/desync-{number:03}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = case
        .replace("/ok/1", "/ok/0000000")
        .replace('|', "\r\n")
        .replace('@', &request)
        .replace("CANARY", &path);
    let text =
        text.replace("LEN", &request.len().to_string()).replace("HEX", &format!("{:x}", request.len()));
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a single byte")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_origin_reads_what_takes_two_readers_apart() {
    let long = std::env::var_os("BULKHEAD_LONG").is_some();
    each_origin(async |name: &str, address: SocketAddr, log: &Log<'_>| {
        let lab = Lab::inbound(Hold::Gate, address);
        let (mut wrong, mut late) = (Vec::new(), Late::default());
        for (number, case) in cases().iter().enumerate() {
            // Whole, and in some of the places; with `BULKHEAD_LONG` in all of them.
            let places = cuts(case.len(), number);
            let some = if long || number % 4 == 0 { places.as_slice() } else { &places[..1] };
            wrong.extend(send(&lab, name, case, some, log, &mut late).await);
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    })
    .await;
}

#[test]
fn there_are_many_and_each_carries_a_canary_or_nothing_readable() {
    let cases = cases();
    assert!(cases.len() >= 170, "{} cases", cases.len());
    let without = cases.iter().filter(|case| !case.windows(4).any(|bytes| bytes == b"/no/"));
    assert!(without.count() <= 1);
}

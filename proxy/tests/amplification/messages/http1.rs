//! HTTP/1.

use super::{Client, Kind, client, letters, long};
use bulkhead_facts::PathTemplate;
use bulkhead_policies::model::{HttpMatch, L7Section};

/// Lets through what asks for `/ok`.
pub(super) fn section() -> L7Section {
    let path = Some(PathTemplate::parse("/ok").expect("a path"));
    L7Section::Http(vec![HttpMatch { path, ..HttpMatch::default() }])
}

pub(super) fn kind() -> Kind {
    Kind {
        protocol: "HTTP/1",
        section: section(),
        greeting: Vec::new(),
        answer,
        ordinary: client(
            "ordinary",
            text("", &(head("/ok") + "user-agent: client/1.0\r\naccept: */*\r\n\r\n")),
        ),
        hostile: heads().into_iter().chain(bodies()).collect(),
    }
}

fn head(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n")
}

fn text(begin: &str, again: &str) -> Vec<u8> {
    long(begin.as_bytes(), |_| again.as_bytes().to_vec())
}

fn heads() -> Vec<Client> {
    let whole = |path: &str| text("", &(head(path) + "\r\n"));
    let each = |request: fn(&str) -> String| long(&[], |number| request(&letters(number)).into_bytes());
    let upgrade = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAAA\r\n\r\n";
    vec![
        client("half a head", text(&(head("/ok") + "x: "), "y")),
        client("a head of many fields", text(&head("/ok"), "a: b\r\n")),
        client("many requests", whole("/ok")),
        client("the shortest requests", text("", "GET /ok HTTP/1.1\r\nhost:a\r\n\r\n")),
        client("requests of a hundred fields", text("", &(head("/ok") + &"a:\r\n".repeat(98) + "\r\n"))),
        client("denied requests", whole("/no")),
        client("the shortest denied requests", text("", "GET / HTTP/1.1\r\nhost:a\r\n\r\n")),
        client("denied ones of other paths", each(|name| head(&format!("/{name}")) + "\r\n")),
        client("denied ones of other hosts", each(|name| format!("GET / HTTP/1.1\r\nhost:{name}\r\n\r\n"))),
        client("other hosts", each(|name| format!("GET /ok HTTP/1.1\r\nhost:{name}\r\n\r\n"))),
        client("a path of many readings", whole("/%2e%2e/./a;b//c%2fd")),
        client("a path of escapes", whole(&("/".to_owned() + &"%61".repeat(300)))),
        client("a path of many segments", whole(&"/a".repeat(500))),
        client("a path of numbers", whole(&"/1".repeat(500))),
        client("a query of many parts", whole(&("/ok?".to_owned() + &"a&".repeat(500)))),
        client("requests that ask for HTTP/2", text("", &(head("/ok") + upgrade))),
    ]
}

fn bodies() -> Vec<Client> {
    let post = |fields: &str| format!("POST /ok HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let chunked = post("transfer-encoding: chunked\r\n");
    vec![
        client("a body", text(&post("content-length: 99999999\r\n"), "x")),
        client("a body in chunks", text(&chunked, "1\r\nx\r\n")),
        client("chunks with extensions", text(&chunked, "1;a=b;c=\"d\"\r\nx\r\n")),
        client("chunks with leading zeros", text(&chunked, "00000001\r\nx\r\n")),
        client("bodies of nothing", text("", &(chunked.clone() + "0\r\n\r\n"))),
        client("bodies with trailers", text("", &(chunked + "0\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n"))),
        client("bodies of one byte", text("", &(post("content-length:1\r\n") + "x"))),
        client("bodies that wait", text("", &(post("content-length:1\r\nexpect:100-continue\r\n") + "x"))),
    ]
}

/// One answer for each head; what bodies say does not matter here.
fn answer(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    while let Some(at) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
        let head: Vec<u8> = pending.drain(..at + 4).collect();
        // The end of a body in chunks is no head.
        if head.windows(8).any(|eight| eight == b"HTTP/1.1") {
            out.extend(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    }
}

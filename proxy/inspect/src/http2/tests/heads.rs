//! Header lists: what is a request, what is none, and what is asked about the others.

use super::driver::{Driver, block, fields, request};
use crate::http2::frame::{END_HEADERS, END_STREAM, Kind};
use bulkhead_facts::Reason;

/// A plain request with some fields replaced or added, and others left out.
fn with(changes: &[(&'static str, &'static str)], without: &[&str]) -> Vec<(&'static str, &'static str)> {
    let mut list = request("GET", "/a");
    list.retain(|(name, _)| !without.contains(name));
    for (name, value) in changes {
        match list.iter().position(|(known, _)| known == name && name.starts_with(':')) {
            Some(at) => list[at] = (name, value),
            None => list.push((name, value)),
        }
    }
    list
}

fn ask(list: &[(&str, &str)]) -> (Driver, bool) {
    let mut driver = Driver::open();
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(list));
    let passed = driver.server_saw().len() == 1;
    (driver, passed)
}

/// Refused: this stream is reset with PROTOCOL_ERROR, nothing reaches the server, and the next stream works.
fn check_malformed(list: &[(&str, &str)]) {
    let (mut driver, passed) = ask(list);
    assert!(!passed && driver.asked.is_empty(), "{list:?} was read as {:?}", driver.asked);
    let saw = driver.client_saw();
    assert_eq!((saw[0].kind, saw[0].stream, saw[0].code(), saw.len()), (Kind::Reset, 1, 1, 1), "{list:?}");
    assert_eq!(driver.refused.len(), 1);
    assert_eq!(driver.refused[0].0, Reason::Malformed);
    driver.request(3, true, "/next");
    assert_eq!(driver.asked, ["GET shop.test /next"], "{list:?}");
}

#[test]
fn pseudo_header_fields_come_once_first_and_complete() {
    for name in [":method", ":scheme", ":path"] {
        check_malformed(&with(&[], &[name]));
    }
    for name in [":method", ":scheme", ":path", ":authority"] {
        let mut twice = request("GET", "/a");
        twice.push(*twice.iter().find(|(known, _)| *known == name).unwrap());
        check_malformed(&twice);
    }
    check_malformed(&with(&[(":status", "200")], &[]));
    check_malformed(&with(&[(":other", "x")], &[]));
    check_malformed(&[
        (":method", "GET"),
        (":scheme", "http"),
        ("x", "y"),
        (":authority", "a"),
        (":path", "/"),
    ]);
    check_malformed(&with(&[], &[":authority"]));
}

#[test]
fn one_host_is_named_however_often() {
    for (host, same) in
        [("shop.test", true), ("SHOP.test", true), ("other.test", false), ("shop.test:81", false)]
    {
        let list = with(&[("host", host)], &[]);
        match same {
            true => assert_eq!(ask(&list).0.asked, ["GET shop.test /a"], "{host}"),
            false => check_malformed(&list),
        }
    }
    assert_eq!(ask(&with(&[("host", "shop.test")], &[":authority"])).0.asked, ["GET shop.test /a"]);
    check_malformed(&with(&[("host", "shop.test"), ("host", "shop.test")], &[":authority"]));
    for authority in ["user@shop.test", "a,b", "shop.test/x", "", "shop test", "shop.test:0", "shop.test:x"] {
        check_malformed(&with(&[(":authority", authority)], &[]));
    }
}

/// CVE-2026-33186, CVE-2023-35944, CVE-2021-39240.
#[test]
fn method_scheme_and_path_are_exact() {
    for scheme in ["hTTp", "ftp", "", "http ", "HTTPS"] {
        check_malformed(&with(&[(":scheme", scheme)], &[]));
    }
    for path in
        ["", "admin.Admin/Delete", "*", "http://shop.test/a", "/a b", "/a#b", "/\u{e9}", "/a\tb", "/a\r\nb"]
    {
        check_malformed(&with(&[(":path", path)], &[]));
    }
    for method in ["", "get", "GET /admin HTTP/1.1\r\nx:", "PRI", "GE T", "G\u{c9}T"] {
        check_malformed(&with(&[(":method", method)], &[]));
    }
    assert_eq!(ask(&with(&[(":method", "OPTIONS"), (":path", "*")], &[])).0.asked, ["OPTIONS shop.test *"]);
    assert_eq!(ask(&with(&[(":path", "/a/%2e%2e/b")], &[])).0.asked, ["GET shop.test /a/%2e%2e/b"]);
    assert_eq!(ask(&with(&[(":path", "/a%2fb")], &[])).0.asked, ["GET shop.test ambiguous:/a%2fb"]);
}

/// CVE-2023-27493, CVE-2026-42926, and fields that other versions of HTTP would act on.
#[test]
fn fields_are_lower_case_clean_and_belong_to_no_connection() {
    for (name, value) in [
        ("X-Upper", "a"),
        ("", "a"),
        ("a b", "c"),
        ("a:b", "c"),
        ("x\r\ny", "a"),
        ("x", "a\r\nhost: other"),
        ("x", "a\0b"),
        ("x", "a\nb"),
        ("x", " a"),
        ("x", "a\t"),
        ("connection", "close"),
        ("proxy-connection", "close"),
        ("keep-alive", "1"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("http2-settings", "AAA"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("content-length", "+4"),
        ("content-length", "4, 4"),
        ("content-length", ""),
    ] {
        check_malformed(&with(&[(name, value)], &[]));
    }
    check_malformed(&with(&[("content-length", "0"), ("content-length", "0")], &[]));
    for (name, value) in [("te", "trailers"), ("x-a", ""), ("x_b", "caf\u{e9}"), ("content-length", "0")] {
        assert!(ask(&with(&[(name, value)], &[])).1, "{name}: {value}");
    }
}

#[test]
fn crumbs_of_a_cookie_are_asked_about_and_leave_as_one_field() {
    let mut driver = Driver::open();
    let list = with(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")], &[]);
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(&list));
    let sent = fields(&driver.server_saw()[0].payload);
    let cookies: Vec<_> =
        sent.iter().filter(|(name, _)| name == "cookie").map(|(_, value)| value.as_str()).collect();
    assert_eq!(cookies, ["a=1; b=2"]);
}

#[test]
fn connect_names_a_host_and_a_port_and_nothing_else() {
    let connect = |authority| [(":method", "CONNECT"), (":authority", authority)];
    assert_eq!(ask(&connect("db.test:5432")).0.asked, ["CONNECT db.test tunnel:db.test:5432"]);
    check_malformed(&connect("db.test"));
    check_malformed(&connect(""));
    check_malformed(&[
        (":method", "CONNECT"),
        (":authority", "a.test:1"),
        (":path", "/"),
        (":scheme", "http"),
    ]);
    check_malformed(&[(":method", "CONNECT")]);
}

#[test]
fn connect_with_a_protocol_needs_the_offer_of_the_server_and_is_asked_about_as_what_it_stands_for() {
    let websocket = with(&[(":method", "CONNECT"), (":protocol", "websocket")], &[]);
    check_malformed(&websocket);
    check_malformed(&with(&[(":protocol", "websocket")], &[]));
    let mut driver = Driver::open();
    driver.server(Kind::Settings, 0, 0, [0, 8, 0, 0, 0, 1]);
    driver.client(Kind::Headers, END_HEADERS, 1, block(&websocket));
    assert_eq!(driver.asked, ["GET shop.test /a"]);
    let sent = fields(&driver.server_saw()[0].payload);
    assert!(sent.contains(&(":protocol".to_owned(), "websocket".to_owned())), "{sent:?}");
    assert!(
        !sent.iter().any(|(name, _)| name == "upgrade"),
        "what is asked for the rules is not sent: {sent:?}"
    );
    let other = with(&[(":method", "CONNECT"), (":protocol", "connect-udp")], &[]);
    driver.client(Kind::Headers, END_HEADERS, 3, block(&other));
    assert_eq!(driver.asked[1], "CONNECT shop.test tunnel:shop.test");
}

/// The core library of gRPC (C++, Python, Ruby, PHP) writes binary metadata so to servers of its own kind.
#[test]
fn binary_metadata_needs_the_offer_of_the_server_and_leaves_as_it_is() {
    let call = |name, value| with(&[(":method", "POST"), (name, value)], &[]);
    let binary = call("trace-bin", "\0\r\nx: y \u{80}\0");
    check_malformed(&binary);
    for setting in [[0xfe, 3, 0, 0, 0, 0], [0xfe, 3, 0, 0, 0, 2], [0, 8, 0, 0, 0, 1]] {
        let mut driver = Driver::open();
        driver.server(Kind::Settings, 0, 0, setting);
        driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(&binary));
        assert!(driver.asked.is_empty(), "{setting:?}");
    }
    let offered = |list: &[(&str, &str)]| {
        let mut driver = Driver::open();
        driver.server(Kind::Settings, 0, 0, [0xfe, 3, 0, 0, 0, 1]);
        driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(list));
        driver
    };
    let mut driver = offered(&binary);
    assert_eq!(driver.asked, ["POST shop.test /a"]);
    let sent = fields(&driver.server_saw()[0].payload);
    assert!(sent.contains(&("trace-bin".into(), "\0\r\nx: y \u{80}\0".into())), "{sent:?}");
    for other in [("trace", "\0x"), ("trace-bin", "x\0"), ("trace-bin", " x"), ("-bin-x", "\0")] {
        assert!(offered(&call(other.0, other.1)).asked.is_empty(), "{other:?}");
    }
}

/// HAProxy d12edebe4 and 7e09e2a91: a length that is not kept makes another request behind a server that speaks HTTP/1.
#[test]
fn a_body_has_the_length_that_was_told() {
    let sized = with(&[(":method", "POST"), ("content-length", "5")], &[]);
    check_malformed(&sized);
    for (pieces, ok) in [
        (&[&b"12345"[..]][..], true),
        (&[b"12", b"345"], true),
        (&[b"12", b"", b"345"], true),
        (&[b"1234"], false),
        (&[b"123456"], false),
        (&[b"123", b"456"], false),
        (&[b""], false),
    ] {
        let mut driver = Driver::open();
        driver.client(Kind::Headers, END_HEADERS, 1, block(&sized));
        driver.server_saw();
        for (at, piece) in pieces.iter().enumerate() {
            let end = if at + 1 == pieces.len() { END_STREAM } else { 0 };
            driver.client(Kind::Data, end, 1, piece);
        }
        let saw = driver.server_saw();
        let ended = saw.iter().any(|frame| frame.kind == Kind::Data && frame.flags & END_STREAM != 0);
        let reset = saw.iter().any(|frame| frame.kind == Kind::Reset);
        assert_eq!((ended, reset), (ok, !ok), "{pieces:?}");
    }
    // Trailers end a body too.
    for (body, ok) in [(&b"12345"[..], true), (b"123", false)] {
        let mut driver = Driver::open();
        driver.client(Kind::Headers, END_HEADERS, 1, block(&sized));
        driver.client(Kind::Data, 0, 1, body);
        driver.server_saw();
        driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(&[("x", "y")]));
        let reset = driver.server_saw().iter().any(|frame| frame.kind == Kind::Reset);
        assert_eq!(reset, !ok, "{body:?}");
    }
}

#[test]
fn trailers_pass_without_pseudo_header_fields() {
    for (trailer, ok) in
        [(("grpc-status", "0"), true), ((":path", "/x"), false), (("connection", "x"), false)]
    {
        let mut driver = Driver::open();
        driver.client(Kind::Headers, END_HEADERS, 1, block(&request("POST", "/a")));
        driver.server_saw();
        driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(&[trailer]));
        let kinds: Vec<_> = driver.server_saw().iter().map(|frame| frame.kind).collect();
        match ok {
            true => assert_eq!(kinds, [Kind::Headers], "{trailer:?}"),
            false => assert_eq!(kinds, [Kind::Reset, Kind::Ping], "{trailer:?}"),
        }
        assert_eq!(driver.asked.len(), 1);
    }
}

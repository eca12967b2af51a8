//! Published bypasses that concern an inspector of HTTP/1, each a test named by its identifier.
//!
//! The rule set is always the same: everything passes but what lies below `/no`. What a case shows is that the
//! denied path is not reached by the trick that the advisory tells of.

mod support;

use bulkhead_facts::Reason;
use bulkhead_inspect::{Conversation, Step};
use support::{End, OK, PLAIN, World, head, not_below_no, run_all_splits};

/// What must become of the bytes.
enum Expect {
    /// 400 before any rule, nothing released.
    Refused,
    /// Asked about, and denied: nothing released.
    Denied,
    /// So many requests are asked about, and so many bytes released.
    Framed(usize, usize),
    /// The framing broke: both sides closed, and this is all that was released.
    Broken(&'static str),
}

fn check(input: &str, expected: &Expect) {
    let outcome = run_all_splits(&PLAIN, input.as_bytes());
    match expected {
        Expect::Refused => {
            assert_eq!(outcome.end, End::Refused(Reason::Malformed, Some(400)), "{input:?}: {outcome:?}");
            assert_eq!((outcome.asked.len(), outcome.released.len()), (0, 0), "{input:?}");
        }
        Expect::Denied => {
            assert_eq!((outcome.asked.len(), outcome.released.len()), (1, 0), "{input:?}: {outcome:?}");
            assert_eq!(outcome.replies, ["HTTP/1.1 403 Forbidden"], "{input:?}");
        }
        Expect::Framed(requests, bytes) => {
            assert_eq!(
                (outcome.asked.len(), outcome.released.len()),
                (*requests, *bytes),
                "{input:?}: {outcome:?}"
            );
        }
        Expect::Broken(released) => {
            assert_eq!(outcome.end, End::Refused(Reason::Malformed, None), "{input:?}: {outcome:?}");
            assert!(outcome.released.ends_with(released.as_bytes()), "{input:?}: {outcome:?}");
            assert_eq!(outcome.asked.len(), 1, "{input:?}");
        }
    }
}

/// A request for each target.
fn targets(targets: &[&str], expected: &Expect) {
    for target in targets {
        check(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), expected);
    }
}

/// A request with each of these lines in its head.
fn lines(lines: &[&str], expected: &Expect) {
    for line in lines {
        check(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"), expected);
    }
}

/// A chunked request with each of these bodies, and a request for the denied path behind it.
fn chunked(bodies: &[(&str, &'static str)]) {
    for (body, released) in bodies {
        let head = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("{head}{body}GET /no HTTP/1.1\r\nHost: a\r\n\r\n"), &Expect::Broken(released));
    }
}

macro_rules! advisories {
    ($($name:ident => $check:expr;)*) => { $(#[test] fn $name() { $check; })* };
}

// Paths.
advisories! {
    cve_2019_9901 => targets(&["/public/../no", "/a/b/../../no"], &Expect::Denied);
    cve_2021_29492_cve_2021_31920 => targets(&["//no", "/%2Fno", "/x%5C..%5Cno"], &Expect::Denied);
    cve_2021_32779_cve_2021_39156 => targets(&["/a#section1", "/no#a"], &Expect::Refused);
    cve_2020_8595 => targets(&["/no?x", "/no?"], &Expect::Denied);
    cve_2023_45539 => targets(&["/no.html#.png"], &Expect::Refused);
    cve_2026_26205 => targets(&["//no/people"], &Expect::Denied);
    cve_2026_33186 => targets(&["no/Delete", "admin.Admin/Delete"], &Expect::Framed(0, 0));
    cve_2024_10005 => targets(&["/./no", "/no%2f", "//no"], &Expect::Denied);
    cve_2025_32431_cve_2025_47952_cve_2025_66490 => targets(&["/a/..%2fno", "/a/%2e%2e/no"], &Expect::Denied);
    cve_2023_47106 => targets(&["/x#/../no"], &Expect::Refused);
    cve_2026_40912 => targets(&["/pfx/..%2fno"], &Expect::Denied);
    cve_2026_27587 => targets(&["/%6eo", "/%6Eo/x", "/NO%2fx"], &Expect::Denied);
    cve_2026_27590_cve_2026_45135 => targets(&["/x.PHP\u{130}", "/x\u{212a}"], &Expect::Refused);
    cve_2013_4547 => targets(&["/foo /../no/file", "/foo \0.php"], &Expect::Refused);
    cve_2021_43557 => targets(&["/./no", "/%6e%6f"], &Expect::Denied);
    calico_233fbb38c2 => targets(&["/a/..;x/no", "/a/%252e%252e/no", "/a%00/no", "/a\\..\\no"], &Expect::Denied);
    go_2026_6218 => targets(&[&format!("/{}no", "a/../".repeat(1_500))], &Expect::Denied);
}

// Fields.
advisories! {
    cve_2026_26308_cve_2020_25017_cve_2021_32777 => every_value_is_shown("x-role: user\r\nX-Role: admin", &["user", "admin"]);
    cve_2019_18802 => every_value_is_shown("x-role: admin \t", &["admin"]);
    cve_2019_9900 => lines(&["x-role: admin\0", "x-role: ad\0min"], &Expect::Refused);
    cve_2023_27488 => every_value_is_shown("x-role: \u{e9}", &["\u{e9}"]);
    cve_2024_45410_cve_2026_29054 => lines(&["Connection: close, x-fw-identity", "connection: X-Forwarded-For"], &Expect::Refused);
    cve_2023_25725 => lines(&[": x\r\nTransfer-Encoding: chunked", ":"], &Expect::Refused);
    cve_2021_39155_cve_2026_27588 => host_is("Secret.COM", "secret.com");
    istio_security_2021_008 => host_is("httpbin.foo:8000", "httpbin.foo");
    cve_2022_23632 => host_is("example.com.", "example.com");
    cve_2025_22870_cve_2024_45341 => hosts_are_refused(&["[fe80::1%25.example.com]", "[::1%25.example.com]:80"]);
    cve_2025_47912_cve_2026_25679 => hosts_are_refused(&["[evil.com]", "[::1]x", "[[::1]]", "[::1"]);
    cve_2022_24825_cve_2022_29188 => {
        check("CONNECT evil.com.:443 HTTP/1.1\r\nHost: evil.com.:443\r\n\r\n", &Expect::Denied);
        check("CONNECT [[evil.com]]:443 HTTP/1.1\r\nHost: [[evil.com]]:443\r\n\r\n", &Expect::Refused);
    };
    cve_2024_24790 => host_is("[::ffff:10.0.0.5]", "10.0.0.5");
}

// Framing.
advisories! {
    cve_2021_40346 => {
        let name = format!("Content-Length0{}", "a".repeat(260));
        let request = format!("POST /a HTTP/1.1\r\nHost: a\r\n{name}:\r\nContent-Length: 27\r\n\r\nGET /no HTTP/1.1\r\nH: a\r\n\r\n");
        check(&request, &Expect::Framed(1, request.len()));
    };
    cve_2023_40225 => lines(&["Content-Length:\r\nContent-Length: 5", "Content-Length:"], &Expect::Refused);
    cve_2022_1705_cve_2019_16276 => lines(&["Transfer-Encoding: \x0bchunked", "Transfer-Encoding : chunked"], &Expect::Refused);
    cve_2025_22871 => chunked(&[("5\n12345\n0\n\n", "\r\n\r\n5")]);
    cve_2023_39326 => chunk_extensions_end();
    rustsec_2021_0078 => lines(&["Content-Length: +5"], &Expect::Refused);
    rustsec_2021_0020 => lines(&["Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"], &Expect::Refused);
    rustsec_2021_0079 => chunked(&[("FFFFFFFFFFFFFFFF1\r\n", "FFFFFFFFFFFFFFF")]);
    rustsec_2020_0008 => {
        let request = "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 44\r\n\r\nGET /no HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaa\r\n\r\n";
        // The server is told besides that the connection ends.
        check(request, &Expect::Framed(1, request.len() + "connection: close\r\n".len()));
    };
    rustsec_2026_0033 => {
        let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        check(&format!("{head}GET /no HTTP/1.1\r\nHost: a\r\n\r\n"), &Expect::Framed(2, head.len()));
    };
    rustsec_2026_0034 => {
        check("POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", &Expect::Refused);
        let head = "POST /a HTTP/1.0\r\nHost: a\r\n\r\n";
        check(&format!("{head}GET /no HTTP/1.0\r\n\r\n"), &Expect::Framed(1, head.len()));
    };
    cve_2024_23326_cve_2018_1002105 => upgrade_answered_otherwise();
    cve_2019_20372 => {
        let request = "GET /no HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n";
        check(request, &Expect::Denied);
    };
    cve_2022_41721_h2csmuggler => {
        let offer = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
        check(offer, &Expect::Framed(1, "GET /a HTTP/1.1\r\nHost: a\r\n\r\n".len()));
    };
    cve_2025_64763 => {
        let head = "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n";
        let slow = World { allow: |_| true, answer: |_| "HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n" };
        let outcome = run_all_splits(&slow, format!("{head}early bytes").as_bytes());
        assert_eq!(outcome.released, head.as_bytes(), "{outcome:?}");
    };
    http_garden_bare_cr_and_folding => lines(
        &["a: b\rc: d", "a: b\r\n c", "a\r: b", "a: b\r\r", "a : b", "a\t: b", " a: b"],
        &Expect::Refused,
    );
    http_garden_chunk_prefixes => chunked(&[
        ("0x5\r\nhello\r\n0\r\n\r\n", "\r\n\r\n0"),
        ("+5\r\nhello\r\n0\r\n\r\n", "\r\n\r\n"),
        (" 5\r\nhello\r\n0\r\n\r\n", "\r\n\r\n"),
        ("5 \r\nhello\r\n0\r\n\r\n", "\r\n\r\n5"),
        ("5_0\r\nhello\r\n0\r\n\r\n", "\r\n\r\n5"),
        ("\r\n5\r\nhello\r\n0\r\n\r\n", "\r\n\r\n"),
        ("5\r\nhello0\r\n\r\n", "hello"),
        ("5\rhello\r\n0\r\n\r\n", "\r\n\r\n5\r"),
    ]);
}

fn every_value_is_shown(line: &str, values: &[&str]) {
    let text = format!("GET /a HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
    let mut conversation = Conversation::default();
    let Step::Ask(question) = conversation.client(text.as_bytes()) else { panic!("a question") };
    let fields =
        head(&question).fields.as_slice().iter().filter(|field| field.name.eq_ignore_ascii_case(b"x-role"));
    assert!(fields.map(|field| field.value).eq(values.iter().map(|value| value.as_bytes())), "{question:?}");
}

fn host_is(field: &str, expected: &str) {
    let text = format!("GET /a HTTP/1.1\r\nHost: {field}\r\n\r\n");
    let mut conversation = Conversation::default();
    let Step::Ask(question) = conversation.client(text.as_bytes()) else { panic!("a question") };
    assert_eq!(head(&question).host.as_ref().expect("a host").as_str(), expected);
}

fn hosts_are_refused(hosts: &[&str]) {
    for host in hosts {
        check(&format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n"), &Expect::Refused);
    }
}

fn chunk_extensions_end() {
    let head = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = format!("1;{}\r\na\r\n", "x".repeat(250)).repeat(100);
    let outcome = run_all_splits(&PLAIN, format!("{head}{body}").as_bytes());
    assert_eq!(outcome.end, End::Refused(Reason::Limit, None));
    assert!(outcome.released.len() < 6_000, "{} bytes of overhead", outcome.released.len());
}

fn upgrade_answered_otherwise() {
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for answer in [|_: &str| OK, |_: &str| "HTTP/1.1 426 No\r\ncontent-length: 0\r\n\r\n"] {
        let world = World { allow: not_below_no, answer };
        let outcome = run_all_splits(&world, format!("{head}GET /no HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!((outcome.asked.len(), outcome.released.as_slice()), (2, head.as_bytes()));
    }
}

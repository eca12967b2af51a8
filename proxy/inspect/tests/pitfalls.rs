//! The known pitfalls of reading HTTP/1 in line, each held at every split point of its bytes.

mod support;

use bulkhead_facts::{HeaderField, Reason};
use bulkhead_inspect::{Conversation, Protocol, Step, Target};
use support::{End, NOTICE, OK, Outcome, PLAIN, World, head, not_below_no, run, run_all_splits};

const MALFORMED: End = End::Refused(Reason::Malformed, Some(400));
const BROKEN: End = End::Refused(Reason::Malformed, None);

/// Refused with 400, before any rule, and nothing has left.
fn check_refused(input: &str) {
    let outcome = run_all_splits(&PLAIN, input.as_bytes());
    assert_eq!(outcome.end, MALFORMED, "{input:?}");
    assert_eq!((outcome.asked.len(), outcome.released.len()), (0, 0), "{input:?}");
    assert_eq!(outcome.replies, ["HTTP/1.1 400 Bad Request"], "{input:?}");
}

/// A head with this line in it is refused.
fn check_line_refused(line: &str) {
    check_refused(&format!("POST /a HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n"));
}

/// Everything leaves unchanged, after these questions.
fn check_passes(input: &str, asked: &[&str]) {
    let outcome = run_all_splits(&PLAIN, input.as_bytes());
    assert_eq!(outcome.asked, asked, "{input:?}");
    assert_eq!(outcome.released, input.as_bytes(), "{input:?}");
    assert_eq!((outcome.end, outcome.replies.len()), (End::Open, 0), "{input:?}");
}

/// Asked about as ambiguous, denied, and the connection goes on.
fn check_ambiguous(target: &str) {
    let outcome = run_all_splits(&PLAIN, format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    assert_eq!(outcome.asked, [format!("GET ambiguous:{target}")]);
    assert_eq!((outcome.released.len(), outcome.end), (0, End::Open), "{target}");
}

#[test]
fn two_framings_or_a_doubtful_length_are_refused() {
    for line in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: 4\r\ncontent-length: 5",
        "Content-Length: +4",
        "Content-Length: -0",
        "Content-Length: 4, 4",
        "Content-Length:",
        "Content-Length: 0x4",
        "Content-Length: 4 4",
        "Content-Length: 1234567890123456789",
    ] {
        check_line_refused(line);
    }
}

#[test]
fn a_transfer_encoding_other_than_chunked_alone_is_refused() {
    for line in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
    ] {
        check_line_refused(line);
    }
    check_refused("POST /a HTTP/1.0\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
}

#[test]
fn bare_line_ends_nul_and_folding_are_refused() {
    check_refused("GET /a HTTP/1.1\nhost: a\n\n");
    check_refused("GET /a HTTP/1.1\r\nhost: a\nx: y\r\n\r\n");
    check_refused("GET /a HTTP/1.1\r\nhost: a\r\n\n");
    check_refused("GET /a HTTP/1.1\r\nhost: a\n\r\n");
    for line in [
        "a: b\rc: d",
        "a: b\0c",
        "a: b\r\n folded",
        "a: b\r\n\tfolded",
        "a : b",
        ": b",
        "a",
        "a: \x7f",
        "a\0: b",
        "\u{e9}: b",
    ] {
        check_line_refused(line);
    }
    check_refused("GET /a HTTP/1.1\r\n folded: x\r\nhost: a\r\n\r\n");
    check_refused("\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n");
    check_refused("\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn a_request_line_has_one_form() {
    for line in [
        "GET  /a HTTP/1.1",
        "GET /a  HTTP/1.1",
        "GET\t/a HTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET /a\tHTTP/1.1",
        "GET /a",
        "GET /a HTTP/0.9",
        "GET /a HTTP/1.2",
        "GET /a HTTP/2.0",
        "GET /a http/1.1",
        "GET /a HTTP/1.01",
        "GET /a HTTP/11",
        "get /a HTTP/1.1",
        "Get /a HTTP/1.1",
        "G3T /a HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /a\0 HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "PRI * HTTP/2.0",
    ] {
        let outcome = run_all_splits(&PLAIN, format!("{line}\r\nhost: a\r\n\r\n").as_bytes());
        // `GET a` could be a command of another protocol; it must not pass as HTTP either way.
        assert!(outcome.end == MALFORMED || outcome.end == End::Opaque, "`{line}`: {outcome:?}");
        assert!(outcome.asked.is_empty() && outcome.released.is_empty(), "`{line}`: {outcome:?}");
    }
    check_passes("PROPFIND /a HTTP/1.1\r\nhost: a\r\n\r\n", &["PROPFIND /a"]);
    check_passes(
        "M-SEARCH /a?b=%zz[]|^ HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        &["M-SEARCH /a?b=%zz[]|^"],
    );
}

#[test]
fn chunked_bodies_are_framed_and_what_breaks_the_framing_ends_the_connection() {
    let head = "POST /a HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let next = "GET /b HTTP/1.1\r\nhost: a\r\n\r\n";
    check_passes(&format!("{head}4;x=y\r\nabcd\r\n0\r\nt: v\r\n\r\n{next}"), &["POST /a", "GET /b"]);
    for (body, left) in [
        ("0x4\r\nabcd\r\n0\r\n\r\n", "0"),
        ("fffffffffffffffff\r\n", "fffffffffffffff"),
        ("4\nabcd\n0\n\n", "4"),
        ("4;x\nabcd\r\n0\r\n\r\n", "4;x"),
        ("4\r\nabcdX", "4\r\nabcd"),
        ("4\r\nabcd0\r\n\r\n", "4\r\nabcd"),
        ("4;\x01\r\n", "4;"),
        ("0\r\n\x01", "0\r\n"),
        ("0\r\nt v\r\n\r\n", "0\r\nt"),
    ] {
        let outcome = run_all_splits(&PLAIN, format!("{head}{body}{next}").as_bytes());
        assert_eq!((outcome.end, outcome.asked.len()), (BROKEN, 1), "{body:?}");
        assert_eq!(outcome.released, format!("{head}{left}").as_bytes(), "{body:?}");
    }
}

#[test]
fn trailers_are_forwarded_and_never_become_part_of_a_head() {
    let outcome = run_all_splits(
        &World {
            allow: |question| {
                head(question)
                    .fields
                    .as_slice()
                    .iter()
                    .all(|field| !field.name.eq_ignore_ascii_case(b"x-role"))
            },
            answer: |_| OK,
        },
        b"POST /a HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx-role: admin\r\n\r\n",
    );
    assert_eq!((outcome.end, outcome.replies.len()), (End::Open, 0));
}

#[test]
fn a_request_has_exactly_one_host_that_is_one() {
    for head in [
        "",
        "host: a\r\nhost: b\r\n",
        "host: a\r\nHost: a\r\n",
        "host:\r\n",
        "host: a,b\r\n",
        "host: a@b\r\n",
        "host: a/b\r\n",
        "host: a b\r\n",
        "host: a:b\r\n",
        "host: a:80:80\r\n",
        "host: a..b\r\n",
        "host: 127.1\r\n",
        "host: 0x7f000001\r\n",
        "host: [fe80::1%25eth0]\r\n",
        "host: [evil.example]\r\n",
        "host: [::1]x\r\n",
        "host: a:0\r\n",
    ] {
        check_refused(&format!("GET /a HTTP/1.1\r\n{head}\r\n"));
    }
    check_passes("GET /a HTTP/1.0\r\n\r\n", &["GET /a"]);
}

#[test]
fn a_host_is_compared_in_one_form() {
    for host in ["Orders.Shop", "orders.shop:8080", "orders.shop.", "ORDERS.SHOP.:80"] {
        let bytes = format!("GET /a HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let mut conversation = Conversation::default();
        let Step::Ask(question) = conversation.client(bytes.as_bytes()) else { panic!("a question") };
        assert_eq!(head(&question).host.as_ref().map(|name| name.as_str()), Some("orders.shop"), "`{host}`");
    }
}

#[test]
fn an_absolute_target_passes_only_if_it_names_the_host() {
    check_passes("GET http://a/b?c HTTP/1.1\r\nhost: A\r\n\r\n", &["GET /b?c"]);
    check_passes("GET http://a:8080/b HTTP/1.1\r\nhost: a:8080\r\n\r\n", &["GET /b"]);
    for target in
        ["http://b/a", "http://a:81/a", "http://u@a/a", "https://a/a", "HTTP://a/a", "http:///a", "ftp://a/a"]
    {
        check_refused(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
    check_refused("GET http://a/b HTTP/1.0\r\n\r\n");
}

#[test]
fn connection_names_no_field_that_rules_rely_on() {
    for option in ["x-team", "close, x-team", "authorization", "Host", "transfer-encoding", "x\0"] {
        check_line_refused(&format!("connection: {option}"));
    }
    check_passes(
        "GET /a HTTP/1.1\r\nhost: a\r\nconnection: Keep-Alive, TE\r\nte: trailers\r\n\r\n",
        &["GET /a"],
    );
}

#[test]
fn every_instance_of_a_field_is_shown_to_the_rules() {
    let bytes = b"GET /a HTTP/1.1\r\nhost: a\r\nX-Role: user \t\r\nx_role: z\r\nx-role:admin\r\nx-odd: \xe9\t!\r\n\r\n";
    let mut conversation = Conversation::default();
    let Step::Ask(question) = conversation.client(bytes) else { panic!("a question") };
    let field = |name: &'static [u8], value: &'static [u8]| HeaderField { name, value };
    let expected = [
        field(b"host", b"a"),
        field(b"X-Role", b"user"),
        field(b"x_role", b"z"),
        field(b"x-role", b"admin"),
        field(b"x-odd", b"\xe9\t!"),
    ];
    // As sent, `x_role` too: what a name is to servers that fold `_` and `-` is for the rules to say.
    assert_eq!(head(&question).fields.as_slice(), expected);
}

#[test]
fn a_path_of_two_readings_is_asked_about_as_such() {
    for target in [
        "/a/%2e%2e%2fno",
        "/a%2fb",
        "/a%5cb",
        "/a%00",
        "/a;b",
        "/a/..;/no",
        "/a\\b",
        "/%252e",
        "/%zz",
        "/%",
        "/%c0%ae",
        "/a%3fb",
        "/a%23b",
        "/../no",
        "/a/../../no",
        "/\"",
        "/<x>",
        "/a|b",
        "/a^b",
        "/{a}",
    ] {
        check_ambiguous(target);
    }
}

#[test]
fn a_path_with_a_normal_form_is_shown_in_both() {
    for (raw, normal) in
        [("/a/../no", "/no"), ("//no", "/no"), ("/./no", "/no"), ("/%6eo", "/no"), ("/a/%2e%2e/no/.", "/no/")]
    {
        let bytes = format!("GET {raw}?q HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut conversation = Conversation::default();
        let Step::Ask(question) = conversation.client(bytes.as_bytes()) else { panic!("a question") };
        let Target::Path(path, query) = &head(&question).target else { panic!("a path") };
        assert_eq!((path.raw(), path.normal(), *query), (raw, normal, Some("q")));
        let outcome = run_all_splits(&PLAIN, bytes.as_bytes());
        assert_eq!((outcome.released.len(), outcome.replies.len()), (0, 1), "{raw}");
    }
}

#[test]
fn an_asterisk_belongs_to_options_and_matches_no_path() {
    let outcome = run_all_splits(&PLAIN, b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((outcome.asked, outcome.released.len()), (vec!["OPTIONS *".to_owned()], 0));
}

#[test]
fn a_denial_in_a_pipeline_comes_in_its_turn_and_the_next_request_is_judged() {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let input = [get("/a"), get("/no"), get("/b"), get("/no"), get("/c")].concat();
    let outcome = run_all_splits(&PLAIN, input.as_bytes());
    assert_eq!(outcome.asked.len(), 5);
    assert_eq!(outcome.released, [get("/a"), get("/b"), get("/c")].concat().as_bytes());
    assert_eq!(outcome.replies, ["HTTP/1.1 403 Forbidden"; 2]);
    assert_eq!(outcome.end, End::Open);
}

#[test]
fn a_reply_waits_for_earlier_answers() {
    let mut conversation = Conversation::default();
    let first = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    assert!(matches!(conversation.client(first), Step::Ask(_)));
    conversation.allow();
    assert!(matches!(conversation.client(first), Step::Forward(count) if count == first.len()));
    let second = b"GET /no HTTP/1.1\r\nhost: a\r\n\r\n";
    assert!(matches!(conversation.client(second), Step::Ask(_)));
    assert!(conversation.deny(&NOTICE));
    assert!(matches!(conversation.client(second), Step::Discard(count) if count == second.len()));
    assert_eq!(conversation.reply(), None);
    let answer = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert!(matches!(conversation.server(answer), Step::Forward(_)));
    assert_eq!(conversation.reply(), None, "an interim response is no answer");
    assert!(matches!(conversation.server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"), Step::Forward(_)));
    assert_eq!(conversation.reply(), None, "the body is not through");
    assert!(matches!(conversation.server(b"ok"), Step::Forward(2)));
    assert!(conversation.reply().is_some());
    assert!(conversation.replied(), "the connection goes on");
}

#[test]
fn a_denied_request_with_a_body_ends_the_connection_and_its_body_is_no_request() {
    let smuggled = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    for framing in [format!("content-length: {}", smuggled.len()), "transfer-encoding: chunked".to_owned()] {
        let outcome = run_all_splits(
            &PLAIN,
            format!("POST /no HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{smuggled}").as_bytes(),
        );
        assert_eq!(outcome.asked, ["POST /no"], "{framing}");
        assert_eq!((outcome.released.len(), outcome.end), (0, End::Closed), "{framing}");
    }
}

#[test]
fn a_denied_request_that_expects_100_ends_the_connection() {
    let input =
        "POST /no HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    let outcome = run_all_splits(&PLAIN, input.as_bytes());
    assert_eq!((outcome.asked.len(), outcome.end), (1, End::Closed));
}

#[test]
fn the_next_request_is_not_read_before_the_body_is_complete() {
    let mut conversation = Conversation::default();
    let head = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\n\r\n";
    assert!(matches!(conversation.client(head), Step::Ask(_)));
    conversation.allow();
    assert!(matches!(conversation.client(head), Step::Forward(_)));
    assert!(matches!(
        conversation.server(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n"),
        Step::Forward(_)
    ));
    let body = b"GET /no HTTP/1.1\r\nhost: a\r\n\r\n";
    assert!(matches!(conversation.client(body), Step::Forward(count) if count == body.len()), "still body");
    assert!(matches!(conversation.client(b"xx"), Step::Forward(1)), "its last byte");
    assert!(matches!(conversation.client(b"x"), Step::Refuse(_)), "the next request");
}

#[test]
fn a_response_that_nobody_waits_for_is_refused() {
    let mut conversation = Conversation::default();
    let head = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    assert!(matches!(conversation.client(head), Step::Ask(_)));
    assert!(matches!(conversation.server(OK.as_bytes()), Step::Refuse(_)), "before the verdict");
    let outcome = run(
        &World { allow: not_below_no, answer: |_| "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" },
        head,
        head.len(),
    );
    assert_eq!(outcome.end, BROKEN);
}

#[test]
fn responses_without_a_body_are_told_by_request_and_status() {
    let get = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    for (request, answer) in [
        ("HEAD /a HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        ("HEAD /a HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (get, "HTTP/1.1 204 No Content\r\n\r\n"),
        (get, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
        (
            get,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ),
        (get, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ] {
        let outcome = answered(request, answer);
        assert_eq!(outcome, None, "{answer:?}");
    }
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "garbage\r\n\r\n",
    ] {
        assert!(answered(get, answer).is_some(), "{answer:?}");
    }
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(40);
    assert!(answered(get, &endless).is_some(), "interim responses without end");
}

/// Why the answer to a request is refused, if it is; it must then be complete, at every split.
fn answered(request: &str, answer: &str) -> Option<&'static str> {
    let mut first = None;
    for piece in 1..=answer.len() {
        let mut conversation = Conversation::default();
        assert!(matches!(conversation.client(request.as_bytes()), Step::Ask(_)));
        conversation.allow();
        assert!(matches!(conversation.client(request.as_bytes()), Step::Forward(_)));
        let (mut pending, mut refused) = (Vec::new(), None);
        'parts: for part in answer.as_bytes().chunks(piece) {
            pending.extend_from_slice(part);
            loop {
                match conversation.server(&pending) {
                    Step::NeedMore => break,
                    Step::Forward(count) => drop(pending.drain(..count)),
                    Step::Refuse(refusal) => {
                        refused = Some(refusal.detail);
                        break 'parts;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let open = conversation.outstanding();
        assert!(
            refused.is_some() || (open == 0 && pending.is_empty()),
            "{answer:?} by {piece} is not complete"
        );
        let first = first.get_or_insert(refused);
        assert_eq!(*first, refused, "{answer:?} by {piece}");
    }
    first.flatten()
}

const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nhost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_tunnel_opens_only_after_a_101_that_was_asked_for() {
    let agrees =
        World { allow: not_below_no, answer: |_| "HTTP/1.1 101 Agreed\r\nupgrade: websocket\r\n\r\n" };
    let outcome = run_all_splits(&agrees, format!("{UPGRADE}FRAME").as_bytes());
    assert_eq!(
        (outcome.end, outcome.released.as_slice()),
        (End::Opaque, UPGRADE.as_bytes()),
        "frames wait for the 101"
    );
    for head in [
        "GET /a HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nConnection: upgrade\r\n\r\n",
        "GET /a HTTP/1.0\r\nhost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        assert_eq!(run_all_splits(&agrees, head.as_bytes()).end, BROKEN, "{head:?}");
    }
}

#[test]
fn a_101_that_agrees_to_nothing_that_was_asked_opens_no_tunnel() {
    for answer in [
        |_: &str| "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        |_: &str| "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    ] {
        let world = World { allow: not_below_no, answer };
        let hidden = format!("{UPGRADE}GET /no HTTP/1.1\r\nhost: a\r\n\r\n");
        let outcome = run_all_splits(&world, hidden.as_bytes());
        assert_eq!((outcome.end, outcome.released.as_slice()), (BROKEN, UPGRADE.as_bytes()));
    }
}

#[test]
fn what_follows_a_declined_upgrade_is_judged() {
    let outcome = run_all_splits(&PLAIN, format!("{UPGRADE}GET /no HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    assert_eq!(outcome.asked, ["GET /ws", "GET /no"]);
    assert_eq!(outcome.released, UPGRADE.as_bytes());
    assert_eq!(outcome.replies.len(), 1);
}

#[test]
fn an_upgrade_with_a_body_waits_for_both() {
    let agrees = World { allow: not_below_no, answer: |_| "HTTP/1.1 101 Agreed\r\nupgrade: x\r\n\r\n" };
    let head =
        "POST /a HTTP/1.1\r\nhost: a\r\nConnection: upgrade\r\nUpgrade: x\r\ncontent-length: 4\r\n\r\nbody";
    let outcome = run_all_splits(&agrees, format!("{head}frame").as_bytes());
    assert_eq!((outcome.end, outcome.released.as_slice()), (End::Opaque, head.as_bytes()));
}

#[test]
fn an_offer_of_clear_text_http2_is_cut_out_and_nothing_else() {
    let cut = |head: &str| {
        let outcome = run_all_splits(&PLAIN, head.as_bytes());
        assert_eq!((outcome.asked.len(), outcome.end), (1, End::Open), "{head:?}");
        String::from_utf8(outcome.released).unwrap()
    };
    let plain = "GET /a HTTP/1.1\r\nHost: a\r\nAccept: x\r\n\r\n";
    let offers = [
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nAccept: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        "GET /a HTTP/1.1\r\nUpgrade: H2C\r\nHTTP2-Settings: AA\r\nConnection: HTTP2-Settings,upgrade\r\nHost: a\r\nAccept: x\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nAccept: x\r\nUpgrade: h2c\r\n\r\n",
    ];
    for offer in offers {
        assert_eq!(cut(offer), plain, "{offer:?}");
        let mut conversation = Conversation::default();
        let Step::Ask(question) = conversation.client(offer.as_bytes()) else { panic!("a question") };
        assert_eq!(head(&question).fields.as_slice().len(), 2, "rules see what leaves");
    }
    for line in [
        "Connection: Upgrade, close\r\nUpgrade: h2c",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c",
        "Connection: Upgrade\r\nUpgrade: h2",
        "Connection: Upgrade\r\nConnection: HTTP2-Settings\r\nUpgrade: h2c",
        "Upgrade: h2c\r\nUpgrade: h2c",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2",
        "Connection: Upgrade\r\nUpgrade: websocket, tls/1.0",
        "Upgrade: HTTP/2.0",
    ] {
        check_line_refused(line);
    }
    let agrees = World { allow: not_below_no, answer: |_| "HTTP/1.1 101 Agreed\r\nupgrade: h2c\r\n\r\n" };
    assert_eq!(run(&agrees, offers[0].as_bytes(), 1000).end, BROKEN, "a 101 all the same");
}

#[test]
fn connect_names_its_host_and_is_no_path() {
    let tunnel = World { allow: |_| true, answer: |_| "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" };
    let input = "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\nbytes";
    let outcome = run_all_splits(&tunnel, input.as_bytes());
    assert_eq!(
        (outcome.end, outcome.asked.as_slice()),
        (End::Opaque, ["CONNECT tunnel:a:443".to_owned()].as_slice())
    );
    assert!(!outcome.released.ends_with(b"bytes"), "held until the 200");
    let declined = World { allow: |_| true, answer: |_| "HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n" };
    let next = "GET /b HTTP/1.1\r\nhost: a\r\n\r\n";
    let outcome =
        run_all_splits(&declined, format!("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n{next}").as_bytes());
    assert_eq!(outcome.asked.len(), 2, "what follows is judged");
    assert_eq!(run_all_splits(&PLAIN, input.as_bytes()).released.len(), 0, "denied unless allowed as such");
    for head in [
        "CONNECT a HTTP/1.1\r\nhost: a",
        "CONNECT a:443 HTTP/1.1\r\nhost: b:443",
        "CONNECT /a HTTP/1.1\r\nhost: a",
    ] {
        check_refused(&format!("{head}\r\n\r\n"));
    }
}

#[test]
fn nothing_is_read_after_the_last_request() {
    for head in
        ["GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", "GET /a HTTP/1.0\r\nhost: a\r\n\r\n"]
    {
        let outcome = run_all_splits(&PLAIN, format!("{head}GET /b HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        assert_eq!((outcome.asked.len(), outcome.released.as_slice()), (1, head.as_bytes()), "{head:?}");
    }
}

#[test]
fn heads_have_limits() {
    let limit = |head: String| {
        let outcome = run(&PLAIN, head.as_bytes(), 997);
        assert_eq!(outcome, run(&PLAIN, head.as_bytes(), head.len()));
        (outcome.end, outcome.released.len())
    };
    let refused = |status| (End::Refused(Reason::Limit, Some(status)), 0);
    let fields = |count| format!("GET /a HTTP/1.1\r\nhost: a\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(limit(fields(99)).0, End::Open);
    assert_eq!(limit(fields(100)), refused(431));
    assert_eq!(
        limit(format!("GET /a HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(16_384))),
        refused(431)
    );
    assert_eq!(limit(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(9_000))), refused(414));
    assert_eq!(limit(format!("GET /{}", "a".repeat(20_000))), refused(431));
    let queue = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n".repeat(200);
    assert_eq!(limit(queue.clone()), (End::Open, queue.len()), "a long pipeline is served");
}

#[test]
fn further_requests_wait_while_too_many_are_open() {
    let get = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut conversation = Conversation::default();
    for _ in 0..bulkhead_inspect::limits::REQUESTS_OUTSTANDING_MAX {
        assert!(matches!(conversation.client(get), Step::Ask(_)));
        conversation.allow();
        assert!(matches!(conversation.client(get), Step::Forward(_)));
    }
    assert!(matches!(conversation.client(get), Step::NeedMore));
    assert!(matches!(conversation.server(OK.as_bytes()), Step::Forward(_)));
    assert!(matches!(conversation.client(get), Step::Ask(_)));
}

#[test]
fn the_preface_of_http2_is_another_protocol_and_pri_is_no_method() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let outcome = run_all_splits(&PLAIN, preface);
    let expected =
        Outcome { asked: vec![], lines: vec![], released: preface.to_vec(), replies: vec![], end: End::Open };
    assert_eq!(outcome, expected, "it is HTTP/2, of which nothing was asked yet");
    let get = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    let outcome = run_all_splits(&PLAIN, format!("{get}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").as_bytes());
    assert_eq!((outcome.end, outcome.released.as_slice()), (MALFORMED, get.as_bytes()));
}

#[test]
fn a_server_of_http2_may_greet_before_its_client() {
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    for length in 1..=settings.len() {
        let mut conversation = Conversation::expecting([Protocol::Http1]);
        conversation.hold(true, 0);
        assert!(matches!(conversation.server(&settings[..length]), Step::NeedMore), "{length} bytes");
        assert!(matches!(conversation.client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Step::Forward(24)));
        // They are written anew, with our limits.
        assert!(matches!(conversation.server(settings), Step::Discard(9)), "{length} bytes");
    }
    let mut other = Conversation::expecting([Protocol::Http1]);
    assert!(matches!(other.server(b"SSH-2.0-x\r\n"), Step::Opaque));
}

#[test]
fn who_greets_as_http2_serves_no_other_protocol_however_its_client_is_cut() {
    let clients: [(Protocol, &[u8]); 3] = [
        (Protocol::Http1, b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n"),
        (Protocol::Redis, b"*1\r\n$4\r\nPING\r\n"),
        (Protocol::Postgres, b"\0\0\0\x08\x04\xd2\x16\x2f"),
    ];
    for (protocol, request) in clients {
        for gate in [false, true] {
            for length in 1..=request.len() {
                let mut conversation = Conversation::expecting([protocol]);
                conversation.hold(gate, 0);
                assert!(matches!(conversation.server(b"\0"), Step::NeedMore));
                let cut = matches!(conversation.client(&request[..length]), Step::NeedMore);
                assert!(cut || conversation.protocol() == Some(Protocol::Unknown), "{protocol:?}, {length}");
                assert!(matches!(conversation.client(request), Step::Opaque), "{protocol:?}, {length}");
                assert!(conversation.is_unnamed() && !conversation.is_judged());
            }
        }
    }
}

#[test]
fn behind_an_accepted_header_http_and_tls_are_read_and_nothing_else() {
    let header = b"PROXY UNKNOWN\r\n";
    let clients: [(Protocol, &[u8], Option<Protocol>); 5] = [
        (Protocol::Http1, b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n", Some(Protocol::Http1)),
        (Protocol::Http1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http2)),
        (Protocol::Tls, b"\x16\x03\x01\0\xc3\x01", Some(Protocol::Tls)),
        (Protocol::Redis, b"*1\r\n$4\r\nPING\r\n", Some(Protocol::Unknown)),
        (Protocol::Postgres, b"\0\0\0\x08\x04\xd2\x16\x2f", Some(Protocol::Unknown)),
    ];
    for (named, first, told) in clients {
        let mut conversation = Conversation::expecting([named]);
        conversation.accept_proxy_header(true);
        conversation.hold(true, 0);
        for length in 1..header.len() {
            assert!(matches!(conversation.client(&header[..length]), Step::NeedMore), "{length}");
        }
        assert!(matches!(conversation.client(header), Step::Forward(15)));
        assert!(conversation.is_proxied());
        conversation.accept_proxy_header(false);
        assert!(conversation.is_proxied(), "what was there stays so");
        let opaque = matches!(conversation.client(first), Step::Opaque);
        assert_eq!((conversation.protocol(), opaque), (told, told == Some(Protocol::Unknown)));
    }
    let mut other = Conversation::expecting([Protocol::Http1]);
    other.hold(true, 0);
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n\r\n";
    assert!(matches!(other.client(line), Step::Opaque), "no rule accepts it");
    assert!(other.is_unnamed() && !other.is_judged() && !other.is_proxied());
}

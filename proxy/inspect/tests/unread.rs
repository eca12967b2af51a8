//! Bodies that a server may leave unread, and then take for its next request: of methods whose content means nothing.

mod support;

use bulkhead_facts::Reason;
use bulkhead_inspect::{Protocol, Step};
use support::{End, OK, PLAIN, World, answers, gate, run_all_splits};

const METHODS: [&str; 5] = ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"];
const NEXT: &str = "GET /no/1 HTTP/1.1\r\nhost: a\r\n\r\n";

/// A request with the next one as its body.
fn request(method: &str, before: &str, behind: &str) -> String {
    let length = NEXT.len();
    format!("{method} /ok HTTP/1.1\r\n{before}host: a\r\ncontent-length: {length}\r\n{behind}\r\n{NEXT}")
}

/// What leaves of it, with another one behind it.
fn check(input: &str, released: &str) {
    let outcome = run_all_splits(&PLAIN, format!("{input}GET /b HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    assert_eq!(String::from_utf8_lossy(&outcome.released), released, "{input:?}");
    assert_eq!(outcome.asked.len(), 1, "{input:?}");
}

#[test]
fn the_server_is_told_to_end_the_connection_in_the_place_of_what_the_client_says_of_it() {
    for method in METHODS {
        let released = request(method, "", "connection: close\r\n");
        check(&request(method, "", ""), &released);
        for said in ["connection: keep-alive\r\n", "Connection: Keep-Alive, TE\r\n", "CONNECTION:\r\n"] {
            check(&request(method, said, ""), &released);
            check(&request(method, "", said), &released);
        }
        let chunked = |end: &str| {
            format!(
                "{method} /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n{end}\r\n1\r\nx\r\n0\r\n\r\n"
            )
        };
        check(&chunked(""), &chunked("connection: close\r\n"));
        let old = |said: &str| format!("{method} /a HTTP/1.0\r\n{said}content-length: 1\r\n");
        check(&(old("connection: keep-alive\r\n") + "\r\nx"), &(old("") + "connection: close\r\n\r\nx"));
    }
    let offer = "upgrade: h2c\r\nhttp2-settings: x\r\nconnection: upgrade, http2-settings\r\n";
    check(&request("GET", offer, ""), &request("GET", "", "connection: close\r\n"));
}

/// What a client is answered, in the place of this.
fn check_answer(input: &str, answer: fn(&str) -> &'static str, expected: &str) {
    for piece in 1..=input.len() {
        let told = answers(&World { answer, ..PLAIN }, input.as_bytes(), piece);
        assert_eq!(String::from_utf8_lossy(&told), expected, "{input:?} by {piece}");
    }
}

#[test]
fn the_client_hears_that_the_connection_ends_where_its_server_does_not_say_so() {
    let input = request("GET", "", "");
    check_answer(
        &input,
        |_| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    );
    check_answer(
        &input,
        |_| "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 204 No\r\nconnection: close\r\n\r\n",
    );
    check_answer(
        &input,
        |_| "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n",
    );
    for answer in [
        |_: &str| "HTTP/1.1 200 OK\r\nConnection: te, Close\r\ncontent-length: 0\r\n\r\n",
        |_: &str| "HTTP/1.0 200 OK\r\n\r\n",
    ] {
        check_answer(&input, answer, answer(""));
    }
    check_answer(&request("POST", "", ""), |_| OK, OK);
    check_answer(&request("GET", "connection: close\r\n", ""), |_| OK, OK);
}

#[test]
fn what_ends_the_connection_by_itself_leaves_as_it_is() {
    for method in METHODS {
        for closing in ["connection: close\r\n", "connection: keep-alive, close\r\n"] {
            check(&request(method, closing, ""), &request(method, closing, ""));
        }
        let old = format!("{method} /a HTTP/1.0\r\ncontent-length: 1\r\n\r\nx");
        check(&old, &old);
    }
}

#[test]
fn other_requests_leave_as_they_are_and_the_connection_goes_on() {
    for input in [
        request("POST", "connection: keep-alive\r\n", ""),
        request("PUT", "", ""),
        request("PATCH", "", ""),
        request("QUERY", "", ""),
        "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".into(),
        "HEAD /a HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\n\r\n".into(),
    ] {
        let both = format!("{input}{input}");
        let outcome = run_all_splits(&PLAIN, both.as_bytes());
        assert_eq!((String::from_utf8_lossy(&outcome.released).as_ref(), outcome.end), (&*both, End::Open));
    }
}

#[test]
fn a_body_and_an_upgrade_or_two_words_on_the_connection_are_refused() {
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    for said in [upgrade, "connection: keep-alive\r\nconnection: te\r\n"] {
        let outcome = run_all_splits(&PLAIN, request("GET", said, "").as_bytes());
        assert_eq!(outcome.end, End::Refused(Reason::Malformed, Some(400)), "{said:?}");
        assert_eq!(outcome.released.len(), 0, "{said:?}");
    }
}

#[test]
fn a_denied_one_leaves_nothing_and_under_the_tee_it_passes_as_it_is() {
    let denied = request("GET", "", "").replace("/ok", "/no");
    assert_eq!(run_all_splits(&PLAIN, denied.as_bytes()).released.len(), 0);
    let mut conversation = gate();
    conversation.hold(false, 0);
    assert_eq!(conversation.protocol(), None::<Protocol>);
    let said = request("GET", "connection: keep-alive\r\n", "");
    let input = format!("{said}{said}");
    let (mut shown, mut asked) = (input.as_bytes(), 0);
    while !shown.is_empty() {
        match conversation.client(shown) {
            Step::Ask(_) => asked += 1,
            // What is dropped leaves all the same.
            Step::Forward(count) | Step::Discard(count) => {
                shown = &shown[count..];
                continue;
            }
            step => panic!("{step:?}"),
        }
        conversation.allow();
        assert!(conversation.insertion(bulkhead_inspect::Side::Server).is_empty());
    }
    assert_eq!(asked, 2);
}

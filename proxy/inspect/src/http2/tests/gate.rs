//! Under the gate: what is asked, what leaves, what is dropped, and what the client is told.

use super::driver::{Driver, Frame, NOTICE, block, fields, frames, request};
use crate::contract::Inspector;
use crate::http2::frame::{ACK, END_HEADERS, END_STREAM, Kind, PREFACE};
use bulkhead_facts::Reason;

#[test]
fn settings_pass_but_for_pushed_responses_and_limits() {
    let mut driver = Driver::new(true);
    driver.greet();
    assert!(driver.to_server.starts_with(PREFACE));
    let no_push = [0, 2, 0, 0, 0, 0];
    let hundred_streams = [0, 3, 0, 0, 0, 100];
    let ack = Frame::new(Kind::Settings, ACK, 0, []);
    assert_eq!(driver.server_saw(), [Frame::new(Kind::Settings, 0, 0, no_push), ack.clone()]);
    assert_eq!(driver.client_saw(), [Frame::new(Kind::Settings, 0, 0, hundred_streams), ack]);
    // Later settings: only what goes beyond a limit is clamped.
    driver.server(Kind::Settings, 0, 0, [0, 1, 0, 1, 0, 0, 0, 3, 0, 0, 0, 7, 0, 6, 0, 2, 0, 0]);
    let clamped = [0, 1, 0, 0, 0x10, 0, 0, 3, 0, 0, 0, 7, 0, 6, 0, 1, 0, 0];
    assert_eq!(driver.client_saw(), [Frame::new(Kind::Settings, 0, 0, clamped)]);
    driver.client(Kind::Settings, 0, 0, [0, 2, 0, 0, 0, 1, 0, 4, 0, 0, 0, 9]);
    let edited = [0, 2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9];
    assert_eq!(driver.server_saw(), [Frame::new(Kind::Settings, 0, 0, edited)]);
}

#[test]
fn nothing_but_a_greeting_leaves_before_the_server_has_greeted() {
    for piece in [1, 5, usize::MAX] {
        let mut driver = Driver::new(true).by(piece);
        driver.client_bytes(PREFACE);
        let free = [b'G', b'E', b'T', b' ', b'/', b'\n', 0x0a, 0x0a, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9];
        driver.client(Kind::Settings, 0, 0, free);
        driver.client(Kind::WindowUpdate, 0, 0, [0, 0, 0, 9]);
        driver.client(Kind::Ping, 0, 0, b"GET /no ");
        driver.client(Kind::Settings, 0, 0, free);
        driver.request(1, false, "/a");
        driver.client(Kind::Data, END_STREAM, 1, b"GET /no HTTP/1.1");
        driver.client(Kind::GoAway, 0, 0, b"\0\0\0\0\0\0\0\0GET /no HTTP/1.1");
        let greeting = Frame::new(Kind::Settings, 0, 0, [0, 4, 0, 0, 0, 9, 0, 2, 0, 0, 0, 0]);
        assert_eq!(driver.server_saw(), [greeting], "{piece}");
        assert!(driver.asked.is_empty() && driver.http.standing().waits_for_server);
        driver.server(Kind::Settings, 0, 0, []);
        assert_eq!(driver.asked, ["GET shop.test /a"]);
        let kinds: Vec<Kind> = driver.server_saw().iter().map(|frame| frame.kind).collect();
        let rest = [Kind::WindowUpdate, Kind::Ping, Kind::Settings, Kind::Headers, Kind::Data, Kind::GoAway];
        assert_eq!((kinds, driver.closed), (rest.to_vec(), false), "{piece}");
    }
}

#[test]
fn an_allowed_request_leaves_without_any_table_and_its_answer_passes() {
    let mut driver = Driver::open();
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(&request("GET", "/a?b=c")));
    assert_eq!(driver.asked, ["GET shop.test /a"]);
    let saw = driver.server_saw();
    assert_eq!(
        (saw.len(), saw[0].kind, saw[0].flags, saw[0].stream),
        (1, Kind::Headers, END_HEADERS | END_STREAM, 1)
    );
    assert_eq!(saw[0].payload[0], 0x20, "the server's table is empty from here on");
    let sent: Vec<_> =
        request("GET", "/a?b=c").iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    assert_eq!(fields(&saw[0].payload), sent);
    driver.response(1, false);
    driver.server(Kind::Data, END_STREAM, 1, b"body");
    let data = Frame::new(Kind::Data, END_STREAM, 1, b"body");
    assert_eq!(driver.client_saw(), [Frame::new(Kind::Headers, END_HEADERS, 1, [0x88]), data]);
    let progress = driver.http.take_progress();
    assert_eq!((progress.exchange, progress.status, progress.completed), (1, Some(200), true));
    assert!(driver.http.standing().idle);
}

#[test]
fn a_denied_request_is_answered_here_and_its_body_dropped() {
    let mut driver = Driver::open();
    driver.client(Kind::Headers, END_HEADERS, 1, block(&request("POST", "/no")));
    driver.client(Kind::Data, 0, 1, [7; 1000]);
    driver.client(Kind::WindowUpdate, 0, 1, [0, 0, 0, 9]);
    driver.client(Kind::Data, END_STREAM, 1, []);
    assert_eq!(driver.server_saw(), []);
    let saw = driver.client_saw();
    let kinds: Vec<_> = saw.iter().map(|frame| (frame.kind, frame.flags, frame.stream)).collect();
    assert_eq!(
        kinds,
        [
            (Kind::Headers, END_HEADERS, 1),
            (Kind::Data, END_STREAM, 1),
            (Kind::Reset, 0, 1),
            (Kind::WindowUpdate, 0, 0),
        ]
    );
    assert_eq!(fields(&saw[0].payload)[0], (":status".to_owned(), "403".to_owned()));
    assert_eq!(saw[1].payload, NOTICE.json.as_bytes());
    assert_eq!(saw[2].code(), 0, "the response is whole");
    assert_eq!(saw[3].payload, [0, 0, 3, 232], "the window comes back");
    driver.request(3, true, "/yes");
    assert_eq!(driver.server_saw().len(), 1, "other streams go on");
}

#[test]
fn a_denied_call_of_grpc_gets_its_status_as_trailers() {
    let mut driver = Driver::open();
    let mut call = request("POST", "/no/Call");
    call.push(("content-type", "application/grpc+proto"));
    driver.client(Kind::Headers, END_HEADERS, 1, block(&call));
    let saw = driver.client_saw();
    assert_eq!((saw[0].flags, saw.len()), (END_HEADERS | END_STREAM, 1));
    let text = fields(&saw[0].payload);
    let expected = [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "7"),
        ("grpc-message", "denied 50%25"),
    ];
    assert_eq!(text, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // Some clients lose an answer that a reset follows at once.
    driver.client(Kind::Data, 0, 1, []);
    assert_eq!(driver.client_saw(), [Frame::new(Kind::Reset, 0, 1, [0; 4])]);
    assert_eq!(driver.server_saw(), []);
}

#[test]
fn what_is_answered_here_in_full_is_reset_only_where_its_client_goes_on() {
    let mut driver = Driver::open();
    let answered = |driver: &mut Driver, id: u32| {
        driver.client(Kind::Headers, END_HEADERS, id, block(&request("POST", "/no")));
        let saw = driver.client_saw();
        let resets = saw.iter().filter(|frame| frame.kind == Kind::Reset);
        resets.map(|frame| frame.stream).collect::<Vec<u32>>()
    };
    assert_eq!(answered(&mut driver, 1), [0; 0]);
    driver.client(Kind::Data, END_STREAM, 1, b"a=b");
    assert_eq!(driver.client_saw(), [Frame::new(Kind::WindowUpdate, 0, 0, [0, 0, 0, 3])]);
    // To end it is no giving up, however often.
    for number in 1..500 {
        assert_eq!(answered(&mut driver, number * 2 + 1), [0; 0]);
        driver.client(Kind::Reset, 0, number * 2 + 1, [0, 0, 0, 8]);
    }
    // Of many that nobody ends the oldest is reset.
    for number in 0..40 {
        let resets = answered(&mut driver, 2_001 + number * 2);
        assert_eq!(resets.len(), usize::from(number >= 32), "{number}");
    }
    assert!(!driver.closed);
}

#[test]
fn our_own_words_wait_for_the_settings_and_the_frames_of_the_server() {
    let mut driver = Driver::new(true);
    driver.client_bytes(PREFACE);
    driver.client(Kind::Settings, 0, 0, []);
    driver.request(1, true, "/no");
    assert_eq!(driver.to_client, b"", "nothing before the server's settings");
    driver.server(Kind::Settings, 0, 0, []);
    let kinds: Vec<_> = driver.client_saw().iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [Kind::Settings, Kind::Headers, Kind::Data]);
    driver.request(3, true, "/yes");
    driver.response(3, false);
    driver.client_saw();
    driver.server_bytes(&[0, 0, 4, 0, 0, 0, 0, 0, 3, b'a', b'b']);
    driver.request(5, true, "/no");
    assert_eq!(driver.to_client.len(), 11, "inside a frame");
    driver.server_bytes(b"cd");
    let kinds: Vec<_> = driver.client_saw().iter().map(|frame| (frame.kind, frame.stream)).collect();
    assert_eq!(kinds, [(Kind::Data, 3), (Kind::Headers, 5), (Kind::Data, 5)]);
    assert_eq!(frames(&driver.to_server).len(), 2);
    assert!(driver.refused.is_empty());
}

#[test]
fn more_streams_than_the_limit_are_refused_until_one_ends() {
    let mut driver = Driver::open();
    for number in 0..100 {
        driver.request(number * 2 + 1, true, "/a");
    }
    driver.request(201, true, "/a");
    assert_eq!(driver.refused, [(Reason::Limit, "more streams than the limit")]);
    let saw = driver.client_saw();
    assert_eq!((saw[0].kind, saw[0].stream, saw[0].code()), (Kind::Reset, 201, 7));
    driver.response(5, true);
    driver.request(203, true, "/a");
    assert_eq!(driver.refused.len(), 1);
    assert_eq!(driver.server_saw().len(), 101);
}

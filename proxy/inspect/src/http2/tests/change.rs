//! The tee, the change from it to the gate, and open streams that are not allowed any more.

use super::driver::{Driver, NOTICE, block, fields, request};
use crate::contract::Inspector;
use crate::http2::frame::{ACK, END_HEADERS, END_STREAM, Kind, PREFACE, put};

/// A client's block that puts its fields into the table, and a later one that takes them from there.
fn indexed() -> (Vec<u8>, Vec<u8>) {
    let mut first = vec![0x82, 0x86, 0x41, 9];
    first.extend(b"shop.test");
    first.extend([0x44, 2, b'/', b'a']);
    (first, vec![0x82, 0x86, 0xbf, 0xbe])
}

fn fence(number: u8) -> [u8; 8] {
    [b'b', b'l', b'k', b'h', 0, 0, 0, number]
}

#[test]
fn under_the_tee_every_byte_passes_and_is_read_all_the_same() {
    let mut driver = Driver::new(false);
    driver.greet();
    let (first, second) = indexed();
    let mut sent = driver.to_server.clone();
    for (stream, head) in [(1, &first), (3, &second), (5, &block(&request("GET", "/no"))), (7, &vec![0x82])] {
        driver.client(Kind::Headers, END_HEADERS | END_STREAM, stream, head);
        put(&mut sent, Kind::Headers, END_HEADERS | END_STREAM, stream, head);
    }
    driver.client(Kind::Priority, 0, 1, [0; 5]);
    put(&mut sent, Kind::Priority, 0, 1, &[0; 5]);
    assert_eq!(driver.to_server, sent);
    assert_eq!(driver.asked, ["GET shop.test /a", "GET shop.test /a", "GET shop.test /no"]);
    assert_eq!(driver.refused.len(), 1, "the one that is no request is reported");
    driver.server(Kind::PushPromise, END_HEADERS, 1, [0, 0, 0, 2, 0x82]);
    driver.response(3, true);
    assert_eq!(driver.http.take_progress().exchange, 3);
    assert!(!driver.closed);
}

#[test]
fn from_the_tee_to_the_gate_blocks_are_written_anew_and_the_table_of_the_server_is_emptied() {
    let mut driver = Driver::new(false);
    driver.greet();
    let (first, second) = indexed();
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, first);
    driver.begin_gate();
    driver.server_saw();
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 3, second);
    driver.request(5, true, "/no");
    let saw = driver.server_saw();
    assert_eq!(saw.len(), 1, "the denied one stays here");
    assert_eq!(saw[0].payload[0], 0x20);
    assert_eq!(fields(&saw[0].payload)[3], (":path".to_owned(), "/a".to_owned()));
    driver.response(1, true);
    driver.response(3, true);
    assert!(!driver.closed && driver.http.standing().idle);
}

/// A head of which so many bytes have left when the gate begins, then a request of its own.
fn cut_by_the_gate(head: &[u8], cut: usize) -> Driver {
    let mut whole = Vec::new();
    put(&mut whole, Kind::Headers, END_HEADERS | END_STREAM, 1, head);
    let mut driver = Driver::new(false);
    driver.greet();
    driver.to_server.clear();
    driver.client_bytes(&whole[..cut]);
    driver.begin_gate();
    assert_eq!(driver.to_server, whole[..cut]);
    driver.client_bytes(&whole[cut..]);
    if !driver.closed {
        driver.request(3, true, "/b");
    }
    driver
}

#[test]
fn a_head_that_has_left_in_part_is_completed_only_if_it_is_allowed() {
    let allowed = block(&request("GET", "/a"));
    for cut in 1..9 + allowed.len() {
        let driver = cut_by_the_gate(&allowed, cut);
        assert_eq!(driver.asked, ["GET shop.test /a", "GET shop.test /b"], "{cut}");
        assert!(!driver.closed && driver.refused.is_empty(), "{cut}");
    }
    let denied = block(&request("GET", "/no"));
    let malformed = block(&request("G?T", "/a"));
    for (head, asked) in [(denied, 1), (malformed, 0)] {
        for cut in 1..9 + head.len() {
            let driver = cut_by_the_gate(&head, cut);
            assert_eq!((driver.asked.len(), driver.closed), (asked, true), "{cut}");
            assert!(driver.to_server.len() < 9 + head.len(), "{cut}: the server never has all of it");
        }
    }
}

#[test]
fn a_head_that_has_left_in_part_is_asked_about_also_while_the_process_ends() {
    let head = block(&request("GET", "/no"));
    let mut driver = Driver::new(false);
    driver.greet();
    let mut whole = Vec::new();
    put(&mut whole, Kind::Headers, END_HEADERS | END_STREAM, 1, &head);
    driver.client_bytes(&whole[..20]);
    driver.begin_gate();
    driver.http.drain();
    driver.client_bytes(&whole[20..]);
    assert_eq!((driver.asked.len(), driver.closed), (1, true));
}

#[test]
fn a_frame_of_the_server_that_has_left_in_part_passes_whole() {
    let mut settings = Vec::new();
    put(&mut settings, Kind::Settings, 0, 0, &[0, 3, 0, 0, 9, 9]);
    let mut data = Vec::new();
    // On a stream that nobody has opened: under the gate it would be dropped.
    put(&mut data, Kind::Data, 0, 9, b"of nobody");
    for answer in [settings, data] {
        for cut in 0..answer.len() {
            let mut driver = Driver::new(false);
            driver.greet();
            driver.to_client.clear();
            driver.server_bytes(&answer[..cut]);
            driver.begin_gate();
            driver.server_bytes(&answer[cut..]);
            driver.request(1, true, "/no");
            let saw = driver.client_saw();
            let whole = cut > 0;
            assert_eq!(saw[0].payload == answer[9..], whole, "{cut}");
            assert_eq!(saw.last().map(|frame| frame.kind), Some(Kind::Data), "{cut}: the denial follows");
        }
    }
}

#[test]
fn an_open_stream_that_is_not_allowed_any_more_ends_alone() {
    let mut driver = Driver::open();
    driver.request(1, false, "/a");
    driver.request(3, true, "/b");
    driver.server_saw();
    assert!(driver.http.revoke(1, &NOTICE));
    driver.insert();
    let kinds: Vec<_> = driver.server_saw().iter().map(|frame| (frame.kind, frame.stream)).collect();
    assert_eq!(kinds, [(Kind::Reset, 1), (Kind::Ping, 0)]);
    // What the client still sends is dropped, its window comes back.
    driver.client(Kind::Data, 0, 1, b"abc");
    assert_eq!(driver.server_saw(), []);
    assert_eq!(driver.client_saw().len(), 1);
    driver.server(Kind::Ping, ACK, 0, fence(1));
    let saw = driver.client_saw();
    let kinds: Vec<_> = saw.iter().map(|frame| (frame.kind, frame.stream)).collect();
    assert_eq!(kinds, [(Kind::Headers, 1), (Kind::Data, 1), (Kind::Reset, 1)]);
    assert_eq!(fields(&saw[0].payload)[0].1, "403");
    driver.response(3, true);
    assert_eq!(driver.client_saw().len(), 1, "the other one goes on");
    assert!(!driver.closed && driver.http.standing().idle);
}

#[test]
fn a_call_of_grpc_that_is_not_allowed_any_more_ends_with_its_status() {
    for answered in [false, true] {
        let mut driver = Driver::open();
        let mut call = request("POST", "/svc/Watch");
        call.push(("content-type", "application/grpc"));
        driver.client(Kind::Headers, END_HEADERS, 1, block(&call));
        if answered {
            driver.response(1, false);
        }
        driver.client_saw();
        driver.http.revoke(1, &NOTICE);
        driver.insert();
        // On its way when the server was told: the block passes without its end, the rest is dropped.
        driver.server(Kind::Data, 0, 1, b"message");
        driver.server(Kind::Headers, END_HEADERS | END_STREAM, 1, [0, 1, b'x', 1, b'y']);
        let saw = driver.client_saw();
        assert_eq!((saw[0].kind, saw[0].flags), (Kind::Headers, END_HEADERS));
        let trailers = fields(&saw[1].payload);
        assert!(trailers.contains(&("grpc-status".to_owned(), "7".to_owned())), "{trailers:?}");
        assert_eq!(saw[1].flags, END_HEADERS | END_STREAM);
        assert_eq!(saw[2].kind, Kind::Reset, "the request is incomplete");
        driver.server(Kind::Ping, ACK, 0, fence(1));
        assert_eq!(driver.client_saw(), [], "our own ping stays here");
        assert!(driver.http.standing().idle);
    }
}

#[test]
fn while_it_drains_new_streams_are_refused_and_open_ones_go_on() {
    let mut driver = Driver::open();
    driver.request(1, true, "/a");
    driver.http.drain();
    driver.insert();
    driver.request(3, true, "/b");
    let saw = driver.client_saw();
    assert_eq!((saw[0].kind, saw[0].code(), saw[0].payload[3]), (Kind::GoAway, 0, 1));
    assert_eq!((saw[1].kind, saw[1].stream, saw[1].code()), (Kind::Reset, 3, 7));
    assert_eq!(driver.server_saw().len(), 1);
    assert!(!driver.http.standing().idle);
    driver.response(1, true);
    assert!(driver.http.standing().idle && !driver.closed);
}

#[test]
fn memory_of_an_idle_connection_is_small() {
    let mut driver = Driver::open();
    for number in 0..500 {
        let mut list = request("GET", "/a");
        let value = format!("value of some length {number}");
        list.push(("x-request-id", &value));
        let mut head = block(&list);
        head[0] = 0;
        driver.client(Kind::Headers, END_HEADERS | END_STREAM, number * 2 + 1, head);
        driver.response(number * 2 + 1, true);
    }
    driver.http.release();
    assert!(driver.http.held_bytes() < 6 * 1024, "{} bytes", driver.http.held_bytes());
    // One stream that stays open holds nothing of what a large request took.
    let mut list = request("GET", "/a");
    let value = "y".repeat(15_000);
    list.push(("x-large", &value));
    driver.client(Kind::Headers, END_HEADERS, 1_001, block(&list));
    driver.http.release();
    assert!(driver.http.held_bytes() < 10 * 1024, "{} bytes", driver.http.held_bytes());
    // With a full table, too.
    let mut head = block(&request("GET", "/a"));
    for number in 0..200u8 {
        head.extend([0x40, 3, b'x', b'-', b'a' + number % 20, 40]);
        head.extend([number; 40]);
    }
    let mut decoder = crate::http2::hpack::Decoder::new(4096);
    let mut list = crate::http2::hpack::Fields::default();
    decoder.decode(&head, &mut list, 1 << 20, 1000).expect("a sound block");
    decoder.release();
    assert!(decoder.held_bytes() < 6 * 1024, "{} bytes", decoder.held_bytes());
    assert!(size_of::<crate::http2::Http2>() < 2 * 1024);
    assert!(driver.to_server.starts_with(PREFACE) || !driver.closed);
}

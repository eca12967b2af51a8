//! Floods: each ends with a word, and costs no more than its limit until then.

use super::driver::{Driver, block, request};
use crate::contract::Inspector;
use crate::http2::frame::{END_HEADERS, END_STREAM, Kind};
use crate::limits::{
    CONTINUATION_FRAMES_MAX, CONTROL_FRAMES_MAX, CONTROL_INTERVAL_MS, EMPTY_FRAMES_MAX, INSERTED_BYTES_MAX,
    RESETS_MAX,
};

/// Sends until the connection ends; how often that was. The client is told ENHANCE_YOUR_CALM.
fn until_closed(driver: &mut Driver, mut one: impl FnMut(&mut Driver, u32)) -> u32 {
    for number in 0..100_000 {
        driver.client_saw();
        driver.server_saw();
        one(driver, number);
        if driver.closed {
            let saw = driver.client_saw();
            let last = saw.last().expect("last words");
            assert_eq!((last.kind, last.code()), (Kind::GoAway, 11), "{:?}", driver.refused);
            return number;
        }
    }
    panic!("never closed");
}

/// CVE-2023-44487, GHSA-m425-mq94-257g.
#[test]
fn cve_2023_44487_rapid_resets_end_the_connection() {
    let mut driver = Driver::open();
    let count = until_closed(&mut driver, |driver, number| {
        driver.request(number * 2 + 1, true, "/a");
        driver.client(Kind::Reset, 0, number * 2 + 1, [0, 0, 0, 8]);
    });
    assert_eq!(count, RESETS_MAX);
}

/// A client of gRPC that watches and thinks better of it, again and again, ended the connection for everybody on it.
#[test]
fn streams_whose_answer_has_begun_may_all_be_given_up() {
    let mut driver = Driver::open();
    for number in 0..RESETS_MAX * 3 {
        let id = number * 2 + 1;
        driver.request(id, true, "/a");
        driver.server(Kind::Headers, END_HEADERS, id, block(&[(":status", "200")]));
        driver.client(Kind::Reset, 0, id, [0, 0, 0, 8]);
        assert!(!driver.closed, "{number}: {:?}", driver.refused);
    }
    // What came behind the end of a stream is no answer to it.
    let count = until_closed(&mut driver, |driver, number| {
        let id = (RESETS_MAX * 3 + number) * 2 + 1;
        driver.request(id, true, "/a");
        driver.client(Kind::Reset, 0, id, [0, 0, 0, 8]);
        driver.server(Kind::Headers, END_HEADERS, id, block(&[(":status", "200")]));
    });
    assert!(count <= RESETS_MAX * 3, "{count}");
}

/// CVE-2025-8671.
#[test]
fn cve_2025_8671_streams_that_the_server_is_made_to_reset_end_the_connection() {
    let mut driver = Driver::open();
    for number in 0..200 {
        driver.request(number * 2 + 1, false, "/a");
        driver.server(Kind::Reset, 0, number * 2 + 1, [0, 0, 0, 3]);
        if driver.closed {
            assert!(number > 50, "{number}");
            return;
        }
    }
    panic!("never closed");
}

/// CVE-2025-8671, with streams that we reset ourselves.
#[test]
fn cve_2025_8671_streams_with_errors_end_the_connection() {
    let mut driver = Driver::open();
    let count = until_closed(&mut driver, |driver, number| {
        let id = number * 2 + 1;
        driver.request(id, true, "/a");
        driver.client(Kind::Data, 0, id, b"x");
        let [a, b, c, d] = (number + 1).to_be_bytes();
        driver.server(Kind::Ping, 1, 0, [b'b', b'l', b'k', b'h', a, b, c, d]);
    });
    assert_eq!(count, 100);
}

/// Malformed requests cost an answer each.
#[test]
fn requests_that_are_none_end_the_connection_in_the_end() {
    let mut driver = Driver::open();
    let count = until_closed(&mut driver, |driver, number| {
        driver.client(Kind::Headers, END_HEADERS | END_STREAM, number * 2 + 1, [0x82]);
    });
    assert!(count <= 101, "{count}");
}

/// CVE-2024-27316, CVE-2024-27919, CVE-2024-28182, CVE-2023-45288, RUSTSEC-2024-0332.
#[test]
fn cve_2024_27316_a_flood_of_continuations_ends_the_connection() {
    for payload in [&[][..], &[0x82], &[0; 10_000]] {
        let mut driver = Driver::open();
        driver.client(Kind::Headers, END_STREAM, 1, []);
        let count = until_closed(&mut driver, |driver, _| driver.client(Kind::Continuation, 0, 1, payload));
        assert!(count <= u32::from(CONTINUATION_FRAMES_MAX), "{count}");
    }
}

/// CVE-2019-9512, CVE-2019-9515: PING and SETTINGS.
#[test]
fn cve_2019_9512_floods_of_control_frames_end_the_connection() {
    let mut driver = Driver::open();
    let count = until_closed(&mut driver, |driver, _| driver.client(Kind::Ping, 0, 0, [0; 8]));
    // Opening the connection took two, of which the server asked for one.
    assert_eq!(count, CONTROL_FRAMES_MAX - 1);
    let mut driver = Driver::open();
    let count = until_closed(&mut driver, |driver, _| driver.client(Kind::Settings, 0, 0, []));
    assert_eq!(count, CONTROL_FRAMES_MAX - 1);
    // Spread over time, or with answers between, they are what they are meant to be.
    let mut driver = Driver::open();
    for number in 1..1000 {
        driver.http.tick(number * CONTROL_INTERVAL_MS / 50);
        driver.client(Kind::Ping, 0, 0, [0; 8]);
    }
    assert!(!driver.closed);
    let mut driver = Driver::open();
    driver.request(1, true, "/a");
    driver.response(1, false);
    for _ in 1..1000 {
        driver.server(Kind::Data, 0, 1, b"x");
        driver.client(Kind::Ping, 0, 0, [0; 8]);
    }
    assert!(!driver.closed);
}

/// Servers of gRPC measure the way to a client that sends much, and ask once for each round trip.
#[test]
fn a_client_may_answer_as_many_pings_and_settings_as_its_server_sends() {
    let mut driver = Driver::open();
    driver.request(1, false, "/a");
    for _ in 0..1_000 {
        driver.client(Kind::Data, 0, 1, b"x");
        driver.server(Kind::Ping, 0, 0, [7; 8]);
        driver.client(Kind::Ping, 1, 0, [7; 8]);
        driver.server(Kind::Settings, 0, 0, []);
        driver.client(Kind::Settings, 1, 0, []);
    }
    assert!(!driver.closed, "{:?}", driver.refused);
    let count = until_closed(&mut driver, |driver, _| driver.client(Kind::Ping, 1, 0, [7; 8]));
    assert!(count <= CONTROL_FRAMES_MAX + 1, "{count} answers to nothing");
}

/// CVE-2019-9518, RUSTSEC-2026-0258: frames with nothing in them; CVE-2019-9513: priorities.
#[test]
fn cve_2019_9518_floods_of_empty_frames_end_the_connection() {
    let mut driver = Driver::open();
    driver.request(1, false, "/a");
    let count = until_closed(&mut driver, |driver, _| driver.client(Kind::Data, 0, 1, []));
    assert!((EMPTY_FRAMES_MAX..EMPTY_FRAMES_MAX + 10).contains(&count), "{count}");
    for kind in [Kind::Priority, Kind::Unknown] {
        let mut driver = Driver::open();
        let count = until_closed(&mut driver, |driver, _| driver.client(kind, 0, 3, [0, 0, 0, 1, 9]));
        assert_eq!(count, EMPTY_FRAMES_MAX, "{kind:?}");
    }
}

/// CVE-2026-47774, CVE-2016-6581, CVE-2022-41717: a large entry of the table, named again and again.
#[test]
fn cve_2026_47774_a_block_that_unfolds_ends_the_connection() {
    let mut driver = Driver::open();
    let mut bomb = vec![0x40, 1, b'a', 0x7f, 0x81, 0x1e];
    bomb.extend([b'x'; 3968]);
    bomb.extend([0xbe; 200]);
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, bomb);
    assert!(driver.closed);
    assert_eq!(driver.server_saw(), []);
    // Not even what would fit into a list, if all of it is the same again.
    let mut driver = Driver::open();
    let mut bomb = block(&request("GET", "/a"));
    bomb.extend([0x40, 1, b'a', 0x7f, 0x81, 0x03]);
    bomb.extend([b'x'; 512]);
    bomb.extend([0xbe; 20]);
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, bomb);
    assert!(driver.closed);
    assert_eq!(driver.server_saw(), []);
    // Cookies count like everything else.
    let mut driver = Driver::open();
    let mut list = request("GET", "/a");
    list.extend([("cookie", "a=b"); 300]);
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(&list));
    assert!(driver.closed);
}

/// CVE-2020-11080: many settings in one frame.
#[test]
fn cve_2020_11080_huge_settings_end_the_connection() {
    let mut driver = Driver::open();
    driver.client(Kind::Settings, 0, 0, [0; 14_400]);
    assert!(driver.closed);
}

/// A client that asks for what is denied and takes no answer is not read any further.
#[test]
fn answers_that_nobody_takes_stop_the_reading() {
    let mut driver = Driver::open();
    // The server is inside a frame, so that nothing of ours may go.
    driver.request(1, true, "/a");
    driver.response(1, false);
    driver.server_bytes(&[0, 0, 4, 0, 0, 0, 0, 0, 1]);
    for number in 1..2_000 {
        driver.request(number * 2 + 1, true, "/no");
    }
    let waiting = driver.http.to_client.len();
    assert!(waiting > INSERTED_BYTES_MAX && waiting < INSERTED_BYTES_MAX + 1024, "{waiting}");
    assert!(driver.http.standing().waits_for_server);
    driver.server_bytes(b"abcd");
    assert_eq!(driver.asked.len(), 2_000, "it goes on where it stopped");
    assert!(!driver.closed);
}

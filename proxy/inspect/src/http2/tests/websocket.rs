//! WebSockets whose frames are checked: the check goes on to the last byte, whoever of the two ends first.

use super::driver::{Driver, block, request};
use crate::http2::frame::{END_HEADERS, END_STREAM, Kind};

/// `hi` as a client says it, and the same without its mask, as a server does.
const OF_CLIENT: &[u8] = b"\x81\x82\0\0\0\0hi";
const OF_SERVER: &[u8] = b"\x81\x02hi";

/// A WebSocket that the server agreed to; `end`: it ends its own side with that.
fn socket(piece: usize, end: bool) -> Driver {
    let mut driver = Driver::open().by(piece);
    driver.server(Kind::Settings, 0, 0, [0, 8, 0, 0, 0, 1]);
    let mut head = request("CONNECT", "/checked");
    head.push((":protocol", "websocket"));
    driver.client(Kind::Headers, END_HEADERS, 1, block(&head));
    driver.response(1, end);
    assert!(driver.refused.is_empty() && driver.http.streams.count() == 1);
    driver
}

#[test]
fn the_last_frame_of_a_client_is_checked_where_the_server_has_ended() {
    for piece in 1..40 {
        let mut right = socket(piece, true);
        right.client(Kind::Data, END_STREAM, 1, OF_CLIENT);
        assert_eq!((&right.refused[..], right.http.streams.count()), (&[][..], 0), "by {piece}");
        assert!(right.to_server.ends_with(OF_CLIENT));

        let mut wrong = socket(piece, true);
        wrong.client(Kind::Data, END_STREAM, 1, [OF_CLIENT, OF_SERVER].concat());
        assert_eq!(wrong.refused.len(), 1, "by {piece}");
        assert!(!wrong.to_server.ends_with(b"hi") || wrong.to_server.ends_with(OF_CLIENT), "by {piece}");
    }
}

#[test]
fn the_last_frame_of_a_server_is_checked_where_the_client_has_ended() {
    for piece in 1..40 {
        let ended = || {
            let mut driver = socket(piece, false);
            driver.client(Kind::Data, END_STREAM, 1, OF_CLIENT);
            driver
        };
        let mut right = ended();
        right.server(Kind::Data, END_STREAM, 1, OF_SERVER);
        assert_eq!((&right.refused[..], right.http.streams.count()), (&[][..], 0), "by {piece}");
        assert!(right.to_client.ends_with(OF_SERVER));

        let mut wrong = ended();
        wrong.server(Kind::Data, END_STREAM, 1, [OF_SERVER, OF_CLIENT].concat());
        assert_eq!(wrong.refused.len(), 1, "by {piece}");
        assert!(!wrong.to_client.ends_with(OF_CLIENT), "by {piece}");
    }
}

#[test]
fn a_frame_of_a_client_is_checked_to_its_end_where_the_server_ends_in_the_middle_of_it() {
    let mut driver = socket(usize::MAX, false);
    // DATA of eleven bytes that ends the stream; of the second message only the begin is here.
    driver.client_bytes(b"\0\0\x0b\0\x01\0\0\0\x01");
    driver.client_bytes(OF_CLIENT);
    driver.server(Kind::Data, END_STREAM, 1, []);
    driver.client_bytes(b"\x81\x02h");
    assert_eq!(driver.refused.len(), 1, "{:?}", driver.refused);
    assert!(driver.to_server.ends_with(OF_CLIENT));
}

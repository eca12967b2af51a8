//! The same conversation in pieces of every size: the same questions, and the same bytes leave.

use super::driver::{Driver, block, request};
use crate::http2::frame::{ACK, END_HEADERS, END_STREAM, Header, Kind, PADDED, PREFACE, PRIORITY, put};

/// What a client says in a busy connection.
fn script() -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    put(&mut bytes, Kind::Settings, 0, 0, &[0, 4, 0, 1, 0, 0]);
    put(&mut bytes, Kind::Settings, ACK, 0, &[]);
    let head = block(&request("GET", "/a"));
    put(&mut bytes, Kind::Headers, END_HEADERS | END_STREAM, 1, &head);
    let mut padded = vec![4, 0, 0, 0, 0, 7];
    padded.extend(&head[..9]);
    padded.extend([0; 4]);
    put(&mut bytes, Kind::Headers, PADDED | PRIORITY, 3, &padded);
    put(&mut bytes, Kind::Continuation, 0, 3, &head[9..11]);
    put(&mut bytes, Kind::Continuation, END_HEADERS, 3, &head[11..]);
    put(&mut bytes, Kind::Data, PADDED, 3, b"\x03body of it\0\0\0");
    put(&mut bytes, Kind::Headers, END_HEADERS, 5, &block(&request("POST", "/no")));
    put(&mut bytes, Kind::Data, 0, 5, b"dropped");
    put(&mut bytes, Kind::WindowUpdate, 0, 0, &[0, 0, 1, 0]);
    put(&mut bytes, Kind::Headers, END_HEADERS | END_STREAM, 5, &block(&[("x", "y")]));
    put(&mut bytes, Kind::Headers, END_HEADERS | END_STREAM, 7, &[0x82]);
    put(&mut bytes, Kind::Ping, 0, 0, b"12345678");
    put(&mut bytes, Kind::Unknown, 0, 0, b"nobody knows");
    put(&mut bytes, Kind::Headers, END_HEADERS | END_STREAM, 3, &block(&[("grpc-status", "0")]));
    put(&mut bytes, Kind::Reset, 0, 1, &[0, 0, 0, 8]);
    put(&mut bytes, Kind::Headers, END_HEADERS | END_STREAM, 9, &block(&request("GET", "/last")));
    bytes
}

fn play(bytes: &[u8], piece: usize) -> Driver {
    let mut driver = Driver::new(true).by(piece);
    driver.server(Kind::Settings, 0, 0, []);
    driver.client_bytes(bytes);
    driver
}

#[test]
fn the_same_questions_and_bytes_for_pieces_of_every_size() {
    let script = script();
    let whole = play(&script, script.len());
    assert_eq!(whole.asked.len(), 4, "{:?}", whole.asked);
    for piece in 1..script.len() {
        let cut = play(&script, piece);
        assert_eq!(cut.asked, whole.asked, "by {piece}");
        assert_eq!(cut.refused, whole.refused, "by {piece}");
        assert_eq!(cut.to_server, whole.to_server, "by {piece}");
        assert_eq!(cut.to_client, whole.to_client, "by {piece}");
    }
}

#[test]
fn every_prefix_asks_no_more_and_releases_no_more_than_the_whole() {
    let script = script();
    let whole = play(&script, script.len());
    for end in 0..script.len() {
        let part = play(&script[..end], script.len());
        assert!(whole.asked.starts_with(&part.asked), "{end}");
        assert!(whole.to_server.starts_with(&part.to_server), "{end}");
        assert!(!part.closed, "{end}");
    }
}

#[test]
fn any_byte_changed_never_panics_and_never_releases_what_is_denied() {
    let script = script();
    for at in 0..script.len() {
        for bit in 0..8 {
            let mut changed = script.clone();
            changed[at] ^= 1 << bit;
            let driver = play(&changed, usize::MAX);
            let denied = heads(&driver.to_server).any(|head| head.windows(3).any(|window| window == b"/no"));
            assert!(!denied, "byte {at}, bit {bit}: {:?}", driver.asked);
        }
    }
}

/// The payloads of whole HEADERS frames.
fn heads(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.strip_prefix(PREFACE).unwrap_or_default();
    std::iter::from_fn(move || {
        let header = Header::read(rest)?;
        let (frame, next) = rest.split_at_checked(header.total())?;
        rest = next;
        Some(if header.kind == Kind::Headers { frame } else { &[] })
    })
}

#[test]
fn answers_pass_alike_in_pieces_of_every_size() {
    let mut answers = Vec::new();
    put(&mut answers, Kind::Headers, 0, 1, &[0x48, 3, b'2', b'0', b'0', 0x40, 1, b'a']);
    put(&mut answers, Kind::Continuation, END_HEADERS, 1, &[1, b'b']);
    put(&mut answers, Kind::Data, PADDED, 1, b"\x02hello\0\0");
    put(&mut answers, Kind::Ping, 0, 0, b"87654321");
    put(&mut answers, Kind::Headers, PADDED | END_HEADERS | END_STREAM, 1, &[1, 0, 1, b'x', 1, b'y', 0]);
    for piece in 1..answers.len() {
        let mut driver = Driver::open();
        driver.request(1, true, "/a");
        let mut driver = driver.by(piece);
        driver.server_bytes(&answers);
        assert_eq!(driver.to_client, answers, "by {piece}");
        let progress = crate::contract::Inspector::take_progress(&mut driver.http);
        assert_eq!((progress.status, progress.completed), (Some(200), true), "by {piece}");
    }
}

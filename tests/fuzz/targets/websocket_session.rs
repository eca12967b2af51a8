//! Checked frames of a WebSocket as a session drives them (see `session`), over HTTP/1 and HTTP/2: of each side what was let
//! go is frames that tungstenite reads without a fault, as many as a plain reader of RFC 6455 lets through, and no more.
//!
//! The input is a list of frames: whose each is, what is wrong with it, its first byte, its length and what it carries.
#![no_main]

mod session;

use bulkhead_inspect::{Protocol, Question};
use libfuzzer_sys::fuzz_target;
use session::{End, Outcome, World, play};
use std::io::{self, Cursor, Read, Write};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::Role;
use tungstenite::{Error, WebSocket};

const UPGRADE: &[u8] = b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const UPGRADE_COMPRESSED: &[u8] =
    b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-extensions: permessage-deflate\r\n\r\n";
const AGREED: &[u8] = b"HTTP/1.1 101 A\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const AGREED_COMPRESSED: &[u8] = b"HTTP/1.1 101 A\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-extensions: permessage-deflate\r\n\r\n";
/// Preface, SETTINGS, and a request for a WebSocket on stream 1.
const CONNECT: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x26\x01\x04\0\0\0\x01\x02\x07CONNECT\x86\x01\x01a\x04\x02/a\0\x09:protocol\x09websocket";
/// SETTINGS that allow such requests, and the answer to it.
const CONNECTED: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x08\0\0\0\x01\0\0\x01\x01\x04\0\0\0\x01\x88";

fuzz_target!(|input: &[u8]| {
    let Some((begin, input)) = input.split_first() else { return };
    let way = Way { http2: begin & 1 != 0, compressed: begin & 3 == 2 };
    let frames = frames(input);
    let greeting = match way {
        Way { http2: true, .. } => (CONNECT, CONNECTED),
        Way { compressed: true, .. } => (UPGRADE_COMPRESSED, AGREED_COMPRESSED),
        Way { .. } => (UPGRADE, AGREED),
    };
    // A line that every first policy allows.
    let (expected, describe) = (Some(Protocol::Http1), |_: &Question<'_>| "a".to_owned());
    let world = World { expected, describe, checks_frames: true, greeting };
    play(world, &events(way, &frames), |outcome| agree(way, &frames, greeting, outcome));
});

/// How a WebSocket is carried.
#[derive(Clone, Copy, Debug)]
struct Way {
    http2: bool,
    compressed: bool,
}

/// One frame, or what is meant for one.
#[derive(Clone, Debug)]
struct Said {
    by_client: bool,
    bytes: Vec<u8>,
    /// Bytes of one DATA frame, in HTTP/2.
    piece: usize,
}

/// Frames as the input has them.
fn frames(mut input: &[u8]) -> Vec<Said> {
    let mut frames = Vec::new();
    while let Some(([kind, first, length], rest)) = input.split_first_chunk() {
        let by_client = kind & 1 == 0;
        let length = if kind & 0x40 != 0 { usize::from(*length) << 2 } else { usize::from(*length) };
        let (payload, behind) = rest.split_at(length.min(rest.len()));
        input = behind;
        let masked = by_client != (kind & 0x0e == 0x0e);
        let bytes = match kind & 0x30 {
            // As they are.
            0x30 => payload.to_vec(),
            form => frame(*first, masked, form, payload),
        };
        frames.push(Said { by_client, bytes, piece: usize::from(kind >> 1 & 7) * 5 + 1 });
    }
    frames
}

/// A frame whose length is written in one of three forms, of which only one is right.
fn frame(first: u8, masked: bool, form: u8, payload: &[u8]) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    let form = match payload.len() {
        126.. if form == 0 => 0x10,
        _ => form,
    };
    match form {
        0 => bytes.push(bit | u8::try_from(payload.len()).expect("a short frame")),
        0x10 => {
            bytes.push(bit | 126);
            bytes.extend(u16::try_from(payload.len()).expect("no long frame").to_be_bytes());
        }
        _ => {
            bytes.push(bit | 127);
            bytes.extend(u64::try_from(payload.len()).expect("a length").to_be_bytes());
        }
    }
    let key = [payload.len() as u8, 1, 0, 0x55];
    if masked {
        bytes.extend(key);
    }
    let key = if masked { key } else { [0; 4] };
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The same as events of a session under the gate.
fn events(way: Way, frames: &[Said]) -> Vec<u8> {
    let mut events = vec![1];
    for said in frames {
        let piece = if way.http2 { said.piece } else { 255 };
        for part in said.bytes.chunks(piece) {
            let length = u8::try_from(part.len()).expect("a short piece");
            let data = [&[0, 0, length, 0, 0, 0, 0, 0, 1], part].concat();
            let part = if way.http2 { data.as_slice() } else { part };
            events.extend([if said.by_client { 1 } else { 3 }, u8::try_from(part.len()).expect("short")]);
            events.extend(part);
        }
    }
    events
}

fn agree(way: Way, frames: &[Said], (asked, answered): (&[u8], &[u8]), outcome: &Outcome) {
    let said = |client: bool| -> Vec<u8> {
        frames.iter().filter(|said| said.by_client == client).flat_map(|said| said.bytes.clone()).collect()
    };
    let good = [true, false].map(|client| Good::of(&said(client), client, way.compressed));
    for (client, good) in [true, false].into_iter().zip(&good) {
        let said = said(client);
        let left = match (way.http2, client) {
            (true, true) => data_of(&outcome.to_server, 24),
            (true, false) => data_of(&outcome.to_client, 0),
            (false, true) => outcome.to_server.strip_prefix(asked).expect("the request left").to_vec(),
            (false, false) => outcome.to_client.strip_prefix(answered).expect("the answer left").to_vec(),
        };
        let shared = left.iter().zip(&said).take_while(|(left, said)| left == said).count();
        if outcome.end == End::Open {
            assert_eq!(shared, left.len(), "something else left than what was said");
        }
        // In HTTP/2 the begin of a frame leaves before it can be told.
        let held = if way.http2 { good.begun } else { 0 };
        let own = left.len() - shared;
        assert!(shared <= good.bytes + held + own, "{shared} bytes left of {said:?}, good are {good:?}");
        if good.is_all && outcome.end == End::Open {
            assert!(shared >= good.bytes, "{shared} of {good:?}");
        }
        if !way.compressed {
            let whole = &left[..if way.http2 { shared.min(good.bytes) } else { left.len() }];
            assert!(is_read(whole, client), "tungstenite finds fault with {whole:?} of the client: {client}");
        }
        if !is_read(&said, client) && !way.compressed {
            assert!(!good.is_all, "tungstenite finds fault with {said:?} of the client: {client}");
        }
    }
    if good.iter().all(|good| good.is_all) {
        assert_eq!(outcome.end, End::Open, "refused though nothing was wrong: {frames:?}");
    }
}

/// What DATA frames on stream 1 carry, behind a preface.
fn data_of(bytes: &[u8], preface: usize) -> Vec<u8> {
    let mut rest = bytes.get(preface..).unwrap_or_default();
    let mut data = Vec::new();
    while let Some(([a, b, c, kind, _, _, _, _, stream], behind)) = rest.split_first_chunk() {
        let length = usize::from(*a) * 65_536 + usize::from(*b) * 256 + usize::from(*c);
        let (payload, next) = behind.split_at(length.min(behind.len()));
        if (*kind, *stream) == (0, 1) {
            data.extend_from_slice(payload);
        }
        rest = next;
    }
    data
}

/// How far a stream of frames is as RFC 6455 has it, read plainly.
#[derive(Debug, Default)]
struct Good {
    /// Bytes of frames before the first wrong one; of the last one as far as its payload is here.
    bytes: usize,
    /// Bytes of a frame that may be there before it can be told.
    begun: usize,
    is_all: bool,
}

impl Good {
    fn of(said: &[u8], masks: bool, compressed: bool) -> Self {
        let (mut bytes, mut in_message, mut closed) = (0, false, false);
        loop {
            let rest = &said[bytes..];
            let begun = rest.len().min(2 + 8 + 4 + 125);
            match one(rest, masks, compressed, in_message, closed) {
                One::Wrong => return Self { bytes, begun, is_all: false },
                One::Incomplete => return Self { bytes, begun, is_all: true },
                One::Frame { header, payload, opcode, last } => {
                    if opcode < 8 {
                        in_message = !last;
                    }
                    closed |= opcode == 8;
                    let whole = header + payload;
                    if rest.len() < whole {
                        return Self { bytes: said.len(), begun, is_all: true };
                    }
                    bytes += whole;
                }
            }
        }
    }
}

enum One {
    Wrong,
    Incomplete,
    Frame { header: usize, payload: usize, opcode: u8, last: bool },
}

fn one(bytes: &[u8], masks: bool, compressed: bool, in_message: bool, closed: bool) -> One {
    let Some(first) = bytes.first() else { return One::Incomplete };
    let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
    let reserved = if compressed && matches!(opcode, 1 | 2) { first & 0x30 } else { first & 0x70 };
    let known = matches!(opcode, 0..=2 | 8..=10);
    let in_order = match opcode {
        0 => in_message,
        1 | 2 => !in_message,
        _ => last,
    };
    if closed || reserved != 0 || !known || !in_order {
        return One::Wrong;
    }
    let Some(second) = bytes.get(1) else { return One::Incomplete };
    let short = usize::from(second & 0x7f);
    if (second & 0x80 != 0) != masks || (opcode >= 8 && short > 125) {
        return One::Wrong;
    }
    let width = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(written) = bytes.get(2..2 + width) else { return One::Incomplete };
    let long = written.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let shortest = [0, 0, 126, 0, 0, 0, 0, 0, 65_536][width];
    if width > 0 && !(shortest..=1 << 30).contains(&long) {
        return One::Wrong;
    }
    let payload = if width > 0 { usize::try_from(long).expect("no more than 1 GiB") } else { short };
    let header = 2 + width + if masks { 4 } else { 0 };
    let key = if masks { bytes.get(2 + width..header) } else { Some(&[0; 4][..]) };
    let Some(key) = key else { return One::Incomplete };
    if opcode == 8 {
        let Some(text) = bytes.get(header..header + payload) else { return One::Incomplete };
        let text: Vec<u8> = text.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        if !is_close(&text) {
            return One::Wrong;
        }
    }
    One::Frame { header, payload, opcode, last }
}

/// A code that somebody may send, and text; or nothing.
fn is_close(text: &[u8]) -> bool {
    match text {
        [] => true,
        [high, low, text @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let known = (1000..=1014).contains(&code) && !matches!(code, 1004..=1006);
            (known || (3000..=4999).contains(&code)) && std::str::from_utf8(text).is_ok()
        }
        [_] => false,
    }
}

/// True if tungstenite has nothing against these frames; what they carry aside.
fn is_read(bytes: &[u8], of_client: bool) -> bool {
    let role = if of_client { Role::Server } else { Role::Client };
    let mut reader = WebSocket::from_raw_socket(Wire(Cursor::new(bytes)), role, None);
    loop {
        match reader.read() {
            Ok(_) => {}
            // The end of what is here.
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_)) => return true,
            Err(Error::Protocol(ProtocolError::InvalidCloseSequence)) => return false,
            Err(Error::Protocol(_)) => return false,
            // Text that is none, and whatever it stops for behind a close.
            Err(_) => return true,
        }
    }
}

/// Reads from bytes, and writes nowhere.
struct Wire<'a>(Cursor<&'a [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! WebSockets whose frames are checked, over both versions of HTTP.

use super::http2::{begin, frame, literal, stream};
use super::{Kind, answer_nothing, client, http2, long};
use bulkhead_facts::PathTemplate;
use bulkhead_policies::model::{HttpMatch, L7Section};

fn section() -> L7Section {
    let path = Some(PathTemplate::parse("/ok").expect("a path"));
    let only = HttpMatch { path, websocket: Some(true), frames_checked: true, ..HttpMatch::default() };
    L7Section::Http(vec![only])
}

/// A frame of a client, whose mask leaves its bytes as they are.
fn message(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short frame");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

pub(super) fn kind() -> Kind {
    let upgrade = b"GET /ok HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let frames = |frames: Vec<u8>| long(upgrade, |_| frames.clone());
    Kind {
        protocol: "WebSocket",
        section: section(),
        greeting: b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            .to_vec(),
        answer: answer_nothing,
        ordinary: client("ordinary", frames(message(0x81, &[b'x'; 100]))),
        hostile: vec![
            client("messages of nothing", frames(message(0x81, b""))),
            client("messages of one byte", frames(message(0x81, b"x"))),
            client("a message of nothing but fragments", {
                let begin = [upgrade.as_slice(), &message(0x01, b"")].concat();
                long(&begin, |_| message(0x00, b""))
            }),
            client("pings", frames(message(0x89, b""))),
            client("pings of 125 bytes", frames(message(0x89, &[b'x'; 125]))),
            client("frames of another kind", frames(message(0x83, b""))),
        ],
    }
}

pub(super) fn kind_in_http2() -> Kind {
    let connects = frame(4, 0, 0, &[0, 8, 0, 0, 0, 1]);
    // Method, protocol, path, scheme, host: 62 to 65 in the table.
    let asks = [
        &[0x86],
        literal(0x42, b"CONNECT").as_slice(),
        &[0x40],
        &literal(0, b":protocol")[1..],
        &literal(0, b"websocket")[1..],
        &literal(0x44, b"/ok"),
        &literal(0x41, b"a"),
    ]
    .concat();
    let again = [0x86, 0xc1, 0xc0, 0xbf, 0xbe];
    let pause = begin().len();
    let first = [begin(), frame(1, 4, 1, &asks)].concat();
    let one = |data: &[u8]| long(&first, |_| frame(0, 0, 1, data));
    let opened = |more: fn(usize) -> Vec<u8>| {
        long(&first, |number| {
            let id = stream(number + 1);
            [frame(1, 4, id, &again), more(id)].concat()
        })
    };
    let streams = vec![
        client("messages of nothing", one(&message(0x81, b""))),
        client("messages byte by byte", {
            let bytes = message(0x81, b"x");
            long(&first, |_| bytes.iter().flat_map(|byte| frame(0, 0, 1, &[*byte])).collect())
        }),
        client("many of them", opened(|_| Vec::new())),
        client("many with a begun frame each", opened(|id| frame(0, 0, id, &[0x81]))),
        client(
            "many with half a close each",
            opened(|id| frame(0, 0, id, &message(0x88, &[b'x'; 40])[..45])),
        ),
        client("pings", one(&message(0x89, b""))),
        client("frames of another kind", one(&message(0x83, b""))),
    ];
    Kind {
        protocol: "WebSocket/2",
        section: section(),
        greeting: connects,
        answer: http2::answer,
        ordinary: client("ordinary", one(&message(0x81, &[b'x'; 100]))).after(pause),
        hostile: streams.into_iter().map(|client| client.after(pause)).collect(),
    }
}

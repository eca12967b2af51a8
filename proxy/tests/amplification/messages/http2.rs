//! HTTP/2.

use super::{Client, Kind, client, http1, letters, long};

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: usize, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let stream = u32::try_from(stream).expect("few streams").to_be_bytes();
    [&length, [kind, flags].as_slice(), &stream, payload].concat()
}

/// The first bytes of a client.
pub(super) fn begin() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(4, 1, 0, &[])].concat()
}

/// Number of a stream.
pub(super) fn stream(number: usize) -> usize {
    2 * number + 1
}

/// Method and scheme.
const GET: &[u8] = &[0x82, 0x86];
/// Flags of HEADERS: the block ends, and with it what is said; or it does not.
const WHOLE: u8 = 5;
const OPEN: u8 = 4;

pub(super) fn literal(index: u8, value: &[u8]) -> Vec<u8> {
    [&[index, u8::try_from(value.len()).expect("a short value")], value].concat()
}

/// A request that leaves host and path in the table, as 63 and 62.
fn first(path: &[u8]) -> Vec<u8> {
    [GET, &literal(0x41, b"a"), &literal(0x44, path)].concat()
}

/// The same request from the table, with more behind it.
fn again(more: &[u8]) -> Vec<u8> {
    [GET, &[0xbf, 0xbe], more].concat()
}

/// A request that leaves nothing in the table.
fn plain(host: &[u8], path: &[u8], more: &[u8]) -> Vec<u8> {
    [GET, &literal(0x01, host), &literal(0x04, path), more].concat()
}

fn with(frames: &[u8]) -> Vec<u8> {
    [&begin(), frames].concat()
}

/// The first request, and then others on a stream each.
fn requests(first: &[u8], flags: u8, block: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    long(&with(&frame(1, flags, 1, first)), |number| frame(1, flags, stream(number + 1), &block(number)))
}

pub(super) fn kind() -> Kind {
    Kind {
        protocol: "HTTP/2",
        section: http1::section(),
        greeting: frame(4, 0, 0, &[]),
        answer,
        ordinary: client("ordinary", ordinary()),
        hostile: streams().into_iter().chain(blocks()).chain(controls()).chain(bodies()).collect(),
    }
}

/// What they have in common is in the table; each has an identifier of its own.
fn ordinary() -> Vec<u8> {
    let (agent, accept) = (literal(0x7a, b"client/1.0"), literal(0x53, b"*/*"));
    let identified = [&[0x40], &literal(4, b"x-id")[1..], &literal(0, &[b'0'; 32])[1..]].concat();
    let first = [first(b"/ok"), agent, accept, identified].concat();
    requests(&first, WHOLE, |number| {
        let id = format!("{number:032}");
        [GET, &[0xc2, 0xc1, 0xc0, 0xbf, 0x0f], &literal(0x2f, id.as_bytes())].concat()
    })
}

/// A field from the static table that says nothing: many of them are harmless.
fn harmless(number: usize) -> u8 {
    let all: Vec<u8> = (15..=61).filter(|index| ![28, 38, 57].contains(index)).collect();
    0x80 | all[number % all.len()]
}

/// One to three such fields, of each number others.
fn unlike(number: usize) -> Vec<u8> {
    let mut block = again(&[harmless(number)]);
    block.extend((number >= 44).then(|| harmless(number / 44)));
    block.extend((number >= 44 * 44).then(|| harmless(number / 44 / 44)));
    block
}

fn streams() -> Vec<Client> {
    let same = |path: &[u8], flags: u8| requests(&first(path), flags, |_| again(&[]));
    let other = |flags: u8| requests(&first(b"/ok"), flags, unlike);
    let hosts = |number: usize| plain(letters(number).as_bytes(), b"/ok", &[]);
    let paths =
        |number: usize| [GET, &[0xbf], &literal(0x04, format!("/{}", letters(number)).as_bytes())].concat();
    let grpc = [first(b"/no"), literal(0x5f, b"application/grpc")].concat();
    let open = with(&frame(1, OPEN, 1, &first(b"/ok")));
    vec![
        client("requests of thirteen bytes", same(b"/ok", WHOLE)),
        client("many streams", same(b"/ok", OPEN)),
        client("requests that are all different", other(WHOLE)),
        client("streams that are all different", other(OPEN)),
        client("other hosts", requests(&first(b"/ok"), WHOLE, hosts)),
        client("streams of other hosts", requests(&first(b"/ok"), OPEN, hosts)),
        client("denied requests", same(b"/no", WHOLE)),
        client("denied requests that stay open", same(b"/no", OPEN)),
        client("denied ones of other paths", requests(&first(b"/no"), WHOLE, paths)),
        client("denied calls", requests(&grpc, WHOLE, |_| [GET, &[0xc0, 0xbf, 0xbe]].concat())),
        client("requests that are none", requests(&first(b"/ok"), WHOLE, |_| GET.to_vec())),
        client(
            "requests given up",
            long(&open, |number| {
                let id = stream(number + 1);
                [frame(1, OPEN, id, &again(&[])), frame(3, 0, id, &[0, 0, 0, 8])].concat()
            }),
        ),
        client(
            "requests with trailers",
            long(&open, |number| {
                let id = stream(number + 1);
                let trailers = frame(1, WHOLE, id, &[0x90]);
                [frame(1, OPEN, id, &again(&[])), frame(0, 0, id, b"x"), trailers].concat()
            }),
        ),
    ]
}

fn blocks() -> Vec<Client> {
    // One field of so many bytes, named again and again.
    let large = |size: usize| {
        let mut block = [GET, &literal(0x41, b"a"), &literal(0x44, b"/ok"), &[0x40, 1, b'x', 0x7f]].concat();
        let rest = size - 127;
        block.extend([
            0x80 | u8::try_from(rest % 128).expect("seven bits"),
            u8::try_from(rest / 128).expect("few"),
        ]);
        block.extend(vec![b'y'; size]);
        block
    };
    let bomb = |size: usize, flags: u8, count: usize| {
        requests(&large(size), flags, move |_| [GET, &[0xc0, 0xbf], &vec![0xbe; count]].concat())
    };
    let cookies = [first(b"/ok"), literal(0x60, &[b'c'; 25])].concat();
    let zeros = [&[0x00, 1, b'x', 0xff, 0xd1, 0x0e], [0; 2_000].as_slice()].concat();
    let small = [0x40, 1, b'x', 0].repeat(200);
    let begun = with(&frame(1, 0, 1, GET));
    vec![
        client("a field named again and again", bomb(600, WHOLE, 13)),
        client("the same on open streams", bomb(600, OPEN, 13)),
        client("a field named too often", bomb(600, WHOLE, 100)),
        client("a field named once in each request", bomb(600, OPEN, 1)),
        client("half the table named in each request", bomb(1_900, WHOLE, 4)),
        client("the whole table named in each request", bomb(3_900, WHOLE, 2)),
        client("the same on streams that stay open", bomb(3_900, OPEN, 2)),
        client("many cookies", requests(&cookies, WHOLE, |_| [GET, &[0xc0, 0xbf], &[0xbe; 240]].concat())),
        client(
            "entries that make room for others",
            requests(&first(b"/ok"), WHOLE, |_| plain(b"a", b"/ok", &small)),
        ),
        client("strings that are compressed", requests(&first(b"/ok"), WHOLE, |_| again(&zeros))),
        client("a block that never ends", long(&begun, |_| frame(9, 0, 1, &[]))),
        client("a block byte by byte", long(&begun, |_| frame(9, 0, 1, &[0x86]))),
        client(
            "blocks byte by byte",
            long(&with(&frame(1, WHOLE, 1, &first(b"/ok"))), |number| {
                let id = stream(number + 1);
                let next = |flags: u8, byte: u8| frame(9, flags, id, &[byte]);
                [frame(1, 1, id, &[0x82]), next(0, 0x86), next(0, 0xbf), next(4, 0xbe)].concat()
            }),
        ),
        client("a table of many entries, a large request and small ones", {
            let request = [GET, &[0xc0, 0xbf], &[0xbe; 4]].concat();
            let small = plain(b"a", b"/ok", &[0x40, 1, b'x', 0].repeat(60));
            let frames =
                [frame(1, OPEN, 1, &large(300)), frame(1, OPEN, 3, &request), frame(1, OPEN, 5, &small)];
            long(&with(&frames.concat()), |number| {
                frame(1, OPEN, stream(number + 3), &plain(b"a", b"/ok", &[harmless(number)]))
            })
        }),
        client(
            "table sizes",
            requests(&first(b"/ok"), WHOLE, |_| {
                [&[0x20, 0x3f, 0xe1, 0x1f], first(b"/ok").as_slice()].concat()
            }),
        ),
    ]
}

fn controls() -> Vec<Client> {
    let (begin, open) = (begin(), with(&frame(1, OPEN, 1, &first(b"/ok"))));
    vec![
        client("pings", long(&begin, |_| frame(6, 0, 0, b"12345678"))),
        client("settings", long(&begin, |_| frame(4, 0, 0, &[]))),
        client("settings of many values", long(&begin, |_| frame(4, 0, 0, &[0, 4, 0, 0, 1, 0].repeat(100)))),
        client("windows byte by byte", long(&open, |_| frame(8, 0, 1, &[0, 0, 0, 1]))),
        client("windows of the connection", long(&open, |_| frame(8, 0, 0, &[0, 0, 0, 1]))),
        client("priorities", long(&begin, |number| frame(2, 0, stream(number), &[0, 0, 0, 0, 1]))),
        client("frames of no kind", long(&begin, |_| frame(200, 0, 0, &[]))),
        client("goodbyes", long(&open, |_| frame(7, 0, 0, &[0; 8]))),
        client(
            "all that a stream earns",
            long(&open, |number| {
                let id = stream(number + 1);
                let empty = frame(0, 0, id, &[]);
                let (ping, end) = (frame(6, 0, 0, b"12345678"), frame(0, 1, id, &[]));
                [frame(1, OPEN, id, &again(&[])), empty.clone(), empty, ping, end].concat()
            }),
        ),
    ]
}

fn bodies() -> Vec<Client> {
    let open = with(&frame(1, OPEN, 1, &first(b"/ok")));
    let denied = with(&frame(1, OPEN, 1, &first(b"/no")));
    vec![
        client("a body byte by byte", long(&open, |_| frame(0, 0, 1, b"x"))),
        client("a body of padding", long(&open, |_| frame(0, 8, 1, &[&[200][..], &[0; 200]].concat()))),
        client("bodies of nothing", long(&open, |_| frame(0, 0, 1, &[]))),
        client("bodies of denied requests", long(&denied, |_| frame(0, 0, 1, b"x"))),
        client(
            "denied requests with a body each",
            long(&denied, |number| {
                let id = stream(number + 1);
                [frame(1, OPEN, id, &again(&[])), frame(0, 1, id, b"x")].concat()
            }),
        ),
    ]
}

/// Answers each request that is complete with `204`.
pub(super) fn answer(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    if pending.starts_with(b"PRI") {
        pending.drain(..24.min(pending.len()));
    }
    while let Some(&[a, b, c, kind, flags, ..]) = pending.first_chunk::<9>() {
        let length = 9 + usize::from(a) * 65_536 + usize::from(b) * 256 + usize::from(c);
        if pending.len() < length {
            return;
        }
        let one: Vec<u8> = pending.drain(..length).collect();
        let stream = [one[5], one[6], one[7], one[8]];
        match (kind, flags & 1) {
            (0 | 1, 1) => out.extend([&[0, 0, 1, 1, 5], stream.as_slice(), &[0x89]].concat()),
            (4, 0) => out.extend(frame(4, 1, 0, &[])),
            (6, 0) => out.extend(frame(6, 1, 0, &one[9..])),
            _ => {}
        }
    }
}

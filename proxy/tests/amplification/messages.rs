//! What clients send who mean to cost more than they spend, and what ordinary ones send.

use bulkhead_facts::{NamePattern, PathTemplate, PostgresStatement};
use bulkhead_policies::model::{
    HttpMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch,
};

/// Reads requests and writes answers to them.
pub(super) type Answer = fn(&mut Vec<u8>, &mut Vec<u8>);

/// Clients of one protocol.
pub(super) struct Kind {
    pub(super) protocol: &'static str,
    /// What may pass.
    pub(super) section: L7Section,
    /// What a server says after the first bytes.
    pub(super) greeting: Vec<u8>,
    /// What a server that goes on says to what it has received; it takes out what it is done with.
    pub(super) answer: Answer,
    /// What an ordinary client sends, after which others are measured.
    pub(super) ordinary: Vec<u8>,
    /// Of each: what it is, and the bytes from the first on.
    pub(super) hostile: Vec<(&'static str, Vec<u8>)>,
}

/// Bytes of each client; one that stops earlier has no more to say.
pub(super) const BYTES: usize = 64 * 1024;

pub(super) fn all() -> Vec<Kind> {
    vec![http1(), http2(), tls(), redis(), postgres(), kafka()]
}

/// The beginning, and then the same again and again.
fn long(begin: &[u8], again: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = begin.to_vec();
    let mut number = 0;
    while bytes.len() < BYTES {
        let more = again(number);
        if more.is_empty() {
            break;
        }
        bytes.extend(more);
        number += 1;
    }
    bytes
}

fn http1() -> Kind {
    let head = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n");
    let path = PathTemplate::parse("/ok").expect("a path");
    let post = |fields: &str| format!("POST /ok HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let chunked = post("transfer-encoding: chunked\r\n");
    let text = |begin: String, again: &str| long(begin.as_bytes(), |_| again.as_bytes().to_vec());
    Kind {
        protocol: "HTTP/1",
        section: L7Section::Http(vec![HttpMatch { path: Some(path), ..HttpMatch::default() }]),
        greeting: Vec::new(),
        answer: answer_http1,
        ordinary: text(head("/ok") + "user-agent: client/1.0\r\naccept: */*\r\n\r\n", ""),
        hostile: vec![
            ("half a head", text(head("/ok") + "x: ", "y")),
            ("a head of many fields", text(head("/ok"), "a: b\r\n")),
            ("many requests", text(String::new(), &(head("/ok") + "\r\n"))),
            ("denied requests", text(String::new(), &(head("/no") + "\r\n"))),
            ("a path of many readings", text(String::new(), &(head("/%2e%2e/./a;b//c%2fd") + "\r\n"))),
            ("a body", text(post("content-length: 99999999\r\n"), "x")),
            ("a body in chunks", text(chunked.clone(), "1\r\nx\r\n")),
            ("chunks with extensions", text(chunked, "1;a=b;c=\"d\"\r\nx\r\n")),
        ],
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: usize, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let stream = u32::try_from(stream).expect("few streams").to_be_bytes();
    [&length, [kind, flags].as_slice(), &stream, payload].concat()
}

fn http2() -> Kind {
    const GET: &[u8] = &[0x82, 0x86];
    let literal = |index: u8, value: &[u8]| {
        [&[index, u8::try_from(value.len()).expect("a short value")], value].concat()
    };
    let begin =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(4, 1, 0, &[])].concat();
    // The first request leaves host and path in the table, as 63 and 62.
    let first = |path: &[u8]| [GET, &literal(0x41, b"a"), &literal(0x44, path)].concat();
    let with = |frames: Vec<u8>| [begin.clone(), frames].concat();
    let stream = |number: usize| 2 * number + 1;
    let indexed = [GET, &[0xbf, 0xbe]].concat();
    let requests = |path: &[u8], flags: u8| {
        let first = frame(1, flags, 1, &first(path));
        long(&with(first), |number| frame(1, flags, stream(number + 1), &indexed))
    };
    // One field of 600 bytes, named again and again.
    let large = {
        let mut block = [GET, &literal(0x41, b"a"), &literal(0x44, b"/ok")].concat();
        block.extend([0x40, 1, b'x', 0x7f, 0xd9, 0x03]);
        block.extend([b'y'; 600]);
        block
    };
    let again = |count: usize| [GET, &[0xc0, 0xbf], &vec![0xbe; count]].concat();
    let bomb = |flags: u8, count: usize| {
        let first = frame(1, 5, 1, &large);
        long(&with(first), |number| frame(1, flags, stream(number + 1), &again(count)))
    };
    let open = with(frame(1, 4, 1, &first(b"/ok")));
    Kind {
        protocol: "HTTP/2",
        section: http1().section,
        greeting: frame(4, 0, 0, &[]),
        answer: answer_http2,
        ordinary: requests(b"/ok", 5),
        hostile: vec![
            ("denied requests", requests(b"/no", 5)),
            ("denied requests that stay open", requests(b"/no", 4)),
            ("many streams", requests(b"/ok", 4)),
            ("a field named again and again", bomb(5, 100)),
            ("the same on open streams", bomb(4, 100)),
            ("a field named once in each request", bomb(4, 1)),
            ("a block that never ends", long(&with(frame(1, 0, 1, GET)), |_| frame(9, 0, 1, &[]))),
            ("a block byte by byte", long(&with(frame(1, 0, 1, GET)), |_| frame(9, 0, 1, &[0x86]))),
            (
                "requests given up",
                long(&open, |number| {
                    let id = stream(number + 1);
                    [frame(1, 4, id, &indexed), frame(3, 0, id, &[0, 0, 0, 8])].concat()
                }),
            ),
            ("pings", long(&begin, |_| frame(6, 0, 0, b"12345678"))),
            ("settings", long(&begin, |_| frame(4, 0, 0, &[]))),
            ("settings of many values", long(&begin, |_| frame(4, 0, 0, &[0, 4, 0, 0, 1, 0].repeat(100)))),
            ("windows byte by byte", long(&open, |_| frame(8, 0, 1, &[0, 0, 0, 1]))),
            ("windows of the connection", long(&open, |_| frame(8, 0, 0, &[0, 0, 0, 1]))),
            ("a body byte by byte", long(&open, |_| frame(0, 0, 1, b"x"))),
            ("a body of padding", long(&open, |_| frame(0, 8, 1, &[&[200][..], &[0; 200]].concat()))),
            ("bodies of nothing", long(&open, |_| frame(0, 0, 1, &[]))),
            ("priorities", long(&open, |number| frame(2, 0, stream(number), &[0, 0, 0, 0, 1]))),
            ("frames of no kind", long(&begin, |_| frame(200, 0, 0, &[]))),
            (
                "bodies of denied requests",
                long(&with(frame(1, 4, 1, &first(b"/no"))), |_| frame(0, 0, 1, b"x")),
            ),
            (
                "table sizes",
                long(&begin, |number| {
                    let sizes = [0x20, 0x3f, 0xe1, 0x1f];
                    frame(1, 5, stream(number), &[&sizes[..], &first(b"/ok")].concat())
                }),
            ),
        ],
    }
}

fn tls() -> Kind {
    let name = NamePattern::parse("open.test").expect("a name");
    let record = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("a short record").to_be_bytes();
        [&[0x16, 3, 1], length.as_slice(), bytes].concat()
    };
    let hello = |name: &str, more: &[u8]| {
        let length = |count: usize| u16::try_from(count).expect("short").to_be_bytes();
        let host = [&[0], length(name.len()).as_slice(), name.as_bytes()].concat();
        let list = [length(host.len()).as_slice(), &host].concat();
        let extension = [&[0, 0], length(list.len()).as_slice(), &list].concat();
        let extensions = [&extension, more].concat();
        let body =
            [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2f, 1, 0], &length(extensions.len()), &extensions]
                .concat();
        [&[1, 0], length(body.len()).as_slice(), &body].concat()
    };
    let many: Vec<u8> = (100..4_100u16).flat_map(|kind| [kind.to_be_bytes(), [0, 0]].concat()).collect();
    let protocols = {
        let names = [1, b'h'].repeat(4_000);
        let length = |count: usize| u16::try_from(count).expect("short").to_be_bytes();
        [&[0, 16], length(names.len() + 2).as_slice(), &length(names.len()), &names].concat()
    };
    let bytewise = |message: &[u8]| message.iter().flat_map(|byte| record(&[*byte])).collect::<Vec<u8>>();
    Kind {
        protocol: "TLS",
        section: L7Section::Tls(TlsMatch { sni: vec![name], ..TlsMatch::default() }),
        greeting: Vec::new(),
        answer: answer_nothing,
        ordinary: record(&hello("open.test", &[])),
        hostile: vec![
            ("a denied name", record(&hello("secret.test", &[]))),
            ("records of one byte", bytewise(&hello("open.test", &many))),
            ("many extensions", record(&hello("open.test", &many[..15_000]))),
            ("many protocols", record(&hello("open.test", &protocols))),
        ],
    }
}

fn redis() -> Kind {
    let section = RedisMatch { commands: vec!["get".to_owned(), "del".to_owned()], ..RedisMatch::default() };
    let text = |begin: &str, again: &str| long(begin.as_bytes(), |_| again.as_bytes().to_vec());
    Kind {
        protocol: "Redis",
        section: L7Section::Redis(vec![section]),
        greeting: Vec::new(),
        answer: answer_redis,
        ordinary: text("", "*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n"),
        hostile: vec![
            ("denied commands", text("", "*1\r\n$8\r\nFLUSHALL\r\n")),
            ("denied lines", text("", "X\r\n")),
            ("lines", text("", "GET a\r\n")),
            ("a command of many keys", text("*9999\r\n$3\r\nDEL\r\n", "$1\r\na\r\n")),
            ("a command of empty keys", text("*9999\r\n$3\r\nDEL\r\n", "$0\r\n\r\n")),
            ("a line that never ends", text("GET ", "a")),
            ("a line of many words", text("DEL ", "a ")),
            ("a denied command of many arguments", text("*9999\r\n$4\r\nEVAL\r\n", "$1\r\n1\r\n")),
        ],
    }
}

fn postgres() -> Kind {
    let message = |kind: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).expect("a length").to_be_bytes();
        [&[kind], length.as_slice(), body].concat()
    };
    let begin = b"\0\0\0\x13\0\x03\0\0user\0apps\0\0";
    let read = PostgresMatch { statements: vec![PostgresStatement::Select], ..PostgresMatch::default() };
    let query = |text: &str| message(b'Q', format!("{text}\0").as_bytes());
    let named = |number: usize| format!("{number:x}\0");
    let parse =
        |number: usize, text: &str| message(b'P', format!("{}{text}\0\0\0", named(number)).as_bytes());
    let many = |text: &str, times: usize| query(&format!("select {}", text.repeat(times)));
    Kind {
        protocol: "PostgreSQL",
        section: L7Section::Postgres(vec![read]),
        greeting: b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".to_vec(),
        answer: answer_postgres,
        ordinary: long(begin, |_| query("select id, name from orders where id = 7")),
        hostile: vec![
            ("denied statements", long(begin, |_| query("drop a"))),
            ("empty statements", long(begin, |_| query(";"))),
            ("prepared statements", long(begin, |number| parse(number, "select"))),
            ("denied ones", long(begin, |number| [parse(number, "drop"), message(b'S', b"")].concat())),
            (
                "portals",
                long(begin, |number| message(b'B', format!("{}\0\0\0\0\0\0\0", named(number)).as_bytes())),
            ),
            ("syncs", long(begin, |_| message(b'S', b""))),
            ("a statement of many parts", long(begin, |_| many("1;", 400))),
            ("a statement of parentheses", long(begin, |_| many("(", 800))),
            ("a statement of comments", long(begin, |_| many("/*", 400))),
            ("a statement of quotes", long(begin, |_| many("$a$", 267))),
            ("parameters of a session", {
                let names: String = (0..2_000).map(|number| format!("{number:x}\0\0")).collect();
                let body = format!("user\0a\0{names}\0");
                let length = u32::try_from(body.len() + 8).expect("short").to_be_bytes();
                [length.as_slice(), &[0, 3, 0, 0], body.as_bytes()].concat()
            }),
        ],
    }
}

fn kafka() -> Kind {
    let request = |api: u16, version: u16, body: &[u8]| {
        let size = u32::try_from(body.len() + 11).expect("a length").to_be_bytes();
        let head = [api.to_be_bytes(), version.to_be_bytes()].concat();
        [size.as_slice(), &head, &[0, 0, 0, 7, 0, 1, b'c'], body].concat()
    };
    let metadata = |topics: usize| {
        let names: Vec<u8> = (0..topics).flat_map(|number| name(number % 676)).collect();
        let count = u32::try_from(topics).expect("few").to_be_bytes();
        request(3, 5, &[count.as_slice(), &names, &[1]].concat())
    };
    let fetch = |session: u8, epoch: u8, topics: usize| {
        let names: Vec<u8> = (0..topics).flat_map(|number| [name(number), vec![0; 4]].concat()).collect();
        let count = u32::try_from(topics).expect("few").to_be_bytes();
        let begin = [[0; 17].as_slice(), &[0, 0, 0, session, 0, 0, 0, epoch], &count].concat();
        request(1, 11, &[begin.as_slice(), &names, &[0; 6]].concat())
    };
    let topics = vec![TopicMatch::Prefix("t".to_owned())];
    Kind {
        protocol: "Kafka",
        section: L7Section::Kafka(vec![KafkaMatch { topics, ..KafkaMatch::default() }]),
        greeting: Vec::new(),
        answer: answer_kafka,
        ordinary: long(&[], |_| metadata(4)),
        hostile: vec![
            ("many topics", long(&[], |_| metadata(190))),
            ("a topic again and again", long(&[], |_| metadata(4_000))),
            ("fetches of many topics", long(&[], |_| fetch(0, 0, 90))),
            ("sessions that go on", long(&[], |number| fetch(5, u8::from(number > 0), 60))),
            ("small requests", long(&[], |_| metadata(1))),
            ("denied requests", long(&[], |_| request(20, 0, &[]))),
        ],
    }
}

/// A topic of three letters.
fn name(number: usize) -> Vec<u8> {
    let letter = |at: usize| b'a' + u8::try_from(at % 26).expect("a letter");
    vec![0, 3, b't', letter(number / 26), letter(number)]
}

fn answer_nothing(pending: &mut Vec<u8>, _: &mut Vec<u8>) {
    pending.clear();
}

/// One answer for each head; what bodies say does not matter here.
fn answer_http1(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    while let Some(at) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
        pending.drain(..at + 4);
        out.extend(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
}

fn answer_http2(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
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
            // A request that is complete.
            (1, 1) => out.extend([&[0, 0, 1, 1, 5], stream.as_slice(), &[0x89]].concat()),
            (4, 0) => out.extend(frame(4, 1, 0, &[])),
            (6, 0) => out.extend(frame(6, 1, 0, &one[9..])),
            _ => {}
        }
    }
}

fn answer_redis(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    for _ in pending.windows(3).filter(|name| *name == b"GET" || *name == b"DEL") {
        out.extend(b"+OK\r\n");
    }
    pending.clear();
}

fn answer_postgres(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    if pending.first() == Some(&0) {
        let length = pending.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
        pending.drain(..pending.len().min(usize::try_from(length).expect("short")));
    }
    while let Some(&[kind, a, b, c, d]) = pending.first_chunk() {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("short") + 1;
        if pending.len() < length {
            return;
        }
        pending.drain(..length);
        match kind {
            b'Q' => out.extend(b"C\0\0\0\x06a\0Z\0\0\0\x05I"),
            b'P' => out.extend(b"1\0\0\0\x04"),
            b'B' => out.extend(b"2\0\0\0\x04"),
            b'S' => out.extend(b"Z\0\0\0\x05I"),
            _ => {}
        }
    }
}

fn answer_kafka(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    while let Some(length) = pending.first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("short") + 4;
        if pending.len() < length {
            return;
        }
        pending.drain(..length);
        out.extend([0, 0, 0, 4, 0, 0, 0, 7]);
    }
}

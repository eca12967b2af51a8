//! Who asks and who answers: requests as wrk and h2load write them, answers as nginx does, so many at a time.

use super::program::{GRPC_PORT, HTTP1_PORT, HTTP2_PORT};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// What is asked, and how many at a time.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Requests in a round; the next begins once all are answered.
    pub(crate) at_once: usize,
    /// Each has a path and an identifier of its own.
    pub(crate) distinct: bool,
}

/// The protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http1,
    Http2,
    Grpc,
}

/// All of them.
pub(crate) const WORKLOADS: [Workload; 8] = [
    workload("HTTP/1.1, one after the other", Kind::Http1, 1, false),
    workload("HTTP/1.1, one after the other, distinct", Kind::Http1, 1, true),
    workload("HTTP/2, 32 streams", Kind::Http2, 32, false),
    workload("HTTP/2, 32 streams, distinct", Kind::Http2, 32, true),
    workload("HTTP/2, one after the other", Kind::Http2, 1, false),
    workload("gRPC, 32 streams", Kind::Grpc, 32, false),
    workload("gRPC, 32 streams, distinct", Kind::Grpc, 32, true),
    workload("gRPC, one after the other", Kind::Grpc, 1, false),
];

const fn workload(name: &'static str, kind: Kind, at_once: usize, distinct: bool) -> Workload {
    Workload { name, kind, at_once, distinct }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:path: /svc50/1k` in Huffman code, which clients put into no table.
const PATH: &[u8] = &[0x04, 0x87, 0x61, 0x1d, 0xc8, 0xd8, 0x18, 0x0f, 0x5f];

impl Kind {
    /// The port whose rules hold.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Http1 => HTTP1_PORT,
            Self::Http2 => HTTP2_PORT,
            Self::Grpc => GRPC_PORT,
        }
    }

    /// The request with this number.
    fn request(self, number: usize, distinct: bool) -> Vec<u8> {
        let id = u32::try_from(number * 2 + 1).expect("a stream");
        let mut out = Vec::new();
        let identifier = format!("{:032x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut own = vec![0];
        text(&mut own, b"x-request-id");
        huffman(&mut own, identifier.as_bytes());
        let own = if distinct { own } else { Vec::new() };
        match self {
            Self::Http1 if distinct => out.extend_from_slice(
                format!(
                    "GET /svc50/{} HTTP/1.1\r\nHost: 10.0.0.1:8080\r\nX-Request-Id: {identifier}\r\n\r\n",
                    1000 + number
                )
                .as_bytes(),
            ),
            Self::Http1 => out.extend_from_slice(b"GET /svc50/1k HTTP/1.1\r\nHost: 10.0.0.1:8080\r\n\r\n"),
            Self::Http2 => {
                let path = match distinct {
                    true => {
                        let mut path = vec![4];
                        huffman(&mut path, format!("/svc50/{}", 1000 + number).as_bytes());
                        path
                    }
                    false => PATH.to_vec(),
                };
                let block = [path, named(number, self), own].concat();
                frame(&mut out, HEADERS, END_STREAM | END_HEADERS, id, &block);
            }
            Self::Grpc => {
                let block = [literal(4, b"/bench.v1.Service50/Echo"), named(number, self), own].concat();
                frame(&mut out, HEADERS, END_HEADERS, id, &block);
                frame(&mut out, DATA, END_STREAM, id, &message());
            }
        }
        out
    }

    /// The answer to it.
    fn answer(self, id: u32) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Http1 => {
                out.extend_from_slice(
                    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 26 Nov 2026 09:00:00 GMT\r\n\
                    Content-Type: text/plain\r\nContent-Length: 1024\r\nLast-Modified: Thu, 26 Nov 2026 08:00:00 GMT\r\n\
                    Connection: keep-alive\r\nETag: \"6566fd00-400\"\r\nAccept-Ranges: bytes\r\n\r\n",
                );
                out.extend_from_slice(&[b'x'; 1024]);
            }
            Self::Http2 => {
                frame(&mut out, HEADERS, END_HEADERS, id, &told(b"text/plain", b"1024"));
                frame(&mut out, DATA, END_STREAM, id, &[b'x'; 1024]);
            }
            Self::Grpc => {
                frame(&mut out, HEADERS, END_HEADERS, id, &told(b"application/grpc", b"64"));
                frame(&mut out, DATA, END_STREAM, id, &message());
            }
        }
        out
    }
}

/// One message of gRPC.
fn message() -> Vec<u8> {
    [0, 0, 0, 0, 59].into_iter().chain([b'x'; 59]).collect()
}

/// Fields of the request with this number: put into the table by the first one, and named by all others.
fn named(number: usize, kind: Kind) -> Vec<u8> {
    let method = if kind == Kind::Grpc { 0x83 } else { 0x82 };
    let mut block = vec![method, 0x86];
    let port = kind.port();
    let fields: &[(&[u8], &[u8])] = match kind {
        Kind::Grpc => &[(b"content-type", b"application/grpc"), (b"te", b"trailers")],
        Kind::Http1 | Kind::Http2 => &[],
    };
    let known = u8::try_from(fields.len()).expect("few") + 2;
    if number > 0 {
        // The newest is 62.
        block.extend((0..known).map(|at| 0x80 | (61 + known - at)));
        return block;
    }
    block.push(0x41);
    text(&mut block, format!("10.0.0.1:{port}").as_bytes());
    block.push(0x7a);
    text(&mut block, b"h2load nghttp2/1.52.0");
    for (name, value) in fields {
        block.push(0x40);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// The header block of an answer, as nginx writes it: no table.
fn told(content: &[u8], length: &[u8]) -> Vec<u8> {
    let date: &[u8] = b"Thu, 26 Nov 2026 09:00:00 GMT";
    let fields: [(u8, &[u8]); 6] = [
        (54, b"nginx/1.22.1"),
        (33, date),
        (31, content),
        (28, length),
        (44, date),
        (34, b"\"6566fd00-400\""),
    ];
    fields.into_iter().fold(vec![0x88], |block, (name, value)| [block, literal(name, value)].concat())
}

/// A field with a name of the static table that goes into no table.
fn literal(name: u8, value: &[u8]) -> Vec<u8> {
    let mut out = if name < 15 { vec![name] } else { vec![15, name - 15] };
    text(&mut out, value);
    out
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).expect("a short text"));
    out.extend_from_slice(bytes);
}

/// A text of slashes, digits and few letters in Huffman code, as clients write what varies.
fn huffman(out: &mut Vec<u8>, bytes: &[u8]) {
    const FIVE: &[u8] = b"012aceiost";
    let (mut code, mut bits): (Vec<u8>, String) = Default::default();
    for byte in bytes {
        bits += &match FIVE.iter().position(|five| five == byte) {
            Some(at) => format!("{at:05b}"),
            None => match byte {
                b'/' => format!("{:06b}", 0x18),
                b'3'..=b'9' => format!("{:06b}", 0x19 + byte - b'3'),
                b'b' => format!("{:06b}", 0x23),
                b'd' => format!("{:06b}", 0x24),
                b'f' => format!("{:06b}", 0x25),
                b'v' => format!("{:07b}", 0x77),
                other => panic!("no code for {other}"),
            },
        };
    }
    bits += &"1".repeat((8 - bits.len() % 8) % 8);
    code.extend((0..bits.len()).step_by(8).map(|at| u8::from_str_radix(&bits[at..at + 8], 2).expect("bits")));
    out.push(0x80 | u8::try_from(code.len()).expect("a short text"));
    out.extend_from_slice(&code);
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Asks so many times, each time once everything before was answered.
pub(crate) fn ask(workload: &Workload, entrance: SocketAddr, rounds: usize) {
    let Workload { kind, at_once, distinct, .. } = *workload;
    let mut stream = TcpStream::connect(entrance).expect("sessions");
    stream.set_nodelay(true).expect("a socket");
    let mut pending = Vec::new();
    if kind != Kind::Http1 {
        let mut out = PREFACE.to_vec();
        frame(&mut out, SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0, 0, 4, 0x3f, 0xff, 0xff, 0xff]);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &[0x3f, 0xff, 0, 0]);
        stream.write_all(&out).expect("sessions");
    }
    for round in 0..rounds {
        let numbers = round * at_once..(round + 1) * at_once;
        let out: Vec<u8> = numbers.flat_map(|number| kind.request(number, distinct)).collect();
        stream.write_all(&out).expect("sessions");
        let mut answered = 0;
        while answered < at_once {
            read(&mut stream, &mut pending);
            answered += match kind {
                Kind::Http1 => usize::from(take_message(&mut pending, 1024)),
                Kind::Http2 | Kind::Grpc => ended_streams(&mut pending).len(),
            };
        }
    }
}

/// It answers what came together by one write.
pub(crate) fn origin(kind: Kind) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_nodelay(true).expect("a socket");
        let (mut pending, mut out) = (Vec::new(), Vec::new());
        if kind != Kind::Http1 {
            frame(&mut out, SETTINGS, 0, 0, &[]);
            stream.write_all(&out).expect("a client");
        }
        loop {
            out.clear();
            let Some(()) = try_read(&mut stream, &mut pending) else { return };
            match kind {
                Kind::Http1 => {
                    while take_message(&mut pending, 0) {
                        out.extend_from_slice(&kind.answer(0));
                    }
                }
                Kind::Http2 | Kind::Grpc => {
                    if pending.starts_with(PREFACE) {
                        pending.drain(..PREFACE.len());
                    }
                    for id in ended_streams(&mut pending) {
                        out.extend_from_slice(&kind.answer(id));
                    }
                }
            }
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    });
    address
}

fn read(stream: &mut TcpStream, pending: &mut Vec<u8>) {
    try_read(stream, pending).expect("sessions that do not end");
}

/// `None` at the end.
fn try_read(stream: &mut TcpStream, pending: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 64 * 1024];
    let count = stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
    pending.extend_from_slice(&bytes[..count]);
    Some(())
}

/// Takes a message of HTTP/1.1 with a body of so many bytes, if it is there in full.
fn take_message(pending: &mut Vec<u8>, body: usize) -> bool {
    let head = pending.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    let Some(end) = head.map(|head| head + body).filter(|end| *end <= pending.len()) else { return false };
    assert!(!pending.starts_with(b"HTTP/1.1 403"), "a request was denied");
    pending.drain(..end);
    true
}

/// Takes the frames that are there in full; streams that ended.
fn ended_streams(pending: &mut Vec<u8>) -> Vec<u32> {
    let (mut ended, mut at) = (Vec::new(), 0);
    while let Some([a, b, c, kind, flags, s0, s1, s2, s3]) = pending[at..].first_chunk::<HEADER_BYTES>() {
        let end = at + HEADER_BYTES + u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if end > pending.len() {
            break;
        }
        assert!(*kind != 3 && *kind != 7, "a stream or the connection was refused");
        if matches!(*kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            ended.push(u32::from_be_bytes([*s0, *s1, *s2, *s3]));
        }
        at = end;
    }
    pending.drain(..at);
    ended
}

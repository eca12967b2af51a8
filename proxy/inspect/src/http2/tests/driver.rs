//! Drives a conversation as the session does, without sockets, and keeps what either side would see.

use crate::contract::{Inspector, Notice, Side, Step};
use crate::http2::Http2;
use crate::http2::frame::{self, ACK, END_HEADERS, END_STREAM, Header, Kind, PREFACE};
use crate::http2::hpack::{Decoder, Fields, encode_literal};
use crate::question::Target;
use bulkhead_facts::Reason;

/// One frame that arrived somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: Kind, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Self {
        Self { kind, flags, stream, payload: payload.as_ref().to_vec() }
    }

    /// Error code of RST_STREAM and GOAWAY.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == Kind::GoAway { 4 } else { 0 };
        frame::number(&self.payload[at..])
    }
}

/// What was refused.
pub(super) type Refused = (Reason, &'static str);

/// A conversation with both sides of it.
pub(super) struct Driver {
    pub(super) http: Http2,
    gate: bool,
    /// Shown to the conversation in pieces of so many bytes.
    piece: usize,
    client: Vec<u8>,
    server: Vec<u8>,
    /// Bytes of the server that left before the gate was there.
    answers_left: usize,
    /// What left.
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
    pub(super) asked: Vec<String>,
    pub(super) refused: Vec<Refused>,
    /// The connection ends.
    pub(super) closed: bool,
}

pub(super) const NOTICE: Notice<'static> =
    Notice { status: 403, json: "{\"error\":1}\n", line: "denied 50%" };

impl Driver {
    pub(super) fn new(gate: bool) -> Self {
        let mut http = Http2::default();
        http.hold(gate, 0);
        Self {
            http,
            gate,
            piece: usize::MAX,
            client: Vec::new(),
            server: Vec::new(),
            answers_left: 0,
            to_server: Vec::new(),
            to_client: Vec::new(),
            asked: Vec::new(),
            refused: Vec::new(),
            closed: false,
        }
    }

    /// A connection whose first settings were exchanged; what was seen until then is forgotten.
    pub(super) fn open() -> Self {
        let mut driver = Self::new(true);
        driver.greet();
        driver.to_server.clear();
        driver.to_client.clear();
        driver
    }

    pub(super) fn by(mut self, piece: usize) -> Self {
        self.piece = piece.max(1);
        self
    }

    pub(super) fn greet(&mut self) {
        self.client_bytes(PREFACE);
        self.client(Kind::Settings, 0, 0, []);
        self.server(Kind::Settings, 0, 0, []);
        self.client(Kind::Settings, ACK, 0, []);
        self.server(Kind::Settings, ACK, 0, []);
    }

    /// A frame of the client.
    pub(super) fn client(&mut self, kind: Kind, flags: u8, stream: u32, payload: impl AsRef<[u8]>) {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, kind, flags, stream, payload.as_ref());
        self.client_bytes(&bytes);
    }

    pub(super) fn client_bytes(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.piece.min(bytes.len().max(1))) {
            self.client.extend_from_slice(piece);
            if !self.gate {
                self.to_server.extend_from_slice(piece);
            }
            self.advance();
        }
    }

    /// A frame of the server.
    pub(super) fn server(&mut self, kind: Kind, flags: u8, stream: u32, payload: impl AsRef<[u8]>) {
        let mut bytes = Vec::new();
        frame::put(&mut bytes, kind, flags, stream, payload.as_ref());
        self.server_bytes(&bytes);
    }

    pub(super) fn server_bytes(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.piece.min(bytes.len().max(1))) {
            self.server.extend_from_slice(piece);
            self.advance();
        }
    }

    /// From the tee to the gate, as the session does it.
    pub(super) fn begin_gate(&mut self) {
        self.gate = true;
        let left = self.client.len();
        self.answers_left = self.server.len();
        self.http.answers_left(self.server.len());
        self.http.hold(true, left);
        self.advance();
    }

    pub(super) fn advance(&mut self) {
        while !self.closed && (self.step_client() | self.step_server()) {}
        if let Some(words) = self.http.reply().map(<[u8]>::to_vec) {
            self.to_client.extend(words);
            self.closed |= !self.http.replied();
        }
    }

    /// Both sides are reset where nothing can be said, which is only where a part of it has left before the gate.
    fn close_unless(&mut self, told: bool) {
        assert!(told || self.http.raw);
        self.closed |= !told;
    }

    /// True if something moved.
    fn step_client(&mut self) -> bool {
        match self.http.client(&self.client) {
            Step::NeedMore => return false,
            Step::Forward(count) => {
                assert!(count <= self.client.len());
                let bytes: Vec<u8> = self.client.drain(..count).collect();
                if self.gate && self.http.left_before_gate == 0 && !self.http.raw {
                    self.to_server.extend(bytes);
                }
            }
            Step::Discard(count) => {
                assert!(self.gate && count <= self.client.len(), "nothing is dropped under the tee");
                self.client.drain(..count);
            }
            Step::Ask(question) => {
                let head = question.http().expect("a request of HTTP");
                let (target, allowed) = match &head.target {
                    Target::Path(path, _) => (path.raw().to_owned(), !path.normal().starts_with("/no")),
                    Target::Ambiguous(raw, _) => (format!("ambiguous:{raw}"), false),
                    Target::Asterisk => ("*".to_owned(), true),
                    Target::Authority(authority) => (format!("tunnel:{authority}"), true),
                };
                let host = head.host.as_ref().map_or_else(String::new, |host| host.as_str().to_owned());
                let kept = question.keep();
                let again = kept.question().expect("what was asked can be asked again");
                let again = again.http().expect("a request of HTTP");
                assert_eq!((again.method, &again.host), (head.method, &head.host));
                assert_eq!(again.fields.as_slice(), head.fields.as_slice());
                self.asked.push(format!("{} {host} {target}", head.method));
                drop(question);
                assert!(matches!(self.http.client(&self.client), Step::NeedMore), "waits for the answer");
                if self.asked.last().is_some_and(|asked| asked.ends_with(" /checked")) {
                    self.http.check_frames(false);
                }
                match allowed || !self.gate {
                    true => self.http.allow(),
                    false => {
                        let told = self.http.deny(&NOTICE);
                        self.close_unless(told);
                    }
                }
            }
            Step::Opaque => panic!("HTTP/2 is never opaque"),
            Step::Refuse(refusal) => {
                self.refused.push((refusal.reason, refusal.detail));
                if !self.gate && self.http.survives() {
                    self.http.allow();
                } else if !self.gate {
                    self.closed = true;
                } else {
                    let told = self.http.reject(&refusal, &NOTICE);
                    self.close_unless(told);
                    if !self.http.survives() {
                        self.client.clear();
                    }
                }
            }
        }
        self.insert();
        true
    }

    fn step_server(&mut self) -> bool {
        match self.http.server(&self.server) {
            Step::NeedMore => return false,
            Step::Forward(count) => {
                self.to_client.extend(self.server.drain(..count));
                self.answers_left = self.answers_left.saturating_sub(count);
            }
            Step::Discard(count) => {
                assert_eq!(self.answers_left, 0, "what has left is not dropped");
                self.server.drain(..count);
            }
            Step::Refuse(refusal) => {
                self.refused.push((refusal.reason, refusal.detail));
                self.closed = true;
            }
            Step::Ask(_) | Step::Opaque => panic!("a server asks nothing"),
        }
        self.insert();
        true
    }

    pub(super) fn insert(&mut self) {
        let bytes = self.http.insertion(Side::Server).to_vec();
        if !bytes.is_empty() {
            self.to_server.extend(bytes);
            self.http.inserted(Side::Server);
        }
        loop {
            let bytes = self.http.insertion(Side::Client).to_vec();
            if bytes.is_empty() || self.answers_left > 0 {
                return;
            }
            self.to_client.extend(bytes);
            self.http.inserted(Side::Client);
        }
    }

    /// The frames that the server has seen since the last call.
    pub(super) fn server_saw(&mut self) -> Vec<Frame> {
        frames(&std::mem::take(&mut self.to_server))
    }

    /// The frames that the client has seen since the last call.
    pub(super) fn client_saw(&mut self) -> Vec<Frame> {
        frames(&std::mem::take(&mut self.to_client))
    }

    /// A request of the client whose block is one frame.
    pub(super) fn request(&mut self, stream: u32, end: bool, path: &str) {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.client(Kind::Headers, flags, stream, block(&request("GET", path)));
    }

    /// A response whose block is one frame.
    pub(super) fn response(&mut self, stream: u32, end: bool) {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.server(Kind::Headers, flags, stream, [0x88]);
    }
}

/// Cuts whole frames.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut frames = Vec::new();
    while let Some(header) = Header::read(bytes) {
        let (frame, rest) = bytes.split_at(header.total());
        frames.push(Frame::new(header.kind, header.flags, header.stream, &frame[9..]));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame is left: {bytes:x?}");
    frames
}

/// The fields of a plain request.
pub(super) fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "shop.test"), (":path", path)]
}

/// A block of literals.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        encode_literal(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

/// The fields of a block that uses no table.
pub(super) fn fields(block: &[u8]) -> Vec<(String, String)> {
    let mut fields = Fields::default();
    Decoder::new(4096).decode(block, &mut fields, 1 << 20, 1000).expect("a sound block");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

//! TLS as far as it is in clear: the client's first message, then nothing.
//!
//! The hello is collected over any number of records and segments, read strictly ([`hello`]), decided on, and released
//! as it came; once the server has answered it, both sides are opaque ([`again`]: it may ask for another one). A refused client
//! gets an alert. Nothing is decrypted.

mod again;
mod hello;

use crate::contract::{Inspector, Notice, Progress, Refusal, Side, Standing, Step};
use crate::limits::TLS_HELLO_BYTES_MAX;
use crate::question::{Question, Subject};
use again::{Answering, Passage};
use bulkhead_facts::Reason;
pub use hello::Hello;

/// The start of one TLS connection.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    state: State,
    progress: Progress,
    reply: Option<[u8; 7]>,
}

#[derive(Debug)]
enum State {
    /// Before or inside the hello, of which more can be said once there are so many bytes.
    Hello { wanted: usize },
    /// Waits for the verdict; so many bytes hold the hello.
    Asked(usize, Answering),
    /// Allowed: they leave.
    Releasing(usize, Answering),
    /// They have left; the server has not answered, or asked for another hello.
    Answering(Answering),
    /// Both sides are on their own.
    Secret,
    /// Denied or refused.
    Closed,
}

impl Default for State {
    fn default() -> Self {
        Self::Hello { wanted: RECORD_HEADER_BYTES }
    }
}

const RECORD_HEADER_BYTES: usize = 5;

/// Alert descriptions (RFC 8446 section 6.2).
const ACCESS_DENIED: u8 = 49;
const DECODE_ERROR: u8 = 50;

/// Reads a whole hello again, as it was when it was first decided on.
pub(crate) fn question(bytes: &[u8]) -> Option<Question<'_>> {
    match collect(bytes).ok()? {
        Collected::Whole(message, length) => Some(ask(bytes.get(..length)?, hello::read(&message).ok()?)),
        Collected::Wants(_) => None,
    }
}

fn ask(bytes: &[u8], hello: Hello) -> Question<'_> {
    Question { bytes, exchange: 0, lasting: false, subject: Subject::Tls(hello) }
}

impl Inspector for Tls {
    fn client<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        match &mut self.state {
            State::Hello { wanted } if bytes.len() < *wanted => Step::NeedMore,
            State::Hello { .. } => self.hello(bytes),
            State::Asked(..) | State::Closed => Step::NeedMore,
            State::Releasing(..) => self.release(),
            State::Answering(answering) => {
                let passage = answering.client(bytes);
                self.step(passage)
            }
            State::Secret => Step::Opaque,
        }
    }

    fn server<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        match &mut self.state {
            State::Secret => Step::Opaque,
            _ if bytes.is_empty() => Step::NeedMore,
            State::Answering(answering) => {
                let passage = answering.server(bytes);
                self.step(passage)
            }
            // No server of TLS speaks first: what it says is not meant for this client.
            State::Hello { .. } | State::Asked(..) | State::Releasing(..) | State::Closed => {
                Step::Refuse(malformed("server that speaks before the hello"))
            }
        }
    }

    fn allow(&mut self) {
        self.state = match std::mem::take(&mut self.state) {
            State::Asked(length, answering) => State::Releasing(length, answering),
            other => other,
        };
    }

    fn deny(&mut self, _: &Notice<'_>) -> bool {
        self.close(ACCESS_DENIED)
    }

    fn reject(&mut self, refusal: &Refusal, _: &Notice<'_>) -> bool {
        self.close(if refusal.reason == Reason::Malformed { DECODE_ERROR } else { ACCESS_DENIED })
    }

    fn close_opaque(&mut self, _: &Notice<'_>) -> bool {
        self.close(ACCESS_DENIED)
    }

    fn is_judged(&self) -> bool {
        matches!(self.state, State::Secret)
    }

    fn reply(&self) -> Option<&[u8]> {
        self.reply.as_ref().map(<[u8; 7]>::as_slice)
    }

    fn replied(&mut self) -> bool {
        self.reply = None;
        false
    }

    fn take_progress(&mut self) -> Progress {
        std::mem::take(&mut self.progress)
    }

    fn passable(&self, _: Side) -> u64 {
        if let State::Secret = self.state { u64::MAX } else { 0 }
    }

    fn bytes_max(&self) -> usize {
        TLS_HELLO_BYTES_MAX
    }

    fn standing(&self) -> Standing {
        Standing {
            in_question: match &self.state {
                State::Hello { .. } => true,
                State::Answering(answering) => answering.again,
                _ => false,
            },
            waits_for_server: match &self.state {
                State::Asked(..) | State::Releasing(..) => true,
                State::Answering(answering) => !answering.again,
                _ => false,
            },
            has_reply: self.reply.is_some(),
            ..Standing::default()
        }
    }

    fn outstanding(&self) -> usize {
        0
    }
}

impl Tls {
    fn hello<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        let (message, length) = match collect(bytes) {
            Err(refusal) => return Step::Refuse(refusal),
            Ok(Collected::Whole(message, length)) => (message, length),
            Ok(Collected::Wants(wanted)) => {
                self.state = State::Hello { wanted };
                return Step::NeedMore;
            }
        };
        match hello::read(&message) {
            Err(refusal) => Step::Refuse(refusal),
            Ok(hello) => {
                self.state = State::Asked(length, Answering::new(hello.clone()));
                Step::Ask(ask(bytes.get(..length).unwrap_or_default(), hello))
            }
        }
    }

    fn release<'a>(&mut self) -> Step<'a> {
        let State::Releasing(length, answering) = std::mem::take(&mut self.state) else {
            return Step::NeedMore;
        };
        self.state = State::Answering(answering);
        self.progress = Progress { completed: true, tunnel: true, ..Progress::default() };
        Step::Forward(length)
    }

    fn step<'a>(&mut self, passage: Passage) -> Step<'a> {
        match passage {
            Passage::More => Step::NeedMore,
            Passage::Forward(count) => Step::Forward(count),
            Passage::ForwardLast(count) => {
                self.state = State::Secret;
                Step::Forward(count)
            }
            Passage::Secret => {
                self.state = State::Secret;
                Step::Opaque
            }
            Passage::Refuse(refusal) => Step::Refuse(refusal),
        }
    }

    /// Ends with a fatal alert (RFC 8446 section 6).
    fn close(&mut self, description: u8) -> bool {
        self.state = State::Closed;
        self.reply = Some([21, 3, 3, 0, 2, 2, description]);
        true
    }
}

/// The first handshake message, as far as it is there.
enum Collected {
    /// The message, and how many bytes hold it.
    Whole(Vec<u8>, usize),
    /// More can be said once there are so many bytes.
    Wants(usize),
}

/// Puts the first handshake message together from its records (RFC 8446 section 5.1).
fn collect(bytes: &[u8]) -> Result<Collected, Refusal> {
    let mut message = Vec::new();
    let mut start = 0;
    loop {
        let content = start + RECORD_HEADER_BYTES;
        let Some(&[kind, major, minor, high, low]) = bytes.get(start..content).and_then(|b| b.first_chunk())
        else {
            return wants(content);
        };
        if kind != again::HANDSHAKE || major != 3 || minor > 4 {
            return Err(malformed("record that is no handshake"));
        }
        let size = usize::from(u16::from_be_bytes([high, low]));
        if size == 0 || size > 1 << 14 {
            return Err(malformed("handshake record without content, or too long"));
        }
        start = content + size;
        let Some(part) = bytes.get(content..start) else { return wants(start) };
        message.extend_from_slice(part);
        match whole_length(&message)? {
            Some(whole) if message.len() == whole => return Ok(Collected::Whole(message, start)),
            Some(whole) if message.len() > whole => {
                return Err(malformed("handshake record that goes on behind the hello"));
            }
            Some(_) | None => {}
        }
    }
}

fn wants(length: usize) -> Result<Collected, Refusal> {
    if length > TLS_HELLO_BYTES_MAX { Err(too_long()) } else { Ok(Collected::Wants(length)) }
}

/// Length of the message with its header, once that is there.
fn whole_length(message: &[u8]) -> Result<Option<usize>, Refusal> {
    if message.first().is_some_and(|kind| *kind != 1) {
        return Err(malformed("handshake that does not begin with a client hello"));
    }
    let Some(&[_, a, b, c]) = message.first_chunk() else { return Ok(None) };
    let length = 4 + usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX - 4);
    if length > TLS_HELLO_BYTES_MAX { Err(too_long()) } else { Ok(Some(length)) }
}

fn too_long() -> Refusal {
    Refusal { reason: Reason::Limit, status: None, detail: "client hello of more than 16 KiB" }
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Malformed, status: None, detail }
}

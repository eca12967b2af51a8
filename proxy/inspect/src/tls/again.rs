//! Between the hello and the secrets: a server may ask for another hello (RFC 8446 section 4.1.4), which has to say the same.
//!
//! Not every server compares the two, so that one that names somebody else would choose whom it reaches after the verdict. What
//! else a client may say before the server has answered passes: early data.

use super::{Collected, Hello, collect, hello, malformed};
use crate::contract::Refusal;
use crate::tls::RECORD_HEADER_BYTES;
use bulkhead_facts::Reason;

/// What comes behind a hello that was allowed.
#[derive(Debug)]
pub(super) struct Answering {
    /// What another hello has to say.
    hello: Box<Hello>,
    /// The server asked for one.
    pub(super) again: bool,
    /// Bytes of a record of the client that pass.
    left: usize,
    /// More can be said of the other hello once there are so many bytes.
    wanted: usize,
}

/// What to do with some bytes.
#[derive(Debug)]
pub(super) enum Passage {
    /// Too few to tell, or the server has to answer first.
    More,
    Forward(usize),
    /// The same, and nothing that follows is read.
    ForwardLast(usize),
    /// Nothing of it is read.
    Secret,
    Refuse(Refusal),
}

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const SERVER_HELLO: u8 = 2;

/// The random of a server hello that asks for another hello (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

const MESSAGE_HEADER_BYTES: usize = 4;

/// Headers of record and message, and the version, before the random.
const BEFORE_RANDOM: usize = RECORD_HEADER_BYTES + 6;

impl Answering {
    pub(super) fn new(hello: Hello) -> Self {
        Self { hello: Box::new(hello), again: false, left: 0, wanted: 0 }
    }

    pub(super) fn client(&mut self, bytes: &[u8]) -> Passage {
        if self.left > 0 {
            let here = self.left.min(bytes.len());
            self.left -= here;
            return if here == 0 { Passage::More } else { Passage::Forward(here) };
        }
        match bytes.first() {
            None => Passage::More,
            Some(&HANDSHAKE) if !self.again || bytes.len() < self.wanted => Passage::More,
            Some(&HANDSHAKE) => self.other_hello(bytes),
            Some(&(CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA)) => match record_length(bytes) {
                None => Passage::More,
                Some(length) => {
                    let here = length.min(bytes.len());
                    self.left = length - here;
                    Passage::Forward(here)
                }
            },
            Some(_) => Passage::Refuse(malformed("record that no client sends before the server's hello")),
        }
    }

    fn other_hello(&mut self, bytes: &[u8]) -> Passage {
        let (message, length) = match collect(bytes) {
            Err(refusal) => return Passage::Refuse(refusal),
            Ok(Collected::Wants(wanted)) => {
                self.wanted = wanted;
                return Passage::More;
            }
            Ok(Collected::Whole(message, length)) => (message, length),
        };
        match hello::read(&message) {
            Err(refusal) => Passage::Refuse(refusal),
            Ok(other) if other == *self.hello => Passage::ForwardLast(length),
            Ok(_) => {
                let detail = "second hello that says something else than the first";
                Passage::Refuse(Refusal { reason: Reason::Ambiguous, status: None, detail })
            }
        }
    }

    /// Servers say hello in one record; who puts less into it does not ask for another one.
    pub(super) fn server(&mut self, bytes: &[u8]) -> Passage {
        if self.again {
            return Passage::Forward(bytes.len());
        }
        if bytes.first() != Some(&HANDSHAKE) {
            return Passage::Secret;
        }
        let random = BEFORE_RANDOM..BEFORE_RANDOM + RETRY.len();
        match (record_length(bytes), bytes.get(random.clone())) {
            (Some(length), _) if length < random.end => Passage::Secret,
            (None, _) | (_, None) => Passage::More,
            (Some(length), Some(random)) => {
                if bytes.get(RECORD_HEADER_BYTES) != Some(&SERVER_HELLO) {
                    return Passage::Secret;
                }
                self.again = random == RETRY;
                if self.again { Passage::Forward(bytes.len()) } else { self.chosen(bytes, length) }
            }
        }
    }

    /// A server that does not know the list of versions may choose one that is not on it, which was not decided on; a client that
    /// means what it says ends there.
    fn chosen(&self, bytes: &[u8], record: usize) -> Passage {
        let message = bytes.get(RECORD_HEADER_BYTES..).unwrap_or_default();
        let Some(&[_, a, b, c]) = message.first_chunk() else { return Passage::More };
        let length = MESSAGE_HEADER_BYTES
            + usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX >> 1);
        let Some(body) = message.get(MESSAGE_HEADER_BYTES..length) else {
            return if RECORD_HEADER_BYTES + length > record { Passage::Secret } else { Passage::More };
        };
        match hello::chosen(body) {
            Some(version) if version >= self.hello.lowest && version <= self.hello.highest => Passage::Secret,
            _ => {
                let detail = "server that chooses a version which the client has not offered";
                Passage::Refuse(Refusal { reason: Reason::Ambiguous, status: None, detail })
            }
        }
    }
}

/// Length of the record that `bytes` begins with, once its header is there.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let [_, _, _, high, low] = *bytes.first_chunk::<RECORD_HEADER_BYTES>()?;
    Some(RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low])))
}

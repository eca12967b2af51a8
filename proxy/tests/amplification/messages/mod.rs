//! What clients send who mean to cost more than they spend, and what ordinary ones send.

mod dns;
mod http1;
mod http2;
mod kafka;
mod postgres;
mod redis;
mod tls;
mod websocket;

use bulkhead_policies::model::L7Section;

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
    pub(super) ordinary: Client,
    /// What others send.
    pub(super) hostile: Vec<Client>,
}

/// What one client sends.
pub(super) struct Client {
    pub(super) what: &'static str,
    /// From the first byte on.
    pub(super) bytes: Vec<u8>,
    /// After so many of them it waits for the first words of the server.
    pub(super) pause: usize,
    /// What a server says then that does not go on, if it is not the greeting.
    #[allow(dead_code, reason = "a benchmark has a server that goes on")]
    pub(super) words: Vec<u8>,
}

impl Client {
    /// The same with a pause behind so many bytes.
    fn after(self, pause: usize) -> Self {
        Self { pause, ..self }
    }
}

fn client(what: &'static str, bytes: Vec<u8>) -> Client {
    Client { what, bytes, pause: 0, words: Vec::new() }
}

/// Bytes of each client; one that stops earlier has no more to say.
pub(super) const BYTES: usize = 64 * 1024;

pub(super) fn all() -> Vec<Kind> {
    vec![
        dns::kind(),
        http1::kind(),
        http2::kind(),
        websocket::kind(),
        websocket::kind_in_http2(),
        tls::kind(),
        redis::kind(),
        postgres::kind(),
        kafka::kind(),
    ]
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

fn answer_nothing(pending: &mut Vec<u8>, _: &mut Vec<u8>) {
    pending.clear();
}

/// Letters that tell one number from others, where digits would make one kind of them.
fn letters(number: usize) -> String {
    let letter = |at: usize| char::from(b'a' + u8::try_from(at % 26).expect("a letter"));
    [number / 17_576, number / 676, number / 26, number].map(letter).iter().collect()
}

//! TLS as a session drives it (see `session`): nothing but an allowed hello and early data leaves before the tunnel, and rustls
//! reads the same name and protocols from it, or refuses it.
#![no_main]

mod session;

use bulkhead_inspect::{Protocol, Question, Subject};
use libfuzzer_sys::fuzz_target;
use rustls::server::Acceptor;
use session::{Outcome, World, is_read, play};

/// Types of records (RFC 8446 section 5.1): what changes the cipher, alerts, and data.
const EARLY: [u8; 3] = [20, 21, 23];
const HANDSHAKE: u8 = 22;

fuzz_target!(|input: &[u8]| {
    play(
        World { expected: Some(Protocol::Tls), describe, checks_frames: false, greeting: (b"", b"") },
        input,
        agree,
    );
});

/// What was released is what was allowed.
fn agree(outcome: &Outcome) {
    if !is_read(outcome) {
        return;
    }
    assert!(outcome.released.len() <= 1, "one hello, and no more");
    let Some(asked) = outcome.released.first() else {
        assert!(outcome.to_server.is_empty(), "something left that nobody asked about");
        return;
    };
    assert!(accepted(&asked.bytes).is_none_or(|theirs| theirs == asked.line), "{asked:?}");
    let (hello, mut rest) = outcome.to_server.split_at(asked.bytes.len().min(outcome.to_server.len()));
    assert!(asked.bytes.starts_with(hello), "another hello left");
    // Early data may follow, and the same hello once the server has asked for it again.
    while let [kind, _, _, high, low, ..] = *rest {
        if kind == HANDSHAKE {
            assert!(!outcome.to_client.is_empty(), "another hello left before the server's");
            assert!(
                accepted(rest).is_none_or(|theirs| theirs == asked.line),
                "it says something else: {asked:?}"
            );
            return;
        }
        assert!(EARLY.contains(&kind), "a record of type {kind} left");
        let length = 5 + usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// What rustls reads from a hello that it accepts.
fn accepted(mut bytes: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            // Without those that mean nothing (RFC 8701).
            let says = |name: &&[u8]| !matches!(name, [a, b] if a == b && a & 0x0f == 0x0a);
            let alpn: Vec<String> = hello.alpn().into_iter().flatten().filter(says).map(text).collect();
            return Some(line(hello.server_name(), &alpn));
        }
    }
    None
}

fn text(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_owned(),
        Err(_) => "\u{fffd}".to_owned(),
    }
}

fn line(name: Option<&str>, protocols: &[String]) -> String {
    let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    format!("{} {protocols:?}", name.as_deref().unwrap_or("-"))
}

fn describe(question: &Question<'_>) -> String {
    let Subject::Tls(hello) = &question.subject else { return String::new() };
    line(hello.server_name.as_ref().map(|name| name.as_str()), &hello.application_protocols)
}

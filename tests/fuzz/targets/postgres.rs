//! PostgreSQL: see `gated`. The rest of the input is shown as first message, as messages of a session that was begun, and
//! as the text of a statement. What becomes of a password depends on whether its server is ready: one says nothing, the
//! other lets everybody in before anything else is said.
#![no_main]

mod gated;

use bulkhead_inspect::Protocol;
use gated::{World, check, check_behind, some};
use libfuzzer_sys::fuzz_target;

const SESSION: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0apps\0\0";
const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (cut, client, server) = input;
    let world = |answer: fn(&[u8]) -> Vec<u8>| World {
        expected: Some(Protocol::Postgres),
        allow: some,
        answer,
        opaque: false,
    };
    let answers = [READY, server].concat();
    check(world(|_| Vec::new()), cut, client, &answers);
    let length = u32::try_from(client.len() + 5).unwrap_or_default().to_be_bytes();
    let query = [b"Q", length.as_slice(), client, b"\0"].concat();
    for shown in [client, &query] {
        check_behind(world(ready), cut, SESSION, shown, &answers);
    }
});

/// A server that lets everybody in, and answers nothing else.
fn ready(received: &[u8]) -> Vec<u8> {
    let length = received.first_chunk().map(|length| u32::from_be_bytes(*length) as usize);
    let begun = length.is_some_and(|length| length > 8 && received.len() >= length);
    if begun { READY.to_vec() } else { Vec::new() }
}

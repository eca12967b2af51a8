//! HTTP/2 as a session drives it (see `session`): h2 reads from what was released no request that was not allowed.
#![no_main]

#[path = "../../../proxy/src/session/tests/http2_agree.rs"]
#[allow(dead_code)]
mod http2_agree;
mod session;

use bulkhead_inspect::Protocol;
use http2_agree::{describe, reads};
use libfuzzer_sys::fuzz_target;
use session::{Outcome, World, play};

const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

fuzz_target!(|input: &[u8]| {
    play(
        World {
            expected: Some(Protocol::Http1),
            describe,
            checks_frames: false,
            greeting: (GREETING, SETTINGS),
        },
        input,
        agree,
    );
});

/// What was released is what was allowed.
fn agree(outcome: &Outcome) {
    if outcome.unread {
        return;
    }
    let read = reads(&outcome.to_server);
    let allowed: Vec<&str> = outcome.released.iter().map(|asked| asked.line.as_str()).collect();
    let mut left = allowed.iter();
    for request in &read {
        assert!(left.any(|line| line == request), "h2 reads {read:?}, allowed {allowed:?}");
    }
}

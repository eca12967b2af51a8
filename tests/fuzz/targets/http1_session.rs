//! HTTP/1 as a session drives it (see `session`): httparse, with bodies framed by a reader of its own, reads from what was
//! released exactly the requests that were allowed.
#![no_main]

mod http1_read;
mod session;

use bulkhead_inspect::Question;
use http1_read::requests;
use libfuzzer_sys::fuzz_target;
use session::{End, Outcome, World, is_read, play};

fuzz_target!(|input: &[u8]| {
    play(
        World { expected: None, describe: request_line, checks_frames: false, greeting: (b"", b"") },
        input,
        agree,
    );
});

/// What was released is what was allowed.
fn agree(outcome: &Outcome) {
    if !is_read(outcome) {
        return;
    }
    let (read, whole) = requests(&outcome.to_server);
    let allowed: Vec<&str> = outcome.released.iter().map(|asked| asked.line.as_str()).collect();
    assert!(read.len() <= allowed.len(), "read {read:?}, allowed {allowed:?}");
    assert_eq!(read, allowed[..read.len()], "in another order");
    if whole && outcome.end == End::Open {
        assert_eq!(read.len(), allowed.len(), "read {read:?}, allowed {allowed:?}");
    }
}

/// The line as it leaves; empty for other protocols.
fn request_line(question: &Question<'_>) -> String {
    let is_head = question.exchange == 0 && question.http().is_some();
    let line = question.bytes.split(|byte| *byte == b'\r').next().filter(|_| is_head).unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

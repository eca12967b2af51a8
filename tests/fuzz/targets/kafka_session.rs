//! Kafka as a session drives it (see `session`): another reader finds in what was released exactly the requests that were
//! allowed, in their order.
#![no_main]

mod session;

use bulkhead_inspect::{Protocol, Question, Subject};
use libfuzzer_sys::fuzz_target;
use session::{Outcome, World, is_read, play};

fuzz_target!(|input: &[u8]| {
    play(World { expected: Some(Protocol::Kafka), describe, greeting: (b"", b"") }, input, agree);
});

/// What was released is what was allowed.
fn agree(outcome: &Outcome) {
    if !is_read(outcome) {
        return;
    }
    let mut allowed = outcome.released.iter();
    let mut rest = outcome.to_server.as_slice();
    while let Some((size, behind)) = rest.split_first_chunk() {
        let size = u32::from_be_bytes(*size) as usize;
        // What is incomplete was asked about all the same, but for its first bytes under the tee.
        if behind.len() < size.min(8) {
            return;
        }
        let asked = allowed.next().unwrap_or_else(|| panic!("{} was not allowed", rest.escape_ascii()));
        let shown = asked.bytes.len().min(rest.len());
        assert_eq!(rest[..shown], asked.bytes[..shown]);
        let api = u16::from_be_bytes([behind[0], behind[1]]);
        assert!(asked.line.starts_with(&format!("{api} ")), "{api} left for {}", asked.line);
        rest = behind.get(size..).unwrap_or_default();
    }
}

fn describe(question: &Question<'_>) -> String {
    let Subject::Kafka(call) = &question.subject else { return String::new() };
    format!("{} {}", call.api, call.topics.join(" "))
}

//! PostgreSQL as a session drives it (see `session`): another reader finds in what was released exactly the sessions and
//! statements that were allowed, in their order, and ours in the place of denied ones.
#![no_main]

mod session;

use bulkhead_inspect::{Protocol, Question, Subject};
use libfuzzer_sys::fuzz_target;
use session::{Asked, Outcome, World, is_read, play};

const FAILING: [&[u8]; 2] = [b"Q\0\0\0\x17denied by bulkhead\0", b"P\0\0\0\x1a\0denied by bulkhead\0\0\0"];
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

fuzz_target!(|input: &[u8]| {
    play(
        World { expected: Some(Protocol::Postgres), describe, checks_frames: false, greeting: (b"", b"") },
        input,
        agree,
    );
});

/// What was released is what was allowed.
fn agree(outcome: &Outcome) {
    if !is_read(outcome) {
        return;
    }
    let mut allowed = outcome.released.iter().peekable();
    let mut next = |one: &[u8]| allowed.next_if(|asked: &&Asked| one.starts_with(&asked.bytes)).is_some();
    let (mut rest, mut denied) = (outcome.to_server.as_slice(), outcome.denied.len());
    while let Some((length, code)) = first(rest) {
        let Some((one, behind)) = rest.split_at_checked(length) else { return };
        rest = behind;
        if !ENCRYPTION.contains(&code) {
            assert!(next(one), "{} was not allowed", one.escape_ascii());
            break;
        }
    }
    while let Some((kind, length)) = header(rest) {
        let Some((one, behind)) = rest.split_at_checked(length) else { return };
        rest = behind;
        let asks = matches!(kind, b'Q' | b'P' | b'E' | b'F');
        if asks && !next(one) {
            assert!(FAILING.contains(&one) && denied > 0, "{} was not allowed", one.escape_ascii());
            denied -= 1;
        }
    }
}

/// Length and code of a first message.
fn first(bytes: &[u8]) -> Option<(usize, u32)> {
    let (length, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*length) as usize, u32::from_be_bytes(*rest.first_chunk()?)))
}

/// Type and length of any other.
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let (kind, rest) = bytes.split_first()?;
    Some((*kind, u32::from_be_bytes(*rest.first_chunk()?) as usize + 1))
}

fn describe(question: &Question<'_>) -> String {
    let Subject::Postgres(message) = &question.subject else { return String::new() };
    let classes: Vec<&str> = message.classes.iter().map(|class| class.as_str()).collect();
    format!("{}@{} {}", message.user, message.database, classes.join(" "))
}

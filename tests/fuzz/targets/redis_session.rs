//! Redis as a session drives it (see `session`): another reader finds in what was released exactly the commands that were
//! allowed, in their order.
#![no_main]

mod session;

use bulkhead_inspect::{Protocol, Question, Subject};
use libfuzzer_sys::fuzz_target;
use session::{Outcome, World, is_read, play};

const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";

fuzz_target!(|input: &[u8]| {
    play(
        World { expected: Some(Protocol::Redis), describe, checks_frames: false, greeting: (b"", b"") },
        input,
        agree,
    );
});

/// What was released is what was allowed.
fn agree(outcome: &Outcome) {
    if !is_read(outcome) {
        return;
    }
    let mut allowed = outcome.released.iter();
    let mut rest = outcome.to_server.as_slice();
    loop {
        // An empty line asks for nothing; under the tee it leaves.
        while let Some(behind) = rest.strip_prefix(b"\r\n") {
            rest = behind;
        }
        let Some(length) = command(rest) else { return };
        if let Some(behind) = rest.strip_prefix(b"\r\n") {
            // Nobody answers an empty line.
            rest = behind;
            continue;
        }
        let (one, behind) = rest.split_at(length);
        let asked = allowed.next().unwrap_or_else(|| panic!("{} was not allowed", one.escape_ascii()));
        let executes = asked.line.eq_ignore_ascii_case("exec") && one == DISCARD;
        assert!(executes || one.starts_with(&asked.bytes), "{} left for {asked:?}", one.escape_ascii());
        rest = behind;
    }
}

fn describe(question: &Question<'_>) -> String {
    let Subject::Redis(command) = &question.subject else { return String::new() };
    command.name.to_owned()
}

/// Length of the command at the beginning; `None` while it is incomplete.
fn command(bytes: &[u8]) -> Option<usize> {
    if bytes.first().is_some_and(|first| *first != b'*') {
        // A command on a line of its own ends as servers have it.
        return bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
    }
    let first = line(bytes)?;
    let mut at = first.len() + 2;
    let count = first.strip_prefix(b"*").expect("an array");
    for _ in 0..number(count) {
        let head = line(bytes.get(at..)?)?;
        let size = number(head.strip_prefix(b"$").expect("a bulk string"));
        at += head.len() + 2 + size;
        assert!(b"\r\n".starts_with(bytes.get(at..bytes.len().min(at + 2))?), "a string without an end");
        at += 2;
        bytes.get(at..)?;
    }
    Some(at)
}

fn number(digits: &[u8]) -> usize {
    std::str::from_utf8(digits).expect("digits").parse().expect("a number")
}

fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some(&bytes[..end])
}

//! Kafka as a session drives it (see `session`): another reader finds in what was released exactly the requests that were
//! allowed, in their order. Of `Metadata` the broker may be asked about some of the topics: about those that were allowed.
#![no_main]

mod session;

use bulkhead_inspect::{Protocol, Question, Subject};
use libfuzzer_sys::fuzz_target;
use session::{Asked, Outcome, World, is_read, play};
use std::collections::BTreeSet;

const METADATA: &[u8] = &[0, 3];

fuzz_target!(|input: &[u8]| {
    play(
        World { expected: Some(Protocol::Kafka), describe, checks_frames: false, greeting: (b"", b"") },
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
    let is_about = |asked: &&Asked, topics: &[&str]| {
        let named =
            asked.line.strip_prefix("3 ").map(|named| named.split_whitespace().collect::<BTreeSet<_>>());
        named.is_some_and(|named| named.iter().eq(topics.iter().collect::<BTreeSet<_>>()))
    };
    let mut rest = outcome.to_server.as_slice();
    while let Some((size, behind)) = rest.split_first_chunk() {
        let size = u32::from_be_bytes(*size) as usize;
        // What is incomplete was asked about all the same, but for its first bytes under the tee.
        if behind.len() < size.min(8) {
            return;
        }
        let is_next = |asked: &&&Asked| rest.starts_with(&asked.bytes[..asked.bytes.len().min(rest.len())]);
        if let Some(topics) = behind.get(..size).and_then(topics_of_metadata)
            && !allowed.peek().filter(is_next).is_some_and(|asked| is_about(asked, &topics))
        {
            // About none it may be asked by everybody.
            assert!(
                topics.is_empty() || outcome.denied.iter().any(|asked| asked.line.starts_with("3 ")),
                "{topics:?} were not allowed"
            );
            for topic in topics {
                assert!(
                    allowed.next_if(|asked| is_about(asked, &[topic])).is_some(),
                    "{topic} was not allowed"
                );
            }
            rest = &behind[size..];
            continue;
        }
        let asked = allowed.next().unwrap_or_else(|| panic!("{} was not allowed", rest.escape_ascii()));
        let shown = asked.bytes.len().min(rest.len());
        assert_eq!(rest[..shown], asked.bytes[..shown]);
        let api = u16::from_be_bytes([behind[0], behind[1]]);
        assert!(asked.line.starts_with(&format!("{api} ")), "{api} left for {}", asked.line);
        rest = behind.get(size..).unwrap_or_default();
    }
}

/// Topics that a `Metadata` request names, behind its size, in a version that is read and can be asked about none of them.
fn topics_of_metadata(request: &[u8]) -> Option<Vec<&str>> {
    let request = request.strip_prefix(METADATA)?;
    let version = i16::from_be_bytes(*request.first_chunk()?);
    if !(1..=12).contains(&version) {
        return None;
    }
    let (client, mut rest) = request.get(6..)?.split_first_chunk()?;
    // An absent name is -1.
    rest = rest.get(usize::try_from(i16::from_be_bytes(*client)).unwrap_or(0)..)?;
    let flexible = version >= 9;
    if flexible {
        rest = rest.strip_prefix(&[0])?;
    }
    let count = if flexible {
        varint(&mut rest)?.saturating_sub(1)
    } else {
        let (count, behind) = rest.split_first_chunk()?;
        rest = behind;
        usize::try_from(i32::from_be_bytes(*count)).unwrap_or(0)
    };
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = if flexible {
            rest = rest.get(if version >= 10 { 16 } else { 0 }..)?;
            varint(&mut rest)?.checked_sub(1)?
        } else {
            let (length, behind) = rest.split_first_chunk()?;
            rest = behind;
            usize::from(u16::from_be_bytes(*length))
        };
        let (topic, behind) = rest.split_at_checked(length)?;
        topics.push(std::str::from_utf8(topic).ok()?);
        rest = if flexible { behind.strip_prefix(&[0])? } else { behind };
    }
    Some(topics)
}

fn varint(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for place in 0..5 {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn describe(question: &Question<'_>) -> String {
    let Subject::Kafka(call) = &question.subject else { return String::new() };
    format!("{} {}", call.api, call.topics.join(" "))
}

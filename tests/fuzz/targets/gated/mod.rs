//! What holds for every protocol under the gate: what becomes of a client's bytes does not depend on how they are cut, and
//! whatever a server says, nothing panics, grows or leaves twice.

#[path = "../../../../proxy/inspect/tests/support/gate.rs"]
mod gate;

use bulkhead_inspect::{Conversation, Protocol, Question, Side, Step, detect};
pub(crate) use gate::World;
use gate::{NOTICE, describe, run};

/// Denies about every fourth question, always the same ones.
pub(crate) fn some(question: &Question<'_>) -> bool {
    let text = describe(question);
    text.bytes().fold(7u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)) % 4 != 0
}

/// Shows a client in two ways, with a server that says what the world says; then both sides as they are.
pub(crate) fn check(world: World, cut: u8, client: &[u8], server: &[u8]) {
    // HTTP/2 has targets of its own, where its server has a say.
    if detect::client(client, world.expected) == Some(Protocol::Http2) {
        return;
    }
    // What becomes of a password of PostgreSQL depends on whether its server is ready, and that on how its own bytes are cut.
    let seen = |piece: usize| {
        let mut outcome = run(world, client, piece);
        if world.expected == Some(Protocol::Postgres) {
            (outcome.to_client, outcome.to_server, outcome.end) = (Vec::new(), Vec::new(), gate::End::Open);
        }
        outcome
    };
    assert_eq!(seen(usize::from(cut % 17) + 1), seen(client.len()), "cut differently");
    for hold in [true, false] {
        both(world.expected, hold, cut, client, server);
    }
}

fn both(expected: Option<Protocol>, hold: bool, mut cut: u8, client: &[u8], server: &[u8]) {
    let mut conversation = Conversation::expecting(expected);
    conversation.hold(hold, 0);
    let (mut sent, mut shown) = ([0usize; 2], [0usize; 2]);
    for _ in 0..client.len() + server.len() + 8 {
        cut = cut.wrapping_mul(31).wrapping_add(17);
        for (at, side, bytes) in [(0, Side::Client, client), (1, Side::Server, server)] {
            shown[at] = (shown[at] + usize::from(cut >> (4 * at) & 15)).min(bytes.len());
            if !drive(&mut conversation, side, &bytes[..shown[at]], &mut sent[at]) {
                return;
            }
        }
    }
}

/// Does what the steps say until more bytes are needed; false where the conversation ends.
fn drive(conversation: &mut Conversation, side: Side, shown: &[u8], sent: &mut usize) -> bool {
    loop {
        let rest = &shown[*sent..];
        let step = match side {
            Side::Client => conversation.client(rest),
            Side::Server if conversation.is_inspected() => conversation.server(rest),
            Side::Server => break,
        };
        match step {
            Step::NeedMore => break,
            Step::Forward(count) | Step::Discard(count) => {
                assert!(count > 0 && count <= rest.len(), "{count} of {} bytes", rest.len());
                *sent += count;
            }
            Step::Ask(question) => {
                assert!(question.bytes.len() <= rest.len(), "bytes that were not shown");
                let (size, allowed) = (question.size(), some(&question));
                assert!(size <= 24 * rest.len() + 256, "{size} bytes kept of {}", rest.len());
                drop(question);
                match allowed {
                    true => conversation.allow(),
                    false if !conversation.deny(&NOTICE) => return false,
                    false => {}
                }
            }
            Step::Opaque | Step::Refuse(_) => return false,
        }
        for side in [Side::Client, Side::Server] {
            if !conversation.insertion(side).is_empty() {
                conversation.inserted(side);
            }
        }
    }
    conversation.reply().is_none() || conversation.replied()
}

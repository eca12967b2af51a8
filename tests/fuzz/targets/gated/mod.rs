//! What holds for every protocol under the gate: what becomes of a client's bytes does not depend on how they are cut, and
//! whatever a server says, nothing panics, grows or leaves twice.

#[path = "../../../../proxy/inspect/tests/support/gate.rs"]
mod gate;

use bulkhead_inspect::{Conversation, Protocol, Question, Side, Step, detect};
pub(crate) use gate::World;
use gate::{Gate, NOTICE, Outcome, describe};

/// Denies about every fourth question, always the same ones.
pub(crate) fn some(question: &Question<'_>) -> bool {
    let text = describe(question);
    text.bytes().fold(7u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)) % 4 != 0
}

/// Shows a client in two ways, with a server that says what the world says; then both sides as they are.
pub(crate) fn check(world: World, cut: u8, client: &[u8], server: &[u8]) {
    check_behind(world, cut, &[], client, server);
}

/// The same where the client has said something before, and its server has answered that.
pub(crate) fn check_behind(world: World, cut: u8, before: &[u8], client: &[u8], server: &[u8]) {
    // HTTP/2 has targets of its own, where its server has a say.
    if detect::client(&[before, client].concat(), world.expected) == Some(Protocol::Http2) {
        return;
    }
    let piece = usize::from(cut % 17) + 1;
    let [cut_small, whole] = [piece, client.len()].map(|piece| seen(world, before, client, piece));
    assert_eq!(cut_small, whole, "cut differently");
    let client = [before, client].concat();
    for hold in [true, false] {
        both(world.expected, hold, cut, &client, server);
    }
}

fn seen(world: World, before: &[u8], client: &[u8], piece: usize) -> Outcome {
    let mut gate = Gate::new(world, piece.max(1));
    gate.client(before);
    assert_eq!(gate.outcome.to_server, before, "what was said before has passed");
    client.chunks(piece.max(1)).for_each(|part| gate.client(part));
    gate.outcome
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

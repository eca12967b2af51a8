//! HTTP/1, both sides, in pieces of any size: nothing leaves that was not shown, nothing leaves twice, and what becomes of a
//! client's bytes does not depend on how they are cut.
#![no_main]

#[path = "../../../proxy/inspect/tests/support/mod.rs"]
mod support;

use bulkhead_inspect::{Conversation, Protocol, Side, Step, detect};
use libfuzzer_sys::fuzz_target;
use support::{NOTICE, PLAIN, gate, run};

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (cut, client, server) = input;
    // HTTP/2 has targets of its own, which carry out what it says of itself.
    if detect::client(client, None) == Some(Protocol::Http2) {
        return;
    }
    let whole = run(&PLAIN, client, client.len());
    assert_eq!(run(&PLAIN, client, usize::from(cut % 17) + 1), whole, "cut differently");
    both_sides(cut, client, server);
});

/// Shows pieces of both sides in turn; lets every second request pass.
fn both_sides(mut cut: u8, client: &[u8], server: &[u8]) {
    let mut conversation = gate();
    let mut sent = [0usize; 2];
    let mut shown = [0usize; 2];
    let mut asked = 0u32;
    for _ in 0..client.len() + server.len() + 8 {
        cut = cut.wrapping_mul(31).wrapping_add(17);
        for (at, side, bytes) in [(0, Side::Client, client), (1, Side::Server, server)] {
            shown[at] = (shown[at] + usize::from(cut >> (4 * at) & 15)).min(bytes.len());
            if !drive(&mut conversation, side, &bytes[..shown[at]], &mut sent[at], &mut asked) {
                return;
            }
        }
    }
}

/// Does what the steps say until more bytes are needed; false where the conversation ends.
fn drive(
    conversation: &mut Conversation,
    side: Side,
    shown: &[u8],
    sent: &mut usize,
    asked: &mut u32,
) -> bool {
    loop {
        let rest = &shown[*sent..];
        let step = match side {
            Side::Client => conversation.client(rest),
            Side::Server => conversation.server(rest),
        };
        match step {
            Step::NeedMore => break,
            Step::Forward(count) | Step::Discard(count) => {
                assert!(count > 0 && count <= rest.len(), "{count} of {} bytes", rest.len());
                *sent += count;
            }
            Step::Ask(question) => {
                assert!(question.bytes.len() <= rest.len(), "a head that was not shown");
                *asked += 1;
                match asked.is_multiple_of(2) {
                    true => assert!(conversation.deny(&NOTICE), "a request of HTTP has a reply"),
                    false => conversation.allow(),
                }
            }
            Step::Opaque | Step::Refuse(_) => return false,
        }
    }
    conversation.reply().is_none() || conversation.replied()
}

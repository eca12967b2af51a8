//! A request between its question and its body: what is known of it, and how its head leaves.
//!
//! A head leaves as it came, but for lines that are cut, and for one that is put in: a server that may leave the body
//! unread is told to end the connection, since what it leaves there would be its next request.

use super::request::{self, Cuts, Intent};
use super::{After, Body, Outstanding};
use crate::contract::Step;
use crate::question::Question;

/// A request that waits for its verdict, or whose head leaves.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) head_bytes: u16,
    cuts: Cuts,
    pub(super) body: Body,
    pub(super) then: After,
    pub(super) about: Outstanding,
    /// What it is to become, where that is asked.
    pub(super) upgrade: Option<Box<[u8]>>,
    pub(super) close_after_denial: bool,
    /// The server has yet to be told that the connection ends with this request.
    pub(super) closes: bool,
}

/// What is said to a server that may leave the body unread, in the place of what the client says of the connection; and to
/// the client, if the server does not say it.
pub(super) const CLOSE: &[u8] = b"connection: close\r\n";

/// What ends a head.
pub(super) const EMPTY_LINE_BYTES: usize = 2;

impl Pending {
    pub(super) fn of(parsed: request::RequestHead<'_>, head_bytes: usize) -> (Question<'_>, Self) {
        let then = match parsed.intent {
            Intent::Upgrade | Intent::Connect => After::Held,
            Intent::Exchange if parsed.last => After::Ended,
            Intent::Exchange => After::Head,
        };
        let pending = Self {
            // A head is at most 16 KiB.
            head_bytes: u16::try_from(head_bytes).unwrap_or(u16::MAX),
            cuts: parsed.cuts,
            body: parsed.body,
            then,
            about: Outstanding { to_head: parsed.to_head, intent: parsed.intent, closes: parsed.closes },
            upgrade: parsed.upgrade.map(Box::from),
            // What follows such a head cannot be told from a body that we would have to read to skip.
            close_after_denial: parsed.body != Body::None || parsed.expects_continue || parsed.last,
            closes: parsed.closes,
        };
        (parsed.question, pending)
    }

    /// True where the server is told that the connection ends: behind the last line of the head.
    pub(super) fn has_to_close(&self, position: u16) -> bool {
        self.closes && position == self.fields_end()
    }

    /// The next piece of the head; `None` once it is out.
    pub(super) fn release<'a>(&self, position: &mut u16) -> Option<Step<'a>> {
        let start = *position;
        if self.has_to_close(start) {
            return Some(Step::NeedMore);
        }
        let cut = self.cuts.iter().find(|cut| cut.end > start && !cut.is_empty());
        let (end, dropped) = match cut {
            Some(cut) if cut.start <= start => (cut.end, true),
            Some(cut) => (cut.start, false),
            None if self.closes => (self.fields_end(), false),
            None => (self.head_bytes, false),
        };
        *position = end;
        match usize::from(end.saturating_sub(start)) {
            0 => None,
            count if dropped => Some(Step::Discard(count)),
            count => Some(Step::Forward(count)),
        }
    }

    /// Where the empty line begins.
    fn fields_end(&self) -> u16 {
        self.head_bytes.saturating_sub(2)
    }
}

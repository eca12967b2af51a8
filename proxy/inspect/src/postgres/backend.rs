//! What the server still has to answer, followed through its messages, so that each request is known to be answered once and
//! our refusals stand in their turn.

use crate::contract::Refusal;
use crate::limits::{POSTGRES_OUTSTANDING_MAX, POSTGRES_REFUSALS_MAX};
use crate::postgres::{frontend, malformed};
use std::collections::VecDeque;

/// What a message of the client has to be answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Parse,
    Bind,
    Describe,
    Close,
    Execute,
    Sync,
    /// A simple query or a function call, which end like a sync.
    Query,
    /// Stands where the client's data of a `COPY` ended.
    CopyEnd,
    /// A statement that was denied and replaced by one that fails: this is what the client is told; true if its own end
    /// follows.
    Denied(bool),
}

impl Expected {
    fn ends_with_ready(&self) -> bool {
        matches!(self, Self::Sync | Self::Query | Self::Denied(true))
    }

    /// Asked about, so that its end is of interest to whoever counts requests.
    fn is_counted(&self) -> bool {
        matches!(self, Self::Parse | Self::Execute | Self::Query)
    }
}

/// Follows the messages of a server.
#[derive(Debug, Default)]
pub(super) struct Backend {
    /// Bytes of the open message that are still to come.
    left: usize,
    /// The open message is not for the client.
    hidden: bool,
    /// What the client is told when it is over.
    instead: Option<Box<[u8]>>,
    outstanding: VecDeque<Expected>,
    /// What a client is told for those of them that are refusals of ours, in their order.
    refusals: VecDeque<Box<[u8]>>,
    /// Requests that were answered and not yet taken note of.
    completed: usize,
    /// After an error the server skips what comes until a sync.
    skips: bool,
    /// The server reads data of a `COPY`, and no syncs.
    copies: bool,
    /// The server was ready once: authentication is over.
    pub(super) ready: bool,
}

/// What to do with some bytes of the server.
pub(super) enum Passage {
    /// Too few to tell.
    More,
    Forward(usize),
    /// They are not for the client; when they are over, these bytes are.
    Hide(usize, Option<Box<[u8]>>),
}

impl Backend {
    /// A statement was denied, and one that fails is on its way in its place.
    pub(super) fn deny(&mut self, told: Box<[u8]>, simple: bool) {
        if !self.skips {
            self.refusals.push_back(told);
            self.outstanding.push_back(Expected::Denied(simple));
        }
    }

    /// A message of the client is on its way.
    pub(super) fn expect(&mut self, expected: Expected) {
        match expected {
            Expected::CopyEnd => {
                self.copies = false;
                if !self.outstanding.is_empty() {
                    self.outstanding.push_back(expected);
                }
            }
            Expected::Sync if self.copies => {}
            Expected::Sync => {
                self.skips = false;
                self.outstanding.push_back(expected);
            }
            expected if self.skips => self.completed += usize::from(expected.is_counted()),
            expected => self.outstanding.push_back(expected),
        }
    }

    /// True while so many refusals wait for their turn that further messages have to.
    pub(super) fn is_full(&self) -> bool {
        self.outstanding.len() >= POSTGRES_OUTSTANDING_MAX || self.refusals.len() >= POSTGRES_REFUSALS_MAX
    }

    /// Messages that the server has to answer.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// True between two messages of the server.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0
    }

    /// One request that was answered since the last call.
    pub(super) fn take_completed(&mut self) -> bool {
        let some = self.completed > 0;
        self.completed -= usize::from(some);
        some
    }

    /// Bytes that may pass without being looked at.
    pub(super) fn passable(&self) -> usize {
        if self.hidden { 0 } else { self.left }
    }

    pub(super) fn passed(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }

    /// Goes on with the message that is open, or begins the next.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Passage, Refusal> {
        if self.left == 0 {
            let Some((kind, length)) = frontend::header(bytes)? else { return Ok(Passage::More) };
            self.begin(kind, length)?;
            self.left = length;
        }
        let here = self.left.min(bytes.len());
        self.left -= here;
        if !self.hidden {
            return Ok(Passage::Forward(here));
        }
        let instead = if self.left == 0 { self.instead.take() } else { None };
        self.hidden = self.left > 0;
        Ok(Passage::Hide(here, instead))
    }

    /// What the beginning of a message says about what was expected.
    fn begin(&mut self, kind: u8, length: usize) -> Result<(), Refusal> {
        while self.outstanding.front() == Some(&Expected::CopyEnd) {
            self.outstanding.pop_front();
        }
        match (kind, self.outstanding.front()) {
            // Notices, settings and notifications come at any time.
            (b'N' | b'S' | b'A', _) => {}
            // Authentication, the key for cancellations, and versions that are not spoken.
            (b'R' | b'K' | b'v', _) if !self.ready => {}
            (b'Z', _) if length != 6 => return Err(malformed("state of an impossible length")),
            (b'Z', None) if !self.ready => {
                self.ready = true;
                // The message that began the session was asked about, and is answered now.
                self.completed += 1;
            }
            (b'Z', Some(front)) if front.ends_with_ready() => self.pop(),
            (b'E', _) => self.error(),
            (b'1', Some(Expected::Parse)) | (b'2', Some(Expected::Bind)) | (b'3', Some(Expected::Close)) => {
                self.pop();
            }
            (b'T' | b'n', Some(Expected::Describe)) => self.pop(),
            (b't', Some(Expected::Describe)) => {}
            (b'C' | b'I' | b's', Some(Expected::Execute)) => self.pop(),
            (b'G' | b'W', Some(Expected::Execute)) => self.copy(),
            (b'D' | b'H' | b'd' | b'c', Some(Expected::Execute)) => {}
            (b'C' | b'I' | b'T' | b'D' | b'G' | b'H' | b'W' | b'd' | b'c' | b'V', Some(Expected::Query)) => {}
            _ => return Err(malformed("message of the server that nothing asked for")),
        }
        Ok(())
    }

    fn pop(&mut self) {
        if let Some(expected) = self.outstanding.pop_front() {
            if let Expected::Denied(_) = expected {
                self.refusals.pop_front();
            }
            self.completed += usize::from(expected.is_counted());
        }
    }

    /// Of a simple query its end follows; else the server skips what comes before the next sync.
    fn error(&mut self) {
        match self.outstanding.front() {
            Some(Expected::Denied(simple)) => {
                let simple = *simple;
                self.outstanding.pop_front();
                (self.hidden, self.instead) = (true, self.refusals.pop_front());
                match simple {
                    true => self.outstanding.push_front(Expected::Sync),
                    false => self.skip(),
                }
            }
            Some(Expected::Query | Expected::Sync) | None => {}
            Some(_) => self.skip(),
        }
    }

    fn skip(&mut self) {
        self.copies = false;
        while let Some(front) = self.outstanding.front() {
            if *front == Expected::Sync {
                return;
            }
            self.pop();
        }
        self.skips = true;
    }

    /// The server reads data now, and overlooks syncs until it ends.
    fn copy(&mut self) {
        let end = self.outstanding.iter().position(|expected| *expected == Expected::CopyEnd);
        let until = end.unwrap_or(self.outstanding.len());
        let mut at = 0;
        self.outstanding.retain(|expected| {
            at += 1;
            at > until || *expected != Expected::Sync
        });
        self.copies = end.is_none();
    }
}

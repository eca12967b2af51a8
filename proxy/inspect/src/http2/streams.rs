//! The streams of one connection that were released to the server, and a short memory of those that are over.
//!
//! A stream that was denied never comes here: the server does not know it. One that has to end although the server knows
//! it is *ending*: the server was told, and the client is told once the server can say nothing more on it.

use crate::contract::Side;
use crate::limits::{STREAMS_ANSWERED_MAX, STREAMS_ENDED_REMEMBERED, STREAMS_RESET_REMEMBERED};
use crate::websocket::{Fault, Frames};
use std::collections::VecDeque;

/// Open streams, by identifier.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// INVARIANT: in ascending order, since clients open them so.
    open: Vec<Stream>,
    /// The highest stream that the client has opened.
    pub(super) last: u32,
    /// Streams that the client may not know to be over: what it sends on them is dropped.
    reset: Recent<STREAMS_RESET_REMEMBERED>,
    /// Those among them that we answered in full before the client was done: it is asked to stop once it goes on, since
    /// some clients lose an answer that a reset follows at once.
    answered: VecDeque<u32>,
    /// Streams that ended as they should.
    ended: Recent<STREAMS_ENDED_REMEMBERED>,
}

/// One released stream. Whoever opens many says little for each, so each is small.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// The client sends nothing more on it.
    pub(super) client_ended: bool,
    /// The server sends nothing more on it.
    pub(super) server_ended: bool,
    /// The final response has begun.
    pub(super) responded: bool,
    /// Status of the final response; 0 if it is not known.
    pub(super) status: u16,
    pub(super) about: About,
    pub(super) messages: Messages,
    /// Bytes of the body that still have to come; [`Stream::UNTOLD`] if the client did not tell.
    length_left: u64,
    rare: Option<Box<Rare>>,
}

/// Whether it is a WebSocket whose frames are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Messages {
    #[default]
    Unchecked,
    Checked,
    /// They may be compressed.
    CheckedCompressed,
}

/// What few streams have.
#[derive(Debug)]
enum Rare {
    /// How the client will be told that it is over, and the PING behind whose answer the server says nothing more on it.
    Ending(Ending, u32),
    /// Within a message of a WebSocket, or behind its end.
    Frames(Frames),
}

impl Stream {
    /// More than any length that a client can tell.
    const UNTOLD: u64 = u64::MAX;

    pub(super) fn new(id: u32, client_ended: bool, about: About, length_left: Option<u64>) -> Self {
        Self {
            id,
            client_ended,
            server_ended: false,
            responded: false,
            status: 0,
            about,
            messages: Messages::Unchecked,
            length_left: length_left.unwrap_or(Self::UNTOLD),
            rare: None,
        }
    }

    /// Bytes of the body that still have to come, if the client told.
    pub(super) fn length_left(&self) -> Option<u64> {
        Some(self.length_left).filter(|left| *left != Self::UNTOLD)
    }

    /// So many bytes are left of a body whose length the client told.
    pub(super) fn leave(&mut self, length_left: u64) {
        self.length_left = length_left;
    }

    /// It ends so once this PING is answered.
    pub(super) fn end(&mut self, ending: Ending, fence: u32) {
        self.rare = Some(Box::new(Rare::Ending(ending, fence)));
    }

    pub(super) fn ending(&self) -> Option<&Ending> {
        match self.rare.as_deref() {
            Some(Rare::Ending(ending, _)) => Some(ending),
            Some(Rare::Frames(_)) | None => None,
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending().is_some()
    }

    /// It was ending before the answer to this PING.
    fn is_over(&self, fence: u32) -> bool {
        matches!(self.rare.as_deref(), Some(Rare::Ending(_, own)) if *own <= fence)
    }

    pub(super) fn checks_frames(&self) -> bool {
        self.messages != Messages::Unchecked
    }

    /// Follows frames of a WebSocket, of which nothing is kept between two messages.
    pub(super) fn follow(&mut self, side: Side, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() || !self.checks_frames() {
            return Ok(());
        }
        match self.rare.as_deref_mut() {
            Some(Rare::Ending(..)) => {}
            Some(Rare::Frames(frames)) => {
                frames.follow(side, bytes)?;
                if frames.is_between_messages() {
                    self.rare = None;
                }
            }
            None => {
                let mut frames = Frames::new(self.messages == Messages::CheckedCompressed);
                frames.follow(side, bytes)?;
                if !frames.is_between_messages() {
                    self.rare = Some(Box::new(Rare::Frames(frames)));
                }
            }
        }
        Ok(())
    }
}

/// What has to be known of a request to answer it ourselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    /// A call of gRPC: answers are trailers.
    pub(super) grpc: bool,
    /// HEAD: an answer has no body.
    pub(super) to_head: bool,
}

/// What a client is told of a stream that had to end.
#[derive(Debug)]
pub(super) enum Ending {
    /// An error of the protocol.
    Reset(super::frame::Code),
    /// It is not allowed any more, in JSON and in a line.
    Denied { json: Box<str>, line: Box<str> },
}

/// What became of a stream that is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Nobody has opened it.
    Idle,
    /// It was reset, and the client may not know yet.
    Reset,
    /// It was open, and ended.
    Ended,
    /// It was left out, or ended long ago.
    Unknown,
}

impl Streams {
    pub(super) fn find(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.position(id)?;
        self.open.get_mut(at)
    }

    pub(super) fn peek(&self, id: u32) -> Option<&Stream> {
        self.open.get(self.position(id)?)
    }

    /// Adds a stream. INVARIANT: its identifier is higher than all before.
    pub(super) fn insert(&mut self, stream: Stream) {
        if self.open.len() == self.open.capacity() {
            self.open.reserve_exact(self.open.len().clamp(1, 8));
        }
        self.open.push(stream);
    }

    /// Removes a stream that ended in both directions.
    pub(super) fn end(&mut self, id: u32) -> Option<Stream> {
        let at = self.position(id)?;
        self.ended.insert(id);
        Some(self.open.remove(at))
    }

    /// Removes a stream that the server or we have reset.
    pub(super) fn reset(&mut self, id: u32) -> Option<Stream> {
        self.reset.insert(id);
        let at = self.position(id)?;
        Some(self.open.remove(at))
    }

    /// A stream is answered in full, and never was open. The one that has to be reset now, if there are too many.
    pub(super) fn answer(&mut self, id: u32) -> Option<u32> {
        self.reset.insert(id);
        self.answered.push_back(id);
        if self.answered.len() > STREAMS_ANSWERED_MAX { self.answered.pop_front() } else { None }
    }

    /// True if a stream was answered in full and the client was not done with it; it goes on now, or ends it.
    pub(super) fn goes_on(&mut self, id: u32) -> bool {
        let at = self.answered.iter().position(|answered| *answered == id);
        at.is_some_and(|at| self.answered.remove(at).is_some())
    }

    /// Removes the first stream that is ending and was reset before this PING.
    pub(super) fn take_ending(&mut self, fence: u32) -> Option<Stream> {
        let id = self.open.iter().find(|stream| stream.is_over(fence))?.id;
        self.reset(id)
    }

    /// What became of a stream that is not open.
    pub(super) fn past(&self, id: u32) -> Past {
        match id {
            id if id > self.last => Past::Idle,
            id if self.reset.contains(id) => Past::Reset,
            id if self.ended.contains(id) => Past::Ended,
            _ => Past::Unknown,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    /// Gives back what no open stream needs.
    pub(super) fn release(&mut self) {
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        if self.answered.is_empty() {
            self.answered = VecDeque::new();
        }
    }
}

/// The last few identifiers of one kind.
#[derive(Debug)]
struct Recent<const COUNT: usize> {
    ids: [u32; COUNT],
    next: usize,
}

impl<const COUNT: usize> Default for Recent<COUNT> {
    fn default() -> Self {
        // 0 is the connection itself, never a stream.
        Self { ids: [0; COUNT], next: 0 }
    }
}

impl<const COUNT: usize> Recent<COUNT> {
    fn insert(&mut self, id: u32) {
        if let Some(slot) = self.ids.get_mut(self.next) {
            *slot = id;
        }
        self.next = (self.next + 1) % COUNT;
    }

    fn contains(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }
}

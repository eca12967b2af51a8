//! The one contract of every protocol: bytes in, one of six steps out.
//!
//! Whoever drives a conversation owns sockets, timers and the clock. It shows what it has read and not yet let
//! go, and does what the step says, and takes what is to be inserted. Between [`Step::Ask`] and the answer nothing
//! leaves. [`Inspector`] is what a
//! protocol has to know, [`crate::Conversation`] the face of all of them, [`Question`] what is asked.

use crate::question::Question;
use bulkhead_facts::Reason;

/// Which end of a connection sent the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who opened the connection.
    Client,
    /// Who accepted it.
    Server,
}

/// What to do with the bytes that were shown.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a question lives on the stack for one call; boxing it would allocate"
)]
pub enum Step<'a> {
    /// Nothing can be said before more bytes come, or before the other side has moved on.
    NeedMore,
    /// A request is complete: decide on it and tell the conversation. Nothing may leave until then.
    Ask(Question<'a>),
    /// So many of the bytes may leave as they are.
    Forward(usize),
    /// So many of the bytes belong to nothing that may leave: drop them. Where others leave in their place, those
    /// are the conversation's [insertion](crate::Conversation::insertion). Under the tee the original ones leave.
    Discard(usize),
    /// From here on the bytes of both sides mean nothing to us.
    Opaque,
    /// The bytes cannot be decided on.
    Refuse(Refusal),
}

/// Why bytes were refused before any rule was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `malformed`, `ambiguous`, `limit` or `protocol_mismatch`.
    pub reason: Reason,
    /// The status of HTTP that a client may be told; `None` where only closing both sides is safe.
    pub status: Option<u16>,
    /// What was wrong, for the operator: never text of the peer.
    pub detail: &'static str,
}

/// What a refused client is told, for each protocol to put into its own form.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Status, where the protocol is HTTP.
    pub status: u16,
    /// JSON, for protocols with bodies.
    pub json: &'a str,
    /// One line of printable ASCII, for protocols with error messages.
    pub line: &'a str,
}

/// What the last call on the server's side brought to one open request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Which one; see [`Question::exchange`].
    pub exchange: u32,
    /// Status of its final response, or 101, or of the 2xx to a CONNECT. `None` for protocols without.
    pub status: Option<u16>,
    /// Its response is complete.
    pub completed: bool,
    /// The connection is a tunnel now.
    pub tunnel: bool,
}

/// One protocol on one connection. What a protocol does not need it leaves as it is here.
pub(crate) trait Inspector {
    /// What to do with bytes from the client that were not yet let go.
    fn client<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a>;

    /// What to do with bytes from the server that were not yet let go.
    fn server<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a>;

    /// Releases the request that was asked about.
    fn allow(&mut self);

    /// The request that was asked about, and that is released next, becomes a WebSocket whose frames are checked, if the
    /// server agrees. `compressed`: the client offers `permessage-deflate`.
    fn check_frames(&mut self, _compressed: bool) {}

    /// True if frames of a WebSocket are checked: of this exchange, or of the connection as a whole where it is 0.
    fn checks_frames(&self, _exchange: u32) -> bool {
        false
    }

    /// True if they are, or will be if the server agrees.
    fn will_check_frames(&self, exchange: u32) -> bool {
        self.checks_frames(exchange)
    }

    /// Drops the request that was asked about and prepares a reply in its turn. False where only closing both
    /// sides is safe.
    fn deny(&mut self, notice: &Notice<'_>) -> bool;

    /// Prepares the last words to what [`Step::Refuse`] refused on the client's side. False as in
    /// [`deny`](Self::deny).
    fn reject(&mut self, refusal: &Refusal, notice: &Notice<'_>) -> bool;

    /// Prepares the last words to a client whose bytes are opaque from here on and may not be. False as in
    /// [`deny`](Self::deny).
    fn close_opaque(&mut self, _: &Notice<'_>) -> bool {
        false
    }

    /// True if what is opaque from here on belongs to something that was asked about.
    fn is_judged(&self) -> bool {
        false
    }

    /// Our own words to the client, once everything before them is through.
    fn reply(&self) -> Option<&[u8]> {
        None
    }

    /// The reply was written. True if the connection goes on.
    fn replied(&mut self) -> bool {
        true
    }

    /// What happened to an open request since the last call.
    fn take_progress(&mut self) -> Progress {
        Progress::default()
    }

    /// How many further bytes of that side may leave without being looked at.
    fn passable(&self, _: Side) -> u64 {
        0
    }

    /// So many bytes, at most [`passable`](Self::passable), left without being looked at.
    fn passed(&mut self, _: Side, _: u64) {}

    /// Bytes of our own for that side, which may follow what was let through until now.
    fn insertion(&self, _: Side) -> &[u8] {
        &[]
    }

    /// The bytes of [`insertion`](Self::insertion) were taken.
    fn inserted(&mut self, _: Side) {}

    /// From here on steps are obeyed (the gate), or everything leaves as it is (the tee). So many bytes of the client,
    /// the next to be shown, have left already.
    fn hold(&mut self, _: bool, _: usize) {}

    /// So many bytes of the server, the next to be shown, have left already.
    fn answers_left(&mut self, _: usize) {}

    /// True if steps must be obeyed from now on, whatever the policy says: what left was written anew.
    fn stays_held(&self) -> bool {
        false
    }

    /// Another policy is in force: what was allowed before may not be.
    fn policy_changed(&mut self) {}

    /// True after a refusal that concerns one request only: the connection goes on once it is rejected, or allowed
    /// under the tee.
    fn survives(&self) -> bool {
        false
    }

    /// An open request is not allowed any more. False where only closing both sides is safe.
    fn revoke(&mut self, _: u32, _: &Notice<'_>) -> bool {
        false
    }

    /// So many milliseconds have passed since some fixed moment.
    fn tick(&mut self, _: u64) {}

    /// Takes no new request, where the protocol can say so.
    fn drain(&mut self) {}

    /// Gives back memory that nothing open needs.
    fn release(&mut self) {}

    /// Bytes of the client that have to be shown together at most.
    fn bytes_max(&self) -> usize;

    /// Where it stands.
    fn standing(&self) -> Standing;

    /// See [`Standing::answered_early`]: asked after each step of the server.
    fn answered_early(&self) -> bool {
        self.standing().answered_early
    }

    /// Requests released and not yet answered to the end.
    fn outstanding(&self) -> usize;

    /// Reads no further request after the one whose body is open.
    fn end_after_exchange(&mut self) {}
}

/// Where a conversation stands, as far as deadlines and ends depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Between two requests, with nothing open.
    pub idle: bool,
    /// The next bytes from the client begin or continue what has to be complete to be judged.
    pub in_question: bool,
    /// What has to be complete was begun, and its first bytes were let go already.
    pub begun: bool,
    /// A request's body is incomplete.
    pub in_body: bool,
    /// What is left of something that was denied is dropped as it comes, to an end that is known.
    pub dropping: bool,
    /// A response is begun and its framing says that more must come. The bytes of an incomplete head are the
    /// caller's to see.
    pub in_response: bool,
    /// What a client has sent cannot be looked at before the server, or our own reply, is through.
    pub waits_for_server: bool,
    /// The server has to say its first words before anything goes on.
    pub awaits_greeting: bool,
    /// A reply of ours waits for its turn.
    pub has_reply: bool,
    /// The last request is answered, in part or whole, and its body is incomplete: nobody knows whether the
    /// server will read what is left of it as a body, or as a request.
    pub answered_early: bool,
    /// The exchange that was to be the last is complete in both directions.
    pub finished: bool,
    /// So is the one that the client said is its last.
    pub over: bool,
}

//! One connection whose protocol is told by its first bytes.

use crate::contract::{Refusal, Side, Step};
use crate::detect::{self, Protocol};
use crate::http1::{Http1, Progress};

/// A connection from its first byte on.
#[derive(Debug, Default)]
pub struct Conversation {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing came, or too little to tell.
    #[default]
    Detecting,
    Http1(Http1),
    Opaque(Protocol),
}

impl Conversation {
    /// What to do with bytes from the client that were not yet let go.
    pub fn client<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        if let State::Detecting = self.state {
            match detect::client(bytes) {
                None => return Step::NeedMore,
                Some(Protocol::Http1) => self.state = State::Http1(Http1::default()),
                Some(other) => self.state = State::Opaque(other),
            }
        }
        match &mut self.state {
            State::Http1(http) => http.client(bytes),
            State::Opaque(_) => Step::Opaque,
            State::Detecting => Step::NeedMore,
        }
    }

    /// What to do with bytes from the server that were not yet let go.
    pub fn server<'a>(&mut self, bytes: &[u8]) -> Step<'a> {
        if matches!(self.state, State::Detecting) && !bytes.is_empty() {
            self.state = State::Opaque(detect::server(bytes));
        }
        match &mut self.state {
            State::Http1(http) => http.server(bytes),
            State::Opaque(_) => Step::Opaque,
            State::Detecting => Step::NeedMore,
        }
    }

    /// The client ends before its first bytes tell anything.
    pub fn give_up_detection(&mut self) {
        if let State::Detecting = self.state {
            self.state = State::Opaque(Protocol::Unknown);
        }
    }

    /// What it speaks; `None` while that cannot be told.
    pub fn protocol(&self) -> Option<Protocol> {
        match &self.state {
            State::Detecting => None,
            State::Http1(_) => Some(Protocol::Http1),
            State::Opaque(protocol) => Some(*protocol),
        }
    }

    /// Releases the request that was asked about.
    pub fn allow(&mut self) {
        if let State::Http1(http) = &mut self.state {
            http.allow();
        }
    }

    /// Drops the request that was asked about; see [`Http1::deny`].
    pub fn deny(&mut self, status: u16, body: &str) {
        if let State::Http1(http) = &mut self.state {
            http.deny(status, body);
        }
    }

    /// Prepares the reply to a refusal; see [`Http1::reject`].
    pub fn reject(&mut self, refusal: &Refusal, body: &str) -> bool {
        match &mut self.state {
            State::Http1(http) => http.reject(refusal, body),
            State::Detecting | State::Opaque(_) => false,
        }
    }

    /// The HTTP/1 conversation, if it is one.
    pub fn http1(&self) -> Option<&Http1> {
        match &self.state {
            State::Http1(http) => Some(http),
            State::Detecting | State::Opaque(_) => None,
        }
    }

    /// Reads no further request; see [`Http1::end_after_exchange`].
    pub fn end_after_exchange(&mut self) {
        if let State::Http1(http) = &mut self.state {
            http.end_after_exchange();
        }
    }

    /// Our own response, once every earlier one is complete.
    pub fn reply(&self) -> Option<&[u8]> {
        self.http1().and_then(Http1::reply)
    }

    /// The reply was written. True if the connection goes on.
    pub fn replied(&mut self) -> bool {
        match &mut self.state {
            State::Http1(http) => http.replied(),
            State::Detecting | State::Opaque(_) => false,
        }
    }

    /// What happened to the oldest open request since the last call.
    pub fn take_progress(&mut self) -> Progress {
        match &mut self.state {
            State::Http1(http) => http.take_progress(),
            State::Detecting | State::Opaque(_) => Progress::default(),
        }
    }

    /// How many further bytes of that side may leave without being looked at.
    pub fn passable(&self, side: Side) -> u64 {
        match &self.state {
            State::Http1(http) => http.passable(side),
            State::Opaque(_) => u64::MAX,
            State::Detecting => 0,
        }
    }

    /// So many bytes left without being looked at.
    pub fn passed(&mut self, side: Side, count: u64) {
        if let State::Http1(http) = &mut self.state {
            http.passed(side, count);
        }
    }
}

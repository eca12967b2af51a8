//! What follows an upgrade: opaque bytes, or frames of a WebSocket that are checked.
//!
//! Frames themselves are read in [`crate::websocket`]; here is what becomes of a wrong one, for both sides.

use crate::contract::{Refusal, Side, Step};
use crate::websocket::{self, Fault, Frames, TOO_LARGE};
use bulkhead_facts::Reason;

/// What is done about the frames of a WebSocket.
#[derive(Debug, Default)]
pub(super) enum WebSocket {
    /// Nothing: what follows an upgrade is opaque.
    #[default]
    Opaque,
    /// They are checked if the server agrees to the upgrade.
    Wanted,
    /// They are checked.
    Checked(Box<Checked>),
}

#[derive(Debug)]
pub(super) struct Checked {
    pub(super) frames: Frames,
    fault: Option<Fault>,
    /// A close of our own, for the server.
    pub(super) to_server: Vec<u8>,
}

impl WebSocket {
    /// Frames are checked from here on.
    pub(super) fn checked(frames: Frames) -> Self {
        Self::Checked(Box::new(Checked { frames, fault: None, to_server: Vec::new() }))
    }

    pub(super) fn step<'a>(&mut self, side: Side, bytes: &[u8]) -> Step<'a> {
        let Self::Checked(checked) = self else { return Step::Opaque };
        if checked.fault.is_some() && (side == Side::Client || checked.frames.is_between(side)) {
            return Step::NeedMore;
        }
        match checked.frames.next(side, bytes) {
            Ok(0) => Step::NeedMore,
            Ok(count) => Step::Forward(count),
            Err(fault) => {
                checked.fault = Some(fault);
                let reason = if fault.code == TOO_LARGE { Reason::Limit } else { Reason::Malformed };
                Step::Refuse(Refusal { reason, status: None, detail: fault.detail })
            }
        }
    }
}

impl Checked {
    /// A close for both sides; `None` where it would stand within a frame of the server.
    pub(super) fn close(&mut self, line: &str) -> Option<Vec<u8>> {
        let code = self.fault?.code;
        if self.frames.is_between(Side::Client) {
            self.to_server = websocket::close(code, line, Side::Server);
        }
        self.frames.is_between(Side::Server).then(|| websocket::close(code, line, Side::Client))
    }
}

//! The one contract of every protocol: bytes in, one of six steps out.
//!
//! Whoever drives a conversation owns sockets, timers and the clock. It shows what it has read and not yet let
//! go, and does what the step says. Between [`Step::Ask`] and the answer nothing leaves.

use crate::fields::FieldList;
use bulkhead_facts::{HostName, HttpRequest, PathError, Reason, Request, UrlPath};
use std::sync::Arc;

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
    /// So many of the bytes belong to nothing that may leave: drop them.
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
    /// The status a client may be told; `None` where only closing both sides is safe.
    pub status: Option<u16>,
    /// What was wrong, for the operator: never text of the peer.
    pub detail: &'static str,
}

/// A request that waits for its verdict, borrowed from the bytes that leave if it is allowed.
#[derive(Debug)]
pub struct Question<'a> {
    /// The whole head.
    pub head: &'a [u8],
    /// Method, an exact, case-sensitive token.
    pub method: &'a str,
    /// What it is about.
    pub target: Target<'a>,
    /// Host without port.
    pub host: Option<Arc<HostName>>,
    /// Header fields that will be released, in the order of the wire.
    pub fields: FieldList<'a>,
}

/// What a request is about.
#[derive(Debug)]
pub enum Target<'a> {
    /// A path, and a query without its `?`.
    Path(UrlPath<'a>, Option<&'a str>),
    /// A path that servers read differently.
    Ambiguous(&'a str, PathError),
    /// `*`, the server as a whole.
    Asterisk,
    /// `host:port`, for a tunnel there.
    Authority(&'a str),
}

impl Question<'_> {
    /// The form that rules are asked about. A target without a doubtless path, the server as a whole and a
    /// tunnel are opaque: no allow with an L7 section matches them, a deny does.
    pub fn request(&self) -> Request<'_> {
        match &self.target {
            Target::Path(path, query) => Request::Http(HttpRequest {
                method: self.method,
                path,
                query: *query,
                host: self.host.as_deref(),
                headers: self.fields.as_slice(),
            }),
            Target::Ambiguous(..) | Target::Asterisk | Target::Authority(_) => Request::Opaque,
        }
    }

    /// Why the target can be read in two ways, if it can.
    pub fn ambiguity(&self) -> Option<PathError> {
        match &self.target {
            Target::Ambiguous(_, error) => Some(*error),
            Target::Path(..) | Target::Asterisk | Target::Authority(_) => None,
        }
    }

    /// The target for a report: a path without its query, `*`, or the authority.
    pub fn target_text(&self) -> &str {
        match &self.target {
            Target::Path(path, _) => path.normal(),
            Target::Ambiguous(raw, _) | Target::Authority(raw) => raw,
            Target::Asterisk => "*",
        }
    }
}

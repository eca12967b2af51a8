//! What is asked about: one request of one protocol, borrowed from the bytes that leave if it is allowed.
//!
//! [`Question::request`] is the form that rules know. [`Question::keep`] makes an owned copy of as little as it
//! takes to ask again when the policy changes.

use crate::detect::Protocol;
use crate::fields::FieldList;
use crate::http1;
use bulkhead_facts::{HostName, HttpRequest, PathError, Request, UrlPath};
use std::sync::Arc;

/// A request that waits for its verdict.
#[derive(Debug)]
pub struct Question<'a> {
    /// What it was read from, in full; empty where the bytes that leave are others.
    pub bytes: &'a [u8],
    /// Tells it from others that are open at the same time; 0 where answers come in the order of requests.
    pub exchange: u32,
    /// It stays open until the connection ends, whatever is answered: a subscription.
    pub lasting: bool,
    /// What it is.
    pub subject: Subject<'a>,
}

/// A request of one protocol.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "see `Step`")]
pub enum Subject<'a> {
    /// A request of HTTP.
    Http(HttpHead<'a>),
}

/// The head of a request of HTTP.
#[derive(Debug)]
pub struct HttpHead<'a> {
    /// Method, an exact, case-sensitive token.
    pub method: &'a str,
    /// What it is about.
    pub target: Target<'a>,
    /// Host without port.
    pub host: Option<Arc<HostName>>,
    /// Header fields that will be released, in the order of the wire.
    pub fields: FieldList<'a>,
}

/// What a request of HTTP is about.
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

impl<'a> Question<'a> {
    /// The form that rules are asked about. A target without a doubtless path, the server as a whole and a
    /// tunnel are opaque: no allow with an L7 section matches them, a deny does.
    pub fn request(&self) -> Request<'_> {
        match &self.subject {
            Subject::Http(head) => head.request(),
        }
    }

    /// Why it can be read in two ways, if it can.
    pub fn ambiguity(&self) -> Option<PathError> {
        match &self.subject {
            Subject::Http(HttpHead { target: Target::Ambiguous(_, error), .. }) => Some(*error),
            Subject::Http(_) => None,
        }
    }

    /// The head of HTTP, if it is one.
    pub fn http(&self) -> Option<&HttpHead<'a>> {
        match &self.subject {
            Subject::Http(head) => Some(head),
        }
    }

    /// The protocol that it belongs to.
    pub fn protocol(&self) -> Protocol {
        match &self.subject {
            Subject::Http(_) => Protocol::Http1,
        }
    }

    /// Bytes that [`keep`](Self::keep) would take.
    pub fn size(&self) -> usize {
        match &self.subject {
            Subject::Http(_) => self.bytes.len(),
        }
    }

    /// What it takes to ask again.
    pub fn keep(&self) -> Kept {
        match &self.subject {
            Subject::Http(_) => Kept::Http(self.bytes.into()),
        }
    }
}

impl HttpHead<'_> {
    fn request(&self) -> Request<'_> {
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

    /// The target for a report: a path without its query, `*`, or the authority.
    pub fn target_text(&self) -> &str {
        match &self.target {
            Target::Path(path, _) => path.normal(),
            Target::Ambiguous(raw, _) | Target::Authority(raw) => raw,
            Target::Asterisk => "*",
        }
    }
}

/// A question that was answered and may have to be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The head of a request of HTTP/1.
    Http(Box<[u8]>),
}

impl Kept {
    /// The question as it was; `None` if it cannot be asked again.
    pub fn question(&self) -> Option<Question<'_>> {
        match self {
            Self::Http(head) => http1::question(head),
        }
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        match self {
            Self::Http(head) => head.len(),
        }
    }
}

//! What an inspector asks about: the parsed, canonical form of one request.

use crate::{HostName, UrlPath};

/// One request, borrowed from the bytes that will be released if it is allowed.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// An HTTP request head.
    Http(HttpRequest<'a>),
    /// Bytes of a protocol that no inspector of ours reads. An allow with an L7 section does not match
    /// it, a deny does.
    Opaque,
}

/// An HTTP request head in canonical form.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// Method, an exact, case-sensitive token (RFC 9110 section 9.1).
    pub method: &'a str,
    /// Path, both raw and normal.
    pub path: &'a UrlPath<'a>,
    /// Query without its `?`; `None` where the target has none.
    pub query: Option<&'a str>,
    /// `Host` or `:authority`, port split off; `None` where HTTP/1.0 sent none.
    pub host: Option<&'a HostName>,
    /// Header fields in the order of the wire.
    pub headers: &'a [HeaderField<'a>],
}

/// One header field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderField<'a> {
    /// Name in the case of the wire; compared without case.
    pub name: &'a [u8],
    /// Value without surrounding white space.
    pub value: &'a [u8],
}

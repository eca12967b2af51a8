//! Header lists of requests: pseudo-header fields, what a field may look like, and what is asked (RFC 9113 section 8).
//!
//! Strict on purpose: what could be read in two ways, here or behind a server that speaks HTTP/1 to the next, is malformed
//! before any rule is asked.

use super::hpack::Fields;
use crate::contract::Refusal;
use crate::fields::FieldList;
use crate::http1::{HostCache, content_length, is_method, is_text, is_token, path_and_query};
use crate::question::{HttpHead, Target};
use bulkhead_facts::{HeaderField, HostName, Reason};
use std::sync::Arc;

/// A well-formed header list of a request.
#[derive(Debug)]
pub(super) struct RequestHead<'a> {
    pub(super) head: HttpHead<'a>,
    /// Bytes of its body, where it tells.
    pub(super) content_length: Option<u64>,
    /// A call of gRPC.
    pub(super) grpc: bool,
}

/// Name and value of fields, in the order of the wire.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// What a server has said that it takes beyond the plain protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offers {
    /// CONNECT with a protocol (RFC 8441).
    pub(super) connects: bool,
    /// Values of `-bin` fields as they are, behind a zero byte (gRPC, "True Binary Metadata"): clients of gRPC's core library
    /// write them so to every server of that library.
    pub(super) binary: bool,
}

impl Offers {
    /// For a request that was read with what was offered then.
    pub(super) const ALL: Self = Self { connects: true, binary: true };
}

/// Reads the header list of a request.
pub(super) fn read<'a>(
    pairs: impl Iterator<Item = Pair<'a>>,
    offers: Offers,
    hosts: &mut HostCache,
) -> Result<RequestHead<'a>, Refusal> {
    let mut pseudo = Pseudo::default();
    let mut seen = Seen::default();
    let mut fields = FieldList::new();
    for (name, value) in pairs {
        if let Some(name) = name.strip_prefix(b":") {
            match fields.as_slice().is_empty() {
                true => pseudo.note(name, value)?,
                false => return Err(malformed("pseudo-header field behind a field")),
            }
            continue;
        }
        check_field(name, value, offers)?;
        seen.note(name, value)?;
        if !fields.push_within(HeaderField { name, value }, crate::limits::HEADER_LIST_FIELDS_MAX) {
            return Err(Refusal {
                reason: Reason::Limit,
                status: Some(431),
                detail: "more than 256 header fields",
            });
        }
    }
    let method = pseudo.method.ok_or(malformed("no :method"))?;
    if !is_method(method) {
        return Err(malformed("method that is no upper-case token"));
    }
    let method = ascii(method)?;
    let host = host(&pseudo, seen.host, hosts)?;
    let target = match (method, pseudo.protocol) {
        ("CONNECT", None) => tunnel(&pseudo)?,
        ("CONNECT", Some(_)) if !offers.connects => {
            return Err(malformed("CONNECT with a protocol that the server does not offer"));
        }
        ("CONNECT", Some(protocol)) => extended(&pseudo, protocol, &mut fields)?,
        (_, Some(_)) => return Err(malformed(":protocol without CONNECT")),
        (_, None) => plain(&pseudo, method)?,
    };
    // The rules know such a request as the GET that it stands for.
    let is_websocket = method == "CONNECT" && matches!(target, Target::Path(..) | Target::Ambiguous(..));
    let method = if is_websocket { "GET" } else { method };
    Ok(RequestHead {
        head: HttpHead { method, target, host: Some(host), fields },
        content_length: seen.content_length,
        grpc: seen.grpc,
    })
}

/// Checks the header list of trailers.
pub(super) fn check_trailers(fields: &Fields, offers: Offers) -> Result<(), Refusal> {
    fields.iter().try_for_each(|(name, value)| match name.first() {
        Some(b':') => Err(malformed("pseudo-header field in trailers")),
        Some(_) if matches!(name, b"content-length" | b"host") => {
            Err(malformed("trailer that would frame the message"))
        }
        Some(_) | None => check_field(name, value, offers),
    })
}

#[derive(Default)]
struct Pseudo<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    protocol: Option<&'a [u8]>,
}

impl<'a> Pseudo<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        let slot = match name {
            b"method" => &mut self.method,
            b"scheme" => &mut self.scheme,
            b"authority" => &mut self.authority,
            b"path" => &mut self.path,
            b"protocol" => &mut self.protocol,
            _ => return Err(malformed("pseudo-header field that no request has")),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(malformed("pseudo-header field that comes twice")),
        }
    }

    fn scheme(&self) -> Result<(), Refusal> {
        match self.scheme {
            Some(b"http" | b"https") => Ok(()),
            Some(_) => Err(malformed("scheme other than exactly `http` and `https`")),
            None => Err(malformed("no :scheme")),
        }
    }
}

#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<u64>,
    grpc: bool,
}

impl<'a> Seen<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        match name {
            b"host" => match self.host.replace(value) {
                None => Ok(()),
                Some(_) => Err(malformed("two hosts")),
            },
            b"content-length" => match self.content_length.replace(content_length(value)?) {
                None => Ok(()),
                Some(_) => Err(malformed("two content-length fields")),
            },
            b"content-type" => {
                let rest = value.strip_prefix(b"application/grpc");
                self.grpc |= rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Name and value of any field (RFC 9113 section 8.2).
fn check_field(name: &[u8], value: &[u8], offers: Offers) -> Result<(), Refusal> {
    // No early exit: names are short.
    let is_name = |all: bool, byte: &u8| all & is_token(*byte) & !byte.is_ascii_uppercase();
    if name.is_empty() || !name.iter().fold(true, is_name) {
        return Err(malformed("field name that is no lower-case token"));
    }
    let edge = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let binary = offers.binary && name.ends_with(b"-bin") && value.first() == Some(&0);
    if !binary && (!is_text(value) || edge(value.first()) || edge(value.last())) {
        return Err(malformed("field value with a control byte, or space around it"));
    }
    match name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade"
        | b"http2-settings" => Err(malformed("field that belongs to a connection of HTTP/1")),
        b"te" if value != b"trailers" => Err(malformed("te other than `trailers`")),
        _ => Ok(()),
    }
}

/// The one host that `:authority` and `host` name.
fn host(pseudo: &Pseudo<'_>, field: Option<&[u8]>, hosts: &mut HostCache) -> Result<Arc<HostName>, Refusal> {
    let (first, second) = match (pseudo.authority, field) {
        (Some(authority), field) => (authority, field),
        (None, Some(field)) => (field, None),
        (None, None) => return Err(malformed("neither :authority nor host")),
    };
    let name = hosts.parse(first)?;
    match second {
        Some(other) if other != first => {
            let mut others = HostCache::default();
            match others.parse(other)? == name && others.port() == hosts.port() {
                true => Ok(name),
                false => Err(malformed("host that is not :authority")),
            }
        }
        Some(_) | None => Ok(name),
    }
}

fn plain<'a>(pseudo: &Pseudo<'a>, method: &str) -> Result<Target<'a>, Refusal> {
    pseudo.scheme()?;
    let path = path(pseudo)?;
    match path {
        "*" if method == "OPTIONS" => Ok(Target::Asterisk),
        path if path.starts_with('/') => path_and_query(path),
        _ => Err(malformed(":path that does not begin with `/`")),
    }
}

fn path<'a>(pseudo: &Pseudo<'a>) -> Result<&'a str, Refusal> {
    let path = pseudo.path.ok_or(malformed("no :path"))?;
    if path.is_empty() || !path.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#') {
        return Err(malformed(":path with a byte that no target has"));
    }
    // Of those bytes any text is made.
    std::str::from_utf8(path).map_err(|_| malformed(":path with a byte that no target has"))
}

/// CONNECT to another host and port (RFC 9113 section 8.5).
fn tunnel<'a>(pseudo: &Pseudo<'a>) -> Result<Target<'a>, Refusal> {
    if pseudo.scheme.is_some() || pseudo.path.is_some() {
        return Err(malformed("CONNECT with :scheme or :path"));
    }
    let authority = ascii(pseudo.authority.ok_or(malformed("CONNECT without :authority"))?)?;
    match HostName::parse_authority(authority) {
        Ok((_, Some(_))) => Ok(Target::Authority(authority)),
        Ok((_, None)) | Err(_) => Err(malformed("CONNECT whose :authority is no host and port")),
    }
}

/// CONNECT with a protocol (RFC 8441). A WebSocket is asked about like the GET with `upgrade` that it stands for; every
/// other protocol is a tunnel that no rule can name.
fn extended<'a>(
    pseudo: &Pseudo<'a>,
    protocol: &'a [u8],
    fields: &mut FieldList<'a>,
) -> Result<Target<'a>, Refusal> {
    pseudo.scheme()?;
    let path = path(pseudo)?;
    let authority = ascii(pseudo.authority.ok_or(malformed("CONNECT without :authority"))?)?;
    if protocol.is_empty() || !protocol.iter().all(|byte| is_token(*byte)) {
        return Err(malformed(":protocol that is no token"));
    }
    if protocol != b"websocket" {
        return Ok(Target::Authority(authority));
    }
    let upgrade = HeaderField { name: b"upgrade", value: protocol };
    match fields.push_within(upgrade, crate::limits::HEADER_LIST_FIELDS_MAX + 1) && path.starts_with('/') {
        true => path_and_query(path),
        false => Err(malformed(":path that does not begin with `/`")),
    }
}

fn ascii(bytes: &[u8]) -> Result<&str, Refusal> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text),
        Ok(_) | Err(_) => Err(malformed("pseudo-header field outside ASCII")),
    }
}

/// A request that is no request; its stream ends, others go on.
pub(super) const fn malformed(detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Malformed, status: Some(400), detail }
}

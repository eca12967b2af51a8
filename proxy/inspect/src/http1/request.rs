//! Request heads: line, host, framing, what is asked of the connection.

use super::head::{Lines, content_length, elements, field, malformed, too_large};
use super::{Body, HostCache};
use crate::contract::Refusal;
use crate::fields::FieldList;
use crate::limits::METHOD_BYTES_MAX;
use crate::question::{HttpHead, Question, Subject, Target};
use bulkhead_facts::{HeaderField, HostName, PathError, UrlPath};
use std::ops::Range;

/// A complete, well-formed request head.
#[derive(Debug)]
pub(super) struct RequestHead<'a> {
    pub(super) question: Question<'a>,
    /// Its answer has no body.
    pub(super) to_head: bool,
    pub(super) body: Body,
    /// What the request asks of the connection.
    pub(super) intent: Intent,
    /// What it is to become, where that is asked.
    pub(super) upgrade: Option<&'a [u8]>,
    /// The client waits for an interim response before it sends the body.
    pub(super) expects_continue: bool,
    /// No further request follows on this connection.
    pub(super) last: bool,
    /// Lines that are left out when the head is released.
    pub(super) cuts: Cuts,
    /// The server is to end the connection after it, and the client does not say so.
    pub(super) closes: bool,
}

/// What becomes of the connection if the server agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// It goes on.
    Exchange,
    /// It becomes something else after a 101.
    Upgrade,
    /// It becomes a tunnel after a 2xx.
    Connect,
}

/// Ranges of a head, in order, that do not leave: the lines that ask for HTTP/2, and what is said of the connection where
/// something else is said instead.
pub(super) type Cuts = [Range<u16>; 3];

/// Methods whose content means nothing (RFC 9110 section 9.3): servers leave it unread, and some then take it for the next
/// request.
const WITHOUT_CONTENT: [&str; 5] = ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"];

/// Reads the complete head in `head` (RFC 9112 sections 2 and 3). Under the gate a server that may not read the body is told
/// to end the connection.
pub(super) fn parse<'a>(
    head: &'a [u8],
    cache: &mut HostCache,
    gate: bool,
) -> Result<RequestHead<'a>, Refusal> {
    let mut lines = Lines::new(head);
    let (_, line) = lines.next().ok_or(malformed("no request line"))?;
    let (method, target, minor) = request_line(line)?;
    let mut fields = FieldList::new();
    let mut seen = Seen::default();
    for (offset, line) in lines {
        let field = field(line)?;
        seen.note(field, offset..offset + line.len() + 2)?;
        if !fields.push(field) {
            return Err(too_large(431, "more than 100 header fields"));
        }
    }
    if seen.transfer_encoding && (seen.content_length.is_some() || minor == 0) {
        return Err(malformed("transfer-encoding with content-length, or in HTTP/1.0"));
    }
    let host = seen.host.map(|text| cache.parse(text)).transpose()?;
    if host.is_none() && minor == 1 {
        return Err(malformed("no host"));
    }
    let port = cache.port().filter(|_| host.is_some());
    let target = parse_target(method, target, host.as_deref(), port)?;
    let mut cuts = seen.cuts(&mut fields)?;
    let intent = match &target {
        Target::Authority(_) => Intent::Connect,
        _ if minor == 1 && seen.upgrade.is_some() && seen.connection.upgrade && cuts == Cuts::default() => {
            Intent::Upgrade
        }
        _ => Intent::Exchange,
    };
    let body = seen.body();
    let last = seen.connection.close || (minor == 0 && !seen.connection.keep_alive);
    let unread = !last && body != Body::None && WITHOUT_CONTENT.contains(&method);
    if unread {
        if gate && (intent == Intent::Upgrade || seen.connection.lines > 1) {
            return Err(malformed("content where it means nothing, and something asked of the connection"));
        }
        seen.cut_connection(&mut cuts, &mut fields)?;
    }
    let closes = gate && unread;
    Ok(RequestHead {
        to_head: method == "HEAD",
        question: Question {
            bytes: head,
            exchange: 0,
            lasting: false,
            subject: Subject::Http(HttpHead { method, target, host, fields }),
        },
        body,
        intent,
        upgrade: seen.upgrade.filter(|_| intent == Intent::Upgrade),
        expects_continue: seen.expects_continue,
        last: last || closes,
        cuts,
        closes,
    })
}

fn request_line(line: &[u8]) -> Result<(&str, &str, u8), Refusal> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (method, target, version) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let (Some(target), Some(version)) = (target, version) else {
        return Err(malformed("request line without target and version"));
    };
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return Err(malformed("version other than HTTP/1.1 and HTTP/1.0")),
    };
    if !is_method(method) {
        return Err(malformed("method that is no upper-case token"));
    }
    if target.is_empty() || !target.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#') {
        return Err(malformed("target with a byte that no target has"));
    }
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| malformed("request line outside ASCII"));
    Ok((text(method)?, text(target)?, minor))
}

/// Upper case and `-` only; `PRI` opens HTTP/2 and is never a method (RFC 9113 section 11.6).
pub(crate) fn is_method(method: &[u8]) -> bool {
    method.first().is_some_and(u8::is_ascii_uppercase)
        && method.len() <= METHOD_BYTES_MAX
        && method != b"PRI"
        && method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

fn parse_target<'a>(
    method: &str,
    target: &'a str,
    host: Option<&HostName>,
    port: Option<u16>,
) -> Result<Target<'a>, Refusal> {
    let same_host = |authority: &str| {
        HostName::parse_authority(authority)
            .is_ok_and(|(name, its_port)| Some(&name) == host && its_port == port)
    };
    if method == "CONNECT" {
        let has_port = HostName::parse_authority(target).is_ok_and(|(_, port)| port.is_some());
        return match has_port && same_host(target) {
            true => Ok(Target::Authority(target)),
            false => Err(malformed("CONNECT whose target is not its host and port")),
        };
    }
    if target.starts_with('/') {
        return path_and_query(target);
    }
    if target == "*" {
        return match method {
            "OPTIONS" => Ok(Target::Asterisk),
            _ => Err(malformed("`*` as target of another method than OPTIONS")),
        };
    }
    let Some(rest) = target.strip_prefix("http://") else {
        return Err(malformed("target in no form that a request has"));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !same_host(authority) {
        return Err(malformed("target whose authority is not the host"));
    }
    path_and_query(path)
}

pub(crate) fn path_and_query(text: &str) -> Result<Target<'_>, Refusal> {
    let end = text.bytes().position(|byte| byte == b'?');
    let (path, query) = match end.and_then(|end| text.split_at_checked(end)) {
        Some((path, query)) => (path, query.get(1..)),
        None => (text, None),
    };
    match UrlPath::parse(path) {
        Ok(path) => Ok(Target::Path(path, query)),
        Err(PathError::TooLong) => Err(too_large(414, "path longer than 8 KiB")),
        Err(error) => Ok(Target::Ambiguous(path, error)),
    }
}

/// What the fields say about host, framing and connection.
#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<u64>,
    transfer_encoding: bool,
    connection: Connection,
    upgrade: Option<&'a [u8]>,
    expects_continue: bool,
    /// The lines `Upgrade`, `HTTP2-Settings` and `Connection`, should they be cut.
    upgrade_line: Range<usize>,
    settings_line: Range<usize>,
    connection_line: Range<usize>,
}

/// Options of `Connection` (RFC 9110 section 7.6.1).
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Anything that cutting the line would take away.
    other: bool,
    lines: u8,
}

impl<'a> Seen<'a> {
    fn note(&mut self, field: HeaderField<'a>, line: Range<usize>) -> Result<(), Refusal> {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
        match field.name.len() {
            4 if is("host") => once(self.host.replace(field.value).is_none(), "two hosts"),
            6 if is("expect") => {
                self.expects_continue = true;
                Ok(())
            }
            7 if is("upgrade") => {
                self.upgrade_line = line;
                once(self.upgrade.replace(field.value).is_none(), "two upgrade fields")
            }
            10 if is("connection") => {
                self.connection_line = line;
                self.connection.note(field.value)
            }
            14 if is("content-length") => {
                let length = content_length(field.value)?;
                once(self.content_length.replace(length).is_none(), "two content-length fields")
            }
            14 if is("http2-settings") => {
                let first = self.settings_line.is_empty();
                self.settings_line = line;
                once(first, "two http2-settings fields")
            }
            17 if is("transfer-encoding") => {
                let first = !std::mem::replace(&mut self.transfer_encoding, true);
                let chunked = field.value.eq_ignore_ascii_case(b"chunked");
                once(first && chunked, "transfer-encoding other than exactly `chunked`")
            }
            _ => Ok(()),
        }
    }

    fn body(&self) -> Body {
        match self.content_length {
            _ if self.transfer_encoding => Body::chunked(),
            Some(length) => Body::length(length),
            None => Body::None,
        }
    }

    /// What has to be cut, and is then taken out of `fields`: an offer to go on in clear-text HTTP/2, where
    /// nothing would be inspected. It is optional by nature, and clients send it on each first request. To go on with requests
    /// inside of TLS, or of another version, is refused.
    fn cuts(&self, fields: &mut FieldList<'a>) -> Result<Cuts, Refusal> {
        let starts = |token: &[u8], start: &[u8]| {
            token.get(..start.len()).is_some_and(|first| first.eq_ignore_ascii_case(start))
        };
        let hides = |token: &[u8]| starts(token, b"tls/") || starts(token, b"http/");
        if self.upgrade.is_some_and(|value| elements(value).any(hides)) {
            return Err(malformed("upgrade behind which requests go on unseen"));
        }
        let is_http2 = |token: &[u8]| starts(token, b"h2");
        let Some(upgrade) = self.upgrade.filter(|value| elements(value).any(is_http2)) else {
            return Ok(Cuts::default());
        };
        if !upgrade.eq_ignore_ascii_case(b"h2c") || self.connection.other || self.connection.lines > 1 {
            return Err(malformed("upgrade to HTTP/2 mixed with something else"));
        }
        leave_out(fields, &["upgrade", "http2-settings", "connection"]);
        let mut cuts = Cuts::default();
        for (cut, line) in
            cuts.iter_mut().zip([&self.upgrade_line, &self.settings_line, &self.connection_line])
        {
            *cut = narrow(line)?;
        }
        cuts.sort_by_key(|cut| cut.start);
        Ok(cuts)
    }

    /// Cuts the one line that speaks of the connection, if it is not cut already.
    fn cut_connection(&self, cuts: &mut Cuts, fields: &mut FieldList<'a>) -> Result<(), Refusal> {
        let line = narrow(&self.connection_line)?;
        if let [cut, ..] = cuts
            && *cut == Range::default()
        {
            *cut = line;
            leave_out(fields, &["connection"]);
        }
        Ok(())
    }
}

fn leave_out(fields: &mut FieldList<'_>, names: &[&str]) {
    let mut kept = FieldList::new();
    for field in fields.as_slice() {
        if !names.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_bytes())) {
            kept.push(*field);
        }
    }
    *fields = kept;
}

fn narrow(line: &Range<usize>) -> Result<Range<u16>, Refusal> {
    let narrow = |offset| u16::try_from(offset).map_err(|_| too_large(431, "head longer than 64 KiB"));
    Ok(narrow(line.start)?..narrow(line.end)?)
}

impl Connection {
    /// Only options that name no other field: one that does makes the next hop drop that field, after the
    /// rules have relied on it.
    fn note(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.lines = self.lines.saturating_add(1);
        for option in elements(value) {
            let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
            match option.len() {
                5 if is("close") => (self.close, self.other) = (true, true),
                10 if is("keep-alive") => (self.keep_alive, self.other) = (true, true),
                7 if is("upgrade") => self.upgrade = true,
                2 if is("te") => self.other = true,
                14 if is("http2-settings") => {}
                _ => return Err(malformed("connection option that names another field")),
            }
        }
        Ok(())
    }
}

fn once(first: bool, detail: &'static str) -> Result<(), Refusal> {
    if first { Ok(()) } else { Err(malformed(detail)) }
}

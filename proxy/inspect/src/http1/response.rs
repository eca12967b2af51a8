//! Response heads: status and framing.
//!
//! Read as strictly as requests: a response that two readers frame differently lets a server, or whoever
//! controls a part of its answer, put words into the mouth of the next one.

use super::Body;
use super::head::{Lines, content_length, elements, field, malformed};
use crate::contract::{Refusal, Step};
use crate::limits::HEAD_FIELDS_MAX;
use crate::websocket::is_compressed;
use bulkhead_facts::Reason;

/// A complete, well-formed response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    /// The body as the fields frame it; the request may say that there is none.
    pub(super) body: Body,
    /// It says that the connection ends.
    pub(super) closes: bool,
    /// It agrees to compress the messages of a WebSocket.
    pub(super) compressed: bool,
}

/// Reads the complete head in `head` (RFC 9112 sections 4 and 6).
pub(super) fn parse(head: &[u8]) -> Result<ResponseHead, Refusal> {
    let mut lines = Lines::new(head);
    let (_, line) = lines.next().ok_or(malformed("no status line"))?;
    let (status, minor) = status_line(line)?;
    let mut length = None;
    let mut transfer_encoding = false;
    let (mut compressed, mut closes) = (false, minor == 0);
    for (index, (_, line)) in lines.enumerate() {
        if index >= HEAD_FIELDS_MAX {
            return Err(Refusal {
                reason: Reason::Limit,
                status: None,
                detail: "more than 100 header fields",
            });
        }
        let field = field(line)?;
        let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
        match field.name.len() {
            10 if is("connection") => {
                closes |= elements(field.value).any(|option| option.eq_ignore_ascii_case(b"close"));
            }
            14 if is("content-length") => {
                let value = content_length(field.value)?;
                if length.replace(value).is_some_and(|before| before != value) {
                    return Err(malformed("two different content-length fields in a response"));
                }
            }
            17 if is("transfer-encoding") => {
                let first = !std::mem::replace(&mut transfer_encoding, true);
                if !first || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(malformed("transfer-encoding other than exactly `chunked` in a response"));
                }
            }
            24 if is("sec-websocket-extensions") => compressed |= is_compressed(field.value),
            _ => {}
        }
    }
    if transfer_encoding && (length.is_some() || minor == 0) {
        return Err(malformed("transfer-encoding with content-length, or in HTTP/1.0, in a response"));
    }
    let body = match length {
        _ if transfer_encoding => Body::chunked(),
        Some(length) => Body::length(length),
        None => Body::UntilClose,
    };
    Ok(ResponseHead { status, body, closes, compressed })
}

/// True if the head of a 101 names what the connection becomes (RFC 9110 section 15.2.2), and that was asked. A server that only
/// passes on the status of somebody else goes on with HTTP, and would read requests that nobody judged.
pub(super) fn agrees(head: &[u8], asked: &[u8]) -> bool {
    let fields = Lines::new(head).skip(1).filter_map(|(_, line)| field(line).ok());
    let mut named = fields
        .filter(|field| field.name.eq_ignore_ascii_case(b"upgrade"))
        .flat_map(|field| elements(field.value))
        .peekable();
    let was_asked = |protocol: &[u8]| elements(asked).any(|other| other.eq_ignore_ascii_case(protocol));
    named.peek().is_some() && named.all(was_asked)
}

/// Some servers say 408 when they give up waiting for a request; anything else answers what was not seen here.
pub(super) fn unasked<'a>(bytes: &[u8]) -> Step<'a> {
    let gives_up = bytes.starts_with(b"HTTP/1.1 408 ") || bytes.starts_with(b"HTTP/1.0 408 ");
    match gives_up {
        true => Step::Refuse(Refusal { reason: Reason::Limit, status: None, detail: "408 to no request" }),
        false => refuse("response to no request"),
    }
}

pub(super) fn refuse<'a>(detail: &'static str) -> Step<'a> {
    Step::Refuse(Refusal { reason: Reason::Malformed, status: None, detail })
}

fn status_line(line: &[u8]) -> Result<(u16, u8), Refusal> {
    const WRONG: Refusal = malformed("status line that is none of HTTP/1");
    let (minor, rest) = match line.split_at_checked(9) {
        Some((b"HTTP/1.1 ", rest)) => (1, rest),
        Some((b"HTTP/1.0 ", rest)) => (0, rest),
        _ => return Err(WRONG),
    };
    let (code, reason) = rest.split_at_checked(3).ok_or(WRONG)?;
    if !(reason.is_empty() || reason.starts_with(b" ")) || !super::head::is_text(reason) {
        return Err(WRONG);
    }
    let status = code.iter().try_fold(0u16, |sum, digit| match digit {
        b'0'..=b'9' => Ok(sum * 10 + u16::from(digit - b'0')),
        _ => Err(WRONG),
    })?;
    if status >= 100 { Ok((status, minor)) } else { Err(WRONG) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_101_agrees_only_to_what_was_asked() {
        let agrees = |fields: &str, asked: &str| {
            agrees(format!("HTTP/1.1 101 A\r\n{fields}\r\n").as_bytes(), asked.as_bytes())
        };
        assert!(agrees("connection: upgrade\r\nUpgrade: WebSocket\r\n", "websocket"));
        assert!(agrees("upgrade: b\r\n", "a, B"));
        for fields in
            ["", "upgrade:\r\n", "upgrade: x\r\n", "upgrade: websocket, x\r\n", "connection: upgrade\r\n"]
        {
            assert!(!agrees(fields, "websocket"), "{fields:?}");
        }
        assert!(!agrees("upgrade: websocket\r\nupgrade: x\r\n", "websocket"));
    }

    #[test]
    fn framing_of_a_response_is_exact() {
        let of = |head: &str| parse(head.as_bytes()).map(|head| head.body).map_err(|refusal| refusal.detail);
        assert_eq!(
            of("HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n"),
            Ok(Body::length(5))
        );
        assert_eq!(of("HTTP/1.1 200\r\n\r\n"), Ok(Body::UntilClose));
        assert_eq!(of("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"), Ok(Body::chunked()));
        for wrong in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\n\r\n",
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}

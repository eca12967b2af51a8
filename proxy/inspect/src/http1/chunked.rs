//! Chunked bodies, byte for byte (RFC 9112 section 7.1).
//!
//! The body is framed, never read: bytes up to the first wrong one may already have left, so a refusal here
//! closes both sides and the origin sees a body that was cut short, never a second request.

use crate::contract::Refusal;
use crate::http1::head::is_token;
use crate::limits::{
    CHUNK_EXTENSION_BYTES_MAX, CHUNK_EXTENSIONS_BYTES_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILER_BYTES_MAX,
};
use bulkhead_facts::Reason;

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunked {
    state: State,
    /// Bytes of extensions so far.
    extensions: u16,
    /// Bytes of trailers so far.
    trailers: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        length: u16,
        part: Part,
    },
    SizeLineFeed {
        size: u64,
    },
    Content {
        left: u64,
    },
    ContentReturn,
    ContentLineFeed,
    TrailerStart,
    /// So many bytes of a name, and which of [`FRAMING`] it may still be, a bit for each.
    TrailerName {
        length: u8,
        candidates: u8,
    },
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    End,
}

/// Where in `;name=value` or `;name="value"` we are (RFC 9112 section 7.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    NameStart,
    Name,
    ValueStart,
    Value,
    Quoted,
    Escaped,
    QuotedEnd,
}

impl Chunked {
    /// Takes as many bytes as are right; the count, and whether the body is complete. Refuses only where the
    /// first byte is wrong, so the same bytes leave however they were split.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), Refusal> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            if self.state == State::End {
                break;
            }
            match self.step(rest) {
                Ok(count) => taken += count,
                Err(_) if taken > 0 => break,
                Err(refusal) => return Err(refusal),
            }
        }
        Ok((taken, self.state == State::End))
    }

    /// Takes at least one byte of `rest`, which is not empty.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Refusal> {
        if let State::Content { left } = self.state {
            let here = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(left);
            self.state =
                if here == left { State::ContentReturn } else { State::Content { left: left - here } };
            return Ok(usize::try_from(here).unwrap_or(rest.len()));
        }
        let byte = rest.first().copied().unwrap_or_default();
        self.state = self.next(byte)?;
        Ok(1)
    }

    fn next(&mut self, byte: u8) -> Result<State, Refusal> {
        Ok(match (self.state, byte) {
            (State::SizeStart, _) => State::Size { size: hex(byte)?, digits: 1 },
            (State::Size { size, .. }, b'\r') => State::SizeLineFeed { size },
            (State::Size { size, .. }, b';') => State::Extension { size, length: 0, part: Part::NameStart },
            (State::Size { digits, .. }, _) if digits >= CHUNK_SIZE_DIGITS_MAX => {
                return Err(wrong("chunk size with too many digits"));
            }
            (State::Size { size, digits }, _) => {
                State::Size { size: size << 4 | hex(byte)?, digits: digits + 1 }
            }
            (State::Extension { size, part: Part::Name | Part::Value | Part::QuotedEnd, .. }, b'\r') => {
                State::SizeLineFeed { size }
            }
            (State::Extension { size, length, part }, _) => self.extension(size, length, part, byte)?,
            (State::SizeLineFeed { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLineFeed { size }, b'\n') => State::Content { left: size },
            (State::ContentReturn, b'\r') => State::ContentLineFeed,
            (State::ContentLineFeed, b'\n') => State::SizeStart,
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::TrailerStart, _) if is_token(byte) => self.trailer(trailer_name(0, u8::MAX, byte))?,
            (State::TrailerName { length, candidates }, b':') if names_framing(length, candidates) => {
                return Err(wrong("trailer that would frame the message"));
            }
            (State::TrailerName { .. }, b':') => self.trailer(State::TrailerValue)?,
            (State::TrailerName { length, candidates }, _) if is_token(byte) => {
                self.trailer(trailer_name(length, candidates, byte))?
            }
            (State::TrailerValue, b'\r') => State::TrailerLineFeed,
            (State::TrailerValue, _) if is_plain(byte) => self.trailer(State::TrailerValue)?,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::LastLineFeed, b'\n') => State::End,
            (
                State::SizeLineFeed { .. }
                | State::Content { .. }
                | State::ContentReturn
                | State::ContentLineFeed
                | State::TrailerStart
                | State::TrailerName { .. }
                | State::TrailerValue
                | State::TrailerLineFeed
                | State::LastLineFeed
                | State::End,
                _,
            ) => return Err(wrong("chunked body that breaks its framing")),
        })
    }

    fn extension(&mut self, size: u64, length: u16, part: Part, byte: u8) -> Result<State, Refusal> {
        self.extensions += 1;
        if length >= CHUNK_EXTENSION_BYTES_MAX || self.extensions > CHUNK_EXTENSIONS_BYTES_MAX {
            return Err(limit("chunk extensions too long"));
        }
        let part = part.next(byte).ok_or(wrong("chunk extension that is none"))?;
        Ok(State::Extension { size, length: length + 1, part })
    }

    fn trailer(&mut self, next: State) -> Result<State, Refusal> {
        self.trailers += 1;
        if self.trailers > TRAILER_BYTES_MAX { Err(limit("trailers longer than 4 KiB")) } else { Ok(next) }
    }
}

/// Fields that say where a message ends or whom it is for: servers that merge trailers into the head read another message
/// than those that do not (RFC 9110 section 6.5.1).
const FRAMING: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];

/// One more byte of the name of a trailer.
fn trailer_name(length: u8, candidates: u8, byte: u8) -> State {
    let at = usize::from(length);
    let fits = |name: &[u8]| name.get(at).is_some_and(|expected| byte.eq_ignore_ascii_case(expected));
    let still = FRAMING.iter().enumerate().filter(|(_, name)| fits(name));
    let candidates = candidates & still.fold(0, |bits, (number, _)| bits | 1 << number);
    State::TrailerName { length: length.saturating_add(1), candidates }
}

fn names_framing(length: u8, candidates: u8) -> bool {
    let ends = |name: &[u8]| name.len() == usize::from(length);
    FRAMING.iter().enumerate().any(|(number, name)| candidates & 1 << number != 0 && ends(name))
}

impl Part {
    fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::NameStart | Self::Name, _) if is_token(byte) => Some(Self::Name),
            (Self::Name, b'=') => Some(Self::ValueStart),
            (Self::ValueStart, b'"') => Some(Self::Quoted),
            (Self::ValueStart | Self::Value, _) if is_token(byte) => Some(Self::Value),
            (Self::Name | Self::Value | Self::QuotedEnd, b';') => Some(Self::NameStart),
            (Self::Quoted, b'"') => Some(Self::QuotedEnd),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, _) if is_plain(byte) => Some(Self::Quoted),
            (
                Self::NameStart
                | Self::Name
                | Self::ValueStart
                | Self::Value
                | Self::Quoted
                | Self::Escaped
                | Self::QuotedEnd,
                _,
            ) => None,
        }
    }
}

fn hex(byte: u8) -> Result<u64, Refusal> {
    char::from(byte).to_digit(16).map(u64::from).ok_or(wrong("chunk size that is no hexadecimal number"))
}

fn is_plain(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

const fn wrong(detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Malformed, status: None, detail }
}

const fn limit(detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Limit, status: None, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds in pieces of `piece` bytes; bytes taken, and how it ended.
    fn feed(bytes: &[u8], piece: usize) -> (usize, Result<bool, &'static str>) {
        let mut body = Chunked::default();
        let mut taken = 0;
        for part in bytes.chunks(piece) {
            let mut part = part;
            while !part.is_empty() {
                match body.advance(part) {
                    Ok((count, done)) => {
                        taken += count;
                        part = &part[count..];
                        if done {
                            return (taken, Ok(true));
                        }
                    }
                    Err(refusal) => return (taken, Err(refusal.detail)),
                }
            }
        }
        (taken, Ok(false))
    }

    fn check(bytes: &str, taken: usize, complete: bool) {
        for piece in 1..=bytes.len() {
            assert_eq!(feed(bytes.as_bytes(), piece), (taken, Ok(complete)), "`{bytes:?}` by {piece}");
        }
    }

    fn check_refused(bytes: &str, taken: usize) {
        for piece in 1..=bytes.len() {
            let (count, end) = feed(bytes.as_bytes(), piece);
            assert!(end.is_err(), "`{bytes:?}` by {piece} ended as {end:?}");
            assert_eq!(count, taken, "`{bytes:?}` by {piece}");
        }
    }

    #[test]
    fn chunks_extensions_and_trailers_are_framed_exactly() {
        check("0\r\n\r\nGET", 5, true);
        check("4\r\nabcd\r\n0\r\n\r\n", 14, true);
        check("A;x=\"y\"\r\n0123456789\r\n00\r\nt: v\r\nu:\r\n\r\nrest", 37, true);
        check("0\r\nhosts: v\r\ncontent-lengt: 1\r\nx-host: 2\r\n\r\n", 44, true);
        check("1;a;b=c;d=\"\\\";\"\r\n", 17, false);
        check("4\r\nab", 5, false);
    }

    #[test]
    fn what_servers_read_differently_is_refused_at_its_first_wrong_byte() {
        check_refused("0x4\r\nabcd\r\n", 1);
        check_refused("+4\r\n", 0);
        check_refused(" 4\r\n", 0);
        check_refused("4 \r\n", 1);
        check_refused("4\nabcd", 1);
        check_refused("4;x\nabcd", 3);
        check_refused("4\rX", 2);
        check_refused("4\r\nabcdX", 7);
        check_refused("4\r\nabcd\r0", 8);
        check_refused("4\r\nabcd\n0", 7);
        check_refused("ffffffffffffffff\r\n", 15);
        check_refused("0\r\n folded: x\r\n\r\n", 3);
        check_refused("0\r\nname : x\r\n\r\n", 7);
        check_refused("0\r\n: x\r\n\r\n", 3);
        check_refused("0\r\nt: a\nb\r\n\r\n", 7);
        check_refused("0\r\nContent-Length: 5\r\n\r\n", 17);
        check_refused("0\r\nt: a\r\ntransfer-encoding: chunked\r\n\r\n", 26);
        check_refused("0\r\nHOST:a\r\n\r\n", 7);
        check_refused("0\r\nt: a\0b\r\n\r\n", 7);
        check_refused("1;\x01\r\n", 2);
        check_refused("1;\r\n", 2);
        check_refused("1; x\r\n", 2);
        check_refused("1;x=\r\n", 4);
        check_refused("1;x=\"y\r\n", 6);
        check_refused("1;x=\"y\"z\r\n", 7);
    }

    #[test]
    fn extensions_and_trailers_have_limits() {
        let long = format!("1;{}", "x".repeat(300));
        check_refused(&long, 2 + usize::from(CHUNK_EXTENSION_BYTES_MAX));
        let many = format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(30);
        assert!(feed(many.as_bytes(), 1000).1.is_err(), "extensions of 6000 bytes in all");
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(2000));
        assert!(feed(trailers.as_bytes(), 1000).1.is_err(), "trailers of 8000 bytes");
    }
}

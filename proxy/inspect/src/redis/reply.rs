//! Replies as servers write them (RESP2 and RESP3): where one ends, and of which kind it is.
//!
//! Only lengths are read; what is inside passes.

use crate::contract::Refusal;
use crate::limits::{REDIS_BULK_BYTES_MAX, REDIS_REPLY_DEPTH_MAX, REDIS_REPLY_ITEMS_MAX};
use crate::redis::{malformed, too_much};

/// Follows the bytes of a server from reply to reply.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Items that are missing in each aggregate that is open, the outermost first; true for attributes, which are no
    /// item of what is around them.
    open: Vec<(u64, bool)>,
    inside: Inside,
    /// First byte of the reply that is open.
    kind: u8,
    /// It says `+OK`.
    is_ok: bool,
    /// Attributes came; the reply that they belong to comes next.
    after_attribute: bool,
}

#[derive(Debug, Default)]
enum Inside {
    /// Before the first byte of a value.
    #[default]
    Nothing,
    /// In a line that passes as it is.
    Line,
    /// In a string, with so many bytes to come, its line end among them.
    Bulk(usize),
}

/// What ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing yet.
    Nothing,
    /// A reply; true if it says `+OK`.
    Reply(bool),
    /// Something that answers no command (RESP3).
    Push,
}

impl Replies {
    /// How many of `bytes` belong to the value that is open, 0 while that cannot be told, and what ends with them.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<(usize, Ended), Refusal> {
        match self.inside {
            Inside::Nothing => self.begin(bytes),
            Inside::Bulk(left) => {
                let here = left.min(bytes.len());
                self.inside = Inside::Bulk(left - here);
                Ok((here, if left == here { self.end_value() } else { Ended::Nothing }))
            }
            Inside::Line => match memchr::memchr(b'\n', bytes) {
                None => Ok((bytes.len(), Ended::Nothing)),
                Some(at) => Ok((at + 1, self.end_value())),
            },
        }
    }

    /// True between two replies.
    pub(super) fn is_between(&self) -> bool {
        self.open.is_empty() && matches!(self.inside, Inside::Nothing) && !self.after_attribute
    }

    /// Bytes that may pass without being looked at.
    pub(super) fn passable(&self) -> usize {
        // The last byte is looked at, so that the end is seen.
        if let Inside::Bulk(left) = self.inside { left.saturating_sub(1) } else { 0 }
    }

    pub(super) fn passed(&mut self, count: usize) {
        if let Inside::Bulk(left) = &mut self.inside {
            *left = left.saturating_sub(count);
        }
    }

    fn begin(&mut self, bytes: &[u8]) -> Result<(usize, Ended), Refusal> {
        let Some(kind) = bytes.first().copied() else { return Ok((0, Ended::Nothing)) };
        if self.open.is_empty() {
            if bytes.len() < 4 && kind == b'+' {
                // Four bytes tell whether it is `+OK`; no reply is shorter than a mark and a line end.
                if !bytes.ends_with(b"\n") {
                    return Ok((0, Ended::Nothing));
                }
            }
            self.kind = kind;
            self.is_ok = bytes.starts_with(b"+OK\r");
            self.after_attribute = false;
        }
        match kind {
            b'+' | b'-' | b':' | b',' | b'(' | b'#' | b'_' => {
                self.inside = Inside::Line;
                Ok((1, Ended::Nothing))
            }
            b'$' | b'=' | b'!' => self.begin_bulk(bytes),
            b'*' | b'~' | b'>' => self.begin_aggregate(bytes, 1),
            b'%' | b'|' => self.begin_aggregate(bytes, 2),
            _ => Err(malformed("reply of a kind that no server of Redis sends")),
        }
    }

    fn begin_bulk(&mut self, bytes: &[u8]) -> Result<(usize, Ended), Refusal> {
        match length(bytes)? {
            None => Ok((0, Ended::Nothing)),
            Some((None, header)) => Ok((header, self.end_value())),
            Some((Some(size), _)) if size > REDIS_BULK_BYTES_MAX as u64 => {
                Err(too_much("reply with a string of more than 512 MiB"))
            }
            Some((Some(size), header)) => {
                self.inside = Inside::Bulk(usize::try_from(size).unwrap_or(usize::MAX - 2) + 2);
                Ok((header, Ended::Nothing))
            }
        }
    }

    fn begin_aggregate(&mut self, bytes: &[u8], each: u64) -> Result<(usize, Ended), Refusal> {
        let is_attribute = bytes.first() == Some(&b'|');
        match length(bytes)? {
            None => Ok((0, Ended::Nothing)),
            Some((None | Some(0), header)) if is_attribute => {
                self.after_attribute = self.open.is_empty();
                Ok((header, Ended::Nothing))
            }
            Some((None | Some(0), header)) => Ok((header, self.end_value())),
            Some((Some(items), header)) => {
                if items > REDIS_REPLY_ITEMS_MAX || self.open.len() >= REDIS_REPLY_DEPTH_MAX {
                    return Err(too_much("reply of too many items, or too deep"));
                }
                self.open.push((items * each, is_attribute));
                Ok((header, Ended::Nothing))
            }
        }
    }

    /// One value is complete, and with it perhaps those around it.
    fn end_value(&mut self) -> Ended {
        self.inside = Inside::Nothing;
        while let Some((left, is_attribute)) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return Ended::Nothing;
            }
            let is_attribute = *is_attribute;
            self.open.pop();
            if is_attribute {
                self.after_attribute = self.open.is_empty();
                return Ended::Nothing;
            }
        }
        if self.kind == b'>' { Ended::Push } else { Ended::Reply(self.is_ok) }
    }
}

/// The number of a line of a mark and a length, `None` inside for a null, and how long the line is; `None` while it
/// is incomplete.
type Length = Option<(Option<u64>, usize)>;

fn length(bytes: &[u8]) -> Result<Length, Refusal> {
    let Some(end) = bytes.iter().take(16).position(|byte| *byte == b'\n') else {
        return if bytes.len() >= 16 {
            Err(malformed("reply with a length that is no number"))
        } else {
            Ok(None)
        };
    };
    let text = bytes.get(1..end).and_then(|text| text.strip_suffix(b"\r"));
    let text = text.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let sound = text.bytes().all(|byte| byte.is_ascii_digit());
    match (text, text.parse().ok().filter(|_| sound)) {
        ("-1", _) => Ok(Some((None, end + 1))),
        (_, Some(number)) => Ok(Some((Some(number), end + 1))),
        (_, None) => Err(malformed("reply with a length that is no number")),
    }
}

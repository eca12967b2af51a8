//! Commands as clients write them (RESP specification): arrays of bulk strings, and lines.
//!
//! [`Reader`] collects as many arguments as it takes to decide; [`Body`] frames those that follow. What servers skip over
//! or guess is refused: signs, leading zeros, line ends of one byte, quotes in lines.

use crate::contract::Refusal;
use crate::limits::{REDIS_ARGUMENTS_MAX, REDIS_BULK_BYTES_MAX, REDIS_LINE_BYTES_MAX};
use crate::redis::{malformed, too_much};
use std::ops::Range;

/// The first arguments of one command.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Bytes that were looked at.
    position: usize,
    /// Arguments that the command has; `None` before its first line.
    count: Option<usize>,
    /// Where the arguments lie.
    arguments: Vec<Range<usize>>,
}

/// A command of which enough was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes that hold its first arguments.
    pub(super) length: usize,
    /// Arguments that follow them.
    pub(super) arguments_left: usize,
}

impl Reader {
    /// Goes on with the command that `bytes` begins with; `needed` says after how many arguments it can be decided
    /// on, once its name is known. `None` while there are fewer.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        needed: impl Fn(&[u8]) -> usize,
    ) -> Result<Option<Head>, Refusal> {
        let count = match self.count {
            Some(count) => count,
            None if bytes.first() != Some(&b'*') => return self.line(bytes),
            None => match number(bytes, b'*')? {
                None => return Ok(None),
                Some((0, _)) => return Err(malformed("command without a name")),
                Some((count, length)) => {
                    self.position = length;
                    *self.count.insert(count)
                }
            },
        };
        loop {
            let name = self.arguments.first().and_then(|name| bytes.get(name.clone()));
            let enough = name.map_or(1, &needed).clamp(1, count);
            if self.arguments.len() >= enough {
                let arguments_left = count - self.arguments.len();
                return Ok(Some(Head { length: self.position, arguments_left }));
            }
            if count > REDIS_ARGUMENTS_MAX && enough > REDIS_ARGUMENTS_MAX {
                return Err(too_much("more arguments than are kept to judge a command"));
            }
            if !self.argument(bytes)? {
                return Ok(None);
            }
        }
    }

    /// Reads one more argument; false while it is incomplete.
    fn argument(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        let rest = bytes.get(self.position..).unwrap_or_default();
        let Some((size, length)) = number(rest, b'$')? else { return Ok(false) };
        if size > REDIS_BULK_BYTES_MAX {
            return Err(too_much("argument of more than 512 MiB"));
        }
        let start = self.position + length;
        let end = start + size;
        match bytes.get(end..end + 2) {
            None => Ok(false),
            Some(b"\r\n") => {
                self.arguments.push(start..end);
                self.position = end + 2;
                Ok(true)
            }
            Some(_) => Err(malformed("argument that does not end where it says")),
        }
    }

    /// A command on a line of its own. Only what every reader splits alike.
    fn line(&mut self, bytes: &[u8]) -> Result<Option<Head>, Refusal> {
        let seen = bytes.get(self.position..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', seen).map(|at| self.position + at) else {
            if bytes.len() > REDIS_LINE_BYTES_MAX {
                return Err(too_much("line that does not end"));
            }
            self.position = bytes.len();
            return Ok(None);
        };
        let line = bytes.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > REDIS_LINE_BYTES_MAX {
            return Err(too_much("line that does not end"));
        }
        let plain = |byte: &u8| matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\'' | b'\\');
        if !line.iter().all(plain) {
            return Err(malformed("line with quotes or with bytes that are no text"));
        }
        let mut start = 0;
        for word in line.split(|byte| *byte == b' ') {
            if !word.is_empty() {
                self.arguments.push(start..start + word.len());
            }
            start += word.len() + 1;
        }
        self.position = end + 1;
        self.count = Some(self.arguments.len());
        if self.arguments.is_empty() {
            Err(malformed("line without a command"))
        } else {
            Ok(Some(self.head()))
        }
    }

    fn head(&self) -> Head {
        Head { length: self.position, arguments_left: 0 }
    }

    /// The arguments that were read.
    pub(super) fn arguments<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        self.arguments.iter().map(|range| bytes.get(range.clone()).unwrap_or_default()).collect()
    }

    /// True once a command was begun.
    pub(super) fn is_begun(&self) -> bool {
        self.position > 0
    }
}

/// The arguments behind those that were decided on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Body {
    /// Arguments of which nothing was let go yet.
    arguments_left: usize,
    /// Bytes of the argument that is open.
    bytes_left: usize,
    /// It has no line end yet.
    in_argument: bool,
}

impl Body {
    pub(super) fn new(arguments_left: usize) -> Self {
        Self { arguments_left, ..Self::default() }
    }

    /// The same with the arguments that were decided on, as far as so many bytes hold them: all of it is dropped.
    pub(super) fn denied(length: usize, arguments_left: usize) -> Self {
        Self { arguments_left, bytes_left: length, in_argument: false }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.arguments_left == 0 && self.bytes_left == 0 && !self.in_argument
    }

    /// How many of `bytes` belong to it; 0 while that cannot be told.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        if self.bytes_left > 0 {
            let here = self.bytes_left.min(bytes.len());
            self.bytes_left -= here;
            return Ok(here);
        }
        if self.in_argument {
            return match bytes.get(..2) {
                None => Ok(0),
                Some(b"\r\n") => {
                    self.in_argument = false;
                    Ok(2)
                }
                Some(_) => Err(malformed("argument that does not end where it says")),
            };
        }
        let Some((size, length)) = number(bytes, b'$')? else { return Ok(0) };
        if size > REDIS_BULK_BYTES_MAX {
            return Err(too_much("argument of more than 512 MiB"));
        }
        *self = Self { arguments_left: self.arguments_left - 1, bytes_left: size, in_argument: true };
        Ok(length)
    }

    /// Bytes that may leave without being looked at.
    pub(super) fn passable(&self) -> usize {
        self.bytes_left
    }

    pub(super) fn passed(&mut self, count: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(count);
    }
}

/// A line of a mark and a number, and how long it is; `None` while it is incomplete.
fn number(bytes: &[u8], mark: u8) -> Result<Option<(usize, usize)>, Refusal> {
    let wrong = Err(malformed("length that is no number"));
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    if *first != mark {
        return Err(malformed("argument that is no bulk string"));
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 10 || (digits > 1 && rest.first() == Some(&b'0')) {
        return wrong;
    }
    match rest.get(digits..).unwrap_or_default() {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] if digits > 0 => {
            let value = rest.iter().take(digits).fold(0, |sum, byte| sum * 10 + usize::from(byte - b'0'));
            Ok(Some((value, digits + 3)))
        }
        _ => wrong,
    }
}

//! Reads the status of responses, whose blocks pass unchanged from the server's table to the client's.
//!
//! What a server names in its table is there, or no client could read it. So it is enough to count what it has put into the
//! table, and to remember which of that were statuses: no string has to be decoded, and nothing is kept on the heap.

use super::static_table::STATIC_COUNT;
use super::{Cursor, HpackError, Text};

/// The static entries whose name is `:status`, counted from 0, and their values.
const STATUS_INDEX: usize = 7;
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
/// Statuses in the server's table that are remembered. One that was put there before them is not known.
const REMEMBERED: usize = 8;
/// Bytes of a string that may be `:status` or a status: eight bytes take at most 30 bits each.
const TEXT_BYTES_MAX: usize = 30;

/// Follows the table of a server's encoder.
#[derive(Debug, Default)]
pub struct Watcher {
    /// Entries put into the table.
    inserted: u64,
    /// Number of an entry and the status in it, 0 for none that is a number.
    statuses: [Option<(u64, u16)>; REMEMBERED],
    next: usize,
    scratch: Vec<u8>,
}

impl Watcher {
    /// Reads a complete block; the status in it.
    pub fn status(&mut self, block: &[u8]) -> Result<Option<u16>, HpackError> {
        let mut cursor = Cursor { rest: block };
        let mut status = None;
        while let Some(first) = cursor.peek() {
            let found = match first {
                0x80.. => {
                    let index = cursor.integer(7)?.checked_sub(1).ok_or(HpackError::BadIndex)?;
                    self.entry(index)?
                }
                0x40..=0x7f => {
                    let found = self.literal(&mut cursor, 6)?;
                    if let Some(status) = found {
                        self.remember(status);
                    }
                    self.inserted += 1;
                    found
                }
                0x20..=0x3f => {
                    cursor.integer(5)?;
                    None
                }
                0..=0x1f => self.literal(&mut cursor, 4)?,
            };
            status = status.or(found);
        }
        Ok(status)
    }

    /// Reads one literal; the value, if the name is `:status`.
    fn literal(&mut self, cursor: &mut Cursor<'_>, prefix_bits: u8) -> Result<Option<u16>, HpackError> {
        let is_status = match cursor.integer(prefix_bits)?.checked_sub(1) {
            Some(at) => self.entry(at)?.is_some(),
            None => {
                let name = cursor.text()?;
                name.bytes.len() <= b":status".len() && self.read(&name)? == b":status"
            }
        };
        let value = cursor.text()?;
        match is_status && value.bytes.len() <= TEXT_BYTES_MAX {
            true => Ok(Some(number(self.read(&value)?))),
            false => Ok(is_status.then_some(0)),
        }
    }

    fn read(&mut self, text: &Text<'_>) -> Result<&[u8], HpackError> {
        self.scratch.clear();
        text.append_to(&mut self.scratch, TEXT_BYTES_MAX * 2)?;
        Ok(&self.scratch)
    }

    /// The status in the entry at an index that counts from 0; `None` for an entry that is no status.
    fn entry(&self, index: usize) -> Result<Option<u16>, HpackError> {
        let Some(dynamic) = index.checked_sub(STATIC_COUNT) else {
            return Ok(index.checked_sub(STATUS_INDEX).and_then(|at| STATUSES.get(at).copied()));
        };
        let age = u64::try_from(dynamic).map_err(|_| HpackError::BadIndex)? + 1;
        let number = self.inserted.checked_sub(age).ok_or(HpackError::BadIndex)?;
        let known = self.statuses.iter().flatten().find(|(known, _)| *known == number);
        Ok(known.map(|(_, status)| *status))
    }

    fn remember(&mut self, status: u16) {
        if let Some(slot) = self.statuses.get_mut(self.next) {
            *slot = Some((self.inserted, status));
        }
        self.next = (self.next + 1) % REMEMBERED;
    }
}

/// Three digits; 0 for anything else.
fn number(text: &[u8]) -> u16 {
    match text {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'))
        }
        _ => 0,
    }
}

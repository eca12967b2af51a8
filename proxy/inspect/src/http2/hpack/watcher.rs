//! Reads the status of responses, whose blocks pass unchanged from the server's table to the client's.
//!
//! Of each entry of that table only the size is kept, and the status if it is one: eight bytes.

use super::decoder::ENTRY_OVERHEAD_BYTES;
use super::static_table::{STATIC, STATIC_COUNT};
use super::{Cursor, HpackError, Text};
use std::collections::VecDeque;

/// The static entry from which on names are `:status`, and how many there are.
const STATUS_INDEX: usize = 8;
const STATUS_COUNT: usize = 7;
/// Bytes of the largest table that is followed, as the RFC counts them. More: the status of responses is not known.
const TABLE_BYTES_MAX: usize = 64 * 1024;

/// Follows the table of a server's encoder.
#[derive(Debug)]
pub struct Watcher {
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
    /// Bytes of the largest string that is read.
    text_bytes_max: usize,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name_length: u32,
    value_length: u32,
    /// The value, if the name is `:status`; 0 for a status that is none.
    status: Option<u16>,
}

impl Watcher {
    /// A watcher of strings up to so many bytes, and a table that begins with 4,096 bytes.
    pub fn new(text_bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, size_max: 4096, text_bytes_max, scratch: Vec::new() }
    }

    /// Reads a complete block; the status in it.
    pub fn status(&mut self, block: &[u8]) -> Result<Option<u16>, HpackError> {
        let mut cursor = Cursor { rest: block };
        let mut status = None;
        while let Some(first) = cursor.peek() {
            let found = match first {
                0x80.. => {
                    let index = cursor.integer(7)?.checked_sub(1).ok_or(HpackError::BadIndex)?;
                    self.entry(index)?.status
                }
                0x40..=0x7f => {
                    let entry = self.literal(&mut cursor, 6, true)?;
                    self.insert(entry);
                    entry.status
                }
                0x20..=0x3f => {
                    self.size_max = cursor.integer(5)?;
                    if self.size_max > TABLE_BYTES_MAX {
                        return Err(HpackError::BadTableSize);
                    }
                    self.evict(0);
                    None
                }
                0..=0x1f => self.literal(&mut cursor, 4, false)?.status,
            };
            status = status.or(found);
        }
        Ok(status)
    }

    /// Reads one literal. Where it is not kept, lengths that nobody needs are not found out.
    fn literal(&mut self, cursor: &mut Cursor<'_>, prefix_bits: u8, kept: bool) -> Result<Entry, HpackError> {
        let (name_length, is_status) = match cursor.integer(prefix_bits)?.checked_sub(1) {
            Some(at) => {
                let entry = self.entry(at)?;
                (entry.name_length, entry.status.is_some())
            }
            None => {
                let name = cursor.text()?;
                let is_status = name.bytes.len() <= 8 && self.read(&name)? == b":status";
                (self.length(&name, kept)?, is_status)
            }
        };
        let value = cursor.text()?;
        let status = match is_status {
            true => Some(number(self.read(&value)?)),
            false => None,
        };
        Ok(Entry { name_length, value_length: self.length(&value, kept)?, status })
    }

    fn read(&mut self, text: &Text<'_>) -> Result<&[u8], HpackError> {
        self.scratch.clear();
        text.append_to(&mut self.scratch, self.text_bytes_max)?;
        Ok(&self.scratch)
    }

    fn length(&self, text: &Text<'_>, kept: bool) -> Result<u32, HpackError> {
        match kept {
            true => Ok(u32::try_from(text.length(self.text_bytes_max)?).unwrap_or(u32::MAX)),
            false => Ok(0),
        }
    }

    /// The static or dynamic entry at an index that counts from 0.
    fn entry(&self, index: usize) -> Result<Entry, HpackError> {
        if let Some((name, value)) = STATIC.get(index) {
            let is_status = (STATUS_INDEX - 1..STATUS_INDEX - 1 + STATUS_COUNT).contains(&index);
            return Ok(Entry {
                name_length: u32::try_from(name.len()).unwrap_or(u32::MAX),
                value_length: u32::try_from(value.len()).unwrap_or(u32::MAX),
                status: is_status.then(|| number(value.as_bytes())),
            });
        }
        self.entries.get(index - STATIC_COUNT).copied().ok_or(HpackError::BadIndex)
    }

    fn insert(&mut self, entry: Entry) {
        let size = entry.size();
        self.evict(size);
        if size <= self.size_max {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    fn evict(&mut self, wanted: usize) {
        while self.size + wanted > self.size_max {
            let Some(entry) = self.entries.pop_back() else { return };
            self.size = self.size.saturating_sub(entry.size());
        }
    }
}

impl Entry {
    fn size(&self) -> usize {
        let length = |count: u32| usize::try_from(count).unwrap_or(usize::MAX / 4);
        length(self.name_length) + length(self.value_length) + ENTRY_OVERHEAD_BYTES
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

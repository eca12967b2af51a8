//! The decoder of what a client sends, with its dynamic table.
//!
//! The table lies in one piece of memory that grows as it is used, up to what the server allowed. A decoded list lies in
//! memory that is used again for each block.

use super::static_table::{STATIC, STATIC_COUNT};
use super::{Cursor, HpackError};
use crate::limits::HEADER_TABLE_BYTES_MAX;
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes that an entry takes beside its name and value (RFC 7541 section 4.1).
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 32;

/// A decoder with its dynamic table.
#[derive(Debug)]
pub struct Decoder {
    entries: VecDeque<Entry>,
    /// Names and values of the entries, oldest first, behind `start` bytes that are of no use any more.
    bytes: Vec<u8>,
    start: usize,
    /// Size of the entries as the RFC counts it.
    size: usize,
    /// Size that the client has chosen.
    size_max: usize,
    /// Size that it may choose.
    allowed: usize,
    /// The next block has to begin with a smaller size: the server took some away.
    owes_update: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    name_length: u32,
    value_length: u32,
}

/// A decoded header list.
#[derive(Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    list: Vec<Field>,
}

/// One field of a [`Fields`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    name: Range<u32>,
    value: Range<u32>,
    /// It must be a literal wherever it goes (RFC 7541 section 7.1.3).
    pub never_indexed: bool,
    /// The static entry with its name; 0 if it came without.
    pub(super) static_index: u8,
    /// That entry has its value too.
    pub(super) is_static: bool,
}

impl Fields {
    /// The fields in the order of the wire, with their name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|field| (self.name(field), self.value(field)))
    }

    /// The fields in the order of the wire.
    pub fn list(&self) -> &[Field] {
        &self.list
    }

    /// Name of one of the fields.
    pub fn name(&self, field: &Field) -> &[u8] {
        self.slice(&field.name)
    }

    /// Value of one of the fields.
    pub fn value(&self, field: &Field) -> &[u8] {
        self.slice(&field.value)
    }

    /// Bytes of all names and values.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Makes one field of all with a name (RFC 9113 section 8.2.3), so that what is asked about is what leaves.
    pub fn join(&mut self, name: &[u8], separator: &[u8]) {
        let is_named = |fields: &Self, at: usize| fields.list.get(at).is_some_and(|f| fields.name(f) == name);
        let named: Vec<usize> = match self.list.iter().filter(|field| self.name(field) == name).count() {
            0 | 1 => return,
            _ => (0..self.list.len()).filter(|at| is_named(self, *at)).collect(),
        };
        let mut joined = Vec::new();
        let mut never_indexed = false;
        for (count, field) in named.iter().filter_map(|at| self.list.get(*at)).enumerate() {
            if count > 0 {
                joined.extend_from_slice(separator);
            }
            joined.extend_from_slice(self.value(field));
            never_indexed |= field.never_indexed;
        }
        let start = self.end();
        self.bytes.extend_from_slice(&joined);
        let end = self.end();
        for at in named.iter().skip(1).rev() {
            self.list.remove(*at);
        }
        if let Some(first) = named.first().and_then(|at| self.list.get_mut(*at)) {
            (first.value, first.never_indexed, first.is_static) = (start..end, never_indexed, false);
        }
    }

    /// Forgets all fields.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    /// Gives its memory back, if that is more than so many bytes.
    pub fn release(&mut self, bytes_max: usize) {
        if self.bytes.capacity() > bytes_max || self.list.capacity() > bytes_max / size_of::<Field>() {
            *self = Self::default();
        }
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        let position = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        self.bytes.get(position(range.start)..position(range.end)).unwrap_or_default()
    }

    /// The end of its bytes. INVARIANT: limits keep a list far below 4 GiB.
    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }
}

/// What a block may decode to.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: usize,
    fields: usize,
    /// Bytes that may still come from the client's table.
    named: usize,
}

impl Limits {
    /// So many bytes come from the client's table, where each of them is named for little.
    fn name(&mut self, count: usize) -> Result<(), HpackError> {
        self.named = self.named.checked_sub(count).ok_or(HpackError::TooLarge)?;
        Ok(())
    }
}

impl Decoder {
    /// A decoder whose client may use a table of up to so many bytes.
    pub fn new(allowed: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            start: 0,
            size: 0,
            size_max: allowed,
            allowed,
            owes_update: false,
        }
    }

    /// The client may use so many bytes from the next block on, and has to say so if it used more.
    pub fn allow(&mut self, allowed: usize) {
        self.allowed = allowed;
        self.owes_update = self.size_max > allowed;
    }

    /// The client may use so many bytes, if that is more than before, as soon as it likes.
    pub fn raise(&mut self, allowed: usize) {
        self.allowed = self.allowed.max(allowed);
    }

    /// Decodes a complete block into `fields`: at most so many bytes and fields.
    pub fn decode(
        &mut self,
        block: &[u8],
        fields: &mut Fields,
        bytes_max: usize,
        fields_max: usize,
    ) -> Result<(), HpackError> {
        fields.clear();
        let mut cursor = Cursor { rest: block };
        self.size_updates(&mut cursor)?;
        // A whole table, and again as much for names that come with several values.
        let named = 2 * self.allowed.max(HEADER_TABLE_BYTES_MAX);
        let mut limits = Limits { bytes: bytes_max, fields: fields_max, named };
        while let Some(first) = cursor.peek() {
            if fields.list.len() >= limits.fields {
                return Err(HpackError::TooLarge);
            }
            match first {
                0x80.. => self.indexed(&mut cursor, fields, &mut limits)?,
                0x40..=0x7f => {
                    let field = self.literal(&mut cursor, 6, fields, &mut limits)?;
                    self.insert(fields, &field);
                    fields.list.push(field);
                }
                0x20..=0x3f => return Err(HpackError::BadTableSize),
                0..=0x1f => {
                    let field = self.literal(&mut cursor, 4, fields, &mut limits)?;
                    fields.list.push(Field { never_indexed: first & 0x10 != 0, ..field });
                }
            }
        }
        Ok(())
    }

    /// At most two, at the beginning of a block (RFC 7541 section 4.2).
    fn size_updates(&mut self, cursor: &mut Cursor<'_>) -> Result<(), HpackError> {
        let mut updates = 0;
        while let Some(0x20..=0x3f) = cursor.peek() {
            let size = cursor.integer(5)?;
            updates += 1;
            if size > self.allowed || updates > 2 {
                return Err(HpackError::BadTableSize);
            }
            self.size_max = size;
            self.owes_update = false;
            self.evict(0);
        }
        if self.owes_update { Err(HpackError::BadTableSize) } else { Ok(()) }
    }

    fn indexed(
        &self,
        cursor: &mut Cursor<'_>,
        fields: &mut Fields,
        limits: &mut Limits,
    ) -> Result<(), HpackError> {
        let index = cursor.integer(7)?.checked_sub(1).ok_or(HpackError::BadIndex)?;
        let start = fields.end();
        let (name, value) = match STATIC.get(index) {
            Some((name, value)) => (name.as_bytes(), value.as_bytes()),
            None => {
                let (name, value) = self.entry(index - STATIC_COUNT)?;
                limits.name(name.len() + value.len())?;
                (name, value)
            }
        };
        if fields.bytes.len() + name.len() + value.len() > limits.bytes {
            return Err(HpackError::TooLarge);
        }
        fields.bytes.extend_from_slice(name);
        let middle = fields.end();
        fields.bytes.extend_from_slice(value);
        let is_static = index < STATIC_COUNT;
        fields.list.push(Field {
            name: start..middle,
            value: middle..fields.end(),
            never_indexed: false,
            static_index: if is_static { u8::try_from(index + 1).unwrap_or_default() } else { 0 },
            is_static,
        });
        Ok(())
    }

    fn literal(
        &self,
        cursor: &mut Cursor<'_>,
        prefix_bits: u8,
        fields: &mut Fields,
        limits: &mut Limits,
    ) -> Result<Field, HpackError> {
        let index = cursor.integer(prefix_bits)?;
        let start = fields.end();
        let mut static_index = 0;
        let bytes_max = limits.bytes;
        let room = |fields: &Fields| bytes_max.saturating_sub(fields.bytes.len());
        match index.checked_sub(1) {
            None => {
                let room = room(fields);
                cursor.text()?.append_to(&mut fields.bytes, room)?;
            }
            Some(at) => {
                let name = match STATIC.get(at) {
                    Some((name, _)) => {
                        static_index = u8::try_from(index).unwrap_or_default();
                        name.as_bytes()
                    }
                    None => {
                        let (name, _) = self.entry(at - STATIC_COUNT)?;
                        limits.name(name.len())?;
                        name
                    }
                };
                if name.len() > room(fields) {
                    return Err(HpackError::TooLarge);
                }
                fields.bytes.extend_from_slice(name);
            }
        }
        let middle = fields.end();
        let room = room(fields);
        cursor.text()?.append_to(&mut fields.bytes, room)?;
        Ok(Field {
            name: start..middle,
            value: middle..fields.end(),
            never_indexed: false,
            static_index,
            is_static: false,
        })
    }

    /// Name and value of an entry; 0 is the newest.
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let at = self.entries.len().checked_sub(index + 1).ok_or(HpackError::BadIndex)?;
        let entry = self.entries.get(at).ok_or(HpackError::BadIndex)?;
        let length = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let (_, rest) = self.bytes.split_at_checked(length(entry.start)).ok_or(HpackError::BadIndex)?;
        let (name, rest) = rest.split_at_checked(length(entry.name_length)).ok_or(HpackError::BadIndex)?;
        let value = rest.get(..length(entry.value_length)).ok_or(HpackError::BadIndex)?;
        Ok((name, value))
    }

    fn insert(&mut self, fields: &Fields, field: &Field) {
        let (name, value) = (fields.name(field), fields.value(field));
        let size = name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        self.evict(size);
        if size > self.size_max {
            return;
        }
        self.compact();
        // INVARIANT: the table is far below 4 GiB.
        let start = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += size;
        self.entries.push_back(Entry {
            start,
            name_length: u32::try_from(name.len()).unwrap_or(u32::MAX),
            value_length: u32::try_from(value.len()).unwrap_or(u32::MAX),
        });
    }

    /// Makes room for an entry of so many bytes.
    fn evict(&mut self, wanted: usize) {
        while self.size + wanted > self.size_max {
            let Some(entry) = self.entries.pop_front() else { return };
            let length = usize::try_from(entry.name_length + entry.value_length).unwrap_or_default();
            self.size = self.size.saturating_sub(length + ENTRY_OVERHEAD_BYTES);
            self.start = usize::try_from(entry.start).unwrap_or_default() + length;
        }
    }

    /// Moves the entries to the front once as much lies before them as they take, and a little more.
    fn compact(&mut self) {
        if self.start < (self.bytes.len() - self.start).max(512) {
            return;
        }
        self.move_to_front();
    }

    fn move_to_front(&mut self) {
        self.bytes.drain(..self.start);
        let moved = u32::try_from(self.start).unwrap_or_default();
        for entry in &mut self.entries {
            entry.start = entry.start.saturating_sub(moved);
        }
        self.start = 0;
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Gives back what idle entries do not need.
    pub fn release(&mut self) {
        if self.bytes.capacity() > self.bytes.len() - self.start + 512 {
            self.move_to_front();
            self.bytes.shrink_to_fit();
            self.entries.shrink_to_fit();
        }
    }
}

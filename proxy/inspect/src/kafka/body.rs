//! Fields of Kafka messages (protocol guide, section "Protocol Primitive Types"), in the form of both generations: with
//! lengths of fixed size, and flexible, with variable ones and tagged fields.

use crate::cursor::Cursor;

/// Reads fields; what is not there is `None`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    cursor: Cursor<'a>,
    flexible: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self { cursor: Cursor::new(bytes), flexible }
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.cursor.u8()
    }

    pub(super) fn i16(&mut self) -> Option<i16> {
        self.cursor.i16()
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.cursor.i32()
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        self.cursor.take(count).map(|_| ())
    }

    /// A length, `None` inside for a null.
    fn length(&mut self, fixed: impl Fn(&mut Cursor<'a>) -> Option<i32>) -> Option<Option<usize>> {
        if self.flexible {
            return Some(self.varint()?.checked_sub(1).and_then(|length| usize::try_from(length).ok()));
        }
        match fixed(&mut self.cursor)? {
            -1 => Some(None),
            length => Some(Some(usize::try_from(length).ok()?)),
        }
    }

    /// An unsigned number of variable size, in at most five bytes.
    pub(super) fn varint(&mut self) -> Option<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.cursor.u8()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A string, `None` inside for a null.
    pub(super) fn nullable_string(&mut self) -> Option<Option<&'a str>> {
        match self.length(|cursor| cursor.i16().map(i32::from))? {
            None => Some(None),
            Some(length) => Some(Some(std::str::from_utf8(self.cursor.take(length)?).ok()?)),
        }
    }

    pub(super) fn string(&mut self) -> Option<&'a str> {
        self.nullable_string()?
    }

    /// Bytes that are passed over.
    pub(super) fn skip_bytes(&mut self) -> Option<()> {
        match self.length(Cursor::i32)? {
            None => Some(()),
            Some(length) => self.skip(length),
        }
    }

    /// Items of an array, `None` inside for a null.
    pub(super) fn items(&mut self) -> Option<Option<usize>> {
        self.length(Cursor::i32)
    }

    /// An array whose items have this size, passed over.
    pub(super) fn skip_items(&mut self, size: usize) -> Option<()> {
        match self.items()? {
            None => Some(()),
            Some(count) => self.skip(count.checked_mul(size)?),
        }
    }

    /// Tagged fields, which only flexible messages have, passed over.
    pub(super) fn tags(&mut self) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = usize::try_from(self.varint()?).ok()?;
            self.skip(size)?;
        }
        Some(())
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.cursor.rest().len()
    }
}

//! What every message has: a header, and records one after the other (RFC 1035 section 4.1).

use super::name::WireName;

/// Why a message cannot be read: our words, never the sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const TOO_SHORT: Malformed = Malformed("the message ends too early");

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 12;
/// Set in answers.
pub(super) const RESPONSE: u16 = 0x8000;
/// The kind of question; 0 is the usual one.
pub(super) const OPCODE: u16 = 0x7800;
/// The answer did not fit.
pub(super) const TRUNCATED: u16 = 0x0200;
/// The server is asked to ask others.
pub(super) const RECURSION_DESIRED: u16 = 0x0100;
/// The server does ask others.
pub(super) const RECURSION_AVAILABLE: u16 = 0x0080;
/// The client wants to know whether the answer is signed.
pub(super) const AUTHENTIC_DATA: u16 = 0x0020;
/// The client checks signatures itself.
pub(super) const CHECKING_DISABLED: u16 = 0x0010;
/// How it went.
pub(super) const RESPONSE_CODE: u16 = 0x000f;

/// The first twelve bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) questions: u16,
    pub(super) answers: u16,
    pub(super) authorities: u16,
    pub(super) additionals: u16,
}

impl Header {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: cursor.u16()?,
            flags: cursor.u16()?,
            questions: cursor.u16()?,
            answers: cursor.u16()?,
            authorities: cursor.u16()?,
            additionals: cursor.u16()?,
        })
    }

    pub(super) fn write(self, to: &mut Vec<u8>) {
        let fields = [self.id, self.flags, self.questions, self.answers, self.authorities, self.additionals];
        to.extend(fields.iter().flat_map(|field| field.to_be_bytes()));
    }
}

/// One record.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) owner: WireName,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl_s: u32,
    pub(super) content: &'a [u8],
    /// At the first byte of the content: names in it may be compressed.
    pub(super) content_cursor: Cursor<'a>,
}

impl<'a> Record<'a> {
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let owner = WireName::read(cursor)?;
        let (kind, class, ttl_s) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
        let length = cursor.u16()?;
        let content_cursor = cursor.clone();
        let content = cursor.take(usize::from(length))?;
        Ok(Self { owner, kind, class, ttl_s, content, content_cursor })
    }
}

/// A place in a message; reads what is there and nothing behind its end.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn moved_to(&self, at: usize) -> Self {
        Self { bytes: self.bytes, at }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(TOO_SHORT)?;
        let taken = self.bytes.get(self.at..end).ok_or(TOO_SHORT)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(TOO_SHORT)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.take(2)?.try_into().map(u16::from_be_bytes).map_err(|_| TOO_SHORT)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| TOO_SHORT)
    }
}

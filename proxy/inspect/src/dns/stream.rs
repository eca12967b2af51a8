//! Messages on a stream: two bytes of length in front of each (RFC 1035 section 4.2.2, RFC 7766 section 8).

use super::message::HEADER_BYTES;

/// What the first bytes of a stream hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Not a whole message yet.
    NeedMore,
    /// A message; it ends where `used` bytes end, its length among them.
    Message {
        /// Without its length.
        message: &'a [u8],
        /// With it.
        used: usize,
    },
    /// No message is so short.
    TooShort,
}

/// The first message of a stream.
pub fn frame(bytes: &[u8]) -> Frame<'_> {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Frame::NeedMore };
    let length = usize::from(u16::from_be_bytes(*length));
    if length < HEADER_BYTES {
        return Frame::TooShort;
    }
    match rest.get(..length) {
        Some(message) => Frame::Message { message, used: length + 2 },
        None => Frame::NeedMore,
    }
}

//! Header compression of HTTP/2 (RFC 7541): a bounded decoder, an encoder without state, and a watcher of responses.
//!
//! Every string, count and table is compared with a limit before anything is kept. What leaves towards the server
//! uses the static table only, so that a request that was refused leaves nothing in the server's table.

mod codes;
mod decoder;
mod encoder;
mod huffman;
mod static_table;
mod watcher;

pub use decoder::{Decoder, Field, Fields};
pub use encoder::{encode, encode_literal, literals};
pub use watcher::Watcher;

/// Why a header block cannot be read. Nothing can be read on that side after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpackError {
    /// It ends inside a field.
    Truncated,
    /// An integer longer than any that is needed.
    BadInteger,
    /// A string that is no Huffman code, or padded wrongly.
    BadHuffman,
    /// An index that no table has.
    BadIndex,
    /// A table size that was not allowed, that is missing, or behind a field.
    BadTableSize,
    /// More fields or bytes than the limit.
    TooLarge,
}

impl HpackError {
    /// What was wrong, for the operator.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Truncated => "header block that ends inside a field",
            Self::BadInteger => "header block with an integer that is too long",
            Self::BadHuffman => "header block with a wrong Huffman code",
            Self::BadIndex => "header block with an index that no table has",
            Self::BadTableSize => "header block with a table size that is not allowed",
            Self::TooLarge => "header list larger than the limit",
        }
    }
}

/// The next bytes of a header block.
struct Cursor<'a> {
    rest: &'a [u8],
}

/// A string as it stands in a block.
struct Text<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn byte(&mut self) -> Result<u8, HpackError> {
        let (first, rest) = self.rest.split_first().ok_or(HpackError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    /// An integer whose first byte has so many bits for it (RFC 7541 section 5.1): at most four more bytes.
    #[inline]
    fn integer(&mut self, prefix_bits: u8) -> Result<usize, HpackError> {
        let mask = (1usize << prefix_bits) - 1;
        let value = usize::from(self.byte()?) & mask;
        if value < mask { Ok(value) } else { self.long_integer(value) }
    }

    /// The rest of one that is at least so large.
    fn long_integer(&mut self, mut value: usize) -> Result<usize, HpackError> {
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError::BadInteger)
    }

    #[inline]
    fn text(&mut self) -> Result<Text<'a>, HpackError> {
        let huffman = self.peek().ok_or(HpackError::Truncated)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(HpackError::Truncated)?;
        self.rest = rest;
        Ok(Text { bytes, huffman })
    }
}

impl Text<'_> {
    /// Appends the decoded string; at most so many bytes.
    fn append_to(&self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), HpackError> {
        if self.huffman {
            return huffman::decode(self.bytes, out, bytes_max);
        }
        if self.bytes.len() > bytes_max {
            return Err(HpackError::TooLarge);
        }
        out.extend_from_slice(self.bytes);
        Ok(())
    }
}

//! The encoder of what leaves: static table and literals, no Huffman code, no state.
//!
//! Such a block can be read again where it lies: [`literals`].

use super::decoder::Fields;
use super::static_table::STATIC;
use super::{Cursor, HpackError};

/// Appends a header list as a block.
pub fn encode(fields: &Fields, out: &mut Vec<u8>) {
    out.reserve(fields.size() + fields.list().len() * 4);
    for field in fields.list() {
        if field.is_static {
            integer(out, 0x80, 7, usize::from(field.static_index));
            continue;
        }
        let first = if field.never_indexed { 0x10 } else { 0 };
        let name = fields.name(field);
        match static_name(field.static_index, name) {
            0 => {
                out.push(first);
                text(out, name);
            }
            index => integer(out, first, 4, usize::from(index)),
        }
        text(out, fields.value(field));
    }
}

/// Appends one field as a literal.
pub fn encode_literal(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    text(out, name);
    text(out, value);
}

/// The fields of a block that [`encode`] has written. Ends early at what it never writes.
pub fn literals(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut cursor = Cursor { rest: block };
    std::iter::from_fn(move || literal(&mut cursor).ok())
}

fn literal<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], &'a [u8]), HpackError> {
    let first = cursor.peek().ok_or(HpackError::Truncated)?;
    let entry = |index: usize| {
        let entry = index.checked_sub(1).and_then(|at| STATIC.get(at)).ok_or(HpackError::BadIndex)?;
        Ok((entry.0.as_bytes(), entry.1.as_bytes()))
    };
    if first >= 0x80 {
        return entry(cursor.integer(7)?);
    }
    let name = match cursor.integer(4)? {
        0 => cursor.text()?.bytes,
        index => entry(index)?.0,
    };
    Ok((name, cursor.text()?.bytes))
}

/// Pseudo-header fields are often in a client's table, and then come without their static index.
fn static_name(index: u8, name: &[u8]) -> u8 {
    match (index, name) {
        (0, b":authority") => 1,
        (0, b":path") => 4,
        (index, _) => index,
    }
}

/// Appends an integer whose first byte has so many bits for it (RFC 7541 section 5.1).
#[inline]
fn integer(out: &mut Vec<u8>, first: u8, prefix_bits: u8, value: usize) {
    let mask = (1usize << prefix_bits) - 1;
    if value < mask {
        return out.push(first | u8::try_from(value).unwrap_or(u8::MAX));
    }
    long_integer(out, first, mask, value);
}

fn long_integer(out: &mut Vec<u8>, first: u8, mask: usize, value: usize) {
    let low = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    out.push(first | low(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | low(rest & 0x7f));
        rest >>= 7;
    }
    out.push(low(rest));
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    integer(out, 0, 7, bytes.len());
    out.extend_from_slice(bytes);
}

//! Reads strings in the Huffman code of HPACK (RFC 7541 section 5.2).
//!
//! The code is canonical: codes of one length are consecutive in the order of their symbols. Codes of up to ten bits
//! are found in one look, longer ones by their length. Padding is strict: fewer than eight bits, all ones.

use super::HpackError;
use super::codes::CODES;

/// Decodes `text` behind what `out` holds; at most so many bytes.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), HpackError> {
    let until = out.len() + bytes_max;
    let mut rest = text;
    // So many bits that were not decoded, at the top. What stands below them is zero, or what comes next.
    let (mut window, mut bits) = (0u64, 0u32);
    loop {
        (window, bits) = fill(window, bits, &mut rest);
        while bits >= LONGEST_BITS {
            let (symbol, length) = first(window)?;
            (window, bits) = (window << length, bits - length);
            put(symbol, out, until)?;
        }
        if rest.is_empty() {
            break;
        }
    }
    while bits > 0 {
        // The bits that are left, followed by ones.
        let aligned = window | (u64::MAX >> bits);
        if bits < 8 && aligned == u64::MAX {
            break;
        }
        let (symbol, length) = first(aligned)?;
        if length > bits {
            return Err(HpackError::BadHuffman);
        }
        (window, bits) = (window << length, bits - length);
        put(symbol, out, until)?;
    }
    Ok(())
}

/// Fills up fewer bits than the longest code has with whole bytes.
#[inline]
fn fill(mut window: u64, mut bits: u32, rest: &mut &[u8]) -> (u64, u32) {
    if let Some(eight) = rest.first_chunk::<8>() {
        window |= u64::from_be_bytes(*eight) >> bits;
        let count = (63 - bits) / 8;
        *rest = rest.get(usize::try_from(count).unwrap_or_default()..).unwrap_or_default();
        return (window, bits + 8 * count);
    }
    while bits <= 56
        && let Some((byte, behind)) = rest.split_first()
    {
        window |= u64::from(*byte) << (56 - bits);
        bits += 8;
        *rest = behind;
    }
    (window, bits)
}

/// The symbol whose code begins there, and bits of the code.
#[inline]
fn first(window: u64) -> Result<(u8, u32), HpackError> {
    let (symbol, length) = match SHORT[low_bits(window >> (64 - SHORT_BITS), SHORT_BITS)] {
        (_, 0) => long(window).ok_or(HpackError::BadHuffman)?,
        short => short,
    };
    Ok((symbol, u32::from(length)))
}

#[inline]
fn put(symbol: u8, out: &mut Vec<u8>, until: usize) -> Result<(), HpackError> {
    if out.len() >= until {
        return Err(HpackError::TooLarge);
    }
    out.push(symbol);
    Ok(())
}

/// The symbol whose code of more than [`SHORT_BITS`] bits begins `aligned`; `None` for the end of string.
fn long(aligned: u64) -> Option<(u8, u8)> {
    let mut length = SHORT_BITS + 1;
    while length <= LONGEST_BITS {
        let level = &LONG[usize::try_from(length).ok()?];
        let code = aligned >> (64 - length);
        let offset = code.wrapping_sub(u64::from(level.first));
        if offset < u64::from(level.count) {
            let at = usize::from(level.symbols_at) + usize::try_from(offset).ok()?;
            return Some((*SYMBOLS.get(at)?, u8::try_from(length).ok()?));
        }
        length += 1;
    }
    None
}

const fn low_bits(value: u64, count: u32) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "at most ten bits are left")]
    let masked = (value & ((1 << count) - 1)) as usize;
    masked
}

/// Bits of the codes that are found in one look.
const SHORT_BITS: u32 = 10;
/// Bits of the longest code.
const LONGEST_BITS: u32 = 30;

/// Symbol and code length for each value of the next [`SHORT_BITS`] bits; length 0 where the code is longer.
static SHORT: [(u8, u8); 1 << SHORT_BITS] = short_codes();
/// For each length, the codes of that length.
static LONG: [Level; LONGEST_BITS as usize + 1] = levels();
/// Symbols by length of their code, then by symbol.
static SYMBOLS: [u8; 256] = symbols();

#[derive(Clone, Copy)]
struct Level {
    first: u32,
    count: u16,
    symbols_at: u16,
}

#[expect(clippy::cast_possible_truncation, reason = "symbols below 256 are bytes, lengths are at most 30")]
const fn short_codes() -> [(u8, u8); 1 << SHORT_BITS] {
    let mut table = [(0, 0); 1 << SHORT_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let (code, length) = CODES[symbol];
        if length <= SHORT_BITS {
            let mut tail = 0;
            while tail < 1 << (SHORT_BITS - length) {
                table[((code << (SHORT_BITS - length)) | tail) as usize] = (symbol as u8, length as u8);
                tail += 1;
            }
        }
        symbol += 1;
    }
    table
}

const fn levels() -> [Level; LONGEST_BITS as usize + 1] {
    let mut levels = [Level { first: 0, count: 0, symbols_at: 0 }; LONGEST_BITS as usize + 1];
    let (mut length, mut at) = (0, 0);
    while length <= LONGEST_BITS {
        let level = &mut levels[length as usize];
        level.symbols_at = at;
        let mut symbol = 0;
        while symbol < 256 {
            if CODES[symbol].1 == length {
                if level.count == 0 {
                    level.first = CODES[symbol].0;
                }
                level.count += 1;
            }
            symbol += 1;
        }
        at += level.count;
        length += 1;
    }
    levels
}

#[expect(clippy::cast_possible_truncation, reason = "symbols below 256 are bytes")]
const fn symbols() -> [u8; 256] {
    let mut symbols = [0; 256];
    let (mut length, mut at) = (0, 0);
    while length <= LONGEST_BITS {
        let mut symbol = 0;
        while symbol < 256 {
            if CODES[symbol].1 == length {
                symbols[at] = symbol as u8;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes by the table, bit by bit.
    fn encode(text: &[u8]) -> Vec<u8> {
        let bits: String = text
            .iter()
            .map(|byte| {
                let (code, length) = CODES[usize::from(*byte)];
                format!("{code:0width$b}", width = usize::try_from(length).unwrap())
            })
            .collect();
        let padded = format!("{bits}{}", "1".repeat((8 - bits.len() % 8) % 8));
        (0..padded.len() / 8).map(|at| u8::from_str_radix(&padded[at * 8..at * 8 + 8], 2).unwrap()).collect()
    }

    fn decoded(text: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(text, &mut out, 10_000).map(|()| out)
    }

    #[test]
    fn every_byte_comes_back_alone_and_among_others() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encode(&all)), Ok(all.clone()));
        for byte in all {
            for text in [vec![byte], vec![byte; 3], vec![b'a', byte, b'0'], vec![byte; 7]] {
                assert_eq!(decoded(&encode(&text)), Ok(text.clone()));
            }
        }
    }

    #[test]
    fn the_code_is_complete_and_no_code_begins_another() {
        let sum: u64 = CODES.iter().map(|(_, length)| 1u64 << (30 - length)).sum();
        assert_eq!(sum, 1 << 30);
        for (at, (code, length)) in CODES.iter().enumerate() {
            for (other, longer) in &CODES[at + 1..] {
                let shared = (*length).min(*longer);
                assert_ne!(code >> (length - shared), other >> (longer - shared));
            }
        }
    }

    #[test]
    fn padding_that_is_too_long_or_not_all_ones_and_the_end_of_string_are_refused() {
        // `0` is five zero bits.
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        for wrong in
            [&[0b0000_0110][..], &[0b0000_0000], &[0b0000_0111, 0xff], &[0xff], &[0xff; 4], &[0xff; 30]]
        {
            assert_eq!(decoded(wrong), Err(HpackError::BadHuffman), "{wrong:x?}");
        }
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }

    #[test]
    fn output_is_bounded() {
        let text = encode(&[b'0'; 100]);
        assert_eq!(decode(&text, &mut Vec::new(), 99), Err(HpackError::TooLarge));
        assert_eq!(decode(&text, &mut vec![1, 2, 3], 100), Ok(()));
    }
}

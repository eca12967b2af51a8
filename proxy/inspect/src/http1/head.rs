//! What request and response heads have in common: their end, their lines, their fields.
//!
//! Strict on purpose (RFC 9112 section 2.2 and 5): every line ends in CRLF, nothing is folded, no control byte
//! stands anywhere. Where servers are known to read differently, nothing is read at all.

use crate::contract::Refusal;
use crate::limits::{CONTENT_LENGTH_DIGITS_MAX, HEAD_BYTES_MAX};
use bulkhead_facts::{HeaderField, Reason};

/// A refusal of bytes that are no HTTP, with the status a client may be told.
pub(super) const fn malformed(detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Malformed, status: Some(400), detail }
}

/// A refusal of something too large.
pub(super) const fn too_large(status: u16, detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Limit, status: Some(status), detail }
}

/// Length of the head at the beginning of `bytes`, its empty line included, once that has come.
///
/// `scanned` is how many bytes an earlier call has looked at, so that a head that comes byte by byte costs
/// one look at each.
pub(super) fn find_end(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, Refusal> {
    let window = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
    let unseen = window.get(*scanned..).unwrap_or_default();
    for at in memchr::memchr_iter(b'\n', unseen) {
        let line_feed = *scanned + at;
        let before = window.get(..line_feed).unwrap_or_default();
        if !before.ends_with(b"\r") {
            return Err(malformed("line feed without carriage return"));
        }
        if before.ends_with(b"\r\n\r") {
            return Ok(Some(line_feed + 1));
        }
    }
    *scanned = window.len();
    if bytes.len() >= HEAD_BYTES_MAX {
        return Err(too_large(431, "head longer than 16 KiB"));
    }
    Ok(None)
}

/// The lines of a complete head with their offsets, without their CRLF and without the empty last one.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(head: &'a [u8]) -> Self {
        Self { rest: head, offset: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at_checked(end + 1)?;
        let text = line.strip_suffix(b"\r\n")?;
        let offset = self.offset;
        self.rest = rest;
        self.offset += line.len();
        (!text.is_empty()).then_some((offset, text))
    }
}

/// Reads `name: value` (RFC 9112 section 5).
pub(super) fn field(line: &[u8]) -> Result<HeaderField<'_>, Refusal> {
    // A colon is in no token, so one look finds the end of the name.
    let end = line.iter().position(|byte| !is_token(*byte)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let Some(written) = rest.strip_prefix(b":").filter(|_| !name.is_empty()) else {
        let has_colon = rest.contains(&b':');
        return Err(malformed(if has_colon {
            "header name that is no token"
        } else {
            "header line without colon"
        }));
    };
    let value = trim(written);
    if value.len() < written.len() && has_tab_around(written) && names_framing(name) {
        return Err(malformed("tab beside a value that frames the message"));
    }
    if !is_text(value) {
        return Err(malformed("control byte in a header value"));
    }
    Ok(HeaderField { name, value })
}

/// Fields of which servers do not agree that a tab around the value means nothing.
fn names_framing(name: &[u8]) -> bool {
    let names: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
    names.iter().any(|framing| name.eq_ignore_ascii_case(framing))
}

fn has_tab_around(written: &[u8]) -> bool {
    let around = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let ends = written.iter().take_while(around).chain(written.iter().rev().take_while(around));
    ends.into_iter().any(|byte| *byte == b'\t')
}

/// Without spaces and tabs at both ends; a vertical tab is no white space.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a comma-separated list, trimmed, without empty ones (RFC 9110 section 5.6.1).
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Digits and nothing else: no sign, no list, no space.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    const WRONG: Refusal = malformed("content-length that is no plain number");
    if value.is_empty() || value.len() > CONTENT_LENGTH_DIGITS_MAX {
        return Err(WRONG);
    }
    value.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'9' => Ok(sum * 10 + u64::from(digit - b'0')),
        _ => Err(WRONG),
    })
}

/// True for bytes of a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// True if every byte may stand in a field value: visible ASCII, space, tab and bytes above ASCII.
pub(crate) fn is_text(value: &[u8]) -> bool {
    let (words, rest) = value.as_chunks::<8>();
    let plain = words.iter().fold(true, |all, word| all & !may_have_control(u64::from_ne_bytes(*word)));
    let is_text = |bytes: &[u8]| {
        bytes.iter().fold(true, |all, byte| all & ((*byte >= 0x20 && *byte != 0x7f) || *byte == b'\t'))
    };
    // A tab is a control byte that may stand there.
    is_text(rest) && (plain || is_text(value))
}

/// True if one of eight bytes is below 0x20, or 0x7f.
fn may_have_control(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    let deleted = word ^ (ONES * 0x7f);
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    below(word, 0x20) | below(deleted, 1) != 0
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0;
    while byte < 128u8 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = true;
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_at_every_split() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nrest";
        let mut scanned = 0;
        for length in 0..head.len() {
            let expected = (length >= head.len() - 4).then_some(head.len() - 4);
            assert_eq!(find_end(&head[..length], &mut scanned), Ok(expected), "{length} bytes");
            if expected.is_some() {
                break;
            }
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused_before_the_head_is_complete() {
        assert!(find_end(b"GET / HTTP/1.1\n", &mut 0).is_err());
        assert!(find_end(b"\n", &mut 0).is_err());
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
        let mut head = vec![b'a'; HEAD_BYTES_MAX - 4];
        head.extend_from_slice(b"\r\n\r\n");
        assert_eq!(find_end(&head, &mut 0), Ok(Some(HEAD_BYTES_MAX)));
        head.insert(0, b'a');
        assert_eq!(find_end(&head, &mut 0).map_err(|refusal| refusal.reason), Err(Reason::Limit));
    }

    #[test]
    fn a_value_is_text_wherever_in_it_a_byte_stands() {
        for byte in 0..=u8::MAX {
            let expected = matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
            for (before, after) in (0..20).flat_map(|before| [(before, 0), (before, 1), (before, 17)]) {
                for other in *b"a\t\x80\xff " {
                    let value = [vec![other; before], vec![byte], vec![other; after]].concat();
                    assert_eq!(is_text(&value), expected, "{byte} behind {before} before {after}");
                }
            }
        }
    }

    #[test]
    fn content_length_takes_plain_digits_only() {
        assert_eq!(content_length(b"0"), Ok(0));
        assert_eq!(content_length(b"999999999999999999"), Ok(999_999_999_999_999_999));
        for wrong in ["", "+4", "-1", "4, 4", "0x4", "4 ", "1e3", "9999999999999999999"] {
            assert!(content_length(wrong.as_bytes()).is_err(), "`{wrong}`");
        }
    }
}

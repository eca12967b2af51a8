//! Names as they are on the wire (RFC 1035 sections 3.1 and 4.1.4).
//!
//! Kept uncompressed and in the sender's case, compared without case. A pointer has to lead back, in front of everything that
//! was read of this name, so that no chain of them goes round; names are read at most so often as a message is long.

use super::message::{Cursor, HEADER_BYTES, Malformed};
use crate::limits::{DNS_NAME_BYTES_MAX, DNS_POINTERS_MAX};
use bulkhead_facts::HostName;
use std::fmt;

/// A name: labels with their lengths in front, the empty one last. Questions keep theirs until they are answered, so it holds
/// no more than its bytes.
#[derive(Clone)]
pub struct WireName(Box<[u8]>);

/// A name while it is read.
struct Reading {
    bytes: [u8; DNS_NAME_BYTES_MAX],
    length: usize,
}

impl WireName {
    /// Reads a name, and sets the cursor behind it.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Self::read_with(cursor, DNS_POINTERS_MAX)
    }

    /// Reads a name that may not be compressed: nothing stands in front of it that it could repeat.
    pub(super) fn read_plain(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Self::read_with(cursor, 0)
    }

    fn read_with(cursor: &mut Cursor<'_>, pointers_max: usize) -> Result<Self, Malformed> {
        let mut name = Reading { bytes: [0; DNS_NAME_BYTES_MAX], length: 0 };
        let mut reading = cursor.clone();
        let mut begin = cursor.at();
        let mut pointers = 0;
        loop {
            let head = reading.u8()?;
            match head >> 6 {
                0 => {
                    let label = reading.take(usize::from(head))?;
                    name.push(head, label)?;
                    if head == 0 {
                        break;
                    }
                }
                3 => {
                    let target = usize::from(head & 0x3f) << 8 | usize::from(reading.u8()?);
                    if pointers == 0 {
                        *cursor = reading.clone();
                    }
                    pointers += 1;
                    if pointers > pointers_max || target >= begin {
                        return Err(Malformed("a name is compressed where it may not, or in a circle"));
                    }
                    // An identifier is another one for whoever asks than for whoever answers.
                    if target < HEADER_BYTES {
                        return Err(Malformed("a name begins in the header"));
                    }
                    begin = target;
                    reading = cursor.moved_to(target);
                }
                _ => return Err(Malformed("a label is of a kind that does not exist")),
            }
        }
        if pointers == 0 {
            *cursor = reading;
        }
        Ok(Self(name.bytes.get(..name.length).unwrap_or_default().into()))
    }

    /// The name on the wire, uncompressed, in the case in which it came.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels without the last, empty one.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.as_wire();
        std::iter::from_fn(move || {
            let (head, behind) = rest.split_first()?;
            let (label, next) = behind.split_at_checked(usize::from(*head))?;
            rest = next;
            (!label.is_empty()).then_some(label)
        })
    }

    /// True if no label holds a byte at which simple readers, those of C libraries for containers among them, would end the
    /// name: what follows, they would read as a record.
    pub(super) fn is_read_alike(&self) -> bool {
        self.labels().flatten().all(|byte| matches!(byte, 1..=127))
    }

    /// The name as rules know names; `None` if it is none: the root, an address, or other bytes than host names have.
    pub fn host(&self) -> Option<HostName> {
        let mut text = String::with_capacity(self.0.len());
        for label in self.labels() {
            let plain = label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !plain {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(std::str::from_utf8(label).ok()?);
        }
        HostName::parse(&text).ok().filter(|name| !name.is_address())
    }
}

impl Reading {
    fn push(&mut self, head: u8, label: &[u8]) -> Result<(), Malformed> {
        let end = self.length + 1 + label.len();
        let Some(place) = self.bytes.get_mut(self.length..end) else {
            return Err(Malformed("a name is longer than 255 bytes"));
        };
        if let Some((first, rest)) = place.split_first_mut() {
            *first = head;
            rest.copy_from_slice(label);
        }
        self.length = end;
        Ok(())
    }
}

impl PartialEq for WireName {
    fn eq(&self, other: &Self) -> bool {
        // Lengths of labels are below the letters, so that they compare as they are.
        self.as_wire().eq_ignore_ascii_case(other.as_wire())
    }
}

impl Eq for WireName {}

impl fmt::Display for WireName {
    /// As in a zone file: what no host name has is written as a number (RFC 4343 section 2.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() <= 1 {
            return f.write_str(".");
        }
        for (at, label) in self.labels().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            for byte in label {
                match byte {
                    b'-' | b'_' | b'*' => write!(f, "{}", char::from(*byte))?,
                    byte if byte.is_ascii_alphanumeric() => {
                        write!(f, "{}", char::from(byte.to_ascii_lowercase()))?;
                    }
                    byte => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireName({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what stands behind a header; places count from there, but in pointers.
    fn read(bytes: &[u8], at: usize) -> Result<(WireName, usize), Malformed> {
        let message = [&[1; HEADER_BYTES], bytes].concat();
        let mut cursor = Cursor::new(&message).moved_to(HEADER_BYTES + at);
        let name = WireName::read(&mut cursor)?;
        Ok((name, cursor.at() - HEADER_BYTES))
    }

    #[test]
    fn a_pointer_leads_back_and_the_cursor_stands_behind_it() {
        let bytes = b"\x01a\x04test\0\x03www\xc0\x0c!";
        let (name, end) = read(bytes, 8).expect("a name");
        assert_eq!((name.to_string().as_str(), end), ("www.a.test", 14));
        assert_eq!(name.host().map(|host| host.to_string()).as_deref(), Some("www.a.test"));
    }

    #[test]
    fn circles_and_pointers_ahead_are_refused() {
        for (bytes, at) in [
            (&b"\xc0\x0c"[..], 0),
            (b"\x01a\xc0\x0c", 0),
            (b"\xc0\x0e\xc0\x0c", 0),
            (b"\xc0\x0e\xc0\x0c", 2),
            (b"\x00\x01a\xc0\x0d", 1),
            (b"\xc0\x11\0\0\0\0", 0),
        ] {
            assert!(read(bytes, at).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn no_name_begins_in_the_header() {
        for target in 0..12 {
            let bytes = [0, 1, b'a', 0xc0, target];
            assert!(read(&bytes, 1).is_err(), "{target}");
        }
        assert!(read(&[0, 1, b'a', 0xc0, 12], 1).is_ok());
    }

    #[test]
    fn a_long_chain_of_pointers_is_refused() {
        let mut bytes = vec![0];
        for at in 0..=DNS_POINTERS_MAX {
            let target = HEADER_BYTES + if at == 0 { 0 } else { 2 * at - 1 };
            bytes.extend((0xc000 | u16::try_from(target).expect("low")).to_be_bytes());
        }
        assert!(read(&bytes, bytes.len() - 4).is_ok());
        assert!(read(&bytes, bytes.len() - 2).is_err());
    }

    #[test]
    fn lengths_are_those_of_the_name_system() {
        let longest: Vec<u8> = [63, 63, 63, 61].iter().fold(Vec::new(), |mut all, length| {
            all.push(*length);
            all.extend(vec![b'a'; usize::from(*length)]);
            all
        });
        let whole = [&longest[..], &[0]].concat();
        assert_eq!(whole.len(), 255);
        assert!(read(&whole, 0).expect("the longest").0.host().is_some());
        assert!(read(&[&longest[..], &[1, b'a', 0]].concat(), 0).is_err());
        for kind in [0x40, 0x80] {
            assert!(read(&[kind | 1, b'a', 0], 0).is_err());
        }
    }

    #[test]
    fn case_makes_no_difference_and_is_kept() {
        let (upper, lower) = (read(b"\x01A\x02bC\0", 0), read(b"\x01a\x02Bc\0", 0));
        let (upper, lower) = (upper.expect("a name").0, lower.expect("a name").0);
        assert_eq!(upper, lower);
        assert_eq!(upper.as_wire(), b"\x01A\x02bC\0");
        assert_ne!(read(b"\x02ab\0", 0).expect("a name").0, read(b"\x01a\x01b\0", 0).expect("a name").0);
    }

    #[test]
    fn what_is_no_host_name_is_shown_escaped() {
        for (bytes, text) in
            [(&b"\0"[..], "."), (b"\x03a.b\x01\xff\0", "a\\046b.\\255"), (b"\x01*\x01a\0", "*.a")]
        {
            let name = read(bytes, 0).expect("a name").0;
            assert_eq!((name.to_string().as_str(), name.host()), (text, None));
        }
        assert_eq!(read(b"\x0210\x010\x010\x011\0", 0).expect("a name").0.host(), None);
    }
}

//! The header of the PROXY protocol, versions 1 and 2 (HAProxy, "The PROXY protocol", 2020), before a client's first byte.
//!
//! Read strictly, so that nothing in it can be taken for a request by who reads it otherwise, and passed on as it came. What
//! it claims is believed by nobody here: the peer is who the packets come from.

use crate::contract::Refusal;
use crate::limits::PROXY_HEADER_BYTES_MAX;
use bulkhead_facts::Reason;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What a client's first bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// Something else.
    None,
    /// They may become a header.
    Begun,
    /// A header of so many bytes.
    Whole(usize),
}

const LINE: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a line with its end (section 2.1).
const LINE_BYTES_MAX: usize = 107;
/// Signature, version and command, family, length (section 2.2).
const FIXED_BYTES: usize = 16;
/// The type of the value that holds a host name (section 2.2.2).
const AUTHORITY: u8 = 2;

/// Reads the header that `bytes` begin with.
pub(crate) fn read(bytes: &[u8]) -> Result<Header, Refusal> {
    let begins = |whole: &[u8]| bytes.iter().zip(whole).all(|(byte, own)| byte == own);
    match bytes.len() {
        _ if begins(LINE) && bytes.len() >= LINE.len() => line(bytes),
        _ if begins(SIGNATURE) && bytes.len() >= SIGNATURE.len() => binary(bytes),
        _ if begins(LINE) || begins(SIGNATURE) => Ok(Header::Begun),
        _ => Ok(Header::None),
    }
}

/// Version 1: a line.
fn line(bytes: &[u8]) -> Result<Header, Refusal> {
    let within = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = within.iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(Header::Begun) } else { Err(malformed()) };
    };
    match within.get(end..) {
        Some([b'\r', b'\n', ..]) => {}
        Some([b'\r']) if bytes.len() < LINE_BYTES_MAX => return Ok(Header::Begun),
        _ => return Err(malformed()),
    }
    let text =
        within.get(LINE.len()..end).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let mut words = text.split(' ');
    let sound = match words.next() {
        // Whatever follows means nothing.
        Some("UNKNOWN") => true,
        Some("TCP4") => ends::<Ipv4Addr>(words),
        Some("TCP6") => ends::<Ipv6Addr>(words),
        _ => false,
    };
    if sound { Ok(Header::Whole(end + 2)) } else { Err(malformed()) }
}

/// True for two addresses, two ports, and nothing else.
fn ends<A: FromStr>(mut words: std::str::Split<'_, char>) -> bool {
    let port = |word: &str| word.parse::<u16>().is_ok_and(|port| port.to_string() == word);
    let addresses = [words.next(), words.next()];
    let ports = [words.next(), words.next()];
    addresses.into_iter().all(|word| word.is_some_and(|word| word.parse::<A>().is_ok()))
        && ports.into_iter().all(|word| word.is_some_and(port))
        && words.next().is_none()
}

/// Version 2: fixed fields, addresses, and typed values.
fn binary(bytes: &[u8]) -> Result<Header, Refusal> {
    let Some(&[version, family, high, low]) = bytes.get(SIGNATURE.len()..).and_then(<[u8]>::first_chunk)
    else {
        return Ok(Header::Begun);
    };
    let end = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let addresses_bytes = match (version, family) {
        // The proxy's own connection: nothing that follows means anything.
        (0x20, _) | (0x21, 0x00) => 0,
        (0x21, 0x11 | 0x12) => 12,
        (0x21, 0x21 | 0x22) => 36,
        (0x21, 0x31 | 0x32) => 216,
        _ => return Err(malformed()),
    };
    if end > PROXY_HEADER_BYTES_MAX {
        let detail = "header of the PROXY protocol of more than 2 KiB";
        return Err(Refusal { reason: Reason::Limit, status: None, detail });
    }
    let Some(content) = bytes.get(FIXED_BYTES..end) else { return Ok(Header::Begun) };
    let values = content.get(addresses_bytes..);
    // Without a family there is no telling where addresses end.
    let sound = family == 0 || values.is_some_and(are_values);
    if sound { Ok(Header::Whole(end)) } else { Err(malformed()) }
}

/// True for values that fill all of it, of which one that is a host name is text.
fn are_values(mut bytes: &[u8]) -> bool {
    while let [kind, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, behind)) = rest.split_at_checked(length) else { return false };
        if *kind == AUTHORITY && std::str::from_utf8(value).is_err() {
            return false;
        }
        bytes = behind;
    }
    bytes.is_empty()
}

fn malformed() -> Refusal {
    Refusal { reason: Reason::Malformed, status: None, detail: "malformed header of the PROXY protocol" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(version: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[version, family], &length, content].concat()
    }

    fn check_whole(header: &[u8]) {
        for length in 0..header.len() {
            assert_eq!(read(&header[..length]), Ok(Header::Begun), "{length} of {}", header.escape_ascii());
        }
        let more = [header, b"GET / HTTP/1.1\r\n"].concat();
        for bytes in [header, &more] {
            assert_eq!(read(bytes), Ok(Header::Whole(header.len())), "{}", bytes.escape_ascii());
        }
    }

    /// Refused, and at no length of it taken for a header.
    fn check_refused(header: &[u8]) {
        assert!(read(header).is_err(), "{}", header.escape_ascii());
        for length in 0..header.len() {
            let found = read(&header[..length]);
            assert!(found.is_err() || found == Ok(Header::Begun), "{length} of {}", header.escape_ascii());
        }
    }

    #[test]
    fn headers_of_both_versions_are_read_however_they_are_cut() {
        check_whole(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n");
        check_whole(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n");
        check_whole(b"PROXY UNKNOWN\r\n");
        check_whole(b"PROXY UNKNOWN ffff:ffff whatever 1\r\n");
        check_whole(&binary(0x20, 0, b""));
        check_whole(&binary(0x21, 0, &[0; 20]));
        check_whole(&binary(0x21, 0x11, &[1; 12]));
        check_whole(&binary(0x21, 0x21, &[[1; 36].as_slice(), b"\x02\0\x04shop\xea\0\x01x"].concat()));
        check_whole(&binary(0x21, 0x31, &[0; 216]));
    }

    #[test]
    fn what_two_readers_may_read_differently_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP5 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
            "PROXY TCP4 192.0.2.1\t198.51.100.2 1 2\r\n",
            "PROXY UNKNOWN\r\r\n",
            "PROXY \r\n",
        ] {
            check_refused(line.as_bytes());
        }
        check_refused(format!("PROXY UNKNOWN {}\r\n", "a".repeat(LINE_BYTES_MAX)).as_bytes());
        for (version, family, content) in [
            (0x11, 0x11, &[1; 12][..]),
            (0x22, 0x11, &[1; 12]),
            (0x21, 0x13, &[1; 12]),
            (0x21, 0x41, &[1; 12]),
            (0x21, 0x11, &[1; 11]),
            // A value that ends behind the header (CVE-2026-47692), one that is cut, and a name that is no text (CVE-2024-23324).
            (0x21, 0x11, b"aaaabbbbccdd\x04\xff\xffx"),
            (0x21, 0x11, b"aaaabbbbccdd\x04\0"),
            (0x21, 0x11, b"aaaabbbbccdd\x02\0\x02\xff\xfe"),
        ] {
            check_refused(&binary(version, family, content));
        }
        check_refused(&binary(0x21, 0x11, &[4; PROXY_HEADER_BYTES_MAX]));
    }

    #[test]
    fn requests_are_no_headers() {
        for request in [
            "POST / HTTP/1.1\r\n",
            "PROXYGET / HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n",
            "\r\nGET / HTTP/1.1\r\n",
            "*1\r\n",
        ] {
            assert_eq!(read(request.as_bytes()), Ok(Header::None), "{request:?}");
        }
        assert_eq!(read(b"\x16\x03\x01"), Ok(Header::None));
    }
}

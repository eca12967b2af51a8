//! Host names and patterns of them, in one canonical form.

use crate::limits::{HOST_BYTES_MAX, HOST_LABEL_BYTES_MAX};
use crate::punycode::is_international;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host name or address literal: lower case, no port, no trailing dot.
///
/// Non-ASCII names are refused (write the `xn--` form); so are zone identifiers and address forms that
/// only some parsers read (`0x7f.1`, `127.1`, `010.0.0.1`). Names of up to [`INLINE_BYTES`] bytes live in the value itself, so
/// an inspector reads the usual `Host` field without allocating.
#[derive(Clone)]
pub struct HostName(Text);

/// Longest name that needs no allocation.
const INLINE_BYTES: usize = 62;

#[derive(Clone)]
enum Text {
    Inline { length: u8, bytes: [u8; INLINE_BYTES] },
    Boxed(Box<[u8]>),
}

/// Why a text is no host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNameError {
    /// Nothing there.
    Empty,
    /// Longer than [`HOST_BYTES_MAX`], or a label longer than [`HOST_LABEL_BYTES_MAX`].
    TooLong,
    /// An empty label (`a..b`, `.a`).
    EmptyLabel,
    /// A character that no host name has.
    BadCharacter,
    /// Looks like an address but has no single reading.
    AmbiguousAddress,
    /// An `xn--` label that encodes plain ASCII or nothing: some parsers read it as another name (RUSTSEC-2024-0421).
    FakeInternational,
    /// A `*.` pattern below an address, which has nothing below it.
    BelowAddress,
    /// The port after the colon is no port.
    BadPort,
}

impl fmt::Display for HostNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "host name is empty",
            Self::TooLong => "host name is longer than 253 bytes or a label longer than 63",
            Self::EmptyLabel => "host name has an empty label",
            Self::BadCharacter => "host name has a character other than letters, digits, `-`, `_` and `.`",
            Self::AmbiguousAddress => "host looks like an address that can be read in two ways",
            Self::FakeInternational => {
                "host name has an `xn--` label that encodes no international name: write the plain name"
            }
            Self::BelowAddress => "nothing lies below an address: write the address without `*.`",
            Self::BadPort => "port after the host name is not a number from 1 to 65535",
        })
    }
}

impl std::error::Error for HostNameError {}

impl HostName {
    /// Reads a host without port: a name, an IPv4 address, or an IPv6 address with or without brackets.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        if let Some(literal) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            return literal.parse().map(Self::from_v6).map_err(|_| HostNameError::BadCharacter);
        }
        if let Ok(v6) = text.parse::<Ipv6Addr>() {
            return Ok(Self::from_v6(v6));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        check_labels(name)?;
        if looks_numeric(name) && name.parse::<Ipv4Addr>().is_err() {
            return Err(HostNameError::AmbiguousAddress);
        }
        Ok(Self::lower_case(name))
    }

    /// Reads `host` or `host:port` as in a `Host` field or `:authority` (RFC 9110 section 7.2).
    pub fn parse_authority(text: &str) -> Result<(Self, Option<u16>), HostNameError> {
        let (host, port) = split_port(text)?;
        let port = match port {
            None => None,
            Some(p) if !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()) => {
                match p.parse::<u16>() {
                    Ok(port) if port > 0 => Some(port),
                    Ok(_) | Err(_) => return Err(HostNameError::BadPort),
                }
            }
            Some(_) => return Err(HostNameError::BadPort),
        };
        Ok((Self::parse(host)?, port))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        // INVARIANT: only ASCII is ever stored.
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// True if it is an address literal, not a name.
    pub fn is_address(&self) -> bool {
        self.as_str().parse::<IpAddr>().is_ok()
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Text::Boxed(bytes) => bytes,
        }
    }

    fn from_v6(address: Ipv6Addr) -> Self {
        Self::lower_case(&IpAddr::V6(address).to_canonical().to_string())
    }

    fn lower_case(name: &str) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(front), Ok(length)) => {
                front.copy_from_slice(name.as_bytes());
                front.make_ascii_lowercase();
                Self(Text::Inline { length, bytes })
            }
            (None, _) | (_, Err(_)) => Self(Text::Boxed(name.to_ascii_lowercase().into_bytes().into())),
        }
    }
}

impl PartialEq for HostName {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for HostName {}

impl PartialOrd for HostName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HostName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl Hash for HostName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostName({:?})", self.as_str())
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Host and port of an authority; only a bracketed host holds colons of its own.
fn split_port(text: &str) -> Result<(&str, Option<&str>), HostNameError> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or(HostNameError::BadCharacter)? + 1;
        let (host, rest) = text.split_at(end);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(HostNameError::BadCharacter),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(HostNameError::BadCharacter),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn check_labels(name: &str) -> Result<(), HostNameError> {
    if name.is_empty() {
        return Err(HostNameError::Empty);
    }
    if name.len() > HOST_BYTES_MAX {
        return Err(HostNameError::TooLong);
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(HostNameError::EmptyLabel);
        }
        if label.len() > HOST_LABEL_BYTES_MAX {
            return Err(HostNameError::TooLong);
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(HostNameError::BadCharacter);
        }
        let encoded = label.get(..4).filter(|start| start.eq_ignore_ascii_case("xn--")).and(label.get(4..));
        if encoded.is_some_and(|encoded| !is_international(encoded)) {
            return Err(HostNameError::FakeInternational);
        }
    }
    Ok(())
}

/// True where the last label is a number in any base that `inet_aton` reads: then only four plain
/// decimal numbers have one reading (WHATWG URL, section 3.5, "ends in a number").
fn looks_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|b| b.is_ascii_digit()) || hex.is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A host in a rule: exact, or `*.` before a name for one or more labels in front of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This host only.
    Exact(HostName),
    /// Every host below this name, not the name itself.
    Below(HostName),
}

impl HostPattern {
    /// Reads `name` or `*.name`.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        match text.strip_prefix("*.") {
            Some(rest) => match HostName::parse(rest)? {
                address if address.is_address() => Err(HostNameError::BelowAddress),
                name => Ok(Self::Below(name)),
            },
            None => HostName::parse(text).map(Self::Exact),
        }
    }

    /// True if the host matches.
    pub fn matches(&self, host: &HostName) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(name) => host
                .as_str()
                .strip_suffix(name.as_str())
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<String, HostNameError> {
        HostName::parse(text).map(|host| host.to_string())
    }

    #[test]
    fn case_and_one_trailing_dot_make_no_difference() {
        assert_eq!(parsed("Secret.COM.").as_deref(), Ok("secret.com"));
        assert_eq!(parsed("secret.com.."), Err(HostNameError::EmptyLabel));
        assert_eq!(parsed("."), Err(HostNameError::Empty));
    }

    #[test]
    fn an_address_has_one_spelling() {
        for text in ["::FFFF:10.0.0.5", "[::ffff:a00:5]", "10.0.0.5", "10.0.0.5."] {
            assert_eq!(parsed(text).as_deref(), Ok("10.0.0.5"), "{text}");
        }
        assert_eq!(parsed("[FD00:0::1]").as_deref(), Ok("fd00::1"));
        for text in ["127.1", "0x7f.1", "010.0.0.1", "2130706433", "1.2.3.4.5", "a.0x", "256.0.0.1"] {
            assert_eq!(parsed(text), Err(HostNameError::AmbiguousAddress), "{text}");
        }
    }

    #[test]
    fn bad_brackets_zones_and_escapes_are_refused() {
        let bad = [
            "[evil.com]",
            "[::1]x",
            "[[::1]]",
            "[fe80::1%25.example.com]",
            "fe80::1%eth0",
            "a%2eb",
            "a@b",
            "a b",
            "é",
        ];
        for text in bad {
            assert_eq!(parsed(text), Err(HostNameError::BadCharacter), "{text}");
        }
    }

    #[test]
    fn an_international_label_that_encodes_plain_ascii_is_refused() {
        for text in ["xn--example-.org", "XN--.org", "a.xn--a-"] {
            assert_eq!(parsed(text), Err(HostNameError::FakeInternational), "{text}");
        }
        assert!(parsed("xn--bcher-kva.example").is_ok());
    }

    #[test]
    fn limits_are_those_of_the_name_system() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        assert_eq!(parsed(&longest).as_deref(), Ok(longest.as_str()));
        assert_eq!(parsed(&format!("{longest}c")), Err(HostNameError::TooLong));
        assert_eq!(parsed(&"a".repeat(64)), Err(HostNameError::TooLong));
    }

    #[test]
    fn an_authority_splits_off_its_port() {
        let read = |text| HostName::parse_authority(text).map(|(host, port)| (host.to_string(), port));
        assert_eq!(read("Httpbin.foo:8000"), Ok(("httpbin.foo".into(), Some(8000))));
        assert_eq!(read("[::1]:80"), Ok(("::1".into(), Some(80))));
        assert_eq!(read("[::1]"), Ok(("::1".into(), None)));
        for bad in ["a:", "a:0", "a:65536", "a:+1", "a:80:80", "::1", "user@a", ":80", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_matches_below_its_name_and_not_the_name_itself() {
        let below = HostPattern::parse("*.Example.com.").unwrap();
        let matches = |host: &str| below.matches(&HostName::parse(host).unwrap());
        assert!(matches("a.example.com") && matches("b.a.EXAMPLE.com"));
        assert!(!matches("example.com") && !matches("badexample.com") && !matches("example.com.evil.test"));
        assert_eq!(HostPattern::parse("*.10.0.0.1"), Err(HostNameError::BelowAddress));
        assert!(HostPattern::parse("*").is_err() && HostPattern::parse("a.*.b").is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_reads_itself(text in "[ -~]{0,80}|[a-zA-Z0-9.:-]{0,80}") {
            if let Ok(host) = HostName::parse(&text) {
                let again = HostName::parse(host.as_str());
                prop_assert_eq!(again.as_ref(), Ok(&host));
                prop_assert!(!host.as_str().is_empty() && !host.as_str().bytes().any(|b| b.is_ascii_uppercase()));
            }
        }
    }
}

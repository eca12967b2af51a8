//! Host names and patterns of them, in one canonical form.

use crate::limits::{HOST_BYTES_MAX, HOST_LABEL_BYTES_MAX};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A host name or address literal: lower case, no port, no trailing dot.
///
/// Non-ASCII names are refused (write the `xn--` form); so are zone identifiers and address forms that
/// only some parsers read (`0x7f.1`, `127.1`, `010.0.0.1`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Box<str>);

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
        if looks_numeric(name) && name.parse::<std::net::Ipv4Addr>().is_err() {
            return Err(HostNameError::AmbiguousAddress);
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }

    /// Reads `host` or `host:port` as in a `Host` field or `:authority` (RFC 9110 section 7.2).
    pub fn parse_authority(text: &str) -> Result<(Self, Option<u16>), HostNameError> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            Some(_) => return Err(HostNameError::BadCharacter),
            None => (text, None),
        };
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
        &self.0
    }

    fn from_v6(address: Ipv6Addr) -> Self {
        Self(IpAddr::V6(address).to_canonical().to_string().into())
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
            Some(rest) => HostName::parse(rest).map(Self::Below),
            None => HostName::parse(text).map(Self::Exact),
        }
    }

    /// True if the host matches.
    pub fn matches(&self, host: &HostName) -> bool {
        match self {
            Self::Exact(name) => name == host,
            Self::Below(name) => {
                host.0.strip_suffix(name.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
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

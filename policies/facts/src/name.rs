//! Patterns of names as the name system has them: in `dns` and `tls` sections, and of peers by name.
//!
//! `*.` stands for exactly one label, as in a certificate (RFC 9525 section 6.3), and `**.` for one or more. Hosts of HTTP
//! requests have [`crate::HostPattern`], where `*.` is any depth.

use crate::{HostName, HostNameError};
use std::fmt;

/// A name, or the names below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamePattern {
    /// This name only.
    Exact(HostName),
    /// `*.`: the names with one label more.
    OneBelow(HostName),
    /// `**.`: the names with one or more labels more.
    Below(HostName),
}

impl NamePattern {
    /// Reads `NAME`, `*.NAME` or `**.NAME`; addresses are no names.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        let (rest, wrap): (_, fn(HostName) -> Self) =
            match (text.strip_prefix("**."), text.strip_prefix("*.")) {
                (Some(rest), _) => (rest, Self::Below),
                (None, Some(rest)) => (rest, Self::OneBelow),
                (None, None) => (text, Self::Exact),
            };
        match HostName::parse(rest)? {
            name if name.is_address() => Err(HostNameError::BelowAddress),
            name => Ok(wrap(name)),
        }
    }

    /// True if the name is meant.
    pub fn matches(&self, name: &HostName) -> bool {
        let labels_before = |base: &HostName| name.as_str().strip_suffix(base.as_str())?.strip_suffix('.');
        match self {
            Self::Exact(own) => own == name,
            Self::OneBelow(base) => labels_before(base).is_some_and(|front| !front.contains('.')),
            Self::Below(base) => labels_before(base).is_some(),
        }
    }

    /// True if it means every name that the other one means.
    pub fn includes(&self, other: &Self) -> bool {
        let below =
            |base: &HostName, name: &HostName| base == name || Self::Below(base.clone()).matches(name);
        match (self, other) {
            (own, Self::Exact(name)) => own.matches(name),
            (Self::Exact(_), Self::OneBelow(_) | Self::Below(_)) => false,
            (Self::OneBelow(own), Self::OneBelow(name)) => own == name,
            (Self::OneBelow(_), Self::Below(_)) => false,
            (Self::Below(own), Self::OneBelow(name) | Self::Below(name)) => below(own, name),
        }
    }

    /// Bytes of its text.
    pub fn text_bytes(&self) -> usize {
        let (Self::Exact(name) | Self::OneBelow(name) | Self::Below(name)) = self;
        name.as_str().len()
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::OneBelow(name) => write!(f, "*.{name}"),
            Self::Below(name) => write!(f, "**.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_is_one_label_and_two_are_any_number() {
        let check = |pattern: &str, name: &str| {
            NamePattern::parse(pattern).unwrap().matches(&HostName::parse(name).unwrap())
        };
        assert!(check("*.a.test", "x.a.test") && !check("*.a.test", "y.x.a.test"));
        assert!(check("**.a.test", "x.a.test") && check("**.a.test", "y.x.A.test."));
        for pattern in ["*.a.test", "**.a.test"] {
            assert!(!check(pattern, "a.test") && !check(pattern, "xa.test") && !check(pattern, "a.test.b"));
        }
        assert!(check("A.test.", "a.test") && !check("a.test", "b.a.test"));
    }

    #[test]
    fn what_is_no_name_is_refused_and_what_is_read_reads_itself() {
        for text in
            ["", "*", "**", "*.", "**.", "a.*.b", "***.a", "*.*.a", "10.0.0.1", "*.10.0.0.1", "::1", "é"]
        {
            assert!(NamePattern::parse(text).is_err(), "{text}");
        }
        for text in ["a.test", "*.a.test", "**.a.test", "_grpc._tcp.a.test"] {
            assert_eq!(NamePattern::parse(text).unwrap().to_string(), text);
        }
    }
}

//! The token that an attack carries and the source ports that are its own.
//!
//! A token is `bh-` and sixteen hexadecimal digits: short enough for a DNS label, a server name or a ping, and
//! found in any bytes without knowing which tokens there are. Attacks that send no bytes of their own choice (a
//! SYN, a scan) are known by their source port: [`ATTACK_PORTS`] lies above the range that the kernel chooses from,
//! so no other program of a lab uses it.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Source ports of attacks. The kernel's own choice ends at 60999.
pub const ATTACK_PORTS: RangeInclusive<u16> = 61_000..=65_399;

/// Source ports that some attacks take because a careless firewall trusts them.
pub const TRUSTED_PORTS: [u16; 4] = [53, 15_001, 15_006, 15_008];

/// Source ports of one attack.
pub const PORTS_PER_ATTACK: u16 = 16;

const PREFIX: &[u8] = b"bh-";
const DIGITS: usize = 16;

/// The mark of one attack in one run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Token(u64);

/// The text is not `bh-` with sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAToken;

impl Token {
    /// The token of attack `index` of run `run`. Attacks whose indexes differ by less than 275 share no port.
    pub fn new(run: u32, index: u32) -> Self {
        Self(u64::from(run) << 32 | u64::from(index))
    }

    /// The `number`th source port of this attack; `number` is taken modulo [`PORTS_PER_ATTACK`].
    pub fn source_port(self, number: u16) -> u16 {
        let slots = u64::from((ATTACK_PORTS.end() - ATTACK_PORTS.start() + 1) / PORTS_PER_ATTACK);
        let slot = u16::try_from((self.0 & 0xffff_ffff) % slots).unwrap_or(0);
        ATTACK_PORTS.start() + slot * PORTS_PER_ATTACK + number % PORTS_PER_ATTACK
    }

    /// Eight bytes that are this attack's, for fields that want a number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Every distinct token in `bytes`, in order of appearance, at most `most`.
    pub fn find(bytes: &[u8], most: usize) -> Vec<Self> {
        let mut found = Vec::new();
        for window in bytes.windows(PREFIX.len() + DIGITS).filter(|window| window.starts_with(PREFIX)) {
            if let Some(token) = std::str::from_utf8(window).ok().and_then(|text| text.parse().ok())
                && !found.contains(&token)
            {
                found.push(token);
            }
            if found.len() >= most {
                break;
            }
        }
        found
    }
}

impl fmt::Display for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "bh-{:016x}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let digits = text.strip_prefix("bh-").ok_or(NotAToken)?;
        let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() != DIGITS || !lower {
            return Err(NotAToken);
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| NotAToken)
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.to_string()
    }
}

impl TryFrom<String> for Token {
    type Error = NotAToken;

    fn try_from(text: String) -> Result<Self, NotAToken> {
        text.parse()
    }
}

impl fmt::Display for NotAToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("not a token: write `bh-` and sixteen hexadecimal digits in lower case")
    }
}

impl std::error::Error for NotAToken {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_as_it_was_written() {
        let token = Token::new(7, 3);
        assert_eq!(token.to_string(), "bh-0000000700000003");
        assert_eq!(token.to_string().parse(), Ok(token));
        for text in
            ["bh-", "bh-000000070000000", "bh-000000070000000G", "bh-000000070000000A", "xx-0000000700000003"]
        {
            assert_eq!(text.parse::<Token>(), Err(NotAToken), "{text}");
        }
    }

    #[test]
    fn tokens_are_found_in_any_bytes_once_each_and_not_beyond_the_limit() {
        let (one, two) = (Token::new(1, 1), Token::new(1, 2));
        let bytes = format!("\u{0}bh-bh-{one} {two}{one}").into_bytes();
        assert_eq!(Token::find(&bytes, 8), [one, two]);
        assert_eq!(Token::find(&bytes, 1), [one]);
        assert_eq!(Token::find(&bytes[..20], 8), []);
    }

    #[test]
    fn attacks_of_one_run_share_no_source_port_and_none_the_kernel_would_choose() {
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..275 {
            for number in 0..PORTS_PER_ATTACK {
                let port = Token::new(9, index).source_port(number);
                assert!(ATTACK_PORTS.contains(&port) && seen.insert(port), "{port}");
            }
        }
    }
}

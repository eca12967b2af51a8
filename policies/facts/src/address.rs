//! Address blocks in one canonical form.

use ipnetwork::IpNetwork;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address block with its host bits cleared; IPv4-mapped IPv6 blocks are folded to IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr(IpNetwork);

/// Why a text is no address block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CidrError {
    /// Not `address/length` or an address.
    Unreadable,
    /// The prefix is longer than the family's addresses.
    PrefixTooLong,
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "not an address block: write for example `10.0.0.0/8` or `fd00::/64`",
            Self::PrefixTooLong => "prefix longer than the address: at most 32 for IPv4, 128 for IPv6",
        })
    }
}

impl std::error::Error for CidrError {}

impl Cidr {
    /// The block of one address.
    pub fn host(address: IpAddr) -> Self {
        Self(IpNetwork::from(address.to_canonical()))
    }

    /// Lowest address of the block.
    pub fn first(self) -> IpAddr {
        self.0.network()
    }

    /// Highest address of the block.
    pub fn last(self) -> IpAddr {
        match self.0 {
            IpNetwork::V4(net) => IpAddr::V4(net.broadcast()),
            IpNetwork::V6(net) => IpAddr::V6(net.broadcast()),
        }
    }

    /// Bits of the prefix.
    pub fn prefix(self) -> u8 {
        self.0.prefix()
    }

    /// True if the block holds the address; an IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(address.to_canonical())
    }

    /// True if the whole of `other` lies in this block. Blocks are compared as they are written: an IPv6 block that holds
    /// IPv4-mapped addresses among others (`::/80`) is not folded.
    pub fn covers(self, other: Self) -> bool {
        self.0.contains(other.first()) && self.0.contains(other.last())
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Unreadable)?;
        let bits = if address.is_ipv4() { 32u8 } else { 128 };
        let prefix = match prefix {
            None => bits,
            // A leading zero is octal to some.
            Some(p) if p.len() > 1 && p.starts_with('0') => return Err(CidrError::Unreadable),
            Some(p) if p.is_empty() || p.len() > 3 || !p.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(CidrError::Unreadable);
            }
            Some(p) => p.parse().map_err(|_| CidrError::PrefixTooLong)?,
        };
        if prefix > bits {
            return Err(CidrError::PrefixTooLong);
        }
        let (address, prefix) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(folded)) if prefix >= 96 => (IpAddr::V4(folded), prefix - 96),
            (address, _) => (address, prefix),
        };
        let network = IpNetwork::new(address, prefix).map_err(|_| CidrError::PrefixTooLong)?;
        IpNetwork::new(network.network(), prefix).map(Self).map_err(|_| CidrError::PrefixTooLong)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_covers_itself_though_it_ends_in_mapped_addresses() {
        let block = |text: &str| text.parse::<Cidr>().expect("a block");
        assert!(block("::/80").covers(block("::/80")));
        assert!(block("::/0").covers(block("::/80")));
        assert!(!block("::/80").covers(block("::/79")));
        assert!(!block("0.0.0.0/0").covers(block("::/80")));
    }

    fn shown(text: &str) -> Result<String, CidrError> {
        text.parse::<Cidr>().map(|cidr| cidr.to_string())
    }

    #[test]
    fn host_bits_are_cleared_and_mapped_addresses_folded() {
        assert_eq!(shown("10.1.2.3/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(shown("::ffff:10.1.2.3/104").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(shown("::ffff:10.1.2.3").as_deref(), Ok("10.1.2.3/32"));
        assert_eq!(shown("fd00::1/64").as_deref(), Ok("fd00::/64"));
    }

    #[test]
    fn a_mapped_address_is_in_the_ipv4_block() {
        let block: Cidr = "10.0.0.0/8".parse().unwrap();
        assert!(block.contains("::ffff:10.0.0.5".parse().unwrap()));
        assert!(!"::/0".parse::<Cidr>().unwrap().contains("::ffff:10.0.0.5".parse().unwrap()));
    }

    #[test]
    fn ambiguous_and_impossible_texts_are_refused() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/8/8",
            "fe80::1%1/64",
            "a/8",
        ] {
            assert_eq!(shown(text), Err(CidrError::Unreadable), "{text}");
        }
        for text in ["10.0.0.0/33", "::/129", "::/999"] {
            assert_eq!(shown(text), Err(CidrError::PrefixTooLong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn first_and_last_are_inside_and_their_neighbours_are_not(address: u32, prefix in 0u8..=32) {
            let cidr: Cidr = format!("{}/{prefix}", std::net::Ipv4Addr::from(address)).parse().unwrap();
            prop_assert!(cidr.contains(cidr.first()) && cidr.contains(cidr.last()) && cidr.covers(cidr));
            let (IpAddr::V4(first), IpAddr::V4(last)) = (cidr.first(), cidr.last()) else { unreachable!() };
            if let Some(before) = u32::from(first).checked_sub(1) {
                prop_assert!(!cidr.contains(IpAddr::V4(before.into())));
            }
            if let Some(after) = u32::from(last).checked_add(1) {
                prop_assert!(!cidr.contains(IpAddr::V4(after.into())));
            }
            prop_assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
        }
    }
}

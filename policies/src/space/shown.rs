//! Blocks of addresses as people write them.

use super::Block;
use std::net::IpAddr;

/// `10.0.0.7`, `10.0.0.0/24` or `10.0.0.1-10.0.0.9`.
pub fn shown_block((first, last): Block) -> String {
    let (low, high, bits) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (u128::from(u32::from(first)), u128::from(u32::from(last)), 32)
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => (u128::from(first), u128::from(last), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return format!("{first}-{last}"),
    };
    if low == high {
        return first.to_string();
    }
    let differing = low ^ high;
    let host_bits = u128::BITS - differing.leading_zeros();
    let is_block = (differing & (differing.wrapping_add(1))) == 0 && low & differing == 0;
    if is_block { format!("{first}/{}", bits - host_bits) } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_written_short() {
        let shown = |first: &str, last: &str| shown_block((first.parse().unwrap(), last.parse().unwrap()));
        assert_eq!(shown("10.0.0.7", "10.0.0.7"), "10.0.0.7");
        assert_eq!(shown("10.0.0.0", "10.0.0.255"), "10.0.0.0/24");
        assert_eq!(shown("10.0.0.1", "10.0.0.2"), "10.0.0.1-10.0.0.2");
        assert_eq!(shown("0.0.0.0", "255.255.255.255"), "0.0.0.0/0");
        assert_eq!(shown("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "::/0");
    }
}

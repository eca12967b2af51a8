//! Sets and maps: their shape, their keys, their elements.
//!
//! A key is one field or a concatenation. Interval sets of one field are kept by the kernel as a tree of
//! half-open intervals, those of a concatenation by ranges per field; [`Element::range`] hides the
//! difference. Intervals must be disjoint: the kernel refuses what overlaps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What one field of a key (or the data of a map) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Transport protocol number.
    Protocol,
    /// Port of TCP, UDP or SCTP.
    Port,
    /// Type of an ICMPv6 message.
    Icmpv6Type,
    /// A packet or connection mark, or any other number of 4 bytes in host order.
    Mark,
}

impl FieldKind {
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Mark => 4,
            Self::Ipv6 => 16,
            Self::Protocol | Self::Icmpv6Type => 1,
            Self::Port => 2,
        }
    }

    /// The number by which `nft list` knows how to print it.
    pub(crate) fn printed_as(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
            Self::Icmpv6Type => 29,
        }
    }
}

/// The shape of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub(crate) name: String,
    pub(crate) key: Vec<FieldKind>,
    pub(crate) data: Option<FieldKind>,
    pub(crate) intervals: bool,
    pub(crate) dynamic: bool,
    pub(crate) timeouts: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) elements_max: Option<u32>,
}

impl Set {
    /// A set of single values of that key.
    pub fn new(name: &str, key: &[FieldKind]) -> Self {
        Self {
            name: name.to_owned(),
            key: key.to_vec(),
            data: None,
            intervals: false,
            dynamic: false,
            timeouts: false,
            timeout: None,
            elements_max: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes it a map to such data.
    pub fn map_to(mut self, data: FieldKind) -> Self {
        self.data = Some(data);
        self
    }

    /// Its elements are ranges.
    pub fn intervals(mut self) -> Self {
        self.intervals = true;
        self
    }

    /// Elements may have a timeout of their own.
    pub fn timeouts(mut self) -> Self {
        self.timeouts = true;
        self
    }

    /// Packets add elements ([`crate::Rule::count_in`]); at `elements_max` no more are added.
    pub fn dynamic(mut self, elements_max: u32, timeout: Duration) -> Self {
        self.dynamic = true;
        self.timeouts = true;
        self.timeout = Some(timeout);
        self.elements_max = Some(elements_max);
        self
    }

    /// A limit to its elements.
    pub fn elements_max(mut self, elements_max: u32) -> Self {
        self.elements_max = Some(elements_max);
        self
    }

    pub(crate) fn is_concatenation(&self) -> bool {
        self.key.len() > 1
    }

    pub(crate) fn key_bytes(&self) -> u32 {
        self.key
            .iter()
            .map(|field| field.bytes().next_multiple_of(if self.is_concatenation() { 4 } else { 1 }))
            .sum()
    }

    pub(crate) fn key_printed_as(&self) -> u32 {
        self.key.iter().fold(0, |printed, field| printed << 6 | field.printed_as())
    }

    pub(crate) fn flags(&self) -> u32 {
        const INTERVAL: u32 = 0x4;
        const MAP: u32 = 0x8;
        const TIMEOUT: u32 = 0x10;
        const EVAL: u32 = 0x20;
        const CONCAT: u32 = 0x80;
        let flag = |set: bool, value: u32| if set { value } else { 0 };
        flag(self.intervals, INTERVAL)
            | flag(self.data.is_some(), MAP)
            | flag(self.timeouts, TIMEOUT)
            | flag(self.dynamic, EVAL)
            | flag(self.is_concatenation() && self.intervals, CONCAT)
    }
}

/// The bytes of one key (each field padded to 4 bytes) or of one piece of data.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub(crate) Vec<u8>);

impl Key {
    /// An empty key; append fields in the order of the set.
    pub fn new() -> Self {
        Self::default()
    }

    /// An address of either family.
    pub fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.v4(address),
            IpAddr::V6(address) => self.v6(address),
        }
    }

    /// An IPv4 address.
    pub fn v4(self, address: Ipv4Addr) -> Self {
        self.field(&address.octets())
    }

    /// An IPv6 address.
    pub fn v6(self, address: Ipv6Addr) -> Self {
        self.field(&address.octets())
    }

    /// A transport protocol.
    pub fn protocol(self, protocol: u8) -> Self {
        self.field(&[protocol])
    }

    /// A type of ICMPv6 message.
    pub fn icmpv6_type(self, icmpv6_type: u8) -> Self {
        self.field(&[icmpv6_type])
    }

    /// A port.
    pub fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// A mark.
    pub fn mark(self, mark: u32) -> Self {
        self.field(&mark.to_ne_bytes())
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// The bytes, fields padded to 4.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key that follows, as a big-endian number; `None` after the last.
    pub(crate) fn successor(&self) -> Option<Self> {
        let mut bytes = self.0.clone();
        for byte in bytes.iter_mut().rev() {
            let (next, overflowed) = byte.overflowing_add(1);
            *byte = next;
            if !overflowed {
                return Some(Self(bytes));
            }
        }
        None
    }
}

/// One element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub(crate) first: Key,
    pub(crate) last: Option<Key>,
    pub(crate) data: Option<Key>,
    pub(crate) timeout: Option<Duration>,
}

impl Element {
    /// A single value.
    pub fn single(key: Key) -> Self {
        Self { first: key, last: None, data: None, timeout: None }
    }

    /// Everything from `first` to `last`, both included; in a concatenation, per field.
    pub fn range(first: Key, last: Key) -> Self {
        Self { first, last: Some(last), data: None, timeout: None }
    }

    /// What a map holds for it.
    pub fn data(mut self, data: Key) -> Self {
        self.data = Some(data);
        self
    }

    /// What names it: for deletions.
    pub fn without_data(&self) -> Self {
        Self { data: None, timeout: None, ..self.clone() }
    }

    /// It vanishes after this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_concatenation_are_padded_per_field() {
        let key = Key::new().v4(Ipv4Addr::new(10, 0, 0, 1)).protocol(6).port(443);
        assert_eq!(key.as_bytes(), [10, 0, 0, 1, 6, 0, 0, 0, 1, 0xbb, 0, 0]);
        let set = Set::new("s", &[FieldKind::Ipv4, FieldKind::Protocol, FieldKind::Port]);
        assert_eq!(set.key_bytes(), 12);
    }

    #[test]
    fn the_last_address_has_no_successor() {
        assert_eq!(
            Key::new().v4(Ipv4Addr::new(10, 0, 0, 255)).successor(),
            Some(Key::new().v4(Ipv4Addr::new(10, 0, 1, 0)))
        );
        assert_eq!(Key::new().v4(Ipv4Addr::BROADCAST).successor(), None);
    }
}

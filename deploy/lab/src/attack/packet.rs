//! Packets built by hand: headers of IPv4, IPv6, TCP, UDP, ICMP and SCTP, with their checksums. Pure.

use std::net::IpAddr;

/// Protocol numbers on the wire.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// Fragment header of IPv6.
    pub const FRAGMENT: u8 = 44;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
    /// Encrypted payload of IPsec.
    pub const ESP: u8 = 50;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// Destination options of IPv6.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;
    /// For experiments (RFC 3692).
    pub const EXPERIMENT: u8 = 253;
}

/// SYN.
pub(super) const SYN: u8 = 0x02;
/// ACK with PSH.
pub(super) const ACK_PUSH: u8 = 0x18;

/// Type of records of names: an address.
pub(crate) const A: u16 = 1;
/// Type of records of names: text.
pub(crate) const TXT: u16 = 16;

/// Both ends of a packet, of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) source: IpAddr,
    pub(super) source_port: u16,
    pub(super) destination: IpAddr,
    pub(super) destination_port: u16,
}

/// A question to a name server (RFC 1035 section 4.1), of records of this type.
pub(crate) fn question(labels: &[&str], record: u16) -> Vec<u8> {
    let mut message = vec![0x62, 0x68, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(record.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// A TCP segment with its checksum.
pub(super) fn tcp(ends: Ends, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20 + payload.len());
    segment.extend(ends.source_port.to_be_bytes());
    segment.extend(ends.destination_port.to_be_bytes());
    segment.extend(0x0102_0304u32.to_be_bytes());
    segment.extend(0u32.to_be_bytes());
    segment.extend([0x50, flags]);
    segment.extend(64_000u16.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend(payload);
    let sum = transport_checksum(ends, protocol::TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// A UDP datagram with its checksum.
pub(super) fn udp(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + payload.len());
    datagram.extend(ends.source_port.to_be_bytes());
    datagram.extend(ends.destination_port.to_be_bytes());
    datagram.extend(length(8 + payload.len()).to_be_bytes());
    datagram.extend([0; 2]);
    datagram.extend(payload);
    let sum = match transport_checksum(ends, protocol::UDP, &datagram) {
        0 => 0xffff,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// An echo request of the family's ICMP.
pub(super) fn echo_request(source: IpAddr, destination: IpAddr, identifier: u16, payload: &[u8]) -> Vec<u8> {
    let v6 = destination.is_ipv6();
    let mut message = vec![if v6 { 128 } else { 8 }, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    message.extend(payload);
    let sum = if v6 {
        let ends = Ends { source, source_port: 0, destination, destination_port: 0 };
        transport_checksum(ends, protocol::ICMPV6, &message)
    } else {
        fold(sum(0, &message))
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// An SCTP INIT whose last parameter, of a type that receivers report and skip, holds `payload`.
pub(super) fn sctp_init(source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
    let padded = payload.len().next_multiple_of(4);
    let mut packet = Vec::with_capacity(36 + padded);
    packet.extend(source_port.to_be_bytes());
    packet.extend(destination_port.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0]);
    packet.extend(length(20 + 4 + payload.len()).to_be_bytes());
    packet.extend(0x0102_0304u32.to_be_bytes());
    packet.extend(65_536u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1u32.to_be_bytes());
    packet.extend(0xc0fe_u16.to_be_bytes());
    packet.extend(length(4 + payload.len()).to_be_bytes());
    packet.extend(payload);
    packet.resize(36 + padded, 0);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// A whole IP packet around `payload`. For IPv4 `options` are header options; IPv6 takes extension headers as part
/// of `payload` and ignores `options`.
pub(super) fn ip(ends: Ends, next: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let fragment = Fragment { identifier: 0, offset: 0, more: false };
            ip4(source.octets(), destination.octets(), next, options, fragment, payload)
        }
        (source, destination) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend(length(payload.len()).to_be_bytes());
            packet.extend([next, 64]);
            packet.extend(octets6(source));
            packet.extend(octets6(destination));
            packet.extend(payload);
            packet
        }
    }
}

/// The packets of `payload` cut in two after `first` bytes (a multiple of eight), with fragment headers.
pub(super) fn fragments(ends: Ends, next: u8, payload: &[u8], first: usize, identifier: u16) -> [Vec<u8>; 2] {
    let (head, tail) = payload.split_at(first.min(payload.len()));
    let offset = length(first / 8);
    [(head, 0, true), (tail, offset, false)].map(|(part, offset, more)| {
        let fragment = Fragment { identifier, offset, more };
        match (ends.source, ends.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ip4(source.octets(), destination.octets(), next, &[], fragment, part)
            }
            _ => ip(ends, protocol::FRAGMENT, &[], &with_fragment_header(next, fragment, part)),
        }
    })
}

/// A fragment header of IPv6 for a packet that is whole (an atomic fragment), before `payload`.
pub(super) fn atomic_fragment(next: u8, identifier: u16, payload: &[u8]) -> Vec<u8> {
    with_fragment_header(next, Fragment { identifier, offset: 0, more: false }, payload)
}

/// A header of options of IPv6 (hop by hop, destination) that holds padding only, before `payload`.
pub(super) fn options_header(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0, 1, 4, 0, 0, 0, 0];
    bytes.extend(payload);
    bytes
}

#[derive(Clone, Copy)]
struct Fragment {
    identifier: u16,
    /// In units of eight bytes.
    offset: u16,
    more: bool,
}

fn with_fragment_header(next: u8, fragment: Fragment, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend((fragment.offset << 3 | u16::from(fragment.more)).to_be_bytes());
    bytes.extend(u32::from(fragment.identifier).to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn ip4(
    source: [u8; 4],
    destination: [u8; 4],
    next: u8,
    options: &[u8],
    fragment: Fragment,
    payload: &[u8],
) -> Vec<u8> {
    let words = 5 + options.len().div_ceil(4);
    let mut packet = vec![0x40 | u8::try_from(words).unwrap_or(5), 0];
    packet.extend(length(words * 4 + payload.len()).to_be_bytes());
    packet.extend(fragment.identifier.to_be_bytes());
    packet.extend((u16::from(fragment.more) << 13 | fragment.offset).to_be_bytes());
    packet.extend([64, next, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(options);
    packet.resize(words * 4, 0);
    let sum = fold(sum(0, &packet));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn transport_checksum(ends: Ends, next: u8, bytes: &[u8]) -> u16 {
    let addresses = match (ends.source, ends.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => sum(sum(0, &source.octets()), &destination.octets()),
        (source, destination) => sum(sum(0, &octets6(source)), &octets6(destination)),
    };
    let rest = u32::from(next) + u32::from(length(bytes.len()));
    fold(sum(addresses + rest, bytes))
}

fn octets6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

fn sum(start: u32, bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .fold(start, |sum, pair| sum + u32::from(pair[0]) * 256 + pair.get(1).copied().map_or(0, u32::from))
}

fn fold(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xffff);
    let twice = (once >> 16) + (once & 0xffff);
    !u16::try_from(twice & 0xffff).unwrap_or(0)
}

/// CRC32c as SCTP uses it (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |state, byte| {
        (0..8).fold(state ^ u32::from(*byte), |state, _| {
            if state & 1 == 1 { state >> 1 ^ 0x82f6_3b78 } else { state >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(v6: bool) -> Ends {
        let [source, destination] = if v6 { ["fd00::1", "fd00::2"] } else { ["10.0.0.1", "10.0.0.2"] }
            .map(|text| text.parse().expect("an address"));
        Ends { source, source_port: 61_000, destination, destination_port: 80 }
    }

    #[test]
    fn checksums_add_up_to_all_ones() {
        for v6 in [false, true] {
            let ends = ends(v6);
            for (next, bytes) in [(protocol::TCP, tcp(ends, SYN, b"abc")), (protocol::UDP, udp(ends, b"abc"))]
            {
                assert_eq!(transport_checksum(ends, next, &bytes), 0, "{next} {v6}");
            }
        }
        let packet = ip(ends(false), protocol::UDP, &[1, 1, 1, 0], b"payload");
        assert_eq!(fold(sum(0, &packet[..24])), 0);
        let echo = echo_request(ends(false).source, ends(false).destination, 7, b"abcd");
        assert_eq!(fold(sum(0, &echo)), 0);
    }

    #[test]
    fn two_fragments_hold_the_whole_payload() {
        for v6 in [false, true] {
            let header = if v6 { 48 } else { 20 };
            let payload: Vec<u8> = (0..40).collect();
            let [first, second] = fragments(ends(v6), protocol::UDP, &payload, 16, 9);
            assert_eq!([&first[header..], &second[header..]].concat(), payload);
        }
    }

    #[test]
    fn crc32c_agrees_with_the_published_vector() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}

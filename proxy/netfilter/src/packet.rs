//! Who speaks to whom in a logged packet, read from its first bytes.
//!
//! The bytes come from a peer. Nothing is assumed of them: what is cut short or malformed yields less, never
//! a panic. IPv6 extension headers are followed up to a limit.

use crate::limits;
use pnet_packet::Packet;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::icmp::IcmpPacket;
use pnet_packet::icmpv6::Icmpv6Packet;
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::{ExtensionPacket, FragmentPacket, Ipv6Packet};
use pnet_packet::tcp::TcpPacket;
use std::net::IpAddr;

/// Addresses, protocol and ports of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketSummary {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Transport protocol; for IPv6 the one after the extension headers.
    pub protocol: u8,
    /// Source port of TCP, UDP and SCTP, if it was among the bytes.
    pub source_port: Option<u16>,
    /// Destination port of TCP, UDP and SCTP; `type << 8 | code` of ICMP.
    pub destination_port: Option<u16>,
    /// TCP flags.
    pub tcp_flags: Option<u8>,
}

impl PacketSummary {
    /// Reads a packet from its IP header on.
    pub fn of_ip(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => of_ipv4(bytes),
            6 => of_ipv6(bytes),
            _ => None,
        }
    }

    /// Reads an Ethernet frame.
    pub fn of_frame(bytes: &[u8]) -> Option<Self> {
        let frame = EthernetPacket::new(bytes)?;
        match frame.get_ethertype() {
            EtherTypes::Ipv4 | EtherTypes::Ipv6 => Self::of_ip(frame.payload()),
            _ => None,
        }
    }
}

fn of_ipv4(bytes: &[u8]) -> Option<PacketSummary> {
    let packet = Ipv4Packet::new(bytes)?;
    let transport = bytes.get(usize::from(packet.get_header_length()) * 4..).unwrap_or_default();
    let first_fragment = packet.get_fragment_offset() == 0;
    let summary = PacketSummary {
        source: packet.get_source().into(),
        destination: packet.get_destination().into(),
        protocol: packet.get_next_level_protocol().0,
        source_port: None,
        destination_port: None,
        tcp_flags: None,
    };
    Some(if first_fragment { with_ports(summary, transport) } else { summary })
}

fn of_ipv6(bytes: &[u8]) -> Option<PacketSummary> {
    let packet = Ipv6Packet::new(bytes)?;
    let (protocol, transport) =
        after_extensions(packet.get_next_header(), bytes.get(Ipv6Packet::minimum_packet_size()..)?);
    let summary = PacketSummary {
        source: packet.get_source().into(),
        destination: packet.get_destination().into(),
        protocol: protocol.0,
        source_port: None,
        destination_port: None,
        tcp_flags: None,
    };
    Some(transport.map_or(summary.clone(), |transport| with_ports(summary, transport)))
}

/// The transport protocol and its header; no header where it is not in this fragment or out of reach.
fn after_extensions(
    mut protocol: IpNextHeaderProtocol,
    mut rest: &[u8],
) -> (IpNextHeaderProtocol, Option<&[u8]>) {
    const AUTHENTICATION: IpNextHeaderProtocol = IpNextHeaderProtocols::Ah;
    for _ in 0..limits::EXTENSION_HEADERS_MAX {
        let header_bytes = match protocol {
            IpNextHeaderProtocols::Hopopt
            | IpNextHeaderProtocols::Ipv6Route
            | IpNextHeaderProtocols::Ipv6Opts => rest.get(1).map(|units| (usize::from(*units) + 1) * 8),
            AUTHENTICATION => rest.get(1).map(|units| (usize::from(*units) + 2) * 4),
            IpNextHeaderProtocols::Ipv6Frag => match FragmentPacket::new(rest) {
                Some(fragment) if fragment.get_fragment_offset() == 0 => Some(8),
                Some(fragment) => return (fragment.get_next_header(), None),
                None => None,
            },
            _ => return (protocol, Some(rest)),
        };
        let (Some(header), Some(bytes)) = (ExtensionPacket::new(rest), header_bytes) else {
            return (protocol, None);
        };
        protocol = header.get_next_header();
        match rest.get(bytes..) {
            Some(after) => rest = after,
            None => return (protocol, None),
        }
    }
    (protocol, None)
}

fn with_ports(mut summary: PacketSummary, transport: &[u8]) -> PacketSummary {
    let port = |at: usize| Some(u16::from_be_bytes([*transport.get(at)?, *transport.get(at + 1)?]));
    match IpNextHeaderProtocol(summary.protocol) {
        IpNextHeaderProtocols::Tcp => {
            (summary.source_port, summary.destination_port) = (port(0), port(2));
            summary.tcp_flags = TcpPacket::new(transport).map(|tcp| tcp.get_flags());
        }
        // Ports sit at the same place in all of them (RFC 768, RFC 9260).
        IpNextHeaderProtocols::Udp | IpNextHeaderProtocols::Sctp => {
            (summary.source_port, summary.destination_port) = (port(0), port(2));
        }
        IpNextHeaderProtocols::Icmp => {
            summary.destination_port = IcmpPacket::new(transport)
                .map(|icmp| u16::from(icmp.get_icmp_type().0) << 8 | u16::from(icmp.get_icmp_code().0));
        }
        IpNextHeaderProtocols::Icmpv6 => {
            summary.destination_port = Icmpv6Packet::new(transport)
                .map(|icmp| u16::from(icmp.get_icmpv6_type().0) << 8 | u16::from(icmp.get_icmpv6_code().0));
        }
        _ => {}
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: [u8; 20] = [0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];

    fn ipv4(protocol: u8, fragment: u16, transport: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 0];
        bytes.extend_from_slice(&fragment.to_be_bytes());
        bytes.extend_from_slice(&[64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend_from_slice(transport);
        bytes
    }

    fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 20, next, 64];
        bytes.extend_from_slice(&std::net::Ipv6Addr::LOCALHOST.octets());
        bytes.extend_from_slice(&std::net::Ipv6Addr::UNSPECIFIED.octets());
        bytes.extend_from_slice(rest);
        bytes
    }

    fn ports(bytes: &[u8]) -> (u8, Option<u16>, Option<u16>) {
        let summary = PacketSummary::of_ip(bytes).expect("readable");
        (summary.protocol, summary.source_port, summary.destination_port)
    }

    #[test]
    fn ports_are_read_in_both_families_and_all_protocols_that_have_them() {
        assert_eq!(ports(&ipv4(6, 0, &TCP)), (6, Some(40_000), Some(443)));
        assert_eq!(ports(&ipv4(17, 0, &TCP[..8])), (17, Some(40_000), Some(443)));
        assert_eq!(ports(&ipv4(132, 0, &TCP[..12])), (132, Some(40_000), Some(443)));
        assert_eq!(ports(&ipv4(1, 0, &[8, 0, 0, 0, 0, 0, 0, 1])), (1, None, Some(0x800)));
        assert_eq!(ports(&ipv6(58, &[128, 0, 0, 0, 0, 0, 0, 1])), (58, None, Some(0x8000)));
        assert_eq!(ports(&ipv4(47, 0, &TCP)), (47, None, None));
    }

    #[test]
    fn extension_headers_are_followed_and_their_number_is_limited() {
        let hop_by_hop = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(ports(&ipv6(0, &[hop_by_hop(6), TCP.to_vec()].concat())), (6, Some(40_000), Some(443)));
        let fragment =
            |offset: u16| [vec![6, 0], (offset << 3 | 1).to_be_bytes().to_vec(), vec![0; 4]].concat();
        assert_eq!(ports(&ipv6(44, &[fragment(0), TCP.to_vec()].concat())), (6, Some(40_000), Some(443)));
        assert_eq!(ports(&ipv6(44, &[fragment(2), TCP.to_vec()].concat())), (6, None, None));
        let many = (0..20).flat_map(|_| hop_by_hop(60)).collect::<Vec<u8>>();
        assert_eq!(ports(&ipv6(60, &many)).1, None);
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        assert_eq!(ports(&ipv4(6, 5, &TCP)), (6, None, None));
    }

    #[test]
    fn every_prefix_of_a_packet_is_read_without_panic() {
        let hop_by_hop = [6, 0, 1, 4, 0, 0, 0, 0];
        for whole in [ipv4(6, 0, &TCP), ipv6(0, &[&hop_by_hop[..], &TCP].concat())] {
            for end in 0..whole.len() {
                let found = PacketSummary::of_ip(&whole[..end]);
                assert!(found.is_none_or(|s| s.tcp_flags.is_none()), "cut at {end}");
            }
        }
    }
}

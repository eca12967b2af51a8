//! From the bytes of a packet to what there is to report of it. Pure.
//!
//! A token anywhere in the bytes is reported. Without one, only what comes from an attack's source port is. Answers and
//! errors of ICMP, and answers of name servers, are left out: they quote what was sent, so they would report an attack at the
//! attacker's own place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::attack::arrival::{Arrival, Via};
use crate::attack::packet::protocol;
use crate::attack::token::{ATTACK_PORTS, TRUSTED_PORTS, Token};
use crate::limits;

/// A packet cut into what its IP header says and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) protocol: u8,
    pub(super) source: IpAddr,
    pub(super) destination: Option<IpAddr>,
    /// From the transport header on.
    pub(super) bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// An IP packet of either family, header included.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse4(bytes),
            6 => Self::parse6(bytes),
            _ => None,
        }
    }

    fn parse4(bytes: &'a [u8]) -> Option<Self> {
        let header = usize::from(bytes.first()? & 0x0f) * 4;
        let address = |at: usize| {
            let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(IpAddr::V4(Ipv4Addr::from(octets)))
        };
        let (source, destination) = (address(12)?, Some(address(16)?));
        Some(Self { protocol: *bytes.get(9)?, source, destination, bytes: bytes.get(header.max(20)..)? })
    }

    fn parse6(bytes: &'a [u8]) -> Option<Self> {
        let address = |at: usize| {
            let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        };
        let (source, destination) = (address(8)?, Some(address(24)?));
        let (protocol, bytes) = skip_extensions(*bytes.get(6)?, bytes.get(40..)?);
        Some(Self { protocol, source, destination, bytes })
    }

    /// What there is to report.
    pub(super) fn arrivals(&self, via: Via) -> Vec<Arrival> {
        if self.is_answer() {
            return Vec::new();
        }
        let tokens = Token::find(self.bytes, limits::CANARY_TOKENS_PER_PACKET);
        if !tokens.is_empty() {
            return tokens.into_iter().map(|token| self.arrival(Some(token), via)).collect();
        }
        if self.is_from_an_attack() { vec![self.arrival(None, via)] } else { Vec::new() }
    }

    fn arrival(&self, token: Option<Token>, via: Via) -> Arrival {
        Arrival {
            token,
            protocol: self.protocol,
            source: self.source.to_canonical(),
            source_port: self.port(0),
            destination: self.destination.map(|address| address.to_canonical()),
            destination_port: self.port(2),
            bytes: self.bytes.len(),
            via,
        }
    }

    /// A port of protocols that have some, else 0.
    fn port(&self, at: usize) -> u16 {
        if !matches!(self.protocol, protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP) {
            return 0;
        }
        self.bytes.get(at..at + 2).and_then(|pair| pair.try_into().ok()).map_or(0, u16::from_be_bytes)
    }

    fn is_from_an_attack(&self) -> bool {
        let port = self.port(0);
        // SYN without ACK: an answer from such a port is none of an attack's.
        let opens =
            self.protocol == protocol::TCP && self.bytes.get(13).is_some_and(|flags| flags & 0x12 == 0x02);
        ATTACK_PORTS.contains(&port) || (opens && TRUSTED_PORTS.contains(&port))
    }

    fn is_answer(&self) -> bool {
        let kind = self.bytes.first().copied().unwrap_or(0);
        match self.protocol {
            protocol::ICMP => matches!(kind, 0 | 3 | 4 | 5 | 11 | 12 | 14),
            protocol::ICMPV6 => matches!(kind, 0..=4 | 129 | 140),
            // A response of DNS (RFC 1035 section 4.1.1) behind eight bytes of header.
            protocol::UDP => self.port(0) == 53 && self.bytes.get(10).is_some_and(|flags| flags & 0x80 != 0),
            _ => false,
        }
    }
}

/// Past hop-by-hop, routing, destination and fragment headers; at most eight of them.
fn skip_extensions(mut next: u8, mut bytes: &[u8]) -> (u8, &[u8]) {
    for _ in 0..8 {
        let length = match next {
            0 | 43 | protocol::DESTINATION_OPTIONS => bytes.get(1).map(|units| (usize::from(*units) + 1) * 8),
            protocol::FRAGMENT => Some(8),
            _ => return (next, bytes),
        };
        match (bytes.first(), length.and_then(|length| bytes.get(length..))) {
            (Some(following), Some(rest)) => (next, bytes) = (*following, rest),
            _ => return (next, bytes),
        }
    }
    (next, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u8, bytes: &[u8]) -> Packet<'_> {
        Packet { protocol, source: [10, 0, 0, 1].into(), destination: None, bytes }
    }

    fn segment(source_port: u16, flags: u8) -> Vec<u8> {
        let mut bytes = source_port.to_be_bytes().to_vec();
        bytes.extend([0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_token_is_reported_wherever_it_stands() {
        let token = Token::new(3, 4);
        let bytes = format!("........{token}");
        for number in [protocol::UDP, protocol::GRE, 253] {
            let found = packet(number, bytes.as_bytes()).arrivals(Via::Raw);
            assert_eq!(found.iter().map(|arrival| arrival.token).collect::<Vec<_>>(), [Some(token)]);
        }
    }

    #[test]
    fn an_answer_of_a_name_server_quotes_and_a_question_does_not() {
        let message = |port: u8, flags: u8| {
            let token = Token::new(3, 4);
            [&[0, port, 0, 80, 0, 0, 0, 0, 7, 7, flags, 0][..], token.to_string().as_bytes()].concat()
        };
        let count = |port, flags| packet(protocol::UDP, &message(port, flags)).arrivals(Via::Raw).len();
        assert_eq!([count(53, 0x80), count(53, 1), count(54, 0x80)], [0, 1, 1]);
    }

    #[test]
    fn without_a_token_only_the_ports_of_attacks_are_reported() {
        let cases = [(61_000, 0x10, 1), (40_000, 0x02, 0), (53, 0x02, 1), (53, 0x12, 0), (60_999, 0x02, 0)];
        for (port, flags, count) in cases {
            assert_eq!(
                packet(protocol::TCP, &segment(port, flags)).arrivals(Via::Raw).len(),
                count,
                "{port} {flags}"
            );
        }
    }

    #[test]
    fn answers_and_errors_that_quote_an_attack_are_not_its_arrival() {
        let text = Token::new(3, 4).to_string();
        for (number, kind, count) in [
            (protocol::ICMP, 3, 0),
            (protocol::ICMP, 0, 0),
            (protocol::ICMP, 8, 1),
            (protocol::ICMPV6, 1, 0),
            (protocol::ICMPV6, 128, 1),
        ] {
            let bytes = [&[kind, 0, 0, 0, 0, 0, 0, 0], text.as_bytes()].concat();
            assert_eq!(packet(number, &bytes).arrivals(Via::Raw).len(), count, "{number} {kind}");
        }
    }

    #[test]
    fn every_prefix_of_a_packet_is_read_without_harm() {
        let mut v6 = vec![0x60, 0, 0, 0, 0, 36, 0, 64];
        v6.extend([0; 32]);
        v6.extend([60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0]);
        v6.extend(segment(61_000, 2));
        let mut v4 = vec![0x46, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0];
        v4.extend(segment(61_000, 2));
        for whole in [v4, v6] {
            let parsed = Packet::parse(&whole).expect("a packet");
            assert_eq!((parsed.protocol, parsed.port(0), parsed.port(2)), (6, 61_000, 80));
            for length in 0..whole.len() {
                if let Some(part) = Packet::parse(&whole[..length]) {
                    let _ = part.arrivals(Via::Packet);
                }
            }
        }
    }
}

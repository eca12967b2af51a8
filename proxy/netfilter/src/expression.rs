//! What rules are made of, as bytes: loads into registers, comparisons, look-ups, statements.
//!
//! Every attribute that the kernel reports in a dump is written, also where it is the default, so that a
//! loaded rule can be compared with the dump. Numbers are from `include/uapi/linux/netfilter/nf_tables.h`.

use crate::wire::Encoder;

/// A 4-byte register, 0 to 15; a longer value occupies the following ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    /// The register; `None` beyond 15.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 { Some(Self(number)) } else { None }
    }

    /// The first.
    pub const R0: Self = Self(0);
    /// The second.
    pub const R1: Self = Self(1);
    /// The third.
    pub const R2: Self = Self(2);
    /// The fourth.
    pub const R3: Self = Self(3);
    /// The seventh: after an IPv6 address and two more fields.
    pub const R6: Self = Self(6);
    /// The ninth: far enough from the first for an IPv6 address between them.
    pub const R8: Self = Self(8);

    /// As the kernel numbers it in dumps: 16-byte names where one starts there.
    pub(crate) fn number(self) -> u32 {
        if self.0.is_multiple_of(4) { 1 + u32::from(self.0) / 4 } else { 8 + u32::from(self.0) }
    }

    /// The register after a field of that many bytes.
    pub(crate) fn after(self, bytes: u32) -> Self {
        let registers = u8::try_from(bytes.div_ceil(4)).unwrap_or(u8::MAX);
        let next = self.0.saturating_add(registers);
        debug_assert!(next <= 16, "key longer than the registers");
        Self(next.min(15))
    }
}

/// Something of a packet, its connection or its socket that a rule can load.
///
/// Fields of 4 bytes are numbers in host order, except IPv4 addresses; the others are bytes as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Bytes of the packet from its network header on (4, host order).
    Length,
    /// The packet's mark (4).
    PacketMark,
    /// Index of the device it came by (4); 1 is the loopback device.
    InputDevice,
    /// Index of the device it leaves by (4).
    OutputDevice,
    /// User id of the socket that sent it, as the owner of the network namespace sees it (4). Output only.
    SenderUser,
    /// Realm of the route it takes (4). What was not routed, as a frame that a program made: the rule does not match.
    RouteRealm,
    /// Family: 2 for IPv4, 10 for IPv6 (1).
    NetworkProtocol,
    /// Transport protocol, after IPv6 extension headers (1).
    TransportProtocol,
    /// A random number (4).
    Random,
    /// Connection state bits (4): see [`crate::connection_state`].
    ConnectionState,
    /// 0 towards the destination, 1 back (1).
    ConnectionDirection,
    /// Connection status bits (4): see [`crate::connection_status`].
    ConnectionStatus,
    /// The connection's mark (4).
    ConnectionMark,
    /// The connection's transport protocol (1).
    ConnectionProtocol,
    /// Bytes of the connection, both ways (8).
    ConnectionBytes,
    /// IPv4 source of the connection's first packet, before any NAT (4).
    OriginalSourceV4,
    /// IPv4 destination of the connection's first packet, before any NAT (4).
    OriginalDestinationV4,
    /// IPv6 source of the connection's first packet, before any NAT (16).
    OriginalSourceV6,
    /// IPv6 destination of the connection's first packet, before any NAT (16).
    OriginalDestinationV6,
    /// Destination port of the connection's first packet (2); type and code for ICMP; else 0.
    OriginalDestinationPort,
    /// Bytes of the link-layer header (offset, length).
    LinkHeader(u32, u32),
    /// Bytes of the network header (offset, length).
    NetworkHeader(u32, u32),
    /// Bytes of the transport header (offset, length).
    TransportHeader(u32, u32),
    /// Route type of the source address (4): see [`crate::address_type`].
    SourceAddressType,
    /// Route type of the destination address (4).
    DestinationAddressType,
    /// Index of the device by which the source is reached, 0 if it is not by the device it came by (4).
    ReversePathDevice,
    /// Mark of the socket that will receive it (4). No socket, or a half-open one: the rule does not match.
    SocketMark,
    /// Identifier of the control group of the socket that sends it, or of that group's ancestor at this level (8). A
    /// socket belongs to the group of the program that made it. Linux 5.13.
    SocketControlGroup(u32),
    /// Counts from 0 to modulus - 1, packet by packet (4).
    RoundRobin(u32),
    /// A random number below the modulus (4).
    RandomBelow(u32),
}

impl Field {
    /// IPv4 source address.
    pub const SOURCE_V4: Self = Self::NetworkHeader(12, 4);
    /// IPv4 destination address.
    pub const DESTINATION_V4: Self = Self::NetworkHeader(16, 4);
    /// IPv6 source address.
    pub const SOURCE_V6: Self = Self::NetworkHeader(8, 16);
    /// IPv6 destination address.
    pub const DESTINATION_V6: Self = Self::NetworkHeader(24, 16);
    /// IPv6 hop limit.
    pub const HOP_LIMIT: Self = Self::NetworkHeader(7, 1);
    /// Source port of TCP, UDP, SCTP.
    pub const SOURCE_PORT: Self = Self::TransportHeader(0, 2);
    /// Destination port of TCP, UDP, SCTP.
    pub const DESTINATION_PORT: Self = Self::TransportHeader(2, 2);
    /// ICMP type and code.
    pub const ICMP_TYPE_AND_CODE: Self = Self::TransportHeader(0, 2);
    /// ICMP type.
    pub const ICMP_TYPE: Self = Self::TransportHeader(0, 1);
    /// Length of the TCP header in words of 4 bytes, in the high bits.
    pub const TCP_LENGTH: Self = Self::TransportHeader(12, 1);
    /// The first bytes of TCP options, of any that there are.
    pub const TCP_OPTIONS: Self = Self::TransportHeader(20, 4);
    /// TCP flags.
    pub const TCP_FLAGS: Self = Self::TransportHeader(13, 1);
    /// Type field of an Ethernet frame.
    pub const ETHER_TYPE: Self = Self::LinkHeader(12, 2);

    /// Its length.
    pub fn bytes(self) -> u32 {
        match self {
            Self::NetworkProtocol
            | Self::TransportProtocol
            | Self::ConnectionDirection
            | Self::ConnectionProtocol => 1,
            Self::OriginalDestinationPort => 2,
            Self::ConnectionBytes | Self::SocketControlGroup(_) => 8,
            Self::OriginalSourceV6 | Self::OriginalDestinationV6 => 16,
            Self::LinkHeader(_, bytes) | Self::NetworkHeader(_, bytes) | Self::TransportHeader(_, bytes) => {
                bytes
            }
            _ => 4,
        }
    }

    pub(crate) fn load(self, e: &mut Encoder, to: Register) {
        const ORIGINAL: Option<u8> = Some(0);
        match self {
            Self::Length => load_meta(e, 0, to),
            Self::PacketMark => load_meta(e, 3, to),
            Self::InputDevice => load_meta(e, 4, to),
            Self::OutputDevice => load_meta(e, 5, to),
            Self::SenderUser => load_meta(e, 10, to),
            Self::RouteRealm => load_meta(e, 13, to),
            Self::NetworkProtocol => load_meta(e, 15, to),
            Self::TransportProtocol => load_meta(e, 16, to),
            Self::Random => load_meta(e, 24, to),
            Self::ConnectionState => load_connection(e, 0, None, to),
            Self::ConnectionDirection => load_connection(e, 1, None, to),
            Self::ConnectionStatus => load_connection(e, 2, None, to),
            Self::ConnectionMark => load_connection(e, 3, None, to),
            Self::ConnectionProtocol => load_connection(e, 10, None, to),
            Self::ConnectionBytes => load_connection(e, 15, None, to),
            Self::OriginalSourceV4 => load_connection(e, 19, ORIGINAL, to),
            Self::OriginalDestinationV4 => load_connection(e, 20, ORIGINAL, to),
            Self::OriginalSourceV6 => load_connection(e, 21, ORIGINAL, to),
            Self::OriginalDestinationV6 => load_connection(e, 22, ORIGINAL, to),
            Self::OriginalDestinationPort => load_connection(e, 12, ORIGINAL, to),
            Self::LinkHeader(offset, bytes) => load_payload(e, 0, offset, bytes, to),
            Self::NetworkHeader(offset, bytes) => load_payload(e, 1, offset, bytes, to),
            Self::TransportHeader(offset, bytes) => load_payload(e, 2, offset, bytes, to),
            Self::SourceAddressType => load_route(e, 3, 1, to),
            Self::DestinationAddressType => load_route(e, 3, 2, to),
            Self::ReversePathDevice => load_route(e, 1, 1 | 8, to),
            Self::SocketMark => expression(e, "socket", |e| {
                e.u32(1, 1);
                e.u32(2, to.number());
            }),
            Self::SocketControlGroup(level) => expression(e, "socket", |e| {
                e.u32(1, 3);
                e.u32(2, to.number());
                e.u32(3, level);
            }),
            Self::RoundRobin(modulus) => load_number(e, modulus, 0, to),
            Self::RandomBelow(modulus) => load_number(e, modulus, 1, to),
        }
    }
}

pub(crate) fn expression(e: &mut Encoder, name: &str, fill: impl FnOnce(&mut Encoder)) {
    e.nest(1, |e| {
        e.text(1, name);
        e.nest(2, fill);
    });
}

fn load_meta(e: &mut Encoder, key: u32, to: Register) {
    expression(e, "meta", |e| {
        e.u32(2, key);
        e.u32(1, to.number());
    });
}

fn load_connection(e: &mut Encoder, key: u32, direction: Option<u8>, to: Register) {
    expression(e, "ct", |e| {
        e.u32(1, to.number());
        e.u32(2, key);
        if let Some(direction) = direction {
            e.u8(3, direction);
        }
    });
}

fn load_payload(e: &mut Encoder, base: u32, offset: u32, bytes: u32, to: Register) {
    expression(e, "payload", |e| {
        e.u32(1, to.number());
        e.u32(2, base);
        e.u32(3, offset);
        e.u32(4, bytes);
    });
}

fn load_route(e: &mut Encoder, result: u32, flags: u32, to: Register) {
    expression(e, "fib", |e| {
        e.u32(1, to.number());
        e.u32(2, result);
        e.u32(3, flags);
    });
}

fn load_number(e: &mut Encoder, modulus: u32, kind: u32, to: Register) {
    expression(e, "numgen", |e| {
        e.u32(1, to.number());
        e.u32(2, modulus);
        e.u32(3, kind);
        e.u32(4, 0);
    });
}

/// How a register is compared with bytes. Order is that of big-endian numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// At most.
    AtMost,
    /// At least.
    AtLeast,
}

pub(crate) fn compare(e: &mut Encoder, register: Register, comparison: Comparison, value: &[u8]) {
    let operation = match comparison {
        Comparison::Equal => 0,
        Comparison::NotEqual => 1,
        Comparison::AtMost => 3,
        Comparison::AtLeast => 5,
    };
    expression(e, "cmp", |e| {
        e.u32(1, register.number());
        e.u32(2, operation);
        e.nest(3, |e| e.attribute(1, value));
    });
}

/// `to = (from & mask) ^ flip`.
pub(crate) fn mask_and_flip(e: &mut Encoder, from: Register, to: Register, mask: &[u8], flip: &[u8]) {
    expression(e, "bitwise", |e| {
        e.u32(1, from.number());
        e.u32(2, to.number());
        e.u32(3, u32::try_from(mask.len()).unwrap_or(0));
        e.u32(6, 0);
        e.nest(4, |e| e.attribute(1, mask));
        e.nest(5, |e| e.attribute(1, flip));
    });
}

pub(crate) fn look_up(e: &mut Encoder, set: &str, from: Register, to: Option<Register>, inverted: bool) {
    expression(e, "lookup", |e| {
        e.text(1, set);
        e.u32(2, from.number());
        if let Some(to) = to {
            e.u32(3, to.number());
        }
        e.u32(5, u32::from(inverted));
    });
}

pub(crate) fn immediate(e: &mut Encoder, to: Register, value: &[u8]) {
    expression(e, "immediate", |e| {
        e.u32(1, to.number());
        e.nest(2, |e| e.attribute(1, value));
    });
}

pub(crate) const VERDICT_DROP: i32 = 0;
pub(crate) const VERDICT_ACCEPT: i32 = 1;
pub(crate) const VERDICT_JUMP: i32 = -3;
pub(crate) const VERDICT_GOTO: i32 = -4;
pub(crate) const VERDICT_RETURN: i32 = -5;

pub(crate) fn verdict(e: &mut Encoder, code: i32, chain: Option<&str>) {
    expression(e, "immediate", |e| {
        e.u32(1, 0);
        e.nest(2, |e| {
            e.nest(2, |e| {
                e.attribute(1, &code.to_be_bytes());
                if let Some(chain) = chain {
                    e.text(2, chain);
                }
            });
        });
    });
}

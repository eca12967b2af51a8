//! A rule, built left to right: matches first, then what to do.
//!
//! [`Rule`] has short forms for what firewalls say often; the general forms (`load`, `compare`, `look_up`,
//! `mask_and_flip`, `store_…`) name registers. A rule whose match fails ends there and the next one is tried.

use crate::expression::{
    Comparison, Field, Register, VERDICT_ACCEPT, VERDICT_DROP, VERDICT_GOTO, VERDICT_JUMP, VERDICT_RETURN,
    compare, expression, immediate, look_up, mask_and_flip, verdict,
};
use crate::operand::Operand;
use crate::set::Set;
use crate::wire::Encoder;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// One rule of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub(crate) expressions: Encoder,
    pub(crate) name: Option<String>,
}

/// How a packet is refused towards its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A TCP reset; only for TCP.
    TcpReset,
    /// ICMP: administratively prohibited, in the packet's own family.
    AdminProhibited,
    /// ICMP: port unreachable, in the packet's own family.
    PortUnreachable,
}

impl Rule {
    /// A rule that matches everything and does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it a name: shown by `nft list` as a comment, and by which its counter is found.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    // Matches.

    /// Loads a field for one comparison.
    pub fn field<T: Operand>(mut self, field: Field) -> Loaded<T> {
        debug_assert_eq!(usize::try_from(field.bytes()).ok(), Some(T::BYTES), "length of {field:?}");
        field.load(&mut self.expressions, Register::R0);
        Loaded { rule: self, value: PhantomData }
    }

    /// The connection's mark.
    pub fn ct_mark(self) -> Loaded<u32> {
        self.field(Field::ConnectionMark)
    }

    /// The packet's mark.
    pub fn packet_mark(self) -> Loaded<u32> {
        self.field(Field::PacketMark)
    }

    /// Packets of a connection that opened it or went the same way.
    pub fn towards_destination(self) -> Self {
        self.field(Field::ConnectionDirection).equals(0u8)
    }

    /// Packets of a connection that answer.
    pub fn towards_source(self) -> Self {
        self.field(Field::ConnectionDirection).equals(1u8)
    }

    /// Packets of that transport protocol.
    pub fn protocol(self, protocol: u8) -> Self {
        self.field(Field::TransportProtocol).equals(protocol)
    }

    /// IPv4 packets.
    pub fn ipv4(self) -> Self {
        self.field(Field::NetworkProtocol).equals(2u8)
    }

    /// IPv6 packets.
    pub fn ipv6(self) -> Self {
        self.field(Field::NetworkProtocol).equals(10u8)
    }

    /// Packets from that address (and its family).
    pub fn from_address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.ipv4().field(Field::SOURCE_V4).equals(address),
            IpAddr::V6(address) => self.ipv6().field(Field::SOURCE_V6).equals(address),
        }
    }

    /// Packets to that address (and its family).
    pub fn to_address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.ipv4().field(Field::DESTINATION_V4).equals(address),
            IpAddr::V6(address) => self.ipv6().field(Field::DESTINATION_V6).equals(address),
        }
    }

    /// Packets to that port; say the protocol first.
    pub fn to_port(self, port: u16) -> Self {
        self.field(Field::DESTINATION_PORT).equals(port)
    }

    /// Packets that came by the device of that index.
    pub fn input_device(self, index: u32) -> Self {
        self.field(Field::InputDevice).equals(index)
    }

    /// Lets at most so many packets per second match, with a reserve of `burst`.
    pub fn at_most_per_second(mut self, rate: u64, burst: u32) -> Self {
        expression(&mut self.expressions, "limit", |e| {
            e.u64(1, rate);
            e.u64(2, 1);
            e.u32(3, burst);
            e.u32(4, 0);
            e.u32(5, 0);
        });
        self
    }

    /// Loads fields one after the other from [`Register::R0`] on and matches if the set holds them.
    pub fn key_in(self, fields: &[Field], set: &str) -> Self {
        let mut rule = self.load_key(fields);
        look_up(&mut rule.expressions, set, Register::R0, None, false);
        rule
    }

    // General forms.

    /// Loads a field.
    pub fn load(mut self, field: Field, to: Register) -> Self {
        field.load(&mut self.expressions, to);
        self
    }

    /// Loads fields one after the other from [`Register::R0`] on.
    pub fn load_key(mut self, fields: &[Field]) -> Self {
        let mut register = Register::R0;
        for field in fields {
            field.load(&mut self.expressions, register);
            register = register.after(field.bytes());
        }
        self
    }

    /// Loads a constant.
    pub fn load_constant<T: Operand>(mut self, value: T, to: Register) -> Self {
        immediate(&mut self.expressions, to, &value.bytes());
        self
    }

    /// Looks the key that starts at `from` up in a map and puts what it holds to `to`; no entry: no match.
    pub fn look_up(mut self, map: &str, from: Register, to: Register) -> Self {
        look_up(&mut self.expressions, map, from, Some(to), false);
        self
    }

    /// Matches if the key that starts at `from` is in the set.
    pub fn contained(mut self, set: &str, from: Register) -> Self {
        look_up(&mut self.expressions, set, from, None, false);
        self
    }

    /// `to = (from & mask) ^ flip`.
    pub fn mask_and_flip<T: Operand>(mut self, from: Register, to: Register, mask: T, flip: T) -> Self {
        mask_and_flip(&mut self.expressions, from, to, &mask.bytes(), &flip.bytes());
        self
    }

    /// Matches if the register compares so.
    pub fn compare<T: Operand>(mut self, register: Register, comparison: Comparison, value: T) -> Self {
        compare(&mut self.expressions, register, comparison, &value.bytes());
        self
    }

    // Statements.

    /// Sets the connection's mark from a register.
    pub fn store_ct_mark(self, from: Register) -> Self {
        self.store_connection(3, None, from)
    }

    /// Sets the packet's mark from a register.
    pub fn store_packet_mark(mut self, from: Register) -> Self {
        expression(&mut self.expressions, "meta", |e| {
            e.u32(2, 3);
            e.u32(3, from.number());
        });
        self
    }

    /// Sets the connection's mark.
    pub fn set_ct_mark(self, mark: u32) -> Self {
        self.load_constant(mark, Register::R0).store_ct_mark(Register::R0)
    }

    /// Sets the packet's mark.
    pub fn set_packet_mark(self, mark: u32) -> Self {
        self.load_constant(mark, Register::R0).store_packet_mark(Register::R0)
    }

    /// Puts the packet's connection into a conntrack zone of its own, for the original direction only: answers
    /// are found in the default zone. Only before conntrack ([`crate::priority::RAW`]).
    pub fn set_original_zone(mut self, zone: u16) -> Self {
        immediate(&mut self.expressions, Register::R0, &zone.to_ne_bytes());
        self.store_connection(17, Some(0), Register::R0)
    }

    /// Tells nobody when the connection ends, nor of changes to it. Before its first packet has passed.
    pub fn tell_no_events(self) -> Self {
        self.load_constant(0u32, Register::R0).store_connection(18, None, Register::R0)
    }

    fn store_connection(mut self, key: u32, direction: Option<u8>, from: Register) -> Self {
        expression(&mut self.expressions, "ct", |e| {
            e.u32(2, key);
            if let Some(direction) = direction {
                e.u8(3, direction);
            }
            e.u32(4, from.number());
        });
        self
    }

    /// Keeps the packet out of conntrack. Only before it.
    pub fn no_track(mut self) -> Self {
        expression(&mut self.expressions, "notrack", |_| {});
        self
    }

    /// Applies a timeout object ([`crate::Batch::add_tcp_timeout`]) to the connection.
    pub fn set_timeouts(mut self, object: &str) -> Self {
        expression(&mut self.expressions, "objref", |e| {
            e.u32(1, crate::batch::OBJECT_CT_TIMEOUT);
            e.text(2, object);
        });
        self
    }

    /// Counts packets and bytes that come here.
    pub fn counter(mut self) -> Self {
        counter(&mut self.expressions);
        self
    }

    /// Adds the key that starts at [`Register::R0`] to a dynamic set, or renews it, and counts it there. A full
    /// set: the rule ends here.
    pub fn count_in(mut self, set: &Set) -> Self {
        const UPDATE: u32 = 1;
        expression(&mut self.expressions, "dynset", |e| {
            e.u32(4, Register::R0.number());
            e.u32(3, UPDATE);
            e.text(1, &set.name);
            e.u64(6, set.timeout.map_or(0, milliseconds));
            e.u32(9, 0);
            e.nest(7, |e| {
                e.text(1, "counter");
                e.nest(2, |e| {
                    e.u64(1, 0);
                    e.u64(2, 0);
                });
            });
        });
        self
    }

    /// Sends the packet's first `bytes_max` bytes to the readers of an NFLOG group.
    pub fn log_to_group(mut self, group: u16, prefix: &str, bytes_max: u32) -> Self {
        expression(&mut self.expressions, "log", |e| {
            e.text(2, prefix);
            e.u16(1, group);
            e.u32(3, bytes_max);
            e.u16(4, 1);
        });
        self
    }

    /// Redirects the connection to a port of this namespace. Nat chains only; say the protocol first.
    pub fn redirect_to(mut self, port: u16) -> Self {
        immediate(&mut self.expressions, Register::R0, &port.to_be_bytes());
        expression(&mut self.expressions, "redir", |e| {
            e.u32(1, Register::R0.number());
            e.u32(2, Register::R0.number());
            e.u32(3, NAT_PORT_SPECIFIED);
        });
        self
    }

    /// Hands the packet to a transparent socket on that port without rewriting it.
    pub fn hand_to_transparent_socket(mut self, port: u16) -> Self {
        immediate(&mut self.expressions, Register::R0, &port.to_be_bytes());
        expression(&mut self.expressions, "tproxy", |e| {
            e.u32(1, 0);
            e.u32(3, Register::R0.number());
        });
        self
    }

    /// Rewrites the destination of the connection to a constant address and, if given, port. Nat chains only.
    pub fn destination_nat(mut self, address: IpAddr, port: Option<u16>) -> Self {
        match address {
            IpAddr::V4(address) => immediate(&mut self.expressions, Register::R0, &address.octets()),
            IpAddr::V6(address) => immediate(&mut self.expressions, Register::R0, &address.octets()),
        }
        if let Some(port) = port {
            immediate(&mut self.expressions, Register::R8, &port.to_be_bytes());
        }
        self.destination_nat_from(address.is_ipv4(), Register::R0, port.map(|_| Register::R8))
    }

    /// Rewrites the destination of the connection to the address (and port) in registers.
    pub fn destination_nat_from(mut self, ipv4: bool, address: Register, port: Option<Register>) -> Self {
        expression(&mut self.expressions, "nat", |e| {
            e.u32(1, 1);
            e.u32(2, if ipv4 { 2 } else { 10 });
            e.u32(3, address.number());
            e.u32(4, address.number());
            if let Some(port) = port {
                e.u32(5, port.number());
                e.u32(6, port.number());
            }
            e.u32(7, NAT_ADDRESS_SPECIFIED | if port.is_some() { NAT_PORT_SPECIFIED } else { 0 });
        });
        self
    }

    /// Rewrites the source of the connection to the address of the device it leaves by.
    pub fn masquerade(mut self) -> Self {
        expression(&mut self.expressions, "masq", |_| {});
        self
    }

    /// Tells the sender and drops.
    pub fn refuse(mut self, refusal: Refusal) -> Self {
        const ICMP_OF_THE_FAMILY: u32 = 2;
        let (kind, code) = match refusal {
            Refusal::TcpReset => (1, None),
            Refusal::AdminProhibited => (ICMP_OF_THE_FAMILY, Some(3)),
            Refusal::PortUnreachable => (ICMP_OF_THE_FAMILY, Some(1)),
        };
        expression(&mut self.expressions, "reject", |e| {
            e.u32(1, kind);
            if let Some(code) = code {
                e.u8(2, code);
            }
        });
        self
    }

    // Verdicts.

    /// Lets the packet pass this hook's chain.
    pub fn accept(self) -> Self {
        self.verdict(VERDICT_ACCEPT, None)
    }

    /// Drops the packet.
    pub fn drop_packet(self) -> Self {
        self.verdict(VERDICT_DROP, None)
    }

    /// Back to the chain that jumped here.
    pub fn return_to_caller(self) -> Self {
        self.verdict(VERDICT_RETURN, None)
    }

    /// Goes on in another chain and comes back after its end.
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(VERDICT_JUMP, Some(chain))
    }

    /// Goes on in another chain for good.
    pub fn goto(self, chain: &str) -> Self {
        self.verdict(VERDICT_GOTO, Some(chain))
    }

    fn verdict(mut self, code: i32, chain: Option<&str>) -> Self {
        verdict(&mut self.expressions, code, chain);
        self
    }
}

const NAT_ADDRESS_SPECIFIED: u32 = 1;
const NAT_PORT_SPECIFIED: u32 = 2;

fn counter(e: &mut Encoder) {
    expression(e, "counter", |e| {
        e.u64(1, 0);
        e.u64(2, 0);
    });
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A field in a register, waiting for what it is compared with.
#[must_use]
pub struct Loaded<T> {
    rule: Rule,
    value: PhantomData<T>,
}

impl<T: Operand> Loaded<T> {
    /// Keeps only the bits of the mask.
    pub fn mask(mut self, mask: T) -> Self {
        let mask = mask.bytes();
        mask_and_flip(&mut self.rule.expressions, Register::R0, Register::R0, &mask, &vec![0; mask.len()]);
        self
    }

    /// Matches if the packet has such a field at all.
    pub fn is_there(self) -> Rule {
        self.rule
    }

    /// Matches that value.
    pub fn equals(self, value: T) -> Rule {
        self.rule.compare(Register::R0, Comparison::Equal, value)
    }

    /// Matches everything but that value.
    pub fn not_equals(self, value: T) -> Rule {
        self.rule.compare(Register::R0, Comparison::NotEqual, value)
    }

    /// Matches if any bit of the mask is set.
    pub fn any_bit(self, mask: T) -> Rule {
        self.mask(mask).compared_with_zero(Comparison::NotEqual)
    }

    /// Matches if no bit of the mask is set.
    pub fn no_bit(self, mask: T) -> Rule {
        self.mask(mask).compared_with_zero(Comparison::Equal)
    }

    fn compared_with_zero(mut self, comparison: Comparison) -> Rule {
        compare(&mut self.rule.expressions, Register::R0, comparison, &vec![0; T::BYTES]);
        self.rule
    }

    /// Matches if the set holds it.
    pub fn in_set(mut self, set: &str) -> Rule {
        look_up(&mut self.rule.expressions, set, Register::R0, None, false);
        self.rule
    }

    /// Matches if the set does not hold it.
    pub fn not_in_set(mut self, set: &str) -> Rule {
        look_up(&mut self.rule.expressions, set, Register::R0, None, true);
        self.rule
    }
}

impl Loaded<u16> {
    /// Matches from `first` to `last`, both included.
    pub fn between(self, first: u16, last: u16) -> Rule {
        self.rule.compare(Register::R0, Comparison::AtLeast, first).compare(
            Register::R0,
            Comparison::AtMost,
            last,
        )
    }
}

impl Loaded<Ipv4Addr> {
    /// Matches the addresses of a block.
    pub fn in_block(self, network: Ipv4Addr, prefix_bits: u8) -> Rule {
        let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix_bits.min(32))).unwrap_or(0));
        self.mask(mask).equals(Ipv4Addr::from(u32::from(network) & u32::from(mask)))
    }
}

impl Loaded<Ipv6Addr> {
    /// Matches the addresses of a block.
    pub fn in_block(self, network: Ipv6Addr, prefix_bits: u8) -> Rule {
        let mask = Ipv6Addr::from(u128::MAX.checked_shl(128 - u32::from(prefix_bits.min(128))).unwrap_or(0));
        self.mask(mask).equals(Ipv6Addr::from(u128::from(network) & u128::from(mask)))
    }
}

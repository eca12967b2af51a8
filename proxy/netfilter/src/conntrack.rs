//! Connections as the kernel tracks them: their ends as events, dumps by mark, and changes of marks.
//!
//! Subscribe before loading rules: the kernel prepares connections for events only while somebody listens. A connection's
//! end is reported late (timeouts), so live numbers need a dump, which finds new ones too: to be told of each would cost
//! more than the rest of its way through the table.

use crate::error::NetlinkError;
use crate::exchange::Exchange;
use crate::limits;
use crate::socket::{Received, Socket};
use crate::wire::{Attributes, Encoder, Messages, subsystem, u16_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Transport protocol.
    pub protocol: u8,
    /// Source port; the id of an ICMP query; else 0.
    pub source_port: u16,
    /// Destination port; `type << 8 | code` of ICMP; else 0.
    pub destination_port: u16,
}

/// A tracked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The first packet's direction, before any NAT.
    pub original: Tuple,
    /// What answers look like; differs from the mirror of `original` by NAT.
    pub reply: Tuple,
    /// The connection's mark.
    pub mark: u32,
    /// Status bits: see [`crate::connection_status`].
    pub status: u32,
    /// The kernel's id of it, unique while it lives.
    pub id: u32,
    /// Packets towards the destination, if accounting is on and this message carries it.
    pub packets_to_destination: u64,
    /// Bytes towards the destination.
    pub bytes_to_destination: u64,
    /// Packets back.
    pub packets_to_source: u64,
    /// Bytes back.
    pub bytes_to_source: u64,
}

/// How full the kernel's list of connections is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fullness {
    /// Connections of this namespace that are tracked.
    pub tracked: u32,
    /// How many there can be. Of more the first packet is dropped before any rule.
    pub most: u32,
}

/// What one read brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowEvents {
    /// What the kernel forgot, with its final counters, in order. Empty if nothing came before the timeout.
    pub ended: Vec<Flow>,
    /// True if the kernel had to drop events for us: dump to see what was missed.
    pub overrun: bool,
}

/// A subscription to ended connections.
#[derive(Debug)]
pub struct FlowEventReader {
    socket: Socket,
    buffer: Vec<u8>,
}

impl FlowEventReader {
    /// Subscribes. Needs CAP_NET_ADMIN.
    pub fn open(receive_timeout: Duration) -> Result<Self, NetlinkError> {
        const GROUP_DESTROY: u32 = 1 << 2;
        let socket = Socket::open(libc::NETLINK_NETFILTER, GROUP_DESTROY, receive_timeout)?;
        socket.enlarge_receive_buffer(limits::RECEIVE_BUFFER_BYTES);
        Ok(Self { socket, buffer: vec![0; limits::DATAGRAM_BYTES_MAX] })
    }

    /// Waits for events, at most the receive timeout; then for a moment more, to take many at once: to be woken for each
    /// would cost a busy CPU more than the events themselves.
    pub fn read(&mut self) -> Result<FlowEvents, NetlinkError> {
        let mut read = FlowEvents::default();
        let first = self.socket.receive(&mut self.buffer)?;
        if !self.take(first, &mut read) {
            return Ok(read);
        }
        std::thread::sleep(limits::EVENTS_GATHERED_FOR);
        while read.ended.len() < limits::EVENTS_PER_READ_MAX {
            let next = self.socket.receive_now(&mut self.buffer)?;
            if !self.take(next, &mut read) {
                break;
            }
        }
        Ok(read)
    }

    /// Appends the events of a datagram; false if there was none.
    fn take(&self, received: Received, read: &mut FlowEvents) -> bool {
        let length = match received {
            Received::Datagram(length) => length,
            Received::Nothing => return false,
            Received::Overrun => {
                read.overrun = true;
                return false;
            }
        };
        let ended = Messages(&self.buffer[..length]).filter(|message| message.kind == DELETED);
        read.ended.extend(ended.filter_map(|message| flow_of(&message.attributes())));
        true
    }
}

const NEW: u16 = subsystem::CONNTRACK << 8;
const GET: u16 = subsystem::CONNTRACK << 8 | 1;
const DELETED: u16 = subsystem::CONNTRACK << 8 | 2;
const GET_STATISTICS: u16 = subsystem::CONNTRACK << 8 | 5;

/// A socket to ask for connections and change them.
#[derive(Debug)]
pub struct Conntrack {
    exchange: Exchange,
}

impl Conntrack {
    /// Opens it.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { exchange: Exchange::open(libc::NETLINK_NETFILTER)? })
    }

    /// The connections of both families whose mark, masked, is `mark`; the kernel filters.
    pub fn flows(&mut self, mark: u32, mask: u32) -> Result<Vec<Flow>, NetlinkError> {
        let fill = |e: &mut Encoder| {
            e.family_header(0, 0);
            e.u32(8, mark);
            e.u32(21, mask);
        };
        // Filtered here again: older kernels ignore the mask of a mark that is 0.
        let read = |message: &crate::wire::Message<'_>| {
            flow_of(&message.attributes()).filter(|flow| flow.mark & mask == mark)
        };
        self.exchange.dump(GET, "the list of connections", fill, read)
    }

    /// How full the list is.
    pub fn fullness(&mut self) -> Result<Fullness, NetlinkError> {
        let mut found = Fullness::default();
        let read = |message: &crate::wire::Message<'_>| {
            let count = |kind| message.attributes().u32(kind).unwrap_or(0);
            found = Fullness { tracked: count(1), most: count(2) };
        };
        let what = "the number of connections";
        self.exchange.ask(GET_STATISTICS, 0, what, |e| e.family_header(0, 0), read)?;
        Ok(found)
    }

    /// The connection of the default zone whose answers look like this; `None` if there is none.
    pub fn by_reply(&mut self, reply: &Tuple) -> Result<Option<Flow>, NetlinkError> {
        let mut found = None;
        let fill = |e: &mut Encoder| {
            e.family_header(family(reply), 0);
            e.nest(2, |e| encode_tuple(e, reply));
        };
        let read = |message: &crate::wire::Message<'_>| found = flow_of(&message.attributes());
        match self.exchange.ask(GET, 0, "a connection", fill, read) {
            Ok(()) => Ok(found),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a connection another mark, whichever zone its first packet was in: it is found by its answers, which must be in the
    /// default zone. One that is gone meanwhile is no error.
    pub fn set_mark(&mut self, flow: &Flow, mark: u32) -> Result<(), NetlinkError> {
        let result = self.exchange.tell(NEW, 0, "the mark of a connection", |e| {
            e.family_header(family(&flow.reply), 0);
            e.nest(2, |e| encode_tuple(e, &flow.reply));
            e.u32(8, mark);
        });
        result.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
    }

    /// Forgets a connection, found likewise. One that is gone meanwhile is no error.
    pub fn delete(&mut self, flow: &Flow) -> Result<(), NetlinkError> {
        let result = self.exchange.tell(DELETED, 0, "the deletion of a connection", |e| {
            e.family_header(family(&flow.reply), 0);
            e.nest(2, |e| encode_tuple(e, &flow.reply));
            e.u32(12, flow.id);
        });
        result.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
    }
}

fn family(tuple: &Tuple) -> u8 {
    if tuple.source.is_ipv4() { 2 } else { 10 }
}

fn flow_of(attributes: &Attributes<'_>) -> Option<Flow> {
    let count = |kind: u16, inner: u16| attributes.inside(kind).u64(inner).unwrap_or(0);
    Some(Flow {
        original: tuple_of(&attributes.inside(1))?,
        reply: tuple_of(&attributes.inside(2))?,
        mark: attributes.u32(8).unwrap_or(0),
        status: attributes.u32(3).unwrap_or(0),
        id: attributes.u32(12).unwrap_or(0),
        packets_to_destination: count(9, 1),
        bytes_to_destination: count(9, 2),
        packets_to_source: count(10, 1),
        bytes_to_source: count(10, 2),
    })
}

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

fn tuple_of(attributes: &Attributes<'_>) -> Option<Tuple> {
    let (ip, transport) = (attributes.inside(1), attributes.inside(2));
    let protocol = *transport.value(1)?.first()?;
    let (id, icmp_type, code) = if protocol == ICMPV6 { (7, 8, 9) } else { (4, 5, 6) };
    let port = |kind: u16| transport.value(kind).and_then(u16_of).unwrap_or(0);
    let byte = |kind: u16| transport.value(kind).and_then(|value| value.first()).copied().unwrap_or(0);
    let (source_port, destination_port) = match protocol {
        ICMP | ICMPV6 => (port(id), u16::from(byte(icmp_type)) << 8 | u16::from(byte(code))),
        _ => (port(2), port(3)),
    };
    Some(Tuple {
        source: address_of(&ip, 1, 3)?,
        destination: address_of(&ip, 2, 4)?,
        protocol,
        source_port,
        destination_port,
    })
}

fn address_of(ip: &Attributes<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(bytes) = ip.value(v4) {
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip.value(v6)?).ok()?).into())
}

fn encode_tuple(e: &mut Encoder, tuple: &Tuple) {
    let address = |e: &mut Encoder, v4: u16, v6: u16, address: IpAddr| match address {
        IpAddr::V4(address) => e.attribute(v4, &address.octets()),
        IpAddr::V6(address) => e.attribute(v6, &address.octets()),
    };
    e.nest(1, |e| {
        address(e, 1, 3, tuple.source);
        address(e, 2, 4, tuple.destination);
    });
    e.nest(2, |e| {
        e.u8(1, tuple.protocol);
        let (id, icmp_type, code) = if tuple.protocol == ICMPV6 { (7, 8, 9) } else { (4, 5, 6) };
        if matches!(tuple.protocol, ICMP | ICMPV6) {
            let [high, low] = tuple.destination_port.to_be_bytes();
            e.u16(id, tuple.source_port);
            e.u8(icmp_type, high);
            e.u8(code, low);
        } else {
            e.u16(2, tuple.source_port);
            e.u16(3, tuple.destination_port);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_of_both_families_and_of_icmp_read_back_as_written() {
        let tuple = |source: &str, destination: &str, protocol, ports: (u16, u16)| Tuple {
            source: source.parse().expect("address"),
            destination: destination.parse().expect("address"),
            protocol,
            source_port: ports.0,
            destination_port: ports.1,
        };
        for tuple in [
            tuple("10.0.0.1", "10.0.0.2", 6, (40_000, 443)),
            tuple("fd00::1", "fd00::2", 17, (53, 53)),
            tuple("10.0.0.1", "10.0.0.2", ICMP, (7, 0x0800)),
            tuple("fd00::1", "fd00::2", ICMPV6, (7, 0x8000)),
        ] {
            let mut e = Encoder::default();
            encode_tuple(&mut e, &tuple);
            assert_eq!(tuple_of(&Attributes(e.bytes())), Some(tuple));
        }
    }
}

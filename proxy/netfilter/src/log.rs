//! Reads packets that rules sent to an NFLOG group ([`crate::Rule::log_to_group`]).

use crate::error::NetlinkError;
use crate::exchange::Exchange;
use crate::limits;
use crate::packet::PacketSummary;
use crate::socket::Received;
use crate::wire::{Attributes, Encoder, Message, Messages, subsystem};
use std::time::Duration;

/// A packet that a rule logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedPacket {
    /// The prefix that the rule gives.
    pub prefix: String,
    /// The packet's mark when it was logged.
    pub mark: u32,
    /// Hook number: 0 prerouting, 1 input (egress for frames), 2 forward, 3 output, 4 postrouting.
    pub hook: u8,
    /// True if a netdev chain logged it: it is a frame that never was an IP packet of ours.
    pub is_frame: bool,
    /// Index of the device by which it came.
    pub input_device: Option<u32>,
    /// Index of the device by which it was to leave.
    pub output_device: Option<u32>,
    /// User id of the sending socket, where it was sent from here.
    pub sender_uid: Option<u32>,
    /// Addresses and ports; `None` if it is no IP packet.
    pub packet: Option<PacketSummary>,
}

/// What one read brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// In order. Empty if nothing came before the timeout.
    pub packets: Vec<LoggedPacket>,
    /// Packets logged since the read before that did not reach us.
    pub lost: u64,
}

/// A reader of one group. Only one reader can hold a group.
#[derive(Debug)]
pub struct LogReader {
    exchange: Exchange,
    next_sequence: Option<u32>,
}

impl LogReader {
    /// Takes the group. Needs CAP_NET_ADMIN; fails with EBUSY if another reader holds it.
    pub fn open(group: u16, receive_timeout: Duration) -> Result<Self, NetlinkError> {
        const COPY_PACKET: u8 = 2;
        let mut exchange = Exchange::open(libc::NETLINK_NETFILTER)?;
        exchange.socket.enlarge_receive_buffer(limits::RECEIVE_BUFFER_BYTES);
        let [a, b, c, d] = limits::LOGGED_BYTES_MAX.to_be_bytes();
        configure(&mut exchange, group, |e| e.u8(1, 1))?;
        configure(&mut exchange, group, |e| e.attribute(2, &[a, b, c, d, COPY_PACKET, 0]))?;
        configure(&mut exchange, group, |e| e.u32(5, 1))?;
        configure(&mut exchange, group, |e| e.u16(6, 1))?;
        exchange.socket.set_receive_timeout(receive_timeout)?;
        Ok(Self { exchange, next_sequence: None })
    }

    /// Waits for packets, at most the receive timeout.
    pub fn read(&mut self) -> Result<Logged, NetlinkError> {
        let mut logged = Logged::default();
        let length = match self.exchange.socket.receive(&mut self.exchange.buffer)? {
            Received::Datagram(length) => length,
            // What was lost shows in the next sequence number.
            Received::Nothing | Received::Overrun => return Ok(logged),
        };
        for message in Messages(&self.exchange.buffer[..length]) {
            if message.kind != subsystem::LOG << 8 {
                continue;
            }
            if let Some(sequence) = message.attributes().u32(12) {
                let expected = self.next_sequence.unwrap_or(sequence);
                logged.lost += u64::from(sequence.wrapping_sub(expected));
                self.next_sequence = Some(sequence.wrapping_add(1));
            }
            logged.packets.push(logged_packet(&message));
        }
        Ok(logged)
    }
}

fn configure(
    exchange: &mut Exchange,
    group: u16,
    fill: impl FnOnce(&mut Encoder),
) -> Result<(), NetlinkError> {
    let what = format!("the reader of log group {group}");
    exchange.tell(subsystem::LOG << 8 | 1, 0, &what, |e| {
        e.family_header(0, group);
        fill(e);
    })
}

fn logged_packet(message: &Message<'_>) -> LoggedPacket {
    const NETDEV: u8 = 5;
    let attributes: Attributes<'_> = message.attributes();
    let is_frame = message.family() == NETDEV;
    let payload = attributes.value(9).unwrap_or_default();
    LoggedPacket {
        prefix: attributes.text(10).unwrap_or_default(),
        mark: attributes.u32(2).unwrap_or(0),
        hook: attributes.value(1).and_then(|header| header.get(2).copied()).unwrap_or(u8::MAX),
        is_frame,
        input_device: attributes.u32(4),
        output_device: attributes.u32(5),
        sender_uid: attributes.u32(11),
        packet: if is_frame { PacketSummary::of_frame(payload) } else { PacketSummary::of_ip(payload) },
    }
}

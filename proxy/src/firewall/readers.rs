//! What the kernel tells by itself: denied packets one by one (within limits), connections that ended.
//!
//! Each reader blocks at most [`super::limits::READ_TIMEOUT`], for a thread of its own that can be ended. Neither is
//! needed for enforcement, nor for the counts of denials.

use super::answers::{Answers, MarkedAnswer};
use super::frames;
use super::limits::READ_TIMEOUT;
use super::mark::{Class, Mark};
use super::options::LOG_GROUP;
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_netfilter::NetlinkError;
use bulkhead_netfilter::connection_status;
use bulkhead_netfilter::conntrack::{Flow, FlowEventReader};
use bulkhead_netfilter::log::{LogReader, LoggedPacket};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// A denied packet.
#[derive(Clone, Debug)]
pub struct DeniedPacket {
    /// Who opened the conversation that it belongs to.
    pub direction: Direction,
    /// The other side.
    pub peer: IpAddr,
    /// The pod's address.
    pub local: IpAddr,
    /// Transport protocol.
    pub protocol: L4Protocol,
    /// Destination port of the conversation; `type << 8 | code` for ICMP; 0 where there is none.
    pub port: u16,
    /// The other port.
    pub source_port: Option<u16>,
    /// User who sent it, if it was sent from the pod.
    pub sender_uid: Option<u32>,
    /// True for a frame by an AF_PACKET socket, which no rule has judged.
    pub is_frame: bool,
    /// What its mark says; `None` for frames and where the program is no longer known.
    pub answer: Option<MarkedAnswer>,
}

/// What one read brought.
#[derive(Clone, Debug, Default)]
pub struct DeniedPackets {
    /// In order; empty if nothing came in time.
    pub packets: Vec<DeniedPacket>,
    /// Logged packets that did not reach us. The counts of denials have them.
    pub lost: u64,
}

/// Reads denied packets. There can be one in a network namespace.
#[derive(Debug)]
pub struct DenialReader {
    log: LogReader,
    answers: Answers,
}

impl DenialReader {
    pub(super) fn open(answers: Answers) -> Result<Self, NetlinkError> {
        Ok(Self { log: LogReader::open(LOG_GROUP, READ_TIMEOUT)?, answers })
    }

    /// Waits for denied packets, not longer than the timeout.
    pub fn read(&mut self) -> Result<DeniedPackets, NetlinkError> {
        let logged = self.log.read()?;
        let packets = logged.packets.into_iter().filter_map(|packet| self.denied(packet)).collect();
        Ok(DeniedPackets { packets, lost: logged.lost })
    }

    fn denied(&self, logged: LoggedPacket) -> Option<DeniedPacket> {
        /// `NF_INET_PRE_ROUTING`.
        const ARRIVED: u8 = 0;
        let direction = match logged.prefix.as_str() {
            frames::LOG_PREFIX => Direction::Egress,
            prefix => Direction::BOTH.into_iter().find(|direction| direction.as_str() == prefix)?,
        };
        let packet = logged.packet?;
        let arrived = !logged.is_frame && logged.hook == ARRIVED;
        let (peer, local) = match arrived {
            true => (packet.source, packet.destination),
            false => (packet.destination, packet.source),
        };
        // An answer carries the conversation's destination port as its source port.
        let is_answer = arrived == (direction == Direction::Egress);
        let (port, source_port) = match (is_answer, packet.source_port) {
            (true, Some(port)) => (port, packet.destination_port),
            _ => (packet.destination_port.unwrap_or(0), packet.source_port),
        };
        Some(DeniedPacket {
            direction,
            peer,
            local,
            protocol: L4Protocol(packet.protocol),
            port,
            source_port,
            sender_uid: logged.sender_uid,
            is_frame: logged.is_frame,
            answer: if logged.is_frame { None } else { self.answers.of(logged.mark) },
        })
    }
}

/// A connection that the kernel let pass by itself, or cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFlow {
    /// The kernel's id of it, unique while it lives.
    pub id: u32,
    /// Who opened it.
    pub direction: Direction,
    /// The other side.
    pub peer: IpAddr,
    /// The pod's address.
    pub local: IpAddr,
    /// Transport protocol.
    pub protocol: L4Protocol,
    /// Destination port; `type << 8 | code` for ICMP.
    pub port: u16,
    /// Its mark; `None` once it was cut off.
    pub mark: Option<Mark>,
    /// Packets from who opened it.
    pub packets_to_destination: u64,
    /// Bytes from who opened it.
    pub bytes_to_destination: u64,
    /// Packets back.
    pub packets_to_source: u64,
    /// Bytes back.
    pub bytes_to_source: u64,
}

/// What one read brought.
#[derive(Clone, Debug, Default)]
pub struct EndedFlows {
    /// With their final counts, in order; empty if nothing came in time. Told late.
    pub flows: Vec<KernelFlow>,
    /// True if some were lost: the last dump of flows has most of what they would have told.
    pub overrun: bool,
}

/// Reads which connections ended. Opened before the table is loaded, so that the kernel prepares each
/// connection for it.
#[derive(Debug)]
pub struct FlowReader {
    events: FlowEventReader,
    local: LocalAddresses,
}

impl FlowReader {
    pub(super) fn open(local: LocalAddresses) -> Result<Self, NetlinkError> {
        Ok(Self { events: FlowEventReader::open(READ_TIMEOUT)?, local })
    }

    /// Waits for some, not longer than the timeout. Only flows that the kernel passes by itself.
    pub fn read(&mut self) -> Result<EndedFlows, NetlinkError> {
        let read = self.events.read()?;
        let flows = read.ended.iter().filter_map(|flow| self.local.kernel_flow(flow));
        Ok(EndedFlows { flows: flows.collect(), overrun: read.overrun })
    }
}

/// The pod's own addresses: they tell which side of a connection is ours.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalAddresses(Arc<RwLock<BTreeSet<IpAddr>>>);

impl LocalAddresses {
    pub(super) fn replace(&self, addresses: Vec<IpAddr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = addresses.into_iter().collect();
    }

    /// The flow in our words; `None` for what is not the kernel's alone: inspected flows, the sidecar's own legs,
    /// and what stays within the pod.
    pub(super) fn kernel_flow(&self, flow: &Flow) -> Option<KernelFlow> {
        let mark = match flow.mark {
            0 => None,
            bits => Some(Mark::of(bits)?),
        };
        let by_kernel = match mark.map(|mark| mark.class) {
            None | Some(Class::KernelAllow) => true,
            Some(Class::Learn) => flow.status & connection_status::DESTINATION_NAT == 0,
            Some(_) => false,
        };
        let addresses = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (from_here, to_here) =
            (addresses.contains(&flow.original.source), addresses.contains(&flow.original.destination));
        let direction = match (from_here, to_here) {
            (true, false) => Direction::Egress,
            (false, true) => Direction::Ingress,
            (true, true) | (false, false) => return None,
        };
        let (peer, local) = match direction {
            Direction::Ingress => (flow.original.source, flow.original.destination),
            Direction::Egress => (flow.original.destination, flow.original.source),
        };
        by_kernel.then_some(KernelFlow {
            id: flow.id,
            direction,
            peer,
            local,
            protocol: L4Protocol(flow.original.protocol),
            port: flow.original.destination_port,
            mark,
            packets_to_destination: flow.packets_to_destination,
            bytes_to_destination: flow.bytes_to_destination,
            packets_to_source: flow.packets_to_source,
            bytes_to_source: flow.bytes_to_source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_netfilter::conntrack::Tuple;

    fn flow(source: &str, destination: &str, mark: u32, status: u32) -> Flow {
        let original = Tuple {
            source: source.parse().expect("address"),
            destination: destination.parse().expect("address"),
            protocol: 6,
            source_port: 40_000,
            destination_port: 5432,
        };
        Flow {
            original,
            reply: original,
            mark,
            status,
            id: 1,
            packets_to_destination: 1,
            bytes_to_destination: 60,
            packets_to_source: 2,
            bytes_to_source: 120,
        }
    }

    fn direction(source: &str, destination: &str, mark: u32, status: u32) -> Option<Direction> {
        let local = LocalAddresses::default();
        local.replace(vec!["10.0.0.7".parse().expect("address"), "127.0.0.1".parse().expect("address")]);
        local.kernel_flow(&flow(source, destination, mark, status)).map(|flow| flow.direction)
    }

    #[test]
    fn the_pods_side_tells_the_direction() {
        assert_eq!(direction("10.0.0.7", "10.0.0.9", 0x0011_0001, 8), Some(Direction::Egress));
        assert_eq!(direction("10.0.0.9", "10.0.0.7", 0x0011_0001, 8), Some(Direction::Ingress));
        assert_eq!(direction("10.0.0.7", "127.0.0.1", 0, 8), None);
    }

    #[test]
    fn inspected_flows_and_our_own_legs_are_left_to_the_sessions() {
        const REDIRECTED: u32 = connection_status::DESTINATION_NAT;
        let of_mark = |mark, status| direction("10.0.0.9", "10.0.0.7", mark, status);
        for mark in [0x0012_0001, 0x0014_0001, Mark::LOCAL_LEG, Mark::OWN] {
            assert_eq!(of_mark(mark, REDIRECTED), None, "{mark:#x}");
        }
        assert_eq!(of_mark(0x0015_0001, REDIRECTED), None);
        assert_eq!(of_mark(0x0015_0001, 0), Some(Direction::Ingress), "learned only, and nobody was there");
        assert_eq!(of_mark(0, 0), Some(Direction::Ingress), "cut off");
    }
}

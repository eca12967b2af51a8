//! What is open and has to be inspected from now on.
//!
//! NAT is decided on a conversation's first packet, so one that the kernel let pass cannot be redirected any more. TCP is
//! reset and opened anew: its next packet would do that, but whoever only waits for an answer sends none, so both ends are told
//! at once. UDP has no end, and a socket that asks again and again would keep its conversation, refused, for ever. So the
//! kernel forgets both: what comes next is captured, whatever port it comes from.

use super::{Class, Firewall, FirewallError, elements};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_netfilter::conntrack::Flow;
use bulkhead_netfilter::{NetlinkError, connection_status};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::Action;
use std::net::SocketAddr;

impl Firewall {
    /// Ends and forgets conversations that the program in force inspects and that are not captured. Of TCP there can be some
    /// where everything open is judged again, by a program that inspects what the one before did not.
    pub(super) fn end_uncaptured(&mut self, judge: &Judge, inspects_more: bool) -> Result<(), FirewallError> {
        let streams = inspects_more && elements::captures(judge);
        let datagrams = elements::inspects_datagrams(judge);
        if !streams && !datagrams {
            return Ok(());
        }
        for flow in self.conntrack.flows(0, 0)?.into_iter().filter(|flow| !is_captured(flow)) {
            match L4Protocol(flow.original.protocol) {
                L4Protocol::TCP if streams => self.end_stream(&flow, judge)?,
                L4Protocol::UDP if datagrams && self.is_inspected_datagram(&flow, judge) => {
                    self.conntrack.delete(&flow)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where the kernel cannot end the socket, the flow loses its mark: its next packet is refused.
    fn end_stream(&mut self, flow: &Flow, judge: &Judge) -> Result<(), FirewallError> {
        let Some(kernel_flow) = self.local.kernel_flow(flow) else { return Ok(()) };
        let (direction, peer) = (kernel_flow.direction, kernel_flow.peer);
        let places = [(peer, false), (peer, true)].into_iter().filter(|_| direction == Direction::Egress);
        let named = places.filter_map(|place| self.named.get(&place)).map(|named| named.class);
        let class = elements::class_of_stream(judge, direction, (peer, kernel_flow.port), named);
        let inspected = match class {
            Class::InspectTcp => self.options.hands_over && !self.options.fail_open,
            class => class == Class::Led,
        };
        match inspected.then(|| self.end_socket(flow, direction)) {
            Some(Ok(_)) => self.conntrack.delete(flow)?,
            Some(Err(_)) => self.conntrack.set_mark(flow, 0)?,
            None => {}
        }
        Ok(())
    }

    /// By the pod's own socket, as that sees both ends.
    fn end_socket(&mut self, flow: &Flow, direction: Direction) -> Result<bool, NetlinkError> {
        let tuple = match direction {
            Direction::Ingress => flow.reply,
            Direction::Egress => flow.original,
        };
        let local = SocketAddr::new(tuple.source, tuple.source_port);
        self.sockets.end(local, SocketAddr::new(tuple.destination, tuple.destination_port))
    }

    fn is_inspected_datagram(&self, flow: &Flow, judge: &Judge) -> bool {
        let Some(kernel_flow) = self.local.kernel_flow(flow) else { return false };
        let (direction, port) = (kernel_flow.direction, kernel_flow.port);
        match judge.action(direction, kernel_flow.peer, L4Protocol::UDP, port) {
            Action::Inspect { .. } => true,
            Action::Choose { .. } => false,
            Action::Learn(_) => direction == Direction::Egress && port == elements::NAME_SERVER_PORT,
            Action::Answer(_) => {
                direction == Direction::Egress && judge.has_names() && port == elements::NAME_SERVER_PORT
            }
        }
    }
}

fn is_captured(flow: &Flow) -> bool {
    flow.status & connection_status::DESTINATION_NAT != 0
}

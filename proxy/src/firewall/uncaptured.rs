//! What is open and has to be inspected from now on.
//!
//! NAT is decided on a conversation's first packet, so one that the kernel let pass cannot be redirected any more. TCP is
//! reset and opened anew: its next packet would do that, but whoever only waits for an answer sends none, so both ends are told
//! at once. UDP has no end, and a socket that asks again and again would keep its conversation, refused, for ever. So the
//! kernel forgets both: what comes next is captured, whatever port it comes from.

use super::{Firewall, FirewallError, Means, elements};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_netfilter::conntrack::Flow;
use bulkhead_netfilter::{NetlinkError, connection_status};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::Action;
use std::net::SocketAddr;

impl Firewall {
    /// Ends and forgets conversations that the program in force inspects and that are not captured. Of TCP there can be some
    /// after a reload only.
    pub(super) fn end_uncaptured(&mut self, judge: &Judge, means: Means) -> Result<(), FirewallError> {
        let inspects = self.options.hands_over && !self.options.fail_open && elements::captures(judge);
        let streams = means == Means::Reload && inspects;
        let datagrams = elements::inspects_datagrams(judge);
        if !streams && !datagrams {
            return Ok(());
        }
        for flow in self.conntrack.flows(0, 0)? {
            if datagrams && self.is_uncaptured_datagram(&flow, judge) {
                self.conntrack.delete(&flow)?;
            } else if streams && let Some(direction) = self.uncaptured_stream(&flow, judge) {
                // Where the kernel cannot, its next packet ends it.
                if self.end_stream(&flow, direction).is_ok() {
                    self.conntrack.delete(&flow)?;
                }
            }
        }
        Ok(())
    }

    /// Who opened it, if it is such a connection of TCP. What rules by name admit is left to its next packet.
    fn uncaptured_stream(&self, flow: &Flow, judge: &Judge) -> Option<Direction> {
        if flow.original.protocol != L4Protocol::TCP.0 || is_captured(flow) {
            return None;
        }
        let kernel_flow = self.local.kernel_flow(flow)?;
        let direction = kernel_flow.direction;
        let by_name = direction == Direction::Egress && judge.has_names();
        let inspected = elements::inspects_stream(judge, direction, kernel_flow.peer, kernel_flow.port);
        (inspected && !by_name).then_some(direction)
    }

    /// By the pod's own socket, as that sees both ends.
    fn end_stream(&mut self, flow: &Flow, direction: Direction) -> Result<bool, NetlinkError> {
        let tuple = match direction {
            Direction::Ingress => flow.reply,
            Direction::Egress => flow.original,
        };
        let local = SocketAddr::new(tuple.source, tuple.source_port);
        self.sockets.end(local, SocketAddr::new(tuple.destination, tuple.destination_port))
    }

    fn is_uncaptured_datagram(&self, flow: &Flow, judge: &Judge) -> bool {
        if flow.original.protocol != L4Protocol::UDP.0 || is_captured(flow) {
            return false;
        }
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

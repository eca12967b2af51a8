//! UDP that has to be inspected from now on.
//!
//! NAT is decided on a conversation's first packet, so one that the kernel let pass cannot be redirected any more. TCP is
//! reset and opened anew; UDP has no end, and a socket that asks again and again would keep its conversation, refused, for
//! ever. So the kernel forgets it: the next datagram begins another one, which is captured.

use super::{Firewall, FirewallError, elements};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_netfilter::connection_status;
use bulkhead_netfilter::conntrack::Flow;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::Action;

impl Firewall {
    /// Forgets conversations by UDP that the program in force inspects and that are not captured.
    pub(super) fn forget_uncaptured_datagrams(&mut self, judge: &Judge) -> Result<(), FirewallError> {
        if !elements::inspects_datagrams(judge) {
            return Ok(());
        }
        for flow in self.conntrack.flows(0, 0)? {
            if self.is_uncaptured(&flow, judge) {
                self.conntrack.delete(&flow)?;
            }
        }
        Ok(())
    }

    fn is_uncaptured(&self, flow: &Flow, judge: &Judge) -> bool {
        if flow.original.protocol != L4Protocol::UDP.0
            || flow.status & connection_status::DESTINATION_NAT != 0
        {
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

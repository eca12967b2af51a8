//! Numbered batches that wait for their acknowledgement.
//!
//! Pure. Numbers grow by one; what was acknowledged goes; after a new connection to the controller everything that
//! waits is sent again, in order. Numbers count within one run of the sidecar, which `Hello` names.

use crate::limits::{FLOW_BATCHES_IN_FLIGHT_MAX, FLOW_BATCHES_PENDING_MAX};
use bulkhead_api::{Flow, FlowBatch};
use std::collections::VecDeque;

/// The batches that wait.
pub(super) struct Batches {
    pending: VecDeque<FlowBatch>,
    next_sequence: u64,
    next_to_send: u64,
}

impl Default for Batches {
    fn default() -> Self {
        Self { pending: VecDeque::new(), next_sequence: 1, next_to_send: 1 }
    }
}

impl Batches {
    /// True if one more may be added.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < FLOW_BATCHES_PENDING_MAX
    }

    /// Batches that wait.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Adds a batch under the next number.
    pub(super) fn push(&mut self, flows: Vec<Flow>, dropped: u64) {
        debug_assert!(self.has_room());
        self.pending.push_back(FlowBatch { sequence: self.next_sequence, flows, dropped });
        self.next_sequence += 1;
    }

    /// The next batch to send on this connection, unless too many are on their way.
    pub(super) fn next(&mut self) -> Option<FlowBatch> {
        let first = self.pending.front()?.sequence;
        let in_flight = self.next_to_send.saturating_sub(first);
        if in_flight >= FLOW_BATCHES_IN_FLIGHT_MAX {
            return None;
        }
        let batch = self.pending.iter().find(|batch| batch.sequence >= self.next_to_send)?.clone();
        self.next_to_send = batch.sequence + 1;
        Some(batch)
    }

    /// Forgets what the controller has stored. Numbers that were never sent are not believed.
    pub(super) fn acknowledge(&mut self, sequence: u64) {
        if sequence >= self.next_to_send {
            return;
        }
        while self.pending.front().is_some_and(|batch| batch.sequence <= sequence) {
            self.pending.pop_front();
        }
    }

    /// A new connection: everything that waits has to be sent again.
    pub(super) fn rewind(&mut self) {
        self.next_to_send = self.pending.front().map_or(self.next_sequence, |batch| batch.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(count: usize) -> Batches {
        let mut batches = Batches::default();
        for _ in 0..count {
            batches.push(vec![], 1);
        }
        batches
    }

    fn sent(batches: &mut Batches) -> Vec<u64> {
        std::iter::from_fn(|| batches.next()).map(|batch| batch.sequence).collect()
    }

    #[test]
    fn batches_are_sent_in_order_and_no_more_than_the_window() {
        let mut batches = batches(6);
        assert_eq!(sent(&mut batches), [1, 2, 3, 4]);
        batches.acknowledge(2);
        assert_eq!(sent(&mut batches), [5, 6]);
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_after_a_reconnect() {
        let mut batches = batches(3);
        assert_eq!(sent(&mut batches), [1, 2, 3]);
        batches.acknowledge(1);
        batches.rewind();
        assert_eq!(sent(&mut batches), [2, 3]);
    }

    #[test]
    fn an_acknowledgement_of_something_never_sent_forgets_nothing() {
        let mut batches = batches(2);
        batches.acknowledge(u64::MAX);
        assert_eq!(sent(&mut batches), [1, 2]);
    }

    #[test]
    fn a_full_queue_says_so_until_one_is_acknowledged() {
        let mut batches = batches(FLOW_BATCHES_PENDING_MAX);
        assert!(!batches.has_room());
        batches.next();
        batches.acknowledge(1);
        assert!(batches.has_room());
    }
}

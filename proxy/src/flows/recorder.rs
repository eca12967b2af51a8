//! The one place where observations meet.
//!
//! A single lock around the sums: it is held for one hash look-up, and a sidecar has one or two workers. Metrics
//! are counted here too, so that whatever is reported is also measured.

use super::Observation;
use super::aggregate::{Added, Aggregate};
use super::batches::Batches;
use super::rules::Passed;
use crate::clock;
use crate::metrics::Metrics;
use bulkhead_api::FlowBatch;
use bulkhead_api::limits::BATCH_RECORDS_MAX;
use bulkhead_facts::Direction;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::Answer;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Takes observations from everybody and gives batches to the control task.
pub struct Recorder {
    aggregate: Mutex<Aggregate>,
    batches: Mutex<Batches>,
    metrics: Arc<Metrics>,
}

impl Recorder {
    /// An empty recorder.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { aggregate: Mutex::default(), batches: Mutex::default(), metrics }
    }

    /// Counts an observation that `judge` answered. Never waits for the controller.
    pub fn record(&self, judge: &Judge, observation: Observation) {
        self.record_at(judge, observation, clock::unix_ms());
    }

    /// [`record`](Self::record) for something seen at `now_ms` since the epoch.
    pub fn record_at(&self, judge: &Judge, observation: Observation, now_ms: u64) {
        let count = observation.count;
        self.measure(judge, &observation);
        let mut aggregate = lock(&self.aggregate);
        if aggregate.add(judge, observation, now_ms) == Added::NoRoom {
            aggregate.give_up(count);
            self.metrics.flows_dropped.inc();
        }
    }

    /// [`record_at`](Self::record_at) for what the caller can tell later; false if there is no room now.
    #[must_use]
    pub fn record_if_room(&self, judge: &Judge, observation: Observation, now_ms: u64) -> bool {
        let measured = observation.clone();
        let counted = lock(&self.aggregate).add(judge, observation, now_ms) == Added::Counted;
        if counted {
            self.measure(judge, &measured);
        }
        counted
    }

    /// Packets of connections that the kernel passes by itself; observations tell everything else of them.
    pub(super) fn packets(&self, judge: &Judge, direction: Direction, answer: Answer, packets: u64) {
        let passed = Passed { packets, ..Passed::default() };
        self.metrics.rules.add(judge, direction == Direction::Ingress, answer, passed);
    }

    fn measure(&self, judge: &Judge, observation: &Observation) {
        self.metrics.observe(observation);
        let bytes = observation.bytes_to_destination.saturating_add(observation.bytes_to_source);
        let passed = Passed { count: observation.count, packets: 0, bytes };
        let is_ingress = observation.direction == Direction::Ingress;
        self.metrics.rules.add(judge, is_ingress, observation.answers.enforced, passed);
    }

    /// Counts as lost what found no room and cannot wait any longer.
    pub fn give_up(&self, count: u64) {
        lock(&self.aggregate).give_up(count);
        self.metrics.flows_dropped.inc();
    }

    /// Makes a batch of what was recorded, if there is something and room for it.
    pub fn make_batch(&self) {
        let mut batches = lock(&self.batches);
        if !batches.has_room() {
            return;
        }
        let (flows, dropped) = {
            let mut aggregate = lock(&self.aggregate);
            (aggregate.take(BATCH_RECORDS_MAX), aggregate.take_dropped())
        };
        if !flows.is_empty() || dropped > 0 {
            batches.push(flows, dropped);
        }
        self.metrics.flow_batches_pending.set(i64::try_from(batches.len()).unwrap_or(i64::MAX));
    }

    /// The next batch for the present connection to the controller.
    pub fn next_batch(&self) -> Option<FlowBatch> {
        lock(&self.batches).next()
    }

    /// The controller has stored all batches up to `sequence`.
    pub fn acknowledge(&self, sequence: u64) {
        lock(&self.batches).acknowledge(sequence);
    }

    /// A new connection to the controller: what was not acknowledged goes out again.
    pub fn rewind(&self) {
        lock(&self.batches).rewind();
    }

    /// True while something waits to be sent or acknowledged.
    pub fn has_pending(&self) -> bool {
        lock(&self.batches).len() > 0 || lock(&self.aggregate).len() > 0
    }
}

/// The sums hold no invariant that a panic elsewhere could have broken half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What sessions count beside verdicts, for the whole process.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of this process's sessions.
pub static COUNTERS: Counters = Counters::new();

/// Counts since the start of the process.
#[derive(Debug)]
pub struct Counters {
    /// Destinations that could not be reached. Nobody was denied.
    pub dial_failures: AtomicU64,
    /// Endpoints of Services that refused, so that another one was tried.
    pub endpoints_refused: AtomicU64,
    /// Connections closed since a named time was over.
    pub timeouts: AtomicU64,
    /// Connections reset since the policy changed.
    pub resets_on_policy_change: AtomicU64,
    /// Requests ended alone since the policy changed, on connections that went on.
    pub streams_revoked_on_policy_change: AtomicU64,
    /// Heads and bodies refused before any rule was asked.
    pub refusals: AtomicU64,
    /// Bytes that went through the kernel without a copy.
    pub spliced_bytes: AtomicU64,
}

impl Counters {
    const fn new() -> Self {
        Self {
            dial_failures: AtomicU64::new(0),
            endpoints_refused: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            resets_on_policy_change: AtomicU64::new(0),
            streams_revoked_on_policy_change: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            spliced_bytes: AtomicU64::new(0),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

//! What is counted of questions to name servers. The metrics read it ([`crate::metrics`]).

use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of this process.
pub static DNS_COUNTERS: DnsCounters = DnsCounters::new();

/// Counts since the start of the process.
#[derive(Debug)]
pub struct DnsCounters {
    /// Questions that were let through.
    pub released: AtomicU64,
    /// Questions that were refused.
    pub refused: AtomicU64,
    /// Questions for an allowed name with an end of a search list, answered by ourselves that there is no such name.
    pub search_ends: AtomicU64,
    /// Answers that were not passed on: unreadable, or an address inside for a name outside.
    pub answers_withheld: AtomicU64,
    /// Messages that answered no open question: somebody guesses, or a name server is late.
    pub foreign_answers: AtomicU64,
    /// Questions that nobody answered in time or that could not be asked.
    pub unanswered: AtomicU64,
    /// Questions dropped since too many were open.
    pub no_room: AtomicU64,
    /// Answers replaced by a failure since their addresses could not be admitted.
    pub not_admitted: AtomicU64,
    /// Answers that keys for encrypted hellos were taken out of.
    pub hello_keys_taken_out: AtomicU64,
    /// Answers with such keys that are signed, and were passed on as they are.
    pub hello_keys_left: AtomicU64,
}

impl DnsCounters {
    const fn new() -> Self {
        Self {
            released: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            search_ends: AtomicU64::new(0),
            answers_withheld: AtomicU64::new(0),
            foreign_answers: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            no_room: AtomicU64::new(0),
            not_admitted: AtomicU64::new(0),
            hello_keys_taken_out: AtomicU64::new(0),
            hello_keys_left: AtomicU64::new(0),
        }
    }
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

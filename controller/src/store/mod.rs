//! What the controller remembers: flows, join tokens, proposals, audit, the revision.
//!
//! [`Store`] is the contract, blocking, for one caller at a time; [`sqlite`] keeps it. [`Records`] is what the
//! rest of the controller holds: it runs a store on threads of its own and answers to async callers.

mod edges;
mod records;
pub mod sqlite;
#[cfg(test)]
mod tests;

pub use records::{Records, RecordsThreads};

use crate::flows::{Edge, SeenEdge, Totals};
use bulkhead_api::rest::{AuditEntry, Proposal, ProposalState};

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database refused or cannot be reached.
    #[error("store: cannot {what}: {problem}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// What the database said.
        problem: String,
    },
    /// The database was written by a newer version.
    #[error("store: `{path}` has format {found}, this version reads up to {known}: run the newer controller")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// There is no room on the disk, or the store is as large as it may be.
    #[error("store: cannot {what}: there is no room: make room on the disk of the state folder")]
    Full {
        /// What was tried.
        what: &'static str,
    },
    /// The store's thread has ended.
    #[error("store: closed, the controller is shutting down")]
    Closed,
    /// The limit of join tokens is reached.
    #[error("store: too many unused join tokens: wait until some expire")]
    TooManyTokens,
}

/// Flows of one batch of one sidecar, with names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The pod whose sidecar sent it.
    pub pod_uid: String,
    /// The run of that sidecar.
    pub instance: String,
    /// Number of the batch within that run.
    pub sequence: u64,
    /// What was seen.
    pub edges: Vec<(Edge, Totals)>,
    /// Records that the sidecar had to give up.
    pub dropped: u64,
    /// When it came in.
    pub received_ms: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is stored now.
    Stored,
    /// It was stored before; nothing changed.
    Repeated,
}

/// Flow records of one pod that are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// The pod.
    pub pod_uid: String,
    /// Given up by its sidecar.
    pub by_sidecar: u64,
    /// Given up here, for want of room.
    pub by_controller: u64,
    /// When this was last heard of.
    pub last_ms: u64,
}

/// What the controller remembers. Every write is durable when the call returns.
pub trait Store: Send {
    /// Stores batches in one transaction: all or none. Batches that were stored before change nothing.
    fn append(&mut self, batches: &[Batch]) -> Result<Vec<Appended>, StoreError>;
    /// Hands over every edge seen on that day (days since the epoch) or later, one by one: the newest day first, in
    /// each day by pod and key.
    fn each_edge(&mut self, since_day: u64, take: &mut dyn FnMut(SeenEdge)) -> Result<(), StoreError>;
    /// Deletes edges, losses and batch numbers of days before that one.
    fn forget(&mut self, before_day: u64) -> Result<(), StoreError>;
    /// Lost records by pod.
    fn losses(&mut self) -> Result<Vec<Loss>, StoreError>;

    /// Remembers a join token by its fingerprint.
    fn add_token(
        &mut self,
        fingerprint: &str,
        uid: &str,
        expires_ms: u64,
        now_ms: u64,
    ) -> Result<(), StoreError>;
    /// The pod of a token that has not expired, used or not.
    fn token_pod(&mut self, fingerprint: &str, now_ms: u64) -> Result<Option<String>, StoreError>;
    /// Uses a token for a public key: true for the first key and, until it expires, for that key again.
    fn use_token(&mut self, fingerprint: &str, public_key: &str, now_ms: u64) -> Result<bool, StoreError>;

    /// Stores a proposal, which takes the place of open ones for the same collection; returns its identifier.
    fn add_proposal(&mut self, proposal: &Proposal) -> Result<u64, StoreError>;
    /// All proposals, oldest first.
    fn proposals(&mut self) -> Result<Vec<Proposal>, StoreError>;
    /// Notes what became of a proposal, with its line in the audit trail.
    fn decide_proposal(
        &mut self,
        id: u64,
        state: ProposalState,
        written_to: Option<&str>,
        audit: &AuditEntry,
    ) -> Result<(), StoreError>;

    /// Adds a line to the audit trail.
    fn add_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError>;
    /// The audit trail, oldest first.
    fn audit(&mut self) -> Result<Vec<AuditEntry>, StoreError>;

    /// The last revision that was given to a program.
    fn revision(&mut self) -> Result<u64, StoreError>;
    /// Remembers a revision before a program carries it.
    fn set_revision(&mut self, revision: u64) -> Result<(), StoreError>;
}

//! Limits of this crate, each with what happens when it is reached.

use std::time::Duration;

/// Bytes of one file of the policy or inventory folder that are read. Larger: the set is refused.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Files of one folder. More: the set is refused.
pub const FILES_MAX: usize = 10_000;
/// Bytes of all files of one folder. More: the set is refused.
pub const FOLDER_BYTES_MAX: u64 = 512 << 20;
/// Folders inside folders. Deeper: the set is refused.
pub const FOLDER_DEPTH_MAX: usize = 16;
/// How long a folder must be quiet before it is read.
pub const FOLDER_QUIET: Duration = Duration::from_millis(50);
/// A folder that is never quiet is read all the same after this time.
pub const FOLDER_BUSY_MAX: Duration = Duration::from_millis(500);
/// A folder is read again after this time even if nobody told of a change (network file systems do not).
pub const FOLDER_POLL: Duration = Duration::from_secs(10);

/// After a pod gave an address up, what another pod that has it may is held to what both may for this time: longer than a
/// program takes to every sidecar.
pub const ADDRESS_HOLD_DOWN: Duration = Duration::from_secs(5);
/// Addresses that pods gave up in that time. More: those that were given up first are held down no longer.
pub const ADDRESSES_GIVEN_UP_MAX: usize = 65_536;

/// TLS handshakes at the same time, per port. More: wait in the accept queue.
pub const HANDSHAKES_MAX: usize = 128;
/// TLS handshakes at the same time from one address. More: closed at once, the client comes again.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 32;
/// A handshake that takes longer is ended.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections from sidecars. More: wait in the accept queue.
pub const SIDECAR_CONNECTIONS_MAX: usize = 20_000;
/// Connections from one address (pods behind one node's address share it). More: closed at once.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;
/// Connections of the HTTP API. More: wait in the accept queue.
pub const HTTP_CONNECTIONS_MAX: usize = 512;
/// Connections of the metrics port. More: wait in the accept queue.
pub const METRICS_CONNECTIONS_MAX: usize = 32;
/// A request head that takes longer ends its connection.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request body of the HTTP API, checked before anything else. Larger: 413.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1024;
/// Items of one answer of the HTTP API. More: cut, and the answer says how many there are.
pub const HTTP_ITEMS_MAX: usize = 10_000;

/// Streams on one connection of a sidecar. More: refused by HTTP/2.
pub const SIDECAR_STREAMS_MAX: u32 = 8;
/// Messages to one sidecar that wait for it to read. More: its task waits; newer programs replace older ones.
pub const SIDECAR_QUEUE: usize = 4;
/// A stream must begin with its hello in this time.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A program that is neither acknowledged nor refused in this time ends the stream.
pub const PROGRAM_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Sidecars that are remembered after they went. More: the longest gone is forgotten.
pub const SIDECARS_REMEMBERED_MAX: usize = 50_000;
/// A join token is good for this time unless the flag says otherwise.
pub const JOIN_TOKEN_MINUTES: u64 = 15;
/// Join tokens that are neither used nor expired. More: refused, 429.
pub const JOIN_TOKENS_MAX: usize = 100_000;
/// Bytes of a pod's UID. Longer: refused.
pub const UID_BYTES_MAX: usize = 64;

/// Distinct edges inside of the cluster kept per pod and day. More: counted as dropped, which is an incident of its own.
pub const EDGES_PER_POD_AND_DAY_MAX: usize = 20_000;
/// Distinct edges from or to outside kept per pod and day. More: one edge per network (/16, /48) and port.
pub const EDGES_OUTSIDE_PER_POD_AND_DAY_MAX: usize = 5_000;
/// Distinct edges of networks kept per pod and day. More: counted as dropped, which is an incident of its own.
pub const NETWORKS_PER_POD_AND_DAY_MAX: usize = 5_000;
/// How long before its arrival a flow may have been seen. Longer: its times are held to this.
pub const FLOW_AGE_MAX: Duration = Duration::from_secs(2 * 86_400);
/// Distinct edges in one report, whatever their number of rows. More: the oldest are left out; answer and log say so.
pub const FOLD_EDGES_MAX: usize = 400_000;
/// Distinct edges in one report that one pod brought in, those inside and those outside each. More: its oldest are left out; answer and log
/// say so.
pub const FOLD_EDGES_PER_POD_MAX: usize = 20_000;
/// Reports that wait while one is made. More: refused, 429.
pub const REPORTS_WAITING_MAX: usize = 8;
/// When somebody who was refused with 429 is told to come again.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Days that edges, losses and batch numbers are kept.
pub const EDGE_DAYS_MAX: u64 = 35;
/// Bytes of the store's file up to which new edges are added. Reached: they are counted as dropped; what is left is for
/// revisions, tokens, proposals and the audit trail, so that policy goes on.
pub const STORE_FLOW_BYTES_MAX: u64 = 15 << 30;
/// Bytes of the store's file. Reached: writing fails; flows are acknowledged and counted as dropped.
pub const STORE_BYTES_MAX: u64 = 16 << 30;
/// Entries of the audit trail. More: the oldest are deleted.
pub const AUDIT_ENTRIES_MAX: u64 = 100_000;
/// Flow batches of one transaction.
pub const BATCHES_PER_COMMIT_MAX: usize = 64;
/// Work that waits for the store's writer. More: the senders wait.
pub const STORE_QUEUE: usize = 256;
/// Runs of one sidecar whose batch numbers are remembered. More: the oldest is forgotten.
pub const INSTANCES_PER_POD_MAX: u64 = 8;
/// Proposals kept per collection. More: the oldest are deleted.
pub const PROPOSALS_PER_COLLECTION_MAX: u64 = 100;

/// Distinct ports tried on one target that make a port scan.
pub const SCAN_PORTS_MIN: usize = 5;
/// Distinct targets tried that make a sweep.
pub const SWEEP_TARGETS_MIN: usize = 5;
/// Targets listed per incident. More: counted.
pub const INCIDENT_TARGETS_MAX: usize = 64;
/// Attempts listed per incident. More: counted.
pub const INCIDENT_ATTEMPTS_MAX: usize = 64;

/// On shutdown, open connections have this long to end.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

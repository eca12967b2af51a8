//! Limits of the sidecar process, each with what happens when it is reached.
//!
//! What a single connection may hold is limited where it is inspected (`bulkhead-inspect`, `session`);
//! here is what the process as a whole may hold.

use std::time::Duration;

/// Connections through the inspector at one time; fewer where [`DESCRIPTORS_PER_CONNECTION`] and the limit of open
/// files give fewer. More: the new one is reset, counted as `limit`.
pub const CONNECTIONS_OPEN_MAX: usize = 8_192;
/// Descriptors of a connection: two sockets, two pipes.
pub const DESCRIPTORS_PER_CONNECTION: u64 = 6;
/// Share of all connections that one peer may hold of those that can be denied. More: its new one is reset.
pub const PEER_SHARE: usize = 8;
/// Share of all connections that is kept for each direction. The other one's new connection is reset instead.
pub const DIRECTION_RESERVE_SHARE: usize = 4;
/// Share of connections below which there is no room to learn: what is inspected only to learn then passes by itself.
pub const CROWDED_SHARE: usize = 8;
/// Connections not accepted within one pulse. As many or more: as above.
pub const ACCEPT_FAILURES_MAX: usize = 3;

/// Distinct flows aggregated before they are made into a batch. More: the flow is not reported, but counted as
/// dropped; its verdict stands either way.
pub const FLOW_ENTRIES_MAX: usize = 4_096;
/// Of these, those that hold a request or a report identifier. More: the edge and its answer are counted without.
pub const FLOW_REQUEST_ENTRIES_MAX: usize = FLOW_ENTRIES_MAX / 2;
/// Room of these that only denials without a request may use, so that nobody hides them by a flood of allowed flows.
pub const FLOW_ENTRIES_FOR_DENIALS: usize = FLOW_ENTRIES_MAX / 4;
/// Distinct hosts, distinct paths, and distinct requests of other protocols, per direction, peer and port between two batches.
/// More: host and path become `*`, such a request one of the others.
pub const FLOW_NAMES_PER_EDGE_MAX: usize = 64;
/// Bytes of a path in a report. Longer: cut, which may join flows that differ later in their paths.
pub const FLOW_PATH_BYTES_MAX: usize = 1_024;
/// Bytes of a method in a report. Longer: cut.
pub const FLOW_METHOD_BYTES_MAX: usize = 64;
/// Batches waiting for their acknowledgement. More: no batch is made, and flows go on being aggregated.
pub const FLOW_BATCHES_PENDING_MAX: usize = 16;
/// Batches sent and not yet acknowledged. More: the next one waits.
pub const FLOW_BATCHES_IN_FLIGHT_MAX: u64 = 4;
/// Flows with a report identifier of their own between two batches. More: they are reported without it.
pub const FLOW_REPORT_IDS_MAX: usize = 256;

/// Connections of the kernel tier whose byte counts are followed. More: bytes are counted at their end only.
pub const KERNEL_FLOWS_TRACKED_MAX: usize = 16_384;
/// Series of rules that are told apart by name. More: counted together as `others`.
pub const RULE_SERIES_MAX: usize = 512;
/// Named rules of the kernel table whose counters are told; it has some thirty. More: those of somebody else are not.
pub const TABLE_RULES_MAX: usize = 64;
/// Details of denied packets that wait for the exact counts. More: the detail is left out.
pub const DENIAL_DETAILS_MAX: usize = 1_024;

/// Denied edges that found no room in the report and are told later. More: counted as dropped.
pub const DENIED_EDGES_WAITING_MAX: usize = 16_384;

/// Commands waiting for the enforcement thread: programs, and answered names. More: the program is refused, the name is
/// answered with a failure.
pub const ENFORCEMENT_COMMANDS_MAX: usize = 256;

/// Bytes of a file in the state directory. More: the file is discarded.
pub const STATE_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of the token file. More: it is refused.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the file with the controller's CA. More: it is refused.
pub const CA_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Messages waiting to be sent to the controller. More: flows and status wait, results are waited for.
pub const CONTROL_MESSAGES_MAX: usize = 16;

/// Connections to the administrative port at one time. More: the new one waits to be accepted.
pub const ADMIN_CONNECTIONS_MAX: usize = 16;
/// Bytes of the head of an administrative request. More: refused with 431.
pub const ADMIN_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Life of a connection to the administrative port. Longer: it is closed.
pub const ADMIN_CONNECTION_LIFE_MAX: Duration = Duration::from_secs(60);

/// Addresses that a flag may list.
pub const FLAG_ADDRESSES_MAX: usize = 64;

/// Stack of each thread of ours; the deepest calls are those of TLS.
pub const THREAD_STACK_BYTES: usize = 512 * 1024;

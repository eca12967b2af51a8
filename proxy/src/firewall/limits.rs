//! Limits of the kernel tier, each with what happens when it is reached.

use std::time::Duration;

/// Spans and boxes of one program. More: the program is refused, the one in force stays.
pub const PROGRAM_ENTRIES_MAX: usize = 65_536;
/// Elements that a change of elements may touch, so that it is one small transaction in any namespace. More: the program
/// is reloaded.
pub const CHANGED_ELEMENTS_MAX: usize = 512;
/// Denied edges counted per direction and family. More: further edges are only counted together, as an incident
/// of its own ([`super::Denials::overflowed`]).
pub const DENIED_EDGES_MAX: u32 = 4_096;
/// Time that a denied edge is remembered after its last packet; long enough for a sidecar that comes back.
pub const DENIED_EDGE_LIFE: Duration = Duration::from_secs(120);
/// Ports whose sockets are bound to a device, which learning leaves alone. More: connections from those beyond time out while
/// the pod is learned from.
pub const BOUND_SENDERS_MAX: u32 = 1_024;
/// Time that such a port is remembered after its last packet that could not be captured.
pub const BOUND_SENDER_LIFE: Duration = Duration::from_secs(60);
/// Time that flows are redirected for learning after the last heartbeat.
pub const HEARTBEAT_LIFE: Duration = Duration::from_millis(1_500);
/// Denied packets logged per second and direction. More: only counted.
pub const LOGGED_PACKETS_PER_SECOND: u64 = 50;
/// Denied packets logged at once after a quiet time.
pub const LOGGED_PACKETS_BURST: u32 = 100;
/// Resets per second sent to peers whose flows are cut, and by sockets whose flows were. More: packets are dropped without.
pub const RESETS_PER_SECOND: u64 = 200;
/// Programs kept for flows that they admitted. More: the oldest is forgotten and its flows are reported
/// without their rule.
pub const PROGRAMS_REMEMBERED_MAX: usize = 16;
/// Addresses of one family that names lead to. The sidecar keeps to fewer ([`crate::dns::limits`]).
pub const NAMED_ADDRESSES_MAX: u32 = 8_192;
/// Time that such an address stays after the sidecar should have removed it.
pub const NAMED_ADDRESS_MARGIN: Duration = Duration::from_secs(60);
/// Devices whose frames are guarded. More: an error at start.
pub const DEVICES_MAX: usize = 64;
/// Queues of one device that are kept from others. More: those beyond stay open, which no virtual device has.
pub const DEVICE_QUEUES_MAX: usize = 1_024;
/// Wait of a reader that has nothing to read, after which its thread may look whether it shall end.
pub const READ_TIMEOUT: Duration = Duration::from_millis(500);

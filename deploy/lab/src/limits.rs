//! Everything in the lab that could grow, with what happens at the limit.

use std::time::Duration;

/// Pods and outside hosts of one lab. More: the lab file is refused (a machine runs out of processes first).
pub const PLACES_MAX: usize = 200;

/// Size of a lab file. Larger: refused before it is parsed.
pub const LAB_FILE_BYTES_MAX: usize = 256 * 1024;

/// Output kept of one program that was run in a pod. The rest is read and thrown away.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Size of an answer of the controller. Larger: an error.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How long the controller may take until it answers. Then the lab ends.
pub const CONTROLLER_START: Duration = Duration::from_secs(15);

/// How long all sidecars may take until they are in a mode. Then the lab ends.
pub const SIDECARS_START: Duration = Duration::from_secs(30);

/// How long the program of a place may take until it is ready. Then the lab ends.
pub const APP_START: Duration = Duration::from_secs(30);

/// How long one run of legitimate traffic may take. Then it is ended and counts as failed.
pub const TRAFFIC_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections of people to the controller's API that the lab carries at once. More wait.
pub const FORWARDED_CONNECTIONS_MAX: usize = 64;

/// How long one request to the controller may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that a demo service serves at once. More wait in the kernel's backlog.
pub const DEMO_CONNECTIONS: usize = 1024;

/// Idle connections that a demo program keeps to one peer. More are closed.
pub const DEMO_KEPT_CONNECTIONS_PER_PEER: usize = 8;

/// Size of a request's body at a demo service. Larger: answered 400.
pub const DEMO_BODY_BYTES: usize = 64 * 1024;

/// Size of a line or datagram that a demo program reads. Longer: it is no answer.
pub const DEMO_LINE_BYTES: usize = 2048;

/// Bytes that a datastore reads from one connection. Then it closes.
pub const DEMO_STREAM_BYTES: u64 = 16 * 1024 * 1024;

/// Times a datagram is sent until an answer comes. Then the call has failed.
pub const DEMO_DATAGRAM_TRIES: usize = 4;

/// Characters of a refused call's answer that are shown. The rest is cut.
pub const DEMO_DETAIL_CHARACTERS: usize = 300;

/// Calls that a demo client has under way. At the limit it starts none until one ends.
pub const DEMO_CALLS_UNDER_WAY: usize = 64;

/// Lines with details of failures that a demo client prints. Further failures are only counted.
pub const DEMO_FAILURE_LINES: u64 = 200;

/// Calls in the batch that SIGUSR1 asks of a demo client.
pub const DEMO_SIGNAL_BATCH: u64 = 100;

/// Commands waiting for a demo client. The sender waits.
pub const DEMO_EVENTS: usize = 16;

/// Arrivals that wait for a canary to report them. At the limit it reads no further packets; the kernel counts losses.
pub const CANARY_EVENTS: usize = 4096;

/// Arrivals that a canary remembers, so as to report each once. Beyond, it forgets all and may repeat itself.
pub const CANARY_REMEMBERED: usize = 65_536;

/// Receive buffer of each socket of a canary. Beyond, the kernel drops and the canary reports the loss.
pub const CANARY_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a packet or connection that a canary looks at. No packet is larger.
pub const CANARY_PACKET_BYTES: usize = 65_536;

/// Tokens that a canary reports of one packet. No attack sends more than one.
pub const CANARY_TOKENS_PER_PACKET: usize = 4;

/// Connections that a canary reads at once. More wait in the kernel's backlog.
pub const CANARY_CONNECTIONS: usize = 256;

/// How long a canary reads one connection.
pub const CANARY_READ: Duration = Duration::from_secs(3);

/// How often a canary asks the kernel for losses.
pub const CANARY_LOSS_CHECK: Duration = Duration::from_millis(250);

/// Attacks under way at once in a campaign. The rest wait.
pub const ATTACKS_AT_ONCE: usize = 8;

/// How long one attack may take before it is killed.
pub const ATTACK_PATIENCE: Duration = Duration::from_secs(10);

/// How long a canary may take to start. Longer: the campaign ends with an error.
pub const CANARY_START: Duration = Duration::from_secs(10);

/// How long a campaign waits, after its last attack, for what is still on its way.
pub const CANARY_SETTLE: Duration = Duration::from_millis(750);

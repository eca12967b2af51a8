//! Limits of one connection through the inspector, each with what happens when it is reached.
//!
//! What a parser may hold is limited in `bulkhead_inspect::limits`, what the process may hold in [`crate::limits`].

use std::time::Duration;

/// Bytes read from a client and not yet sent on; a request head has to fit. More: reading waits.
pub const CLIENT_BUFFER_BYTES: usize = 16 * 1024;
/// Bytes that buffers of the whole process may grow by, for messages that are held in full to judge them, each up to its own
/// limit. More: such a message is refused; where it is only observed, it is not read on.
pub const GROWN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes read from a server and not yet sent on. More: reading waits.
pub const SERVER_BUFFER_BYTES: usize = 128 * 1024;
/// Bytes that were rewritten and not yet sent. More: nothing further is judged until they have left.
pub const REWRITTEN_BYTES_MAX: usize = 32 * 1024;
/// Bytes of replies of our own that wait for the client. More: the next request that may be denied waits.
pub const REPLIES_BYTES_MAX: usize = 2 * 1024;
/// Empty buffers of one size that a thread keeps. More: freed.
pub const BUFFERS_POOLED_MAX: usize = 16;
/// Bytes kept of requests that are not answered yet, to judge them again when the policy changes. More: a request is not
/// kept, and such a change resets the connection if it can deny anything.
pub const REQUESTS_IN_FLIGHT_BYTES_MAX: usize = 48 * 1024;
/// The same for a client that has sent little; and how many times the bytes that one has sent may be kept until then. Where
/// a stream can be ended alone, it is that which is reset.
pub const REQUESTS_IN_FLIGHT_BYTES_MIN: usize = 3 * 1024;
/// See [`REQUESTS_IN_FLIGHT_BYTES_MIN`].
pub const REQUESTS_IN_FLIGHT_TIMES: usize = 3;
/// Bytes kept of the request that was answered last, to know the next one again while the connection is idle. More: forgotten.
pub const RECENT_BYTES_MAX: usize = 768;
/// Subscriptions kept of one connection, to judge them again when the policy changes. More: such a change resets the
/// connection if it can deny anything.
pub const LASTING_REQUESTS_MAX: usize = 64;
/// Kinds of requests that a connection keeps to tell the next ones alike. More: the oldest gives way and is made anew.
pub const KINDS_KEPT_MAX: usize = 8;
/// Bytes of a command, user, database or topic in a report. Longer: the request is not told apart from others.
pub const KIND_TEXT_BYTES_MAX: usize = 255;
/// A body or tunnel of so many bytes goes through the kernel instead of a buffer; what a buffer takes at once costs
/// less in it (`docs/decisions/0009-bodies.md`).
pub const SPLICE_BYTES_MIN: u64 = 128 * 1024;
/// Bytes of a pipe that bodies go through.
pub const PIPE_BYTES: usize = 256 * 1024;
/// Pipes in use by the whole process, each of which may hold [`PIPE_BYTES`]: 64 MiB, what the kernel gives one
/// user before it makes pipes small. More: bytes are copied.
pub const PIPES_IN_USE_MAX: usize = 256;
/// Empty pipes that a thread keeps. More: closed.
pub const PIPES_POOLED_MAX: usize = 8;

/// Time to reach the destination. Longer: the client is reset, as if nobody listened.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Endpoints of a Service that are tried for one connection, all within [`DIAL_TIMEOUT`]. If all of these refuse, the client
/// is reset.
pub const ENDPOINT_TRIES_MAX: usize = 16;
/// Time in which neither side says anything at all on a new connection, or the server does not begin to speak HTTP/2 though
/// its client does, under the gate. Longer: closed, so that nobody holds connections with nothing.
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time from the first byte of a request head to its last, under the gate. Longer: closed.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which nothing moves though a body or a response wants to, under the gate. Longer: reset.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(300);
/// Time in which a client brings [`PACE_BYTES_MIN`] of a request's body of known length, or takes as many of what is
/// there for it; for those who connect to the workload, under the gate. Longer: reset, so that nobody holds the app
/// with a trickle.
pub const PACE_TIMEOUT: Duration = Duration::from_secs(60);
/// See [`PACE_TIMEOUT`].
pub const PACE_BYTES_MIN: u64 = 1024;
/// Time in which nothing moves on a connection of HTTP with no request open, under the gate. Longer: closed. What awaits an
/// answer, sessions of other protocols, tunnels and observed connections have no such limit: they live as long as without
/// us, and keep-alive probes find dead peers.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Time in which a client may take our last words before the connection is closed for good.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a client that are read and dropped after our last words, so that a reset does not overtake them.
pub const LINGER_BYTES_MAX: usize = 64 * 1024;

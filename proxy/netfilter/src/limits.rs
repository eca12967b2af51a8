//! Limits of this crate, each with what happens when it is reached.

use std::time::Duration;

/// Time to wait for the kernel's answer to a request. Longer: the request fails as timed out; whether a
/// transaction was committed is then unknown and the caller dumps what is there.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes received in one call: larger than any datagram the kernel builds. Longer: an error, nothing is cut.
pub const DATAGRAM_BYTES_MAX: usize = 128 * 1024;
/// Bytes of one transaction where the send buffer cannot be enlarged beyond the system's limit (a user
/// namespace). [`crate::Batch::split`] divides what is larger.
pub const TRANSACTION_BYTES_DEFAULT: usize = 128 * 1024;
/// Send buffer asked for; holds a transaction of about 100,000 elements.
pub const SEND_BUFFER_BYTES: i32 = 32 << 20;
/// Receive buffer asked for by the event readers. Overrun: events are lost, counted and reported.
pub const RECEIVE_BUFFER_BYTES: i32 = 8 << 20;
/// Time that the reader of connection events lets more of them come, once there is one.
pub const EVENTS_GATHERED_FOR: Duration = Duration::from_millis(20);
/// Events taken in one read. More: the next read has them.
pub const EVENTS_PER_READ_MAX: usize = 4_096;
/// Bytes of element attributes in one message; an attribute's length field ends at 65,535.
pub const ELEMENT_BYTES_PER_MESSAGE: usize = 48 * 1024;
/// Bytes of a logged packet that the kernel copies: enough for IPv6 with extension headers and TCP.
pub const LOGGED_BYTES_MAX: u32 = 128;
/// IPv6 extension headers followed in a logged packet. More: the packet is reported without ports.
pub const EXTENSION_HEADERS_MAX: usize = 8;
/// Times a list is asked for again because a change disturbed it. More: what came last is taken.
pub const DUMP_ATTEMPTS: u32 = 10;

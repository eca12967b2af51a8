//! Limits of questions to name servers and of what is learned from answers, each with what happens when it is reached.

use std::time::Duration;

/// Questions by UDP of one direction that wait for their answer, so that nobody who asks the workload keeps it from asking.
/// More: the new one is dropped unanswered; whoever asked tries again.
pub const QUESTIONS_OPEN_MAX: usize = 512;
/// Those of one peer among them, of those who ask the workload. More: as above.
pub const QUESTIONS_PER_PEER_MAX: usize = QUESTIONS_OPEN_MAX / 4;
/// Questions on one TCP connection that wait for their answer. More: reading waits.
pub const STREAM_QUESTIONS_MAX: usize = 32;
/// Bytes of a captured question. Longer: cut, and so malformed.
pub const QUESTION_BYTES_MAX: usize = 4 * 1024;
/// Bytes of an answer by UDP, where its asker names no limit. Longer: cut, and so malformed.
pub const ANSWER_BYTES_MAX: usize = 65_535;
/// Bytes of an answer by UDP that are taken whatever its asker says.
pub const ANSWER_BYTES_MIN: usize = 1_232;
/// Time that a name server has for an answer by UDP. Longer: the question is given up; whoever asked has done so before.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which nothing moves on a TCP connection, or an end takes nothing of what is sent to it. Longer: closed (RFC 7766
/// section 6.2.3 has some seconds), or reset.
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Time that the kernel's table has to take an address before its name is answered. Longer: the answer is a failure.
pub const LEARNING_TIMEOUT: Duration = Duration::from_secs(2);
/// Ends that are taken off a name to see whether a list of search domains has added them. More: the name is refused.
pub const SEARCH_ENDS_MAX: usize = 8;

/// Addresses that names lead to. More: the one whose time is over first is given up for the new one, and counted.
pub const ADDRESSES_MAX: usize = 4_096;
/// Names that lead to one address. More: the one whose time is over first is given up for the new one, and counted.
pub const NAMES_PER_ADDRESS_MAX: usize = 32;
/// Addresses of one name, over all its answers. More: as above.
pub const ADDRESSES_PER_NAME_MAX: usize = 256;
/// Time that an address is kept at most, whatever its answer says. After it a client that never asks again is denied.
pub const TIME_TO_LIVE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Time that an address is kept beyond what its answer says: a client may take some time from answer to connection.
pub const GRACE: Duration = Duration::from_secs(30);
/// Bytes of the file that keeps addresses over a restart. More: what goes beyond is not written; a file
/// that is larger all the same is discarded.
pub const NAMES_FILE_BYTES_MAX: u64 = 8 << 20;

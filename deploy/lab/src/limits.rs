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

/// How long one request to the controller may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

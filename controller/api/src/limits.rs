//! Limits of this crate, each with what happens when it is reached.

/// Bytes of one message to a sidecar, which may hold a whole program. Larger: not sent, the sidecar keeps its
/// last good program and the controller reports it.
pub const MESSAGE_TO_SIDECAR_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one message from a sidecar: room for a full batch of the longest records. Larger: the stream ends.
pub const MESSAGE_FROM_SIDECAR_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Flow records of one batch. More: the batch is refused and the stream ends; a sidecar sends more batches.
pub const BATCH_RECORDS_MAX: usize = 1024;
/// Bytes of one text field of a flow record. Longer: the batch is refused; a sidecar cuts paths before.
pub const FLOW_TEXT_BYTES_MAX: usize = 2048;
/// Topics of one flow record. More: the batch is refused; a sidecar does not tell requests with more of them apart.
pub const FLOW_TOPICS_MAX: usize = 16;
/// Bytes of any other text field (names, versions). Longer: the message is refused.
pub const NAME_BYTES_MAX: usize = 512;
/// Bytes of an error text in a nack. Longer: the message is refused; a sidecar cuts it before.
pub const ERROR_BYTES_MAX: usize = 4096;

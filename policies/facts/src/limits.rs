//! Limits of this crate, each with what happens when it is reached.

/// Bytes of a host name (RFC 1035 section 2.3.4 allows 255 octets on the wire, 253 as text). Longer: refused.
pub const HOST_BYTES_MAX: usize = 253;
/// Bytes of one label of a host name (RFC 1035 section 2.3.4). Longer: refused.
pub const HOST_LABEL_BYTES_MAX: usize = 63;
/// Bytes of a path without its query. Longer: refused.
pub const PATH_BYTES_MAX: usize = 8 * 1024;
/// Segments of a path template. More: refused.
pub const TEMPLATE_SEGMENTS_MAX: usize = 64;

//! Limits of this crate, each with what happens when it is reached.

/// Bytes of a head, request or response, with its last empty line. More: refused, a client is told 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a head. More: refused, a client is told 431.
pub const HEAD_FIELDS_MAX: usize = 100;
/// Header fields held without allocation; more move to the heap.
pub const HEAD_FIELDS_INLINE: usize = 24;
/// Bytes of a method. Longer: refused as malformed.
pub const METHOD_BYTES_MAX: usize = 32;
/// Digits of a `Content-Length`. More: refused as malformed; 18 digits always fit 64 bits.
pub const CONTENT_LENGTH_DIGITS_MAX: usize = 18;
/// Hexadecimal digits of a chunk size. More: the connection is closed; 15 digits always fit 64 bits.
pub const CHUNK_SIZE_DIGITS_MAX: u8 = 15;
/// Bytes of a chunk extension. More: the connection is closed.
pub const CHUNK_EXTENSION_BYTES_MAX: u16 = 256;
/// Bytes of all chunk extensions of one body. More: the connection is closed.
pub const CHUNK_EXTENSIONS_BYTES_MAX: u16 = 4 * 1024;
/// Bytes of all trailers of one body. More: the connection is closed.
pub const TRAILER_BYTES_MAX: u16 = 4 * 1024;
/// Requests forwarded and not yet answered on one connection. More: further input waits.
pub const REQUESTS_OUTSTANDING_MAX: usize = 64;
/// Interim responses (1xx) to one request. More: the connection is closed.
pub const INTERIM_RESPONSES_MAX: u8 = 32;
/// First bytes after which a protocol must be told. More: it is unknown.
pub const DETECTION_BYTES_MAX: usize = 64;
/// Segments that a path in a report keeps. More: the rest becomes `**`.
pub const SIGNATURE_SEGMENTS_MAX: usize = 12;
/// Bytes that a path in a report keeps. More: the rest becomes `**`.
pub const SIGNATURE_BYTES_MAX: usize = 160;
/// Bytes of a method in a report. Longer, or none that is registered: `OTHER`.
pub const SIGNATURE_METHOD_BYTES_MAX: usize = 20;

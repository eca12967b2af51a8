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

/// Bytes of a DNS name on the wire (RFC 1035 section 2.3.4). Longer: the message is malformed.
pub const DNS_NAME_BYTES_MAX: usize = 255;
/// Pointers in one DNS name. More: the message is malformed; a name has at most 127 labels.
pub const DNS_POINTERS_MAX: usize = 64;
/// Bytes of options in a DNS question. More: refused as malformed.
pub const DNS_OPTIONS_BYTES_MAX: usize = 512;
/// Bytes of an answer that every asker takes in one datagram.
pub const DNS_UDP_BYTES_MIN: u16 = 512;
/// Records of one DNS answer. More: it is not passed on where questions are judged.
pub const DNS_RECORDS_MAX: usize = 2_048;
/// Aliases from the name that was asked for to its addresses. More: no address counts.
pub const DNS_ALIASES_MAX: usize = 16;
/// Addresses that count of one DNS answer. More: those beyond do not.
pub const DNS_ADDRESSES_MAX: usize = 64;
/// Bytes of text that a refused asker is told; with it the refusal fits into 512 bytes.
pub const DNS_REFUSAL_TEXT_BYTES_MAX: usize = 200;

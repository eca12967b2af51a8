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
pub const REQUESTS_OUTSTANDING_MAX: usize = 24;
/// Interim responses (1xx) to one request. More: the connection is closed.
pub const INTERIM_RESPONSES_MAX: u8 = 32;
/// First bytes after which a protocol must be told. More: it is unknown.
pub const DETECTION_BYTES_MAX: usize = 64;
/// Bytes of a header of the PROXY protocol. More: refused; without values that nobody needs it has at most 536.
pub const PROXY_HEADER_BYTES_MAX: usize = 2 * 1024;
/// Segments that a path in a report keeps. More: the rest becomes `**`.
pub const SIGNATURE_SEGMENTS_MAX: usize = 12;
/// Bytes that a path in a report keeps. More: the rest becomes `**`.
pub const SIGNATURE_BYTES_MAX: usize = 160;
/// Bytes of a method in a report. Longer, or none that is registered: `OTHER`.
pub const SIGNATURE_METHOD_BYTES_MAX: usize = 20;
/// Bytes that the begin of a key has in a report. Longer: the key is told by nothing.
pub const KEY_PREFIX_BYTES_MAX: usize = 40;

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

/// Bytes of a TLS client hello with its records. More: refused.
pub const TLS_HELLO_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a client's HPACK table under the gate, where the server's setting is clamped to it.
pub const HEADER_TABLE_BYTES_MAX: usize = 4 * 1024;
/// The same under the tee, where the server's setting passes. A client that uses more: nobody reads on.
pub const HEADER_TABLE_OBSERVED_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a header block of HTTP/2 before it is decoded. More: the connection is closed.
pub const HEADER_BLOCK_BYTES_MAX: usize = 64 * 1024;
/// CONTINUATION frames of a header block. More: the connection is closed.
pub const CONTINUATION_FRAMES_MAX: u8 = 8;
/// Bytes of the names and values of a header list of HTTP/2. More: the connection is closed.
pub const HEADER_LIST_BYTES_MAX: usize = 64 * 1024;
/// Fields of a header list of HTTP/2. More: the connection is closed.
pub const HEADER_LIST_FIELDS_MAX: usize = 256;
/// Open streams of an HTTP/2 connection under the gate. More: refused, a client may try them again.
pub const STREAMS_MAX: usize = 100;
/// Streams that were reset and on which a client may still send. On older ones: the connection is closed.
pub const STREAMS_RESET_REMEMBERED: usize = 128;
/// Streams that were answered here in full before their request was. More: the oldest is reset at once, others as soon as
/// their client goes on.
pub const STREAMS_ANSWERED_MAX: usize = 32;
/// Streams that ended and of which that is known. Older ones count as never opened.
pub const STREAMS_ENDED_REMEMBERED: usize = 8;
/// Bytes of a control frame of HTTP/2: SETTINGS, PING, RST_STREAM, PRIORITY, WINDOW_UPDATE. More: the connection is closed.
pub const CONTROL_FRAME_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the client that have to be there together for HTTP/2: a control frame, or the header of a frame.
pub const FRAME_SHOWN_BYTES_MAX: usize = 8 * 1024;
/// Bytes of our own that wait for the end of a frame of the server. More: the client is not read.
pub const INSERTED_BYTES_MAX: usize = 8 * 1024;
/// SETTINGS of a server that wait for the client's acknowledgement. More: the connection is closed.
pub const SETTINGS_UNACKNOWLEDGED_MAX: usize = 32;
/// Time over which resets and faults of streams are counted.
pub const RESET_INTERVAL_MS: u64 = 30_000;
/// Streams that a client may give up in that time before they are answered, or half of those that it opens: calls with a
/// deadline to a server that is late are all given up. More: the connection is closed.
pub const RESETS_MAX: u32 = 500;
/// Streams that may be reset in that time for what a client did on them. More: the connection is closed.
pub const FAULTS_MAX: u32 = 100;
/// Time over which control frames and empty frames are counted.
pub const CONTROL_INTERVAL_MS: u64 = 10_000;
/// PING and SETTINGS frames in that time, beside one for each stream and each frame of the server with an answer, or that asks
/// for one itself. More: the connection is closed.
pub const CONTROL_FRAMES_MAX: u32 = 100;
/// Frames without content in that time, beside two for each stream. More: the connection is closed.
pub const EMPTY_FRAMES_MAX: u32 = 1_000;

/// Bytes that one frame of a WebSocket carries, where frames are checked. More: the connection is closed.
pub const WEBSOCKET_FRAME_BYTES_MAX: u64 = 1 << 30;

/// Bytes of a command to Redis that are held to judge it; those behind its keys are not. More: refused.
pub const REDIS_COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Arguments of a command to Redis that are held to judge it. More: refused.
pub const REDIS_ARGUMENTS_MAX: usize = 16 * 1024;
/// Bytes of one argument or one string of a reply (the server's own limit). More: the connection is closed.
pub const REDIS_BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Bytes of a command on a line of its own. More: refused.
pub const REDIS_LINE_BYTES_MAX: usize = 8 * 1024;
/// Commands to Redis released and not yet answered. More: further ones wait.
pub const REDIS_OUTSTANDING_MAX: usize = 8 * 1024;
/// Aggregates inside of each other in a reply of Redis. More: the connection is closed.
pub const REDIS_REPLY_DEPTH_MAX: usize = 32;
/// Items of one aggregate in a reply of Redis (the server's own limit). More: the connection is closed.
pub const REDIS_REPLY_ITEMS_MAX: u64 = u32::MAX as u64;

/// Bytes of the first message of a session with PostgreSQL (the server's own limit). More: refused.
pub const POSTGRES_STARTUP_BYTES_MAX: usize = 10_000;
/// Bytes of a name in PostgreSQL, from which on the server cuts it off. More: refused.
pub const POSTGRES_NAME_BYTES_MAX: usize = 63;
/// Bytes of a statement to PostgreSQL, which is held until it is judged; some drivers write values of columns into it. More:
/// refused.
pub const POSTGRES_STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a message of PostgreSQL (the server's own limit). More: the connection is closed.
pub const POSTGRES_MESSAGE_BYTES_MAX: usize = 0x3fff_ffff;
/// Prepared statements, and portals, of one session. More: those that were of no use for longest are forgotten, and what is
/// executed of them is of no class that is known.
pub const POSTGRES_NAMED_MAX: usize = 4 * 1024;
/// Messages to PostgreSQL that are not yet answered. More: further ones wait.
pub const POSTGRES_OUTSTANDING_MAX: usize = 8 * 1024;
/// Refusals to a client of PostgreSQL that wait for their turn. More: further messages wait.
pub const POSTGRES_REFUSALS_MAX: usize = 16;

/// Bytes of a request to Kafka that are held to judge its topics; of batches of many partitions some clients make one
/// request. More: refused.
pub const KAFKA_REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of any message of Kafka (the broker's own limit). More: the connection is closed.
pub const KAFKA_MESSAGE_BYTES_MAX: usize = 100 * 1024 * 1024;
/// Topics of one request to Kafka, and of one fetch session. More: refused, and unknown.
pub const KAFKA_TOPICS_MAX: usize = 4 * 1024;
/// Topics of a fetch session that are asked about again with each fetch, beside those that are new, once all were allowed.
pub const KAFKA_TOPICS_ASKED_AGAIN: usize = 16;
/// Fetch sessions of one connection to Kafka that are followed. Of others the topics are unknown.
pub const KAFKA_SESSIONS_MAX: usize = 8;
/// Requests to Kafka that are not yet answered. More: further ones wait.
pub const KAFKA_OUTSTANDING_MAX: usize = 256;

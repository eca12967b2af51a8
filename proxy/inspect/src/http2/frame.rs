//! Frames of HTTP/2 (RFC 9113 section 4 and 6): their header, and those that we write ourselves.

/// What opens a connection by prior knowledge (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 9;
/// Bytes of a payload that every peer takes.
pub(super) const PAYLOAD_BYTES: usize = 16_384;

/// The last frame of a stream's direction.
pub(super) const END_STREAM: u8 = 0x1;
/// The answer to a SETTINGS or PING frame.
pub(super) const ACK: u8 = 0x1;
/// The last frame of a header block.
pub(super) const END_HEADERS: u8 = 0x4;
/// The payload begins with the length of its padding.
pub(super) const PADDED: u8 = 0x8;
/// A HEADERS frame carries a priority.
pub(super) const PRIORITY: u8 = 0x20;

/// Type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown,
}

/// Error codes (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    NoError = 0x0,
    Protocol = 0x1,
    FlowControl = 0x3,
    StreamClosed = 0x5,
    FrameSize = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    Compression = 0x9,
    EnhanceYourCalm = 0xb,
    Http11Required = 0xd,
}

/// Header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: u32,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Header {
    /// The header at the beginning of `bytes`, once it is complete.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind: Kind::from(kind),
            flags,
            // The first bit is reserved and ignored.
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of the payload.
    pub(super) fn payload(&self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    /// Bytes of the whole frame.
    pub(super) fn total(&self) -> usize {
        self.payload() + HEADER_BYTES
    }
}

impl From<u8> for Kind {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Priority => 2,
            Self::Reset => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Unknown => u8::MAX,
        }
    }
}

/// The 31 bits of a stream or window in four bytes; 0 for fewer bytes.
pub(super) fn number(payload: &[u8]) -> u32 {
    payload.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff)
}

/// The header of a frame with a payload of so many bytes.
fn header(length: usize, kind: Kind, flags: u8, stream: u32) -> [u8; HEADER_BYTES] {
    // A payload that we write is bounded far below 16 MiB.
    let [_, l0, l1, l2] = u32::try_from(length).unwrap_or_default().to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    [l0, l1, l2, kind.byte(), flags, s0, s1, s2, s3]
}

/// Appends the header of a frame with a payload of so many bytes.
fn put_header(out: &mut Vec<u8>, length: usize, kind: Kind, flags: u8, stream: u32) {
    out.extend_from_slice(&header(length, kind, flags, stream));
}

/// Appends a whole frame.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    put_header(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

/// Appends a RST_STREAM frame.
pub(super) fn put_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    put(out, Kind::Reset, 0, stream, &(code as u32).to_be_bytes());
}

/// Appends a WINDOW_UPDATE frame for the connection, unless there is nothing to give.
pub(super) fn put_window(out: &mut Vec<u8>, count: u32) {
    if count > 0 {
        put(out, Kind::WindowUpdate, 0, 0, &count.to_be_bytes());
    }
}

/// Appends a GOAWAY frame.
pub(super) fn put_go_away(out: &mut Vec<u8>, last_stream: u32, code: Code, detail: &str) {
    put_header(out, 8 + detail.len(), Kind::GoAway, 0, 0);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
    out.extend_from_slice(detail.as_bytes());
}

/// Makes frames of the block that begins at `start`, before whose first byte the header of a HEADERS frame has room.
pub(super) fn frame_block(
    out: &mut Vec<u8>,
    start: usize,
    stream: u32,
    end_stream: bool,
    payload_max: usize,
) {
    let block_start = start + HEADER_BYTES;
    let length = out.len().saturating_sub(block_start);
    let flags = if end_stream { END_STREAM } else { 0 };
    if length <= payload_max {
        if let Some(room) = out.get_mut(start..block_start) {
            room.copy_from_slice(&header(length, Kind::Headers, flags | END_HEADERS, stream));
        }
        return;
    }
    let block = out.split_off(block_start);
    out.truncate(start);
    let mut pieces = block.chunks(payload_max).enumerate().peekable();
    while let Some((at, piece)) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        match at {
            0 => put(out, Kind::Headers, flags | last, stream, piece),
            _ => put(out, Kind::Continuation, last, stream, piece),
        }
    }
}

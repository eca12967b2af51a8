//! The answers that we write ourselves, as frames for the client.

use super::frame::{self, Code, END_HEADERS, END_STREAM, Kind};
use super::hpack::encode_literal;
use super::streams::About;
use std::fmt::Write;

/// `:status: 200` of the static table.
const STATUS_200: u8 = 0x88;
/// A literal without indexing whose name is `:status` of the static table.
const STATUS: u8 = 0x08;

/// A refusal as a whole response. `room`: bytes that the client takes as body.
pub(super) fn denial(
    out: &mut Vec<u8>,
    stream: u32,
    about: About,
    status: u16,
    json: &str,
    line: &str,
    room: u32,
) -> u32 {
    if about.grpc {
        grpc_trailers(out, stream, line, true);
        return 0;
    }
    let mut block = Vec::with_capacity(96);
    let mut number = String::with_capacity(5);
    // Writing to a string cannot fail.
    let _ = write!(number, "{status}");
    block.extend_from_slice(&[STATUS, 3]);
    block.extend_from_slice(number.as_bytes().first_chunk::<3>().unwrap_or(b"403"));
    encode_literal(b"content-type", b"application/json", &mut block);
    encode_literal(b"cache-control", b"no-store", &mut block);
    number.clear();
    let _ = write!(number, "{}", json.len());
    let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
    let has_body = !about.to_head && length > 0 && length <= room && json.len() <= frame::PAYLOAD_BYTES;
    if has_body || about.to_head {
        encode_literal(b"content-length", number.as_bytes(), &mut block);
    }
    let end = if has_body { 0 } else { END_STREAM };
    frame::put(out, Kind::Headers, END_HEADERS | end, stream, &block);
    if !has_body {
        return 0;
    }
    frame::put(out, Kind::Data, END_STREAM, stream, json.as_bytes());
    length
}

/// The end of a call of gRPC that is not allowed: status 7, PERMISSION_DENIED. `alone`: nothing was answered before.
pub(super) fn grpc_trailers(out: &mut Vec<u8>, stream: u32, line: &str, alone: bool) {
    let mut block = Vec::with_capacity(96 + line.len());
    if alone {
        block.push(STATUS_200);
        encode_literal(b"content-type", b"application/grpc", &mut block);
    }
    encode_literal(b"grpc-status", b"7", &mut block);
    encode_literal(b"grpc-message", percent_encoded(line).as_bytes(), &mut block);
    frame::put(out, Kind::Headers, END_HEADERS | END_STREAM, stream, &block);
}

/// The end of a stream whose request is incomplete, behind a whole response.
pub(super) fn reset_complete(out: &mut Vec<u8>, stream: u32) {
    frame::put_reset(out, stream, Code::NoError);
}

/// What `grpc-message` may carry: visible ASCII without `%`, and the rest escaped.
fn percent_encoded(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for byte in line.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

//! Header blocks of the client: gathered, decoded, asked about, and written anew.
//!
//! Nothing of a block leaves before the verdict, however many frames it comes in. Blocks of streams that nobody listens to
//! are decoded all the same: the client's table depends on every one.

use super::Http2;
use super::client::{Fate, Reading};
use super::frame::{self, Code, END_HEADERS, END_STREAM, HEADER_BYTES, Header, Kind, PADDED, PRIORITY};
use super::hpack::{HpackError, encode};
use super::reply;
use super::request::{self, malformed};
use super::streams::{About, Messages, Past, Stream};
use crate::contract::{Inspector, Notice, Refusal, Step};
use crate::limits::{
    CONTINUATION_FRAMES_MAX, HEADER_BLOCK_BYTES_MAX, HEADER_LIST_BYTES_MAX, HEADER_LIST_FIELDS_MAX,
    STREAMS_MAX,
};
use crate::question::{Question, Subject};
use bulkhead_facts::Reason;

/// The header block that is being read.
#[derive(Debug, Default)]
pub(super) struct Block {
    stream: u32,
    end_stream: bool,
    purpose: Purpose,
    /// Its stream is to depend on itself.
    circular: bool,
    frames: u8,
    /// Bytes of the present frame that belong to it, and padding behind them.
    left: usize,
    padding: usize,
    /// The present frame is its last.
    last: bool,
    fragments: Vec<u8>,
}

impl Block {
    /// Gives its memory back, if that is more than so many bytes.
    pub(super) fn release(&mut self, bytes_max: usize) {
        super::shrink(&mut self.fragments, bytes_max);
    }
}

/// What a header block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Purpose {
    #[default]
    Request,
    Trailers,
    /// It is read for the table only.
    Nothing,
}

/// The request that waits for its verdict.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) stream: u32,
    end_stream: bool,
    about: About,
    content_length: Option<u64>,
    messages: Messages,
}

impl Http2 {
    pub(super) fn headers<'a>(&'a mut self, header: Header, bytes: &'a [u8]) -> Step<'a> {
        if header.stream.is_multiple_of(2) {
            return self.fail(Code::Protocol, "HEADERS on a stream that no client opens");
        }
        let (padded, weighed) = (usize::from(header.has(PADDED)), if header.has(PRIORITY) { 5 } else { 0 });
        let prefix = HEADER_BYTES + padded + weighed;
        if header.total() < prefix {
            return self.fail(Code::FrameSize, "HEADERS too short for its flags");
        }
        if bytes.len() < prefix {
            return Step::NeedMore;
        }
        let padding =
            if padded > 0 { usize::from(bytes.get(HEADER_BYTES).copied().unwrap_or_default()) } else { 0 };
        let Some(left) = (header.total() - prefix).checked_sub(padding) else {
            return self.fail(Code::Protocol, "padding longer than its frame");
        };
        let circular = weighed > 0
            && frame::number(bytes.get(HEADER_BYTES + padded..).unwrap_or_default()) == header.stream;
        let purpose = match self.purpose(header) {
            Ok(purpose) => purpose,
            Err((code, detail)) => return self.fail(code, detail),
        };
        let last = header.has(END_HEADERS);
        let fragments = std::mem::take(&mut self.block.fragments);
        self.block = Block {
            stream: header.stream,
            end_stream: header.has(END_STREAM),
            purpose,
            circular,
            frames: 0,
            left,
            padding,
            last,
            fragments,
        };
        self.block.fragments.clear();
        if last
            && let Some(block) = bytes.get(prefix..prefix + left).filter(|_| bytes.len() >= header.total())
        {
            return self.complete_block(Some(block), header.total());
        }
        self.reading = Reading::Fragment;
        self.consumed(prefix, Fate::Drop)
    }

    fn purpose(&mut self, header: Header) -> Result<Purpose, (Code, &'static str)> {
        let id = header.stream;
        if id > self.streams.last {
            self.streams.last = id;
            return Ok(Purpose::Request);
        }
        let Some(stream) = self.streams.find(id) else {
            return match self.streams.past(id) {
                Past::Reset => {
                    self.streams.goes_on(id);
                    Ok(Purpose::Nothing)
                }
                Past::Ended => Err((Code::StreamClosed, "HEADERS on a stream that ended")),
                Past::Unknown | Past::Idle => Err((Code::Protocol, "HEADERS on a stream that was left out")),
            };
        };
        let fault = match (stream.client_ended, header.has(END_STREAM)) {
            _ if stream.is_ending() => return Ok(Purpose::Nothing),
            (true, _) => Code::StreamClosed,
            (false, false) => Code::Protocol,
            (false, true) => return Ok(Purpose::Trailers),
        };
        if !self.gate || self.raw {
            return Ok(Purpose::Nothing);
        }
        match self.end_faulty(id, fault) {
            Some(detail) => Err((Code::EnhanceYourCalm, detail)),
            None => Ok(Purpose::Nothing),
        }
    }

    pub(super) fn fragment<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        let here = self.block.left.min(bytes.len());
        let padding = self.block.padding.min(bytes.len() - here);
        self.block.fragments.extend_from_slice(bytes.get(..here).unwrap_or_default());
        self.block.left -= here;
        self.block.padding -= padding;
        let count = here + padding;
        if self.block.left + self.block.padding > 0 {
            return if count == 0 { Step::NeedMore } else { self.consumed(count, Fate::Drop) };
        }
        if self.block.last {
            return self.complete_block(None, count);
        }
        self.reading = Reading::Continuation;
        self.consumed(count, Fate::Drop)
    }

    pub(super) fn continuation<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        let Some(header) = Header::read(bytes) else { return Step::NeedMore };
        if header.kind != Kind::Continuation || header.stream != self.block.stream {
            return self.fail(Code::Protocol, "header block that is interrupted");
        }
        if header.payload() > self.settings.server_payload_max {
            return self.fail(Code::FrameSize, "frame larger than the server takes");
        }
        self.block.frames += 1;
        if self.block.frames > CONTINUATION_FRAMES_MAX
            || self.block.fragments.len() + header.payload() > HEADER_BLOCK_BYTES_MAX
        {
            return self
                .fail(Code::EnhanceYourCalm, "header block longer than 8 CONTINUATION frames or 64 KiB");
        }
        self.block.left = header.payload();
        self.block.last = header.has(END_HEADERS);
        if let Some(payload) = bytes.get(HEADER_BYTES..header.total()).filter(|_| self.block.last) {
            self.block.fragments.extend_from_slice(payload);
            return self.complete_block(None, header.total());
        }
        self.reading = Reading::Fragment;
        self.consumed(HEADER_BYTES, Fate::Drop)
    }

    /// A header block is complete with the next so many bytes. `block`: where it is, if it came in one piece.
    fn complete_block<'a>(&'a mut self, block: Option<&[u8]>, count: usize) -> Step<'a> {
        self.reading = Reading::Frame;
        let whole = block.unwrap_or(&self.block.fragments);
        let read =
            self.decoder.decode(whole, &mut self.fields, HEADER_LIST_BYTES_MAX, HEADER_LIST_FIELDS_MAX);
        match read {
            Err(HpackError::TooLarge) => {
                return self.fail(Code::EnhanceYourCalm, HpackError::TooLarge.detail());
            }
            Err(error) => return self.fail(Code::Compression, error.detail()),
            Ok(()) => self.fields.join(b"cookie", b"; "),
        }
        match self.block.purpose {
            Purpose::Nothing => self.consumed(count, Fate::Drop),
            Purpose::Trailers => self.trailers(count),
            Purpose::Request => self.ask(count),
        }
    }

    fn trailers(&mut self, count: usize) -> Step<'_> {
        let id = self.block.stream;
        let sound = request::check_trailers(&self.fields, self.settings.offers).is_ok();
        let Some(stream) = self.streams.find(id) else { return self.consumed(count, Fate::Drop) };
        let whole = stream.length_left().is_none_or(|left| left == 0);
        if !(sound && whole) && self.gate && !self.raw {
            return match self.end_faulty(id, Code::Protocol) {
                Some(detail) => self.fail(Code::EnhanceYourCalm, detail),
                None => self.consumed(count, Fate::Drop),
            };
        }
        stream.client_ended = true;
        if stream.server_ended {
            self.streams.end(id);
        }
        self.encode_fields();
        self.frame_output(id, true);
        self.rewritten(count)
    }

    /// Encodes the fields into `output`, with room for the header of their frame.
    fn encode_fields(&mut self) {
        self.output.clear();
        self.output.resize(HEADER_BYTES, 0);
        if self.owes_table_size {
            self.output.push(TABLE_SIZE_ZERO);
        }
        encode(&self.fields, &mut self.output);
    }

    fn frame_output(&mut self, stream: u32, end_stream: bool) {
        if self.gate && !self.raw {
            self.owes_table_size = false;
            frame::frame_block(&mut self.output, 0, stream, end_stream, self.settings.server_payload_max);
        }
    }

    fn ask<'a>(&'a mut self, count: usize) -> Step<'a> {
        let (stream, end_stream) = (self.block.stream, self.block.end_stream);
        self.asked = Asked { stream, end_stream, ..Asked::default() };
        // One of which a part has left is asked about all the same.
        if self.draining && !self.raw {
            frame::put_reset(&mut self.to_client, stream, Code::RefusedStream);
            self.streams.reset(stream);
            return self.consumed(count, Fate::Drop);
        }
        if self.gate && self.streams.count() >= STREAMS_MAX {
            let detail = "more streams than the limit";
            let refusal = Refusal { reason: Reason::Limit, status: Some(503), detail };
            return self.refuse_stream(count, Code::RefusedStream, refusal);
        }
        if self.block.circular {
            return self.refuse_stream(count, Code::Protocol, malformed("stream that depends on itself"));
        }
        self.encode_fields();
        let Self { fields, hosts, output, asked, settings, reading, owes_table_size, .. } = self;
        let read = match request::read(fields.iter(), settings.offers, hosts) {
            Ok(read) if end_stream && read.content_length.is_some_and(|length| length > 0) => {
                Err(malformed("content-length without a body"))
            }
            read => read,
        };
        let read = match read {
            Ok(read) => read,
            Err(refusal) => {
                *reading = Reading::Refused { count, code: Code::Protocol };
                return Step::Refuse(refusal);
            }
        };
        asked.content_length = read.content_length;
        asked.about = About { grpc: read.grpc, to_head: read.head.method == "HEAD" };
        *reading = Reading::Asked { count };
        let block = HEADER_BYTES + usize::from(*owes_table_size);
        Step::Ask(Question {
            bytes: output.get(block..).unwrap_or_default(),
            exchange: stream,
            lasting: false,
            subject: Subject::Http(read.head),
        })
    }

    fn refuse_stream<'a>(&mut self, count: usize, code: Code, refusal: Refusal) -> Step<'a> {
        self.reading = Reading::Refused { count, code };
        Step::Refuse(refusal)
    }

    /// The request that was asked about, or under the tee one that was refused, goes to the server.
    pub(super) fn release_asked(&mut self) {
        let (Reading::Asked { count } | Reading::Refused { count, .. }) = self.reading else { return };
        let Asked { stream, end_stream, about, content_length, messages } = self.asked;
        let mut released = Stream::new(stream, end_stream, about, content_length);
        released.messages = messages;
        self.streams.insert(released);
        self.budget.opened();
        self.frame_output(stream, end_stream);
        self.reading = Reading::Answered { count, allowed: true };
    }

    /// The request that is asked about becomes a WebSocket whose frames are checked.
    pub(super) fn check_asked(&mut self, compressed: bool) {
        self.asked.messages = if compressed { Messages::CheckedCompressed } else { Messages::Checked };
    }

    /// The request that was asked about is answered here. False where only closing both sides is safe.
    pub(super) fn deny_asked(&mut self, notice: &Notice<'_>) -> bool {
        let Reading::Asked { count } = self.reading else { return true };
        let Asked { stream, end_stream, about, .. } = self.asked;
        if self.raw {
            if self.left_before_gate < count {
                // A part of it has left before the gate was there: the rest would complete it.
                return false;
            }
            // All of it has: the server has to hear that it is over.
            self.release_asked();
            return self.revoke(stream, notice);
        }
        let room = self.window.room(self.settings.client_window);
        let (json, line) = (notice.json, notice.line);
        let spent = reply::denial(&mut self.to_client, stream, about, notice.status, json, line, room);
        self.window.injected(spent);
        self.budget.opened();
        if !end_stream && let Some(oldest) = self.streams.answer(stream) {
            reply::reset_complete(&mut self.to_client, oldest);
        }
        self.reading = Reading::Answered { count, allowed: false };
        true
    }
}

/// Dynamic table size update to 0 (RFC 7541 section 6.3).
const TABLE_SIZE_ZERO: u8 = 0x20;

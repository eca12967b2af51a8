//! Frames of the client: which pass, which are written anew, which are dropped, and what is asked.

use super::Http2;
use super::budget::Spent;
use super::frame::{
    self, ACK, Code, END_HEADERS, END_STREAM, HEADER_BYTES, Header, Kind, PADDED, PREFACE, PRIORITY,
};
use super::hpack::{HpackError, encode};
use super::reply;
use super::request::{self, malformed};
use super::settings::Settings;
use super::streams::{About, Ending, Past, Stream};
use crate::contract::{Inspector, Notice, Refusal, Step};
use crate::limits::{
    CONTINUATION_FRAMES_MAX, CONTROL_FRAME_BYTES_MAX, HEADER_BLOCK_BYTES_MAX, HEADER_LIST_BYTES_MAX,
    HEADER_LIST_FIELDS_MAX, INSERTED_BYTES_MAX, STREAMS_MAX,
};
use crate::question::{Question, Subject};
use bulkhead_facts::Reason;

/// Where the bytes of the client stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Before the connection has begun.
    Preface,
    /// Before a frame.
    Frame,
    /// Inside a payload that nobody has to look at.
    Payload { left: usize, fate: Fate },
    /// Inside a HEADERS or CONTINUATION frame.
    Fragment,
    /// Before a CONTINUATION frame.
    Continuation,
    /// A request waits for its verdict; so many bytes at the front belong to it.
    Asked { count: usize },
    /// The verdict is there, and those bytes may go.
    Answered { count: usize, allowed: bool },
    /// One stream is refused, with those bytes.
    Refused { count: usize, code: Code },
    /// Nothing more is read.
    Ended,
}

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    Drop,
}

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
    /// Gives its memory back.
    pub(super) fn release(&mut self) {
        super::shrink(&mut self.fragments);
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
}

impl Http2 {
    pub(super) fn read_client<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        match self.reading {
            Reading::Asked { .. } | Reading::Refused { .. } | Reading::Ended => Step::NeedMore,
            Reading::Answered { count, allowed } => {
                self.reading = Reading::Frame;
                match allowed {
                    true => self.rewritten(count),
                    false => Step::Discard(count),
                }
            }
            // What we say ourselves has to be taken first.
            _ if self.to_client.len() > INSERTED_BYTES_MAX => Step::NeedMore,
            Reading::Preface => self.preface(bytes),
            Reading::Frame => self.frame(bytes),
            Reading::Payload { left, fate } => self.payload(bytes, left, fate),
            Reading::Fragment => self.fragment(bytes),
            Reading::Continuation => self.continuation(bytes),
        }
    }

    /// True where frames of our own may go to the server.
    pub(super) fn is_between_client_frames(&self) -> bool {
        // A block that is written anew leaves whole or not at all, so that anything may go before it.
        let in_block = matches!(self.reading, Reading::Fragment | Reading::Continuation);
        match self.reading {
            Reading::Preface | Reading::Payload { fate: Fate::Pass, .. } => false,
            _ => self.left_before_gate == 0 && (!in_block || !self.raw),
        }
    }

    fn preface<'a>(&mut self, bytes: &[u8]) -> Step<'a> {
        if let Some(start) = bytes.get(..PREFACE.len()) {
            if start != PREFACE {
                return self.fail(Code::Protocol, "no preface of HTTP/2");
            }
            self.reading = Reading::Frame;
            return Step::Forward(PREFACE.len());
        }
        match PREFACE.starts_with(bytes) {
            true => Step::NeedMore,
            false => self.fail(Code::Protocol, "no preface of HTTP/2"),
        }
    }

    fn payload<'a>(&mut self, bytes: &[u8], left: usize, fate: Fate) -> Step<'a> {
        let count = left.min(bytes.len());
        if count == 0 {
            return Step::NeedMore;
        }
        self.passed(left, count, fate)
    }

    /// So many bytes of a frame go, of which so many are left.
    fn passed<'a>(&mut self, left: usize, count: usize, fate: Fate) -> Step<'a> {
        self.reading = match left - count {
            0 => Reading::Frame,
            left => Reading::Payload { left, fate },
        };
        self.consumed(count, fate)
    }

    /// Bytes that pass as they are or are dropped. Under the tee, and where they have left already, nothing is dropped.
    fn consumed<'a>(&mut self, count: usize, fate: Fate) -> Step<'a> {
        self.left_before_gate = self.left_before_gate.saturating_sub(count);
        match fate {
            Fate::Drop if self.gate && !self.raw => Step::Discard(count),
            Fate::Drop | Fate::Pass => Step::Forward(count),
        }
    }

    /// Bytes in whose place `output` leaves.
    fn rewritten<'a>(&mut self, count: usize) -> Step<'a> {
        if self.gate && !self.raw {
            self.to_server.append(&mut self.output);
        }
        self.consumed(count, Fate::Drop)
    }

    fn frame<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        self.raw &= self.left_before_gate > 0;
        if let Some(detail) = self.exhausted.take() {
            return self.fail(Code::EnhanceYourCalm, detail);
        }
        let Some(header) = Header::read(bytes) else { return Step::NeedMore };
        if self.settings.awaits_client() && (header.kind != Kind::Settings || header.has(ACK)) {
            return self.fail(Code::Protocol, "first frame that is no SETTINGS");
        }
        if header.payload() > self.settings.server_payload_max {
            return self.fail(Code::FrameSize, "frame larger than the server takes");
        }
        match header.kind {
            Kind::Data => self.data(header, bytes),
            Kind::Headers => self.headers(header, bytes),
            Kind::Continuation => self.fail(Code::Protocol, "CONTINUATION of nothing"),
            Kind::PushPromise => self.fail(Code::Protocol, "PUSH_PROMISE of a client"),
            Kind::Unknown => match self.spend(Spent::Empty) {
                Some(detail) => self.fail(Code::EnhanceYourCalm, detail),
                None => self.pass(header, bytes, Fate::Drop),
            },
            Kind::GoAway if header.stream != 0 => self.fail(Code::Protocol, "GOAWAY on a stream"),
            Kind::GoAway => self.pass(header, bytes, Fate::Pass),
            Kind::Priority | Kind::Reset | Kind::Settings | Kind::Ping | Kind::WindowUpdate => {
                if header.payload() > CONTROL_FRAME_BYTES_MAX {
                    return self.fail(Code::EnhanceYourCalm, "control frame longer than 4 KiB");
                }
                match bytes.get(HEADER_BYTES..header.total()) {
                    Some(payload) => self.control(header, payload),
                    None => Step::NeedMore,
                }
            }
        }
    }

    fn pass<'a>(&mut self, header: Header, bytes: &[u8], fate: Fate) -> Step<'a> {
        self.passed(header.total(), header.total().min(bytes.len()), fate)
    }

    /// A frame that is here in full.
    fn control<'a>(&'a mut self, header: Header, payload: &[u8]) -> Step<'a> {
        let count = header.total();
        match header.kind {
            Kind::Settings => self.client_settings(header, payload),
            Kind::Ping => {
                if header.stream != 0 {
                    return self.fail(Code::Protocol, "PING on a stream");
                }
                if payload.len() != 8 {
                    return self.fail(Code::FrameSize, "PING of another length than 8");
                }
                match self.spend(Spent::Control) {
                    Some(detail) => self.fail(Code::EnhanceYourCalm, detail),
                    None => self.consumed(count, Fate::Pass),
                }
            }
            Kind::WindowUpdate => self.client_window(header, payload),
            Kind::Reset => self.client_reset(header, payload),
            _ => self.priority(header, payload),
        }
    }

    fn client_settings(&mut self, header: Header, payload: &[u8]) -> Step<'_> {
        let count = header.total();
        if header.stream != 0 {
            return self.fail(Code::Protocol, "SETTINGS on a stream");
        }
        if payload.len() % 6 != 0 || (header.has(ACK) && !payload.is_empty()) {
            return self.fail(Code::FrameSize, "SETTINGS of a length that is none");
        }
        if let Some(detail) = self.spend(Spent::Control) {
            return self.fail(Code::EnhanceYourCalm, detail);
        }
        if header.has(ACK) {
            if let Some(table) = self.settings.acknowledged() {
                self.decoder.allow(table);
                self.owes_table_size = true;
            }
            return self.consumed(count, Fate::Pass);
        }
        let first = self.settings.awaits_client();
        if let Err((code, detail)) = self.settings.client(payload) {
            return self.fail(code, detail);
        }
        self.output.clear();
        let mut edited = Vec::new();
        if !self.gate || self.raw || !Settings::without_push(payload, first, &mut edited) {
            return self.consumed(count, Fate::Pass);
        }
        frame::put(&mut self.output, Kind::Settings, 0, 0, &edited);
        self.rewritten(count)
    }

    fn client_window(&mut self, header: Header, payload: &[u8]) -> Step<'_> {
        if payload.len() != 4 {
            return self.fail(Code::FrameSize, "WINDOW_UPDATE of another length than 4");
        }
        let (count, increment) = (header.total(), frame::number(payload));
        if header.stream != 0 {
            let open = self.streams.find(header.stream).is_some_and(|stream| stream.ending.is_none());
            if self.streams.past(header.stream) == Past::Idle {
                return self.fail(Code::Protocol, "WINDOW_UPDATE on an idle stream");
            }
            return self.consumed(count, if open { Fate::Pass } else { Fate::Drop });
        }
        let given = self.window.given(increment);
        if given == increment || !self.gate || self.raw {
            return self.consumed(count, Fate::Pass);
        }
        self.output.clear();
        frame::put_window(&mut self.output, given);
        self.rewritten(count)
    }

    fn client_reset<'a>(&mut self, header: Header, payload: &[u8]) -> Step<'a> {
        if payload.len() != 4 {
            return self.fail(Code::FrameSize, "RST_STREAM of another length than 4");
        }
        if header.stream == 0 || self.streams.past(header.stream) == Past::Idle {
            return self.fail(Code::Protocol, "RST_STREAM on an idle stream");
        }
        if let Some(detail) = self.spend(Spent::Reset) {
            return self.fail(Code::EnhanceYourCalm, detail);
        }
        let fate = match self.streams.end(header.stream) {
            Some(stream) => {
                self.complete(stream.id, stream.status);
                if stream.ending.is_none() { Fate::Pass } else { Fate::Drop }
            }
            None => Fate::Drop,
        };
        self.consumed(header.total(), fate)
    }

    /// Priorities are advice that this version of the protocol has given up (RFC 9113 section 5.3): dropped.
    fn priority<'a>(&mut self, header: Header, payload: &[u8]) -> Step<'a> {
        if header.stream == 0 {
            return self.fail(Code::Protocol, "PRIORITY on no stream");
        }
        if let Some(detail) = self.spend(Spent::Empty) {
            return self.fail(Code::EnhanceYourCalm, detail);
        }
        let fault = match payload.len() {
            5 if frame::number(payload) == header.stream => {
                Some((Code::Protocol, "stream that depends on itself"))
            }
            5 => None,
            _ => Some((Code::FrameSize, "PRIORITY of another length than 5")),
        };
        if let Some((code, detail)) = fault.filter(|_| self.gate) {
            if self.streams.find(header.stream).is_none() {
                return self.fail(code, detail);
            }
            if let Some(detail) = self.end_faulty(header.stream, code) {
                return self.fail(Code::EnhanceYourCalm, detail);
            }
        }
        self.consumed(header.total(), Fate::Drop)
    }

    fn data<'a>(&mut self, header: Header, bytes: &[u8]) -> Step<'a> {
        if header.stream == 0 {
            return self.fail(Code::Protocol, "DATA on no stream");
        }
        let mut length = u64::from(header.length);
        if header.has(PADDED) {
            if header.length == 0 {
                return self.fail(Code::FrameSize, "padding without a length");
            }
            let Some(padding) = bytes.get(HEADER_BYTES) else { return Step::NeedMore };
            match length.checked_sub(u64::from(*padding) + 1) {
                Some(rest) => length = rest,
                None => return self.fail(Code::Protocol, "padding longer than its frame"),
            }
        }
        let end = header.has(END_STREAM);
        if length == 0
            && !end
            && let Some(detail) = self.spend(Spent::Empty)
        {
            return self.fail(Code::EnhanceYourCalm, detail);
        }
        let fate = match self.body(header.stream, length, end) {
            Ok(fate) => fate,
            Err((code, detail)) => return self.fail(code, detail),
        };
        if fate == Fate::Drop && self.gate && !self.raw {
            // The server never sees it; the client has to get its window back all the same.
            frame::put_window(&mut self.to_client, header.length);
        }
        self.pass(header, bytes, fate)
    }

    /// What becomes of so many bytes of a body.
    fn body(&mut self, id: u32, length: u64, end: bool) -> Result<Fate, (Code, &'static str)> {
        let Some(stream) = self.streams.find(id) else {
            return match self.streams.past(id) {
                Past::Idle => Err((Code::Protocol, "DATA on an idle stream")),
                Past::Ended | Past::Unknown if self.gate => {
                    frame::put_reset(&mut self.to_client, id, Code::StreamClosed);
                    self.streams.reset(id);
                    match self.spend(Spent::Fault) {
                        Some(detail) => Err((Code::EnhanceYourCalm, detail)),
                        None => Ok(Fate::Drop),
                    }
                }
                Past::Reset | Past::Ended | Past::Unknown => Ok(Fate::Drop),
            };
        };
        if stream.ending.is_some() {
            stream.client_ended |= end;
            return Ok(Fate::Drop);
        }
        let left = match stream.length_left {
            None => None,
            Some(left) => Some(left.checked_sub(length).filter(|left| !end || *left == 0)),
        };
        let fault = match left {
            _ if stream.client_ended => Some(Code::StreamClosed),
            Some(None) => Some(Code::Protocol),
            Some(Some(_)) | None => None,
        };
        if let Some(code) = fault.filter(|_| self.gate && !self.raw) {
            return match self.end_faulty(id, code) {
                Some(detail) => Err((Code::EnhanceYourCalm, detail)),
                None => Ok(Fate::Drop),
            };
        }
        stream.length_left = left.flatten();
        stream.client_ended |= end;
        if stream.client_ended && stream.server_ended {
            self.streams.end(id);
        }
        Ok(Fate::Pass)
    }

    /// Ends a stream that the server knows, because of what the client did on it. What is exceeded, if something is.
    fn end_faulty(&mut self, id: u32, code: Code) -> Option<&'static str> {
        self.kill(id, Ending::Reset(code));
        self.spend(Spent::Fault)
    }

    fn headers<'a>(&'a mut self, header: Header, bytes: &'a [u8]) -> Step<'a> {
        if header.stream % 2 == 0 {
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
                Past::Reset => Ok(Purpose::Nothing),
                Past::Ended => Err((Code::StreamClosed, "HEADERS on a stream that ended")),
                Past::Unknown | Past::Idle => Err((Code::Protocol, "HEADERS on a stream that was left out")),
            };
        };
        let fault = match (stream.client_ended, header.has(END_STREAM)) {
            _ if stream.ending.is_some() => return Ok(Purpose::Nothing),
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

    fn fragment<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
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

    fn continuation<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
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
        let sound = request::check_trailers(&self.fields).is_ok();
        let Some(stream) = self.streams.find(id) else { return self.consumed(count, Fate::Drop) };
        let whole = stream.length_left.is_none_or(|left| left == 0);
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
        if self.draining {
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
        let read = match request::read(fields.iter(), settings.connects, hosts) {
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
        let Asked { stream, end_stream, about, content_length } = self.asked;
        self.streams.insert(Stream::new(stream, end_stream, about, content_length));
        self.budget.opened();
        self.frame_output(stream, end_stream);
        self.reading = Reading::Answered { count, allowed: true };
    }

    /// The request that was asked about is answered here.
    pub(super) fn deny_asked(&mut self, notice: &Notice<'_>) {
        let Reading::Asked { count } = self.reading else { return };
        let Asked { stream, end_stream, about, .. } = self.asked;
        if self.raw {
            // Part of it has left before the gate was there: the server has to hear that it is over.
            self.release_asked();
            self.revoke(stream, notice);
            return;
        }
        let room = self.window.room(self.settings.client_window);
        let (json, line) = (notice.json, notice.line);
        let spent = reply::denial(&mut self.to_client, stream, about, notice.status, json, line, room);
        self.window.injected(spent);
        self.budget.opened();
        if !end_stream {
            reply::reset_complete(&mut self.to_client, stream);
            self.streams.reset(stream);
        }
        self.reading = Reading::Answered { count, allowed: false };
    }
}

/// Dynamic table size update to 0 (RFC 7541 section 6.3).
const TABLE_SIZE_ZERO: u8 = 0x20;

//! Frames of the client: which pass, which are written anew, which are dropped, and what is asked.

use super::Http2;
use super::budget::Spent;
use super::frame::{self, ACK, Code, END_STREAM, HEADER_BYTES, Header, Kind, PADDED, PREFACE};
use super::reply;
use super::settings::Settings;
use super::streams::{Ending, Past, Stream};
use crate::contract::{Side, Step};
use crate::limits::{CONTROL_FRAME_BYTES_MAX, INSERTED_BYTES_MAX};

/// Where the bytes of the client stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Before the connection has begun.
    Preface,
    /// Before a frame.
    Frame,
    /// Inside a payload that nobody has to look at.
    Payload { left: usize, fate: Fate },
    /// Inside the DATA of a WebSocket.
    Checked(InMessages),
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

/// Where in the DATA of a WebSocket whose frames are checked. The stream does not end before all of it has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InMessages {
    /// Bytes of the frame that are to come.
    pub(super) left: usize,
    /// How many of them are of messages.
    pub(super) content: usize,
    pub(super) stream: u32,
    /// The stream ends with it.
    pub(super) end: bool,
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
            Reading::Checked(data) => self.checked(bytes, data),
            Reading::Fragment => self.fragment(bytes),
            Reading::Continuation => self.continuation(bytes),
        }
    }

    /// True where frames of our own may go to the server.
    pub(super) fn is_between_client_frames(&self) -> bool {
        // A block that is written anew leaves whole or not at all, so that anything may go before it.
        let in_block = matches!(self.reading, Reading::Fragment | Reading::Continuation);
        match self.reading {
            Reading::Preface | Reading::Payload { fate: Fate::Pass, .. } | Reading::Checked(_) => false,
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
    pub(super) fn consumed<'a>(&mut self, count: usize, fate: Fate) -> Step<'a> {
        self.left_before_gate = self.left_before_gate.saturating_sub(count);
        self.heard = self.heard.saturating_add(u64::try_from(count).unwrap_or_default());
        match fate {
            Fate::Drop if self.gate && !self.raw => Step::Discard(count),
            Fate::Drop | Fate::Pass => Step::Forward(count),
        }
    }

    /// Bytes in whose place `output` leaves.
    pub(super) fn rewritten<'a>(&mut self, count: usize) -> Step<'a> {
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
        if self.waits_for_greeting() {
            return Step::NeedMore;
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
        if !payload.len().is_multiple_of(6) || (header.has(ACK) && !payload.is_empty()) {
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
        if !self.gate || self.raw || !Settings::edited(payload, first, &mut edited) {
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
            let open = self.streams.peek(header.stream).is_some_and(|stream| !stream.is_ending());
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
        // To end what was answered in full is no giving up, and whoever waits for an answer to begin floods nobody.
        let waited = self.streams.peek(header.stream).is_some_and(|stream| stream.responded);
        if !waited
            && !self.streams.goes_on(header.stream)
            && let Some(detail) = self.spend(Spent::Reset)
        {
            return self.fail(Code::EnhanceYourCalm, detail);
        }
        let fate = match self.streams.end(header.stream) {
            Some(stream) => {
                self.complete(stream.id, stream.status);
                if stream.is_ending() { Fate::Drop } else { Fate::Pass }
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
        let checks = || self.streams.peek(header.stream).is_some_and(Stream::checks_frames);
        if fate == Fate::Pass && self.gate && !self.raw && checks() {
            return self.websocket(header, bytes, usize::try_from(length).unwrap_or(usize::MAX));
        }
        if fate == Fate::Pass && end {
            self.client_ended(header.stream);
        }
        self.pass(header, bytes, fate)
    }

    /// The client sends nothing more on a stream that is not ending.
    fn client_ended(&mut self, id: u32) {
        let Some(stream) = self.streams.find(id) else { return };
        stream.client_ended = true;
        if stream.server_ended {
            self.streams.end(id);
        }
    }

    /// DATA of a WebSocket whose frames are checked; so many bytes of it are no padding.
    fn websocket<'a>(&mut self, header: Header, bytes: &[u8], content: usize) -> Step<'a> {
        let data =
            InMessages { left: header.total(), content, stream: header.stream, end: header.has(END_STREAM) };
        let prefix = HEADER_BYTES + usize::from(header.has(PADDED));
        self.checked_from(prefix, bytes, data)
    }

    fn checked<'a>(&mut self, bytes: &[u8], data: InMessages) -> Step<'a> {
        match bytes {
            [] => Step::NeedMore,
            bytes => self.checked_from(0, bytes, data),
        }
    }

    /// Bytes of which those of messages begin here.
    fn checked_from<'a>(&mut self, first: usize, bytes: &[u8], data: InMessages) -> Step<'a> {
        let (count, next) = match self.follow(Side::Client, first, bytes, data) {
            Ok(followed) => followed,
            Err(detail) => return self.fail(Code::Protocol, detail),
        };
        self.reading = next.map_or(Reading::Frame, Reading::Checked);
        if next.is_none() && data.end {
            self.client_ended(data.stream);
        }
        self.consumed(count, Fate::Pass)
    }

    /// Follows frames of a WebSocket in what is here of its DATA, from where its messages begin: how many bytes that is, and
    /// what is left; or what is wrong.
    pub(super) fn follow(
        &mut self,
        side: Side,
        first: usize,
        bytes: &[u8],
        data: InMessages,
    ) -> Result<(usize, Option<InMessages>), &'static str> {
        let count = data.left.min(bytes.len());
        let here = bytes.get(first..count).unwrap_or_default();
        let here = here.get(..data.content.min(here.len())).unwrap_or_default();
        if let Some(stream) = self.streams.find(data.stream) {
            stream.follow(side, here).map_err(|fault| fault.detail)?;
        }
        let next = InMessages { left: data.left - count, content: data.content - here.len(), ..data };
        Ok((count, Some(next).filter(|next| next.left > 0)))
    }

    /// What becomes of so many bytes of a body.
    fn body(&mut self, id: u32, length: u64, end: bool) -> Result<Fate, (Code, &'static str)> {
        let Some(stream) = self.streams.find(id) else {
            if self.streams.goes_on(id) && !end {
                reply::reset_complete(&mut self.to_client, id);
            }
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
        if stream.is_ending() {
            stream.client_ended |= end;
            return Ok(Fate::Drop);
        }
        let left =
            stream.length_left().map(|left| left.checked_sub(length).filter(|left| !end || *left == 0));
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
        if let Some(left) = left.flatten() {
            stream.leave(left);
        }
        Ok(Fate::Pass)
    }

    /// Ends a stream that the server knows, because of what the client did on it. What is exceeded, if something is.
    pub(super) fn end_faulty(&mut self, id: u32, code: Code) -> Option<&'static str> {
        self.kill(id, Ending::Reset(code));
        self.spend(Spent::Fault)
    }
}

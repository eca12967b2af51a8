//! Frames of the server: they pass, but for what belongs to a stream that is over, and settings beyond our limits.

use super::Http2;
use super::client::{Fate, InMessages};
use super::frame::{self, ACK, END_HEADERS, END_STREAM, HEADER_BYTES, Header, Kind, PADDED, PRIORITY};
use super::settings::Settings;
use super::streams::Past;
use crate::contract::{Refusal, Side, Step};
use crate::limits::{CONTROL_FRAME_BYTES_MAX, HEADER_BLOCK_BYTES_MAX};
use bulkhead_facts::Reason;

/// Where the bytes of the server stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerReading {
    /// Before a frame.
    Frame,
    /// Inside a payload that nobody has to look at.
    Payload { left: usize, fate: Fate },
    /// Inside the DATA of a WebSocket.
    Checked(InMessages),
    /// Inside a HEADERS, PUSH_PROMISE or CONTINUATION frame.
    Fragment { left: usize, padding: usize, last: bool, block: ServerBlock },
    /// Before a CONTINUATION frame.
    Continuation(ServerBlock),
}

/// A header block of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerBlock {
    stream: u32,
    end_stream: bool,
}

impl Http2 {
    pub(super) fn read_server<'a>(&mut self, bytes: &[u8]) -> Step<'a> {
        let step = match self.server {
            ServerReading::Frame => self.server_frame(bytes),
            _ if bytes.is_empty() => Step::NeedMore,
            ServerReading::Payload { left, fate } => self.server_passed(left, left.min(bytes.len()), fate),
            ServerReading::Checked(data) => self.server_checked(0, bytes, data),
            ServerReading::Fragment { left, padding, last, block } => {
                self.server_fragment(bytes, left, padding, last, block)
            }
            ServerReading::Continuation(block) => self.server_continuation(bytes, block),
        };
        if let Step::Forward(count) | Step::Discard(count) = step {
            self.answers_left = self.answers_left.saturating_sub(count);
        }
        step
    }

    /// Steps are obeyed, and nothing of this frame has left before.
    fn holds_answer(&self) -> bool {
        self.gate && !self.raw_answer
    }

    fn server_frame<'a>(&mut self, bytes: &[u8]) -> Step<'a> {
        self.raw_answer = self.answers_left > 0;
        let Some(header) = Header::read(bytes) else { return Step::NeedMore };
        if self.settings.awaits_server() && header.kind != Kind::Settings {
            return refuse("server that does not begin with SETTINGS");
        }
        match header.kind {
            Kind::Data => self.server_data(header, bytes),
            Kind::Headers | Kind::PushPromise => self.server_headers(header, bytes),
            Kind::Continuation => refuse("CONTINUATION of nothing from the server"),
            Kind::GoAway | Kind::Priority | Kind::Unknown => {
                self.server_passed(header.total(), header.total().min(bytes.len()), Fate::Pass)
            }
            Kind::Settings | Kind::Ping | Kind::Reset | Kind::WindowUpdate => {
                if header.payload() > CONTROL_FRAME_BYTES_MAX {
                    return refuse("control frame of the server longer than 4 KiB");
                }
                match bytes.get(HEADER_BYTES..header.total()) {
                    Some(payload) => self.server_control(header, payload),
                    None => Step::NeedMore,
                }
            }
        }
    }

    /// So many bytes of a frame go, of which so many are left.
    fn server_passed<'a>(&mut self, left: usize, count: usize, fate: Fate) -> Step<'a> {
        self.server = match left - count {
            0 => ServerReading::Frame,
            left => ServerReading::Payload { left, fate },
        };
        self.server_consumed(count, fate)
    }

    fn server_consumed<'a>(&self, count: usize, fate: Fate) -> Step<'a> {
        match fate {
            Fate::Drop if self.holds_answer() => Step::Discard(count),
            Fate::Drop | Fate::Pass => Step::Forward(count),
        }
    }

    fn server_data<'a>(&mut self, header: Header, bytes: &[u8]) -> Step<'a> {
        let end = header.has(END_STREAM);
        let fate = match self.streams.find(header.stream) {
            Some(stream) if !stream.is_ending() => Fate::Pass,
            Some(stream) => {
                stream.server_ended |= end;
                Fate::Drop
            }
            None => Fate::Drop,
        };
        if fate == Fate::Drop && self.holds_answer() {
            // The client never sees it; the server has to get its window back all the same.
            frame::put_window(&mut self.to_server, header.length);
            if end {
                self.server_ended(header.stream);
            }
            return self.server_passed(header.total(), header.total().min(bytes.len()), fate);
        }
        if self.window.must_wait(header.length) {
            return Step::NeedMore;
        }
        let checks = self.streams.peek(header.stream).is_some_and(|stream| stream.checks_frames());
        if checks && self.holds_answer() {
            return self.server_websocket(header, bytes);
        }
        self.window.passed(header.length);
        self.budget.answered();
        if end {
            self.server_ended(header.stream);
        }
        self.server_passed(header.total(), header.total().min(bytes.len()), fate)
    }

    /// DATA of a WebSocket whose frames are checked. What is wrong in it ends the connection: a part of the stream is
    /// with the client already.
    fn server_websocket<'a>(&mut self, header: Header, bytes: &[u8]) -> Step<'a> {
        let padded = usize::from(header.has(PADDED));
        let Some(padding) = bytes.get(HEADER_BYTES).or((padded == 0).then_some(&0)) else {
            return Step::NeedMore;
        };
        let padding = if padded > 0 { usize::from(*padding) } else { 0 };
        let Some(content) = header.payload().checked_sub(padded + padding) else {
            return refuse("padding of the server longer than its frame");
        };
        self.window.passed(header.length);
        self.budget.answered();
        let (left, stream, end) = (header.total(), header.stream, header.has(END_STREAM));
        self.server_checked(HEADER_BYTES + padded, bytes, InMessages { left, content, stream, end })
    }

    /// Bytes of which those of messages begin here.
    fn server_checked<'a>(&mut self, first: usize, bytes: &[u8], data: InMessages) -> Step<'a> {
        let (count, next) = match self.follow(Side::Server, first, bytes, data) {
            Ok(followed) => followed,
            Err(detail) => return refuse(detail),
        };
        self.server = next.map_or(ServerReading::Frame, ServerReading::Checked);
        if next.is_none() && data.end {
            self.server_ended(data.stream);
        }
        self.server_consumed(count, Fate::Pass)
    }

    /// The server sends nothing more on a stream.
    fn server_ended(&mut self, id: u32) {
        let Some(stream) = self.streams.find(id) else { return };
        stream.server_ended = true;
        let (status, whole) = (stream.status, stream.client_ended);
        if stream.is_ending() {
            if let Some(stream) = self.streams.reset(id) {
                self.finish(&stream);
            }
            return;
        }
        self.complete(id, status);
        if whole {
            self.streams.end(id);
        }
    }

    fn server_headers<'a>(&mut self, header: Header, bytes: &[u8]) -> Step<'a> {
        if header.kind == Kind::PushPromise && self.gate {
            return refuse("pushed response, which was not allowed");
        }
        if self.gate && self.streams.past(header.stream) == Past::Idle {
            // It would be there before the request, and its client would take it for the answer whatever is decided.
            return refuse("response to no request");
        }
        let padded = usize::from(header.has(PADDED));
        let between = match header.kind {
            Kind::PushPromise => 4,
            _ if header.has(PRIORITY) => 5,
            _ => 0,
        };
        let prefix = HEADER_BYTES + padded + between;
        if bytes.len() < prefix.min(header.total()) {
            return Step::NeedMore;
        }
        let padding =
            if padded > 0 { usize::from(bytes.get(HEADER_BYTES).copied().unwrap_or_default()) } else { 0 };
        let left = header.total().checked_sub(prefix).and_then(|left| left.checked_sub(padding));
        let Some(left) = left else { return refuse("header frame of the server too short for its flags") };
        let is_response = header.kind == Kind::Headers;
        let block = ServerBlock { stream: header.stream, end_stream: is_response && header.has(END_STREAM) };
        self.budget.answered();
        self.server_block.clear();
        let is_rewritten = block.end_stream
            && self.holds_answer()
            && self.streams.peek(header.stream).is_some_and(|stream| stream.is_ending());
        if let Some(fragment) = bytes.get(prefix..prefix + left)
            && bytes.len() >= header.total()
            && header.has(END_HEADERS)
            && !is_rewritten
        {
            if fragment.len() > HEADER_BLOCK_BYTES_MAX {
                self.lose_statuses();
            }
            self.read_server_block(block, fragment);
            return Step::Forward(header.total());
        }
        self.server = ServerReading::Fragment { left, padding, last: header.has(END_HEADERS), block };
        if is_rewritten {
            // The block has to pass for the client's table; how the stream ends is ours to say.
            self.patch.extend_from_slice(bytes.get(..prefix).unwrap_or_default());
            if let Some(flags) = self.patch.get_mut(4) {
                *flags &= !END_STREAM;
            }
            self.skip_empty_fragment(left + padding, header.has(END_HEADERS), block);
            return Step::Discard(prefix);
        }
        self.skip_empty_fragment(left + padding, header.has(END_HEADERS), block);
        Step::Forward(prefix)
    }

    /// A frame without any fragment is complete with its prefix.
    fn skip_empty_fragment(&mut self, left: usize, last: bool, block: ServerBlock) {
        match (left, last) {
            (0, true) => self.server_block_complete(block),
            (0, false) => self.server = ServerReading::Continuation(block),
            (_, _) => {}
        }
    }

    fn server_fragment<'a>(
        &mut self,
        bytes: &[u8],
        left: usize,
        padding: usize,
        last: bool,
        block: ServerBlock,
    ) -> Step<'a> {
        let here = left.min(bytes.len());
        let padding_here = padding.min(bytes.len() - here);
        if self.watcher.is_some() {
            self.server_block.extend_from_slice(bytes.get(..here).unwrap_or_default());
            if self.server_block.len() > HEADER_BLOCK_BYTES_MAX {
                self.lose_statuses();
            }
        }
        let (left, padding) = (left - here, padding - padding_here);
        self.server = ServerReading::Fragment { left, padding, last, block };
        self.skip_empty_fragment(left + padding, last, block);
        Step::Forward(here + padding_here)
    }

    fn server_continuation<'a>(&mut self, bytes: &[u8], block: ServerBlock) -> Step<'a> {
        let Some(header) = Header::read(bytes) else { return Step::NeedMore };
        if header.kind != Kind::Continuation || header.stream != block.stream {
            return refuse("header block of the server that is interrupted");
        }
        let (left, last) = (header.payload(), header.has(END_HEADERS));
        self.server = ServerReading::Fragment { left, padding: 0, last, block };
        self.skip_empty_fragment(left, last, block);
        Step::Forward(HEADER_BYTES)
    }

    fn server_block_complete(&mut self, block: ServerBlock) {
        self.server = ServerReading::Frame;
        let fragments = std::mem::take(&mut self.server_block);
        self.read_server_block(block, &fragments);
        if self.watcher.is_some() {
            self.server_block = fragments;
        }
    }

    /// A header block that has come in full.
    fn read_server_block(&mut self, block: ServerBlock, fragments: &[u8]) {
        let status = match &mut self.watcher {
            None => None,
            Some(watcher) => match watcher.status(fragments) {
                Ok(status) => status,
                Err(_) => {
                    self.lose_statuses();
                    None
                }
            },
        };
        if let Some(stream) = self.streams.find(block.stream)
            && !status.is_some_and(|status| (100..200).contains(&status))
            && !stream.responded
        {
            stream.responded = true;
            stream.status = status.unwrap_or_default();
        }
        if block.end_stream {
            self.server_ended(block.stream);
        }
    }

    /// What the server's blocks say cannot be followed any more; they pass all the same.
    fn lose_statuses(&mut self) {
        self.watcher = None;
        self.server_block = Vec::new();
    }

    /// A frame that is here in full.
    fn server_control<'a>(&mut self, header: Header, payload: &[u8]) -> Step<'a> {
        let count = header.total();
        match header.kind {
            Kind::Settings => self.server_settings(header, payload),
            Kind::Ping => match header.has(ACK) && self.is_fence(payload) {
                true => self.server_consumed(count, Fate::Drop),
                false => {
                    // A client has to answer it: servers that measure the way to it ask a thousand times in a second.
                    self.budget.answered();
                    Step::Forward(count)
                }
            },
            Kind::Reset => self.server_reset(header, payload),
            _ => {
                let known = header.stream == 0
                    || self.streams.find(header.stream).is_some_and(|stream| !stream.is_ending());
                self.server_consumed(count, if known { Fate::Pass } else { Fate::Drop })
            }
        }
    }

    fn server_settings<'a>(&mut self, header: Header, payload: &[u8]) -> Step<'a> {
        let count = header.total();
        if !payload.len().is_multiple_of(6) || header.stream != 0 {
            return refuse("SETTINGS of the server of a length that is none");
        }
        if header.has(ACK) {
            return match self.settings.awaits_server() {
                true => refuse("server that does not begin with SETTINGS"),
                false => Step::Forward(count),
            };
        }
        let first = self.settings.awaits_server();
        self.budget.answered();
        match self.settings.server(payload, self.gate) {
            Ok(table) => self.decoder.raise(table),
            Err(detail) => return refuse(detail),
        }
        let mut edited = Vec::new();
        if !self.holds_answer() || !Settings::clamped(payload, first, &mut edited) {
            return Step::Forward(count);
        }
        frame::put(&mut self.patch, Kind::Settings, 0, 0, &edited);
        Step::Discard(count)
    }

    fn server_reset<'a>(&mut self, header: Header, payload: &[u8]) -> Step<'a> {
        let count = header.total();
        let Some(stream) = self.streams.reset(header.stream) else {
            return self.server_consumed(count, Fate::Drop);
        };
        if stream.is_ending() {
            self.finish(&stream);
            return self.server_consumed(count, Fate::Drop);
        }
        if !stream.server_ended {
            self.complete(stream.id, stream.status);
        }
        // Errors that a client provokes; what a server gives up on its own is no fault of the client.
        let provoked = matches!(frame::number(payload), 1 | 3..=6 | 9);
        if provoked && let Some(detail) = self.spend(super::Spent::Fault) {
            return refuse(detail);
        }
        Step::Forward(count)
    }

    /// True for the answer to a PING of our own. What was reset before that is over.
    fn is_fence(&mut self, payload: &[u8]) -> bool {
        let [b'b', b'l', b'k', b'h', number @ ..] = payload else { return false };
        let number = number.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let ours = self.holds_answer() && number != 0 && number <= self.fences;
        while ours && let Some(stream) = self.streams.take_ending(number) {
            self.finish(&stream);
        }
        ours
    }
}

fn refuse<'a>(detail: &'static str) -> Step<'a> {
    Step::Refuse(Refusal { reason: Reason::Malformed, status: None, detail })
}

//! HTTP/2 in line (RFC 9113): frames pass from end to end, requests are decided on one by one.
//!
//! Header blocks of the client are decoded, asked about, and encoded again without any table, so that a request that was
//! denied leaves nothing at the server. DATA passes with the flow control of both ends; only what belongs to a stream that
//! the server does not know is dropped, and its window given back. Blocks of the server pass unchanged. What we say
//! ourselves goes between two frames.
//!
//! [`Http2`] is the state; [`client`] and [`server`] read frames of the two sides, [`block`] the client's header blocks,
//! [`request`] header lists, [`hpack`] is their compression, [`streams`] keeps what is open, [`window`] what our own
//! bodies cost, [`budget`] stops floods, [`reply`] writes refusals.

mod block;
mod budget;
mod client;
mod frame;
pub mod hpack;
mod reply;
mod request;
mod server;
mod settings;
mod streams;
#[cfg(test)]
mod tests;
mod window;

use crate::contract::{Inspector, Notice, Progress, Refusal, Side, Standing, Step};
use crate::http1::HostCache;
use crate::limits::{FRAME_SHOWN_BYTES_MAX, HEADER_TABLE_BYTES_MAX, INSERTED_BYTES_MAX};
use crate::question::{Question, Subject};
use block::{Asked, Block};
use budget::{Budget, Spent};
use bulkhead_facts::Reason;
use client::{Fate, Reading};
use frame::{Code, Kind};
use hpack::{Decoder, Fields, Watcher};
use request::Offers;
use server::ServerReading;
use settings::Settings;
use std::collections::VecDeque;
use streams::{Ending, Stream, Streams};
use window::Window;

/// One HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    /// Steps are obeyed.
    gate: bool,
    /// So many bytes of the client, the next to be read, left before the gate was there: their frames pass as they are.
    left_before_gate: usize,
    /// The frame or header block that is being read passes as it is.
    raw: bool,
    /// The same of the server.
    answers_left: usize,
    raw_answer: bool,
    reading: Reading,
    /// Bytes of the client until now.
    heard: u64,
    block: Block,
    asked: Asked,
    server: ServerReading,
    streams: Streams,
    settings: Settings,
    window: Window,
    budget: Budget,
    decoder: Decoder,
    fields: Fields,
    hosts: HostCache,
    watcher: Option<Watcher>,
    /// Fragments of the server's header block.
    server_block: Vec<u8>,
    /// The next block to the server has to say that its table is empty.
    owes_table_size: bool,
    /// The request that is asked about, as it leaves if it is allowed.
    output: Vec<u8>,
    to_server: Vec<u8>,
    /// What stands in the place of bytes of the server that were dropped just now.
    patch: Vec<u8>,
    to_client: Vec<u8>,
    /// Why the connection ends, once it does.
    fault: Code,
    last_words: Option<Vec<u8>>,
    /// A budget that is used up, to be said as soon as what is being read is done.
    exhausted: Option<&'static str>,
    /// No new stream is taken.
    draining: bool,
    fences: u32,
    progress: VecDeque<Progress>,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            gate: false,
            left_before_gate: 0,
            raw: false,
            answers_left: 0,
            raw_answer: false,
            reading: Reading::Preface,
            heard: 0,
            block: Block::default(),
            asked: Asked::default(),
            server: ServerReading::Frame,
            streams: Streams::default(),
            settings: Settings::default(),
            window: Window::default(),
            budget: Budget::default(),
            decoder: Decoder::new(HEADER_TABLE_BYTES_MAX),
            fields: Fields::default(),
            hosts: HostCache::default(),
            watcher: Some(Watcher::default()),
            server_block: Vec::new(),
            owes_table_size: true,
            output: Vec::new(),
            to_server: Vec::new(),
            patch: Vec::new(),
            to_client: Vec::new(),
            fault: Code::NoError,
            last_words: None,
            exhausted: None,
            draining: false,
            fences: 0,
            progress: VecDeque::new(),
        }
    }
}

/// Reads a request again from the block that [`Question::bytes`] held, as it was when it was first decided on.
pub(crate) fn question(block: &[u8], exchange: u32) -> Option<Question<'_>> {
    let read = request::read(hpack::literals(block), Offers::ALL, &mut HostCache::default()).ok()?;
    Some(Question { bytes: block, exchange, lasting: false, subject: Subject::Http(read.head) })
}

impl Http2 {
    /// The connection cannot go on: what was wrong, and what the client is told.
    fn fail<'a>(&mut self, code: Code, detail: &'static str) -> Step<'a> {
        self.reading = Reading::Ended;
        self.fault = code;
        let reason = if code == Code::EnhanceYourCalm { Reason::Limit } else { Reason::Malformed };
        Step::Refuse(Refusal { reason, status: None, detail })
    }

    /// Ends a stream that the server knows: the server is told now, the client once the server has seen that.
    fn kill(&mut self, id: u32, ending: Ending) {
        let Some(stream) = self.streams.find(id).filter(|stream| !stream.is_ending()) else { return };
        self.fences = self.fences.wrapping_add(1);
        stream.end(ending, self.fences);
        frame::put_reset(&mut self.to_server, id, Code::Cancel);
        frame::put(&mut self.to_server, Kind::Ping, 0, 0, &fence(self.fences));
    }

    /// The server says nothing more on an ending stream: the client is told.
    fn finish(&mut self, stream: &Stream) {
        let id = stream.id;
        match stream.ending() {
            None => return,
            Some(Ending::Reset(code)) => frame::put_reset(&mut self.to_client, id, *code),
            Some(Ending::Denied { line, .. }) if stream.about.grpc => {
                reply::grpc_trailers(&mut self.to_client, id, line, !stream.responded);
                self.close_request(stream);
            }
            Some(Ending::Denied { json, line }) if !stream.responded => {
                let room = self.window.room(self.settings.client_window);
                let spent = reply::denial(&mut self.to_client, id, stream.about, 403, json, line, room);
                self.window.injected(spent);
                self.close_request(stream);
            }
            Some(Ending::Denied { .. }) => frame::put_reset(&mut self.to_client, id, Code::Cancel),
        }
        self.complete(id, stream.status);
    }

    fn close_request(&mut self, stream: &Stream) {
        if !stream.client_ended {
            reply::reset_complete(&mut self.to_client, stream.id);
        }
    }

    fn complete(&mut self, id: u32, status: u16) {
        let status = (status != 0).then_some(status);
        self.progress.push_back(Progress { exchange: id, status, completed: true, tunnel: false });
    }

    /// Bytes on the heap, and of this itself.
    #[cfg(test)]
    fn held_bytes(&self) -> usize {
        let buffers = [&self.output, &self.to_server, &self.to_client, &self.patch, &self.server_block];
        let buffers: usize = buffers.iter().map(|buffer| buffer.capacity()).sum();
        buffers + self.decoder.held_bytes() + size_of::<Self>()
    }

    /// True where only what opens a connection may leave: nobody knows yet whether the server speaks HTTP/2 at all, and another
    /// one could take what a client put into a frame for a request.
    fn waits_for_greeting(&self) -> bool {
        let held = self.gate && !self.raw && self.left_before_gate == 0;
        held && self.settings.awaits_server() && !self.settings.awaits_client()
    }

    fn spend(&mut self, what: Spent) -> Option<&'static str> {
        // Under the tee nothing is stopped.
        self.budget.spend(what).err().filter(|_| self.gate)
    }
}

/// Bytes that a buffer of an idle connection keeps, so that the next request need not allocate.
const IDLE_BUFFER_BYTES: usize = 512;
/// The same while a stream is open, of a client that has sent more than [`OPEN_BUFFER_EARNED_BYTES`]: whoever leaves one
/// open must not hold what a large request has taken.
const OPEN_BUFFER_BYTES: usize = 2 * 1024;
const OPEN_BUFFER_EARNED_BYTES: u64 = 16 * 1024;

/// Gives a buffer back if it is larger than so many bytes.
fn shrink(buffer: &mut Vec<u8>, bytes_max: usize) {
    if buffer.capacity() > bytes_max {
        buffer.shrink_to(bytes_max);
    }
}

/// Our own PING: behind its answer the server says nothing more on a stream that was reset before it.
fn fence(number: u32) -> [u8; 8] {
    let [a, b, c, d] = number.to_be_bytes();
    [b'b', b'l', b'k', b'h', a, b, c, d]
}

impl Inspector for Http2 {
    fn client<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        self.read_client(bytes)
    }

    fn server<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        self.read_server(bytes)
    }

    fn allow(&mut self) {
        self.release_asked();
    }

    fn check_frames(&mut self, compressed: bool) {
        self.check_asked(compressed);
    }

    fn checks_frames(&self, exchange: u32) -> bool {
        self.streams.peek(exchange).is_some_and(Stream::checks_frames)
    }

    fn deny(&mut self, notice: &Notice<'_>) -> bool {
        self.deny_asked(notice)
    }

    fn reject(&mut self, _: &Refusal, _: &Notice<'_>) -> bool {
        if let Reading::Refused { count, code } = self.reading {
            if self.raw {
                // A part of it has left: without the rest the server would take for it whatever comes next.
                return false;
            }
            frame::put_reset(&mut self.to_client, self.asked.stream, code);
            self.streams.reset(self.asked.stream);
            self.reading = Reading::Answered { count, allowed: false };
            if code == Code::Protocol {
                self.exhausted = self.spend(Spent::Fault);
            }
            return true;
        }
        let mut words = Vec::new();
        if self.settings.awaits_server() {
            frame::put(&mut words, Kind::Settings, 0, 0, &[]);
        }
        frame::put_go_away(&mut words, self.streams.last, self.fault, "");
        self.last_words = Some(words);
        true
    }

    fn close_opaque(&mut self, notice: &Notice<'_>) -> bool {
        // A client that goes on in HTTP/1.1 is told more.
        let mut words = Vec::new();
        frame::put(&mut words, Kind::Settings, 0, 0, &[]);
        frame::put_go_away(&mut words, 0, Code::Http11Required, notice.line);
        self.reading = Reading::Ended;
        self.last_words = Some(words);
        true
    }

    fn reply(&self) -> Option<&[u8]> {
        self.last_words.as_deref().filter(|_| matches!(self.server, ServerReading::Frame))
    }

    fn replied(&mut self) -> bool {
        self.last_words.take().is_none()
    }

    fn take_progress(&mut self) -> Progress {
        self.progress.pop_front().unwrap_or_default()
    }

    fn insertion(&self, side: Side) -> &[u8] {
        match side {
            Side::Server if self.is_between_client_frames() => &self.to_server,
            Side::Client if !self.patch.is_empty() => &self.patch,
            Side::Client if matches!(self.server, ServerReading::Frame) && !self.settings.awaits_server() => {
                &self.to_client
            }
            Side::Server | Side::Client => &[],
        }
    }

    fn inserted(&mut self, side: Side) {
        let taken = match side {
            Side::Server => &mut self.to_server,
            Side::Client if !self.patch.is_empty() => &mut self.patch,
            Side::Client => &mut self.to_client,
        };
        taken.clear();
    }

    fn hold(&mut self, gate: bool, left: usize) {
        if gate && !self.gate {
            self.gate = true;
            self.left_before_gate = left;
            self.raw = left > 0 || matches!(self.reading, Reading::Fragment | Reading::Continuation);
            // A payload of which a part has passed passes whole.
            if let Reading::Payload { fate, .. } = &mut self.reading {
                *fate = Fate::Pass;
            }
            if let ServerReading::Payload { fate, .. } = &mut self.server {
                *fate = Fate::Pass;
            }
        }
    }

    fn answers_left(&mut self, count: usize) {
        self.answers_left = if self.gate { 0 } else { count };
    }

    fn stays_held(&self) -> bool {
        // A server whose table was emptied, and that misses what was denied, cannot follow the client's own frames.
        self.gate
    }

    fn survives(&self) -> bool {
        matches!(self.reading, Reading::Refused { .. } | Reading::Answered { .. })
    }

    fn revoke(&mut self, exchange: u32, notice: &Notice<'_>) -> bool {
        self.kill(exchange, Ending::Denied { json: notice.json.into(), line: notice.line.into() });
        true
    }

    fn tick(&mut self, now_ms: u64) {
        self.budget.tick(now_ms);
    }

    fn drain(&mut self) {
        if self.gate && !std::mem::replace(&mut self.draining, true) {
            frame::put_go_away(&mut self.to_client, self.streams.last, Code::NoError, "");
        }
    }

    fn release(&mut self) {
        let idle = self.streams.count() == 0 && matches!(self.reading, Reading::Frame);
        let earned = !idle && self.heard > OPEN_BUFFER_EARNED_BYTES;
        let bytes_max = if earned { OPEN_BUFFER_BYTES } else { IDLE_BUFFER_BYTES };
        if idle {
            self.decoder.release();
            self.streams.release();
        }
        if !matches!(self.reading, Reading::Fragment | Reading::Continuation) {
            self.block.release(bytes_max);
        }
        self.fields.release(2 * bytes_max);
        for buffer in [&mut self.output, &mut self.server_block, &mut self.to_server, &mut self.to_client] {
            shrink(buffer, bytes_max);
        }
    }

    fn bytes_max(&self) -> usize {
        FRAME_SHOWN_BYTES_MAX
    }

    fn answered_early(&self) -> bool {
        // Other streams go on.
        false
    }

    fn standing(&self) -> Standing {
        let in_block = matches!(self.reading, Reading::Fragment | Reading::Continuation);
        let answering = matches!(
            self.reading,
            Reading::Asked { .. } | Reading::Answered { .. } | Reading::Refused { .. } | Reading::Ended
        );
        let waits = answering || self.to_client.len() > INSERTED_BYTES_MAX || self.waits_for_greeting();
        Standing {
            idle: self.streams.count() == 0 && !in_block && !waits && self.to_client.is_empty(),
            in_question: in_block || matches!(self.reading, Reading::Frame | Reading::Preface),
            begun: in_block || self.settings.awaits_client(),
            in_body: false,
            dropping: false,
            in_response: !matches!(self.server, ServerReading::Frame),
            waits_for_server: waits,
            awaits_greeting: self.waits_for_greeting(),
            has_reply: self.last_words.is_some(),
            answered_early: false,
            finished: false,
            over: false,
        }
    }

    fn outstanding(&self) -> usize {
        self.streams.count()
    }
}

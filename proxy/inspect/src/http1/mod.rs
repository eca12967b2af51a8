//! HTTP/1.1 and 1.0 in line: both directions of one connection as two state machines that watch each other.
//!
//! Heads are read strictly and decided whole; bodies are framed and pass. A request is read only after the body
//! of the one before is complete; a response is let through only if a request waits for it; what a client sends
//! after asking for a tunnel is held until the server has agreed. [`Http1`] is the state, [`request`] and
//! [`response`] read heads, [`chunked`] frames, [`reply`] writes refusals.

mod chunked;
mod head;
mod hosts;
mod pending;
mod reply;
mod request;
mod response;
mod upgraded;

pub(crate) use head::{content_length, is_text, is_token};
pub(crate) use hosts::HostCache;
pub(crate) use request::{is_method, path_and_query};

use crate::contract::{Inspector, Notice, Progress, Refusal, Side, Standing, Step};
use crate::limits::{HEAD_BYTES_MAX, INTERIM_RESPONSES_MAX, REQUESTS_OUTSTANDING_MAX};
use crate::question::Question;
use crate::websocket::Frames;
use chunked::Chunked;
use pending::{CLOSE, EMPTY_LINE_BYTES, Pending};
use request::Intent;
use response::refuse;
use std::collections::VecDeque;
use upgraded::WebSocket;

/// One HTTP/1 connection.
#[derive(Debug, Default)]
pub(crate) struct Http1 {
    /// Steps are obeyed.
    gate: bool,
    requests: Requests,
    responses: Responses,
    /// Requests released and not yet answered to the end.
    outstanding: VecDeque<Outstanding>,
    host: HostCache,
    reply: Option<Reply>,
    progress: Progress,
    /// Nothing follows the exchange that is open.
    last_exchange: bool,
    /// What the connection is to become, once that was asked.
    upgrade: Option<Box<[u8]>>,
    websocket: WebSocket,
}

#[derive(Debug)]
enum Requests {
    /// Before or inside a head, of which so many bytes were looked at.
    Head {
        scanned: usize,
    },
    /// Waits for the verdict.
    Asked(Pending),
    /// Allowed; the head leaves, without its cuts.
    Releasing {
        pending: Pending,
        position: u16,
    },
    /// Inside the body.
    Body {
        body: Body,
        then: After,
    },
    /// A tunnel was asked for: nothing moves before the server's answer.
    Held,
    /// Denied or refused: nothing moves before our reply is written.
    Replying {
        discard: usize,
    },
    /// No further request is read.
    Ended,
    Tunnel,
}

impl Default for Requests {
    fn default() -> Self {
        Self::Head { scanned: 0 }
    }
}

/// What comes after the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Head,
    Held,
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    to_head: bool,
    intent: Intent,
    /// The server is told that the connection ends with it, and the client has to hear it as well.
    closes: bool,
}

#[derive(Debug)]
enum Responses {
    Head {
        scanned: usize,
        interim: u8,
    },
    /// Before the empty line of a head, where the client is told that the connection ends.
    Ending {
        body: Body,
        told: bool,
    },
    Body(Body),
    Tunnel,
}

impl Default for Responses {
    fn default() -> Self {
        Self::Head { scanned: 0, interim: 0 }
    }
}

/// How a body is framed, and how much of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Body {
    fn length(length: u64) -> Self {
        if length == 0 { Self::None } else { Self::Length(length) }
    }

    fn chunked() -> Self {
        Self::Chunked(Chunked::default())
    }

    /// How many of `bytes` belong to it, at least one; and whether it is complete with them.
    fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), Refusal> {
        match self {
            Self::None => Ok((0, true)),
            Self::UntilClose => Ok((bytes.len(), false)),
            Self::Chunked(chunked) => chunked.advance(bytes),
            Self::Length(left) => {
                let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= u64::try_from(here).unwrap_or(*left);
                Ok((here, *left == 0))
            }
        }
    }

    fn passable(&self) -> u64 {
        match self {
            Self::None | Self::Chunked(_) => 0,
            Self::Length(left) => *left,
            Self::UntilClose => u64::MAX,
        }
    }
}

#[derive(Debug)]
struct Reply {
    bytes: Vec<u8>,
    close: bool,
}

/// Reads one complete request head again, as it was when it was first decided on.
pub(crate) fn question(head: &[u8]) -> Option<Question<'_>> {
    let end = head::find_end(head, &mut 0).ok()??;
    request::parse(head.get(..end)?, &mut HostCache::default(), false).ok().map(|parsed| parsed.question)
}

impl Inspector for Http1 {
    fn client<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        loop {
            match &mut self.requests {
                Requests::Head { .. } => return self.request_head(bytes),
                Requests::Asked(_) | Requests::Ended => return Step::NeedMore,
                Requests::Releasing { pending, position } => match pending.release(position) {
                    Some(step) => return step,
                    None => {
                        let (body, then) = (pending.body, pending.then);
                        self.requests = enter_body(body, then);
                    }
                },
                Requests::Body { .. } => return self.request_body(bytes),
                Requests::Held => match self.held() {
                    Some(next) => {
                        if let (Requests::Head { .. }, WebSocket::Wanted) = (&next, &self.websocket) {
                            self.websocket = WebSocket::Opaque;
                        }
                        self.requests = next;
                    }
                    None => return Step::NeedMore,
                },
                Requests::Replying { discard } => {
                    return match std::mem::take(discard) {
                        0 => Step::NeedMore,
                        count => Step::Discard(count),
                    };
                }
                Requests::Tunnel => return self.websocket.step(Side::Client, bytes),
            }
        }
    }

    fn server<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        match &mut self.responses {
            Responses::Tunnel => self.websocket.step(Side::Server, bytes),
            _ if bytes.is_empty() => Step::NeedMore,
            Responses::Head { .. } => self.response_head(bytes),
            Responses::Ending { told: false, .. } => Step::NeedMore,
            Responses::Ending { body, told: true } => {
                let body = *body;
                self.begin_body(body);
                Step::Forward(EMPTY_LINE_BYTES)
            }
            Responses::Body(body) => match body.advance(bytes) {
                Err(refusal) => Step::Refuse(refusal),
                Ok((count, complete)) => {
                    if complete {
                        self.complete();
                    }
                    Step::Forward(count)
                }
            },
        }
    }

    fn allow(&mut self) {
        if let Requests::Asked(mut pending) = std::mem::replace(&mut self.requests, Requests::Ended) {
            self.upgrade = pending.upgrade.take();
            self.outstanding.push_back(pending.about);
            self.requests = Requests::Releasing { pending, position: 0 };
        }
    }

    fn deny(&mut self, notice: &Notice<'_>) -> bool {
        if let Requests::Asked(pending) = std::mem::replace(&mut self.requests, Requests::Ended) {
            let close = pending.close_after_denial;
            let bytes = reply::compose(notice.status, notice.json, pending.about.to_head, close);
            self.reply = Some(Reply { bytes, close });
            self.requests = Requests::Replying { discard: usize::from(pending.head_bytes) };
        }
        true
    }

    fn check_frames(&mut self, _: bool) {
        if let Requests::Asked(Pending { about: Outstanding { intent: Intent::Upgrade, .. }, .. }) =
            self.requests
        {
            self.websocket = WebSocket::Wanted;
        }
    }

    fn checks_frames(&self, _: u32) -> bool {
        matches!(self.websocket, WebSocket::Checked(_))
    }

    fn will_check_frames(&self, _: u32) -> bool {
        matches!(self.websocket, WebSocket::Wanted | WebSocket::Checked(_))
    }

    fn insertion(&self, side: Side) -> &[u8] {
        match (&self.websocket, side) {
            (WebSocket::Checked(checked), Side::Server) => &checked.to_server,
            (_, Side::Server) if self.has_to_close() => CLOSE,
            (_, Side::Client) if matches!(self.responses, Responses::Ending { told: false, .. }) => CLOSE,
            (_, _) => &[],
        }
    }

    fn inserted(&mut self, side: Side) {
        if side == Side::Client {
            if let Responses::Ending { told, .. } = &mut self.responses {
                *told = true;
            }
            return;
        }
        if let Requests::Releasing { pending, position } = &mut self.requests
            && pending.has_to_close(*position)
        {
            pending.closes = false;
        }
        if let WebSocket::Checked(checked) = &mut self.websocket {
            checked.to_server.clear();
        }
    }

    fn reject(&mut self, refusal: &Refusal, notice: &Notice<'_>) -> bool {
        if let WebSocket::Checked(checked) = &mut self.websocket {
            let Some(bytes) = checked.close(notice.line) else { return false };
            self.reply = Some(Reply { bytes, close: true });
            self.requests = Requests::Ended;
            return true;
        }
        let Some(status) = refusal.status.filter(|_| matches!(self.requests, Requests::Head { .. })) else {
            return false;
        };
        self.reply = Some(Reply { bytes: reply::compose(status, notice.json, false, true), close: true });
        self.requests = Requests::Replying { discard: 0 };
        true
    }

    fn reply(&self) -> Option<&[u8]> {
        // What was denied is gone by then, or it would be asked about again.
        let gone = !matches!(self.requests, Requests::Replying { discard: 1.. });
        let in_order = gone
            && match (&self.responses, &self.websocket) {
                (Responses::Head { .. }, _) => self.outstanding.is_empty(),
                (Responses::Tunnel, WebSocket::Checked(checked)) => checked.frames.is_between(Side::Server),
                (Responses::Ending { .. } | Responses::Body(_) | Responses::Tunnel, _) => false,
            };
        self.reply.as_ref().filter(|_| in_order).map(|reply| reply.bytes.as_slice())
    }

    fn replied(&mut self) -> bool {
        let goes_on = self.reply.take().is_none_or(|reply| !reply.close);
        if let Requests::Replying { .. } = self.requests {
            self.requests = if goes_on { Requests::default() } else { Requests::Ended };
        }
        goes_on
    }

    fn take_progress(&mut self) -> Progress {
        std::mem::take(&mut self.progress)
    }

    fn passable(&self, side: Side) -> u64 {
        match (side, &self.requests, &self.responses) {
            (Side::Client, Requests::Body { .. }, _) if self.drops_body() => 0,
            (Side::Client, Requests::Body { body, .. }, _) => body.passable(),
            (Side::Client, Requests::Tunnel, _) | (Side::Server, _, Responses::Tunnel) => {
                match &self.websocket {
                    WebSocket::Checked(checked) => checked.frames.passable(side),
                    WebSocket::Opaque | WebSocket::Wanted => u64::MAX,
                }
            }
            (Side::Server, _, Responses::Body(body)) => body.passable(),
            (Side::Client, _, _) | (Side::Server, _, Responses::Head { .. } | Responses::Ending { .. }) => 0,
        }
    }

    fn passed(&mut self, side: Side, count: u64) {
        if let WebSocket::Checked(checked) = &mut self.websocket {
            return checked.frames.passed(side, count);
        }
        match (side, &mut self.requests, &mut self.responses) {
            (Side::Client, Requests::Body { body: Body::Length(left), then }, _) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.requests = then.state();
                }
            }
            (Side::Server, _, Responses::Body(Body::Length(left))) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.complete();
                }
            }
            (Side::Client | Side::Server, _, _) => {}
        }
    }

    fn hold(&mut self, gate: bool, _: usize) {
        self.gate = gate;
    }

    fn end_after_exchange(&mut self) {
        match &mut self.requests {
            Requests::Body { then, .. } => *then = After::Ended,
            Requests::Releasing { pending, .. } => pending.then = After::Ended,
            _ => return,
        }
        self.last_exchange = true;
    }

    fn is_judged(&self) -> bool {
        true
    }

    fn bytes_max(&self) -> usize {
        HEAD_BYTES_MAX
    }

    fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    fn standing(&self) -> Standing {
        let in_head = matches!(self.requests, Requests::Head { .. });
        let ended = matches!(self.requests, Requests::Ended);
        let incomplete = matches!(self.requests, Requests::Body { .. } | Requests::Releasing { .. });
        let begun = matches!(self.responses, Responses::Ending { .. } | Responses::Body(_));
        let open = self.outstanding.len();
        Standing {
            idle: (in_head || ended) && open == 0 && self.reply.is_none(),
            in_question: in_head,
            begun: false,
            in_body: matches!(self.requests, Requests::Body { .. }),
            dropping: self.drops_body(),
            in_response: matches!(self.responses, Responses::Body(Body::Length(_) | Body::Chunked(_))),
            waits_for_server: self.waits_for_server(),
            awaits_greeting: false,
            has_reply: self.reply.is_some(),
            answered_early: incomplete && open <= usize::from(begun),
            finished: self.last_exchange && ended && open == 0,
            over: !self.last_exchange && ended && open == 0 && self.reply.is_none(),
        }
    }
}

impl Http1 {
    /// True where the server is told that the connection ends: behind the last line of a head.
    fn has_to_close(&self) -> bool {
        matches!(&self.requests, Requests::Releasing { pending, position }
            if pending.has_to_close(*position))
    }

    /// True while nobody waits for what comes of a body: its request was answered to the end, and is the last. A server that
    /// did not read it would take it for the next one.
    fn drops_body(&self) -> bool {
        self.last_exchange && self.outstanding.is_empty() && matches!(self.requests, Requests::Body { .. })
    }

    fn request_body<'a>(&mut self, bytes: &[u8]) -> Step<'a> {
        let drops = self.drops_body();
        let (Requests::Body { body, then }, false) = (&mut self.requests, bytes.is_empty()) else {
            return Step::NeedMore;
        };
        match body.advance(bytes) {
            Err(refusal) => Step::Refuse(refusal),
            Ok((count, complete)) => {
                if complete {
                    self.requests = then.state();
                }
                if drops { Step::Discard(count) } else { Step::Forward(count) }
            }
        }
    }

    fn waits_for_server(&self) -> bool {
        match self.requests {
            Requests::Head { .. } => self.outstanding.len() >= REQUESTS_OUTSTANDING_MAX,
            Requests::Asked(_) | Requests::Releasing { .. } | Requests::Held | Requests::Replying { .. } => {
                true
            }
            Requests::Body { .. } | Requests::Ended | Requests::Tunnel => false,
        }
    }

    fn request_head<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        let Requests::Head { scanned } = &mut self.requests else { return Step::NeedMore };
        let Some(first) = bytes.first() else { return Step::NeedMore };
        if self.outstanding.len() >= REQUESTS_OUTSTANDING_MAX {
            return Step::NeedMore;
        }
        if !first.is_ascii_uppercase() {
            return Step::Refuse(head::malformed("request that does not begin with a method"));
        }
        let head = match head::find_end(bytes, scanned) {
            Err(refusal) => return Step::Refuse(refusal),
            Ok(end) => match end.and_then(|end| bytes.get(..end)) {
                None => return Step::NeedMore,
                Some(head) => head,
            },
        };
        match request::parse(head, &mut self.host, self.gate) {
            Err(refusal) => Step::Refuse(refusal),
            Ok(parsed) => {
                let (question, pending) = Pending::of(parsed, head.len());
                self.requests = Requests::Asked(pending);
                Step::Ask(question)
            }
        }
    }

    fn held(&self) -> Option<Requests> {
        match self.responses {
            Responses::Tunnel => Some(Requests::Tunnel),
            // The server declined: what follows is an ordinary request.
            Responses::Head { .. } if self.outstanding.is_empty() => Some(Requests::default()),
            Responses::Head { .. } | Responses::Ending { .. } | Responses::Body(_) => None,
        }
    }

    fn response_head<'a>(&mut self, bytes: &[u8]) -> Step<'a> {
        let Responses::Head { scanned, interim } = &mut self.responses else { return Step::NeedMore };
        let Some(about) = self.outstanding.front().copied() else {
            return response::unasked(bytes);
        };
        let length = match head::find_end(bytes, scanned) {
            Err(refusal) => return Step::Refuse(Refusal { status: None, ..refusal }),
            Ok(None) => return Step::NeedMore,
            Ok(Some(length)) => length,
        };
        let head = match response::parse(bytes.get(..length).unwrap_or_default()) {
            Err(refusal) => return Step::Refuse(Refusal { status: None, ..refusal }),
            Ok(head) => head,
        };
        *scanned = 0;
        let agreed = match about.intent {
            Intent::Upgrade if head.status == 101 => {
                let asked = self.upgrade.as_deref().unwrap_or_default();
                if !response::agrees(bytes.get(..length).unwrap_or_default(), asked) {
                    return refuse("101 that does not agree to what was asked");
                }
                true
            }
            Intent::Upgrade => false,
            Intent::Connect => (200..300).contains(&head.status),
            Intent::Exchange => false,
        };
        match head.status {
            _ if agreed => return self.open_tunnel(length, head.status, head.compressed),
            101 => return refuse("101 that no request asked for"),
            100..=199 => {
                *interim += 1;
                if *interim > INTERIM_RESPONSES_MAX {
                    return refuse("more than 32 interim responses");
                }
            }
            status => {
                let no_body = about.to_head || matches!(status, 204 | 304);
                self.progress.status = Some(status);
                let body = if no_body { Body::None } else { head.body };
                if about.closes && !head.closes {
                    self.responses = Responses::Ending { body, told: false };
                    return Step::Forward(length.saturating_sub(EMPTY_LINE_BYTES));
                }
                self.begin_body(body);
            }
        }
        Step::Forward(length)
    }

    fn open_tunnel<'a>(&mut self, length: usize, status: u16, compressed: bool) -> Step<'a> {
        if !matches!(self.requests, Requests::Held) {
            return refuse("tunnel opened before its request was complete");
        }
        self.outstanding.clear();
        self.requests = Requests::Tunnel;
        self.responses = Responses::Tunnel;
        self.progress = Progress { exchange: 0, status: Some(status), completed: true, tunnel: true };
        if let WebSocket::Wanted = self.websocket {
            let frames = Frames::new(compressed);
            self.websocket = WebSocket::checked(frames);
        }
        Step::Forward(length)
    }

    fn begin_body(&mut self, body: Body) {
        match body {
            Body::None => self.complete(),
            body => self.responses = Responses::Body(body),
        }
    }

    fn complete(&mut self) {
        self.outstanding.pop_front();
        self.responses = Responses::default();
        self.progress.completed = true;
    }
}

fn enter_body(body: Body, then: After) -> Requests {
    match body {
        Body::None => then.state(),
        Body::Length(_) | Body::Chunked(_) | Body::UntilClose => Requests::Body { body, then },
    }
}

impl After {
    fn state(self) -> Requests {
        match self {
            Self::Head => Requests::default(),
            Self::Held => Requests::Held,
            Self::Ended => Requests::Ended,
        }
    }
}

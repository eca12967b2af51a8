//! The life of one connection: one task for both directions, one loop that waits on one event.
//!
//! [`Connection::run`] is the story; how bytes move is in [`super::relay`], what they mean in [`super::drive`].

use super::Dial;
use super::choice::dial_one_of;
use super::counters::{COUNTERS, add};
use super::leg::Leg;
use super::limits::{
    CLIENT_BUFFER_BYTES, DIAL_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT, PACE_BYTES_MIN,
    PACE_TIMEOUT, SERVER_BUFFER_BYTES, SILENCE_TIMEOUT, STALL_TIMEOUT,
};
use super::report::{Released, Report};
use super::verdict::{Plan, Verdicts};
use crate::drain::{Stage, StageReceiver};
use crate::policy::{Current, CurrentReceiver};
use bulkhead_facts::{Direction, Effect};
use bulkhead_inspect::{Conversation, Protocol, Question, Side};
use bulkhead_policies::program::AnswerPair;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::coop::has_budget_remaining;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

/// Both ends as the client sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who connected.
    pub client: SocketAddr,
    /// Whom it meant to reach.
    pub destination: SocketAddr,
}

/// One connection.
pub(super) struct Connection {
    pub(super) ends: Ends,
    pub(super) client: Leg,
    /// `None` until the destination is needed.
    pub(super) server: Option<Leg>,
    pub(super) conversation: Conversation,
    pub(super) verdicts: Verdicts,
    pub(super) report: Report,
    /// Nothing leaves before its verdict; else everything leaves at once and a copy is read.
    pub(super) gate: bool,
    pub(super) reading: Reading,
    pub(super) phase: Phase,
    /// It ends as soon as nothing is open on it.
    pub(super) draining: bool,
    /// Replies of our own that the client has not taken yet.
    pub(super) replies: Vec<u8>,
    /// Nothing is said after them.
    pub(super) replies_end: bool,
    /// Since when both sides have nothing more to do.
    pub(super) finished_since: Option<Instant>,
    last_moved: Instant,
    started: Instant,
    /// Since when the head that is being read has been incomplete.
    pub(super) head_since: Option<Instant>,
    /// Since when a body has been waiting for the client, and how much it had moved then.
    pace: Option<(Instant, u64)>,
}

/// Whether the bytes are still understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// By the conversation.
    Understood,
    /// They are a tunnel, or a protocol that we do not read.
    Opaque,
    /// They could not be followed under the tee.
    Lost,
}

/// Whether the connection is open or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Our last words are out; the client may take them.
    Lingering {
        since: Instant,
        bytes_left: usize,
    },
}

/// What the loop waits for.
pub(super) enum Event {
    /// Another program is in force; `None` if there will be no more.
    Policy(Option<(CurrentReceiver, Arc<Current>)>),
    /// A deadline may have passed.
    Timer,
    /// The process ends.
    Drain,
    /// Something may leave and there is no destination yet.
    Dial,
    End(End),
}

/// Tells without a lock whether rare events have to be asked about: each of their futures keeps the waker of the
/// last time, and what they wait for has a version.
struct Rare {
    policy: CurrentReceiver,
    stage: StageReceiver,
    waker: Option<Waker>,
}

impl Rare {
    fn new(policy: &CurrentReceiver, stage: &StageReceiver) -> Self {
        let (policy, mut stage) = (policy.clone(), stage.clone());
        stage.mark_unchanged();
        Self { policy, stage, waker: None }
    }

    fn is_due(&mut self, context: &Context<'_>) -> bool {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            // A future that is polled when the task has had its share keeps no waker.
            self.waker = has_budget_remaining().then(|| context.waker().clone());
            return true;
        }
        self.policy.has_changed().unwrap_or(true) || self.stage.has_changed().unwrap_or(true)
    }

    /// One of the futures is new.
    fn forget(&mut self) {
        self.policy.mark_unchanged();
        self.waker = None;
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Orderly.
    Closed,
    /// Both sides see a reset, so that nobody mistakes a part for the whole.
    Reset,
}

impl Connection {
    pub(super) fn new(ends: Ends, client: TcpStream, verdicts: Verdicts, report: Report) -> Self {
        Self {
            ends,
            client: Leg::new(client, CLIENT_BUFFER_BYTES),
            server: None,
            conversation: conversation(&verdicts),
            gate: verdicts.gate(),
            verdicts,
            report,
            reading: Reading::Understood,
            phase: Phase::Open,
            draining: false,
            replies: Vec::new(),
            replies_end: false,
            finished_since: None,
            last_moved: Instant::now(),
            started: Instant::now(),
            head_since: None,
            pace: None,
        }
    }

    /// Serves the connection until it ends, and reports what happened on it.
    pub(super) async fn run<D: Dial>(&mut self, dial: &D, policy: CurrentReceiver, stage: StageReceiver) {
        let mut timer = pin!(sleep_until(Instant::now() + IDLE_TIMEOUT));
        let mut rare = Rare::new(&policy, &stage);
        let mut timer_keeps_waker = false;
        let mut change = pin!(next_program(policy));
        let mut drain = pin!(drain(stage));
        let mut watches = true;
        let end = loop {
            let event = poll_fn(|context| {
                let due = rare.is_due(context);
                if due
                    && watches
                    && let Poll::Ready(next) = change.as_mut().poll(context)
                {
                    return Poll::Ready(Event::Policy(next));
                }
                if due && !self.draining && drain.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Event::Drain);
                }
                let moved_before = self.last_moved;
                let event = self.poll(context);
                if event.is_ready() {
                    return event;
                }
                let deadline = self.deadline();
                let sooner = deadline < timer.deadline();
                if sooner {
                    timer.as_mut().reset(deadline);
                }
                // What moved now, before its time, need not ask a timer that keeps the waker.
                let moved = self.last_moved > moved_before && self.last_moved < timer.deadline();
                if timer_keeps_waker && moved && !due && !sooner {
                    return Poll::Pending;
                }
                let timed = timer.as_mut().poll(context);
                timer_keeps_waker = timed.is_pending() && has_budget_remaining();
                timed.map(|()| Event::Timer)
            })
            .await;
            self.report.flush();
            let result = match event {
                Event::End(end) => Err(end),
                Event::Dial => self.dial(dial).await,
                Event::Timer => self.expire().map(|next| timer.as_mut().reset(next)),
                Event::Drain => {
                    self.draining = true;
                    self.conversation.drain();
                    self.insert().map_err(end)
                }
                Event::Policy(None) => {
                    watches = false;
                    rare.forget();
                    Ok(())
                }
                Event::Policy(Some((receiver, current))) => {
                    change.set(next_program(receiver));
                    rare.forget();
                    self.rejudge(current)
                }
            };
            match result {
                Err(end) => break end,
                Ok(()) if self.server.is_none() && !self.gate && self.phase == Phase::Open => {
                    if let Err(end) = self.dial(dial).await {
                        break end;
                    }
                }
                Ok(()) => {}
            }
        };
        self.finish(end);
    }

    /// Moves bytes until none can be moved.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let mut any = false;
        self.conversation.tick(milliseconds(self.last_moved - self.started));
        loop {
            match self.relay(context) {
                Err(event) => return Poll::Ready(event),
                Ok(true) if self.is_quiet(context) => {
                    any = true;
                    break;
                }
                Ok(true) => any = true,
                Ok(false) => break,
            }
        }
        if any {
            self.last_moved = Instant::now();
        }
        match self.in_unfinished_head() {
            true => self.head_since = self.head_since.or(Some(self.last_moved)),
            false => self.head_since = None,
        }
        self.keep_pace();
        self.conversation.release();
        self.client.release();
        if let Some(server) = &mut self.server {
            server.release();
        }
        if self.replies.is_empty() {
            self.replies = Vec::new();
        }
        self.report.flush();
        Poll::Pending
    }

    /// Times a body whose next bytes are the client's to bring or to take.
    fn keep_pace(&mut self) {
        let passed = self.client.passed;
        self.pace = match self.pace {
            _ if !self.waits_for_client() => None,
            Some((since, before)) if passed < before + PACE_BYTES_MIN => Some((since, before)),
            _ => Some((self.last_moved, passed)),
        };
    }

    fn waits_for_client(&self) -> bool {
        let taken = |server: &Leg| server.is_flushed(self.gate);
        let flushed = self.client.is_flushed(self.gate);
        let known = || (1..u64::MAX).contains(&self.conversation.passable(Side::Client));
        let brings = || flushed && (known() || self.conversation.standing().dropping);
        self.report.direction == Direction::Ingress
            && !self.is_unlimited()
            && (brings() || !self.server.as_ref().is_none_or(taken))
    }

    /// Reaches the destination.
    pub(super) async fn dial<D: Dial>(&mut self, dial: &D) -> Result<(), End> {
        // Many may be dialling at a time, each with the head of a request.
        self.client.release();
        let first = self.client.inbound.unsent(self.gate);
        // Boxed, so that a connection has no room for it later.
        let (stream, sent) = Box::pin(reach(dial, self.ends, first)).await.map_err(|_| End::Reset)?;
        let mut server = Leg::new(stream, SERVER_BUFFER_BYTES);
        server.sent(&mut self.client.inbound, sent);
        self.server = Some(server);
        Ok(())
    }

    /// Reaches one of these endpoints instead: the next where one refuses. From then on what holds there holds.
    pub(super) async fn dial_one_of<D: Dial>(
        &mut self,
        dial: &D,
        endpoints: Vec<SocketAddr>,
    ) -> Result<(), End> {
        let (direction, peer, port) = (self.report.direction, self.report.peer, self.report.port);
        let current = Arc::clone(&self.verdicts.current);
        let tried = dial_one_of(dial, self.ends, endpoints);
        let (endpoint, stream) =
            told(timeout(DIAL_TIMEOUT, tried).await, self.ends).map_err(|_| End::Reset)?;
        self.verdicts = Verdicts::new(current, direction, peer, port, Some(endpoint));
        self.report.endpoint = Some(Box::new(endpoint));
        self.gate = self.verdicts.gate();
        self.conversation = conversation(&self.verdicts);
        self.server = Some(Leg::new(stream, SERVER_BUFFER_BYTES));
        Ok(())
    }

    /// When the connection has been waiting for too long.
    fn deadline(&self) -> Instant {
        let idle = self.last_moved + IDLE_TIMEOUT;
        if let Phase::Lingering { since, .. } = self.phase {
            return since + LINGER_TIMEOUT;
        }
        if let Some(since) = self.finished_since {
            return since + LINGER_TIMEOUT;
        }
        if let Some(since) = self.head_since {
            return since + HEAD_TIMEOUT;
        }
        let deadline = match self.is_unlimited() {
            true => idle,
            false if self.is_stalled() => self.last_moved + STALL_TIMEOUT,
            false if self.is_silent() || self.conversation.standing().awaits_greeting => {
                self.last_moved + SILENCE_TIMEOUT
            }
            false => idle,
        };
        self.pace.map_or(deadline, |(since, _)| deadline.min(since + PACE_TIMEOUT))
    }

    /// The next deadline, or the end if this one has passed.
    fn expire(&mut self) -> Result<Instant, End> {
        let (now, deadline) = (Instant::now(), self.deadline());
        if now < deadline {
            return Ok(deadline);
        }
        if self.phase != Phase::Open || self.finished_since.is_some() {
            return Err(End::Closed);
        }
        if self.is_unlimited() || self.may_last() {
            // It counts from here on again, or the deadline that has passed would be found again at once.
            self.last_moved = now;
            return Ok(now + IDLE_TIMEOUT);
        }
        add(&COUNTERS.timeouts, 1);
        self.report_silence();
        Err(if self.is_stalled() { End::Reset } else { End::Closed })
    }

    fn is_unlimited(&self) -> bool {
        let is_tunnel = || self.conversation.checks_frames(0) && !self.has_reply();
        !self.gate || self.reading != Reading::Understood || is_tunnel()
    }

    /// True while the client has to be told something by us.
    pub(super) fn has_reply(&self) -> bool {
        self.has_own_reply() || self.conversation.standing().has_reply
    }

    /// The same of what was taken from the conversation.
    pub(super) fn has_own_reply(&self) -> bool {
        !self.replies.is_empty() || self.replies_end
    }

    /// True if quiet is no sign that somebody is gone: an answer is awaited, or a session of another protocol than HTTP goes
    /// on, of which a server may have something to say at any time.
    fn may_last(&self) -> bool {
        let quick = self.head_since.is_some() || self.pace.is_some() || self.is_stalled() || self.is_silent();
        let is_http = matches!(self.conversation.protocol(), Some(Protocol::Http1 | Protocol::Http2));
        let awaits_greeting = self.conversation.standing().awaits_greeting;
        !quick && !awaits_greeting && (self.conversation.outstanding() > 0 || !is_http)
    }

    /// True if something should move: a body, or bytes that the other side does not take.
    fn is_stalled(&self) -> bool {
        !self.client.is_flushed(self.gate)
            || self.server.as_ref().is_some_and(|server| !server.is_flushed(self.gate))
            || self.conversation.standing().in_body
            || self.conversation.reply().is_some()
            || !self.replies.is_empty()
    }

    /// True while it is the client who has to go on with a head; not where we do not read on.
    fn in_unfinished_head(&self) -> bool {
        let standing = self.conversation.standing();
        !self.is_unlimited()
            && self.phase == Phase::Open
            && standing.in_question
            && !standing.waits_for_server
            && (standing.begun || !self.client.inbound.unjudged().is_empty())
            && !self.client.inbound.is_full()
    }

    /// True while neither side has said anything, and nothing could be judged.
    fn is_silent(&self) -> bool {
        self.conversation.protocol().is_none() && self.client.inbound.is_empty()
    }

    /// A client that says nothing may be one whose server speaks first, in a protocol that no rule here names.
    fn report_silence(&mut self) {
        let answers = self.verdicts.opaque();
        if self.is_silent() && answers.enforced.effect == Effect::Deny {
            self.report.denied(&self.verdicts.current, answers, None, "", None);
        }
    }

    /// Applies another program to everything that is open.
    fn rejudge(&mut self, current: Arc<Current>) -> Result<(), End> {
        if self.phase != Phase::Open {
            return Ok(());
        }
        let (direction, peer, port) = (self.report.direction, self.report.peer, self.report.port);
        let endpoint = self.report.endpoint.as_deref().copied();
        self.verdicts = Verdicts::new(current, direction, peer, port, endpoint);
        self.verdicts.proxied = self.conversation.is_proxied();
        self.conversation.expect(self.verdicts.named());
        self.conversation.accept_proxy_header(self.verdicts.accepts_proxy_header());
        if let Some(denied) = self.denied_now() {
            add(&COUNTERS.resets_on_policy_change, 1);
            self.report.denied(&self.verdicts.current, denied, None, self.application(), None);
            return Err(End::Reset);
        }
        let gate = self.verdicts.gate();
        let replies = self.has_reply();
        if gate && !self.gate {
            // Deadlines begin with the gate.
            self.last_moved = Instant::now();
        }
        self.gate = gate || (self.gate && (replies || self.conversation.stays_held()));
        if let Some(server) = &self.server {
            self.conversation.answers_left(server.inbound.left());
        }
        self.conversation.hold(self.gate, self.client.inbound.left());
        self.revoke_denied()?;
        self.end_if_answered_early();
        Ok(())
    }

    /// The denial that holds now for something that is open.
    fn denied_now(&self) -> Option<AnswerPair> {
        let denies = |pair: &AnswerPair| pair.enforced.effect == Effect::Deny;
        if let Plan::Reset(pair) = self.verdicts.plan {
            return Some(pair);
        }
        let opaque = match self.reading {
            Reading::Opaque if !self.conversation.is_judged() => Some(self.verdicts.opaque()),
            Reading::Lost => Some(self.verdicts.unread()),
            Reading::Understood if self.conversation.is_unnamed() => Some(self.verdicts.opaque()),
            Reading::Understood | Reading::Opaque => None,
        };
        // What can be ended alone is: see `revoke_denied`.
        let requests = self.report.open().filter(|released| !released.ends_alone());
        let requests = requests.filter_map(|released| released.verdict(&self.verdicts));
        opaque.into_iter().chain(requests).find(denies).or_else(|| self.unchecked_now())
    }

    /// The denial of a WebSocket whose frames would have to be checked and are not from the beginning.
    fn unchecked_now(&self) -> Option<AnswerPair> {
        let wants = |question: &Question<'_>| {
            self.verdicts.wants_frames_checked(question)
                && !self.conversation.will_check_frames(question.exchange)
        };
        let found = self.report.open().filter_map(Released::question).any(|question| wants(&question));
        found.then(|| self.verdicts.unread())
    }

    /// What it speaks, for a report; empty while nothing was said.
    pub(super) fn application(&self) -> &'static str {
        self.conversation.protocol().map_or("", |protocol| protocol.as_str())
    }

    fn finish(&mut self, end: End) {
        let answers = self.verdicts.opaque();
        let passed = answers.enforced.effect == Effect::Allow;
        let otherwise = passed.then(|| (Arc::clone(&self.verdicts.current), answers));
        self.report.close(self.application(), otherwise);
        if end == End::Reset {
            self.client.reset_on_drop();
            if let Some(server) = &self.server {
                server.reset_on_drop();
            }
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How a connection ends on this event, if it does not move any more.
pub(super) fn end(event: Event) -> End {
    match event {
        Event::End(end) => end,
        Event::Policy(_) | Event::Timer | Event::Drain | Event::Dial => End::Reset,
    }
}

fn conversation(verdicts: &Verdicts) -> Conversation {
    let mut conversation = Conversation::expecting(verdicts.named());
    conversation.accept_proxy_header(verdicts.accepts_proxy_header());
    conversation.hold(verdicts.gate(), 0);
    conversation
}

/// Reaches the destination within [`DIAL_TIMEOUT`]. A failure is nobody's denial.
async fn reach<D: Dial>(dial: &D, ends: Ends, first: &[u8]) -> io::Result<(TcpStream, usize)> {
    told(timeout(DIAL_TIMEOUT, dial.dial_with(ends, first)).await, ends)
}

fn told<T>(dialled: Result<io::Result<T>, Elapsed>, ends: Ends) -> io::Result<T> {
    let result = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    result.inspect_err(|error| {
        add(&COUNTERS.dial_failures, 1);
        tracing::debug!(destination = %ends.destination, %error, "destination not reached, client reset");
    })
}

async fn drain(mut stage: StageReceiver) {
    // A process without stages is not told to drain.
    if stage.wait_for(|stage| *stage != Stage::Serving).await.is_err() {
        pending::<()>().await;
    }
}

async fn next_program(mut receiver: CurrentReceiver) -> Option<(CurrentReceiver, Arc<Current>)> {
    receiver.changed().await.ok()?;
    let current = receiver.borrow_and_update().clone();
    Some((receiver, current))
}

#[cfg(test)]
mod tests {
    use super::super::{Shared, serve};
    use super::*;
    use crate::intercept::ToApp;

    /// Bytes of what a function returns.
    fn size_of_result<A, R>(_: impl FnOnce(A) -> R) -> usize {
        size_of::<R>()
    }

    #[test]
    fn a_connection_that_is_served_takes_less_than_2_kib() {
        type Arguments = (Direction, TcpStream, Ends, Shared, &'static ToApp);
        let bytes = size_of_result(|(direction, client, ends, shared, dial): Arguments| {
            serve(direction, client, ends, shared, dial)
        });
        assert!(bytes < 2048, "{bytes} bytes");
    }
}

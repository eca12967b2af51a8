//! What a connection tells the flow recorder: each request once, each opaque connection once, and all bytes.

use super::denial::About;
use super::kinds::Kinds;
use super::limits::{
    KINDS_KEPT_MAX, LASTING_REQUESTS_MAX, RECENT_BYTES_MAX, REQUESTS_IN_FLIGHT_BYTES_MAX,
    REQUESTS_IN_FLIGHT_BYTES_MIN, REQUESTS_IN_FLIGHT_TIMES,
};
use super::verdict::Verdicts;
use crate::flows::{HttpSignature, Observation, Recorder, RequestSignature};
use crate::policy::Current;
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_inspect::{HttpHead, Kept, Progress, Question, signature};
use bulkhead_policies::program::AnswerPair;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Collects what happens on one connection.
pub(super) struct Report {
    recorder: Arc<Recorder>,
    pub(super) direction: Direction,
    pub(super) peer: IpAddr,
    local: IpAddr,
    pub(super) port: u16,
    /// Where the connection was led to, of a Service.
    pub(super) endpoint: Option<Box<SocketAddr>>,
    /// Requests released and not yet answered to the end.
    in_flight: VecDeque<Released>,
    /// Bytes that it takes to ask about them again.
    kept_bytes: usize,
    /// Answered, and open until the end all the same: subscriptions.
    lasting: Vec<Released>,
    /// The request that was answered last.
    recent: Option<Recent>,
    /// What the bytes at the end belong to: a tunnel, or a protocol that we do not read.
    tail: Option<Box<(Released, &'static str)>>,
    /// Bytes since the last observation.
    pub(super) bytes_to_destination: u64,
    pub(super) bytes_to_source: u64,
    /// Bytes that the client has sent until now.
    pub(super) client_bytes: u64,
    observations: u64,
    kinds: Kinds,
}

/// What was let through, and how far it got.
pub(super) struct Released {
    /// What was asked about; requests that are alike share it.
    asked: Arc<Asked>,
    /// See [`Question::exchange`].
    pub(super) exchange: u32,
    /// So many more follow it that were not kept either.
    repeats: u32,
    /// Status class of the answer; 0 while there is none.
    status: u16,
    /// It was counted when it was released; only bytes remain to be told.
    told: bool,
}

/// A request that was answered, and how many of those alike are still to be told: most requests are like the one before, so that one
/// observation of all that came together says the same as one of each.
struct Recent {
    asked: Arc<Asked>,
    status: u16,
    application: &'static str,
    /// Nothing is left to be told where there is none.
    requests: u64,
    count: u64,
    bytes: [u64; 2],
}

/// What was asked about, and by which program it was let through.
#[derive(Clone)]
pub(super) struct Asked {
    current: Arc<Current>,
    answers: AnswerPair,
    /// With the status of most answers: see [`Asked::told_as`].
    http: Option<Arc<HttpSignature>>,
    request: Option<Arc<RequestSignature>>,
    /// See [`Question::lasting`].
    lasting: bool,
    memory: Memory,
}

/// What is known of a request once it was decided on, to decide on it again when the policy changes.
#[derive(Clone)]
enum Memory {
    /// It is none: bytes that nobody reads.
    Nothing,
    /// There was no room to keep it.
    Forgotten,
    Kept(Kept),
}

impl Asked {
    /// Bytes that nobody reads, or a request of which nothing has to be known any more.
    fn unkept(
        current: &Arc<Current>,
        answers: AnswerPair,
        http: Option<Arc<HttpSignature>>,
        request: Option<Arc<RequestSignature>>,
    ) -> Self {
        Self { current: Arc::clone(current), answers, http, request, lasting: false, memory: Memory::Nothing }
    }

    /// What holds for it.
    pub(super) fn answers(&self) -> AnswerPair {
        self.answers
    }

    /// What a report says of it with an answer of this class.
    fn told_as(&self, status: u16) -> Option<Arc<HttpSignature>> {
        let http = self.http.as_ref()?;
        match http.status == status {
            true => Some(Arc::clone(http)),
            false => Some(Arc::new(HttpSignature { status, ..(**http).clone() })),
        }
    }

    /// True if all that a report says of both is the same.
    fn is_told_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.current, &other.current)
            && self.answers == other.answers
            && self.http == other.http
            && self.request == other.request
    }

    /// Bytes that it takes, and its place among those that are open.
    fn size(&self) -> usize {
        match &self.memory {
            Memory::Kept(kept) => REQUEST_BYTES + self.http.as_deref().map_or(0, texts) + kept.size(),
            Memory::Nothing | Memory::Forgotten => 0,
        }
    }

    /// True for the same request, byte for byte, decided on by the same program.
    fn is_of(&self, current: &Arc<Current>, question: &Question<'_>) -> bool {
        Arc::ptr_eq(&self.current, current)
            && matches!(&self.memory, Memory::Kept(kept) if kept.is_of(question))
    }
}

/// Bytes of a request that is kept, beside its texts: with the counts of two `Arc`s.
const REQUEST_BYTES: usize =
    size_of::<Released>() + size_of::<Asked>() + size_of::<HttpSignature>() + 4 * size_of::<usize>();

impl Released {
    fn new(asked: Asked, exchange: u32) -> Self {
        Self { asked: Arc::new(asked), exchange, repeats: 0, status: 0, told: false }
    }

    /// The request as it was decided on; `None` if it is none, or was not kept.
    pub(super) fn question(&self) -> Option<Question<'_>> {
        match &self.asked.memory {
            Memory::Kept(kept) => {
                kept.question().map(|question| Question { exchange: self.exchange, ..question })
            }
            Memory::Nothing | Memory::Forgotten => None,
        }
    }

    /// What holds for it now; `None` for bytes that nobody reads. One that cannot be asked about again is like bytes that
    /// passed unread.
    pub(super) fn verdict(&self, verdicts: &Verdicts) -> Option<AnswerPair> {
        match &self.asked.memory {
            Memory::Nothing => None,
            Memory::Forgotten => Some(verdicts.unread()),
            Memory::Kept(_) => {
                let question = self.question();
                Some(question.map_or_else(|| verdicts.unread(), |question| verdicts.request(&question)))
            }
        }
    }

    /// True for one of many that are answered in their order, and of which nothing but an answer is awaited.
    fn is_plain(&self) -> bool {
        self.exchange == 0 && !self.asked.lasting && self.asked.http.is_none()
    }

    /// True for a request among others on one connection, which can be ended without them.
    pub(super) fn ends_alone(&self) -> bool {
        self.exchange != 0
    }

    fn copy(&self) -> Self {
        Self { asked: Arc::clone(&self.asked), repeats: 0, ..*self }
    }
}

impl Report {
    pub(super) fn new(
        recorder: Arc<Recorder>,
        direction: Direction,
        peer: IpAddr,
        local: IpAddr,
        port: u16,
    ) -> Self {
        Self {
            recorder,
            direction,
            peer,
            local,
            port,
            endpoint: None,
            in_flight: VecDeque::new(),
            kept_bytes: 0,
            lasting: Vec::new(),
            recent: None,
            tail: None,
            bytes_to_destination: 0,
            bytes_to_source: 0,
            client_bytes: 0,
            observations: 0,
            kinds: Kinds::default(),
        }
    }

    /// What a refusal concerns.
    pub(super) fn about<'a>(
        &self,
        question: Option<&'a Question<'a>>,
        detail: Option<&'static str>,
    ) -> About<'a> {
        About { direction: self.direction, peer: self.peer, port: self.port, question, detail }
    }

    /// A request is let through. `known`: see [`Report::known`].
    pub(super) fn released(
        &mut self,
        current: &Arc<Current>,
        answers: AnswerPair,
        question: &Question<'_>,
        known: Option<Arc<Asked>>,
    ) {
        let released = match known {
            Some(asked) => {
                Released { asked, exchange: question.exchange, repeats: 0, status: 0, told: false }
            }
            None => self.keep(current, answers, question),
        };
        let forgotten = matches!(released.asked.memory, Memory::Forgotten);
        let released = match forgotten && (released.is_plain() || released.ends_alone()) {
            true => self.tell(released, question.protocol().as_str()),
            false => Some(released),
        };
        let Some(released) = released else { return };
        if self.in_flight.len() == self.in_flight.capacity() {
            // Most connections have one request at a time; many would soon have room for twice as many.
            self.in_flight.reserve_exact(self.in_flight.len().clamp(1, 8));
        }
        self.in_flight.push_back(released);
    }

    /// The same request, if it is one of the last that are open beside each other, or the one that was answered last. On one
    /// connection a program has one answer to the same bytes, so what holds for it is known too.
    pub(super) fn known(&self, current: &Arc<Current>, question: &Question<'_>) -> Option<Arc<Asked>> {
        let last = self.in_flight.iter().rev().take(KINDS_KEPT_MAX).map(|released| &released.asked);
        let recent = self.recent.iter().map(|recent| &recent.asked);
        last.chain(recent).find(|asked| asked.is_of(current, question)).cloned()
    }

    /// What has to be known of a request, as far as there is room.
    fn keep(&mut self, current: &Arc<Current>, answers: AnswerPair, question: &Question<'_>) -> Released {
        let request = self.kinds.of(question);
        let http = question.http().map(|head| self.signature(head));
        // What comes next needs its room.
        self.forget_recent();
        let asked = Asked { lasting: question.lasting, ..Asked::unkept(current, answers, http, request) };
        // Its own size is known only once it is kept.
        let size = REQUEST_BYTES + asked.http.as_deref().map_or(0, texts) + question.size();
        let memory = match self.kept_bytes + size <= self.room() {
            true => Memory::Kept(question.keep()),
            false => Memory::Forgotten,
        };
        let released = Released::new(Asked { memory, ..asked }, question.exchange);
        self.kept_bytes += released.asked.size();
        released
    }

    /// What a request is called: most are called like the one before.
    fn signature(&self, head: &HttpHead<'_>) -> Arc<HttpSignature> {
        let (method, path, host) = named(head);
        let last = self.in_flight.back().map(|released| &released.asked);
        let last = last.or(self.recent.as_ref().map(|recent| &recent.asked));
        let is_like = |http: &&Arc<HttpSignature>| {
            (&*http.method, &*http.path_template, &*http.host) == (method, &*path, host)
        };
        match last.and_then(|last| last.http.as_ref()).filter(is_like) {
            Some(like) => Arc::clone(like),
            None => Arc::new(http(head, OK_CLASS)),
        }
    }

    /// Tells of a request that is not kept what it was: soon it may be one of many that nobody can tell apart any more.
    /// What remains of it, if anything.
    fn tell(&mut self, released: Released, application: &'static str) -> Option<Released> {
        self.observe(&released, application, 1, None, [0, 0]);
        let released = Released { told: true, ..released };
        if released.is_plain() {
            return if self.repeats_last(&released) { None } else { Some(released) };
        }
        let is_like =
            |other: &&Released| other.told && Arc::ptr_eq(&other.asked.current, &released.asked.current);
        let like = self.in_flight.iter().rev().find(is_like);
        Some(Released { asked: Arc::clone(&like.unwrap_or(&released).asked), ..released })
    }

    /// It is open no longer. Whoever holds it last counts.
    fn forget(&mut self, asked: &Arc<Asked>) {
        if Arc::strong_count(asked) == 1 {
            self.kept_bytes -= asked.size().min(self.kept_bytes);
        }
    }

    /// Bytes that requests may be kept in: a client that names much in few bytes is not worth them.
    fn room(&self) -> usize {
        let sent = usize::try_from(self.client_bytes).unwrap_or(usize::MAX);
        sent.saturating_mul(REQUESTS_IN_FLIGHT_TIMES)
            .clamp(REQUESTS_IN_FLIGHT_BYTES_MIN, REQUESTS_IN_FLIGHT_BYTES_MAX)
    }

    /// An open request got further.
    pub(super) fn progress(&mut self, progress: Progress, application: &'static str) {
        if progress == Progress::default() {
            return;
        }
        let found = self.in_flight.iter().position(|released| released.exchange == progress.exchange);
        let Some(at) = found else { return };
        if let (Some(status), Some(released)) = (progress.status, self.in_flight.get_mut(at)) {
            released.status = status / 100;
        }
        if !progress.completed {
            return;
        }
        if let Some(several) = self.in_flight.get_mut(at).filter(|released| released.repeats > 0) {
            several.repeats -= 1;
            let one = several.copy();
            return self.record(&one, application, 1);
        }
        let Some(released) = self.in_flight.remove(at) else { return };
        if released.asked.lasting {
            self.keep_lasting(&released);
        }
        match progress.tunnel {
            true => {
                self.forget(&released.asked);
                self.record_tail(released, application);
            }
            false => self.answered(released, application),
        }
    }

    /// It was answered: told with those before that were alike, or with those that follow.
    fn answered(&mut self, released: Released, application: &'static str) {
        let Released { asked, status, told, .. } = released;
        let bytes = self.take_bytes();
        let count = u64::from(!told);
        if let Some(recent) = &mut self.recent
            && (recent.status, recent.application) == (status, application)
            && (Arc::ptr_eq(&recent.asked, &asked) || recent.asked.is_told_like(&asked))
        {
            recent.requests += 1;
            recent.count += count;
            recent.bytes = [recent.bytes[0] + bytes[0], recent.bytes[1] + bytes[1]];
            return self.forget(&asked);
        }
        self.forget_recent();
        self.recent = Some(Recent { asked, status, application, requests: 1, count, bytes });
    }

    /// Tells of what was answered. To be called before anything is waited for.
    pub(super) fn flush(&mut self) {
        let Some(recent) = self.recent.as_mut().filter(|recent| recent.requests > 0) else { return };
        self.observations += recent.requests;
        let (count, bytes) = (recent.count, recent.bytes);
        (recent.requests, recent.count, recent.bytes) = (0, 0, [0, 0]);
        let (asked, status, application) = (Arc::clone(&recent.asked), recent.status, recent.application);
        let observation = self.observation(&asked, status, application, count, None, bytes);
        self.recorder.record(&asked.current.judge, observation);
        // An idle connection holds little.
        if asked.size() > RECENT_BYTES_MAX {
            drop(asked);
            self.forget_recent();
        }
    }

    fn forget_recent(&mut self) {
        self.flush();
        if let Some(recent) = self.recent.take() {
            self.forget(&recent.asked);
        }
    }

    /// Counts a request that is not kept with the last one, if that is not kept either: so many commands are as cheap as
    /// one.
    fn repeats_last(&mut self, released: &Released) -> bool {
        let Some(last) = self.in_flight.back_mut() else { return false };
        let same = last.told
            && last.is_plain()
            && last.asked.answers == released.asked.answers
            && Arc::ptr_eq(&last.asked.current, &released.asked.current);
        last.repeats += u32::from(same);
        same
    }

    /// The answers are of another protocol: what was taken for its requests were none.
    pub(super) fn mistaken(&mut self) {
        for released in &mut self.in_flight {
            Arc::make_mut(&mut released.asked).request = None;
        }
    }

    /// It stays open though it is answered. Where there are too many, the last one stands for all, unreadable.
    fn keep_lasting(&mut self, released: &Released) {
        let mut kept = released.copy();
        if self.lasting.len() >= LASTING_REQUESTS_MAX {
            self.lasting.pop();
            Arc::make_mut(&mut kept.asked).memory = Memory::Forgotten;
        }
        self.lasting.push(kept);
    }

    /// Bytes that are not read from here on pass.
    pub(super) fn opaque(&mut self, current: &Arc<Current>, answers: AnswerPair, application: &'static str) {
        let released = Released::new(Asked::unkept(current, answers, None, None), 0);
        self.record_tail(released, application);
    }

    /// A request, or with `None` a connection, is denied.
    pub(super) fn denied(
        &mut self,
        current: &Arc<Current>,
        answers: AnswerPair,
        question: Option<&Question<'_>>,
        application: &'static str,
        report_id: Option<String>,
    ) {
        let http = question.and_then(Question::http).map(|head| Arc::new(http(head, DENIED_CLASS)));
        let request = question.and_then(|question| self.kinds.of(question));
        let denied = Asked::unkept(current, answers, http, request);
        let denied = Released { status: DENIED_CLASS, ..Released::new(denied, 0) };
        self.observe(&denied, application, 1, report_id, [0, 0]);
    }

    /// Everything that was let through and is not over.
    pub(super) fn open(&self) -> impl Iterator<Item = &Released> {
        let tail = self.tail.iter().map(|tail| &tail.0);
        self.in_flight.iter().chain(&self.lasting).chain(tail)
    }

    /// Takes the requests that can be ended alone and for which `is_denied` has an answer.
    pub(super) fn take_denied(
        &mut self,
        is_denied: impl Fn(&Released) -> Option<AnswerPair>,
    ) -> Vec<(Released, AnswerPair)> {
        let mut taken = Vec::new();
        let mut at = 0;
        while let Some(released) = self.in_flight.get(at) {
            match is_denied(released).filter(|_| released.ends_alone()) {
                None => at += 1,
                Some(answers) => {
                    let Some(released) = self.in_flight.remove(at) else { break };
                    self.forget(&released.asked);
                    taken.push((released, answers));
                }
            }
        }
        taken
    }

    /// The connection is over. `otherwise` is recorded if nothing was until now.
    pub(super) fn close(&mut self, application: &'static str, otherwise: Option<(Arc<Current>, AnswerPair)>) {
        while let Some(released) = self.in_flight.pop_front() {
            let count = u64::from(released.repeats) + 1;
            self.record(&released, application, count);
        }
        self.flush();
        if self.observations == 0
            && let Some((current, answers)) = otherwise
        {
            self.opaque(&current, answers, application);
        }
        let has_bytes = self.bytes_to_destination + self.bytes_to_source > 0;
        if let Some(tail) = self.tail.take().filter(|_| has_bytes) {
            let (released, application) = *tail;
            self.record(&released, application, 0);
        }
    }

    fn record_tail(&mut self, released: Released, application: &'static str) {
        self.record(&released, application, 1);
        self.tail = Some(Box::new((released.copy(), application)));
    }

    fn record(&mut self, released: &Released, application: &'static str, count: u64) {
        let bytes = self.take_bytes();
        let count = if released.told { 0 } else { count };
        self.observe(released, application, count, None, bytes);
    }

    /// Bytes since the last observation, to the destination and to the source.
    fn take_bytes(&mut self) -> [u64; 2] {
        [std::mem::take(&mut self.bytes_to_destination), std::mem::take(&mut self.bytes_to_source)]
    }

    fn observe(
        &mut self,
        released: &Released,
        application: &'static str,
        count: u64,
        report_id: Option<String>,
        bytes: [u64; 2],
    ) {
        self.observations += 1;
        let Released { asked, status, .. } = released;
        let observation = self.observation(asked, *status, application, count, report_id, bytes);
        self.recorder.record(&asked.current.judge, observation);
    }

    fn observation(
        &self,
        asked: &Asked,
        status: u16,
        application: &'static str,
        count: u64,
        report_id: Option<String>,
        [bytes_to_destination, bytes_to_source]: [u64; 2],
    ) -> Observation {
        Observation {
            direction: self.direction,
            peer: self.peer,
            local: self.local,
            protocol: L4Protocol::TCP,
            port: self.port,
            http: asked.told_as(status),
            request: asked.request.clone(),
            application,
            answers: asked.answers,
            bytes_to_destination,
            bytes_to_source,
            sender_uid: None,
            count,
            report_id,
            endpoint: self.endpoint.as_deref().copied(),
        }
    }
}

/// Class of the status of most answers, and of a denial.
const OK_CLASS: u16 = 2;
const DENIED_CLASS: u16 = 4;

/// Bytes of what a request is called.
fn texts(http: &HttpSignature) -> usize {
    http.method.len() + http.path_template.len() + http.host.len()
}

fn http(head: &HttpHead<'_>, status: u16) -> HttpSignature {
    let (method, path, host) = named(head);
    HttpSignature {
        method: method.to_owned(),
        path_template: path.into_owned(),
        host: host.to_owned(),
        status,
    }
}

/// Method, path and host as reports say them.
fn named<'a>(head: &'a HttpHead<'_>) -> (&'a str, Cow<'a, str>, &'a str) {
    let target = head.target_text();
    let path = match target.starts_with('/') {
        true => Cow::Owned(signature::template(target)),
        false => Cow::Borrowed(target),
    };
    (signature::method(head.method), path, head.host.as_ref().map_or("", |host| host.as_str()))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;

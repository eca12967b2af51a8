//! Kafka in line: requests by API key and by the topics that they name.
//!
//! [`topics`] reads the requests that name some; of others the header is enough. Answers come in the order of requests and are
//! followed by their correlation. A client that asks which versions a broker knows is told of none that could not be read
//! here. A denied client is told so for each topic ([`refusal`]); where a request has no such answer, the connection ends once
//! everything before it is answered.

mod body;
mod refusal;
mod topics;
mod versions;

use crate::contract::{Inspector, Notice, Progress, Refusal, Side, Standing, Step};
use crate::cursor::Cursor;
use crate::limits::{
    KAFKA_MESSAGE_BYTES_MAX, KAFKA_OUTSTANDING_MAX, KAFKA_REQUEST_BYTES_MAX, KAFKA_SESSIONS_MAX,
    KAFKA_TOPICS_ASKED_AGAIN, KAFKA_TOPICS_MAX,
};
use crate::question::{Question, Subject};
use body::Body;
use bulkhead_facts::Reason;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use topics::Named;

/// One connection to a broker.
#[derive(Debug, Default)]
pub(crate) struct Kafka {
    state: State,
    outstanding: VecDeque<Expected>,
    /// Bytes of the open answer that are still to come.
    answer_left: usize,
    /// Topics of the fetch sessions that were begun here.
    sessions: BTreeMap<i32, FetchSession>,
    /// An orderly end is all that can be said.
    closing: bool,
    gate: bool,
    progress: Progress,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    /// The answer to a denied request, for when it is its turn.
    reply: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
enum State {
    /// Before or inside a request.
    #[default]
    Request,
    Asked(Asked),
    Releasing(Asked),
    /// Denied: it is answered here.
    Denied(Asked),
    /// Nothing is read before that answer is written.
    Replying,
    /// Some of its topics may be allowed: each is asked about.
    Sorting(Sorting),
    /// Inside a request of which the rest is of no interest.
    Passing(usize),
    Ended,
}

/// Topics of a `Metadata` request, of which not all are allowed.
#[derive(Debug)]
struct Sorting {
    length: usize,
    expected: Expected,
    /// Those that were not asked about yet, the next one last.
    left: Vec<Box<str>>,
    /// The one that is asked about.
    asked: Option<Box<str>>,
    allowed: Vec<Box<str>>,
    denied: Vec<Box<str>>,
}

#[derive(Clone, Debug)]
struct Asked {
    /// Bytes that the whole request takes.
    length: usize,
    expected: Option<Expected>,
    /// A fetch session that goes on, and what it is to fetch in addition.
    adds: Option<(i32, Vec<Box<str>>)>,
}

/// What a fetch session fetches.
#[derive(Debug, Default)]
struct FetchSession {
    topics: BTreeSet<Box<str>>,
    /// All of it was asked about and allowed under the policy in force.
    allowed: bool,
}

/// An answer that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    correlation: i32,
    api: u16,
    version: i16,
    /// Topics of the fetch session that the answer may open.
    opens: Option<Vec<Box<str>>>,
    /// Topics that were denied, to be put into the answer.
    denied: Option<Vec<Box<str>>>,
    /// Nobody was asked about it.
    unasked: bool,
}

/// One request to Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// API key.
    pub api: u16,
    /// The topics that it names, all of them, or none.
    pub topics: Vec<&'a str>,
    /// It goes on with others, which were asked about before and allowed, so that these few stand for them.
    pub partial: bool,
}

const SASL_HANDSHAKE: u16 = 17;
const API_VERSIONS: u16 = 18;
/// The one request whose header names no client, in its first version.
const CONTROLLED_SHUTDOWN: u16 = 7;

impl Inspector for Kafka {
    fn client<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        match &mut self.state {
            State::Asked(_) | State::Replying | State::Ended => Step::NeedMore,
            State::Denied(_) => self.refuse(bytes),
            State::Sorting(_) => self.sort(bytes),
            State::Releasing(_) => self.release(bytes.len()),
            _ if bytes.is_empty() => Step::NeedMore,
            State::Request if self.outstanding.len() >= KAFKA_OUTSTANDING_MAX => Step::NeedMore,
            State::Request => self.request(bytes),
            State::Passing(left) => {
                let here = (*left).min(bytes.len());
                *left -= here;
                if *left == 0 {
                    self.state = State::Request;
                }
                Step::Forward(here)
            }
        }
    }

    fn server<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        if bytes.is_empty() {
            return Step::NeedMore;
        }
        if self.answer_left == 0 {
            return self.answer(bytes);
        }
        let here = self.answer_left.min(bytes.len());
        self.answered(here);
        Step::Forward(here)
    }

    fn allow(&mut self) {
        if let State::Sorting(sorting) = &mut self.state {
            sorting.allowed.extend(sorting.asked.take());
            // It is told of at once: the answer is one for all.
            self.progress.completed = true;
        }
        if let State::Asked(asked) = &self.state {
            let goes_on = asked.adds.as_ref().and_then(|(session, _)| self.sessions.get_mut(session));
            if let Some(session) = goes_on {
                session.allowed = true;
            }
            self.state = State::Releasing(asked.clone());
        }
    }

    fn policy_changed(&mut self) {
        for session in self.sessions.values_mut() {
            session.allowed = false;
        }
    }

    fn deny(&mut self, _: &Notice<'_>) -> bool {
        if let State::Sorting(sorting) = &mut self.state {
            sorting.denied.extend(sorting.asked.take());
            return true;
        }
        match std::mem::take(&mut self.state) {
            State::Asked(asked) if asked.expected.is_some() => {
                self.state = State::Denied(asked);
                true
            }
            _ => self.close(),
        }
    }

    fn reject(&mut self, _: &Refusal, _: &Notice<'_>) -> bool {
        self.close()
    }

    fn close_opaque(&mut self, _: &Notice<'_>) -> bool {
        self.close()
    }

    fn reply(&self) -> Option<&[u8]> {
        let in_turn = self.outstanding.is_empty() && self.answer_left == 0;
        match &self.reply {
            Some(reply) => in_turn.then_some(reply.as_slice()),
            None => (self.closing && in_turn).then_some(&[]),
        }
    }

    fn replied(&mut self) -> bool {
        let goes_on = self.reply.take().is_some() && !self.closing;
        if let (State::Replying, true) = (&self.state, goes_on) {
            self.state = State::Request;
        }
        self.closing = false;
        goes_on
    }

    fn take_progress(&mut self) -> Progress {
        std::mem::take(&mut self.progress)
    }

    fn passable(&self, side: Side) -> u64 {
        let count = match (side, &self.state) {
            (Side::Client, State::Passing(left)) => *left,
            (Side::Client, _) => 0,
            // The last byte is looked at, so that the end is seen.
            (Side::Server, _) => self.answer_left.saturating_sub(1),
        };
        u64::try_from(count).unwrap_or_default()
    }

    fn passed(&mut self, side: Side, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        match (side, &mut self.state) {
            (Side::Client, State::Passing(left)) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.state = State::Request;
                }
            }
            (Side::Client, _) => {}
            (Side::Server, _) => self.answer_left = self.answer_left.saturating_sub(count),
        }
    }

    fn insertion(&self, side: Side) -> &[u8] {
        match side {
            Side::Client => &self.to_client,
            Side::Server => &self.to_server,
        }
    }

    fn inserted(&mut self, side: Side) {
        match side {
            Side::Client => self.to_client = Vec::new(),
            Side::Server => self.to_server = Vec::new(),
        }
    }

    fn hold(&mut self, gate: bool, _: usize) {
        self.gate = gate;
    }

    fn bytes_max(&self) -> usize {
        KAFKA_REQUEST_BYTES_MAX
    }

    fn standing(&self) -> Standing {
        let between = matches!(self.state, State::Request);
        Standing {
            idle: between && self.outstanding.is_empty() && self.answer_left == 0 && !self.closing,
            in_question: between,
            in_body: matches!(self.state, State::Passing(_)),
            in_response: self.answer_left > 0,
            waits_for_server: match &self.state {
                State::Request => self.outstanding.len() >= KAFKA_OUTSTANDING_MAX,
                State::Asked(_)
                | State::Releasing(_)
                | State::Denied(_)
                | State::Replying
                | State::Sorting(_) => true,
                State::Passing(_) | State::Ended => false,
            },
            has_reply: self.closing || self.reply.is_some(),
            ..Standing::default()
        }
    }

    fn outstanding(&self) -> usize {
        self.outstanding.len()
    }
}

impl Kafka {
    fn close(&mut self) -> bool {
        self.state = State::Ended;
        self.closing = true;
        true
    }

    fn request<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        let Some(length) = bytes.first_chunk().map(|size| i32::from_be_bytes(*size)) else {
            return Step::NeedMore;
        };
        let length = match usize::try_from(length) {
            Ok(size) if (8..=KAFKA_MESSAGE_BYTES_MAX).contains(&size) => size + 4,
            Ok(_) | Err(_) => return Step::Refuse(malformed("request of an impossible length")),
        };
        let Some(Head { api, version, correlation }) = head(bytes) else { return Step::NeedMore };
        let has_topics = topics::last_version(api).is_some_and(|last| (0..=last).contains(&version));
        let is_kept = has_topics || refusal::answers(api);
        if is_kept && length > KAFKA_REQUEST_BYTES_MAX {
            let detail = "request larger than what is kept to judge its topics";
            return Step::Refuse(Refusal { reason: Reason::Limit, status: None, detail });
        }
        if is_kept && bytes.len() < length {
            return Step::NeedMore;
        }
        if api == SASL_HANDSHAKE && version == 0 {
            // What follows it are no requests.
            return Step::Refuse(malformed("handshake of a version whose tokens look like requests"));
        }
        let named = match has_topics {
            false => Named::default(),
            true => match named(api, version, bytes.get(..length).unwrap_or_default()) {
                Err(refusal) => return Step::Refuse(refusal),
                Ok(named) => named,
            },
        };
        let unasked = named.brokers_only;
        let expected = Expected { correlation, api, version, opens: None, denied: None, unasked };
        if unasked {
            // Clients ask for brokers on every connection. Those who may see no topic are told of brokers as well.
            self.state = State::Releasing(Asked { length, expected: Some(expected), adds: None });
            return self.release(bytes.len());
        }
        self.ask(bytes, length, expected, named)
    }

    fn ask<'a>(
        &'a mut self,
        bytes: &'a [u8],
        length: usize,
        mut expected: Expected,
        named: Named<'a>,
    ) -> Step<'a> {
        let api = expected.api;
        let own = |topics: &[&str]| topics.iter().map(|topic| Box::from(*topic)).collect::<Vec<Box<str>>>();
        let (mut adds, mut goes_on) = (None, None);
        match named.session {
            // Begins a session, if the broker likes.
            Some((_, 0)) => expected.opens = Some(own(&named.topics)),
            Some((session, 1..)) => {
                goes_on = Some(session);
                adds = Some((session, own(&named.topics)));
            }
            Some(_) | None => {}
        }
        let expected = Some(expected).filter(|_| !named.unanswered);
        self.state = State::Asked(Asked { length, expected, adds });
        let known = goes_on.and_then(|session| self.sessions.get(&session));
        let few = |known: &&FetchSession| {
            self.gate && known.allowed && known.topics.len() > KAFKA_TOPICS_ASKED_AGAIN
        };
        let partial = known.filter(few).is_some();
        let topics = match goes_on {
            None => named.topics,
            // What a session fetches is what it was told until now; of one that began elsewhere nobody knows.
            Some(_) => match known {
                None => Vec::new(),
                Some(known) => {
                    let count = if partial { KAFKA_TOPICS_ASKED_AGAIN + 1 } else { usize::MAX };
                    let known = known.topics.iter().take(count).map(|topic| &**topic);
                    known.chain(named.topics).collect::<BTreeSet<_>>().into_iter().collect()
                }
            },
        };
        Step::Ask(Question {
            bytes: bytes.get(..length.min(bytes.len())).unwrap_or_default(),
            exchange: 0,
            lasting: false,
            subject: Subject::Kafka(Call { api, topics, partial }),
        })
    }

    /// What becomes of a request that was denied: the bytes are those that were asked about.
    fn refuse<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        let State::Denied(Asked { length, expected: Some(mut expected), .. }) =
            std::mem::take(&mut self.state)
        else {
            return Step::NeedMore;
        };
        let Expected { api, version, correlation, .. } = expected;
        let Some(rest) = bytes.get(..length).and_then(|whole| rest_of(api, version, whole)) else {
            self.close();
            return Step::NeedMore;
        };
        if api == topics::METADATA
            && let Ok(Some(mut named)) = topics::read(api, version, rest)
        {
            named.topics.reverse();
            let left = named.topics.into_iter().map(Box::from).collect();
            expected.denied = Some(Vec::new());
            let (allowed, denied) = (Vec::new(), Vec::new());
            self.state = State::Sorting(Sorting { length, expected, left, asked: None, allowed, denied });
            return self.sort(bytes);
        }
        self.reply = refusal::compose(api, version, correlation, rest);
        if self.reply.is_none() {
            self.close();
            return Step::NeedMore;
        }
        self.state = State::Replying;
        Step::Discard(length)
    }

    /// Asks about the topics of a `Metadata` request one by one, once everything before it is answered; then the broker is
    /// asked about those that are allowed.
    fn sort<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        let in_turn = self.outstanding.is_empty() && self.answer_left == 0;
        let State::Sorting(mut sorting) = std::mem::take(&mut self.state) else { return Step::NeedMore };
        let Some(whole) = bytes.get(..sorting.length).filter(|_| sorting.asked.is_none() && in_turn) else {
            self.state = State::Sorting(sorting);
            return Step::NeedMore;
        };
        if sorting.left.len() == 1 && sorting.allowed.is_empty() && sorting.denied.is_empty() {
            // The only one was asked about already.
            sorting.denied.append(&mut sorting.left);
        }
        if let Some(next) = sorting.left.pop() {
            sorting.asked = Some(next);
            self.state = State::Sorting(sorting);
            return self.ask_about_one(whole);
        }
        let Sorting { length, mut expected, allowed, denied, .. } = sorting;
        let request = rest_of(topics::METADATA, expected.version, whole)
            .and_then(|rest| refusal::about(expected.version, whole, rest, &allowed));
        let Some(request) = request else {
            self.close();
            return Step::NeedMore;
        };
        expected.denied = Some(denied);
        self.outstanding.push_back(expected);
        self.to_server = request;
        Step::Discard(length)
    }

    fn ask_about_one<'a>(&'a self, bytes: &'a [u8]) -> Step<'a> {
        let State::Sorting(Sorting { asked: Some(topic), .. }) = &self.state else { return Step::NeedMore };
        let subject = Subject::Kafka(Call { api: topics::METADATA, topics: vec![topic], partial: false });
        Step::Ask(Question { bytes, exchange: 0, lasting: false, subject })
    }

    fn release<'a>(&mut self, shown: usize) -> Step<'a> {
        let State::Releasing(Asked { length, expected, adds }) = std::mem::take(&mut self.state) else {
            return Step::NeedMore;
        };
        match expected {
            Some(expected) => self.outstanding.push_back(expected),
            None => self.progress.completed = true,
        }
        // What is added to a session that was not begun here tells nothing of what else it fetches.
        if let Some((session, topics)) = adds.filter(|(session, _)| self.sessions.contains_key(session)) {
            self.remember(session, topics);
        }
        let here = length.min(shown);
        if length > here {
            self.state = State::Passing(length - here);
        }
        Step::Forward(here)
    }

    /// Of sessions beyond the limits nothing is known.
    fn remember(&mut self, session: i32, topics: Vec<Box<str>>) {
        if self.sessions.len() >= KAFKA_SESSIONS_MAX && !self.sessions.contains_key(&session) {
            return;
        }
        let known = self.sessions.entry(session).or_default();
        known.topics.extend(topics);
        if known.topics.len() > KAFKA_TOPICS_MAX {
            self.sessions.remove(&session);
        }
    }

    /// The beginning of an answer, or the whole of one that is changed.
    fn answer<'a>(&mut self, bytes: &[u8]) -> Step<'a> {
        let mut cursor = Cursor::new(bytes);
        let Some((size, correlation)) = cursor.i32().zip(cursor.i32()) else { return Step::NeedMore };
        let length = match usize::try_from(size) {
            Ok(size) if (4..=KAFKA_MESSAGE_BYTES_MAX).contains(&size) => size + 4,
            Ok(_) | Err(_) => return Step::Refuse(malformed("answer of an impossible length")),
        };
        let Some(front) = self.outstanding.front().filter(|front| front.correlation == correlation) else {
            return Step::Refuse(malformed("answer to no request, or to another one"));
        };
        if self.gate && front.api == API_VERSIONS && length <= KAFKA_REQUEST_BYTES_MAX.min(1 << 15) {
            let Some(whole) = bytes.get(..length) else { return Step::NeedMore };
            self.to_client = versions::restricted(whole, front.version);
            self.outstanding.pop_front();
            self.progress.completed = true;
            return Step::Discard(length);
        }
        if let Some(denied) = &front.denied {
            if length > KAFKA_REQUEST_BYTES_MAX {
                return Step::Refuse(malformed("answer that names more brokers than can be kept"));
            }
            let Some(whole) = bytes.get(..length) else { return Step::NeedMore };
            self.to_client = refusal::with_topics(front.version, whole, denied);
            self.outstanding.pop_front();
            return Step::Discard(length);
        }
        if let Some(opens) = &front.opens {
            // Header, perhaps its tagged fields, time, error, session.
            let flexible = front.version >= 12;
            if bytes.len() < length.min(19) {
                return Step::NeedMore;
            }
            let mut body = Body::new(cursor.rest(), flexible);
            let session = body.tags().and_then(|()| body.skip(6)).and_then(|()| body.i32());
            if let Some(session) = session.filter(|session| *session != 0) {
                let opens = opens.clone();
                self.sessions.remove(&session);
                self.remember(session, opens);
            }
        }
        self.answer_left = length;
        let here = length.min(bytes.len());
        self.answered(here);
        Step::Forward(here)
    }

    fn answered(&mut self, count: usize) {
        self.answer_left -= count;
        if self.answer_left == 0 {
            let was_asked = self.outstanding.pop_front().is_some_and(|answered| !answered.unasked);
            self.progress.completed |= was_asked;
        }
    }
}

/// What every request begins with.
struct Head {
    api: u16,
    version: i16,
    correlation: i32,
}

fn head(bytes: &[u8]) -> Option<Head> {
    let mut cursor = Cursor::new(bytes);
    cursor.take(4)?;
    Some(Head { api: cursor.u16()?, version: cursor.i16()?, correlation: cursor.i32()? })
}

/// What follows the client's name in the header of a request that is there in full.
fn rest_of(api: u16, version: i16, bytes: &[u8]) -> Option<&[u8]> {
    body_of(api, version, bytes).ok()
}

/// Topics of a request that is there in full.
fn named(api: u16, version: i16, bytes: &[u8]) -> Result<Named<'_>, Refusal> {
    Ok(topics::read(api, version, body_of(api, version, bytes)?)?.unwrap_or_default())
}

fn body_of(api: u16, version: i16, bytes: &[u8]) -> Result<&[u8], Refusal> {
    let mut header = Cursor::new(bytes.get(12..).unwrap_or_default());
    if !(api == CONTROLLED_SHUTDOWN && version == 0) {
        // The client's name: a string of the older kind in every version, or a null.
        let length = header.i16().ok_or(malformed("header cut short"))?;
        if length != -1 {
            let length = usize::try_from(length).map_err(|_| malformed("header with a name of no length"))?;
            header.take(length).ok_or(malformed("header cut short"))?;
        }
    }
    Ok(header.rest())
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Malformed, status: None, detail }
}

//! Redis in line: commands are decided one by one, replies are followed as far as it takes to refuse in order.
//!
//! [`command`] reads commands, [`keys`] finds their keys, [`reply`] tells where a reply ends. A command is let go as soon as
//! its name and keys allow it, so a large value is never held. After a subscription, replies come unasked: what is
//! denied from then on ends the connection.

mod command;
mod keys;
mod reply;

use crate::contract::{Inspector, Notice, Progress, Refusal, Side, Standing, Step};
use crate::limits::{REDIS_COMMAND_BYTES_MAX, REDIS_OUTSTANDING_MAX};
use crate::question::{Question, Subject};
use bulkhead_facts::Reason;
use command::{Body, Reader};
use reply::{Ended, Replies};
use std::collections::VecDeque;

/// One connection to Redis.
#[derive(Debug)]
pub(crate) struct Redis {
    state: State,
    replies: Replies,
    /// Commands released and not yet answered.
    outstanding: VecDeque<Expected>,
    /// The database that commands act on; `None` where that is not known.
    database: Option<u32>,
    transaction: Transaction,
    answers: Answers,
    reply: Option<Vec<u8>>,
    /// The connection ends after the reply.
    closes: bool,
    /// Commands that the server keeps for the end of a transaction: open until then, for the policy may change.
    queued: usize,
    /// Commands that are over and of which that was not told.
    completed: usize,
    tunnel: bool,
    to_server: &'static [u8],
    to_client: &'static [u8],
}

#[derive(Debug)]
enum State {
    /// Before or inside a command.
    Command(Reader),
    /// Waits for the verdict.
    Asked(Pending),
    /// Allowed: so many bytes leave, then the arguments behind them.
    Releasing(Pending),
    /// Inside arguments that were not needed to decide; they are dropped with a command that was denied.
    Body {
        body: Body,
        denied: bool,
    },
    /// Denied: nothing moves before our reply is written.
    Replying,
    /// The rest of the connection is another protocol: replication.
    Stream,
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    length: usize,
    arguments_left: usize,
    effect: Effect,
}

/// What a command does to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// The database changes, if the server agrees; `None` to one that cannot be told.
    Select(Option<u32>),
    Multi,
    Exec,
    Discard,
    Reset,
    /// Replies come unasked from here on.
    Subscribe,
    /// The connection becomes a stream of replication.
    Replicate,
    Silent(Answers),
}

/// A transaction, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    /// A command of it was denied, so it may not be executed (as the server has it with its own refusals).
    Broken,
}

/// Whether commands are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// Each once.
    Each,
    /// Not the next one.
    SkipNext,
    Never,
    /// Each at least once, and messages between them.
    AndMore,
}

/// The reply that a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Reply,
    /// To a command within a transaction, which is carried out at its end.
    Queued,
    /// To the end of a transaction, however it ends.
    Ended,
    /// If it is `+OK`, this is the database.
    Selected(u32),
    /// To our own `DISCARD`: the client is told that its transaction failed.
    Discarded,
}

const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
const DISCARDED: &[u8] = b"-EXECABORT Transaction discarded because of previous errors.\r\n";

impl Default for Redis {
    fn default() -> Self {
        Self {
            state: State::Command(Reader::default()),
            replies: Replies::default(),
            outstanding: VecDeque::new(),
            database: Some(0),
            transaction: Transaction::None,
            answers: Answers::Each,
            reply: None,
            closes: false,
            queued: 0,
            completed: 0,
            tunnel: false,
            to_server: &[],
            to_client: &[],
        }
    }
}

impl Inspector for Redis {
    fn client<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        let waits = self.waits();
        match &mut self.state {
            State::Command(_) if bytes.is_empty() || waits => Step::NeedMore,
            State::Command(_) => self.command(bytes),
            State::Asked(_) | State::Replying | State::Ended => Step::NeedMore,
            State::Releasing(pending) => {
                let pending = *pending;
                self.release(pending)
            }
            State::Body { body, denied } => {
                let denied = *denied;
                match body.advance(bytes) {
                    Err(refusal) => Step::Refuse(refusal),
                    Ok(0) => Step::NeedMore,
                    Ok(count) => {
                        if body.is_complete() {
                            self.state = if denied { State::Replying } else { State::default() };
                        }
                        if denied { Step::Discard(count) } else { Step::Forward(count) }
                    }
                }
            }
            State::Stream => Step::Opaque,
        }
    }

    fn server<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        if let State::Stream = self.state {
            return Step::Opaque;
        }
        if bytes.is_empty() {
            return Step::NeedMore;
        }
        let unasked = self.outstanding.is_empty() && self.answers != Answers::AndMore;
        // What nobody asked for would be taken for the answer to the next command (a push is none).
        if self.replies.is_between() && unasked && !matches!(bytes.first(), Some(b'>' | b'|')) {
            // Some servers say that they are full before they close; anything else answers what was not seen here.
            let reason = if bytes.first() == Some(&b'-') { Reason::Limit } else { Reason::Malformed };
            return Step::Refuse(Refusal { reason, status: None, detail: "reply to no command" });
        }
        let hidden = self.outstanding.front() == Some(&Expected::Discarded);
        match self.replies.advance(bytes) {
            Err(refusal) => Step::Refuse(refusal),
            Ok((0, Ended::Nothing)) => Step::NeedMore,
            Ok((count, ended)) => {
                if let Ended::Reply(is_ok) = ended {
                    self.answered(is_ok);
                }
                if hidden { Step::Discard(count) } else { Step::Forward(count) }
            }
        }
    }

    fn allow(&mut self) {
        if let State::Asked(pending) = self.state {
            self.state = State::Releasing(pending);
        }
    }

    fn deny(&mut self, notice: &Notice<'_>) -> bool {
        let State::Asked(pending) = self.state else { return false };
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Broken;
        }
        self.closes = self.answers != Answers::Each;
        self.reply = Some(format!("-NOPERM {}\r\n", notice.line).into_bytes());
        self.state = State::Body { body: Body::denied(pending.length, pending.arguments_left), denied: true };
        true
    }

    fn reject(&mut self, refusal: &Refusal, notice: &Notice<'_>) -> bool {
        if !matches!(self.state, State::Command(_)) {
            return false;
        }
        let code = if refusal.reason == Reason::Malformed { "ERR Protocol error:" } else { "NOPERM" };
        self.close(code, notice)
    }

    fn close_opaque(&mut self, notice: &Notice<'_>) -> bool {
        self.close("NOPERM", notice)
    }

    fn is_judged(&self) -> bool {
        matches!(self.state, State::Stream)
    }

    fn reply(&self) -> Option<&[u8]> {
        let in_order = self.outstanding.is_empty() || self.answers != Answers::Each;
        let whole = !matches!(self.state, State::Body { .. });
        self.reply.as_deref().filter(|_| in_order && whole && self.replies.is_between())
    }

    fn replied(&mut self) -> bool {
        self.reply = None;
        self.state = if self.closes { State::Ended } else { State::default() };
        !self.closes
    }

    fn take_progress(&mut self) -> Progress {
        let completed = self.completed > 0;
        self.completed -= usize::from(completed);
        // It is the last one that became a stream.
        let tunnel = self.completed == 0 && std::mem::take(&mut self.tunnel);
        Progress { completed, tunnel, ..Progress::default() }
    }

    fn passable(&self, side: Side) -> u64 {
        let count = match (side, &self.state) {
            (_, State::Stream) => return u64::MAX,
            (Side::Client, State::Body { body, denied: false }) => body.passable(),
            (Side::Server, _) if self.outstanding.front() != Some(&Expected::Discarded) => {
                self.replies.passable()
            }
            (Side::Client | Side::Server, _) => 0,
        };
        u64::try_from(count).unwrap_or_default()
    }

    fn passed(&mut self, side: Side, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        match (side, &mut self.state) {
            (Side::Client, State::Body { body, .. }) => body.passed(count),
            (Side::Server, _) => self.replies.passed(count),
            (Side::Client, _) => {}
        }
    }

    fn insertion(&self, side: Side) -> &[u8] {
        match side {
            Side::Client => self.to_client,
            Side::Server => self.to_server,
        }
    }

    fn inserted(&mut self, side: Side) {
        match side {
            Side::Client => self.to_client = &[],
            Side::Server => self.to_server = &[],
        }
    }

    fn hold(&mut self, gate: bool, _: usize) {
        // Under the tee a transaction is the client's own again.
        if !gate && self.transaction == Transaction::Broken {
            self.transaction = Transaction::Open;
        }
    }

    fn bytes_max(&self) -> usize {
        REDIS_COMMAND_BYTES_MAX
    }

    fn standing(&self) -> Standing {
        let between = matches!(&self.state, State::Command(reader) if !reader.is_begun());
        Standing {
            idle: between && self.outstanding.is_empty() && self.replies.is_between() && self.reply.is_none(),
            in_question: matches!(self.state, State::Command(_)),
            in_body: matches!(self.state, State::Body { .. }),
            dropping: matches!(self.state, State::Body { denied: true, .. }),
            in_response: !self.replies.is_between(),
            waits_for_server: match &self.state {
                State::Command(_) => self.waits(),
                State::Asked(_) | State::Releasing(_) | State::Replying => true,
                State::Body { .. } | State::Stream | State::Ended => false,
            },
            has_reply: self.reply.is_some(),
            ..Standing::default()
        }
    }

    fn outstanding(&self) -> usize {
        self.outstanding.len()
    }
}

impl Default for State {
    fn default() -> Self {
        Self::Command(Reader::default())
    }
}

impl Redis {
    /// Ends with an error.
    fn close(&mut self, code: &str, notice: &Notice<'_>) -> bool {
        self.reply = Some(format!("-{code} {}\r\n", notice.line).into_bytes());
        self.closes = true;
        self.state = State::Ended;
        true
    }

    /// Until the server has answered a `SELECT`, nobody knows which database the next command acts on.
    fn waits(&self) -> bool {
        self.outstanding.len() >= REDIS_OUTSTANDING_MAX
            || matches!(self.outstanding.back(), Some(Expected::Selected(_)))
    }

    fn command<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        // Clients put it before a command to end a line that may be open; servers say nothing to it. All at once, since what
        // follows is moved each time.
        let empty_lines = bytes.chunks_exact(2).take_while(|two| two == b"\r\n").count();
        if empty_lines > 0 {
            self.state = State::default();
            return Step::Discard(2 * empty_lines);
        }
        let State::Command(reader) = &mut self.state else { return Step::NeedMore };
        let head = match reader.read(bytes, keys::needed) {
            Err(refusal) => return Step::Refuse(refusal),
            Ok(None) => return Step::NeedMore,
            Ok(Some(head)) => head,
        };
        let arguments = reader.arguments(bytes);
        let name = match name(arguments.first().copied().unwrap_or_default()) {
            Err(refusal) => return Step::Refuse(refusal),
            Ok(name) => name,
        };
        let count = arguments.len() + head.arguments_left;
        let effect = effect(name, &arguments, count, self.transaction);
        let elsewhere = keys::leaves_database(name.as_bytes(), &arguments);
        let command =
            Command { name, keys: keys::keys(&arguments), database: self.database.filter(|_| !elsewhere) };
        self.state =
            State::Asked(Pending { length: head.length, arguments_left: head.arguments_left, effect });
        let lasting = effect == Effect::Subscribe;
        Step::Ask(Question {
            bytes: bytes.get(..head.length).unwrap_or_default(),
            exchange: 0,
            lasting,
            subject: Subject::Redis(command),
        })
    }

    fn release<'a>(&mut self, pending: Pending) -> Step<'a> {
        self.state = match pending.arguments_left {
            0 => State::default(),
            left => State::Body { body: Body::new(left), denied: false },
        };
        if pending.effect == Effect::Exec && self.transaction == Transaction::Broken {
            self.transaction = Transaction::None;
            self.outstanding.push_back(Expected::Discarded);
            self.to_server = DISCARD;
            return Step::Discard(pending.length);
        }
        self.apply(pending.effect);
        Step::Forward(pending.length)
    }

    /// What a command does, once it is on its way.
    fn apply(&mut self, effect: Effect) {
        let mut expected = match self.transaction {
            Transaction::None => Expected::Reply,
            Transaction::Open | Transaction::Broken => Expected::Queued,
        };
        match effect {
            Effect::Nothing => {}
            // Among replies that come unasked nobody can tell the one to this.
            Effect::Select(Some(database)) if self.answers != Answers::AndMore => {
                expected = Expected::Selected(database);
            }
            Effect::Select(_) => self.database = None,
            Effect::Multi if self.transaction == Transaction::None => self.transaction = Transaction::Open,
            Effect::Multi => {}
            Effect::Exec | Effect::Discard => {
                (self.transaction, expected) = (Transaction::None, Expected::Ended);
            }
            Effect::Reset => {
                (self.transaction, expected) = (Transaction::None, Expected::Ended);
                // The server selects database 0, unless it refuses.
                self.database = self.database.filter(|database| *database == 0);
            }
            Effect::Subscribe => self.answers = Answers::AndMore,
            Effect::Replicate => {
                self.state = State::Stream;
                (self.completed, self.tunnel) = (self.completed + 1, true);
                return;
            }
            Effect::Silent(_) if self.answers == Answers::AndMore => {}
            Effect::Silent(Answers::Each) => self.answers = Answers::Each,
            Effect::Silent(answers) => {
                // Where nothing is answered, nothing is left to skip.
                if self.answers != Answers::Never {
                    self.answers = answers;
                }
                self.completed += 1;
                return;
            }
        }
        match self.answers {
            Answers::Each | Answers::AndMore => self.outstanding.push_back(expected),
            Answers::SkipNext => {
                self.answers = Answers::Each;
                self.unanswered(expected);
            }
            Answers::Never => self.unanswered(expected),
        }
    }

    /// Nobody will say whether a command succeeded.
    fn unanswered(&mut self, expected: Expected) {
        if let Expected::Selected(_) = expected {
            self.database = None;
        }
        self.over(Some(expected));
    }

    fn answered(&mut self, is_ok: bool) {
        let expected = self.outstanding.pop_front();
        match expected {
            Some(Expected::Selected(database)) if is_ok => self.database = Some(database),
            Some(Expected::Discarded) => self.to_client = DISCARDED,
            Some(Expected::Selected(_) | Expected::Reply | Expected::Queued | Expected::Ended) | None => {}
        }
        self.over(expected);
    }

    /// A command was answered, or never will be.
    fn over(&mut self, expected: Option<Expected>) {
        match expected {
            Some(Expected::Queued) => self.queued += 1,
            Some(Expected::Ended | Expected::Discarded) => {
                self.completed += 1 + std::mem::take(&mut self.queued);
            }
            Some(Expected::Selected(_) | Expected::Reply) | None => self.completed += 1,
        }
    }
}

/// One command to Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// Name, in the case of the wire.
    pub name: &'a str,
    /// The keys that it names, all of them, or none.
    pub keys: Vec<&'a [u8]>,
    /// The database it acts on; `None` where that is not known.
    pub database: Option<u32>,
}

/// A name that every server reads alike. What browsers and HTTP clients begin with is no command (cross-protocol requests).
fn name(bytes: &[u8]) -> Result<&str, Refusal> {
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if bytes.is_empty() || bytes.len() > 64 || !bytes.iter().all(sound) {
        return Err(malformed("name that no command has"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("name that no command has"))?;
    if text.eq_ignore_ascii_case("post") {
        let detail = "request of HTTP where commands are expected";
        return Err(Refusal { reason: Reason::ProtocolMismatch, status: None, detail });
    }
    Ok(text)
}

/// What a command of `count` arguments does. One with too many does nothing: the server refuses it, and answers.
fn effect(name: &str, arguments: &[&[u8]], count: usize, transaction: Transaction) -> Effect {
    let argument = |at: usize| arguments.get(at).map(|argument| argument.to_ascii_lowercase());
    match name.to_ascii_lowercase().as_str() {
        "select" => Effect::Select(selected(arguments).filter(|_| transaction == Transaction::None)),
        "multi" if count == 1 => Effect::Multi,
        "exec" if count == 1 => Effect::Exec,
        "discard" if count == 1 => Effect::Discard,
        "reset" if count == 1 => Effect::Reset,
        "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe"
        | "monitor" => Effect::Subscribe,
        "sync" | "psync" => Effect::Replicate,
        "client" if count == 3 && argument(1).as_deref() == Some(b"reply") => match argument(2).as_deref() {
            // It takes effect in the middle of the answers to a transaction.
            Some(_) if transaction != Transaction::None => Effect::Subscribe,
            Some(b"off") => Effect::Silent(Answers::Never),
            Some(b"skip") => Effect::Silent(Answers::SkipNext),
            _ => Effect::Silent(Answers::Each),
        },
        _ => Effect::Nothing,
    }
}

/// The database of a `SELECT`, as every server reads it.
fn selected(arguments: &[&[u8]]) -> Option<u32> {
    let [_, digits] = arguments else { return None };
    let sound = digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || digits.first() != Some(&b'0'));
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| sound)
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Malformed, status: None, detail }
}

fn too_much(detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Limit, status: None, detail }
}

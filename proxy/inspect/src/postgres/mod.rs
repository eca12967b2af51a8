//! PostgreSQL in line (frontend/backend protocol 3): sessions by user and database, statements by what they do.
//!
//! [`startup`] reads the first message, [`frontend`] those behind it, [`statement`] what a text does, [`backend`] follows the
//! answers. A statement that is denied is replaced by one that fails, so that the server's transaction is broken as it is for
//! every refusal, and the client is told ours in its place, in order. After an agreement on TLS nothing can be read.

mod backend;
mod classes;
mod frontend;
mod lexer;
mod names;
mod startup;
mod statement;

use crate::contract::{Inspector, Notice, Progress, Refusal, Side, Standing, Step};
use crate::limits::POSTGRES_STATEMENT_BYTES_MAX;
use crate::question::{Question, Subject};
use backend::{Backend, Effects, Expected, Passage};
use bulkhead_facts::{PostgresStatement, Reason};
use classes::Classes;
use frontend::{HEADER_BYTES, Message, Read};
use names::Known;
use startup::{First, Session};

/// One connection to PostgreSQL.
#[derive(Debug)]
pub(crate) struct Postgres {
    state: State,
    session: Option<Session>,
    backend: Backend,
    /// What all statements did that were prepared until now, which `EXECUTE` may execute.
    prepared: Classes,
    /// What all cursors and named portals did until now, with which `FETCH` may go on.
    cursors: Classes,
    /// The next message waits until the server has said what became of those before it.
    waits_for_answer: bool,
    /// Kinds of encryption that were asked for.
    encryption_asked: u8,
    reply: Option<Vec<u8>>,
    to_server: Vec<u8>,
    to_client: Box<[u8]>,
}

#[derive(Debug)]
enum State {
    /// Before the first message, or the next first one.
    First,
    /// The server is asked whether it speaks encryption; the client has to wait.
    Encryption,
    /// Waits for the verdict.
    Asked(Asked),
    /// Allowed: so many bytes leave.
    Releasing(Asked),
    /// Denied: so many bytes are dropped.
    Dropping {
        left: usize,
        then_skip: bool,
    },
    /// Between messages.
    Messages,
    /// A statement was denied: what comes is dropped until a sync, as the server does it.
    Skipping,
    /// Inside a message of which the rest is of no interest.
    Passing {
        left: usize,
    },
    /// Inside one that is dropped.
    SkippingRest {
        left: usize,
    },
    /// Encrypted.
    Secret,
    Ended,
}

#[derive(Clone, Debug)]
struct Asked {
    length: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Session,
    Cancel,
    Query(Classes),
    Parse(Box<[u8]>, Classes),
    Execute(Classes),
    Function,
}

/// Who speaks, and what a message does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statements<'a> {
    /// Role that the session began with.
    pub user: &'a str,
    /// Database that it began with.
    pub database: &'a str,
    /// What it does; nothing in the message that begins a session.
    pub classes: Vec<PostgresStatement>,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            state: State::First,
            session: None,
            backend: Backend::default(),
            prepared: Classes::default(),
            cursors: Classes::default(),
            waits_for_answer: false,
            encryption_asked: 0,
            reply: None,
            to_server: Vec::new(),
            to_client: Box::default(),
        }
    }
}

impl Inspector for Postgres {
    fn client<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        let waits = self.waits();
        match &mut self.state {
            State::Ended | State::Asked(_) => Step::NeedMore,
            State::Secret => Step::Opaque,
            State::Releasing(_) => self.release(),
            State::Dropping { left, then_skip } => {
                let here = (*left).min(bytes.len());
                *left -= here;
                if *left == 0 {
                    self.state = if *then_skip { State::Skipping } else { State::Messages };
                }
                if here == 0 { Step::NeedMore } else { Step::Discard(here) }
            }
            _ if bytes.is_empty() => Step::NeedMore,
            // CVE-2021-23214: what was sent before the answer would be taken for something that was encrypted.
            State::Encryption => {
                Step::Refuse(malformed("bytes before the answer to a request for encryption"))
            }
            State::First => self.first(bytes),
            State::Messages if waits => Step::NeedMore,
            State::Messages => self.message(bytes),
            State::Skipping => self.skip(bytes),
            State::Passing { left } => {
                let here = (*left).min(bytes.len());
                *left -= here;
                if *left == 0 {
                    self.state = State::Messages;
                }
                Step::Forward(here)
            }
            State::SkippingRest { left } => {
                let here = (*left).min(bytes.len());
                *left -= here;
                if *left == 0 {
                    self.state = State::Skipping;
                }
                Step::Discard(here)
            }
        }
    }

    fn server<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        let Some(first) = bytes.first() else { return Step::NeedMore };
        match self.state {
            State::Secret => return Step::Opaque,
            State::Encryption => return self.encryption_answered(*first),
            // Before a session nothing is answered, but a server may say why it will not have one.
            _ if self.session.is_none() && self.backend.is_between() && *first != b'E' => {
                return Step::Refuse(malformed("server that speaks before a session"));
            }
            _ => {}
        }
        match self.backend.advance(bytes) {
            Err(refusal) => Step::Refuse(refusal),
            Ok(Passage::More) => Step::NeedMore,
            Ok(Passage::Forward(count)) => Step::Forward(count),
            Ok(Passage::Hide(count, instead)) => {
                self.to_client = instead.unwrap_or_default();
                Step::Discard(count)
            }
        }
    }

    fn allow(&mut self) {
        if let State::Asked(asked) = &self.state {
            self.state = State::Releasing(asked.clone());
        }
    }

    fn deny(&mut self, notice: &Notice<'_>) -> bool {
        let State::Asked(Asked { length, what }) = &self.state else { return false };
        let (length, simple) = match what {
            // Nobody reads an answer to a cancellation.
            What::Cancel => return false,
            What::Session => return self.close(notice),
            What::Query(_) | What::Function => (*length, true),
            What::Parse(..) | What::Execute(_) => (*length, false),
        };
        self.to_server = if simple { failing_query() } else { failing_parse() };
        self.backend.deny(error("ERROR", "42501", notice.line).into(), simple);
        self.state = State::Dropping { left: length, then_skip: !simple };
        true
    }

    fn reject(&mut self, _: &Refusal, notice: &Notice<'_>) -> bool {
        self.close(notice)
    }

    fn close_opaque(&mut self, notice: &Notice<'_>) -> bool {
        self.close(notice)
    }

    fn reply(&self) -> Option<&[u8]> {
        // While it reads data, the server says nothing more.
        let answered = self.backend.outstanding() == 0 || self.backend.copies();
        let in_turn = self.backend.is_between() && answered;
        self.reply.as_deref().filter(|_| in_turn)
    }

    fn replied(&mut self) -> bool {
        self.reply = None;
        false
    }

    fn take_progress(&mut self) -> Progress {
        Progress { completed: self.backend.take_completed(), ..Progress::default() }
    }

    fn passable(&self, side: Side) -> u64 {
        let count = match (side, &self.state) {
            (_, State::Secret) => return u64::MAX,
            (Side::Client, State::Passing { left }) => *left,
            (Side::Client, _) => 0,
            (Side::Server, _) => self.backend.passable(),
        };
        u64::try_from(count).unwrap_or_default()
    }

    fn passed(&mut self, side: Side, count: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        match (side, &mut self.state) {
            (Side::Client, State::Passing { left }) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.state = State::Messages;
                }
            }
            (Side::Client, _) => {}
            (Side::Server, _) => self.backend.passed(count),
        }
    }

    fn insertion(&self, side: Side) -> &[u8] {
        match side {
            Side::Client => &self.to_client,
            // What replaces a denied statement takes its place once that is gone.
            Side::Server if matches!(self.state, State::Dropping { .. }) => &[],
            Side::Server => &self.to_server,
        }
    }

    fn inserted(&mut self, side: Side) {
        match side {
            Side::Client => self.to_client = Box::default(),
            Side::Server => self.to_server = Vec::new(),
        }
    }

    fn bytes_max(&self) -> usize {
        POSTGRES_STATEMENT_BYTES_MAX
    }

    fn standing(&self) -> Standing {
        let between = matches!(self.state, State::Messages);
        Standing {
            idle: between
                && self.backend.ready
                && self.backend.outstanding() == 0
                && self.backend.is_between(),
            in_question: matches!(self.state, State::First | State::Messages | State::Skipping),
            in_body: matches!(self.state, State::Passing { .. } | State::SkippingRest { .. }),
            dropping: matches!(self.state, State::Dropping { .. } | State::SkippingRest { .. }),
            in_response: !self.backend.is_between(),
            waits_for_server: match &self.state {
                State::Messages => self.waits() || self.waits_for_answer || !self.backend.ready,
                State::Asked(_) | State::Releasing(_) | State::Dropping { .. } => true,
                _ => false,
            },
            has_reply: self.reply.is_some(),
            begun: matches!(self.state, State::First) && self.encryption_asked > 0,
            ..Standing::default()
        }
    }

    fn outstanding(&self) -> usize {
        self.backend.outstanding()
    }
}

impl Postgres {
    fn waits(&self) -> bool {
        self.backend.is_full()
    }

    /// What a name stands for, as far as is known; `None` while that waits for the server.
    fn known(&mut self, look_up: impl FnOnce(&mut Backend) -> Known) -> Option<Classes> {
        let known = look_up(&mut self.backend);
        self.waits_for_answer = known == Known::Waits;
        match known {
            Known::As(classes) => Some(classes),
            Known::Unknown => Some(Classes::of(PostgresStatement::Other)),
            Known::Waits => None,
        }
    }

    fn resolved(&self, classes: Classes) -> Classes {
        classes.resolved(self.prepared, self.cursors)
    }

    /// What does all this is on its way.
    fn carry_out(&mut self, classes: Classes) {
        if classes.does(Classes::PREPARES) {
            self.prepared = self.prepared.union(classes);
        }
        if classes.does(Classes::DECLARES) {
            self.cursors = self.cursors.union(classes);
        }
        self.backend.carry_out(classes);
    }

    fn first<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        let (first, length) = match startup::read(bytes) {
            Err(refusal) => return Step::Refuse(refusal),
            Ok(None) => return Step::NeedMore,
            Ok(Some(read)) => read,
        };
        match first {
            First::Encryption => {
                self.encryption_asked += 1;
                if self.encryption_asked > 2 {
                    return Step::Refuse(malformed("request for encryption again and again"));
                }
                // It says nothing that a rule could be about.
                self.state = State::Encryption;
                Step::Forward(length)
            }
            First::Cancel => {
                self.state = State::Asked(Asked { length, what: What::Cancel });
                self.ask(bytes.get(..length).unwrap_or_default(), Classes::default())
            }
            First::Session(session) => {
                let classes = session.classes;
                self.session = Some(session);
                self.state = State::Asked(Asked { length, what: What::Session });
                self.ask(bytes.get(..length).unwrap_or_default(), classes)
            }
        }
    }

    fn ask<'a>(&'a self, bytes: &'a [u8], classes: Classes) -> Step<'a> {
        let session = self.session.as_ref();
        Step::Ask(Question {
            bytes,
            exchange: 0,
            lasting: matches!(self.state, State::Asked(Asked { what: What::Session, .. })),
            subject: Subject::Postgres(Statements {
                user: session.map_or("", |session| &session.user),
                database: session.map_or("", |session| &session.database),
                classes: classes.to_vec(),
            }),
        })
    }

    /// `N`: go on in clear. Else nothing of what follows can be read, and the answer itself waits for that verdict.
    fn encryption_answered<'a>(&mut self, answer: u8) -> Step<'a> {
        match answer {
            b'N' => {
                self.state = State::First;
                Step::Forward(1)
            }
            b'S' | b'G' => {
                self.state = State::Secret;
                Step::Opaque
            }
            b'E' => {
                self.state = State::Ended;
                Step::Forward(1)
            }
            _ => Step::Refuse(malformed("answer to a request for encryption that is none")),
        }
    }

    fn message<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        // Until the server is ready, the client proves who it is; from then on it does nothing of the kind.
        if !self.backend.ready && !matches!(bytes.first(), Some(b'p' | b'X')) {
            return Step::NeedMore;
        }
        let Read { message, length } = match frontend::read(bytes, self.backend.is_plain()) {
            Err(refusal) => return Step::Refuse(refusal),
            Ok(None) => return Step::NeedMore,
            Ok(Some(read)) => read,
        };
        if message == Message::Password && self.backend.ready {
            return Step::Refuse(malformed("password in a session that is open"));
        }
        if self.backend.may_copy() && !message.may_stand_in_data() {
            self.waits_for_answer = true;
            return match self.backend.copies() {
                true => Step::Refuse(malformed("another message among the data of a copy")),
                false => Step::NeedMore,
            };
        }
        self.waits_for_answer = false;
        let (what, classes) = match message {
            Message::Query(classes) => {
                let classes = self.resolved(classes);
                (What::Query(classes), classes)
            }
            Message::Parse(name, classes) => (What::Parse(name.into(), classes), self.resolved(classes)),
            Message::Execute(portal) => {
                let Some(classes) = self.known(|backend| backend.portal(portal)) else {
                    return Step::NeedMore;
                };
                let classes = self.resolved(classes);
                (What::Execute(classes), classes)
            }
            Message::Function => (What::Function, Classes::of(PostgresStatement::Call)),
            plain => return self.plain(plain, length, bytes.len()),
        };
        // A function's arguments may be large: its type decides.
        let shown = if let What::Function = what { HEADER_BYTES } else { length };
        self.state = State::Asked(Asked { length, what });
        self.ask(bytes.get(..shown.min(length)).unwrap_or_default(), classes)
    }

    /// A message that asks for nothing that a rule could be about.
    fn plain<'a>(&mut self, message: Message<'_>, length: usize, shown: usize) -> Step<'a> {
        match message {
            Message::Bind { portal, statement } => {
                let Some(classes) = self.known(|backend| backend.statement(statement)) else {
                    return Step::NeedMore;
                };
                if !portal.is_empty() {
                    self.cursors = self.cursors.union(classes);
                }
                self.backend.bind(portal, Some(classes));
            }
            Message::Close(name) => self.backend.prepare(name, None),
            Message::ClosePortal(name) => self.backend.bind(name, None),
            Message::Describe => self.backend.expect(Expected::Describe),
            Message::Sync => self.backend.expect(Expected::Sync),
            Message::CopyEnd => self.backend.expect(Expected::CopyEnd),
            Message::Terminate => self.state = State::Ended,
            _ => {}
        }
        self.pass(length, shown)
    }

    /// Lets a message go, as far as it is there.
    fn pass<'a>(&mut self, length: usize, shown: usize) -> Step<'a> {
        let here = length.min(shown);
        if length > here {
            self.state = State::Passing { left: length - here };
        }
        Step::Forward(here)
    }

    fn release<'a>(&mut self) -> Step<'a> {
        let State::Releasing(Asked { length, what }) = std::mem::replace(&mut self.state, State::Messages)
        else {
            return Step::NeedMore;
        };
        match what {
            What::Session => {}
            What::Cancel => self.state = State::Ended,
            What::Query(classes) => {
                self.carry_out(classes);
                self.backend.expect(Expected::Query(Effects::of(classes)));
            }
            What::Parse(name, classes) => {
                self.prepared = self.prepared.union(classes);
                self.backend.prepare(&name, Some(classes));
            }
            What::Execute(classes) => {
                self.carry_out(classes);
                self.backend.expect(Expected::Execute(Effects::of(classes)));
            }
            What::Function => {
                self.backend.expect(Expected::Query(Effects::of(Classes::of(PostgresStatement::Call))));
                if length > HEADER_BYTES {
                    self.state = State::Passing { left: length - HEADER_BYTES };
                }
                return Step::Forward(HEADER_BYTES);
            }
        }
        Step::Forward(length)
    }

    /// Until a sync the client's messages are dropped; the server does the same with what it has.
    fn skip<'a>(&mut self, bytes: &[u8]) -> Step<'a> {
        match frontend::header(bytes) {
            Err(refusal) => Step::Refuse(refusal),
            Ok(None) => Step::NeedMore,
            Ok(Some((b'S', 5))) => {
                self.state = State::Messages;
                self.backend.expect(Expected::Sync);
                Step::Forward(5)
            }
            Ok(Some((b'X', 5))) => {
                self.state = State::Ended;
                Step::Forward(5)
            }
            Ok(Some((_, length))) => {
                let here = length.min(bytes.len());
                if length > here {
                    self.state = State::SkippingRest { left: length - here };
                }
                Step::Discard(here)
            }
        }
    }

    /// Ends with an error that a client shows.
    fn close(&mut self, notice: &Notice<'_>) -> bool {
        self.state = State::Ended;
        self.reply = Some(error("FATAL", "42501", notice.line));
        true
    }
}

/// A message with an error (section 55.8: severity, code, text).
fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    let body = format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0");
    message(b'E', body.as_bytes())
}

/// Statements that no server takes, in the place of denied ones.
const FAILING: &[u8] = b"denied by bulkhead\0";

fn failing_query() -> Vec<u8> {
    message(b'Q', FAILING)
}

fn failing_parse() -> Vec<u8> {
    message(b'P', &[b"\0", FAILING, b"\0\0"].concat())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[kind], length.to_be_bytes().as_slice(), body].concat()
}

fn malformed(detail: &'static str) -> Refusal {
    Refusal { reason: Reason::Malformed, status: None, detail }
}

//! What the server still has to answer, followed through its messages, so that each request is known to be answered once and
//! our refusals stand in their turn.

use crate::contract::Refusal;
use crate::limits::{POSTGRES_OUTSTANDING_MAX, POSTGRES_REFUSALS_MAX};
use crate::postgres::classes::Classes;
use crate::postgres::names::{Known, Names};
use crate::postgres::{frontend, malformed};
use std::collections::VecDeque;

/// What a message of the client has to be answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A statement is prepared under a name, or a name is given up.
    Parse,
    Close,
    /// A portal is made, or given up.
    Bind,
    ClosePortal,
    Describe,
    Execute(Effects),
    Sync,
    /// A simple query or a function call, which end like a sync.
    Query(Effects),
    /// Stands where the client's data of a `COPY` ended.
    CopyEnd,
    /// A statement that was denied and replaced by one that fails: this is what the client is told; true if its own end
    /// follows.
    Denied(bool),
}

/// What a text may do that matters for how those behind it are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effects {
    /// It may be a `COPY`.
    copies: bool,
    /// It may set the encoding of the client.
    sets: bool,
}

impl Effects {
    pub(super) fn of(classes: Classes) -> Self {
        Self { copies: classes.may_copy(), sets: classes.may_set() }
    }
}

impl Expected {
    fn ends_with_ready(&self) -> bool {
        matches!(self, Self::Sync | Self::Query(_) | Self::Denied(true))
    }

    /// Asked about, so that its end is of interest to whoever counts requests.
    fn is_counted(&self) -> bool {
        matches!(self, Self::Parse | Self::Execute(_) | Self::Query(_))
    }

    fn effects(&self) -> Option<Effects> {
        match self {
            Self::Execute(effects) | Self::Query(effects) => Some(*effects),
            _ => None,
        }
    }
}

/// Bytes of a message about a setting that hold the name and the value of an encoding.
const SETTING_BYTES: usize = 64;

/// True for encodings in which no byte of ASCII is a part of a longer character.
fn is_plain(encoding: &[u8]) -> bool {
    const FRONTS: [&[u8]; 8] =
        [b"UTF8", b"UNICODE", b"SQL_ASCII", b"LATIN", b"WIN", b"ISO_8859_", b"KOI8", b"EUC_"];
    FRONTS.iter().any(|front| encoding.to_ascii_uppercase().starts_with(front))
}

/// Length of the message that says that the server is ready.
const STATE_BYTES: usize = 6;

/// Follows the messages of a server.
#[derive(Debug, Default)]
pub(super) struct Backend {
    /// Bytes of the open message that are still to come.
    left: usize,
    /// The open message is not for the client.
    hidden: bool,
    /// What the client is told when it is over.
    instead: Option<Box<[u8]>>,
    outstanding: VecDeque<Expected>,
    /// What prepared statements do, by name; the one without a name is among them.
    statements: Names,
    /// What portals do, likewise.
    portals: Names,
    /// What a client is told for those of them that are refusals of ours, in their order.
    refusals: VecDeque<Box<[u8]>>,
    /// Requests that were answered and not yet taken note of.
    completed: usize,
    /// After an error the server skips what comes until a sync.
    skips: bool,
    /// The server reads data of a `COPY`, and no syncs.
    copies: bool,
    /// Texts that may be a `COPY`, of which the server has not yet said whether it reads data, or that they are over.
    may_copy: usize,
    /// Texts that may set the encoding of the client, and are not yet over.
    may_set: usize,
    /// One is over, and the server has not been ready since: then it tells what changed.
    may_have_set: bool,
    /// Whether in each encoding that the server has told, what looks like ASCII is ASCII.
    plain: Option<bool>,
    /// The server was ready once: authentication is over.
    pub(super) ready: bool,
}

/// What to do with some bytes of the server.
pub(super) enum Passage {
    /// Too few to tell.
    More,
    Forward(usize),
    /// They are not for the client; when they are over, these bytes are.
    Hide(usize, Option<Box<[u8]>>),
}

impl Backend {
    /// A statement was denied, and one that fails is on its way in its place.
    pub(super) fn deny(&mut self, told: Box<[u8]>, simple: bool) {
        if !self.skips {
            self.refusals.push_back(told);
            self.outstanding.push_back(Expected::Denied(simple));
        }
    }

    /// A message of the client is on its way.
    pub(super) fn expect(&mut self, expected: Expected) {
        if let Some(effects) = expected.effects() {
            self.may_copy += usize::from(effects.copies);
            self.may_set += usize::from(effects.sets);
        }
        match expected {
            Expected::CopyEnd => {
                self.copies = false;
                if !self.outstanding.is_empty() {
                    self.outstanding.push_back(expected);
                }
            }
            Expected::Sync => {
                self.statements.sync();
                self.portals.sync();
                if !self.copies {
                    self.skips = false;
                    self.outstanding.push_back(expected);
                }
            }
            expected if self.skips => self.end(&expected, false),
            expected => self.outstanding.push_back(expected),
        }
    }

    /// A statement is on its way to be prepared, or with `None` its name to be given up.
    pub(super) fn prepare(&mut self, name: &[u8], classes: Option<Classes>) {
        self.statements.send(name, classes);
        self.expect(if classes.is_some() { Expected::Parse } else { Expected::Close });
    }

    /// A portal is on its way to be made, or with `None` to be given up.
    pub(super) fn bind(&mut self, name: &[u8], classes: Option<Classes>) {
        self.portals.send(name, classes);
        self.expect(if classes.is_some() { Expected::Bind } else { Expected::ClosePortal });
    }

    /// What a prepared statement does that is used now.
    pub(super) fn statement(&mut self, name: &[u8]) -> Known {
        self.statements.look_up(name)
    }

    /// What a portal does.
    pub(super) fn portal(&mut self, name: &[u8]) -> Known {
        self.portals.look_up(name)
    }

    /// A text is on its way that does all this: it may give names.
    pub(super) fn carry_out(&mut self, classes: Classes) {
        if classes.does(Classes::PREPARES) {
            self.statements.given_by_sql(classes);
        }
        if classes.does(Classes::DECLARES) {
            self.portals.given_by_sql(classes);
        }
    }

    /// True while so many refusals wait for their turn that further messages have to.
    pub(super) fn is_full(&self) -> bool {
        self.outstanding.len() >= POSTGRES_OUTSTANDING_MAX
            || self.refusals.len() >= POSTGRES_REFUSALS_MAX
            || self.statements.is_full()
            || self.portals.is_full()
    }

    /// Messages that the server has to answer.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// True between two messages of the server.
    pub(super) fn is_between(&self) -> bool {
        self.left == 0
    }

    /// One request that was answered since the last call.
    pub(super) fn take_completed(&mut self) -> bool {
        let some = self.completed > 0;
        self.completed -= usize::from(some);
        some
    }

    /// Bytes that may pass without being looked at.
    pub(super) fn passable(&self) -> usize {
        if self.hidden { 0 } else { self.left }
    }

    pub(super) fn passed(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }

    /// Goes on with the message that is open, or begins the next.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Passage, Refusal> {
        if self.left == 0 {
            let Some((kind, length)) = frontend::header(bytes)? else { return Ok(Passage::More) };
            // Whether a transaction is open stands behind the header, and so does what a setting is now.
            let told = match kind {
                b'Z' if length == STATE_BYTES => STATE_BYTES,
                b'S' => length.min(SETTING_BYTES),
                _ => 0,
            };
            if bytes.len() < told {
                return Ok(Passage::More);
            }
            if kind == b'S' {
                self.setting(bytes.get(frontend::HEADER_BYTES..told).unwrap_or_default());
            }
            self.begin(kind, length)?;
            self.may_have_set &= kind != b'Z';
            if (kind, bytes.get(frontend::HEADER_BYTES)) == (b'Z', Some(&b'I')) {
                // Portals end with their transaction.
                self.portals.end_settled();
            }
            self.left = length;
        }
        let here = self.left.min(bytes.len());
        self.left -= here;
        if !self.hidden {
            return Ok(Passage::Forward(here));
        }
        let instead = if self.left == 0 { self.instead.take() } else { None };
        self.hidden = self.left > 0;
        Ok(Passage::Hide(here, instead))
    }

    /// The server tells how a setting is now.
    fn setting(&mut self, body: &[u8]) {
        let mut parts = body.split(|byte| *byte == 0);
        if let (Some(b"client_encoding"), Some(encoding)) = (parts.next(), parts.next()) {
            self.plain = Some(self.plain != Some(false) && is_plain(encoding));
        }
    }

    /// True if texts are in an encoding in which what looks like ASCII is ASCII. One that was set before may come back with the
    /// end of a transaction.
    pub(super) fn is_plain(&self) -> bool {
        self.plain == Some(true) && self.may_set == 0 && !self.may_have_set
    }

    /// What the beginning of a message says about what was expected.
    fn begin(&mut self, kind: u8, length: usize) -> Result<(), Refusal> {
        while self.outstanding.front() == Some(&Expected::CopyEnd) {
            self.outstanding.pop_front();
        }
        match (kind, self.outstanding.front()) {
            // Notices, settings and notifications come at any time.
            (b'N' | b'S' | b'A', _) => {}
            // Authentication, the key for cancellations, and versions that are not spoken.
            (b'R' | b'K' | b'v', _) if !self.ready => {}
            (b'Z', _) if length != STATE_BYTES => return Err(malformed("state of an impossible length")),
            (b'Z', None) if !self.ready => {
                self.ready = true;
                // The message that began the session was asked about, and is answered now.
                self.completed += 1;
            }
            (b'Z', Some(front)) if front.ends_with_ready() => self.pop(true),
            (b'E', _) => self.error(),
            (b'1', Some(Expected::Parse))
            | (b'2', Some(Expected::Bind))
            | (b'3', Some(Expected::Close | Expected::ClosePortal)) => self.pop(true),
            (b'T' | b'n', Some(Expected::Describe)) => self.pop(true),
            (b't', Some(Expected::Describe)) => {}
            (b'C' | b'I' | b's', Some(Expected::Execute(_))) => self.pop(true),
            (b'G' | b'W', Some(Expected::Execute(_) | Expected::Query(_))) => self.copy(),
            (b'D' | b'H' | b'd' | b'c', Some(Expected::Execute(_))) => {}
            (b'C' | b'I' | b'T' | b'D' | b'H' | b'd' | b'c' | b'V', Some(Expected::Query(_))) => {}
            _ => return Err(malformed("message of the server that nothing asked for")),
        }
        Ok(())
    }

    fn pop(&mut self, done: bool) {
        if let Some(expected) = self.outstanding.pop_front() {
            self.end(&expected, done);
        }
    }

    /// What was expected was carried out, or was not.
    fn end(&mut self, expected: &Expected, done: bool) {
        match expected {
            Expected::Parse | Expected::Close => self.statements.answered(done),
            Expected::Bind | Expected::ClosePortal => self.portals.answered(done),
            Expected::Denied(_) => {
                self.refusals.pop_front();
            }
            _ => {}
        }
        if let Some(effects) = expected.effects() {
            self.may_copy -= usize::from(effects.copies);
            self.may_set -= usize::from(effects.sets);
            self.may_have_set |= effects.sets;
        }
        self.completed += usize::from(expected.is_counted());
    }

    /// Of a simple query its end follows; else the server skips what comes before the next sync.
    fn error(&mut self) {
        match self.outstanding.front() {
            Some(Expected::Denied(simple)) => {
                let simple = *simple;
                self.outstanding.pop_front();
                (self.hidden, self.instead) = (true, self.refusals.pop_front());
                match simple {
                    true => self.outstanding.push_front(Expected::Sync),
                    false => self.skip(),
                }
            }
            Some(Expected::Query(_) | Expected::Sync) | None => self.copies = false,
            Some(_) => self.skip(),
        }
    }

    fn skip(&mut self) {
        self.copies = false;
        while let Some(front) = self.outstanding.front() {
            if *front == Expected::Sync {
                return;
            }
            self.pop(false);
        }
        self.skips = true;
    }

    /// The server reads data now, and overlooks syncs until it ends.
    fn copy(&mut self) {
        let behind = self.outstanding.iter().skip(1);
        let syncs = behind.take_while(|expected| **expected == Expected::Sync).count();
        self.outstanding.drain(1..=syncs);
        self.copies = self.outstanding.len() == 1;
    }

    /// True while the server reads data of a `COPY`.
    pub(super) fn copies(&self) -> bool {
        self.copies
    }

    /// True while it may come to that. The server takes another message than data for an end of the data: that it errs then, and
    /// what it does with the message, must not be in doubt where one is let go.
    pub(super) fn may_copy(&self) -> bool {
        self.may_copy > 0
    }
}

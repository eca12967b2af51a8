//! PostgreSQL: what a name stands for is what the server took, whatever it skipped, so that a policy that narrows holds for what
//! was prepared before.
//!
//! The server here keeps names as PostgreSQL does (sections 55.2.3 and 55.2.4 of its documentation); a real one is asked in the
//! sessions' tests.

#[path = "support/gate.rs"]
mod gate;
#[path = "support/postgres.rs"]
mod messages;

use bulkhead_facts::PostgresStatement as Class;
use bulkhead_inspect::{Protocol, Question, Subject};
use gate::{End, Gate, Outcome, World};
use messages::*;
use std::collections::HashMap;

const OPEN: World = World {
    expected: Some(Protocol::Postgres),
    allow: |_| true,
    answer: |received| Server::after(received).said,
    opaque: false,
};

/// What may still be done after the change.
fn readers(question: &Question<'_>) -> bool {
    let Subject::Postgres(message) = &question.subject else { return false };
    let allowed = [Class::Select, Class::Transaction, Class::Session, Class::Copy];
    message.classes.iter().all(|class| allowed.contains(class))
}

/// A server, as far as names, portals, errors and copies go.
#[derive(Default)]
struct Server {
    said: Vec<u8>,
    /// Texts that were carried out.
    done: Vec<String>,
    statements: HashMap<String, String>,
    /// With what they go on.
    portals: HashMap<String, String>,
    skips: bool,
    /// Reads data, for a simple query or for an execution.
    copies: Option<bool>,
    in_transaction: bool,
    failed: bool,
}

impl Server {
    fn after(mut received: &[u8]) -> Self {
        let mut server = Self::default();
        let length = received.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
        if length == 0 || received.len() < length {
            return server;
        }
        received = &received[length..];
        server.said.extend(message(b'R', &[0; 4]));
        server.ready();
        while let Some(length) = received.get(1..5) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            let Some(body) = received.get(5..=length) else { break };
            server.message(received[0], body);
            received = &received[length + 1..];
        }
        server
    }

    fn message(&mut self, kind: u8, body: &[u8]) {
        let text = String::from_utf8_lossy(body).into_owned();
        let mut words = text.split('\0');
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some(simple) = self.copies {
            match kind {
                b'd' | b'S' | b'H' => return,
                b'c' => self.say(b'C', b"COPY 0\0"),
                _ => self.error(simple),
            }
            self.copies = None;
            if simple {
                self.ready();
            }
            return;
        }
        match kind {
            b'S' => {
                self.skips = false;
                self.end_of_transaction();
                self.ready();
            }
            _ if self.skips => {}
            b'c' | b'd' | b'H' => {}
            b'Q' => {
                self.statements.remove("");
                if self.text(first, true) && self.copies.is_none() {
                    self.say(b'C', b"OK\0");
                }
                if self.copies.is_none() {
                    self.end_of_transaction();
                    self.ready();
                }
            }
            b'P' => {
                if first.is_empty() {
                    self.statements.remove("");
                }
                if self.is_wrong(second) || self.statements.contains_key(first) {
                    return self.error(false);
                }
                self.statements.insert(first.to_owned(), second.to_owned());
                self.say(b'1', b"");
            }
            b'B' => {
                let Some(text) = self.statements.get(second).cloned() else { return self.error(false) };
                if self.is_wrong(&text) || !first.is_empty() && self.portals.contains_key(first) {
                    return self.error(false);
                }
                self.portals.insert(first.to_owned(), text);
                self.say(b'2', b"");
            }
            b'E' => {
                let Some(text) = self.portals.get(first).cloned() else { return self.error(false) };
                if self.text(&text, false) && self.copies.is_none() {
                    self.say(b'C', b"OK\0");
                }
            }
            b'C' => {
                match first.split_at(1) {
                    ("S", name) => self.statements.remove(name),
                    (_, name) => self.portals.remove(name),
                };
                self.say(b'3', b"");
            }
            other => panic!("{other}"),
        }
    }

    fn say(&mut self, kind: u8, body: &[u8]) {
        self.said.extend(message(kind, body));
    }

    fn ready(&mut self) {
        let state = match (self.in_transaction, self.failed) {
            (false, _) => b"I",
            (true, false) => b"T",
            (true, true) => b"E",
        };
        self.say(b'Z', state);
    }

    /// A transaction of its own ends with its portals.
    fn end_of_transaction(&mut self) {
        if !self.in_transaction {
            self.portals.clear();
        }
    }

    fn error(&mut self, simple: bool) {
        self.say(b'E', b"SERROR\0C42601\0Merror\0\0");
        self.skips = !simple;
        self.failed = true;
        self.portals.clear();
    }

    fn is_wrong(&self, text: &str) -> bool {
        text.contains("nonsense")
            || text.contains("denied by")
            || self.failed && self.in_transaction && text != "rollback"
    }

    /// Carries a text out; false after an error.
    fn text(&mut self, text: &str, simple: bool) -> bool {
        if !self.in_transaction {
            self.failed = false;
        }
        let words: Vec<&str> = text.split(' ').collect();
        let wrong = match words.as_slice() {
            _ if self.is_wrong(text) => true,
            ["prepare", name, "as", ..] => self.statements.contains_key(*name),
            ["deallocate", name] => self.statements.remove(*name).is_none(),
            ["execute", name] => match self.statements.get(*name).cloned() {
                Some(inner) if !inner.starts_with("execute") => return self.text(&inner, simple),
                _ => true,
            },
            ["declare", name, ..] => self.portals.contains_key(*name) || !self.in_transaction,
            ["close", name] => self.portals.remove(*name).is_none(),
            ["fetch", name] => match self.portals.get(*name).cloned() {
                Some(inner) if !inner.starts_with("fetch") => return self.text(&inner, simple),
                _ => true,
            },
            _ => false,
        };
        if wrong {
            self.error(simple);
            return false;
        }
        match words.as_slice() {
            ["prepare", name, "as", rest @ ..] => {
                self.statements.insert((*name).to_owned(), rest.join(" "));
            }
            ["declare", name, "cursor", "for", rest @ ..] => {
                self.portals.insert((*name).to_owned(), rest.join(" "));
            }
            ["discard", ..] => self.statements.clear(),
            ["begin"] => self.in_transaction = true,
            ["commit" | "rollback"] => (self.in_transaction, self.failed) = (false, false),
            ["copy", ..] => {
                self.say(b'G', &[0, 0, 0]);
                self.copies = Some(simple);
            }
            _ => self.done.push(text.to_owned()),
        }
        true
    }
}

/// What is said before the policy narrows and what after it, in such pieces.
fn narrowed(before: &[Vec<u8>], after: &[Vec<u8>], piece: usize) -> (Outcome, Vec<String>) {
    let mut gate = Gate::new(OPEN, piece);
    gate.client(&app());
    for part in before.concat().chunks(piece) {
        gate.client(part);
    }
    let done = Server::after(&gate.outcome.to_server).done.len();
    gate.judge_by(readers);
    for part in after.concat().chunks(piece) {
        gate.client(part);
    }
    let done = Server::after(&gate.outcome.to_server).done.split_off(done);
    (gate.outcome, done)
}

fn is_forbidden(text: &str) -> bool {
    text.contains("delete") || text.contains("pg_read_file")
}

/// Nothing but reading is done after the change, however it is cut; what was asked last.
fn check(before: &[Vec<u8>], after: &[Vec<u8>], asked: &[&str]) -> Vec<String> {
    let whole = narrowed(before, after, 10_000);
    for piece in 1..60 {
        assert_eq!(narrowed(before, after, piece), whole, "by {piece}");
    }
    let (outcome, done) = whole;
    assert!(!done.iter().any(|text| is_forbidden(text)), "{done:?}");
    let done: Vec<String> = done.into_iter().filter(|text| text.starts_with("select")).collect();
    let wanted: Vec<String> = asked.iter().map(|classes| format!("app@shop [{classes}]")).collect();
    assert_eq!(outcome.asked[outcome.asked.len() - wanted.len()..], wanted, "{:?}", outcome.asked);
    done
}

#[test]
fn what_the_server_skipped_changes_no_name() {
    let error = || bind("", "never");
    // The statement without a name, a named one, one that was to be given up, and portals.
    for (name, again) in [
        ("", vec![parse("", "select 1")]),
        ("x", vec![parse("x", "select 1")]),
        ("x", vec![close('S', "x"), parse("x", "select 1")]),
    ] {
        let before = [parse(name, "delete from t"), sync()];
        let use_it = [bind("", name), execute(""), sync()].concat();
        let skipped = [vec![error()], again.clone(), vec![sync(), use_it.clone()]].concat();
        check(&before, &skipped, &["select", "delete"]);
        // What is not skipped counts.
        let taken = [vec![close('S', name)], again, vec![sync(), use_it]].concat();
        assert_eq!(check(&before, &taken, &["select", "select"]), ["select 1"]);
    }
    let before =
        [parse("d", "delete from t"), parse("s", "select 1"), query("begin"), bind("p", "d"), sync()];
    check(&before, &[bind("p", "s"), sync(), execute("p"), sync()], &["delete"]);
    check(&before, &[close('P', "p"), bind("p", "s"), execute("p"), sync()], &["select"]);
}

#[test]
fn a_name_that_is_taken_keeps_what_it_stands_for() {
    let before = [query("prepare x as delete from t")];
    check(
        &before,
        &[parse("x", "select 1"), sync(), bind("", "x"), execute(""), sync()],
        &["select", "other"],
    );
    let before = [parse("x", "select 1"), sync(), query("deallocate x"), query("prepare x as delete from t")];
    check(&before, &[bind("", "x"), execute(""), sync()], &["select delete"]);
    // And where the new one is skipped as well.
    let again = [bind("", "never"), parse("x", "select 1"), sync(), bind("", "x"), execute(""), sync()];
    check(&before, &again, &["select", "select delete"]);
}

#[test]
fn names_that_were_given_up_may_be_given_again() {
    for gone in ["discard all", "deallocate x"] {
        let before = [parse("x", "delete from t"), sync()];
        let after = [query(gone), parse("x", "select 1"), bind("", "x"), execute(""), sync()];
        assert_eq!(check(&before, &after, &["session", "select", "select"]), ["select 1"], "{gone}");
    }
}

#[test]
fn cursors_that_were_opened_before_are_judged_where_they_go_on() {
    let before = [query("begin"), query("declare c cursor for select pg_read_file('a')")];
    check(&before, &[query("fetch c")], &["select call"]);
    let before = [query("begin"), parse("x", "delete from t"), bind("p", "x"), sync()];
    check(&before, &[query("fetch p")], &["select delete"]);
    let before = [
        query("begin"),
        parse("s", "select 1"),
        bind("p", "s"),
        sync(),
        query("close p"),
        query("declare p cursor for select pg_read_file('a')"),
    ];
    check(&before, &[execute("p"), sync()], &["select call"]);
}

#[test]
fn what_is_used_while_names_are_open_waits_for_the_server_and_is_answered() {
    // Between two syncs nothing waits.
    let before = [parse("", "delete from t"), sync()];
    let pipeline: Vec<Vec<u8>> =
        (0..5).flat_map(|_| [parse("", "select 1"), bind("", ""), execute(""), sync()]).collect();
    assert_eq!(check(&before, &pipeline, &["select"; 10]).len(), 5);
    let named = [parse("a", "select 1"), sync(), bind("", "a"), execute(""), sync()];
    assert_eq!(check(&[], &named, &["select", "select"]), ["select 1"]);
    let anew = [
        close('S', "a"),
        parse("a", "select 1"),
        sync(),
        bind("", "a"),
        execute(""),
        sync(),
        query("select 1"),
    ];
    let before = [parse("a", "delete from t"), sync()];
    assert_eq!(check(&before, &anew, &["select", "select", "select"]).len(), 2);
}

/// The server takes another message for an end of the data and does not carry it out.
#[test]
fn nothing_but_data_is_sent_while_the_server_reads_data() {
    let before = [parse("x", "delete from t"), sync(), query("deallocate all")];
    let hidden = [query("copy t from stdin"), parse("x", "select 1"), bind("", "x"), execute(""), sync()];
    for piece in 1..200 {
        let (outcome, done) = narrowed(&before[..2], &hidden, piece);
        assert_eq!(done, [""; 0], "by {piece}");
        assert_ne!(outcome.end, End::Open, "by {piece}");
    }
    let copied = [query("copy t from stdin"), message(b'd', b"1\n"), message(b'c', b""), query("select 1")];
    assert_eq!(check(&[], &copied, &["copy", "select"]), ["select 1"]);
}

/// Numbers that look random and are the same on each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn message(&mut self) -> Vec<u8> {
        let (name, portal) = (self.pick(&["", "a"]), self.pick(&["", "p"]));
        let text = self.pick(&[
            "select 1",
            "select 1",
            "select 1",
            "delete from t",
            "delete from t",
            "prepare a as delete from t",
            "prepare a as select 1",
            "deallocate a",
            "discard all",
            "execute a",
            "begin",
            "commit",
            "rollback",
            "declare p cursor for select pg_read_file('a')",
            "declare p cursor for select 1",
            "fetch p",
            "close p",
            "copy t from stdin",
        ]);
        match self.below(16) {
            0 | 1 => query(text),
            2..=5 => parse(name, text),
            6 => bind(portal, name),
            7 => execute(portal),
            8..=10 => [bind(portal, name), execute(portal), sync()].concat(),
            11 => close('S', name),
            12 => close('P', portal),
            13 => [message(b'c', b""), sync()].concat(),
            14 => bind(portal, "never"),
            _ => sync(),
        }
    }

    fn messages(&mut self, most: usize) -> Vec<Vec<u8>> {
        (0..self.below(most)).map(|_| self.message()).collect()
    }
}

#[test]
fn no_sequence_of_messages_carries_out_what_is_not_allowed_any_more() {
    let mut numbers = Numbers(7);
    let (mut read, mut held) = (0, 0);
    for round in 0..3_000 {
        let (before, after) = (numbers.messages(10), [numbers.messages(14), vec![sync()]].concat());
        let piece = [10_000, 1, 7, 60][round % 4];
        let (outcome, done) = narrowed(&before, &after, piece);
        let bad = done.iter().find(|text| is_forbidden(text));
        let text = [before.concat(), b" NARROWED ".to_vec(), after.concat()].concat();
        assert_eq!(bad, None, "{} by {piece}: {:?}", text.escape_ascii(), outcome.asked);
        read += done.len();
        held += usize::from(outcome.asked.iter().any(|line| line.contains("delete")));
    }
    assert!(read > 300 && held > 1_000, "it is not all refused: {read} {held}");
}

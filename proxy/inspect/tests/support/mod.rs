//! Drives a conversation as the session does under the gate, without sockets: bytes in pieces, an origin that
//! answers each request, and a record of what left.
#![allow(dead_code, reason = "each test file uses a part")]

use bulkhead_facts::Reason;
use bulkhead_inspect::{Conversation, HttpHead, Notice, Protocol, Question, Side, Step, Target};

/// What became of a client's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Method and target of each request that was asked about; `ambiguous:` before a target of two readings.
    pub(crate) asked: Vec<String>,
    /// Method and target of each request that was asked about, as on the wire.
    pub(crate) lines: Vec<String>,
    /// Bytes that left towards the origin.
    pub(crate) released: Vec<u8>,
    /// Status lines of our own replies.
    pub(crate) replies: Vec<String>,
    /// How it ended.
    pub(crate) end: End,
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It would take more bytes, or ignores them.
    Open,
    /// The bytes were refused; the status that the client is told.
    Refused(Reason, Option<u16>),
    /// A tunnel, or another protocol.
    Opaque,
    /// After a reply of ours.
    Closed,
}

/// Who decides and who answers.
pub(crate) struct World {
    /// True for a request that may pass.
    pub(crate) allow: fn(&Question<'_>) -> bool,
    /// The response to a method and target.
    pub(crate) answer: fn(&str) -> &'static str,
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Everything passes but what lies below `/no`, and each request is answered with nothing.
pub(crate) const PLAIN: World = World { allow: not_below_no, answer: |_| OK };

/// What a refused client is told.
pub(crate) const NOTICE: Notice<'static> = Notice { status: 403, json: "{}", line: "denied" };

/// The head that is asked about.
pub(crate) fn head<'q, 'a>(question: &'q Question<'a>) -> &'q HttpHead<'a> {
    question.http().expect("a request of HTTP")
}

pub(crate) fn not_below_no(question: &Question<'_>) -> bool {
    matches!(&head(question).target, Target::Path(path, _) if !path.normal().starts_with("/no"))
}

/// A conversation under the gate, where the policy names HTTP only.
pub(crate) fn gate() -> Conversation {
    let mut conversation = Conversation::expecting([Protocol::Http1]);
    conversation.hold(true, 0);
    conversation
}

/// Shows `input` in pieces of `piece` bytes.
pub(crate) fn run(world: &World, input: &[u8], piece: usize) -> Outcome {
    drive(world, input, piece).outcome
}

/// Bytes of the origin that left towards the client, with what was put in.
pub(crate) fn answers(world: &World, input: &[u8], piece: usize) -> Vec<u8> {
    drive(world, input, piece).answers
}

fn drive<'a>(world: &'a World, input: &[u8], piece: usize) -> Driver<'a> {
    let mut driver = Driver {
        world,
        conversation: gate(),
        pending: Vec::new(),
        unanswered: Vec::new(),
        answers: Vec::new(),
        outcome: Outcome {
            asked: Vec::new(),
            lines: Vec::new(),
            released: Vec::new(),
            replies: Vec::new(),
            end: End::Open,
        },
    };
    for part in input.chunks(piece.max(1)) {
        driver.pending.extend_from_slice(part);
        if !driver.advance() {
            break;
        }
    }
    driver
}

/// The outcome, which must be the same for every way of cutting the input into equal pieces and into two.
pub(crate) fn run_all_splits(world: &World, input: &[u8]) -> Outcome {
    let whole = run(world, input, input.len());
    for piece in 1..input.len().min(80) {
        assert_eq!(run(world, input, piece), whole, "{:?} by {piece}", input.escape_ascii().to_string());
    }
    whole
}

struct Driver<'a> {
    world: &'a World,
    conversation: Conversation,
    /// Read from the client, not let go.
    pending: Vec<u8>,
    /// Requests that the origin has and did not answer.
    unanswered: Vec<String>,
    answers: Vec<u8>,
    outcome: Outcome,
}

impl Driver<'_> {
    /// Until nothing moves; false if the connection is over.
    fn advance(&mut self) -> bool {
        loop {
            if !self.client() {
                return false;
            }
            match self.origin() {
                None => return false,
                Some(true) => {}
                Some(false) => match self.conversation.reply().map(status_line) {
                    None => return true,
                    Some(line) => {
                        self.outcome.replies.push(line);
                        if !self.conversation.replied() {
                            if self.outcome.end == End::Open {
                                self.outcome.end = End::Closed;
                            }
                            return false;
                        }
                    }
                },
            }
        }
    }

    fn client(&mut self) -> bool {
        loop {
            self.outcome.released.extend_from_slice(self.conversation.insertion(Side::Server));
            self.conversation.inserted(Side::Server);
            match self.conversation.client(&self.pending) {
                Step::NeedMore => return true,
                Step::Forward(count) => {
                    assert!(
                        count > 0 && count <= self.pending.len(),
                        "forwards {count} of {}",
                        self.pending.len()
                    );
                    self.outcome.released.extend(self.pending.drain(..count));
                }
                Step::Discard(count) => {
                    assert!(
                        count > 0 && count <= self.pending.len(),
                        "drops {count} of {}",
                        self.pending.len()
                    );
                    self.pending.drain(..count);
                }
                Step::Ask(question) => {
                    let line = describe(&question);
                    let words = question.bytes.split(|byte| *byte == b' ').take(2);
                    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
                    self.outcome.lines.push(words.join(" "));
                    let allowed = (self.world.allow)(&question);
                    drop(question);
                    assert!(
                        matches!(self.conversation.client(&self.pending), Step::NeedMore),
                        "waits for the answer"
                    );
                    if allowed {
                        self.unanswered.push(line.clone());
                        self.conversation.allow();
                    } else {
                        assert!(self.conversation.deny(&NOTICE), "a request of HTTP has a reply");
                    }
                    self.outcome.asked.push(line);
                }
                Step::Opaque => {
                    self.outcome.end = End::Opaque;
                    return false;
                }
                Step::Refuse(refusal) => {
                    let notice = Notice { status: refusal.status.unwrap_or(400), ..NOTICE };
                    let told = self.conversation.reject(&refusal, &notice);
                    self.outcome.end = End::Refused(refusal.reason, refusal.status.filter(|_| told));
                    if !told {
                        return false;
                    }
                }
            }
        }
    }

    /// Answers one request whose body is through. `None` if the answer was refused.
    fn origin(&mut self) -> Option<bool> {
        let in_body = self.conversation.standing().in_body;
        if self.unanswered.is_empty() || (in_body && self.unanswered.len() == 1) {
            return Some(false);
        }
        let request = self.unanswered.remove(0);
        let mut answer = (self.world.answer)(&request).as_bytes();
        while !answer.is_empty() {
            match self.conversation.server(answer) {
                Step::Forward(count) => {
                    self.answers.extend_from_slice(&answer[..count]);
                    answer = &answer[count..];
                }
                Step::Refuse(refusal) => {
                    self.outcome.end = End::Refused(refusal.reason, None);
                    return None;
                }
                other => panic!("answer left over: {other:?}"),
            }
            self.answers.extend_from_slice(self.conversation.insertion(Side::Client));
            self.conversation.inserted(Side::Client);
        }
        Some(true)
    }
}

fn describe(question: &Question<'_>) -> String {
    let head = head(question);
    let target = match &head.target {
        Target::Path(path, Some(query)) => format!("{}?{query}", path.raw()),
        Target::Path(path, None) => path.raw().to_owned(),
        Target::Ambiguous(raw, _) => format!("ambiguous:{raw}"),
        Target::Asterisk => "*".to_owned(),
        Target::Authority(authority) => format!("tunnel:{authority}"),
    };
    format!("{} {target}", head.method)
}

fn status_line(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).lines().next().unwrap_or_default().to_owned()
}

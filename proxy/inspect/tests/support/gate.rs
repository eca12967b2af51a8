//! A gate without sockets for every protocol: what a client and an origin say, in pieces of any size, and what left
//! to whom.
#![allow(dead_code, reason = "each test file uses a part")]

use bulkhead_facts::Reason;
use bulkhead_inspect::{Conversation, Notice, Protocol, Question, Side, Step, Subject};

/// What a refused client is told.
pub(crate) const NOTICE: Notice<'static> = Notice { status: 403, json: "{}", line: "denied by test" };

/// What became of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What was asked about, in order.
    pub(crate) asked: Vec<String>,
    /// Bytes that left towards the origin.
    pub(crate) to_server: Vec<u8>,
    /// Bytes that the client got.
    pub(crate) to_client: Vec<u8>,
    pub(crate) end: End,
}

/// How it stands at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It takes more.
    Open,
    /// Closed after our last words.
    Told,
    /// Reset: nothing could be said.
    Reset(Reason),
    /// Nothing of it is read any more.
    Opaque,
}

/// What is held: who decides, who answers.
#[derive(Clone, Copy)]
pub(crate) struct World {
    pub(crate) expected: Option<Protocol>,
    /// True for what may pass.
    pub(crate) allow: fn(&Question<'_>) -> bool,
    /// Everything that an origin has said after it has got so much.
    pub(crate) answer: fn(&[u8]) -> Vec<u8>,
    /// Bytes that are not read may pass.
    pub(crate) opaque: bool,
}

/// A conversation under the gate.
pub(crate) struct Gate {
    world: World,
    pub(crate) conversation: Conversation,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    answered: usize,
    /// Pieces that the origin's answers come in.
    piece: usize,
    pub(crate) outcome: Outcome,
}

impl Gate {
    pub(crate) fn new(world: World, piece: usize) -> Self {
        let mut conversation = Conversation::expecting(world.expected);
        conversation.hold(true, 0);
        let outcome =
            Outcome { asked: Vec::new(), to_server: Vec::new(), to_client: Vec::new(), end: End::Open };
        Self {
            world,
            conversation,
            from_client: Vec::new(),
            from_server: Vec::new(),
            answered: 0,
            piece,
            outcome,
        }
    }

    /// From here on another policy is in force.
    pub(crate) fn judge_by(&mut self, allow: fn(&Question<'_>) -> bool) {
        self.world.allow = allow;
        self.conversation.expect(self.world.expected);
    }

    /// The client says this.
    pub(crate) fn client(&mut self, bytes: &[u8]) {
        self.from_client.extend_from_slice(bytes);
        while self.outcome.end == End::Open && self.round() {}
    }

    fn round(&mut self) -> bool {
        let mut moved = self.judge(Side::Client);
        let answer = (self.world.answer)(&self.outcome.to_server);
        let until = (self.answered + self.piece).min(answer.len());
        if self.answered < until && self.outcome.end == End::Open {
            self.from_server.extend_from_slice(&answer[self.answered..until]);
            self.answered = until;
            moved = true;
        }
        moved |= self.judge(Side::Server);
        if self.outcome.end == End::Open
            && let Some(reply) = self.conversation.reply()
        {
            self.outcome.to_client.extend_from_slice(reply);
            if !self.conversation.replied() {
                self.outcome.end = End::Told;
            }
            moved = true;
        }
        moved
    }

    /// Does what the steps say until more is needed.
    fn judge(&mut self, side: Side) -> bool {
        let mut moved = false;
        while self.outcome.end == End::Open {
            let pending = match side {
                Side::Client => &self.from_client,
                Side::Server => &self.from_server,
            };
            let shown = pending.len();
            let step = match side {
                Side::Client => self.conversation.client(pending),
                Side::Server => self.conversation.server(pending),
            };
            match step {
                Step::NeedMore => break,
                Step::Forward(count) => {
                    assert!(count > 0 && count <= shown, "forwards {count} of {shown}");
                    match side {
                        Side::Client => {
                            self.outcome.to_server.extend(self.from_client.drain(..count));
                        }
                        Side::Server => self.outcome.to_client.extend(self.from_server.drain(..count)),
                    }
                }
                Step::Discard(count) => {
                    assert!(count > 0 && count <= shown, "drops {count} of {shown}");
                    match side {
                        Side::Client => drop(self.from_client.drain(..count)),
                        Side::Server => drop(self.from_server.drain(..count)),
                    }
                }
                Step::Ask(question) => {
                    assert_eq!(side, Side::Client, "only clients ask");
                    let allowed = (self.world.allow)(&question);
                    self.outcome.asked.push(describe(&question));
                    let (kept, text) = (question.keep(), describe(&question));
                    drop(question);
                    let again = kept.question().map(|question| describe(&question));
                    assert_eq!(again, Some(text), "asked again it is the same");
                    if allowed {
                        self.conversation.allow();
                    } else if !self.conversation.deny(&NOTICE) {
                        self.outcome.end = End::Reset(Reason::L7Mismatch);
                    }
                }
                Step::Opaque => {
                    if self.world.opaque || self.conversation.is_judged() {
                        self.outcome.end = End::Opaque;
                    } else if !self.conversation.close_opaque(&NOTICE) {
                        self.outcome.end = End::Reset(Reason::ProtocolMismatch);
                    }
                    self.from_client.clear();
                    return true;
                }
                Step::Refuse(refusal) => {
                    if side == Side::Server || !self.conversation.reject(&refusal, &NOTICE) {
                        self.outcome.end = End::Reset(refusal.reason);
                    }
                    // Of HTTP/2 one request is refused, and the connection goes on.
                    if self.outcome.end != End::Open || !self.conversation.survives() {
                        self.from_client.clear();
                        return true;
                    }
                }
            }
            moved = true;
            self.insert();
        }
        moved
    }

    fn insert(&mut self) {
        let bytes = self.conversation.insertion(Side::Server).to_vec();
        if !bytes.is_empty() {
            self.outcome.to_server.extend(bytes);
            self.conversation.inserted(Side::Server);
        }
        let bytes = self.conversation.insertion(Side::Client).to_vec();
        if !bytes.is_empty() {
            self.outcome.to_client.extend(bytes);
            self.conversation.inserted(Side::Client);
        }
    }
}

/// Shows `input` in pieces of `piece` bytes; the origin answers in such pieces too.
pub(crate) fn run(world: World, input: &[u8], piece: usize) -> Outcome {
    let mut gate = Gate::new(world, piece.max(1));
    for part in input.chunks(piece.max(1)) {
        gate.client(part);
    }
    gate.outcome
}

/// The outcome, which must be the same for every way of cutting into equal pieces and into two; and of every prefix no
/// more may leave than of the whole.
pub(crate) fn run_all_splits(world: World, input: &[u8]) -> Outcome {
    let whole = run(world, input, input.len().max(1));
    for piece in 1..input.len().min(40) {
        assert_eq!(run(world, input, piece), whole, "{} by {piece}", input.escape_ascii());
    }
    for cut in 1..input.len() {
        let mut gate = Gate::new(world, usize::MAX / 2);
        gate.client(&input[..cut]);
        let left = gate.outcome.to_server.clone();
        assert!(whole.to_server.starts_with(&left), "{} cut at {cut}", input.escape_ascii());
        gate.client(&input[cut..]);
        assert_eq!(gate.outcome, whole, "{} cut at {cut}", input.escape_ascii());
    }
    whole
}

/// A question in one line.
pub(crate) fn describe(question: &Question<'_>) -> String {
    match &question.subject {
        Subject::Http(head) => format!("{} {}", head.method, head.target_text()),
        Subject::Tls(hello) => format!(
            "{} {}-{} {:?}{}",
            hello.server_name.as_ref().map_or("-", |name| name.as_str()),
            hello.lowest,
            hello.highest,
            hello.application_protocols,
            if hello.encrypted { " encrypted" } else { "" }
        ),
        Subject::Redis(command) => {
            let keys: Vec<_> = command.keys.iter().map(|key| key.escape_ascii().to_string()).collect();
            let database = command.database.map_or("?".to_owned(), |database| database.to_string());
            format!("{} [{}] {database}", command.name.to_ascii_lowercase(), keys.join(" "))
        }
        Subject::Postgres(message) => {
            let classes: Vec<&str> = message.classes.iter().map(|class| class.as_str()).collect();
            format!("{}@{} [{}]", message.user, message.database, classes.join(" "))
        }
        Subject::Kafka(call) => format!("{} [{}]", call.api, call.topics.join(" ")),
    }
}

//! A conversation as a session drives it, with both sides under the fuzzer's hand: what they say, in which order, when the
//! policy changes, when a tee becomes a gate, and how much time passes.
//!
//! The input is a list of events: a byte that says which, a byte for a length, and what is said. What holds in all of
//! them: the outcome does not depend on how bytes are cut between two events; what left towards the server is what was
//! asked about and allowed ([`Outcome::released`]); and what is held is bounded by what was said.
#![allow(dead_code, reason = "each target uses a part")]

#[path = "../../../../proxy/tests/amplification/counting.rs"]
mod counting;

use bulkhead_inspect::{Conversation, Notice, Protocol, Question, Side, Step};

const NOTICE: Notice<'static> = Notice { status: 403, json: "{\"error\":\"denied\"}\n", line: "denied" };

/// What a conversation may hold beside ten times what was said to it.
const HELD_BYTES_MAX: usize = 16 * 1024;

/// What is released to a server, and what was asked about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What may be among what is released: allowed, or asked about under the tee.
    pub(crate) released: Vec<Asked>,
    pub(crate) denied: Vec<Asked>,
    /// Everything that left towards the server as long as it was understood.
    pub(crate) to_server: Vec<u8>,
    pub(crate) to_client: Vec<u8>,
    /// Under the tee something left that could not be read.
    pub(crate) unread: bool,
    pub(crate) end: End,
}

/// A request that was asked about.
#[derive(Debug, Eq)]
pub(crate) struct Asked {
    /// What it is, in a line.
    pub(crate) line: String,
    /// What it was read from, as far as that was shown.
    pub(crate) bytes: Vec<u8>,
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        self.line == other.line
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    #[default]
    Open,
    /// Nothing is read any more: a tunnel, or something that cannot be followed under the tee.
    Opaque,
    Closed,
}

/// Which protocol, and how its requests are told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub(crate) expected: Option<Protocol>,
    /// A request in a line, from which policies tell what they let through.
    pub(crate) describe: fn(&Question<'_>) -> String,
    /// Every request becomes a WebSocket whose frames are checked.
    pub(crate) checks_frames: bool,
    /// What the conversation begins with on both sides, whole.
    pub(crate) greeting: (&'static [u8], &'static [u8]),
}

/// About every fourth request is denied, others by each policy.
fn allows(line: &str, policy: u8) -> bool {
    !line.bytes().fold(policy, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)).is_multiple_of(4)
}

/// Something that happens to a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    Says(Side, &'a [u8]),
    /// Another policy; the tee becomes a gate.
    Policy(u8),
    /// So many milliseconds.
    Time(u64),
    Drain,
    /// What is open is not allowed any more.
    Revoke(u32),
}

/// Plays the events, with what a client says cut in several ways, which must make no difference; and with what a server
/// says cut, where one may.
pub(crate) fn play(world: World, input: &[u8], check: impl Fn(&Outcome)) {
    let whole = once(world, input, [usize::MAX; 2]);
    let piece = usize::from(input.len() as u8 % 11) + 2;
    for piece in [1, piece] {
        let cut = once(world, input, [piece, usize::MAX]);
        // A block of HTTP/2 of which a part has left before the gate goes on as it comes, until it is decided on.
        let decided = (&cut.released, &cut.denied, cut.end) == (&whole.released, &whole.denied, whole.end);
        // So does the begin of a frame of a WebSocket that turns out to be wrong, within a stream that is then reset.
        let begins = world.checks_frames && world.greeting.0.starts_with(b"PRI ");
        let same = if is_gated(input) && !begins { cut == whole } else { decided };
        assert!(same, "cut differently, by {piece}: {cut:?}, whole: {whole:?}");
    }
    for outcome in [whole, once(world, input, [piece, 1])] {
        if std::env::var_os("FUZZ_SHOW").is_some() {
            eprintln!("{outcome:?}");
        }
        check(&outcome);
    }
}

/// It begins under the gate.
fn is_gated(input: &[u8]) -> bool {
    input.first().is_some_and(|begin| !begin.is_multiple_of(4))
}

fn once(world: World, input: &[u8], pieces: [usize; 2]) -> Outcome {
    counting::count_this_thread();
    let mut rest = input.get(1..).unwrap_or_default();
    let mut play = Play::new(world, is_gated(input));
    let (client, server) = world.greeting;
    // A server of HTTP/2 answers what has left, which nothing does before its settings.
    let (settings, server) =
        server.split_at(if client.starts_with(b"PRI ") { first_frame(server) } else { 0 });
    for (side, said) in [(Side::Server, settings), (Side::Client, client), (Side::Server, server)] {
        if !said.is_empty() {
            play.happens(Event::Says(side, said), [usize::MAX; 2]);
        }
    }
    while let Some(event) = event(&mut rest) {
        play.happens(event, pieces);
    }
    play.finish()
}

/// Bytes of the frame of HTTP/2 that `bytes` begin with.
fn first_frame(bytes: &[u8]) -> usize {
    let length = bytes.first_chunk().map_or(0, |[a, b, c]| u32::from_be_bytes([0, *a, *b, *c]));
    bytes.len().min(9 + usize::try_from(length).expect("a small number"))
}

/// True where another reader has to agree with us: all of it was read, in this protocol.
pub(crate) fn is_read(outcome: &Outcome) -> bool {
    let other = outcome.released.iter().any(|asked| asked.line.is_empty());
    // The greeting of HTTP/2 asks for nothing.
    !outcome.unread && !other && !outcome.to_server.starts_with(b"PRI * HTTP/2.0")
}

/// The next event.
pub(crate) fn event<'a>(rest: &mut &'a [u8]) -> Option<Event<'a>> {
    let (kind, behind) = rest.split_first()?;
    let (length, behind) = behind.split_first()?;
    let mut take = |length: usize| {
        let (said, behind) = behind.split_at(length.min(behind.len()));
        *rest = behind;
        said
    };
    let length_bytes = usize::from(*length) << (kind >> 3 & 4);
    Some(match kind & 7 {
        0..=2 => Event::Says(Side::Client, take(length_bytes)),
        3 | 4 => Event::Says(Side::Server, take(length_bytes)),
        5 => {
            take(0);
            Event::Policy(*length)
        }
        6 => {
            take(0);
            Event::Time(u64::from(*length) * 100)
        }
        _ => {
            take(0);
            if *length == 0 { Event::Drain } else { Event::Revoke(u32::from(*length)) }
        }
    })
}

#[derive(Debug)]
struct Play {
    world: World,
    conversation: Conversation,
    gate: bool,
    policy: u8,
    now_ms: u64,
    /// Not yet judged; under the tee it has left.
    client: Vec<u8>,
    server: Vec<u8>,
    /// So many of those have left.
    client_left: usize,
    server_left: usize,
    said: usize,
    outcome: Outcome,
}

impl Play {
    fn new(world: World, gate: bool) -> Self {
        let mut play = Self {
            world,
            conversation: Conversation::expecting(world.expected),
            gate,
            policy: 0,
            now_ms: 0,
            client: Vec::new(),
            server: Vec::new(),
            client_left: 0,
            server_left: 0,
            said: 0,
            outcome: Outcome::default(),
        };
        play.conversation.hold(gate, 0);
        play
    }

    fn happens(&mut self, event: Event<'_>, [client, server]: [usize; 2]) {
        match event {
            _ if self.outcome.end != End::Open => {}
            Event::Says(side, bytes) => {
                let piece = if side == Side::Client { client } else { server };
                for part in bytes.chunks(piece.min(bytes.len().max(1))) {
                    self.says(side, part);
                }
            }
            Event::Policy(policy) => {
                self.policy = policy;
                self.conversation.expect(self.world.expected);
                self.begin_gate();
            }
            Event::Time(ms) => {
                self.now_ms += ms;
                self.conversation.tick(self.now_ms);
                self.advance();
            }
            Event::Drain => {
                self.conversation.drain();
                self.insert();
                self.advance();
            }
            Event::Revoke(exchange) => {
                if self.gate && self.conversation.outstanding() > 0 {
                    if !self.conversation.revoke(exchange, &NOTICE) {
                        self.outcome.end = End::Closed;
                        return;
                    }
                    self.insert();
                    self.advance();
                }
            }
        }
    }

    fn begin_gate(&mut self) {
        if !self.gate {
            self.gate = true;
            self.client_left = self.client.len();
            self.server_left = self.server.len();
            self.conversation.answers_left(self.server_left);
            self.conversation.hold(true, self.client_left);
        }
        self.end_if_answered_early();
        self.advance();
    }

    fn says(&mut self, side: Side, bytes: &[u8]) {
        if self.outcome.end != End::Open {
            return;
        }
        self.said += bytes.len();
        match side {
            Side::Client => self.client.extend_from_slice(bytes),
            Side::Server => self.server.extend_from_slice(bytes),
        }
        if !self.gate {
            match side {
                Side::Client => self.outcome.to_server.extend_from_slice(bytes),
                Side::Server => self.outcome.to_client.extend_from_slice(bytes),
            }
        }
        self.advance();
    }

    /// Does what the steps say until nothing moves.
    fn advance(&mut self) {
        let mut rounds = 0;
        let mut moved = true;
        while std::mem::take(&mut moved) && self.outcome.end == End::Open {
            for side in [Side::Client, Side::Server] {
                while self.step(side) {
                    moved = true;
                    rounds += 1;
                    assert!(rounds <= 1_000 + 8 * self.said, "it never comes to rest: {self:?}");
                }
            }
            moved |= self.send_reply();
        }
        if self.outcome.end == End::Open && self.conversation.standing().finished {
            self.outcome.end = End::Closed;
        }
        self.conversation.release();
    }

    /// Forgets what was not judged, and looks at what was held.
    fn finish(mut self) -> Outcome {
        let left = if self.gate { self.client_left } else { self.client.len() };
        self.outcome.to_server.truncate(self.outcome.to_server.len() - left);
        let left = if self.gate { self.server_left } else { self.server.len() };
        self.outcome.to_client.truncate(self.outcome.to_client.len() - left);
        if self.outcome.unread {
            // How much was looked at before that depends on how it came.
            self.outcome.to_server.clear();
            self.outcome.to_client.clear();
        }
        let before = counting::held();
        drop(self.conversation);
        let held = before.wrapping_sub(counting::held());
        let bound = HELD_BYTES_MAX + 10 * self.said;
        assert!(held <= bound, "{held} bytes held, {} said", self.said);
        self.outcome
    }

    fn send_reply(&mut self) -> bool {
        if self.outcome.end != End::Open || self.server_left > 0 {
            return false;
        }
        let Some(reply) = self.conversation.reply() else { return false };
        self.outcome.to_client.extend_from_slice(reply);
        if !self.conversation.replied() {
            self.outcome.end = End::Closed;
        }
        true
    }

    fn step(&mut self, side: Side) -> bool {
        if self.outcome.end != End::Open {
            return false;
        }
        let (bytes, left) = match side {
            Side::Client => (&mut self.client, &mut self.client_left),
            Side::Server => (&mut self.server, &mut self.server_left),
        };
        let step = match side {
            Side::Client => self.conversation.client(bytes),
            Side::Server => self.conversation.server(bytes),
        };
        let moved = match step {
            Step::NeedMore => false,
            Step::Forward(count) | Step::Discard(count) if !self.gate => {
                drop(bytes.drain(..count));
                true
            }
            Step::Forward(count) => {
                assert!(count <= bytes.len(), "forwards {count} of {}", bytes.len());
                let gone = count.min(*left);
                *left -= gone;
                let out = match side {
                    Side::Client => &mut self.outcome.to_server,
                    Side::Server => &mut self.outcome.to_client,
                };
                out.extend(bytes.drain(..count).skip(gone));
                true
            }
            Step::Discard(count) => {
                assert!(count <= bytes.len(), "drops {count} of {}", bytes.len());
                drop(bytes.drain(..count));
                if *left > 0 {
                    // What has left cannot be dropped: both sides are reset.
                    self.outcome.end = End::Closed;
                }
                true
            }
            Step::Ask(question) => {
                assert!(side == Side::Client, "only clients ask");
                let asked = Asked { line: (self.world.describe)(&question), bytes: question.bytes.to_vec() };
                let again = question.keep();
                assert!(again.question().is_some(), "what was asked can be asked again");
                let allows = !self.gate || allows(&asked.line, self.policy);
                let compressed = question.offers_compression();
                drop(question);
                if self.world.checks_frames && allows && self.gate {
                    self.conversation.check_frames(compressed);
                }
                match allows {
                    true => {
                        self.outcome.released.push(asked);
                        self.conversation.allow();
                    }
                    false => {
                        self.outcome.denied.push(asked);
                        if !self.conversation.deny(&NOTICE) {
                            self.outcome.end = End::Closed;
                        }
                    }
                }
                true
            }
            Step::Opaque => {
                self.outcome.end = End::Opaque;
                false
            }
            Step::Refuse(refusal) => {
                if !self.gate && self.conversation.survives() {
                    self.outcome.unread = true;
                    self.conversation.allow();
                } else if !self.gate {
                    self.outcome.unread = true;
                    self.outcome.end = End::Opaque;
                } else if side == Side::Server || !self.conversation.reject(&refusal, &NOTICE) {
                    self.outcome.end = End::Closed;
                } else if !self.conversation.survives() {
                    self.client.clear();
                    // What has left before the gate was there is nobody's.
                    let left = std::mem::take(&mut self.client_left);
                    self.outcome.to_server.truncate(self.outcome.to_server.len() - left);
                }
                true
            }
        };
        self.insert();
        if side == Side::Server {
            self.end_if_answered_early();
        }
        moved
    }

    fn end_if_answered_early(&mut self) {
        if self.gate && self.conversation.standing().answered_early {
            self.conversation.end_after_exchange();
        }
    }

    fn insert(&mut self) {
        if self.outcome.end != End::Open {
            return;
        }
        let bytes = self.conversation.insertion(Side::Server);
        if !bytes.is_empty() {
            if self.client_left > 0 {
                self.outcome.end = End::Closed;
                return;
            }
            self.outcome.to_server.extend_from_slice(bytes);
            self.conversation.inserted(Side::Server);
        }
        loop {
            let bytes = self.conversation.insertion(Side::Client);
            if bytes.is_empty() || self.server_left > 0 {
                return;
            }
            self.outcome.to_client.extend_from_slice(bytes);
            self.conversation.inserted(Side::Client);
        }
    }
}

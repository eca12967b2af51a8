//! The name system as it is carried: questions by UDP and on one TCP connection, answers in any order, late, doubled and for
//! nobody, while policies change and time passes.
//!
//! What holds in all of them: nothing is asked that the policy of the moment does not allow, as hickory reads it; whoever asks
//! is told of his own open questions only; an address is admitted only from an answer that is then passed on, in which hickory
//! finds it behind the name that was asked for; where something can be denied, neither hickory nor the plain reader of musl
//! finds an address inside for a name outside; how a stream is cut makes no difference; and what is held is bounded.
#![no_main]

#[path = "../../../proxy/tests/amplification/counting.rs"]
mod counting;
#[path = "dns_session/programs.rs"]
mod programs;
#[path = "dns_session/readers.rs"]
mod readers;
#[path = "../../../proxy/tests/amplification/sessions.rs"]
#[allow(dead_code)]
mod sessions;

use bulkhead_facts::{Direction, HostName, L4Protocol};
use bulkhead_inspect::dns::{A, AAAA, AddressKind, Query, is_internal, is_transfer};
use bulkhead_proxy::dns::limits::{ADDRESSES_MAX, ANSWER_TIMEOUT};
use bulkhead_proxy::dns::{Asked, Came, Conversation, Names, Open, QuestionJudge, Step, Way};
use bulkhead_proxy::enforcement::Answered;
use bulkhead_proxy::flows::Recorder;
use bulkhead_proxy::metrics::Metrics;
use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use programs::{POLICIES, SERVER, allows, current, is_strict};
use readers::{addresses, answers, plain_addresses, question, reached};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What may be held beside ten times what was said, and for each datagram that waits for its answer.
const HELD_BYTES_MAX: usize = 16 * 1024;
const HELD_BYTES_PER_DATAGRAM: usize = 512;
/// Datagrams that wait for their answer; more are not asked.
const DATAGRAMS_MAX: usize = 64;

thread_local! {
    static JUDGE: QuestionJudge = QuestionJudge {
        recorder: Arc::new(Recorder::new(Arc::new(Metrics::new().expect("metrics")))),
        internal: Arc::new([]),
        identifier: |_| IDENTIFIER.with(|last| last.replace(last.get().wrapping_add(0x1c35))),
    };
    /// The same in every run.
    static IDENTIFIER: Cell<u16> = const { Cell::new(0) };
}

fuzz_target!(|input: &[u8]| {
    let Some((begin, events)) = input.split_first() else { return };
    let piece = usize::from(input.len() as u8 % 11) + 2;
    let whole = once(*begin, events, [usize::MAX; 2]);
    for pieces in [[1, usize::MAX], [usize::MAX, 1], [piece, piece]] {
        let cut = once(*begin, events, pieces);
        assert!(cut == whole, "cut differently, by {pieces:?}: {cut:?}, whole: {whole:?}");
    }
    if std::env::var_os("FUZZ_SHOW").is_some() {
        eprintln!("{whole:?}");
    }
});

/// What came of it; identifiers that are chosen at random are left out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    asked: Vec<Vec<u8>>,
    told: Vec<Vec<u8>>,
    admitted: Vec<(HostName, Vec<(IpAddr, u32)>)>,
    /// What passed of whoever asks once the connection was a tunnel, and how much of the name server.
    tunnelled: Option<(Vec<u8>, usize)>,
    is_reset: bool,
}

/// Something that happens.
enum Event<'a> {
    Datagram(&'a [u8]),
    /// On the connection: as it is, or with its length in front.
    Stream(&'a [u8]),
    Framed(&'a [u8]),
    /// An answer to the question of this number, with these flags turned over and these numbers of records.
    Answer {
        number: u8,
        flags: [u8; 2],
        counts: u8,
        records: &'a [u8],
    },
    Server(&'a [u8]),
    Policy(u8),
    Time(u64),
    /// Whether addresses can be admitted from now on.
    Table(bool),
}

fn event<'a>(rest: &mut &'a [u8]) -> Option<Event<'a>> {
    let (&[kind, length], behind) = rest.split_first_chunk()?;
    let takes = if kind & 7 > 4 { 0 } else { usize::from(length) << (kind >> 3 & 3) };
    let (said, behind) = behind.split_at(takes.min(behind.len()));
    *rest = behind;
    Some(match kind & 7 {
        0 => Event::Datagram(said),
        1 => Event::Stream(said),
        2 => Event::Framed(said),
        3 => match said.split_first_chunk() {
            Some((&[number, high, low, counts], records)) => {
                Event::Answer { number, flags: [high, low], counts, records }
            }
            None => Event::Server(said),
        },
        4 => Event::Server(said),
        5 => Event::Policy(length),
        6 => Event::Time(u64::from(length) * 100),
        _ => Event::Table(length & 1 == 0),
    })
}

fn once(begin: u8, mut events: &[u8], pieces: [usize; 2]) -> Outcome {
    counting::count_this_thread();
    IDENTIFIER.set(0x4b1d);
    let mut play = Play::new(usize::from(begin) % POLICIES);
    while let Some(event) = event(&mut events) {
        play.happens(event, pieces);
    }
    play.finish()
}

/// A question on its way to the name server.
enum Carried {
    Datagram { open: Option<Box<Open>>, id: u16, since_ms: u64 },
    Stream { id: u16 },
}

struct Play {
    policy: usize,
    /// Something could be denied from the beginning.
    is_always_strict: bool,
    now_ms: u64,
    is_table_open: bool,
    conversation: Option<Conversation>,
    /// Questions that left, in order.
    carried: Vec<(Carried, Vec<u8>)>,
    /// Everything that was said on the connection by whoever asks.
    stream: Vec<u8>,
    /// How often he was told something, by identifier and question.
    answered: BTreeMap<(u16, Option<Vec<u8>>), usize>,
    names: Names,
    released: BTreeSet<IpAddr>,
    said: usize,
    outcome: Outcome,
}

fn way(protocol: L4Protocol) -> Way {
    Way {
        direction: Direction::Egress,
        peer: SERVER.into(),
        local: [10, 0, 0, 1].into(),
        protocol,
        port: 53,
        endpoint: None,
    }
}

impl Play {
    fn new(policy: usize) -> Self {
        Self {
            policy,
            is_always_strict: is_strict(policy),
            now_ms: 1_000_000,
            is_table_open: true,
            conversation: Some(Conversation::new(way(L4Protocol::TCP))),
            carried: Vec::new(),
            stream: Vec::new(),
            answered: BTreeMap::new(),
            names: Names::default(),
            released: BTreeSet::new(),
            said: 0,
            outcome: Outcome::default(),
        }
    }

    fn happens(&mut self, event: Event<'_>, pieces: [usize; 2]) {
        match event {
            Event::Datagram(bytes) => self.datagram(bytes),
            Event::Stream(bytes) => self.says(bytes, 0, pieces),
            Event::Framed(bytes) => self.says(&framed(bytes), 0, pieces),
            Event::Answer { number, flags, counts, records } => {
                self.answer(number, flags, counts, records, pieces);
            }
            Event::Server(bytes) => self.says(bytes, 1, pieces),
            Event::Policy(number) => {
                self.policy = usize::from(number) % POLICIES;
                self.is_always_strict &= is_strict(self.policy);
                let current = current(self.policy);
                if self.conversation.as_ref().is_some_and(|conversation| conversation.is_over(current)) {
                    self.conversation = None;
                    self.outcome.is_reset = true;
                }
                self.advance();
            }
            Event::Time(ms) => {
                self.now_ms += ms;
                self.names.expire(self.now_ms, &BTreeSet::new());
                let timeout_ms = u64::try_from(ANSWER_TIMEOUT.as_millis()).expect("short");
                for (carried, _) in &mut self.carried {
                    if let Carried::Datagram { open, since_ms, .. } = carried
                        && *since_ms + timeout_ms <= self.now_ms
                    {
                        *open = None;
                    }
                }
            }
            Event::Table(is_open) => self.is_table_open = is_open,
        }
        assert!(self.names.len() <= ADDRESSES_MAX);
        assert!(self.names.addresses().all(|address| self.released.contains(&address)));
    }

    fn datagram(&mut self, bytes: &[u8]) {
        self.said += bytes.len();
        let waits =
            |(carried, _): &&(Carried, Vec<u8>)| matches!(carried, Carried::Datagram { open: Some(_), .. });
        if self.carried.iter().filter(waits).count() >= DATAGRAMS_MAX {
            return;
        }
        let asked = JUDGE.with(|judge| judge.ask(current(self.policy), way(L4Protocol::UDP), bytes));
        match asked {
            Asked::Drop => {}
            Asked::Refuse(told) => self.tells(&told, bytes),
            Asked::Release { message, open } => {
                self.leaves(&message);
                let carried = Carried::Datagram { open: Some(open), id: id(bytes), since_ms: self.now_ms };
                self.carried.push((carried, message));
            }
        }
    }

    /// Somebody says something on the connection: 0 who asks, 1 the name server.
    fn says(&mut self, bytes: &[u8], side: usize, pieces: [usize; 2]) {
        self.said += bytes.len();
        if side == 0 {
            self.stream.extend_from_slice(bytes);
        }
        for part in bytes.chunks(pieces[side].min(bytes.len().max(1))) {
            if let Some((from_client, from_server)) = &mut self.outcome.tunnelled {
                match side {
                    0 => from_client.extend_from_slice(part),
                    _ => *from_server += part.len(),
                }
            }
            let Some(conversation) = &mut self.conversation else { continue };
            let buffer = if side == 0 { conversation.client() } else { conversation.server() };
            buffer.extend_from_slice(part);
            self.advance();
        }
    }

    /// Does what the conversation says until it waits.
    fn advance(&mut self) {
        let current = current(self.policy);
        for round in 0.. {
            assert!(round <= 100 + self.said, "it never comes to rest");
            let Some(conversation) = &mut self.conversation else { return };
            let step = JUDGE.with(|judge| match conversation.answer(judge, current) {
                Step::Wait => conversation.question(judge, current),
                step => step,
            });
            match step {
                Step::Wait => return,
                Step::ToServer(bytes) => {
                    let message = unframed(&bytes);
                    self.leaves(message);
                    self.carried.push((Carried::Stream { id: id(message) }, message.to_vec()));
                }
                Step::ToClient(bytes) => self.tells_on_stream(unframed(&bytes)),
                Step::Admit(answered) => {
                    let is_open = self.is_table_open;
                    let step = JUDGE.with(|judge| conversation.admitted(judge, is_open));
                    let Step::ToClient(bytes) = step else { panic!("an answer that is not passed on") };
                    self.admits(answered, unframed(&bytes));
                    self.tells_on_stream(unframed(&bytes));
                }
                Step::Tunnel => {
                    assert!(!is_strict(self.policy), "a tunnel where something can be denied");
                    let rest = self.conversation.take().map(Conversation::into_rest);
                    self.outcome.tunnelled = rest.map(|(client, server)| (client, server.len()));
                }
                Step::Reset => {
                    self.conversation = None;
                    self.outcome.is_reset = true;
                }
            }
        }
    }

    fn answer(&mut self, number: u8, flags: [u8; 2], counts: u8, records: &[u8], pieces: [usize; 2]) {
        let count = self.carried.len();
        let Some((carried, message)) = self.carried.get(usize::from(number & 0x3f) % count.max(1)) else {
            return;
        };
        let Some(question) = question(message) else { return };
        let own = match carried {
            Carried::Stream { id } => *id,
            Carried::Datagram { .. } => id(message),
        };
        let own = if number & 0x80 == 0 { own } else { own ^ 1 };
        let question = if number & 0x40 == 0 { question.to_vec() } else { question.to_ascii_uppercase() };
        let mut bytes = own.to_be_bytes().to_vec();
        bytes.extend([
            0x81 ^ flags[0],
            0x80 ^ flags[1],
            0,
            1,
            0,
            counts & 7,
            0,
            counts >> 3 & 3,
            0,
            counts >> 5 & 3,
        ]);
        bytes.extend(question);
        bytes.extend_from_slice(records);
        match carried {
            Carried::Stream { .. } => self.says(&framed(&bytes), 1, pieces),
            Carried::Datagram { .. } => self.answers_datagram(usize::from(number & 0x3f) % count, bytes),
        }
    }

    fn answers_datagram(&mut self, at: usize, mut bytes: Vec<u8>) {
        let (Carried::Datagram { open, id, .. }, message) = &mut self.carried[at] else { return };
        let Some(waiting) = open.take() else { return };
        bytes.truncate(waiting.answer_bytes());
        let way = way(L4Protocol::UDP);
        let mut asked = message.clone();
        if let Some(own) = asked.get_mut(..2) {
            own.copy_from_slice(&id.to_be_bytes());
        }
        match JUDGE.with(|judge| judge.answered(way, &waiting, bytes)) {
            Came::Pass(told) => self.tells(&told, &asked),
            Came::Admit { answered, message } => {
                let is_open = self.is_table_open;
                let told = JUDGE.with(|judge| judge.admitted(way, &waiting, message, is_open));
                self.admits(answered, &told);
                self.tells(&told, &asked);
            }
            Came::Foreign => *open = Some(waiting),
        }
    }

    /// A question leaves.
    fn leaves(&mut self, message: &[u8]) {
        let mut shown = message.to_vec();
        if let Some(id) = shown.get_mut(..2) {
            id.fill(0);
        }
        self.outcome.asked.push(shown);
        if !is_strict(self.policy) {
            return;
        }
        let theirs = Message::from_vec(message).expect("a question that left");
        let [asked] = theirs.queries() else { panic!("{} questions left", theirs.queries().len()) };
        let labels: Vec<&[u8]> = asked.name().iter().collect();
        let kind = u16::from(asked.query_type());
        let class = u16::from(asked.query_class());
        assert!(allows(self.policy, &labels, kind, class), "{asked} left under policy {}", self.policy);
        let options = if theirs.extensions().is_some() { 11 } else { 0 };
        let name: usize = labels.iter().map(|label| label.len() + 1).sum();
        assert_eq!(message.len(), 12 + name + 1 + 4 + options, "more than a question left");
    }

    /// Whoever asks on the connection is told something: it answers an open question of his, of which he may have several
    /// under one identifier.
    fn tells_on_stream(&mut self, told: &[u8]) {
        let mut rest = &self.stream[..];
        let mut asked = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk()
            && let Some((message, behind)) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        {
            asked.extend(answers(told, message).then(|| message.to_vec()));
            rest = behind;
        }
        let repeated =
            readers::question(told).filter(|_| told[4..6] != [0, 0]).map(<[u8]>::to_ascii_lowercase);
        let times = self.answered.entry((id(told), repeated)).or_default();
        *times += 1;
        let kind = |asked: &Vec<u8>| {
            let (_, kind) = question(asked)?.split_last_chunk::<4>()?;
            Some(u16::from_be_bytes([kind[0], kind[1]]))
        };
        let is_transferred = asked.iter().filter_map(kind).any(is_transfer);
        assert!(is_transferred || *times <= asked.len(), "nobody asked for {}", told.escape_ascii());
        let asked = asked.pop().expect("a question");
        self.tells(told, &asked);
    }

    /// Whoever asked this is told that.
    fn tells(&mut self, told: &[u8], asked: &[u8]) {
        let end = told.windows(8).position(|window| window == b"(report ").unwrap_or(told.len());
        self.outcome.told.push(told[..end].to_vec());
        let query = Query::parse(asked).ok();
        assert!(
            query.is_none() || answers(told, asked),
            "{} for {}",
            told.escape_ascii(),
            asked.escape_ascii()
        );
        let Some(query) = query.filter(|_| self.is_always_strict) else { return };
        if query.host().is_some_and(|name| is_internal(name, &[])) {
            return;
        }
        let mut all = Message::from_vec(told).map(|theirs| addresses(&theirs)).unwrap_or_default();
        if matches!(query.record, A | AAAA) {
            all.extend(plain_addresses(told));
        }
        let inside = all.iter().find(|address| AddressKind::of(**address) != AddressKind::Public);
        assert!(inside.is_none(), "{inside:?} for {}: {}", query.name, told.escape_ascii());
    }

    /// Addresses are admitted, and then this is told.
    fn admits(&mut self, answered: Answered, told: &[u8]) {
        if !self.is_table_open {
            assert!(told[3] & 15 == 2 && told[6..8] == [0, 0], "an answer whose addresses are not admitted");
            return;
        }
        for (address, _) in &answered.addresses {
            match AddressKind::of(*address) {
                AddressKind::Public => {}
                AddressKind::Private => {
                    assert!(is_internal(&answered.name, &[]), "{address} for {}", answered.name)
                }
                AddressKind::Never => panic!("{address} is admitted"),
            }
        }
        if let Ok(theirs) = Message::from_vec(told) {
            let all = reached(&theirs);
            for (address, ttl_s) in &answered.addresses {
                let longest =
                    all.iter().filter(|(theirs, _)| theirs == address).map(|(_, ttl_s)| *ttl_s).max();
                assert!(
                    longest.is_some_and(|longest| *ttl_s <= longest),
                    "{address} for {ttl_s} s is not in {all:?}"
                );
            }
            let labels = theirs.queries().iter().flat_map(|query| query.name().iter());
            let name = labels.map(String::from_utf8_lossy).collect::<Vec<_>>().join(".");
            assert!(name.eq_ignore_ascii_case(answered.name.as_str()), "{name}");
        }
        self.released.extend(answered.addresses.iter().map(|(address, _)| address.to_canonical()));
        self.names.learn(&answered.name, &answered.addresses, self.now_ms);
        self.outcome.admitted.push((answered.name, answered.addresses));
    }

    fn finish(mut self) -> Outcome {
        let waiting = self
            .carried
            .iter()
            .filter(|(carried, _)| matches!(carried, Carried::Datagram { open: Some(_), .. }))
            .count();
        let before = counting::held();
        drop(self.conversation);
        // The list of them, and what they carry, is ours.
        for (carried, _) in &mut self.carried {
            if let Carried::Datagram { open, .. } = carried {
                *open = None;
            }
        }
        let held = before.wrapping_sub(counting::held());
        let bound = HELD_BYTES_MAX + 10 * self.said + waiting * HELD_BYTES_PER_DATAGRAM;
        assert!(held <= bound, "{held} bytes held, {} said", self.said);
        self.outcome
    }
}

fn id(message: &[u8]) -> u16 {
    message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id))
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    [&length.to_be_bytes()[..], message].concat()
}

fn unframed(bytes: &[u8]) -> &[u8] {
    let (length, message) = bytes.split_first_chunk().expect("a length");
    assert_eq!(usize::from(u16::from_be_bytes(*length)), message.len());
    message
}

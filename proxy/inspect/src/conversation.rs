//! One connection whose protocol is told by its first bytes.
//!
//! Nothing but the choice of the [`Inspector`]: which one it is is settled once, and every call goes straight
//! to it.

use crate::contract::{Inspector, Notice, Progress, Refusal, Side, Standing, Step};
use crate::detect::{self, Protocol};
use crate::http1::Http1;
use crate::http2::Http2;
use crate::kafka::Kafka;
use crate::limits::{DETECTION_BYTES_MAX, PROXY_HEADER_BYTES_MAX};
use crate::postgres::Postgres;
use crate::proxy_header::{self, Header};
use crate::redis::Redis;
use crate::tls::Tls;

/// A connection from its first byte on.
#[derive(Debug, Default)]
pub struct Conversation {
    state: State,
    named: Named,
    /// Steps are obeyed.
    gate: bool,
    header: ProxyHeader,
}

/// A header of the PROXY protocol before the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ProxyHeader {
    /// It is bytes like any others.
    #[default]
    Unknown,
    /// A rule accepts one.
    Accepted,
    /// It was there.
    Seen,
}

#[derive(Debug)]
enum State {
    /// Nothing came, or too little to tell.
    Detecting {
        /// The server has said what may be the begin of HTTP/2.
        greeted: bool,
    },
    Http1(Http1),
    Http2(Box<Http2>),
    Tls(Tls),
    Redis(Box<Redis>),
    Postgres(Box<Postgres>),
    Kafka(Box<Kafka>),
    Opaque(Protocol),
}

impl Default for State {
    fn default() -> Self {
        Self::Detecting { greeted: false }
    }
}

/// The protocols that the policy names, one bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Named(u32);

impl Named {
    fn of(protocols: impl IntoIterator<Item = Protocol>) -> Self {
        Self(protocols.into_iter().fold(0, |bits, protocol| bits | 1 << (protocol as u32)))
    }

    fn contains(self, protocol: Protocol) -> bool {
        self.0 & 1 << (protocol as u32) != 0
    }

    /// The protocol, where it is one only.
    fn only(self) -> Option<Protocol> {
        const PROTOCOLS: [Protocol; 4] =
            [Protocol::Tls, Protocol::Redis, Protocol::Postgres, Protocol::Kafka];
        PROTOCOLS.into_iter().find(|protocol| self.0 == 1 << (*protocol as u32))
    }
}

/// The expression for the inspector that is at work, or the other one.
macro_rules! inspector {
    ($self:expr, $inspector:ident => $then:expr, $otherwise:expr) => {
        match $self {
            State::Http1($inspector) => $then,
            State::Http2($inspector) => $then,
            State::Tls($inspector) => $then,
            State::Redis($inspector) => $then,
            State::Postgres($inspector) => $then,
            State::Kafka($inspector) => $then,
            State::Detecting { .. } | State::Opaque(_) => $otherwise,
        }
    };
}

impl Conversation {
    /// A connection on which the policy names these protocols. If it is one only, that settles what first bytes leave
    /// open. Under the gate another one is opaque from its first byte on; HTTP/1 aside, of which nothing leaves before it is
    /// asked about.
    pub fn expecting(named: impl IntoIterator<Item = Protocol>) -> Self {
        Self { state: State::default(), named: Named::of(named), gate: false, header: ProxyHeader::default() }
    }

    /// Another policy is in force, which names these protocols.
    pub fn expect(&mut self, named: impl IntoIterator<Item = Protocol>) {
        self.named = Named::of(named);
        inspector!(&mut self.state, inspector => inspector.policy_changed(), ());
    }

    /// Whether some rule accepts a header of the PROXY protocol before HTTP or TLS. One that was read stays.
    pub fn accept_proxy_header(&mut self, accepted: bool) {
        self.header = match (self.header, accepted) {
            (ProxyHeader::Seen, _) => ProxyHeader::Seen,
            (_, true) => ProxyHeader::Accepted,
            (_, false) => ProxyHeader::Unknown,
        };
    }

    /// True if the connection began with a header of the PROXY protocol.
    pub fn is_proxied(&self) -> bool {
        self.header == ProxyHeader::Seen
    }

    /// What to do with bytes from the client that were not yet let go.
    pub fn client<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        if let (State::Detecting { .. }, ProxyHeader::Accepted) = (&self.state, self.header) {
            match proxy_header::read(bytes) {
                Ok(Header::None) => {}
                Ok(Header::Begun) => return Step::NeedMore,
                Ok(Header::Whole(length)) => {
                    self.header = ProxyHeader::Seen;
                    return Step::Forward(length);
                }
                Err(refusal) => return Step::Refuse(refusal),
            }
        }
        if let State::Detecting { greeted } = self.state {
            match detect::client(bytes, self.named.only()) {
                None => return Step::NeedMore,
                Some(protocol) => {
                    // In no other protocol that is read does the server speak first, and no rule knows another one behind
                    // a header.
                    let headed = [Protocol::Http1, Protocol::Http2, Protocol::Tls].contains(&protocol);
                    let agree = (!greeted || protocol == Protocol::Http2) && (!self.is_proxied() || headed);
                    self.begin(if agree { protocol } else { Protocol::Unknown });
                    if self.gate && self.is_unnamed() {
                        return Step::Opaque;
                    }
                }
            }
        }
        inspector!(&mut self.state, inspector => inspector.client(bytes), Step::Opaque)
    }

    /// What to do with bytes from the server that were not yet let go.
    pub fn server<'a>(&'a mut self, bytes: &'a [u8]) -> Step<'a> {
        if let State::Detecting { greeted } = &mut self.state {
            if bytes.is_empty() {
                return Step::NeedMore;
            }
            if detect::may_be_http2(bytes) {
                *greeted = true;
                return Step::NeedMore;
            }
            self.state = State::Opaque(detect::server(bytes));
        }
        inspector!(&mut self.state, inspector => inspector.server(bytes), Step::Opaque)
    }

    /// The client ends before its first bytes tell anything.
    pub fn give_up_detection(&mut self) {
        if let State::Detecting { .. } = self.state {
            self.state = State::Opaque(Protocol::Unknown);
        }
    }

    /// True if it speaks something that the policy does not name, HTTP/1 aside.
    pub fn is_unnamed(&self) -> bool {
        match self.protocol() {
            None | Some(Protocol::Http1) => false,
            // Its greeting leaves before any request.
            Some(Protocol::Http2) => !self.named.contains(Protocol::Http1),
            Some(protocol) => !self.named.contains(protocol),
        }
    }

    /// What it speaks; `None` while that cannot be told.
    pub fn protocol(&self) -> Option<Protocol> {
        match &self.state {
            State::Detecting { .. } => None,
            State::Http1(_) => Some(Protocol::Http1),
            State::Http2(_) => Some(Protocol::Http2),
            State::Tls(_) => Some(Protocol::Tls),
            State::Redis(_) => Some(Protocol::Redis),
            State::Postgres(_) => Some(Protocol::Postgres),
            State::Kafka(_) => Some(Protocol::Kafka),
            State::Opaque(protocol) => Some(*protocol),
        }
    }

    /// Releases the request that was asked about.
    pub fn allow(&mut self) {
        inspector!(&mut self.state, inspector => inspector.allow(), ());
    }

    /// The request that was asked about, and that is released next, becomes a WebSocket whose frames are checked, if the
    /// server agrees. `compressed`: the client offers `permessage-deflate`.
    pub fn check_frames(&mut self, compressed: bool) {
        inspector!(&mut self.state, inspector => inspector.check_frames(compressed), ());
    }

    /// True if frames of a WebSocket are checked: of this exchange, or of the connection as a whole where it is 0.
    pub fn checks_frames(&self, exchange: u32) -> bool {
        inspector!(&self.state, inspector => inspector.checks_frames(exchange), false)
    }

    /// True if they are, or will be if the server agrees.
    pub fn will_check_frames(&self, exchange: u32) -> bool {
        inspector!(&self.state, inspector => inspector.will_check_frames(exchange), false)
    }

    /// Drops the request that was asked about and prepares a reply, which leaves in its turn. False where only
    /// closing both sides is safe.
    pub fn deny(&mut self, notice: &Notice<'_>) -> bool {
        inspector!(&mut self.state, inspector => inspector.deny(notice), false)
    }

    /// Prepares the reply to what [`Step::Refuse`] refused on the client's side; the connection ends after it.
    /// False where only closing both sides is safe.
    pub fn reject(&mut self, refusal: &Refusal, notice: &Notice<'_>) -> bool {
        inspector!(&mut self.state, inspector => inspector.reject(refusal, notice), false)
    }

    /// Prepares the last words to a client whose bytes are opaque from here on and may not be. False where only
    /// closing both sides is safe.
    pub fn close_opaque(&mut self, notice: &Notice<'_>) -> bool {
        inspector!(&mut self.state, inspector => inspector.close_opaque(notice), false)
    }

    /// True if what is opaque now belongs to something that was asked about: a tunnel that was agreed on.
    pub fn is_judged(&self) -> bool {
        inspector!(&self.state, inspector => inspector.is_judged(), false)
    }

    /// True once an inspector reads it.
    pub fn is_inspected(&self) -> bool {
        inspector!(&self.state, _inspector => true, false)
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        match &self.state {
            State::Detecting { .. } => Standing { idle: true, in_question: true, ..Standing::default() },
            State::Opaque(_) => Standing::default(),
            state => inspector!(state, inspector => inspector.standing(), Standing::default()),
        }
    }

    /// See [`Standing::answered_early`].
    pub fn answered_early(&self) -> bool {
        inspector!(&self.state, inspector => inspector.answered_early(), false)
    }

    /// Requests released and not yet answered to the end.
    pub fn outstanding(&self) -> usize {
        inspector!(&self.state, inspector => inspector.outstanding(), 0)
    }

    /// Bytes of the client that have to be shown together at most.
    pub fn bytes_max(&self) -> usize {
        let first =
            if self.header == ProxyHeader::Accepted { PROXY_HEADER_BYTES_MAX } else { DETECTION_BYTES_MAX };
        inspector!(&self.state, inspector => inspector.bytes_max(), first)
    }

    /// Reads no request after the one whose body is open.
    pub fn end_after_exchange(&mut self) {
        inspector!(&mut self.state, inspector => inspector.end_after_exchange(), ());
    }

    /// From here on steps are obeyed (the gate), or everything leaves as it is (the tee). So many bytes of the client,
    /// the next to be shown, have left already.
    pub fn hold(&mut self, gate: bool, left: usize) {
        self.gate = gate;
        inspector!(&mut self.state, inspector => inspector.hold(gate, left), ());
    }

    /// So many bytes of the server, the next to be shown, have left already.
    pub fn answers_left(&mut self, count: usize) {
        inspector!(&mut self.state, inspector => inspector.answers_left(count), ());
    }

    /// True if steps must be obeyed from now on, whatever the policy says: what left was written anew.
    pub fn stays_held(&self) -> bool {
        inspector!(&self.state, inspector => inspector.stays_held(), false)
    }

    /// True after a refusal that concerns one request only: the connection goes on once it is rejected, or allowed
    /// under the tee.
    pub fn survives(&self) -> bool {
        inspector!(&self.state, inspector => inspector.survives(), false)
    }

    /// An open request is not allowed any more. False where only closing both sides is safe.
    pub fn revoke(&mut self, exchange: u32, notice: &Notice<'_>) -> bool {
        inspector!(&mut self.state, inspector => inspector.revoke(exchange, notice), false)
    }

    /// So many milliseconds have passed since some fixed moment.
    pub fn tick(&mut self, now_ms: u64) {
        inspector!(&mut self.state, inspector => inspector.tick(now_ms), ());
    }

    /// Takes no new request, where the protocol can say so.
    pub fn drain(&mut self) {
        inspector!(&mut self.state, inspector => inspector.drain(), ());
    }

    /// Gives back memory that nothing open needs.
    pub fn release(&mut self) {
        inspector!(&mut self.state, inspector => inspector.release(), ());
    }

    /// Our own words to the client, once everything before them is through.
    pub fn reply(&self) -> Option<&[u8]> {
        inspector!(&self.state, inspector => inspector.reply(), None)
    }

    /// The reply was written. True if the connection goes on.
    pub fn replied(&mut self) -> bool {
        inspector!(&mut self.state, inspector => inspector.replied(), false)
    }

    /// Bytes of our own for that side, which may follow what was let through until now.
    pub fn insertion(&self, side: Side) -> &[u8] {
        inspector!(&self.state, inspector => inspector.insertion(side), &[])
    }

    /// The bytes of [`insertion`](Self::insertion) were taken.
    pub fn inserted(&mut self, side: Side) {
        inspector!(&mut self.state, inspector => inspector.inserted(side), ());
    }

    /// What happened to an open request since the last call.
    pub fn take_progress(&mut self) -> Progress {
        inspector!(&mut self.state, inspector => inspector.take_progress(), Progress::default())
    }

    /// How many further bytes of that side may leave without being looked at.
    pub fn passable(&self, side: Side) -> u64 {
        match &self.state {
            State::Detecting { .. } => 0,
            State::Opaque(_) => u64::MAX,
            state => inspector!(state, inspector => inspector.passable(side), 0),
        }
    }

    /// So many bytes left without being looked at.
    pub fn passed(&mut self, side: Side, count: u64) {
        inspector!(&mut self.state, inspector => inspector.passed(side, count), ());
    }

    fn begin(&mut self, protocol: Protocol) {
        self.state = match protocol {
            Protocol::Http1 => State::Http1(Http1::default()),
            Protocol::Http2 => State::Http2(Box::default()),
            Protocol::Tls => State::Tls(Tls::default()),
            Protocol::Redis => State::Redis(Box::default()),
            Protocol::Postgres => State::Postgres(Box::default()),
            Protocol::Kafka => State::Kafka(Box::default()),
            other => State::Opaque(other),
        };
        let gate = self.gate;
        inspector!(&mut self.state, inspector => inspector.hold(gate, 0), ());
    }
}

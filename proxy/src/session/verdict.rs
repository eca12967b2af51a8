//! What the policy in force says of one connection and of the requests on it.

use crate::policy::Current;
use bulkhead_facts::{Direction, Effect, L4Protocol, Reason, Request};
use bulkhead_inspect::{Protocol, Question, Refusal};
use bulkhead_policies::decide::{Around, Spoken};
use bulkhead_policies::program::{Action, Answer, AnswerPair, L7ChainId};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The policy in force as it concerns one connection.
#[derive(Clone, Debug)]
pub(super) struct Verdicts {
    pub(super) current: Arc<Current>,
    pub(super) plan: Plan,
    /// The connection began with a header of the PROXY protocol.
    pub(super) proxied: bool,
}

/// How a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Not at all: it is reset.
    Reset(AnswerPair),
    /// It passes whatever it says; what it says is reported.
    Pass(AnswerPair),
    /// Its requests are asked about.
    Inspect {
        chain: L7ChainId,
        /// For bytes that the chain cannot read.
        opaque: AnswerPair,
        /// Something can be denied: nothing leaves before its verdict.
        gate: bool,
        /// What its sections speak of.
        spoken: Spoken,
    },
}

const SECTION_PROTOCOLS: [Protocol; 5] =
    [Protocol::Http1, Protocol::Tls, Protocol::Redis, Protocol::Postgres, Protocol::Kafka];

/// True if a section speaks of this protocol.
fn names(spoken: Spoken, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Http1 | Protocol::Http2 => spoken.http,
        Protocol::Tls => spoken.tls,
        Protocol::Redis => spoken.redis,
        Protocol::Postgres => spoken.postgres,
        Protocol::Kafka => spoken.kafka,
        _ => false,
    }
}

impl Verdicts {
    /// For a connection to `peer`; `endpoint` is where it was led to instead.
    pub(super) fn new(
        current: Arc<Current>,
        direction: Direction,
        peer: IpAddr,
        port: u16,
        endpoint: Option<SocketAddr>,
    ) -> Self {
        let plan = plan(&current, action(&current, direction, peer, port, endpoint));
        Self { current, plan, proxied: false }
    }

    /// True if nothing may leave before its verdict.
    pub(super) fn gate(&self) -> bool {
        match self.plan {
            Plan::Inspect { gate, .. } => gate,
            Plan::Reset(_) => true,
            Plan::Pass(_) => false,
        }
    }

    /// The protocols that the policy names here.
    pub(super) fn named(&self) -> impl Iterator<Item = Protocol> + use<> {
        let spoken = match self.plan {
            Plan::Reset(_) | Plan::Pass(_) => Spoken::default(),
            Plan::Inspect { spoken, .. } => spoken,
        };
        SECTION_PROTOCOLS.into_iter().filter(move |protocol| names(spoken, *protocol))
    }

    /// True if some rule means connections that begin with a header of the PROXY protocol as well.
    pub(super) fn accepts_proxy_header(&self) -> bool {
        matches!(self.plan, Plan::Inspect { spoken: Spoken { proxied: true, .. }, .. })
    }

    /// What holds for a request.
    pub(super) fn request(&self, question: &Question<'_>) -> AnswerPair {
        match self.plan {
            Plan::Reset(pair) | Plan::Pass(pair) => pair,
            Plan::Inspect { chain, spoken, .. } => {
                let judge = &self.current.judge;
                let around = Around { proxied: self.proxied, ..Around::default() };
                let pair = match question.unclear_host() {
                    Some(_) if self.proxied => judge.decide_l7(chain, &Request::Opaque),
                    Some(host) => judge.decide_unclear_http(chain, host),
                    None => question.with_request(|request| judge.decide_l7_among(chain, request, around)),
                };
                match question.ambiguity() {
                    Some(_) => unless_by_rule(pair, Reason::Ambiguous),
                    None if self.is_denied_for_its_header(chain, pair, question) => {
                        unless_by_rule(pair, Reason::ProtocolMismatch)
                    }
                    None if names(spoken, question.protocol()) => pair,
                    None => unless_by_rule(pair, Reason::ProtocolMismatch),
                }
            }
        }
    }

    /// True if nothing but the header of the PROXY protocol before it makes the difference.
    fn is_denied_for_its_header(&self, chain: L7ChainId, pair: AnswerPair, question: &Question<'_>) -> bool {
        let without = || question.with_request(|request| self.current.judge.decide_l7(chain, request));
        self.proxied && pair.enforced.effect == Effect::Deny && without().enforced.effect == Effect::Allow
    }

    /// True for a request that is allowed only where the frames of the WebSocket that it becomes are checked.
    pub(super) fn wants_frames_checked(&self, question: &Question<'_>) -> bool {
        let Plan::Inspect { chain, gate: true, .. } = self.plan else { return false };
        question.with_request(|request| match request {
            Request::Http(request) => self.current.judge.wants_frames_checked(chain, request, self.proxied),
            _ => false,
        })
    }

    /// What holds for bytes of a protocol that no chain reads.
    pub(super) fn opaque(&self) -> AnswerPair {
        match self.plan {
            Plan::Reset(pair) | Plan::Pass(pair) => pair,
            Plan::Inspect { opaque, .. } => unless_by_rule(opaque, Reason::ProtocolMismatch),
        }
    }

    /// What holds for bytes that passed unread and may have been anything.
    pub(super) fn unread(&self) -> AnswerPair {
        match self.plan {
            Plan::Reset(pair) | Plan::Pass(pair) | Plan::Inspect { gate: false, opaque: pair, .. } => pair,
            Plan::Inspect { gate: true, opaque, .. } => {
                let denied = Answer { effect: Effect::Deny, rule: None, reason: Reason::TierChanged };
                AnswerPair { enforced: denied, shadow: opaque.shadow }
            }
        }
    }

    /// What holds for bytes that were refused before any rule was asked. Under the tee they pass all the same,
    /// and the shadow answer says what enforcement would have done.
    pub(super) fn refused(&self, refusal: &Refusal) -> AnswerPair {
        let denied = Answer { effect: Effect::Deny, rule: None, reason: refusal.reason };
        match self.plan {
            Plan::Reset(pair) | Plan::Pass(pair) => pair,
            Plan::Inspect { gate: true, .. } => AnswerPair { enforced: denied, shadow: denied },
            Plan::Inspect { gate: false, opaque, .. } => {
                AnswerPair { enforced: opaque.enforced, shadow: denied }
            }
        }
    }
}

/// What the policy says of a connection before its first byte.
fn plan(current: &Current, action: Action) -> Plan {
    let judge = &*current.judge;
    match action {
        // A connection that was led to nobody in particular may have reached anybody.
        Action::Choose { otherwise, .. } => Plan::Reset(judge.answer(otherwise)),
        Action::Answer(id) | Action::Learn(id) => {
            let pair = judge.answer(id);
            match pair.enforced.effect {
                Effect::Allow => Plan::Pass(pair),
                Effect::Deny => Plan::Reset(pair),
            }
        }
        Action::Inspect { chain, opaque } => {
            let gate = !judge.only_learns(chain, opaque);
            Plan::Inspect { chain, opaque: judge.answer(opaque), gate, spoken: judge.spoken(chain) }
        }
    }
}

/// What holds at layer 4; where the connection was led to an endpoint, what holds there. One that is not chosen from any more
/// is judged as if it had been dialled itself, which is what the kernel does with our leg to it.
pub(crate) fn action(
    current: &Current,
    direction: Direction,
    peer: IpAddr,
    port: u16,
    endpoint: Option<SocketAddr>,
) -> Action {
    let dialled = current.action(direction, peer, L4Protocol::TCP, port);
    let Some(endpoint) = endpoint else { return dialled };
    let judge = &current.judge;
    let directly = || current.action(direction, endpoint.ip(), L4Protocol::TCP, endpoint.port());
    let denies = |id| judge.answer(id).enforced.effect == Effect::Deny;
    match dialled {
        Action::Choose { choice, .. } => {
            judge.chosen(choice, (endpoint.ip(), endpoint.port())).unwrap_or_else(directly)
        }
        Action::Answer(id) if denies(id) => dialled,
        Action::Answer(_) | Action::Learn(_) | Action::Inspect { .. } => match directly() {
            Action::Answer(id) if denies(id) => Action::Answer(id),
            _ => dialled,
        },
    }
}

/// Names the reason where no rule is the reason.
pub(crate) fn unless_by_rule(pair: AnswerPair, reason: Reason) -> AnswerPair {
    let named = |answer: Answer| match (answer.effect, answer.reason) {
        (Effect::Allow, _) => answer,
        (Effect::Deny, Reason::DeniedByRule | Reason::NameMismatch | Reason::NameHidden) => answer,
        (Effect::Deny, _) => Answer { reason, ..answer },
    };
    AnswerPair { enforced: named(pair.enforced), shadow: named(pair.shadow) }
}

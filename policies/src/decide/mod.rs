//! From a program to a verdict: one total function, without allocation.
//!
//! [`Judge::new`] believes nothing: it validates every index once, builds the layer-7 indexes, and from then on every
//! question has an answer. Layer 4 is two look-ups (address to class, class with protocol and port to
//! box), exactly those of the kernel tables; layer 7 is [`stage`]. What the tables do not name gets answer 0,
//! which denies.

mod addresses;
mod blocks;
mod by_name;
mod chain;
mod found;
mod headers;
mod named;
mod protocols;
mod query;
mod stage;
mod text_table;
mod validate;

pub use chain::Spoken;
pub use validate::InvalidProgram;

use crate::model::L7Section;
use crate::program::{
    Action, Answer, AnswerId, AnswerPair, ChoiceId, ClassId, DirectionProgram, Endpoint, L7Chain, L7ChainId,
    L7Entry, L7Stage, PortBox, Program, RuleIndex, RuleInfo,
};
use addresses::AddressIndex;
use bulkhead_facts::{Direction, Effect, HostName, HttpRequest, L4Protocol, Reason, Request};
use by_name::NamedRules;
use chain::ChainIndex;
use found::{Classes, Found};
use std::net::IpAddr;

/// What holds where no span or no box matches.
const NOTHING_MATCHED: Action = Action::Answer(AnswerId(0));
/// What holds where a caller asks for an answer that the program does not hold.
const UNKNOWN: Answer = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoPolicy };

/// What is around a request, beside what it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// It becomes a WebSocket with something else than frames in it, or with frames that nobody checks.
    pub unframed: bool,
    /// A header of the PROXY protocol came before it on its connection.
    pub proxied: bool,
}

/// A validated program with its indexes.
#[derive(Clone, Debug)]
pub struct Judge {
    program: Program,
    ingress: DirectionIndex,
    egress: DirectionIndex,
    chains: Vec<ChainIndex>,
}

impl Judge {
    /// Validates the program and builds its indexes.
    pub fn new(program: Program) -> Result<Self, InvalidProgram> {
        validate::validate(&program)?;
        let end = |id: AnswerId| program.answers[usize::from(id.0)];
        let named = NamedRules::of_chains(&program);
        let index = |(chain, named)| ChainIndex::new(chain, end(chain.end), named);
        let chains = program.l7_chains.iter().zip(named).map(index).collect();
        let ingress = DirectionIndex::new(&program.ingress);
        let egress = DirectionIndex::new(&program.egress);
        Ok(Self { program, ingress, egress, chains })
    }

    /// The program that is judged by.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What holds at layer 4 for a peer, a protocol and the destination's port (`type << 8 | code` for ICMP, 0 for
    /// protocols without ports).
    pub fn action(&self, direction: Direction, peer: IpAddr, protocol: L4Protocol, port: u16) -> Action {
        let (index, boxes) = (self.index(direction), &self.program.direction(direction).boxes);
        index.classes.action(index.find(peer), boxes, protocol, port).unwrap_or(NOTHING_MATCHED)
    }

    /// The pair of answers behind an id; a denial with reason `no_policy` for an id of another program.
    pub fn answer(&self, id: AnswerId) -> AnswerPair {
        let unknown = AnswerPair { enforced: UNKNOWN, shadow: UNKNOWN };
        self.program.answers.get(usize::from(id.0)).copied().unwrap_or(unknown)
    }

    /// The pair of answers for one request on a flow that is inspected with this chain.
    pub fn decide_l7(&self, chain: L7ChainId, request: &Request<'_>) -> AnswerPair {
        self.decide_l7_among(chain, request, Around::default())
    }

    /// The same with what is around the request.
    pub fn decide_l7_among(&self, chain: L7ChainId, request: &Request<'_>, around: Around) -> AnswerPair {
        let at = chain.0 as usize;
        match (self.program.l7_chains.get(at), self.chains.get(at)) {
            (Some(chain), Some(index)) => index.decide(chain, self.answer(chain.end), request, around),
            (None, _) | (_, None) => AnswerPair { enforced: UNKNOWN, shadow: UNKNOWN },
        }
    }

    /// The pair of answers for a request of HTTP without a path that everybody reads alike, as far as its host settles
    /// it: no rule that asks for a method or a path matches.
    pub fn decide_unclear_http(&self, chain: L7ChainId, host: Option<&HostName>) -> AnswerPair {
        let at = chain.0 as usize;
        match (self.program.l7_chains.get(at), self.chains.get(at)) {
            (Some(chain), Some(index)) => index.decide_unclear(chain, self.answer(chain.end), host),
            (None, _) | (_, None) => AnswerPair { enforced: UNKNOWN, shadow: UNKNOWN },
        }
    }

    /// True if a request of HTTP, behind a header of the PROXY protocol or not, is allowed only where the frames of the
    /// WebSocket that it becomes are checked.
    pub fn wants_frames_checked(&self, chain: L7ChainId, request: &HttpRequest<'_>, proxied: bool) -> bool {
        let at = chain.0 as usize;
        let found = self.program.l7_chains.get(at).zip(self.chains.get(at));
        found.is_some_and(|(chain, index)| {
            index.wants_frames_checked(chain, self.answer(chain.end).enforced, request, proxied)
        })
    }

    /// The pair of answers for one request, from layer 4 up.
    pub fn decide(
        &self,
        direction: Direction,
        peer: IpAddr,
        protocol: L4Protocol,
        port: u16,
        request: &Request<'_>,
    ) -> AnswerPair {
        self.decide_acted(self.action(direction, peer, protocol, port), request)
    }

    /// The pair of answers for one request on a flow with this action.
    fn decide_acted(&self, action: Action, request: &Request<'_>) -> AnswerPair {
        match (action, request) {
            (Action::Answer(id) | Action::Learn(id), _) => self.answer(id),
            (Action::Inspect { opaque, .. }, Request::Opaque) => self.answer(opaque),
            (Action::Inspect { chain, .. }, _) => self.decide_l7(chain, request),
            (Action::Choose { choice, otherwise }, _) => {
                self.least_of(choice, otherwise, |action| self.decide_acted(action, request))
            }
        }
    }

    /// The endpoints that one is picked from, in order; none for an id of another program.
    pub fn choice(&self, id: ChoiceId) -> &[Endpoint] {
        self.program.choices.get(id.0 as usize).map_or(&[], |choice| &choice.endpoints)
    }

    /// What holds at every endpoint that may be picked: in each version the first denial, else the first answer.
    pub fn least_of(
        &self,
        choice: ChoiceId,
        otherwise: AnswerId,
        answer: impl Fn(Action) -> AnswerPair,
    ) -> AnswerPair {
        let pairs = self.choice(choice).iter().map(|endpoint| answer(endpoint.action));
        let lesser = |one: Answer, other: Answer| match (one.effect, other.effect) {
            (Effect::Allow, Effect::Deny) => other,
            (Effect::Allow | Effect::Deny, _) => one,
        };
        let least = |one: AnswerPair, other: AnswerPair| AnswerPair {
            enforced: lesser(one.enforced, other.enforced),
            shadow: lesser(one.shadow, other.shadow),
        };
        pairs.reduce(least).unwrap_or_else(|| self.answer(otherwise))
    }

    /// What holds on a flow that was dialled at a Service's address and arrives at this endpoint.
    pub fn action_at(
        &self,
        direction: Direction,
        (dialled, dialled_port): (IpAddr, u16),
        protocol: L4Protocol,
        endpoint: (IpAddr, u16),
    ) -> Action {
        match self.action(direction, dialled, protocol, dialled_port) {
            Action::Choose { choice, otherwise } => {
                self.chosen(choice, endpoint).unwrap_or(Action::Answer(otherwise))
            }
            action => action,
        }
    }

    /// What holds on a connection to this endpoint; `None` if it is none that one is picked from.
    pub fn chosen(&self, choice: ChoiceId, (address, port): (IpAddr, u16)) -> Option<Action> {
        let all = self.choice(choice);
        let key = (address.to_canonical(), port);
        let at = all.binary_search_by_key(&key, |endpoint| (endpoint.address, endpoint.port));
        at.ok().map(|at| all[at].action)
    }

    /// True where no bytes on a flow with this chain can be denied, under observation or audit: it is inspected to learn
    /// and for the shadow answer only, and passes by itself while nobody inspects.
    pub fn only_learns(&self, chain: L7ChainId, opaque: AnswerId) -> bool {
        let allows = |id| self.answer(id).enforced.effect == Effect::Allow;
        let at = chain.0 as usize;
        let ways = self.program.l7_chains.get(at).zip(self.chains.get(at));
        allows(opaque) && ways.is_some_and(|(chain, index)| allows(chain.end) && !index.denies)
    }

    /// The protocols that sections of a chain speak of.
    pub fn spoken(&self, chain: L7ChainId) -> Spoken {
        self.chains.get(chain.0 as usize).map_or_else(Spoken::default, |index| index.spoken)
    }

    /// What a report says of a rule.
    ///
    /// # Panics
    /// If the index is not from this program's answers or chains, which are validated.
    pub fn rule(&self, rule: RuleIndex) -> &RuleInfo {
        &self.program.rules[rule.0 as usize]
    }

    fn index(&self, direction: Direction) -> &DirectionIndex {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// True if a rule of this effect (`None` is pass) with this section takes a request. A pass takes what an allow takes.
pub(crate) fn section_matches(section: &L7Section, request: &Request<'_>, effect: Option<Effect>) -> bool {
    let deny = effect == Some(Effect::Deny);
    if !matches!((section, request), (L7Section::Http(_), Request::Http(_))) {
        return protocols::matches(section, request, deny);
    }
    let (taken, left) = if deny { (Effect::Deny, Effect::Allow) } else { (Effect::Allow, Effect::Deny) };
    let entry = L7Entry { rule: RuleIndex(0), effect: Some(taken), section: Some(section.clone()) };
    let chain = L7Chain { enforced: vec![L7Stage { entries: vec![entry] }], ..L7Chain::default() };
    let end = Answer { effect: left, rule: None, reason: Reason::NoRule };
    let end = AnswerPair { enforced: end, shadow: end };
    let index = ChainIndex::new(&chain, end, NamedRules::default());
    index.decide(&chain, end, request, Around::default()).enforced.effect == taken
}

/// What the boxes of one class say of a protocol and port.
fn box_at(boxes: &[PortBox], protocol: L4Protocol, port: u16) -> Option<Action> {
    let at = boxes.partition_point(|b| {
        b.protocol_last < protocol || (b.protocol_first <= protocol && b.ports.last() < port)
    });
    let found = boxes.get(at).filter(|b| b.protocol_first <= protocol && b.ports.contains(port));
    found.map(|b| b.action)
}

/// Indexes of one direction.
#[derive(Clone, Debug)]
struct DirectionIndex {
    v4: AddressIndex<u32>,
    v6: AddressIndex<u128>,
    classes: Classes,
}

impl DirectionIndex {
    fn new(tables: &DirectionProgram) -> Self {
        let (classes, by_class) = Classes::new(&tables.boxes);
        let found = |class: ClassId| by_class.get(&class).copied().unwrap_or_default();
        Self {
            v4: AddressIndex::new(&tables.v4, |span| found(span.class)),
            v6: AddressIndex::new(&tables.v6, |span| found(span.class)),
            classes,
        }
    }

    fn find(&self, peer: IpAddr) -> Found {
        match peer.to_canonical() {
            IpAddr::V4(address) => self.v4.find(address.into()),
            IpAddr::V6(address) => self.v6.find(address.into()),
        }
    }
}

#[cfg(test)]
mod tests;

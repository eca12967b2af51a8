//! From a program to a verdict: one total function, without allocation.
//!
//! [`Judge::new`] believes nothing: it validates every index once, builds the layer-7 indexes, and from then on every
//! question has an answer. Layer 4 is two binary searches (address to class, class with protocol and port
//! to box), exactly the look-ups of the kernel tables; layer 7 is [`stage`]. What the tables do not name gets answer 0,
//! which denies.

mod chain;
mod headers;
mod stage;
mod text_table;
mod validate;

pub use validate::InvalidProgram;

use crate::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, ClassId, DirectionProgram, L7ChainId, Program,
    RuleIndex, RuleInfo,
};
use bulkhead_facts::{Direction, Effect, L4Protocol, Reason, Request};
use chain::ChainIndex;
use std::net::IpAddr;

/// What holds where no span or no box matches.
const NOTHING_MATCHED: Action = Action::Answer(AnswerId(0));
/// What holds where a caller asks for an answer that the program does not hold.
const UNKNOWN: Answer = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoPolicy };

/// A validated program with its indexes.
#[derive(Clone, Debug)]
pub struct Judge {
    program: Program,
    ingress: ClassRanges,
    egress: ClassRanges,
    chains: Vec<ChainIndex>,
}

impl Judge {
    /// Validates the program and builds its indexes.
    pub fn new(program: Program) -> Result<Self, InvalidProgram> {
        validate::validate(&program)?;
        let end = |id: AnswerId| program.answers[usize::from(id.0)];
        let chains = program.l7_chains.iter().map(|chain| ChainIndex::new(chain, end(chain.end))).collect();
        let ingress = ClassRanges::new(&program.ingress);
        let egress = ClassRanges::new(&program.egress);
        Ok(Self { program, ingress, egress, chains })
    }

    /// The program that is judged by.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What holds at layer 4 for a peer, a protocol and the destination's port (`type << 8 | code` for ICMP, 0 for
    /// protocols without ports).
    pub fn action(&self, direction: Direction, peer: IpAddr, protocol: L4Protocol, port: u16) -> Action {
        let tables = self.program.direction(direction);
        let class = match peer.to_canonical() {
            IpAddr::V4(address) => find_class(&tables.v4, u32::from(address)),
            IpAddr::V6(address) => find_class(&tables.v6, u128::from(address)),
        };
        let Some(class) = class else { return NOTHING_MATCHED };
        let boxes = self.ranges(direction).boxes(tables, class);
        let at = boxes.partition_point(|b| {
            b.protocol_last < protocol || (b.protocol_first <= protocol && b.ports.last() < port)
        });
        match boxes.get(at) {
            Some(b) if b.protocol_first <= protocol && b.ports.contains(port) => b.action,
            Some(_) | None => NOTHING_MATCHED,
        }
    }

    /// The pair of answers behind an id; a denial with reason `no_policy` for an id of another program.
    pub fn answer(&self, id: AnswerId) -> AnswerPair {
        let unknown = AnswerPair { enforced: UNKNOWN, shadow: UNKNOWN };
        self.program.answers.get(usize::from(id.0)).copied().unwrap_or(unknown)
    }

    /// The pair of answers for one request on a flow that is inspected with this chain.
    pub fn decide_l7(&self, chain: L7ChainId, request: &Request<'_>) -> AnswerPair {
        let at = chain.0 as usize;
        match (self.program.l7_chains.get(at), self.chains.get(at)) {
            (Some(chain), Some(index)) => index.decide(chain, self.answer(chain.end), request),
            (None, _) | (_, None) => AnswerPair { enforced: UNKNOWN, shadow: UNKNOWN },
        }
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
        match (self.action(direction, peer, protocol, port), request) {
            (Action::Answer(id) | Action::Learn(id), _) => self.answer(id),
            (Action::Inspect { opaque, .. }, Request::Opaque) => self.answer(opaque),
            (Action::Inspect { chain, .. }, Request::Http(_)) => self.decide_l7(chain, request),
        }
    }

    /// What a report says of a rule.
    ///
    /// # Panics
    /// If the index is not from this program's answers or chains, which are validated.
    pub fn rule(&self, rule: RuleIndex) -> &RuleInfo {
        &self.program.rules[rule.0 as usize]
    }

    fn ranges(&self, direction: Direction) -> &ClassRanges {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

fn find_class<A: Ord + Copy>(spans: &[AddressSpan<A>], address: A) -> Option<ClassId> {
    let at = spans.partition_point(|span| span.last < address);
    spans.get(at).filter(|span| span.first <= address).map(|span| span.class)
}

/// Where the boxes of each class begin and end.
#[derive(Clone, Debug)]
struct ClassRanges(Vec<(u32, u32)>);

impl ClassRanges {
    fn new(tables: &DirectionProgram) -> Self {
        let mut ranges = Vec::new();
        for (at, b) in (0u32..).zip(&tables.boxes) {
            let class = b.class.0 as usize;
            if ranges.len() <= class {
                ranges.resize(class + 1, (at, at));
            }
            ranges[class].1 = at + 1;
        }
        Self(ranges)
    }

    fn boxes<'a>(&self, tables: &'a DirectionProgram, class: ClassId) -> &'a [crate::program::PortBox] {
        let Some((first, end)) = self.0.get(class.0 as usize) else { return &[] };
        tables.boxes.get(*first as usize..*end as usize).unwrap_or_default()
    }
}

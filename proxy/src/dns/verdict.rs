//! What the policy in force says of one question.

use super::limits::SEARCH_ENDS_MAX;
use crate::policy::Current;
use crate::session;
use bulkhead_facts::{Direction, DnsQuestion, Effect, HostName, L4Protocol, Reason, Request};
use bulkhead_inspect::dns::{A, AAAA, AddressKind, Answer, Query, QueryFault, is_internal};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{self, Action, AnswerPair, L7ChainId};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Whom a question goes to, and by which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Seen from the workload.
    pub direction: Direction,
    /// The other side: who asks inbound, who is asked outbound.
    pub peer: IpAddr,
    /// The workload's own address.
    pub local: IpAddr,
    /// UDP or TCP.
    pub protocol: L4Protocol,
    /// The port that is asked.
    pub port: u16,
    /// Who is asked for the peer, where that is a Service whose endpoints differ.
    pub endpoint: Option<SocketAddr>,
}

impl Way {
    /// What holds at layer 4.
    fn action(self, current: &Current) -> Action {
        match self.protocol {
            L4Protocol::TCP => session::action(current, self.direction, self.peer, self.port, self.endpoint),
            protocol => current.action(self.direction, self.peer, protocol, self.port),
        }
    }
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It leaves: in the form in which it was decided on where something could have been denied.
    Release { answers: AnswerPair, strictly: bool },
    /// It does not.
    Refuse(AnswerPair),
    /// It does not, while addresses of the other family may be asked for: there are none of this one. Resolvers that ask for
    /// both at once would wait for another name server if one of them was refused.
    OtherFamily(AnswerPair),
    /// It does not: a search list may have added an end to a name that may be asked for, and goes on if there is no such
    /// name. Reported like a refusal, except where the end is one of the inside, as those of search lists are.
    SearchEnd(AnswerPair),
}

/// How a way is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Settled(AnswerPair),
    Inspect { chain: L7ChainId, opaque: AnswerPair, gate: bool },
}

/// True if the bytes of a TCP connection there are for us: every section speaks of the name system, or names are learned from
/// whoever is asked at its port.
pub fn is_for_us(current: &Current, direction: Direction, peer: IpAddr, port: u16) -> bool {
    const NAME_SERVER_PORT: u16 = 53;
    let learns = direction == Direction::Egress && port == NAME_SERVER_PORT && current.judge.has_names();
    match current.action(direction, peer, L4Protocol::TCP, port) {
        Action::Choose { choice, .. } => {
            let endpoints = current.judge.choice(choice).iter();
            let speak: Vec<bool> = endpoints.filter_map(|at| is_only_dns(current, at.action)).collect();
            speak.iter().all(|only| *only) && (learns || !speak.is_empty())
        }
        action => is_only_dns(current, action).unwrap_or(learns),
    }
}

/// True if every section there speaks of the name system; `None` if there is none.
fn is_only_dns(current: &Current, action: Action) -> Option<bool> {
    match action {
        Action::Inspect { chain, .. } => Some(current.judge.spoken(chain).is_only_dns()),
        Action::Answer(_) | Action::Learn(_) | Action::Choose { .. } => None,
    }
}

/// True if nothing at all may be asked on a connection any more.
pub(super) fn is_over(current: &Current, way: Way) -> bool {
    match plan(current, way) {
        Plan::Settled(answers) => answers.enforced.effect == Effect::Deny,
        Plan::Inspect { chain, gate, .. } => gate && !current.judge.spoken(chain).is_only_dns(),
    }
}

/// The verdict on a question, or on what is none.
pub(super) fn verdict(current: &Current, way: Way, question: Result<&Query, QueryFault>) -> Verdict {
    let judge = &current.judge;
    match (plan(current, way), question) {
        (Plan::Settled(answers), _) => settled(answers),
        (Plan::Inspect { chain, opaque, gate }, Ok(query)) => {
            let answers = match query.request() {
                request @ Request::Dns(_) => judge.decide_l7(chain, &request),
                _ => unless_by_rule(opaque, Reason::ProtocolMismatch),
            };
            match answers.enforced.effect {
                Effect::Allow => Verdict::Release { answers, strictly: gate },
                Effect::Deny if answers.enforced.reason == Reason::DeniedByRule => Verdict::Refuse(answers),
                Effect::Deny if has_other_family(judge, chain, query) => Verdict::OtherFamily(answers),
                Effect::Deny if has_search_end(judge, chain, query) => Verdict::SearchEnd(answers),
                Effect::Deny => Verdict::Refuse(answers),
            }
        }
        (Plan::Inspect { opaque, gate, .. }, Err(_)) => {
            let denied = program::Answer { effect: Effect::Deny, rule: None, reason: Reason::Malformed };
            match gate {
                true => Verdict::Refuse(AnswerPair { enforced: denied, shadow: denied }),
                false => {
                    let answers = AnswerPair { enforced: opaque.enforced, shadow: denied };
                    Verdict::Release { answers, strictly: false }
                }
            }
        }
    }
}

fn settled(answers: AnswerPair) -> Verdict {
    match answers.enforced.effect {
        Effect::Allow => Verdict::Release { answers, strictly: false },
        Effect::Deny => Verdict::Refuse(answers),
    }
}

fn plan(current: &Current, way: Way) -> Plan {
    let judge = &current.judge;
    match way.action(current) {
        Action::Answer(id) | Action::Learn(id) | Action::Choose { otherwise: id, .. } => {
            Plan::Settled(judge.answer(id))
        }
        Action::Inspect { chain, opaque } => {
            Plan::Inspect { chain, opaque: judge.answer(opaque), gate: !judge.only_learns(chain, opaque) }
        }
    }
}

/// True if the question is for addresses, and may be asked for those of the other family.
fn has_other_family(judge: &Judge, chain: L7ChainId, query: &Query) -> bool {
    let other = other_family(query.record);
    let named = matches!(query.request(), Request::Dns(_));
    named && query.host().zip(other).is_some_and(|(name, record)| allows(judge, chain, name, record))
}

/// True if the name is one that may be asked for, by addresses of either family, with something behind it.
fn has_search_end(judge: &Judge, chain: L7ChainId, query: &Query) -> bool {
    let records = [Some(query.record), other_family(query.record)];
    query
        .shortened()
        .take(SEARCH_ENDS_MAX)
        .any(|name| records.into_iter().flatten().any(|record| allows(judge, chain, &name, record)))
}

fn other_family(record: u16) -> Option<u16> {
    match record {
        A => Some(AAAA),
        AAAA => Some(A),
        _ => None,
    }
}

fn allows(judge: &Judge, chain: L7ChainId, name: &HostName, record: u16) -> bool {
    let question = Request::Dns(DnsQuestion { name, record });
    judge.decide_l7(chain, &question).enforced.effect == Effect::Allow
}

/// Names the reason where no rule is the reason.
fn unless_by_rule(pair: AnswerPair, reason: Reason) -> AnswerPair {
    let named = |answer: program::Answer| match (answer.effect, answer.reason) {
        (Effect::Allow, _) | (Effect::Deny, Reason::DeniedByRule) => answer,
        (Effect::Deny, _) => program::Answer { reason, ..answer },
    };
    AnswerPair { enforced: named(pair.enforced), shadow: named(pair.shadow) }
}

/// The addresses that a name may lead to: none of the machine, the link or a cloud's own, and private ones for names of the
/// inside only.
pub(super) fn learnable(name: &HostName, answer: &Answer, internal: &Arc<[HostName]>) -> Vec<(IpAddr, u32)> {
    let inside = is_internal(name, internal);
    let may = |address: IpAddr| match AddressKind::of(address) {
        AddressKind::Public => true,
        AddressKind::Private => inside,
        AddressKind::Never => false,
    };
    answer.addresses.iter().copied().filter(|(address, _)| may(*address)).collect()
}

/// True if an answer leads inside by a name of the outside: whoever owns the name means to be let in by it.
pub(super) fn is_rebinding(name: Option<&HostName>, answer: &Answer, internal: &Arc<[HostName]>) -> bool {
    match (answer.inside, name) {
        (None, _) => false,
        (Some((_, AddressKind::Never)), Some(name)) => !is_loopback_name(name),
        (Some(_), Some(name)) => !is_internal(name, internal),
        (Some(_), None) => true,
    }
}

/// The names that stand for the machine itself (RFC 6761 section 6.3).
fn is_loopback_name(name: &HostName) -> bool {
    name.as_str() == "localhost" || name.as_str().ends_with(".localhost")
}

//! Rules by name: when bytes mean somebody else at the address, or do not say whom.
//!
//! The compiler writes such a rule as entries that ask for its names ([`crate::compile`]); one that asks for nothing else
//! is two entries, for a request and for a hello, and takes bytes that name nobody as well. Here it is recognised, and a
//! denial that names alone are the cause of is told as such.

use crate::model::L7Section;
use crate::program::{
    Action, Answer, AnswerPair, ClassId, L7Chain, L7Entry, L7Stage, PortBox, Program, RuleIndex,
};
use bulkhead_facts::{Effect, HostName, Reason, Request};
use std::collections::BTreeSet;

/// Rules that allow traffic to names.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedRules(BTreeSet<RuleIndex>);

impl NamedRules {
    /// Those of each chain that only addresses have to which names lead; none of the others.
    pub(super) fn of_chains(program: &Program) -> Vec<Self> {
        if program.names.is_empty() {
            return vec![Self::default(); program.l7_chains.len()];
        }
        let tables = &program.egress;
        let by_name: BTreeSet<ClassId> = tables.named.iter().map(|named| named.class).collect();
        let by_address =
            tables.v4.iter().map(|span| span.class).chain(tables.v6.iter().map(|span| span.class));
        let by_address: BTreeSet<ClassId> = by_address.collect();
        let chains = |classes: &BTreeSet<ClassId>| -> BTreeSet<u32> {
            let boxes = tables.boxes.iter().filter(|own| classes.contains(&own.class));
            let choice = |own: &PortBox| match own.action {
                Action::Choose { choice, .. } => program.choices.get(choice.0 as usize),
                Action::Inspect { .. } | Action::Answer(_) | Action::Learn(_) => None,
            };
            let actions = |own: &PortBox| {
                let endpoints = choice(own).map_or(&[][..], |choice| &choice.endpoints);
                let chosen = endpoints.iter().map(|endpoint| endpoint.action);
                chosen.chain([own.action]).collect::<Vec<_>>()
            };
            let chain = |action: Action| match action {
                Action::Inspect { chain, .. } => Some(chain.0),
                Action::Answer(_) | Action::Learn(_) | Action::Choose { .. } => None,
            };
            boxes.flat_map(actions).filter_map(chain).collect()
        };
        let only: BTreeSet<u32> = &chains(&by_name) - &chains(&by_address);
        let rules: BTreeSet<RuleIndex> = program.names.iter().map(|named| named.rule).collect();
        let of = |(at, chain): (u32, &L7Chain)| match only.contains(&at) {
            true => Self(rules_of(chain).filter(|rule| rules.contains(rule)).collect()),
            false => Self::default(),
        };
        (0..).zip(&program.l7_chains).map(of).collect()
    }

    /// Gives denials that nothing else is the cause of the reason that `fault` finds in the stages.
    pub(super) fn explain(
        &self,
        chain: &L7Chain,
        pair: AnswerPair,
        fault: impl Fn(&[L7Stage]) -> Option<Reason>,
    ) -> AnswerPair {
        if self.0.is_empty() {
            return pair;
        }
        let told = |answer: Answer, stages: &[L7Stage]| match (answer.effect, answer.reason) {
            (Effect::Deny, Reason::L7Mismatch | Reason::ProtocolMismatch | Reason::NoRule) => {
                Answer { reason: fault(stages).unwrap_or(answer.reason), ..answer }
            }
            _ => answer,
        };
        let shadow = if chain.shadow.is_empty() { &chain.enforced } else { &chain.shadow };
        AnswerPair { enforced: told(pair.enforced, &chain.enforced), shadow: told(pair.shadow, shadow) }
    }
}

fn rules_of(chain: &L7Chain) -> impl Iterator<Item = RuleIndex> + '_ {
    chain.enforced.iter().chain(&chain.shadow).flat_map(|stage| &stage.entries).map(|entry| entry.rule)
}

/// True for the first of the two entries of a rule by name that asks for nothing but its names.
pub(super) fn is_whole(stage: &L7Stage, at: usize) -> bool {
    match stage.entries.get(at..).unwrap_or_default() {
        [first, second, ..] => {
            let sections = (&first.section, &second.section);
            first.rule == second.rule
                && first.effect == Some(Effect::Allow)
                && matches!(sections, (Some(L7Section::Http(_)), Some(L7Section::Tls(_))))
        }
        _ => false,
    }
}

/// True if an entry of HTTP means this host by name.
pub(super) fn hosts(entry: &L7Entry, host: Option<&HostName>) -> bool {
    let (Some(L7Section::Http(requests)), Some(host)) = (&entry.section, host) else { return false };
    requests.iter().flat_map(|request| &request.hosts).any(|own| own.matches(host))
}

/// What is wrong with the name of a request, if none of these rules means it.
pub(super) fn fault(stages: &[L7Stage], named: &NamedRules, request: &Request<'_>) -> Option<Reason> {
    let entries = stages.iter().flat_map(|stage| &stage.entries);
    let sections =
        entries.filter(|entry| entry.effect == Some(Effect::Allow) && named.0.contains(&entry.rule));
    let sections = sections.filter_map(|entry| entry.section.as_ref());
    match request {
        Request::Tls(hello) => {
            let names = sections.filter_map(|section| match section {
                L7Section::Tls(wanted) => Some(&wanted.sni),
                _ => None,
            });
            let said = hello.server_name.filter(|_| !hello.encrypted);
            named_by(names.flatten(), said, |own, name| own.matches(name))
        }
        Request::Http(http) => {
            let requests = sections.filter_map(|section| match section {
                L7Section::Http(requests) => Some(requests),
                _ => None,
            });
            named_by(requests.flatten().flat_map(|request| &request.hosts), http.host, |own, host| {
                own.matches(host)
            })
        }
        Request::Dns(_) | Request::Redis(_) | Request::Postgres(_) | Request::Kafka(_) | Request::Opaque => {
            None
        }
    }
}

/// The same of a request of HTTP of which nothing but the host can be told, for rules that ask for nothing else.
pub(super) fn unclear_fault(stages: &[L7Stage], host: Option<&HostName>) -> Option<Reason> {
    let mut whole = stages.iter().flat_map(|stage| {
        let entries = stage.entries.iter().enumerate();
        entries.filter(|(at, _)| is_whole(stage, *at)).map(|(_, entry)| entry)
    });
    whole.next().map(|_| if host.is_some() { Reason::NameMismatch } else { Reason::NameHidden })
}

fn named_by<T>(
    names: impl Iterator<Item = T>,
    said: Option<&HostName>,
    means: impl Fn(&T, &HostName) -> bool,
) -> Option<Reason> {
    let mut names = names.peekable();
    names.peek()?;
    match said {
        None => Some(Reason::NameHidden),
        Some(said) => (!names.any(|own| means(&own, said))).then_some(Reason::NameMismatch),
    }
}

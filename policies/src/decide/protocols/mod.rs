//! Requests of protocols other than HTTP: which entry of a stage is the first to match.
//!
//! For each protocol the alternatives of all entries are filed by the names, commands, users, databases, topics they ask for
//! ([`places`]), so that a request looks at those only that it can match ([`filed`]); what is left of them is compared
//! ([`matching`]). No step looks at all entries, and none allocates.

mod filed;
mod matching;
mod places;
mod words;

pub(super) use matching::matches;

use super::by_name::is_whole;
use crate::model::L7Section;
use crate::program::{L7Entry, L7Stage};
use bulkhead_facts::{Effect, Request};
use filed::{Filed, Filing, NONE};
use places::Rest;
use words::Words;

/// Index of one stage, by protocol.
#[derive(Clone, Debug)]
pub(super) struct Protocols([Protocol; 5]);

/// The position of TLS among them.
const TLS: usize = 0;

/// What one protocol's requests can match.
#[derive(Clone, Debug)]
struct Protocol {
    /// Allows and passes, and denies.
    filed: [Filed; 2],
    /// What allows and passes, and denies, speak of.
    words: [[Words; 2]; 2],
    /// The first entry that always matches, or [`NONE`].
    unconditional: u32,
}

impl Protocols {
    pub(super) fn new(stage: &L7Stage) -> Self {
        Self([0, 1, 2, 3, 4].map(|protocol| Protocol::new(stage, protocol)))
    }

    /// The first entry that matches a request; none for HTTP and for bytes that cannot be read.
    pub(super) fn first_match<'s>(&self, stage: &'s L7Stage, request: &Request<'_>) -> Option<&'s L7Entry> {
        let first = self.0.get(protocol_of(request)?)?.first_match(stage, request);
        stage.entries.get(first as usize)
    }
}

impl Protocol {
    fn new(stage: &L7Stage, protocol: usize) -> Self {
        let mut filing = [Filing::default(), Filing::default()];
        let mut words = <[[Words; 2]; 2]>::default();
        let mut unconditional = NONE;
        for (at, (position, entry)) in (0u32..).zip(stage.entries.iter().enumerate()) {
            let deny = entry.effect == Some(Effect::Deny);
            match &entry.section {
                Some(section) if protocol_of_section(section) == Some(protocol) => {
                    let side = usize::from(deny);
                    let alternatives = places::alternatives(section, deny, &mut words[side]);
                    for (number, alternative) in (0u32..).zip(alternatives) {
                        filing[side].add((at, number), alternative);
                    }
                }
                // A section of another protocol cannot be decided: a deny matches, and so does a rule by name where
                // nobody is named.
                Some(_) if !deny && (protocol == TLS || !is_whole(stage, position)) => {}
                Some(_) | None => {
                    unconditional = at;
                    break;
                }
            }
        }
        Self { filed: filing.map(Filing::done), words, unconditional }
    }

    /// Position of the first entry that matches, or [`NONE`].
    fn first_match(&self, stage: &L7Stage, request: &Request<'_>) -> u32 {
        let mut best = self.unconditional;
        for ((filed, words), deny) in self.filed.iter().zip(&self.words).zip([false, true]) {
            if filed.is_empty() {
                continue;
            }
            places::each_place(request, deny, words, |place| {
                filed.consider(place, &mut best, |candidate| match candidate.rest {
                    Rest::Nothing => true,
                    Rest::Others if matching::items(request) == 1 => true,
                    Rest::Others | Rest::Some | Rest::Whole => {
                        let entry = stage.entries.get(candidate.entry as usize);
                        let section = entry.and_then(|entry| entry.section.as_ref());
                        section
                            .is_some_and(|section| matching::rest_matches(section, candidate, request, deny))
                    }
                });
            });
        }
        best
    }
}

fn protocol_of(request: &Request<'_>) -> Option<usize> {
    match request {
        Request::Tls(_) => Some(TLS),
        Request::Dns(_) => Some(1),
        Request::Redis(_) => Some(2),
        Request::Postgres(_) => Some(3),
        Request::Kafka(_) => Some(4),
        Request::Http(_) | Request::Opaque => None,
    }
}

fn protocol_of_section(section: &L7Section) -> Option<usize> {
    match section {
        L7Section::Tls(_) => Some(TLS),
        L7Section::Dns(_) => Some(1),
        L7Section::Redis(_) => Some(2),
        L7Section::Postgres(_) => Some(3),
        L7Section::Kafka(_) => Some(4),
        L7Section::Http(_) => None,
    }
}

#[cfg(test)]
mod tests;

//! Where alternatives are filed by what a request has to say, so that a request looks only at those that it can match.
//!
//! An alternative asks for up to three things, each one of several or none at all ([`ANY`]); it lies under every combination
//! of them. A request looks under what it says and under [`ANY`]. What filing does not settle is left to the caller.

use super::super::stage::Mix;
use super::places::Alternative;
use crate::model::L7Section;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::rc::Rc;

/// Nothing is asked for.
pub(super) const ANY: u64 = 0;
/// Numbers of things begin here; those below have a meaning of their own for each protocol.
pub(super) const FIRST: u64 = 4;
/// No entry.
pub(super) const NONE: u32 = u32::MAX;
/// Combinations under which one alternative lies. More: it lies under the more telling of its things only, and is looked at
/// whole.
const PLACES_MAX: usize = 1_024;

/// Up to three things, as numbers.
pub(super) type Place = (u64, u64, u64);

/// One alternative of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Position of the entry in its stage.
    pub(super) entry: u32,
    /// Position of the alternative in its section.
    pub(super) alternative: u32,
    /// True if its place does not say that it matches in what places speak of.
    pub(super) whole: bool,
}

/// Alternatives by place, those of one place in the order of their entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Filed {
    places: HashMap<Place, (u32, u32), BuildHasherDefault<Mix>>,
    candidates: Vec<Candidate>,
}

impl Filed {
    /// True if nothing was filed.
    pub(super) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Lowers `best` to the first entry of this place that matches, if it comes before.
    pub(super) fn consider(&self, place: Place, best: &mut u32, matches: impl Fn(Candidate) -> bool) {
        let Some((first, end)) = self.places.get(&place) else { return };
        for candidate in self.candidates.get(*first as usize..*end as usize).unwrap_or_default() {
            if candidate.entry >= *best {
                return;
            }
            if matches(*candidate) {
                *best = candidate.entry;
                return;
            }
        }
    }
}

/// Alternatives on their way into a [`Filed`].
#[derive(Debug, Default)]
pub(super) struct Filing {
    places: BTreeMap<Place, Vec<Candidate>>,
    /// What lies in each place already: the same again, further back, never is the first to match.
    known: BTreeSet<(Place, Rc<L7Section>)>,
}

impl Filing {
    /// Files an alternative under what it asks for, in the order of entries.
    pub(super) fn add(&mut self, (entry, position): (u32, u32), alternative: Alternative) {
        let Alternative { mut asked, mut whole, rest, all } = alternative;
        while asked.iter().map(|things| things.len().max(1)).product::<usize>() > PLACES_MAX {
            let fewest = asked.iter_mut().filter(|things| things.len() > 1).min_by_key(|things| things.len());
            fewest.into_iter().for_each(Vec::clear);
            whole = true;
        }
        let candidate = Candidate { entry, alternative: position, whole };
        let remaining = Rc::new(if whole { all } else { rest });
        let [first, second, third] = asked.map(|things| if things.is_empty() { vec![ANY] } else { things });
        for one in &first {
            for two in &second {
                for three in &third {
                    let place = (*one, *two, *three);
                    if self.known.insert((place, remaining.clone())) {
                        self.places.entry(place).or_default().push(candidate);
                    }
                }
            }
        }
    }

    /// Everything that was filed, ready to be looked at.
    pub(super) fn done(self) -> Filed {
        let mut filed = Filed::default();
        for (place, candidates) in self.places {
            let first = length(&filed.candidates);
            filed.candidates.extend(candidates);
            filed.places.insert(place, (first, length(&filed.candidates)));
        }
        filed
    }
}

/// Lengths stay below the limits of a program: what would not fit is never found, and `validate` refused it before.
fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(NONE)
}

//! Where alternatives are filed by what a request has to say, so that a request looks only at those that it can match.
//!
//! An alternative asks for up to three things, each one of several or none at all ([`ANY`]); it lies under every combination
//! of them. A request looks under what it says and under [`ANY`]. What filing does not settle is left to the caller.

use super::places::{Alternative, Rest};
use crate::model::L7Section;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Nothing is asked for.
pub(super) const ANY: u32 = 0;
/// Numbers of things begin here; those below have a meaning of their own for each protocol.
pub(super) const FIRST: u32 = 4;
/// No entry.
pub(super) const NONE: u32 = u32::MAX;
/// Combinations under which one alternative lies. More: it lies under the more telling of its things only, and is looked at
/// whole.
const PLACES_MAX: usize = 1_024;

/// Up to three things, as numbers.
pub(super) type Place = [u32; 3];

/// One alternative of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Position of the entry in its stage; [`NONE`] in a slot that is free.
    pub(super) entry: u32,
    /// Position of the alternative in its section.
    pub(super) alternative: u32,
    /// What its places do not say of it.
    pub(super) rest: Rest,
}

/// Alternatives by place, those of one place in the order of their entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Filed {
    /// Open addressing, at most half full; a power of two long.
    slots: Vec<Slot>,
    /// Those that share their place with an earlier one.
    further: Vec<Candidate>,
    /// Which of the eight ways to ask for something or nothing there are.
    shapes: u8,
}

/// One place. Most hold one alternative, which lies in the slot itself.
#[derive(Clone, Copy, Debug)]
struct Slot {
    place: Place,
    first: Candidate,
    /// Positions of the others.
    others: (u32, u32),
}

const FREE: Slot = Slot {
    place: [ANY; 3],
    first: Candidate { entry: NONE, alternative: 0, rest: Rest::Nothing },
    others: (0, 0),
};

impl Filed {
    /// True if nothing was filed.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Lowers `best` to the first entry of this place that matches, if it comes before.
    pub(super) fn consider(&self, place: Place, best: &mut u32, matches: impl Fn(Candidate) -> bool) {
        if self.shapes & shape(place) == 0 {
            return;
        }
        let Some(slot) = self.find(place) else { return };
        let others = self.further.get(slot.others.0 as usize..slot.others.1 as usize).unwrap_or_default();
        for candidate in std::iter::once(&slot.first).chain(others) {
            if candidate.entry >= *best {
                return;
            }
            if matches(*candidate) {
                *best = candidate.entry;
                return;
            }
        }
    }

    fn find(&self, place: Place) -> Option<&Slot> {
        let mut at = self.home(place);
        // INVARIANT: some slot is free, and ends the search.
        while let Some(slot) = self.slots.get(at).filter(|slot| slot.first.entry != NONE) {
            if slot.place == place {
                return Some(slot);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    fn home(&self, [one, two, three]: Place) -> usize {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed = (u64::from(one) << 32 | u64::from(two)).wrapping_mul(FACTOR).rotate_left(29);
        let mixed = (mixed ^ u64::from(three)).wrapping_mul(FACTOR);
        usize::try_from(mixed >> 32).unwrap_or_default() & self.slots.len().wrapping_sub(1)
    }
}

/// One bit for each way to ask for something or nothing.
fn shape(place: Place) -> u8 {
    let [one, two, three] = place.map(|thing| u8::from(thing != ANY));
    1 << (one | two << 1 | three << 2)
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
        let Alternative { mut asked, mut rest, remaining, all } = alternative;
        while asked.iter().map(|things| things.len().max(1)).product::<usize>() > PLACES_MAX {
            let fewest = asked.iter_mut().filter(|things| things.len() > 1).min_by_key(|things| things.len());
            fewest.into_iter().for_each(Vec::clear);
            rest = Rest::Whole;
        }
        let candidate = Candidate { entry, alternative: position, rest };
        let remaining = Rc::new(if rest == Rest::Whole { all } else { remaining });
        let [first, second, third] = asked.map(|things| if things.is_empty() { vec![ANY] } else { things });
        for one in &first {
            for two in &second {
                for three in &third {
                    let place = [*one, *two, *three];
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
        if self.places.is_empty() {
            return filed;
        }
        filed.slots = vec![FREE; (self.places.len() * 2).next_power_of_two()];
        for (place, candidates) in self.places {
            let Some((first, others)) = candidates.split_first() else { continue };
            let begin = length(&filed.further);
            filed.further.extend(others);
            filed.shapes |= shape(place);
            let mut at = filed.home(place);
            while filed.slots[at].first.entry != NONE {
                at = (at + 1) & (filed.slots.len() - 1);
            }
            filed.slots[at] = Slot { place, first: *first, others: (begin, length(&filed.further)) };
        }
        filed
    }
}

/// Lengths stay below the limits of a program: what would not fit is never found, and `validate` refused it before.
fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(NONE)
}

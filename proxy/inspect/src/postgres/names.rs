//! What names stand for at the server: prepared statements, and portals.
//!
//! Only the server's answers settle a name, since what it skips behind an error changes nothing there. What is sent between two
//! syncs takes effect in order or not at all, so it may already be counted on until the next sync; behind that a name may stand
//! for what it was before. Where that makes a difference, whoever asks has to wait for the answer.

use super::classes::Classes;
use crate::limits::POSTGRES_NAMED_MAX;
use std::collections::{HashMap, VecDeque};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// This, where the server carries out what asks for it.
    As(Classes),
    /// Nothing that was sent through here.
    Unknown,
    /// The server has to answer first.
    Waits,
}

/// Room for so many names is kept when there are none.
const PLACES_KEPT: usize = 16;

/// Names of one kind in one session.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Places among the entries.
    places: HashMap<Box<[u8]>, u16>,
    entries: Vec<Entry>,
    /// Places that no name has.
    free: Vec<u16>,
    /// Changes that are not yet answered, in their order: where, and to what.
    open: VecDeque<(u16, Classes)>,
    /// Moves with each sync and each text that may have given names in SQL.
    moment: u32,
    /// When SQL last gave names, and what all may stand for to which it did.
    by_sql: Option<(u32, Classes)>,
    /// Moves with every so many names.
    round: u8,
    until_round: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The last change that was sent, and when.
    at: u32,
    latest: Classes,
    /// As the server has answered.
    settled: Classes,
    /// The round in which it was last of use.
    used: u8,
    /// Changes that are not yet answered.
    open: u16,
    /// What it may stand for is one thing only.
    agree: bool,
}

impl Names {
    /// True while answers have to come before further names can be kept. A server that holds its answers back until a sync has
    /// room for fewer of them.
    pub(super) fn is_full(&self) -> bool {
        self.places.len() >= POSTGRES_NAMED_MAX && self.open.len() >= POSTGRES_NAMED_MAX / 2
    }

    /// A name is on its way to stand for something, or with `None` for nothing.
    pub(super) fn send(&mut self, name: &[u8], stands_for: Option<Classes>) {
        let stands_for = stands_for.unwrap_or(Classes::NOTHING);
        let place = self.place(name);
        self.open.push_back((place, stands_for));
        let (moment, round, by_sql) = (self.moment, self.round, self.by_sql);
        let Some(entry) = self.entries.get_mut(usize::from(place)) else { return };
        let same = match entry.open {
            0 => entry.settled == Classes::NOTHING || entry.settled == stands_for,
            _ => entry.agree && entry.latest == stands_for,
        };
        entry.agree = same && by_sql.is_none_or(|(at, _)| at <= entry.at);
        entry.open += 1;
        (entry.latest, entry.at, entry.used) = (stands_for, moment, round);
    }

    /// The server carried the first change out that is not yet answered, or did not.
    pub(super) fn answered(&mut self, done: bool) {
        let Some((place, stands_for)) = self.open.pop_front() else { return };
        let Some(entry) = self.entries.get_mut(usize::from(place)) else { return };
        entry.open = entry.open.saturating_sub(1);
        match (done, self.by_sql) {
            (true, _) => entry.settled = stands_for,
            (false, Some((_, given))) if entry.settled != Classes::NOTHING => {
                entry.settled = entry.settled.union(given);
            }
            (false, _) => {}
        }
    }

    /// What a name stands for where it is used now.
    pub(super) fn look_up(&mut self, name: &[u8]) -> Known {
        // In another encoding other bytes are the same name.
        if !name.is_ascii() {
            return Known::Unknown;
        }
        let place = self.places.get(name).map(|place| usize::from(*place));
        let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) else { return Known::Unknown };
        entry.used = self.round;
        let stands_for = match entry.open {
            0 => entry.settled,
            _ if entry.at == self.moment || entry.agree => entry.latest,
            _ => return Known::Waits,
        };
        match self.by_sql {
            _ if stands_for == Classes::NOTHING => Known::Unknown,
            Some((at, given)) if at > entry.at => Known::As(stands_for.union(given)),
            _ => Known::As(stands_for),
        }
    }

    /// The client's messages from here on are carried out whatever became of those before.
    pub(super) fn sync(&mut self) {
        self.moment = match self.moment.checked_add(1) {
            Some(moment) => moment,
            None => self.first_moment(),
        };
    }

    /// A text of SQL may have given names that were taken, to something of these classes.
    pub(super) fn given_by_sql(&mut self, classes: Classes) {
        self.sync();
        let before = self.by_sql.map_or(Classes::default(), |(_, given)| given);
        self.by_sql = Some((self.moment, before.union(classes)));
    }

    /// No name that is settled stands for anything any more.
    pub(super) fn end_settled(&mut self) {
        for place in self.places.values() {
            if let Some(entry) = self.entries.get_mut(usize::from(*place)) {
                entry.settled = Classes::NOTHING;
            }
        }
        self.keep(|_| false);
        if self.places.is_empty() {
            self.entries.clear();
            self.free.clear();
            // Many names leave much room behind, in which the next would be looked for.
            if self.places.capacity() > PLACES_KEPT {
                (self.places, self.entries, self.free) = Default::default();
            }
        }
    }

    /// The count of moments begins anew, and all that was before is of an earlier one.
    fn first_moment(&mut self) -> u32 {
        for entry in &mut self.entries {
            (entry.at, entry.agree) = (0, false);
        }
        self.by_sql = self.by_sql.map(|(_, given)| (1, given));
        1
    }

    fn place(&mut self, name: &[u8]) -> u16 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.make_room();
        let new = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        let place = self.free.pop().unwrap_or(new);
        let entry = Entry { settled: Classes::NOTHING, latest: Classes::NOTHING, ..Entry::default() };
        match self.entries.get_mut(usize::from(place)) {
            Some(free) => *free = entry,
            None => self.entries.push(entry),
        }
        self.places.insert(name.into(), place);
        place
    }

    /// Forgets the names that were not of use for longest, if there are too many; if all were, those that are settled.
    fn make_room(&mut self) {
        self.until_round = self.until_round.checked_sub(1).unwrap_or(POSTGRES_NAMED_MAX / 4);
        if self.until_round == 0 {
            self.round = self.round.wrapping_add(1);
        }
        if self.places.len() < POSTGRES_NAMED_MAX {
            return;
        }
        let round = self.round;
        self.keep(|entry| entry.settled != Classes::NOTHING && entry.used == round);
        if self.places.len() >= POSTGRES_NAMED_MAX {
            self.keep(|_| false);
        }
    }

    /// Keeps the names of such entries, and those about which the server has to answer.
    fn keep(&mut self, which: impl Fn(&Entry) -> bool) {
        let (entries, free) = (&self.entries, &mut self.free);
        self.places.retain(|_, place| {
            let entry = entries.get(usize::from(*place));
            let keeps = entry.is_some_and(|entry| entry.open > 0 || which(entry));
            if !keeps {
                free.push(*place);
            }
            keeps
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_facts::PostgresStatement as Class;

    #[test]
    fn names_that_are_other_bytes_in_another_encoding_stand_for_nothing_known() {
        let mut names = Names::default();
        for name in ["a", "é"] {
            names.send(name.as_bytes(), Some(Classes::of(Class::Select)));
            names.answered(true);
            let known = names.look_up(name.as_bytes());
            assert_eq!(known == Known::Unknown, name == "é", "{name}: {known:?}");
        }
    }

    #[test]
    fn moments_that_are_counted_anew_make_nothing_certain() {
        let (read, write) = (Classes::of(Class::Select), Classes::of(Class::Delete));
        let mut names = Names { moment: u32::MAX - 1, ..Names::default() };
        names.given_by_sql(write);
        names.send(b"a", Some(write));
        names.answered(true);
        names.send(b"a", Some(read));
        assert_eq!(names.look_up(b"a"), Known::As(read));
        names.sync();
        assert_eq!(names.look_up(b"a"), Known::Waits);
        names.answered(true);
        assert_eq!(names.look_up(b"a"), Known::As(read.union(write)), "SQL may have given it");
        names.send(b"a", Some(read));
        names.answered(true);
        assert_eq!(names.look_up(b"a"), Known::As(read), "what it was given after that is certain");
    }
}

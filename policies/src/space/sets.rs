//! One set of items for each way in which rules tell sets apart.
//!
//! A request may carry several items of one sort: values of a header field, topics, keys, statements, protocols. An allow
//! takes it if all are meant, a deny if one is; both ask whether the set lies within some other: those that are meant, or
//! those that are not. Sets that lie within the same of these are alike, and of each kind the largest is an
//! intersection of them. So all intersections, and the set of nothing, stand for every set that there is.

use std::collections::BTreeSet;

/// What one rule says of a single item, and whether the rule is a deny.
pub(super) struct Test<'t, T> {
    pub(super) deny: bool,
    pub(super) takes: Box<dyn Fn(&T) -> bool + 't>,
}

/// One set of each kind, that of nothing first; `None` if there are more than `max`. Of items that no rule tells apart
/// only the first is used.
pub(super) fn told_apart<T: Clone>(items: Vec<T>, tests: &[Test<'_, T>], max: usize) -> Option<Vec<Vec<T>>> {
    let mut kept: Vec<T> = Vec::new();
    let mut columns: Vec<Vec<bool>> = Vec::new();
    for item in items {
        // Within the set that the rule asks about: the meant ones of an allow, the others of a deny.
        let column: Vec<bool> = tests.iter().map(|test| (test.takes)(&item) != test.deny).collect();
        if !columns.contains(&column) {
            kept.push(item);
            columns.push(column);
        }
    }
    let whole = Bits::of(kept.len(), |_| true);
    let mut closed: BTreeSet<Bits> = BTreeSet::from([whole]);
    for (test, _) in tests.iter().enumerate() {
        let within = Bits::of(kept.len(), |at| columns[at][test]);
        let more: Vec<Bits> = closed.iter().map(|set| set.and(&within)).collect();
        closed.extend(more);
        if closed.len() > max {
            return None;
        }
    }
    closed.insert(Bits::of(kept.len(), |_| false));
    let members = |set: &Bits| {
        kept.iter().enumerate().filter(|(at, _)| set.has(*at)).map(|(_, item)| item.clone()).collect()
    };
    Some(closed.iter().map(members).collect())
}

/// A set of numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bits(Vec<u64>);

impl Bits {
    fn of(count: usize, holds: impl Fn(usize) -> bool) -> Self {
        let mut blocks = vec![0; count.div_ceil(64)];
        for at in (0..count).filter(|at| holds(*at)) {
            blocks[at / 64] |= 1 << (at % 64);
        }
        Self(blocks)
    }

    fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(deny: bool, meant: &'static [u8]) -> Test<'static, u8> {
        Test { deny, takes: Box::new(move |item| meant.contains(item)) }
    }

    #[test]
    fn every_set_has_one_that_rules_do_not_tell_from_it() {
        let all: Vec<u8> = (0..8).collect();
        let rules: [(bool, &[u8]); 5] =
            [(false, &[0, 1, 2]), (false, &[2, 3]), (true, &[3, 4]), (true, &[5]), (false, &[6, 7])];
        let tests = rules.map(|(deny, meant)| test(deny, meant));
        let found = told_apart(all.clone(), &tests, 1000).unwrap();
        let answers = |set: &[u8]| -> Vec<bool> {
            let said = rules.iter().map(|(deny, meant)| match deny {
                true => set.iter().any(|item| meant.contains(item)),
                false => !set.is_empty() && set.iter().all(|item| meant.contains(item)),
            });
            said.collect()
        };
        for bits in 0..256u32 {
            let set: Vec<u8> = all.iter().copied().filter(|item| bits & (1 << item) != 0).collect();
            assert!(found.iter().any(|other| answers(other) == answers(&set)), "{set:?}");
        }
        assert!(found.len() < 64, "{}", found.len());
    }

    #[test]
    fn more_kinds_than_are_looked_at_are_none() {
        let singles: Vec<u8> = (0..20).collect();
        let tests: Vec<Test<'_, u8>> =
            (0..20).map(|own| Test { deny: true, takes: Box::new(move |item| *item == own) }).collect();
        assert_eq!(told_apart(singles, &tests, 1000), None);
    }
}

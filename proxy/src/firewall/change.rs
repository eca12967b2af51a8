//! What tells two programs apart, where that is nothing but elements of the maps in force.
//!
//! It is so if the new program has the rules, names, answers and layer-7 chains of the old one under the same numbers
//! (it may have more), and each class that both have may do the same in both. Then addresses come, go or pass to another
//! class, and classes come and go with what they may do: elements. Everything else is a reload, as is a change so large
//! that a reload costs no more.
//!
//! An address that had a class and has not the same one now may have lost something: then everything open is judged
//! again, as by a reload. Where addresses only come there is nothing open that could have lost.

use super::limits::CHANGED_ELEMENTS_MAX;
use super::names::{Named, NamedAddress};
use super::sets::{Maps, class_map, port_map};
use super::{elements, names};
use bulkhead_facts::{Direction, IpFamily};
use bulkhead_netfilter::{Batch, Element, Set, Table};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{AddressSpan, PortBox, Program};
use std::cmp::Ordering;
use std::time::Instant;

/// Elements that come and go.
#[derive(Debug, Default)]
pub(super) struct ElementChange {
    /// What classes may do that come: before any address has them.
    classes_come: Vec<(Set, Vec<Element>)>,
    /// Addresses: maps with what goes and what comes.
    addresses: Vec<(Set, Vec<Element>, Vec<Element>)>,
    /// What classes may do that go: after the last address of them.
    classes_go: Vec<(Set, Vec<Element>)>,
    /// Something that is open may have become forbidden.
    pub(super) judges_again: bool,
}

impl ElementChange {
    /// What turns the maps of `old` into those of `new`, in maps of that number; `None` if it takes a reload.
    pub(super) fn between(old: &Judge, new: &Judge, number: u16) -> Option<Self> {
        if !continues(old.program(), new.program()) || old.has_names() != new.has_names() {
            return None;
        }
        let mut change = Self::default();
        for direction in Direction::BOTH {
            change.compare_direction(old, new, Maps { direction, number })?;
        }
        // What goes is judged by the generation that no longer knows it.
        change.judges_again |= !change.classes_go.is_empty();
        (change.len() <= CHANGED_ELEMENTS_MAX).then_some(change)
    }

    /// Adds what becomes of the addresses that names lead to.
    pub(super) fn with_named(mut self, old: &Named, new: &[NamedAddress], number: u16) -> Option<Self> {
        let (gone, come) = names::difference(old, new);
        self.judges_again |=
            gone.iter().any(|was| !come.iter().any(|is| is.place() == was.place() && is.class == was.class));
        let now = Instant::now();
        for was in gone {
            self.addresses.push((was.set(number), vec![was.element(now)], Vec::new()));
        }
        for is in come {
            self.addresses.push((is.set(number), Vec::new(), vec![is.element(now)]));
        }
        (self.len() <= CHANGED_ELEMENTS_MAX).then_some(self)
    }

    /// First transaction: nothing leads there yet.
    pub(super) fn beforehand(&self, table: &Table) -> Batch {
        let mut batch = Batch::new();
        self.classes_come.iter().for_each(|(set, elements)| batch.add_elements(table, set, elements));
        batch
    }

    /// Second transaction: what is asked for from now on is answered by the new program.
    pub(super) fn exchange(&self, table: &Table) -> Batch {
        let mut batch = Batch::new();
        self.addresses.iter().for_each(|(set, gone, _)| batch.delete_elements(table, set, &keys(gone)));
        self.addresses.iter().for_each(|(set, _, come)| batch.add_elements(table, set, come));
        batch
    }

    /// With the last transaction: nothing leads there any more.
    pub(super) fn afterwards(&self, table: &Table) -> Batch {
        let mut batch = Batch::new();
        self.classes_go.iter().for_each(|(set, elements)| batch.delete_elements(table, set, &keys(elements)));
        batch
    }

    fn len(&self) -> usize {
        let classes = self.classes_come.iter().chain(&self.classes_go).map(|(_, elements)| elements.len());
        let addresses = self.addresses.iter().map(|(_, gone, come)| gone.len() + come.len());
        classes.chain(addresses).sum()
    }

    fn compare_direction(&mut self, old: &Judge, new: &Judge, maps: Maps) -> Option<()> {
        let (was, is) = (old.program().direction(maps.direction), new.program().direction(maps.direction));
        let (gone, come) = differing_classes(&was.boxes, &is.boxes)?;
        let ports = port_map(maps);
        let of = |boxes: &[PortBox], judge| elements::boxes(boxes, maps.direction, judge);
        push(&mut self.classes_come, ports.clone(), of(&come, new));
        push(&mut self.classes_go, ports, of(&gone, old));
        let (v4_gone, v4_come) = differing(&was.v4, &is.v4);
        let (v6_gone, v6_come) = differing(&was.v6, &is.v6);
        self.judges_again |= loses(&v4_gone, &v4_come, |a| a.checked_add(1));
        self.judges_again |= loses(&v6_gone, &v6_come, |a| a.checked_add(1));
        let v4 = [v4_gone, v4_come].map(|spans| elements::spans_v4(&spans));
        let v6 = [v6_gone, v6_come].map(|spans| elements::spans_v6(&spans));
        for (family, [gone, come]) in [(IpFamily::V4, v4), (IpFamily::V6, v6)] {
            if !gone.is_empty() || !come.is_empty() {
                self.addresses.push((class_map(maps, family), gone, come));
            }
        }
        Some(())
    }
}

/// True if what marks and boxes of the old program name, the new one names alike.
fn continues(old: &Program, new: &Program) -> bool {
    new.rules.starts_with(&old.rules)
        && new.answers.starts_with(&old.answers)
        && new.l7_chains.starts_with(&old.l7_chains)
        && new.names == old.names
}

fn push(list: &mut Vec<(Set, Vec<Element>)>, set: Set, elements: Vec<Element>) {
    if !elements.is_empty() {
        list.push((set, elements));
    }
}

fn keys(elements: &[Element]) -> Vec<Element> {
    elements.iter().map(Element::without_data).collect()
}

/// The boxes of classes that only the old, and only the new program has; `None` if a class of both differs. A packet that has
/// its class from before would else be judged by what the class may do since.
fn differing_classes(old: &[PortBox], new: &[PortBox]) -> Option<(Vec<PortBox>, Vec<PortBox>)> {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    let same_class = |one: &PortBox, other: &PortBox| one.class == other.class;
    let mut before = old.chunk_by(same_class).peekable();
    for now in new.chunk_by(same_class) {
        while let Some(was) = before.next_if(|was| was[0].class < now[0].class) {
            gone.extend_from_slice(was);
        }
        match before.next_if(|was| was[0].class == now[0].class) {
            Some(was) if was != now => return None,
            Some(_) => {}
            None => come.extend_from_slice(now),
        }
    }
    gone.extend(before.flatten());
    Some((gone, come))
}

/// What only the first, and only the second has; both are sorted.
fn differing<T: Ord + Copy>(old: &[T], new: &[T]) -> (Vec<T>, Vec<T>) {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return (gone, come),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) => was.cmp(is),
        };
        if order != Ordering::Greater {
            gone.extend(old.next().filter(|_| order == Ordering::Less));
        }
        if order != Ordering::Less {
            come.extend(new.next().filter(|_| order == Ordering::Greater));
        }
    }
}

/// True if some address had a class and has not the same one now.
fn loses<A: Ord + Copy>(
    gone: &[AddressSpan<A>],
    come: &[AddressSpan<A>],
    next: impl Fn(A) -> Option<A>,
) -> bool {
    gone.iter().any(|was| {
        let mut rest = Some(was.first);
        let begin = come.partition_point(|is| is.last < was.first);
        for is in come[begin..].iter().take_while(|is| is.first <= was.last) {
            let Some(at) = rest.filter(|at| *at <= was.last) else { break };
            if is.first > at || is.class != was.class {
                return true;
            }
            rest = next(is.last);
        }
        rest.is_some_and(|at| at <= was.last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_policies::program::ClassId;
    use proptest::prelude::*;

    fn span(first: u32, last: u32, class: u32) -> AddressSpan<u32> {
        AddressSpan { first, last, class: ClassId(class) }
    }

    /// Disjoint, sorted spans within 0 to 60.
    fn spans() -> impl Strategy<Value = Vec<AddressSpan<u32>>> {
        proptest::collection::vec((1u32..5, 0u32..4, 1u32..4), 0..8).prop_map(|parts| {
            let mut at = 0;
            let mut spans = Vec::new();
            for (length, gap, class) in parts {
                spans.push(span(at + gap, at + gap + length - 1, class));
                at += gap + length;
            }
            spans
        })
    }

    fn class_at(spans: &[AddressSpan<u32>], address: u32) -> Option<ClassId> {
        spans.iter().find(|s| s.first <= address && address <= s.last).map(|s| s.class)
    }

    proptest! {
        #[test]
        fn something_is_lost_exactly_if_an_address_has_not_the_class_that_it_had(a in spans(), b in spans()) {
            let (gone, come) = differing(&a, &b);
            let expected = (0..70).any(|address| {
                class_at(&a, address).is_some_and(|class| class_at(&b, address) != Some(class))
            });
            prop_assert_eq!(loses(&gone, &come, |a| a.checked_add(1)), expected);
        }

        #[test]
        fn what_goes_and_what_comes_turns_the_one_into_the_other(a in spans(), b in spans()) {
            let (gone, come) = differing(&a, &b);
            prop_assert!(gone.iter().all(|span| a.contains(span) && !b.contains(span)));
            let mut turned: Vec<_> = a.iter().filter(|span| !gone.contains(span)).chain(&come).copied().collect();
            turned.sort();
            prop_assert_eq!(turned, b);
        }
    }

    #[test]
    fn the_last_address_of_a_family_is_looked_at() {
        let last = |class| [span(u32::MAX - 1, u32::MAX, class)];
        let next = |a: u32| a.checked_add(1);
        assert!(!loses(&last(1), &[span(u32::MAX - 3, u32::MAX, 1)], next));
        assert!(loses(&last(1), &last(2), next));
        assert!(loses(&last(1), &[span(u32::MAX, u32::MAX, 1)], next));
    }

    #[test]
    fn a_class_that_may_do_other_things_takes_a_reload_and_a_new_one_does_not() {
        use bulkhead_facts::{L4Protocol, PortRange};
        use bulkhead_policies::program::{Action, AnswerId};
        let one = |class, port| PortBox {
            class: ClassId(class),
            protocol_first: L4Protocol::TCP,
            protocol_last: L4Protocol::TCP,
            ports: PortRange::single(port),
            action: Action::Answer(AnswerId(1)),
        };
        let old = [one(1, 80), one(1, 81), one(3, 80)];
        assert_eq!(differing_classes(&old, &[one(1, 80), one(3, 80)]), None);
        let found = differing_classes(&old, &[one(1, 80), one(1, 81), one(2, 7), one(4, 7)]);
        assert_eq!(found, Some((vec![one(3, 80)], vec![one(2, 7), one(4, 7)])));
    }
}

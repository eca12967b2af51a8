//! From an address to the boxes of its class: a hash look-up for single addresses, a binary search for spans.
//!
//! Most peers are single addresses; finding one of ten thousand then costs what finding one of fifty does. Keys
//! come from a program, addresses from the network are only compared, so nobody outside can make keys collide.

use crate::program::AddressSpan;
use std::ops::Range;

/// An address as a number that can be hashed.
pub(super) trait Address: Copy + Ord {
    /// Folds the address to 64 bits.
    fn folded(self) -> u64;
}

impl Address for u32 {
    fn folded(self) -> u64 {
        u64::from(self)
    }
}

impl Address for u128 {
    fn folded(self) -> u64 {
        const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;
        // Both halves fit by their shift and mask.
        let high = u64::try_from(self >> 64).unwrap_or_default();
        let low = u64::try_from(self & u128::from(u64::MAX)).unwrap_or_default();
        high.wrapping_mul(FACTOR).rotate_left(32) ^ low
    }
}

/// Positions of boxes; empty where an address has none.
type Boxes = Range<u32>;

/// The spans of one family, indexed.
#[derive(Clone, Debug)]
pub(super) struct AddressIndex<A> {
    /// Open addressing, at most three quarters full; a power of two long. A slot without boxes is free.
    single: Vec<(A, Boxes)>,
    /// Spans of more than one address: first, last, boxes; sorted and disjoint.
    wide: Vec<(A, A, Boxes)>,
}

impl<A: Address> AddressIndex<A> {
    /// `boxes` tells where the boxes of a span's class are.
    pub(super) fn new(spans: &[AddressSpan<A>], boxes: impl Fn(&AddressSpan<A>) -> Boxes) -> Self {
        let found = spans.iter().map(|span| (span.first, span.last, boxes(span)));
        let found = found.filter(|(.., boxes)| !boxes.is_empty());
        let (single, wide): (Vec<_>, Vec<_>) = found.partition(|(first, last, _)| first == last);
        let slots = if single.is_empty() { 0 } else { (single.len() * 4 / 3 + 1).next_power_of_two() };
        let free = spans.first().map(|span| (span.first, 0..0));
        let mut index = Self { single: free.map_or(Vec::new(), |free| vec![free; slots]), wide };
        for (address, _, boxes) in single {
            let mut at = index.home(address);
            while !index.single[at].1.is_empty() {
                at = (at + 1) & (slots - 1);
            }
            index.single[at] = (address, boxes);
        }
        index
    }

    /// Where the boxes of an address are.
    pub(super) fn find(&self, address: A) -> Boxes {
        if let Some(boxes) = self.find_single(address) {
            return boxes;
        }
        let at = self.wide.partition_point(|(_, last, _)| *last < address);
        self.wide.get(at).filter(|(first, ..)| *first <= address).map_or(0..0, |(.., boxes)| boxes.clone())
    }

    fn find_single(&self, address: A) -> Option<Boxes> {
        if self.single.is_empty() {
            return None;
        }
        let mut at = self.home(address);
        // INVARIANT: some slot is free, and ends the search.
        while let Some((known, boxes)) = self.single.get(at).filter(|(_, boxes)| !boxes.is_empty()) {
            if *known == address {
                return Some(boxes.clone());
            }
            at = (at + 1) & (self.single.len() - 1);
        }
        None
    }

    fn home(&self, address: A) -> usize {
        let mixed = address.folded().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 32).unwrap_or_default() & (self.single.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::ClassId;

    #[test]
    fn single_addresses_and_spans_are_found_and_gaps_are_not() {
        let spans: Vec<_> = (0..3_000u32)
            .map(|n| AddressSpan { first: n * 10, last: n * 10 + (n % 3), class: ClassId(n) })
            .collect();
        let index = AddressIndex::new(&spans, |span| span.class.0..span.class.0 + 1);
        for address in 0..30_010u32 {
            let (span, offset) = (address / 10, address % 10);
            let expected = if span < 3_000 && offset <= span % 3 { span..span + 1 } else { 0..0 };
            assert_eq!(index.find(address), expected, "{address}");
        }
    }

    #[test]
    fn an_empty_family_holds_nothing() {
        assert_eq!(AddressIndex::<u128>::new(&[], |_| 0..1).find(0), 0..0);
    }
}

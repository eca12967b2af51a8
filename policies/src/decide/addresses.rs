//! From an address to what its class may do: a hash look-up for single addresses, [`Blocks`] for spans.
//!
//! Most peers are single addresses; finding one of ten thousand then costs what finding one of fifty does. Keys
//! come from a program, addresses from the network are only compared, so nobody outside can make keys collide.

use super::blocks::Blocks;
use super::found::Found;
use crate::program::AddressSpan;

/// An address as a number that can be hashed and cut into buckets.
pub(super) trait Address: Copy + Ord + Default + std::fmt::Debug {
    /// Folds the address to 64 bits.
    fn folded(self) -> u64;
    /// The distance from another one that is not larger.
    fn minus(self, other: Self) -> Self;
    /// Its upper bits, `shift` of them left out.
    fn bucket(self, shift: u32) -> usize;
}

impl Address for u32 {
    fn folded(self) -> u64 {
        u64::from(self)
    }

    fn minus(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }

    fn bucket(self, shift: u32) -> usize {
        usize::try_from(self >> shift).unwrap_or(usize::MAX)
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

    fn minus(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }

    fn bucket(self, shift: u32) -> usize {
        usize::try_from(self >> shift).unwrap_or(usize::MAX)
    }
}

/// The spans of one family, indexed.
#[derive(Clone, Debug)]
pub(super) struct AddressIndex<A> {
    /// Open addressing, at most half full, since a look-up that has to go on costs more than memory does; a power of two long.
    /// A slot that leads to nothing is free.
    single: Vec<(A, Found)>,
    /// What is left of a hash are its uppermost bits, which a multiplication mixes best.
    shift: u32,
    /// Between these they lie; whoever is elsewhere need not be looked up among them.
    between: (A, A),
    /// Spans of more than one address.
    wide: Blocks<A>,
}

impl<A: Address> AddressIndex<A> {
    /// `found` tells what a span leads to.
    pub(super) fn new(spans: &[AddressSpan<A>], found: impl Fn(&AddressSpan<A>) -> Found) -> Self {
        let known = spans.iter().map(|span| (span.first, span.last, found(span)));
        let known = known.filter(|(.., found)| *found != Found::NOTHING);
        let (single, wide): (Vec<_>, Vec<_>) = known.partition(|(first, last, _)| first == last);
        let slots = if single.is_empty() { 0 } else { (single.len() * 2).next_power_of_two() };
        let edge = |edge: Option<&(A, A, Found)>| edge.map_or_else(A::default, |(address, ..)| *address);
        let mut index = Self {
            single: vec![(A::default(), Found::NOTHING); slots],
            shift: u64::BITS - slots.checked_ilog2().unwrap_or_default().max(1),
            between: (edge(single.first()), edge(single.last())),
            wide: Blocks::new(wide.into_iter()),
        };
        for (address, _, found) in single {
            let mut at = index.home(address);
            while index.single[at].1 != Found::NOTHING {
                at = (at + 1) & (slots - 1);
            }
            index.single[at] = (address, found);
        }
        index
    }

    /// What an address leads to.
    pub(super) fn find(&self, address: A) -> Found {
        match self.find_single(address) {
            Found::NOTHING => self.wide.find(address),
            found => found,
        }
    }

    fn find_single(&self, address: A) -> Found {
        if self.single.is_empty() || address < self.between.0 || self.between.1 < address {
            return Found::NOTHING;
        }
        let mut at = self.home(address);
        // INVARIANT: some slot is free, and ends the search.
        while let Some((known, found)) = self.single.get(at).filter(|(_, found)| *found != Found::NOTHING) {
            if *known == address {
                return *found;
            }
            at = (at + 1) & (self.single.len() - 1);
        }
        Found::NOTHING
    }

    fn home(&self, address: A) -> usize {
        let mixed = address.folded().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> self.shift).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::ClassId;

    fn index<A: Address>(spans: &[AddressSpan<A>]) -> AddressIndex<A> {
        AddressIndex::new(spans, |span| Found::test(span.class.0))
    }

    #[test]
    fn single_addresses_and_spans_are_found_and_gaps_are_not() {
        let spans: Vec<_> = (0..3_000u32)
            .map(|n| AddressSpan { first: n * 10, last: n * 10 + (n % 3), class: ClassId(n) })
            .collect();
        let index = index(&spans);
        for address in 0..30_010u32 {
            let (span, offset) = (address / 10, address % 10);
            let known = span < 3_000 && offset <= span % 3;
            let expected = if known { Found::test(span) } else { Found::NOTHING };
            assert_eq!(index.find(address), expected, "{address}");
        }
    }

    /// Both ends of every span and their neighbours, against a search by looking at all.
    fn check<A: Address>(spans: &[AddressSpan<A>], next: fn(A) -> A, previous: fn(A) -> A) {
        let index = index(spans);
        let edges = spans.iter().flat_map(|span| {
            [
                span.first,
                span.last,
                next(span.first),
                next(span.last),
                previous(span.first),
                previous(span.last),
            ]
        });
        for address in edges {
            let held = spans.iter().find(|span| span.first <= address && address <= span.last);
            let expected = held.map_or(Found::NOTHING, |span| Found::test(span.class.0));
            assert_eq!(index.find(address), expected, "{address:?}");
        }
    }

    #[test]
    fn spans_that_crowd_or_span_everything_are_found_alike() {
        let v4 = |pairs: &[(u32, u32)]| -> Vec<AddressSpan<u32>> {
            let numbered = (0..).zip(pairs);
            numbered
                .map(|(n, (first, last))| AddressSpan { first: *first, last: *last, class: ClassId(n) })
                .collect()
        };
        // A crowd of blocks between two halves of the world.
        let mut pairs = vec![(0, 0x09ff_ffff)];
        pairs.extend((0..2_000).map(|n| (0x0a00_0000 + n * 7, 0x0a00_0000 + n * 7 + 1 + n % 5)));
        pairs.push((0xc000_0000, u32::MAX));
        check(&v4(&pairs), |n| n.wrapping_add(1), |n| n.wrapping_sub(1));
        check(&v4(&[(0, u32::MAX)]), |n| n.wrapping_add(1), |n| n.wrapping_sub(1));
        check(&v4(&[(5, 6), (u32::MAX - 1, u32::MAX)]), |n| n.wrapping_add(1), |n| n.wrapping_sub(1));
        let v6: Vec<_> = (0..500u32)
            .map(|n| {
                let first = u128::from(n) << (n % 120);
                first.wrapping_add(u128::from(n) << 121)
            })
            .collect();
        let mut starts: Vec<u128> = v6.iter().map(|start| start & !0xff).collect();
        starts.sort_unstable();
        starts.dedup();
        let spans: Vec<_> = (0..)
            .zip(starts)
            .map(|(n, first)| AddressSpan { first, last: first + 1 + u128::from(n % 200), class: ClassId(n) })
            .collect();
        check(&spans, |n| n.wrapping_add(1), |n| n.wrapping_sub(1));
        check(&[AddressSpan { first: 0, last: u128::MAX, class: ClassId(0) }], |n| n ^ 1, |n| n ^ 2);
    }

    #[test]
    fn an_empty_family_holds_nothing() {
        assert_eq!(index::<u128>(&[]).find(0), Found::NOTHING);
    }

    #[test]
    fn eight_addresses_share_a_line_of_the_cache() {
        assert_eq!(size_of::<(u32, Found)>(), 8);
    }
}

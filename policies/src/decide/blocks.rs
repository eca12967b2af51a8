//! Spans of more than one address: the one that holds an address, in about as many steps whatever their number.
//!
//! The addresses between the first and the last span are cut into equal buckets, about as many as there are spans; a bucket
//! knows the spans that reach into it. Where spans crowd in few buckets, those are searched by halving.

use super::addresses::Address;
use super::found::Found;

/// Spans of one family, sorted and disjoint.
#[derive(Clone, Debug)]
pub(super) struct Blocks<A> {
    spans: Vec<Block<A>>,
    /// For each bucket the position of the first span that ends in it or later; one more at the end.
    buckets: Vec<u32>,
    first: A,
    shift: u32,
}

/// Consecutive addresses and what they lead to.
#[derive(Clone, Copy, Debug)]
struct Block<A> {
    first: A,
    last: A,
    found: Found,
}

impl<A: Address> Blocks<A> {
    /// First address, last address, what they lead to; sorted and disjoint.
    pub(super) fn new(spans: impl Iterator<Item = (A, A, Found)>) -> Self {
        let spans: Vec<_> = spans.map(|(first, last, found)| Block { first, last, found }).collect();
        let (Some(low), Some(high)) = (spans.first(), spans.last()) else {
            return Self { spans, buckets: Vec::new(), first: A::default(), shift: 0 };
        };
        let (first, width) = (low.first, high.last.minus(low.first));
        let mut shift = 0;
        while width.bucket(shift) >= spans.len().next_power_of_two() * 2 {
            shift += 1;
        }
        let mut buckets = Vec::with_capacity(width.bucket(shift) + 2);
        for (at, span) in (0u32..).zip(&spans) {
            // The buckets up to the one in which it ends, as far as no span before it reaches.
            let end = span.last.minus(first).bucket(shift);
            while buckets.len() <= end {
                buckets.push(at);
            }
        }
        buckets.push(u32::try_from(spans.len() - 1).unwrap_or(u32::MAX));
        Self { spans, buckets, first, shift }
    }

    /// What the address leads to.
    pub(super) fn find(&self, address: A) -> Found {
        if self.spans.is_empty() || address < self.first {
            return Found::NOTHING;
        }
        let bucket = address.minus(self.first).bucket(self.shift);
        let Some([begin, next, ..]) = self.buckets.get(bucket..) else { return Found::NOTHING };
        let crowd = self.spans.get(*begin as usize..=*next as usize).unwrap_or_default();
        let at = crowd.partition_point(|span| span.last < address);
        crowd.get(at).filter(|span| span.first <= address).map_or(Found::NOTHING, |span| span.found)
    }
}

//! Sets of addresses as sorted, disjoint intervals that do not touch, one list per family.

use bulkhead_facts::Cidr;
use std::net::IpAddr;

/// An address as a number.
pub(crate) trait Number: Copy + Ord {
    /// Lowest address of the family.
    const MIN: Self;
    /// Highest address of the family.
    const MAX: Self;
    /// The next address, if there is one.
    fn next(self) -> Option<Self>;
    /// The address before, if there is one.
    fn previous(self) -> Option<Self>;
    /// How far it is from a lower address.
    fn minus(self, lower: Self) -> Self;
}

macro_rules! number {
    ($type:ty) => {
        impl Number for $type {
            const MIN: Self = <$type>::MIN;
            const MAX: Self = <$type>::MAX;
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
            fn minus(self, lower: Self) -> Self {
                self.saturating_sub(lower)
            }
        }
    };
}
number!(u32);
number!(u128);

/// First and last address, both inside.
pub(crate) type Interval<N> = (N, N);

/// A set of addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressSet {
    /// IPv4.
    pub(crate) v4: Vec<Interval<u32>>,
    /// IPv6.
    pub(crate) v6: Vec<Interval<u128>>,
}

impl AddressSet {
    /// Every address of both families.
    pub(crate) fn everything() -> Self {
        Self { v4: vec![(u32::MIN, u32::MAX)], v6: vec![(u128::MIN, u128::MAX)] }
    }

    /// These single addresses; IPv4-mapped ones count as IPv4.
    pub(crate) fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut set = Self::default();
        for address in addresses {
            match address.to_canonical() {
                IpAddr::V4(v4) => set.v4.push((v4.into(), v4.into())),
                IpAddr::V6(v6) => set.v6.push((v6.into(), v6.into())),
            }
        }
        set.normalised()
    }

    /// One block.
    pub(crate) fn block(cidr: Cidr) -> Self {
        match (cidr.first(), cidr.last()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Self { v4: vec![(first.into(), last.into())], v6: vec![] }
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Self { v4: vec![], v6: vec![(first.into(), last.into())] }
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Self::default(),
        }
    }

    /// Everything in one of the sets.
    pub(crate) fn union<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for set in sets {
            all.v4.extend_from_slice(&set.v4);
            all.v6.extend_from_slice(&set.v6);
        }
        all.normalised()
    }

    /// What is in this set and not in the other.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self { v4: subtract(&self.v4, &other.v4), v6: subtract(&self.v6, &other.v6) }
    }

    /// What is in both.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }

    /// A superset with at most that many intervals in each family: the smallest gaps are filled first.
    pub(crate) fn coarsened(&self, intervals_max: usize) -> Self {
        Self { v4: fill_gaps(&self.v4, intervals_max), v6: fill_gaps(&self.v6, intervals_max) }
    }

    /// True if the address is in the set.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => holds(&self.v4, v4.into()),
            IpAddr::V6(v6) => holds(&self.v6, v6.into()),
        }
    }

    /// True if nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn normalised(mut self) -> Self {
        normalise(&mut self.v4);
        normalise(&mut self.v6);
        self
    }
}

fn holds<N: Number>(intervals: &[Interval<N>], address: N) -> bool {
    let at = intervals.partition_point(|(_, last)| *last < address);
    intervals.get(at).is_some_and(|(first, _)| *first <= address)
}

/// Keeps the widest gaps, of equal ones the first.
fn fill_gaps<N: Number>(intervals: &[Interval<N>], intervals_max: usize) -> Vec<Interval<N>> {
    let mut gaps: Vec<(N, usize)> =
        intervals.windows(2).enumerate().map(|(at, pair)| (pair[1].0.minus(pair[0].1), at)).collect();
    gaps.sort_unstable_by_key(|(width, at)| (std::cmp::Reverse(*width), *at));
    gaps.truncate(intervals_max.saturating_sub(1));
    let kept: std::collections::BTreeSet<usize> = gaps.into_iter().map(|(_, at)| at).collect();
    let mut filled: Vec<Interval<N>> = Vec::new();
    for (at, (first, last)) in intervals.iter().enumerate() {
        match filled.last_mut() {
            Some(before) if !kept.contains(&(at - 1)) => before.1 = *last,
            Some(_) | None => filled.push((*first, *last)),
        }
    }
    filled
}

/// Sorts, and joins what overlaps or touches.
fn normalise<N: Number>(intervals: &mut Vec<Interval<N>>) {
    intervals.sort_unstable();
    let mut kept = 0;
    for at in 0..intervals.len() {
        let (first, last) = intervals[at];
        let joins = kept > 0 && intervals[kept - 1].1.next().is_none_or(|next| first <= next);
        if joins {
            intervals[kept - 1].1 = intervals[kept - 1].1.max(last);
        } else {
            intervals[kept] = (first, last);
            kept += 1;
        }
    }
    intervals.truncate(kept);
}

fn subtract<N: Number>(from: &[Interval<N>], what: &[Interval<N>]) -> Vec<Interval<N>> {
    let mut out = Vec::new();
    for &(first, last) in from {
        let mut rest = Some(first);
        let begin = what.partition_point(|(_, end)| *end < first);
        for &(cut_first, cut_last) in what[begin..].iter().take_while(|(cut, _)| *cut <= last) {
            let Some(at) = rest else { break };
            if let Some(before) = cut_first.previous()
                && at <= before
            {
                out.push((at, before));
            }
            rest = cut_last.next().filter(|next| *next <= last);
        }
        if let Some(at) = rest {
            out.push((at, last));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(intervals: &[Interval<u32>]) -> AddressSet {
        AddressSet { v4: intervals.to_vec(), v6: vec![] }.normalised()
    }

    #[test]
    fn touching_and_overlapping_intervals_become_one() {
        assert_eq!(set(&[(5, 9), (1, 4), (7, 12), (14, 14)]).v4, [(1, 12), (14, 14)]);
        assert_eq!(set(&[(0, u32::MAX), (u32::MAX, u32::MAX)]).v4, [(0, u32::MAX)]);
    }

    #[test]
    fn except_at_both_ends_of_the_family_leaves_the_middle() {
        let rest = AddressSet::everything().minus(&set(&[(0, 0), (u32::MAX, u32::MAX)]));
        assert_eq!(rest.v4, [(1, u32::MAX - 1)]);
        assert_eq!(rest.v6, [(0, u128::MAX)]);
    }

    #[test]
    fn the_smallest_gaps_are_filled_first() {
        let scattered = set(&[(1, 1), (3, 3), (10, 12), (14, 14), (90, 95)]);
        assert_eq!(scattered.coarsened(5), scattered);
        assert_eq!(scattered.coarsened(3).v4, [(1, 3), (10, 14), (90, 95)]);
        assert_eq!(scattered.coarsened(1).v4, [(1, 95)]);
        assert_eq!(AddressSet::default().coarsened(1), AddressSet::default());
    }

    fn intervals() -> impl Strategy<Value = Vec<Interval<u32>>> {
        proptest::collection::vec((0u32..40, 0u32..8).prop_map(|(first, more)| (first, first + more)), 0..6)
    }

    proptest! {
        #[test]
        fn set_operations_agree_with_one_address_at_a_time(a in intervals(), b in intervals()) {
            let (left, right) = (set(&a), set(&b));
            for address in 0..50 {
                let raw = |v: &[Interval<u32>]| v.iter().any(|(f, l)| *f <= address && address <= *l);
                prop_assert_eq!(holds(&left.v4, address), raw(&a));
                prop_assert_eq!(holds(&left.minus(&right).v4, address), raw(&a) && !raw(&b));
                prop_assert_eq!(holds(&left.intersection(&right).v4, address), raw(&a) && raw(&b));
                prop_assert_eq!(holds(&AddressSet::union([&left, &right]).v4, address), raw(&a) || raw(&b));
            }
        }
    }
}

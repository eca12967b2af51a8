//! One pass over a family's addresses: which sets hold each of them.

use super::intervals::{Interval, Number};

/// Calls `each(first, last, active)` for consecutive spans that cover the whole family, `active` being the markers of
/// the sets that hold the span, ascending. Markers are unique.
pub(crate) fn sweep<N: Number>(sets: &[(u32, &[Interval<N>])], mut each: impl FnMut(N, N, &[u32])) {
    let mut starts: Vec<(N, u32)> = Vec::new();
    let mut ends: Vec<(N, u32)> = Vec::new();
    for (marker, intervals) in sets {
        starts.extend(intervals.iter().map(|(first, _)| (*first, *marker)));
        ends.extend(intervals.iter().filter_map(|(_, last)| last.next().map(|end| (end, *marker))));
    }
    starts.sort_unstable();
    ends.sort_unstable();
    let (mut starts, mut ends) = (starts.into_iter().peekable(), ends.into_iter().peekable());
    let mut active: Vec<u32> = Vec::new();
    let mut at = N::MIN;
    loop {
        while let Some((_, marker)) = ends.next_if(|(end, _)| *end <= at) {
            if let Ok(position) = active.binary_search(&marker) {
                active.remove(position);
            }
        }
        while let Some((_, marker)) = starts.next_if(|(start, _)| *start <= at) {
            if let Err(position) = active.binary_search(&marker) {
                active.insert(position, marker);
            }
        }
        let next = [starts.peek(), ends.peek()].into_iter().flatten().map(|(position, _)| *position).min();
        match next.and_then(|next| Some((next, next.previous()?))) {
            Some((next, last)) => {
                each(at, last, &active);
                at = next;
            }
            None => return each(at, N::MAX, &active),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_the_family_and_name_what_holds_them() {
        let mut spans = Vec::new();
        let a = [(0u32, 4), (6, 6)];
        let b = [(4u32, 5), (u32::MAX, u32::MAX)];
        sweep(&[(1, &a), (9, &b)], |first, last, active| spans.push((first, last, active.to_vec())));
        let expected = [
            (0, 3, vec![1]),
            (4, 4, vec![1, 9]),
            (5, 5, vec![9]),
            (6, 6, vec![1]),
            (7, u32::MAX - 1, vec![]),
            (u32::MAX, u32::MAX, vec![9]),
        ];
        assert_eq!(spans, expected);
    }

    #[test]
    fn without_sets_one_span_covers_everything() {
        let mut spans = Vec::new();
        sweep::<u128>(&[], |first, last, active| spans.push((first, last, active.len())));
        assert_eq!(spans, [(0, u128::MAX, 0)]);
    }
}

//! Random cases that are the same everywhere.
//!
//! `BULKHEAD_CASES` sets how many are tried, `BULKHEAD_SEED` runs one of them again.

/// A small generator (splitmix64): the same seed gives the same case everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("an index")]
    }

    /// Between `least` and `most` of them.
    pub(crate) fn some<T: Copy>(&mut self, all: &[T], least: u64, most: u64) -> Vec<T> {
        (0..least + self.below(most - least + 1)).map(|_| self.pick(all)).collect()
    }
}

/// The seeds that are tried.
pub(crate) fn seeds() -> Vec<u64> {
    let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match read("BULKHEAD_SEED") {
        Some(seed) => vec![seed],
        None => (0..read("BULKHEAD_CASES").unwrap_or(400)).collect(),
    }
}

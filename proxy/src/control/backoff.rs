//! How long to wait before the next attempt: doubling, capped, with jitter.
//!
//! Without jitter a controller that comes back is met by every sidecar at the same moment. Pure: the caller brings the
//! randomness.

use std::time::Duration;

const FIRST_MS: u64 = 100;
const CAP_MS: u64 = 10_000;

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The attempt went well: the next failure waits briefly again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: between half and the whole of the doubled time, as `random` says.
    pub(super) fn next(&mut self, random: u32) -> Duration {
        let whole = FIRST_MS.saturating_mul(1 << self.failures.min(16)).min(CAP_MS);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        Duration::from_millis(half + u64::from(random) % (whole - half + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_stay_there() {
        let mut backoff = Backoff::default();
        let longest: Vec<u64> = (0..9)
            .map(|_| {
                let probe = backoff;
                backoff.next(0);
                (0..=10_000).map(|random| probe.clone().next(random).as_millis()).max().expect("some")
            })
            .map(|ms| u64::try_from(ms).expect("small"))
            .collect();
        assert_eq!(longest, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    #[test]
    fn a_wait_is_never_shorter_than_half() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(0), Duration::from_millis(50));
        assert_eq!(backoff.next(0), Duration::from_millis(100));
        backoff.reset();
        assert_eq!(backoff.next(0), Duration::from_millis(50));
    }
}

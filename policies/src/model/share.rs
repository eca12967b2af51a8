//! A share of a collection's pods, chosen by their UIDs.
//!
//! A pod is in or out by itself: pods that come or go change nothing for the others, and a larger share holds every pod
//! of a smaller one.

use std::fmt;

/// A percentage of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u8);

impl Share {
    /// Every pod.
    pub const ALL: Self = Self(100);

    /// A share of 1 to 100 percent.
    pub fn percent(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self(percent))
    }

    /// Reads `1%` to `100%`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('%')?;
        let sound = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        sound.then(|| digits.parse().ok()).flatten().and_then(Self::percent)
    }

    /// The percentage.
    pub fn as_percent(self) -> u8 {
        self.0
    }

    /// True if the pod with this UID is in it.
    pub fn holds(self, pod_uid: &str) -> bool {
        hash(pod_uid) % 100 < u64::from(self.0)
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// FNV-1a, mixed once more so that UIDs which differ in one character fall apart. It must never change: which pods are
/// in a share would change with it.
fn hash(text: &str) -> u64 {
    let folded = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (folded ^ (folded >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids() -> impl Iterator<Item = String> {
        (0..10_000).map(|n| format!("6f9619ff-8b86-d011-b42d-00c0{n:08x}"))
    }

    #[test]
    fn a_share_holds_about_its_percentage_and_a_larger_one_all_of_a_smaller() {
        for percent in [1, 5, 10, 50, 99] {
            let share = Share::percent(percent).unwrap();
            let next = Share::percent(percent + 1).unwrap();
            let held = uids().filter(|uid| share.holds(uid)).count();
            let expected = usize::from(percent) * 100;
            assert!(held.abs_diff(expected) < 150, "{held} of 10,000 at {share}");
            assert!(uids().all(|uid| !share.holds(&uid) || next.holds(&uid)));
        }
        assert!(uids().all(|uid| Share::ALL.holds(&uid)));
    }

    /// Written down, so that an update of the controller does not choose other pods.
    #[test]
    fn who_is_in_a_share_is_the_same_for_ever() {
        let tenth = Share::percent(10).unwrap();
        let held: Vec<usize> = (0..60).filter(|n| tenth.holds(&format!("uid-{n}"))).collect();
        assert_eq!(held, [25, 31, 37, 40, 59]);
    }

    #[test]
    fn a_share_is_a_whole_percentage() {
        for text in ["1%", "10%", "100%"] {
            assert_eq!(Share::parse(text).unwrap().to_string(), text);
        }
        for text in ["0%", "101%", "010%", "10", "1.5%", "%", "-1%", "+1%", " 1%", "300%"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }
}

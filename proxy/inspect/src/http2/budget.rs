//! Budgets against floods: what costs a client nothing must not cost us or the server much.
//!
//! Each kind of frame has an allowance per interval. Streams and answers earn more of it, so that busy connections that use
//! these frames as the protocol means them are never stopped.

use crate::limits::{
    CONTROL_FRAMES_MAX, CONTROL_INTERVAL_MS, EMPTY_FRAMES_MAX, FAULTS_MAX, RESET_INTERVAL_MS, RESETS_MAX,
};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// A stream that the client has given up (CVE-2023-44487).
    Reset,
    /// A stream that was reset because of what the client did on it (CVE-2025-8671).
    Fault,
    /// PING and SETTINGS (CVE-2019-9512, CVE-2019-9515).
    Control,
    /// Frames that say nothing: DATA without bytes, PRIORITY, unknown ones (CVE-2019-9518, CVE-2019-9513).
    Empty,
}

/// What a client has used up in the present intervals.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    now_ms: u64,
    resets_since_ms: u64,
    control_since_ms: u64,
    resets: u32,
    faults: u32,
    control: u32,
    empty: u32,
    /// Streams opened in the interval of resets.
    streams: u32,
    /// Frames of the server in the interval of control frames that are a part of an answer, or that ask for one.
    answers: u32,
}

impl Budget {
    /// So many milliseconds have passed since some fixed moment.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if now_ms.saturating_sub(self.resets_since_ms) >= RESET_INTERVAL_MS {
            (self.resets_since_ms, self.resets, self.faults, self.streams) = (now_ms, 0, 0, 0);
        }
        if now_ms.saturating_sub(self.control_since_ms) >= CONTROL_INTERVAL_MS {
            (self.control_since_ms, self.control, self.empty, self.answers) = (now_ms, 0, 0, 0);
        }
    }

    /// A stream was opened.
    pub(super) fn opened(&mut self) {
        self.streams = self.streams.saturating_add(1);
    }

    /// The server answered something, or asked for something that a client answers by a control frame.
    pub(super) fn answered(&mut self) {
        self.answers = self.answers.saturating_add(1);
    }

    /// Uses up one; what is exceeded, if something is.
    pub(super) fn spend(&mut self, what: Spent) -> Result<(), &'static str> {
        let (count, max, detail) = match what {
            Spent::Reset => (&mut self.resets, RESETS_MAX.max(self.streams / 2), "too many streams given up"),
            Spent::Fault => (&mut self.faults, FAULTS_MAX, "too many streams with errors"),
            Spent::Control => (
                &mut self.control,
                CONTROL_FRAMES_MAX.saturating_add(self.answers).saturating_add(self.streams),
                "too many control frames",
            ),
            Spent::Empty => (
                &mut self.empty,
                EMPTY_FRAMES_MAX.saturating_add(self.streams).saturating_add(self.streams),
                "too many frames without content",
            ),
        };
        *count = count.saturating_add(1);
        if *count > max { Err(detail) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(budget: &mut Budget, what: Spent, times: u32) -> u32 {
        (0..times).take_while(|_| budget.spend(what).is_ok()).count().try_into().unwrap()
    }

    #[test]
    fn each_budget_ends_and_comes_back_with_the_next_interval() {
        for (what, max, interval_ms) in [
            (Spent::Reset, RESETS_MAX, RESET_INTERVAL_MS),
            (Spent::Fault, FAULTS_MAX, RESET_INTERVAL_MS),
            (Spent::Control, CONTROL_FRAMES_MAX, CONTROL_INTERVAL_MS),
            (Spent::Empty, EMPTY_FRAMES_MAX, CONTROL_INTERVAL_MS),
        ] {
            let mut budget = Budget::default();
            budget.tick(5);
            assert_eq!(spend(&mut budget, what, max + 1), max, "{what:?}");
            budget.tick(interval_ms - 1);
            assert!(budget.spend(what).is_err(), "{what:?}");
            budget.tick(interval_ms);
            assert!(budget.spend(what).is_ok(), "{what:?}");
        }
    }

    #[test]
    fn a_busy_connection_may_give_up_half_of_its_streams_and_ping_for_each_answer() {
        let mut budget = Budget::default();
        for _ in 0..10_000 {
            budget.opened();
            budget.answered();
        }
        assert_eq!(spend(&mut budget, Spent::Reset, 10_000), 5_000);
        assert_eq!(spend(&mut budget, Spent::Control, 15_000), 15_000);
    }
}

//! What this sidecar can promise here, and what weakens it.
//!
//! One place that the table's owner writes and everybody who reports reads: the controller's connection, the administrative
//! port, the metrics. Said loudly once when it changes, so that nobody relies on more than there is.

use crate::metrics::Metrics;
use bulkhead_api::{Capability, Weakness};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What can be promised; shared.
#[derive(Clone)]
pub struct Posture {
    capability: Capability,
    weaknesses: Arc<Mutex<BTreeSet<Weakness>>>,
    metrics: Arc<Metrics>,
}

impl Posture {
    /// With that capability and nothing that weakens it.
    pub fn new(capability: Capability, metrics: Arc<Metrics>) -> Self {
        metrics.capability_is(capability);
        Self { capability, weaknesses: Arc::default(), metrics }
    }

    /// What can be promised.
    pub fn capability(&self) -> Capability {
        self.capability
    }

    /// What weakens it now.
    pub fn weaknesses(&self) -> BTreeSet<Weakness> {
        self.weaknesses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if traffic that cannot be judged passes, since somebody chose so.
    pub fn fails_open(&self) -> bool {
        self.weaknesses().contains(&Weakness::FailOpen)
    }

    /// Notes whether something weakens the promise; true if that changed.
    pub fn note(&self, weakness: Weakness, weakens: bool) -> bool {
        let mut weaknesses = self.weaknesses.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.weakness_is(weakness, weakens);
        if weakens { weaknesses.insert(weakness) } else { weaknesses.remove(&weakness) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_weakens_the_promise_is_told_until_it_does_not_any_more() {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let posture = Posture::new(Capability::Enforced, metrics.clone());
        let told = || String::from_utf8(metrics.text().expect("text")).expect("UTF-8");
        assert!(told().contains(r#"bulkhead_capability{capability="enforced"} 1"#));
        assert!(posture.note(Weakness::FramesOpen, true) && !posture.note(Weakness::FramesOpen, true));
        assert_eq!(posture.weaknesses(), [Weakness::FramesOpen].into());
        assert!(told().contains(r#"bulkhead_weakness{weakness="frames_open"} 1"#));
        assert!(posture.note(Weakness::FramesOpen, false) && posture.weaknesses().is_empty());
        assert!(told().contains(r#"bulkhead_weakness{weakness="frames_open"} 0"#));
        assert!(!posture.fails_open());
    }
}

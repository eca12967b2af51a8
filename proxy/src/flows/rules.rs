//! What each rule let pass and refused, as metrics: connections or requests, packets, bytes.
//!
//! Which rule it was is written in the kernel's mark of the connection, or said by the session. Series are made when a rule
//! is first used; their number is bounded, and what is beyond is counted together.

use crate::limits::RULE_SERIES_MAX;
use bulkhead_facts::Effect;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Answer, RuleIndex};
use prometheus::{IntCounter, IntCounterVec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Labels of every series, in their order.
pub(crate) const LABELS: [&str; 4] = ["direction", "policy", "rule", "effect"];
/// Instead of a name, where there is none or no room for it.
const NO_RULE: &str = "none";
const OTHERS: &str = "others";

/// What is counted of a rule at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Connections, requests or denied packets.
    pub count: u64,
    /// Packets, both ways; only of what the kernel passes by itself.
    pub packets: u64,
    /// Bytes, both ways.
    pub bytes: u64,
}

/// The series of all rules.
pub struct RuleCounters {
    vectors: [IntCounterVec; 3],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The program whose rule numbers are known.
    revision: u64,
    // Found without a hash: this is asked for each request.
    known: BTreeMap<(Option<RuleIndex>, bool, bool), [IntCounter; 3]>,
    series: BTreeSet<[String; 4]>,
}

impl RuleCounters {
    /// On vectors with [`LABELS`]: counts, packets, bytes.
    pub(crate) fn new(vectors: [IntCounterVec; 3]) -> Self {
        Self { vectors, state: Mutex::default() }
    }

    /// Counts for the rule of an answer of that program.
    pub fn add(&self, judge: &Judge, is_ingress: bool, answer: Answer, passed: Passed) {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = judge.program().revision;
        if state.revision != revision {
            state.revision = revision;
            state.known.clear();
        }
        let allowed = answer.effect == Effect::Allow;
        let counters = state.known.entry((answer.rule, allowed, is_ingress)).or_insert_with(|| {
            let labels = labels(judge, is_ingress, answer, &mut state.series);
            let labels = labels.each_ref().map(String::as_str);
            self.vectors.each_ref().map(|vector| vector.with_label_values(&labels))
        });
        for (counter, more) in counters.iter().zip([passed.count, passed.packets, passed.bytes]) {
            counter.inc_by(more);
        }
    }
}

fn labels(
    judge: &Judge,
    is_ingress: bool,
    answer: Answer,
    series: &mut BTreeSet<[String; 4]>,
) -> [String; 4] {
    let direction = if is_ingress { "ingress" } else { "egress" };
    let of = |policy: String, rule: String| {
        [direction.to_owned(), policy, rule, answer.effect.as_str().to_owned()]
    };
    let named = match answer.rule.map(|rule| judge.rule(rule)) {
        Some(info) => of(info.policy.to_string(), info.rule.clone()),
        None => of(NO_RULE.to_owned(), NO_RULE.to_owned()),
    };
    if series.len() < RULE_SERIES_MAX || series.contains(&named) {
        series.insert(named.clone());
        return named;
    }
    of(OTHERS.to_owned(), OTHERS.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::test_program;
    use bulkhead_policies::program::AnswerId;
    use std::net::Ipv4Addr;

    fn told(metrics: &Metrics, wanted: &str) -> bool {
        String::from_utf8(metrics.text().expect("text")).expect("UTF-8").lines().any(|line| line == wanted)
    }

    #[test]
    fn a_rule_is_counted_under_its_name_whatever_its_number_in_a_program_is() {
        let metrics = Metrics::new().expect("metrics");
        for revision in [1, 2] {
            let database = Ipv4Addr::new(10, 0, 0, 9);
            let judge = Judge::new(test_program::allowing_egress_to(database, revision)).expect("valid");
            let answer = judge.answer(AnswerId(1)).enforced;
            metrics.rules.add(&judge, false, answer, Passed { count: 1, packets: 5, bytes: 700 });
            metrics.rules.add(&judge, false, answer, Passed { count: 0, packets: 1, bytes: 40 });
        }
        let judge = Judge::new(test_program::allowing_nothing(3)).expect("valid");
        let denied = judge.answer(AnswerId(0)).enforced;
        metrics.rules.add(&judge, true, denied, Passed { count: 3, ..Passed::default() });
        let text = String::from_utf8(metrics.text().expect("text")).expect("UTF-8");
        let of = |name: &str, value: u64| {
            text.lines().any(|line| {
                line.starts_with(name) && line.contains("egress") && line.ends_with(&format!(" {value}"))
            })
        };
        assert!(of("bulkhead_rule_connections_total", 2), "{text}");
        assert!(of("bulkhead_rule_packets_total", 12), "{text}");
        assert!(of("bulkhead_rule_bytes_total", 1480), "{text}");
        let nobody = r#"bulkhead_rule_connections_total{direction="ingress",effect="deny",policy="none",rule="none"} 3"#;
        assert!(told(&metrics, nobody), "{text}");
    }

    #[test]
    fn rules_beyond_the_limit_are_counted_together() {
        let judge = Judge::new(test_program::allowing_nothing(1)).expect("valid");
        let denied = judge.answer(AnswerId(0)).enforced;
        let mut series: BTreeSet<[String; 4]> = (0..RULE_SERIES_MAX)
            .map(|number| [number.to_string(), String::new(), String::new(), String::new()])
            .collect();
        assert_eq!(labels(&judge, true, denied, &mut series)[1..3], [OTHERS, OTHERS]);
        assert_eq!(series.len(), RULE_SERIES_MAX);
    }
}

//! What the rules that match at layer 4 come to: an answer, or stages that the bytes decide.

use super::lineup::{Bytes, LineRule, Lineup, Version};
use crate::model::RuleAction;
use crate::program::{Answer, RuleIndex};
use bulkhead_facts::{Effect, L4Protocol, Reason, Tier};

/// What holds in one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Plan {
    /// Empty if no bytes can change the effect: then `end` holds.
    pub(crate) stages: Vec<Vec<PlanEntry>>,
    /// Holds where no stage decides.
    pub(crate) end: Answer,
}

/// One rule of a stage, by its position in the line-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PlanEntry {
    /// Position in [`Lineup::rules`].
    pub(crate) rule: u32,
    /// `None` is pass.
    pub(crate) effect: Option<Effect>,
    /// True if its section has to match as well.
    pub(crate) conditional: bool,
}

/// How a tier ends.
enum Outcome {
    /// A rule without L7 section decides, whatever the bytes.
    Decided(Answer),
    /// The next tier is asked where no entry matched.
    Open,
}

impl Plan {
    /// The answer, if no bytes can change the effect.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.stages.is_empty().then_some(self.end)
    }

    /// The answer for bytes that cannot be read: a deny matches, an allow and a pass do not.
    pub(crate) fn opaque_answer(&self, lineup: &Lineup<'_>) -> Answer {
        if let Some(answer) = self.answer() {
            return answer;
        }
        for stage in &self.stages {
            let first = stage.iter().find(|entry| {
                let rule = &lineup.rules[entry.rule as usize];
                !entry.conditional || entry.effect == Some(Effect::Deny) || rule.takes_unread()
            });
            if let Some((entry, effect)) = first.and_then(|entry| Some((entry, entry.effect?))) {
                return decided(lineup.rules[entry.rule as usize].index, effect);
            }
        }
        match self.end.reason {
            Reason::L7Mismatch => Answer { reason: Reason::ProtocolMismatch, ..self.end },
            _ => self.end,
        }
    }
}

/// The answer of a rule that matches.
pub(crate) fn decided(rule: RuleIndex, effect: Effect) -> Answer {
    let reason = match effect {
        Effect::Allow => Reason::AllowedByRule,
        Effect::Deny => Reason::DeniedByRule,
    };
    Answer { effect, rule: Some(rule), reason }
}

/// Evaluates the tiers over the rules that match (positions in the line-up, ascending). A section cannot be decided on
/// a protocol that what it speaks of does not run on.
pub(crate) fn plan(lineup: &Lineup<'_>, matching: &[u32], version: Version, protocol: L4Protocol) -> Plan {
    let mut stages: Vec<Vec<PlanEntry>> = Vec::new();
    let mut mismatch = None;
    for tier in [Tier::Admin, Tier::Infrastructure, Tier::Namespace, Tier::Baseline] {
        let rules = matching.iter().map(|at| (*at, &lineup.rules[*at as usize]));
        let rules = rules.filter(|(_, rule)| rule.tier == tier && rule.counts[version as usize]);
        let mut stage = Vec::new();
        let mut outcome = match tier {
            Tier::Namespace => union(rules, protocol, &mut stage),
            Tier::Admin | Tier::Infrastructure | Tier::Baseline | Tier::Default => {
                in_order(rules, protocol, &mut stage)
            }
        };
        if tier == Tier::Namespace {
            mismatch = stage.first().map(|entry| lineup.rules[entry.rule as usize].index);
            if matches!(outcome, Outcome::Open) && lineup.isolated[version as usize] {
                outcome = Outcome::Decided(denied(mismatch));
            }
        }
        if !stage.is_empty() {
            stages.push(stage);
        }
        if let Outcome::Decided(end) = outcome {
            return reduced(lineup, stages, end);
        }
    }
    let open = Answer { effect: Effect::Allow, rule: None, reason: Reason::NotIsolated };
    let end = if lineup.open[version as usize] { open } else { denied(mismatch) };
    reduced(lineup, stages, end)
}

/// Nothing allows; where a rule would have allowed another request, it is named.
fn denied(mismatch: Option<RuleIndex>) -> Answer {
    let reason = if mismatch.is_some() { Reason::L7Mismatch } else { Reason::NoRule };
    Answer { effect: Effect::Deny, rule: mismatch, reason }
}

/// The first match decides.
fn in_order<'a>(
    rules: impl Iterator<Item = (u32, &'a LineRule<'a>)>,
    protocol: L4Protocol,
    stage: &mut Vec<PlanEntry>,
) -> Outcome {
    for (at, rule) in rules {
        let effect = rule.action.effect();
        match rule.bytes(protocol) {
            Bytes::Undecidable if rule.action != RuleAction::Deny => continue,
            Bytes::Decide => {
                stage.push(PlanEntry { rule: at, effect, conditional: true });
                continue;
            }
            Bytes::Undecidable | Bytes::Any => {}
        }
        let Some(effect) = effect else { break };
        if stage.iter().all(|entry| entry.effect.is_some()) {
            return Outcome::Decided(decided(rule.index, effect));
        }
        // A request that an earlier rule passes on leaves the tier before it gets here.
        stage.push(PlanEntry { rule: at, effect: Some(effect), conditional: false });
        return Outcome::Open;
    }
    while stage.last().is_some_and(|entry| entry.effect.is_none()) {
        stage.pop();
    }
    Outcome::Open
}

/// Allows are a union: one without L7 section makes all others moot.
fn union<'a>(
    rules: impl Iterator<Item = (u32, &'a LineRule<'a>)>,
    protocol: L4Protocol,
    stage: &mut Vec<PlanEntry>,
) -> Outcome {
    for (at, rule) in rules.filter(|(_, rule)| rule.action == RuleAction::Allow) {
        match rule.bytes(protocol) {
            Bytes::Any => {
                stage.clear();
                return Outcome::Decided(decided(rule.index, Effect::Allow));
            }
            Bytes::Decide => {
                stage.push(PlanEntry { rule: at, effect: Some(Effect::Allow), conditional: true })
            }
            Bytes::Undecidable => {}
        }
    }
    Outcome::Open
}

/// Drops the stages if every way through them has the same effect; then the answer is that of a request which no
/// section matches.
fn reduced(lineup: &Lineup<'_>, stages: Vec<Vec<PlanEntry>>, end: Answer) -> Plan {
    let effects = stages.iter().flatten().filter_map(|entry| entry.effect);
    if !effects.into_iter().all(|effect| effect == end.effect) {
        return Plan { stages, end };
    }
    let takes_unread = |entry: &PlanEntry| lineup.rules[entry.rule as usize].takes_unread();
    let plain = stages.iter().flatten().find(|entry| !entry.conditional || takes_unread(entry));
    let answer =
        plain.and_then(|entry| Some(decided(lineup.rules[entry.rule as usize].index, entry.effect?)));
    Plan { stages: Vec::new(), end: answer.unwrap_or(end) }
}

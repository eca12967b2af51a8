//! Which program a mark belongs to, and what it says.
//!
//! A flow keeps the mark of the program that admitted it until its next packet after a reload; what is logged or
//! counted meanwhile is answered by that program. Shared between the table's owner and the readers.

use super::limits::PROGRAMS_REMEMBERED_MAX;
use super::mark::{Class, Guard, Mark};
use bulkhead_facts::{Effect, Reason};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Answer, AnswerPair};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

/// Remembers the programs of recent generations.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    programs: Arc<RwLock<Programs>>,
}

/// Generations with their programs, oldest first.
type Programs = VecDeque<(u16, Arc<Judge>)>;

/// What a mark says.
#[derive(Clone, Debug)]
pub struct MarkedAnswer {
    /// The mark, taken apart.
    pub mark: Mark,
    /// The pair that it names.
    pub answers: AnswerPair,
    /// The program that it belongs to; `None` for a guard of the table.
    pub judge: Option<Arc<Judge>>,
}

impl Answers {
    /// What the mark of a connection or of a denied packet says; `None` if its program is no longer known or it
    /// belongs to the sidecar's own conversations.
    pub fn of(&self, bits: u32) -> Option<MarkedAnswer> {
        let mark = Mark::of(bits)?;
        if mark.generation == 0 {
            let answers = denied(Guard::of(bits)?.reason());
            return Some(MarkedAnswer { mark, answers, judge: None });
        }
        let judge = self.judge(mark.generation)?;
        let mut answers = judge.answer(mark.answer);
        if mark.class == Class::TierChanged {
            let cut = |answer: Answer| Answer { effect: Effect::Deny, reason: Reason::TierChanged, ..answer };
            answers = AnswerPair { enforced: cut(answers.enforced), shadow: cut(answers.shadow) };
        }
        Some(MarkedAnswer { mark, answers, judge: Some(judge) })
    }

    /// The program of a generation, if it is still known.
    pub fn judge(&self, generation: u16) -> Option<Arc<Judge>> {
        let programs = self.programs.read().unwrap_or_else(PoisonError::into_inner);
        programs.iter().find(|(known, _)| *known == generation).map(|(_, judge)| judge.clone())
    }

    pub(crate) fn remember(&self, generation: u16, judge: Arc<Judge>) {
        let mut programs = self.programs.write().unwrap_or_else(PoisonError::into_inner);
        programs.retain(|(known, _)| *known != generation);
        programs.push_back((generation, judge));
        while programs.len() > PROGRAMS_REMEMBERED_MAX {
            programs.pop_front();
        }
    }

    /// Every generation but the newest.
    pub(super) fn replaced(&self) -> Vec<u16> {
        let programs = self.programs.read().unwrap_or_else(PoisonError::into_inner);
        let mut generations: Vec<u16> = programs.iter().map(|(generation, _)| *generation).collect();
        generations.pop();
        generations
    }

    pub(super) fn forget(&self, generation: u16) {
        let mut programs = self.programs.write().unwrap_or_else(PoisonError::into_inner);
        programs.retain(|(known, _)| *known != generation);
    }
}

fn denied(reason: Reason) -> AnswerPair {
    let answer = Answer { effect: Effect::Deny, rule: None, reason };
    AnswerPair { enforced: answer, shadow: answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_program;
    use bulkhead_policies::program::AnswerId;

    #[test]
    fn a_mark_is_answered_by_its_own_program_even_after_a_reload() {
        let answers = Answers::default();
        let judge = |revision| Arc::new(Judge::new(test_program::allowing_nothing(revision)).expect("valid"));
        answers.remember(4095, judge(8));
        answers.remember(1, judge(9));
        let revision = |generation| {
            let mark = Mark { generation, class: Class::Denied, answer: AnswerId(0) };
            answers.of(mark.bits()).and_then(|found| found.judge).map(|judge| judge.program().revision)
        };
        assert_eq!((revision(4095), revision(1), revision(2)), (Some(8), Some(9), None));
        assert_eq!(answers.replaced(), [4095]);
    }

    #[test]
    fn a_flow_that_had_to_be_cut_says_that_its_tier_changed() {
        let answers = Answers::default();
        answers.remember(3, Arc::new(Judge::new(test_program::allowing_nothing(1)).expect("valid")));
        let mark = Mark { generation: 3, class: Class::TierChanged, answer: AnswerId(0) };
        assert_eq!(answers.of(mark.bits()).expect("known").answers.enforced.reason, Reason::TierChanged);
    }

    #[test]
    fn guards_answer_without_a_program_and_own_conversations_not_at_all() {
        let answers = Answers::default();
        let found = answers.of(Guard::SpoofedSource.bits()).expect("known");
        assert_eq!(found.answers.enforced.reason, Reason::SpoofedSource);
        assert!(answers.of(Mark::LOCAL_LEG).is_none() && answers.of(0).is_none());
    }
}

//! Answers and chains of a program, each kept once.

use super::evaluate::{Plan, PlanEntry};
use super::lineup::Lineup;
use crate::limits::{ANSWERS_MAX, CHAIN_ENTRIES_MAX, CHAINS_MAX, CHOICE_ENDPOINTS_MAX, CHOICES_MAX};
use crate::model::L7Section;
use crate::program::{
    Action, Answer, AnswerId, AnswerPair, Choice, ChoiceId, Endpoint, L7Chain, L7ChainId, L7Entry, L7Stage,
};
use bulkhead_facts::{Direction, Effect, Reason};
use std::collections::HashMap;
use std::net::IpAddr;

/// A limit that a program went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// What there is too much of.
    pub(crate) what: &'static str,
    /// The limit.
    pub(crate) limit: usize,
}

/// What is found where no box matches.
pub(crate) const NOTHING: Answer = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };

/// Answers and chains so far.
pub(crate) struct Interner {
    /// Pairs by id; the first is what holds where nothing matches.
    pub(crate) answers: Vec<AnswerPair>,
    /// Chains by id.
    pub(crate) chains: Vec<L7Chain>,
    /// Choices by id.
    pub(crate) choices: Vec<Choice>,
    answer_ids: HashMap<AnswerPair, AnswerId>,
    chain_ids: HashMap<(Direction, Plan, Plan), L7ChainId>,
    choice_ids: HashMap<Choice, ChoiceId>,
    endpoints: usize,
}

impl Interner {
    pub(crate) fn new() -> Self {
        let mut interner = Self {
            answers: Vec::new(),
            chains: Vec::new(),
            choices: Vec::new(),
            answer_ids: HashMap::new(),
            chain_ids: HashMap::new(),
            choice_ids: HashMap::new(),
            endpoints: 0,
        };
        let nothing = AnswerPair { enforced: NOTHING, shadow: NOTHING };
        interner.answers.push(nothing);
        interner.answer_ids.insert(nothing, AnswerId(0));
        interner
    }

    /// The action for a pair of plans; `learn` where the bytes of an allowed flow are to be learned from.
    pub(crate) fn action(
        &mut self,
        lineup: &Lineup<'_>,
        enforced: Plan,
        shadow: Plan,
        learn: bool,
    ) -> Result<Action, TooMany> {
        let opaque =
            AnswerPair { enforced: enforced.opaque_answer(lineup), shadow: shadow.opaque_answer(lineup) };
        let denied = enforced.answer().is_some_and(|answer| answer.effect == Effect::Deny);
        let fixed = enforced.answer().is_some() && shadow.answer().is_some();
        // What the kernel denies shows no bytes, so its shadow answer is the one for unreadable bytes.
        if denied || fixed {
            let id = self.answer(opaque)?;
            return Ok(if learn && !denied { Action::Learn(id) } else { Action::Answer(id) });
        }
        let opaque = self.answer(opaque)?;
        Ok(Action::Inspect { chain: self.chain(lineup, enforced, shadow)?, opaque })
    }

    /// The action for a Service that is led to one of these endpoints. `otherwise` denies.
    pub(crate) fn choice(
        &mut self,
        lineup: &Lineup<'_>,
        endpoints: Vec<((IpAddr, u16), [Plan; 2])>,
        [denied, shadow]: [Plan; 2],
        learn: bool,
    ) -> Result<Action, TooMany> {
        let otherwise =
            self.answer(AnswerPair { enforced: denied.end, shadow: shadow.opaque_answer(lineup) })?;
        let endpoints = endpoints.into_iter().map(|((address, port), [enforced, shadow])| {
            let action = self.action(lineup, enforced, shadow, learn)?;
            Ok(Endpoint { address, port, action })
        });
        let choice = Choice { endpoints: endpoints.collect::<Result<_, _>>()? };
        if let Some(choice) = self.choice_ids.get(&choice) {
            return Ok(Action::Choose { choice: *choice, otherwise });
        }
        self.endpoints += choice.endpoints.len();
        if self.endpoints > CHOICE_ENDPOINTS_MAX {
            return Err(TooMany {
                what: "endpoints of Services to choose from",
                limit: CHOICE_ENDPOINTS_MAX,
            });
        }
        if self.choices.len() >= CHOICES_MAX {
            return Err(TooMany { what: "Services with endpoints to choose from", limit: CHOICES_MAX });
        }
        let id = ChoiceId(u32::try_from(self.choices.len()).unwrap_or(u32::MAX));
        self.choices.push(choice.clone());
        self.choice_ids.insert(choice, id);
        Ok(Action::Choose { choice: id, otherwise })
    }

    fn answer(&mut self, pair: AnswerPair) -> Result<AnswerId, TooMany> {
        if let Some(id) = self.answer_ids.get(&pair) {
            return Ok(*id);
        }
        let too_many = TooMany { what: "answers", limit: ANSWERS_MAX };
        let id = AnswerId(u16::try_from(self.answers.len()).map_err(|_| too_many)?);
        self.answers.push(pair);
        self.answer_ids.insert(pair, id);
        Ok(id)
    }

    fn chain(&mut self, lineup: &Lineup<'_>, enforced: Plan, shadow: Plan) -> Result<L7ChainId, TooMany> {
        let key = (lineup.direction, enforced, shadow);
        if let Some(id) = self.chain_ids.get(&key) {
            return Ok(*id);
        }
        let (_, enforced, shadow) = &key;
        let end = self.answer(AnswerPair { enforced: enforced.end, shadow: shadow.end })?;
        let shadow = match (enforced == shadow, &shadow.stages[..]) {
            (true, _) => Vec::new(),
            (false, []) => vec![L7Stage::default()],
            (false, _) => stages(lineup, shadow),
        };
        let chain = L7Chain { enforced: stages(lineup, enforced), shadow, end };
        let entries: usize =
            chain.enforced.iter().chain(&chain.shadow).map(|stage| stage.entries.len()).sum();
        if entries > CHAIN_ENTRIES_MAX {
            return Err(TooMany { what: "entries in a layer-7 chain", limit: CHAIN_ENTRIES_MAX });
        }
        if self.chains.len() >= CHAINS_MAX {
            return Err(TooMany { what: "layer-7 chains", limit: CHAINS_MAX });
        }
        let id = L7ChainId(u32::try_from(self.chains.len()).unwrap_or(u32::MAX));
        self.chains.push(chain);
        self.chain_ids.insert(key, id);
        Ok(id)
    }
}

fn stages(lineup: &Lineup<'_>, plan: &Plan) -> Vec<L7Stage> {
    let entries = |entry: &PlanEntry| {
        let rule = &lineup.rules[entry.rule as usize];
        let sections = match &rule.by_name {
            _ if !entry.conditional => Vec::new(),
            Some(named) => named.sections.iter().collect(),
            None => rule.section.into_iter().collect(),
        };
        // Alternatives have no order of their own; sorted, equal rules give equal bytes.
        let entry = |section: Option<L7Section>| L7Entry { rule: rule.index, effect: entry.effect, section };
        match &sections[..] {
            [] => vec![entry(None)],
            sections => sections.iter().map(|section| entry(Some(section.sorted()))).collect(),
        }
    };
    plan.stages.iter().map(|stage| L7Stage { entries: stage.iter().flat_map(entries).collect() }).collect()
}

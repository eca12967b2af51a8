//! Numbers that last: a program whose classes, answers and chains have the numbers that the one before gave to the same.
//!
//! The compiler numbers by first appearance, so one more address can move every number though nothing else is different.
//! Where the one before is in force already, numbers that stay keep what hangs on them: elements of the kernel's maps, marks of
//! open connections. Only names change hands; what is decided is the same.

use super::{
    Action, AnswerId, AnswerPair, ClassId, DirectionProgram, L7Chain, L7ChainId, PortBox, Program, RuleIndex,
};
use crate::limits::{ANSWERS_MAX, CHAINS_MAX, CLASSES_MAX};
use bulkhead_facts::{Direction, L4Protocol, PortRange};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a program may carry along that only programs before it used: as much as its own, and this. More: it keeps its own
/// numbers.
const CARRIED_ALONG: usize = 256;

impl Program {
    /// The same program with the numbers of the one before. It then holds every answer and chain of that one, used or
    /// not. As it is if its rules are others, if it would have to carry too much along, or if it names what it does not hold.
    pub fn numbered_like(self, before: &Self) -> Self {
        if !self.rules.starts_with(&before.rules) {
            return self;
        }
        match Numbers::of(&self, before) {
            Some(numbers) => numbers.renumbered(self),
            None => self,
        }
    }
}

/// By number in the new program: its number.
struct Numbers {
    answers: Vec<AnswerPair>,
    answer_ids: Vec<AnswerId>,
    chains: Vec<L7Chain>,
    chain_ids: Vec<L7ChainId>,
    /// Of ingress and egress.
    classes: [HashMap<ClassId, ClassId>; 2],
}

/// What a class may do.
type Shape = Vec<(L4Protocol, L4Protocol, PortRange, Action)>;

impl Numbers {
    fn of(new: &Program, before: &Program) -> Option<Self> {
        let mut answers = before.answers.clone();
        let mut known: HashMap<AnswerPair, AnswerId> = HashMap::new();
        for (id, pair) in (0u16..=u16::MAX).map(AnswerId).zip(&answers) {
            known.entry(*pair).or_insert(id);
        }
        let mut answer_ids = Vec::with_capacity(new.answers.len());
        for pair in &new.answers {
            let id = match known.get(pair) {
                Some(id) => *id,
                None => {
                    let id = AnswerId(u16::try_from(answers.len()).ok()?);
                    answers.push(*pair);
                    known.insert(*pair, id);
                    id
                }
            };
            answer_ids.push(id);
        }
        // What holds where nothing matches is the first of every program.
        let fits = |all: usize, own: usize, most: usize| all <= most && all <= 2 * own + CARRIED_ALONG;
        if answer_ids.first() != Some(&AnswerId(0)) || !fits(answers.len(), new.answers.len(), ANSWERS_MAX) {
            return None;
        }
        let (chains, chain_ids) = chains(new, before, &answer_ids)?;
        if !fits(chains.len(), new.l7_chains.len(), CHAINS_MAX) {
            return None;
        }
        let mut numbers = Self { answers, answer_ids, chains, chain_ids, classes: Default::default() };
        for (at, direction) in Direction::BOTH.into_iter().enumerate() {
            numbers.classes[at] = numbers.classes(new.direction(direction), before.direction(direction))?;
        }
        let chosen = new.choices.iter().flat_map(|choice| &choice.endpoints);
        chosen.map(|endpoint| numbers.action(endpoint.action)).collect::<Option<Vec<_>>>()?;
        Some(numbers)
    }

    fn classes(
        &self,
        new: &DirectionProgram,
        before: &DirectionProgram,
    ) -> Option<HashMap<ClassId, ClassId>> {
        let mut by_shape: HashMap<Shape, Vec<ClassId>> = HashMap::new();
        let shapes = shapes(before, Some)?;
        let mut next = shapes.keys().next_back().map_or(0, |class| class.0 + 1).max(1);
        for (class, shape) in shapes.into_iter().rev() {
            by_shape.entry(shape).or_default().push(class);
        }
        let mut classes = HashMap::new();
        for (class, shape) in self::shapes(new, |action| self.action(action))? {
            // Each number is given once, even where two classes may do the same.
            let number = by_shape.get_mut(&shape).and_then(Vec::pop).unwrap_or_else(|| {
                next += 1;
                ClassId(next - 1)
            });
            classes.insert(class, number);
        }
        (next as usize <= CLASSES_MAX).then_some(classes)
    }

    fn action(&self, action: Action) -> Option<Action> {
        let answer = |id: AnswerId| self.answer_ids.get(usize::from(id.0)).copied();
        Some(match action {
            Action::Answer(id) => Action::Answer(answer(id)?),
            Action::Learn(id) => Action::Learn(answer(id)?),
            Action::Inspect { chain, opaque } => {
                let chain = *self.chain_ids.get(chain.0 as usize)?;
                Action::Inspect { chain, opaque: answer(opaque)? }
            }
            // Which endpoints one is chosen from is nothing that hangs on a number.
            Action::Choose { choice, otherwise } => Action::Choose { choice, otherwise: answer(otherwise)? },
        })
    }

    fn renumbered(self, mut program: Program) -> Program {
        let [ingress, egress] = &self.classes;
        self.renumber(&mut program.ingress, ingress);
        self.renumber(&mut program.egress, egress);
        for endpoint in program.choices.iter_mut().flat_map(|choice| &mut choice.endpoints) {
            endpoint.action = self.action(endpoint.action).unwrap_or(endpoint.action);
        }
        Program { answers: self.answers, l7_chains: self.chains, ..program }
    }

    fn renumber(&self, tables: &mut DirectionProgram, classes: &HashMap<ClassId, ClassId>) {
        let number = |class: &mut ClassId| *class = classes.get(class).copied().unwrap_or(*class);
        tables.v4.iter_mut().for_each(|span| number(&mut span.class));
        tables.v6.iter_mut().for_each(|span| number(&mut span.class));
        for one in &mut tables.boxes {
            number(&mut one.class);
            one.action = self.action(one.action).unwrap_or(one.action);
        }
        // Within a class they are in order already.
        tables.boxes.sort_by_key(|one| one.class);
        for named in &mut tables.named {
            number(&mut named.class);
            named.base.iter_mut().for_each(number);
        }
        tables.named.sort_unstable();
    }
}

/// All chains, those of before first, and which of them each new one is.
/// `None` if one ends in an answer that there is not.
fn chains(new: &Program, before: &Program, answers: &[AnswerId]) -> Option<(Vec<L7Chain>, Vec<L7ChainId>)> {
    let mut chains = before.l7_chains.clone();
    let mut alike: HashMap<(AnswerId, Vec<RuleIndex>), Vec<usize>> = HashMap::new();
    for (at, chain) in chains.iter().enumerate() {
        alike.entry(likeness(chain)).or_default().push(at);
    }
    let mut ids = Vec::with_capacity(new.l7_chains.len());
    for chain in &new.l7_chains {
        let end = *answers.get(usize::from(chain.end.0))?;
        let chain = L7Chain { end, ..chain.clone() };
        let near = alike.entry(likeness(&chain)).or_default();
        let at = near.iter().copied().find(|at| chains[*at] == chain).unwrap_or_else(|| {
            near.push(chains.len());
            chains.push(chain);
            chains.len() - 1
        });
        ids.push(L7ChainId(u32::try_from(at).unwrap_or(u32::MAX)));
    }
    Some((chains, ids))
}

/// What equal chains have in common, and most others not.
fn likeness(chain: &L7Chain) -> (AnswerId, Vec<RuleIndex>) {
    let entries = chain.enforced.iter().chain(&chain.shadow).flat_map(|stage| &stage.entries);
    (chain.end, entries.map(|entry| entry.rule).collect())
}

/// What each class may do that anything belongs to; nothing for one without boxes.
fn shapes(
    tables: &DirectionProgram,
    action: impl Fn(Action) -> Option<Action>,
) -> Option<BTreeMap<ClassId, Shape>> {
    let spans = tables.v4.iter().map(|span| span.class).chain(tables.v6.iter().map(|span| span.class));
    let named = tables.named.iter().flat_map(|named| [Some(named.class), named.base]).flatten();
    let used: BTreeSet<ClassId> = spans.chain(named).chain(tables.boxes.iter().map(|b| b.class)).collect();
    let mut shapes: BTreeMap<ClassId, Shape> = used.into_iter().map(|class| (class, Vec::new())).collect();
    for PortBox { class, protocol_first, protocol_last, ports, action: does } in &tables.boxes {
        let shape = shapes.entry(*class).or_default();
        shape.push((*protocol_first, *protocol_last, *ports, action(*does)?));
    }
    Some(shapes)
}

#[cfg(test)]
mod tests;

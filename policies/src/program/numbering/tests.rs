//! A program with the numbers of another one decides what it decided, whatever the other one is.

use super::*;
use crate::compile::Compiler;
use crate::decide::Judge;
use crate::inventory::{Inventory, ObjectName};
use crate::naive::random::{self, Random};
use crate::program::{AddressSpan, Endpoint, NamedClass};
use bulkhead_facts::IpFamily;
use std::net::IpAddr;

const SEEDS: u64 = 40;
const STEPS: usize = 12;

/// An action with all that its numbers stand for.
#[derive(Debug, PartialEq)]
enum Meaning {
    Answer(AnswerPair),
    Learn(AnswerPair),
    Inspect(L7Chain, AnswerPair, AnswerPair),
    Choose(Vec<(IpAddr, u16, Meaning)>, AnswerPair),
}

fn meaning(judge: &Judge, action: Action) -> Meaning {
    match action {
        Action::Answer(id) => Meaning::Answer(judge.answer(id)),
        Action::Learn(id) => Meaning::Learn(judge.answer(id)),
        Action::Inspect { chain, opaque } => {
            let chain = judge.program().l7_chains[chain.0 as usize].clone();
            let end = judge.answer(chain.end);
            Meaning::Inspect(L7Chain { end: AnswerId(0), ..chain }, end, judge.answer(opaque))
        }
        Action::Choose { choice, otherwise } => {
            let all = judge.choice(choice).iter();
            let of = |at: &Endpoint| (at.address, at.port, meaning(judge, at.action));
            Meaning::Choose(all.map(of).collect(), judge.answer(otherwise))
        }
    }
}

/// Fails if the two decide differently anywhere: at every edge of a span, with every edge of a box.
fn expect_same(one: &Judge, other: &Judge, seed: u64) {
    for direction in Direction::BOTH {
        let tables = one.program().direction(direction);
        let both = [tables, other.program().direction(direction)];
        let v4 =
            both.into_iter().flat_map(|t| &t.v4).flat_map(|s| around(s.first, s.last, |a| a.checked_add(1)));
        let v6 =
            both.into_iter().flat_map(|t| &t.v6).flat_map(|s| around(s.first, s.last, |a| a.checked_add(1)));
        let peers: BTreeSet<IpAddr> =
            v4.map(|a| IpAddr::V4(a.into())).chain(v6.map(|a| IpAddr::V6(a.into()))).collect();
        let boxes = both.into_iter().flat_map(|t| &t.boxes);
        let asked: BTreeSet<(L4Protocol, u16)> = boxes
            .flat_map(|b| [(b.protocol_first, b.ports.first()), (b.protocol_last, b.ports.last())])
            .collect();
        for peer in peers {
            for (protocol, port) in &asked {
                let of = |judge: &Judge| meaning(judge, judge.action(direction, peer, *protocol, *port));
                assert_eq!(of(one), of(other), "seed {seed}: {direction} {peer} {protocol:?} {port}");
            }
        }
    }
}

fn around<A: Copy>(first: A, last: A, next: impl Fn(A) -> Option<A>) -> Vec<A> {
    [Some(first), Some(last), next(last)].into_iter().flatten().collect()
}

fn compiled(set: &crate::model::PolicySet, inventory: &Inventory) -> Vec<(ObjectName, Program)> {
    let Ok(compiler) = Compiler::new(set, inventory) else { return Vec::new() };
    let Ok(groups) = compiler.programs(1) else { return Vec::new() };
    groups.into_iter().filter_map(|group| Some((group.pods.first()?.clone(), group.program))).collect()
}

#[test]
fn a_program_with_the_numbers_of_another_decides_as_before() {
    let mut renumbered = 0;
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let (set, mut inventory) = (random::policy_set(&mut random), random::inventory(&mut random));
        let mut in_force: BTreeMap<ObjectName, Program> = BTreeMap::new();
        for _ in 0..STEPS {
            for (pod, program) in compiled(&set, &inventory) {
                let own = Judge::new(program.clone()).expect("valid");
                let numbered = match in_force.get(&pod) {
                    Some(before) => program.clone().numbered_like(before),
                    None => program.clone(),
                };
                renumbered += u32::from(numbered != program);
                let judge = Judge::new(numbered.clone()).expect("valid with other numbers");
                expect_same(&own, &judge, seed);
                in_force.insert(pod, numbered);
            }
            let other = random::inventory(&mut random);
            let pods: Vec<_> = other.pods.into_iter().collect();
            let (name, pod) = pods[random.below(pods.len())].clone();
            match random.once_in(3) {
                true => drop(inventory.pods.remove(&name)),
                false => drop(inventory.pods.insert(name, pod)),
            }
        }
    }
    assert!(renumbered > 100, "only {renumbered} programs got other numbers");
}

fn one_span(class: u32) -> Vec<AddressSpan<u32>> {
    vec![AddressSpan { first: class, last: class, class: ClassId(class) }]
}

fn program(boxes: &[(u32, u16)], answers: &[Option<u32>]) -> Program {
    use bulkhead_facts::{Effect, Mode, PolicyRef, Reason, Tier, WorkloadRef};
    let answer = |rule: &Option<u32>| {
        let effect = if rule.is_some() { Effect::Allow } else { Effect::Deny };
        let reason = if rule.is_some() { Reason::AllowedByRule } else { Reason::NoRule };
        let answer = crate::program::Answer { effect, rule: rule.map(RuleIndex), reason };
        AnswerPair { enforced: answer, shadow: answer }
    };
    let rule = |name: &str| crate::program::RuleInfo {
        tier: Tier::Namespace,
        policy: PolicyRef { kind: "SegmentPolicy".into(), namespace: Some("shop".into()), name: "p".into() },
        rule: name.into(),
        direction: Direction::Egress,
    };
    let boxes = boxes.iter().map(|(class, answer)| PortBox {
        class: ClassId(*class),
        protocol_first: L4Protocol::TCP,
        protocol_last: L4Protocol::TCP,
        ports: PortRange::ALL,
        action: Action::Answer(AnswerId(*answer)),
    });
    let boxes: Vec<_> = boxes.collect();
    Program {
        revision: 1,
        workload: WorkloadRef { namespace: "shop".into(), name: "pod".into() },
        collection: None,
        mode: Mode::Enforce,
        rules: vec![rule("a"), rule("b")],
        answers: answers.iter().map(answer).collect(),
        l7_chains: vec![],
        ingress: DirectionProgram::default(),
        egress: DirectionProgram {
            v4: boxes.iter().flat_map(|b| one_span(b.class.0)).collect(),
            boxes,
            ..DirectionProgram::default()
        },
        names: vec![],
        choices: vec![],
    }
}

#[test]
fn what_stays_keeps_its_number_and_what_comes_gets_one_that_was_not_given() {
    let before = program(&[(1, 1), (2, 2)], &[None, Some(0), Some(1)]);
    // The same two classes in the other order, and a third.
    let after = program(&[(1, 1), (2, 2), (3, 0)], &[None, Some(1), Some(0)]).numbered_like(&before);
    assert_eq!(after.answers, before.answers);
    let classes: Vec<_> = after.egress.boxes.iter().map(|b| (b.class.0, b.action)).collect();
    let answer = |id| Action::Answer(AnswerId(id));
    assert_eq!(classes, [(1, answer(1)), (2, answer(2)), (3, answer(0))]);
    let spans: Vec<_> = after.egress.v4.iter().map(|span| (span.first, span.class.0)).collect();
    assert_eq!(spans, [(1, 2), (2, 1), (3, 3)]);
}

#[test]
fn two_classes_that_may_do_the_same_stay_two() {
    let before = program(&[(1, 1)], &[None, Some(0)]);
    let mut after = program(&[(1, 1), (2, 1)], &[None, Some(0)]);
    let named = |base, class| NamedClass {
        family: IpFamily::V4,
        base: Some(ClassId(base)),
        rules: vec![RuleIndex(0)],
        class: ClassId(class),
    };
    after.egress.named = vec![named(1, 2), named(2, 1)];
    let after = after.numbered_like(&before);
    assert!(Judge::new(after.clone()).is_ok());
    assert_eq!(after.egress.named, [named(1, 2), named(2, 1)]);
}

#[test]
fn other_rules_and_too_much_to_carry_along_keep_their_own_numbers() {
    let before = program(&[(1, 1)], &[None, Some(0), Some(1)]);
    let mut other = program(&[(1, 1)], &[None, Some(1)]);
    other.rules[0].rule = "c".into();
    assert_eq!(other.clone().numbered_like(&before), other);
    let mut crowded = before;
    let carried = crowded.answers[1];
    crowded.answers.extend((0..2 * CARRIED_ALONG).map(|_| carried));
    let small = program(&[(1, 1)], &[None, Some(1)]);
    assert_eq!(small.clone().numbered_like(&crowded), small);
}

/// Another program's answers and chains come along: what is not there must not be found among those.
#[test]
fn a_program_that_names_what_it_does_not_hold_is_refused_with_other_numbers_too() {
    let mut before = program(&[(1, 1)], &[None, Some(0), Some(1)]);
    before.l7_chains = vec![L7Chain { end: AnswerId(2), ..L7Chain::default() }];
    type Spoiling = fn(&mut Program);
    let cases: [(&str, Spoiling); 3] = [
        ("an answer of a box", |p| p.egress.boxes[0].action = Action::Answer(AnswerId(2))),
        ("the end of a chain", |p| p.l7_chains = vec![L7Chain { end: AnswerId(2), ..L7Chain::default() }]),
        ("an answer at an endpoint", |p| {
            let address = "10.0.0.2".parse().expect("an address");
            let endpoints = vec![Endpoint { address, port: 80, action: Action::Answer(AnswerId(2)) }];
            p.choices = vec![crate::program::Choice { endpoints }];
        }),
    ];
    for (case, spoil) in cases {
        let mut after = program(&[(1, 1)], &[None, Some(0)]);
        assert!(Judge::new(after.clone().numbered_like(&before)).is_ok(), "{case}: before it is spoilt");
        spoil(&mut after);
        assert!(Judge::new(after.clone()).is_err(), "{case}");
        assert!(Judge::new(after.numbered_like(&before)).is_err(), "{case}: with the numbers of another");
    }
}

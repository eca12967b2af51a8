//! The index against looking at every entry.

use super::*;
use crate::model::{KafkaMatch, RedisMatch, TopicMatch};
use crate::naive::random::{self, Random};
use crate::program::RuleIndex;
use bulkhead_facts::{KafkaRequest, RedisCommand};

fn stage(sections: Vec<(Option<Effect>, Option<L7Section>)>) -> L7Stage {
    let entry = |(rule, (effect, section))| L7Entry { rule: RuleIndex(rule), effect, section };
    L7Stage { entries: (0..).zip(sections).map(entry).collect() }
}

/// Position of the first entry that matches, by looking at all.
fn by_looking(stage: &L7Stage, request: &Request<'_>) -> Option<usize> {
    protocol_of(request)?;
    stage.entries.iter().position(|entry| {
        let deny = entry.effect == Some(Effect::Deny);
        entry.section.as_ref().is_none_or(|section| matches(section, request, deny))
    })
}

fn by_index(index: &Protocols, stage: &L7Stage, request: &Request<'_>) -> Option<usize> {
    let found: *const L7Entry = index.first_match(stage, request)?;
    stage.entries.iter().position(|entry| std::ptr::eq(entry, found))
}

#[test]
fn the_index_finds_what_looking_at_every_entry_finds() {
    let mut asked = 0;
    for seed in 0..400 {
        let mut random = Random(seed);
        let count = 1 + random.below(60);
        let sections = (0..count).map(|_| {
            let effect = random.pick(&[Some(Effect::Allow), Some(Effect::Allow), Some(Effect::Deny), None]);
            let section = (!random.once_in(40)).then(|| random::section(&mut random));
            // A deny of another protocol ends every search, so that few of them leave more to find.
            let effect = if section.is_some() && !random.once_in(8) { Some(Effect::Allow) } else { effect };
            (effect, section)
        });
        let stage = stage(sections.collect());
        let index = Protocols::new(&stage);
        for _ in 0..500 {
            let request = random::request(&mut random);
            request.with(|request| {
                asked += usize::from(protocol_of(request).is_some());
                let found = by_index(&index, &stage, request);
                assert_eq!(found, by_looking(&stage, request), "seed {seed}: {request:?} {stage:?}");
            });
        }
    }
    assert!(asked > 50_000, "{asked} questions");
}

#[test]
fn what_asks_for_too_much_at_once_is_found_all_the_same() {
    let words = |n: usize| (0..n).map(|n| format!("w{n}")).collect::<Vec<_>>();
    let redis = RedisMatch { commands: words(90), key_prefix: None, databases: (0..80).collect() };
    let topics = words(90).into_iter().map(TopicMatch::Exact).collect();
    let kafka = KafkaMatch { apis: (0..80).collect(), topics };
    for effect in [Effect::Allow, Effect::Deny] {
        let stage = stage(vec![
            (Some(effect), Some(L7Section::Redis(vec![redis.clone()]))),
            (Some(effect), Some(L7Section::Kafka(vec![kafka.clone()]))),
        ]);
        // Denies of another protocol match; apart from each other they do not.
        for (at, entry) in stage.entries.iter().enumerate() {
            let stage = L7Stage { entries: vec![entry.clone()] };
            let index = Protocols::new(&stage);
            for (word, number) in [("w7", 7u16), ("w89", 79), ("w90", 7), ("w7", 80), ("x", 1)] {
                let redis = RedisCommand { name: word, keys: &[], database: Some(number.into()) };
                let topics = [word];
                let kafka = KafkaRequest { api: number, topics: &topics };
                let request = if at == 0 { Request::Redis(redis) } else { Request::Kafka(kafka) };
                let expected = by_looking(&stage, &request);
                assert_eq!(by_index(&index, &stage, &request), expected, "{effect} {word} {number}");
                assert_eq!(expected.is_some(), number < 80 && matches!(word, "w7" | "w89"));
            }
        }
    }
}

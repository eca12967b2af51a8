//! The compiled form against the reference, on random cases.
//!
//! Decisions are compared on a million questions, the rest on 100,000; `BULKHEAD_CASES` sets another number. A case that fails
//! names its seed, which `BULKHEAD_SEED` runs again.

use super::random::{self, Random};
use super::{NaiveAnswer, Packet, decide};
use crate::compile::Compiler;
use crate::decide::Judge;
use crate::inventory::{Inventory, ObjectName};
use crate::matrix::{Matrix, Probe};
use crate::model::{L7Section, Policy, PolicySet, RuleAction};
use crate::program::{Action, Answer, PortBox};
use bulkhead_facts::*;
use std::collections::{BTreeMap, BTreeSet};

const QUESTIONS_PER_SET: u64 = 100;
/// Questions on which decisions are compared.
const DECISIONS: u64 = 1_000_000;

fn each_case(name: &str, per_case: u64, test: impl FnMut(u64)) {
    each_of(100_000, name, per_case, test);
}

fn each_of(questions: u64, name: &str, per_case: u64, mut test: impl FnMut(u64)) {
    let read = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = read("BULKHEAD_SEED") {
        return test(seed);
    }
    let cases = read("BULKHEAD_CASES").unwrap_or(questions).div_ceil(per_case);
    for seed in 0..cases {
        // Printed only if the test fails.
        println!("{name}: BULKHEAD_SEED={seed}");
        test(seed);
    }
}

fn spelled(judge: &Judge, answer: Answer) -> NaiveAnswer {
    NaiveAnswer {
        effect: answer.effect,
        rule: answer.rule.map(|rule| judge.rule(rule).clone()),
        reason: answer.reason,
    }
}

fn subjects(inventory: &Inventory) -> Vec<&ObjectName> {
    inventory.pods.iter().filter(|(_, pod)| !pod.host_network).map(|(name, _)| name).collect()
}

fn packet(random: &mut Random) -> Packet {
    let (protocol, port) = random::protocol_and_port(random);
    Packet { direction: random.pick(&Direction::BOTH), peer: random::address(random), protocol, port }
}

#[test]
fn compiled_decisions_equal_the_reference() {
    let mut seen = BTreeSet::new();
    let mut inspected: BTreeMap<&str, u64> = BTreeMap::new();
    each_of(DECISIONS, "compiled_decisions_equal_the_reference", QUESTIONS_PER_SET, |seed| {
        let mut random = Random(seed);
        let (inventory, set) = (random::inventory(&mut random), random::policy_set(&mut random));
        let compiler = Compiler::new(&set, &inventory).unwrap();
        let subjects = subjects(&inventory);
        if subjects.is_empty() {
            return;
        }
        let judges: Vec<Judge> =
            subjects.iter().map(|pod| Judge::new(compiler.program(pod, 1).unwrap()).unwrap()).collect();
        let inspected_by: Vec<Vec<Packet>> = judges.iter().map(inspected_packets).collect();
        for _ in 0..QUESTIONS_PER_SET {
            let at = random.below(subjects.len());
            let packet = match &inspected_by[at][..] {
                // Half of the questions are for bytes, where there are any to ask.
                some if !some.is_empty() && random.once_in(2) => some[random.below(some.len())],
                _ => packet(&mut random),
            };
            let asked = random::request(&mut random);
            let Packet { direction, peer, protocol, port } = packet;
            let expected = asked.with(|request| {
                let expected = decide(&set, &inventory, subjects[at], &packet, request);
                let pair = judges[at].decide(direction, peer, protocol, port, request);
                let found = [pair.enforced, pair.shadow].map(|answer| spelled(&judges[at], answer));
                assert_eq!(found, expected, "seed {seed}: {:?} {packet:?} {request:?}", subjects[at]);
                expected
            });
            let kind = match judges[at].action(direction, peer, protocol, port) {
                Action::Answer(_) => "answer",
                Action::Inspect { .. } => {
                    *inspected.entry(asked.with(protocol_of)).or_default() += 1;
                    "inspect"
                }
                Action::Learn(_) => "learn",
                Action::Choose { .. } => "choose",
            };
            seen.insert((kind, expected[0].reason, expected[0].effect));
        }
    });
    if std::env::var_os("BULKHEAD_SEED").is_none() {
        assert_eq!(seen, reachable(), "the random cases reach everything that a decision can be");
        let least = inspected.values().min().copied().unwrap_or_default();
        assert!(inspected.len() == 7 && least > 5_000, "every protocol is asked about often: {inspected:?}");
    }
}

/// One packet of each box that is inspected, for each span of its class.
fn inspected_packets(judge: &Judge) -> Vec<Packet> {
    let mut packets = Vec::new();
    for direction in Direction::BOTH {
        let tables = judge.program().direction(direction);
        let of_bytes = |b: &&PortBox| matches!(b.action, Action::Inspect { .. } | Action::Choose { .. });
        for b in tables.boxes.iter().filter(of_bytes) {
            let v4 = tables.v4.iter().filter(|span| span.class == b.class).map(|span| span.first.into());
            let v4 = v4.map(|address: std::net::Ipv4Addr| address.into());
            let v6 = tables.v6.iter().filter(|span| span.class == b.class).map(|span| span.first.into());
            let v6 = v6.map(|address: std::net::Ipv6Addr| address.into());
            let (protocol, port) = (b.protocol_first, b.ports.first());
            packets.extend(v4.chain(v6).map(|peer| Packet { direction, peer, protocol, port }));
        }
    }
    packets
}

fn protocol_of(request: &Request<'_>) -> &'static str {
    match request {
        Request::Http(_) => "http",
        Request::Tls(_) => "tls",
        Request::Dns(_) => "dns",
        Request::Redis(_) => "redis",
        Request::Postgres(_) => "postgres",
        Request::Kafka(_) => "kafka",
        Request::Opaque => "opaque",
    }
}

/// Kinds of action with the enforced answers that they come to.
fn reachable() -> BTreeSet<(&'static str, Reason, Effect)> {
    use {Effect::*, Reason::*};
    BTreeSet::from([
        ("answer", AllowedByRule, Allow),
        ("answer", DeniedByRule, Deny),
        ("answer", NotIsolated, Allow),
        ("answer", NoRule, Deny),
        ("answer", NoEndpoint, Deny),
        ("inspect", AllowedByRule, Allow),
        ("inspect", DeniedByRule, Deny),
        ("inspect", NotIsolated, Allow),
        ("inspect", NoRule, Deny),
        ("inspect", L7Mismatch, Deny),
        ("inspect", ProtocolMismatch, Deny),
        ("learn", AllowedByRule, Allow),
        ("learn", NotIsolated, Allow),
        ("answer", EndpointsDiffer, Deny),
        ("choose", AllowedByRule, Allow),
        ("choose", NotIsolated, Allow),
        ("choose", NoRule, Deny),
        ("choose", DeniedByRule, Deny),
        ("choose", L7Mismatch, Deny),
        ("choose", ProtocolMismatch, Deny),
    ])
}

/// What a kernel that knows nothing but the tables would find: every span and box is looked at.
fn by_tables(judge: &Judge, packet: &Packet) -> Option<Action> {
    let tables = judge.program().direction(packet.direction);
    let classes: Vec<_> = match packet.peer {
        std::net::IpAddr::V4(v4) => {
            let address = u32::from(v4);
            tables.v4.iter().filter(|s| s.first <= address && address <= s.last).map(|s| s.class).collect()
        }
        std::net::IpAddr::V6(v6) => {
            let address = u128::from(v6);
            tables.v6.iter().filter(|s| s.first <= address && address <= s.last).map(|s| s.class).collect()
        }
    };
    assert!(classes.len() <= 1, "spans are disjoint");
    let hit = |b: &&PortBox| {
        classes.contains(&b.class)
            && (b.protocol_first..=b.protocol_last).contains(&packet.protocol)
            && b.ports.contains(packet.port)
    };
    let hits: Vec<_> = tables.boxes.iter().filter(hit).collect();
    assert!(hits.len() <= 1, "boxes of a class are disjoint");
    hits.first().map(|b| b.action)
}

#[test]
fn kernel_tables_and_judge_agree_on_every_tuple_that_is_tried() {
    each_of(DECISIONS, "kernel_tables_and_judge_agree", QUESTIONS_PER_SET, |seed| {
        let mut random = Random(seed ^ 0x5eed);
        let (inventory, set) = (random::inventory(&mut random), random::policy_set(&mut random));
        let compiler = Compiler::new(&set, &inventory).unwrap();
        let Some(pod) = subjects(&inventory).first().copied() else { return };
        let judge = Judge::new(compiler.program(pod, 1).unwrap()).unwrap();
        for _ in 0..QUESTIONS_PER_SET {
            let packet = packet(&mut random);
            let found = judge.action(packet.direction, packet.peer, packet.protocol, packet.port);
            let nothing = Action::Answer(crate::program::AnswerId(0));
            assert_eq!(found, by_tables(&judge, &packet).unwrap_or(nothing), "seed {seed}: {packet:?}");
        }
    });
}

#[test]
fn permuted_input_gives_the_same_programs() {
    each_case("permuted_input", 200, |seed| {
        let mut random = Random(seed);
        let (mut inventory, mut set) = (random::inventory(&mut random), random::policy_set(&mut random));
        let compiled =
            |set: &PolicySet, inventory: &Inventory| Compiler::new(set, inventory).unwrap().programs(1);
        let before = compiled(&set, &inventory);
        random.shuffle(&mut set.policies);
        random.shuffle(&mut set.collections);
        for rule in set.policies.iter_mut().flat_map(|p| p.ingress.iter_mut().chain(&mut p.egress)) {
            if let crate::model::Peers::These(peers) = &mut rule.peers {
                random.shuffle(peers);
            }
            if let crate::model::Ports::These(ports) = &mut rule.ports {
                random.shuffle(ports);
            }
            match &mut rule.l7 {
                Some(L7Section::Http(requests)) => random.shuffle(requests),
                Some(L7Section::Tls(hello)) => random.shuffle(&mut hello.sni),
                Some(L7Section::Dns(questions)) => random.shuffle(questions),
                Some(L7Section::Redis(commands)) => random.shuffle(commands),
                Some(L7Section::Postgres(messages)) => random.shuffle(messages),
                Some(L7Section::Kafka(requests)) => random.shuffle(requests),
                None => {}
            }
        }
        for pod in inventory.pods.values_mut() {
            random.shuffle(&mut pod.addresses);
        }
        for port in inventory.services.values_mut().flat_map(|service| &mut service.ports) {
            random.shuffle(&mut port.endpoints);
        }
        assert_eq!(compiled(&set, &inventory), before, "seed {seed}");
    });
}

#[test]
fn grouped_programs_are_those_of_each_pod() {
    each_case("grouped_programs", 200, |seed| {
        let mut random = Random(seed);
        let (inventory, set) = (random::inventory(&mut random), random::policy_set(&mut random));
        let compiler = Compiler::new(&set, &inventory).unwrap();
        let groups = compiler.programs(7).unwrap();
        let grouped: usize = groups.iter().map(|group| group.pods.len()).sum();
        assert_eq!(grouped, subjects(&inventory).len());
        for group in groups {
            for pod in &group.pods {
                assert_eq!(compiler.program(pod, 7).as_ref(), Some(&group.program), "seed {seed}: {pod:?}");
            }
        }
    });
}

#[test]
fn the_matrix_asks_both_ends() {
    each_case("the_matrix_asks_both_ends", 200, |seed| {
        let mut random = Random(seed ^ 0x3a7);
        let (inventory, set) = (random::inventory(&mut random), random::policy_set(&mut random));
        let compiler = Compiler::new(&set, &inventory).unwrap();
        let matrix = Matrix::new(&compiler, &inventory).unwrap();
        let (protocol, port) = random::protocol_and_port(&mut random);
        for row in matrix.rows(&[Probe { protocol, port }]).filter(|row| row.from != row.to && !row.inspected)
        {
            let (source, destination) = (&inventory.pods[row.from], &inventory.pods[row.to]);
            let peer = destination.addresses[0];
            let own = source.addresses.iter().find(|own| own.is_ipv4() == peer.is_ipv4()).copied().unwrap();
            let denies = |pod: &ObjectName, direction, peer| {
                let packet = Packet { direction, peer, protocol, port };
                let on_host = inventory.pods[pod].host_network;
                let [enforced, _] = if on_host {
                    return false;
                } else {
                    decide(&set, &inventory, pod, &packet, &Request::Opaque)
                };
                enforced.effect == Effect::Deny
            };
            let denied = denies(row.from, Direction::Egress, peer) || denies(row.to, Direction::Ingress, own);
            assert_eq!(row.enforced.effect == Effect::Deny, denied, "seed {seed}: {row:?}");
        }
    });
}

/// Adding an allow where it is tried first never denies what was allowed. Isolation is the policy's, not the rule's, and
/// stays as it was.
#[test]
fn an_allow_more_never_denies_more() {
    each_case("an_allow_more", QUESTIONS_PER_SET, |seed| {
        let mut random = Random(seed ^ 0xa110);
        let (inventory, set) = (random::inventory(&mut random), random::policy_set(&mut random));
        let mut wider = set.clone();
        let Some(policy) = widen(&mut random, &mut wider) else { return };
        let Some(pod) = subjects(&inventory).first().copied() else { return };
        let [before, after] = [&set, &wider].map(|set| {
            let compiler = Compiler::new(set, &inventory).unwrap();
            Judge::new(compiler.program(pod, 1).unwrap()).unwrap()
        });
        for _ in 0..QUESTIONS_PER_SET {
            let Packet { direction, peer, protocol, port } = packet(&mut random);
            let asked = random::request(&mut random);
            let chooses = matches!(after.action(direction, peer, protocol, port), Action::Choose { .. });
            let [before, after] = [&before, &after].map(|judge| {
                asked.with(|request| judge.decide(direction, peer, protocol, port, request).enforced)
            });
            let narrowed = before.effect == Effect::Allow && after.effect == Effect::Deny;
            // One endpoint more of a Service may now be reached, for other requests than this one.
            assert!(
                !narrowed || chooses,
                "seed {seed}: {policy:?} {direction} {peer} {protocol}/{port} {after:?}"
            );
        }
    });
}

fn widen(random: &mut Random, set: &mut PolicySet) -> Option<PolicyRef> {
    let at = random.below(set.policies.len());
    let policy: &mut Policy = set.policies.get_mut(at)?;
    let template = random.below(2);
    let mut donors = random::policy_set(random).policies;
    donors.retain(|donor| !donor.ingress.is_empty() && !donor.egress.is_empty());
    let donor = donors.first()?;
    for (rules, donated) in [(&mut policy.ingress, &donor.ingress), (&mut policy.egress, &donor.egress)] {
        let mut rule = donated[0].clone();
        rule.name = "more".into();
        rule.action = RuleAction::Allow;
        if template == 0 {
            rule.l7 = None;
        }
        rules.insert(0, rule);
    }
    Some(policy.origin.clone())
}

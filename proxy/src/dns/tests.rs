//! Names as they are learned, by a clock of the test's own.

use super::NameKeeper;
use super::limits::{ADDRESSES_MAX, ADDRESSES_PER_NAME_MAX, GRACE, NAMES_PER_ADDRESS_MAX, TIME_TO_LIVE_MAX};
use super::names::{Held, Names};
use super::report::{Bytes, Outcome, Told, record};
use super::verdict::Way;
use crate::control::test_directory::TestDirectory;
use crate::enforcement::Answered;
use crate::flows::Recorder;
use crate::metrics::Metrics;
use crate::policy::{Current, NamedClasses};
use bulkhead_facts::{Direction, HostName, IpFamily, L4Protocol, NamePattern, PortRange};
use bulkhead_inspect::dns::Query;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, AnswerId, ClassId, NamedClass, PortBox, RuleIndex, RuleNames};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const START_MS: u64 = 1_000_000;
const GRACE_MS: u64 = 1_000 * GRACE.as_secs();

fn name(text: &str) -> HostName {
    HostName::parse(text).expect("a name")
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(203, 0, 113, last).into()
}

fn open(addresses: &[IpAddr]) -> BTreeSet<IpAddr> {
    addresses.iter().copied().collect()
}

/// Rule 0 names `a.example`, rule 1 `b.example`; class 11 is by the first, 12 by the second, 13 by both.
fn judge() -> Judge {
    let mut program = crate::test_program::allowing_egress_to(Ipv4Addr::new(10, 0, 0, 9), 1);
    let rule = program.rules.first().expect("a rule").clone();
    program.rules.push(rule);
    let named = |rules: &[u32], class| NamedClass {
        family: IpFamily::V4,
        base: None,
        rules: rules.iter().map(|rule| RuleIndex(*rule)).collect(),
        class: ClassId(class),
    };
    program.egress.named = vec![named(&[0], 11), named(&[0, 1], 13), named(&[1], 12)];
    program.egress.boxes.extend((11..=13).map(|class| PortBox {
        class: ClassId(class),
        protocol_first: L4Protocol::TCP,
        protocol_last: L4Protocol::TCP,
        ports: PortRange::ALL,
        action: Action::Answer(AnswerId(1)),
    }));
    let names = |rule, text| RuleNames {
        rule: RuleIndex(rule),
        names: vec![NamePattern::parse(text).expect("a pattern")],
    };
    program.names = vec![names(0, "a.example"), names(1, "b.example")];
    Judge::new(program).expect("valid")
}

/// The classes of an address without their tens: admitted, and kept.
fn held(names: &Names, last: u8, now_ms: u64) -> (Option<u32>, Option<u32>) {
    let Held { admitted, kept } = names.held(&judge(), address(last), now_ms);
    (admitted.map(|(class, _)| class.0 - 10), kept.map(|class| class.0 - 10))
}

/// Also the floor of `tofqdns-min-ttl`: there is none but the grace.
#[test]
fn an_address_is_admitted_for_its_time_and_the_grace() {
    let mut names = Names::default();
    assert_eq!(names.learn(&name("a.example"), &[(address(1), 60)], START_MS), [address(1)]);
    let end_ms = START_MS + 60_000 + GRACE_MS;
    assert_eq!(held(&names, 1, end_ms - 1), (Some(1), None));
    assert_eq!(names.next_end(0), Some(end_ms));
    assert_eq!(names.expire(end_ms, &open(&[])), [address(1)]);
    assert_eq!((held(&names, 1, end_ms), names.len()), ((None, None), 0));
}

#[test]
fn an_answer_that_says_the_same_again_changes_nothing() {
    let mut names = Names::default();
    let mut learn = |last, ttl_s, now_ms| names.learn(&name("a.example"), &[(address(last), ttl_s)], now_ms);
    assert_eq!(learn(1, 60, START_MS), [address(1)]);
    // From a cache, whose time runs out, in whole seconds.
    for passed_s in 0..60u32 {
        let now_ms = START_MS + 1_000 * u64::from(passed_s) + 999;
        assert!(learn(1, 60 - passed_s, now_ms).is_empty(), "{passed_s} s later");
    }
    assert_eq!(learn(2, 60, START_MS), [address(2)], "another one");
    assert_eq!(learn(1, 60, START_MS + 1_001), [address(1)], "for longer");
    assert_eq!(learn(1, 0, START_MS + 61_001 + GRACE_MS), [address(1)], "when its time is over");
    names.doubt(&name("a.example"), &[(address(2), 60)], START_MS + 5);
    assert_eq!(
        held(&names, 2, START_MS + 5),
        (None, Some(1)),
        "what the kernel did not take is not admitted"
    );
    assert_eq!(names.learn(&name("a.example"), &[(address(2), 60)], START_MS + 6), [address(2)]);
}

#[test]
fn cilium_19452_what_is_open_is_kept_and_admits_nothing_new() {
    let mut names = Names::default();
    names.learn(&name("a.example"), &[(address(1), 0)], START_MS);
    let end_ms = START_MS + GRACE_MS;
    names.expire(end_ms, &open(&[address(1)]));
    assert_eq!(held(&names, 1, end_ms), (None, Some(1)));
    names.expire(end_ms + 600_000, &open(&[address(1)]));
    assert_eq!(held(&names, 1, end_ms + 600_000), (None, Some(1)));
    names.learn(&name("a.example"), &[(address(1), 5)], end_ms + 600_000);
    assert_eq!(held(&names, 1, end_ms + 600_001), (Some(1), None), "asked for again");
    names.expire(end_ms + 700_000, &open(&[]));
    assert!(names.is_empty());
}

#[test]
fn an_address_that_names_share_is_held_by_those_whose_time_is_not_over() {
    let mut names = Names::default();
    names.learn(&name("a.example"), &[(address(1), 10)], START_MS);
    names.learn(&name("b.example"), &[(address(1), 100)], START_MS);
    assert_eq!(held(&names, 1, START_MS), (Some(3), None));
    let later_ms = START_MS + 10_000 + GRACE_MS;
    assert_eq!(held(&names, 1, later_ms), (Some(2), Some(3)), "open by both, new by the second");
    names.expire(later_ms, &open(&[]));
    assert_eq!(held(&names, 1, later_ms), (Some(2), None));
}

#[test]
fn rotating_answers_add_up_and_a_shorter_time_takes_none_away() {
    let mut names = Names::default();
    names.learn(&name("a.example"), &[(address(1), 60), (address(2), 60)], START_MS);
    names.learn(&name("a.example"), &[(address(3), 60), (address(1), 1)], START_MS + 1_000);
    for last in 1..=3 {
        assert_eq!(held(&names, last, START_MS + 60_000), (Some(1), None), "{last}");
    }
}

#[test]
fn no_answer_is_believed_for_longer_than_a_day() {
    let mut names = Names::default();
    names.learn(&name("a.example"), &[(address(1), u32::MAX)], START_MS);
    let longest_ms = u64::try_from((TIME_TO_LIVE_MAX + GRACE).as_millis()).expect("fits");
    assert_eq!(names.next_end(0), Some(START_MS + longest_ms));
    let mut restored = Names::default();
    restored.restore([(address(1), name("a.example"), u64::MAX)].into_iter(), START_MS);
    assert_eq!(restored.next_end(0), Some(START_MS + longest_ms), "nor from a file");
}

#[test]
fn every_dimension_is_bounded_and_what_is_given_up_is_told() {
    let mut names = Names::default();
    for at in 0..u32::try_from(ADDRESSES_PER_NAME_MAX).expect("fits") + 10 {
        names.learn(&name("a.example"), &[(Ipv4Addr::from(0x0800_0000 + at).into(), 60 + at)], START_MS);
    }
    assert_eq!((names.len(), names.take_given_up()), (ADDRESSES_PER_NAME_MAX, 10));
    assert_eq!(names.take_given_up(), 0);
    let mut names = Names::default();
    for at in 0..NAMES_PER_ADDRESS_MAX + 5 {
        names.learn(&name(&format!("n{at}.example")), &[(address(1), 60)], START_MS + at as u64);
    }
    assert_eq!((names.entries().count(), names.take_given_up()), (NAMES_PER_ADDRESS_MAX, 5));
    let mut names = Names::default();
    for at in 0..u32::try_from(ADDRESSES_MAX).expect("fits") + 7 {
        let own = name(&format!("n{at}.example"));
        let changed = names.learn(&own, &[(Ipv4Addr::from(0x0800_0000 + at).into(), 60 + at)], START_MS);
        let full = usize::try_from(at).expect("fits") >= ADDRESSES_MAX;
        assert_eq!(changed.len(), 1 + usize::from(full), "who is given up is told of");
    }
    assert_eq!((names.len(), names.take_given_up()), (ADDRESSES_MAX, 7));
}

#[test]
fn a_question_is_reported_with_its_type_and_name() {
    let recorder = Recorder::new(Arc::new(Metrics::new().expect("metrics")));
    let current = Current { judge: Arc::new(judge()), generation: 1, named: NamedClasses::default() };
    let way = Way {
        direction: Direction::Egress,
        peer: address(1),
        local: address(2),
        protocol: L4Protocol::UDP,
        port: 53,
        endpoint: None,
    };
    let message = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03API\x04card\x07example\0\0\x1c\0\x01";
    let query = Query::parse(message).expect("a question");
    let told = Told { query: Some(&query), outcome: Outcome::Answered };
    record(&recorder, &current, way, current.judge.answer(AnswerId(1)), told, Bytes::default(), None);
    recorder.make_batch();
    let batch = recorder.next_batch().expect("a batch");
    let [flow] = &batch.flows[..] else { panic!("{} flows", batch.flows.len()) };
    let http = flow.http.as_ref().expect("a request");
    assert_eq!(
        (http.method.as_str(), http.path_template.as_str(), http.status),
        ("AAAA", "api.card.example", 2)
    );
    assert_eq!((flow.application.as_str(), flow.port), ("dns", 53));
}

#[test]
fn what_is_known_survives_a_restart_and_a_damaged_file_is_no_error() {
    let directory = TestDirectory::new();
    let mut keeper = NameKeeper::within(directory.path());
    keeper.learn(&Answered { name: name("a.example"), addresses: vec![(address(1), 60)] });
    keeper.keep().expect("written");
    assert_eq!(NameKeeper::within(directory.path()).loaded(&judge(), &[address(1)]).len(), 1);
    for damaged in
        ["", "203.0.113.1 x a.example\n", "203.0.113.1 5\n", "\u{0}\n", "203.0.113.1 5 a.example more\n"]
    {
        std::fs::write(directory.path().join("names"), damaged).expect("written");
        assert!(NameKeeper::within(directory.path()).is_empty(), "{damaged:?}");
    }
}

#[test]
fn every_name_of_an_address_survives_a_restart_and_a_file_is_never_too_large_to_be_read() {
    let long = ["x".repeat(60), "y".repeat(60), "z".repeat(60)].join(".");
    for (label, fits) in [("", true), (long.as_str(), false)] {
        let directory = TestDirectory::new();
        let mut keeper = NameKeeper::within(directory.path());
        let addresses: Vec<(IpAddr, u32)> =
            (0..2_048).map(|at| (Ipv4Addr::from(0x0800_0000 + at).into(), 60)).collect();
        for chunk in addresses.chunks(ADDRESSES_PER_NAME_MAX) {
            for at in 0..NAMES_PER_ADDRESS_MAX {
                let own = name(&format!("n{at}.{}.{label}.example", chunk[0].0).replace("..", "."));
                keeper.learn(&Answered { name: own, addresses: chunk.to_vec() });
            }
        }
        assert_eq!((keeper.len(), keeper.take_given_up()), (addresses.len(), 0));
        keeper.keep().expect("written");
        let again = NameKeeper::within(directory.path()).len();
        assert!(
            if fits { again == addresses.len() } else { (1_000..addresses.len()).contains(&again) },
            "{again}"
        );
    }
}

//! Keys for encrypted hellos in answers: taken out where a hello has to be read, and only there.

use super::counters::DNS_COUNTERS;
use super::exchange::{Asked, Came, QuestionJudge, random_identifier};
use super::verdict::Way;
use crate::flows::Recorder;
use crate::metrics::Metrics;
use crate::policy::{Current, NamedClasses};
use crate::test_program::allowing_egress_to;
use bulkhead_facts::{Direction, Effect, L4Protocol, NamePattern, PortRange};
use bulkhead_inspect::dns::{HTTPS, IN, SVCB};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::{L7Section, TlsMatch};
use bulkhead_policies::program::{
    Action, AddressSpan, AnswerId, ClassId, L7Chain, L7ChainId, L7Entry, L7Stage, PortBox, RuleIndex,
};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 53);

/// Names are asked for freely; TLS to one address is allowed by what the section says, and by `end` anyway.
fn current(wanted: TlsMatch, end: u16) -> Arc<Current> {
    let mut program = allowing_egress_to(SERVER, 1);
    for open in &mut program.egress.boxes {
        (open.protocol_first, open.protocol_last, open.ports) =
            (L4Protocol::UDP, L4Protocol::UDP, PortRange::new(53, 53).expect("a port"));
    }
    let host = u32::from(Ipv4Addr::new(203, 0, 113, 7));
    program.egress.v4.push(AddressSpan { first: host, last: host, class: ClassId(2) });
    program.egress.boxes.push(PortBox {
        class: ClassId(2),
        protocol_first: L4Protocol::TCP,
        protocol_last: L4Protocol::TCP,
        ports: PortRange::ALL,
        action: Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(end) },
    });
    let entry =
        L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section: Some(L7Section::Tls(wanted)) };
    let stage = L7Stage { entries: vec![entry] };
    program.l7_chains = vec![L7Chain { enforced: vec![stage], shadow: vec![], end: AnswerId(end) }];
    let judge = Arc::new(Judge::new(program).expect("valid"));
    Arc::new(Current { judge, generation: 1, named: NamedClasses::default() })
}

fn named(text: &str) -> TlsMatch {
    TlsMatch { sni: vec![NamePattern::parse(text).expect("a pattern")], ..TlsMatch::default() }
}

/// What an app gets in which it asked for such a record of such a name, where its server gives keys.
fn passed(current: &Arc<Current>, direction: Direction, name: &str, kind: u16) -> Vec<u8> {
    let recorder = Arc::new(Recorder::new(Arc::new(Metrics::new().expect("metrics"))));
    let judge = QuestionJudge { recorder, internal: Arc::new([]), identifier: random_identifier };
    let way = Way {
        direction,
        peer: SERVER.into(),
        local: Ipv4Addr::new(10, 0, 0, 1).into(),
        protocol: L4Protocol::UDP,
        port: 53,
        endpoint: None,
    };
    let labels = name
        .split('.')
        .flat_map(|label| [&[u8::try_from(label.len()).expect("short")], label.as_bytes()].concat());
    let asked: Vec<u8> = labels.chain([0]).chain(kind.to_be_bytes()).chain(IN.to_be_bytes()).collect();
    let question = [&[0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], asked.as_slice()].concat();
    let Asked::Release { message, open } = judge.ask(current, way, &question) else { panic!("it leaves") };
    let record = [&[0xc0, 12], &kind.to_be_bytes()[..], &IN.to_be_bytes(), &[0, 0, 0, 60, 0, 11]].concat();
    let content = [0, 1, 0, 0, 5, 0, 4, b'k', b'e', b'y', b's'];
    let head = [&message[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
    match judge.answered(way, &open, [head, asked, record, content.to_vec()].concat()) {
        Came::Pass(answer) => answer,
        Came::Admit { message, .. } => message,
        Came::Foreign => panic!("it is the answer"),
    }
}

#[test]
fn keys_reach_nobody_whose_hello_has_to_be_read_and_everybody_else() {
    let has_keys = |answer: Vec<u8>| answer.ends_with(b"\0\x05\0\x04keys");
    let read = current(named("api.example"), 0);
    let before = DNS_COUNTERS.hello_keys_taken_out.load(Ordering::Relaxed);
    for (name, kind, kept) in [
        ("api.example", HTTPS, false),
        ("API.Example", HTTPS, false),
        ("_8443._https.api.example", HTTPS, false),
        ("_dns.api.example", SVCB, false),
        ("other.example", HTTPS, true),
    ] {
        assert_eq!(has_keys(passed(&read, Direction::Egress, name, kind)), kept, "{name}");
    }
    assert!(DNS_COUNTERS.hello_keys_taken_out.load(Ordering::Relaxed) >= before + 4);
    for (why, current) in [
        (
            "a rule that means encrypted hellos",
            current(TlsMatch { encrypted: true, ..named("api.example") }, 0),
        ),
        ("nothing is enforced", current(named("api.example"), 1)),
        ("a rule of no names", current(TlsMatch::default(), 0)),
    ] {
        assert!(has_keys(passed(&current, Direction::Egress, "api.example", HTTPS)), "{why}");
    }
    let asks_for_h2 = current(TlsMatch { alpn: vec!["h2".to_owned()], ..named("api.example") }, 0);
    assert!(!has_keys(passed(&asks_for_h2, Direction::Egress, "api.example", HTTPS)));
}

//! What a verdict costs: layer 4 and HTTP, with 50 rules and with 10,000. The ratio between the two says whether
//! the indexes are flat.
//!
//! With `--instructions` the same cases are counted by callgrind instead of timed, one process for each: those figures are
//! the same on a noisy machine.

use bulkhead_benches::{Case, instructions_per_iteration, measure, report, run_one};
use bulkhead_facts::{
    Direction, Effect, HeaderField, HostName, HttpRequest, L4Protocol, Mode, PathTemplate, PolicyRef,
    PortRange, Reason, Request, Tier, UrlPath, WorkloadRef,
};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::{HttpMatch, L7Section};
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, ClassId, DirectionProgram, L7Chain, L7ChainId,
    L7Entry, L7Stage, PortBox, Program, RuleIndex, RuleInfo,
};
use std::net::{IpAddr, Ipv4Addr};

const ROUNDS: usize = 15;
const ITERATIONS: u64 = 200_000;
const FEW: u32 = 50;
const MANY: u32 = 10_000;

fn main() {
    let few = Judge::new(program(FEW)).expect("a valid program");
    let many = Judge::new(program(MANY)).expect("a valid program");
    let host = HostName::parse("payments.shop.svc").expect("a host name");
    let cases = vec![
        layer4("layer 4, 50 peers", &few, FEW),
        layer4("layer 4, 10,000 peers", &many, MANY),
        http("http, 50 rules, a rule matches", &few, FEW, &host, "orders"),
        http("http, 10,000 rules, a rule matches", &many, MANY, &host, "orders"),
        http("http, 50 rules, none matches", &few, FEW, &host, "admin"),
        http("http, 10,000 rules, none matches", &many, MANY, &host, "admin"),
    ];
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--instructions") {
        let counts: Vec<f64> = (0..cases.len()).map(instructions_per_iteration).collect();
        let mut figures: Vec<(&str, f64)> =
            cases.iter().map(Case::name).zip(counts.iter().copied()).collect();
        figures.extend(ratios(&counts));
        return report("decide-instructions", &[], &figures);
    }
    let Some(cases) = run_one(cases, &arguments) else { return };
    let rows = measure(cases, ROUNDS);
    let least: Vec<f64> = rows.iter().map(|row| row.least_ns).collect();
    report("decide", &rows, &ratios(&least));
}

/// 10,000 rules to 50, for each kind of question.
fn ratios(costs: &[f64]) -> [(&'static str, f64); 3] {
    [
        ("layer 4: 10,000 to 50", costs[1] / costs[0]),
        ("http hit: 10,000 to 50", costs[3] / costs[2]),
        ("http miss: 10,000 to 50", costs[5] / costs[4]),
    ]
}

fn layer4<'a>(name: &str, judge: &'a Judge, peers: u32) -> Case<'a> {
    Case::new(name, ITERATIONS, move |round| {
        let peer = peer(spread(round) % peers);
        judge.action(Direction::Ingress, peer, L4Protocol::TCP, 8080)
    })
}

fn http<'a>(name: &str, judge: &'a Judge, rules: u32, host: &'a HostName, verb: &str) -> Case<'a> {
    let paths: Vec<String> =
        (0..1024u32).map(|i| format!("/api/v1/svc{}/{verb}/{i}", i.wrapping_mul(40_503) % rules)).collect();
    Case::new(name, ITERATIONS, move |round| {
        let path = UrlPath::parse(&paths[spread(round) as usize % paths.len()]).expect("a path");
        let headers =
            [HeaderField { name: b"accept", value: b"*/*" }, HeaderField { name: b"x-tenant", value: b"a" }];
        let request =
            HttpRequest { method: "GET", path: &path, query: None, host: Some(host), headers: &headers };
        judge.decide_l7(L7ChainId(0), &Request::Http(request)).enforced.effect
    })
}

/// A number that jumps about, so that no look-up is helped by the one before it.
fn spread(round: u64) -> u32 {
    let bytes = round.to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).wrapping_mul(2_654_435_761)
}

fn peer(index: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + index * 2))
}

/// Every peer its own class with one allowed port; one chain of as many HTTP rules.
fn program(rules: u32) -> Program {
    let deny = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    let allow = Answer { effect: Effect::Allow, rule: Some(RuleIndex(0)), reason: Reason::AllowedByRule };
    let policy =
        PolicyRef { kind: "SegmentPolicy".into(), namespace: Some("shop".into()), name: "payments".into() };
    let info = |i: u32| RuleInfo {
        tier: Tier::Namespace,
        policy: policy.clone(),
        rule: format!("rule-{i}"),
        direction: Direction::Ingress,
    };
    Program {
        revision: 1,
        workload: WorkloadRef { namespace: "shop".into(), name: "payments".into() },
        collection: None,
        mode: Mode::Enforce,
        rules: (0..rules).map(info).collect(),
        answers: vec![
            AnswerPair { enforced: deny, shadow: deny },
            AnswerPair { enforced: allow, shadow: allow },
        ],
        l7_chains: vec![L7Chain {
            enforced: vec![L7Stage { entries: (0..rules).map(entry).collect() }],
            shadow: vec![],
            end: AnswerId(0),
        }],
        ingress: DirectionProgram {
            v4: (0..rules).map(span).collect(),
            v6: vec![],
            boxes: (0..rules).map(port_box).collect(),
            named: vec![],
        },
        egress: DirectionProgram::default(),
        names: vec![],
    }
}

fn span(index: u32) -> AddressSpan<u32> {
    let address = 0x0a00_0000 + index * 2;
    AddressSpan { first: address, last: address, class: ClassId(index) }
}

fn port_box(index: u32) -> PortBox {
    PortBox {
        class: ClassId(index),
        protocol_first: L4Protocol::TCP,
        protocol_last: L4Protocol::TCP,
        ports: PortRange::single(8080),
        action: Action::Answer(AnswerId(1)),
    }
}

fn entry(index: u32) -> L7Entry {
    let template = match index % 3 {
        0 => format!("/api/v1/svc{index}/orders/{{id}}"),
        1 => format!("/api/v1/svc{index}/orders/**"),
        _ => format!("/api/v1/svc{index}/{{kind}}/{{id}}/items"),
    };
    let http = HttpMatch {
        methods: vec!["GET".into()],
        path: Some(PathTemplate::parse(&template).expect("a template")),
        ..HttpMatch::default()
    };
    L7Entry {
        rule: RuleIndex(index),
        effect: Some(Effect::Allow),
        section: Some(L7Section::Http(vec![http])),
    }
}

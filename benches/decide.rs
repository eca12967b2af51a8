//! What a verdict costs: layer 4, HTTP and every other protocol, with 50 rules and with 10,000. The ratio between the two says whether
//! the indexes are flat.
//!
//! With `--instructions` the same cases are counted by callgrind instead of timed, one process for each: those figures are
//! the same on a noisy machine.

use bulkhead_benches::{Case, instructions_per_iteration, measure, report, run_one};
use bulkhead_facts::*;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::{
    DnsMatch, HttpMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch,
};
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, ClassId, DirectionProgram, L7Chain, L7ChainId,
    L7Entry, L7Stage, PortBox, Program, RuleIndex, RuleInfo,
};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

const ROUNDS: usize = 15;
const ITERATIONS: u64 = 200_000;
const FEW: u32 = 50;
const MANY: u32 = 10_000;

fn main() {
    let few = judges(FEW);
    let many = judges(MANY);
    let host = HostName::parse("payments.shop.svc").expect("a host name");
    let host_names = |prefix: &str| -> Vec<HostName> {
        (0..MANY).map(|n| HostName::parse(&format!("{prefix}{}", name(n))).expect("a name")).collect()
    };
    let (names, below) = (host_names(""), host_names("api."));
    let mut cases = Vec::new();
    for question in QUESTIONS {
        for (judges, rules) in [(&few, FEW), (&many, MANY)] {
            let name = format!("{question}, {rules} rules");
            let judge = &judges[question.judge()];
            cases.push(match question {
                Question::Peer => layer4(name, judge, move |n| peer(n % rules)),
                Question::Block => layer4(name, judge, move |n| block(n % rules)),
                Question::HttpMatches => http(name, judge, rules, &host, "orders"),
                Question::HttpFails => http(name, judge, rules, &host, "admin"),
                Question::Tls | Question::Dns => named(name, judge, rules, question, &names),
                Question::DnsBelow => named(name, judge, rules, question, &below),
                Question::Redis | Question::Postgres | Question::Kafka => {
                    worded(name, judge, rules, question)
                }
            });
        }
    }
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--instructions") {
        let counts: Vec<f64> = (0..cases.len()).map(instructions_per_iteration).collect();
        let mut figures: Vec<(String, f64)> =
            cases.iter().map(|case| case.name().to_owned()).zip(counts.iter().copied()).collect();
        figures.extend(ratios(&counts));
        return report("decide-instructions", &[], &borrowed(&figures));
    }
    let Some(cases) = run_one(cases, &arguments) else { return };
    let rows = measure(cases, ROUNDS);
    let least: Vec<f64> = rows.iter().map(|row| row.least_ns).collect();
    report("decide", &rows, &borrowed(&ratios(&least)));
}

/// What is asked. Every rule names something of its own: a peer, a block, a path, a name, a command's key, a user, a topic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    Peer,
    Block,
    HttpMatches,
    HttpFails,
    Tls,
    Dns,
    DnsBelow,
    Redis,
    Postgres,
    Kafka,
}

const QUESTIONS: [Question; 10] = [
    Question::Peer,
    Question::Block,
    Question::HttpMatches,
    Question::HttpFails,
    Question::Tls,
    Question::Dns,
    Question::DnsBelow,
    Question::Redis,
    Question::Postgres,
    Question::Kafka,
];

impl Question {
    /// Which of the judges answers it.
    fn judge(self) -> usize {
        match self {
            Self::Peer | Self::Block | Self::HttpMatches | Self::HttpFails => 0,
            Self::Tls => 1,
            Self::Dns => 2,
            Self::DnsBelow => 3,
            Self::Redis => 4,
            Self::Postgres => 5,
            Self::Kafka => 6,
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "layer 4, single addresses",
            Self::Block => "layer 4, blocks",
            Self::HttpMatches => "http, a rule matches",
            Self::HttpFails => "http, none matches",
            Self::Tls => "tls, a server name",
            Self::Dns => "dns, a name",
            Self::DnsBelow => "dns, a name below one",
            Self::Redis => "redis, a key's prefix",
            Self::Postgres => "postgres, a user",
            Self::Kafka => "kafka, a topic",
        })
    }
}

/// 10,000 rules to 50, for each kind of question.
fn ratios(costs: &[f64]) -> Vec<(String, f64)> {
    let pairs = costs.chunks_exact(2).zip(QUESTIONS);
    pairs.map(|(pair, question)| (format!("{question}: 10,000 to 50"), pair[1] / pair[0])).collect()
}

fn borrowed(figures: &[(String, f64)]) -> Vec<(&str, f64)> {
    figures.iter().map(|(name, value)| (name.as_str(), *value)).collect()
}

/// From the addresses to the pair of answers with rule and reason.
fn layer4<'a>(name: String, judge: &'a Judge, peer: impl Fn(u32) -> IpAddr + 'a) -> Case<'a> {
    Case::new(name, ITERATIONS, move |round| {
        let peer = peer(spread(round));
        judge.decide(Direction::Ingress, peer, L4Protocol::TCP, 8080, &Request::Opaque).enforced.effect
    })
}

fn http<'a>(name: String, judge: &'a Judge, rules: u32, host: &'a HostName, verb: &str) -> Case<'a> {
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

/// Asks about names, every one of which some rule names.
fn named<'a>(
    case: String,
    judge: &'a Judge,
    rules: u32,
    question: Question,
    names: &'a [HostName],
) -> Case<'a> {
    Case::new(case, ITERATIONS, move |round| {
        let name = &names[(spread(round) % rules) as usize % names.len()];
        let request = match question {
            Question::Tls => Request::Tls(TlsHello {
                server_name: Some(name),
                lowest: TlsVersion::V1_2,
                highest: TlsVersion::V1_3,
                application_protocols: &["h2"],
                encrypted: false,
            }),
            _ => Request::Dns(DnsQuestion { name, record: 1 }),
        };
        judge.decide_l7(L7ChainId(0), &request).enforced.effect
    })
}

/// Asks about a key, a user or a topic that some rule names.
fn worded<'a>(case: String, judge: &'a Judge, rules: u32, question: Question) -> Case<'a> {
    let words: Vec<String> =
        (0..1024u32).map(|i| format!("svc{}:{i}", i.wrapping_mul(40_503) % rules)).collect();
    Case::new(case, ITERATIONS, move |round| {
        let word = words[spread(round) as usize % words.len()].as_str();
        let (keys, topics) = ([word.as_bytes()], [word]);
        let user = word.split_once(':').map_or(word, |(user, _)| user);
        let request = match question {
            Question::Redis => Request::Redis(RedisCommand { name: "GET", keys: &keys, database: Some(0) }),
            Question::Postgres => Request::Postgres(PostgresMessage {
                user,
                database: "main",
                statements: &[PostgresStatement::Select],
            }),
            _ => Request::Kafka(KafkaRequest { api: 1, topics: &topics }),
        };
        judge.decide_l7(L7ChainId(0), &request).enforced.effect
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

fn block(index: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0xac10_0000 + index * 64 + 5))
}

fn name(index: u32) -> String {
    format!("svc{index}.shop.test")
}

/// Programs of this many rules, one for each kind of section.
fn judges(rules: u32) -> [Judge; 7] {
    let sections: [fn(u32) -> L7Section; 7] = [
        http_section,
        |n| L7Section::Tls(TlsMatch { sni: vec![pattern(&name(n))], ..TlsMatch::default() }),
        |n| L7Section::Dns(vec![DnsMatch { names: vec![pattern(&name(n))], records: vec![1, 28] }]),
        |n| {
            L7Section::Dns(vec![DnsMatch {
                names: vec![pattern(&format!("*.{}", name(n)))],
                records: vec![],
            }])
        },
        |n| {
            let redis = RedisMatch {
                commands: vec!["get".into()],
                key_prefix: Some(format!("svc{n}:")),
                databases: vec![],
            };
            L7Section::Redis(vec![redis])
        },
        |n| {
            let users = vec![format!("svc{n}")];
            L7Section::Postgres(vec![PostgresMatch {
                users,
                databases: vec!["main".into()],
                statements: vec![],
            }])
        },
        |n| {
            let topics = vec![TopicMatch::Prefix(format!("svc{n}:"))];
            L7Section::Kafka(vec![KafkaMatch { apis: vec![0, 1], topics }])
        },
    ];
    sections.map(|section| Judge::new(program(rules, section)).expect("a valid program"))
}

fn pattern(text: &str) -> NamePattern {
    NamePattern::parse(text).expect("a pattern")
}

/// Every peer its own class with one allowed port and an answer of its own; one chain of as many rules.
fn program(rules: u32, section: fn(u32) -> L7Section) -> Program {
    let deny = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    let allow = |rule| {
        let answer =
            Answer { effect: Effect::Allow, rule: Some(RuleIndex(rule)), reason: Reason::AllowedByRule };
        AnswerPair { enforced: answer, shadow: answer }
    };
    let entry =
        |rule| L7Entry { rule: RuleIndex(rule), effect: Some(Effect::Allow), section: Some(section(rule)) };
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
        answers: [AnswerPair { enforced: deny, shadow: deny }]
            .into_iter()
            .chain((0..rules).map(allow))
            .collect(),
        l7_chains: vec![L7Chain {
            enforced: vec![L7Stage { entries: (0..rules).map(entry).collect() }],
            shadow: vec![],
            end: AnswerId(0),
        }],
        ingress: DirectionProgram {
            v4: (0..rules).map(span).chain((0..rules).map(|n| wide_span(n, rules))).collect(),
            v6: vec![],
            boxes: (0..rules * 2).map(|n| port_box(n, n % rules)).collect(),
            named: vec![],
        },
        egress: DirectionProgram::default(),
        names: vec![],
        choices: vec![],
    }
}

fn span(index: u32) -> AddressSpan<u32> {
    let address = 0x0a00_0000 + index * 2;
    AddressSpan { first: address, last: address, class: ClassId(index) }
}

/// Blocks of 32 addresses with a gap of as many.
fn wide_span(index: u32, rules: u32) -> AddressSpan<u32> {
    let first = 0xac10_0000 + index * 64;
    AddressSpan { first, last: first + 31, class: ClassId(rules + index) }
}

fn port_box(class: u32, rule: u32) -> PortBox {
    PortBox {
        class: ClassId(class),
        protocol_first: L4Protocol::TCP,
        protocol_last: L4Protocol::TCP,
        ports: PortRange::single(8080),
        action: Action::Answer(AnswerId(u16::try_from(rule + 1).expect("few rules"))),
    }
}

fn http_section(index: u32) -> L7Section {
    let template = match index % 3 {
        0 => format!("/api/v1/svc{index}/orders/{{id}}"),
        1 => format!("/api/v1/svc{index}/orders/**"),
        _ => format!("/api/v1/svc{index}/{{kind}}/{{id}}/items"),
    };
    let path = Some(PathTemplate::parse(&template).expect("a template"));
    L7Section::Http(vec![HttpMatch { methods: vec!["GET".into()], path, ..HttpMatch::default() }])
}

//! What a program from outside must keep; and that nothing is allocated to decide.

use super::*;
use crate::model::{HttpMatch, L7Section, TlsMatch};
use crate::program::ClassId;
use crate::program::{AddressSpan, L7Entry, L7Stage, PortBox};
use bulkhead_facts::{
    HeaderField, HttpRequest, Mode, PathTemplate, PolicyRef, PortRange, Tier, TlsHello, TlsVersion, UrlPath,
    WorkloadRef,
};

fn pair(effect: Effect, reason: Reason) -> AnswerPair {
    let answer = Answer { effect, rule: None, reason };
    AnswerPair { enforced: answer, shadow: answer }
}

fn one_box(class: u32, protocols: (u8, u8), ports: (u16, u16)) -> PortBox {
    PortBox {
        class: ClassId(class),
        protocol_first: L4Protocol(protocols.0),
        protocol_last: L4Protocol(protocols.1),
        ports: PortRange::new(ports.0, ports.1).unwrap(),
        action: Action::Answer(AnswerId(1)),
    }
}

fn span(first: u32, last: u32, class: u32) -> AddressSpan<u32> {
    AddressSpan { first, last, class: ClassId(class) }
}

fn program() -> Program {
    Program {
        revision: 1,
        workload: WorkloadRef { namespace: "shop".into(), name: "web".into() },
        collection: None,
        mode: Mode::Enforce,
        rules: vec![RuleInfo {
            tier: Tier::Namespace,
            policy: PolicyRef {
                kind: "SegmentPolicy".into(),
                namespace: Some("shop".into()),
                name: "web".into(),
            },
            rule: "one".into(),
            direction: Direction::Ingress,
        }],
        answers: vec![pair(Effect::Deny, Reason::NoRule), pair(Effect::Allow, Reason::NotIsolated)],
        l7_chains: vec![],
        ingress: DirectionProgram {
            v4: vec![span(10, 19, 1), span(30, 30, 2)],
            v6: vec![],
            boxes: vec![
                one_box(1, (6, 6), (80, 80)),
                one_box(1, (6, 6), (82, 90)),
                one_box(2, (0, 255), (0, 65_535)),
            ],
            named: vec![],
        },
        egress: DirectionProgram::default(),
        names: vec![],
        choices: vec![],
    }
}

fn refused(change: impl Fn(&mut Program)) -> InvalidProgram {
    let mut program = program();
    change(&mut program);
    Judge::new(program).err().unwrap()
}

#[test]
fn a_program_that_would_allow_what_nothing_matches_is_refused() {
    assert_eq!(refused(|p| p.answers.swap(0, 1)), InvalidProgram::OpenDefault);
    assert_eq!(refused(|p| p.answers.clear()), InvalidProgram::NoAnswers);
}

#[test]
fn indexes_out_of_range_are_refused() {
    let action = |action| move |p: &mut Program| p.ingress.boxes[0].action = action;
    assert_eq!(refused(action(Action::Answer(AnswerId(2)))), InvalidProgram::AnswerOutOfRange(AnswerId(2)));
    assert_eq!(refused(action(Action::Learn(AnswerId(2)))), InvalidProgram::AnswerOutOfRange(AnswerId(2)));
    let chain = Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(0) };
    assert_eq!(refused(action(chain)), InvalidProgram::ChainOutOfRange(L7ChainId(0)));
    assert_eq!(
        refused(|p| p.answers[1].shadow.rule = Some(RuleIndex(1))),
        InvalidProgram::RuleOutOfRange(RuleIndex(1))
    );
    let entry = L7Entry { rule: RuleIndex(7), effect: None, section: None };
    let bad = L7Chain { enforced: vec![L7Stage { entries: vec![entry] }], shadow: vec![], end: AnswerId(0) };
    assert_eq!(refused(|p| p.l7_chains = vec![bad.clone()]), InvalidProgram::RuleOutOfRange(RuleIndex(7)));
    let bad = L7Chain { end: AnswerId(9), ..L7Chain::default() };
    assert_eq!(refused(|p| p.l7_chains = vec![bad.clone()]), InvalidProgram::AnswerOutOfRange(AnswerId(9)));
}

#[test]
fn spans_and_boxes_that_overlap_or_are_not_sorted_are_refused() {
    let spans = InvalidProgram::SpansOutOfOrder(Direction::Ingress);
    assert_eq!(refused(|p| p.ingress.v4[1].first = 19), spans);
    assert_eq!(refused(|p| p.ingress.v4.swap(0, 1)), spans);
    assert_eq!(refused(|p| p.ingress.v4[0] = span(19, 10, 1)), spans);
    let boxes = InvalidProgram::BoxesOutOfOrder(Direction::Ingress);
    assert_eq!(refused(|p| p.ingress.boxes[1] = one_box(1, (6, 6), (80, 90))), boxes);
    assert_eq!(refused(|p| p.ingress.boxes[1] = one_box(1, (6, 7), (82, 90))), boxes);
    assert_eq!(refused(|p| p.ingress.boxes.swap(0, 2)), boxes);
    assert_eq!(refused(|p| p.ingress.boxes[2] = one_box(2, (9, 6), (0, 1))), boxes);
}

#[test]
fn limits_are_held() {
    let many = |count: u32| -> Vec<_> { (0..count).map(|n| span(n * 2, n * 2, 1)).collect() };
    let limit = crate::limits::SPANS_MAX;
    assert_eq!(
        refused(|p| p.ingress.v4 = many(u32::try_from(limit).unwrap() + 1)),
        InvalidProgram::TooMany { what: "address spans", limit }
    );
    let limit = crate::limits::CLASSES_MAX;
    assert_eq!(
        refused(|p| p.ingress.v4[1].class = ClassId(u32::MAX)),
        InvalidProgram::TooMany { what: "peer classes", limit }
    );
}

#[test]
fn boundaries_of_spans_and_boxes_are_exact() {
    let judge = Judge::new(program()).unwrap();
    let allows = |address: u32, protocol, port| {
        let action = judge.action(Direction::Ingress, IpAddr::V4(address.into()), protocol, port);
        action == Action::Answer(AnswerId(1))
    };
    let tcp = |address, port| allows(address, L4Protocol::TCP, port);
    assert_eq!(
        [9, 10, 19, 20, 29, 30, 31].map(|address| tcp(address, 80)),
        [false, true, true, false, false, true, false]
    );
    assert_eq!([79, 80, 81, 82, 90, 91].map(|port| tcp(10, port)), [false, true, false, true, true, false]);
    assert!(!allows(10, L4Protocol::UDP, 80) && allows(30, L4Protocol(255), 0));
    let mapped = "::ffff:0.0.0.10".parse().unwrap();
    assert_eq!(judge.action(Direction::Ingress, mapped, L4Protocol::TCP, 80), Action::Answer(AnswerId(1)));
}

#[test]
fn an_answer_of_another_program_is_a_denial() {
    let judge = Judge::new(program()).unwrap();
    assert_eq!(judge.answer(AnswerId(77)), pair(Effect::Deny, Reason::NoPolicy));
    let path = UrlPath::parse("/").unwrap();
    let request = HttpRequest { method: "GET", path: &path, query: None, host: None, headers: &[] };
    assert_eq!(judge.decide_l7(L7ChainId(5), &Request::Http(request)), pair(Effect::Deny, Reason::NoPolicy));
}

#[test]
fn a_chain_says_which_protocols_its_sections_speak_of() {
    let entry = |section| L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section };
    let stage = |section| L7Stage { entries: vec![entry(None), entry(section)] };
    let (dns, kafka) = (stage(Some(L7Section::Dns(vec![]))), stage(Some(L7Section::Kafka(vec![]))));
    let spoken = |enforced: &L7Stage, shadow: &L7Stage| {
        let mut program = program();
        let (enforced, shadow) = (vec![enforced.clone()], vec![shadow.clone()]);
        program.l7_chains = vec![L7Chain { enforced, shadow, end: AnswerId(0) }];
        Judge::new(program).unwrap().spoken(L7ChainId(0))
    };
    let expected = Spoken { dns: true, ..Spoken::default() };
    assert_eq!((spoken(&dns, &dns), spoken(&stage(None), &dns)), (expected, expected));
    assert!(expected.is_only_dns() && !Spoken::default().is_only_dns());
    assert_eq!(
        spoken(&dns, &kafka),
        Spoken { kafka: true, ..expected },
        "what is not enforced is spoken of too"
    );
    assert!(!spoken(&dns, &kafka).is_only_dns());
    assert_eq!(Judge::new(program()).unwrap().spoken(L7ChainId(7)), Spoken::default());
}

#[test]
fn a_flow_only_learns_where_no_bytes_can_be_denied_whatever_the_mode() {
    let only_learns = |effects: &[Option<Effect>], end: u16, opaque: u16| {
        let entry = |effect: &Option<Effect>| L7Entry { rule: RuleIndex(0), effect: *effect, section: None };
        let enforced = vec![L7Stage { entries: effects.iter().map(entry).collect() }];
        let denying = L7Stage { entries: vec![entry(&Some(Effect::Deny))] };
        let mut program = program();
        program.l7_chains = vec![L7Chain { enforced, shadow: vec![denying], end: AnswerId(end) }];
        Judge::new(program).unwrap().only_learns(L7ChainId(0), AnswerId(opaque))
    };
    let (allow, pass, deny) = (Some(Effect::Allow), None, Some(Effect::Deny));
    assert!(only_learns(&[], 1, 1), "audit: the shadow answer denies, the enforced one cannot");
    assert!(only_learns(&[pass, allow], 1, 1));
    assert!(!only_learns(&[allow, deny], 1, 1), "a request can be denied");
    assert!(!only_learns(&[allow], 0, 1), "what no rule matches is denied");
    assert!(!only_learns(&[allow], 1, 0), "unreadable bytes are denied");
    let judge = Judge::new(program()).unwrap();
    assert!(!judge.only_learns(L7ChainId(0), AnswerId(1)), "a chain that is not there");
}

/// `(methods, template, host)` of entries, all allows.
fn chain_of(entries: &[(&str, &str, &str)]) -> Judge {
    let entry = |(method, template, host): &(&str, &str, &str)| {
        let http = HttpMatch {
            methods: if method.is_empty() { vec![] } else { vec![(*method).into()] },
            path: (!template.is_empty()).then(|| PathTemplate::parse(template).unwrap()),
            hosts: if host.is_empty() {
                vec![]
            } else {
                vec![bulkhead_facts::HostPattern::parse(host).unwrap()]
            },
            ..HttpMatch::default()
        };
        L7Entry {
            rule: RuleIndex(0),
            effect: Some(Effect::Allow),
            section: Some(L7Section::Http(vec![http])),
        }
    };
    let stage = L7Stage { entries: entries.iter().map(entry).collect() };
    let mut program = program();
    program.l7_chains = vec![L7Chain { enforced: vec![stage], shadow: vec![], end: AnswerId(0) }];
    Judge::new(program).unwrap()
}

#[test]
fn host_rules_match_the_same_at_any_number_of_rules() {
    for count in [1usize, 100, 101, 10_000] {
        let hosts: Vec<String> =
            (0..count).map(|n| format!("h{n}.test")).chain(["secret.test".into()]).collect();
        let entries: Vec<_> = hosts.iter().map(|host| ("", "", host.as_str())).collect();
        let judge = chain_of(&entries);
        let path = UrlPath::parse("/x").unwrap();
        let ask = |host: &str| {
            let host = HostName::parse(host).unwrap();
            let request =
                HttpRequest { method: "GET", path: &path, query: None, host: Some(&host), headers: &[] };
            judge.decide_l7(L7ChainId(0), &Request::Http(request)).enforced.effect
        };
        assert_eq!((ask("SECRET.test."), ask("other.test")), (Effect::Allow, Effect::Deny), "{count} hosts");
    }
}

#[test]
fn a_hostile_path_over_branching_templates_is_decided_at_once() {
    // Every segment may be a literal or a variable: without bounds this doubles the work at each one.
    let templates: Vec<String> = (0..1024u32)
        .map(|bits| {
            (0..10).map(|at| if bits & 1 << at == 0 { "/a" } else { "/{x}" }).collect::<String>() + "/end"
        })
        .collect();
    let entries: Vec<_> = templates.iter().map(|template| ("GET", template.as_str(), "")).collect();
    let judge = chain_of(&entries);
    let long = "/a".repeat(4_000);
    let path = UrlPath::parse(&long).unwrap();
    let request = HttpRequest { method: "GET", path: &path, query: None, host: None, headers: &[] };
    assert_eq!(judge.decide_l7(L7ChainId(0), &Request::Http(request)).enforced.effect, Effect::Deny);
}

/// The effects that a rule with this section has on requests: `[allow, deny]`, true where it matches.
fn matched(section: &str, ask: impl Fn(&Judge) -> Answer) -> [bool; 2] {
    [("allow", Effect::Allow), ("deny", Effect::Deny)].map(|(action, effect)| {
        let text = format!(
            "apiVersion: bulkhead.dev/v1alpha1\nkind: ClusterSegmentPolicy\nmetadata: {{name: a}}\nspec:\n  tier: admin\n  \
             priority: 1\n  subjects: {{namespaces: {{}}}}\n  ingress: [{{action: {action}, {section}}}]\n"
        );
        let loaded =
            crate::documents::load(&[crate::diagnostics::Source { name: "a.yaml".into(), text }]);
        assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
        let section = loaded.set.policies[0].ingress[0].l7.clone();
        let entry = L7Entry { rule: RuleIndex(0), effect: Some(effect), section };
        let mut program = program();
        let end = if effect == Effect::Allow { AnswerId(0) } else { AnswerId(1) };
        program.l7_chains = vec![L7Chain {
            enforced: vec![L7Stage { entries: vec![entry] }],
            shadow: vec![],
            end,
        }];
        ask(&Judge::new(program).unwrap()).rule.is_some()
    })
}

#[test]
fn each_protocol_is_decided_by_its_section_and_in_doubt_against_the_sender() {
    use bulkhead_facts::{
        DnsQuestion, HostName, KafkaRequest, PostgresMessage, PostgresStatement, RedisCommand, TlsHello,
        TlsVersion,
    };
    let name = HostName::parse("api.a.test").unwrap();
    let hello = TlsHello {
        server_name: Some(&name),
        lowest: TlsVersion::V1_2,
        highest: TlsVersion::V1_3,
        application_protocols: &["h2", "http/1.1"],
        encrypted: false,
    };
    let hidden = TlsHello { encrypted: true, ..hello };
    let question = DnsQuestion { name: &name, record: 1 };
    let get = RedisCommand { name: "GET", keys: &[b"cart:1", b"user:1"], database: None };
    let mixed = PostgresMessage {
        user: "pay",
        database: "pay",
        statements: &[PostgresStatement::Select, PostgresStatement::Other],
    };
    let fetch = KafkaRequest { api: 1, topics: &["orders.new"] };
    let (yes, no, doubt) = ([true, true], [false, false], [false, true]);
    let cases = [
        ("tls: {sni: ['*.a.test'], min: '1.2'}", Request::Tls(hello), yes),
        ("tls: {sni: ['b.test']}", Request::Tls(hello), no),
        ("tls: {min: '1.3'}", Request::Tls(hello), doubt),
        ("tls: {alpn: [h2]}", Request::Tls(hello), doubt),
        ("tls: {sni: ['*.a.test']}", Request::Tls(hidden), doubt),
        ("tls: {ech: true}", Request::Tls(hidden), yes),
        ("dns: [{names: ['**.test'], types: [A]}]", Request::Dns(question), yes),
        ("dns: [{types: [AAAA]}]", Request::Dns(question), no),
        ("dns: [{types: [AAAA]}]", Request::Dns(DnsQuestion { record: 255, ..question }), doubt),
        ("redis: [{commands: [get]}]", Request::Redis(get), yes),
        ("redis: [{keyPrefix: 'cart:'}]", Request::Redis(get), doubt),
        ("redis: [{databases: [0]}]", Request::Redis(get), doubt),
        ("postgres: [{users: [pay]}]", Request::Postgres(mixed), yes),
        ("postgres: [{statements: [select]}]", Request::Postgres(mixed), doubt),
        ("postgres: [{users: [ann]}]", Request::Postgres(mixed), no),
        ("kafka: [{apis: [fetch], topics: ['orders.*']}]", Request::Kafka(fetch), yes),
        ("kafka: [{topics: [orders]}]", Request::Kafka(fetch), no),
        // Of another protocol than the section's: a deny matches, an allow does not.
        ("kafka: [{}]", Request::Tls(hello), doubt),
        ("http: [{}]", Request::Dns(question), doubt),
        ("tls: {}", Request::Opaque, doubt),
    ];
    for (section, request, expected) in cases {
        let found = matched(section, |judge| judge.decide_l7(L7ChainId(0), &request).enforced);
        assert_eq!(found, expected, "{section}: {request:?}");
    }
}

#[test]
fn a_call_of_grpc_is_the_request_that_it_is() {
    let path = UrlPath::parse("/ledger.v1.Ledger/Append").unwrap();
    let ask = |section: &str, content_type: &str| {
        let headers = [HeaderField { name: b"Content-Type", value: content_type.as_bytes() }];
        let call = HttpRequest { method: "POST", path: &path, query: None, host: None, headers: &headers };
        matched(section, |judge| judge.decide_l7(L7ChainId(0), &Request::Http(call)).enforced)
    };
    let ledger = "grpc: [{service: ledger.v1.Ledger, methods: [Append, Get]}]";
    assert_eq!(ask(ledger, "application/grpc+proto"), [true, true]);
    assert_eq!(ask(ledger, "application/json"), [false, true], "a server may take it all the same");
    assert_eq!(ask("grpc: [{}]", "application/grpc"), [true, true]);
    assert_eq!(
        ask("grpc: [{service: ledger.v1.Ledger, methods: [Get]}]", "application/grpc"),
        [false, false]
    );
    assert_eq!(ask("grpc: [{service: ledger.v1}]", "application/grpc"), [false, false]);
}

#[test]
fn behind_a_header_of_the_proxy_protocol_an_allow_holds_only_where_it_accepts_one_and_a_deny_always() {
    let path =
        |path, proxied| HttpMatch { path: PathTemplate::parse(path).ok(), proxied, ..HttpMatch::default() };
    let hello = |proxied| L7Section::Tls(TlsMatch { proxied, ..TlsMatch::default() });
    let entry = |rule, effect, section| L7Entry { rule: RuleIndex(rule), effect: Some(effect), section };
    let entries = vec![
        entry(0, Effect::Deny, Some(L7Section::Http(vec![path("/in/no", false)]))),
        entry(1, Effect::Allow, Some(L7Section::Http(vec![path("/in/**", true), path("/ok", false)]))),
        entry(2, Effect::Allow, Some(hello(false))),
    ];
    let end = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    let end = AnswerPair { enforced: end, shadow: end };
    let hello_of_nobody = TlsHello {
        server_name: None,
        lowest: TlsVersion::V1_2,
        highest: TlsVersion::V1_3,
        application_protocols: &[],
        encrypted: false,
    };
    let ask = |entries: &[L7Entry], asked: &str, proxied| {
        let chain = L7Chain { enforced: vec![L7Stage { entries: entries.to_vec() }], ..L7Chain::default() };
        let index = ChainIndex::new(&chain, end, NamedRules::default());
        let path = UrlPath::parse(asked).ok();
        let request = path.as_ref().map(|path| {
            Request::Http(HttpRequest { method: "GET", path, query: None, host: None, headers: &[] })
        });
        let request = request.unwrap_or(Request::Tls(hello_of_nobody));
        index.decide(&chain, end, &request, Around { proxied, ..Around::default() }).enforced.effect
    };
    let all = |asked| [false, true].map(|proxied| ask(&entries, asked, proxied));
    assert_eq!(all("/in/a"), [Effect::Allow, Effect::Allow]);
    assert_eq!(all("/ok"), [Effect::Allow, Effect::Deny]);
    assert_eq!(all("/in/no"), [Effect::Deny, Effect::Deny]);
    assert_eq!(all("tls"), [Effect::Deny, Effect::Deny], "what denies requests of HTTP denies what is none");
    assert_eq!(
        [false, true].map(|proxied| ask(&entries[1..], "tls", proxied)),
        [Effect::Allow, Effect::Deny]
    );
    let accepting = [entry(0, Effect::Allow, Some(hello(true)))];
    assert_eq!([false, true].map(|proxied| ask(&accepting, "tls", proxied)), [Effect::Allow; 2]);
    let open = [entry(0, Effect::Allow, None)];
    assert_eq!(["/a", "tls"].map(|asked| ask(&open, asked, true)), [Effect::Allow; 2], "it asks for nothing");
}

#[test]
fn frames_are_checked_where_nothing_allows_the_socket_without() {
    let socket = |path: &str, frames_checked| HttpMatch {
        path: PathTemplate::parse(path).ok(),
        websocket: Some(true),
        frames_checked,
        ..HttpMatch::default()
    };
    let entry = |rule, requests| L7Entry {
        rule: RuleIndex(rule),
        effect: Some(Effect::Allow),
        section: Some(L7Section::Http(requests)),
    };
    let entries =
        vec![entry(0, vec![socket("/a", true), socket("/b", true)]), entry(1, vec![socket("/b", false)])];
    let chain = L7Chain { enforced: vec![L7Stage { entries }], ..L7Chain::default() };
    let end = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    let index = ChainIndex::new(&chain, AnswerPair { enforced: end, shadow: end }, NamedRules::default());
    let wants = |path: &str, upgrade: &'static [u8]| {
        let path = UrlPath::parse(path).unwrap();
        let headers = [HeaderField { name: b"upgrade", value: upgrade }];
        let request = HttpRequest { method: "GET", path: &path, query: None, host: None, headers: &headers };
        index.wants_frames_checked(&chain, end, &request, false)
    };
    assert!(wants("/a", b"websocket"));
    assert!(!wants("/b", b"websocket"), "another rule allows it without");
    assert!(!wants("/a", b"h2c") && !wants("/c", b"websocket"), "not allowed at all");
}

//! What is written is read back the same, and what is wrong is refused with the name of its field.

use bulkhead_api::{
    Capability, Flow, FlowAnswer, FlowBatch, HttpSignature, InvalidMessage, KafkaSignature,
    PostgresSignature, RedisSignature, RequestSignature, SidecarReport, TlsSignature, Weakness, v1,
};
use bulkhead_facts::{
    Direction, Effect, HostPattern, IpFamily, L4Protocol, Mode, NamePattern, PathTemplate, PolicyRef,
    PortRange, PostgresStatement, Reason, Tier, TlsVersion, WorkloadRef,
};
use bulkhead_policies::model::{
    DnsMatch, HeaderMatch, HeaderValueMatch, HttpMatch, KafkaMatch, L7Section, PostgresMatch, QueryMatch,
    RedisMatch, TlsMatch, TopicMatch,
};
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, Choice, ChoiceId, ClassId, DirectionProgram, Endpoint,
    L7Chain, L7ChainId, L7Entry, L7Stage, NamedClass, PortBox, Program, RuleIndex, RuleInfo, RuleNames,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;
use std::sync::Arc;

proptest! {
    #[test]
    fn a_program_survives_the_wire(program in program()) {
        let wire = v1::Program::from(&program);
        prop_assert_eq!(Program::try_from(wire), Ok(program));
    }

    #[test]
    fn a_flow_batch_survives_the_wire(batch in batch()) {
        let wire = v1::FlowBatch::from(&batch);
        prop_assert_eq!(FlowBatch::try_from(wire), Ok(batch));
    }
}

#[test]
fn what_weakens_a_sidecar_survives_the_wire_and_an_unknown_weakness_is_refused() {
    let report = SidecarReport {
        revision: 7,
        capability: Capability::L4Only,
        connections_open: 3,
        tampering: 1,
        weaknesses: Weakness::ALL.into(),
    };
    let wire = v1::SidecarStatus::from(&report);
    assert_eq!(SidecarReport::try_from(wire.clone()), Ok(report));
    let unknown = v1::SidecarStatus { weaknesses: vec![99], ..wire.clone() };
    let error = SidecarReport::try_from(unknown).expect_err("refused").to_string();
    assert!(error.contains("status.weaknesses") && error.contains("99"), "{error}");
    let none = v1::SidecarStatus { weaknesses: vec![0], ..wire };
    assert_eq!(SidecarReport::try_from(none), Err(InvalidMessage::Missing("status.weaknesses")));
}

#[test]
fn an_entry_without_alternatives_matches_nothing_after_the_wire_too() {
    let nothing =
        L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section: Some(L7Section::Http(vec![])) };
    let everything = L7Entry { section: None, ..nothing.clone() };
    assert_eq!(L7Entry::try_from(v1::L7Entry::from(&nothing)), Ok(nothing));
    assert_eq!(L7Entry::try_from(v1::L7Entry::from(&everything)), Ok(everything));
}

#[test]
fn an_entry_whose_section_is_of_an_unknown_kind_is_refused() {
    let section = Some(L7Section::Tls(TlsMatch::default()));
    let entry = L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section };
    let wire = v1::L7Entry { section: None, ..v1::L7Entry::from(&entry) };
    assert_eq!(L7Entry::try_from(wire), Err(InvalidMessage::Missing("entry.section")));
}

#[test]
fn a_wrong_field_refuses_the_program_and_is_named() {
    type Break = fn(&mut v1::Program);
    let cases: &[(&str, Break, InvalidMessage)] = &[
        ("no ingress", |p| p.ingress = None, InvalidMessage::Missing("program.ingress")),
        ("no egress", |p| p.egress = None, InvalidMessage::Missing("program.egress")),
        ("no workload", |p| p.workload_name.clear(), InvalidMessage::Missing("program.workload_name")),
        (
            "words of a newer version",
            |p| p.format = 4,
            InvalidMessage::Unknown { field: "program.format", value: "4".into() },
        ),
        (
            "unknown mode",
            |p| p.mode = "lenient".into(),
            InvalidMessage::Unknown { field: "program.mode", value: "lenient".into() },
        ),
        (
            "unknown effect",
            |p| p.answers[0].enforced.as_mut().expect("there").effect = 7,
            InvalidMessage::Unknown { field: "answer.effect", value: "7".into() },
        ),
        (
            "no effect",
            |p| p.answers[0].enforced.as_mut().expect("there").effect = 0,
            InvalidMessage::Missing("answer.effect"),
        ),
        (
            "unknown reason",
            |p| p.answers[0].shadow.as_mut().expect("there").reason = "whim".into(),
            InvalidMessage::Unknown { field: "answer.reason", value: "whim".into() },
        ),
        (
            "IPv6 address among IPv4 spans",
            |p| ingress(p).v4[0].first = vec![0; 16],
            InvalidMessage::BadLength { field: "span.first", length: 16 },
        ),
        (
            "port above 65535",
            |p| ingress(p).boxes[0].port_last = 65_536,
            InvalidMessage::OutOfRange { field: "box.port_last", value: 65_536 },
        ),
        (
            "ports back to front",
            |p| ingress(p).boxes[0].port_first = 443,
            InvalidMessage::OutOfRange { field: "box.port_last", value: 80 },
        ),
        (
            "protocol above 255",
            |p| ingress(p).boxes[0].protocol_first = 256,
            InvalidMessage::OutOfRange { field: "box.protocol_first", value: 256 },
        ),
        (
            "choice beside something else than a denial",
            |p| ingress(p).boxes[0].choice = Some(7),
            InvalidMessage::OutOfRange { field: "box.choice", value: 7 },
        ),
        ("no action", |p| ingress(p).boxes[0].action = None, InvalidMessage::Missing("box.action")),
        (
            "answer id that no mark can carry",
            |p| ingress(p).boxes[0].action = Some(v1::port_box::Action::Answer(70_000)),
            InvalidMessage::OutOfRange { field: "box.answer", value: 70_000 },
        ),
        (
            "header name in upper case",
            |p| http(p).headers[0].name = "X-Tenant".into(),
            InvalidMessage::Unreadable {
                field: "header.name",
                value: "X-Tenant".into(),
                problem: "not in lower case".into(),
            },
        ),
        (
            "header without condition",
            |p| http(p).headers[0].value = None,
            InvalidMessage::Missing("header.value"),
        ),
    ];
    for (name, break_it, expected) in cases {
        let mut wire = v1::Program::from(&small_program());
        break_it(&mut wire);
        assert_eq!(Program::try_from(wire).as_ref(), Err(expected), "{name}");
    }
}

/// What a sidecar finds that knows neither choices nor the reason: fields that it skips are not there.
#[test]
fn who_knows_no_choices_of_endpoints_denies_the_service_and_goes_on_with_the_rest() {
    let mut program = small_program();
    let differ = Answer { effect: Effect::Deny, rule: None, reason: Reason::EndpointsDiffer };
    program.answers.push(AnswerPair { enforced: differ, shadow: differ });
    program.egress.boxes[0].action = Action::Choose { choice: ChoiceId(0), otherwise: AnswerId(1) };
    let address = "10.0.0.2".parse().expect("address");
    let endpoints = vec![Endpoint { address, port: 8080, action: Action::Answer(AnswerId(0)) }];
    program.choices = vec![Choice { endpoints }];
    let mut wire = v1::Program::from(&program);
    assert_eq!(Program::try_from(wire.clone()), Ok(program.clone()));
    wire.choices.clear();
    wire.egress.as_mut().expect("there").boxes[0].choice = None;
    for answer in wire.answers.iter_mut().flat_map(|pair| [&mut pair.enforced, &mut pair.shadow]) {
        answer.as_mut().expect("there").newer_reason.clear();
    }
    let older = Program::try_from(wire).expect("nothing that it does not know");
    assert_eq!(older.egress.boxes[0].action, Action::Answer(AnswerId(1)));
    assert_eq!(older.answers[1].enforced, Answer { reason: Reason::NoRule, ..differ });
}

#[test]
fn a_newer_reason_that_is_not_known_is_read_as_the_nearest_one() {
    let mut wire = v1::FlowRecord::from(&small_flow());
    wire.enforced.as_mut().expect("there").newer_reason = "a_whim_of_tomorrow".to_owned();
    assert_eq!(Flow::try_from(wire).map(|flow| flow.enforced.reason), Ok(Reason::NoRule));
}

#[test]
fn a_path_that_is_no_template_refuses_the_program() {
    let mut wire = v1::Program::from(&small_program());
    http(&mut wire).path = Some("/a/../b".into());
    let refused = Program::try_from(wire).expect_err("must be refused");
    assert!(matches!(refused, InvalidMessage::Unreadable { field: "http.path", .. }), "{refused}");
}

#[test]
fn a_batch_of_too_many_records_is_refused() {
    let record = v1::FlowRecord::default();
    let wire = v1::FlowBatch { sequence: 1, records: vec![record; 1025], dropped: 0 };
    assert_eq!(
        FlowBatch::try_from(wire),
        Err(InvalidMessage::BadLength { field: "batch.records", length: 1025 })
    );
}

#[test]
fn a_mapped_address_is_folded_on_arrival() {
    let mapped: IpAddr = "::ffff:10.0.0.5".parse().expect("address");
    let mut wire = v1::FlowRecord::from(&small_flow());
    wire.peer = match mapped {
        IpAddr::V6(v6) => v6.octets().to_vec(),
        IpAddr::V4(_) => unreachable!("written as IPv6"),
    };
    assert_eq!(Flow::try_from(wire).map(|f| f.peer), Ok("10.0.0.5".parse().expect("address")));
}

fn ingress(program: &mut v1::Program) -> &mut v1::DirectionProgram {
    program.ingress.as_mut().expect("there")
}

fn http(program: &mut v1::Program) -> &mut v1::HttpMatch {
    let entry = &mut program.l7_chains[0].enforced[0].entries[0];
    match &mut entry.section {
        Some(v1::l7_entry::Section::Http(http)) => &mut http.alternatives[0],
        other => panic!("no http section: {other:?}"),
    }
}

fn small_program() -> Program {
    let deny = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    let http = HttpMatch {
        methods: vec!["GET".into()],
        path: Some(PathTemplate::parse("/orders/{id}").expect("template")),
        hosts: vec![],
        headers: vec![HeaderMatch { name: "x-tenant".into(), value: HeaderValueMatch::Present }],
        ..HttpMatch::default()
    };
    let entry = L7Entry { rule: RuleIndex(0), effect: None, section: Some(L7Section::Http(vec![http])) };
    let direction = DirectionProgram {
        v4: vec![AddressSpan { first: 1, last: 2, class: ClassId(0) }],
        v6: vec![],
        boxes: vec![PortBox {
            class: ClassId(0),
            protocol_first: L4Protocol::TCP,
            protocol_last: L4Protocol::TCP,
            ports: PortRange::single(80),
            action: Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(0) },
        }],
        named: vec![],
    };
    Program {
        revision: 3,
        workload: WorkloadRef { namespace: "shop".into(), name: "web".into() },
        collection: None,
        mode: Mode::Enforce,
        rules: vec![],
        answers: vec![AnswerPair { enforced: deny, shadow: deny }],
        l7_chains: vec![L7Chain {
            enforced: vec![L7Stage { entries: vec![entry] }],
            shadow: vec![],
            end: AnswerId(0),
        }],
        ingress: direction.clone(),
        egress: direction,
        names: vec![],
        choices: vec![],
    }
}

fn small_flow() -> Flow {
    let answer = FlowAnswer { effect: Effect::Deny, reason: Reason::NoRule, rule: None };
    Flow {
        direction: Direction::Egress,
        peer: "10.0.0.9".parse().expect("address"),
        local: "10.0.0.8".parse().expect("address"),
        protocol: L4Protocol::TCP,
        port: 80,
        http: None,
        request: None,
        application: String::new(),
        enforced: answer.clone(),
        shadow: answer,
        count: 1,
        bytes_to_destination: 0,
        bytes_to_source: 0,
        first_seen_ms: 1,
        last_seen_ms: 2,
        revision: 3,
        sender_uid: None,
        report_id: None,
        endpoint: None,
    }
}

fn program() -> impl Strategy<Value = Program> {
    let head = (any::<u64>(), workload(), option::of(name()), mode());
    let tables = (vec(rule_info(), 0..4), vec(answer_pair(), 0..4), vec(chain(), 0..3));
    let choices = vec(choice(), 0..3);
    let names = vec((any::<u32>(), vec(pattern(), 0..3)), 0..3);
    let names = names.prop_map(|all| {
        let named = |(rule, names)| RuleNames { rule: RuleIndex(rule), names };
        all.into_iter().map(named).collect()
    });
    (head, tables, direction_program(), direction_program(), names, choices).prop_map(
        |(head, tables, ingress, egress, names, choices)| {
            let (revision, workload, collection, mode) = head;
            let (rules, answers, l7_chains) = tables;
            Program {
                revision,
                workload,
                collection,
                mode,
                rules,
                answers,
                l7_chains,
                ingress,
                egress,
                names,
                choices,
            }
        },
    )
}

fn direction_program() -> impl Strategy<Value = DirectionProgram> {
    (vec(span::<u32>(), 0..4), vec(span::<u128>(), 0..4), vec(port_box(), 0..4), vec(named_class(), 0..4))
        .prop_map(|(v4, v6, boxes, named)| DirectionProgram { v4, v6, boxes, named })
}

fn named_class() -> impl Strategy<Value = NamedClass> {
    let family = any::<bool>().prop_map(|v6| if v6 { IpFamily::V6 } else { IpFamily::V4 });
    (family, any::<Option<u32>>(), vec(any::<u32>(), 0..3), any::<u32>()).prop_map(
        |(family, base, rules, class)| NamedClass {
            family,
            base: base.map(ClassId),
            rules: rules.into_iter().map(RuleIndex).collect(),
            class: ClassId(class),
        },
    )
}

fn span<A: Arbitrary + Clone>() -> impl Strategy<Value = AddressSpan<A>> {
    (any::<A>(), any::<A>(), any::<u32>()).prop_map(|(first, last, class)| AddressSpan {
        first,
        last,
        class: ClassId(class),
    })
}

fn port_box() -> impl Strategy<Value = PortBox> {
    let chosen = (any::<u32>(), any::<u16>()).prop_map(|(choice, otherwise)| Action::Choose {
        choice: ChoiceId(choice),
        otherwise: AnswerId(otherwise),
    });
    let action = prop_oneof![3 => action(), 1 => chosen];
    (any::<u32>(), any::<(u8, u8)>(), any::<(u16, u16)>(), action).prop_map(
        |(class, protocols, ports, action)| PortBox {
            class: ClassId(class),
            protocol_first: L4Protocol(protocols.0.min(protocols.1)),
            protocol_last: L4Protocol(protocols.0.max(protocols.1)),
            ports: PortRange::new(ports.0.min(ports.1), ports.0.max(ports.1)).expect("in order"),
            action,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        any::<u16>().prop_map(|id| Action::Answer(AnswerId(id))),
        any::<u16>().prop_map(|id| Action::Learn(AnswerId(id))),
        (any::<u32>(), any::<u16>()).prop_map(|(chain, opaque)| Action::Inspect {
            chain: L7ChainId(chain),
            opaque: AnswerId(opaque)
        }),
    ]
}

fn choice() -> impl Strategy<Value = Choice> {
    let endpoint = (any::<IpAddr>(), any::<u16>(), action());
    let endpoint = endpoint.prop_map(|(address, port, action)| {
        let address = address.to_canonical();
        Endpoint { address, port, action }
    });
    vec(endpoint, 0..3).prop_map(|endpoints| Choice { endpoints })
}

fn chain() -> impl Strategy<Value = L7Chain> {
    (vec(stage(), 0..3), vec(stage(), 0..3), any::<u16>()).prop_map(|(enforced, shadow, end)| L7Chain {
        enforced,
        shadow,
        end: AnswerId(end),
    })
}

fn stage() -> impl Strategy<Value = L7Stage> {
    let entry = (any::<u32>(), option::of(effect()), option::of(section()))
        .prop_map(|(rule, effect, section)| L7Entry { rule: RuleIndex(rule), effect, section });
    vec(entry, 0..3).prop_map(|entries| L7Stage { entries })
}

fn http_match() -> impl Strategy<Value = HttpMatch> {
    let path = select(vec!["/", "/orders/{id}", "/static/**", "/v1/charges"])
        .prop_map(|text| PathTemplate::parse(text).expect("template"));
    let host = select(vec!["shop.example", "*.shop.example", "10.0.0.1"])
        .prop_map(|text| HostPattern::parse(text).expect("host"));
    let value = prop_oneof![
        Just(HeaderValueMatch::Present),
        Just(HeaderValueMatch::Absent),
        "[a-z]{0,5}".prop_map(HeaderValueMatch::Exact),
        "[a-z]{0,5}".prop_map(HeaderValueMatch::Prefix),
    ];
    let header = ("[a-z-]{1,8}", value).prop_map(|(name, value)| HeaderMatch { name, value });
    let query = (name(), any::<bool>()).prop_map(|(name, present)| QueryMatch { name, present });
    let rest = (vec(query, 0..2), option::of(any::<bool>()), any::<(bool, bool)>());
    (vec("[A-Z]{1,7}", 0..3), option::of(path), vec(host, 0..3), vec(header, 0..3), rest).prop_map(
        |(methods, path, hosts, headers, (query, websocket, (frames_checked, proxied)))| HttpMatch {
            methods,
            path,
            hosts,
            headers,
            query,
            websocket,
            frames_checked,
            proxied,
        },
    )
}

fn section() -> impl Strategy<Value = L7Section> {
    let tls = (vec(pattern(), 0..3), option::of(select(TlsVersion::ALL.to_vec())), vec(name(), 0..3));
    let tls =
        (tls, any::<(bool, bool, bool)>()).prop_map(|((sni, min, alpn), (encrypted, nameless, proxied))| {
            L7Section::Tls(TlsMatch { sni, min, alpn, encrypted, nameless, proxied })
        });
    let dns = (vec(pattern(), 0..3), vec(any::<u16>(), 0..3))
        .prop_map(|(names, records)| DnsMatch { names, records });
    let redis = (vec(name(), 0..3), option::of(name()), vec(any::<u32>(), 0..3))
        .prop_map(|(commands, key_prefix, databases)| RedisMatch { commands, key_prefix, databases });
    let statements = vec(select(PostgresStatement::NAMED.to_vec()), 0..3);
    let postgres = (vec(name(), 0..3), vec(name(), 0..3), statements)
        .prop_map(|(users, databases, statements)| PostgresMatch { users, databases, statements });
    let topics = (vec(name(), 0..3), vec(name(), 0..3)).prop_map(|(exact, prefixes)| {
        let exact = exact.into_iter().map(TopicMatch::Exact);
        exact.chain(prefixes.into_iter().map(TopicMatch::Prefix)).collect()
    });
    let kafka = (vec(any::<u16>(), 0..3), topics).prop_map(|(apis, topics)| KafkaMatch { apis, topics });
    prop_oneof![
        vec(http_match(), 0..3).prop_map(L7Section::Http),
        tls,
        vec(dns, 0..3).prop_map(L7Section::Dns),
        vec(redis, 0..3).prop_map(L7Section::Redis),
        vec(postgres, 0..3).prop_map(L7Section::Postgres),
        vec(kafka, 0..3).prop_map(L7Section::Kafka),
    ]
}

fn pattern() -> impl Strategy<Value = NamePattern> {
    select(vec!["shop.example", "*.shop.example", "**.shop.example"])
        .prop_map(|text| NamePattern::parse(text).expect("pattern"))
}

fn batch() -> impl Strategy<Value = FlowBatch> {
    (any::<u64>(), vec(flow(), 0..4), any::<u64>()).prop_map(|(sequence, flows, dropped)| FlowBatch {
        sequence,
        flows,
        dropped,
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    let endpoint = option::of((address(), any::<u16>()));
    let ends = (direction(), address(), address(), any::<u8>(), any::<u16>(), endpoint);
    let requests = (option::of(signature()), option::of(request()));
    let seen = (requests, "[a-z/0-9.]{0,10}", flow_answer(), flow_answer());
    let seen =
        seen.prop_map(|((http, request), name, enforced, shadow)| (http, request, name, enforced, shadow));
    let numbers = (any::<[u64; 6]>(), option::of(any::<u32>()), option::of(name()));
    (ends, seen, numbers).prop_map(|(ends, seen, numbers)| Flow {
        direction: ends.0,
        peer: ends.1,
        local: ends.2,
        protocol: L4Protocol(ends.3),
        port: ends.4,
        http: seen.0,
        request: seen.1.map(Arc::new),
        application: seen.2,
        enforced: seen.3,
        shadow: seen.4,
        count: numbers.0[0],
        bytes_to_destination: numbers.0[1],
        bytes_to_source: numbers.0[2],
        first_seen_ms: numbers.0[3],
        last_seen_ms: numbers.0[4],
        revision: numbers.0[5],
        sender_uid: numbers.1,
        report_id: numbers.2,
        endpoint: ends.5.map(|(address, port)| std::net::SocketAddr::new(address, port)),
    })
}

fn signature() -> impl Strategy<Value = HttpSignature> {
    ("[A-Z]{1,7}", "/[a-z{}/]{0,12}", "[a-z.]{0,12}", 0u16..6).prop_map(
        |(method, path_template, host, status)| HttpSignature { method, path_template, host, status },
    )
}

fn request() -> impl Strategy<Value = RequestSignature> {
    let word = || "[a-z.*:]{0,12}";
    let version = prop_oneof![Just(TlsVersion::V1_0), Just(TlsVersion::V1_2), Just(TlsVersion::V1_3)];
    let class = prop_oneof![Just(PostgresStatement::Select), Just(PostgresStatement::Other)];
    prop_oneof![
        (option::of(word()), version, any::<bool>()).prop_map(|(server_name, lowest, encrypted)| {
            RequestSignature::Tls(TlsSignature { server_name, lowest, encrypted })
        }),
        (word(), option::of(word()), option::of(any::<u32>())).prop_map(|(command, key_prefix, database)| {
            RequestSignature::Redis(RedisSignature { command, key_prefix, database })
        }),
        (word(), word(), vec(class, 0..3)).prop_map(|(user, database, statements)| {
            RequestSignature::Postgres(PostgresSignature { user, database, statements })
        }),
        (any::<u16>(), vec(word(), 0..16))
            .prop_map(|(api, topics)| RequestSignature::Kafka(KafkaSignature { api, topics })),
        Just(RequestSignature::Others),
    ]
}

fn flow_answer() -> impl Strategy<Value = FlowAnswer> {
    (effect(), reason(), option::of(rule_info())).prop_map(|(effect, reason, rule)| FlowAnswer {
        effect,
        reason,
        rule,
    })
}

fn answer_pair() -> impl Strategy<Value = AnswerPair> {
    let answer = || {
        (effect(), option::of(any::<u32>()), reason()).prop_map(|(effect, rule, reason)| Answer {
            effect,
            rule: rule.map(RuleIndex),
            reason,
        })
    };
    (answer(), answer()).prop_map(|(enforced, shadow)| AnswerPair { enforced, shadow })
}

fn rule_info() -> impl Strategy<Value = RuleInfo> {
    let tiers = vec![Tier::Admin, Tier::Infrastructure, Tier::Namespace, Tier::Baseline, Tier::Default];
    (select(tiers), name(), option::of(name()), name(), name(), direction()).prop_map(
        |(tier, kind, namespace, policy, rule, direction)| RuleInfo {
            tier,
            policy: PolicyRef { kind, namespace, name: policy },
            rule,
            direction,
        },
    )
}

/// Addresses as they leave the parser: IPv4-mapped ones folded.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|bytes| IpAddr::from(bytes).to_canonical())
    ]
}

fn workload() -> impl Strategy<Value = WorkloadRef> {
    (name(), name()).prop_map(|(namespace, name)| WorkloadRef { namespace, name })
}

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,8}"
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![Mode::Observe, Mode::Audit, Mode::Enforce])
}

fn direction() -> impl Strategy<Value = Direction> {
    select(Direction::BOTH.to_vec())
}

fn effect() -> impl Strategy<Value = Effect> {
    select(vec![Effect::Allow, Effect::Deny])
}

fn reason() -> impl Strategy<Value = Reason> {
    select(Reason::ALL.to_vec())
}

#[test]
fn what_a_newer_sidecar_knows_of_a_request_is_not_told_apart() {
    let mut wire = v1::FlowRecord::from(&small_flow());
    assert_eq!(
        Flow::try_from(wire.clone()).map(|flow| flow.request),
        Ok(None),
        "an older sidecar tells nothing"
    );
    let hello = v1::TlsSignature { server_name: None, lowest: "1.4".into(), encrypted: false };
    wire.request = Some(v1::flow_record::Request::Tls(hello));
    let read = Flow::try_from(wire.clone()).expect("a flow");
    assert_eq!(read.request.as_deref(), Some(&RequestSignature::Others));
    let statements = vec!["select".to_owned(), "teleport".to_owned()];
    let message = v1::PostgresSignature { user: "a".into(), database: "b".into(), statements };
    wire.request = Some(v1::flow_record::Request::Postgres(message));
    let read = Flow::try_from(wire.clone()).expect("a flow");
    let Some(RequestSignature::Postgres(message)) = read.request.as_deref() else { panic!("{read:?}") };
    assert_eq!(message.statements, [PostgresStatement::Select, PostgresStatement::Other]);
    let topics = vec!["t".to_owned(); 17];
    wire.request = Some(v1::flow_record::Request::Kafka(v1::KafkaSignature { api: 0, topics }));
    assert!(matches!(Flow::try_from(wire), Err(InvalidMessage::BadLength { .. })));
}

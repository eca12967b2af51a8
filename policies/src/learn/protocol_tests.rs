//! What is proposed from requests of TLS, DNS, Redis, PostgreSQL and Kafka: what was asked is allowed, and nothing else.

use super::tests::{inventory, loaded, options, outside, pod, proposed, seen};
use super::*;
use crate::compile::Compiler;
use crate::inventory::Inventory;
use crate::naive::random::Random;
use crate::questions::{End, Judges, Question, RequestQuestion, Version};
use bulkhead_facts::{Effect, PostgresStatement, TlsVersion};

const CHECKOUT: &str = "10.1.0.1";
const CACHE: &str = "10.1.2.1";
const OUTSIDE: &str = "198.51.100.7";

fn redis(command: &str, key_prefix: Option<&str>, database: u32) -> RequestKind {
    let key_prefix = key_prefix.map(str::to_owned);
    RequestKind::Redis(RedisKind { command: command.into(), key_prefix, database: Some(database) })
}

fn postgres(user: &str, database: &str, statements: &[PostgresStatement]) -> RequestKind {
    let statements = statements.to_vec();
    RequestKind::Postgres(PostgresKind { user: user.into(), database: database.into(), statements })
}

fn kafka(api: u16, topics: &[&str]) -> RequestKind {
    RequestKind::Kafka(KafkaKind { api, topics: topics.iter().map(|topic| (*topic).to_owned()).collect() })
}

fn tls(server_name: Option<&str>, lowest: TlsVersion) -> RequestKind {
    RequestKind::Tls(TlsKind { server_name: server_name.map(str::to_owned), lowest, encrypted: false })
}

fn dns(name: &str, record: u16) -> RequestKind {
    RequestKind::Dns(DnsKind { name: name.into(), record, answered: true })
}

fn application(kind: &RequestKind) -> &'static str {
    match kind {
        RequestKind::Http(_) => "http/1.1",
        RequestKind::Tls(_) => "tls",
        RequestKind::Dns(_) => "dns",
        RequestKind::Redis(_) | RequestKind::Others => "redis",
        RequestKind::Postgres(_) => "postgres",
        RequestKind::Kafka(_) => "kafka",
    }
}

fn told(observation: Observation, kind: &RequestKind) -> Observation {
    Observation { request: Some(kind.clone()), application: application(kind).into(), ..observation }
}

/// Both replicas of checkout ask cache; its sidecar reads.
fn inside(port: u16, kinds: &[RequestKind]) -> Vec<Observation> {
    let mut all = Vec::new();
    for replica in 0..2 {
        let told_by =
            |witness| seen(pod("shop", "checkout", replica), pod("shop", "cache", 0), witness, port);
        all.push(told_by(Witness::Source));
        all.extend(kinds.iter().map(|kind| told(told_by(Witness::Destination), kind)));
    }
    all
}

/// Both replicas of checkout ask somebody outside; their own sidecars read.
fn abroad(protocol: L4Protocol, port: u16, kinds: &[RequestKind]) -> Vec<Observation> {
    let each = |replica| seen(pod("shop", "checkout", replica), outside(OUTSIDE), Witness::Source, port);
    let of = |replica| kinds.iter().map(move |kind| Observation { protocol, ..told(each(replica), kind) });
    (0..2).flat_map(of).collect()
}

/// Asks the compiled proposal.
struct Asker<'a> {
    judges: Judges<'a>,
    inventory: &'a Inventory,
}

impl Asker<'_> {
    fn allows(&mut self, to: &str, protocol: L4Protocol, port: u16, request: &str) -> bool {
        let words: Vec<String> = request.split(' ').map(str::to_owned).collect();
        let request = RequestQuestion::parse(&words).unwrap();
        let inventory = self.inventory;
        let end = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            let holder = inventory.pods.iter().find(|(_, pod)| pod.addresses.contains(&address));
            End { pod: holder.map(|(name, _)| name), address }
        };
        let question = Question {
            source: end(CHECKOUT),
            destination: end(to),
            dialled: None,
            name: None,
            protocol,
            port,
            request: Some(&request),
        };
        self.judges.ask(&question).unwrap().effect(Version::Enforced) == Effect::Allow
    }
}

fn with_asker(proposal: &Proposal, ask: impl FnOnce(&mut Asker<'_>)) {
    let (set, inventory) = (loaded(proposal), inventory());
    let compiler = Compiler::new(&set, &inventory).unwrap();
    ask(&mut Asker { judges: Judges::new(&compiler, &inventory), inventory: &inventory });
}

/// The lines of a proposal's document from the section on.
fn section<'a>(proposal: &'a Proposal, name: &str) -> Vec<&'a str> {
    let lines = proposal.document.lines().map(str::trim_start);
    let mut from = lines.skip_while(|line| !line.starts_with(&format!("{name}:")));
    let first = from.next().unwrap_or_default();
    let items: Vec<&str> = from.take_while(|line| line.starts_with("- {")).collect();
    if items.is_empty() { vec![first] } else { items }
}

#[test]
fn commands_to_redis_are_allowed_as_they_were_seen() {
    let proposal = proposed(&inside(
        6379,
        &[
            redis("get", Some("session:"), 0),
            redis("set", Some("session:"), 0),
            redis("get", Some("cart:"), 1),
            redis("ping", None, 0),
            redis("hello", None, 0),
            redis("incr", None, 0),
            redis("incr", Some("hits:"), 0),
        ],
    ));
    assert_eq!(
        section(&proposal, "redis"),
        [
            r#"- {commands: [hello, incr, ping], databases: [0]}"#,
            r#"- {commands: [get], keyPrefix: "cart:", databases: [1]}"#,
            r#"- {commands: [get, set], keyPrefix: "session:", databases: [0]}"#,
        ]
    );
    assert_eq!(proposal.needs_person, []);
    with_asker(&proposal, |asker| {
        for (request, expected) in [
            ("redis command=GET key=session:1", true),
            ("redis command=set key=session:1", true),
            ("redis command=get key=cart:7 database=1", true),
            ("redis command=ping", true),
            ("redis command=incr key=anything", true),
            ("redis command=get key=cart:7", false),
            ("redis command=set key=cart:7 database=1", false),
            ("redis command=get key=session:1 key=other", false),
            ("redis command=flushall", false),
            ("redis command=config", false),
            ("redis command=get key=session:1 database=unknown", false),
            ("tls sni=cache.shop", false),
        ] {
            assert_eq!(asker.allows(CACHE, L4Protocol::TCP, 6379, request), expected, "{request}");
        }
    });
}

#[test]
fn statements_of_postgres_are_allowed_by_role_database_and_class() {
    use PostgresStatement::{Insert, Select, Transaction};
    let proposal = proposed(&inside(
        5432,
        &[
            postgres("shop", "orders", &[]),
            postgres("shop", "orders", &[Select]),
            postgres("shop", "orders", &[Insert, Transaction]),
            postgres("report", "orders", &[]),
            postgres("report", "orders", &[Select]),
        ],
    ));
    assert_eq!(
        section(&proposal, "postgres"),
        [
            "- {users: [report], databases: [orders], statements: [select]}",
            "- {users: [shop], databases: [orders], statements: [select, insert, transaction]}",
        ]
    );
    assert_eq!(proposal.needs_person, []);
    with_asker(&proposal, |asker| {
        for (request, expected) in [
            ("postgres user=shop database=orders", true),
            ("postgres user=shop database=orders statement=select", true),
            ("postgres user=shop database=orders statement=insert statement=transaction", true),
            ("postgres user=report database=orders statement=select", true),
            ("postgres user=report database=orders statement=insert", false),
            ("postgres user=shop database=orders statement=define", false),
            ("postgres user=shop database=orders statement=select statement=truncate", false),
            ("postgres user=postgres database=orders", false),
            ("postgres user=shop database=postgres statement=select", false),
        ] {
            assert_eq!(asker.allows(CACHE, L4Protocol::TCP, 5432, request), expected, "{request}");
        }
    });
}

#[test]
fn requests_to_kafka_are_allowed_by_call_and_topic() {
    let kinds = [
        kafka(18, &[]),
        kafka(3, &[]),
        kafka(3, &["orders"]),
        kafka(0, &["orders"]),
        kafka(0, &["audit", "orders"]),
        kafka(1, &["prices"]),
        kafka(60, &[]),
    ];
    let proposal = proposed(&inside(9092, &kinds));
    assert_eq!(
        section(&proposal, "kafka"),
        [
            "- {apis: [metadata, api-versions, api-60]}",
            "- {apis: [produce], topics: [audit, orders]}",
            "- {apis: [fetch], topics: [prices]}",
        ]
    );
    with_asker(&proposal, |asker| {
        for (request, expected) in [
            ("kafka api=api-versions", true),
            ("kafka api=metadata", true),
            ("kafka api=metadata topic=orders", true),
            ("kafka api=produce topic=orders", true),
            ("kafka api=produce topic=orders topic=audit", true),
            ("kafka api=fetch topic=prices", true),
            ("kafka api=fetch topic=orders", false),
            ("kafka api=produce topic=prices", false),
            ("kafka api=produce topic=orders topic=secrets", false),
            ("kafka api=fetch", false),
            ("kafka api=delete-topics topic=orders", false),
        ] {
            assert_eq!(asker.allows(CACHE, L4Protocol::TCP, 9092, request), expected, "{request}");
        }
    });
}

#[test]
fn hellos_of_tls_are_allowed_by_name_and_lowest_version() {
    let kinds = [
        tls(Some("api.cardnet.test"), TlsVersion::V1_2),
        tls(Some("cdn.cardnet.test"), TlsVersion::V1_2),
        tls(Some("api.cardnet.test"), TlsVersion::V1_3),
    ];
    let proposal = proposed(&abroad(L4Protocol::TCP, 443, &kinds));
    let expected = r#"tls: {sni: ["api.cardnet.test", "cdn.cardnet.test"], min: "1.2"}"#;
    assert_eq!(section(&proposal, "tls"), [expected]);
    assert_eq!(proposal.rules.len(), 1);
    with_asker(&proposal, |asker| {
        for (request, expected) in [
            ("tls sni=api.cardnet.test version=1.2-1.3", true),
            ("tls sni=cdn.cardnet.test version=1.3", true),
            ("tls sni=evil.test version=1.2-1.3", false),
            ("tls sni=api.cardnet.test version=1.0-1.3", false),
            ("tls version=1.2-1.3", false),
            ("tls sni=api.cardnet.test ech=true", false),
        ] {
            assert_eq!(asker.allows(OUTSIDE, L4Protocol::TCP, 443, request), expected, "{request}");
        }
    });
}

#[test]
fn what_one_section_of_tls_cannot_say_is_several_rules() {
    let kinds = [
        tls(Some("old.test"), TlsVersion::V1_0),
        tls(Some("new.test"), TlsVersion::V1_2),
        tls(None, TlsVersion::V1_2),
    ];
    let proposal = proposed(&abroad(L4Protocol::TCP, 443, &kinds));
    assert_eq!(proposal.rules.len(), 2);
    with_asker(&proposal, |asker| {
        for (request, expected) in [
            ("tls sni=old.test version=1.0-1.3", true),
            ("tls sni=new.test version=1.2", true),
            ("tls version=1.2", true),
            ("tls sni=new.test version=1.1-1.3", false),
            ("tls version=1.0", false),
        ] {
            assert_eq!(asker.allows(OUTSIDE, L4Protocol::TCP, 443, request), expected, "{request}");
        }
    });
}

#[test]
fn questions_to_name_servers_are_allowed_by_name_and_type() {
    let kinds = [
        dns("catalog.shop", 1),
        dns("catalog.shop", 28),
        dns("orders.shop", 1),
        dns("orders.shop", 28),
        dns("mail.shop", 15),
    ];
    let proposal = proposed(&abroad(L4Protocol::UDP, 53, &kinds));
    let expected = [
        r#"- {names: ["catalog.shop", "orders.shop"], types: [A, AAAA]}"#,
        r#"- {names: ["mail.shop"], types: [MX]}"#,
    ];
    assert_eq!(section(&proposal, "dns"), expected);
    with_asker(&proposal, |asker| {
        for (request, expected) in [
            ("dns name=catalog.shop", true),
            ("dns name=orders.shop type=AAAA", true),
            ("dns name=mail.shop type=MX", true),
            ("dns name=mail.shop type=A", false),
            ("dns name=catalog.shop type=TXT", false),
            ("dns name=aGVsbG8.tunnel.test", false),
            ("dns name=x.catalog.shop", false),
        ] {
            assert_eq!(asker.allows(OUTSIDE, L4Protocol::UDP, 53, request), expected, "{request}");
        }
    });
}

#[test]
fn names_on_the_way_through_a_search_list_are_allowed_and_others_that_failed_are_held_back() {
    let failed = |name: &str| RequestKind::Dns(DnsKind { name: name.into(), record: 1, answered: false });
    let kinds = [
        failed("orders.shop.shop.svc.cluster.local"),
        dns("orders.shop.svc.cluster.local", 1),
        failed("api.test.shop.svc.cluster.local"),
        failed("api.test.svc.cluster.local"),
        dns("api.test", 1),
        failed("nobody.test"),
    ];
    let proposal = proposed(&abroad(L4Protocol::UDP, 53, &kinds));
    let names = r#"["api.test", "orders.shop.shop.svc.cluster.local", "orders.shop.svc.cluster.local"]"#;
    assert_eq!(section(&proposal, "dns"), [format!("- {{names: {names}, types: [A]}}")]);
    let held: Vec<_> =
        proposal.needs_person.iter().map(|held| (held.request.as_deref(), &held.cautions)).collect();
    assert_eq!(held, [(Some("dns nobody.test A"), &vec![Caution::OnlyErrors])]);
}

fn held(kinds: &[RequestKind]) -> Vec<(String, Vec<Caution>)> {
    let proposal = proposed(&inside(7000, kinds));
    let named = |held: &HeldBack| (held.request.clone().unwrap_or_default(), held.cautions.clone());
    proposal.needs_person.iter().map(named).collect()
}

#[test]
fn what_no_rule_can_mean_exactly_is_told_and_not_proposed() {
    use PostgresStatement::{Other, Select};
    let unknown_database = |command: &str| {
        RequestKind::Redis(RedisKind { command: command.into(), key_prefix: None, database: None })
    };
    let cases: Vec<(Vec<RequestKind>, &str, Caution)> = vec![
        (
            vec![postgres("a", "b", &[Select]), postgres("a", "b", &[Other])],
            "postgres other as a in b",
            Caution::Unnameable,
        ),
        (
            vec![postgres("a", "b", &[Select]), postgres("c", "b", &[])],
            "postgres a session as c in b",
            Caution::Unnameable,
        ),
        (
            vec![postgres("a", "b", &[Select]), postgres("a*", "b", &[Select])],
            "postgres select as a* in b",
            Caution::Unnameable,
        ),
        (
            vec![redis("get", None, 0), unknown_database("get"), unknown_database("set")],
            "redis set in an unknown database",
            Caution::Unnameable,
        ),
        (vec![redis("get", None, 0), redis("a b", None, 0)], "redis a b in 0", Caution::Unnameable),
        (
            vec![redis("get", None, 0), RequestKind::Others],
            "requests that were not told apart",
            Caution::ManyKinds,
        ),
        (
            vec![tls(Some("a.test"), TlsVersion::V1_2), tls(Some("*.cdn.test"), TlsVersion::V1_2)],
            "tls *.cdn.test from 1.2",
            Caution::Varying,
        ),
        (
            vec![redis("get", None, 0), redis("get", None, 0), kafka(0, &["a"])],
            "kafka produce a",
            Caution::MixedProtocols,
        ),
    ];
    for (kinds, request, caution) in cases {
        assert_eq!(held(&kinds), [(request.to_owned(), vec![caution])]);
        let document = proposed(&inside(7000, &kinds)).document;
        assert_eq!(document, proposed(&inside(7000, &kinds[..1])).document, "{request}");
    }
}

#[test]
fn an_edge_of_which_no_request_can_be_proposed_is_not_proposed_at_layer_4() {
    for kind in [postgres("a", "b", &[]), RequestKind::Others, redis("a b", None, 0)] {
        let document = proposed(&inside(7000, &[kind])).document;
        // What checkout may do, its own side reads nothing of.
        assert!(!document.contains("learned-cache"), "{document}");
    }
}

#[test]
fn a_sidecar_that_tells_the_protocol_alone_is_learned_from_as_before() {
    let mut observations = inside(6379, &[]);
    for replica in 0..2 {
        let ends = (pod("shop", "checkout", replica), pod("shop", "cache", 0));
        let told = seen(ends.0, ends.1, Witness::Destination, 6379);
        observations.push(Observation { application: "redis".into(), ..told });
    }
    let proposal = proposed(&observations);
    assert!(!proposal.document.contains("redis:"), "{}", proposal.document);
    assert_eq!((proposal.rules.len(), proposal.needs_person.len()), (2, 0));
}

#[test]
fn questions_to_the_resolver_are_proposed_where_the_built_in_rule_is_left_out() {
    let mut options = options();
    options.collections[0].infrastructure.resolver = false;
    let resolver = Endpoint {
        party: Party::Service(ObjectName { namespace: "kube-system".into(), name: "kube-dns".into() }),
        pod: None,
    };
    let kind = dns("catalog.shop", 1);
    let ask = |replica| seen(pod("shop", "checkout", replica), resolver.clone(), Witness::Source, 53);
    let asked = |replica| Observation { protocol: L4Protocol::UDP, ..told(ask(replica), &kind) };
    let observations = [asked(0), asked(1)];
    let proposals = propose(&observations, &inventory(), &options);
    assert!(proposals[0].document.contains("names: [\"catalog.shop\"], types: [A]"));
    options.collections[0].infrastructure.resolver = true;
    assert_eq!(propose(&observations, &inventory(), &options)[0].document, "");
}

#[test]
fn any_commands_are_allowed_exactly_if_they_were_seen() {
    const COMMANDS: [&str; 4] = ["get", "set", "del", "ping"];
    const PREFIXES: [Option<&str>; 3] = [None, Some("a:"), Some("b:")];
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut kinds: Vec<(usize, usize, u32)> = Vec::new();
        for _ in 0..=random.below(8) {
            let database = u32::try_from(random.below(2)).unwrap();
            kinds.push((random.below(4), random.below(3), database));
        }
        let facts: Vec<_> =
            kinds.iter().map(|(c, p, database)| redis(COMMANDS[*c], PREFIXES[*p], *database)).collect();
        let proposal = proposed(&inside(6379, &facts));
        with_asker(&proposal, |asker| {
            for (command, prefix, database) in
                (0..4).flat_map(|c| (0..3).flat_map(move |p| (0..2).map(move |d| (c, p, d))))
            {
                let key = PREFIXES[prefix].map_or("other", |prefix| prefix);
                let request = format!("redis command={} key={key}1 database={database}", COMMANDS[command]);
                let expected =
                    kinds.contains(&(command, prefix, database)) || kinds.contains(&(command, 0, database));
                let allowed = asker.allows(CACHE, L4Protocol::TCP, 6379, &request);
                assert_eq!(allowed, expected, "seed {seed}: {request}\n{}", proposal.document);
            }
        });
    }
}

#[test]
fn more_names_than_a_list_holds_are_several() {
    let names: Vec<String> = (0..150).map(|number| format!("name-{number}.test")).collect();
    let hellos: Vec<_> = names.iter().map(|name| tls(Some(name), TlsVersion::V1_2)).collect();
    let questions: Vec<_> = names.iter().map(|name| dns(name, 1)).collect();
    let mut observations = abroad(L4Protocol::TCP, 443, &hellos);
    observations.extend(abroad(L4Protocol::UDP, 53, &questions));
    let proposal = proposed(&observations);
    assert_eq!(proposal.needs_person, []);
    with_asker(&proposal, |asker| {
        for name in &names {
            let (hello, question) = (format!("tls sni={name}"), format!("dns name={name}"));
            assert!(asker.allows(OUTSIDE, L4Protocol::TCP, 443, &hello), "{hello}");
            assert!(asker.allows(OUTSIDE, L4Protocol::UDP, 53, &question), "{question}");
        }
    });
}

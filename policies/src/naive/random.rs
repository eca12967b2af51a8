//! Random small clusters, policies and questions, dense enough that everything meets everything.

use crate::inventory::*;
use crate::model::*;
use crate::questions::{
    DnsAsked, HttpQuestion, KafkaQuestion, PostgresQuestion, RedisQuestion, RequestQuestion, TlsQuestion,
};
use bulkhead_facts::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A seeded generator (splitmix64): the same seed gives the same case on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

const NAMESPACES: [&str; 3] = ["shop", "ops", "kube-system"];
const KEYS: [&str; 3] = ["app", "tier", "k8s-app"];
const VALUES: [&str; 4] = ["a", "b", "c", "kube-dns"];
const PORTS: [u16; 7] = [0, 53, 80, 81, 8080, 8081, u16::MAX];
const PORT_NAMES: [&str; 2] = ["http", "dns"];
const PROTOCOLS: [L4Protocol; 5] =
    [L4Protocol::TCP, L4Protocol::UDP, L4Protocol::SCTP, L4Protocol::ICMP, L4Protocol(47)];
const METHODS: [&str; 3] = ["GET", "POST", "get"];
const TEMPLATES: [&str; 8] = ["/", "/a", "/a/", "/a/{id}", "/a/{id}/b", "/a/**", "/**", "/a/b"];
const PATHS: [&str; 12] =
    ["/", "/a", "/a/", "/a/b", "/a/7/b", "//a", "/./a/b", "/a/%62", "/b", "/a/b/c/d", "/A", "/a//b"];
const HOSTS: [&str; 4] = ["a.test", "b.a.test", "c.b.a.test", "10.0.0.1"];
const NAME_PATTERNS: [&str; 6] = ["a.test", "*.a.test", "**.a.test", "b.a.test", "**.test", "**.b.a.test"];
const WORDS: [&str; 6] = ["a", "ab", "b", "A", "abc", LONG_WORD];
/// Longer than what commands are looked up by.
const LONG_WORD: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
const PREFIXES: [&str; 3] = ["a", "ab", ""];
const RECORDS: [u16; 3] = [1, 28, 255];
const QUERIES: [Option<&str>; 7] =
    [None, Some(""), Some("debug"), Some("a=1&debug=2"), Some("%64ebug"), Some("a;debug"), Some("Debug=1")];
const HOST_PATTERNS: [&str; 4] = ["a.test", "*.a.test", "*.test", "10.0.0.1"];

fn v4(last: usize) -> IpAddr {
    format!("10.0.0.{last}").parse().unwrap()
}

fn v6(last: usize) -> IpAddr {
    format!("fd00::{last:x}").parse().unwrap()
}

pub(crate) fn inventory(random: &mut Random) -> Inventory {
    let labels = |random: &mut Random| -> Labels {
        random.some(2, |r| (r.pick(&KEYS).to_owned(), r.pick(&VALUES).to_owned())).into_iter().collect()
    };
    let namespaces = NAMESPACES.iter().map(|name| ((*name).to_owned(), labels(random))).collect();
    let mut pods = BTreeMap::new();
    for at in 1..=3 + random.below(5) {
        let namespace = random.pick(&NAMESPACES).to_owned();
        let name = ObjectName { namespace: namespace.clone(), name: format!("pod-{at}") };
        // Now and then two pods hold the same address.
        let number = if random.once_in(12) { 1 } else { at };
        let pod = Pod {
            uid: format!("uid-{at}"),
            workload: WorkloadRef { namespace, name: format!("pod-{at}") },
            labels: labels(random),
            service_account: "default".into(),
            addresses: if random.once_in(3) { vec![v4(number)] } else { vec![v4(number), v6(number)] },
            host_network: random.once_in(8),
            node: format!("node-{}", random.below(3)),
            ports: random.some(2, |r| NamedPort {
                name: r.pick(&PORT_NAMES).to_owned(),
                protocol: r.pick(&PROTOCOLS[..2]),
                port: r.pick(&PORTS),
            }),
            probe_ports: random.some(1, |r| r.pick(&PORTS)),
        };
        pods.insert(name, pod);
    }
    let nodes =
        BTreeMap::from([("node-0".to_owned(), vec![v4(20), v6(20)]), ("node-1".to_owned(), vec![v4(21)])]);
    let mut services = BTreeMap::new();
    for (at, name) in
        [(30, ("kube-system", "kube-dns")), (31, ("shop", "web")), (32, ("default", "kubernetes"))]
    {
        if random.once_in(4) {
            continue;
        }
        let ports = random.some(3, |r| ServicePort {
            port: r.pick(&PORTS),
            protocol: r.pick(&PROTOCOLS[..2]),
            endpoints: r.some(3, |r| {
                let number = r.pick(&[1, 2, 3, 4, 5, 20, 40]);
                (if r.once_in(2) { v4(number) } else { v6(number) }, r.pick(&PORTS))
            }),
        });
        let name = ObjectName { namespace: name.0.into(), name: name.1.into() };
        services.insert(name, Service { addresses: vec![v4(at), v6(at)], ports });
    }
    let node_labels = [0, 1].map(|node| (format!("node-{node}"), labels(random))).into_iter().collect();
    Inventory { namespaces, pods, services, nodes, node_labels }
}

fn selector(random: &mut Random) -> Selector {
    let requirement = |r: &mut Random| {
        let values = r.some(2, |r| r.pick(&VALUES).to_owned());
        let operator = match r.below(5) {
            0 | 1 => Operator::In(values),
            2 => Operator::NotIn(values),
            3 => Operator::Exists,
            _ => Operator::DoesNotExist,
        };
        Requirement { key: r.pick(&KEYS).to_owned(), operator }
    };
    let requirements = if random.once_in(2) { vec![] } else { random.some(2, requirement) };
    Selector { requirements }
}

fn namespaces(random: &mut Random, own: &str) -> NamespaceMatch {
    match random.below(4) {
        0 | 1 => NamespaceMatch::Own(own.to_owned()),
        2 => NamespaceMatch::Labels(selector(random)),
        _ => NamespaceMatch::Labels(Selector {
            requirements: vec![Requirement {
                key: "kubernetes.io/metadata.name".into(),
                operator: Operator::In(vec![random.pick(&NAMESPACES).to_owned()]),
            }],
        }),
    }
}

fn cidr(random: &mut Random) -> Cidr {
    let texts = [
        "10.0.0.0/29",
        "10.0.0.4/30",
        "10.0.0.1",
        "0.0.0.0/0",
        "::/0",
        "fd00::/125",
        "10.0.0.16/28",
        "10.0.0.30",
    ];
    random.pick(&texts).parse().unwrap()
}

fn peer(random: &mut Random, own: &str) -> Peer {
    const ENTITIES: [Entity; 6] =
        [Entity::World, Entity::Cluster, Entity::Node, Entity::KubeApiserver, Entity::Dns, Entity::Metadata];
    match random.below(14) {
        13 => Peer::Nodes(selector(random)),
        12 => Peer::Name(NamePattern::parse(random.pick(&NAME_PATTERNS)).unwrap()),
        0..=5 => Peer::Workloads { namespaces: namespaces(random, own), workloads: selector(random) },
        6 | 7 => Peer::Cidr { block: cidr(random), except: random.some(2, cidr) },
        8 => Peer::Service { namespace: "shop".into(), name: "web".into() },
        9 | 10 => Peer::Entity(random.pick(&ENTITIES)),
        _ => Peer::Unknown("groups".into()),
    }
}

fn port_match(random: &mut Random) -> PortMatch {
    let protocol = random.pick(&PROTOCOLS);
    match random.below(5) {
        0 => PortMatch::Named(random.once_in(2).then_some(protocol), random.pick(&PORT_NAMES).to_owned()),
        1 => PortMatch::Range(protocol, PortRange::ALL),
        2 => PortMatch::Range(protocol, PortRange::new(80, 8080).unwrap()),
        _ => PortMatch::Range(protocol, PortRange::single(random.pick(&PORTS))),
    }
}

fn http_match(random: &mut Random) -> HttpMatch {
    let header = |r: &mut Random| HeaderMatch {
        name: "x-role".into(),
        value: match r.below(4) {
            0 => HeaderValueMatch::Present,
            1 => HeaderValueMatch::Absent,
            2 => HeaderValueMatch::Exact("user".into()),
            _ => HeaderValueMatch::Prefix("u".into()),
        },
    };
    HttpMatch {
        methods: random.some(2, |r| r.pick(&METHODS).to_owned()),
        path: (!random.once_in(4)).then(|| PathTemplate::parse(random.pick(&TEMPLATES)).unwrap()),
        hosts: if random.once_in(2) {
            vec![]
        } else {
            random.some(2, |r| HostPattern::parse(r.pick(&HOST_PATTERNS)).unwrap())
        },
        headers: if random.once_in(2) { vec![] } else { random.some(1, header) },
        query: if random.once_in(4) {
            vec![QueryMatch { name: "debug".into(), present: random.once_in(2) }]
        } else {
            vec![]
        },
        websocket: random.once_in(6).then(|| random.once_in(2)),
        frames_checked: false,
        proxied: false,
    }
}

/// Sections of HTTP half of the time.
pub(crate) fn section(random: &mut Random) -> L7Section {
    let names = |r: &mut Random| r.some(2, |r| NamePattern::parse(r.pick(&NAME_PATTERNS)).unwrap());
    let words = |r: &mut Random| r.some(2, |r| r.pick(&WORDS).to_owned());
    match random.below(10) {
        0 => L7Section::Tls(TlsMatch {
            sni: names(random),
            min: random.once_in(2).then(|| random.pick(&TlsVersion::ALL)),
            alpn: words(random),
            encrypted: random.once_in(3),
            nameless: random.once_in(3),
            proxied: false,
        }),
        1 => L7Section::Dns(
            random.some(2, |r| DnsMatch { names: names(r), records: r.some(2, |r| r.pick(&RECORDS)) }),
        ),
        2 => L7Section::Redis(random.some(2, |r| RedisMatch {
            commands: words(r),
            key_prefix: r.once_in(2).then(|| r.pick(&PREFIXES).to_owned()),
            databases: r.some(2, |r| r.pick(&[0, 1])),
        })),
        3 => L7Section::Postgres(random.some(2, |r| PostgresMatch {
            users: words(r),
            databases: words(r),
            statements: r.some(2, |r| r.pick(&PostgresStatement::NAMED[..3])),
        })),
        4 => L7Section::Kafka(random.some(2, |r| KafkaMatch {
            apis: r.some(2, |r| r.pick(&[0, 1, 3])),
            topics: r.some(2, |r| match r.below(2) {
                0 => TopicMatch::Exact(r.pick(&WORDS).to_owned()),
                _ => TopicMatch::Prefix(r.pick(&PREFIXES).to_owned()),
            }),
        })),
        _ => L7Section::Http(random.some(2, http_match)),
    }
}

fn rule(random: &mut Random, own: &str, name: String, tier: Tier) -> Rule {
    let action = match tier {
        Tier::Namespace => RuleAction::Allow,
        _ => random.pick(&[RuleAction::Allow, RuleAction::Deny, RuleAction::Pass]),
    };
    let peers = if random.once_in(4) { Peers::Any } else { Peers::These(random.some(3, |r| peer(r, own))) };
    let ports = if random.once_in(3) { Ports::Any } else { Ports::These(random.some(3, port_match)) };
    let l7 = random.once_in(2).then(|| section(random));
    Rule { name, action, peers, ports, l7 }
}

fn policy(random: &mut Random, at: usize) -> Policy {
    let tier = random.pick(&[Tier::Admin, Tier::Namespace, Tier::Namespace, Tier::Namespace, Tier::Baseline]);
    let own = random.pick(&NAMESPACES);
    let namespaced = tier == Tier::Namespace;
    let rules = |r: &mut Random| -> Vec<Rule> {
        (0..r.below(4)).map(|n| rule(r, own, format!("rule-{n}"), tier)).collect()
    };
    Policy {
        origin: PolicyRef {
            kind: "Test".into(),
            namespace: namespaced.then(|| own.to_owned()),
            name: format!("p{at}"),
        },
        tier,
        priority: i32::try_from(random.below(2)).unwrap() * i32::from(!namespaced),
        subject: Subject {
            namespaces: if namespaced {
                NamespaceMatch::Own(own.to_owned())
            } else {
                namespaces(random, own)
            },
            workloads: selector(random),
        },
        isolates: if namespaced { [random.once_in(2), random.once_in(2)] } else { [false; 2] },
        mode: random.pick(&[
            PolicyMode::Inherit,
            PolicyMode::Inherit,
            PolicyMode::Inherit,
            PolicyMode::Audit,
            PolicyMode::AuditRemoval,
        ]),
        ingress: rules(random),
        egress: rules(random),
    }
}

pub(crate) fn policy_set(random: &mut Random) -> PolicySet {
    let policies = (0..random.below(7)).map(|at| policy(random, at)).collect();
    let collection = |r: &mut Random, name: &str, namespace: &str| Collection {
        name: name.into(),
        covers: Subject { namespaces: NamespaceMatch::Own(namespace.to_owned()), workloads: selector(r) },
        owners: vec![],
        default: r.pick(&[CollectionDefault::Deny, CollectionDefault::Kubernetes]),
        mode: r.pick(&[Mode::Observe, Mode::Audit, Mode::Enforce, Mode::Enforce]),
        canary: r.pick(&[Share::ALL, Share::percent(50).expect("a percentage")]),
        schedule: vec![],
        freeze: vec![],
        infrastructure: Infrastructure {
            own_node: !r.once_in(4),
            probes: !r.once_in(4),
            resolver: !r.once_in(4),
        },
        criticality: Criticality::Normal,
    };
    let collections = vec![collection(random, "one", "shop"), collection(random, "two", "ops")];
    PolicySet { policies, collections }
}

/// An address that something is known of, one next to it, or one far away.
pub(crate) fn address(random: &mut Random) -> IpAddr {
    const KNOWN: [usize; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 21, 40, 255];
    match random.below(10) {
        0 => "169.254.169.254".parse().unwrap(),
        1 => random.pick(&["0.0.0.0", "255.255.255.255", "::", "ffff::ffff", "192.0.2.1"]).parse().unwrap(),
        2 | 3 => v4(30 + random.below(3)),
        4 => v6(30 + random.below(3)),
        5..=7 => v4(random.pick(&KNOWN)),
        _ => v6(random.pick(&KNOWN)),
    }
}

pub(crate) fn protocol_and_port(random: &mut Random) -> (L4Protocol, u16) {
    let protocol = if random.once_in(2) { L4Protocol::TCP } else { random.pick(&PROTOCOLS) };
    let port = random.pick(&PORTS);
    (
        protocol,
        match random.below(4) {
            0 => port.wrapping_add(1),
            1 => port.wrapping_sub(1),
            _ => port,
        },
    )
}

/// The parts of a request, owned.
pub(crate) struct RandomRequest {
    pub(crate) opaque: bool,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) host: Option<HostName>,
    pub(crate) headers: Vec<HeaderField<'static>>,
    pub(crate) query: Option<&'static str>,
    pub(crate) other: RandomOther,
}

/// The parts of a request of another protocol, owned.
pub(crate) struct RandomOther {
    /// Which protocol; HTTP beyond those there are.
    kind: usize,
    name: Option<HostName>,
    versions: [TlsVersion; 2],
    words: Vec<&'static str>,
    keys: Vec<&'static [u8]>,
    statements: Vec<PostgresStatement>,
    flag: bool,
    number: u16,
}

impl RandomRequest {
    /// Asks with the request, whatever its protocol.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&Request<'_>) -> T) -> T {
        let other = &self.other;
        let path = UrlPath::parse(self.path).unwrap();
        let word = other.words.first().copied().unwrap_or("b");
        let request = match (other.kind, &other.name) {
            (0, name) => Request::Tls(TlsHello {
                server_name: name.as_ref(),
                lowest: other.versions[0].min(other.versions[1]),
                highest: other.versions[0].max(other.versions[1]),
                application_protocols: &other.words,
                encrypted: other.flag,
            }),
            (1, Some(name)) => Request::Dns(DnsQuestion { name, record: other.number }),
            (2, _) => Request::Redis(RedisCommand {
                name: word,
                keys: &other.keys,
                database: other.flag.then_some(u32::from(other.number % 2)),
            }),
            (3, _) => Request::Postgres(PostgresMessage {
                user: word,
                database: other.words.get(1).copied().unwrap_or("a"),
                statements: &other.statements,
            }),
            (4, _) => Request::Kafka(KafkaRequest { api: other.number % 4, topics: &other.words }),
            _ if self.opaque => Request::Opaque,
            _ => Request::Http(HttpRequest {
                method: self.method,
                path: &path,
                query: self.query,
                host: self.host.as_ref(),
                headers: &self.headers,
            }),
        };
        ask(&request)
    }
}

impl RandomRequest {
    /// The same as a person would write it; `None` for bytes that nobody can read.
    pub(crate) fn question(&self) -> Option<RequestQuestion> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        self.with(|request| {
            Some(match request {
                Request::Opaque => return None,
                Request::Http(http) => RequestQuestion::Http(HttpQuestion {
                    method: http.method.to_owned(),
                    target: match http.query {
                        Some(query) => format!("{}?{query}", self.path),
                        None => self.path.to_owned(),
                    },
                    host: http.host.map(|host| host.as_str().to_owned()),
                    headers: http.headers.iter().map(|field| (text(field.name), text(field.value))).collect(),
                }),
                Request::Tls(hello) => RequestQuestion::Tls(TlsQuestion {
                    server_name: hello.server_name.map(|name| name.as_str().to_owned()),
                    lowest: hello.lowest,
                    highest: hello.highest,
                    application_protocols: owned(hello.application_protocols),
                    encrypted: hello.encrypted,
                }),
                Request::Dns(question) => RequestQuestion::Dns(DnsAsked {
                    name: question.name.as_str().to_owned(),
                    record: question.record,
                }),
                Request::Redis(command) => RequestQuestion::Redis(RedisQuestion {
                    command: command.name.to_owned(),
                    // Those that are no text differ from each other in nothing that rules ask for.
                    keys: command.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect(),
                    database: command.database,
                }),
                Request::Postgres(message) => RequestQuestion::Postgres(PostgresQuestion {
                    user: message.user.to_owned(),
                    database: Some(message.database.to_owned()),
                    statements: message.statements.to_vec(),
                }),
                Request::Kafka(asked) => {
                    RequestQuestion::Kafka(KafkaQuestion { api: asked.api, topics: owned(asked.topics) })
                }
            })
        })
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) fn request(random: &mut Random) -> RandomRequest {
    let headers = random.some(2, |r| HeaderField {
        name: r.pick(&[&b"x-role"[..], b"X-Role", b"other", b"Upgrade"]),
        value: r.pick(&[
            &b"user"[..],
            b"admin",
            b"u",
            b"",
            b"admin, user",
            b"u,x",
            b"WebSocket",
            b"h2c, websocket",
        ]),
    });
    RandomRequest {
        opaque: random.once_in(6),
        method: random.pick(&METHODS),
        path: random.pick(&PATHS),
        host: (!random.once_in(5)).then(|| HostName::parse(random.pick(&HOSTS)).unwrap()),
        headers,
        query: random.pick(&QUERIES),
        other: RandomOther {
            kind: random.below(10),
            name: (!random.once_in(4)).then(|| HostName::parse(random.pick(&HOSTS[..3])).unwrap()),
            versions: [random.pick(&TlsVersion::ALL), random.pick(&TlsVersion::ALL)],
            words: random.some(2, |r| r.pick(&WORDS)),
            keys: random.some(2, |r| r.pick(&[&b"a"[..], b"ab", b"b", b"", b"abc", b"a\xc3\xa9"])),
            statements: random.some(2, |r| {
                if r.once_in(6) { PostgresStatement::Other } else { r.pick(&PostgresStatement::NAMED[..3]) }
            }),
            flag: random.once_in(3),
            number: random.pick(&RECORDS),
        },
    }
}

//! What is proposed from which flows, what is held back, and that the order of the flows does not show.

use super::*;
use crate::compile::Compiler;
use crate::diagnostics::Source;
use crate::documents::{load, load_inventory};
use crate::naive::random::Random;
use crate::questions::{End, HttpQuestion, Judges, Question, RequestQuestion};
use bulkhead_facts::Effect;

/// checkout (two replicas) calls payments (two replicas) over HTTP and redis-like bytes of cache; a customer outside calls
/// checkout; payments calls its database and an address outside.
const INVENTORY: &str = r#"
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: monitoring}}
  - {apiVersion: v1, kind: Node, metadata: {name: node}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
"#;

const COLLECTION: &str = "
apiVersion: bulkhead.dev/v1alpha1
kind: Collection
metadata: {name: shop}
spec: {covers: {namespaces: {name: shop}}, owners: [], default: deny, mode: enforce}
";

pub(super) fn inventory() -> Inventory {
    let mut text = INVENTORY.to_owned();
    let pods = [
        ("shop", "checkout", 2, "app: checkout, tier: front"),
        ("shop", "payments", 2, "app: payments, tier: back"),
        ("shop", "cache", 1, "tier: back, role: cache"),
        ("monitoring", "prometheus", 1, "app: prometheus"),
    ];
    for (workload, (namespace, name, replicas, labels)) in pods.into_iter().enumerate() {
        for replica in 0..replicas {
            text += &format!(
                "  - apiVersion: v1\n    kind: Pod\n    metadata:\n      name: {name}-{replica}\n      namespace: {namespace}\n      \
                 uid: {name}-{replica}\n      labels: {{{labels}, pod-template-hash: \"7d9c{replica}\"}}\n      \
                 ownerReferences: [{{kind: StatefulSet, name: {name}, controller: true}}]\n    spec: {{nodeName: node, containers: \
                 [{{name: main, readinessProbe: {{tcpSocket: {{port: 8081}}}}}}]}}\n    status: {{phase: Running, podIPs: [{{ip: \
                 10.1.{workload}.{}}}]}}\n",
                replica + 1
            );
        }
    }
    load_inventory(&[Source { name: "inventory.yaml".into(), text }]).unwrap()
}

pub(super) fn options() -> LearnOptions {
    let loaded = load(&[Source { name: "collection.yaml".into(), text: COLLECTION.into() }]);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    LearnOptions { collections: loaded.set.collections, thresholds: Thresholds::default() }
}

pub(super) fn pod(namespace: &str, name: &str, replica: usize) -> Endpoint {
    Endpoint {
        party: Party::Workload(WorkloadRef { namespace: namespace.into(), name: name.into() }),
        pod: Some(format!("{name}-{replica}")),
    }
}

pub(super) fn outside(address: &str) -> Endpoint {
    Endpoint { party: Party::Outside(address.parse().unwrap()), pod: None }
}

pub(super) fn seen(source: Endpoint, destination: Endpoint, witness: Witness, port: u16) -> Observation {
    Observation {
        source,
        destination,
        witness,
        protocol: L4Protocol::TCP,
        port,
        request: None,
        application: String::new(),
        allowed: true,
        count: 10,
        first_seen_ms: 1_000,
        last_seen_ms: 9_000,
    }
}

fn http(mut observation: Observation, method: &str, path: &str) -> Observation {
    observation.request = Some(RequestKind::Http(HttpKind {
        method: method.into(),
        path: path.into(),
        host: "x.test".into(),
        status_class: 2,
    }));
    observation.application = "http/1.1".into();
    observation
}

fn change(observation: &mut Observation, how: impl FnOnce(&mut HttpKind)) {
    match &mut observation.request {
        Some(RequestKind::Http(http)) => how(http),
        other => panic!("no request of HTTP: {other:?}"),
    }
}

/// A flow between pods as both ends tell it.
fn flow(
    source: (&str, &str),
    destination: (&str, &str),
    port: u16,
    requests: &[(&str, &str)],
) -> Vec<Observation> {
    let mut all = Vec::new();
    let replicas = |name: &str| if matches!(name, "checkout" | "payments") { 2 } else { 1 };
    for replica in 0..replicas(source.1) {
        let ends = || (pod(source.0, source.1, replica), pod(destination.0, destination.1, 0));
        let told = |witness| {
            let (from, to) = ends();
            seen(from, to, witness, port)
        };
        all.push(told(Witness::Source));
        match requests {
            [] => all.push(Observation { application: "redis".into(), ..told(Witness::Destination) }),
            _ => all
                .extend(requests.iter().map(|(method, path)| http(told(Witness::Destination), method, path))),
        }
    }
    all
}

fn shop() -> Vec<Observation> {
    let mut all = flow(
        ("shop", "checkout"),
        ("shop", "payments"),
        8080,
        &[("POST", "/v1/charges"), ("GET", "/v1/charges/{id}"), ("DELETE", "/v1/charges/{id}")],
    );
    all.extend(flow(("shop", "payments"), ("shop", "cache"), 6379, &[]));
    all.extend(flow(("monitoring", "prometheus"), ("shop", "payments"), 9090, &[("GET", "/metrics")]));
    all.push(http(
        seen(outside("203.0.113.9"), pod("shop", "checkout", 0), Witness::Destination, 8080),
        "GET",
        "/cart",
    ));
    for replica in 0..2 {
        let mut call = http(
            seen(pod("shop", "payments", replica), outside("198.51.100.7"), Witness::Source, 443),
            "POST",
            "/charge",
        );
        change(&mut call, |http| http.host = "api.cardnet.test".into());
        all.push(call);
    }
    all
}

pub(super) fn only(proposals: Vec<Proposal>) -> Proposal {
    assert_eq!(proposals.len(), 1);
    proposals.into_iter().next().unwrap()
}

/// The proposal for these observations, and its document as the loader reads it together with the collection.
pub(super) fn proposed(observations: &[Observation]) -> Proposal {
    only(propose(observations, &inventory(), &options()))
}

pub(super) fn loaded(proposal: &Proposal) -> crate::model::PolicySet {
    let texts = [COLLECTION, &proposal.document];
    let sources: Vec<_> =
        texts.iter().map(|text| Source { name: "p.yaml".into(), text: (*text).to_owned() }).collect();
    let loaded = load(&sources);
    assert!(loaded.diagnostics.is_empty(), "{:?}\n{}", loaded.diagnostics, proposal.document);
    loaded.set
}

const EXPECTED: &str = r#"apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: learned-cache, namespace: shop}
spec:
  workloads: {role: cache}
  ingress:
    - name: payments-6379
      from: [{workloads: {app: payments}}]
      ports: [6379]
  egress: []
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: learned-checkout, namespace: shop}
spec:
  workloads: {app: checkout}
  ingress:
    - name: "203.0.113.9-8080"
      from: [{cidr: "203.0.113.9/32"}]
      ports: [8080]
      http:
        - {methods: [GET], path: "/cart"}
  egress:
    - name: payments-8080
      to: [{workloads: {app: payments}}]
      ports: [8080]
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: learned-payments, namespace: shop}
spec:
  workloads: {app: payments}
  ingress:
    - name: "monitoring.prometheus-9090"
      from: [{namespaces: {name: monitoring}, workloads: {app: prometheus}}]
      ports: [9090]
      http:
        - {methods: [GET], path: "/metrics"}
    - name: checkout-8080
      from: [{workloads: {app: checkout}}]
      ports: [8080]
      http:
        - {methods: [POST], path: "/v1/charges"}
        - {methods: [DELETE, GET], path: "/v1/charges/{id}"}
  egress:
    - name: cache-6379
      to: [{workloads: {role: cache}}]
      ports: [6379]
    - name: "198.51.100.7-443"
      to: [{cidr: "198.51.100.7/32"}]
      ports: [443]
      http:
        - {methods: [POST], path: "/charge", hosts: ["api.cardnet.test"]}
"#;

#[test]
fn a_shop_is_learned_as_it_talks() {
    let proposal = proposed(&shop());
    assert_eq!(proposal.document, EXPECTED);
    assert_eq!((proposal.policies, proposal.rules.len()), (3, 7));
    assert_eq!(proposal.needs_person, []);
    let charges = proposal.rules.iter().find(|rule| rule.rule == "checkout-8080").unwrap();
    assert_eq!(charges.policy.to_string(), "SegmentPolicy/shop/learned-payments");
    assert_eq!(
        charges.summary,
        "from {workloads: {app: checkout}} on 8080: POST /v1/charges, DELETE|GET /v1/charges/{id}"
    );
    let expected = Evidence {
        count: 60,
        days: 1,
        source_replicas: 2,
        destination_replicas: 1,
        first_seen_ms: 1_000,
        last_seen_ms: 9_000,
        both_sides: true,
        unseen_millionths: 0,
    };
    assert_eq!(charges.evidence, expected);
}

#[test]
fn the_same_flows_in_any_order_give_the_same_bytes() {
    let mut observations = shop();
    let expected = propose(&observations, &inventory(), &options());
    for seed in 0..50 {
        Random(seed).shuffle(&mut observations);
        assert_eq!(propose(&observations, &inventory(), &options()), expected, "seed {seed}");
    }
}

#[test]
fn a_proposal_allows_exactly_what_was_seen() {
    let (set, inventory) = (loaded(&proposed(&shop())), inventory());
    let compiler = Compiler::new(&set, &inventory).unwrap();
    let mut judges = Judges::new(&compiler, &inventory);
    type Asked = Option<(&'static str, &'static str, &'static str)>;
    let allowed: [(&str, &str, u16, Asked); 8] = [
        ("10.1.0", "10.1.1", 8080, Some(("POST", "/v1/charges", "any"))),
        ("10.1.0", "10.1.1", 8080, Some(("GET", "/v1/charges/7", "any"))),
        ("10.1.0", "10.1.1", 8080, Some(("DELETE", "/v1/charges/7", "any"))),
        ("10.1.1", "10.1.2", 6379, None),
        ("10.1.1", "10.1.2", 6379, Some(("GET", "/", "any"))),
        ("10.1.3", "10.1.1", 9090, Some(("GET", "/metrics", "any"))),
        ("203.0.113.9", "10.1.0", 8080, Some(("GET", "/cart", "any"))),
        ("10.1.1", "198.51.100.7", 443, Some(("POST", "/charge", "api.cardnet.test"))),
    ];
    let ends = ["10.1.0", "10.1.1", "10.1.2", "10.1.3", "203.0.113.9", "203.0.113.10", "198.51.100.7"];
    let requests = [
        None,
        Some(("POST", "/v1/charges", "any")),
        Some(("GET", "/v1/charges", "any")),
        Some(("GET", "/v1/charges/7", "any")),
        Some(("DELETE", "/v1/charges/7", "any")),
        Some(("GET", "/metrics", "any")),
        Some(("GET", "/cart", "any")),
        Some(("POST", "/charge", "api.cardnet.test")),
        Some(("POST", "/charge", "evil.test")),
        Some(("GET", "/", "any")),
    ];
    let address = |end: &str, last: &str| -> IpAddr {
        let whole = if end.split('.').count() == 3 { format!("{end}.{last}") } else { end.to_owned() };
        whole.parse().unwrap()
    };
    let mut passed = 0;
    for (source, destination) in ends.iter().flat_map(|source| ends.iter().map(move |to| (*source, *to))) {
        let sides = [(source, "1"), (destination, "1")].map(|(end, last)| {
            let address = address(end, last);
            let holder = inventory.pods.iter().find(|(_, pod)| pod.addresses.contains(&address));
            End { pod: holder.map(|(name, _)| name), address }
        });
        let concerns = sides.iter().any(|end| end.pod.is_some_and(|pod| pod.namespace == "shop"));
        if source == destination || !concerns {
            continue;
        }
        for (port, request) in
            [8080, 8081, 6379, 9090, 443].iter().flat_map(|port| requests.iter().map(move |r| (*port, *r)))
        {
            let asked = request.map(|(method, path, host)| {
                RequestQuestion::Http(HttpQuestion {
                    method: method.into(),
                    target: path.into(),
                    host: Some(host.into()),
                    ..HttpQuestion::default()
                })
            });
            let question = Question {
                source: sides[0],
                destination: sides[1],
                dialled: None,
                name: None,
                protocol: L4Protocol::TCP,
                port,
                request: asked.as_ref(),
            };
            let effect = judges.ask(&question).unwrap().effect(crate::questions::Version::Enforced);
            // What an edge without requests carries is not looked into.
            let opaque = (source, destination, port) == ("10.1.1", "10.1.2", 6379);
            let expected = opaque || allowed.contains(&(source, destination, port, request));
            assert_eq!(effect == Effect::Allow, expected, "{source} -> {destination}:{port} {request:?}");
            passed += usize::from(expected);
        }
    }
    assert!(passed >= allowed.len());
}

fn held(observations: &[Observation]) -> Vec<(String, Vec<Caution>)> {
    let proposal = proposed(observations);
    let named =
        |held: &HeldBack| (held.to_string().split(": ").next().unwrap().to_owned(), held.cautions.clone());
    proposal.needs_person.iter().map(named).collect()
}

#[test]
fn what_nobody_should_allow_without_thinking_is_held_back() {
    let from = || pod("shop", "cache", 0);
    let cases = [
        (outside("169.254.169.254"), 80, Caution::Metadata),
        (outside("fd00:ec2::254"), 80, Caution::Metadata),
        (outside("169.254.0.7"), 80, Caution::SpecialAddress),
        (outside("10.1.0.77"), 80, Caution::UnknownAddress),
        (Endpoint { party: Party::Node("node".into()), pod: None }, 10250, Caution::Node),
        (
            Endpoint {
                party: Party::Service(ObjectName { namespace: "default".into(), name: "kubernetes".into() }),
                pod: None,
            },
            443,
            Caution::KubeApiserver,
        ),
    ];
    for (to, port, caution) in cases {
        let mut observations = shop();
        observations.push(seen(from(), to.clone(), Witness::Source, port));
        let expected = vec![(format!("shop/cache -> {} tcp/{port}", to.party), vec![caution])];
        assert_eq!(held(&observations), expected);
        assert_eq!(proposed(&observations).document, EXPECTED, "{caution:?}");
    }
}

#[test]
fn a_path_that_was_tried_and_never_answered_well_is_held_back() {
    let mut observations = shop();
    let mut probe = http(
        seen(pod("shop", "checkout", 1), pod("shop", "payments", 0), Witness::Destination, 8080),
        "GET",
        "/admin",
    );
    change(&mut probe, |http| http.status_class = 4);
    observations.push(probe);
    let expected =
        [("shop/checkout -> shop/payments tcp/8080 GET /admin".to_owned(), vec![Caution::OnlyErrors])];
    assert_eq!(held(&observations), expected);
    assert_eq!(proposed(&observations).document, EXPECTED);
}

#[test]
fn a_sweep_is_held_back_edge_by_edge() {
    let mut observations = shop();
    for port in 1000..1040 {
        let probe = |witness| Observation {
            count: 1,
            ..seen(pod("shop", "cache", 0), pod("shop", "payments", 0), witness, port)
        };
        observations.extend([probe(Witness::Source), probe(Witness::Destination)]);
    }
    let held = held(&observations);
    assert_eq!(held.len(), 40);
    assert!(held.iter().all(|(_, cautions)| cautions == &[Caution::FanOut]));
    assert_eq!(proposed(&observations).document, EXPECTED);
}

#[test]
fn what_only_one_of_two_replicas_or_one_end_saw_is_held_back() {
    let mut observations = shop();
    let call = |witness| seen(pod("shop", "checkout", 0), pod("shop", "cache", 0), witness, 6379);
    observations.extend([call(Witness::Source), call(Witness::Destination)]);
    observations.push(seen(pod("shop", "cache", 0), pod("shop", "checkout", 0), Witness::Destination, 8080));
    let expected = [
        ("shop/cache -> shop/checkout tcp/8080".to_owned(), vec![Caution::OneSided]),
        ("shop/checkout -> shop/cache tcp/6379".to_owned(), vec![Caution::SingleReplica]),
    ];
    assert_eq!(held(&observations), expected);
}

#[test]
fn rare_and_late_are_judged_by_the_time_that_was_watched() {
    const DAY_MS: u64 = 86_400_000;
    let mut observations = shop();
    for (at, observation) in observations.iter_mut().enumerate() {
        observation.last_seen_ms = 4 * DAY_MS + u64::try_from(at).unwrap();
    }
    let late = |witness| Observation {
        first_seen_ms: 4 * DAY_MS - 60_000,
        last_seen_ms: 4 * DAY_MS + 1,
        count: 1,
        ..seen(pod("shop", "cache", 0), pod("shop", "payments", 0), witness, 8080)
    };
    observations.extend([
        late(Witness::Source),
        Observation { application: "unknown".into(), ..late(Witness::Destination) },
    ]);
    let expected = [("shop/cache -> shop/payments tcp/8080".to_owned(), vec![Caution::Rare, Caution::Late])];
    assert_eq!(held(&observations), expected);
}

#[test]
fn many_addresses_outside_are_a_block_that_a_person_has_to_choose() {
    let mut observations = shop();
    for last in 0..40 {
        let customer = outside(&format!("192.0.2.{last}"));
        observations.push(http(
            seen(customer, pod("shop", "checkout", 0), Witness::Destination, 8080),
            "GET",
            "/cart",
        ));
    }
    let held = held(&observations);
    assert_eq!(held.len(), 41, "the one that was proposed alone is one of many now");
    assert!(held.iter().all(|(_, cautions)| cautions == &[Caution::Wide]));
}

#[test]
fn what_was_denied_and_what_is_built_in_is_not_learned() {
    let mut observations = shop();
    observations.push(Observation {
        allowed: false,
        ..seen(pod("shop", "cache", 0), pod("shop", "payments", 0), Witness::Source, 5432)
    });
    let node = Endpoint { party: Party::Node("node".into()), pod: None };
    observations.push(seen(node, pod("shop", "payments", 0), Witness::Destination, 8081));
    let proposal = proposed(&observations);
    assert_eq!(proposal.document, EXPECTED);
    assert_eq!(proposal.needs_person, []);
}

#[test]
fn paths_that_no_rule_can_hold_are_held_back() {
    let mut observations = shop();
    for path in ["/a//b", "*", "/a;b", "/a/b/c/**"] {
        let ends = (pod("shop", "checkout", 1), pod("shop", "payments", 0));
        observations.push(http(seen(ends.0, ends.1, Witness::Destination, 8080), "GET", path));
    }
    let held = held(&observations);
    assert_eq!(held.len(), 4);
    assert!(held.iter().all(|(_, cautions)| cautions == &[Caution::Unreadable]));
    assert_eq!(proposed(&observations).document, EXPECTED);
}

#[test]
fn http_of_either_version_that_cannot_be_read_is_held_back() {
    for application in ["http/1.1", "http/2"] {
        let mut observations = shop();
        let mut unread = flow(("shop", "cache"), ("shop", "payments"), 9090, &[]);
        unread.iter_mut().for_each(|own| own.application = application.into());
        observations.extend(unread);
        let expected = vec![("shop/cache -> shop/payments tcp/9090".to_owned(), vec![Caution::Unreadable])];
        assert_eq!(held(&observations), expected, "{application}");
        assert_eq!(proposed(&observations).document, EXPECTED, "{application}");
    }
}

#[test]
fn a_workload_that_no_stable_labels_tell_apart_is_left_to_a_person() {
    let mut inventory = inventory();
    for pod in inventory.pods.values_mut() {
        pod.labels.remove("role");
    }
    let proposal = only(propose(&shop(), &inventory, &options()));
    assert!(!proposal.document.contains("cache"));
    let held: Vec<_> = proposal.needs_person.iter().map(|held| (held.port, held.cautions.clone())).collect();
    assert_eq!(held, [(6379, vec![Caution::NoSelector])]);
}

#[test]
fn names_that_yaml_would_read_otherwise_are_quoted() {
    let mut inventory = inventory();
    for pod in inventory.pods.values_mut().filter(|pod| pod.workload.name == "cache") {
        pod.labels = [("app.kubernetes.io/name".to_owned(), "on".to_owned())].into();
    }
    let proposal = only(propose(&shop(), &inventory, &options()));
    assert!(
        proposal.document.contains("workloads: {\"app.kubernetes.io/name\": \"on\"}"),
        "{}",
        proposal.document
    );
    loaded(&proposal);
}

#[test]
fn kinds_seen_once_raise_the_estimate_of_what_was_not_seen() {
    let mut observations = shop();
    for path in ["/v1/refunds", "/v1/disputes"] {
        let ends = (pod("shop", "checkout", 1), pod("shop", "payments", 0));
        let once = http(seen(ends.0, ends.1, Witness::Destination, 8080), "GET", path);
        observations.push(Observation { count: 1, ..once });
    }
    let proposal = proposed(&observations);
    let rule = proposal.rules.iter().find(|rule| rule.rule == "checkout-8080").unwrap();
    assert_eq!((rule.evidence.count, rule.evidence.unseen_millionths), (62, 32_258));
}

#[test]
fn a_collection_of_which_nothing_was_seen_has_no_proposal() {
    assert_eq!(propose(&[], &inventory(), &options()), []);
}

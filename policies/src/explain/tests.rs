//! Explanations of flows in the examples' shop and Kubernetes set.

use super::*;
use crate::diagnostics::Source;
use crate::documents::{load, load_inventory};
use crate::questions::Ends;
use bulkhead_facts::L4Protocol;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), text: text.into() }
}

/// The explanation of the first flow between two ends.
fn explained(folder: &str, from: &str, to: &str, port: (L4Protocol, u16), request: Option<&str>) -> String {
    let (policies, inventory) = match folder {
        "shop" => (
            include_str!("../../examples/shop/policies.yaml"),
            include_str!("../../examples/shop/inventory.yaml"),
        ),
        _ => (
            include_str!("../../examples/kubernetes/policies.yaml"),
            include_str!("../../examples/kubernetes/inventory.yaml"),
        ),
    };
    let loaded = load(&[source("policies.yaml", policies)]);
    let inventory = load_inventory(&[source("inventory.yaml", inventory)]).unwrap();
    let compiler = Compiler::new(&loaded.set, &inventory).unwrap();
    let mut judges = Judges::new(&compiler, &inventory);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let request = request.map(|text| RequestQuestion::parse(&words(text)).unwrap());
    let (from, to) = (Ends::find(from, &inventory).unwrap(), Ends::find(to, &inventory).unwrap());
    let arriving = to.destinations(&inventory, port.0, port.1)[0];
    let question = Question {
        source: from.sources(&inventory)[0],
        destination: arriving.end,
        dialled: arriving.dialled,
        name: arriving.name,
        protocol: port.0,
        port: arriving.port,
        request: request.as_ref(),
    };
    explain(&compiler, &mut judges, &loaded.places, &question).unwrap().to_string()
}

const TCP: L4Protocol = L4Protocol::TCP;

#[test]
fn every_policy_that_bears_on_a_flow_is_told_in_order() {
    let found = explained("shop", "shop/checkout", "shop/payments", (TCP, 8080), Some("POST /v1/charges"));
    let expected = "\
egress at shop/checkout-7d9c5-x2x4f: allow (allowed_by_rule, rule `SegmentPolicy/shop/checkout/payments`)
  admin          ClusterSegmentPolicy/no-metadata (policies.yaml:66:18): none of its 1 rules names this flow
  namespace      SegmentPolicy/shop/checkout (policies.yaml:14:18): rule `payments` allows it
  default        Collection/shop: not reached
ingress at shop/payments-5b6f8-k8s9d: allow (allowed_by_rule, rule `SegmentPolicy/shop/payments/checkout-charges`)
  admin          ClusterSegmentPolicy/no-metadata (policies.yaml:66:18): says nothing of ingress
  namespace      SegmentPolicy/shop/payments (policies.yaml:30:18): rule `checkout-charges` allows it
  default        Collection/shop: not reached
";
    assert_eq!(found, expected);
}

#[test]
fn a_denial_names_the_nearest_rule_its_difference_and_the_change() {
    for (folder, from, to, port, request, expected) in [
        (
            "shop",
            "shop/checkout",
            "shop/payments",
            (TCP, 8080),
            Some("DELETE /v1/charges"),
            "in rule `checkout-charges` of SegmentPolicy/shop/payments (policies.yaml:34:7): add `{methods: [DELETE], path: /v1/charges}` to `http`",
        ),
        (
            "shop",
            "shop/payments",
            "shop/payments-db",
            (TCP, 5433),
            None,
            "in rule `database` of SegmentPolicy/shop/payments (policies.yaml:45:7): add `5433` to `ports`",
        ),
        (
            "shop",
            "shop/checkout",
            "shop/payments-db",
            (TCP, 5432),
            None,
            "in rule `payments` of SegmentPolicy/shop/payments-db (policies.yaml:58:7): add `{workloads: {app: checkout}}` to `from`",
        ),
        (
            "shop",
            "shop/payments-db",
            "198.51.100.7",
            (L4Protocol::UDP, 53),
            None,
            "add `{to: [{cidr: 198.51.100.7/32}], ports: [udp/53]}` to `egress` of SegmentPolicy/shop/payments-db",
        ),
        (
            "shop",
            "monitoring/prometheus",
            "169.254.169.254",
            (TCP, 80),
            None,
            "rule `metadata` of ClusterSegmentPolicy/no-metadata (policies.yaml:66:18) denies it, and only its owner can change that",
        ),
        (
            "kubernetes",
            "edge/gateway",
            "prod/db",
            (TCP, 5432),
            None,
            "in rule `ingress[0]` of NetworkPolicy/prod/db (policies.yaml:36:7): add `{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: edge}}, podSelector: {matchLabels: {role: ingress}}}` to `from`",
        ),
    ] {
        let found = explained(folder, from, to, port, request);
        assert!(found.contains(expected), "{from} to {to}:\n{expected}\nis missing in\n{found}");
    }
}

const STORES: &str = r#"
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: stores, namespace: shop}
spec:
  workloads: {app: payments-db}
  ingress:
    - {name: calls, from: [{workloads: {app: payments}}], ports: [9000], grpc: [{service: a.v1.A, methods: [Get]}]}
    - {name: hello, from: [{workloads: {app: payments}}], ports: [443], tls: {sni: [a.test], min: "1.2", alpn: [h2]}}
    - {name: names, from: [{workloads: {app: payments}}], ports: [udp/53], dns: [{names: ["*.a.test"], types: [A]}]}
    - {name: cache, from: [{workloads: {app: payments}}], ports: [6379], redis: [{commands: [get], keyPrefix: "o:", databases: [0]}]}
    - {name: data, from: [{workloads: {app: payments}}], ports: [5432], postgres: [{users: [app], databases: [shop], statements: [select]}]}
    - {name: log, from: [{workloads: {app: payments}}], ports: [9092], kafka: [{apis: [fetch], topics: ["orders.*"]}]}
"#;

#[test]
fn each_protocol_names_the_field_that_differs_and_what_to_write() {
    let inventory =
        load_inventory(&[source("i.yaml", include_str!("../../examples/shop/inventory.yaml"))]).unwrap();
    let loaded = load(&[source("p.yaml", STORES)]);
    let compiler = Compiler::new(&loaded.set, &inventory).unwrap();
    let mut judges = Judges::new(&compiler, &inventory);
    let ends = ["shop/payments", "shop/payments-db"].map(|name| Ends::find(name, &inventory).unwrap());
    let udp = L4Protocol::UDP;
    for (port, words, differs, change) in [
        (
            (TCP, 9000),
            "grpc a.v1.A/Put",
            "call `a.v1.A/Put` is not named",
            "add `{service: a.v1.A, methods: [Put]}` to `grpc`",
        ),
        (
            (TCP, 443),
            "tls sni=b.test alpn=h2",
            "server name `b.test` is not named",
            "add `b.test` to `sni` of `tls`",
        ),
        (
            (TCP, 443),
            "tls sni=a.test alpn=h2 ech=true",
            "the client hides the name that it means (ECH)",
            "write `ech: true` in `tls`",
        ),
        (
            (TCP, 443),
            "tls sni=a.test version=1.0-1.3 alpn=h2",
            "version `1.0` is offered, which is too low",
            "write `min: \"1.0\"` in `tls`",
        ),
        (
            (TCP, 443),
            "tls sni=a.test alpn=h3",
            "not every one of the application protocols `h3` is named",
            "write `alpn: [h2, h3]` in `tls`",
        ),
        (
            (udp, 53),
            "dns name=b.test type=TXT",
            "name `b.test` is not named, type `TXT` is not named",
            "add `{names: [b.test], types: [TXT]}` to `dns`",
        ),
        (
            (TCP, 6379),
            "redis command=SET key=o:1",
            "command `SET` is not named",
            "add `{commands: [set], databases: [0], keyPrefix: \"o:1\"}` to `redis`",
        ),
        (
            (TCP, 6379),
            "redis command=get",
            "the command names no key, and may act on all",
            "add `{commands: [get], databases: [0]}` to `redis`",
        ),
        ((TCP, 6379), "redis command=get key=o:1 database=4", "database `4` is not named", "databases: [4]"),
        (
            (TCP, 5432),
            "postgres user=app database=shop statement=delete",
            "not every one of the statements `delete` is named",
            "add `{databases: [shop], statements: [delete], users: [app]}` to `postgres`",
        ),
        (
            (TCP, 9092),
            "kafka api=produce topic=orders.1",
            "API key `produce` is not named",
            "add `{apis: [produce], topics: [orders.1]}` to `kafka`",
        ),
        (
            (TCP, 9092),
            "GET /",
            "only what `kafka` names is meant, and that is not seen",
            "add `{from: [{workloads: {app: payments}}], ports: [9092], http: [{methods: [GET], path: /}]}` to `ingress`",
        ),
    ] {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let request = RequestQuestion::parse(&words).unwrap();
        let arriving = ends[1].destinations(&inventory, port.0, port.1)[0];
        let question = Question {
            source: ends[0].sources(&inventory)[0],
            destination: arriving.end,
            dialled: None,
            name: None,
            protocol: port.0,
            port: port.1,
            request: Some(&request),
        };
        let told = explain(&compiler, &mut judges, &loaded.places, &question).unwrap();
        let side = &told.sides[1];
        let found: Vec<String> =
            side.nearest.iter().flat_map(|near| &near.differs).map(ToString::to_string).collect();
        assert_eq!(found.join(", "), differs, "{words:?}");
        let says = &side.change.as_ref().unwrap().says;
        assert!(says.contains(change), "{words:?}: {says}");
    }
}

#[test]
fn a_rule_by_name_is_not_said_to_allow_bytes_that_say_another_one() {
    let policy = r#"
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: out, namespace: shop}
spec:
  workloads: {app: payments}
  egress: [{name: card, to: [{fqdn: api.card.example}], ports: [443]}]
"#;
    let inventory =
        load_inventory(&[source("i.yaml", include_str!("../../examples/shop/inventory.yaml"))]).unwrap();
    let loaded = load(&[source("p.yaml", policy)]);
    let compiler = Compiler::new(&loaded.set, &inventory).unwrap();
    let mut judges = Judges::new(&compiler, &inventory);
    let [from, to] =
        ["shop/payments", "fqdn/api.card.example"].map(|name| Ends::find(name, &inventory).unwrap());
    let arriving = to.destinations(&inventory, TCP, 443)[0];
    let mut told = |sni: &str| {
        let words = ["tls".to_owned(), format!("sni={sni}")];
        let question = Question {
            source: from.sources(&inventory)[0],
            destination: arriving.end,
            dialled: arriving.dialled,
            name: arriving.name,
            protocol: TCP,
            port: arriving.port,
            request: Some(&RequestQuestion::parse(&words).unwrap()),
        };
        explain(&compiler, &mut judges, &loaded.places, &question).unwrap().to_string()
    };
    let (meant, other) = (told("api.card.example"), told("evil.example"));
    assert!(meant.contains("rule `card` allows it"), "{meant}");
    assert!(other.contains("deny (name_mismatch"), "{other}");
    let says = "rule `card` names the peer by `fqdn`, but these bytes do not say that name";
    assert!(other.contains(says) && !other.contains("allows it"), "{other}");
}

//! The smallest change that `explain` tells is made to the documents, and then the flow passes.
//!
//! Every pair of pods and addresses, every port and a request of every protocol is asked over documents of every kind. What
//! is denied must come with a change for each end that denies it, as JSON Patch; documents that are changed so are read
//! and compiled anew.

use bulkhead_facts::{Effect, L4Protocol};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{Loaded, load, load_inventory};
use bulkhead_policies::explain::{Patch, explain};
use bulkhead_policies::inventory::Inventory;
use bulkhead_policies::questions::{Ends, FlowAnswer, Judges, Question, RequestQuestion, Version};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const INVENTORY: &str = r#"
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: shop}}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: ops}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: open}}
  - {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, status: {podIPs: [{ip: 10.0.0.1}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: stores, namespace: shop, labels: {app: stores}}, status: {podIPs: [{ip: 10.0.0.2}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: batch, namespace: ops, labels: {role: "true", pod-template-hash: x}}, status: {podIPs: [{ip: 10.0.0.3}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: bare, namespace: ops}, status: {podIPs: [{ip: 10.0.0.4}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: free, namespace: open, labels: {app: free}}, status: {podIPs: [{ip: 10.0.0.5}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: ops, labels: {app: agent}}, spec: {hostNetwork: true, nodeName: node-1}, status: {podIPs: [{ip: 192.168.7.1}]}}
  - {apiVersion: v1, kind: Node, metadata: {name: node-1}, status: {addresses: [{type: InternalIP, address: 192.168.7.1}]}}
  - {apiVersion: v1, kind: Service, metadata: {name: stores, namespace: shop}, spec: {clusterIP: 10.96.0.2, selector: {app: stores}, ports: [{port: 80, targetPort: 8080}]}}
  - {apiVersion: v1, kind: Endpoints, metadata: {name: stores, namespace: shop}, subsets: [{addresses: [{ip: 10.0.0.2}], ports: [{port: 8080}]}]}
"#;

const POLICIES: &str = r#"
apiVersion: bulkhead.dev/v1alpha1
kind: Collection
metadata: {name: shop}
spec: {covers: {namespaces: {team: shop}}, default: deny}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Collection
metadata: {name: ops}
spec: {covers: {namespaces: {name: ops}}, default: deny}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Collection
metadata: {name: open}
spec: {covers: {namespaces: {name: open}}, default: deny, mode: audit}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: stores, namespace: shop}
spec:
  workloads: {app: stores}
  ingress:
    - {name: http, from: [{workloads: {app: web}}], ports: [8080], http: [{methods: [GET], path: "/a/{id}", hosts: ["*.test"], headers: [{name: x-tenant, present: true}]}, {methods: [POST], path: /b, query: [{name: q, present: true}]}, {path: /ws, websocket: true}]}
    - {name: grpc, from: [{workloads: {app: web}}], ports: [9000], grpc: [{service: a.v1.A, methods: [Get]}]}
    - {name: tls, from: [{workloads: {app: web}}], ports: [443], tls: {sni: [a.test], min: "1.2", alpn: [h2]}}
    - {name: hello, from: [{workloads: {app: web}}], ports: [444], tls: {ech: true}}
    - {name: dns, from: [{workloads: {app: web}}], ports: [53, udp/53], dns: [{names: ["*.a.test"], types: [A]}]}
    - {name: redis, from: [{workloads: {app: web}}], ports: [6379], redis: [{commands: [get], keyPrefix: "o:", databases: [0]}]}
    - {name: postgres, from: [{workloads: {app: web}}], ports: [5432], postgres: [{users: [app], databases: [shop], statements: [select]}]}
    - {name: kafka, from: [{workloads: {app: web}}], ports: [9092], kafka: [{apis: [fetch], topics: ["orders.*"]}]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: audited, namespace: shop}
spec: {workloads: {app: stores}, mode: audit, ingress: [{name: all, ports: [1]}]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: web, namespace: shop}
spec:
  workloads: {app: web}
  ingress: []
  egress:
    - {name: stores, to: [{service: stores}, {workloads: {app: stores}}], ports: [8080, 9000, 443, 444, 53, udp/53, 6379, 5432, 9092]}
    - {name: wide, to: [{cidr: 198.51.100.0/24}], ports: [443], tls: {sni: [b.test]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: batch, namespace: ops}
spec:
  podSelector: {matchLabels: {role: "true"}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: agent}}}], ports: [{port: 8080}]}]
---
apiVersion: bulkhead.dev/v1alpha1
kind: ClusterSegmentPolicy
metadata: {name: guard}
spec:
  tier: admin
  priority: 5
  subjects: {namespaces: {}}
  egress:
    - {name: metadata, action: deny, to: [{entity: metadata}]}
    - {name: writes, action: deny, ports: [8080], http: [{methods: [DELETE]}]}
    - {name: flush, action: deny, ports: [6379], redis: [{commands: [flushall]}]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: quarantine}
spec:
  tier: Admin
  priority: 7
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: open}}}
  egress: [{name: no-ops, action: Deny, to: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: ops}}}, {networks: [203.0.113.0/24]}]}]
---
apiVersion: bulkhead.dev/v1alpha1
kind: ClusterSegmentPolicy
metadata: {name: floor}
spec:
  tier: baseline
  priority: 5
  subjects: {namespaces: {name: open}}
  ingress: [{name: nobody, action: deny}]
"#;

const ENDS: [&str; 11] = [
    "shop/web",
    "shop/stores",
    "ops/batch",
    "ops/bare",
    "open/free",
    "ops/agent",
    "198.51.100.7",
    "203.0.113.9",
    "169.254.169.254",
    "service/shop/stores",
    "fqdn/api.test",
];

/// Ports, each with the requests that are asked there.
fn ports() -> Vec<((L4Protocol, u16), Vec<&'static str>)> {
    let tcp = |port| (L4Protocol::TCP, port);
    vec![
        (tcp(80), vec!["", "GET /a/7", "POST /b"]),
        (
            tcp(8080),
            vec![
                "",
                "GET /a/7",
                "GET /zz",
                "POST /b",
                "POST /b?q",
                "DELETE /a/7",
                "GET /ws",
                "grpc a.v1.A/Get",
                "redis command=get",
            ],
        ),
        (
            tcp(9000),
            vec!["", "grpc a.v1.A/Get", "grpc a.v1.A/Put", "grpc b.B/Get", "POST /a.v1.A/Get", "GET /x"],
        ),
        (
            tcp(443),
            vec![
                "",
                "tls sni=a.test alpn=h2",
                "tls sni=c.test alpn=h2",
                "tls sni=a.test version=1.0-1.3 alpn=h2",
                "tls sni=a.test alpn=h3 alpn=h2",
                "tls alpn=h2",
                "tls sni=a.test alpn=h2 ech=true",
                "tls sni=a.test",
                "tls sni=b.test",
                "tls version=1.0",
            ],
        ),
        (tcp(444), vec!["tls sni=a.test", "tls sni=a.test ech=true", "tls"]),
        (tcp(53), vec!["", "dns name=x.a.test", "dns name=b.test type=AAAA"]),
        (
            (L4Protocol::UDP, 53),
            vec![
                "",
                "dns name=x.a.test",
                "dns name=x.a.test type=TXT",
                "dns name=b.test type=ANY",
                "dns name=b.test",
            ],
        ),
        (
            tcp(6379),
            vec![
                "",
                "redis command=get key=o:1",
                "redis command=SET key=o:1",
                "redis command=get key=o:1 key=z",
                "redis command=get",
                "redis command=flushall",
                "redis command=get key=o:1 database=3",
                "redis command=get key=o:1 database=unknown",
            ],
        ),
        (
            tcp(5432),
            vec![
                "",
                "postgres user=app database=shop",
                "postgres user=app database=shop statement=select statement=delete",
                "postgres user=root statement=select",
                "postgres user=app",
                "postgres user=a",
            ],
        ),
        (
            tcp(9092),
            vec![
                "",
                "kafka api=fetch topic=orders.1",
                "kafka api=produce topic=orders.1",
                "kafka api=fetch topic=x topic=orders.1",
                "kafka api=metadata",
            ],
        ),
        ((L4Protocol::ICMP, 8 << 8), vec![""]),
        ((L4Protocol::SCTP, 2905), vec![""]),
    ]
}

fn source(name: &str, text: impl Into<String>) -> Source {
    Source { name: name.into(), text: text.into() }
}

fn read(documents: &[Value]) -> Loaded {
    let text: Vec<String> = documents.iter().map(Value::to_string).collect();
    let loaded = load(&[source("p.json", text.join("\n"))]);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    loaded
}

#[test]
fn a_flow_passes_once_the_change_that_is_told_is_made() {
    let inventory = load_inventory(&[source("i.yaml", INVENTORY)]).expect("an inventory");
    let loaded = load(&[source("p.yaml", POLICIES)]);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    let documents = documents(POLICIES);
    let compiler = Compiler::new(&loaded.set, &inventory).expect("it compiles");
    let mut judges = Judges::new(&compiler, &inventory);
    let (mut allowed, mut tried, mut staged) = (0, 0, 0);
    let mut by_protocol = BTreeMap::<String, usize>::new();
    for (from, to) in ENDS.iter().flat_map(|from| ENDS.iter().map(move |to| (*from, *to))) {
        let (from, to) =
            (Ends::find(from, &inventory).expect("an end"), Ends::find(to, &inventory).expect("an end"));
        for ((protocol, port), requests) in ports() {
            for words in requests {
                let words: Vec<String> =
                    words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
                let request = (!words.is_empty()).then(|| RequestQuestion::parse(&words).expect("a request"));
                for question in questions(&from, &to, (protocol, port), request.as_ref(), &inventory) {
                    let told = explain(&compiler, &mut judges, &loaded.places, &question).expect("an answer");
                    let denies = |version: &Version| told.answer.effect(*version) == Effect::Deny;
                    let Some(version) = [Version::Enforced, Version::Shadow].into_iter().find(denies) else {
                        allowed += 1;
                        continue;
                    };
                    staged += usize::from(version == Version::Shadow);
                    let mut changed = documents.clone();
                    for change in told.sides.iter().filter_map(|side| side.change.as_ref()) {
                        let patch = change.patch.as_ref().unwrap_or_else(|| panic!("{question:?}: {told}"));
                        apply(&mut changed, patch);
                    }
                    let after = asked_of(&changed, &question, &inventory);
                    assert_eq!(after.effect(version), Effect::Allow, "{question:?}\n{told}\n{after:?}");
                    tried += 1;
                    *by_protocol.entry(words.first().cloned().unwrap_or_default()).or_default() += 1;
                }
            }
        }
    }
    println!(
        "{allowed} allowed, {tried} changes tried, {staged} of them for what is audited: {by_protocol:?}"
    );
    assert!(allowed > 100 && tried > 1_500 && staged > 100, "{allowed} {tried} {staged}");
    for protocol in ["", "GET", "grpc", "tls", "dns", "redis", "postgres", "kafka"] {
        assert!(by_protocol.get(protocol).is_some_and(|count| *count > 50), "{protocol}: {by_protocol:?}");
    }
}

fn questions<'q>(
    from: &'q Ends,
    to: &'q Ends,
    (protocol, port): (L4Protocol, u16),
    request: Option<&'q RequestQuestion>,
    inventory: &'q Inventory,
) -> Vec<Question<'q>> {
    let mut found = Vec::new();
    for source in from.sources(inventory) {
        for arriving in to.destinations(inventory, protocol, port) {
            let same = source.address == arriving.end.address
                || source.pod.is_some() && source.pod == arriving.end.pod;
            // A Service leads nowhere on ports that it has not.
            let nowhere = matches!(to, Ends::Service(_)) && arriving.end.pod.is_none();
            if same || nowhere {
                continue;
            }
            let (destination, dialled, name, port) =
                (arriving.end, arriving.dialled, arriving.name, arriving.port);
            found.push(Question { source, destination, dialled, name, protocol, port, request });
        }
    }
    found
}

fn asked_of(documents: &[Value], question: &Question<'_>, inventory: &Inventory) -> FlowAnswer {
    let loaded = read(documents);
    let compiler = Compiler::new(&loaded.set, inventory).expect("it compiles");
    Judges::new(&compiler, inventory).ask(question).expect("an answer")
}

/// The documents of a text as JSON.
fn documents(text: &str) -> Vec<Value> {
    let nodes = bulkhead_policies::yaml::parse(&source("p.yaml", text)).expect("YAML");
    nodes.iter().map(as_json).collect()
}

fn as_json(node: &bulkhead_policies::yaml::Node) -> Value {
    if let Some(entries) = node.as_map() {
        return entries
            .iter()
            .map(|entry| (entry.key.clone(), as_json(&entry.value)))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    if let Some(items) = node.as_list() {
        return items.iter().map(as_json).collect::<Vec<_>>().into();
    }
    let scalar = node.as_scalar().expect("a scalar");
    match (scalar.as_str(), scalar.as_bool(), scalar.as_integer()) {
        (Some(text), ..) => json!(text),
        (_, Some(truth), _) => json!(truth),
        (_, _, Some(number)) => json!(number),
        _ => Value::Null,
    }
}

fn apply(documents: &mut Vec<Value>, patch: &Patch) {
    match patch {
        Patch::Create(document) => documents.push(document.clone()),
        Patch::Edit { document, operations } => {
            let is_it = |value: &&mut Value| {
                value["kind"] == document.kind.as_str()
                    && value["metadata"]["name"] == document.name.as_str()
                    && document
                        .namespace
                        .as_ref()
                        .is_none_or(|own| value["metadata"]["namespace"] == own.as_str())
            };
            let target = documents.iter_mut().find(is_it).expect("the document");
            operations.iter().for_each(|operation| add(target, operation));
        }
    }
}

/// `add` of RFC 6902 section 4.1.
fn add(target: &mut Value, operation: &Value) {
    assert_eq!(operation["op"], "add");
    let path = operation["path"].as_str().expect("a path");
    let (parent, last) = path.rsplit_once('/').expect("a pointer");
    let parent = target.pointer_mut(parent).unwrap_or_else(|| panic!("{path} leads nowhere"));
    let value = operation["value"].clone();
    match parent {
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => items.insert(last.parse().expect("a position"), value),
        Value::Object(fields) => drop(fields.insert(last.to_owned(), value)),
        _ => panic!("{path} is no place to add to"),
    }
}

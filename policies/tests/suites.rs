//! Third-party suites through the whole crate: documents, compiler, judge.
//!
//! `BULKHEAD_SUITES` names their folder. Where it is absent each test says `skipped` and passes.

mod support;

use bulkhead_facts::{Effect, L4Protocol};
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::Inventory;
use bulkhead_policies::questions::{End, Ends, Judges, Question, Version};
use bulkhead_policies::yaml::{self, Node, ScalarKind, Value};
use std::collections::BTreeMap;
use std::path::Path;
use support::{compiler, expect, files, here, source, suite};

fn inline(name: &str, text: String) -> Source {
    Source { name: name.to_owned(), text }
}

/// The tree as JSON, to hand part of a file to a reader of whole documents.
fn json(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) => match scalar.kind() {
            ScalarKind::Null => "null".to_owned(),
            ScalarKind::Boolean | ScalarKind::Integer | ScalarKind::Float => scalar.text.clone(),
            ScalarKind::Text | ScalarKind::Ambiguous => {
                serde_json::Value::from(scalar.text.as_str()).to_string()
            }
        },
        Value::List(items) => format!("[{}]", items.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let entry =
                |e: &yaml::Entry| format!("{}:{}", serde_json::Value::from(e.key.as_str()), json(&e.value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
        }
    }
}

fn text<'a>(node: &'a Node, key: &str) -> &'a str {
    let child = node.child(key).unwrap_or_else(|| panic!("line {}: no `{key}`", node.span.line));
    &child.as_scalar().expect("a scalar").text
}

fn list<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    node.child(key).and_then(Node::as_list).unwrap_or_default()
}

/// What a list of strings holds.
fn strings(node: &Node) -> Vec<&str> {
    node.as_list()
        .unwrap_or_default()
        .iter()
        .map(|item| item.as_scalar().expect("a scalar").text.as_str())
        .collect()
}

/// Whether a flow between two pods passes, asked for every pair of their addresses.
fn passes(judges: &mut Judges<'_>, from: &str, to: &str, protocol: &str, port: u16) -> bool {
    let inventory = judges.inventory();
    let protocol = L4Protocol::parse(protocol).expect("a protocol");
    let (from, to) = (Ends::find(from, inventory).expect(from), Ends::find(to, inventory).expect(to));
    let sources = from.sources(inventory);
    let mut found: Vec<Effect> = Vec::new();
    for arriving in to.destinations(inventory, protocol, port) {
        let of_family = |end: &&End<'_>| end.address.is_ipv4() == arriving.end.address.is_ipv4();
        for source in sources.iter().filter(of_family) {
            let question = Question {
                source: *source,
                destination: arriving.end,
                dialled: None,
                name: None,
                protocol,
                port,
                request: None,
            };
            found.push(judges.ask(&question).expect("an answer").effect(Version::Enforced));
        }
    }
    assert_eq!(found.len(), 2, "one answer for each family");
    assert_eq!(found[0], found[1], "the families agree");
    found[0] == Effect::Allow
}

/// The cluster of the end-to-end suite: three namespaces of three pods, each with a named port per number.
#[derive(Default)]
struct E2e {
    policies: BTreeMap<(String, String), String>,
    namespace_labels: BTreeMap<String, (String, String)>,
    pod_labels: BTreeMap<String, String>,
}

impl E2e {
    const PODS: [&str; 9] = ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"];

    fn address(pod: &str) -> String {
        let at = Self::PODS.iter().position(|name| *name == pod).expect("a pod of the suite");
        format!("10.7.0.{}", at + 1)
    }

    fn inventory(&self) -> Inventory {
        let mut items = Vec::new();
        for namespace in ["x", "y", "z"] {
            let extra =
                self.namespace_labels.get(namespace).map(|(k, v)| format!(", {k}: {v}")).unwrap_or_default();
            items.push(format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {{ns: {namespace}{extra}}}}}}}"));
        }
        for pod in Self::PODS {
            let (namespace, name) = pod.split_once('/').expect("a pair");
            let labels = self.pod_labels.get(pod).cloned().unwrap_or_else(|| format!("{{pod: {name}}}"));
            let v4 = Self::address(pod);
            let v6 = v4.replace("10.7.0.", "fd00:7::");
            let ports: Vec<String> = [80, 81]
                .iter()
                .flat_map(|port| ["TCP", "UDP", "SCTP"].map(|protocol| (port, protocol)))
                .map(|(port, protocol)| {
                    let name = format!("serve-{port}-{}", protocol.to_lowercase());
                    format!("{{name: {name}, containerPort: {port}, protocol: {protocol}}}")
                })
                .collect();
            items.push(format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}, spec: {{containers: [{{name: c, ports: [{}]}}]}}, status: {{podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]}}}}",
                ports.join(", ")
            ));
        }
        let list = format!("apiVersion: v1\nkind: List\nitems: [{}]\n", items.join(", "));
        load_inventory(&[inline("e2e", list)]).unwrap_or_else(|found| panic!("{found:#?}"))
    }

    fn act(&mut self, action: &Node) {
        let entry = &action.as_map().expect("an action")[0];
        let node = &entry.value;
        match entry.key.as_str() {
            "createPolicy" | "updatePolicy" => {
                let metadata = node.child("metadata").expect("metadata");
                let key = (text(metadata, "namespace").to_owned(), text(metadata, "name").to_owned());
                self.policies.insert(key, Self::with_addresses(json(node)));
            }
            "deletePolicy" => {
                let key = (text(node, "namespace").to_owned(), text(node, "name").to_owned());
                assert!(self.policies.remove(&key).is_some(), "deletes what is there");
            }
            "addNamespaceLabel" => {
                for label in node.as_map().expect("labels").iter().filter(|label| label.key != "namespace") {
                    let value = (label.key.clone(), label.value.as_str().expect("a value").to_owned());
                    self.namespace_labels.insert(text(node, "namespace").to_owned(), value);
                }
            }
            "setPodLabels" => {
                self.pod_labels
                    .insert(text(node, "pod").to_owned(), json(node.child("labels").expect("labels")));
            }
            other => panic!("action `{other}` is unknown"),
        }
    }

    /// A block holds addresses of one family, so each is also given in the other.
    fn with_addresses(mut policy: String) -> String {
        for pod in Self::PODS {
            policy = policy.replace(&format!("${{IP:{pod}}}"), &Self::address(pod));
            policy = policy.replace(&format!("${{LARGECIDR:{pod}}}"), "10.7.0.0/16");
        }
        let v6 = policy
            .replace("10.7.0.0/16", "fd00:7::/64")
            .replace("10.7.0.", "fd00:7::")
            .replace("/32", "/128");
        if v6 == policy {
            return policy;
        }
        let rule = |text: &str| {
            text.split_once("\"egress\":[")
                .and_then(|(_, rest)| rest.rsplit_once(']'))
                .map(|(rule, _)| rule.to_owned())
        };
        let (four, six) = (rule(&policy).expect("egress rules"), rule(&v6).expect("egress rules"));
        policy.replace(&four, &format!("{four},{six}"))
    }
}

#[test]
fn kubernetes_end_to_end_pairs_all_have_their_verdict() {
    let Some(folder) = suite("k8s-e2e-netpol") else { return };
    let cases = yaml::parse(&source(&folder.join("cases.yaml"))).expect("the suite");
    let mut pairs = 0;
    for case in &cases {
        let name = text(case, "name");
        let pods = strings(case.child("pods").expect("pods"));
        let mut cluster = E2e::default();
        for step in list(case, "steps") {
            list(step, "actions").iter().for_each(|action| cluster.act(action));
            let policies: Vec<Source> =
                cluster.policies.values().map(|text| inline(name, text.clone())).collect();
            let loaded = load(&policies);
            assert!(!loaded.has_errors(), "{name}: {:#?}", loaded.diagnostics);
            let inventory = cluster.inventory();
            let compiler = compiler(&loaded.set, &inventory);
            let mut judges = Judges::new(&compiler, &inventory);
            for probe in list(step, "probes") {
                let port: u16 = text(probe, "port").parse().expect("a port");
                let denied: Vec<Vec<&str>> = list(probe, "deny").iter().map(strings).collect();
                for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (*from, *to))) {
                    if from == to {
                        continue;
                    }
                    let expected = !denied.contains(&vec![from, to]);
                    let found = passes(&mut judges, from, to, text(probe, "protocol"), port);
                    assert_eq!(found, expected, "{name}: {from} to {to} {} {port}", text(probe, "protocol"));
                    pairs += 1;
                }
            }
        }
    }
    println!("k8s-e2e-netpol: {} cases, {pairs} pairs", cases.len());
    assert_eq!(pairs, 506);
}

#[test]
fn port_validation_agrees_with_the_api_server() {
    let Some(folder) = suite("k8s-e2e-netpol") else { return };
    let cases = yaml::parse(&source(&folder.join("api-validation.yaml"))).expect("the suite");
    let cases = cases[0].as_list().expect("a list");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let ports = json(case.child("ports").expect("ports"));
        let policy = format!(
            "{{\"apiVersion\": \"networking.k8s.io/v1\", \"kind\": \"NetworkPolicy\", \"metadata\": {{\"name\": \"p\", \"namespace\": \"x\"}}, \"spec\": {{\"podSelector\": {{}}, \"ingress\": [{{\"ports\": {ports}}}]}}}}"
        );
        let valid = !load(&[inline("p", policy)]).has_errors();
        assert_eq!(valid.to_string(), text(case, "valid"), "{}", text(case, "name"));
    }
}

/// The template's ports of the host network, filled in.
fn with_ports(template: &str) -> String {
    let ports = ["30080", "30081", "30053", "30054", "30090", "30091", "30092", "30093"].iter().enumerate();
    ports.fold(template.to_owned(), |text, (at, port)| {
        text.replace(&format!("{{{{ index .HostNetworkPorts {at} }}}}"), port)
    })
}

/// Pods of the conformance suite's StatefulSets, with their named ports.
fn conformance_inventory(folder: &Path) -> Inventory {
    let mut manifests = source(&folder.join("base/manifests.yaml"));
    manifests.text = with_ports(&manifests.text);
    let mut items = Vec::new();
    let mut at = 0;
    for node in yaml::parse(&manifests).expect("manifests") {
        if text(&node, "kind") == "Namespace" {
            items.push(json(&node));
            continue;
        }
        let metadata = node.child("metadata").expect("metadata");
        let (name, namespace) = (text(metadata, "name"), text(metadata, "namespace"));
        let template = node.child("spec").and_then(|spec| spec.child("template")).expect("a template");
        let labels = json(template.child("metadata").and_then(|m| m.child("labels")).expect("labels"));
        let spec = json(template.child("spec").expect("a spec"));
        let replicas =
            text(node.child("spec").expect("a spec"), "replicas").parse::<u32>().expect("a number");
        for replica in 0..replicas {
            at += 1;
            items.push(format!(
                "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"{name}-{replica}\",\"namespace\":\"{namespace}\",\"labels\":{labels}}},\"spec\":{spec},\"status\":{{\"podIPs\":[{{\"ip\":\"10.8.0.{at}\"}},{{\"ip\":\"fd00:8::{at}\"}}]}}}}"
            ));
        }
    }
    let list = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{}]}}", items.join(","));
    load_inventory(&[inline("conformance", list)]).unwrap_or_else(|found| panic!("{found:#?}"))
}

#[test]
fn cluster_network_policy_conformance_probes_have_their_verdict() {
    let Some(folder) = suite("network-policy-api") else { return };
    let inventory = conformance_inventory(&folder);
    let tests = yaml::parse(&source(&folder.join("cases.yaml"))).expect("the suite");
    let (mut probes, mut unresolved) = (0, 0);
    for test in &tests {
        for subtest in list(test, "subtests") {
            let mut policies = Vec::new();
            for step in list(subtest, "steps") {
                if step.child("policies").is_some() {
                    policies =
                        list(step, "policies").iter().map(|policy| inline("step", json(policy))).collect();
                    continue;
                }
                // Probes whose policies the extract could not follow through the suite's own code.
                if step.child("unresolved").is_some() {
                    unresolved += 1;
                    continue;
                }
                let loaded = load(&policies);
                assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
                let compiler = compiler(&loaded.set, &inventory);
                let mut judges = Judges::new(&compiler, &inventory);
                let port = text(step, "port").parse().expect("a port");
                let found =
                    passes(&mut judges, text(step, "from"), text(step, "to"), text(step, "protocol"), port);
                let place = format!("line {}: {}", step.span.line, text(subtest, "name"));
                assert_eq!(found.to_string(), text(step, "allowed"), "{place}");
                probes += 1;
            }
        }
    }
    println!("network-policy-api: {probes} probes, {unresolved} that the extract leaves open");
    assert_eq!((probes, unresolved), (119, 20));
}

#[test]
fn base_policies_of_the_conformance_suite_load() {
    let Some(folder) = suite("network-policy-api") else { return };
    let mut policies = 0;
    for path in files(&folder.join("base"), "yaml") {
        let mut source = source(&path);
        source.text = with_ports(&source.text);
        let loaded = load(&[source]);
        assert!(!loaded.has_errors(), "{}: {:#?}", path.display(), loaded.diagnostics);
        policies += loaded.set.policies.len();
    }
    assert!(policies >= 15, "{policies} policies");
}

#[test]
fn network_policy_recipes_load_without_unknown_fields() {
    let Some(folder) = suite("netpol-recipes") else { return };
    let source = source(&folder.join("recipes.yaml"));
    let documents = source.text.matches("kind: NetworkPolicy").count();
    // Some recipes share a name: each is a set of its own.
    let mut read = 0;
    for text in source.text.split("---\n") {
        let loaded = load(&[inline("recipe", text.to_owned())]);
        assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
        assert!(
            loaded.diagnostics.iter().all(|found| found.code == "no-namespace"),
            "{:#?}",
            loaded.diagnostics
        );
        read += loaded.set.policies.len();
    }
    assert_eq!(read, documents);
    assert!(read >= 10);
}

#[test]
fn json_is_read_as_its_test_suite_says() {
    let Some(folder) = suite("json-test-suite") else { return };
    let (mut read, mut refused) = (0, 0);
    // A stream of documents may hold none.
    let streams = ["n_single_space", "n_structure_UTF8_BOM_no_data", "n_structure_no_data"];
    let mut yaml_only = String::new();
    for path in files(&folder, "json") {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let Ok(text) = String::from_utf8(std::fs::read(&path).expect("a file")) else {
            assert!(!name.starts_with("y_"), "{name} is no UTF-8");
            refused += 1;
            continue;
        };
        let as_json = yaml::parse(&inline("t.json", text.clone()));
        let as_yaml = yaml::parse(&inline("t.yaml", text));
        match name.as_bytes()[0] {
            b'y' if name.contains("duplicated_key") => {
                assert!(as_json.is_err(), "{name}: two values, one key")
            }
            b'y' => assert!(as_json.is_ok(), "{name}: {as_json:#?}"),
            b'n' => assert_eq!(as_json.is_ok(), streams.contains(&name.as_str()), "{name}"),
            _ => {}
        }
        if as_json.is_ok() {
            read += 1
        } else {
            refused += 1
        }
        if as_json.is_err() && as_yaml.is_ok() {
            yaml_only.push_str(&format!("{name}\n"));
        }
    }
    println!("json-test-suite: {read} read, {refused} refused");
    // YAML is no JSON: single quotes, bare words, trailing commas and comments are read where the name does not say `.json`.
    expect(&here().join("testdata/json-read-as-yaml.txt"), &yaml_only);
}

//! Proofs over a small shop, and counter-examples on random sets that the judges really allow.

use super::flows::may_be_meant;
use super::*;
use crate::compile::Compiler;
use crate::diagnostics::Source;
use crate::documents::{load as load_policies, load_inventory};
use crate::inventory::Inventory;
use crate::naive::random::{self, Random};
use crate::questions::{End, Judges, Question, Version};
use crate::space::Programs;
use bulkhead_facts::Effect;

const PODS: &str = r#"
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: ops}}
  - {apiVersion: v1, kind: Pod, metadata: {name: checkout, namespace: shop, labels: {app: checkout}}, status: {podIPs: [{ip: 10.0.0.1}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: payments, namespace: shop, labels: {app: payments}}, status: {podIPs: [{ip: 10.0.0.2}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: database, namespace: shop, labels: {app: database}}, status: {podIPs: [{ip: 10.0.0.3}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: batch, namespace: ops, labels: {app: batch}}, status: {podIPs: [{ip: 10.0.0.4}]}}
  - {apiVersion: v1, kind: Node, metadata: {name: node-1}, status: {addresses: [{type: InternalIP, address: 192.168.7.1}]}}
"#;

const POLICIES: &str = r#"
apiVersion: bulkhead.dev/v1alpha1
kind: Collection
metadata: {name: all}
spec: {covers: {namespaces: {}}, default: deny}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: checkout, namespace: shop}
spec:
  workloads: {app: checkout}
  egress: [{name: pay, to: [{workloads: {app: payments}}], ports: [8080]}]
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: payments, namespace: shop}
spec:
  workloads: {app: payments}
  ingress:
    - {name: charges, from: [{workloads: {app: checkout}}], ports: [8080], http: [{methods: [POST], path: "/v1/{what}"}]}
    - {name: partners, from: [{cidr: 198.51.100.0/24}], ports: [8080], http: [{methods: [GET], path: "/v1/**"}]}
  egress: [{name: data, to: [{workloads: {app: database}}], ports: [5432]}]
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: database, namespace: shop}
spec:
  workloads: {app: database}
  ingress: [{name: payments, from: [{workloads: {app: payments}}], ports: [5432]}]
"#;

fn source(text: &str) -> Vec<Source> {
    vec![Source { name: "p.yaml".into(), text: text.into() }]
}

/// What is wrong with each assertion, a line each; `holds` if nothing is.
fn outcomes(spec: &str) -> Vec<String> {
    outcomes_over(PODS, POLICIES, spec)
}

fn outcomes_over(pods: &str, policies: &str, spec: &str) -> Vec<String> {
    let text =
        format!("apiVersion: bulkhead.dev/v1alpha1\nkind: PolicyProof\nmetadata: {{name: s}}\nspec:\n{spec}");
    let (proofs, found) = load(&source(&text));
    let inventory = load_inventory(&source(pods)).unwrap();
    let loaded = load_policies(&source(policies));
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    let programs = Programs::new(&Compiler::new(&loaded.set, &inventory).unwrap()).unwrap();
    let decided = proofs.iter().flat_map(|proof| prove(proof, &programs, &inventory, Version::Enforced)).map(
        |outcome| match outcome.problems.first() {
            None => "holds".to_owned(),
            Some(problem) => problem.to_string(),
        },
    );
    found.iter().map(ToString::to_string).chain(decided).collect()
}

#[test]
fn what_no_flow_contradicts_holds() {
    let found = outcomes(
        "  never:\n  - {except: namespace/shop, to: shop/database}\n  - {from: namespace/ops, to: namespace/shop}\n  - {from: [outside, nodes], to: shop/payments, port: 5432}\n  - {from: shop/checkout, to: shop/payments, http: [{methods: [GET]}]}\n  only:\n  - {from: shop/payments, to: shop/database, port: 5432}\n  - {from: shop/checkout, to: shop/payments, port: 8080, http: [{methods: [POST], path: /v1/charges}]}\n",
    );
    assert_eq!(found, ["holds"; 6]);
}

#[test]
fn what_does_not_hold_comes_with_a_flow() {
    let found = outcomes(
        "  never:\n  - {from: outside, to: shop/payments}\n  - {from: 198.51.100.128/25, to: shop/payments, port: 8080, http: [{path: /v1/charges}]}\n  only:\n  - {from: shop/payments, to: shop/payments, http: [{methods: [POST], path: /v1/charges}]}\n",
    );
    let expected = [
        "p.yaml:6:5: error[not-proven]: does not hold: 198.51.100.0 to shop/payments (10.0.0.2) tcp/8080: GET /v1/any, allowed by SegmentPolicy/shop/payments/partners",
        "p.yaml:7:5: error[not-proven]: does not hold: 198.51.100.128 to shop/payments (10.0.0.2) tcp/8080: GET /v1/charges, allowed by SegmentPolicy/shop/payments/partners",
        "p.yaml:9:5: error[not-proven]: does not hold: shop/checkout (10.0.0.1) to shop/payments (10.0.0.2) tcp/8080: POST /v1/charges, allowed by SegmentPolicy/shop/checkout/pay and SegmentPolicy/shop/payments/charges",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_a_compromised_workload_reaches_is_followed_over_every_step() {
    let found = outcomes(
        "  contained:\n  - {from: shop/checkout, within: [shop/payments, shop/database]}\n  - {from: shop/database, within: [shop/database]}\n  - {from: shop/checkout, within: shop/payments}\n",
    );
    assert_eq!(found[..2], ["holds"; 2]);
    assert!(
        found[2].contains("does not hold: shop/payments (10.0.0.2) to shop/database (10.0.0.3) tcp/5432"),
        "{found:?}"
    );
}

/// The API server on a node, and payments, each behind a Service.
const SERVICES: &str = r#"
  - {apiVersion: v1, kind: Service, metadata: {name: kubernetes, namespace: default}, spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 443}]}}
  - {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}, addressType: IPv4, ports: [{port: 6443}], endpoints: [{addresses: [192.168.7.1]}]}
  - {apiVersion: v1, kind: Service, metadata: {name: pay, namespace: shop}, spec: {clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2], ports: [{port: 80, targetPort: 8080}]}}
  - {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: pay, namespace: shop, labels: {kubernetes.io/service-name: pay}}, addressType: IPv4, ports: [{port: 8080}], endpoints: [{addresses: [10.0.0.2]}]}
"#;

#[test]
fn the_address_of_a_service_stands_for_what_it_leads_to() {
    let pods = format!("{}{}", PODS.trim_end(), SERVICES);
    let spec = "  never:\n  - {from: shop/checkout, to: 10.96.0.2/32}\n  - {from: shop/checkout, to: 10.96.0.0/16, port: 8080}\n  - {from: shop/checkout, to: 10.96.0.1/32}\n  - {from: namespace/ops, to: 10.96.0.0/16}\n";
    let found = outcomes_over(&pods, POLICIES, spec);
    for outcome in &found[..2] {
        assert!(
            outcome.contains("does not hold: shop/checkout (10.0.0.1) to shop/payments (10.0.0.2) tcp/8080"),
            "{outcome}"
        );
    }
    assert_eq!(found[2..], ["holds"; 2]);
    let api = "ports: [8080]}, {name: api, to: [{service: default/kubernetes}], ports: [6443]}]\n---\n";
    let found = outcomes_over(&pods, &POLICIES.replace("ports: [8080]}]\n---\n", api), spec);
    assert!(
        found[2].contains("does not hold: shop/checkout (10.0.0.1) to 192.168.7.1 tcp/6443"),
        "{}",
        found[2]
    );
}

#[test]
fn the_other_pods_of_a_compromised_workload_are_steps_as_well() {
    let pod = |name: &str, address: &str, workload: &str| {
        format!(
            "  - {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{pod: {name}}}, ownerReferences: [{{kind: StatefulSet, name: {workload}}}]}}, status: {{podIPs: [{{ip: {address}}}]}}}}\n"
        )
    };
    let pods = format!(
        "apiVersion: v1\nkind: List\nitems:\n  - {{apiVersion: v1, kind: Namespace, metadata: {{name: shop}}}}\n{}{}{}",
        pod("db-0", "10.0.0.1", "db"),
        pod("db-1", "10.0.0.2", "db"),
        pod("backup", "10.0.0.3", "backup")
    );
    let policies = |first: &str| {
        format!(
            "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: all}}\nspec: {{covers: {{namespaces: {{}}}}, default: kubernetes}}\n---\napiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: first, namespace: shop}}\nspec: {{workloads: {{pod: db-0}}, egress: [{first}]}}\n---\napiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: second, namespace: shop}}\nspec: {{workloads: {{pod: db-1}}, egress: [{{name: out, to: [{{workloads: {{pod: backup}}}}]}}]}}\n"
        )
    };
    let spec = "  contained:\n  - {from: pod/shop/db-0, within: workload/shop/db}\n";
    assert_eq!(outcomes_over(&pods, &policies(""), spec), ["holds"]);
    let found = outcomes_over(&pods, &policies("{name: peer, to: [{workloads: {pod: db-1}}]}"), spec);
    assert!(found[0].contains("does not hold: shop/db-1 (10.0.0.2) to shop/backup (10.0.0.3)"), "{found:?}");
}

#[test]
fn wrong_assertions_say_where_and_what_to_write() {
    let found = outcomes(
        "  never:\n  - {form: shop/checkout, to: shop/payments}\n  - {port: 80}\n  - {to: shop/payments, port: http}\n  - {to: shop/paymets}\n  - {to: namespace/shp}\n  only:\n  - {to: shop/payments}\n  contained:\n  - {from: 192.0.2.1, within: outside}\n",
    );
    for expected in [
        "p.yaml:6:6: error[unknown-field]: an assertion has no field `form`\n  help: did you mean `from`?",
        "p.yaml:7:5: error[missing-field]: an assertion of `never` needs `from` or `to`",
        "p.yaml:8:31: error[bad-port]: an assertion names ports by number",
        "error[unknown-reference]: no pod, workload or Service of the inventory is called `shop/paymets`\n  help: did you mean `shop/payments`",
        "help: did you mean `namespace/shop`?",
        "error[missing-field]: an assertion needs the field `from`",
        "error[bad-proof]: no pod is meant by `from`",
    ] {
        assert!(
            found.iter().any(|line| line.contains(expected)),
            "{expected:?} is missing in\n{}",
            found.join("\n")
        );
    }
}

#[test]
fn a_counter_example_is_really_allowed_and_none_means_that_no_request_is() {
    let (mut refuted, mut held) = (0, 0);
    for seed in 0..400 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let (inventory, set) = (random::inventory(&mut random), random::policy_set(&mut random));
        let compiler = Compiler::new(&set, &inventory).unwrap();
        let programs = Programs::new(&compiler).unwrap();
        let mut judges = Judges::new(&compiler, &inventory);
        let pods: Vec<&ObjectName> =
            inventory.pods.iter().filter(|(_, pod)| !pod.host_network).map(|(name, _)| name).collect();
        if pods.is_empty() {
            continue;
        }
        let (from, to) = (random.pick(&pods), random.pick(&pods));
        let named =
            |pod: &ObjectName| Some(vec![(format!("pod/{}/{}", pod.namespace, pod.name), Span::default())]);
        let (protocol, port) = random::protocol_and_port(&mut random);
        let section = random.once_in(2).then(|| random::section(&mut random));
        let claim = Claim::Never {
            from: named(from),
            except: vec![],
            to: named(to),
            ports: Some(vec![(protocol, PortRange::single(port))]),
            section: section.clone(),
        };
        let assertion = Assertion { name: "a".into(), span: Span::default(), claim };
        let proof = Proof { name: "p".into(), file: "p".into(), assertions: vec![assertion] };
        let outcome = prove(&proof, &programs, &inventory, Version::Enforced).remove(0);
        match &outcome.counter_example {
            Some(flow) => {
                refuted += 1;
                assert_eq!((flow.protocol, flow.port), (protocol, port));
                let meant = |request| section.as_ref().is_none_or(|section| may_be_meant(section, request));
                assert!(flow.request.as_ref().is_none_or(meant), "{section:?} {flow}");
                assert_eq!(
                    judges.ask(&question(flow)).unwrap().effect(Version::Enforced),
                    Effect::Allow,
                    "{flow}"
                );
            }
            None => {
                assert!(outcome.holds(), "{outcome:?}");
                held += 1;
                let traffic = (protocol, port, section.as_ref());
                none_passes(&mut random, &inventory, &mut judges, (from, to), traffic);
            }
        }
    }
    assert!(refuted > 20 && held > 20, "{refuted} {held}");
}

fn question(flow: &Flow) -> Question<'_> {
    Question {
        source: End { pod: flow.from.as_ref(), address: flow.source },
        destination: End { pod: flow.to.as_ref(), address: flow.destination },
        name: flow.name.as_ref(),
        dialled: flow.service.as_ref().map(|(_, address, port)| (*address, *port)),
        protocol: flow.protocol,
        port: flow.port,
        request: flow.request.as_ref(),
    }
}

fn none_passes(
    random: &mut Random,
    inventory: &Inventory,
    judges: &mut Judges<'_>,
    (from, to): (&ObjectName, &ObjectName),
    (protocol, port, section): (L4Protocol, u16, Option<&L7Section>),
) {
    // A protocol that does not carry the section carries nothing that is meant.
    if section.is_some_and(|section| !section.runs_on(protocol)) {
        return;
    }
    let own = |pod: &ObjectName| inventory.pods[pod].addresses.clone();
    for (source, destination) in own(from).into_iter().zip(own(to)) {
        if from == to || source.is_ipv4() != destination.is_ipv4() {
            continue;
        }
        for _ in 0..50 {
            let asked = random::request(random);
            let request = asked.question();
            let meant = |request| section.is_none_or(|section| may_be_meant(section, request));
            if !request.as_ref().is_none_or(meant) {
                continue;
            }
            let question = Question {
                source: End { pod: Some(from), address: source },
                destination: End { pod: Some(to), address: destination },
                dialled: None,
                name: None,
                protocol,
                port,
                request: request.as_ref(),
            };
            assert_eq!(
                judges.ask(&question).unwrap().effect(Version::Enforced),
                Effect::Deny,
                "{question:?}"
            );
        }
    }
}

#[test]
fn what_nobody_may_send_is_sent_by_no_pod_and_no_address() {
    let (mut refuted, mut held) = (0, 0);
    for seed in 0..200 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let (inventory, set) = (random::inventory(&mut random), random::policy_set(&mut random));
        let compiler = Compiler::new(&set, &inventory).unwrap();
        let programs = Programs::new(&compiler).unwrap();
        let mut judges = Judges::new(&compiler, &inventory);
        let pods: Vec<&ObjectName> =
            inventory.pods.iter().filter(|(_, pod)| !pod.host_network).map(|(name, _)| name).collect();
        let Some(to) = (!pods.is_empty()).then(|| random.pick(&pods)) else { continue };
        let (protocol, port) = random::protocol_and_port(&mut random);
        let section = random.once_in(2).then(|| random::section(&mut random));
        let claim = Claim::Never {
            from: None,
            except: vec![],
            to: Some(vec![(format!("pod/{}/{}", to.namespace, to.name), Span::default())]),
            ports: Some(vec![(protocol, PortRange::single(port))]),
            section: section.clone(),
        };
        let assertion = Assertion { name: "a".into(), span: Span::default(), claim };
        let proof = Proof { name: "p".into(), file: "p".into(), assertions: vec![assertion] };
        let outcome = prove(&proof, &programs, &inventory, Version::Enforced).remove(0);
        if let Some(flow) = &outcome.counter_example {
            refuted += 1;
            assert_eq!((flow.to.as_ref(), flow.port), (Some(to), port));
            let answer = judges.ask(&question(flow)).unwrap();
            assert_eq!(answer.effect(Version::Enforced), Effect::Allow, "{flow}");
            continue;
        }
        held += 1;
        let taken = crate::space::held(&inventory);
        for _ in 0..60 {
            let source = match random.below(2) {
                0 => End { pod: None, address: random::address(&mut random) },
                _ => {
                    let pod = random.pick(&pods);
                    let Some(address) = inventory.pods[pod].addresses.first() else { continue };
                    End { pod: Some(pod), address: *address }
                }
            };
            // An address that a pod or Service holds is not outside.
            if source.pod.is_none() && taken.contains(&source.address) || source.pod == Some(to) {
                continue;
            }
            let own = inventory.pods[to].addresses.iter();
            let Some(address) = own.copied().find(|own| own.is_ipv4() == source.address.is_ipv4()) else {
                continue;
            };
            let request = random::request(&mut random).question();
            let meant = |request| section.as_ref().is_none_or(|section| may_be_meant(section, request));
            let carried = section.as_ref().is_none_or(|section| section.runs_on(protocol));
            if !carried || !request.as_ref().is_none_or(meant) {
                continue;
            }
            let question = Question {
                source,
                destination: End { pod: Some(to), address },
                dialled: None,
                name: None,
                protocol,
                port,
                request: request.as_ref(),
            };
            let effect = judges.ask(&question).unwrap().effect(Version::Enforced);
            assert_eq!(effect, Effect::Deny, "{question:?}");
        }
    }
    assert!(refuted > 20 && held > 20, "{refuted} {held}");
}

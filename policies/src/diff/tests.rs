//! Changes of a small shop, and what is found on random ones against what the judges say.

use super::*;
use crate::compile::Compiler;
use crate::diagnostics::Source;
use crate::documents::{load, load_inventory};
use crate::matrix::{Matrix, Probe};
use crate::model::PolicySet;
use crate::naive::random::{self, Random};
use crate::questions::{End, Judges, Question};
use crate::space::shown_block;
use bulkhead_facts::Effect;

const PODS: &str = r#"
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: ops}}
  - {apiVersion: v1, kind: Pod, metadata: {name: checkout, namespace: shop, labels: {app: checkout}}, status: {podIPs: [{ip: 10.0.0.1}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: payments-0, namespace: shop, labels: {app: payments}, ownerReferences: [{kind: StatefulSet, name: payments}]}, status: {podIPs: [{ip: 10.0.0.2}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: payments-1, namespace: shop, labels: {app: payments}, ownerReferences: [{kind: StatefulSet, name: payments}]}, status: {podIPs: [{ip: 10.0.0.3}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: batch, namespace: ops, labels: {app: batch}}, status: {podIPs: [{ip: 10.0.0.4}]}}
"#;

/// Ingress of payments in a set that denies what nobody allows there.
fn ingress(rules: &str) -> String {
    format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: payments, namespace: shop}}\nspec:\n  workloads: {{app: payments}}\n  ingress: [{rules}]\n---\napiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: all}}\nspec: {{covers: {{namespaces: {{}}}}, default: kubernetes}}\n"
    )
}

fn set(text: &str) -> PolicySet {
    let loaded = load(&[Source { name: "p.yaml".into(), text: text.into() }]);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    loaded.set
}

fn between(old: &PolicySet, new: &PolicySet, inventory: &Inventory) -> Difference {
    let programs = |set| Programs::new(&Compiler::new(set, inventory).unwrap()).unwrap();
    diff(&programs(old), &programs(new), inventory, [Version::Enforced; 2])
}

fn shown_side(side: &Side) -> String {
    match side {
        Side::Workload(workload) => workload.to_string(),
        Side::Service(name) => format!("service/{}/{}", name.namespace, name.name),
        Side::Name(name) => format!("fqdn/{name}"),
        Side::Outside(blocks) => blocks.iter().map(|block| shown_block(*block)).collect::<Vec<_>>().join(" "),
    }
}

/// Changes and resets, a line each.
fn lines(old: &str, new: &str) -> Vec<String> {
    let inventory = load_inventory(&[Source { name: "i.yaml".into(), text: PODS.into() }]).unwrap();
    let found = between(&set(&ingress(old)), &set(&ingress(new)), &inventory);
    let changes = found.changes.iter().map(|change| {
        let extent = match &change.extent {
            Extent::Everything => "everything".to_owned(),
            Extent::Kinds { listed, more } => {
                let listed: Vec<&str> = listed.iter().map(|kind| kind.shown.as_str()).collect();
                format!("{} +{more}", listed.join(" | "))
            }
            Extent::Undecided => "undecided".to_owned(),
        };
        format!(
            "{} {} -> {} {}/{} {extent} [{}]",
            change.kind.as_str(),
            shown_side(&change.from),
            shown_side(&change.to),
            change.protocols,
            change.ports,
            change.flows
        )
    });
    let resets = found.resets.iter().map(|reset| {
        format!("reset {} {} {}/{}", reset.workload, shown_side(&reset.peer), reset.protocols, reset.ports)
    });
    changes.chain(resets).collect()
}

const WEB: &str = "{name: web, from: [{workloads: {app: checkout}}], ports: [8080], http: [{methods: [POST], path: /v1/charges}]}";

#[test]
fn other_words_for_the_same_change_nothing() {
    let renamed = WEB.replace("name: web", "name: other");
    assert_eq!(lines(WEB, &renamed), [""; 0]);
    assert_eq!(
        lines(
            "{from: [{cidr: 10.0.0.1}], ports: [80, 81]}",
            "{from: [{cidr: 10.0.0.1}], ports: [\"80-81\"]}"
        ),
        [""; 0]
    );
    let split = "{name: a, from: [{cidr: 0.0.0.0/1}], ports: [80]}, {name: b, from: [{cidr: 128.0.0.0/1}], ports: [80]}";
    assert_eq!(lines("{from: [{cidr: 0.0.0.0/0}], ports: [80]}", split), [""; 0]);
}

#[test]
fn frames_that_nobody_checks_any_more_widen_and_those_that_are_checked_now_narrow() {
    let socket = |more: &str| {
        format!(
            "{{name: a, from: [{{workloads: {{app: checkout}}}}], ports: [80], http: [{{methods: [GET], path: /chat, websocket: true{more}}}]}}"
        )
    };
    let (open, checked) = (socket(""), socket(", frames: checked"));
    let told = |kind: &str| {
        vec![format!(
            "{kind} shop/checkout -> shop/payments tcp/80 GET /chat with `upgrade: websocket` and then no frames +0 [2]"
        )]
    };
    assert_eq!(lines(&checked, &open), told("widened"));
    assert_eq!(lines(&open, &checked), told("narrowed"));
    assert_eq!(lines(&checked, &checked), [""; 0]);
    let twice = format!("{checked}, {}", open.replace("name: a", "name: b"));
    assert_eq!(lines(&open, &twice), [""; 0], "another rule allows the same without");
}

#[test]
fn a_header_that_is_accepted_now_widens_and_one_that_is_not_any_more_narrows() {
    let rule = |section: &str| {
        format!("{{name: a, from: [{{workloads: {{app: checkout}}}}], ports: [80], {section}}}")
    };
    let kinds = [
        (
            [
                "http: [{methods: [GET], path: /in}]",
                "http: [{methods: [GET], path: /in, proxyProtocol: accepted}]",
            ],
            "GET /in behind a PROXY header",
        ),
        (
            ["tls: {sni: [a.test]}", "tls: {sni: [a.test], proxyProtocol: accepted}"],
            "tls sni=a.test version=1.2-1.3 behind a PROXY header",
        ),
    ];
    for (sections, request) in kinds {
        let [without, with] = sections.map(rule);
        let told =
            |kind: &str| vec![format!("{kind} shop/checkout -> shop/payments tcp/80 {request} +0 [2]")];
        assert_eq!(lines(&without, &with), told("widened"));
        assert_eq!(lines(&with, &without), told("narrowed"));
        assert_eq!(lines(&with, &with), [""; 0]);
    }
}

#[test]
fn an_edge_that_opens_and_one_that_closes_are_told_with_the_widened_first() {
    let old = "{name: a, from: [{workloads: {app: checkout}}], ports: [80]}";
    let new = "{name: a, from: [{namespaces: {name: ops}}], ports: [80]}";
    let expected = [
        "widened ops/batch -> shop/payments tcp/80 everything [2]",
        "narrowed shop/checkout -> shop/payments tcp/80 everything [2]",
    ];
    assert_eq!(lines(old, new), expected);
}

#[test]
fn the_outside_ranks_before_the_inside_and_is_told_in_blocks() {
    let found =
        lines("", "{name: a, from: [{cidr: 198.51.100.0/24}, {workloads: {app: checkout}}], ports: [80]}");
    let expected = [
        "widened 198.51.100.0/24 -> shop/payments tcp/80 everything [2]",
        "widened shop/checkout -> shop/payments tcp/80 everything [2]",
    ];
    assert_eq!(found, expected);
}

#[test]
fn requests_are_compared_as_sets_and_one_that_changes_is_shown() {
    let template = WEB.replace("path: /v1/charges", "path: \"/v1/{what}\"");
    assert_eq!(
        lines(WEB, &template),
        ["widened shop/checkout -> shop/payments tcp/8080 POST /v1/{any} +0 [2]"]
    );
    let header = WEB.replace("/v1/charges", "/v1/charges, headers: [{name: x-tenant, exact: blue}]");
    let found = lines(WEB, &header);
    assert_eq!(
        found,
        [
            "narrowed shop/checkout -> shop/payments tcp/8080 POST /v1/charges | POST /v1/charges with `x-tenant: blue` with `x-tenant: ~` | POST /v1/charges with `x_tenant: blue` | POST /v1/charges with `x_tenant: blue` with `x-tenant: blue` | POST /v1/charges with `x_tenant: blue` with `x-tenant: blue` with `x-tenant: ~` +3 [2]"
        ]
    );
    let host = WEB.replace("/v1/charges", "/v1/charges, hosts: [\"*.shop.test\"]");
    let found = lines(&host, &WEB.replace("/v1/charges", "/v1/charges, hosts: [a.shop.test]"));
    assert_eq!(
        found,
        [
            "narrowed shop/checkout -> shop/payments tcp/8080 POST /v1/charges at x.a.shop.test | POST /v1/charges at x.shop.test +0 [2]"
        ]
    );
}

#[test]
fn a_path_that_only_another_spelling_reaches_is_found() {
    let rule = |paths: &str| {
        format!("{{name: a, from: [{{workloads: {{app: checkout}}}}], ports: [80], http: [{paths}]}}")
    };
    let found = lines(&rule("{path: /}, {path: \"/{a}\"}, {path: \"/{a}/**\"}"), &rule("{path: \"/**\"}"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("widened shop/checkout -> shop/payments tcp/80 GET //"), "{found:?}");
}

#[test]
fn a_port_that_becomes_inspected_announces_that_flows_are_reset() {
    let found = lines("{name: web, from: [{workloads: {app: checkout}}], ports: [8080]}", WEB);
    assert!(found[0].starts_with("narrowed shop/checkout -> shop/payments tcp/8080 "), "{found:?}");
    assert_eq!(found[1..], ["reset shop/payments shop/checkout tcp/8080"]);
}

#[test]
fn what_is_staged_is_the_shadow_answer_against_the_enforced_one() {
    let inventory = load_inventory(&[Source { name: "i.yaml".into(), text: PODS.into() }]).unwrap();
    let staged = |mode: &str| {
        let text = ingress(WEB).replace("spec:\n  workloads", &format!("spec:\n  mode: {mode}\n  workloads"));
        let set = set(&text);
        let programs = Programs::new(&Compiler::new(&set, &inventory).unwrap()).unwrap();
        let found = diff(&programs, &programs, &inventory, [Version::Enforced, Version::Shadow]);
        found.changes.iter().map(|change| change.kind).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(staged("enforce").len(), 0);
    // Audited, it would close what is open; on its way out, its end would open what it closes.
    assert_eq!(staged("audit"), [ChangeKind::Narrowed].into());
    assert_eq!(staged("audit-removal"), [ChangeKind::Widened].into());
}

#[test]
fn names_are_compared_as_kinds_of_names() {
    let policy = |peers: &str| {
        set(&format!(
            "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: out, namespace: shop}}\nspec: {{workloads: {{app: checkout}}, egress: [{{name: out, to: [{peers}], ports: [443]}}]}}\n"
        ))
    };
    let inventory = load_inventory(&[Source { name: "i.yaml".into(), text: PODS.into() }]).unwrap();
    let told = |old: &str, new: &str| -> Vec<String> {
        let found = between(&policy(old), &policy(new), &inventory);
        let line =
            |change: &Change| format!("{} {} {}", change.kind.as_str(), shown_side(&change.to), change.ports);
        found.changes.iter().map(line).collect()
    };
    let (one, below) = ("{fqdn: a.test}", "{fqdn: \"*.a.test\"}");
    assert_eq!(told(one, below), ["widened fqdn/x.a.test 443", "narrowed fqdn/a.test 443"]);
    // At the address of one of its names a rule takes bytes that mean any of them.
    let both = format!("{one}, {below}");
    assert_eq!(told(&both, one), ["narrowed fqdn/a.test 443", "narrowed fqdn/x.a.test 443"]);
    assert_eq!(told("{fqdn: \"*.test\"}", "{fqdn: \"*.test\"}, {fqdn: a.test}"), [""; 0]);
    let world = told(one, "{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}");
    assert!(world.iter().all(|line| line.starts_with("widened ")), "{world:?}");
}

/// A set, and the same set with something about it changed.
fn changed(random: &mut Random) -> [PolicySet; 2] {
    let old = random::policy_set(random);
    let mut new = old.clone();
    let other = random::policy_set(random);
    match random.below(4) {
        0 => {}
        1 => new.policies.extend(other.policies.into_iter().take(1).map(|mut policy| {
            policy.origin.name = "added".into();
            policy
        })),
        2 => {
            new.policies.pop();
        }
        _ => new.collections = other.collections,
    }
    [old, new]
}

#[test]
fn nothing_changes_exactly_if_every_answer_is_the_same() {
    let ports: Vec<Probe> = [53, 80, 81, 8080, 8081]
        .into_iter()
        .flat_map(|port| [L4Protocol::TCP, L4Protocol::UDP].map(|protocol| Probe { protocol, port }))
        .collect();
    let mut seen = [0; 3];
    for seed in 0..150 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let inventory = random::inventory(&mut random);
        let sets = changed(&mut random);
        let found = between(&sets[0], &sets[1], &inventory);
        let compilers = sets.each_ref().map(|set| Compiler::new(set, &inventory).unwrap());
        let tables = compilers.each_ref().map(|compiler| {
            let matrix = Matrix::new(compiler, &inventory).unwrap();
            // Where requests decide, the table holds what the kindest rule says, not whether a request passes both ends.
            let plain = matrix
                .rows(&ports)
                .map(|row| (row.from, row.to, row.probe, (!row.inspected).then_some(row.enforced.effect)));
            plain.collect::<Vec<_>>()
        });
        if found.changes.is_empty() {
            let differs = tables[0]
                .iter()
                .zip(&tables[1])
                .find(|(old, new)| matches!((old.3, new.3), (Some(before), Some(after)) if before != after));
            assert_eq!(differs, None);
            seen[0] += 1;
        } else if tables[0] != tables[1] {
            seen[1] += 1;
        }
        let mut judges = compilers.each_ref().map(|compiler| Judges::new(compiler, &inventory));
        for change in &found.changes {
            let answers = judges
                .each_mut()
                .map(|judges| judges.ask(&question(&change.example)).unwrap().effect(Version::Enforced));
            let expected = match change.kind {
                ChangeKind::Widened => [Effect::Deny, Effect::Allow],
                ChangeKind::Narrowed => [Effect::Allow, Effect::Deny],
            };
            assert_eq!(answers, expected, "{change:?}");
            seen[2] += 1;
        }
        random_questions(&mut random, &inventory, &mut judges, &found);
    }
    assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
}

fn question(example: &Example) -> Question<'_> {
    Question {
        source: End { pod: example.from.as_ref(), address: example.source },
        destination: End { pod: example.to.as_ref(), address: example.destination },
        dialled: example.dialled,
        name: example.name.as_ref(),
        protocol: example.protocol,
        port: example.port,
        request: example.request.as_ref(),
    }
}

/// Whatever is answered differently lies in a change.
fn random_questions(
    random: &mut Random,
    inventory: &Inventory,
    judges: &mut [Judges<'_>; 2],
    found: &Difference,
) {
    let pods: Vec<_> =
        inventory.pods.iter().filter(|(_, pod)| !pod.host_network && !pod.addresses.is_empty()).collect();
    if pods.is_empty() {
        return;
    }
    for _ in 0..100 {
        let (from, to) = (random.pick(&pods), random.pick(&pods));
        let (protocol, port) = random::protocol_and_port(random);
        let asked = random::request(random);
        let request = asked.question();
        let (source, destination) = (from.1.addresses[0], to.1.addresses[0]);
        if from.0 == to.0 || source.is_ipv4() != destination.is_ipv4() {
            continue;
        }
        let question = Question {
            source: End { pod: Some(from.0), address: source },
            destination: End { pod: Some(to.0), address: destination },
            dialled: None,
            name: None,
            protocol,
            port,
            request: request.as_ref(),
        };
        let [before, after] =
            judges.each_mut().map(|judges| judges.ask(&question).unwrap().effect(Version::Enforced));
        let covers = |change: &Change| {
            change.from == Side::Workload(from.1.workload.clone())
                && change.to == Side::Workload(to.1.workload.clone())
                && change.protocols.contains(protocol)
                && change.ports.contains(port)
        };
        assert!(before == after || found.changes.iter().any(covers), "{question:?} {before} {after}");
    }
}

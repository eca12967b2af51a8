//! Cases against a small shop: those that hold, and how those that do not are explained.

use super::*;
use crate::compile::Compiler;
use crate::diagnostics::Source;
use crate::documents;
use crate::questions::Judges;

const SHOP: &str = r#"
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: payments, namespace: shop}
spec:
  workloads: {app: payments}
  ingress:
    - name: charges
      from: [{workloads: {app: checkout}}]
      ports: [8080]
      http: [{methods: [POST], path: /v1/charges}]
---
apiVersion: bulkhead.dev/v1alpha1
kind: ClusterSegmentPolicy
metadata: {name: guard}
spec:
  tier: admin
  priority: 1
  subjects: {namespaces: {}}
  egress: [{name: metadata, action: deny, to: [{entity: metadata}]}]
---
apiVersion: bulkhead.dev/v1alpha1
kind: Collection
metadata: {name: shop}
spec: {covers: {namespaces: {name: shop}}, default: kubernetes}
"#;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: checkout-0, namespace: shop, labels: {app: checkout}, ownerReferences: [{kind: Deployment, name: checkout}]}
status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: payments-0, namespace: shop, labels: {app: payments}, ownerReferences: [{kind: Deployment, name: payments}]}
status: {podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: payments-1, namespace: shop, labels: {app: payments}, ownerReferences: [{kind: Deployment, name: payments}]}
status: {podIPs: [{ip: 10.0.0.3}, {ip: "fd00::3"}]}
---
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec: {clusterIPs: [10.96.0.1, "fd01::1"], selector: {app: payments}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// The outcomes of cases, one line each with its problems.
fn outcomes(spec: &str) -> String {
    outcomes_of(SHOP, spec)
}

fn outcomes_of(policies: &str, spec: &str) -> String {
    let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
    let tests =
        format!("apiVersion: bulkhead.dev/v1alpha1\nkind: PolicyTest\nmetadata: {{name: s}}\nspec:\n{spec}");
    let loaded = documents::load(&[source("shop.yaml", policies)]);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    let inventory = documents::load_inventory(&[source("pods.yaml", PODS)]).unwrap();
    let (suites, found) = load(&[source("t.yaml", &tests)]);
    let mut lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    let compiler = Compiler::new(&loaded.set, &inventory).unwrap();
    let mut judges = Judges::new(&compiler, &inventory);
    for outcome in suites.iter().flat_map(|suite| run(suite, &mut judges)) {
        let verdict = if outcome.problems.is_empty() { "holds" } else { "differs" };
        lines.push(format!("{} [{}]: {verdict}", outcome.case, outcome.flows));
        lines.extend(outcome.problems.iter().map(ToString::to_string));
    }
    lines.join("\n")
}

#[test]
fn cases_that_hold_are_asked_of_every_pod_and_family() {
    let found = outcomes(
        "  allow:\n  - {from: shop/checkout, to: shop/payments, port: 8080, http: {method: POST, path: /v1/charges}, rule: charges}\n  - {name: by service, from: shop/checkout, to: service/shop/pay, port: 80, http: {method: POST, path: /v1/charges}}\n  deny:\n  - {from: shop/checkout, to: shop/payments, port: [8080, udp/53], http: {path: /admin}}\n  - {from: 192.0.2.1, to: shop/payments-0, port: 8080, reason: no_rule}\n  - {from: [shop/checkout, shop/payments], to: 169.254.169.254, port: 80, rule: guard/metadata}\n",
    );
    let expected = "allow shop/checkout to shop/payments tcp/8080 POST /v1/charges [4]: holds\nby service [4]: holds\ndeny shop/checkout to shop/payments tcp/8080, udp/53 GET /admin [8]: holds\ndeny 192.0.2.1 to shop/payments-0 tcp/8080 [1]: holds\ndeny shop/checkout, shop/payments to 169.254.169.254 tcp/80 [3]: holds";
    assert_eq!(found, expected);
}

#[test]
fn a_difference_names_flow_ends_and_rules() {
    let found = outcomes(
        "  allow:\n  - {from: shop/checkout, to: shop/payments-0, port: 8080, http: {path: /admin}}\n  - {from: shop/checkout, to: shop/payments-0, port: 8080, http: {method: POST, path: /v1/charges}, rule: other}\n  deny:\n  - {from: shop/checkout, to: shop/payments-0, port: 9, reason: limit}\n",
    );
    for expected in [
        "t.yaml:6:5: error[case-differs]: shop/checkout-0 (10.0.0.1) to shop/payments-0 (10.0.0.2) tcp/8080: must be allow, is deny",
        "ingress at shop/payments-0: deny by rule `SegmentPolicy/shop/payments/charges` (namespace tier, l7_mismatch)",
        "must be allow by rule `other`, is by SegmentPolicy/shop/payments/charges",
        "must be deny for reason `limit`, is for `no_rule`",
    ] {
        assert!(found.contains(expected), "{expected:?} is missing in\n{found}");
    }
}

#[test]
fn a_path_that_servers_read_differently_is_denied_before_any_rule() {
    let found = outcomes(
        "  deny:\n  - {from: shop/checkout, to: shop/payments, port: 8080, http: {method: POST, path: \"/v1/..%2fcharges\"}, reason: ambiguous}\n",
    );
    assert!(found.ends_with("holds"), "{found}");
}

#[test]
fn wrong_cases_say_what_to_write() {
    let found = outcomes(
        "  allow:\n  - {from: shop/chekout, to: shop/payments, port: 8080}\n  - {from: shop/pay, to: shop/payments, port: 8080}\n  - {from: shop/checkout, to: shop/payments, port: http}\n  - {frm: shop/checkout, to: shop/payments, port: 1}\n  - {from: shop/payments-0, to: shop/payments-0, port: 1}\n",
    );
    for expected in [
        "t.yaml:6:12: error[unknown-reference]: no pod, workload or Service of the inventory is called `shop/chekout`\n  help: did you mean `shop/checkout`?",
        "error[bad-case]: a Service opens no flow",
        "t.yaml:8:52: error[bad-port]: a case asks about one port by number",
        "t.yaml:9:6: error[unknown-field]: a case has no field `frm`\n  help: did you mean `from`?",
        "error[bad-case]: the case asks about no flow at all",
    ] {
        assert!(found.contains(expected), "{expected:?} is missing in\n{found}");
    }
}

#[test]
fn cases_ask_in_the_words_of_every_protocol_and_by_name() {
    let policy = "
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: out, namespace: shop}
spec:
  workloads: {app: checkout}
  egress:
    - {name: api, to: [{fqdn: api.test}], ports: [443], tls: {sni: [api.test], min: \"1.2\"}}
    - {name: data, to: [{workloads: {app: payments}}], ports: [5432], postgres: [{users: [a], statements: [select]}]}
    - {name: cache, to: [{workloads: {app: payments}}], ports: [6379], redis: [{commands: [get], databases: [3]}]}
";
    let cases = "  allow:\n  - {from: shop/checkout, to: fqdn/api.test, port: 443, tls: {sni: api.test, version: \"1.3\", alpn: [h2]}}\n  - {from: shop/checkout, to: shop/payments, port: 5432, postgres: {user: a}, rule: out/data}\n  - {from: shop/checkout, to: shop/payments, port: 6379, redis: {command: GET, keys: [a], database: 3}}\n  deny:\n  - {from: shop/checkout, to: fqdn/other.test, port: 443, tls: {sni: api.test}}\n  - {from: shop/checkout, to: fqdn/api.test, port: 443, tls: {sni: api.test, ech: true}}\n  - {from: shop/checkout, to: shop/payments, port: 5432, postgres: {user: a, statements: [select, delete]}, reason: l7_mismatch}\n  - {from: shop/checkout, to: shop/payments, port: 6379, redis: {command: get, database: unknown}}\n";
    let found = outcomes_of(policy, cases);
    assert_eq!(found.lines().filter(|line| line.ends_with("holds")).count(), 7, "{found}");
    let wrong = outcomes_of(
        policy,
        "  allow:\n  - {from: fqdn/a.test, to: shop/payments, port: 1}\n  - {from: shop/checkout, to: fqdn/10.0.0.1, port: 1}\n  - {from: shop/checkout, to: shop/payments, port: 1, kafka: {api: produc}}\n  - {from: shop/checkout, to: shop/payments, port: 1, dns: {name: a.test}, http: {path: /}}\n  - {from: shop/checkout, to: shop/payments, port: 1, tls: {ech: 3}}\n  - {from: shop/checkout, to: shop/payments, port: 1, redis: {comand: get}}\n",
    );
    for expected in [
        "error[bad-case]: a name opens no flow",
        "is called `fqdn/10.0.0.1`",
        "API key `produc` is unknown: did you mean `produce`?",
        "error[two-sections]: a case has one request, and this one has `http` and `dns`",
        "`ech` must be true or false, not a number",
        "help: did you mean `command`?",
    ] {
        assert!(wrong.contains(expected), "{expected:?} is missing in\n{wrong}");
    }
}

//! Rules by name: what holds for an address once a name is known to lead to it.

mod support;

use bulkhead_facts::{
    Direction, Effect, HostName, HttpRequest, IpFamily, L4Protocol, Reason, RedisCommand, Request, TlsHello,
    TlsVersion, UrlPath,
};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::program::{Action, Program};
use std::net::IpAddr;
use support::{compiler, sound};

const INVENTORY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: n}
status: {podIPs: [{ip: 10.0.0.7}, {ip: 'fd00::7'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: shop, labels: {app: db}}
spec: {nodeName: n}
status: {podIPs: [{ip: 10.0.0.8}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop, labels: {app: agent}}
spec: {nodeName: m, hostNetwork: true}
status: {podIPs: [{ip: 203.0.113.202}]}
---
apiVersion: v1
kind: Node
metadata: {name: n}
status: {addresses: [{type: InternalIP, address: 203.0.113.201}, {type: InternalIP, address: '2001:db8::201'}]}
";

/// Egress of `web` under a collection that denies by default.
fn program(egress: &str, more: &str) -> Program {
    let text = format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: shop}}\nspec: {{covers: {{namespaces: {{}}}}, \
         default: deny}}\n---\napiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  workloads: {{app: web}}\n  egress:\n{egress}\n{more}"
    );
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let (set, inventory) = sound(&[source("p.yaml", &text)], &[source("i.yaml", INVENTORY)]);
    let pod = ObjectName { namespace: "shop".to_owned(), name: "web-1".to_owned() };
    compiler(&set, &inventory).program(&pod, 1).expect("a program")
}

/// What holds for an address that these names lead to.
fn action(judge: &Judge, address: &str, names: &[&str], protocol: L4Protocol, port: u16) -> Option<Action> {
    let address: IpAddr = address.parse().expect("address");
    let mut rules: Vec<_> =
        names.iter().flat_map(|name| judge.rules_naming(&HostName::parse(name).expect("a name"))).collect();
    rules.sort_unstable();
    rules.dedup();
    let class = judge.named_class(address, &rules)?;
    Some(judge.action_of_class(Direction::Egress, class, protocol, port))
}

/// True if bytes pass that name nobody.
fn allowed(judge: &Judge, address: &str, names: &[&str], port: u16) -> bool {
    match action(judge, address, names, L4Protocol::TCP, port) {
        Some(Action::Answer(id) | Action::Inspect { opaque: id, .. }) => {
            judge.answer(id).enforced.effect == Effect::Allow
        }
        Some(Action::Learn(_) | Action::Choose { .. }) | None => false,
    }
}

/// What a hello with this name comes to, `-` for none, with `~` in front an encrypted one.
fn hello(judge: &Judge, names: &[&str], port: u16, said: &str) -> Option<Reason> {
    let name = HostName::parse(said.trim_start_matches('~')).ok().filter(|_| said != "-");
    let hello = TlsHello {
        server_name: name.as_ref(),
        lowest: TlsVersion::V1_2,
        highest: TlsVersion::V1_3,
        application_protocols: &["h2"],
        encrypted: said.starts_with('~'),
    };
    answer(judge, names, port, &Request::Tls(hello))
}

/// What a request to this host comes to, `-` for none.
fn request(judge: &Judge, names: &[&str], port: u16, host: &str, path: &str) -> Option<Reason> {
    let host = HostName::parse(host).ok().filter(|_| host != "-");
    let path = UrlPath::parse(path).expect("a path");
    let request = HttpRequest { method: "GET", path: &path, query: None, host: host.as_ref(), headers: &[] };
    answer(judge, names, port, &Request::Http(request))
}

fn answer(judge: &Judge, names: &[&str], port: u16, request: &Request<'_>) -> Option<Reason> {
    let answer = match action(judge, "203.0.113.7", names, L4Protocol::TCP, port)? {
        Action::Inspect { chain, .. } => judge.decide_l7(chain, request).enforced,
        other => panic!("not inspected: {other:?}"),
    };
    assert_eq!(answer.effect == Effect::Allow, answer.reason == Reason::AllowedByRule, "{answer:?}");
    Some(answer.reason)
}

const TWO_RULES: &str = "
    - {name: card, to: [{fqdn: api.card.example}], ports: [443]}
    - {name: mail, to: [{fqdn: '*.mail.example'}, {fqdn: '**.post.example'}], ports: [25, udp/99]}
";

#[test]
fn an_address_is_allowed_the_ports_of_the_rules_that_name_it_and_no_others() {
    let judge = Judge::new(program(TWO_RULES, "")).expect("valid");
    assert!(judge.has_names());
    for address in ["203.0.113.7", "2001:db8::7"] {
        assert!(allowed(&judge, address, &["api.card.example"], 443));
        assert!(!allowed(&judge, address, &["api.card.example"], 25));
        assert!(allowed(&judge, address, &["a.mail.example"], 25));
        assert!(!allowed(&judge, address, &["b.a.mail.example"], 25));
        assert!(allowed(&judge, address, &["b.a.post.example"], 25));
        assert_eq!(action(&judge, address, &["other.example"], L4Protocol::TCP, 443), None);
        assert_eq!(action(&judge, address, &[], L4Protocol::TCP, 443), None);
    }
    let udp = action(&judge, "203.0.113.7", &["a.mail.example"], L4Protocol::UDP, 99);
    assert!(matches!(udp, Some(Action::Answer(id)) if judge.answer(id).enforced.effect == Effect::Allow));
}

#[test]
fn an_address_that_names_share_is_held_by_the_rules_of_all_of_them() {
    let judge = Judge::new(program(TWO_RULES, "")).expect("valid");
    let both = ["api.card.example", "x.mail.example"];
    assert!(allowed(&judge, "203.0.113.7", &both, 443) && allowed(&judge, "203.0.113.7", &both, 25));
    assert!(!allowed(&judge, "203.0.113.7", &both, 80));
}

#[test]
fn bytes_that_name_somebody_have_to_name_whom_a_rule_at_the_address_means() {
    let judge = Judge::new(program(TWO_RULES, "")).expect("valid");
    let card = ["api.card.example"];
    let check = |said: &str| hello(&judge, &card, 443, said).expect("a class");
    assert_eq!(check("api.card.example"), Reason::AllowedByRule);
    // Not at this address, or not at all.
    assert_eq!(check("a.mail.example"), Reason::NameMismatch);
    assert_eq!(check("evil.example"), Reason::NameMismatch);
    assert_eq!(check("-"), Reason::NameHidden);
    assert_eq!(check("~api.card.example"), Reason::NameHidden);
    let check = |host: &str| request(&judge, &card, 443, host, "/x").expect("a class");
    assert_eq!(check("api.card.example"), Reason::AllowedByRule);
    assert_eq!(check("evil.example"), Reason::NameMismatch);
    assert_eq!(check("-"), Reason::NameHidden);
    // Protocols that name nobody pass, as do datagrams.
    assert!(allowed(&judge, "203.0.113.7", &card, 443));
    let ping = Request::Redis(RedisCommand { name: "PING", keys: &[], database: Some(0) });
    assert_eq!(answer(&judge, &card, 443, &ping), Some(Reason::AllowedByRule));
}

#[test]
fn at_an_address_that_names_share_each_is_held_by_its_own_rules() {
    let rules = "
    - {name: all, to: [{fqdn: whole.example}], ports: [443]}
    - {name: read, to: [{fqdn: '*.read.example'}], ports: [443], http: [{methods: [GET], path: '/public/**'}]}
    - {name: new, to: [{fqdn: new.example}], ports: [443], tls: {min: '1.3'}}
    - {name: told, to: [{fqdn: told.example}], ports: [443], tls: {sni: [other.example], ech: true}}
";
    let judge = Judge::new(program(rules, "")).expect("valid");
    let all = ["whole.example", "a.read.example", "new.example", "told.example"];
    let check = |host: &str, path: &str| request(&judge, &all, 443, host, path).expect("a class");
    assert_eq!(check("whole.example", "/admin"), Reason::AllowedByRule);
    assert_eq!(check("a.read.example", "/public/1"), Reason::AllowedByRule);
    assert_eq!(check("a.read.example", "/admin"), Reason::L7Mismatch);
    assert_eq!(check("unknown.example", "/public/1"), Reason::NameMismatch);
    let check = |said: &str| hello(&judge, &all, 443, said).expect("a class");
    assert_eq!(check("whole.example"), Reason::AllowedByRule);
    assert_eq!(check("new.example"), Reason::L7Mismatch, "1.2 is offered");
    // A section that says names says which.
    assert_eq!(check("other.example"), Reason::AllowedByRule);
    assert_eq!(check("told.example"), Reason::NameMismatch);
    assert_eq!(check("~hidden.example"), Reason::AllowedByRule);
    assert_eq!(check("-"), Reason::NameHidden);
}

#[test]
fn a_request_without_a_clear_path_is_held_by_its_host_alone() {
    let rules = "
    - {name: all, to: [{fqdn: whole.example}], ports: [443]}
    - {name: read, to: [{fqdn: read.example}], ports: [443], http: [{path: '/public/**'}]}
";
    let judge = Judge::new(program(rules, "")).expect("valid");
    let check = |names: &[&str], host: &str| {
        let Some(Action::Inspect { chain, .. }) = action(&judge, "203.0.113.7", names, L4Protocol::TCP, 443)
        else {
            panic!("not inspected")
        };
        let host = HostName::parse(host).ok().filter(|_| host != "-");
        judge.decide_unclear_http(chain, host.as_ref()).enforced.reason
    };
    let both = ["whole.example", "read.example"];
    assert_eq!(check(&both, "whole.example"), Reason::AllowedByRule);
    assert_eq!(check(&both, "read.example"), Reason::NameMismatch);
    assert_eq!(check(&both, "-"), Reason::NameHidden);
    assert_eq!(check(&["read.example"], "read.example"), Reason::ProtocolMismatch);
}

#[test]
fn names_of_a_cluster_network_policy_mean_addresses_alone() {
    let admin = "
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: names}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  egress:
    - {name: out, action: Accept, to: [{domainNames: [api.card.example]}]}
";
    let judge =
        Judge::new(program("    - {name: far, to: [{cidr: 198.51.100.9/32}]}", admin)).expect("valid");
    let found = action(&judge, "203.0.113.7", &["api.card.example"], L4Protocol::TCP, 443);
    assert!(matches!(found, Some(Action::Answer(id)) if judge.answer(id).enforced.effect == Effect::Allow));
}

#[test]
fn what_an_address_may_anyway_needs_no_name() {
    let rules = format!("{TWO_RULES}    - {{name: block, to: [{{cidr: 203.0.113.0/24}}], ports: [443]}}\n");
    let judge = Judge::new(program(&rules, "")).expect("valid");
    let found = action(&judge, "203.0.113.7", &["api.card.example"], L4Protocol::TCP, 443);
    assert!(matches!(found, Some(Action::Answer(_))), "{found:?}");
    // The same where it is a peer of the rule itself.
    let rule = "    - {name: card, to: [{fqdn: api.card.example}, {cidr: 203.0.113.0/24}], ports: [443]}\n";
    let judge = Judge::new(program(rule, "")).expect("valid");
    let found = action(&judge, "203.0.113.7", &["api.card.example"], L4Protocol::TCP, 443);
    assert!(matches!(found, Some(Action::Answer(_))), "{found:?}");
}

#[test]
fn what_an_address_may_anyway_it_keeps() {
    let rules = format!("{TWO_RULES}    - {{name: block, to: [{{cidr: 203.0.113.0/24}}], ports: [80]}}\n");
    let judge = Judge::new(program(&rules, "")).expect("valid");
    assert!(allowed(&judge, "203.0.113.7", &["api.card.example"], 80));
    assert!(allowed(&judge, "203.0.113.7", &["api.card.example"], 443));
    assert!(!allowed(&judge, "198.51.100.7", &["api.card.example"], 80));
}

#[test]
fn a_deny_of_the_admin_tier_holds_whatever_the_name() {
    let admin = "
---
apiVersion: bulkhead.dev/v1alpha1
kind: ClusterSegmentPolicy
metadata: {name: never}
spec:
  tier: admin
  priority: 1
  subjects: {namespaces: {}}
  egress:
    - {name: block, action: deny, to: [{cidr: 203.0.113.0/24}]}
";
    let judge = Judge::new(program(TWO_RULES, admin)).expect("valid");
    assert!(!allowed(&judge, "203.0.113.7", &["api.card.example"], 443));
    assert!(allowed(&judge, "198.51.100.7", &["api.card.example"], 443));
}

#[test]
fn what_lies_inside_the_cluster_is_never_meant_by_name() {
    let judge = Judge::new(program(TWO_RULES, "")).expect("valid");
    // Pods, nodes whose addresses are of the Internet, and pods on a node's network.
    for inside in ["10.0.0.8", "10.0.0.7", "203.0.113.201", "2001:db8::201", "203.0.113.202"] {
        assert_eq!(action(&judge, inside, &["api.card.example"], L4Protocol::TCP, 443), None, "{inside}");
    }
    assert!(allowed(&judge, "203.0.113.200", &["api.card.example"], 443));
}

#[test]
fn a_section_beside_a_name_has_the_bytes_read() {
    let rule =
        "    - {name: card, to: [{fqdn: api.card.example}], ports: [443], tls: {sni: [api.card.example]}}\n";
    let judge = Judge::new(program(rule, "")).expect("valid");
    let found = action(&judge, "203.0.113.7", &["api.card.example"], L4Protocol::TCP, 443);
    assert!(matches!(found, Some(Action::Inspect { .. })), "{found:?}");
}

#[test]
fn a_program_without_names_has_no_classes_for_them() {
    let judge =
        Judge::new(program("    - {name: block, to: [{cidr: 203.0.113.0/24}]}\n", "")).expect("valid");
    assert!(
        !judge.has_names() && judge.program().egress.named.is_empty() && judge.program().names.is_empty()
    );
}

#[test]
fn many_rules_by_name_stay_within_the_limit_and_each_is_held() {
    let rules: String = (0..40)
        .map(|at| format!("    - {{name: r{at}, to: [{{fqdn: n{at}.example}}], ports: [{}]}}\n", 1000 + at))
        .collect();
    let program = program(&rules, "");
    let of_v4 = program.egress.named.iter().filter(|named| named.family == IpFamily::V4).count();
    assert!(of_v4 <= 64 * program.egress.boxes.len(), "{of_v4} classes");
    let judge = Judge::new(program).expect("valid");
    for at in 0..40u16 {
        assert!(allowed(&judge, "203.0.113.7", &[&format!("n{at}.example")], 1000 + at));
    }
    let all: Vec<String> = (0..40).map(|at| format!("n{at}.example")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert!(
        (1000..1040).any(|port| allowed(&judge, "203.0.113.7", &all, port)),
        "too many share it: some hold"
    );
}

#[test]
fn a_section_that_the_built_in_rule_makes_moot_is_warned_of() {
    let inventory = format!(
        "{INVENTORY}---\napiVersion: v1\nkind: Service\nmetadata: {{name: kube-dns, namespace: kube-system}}\nspec: {{clusterIP: \
         10.96.0.10, ports: [{{name: dns, port: 53, protocol: UDP}}]}}\n"
    );
    let warned = |infrastructure: &str, peer: &str| {
        let text = format!(
            "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: shop}}\nspec: {{covers: {{namespaces: {{}}}}, \
             default: deny{infrastructure}}}\n---\napiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: \
             web, namespace: shop}}\nspec:\n  workloads: {{app: web}}\n  egress:\n    - {{name: names, to: [{peer}], ports: \
             [udp/53], dns: [{{names: [a.example]}}]}}\n"
        );
        let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
        let (set, inventory) = sound(&[source("p.yaml", &text)], &[source("i.yaml", &inventory)]);
        let warnings = compiler(&set, &inventory).warnings();
        warnings.iter().any(|warning| warning.to_string().contains("decides nothing"))
    };
    assert!(warned("", "{entity: dns}"));
    assert!(!warned(", infrastructure: [probes]", "{entity: dns}"));
    assert!(!warned("", "{cidr: 203.0.113.53/32}"));
}

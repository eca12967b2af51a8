//! What policies mean, one sentence at a time. The random comparison with the reference is in [`crate::naive`].

use super::*;
use crate::decide::Judge;
use crate::diagnostics::Source;
use crate::documents::{load, load_inventory};
use crate::program::Action;
use bulkhead_facts::{Effect, HttpRequest, Reason, Request, UrlPath};

const CLUSTER: &str = r#"
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: ops}}
  - {apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
  - {apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 8080}], readinessProbe: {tcpSocket: {port: 8081}}}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: api-1, namespace: shop, labels: {app: api, track: old}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: api-2, namespace: shop, labels: {app: api, track: new}}, spec: {nodeName: n2, containers: [{name: c, ports: [{name: http, containerPort: 9090}]}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.3}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: ops, labels: {app: agent}}, spec: {nodeName: n2, hostNetwork: true, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 192.168.0.2}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}, spec: {nodeName: n2, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 10.0.1.53}]}}
  - {apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, spec: {clusterIPs: [10.96.0.1], ports: [{port: 80, targetPort: http}]}}
  - {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: api-x, namespace: shop, labels: {kubernetes.io/service-name: api}}, addressType: IPv4, ports: [{port: 8080}], endpoints: [{addresses: [10.0.0.2]}]}
  - {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: api-y, namespace: shop, labels: {kubernetes.io/service-name: api}}, addressType: IPv4, ports: [{port: 9090}], endpoints: [{addresses: [10.0.0.3]}]}
  - {apiVersion: v1, kind: Service, metadata: {name: tell, namespace: shop}, spec: {clusterIPs: [10.96.0.3], ports: [{port: 80, protocol: UDP, targetPort: 80}]}}
  - {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: tell-x, namespace: shop, labels: {kubernetes.io/service-name: tell}}, addressType: IPv4, ports: [{port: 80, protocol: UDP}], endpoints: [{addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}]}
  - {apiVersion: v1, kind: Service, metadata: {name: idle, namespace: shop}, spec: {clusterIPs: [10.96.0.2], ports: [{port: 80}]}}
  - {apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system}, spec: {clusterIPs: [10.96.0.10], ports: [{port: 53, protocol: UDP, targetPort: 53}]}}
  - {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: dns-x, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}, addressType: IPv4, ports: [{port: 53, protocol: UDP}], endpoints: [{addresses: [10.0.1.53]}]}
"#;

struct World {
    set: PolicySet,
    inventory: Inventory,
}

/// Policies in short: each text is one document without its first line.
fn world(documents: &[&str]) -> World {
    let sources: Vec<_> = documents
        .iter()
        .enumerate()
        .map(|(at, text)| Source { name: format!("{at}.yaml"), text: (*text).to_owned() })
        .collect();
    let loaded = load(&sources);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    let inventory =
        load_inventory(&[Source { name: "inventory.yaml".into(), text: CLUSTER.into() }]).unwrap();
    World { set: loaded.set, inventory }
}

fn segment(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

fn admin(spec: &str) -> String {
    format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: ClusterSegmentPolicy\nmetadata: {{name: admin}}\nspec: {spec}\n"
    )
}

fn collection(mode: &str, default: &str) -> String {
    format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: shop}}\nspec: {{covers: {{namespaces: {{name: \
         shop}}}}, owners: [], default: {default}, mode: {mode}}}\n"
    )
}

impl World {
    fn judge(&self, pod: &str) -> Judge {
        let compiler = Compiler::new(&self.set, &self.inventory).unwrap();
        let (namespace, name) = pod.split_once('/').unwrap_or(("shop", pod));
        let name = ObjectName { namespace: namespace.into(), name: name.into() };
        Judge::new(compiler.program(&name, 1).unwrap()).unwrap()
    }

    /// `enforced/shadow reason rule`, the shadow only where it differs.
    fn ask(&self, pod: &str, direction: Direction, peer: &str, port: &str) -> String {
        self.ask_http(pod, direction, peer, port, None)
    }

    fn ask_http(
        &self,
        pod: &str,
        direction: Direction,
        peer: &str,
        port: &str,
        path: Option<&str>,
    ) -> String {
        let judge = self.judge(pod);
        let (protocol, port) = port.split_once('/').unwrap_or(("tcp", port));
        let protocol = L4Protocol::parse(protocol).unwrap();
        let path = path.map(|path| UrlPath::parse(path).unwrap());
        let request = match &path {
            None => Request::Opaque,
            Some(path) => {
                Request::Http(HttpRequest { method: "GET", path, query: None, host: None, headers: &[] })
            }
        };
        let pair = judge.decide(direction, peer.parse().unwrap(), protocol, port.parse().unwrap(), &request);
        let shown = |answer: crate::program::Answer| {
            let rule = answer.rule.map(|rule| format!(" {}", judge.rule(rule).rule)).unwrap_or_default();
            format!("{} {}{rule}", answer.effect, answer.reason)
        };
        let [enforced, shadow] = [pair.enforced, pair.shadow].map(shown);
        if enforced == shadow { enforced } else { format!("{enforced} | {shadow}") }
    }

    fn warnings(&self) -> Vec<String> {
        let compiler = Compiler::new(&self.set, &self.inventory).unwrap();
        compiler.warnings().iter().map(ToString::to_string).collect()
    }
}

const IN: Direction = Direction::Ingress;
const OUT: Direction = Direction::Egress;

#[test]
fn without_policies_everything_is_open_as_in_kubernetes() {
    let world = world(&[]);
    assert_eq!(world.ask("web", IN, "203.0.113.1", "80"), "allow not_isolated");
    assert_eq!(world.ask("web", OUT, "10.96.0.2", "80"), "allow not_isolated");
    assert_eq!(world.judge("web").program().mode, Mode::Enforce);
}

#[test]
fn isolation_is_per_direction_and_allows_are_a_union() {
    let world = world(&[
        &segment(
            "a",
            "{workloads: {app: web}, ingress: [{name: one, from: [{workloads: {app: api}}], ports: [80]}]}",
        ),
        &segment("b", "{workloads: {app: web}, ingress: [{name: two, ports: [81]}]}"),
    ]);
    assert_eq!(world.ask("web", IN, "10.0.0.2", "80"), "allow allowed_by_rule one");
    assert_eq!(world.ask("web", IN, "203.0.113.1", "80"), "deny no_rule");
    assert_eq!(world.ask("web", IN, "203.0.113.1", "81"), "allow allowed_by_rule two");
    assert_eq!(world.ask("web", IN, "203.0.113.1", "udp/81"), "deny no_rule");
    assert_eq!(world.ask("web", OUT, "203.0.113.1", "80"), "allow not_isolated");
}

#[test]
fn the_own_node_always_reaches_a_pod_as_kubernetes_grants_and_no_other_node_does() {
    let closed = segment("closed", "{ingress: [], egress: []}");
    let world = world(&[&closed]);
    assert_eq!(world.ask("web", IN, "192.168.0.1", "22"), "allow allowed_by_rule own-node");
    assert_eq!(world.ask("web", OUT, "192.168.0.1", "22"), "allow allowed_by_rule own-node");
    assert_eq!(world.ask("web", IN, "192.168.0.2", "22"), "deny no_rule");
}

#[test]
fn under_default_deny_only_probes_and_the_resolver_are_built_in() {
    let world = world(&[&collection("enforce", "deny")]);
    assert_eq!(world.ask("web", IN, "192.168.0.1", "8081"), "allow allowed_by_rule probes");
    assert_eq!(world.ask("web", IN, "192.168.0.1", "8080"), "deny no_rule");
    assert_eq!(world.ask("web", IN, "192.168.0.2", "8081"), "deny no_rule");
    assert_eq!(world.ask("web", OUT, "10.96.0.10", "udp/53"), "allow allowed_by_rule resolver");
    assert_eq!(world.ask("web", OUT, "10.0.1.53", "53"), "allow allowed_by_rule resolver");
    assert_eq!(world.ask("web", OUT, "10.0.1.53", "54"), "deny no_rule");
    assert_eq!(world.ask("web", OUT, "203.0.113.1", "53"), "deny no_rule");
}

#[test]
fn the_admin_tier_is_asked_first_and_a_pass_leaves_it() {
    let admin = admin(
        "{tier: admin, priority: 1, subjects: {namespaces: {}}, ingress: [{name: pass, action: pass, from: [{cidr: 10.0.0.2/32}]}, \
         {name: closed, action: deny, from: [{cidr: 10.0.0.0/24}]}, {name: opened, action: allow, from: [{cidr: 203.0.113.1/32}]}]}",
    );
    let world = world(&[
        &admin,
        &segment("a", "{workloads: {app: web}, ingress: [{name: api, from: [{workloads: {app: api}}]}]}"),
    ]);
    assert_eq!(world.ask("web", IN, "10.0.0.2", "80"), "allow allowed_by_rule api");
    assert_eq!(world.ask("web", IN, "10.0.0.3", "80"), "deny denied_by_rule closed");
    assert_eq!(world.ask("web", IN, "203.0.113.1", "80"), "allow allowed_by_rule opened");
    assert_eq!(world.ask("web", IN, "203.0.113.2", "80"), "deny no_rule");
}

#[test]
fn baseline_rules_hold_only_where_nothing_isolates() {
    let baseline = admin(
        "{tier: baseline, priority: 1, subjects: {namespaces: {}}, ingress: [{name: closed, action: deny, from: [{cidr: 0.0.0.0/0}]}]}",
    );
    let world =
        world(&[&baseline, &segment("a", "{workloads: {app: web}, ingress: [{name: all, ports: [80]}]}")]);
    assert_eq!(world.ask("web", IN, "10.0.0.2", "80"), "allow allowed_by_rule all");
    assert_eq!(world.ask("web", IN, "10.0.0.2", "81"), "deny no_rule");
    assert_eq!(world.ask("api-1", IN, "10.0.0.1", "80"), "deny denied_by_rule closed");
}

#[test]
fn audit_on_a_collection_reports_what_enforce_would_deny() {
    let policy = segment("a", "{workloads: {app: web}, ingress: [{name: one, ports: [80]}]}");
    let audit = world(&[&collection("audit", "deny"), &policy]);
    assert_eq!(audit.ask("web", IN, "203.0.113.1", "80"), "allow not_isolated | allow allowed_by_rule one");
    assert_eq!(audit.ask("web", IN, "203.0.113.1", "81"), "allow not_isolated | deny no_rule");
    let enforce = world(&[&collection("enforce", "deny"), &policy]);
    assert_eq!(enforce.ask("web", IN, "203.0.113.1", "81"), "deny no_rule");
}

#[test]
fn audit_and_audit_removal_of_one_policy_keep_the_default() {
    let enforced = segment("a", "{workloads: {app: web}, ingress: [{name: one, ports: [80]}]}");
    let audited = segment("b", "{workloads: {app: web}, mode: audit, ingress: [{name: two, ports: [81]}]}");
    let world_audit = world(&[&collection("enforce", "deny"), &enforced, &audited]);
    assert_eq!(world_audit.ask("web", IN, "203.0.113.1", "81"), "deny no_rule | allow allowed_by_rule two");
    let leaving =
        segment("a", "{workloads: {app: web}, mode: audit-removal, ingress: [{name: one, ports: [80]}]}");
    let world_removal = world(&[&leaving]);
    assert_eq!(
        world_removal.ask("web", IN, "203.0.113.1", "80"),
        "allow allowed_by_rule one | allow not_isolated"
    );
    assert_eq!(world_removal.ask("web", IN, "203.0.113.1", "81"), "deny no_rule | allow not_isolated");
}

#[test]
fn observe_denies_nothing_of_the_namespace_tier_and_learns_what_it_can() {
    let no_metadata = admin(
        "{tier: admin, priority: 1, subjects: {namespaces: {}}, egress: [{name: metadata, action: deny, to: [{entity: metadata}]}]}",
    );
    let policy =
        segment("a", "{workloads: {app: web}, ingress: [{name: one, ports: [80], http: [{path: /a}]}]}");
    let world = world(&[&collection("observe", "deny"), &no_metadata, &policy]);
    assert_eq!(world.ask("web", IN, "203.0.113.1", "81"), "allow not_isolated | deny no_rule");
    assert_eq!(world.ask("web", OUT, "169.254.169.254", "80"), "deny denied_by_rule metadata");
    let judge = world.judge("web");
    let action = |direction, peer: &str, protocol, port| {
        judge.action(direction, peer.parse().unwrap(), protocol, port)
    };
    assert!(matches!(action(IN, "203.0.113.1", L4Protocol::TCP, 81), Action::Learn(_)));
    assert!(matches!(action(IN, "203.0.113.1", L4Protocol::UDP, 81), Action::Answer(_)));
    assert!(matches!(action(OUT, "203.0.113.1", L4Protocol::TCP, 81), Action::Learn(_)));
    for server in ["203.0.113.1", "10.0.0.2", "10.96.0.1"] {
        let learned =
            |direction, port| matches!(action(direction, server, L4Protocol::UDP, port), Action::Learn(_));
        assert!(learned(OUT, 53), "questions are learned where they are asked: {server}");
        assert!(!learned(OUT, 52) && !learned(OUT, 54) && !learned(IN, 53), "{server}");
    }
    assert!(matches!(action(OUT, "10.0.0.2", L4Protocol::TCP, 81), Action::Answer(_)), "its own side learns");
    assert!(
        matches!(action(OUT, "10.96.0.1", L4Protocol::TCP, 80), Action::Answer(_)),
        "so does that of a Service's pods"
    );
    assert!(matches!(action(OUT, "169.254.169.254", L4Protocol::TCP, 80), Action::Answer(_)));
    // The shadow answer needs the bytes; without a sidecar the flow passes all the same.
    let Action::Inspect { chain, opaque } = action(IN, "203.0.113.1", L4Protocol::TCP, 80) else { panic!() };
    assert!(judge.only_learns(chain, opaque));
    let ask = |path| world.ask_http("web", IN, "203.0.113.1", "80", Some(path));
    assert_eq!(ask("/a"), "allow not_isolated | allow allowed_by_rule one");
    assert_eq!(ask("/b"), "allow not_isolated | deny l7_mismatch one");
}

#[test]
fn an_http_section_narrows_an_allow_and_is_moot_beside_a_plain_one() {
    let narrow =
        segment("a", "{workloads: {app: web}, ingress: [{name: one, ports: [80], http: [{path: /a}]}]}");
    let plain = segment(
        "b",
        "{workloads: {app: web}, ingress: [{name: two, from: [{workloads: {app: api}}], ports: [80]}]}",
    );
    let world = world(&[&narrow, &plain]);
    let ask = |peer, path| world.ask_http("web", IN, peer, "80", path);
    assert_eq!(ask("203.0.113.1", Some("/a")), "allow allowed_by_rule one");
    assert_eq!(ask("203.0.113.1", Some("/b")), "deny l7_mismatch one");
    assert_eq!(ask("203.0.113.1", None), "deny protocol_mismatch one");
    assert_eq!(ask("10.0.0.2", Some("/b")), "allow allowed_by_rule two");
}

#[test]
fn an_http_section_narrows_a_deny_and_unreadable_bytes_match_it() {
    let deny = admin(
        "{tier: admin, priority: 1, subjects: {namespaces: {}}, ingress: [{name: no-admin, action: deny, from: [{cidr: 0.0.0.0/0}], \
         ports: [80], http: [{path: \"/admin/**\"}]}]}",
    );
    let world = world(&[&deny]);
    let ask = |path| world.ask_http("web", IN, "203.0.113.1", "80", path);
    assert_eq!(ask(Some("/admin/x")), "deny denied_by_rule no-admin");
    assert_eq!(ask(Some("//admin/x")), "deny denied_by_rule no-admin");
    assert_eq!(ask(Some("/a/../admin/x")), "deny denied_by_rule no-admin");
    assert_eq!(ask(Some("/other")), "allow not_isolated");
    assert_eq!(ask(None), "deny denied_by_rule no-admin");
}

#[test]
fn named_ports_are_those_of_each_destination() {
    let world = world(&[&segment(
        "a",
        "{workloads: {app: web}, egress: [{name: api, to: [{workloads: {app: api}}], ports: [http]}]}",
    )]);
    assert_eq!(world.ask("web", OUT, "10.0.0.2", "8080"), "allow allowed_by_rule api");
    assert_eq!(world.ask("web", OUT, "10.0.0.2", "9090"), "deny no_rule");
    assert_eq!(world.ask("web", OUT, "10.0.0.3", "9090"), "allow allowed_by_rule api");
    assert_eq!(world.ask("web", OUT, "10.0.0.3", "8080"), "deny no_rule");
    assert_eq!(
        world.ask("web", OUT, "10.96.0.1", "80"),
        "allow allowed_by_rule api",
        "each endpoint on its own port"
    );
}

/// Address, port and answer of each endpoint that a port of a Service is led to.
fn led(world: &World, address: &str, port: u16) -> Vec<String> {
    let judge = world.judge("web");
    let action = judge.action(OUT, address.parse().unwrap(), L4Protocol::TCP, port);
    let Action::Choose { choice, otherwise } = action else { return vec![format!("{action:?}")] };
    assert_eq!(judge.answer(otherwise).enforced.reason, Reason::EndpointsDiffer);
    let shown = |endpoint: &crate::program::Endpoint| {
        let (rule, reads) = match endpoint.action {
            Action::Answer(id) | Action::Learn(id) => (judge.answer(id).enforced.rule, ""),
            Action::Inspect { opaque, .. } => (judge.answer(opaque).enforced.rule, " read"),
            Action::Choose { .. } => panic!("a choice within a choice"),
        };
        let rule = rule.map_or("-", |rule| judge.rule(rule).rule.as_str());
        format!("{}:{} {rule}{reads}", endpoint.address, endpoint.port)
    };
    judge.choice(choice).iter().map(shown).collect()
}

#[test]
fn a_service_of_which_some_endpoints_are_allowed_is_led_to_those() {
    let some =
        segment("a", "{workloads: {app: web}, egress: [{name: old, to: [{workloads: {track: old}}]}]}");
    let partly = world(&[&some]);
    assert_eq!(partly.ask("web", OUT, "10.96.0.1", "80"), "allow allowed_by_rule old");
    assert_eq!(led(&partly, "10.96.0.1", 80), ["10.0.0.2:8080 old"]);
    let tcp = "`shop/web` may reach only some endpoints of service `shop/api` on tcp/80, so each connection is led to one that may be \
               reached, whatever session affinity and topology hints say: allow all of its endpoints or none";
    let udp = "`shop/web` may reach only some endpoints of service `shop/tell` on udp/80, so the service is denied: allow all of its \
               endpoints or none";
    assert_eq!(partly.warnings(), [tcp, udp]);
    let by_name =
        world(&[&segment("a", "{workloads: {app: web}, egress: [{name: api, to: [{service: shop/api}]}]}")]);
    assert_eq!(led(&by_name, "10.96.0.1", 80).len(), 1, "whole: nothing to choose");
    assert_eq!(by_name.ask("web", OUT, "10.96.0.1", "80"), "allow allowed_by_rule api");
    assert_eq!(by_name.warnings(), [""; 0]);
}

#[test]
fn datagrams_to_a_service_of_which_some_endpoints_are_allowed_are_denied_in_so_many_words() {
    let some =
        segment("a", "{workloads: {app: web}, egress: [{name: old, to: [{workloads: {track: old}}]}]}");
    let all = segment("b", "{workloads: {app: web}, egress: [{name: api, to: [{workloads: {app: api}}]}]}");
    assert_eq!(world(&[&some]).ask("web", OUT, "10.96.0.3", "udp/80"), "deny endpoints_differ");
    assert_eq!(world(&[&all]).ask("web", OUT, "10.96.0.3", "udp/80"), "allow allowed_by_rule api");
}

#[test]
fn a_deny_at_one_endpoint_or_at_the_service_itself_counts_on_the_way_by_the_service() {
    let all = segment("a", "{workloads: {app: web}, egress: [{name: api, to: [{workloads: {app: api}}]}]}");
    let deny = |peer: &str| {
        admin(&format!(
            "{{tier: admin, priority: 1, subjects: {{namespaces: {{name: shop}}}}, egress: [{{name: shut, action: deny, to: [{peer}]}}]}}"
        ))
    };
    let one = world(&[&all, &deny("{cidr: 10.0.0.2/32}")]);
    assert_eq!(led(&one, "10.96.0.1", 80), ["10.0.0.3:9090 api"]);
    assert_eq!(one.ask("web", OUT, "10.96.0.3", "udp/80"), "deny endpoints_differ shut");
    let service = world(&[&all, &deny("{cidr: 10.96.0.1/32}")]);
    assert_eq!(service.ask("web", OUT, "10.96.0.1", "80"), "deny denied_by_rule shut");
    assert_eq!(service.ask("web", OUT, "10.0.0.2", "8080"), "allow allowed_by_rule api");
}

#[test]
fn audit_says_where_enforce_would_lead_to_and_denies_nothing() {
    let some =
        segment("a", "{workloads: {app: web}, egress: [{name: old, to: [{workloads: {track: old}}]}]}");
    for mode in ["audit", "observe"] {
        let world = world(&[&some, &collection(mode, "deny")]);
        let answer = world.ask("web", OUT, "10.96.0.1", "80");
        assert!(answer.ends_with("| allow endpoints_differ old"), "{mode}: {answer}");
        assert!(led(&world, "10.96.0.1", 80)[0].contains("AnswerId"), "{mode}: the network picks");
    }
}

#[test]
fn no_more_endpoints_are_chosen_from_than_the_limit() {
    let mut world = world(&[&segment(
        "a",
        "{workloads: {app: web}, egress: [{name: block, to: [{cidr: 10.7.0.0/16}]}]}",
    )]);
    let api = ObjectName { namespace: "shop".into(), name: "api".into() };
    let limit = u16::try_from(crate::limits::ENDPOINTS_PER_CHOICE_MAX).unwrap();
    let port = &mut world.inventory.services.get_mut(&api).unwrap().ports[0];
    port.endpoints.extend((0..=limit).rev().map(|n| {
        let [high, low] = n.to_be_bytes();
        (IpAddr::from([10, 7, high, low]), 80)
    }));
    let found = led(&world, "10.96.0.1", 80);
    assert_eq!((found.len(), found[0].as_str()), (usize::from(limit), "10.7.0.0:80 block"));
}

#[test]
fn a_service_without_ready_endpoint_is_a_denial_of_its_own() {
    let world =
        world(&[&segment("a", "{workloads: {app: web}, egress: [{name: all, to: [{cidr: 10.0.0.0/8}]}]}")]);
    assert_eq!(world.ask("web", OUT, "10.96.0.2", "80"), "deny no_endpoint");
    assert_eq!(world.ask("web", OUT, "10.96.0.1", "80"), "allow allowed_by_rule all");
}

#[test]
fn endpoints_that_are_inspected_by_different_rules_are_judged_by_those_of_the_one_that_is_reached() {
    let policy = segment(
        "a",
        "{workloads: {app: web}, egress: [{name: old, to: [{workloads: {track: old}}], http: [{path: /a}]}, {name: new, to: [{workloads: \
         {track: new}}], http: [{path: /b}]}]}",
    );
    let world = world(&[&policy]);
    assert_eq!(led(&world, "10.96.0.1", 80), ["10.0.0.2:8080 old read", "10.0.0.3:9090 new read"]);
    // What does not pass everywhere may be denied.
    assert_eq!(world.ask_http("web", OUT, "10.96.0.1", "80", Some("/a")), "deny l7_mismatch new");
    assert_eq!(world.ask_http("web", OUT, "10.0.0.2", "8080", Some("/a")), "allow allowed_by_rule old");
    let udp = world.ask("web", OUT, "10.96.0.3", "udp/80");
    assert_eq!((udp.as_str(), world.warnings().len()), ("deny no_rule", 1));
}

#[test]
fn the_own_service_is_judged_as_any_other() {
    let policy =
        segment("a", "{workloads: {app: api}, egress: [{name: web, to: [{workloads: {app: web}}]}]}");
    let world = world(&[&policy]);
    assert_eq!(world.ask("api-1", OUT, "10.96.0.1", "80"), "deny no_rule");
}

#[test]
fn pods_in_the_nodes_network_are_their_node_and_have_no_program() {
    let policy =
        segment("a", "{workloads: {app: web}, ingress: [{name: ops, from: [{namespaces: {name: ops}}]}]}");
    let world = world(&[&policy]);
    assert_eq!(world.ask("web", IN, "192.168.0.2", "80"), "deny no_rule");
    let compiler = Compiler::new(&world.set, &world.inventory).unwrap();
    let agent = ObjectName { namespace: "ops".into(), name: "agent".into() };
    assert_eq!(compiler.program(&agent, 1), None);
}

#[test]
fn a_workload_in_two_collections_is_an_error() {
    let second = collection("observe", "deny").replace("name: shop}\nspec", "name: again}\nspec");
    let world = world(&[&collection("enforce", "deny"), &second]);
    let errors = Compiler::new(&world.set, &world.inventory).err().unwrap();
    assert_eq!(errors.len(), 3, "one for each pod of the namespace");
    assert_eq!(
        errors[0].to_string(),
        "pod `shop/api-1` is covered by collections `again` and `shop`: narrow one of their `covers`"
    );
}

#[test]
fn world_is_nobody_of_the_cluster_and_no_metadata_address() {
    let world =
        world(&[&segment("a", "{workloads: {app: web}, egress: [{name: out, to: [{entity: world}]}]}")]);
    assert_eq!(world.ask("web", OUT, "203.0.113.1", "80"), "allow allowed_by_rule out");
    for inside in ["10.0.0.2", "192.168.0.2", "169.254.169.254"] {
        assert_eq!(world.ask("web", OUT, inside, "80"), "deny no_rule", "{inside}");
    }
}

#[test]
fn an_address_that_two_pods_hold_counts_for_an_allow_only_if_both_match() {
    let mut world = world(&[&segment(
        "a",
        "{workloads: {app: web}, ingress: [{name: old, from: [{workloads: {track: old}}]}]}",
    )]);
    assert_eq!(world.ask("web", IN, "10.0.0.2", "80"), "allow allowed_by_rule old");
    let other = ObjectName { namespace: "shop".into(), name: "api-2".into() };
    world.inventory.pods.get_mut(&other).unwrap().addresses = vec!["10.0.0.2".parse().unwrap()];
    assert_eq!(world.ask("web", IN, "10.0.0.2", "80"), "deny no_rule");
    assert_eq!(world.warnings(), ["address 10.0.0.2 is held by several pods: `shop/api-1`, `shop/api-2`"]);
}

#[test]
fn replicas_that_share_everything_share_a_program() {
    let mut world = world(&[&segment("a", "{workloads: {app: web}, ingress: []}")]);
    for replica in 2..5 {
        let (name, mut pod) = world
            .inventory
            .pods
            .iter()
            .find(|(name, _)| name.name == "web")
            .map(|(n, p)| (n.clone(), p.clone()))
            .unwrap();
        pod.addresses = vec![format!("10.0.9.{replica}").parse().unwrap()];
        let name = ObjectName { name: format!("{}-{replica}", name.name), ..name };
        world.inventory.pods.insert(name, pod);
    }
    let groups = Compiler::new(&world.set, &world.inventory).unwrap().programs(1).unwrap();
    assert!(groups.iter().any(|group| group.pods.len() == 4));
}

#[test]
fn a_canary_enforces_for_its_share_of_pods_and_audits_the_others() {
    let mut world = world(&[
        &segment("a", "{workloads: {app: web}, ingress: [{name: one, from: [{workloads: {app: api}}]}]}"),
        &collection("enforce", "deny"),
    ]);
    let web = ObjectName { namespace: "shop".into(), name: "web".into() };
    let pod = world.inventory.pods[&web].clone();
    for replica in 0..40u8 {
        let name = ObjectName { name: format!("web-{replica}"), ..web.clone() };
        let addresses = vec![std::net::Ipv4Addr::new(10, 0, 9, replica).into()];
        world
            .inventory
            .pods
            .insert(name, crate::inventory::Pod { uid: format!("uid-{replica}"), addresses, ..pod.clone() });
    }
    let replicas = |world: &World, percent| {
        let mut set = world.set.clone();
        set.collections[0].canary = crate::model::Share::percent(percent).unwrap();
        let groups = Compiler::new(&set, &world.inventory).unwrap().programs(1).unwrap();
        let mut modes: Vec<(String, Mode)> = Vec::new();
        for group in groups.iter().filter(|group| group.pods[0].name.starts_with("web")) {
            modes.extend(group.pods.iter().map(|pod| (pod.name.clone(), group.program.mode)));
            let judge = Judge::new(group.program.clone()).unwrap();
            let (peer, tcp) = ("10.9.9.9".parse().unwrap(), L4Protocol::TCP);
            let pair = judge.decide(Direction::Ingress, peer, tcp, 80, &Request::Opaque);
            let enforced = if group.program.mode == Mode::Enforce { Effect::Deny } else { Effect::Allow };
            assert_eq!((pair.enforced.effect, pair.shadow.effect), (enforced, Effect::Deny));
        }
        modes.retain(|(_, mode)| *mode == Mode::Enforce);
        modes.into_iter().map(|(name, _)| name).collect::<std::collections::BTreeSet<_>>()
    };
    let (few, more) = (replicas(&world, 10), replicas(&world, 50));
    assert!((1..12).contains(&few.len()) && (12..30).contains(&more.len()), "{few:?} {more:?}");
    assert!(few.is_subset(&more) && replicas(&world, 100).len() == 41);
    world.inventory.pods.retain(|name, _| name.name != "web-39");
    let fewer = replicas(&world, 50);
    assert!(more.iter().all(|name| name == "web-39" || fewer.contains(name)), "one less flips no other");
}

#[test]
fn ten_thousand_peers_fit_one_program() {
    let mut world = world(&[&segment(
        "a",
        "{workloads: {app: web}, ingress: [{name: one, from: [{workloads: {app: api}}], ports: [80]}]}",
    )]);
    let (_, api) = world
        .inventory
        .pods
        .iter()
        .find(|(name, _)| name.name == "api-1")
        .map(|(n, p)| (n.clone(), p.clone()))
        .unwrap();
    for peer in 0..10_000u32 {
        // Every second address, so that no two join to one span.
        let address = std::net::Ipv4Addr::from(0x0a40_0000 + peer * 2);
        let pod = crate::inventory::Pod { addresses: vec![address.into()], ..api.clone() };
        world
            .inventory
            .pods
            .insert(ObjectName { namespace: "shop".into(), name: format!("peer-{peer}") }, pod);
    }
    let judge = world.judge("web");
    let tables = &judge.program().ingress;
    assert_eq!(
        (tables.v4.len(), tables.boxes.len()),
        (10_000 + 2, 2),
        "the two that were there touch; one class of peers, one of the own node"
    );
    assert_eq!(world.ask("web", IN, "10.64.0.2", "80"), "allow allowed_by_rule one");
    assert_eq!(world.ask("web", IN, "10.64.0.3", "80"), "deny no_rule");
}

#[test]
fn reasons_of_denials_name_a_rule_only_where_one_denied() {
    let world = world(&[&segment("a", "{workloads: {app: web}, ingress: [{name: one, ports: [80]}]}")]);
    let judge = world.judge("web");
    let pair = judge.answer(crate::program::AnswerId(0));
    assert_eq!(
        (pair.enforced.effect, pair.enforced.reason, pair.enforced.rule),
        (Effect::Deny, Reason::NoRule, None)
    );
}

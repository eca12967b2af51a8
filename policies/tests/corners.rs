//! The corners of NetworkPolicy, numbered, and the tiers of ClusterNetworkPolicy: what each means to Kubernetes is what it
//! means here.
//!
//! Corners that concern packets and processes and not verdicts (connections that are open, a pod's first instruction) are held
//! where those are; here stands what the verdict has to be for it.

use bulkhead_facts::{Direction, Effect, L4Protocol, Request};
use bulkhead_policies::compile::{Compiler, METADATA};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::{Inventory, ObjectName};
use bulkhead_policies::model::PolicySet;

const CLUSTER: &str = r#"
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {team: x}}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: y, labels: {team: y}}}
  - {apiVersion: v1, kind: Node, metadata: {name: n1, labels: {zone: a}}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
  - {apiVersion: v1, kind: Node, metadata: {name: n2, labels: {zone: b}}, status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {app: a}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: web, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x, labels: {app: b}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: web, containerPort: 81}]}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: c, namespace: y, labels: {app: a}}, spec: {nodeName: n2, containers: [{name: c, ports: [{name: web, containerPort: 80, protocol: UDP}]}]}, status: {phase: Running, podIPs: [{ip: 10.0.1.1}, {ip: "fd00::11"}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: bare, namespace: y}, spec: {nodeName: n2, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 10.0.1.2}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: host, namespace: y, labels: {app: a}}, spec: {nodeName: n2, hostNetwork: true, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 192.168.0.2}]}}
  - {apiVersion: v1, kind: Service, metadata: {name: b, namespace: x}, spec: {clusterIPs: [10.96.0.1], ports: [{port: 8080, targetPort: 81}]}}
  - {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: b-1, namespace: x, labels: {kubernetes.io/service-name: b}}, addressType: IPv4, ports: [{port: 81}], endpoints: [{addresses: [10.0.0.2]}]}
"#;

struct World {
    set: PolicySet,
    inventory: Inventory,
}

fn world(policies: &[String]) -> World {
    let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
    let loaded = load(&[source("policies.yaml", &policies.join("---\n"))]);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    let inventory = load_inventory(&[source("cluster.yaml", CLUSTER)]).expect("a sound inventory");
    World { set: loaded.set, inventory }
}

/// A NetworkPolicy in namespace `x`.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: x}}\nspec: {spec}\n"
    )
}

fn one(spec: &str) -> World {
    world(&[policy("p", spec)])
}

/// A ClusterNetworkPolicy for all pods.
fn cluster(name: &str, tier: &str, priority: u32, rules: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: \
         {tier}, priority: {priority}, subject: {{namespaces: {{}}}}, {rules}}}\n"
    )
}

impl World {
    fn ask(&self, pod: &str, direction: Direction, peer: &str, port: &str) -> bool {
        let (namespace, name) = pod.split_once('/').unwrap_or(("x", pod));
        let pod = ObjectName { namespace: namespace.into(), name: name.into() };
        let compiler = Compiler::new(&self.set, &self.inventory).expect("a sound set");
        let Some(program) = compiler.program(&pod, 1) else { return true };
        let judge = Judge::new(program).expect("a valid program");
        let (protocol, port) = port.split_once('/').unwrap_or(("tcp", port));
        let protocol = L4Protocol::parse(protocol).expect("a protocol");
        let (peer, port) = (peer.parse().expect("an address"), port.parse().expect("a port"));
        judge.decide(direction, peer, protocol, port, &Request::Opaque).enforced.effect == Effect::Allow
    }

    /// True if pod `a` takes it.
    fn takes(&self, peer: &str, port: &str) -> bool {
        self.ask("a", Direction::Ingress, peer, port)
    }

    /// True if pod `a` may open it.
    fn opens(&self, peer: &str, port: &str) -> bool {
        self.ask("a", Direction::Egress, peer, port)
    }
}

const B: &str = "10.0.0.2";
const C: &str = "10.0.1.1";
const BARE: &str = "10.0.1.2";
const OUTSIDE: &str = "203.0.113.7";

#[test]
fn corner_01_isolation_is_per_direction() {
    let w = one("{podSelector: {}, policyTypes: [Ingress]}");
    assert!(!w.takes(B, "80") && w.opens(B, "80"));
    let w = one("{podSelector: {}, policyTypes: [Egress]}");
    assert!(w.takes(B, "80") && !w.opens(B, "80"));
    assert!(world(&[]).takes(OUTSIDE, "80") && world(&[]).opens(OUTSIDE, "udp/53"));
}

#[test]
fn corner_02_policy_types_default_to_ingress_and_to_egress_where_rules_are_written() {
    let w = one("{podSelector: {}}");
    assert!(!w.takes(B, "80") && w.opens(B, "80"));
    let w = one("{podSelector: {}, egress: []}");
    assert!(!w.takes(B, "80") && w.opens(B, "80"), "an empty list names no rule");
    let w = one("{podSelector: {}, egress: [{ports: [{port: 80}]}]}");
    assert!(!w.takes(B, "80") && w.opens(B, "80") && !w.opens(B, "81"));
}

#[test]
fn corner_03_allows_are_a_union_in_any_order() {
    let rules = ["80", "81"].map(|port| {
        policy(
            &format!("p{port}"),
            &format!("{{podSelector: {{}}, ingress: [{{ports: [{{port: {port}}}]}}]}}"),
        )
    });
    for policies in [[0, 1], [1, 0]] {
        let w = world(&policies.map(|at| rules[at].clone()));
        assert!(w.takes(B, "80") && w.takes(B, "81") && !w.takes(B, "82"));
    }
}

#[test]
fn corner_04_both_ends_have_to_allow() {
    let w = one("{podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress]}");
    assert!(w.opens(B, "80") && !w.ask("b", Direction::Ingress, "10.0.0.1", "80"), "one end is not enough");
}

#[test]
fn corner_05_an_empty_pod_selector_is_every_pod_of_the_namespace() {
    let w = one("{podSelector: {}, policyTypes: [Ingress]}");
    assert!(!w.takes(C, "80") && !w.ask("b", Direction::Ingress, C, "80"));
    assert!(w.ask("y/c", Direction::Ingress, B, "80"), "and of no other");
}

#[test]
fn corner_06_no_rule_denies_all_and_an_empty_rule_allows_all() {
    for none in ["ingress: []", "ingress: null"] {
        assert!(!one(&format!("{{podSelector: {{}}, policyTypes: [Ingress], {none}}}")).takes(B, "80"));
    }
    let w = one("{podSelector: {}, ingress: [{}]}");
    assert!(w.takes(OUTSIDE, "sctp/7") && w.takes(OUTSIDE, "icmp/8"));
}

#[test]
fn corner_07_an_empty_list_of_peers_is_everybody() {
    for from in ["from: []", "from: null", "ports: []"] {
        let w = one(&format!("{{podSelector: {{}}, ingress: [{{{from}}}]}}"));
        assert!(w.takes(OUTSIDE, "80") && w.takes(BARE, "80"), "{from}");
    }
}

#[test]
fn corner_08_an_empty_list_of_ports_is_every_port_of_every_protocol() {
    let w = one("{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: []}]}");
    assert!(w.takes(B, "80") && w.takes(B, "udp/1") && w.takes(B, "sctp/1") && !w.takes(C, "80"));
}

#[test]
fn corner_09_a_pod_selector_alone_stays_in_the_policys_namespace() {
    let w = one("{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}");
    assert!(w.takes(B, "80") && !w.takes(C, "80"));
}

#[test]
fn corner_10_a_namespace_selector_alone_is_all_pods_of_them_and_nobody_outside() {
    let w = one("{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}");
    assert!(w.takes(B, "80") && w.takes(C, "80") && w.takes(BARE, "80") && !w.takes(OUTSIDE, "80"));
}

#[test]
fn corner_11_selectors_in_one_item_hold_together_and_items_are_alternatives() {
    let both = one(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {app: a}}}]}]}",
    );
    assert!(both.takes(C, "80") && !both.takes(BARE, "80") && !both.takes(B, "80"));
    let either = one(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}}, {podSelector: {matchLabels: {app: b}}}]}]}",
    );
    assert!(either.takes(C, "80") && either.takes(BARE, "80") && either.takes(B, "80"));
}

#[test]
fn corner_12_not_in_and_does_not_exist_hold_without_the_key() {
    let w = one(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [a]}]}}]}]}",
    );
    assert!(w.takes(B, "80") && w.takes(BARE, "80") && !w.takes(C, "80"));
    let w = one(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}]}]}",
    );
    assert!(w.takes(BARE, "80") && !w.takes(B, "80"));
}

#[test]
fn corner_13_an_exception_counts_within_its_own_block_only() {
    let hole = "{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.0.0/24]}}";
    let w = one(&format!("{{podSelector: {{}}, ingress: [{{from: [{hole}]}}]}}"));
    assert!(w.takes(C, "80") && !w.takes(B, "80"));
    let w = one(&format!(
        "{{podSelector: {{}}, ingress: [{{from: [{hole}, {{ipBlock: {{cidr: 10.0.0.2/32}}}}]}}]}}"
    ));
    assert!(w.takes(B, "80"), "another item allows it again");
}

#[test]
fn corner_14_a_block_matches_pods_by_their_address() {
    let w = one("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.2/32}}]}]}");
    assert!(w.takes(B, "80") && !w.takes(C, "80"));
}

#[test]
fn corner_15_a_service_address_is_judged_as_the_pods_behind_it() {
    let w = one("{podSelector: {}, egress: [{to: [{podSelector: {matchLabels: {app: b}}}]}]}");
    assert!(w.opens("10.96.0.1", "8080"), "the pods are named, so the way over the Service is open");
    let w = one("{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.96.0.0/16}}]}]}");
    assert!(!w.opens("10.96.0.1", "8080"), "an address that is rewritten on the way names nobody behind it");
}

#[test]
fn corner_16_a_port_is_the_targets_own() {
    let w = one("{podSelector: {}, egress: [{ports: [{port: 81}]}]}");
    assert!(w.opens("10.96.0.1", "8080") && w.opens(B, "81") && !w.opens(B, "8080"));
    let w = one("{podSelector: {}, egress: [{ports: [{port: 8080}]}]}");
    assert!(!w.opens("10.96.0.1", "8080"));
}

#[test]
fn corner_17_a_named_port_is_each_destinations_own_number_and_protocol() {
    let w = one("{podSelector: {}, ingress: [{ports: [{port: web}]}], egress: [{ports: [{port: web}]}]}");
    assert!(w.takes(B, "80") && !w.takes(B, "81"));
    assert!(w.opens(B, "81") && !w.opens(B, "80"), "at b it is 81");
    assert!(!w.opens(C, "80") && !w.opens(C, "udp/80"), "at c it is UDP: not the TCP port that is named");
    assert!(!w.opens(BARE, "80"), "where no port has the name, nothing matches");
}

#[test]
fn corner_18_a_protocol_that_is_not_named_is_tcp_and_a_port_that_is_not_is_all() {
    let w = one("{podSelector: {}, ingress: [{ports: [{port: 80}]}]}");
    assert!(w.takes(B, "80") && !w.takes(B, "udp/80"));
    let w = one("{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}");
    assert!(w.takes(B, "udp/1") && w.takes(B, "udp/65535") && !w.takes(B, "80"));
}

#[test]
fn corner_19_an_end_port_closes_a_numeric_range() {
    let w = one("{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 82}, {port: 90, endPort: 90}]}]}");
    assert_eq!(
        ["79", "80", "82", "83", "90", "91"].map(|port| w.takes(B, port)),
        [false, true, true, false, true, false]
    );
    for refused in ["{port: 80, endPort: 79}", "{port: web, endPort: 80}", "{endPort: 80}"] {
        let text = policy("p", &format!("{{podSelector: {{}}, ingress: [{{ports: [{refused}]}}]}}"));
        assert!(load(&[Source { name: "p".into(), text }]).has_errors(), "{refused}");
    }
}

#[test]
fn corner_20_a_rule_for_sctp_lets_no_tcp_through_and_isolates() {
    let w = one("{podSelector: {}, ingress: [{ports: [{protocol: SCTP, port: 80}]}]}");
    assert!(w.takes(B, "sctp/80") && !w.takes(B, "80") && !w.takes(B, "udp/80"));
}

#[test]
fn corner_21_what_denies_all_denies_every_protocol() {
    let w = one("{podSelector: {}, policyTypes: [Ingress, Egress]}");
    for protocol in ["80", "udp/53", "sctp/1", "icmp/2048"] {
        assert!(!w.takes(B, protocol) && !w.opens(B, protocol), "{protocol}");
    }
}

#[test]
fn corner_22_a_pod_reaches_itself_without_a_verdict() {
    // Such traffic never leaves the pod: the kernel tables let loopback pass, and the matrix does not ask about it.
    let w = one("{podSelector: {}, policyTypes: [Ingress, Egress]}");
    let compiler = Compiler::new(&w.set, &w.inventory).expect("a sound set");
    let matrix = bulkhead_policies::matrix::Matrix::new(&compiler, &w.inventory).expect("valid programs");
    let probes = [bulkhead_policies::matrix::Probe { protocol: L4Protocol::TCP, port: 80 }];
    let own =
        matrix.rows(&probes).filter(|row| row.from == row.to && !w.inventory.pods[row.from].host_network);
    assert!(own.map(|row| row.enforced.effect).all(|effect| effect == Effect::Allow));
}

#[test]
fn corner_23_the_way_over_the_own_service_is_judged_as_any_other() {
    let w = one("{podSelector: {matchLabels: {app: b}}, policyTypes: [Egress]}");
    assert!(!w.ask("b", Direction::Egress, "10.96.0.1", "8080"));
}

#[test]
fn corner_24_the_own_node_is_always_let_in_and_no_other() {
    let w = one("{podSelector: {}, policyTypes: [Ingress, Egress]}");
    assert!(w.takes("192.168.0.1", "80") && w.opens("192.168.0.1", "80"));
    assert!(!w.takes("192.168.0.2", "80"));
}

#[test]
fn corner_25_a_pod_in_the_nodes_network_is_its_node() {
    let w = one(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}]}]}",
    );
    assert!(w.takes(C, "80") && !w.takes("192.168.0.2", "80"), "no selector finds it");
    let w = one("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.168.0.2/32}}]}]}");
    assert!(w.takes("192.168.0.2", "80"), "a block does");
}

#[test]
fn corner_26_the_new_verdict_counts_for_connections_that_are_open() {
    // That they are cut is the kernel tables' part; the verdict is a function of the set alone, with no memory.
    let open = one("{podSelector: {}, ingress: [{}]}");
    let closed = one("{podSelector: {}, policyTypes: [Ingress]}");
    assert!(open.takes(B, "80") && !closed.takes(B, "80"));
}

#[test]
fn corner_27_replies_need_no_rule_of_their_own() {
    // A reply belongs to the connection that was allowed; a new connection the other way is another question.
    let w = one("{podSelector: {}, policyTypes: [Ingress, Egress], egress: [{to: [{podSelector: {}}]}]}");
    assert!(w.opens(B, "80") && !w.takes(B, "80"));
}

#[test]
fn corner_28_a_pod_that_nobody_knows_yet_is_allowed_by_no_selector() {
    let mut w = one("{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}");
    w.inventory.pods.retain(|name, _| name.name != "b");
    assert!(!w.takes(B, "80"), "the allow comes with the pod, the isolation was there before");
}

#[test]
fn corner_29_labels_that_change_change_the_verdict() {
    let mut w = one(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {app: a}}}]}]}",
    );
    assert!(w.takes(C, "80"));
    let c = ObjectName { namespace: "y".into(), name: "c".into() };
    let labels = std::mem::take(&mut w.inventory.pods.get_mut(&c).expect("a pod").labels);
    assert!(!w.takes(C, "80"), "the pod's");
    w.inventory.pods.get_mut(&c).expect("a pod").labels = labels;
    w.inventory.namespaces.get_mut("y").expect("a namespace").insert("team".into(), "z".into());
    assert!(!w.takes(C, "80"), "the namespace's");
}

#[test]
fn corner_30_a_policy_that_goes_takes_its_isolation_along() {
    let mut w = one("{podSelector: {}, policyTypes: [Ingress]}");
    assert!(!w.takes(B, "80"));
    w.set.policies.clear();
    assert!(w.takes(B, "80"));
}

#[test]
fn corner_31_a_block_is_of_one_family() {
    let w = one("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}");
    assert!(w.takes(OUTSIDE, "80") && !w.takes("2001:db8::1", "80") && !w.takes("fd00::2", "80"));
    assert!(w.takes("::ffff:203.0.113.7", "80"), "a mapped address is its IPv4 address");
    let w = one("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: \"fd00::2/128\"}}]}]}");
    assert!(w.takes("fd00::2", "80") && !w.takes(B, "80"));
}

#[test]
fn corner_32_what_network_policy_cannot_say_the_other_kinds_can() {
    let deny = cluster(
        "denied",
        "Admin",
        1,
        "egress: [{name: a, action: Deny, to: [{networks: [203.0.113.0/24]}]}]",
    );
    let w = world(&[policy("p", "{podSelector: {}, egress: [{}]}"), deny]);
    assert!(!w.opens(OUTSIDE, "80") && w.opens("203.0.114.1", "80"), "a deny");
    let metadata = "apiVersion: bulkhead.dev/v1alpha1\nkind: ClusterSegmentPolicy\nmetadata: {name: m}\nspec: {tier: admin, priority: 1, \
        subjects: {namespaces: {}}, egress: [{name: m, action: deny, to: [{entity: metadata}]}]}\n";
    let w = world(&[metadata.to_owned()]);
    assert!(METADATA.iter().all(|address| !w.opens(&address.to_string(), "80")), "a group by name");
}

#[test]
fn admin_comes_before_network_policies_and_baseline_after_them() {
    let deny = |tier| cluster("d", tier, 1, "ingress: [{name: a, action: Deny, from: [{namespaces: {}}]}]");
    let allow = policy("p", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}");
    assert!(!world(&[deny("Admin"), allow.clone()]).takes(B, "80"));
    assert!(
        world(&[deny("Baseline"), allow]).takes(B, "80"),
        "isolated by the policy: the baseline is not asked"
    );
    assert!(!world(&[deny("Baseline")]).takes(B, "80"));
}

#[test]
fn lower_priorities_come_first_and_within_a_policy_the_first_rule_that_matches() {
    let rules = |action| format!("ingress: [{{name: a, action: {action}, from: [{{namespaces: {{}}}}]}}]");
    let w = world(&[cluster("a", "Admin", 5, &rules("Accept")), cluster("b", "Admin", 4, &rules("Deny"))]);
    assert!(!w.takes(B, "80"));
    let both = "ingress: [{name: a, action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}, {name: b, \
        action: Deny, from: [{namespaces: {}}]}]";
    let w = world(&[cluster("a", "Admin", 1, both)]);
    assert!(w.takes(B, "80") && !w.takes(B, "81"));
}

#[test]
fn a_pass_leaves_the_tier_and_nothing_of_it_isolates() {
    let pass = cluster("p", "Admin", 1, "ingress: [{name: a, action: Pass, from: [{namespaces: {}}]}]");
    let deny = cluster("d", "Admin", 2, "ingress: [{name: a, action: Deny, from: [{namespaces: {}}]}]");
    assert!(world(&[pass.clone(), deny.clone()]).takes(B, "80"), "the rest of the tier is skipped");
    let closed = policy("p", "{podSelector: {}, policyTypes: [Ingress]}");
    assert!(!world(&[pass, deny, closed]).takes(B, "80"), "and the policies are asked");
    let other = cluster(
        "o",
        "Admin",
        1,
        "ingress: [{name: a, action: Accept, from: [{namespaces: {matchLabels: {team: y}}}]}]",
    );
    assert!(world(&[other]).takes(B, "80"), "what no rule names is not denied by it");
}

#[test]
fn nodes_are_peers_by_their_labels() {
    let zone = cluster(
        "n",
        "Admin",
        1,
        "egress: [{name: a, action: Deny, to: [{nodes: {matchLabels: {zone: b}}}]}]",
    );
    let w = world(&[zone]);
    assert!(!w.opens("192.168.0.2", "80") && w.opens("192.168.0.1", "80") && w.opens(B, "80"));
    let all = cluster("n", "Admin", 1, "egress: [{name: a, action: Deny, to: [{nodes: {}}]}]");
    let w = world(&[all]);
    assert!(!w.opens("192.168.0.2", "80") && !w.opens("192.168.0.1", "80"));
}

#[test]
fn networks_match_pods_and_named_ports_and_ranges_hold() {
    let networks = cluster(
        "n",
        "Admin",
        1,
        "egress: [{name: a, action: Deny, to: [{networks: [10.0.0.2/32, \"fd00::/64\"]}], protocols: \
        [{tcp: {destinationPort: {range: {start: 80, end: 82}}}}]}]",
    );
    let w = world(&[networks]);
    assert_eq!(["79", "80", "82", "83"].map(|port| w.opens(B, port)), [true, false, false, true]);
    assert!(!w.opens("fd00::9", "81") && w.opens(C, "81") && w.opens(B, "udp/81"));
    let named = cluster(
        "n",
        "Admin",
        1,
        "egress: [{name: a, action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: web}]}]",
    );
    let w = world(&[named]);
    assert!(!w.opens(B, "81") && w.opens(B, "80") && !w.opens(C, "udp/80") && w.opens(C, "80"));
}

#[test]
fn pods_are_subjects_and_peers_by_both_selectors() {
    let text = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: s}\nspec: {tier: Admin, priority: 1, \
        subject: {pods: {namespaceSelector: {matchLabels: {team: x}}, podSelector: {matchLabels: {app: a}}}}, ingress: [{name: a, action: Deny, \
        from: [{pods: {namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}]}, podSelector: {matchExpressions: \
        [{key: app, operator: Exists}]}}}]}]}\n";
    let w = world(&[text.to_owned()]);
    assert!(!w.takes(C, "80") && w.takes(BARE, "80") && w.takes(B, "80"));
    assert!(w.ask("b", Direction::Ingress, C, "80"), "not a subject");
}

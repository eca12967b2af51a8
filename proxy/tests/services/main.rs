//! Services in front of pods: a node with real DNAT, the real sidecar, policies as people write them.
//!
//! Each test runs in a network namespace of its own (`support::in_own_network`); where the machine allows none, or has no
//! `nft`, it says `skipped:` and why. How connections to a Service are judged and led: `src/session/choice.rs`.

mod network;
mod policy;
#[allow(dead_code)]
#[path = "../sidecar/process.rs"]
mod process;
#[path = "../../netfilter/tests/support/mod.rs"]
mod support;

use network::{Cluster, Leads, NEW, NODE, OLD, POD, Server, ask, datagram_answered, echo_datagrams, service};
use policy::{program, program_in_mode};
use process::Sidecar;
use std::io::ErrorKind;
use std::net::IpAddr;
use support::in_own_network;

/// Ports of the backends: named `http` in both pods, and that of the agent on the node.
const OLD_PORT: u16 = 8080;
const NEW_PORT: u16 = 9090;
const AGENT_PORT: u16 = 7070;
/// Enough that a backend which is reached now and then is reached.
const ROUNDS: usize = 20;

/// The cluster with its servers, and a sidecar in the pod.
struct Ground {
    cluster: Cluster,
    old: [Server; 2],
    new: [Server; 2],
    agent: [Server; 2],
    sidecar: Sidecar,
}

fn half() -> Leads {
    leads(1, vec![(OLD, OLD_PORT), (NEW, NEW_PORT)])
}

fn leads(number: u8, endpoints: Vec<([IpAddr; 2], u16)>) -> Leads {
    Leads { service: service(number), protocol: "tcp", port: 80, endpoints }
}

fn ground(test: &str, rules: &str) -> Ground {
    ground_under(test, &program(rules))
}

fn ground_under(test: &str, program: &bulkhead_policies::program::Program) -> Ground {
    let cluster = Cluster::new();
    let old = Server::both(&cluster.old, OLD, OLD_PORT);
    let new = Server::both(&cluster.new, NEW, NEW_PORT);
    let agent = Server::both(&cluster.node, NODE, AGENT_PORT);
    let three = leads(5, vec![(OLD, OLD_PORT), (NEW, NEW_PORT), (NODE, AGENT_PORT)]);
    let mixed = leads(4, vec![(OLD, OLD_PORT), (NODE, AGENT_PORT)]);
    let tell =
        Leads { service: service(2), protocol: "udp", port: 81, endpoints: vec![(OLD, 8181), (NEW, 8181)] };
    cluster.lead(&[half(), tell, mixed, three], "");
    let mut sidecar = Sidecar::initialised(test).with_last_good(program);
    sidecar.start_until_ready();
    Ground { cluster, old, new, agent, sidecar }
}

impl Ground {
    /// How often each of old, new and agent was connected to since the last call, in one family.
    fn reached(&self, family: usize) -> [usize; 3] {
        [&self.old, &self.new, &self.agent].map(|servers| {
            let seen = servers[family].seen();
            seen.iter().filter(|what| what.starts_with("connection")).count()
        })
    }

    /// The statuses of so many requests to a Service, each once; 0 for what was refused or cut.
    fn statuses(&self, address: IpAddr, path: &str) -> Vec<u16> {
        let mut statuses: Vec<u16> = (0..ROUNDS).map(|_| ask(address, 80, path).unwrap_or(0)).collect();
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }

    fn counts(&self, line: &str) -> u64 {
        let metrics = self.sidecar.ask("/metrics").expect("metrics");
        let found = metrics.lines().find_map(|found| found.strip_prefix(line));
        found
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or_else(|| panic!("no `{line}` in {metrics}"))
    }

    /// Denials are counted by the kernel and told twice a second.
    fn wait_for_denials(&mut self, reason: &str) {
        let line = format!("bulkhead_denials_total{{direction=\"egress\",reason=\"{reason}\"}} ");
        self.sidecar.wait_for("/metrics", |metrics| {
            metrics.lines().any(|found| found.strip_prefix(&line).is_some_and(|count| count != "0"))
        });
    }

    fn captured(&self) -> u64 {
        self.counts("bulkhead_inspected_connections_total{direction=\"egress\"}")
    }
}

#[test]
fn a_service_that_may_be_reached_whole_is_passed_by_the_kernel_alone() {
    in_own_network("a_service_that_may_be_reached_whole_is_passed_by_the_kernel_alone", &["nft"], || {
        let ground = ground("whole", "egress: [{name: api, to: [{workloads: {app: api}}], ports: [http]}]");
        for family in [0, 1] {
            assert_eq!(ground.statuses(service(1)[family], "/"), [200]);
            let [old, new, _] = ground.reached(family);
            assert_eq!((old, new), (ROUNDS / 2, ROUNDS / 2), "the network picks in turn");
        }
        assert_eq!(ground.captured(), 0);
    });
}

#[test]
fn of_a_service_that_may_be_reached_in_part_only_that_part_is_ever_reached() {
    in_own_network(
        "of_a_service_that_may_be_reached_in_part_only_that_part_is_ever_reached",
        &["nft"],
        || {
            let ground = ground("part", "egress: [{name: old, to: [{workloads: {track: old}}]}]");
            for family in [0, 1] {
                assert_eq!(ground.statuses(service(1)[family], "/"), [200]);
                assert_eq!(ground.reached(family), [ROUNDS, 0, 0]);
            }
            assert_eq!(ground.captured(), 2 * ROUNDS as u64);
        },
    );
}

#[test]
fn a_service_of_which_nothing_may_be_reached_is_refused_and_one_without_endpoints_says_so() {
    in_own_network(
        "a_service_of_which_nothing_may_be_reached_is_refused_and_one_without_endpoints_says_so",
        &["nft"],
        || {
            let mut ground = ground("none", "egress: [{name: agent, to: [{cidr: 10.9.0.0/16}]}]");
            for family in [0, 1] {
                for number in [1, 3] {
                    let refused = ask(service(number)[family], 80, "/").expect_err("denied");
                    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
                }
                assert_eq!(ground.reached(family), [0, 0, 0]);
            }
            ground.wait_for_denials("no_rule");
            ground.wait_for_denials("no_endpoint");
        },
    );
}

#[test]
fn datagrams_to_a_service_that_may_be_reached_in_part_never_leave() {
    in_own_network("datagrams_to_a_service_that_may_be_reached_in_part_never_leave", &["nft"], || {
        let mut ground = ground("datagrams", "egress: [{name: old, to: [{workloads: {track: old}}]}]");
        for family in [0, 1] {
            let old = echo_datagrams(&ground.cluster.old, OLD[family], 8181);
            let new = echo_datagrams(&ground.cluster.new, NEW[family], 8181);
            assert!((0..4).all(|_| !datagram_answered(service(2)[family], 81)));
            assert!(datagram_answered(OLD[family], 8181), "the pod itself may be reached");
            assert_eq!((old.seen().len(), new.seen().len()), (1, 0));
        }
        ground.wait_for_denials("endpoints_differ");
    });
}

#[test]
fn datagrams_to_a_service_that_may_be_reached_whole_are_answered() {
    in_own_network("datagrams_to_a_service_that_may_be_reached_whole_are_answered", &["nft"], || {
        let ground = ground("whole-datagrams", "egress: [{name: api, to: [{workloads: {app: api}}]}]");
        for family in [0, 1] {
            let old = echo_datagrams(&ground.cluster.old, OLD[family], 8181);
            let new = echo_datagrams(&ground.cluster.new, NEW[family], 8181);
            assert!((0..4).all(|_| datagram_answered(service(2)[family], 81)));
            assert_eq!((old.seen().len(), new.seen().len()), (2, 2));
        }
    });
}

#[test]
fn pods_dialled_by_their_own_addresses_are_judged_one_by_one() {
    in_own_network("pods_dialled_by_their_own_addresses_are_judged_one_by_one", &["nft"], || {
        let ground =
            ground("headless", "egress: [{name: old, to: [{workloads: {track: old}}], ports: [http]}]");
        for family in [0, 1] {
            assert_eq!(ask(OLD[family], OLD_PORT, "/").expect("allowed"), 200);
            assert!(ask(OLD[family], NEW_PORT, "/").is_err(), "its `http` has another number");
            assert!(ask(NEW[family], NEW_PORT, "/").is_err());
            assert_eq!(ground.reached(family), [1, 0, 0]);
        }
    });
}

/// Both pods call a port `http`, under different numbers.
#[test]
fn a_named_port_is_that_of_each_pod_behind_the_service() {
    in_own_network("a_named_port_is_that_of_each_pod_behind_the_service", &["nft"], || {
        let ground = ground("named", "egress: [{name: api, to: [{workloads: {app: api}}], ports: [http]}]");
        for family in [0, 1] {
            assert_eq!(ground.statuses(service(1)[family], "/"), [200]);
            let [old, new, _] = ground.reached(family);
            assert!(old > 0 && new > 0);
            for (pod, own, others) in [(OLD, OLD_PORT, NEW_PORT), (NEW, NEW_PORT, OLD_PORT)] {
                assert_eq!(ask(pod[family], own, "/").expect("allowed"), 200);
                assert_eq!(
                    ask(pod[family], others, "/").expect_err("denied").kind(),
                    ErrorKind::ConnectionRefused
                );
            }
        }
    });
}

/// By number the rule means one pod only: the other one's endpoint has another port.
#[test]
fn a_numbered_port_that_only_one_pod_has_leads_to_that_pod() {
    in_own_network("a_numbered_port_that_only_one_pod_has_leads_to_that_pod", &["nft"], || {
        let ground =
            ground("numbered", "egress: [{name: api, to: [{workloads: {app: api}}], ports: [9090]}]");
        for family in [0, 1] {
            assert_eq!(ground.statuses(service(1)[family], "/"), [200]);
            assert_eq!(ground.reached(family), [0, ROUNDS, 0]);
        }
    });
}

#[test]
fn an_endpoint_on_the_nodes_own_network_is_the_node() {
    in_own_network("an_endpoint_on_the_nodes_own_network_is_the_node", &["nft"], || {
        let ground = ground("node", "egress: [{name: node, to: [{entity: node}], ports: [7070]}]");
        for family in [0, 1] {
            assert_eq!(ground.statuses(service(4)[family], "/"), [200]);
            assert_eq!(ground.reached(family), [0, 0, ROUNDS]);
            assert_eq!(ask(NODE[family], AGENT_PORT, "/").expect("allowed"), 200);
            assert!(ask(OLD[family], OLD_PORT, "/").is_err());
        }
    });
}

#[test]
fn requests_are_judged_by_the_rules_of_the_endpoint_that_they_reach() {
    in_own_network("requests_are_judged_by_the_rules_of_the_endpoint_that_they_reach", &["nft"], || {
        let ground = ground(
            "requests",
            "egress: [{name: old, to: [{workloads: {track: old}}], http: [{path: /old}]}, {name: new, to: [{workloads: {track: new}}], \
             http: [{path: /new}]}]",
        );
        for family in [0, 1] {
            // The agent may not be reached at all.
            assert_eq!(ground.statuses(service(5)[family], "/old"), [200, 403]);
            assert_eq!(ground.statuses(service(5)[family], "/new"), [200, 403]);
            assert_eq!(ground.statuses(service(5)[family], "/other"), [403]);
            let [old, new, agent] = [&ground.old, &ground.new, &ground.agent].map(|of| of[family].seen());
            let asked = |seen: &[String], path: &str| seen.iter().any(|line| line.starts_with(path));
            assert!(asked(&old, "GET /old ") && asked(&new, "GET /new "));
            assert!(!asked(&old, "GET /new") && !asked(&new, "GET /old"));
            assert!(!asked(&old, "GET /other") && !asked(&new, "GET /other"));
            assert_eq!(agent, [""; 0]);
        }
    });
}

#[test]
fn where_an_endpoint_refuses_another_one_that_may_be_reached_is_dialled() {
    in_own_network("where_an_endpoint_refuses_another_one_that_may_be_reached_is_dialled", &["nft"], || {
        let ground = ground(
            "refused",
            "egress: [{name: api, to: [{workloads: {app: api}}]}, {name: node, to: [{entity: node}], ports: [1]}]",
        );
        // From now on the old backend refuses, as one that is about to be replaced.
        ground.cluster.old.run(|| {
            for family in ["ip", "ip6"] {
                support::run("nft", &["add", "table", family, "refuse"]);
                support::run(
                    "nft",
                    &["add", "chain", family, "refuse", "in", "{ type filter hook input priority 0; }"],
                );
                let rule = [
                    "add", "rule", family, "refuse", "in", "tcp", "dport", "8080", "reject", "with", "tcp",
                    "reset",
                ];
                support::run("nft", &rule);
            }
        });
        for family in [0, 1] {
            assert_eq!(ground.statuses(service(5)[family], "/"), [200]);
            assert_eq!(ground.reached(family), [0, ROUNDS, 0]);
        }
        assert!(ground.counts("bulkhead_endpoints_refused_total") > 0);
    });
}

/// Nothing is enforced of a policy that allows one backend only.
fn dials_the_service_itself_under(mode: &str) {
    let rules = "egress: [{name: old, to: [{workloads: {track: old}}]}]";
    let ground = ground_under(mode, &program_in_mode(mode, rules));
    for family in [0, 1] {
        assert_eq!(ground.statuses(service(1)[family], "/"), [200]);
        let [old, new, _] = ground.reached(family);
        assert_eq!((old, new), (ROUNDS / 2, ROUNDS / 2), "the network picks in turn");
    }
}

#[test]
fn under_observe_the_service_itself_is_dialled() {
    in_own_network("under_observe_the_service_itself_is_dialled", &["nft"], || {
        dials_the_service_itself_under("observe");
    });
}

#[test]
fn under_audit_the_service_itself_is_dialled() {
    in_own_network("under_audit_the_service_itself_is_dialled", &["nft"], || {
        dials_the_service_itself_under("audit");
    });
}

/// Who comes by a Service of this pod is known by its own address, unless the node puts its own in its place.
#[test]
fn whoever_comes_by_a_service_is_judged_by_the_address_that_arrives() {
    in_own_network("whoever_comes_by_a_service_is_judged_by_the_address_that_arrives", &["nft"], || {
        let ground =
            ground("inbound", "ingress: [{name: api, from: [{workloads: {track: old}}], ports: [8000]}]");
        let app = POD.map(|address| Server::start(address, 8000));
        let own = || leads(9, vec![(POD, 8000)]);
        for (masquerade, expected) in [("", true), ("oifname pod0 masquerade", false)] {
            ground.cluster.node.run(|| {
                support::run("nft", &["flush", "ruleset"]);
            });
            ground.cluster.lead(&[own()], masquerade);
            for family in [0, 1] {
                let address = service(9)[family];
                let old = ground.cluster.old.run(move || ask(address, 80, "/").is_ok());
                let new = ground.cluster.new.run(move || ask(address, 80, "/").is_ok());
                assert_eq!((old, new), (expected, false), "{masquerade}");
                let seen = app[family].seen();
                let from = format!("connection from {}", OLD[family]);
                assert_eq!(
                    seen.iter().filter(|line| **line == from).count(),
                    usize::from(expected),
                    "{seen:?}"
                );
            }
        }
    });
}

//! A new program: allowed flows go on, denied ones stop at the commit, what cannot be handed over is cut.

use crate::inspector::Inspector;
use crate::network::{PEER, POD, Peer, SILENCE, accept, datagram_arrives, dial, talk};
use crate::program::{Rules, What};
use crate::support::{as_user, in_own_network, set_mark};
use crate::{at, open, sidecar_uid};
use bulkhead_facts::{Direction, L4Protocol, Reason};
use bulkhead_netfilter::conntrack::Conntrack;
use bulkhead_proxy::firewall::{Firewall, Mark, Means};
use bulkhead_proxy::intercept::{LocalLeg, Sockets};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Flows of both directions and families on port 8000, as (client, server).
fn flows(peer: &Peer) -> Vec<(TcpStream, TcpStream)> {
    let mut flows = Vec::new();
    for family in [0, 1] {
        let app = TcpListener::bind(at(POD[family], 8000)).expect("listen");
        let there = peer.listen(PEER[family], 8000);
        let inbound = peer.dial(at(POD[family], 8000)).expect("allowed");
        flows.push((inbound, accept(&app).expect("arrives").0));
        let outbound = dial(at(PEER[family], 8000)).expect("allowed");
        flows.push((outbound, accept(&there).expect("arrives").0));
    }
    flows
}

fn both_ways(what: What, port: u16) -> Rules {
    Rules::both_ways(what, &PEER, L4Protocol::TCP, port)
}

/// Means the same for every flow here each time, and takes a reload after the one before.
fn again(number: u16) -> Rules {
    both_ways(What::Allow, 8000).tcp(What::Allow, Direction::Ingress, &PEER, 9_000 + number)
}

/// True if nothing that one side says reaches the other.
fn is_cut(client: &mut TcpStream, server: &mut TcpStream) -> bool {
    !hears(client, server) && !hears(server, client)
}

fn hears(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    to.set_read_timeout(Some(SILENCE)).expect("timeout");
    let _ = from.write_all(b"late");
    matches!(to.read(&mut [0; 4]), Ok(length) if length > 0)
}

#[test]
fn a_reload_leaves_allowed_flows_alone_and_cuts_denied_ones() {
    in_own_network("reload::a_reload_leaves_allowed_flows_alone_and_cuts_denied_ones", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let first = firewall.apply(&both_ways(What::Allow, 8000).judge()).expect("applied").generation;
        let mut flows = flows(&peer);
        for number in 0..5 {
            let applied = firewall.apply(&again(number).judge()).expect("applied");
            assert_eq!(applied.means, Means::Reload);
            for (client, server) in &mut flows {
                talk(client, server).expect("an allowed flow never notices");
            }
        }
        let last = firewall.apply(&both_ways(What::Allow, 8001).judge()).expect("applied").generation;
        assert_eq!(last, first + 6);
        for (client, server) in &mut flows {
            assert!(is_cut(client, server), "{client:?} to {server:?}");
        }
        let denied = firewall.denials().expect("dump").edges;
        assert_eq!(denied.len(), 4, "both directions, both families: {denied:?}");
        assert!(
            denied.iter().all(|edge| edge.port == 8000 && edge.protocol == L4Protocol::TCP),
            "{denied:?}"
        );
    });
}

#[test]
fn an_explicit_denial_cuts_as_well_and_names_its_rule() {
    in_own_network("reload::an_explicit_denial_cuts_as_well_and_names_its_rule", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall.apply(&both_ways(What::Allow, 8000).judge()).expect("applied");
        let mut flows = flows(&peer);
        firewall.apply(&both_ways(What::Deny, 8000).judge()).expect("applied");
        for (client, server) in &mut flows {
            assert!(is_cut(client, server));
        }
        for edge in firewall.denials().expect("dump").edges {
            let answer = edge.answer.expect("known");
            assert_eq!(answer.answers.enforced.reason, Reason::DeniedByRule);
            let rule = answer.answers.enforced.rule.expect("a rule");
            assert_eq!(answer.judge.expect("known").rule(rule).direction, edge.direction);
        }
    });
}

#[test]
fn a_flow_that_has_to_be_inspected_now_is_cut_with_that_reason() {
    in_own_network("reload::a_flow_that_has_to_be_inspected_now_is_cut_with_that_reason", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall.apply(&both_ways(What::Allow, 8000).judge()).expect("applied");
        let mut flows = flows(&peer);
        firewall.apply(&both_ways(What::Inspect, 8000).judge()).expect("applied");
        for (client, server) in &mut flows {
            assert!(is_cut(client, server));
        }
        for edge in firewall.denials().expect("dump").edges {
            let answer = edge.answer.expect("known").answers.enforced;
            assert_eq!((answer.reason, answer.rule.is_some()), (Reason::TierChanged, true));
        }
    });
}

#[test]
fn a_flow_that_is_only_audited_now_goes_on_though_nobody_sees_its_requests() {
    in_own_network(
        "reload::a_flow_that_is_only_audited_now_goes_on_though_nobody_sees_its_requests",
        &[],
        || {
            let peer = Peer::connect();
            let mut firewall = open();
            firewall.apply(&both_ways(What::Allow, 8000).judge()).expect("applied");
            let mut flows = flows(&peer);
            firewall.apply(&both_ways(What::Audit, 8000).judge()).expect("applied");
            for (client, server) in &mut flows {
                talk(client, server).expect("audit acts as if the policy were absent");
            }
            assert_eq!(firewall.denials().expect("dump").edges.len(), 0);
        },
    );
}

#[test]
fn captured_flows_survive_every_change_that_still_allows_them() {
    in_own_network("reload::captured_flows_survive_every_change_that_still_allows_them", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let _inspector = Inspector::start(Sockets::new(firewall.marks(), LocalLeg::ClientAddress));
        firewall.apply(&both_ways(What::Inspect, 8000).judge()).expect("applied");
        let mut flows = flows(&peer);
        for what in [What::Inspect, What::Allow, What::Audit, What::Learn, What::Inspect] {
            firewall.apply(&both_ways(what, 8000).judge()).expect("applied");
            for (client, server) in &mut flows {
                talk(client, server).expect("goes on through the inspector");
            }
        }
        firewall.apply(&Rules::new().judge()).expect("applied");
        for (client, server) in &mut flows {
            assert!(is_cut(client, server));
        }
    });
}

/// Answers every byte until the end.
fn echo(mut server: TcpStream) {
    let mut buffer = [0; 512];
    while let Ok(length) = server.read(&mut buffer) {
        if length == 0 || server.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

#[test]
fn reloads_of_large_programs_under_load_neither_cut_nor_open_anything() {
    in_own_network("reload::reloads_of_large_programs_under_load_neither_cut_nor_open_anything", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let large = |number| {
            (0..1_000).fold(again(number), |rules, n| {
                rules.tcp(What::Allow, Direction::Ingress, &OTHERS, 20_000 + n)
            })
        };
        firewall.apply(&large(0).judge()).expect("applied");
        let stop = Arc::new(AtomicBool::new(false));
        let mut talkers = Vec::new();
        for (client, server) in flows(&peer) {
            let stop = stop.clone();
            thread::spawn(move || echo(server));
            talkers.push(thread::spawn(move || said_until(client, &stop)));
        }
        let _forbidden = peer.listen(PEER[0], 8001);
        let mut opened = 0;
        for number in 1..31 {
            let applied = firewall.apply(&large(number).judge()).expect("applied");
            assert_eq!(applied.means, Means::Reload);
            opened += u32::from(dial(at(PEER[0], 8001)).is_ok());
        }
        stop.store(true, Ordering::Relaxed);
        for talker in talkers {
            assert!(talker.join().expect("no panic") > 0);
        }
        assert_eq!(opened, 0);
    });
}

const OTHERS: [std::net::IpAddr; 1] = [std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 0, 1))];

/// Speaks and listens until told to stop; the number of exchanges.
fn said_until(mut client: TcpStream, stop: &AtomicBool) -> u64 {
    client.set_read_timeout(Some(4 * SILENCE)).expect("timeout");
    let mut buffer = [0; 32];
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        client.write_all(&[7; 32]).expect("the flow goes on");
        client.read_exact(&mut buffer).expect("the flow goes on");
        count += 1;
    }
    count
}

#[test]
fn a_generation_that_comes_again_admits_no_flow_of_its_first_time() {
    admits_no_sleeping_flow("reload::a_generation_that_comes_again_admits_no_flow_of_its_first_time", false);
}

#[test]
fn a_generation_that_was_made_ready_admits_no_flow_of_its_first_time() {
    admits_no_sleeping_flow(
        "reload::a_generation_that_was_made_ready_admits_no_flow_of_its_first_time",
        true,
    );
}

/// Generations whose marks are cleared by one look at the connections.
const CLEARED_AT_ONCE: u16 = 256;

#[test]
fn only_one_reload_in_many_looks_at_the_connections() {
    in_own_network("reload::only_one_reload_in_many_looks_at_the_connections", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let first = firewall.apply(&again(0).judge()).expect("applied").generation;
        let _flows = flows(&peer);
        let mut conntrack = Conntrack::open().expect("socket");
        let marked = |generation: u16| u32::from(generation) << 20;
        let flow = conntrack.flows(marked(first), Mark::GENERATION_MASK).expect("dump").remove(0);
        let mut looked = 0;
        for number in 1..=2 * CLEARED_AT_ONCE {
            // Nobody sets such a mark; whoever looks at the connections clears it.
            let next = firewall.generation() + 1;
            conntrack.set_mark(&flow, marked(next)).expect("set");
            assert_eq!(firewall.apply(&again(number % 2).judge()).expect("applied").generation, next);
            looked +=
                usize::from(conntrack.flows(marked(next), Mark::GENERATION_MASK).expect("dump").is_empty());
        }
        assert_eq!(looked, 2);
    });
}

fn admits_no_sleeping_flow(test: &str, ahead: bool) {
    in_own_network(test, &["conntrack"], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let generation = firewall.apply(&both_ways(What::Allow, 8000).judge()).expect("applied").generation;
        let mut flows = flows(&peer);
        // As if these flows had slept through all generations: they carry the mark of one that comes.
        let marked = |generation: u16| u32::from(generation) << 20;
        let mut conntrack = Conntrack::open().expect("socket");
        let sleeping = conntrack.flows(marked(generation), Mark::GENERATION_MASK).expect("dump");
        assert_eq!(sleeping.len(), 4);
        let comes = generation + CLEARED_AT_ONCE;
        for flow in sleeping {
            conntrack.set_mark(&flow, marked(comes) | 0x1_0001).expect("set");
        }
        let with_mark = |conntrack: &mut Conntrack| {
            conntrack.flows(marked(comes), Mark::GENERATION_MASK).expect("dump").len()
        };
        assert_eq!(with_mark(&mut conntrack), 4);
        while firewall.generation() + 1 < comes {
            firewall.apply(&again(firewall.generation() % 2).judge()).expect("applied");
            if ahead {
                firewall.prepare_next().expect("cleared");
            }
        }
        let last = firewall.apply(&Rules::new().judge()).expect("applied");
        assert_eq!((last.generation, with_mark(&mut conntrack)), (comes, 0));
        for (client, server) in &mut flows {
            assert!(is_cut(client, server));
        }
    });
}

#[test]
fn a_question_of_ours_does_not_sleep_in_its_zone() {
    in_own_network("reload::a_question_of_ours_does_not_sleep_in_its_zone", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let rules =
            both_ways(What::Inspect, 8000).rule(What::Allow, Direction::Egress, &PEER, L4Protocol::UDP, 9000);
        let generation = firewall.apply(&rules.judge()).expect("applied").generation;
        let servers = PEER.map(|address| peer.udp(address, 9000));
        for (pod, server) in POD.into_iter().zip(&servers) {
            let question = as_user(sidecar_uid(), || UdpSocket::bind(at(pod, 0)).expect("bind"));
            set_mark(&question, firewall.marks().upstream).expect("may mark");
            assert!(datagram_arrives(&question, server));
        }
        let marked = |generation: u16| u32::from(generation) << 20;
        let mut conntrack = Conntrack::open().expect("socket");
        let questions = conntrack.flows(marked(generation), Mark::GENERATION_MASK).expect("dump");
        assert_eq!(questions.len(), 2);
        for question in questions {
            conntrack.set_mark(&question, marked(generation + 1)).expect("set");
        }
        let mut sleeping = || conntrack.flows(marked(generation + 1), Mark::GENERATION_MASK).expect("dump");
        assert_eq!(sleeping().len(), 2);
        drop(firewall);
        open().prepare_next().expect("cleared");
        assert_eq!(sleeping(), []);
    });
}

#[test]
fn a_program_that_is_too_large_changes_nothing() {
    in_own_network("reload::a_program_that_is_too_large_changes_nothing", &[], || {
        let peer = Peer::connect();
        let mut firewall: Firewall = open();
        firewall.apply(&both_ways(What::Allow, 8000).judge()).expect("applied");
        let mut flows = flows(&peer);
        let peers: Vec<_> =
            (0u32..33_000).map(|n| std::net::IpAddr::V4(std::net::Ipv4Addr::from(0x0b00_0000 + n))).collect();
        let error = firewall
            .apply(&Rules::new().tcp(What::Allow, Direction::Egress, &peers, 80).judge())
            .expect_err("too large");
        assert!(error.to_string().contains("66000 entries"), "{error}");
        for (client, server) in &mut flows {
            talk(client, server).expect("the program before stays");
        }
    });
}

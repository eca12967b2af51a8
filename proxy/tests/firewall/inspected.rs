//! Flows that go to the inspector: captured with their destination, carried on with the client's address.

use crate::inspector::{Inspector, Seen, runtime};
use crate::network::{OTHER_PEER, PEER, POD, Peer, SILENCE, accept, dial, dial_from, reset, talk};
use crate::program::{Rules, What};
use crate::support::{as_user, in_own_network, ip, run};
use crate::{at, open, open_with, options, sidecar_uid};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_netfilter::connection_status;
use bulkhead_netfilter::conntrack::Conntrack;
use bulkhead_proxy::firewall::limits::HEARTBEAT_LIFE;
use bulkhead_proxy::firewall::{DNS_PORT, Firewall, FirewallOptions, OUTBOUND_PORT, TableState};
use bulkhead_proxy::intercept::{LocalLeg, Sockets};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// TCP of the peer on port 8000, both ways.
fn both_ways(what: What) -> Rules {
    Rules::both_ways(what, &PEER, L4Protocol::TCP, 8000)
}

fn inspector(firewall: &Firewall, local_leg: LocalLeg) -> Inspector {
    Inspector::start(Sockets::new(firewall.marks(), local_leg))
}

#[test]
fn an_inbound_flow_is_captured_and_the_app_sees_the_client() {
    in_own_network("inspected::an_inbound_flow_is_captured_and_the_app_sees_the_client", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let inspector = inspector(&firewall, LocalLeg::ClientAddress);
        firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
        for family in [0, 1] {
            let app = TcpListener::bind(at(POD[family], 8000)).expect("listen");
            let mut client = peer.dial(at(POD[family], 8000)).expect("captured");
            let (mut server, from) = accept(&app).expect("passed on");
            assert_eq!(from.ip(), PEER[family], "the client's address is kept");
            talk(&mut client, &mut server).expect("both directions");
            let seen = inspector.next().expect("captured");
            let expected = Seen {
                direction: Direction::Ingress,
                client: client.local_addr().expect("address"),
                destination: at(POD[family], 8000),
            };
            assert_eq!(seen, expected);
        }
        assert_eq!(firewall.denials().expect("dump").edges.len(), 0);
    });
}

#[test]
fn the_way_back_from_the_app_is_put_back_when_somebody_takes_it() {
    in_own_network("inspected::the_way_back_from_the_app_is_put_back_when_somebody_takes_it", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let _inspector = inspector(&firewall, LocalLeg::ClientAddress);
        firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
        let app = TcpListener::bind(at(POD[0], 8000)).expect("listen");
        ip("rule del table 15006");
        ip("route flush table 15006");
        firewall.verify().expect("compared");
        let mut client = peer.dial(at(POD[0], 8000)).expect("captured");
        let (mut server, from) = accept(&app).expect("passed on");
        assert_eq!(from.ip(), PEER[0]);
        talk(&mut client, &mut server).expect("both directions");
    });
}

#[test]
fn many_clients_from_one_address_are_kept_apart_from_their_own_connections() {
    in_own_network(
        "inspected::many_clients_from_one_address_are_kept_apart_from_their_own_connections",
        &[],
        || {
            let peer = Peer::connect();
            let mut firewall = open();
            let _inspector = inspector(&firewall, LocalLeg::ClientAddress);
            firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
            let app = TcpListener::bind(at(POD[0], 8000)).expect("listen");
            let mut open = Vec::new();
            for _ in 0..200 {
                let mut client = peer.dial(at(POD[0], 8000)).expect("captured");
                let (mut server, _) = accept(&app).expect("passed on");
                talk(&mut client, &mut server).expect("answers come back to the right one");
                open.push((client, server));
            }
            for (client, server) in &mut open {
                talk(client, server).expect("still");
            }
        },
    );
}

#[test]
fn the_fallback_shows_the_pods_own_address() {
    in_own_network("inspected::the_fallback_shows_the_pods_own_address", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let _inspector = inspector(&firewall, LocalLeg::PodAddress);
        firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
        for pod in POD {
            let app = TcpListener::bind(at(pod, 8000)).expect("listen");
            let mut client = peer.dial(at(pod, 8000)).expect("captured");
            let (mut server, from) = accept(&app).expect("passed on");
            assert_eq!(from.ip(), pod);
            talk(&mut client, &mut server).expect("both directions");
        }
    });
}

#[test]
fn the_self_test_finds_out_whether_the_clients_address_can_be_kept() {
    in_own_network("inspected::the_self_test_finds_out_whether_the_clients_address_can_be_kept", &[], || {
        let _peer = Peer::connect();
        let mut firewall = open();
        firewall.begin_capturing().expect("hooks and routes of legs");
        let sockets = Sockets::new(firewall.marks(), LocalLeg::PodAddress);
        for family in [0, 1] {
            as_user(sidecar_uid(), || {
                runtime().block_on(sockets.find_local_leg(POD[family], PEER[family])).expect("works here");
            });
            assert_eq!(sockets.local_leg(), LocalLeg::ClientAddress);
        }
        // Marks of another run: the table does not know the leg.
        let mut marks = firewall.marks();
        marks.local_leg ^= 1 << 20;
        let sockets = Sockets::new(marks, LocalLeg::ClientAddress);
        as_user(sidecar_uid(), || {
            runtime().block_on(sockets.find_local_leg(POD[0], PEER[0])).expect_err("cannot work");
        });
        assert_eq!(sockets.local_leg(), LocalLeg::PodAddress);
    });
}

#[test]
fn hooks_that_only_captured_flows_need_are_there_only_while_there_can_be_some() {
    in_own_network(
        "inspected::hooks_that_only_captured_flows_need_are_there_only_while_there_can_be_some",
        &["nft", "conntrack"],
        || {
            let peer = Peer::connect();
            let mut firewall = open();
            let _inspector = inspector(&firewall, LocalLeg::ClientAddress);
            let hooks = || run("nft", &["list", "chains"]).matches("chain redirect_").count();
            let rules = || run("ip", &["rule"]).lines().count();
            firewall.apply(&both_ways(What::Allow).judge()).expect("applied");
            assert_eq!((hooks(), rules()), (0, 3), "and no rule for routes but the kernel's own");
            firewall.begin_capturing().expect("legs to the app can be tried");
            assert_eq!((hooks(), rules()), (2, 4));
            firewall.apply(&both_ways(What::Allow).judge()).expect("applied");
            assert_eq!(hooks(), 0);
            assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
            firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
            assert_eq!(hooks(), 2);
            let app = TcpListener::bind(at(POD[0], 8000)).expect("listen");
            let mut client = peer.dial(at(POD[0], 8000)).expect("captured");
            let mut server = accept(&app).expect("arrives").0;
            firewall.apply(&both_ways(What::Allow).judge()).expect("applied");
            assert_eq!(hooks(), 2, "one is captured");
            talk(&mut client, &mut server).expect("goes on through the inspector");
            assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
            drop((client, server));
            forget_captured();
            firewall.forget_replaced_programs().expect("looked for");
            assert_eq!(hooks(), 2, "the leg to the app is remembered");
            run("conntrack", &["-F"]);
            firewall.forget_replaced_programs().expect("looked for");
            assert_eq!(hooks(), 0);
            assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
        },
    );
}

#[test]
fn an_outbound_flow_is_captured_and_leaves_by_our_own_leg() {
    in_own_network("inspected::an_outbound_flow_is_captured_and_leaves_by_our_own_leg", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let inspector = inspector(&firewall, LocalLeg::ClientAddress);
        firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
        for family in [0, 1] {
            let there = peer.listen(PEER[family], 8000);
            let mut client = dial(at(PEER[family], 8000)).expect("captured");
            let (mut server, from) = accept(&there).expect("passed on");
            assert_eq!(from.ip(), POD[family]);
            talk(&mut client, &mut server).expect("both directions");
            let seen = inspector.next().expect("captured");
            assert_eq!((seen.direction, seen.destination), (Direction::Egress, at(PEER[family], 8000)));
        }
    });
}

#[test]
fn our_own_leg_takes_the_same_look_up_as_the_app() {
    in_own_network("inspected::our_own_leg_takes_the_same_look_up_as_the_app", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
        let sockets = Sockets::new(firewall.marks(), LocalLeg::ClientAddress);
        let reached = |address, port| {
            as_user(sidecar_uid(), || {
                runtime().block_on(async { sockets.dial_upstream(at(address, port)).await.is_ok() })
            })
        };
        for family in [0, 1] {
            let _servers = [
                peer.listen(PEER[family], 8000),
                peer.listen(PEER[family], 8001),
                peer.listen(OTHER_PEER[family], 8000),
            ];
            assert!(reached(PEER[family], 8000));
            assert!(!reached(PEER[family], 8001), "a port that the policy denies");
            assert!(!reached(OTHER_PEER[family], 8000), "a peer that the policy does not name");
        }
    });
}

#[test]
fn without_a_sidecar_inspected_flows_are_refused() {
    in_own_network("inspected::without_a_sidecar_inspected_flows_are_refused", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
        drop(firewall);
        for family in [0, 1] {
            let _app = TcpListener::bind(at(POD[family], 8000)).expect("listen");
            let _there = peer.listen(PEER[family], 8000);
            assert!(peer.dial(at(POD[family], 8000)).is_err());
            assert!(dial(at(PEER[family], 8000)).is_err());
        }
    });
}

#[test]
fn learning_captures_while_the_heart_beats_and_lets_pass_when_it_stops() {
    in_own_network(
        "inspected::learning_captures_while_the_heart_beats_and_lets_pass_when_it_stops",
        &[],
        || {
            let peer = Peer::connect();
            let mut firewall = open();
            let inspector = inspector(&firewall, LocalLeg::ClientAddress);
            firewall.apply(&both_ways(What::Learn).judge()).expect("applied");
            for family in [0, 1] {
                let app = TcpListener::bind(at(POD[family], 8000)).expect("listen");
                let there = peer.listen(PEER[family], 8000);
                let both = || {
                    let mut inbound = peer.dial(at(POD[family], 8000)).expect("passes");
                    talk(&mut inbound, &mut accept(&app).expect("arrives").0).expect("inbound");
                    let mut outbound = dial(at(PEER[family], 8000)).expect("passes");
                    talk(&mut outbound, &mut accept(&there).expect("arrives").0).expect("outbound");
                };
                both();
                assert_eq!(inspector.next(), None, "no heart has beaten yet");
                firewall.heartbeat().expect("beats");
                firewall.heartbeat().expect("beats again before the first has faded");
                both();
                assert_eq!(inspector.next().map(|seen| seen.direction), Some(Direction::Ingress));
                assert_eq!(inspector.next().map(|seen| seen.direction), Some(Direction::Egress));
                let stopped = Instant::now();
                while stopped.elapsed() < HEARTBEAT_LIFE + Duration::from_millis(200) {
                    std::thread::sleep(Duration::from_millis(50));
                }
                both();
                assert_eq!(inspector.next(), None, "the heart has stopped");
            }
            assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
        },
    );
}

#[test]
fn nobody_goes_on_in_the_name_of_a_leg_that_was_reset() {
    in_own_network("inspected::nobody_goes_on_in_the_name_of_a_leg_that_was_reset", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
        for (pod, there) in POD.into_iter().zip(PEER.map(|address| at(address, 8000))) {
            let server = peer.listen(there.ip(), there.port());
            let dial_from = |from, mark| dial_from(from, there, mark);
            let leg_from = |from| as_user(sidecar_uid(), || dial_from(from, firewall.marks().upstream));
            let from = reset(leg_from(at(pod, 0)).expect("our own leg"), &server);
            let from = reset(leg_from(from).expect("our own leg again"), &server);
            dial_from(from, 0).expect_err("the app, with no inspector to hand it to");
            firewall.apply(&Rules::new().judge()).expect("applied");
            dial_from(from, 0).expect_err("the app, where nothing is inspected any more");
            firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
        }
    });
}

/// Lets the kernel forget connections that were handed to the inspector, as it does ten seconds after a reset.
fn forget_captured() {
    let mut connections = Conntrack::open().expect("a socket");
    for flow in connections.flows(0, 0).expect("a list") {
        if flow.status & connection_status::DESTINATION_NAT != 0 {
            connections.delete(&flow).expect("deleted");
        }
    }
}

#[test]
fn a_client_may_have_the_port_that_a_leg_to_the_app_has_or_had() {
    in_own_network("inspected::a_client_may_have_the_port_that_a_leg_to_the_app_has_or_had", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let _inspector = inspector(&firewall, LocalLeg::ClientAddress);
        for (lives, is_remembered) in [(true, true), (false, true), (false, false)] {
            for pod in POD.map(|address| at(address, 8000)) {
                firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
                let app = TcpListener::bind(pod).expect("listen");
                let mut client = peer.dial(pod).expect("captured");
                let (mut server, leg) = accept(&app).expect("passed on");
                talk(&mut client, &mut server).expect("both directions");
                let captured = lives.then_some((client, server));
                if !is_remembered {
                    forget_captured();
                }
                firewall.apply(&both_ways(What::Allow).judge()).expect("applied");
                let mut client = peer.run(move || dial_from(leg, pod, 0)).expect("by the kernel alone");
                let mut server = accept(&app).expect("arrives").0;
                talk(&mut client, &mut server).expect("its own answers");
                if let Some((mut client, mut server)) = captured {
                    talk(&mut client, &mut server).expect("its own answers, still");
                }
            }
        }
    });
}

/// All frames that arrive at the peer.
fn all_frames(peer: &Peer) -> Socket {
    const EVERYTHING: u16 = 3;
    let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
    let all = peer.run(move || Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).expect("a socket"));
    all.set_read_timeout(Some(SILENCE)).expect("timeout");
    all
}

/// A socket of the pod that sends by its device and by no other.
fn bound_to_device(to: SocketAddr, kind: Type) -> Socket {
    let socket = Socket::new(Domain::for_address(to), kind, None).expect("a socket");
    socket.bind_device(Some(b"eth0")).expect("anybody may");
    socket
}

#[test]
fn learning_leaves_alone_what_is_bound_to_a_device_and_inspection_does_not() {
    let name = "inspected::learning_leaves_alone_what_is_bound_to_a_device_and_inspection_does_not";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        for fail_open in [false, true] {
            let mut firewall = open_with(FirewallOptions { fail_open, ..options() });
            let inspector = inspector(&firewall, LocalLeg::ClientAddress);
            let what = if fail_open { What::Inspect } else { What::Learn };
            firewall.apply(&both_ways(what).judge()).expect("applied");
            for to in PEER.map(|address| at(address, 8000)) {
                firewall.heartbeat().expect("beats");
                let server = peer.listen(to.ip(), to.port());
                let client = bound_to_device(to, Type::STREAM);
                // The first packet is lost; the kernel sends another after a second.
                let wait = if fail_open { SILENCE } else { 5 * SILENCE };
                assert_eq!(client.connect_timeout(&to.into(), wait).is_ok(), !fail_open, "{to}");
                if !fail_open {
                    let mut end = accept(&server).expect("arrives").0;
                    talk(&mut client.into(), &mut end).expect("by the kernel alone");
                }
                assert_eq!(inspector.next(), None);
            }
        }
    });
}

#[test]
fn what_is_captured_does_not_leave_by_the_device_that_its_socket_is_bound_to() {
    let name = "inspected::what_is_captured_does_not_leave_by_the_device_that_its_socket_is_bound_to";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let _inspector = inspector(&firewall, LocalLeg::ClientAddress);
        let rules =
            both_ways(What::Inspect).rule(What::Inspect, Direction::Egress, &PEER, L4Protocol::UDP, 53);
        firewall.apply(&rules.judge()).expect("applied");
        let mut all = all_frames(&peer);
        for address in PEER {
            let [port, names] = [8000, 53].map(|port| at(address, port));
            let _ = bound_to_device(port, Type::STREAM).connect_timeout(&port.into(), SILENCE / 4);
            let question = b"a question without a verdict";
            let _ = bound_to_device(names, Type::DGRAM).send_to(question, &names.into());
        }
        let mut frame = [0; 2_000];
        while let Ok(length) = all.read(&mut frame) {
            // Behind the header of Ethernet, and of IPv4 or IPv6.
            let port = if frame[12..14] == [0x08, 0x00] { 36 } else { 56 };
            let ours = [OUTBOUND_PORT, DNS_PORT].map(u16::to_be_bytes);
            assert!(!ours.iter().any(|ours| frame[port..port + 2] == *ours), "{:?}", &frame[..length]);
        }
        let denied: BTreeSet<_> =
            firewall.denials().expect("dump").edges.iter().map(|edge| (edge.peer, edge.port)).collect();
        assert_eq!(denied, PEER.into_iter().flat_map(|peer| [(peer, 53), (peer, 8000)]).collect());
    });
}

//! How open connections end, and how long the kernel remembers them.

use crate::inspector::Inspector;
use crate::network::{PEER, POD, Peer, SILENCE, accept, dial_from, reset, talk};
use crate::program::{Rules, What};
use crate::support::{as_user, in_own_network, run};
use crate::{at, open, sidecar_uid};
use bulkhead_facts::{Direction, L4Protocol, Reason};
use bulkhead_proxy::intercept::{LocalLeg, Sockets};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn both_ways(what: What) -> Rules {
    Rules::both_ways(what, &PEER, L4Protocol::TCP, 8000)
}

/// What an end that only waits is told.
fn told(end: &mut TcpStream) -> ErrorKind {
    end.set_read_timeout(Some(4 * SILENCE)).expect("timeout");
    end.read(&mut [0; 8]).expect_err("nothing comes, and it does not end in order").kind()
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

/// A connection to port 8000, by the peer or the pod, from that port.
fn connect(peer: &Peer, way: Direction, family: usize, port: u16) -> (TcpStream, TcpStream) {
    let (from, to) = ends(way, family, port);
    let listener = match way {
        Direction::Ingress => TcpListener::bind(to).expect("listen"),
        Direction::Egress => peer.listen(to.ip(), to.port()),
    };
    let client = match way {
        Direction::Ingress => peer.run(move || dial_from(from, to, 0)),
        Direction::Egress => dial_from(from, to, 0),
    };
    (client.expect("allowed"), accept(&listener).expect("arrives").0)
}

fn ends(way: Direction, family: usize, port: u16) -> (SocketAddr, SocketAddr) {
    let (pod, there) = (POD[family], PEER[family]);
    match way {
        Direction::Ingress => (at(there, port), at(pod, 8000)),
        Direction::Egress => (at(pod, port), at(there, 8000)),
    }
}

#[test]
fn both_ends_of_what_has_to_be_inspected_now_are_told_at_once_and_may_come_again() {
    let name = "ended::both_ends_of_what_has_to_be_inspected_now_are_told_at_once_and_may_come_again";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let inspector = Inspector::start(Sockets::new(firewall.marks(), LocalLeg::ClientAddress));
        for way in Direction::BOTH {
            for family in [0, 1] {
                let port = 45_000;
                firewall.apply(&both_ways(What::Allow).judge()).expect("applied");
                let (mut client, mut server) = connect(&peer, way, family, port);
                talk(&mut client, &mut server).expect("both ways");
                firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
                let ends = [told(&mut client), told(&mut server)];
                assert!(ends.into_iter().all(is_end), "{way} {}: {ends:?}", POD[family]);
                let denied = firewall.denials().expect("dump").edges;
                let reasons: Vec<_> = denied
                    .iter()
                    .map(|edge| {
                        (edge.direction, edge.answer.as_ref().expect("known").answers.enforced.reason)
                    })
                    .collect();
                assert_eq!(reasons, [(way, Reason::TierChanged)]);
                drop((client, server));
                let (mut client, mut server) = connect(&peer, way, family, port);
                talk(&mut client, &mut server).expect("from the same port");
                assert_eq!(inspector.next().expect("captured").direction, way);
            }
        }
    });
}

#[test]
fn a_port_whose_connection_was_reset_can_be_used_again_after_a_change_to_inspection() {
    let name = "ended::a_port_whose_connection_was_reset_can_be_used_again_after_a_change_to_inspection";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let _inspector = Inspector::start(Sockets::new(firewall.marks(), LocalLeg::ClientAddress));
        for way in Direction::BOTH {
            for family in [0, 1] {
                firewall.apply(&both_ways(What::Allow).judge()).expect("applied");
                let (mut client, server) = connect(&peer, way, family, 45_001);
                SockRef::from(&server).set_linger(Some(Duration::ZERO)).expect("an option");
                drop(server);
                assert!(is_end(told(&mut client)));
                drop(client);
                firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
                let (mut client, mut server) = connect(&peer, way, family, 45_001);
                talk(&mut client, &mut server).expect("through the inspector");
            }
        }
    });
}

#[test]
fn who_gets_the_port_of_a_leg_that_was_reset_connects_by_the_second_try() {
    let name = "ended::who_gets_the_port_of_a_leg_that_was_reset_connects_by_the_second_try";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let _inspector = Inspector::start(Sockets::new(firewall.marks(), LocalLeg::ClientAddress));
        firewall.apply(&both_ways(What::Inspect).judge()).expect("applied");
        for family in [0, 1] {
            let (from, to) = ends(Direction::Egress, family, 45_004);
            let server = peer.listen(to.ip(), to.port());
            let mark = firewall.marks().upstream;
            reset(as_user(sidecar_uid(), || dial_from(from, to, mark)).expect("our own leg"), &server);
            let app = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
            app.bind(&from.into()).expect("the port is free");
            // The first packet is taken for one of the leg; the kernel sends another after a second.
            app.connect_timeout(&to.into(), 5 * SILENCE).expect("captured");
            talk(&mut app.into(), &mut accept(&server).expect("arrives").0).expect("through the inspector");
        }
    });
}

#[test]
fn a_connection_that_the_kernel_has_forgotten_is_judged_again_when_who_opened_it_speaks() {
    let name = "ended::a_connection_that_the_kernel_has_forgotten_is_judged_again_when_who_opened_it_speaks";
    in_own_network(name, &["conntrack"], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let _inspector = Inspector::start(Sockets::new(firewall.marks(), LocalLeg::ClientAddress));
        for (what, port) in [(What::Allow, 45_005), (What::Inspect, 45_006)] {
            for (way, family) in [(Direction::Ingress, 0), (Direction::Egress, 1)] {
                firewall.apply(&both_ways(what).judge()).expect("applied");
                let (mut client, mut server) = connect(&peer, way, family, port);
                talk(&mut client, &mut server).expect("both ways");
                run("conntrack", &["-F"]);
                talk(&mut client, &mut server).expect("it is allowed, and goes where it went");
                firewall.apply(&Rules::new().judge()).expect("applied");
                run("conntrack", &["-F"]);
                client.set_read_timeout(Some(SILENCE)).expect("timeout");
                server.set_read_timeout(Some(SILENCE)).expect("timeout");
                let _ = client.write_all(b"late");
                assert!(!matches!(server.read(&mut [0; 4]), Ok(length) if length > 0), "it is denied");
            }
        }
    });
}

#[test]
fn a_conversation_that_one_side_has_closed_is_remembered_as_long_as_an_open_one() {
    let name = "ended::a_conversation_that_one_side_has_closed_is_remembered_as_long_as_an_open_one";
    in_own_network(name, &["conntrack"], || {
        let peer = Peer::connect();
        let mut firewall = open();
        for (what, port) in [(What::Allow, 45_002), (What::Inspect, 45_003)] {
            firewall.apply(&both_ways(what).judge()).expect("applied");
            let _inspector = Inspector::start(Sockets::new(firewall.marks(), LocalLeg::ClientAddress));
            for (way, family) in [(Direction::Ingress, 0), (Direction::Egress, 1)] {
                let (mut client, mut server) = connect(&peer, way, family, port);
                talk(&mut client, &mut server).expect("both ways");
                assert!(days_left(family, port, "ESTABLISHED") >= 4, "nearly five");
                client.shutdown(Shutdown::Write).expect("half of it");
                assert_eq!(server.read(&mut [0; 8]).expect("the end"), 0);
                assert!(days_left(family, port, "CLOSE_WAIT") >= 4);
            }
        }
    });
}

/// How long the connection from that port would be remembered in silence, once it is in that state: the end of one side is
/// acknowledged after a moment.
fn days_left(family: usize, port: u16, state: &str) -> u64 {
    let family = ["ipv4", "ipv6"][family];
    let deadline = Instant::now() + 4 * SILENCE;
    loop {
        let port = port.to_string();
        let list = run("conntrack", &["-L", "-f", family, "-p", "tcp", "--orig-port-src", &port]);
        let words: Vec<&str> = list.split_whitespace().collect();
        if words.get(3) == Some(&state) {
            return words[2].parse::<u64>().expect("seconds") / 86_400;
        }
        assert!(Instant::now() < deadline, "{state}: {list}");
    }
}

//! What passes before there is a program, and what a program then opens.

use crate::network::{
    OTHER_PEER, PEER, POD, Peer, accept, datagram_arrives, dial, echo_answered, talk, with_timeout,
};
use crate::program::{Rules, What};
use crate::support::{in_own_network, ip, raw_socket};
use crate::{at, open};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_netfilter::{Connection, Table};
use bulkhead_proxy::firewall::{TableState, missing_kernel_option};
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};

/// What arrives, of TCP, UDP and echo requests, out and in.
fn arriving(peer: &Peer, family: usize) -> Vec<&'static str> {
    let (pod, other) = (POD[family], PEER[family]);
    let mut arriving = Vec::new();
    let mut note = |what, arrives| arriving.extend(if arrives { Some(what) } else { None });
    let _server = peer.listen(other, 8000);
    note("tcp out", dial(at(other, 8000)).is_ok());
    let _app = TcpListener::bind(at(pod, 8000)).expect("listen");
    note("tcp in", peer.dial(at(pod, 8000)).is_ok());
    let app = with_timeout(UdpSocket::bind(at(pod, 8001)).expect("bind"));
    let server = peer.udp(other, 8001);
    note("udp out", datagram_arrives(&app, &server));
    note("udp in", datagram_arrives(&server, &app));
    let protocol = if pod.is_ipv4() { 1 } else { 58 };
    let raw = with_timeout(raw_socket(pod.is_ipv4(), protocol).expect("raw socket"));
    note("echo out", echo_answered(&raw, other));
    let pinged = peer.run(move || {
        echo_answered(&with_timeout(raw_socket(pod.is_ipv4(), protocol).expect("raw socket")), pod)
    });
    note("echo in", pinged);
    arriving
}

const ALL: [&str; 6] = ["tcp out", "tcp in", "udp out", "udp in", "echo out", "echo in"];

#[test]
fn the_closed_table_denies_both_directions_in_both_families() {
    in_own_network("closed::the_closed_table_denies_both_directions_in_both_families", &[], || {
        let peer = Peer::connect();
        for family in [0, 1] {
            assert_eq!(arriving(&peer, family), ALL, "without a table everything must arrive");
        }
        let _firewall = open();
        for family in [0, 1] {
            assert_eq!(arriving(&peer, family), Vec::<&str>::new(), "{}", POD[family]);
        }
    });
}

#[test]
fn a_program_opens_exactly_what_it_names() {
    in_own_network("closed::a_program_opens_exactly_what_it_names", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let mut rules = Rules::new();
        for direction in Direction::BOTH {
            rules = rules
                .tcp(What::Allow, direction, &PEER, 8000)
                .rule(What::Allow, direction, &PEER, L4Protocol::UDP, 8001)
                .rule(What::Allow, direction, &PEER, L4Protocol::ICMP, 0)
                .rule(What::Allow, direction, &PEER, L4Protocol::ICMPV6, 0);
        }
        firewall.apply(&rules.judge()).expect("applied");
        for family in [0, 1] {
            assert_eq!(arriving(&peer, family), ALL, "{}", POD[family]);
            let _app = TcpListener::bind(at(POD[family], 8000)).expect("listen");
            assert!(peer.dial_from(OTHER_PEER[family], at(POD[family], 8000)).is_err());
            assert!(peer.dial(at(POD[family], 8000)).is_ok());
            let _other_port = TcpListener::bind(at(POD[family], 8002)).expect("listen");
            assert!(peer.dial(at(POD[family], 8002)).is_err());
            let _there = peer.listen(OTHER_PEER[family], 8000);
            assert!(dial(at(OTHER_PEER[family], 8000)).is_err());
        }
    });
}

#[test]
fn a_denied_app_is_told_at_once_and_a_denied_peer_not_at_all() {
    in_own_network("closed::a_denied_app_is_told_at_once_and_a_denied_peer_not_at_all", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall
            .apply(&Rules::new().tcp(What::Deny, Direction::Egress, &PEER, 8000).judge())
            .expect("applied");
        for family in [0, 1] {
            let _server = peer.listen(PEER[family], 8000);
            for port in [8000, 8001] {
                let error = dial(at(PEER[family], port)).expect_err("denied");
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            }
            let app = with_timeout(UdpSocket::bind(at(POD[family], 0)).expect("bind"));
            app.connect(at(PEER[family], 8001)).expect("connect");
            let sent = app.send(b"x");
            let told = sent.and_then(|_| app.recv(&mut [0; 8]));
            let error = told.expect_err("denied");
            assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");

            let _app = TcpListener::bind(at(POD[family], 8000)).expect("listen");
            let error = peer.dial(at(POD[family], 8000)).expect_err("denied");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        }
    });
}

#[test]
fn loopback_and_the_pods_own_address_are_free() {
    in_own_network("closed::loopback_and_the_pods_own_address_are_free", &[], || {
        let _peer = Peer::connect();
        let _firewall = open();
        for address in ["127.0.0.1", "::1"].map(|a| a.parse().expect("address")).into_iter().chain(POD) {
            let app = TcpListener::bind(at(address, 0)).expect("listen");
            let mut client = dial(app.local_addr().expect("address")).expect("free");
            let (mut server, _) = accept(&app).expect("arrives");
            talk(&mut client, &mut server).expect("free");
        }
    });
}

#[test]
fn a_pod_that_is_an_open_router_forwards_nothing() {
    in_own_network("closed::a_pod_that_is_an_open_router_forwards_nothing", &[], || {
        let peer = Peer::connect();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwarding");
        ip("link add back type veth peer name end");
        ip("link set end up");
        ip("addr add 10.1.0.1/24 dev back");
        ip("link set back up");
        let mut firewall = open();
        firewall
            .apply(&Rules::new().tcp(What::Allow, Direction::Ingress, &PEER, 80).judge())
            .expect("applied");
        peer.run(|| ip("route add 10.1.0.0/24 via 10.0.0.7"));
        let sent = peer.run(|| UdpSocket::bind("10.0.0.9:0").and_then(|s| s.send_to(b"x", "10.1.0.9:9")));
        assert!(sent.is_ok());
        let error = peer.dial(at("10.1.0.9".parse().expect("address"), 80)).expect_err("not forwarded");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        let denials = firewall.denials().expect("dump");
        assert_eq!(denials.edges.iter().filter(|edge| edge.peer == PEER[0]).count(), 2, "{denials:?}");
    });
}

#[test]
fn a_kernel_that_takes_the_table_takes_every_probe_and_keeps_none() {
    in_own_network("closed::a_kernel_that_takes_the_table_takes_every_probe_and_keeps_none", &[], || {
        let _peer = Peer::connect();
        let mut firewall = open();
        assert_eq!(missing_kernel_option().expect("asked"), None);
        let mut connection = Connection::open().expect("socket");
        for table in [Table::inet("bulkhead_probe"), Table::netdev("bulkhead_probe")] {
            assert!(!connection.table_exists(&table).expect("asked"));
        }
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
    });
}

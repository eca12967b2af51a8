//! What the table tells: denials counted exactly, packets logged with their sender, connections with their bytes.

use crate::network::{OTHER_PEER, PEER, POD, Peer, accept, dial, talk, with_timeout};
use crate::program::{Rules, What};
use crate::support::{as_root, as_user, in_own_network, ip, run};
use crate::{at, open, open_with, options, sidecar_uid};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_proxy::firewall::{Class, FirewallOptions, Infrastructure, KernelFlow};
use bulkhead_proxy::intercept::{LocalLeg, Sockets};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

#[test]
fn a_flood_hides_no_target() {
    in_own_network("reports::a_flood_hides_no_target", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall.apply(&Rules::new().judge()).expect("applied");
        peer.run(|| {
            let socket = UdpSocket::bind(at(PEER[0], 0)).expect("bind");
            for _ in 0..2_000 {
                socket.send_to(b"decoy", at(POD[0], 9)).expect("sent");
            }
            for port in 7_000..7_005 {
                socket.send_to(b"target", at(POD[0], port)).expect("sent");
            }
        });
        let denials = firewall.denials().expect("dump");
        let packets =
            |port| denials.edges.iter().find(|e| e.port == port).map(|e| (e.peer, e.protocol, e.packets));
        assert_eq!(packets(9), Some((PEER[0], L4Protocol::UDP, 2_000)));
        for port in 7_000..7_005 {
            assert_eq!(packets(port), Some((PEER[0], L4Protocol::UDP, 1)));
        }
        assert_eq!(firewall.denials().expect("dump").edges.len(), 0, "nothing new since");
        peer.run(|| UdpSocket::bind(at(PEER[0], 0)).and_then(|s| s.send_to(b"x", at(POD[0], 9))))
            .expect("sent");
        assert_eq!(firewall.denials().expect("dump").edges[0].packets, 1);
    });
}

#[test]
fn a_full_set_is_told() {
    in_own_network("reports::a_full_set_is_told", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall.apply(&Rules::new().judge()).expect("applied");
        peer.run(|| {
            let socket = UdpSocket::bind(at(PEER[0], 0)).expect("bind");
            for port in 1..=5_000 {
                socket.send_to(b"scan", at(POD[0], port)).expect("sent");
            }
        });
        let denials = firewall.denials().expect("dump");
        let counted: u64 = denials.edges.iter().map(|edge| edge.packets).sum();
        assert!(denials.overflowed > 0);
        assert_eq!(counted + denials.overflowed, 5_000);
    });
}

#[test]
fn a_denied_packet_is_logged_with_its_rule_and_sender() {
    in_own_network("reports::a_denied_packet_is_logged_with_its_rule_and_sender", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall
            .apply(&Rules::new().tcp(What::Deny, Direction::Egress, &PEER, 8000).judge())
            .expect("applied");
        let mut reader = firewall.denial_reader().expect("reader");
        let uid = if as_root() { 4321 } else { 0 };
        for family in [0, 1] {
            assert!(as_user(uid, || dial(at(PEER[family], 8000))).is_err());
            let logged = reader.read().expect("read");
            let packet = logged.packets.first().expect("logged");
            assert_eq!(
                (packet.direction, packet.peer, packet.local),
                (Direction::Egress, PEER[family], POD[family])
            );
            assert_eq!((packet.port, packet.sender_uid), (8000, Some(uid)));
            assert!(packet.source_port.is_some() && logged.lost == 0);
            let answer = packet.answer.as_ref().expect("known");
            let rule = answer.answers.enforced.rule.expect("the rule that denies");
            assert_eq!(answer.judge.as_ref().expect("known").rule(rule).rule, "rule-1");

            let from = peer.run(move || {
                let socket = UdpSocket::bind(at(PEER[family], 0)).expect("bind");
                socket.send_to(b"x", at(POD[family], 53)).expect("sent");
                socket.local_addr().expect("address")
            });
            let packet = reader.read().expect("read").packets.remove(0);
            assert_eq!((packet.direction, packet.peer, packet.port), (Direction::Ingress, from.ip(), 53));
            assert_eq!((packet.source_port, packet.sender_uid), (Some(from.port()), None));
        }
        assert_eq!(reader.read().expect("read").packets.len(), 0, "and no noise");
    });
}

/// The next connection to that port that is told to have ended.
fn ended(reader: &mut bulkhead_proxy::firewall::FlowReader, port: u16, wait: Duration) -> Option<KernelFlow> {
    let deadline = Instant::now() + wait;
    while Instant::now() < deadline {
        let found = reader.read().expect("read").flows.into_iter().find(|flow| flow.port == port);
        if found.is_some() {
            return found;
        }
    }
    None
}

#[test]
fn connections_of_the_kernel_are_told_with_rule_and_bytes() {
    in_own_network("reports::connections_of_the_kernel_are_told_with_rule_and_bytes", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let mut reader = firewall.flow_reader().expect("reader");
        let rules = Rules::new().tcp(What::Allow, Direction::Ingress, &PEER, 8000);
        let generation = firewall.apply(&rules.judge()).expect("applied").generation;
        firewall.verify().expect("learns the addresses");
        let app = TcpListener::bind(at(POD[0], 8000)).expect("listen");
        let mut client = peer.dial(at(POD[0], 8000)).expect("allowed");
        let mut server = accept(&app).expect("arrives").0;
        let opened = firewall.flows().expect("dump");
        assert_eq!(opened.len(), 1);
        let flow = &opened[0];
        let mark = flow.mark.expect("marked");
        assert_eq!(
            (flow.direction, flow.peer, mark.class),
            (Direction::Ingress, PEER[0], Class::KernelAllow)
        );
        assert_eq!((mark.generation, mark.answer.0), (generation, 1));
        talk(&mut client, &mut server).expect("allowed");
        let dumped: Vec<KernelFlow> = firewall.flows().expect("dump");
        assert_eq!((dumped.len(), dumped[0].id), (1, flow.id));
        assert!(dumped[0].bytes_to_destination > 4 && dumped[0].bytes_to_source > 4, "{dumped:?}");
        drop((client, server));
        let flow = ended(&mut reader, 8000, Duration::from_secs(90)).expect("told");
        assert!(flow.packets_to_destination >= 4 && flow.bytes_to_source >= dumped[0].bytes_to_source);
    });
}

#[test]
fn lost_events_are_told_and_the_dump_has_what_they_would_have() {
    in_own_network(
        "reports::lost_events_are_told_and_the_dump_has_what_they_would_have",
        &["conntrack"],
        || {
            const FLOWS: u16 = 40_000;
            let peer = Peer::connect();
            let mut firewall = open();
            let mut reader = firewall.flow_reader().expect("reader");
            let rules = Rules::new().rule(What::Allow, Direction::Ingress, &PEER, L4Protocol::UDP, 53);
            firewall.apply(&rules.judge()).expect("applied");
            firewall.verify().expect("learns the addresses");
            let _app = UdpSocket::bind(at(POD[0], 53)).expect("bind");
            peer.run(|| {
                for port in 2_000..2_000 + FLOWS {
                    let socket = UdpSocket::bind(at(PEER[0], port)).expect("bind");
                    socket.send_to(b"x", at(POD[0], 53)).expect("sent");
                }
            });
            assert_eq!(firewall.flows().expect("dump").len(), usize::from(FLOWS), "the dump has all");
            // Nobody reads meanwhile: the kernel has no room for so many events.
            run("conntrack", &["-F"]);
            let mut told = 0;
            let overrun = loop {
                let read = reader.read().expect("an overrun is no failure");
                told += read.flows.len();
                if read.overrun || read.flows.is_empty() {
                    break read.overrun;
                }
            };
            assert!(overrun, "{told} events were told, none was lost");
            // And the reader goes on: what is left of the old, then what is new.
            while !reader.read().expect("read").flows.is_empty() {}
            peer.run(|| UdpSocket::bind(at(PEER[0], 1_999)).and_then(|s| s.send_to(b"x", at(POD[0], 53))))
                .expect("sent");
            run("conntrack", &["-F"]);
            assert!(ended(&mut reader, 53, Duration::from_secs(2)).is_some());
        },
    );
}

#[test]
fn programs_are_forgotten_when_their_last_flow_is_gone() {
    in_own_network("reports::programs_are_forgotten_when_their_last_flow_is_gone", &["conntrack"], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let rules = || Rules::new().rule(What::Allow, Direction::Ingress, &OTHER_PEER, L4Protocol::UDP, 53);
        let old = firewall.apply(&rules().judge()).expect("applied").generation;
        let app = with_timeout(UdpSocket::bind(at(POD[0], 53)).expect("bind"));
        assert!(crate::network::datagram_arrives(&peer.udp(OTHER_PEER[0], 1_000), &app));
        let more = rules().rule(What::Allow, Direction::Ingress, &OTHER_PEER, L4Protocol::UDP, 54);
        firewall.apply(&more.judge()).expect("applied");
        firewall.forget_replaced_programs().expect("dump");
        assert!(firewall.answers().judge(old).is_some(), "a flow still carries its mark");
        run("conntrack", &["-D", "-p", "udp"]);
        firewall.forget_replaced_programs().expect("dump");
        assert!(firewall.answers().judge(old).is_none());
    });
}

/// What each infrastructure rule lets pass, as the peer and the pod see it: IPv6 at all, the administrative port from the
/// peer, DHCP in both families.
fn infrastructure_passes(peer: &Peer, infrastructure: Infrastructure) -> [bool; 3] {
    let admin_peers = PEER.to_vec();
    let mut firewall = open_with(FirewallOptions { infrastructure, admin_peers, ..options() });
    firewall.apply(&Rules::new().tcp(What::Allow, Direction::Egress, &PEER, 8000).judge()).expect("applied");
    ip("-6 neigh flush dev eth0");
    let discovered = dial(at(PEER[1], 8000)).is_ok();
    let runtime = crate::inspector::runtime();
    let sockets = Sockets::new(firewall.marks(), LocalLeg::ClientAddress);
    let listen = || runtime.block_on(async { sockets.listen_admin(15020).expect("listen") });
    let admin = as_user(sidecar_uid(), listen);
    let administered = peer.dial(at(POD[0], 15020)).is_ok();
    drop(admin);
    let leased = [(68, 67), (546, 547)].into_iter().enumerate().all(|(family, (client, server))| {
        let here = with_timeout(UdpSocket::bind(at(POD[family], client)).expect("bind"));
        let there = peer.udp(PEER[family], server);
        crate::network::datagram_arrives(&here, &there) && crate::network::datagram_arrives(&there, &here)
    });
    [discovered, administered, leased]
}

#[test]
fn each_rule_of_the_infrastructure_can_be_switched_off() {
    in_own_network("reports::each_rule_of_the_infrastructure_can_be_switched_off", &[], || {
        let peer = Peer::connect();
        let _servers = PEER.map(|address| peer.listen(address, 8000));
        let default = Infrastructure::default();
        assert_eq!(infrastructure_passes(&peer, default), [true, true, false]);
        let with_dhcp = Infrastructure { dhcp: true, ..default };
        assert_eq!(infrastructure_passes(&peer, with_dhcp), [true, true, true]);
        let no_port = Infrastructure { administrative_port: false, ..with_dhcp };
        assert_eq!(infrastructure_passes(&peer, no_port), [true, false, true]);
        // Without discovery the second family has no neighbour, so no lease either.
        let undiscovered = Infrastructure { neighbour_discovery: false, ..with_dhcp };
        assert_eq!(infrastructure_passes(&peer, undiscovered), [false, true, false]);
    });
}

/// A message of ICMPv6 to a group of the link; the kernel writes its checksum.
fn say_to_link(message: &[u8], group: u16, hops: u32) -> std::io::Result<usize> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_multicast_hops_v6(hops)?;
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, group);
    socket.send_to(message, &SocketAddrV6::new(group, 0, 0, device()).into())
}

/// The index of the link; both ends have one.
fn device() -> u32 {
    let link = run("ip", &["-o", "link", "show", "eth0"]);
    link.split(':').next().and_then(|index| index.parse().ok()).expect("an index")
}

#[test]
fn routers_and_groups_of_the_link_are_heard_and_answered_where_somebody_asked_for_it() {
    let name = "reports::routers_and_groups_of_the_link_are_heard_and_answered_where_somebody_asked_for_it";
    in_own_network(name, &[], || {
        const ANNOUNCEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0];
        const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
        let peer = Peer::connect();
        for asked_for in [false, true] {
            let infrastructure = Infrastructure {
                router_discovery: asked_for,
                multicast_listeners: asked_for,
                ..Infrastructure::default()
            };
            let mut firewall = open_with(FirewallOptions { infrastructure, ..options() });
            firewall
                .apply(&Rules::new().tcp(What::Allow, Direction::Egress, &PEER, 8000).judge())
                .expect("applied");
            peer.run(|| say_to_link(&ANNOUNCEMENT, 1, 255)).expect("sent");
            let _ = say_to_link(&SOLICITATION, 2, 255);
            let socket = UdpSocket::bind("[::]:0").expect("bind");
            socket.join_multicast_v6(&"ff02::4242".parse().expect("a group"), device()).expect("joined");
            let expected = match asked_for {
                true => {
                    ["router discovery in", "router discovery by a program out", "multicast listeners out"]
                }
                false => ["link noise in", "link noise out", "link noise out"],
            };
            let deadline = Instant::now() + 5 * crate::network::SILENCE;
            let mut seen = BTreeSet::new();
            while !expected.iter().all(|name| seen.contains(*name)) {
                assert!(Instant::now() < deadline, "{expected:?} of {seen:?}");
                let counters = firewall.counters().expect("dump").into_iter();
                seen = counters.filter(|counter| counter.packets > 0).map(|counter| counter.name).collect();
            }
        }
    });
}

#[test]
fn what_the_infrastructure_needs_is_counted_by_name() {
    in_own_network("reports::what_the_infrastructure_needs_is_counted_by_name", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall
            .apply(&Rules::new().tcp(What::Allow, Direction::Ingress, &PEER, 8000).judge())
            .expect("applied");
        let _app = TcpListener::bind(at(POD[1], 8000)).expect("listen");
        assert!(peer.dial(at(POD[1], 8000)).is_ok());
        assert!(dial(at(PEER[1], 8000)).is_err());
        let counters = firewall.counters().expect("dump");
        let packets =
            |name: &str| counters.iter().find(|counter| counter.name == name).map(|counter| counter.packets);
        for name in ["neighbour discovery in", "neighbour discovery out", "admitted ingress", "denied egress"]
        {
            assert!(packets(name) > Some(0), "{name}: {counters:?}");
        }
        assert_eq!((packets("forwarded"), packets("frame stopped")), (Some(0), Some(0)));
    });
}

#[test]
fn how_full_the_list_of_connections_is_can_be_asked() {
    in_own_network("reports::how_full_the_list_of_connections_is_can_be_asked", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall
            .apply(&Rules::new().tcp(What::Allow, Direction::Egress, &PEER, 8000).judge())
            .expect("applied");
        let before = firewall.fullness().expect("asked");
        let _servers = PEER.map(|address| peer.listen(address, 8000));
        let _open = PEER.map(|address| dial(at(address, 8000)).expect("allowed"));
        let after = firewall.fullness().expect("asked");
        assert_eq!((after.tracked, after.most), (before.tracked + 2, before.most));
        let most = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").expect("a setting");
        assert_eq!(most.trim(), after.most.to_string());
    });
}

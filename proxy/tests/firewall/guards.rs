//! What an app or a peer may try against the table itself.

use crate::network::{
    OTHER_PEER, PEER, POD, Peer, SILENCE, accept, datagram_arrives, dial, dial_from, reset, with_timeout,
};
use crate::program::{Rules, What};
use crate::support::{
    as_root, as_user, bind_v4, in_own_network, ip, raw_socket, run, send_frame, set_mark, set_transparent,
    skipped, unbound_udp,
};
use crate::{at, open, open_with, options, sidecar_uid};
use bulkhead_facts::{Direction, L4Protocol, Reason};
use bulkhead_proxy::firewall::{
    Capability, Firewall, FirewallOptions, INBOUND_PORT, OUTBOUND_PORT, Recognition,
};
use bulkhead_proxy::intercept::{LocalLeg, Sockets};
use socket2::{Domain, Socket, Type};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;

/// Connects with a mark on the socket, as `uid`.
fn dial_marked(uid: u32, mark: u32, to: SocketAddr) -> bool {
    let runtime = crate::inspector::runtime();
    as_user(uid, || {
        runtime.block_on(async {
            let socket = match to.is_ipv4() {
                true => tokio::net::TcpSocket::new_v4(),
                false => tokio::net::TcpSocket::new_v6(),
            };
            let socket = socket.expect("a socket");
            set_mark(&socket, mark).expect("may mark");
            tokio::time::timeout(SILENCE, socket.connect(to)).await.is_ok_and(|result| result.is_ok())
        })
    })
}

#[test]
fn a_mark_without_the_user_opens_nothing() {
    if !as_root() {
        return skipped("guards::a_mark_without_the_user_opens_nothing", "needs root: a second user");
    }
    in_own_network("guards::a_mark_without_the_user_opens_nothing", &[], || {
        let peer = Peer::connect();
        let controller = at(PEER[0], 9443);
        let options = FirewallOptions { controller: Some(controller), ..options() };
        let mut firewall = open_with(options);
        let rules = Rules::new().tcp(What::Inspect, Direction::Egress, &PEER, 8000);
        firewall.apply(&rules.judge()).expect("applied");
        let _servers = [peer.listen(PEER[0], 9443), peer.listen(PEER[0], 8000)];
        let marks = firewall.marks();
        assert!(dial_marked(sidecar_uid(), marks.upstream, controller), "the sidecar itself");
        assert!(dial_marked(sidecar_uid(), marks.upstream, at(PEER[0], 8000)), "the sidecar itself");
        for to in [controller, at(PEER[0], 8000)] {
            assert!(!dial_marked(4321, marks.upstream, to), "{to}: the mark of a thief");
            assert!(!dial_marked(sidecar_uid(), 0, to), "{to}: the user without the mark");
            assert!(!dial_marked(sidecar_uid(), marks.local_leg, to), "{to}: the mark of the other leg");
            assert!(!dial_marked(4321, marks.passed, to), "{to}: the mark of frames");
        }
    });
}

/// A group of version 2 that this process moves to; the system's own afterwards.
struct OwnGroup {
    above: PathBuf,
    folder: PathBuf,
}

impl OwnGroup {
    fn enter() -> Option<Self> {
        let above = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        let above = above.into_iter().find(|folder| folder.join("cgroup.controllers").is_file())?;
        let folder = above.join(format!("bulkhead-test-{}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        let group = Self { above, folder };
        std::fs::write(group.folder.join("cgroup.procs"), "0").ok()?;
        Some(group)
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        let _ = std::fs::write(self.above.join("cgroup.procs"), "0");
        let _ = std::fs::remove_dir(&self.folder);
    }
}

#[test]
fn with_a_group_of_its_own_even_mark_and_user_do_not_make_a_sidecar() {
    let name = "guards::with_a_group_of_its_own_even_mark_and_user_do_not_make_a_sidecar";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let controller = at(PEER[0], 9443);
        let _server = peer.listen(PEER[0], 9443);
        let runtime = crate::inspector::runtime();
        let socket =
            || as_user(sidecar_uid(), || runtime.block_on(async { tokio::net::TcpSocket::new_v4() }));
        // A socket belongs to the group of its program at the time when it is made.
        let (one, other) = (socket().expect("a socket"), socket().expect("a socket"));
        let dial = |socket: tokio::net::TcpSocket, mark: u32| {
            set_mark(&socket, mark).expect("may mark");
            runtime.block_on(async {
                let connected = tokio::time::timeout(SILENCE, socket.connect(controller)).await;
                connected.is_ok_and(|result| result.is_ok())
            })
        };
        let options = FirewallOptions { controller: Some(controller), ..options() };
        let Some(_group) = OwnGroup::enter() else {
            return skipped(name, "needs a hierarchy of control groups of version 2 that may be written");
        };
        let firewall = open_with(options.clone());
        assert_eq!(firewall.recognition(), Recognition::ControlGroup);
        assert!(dial(socket().expect("a socket"), firewall.marks().upstream), "the sidecar itself");
        assert!(!dial(one, firewall.marks().upstream), "its mark and user, and another group");
        drop(firewall);

        let mut company = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let firewall = open_with(options);
        let recognition = firewall.recognition();
        let known = dial(other, firewall.marks().upstream);
        company.kill().expect("kill");
        company.wait().expect("wait");
        assert!(
            recognition != Recognition::ControlGroup && known,
            "a group with others in it tells nobody apart"
        );
    });
}

#[test]
fn a_process_that_the_table_does_not_know_for_the_sidecar_does_not_start() {
    in_own_network(
        "guards::a_process_that_the_table_does_not_know_for_the_sidecar_does_not_start",
        &[],
        || {
            let options = FirewallOptions { sidecar_uid: 4321, ..options() };
            let error = Firewall::open(options).expect_err("another user");
            assert!(error.to_string().contains("run it as user 4321"), "{error}");
        },
    );
}

#[test]
fn where_nothing_can_be_handed_over_addresses_and_ports_are_held_and_the_rest_is_denied() {
    let name = "guards::where_nothing_can_be_handed_over_addresses_and_ports_are_held_and_the_rest_is_denied";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let mut firewall = open_with(FirewallOptions { hands_over: false, ..options() });
        assert_eq!(firewall.capability(), Capability::L4Only);
        let rules = Rules::new()
            .tcp(What::Allow, Direction::Ingress, &PEER, 8000)
            .tcp(What::Inspect, Direction::Ingress, &PEER, 8080)
            .tcp(What::Learn, Direction::Ingress, &PEER, 8081);
        firewall.apply(&rules.judge()).expect("applied");
        firewall.heartbeat().expect("beats");
        for family in [0, 1] {
            let _apps = [8000, 8080, 8081, 8082]
                .map(|port| TcpListener::bind(at(POD[family], port)).expect("listen"));
            let reached = [8000, 8080, 8081, 8082].map(|port| peer.dial(at(POD[family], port)).is_ok());
            assert_eq!(reached, [true, false, true, false], "{}", POD[family]);
        }
        assert_eq!(firewall.verify().expect("compared"), bulkhead_proxy::firewall::TableState::Intact);
    });
}

#[test]
fn only_the_sidecar_reaches_the_controller_even_before_a_program() {
    in_own_network("guards::only_the_sidecar_reaches_the_controller_even_before_a_program", &[], || {
        let peer = Peer::connect();
        for family in [0, 1] {
            let controller = at(PEER[family], 9443);
            let options = FirewallOptions { controller: Some(controller), ..options() };
            let firewall = open_with(options);
            let _server = peer.listen(PEER[family], 9443);
            assert!(dial_marked(sidecar_uid(), firewall.marks().upstream, controller));
            assert!(dial(controller).is_err(), "the app");
        }
    });
}

#[test]
fn nobody_reaches_the_controller_from_the_port_of_a_stream_that_was_reset() {
    let name = "guards::nobody_reaches_the_controller_from_the_port_of_a_stream_that_was_reset";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        for (pod, address) in POD.into_iter().zip(PEER) {
            let controller = at(address, 9443);
            let firewall = open_with(FirewallOptions { controller: Some(controller), ..options() });
            let server = peer.listen(address, 9443);
            let dial_from = |from, mark| dial_from(from, controller, mark);
            let stream = |from| as_user(sidecar_uid(), || dial_from(from, firewall.marks().upstream));
            let from = reset(stream(at(pod, 0)).expect("the sidecar itself"), &server);
            let from = reset(stream(from).expect("the sidecar again"), &server);
            dial_from(from, 0).expect_err("the app");
        }
    });
}

#[test]
fn only_the_node_reaches_the_administrative_port_without_a_policy() {
    in_own_network("guards::only_the_node_reaches_the_administrative_port_without_a_policy", &[], || {
        let peer = Peer::connect();
        let options = FirewallOptions { admin_peers: OTHER_PEER.to_vec(), ..options() };
        let firewall = open_with(options);
        let runtime = crate::inspector::runtime();
        let sockets = Sockets::new(firewall.marks(), LocalLeg::ClientAddress);
        let listen = || runtime.block_on(async { sockets.listen_admin(15020).expect("listen") });
        let _admin = as_user(sidecar_uid(), listen);
        for family in [0, 1] {
            let _app = TcpListener::bind(at(POD[family], 8000)).expect("listen");
            assert!(peer.dial_from(OTHER_PEER[family], at(POD[family], 15020)).is_ok());
            assert!(peer.dial_from(OTHER_PEER[family], at(POD[family], 8000)).is_err());
            assert!(peer.dial(at(POD[family], 15020)).is_err());
        }
    });
}

#[test]
fn our_listeners_cannot_be_addressed_directly() {
    in_own_network("guards::our_listeners_cannot_be_addressed_directly", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let mut rules = Rules::new();
        for port in [INBOUND_PORT, OUTBOUND_PORT] {
            rules = rules.tcp(What::Allow, Direction::Ingress, &PEER, port);
        }
        firewall.apply(&rules.judge()).expect("applied");
        let inspector =
            crate::inspector::Inspector::start(Sockets::new(firewall.marks(), LocalLeg::ClientAddress));
        for port in [INBOUND_PORT, OUTBOUND_PORT] {
            for family in [0, 1] {
                assert!(peer.dial(at(POD[family], port)).is_err(), "from outside, though a rule allows it");
                assert!(dial(at(POD[family], port)).is_err(), "by the pod's own address");
            }
            for loopback in ["127.0.0.1", "127.0.0.5", "::1"] {
                assert!(dial(at(loopback.parse().expect("address"), port)).is_err(), "{loopback}");
            }
        }
        assert_eq!(inspector.next(), None);
        let denials = firewall.denials().expect("dump").edges;
        let reasons =
            denials.iter().map(|edge| edge.answer.as_ref().expect("a guard").answers.enforced.reason);
        assert!(
            denials.len() >= 8 && reasons.into_iter().all(|reason| reason == Reason::SidecarPort),
            "{denials:?}"
        );
    });
}

#[test]
fn an_app_that_takes_our_port_while_we_are_down_receives_nothing() {
    in_own_network("guards::an_app_that_takes_our_port_while_we_are_down_receives_nothing", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let rules = Rules::new().tcp(What::Inspect, Direction::Ingress, &PEER, 8000);
        firewall.apply(&rules.judge()).expect("applied");
        for family in [0, 1] {
            let thief = TcpListener::bind(at(POD[family], INBOUND_PORT)).expect("the port is free");
            assert!(peer.dial(at(POD[family], 8000)).is_err());
            thief.set_nonblocking(true).expect("option");
            assert!(thief.accept().is_err(), "nothing arrived");
        }
    });
}

/// The kernel hands a first packet that meets the remains of a closed connection to whoever listens now.
#[test]
fn an_app_that_takes_our_port_receives_nobody_whose_last_connection_the_kernel_remembers() {
    let name =
        "guards::an_app_that_takes_our_port_receives_nobody_whose_last_connection_the_kernel_remembers";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let rules = Rules::new().tcp(What::Inspect, Direction::Ingress, &PEER, 8000);
        firewall.apply(&rules.judge()).expect("applied");
        for family in [0, 1] {
            let port = 40_000;
            let (from, to) = (at(PEER[family], port), at(POD[family], 8000));
            let dial = || peer.run(move || dial_from(from, to, 0));
            let listen = |mark| listening(at(POD[family], INBOUND_PORT), mark);
            let ours = listen(firewall.marks().listener);
            for again in [false, true] {
                let mut client = dial().unwrap_or_else(|error| panic!("captured, again {again}: {error}"));
                // Who ends first remembers.
                drop(accept(&ours).expect("captured"));
                assert_eq!(client.read(&mut [0]).expect("the end"), 0);
            }
            drop(ours);
            let thief = listen(0);
            assert!(dial().is_err(), "nobody answers");
            thief.set_nonblocking(true).expect("option");
            assert!(thief.accept().is_err(), "nothing arrived");
        }
    });
}

/// A listener with a mark.
fn listening(address: SocketAddr, mark: u32) -> TcpListener {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    if mark != 0 {
        set_mark(&socket, mark).expect("may mark");
    }
    socket.bind(&address.into()).expect("the port is free");
    socket.listen(16).expect("listens");
    socket.into()
}

#[test]
fn an_app_that_takes_the_administrative_port_while_we_are_down_receives_nothing() {
    in_own_network(
        "guards::an_app_that_takes_the_administrative_port_while_we_are_down_receives_nothing",
        &[],
        || {
            let peer = Peer::connect();
            let options = FirewallOptions { admin_peers: PEER.to_vec(), ..options() };
            let mut firewall = open_with(options);
            firewall
                .apply(&Rules::new().tcp(What::Allow, Direction::Ingress, &PEER, 15020).judge())
                .expect("applied");
            let sockets = Sockets::new(firewall.marks(), LocalLeg::ClientAddress);
            for family in [0, 1] {
                let thief = TcpListener::bind(at(POD[family], 15020)).expect("the port is free");
                assert!(
                    peer.dial(at(POD[family], 15020)).is_err(),
                    "the node's probe, and what a rule allows"
                );
                thief.set_nonblocking(true).expect("option");
                assert!(thief.accept().is_err(), "nothing arrived");
                let runtime = crate::inspector::runtime();
                assert!(runtime.block_on(async { sockets.listen_admin(15020) }).is_err(), "it is taken");
            }
        },
    );
}

#[test]
fn a_reset_of_a_denied_flow_carries_no_payload() {
    in_own_network("guards::a_reset_of_a_denied_flow_carries_no_payload", &[], || {
        let peer = Peer::connect();
        // The sequence numbers of the test's resets are made up.
        for setting in ["tcp_be_liberal", "tcp_ignore_invalid_rst"] {
            std::fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{setting}"), "1")
                .expect("a setting");
        }
        let mut firewall = open();
        for (family, headers) in [(0, 40), (1, 20)] {
            let rules = Rules::new().tcp(What::Allow, Direction::Egress, &PEER, 8000);
            firewall.apply(&rules.judge()).expect("applied");
            let server = peer.listen(PEER[family], 8000);
            let client = dial(at(PEER[family], 8000)).expect("allowed");
            let _open = accept(&server).expect("arrives");
            firewall.apply(&Rules::new().judge()).expect("applied");
            let all = with_timeout(peer.run(move || raw_socket(family == 0, 6).expect("a socket")));
            let port = client.local_addr().expect("address").port();
            let reset = raw_socket(family == 0, 6).expect("a socket");
            let send = |length: u8, payload: &[u8]| {
                let bytes = [&reset_segment(port, length)[..], payload].concat();
                let _ = reset.send_to(&bytes, (PEER[family], 0));
            };
            send(5, b"twenty bytes of data");
            send(5, b"1");
            send(10, b"");
            send(5, b"");
            let mut buffer = [0; 200];
            let (length, _) = all.recv_from(&mut buffer).expect("the bare reset arrives");
            // A raw socket of IPv4 sees the packet's own header as well.
            assert_eq!(length, headers, "and nothing else does: {:?}", &buffer[..length]);
            assert!(all.recv_from(&mut buffer).is_err(), "only once");
        }
    });
}

/// A reset from that port to port 8000, with a header of so many words.
fn reset_segment(port: u16, words: u8) -> Vec<u8> {
    let mut segment = vec![0; usize::from(words) * 4];
    segment[..2].copy_from_slice(&port.to_be_bytes());
    segment[2..4].copy_from_slice(&8000u16.to_be_bytes());
    (segment[7], segment[12], segment[13]) = (1, words << 4, 4);
    segment
}

#[test]
fn a_raw_frame_never_reaches_the_wire() {
    in_own_network("guards::a_raw_frame_never_reaches_the_wire", &[], || {
        let peer = Peer::connect();
        let link = run("ip", &["-o", "link", "show", "eth0"]);
        let device = link.split(':').next().and_then(|index| index.parse().ok()).expect("an index");
        let server = peer.udp(PEER[0], 9000);
        let frame = udp_frame(&peer);
        let mut buffer = [0; 64];
        send_frame(device, &frame).expect("sent");
        assert!(server.recv_from(&mut buffer).is_ok(), "without a table it arrives");
        let mut firewall = open();
        let rules = Rules::new().rule(What::Allow, Direction::Egress, &PEER, L4Protocol::UDP, 9001);
        firewall.apply(&rules.judge()).expect("applied");
        let mut reader = firewall.denial_reader().expect("reader");
        let _ = send_frame(device, &frame);
        assert!(server.recv_from(&mut buffer).is_err(), "stopped");
        let logged = reader.read().expect("read").packets;
        assert!(logged.iter().any(|p| p.is_frame && p.port == 9000 && p.peer == PEER[0]), "{logged:?}");
        let allowed = with_timeout(UdpSocket::bind(at(POD[0], 0)).expect("bind"));
        assert!(datagram_arrives(&allowed, &peer.udp(PEER[0], 9001)), "what the table passed leaves");
    });
}

/// Ethernet, IPv4, UDP from the pod to port 9000 of the peer.
fn udp_frame(peer: &Peer) -> Vec<u8> {
    let address = |text: String| -> Vec<u8> {
        text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
    };
    let of_link = |link: String| {
        let words: Vec<&str> = link.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "link/ether").expect("an Ethernet device");
        address(words[at + 1].to_owned())
    };
    let ours = of_link(run("ip", &["-o", "link", "show", "eth0"]));
    let theirs = of_link(peer.run(|| run("ip", &["-o", "link", "show", "eth0"])));
    let mut ip = vec![0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 7, 10, 0, 0, 9];
    let mut sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    let sum = u16::try_from(sum).expect("folded").to_be_bytes().map(|byte| !byte);
    ip[10..12].copy_from_slice(&sum);
    let udp = [0x0f, 0xa0, 0x23, 0x28, 0, 13, 0, 0, b'f', b'r', b'a', b'm', b'e'];
    [theirs, ours, vec![0x08, 0x00], ip, udp.to_vec()].concat()
}

#[test]
fn a_source_address_that_is_not_the_pods_is_refused() {
    in_own_network("guards::a_source_address_that_is_not_the_pods_is_refused", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let rules = Rules::new().rule(What::Allow, Direction::Egress, &PEER, L4Protocol::UDP, 9000);
        firewall.apply(&rules.judge()).expect("applied");
        let server = peer.udp(PEER[0], 9000);
        let honest = with_timeout(UdpSocket::bind(at(POD[0], 0)).expect("bind"));
        assert!(datagram_arrives(&honest, &server));
        let spoofer = transparent_udp();
        assert!(!datagram_arrives(&spoofer, &server));
        let denials = firewall.denials().expect("dump").edges;
        let reason = denials[0].answer.as_ref().expect("a guard").answers.enforced.reason;
        assert_eq!((denials.len(), reason), (1, Reason::SpoofedSource));
    });
}

fn transparent_udp() -> UdpSocket {
    let socket = unbound_udp().expect("a socket");
    set_transparent(&socket).expect("may");
    bind_v4(&socket, [10, 0, 0, 50].into()).expect("may");
    socket
}

#[test]
fn protocols_without_ports_and_scans_are_denied_and_counted() {
    in_own_network("guards::protocols_without_ports_and_scans_are_denied_and_counted", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall.apply(&Rules::new().judge()).expect("applied");
        // GRE, SCTP and a TCP segment without flags from outside; GRE from the pod.
        let null_scan = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0, 2, 0, 0, 0, 0, 0];
        for (protocol, bytes) in [(47u8, vec![0; 8]), (132, vec![0; 16]), (6, null_scan.to_vec())] {
            peer.run(move || {
                raw_socket(true, protocol).and_then(|s| s.send_to(&bytes, (POD[0], 0))).expect("sent")
            });
        }
        let _ = raw_socket(true, 47).and_then(|s| s.send_to(&[0; 8], (PEER[0], 0)));
        let mut found: Vec<_> = firewall
            .denials()
            .expect("dump")
            .edges
            .iter()
            .map(|edge| (edge.direction, edge.protocol.0, edge.packets))
            .collect();
        found.sort_unstable();
        let expected = [
            (Direction::Ingress, 6, 1),
            (Direction::Ingress, 47, 1),
            (Direction::Ingress, 132, 1),
            (Direction::Egress, 47, 1),
        ];
        assert_eq!(found, expected);
    });
}

#[test]
fn a_loopback_address_on_the_wire_is_refused() {
    in_own_network("guards::a_loopback_address_on_the_wire_is_refused", &[], || {
        let peer = Peer::connect();
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").expect("a weak host");
        let mut firewall = open();
        let rules = Rules::new().tcp(What::Allow, Direction::Ingress, &PEER, 8000);
        firewall.apply(&rules.judge()).expect("applied");
        let _app = TcpListener::bind("127.0.0.1:8000").expect("listen");
        let error = peer.run(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").expect("a weak host");
            ip("addr del 127.0.0.1/8 dev lo");
            ip("route add 127.0.0.1/32 via 10.0.0.7 src 10.0.0.9");
            TcpStream::connect_timeout(&at([127, 0, 0, 1].into(), 8000), SILENCE).is_err()
        });
        assert!(error);
    });
}

//! ICMP beyond echo, and SCTP: errors about an allowed flow arrive, other messages are judged by their type, each packet
//! of a protocol without sockets here by its port.

use crate::inspector::Inspector;
use crate::network::{OTHER_PEER, PEER, POD, Peer, SILENCE, accept, dial, talk, with_timeout};
use crate::program::{Rules, What};
use crate::support::{enter_new_network, in_own_network, ip, raw_socket, skipped};
use crate::{at, open};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_proxy::firewall::Firewall;
use bulkhead_proxy::intercept::{LocalLeg, Sockets};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

/// Behind the peer, on a link that takes smaller packets than the pod's.
const FAR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 3, 0, 2)), IpAddr::V6(Ipv6Addr::new(0xfd03, 0, 0, 0, 0, 0, 0, 2))];
const FAR_PORT: u16 = 8000;
const LARGE: usize = 400_000;

type Job = Box<dyn FnOnce() + Send>;

/// A network behind the peer, which routes to it by a link of 1,300 bytes.
fn connect_far(peer: &Peer) -> Sender<Job> {
    let (jobs, inbox) = channel::<Job>();
    let (ready, started) = channel();
    thread::spawn(move || {
        enter_new_network();
        let thread = std::fs::read_link("/proc/thread-self").expect("proc is mounted");
        ready.send(thread.file_name().expect("a number").to_string_lossy().into_owned()).expect("waiting");
        inbox.into_iter().for_each(|job| job());
    });
    let thread = started.recv().expect("the far network starts");
    peer.run(move || {
        set("ipv4/ip_forward", "1");
        set("ipv6/conf/all/forwarding", "1");
        // Addresses are used at once: nobody asks whether somebody else has them.
        set("ipv6/conf/default/accept_dad", "0");
        ip(&format!("link add wan mtu 1300 type veth peer name eth0 mtu 1500 netns {thread}"));
        ip("addr add 10.3.0.1/24 dev wan");
        ip("addr add fd03::1/64 dev wan nodad");
        ip("link set wan up");
    });
    let (done, is_done) = channel();
    jobs.send(Box::new(move || {
        set("ipv6/conf/eth0/accept_dad", "0");
        for words in [
            "link set lo up",
            "addr add 10.3.0.2/24 dev eth0",
            "addr add fd03::2/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default via 10.3.0.1",
            "route add default via fd03::1",
        ] {
            ip(words);
        }
        done.send(()).expect("waiting");
    }))
    .expect("the far network lives");
    is_done.recv().expect("configured");
    jobs
}

fn set(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).expect("a setting of this network");
}

fn in_far<T: Send + 'static>(far: &Sender<Job>, job: impl FnOnce() -> T + Send + 'static) -> T {
    let (result, answer) = channel();
    far.send(Box::new(move || drop(result.send(job())))).expect("the far network lives");
    answer.recv().expect("it answers")
}

/// True if a lot of bytes goes from one end to the other.
fn carries_much(mut from: TcpStream, mut to: TcpStream) -> bool {
    to.set_read_timeout(Some(10 * SILENCE)).expect("timeout");
    let writer = thread::spawn(move || {
        let _ = from.write_all(&vec![7; LARGE]);
        from
    });
    let mut buffer = vec![0; LARGE];
    let arrived = to.read_exact(&mut buffer).is_ok();
    drop(to);
    drop(writer.join().expect("no panic"));
    arrived
}

#[test]
fn a_smaller_link_on_the_way_is_found_out_in_both_directions_and_families() {
    let name = "messages::a_smaller_link_on_the_way_is_found_out_in_both_directions_and_families";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let far = connect_far(&peer);
        let mut firewall = open();
        for (what, port) in [(What::Allow, FAR_PORT), (What::Inspect, FAR_PORT + 1)] {
            let rules = Rules::both_ways(what, &FAR, L4Protocol::TCP, port);
            firewall.apply(&rules.judge()).expect("applied");
            let _inspector = Inspector::start(Sockets::new(firewall.marks(), LocalLeg::ClientAddress));
            for family in [0, 1] {
                let there = in_far(&far, move || TcpListener::bind(at(FAR[family], port)).expect("listen"));
                let outbound = dial(at(FAR[family], port)).expect("allowed");
                let (server, _) = accept(&there).expect("arrives");
                assert!(carries_much(outbound, server), "out to {}", FAR[family]);

                let app = TcpListener::bind(at(POD[family], port)).expect("listen");
                let inbound =
                    in_far(&far, move || TcpStream::connect_timeout(&at(POD[family], port), 5 * SILENCE));
                let (server, _) = accept(&app).expect("arrives");
                assert!(carries_much(server, inbound.expect("allowed")), "back to {}", FAR[family]);
            }
            // What is known of the way is forgotten, so that the next finds it out.
            ip("route flush cache");
            ip("-6 route flush cache");
        }
        // The router's words were about allowed flows: nothing was denied.
        let denied = firewall.denials().expect("dump").edges;
        assert!(denied.is_empty(), "{denied:?}");
    });
}

#[test]
fn an_allowed_datagram_to_a_closed_port_is_told_of_and_a_denied_one_is_not() {
    let name = "messages::an_allowed_datagram_to_a_closed_port_is_told_of_and_a_denied_one_is_not";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let rules = Rules::both_ways(What::Allow, &PEER, L4Protocol::UDP, 8001);
        firewall.apply(&rules.judge()).expect("applied");
        let told = |to| {
            let socket = with_timeout(UdpSocket::bind(at(unspecified(to), 0)).expect("bind"));
            socket.connect(to).expect("connect");
            socket.send(b"x").expect("sent");
            socket.recv(&mut [0; 8]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        };
        for family in [0, 1] {
            assert!(told(at(PEER[family], 8001)), "the peer's kernel tells the pod");
            assert!(peer.run(move || told(at(POD[family], 8001))), "the pod's kernel tells the peer");
            assert!(!peer.run(move || told(at(POD[family], 8002))), "what is dropped is not told of");
        }
    });
}

#[test]
fn a_datagram_of_many_packets_arrives_in_both_directions() {
    in_own_network("messages::a_datagram_of_many_packets_arrives_in_both_directions", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let rules = Rules::both_ways(What::Allow, &PEER, L4Protocol::UDP, 8001);
        firewall.apply(&rules.judge()).expect("applied");
        for family in [0, 1] {
            let here = with_timeout(UdpSocket::bind(at(POD[family], 8001)).expect("bind"));
            let there = peer.udp(PEER[family], 8001);
            for (from, to) in [(&here, &there), (&there, &here)] {
                from.send_to(&[7; 40_000], to.local_addr().expect("address")).expect("sent");
                assert_eq!(to.recv(&mut [0; 50_000]).expect("arrives"), 40_000);
            }
        }
    });
}

#[test]
fn another_path_of_a_connection_is_judged_like_a_connection() {
    let name = "messages::another_path_of_a_connection_is_judged_like_a_connection";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        let limits = ["mptcp", "limits", "set", "subflow", "2", "add_addr_accepted", "2"];
        let here = Command::new("ip").args(limits).output().is_ok_and(|output| output.status.success());
        let socket = |domain| Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP));
        if !here || socket(Domain::IPV4).is_err() {
            return skipped(name, "needs multipath TCP in the kernel and in `ip`");
        }
        peer.run(|| OTHER_PEER.map(|other| ip(&format!("mptcp endpoint add {other} dev eth0 signal"))));
        let mut firewall = open();
        let rules = Rules::new().tcp(What::Allow, Direction::Egress, &PEER, 8000);
        firewall.apply(&rules.judge()).expect("applied");
        for family in [0, 1] {
            let to = at(PEER[family], 8000);
            let server: TcpListener = peer
                .run(move || {
                    let server = socket(Domain::for_address(to))?;
                    server.bind(&to.into())?;
                    server.listen(1).map(|()| server)
                })
                .expect("listen")
                .into();
            let client = socket(Domain::for_address(to)).expect("a socket");
            client.connect_timeout(&to.into(), SILENCE).expect("allowed");
            let (mut client, mut end) = (TcpStream::from(client), accept(&server).expect("arrives").0);
            // With what is said the client learns of the other address, and tries it.
            let deadline = Instant::now() + 5 * SILENCE;
            let is_denied = |firewall: &mut Firewall| {
                firewall.denials().expect("dump").edges.iter().any(|edge| edge.peer == OTHER_PEER[family])
            };
            while !is_denied(&mut firewall) {
                talk(&mut client, &mut end).expect("allowed");
                assert!(Instant::now() < deadline, "no other path was tried");
            }
            talk(&mut client, &mut end).expect("by the first path");
            drop(server);
        }
    });
}

fn unspecified(to: std::net::SocketAddr) -> IpAddr {
    if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// A message of a type that is neither a question nor an answer: IPv4's source quench has no meaning any more (RFC 6633),
/// IPv6's type 200 is kept for experiments (RFC 4443).
fn lone_message(family: usize) -> Vec<u8> {
    let mut message = vec![[4, 200][family], 0, 0, 0, 0, 0, 0, 0];
    message.extend(*b"a lone message");
    if family == 0 {
        let sum: u32 = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).expect("small");
        message[2..4].copy_from_slice(&(!sum).to_be_bytes());
    }
    message
}

const ICMP: [L4Protocol; 2] = [L4Protocol::ICMP, L4Protocol::ICMPV6];

/// True if the packet arrives at a raw socket of its protocol. Its first four bytes are left out: the kernel writes the
/// checksum of ICMPv6.
fn arrives(from: &UdpSocket, to: &UdpSocket, address: IpAddr, packet: &[u8]) -> bool {
    if from.send_to(packet, (address, 0)).is_err() {
        return false;
    }
    // An IPv4 raw socket gets the header too. A refusal that quotes the packet is longer.
    let header = if address.is_ipv4() { 20 } else { 0 };
    let (mut buffer, deadline) = ([0; 300], Instant::now() + SILENCE);
    while Instant::now() < deadline {
        match to.recv_from(&mut buffer) {
            Ok((length, _))
                if length == header + packet.len() && buffer[..length].ends_with(&packet[4..]) =>
            {
                return true;
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Raw sockets of the pod and of the peer.
fn raw_pair(peer: &Peer, family: usize, protocol: u8) -> (UdpSocket, UdpSocket) {
    let there = peer.run(move || with_timeout(raw_socket(family == 0, protocol).expect("raw socket")));
    (with_timeout(raw_socket(family == 0, protocol).expect("raw socket")), there)
}

#[test]
fn a_message_of_no_conversation_is_judged_by_its_type() {
    in_own_network("messages::a_message_of_no_conversation_is_judged_by_its_type", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        for family in [0, 1] {
            let (here, there) = raw_pair(&peer, family, ICMP[family].0);
            let message = lone_message(family);
            let both_ways = || {
                [
                    arrives(&here, &there, PEER[family], &message),
                    arrives(&there, &here, POD[family], &message),
                ]
            };
            firewall.apply(&Rules::new().judge()).expect("applied");
            assert_eq!(both_ways(), [false; 2], "{}", POD[family]);
            let allow = |peers: &[IpAddr]| Rules::both_ways(What::Allow, peers, ICMP[family], 0);
            firewall.apply(&allow(&OTHER_PEER).judge()).expect("applied");
            assert_eq!(both_ways(), [false; 2], "allowed for somebody else");
            firewall.apply(&allow(&PEER).judge()).expect("applied");
            assert_eq!(both_ways(), [true; 2], "{}", POD[family]);
            firewall.apply(&Rules::new().judge()).expect("applied");
            assert_eq!(both_ways(), [false; 2], "not any more");
        }
        let counted = firewall.counters().expect("dump");
        for name in ["admitted message ingress", "admitted message egress"] {
            let packets = counted.iter().find(|counter| counter.name == name).map(|counter| counter.packets);
            assert_eq!(packets, Some(2), "{name}: {counted:?}");
        }
    });
}

#[test]
fn sctp_is_allowed_by_its_port() {
    in_own_network("messages::sctp_is_allowed_by_its_port", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let rules = Rules::both_ways(What::Allow, &PEER, L4Protocol(132), 8003);
        firewall.apply(&rules.judge()).expect("applied");
        for family in [0, 1] {
            let (here, there) = raw_pair(&peer, family, 132);
            for (port, allowed) in [(8003, true), (8004, false)] {
                // Another source port for each: an association that is denied once stays known for a while.
                let out = arrives(&here, &there, PEER[family], &sctp_init(40_000 + port, port));
                let inward = arrives(&there, &here, POD[family], &sctp_init(41_000 + port, port));
                assert_eq!((out, inward), (allowed, allowed), "port {port} in {}", POD[family]);
            }
        }
        let denied = firewall.denials().expect("dump").edges;
        assert_eq!(denied.len(), 4, "both directions, both families: {denied:?}");
        assert!(denied.iter().all(|edge| (edge.protocol.0, edge.port) == (132, 8004)), "{denied:?}");
    });
}

/// The first packet of an association (RFC 9260 section 3.3.2).
fn sctp_init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes(), [0; 2], [0; 2], [0; 2], [0; 2]].concat();
    // Chunk INIT of 20 bytes: tag, window, streams out and in, first sequence number.
    packet.extend([1, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    let one = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
    !bytes.iter().fold(u32::MAX, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), one))
}

//! Questions that an app makes up in the name of a peer: what it then says to that peer is no answer.
//!
//! A conversation is judged by its first packet. The first packet of one that comes from outside can be made up inside:
//! IPv6 lets any program speak with any address within the pod, CAP_NET_RAW does for both families.

use crate::network::{PEER, POD, Peer, datagram_arrives, with_timeout};
use crate::program::{Rules, What};
use crate::support::{in_own_network, send_frame};
use crate::{at, open};
use bulkhead_facts::{Direction, L4Protocol, Reason};
use bulkhead_netfilter::route::LOOPBACK_INDEX;
use bulkhead_proxy::firewall::Firewall;
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Where the peer may ask the pod.
const ASKED: u16 = 8001;
/// Where the peer listens, and the pod may not go.
const FORBIDDEN: u16 = 5353;

/// The peer may ask the pod, which may only answer. True if what is said after `forge` arrives.
fn arrives_after(firewall: &mut Firewall, peer: &Peer, family: usize, forge: impl FnOnce()) -> bool {
    let rules = Rules::new().rule(What::Allow, Direction::Ingress, &PEER, L4Protocol::UDP, ASKED);
    firewall.apply(&rules.judge()).expect("applied");
    let there = peer.udp(PEER[family], FORBIDDEN);
    let app = with_timeout(UdpSocket::bind(at(POD[family], ASKED)).expect("bind"));
    assert!(!datagram_arrives(&app, &there), "no rule allows it");
    forge();
    datagram_arrives(&app, &there)
}

/// The reasons of what was denied towards and from the peer or the pod itself, but for what no rule allows.
fn is_told(firewall: &mut Firewall) -> bool {
    let edges = firewall.denials().expect("dump").edges;
    let reason = |edge: &bulkhead_proxy::firewall::DeniedEdge| {
        edge.answer.as_ref().map(|answer| answer.answers.enforced.reason)
    };
    edges.iter().any(|edge| edge.port == ASKED && reason(edge) == Some(Reason::SpoofedSource))
}

/// A socket that speaks with an address of the peer.
fn in_the_name_of(from: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(from), Type::DGRAM, None).expect("a socket");
    match from.is_ipv4() {
        true => socket.set_ip_transparent_v4(true).expect("may"),
        false => socket.set_freebind_v6(true).expect("anybody may"),
    }
    socket.bind(&from.into()).expect("may");
    socket.into()
}

#[test]
fn a_question_made_up_in_the_name_of_a_peer_opens_no_way_to_it() {
    in_own_network("forged::a_question_made_up_in_the_name_of_a_peer_opens_no_way_to_it", &[], || {
        let peer = Peer::connect();
        for family in [0, 1] {
            let mut firewall = open();
            let forge = || {
                let _ = in_the_name_of(at(PEER[family], FORBIDDEN)).send_to(b"x", at(POD[family], ASKED));
            };
            assert!(!arrives_after(&mut firewall, &peer, family, forge), "{}", PEER[family]);
            assert!(is_told(&mut firewall));
        }
    });
}

#[test]
fn a_frame_on_the_loopback_device_opens_no_way_either() {
    in_own_network("forged::a_frame_on_the_loopback_device_opens_no_way_either", &[], || {
        let peer = Peer::connect();
        for family in [0, 1] {
            let mut firewall = open();
            let forge = || send_frame(LOOPBACK_INDEX, &question(PEER[family], POD[family])).expect("sent");
            assert!(!arrives_after(&mut firewall, &peer, family, forge), "{}", PEER[family]);
            assert!(is_told(&mut firewall));
        }
    });
}

#[test]
fn what_a_peer_asked_itself_is_answered() {
    in_own_network("forged::what_a_peer_asked_itself_is_answered", &[], || {
        let peer = Peer::connect();
        for family in [0, 1] {
            let mut firewall = open();
            let asks = || {
                peer.udp(PEER[family], FORBIDDEN + 1).send_to(b"x", at(POD[family], ASKED)).expect("sent");
            };
            assert!(!arrives_after(&mut firewall, &peer, family, asks), "it was asked from another port");
            let there = peer.udp(PEER[family], FORBIDDEN);
            let app = with_timeout(UdpSocket::bind(at(POD[family], ASKED)).expect("bind"));
            assert!(datagram_arrives(&there, &app) && datagram_arrives(&app, &there));
        }
    });
}

/// A datagram of four bytes in a frame of Ethernet, from the port that the pod may not reach to the one that may be asked.
fn question(from: IpAddr, to: IpAddr) -> Vec<u8> {
    const LENGTH: u16 = 12;
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let ends = [address(from), address(to)].concat();
    let words = [FORBIDDEN, ASKED, LENGTH, 0].map(u16::to_be_bytes).concat();
    let mut datagram = [words, b"data".to_vec()].concat();
    let (kind, header) = if from.is_ipv4() {
        // Without a checksum, which IPv4 allows.
        let mut header = [&[0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0], &ends[..]].concat();
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        ([0x08, 0x00], header)
    } else {
        let sum = checksum(&[&ends[..], &[0, 0, 0, 12, 0, 0, 0, 17], &datagram].concat());
        datagram[6..8].copy_from_slice(&sum);
        ([0x86, 0xdd], [&[0x60, 0, 0, 0, 0, 12, 17, 64], &ends[..]].concat())
    };
    [[0; 12].to_vec(), kind.to_vec(), header, datagram].concat()
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from((sum & 0xffff) + (sum >> 16)).map(|sum| (!sum).to_be_bytes()).expect("folded")
}

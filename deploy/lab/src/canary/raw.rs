//! Raw sockets: one for each protocol and family.

use std::io;
use std::net::IpAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::Sender;

use super::Event;
use super::seen::Packet;
use crate::attack::arrival::Via;
use crate::attack::packet::protocol;
use crate::attack::system;
use crate::limits;

/// What attacks send, in IPv4.
const IN_V4: [u8; 10] = [
    protocol::ICMP,
    protocol::IPIP,
    protocol::TCP,
    protocol::UDP,
    protocol::IPV6,
    protocol::GRE,
    protocol::ESP,
    protocol::SCTP,
    protocol::UDPLITE,
    protocol::EXPERIMENT,
];
/// What attacks send, in IPv6.
const IN_V6: [u8; 10] = [
    protocol::IPIP,
    protocol::TCP,
    protocol::UDP,
    protocol::IPV6,
    protocol::GRE,
    protocol::ESP,
    protocol::ICMPV6,
    protocol::SCTP,
    protocol::UDPLITE,
    protocol::EXPERIMENT,
];
/// Receive buffer beyond the system's limit; needs CAP_NET_ADMIN.
const SO_RCVBUFFORCE: i32 = 33;

/// Watches every protocol of both families.
pub(super) fn watch(to: &Sender<Event>) -> io::Result<()> {
    for number in IN_V4 {
        let socket = prepare(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(number))))?)?;
        tokio::spawn(read(socket, Via::Raw, to.clone(), |_, bytes| Packet::parse(bytes)));
    }
    for number in IN_V6 {
        let socket = prepare(Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(i32::from(number))))?)?;
        // IPv6 raw sockets receive no header; the protocol is that of the socket.
        tokio::spawn(read(socket, Via::Raw, to.clone(), move |from, bytes| {
            Some(Packet { protocol: number, source: from?, destination: None, bytes })
        }));
    }
    Ok(())
}

/// Says how many packets the kernel dropped, whenever that grows.
pub(super) fn watch_losses(to: Sender<Event>) {
    tokio::spawn(async move {
        let mut known = 0;
        let mut checks = tokio::time::interval(limits::CANARY_LOSS_CHECK);
        loop {
            checks.tick().await;
            let lost = losses("/proc/thread-self/net/raw") + losses("/proc/thread-self/net/raw6");
            if lost > known {
                known = lost;
                if to.send(Event::Lost(lost)).await.is_err() {
                    return;
                }
            }
        }
    });
}

/// A socket that does not block, with as large a buffer as this process may have. The datagram type of tokio reads
/// any socket that receives whole messages.
pub(super) fn prepare(socket: Socket) -> io::Result<UdpSocket> {
    let bytes = i32::try_from(limits::CANARY_BUFFER_BYTES).unwrap_or(i32::MAX);
    if system::set_option(&socket, libc::SOL_SOCKET, SO_RCVBUFFORCE, bytes).is_err() {
        socket.set_recv_buffer_size(limits::CANARY_BUFFER_BYTES)?;
    }
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Reads packets for ever and sends on what there is to report.
pub(super) async fn read(
    socket: UdpSocket,
    via: Via,
    to: Sender<Event>,
    parse: impl for<'a> Fn(Option<IpAddr>, &'a [u8]) -> Option<Packet<'a>>,
) {
    let mut buffer = vec![0; limits::CANARY_PACKET_BYTES];
    loop {
        // A packet socket's sender is no IP address: it is read without one.
        let received = match via {
            Via::Packet => socket.recv(&mut buffer).await.map(|length| (length, None)),
            Via::Raw | Via::Listener => {
                socket.recv_from(&mut buffer).await.map(|(length, from)| (length, Some(from.ip())))
            }
        };
        let Ok((length, from)) = received else { continue };
        let arrivals = parse(from, &buffer[..length]).map(|packet| packet.arrivals(via)).unwrap_or_default();
        for arrival in arrivals {
            if to.send(Event::Arrived(arrival)).await.is_err() {
                return;
            }
        }
    }
}

/// The sum of the last column, `drops`, of a table of sockets; 0 where there is no such table.
fn losses(table: &str) -> u64 {
    let text = std::fs::read_to_string(table).unwrap_or_default();
    text.lines().skip(1).filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

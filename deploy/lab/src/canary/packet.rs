//! Packet sockets, for places without a firewall: they also see what no local protocol receives.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::Sender;

use super::Event;
use super::raw::{prepare, read};
use super::seen::Packet;
use crate::attack::arrival::Via;
use crate::attack::system;

const ETH_P_ALL: u16 = 0x0003;
const ETH_P_ARP: u16 = 0x0806;
/// Option of packet sockets (packet(7)): not what this place itself sends.
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// Watches address resolution alone, which no IP socket sees, at a place that forwards what is not for it.
pub(super) fn watch_address_resolution(to: &Sender<Event>) -> io::Result<()> {
    let socket = open(ETH_P_ARP)?;
    tokio::spawn(read(socket, Via::Packet, to.clone(), |_, bytes| {
        let source = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Some(Packet { protocol: 0, source, destination: None, bytes })
    }));
    Ok(())
}

/// Watches every interface.
pub(super) fn watch(to: &Sender<Event>) -> io::Result<()> {
    tokio::spawn(read(open(ETH_P_ALL)?, Via::Packet, to.clone(), |_, bytes| Packet::parse(bytes)));
    Ok(())
}

fn open(protocol: u16) -> io::Result<UdpSocket> {
    let protocol = Protocol::from(i32::from(protocol.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
    system::set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    prepare(socket)
}

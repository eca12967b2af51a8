//! Packet sockets, for places without a firewall: they also see what no local protocol receives.

use std::io;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc::Sender;

use super::Event;
use super::raw::{prepare, read};
use super::seen::Packet;
use crate::attack::arrival::Via;
use crate::attack::system;

const ETH_P_ALL: u16 = 0x0003;
/// Option of packet sockets (packet(7)): not what this place itself sends.
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// Watches every interface.
pub(super) fn watch(to: &Sender<Event>) -> io::Result<()> {
    let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(all))?;
    system::set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    tokio::spawn(read(prepare(socket)?, Via::Packet, to.clone(), |_, bytes| Packet::parse(bytes)));
    Ok(())
}

//! Captured datagrams: sockets that they arrive at, where they were going, and legs to the other side.
//!
//! UDP keeps no record of a redirect in the socket, as TCP does; the kernel's list of connections does. So who was asked is
//! looked up there, once per datagram. That holds for any number of destinations, on one port for all of them.

use super::datagram_options::{bind, datagram_socket, receive, send, tell_local_address};
use super::socket_options;
use super::{LocalLeg, Sockets};
use crate::firewall::{DNS_PORT, INBOUND_UDP_PORT};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_netfilter::NetlinkError;
use bulkhead_netfilter::conntrack::{Conntrack, Tuple};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A socket at which captured datagrams arrive.
#[derive(Debug)]
pub struct DatagramListener {
    socket: UdpSocket,
    /// Seen from the workload.
    pub direction: Direction,
    port: u16,
}

/// One captured datagram, as far as the socket tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Bytes of it.
    pub length: usize,
    /// Who sent it.
    pub client: SocketAddr,
    /// The address of ours that it was redirected to.
    pub local: IpAddr,
}

impl DatagramListener {
    /// Waits for a datagram.
    ///
    /// # Errors
    ///
    /// If it cannot be read; the next one may.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrived> {
        let read = || receive(&self.socket, buffer);
        let (length, client, local) = self.socket.async_io(Interest::READABLE, read).await?;
        Ok(Arrived { length, client, local })
    }

    /// Answers a datagram. Its sender sees whom it had asked.
    ///
    /// # Errors
    ///
    /// If it cannot be sent.
    pub async fn answer(&self, arrived: Arrived, bytes: &[u8]) -> io::Result<()> {
        let write = || send(&self.socket, bytes, arrived.client, arrived.local);
        self.socket.async_io(Interest::WRITABLE, write).await
    }
}

/// Where captured datagrams were going.
#[derive(Debug)]
pub struct Destinations(Mutex<Conntrack>);

impl Destinations {
    /// A way to ask the kernel.
    ///
    /// # Errors
    ///
    /// If it gives none.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self(Mutex::new(Conntrack::open()?)))
    }

    /// Who sent a datagram to whom, as it was before the redirect. `None` if it was not redirected: it was addressed to us.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked.
    pub fn of(
        &self,
        listener: &DatagramListener,
        arrived: Arrived,
    ) -> Result<Option<(SocketAddr, SocketAddr)>, NetlinkError> {
        let reply = Tuple {
            source: arrived.local,
            destination: arrived.client.ip().to_canonical(),
            protocol: L4Protocol::UDP.0,
            source_port: listener.port,
            destination_port: arrived.client.port(),
        };
        let mut conntrack = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(flow) = conntrack.by_reply(&reply)? else { return Ok(None) };
        let original = flow.original;
        let client = SocketAddr::new(original.source, original.source_port);
        let destination = SocketAddr::new(original.destination, original.destination_port);
        let addressed_to_us = destination.ip() == arrived.local && destination.port() == listener.port;
        Ok((!addressed_to_us).then_some((client, destination)))
    }
}

impl Sockets {
    /// Listens where captured datagrams arrive, in each family that there is: outbound ones on loopback only.
    ///
    /// # Errors
    ///
    /// If a port is taken.
    pub fn listen_datagrams(&self) -> io::Result<Vec<DatagramListener>> {
        let places: [(Direction, IpAddr, u16); 4] = [
            (Direction::Egress, Ipv4Addr::LOCALHOST.into(), DNS_PORT),
            (Direction::Egress, Ipv6Addr::LOCALHOST.into(), DNS_PORT),
            (Direction::Ingress, Ipv4Addr::UNSPECIFIED.into(), INBOUND_UDP_PORT),
            (Direction::Ingress, Ipv6Addr::UNSPECIFIED.into(), INBOUND_UDP_PORT),
        ];
        let mut listeners = Vec::new();
        for (direction, address, port) in places {
            match self.datagram_listener(SocketAddr::new(address, port)) {
                Ok(socket) => listeners.push(DatagramListener { socket, direction, port }),
                Err(error) if address.is_ipv6() && lacks_family(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listeners)
    }

    fn datagram_listener(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = datagram_socket(address.is_ipv4())?;
        if address.is_ipv6() {
            socket_options::set_ipv6_only(&socket, true)?;
        }
        tell_local_address(&socket, address.is_ipv4())?;
        socket_options::set_mark(&socket, self.marks.listener)?;
        UdpSocket::from_std(bind(socket, address)?)
    }

    /// A socket that asks `destination` and takes answers from nobody else; its port is chosen at random by the kernel. The
    /// table judges it as it would the app, without redirecting it.
    ///
    /// # Errors
    ///
    /// If there is no way there.
    pub async fn ask_upstream(&self, destination: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr = match destination {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = datagram_socket(destination.is_ipv4())?;
        socket_options::set_mark(&socket, self.marks.upstream)?;
        let socket = UdpSocket::from_std(bind(socket, SocketAddr::new(any, 0))?)?;
        socket.connect(destination).await?;
        Ok(socket)
    }

    /// A socket that asks the pod's own app at the address that the client asked; with the client's address where that works.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub async fn ask_local(&self, client: SocketAddr, destination: SocketAddr) -> io::Result<UdpSocket> {
        let socket = datagram_socket(destination.is_ipv4())?;
        socket_options::set_mark(&socket, self.marks.local_leg)?;
        let source = match self.local_leg() {
            LocalLeg::ClientAddress if client.is_ipv4() == destination.is_ipv4() => {
                socket_options::set_transparent(&socket, destination.is_ipv4())?;
                client.ip()
            }
            LocalLeg::ClientAddress | LocalLeg::PodAddress => destination.ip(),
        };
        let socket = UdpSocket::from_std(bind(socket, SocketAddr::new(source, 0))?)?;
        socket.connect(destination).await?;
        Ok(socket)
    }
}

fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

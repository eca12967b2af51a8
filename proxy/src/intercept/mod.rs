//! Sockets of the inspector: listeners that captured connections arrive at, and its legs to the other side.
//!
//! The table ([`crate::firewall`]) tells our sockets from an app's by mark and user, so every socket that it must know
//! is made here. The leg to the app carries the client's address where the kernel lets us ([`LocalLeg`]).

mod datagram_options;
mod datagrams;
mod socket_options;

pub use datagrams::{Arrived, DatagramListener, Destinations};

use crate::firewall::{INBOUND_PORT, Marks, OUTBOUND_PORT};
use crate::session::{Dial, Ends};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted. More: the kernel drops the opening packet and the client tries again.
const BACKLOG: u32 = 1024;
/// Wait of the self-test for a connection within the pod.
const SELF_TEST_TIMEOUT: Duration = Duration::from_secs(1);

/// How the app sees a captured client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalLeg {
    /// With its own address; the port is not kept.
    ClientAddress,
    /// With the pod's own address: the fallback where transparent sockets do not work.
    PodAddress,
}

impl LocalLeg {
    /// `client_address` or `pod_address`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientAddress => "client_address",
            Self::PodAddress => "pod_address",
        }
    }
}

/// Makes the inspector's sockets.
#[derive(Clone, Copy, Debug)]
pub struct Sockets {
    marks: Marks,
    /// How the app sees captured clients: known once flows are captured, hence shared by all copies.
    keeps_client_address: &'static AtomicBool,
}

impl Sockets {
    /// With the marks that the loaded table knows ([`crate::firewall::Firewall::marks`]).
    pub fn new(marks: Marks, local_leg: LocalLeg) -> Self {
        // There is one in a process.
        let keeps_client_address = Box::leak(Box::new(AtomicBool::new(false)));
        let sockets = Self { marks, keeps_client_address };
        sockets.set_local_leg(local_leg);
        sockets
    }

    /// Without marks, where there is no table and no right to set them.
    pub fn unmarked() -> Self {
        let marks = Marks { upstream: 0, local_leg: 0, listener: 0, passed: 0 };
        Self::new(marks, LocalLeg::PodAddress)
    }

    /// How the app sees captured clients.
    pub fn local_leg(&self) -> LocalLeg {
        match self.keeps_client_address.load(Ordering::Relaxed) {
            true => LocalLeg::ClientAddress,
            false => LocalLeg::PodAddress,
        }
    }

    fn set_local_leg(&self, local_leg: LocalLeg) {
        self.keeps_client_address.store(local_leg == LocalLeg::ClientAddress, Ordering::Relaxed);
    }

    /// Listens where captured inbound connections arrive, in each family that there is.
    pub fn listen_inbound(&self) -> io::Result<Vec<TcpListener>> {
        self.listen(INBOUND_PORT)
    }

    /// Listens where captured outbound connections arrive, in each family that there is.
    pub fn listen_outbound(&self) -> io::Result<Vec<TcpListener>> {
        self.listen(OUTBOUND_PORT)
    }

    /// Listens for health and metrics with one socket for both families, or for IPv4 alone where there is no IPv6.
    pub fn listen_admin(&self, port: u16) -> io::Result<TcpListener> {
        match self.listener((Ipv6Addr::UNSPECIFIED, port).into(), false) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                self.listener((Ipv4Addr::UNSPECIFIED, port).into(), false)
            }
            listening => listening,
        }
    }

    fn listen(&self, port: u16) -> io::Result<Vec<TcpListener>> {
        let ipv4 = self.listener((Ipv4Addr::UNSPECIFIED, port).into(), true)?;
        match self.listener((Ipv6Addr::UNSPECIFIED, port).into(), true) {
            Ok(ipv6) => Ok(vec![ipv4, ipv6]),
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(vec![ipv4]),
            Err(error) => Err(error),
        }
    }

    /// Never with SO_REUSEPORT: an app could share the port.
    fn listener(&self, address: SocketAddr, one_family: bool) -> io::Result<TcpListener> {
        let socket = socket_for(address)?;
        if address.is_ipv6() {
            socket_options::set_ipv6_only(&socket, one_family)?;
        }
        socket.set_reuseaddr(true)?;
        socket_options::set_mark(&socket, self.marks.listener)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    /// Connects to another pod, or the controller. The table judges it as it would the app, without redirecting it.
    pub async fn dial_upstream(&self, destination: SocketAddr) -> io::Result<TcpStream> {
        Ok(self.dial_upstream_with(destination, &[]).await?.0)
    }

    async fn dial_upstream_with(
        &self,
        destination: SocketAddr,
        first: &[u8],
    ) -> io::Result<(TcpStream, usize)> {
        let socket = dialling_socket(destination)?;
        socket.set_keepalive(true)?;
        socket_options::set_mark(&socket, self.marks.upstream)?;
        connect(socket, destination, first).await
    }

    /// Connects to the pod's own app at the address that the client asked for.
    pub async fn dial_local(&self, client: SocketAddr, destination: SocketAddr) -> io::Result<TcpStream> {
        Ok(self.dial_local_with(client, destination, &[]).await?.0)
    }

    /// Without keep-alive: our own kernel tells when the app is gone.
    async fn dial_local_with(
        &self,
        client: SocketAddr,
        destination: SocketAddr,
        first: &[u8],
    ) -> io::Result<(TcpStream, usize)> {
        let socket = dialling_socket(destination)?;
        socket_options::set_mark(&socket, self.marks.local_leg)?;
        if self.local_leg() == LocalLeg::ClientAddress && client.is_ipv4() == destination.is_ipv4() {
            socket_options::set_transparent(&socket, destination.is_ipv4())?;
            socket_options::set_bind_without_port(&socket)?;
            socket.bind(&SocketAddr::new(client.ip(), 0).into())?;
        }
        connect(socket, destination, first).await
    }

    /// Tries whether an app of this pod sees the address of a client such as `client`, which a route must lead to. The
    /// table must capture. Sets what works.
    pub async fn find_local_leg(&self, pod: IpAddr, client: IpAddr) -> Result<(), io::Error> {
        self.set_local_leg(LocalLeg::ClientAddress);
        let tried = tokio::time::timeout(SELF_TEST_TIMEOUT, self.try_client_address(pod, client)).await;
        let result = tried.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if result.is_err() {
            self.set_local_leg(LocalLeg::PodAddress);
        }
        result
    }

    async fn try_client_address(&self, pod: IpAddr, client: IpAddr) -> io::Result<()> {
        let app = TcpListener::bind(SocketAddr::new(pod, 0)).await?;
        let connected = self.dial_local(SocketAddr::new(client, 0), app.local_addr()?);
        let (accepted, dialled) = tokio::join!(app.accept(), connected);
        dialled?;
        match accepted?.1.ip() == client {
            true => Ok(()),
            false => Err(io::Error::other("the app saw another address than the client's")),
        }
    }
}

/// Where a captured connection was going, before it was redirected here.
///
/// An error if it was not redirected: it was addressed to us.
pub fn original_destination(stream: &TcpStream, peer: SocketAddr) -> io::Result<SocketAddr> {
    let destination = socket_options::original_destination(stream, peer.is_ipv4())?;
    let ours = matches!(destination.port(), INBOUND_PORT | OUTBOUND_PORT);
    if ours && destination == stream.local_addr()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "addressed to the sidecar itself"));
    }
    Ok(destination)
}

/// Makes one connection within the pod with the mark of the leg to the app. A table that takes us for the sidecar
/// counts it as such a leg.
pub(crate) fn make_local_leg(marks: Marks) -> io::Result<()> {
    let app = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket_options::connect_marked_v4(marks.local_leg, app.local_addr()?.port()).map(drop)
}

/// Dials for inbound connections: to the app.
#[derive(Clone, Copy, Debug)]
pub struct ToApp(pub Sockets);

impl Dial for ToApp {
    async fn dial(&self, ends: Ends) -> io::Result<TcpStream> {
        self.0.dial_local(ends.client, ends.destination).await
    }

    async fn dial_with(&self, ends: Ends, first: &[u8]) -> io::Result<(TcpStream, usize)> {
        self.0.dial_local_with(ends.client, ends.destination, first).await
    }
}

/// Dials for outbound connections: to the destination.
#[derive(Clone, Copy, Debug)]
pub struct ToDestination(pub Sockets);

impl Dial for ToDestination {
    async fn dial(&self, ends: Ends) -> io::Result<TcpStream> {
        self.0.dial_upstream(ends.destination).await
    }

    async fn dial_with(&self, ends: Ends, first: &[u8]) -> io::Result<(TcpStream, usize)> {
        self.0.dial_upstream_with(ends.destination, first).await
    }
}

fn dialling_socket(destination: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new(Domain::for_address(destination), kind, Some(Protocol::TCP))
}

/// Connects, and sends the beginning of `first`; how much of it. Within the pod the other end is there at once, so that its
/// bytes need not wait for the event of a connection, and go with the last packet of the handshake.
async fn connect(socket: Socket, destination: SocketAddr, first: &[u8]) -> io::Result<(TcpStream, usize)> {
    if !first.is_empty() {
        // Without the option the handshake takes one packet more.
        let _ = socket.set_tcp_quickack(false);
    }
    match socket.connect(&destination.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    let sent = match first {
        [] => None,
        first => match socket.send_with_flags(first, libc::MSG_NOSIGNAL) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            sent => Some(sent?),
        },
    };
    let stream = TcpStream::from_std(socket.into())?;
    if let Some(sent) = sent {
        return Ok((stream, sent));
    }
    stream.writable().await?;
    match stream.take_error()? {
        None => Ok((stream, 0)),
        Some(error) => Err(error),
    }
}

/// With keep-alive, which a listener hands on to what it accepts: a peer that is gone without a word is found out,
/// and no connection needs a time limit for that.
fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_keepalive(true)?;
    Ok(socket)
}

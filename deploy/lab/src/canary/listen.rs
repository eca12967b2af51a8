//! Ports that a canary holds open: connections are accepted and read for a token, datagram ports are only held, so
//! that nothing is answered with an error (what comes there is seen by a raw socket).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;

use super::{Event, Options};
use crate::attack::arrival::{Arrival, Via};
use crate::attack::packet::protocol;
use crate::attack::system;
use crate::attack::token::Token;
use crate::limits;

/// Opens the ports; those that are taken are reported and left alone.
pub(super) fn watch(options: &Options, to: &Sender<Event>) -> io::Result<()> {
    for port in &options.listen_tcp {
        match open(Type::STREAM, *port) {
            Ok(socket) => {
                socket.listen(128)?;
                tokio::spawn(accept(TcpListener::from_std(socket.into())?, *port, to.clone()));
            }
            Err(error) => taken(*port, error, to)?,
        }
    }
    for port in &options.listen_udp {
        match open(Type::DGRAM, *port) {
            Ok(socket) => hold(socket),
            Err(error) => taken(*port, error, to)?,
        }
    }
    if options.join {
        join()?;
    }
    Ok(())
}

fn open(kind: Type, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind, None)?;
    socket.set_only_v6(false)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port).into())?;
    Ok(socket)
}

fn taken(port: u16, error: io::Error, to: &Sender<Event>) -> io::Result<()> {
    if error.kind() != io::ErrorKind::AddrInUse {
        return Err(error);
    }
    // The channel was just made and holds more than there are ports: full, the report is dropped with no harm.
    let _ = to.try_send(Event::Taken(port));
    Ok(())
}

/// Keeps a socket for as long as the runtime lives.
fn hold(socket: Socket) {
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(socket);
    });
}

async fn accept(listener: TcpListener, port: u16, to: Sender<Event>) {
    let slots = Arc::new(Semaphore::new(limits::CANARY_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((stream, from)) = listener.accept().await else { continue };
        let to = to.clone();
        tokio::spawn(async move {
            report(stream, from, port, to).await;
            drop(slot);
        });
    }
}

async fn report(stream: TcpStream, from: SocketAddr, port: u16, to: Sender<Event>) {
    let arrival = |token, bytes| Arrival {
        token,
        protocol: protocol::TCP,
        source: from.ip().to_canonical(),
        source_port: from.port(),
        destination: stream.local_addr().ok().map(|local| local.ip().to_canonical()),
        destination_port: port,
        bytes,
        via: Via::Listener,
    };
    let bare = arrival(None, 0);
    if to.send(Event::Arrived(bare.clone())).await.is_err() {
        return;
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(limits::CANARY_PACKET_BYTES).unwrap_or(u64::MAX);
    let mut stream = stream.take(limit);
    // An attack ends long before; whatever came until then is looked at.
    let _ = tokio::time::timeout(limits::CANARY_READ, stream.read_to_end(&mut bytes)).await;
    for token in Token::find(&bytes, limits::CANARY_TOKENS_PER_PACKET) {
        let arrival = Arrival { token: Some(token), bytes: bytes.len(), ..bare.clone() };
        let _ = to.send(Event::Arrived(arrival)).await;
    }
}

/// Joins, on each interface, the groups that attacks send to; the groups are left when the runtime ends.
fn join() -> io::Result<()> {
    let v4 = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    let v6 = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    for name in table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()) {
        let index = system::interface_index(name)?;
        // Loopback has no groups; an interface that just went is no loss.
        let _ =
            v4.join_multicast_v4_n(&Ipv4Addr::new(224, 0, 0, 251), &InterfaceIndexOrAddress::Index(index));
        let _ = v6.join_multicast_v6(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb), index);
    }
    hold(v4);
    hold(v6);
    Ok(())
}

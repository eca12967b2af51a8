//! Accepting: bounded handshakes that cannot hold each other up, bounded connections.
//!
//! A [`Connection`] carries its place among the connections, so that whoever serves it need not think of it.

mod share;

use crate::drain::Drain;
use crate::limits::{
    CONNECTIONS_PER_ADDRESS_MAX, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX,
};
use rustls::ServerConfig;
use share::{Share, Shares};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

/// After a failed accept (out of files, mostly) it is tried again after this time.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    _place: Place,
}

/// A place among the connections; given back when dropped.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Share,
}

/// Accepts TLS connections until drain, or until nobody takes them any more.
pub(crate) async fn accept_tls(
    listener: TcpListener,
    tls: ServerConfig,
    connections_max: usize,
    accepted: mpsc::Sender<Connection>,
    mut drain: Drain,
) {
    let door = Door {
        acceptor: TlsAcceptor::from(Arc::new(tls)),
        places: Arc::new(Semaphore::new(connections_max)),
        handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        place_shares: Shares::new(CONNECTIONS_PER_ADDRESS_MAX),
        handshake_shares: Shares::new(HANDSHAKES_PER_ADDRESS_MAX),
    };
    let mut entering = JoinSet::new();
    loop {
        let arrival = tokio::select! {
            arrival = door.next(&listener) => arrival,
            () = drain.begun() => break,
            () = accepted.closed() => break,
        };
        while entering.try_join_next().is_some() {}
        let (acceptor, accepted) = (door.acceptor.clone(), accepted.clone());
        entering.spawn(async move {
            if let Some(connection) = arrival.shake_hands(&acceptor).await {
                // If nobody takes it any more, it is closed.
                let _ = accepted.send(connection).await;
            }
        });
    }
    entering.shutdown().await;
}

/// Who may come in, and how many.
struct Door {
    acceptor: TlsAcceptor,
    places: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    place_shares: Shares,
    handshake_shares: Shares,
}

/// A connection that may try its handshake.
struct Arrival {
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    _turn: (OwnedSemaphorePermit, Share),
}

impl Door {
    /// Waits for a free place before accepting: what is over the limit waits in the kernel's queue. Who holds his
    /// share already is closed at once.
    async fn next(&self, listener: &TcpListener) -> Arrival {
        // INVARIANT: neither semaphore is ever closed.
        let place = self.places.clone().acquire_owned().await.expect("never closed");
        let turn = self.handshakes.clone().acquire_owned().await.expect("never closed");
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let address = peer.ip().to_canonical();
            let shares = (self.place_shares.take(address), self.handshake_shares.take(address));
            let (Some(place_share), Some(turn_share)) = shares else {
                tracing::debug!(%peer, "connection closed: too many from this address");
                continue;
            };
            // Small messages must not wait for each other; without it they are only slower.
            let _ = stream.set_nodelay(true);
            let place = Place { _permit: place, _share: place_share };
            return Arrival { stream, peer, place, _turn: (turn, turn_share) };
        }
    }
}

impl Arrival {
    async fn shake_hands(self, acceptor: &TlsAcceptor) -> Option<Connection> {
        match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(self.stream)).await {
            Ok(Ok(stream)) => Some(Connection { stream, _place: self.place }),
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!(peer = %self.peer, "handshake took too long");
                None
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// For tonic: the peer's certificate is asked of the connection.
impl Connected for Connection {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

//! Accepting: bounded handshakes that cannot hold each other up, bounded connections.
//!
//! A [`Connection`] carries its place among the connections, so that whoever serves it need not think of it.

use crate::drain::Drain;
use crate::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX};
use rustls::ServerConfig;
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
    /// Its place among the connections; given back when dropped.
    _place: OwnedSemaphorePermit,
}

/// Accepts TLS connections until `drain` says so or nobody takes them any more.
pub(crate) async fn accept_tls(
    listener: TcpListener,
    tls: ServerConfig,
    connections_max: usize,
    accepted: mpsc::Sender<Connection>,
    mut drain: Drain,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Semaphore::new(connections_max));
    let handshaking = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        let (connection, place, turn) = tokio::select! {
            connection = accept(&listener, &places, &handshaking) => connection,
            () = drain.begun() => break,
            () = accepted.closed() => break,
        };
        while handshakes.try_join_next().is_some() {}
        let (acceptor, accepted) = (acceptor.clone(), accepted.clone());
        handshakes.spawn(async move {
            let (stream, peer) = connection;
            match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    drop(turn);
                    // Nobody takes it any more: it is closed.
                    let _ = accepted.send(Connection { stream, _place: place }).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                Err(_) => tracing::debug!(%peer, "handshake took too long"),
            }
        });
    }
    handshakes.shutdown().await;
}

/// Waits for a free place before accepting: what is over the limit waits in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    handshaking: &Arc<Semaphore>,
) -> ((TcpStream, SocketAddr), OwnedSemaphorePermit, OwnedSemaphorePermit) {
    // INVARIANT: neither semaphore is ever closed.
    let place = places.clone().acquire_owned().await.expect("never closed");
    let turn = handshaking.clone().acquire_owned().await.expect("never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Small messages must not wait for each other; without it they are only slower.
                let _ = stream.set_nodelay(true);
                return ((stream, peer), place, turn);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY).await;
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

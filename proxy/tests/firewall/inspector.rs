//! The smallest inspector: accepts what is captured, notes it, and passes the bytes on by the sidecar's own legs.

use crate::network::SILENCE;
use crate::sidecar_uid;
use crate::support::as_user;
use bulkhead_facts::Direction;
use bulkhead_proxy::intercept::{Sockets, original_destination};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A captured connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) direction: Direction,
    pub(crate) client: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// A running inspector; it ends when dropped.
pub(crate) struct Inspector {
    seen: Receiver<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Inspector {
    pub(crate) fn start(sockets: Sockets) -> Self {
        let (note, seen) = channel();
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = channel();
        let thread = thread::spawn(move || {
            as_user(sidecar_uid(), || {
                runtime().block_on(async {
                    let mut accepting = JoinSet::new();
                    let both = [
                        (Direction::Ingress, sockets.listen_inbound().expect("listen")),
                        (Direction::Egress, sockets.listen_outbound().expect("listen")),
                    ];
                    for (direction, listeners) in both {
                        for listener in listeners {
                            accepting.spawn(accept(direction, listener, sockets, note.clone()));
                        }
                    }
                    ready.send(()).expect("waiting");
                    let _ = stopped.await;
                });
            });
        });
        started.recv().expect("the inspector starts");
        Self { seen, stop: Some(stop), thread: Some(thread) }
    }

    /// The next captured connection.
    pub(crate) fn next(&self) -> Option<Seen> {
        self.seen.recv_timeout(SILENCE).ok()
    }
}

impl Drop for Inspector {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn accept(direction: Direction, listener: TcpListener, sockets: Sockets, note: Sender<Seen>) {
    let mut relays = JoinSet::new();
    loop {
        let (client, from) = listener.accept().await.expect("accept");
        let Ok(destination) = original_destination(&client, from) else { continue };
        let seen = Seen { direction, client: from, destination };
        let _ = note.send(seen);
        relays.spawn(relay(client, seen, sockets));
    }
}

async fn relay(mut client: TcpStream, seen: Seen, sockets: Sockets) {
    let dialled = match seen.direction {
        Direction::Ingress => sockets.dial_local(seen.client, seen.destination).await,
        Direction::Egress => sockets.dial_upstream(seen.destination).await,
    };
    match dialled {
        Ok(mut server) => drop(tokio::io::copy_bidirectional(&mut client, &mut server).await),
        Err(_) => drop(client.set_zero_linger()),
    }
}

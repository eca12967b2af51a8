//! The controller's API for people on the machine: a port of the machine's loopback, carried into the lab.
//!
//! The outer process binds the port before it leaves the machine's network namespace and hands it down; a socket
//! stays where it was made. Nothing else of the lab is reachable from outside.

use crate::control::http_address;
use crate::limits::FORWARDED_CONNECTIONS_MAX;
use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Carries connections to the controller until the node ends.
pub(crate) fn start(listener: OwnedFd) -> io::Result<()> {
    let listener = StdListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(FORWARDED_CONNECTIONS_MAX));
    tokio::spawn(async move {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Ok((mut person, _)) = listener.accept().await else { continue };
            tokio::spawn(async move {
                if let Ok(mut controller) = TcpStream::connect(http_address()).await {
                    // Whoever ends it, the other side sees the end of the stream.
                    let _ = copy_bidirectional(&mut person, &mut controller).await;
                }
                drop(slot);
            });
        }
    });
    Ok(())
}

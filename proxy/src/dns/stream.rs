//! Questions by TCP: any number on one connection, answered in any order (RFC 7766).
//!
//! Every message is judged by itself and by the program in force when it comes ([`super::conversation`]). Where nothing can be
//! denied, bytes that are no questions make the connection a tunnel; elsewhere they end it.

use super::Dns;
use super::conversation::{Conversation, Step};
use super::limits::STREAM_IDLE_TIMEOUT;
use super::verdict::{Verdict, Way, verdict};
use crate::drain::Stage;
use crate::policy::{Current, CurrentReceiver};
use crate::session::limits::DIAL_TIMEOUT;
use crate::session::{Dial, Ends, candidates, dial_one_of};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_inspect::dns::QueryFault;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes read at once, unless there is room for this many.
const READ_BYTES: usize = 2 * 1024;
const READ_BYTES_MIN: usize = 512;

/// Serves one captured connection to its end.
pub async fn serve<D: Dial>(
    dns: &Dns,
    direction: Direction,
    mut client: TcpStream,
    ends: Ends,
    mut policy: CurrentReceiver,
    dial: &D,
) {
    let (peer, local) = match direction {
        Direction::Ingress => (ends.client, ends.destination),
        Direction::Egress => (ends.destination, ends.client),
    };
    let (peer, local, port) = (peer.ip(), local.ip(), ends.destination.port());
    let current = policy.borrow_and_update().clone();
    let endpoints = candidates(&current, direction, peer, port);
    let Ok(Ok((endpoint, mut server))) = Box::pin(timeout(DIAL_TIMEOUT, reach(dial, ends, endpoints))).await
    else {
        return reset(&client);
    };
    let way = Way { direction, peer, local, protocol: L4Protocol::TCP, port, endpoint };
    let mut carrier = Carrier { dns, way, policy, conversation: Conversation::new(way), client_ended: false };
    let mut end = carrier.run(&mut client, &mut server).await;
    if let Ok(End::Tunnel) = end {
        end = Box::pin(carrier.tunnel(&mut client, &mut server)).await;
    }
    match end {
        Ok(End::Closed | End::Tunnel) => {
            let _ = client.shutdown().await;
        }
        Ok(End::Reset) | Err(_) => {
            reset(&client);
            reset(&server);
        }
    }
}

/// Connects to whom was dialled, or to one of these endpoints.
async fn reach<D: Dial>(
    dial: &D,
    ends: Ends,
    endpoints: Vec<SocketAddr>,
) -> io::Result<(Option<SocketAddr>, TcpStream)> {
    if endpoints.is_empty() {
        return Ok((None, dial.dial(ends).await?));
    }
    let (endpoint, stream) = dial_one_of(dial, ends, endpoints).await?;
    Ok((Some(endpoint), stream))
}

fn reset(stream: &TcpStream) {
    // Without the option the end is orderly, which is the worst that can happen.
    let _ = stream.set_zero_linger();
}

/// How a conversation ends.
enum End {
    Closed,
    Reset,
    /// It is none of the name system, and may be what it wants.
    Tunnel,
}

struct Carrier<'d> {
    dns: &'d Dns,
    way: Way,
    policy: CurrentReceiver,
    conversation: Conversation,
    client_ended: bool,
}

/// What a conversation waits for.
enum Event {
    Client(usize),
    Server(usize),
    Policy,
    Drain,
    Idle,
}

impl Carrier<'_> {
    async fn run(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<End> {
        loop {
            match self.next(client, server).await? {
                Event::Client(0) => {
                    self.client_ended = true;
                    server.shutdown().await?;
                }
                Event::Client(_) | Event::Server(1..) => {}
                Event::Server(0) | Event::Idle => return Ok(End::Closed),
                Event::Policy => {
                    let current = self.policy.borrow_and_update().clone();
                    if self.conversation.is_over(&current) {
                        return Ok(End::Reset);
                    }
                }
                Event::Drain if self.conversation.is_quiet() => return Ok(End::Closed),
                Event::Drain => {}
            }
            if let Some(end) = self.advance(client, server).await? {
                return Ok(end);
            }
        }
    }

    async fn next(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<Event> {
        let takes = !self.client_ended && self.conversation.has_room();
        let mut stage = self.dns.stage.clone();
        let is_draining = *stage.borrow() != Stage::Serving;
        if is_draining && self.conversation.is_quiet() {
            return Ok(Event::Drain);
        }
        loop {
            let waited = timeout(STREAM_IDLE_TIMEOUT, async {
                tokio::select! {
                    ready = client.readable(), if takes => {
                        ready?;
                        read(client, self.conversation.client()).map(Event::Client)
                    }
                    ready = server.readable() => {
                        ready?;
                        read(server, self.conversation.server()).map(Event::Server)
                    }
                    Ok(()) = self.policy.changed() => Ok(Event::Policy),
                    _ = stage.wait_for(|stage| *stage != Stage::Serving), if !is_draining => Ok(Event::Drain),
                }
            });
            match waited.await.unwrap_or(Ok(Event::Idle)) {
                // It was not readable after all.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                event => return event,
            }
        }
    }

    /// Does what the conversation says until it waits.
    async fn advance(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<Option<End>> {
        let judge = &self.dns.judge;
        loop {
            let current = self.policy.borrow().clone();
            let mut step = self.conversation.answer(judge, &current);
            if let Step::Wait = step {
                step = self.conversation.question(judge, &current);
            }
            if let Step::Admit(answered) = step {
                let admitted = Box::pin(self.dns.admit(answered)).await;
                step = self.conversation.admitted(judge, admitted);
            }
            match step {
                Step::Wait | Step::Admit(_) => return Ok(None),
                Step::ToServer(bytes) => send(server, &bytes).await?,
                Step::ToClient(bytes) => send(client, &bytes).await?,
                Step::Tunnel => return Ok(Some(End::Tunnel)),
                Step::Reset => return Ok(Some(End::Reset)),
            }
        }
    }

    /// Passes what was read and everything that comes, as long as no program denies what is no question; then both ends
    /// are reset.
    async fn tunnel(self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<End> {
        let Self { conversation, policy, way, .. } = self;
        let (from_client, from_server) = conversation.into_rest();
        let carried = async {
            server.write_all(&from_client).await?;
            client.write_all(&from_server).await?;
            copy_bidirectional(client, server).await.map(|_| End::Closed)
        };
        tokio::select! {
            carried = carried => carried,
            () = denied(policy, way) => Ok(End::Reset),
        }
    }
}

/// Returns when a program denies what is no question.
async fn denied(mut policy: CurrentReceiver, way: Way) {
    let allows = |current: &Arc<Current>| {
        matches!(verdict(current, way, Err(QueryFault::NoQuestion)), Verdict::Release { .. })
    };
    // Without its sender no program comes any more.
    if policy.wait_for(|current| !allows(current)).await.is_err() {
        pending().await
    }
}

/// Room is made when there is something to read: most connections wait.
fn read(stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
        buffer.reserve(READ_BYTES);
    }
    let read = stream.try_read_buf(buffer);
    if buffer.is_empty() {
        *buffer = Vec::new();
    }
    read
}

/// An end that takes nothing for so long holds the conversation no longer: no program would be heard meanwhile.
async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    timeout(STREAM_IDLE_TIMEOUT, stream.write_all(message)).await?
}

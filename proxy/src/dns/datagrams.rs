//! Questions by UDP: one task each, from the captured datagram to its answer.

use super::Dns;
use super::counters::{DNS_COUNTERS, count};
use super::exchange::{Asked, Came, Open};
use super::limits::{ANSWER_TIMEOUT, QUESTION_BYTES_MAX};
use super::room::{Place, Room};
use super::verdict::Way;
use crate::drain::Stage;
use crate::intercept::{Arrived, DatagramListener, Destinations};
use crate::policy::CurrentReceiver;
use bulkhead_facts::{Direction, L4Protocol};
use socket2::SockRef;
use std::future::Future;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

/// What serves one listener.
pub(super) struct Service {
    pub(super) dns: Dns,
    pub(super) listener: Arc<DatagramListener>,
    pub(super) destinations: Arc<Destinations>,
    pub(super) room: Arc<Room>,
    pub(super) policy: CurrentReceiver,
}

/// Wait after a failed read.
const RECEIVE_RETRY: Duration = Duration::from_millis(20);

impl Service {
    /// Takes questions until the drain begins.
    pub(super) async fn serve(self) {
        let mut stage = self.dns.stage.clone();
        let mut buffer = vec![0; QUESTION_BYTES_MAX];
        loop {
            let arrived = tokio::select! {
                arrived = self.listener.receive(&mut buffer) => arrived,
                _ = stage.wait_for(|stage| *stage != Stage::Serving) => return,
            };
            match arrived {
                Ok(arrived) => self.begin(arrived, buffer.get(..arrived.length).unwrap_or_default()),
                Err(error) => {
                    tracing::debug!(%error, "captured datagram not read");
                    sleep(RECEIVE_RETRY).await;
                }
            }
        }
    }

    fn begin(&self, arrived: Arrived, bytes: &[u8]) {
        let direction = self.listener.direction;
        let peer = (direction == Direction::Ingress).then(|| arrived.client.ip());
        let Some(place) = self.room.take(peer) else {
            return count(&DNS_COUNTERS.no_room);
        };
        let (client, destination) = match self.destinations.of(&self.listener, arrived) {
            Ok(Some(ends)) => ends,
            Ok(None) => return tracing::debug!(client = %arrived.client, "not a captured datagram: dropped"),
            Err(error) => {
                return tracing::warn!(%error, "captured datagram dropped: its destination is not known");
            }
        };
        let (peer, local) = match direction {
            Direction::Ingress => (client.ip(), destination.ip()),
            Direction::Egress => (destination.ip(), client.ip()),
        };
        let way = Way {
            direction,
            peer,
            local,
            protocol: L4Protocol::UDP,
            port: destination.port(),
            endpoint: None,
        };
        let current = self.policy.borrow().clone();
        let asked = self.dns.judge.ask(&current, way, bytes);
        let exchange = Exchange {
            dns: self.dns.clone(),
            listener: self.listener.clone(),
            arrived,
            client,
            destination,
            way,
            _place: place,
        };
        tokio::spawn(exchange.run(asked));
    }
}

struct Exchange {
    dns: Dns,
    listener: Arc<DatagramListener>,
    arrived: Arrived,
    client: SocketAddr,
    destination: SocketAddr,
    way: Way,
    _place: Place,
}

impl Exchange {
    async fn run(self, asked: Asked) {
        if let Some(answer) = answer(&self.dns, self.way, asked, self.reach()).await
            && let Err(error) = self.listener.answer(self.arrived, &answer).await
        {
            tracing::debug!(%error, client = %self.client, "answer not sent");
        }
    }

    async fn reach(&self) -> io::Result<UdpSocket> {
        match self.way.direction {
            Direction::Egress => self.dns.sockets.ask_upstream(self.destination).await,
            Direction::Ingress => self.dns.sockets.ask_local(self.client, self.destination).await,
        }
    }
}

/// What is told to whoever sent a datagram, if anything. A question that may leave does so by the socket that `reach` makes.
pub async fn answer(
    dns: &Dns,
    way: Way,
    asked: Asked,
    reach: impl Future<Output = io::Result<UdpSocket>>,
) -> Option<Vec<u8>> {
    let (message, open) = match asked {
        Asked::Drop => return None,
        Asked::Refuse(refusal) => return Some(refusal),
        Asked::Release { message, open } => (message, open),
    };
    let asked = async {
        let socket = reach.await?;
        socket.send(&message).await?;
        drop(message);
        first_answer(dns, way, &open, &socket).await
    };
    match timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok(answer)) => Some(answer),
        // Nobody is there: the app would have been told so.
        Ok(Err(_)) => dns.judge.unanswered(way, &open),
        // Nobody says anything: the app would have heard nothing.
        Err(_) => {
            dns.judge.unanswered(way, &open);
            None
        }
    }
}

async fn first_answer(dns: &Dns, way: Way, open: &Open, socket: &UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        let read = || read(socket, open.answer_bytes());
        // That nobody is there is an error, and nothing to read.
        let bytes = socket.async_io(Interest::READABLE | Interest::ERROR, read).await?;
        match dns.judge.answered(way, open, bytes) {
            Came::Pass(answer) => return Ok(answer),
            Came::Admit { answered, message } => {
                // Most of the time a question waits for its answer: it holds no room for what comes then.
                let admitted = Box::pin(dns.admit(answered)).await;
                return Ok(dns.judge.admitted(way, open, message, admitted));
            }
            Came::Foreign => {}
        }
    }
}

/// A datagram that is there, cut at so many bytes. Room for it is made now: most of the time a question waits, and whoever
/// asks says how long an answer may be.
fn read(socket: &UdpSocket, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; bytes_max];
    let length = (&*SockRef::from(socket)).read(&mut bytes)?;
    bytes.truncate(length);
    bytes.shrink_to_fit();
    Ok(bytes)
}

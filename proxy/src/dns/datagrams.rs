//! Questions by UDP: one task each, from the captured datagram to its answer.

use super::Dns;
use super::counters::{DNS_COUNTERS, count};
use super::exchange::{Asked, Came, Open};
use super::limits::{ANSWER_TIMEOUT, QUESTION_BYTES_MAX};
use super::verdict::Way;
use crate::drain::Stage;
use crate::intercept::{Arrived, DatagramListener, Destinations};
use crate::policy::CurrentReceiver;
use bulkhead_facts::{Direction, L4Protocol};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// What serves one listener.
pub(super) struct Service {
    pub(super) dns: Dns,
    pub(super) listener: Arc<DatagramListener>,
    pub(super) destinations: Arc<Destinations>,
    pub(super) room: Arc<Semaphore>,
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
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return count(&DNS_COUNTERS.no_room);
        };
        let (client, destination) = match self.destinations.of(&self.listener, arrived) {
            Ok(Some(ends)) => ends,
            Ok(None) => return tracing::debug!(client = %arrived.client, "not a captured datagram: dropped"),
            Err(error) => {
                return tracing::warn!(%error, "captured datagram dropped: its destination is not known");
            }
        };
        let direction = self.listener.direction;
        let (peer, local) = match direction {
            Direction::Ingress => (client.ip(), destination.ip()),
            Direction::Egress => (destination.ip(), client.ip()),
        };
        let way = Way { direction, peer, local, protocol: L4Protocol::UDP, port: destination.port() };
        let current = self.policy.borrow().clone();
        let asked = self.dns.judge.ask(&current, way, bytes);
        let exchange = Exchange {
            dns: self.dns.clone(),
            listener: self.listener.clone(),
            arrived,
            client,
            destination,
            way,
            _permit: permit,
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
    _permit: OwnedSemaphorePermit,
}

impl Exchange {
    async fn run(self, asked: Asked) {
        let answer = match asked {
            Asked::Drop => None,
            Asked::Refuse(refusal) => Some(refusal),
            Asked::Release { message, open } => {
                match timeout(ANSWER_TIMEOUT, self.exchange(&message, &open)).await {
                    Ok(Ok(answer)) => Some(answer),
                    // Nobody is there: the app would have been told so.
                    Ok(Err(_)) => self.dns.judge.unanswered(self.way, &open),
                    // Nobody says anything: the app would have heard nothing.
                    Err(_) => {
                        self.dns.judge.unanswered(self.way, &open);
                        None
                    }
                }
            }
        };
        if let Some(answer) = answer
            && let Err(error) = self.listener.answer(self.arrived, &answer).await
        {
            tracing::debug!(%error, client = %self.client, "answer not sent");
        }
    }

    async fn exchange(&self, message: &[u8], open: &Open) -> io::Result<Vec<u8>> {
        let socket = self.reach().await?;
        socket.send(message).await?;
        let mut buffer = vec![0; open.answer_bytes()];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let bytes = buffer.get(..length).unwrap_or_default().to_vec();
            match self.dns.judge.answered(self.way, open, bytes) {
                Came::Pass(answer) => return Ok(answer),
                Came::Admit { answered, message } => {
                    let admitted = self.dns.admit(answered).await;
                    return Ok(self.dns.judge.admitted(self.way, open, message, admitted));
                }
                Came::Foreign => {}
            }
        }
    }

    async fn reach(&self) -> io::Result<UdpSocket> {
        match self.way.direction {
            Direction::Egress => self.dns.sockets.ask_upstream(self.destination).await,
            Direction::Ingress => self.dns.sockets.ask_local(self.client, self.destination).await,
        }
    }
}

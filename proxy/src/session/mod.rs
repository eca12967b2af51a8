//! Connections through the inspector: accepted, judged, relayed, reported.
//!
//! One task serves both directions of a connection. Where something on it can be denied it is *gated*: no byte of a
//! request leaves before its verdict. Elsewhere it is *teed*: the destination is dialled at accept, bytes leave at
//! once, and a copy is read to learn from it and to say what enforcement would do. A new program is applied to
//! connections that are open.
//!
//! [`serve`] begins a connection, [`choice`] is where it is led to, [`connection`] its life, [`drive`] what its bytes mean, [`relay`] how they move,
//! [`verdict`] what the policy says, [`report`] what is told of it.

mod buffer;
mod choice;
mod connection;
mod counters;
mod denial;
mod drive;
mod grown;
mod kinds;
mod leg;
pub mod limits;
mod relay;
mod report;
mod revoke;
#[cfg(test)]
mod tests;
mod verdict;

pub(crate) use choice::{candidates, dial_one_of};
pub use connection::Ends;
pub use counters::{COUNTERS, Counters};
pub(crate) use denial::new_report_id;
pub(crate) use verdict::action;

use crate::drain::StageReceiver;
use crate::flows::Recorder;
use crate::policy::{Current, CurrentReceiver};
use bulkhead_facts::{Direction, Effect};
use connection::Connection;
use report::Report;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpStream;
use verdict::{Plan, Verdicts};

/// How a connection reaches its destination.
pub trait Dial: Send + Sync {
    /// Connects to the destination on behalf of the client.
    fn dial(&self, ends: Ends) -> impl Future<Output = io::Result<TcpStream>> + Send;

    /// The same where bytes wait to be sent: it may send the beginning of them, and says how many.
    fn dial_with(
        &self,
        ends: Ends,
        first: &[u8],
    ) -> impl Future<Output = io::Result<(TcpStream, usize)>> + Send {
        let _ = first;
        async move { Ok((self.dial(ends).await?, 0)) }
    }
}

/// What all connections share.
#[derive(Clone)]
pub struct Shared {
    /// The policy in force.
    pub policy: CurrentReceiver,
    /// Where observations go.
    pub recorder: Arc<Recorder>,
    /// Life of the process: from the drain on, a connection ends as soon as nothing is open on it.
    pub stage: StageReceiver,
}

/// Serves one accepted connection to its end. Whoever opened it is `ends.client`; `direction` is seen from the
/// workload.
// What is needed before the first wait is done at once, and the connection is used where it was captured: a future
// keeps room for whatever is moved within it, and there is one for each connection.
pub fn serve<D: Dial>(
    direction: Direction,
    client: TcpStream,
    ends: Ends,
    shared: Shared,
    dial: &D,
) -> impl Future<Output = ()> + Send {
    let Shared { mut policy, recorder, stage } = shared;
    let current = policy.borrow_and_update().clone();
    let endpoints = candidates(&current, direction, ends.destination.ip(), ends.destination.port());
    let mut connection = admit(direction, client, ends, current, recorder, endpoints.first().copied());
    async move {
        let Some(connection) = &mut connection else { return };
        let needed = needs_destination(direction, &connection.verdicts);
        let dialled = match endpoints.is_empty() {
            true if needed => connection.dial(dial).await,
            true => Ok(()),
            // Few connections need the room.
            false => Box::pin(connection.dial_one_of(dial, endpoints)).await,
        };
        if dialled.is_err() {
            return reset(&connection.client.stream);
        }
        connection.run(dial, policy, stage).await;
    }
}

/// `None` if it may not be at all: then it is reset and reported.
fn admit(
    direction: Direction,
    client: TcpStream,
    ends: Ends,
    current: Arc<Current>,
    recorder: Arc<Recorder>,
    endpoint: Option<SocketAddr>,
) -> Option<Connection> {
    let (peer, local) = match direction {
        Direction::Ingress => (ends.client, ends.destination),
        Direction::Egress => (ends.destination, ends.client),
    };
    let port = ends.destination.port();
    let verdicts = Verdicts::new(current, direction, peer.ip(), port, endpoint);
    let mut report = Report::new(recorder, direction, peer.ip(), local.ip(), port);
    if let Plan::Reset(answers) = verdicts.plan {
        report.denied(&verdicts.current, answers, None, "", None);
        reset(&client);
        return None;
    }
    Some(Connection::new(ends, client, verdicts, report))
}

/// True if something on such a connection can be denied.
pub fn is_gated(current: &Arc<Current>, direction: Direction, peer: IpAddr, port: u16) -> bool {
    Verdicts::new(Arc::clone(current), direction, peer, port, None).gate()
}

/// True if the destination is dialled before the first byte: for the app's own connections, which then fail as
/// they would without us; and where a server may have to speak first. A gated peer reaches the workload only with
/// its first allowed request.
fn needs_destination(direction: Direction, verdicts: &Verdicts) -> bool {
    direction == Direction::Egress || !verdicts.gate() || verdicts.opaque().enforced.effect == Effect::Allow
}

/// The other end sees a reset when the socket is dropped.
fn reset(stream: &TcpStream) {
    // Without the option the end is orderly, which is the worst that can happen.
    let _ = stream.set_zero_linger();
}

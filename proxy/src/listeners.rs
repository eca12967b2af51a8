//! Captured connections, from the listeners to the inspector.
//!
//! The listeners are bound before there is a program, so that nobody else takes their ports, and accept once there is
//! one: until then the closed table sends them nothing. Each connection is one task that ends on drain by itself; there
//! is no pool and nothing is shared between connections.

use crate::dns::{self, Dns};
use crate::drain::{ConnectionGuard, Connections, Stage, StageReceiver};
use crate::enforcement::{Enforcement, Pulse};
use crate::flows::Recorder;
use crate::intercept::{self, DatagramListener, Destinations, Sockets, ToApp, ToDestination};
use crate::metrics::Metrics;
use crate::policy::CurrentReceiver;
use crate::session::{self, Ends, Shared};
use bulkhead_facts::Direction;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// What carrying traffic needs.
#[derive(Clone)]
pub struct Traffic {
    /// Where programs come from.
    pub enforcement: Enforcement,
    /// Makes the sockets of both legs.
    pub sockets: Sockets,
    /// Where observations go.
    pub recorder: Arc<Recorder>,
    /// Counts connections.
    pub connections: Arc<Connections>,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// Set once connections are accepted.
    pub accepting: Arc<AtomicBool>,
    /// Shows that traffic is carried.
    pub pulse: Pulse,
    /// Serves questions to name servers.
    pub dns: Dns,
    /// Everything that is inspected hangs on the pulse, not only what is learned.
    pub fails_open: bool,
    /// Who accepts.
    pub workers: Arc<[Handle]>,
    /// Life of the process.
    pub stage: StageReceiver,
}

const PULSE_INTERVAL: Duration = Duration::from_millis(200);
/// Between tries to listen on a port that somebody else holds.
const PORT_RETRY: Duration = Duration::from_secs(1);
/// Wait after a failed accept: most often there are no descriptors left, and some come back soon.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);

/// Binds the capturing ports in both families.
///
/// # Errors
///
/// If a port is taken.
pub fn bind(sockets: &Sockets) -> io::Result<Listeners> {
    let inbound = sockets.listen_inbound()?.into_iter().map(|listener| (Direction::Ingress, listener));
    let outbound = sockets.listen_outbound()?.into_iter().map(|listener| (Direction::Egress, listener));
    Ok(Listeners {
        streams: inbound.chain(outbound).collect(),
        datagrams: sockets.listen_datagrams()?,
        destinations: Destinations::open().map_err(io::Error::other)?,
    })
}

/// [`bind`] until it succeeds. While an app holds a port of ours what needs the inspector is refused and the app receives
/// nothing; what the kernel enforces does not wait for it.
pub async fn bind_when_free(sockets: &Sockets) -> Listeners {
    loop {
        match bind(sockets) {
            Ok(listeners) => return listeners,
            Err(error) => tracing::error!(
                %error,
                "cannot listen on the capturing ports, trying again: what needs the inspector is refused until whoever \
                 holds them lets go"
            ),
        }
        sleep(PORT_RETRY).await;
    }
}

/// Where captured traffic arrives.
pub struct Listeners {
    streams: Vec<(Direction, TcpListener)>,
    datagrams: Vec<DatagramListener>,
    destinations: Destinations,
}

impl Traffic {
    /// Accepts from the first program on until the drain begins.
    pub async fn carry(self, listeners: Listeners) {
        let Some(current) = self.enforcement.first_program().await else { return };
        let others = self.workers.get(1..).unwrap_or_default();
        for (direction, listener) in listeners.streams {
            for other in others {
                match on(other, &listener) {
                    Ok(listener) => {
                        other.spawn(self.clone().accept(direction, listener, current.clone()));
                    }
                    Err(error) => {
                        tracing::error!(%error, %direction, "a worker accepts nothing");
                    }
                }
            }
            tokio::spawn(self.clone().accept(direction, listener, current.clone()));
        }
        self.dns.serve_datagrams(listeners.datagrams, listeners.destinations, &current);
        self.accepting.store(true, Ordering::Release);
        let progress = others.iter().map(show_progress).collect();
        self.beat(progress).await;
    }

    /// Beats while the workers make progress and have room; a worker that hangs, or a crowd, stops the heartbeat of
    /// learning, and what is inspected only to learn passes by itself.
    async fn beat(&self, others: Vec<Arc<AtomicBool>>) {
        let mut ticks = interval(PULSE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stage = self.stage.clone();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    // Each of them is asked, so that none is answered for by its last round.
                    let hang = others.iter().filter(|other| !other.swap(false, Ordering::Relaxed)).count();
                    if hang == 0 && shows_life(&self.connections, self.fails_open) {
                        self.pulse.beat();
                    }
                }
                _ = stage.wait_for(|stage| *stage != Stage::Serving) => return,
            }
        }
    }

    async fn accept(self, direction: Direction, listener: TcpListener, current: CurrentReceiver) {
        let mut stage = self.stage.clone();
        loop {
            if stage.has_changed().unwrap_or(true) && *stage.borrow_and_update() != Stage::Serving {
                return;
            }
            // What waits to be accepted is taken without a look at what seldom happens.
            let accepted = tokio::select! {
                biased;
                accepted = listener.accept() => accepted,
                _ = stage.wait_for(|stage| *stage != Stage::Serving) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.begin(direction, stream, peer, current.clone()),
                Err(error) => {
                    tracing::warn!(%error, %direction, "connection not accepted");
                    self.connections.accept_failed();
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn begin(&self, direction: Direction, stream: TcpStream, peer: SocketAddr, current: CurrentReceiver) {
        let destination = match intercept::original_destination(&stream, peer) {
            Ok(destination) => destination,
            Err(error) => {
                tracing::debug!(%error, %peer, "not a captured connection: reset");
                let _ = stream.set_zero_linger();
                return;
            }
        };
        let Some(guard) = self.connections.admit(direction, counted(direction, peer, destination, &current))
        else {
            let _ = stream.set_zero_linger();
            return;
        };
        self.metrics.connections[usize::from(direction == Direction::Egress)].inc();
        let ends = Ends { client: peer, destination };
        let shared = Shared { policy: current, recorder: self.recorder.clone(), stage: self.stage.clone() };
        let session = Session { direction, stream, ends, shared, sockets: self.sockets };
        let peer = if direction == Direction::Ingress { peer } else { destination };
        let for_dns =
            dns::is_for_us(&session.shared.policy.borrow(), direction, peer.ip(), destination.port());
        match for_dns {
            true => drop(tokio::spawn(session.serve_questions(self.dns.clone(), guard))),
            false => drop(tokio::spawn(session.serve(guard))),
        }
    }
}

/// The same socket for another worker.
fn on(worker: &Handle, listener: &TcpListener) -> io::Result<TcpListener> {
    let same = listener.as_fd().try_clone_to_owned()?;
    let _there = worker.enter();
    TcpListener::from_std(same.into())
}

/// What another worker sets as long as it makes progress, more often than it is asked.
fn show_progress(worker: &Handle) -> Arc<AtomicBool> {
    let progress = Arc::new(AtomicBool::new(true));
    let shown = progress.clone();
    worker.spawn(async move {
        let mut ticks = interval(PULSE_INTERVAL / 4);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            shown.store(true, Ordering::Relaxed);
        }
    });
    progress
}

/// A crowd ends what is only learned. It opens nothing: where somebody chose to fail open, whoever can make one would get
/// past the inspector.
fn shows_life(connections: &Connections, fails_open: bool) -> bool {
    !connections.is_crowded() || fails_open
}

/// The peer, where it may be refused for what it holds already: whoever connects to the workload and can be denied
/// something. The app's own connections and those that are only observed are limited in all.
fn counted(
    direction: Direction,
    peer: SocketAddr,
    destination: SocketAddr,
    current: &CurrentReceiver,
) -> Option<IpAddr> {
    let gated = || session::is_gated(&current.borrow(), direction, peer.ip(), destination.port());
    (direction == Direction::Ingress && gated()).then(|| peer.ip())
}

struct Session {
    direction: Direction,
    stream: TcpStream,
    ends: Ends,
    shared: Shared,
    sockets: Sockets,
}

impl Session {
    async fn serve_questions(self, dns: Dns, _counted: ConnectionGuard) {
        let Self { direction, stream, ends, shared, sockets } = self;
        match direction {
            Direction::Ingress => {
                dns::serve_stream(&dns, direction, stream, ends, shared.policy, &ToApp(sockets)).await;
            }
            Direction::Egress => {
                dns::serve_stream(&dns, direction, stream, ends, shared.policy, &ToDestination(sockets))
                    .await;
            }
        }
    }

    async fn serve(self, _counted: ConnectionGuard) {
        let Self { direction, stream, ends, shared, sockets } = self;
        match direction {
            Direction::Ingress => session::serve(direction, stream, ends, shared, &ToApp(sockets)).await,
            Direction::Egress => {
                session::serve(direction, stream, ends, shared, &ToDestination(sockets)).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ACCEPT_FAILURES_MAX;
    use crate::workers::Workers;
    use std::net::Ipv4Addr;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    #[test]
    fn a_crowd_ends_what_is_only_learned_and_opens_nothing() {
        let connections = Connections::new(Arc::new(Metrics::new().expect("metrics")));
        let crowd = || (0..ACCEPT_FAILURES_MAX).for_each(|_| connections.accept_failed());
        assert!(shows_life(&connections, false) && shows_life(&connections, true));
        crowd();
        assert!(!shows_life(&connections, false), "what is only learned passes by itself");
        crowd();
        assert!(shows_life(&connections, true), "what is inspected waits for its turn");
        assert!(shows_life(&connections, false), "none since");
    }

    #[test]
    fn another_worker_accepts_from_the_same_socket() {
        let workers = Workers::start(2).expect("threads");
        let [first, second] = workers.handles() else { panic!("two workers") };
        let listener = first.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        let address = listener.local_addr().expect("an address");
        let same = on(second, &listener).expect("the same socket");
        let accepted = second.spawn(async move { same.accept().await.map(|(_, peer)| peer) });
        let client = std::net::TcpStream::connect(address).expect("accepted by the kernel");
        let peer = first.block_on(accepted).expect("no panic").expect("accepted");
        assert_eq!(peer, client.local_addr().expect("an address"));
        workers.end(Duration::from_secs(10));
    }

    #[test]
    fn a_worker_that_hangs_shows_no_progress() {
        let workers = Workers::start(1).expect("a thread");
        let progress = show_progress(&workers.handles()[0]);
        let ((hangs, hung), (release, released)) = (channel(), channel::<()>());
        workers.handles()[0].spawn(async move {
            let _ = hangs.send(());
            let _ = released.recv();
        });
        hung.recv().expect("it hangs");
        progress.store(false, Ordering::Relaxed);
        std::thread::sleep(PULSE_INTERVAL);
        assert!(!progress.load(Ordering::Relaxed));
        drop(release);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !progress.load(Ordering::Relaxed) {
            assert!(Instant::now() < deadline, "it goes on");
            std::thread::yield_now();
        }
        workers.end(Duration::from_secs(10));
    }
}

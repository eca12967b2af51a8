//! How the process ends: first no new connections, then the open ones, then the last report.
//!
//! Everybody watches one [`Stage`]; connections are counted by guards, so that the end of the last one is noticed at
//! once. The kernel table stays when the process is gone: what needs the inspector is then refused.

use crate::limits::{
    ACCEPT_FAILURES_MAX, CONNECTIONS_OPEN_MAX, CROWDED_SHARE, DESCRIPTORS_PER_CONNECTION,
    DIRECTION_RESERVE_SHARE, PEER_SHARE,
};
use crate::metrics::Metrics;
use crate::system;
use bulkhead_facts::Direction;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Connections are accepted.
    Serving,
    /// No new connections; open ones finish.
    Draining,
    /// Connections are gone; the last flows are reported.
    Ending,
}

/// Sees the stages come.
pub type StageReceiver = watch::Receiver<Stage>;

/// Counts connections, shares them out, and knows when there are none.
pub struct Connections {
    held: Mutex<Held>,
    limit: usize,
    admitted: AtomicU64,
    accept_failures: AtomicUsize,
    empty: Notify,
    metrics: Arc<Metrics>,
}

/// Who holds connections now.
#[derive(Default)]
struct Held {
    ingress: usize,
    egress: usize,
    /// Peers that are counted, each with at least one.
    peers: HashMap<IpAddr, usize>,
}

/// One connection; counted until dropped.
pub struct ConnectionGuard {
    connections: Arc<Connections>,
    direction: Direction,
    peer: Option<IpAddr>,
}

impl Connections {
    /// None yet; as many as the limit of open files leaves.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let files = system::open_files_limit().unwrap_or(u64::MAX);
        let limit = usize::try_from(files / DESCRIPTORS_PER_CONNECTION).unwrap_or(usize::MAX);
        Self::with_limit(metrics, limit.min(CONNECTIONS_OPEN_MAX))
    }

    fn with_limit(metrics: Arc<Metrics>, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            limit: limit.max(PEER_SHARE),
            admitted: AtomicU64::new(0),
            accept_failures: AtomicUsize::new(0),
            empty: Notify::new(),
            metrics,
        })
    }

    /// Admits one more connection, unless there are too many, in all, in this direction, or of this peer. `None` is
    /// a peer that is not counted.
    pub fn admit(self: &Arc<Self>, direction: Direction, peer: Option<IpAddr>) -> Option<ConnectionGuard> {
        if !self.has_room(&mut self.held(), direction, peer) {
            self.metrics.connections_refused.inc();
            return None;
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections_open.inc();
        Some(ConnectionGuard { connections: self.clone(), direction, peer })
    }

    /// Takes a place if there is one.
    fn has_room(&self, held: &mut Held, direction: Direction, peer: Option<IpAddr>) -> bool {
        let of_peer = peer.and_then(|peer| held.peers.get(&peer)).copied().unwrap_or_default();
        if held.all() >= self.limit
            || *held.of(direction) >= self.direction_limit()
            || of_peer >= self.limit / PEER_SHARE
        {
            return false;
        }
        *held.of(direction) += 1;
        if let Some(peer) = peer {
            held.peers.insert(peer, of_peer + 1);
        }
        true
    }

    fn direction_limit(&self) -> usize {
        self.limit - self.limit / DIRECTION_RESERVE_SHARE
    }

    /// True if so little is left, in all or in one direction, that nobody should come only to be learned from; or if
    /// connections were not accepted since the last call.
    pub fn is_crowded(&self) -> bool {
        let crowded = |open: usize, limit: usize| open > limit - limit / CROWDED_SHARE;
        let failing = self.accept_failures.swap(0, Ordering::Relaxed) >= ACCEPT_FAILURES_MAX;
        let held = self.held();
        failing
            || crowded(held.all(), self.limit)
            || crowded(held.ingress.max(held.egress), self.direction_limit())
    }

    /// A connection was not accepted.
    pub fn accept_failed(&self) {
        self.accept_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections now.
    pub fn open(&self) -> usize {
        self.held().all()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections since the start.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Waits until there are none, at most for `patience`. Returns how many are left.
    pub async fn finish(&self, patience: Duration) -> usize {
        let none_left = async {
            loop {
                let emptied = self.empty.notified();
                if self.open() == 0 {
                    return;
                }
                emptied.await;
            }
        };
        let _ = timeout(patience, none_left).await;
        self.open()
    }
}

impl Held {
    fn all(&self) -> usize {
        self.ingress + self.egress
    }

    fn of(&mut self, direction: Direction) -> &mut usize {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Takes one back; how many are left.
    fn leave(&mut self, direction: Direction, peer: Option<IpAddr>) -> usize {
        *self.of(direction) -= 1;
        if let Some(peer) = peer {
            match self.peers.get_mut(&peer) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    self.peers.remove(&peer);
                }
            }
        }
        self.all()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.metrics.connections_open.dec();
        let left = self.connections.held().leave(self.direction, self.peer);
        if left == 0 {
            self.connections.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Egress, Ingress};

    fn connections() -> Arc<Connections> {
        Connections::new(Arc::new(Metrics::new().expect("metrics")))
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_the_last_connection() {
        let connections = connections();
        let guard = connections.admit(Ingress, None).expect("room");
        let waiting = tokio::spawn({
            let connections = connections.clone();
            async move { connections.finish(Duration::from_secs(30)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(guard);
        assert_eq!(waiting.await.expect("no panic"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_says_how_many_are_left() {
        let connections = connections();
        let _guards = [connections.admit(Ingress, None), connections.admit(Egress, None)];
        assert_eq!(connections.finish(Duration::from_secs(30)).await, 2);
    }

    /// As many as are admitted.
    fn fill(
        connections: &Arc<Connections>,
        direction: Direction,
        peer: Option<IpAddr>,
    ) -> Vec<ConnectionGuard> {
        std::iter::from_fn(|| connections.admit(direction, peer)).collect()
    }

    fn limited(limit: usize) -> Arc<Connections> {
        Connections::with_limit(Arc::new(Metrics::new().expect("metrics")), limit)
    }

    #[test]
    fn neither_direction_takes_what_is_kept_for_the_other() {
        for (first, second) in [(Ingress, Egress), (Egress, Ingress)] {
            let connections = limited(80);
            let many = fill(&connections, first, None);
            assert_eq!(many.len(), 60);
            let rest = fill(&connections, second, None);
            assert_eq!((rest.len(), connections.open()), (20, 80));
            drop((many, rest));
            assert_eq!(connections.open(), 0);
        }
    }

    #[test]
    fn one_peer_takes_no_more_than_its_share() {
        let (one, other) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        let connections = limited(80);
        let mut greedy = fill(&connections, Ingress, one);
        assert_eq!(greedy.len(), 10);
        assert_eq!(fill(&connections, Ingress, other).len(), 10);
        greedy.pop();
        greedy.extend(fill(&connections, Ingress, one));
        assert_eq!(greedy.len(), 10, "what is given back may be taken again");
        drop(greedy);
        assert!(connections.held().peers.is_empty(), "nobody is remembered");
    }

    #[test]
    fn nobody_comes_to_be_learned_from_where_little_room_is_left() {
        let connections = limited(80);
        let mut guards: Vec<_> = (0..53).map_while(|_| connections.admit(Ingress, None)).collect();
        assert!(!connections.is_crowded());
        guards.extend(connections.admit(Ingress, None));
        assert!(connections.is_crowded(), "54 of the 60 of one direction");
        guards.truncate(40);
        guards.extend((0..30).map_while(|_| connections.admit(Egress, None)));
        assert!(!connections.is_crowded(), "70 of 80");
        guards.extend(connections.admit(Egress, None));
        assert!(connections.is_crowded(), "71 of 80");
    }

    #[test]
    fn failures_to_accept_crowd_until_they_end() {
        let connections = limited(80);
        (0..ACCEPT_FAILURES_MAX).for_each(|_| connections.accept_failed());
        assert!(connections.is_crowded());
        assert!(!connections.is_crowded(), "none since");
    }

    #[test]
    fn the_limit_of_open_files_limits_connections() {
        let files = usize::try_from(system::open_files_limit().expect("a limit")).unwrap_or(usize::MAX);
        let connections = connections();
        assert!(connections.limit <= CONNECTIONS_OPEN_MAX);
        assert!(connections.limit <= (files / 6).max(PEER_SHARE));
    }
}

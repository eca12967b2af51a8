//! How the process ends: first no new connections, then the open ones, then the last report.
//!
//! Everybody watches one [`Stage`]; connections are counted by guards, so that the end of the last one is noticed at
//! once. The kernel table stays when the process is gone: what needs the inspector is then refused.

use crate::limits::CONNECTIONS_OPEN_MAX;
use crate::metrics::Metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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

/// Counts connections and knows when there are none.
pub struct Connections {
    open: AtomicUsize,
    admitted: AtomicU64,
    empty: Notify,
    metrics: Arc<Metrics>,
}

/// One connection; counted until dropped.
pub struct ConnectionGuard(Arc<Connections>);

impl Connections {
    /// None yet.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            admitted: AtomicU64::new(0),
            empty: Notify::new(),
            metrics,
        })
    }

    /// Admits one more connection, unless there are too many.
    pub fn admit(self: &Arc<Self>) -> Option<ConnectionGuard> {
        let admitted = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            (open < CONNECTIONS_OPEN_MAX).then_some(open + 1)
        });
        if admitted.is_err() {
            self.metrics.connections_refused.inc();
            return None;
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections_open.inc();
        Some(ConnectionGuard(self.clone()))
    }

    /// Connections now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
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

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.metrics.connections_open.dec();
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Arc<Connections> {
        Connections::new(Arc::new(Metrics::new().expect("metrics")))
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_the_last_connection() {
        let connections = connections();
        let guard = connections.admit().expect("room");
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
        let _guards = [connections.admit(), connections.admit()];
        assert_eq!(connections.finish(Duration::from_secs(30)).await, 2);
    }

    #[test]
    fn no_more_than_the_limit_are_admitted() {
        let connections = connections();
        let guards: Vec<_> = (0..CONNECTIONS_OPEN_MAX).map_while(|_| connections.admit()).collect();
        assert_eq!(guards.len(), CONNECTIONS_OPEN_MAX);
        assert!(connections.admit().is_none());
        drop(guards);
        assert!(connections.admit().is_some());
    }
}

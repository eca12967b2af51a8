//! The threads that carry traffic, each with a runtime of its own.
//!
//! A connection stays with the thread that accepted it: what wakes it never wakes another thread, and nobody looks for work
//! elsewhere (`docs/decisions/0014-cost-of-a-request.md`). All threads accept from the same sockets; who is busy
//! comes later and gets fewer.

use crate::limits::THREAD_STACK_BYTES;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

/// The threads, until they are told to end.
pub struct Workers {
    handles: Vec<Handle>,
    ends: watch::Sender<bool>,
    ended: Receiver<()>,
}

impl Workers {
    /// Starts so many, at least one.
    ///
    /// # Errors
    ///
    /// If the system has no thread for us.
    pub fn start(count: usize) -> io::Result<Self> {
        let (ends, receiver) = watch::channel(false);
        let (last, ended) = channel();
        let mut handles = Vec::new();
        for _ in 0..count.max(1) {
            let runtime = Builder::new_current_thread().max_blocking_threads(1).enable_all().build()?;
            handles.push(runtime.handle().clone());
            let (receiver, last) = (receiver.clone(), last.clone());
            thread::Builder::new()
                .name("traffic".to_owned())
                .stack_size(THREAD_STACK_BYTES)
                .spawn(move || work(runtime, receiver, last))?;
        }
        Ok(Self { handles, ends, ended })
    }

    /// What runs something on each of them.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Ends them with everything that runs there. One that hangs is left behind after `patience`.
    pub fn end(self, patience: Duration) {
        self.ends.send_replace(true);
        let deadline = Instant::now() + patience;
        // Nobody sends: the last one to end closes the channel.
        let left = self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        if left == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a traffic thread hangs: leaving it");
        }
    }
}

// `_last` is dropped after the runtime, and with it after every task.
fn work(runtime: Runtime, mut ends: watch::Receiver<bool>, _last: Sender<()>) {
    // An error says that nobody is left to tell us.
    let _ = runtime.block_on(ends.wait_for(|ends| *ends));
    drop(runtime);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use tokio::sync::oneshot;

    #[test]
    fn each_worker_runs_what_is_given_to_it_on_a_thread_of_its_own() {
        let workers = Workers::start(3).expect("threads");
        let threads: HashSet<_> = workers
            .handles()
            .iter()
            .map(|handle| {
                let (tell, told) = oneshot::channel();
                handle.spawn(async { tell.send(thread::current().id()) });
                told.blocking_recv().expect("an answer")
            })
            .collect();
        assert_eq!(threads.len(), 3);
        workers.end(Duration::from_secs(10));
    }

    #[test]
    fn the_end_ends_what_runs_and_does_not_wait_for_what_hangs() {
        let workers = Workers::start(1).expect("a thread");
        let (held, dropped) = oneshot::channel::<()>();
        workers.handles()[0].spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        workers.end(Duration::from_secs(10));
        assert!(dropped.blocking_recv().is_err(), "the task is gone");

        let workers = Workers::start(1).expect("a thread");
        let (release, hang) = channel::<()>();
        workers.handles()[0].spawn(async move { hang.recv() });
        let started = Instant::now();
        workers.end(Duration::from_millis(20));
        assert!(started.elapsed() < Duration::from_secs(5), "left behind");
        drop(release);
    }
}

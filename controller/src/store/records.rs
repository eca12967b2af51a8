//! A store on threads of its own: one writes, one looks up, one makes reports, so that a long report
//! delays neither an acknowledgement nor an enrolment.
//!
//! Batches that wait together are committed together: one sync of the disk for all. An answer is given only
//! after the commit. The queues are bounded ([`STORE_QUEUE`]); when one is full its callers wait.

use super::{Appended, Batch, Store, StoreError};
use crate::limits::{BATCHES_PER_COMMIT_MAX, STORE_QUEUE};
use std::io;
use std::thread::{self, JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// The store, for async callers.
#[derive(Clone, Debug)]
pub struct Records {
    writer: mpsc::Sender<Job>,
    reader: mpsc::Sender<Job>,
    reporter: mpsc::Sender<Job>,
}

/// The threads behind [`Records`]: they end when the last of its clones is gone.
#[derive(Debug)]
pub struct RecordsThreads(Vec<JoinHandle<()>>);

type Reply = oneshot::Sender<Result<Appended, StoreError>>;
type Work = Box<dyn FnOnce(&mut dyn Store) + Send>;

enum Job {
    Append(Batch, Reply),
    Run(Work),
}

impl Records {
    /// Starts the threads: `writer`, `reader` and `reporter` are connections to the same store.
    pub fn start(
        writer: Box<dyn Store>,
        reader: Box<dyn Store>,
        reporter: Box<dyn Store>,
    ) -> io::Result<(Self, RecordsThreads)> {
        let (writer, writing) = thread_for("store-writer", writer)?;
        let (reader, reading) = thread_for("store-reader", reader)?;
        let (reporter, reporting) = thread_for("store-reporter", reporter)?;
        Ok((Self { writer, reader, reporter }, RecordsThreads(vec![writing, reading, reporting])))
    }

    /// Stores a batch; returns after the commit.
    pub async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(Job::Append(batch, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs `work` on the writing connection.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        run(&self.writer, work).await
    }

    /// Runs `work`, which may take long, on the connection for reports.
    pub async fn report<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        run(&self.reporter, work).await
    }

    /// Runs `work`, which must be short, on the connection for look-ups.
    pub async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        run(&self.reader, work).await
    }
}

impl RecordsThreads {
    /// Waits until everything that was asked is done. Blocks.
    pub fn join(self) {
        for handle in self.0 {
            if handle.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

async fn run<T, F>(queue: &mpsc::Sender<Job>, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let job = Job::Run(Box::new(move |store| {
        // Who asked may have gone; the work is done all the same.
        let _ = reply.send(work(store));
    }));
    queue.send(job).await.map_err(|_| StoreError::Closed)?;
    answer.await.map_err(|_| StoreError::Closed)?
}

fn thread_for(name: &str, mut store: Box<dyn Store>) -> io::Result<(mpsc::Sender<Job>, JoinHandle<()>)> {
    let (sender, mut jobs) = mpsc::channel(STORE_QUEUE);
    let handle = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut waiting = Vec::new();
        while jobs.blocking_recv_many(&mut waiting, BATCHES_PER_COMMIT_MAX) > 0 {
            work_off(store.as_mut(), waiting.drain(..));
        }
    })?;
    Ok((sender, handle))
}

/// Does the jobs in order; neighbouring batches share a transaction.
fn work_off(store: &mut dyn Store, jobs: impl Iterator<Item = Job>) {
    let (mut batches, mut replies) = (Vec::new(), Vec::new());
    for job in jobs {
        match job {
            Job::Append(batch, reply) => {
                batches.push(batch);
                replies.push(reply);
            }
            Job::Run(work) => {
                commit(store, &mut batches, &mut replies);
                work(store);
            }
        }
    }
    commit(store, &mut batches, &mut replies);
}

fn commit(store: &mut dyn Store, batches: &mut Vec<Batch>, replies: &mut Vec<Reply>) {
    if batches.is_empty() {
        return;
    }
    let outcomes = match store.append(batches) {
        Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
        // One bad batch must not hold back those of other sidecars.
        Err(_) if batches.len() > 1 => batches.iter().map(|batch| append_alone(store, batch)).collect(),
        Err(error) => vec![Err(error)],
    };
    debug_assert_eq!(outcomes.len(), replies.len(), "one answer per batch");
    batches.clear();
    for (reply, outcome) in replies.drain(..).zip(outcomes) {
        // The stream that sent it may have ended; its sidecar sends the batch again and hears `Repeated`.
        let _ = reply.send(outcome);
    }
}

fn append_alone(store: &mut dyn Store, batch: &Batch) -> Result<Appended, StoreError> {
    let outcomes = store.append(std::slice::from_ref(batch))?;
    let missing = || StoreError::Failed { what: "store flows", problem: "no answer for a batch".into() };
    outcomes.first().copied().ok_or_else(missing)
}

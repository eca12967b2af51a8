//! The one thread that owns the kernel table.
//!
//! Netlink is blocking and the table has one owner, so it gets a thread of its own: programs come over a bounded channel,
//! are committed to the kernel, and only then published to the sessions. Between programs the thread keeps the heartbeat
//! of learning, looks whether the table is still ours, and collects what the kernel denied and let through.
//!
//! Generic over [`Table`], so that its order of doing things is tested without a kernel.

use crate::dns::NameKeeper;
use crate::firewall::NamedAddress;
use crate::limits::{ENFORCEMENT_COMMANDS_MAX, THREAD_STACK_BYTES};
use crate::metrics::Metrics;
use crate::policy::{Current, CurrentReceiver};
use bulkhead_facts::{Direction, HostName};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::Action;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// The kernel's side of enforcement.
pub trait Table: Send + 'static {
    /// What can fail.
    type Error: std::error::Error;

    /// Makes the kernel enforce a program; returns its generation. An error changes nothing.
    fn apply(&mut self, judge: &Arc<Judge>) -> Result<u16, Self::Error>;

    /// As [`apply`](Table::apply), with the addresses that names lead to. Without them where the table cannot hold any.
    fn apply_with_names(&mut self, judge: &Arc<Judge>, named: &[NamedAddress]) -> Result<u16, Self::Error> {
        let _ = named;
        self.apply(judge)
    }

    /// Replaces what is loaded of these addresses.
    fn change_named(&mut self, addresses: &[IpAddr], named: &[NamedAddress]) -> Result<(), Self::Error> {
        let _ = (addresses, named);
        Ok(())
    }

    /// The addresses outside that something is open to.
    fn open_destinations(&mut self) -> Result<BTreeSet<IpAddr>, Self::Error> {
        Ok(BTreeSet::new())
    }

    /// Keeps the redirect of learning alive for about a second.
    fn heartbeat(&mut self) -> Result<(), Self::Error>;

    /// Looks whether the table is as we left it, and puts it back if not. Returns what was different.
    fn restore_if_changed(&mut self) -> Result<Option<String>, Self::Error>;

    /// Reports what the kernel denied and let through since the last call.
    fn collect(&mut self) -> Result<(), Self::Error>;

    /// True if everything that is inspected hangs on the heartbeat, not only what is learned.
    fn fails_open(&self) -> bool {
        false
    }
}

/// How everybody else reaches the thread.
#[derive(Clone)]
pub struct Enforcement {
    commands: SyncSender<Command>,
    current: watch::Receiver<Option<CurrentReceiver>>,
}

/// Why a program is not enforced.
#[derive(Debug, thiserror::Error)]
pub enum EnforcementError {
    /// The kernel refused it.
    #[error("the kernel refused the program: {0}")]
    Kernel(String),
    /// Too many commands wait.
    #[error("the enforcement thread is busy")]
    Busy,
    /// The thread is gone.
    #[error("the enforcement thread has ended")]
    Gone,
}

/// Shows that the threads which carry traffic are alive.
#[derive(Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Traffic is being carried.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A name that was answered with addresses, each with the seconds that it may be kept.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The name that was asked for.
    pub name: HostName,
    /// Its addresses.
    pub addresses: Vec<(IpAddr, u32)>,
}

enum Command {
    Apply { judge: Arc<Judge>, reply: oneshot::Sender<Result<(), EnforcementError>> },
    Learn { answered: Answered, reply: oneshot::Sender<Result<(), EnforcementError>> },
    Stop,
}

const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(400);
/// How often a program that learns looks whether traffic is carried yet: until then its flows pass unseen.
const FIRST_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(20);
/// With what is between two looks at the clock, well below the second in which a change of the table is noticed.
const COLLECT_INTERVAL: Duration = Duration::from_millis(500);

/// Starts the thread.
///
/// # Errors
///
/// If the system gives no thread.
pub fn start<T: Table>(
    table: T,
    pulse: Pulse,
    metrics: Arc<Metrics>,
) -> io::Result<(Enforcement, JoinHandle<()>)> {
    start_with_names(table, NameKeeper::default(), pulse, metrics)
}

/// As [`start`], with what an earlier run knew of names.
///
/// # Errors
///
/// If the system gives no thread.
pub fn start_with_names<T: Table>(
    table: T,
    names: NameKeeper,
    pulse: Pulse,
    metrics: Arc<Metrics>,
) -> io::Result<(Enforcement, JoinHandle<()>)> {
    let (commands, inbox) = sync_channel(ENFORCEMENT_COMMANDS_MAX);
    let (publish, current) = watch::channel(None);
    let owner = Owner { table, names, pulse, pulse_seen: 0, publish, sender: None, learns: false, metrics };
    let thread = thread::Builder::new()
        .name("enforcement".to_owned())
        .stack_size(THREAD_STACK_BYTES)
        .spawn(move || owner.run(&inbox))?;
    Ok((Enforcement { commands, current }, thread))
}

impl Enforcement {
    /// Has a program enforced; returns when the kernel has it and sessions see it.
    ///
    /// # Errors
    ///
    /// If it is not enforced; the one before stays.
    pub async fn apply(&self, judge: Arc<Judge>) -> Result<(), EnforcementError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Command::Apply { judge, reply }).map_err(|error| match error {
            TrySendError::Full(_) => EnforcementError::Busy,
            TrySendError::Disconnected(_) => EnforcementError::Gone,
        })?;
        answer.await.unwrap_or(Err(EnforcementError::Gone))
    }

    /// Has the addresses of a name admitted, where a rule names it; returns when the kernel has them.
    ///
    /// # Errors
    ///
    /// If it has not.
    pub async fn learn(&self, answered: Answered) -> Result<(), EnforcementError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Command::Learn { answered, reply }).map_err(|error| match error {
            TrySendError::Full(_) => EnforcementError::Busy,
            TrySendError::Disconnected(_) => EnforcementError::Gone,
        })?;
        answer.await.unwrap_or(Err(EnforcementError::Gone))
    }

    /// The program in force; `None` before the first.
    pub fn current(&self) -> Option<Arc<Current>> {
        self.current.borrow().as_ref().map(|receiver| receiver.borrow().clone())
    }

    /// Its revision; 0 before the first.
    pub fn revision(&self) -> u64 {
        self.current().map_or(0, |current| current.revision())
    }

    /// Waits for the first program; `None` if the thread ends before.
    pub async fn first_program(&self) -> Option<CurrentReceiver> {
        let mut current = self.current.clone();
        let first = current.wait_for(Option::is_some).await.ok()?;
        first.clone()
    }

    /// Ends the thread; the table stays.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }
}

struct Owner<T> {
    table: T,
    names: NameKeeper,
    pulse: Pulse,
    pulse_seen: u64,
    publish: watch::Sender<Option<CurrentReceiver>>,
    sender: Option<watch::Sender<Arc<Current>>>,
    /// The program in force has flows that are inspected only to learn.
    learns: bool,
    metrics: Arc<Metrics>,
}

impl<T: Table> Owner<T> {
    fn run(mut self, inbox: &Receiver<Command>) {
        let mut collected = Instant::now();
        loop {
            match inbox.recv_timeout(self.patience()) {
                Ok(Command::Apply { judge, reply }) => {
                    let _ = reply.send(self.apply(judge));
                }
                Ok(Command::Learn { answered, reply }) => {
                    let _ = reply.send(self.learn(&answered));
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.keep_learning_alive();
            if collected.elapsed() >= COLLECT_INTERVAL {
                collected = Instant::now();
                self.look_after();
            }
        }
        self.look_after();
    }

    fn apply(&mut self, judge: Arc<Judge>) -> Result<(), EnforcementError> {
        let (named, loaded) = self.names.of_program(&judge);
        let generation = self
            .table
            .apply_with_names(&judge, &loaded)
            .map_err(|error| EnforcementError::Kernel(error.to_string()))?;
        self.learns = self.table.fails_open() || learns(&judge);
        let current = Arc::new(Current { judge, generation, named });
        tracing::info!(revision = current.revision(), generation, "program in force");
        self.metrics.program_revision.set(i64::try_from(current.revision()).unwrap_or(i64::MAX));
        match &self.sender {
            Some(sender) => {
                sender.send_replace(current);
            }
            None => {
                let (sender, receiver) = watch::channel(current);
                self.sender = Some(sender);
                self.publish.send_replace(Some(receiver));
            }
        }
        Ok(())
    }

    fn learn(&mut self, answered: &Answered) -> Result<(), EnforcementError> {
        let changed = self.names.learn(answered);
        self.metrics.names_given_up.inc_by(self.names.take_given_up());
        if changed.is_empty() {
            return Ok(());
        }
        let held = self.hold_names(&changed);
        if held.is_err() {
            self.names.doubt(answered);
        }
        held
    }

    /// Makes the kernel and the sessions hold what is known of these addresses: sessions last, since what they find is open.
    fn hold_names(&mut self, addresses: &[IpAddr]) -> Result<(), EnforcementError> {
        let Some(current) = self.sender.as_ref().map(|sender| sender.borrow().clone()) else { return Ok(()) };
        let loaded = self.names.loaded(&current.judge, addresses);
        let result = self.table.change_named(addresses, &loaded);
        self.metrics.named_addresses.set(i64::try_from(self.names.len()).unwrap_or(i64::MAX));
        result.map_err(|error| EnforcementError::Kernel(error.to_string()))?;
        self.names.publish(&current, addresses);
        Ok(())
    }

    fn look_after_names(&mut self) {
        if self.names.is_due() {
            let expired = match self.table.open_destinations() {
                Ok(open) => self.names.expire(&open),
                Err(error) => {
                    return tracing::warn!(%error, "addresses of names are kept: open connections not known");
                }
            };
            if let Err(error) = self.hold_names(&expired) {
                tracing::warn!(%error, "addresses of names not removed: the kernel does so by itself later");
            }
        }
        if let Err(error) = self.names.keep() {
            tracing::warn!(%error, "addresses of names not kept for the next start");
        }
    }

    fn patience(&self) -> Duration {
        let waits_for_listeners = self.learns && self.pulse_seen == 0;
        if waits_for_listeners { FIRST_HEARTBEAT_INTERVAL } else { HEARTBEAT_INTERVAL }
    }

    /// Only while traffic is carried: a listener that hangs must not hold flows that are only to be learned.
    fn keep_learning_alive(&mut self) {
        let beats = self.pulse.count();
        if beats == self.pulse_seen || !self.learns {
            return;
        }
        self.pulse_seen = beats;
        if let Err(error) = self.table.heartbeat() {
            tracing::warn!(%error, "heartbeat not set: flows that are only learned pass unseen");
        }
    }

    fn look_after(&mut self) {
        self.look_after_names();
        match self.table.restore_if_changed() {
            Ok(None) => {}
            Ok(Some(difference)) => {
                self.metrics.tampering.inc();
                tracing::error!(
                    difference,
                    "the kernel table was changed by somebody else and has been put back"
                );
            }
            Err(error) => tracing::error!(%error, "cannot tell whether the kernel table is still ours"),
        }
        if let Err(error) = self.table.collect() {
            tracing::warn!(%error, "flows of the kernel not collected");
        }
    }
}

fn learns(judge: &Judge) -> bool {
    let boxes = |direction| &judge.program().direction(direction).boxes;
    Direction::BOTH.into_iter().flat_map(boxes).any(|b| match b.action {
        Action::Answer(_) | Action::Choose { .. } => false,
        Action::Learn(_) => true,
        Action::Inspect { chain, opaque } => judge.only_learns(chain, opaque),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_program;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    impl Told {
        fn tell(&self, what: impl Into<String>) {
            self.0.lock().expect("no panic").push(what.into());
        }

        fn has(&self, what: &str) -> bool {
            self.0.lock().expect("no panic").iter().any(|told| told == what)
        }
    }

    struct FakeTable {
        told: Told,
        generation: u16,
        refuse_revision: u64,
        /// So many changes of names are refused first.
        refuse_names: usize,
    }

    impl Table for FakeTable {
        type Error = io::Error;

        fn change_named(&mut self, _: &[IpAddr], named: &[NamedAddress]) -> io::Result<()> {
            self.told.tell(format!("names {}", named.len()));
            match self.refuse_names.checked_sub(1) {
                Some(left) => {
                    self.refuse_names = left;
                    Err(io::Error::other("no room"))
                }
                None => Ok(()),
            }
        }

        fn apply(&mut self, judge: &Arc<Judge>) -> io::Result<u16> {
            let revision = judge.program().revision;
            if revision == self.refuse_revision {
                return Err(io::Error::other("no room"));
            }
            self.told.tell(format!("apply {revision}"));
            self.generation += 1;
            Ok(self.generation)
        }

        fn heartbeat(&mut self) -> io::Result<()> {
            self.told.tell("heartbeat");
            Ok(())
        }

        fn restore_if_changed(&mut self) -> io::Result<Option<String>> {
            self.told.tell("restore");
            Ok(Some("a rule is gone".to_owned()))
        }

        fn collect(&mut self) -> io::Result<()> {
            self.told.tell("collect");
            Ok(())
        }
    }

    struct Started {
        enforcement: Enforcement,
        thread: JoinHandle<()>,
        told: Told,
        pulse: Pulse,
        metrics: Arc<Metrics>,
    }

    fn started() -> Started {
        let (told, pulse) = (Told::default(), Pulse::default());
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let table = FakeTable { told: told.clone(), generation: 0, refuse_revision: 13, refuse_names: 1 };
        let (enforcement, thread) = start(table, pulse.clone(), metrics.clone()).expect("a thread");
        Started { enforcement, thread, told, pulse, metrics }
    }

    fn judge(revision: u64) -> Arc<Judge> {
        Arc::new(Judge::new(test_program::allowing_nothing(revision)).expect("valid"))
    }

    #[tokio::test]
    async fn a_program_is_published_after_the_kernel_has_it() {
        let started = started();
        assert!(started.enforcement.current().is_none());
        started.enforcement.apply(judge(1)).await.expect("applied");
        assert!(started.told.has("apply 1"));
        let mut receiver = started.enforcement.first_program().await.expect("published");
        assert_eq!((receiver.borrow().revision(), receiver.borrow().generation), (1, 1));
        started.enforcement.apply(judge(2)).await.expect("applied");
        receiver.changed().await.expect("the thread lives");
        assert_eq!((receiver.borrow().revision(), receiver.borrow().generation), (2, 2));
        assert_eq!(started.metrics.program_revision.get(), 2);
    }

    #[tokio::test]
    async fn an_answer_that_says_what_is_known_costs_the_kernel_nothing() {
        let started = started();
        started.enforcement.apply(judge(1)).await.expect("applied");
        let answered = Answered {
            name: HostName::parse("a.example").expect("a name"),
            addresses: vec![([203, 0, 113, 1].into(), 60)],
        };
        let learn = || started.enforcement.learn(answered.clone());
        let changes = || {
            let told = started.told.0.lock().expect("no panic");
            told.iter().filter(|told| told.starts_with("names ")).count()
        };
        learn().await.expect_err("the kernel has no room");
        learn().await.expect("what could not be made to hold is not known");
        assert_eq!(changes(), 2);
        learn().await.expect("known");
        assert_eq!(changes(), 2);
    }

    #[tokio::test]
    async fn a_program_that_the_kernel_refuses_changes_nothing() {
        let started = started();
        started.enforcement.apply(judge(1)).await.expect("applied");
        let error = started.enforcement.apply(judge(13)).await.expect_err("was taken");
        assert!(error.to_string().contains("no room"), "{error}");
        assert_eq!(started.enforcement.revision(), 1);
    }

    fn beats(told: &Told) -> usize {
        told.0.lock().expect("no panic").iter().filter(|told| *told == "heartbeat").count()
    }

    fn learning_judge(revision: u64) -> Arc<Judge> {
        let address = std::net::Ipv4Addr::new(10, 0, 0, 9);
        let mut program = test_program::allowing_egress_to(address, revision);
        program.egress.boxes[0].action = Action::Learn(bulkhead_policies::program::AnswerId(1));
        Arc::new(Judge::new(program).expect("valid"))
    }

    #[tokio::test]
    async fn learning_is_kept_alive_only_while_traffic_is_carried() {
        let started = started();
        // The thread beats after each command: the next one proves that the one before was looked after.
        started.enforcement.apply(learning_judge(1)).await.expect("applied");
        started.pulse.beat();
        started.enforcement.apply(learning_judge(2)).await.expect("applied");
        started.enforcement.apply(learning_judge(3)).await.expect("applied");
        let before = beats(&started.told);
        assert_eq!(before, 1);
        started.enforcement.apply(learning_judge(4)).await.expect("applied");
        started.enforcement.apply(learning_judge(5)).await.expect("applied");
        assert_eq!(beats(&started.told), before);
    }

    #[tokio::test]
    async fn a_program_that_learns_nothing_needs_no_heartbeat() {
        let started = started();
        started.enforcement.apply(judge(1)).await.expect("applied");
        started.pulse.beat();
        started.enforcement.apply(judge(2)).await.expect("applied");
        started.enforcement.apply(judge(3)).await.expect("applied");
        assert_eq!(beats(&started.told), 0);
    }

    #[test]
    fn stopping_collects_once_more_and_counts_tampering() {
        let started = started();
        started.enforcement.stop();
        started.thread.join().expect("ends");
        assert!(started.told.has("collect"));
        assert_eq!(started.metrics.tampering.get(), 1);
    }
}

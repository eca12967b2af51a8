//! Drives calls at a rate and counts what did not succeed.
//!
//! It first waits until each call has succeeded once (a shop that is still starting is no failure), then counts. Calls
//! take turns, families and fresh and kept connections too. A call under way when the client is told to end is
//! finished and counted. Lines on standard output: `ready`, `progress`, `failure` (with detail), `batch`, `final`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::call::Call;
use super::connection::{Caller, Failure};
use super::names::{Family, Names};
use super::say;
use crate::limits;

/// What a client is told.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A call to make, for example `GET http://frontend.shop:8080/api/products/{id}`; repeatable, they take turns
    #[arg(long = "call", required = true)]
    calls: Vec<Call>,
    /// Calls a second
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Of each hundred calls, how many are made on a connection of their own
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u8).range(0..=100))]
    fresh_percent: u8,
    /// Which address of a peer with two is used
    #[arg(long, value_enum, default_value = "both")]
    family: Family,
    /// A hosts file to resolve names with, instead of the system's
    #[arg(long)]
    hosts: Option<PathBuf>,
    /// How long a call may take, in milliseconds
    #[arg(long, default_value_t = 10_000)]
    timeout_ms: u64,
    /// How long to wait until each call has succeeded once, in seconds
    #[arg(long, default_value_t = 30)]
    wait_seconds: u64,
    /// End by itself after this many seconds of calls
    #[arg(long = "for")]
    for_seconds: Option<u64>,
    /// Make this many calls as fast as `--rate` allows, then end
    #[arg(long, conflicts_with = "for_seconds")]
    requests: Option<u64>,
    /// A `progress` line each so many milliseconds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    report_ms: u64,
    /// Start without calls: wait for `batch N` or `resume` on standard input, or SIGUSR1
    #[arg(long)]
    paused: bool,
}

/// What happens to a client.
enum Event {
    Batch(u64),
    Pause,
    Resume,
    Totals,
    End,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    sent: u64,
    failed: u64,
}

/// A number of calls asked for on standard input, and what became of them.
struct Batch {
    to_start: u64,
    to_finish: u64,
    totals: Totals,
}

/// One call that ended.
struct Done {
    call: usize,
    in_batch: bool,
    result: Result<(), Failure>,
}

struct Client {
    calls: Arc<Vec<Call>>,
    caller: Arc<Caller>,
    fresh_percent: u8,
    number: u64,
    running: JoinSet<Done>,
    totals: Totals,
    details: u64,
    batches: VecDeque<Batch>,
    paused: bool,
    left: Option<u64>,
}

/// Drives until told to end, or `--for` or `--requests` is reached; exit code 1 if a call failed.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let names = Names { hosts: arguments.hosts, family: arguments.family };
    let mut client = Client {
        calls: Arc::new(arguments.calls),
        caller: Arc::new(Caller::new(names, Duration::from_millis(arguments.timeout_ms))),
        fresh_percent: arguments.fresh_percent,
        number: 0,
        running: JoinSet::new(),
        totals: Totals::default(),
        details: 0,
        batches: VecDeque::new(),
        paused: arguments.paused,
        left: arguments.requests,
    };
    let mut events = events()?;
    if !arguments.paused {
        client.wait_for_peers(Duration::from_secs(arguments.wait_seconds)).await;
    }
    say(&json!({"event": "ready"}));
    let end = arguments.for_seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let tick = Duration::from_secs(1) / arguments.rate;
    client.drive(&mut events, tick, Duration::from_millis(arguments.report_ms), end).await;
    client.finish().await;
    Ok(if client.totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Client {
    /// Until each call has succeeded once on each family in turn, or the time is over; nothing is counted.
    async fn wait_for_peers(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        for call in self.calls.iter() {
            for number in 0..2 {
                while self.caller.make(call, number, true).await.is_err() && Instant::now() < deadline {
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn drive(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        tick: Duration,
        report: Duration,
        end: Option<Instant>,
    ) {
        let mut ticks = interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reports = interval(report);
        reports.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = async move {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.start_one(),
                _ = reports.tick() => self.report("progress"),
                Some(Ok(done)) = self.running.join_next() => self.count(done),
                event = events.recv() => match event {
                    Some(Event::Batch(calls)) if calls > 0 => {
                        self.batches.push_back(Batch { to_start: calls, to_finish: calls, totals: Totals::default() });
                    }
                    Some(Event::Batch(_)) => self.report("batch"),
                    Some(Event::Pause) => self.paused = true,
                    Some(Event::Resume) => self.paused = false,
                    Some(Event::Totals) => self.report("totals"),
                    Some(Event::End) | None => return,
                },
                () = &mut end => return,
            }
            if self.left == Some(0) && self.running.is_empty() {
                return;
            }
        }
    }

    /// Starts the next call, of a batch if one waits; a client with its limit of calls under way starts none.
    fn start_one(&mut self) {
        if self.running.len() >= limits::DEMO_CALLS_UNDER_WAY {
            return;
        }
        let batch = self.batches.front_mut().filter(|batch| batch.to_start > 0);
        let in_batch = match batch {
            Some(batch) => {
                batch.to_start -= 1;
                true
            }
            None if self.paused || self.left == Some(0) => return,
            None => false,
        };
        if !in_batch && let Some(left) = &mut self.left {
            *left -= 1;
        }
        let calls = self.calls.clone();
        let caller = self.caller.clone();
        let count = u64::try_from(calls.len()).unwrap_or(u64::MAX).max(1);
        let (call, round) = (usize::try_from(self.number % count).unwrap_or(0), self.number / count);
        // The hundreds are walked in steps of 37, so that fresh ones are spread and every call gets its share.
        let fresh = (self.number * 37) % 100 < u64::from(self.fresh_percent);
        self.number += 1;
        self.running.spawn(async move {
            let result = caller.make(&calls[call], round, fresh).await;
            Done { call, in_batch, result }
        });
    }

    fn count(&mut self, done: Done) {
        let failed = u64::from(done.result.is_err());
        self.totals.sent += 1;
        self.totals.failed += failed;
        if let Err(failure) = done.result {
            self.details += 1;
            if self.details <= limits::DEMO_FAILURE_LINES {
                let to = failure.address.map(|address| address.to_string());
                let call = self.calls[done.call].to_string();
                say(&json!({"event": "failure", "call": call, "address": to, "detail": failure.detail}));
            }
        }
        if done.in_batch
            && let Some(batch) = self.batches.front_mut()
        {
            batch.totals.sent += 1;
            batch.totals.failed += failed;
            batch.to_finish -= 1;
            if batch.to_finish == 0 {
                say(&json!({"event": "batch", "sent": batch.totals.sent, "failed": batch.totals.failed}));
                self.batches.pop_front();
            }
        }
    }

    fn report(&self, event: &str) {
        let Totals { sent, failed } = self.totals;
        say(&json!({"event": event, "sent": sent, "failed": failed, "retried": self.caller.retried()}));
    }

    async fn finish(&mut self) {
        while let Some(done) = self.running.join_next().await {
            if let Ok(done) = done {
                self.count(done);
            }
        }
        self.report("final");
    }
}

/// Everything that can tell a client something: signals and lines on standard input.
fn events() -> anyhow::Result<mpsc::Receiver<Event>> {
    let (to, events) = mpsc::channel(limits::DEMO_EVENTS);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut user = signal(SignalKind::user_defined1())?;
    let signals = to.clone();
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                _ = terminate.recv() => Event::End,
                _ = interrupt.recv() => Event::End,
                _ = user.recv() => Event::Batch(limits::DEMO_SIGNAL_BATCH),
            };
            if signals.send(event).await.is_err() {
                return;
            }
        }
    });
    // A thread and not a task: a read from standard input cannot be cancelled and would hold up the end.
    std::thread::spawn(move || read_commands(&to));
    Ok(events)
}

/// Reads commands until the end of input, which is no end of the client: it usually runs with none.
fn read_commands(to: &mpsc::Sender<Event>) {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match event_of(&line) {
            Some(event) => {
                if to.blocking_send(event).is_err() {
                    return;
                }
            }
            None => {
                let detail = format!("`{line}` is none of: batch N, pause, resume, totals, quit");
                say(&json!({"event": "refused", "detail": detail}));
            }
        }
    }
}

fn event_of(line: &str) -> Option<Event> {
    match line.trim() {
        "pause" => Some(Event::Pause),
        "resume" => Some(Event::Resume),
        "totals" => Some(Event::Totals),
        "quit" => Some(Event::End),
        other => other.strip_prefix("batch ")?.trim().parse().ok().map(Event::Batch),
    }
}

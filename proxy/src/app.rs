//! The wiring: what is started in which order, and how it ends.
//!
//! Start: take over or load the kernel table, closed; enforce the last good program if there is one; open the
//! listeners; attach to the controller. From the first step on nothing passes without a verdict, and each step only
//! adds. End: accept no more, let open connections finish, report the last flows, leave the table as it is.
//!
//! Threads: `traffic` workers carry connections; `control` talks to the controller and answers scrapes, so that neither
//! costs traffic anything; `enforcement` owns the kernel table; `denials` and `connections` read what the kernel tells; the
//! first one waits for the end, so that no worker can keep it away.

use crate::admin::Admin;
use crate::advisory::Advisory;
use crate::config::{Capture, Place, Run};
use crate::control::last_good::LastGood;
use crate::control::{Control, Transport, sealed};
use crate::dns::{Dns, NameKeeper, QuestionJudge, random_identifier};
use crate::drain::{Connections, Stage};
use crate::enforcement::{self, Enforcement, Pulse};
use crate::flows::Recorder;
use crate::intercept::{LocalLeg, Sockets};
use crate::kernel_tier::{self, KernelTier, LegTrial};
use crate::limits::THREAD_STACK_BYTES;
use crate::listeners::{self, Traffic};
use crate::metrics::Metrics;
use crate::posture::Posture;
use crate::system;
use crate::workers::Workers;
use anyhow::{Result, anyhow};
use bulkhead_api::{Capability, Weakness};
use bulkhead_policies::decide::Judge;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

/// Time for workers to end once connections had theirs.
const WORKERS_TIMEOUT: Duration = Duration::from_millis(100);
/// How often freed memory is given back, if there were connections and few are left.
const MEMORY_INTERVAL: Duration = Duration::from_secs(5);
/// With more connections open than this, memory that is free now is needed again soon.
const BUSY_CONNECTIONS: usize = 64;

/// Loads the closed table: from here on nothing passes but what the sidecar itself needs.
///
/// # Errors
///
/// If the kernel refuses.
pub fn init(place: &Place) -> Result<()> {
    match kernel_tier::load_closed(place) {
        Ok(()) => tracing::info!("closed table loaded: nothing passes until there is a program"),
        Err(error) if place.fail_open => {
            tracing::error!("fail-open: the app starts UNPROTECTED, no table could be loaded: {error}");
        }
        Err(error) => return Err(anyhow!("cannot load the closed table: {error}")),
    }
    Ok(())
}

/// Enforces until SIGTERM or SIGINT.
///
/// # Errors
///
/// If something fails that the sidecar cannot do without. The kernel table stays, closed for what needs the sidecar.
pub fn run(run: Run) -> Result<()> {
    let started = Instant::now();
    let sidecar = Sidecar::start(&run)?;
    tracing::info!(
        startup_ms = started.elapsed().as_millis(),
        revision = sidecar.enforcement.revision(),
        "started"
    );
    sidecar.serve_and_drain(run.drain)
}

/// The running parts.
struct Sidecar {
    /// Of the first thread.
    first: Runtime,
    workers: Workers,
    connections: Arc<Connections>,
    enforcement: Enforcement,
    enforcement_thread: JoinHandle<()>,
    control_thread: JoinHandle<Result<()>>,
    control_ended: oneshot::Receiver<()>,
    stage: watch::Sender<Stage>,
}

impl Sidecar {
    fn start(run: &Run) -> Result<Self> {
        sealed::prepare_directory(&run.state)?;
        if let Err(error) = system::raise_open_files_limit() {
            tracing::warn!(%error, "limit of open files not raised: fewer connections can be inspected");
        }
        let metrics = Arc::new(Metrics::new()?);
        let recorder = Arc::new(Recorder::new(metrics.clone()));
        let (stage, stages) = watch::channel(Stage::Serving);
        let pulse = Pulse::default();

        let first = Builder::new_current_thread().max_blocking_threads(1).enable_all().build()?;
        let workers = Workers::start(run.workers)?;
        let last_good = LastGood::within(&run.state);
        let tier = start_tier(run, &recorder, &metrics, &pulse)?;
        let Tier { sockets, enforces, posture, enforcement, thread: enforcement_thread } = tier;
        if enforces {
            first.block_on(enforce_last_good(&enforcement, &last_good));
        }
        let connections = Connections::new(metrics.clone());
        let accepting = Arc::new(AtomicBool::new(false));
        let dns = Dns {
            enforcement: enforcement.clone(),
            sockets,
            judge: QuestionJudge {
                recorder: recorder.clone(),
                internal: run.internal_names.clone().into(),
                identifier: random_identifier,
            },
            stage: stages.clone(),
        };
        let carrier = Traffic {
            dns,
            enforcement: enforcement.clone(),
            sockets,
            recorder: recorder.clone(),
            connections: connections.clone(),
            metrics: metrics.clone(),
            accepting: accepting.clone(),
            pulse,
            fails_open: posture.fails_open(),
            workers: workers.handles().into(),
            stage: stages.clone(),
        };
        if let (Capability::Enforced, [worker, ..]) = (posture.capability(), workers.handles()) {
            // At once, so that nobody else takes the ports; later, if somebody has.
            match worker.block_on(async { listeners::bind(&sockets) }) {
                Ok(listeners) => worker.spawn(carrier.carry(listeners)),
                Err(_) => worker.spawn(async move {
                    let listeners = listeners::bind_when_free(&sockets).await;
                    carrier.carry(listeners).await;
                }),
            };
        } else {
            // Nothing is handed to it, so nobody waits for it.
            accepting.store(true, Ordering::Release);
        }

        let admin = Admin {
            metrics: metrics.clone(),
            posture: posture.clone(),
            enforcement: enforcement.clone(),
            accepting,
            stage: stages.clone(),
        };
        let control = Control {
            transport: transport(run, sockets),
            state: run.state.clone(),
            token_file: run.token_file.clone(),
            posture,
            enforcement: enforcement.clone(),
            recorder,
            last_good,
            metrics,
            stage: stages,
        };
        let (control_thread, control_ended) =
            start_control(control, admin.run(sockets, run.place.admin_port), connections.clone())?;
        Ok(Self {
            first,
            workers,
            connections,
            enforcement,
            enforcement_thread,
            control_thread,
            control_ended,
            stage,
        })
    }

    fn serve_and_drain(self, patience: Duration) -> Result<()> {
        let reason = self.first.block_on(told_to_end(self.control_ended));
        tracing::info!(connections = self.connections.open(), "{reason}: draining");
        self.stage.send_replace(Stage::Draining);
        let left = self.first.block_on(self.connections.finish(patience));
        if left > 0 {
            tracing::warn!(connections = left, "not finished in time: closing them");
        }
        self.workers.end(WORKERS_TIMEOUT);
        self.enforcement.stop();
        let _ = self.enforcement_thread.join();
        self.stage.send_replace(Stage::Ending);
        let ended = self.control_thread.join().map_err(|_| anyhow!("the control thread panicked"))?;
        tracing::info!("ended; the kernel table stays");
        ended
    }
}

/// What enforces, and how the rest reaches it.
struct Tier {
    sockets: Sockets,
    enforces: bool,
    posture: Posture,
    enforcement: Enforcement,
    thread: JoinHandle<()>,
}

/// Takes over the kernel table. Without the right to it, or where somebody chose so, goes on without one and says so.
fn start_tier(run: &Run, recorder: &Arc<Recorder>, metrics: &Arc<Metrics>, pulse: &Pulse) -> Result<Tier> {
    match KernelTier::open(&run.place, recorder.clone(), metrics.clone()) {
        Ok(mut table) => {
            let (sockets, posture) = (Sockets::new(table.marks(), LocalLeg::PodAddress), table.posture());
            if run.capture != Capture::Redirect {
                table.try_legs_by(leg_trial(sockets, run.place.controller));
            }
            let names = NameKeeper::within(&run.state);
            let (enforcement, thread) =
                enforcement::start_with_names(table, names, pulse.clone(), metrics.clone())?;
            Ok(Tier { sockets, enforces: true, posture, enforcement, thread })
        }
        Err(error) if error.leaves_advisory(&run.place) => {
            tracing::error!("advisory: NOTHING IS ENFORCED BY THIS SIDECAR: {error}");
            let posture = Posture::new(Capability::Advisory, metrics.clone());
            posture.note(Weakness::FailOpen, run.place.fail_open);
            let table = Advisory::new(error.to_string());
            let (enforcement, thread) = enforcement::start(table, pulse.clone(), metrics.clone())?;
            Ok(Tier { sockets: Sockets::unmarked(), enforces: false, posture, enforcement, thread })
        }
        Err(error) => Err(anyhow!("cannot take over the kernel table: {error}")),
    }
}

/// A restarted sidecar enforces before it has spoken to anybody.
async fn enforce_last_good(enforcement: &Enforcement, last_good: &LastGood) {
    let program = match last_good.read() {
        Ok(Some(program)) => program,
        Ok(None) => {
            return tracing::info!("no program yet: everything is denied until the controller sends one");
        }
        Err(error) => {
            return tracing::error!(%error, "last good program discarded: waiting for the controller");
        }
    };
    let judge = match Judge::new(program) {
        Ok(judge) => Arc::new(judge),
        Err(error) => return tracing::error!(%error, "last good program refused: waiting for the controller"),
    };
    if let Err(error) = enforcement.apply(judge).await {
        tracing::error!(%error, "last good program not enforced: what the kernel has stays");
    }
}

fn leg_trial(sockets: Sockets, controller: SocketAddr) -> LegTrial {
    Box::new(move || match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(find_local_leg(sockets, controller)),
        Err(error) => tracing::warn!(%error, "no trial of legs: the app sees the pod's own address"),
    })
}

/// Finds out how the app can see its clients.
async fn find_local_leg(sockets: Sockets, controller: SocketAddr) {
    match system::local_address_towards(controller) {
        Ok(pod) if pod != controller.ip() => {
            if let Err(error) = sockets.find_local_leg(pod, controller.ip()).await {
                tracing::warn!(%error, "the app sees the pod's own address instead of its clients'");
            }
        }
        Ok(_) => tracing::warn!(
            "the controller has the pod's own address: the app sees it instead of its clients'"
        ),
        Err(error) => tracing::warn!(%error, "no way to the controller: the app sees the pod's own address"),
    }
}

fn transport(run: &Run, sockets: Sockets) -> Transport {
    Transport {
        controller: run.place.controller,
        name: run.controller_name.clone(),
        roots: run.controller_roots.clone(),
        dial: Arc::new(move |controller| Box::pin(async move { sockets.dial_upstream(controller).await })),
    }
}

/// The thread of the controller's connection and of the administrative port. The receiver resolves when it ends, which
/// before the end of the process only a failure makes it do.
fn start_control(
    control: Control,
    admin: impl Future<Output = ()> + Send + 'static,
    connections: Arc<Connections>,
) -> Result<(JoinHandle<Result<()>>, oneshot::Receiver<()>)> {
    let runtime = Builder::new_current_thread().max_blocking_threads(1).enable_all().build()?;
    let (alive, ended) = oneshot::channel();
    let thread = thread::Builder::new().name("control".to_owned()).stack_size(THREAD_STACK_BYTES).spawn(
        move || {
            let _alive = alive;
            runtime.spawn(admin);
            runtime.spawn(give_back_memory(connections));
            runtime
                .block_on(control.run())
                .map_err(|error| anyhow!("the connection to the controller: {error}"))
        },
    )?;
    Ok((thread, ended))
}

/// After a busy time buffers lie free in heaps that the allocator keeps: a sidecar is idle most of its life.
async fn give_back_memory(connections: Arc<Connections>) {
    let mut admitted_before = 0;
    loop {
        sleep(MEMORY_INTERVAL).await;
        let admitted = connections.admitted();
        if admitted != admitted_before && connections.open() < BUSY_CONNECTIONS {
            system::give_back_memory();
            admitted_before = admitted;
        }
    }
}

/// Waits for a reason to end and names it.
async fn told_to_end(control_ended: oneshot::Receiver<()>) -> &'static str {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return "signals cannot be received";
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        _ = control_ended => "the control thread failed",
    }
}

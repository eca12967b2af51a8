//! Wiring: what is opened in which order, who gets what, and how it ends.

use crate::approval::Approval;
use crate::clock::now_ms;
use crate::config::Config;
use crate::drain::{Drain, DrainSwitch};
use crate::http::{self, Api, Turns};
use crate::identity::{Authority, ServerCertificate, secret, tls_for_people, tls_for_sidecars};
use crate::limits::{DRAIN_TIMEOUT, EDGE_DAYS_MAX, HTTP_CONNECTIONS_MAX, SIDECAR_CONNECTIONS_MAX};
use crate::listen::accept_tls;
use crate::metrics::Metrics;
use crate::push::{self, Fleet, SidecarPort};
use crate::store::sqlite::Sqlite;
use crate::store::{Records, RecordsThreads};
use crate::watch::{Folders, Watch};
use crate::world::{self, World};
use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections whose handshake is done and that wait to be served.
const ACCEPTED_QUEUE: usize = 16;
/// How often old flows are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);
const DAY_MS: u64 = 86_400_000;

/// A controller that runs.
#[derive(Debug)]
pub struct App {
    /// Where sidecars connect.
    pub sidecars: SocketAddr,
    /// Where people and tools connect.
    pub http: SocketAddr,
    /// Where Prometheus reads.
    pub metrics: SocketAddr,
    drain: DrainSwitch,
    tasks: JoinSet<()>,
    store: RecordsThreads,
}

/// What lies in the state folder, open.
struct State {
    authority: Arc<Authority>,
    certificate: Arc<ServerCertificate>,
    admin_token: Arc<str>,
    records: Records,
    store: RecordsThreads,
}

/// The ports, bound.
struct Ports {
    sidecars: TcpListener,
    http: TcpListener,
    metrics: TcpListener,
}

/// What the tasks share.
#[derive(Clone)]
struct Shared {
    records: Records,
    world: watch::Receiver<Arc<World>>,
    fleet: Arc<Fleet>,
    metrics: Arc<Metrics>,
    drain: Drain,
}

impl App {
    /// Opens the state, binds the ports, starts everything. On an error nothing is left running.
    pub async fn start(config: Config) -> Result<Self> {
        let state = State::open(&config)?;
        let ports = Ports::bind(&config).await?;
        let sidecar_tls = tls_for_sidecars(state.certificate.clone())?;
        let (drain, draining) = Drain::new();
        let (world_sender, world) = watch::channel(Arc::new(World::default()));
        let shared = Shared {
            records: state.records.clone(),
            world,
            fleet: Arc::default(),
            metrics: Arc::new(Metrics::new()?),
            drain: draining.clone(),
        };
        let (sidecars, http, metrics) =
            (ports.sidecars.local_addr()?, ports.http.local_addr()?, ports.metrics.local_addr()?);
        tracing::info!(%sidecars, %http, %metrics, "controller started");

        let mut tasks = JoinSet::new();
        tasks.spawn(follow_folders(config.clone(), state.records.clone(), world_sender, draining.clone()));
        tasks.spawn(keep_house(state.certificate.clone(), state.records.clone(), draining.clone()));
        tasks.spawn(count_worlds(shared.metrics.clone(), shared.world.clone(), draining.clone()));
        tasks.spawn(http::serve_metrics(shared.metrics.clone(), ports.metrics, draining));
        serve_sidecars(&mut tasks, &shared, state.authority, ports.sidecars, sidecar_tls, &config);
        serve_people(
            &mut tasks,
            shared,
            state.admin_token,
            ports.http,
            tls_for_people(state.certificate),
            &config,
        );
        Ok(Self { sidecars, http, metrics, drain, tasks, store: state.store })
    }

    /// Ends streams and requests, then the store. What was acknowledged is on disk already; whoever does not end in
    /// time is cut off.
    pub async fn shutdown(mut self) {
        tracing::info!("shutting down");
        self.drain.begin();
        let all = async { while self.tasks.join_next().await.is_some_and(report_panic) {} };
        if timeout(DRAIN_TIMEOUT, all).await.is_err() {
            tracing::warn!("cut off what did not end in {DRAIN_TIMEOUT:?}");
            self.tasks.shutdown().await;
        }
        // Its threads end when the last stream has given the store back.
        let joined = timeout(DRAIN_TIMEOUT, tokio::task::spawn_blocking(move || self.store.join())).await;
        if joined.is_err() {
            tracing::warn!("the store was still in use after {DRAIN_TIMEOUT:?}");
        }
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) -> bool {
    if let Err(error) = ended {
        tracing::error!(%error, "a task panicked");
    }
    true
}

impl State {
    fn open(config: &Config) -> Result<Self> {
        make_state_folder(&config.state)?;
        let authority = Arc::new(Authority::open(&config.state, SystemTime::now())?);
        let names = config.certificate_names();
        let certificate = Arc::new(ServerCertificate::new(authority.clone(), names, SystemTime::now())?);
        let admin_token = admin_token(&config.state.join("admin.token"))?;
        let database = config.state.join("store.sqlite");
        let open = || Sqlite::open(&database).map(Box::new);
        let (records, store) = Records::start(open()?, open()?, open()?)?;
        Ok(Self { authority, certificate, admin_token, records, store })
    }
}

impl Ports {
    async fn bind(config: &Config) -> Result<Self> {
        Ok(Self {
            sidecars: bind("--listen-sidecars", config.listen_sidecars).await?,
            http: bind("--listen-http", config.listen_http).await?,
            metrics: bind("--listen-metrics", config.listen_metrics).await?,
        })
    }
}

fn serve_sidecars(
    tasks: &mut JoinSet<()>,
    shared: &Shared,
    authority: Arc<Authority>,
    listener: TcpListener,
    tls: ServerConfig,
    config: &Config,
) {
    let (connections, accepted) = mpsc::channel(ACCEPTED_QUEUE);
    tasks.spawn(accept_tls(listener, tls, SIDECAR_CONNECTIONS_MAX, connections, shared.drain.clone()));
    let port = SidecarPort {
        authority,
        certificate_lifetime: config.certificate_lifetime(),
        world: shared.world.clone(),
        fleet: shared.fleet.clone(),
        records: shared.records.clone(),
        metrics: shared.metrics.clone(),
        drain: shared.drain.clone(),
    };
    tasks.spawn(async move {
        if let Err(error) = push::serve(port, accepted).await {
            tracing::error!(%error, "the sidecars' port ended");
        }
    });
}

fn serve_people(
    tasks: &mut JoinSet<()>,
    shared: Shared,
    admin_token: Arc<str>,
    listener: TcpListener,
    tls: ServerConfig,
    config: &Config,
) {
    let (connections, accepted) = mpsc::channel(ACCEPTED_QUEUE);
    tasks.spawn(accept_tls(listener, tls, HTTP_CONNECTIONS_MAX, connections, shared.drain.clone()));
    let approval =
        Approval { policy_folders: config.policy_folders(), approved_folder: config.approved_folder() };
    let api = Api {
        world: shared.world,
        fleet: shared.fleet,
        records: shared.records,
        approval: Arc::new(approval),
        approving: Arc::default(),
        turns: Turns::default(),
        metrics: shared.metrics,
        admin_token,
        join_token_lifetime: Duration::from_secs(config.join_token_minutes * 60),
        started_ms: now_ms(),
    };
    tasks.spawn(http::serve_connections(http::router(api), accepted, shared.drain));
}

/// Reads both folders and keeps the world until drain.
async fn follow_folders(
    config: Config,
    records: Records,
    world: watch::Sender<Arc<World>>,
    mut drain: Drain,
) {
    let lasting = vec![config.policies.clone(), config.approved_folder()];
    let policies = Watch::start(Folders::new(config.policy_folders(), lasting)).await;
    let inventory = vec![config.inventory.clone()];
    let inventory = Watch::start(Folders::new(inventory.clone(), inventory)).await;
    tokio::select! {
        ended = world::follow(policies.readings.clone(), inventory.readings.clone(), records, world) => {
            if let Err(error) = ended {
                tracing::error!(%error, "policies are not followed any more: the last good ones stay in force");
            }
        }
        () = drain.begun() => {}
    }
}

/// Forgets old flows and renews the controller's own certificate.
async fn keep_house(certificate: Arc<ServerCertificate>, records: Records, mut drain: Drain) {
    let mut forget = tokio::time::interval(FORGET_INTERVAL);
    let mut renew = tokio::time::interval(ServerCertificate::RENEW_INTERVAL);
    renew.reset();
    loop {
        tokio::select! {
            _ = forget.tick() => {
                let before_day = (now_ms() / DAY_MS).saturating_sub(EDGE_DAYS_MAX);
                if let Err(error) = records.write(move |store| store.forget(before_day)).await {
                    tracing::error!(%error, "old flows were not forgotten");
                }
            }
            _ = renew.tick() => {
                if let Err(error) = certificate.renew(SystemTime::now()) {
                    tracing::error!(%error, "the controller's certificate was not renewed");
                }
            }
            () = drain.begun() => return,
        }
    }
}

async fn count_worlds(metrics: Arc<Metrics>, mut world: watch::Receiver<Arc<World>>, mut drain: Drain) {
    loop {
        metrics.world(&world.borrow_and_update().clone());
        tokio::select! {
            changed = world.changed() => if changed.is_err() { return },
            () = drain.begun() => return,
        }
    }
}

async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener> {
    let hint = "is another controller running, or does the address belong to another machine?";
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on `{flag} {address}`: {hint}"))
}

fn make_state_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the folder `--state {}`", path.display()))
}

/// The token of administrators: made at the first start, read later.
fn admin_token(path: &Path) -> Result<Arc<str>> {
    let shown = path.display();
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => Ok(text.trim().into()),
        Ok(_) => anyhow::bail!("`{shown}` holds no token: remove it and a new one is made at the next start"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = secret::token()?;
            secret::write_private(path, format!("{token}\n").as_bytes())
                .with_context(|| format!("cannot write `{shown}`"))?;
            Ok(token.into())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read `{shown}`")),
    }
}

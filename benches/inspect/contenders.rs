//! Who is measured: each in a pod of its own, with an origin of its own, all started once.

use super::cost::processor_seconds;
use super::ground::{Ground, Running, client_address, more_client_addresses, pod_address, run, within};
use super::load::Workload;
use super::program::{GRPC_PORT, HTTP1_PORT, HTTP2_PORT, program};
use super::settings;
use anyhow::{Context, Result, bail};
use bulkhead_proxy::control::last_good::LastGood;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A kind of proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None.
    Direct,
    /// A copy of bytes that reads nothing.
    Copy,
    /// The sidecar as it ships.
    Bulkhead,
    /// nginx without any rule.
    Nginx,
    /// HAProxy with fifty rules.
    Haproxy,
    /// The same with a connection to the origin for each of a client's, as ours has.
    HaproxyAlone,
    /// hyper on both sides with fifty rules.
    Hyper,
    /// Envoy with fifty policies.
    Envoy,
    /// The same with its access log, a line for each request, since the sidecar records each request too.
    EnvoyLogging,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Direct,
        Self::Copy,
        Self::Bulkhead,
        Self::Nginx,
        Self::Haproxy,
        Self::HaproxyAlone,
        Self::Hyper,
        Self::Envoy,
        Self::EnvoyLogging,
    ];

    /// HAProxy without shared connections is there for the cost of a new connection alone.
    pub(crate) fn takes_part(self, workload: Workload) -> bool {
        self != Self::HaproxyAlone || workload == Workload::Connections
    }

    /// True if its memory says something.
    pub(crate) fn is_measured_alone(self) -> bool {
        !matches!(self, Self::Direct | Self::HaproxyAlone | Self::EnvoyLogging)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Copy => "copy",
            Self::Bulkhead => "bulkhead",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::HaproxyAlone => "haproxy-1:1",
            Self::Hyper => "hyper",
            Self::Envoy => "envoy",
            Self::EnvoyLogging => "envoy-log",
        }
    }
}

/// The programs that are not in the path of commands.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// `bulkhead-proxy`.
    pub(crate) bulkhead: PathBuf,
    /// `envoy`.
    pub(crate) envoy: PathBuf,
}

/// One contender that runs.
pub(crate) struct Contender {
    /// Which it is.
    pub(crate) kind: Kind,
    /// Its place on the ground.
    pub(crate) at: usize,
    proxy: Option<Running>,
    origin: Running,
}

impl Contender {
    /// Starts it and its origin, and waits until requests are answered.
    ///
    /// # Errors
    /// If one of them does not start.
    pub(crate) fn start(
        kind: Kind,
        at: usize,
        ground: &Ground,
        programs: &Programs,
        folder: &Path,
    ) -> Result<Self> {
        let origin = start_nginx(&settings::origin(at, folder), "origin", at, ground, folder)?;
        let command = match kind {
            Kind::Direct => None,
            Kind::Bulkhead => Some(bulkhead(at, ground, programs, folder)?),
            Kind::Nginx => Some(nginx(&settings::nginx(at, folder), "nginx", at, ground, folder)?),
            Kind::Haproxy | Kind::HaproxyAlone => {
                let settings = settings::haproxy(at, kind == Kind::HaproxyAlone);
                Some(with_file(at, ground, folder, "haproxy", "haproxy.cfg", &settings, &["-f"])?)
            }
            Kind::Envoy => Some(envoy(at, ground, programs, folder, None)?),
            Kind::EnvoyLogging => {
                let log = folder.join(format!("{at}-access.log"));
                Some(envoy(at, ground, programs, folder, Some(&log))?)
            }
            Kind::Copy | Kind::Hyper => Some(own(kind.name(), at, ground)?),
        };
        let proxy = command.map(|mut command| Running::start(&mut command)).transpose()?;
        if proxy.is_some() && kind != Kind::Bulkhead {
            ground.load_rules(at, &settings::redirect())?;
        }
        let mut contender = Self { kind, at, proxy, origin };
        contender.wait(ground).with_context(|| format!("{} does not answer", kind.name()))?;
        Ok(contender)
    }

    /// Its process; `None` where there is no proxy.
    pub(crate) fn process(&self) -> Option<u32> {
        self.proxy.as_ref().map(Running::id)
    }

    /// Seconds on a processor until now; 0 where there is no proxy.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        self.process().map_or(Ok(0.0), processor_seconds)
    }

    /// Moves proxy and origin.
    ///
    /// # Errors
    /// If one has ended.
    pub(crate) fn place(&self, proxy: usize, origin: usize) -> Result<()> {
        if let Some(running) = &self.proxy {
            running.move_to(proxy)?;
        }
        self.origin.move_to(origin)
    }

    fn wait(&mut self, ground: &Ground) -> Result<()> {
        let started = Instant::now();
        let url = format!("http://{}:{HTTP1_PORT}/svc50/1k", pod_address(self.at));
        loop {
            let asked =
                run(within(&ground.client(), None, "curl").args(["-sSf", "-m1", "-o/dev/null", &url]));
            self.origin.check()?;
            if let Some(proxy) = &mut self.proxy {
                proxy.check()?;
            }
            match asked {
                Ok(()) => return Ok(()),
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn start_nginx(settings: &str, name: &str, at: usize, ground: &Ground, folder: &Path) -> Result<Running> {
    Running::start(&mut nginx(settings, name, at, ground, folder)?)
}

fn nginx(settings: &str, name: &str, at: usize, ground: &Ground, folder: &Path) -> Result<Command> {
    let home = folder.join(format!("{name}-{at}"));
    fs::create_dir_all(&home)?;
    let settings =
        settings.replace(&format!("pid {}/", folder.display()), &format!("pid {}/", home.display()));
    fs::write(home.join("nginx.conf"), settings)?;
    let mut command = within(&ground.pod(at), Some(1), "nginx");
    command.arg("-p").arg(&home).arg("-c").arg(home.join("nginx.conf"));
    Ok(command)
}

fn with_file(
    at: usize,
    ground: &Ground,
    folder: &Path,
    program: &str,
    name: &str,
    text: &str,
    flags: &[&str],
) -> Result<Command> {
    let file = folder.join(format!("{at}-{name}"));
    fs::write(&file, text)?;
    let mut command = within(&ground.pod(at), Some(1), program);
    command.args(flags).arg(file);
    Ok(command)
}

fn envoy(
    at: usize,
    ground: &Ground,
    programs: &Programs,
    folder: &Path,
    log: Option<&Path>,
) -> Result<Command> {
    let program = programs.envoy.to_string_lossy().into_owned();
    let flags = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart", "-c"];
    with_file(at, ground, folder, &program, "envoy.json", &settings::envoy(at, log), &flags)
}

/// This program once more, as [`super::peers`].
fn own(kind: &str, at: usize, ground: &Ground) -> Result<Command> {
    let mut command = within(&ground.pod(at), Some(1), std::env::current_exe()?);
    command.args(["peer", kind]);
    for port in [HTTP1_PORT, HTTP2_PORT, GRPC_PORT] {
        command.arg(format!("{}={}", settings::captured(port), SocketAddr::from((pod_address(at), port))));
    }
    Ok(command)
}

/// The sidecar with its table loaded and a program that it enforces without being told. Its controller is absent: it
/// makes its batches of flows and keeps them.
fn bulkhead(at: usize, ground: &Ground, programs: &Programs, folder: &Path) -> Result<Command> {
    let (state, authority) = (folder.join("state"), folder.join("ca.pem"));
    fs::create_dir_all(&state)?;
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(&authority, parameters.self_signed(&KeyPair::generate()?)?.pem())?;
    let clients = [&[client_address(at)][..], &more_client_addresses(at)].concat();
    LastGood::within(&state).write(&program(pod_address(at), &clients)?)?;
    let command = |action: &str| {
        let mut command = within(&ground.pod(at), Some(1), &programs.bulkhead);
        command.arg(action).args(["--controller", &format!("{}:9443", client_address(at))]);
        command.args(["--pod-addresses", &pod_address(at).to_string(), "--log", "info"]);
        command
    };
    if !programs.bulkhead.is_file() {
        bail!("`{}` is missing: build it first", programs.bulkhead.display());
    }
    run(&mut command("init"))?;
    let mut run = command("run");
    run.arg("--state").arg(state).arg("--controller-ca").arg(authority);
    run.stderr(Stdio::from(fs::File::create(folder.join("bulkhead.log"))?));
    run.stdout(Stdio::from(fs::File::create(folder.join("bulkhead.out"))?));
    Ok(run)
}

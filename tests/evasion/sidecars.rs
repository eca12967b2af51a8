//! Real sidecars on the ground: `bulkhead-proxy init`, then `run`, with a program that was compiled here.
//!
//! There is no controller: each sidecar finds its program as the last good one in its state directory, as it would
//! after a restart while the controller is gone. A sidecar runs as a user of its own with CAP_NET_ADMIN and
//! CAP_NET_RAW, as in a container.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bulkhead_lab::attack::targets::Pair;
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::program::Program;
use bulkhead_proxy::control::last_good::LastGood;
use bulkhead_proxy::firewall::{Firewall, FirewallOptions};

use crate::controller::{self, Authority, Controller};
use crate::ground::{Ground, NODE, SIDECAR_UID};
use crate::namespaces::{Space, become_powerless_sidecar, become_sidecar};

const POLICIES: &str = include_str!("cluster/policies.yaml");
const INVENTORY: &str = include_str!("cluster/inventory.yaml");

/// The sidecar program, if the tests were told where the binaries are.
pub(crate) fn program() -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("BULKHEAD_BIN_DIR")?).join("bulkhead-proxy");
    path.is_file().then_some(path)
}

/// A sidecar in a pod. Dropped, it is killed; the table it loaded stays.
pub(crate) struct Sidecar {
    folder: Folder,
    place: Place,
    process: Option<Child>,
}

struct Place {
    name: &'static str,
    addresses: Pair,
    /// Each sidecar has a controller of its own, if it has one.
    controller_port: u16,
    capture: &'static str,
}

/// How a sidecar may hand captured connections to the app, as its flag `--capture` names it.
pub(crate) const CAPTURES: [&str; 2] = ["client-address", "redirect"];

impl Sidecar {
    /// Loads the closed table in the pod of this name and prepares a state directory with the pod's program.
    pub(crate) fn init(ground: &Ground, name: &'static str) -> anyhow::Result<Self> {
        let sidecar = Self::prepare(ground, name)?;
        sidecar.init_again(ground)?;
        Ok(sidecar)
    }

    /// Prepares a state directory with the pod's program; nothing is loaded yet.
    pub(crate) fn prepare(ground: &Ground, name: &'static str) -> anyhow::Result<Self> {
        let (space, addresses) = ground.pod(name);
        let folder = Folder::new(name)?;
        let program = compile(name, "")?;
        let controller_port = if name == "attacker" { 9443 } else { 9444 };
        let place = Place { name, addresses, controller_port, capture: CAPTURES[0] };
        let sidecar = Self { folder, place, process: None };
        space.run(|| {
            become_sidecar(SIDECAR_UID)?;
            fs::create_dir(sidecar.state())?;
            LastGood::within(&sidecar.state()).write(&program)?;
            Ok::<_, anyhow::Error>(())
        })??;
        Ok(sidecar)
    }

    /// Loads the closed table.
    pub(crate) fn init_again(&self, ground: &Ground) -> anyhow::Result<()> {
        let output = self.start_init(ground)?.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the closed table of `{}`: {text}", self.place.name);
        Ok(())
    }

    /// Starts `init` and waits for nothing.
    pub(crate) fn start_init(&self, ground: &Ground) -> anyhow::Result<Child> {
        let (space, _) = ground.pod(self.place.name);
        space.run(|| {
            become_sidecar(SIDECAR_UID)?;
            let mut command = self.command("init")?;
            Ok::<_, anyhow::Error>(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
        })?
    }

    /// Starts the controller that this sidecar will find.
    pub(crate) fn controller(&self, ground: &Ground) -> anyhow::Result<Controller> {
        Controller::start(ground, &self.folder.authority, self.place.controller_port)
    }

    /// Changes how it will hand connections to the app when it starts the next time.
    pub(crate) fn capture(&mut self, mode: &'static str) {
        self.place.capture = mode;
    }

    /// Starts the sidecar and waits until it says that it enforces.
    pub(crate) fn run(&mut self, ground: &Ground) -> anyhow::Result<()> {
        self.start(ground)?;
        self.wait_until_ready(ground)
    }

    /// Starts the sidecar and waits for nothing.
    pub(crate) fn start(&mut self, ground: &Ground) -> anyhow::Result<()> {
        self.start_as(ground, become_sidecar)
    }

    /// Starts it without the right to enforce anything.
    pub(crate) fn start_powerless(&mut self, ground: &Ground) -> anyhow::Result<()> {
        self.start_as(ground, become_powerless_sidecar)
    }

    fn start_as(&mut self, ground: &Ground, turn: fn(u32) -> io::Result<u32>) -> anyhow::Result<()> {
        let (space, _) = ground.pod(self.place.name);
        let log = fs::File::create(self.folder.path.join("log"))?;
        let child = space.run(|| {
            turn(SIDECAR_UID)?;
            let file = |name: &str| self.folder.path.join(name);
            let mut command = self.command("run")?;
            command.arg("--state").arg(self.state()).arg("--controller-ca").arg(file("ca.pem"));
            command.arg("--token-file").arg(file("token")).args(["--controller-name", controller::NAME]);
            command.args(["--capture", self.place.capture]);
            Ok::<_, anyhow::Error>(command.stdout(Stdio::null()).stderr(log).spawn()?)
        })??;
        self.process = Some(child);
        Ok(())
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, ground: &Ground, name: &str) -> anyhow::Result<u64> {
        let told = administrative(&ground.node, self.place.addresses, "/metrics")?;
        let value = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no metric `{name}` in {told}"))?;
        Ok(value.trim().parse()?)
    }

    fn wait_until_ready(&mut self, ground: &Ground) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !ready(&ground.node, self.place.addresses)? {
            let ended = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > deadline {
                bail!("the sidecar of `{}` is not ready ({ended:?}):\n{}", self.place.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Kills the sidecar at once; its table stays.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.process.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn command(&self, action: &str) -> anyhow::Result<Command> {
        let Pair { v4, v6 } = self.place.addresses;
        let mut command = Command::new(program().context("BULKHEAD_BIN_DIR holds no bulkhead-proxy")?);
        command
            .arg(action)
            .args(["--controller", &format!("{}:{}", NODE.v4, self.place.controller_port)])
            .args(["--pod-addresses", &format!("{v4},{v6}")])
            .args(["--node-addresses", &format!("{},{}", NODE.v4, NODE.v6)])
            .stdin(Stdio::null());
        Ok(command)
    }

    fn state(&self) -> PathBuf {
        self.folder.path.join("state")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path.join("log")).unwrap_or_default()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("the sidecar of `{}` could not be ended: {error}", self.place.name);
        }
        if std::thread::panicking() {
            eprintln!("log of the sidecar of `{}`:\n{}", self.place.name, self.log());
        }
    }
}

/// Loads a pod's program into its kernel table, with no sidecar at all; gives its owner, which must
/// live as long as the pod is to be held.
///
/// `more` are policies beside those of the ground.
pub(crate) fn enforce_in_kernel(ground: &Ground, name: &str, more: &str) -> anyhow::Result<Firewall> {
    let judge = Judge::new(compile(name, more)?).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let (space, _) = ground.pod(name);
    space.run(|| {
        let uid = become_sidecar(SIDECAR_UID)?;
        let mut firewall = Firewall::open(FirewallOptions::new(uid)?)?;
        firewall.apply(&Arc::new(judge))?;
        Ok(firewall)
    })?
}

/// What the pod is held to, by the same way as in a cluster: documents, inventory, compiler.
pub(crate) fn compile(pod: &str, more: &str) -> anyhow::Result<Program> {
    compile_among(pod, more, "")
}

/// As [`compile`], with more pods in the inventory.
pub(crate) fn compile_among(pod: &str, more: &str, pods: &str) -> anyhow::Result<Program> {
    let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
    let loaded = load(&[source("policies.yaml", POLICIES), source("more.yaml", more)]);
    ensure!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    let inventory = load_inventory(&[source("inventory.yaml", INVENTORY), source("pods.yaml", pods)]);
    let inventory = inventory.map_err(|diagnostics| anyhow::anyhow!("{diagnostics:?}"))?;
    let compiler = Compiler::new(&loaded.set, &inventory).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let name = ObjectName { namespace: "shop".into(), name: pod.into() };
    compiler.program(&name, 1).with_context(|| format!("no pod `{pod}`"))
}

/// Whether the sidecar says so at its administrative port.
fn ready(node: &Space, pod: Pair) -> anyhow::Result<bool> {
    Ok(administrative(node, pod, "/readyz")?.starts_with("HTTP/1.1 200"))
}

/// What the administrative port answers, asked from the node; nothing where it does not.
fn administrative(node: &Space, pod: Pair, path: &str) -> anyhow::Result<String> {
    let address = SocketAddr::new(pod.v4.into(), 15_020);
    node.run(|| {
        let patience = Duration::from_millis(500);
        let Ok(mut stream) = TcpStream::connect_timeout(&address, patience) else { return Ok(String::new()) };
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(
            format!("GET {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        Ok(answer)
    })?
}

/// A folder for one sidecar, removed at the end.
struct Folder {
    path: PathBuf,
    authority: Authority,
}

impl Folder {
    fn new(name: &str) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("bulkhead-evasion-{}-{number}-{name}", std::process::id()));
        fs::create_dir(&path)?;
        let folder = Self { path, authority: Authority::new()? };
        fs::write(folder.path.join("ca.pem"), &folder.authority.pem)?;
        fs::write(folder.path.join("token"), controller::TOKEN)?;
        // The sidecar's user makes its state directory in it.
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&folder.path, fs::Permissions::from_mode(0o777))?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

//! The controller and the sidecars of a lab: the real binaries, started and spoken to as anywhere.
//!
//! The controller runs on the node; its inventory and policy folders are all that it is given. A sidecar runs in
//! its pod's network namespace, outside of the pod's other namespaces, as a user of its own with CAP_NET_ADMIN and
//! CAP_NET_RAW, and sees below `/run` only its own folder.

use crate::addresses::{NODE, PlannedPod};
use crate::client::Client;
use crate::collections::Mode;
use crate::enter::SidecarUser;
use crate::file::CollectionSpec;
use crate::launch::to_log;
use crate::limits::{CONTROLLER_START, SIDECARS_START};
use crate::node::Node;
use crate::{collections, inventory, paths};
use bulkhead_api::rest::{JoinToken, JoinTokenRequest, SidecarStatus, Status};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// Where sidecars reach the controller.
const SIDECAR_PORT: u16 = 9443;

/// Where people reach it.
const HTTP_PORT: u16 = 8443;

/// How long between two looks at something that is about to happen.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// The controller of a lab.
pub(crate) struct Control {
    pub(crate) client: Client,
    policies: PathBuf,
    _process: Child,
}

impl Control {
    /// Writes its folders, starts it and waits until it answers.
    pub(crate) async fn start(node: &Node) -> io::Result<Self> {
        let folder = Path::new(paths::STATE).join("controller");
        let (state, policies, inventory) =
            (folder.join("state"), folder.join("policies"), folder.join("inventory"));
        fs::create_dir_all(&folder)?;
        for folder in [&policies, &inventory] {
            fs::create_dir(folder)?;
        }
        for (name, text) in inventory::files(&node.lab, &node.plan) {
            fs::write(inventory.join(name), text)?;
        }
        if !node.lab.policies.is_empty() {
            fs::write(policies.join("lab.yaml"), &node.lab.policies)?;
        }
        write_collections(&policies, &node.lab.collections, Mode::Observe)?;
        let log = folder.join("log");
        let mut process = start_controller(&state, &policies, &inventory, &log)?;
        let client = wait_for_controller(&mut process, &state, &log).await?;
        Ok(Self { client, policies, _process: process })
    }

    /// Starts a sidecar with a token of its own; its table must be loaded ([`close`]).
    pub(crate) async fn start_sidecar(&self, node: &Node, position: usize) -> io::Result<Child> {
        let pod = &node.plan.pods[position];
        let request = JoinTokenRequest { uid: inventory::pod_uid(position) };
        let token: JoinToken = self.client.post("/api/v1/join-tokens", &request).await?;
        let state = sidecar_folder(pod).join("state");
        write_private(&state.join("token"), &token.token, node.order.root)?;
        fs::copy(ca_file(), state.join("ca.pem"))?;
        fs::set_permissions(state.join("ca.pem"), fs::Permissions::from_mode(0o644))?;
        run_sidecar(node, pod)
    }

    /// Puts the collections into another mode, as a person would: by changing the file.
    pub(crate) fn set_mode(&self, collections: &[CollectionSpec], mode: Mode) -> io::Result<()> {
        write_collections(&self.policies, collections, mode)
    }

    /// Writes a policy file that the controller handed out instead of writing it.
    pub(crate) fn write_policy(&self, name: &str, text: &str) -> io::Result<()> {
        write_whole(&self.policies.join(name), text)
    }

    /// Waits until every sidecar enforces its newest program in this mode.
    pub(crate) async fn wait_until_all(&self, count: usize, mode: Mode) -> io::Result<()> {
        let patience = Instant::now() + SIDECARS_START;
        loop {
            let status: Status = self.client.get("/api/v1/status").await?;
            if let Some(refused) = &status.policy.refused {
                let findings: Vec<String> = refused.diagnostics.iter().map(|d| d.message.clone()).collect();
                return Err(io::Error::other(format!(
                    "the controller refuses the policies: {}",
                    findings.join("; ")
                )));
            }
            let sidecars: Vec<SidecarStatus> = self.client.get("/api/v1/sidecars").await?;
            let ready = sidecars.iter().filter(|s| is_current(s, mode)).count();
            if ready >= count {
                return Ok(());
            }
            if Instant::now() > patience {
                let late: Vec<String> =
                    sidecars.iter().filter(|s| !is_current(s, mode)).map(describe).collect();
                return Err(io::Error::other(format!(
                    "{ready} of {count} sidecars are in mode {}: {}",
                    mode.as_str(),
                    late.join(", ")
                )));
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

fn is_current(sidecar: &SidecarStatus, mode: Mode) -> bool {
    sidecar.attached
        && sidecar.revision != 0
        && sidecar.revision == sidecar.revision_wanted
        && sidecar.mode == mode.as_str()
}

fn describe(sidecar: &SidecarStatus) -> String {
    let error =
        sidecar.error.as_deref().unwrap_or(if sidecar.attached { "not there yet" } else { "not attached" });
    let place = format!("{}/{}", sidecar.namespace, sidecar.pod);
    let log = fs::read_to_string(sidecar_log(&place)).unwrap_or_default();
    let (revision, wanted) = (sidecar.revision, sidecar.revision_wanted);
    format!("{place} ({error}, revision {revision} of {wanted}; it said last:\n{})", tail(&log))
}

/// Loads the closed table into a pod, before anything runs in it.
pub(crate) async fn close(node: &Node, pod: &PlannedPod) -> io::Result<()> {
    let state = sidecar_folder(pod).join("state");
    fs::create_dir_all(sidecar_folder(pod).join("run"))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&state)?;
    give(&state, node.order.root)?;
    let output = sidecar(node, pod, "init")?.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("sidecar of `{}`: init failed: {}", pod.place, reason.trim())))
}

/// Starts the sidecar of a pod, for the first time or again.
pub(crate) fn run_sidecar(node: &Node, pod: &PlannedPod) -> io::Result<Child> {
    let mut command = sidecar(node, pod, "run")?;
    to_log(&mut command, &sidecar_log(&pod.place))?;
    command.spawn()
}

/// `bulkhead-proxy init` or `run` in a pod.
fn sidecar(node: &Node, pod: &PlannedPod, action: &str) -> io::Result<Command> {
    let addresses = pod.addresses().map(|a| a.to_string()).join(",");
    let mut command = vec!["bulkhead-proxy".to_owned(), action.to_owned()];
    let mut flag = |name: &str, value: String| command.extend([format!("--{name}"), value]);
    flag("controller", SocketAddr::from((NODE.0, SIDECAR_PORT)).to_string());
    flag("pod-addresses", addresses);
    flag("node-addresses", format!("{},{}", NODE.0, NODE.1));
    if action == "run" {
        flag("state", "/run/state/proxy".into());
        flag("controller-ca", "/run/state/ca.pem".into());
        flag("token-file", "/run/state/token".into());
    }
    let user = SidecarUser::new(node.order.root);
    node.launcher.beside(&pod.place, Some((sidecar_folder(pod), user)), &command)
}

fn sidecar_folder(pod: &PlannedPod) -> PathBuf {
    paths::folder(&pod.place).join("sidecar")
}

/// What the sidecar of a place writes.
pub(crate) fn sidecar_log(place: &str) -> PathBuf {
    paths::folder(place).join("sidecar/log")
}

/// The controller's CA.
pub(crate) fn ca_file() -> PathBuf {
    Path::new(paths::STATE).join("controller/state/ca.pem")
}

/// The administrator's token.
pub(crate) fn token_file() -> PathBuf {
    Path::new(paths::STATE).join("controller/state/admin.token")
}

/// Where people reach the controller on the node.
pub(crate) fn http_address() -> SocketAddr {
    SocketAddr::from((NODE.0, HTTP_PORT))
}

fn start_controller(state: &Path, policies: &Path, inventory: &Path, log: &Path) -> io::Result<Child> {
    let mut command = Command::new(Path::new(paths::BIN).join("bulkhead-controller"));
    for (flag, value) in [("--state", state), ("--policies", policies), ("--inventory", inventory)] {
        command.arg(flag).arg(value);
    }
    command.arg("--listen-sidecars").arg(SocketAddr::from((NODE.0, SIDECAR_PORT)).to_string());
    command.arg("--listen-http").arg(http_address().to_string());
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    to_log(&mut command, log)?;
    command.spawn()
}

async fn wait_for_controller(process: &mut Child, state: &Path, log: &Path) -> io::Result<Client> {
    let patience = Instant::now() + CONTROLLER_START;
    loop {
        if let Ok(client) = Client::new(http_address(), &state.join("ca.pem"), &state.join("admin.token"))
            && client.get::<Status>("/api/v1/status").await.is_ok_and(|status| status.policy.revision > 0)
        {
            return Ok(client);
        }
        let ended = process.try_wait()?;
        if ended.is_some() || Instant::now() > patience {
            let text = fs::read_to_string(log).unwrap_or_default();
            return Err(io::Error::other(format!("the controller did not start:\n{}", tail(&text))));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The last lines of a log, for a message.
pub(crate) fn tail(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn write_collections(folder: &Path, collections: &[CollectionSpec], mode: Mode) -> io::Result<()> {
    write_whole(&folder.join("collections.yaml"), &collections::documents(collections, mode))
}

/// So that the controller never sees half a file.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unfinished = path.with_file_name(format!(".{name}"));
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, path)
}

fn write_private(path: &Path, text: &str, root: bool) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    give(path, root)
}

/// Gives a file to the sidecar's user.
fn give(path: &Path, root: bool) -> io::Result<()> {
    let user = SidecarUser::new(root).uid;
    chown(path, Some(user), Some(user))
}

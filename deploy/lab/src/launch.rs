//! Starting programs in and beside places: every child process of the node comes from here.
//!
//! Everything is started through the inner commands [`crate::pod`] and [`crate::enter`], in a process group of its
//! own, so that a Ctrl-C of the terminal reaches the node alone. Whatever is not stopped here ends with the
//! node's PID namespace.

use crate::ground::Privilege;
use crate::limits::OUTPUT_BYTES_MAX;
use crate::{enter, paths, pod, system};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// Starts programs in places.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    root: bool,
    /// First process of each place that is up.
    places: Arc<RwLock<BTreeMap<String, libc::pid_t>>>,
}

/// A program that ran to its end, or was ended at its time limit.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code; `None` if a signal or the time limit ended it.
    pub code: Option<i32>,
    /// Standard output, cut at [`OUTPUT_BYTES_MAX`].
    pub stdout: String,
    /// Standard error, cut likewise.
    pub stderr: String,
}

impl Launcher {
    /// A launcher that has started nothing.
    pub(crate) fn new(root: bool) -> Self {
        Self { root, places: Arc::default() }
    }

    /// Makes the namespaces of a place, whose network must exist, and writes its files.
    pub(crate) fn open_place(&self, place: &str, files: Vec<(PathBuf, String)>) -> io::Result<()> {
        let folder = paths::folder(place);
        fs::create_dir_all(folder.join("run"))?;
        let name = place.rsplit('/').next().unwrap_or(place).to_owned();
        let order = pod::Order { name, network: paths::network(place), folder, files, root: self.root };
        let mut child = std::process::Command::new(own_program())
            .arg("lab-pod")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&serde_json::to_vec(&order)?)?;
        }
        let output = child.wait_with_output()?;
        let pid = String::from_utf8_lossy(&output.stdout).trim().parse::<libc::pid_t>();
        let Ok(pid) = pid else {
            let reason = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("cannot make `{place}`: {}", reason.trim())));
        };
        self.write_places().insert(place.to_owned(), pid);
        Ok(())
    }

    /// Ends everything in a place. Its network stays.
    pub(crate) async fn close_place(&self, place: &str) -> io::Result<()> {
        let Some(pid) = self.write_places().remove(place) else { return Ok(()) };
        system::kill(system::pidfd(pid)?.as_fd(), libc::SIGKILL)?;
        while Path::new(&format!("/proc/{pid}")).exists() {
            reap_strays()?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// First processes of all places, for `exec`.
    pub(crate) fn places(&self) -> BTreeMap<String, libc::pid_t> {
        self.places.read().map(|places| places.clone()).unwrap_or_default()
    }

    /// Starts a place's own program; what it writes goes to its log.
    pub(crate) fn start_app(
        &self,
        place: &str,
        environment: &BTreeMap<String, String>,
        command: &[String],
    ) -> io::Result<Child> {
        let environment = environment.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut entering = self.entering(place, Privilege::App, environment, command)?;
        to_log(&mut entering, &paths::log(place))?;
        entering.spawn()
    }

    /// Runs a program in a place to its end, at most for `timeout`.
    pub(crate) async fn run(
        &self,
        place: &str,
        privilege: Privilege,
        command: &[String],
        timeout: Duration,
    ) -> io::Result<Finished> {
        let mut entering = self.entering(place, privilege, Vec::new(), command)?;
        let child = entering.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        finish(child, timeout).await
    }

    /// A program in a place's network namespace with the node's rights, or a sidecar with its folder and user.
    pub(crate) fn beside(
        &self,
        place: &str,
        private: Option<(PathBuf, enter::SidecarUser)>,
        command: &[String],
    ) -> io::Result<Command> {
        let order = enter::InsideOrder {
            network: paths::network(place),
            private,
            environment: Vec::new(),
            command: command.to_vec(),
        };
        Ok(inner("lab-inside", &serde_json::to_string(&order)?))
    }

    fn entering(
        &self,
        place: &str,
        privilege: Privilege,
        environment: Vec<(String, String)>,
        command: &[String],
    ) -> io::Result<Command> {
        let pod_pid = self.places().get(place).copied();
        let Some(pod_pid) = pod_pid else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no place `{place}`")));
        };
        let order = enter::Order {
            pod_pid,
            privilege,
            root: self.root,
            die_with_parent: false,
            environment,
            command: command.to_vec(),
        };
        Ok(inner("lab-enter", &serde_json::to_string(&order)?))
    }

    fn write_places(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, libc::pid_t>> {
        // A thread that panicked while it held the lock left a whole map: every change is one call.
        self.places.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Reaps dead processes of places that became our children: the first process of a place, and what was left when
/// a `lab-enter` was killed. A place cannot end before they are reaped. Our own children are left to the runtime:
/// they have a number in no PID namespace below ours.
fn reap_strays() -> io::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let status = fs::read_to_string(entry?.path().join("status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim();
        if field("State:").starts_with('Z') && field("PPid:") == "1" && field("NSpid:").contains('\t') {
            let pid = field("Pid:").parse().map_err(io::Error::other)?;
            system::wait_for(pid)?;
        }
    }
    Ok(())
}

/// Sends what a program writes to a file, at its end.
pub(crate) fn to_log(command: &mut Command, log: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    command.stdout(file.try_clone()?).stderr(file);
    Ok(())
}

/// Our own program, bound to where every namespace of the lab sees it.
pub(crate) fn own_program() -> PathBuf {
    Path::new(paths::BIN).join("bulkhead")
}

fn inner(name: &str, order: &str) -> Command {
    let mut command = Command::new(own_program());
    command.arg(name).arg(order).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    command
}

async fn finish(mut child: Child, timeout: Duration) -> io::Result<Finished> {
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let work = async { tokio::join!(child.wait(), read_bounded(stdout), read_bounded(stderr)) };
    // Dropping the child kills `lab-enter`, and the kernel then kills what it entered with.
    let Ok((status, stdout, stderr)) = tokio::time::timeout(timeout, work).await else {
        return Ok(Finished { code: None, stdout: String::new(), stderr: "ended at its time limit".into() });
    };
    Ok(Finished { code: code(status?), stdout: stdout?, stderr: stderr? })
}

fn code(status: ExitStatus) -> Option<i32> {
    status.code()
}

async fn read_bounded(stream: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut stream) = stream else { return Ok(String::new()) };
    let mut kept = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}

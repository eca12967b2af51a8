//! Running a program in a pod, `bulkhead lab-enter`, or beside it, `bulkhead lab-inside`.
//!
//! *Enter* is for the app and for attackers: all namespaces of the pod, the app's user, no capability (or
//! CAP_NET_RAW alone, in the node's user namespace, which is what container runtimes give). *Inside* is for
//! sidecars and canaries: the pod's network namespace only. A canary has the node's rights; a sidecar has a user, two
//! capabilities and a `/run` of its own, so that one sidecar's key is no file in another's world.

use crate::ground::Privilege;
use crate::system::{self, CAP_NET_ADMIN, CAP_NET_RAW, Fork};
use crate::{paths, pod};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// What runs where, as one JSON argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The pod's first process, as the node numbers it.
    pub(crate) pod_pid: libc::pid_t,
    /// As whom.
    pub(crate) privilege: Privilege,
    /// Whether the node is root of the machine.
    pub(crate) root: bool,
    /// Whether it ends with the process that started it: for `exec`, which is no child of the node.
    pub(crate) die_with_parent: bool,
    /// Environment, besides PATH, HOME and LANG.
    pub(crate) environment: Vec<(String, String)>,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
}

/// A program beside a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InsideOrder {
    /// File of the network namespace.
    pub(crate) network: PathBuf,
    /// For a sidecar: its folder, whose `state` becomes `/run/state`, and its user. None: `/run` stays the node's
    /// and so do the rights.
    pub(crate) private: Option<(PathBuf, SidecarUser)>,
    /// Environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
}

/// As whom a sidecar runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct SidecarUser {
    /// Its user and group.
    pub(crate) uid: u32,
}

impl SidecarUser {
    /// A user of its own if the node is root of the machine; else the only one there is.
    pub(crate) fn new(root: bool) -> Self {
        Self { uid: if root { 1337 } else { 0 } }
    }
}

/// Enters the pod, runs the program as a child and gives its exit code.
pub(crate) fn main(order: &Order) -> io::Result<u8> {
    if order.die_with_parent {
        system::die_with_parent(true)?;
    }
    let mut namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if order.root {
        system::drop_groups()?;
    }
    if order.privilege == Privilege::App {
        namespaces |= libc::CLONE_NEWUSER;
    }
    system::setns(system::pidfd(order.pod_pid)?.as_fd(), namespaces)?;
    // What the parent side does when it is killed: its child goes with it.
    match system::fork()? {
        Fork::Parent(pid) => Ok(system::wait_for(pid)?.1),
        Fork::Child => Err(run(order)),
    }
}

/// Gives up what the app may not have and becomes the program. Returns only if that fails.
fn run(order: &Order) -> io::Error {
    let kept: &[u8] = match order.privilege {
        Privilege::App => &[],
        Privilege::NetRaw => &[CAP_NET_RAW],
    };
    let user = match order.privilege {
        Privilege::App => pod::APP_UID,
        Privilege::NetRaw => pod::app_user(order.root),
    };
    let given_up = system::keep_capabilities()
        .and_then(|()| system::become_user(user, user))
        .and_then(|()| system::restrict_to(kept))
        .and_then(|()| system::die_with_parent(true));
    match given_up {
        Err(error) => error,
        Ok(()) => execute(&order.command, &order.environment, Path::new("/tmp")),
    }
}

/// Moves into the network namespace (and a private `/run`) and becomes the program. Returns only if that fails.
pub(crate) fn inside(order: &InsideOrder) -> io::Error {
    match step_inside(order) {
        Err(error) => error,
        Ok(()) => execute(&order.command, &order.environment, Path::new("/")),
    }
}

fn step_inside(order: &InsideOrder) -> io::Result<()> {
    system::setns(fs::File::open(&order.network)?.as_fd(), libc::CLONE_NEWNET)?;
    let Some((private, user)) = &order.private else { return Ok(()) };
    system::unshare(libc::CLONE_NEWNS)?;
    system::mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "")?;
    let run = private.join("run");
    fs::create_dir_all(&run)?;
    let name = run.to_string_lossy();
    system::mount("tmpfs", &name, "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=755,size=1m")?;
    for (source, target) in [(Path::new(paths::BIN), "bin"), (&private.join("state"), "state")] {
        fs::create_dir(run.join(target))?;
        let target = run.join(target);
        system::mount(
            &source.to_string_lossy(),
            &target.to_string_lossy(),
            "",
            libc::MS_BIND | libc::MS_REC,
            "",
        )?;
    }
    system::mount(&name, "/run", "", libc::MS_MOVE, "")?;
    if user.uid != 0 {
        system::drop_groups()?;
    }
    system::keep_capabilities()?;
    system::become_user(user.uid, user.uid)?;
    system::restrict_to(&[CAP_NET_ADMIN, CAP_NET_RAW])
}

fn execute(command: &[String], environment: &[(String, String)], folder: &Path) -> io::Error {
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program was given");
    };
    let path = paths::program_path();
    let error = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", path.as_str()), ("HOME", "/tmp"), ("LANG", "C.UTF-8")])
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .current_dir(folder)
        .exec();
    io::Error::new(error.kind(), format!("cannot start `{program}`: {error}"))
}

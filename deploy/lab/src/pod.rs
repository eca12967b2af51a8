//! The process that holds a pod: `bulkhead lab-pod`, what a pause container is elsewhere.
//!
//! It enters the pod's network namespace, makes the pod's own mounts, user and PID namespace, and then only
//! reaps. Everything that runs in the pod enters it ([`crate::enter`]), so a program that ends and starts again
//! finds the same files, and `exec` finds what the app sees. The node makes the network beforehand
//! ([`crate::network`]); the sidecar lives outside of these namespaces ([`crate::enter`]).
//!
//! What the app cannot do: write to the machine's files, see them below `/root`, `/home`, `/run`, `/tmp`, see or
//! signal a process of another pod or of its own sidecar, or hold a capability anywhere.

use crate::paths;
use crate::system::{self, Fork};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::{fs, process};

/// The user that apps run as inside of their pods.
pub(crate) const APP_UID: u32 = 65532;

/// What the node tells the pod process, as one JSON argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Host name.
    pub(crate) name: String,
    /// File of the pod's network namespace.
    pub(crate) network: PathBuf,
    /// The pod's folder on the node.
    pub(crate) folder: PathBuf,
    /// Files to write, below `/tmp` or `/run`.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Whether the node is root of the machine, so that the app can be another user than the sidecar.
    pub(crate) root: bool,
}

/// Makes the pod, writes the number of its first process to standard output, and ends; that process stays.
pub(crate) fn main(order: &Order) -> io::Result<()> {
    system::setns(fs::File::open(&order.network)?.as_fd(), libc::CLONE_NEWNET)?;
    system::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC)?;
    system::set_host_name(&order.name)?;
    make_mounts(order)?;
    let outer = app_user(order.root);
    if order.root {
        system::drop_groups()?;
        system::become_user(outer, outer)?;
    }
    // The mounts above belong to the node's user namespace and are locked for the pod's.
    system::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS)?;
    map_users(outer)?;
    let (ready, announce) = io::pipe()?;
    match system::fork()? {
        Fork::Child => {
            drop(ready);
            hold(announce)
        }
        Fork::Parent(pid) => {
            drop(announce);
            let failure = io::read_to_string(ready)?;
            if !failure.is_empty() {
                return Err(io::Error::other(failure));
            }
            writeln!(io::stdout(), "{pid}")
        }
    }
}

/// The app's user as the node sees it.
pub(crate) fn app_user(root: bool) -> u32 {
    if root { APP_UID } else { 0 }
}

/// PID 1 of the pod: says that it is ready by closing the pipe, or why not by writing to it, then reaps.
fn hold(mut announce: io::PipeWriter) -> ! {
    let made = system::mount("proc", "/proc", "proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, "")
        .and_then(|()| system::restrict_to(&[]))
        .and_then(|()| system::block_signals(&[libc::SIGCHLD]))
        // The node waits until nobody has its end of our output.
        .and_then(|()| system::silence());
    if let Err(error) = made {
        // The parent is all that could hear of a failed write, and it then sees no PID.
        let _ = write!(announce, "{error}");
        process::exit(1);
    }
    drop(announce);
    loop {
        // No child is no reason to stop: the next program that enters may leave some.
        if system::wait_for(-1).is_err() {
            let _ = system::next_signal(&[libc::SIGCHLD]);
        }
    }
}

fn map_users(outer: u32) -> io::Result<()> {
    let map = format!("{APP_UID} {outer} 1\n");
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", &map)?;
    fs::write("/proc/self/gid_map", &map)
}

fn make_mounts(order: &Order) -> io::Result<()> {
    system::mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "")?;
    system::set_read_only("/", true, true)?;
    system::set_read_only("/proc", false, false)?;
    let owner = app_user(order.root);
    let open = format!("mode=1777,size=256m,uid={owner},gid={owner}");
    for hidden in ["/root", "/home", "/mnt", "/media"].into_iter().filter(|p| Path::new(p).is_dir()) {
        system::mount("tmpfs", hidden, "tmpfs", libc::MS_RDONLY, "mode=755,size=4k")?;
    }
    for file in ["hosts", "resolv.conf", "passwd", "group"] {
        let target = format!("/etc/{file}");
        if Path::new(&target).exists() {
            bind(&order.folder.join(file), &target)?;
        }
    }
    system::mount("tmpfs", "/dev/shm", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, &open)?;
    // The binaries may lie below /tmp; they were bound into the node's folder before.
    let run = order.folder.join("run");
    let run_name = run.to_string_lossy();
    system::mount("tmpfs", &run_name, "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, &open)?;
    fs::create_dir(run.join("bin"))?;
    system::mount(paths::BIN, &run.join("bin").to_string_lossy(), "", libc::MS_BIND | libc::MS_REC, "")?;
    system::mount(&run_name, "/run", "", libc::MS_MOVE, "")?;
    system::mount("tmpfs", "/tmp", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, &open)?;
    order.files.iter().try_for_each(|(path, content)| write_file(path, content, owner))
}

fn bind(source: &Path, target: &str) -> io::Result<()> {
    system::mount(&source.to_string_lossy(), target, "", libc::MS_BIND, "")
        .map_err(|e| io::Error::new(e.kind(), format!("{e} (of {})", source.display())))
}

fn write_file(path: &Path, content: &str, owner: u32) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|f| !f.exists()) {
        fs::create_dir_all(folder)?;
        std::os::unix::fs::chown(folder, Some(owner), Some(owner))?;
    }
    fs::write(path, content)?;
    std::os::unix::fs::chown(path, Some(owner), Some(owner))
}

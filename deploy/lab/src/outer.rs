//! The process that a person starts: it checks, moves into fresh namespaces, starts the node and waits.
//!
//! The node ([`crate::node`]) is PID 1 of a new PID namespace and dies with this process, so that nothing outlives
//! a crash or kill -9. Outside of the namespaces there is one *run file*: who holds its lock is the lab of that name,
//! and [`exec`] and [`down`] find the node by it.

use crate::file;
use crate::ground::Privilege;
use crate::{enter, launch, node, paths, preflight, system};
use bulkhead_policies::diagnostics::Source;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Exit code for whatever is wrong with the input or the machine: nothing was started.
const REFUSED: u8 = 2;

/// How long a node has to end in order before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Lab file; `None` is the shop.
    pub file: Option<PathBuf>,
    /// Name of the lab: one of each runs at a time.
    pub name: String,
    /// End when the story is told.
    pub once: bool,
    /// One JSON document on standard output, progress on standard error.
    pub json: bool,
    /// Leave the lab running in the background when the story is told.
    pub keep: bool,
}

/// What the run file says.
#[derive(Debug, Serialize, Deserialize)]
struct RunFile {
    /// The node, as the machine numbers it.
    pid: libc::pid_t,
    /// Whether it was started by root.
    root: bool,
}

/// Runs a lab and gives the exit code.
pub fn run(options: &Options) -> u8 {
    let source = match read_source(options.file.as_deref()) {
        Ok(source) => source,
        Err(message) => return refuse(&message),
    };
    let lab = match file::read(&source) {
        Ok((lab, warnings)) => {
            eprint!("{}", file::render(&warnings, &source));
            lab
        }
        Err(diagnostics) => return refuse(file::render(&diagnostics, &source).trim_end()),
    };
    let programs = match preflight::check(&lab) {
        Ok(programs) => programs,
        Err(missing) => return refuse(&missing),
    };
    if options.once && lab.compromised.is_empty() {
        return refuse(&format!(
            "{}:1:1: error: no pod is compromised, so nothing can be attacked\nhelp: name one under `compromised`, or leave \
             out `--once`",
            source.name
        ));
    }
    match start(options, source, programs) {
        Ok(code) => code,
        Err(error) => refuse(&format!("error: {error}")),
    }
}

fn refuse(message: &str) -> u8 {
    eprintln!("{message}");
    REFUSED
}

fn read_source(path: Option<&Path>) -> Result<Source, String> {
    let Some(path) = path else {
        return Ok(Source { name: "shop.yaml (built in)".into(), text: file::SHOP.into() });
    };
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => Err(format!("{name}:1:1: error[unreadable]: the lab file cannot be read: {error}")),
    }
}

fn start(options: &Options, source: Source, programs: preflight::Programs) -> io::Result<u8> {
    let root = system::effective_uid() == 0;
    let path = run_path(&options.name)?;
    let Some(run_file) = claim(&path)? else {
        let stop = down_command(&options.name);
        return Err(io::Error::other(format!(
            "lab `{}` is already running; stop it with: {stop}",
            options.name
        )));
    };
    // A socket stays in the network namespace that it was made in.
    let api = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    system::inherit(api.as_fd(), true)?;
    let signals = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
    system::block_signals(&signals)?;
    move_into_namespaces(root)?;
    let (kept, keep) = io::pipe()?;
    system::inherit(keep.as_fd(), true)?;
    system::inherit(run_file.as_fd(), true)?;
    let order = node::Order {
        source_name: source.name,
        source_text: source.text,
        name: options.name.clone(),
        once: options.once,
        json: options.json,
        keep: options.keep,
        root,
        programs,
        run_file: run_file.as_raw_fd(),
        api_listener: api.as_raw_fd(),
        api_port: api.local_addr()?.port(),
        keep_pipe: keep.as_raw_fd(),
    };
    // Nothing of the starter's environment goes in: pods inherit it, and it may hold secrets or steer our programs.
    let mut child = Command::new("/proc/self/exe")
        .arg("lab-node")
        .env_clear()
        .envs([("PATH", paths::program_path().as_str()), ("LANG", "C.UTF-8")])
        .stdin(Stdio::piped())
        .spawn()?;
    drop((keep, api));
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    (&run_file).write_all(&serde_json::to_vec(&RunFile { pid, root })?)?;
    // Stays open until we end: the node's sign that we live.
    let mut bond = child.stdin.take().ok_or_else(|| io::Error::other("no standard input"))?;
    let mut line = serde_json::to_vec(&order)?;
    line.push(b'\n');
    bond.write_all(&line)?;
    match wait(pid, &signals, kept)? {
        Ended::Kept(code) => Ok(code),
        Ended::Over(code) => {
            forget(&path);
            Ok(code)
        }
    }
}

/// Removes the run file, and its folder if that was the last.
fn forget(path: &Path) {
    // Either may be gone already, or hold another lab.
    let _ = fs::remove_file(path);
    let _ = path.parent().map(fs::remove_dir);
}

/// Passes signals on until the node has ended; the second one of a person in a hurry kills it. A byte on `kept`
/// says that the node goes on without us, with this exit code for us. No thread: after `unshare` of the PID
/// namespace this process may have none.
fn wait(pid: libc::pid_t, signals: &[libc::c_int], mut kept: io::PipeReader) -> io::Result<Ended> {
    let node = system::pidfd(pid)?;
    let mut pending = File::from(system::signal_file(signals)?);
    let mut asked = false;
    loop {
        let (signalled, kept_readable) = system::wait_readable(pending.as_fd(), kept.as_fd())?;
        if kept_readable {
            let mut code = [0];
            match kept.read_exact(&mut code) {
                Ok(()) => return Ok(Ended::Kept(code[0])),
                Err(_) => return Ok(Ended::Over(system::wait_for(pid)?.1)),
            }
        }
        if !signalled {
            continue;
        }
        let mut information = [0; size_of::<libc::signalfd_siginfo>()];
        pending.read_exact(&mut information)?;
        let signal = if asked { libc::SIGKILL } else { libc::SIGTERM };
        asked = true;
        system::kill(node.as_fd(), signal)?;
    }
}

/// How the outer process comes to its end.
enum Ended {
    /// The node is gone and left this exit code.
    Over(u8),
    /// The node goes on.
    Kept(u8),
}

/// New namespaces for our child; a user namespace with ourselves as root if we are not. The node makes its own
/// mount namespace, since we still need our files.
fn move_into_namespaces(root: bool) -> io::Result<()> {
    let (uid, gid) = (system::effective_uid(), system::effective_gid());
    if !root {
        system::unshare(libc::CLONE_NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))?;
    }
    system::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC)
}

/// Runs a command in a pod of a running lab and gives its exit code.
pub fn exec(name: &str, pod: &str, command: &[String]) -> u8 {
    match try_exec(name, pod, command) {
        Ok(code) => code,
        Err(error) => refuse(&format!("error: {error}")),
    }
}

fn try_exec(name: &str, pod: &str, command: &[String]) -> io::Result<u8> {
    let run = running(name)?;
    let user = if run.root { 0 } else { libc::CLONE_NEWUSER };
    let namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    system::setns(system::pidfd(run.pid)?.as_fd(), user | namespaces)?;
    let pods: node::PodsFile = serde_json::from_slice(&fs::read(paths::PODS_FILE)?)?;
    let (pod_pid, environment) = pods.find(pod).map_err(io::Error::other)?;
    let order = enter::Order {
        pod_pid,
        privilege: Privilege::App,
        root: run.root,
        die_with_parent: true,
        environment,
        command: command.to_vec(),
    };
    let order = serde_json::to_string(&order)?;
    let status = Command::new(launch::own_program()).arg("lab-enter").arg(order).status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}

/// Ends a running lab and gives the exit code.
pub fn down(name: &str) -> u8 {
    match try_down(name) {
        Ok(()) => 0,
        Err(error) => refuse(&format!("error: {error}")),
    }
}

fn try_down(name: &str) -> io::Result<()> {
    let path = run_path(name)?;
    if is_stale(&path)? {
        forget(&path);
        return Ok(());
    }
    let run = running(name)?;
    let node = system::pidfd(run.pid)?;
    system::kill(node.as_fd(), libc::SIGTERM)?;
    let patience = Instant::now() + END_PATIENCE;
    let file = File::open(&path)?;
    while !system::try_lock(file.as_fd())? {
        if Instant::now() > patience {
            // It may end between the look and the kill: then there is nothing left to kill.
            let _ = system::kill(node.as_fd(), libc::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // The lock goes first, the processes of the namespace next, the node last.
    system::wait_readable(node.as_fd(), node.as_fd())?;
    forget(&path);
    Ok(())
}

/// True if a lab that was killed left its run file.
fn is_stale(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => system::try_lock(file.as_fd()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The run file of a lab whose node lives.
fn running(name: &str) -> io::Result<RunFile> {
    let path = run_path(name)?;
    let nothing =
        || io::Error::other(format!("no lab `{name}` is running; start one with: bulkhead lab --keep"));
    let file = File::open(&path).map_err(|_| nothing())?;
    if system::try_lock(file.as_fd())? {
        return Err(nothing());
    }
    let mut text = String::new();
    BufReader::new(file).read_line(&mut text)?;
    serde_json::from_str(&text).map_err(|_| nothing())
}

/// Takes the run file and its lock; `None` if a lab of that name has it. What a dead lab left is taken over.
fn claim(path: &Path) -> io::Result<Option<File>> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("run file {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        own_folder(folder).map_err(named)?;
    }
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(named)?;
    if !system::try_lock(file.as_fd())? {
        return Ok(None);
    }
    file.set_len(0)?;
    Ok(Some(file))
}

/// Makes the folder of run files, or refuses one that somebody else could write to: `down` ends the process that a run
/// file names.
fn own_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    if found.is_dir() && found.uid() == system::effective_uid() && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{} belongs to somebody else or others may write to it; remove it",
        folder.display()
    )))
}

fn run_path(name: &str) -> io::Result<PathBuf> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name.is_empty() || !plain || name.len() > 50 {
        let message = format!("`{name}` cannot be the name of a lab: use letters, digits, `-` and `_`");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let uid = system::effective_uid();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR").filter(|v| Path::new(v).is_dir()) {
        _ if uid == 0 => PathBuf::from("/run/bulkhead-lab"),
        Some(folder) => Path::new(&folder).join("bulkhead-lab"),
        None => std::env::temp_dir().join(format!("bulkhead-lab-{uid}")),
    };
    Ok(folder.join(format!("{name}.json")))
}

fn down_command(name: &str) -> String {
    if name == DEFAULT_NAME { "bulkhead lab down".into() } else { format!("bulkhead lab down --name {name}") }
}

/// Name of a lab that was given none.
pub const DEFAULT_NAME: &str = "lab";

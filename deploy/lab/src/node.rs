//! The node: PID 1 of the lab's namespaces, which builds everything and tells the story.
//!
//! Its mounts are its own: `/run` is a tmpfs that holds all state ([`crate::paths`]), `/proc` shows its PID
//! namespace. Whatever way it ends, the kernel ends everything in its PID namespace and takes back network,
//! mounts and tmpfs.

use crate::addresses::{Plan, SERVICE_BLOCKS};
use crate::file::{self, CollectionSpec, LabFile};
use crate::launch::{Launcher, own_program};
use crate::network::{self, Cable};
use crate::preflight::Programs;
use crate::{forward, hosts, paths, services, story, system};
use bulkhead_policies::diagnostics::Source;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What the outer process tells the node, as one line of JSON on standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) source_name: String,
    pub(crate) source_text: String,
    pub(crate) name: String,
    pub(crate) once: bool,
    pub(crate) json: bool,
    pub(crate) keep: bool,
    pub(crate) root: bool,
    pub(crate) programs: Programs,
    pub(crate) run_file: libc::c_int,
    /// A port of the machine's loopback for the controller's API.
    pub(crate) api_listener: libc::c_int,
    pub(crate) api_port: u16,
    pub(crate) keep_pipe: libc::c_int,
}

/// A lab whose network stands and in which nothing runs yet.
pub(crate) struct Node {
    pub(crate) order: Order,
    pub(crate) lab: LabFile,
    pub(crate) plan: Plan,
    pub(crate) launcher: Launcher,
    /// Our process as the machine numbers it.
    pub(crate) outside_pid: libc::pid_t,
}

/// What lets the node go on without the outer process.
pub(crate) struct Bond {
    keep_pipe: OwnedFd,
    _run_file: OwnedFd,
}

/// Builds the lab, tells the story and gives the exit code.
pub(crate) fn main(order: Order) -> io::Result<u8> {
    let started = Instant::now();
    // Before our own /proc: this one still shows us as the machine does.
    let outside_pid = fs::read_link("/proc/self")?.to_string_lossy().parse().map_err(io::Error::other)?;
    system::die_with_parent(true)?;
    system::end_on_signals(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    // The outer process blocked what it waits for.
    system::block_signals(&[])?;
    let bond = Bond {
        keep_pipe: system::inherited(order.keep_pipe)?,
        _run_file: system::inherited(order.run_file)?,
    };
    system::inherit(bond.keep_pipe.as_fd(), false)?;
    system::inherit(bond._run_file.as_fd(), false)?;
    let api = system::inherited(order.api_listener)?;
    system::inherit(api.as_fd(), false)?;
    system::set_host_name("node")?;
    make_mounts(&order.programs)?;
    let source = Source { name: order.source_name.clone(), text: order.source_text.clone() };
    let (lab, _) = file::read(&source).map_err(|d| io::Error::other(file::render(&d, &source)))?;
    let plan = Plan::new(&lab);
    let cables = cables(&lab, &plan);
    network::build(&cables, order.root)?;
    services::load(&lab, &plan, &cables).map_err(io::Error::other)?;
    network::refuse(&SERVICE_BLOCKS.map(|block| (block.address, block.length)))?;
    let launcher = Launcher::new(order.root);
    let node = Node { order, lab, plan, launcher, outside_pid };
    hosts::write_all(&node)?;
    watch_outer();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(async {
        forward::start(api)?;
        story::tell(node, bond, tokio::time::Instant::from_std(started)).await
    });
    // Threads that wait for something are no reason to stay.
    runtime.shutdown_background();
    code
}

/// Ends the node when the outer process is gone, in case it died before it could be watched by the kernel.
fn watch_outer() {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        // An error is as good an end as the end of the stream.
        let _ = io::stdin().read_to_end(&mut rest);
        if !KEPT.load(std::sync::atomic::Ordering::SeqCst) {
            std::process::exit(1);
        }
    });
}

/// Set once the outer process may go.
static KEPT: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

impl Bond {
    /// Lets the outer process end with this exit code while the node goes on, without a terminal.
    pub(crate) fn release(self, code: u8) -> io::Result<OwnedFd> {
        KEPT.store(true, std::sync::atomic::Ordering::SeqCst);
        system::die_with_parent(false)?;
        system::new_session()?;
        system::silence()?;
        fs::File::from(self.keep_pipe).write_all(&[code])?;
        Ok(self._run_file)
    }
}

fn cables(lab: &LabFile, plan: &Plan) -> Vec<Cable> {
    let pods =
        plan.pods.iter().map(|pod| Cable { place: pod.place.clone(), addresses: pod.addresses().to_vec() });
    let hosts = lab
        .outside
        .iter()
        .map(|host| Cable { place: format!("outside/{}", host.name), addresses: host.addresses.to_vec() });
    pods.chain(hosts).collect()
}

fn make_mounts(programs: &Programs) -> io::Result<()> {
    system::unshare(libc::CLONE_NEWNS)?;
    system::mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "")?;
    system::mount("proc", "/proc", "proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, "")?;
    system::mount("tmpfs", "/run", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=755")?;
    fs::create_dir_all(paths::BIN)?;
    for (name, program) in [
        ("bulkhead", &programs.bulkhead),
        ("bulkhead-proxy", &programs.proxy),
        ("bulkhead-controller", &programs.controller),
    ] {
        let target = Path::new(paths::BIN).join(name);
        fs::write(&target, "")?;
        system::mount(&program.to_string_lossy(), &target.to_string_lossy(), "", libc::MS_BIND, "")?;
    }
    debug_assert!(own_program().exists());
    // The same PATH holds on the node and in pods.
    std::os::unix::fs::symlink(paths::BIN, "/run/bin")?;
    Ok(())
}

/// What `exec` needs to know of the pods.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct PodsFile {
    /// First process and environment by place.
    pub(crate) places: BTreeMap<String, (libc::pid_t, Vec<(String, String)>)>,
}

impl PodsFile {
    /// The place of that name: `namespace/pod-0`, `pod-0`, or `pod` for its first replica.
    pub(crate) fn find(&self, name: &str) -> Result<(libc::pid_t, Vec<(String, String)>), String> {
        let short = |place: &str| place.rsplit('/').next().unwrap_or(place).to_owned();
        let names = |place: &String| {
            place == name
                || short(place) == name
                || *place == format!("{name}-0")
                || short(place) == format!("{name}-0")
        };
        let found: Vec<&String> = self.places.keys().filter(|place| names(place)).collect();
        match found.as_slice() {
            [place] => Ok(self.places[*place].clone()),
            [] => Err(format!("there is no pod `{name}`; there are: {}", list(self.places.keys()))),
            several => Err(format!("`{name}` could be any of: {}", list(several.iter().copied()))),
        }
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

impl Node {
    /// Opens every place, pods and outside hosts.
    pub(crate) fn open_places(&self) -> io::Result<()> {
        for pod in &self.plan.pods {
            self.open_place(&pod.place, &self.lab.pods[pod.spec].program.files)?;
        }
        for host in &self.lab.outside {
            self.open_place(&format!("outside/{}", host.name), &host.program.files)?;
        }
        self.write_pods_file()
    }

    /// Opens one place.
    pub(crate) fn open_place(&self, place: &str, files: &BTreeMap<PathBuf, String>) -> io::Result<()> {
        self.launcher
            .open_place(place, files.iter().map(|(path, text)| (path.clone(), text.clone())).collect())
    }

    /// Tells `exec` where the places are now.
    pub(crate) fn write_pods_file(&self) -> io::Result<()> {
        let mut file = PodsFile::default();
        for (place, pid) in self.launcher.places() {
            let environment = self.environment(&place).into_iter().collect();
            file.places.insert(place, (pid, environment));
        }
        let temporary = format!("{}.new", paths::PODS_FILE);
        fs::write(&temporary, serde_json::to_vec(&file)?)?;
        fs::rename(temporary, paths::PODS_FILE)
    }

    /// Collections, with the one that covers everything where the file names none.
    pub(crate) fn collections(&self) -> &[CollectionSpec] {
        &self.lab.collections
    }

    fn environment(&self, place: &str) -> BTreeMap<String, String> {
        let pod = self.plan.pods.iter().find(|pod| pod.place == place);
        pod.map(|pod| self.lab.pods[pod.spec].program.environment.clone()).unwrap_or_default()
    }
}

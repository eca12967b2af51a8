//! Everything that a lab needs of the machine, named before anything is created.
//!
//! Programs of our own lie beside the running one or in `BULKHEAD_BIN_DIR`; programs of the lab file are looked up
//! in the PATH that pods have. Kernel features are tried in a child process that is thrown away.

use crate::file::LabFile;
use crate::{paths, system};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where our own programs are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Programs {
    pub(crate) bulkhead: PathBuf,
    pub(crate) proxy: PathBuf,
    pub(crate) controller: PathBuf,
}

/// Checks the machine; the error names everything that is missing.
pub(crate) fn check(lab: &LabFile) -> Result<Programs, String> {
    let mut missing = Missing::default();
    let bulkhead = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("bulkhead"));
    let folder = std::env::var_os("BULKHEAD_BIN_DIR").map(PathBuf::from);
    let beside = bulkhead.parent().map(Path::to_owned).unwrap_or_default();
    let mut own = |program: &str, package: &str| {
        let candidates = [folder.as_ref().unwrap_or(&beside), &beside].map(|f| f.join(program));
        candidates.iter().find(|path| is_program(path)).cloned().unwrap_or_else(|| {
            let place = candidates[0].parent().unwrap_or(&beside).display().to_string();
            missing.add(
                format!("the program `{program}` is not in {place}"),
                format!("cargo build --profile lab -p {package}, or set BULKHEAD_BIN_DIR"),
            );
            candidates[0].clone()
        })
    };
    let proxy = own("bulkhead-proxy", "bulkhead-proxy");
    let controller = own("bulkhead-controller", "bulkhead-controller");
    programs_of_pods(lab, &mut missing);
    kernel_features(&mut missing);
    missing.result().map(|()| Programs { bulkhead, proxy, controller })
}

/// What protections a lab of an ordinary user lacks; empty for root.
pub(crate) fn lacking(root: bool) -> &'static [&'static str] {
    if root {
        return &[];
    }
    &[
        "apps, sidecars and controller share one user of the machine: between them stand namespaces only, no file \
         permissions",
        "the supplementary groups of the user cannot be given up",
        "large rule sets are loaded in stages, since a big netlink buffer needs rights on the whole machine",
    ]
}

#[derive(Default)]
struct Missing {
    text: String,
}

impl Missing {
    fn add(&mut self, what: String, remedy: String) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "error: {what}\n  help: {remedy}");
    }

    fn result(self) -> Result<(), String> {
        if self.text.is_empty() {
            return Ok(());
        }
        Err(format!("{}nothing was started", self.text))
    }
}

fn programs_of_pods(lab: &LabFile, missing: &mut Missing) {
    let pods = lab.pods.iter().map(|pod| (pod.full_name(), &pod.program.command));
    let hosts = lab.outside.iter().map(|host| (host.name.clone(), &host.program.command));
    let traffic = lab.traffic.iter().map(|traffic| (traffic.name.clone(), &traffic.command));
    let mut named = BTreeSet::new();
    for (user, command) in pods.chain(hosts).chain(traffic) {
        let Some(program) = command.first() else { continue };
        if program != "bulkhead" && !in_path(program) && named.insert(program.clone()) {
            missing.add(
                format!("the program `{program}`, which `{user}` runs, is not on this machine"),
                remedy(program),
            );
        }
    }
}

/// The Debian package, for the programs that labs of ours use.
fn remedy(program: &str) -> String {
    let package = match program {
        "nginx" => "nginx-light",
        "redis-server" => "redis-server",
        "redis-cli" => "redis-tools",
        "psql" => "postgresql-client",
        "postgres" | "initdb" => "postgresql",
        "python3" | "/usr/bin/python3" => "python3",
        "curl" => "curl",
        _ => return format!("install it where pods look: {}", paths::program_path()),
    };
    format!("apt-get install -y --no-install-recommends {package}")
}

fn in_path(program: &str) -> bool {
    if program.contains('/') {
        return program.starts_with("/tmp/")
            || program.starts_with("/run/")
            || is_program(Path::new(program));
    }
    paths::program_path().split(':').any(|folder| is_program(&Path::new(folder).join(program)))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn kernel_features(missing: &mut Missing) {
    let root = system::effective_uid() == 0;
    for name in ["user", "mnt", "net", "pid", "uts", "ipc"] {
        if !Path::new(&format!("/proc/self/ns/{name}")).exists() {
            missing
                .add(format!("this kernel has no {name} namespaces"), "boot a kernel that has them".into());
        }
    }
    if let Err(error) = try_namespaces(root) {
        let (what, remedy) = if root {
            ("root may not create namespaces here", "run the lab with CAP_SYS_ADMIN and CAP_NET_ADMIN")
        } else {
            (
                "this user may not create user namespaces",
                "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 \
                 kernel.apparmor_restrict_unprivileged_userns=0, or run the lab as root",
            )
        };
        missing.add(format!("{what}: {error}"), remedy.into());
    }
    if !Path::new("/dev/net").exists() && !Path::new("/proc/net/netlink").exists() {
        missing.add("netlink is not there".into(), "mount /proc".into());
    }
}

/// Makes the namespaces in a child that ends at once.
fn try_namespaces(root: bool) -> io::Result<()> {
    let user = if root { 0 } else { libc::CLONE_NEWUSER };
    match system::fork()? {
        system::Fork::Child => {
            let all = user | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWPID | libc::CLONE_NEWUTS;
            let code = match system::unshare(all) {
                Ok(()) => 0,
                Err(error) => error.kind() as i32 & 0x7f,
            };
            std::process::exit(code)
        }
        system::Fork::Parent(pid) => match system::wait_for(pid)?.1 {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, "unshare failed")),
        },
    }
}

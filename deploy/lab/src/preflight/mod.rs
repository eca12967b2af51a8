//! Everything that a lab needs of the machine, named before anything is created.
//!
//! Programs of our own lie beside the running one or in `BULKHEAD_BIN_DIR`; programs of the lab file are looked up
//! in the PATH that pods have. Kernel features are tried in a child process that is thrown away.

mod kernel;

use crate::file::LabFile;
use crate::{paths, system};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
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
    let beside = bulkhead.parent().map(Path::to_owned).unwrap_or_default();
    let folder = std::env::var_os("BULKHEAD_BIN_DIR").map_or(beside, PathBuf::from);
    let mut own = |program: &str, package: &str| {
        let path = folder.join(program);
        if !is_program(&path) {
            missing.add(
                format!("the program `{program}` is not in {}", folder.display()),
                format!("cargo build --locked --profile lab -p {package}, then BULKHEAD_BIN_DIR=target/lab"),
            );
        }
        path
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
    match kernel::missing(system::effective_uid() == 0) {
        Ok(features) => features.into_iter().for_each(|(what, remedy)| missing.add(what, remedy)),
        Err(error) => missing.add(format!("cannot try what the kernel offers: {error}"), "try again".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{SHOP, read};
    use bulkhead_policies::diagnostics::Source;

    fn missing(lab_file: &str) -> String {
        let source = Source { name: "lab.yaml".into(), text: lab_file.into() };
        let (lab, _) = read(&source).expect("a lab file");
        let mut missing = Missing::default();
        programs_of_pods(&lab, &mut missing);
        missing.text
    }

    #[test]
    fn the_shop_needs_no_program_of_the_machine() {
        assert_eq!(missing(SHOP), "");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_its_user_once() {
        let pod = |name: &str| format!("- {{name: {name}, namespace: a, command: [no-such-program]}}");
        let text = missing(&format!("namespaces: [{{name: a}}]\npods:\n{}\n{}\n", pod("one"), pod("two")));
        assert_eq!(text.matches("no-such-program").count(), 1, "{text}");
        assert!(text.contains("`a/one`") && text.contains("/run/bin"), "{text}");
    }

    #[test]
    fn a_known_program_is_named_with_the_command_that_installs_it() {
        assert_eq!(remedy("nginx"), "apt-get install -y --no-install-recommends nginx-light");
        assert!(remedy("psql").ends_with("postgresql-client"));
    }
}

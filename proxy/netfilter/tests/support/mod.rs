//! Network namespaces for tests: each test runs in a process of its own, inside a namespace of its own.
//!
//! [`in_own_network`] starts the test binary again under `unshare`, as root with a new network namespace,
//! otherwise (or with BULKHEAD_TEST_USER_NAMESPACE=1) with a user namespace as well. Where neither can be
//! had, or a program is missing, the test says `skipped:` and why.
#![allow(dead_code, unused_imports, unreachable_pub)]

mod sys;

use std::process::{Command, Stdio};
pub use sys::*;

const USER_NAMESPACE: &str = "BULKHEAD_TEST_USER_NAMESPACE";
const INSIDE: &str = "BULKHEAD_TEST_INSIDE_NAMESPACE";

/// Runs `body` in a new network namespace with its loopback device up; `test` is the test's own name.
pub fn in_own_network(test: &str, programs: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return body();
    }
    let programs = [&["unshare", "ip"], programs].concat();
    if let Some(missing) = programs.iter().find(|program| !exists(program)) {
        return skipped(test, &format!("needs the program `{missing}`"));
    }
    let unshare: &[&str] = if as_root() { &["--net"] } else { &["--user", "--map-root-user", "--net"] };
    if !Command::new("unshare")
        .args(unshare)
        .arg("true")
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
    {
        return skipped(test, "needs root, or a kernel that lets users make user namespaces");
    }
    let binary = std::env::current_exe().expect("path of the test binary");
    let output = Command::new("unshare")
        .args(unshare)
        .arg(binary)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .envs((!as_root()).then_some((USER_NAMESPACE, "1")))
        .output()
        .expect("unshare runs");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed") || !output.status.success(), "no test named `{test}`");
    assert!(output.status.success(), "{text}");
    // What was found to be impossible only inside.
    for line in text.lines().filter(|line| line.starts_with("skipped: ")) {
        say(line);
    }
}

/// Says that a test did not run, past the test harness, which hides what passing tests print.
pub fn skipped(test: &str, why: &str) {
    say(&format!("skipped: {test} {why}"));
}

fn say(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// True if namespaces are made with the rights of the system's root.
pub fn as_root() -> bool {
    is_root() && std::env::var_os(USER_NAMESPACE).is_none()
}

/// Runs `ip` with the words of the text.
pub fn ip(words: &str) {
    run("ip", &words.split_whitespace().collect::<Vec<_>>());
}

/// Runs a program, asserts that it succeeds, and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// True if the program is in the path.
pub fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
        || std::path::Path::new("/usr/sbin").join(program).is_file()
}

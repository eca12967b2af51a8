//! The lab from end to end, as a person runs it: the built programs, real namespaces, real attacks.
//!
//! Needs the binaries (`BULKHEAD_BIN_DIR`, set by `make test`) and root or user namespaces; without them every test
//! here says that it was skipped. One lab at a time: they measure how long things take.

use bulkhead_tests::{root, skip};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Seconds that the story may take from the first process to the last.
const STORY_S_MAX: f64 = 60.0;

/// Seconds from a closed table in every pod to every sidecar enforcing.
const SIDECARS_S_MAX: f64 = 10.0;

/// Kinds of attack that must count in each family.
const KINDS_MIN: u64 = 20;

#[test]
fn the_shop_is_learned_enforced_and_attacked_without_a_leak() {
    let Some(lab) = Lab::new("shop") else { return };
    let document = story(&lab, &[]);
    let span = |name: &str| document["sidecars_s"][name].as_f64().expect("seconds");
    assert!(
        span("closed_to_observing") + span("to_enforcing") < SIDECARS_S_MAX,
        "{}",
        document["sidecars_s"]
    );
    let paths = texts(&document["flows"], |flow| &flow["http"]["path"]);
    assert!(paths.contains(&"/api/products/{id}".to_owned()), "{paths:?}");
    assert!(paths.contains(&"catalog.shop.svc.cluster.local".to_owned()), "{paths:?}");
    asks_for(&document, &["dns:\n", "\"catalog.shop.svc.cluster.local\""]);
    stopped(&document, "dns-tunnel", &["l7_mismatch (SegmentPolicy/shop/learned-reviews"]);
    stopped(&document, "dns-forbidden-type", &["l7_mismatch (SegmentPolicy/shop/learned-reviews"]);
    let kinds = texts(&document["incidents"], |incident| &incident["kind"]);
    for kind in ["sweep", "port_scan", "metadata_access", "l7_probing", "sidecar_tampering", "exfiltration"] {
        assert!(kinds.contains(&kind.to_owned()), "no incident of kind `{kind}`: {kinds:?}");
    }
    let attackers = texts(&document["incidents"], |incident| &incident["attacker"]["name"]);
    assert!(attackers.iter().all(|name| name == "reviews"), "somebody innocent is accused: {attackers:?}");
}

#[test]
fn real_programs_are_learned_enforced_and_attacked_without_a_leak() {
    let Some(lab) = Lab::new("real") else { return };
    let file = root().join("deploy/lab/real.yaml");
    let document = story(&lab, &[&file.display().to_string()]);
    let destinations = texts(&document["flows"], |flow| &flow["destination"]["name"]);
    asks_for(&document, &["{commands: [get, set], keyPrefix: \"page:\", databases: [0]}"]);
    asks_for(&document, &["{users: [postgres], databases: [postgres], statements: [select]}"]);
    asks_for(&document, &["tls: {sni: [\"cardnet\"], min: \"1.2\"}"]);
    for kind in ["redis-forbidden-command", "redis-forbidden-key", "redis-pipelined"] {
        stopped(&document, kind, &["l7_mismatch (SegmentPolicy/data/learned-sessions front.blog-6379)"]);
    }
    for kind in ["postgres-forbidden-class", "postgres-second-statement", "postgres-forbidden-user"] {
        stopped(&document, kind, &["l7_mismatch (SegmentPolicy/data/learned-ledger front.blog-5432)"]);
    }
    stopped(&document, "tls-forbidden-name", &["l7_mismatch (SegmentPolicy/front/learned-blog"]);
    stopped(&document, "tls-no-name", &["l7_mismatch (SegmentPolicy/front/learned-blog"]);
    stopped(&document, "tls-not-spoken", &["protocol_mismatch (SegmentPolicy/front/learned-blog"]);
    for workload in ["web", "stock", "cache", "sessions", "ledger"] {
        assert!(
            destinations.contains(&workload.to_owned()),
            "nothing was seen to `{workload}`: {destinations:?}"
        );
    }
}

#[test]
fn an_ordinary_user_runs_the_shop_with_the_same_result() {
    let Some(mut lab) = Lab::new("user") else { return };
    if !is_root() {
        return skip("the other tests of the lab already run as an ordinary user");
    }
    lab.become_ordinary();
    let document = story(&lab, &[]);
    assert_eq!(document["leaks"], 0);
}

#[test]
fn a_kept_lab_holds_while_controller_and_sidecars_are_killed_and_ends_without_a_trace() {
    let Some(lab) = Lab::new("kept") else { return };
    let output = lab
        .command(&["--once", "--keep"])
        .env("SECRET_OF_THE_STARTER", "s3cr3t")
        .output()
        .expect("the lab starts");
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("https://127.0.0.1:"), "the address of the API is not shown");
    let node = lab.node();
    let environment = lab.exec("reviews", &["cat", "/proc/1/environ", "/proc/self/environ"]);
    assert!(!text(&environment).contains("s3cr3t"), "the environment of the starter is in a pod");
    let verdicts = || {
        let allowed =
            lab.exec("reviews", &["curl", "-sf", "-m", "5", "http://catalog.shop:8080/api/products/7"]);
        let admin =
            lab.exec("reviews", &["curl", "-sf", "-m", "5", "http://catalog.shop:8080/admin/refunds"]);
        let forbidden = lab.exec("reviews", &["curl", "-s", "-m", "5", "http://payments.shop:8080/"]);
        [allowed, admin, forbidden].map(|output| output.status.success())
    };
    assert_eq!(verdicts(), [true, false, false]);

    kill_all(&node.processes("bulkhead-controller"));
    assert_eq!(verdicts(), [true, false, false], "without the controller");

    // By its address: names are asked for through the sidecar.
    let found = lab.exec("orders", &["getent", "ahostsv4", "store.shop"]);
    let address = text(&found).split_whitespace().next().expect("an address").to_owned();
    let store = ["bulkhead", "lab-demo", "client", "--requests=5", "--rate=50", "--wait-seconds=1", "--call"];
    let call = format!("tcp://{address}:5432/orders");
    let store = [&store[..], &[call.as_str()]].concat();
    let sidecars = node.processes("bulkhead-proxy");
    assert_eq!(sidecars.len(), 12, "one sidecar for each pod");
    // The node restarts what ended; it shall not, for a while.
    signal(node.pid, libc::SIGSTOP);
    kill_all(&sidecars);
    assert!(lab.exec("orders", &store).status.success(), "a flow of layer 4 ends with its sidecar");
    assert!(!lab.exec("reviews", &store).status.success(), "a forbidden flow passes while sidecars are dead");
    assert_eq!(verdicts(), [false, false, false], "what has to be inspected passes uninspected");

    signal(node.pid, libc::SIGCONT);
    // Nobody is there to give them a program: they adopt the table and go on with the last good one.
    let patience = Instant::now() + Duration::from_secs(20);
    while verdicts() != [true, false, false] {
        assert!(Instant::now() < patience, "the sidecars did not come back");
    }

    assert_eq!(lab.bulkhead(&["lab", "down", "--name", &lab.name]).status.code(), Some(0));
    node.assert_gone();
    assert!(!lab.run_file().exists(), "the run file is left");
}

#[test]
fn a_lab_whose_first_process_is_killed_vanishes_whole() {
    let Some(lab) = Lab::new("killed") else { return };
    let mut outer = lab.start();
    let node = lab.node();
    node.wait_for("lab-pod");
    outer.kill().expect("it runs");
    outer.wait().expect("it was ours");
    node.assert_gone();
    // What is left is a run file without a lock: `down` removes it, or the next lab of that name takes it over.
    assert!(lab.run_file().exists());
    assert_eq!(lab.bulkhead(&["lab", "down", "--name", &lab.name]).status.code(), Some(0));
    assert!(!lab.run_file().exists(), "the run file is left");
    let mut next = lab.start();
    let node = lab.node();
    signal(next.id(), libc::SIGINT);
    assert_eq!(next.wait().expect("it ends").code(), Some(130));
    node.assert_gone();
    assert!(!lab.run_file().exists(), "the run file is left");
}

#[test]
fn wrong_input_ends_with_code_2_and_starts_nothing() {
    let Some(lab) = Lab::new("wrong") else { return };
    let file = lab.folder.join("lab.yaml");
    let cases: &[(&str, &[&str])] = &[
        ("pods:\n  - {name: a, namespace: nowhere}\n", &["lab.yaml:2:5: error[missing-reference]", "help:"]),
        ("pods: [", &["lab.yaml:", "error["]),
        (
            "namespaces: [{name: a}]\npods: [{name: b, namespace: a, command: [no-such-program]}]\n",
            &["no-such-program", "help:", "nothing was started"],
        ),
    ];
    for (content, words) in cases {
        fs::write(&file, content).expect("a file");
        let output = lab.command(&["--once", &file.display().to_string()]).output().expect("it runs");
        refused(&output, words);
    }
    refused(
        &lab.command(&["/no/such/file.yaml"]).output().expect("it runs"),
        &["/no/such/file.yaml:1:1", "cannot be read"],
    );
    refused(&lab.command(&["--onse"]).output().expect("it runs"), &["--onse", "Usage:"]);
    refused(&lab.bulkhead(&["lab", "--name", "a/b"]), &["`a/b`", "letters, digits"]);
    refused(
        &lab.bulkhead(&["lab", "exec", "--name", &lab.name, "x", "--", "true"]),
        &["no lab", "bulkhead lab"],
    );
    let mut elsewhere = lab.command(&["--once"]);
    elsewhere.env("BULKHEAD_BIN_DIR", "/nowhere");
    refused(&elsewhere.output().expect("it runs"), &["`bulkhead-proxy` is not in /nowhere", "cargo build"]);
    assert!(!lab.run_file().exists(), "something was started");
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let text = text(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(output.stdout.is_empty(), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// Runs the whole story and holds it to its numbers.
#[track_caller]
fn story(lab: &Lab, arguments: &[&str]) -> Value {
    let begun = Instant::now();
    let arguments = [&["--once", "--json"], arguments].concat();
    let output = lab.command(&arguments).output().expect("the lab starts");
    let elapsed_s = begun.elapsed().as_secs_f64();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert!(elapsed_s < STORY_S_MAX, "it took {elapsed_s} s");
    assert!(document["elapsed_s"].as_f64().expect("seconds") <= elapsed_s);
    let number =
        |path: &str| document.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}"));
    assert!(number("/legitimate/sent") > 0 && number("/legitimate/failed") == 0);
    assert_eq!(number("/controls/tried"), number("/controls/arrived"));
    assert_eq!(number("/attacks/tried"), number("/attacks/blocked"));
    assert!(number("/attacks/reported") * 10 >= number("/attacks/blocked") * 9, "a tenth goes unreported");
    assert_eq!(number("/leaks"), 0);
    for family in ["4", "6"] {
        assert!(number(&format!("/attacks/kinds/{family}")) >= KINDS_MIN, "IPv{family}");
    }
    for key in ["flows", "proposals", "policies", "incidents"] {
        assert!(!document[key].as_array().unwrap_or_else(|| panic!("{key}")).is_empty(), "no {key}");
    }
    assert!(document["verdicts"]["denied"].as_u64().is_some_and(|denied| denied > 0));
    document
}

/// A proposal has these words.
#[track_caller]
fn asks_for(document: &Value, words: &[&str]) {
    let documents = texts(&document["proposals"], |proposal| &proposal["document"]);
    let has_all = |text: &String| words.iter().all(|word| text.contains(word));
    assert!(documents.iter().any(has_all), "{words:?} in {}", documents.join("---\n"));
}

/// The kind of attack was made in both families and stopped for this reason, by that rule.
#[track_caller]
fn stopped(document: &Value, kind: &str, by: &[&str]) {
    for family in ["4", "6"] {
        let id = format!("{kind}/{family}");
        let attacks = document["attacks"]["each"].as_array().expect("attacks");
        let attack = attacks.iter().find(|attack| attack["id"] == id.as_str());
        let attack = attack.unwrap_or_else(|| panic!("{id} was not made"));
        let reasons = texts(&attack["stopped_by_one_of"], |reason| reason);
        let told = |word: &&str| reasons.iter().any(|reason| reason.contains(*word));
        assert!(by.iter().all(told), "{id}: {reasons:?}");
    }
}

fn texts(list: &Value, field: impl Fn(&Value) -> &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| field(item).as_str().map(ToOwned::to_owned))
        .collect()
}

fn text(output: &Output) -> String {
    let rest = String::from_utf8_lossy(&output.stderr);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), rest)
}

/// A lab of one test.
struct Lab {
    programs: PathBuf,
    folder: PathBuf,
    name: String,
    ordinary: bool,
    _alone: MutexGuard<'static, ()>,
}

/// An ordinary user.
const UID: u32 = 65_530;

impl Lab {
    /// `None`, said aloud, where labs cannot run.
    fn new(name: &str) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(programs) = std::env::var_os("BULKHEAD_BIN_DIR").map(PathBuf::from) else {
            skip("the lab: BULKHEAD_BIN_DIR does not say where the programs are; run `make test`");
            return None;
        };
        let programs = fs::canonicalize(programs).expect("BULKHEAD_BIN_DIR is a folder");
        if !is_root() && !Command::new("unshare").arg("-Urn").arg("true").status().is_ok_and(|s| s.success())
        {
            skip("the lab: neither root nor user namespaces");
            return None;
        }
        let name = format!("{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("bulkhead-test-{name}"));
        fs::create_dir(&folder).expect("a folder of our own");
        Some(Self { programs, folder, name, ordinary: false, _alone: alone })
    }

    /// From now on the lab is run by somebody who is not root, with copies that everybody may read.
    fn become_ordinary(&mut self) {
        for program in ["bulkhead", "bulkhead-proxy", "bulkhead-controller"] {
            let copy = self.folder.join(program);
            fs::copy(self.programs.join(program), &copy).expect("a copy");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("readable");
        }
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755)).expect("readable");
        self.programs.clone_from(&self.folder);
        self.ordinary = true;
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("bulkhead"));
        command.arg("lab").args(["--name", &self.name]).args(arguments);
        command.env("BULKHEAD_BIN_DIR", &self.programs).stdin(Stdio::null());
        if self.ordinary {
            command.uid(UID).gid(UID).env_remove("XDG_RUNTIME_DIR").env("HOME", "/");
        }
        command
    }

    fn start(&self) -> Child {
        self.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the lab starts")
    }

    fn bulkhead(&self, arguments: &[&str]) -> Output {
        Command::new(self.programs.join("bulkhead")).args(arguments).output().expect("it runs")
    }

    fn exec(&self, pod: &str, command: &[&str]) -> Output {
        self.bulkhead(&[&["lab", "exec", "--name", &self.name, pod, "--"], command].concat())
    }

    fn run_file(&self) -> PathBuf {
        let folder = match std::env::var_os("XDG_RUNTIME_DIR").filter(|v| Path::new(v).is_dir()) {
            _ if is_root() => PathBuf::from("/run/bulkhead-lab"),
            Some(folder) => Path::new(&folder).join("bulkhead-lab"),
            None => std::env::temp_dir().join(format!("bulkhead-lab-{}", own_uid())),
        };
        folder.join(format!("{}.json", self.name))
    }

    /// The node, once it is there.
    fn node(&self) -> Node {
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            let text = fs::read_to_string(self.run_file()).unwrap_or_default();
            let pid = serde_json::from_str::<Value>(&text).ok().and_then(|file| file["pid"].as_u64());
            if let Some(namespace) = pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/ns/pid")).ok()) {
                let pid = pid.and_then(|pid| u32::try_from(pid).ok()).expect("a process number");
                return Node { pid, namespace };
            }
            assert!(Instant::now() < patience, "the node did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test that failed half-way leaves its lab; one that ended it gets an error, as it should.
        let _ = self.bulkhead(&["lab", "down", "--name", &self.name]);
        // Only ever below the folder for temporary files, with our own name.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A lab's node and its PID namespace.
struct Node {
    pid: u32,
    namespace: PathBuf,
}

impl Node {
    /// Processes of the node whose command line holds the word. Those in pods have PID namespaces of their own.
    fn processes(&self, word: &str) -> Vec<u32> {
        processes().filter(|pid| self.holds(*pid) && command_line(*pid).contains(word)).collect()
    }

    fn holds(&self, pid: u32) -> bool {
        fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|namespace| namespace == self.namespace)
    }

    fn wait_for(&self, word: &str) {
        let patience = Instant::now() + Duration::from_secs(10);
        while !processes().any(|pid| command_line(pid).contains(word)) {
            assert!(Instant::now() < patience, "no `{word}` was started");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Every process goes with the first; so do namespaces, which nothing else holds.
    #[track_caller]
    fn assert_gone(&self) {
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            let left: Vec<u32> = processes().filter(|pid| self.holds(*pid)).collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < patience, "still there: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn kill_all(pids: &[u32]) {
    assert!(!pids.is_empty(), "nothing to kill");
    pids.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
}

fn signal(pid: u32, signal: i32) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(status.is_ok_and(|status| status.success()), "no signal to {pid}");
}

fn is_root() -> bool {
    own_uid() == 0
}

fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").expect("/proc").uid()
}

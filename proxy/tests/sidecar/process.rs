//! The real binary, started in the test's own network.

use bulkhead_policies::program::Program;
use bulkhead_proxy::control::last_good::LastGood;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where its controller would be: nobody listens there.
const CONTROLLER: &str = "10.0.0.9:9443";
const PATIENCE: Duration = Duration::from_secs(20);

/// A place for a sidecar: its directory, and the process while there is one.
pub(crate) struct Sidecar {
    folder: PathBuf,
    child: Option<Child>,
    flags: &'static [&'static str],
    run_flags: &'static [&'static str],
    may_enforce: bool,
}

impl Sidecar {
    /// With a closed table, as `init` leaves it, and nothing that runs.
    pub(crate) fn initialised(test: &str) -> Self {
        Self::prepared(test, &[], true).with_table()
    }

    /// With a closed table that was loaded with more flags, which `run` gets too.
    pub(crate) fn initialised_with(test: &str, flags: &'static [&'static str]) -> Self {
        Self::prepared(test, flags, true).with_table()
    }

    /// Without CAP_NET_ADMIN and without a table.
    pub(crate) fn powerless(test: &str, flags: &'static [&'static str]) -> Self {
        Self::prepared(test, flags, false)
    }

    fn prepared(test: &str, flags: &'static [&'static str], may_enforce: bool) -> Self {
        let folder = std::env::temp_dir().join(format!("bulkhead-sidecar-{test}-{}", std::process::id()));
        fs::create_dir_all(folder.join("state")).expect("a folder");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        fs::write(folder.join("ca.pem"), authority.self_signed(&key).expect("sign").pem()).expect("write");
        Self { folder, child: None, flags, run_flags: &[], may_enforce }
    }

    fn with_table(self) -> Self {
        let status = self.init();
        assert!(status.success(), "init: {status}");
        self
    }

    /// Runs `init` to its end.
    pub(crate) fn init(&self) -> ExitStatus {
        self.command("init").status().expect("init runs")
    }

    /// Leaves a program in its directory, as a sidecar before would have.
    pub(crate) fn with_last_good(self, program: &Program) -> Self {
        LastGood::within(&self.state()).write(program).expect("write");
        self
    }

    /// With more flags for `run` alone.
    #[allow(dead_code, reason = "shared with other tests")]
    pub(crate) fn running_with(mut self, run_flags: &'static [&'static str]) -> Self {
        self.run_flags = run_flags;
        self
    }

    /// Its private directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Starts it and returns at once.
    pub(crate) fn start(&mut self) {
        let mut command = self.command("run");
        command.arg("--state").arg(self.state());
        command.arg("--controller-ca").arg(self.folder.join("ca.pem"));
        command.args(["--drain-seconds", "10"]).args(self.run_flags);
        self.child = Some(command.spawn().expect("run starts"));
    }

    /// Starts it and waits until it is ready. Returns how long that took.
    pub(crate) fn start_until_ready(&mut self) -> Duration {
        let started = Instant::now();
        self.start();
        self.wait_for("/readyz", |answer| answer.starts_with("HTTP/1.1 200"));
        started.elapsed()
    }

    /// Asks its administrative port until the answer is as wanted.
    pub(crate) fn wait_for(&mut self, path: &str, wanted: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let answer = self.ask(path);
            if answer.as_deref().is_some_and(&wanted) {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("wait"));
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "{ended:?} {answer:?}");
            sleep(Duration::from_millis(2));
        }
    }

    /// What its administrative port answers; `None` while it does not.
    pub(crate) fn ask(&self, path: &str) -> Option<String> {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 15020));
        let mut stream = TcpStream::connect_timeout(&admin, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// As `kill -9`: no drain, no farewell.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("runs");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// Asks it to end, as a kubelet does.
    pub(crate) fn terminate(&self) {
        let id = self.child.as_ref().expect("runs").id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        assert!(status.success(), "kill: {status}");
    }

    /// How it ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.take().expect("runs").wait().expect("wait")
    }

    /// Resident memory in KiB, pages of the binary included.
    pub(crate) fn memory_kib(&self) -> u64 {
        let id = self.child.as_ref().expect("runs").id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    fn command(&self, action: &str) -> Command {
        let mut command = match self.may_enforce {
            true => Command::new(binary()),
            false => {
                let mut command = Command::new("setpriv");
                command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"]).arg(binary());
                command
            }
        };
        command.args([
            action,
            "--controller",
            CONTROLLER,
            "--pod-addresses",
            "10.0.0.7,fd00::7",
            "--log",
            "warn",
        ]);
        command.args(self.flags).stdin(Stdio::null());
        command
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The binary as users run it where the caller has built one, else that of the test's own profile.
fn binary() -> PathBuf {
    as_users_run_it().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_bulkhead-proxy")))
}

/// The binary of the profile that users run, if `BULKHEAD_BIN_DIR` names its folder.
pub(crate) fn as_users_run_it() -> Option<PathBuf> {
    let folder = std::env::var_os("BULKHEAD_BIN_DIR")?;
    Some(PathBuf::from(folder).join("bulkhead-proxy")).filter(|binary| binary.is_file())
}

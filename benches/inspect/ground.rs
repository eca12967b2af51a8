//! One network namespace for clients and one pod for each contender, joined by veth pairs.
//!
//! Everything runs by way of `nsenter` and `taskset`, which replace themselves by the program, so that a child's process
//! identifier is the program's own. Namespaces and children go when [`Ground`] and [`Running`] are dropped.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Begins the names of namespaces; then the process and the place.
const PREFIX: &str = "bulkhead-bench";

/// Where requests come from, and one place per contender.
pub(crate) struct Ground {
    prefix: String,
    pods: usize,
}

/// A program that ends with this.
pub(crate) struct Running(Child);

impl Ground {
    /// Makes the namespaces. Needs root.
    ///
    /// # Errors
    /// If the machine lets us make none.
    pub(crate) fn new(pods: usize) -> Result<Self> {
        remove_stale();
        let ground = Self { prefix: format!("{PREFIX}{}-", std::process::id()), pods };
        let client = ground.client();
        run(Command::new("ip").args(["netns", "add", &client]))
            .context("namespaces need root and iproute2")?;
        ground.prepare(&client)?;
        for at in 0..pods {
            ground.add_pod(at)?;
        }
        Ok(ground)
    }

    /// The name of the clients' namespace.
    pub(crate) fn client(&self) -> String {
        format!("{}c", self.prefix)
    }

    /// The name of a pod's namespace.
    pub(crate) fn pod(&self, at: usize) -> String {
        format!("{}p{at}", self.prefix)
    }

    fn add_pod(&self, at: usize) -> Result<()> {
        let (client, pod, link) = (self.client(), self.pod(at), format!("pod{at}"));
        run(Command::new("ip").args(["netns", "add", &pod]))?;
        let veth =
            ["-n", &client, "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pod];
        run(Command::new("ip").args(veth))?;
        for (space, device, address) in
            [(&client, link.as_str(), client_address(at)), (&pod, "eth0", pod_address(at))]
        {
            let address = format!("{address}/24");
            run(Command::new("ip").args(["-n", space, "address", "add", &address, "dev", device]))?;
            run(Command::new("ip").args(["-n", space, "link", "set", device, "up"]))?;
        }
        for more in more_client_addresses(at) {
            let address = format!("{more}/24");
            run(Command::new("ip").args(["-n", &client, "address", "add", &address, "dev", &link]))?;
        }
        self.prepare(&pod)
    }

    /// Lets the clients of a pod take turns with their addresses: no peer may hold too many connections.
    ///
    /// # Errors
    /// If `nft` refuses.
    pub(crate) fn spread_clients(&self, at: usize) -> Result<()> {
        let [a, b, c, d] = more_client_addresses(at);
        let rules = format!(
            "table ip spread{at} {{\n  chain sources {{\n    type nat hook postrouting priority srcnat\n    \
             oifname pod{at} snat to numgen inc mod 4 map {{ 0 : {a}, 1 : {b}, 2 : {c}, 3 : {d} }}\n  }}\n}}\n"
        );
        load(&self.client(), &rules)
    }

    /// Loopback, and room for many short connections.
    fn prepare(&self, space: &str) -> Result<()> {
        run(Command::new("ip").args(["-n", space, "link", "set", "lo", "up"]))?;
        let settings = "set -e; echo '1024 65000' >/proc/sys/net/ipv4/ip_local_port_range; \
                        echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse; echo 4096 >/proc/sys/net/core/somaxconn";
        run(within(space, None, "sh").args(["-c", settings]))?;
        run(within(space, None, "sh").args(["-c", &without_pacing()]))
    }

    /// Loads rules of nf_tables in a pod.
    ///
    /// # Errors
    /// If `nft` refuses them.
    pub(crate) fn load_rules(&self, at: usize, rules: &str) -> Result<()> {
        load(&self.pod(at), rules)
    }
}

/// Nothing is lost between the namespaces, so how senders react to loss does not matter; but a machine's `bbr` paces them by
/// timers, and most nodes have none. A machine may allow only some.
fn without_pacing() -> String {
    const FILE: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
    format!("(echo cubic >{FILE} || echo reno >{FILE}) 2>/dev/null")
}

fn load(space: &str, rules: &str) -> Result<()> {
    let mut child = within(space, None, "nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("a pipe")?.write_all(rules.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { bail!("nft: {status}") }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for space in (0..self.pods).map(|at| self.pod(at)).chain([self.client()]) {
            let _ = Command::new("ip").args(["netns", "delete", &space]).stderr(Stdio::null()).status();
        }
    }
}

/// Ends what runs of this benchmark that were killed have left behind.
fn remove_stale() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let Some((process, _)) = rest.split_once('-') else { continue };
        if process.parse::<u32>().is_err() || Path::new("/proc").join(process).exists() {
            continue;
        }
        if let Ok(inside) = Command::new("ip").args(["netns", "pids", &name]).output() {
            let processes = String::from_utf8_lossy(&inside.stdout).into_owned();
            let _ = Command::new("kill").args(processes.split_whitespace()).stderr(Stdio::null()).status();
        }
        let _ = Command::new("ip").args(["netns", "delete", &name]).stderr(Stdio::null()).status();
    }
}

/// The address of a pod.
pub(crate) fn pod_address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(at).unwrap_or(u8::MAX), 2)
}

/// The address that a pod's clients have.
pub(crate) fn client_address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, u8::try_from(at).unwrap_or(u8::MAX), 1)
}

/// Further addresses of them.
pub(crate) fn more_client_addresses(at: usize) -> [Ipv4Addr; 4] {
    [11, 12, 13, 14].map(|last| Ipv4Addr::new(10, 77, u8::try_from(at).unwrap_or(u8::MAX), last))
}

/// A program in a namespace, on one core if one is named.
pub(crate) fn within(space: &str, core: Option<usize>, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{space}"));
    if let Some(core) = core {
        command.args(["taskset", "-c", &core.to_string()]);
    }
    command.arg(program.as_ref()).stdin(Stdio::null());
    command
}

/// Runs to the end.
///
/// # Errors
/// If it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
}

impl Running {
    /// Starts a program.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command.spawn().map(Self).with_context(|| format!("{command:?} cannot be started"))
    }

    /// Its process identifier.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it prints, where that was asked for. Once.
    ///
    /// # Errors
    /// If it was not asked for.
    pub(crate) fn output(&mut self) -> Result<ChildStdout> {
        self.0.stdout.take().context("a pipe")
    }

    /// Moves it and all of its threads to a core.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn move_to(&self, core: usize) -> Result<()> {
        run(Command::new("taskset").args(["-a", "-c", "-p", &core.to_string(), &self.id().to_string()]))
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// Names the status.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("ended too early: {status}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

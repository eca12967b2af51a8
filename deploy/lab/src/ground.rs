//! The ground that attacks are made on: which places there are, and how to run something in one.
//!
//! This is all that the attack runner knows of a running lab. It never asks the controller or a sidecar: what
//! arrived is said by canaries, and what was blocked and reported is compared elsewhere (`story`).
//!
//! Contract with `attack`, `canary` and `demo`:
//! * `attack::run(&Ground, Phase, &mut dyn FnMut(&str)) -> Result<Vec<Outcome>, _>` (async) makes every attack of
//!   the catalogue once in each family and says for each whether its canary saw it ([`Outcome`]). Phase
//!   `Control` has no firewall at all, phase `Enforced` has every sidecar. The last argument shows progress.
//! * It starts `bulkhead lab-attack …` in a compromised pod with `Ground::run(place, privilege, command, timeout)`
//!   (async, gives exit status and output) and `bulkhead lab-canary …` with `Ground::watch(place, command)`
//!   (gives a `Watch` with `async fn next_line`, dropped = killed) in every place that can be a target. A canary
//!   runs in the place's network namespace as root of the node, in the node's mount namespace.
//!   `bulkhead lab-demo …` is what the lab file's pods name as their command; programs of ours are in the PATH
//!   of every pod (`/run/bin`). All three are reached through `internal::dispatch`.

use crate::launch::{Finished, Launcher};
use crate::paths;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A running lab as an attacker's helper sees it.
#[derive(Debug)]
pub struct Ground {
    /// Names of the places where attacks start, as in [`Place::name`].
    pub compromised: Vec<String>,
    /// Every pod, outside host, and the node.
    pub places: Vec<Place>,
    /// Services with their cluster addresses.
    pub services: Vec<ServicePlace>,
    /// What the lab file says is worth attacking.
    pub prizes: Prizes,
    pub(crate) launcher: Launcher,
}

impl Ground {
    /// Runs a program in a pod to its end, killed at `timeout`: what an attacker in the pod could start.
    pub async fn run(
        &self,
        place: &str,
        privilege: Privilege,
        command: &[String],
        timeout: Duration,
    ) -> io::Result<Finished> {
        self.launcher.run(place, privilege, command, timeout).await
    }

    /// Starts a program in a place's network namespace as root of the node, and gives the lines that it writes.
    pub fn watch(&self, place: &str, command: &[String]) -> io::Result<Watch> {
        let mut beside = match self.places.iter().find(|p| p.name == place) {
            Some(Place { kind: PlaceKind::Node, .. }) => on_node(command)?,
            _ => self.launcher.beside(place, None, command)?,
        };
        let mut child = beside.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        Ok(Watch { lines: BufReader::new(stdout).lines(), child })
    }

    /// The place of that name.
    pub fn place(&self, name: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.name == name)
    }
}

fn on_node(command: &[String]) -> io::Result<Command> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program"))?;
    let mut on_node = Command::new(program);
    on_node
        .args(arguments)
        .env("PATH", paths::program_path())
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    Ok(on_node)
}

/// A program that is watched. Dropping it kills the program.
#[derive(Debug)]
pub struct Watch {
    lines: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Watch {
    /// The next line, `None` once the program closed its output. Can be cancelled without losing a line.
    pub async fn next_line(&mut self) -> io::Result<Option<String>> {
        self.lines.next_line().await
    }

    /// Kills the program and waits until it is gone.
    pub async fn stop(mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

/// Where something runs that has addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `namespace/pod`, `outside/host`, or `node`.
    pub name: String,
    /// What kind of place.
    pub kind: PlaceKind,
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
    /// Ports that its own program listens on, as the lab file declares them.
    pub ports: Vec<u16>,
    /// What its programs write, standard output and error together.
    pub log: PathBuf,
}

/// What kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceKind {
    /// A pod with a sidecar (in phase `Enforced`).
    Pod,
    /// A host outside the cluster, without a sidecar.
    Outside,
    /// The node itself, where the controller listens.
    Node,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlace {
    /// `namespace/name`.
    pub name: String,
    /// Cluster address.
    pub v4: Ipv4Addr,
    /// Cluster address.
    pub v6: Ipv6Addr,
    /// TCP ports on the cluster address with the port of the pods behind it.
    pub ports: Vec<(u16, u16)>,
    /// UDP ports, likewise.
    pub datagram_ports: Vec<(u16, u16)>,
    /// Names of the places behind it.
    pub endpoints: Vec<String>,
}

/// What the lab file's section `prizes` names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prizes {
    /// A Service that the compromised pod may talk to.
    pub allowed_service: String,
    /// A path there that it may ask for with GET.
    pub allowed_path: String,
    /// A path there that it may not ask for.
    pub admin_path: String,
    /// A Service that it may not talk to.
    pub forbidden_service: String,
    /// The pod that holds the data.
    pub database: String,
    /// A Service that speaks Redis, and how keys begin that the compromised pod may read.
    pub redis: (String, String),
    /// A Service that speaks PostgreSQL, the user and the database that the compromised pod may be.
    pub postgres: (String, String, String),
    /// A host outside to which the compromised pod may speak TLS under its name.
    pub tls: String,
}

/// Whether the firewall stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No sidecar anywhere: every attack must arrive, or it proves nothing.
    Control,
    /// Every pod enforces.
    Enforced,
}

/// As whom a program runs in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Privilege {
    /// As the app: no capability, no new privileges, its own user, PID and mount namespace.
    App,
    /// As the app with CAP_NET_RAW in the pod's network namespace, as container runtimes grant by default.
    NetRaw,
}

/// What became of one attack in one phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The same in both phases: kind and family, for example `port-scan/6`.
    pub id: String,
    /// Kind, for example `port-scan`.
    pub kind: String,
    /// 4 or 6.
    pub family: u8,
    /// Place where it starts.
    pub attacker: String,
    /// Place that it aims at.
    pub target: String,
    /// What was tried, for a person: `POST /admin/refunds on shop/payments`.
    pub tried: String,
    /// Where its packets go: what a report of the block must name. `None` where no address is fixed.
    pub destination: Option<IpAddr>,
    /// Protocol number on the wire (6, 17, 1, 58, …).
    pub protocol: u8,
    /// Destination ports that were tried; empty where the protocol has none.
    pub ports: Vec<u16>,
    /// What the canaries saw of it: one line for each arrival, none if nothing arrived.
    pub arrivals: Vec<String>,
    /// What kept the attack from being made at all, if anything did: it then counts in no column.
    pub not_made: Option<String>,
}

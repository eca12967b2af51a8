//! The lab file: what a person writes, checked whole before anything is created.
//!
//! [`read`] turns YAML into a [`LabFile`] or into diagnostics with file, line and column ([`reader`] takes fields,
//! [`check`] compares them with each other). Nothing here knows how a lab is built; addresses are given by
//! [`crate::addresses`].

mod check;
mod policies;
mod reader;
#[cfg(test)]
mod tests;

use bulkhead_facts::L4Protocol;
use bulkhead_policies::diagnostics::{Diagnostic, Source};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

pub use reader::read;

/// The shop that is used when no file is named.
pub const SHOP: &str = include_str!("../../shop.yaml");

/// A checked lab file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabFile {
    /// Namespaces by name, with their labels.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Pods as written: one entry stands for all its replicas.
    pub pods: Vec<PodSpec>,
    /// Services.
    pub services: Vec<ServiceSpec>,
    /// Hosts outside the cluster: no sidecar, unknown to the controller.
    pub outside: Vec<HostSpec>,
    /// Legitimate traffic.
    pub traffic: Vec<TrafficSpec>,
    /// Pods (`namespace/name`, all replicas) that the attacker has. Known to the lab only.
    pub compromised: Vec<String>,
    /// What is worth attacking.
    pub prizes: PrizesSpec,
    /// Collections, each in the mode that the story is at.
    pub collections: Vec<CollectionSpec>,
    /// Policy documents that the controller starts with, as text.
    pub policies: String,
}

/// What is learned and enforced together. None in the file: one that covers every namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionSpec {
    /// Name.
    pub name: String,
    /// Labels of the namespaces that it covers.
    pub namespaces: BTreeMap<String, String>,
    /// Who may approve, as `user:NAME` or `group:NAME`.
    pub owners: Vec<String>,
    /// The built-in rules that hold, by name; `None`: all.
    pub infrastructure: Option<Vec<String>>,
}

/// A pod, or several equal ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Name of the workload; its pods are `name-0`, `name-1`, …
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Service account.
    pub service_account: String,
    /// How many.
    pub replicas: usize,
    /// Declared ports.
    pub ports: Vec<PortSpec>,
    /// What runs in it.
    pub program: ProgramSpec,
    /// TCP port that answers when the program is ready, and that the node probes.
    pub ready: Option<u16>,
}

/// A host outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpec {
    /// Name.
    pub name: String,
    /// One IPv4 and one IPv6 address.
    pub addresses: [IpAddr; 2],
    /// Ports that its program listens on.
    pub ports: Vec<PortSpec>,
    /// What runs on it; an empty command for a host that only has an address.
    pub program: ProgramSpec,
}

/// What runs in a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramSpec {
    /// Program and arguments; empty: nothing.
    pub command: Vec<String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// Files that it finds, below `/tmp` or `/run`, with their text.
    pub files: BTreeMap<PathBuf, String>,
}

/// A port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Name; empty if none was given.
    pub name: String,
    /// Number.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: L4Protocol,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Labels that its pods have.
    pub selector: BTreeMap<String, String>,
    /// Port on the Service's address, port of the pods, protocol.
    pub ports: Vec<ServicePortSpec>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortSpec {
    /// Name; empty if none was given.
    pub name: String,
    /// Port on the Service's address.
    pub port: u16,
    /// Port of the pods.
    pub target: u16,
    /// TCP, UDP or SCTP.
    pub protocol: L4Protocol,
}

/// Legitimate traffic: a command that is run in a pod and must succeed.
///
/// It counts as one request that failed if its exit code is not zero or its output lacks `expect`; a program
/// that ends with a JSON line holding `sent` and `failed` counts as that many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficSpec {
    /// Name, for people.
    pub name: String,
    /// Workload in which it runs, in each of its pods.
    pub from: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Text that its output must contain.
    pub expect: String,
    /// How often it is run in each phase.
    pub repeat: usize,
}

/// What is worth attacking, each with its place in the file already checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrizesSpec {
    /// A Service that the compromised pod may talk to.
    pub allowed_service: String,
    /// A path there that it may ask for with GET.
    pub allowed_path: String,
    /// A path there that it may not ask for.
    pub admin_path: String,
    /// A Service that it may not talk to.
    pub forbidden_service: String,
    /// The workload that holds the data.
    pub database: String,
    /// A Service that speaks Redis, of which the compromised pod may read keys that begin with `redis_keys`; empty: none.
    pub redis: String,
    /// See [`redis`](Self::redis).
    pub redis_keys: String,
    /// A Service that speaks PostgreSQL, of which the compromised pod may read `postgres_database` as `postgres_user`; empty:
    /// none.
    pub postgres: String,
    /// See [`postgres`](Self::postgres).
    pub postgres_user: String,
    /// See [`postgres`](Self::postgres).
    pub postgres_database: String,
    /// A host outside to which the compromised pod may speak TLS under its name; empty: none.
    pub tls: String,
}

/// Prints diagnostics for a terminal.
pub fn render(diagnostics: &[Diagnostic], source: &Source) -> String {
    let sources = [source.clone()];
    diagnostics.iter().map(|d| format!("{d}\n{}", excerpt(d, &sources))).collect()
}

/// The source line with its caret, without the head that [`Diagnostic`]'s own text already has.
fn excerpt(diagnostic: &Diagnostic, sources: &[Source]) -> String {
    diagnostic.render(sources).lines().filter(|l| l.contains(" | ") || l.ends_with(" |")).fold(
        String::new(),
        |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        },
    )
}

impl PodSpec {
    /// `namespace/name` of the workload.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Names of its pods, `name-0` and on.
    pub fn pod_names(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.replicas).map(|replica| format!("{}-{replica}", self.name))
    }
}

impl ServiceSpec {
    /// Its ports of one protocol: on its own address, and of the pods.
    pub fn ports_of(&self, protocol: L4Protocol) -> Vec<(u16, u16)> {
        let ports = self.ports.iter().filter(|port| port.protocol == protocol);
        ports.map(|port| (port.port, port.target)).collect()
    }

    /// True if a pod is behind it.
    pub fn selects(&self, pod: &PodSpec) -> bool {
        pod.namespace == self.namespace && self.selector.iter().all(|(k, v)| pod.labels.get(k) == Some(v))
    }
}

//! What a change of policies changes: in verdicts, not in text.
//!
//! Old and new programs of every pod are laid over each other, box by box and address by address; where requests decide,
//! one request of every kind that a rule tells apart is asked of both ([`crate::space`]). So nothing is sampled, and an empty
//! [`Difference`] means that nothing changes. Widened access comes first, by risk.

mod extent;
mod flows;
mod rank;

pub use extent::{Extent, Said};

use crate::inventory::{Inventory, ObjectName};
use crate::questions::{RequestQuestion, Version};
use crate::space::{Block, Programs, ProtocolRange};
use bulkhead_facts::{Direction, HostName, L4Protocol, PortRange, WorkloadRef};
use std::net::IpAddr;

/// Everything that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Widened first, then by risk.
    pub changes: Vec<Change>,
    /// Flows that are cut when the new policies take force.
    pub resets: Vec<Reset>,
}

impl Difference {
    /// True if something is allowed that was not, or cannot be ruled out to be.
    pub fn widens(&self) -> bool {
        self.changes.iter().any(|change| change.kind == ChangeKind::Widened)
    }
}

/// Which way access changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Denied before, allowed now.
    Widened,
    /// Allowed before, denied now.
    Narrowed,
}

impl ChangeKind {
    /// `widened` or `narrowed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Widened => "widened",
            Self::Narrowed => "narrowed",
        }
    }
}

/// One edge that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which way.
    pub kind: ChangeKind,
    /// Who opens the flows.
    pub from: Side,
    /// Who receives them.
    pub to: Side,
    /// On which protocols.
    pub protocols: ProtocolRange,
    /// On which ports; those of the Service where `to` is one.
    pub ports: PortRange,
    /// What of the traffic.
    pub extent: Extent,
    /// What the old policies say of the example.
    pub before: Said,
    /// What the new ones say.
    pub after: Said,
    /// Pairs of pods, or pods, that it concerns.
    pub flows: usize,
    /// 0 to 100.
    pub risk: u8,
    /// One flow that changes.
    pub example: Example,
}

/// One end of changed edges.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// All or some pods of a workload.
    Workload(WorkloadRef),
    /// A Service.
    Service(ObjectName),
    /// Addresses that no pod and no Service holds.
    Outside(Vec<Block>),
    /// Addresses outside that a name leads to: one name for each kind that rules tell apart.
    Name(HostName),
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Who opens it, if a pod.
    pub from: Option<ObjectName>,
    /// Its address.
    pub source: IpAddr,
    /// Who receives it, if a pod.
    pub to: Option<ObjectName>,
    /// Its address.
    pub destination: IpAddr,
    /// Address and port of the Service that is dialled.
    pub dialled: Option<(IpAddr, u16)>,
    /// The name that leads to the destination.
    pub name: Option<HostName>,
    /// Protocol.
    pub protocol: L4Protocol,
    /// The destination's port.
    pub port: u16,
    /// The request; `None` for bytes that nobody can read.
    pub request: Option<RequestQuestion>,
}

/// A port that the kernel admitted alone and that is inspected now: flows from before are reset (`tier_changed`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reset {
    /// Whose sidecar cuts them.
    pub workload: WorkloadRef,
    /// On which side of it.
    pub direction: Direction,
    /// The other end.
    pub peer: Side,
    /// Protocols.
    pub protocols: ProtocolRange,
    /// Ports.
    pub ports: PortRange,
}

/// Compares what two sets of programs of one inventory say of every flow, each in one of its two answers.
pub fn diff(old: &Programs, new: &Programs, inventory: &Inventory, versions: [Version; 2]) -> Difference {
    let mut found = flows::Walk::new(old, new, inventory, versions).everything();
    for change in &mut found.changes {
        change.risk = rank::risk(change);
    }
    found.changes.sort_by_cached_key(rank::order);
    found.resets.sort();
    found.resets.dedup();
    found
}

#[cfg(test)]
mod tests;

//! Incidents: denials grouped by who tried and why it matters.

use super::flows::{HttpSummary, Party, RuleSummary, Side};
use super::requests::RequestSummary;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/incidents`: one incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Stable identifier: the same attacker and kind keep it.
    pub id: String,
    /// What it looks like.
    pub kind: IncidentKind,
    /// One sentence for a person.
    pub title: String,
    /// Who did it.
    pub attacker: Party,
    /// Pods of the attacker's workload that did it.
    pub attacker_pods: Vec<String>,
    /// Whom it was tried on.
    pub targets: Vec<Party>,
    /// Targets that are not listed, for want of room.
    pub targets_more: usize,
    /// What was tried, most frequent first.
    pub attempts: Vec<Attempt>,
    /// Attempts that are not listed, for want of room.
    pub attempts_more: usize,
    /// True if everything was stopped; false if only audited policies would have.
    pub blocked: bool,
    /// Packets, connections or requests in all.
    pub count: u64,
    /// First time.
    pub first_seen_ms: u64,
    /// Last time.
    pub last_seen_ms: u64,
    /// ATT&CK technique, for example `T1046`.
    pub technique: String,
    /// Its name.
    pub technique_name: String,
    /// What the attacker's workload can reach as things stand.
    pub blast_radius: Vec<Reach>,
    /// The smallest policy change that would allow it, if it is simple; read before use.
    pub smallest_change: Option<String>,
}

/// What an incident looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// A sidecar's own ports were addressed, or its kernel table was changed.
    SidecarTampering,
    /// An instance metadata address was asked for.
    MetadataAccess,
    /// Many ports of one target.
    PortScan,
    /// Many targets.
    Sweep,
    /// Requests that an allowed connection may not make.
    L7Probing,
    /// Addresses outside the cluster.
    Exfiltration,
    /// Another workload that no rule allows.
    LateralMovement,
    /// An edge that passed and was never seen before a policy was approved.
    NewEdge,
    /// More different things than there is room to list.
    Flood,
}

impl IncidentKind {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SidecarTampering => "sidecar_tampering",
            Self::MetadataAccess => "metadata_access",
            Self::PortScan => "port_scan",
            Self::Sweep => "sweep",
            Self::L7Probing => "l7_probing",
            Self::Exfiltration => "exfiltration",
            Self::LateralMovement => "lateral_movement",
            Self::NewEdge => "new_edge",
            Self::Flood => "flood",
        }
    }
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// On whom.
    pub target: Party,
    /// Transport protocol.
    pub protocol: String,
    /// Port.
    pub port: u16,
    /// The request of HTTP or question to a name server, if one was read.
    pub http: Option<HttpSummary>,
    /// The request of another protocol, if one was read.
    #[serde(default)]
    pub request: Option<RequestSummary>,
    /// Which end stopped it.
    pub stopped_by: Side,
    /// Why.
    pub reason: String,
    /// The rule that stopped it; `null` for a default.
    pub rule: Option<RuleSummary>,
    /// Times.
    pub count: u64,
}

/// One workload that the attacker can reach as things stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reach {
    /// Whom.
    pub target: Party,
    /// On which ports, for example `tcp/8080`; with `(L7)` where only some requests pass.
    pub ports: Vec<String>,
}

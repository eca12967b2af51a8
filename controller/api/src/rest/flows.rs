//! Edges of the service map, and the denials among them.

use super::requests::RequestSummary;
use serde::{Deserialize, Serialize};
use std::fmt;

/// `GET /api/v1/flows`: who talked to whom, by workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEdge {
    /// Who opened it.
    pub source: Party,
    /// Whom it was opened to: the workload behind a Service where only one is.
    pub destination: Party,
    /// The Service whose address was dialled, as `namespace/name`.
    pub via_service: Option<String>,
    /// Transport protocol: `tcp`, `udp`, `icmp`, …
    pub protocol: String,
    /// The target's port; `type << 8 | code` for ICMP.
    pub port: u16,
    /// The request of HTTP or question to a name server; `null` where only layer 4 was seen.
    pub http: Option<HttpSummary>,
    /// The request of another protocol; `null` where none was read.
    #[serde(default)]
    pub request: Option<RequestSummary>,
    /// What the bytes looked like; empty where nobody looked.
    pub application: String,
    /// What held.
    pub verdict: Effect,
    /// Why.
    pub reason: String,
    /// The rule that decided; `null` for a default.
    pub rule: Option<RuleSummary>,
    /// What would hold if audited policies counted.
    pub shadow_verdict: Effect,
    /// Why.
    pub shadow_reason: String,
    /// The rule that would decide.
    pub shadow_rule: Option<RuleSummary>,
    /// Whose sidecars saw connections between the two on this port.
    pub seen_by: SeenBy,
    /// Requests, connections or packets; the larger of what both sides counted.
    pub count: u64,
    /// Bytes from source to destination.
    pub bytes_to_destination: u64,
    /// Bytes from destination to source.
    pub bytes_to_source: u64,
    /// First time.
    pub first_seen_ms: u64,
    /// Last time.
    pub last_seen_ms: u64,
}

/// `GET /api/v1/verdicts`: what was denied, or would be if audited policies counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCount {
    /// Who tried.
    pub source: Party,
    /// Whom.
    pub destination: Party,
    /// Transport protocol.
    pub protocol: String,
    /// Port as it was dialled.
    pub port: u16,
    /// The request of HTTP or question to a name server, if one was read.
    pub http: Option<HttpSummary>,
    /// The request of another protocol, if one was read.
    #[serde(default)]
    pub request: Option<RequestSummary>,
    /// Which end denied.
    pub denied_by: Side,
    /// False if it passed and only audited policies would deny it.
    pub enforced: bool,
    /// Why.
    pub reason: String,
    /// The rule that denied; `null` for a default.
    pub rule: Option<RuleSummary>,
    /// Revision of the program that judged last.
    pub revision: u64,
    /// User of the sending process, where the kernel told.
    pub sender_uid: Option<u32>,
    /// Last identifier that a refused peer was given.
    pub report_id: Option<String>,
    /// Times.
    pub count: u64,
    /// First time.
    pub first_seen_ms: u64,
    /// Last time.
    pub last_seen_ms: u64,
}

/// One end of an edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Party {
    /// What it is.
    pub kind: PartyKind,
    /// Namespace of a workload or Service.
    pub namespace: Option<String>,
    /// Name of a workload, Service or node; the address of an outsider.
    pub name: String,
}

/// What an address belonged to when the flow was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartyKind {
    /// A pod, named by its workload.
    Workload,
    /// A Service with several workloads, or none, behind it.
    Service,
    /// A node.
    Node,
    /// Nobody of the cluster.
    Outside,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.namespace) {
            (PartyKind::Workload, Some(namespace)) => write!(f, "{namespace}/{}", self.name),
            (PartyKind::Service, Some(namespace)) => write!(f, "service {namespace}/{}", self.name),
            (PartyKind::Node, _) => write!(f, "node {}", self.name),
            (PartyKind::Workload | PartyKind::Service | PartyKind::Outside, _) => f.write_str(&self.name),
        }
    }
}

/// Whose sidecars reported an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenBy {
    /// The source's.
    pub source: bool,
    /// The destination's.
    pub destination: bool,
}

/// One end of an edge, by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The one that opened it.
    Source,
    /// The one that it was opened to.
    Destination,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It passed.
    Allow,
    /// It did not.
    Deny,
}

impl From<bulkhead_facts::Effect> for Effect {
    fn from(effect: bulkhead_facts::Effect) -> Self {
        match effect {
            bulkhead_facts::Effect::Allow => Self::Allow,
            bulkhead_facts::Effect::Deny => Self::Deny,
        }
    }
}

impl From<Effect> for bulkhead_facts::Effect {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Allow => Self::Allow,
            Effect::Deny => Self::Deny,
        }
    }
}

/// A kind of HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HttpSummary {
    /// Method.
    pub method: String,
    /// Path with variable segments as `{id}`.
    pub path: String,
    /// Host; empty where none was sent.
    pub host: String,
    /// Status class of the answer (2 for 2xx), 0 where none was seen.
    pub status: u16,
}

impl From<&crate::HttpSignature> for HttpSummary {
    fn from(http: &crate::HttpSignature) -> Self {
        Self {
            method: http.method.clone(),
            path: http.path_template.clone(),
            host: http.host.clone(),
            status: http.status,
        }
    }
}

/// A rule by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleSummary {
    /// Tier.
    pub tier: String,
    /// Policy as `kind/namespace/name`.
    pub policy: String,
    /// Rule.
    pub rule: String,
    /// `ingress` or `egress`.
    pub direction: String,
}

impl From<&bulkhead_policies::program::RuleInfo> for RuleSummary {
    fn from(info: &bulkhead_policies::program::RuleInfo) -> Self {
        Self {
            tier: info.tier.as_str().to_owned(),
            policy: info.policy.to_string(),
            rule: info.rule.clone(),
            direction: info.direction.as_str().to_owned(),
        }
    }
}

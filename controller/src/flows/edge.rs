//! An edge as it is stored: what was seen from one side, with the names that addresses had when it came in.

use bulkhead_api::rest::{Effect, HttpSummary, Party, RuleSummary, Side};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Everything that tells one edge from another. Its JSON is the key in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// Which end the sidecar that saw it stands at.
    pub observed_by: Side,
    /// Who opened it.
    pub source: Endpoint,
    /// Whom it was opened to.
    pub destination: Endpoint,
    /// The Service whose address was dialled, as `namespace/name`.
    pub via_service: Option<String>,
    /// Protocol number.
    pub protocol: u8,
    /// The target's port where the Service's endpoints agree on one, else as dialled.
    pub port: u16,
    /// Port as dialled.
    pub dialled_port: u16,
    /// The request; `None` where only layer 4 was seen.
    pub http: Option<HttpSummary>,
    /// What the bytes looked like.
    pub application: String,
    /// What held.
    pub enforced: Judgement,
    /// What would hold if audited policies counted.
    pub shadow: Judgement,
}

/// One end of an edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Whose the address was.
    pub party: Party,
    /// The pod, where it was one.
    pub pod: Option<String>,
    /// The address.
    pub address: IpAddr,
}

/// An answer by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Judgement {
    /// Allow or deny.
    pub effect: Effect,
    /// Why.
    pub reason: String,
    /// The rule; `None` for a default.
    pub rule: Option<RuleSummary>,
}

/// What is counted for an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests, connections or packets.
    pub count: u64,
    /// Bytes from source to destination.
    pub bytes_to_destination: u64,
    /// Bytes from destination to source.
    pub bytes_to_source: u64,
    /// First time, milliseconds since the epoch.
    pub first_seen_ms: u64,
    /// Last time, milliseconds since the epoch.
    pub last_seen_ms: u64,
    /// Newest revision that judged it.
    pub revision: u64,
    /// User of the sending process, where the kernel told.
    pub sender_uid: Option<u32>,
    /// Last identifier that a refused peer was given.
    pub report_id: Option<String>,
}

/// One edge of one pod on one day, as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEdge {
    /// Days since the epoch.
    pub day: u64,
    /// The pod whose sidecar saw it.
    pub pod_uid: String,
    /// The edge.
    pub edge: Edge,
    /// What was counted.
    pub totals: Totals,
}

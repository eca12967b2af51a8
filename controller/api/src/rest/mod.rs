//! JSON of the HTTP API: what controller, command line and lab exchange.
//!
//! Plain values for reading and showing: names instead of indexes, text for closed lists of names (`reason`,
//! `tier`), milliseconds since the epoch for times. The same shapes are described in `openapi.json`
//! ([`OPENAPI`]); a test compares the two. No logic here.

mod flows;
mod incidents;
mod proposals;
mod requests;
mod status;

pub use flows::{Effect, FlowEdge, HttpSummary, Party, PartyKind, RuleSummary, SeenBy, Side, VerdictCount};
pub use incidents::{Attempt, Incident, IncidentKind, Reach};
pub use proposals::{Evidence, Proposal, ProposalRequest, ProposalState, RuleEvidence};
pub use requests::{KafkaSummary, PostgresSummary, RedisSummary, RequestSummary, TlsSummary};
pub use status::{
    AuditEntry, CollectionState, Diagnostic, InventoryState, JoinToken, JoinTokenRequest, PolicyDocument,
    PolicyFile, PolicyState, Refusal, SidecarStatus, Status,
};

use serde::{Deserialize, Serialize};

/// The OpenAPI document of the API, as served.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// Every error of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What failed, on what.
    pub error: String,
    /// What to do; empty if we do not know.
    pub help: String,
    /// Where the request brought documents that are wrong: what is wrong, and where.
    #[serde(default)]
    pub diagnostics: Vec<Diagnostic>,
}

//! Proposals of the learner, with their evidence.

use serde::{Deserialize, Serialize};
use std::fmt;

/// `POST /api/v1/proposals`: learn now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalRequest {
    /// For this collection.
    pub collection: String,
}

/// `GET /api/v1/proposals`: one proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Identifier.
    pub id: u64,
    /// The collection that it is for.
    pub collection: String,
    /// When it was made.
    pub created_ms: u64,
    /// Whether somebody approved it.
    pub state: ProposalState,
    /// The policy documents, as YAML.
    pub document: String,
    /// Policies in it.
    pub policies: usize,
    /// What speaks for each rule.
    pub rules: Vec<RuleEvidence>,
    /// What was seen but is not proposed without a person, and why; one line each.
    pub held_back: Vec<String>,
    /// When somebody approved it; `null` before.
    pub decided_ms: Option<u64>,
    /// File that it was written to when it was approved; `null` before, and where the folder is not ours to
    /// write.
    pub written_to: Option<String>,
}

/// What has become of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalState {
    /// Nobody decided yet.
    Open,
    /// Approved and written to the policy folder.
    Applied,
    /// Approved; somebody has to put the document where the policies are kept.
    ApprovedNotApplied,
    /// A newer proposal for the same collection took its place.
    Superseded,
}

impl fmt::Display for ProposalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Applied => "applied",
            Self::ApprovedNotApplied => "approved, not applied",
            Self::Superseded => "superseded",
        })
    }
}

/// One rule of a proposal and what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleEvidence {
    /// Policy as `kind/namespace/name`.
    pub policy: String,
    /// `ingress` or `egress`.
    pub direction: String,
    /// Rule name.
    pub rule: String,
    /// The rule in one line.
    pub summary: String,
    /// What speaks for it.
    pub evidence: Evidence,
}

/// What was seen of the traffic that a rule allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Requests or connections.
    pub count: u64,
    /// Days on which it was seen.
    pub days: u64,
    /// Pods of the source that did it.
    pub source_replicas: u64,
    /// Pods of the destination that took it.
    pub destination_replicas: u64,
    /// First time.
    pub first_seen_ms: u64,
    /// Last time.
    pub last_seen_ms: u64,
    /// True if the sidecars of both ends saw it.
    pub both_sides: bool,
    /// Estimated chance, in millionths, that the next request is of a kind not seen yet (Good-Turing).
    pub unseen_millionths: u64,
}

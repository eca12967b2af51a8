//! State of the controller and of its fleet.

use serde::{Deserialize, Serialize};

/// `GET /api/v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the controller.
    pub version: String,
    /// When it started.
    pub started_ms: u64,
    /// The policy in force.
    pub policy: PolicyState,
    /// The inventory in use.
    pub inventory: InventoryState,
    /// Sidecars that are attached now.
    pub sidecars_attached: usize,
    /// Attached sidecars that enforce the newest program of their pod.
    pub sidecars_current: usize,
    /// Flow records that sidecars or the controller had to give up for want of room.
    pub flows_dropped: u64,
}

/// The policy in force, and the one that was refused since, if any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyState {
    /// Grows with every change that reaches a program; 0 before the first valid set.
    pub revision: u64,
    /// When the set in force was loaded; 0 before the first.
    pub loaded_ms: u64,
    /// Policies in it.
    pub policies: usize,
    /// Collections in it, by name.
    pub collections: Vec<String>,
    /// How each collection is held today.
    pub held: Vec<CollectionState>,
    /// Warnings about it, as text.
    pub warnings: Vec<String>,
    /// Set if what lies in the folder now was refused.
    pub refused: Option<Refusal>,
}

/// A collection as its schedule holds it today, with its pods by the mode of their programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionState {
    /// Name.
    pub name: String,
    /// Mode: `observe`, `audit`, `enforce`.
    pub mode: String,
    /// Percentage of pods that `enforce` reaches; the others are audited.
    pub canary: u8,
    /// Pods that enforce.
    pub pods_enforcing: usize,
    /// Pods that are audited.
    pub pods_audited: usize,
    /// Pods that are observed.
    pub pods_observed: usize,
}

/// What is known of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryState {
    /// Namespaces.
    pub namespaces: usize,
    /// Pods that run.
    pub pods: usize,
    /// Services.
    pub services: usize,
    /// Nodes.
    pub nodes: usize,
    /// Set if what lies in the folder now was refused.
    pub refused: Option<Refusal>,
}

/// A set of files that was refused whole; the one before it stays in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When.
    pub at_ms: u64,
    /// Why.
    pub diagnostics: Vec<Diagnostic>,
}

/// One finding in a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// `error` or `warning`.
    pub severity: String,
    /// Stable code.
    pub code: String,
    /// File; empty where none is to blame.
    pub file: String,
    /// Line from 1; 0 where none is to blame.
    pub line: usize,
    /// Column from 1; 0 where none is to blame.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead; empty if we do not know.
    pub help: String,
}

/// `GET /api/v1/sidecars`: one sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SidecarStatus {
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its pod; empty if the pod is gone.
    pub pod: String,
    /// UID of its pod.
    pub uid: String,
    /// Workload of its pod.
    pub workload: String,
    /// True while its stream is open.
    pub attached: bool,
    /// Its version.
    pub version: String,
    /// `enforced`, `L4 only` or `advisory`.
    pub capability: String,
    /// What weakens that promise: `fail_open`, `recognised_by_mark_and_user`, `recognised_by_mark`, `frames_open`,
    /// `foreign_rules`.
    #[serde(default)]
    pub weaknesses: Vec<String>,
    /// Revision that it enforces, 0 for none.
    pub revision: u64,
    /// Revision that it should enforce, 0 if its pod is unknown.
    pub revision_wanted: u64,
    /// Mode of its program: `observe`, `audit`, `enforce`; empty if its pod is unknown.
    pub mode: String,
    /// Why it refused the last program that it was sent.
    pub error: Option<String>,
    /// When it was last heard of.
    pub last_seen_ms: u64,
    /// Connections that it carries.
    pub connections_open: u64,
    /// Times that somebody else changed its kernel table and it put it back.
    pub tampering: u64,
    /// Flow records given up.
    pub flows_dropped: u64,
}

/// `GET /api/v1/policies`: one file of the set in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    /// Path of the file as the controller sees it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The documents in it.
    pub documents: Vec<PolicyDocument>,
}

/// One policy document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyDocument {
    /// Kind.
    pub kind: String,
    /// Namespace; `null` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

/// `GET /api/v1/audit`: one thing that somebody did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at_ms: u64,
    /// Who.
    pub actor: String,
    /// What they did.
    pub action: String,
    /// On what.
    pub subject: String,
    /// With what.
    pub detail: String,
}

/// `POST /api/v1/join-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// UID of the pod that may join with it.
    pub uid: String,
}

/// A token that lets one pod's sidecar enrol, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// The token: a secret.
    pub token: String,
    /// When it stops being good.
    pub expires_ms: u64,
}

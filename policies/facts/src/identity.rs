//! Names of workloads and policies, and how a peer was recognised.

use std::fmt;

/// A workload: a namespace and the owner's name (Deployment, StatefulSet, Job), or the pod's own name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadRef {
    /// Namespace.
    pub namespace: String,
    /// Name of the owner within the namespace.
    pub name: String,
}

impl fmt::Display for WorkloadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A policy document by kind, namespace (none for cluster kinds) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyRef {
    /// Kind, for example `SegmentPolicy`.
    pub kind: String,
    /// Namespace; `None` for cluster-scoped kinds and for built-in rules.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

/// What made us believe that a peer is who the verdict says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProvenBy {
    /// A certificate on a mutual TLS connection.
    Mtls,
    /// The address, as the controller vouches for it.
    Address,
    /// Nothing: the address belongs to nobody we know.
    None,
}

impl ProvenBy {
    /// `mtls`, `address` or `none`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Address => "address",
            Self::None => "none",
        }
    }
}

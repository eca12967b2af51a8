//! What a decision says: effect, tier, reason, mode.

use std::fmt;

/// Whether a packet or request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

impl Effect {
    /// `allow` or `deny`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where in the order of evaluation an answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// The platform's rules before the namespaces' own.
    Admin,
    /// What a pod needs to live: resolver, probes, neighbour discovery.
    Infrastructure,
    /// The teams' own policies.
    Namespace,
    /// The platform's rules after the namespaces' own.
    Baseline,
    /// Nothing matched: the collection's default.
    Default,
}

impl Tier {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Infrastructure => "infrastructure",
            Self::Namespace => "namespace",
            Self::Baseline => "baseline",
            Self::Default => "default",
        }
    }
}

/// How strictly a collection is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Allow and learn.
    Observe,
    /// Allow, and report what would be denied.
    Audit,
    /// Deny.
    #[default]
    Enforce,
}

impl Mode {
    /// `observe`, `audit` or `enforce`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Audit => "audit",
            Self::Enforce => "enforce",
        }
    }

    /// The mode of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Observe, Self::Audit, Self::Enforce].into_iter().find(|m| m.as_str() == name)
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why an answer is what it is: a closed list, each with a page in `docs/reasons.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in verdicts, metrics and documentation.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The reason of that name.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// A rule allows it.
    AllowedByRule = "allowed_by_rule",
    /// No policy selects the workload in this direction, and its default is open.
    NotIsolated = "not_isolated",
    /// The workload is isolated and no rule allows it.
    NoRule = "no_rule",
    /// A deny rule of the admin or baseline tier matched.
    DeniedByRule = "denied_by_rule",
    /// A rule allows the peer and port, but not this request.
    L7Mismatch = "l7_mismatch",
    /// The bytes are not the protocol they should be, before any rule was asked.
    Malformed = "malformed",
    /// The request can be read in two ways.
    Ambiguous = "ambiguous",
    /// The connection speaks another protocol than the rule names.
    ProtocolMismatch = "protocol_mismatch",
    /// The rule needs a proven identity and the peer has none.
    IdentityUnproven = "identity_unproven",
    /// The name was not resolved through us.
    NameUnknown = "name_unknown",
    /// The bytes name another server than those that the address was allowed for.
    NameMismatch = "name_mismatch",
    /// The address was allowed for its name, and the bytes do not say whom they mean.
    NameHidden = "name_hidden",
    /// A named limit was reached.
    Limit = "limit",
    /// The sidecar has never had a policy.
    NoPolicy = "no_policy",
    /// The peer's address changed hands a moment ago.
    StalePeer = "stale_peer",
    /// The service has no ready endpoint.
    NoEndpoint = "no_endpoint",
    /// The Service's endpoints are judged differently, so that it depends on which one is reached.
    EndpointsDiffer = "endpoints_differ",
    /// The port needs inspection now and the flow was admitted before it did.
    TierChanged = "tier_changed",
    /// A listener of the sidecar was addressed directly.
    SidecarPort = "sidecar_port",
    /// The source address is not the workload's own.
    SpoofedSource = "spoofed_source",
    /// The packet belongs to no connection and opens none.
    InvalidPacket = "invalid_packet",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

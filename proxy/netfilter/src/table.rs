//! Tables and chains: names, hooks, priorities.

/// The address families that a table can belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 and IPv6 together.
    Inet,
    /// Frames of one device.
    Netdev,
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Netdev => 5,
        }
    }
}

/// A table by family and name. There is deliberately no way to give it an owner: such a table vanishes
/// with the process that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    pub(crate) family: Family,
    pub(crate) name: String,
}

impl Table {
    /// A table for IPv4 and IPv6.
    pub fn inet(name: &str) -> Self {
        Self { family: Family::Inet, name: name.to_owned() }
    }

    /// A table for the frames of devices.
    pub fn netdev(name: &str) -> Self {
        Self { family: Family::Netdev, name: name.to_owned() }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Where packets enter a base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Arrived, not routed yet.
    Prerouting,
    /// For this network namespace.
    Input,
    /// To be passed on.
    Forward,
    /// Made here.
    Output,
    /// About to leave.
    Postrouting,
    /// Frames that leave by the named device (netdev tables, kernel 5.16).
    Egress(String),
    /// Frames that arrive on the named device (netdev tables).
    Ingress(String),
}

impl Hook {
    pub(crate) fn number(&self) -> u32 {
        match self {
            Self::Prerouting | Self::Ingress(_) => 0,
            Self::Input | Self::Egress(_) => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }

    pub(crate) fn device(&self) -> Option<&str> {
        match self {
            Self::Egress(device) | Self::Ingress(device) => Some(device),
            _ => None,
        }
    }
}

/// What a base chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    /// Lets pass or not.
    Filter,
    /// Sees the first packet of a connection and may rewrite it.
    Nat,
    /// Output only: a changed mark makes the kernel route the packet again.
    Route,
}

impl ChainType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

/// What happens to packets that leave a base chain without a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They are dropped.
    Drop,
    /// They pass.
    Accept,
}

impl Policy {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
        }
    }
}

/// Well-known priorities of base chains; lower runs first. Conntrack runs at -200.
pub mod priority {
    /// Before conntrack.
    pub const RAW: i32 = -300;
    /// After conntrack, before destination NAT.
    pub const MANGLE: i32 = -150;
    /// Destination NAT.
    pub const DESTINATION_NAT: i32 = -100;
    /// Filtering.
    pub const FILTER: i32 = 0;
    /// Source NAT.
    pub const SOURCE_NAT: i32 = 100;
    /// After everything else.
    pub const LAST: i32 = 300;
}

/// A chain: regular (entered by jump or goto) or base (hooked).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub(crate) name: String,
    pub(crate) base: Option<Base>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) chain_type: ChainType,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    pub(crate) policy: Policy,
}

impl Chain {
    /// A chain that rules enter by name.
    pub fn regular(name: &str) -> Self {
        Self { name: name.to_owned(), base: None }
    }

    /// A chain that packets enter at a hook.
    pub fn base(name: &str, chain_type: ChainType, hook: Hook, priority: i32, policy: Policy) -> Self {
        Self { name: name.to_owned(), base: Some(Base { chain_type, hook, priority, policy }) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

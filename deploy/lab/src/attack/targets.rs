//! What an attack aims at: addresses and ports of one place's surroundings, as a JSON file.
//!
//! Whoever knows the lab (the campaign, a test) writes it; the runner only reads it. A kind whose target is absent
//! says that it was not made; it never guesses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The two addresses of one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

/// A port of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Where.
    pub address: Pair,
    /// The port.
    pub port: u16,
}

/// A place and ports of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Where.
    pub address: Pair,
    /// The ports, in the order in which they are tried.
    pub ports: Vec<u16>,
}

/// An HTTP service that the attacker may use, but not for everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    /// Its address.
    pub address: Pair,
    /// Its port.
    pub port: u16,
    /// What its Host header says.
    pub host: String,
    /// A path that the attacker may ask for with GET.
    pub allowed_path: String,
    /// A path there that it may not ask for.
    pub admin_path: String,
    /// A method that it may not use on the allowed path.
    pub forbidden_method: String,
}

/// The link that leads out of the attacker's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Name of the interface.
    pub interface: String,
    /// Hardware address of the node's end, as `02:00:00:00:00:01`.
    pub gateway_mac: String,
}

/// What is known of sidecars: their ports and how they mark themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    /// TCP ports that refuse direct hits from their own pod.
    pub own_tcp: Vec<u16>,
    /// UDP ports that refuse direct hits from their own pod.
    pub own_udp: Vec<u16>,
    /// TCP ports that refuse direct hits from another pod.
    pub peer_tcp: Vec<u16>,
    /// UDP ports that refuse direct hits from another pod.
    pub peer_udp: Vec<u16>,
    /// UID of the sidecar.
    pub uid: u32,
    /// Socket mark of its connections.
    pub mark: u32,
    /// Mark by which frames of judged packets are told from others.
    pub frame_mark: u32,
}

/// Everything that attacks from one place may aim at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Addresses of the attacker.
    pub own: Pair,
    /// How packets leave; for frames that are built by hand.
    #[serde(default)]
    pub link: Option<Link>,
    /// The node's address.
    #[serde(default)]
    pub node: Option<Pair>,
    /// An address of another pod, to pretend to be it.
    #[serde(default)]
    pub neighbour: Option<Pair>,
    /// A service that the attacker may use, with what it may not do there.
    #[serde(default)]
    pub web: Option<Web>,
    /// A pod and port that it may not reach.
    #[serde(default)]
    pub forbidden_pod: Option<Endpoint>,
    /// The cluster address of a service that it may not use.
    #[serde(default)]
    pub forbidden_service: Option<Endpoint>,
    /// The database.
    #[serde(default)]
    pub database: Option<Endpoint>,
    /// Addresses to sweep, none of which it may reach on `sweep_port`.
    #[serde(default)]
    pub sweep: Vec<Pair>,
    /// The port that a sweep tries.
    #[serde(default)]
    pub sweep_port: u16,
    /// A place and ports there that it may not reach.
    #[serde(default)]
    pub scan: Option<Ports>,
    /// The metadata service of a cloud.
    #[serde(default)]
    pub metadata: Option<Endpoint>,
    /// A host outside the cluster.
    #[serde(default)]
    pub outside: Option<Endpoint>,
    /// What is known of sidecars.
    #[serde(default)]
    pub sidecar: Option<Sidecar>,
    /// A pod whose sidecar is hit directly.
    #[serde(default)]
    pub peer: Option<Pair>,
    /// The name server that the attacker may ask for what it needs.
    #[serde(default)]
    pub resolver: Option<Endpoint>,
    /// A Redis of which the attacker may read some keys.
    #[serde(default)]
    pub redis: Option<Redis>,
    /// A PostgreSQL of which the attacker may read one database.
    #[serde(default)]
    pub postgres: Option<Postgres>,
    /// A host outside to which the attacker may speak TLS under one name.
    #[serde(default)]
    pub tls: Option<Tls>,
}

/// A Redis of which the attacker may read some keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Where.
    pub at: Endpoint,
    /// How keys begin that it may read.
    pub keys: String,
}

/// A PostgreSQL of which the attacker may read one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// Where.
    pub at: Endpoint,
    /// The role that it may have.
    pub user: String,
    /// The database that it may read.
    pub database: String,
}

/// A host outside to which the attacker may speak TLS under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Where.
    pub at: Endpoint,
    /// The name.
    pub name: String,
}

impl Family {
    /// 4 or 6.
    pub fn digit(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// The family of a digit.
    pub fn of_digit(digit: u8) -> Option<Self> {
        match digit {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }
}

impl Serialize for Family {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(self.digit())
    }
}

impl<'de> Deserialize<'de> for Family {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let digit = u8::deserialize(from)?;
        Self::of_digit(digit)
            .ok_or_else(|| serde::de::Error::custom(format!("`{digit}` is no family: write 4 or 6")))
    }
}

impl Pair {
    /// The address of one family.
    pub fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }

    /// Whether one of the two is this address.
    pub fn holds(self, address: IpAddr) -> bool {
        address == IpAddr::V4(self.v4) || address == IpAddr::V6(self.v6)
    }
}

impl Endpoint {
    /// The socket address in one family.
    pub fn of(self, family: Family) -> SocketAddr {
        SocketAddr::new(self.address.of(family), self.port)
    }
}

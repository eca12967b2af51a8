//! A small netlink encoder for nf_tables, and readers for NFLOG and conntrack.
//!
//! No `nft` program, no C library: messages are written and read here. It knows the kernel's objects and
//! nothing of policies. [`Batch`] gathers a transaction of [`Table`], [`Chain`], [`Set`] and [`Rule`];
//! [`Connection`] commits it and dumps what is loaded. [`log`] reads logged packets, [`conntrack`] events and
//! flows, [`route`] sets the few routes that transparent sockets need, [`local_sockets`] ends connections. Everything blocks,
//! with timeouts.
//!
//! ```no_run
//! use bulkhead_netfilter::*;
//! # fn main() -> Result<(), NetlinkError> {
//! // A node: service addresses rewritten to pods, sources filtered per device.
//! let table = Table::inet("node");
//! let services = Set::new("services4", &[FieldKind::Ipv4, FieldKind::Protocol, FieldKind::Port])
//!     .map_to(FieldKind::Ipv4);
//! let element = Element::single(Key::new().v4([10, 96, 0, 1].into()).protocol(6).port(80))
//!     .data(Key::new().v4([10, 0, 0, 2].into()));
//!
//! let mut batch = Batch::new();
//! batch.add_table(&table);
//! batch.add_set(&table, &services);
//! batch.add_elements(&table, &services, &[element]);
//! let hook = Chain::base("nat", ChainType::Nat, Hook::Prerouting, priority::DESTINATION_NAT, Policy::Accept);
//! batch.add_chain(&table, &hook);
//! // Key from register 0 on; the address found replaces the destination.
//! let rule = Rule::new()
//!     .ipv4()
//!     .load_key(&[Field::DESTINATION_V4, Field::TransportProtocol, Field::DESTINATION_PORT])
//!     .look_up("services4", Register::R0, Register::R0)
//!     .destination_nat_from(true, Register::R0, None);
//! batch.add_rule(&table, "nat", &rule);
//! // Two endpoints, chosen at random: `numgen` picks, a constant address per rule.
//! let rule = Rule::new()
//!     .to_address([10, 96, 0, 2].into())
//!     .protocol(6)
//!     .to_port(80)
//!     .field::<u32>(Field::RandomBelow(2))
//!     .equals(0)
//!     .destination_nat([10, 0, 0, 3].into(), Some(8080));
//! batch.add_rule(&table, "nat", &rule);
//! // Only its own address may come from the device with index 4.
//! let filter = Chain::base("source", ChainType::Filter, Hook::Prerouting, priority::RAW, Policy::Accept);
//! batch.add_chain(&table, &filter);
//! let spoofed = Rule::new().input_device(4).ipv4().field(Field::SOURCE_V4);
//! batch.add_rule(&table, "source", &spoofed.not_equals(std::net::Ipv4Addr::new(10, 0, 0, 2)).counter().drop_packet());
//! Connection::open()?.commit(&batch)
//! # }
//! ```

mod batch;
mod connection;
pub mod conntrack;
mod dump;
mod error;
mod exchange;
mod expression;
pub mod limits;
pub mod local_sockets;
pub mod log;
mod operand;
pub mod packet;
pub mod route;
mod rule;
mod set;
mod socket;
mod table;
mod wire;

pub use batch::{Batch, TcpTimeouts};
pub use connection::Connection;
pub use dump::{LoadedChain, LoadedElement, LoadedRule, LoadedSet, same_elements};
pub use error::NetlinkError;
pub use expression::{Comparison, Field, Register};
pub use operand::Operand;
pub use rule::{Loaded, Refusal, Rule};
pub use set::{Element, FieldKind, Key, Set};
pub use table::{Chain, ChainType, Family, Hook, Policy, Table, priority};

/// Bits of [`Field::ConnectionState`].
pub mod connection_state {
    /// Belongs to no connection and opens none.
    pub const INVALID: u32 = 1;
    /// Belongs to a connection.
    pub const ESTABLISHED: u32 = 2;
    /// Belongs to another connection, as an ICMP error does.
    pub const RELATED: u32 = 4;
    /// Opens a connection.
    pub const NEW: u32 = 8;
    /// Kept out of conntrack.
    pub const UNTRACKED: u32 = 64;
}

/// Bits of [`Field::ConnectionStatus`].
pub mod connection_status {
    /// Its first packet has passed all chains.
    pub const CONFIRMED: u32 = 8;
    /// Its source is rewritten.
    pub const SOURCE_NAT: u32 = 16;
    /// Its destination is rewritten.
    pub const DESTINATION_NAT: u32 = 32;
}

/// Values of [`Field::SourceAddressType`] and [`Field::DestinationAddressType`] (`RTN_…`).
pub mod address_type {
    /// Reached by a route.
    pub const UNICAST: u32 = 1;
    /// An address of this namespace.
    pub const LOCAL: u32 = 2;
    /// A broadcast address.
    pub const BROADCAST: u32 = 3;
    /// A multicast address.
    pub const MULTICAST: u32 = 5;
}

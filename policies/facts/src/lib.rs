//! The vocabulary that policy, inspector and controller share.
//!
//! Firewalls are bypassed where two components disagree on what a host or a path is. Here each such
//! thing has one type and one constructor, and the constructor is the normaliser: what cannot be
//! brought into one doubtless form is refused, never guessed.
//!
//! No IO, no clock, no async. Start at [`Request`] for what goes in, at [`Effect`] and [`Reason`] for what comes out.

mod address;
mod host;
mod identity;
pub mod limits;
mod name;
mod path;
mod port;
mod protocol;
mod punycode;
mod request;
mod template;
mod verdict;

pub use address::{Cidr, CidrError};
pub use host::{HostName, HostNameError, HostPattern};
pub use identity::{PolicyRef, ProvenBy, WorkloadRef};
pub use name::NamePattern;
pub use path::{PathError, UrlPath};
pub use port::{Direction, IpFamily, L4Protocol, PortRange};
pub use protocol::{PostgresStatement, TlsVersion};
pub use request::{
    DnsQuestion, HeaderField, HttpRequest, KafkaRequest, PostgresMessage, RedisCommand, Request, TlsHello,
};
pub use template::{PathTemplate, TemplateError};
pub use verdict::{Effect, Mode, Reason, Tier};

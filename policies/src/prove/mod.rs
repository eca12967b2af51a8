//! Assertions about policies, decided for all requests and all peers.
//!
//! A `PolicyProof` lists what must never pass, who alone may, and how far a compromised workload may reach. [`load`] reads
//! them, [`prove()`] decides each over every pod, Service, outside address, protocol, port and kind of request
//! ([`crate::space`]); what does not hold comes with a flow that [`crate::decide`] allows.

mod ends;
mod flows;
mod reach;
mod read;
mod run;

pub use reach::{Reached, Station, reach};
pub use read::load;
pub use run::{Outcome, prove};

use crate::diagnostics::Span;
use crate::inventory::ObjectName;
use crate::model::L7Section;
use crate::questions::RequestQuestion;
use bulkhead_facts::{HostName, L4Protocol, PortRange};
use std::fmt;
use std::net::IpAddr;

/// One `PolicyProof`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Name of the document.
    pub name: String,
    /// Name of the source.
    pub file: String,
    /// Its assertions, in order of kind.
    pub assertions: Vec<Assertion>,
}

/// One assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Name, given or made of what it says.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// What it says.
    pub claim: Claim,
}

/// Names with their places; `None` is everybody or anything.
pub type Names = Option<Vec<(String, Span)>>;

/// What an assertion says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// No flow passes.
    Never {
        /// From these.
        from: Names,
        /// Apart from these.
        except: Vec<(String, Span)>,
        /// To these.
        to: Names,
        /// On these ports of the destination; `None` is every port of every protocol.
        ports: Option<Vec<(L4Protocol, PortRange)>>,
        /// With one of these requests, read as in a deny: what may be meant counts. `None` is every byte.
        section: Option<L7Section>,
    },
    /// What is reached from these, over any number of steps, lies within those.
    Contained {
        /// What is compromised.
        from: Vec<(String, Span)>,
        /// All that may be reached.
        within: Vec<(String, Span)>,
    },
}

/// A flow that passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who opens it, if a pod.
    pub from: Option<ObjectName>,
    /// Its address.
    pub source: IpAddr,
    /// Who receives it, if a pod.
    pub to: Option<ObjectName>,
    /// Its address.
    pub destination: IpAddr,
    /// The name that leads to its address.
    pub name: Option<HostName>,
    /// The Service that is dialled, with its address and port.
    pub service: Option<(ObjectName, IpAddr, u16)>,
    /// Protocol.
    pub protocol: L4Protocol,
    /// The destination's port.
    pub port: u16,
    /// The request; `None` for bytes that nobody can read.
    pub request: Option<RequestQuestion>,
    /// The rules that let it pass, `policy/rule`.
    pub rules: Vec<String>,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_end(f, self.from.as_ref(), self.source)?;
        f.write_str(" to ")?;
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.destination)?,
            None => write_end(f, self.to.as_ref(), self.destination)?,
        }
        if self.protocol.is_icmp() {
            write!(f, " {}/{}", self.protocol, self.port >> 8)?;
        } else {
            write!(f, " {}/{}", self.protocol, self.port)?;
        }
        if let Some((service, address, port)) = &self.service {
            write!(f, " by service/{}/{} ({address} port {port})", service.namespace, service.name)?;
        }
        if let Some(request) = &self.request {
            write!(f, ": {request}")?;
            if let RequestQuestion::Http(http) = request {
                for (name, value) in &http.headers {
                    write!(f, " with `{name}: {value}`")?;
                }
            }
        }
        if self.rules.is_empty() {
            return f.write_str(", which no policy isolates");
        }
        write!(f, ", allowed by {}", self.rules.join(" and "))
    }
}

fn write_end(f: &mut fmt::Formatter<'_>, pod: Option<&ObjectName>, address: IpAddr) -> fmt::Result {
    match pod {
        Some(pod) => write!(f, "{}/{} ({address})", pod.namespace, pod.name),
        None => write!(f, "{address}"),
    }
}

#[cfg(test)]
mod tests;

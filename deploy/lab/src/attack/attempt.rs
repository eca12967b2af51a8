//! One attack under way: what it knows, what it has sent, what became of it on this side.
//!
//! What is announced here is what canaries look for: source address and port, protocol, destination. What happened
//! on this side (`local`) is told to people and never counted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::packet::{Ends, protocol};
use super::targets::{Family, Targets};
use super::token::Token;

/// How long an attack waits for connections and answers, all together.
pub(super) const PATIENCE: Duration = Duration::from_millis(1000);

/// A packet or connection that an attack sends out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Protocol number on the wire.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Source port; 0 where there is none, or where the kernel chose one and only the token tells.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
}

/// What one run of the attack runner says, as one JSON line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    /// Name of the kind.
    pub kind: String,
    /// 4 or 6.
    pub family: Family,
    /// What it carried.
    pub token: Token,
    /// Packets and connections that went out, or tried to.
    pub announced: Vec<Announced>,
    /// What this side saw of it: connected, refused, not permitted.
    pub local: Vec<String>,
    /// Why it was not made at all, if so.
    pub not_made: Option<String>,
}

impl Attempted {
    /// Whether it was not made because this kernel does not know what it is made with.
    pub fn unsupported(&self) -> bool {
        self.not_made.as_ref().is_some_and(|why| why.starts_with(UNSUPPORTED))
    }
}

/// How the reason begins.
const UNSUPPORTED: &str = "this kernel has no";

/// Why an attack was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotMade {
    /// The targets do not name what this kind aims at.
    NoTarget(&'static str),
    /// The kernel does not know what it is made with.
    Unsupported(&'static str),
}

pub(super) use NotMade::NoTarget;

/// One attack under way.
pub(super) struct Attempt<'a> {
    pub(super) family: Family,
    pub(super) token: Token,
    pub(super) targets: &'a Targets,
    pub(super) announced: Vec<Announced>,
    pub(super) local: Vec<String>,
    deadline: Instant,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(family: Family, token: Token, targets: &'a Targets) -> Self {
        let deadline = Instant::now() + PATIENCE;
        Self { family, token, targets, announced: Vec::new(), local: Vec::new(), deadline }
    }

    /// The attacker's own address.
    pub(super) fn own(&self) -> IpAddr {
        self.targets.own.of(self.family)
    }

    /// Bytes that carry the token, padded to `bytes`.
    pub(super) fn payload(&self, bytes: usize) -> Vec<u8> {
        let mut payload = self.token.to_string().into_bytes();
        payload.resize(bytes.max(payload.len()), b'.');
        payload
    }

    /// Time that is left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Both ends of a packet from this attack's own address and `number`th port.
    pub(super) fn ends(&self, number: u16, destination: SocketAddr) -> Ends {
        Ends {
            source: self.own(),
            source_port: self.token.source_port(number),
            destination: destination.ip(),
            destination_port: destination.port(),
        }
    }

    /// Says what goes out.
    pub(super) fn announce(&mut self, protocol: u8, ends: Ends) {
        self.announced.push(Announced {
            protocol,
            source: ends.source,
            source_port: ends.source_port,
            destination: ends.destination,
            destination_port: ends.destination_port,
        });
    }

    /// Notes what this side saw.
    pub(super) fn note<T>(&mut self, what: &str, result: &io::Result<T>) {
        self.local.push(match result {
            Ok(_) => what.to_owned(),
            Err(error) => format!("{what}: {error}"),
        });
    }

    /// Notes what this side saw of something that a kernel may not have.
    pub(super) fn note_if_supported<T>(
        &mut self,
        what: &'static str,
        result: &io::Result<T>,
    ) -> Result<(), NotMade> {
        let code = result.as_ref().err().map(|error| (error.kind(), error.raw_os_error()));
        match code {
            Some((io::ErrorKind::Unsupported, _))
            | Some((
                _,
                Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::ESOCKTNOSUPPORT | libc::ENOPROTOOPT),
            )) => Err(NotMade::Unsupported(what)),
            _ => {
                self.note(what, result);
                Ok(())
            }
        }
    }

    pub(super) fn finish(self, kind: &str, made: Result<(), NotMade>) -> Attempted {
        Attempted {
            kind: kind.to_owned(),
            family: self.family,
            token: self.token,
            announced: self.announced,
            local: self.local,
            not_made: made.err().map(|why| match why {
                NoTarget(what) => format!("the targets name no {what}"),
                NotMade::Unsupported(what) => format!("{UNSUPPORTED} {what}"),
            }),
        }
    }
}

/// The socket domain of an address.
pub(super) fn domain(address: IpAddr) -> Domain {
    if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }
}

/// The unspecified address of the same family.
pub(super) fn anywhere(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// ICMP of the family.
pub(super) fn icmp(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    }
}

/// A raw socket of the family; `number` 255 takes whole packets with their IP header.
pub(super) fn raw_socket(family: Family, number: u8) -> io::Result<Socket> {
    let domain = domain(anywhere(family));
    Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(number))))
}

/// A socket address without a port, as raw sockets take it.
pub(super) fn portless(address: IpAddr) -> SockAddr {
    SocketAddr::new(address, 0).into()
}

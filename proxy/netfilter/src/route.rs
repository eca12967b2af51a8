//! The devices of this namespace, and the routes that let transparent sockets receive what is not addressed
//! to us.
//!
//! A transparent connection speaks with an address that is not ours; answers to it carry a packet mark, and a
//! rule sends marked packets to a table in which every address is local. Source: `rtnetlink(7)`.

use crate::error::NetlinkError;
use crate::exchange::Exchange;
use crate::wire::{Attributes, CREATE, EXCLUSIVE, Encoder, Message};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const NEW_RULE: u16 = 32;

/// The index that the loopback device has in every network namespace.
pub const LOOPBACK_INDEX: u32 = 1;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// A socket for routes and devices.
#[derive(Debug)]
pub struct Routes {
    exchange: Exchange,
}

impl Routes {
    /// Opens it.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { exchange: Exchange::open(libc::NETLINK_ROUTE)? })
    }

    /// Every device of this namespace, loopback included.
    pub fn devices(&mut self) -> Result<Vec<Device>, NetlinkError> {
        self.exchange.dump(GET_LINK, "the list of devices", |e| e.append(&[0; 16]), device_of)
    }

    /// Every address of this namespace, of both families.
    pub fn addresses(&mut self) -> Result<Vec<IpAddr>, NetlinkError> {
        self.exchange.dump(GET_ADDRESS, "the list of addresses", |e| e.append(&[0; 8]), address_of)
    }

    /// Delivers packets with that mark here, whatever their destination: a rule and a table of local routes,
    /// for both families. What exists already is left as it is.
    pub fn deliver_marked_locally(&mut self, mark: u32, table: u32) -> Result<(), NetlinkError> {
        for family in [2u8, 10] {
            present(self.exchange.tell(NEW_RULE, CREATE | EXCLUSIVE, "a routing rule", |e| {
                encode_rule(e, family, mark, table);
            }))?;
            present(self.exchange.tell(NEW_ROUTE, CREATE | EXCLUSIVE, "a local route", |e| {
                encode_local_default(e, family, table);
            }))?;
        }
        Ok(())
    }
}

fn present(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    result.or_else(|error| if error.is_already_there() { Ok(()) } else { Err(error) })
}

/// `struct ifinfomsg`, then attributes; numbers are in host order here.
fn device_of(message: &Message<'_>) -> Option<Device> {
    const NAME: u16 = 3;
    if message.kind != NEW_LINK {
        return None;
    }
    let index = message.body.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)?;
    let name = Attributes(message.body.get(16..)?).text(NAME)?;
    Some(Device { index, name })
}

/// `struct ifaddrmsg`, then attributes. The local address differs from the first on point-to-point links.
fn address_of(message: &Message<'_>) -> Option<IpAddr> {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    if message.kind != NEW_ADDRESS {
        return None;
    }
    let attributes = Attributes(message.body.get(8..)?);
    let bytes = attributes.value(LOCAL).or_else(|| attributes.value(ADDRESS))?;
    match *bytes {
        [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
    }
}

/// `struct fib_rule_hdr`, then priority, mark, its mask, and the table.
fn encode_rule(e: &mut Encoder, family: u8, mark: u32, table: u32) {
    const TO_TABLE: u8 = 1;
    /// Before the main table (32766), after the table of our own addresses (0).
    const PRIORITY: u32 = 15_006;
    e.append(&[family, 0, 0, 0, 0, 0, 0, TO_TABLE, 0, 0, 0, 0]);
    e.attribute(6, &PRIORITY.to_ne_bytes());
    e.attribute(10, &mark.to_ne_bytes());
    e.attribute(16, &u32::MAX.to_ne_bytes());
    e.attribute(15, &table.to_ne_bytes());
}

/// `struct rtmsg`: everything is local, by the loopback device.
fn encode_local_default(e: &mut Encoder, family: u8, table: u32) {
    const PROTOCOL_STATIC: u8 = 4;
    const SCOPE_HOST: u8 = 254;
    const TYPE_LOCAL: u8 = 2;
    e.append(&[family, 0, 0, 0, 0, PROTOCOL_STATIC, SCOPE_HOST, TYPE_LOCAL, 0, 0, 0, 0]);
    e.attribute(4, &LOOPBACK_INDEX.to_ne_bytes());
    e.attribute(15, &table.to_ne_bytes());
}

//! Who was denied: exact counts per conversation from the table's own sets.

use super::answers::{Answers, MarkedAnswer};
use super::chains::overflow;
use super::limits::DENIED_EDGES_MAX;
use super::sets;
use bulkhead_facts::{Direction, IpFamily, L4Protocol};
use bulkhead_netfilter::{Connection, Key, LoadedElement, NetlinkError, Table};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A conversation that the table refused.
#[derive(Clone, Debug)]
pub struct DeniedEdge {
    /// Who opened it.
    pub direction: Direction,
    /// The other side.
    pub peer: IpAddr,
    /// Transport protocol.
    pub protocol: L4Protocol,
    /// Destination port; `type << 8 | code` for ICMP; 0 for protocols without ports.
    pub port: u16,
    /// The mark of the refused packets.
    pub mark: u32,
    /// What that mark says; `None` if its program is no longer known.
    pub answer: Option<MarkedAnswer>,
    /// Packets refused since the last dump that reported it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What one dump found.
#[derive(Clone, Debug, Default)]
pub struct Denials {
    /// Edges with packets since the dump before.
    pub edges: Vec<DeniedEdge>,
    /// Packets for which a set had no room, since the dump before: an incident in itself.
    pub overflowed: u64,
}

/// Turns the kernel's running counts into what is new.
#[derive(Debug, Default)]
pub(super) struct DenialCounts {
    known: HashMap<(Direction, LoadedKey), (u64, u64)>,
    overflowed: HashMap<Direction, u64>,
}

type LoadedKey = Vec<u8>;

impl DenialCounts {
    /// Dumps the sets.
    pub(super) fn dump(
        &mut self,
        connection: &mut Connection,
        table: &Table,
        answers: &Answers,
    ) -> Result<Denials, NetlinkError> {
        let mut denials = Denials::default();
        let mut known = HashMap::new();
        let mut full = false;
        for direction in Direction::BOTH {
            for family in [IpFamily::V4, IpFamily::V6] {
                let elements = connection.elements(table, sets::denied(direction, family).name())?;
                full |= elements.len() >= DENIED_EDGES_MAX as usize;
                for element in elements {
                    denials.edges.extend(self.grown(direction, &element, answers));
                    let count = (element.packets, element.bytes);
                    known.insert((direction, element.key.as_bytes().to_vec()), count);
                }
            }
        }
        self.known = known;
        if full || !self.overflowed.is_empty() {
            denials.overflowed = self.overflow(connection, table)?;
        }
        Ok(denials)
    }

    fn grown(&self, direction: Direction, element: &LoadedElement, answers: &Answers) -> Option<DeniedEdge> {
        let before = self.known.get(&(direction, element.key.as_bytes().to_vec())).copied();
        let (packets, bytes) = since(before, (element.packets, element.bytes));
        let (peer, mark, protocol, port) = read_key(&element.key)?;
        (packets > 0).then(|| DeniedEdge {
            direction,
            peer,
            protocol,
            port,
            mark,
            answer: answers.of(mark),
            packets,
            bytes,
        })
    }

    fn overflow(&mut self, connection: &mut Connection, table: &Table) -> Result<u64, NetlinkError> {
        let rules = connection.rules(table)?;
        let mut grown = 0;
        for direction in Direction::BOTH {
            let name = overflow(direction);
            let rule = rules.iter().find(|rule| rule.name.as_deref() == Some(&name));
            let now = rule.map_or(0, |rule| rule.packets);
            let before = self.overflowed.insert(direction, now).unwrap_or(0);
            grown += since(Some((before, 0)), (now, 0)).0;
        }
        Ok(grown)
    }
}

/// A count that went down began anew: the element had expired in between.
fn since(before: Option<(u64, u64)>, now: (u64, u64)) -> (u64, u64) {
    match before {
        Some(before) if before.0 <= now.0 => (now.0 - before.0, now.1.saturating_sub(before.1)),
        Some(_) | None => now,
    }
}

fn read_key(key: &Key) -> Option<(IpAddr, u32, L4Protocol, u16)> {
    let bytes = key.as_bytes();
    let (address, rest) = bytes.split_at_checked(bytes.len().checked_sub(12)?)?;
    let peer = match address.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).into(),
        _ => return None,
    };
    let mark = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?);
    let port = u16::from_be_bytes(rest.get(8..10)?.try_into().ok()?);
    Some((peer, mark, L4Protocol(*rest.get(4)?), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_denial_is_read_in_both_families() {
        let key = |address: IpAddr| Key::new().address(address).mark(0x0010_0002).protocol(6).port(443);
        for address in ["10.0.0.9", "fd00::9"] {
            let address: IpAddr = address.parse().expect("address");
            let expected = (address, 0x0010_0002, L4Protocol::TCP, 443);
            assert_eq!(read_key(&key(address)), Some(expected));
        }
        assert_eq!(read_key(&Key::new().port(1)), None);
    }

    #[test]
    fn only_growth_is_reported_and_an_edge_that_began_anew_from_its_beginning() {
        assert_eq!(since(None, (3, 180)), (3, 180));
        assert_eq!(since(Some((3, 180)), (5, 300)), (2, 120));
        assert_eq!(since(Some((5, 300)), (2, 120)), (2, 120));
    }
}

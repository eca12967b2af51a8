//! Boxes and spans of several programs laid over each other.

use crate::decide::Judge;
use crate::program::{Action, AddressSpan, AnswerId, ClassId, DirectionProgram, PortBox};
use bulkhead_facts::{Direction, L4Protocol, PortRange};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What holds where no box matches.
const NOTHING_MATCHED: Action = Action::Answer(AnswerId(0));

/// Consecutive protocol numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolRange {
    /// First.
    pub first: L4Protocol,
    /// Last.
    pub last: L4Protocol,
}

impl ProtocolRange {
    /// True if the protocol lies in it.
    pub fn contains(self, protocol: L4Protocol) -> bool {
        self.first <= protocol && protocol <= self.last
    }
}

impl fmt::Display for ProtocolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (L4Protocol(0), L4Protocol(255)) => f.write_str("every protocol"),
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "protocols {}-{}", first.0, last.0),
        }
    }
}

/// Protocols and ports on which each of the lists holds one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Protocols.
    pub protocols: ProtocolRange,
    /// Ports.
    pub ports: PortRange,
    /// What holds, one for each list.
    pub actions: Vec<Action>,
}

/// Cuts all protocols and ports into cells on which no list changes. Lists are those of one class: sorted and disjoint.
pub fn overlay(lists: &[&[PortBox]]) -> Vec<Cell> {
    let all = || lists.iter().flat_map(|list| list.iter());
    let protocols: BTreeSet<u8> = all()
        .flat_map(|b| [Some(b.protocol_first.0), b.protocol_last.0.checked_add(1)])
        .flatten()
        .chain([0])
        .collect();
    let mut cells: Vec<Cell> = Vec::new();
    for (first, last) in ranges(&protocols, u8::MAX, |number| number - 1) {
        let here = |b: &&PortBox| b.protocol_first.0 <= first && first <= b.protocol_last.0;
        let ports: BTreeSet<u16> = all()
            .filter(here)
            .flat_map(|b| [Some(b.ports.first()), b.ports.last().checked_add(1)])
            .flatten()
            .chain([0])
            .collect();
        let row = row(lists, ProtocolRange { first: L4Protocol(first), last: L4Protocol(last) }, &ports);
        match cells.as_mut_slice() {
            // Neighbouring protocols that are alike in everything are one.
            [.., before]
                if row.len() == 1 && before.ports == PortRange::ALL && before.actions == row[0].actions =>
            {
                before.protocols.last = L4Protocol(last);
            }
            _ => cells.extend(row),
        }
    }
    cells
}

fn row(lists: &[&[PortBox]], protocols: ProtocolRange, cuts: &BTreeSet<u16>) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for (first, last) in ranges(cuts, u16::MAX, |port| port - 1) {
        let actions: Vec<Action> = lists.iter().map(|list| find(list, protocols.first, first)).collect();
        match cells.last_mut() {
            Some(before) if before.actions == actions => {
                before.ports = PortRange::new(before.ports.first(), last).unwrap_or(PortRange::ALL);
            }
            Some(_) | None => {
                let ports = PortRange::new(first, last).unwrap_or(PortRange::ALL);
                cells.push(Cell { protocols, ports, actions });
            }
        }
    }
    cells
}

fn ranges<N: Copy + Ord>(cuts: &BTreeSet<N>, end: N, before: impl Fn(N) -> N) -> Vec<(N, N)> {
    let firsts: Vec<N> = cuts.iter().copied().collect();
    let lasts = firsts.iter().skip(1).map(|next| before(*next)).chain([end]);
    firsts.iter().copied().zip(lasts).collect()
}

fn find(list: &[PortBox], protocol: L4Protocol, port: u16) -> Action {
    let at = list.partition_point(|b| {
        b.protocol_last < protocol || (b.protocol_first <= protocol && b.ports.last() < port)
    });
    match list.get(at) {
        Some(b) if b.protocol_first <= protocol && b.ports.contains(port) => b.action,
        Some(_) | None => NOTHING_MATCHED,
    }
}

/// The boxes of a class; none where there is no class.
pub(crate) fn boxes(tables: &DirectionProgram, class: Option<ClassId>) -> &[PortBox] {
    let Some(class) = class else { return &[] };
    let first = tables.boxes.partition_point(|b| b.class < class);
    let end = tables.boxes.partition_point(|b| b.class <= class);
    tables.boxes.get(first..end).unwrap_or_default()
}

/// The class of an address.
pub(crate) fn class_of(judge: &Judge, direction: Direction, address: IpAddr) -> Option<ClassId> {
    let tables = judge.program().direction(direction);
    match address.to_canonical() {
        IpAddr::V4(v4) => find_class(&tables.v4, v4.into()),
        IpAddr::V6(v6) => find_class(&tables.v6, v6.into()),
    }
}

fn find_class<A: Copy + Ord>(spans: &[AddressSpan<A>], address: A) -> Option<ClassId> {
    let at = spans.partition_point(|span| span.last < address);
    spans.get(at).filter(|span| span.first <= address).map(|span| span.class)
}

/// Consecutive addresses: first and last.
pub type Block = (IpAddr, IpAddr);

/// All addresses of both families but those that are left out, cut where one of the tables changes its class and where a
/// block begins or ends: each part with its classes.
pub(crate) fn segments(
    tables: &[&DirectionProgram],
    left_out: &BTreeSet<IpAddr>,
    blocks: &[Block],
) -> Vec<(Block, Vec<Option<ClassId>>)> {
    let (mut v4, mut v6): (BTreeSet<u32>, BTreeSet<u128>) = (BTreeSet::from([0]), BTreeSet::from([0]));
    let mut cut = |first: IpAddr, last: IpAddr| match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            v4.extend([Some(u32::from(first)), u32::from(last).checked_add(1)].into_iter().flatten());
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            v6.extend([Some(u128::from(first)), u128::from(last).checked_add(1)].into_iter().flatten());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    };
    left_out.iter().for_each(|address| cut(*address, *address));
    blocks.iter().for_each(|(first, last)| cut(*first, *last));
    for table in tables {
        v4.extend(table.v4.iter().flat_map(|span| [Some(span.first), span.last.checked_add(1)]).flatten());
        v6.extend(table.v6.iter().flat_map(|span| [Some(span.first), span.last.checked_add(1)]).flatten());
    }
    let parts4 = ranges(&v4, u32::MAX, |n| n - 1).into_iter().map(|(first, last)| {
        let classes = tables.iter().map(|table| find_class(&table.v4, first)).collect();
        ((IpAddr::from(Ipv4Addr::from(first)), IpAddr::from(Ipv4Addr::from(last))), classes)
    });
    let parts6 = ranges(&v6, u128::MAX, |n| n - 1).into_iter().map(|(first, last)| {
        let classes = tables.iter().map(|table| find_class(&table.v6, first)).collect();
        ((IpAddr::from(Ipv6Addr::from(first)), IpAddr::from(Ipv6Addr::from(last))), classes)
    });
    parts4.chain(parts6).filter(|((first, _), _)| !left_out.contains(first)).collect()
}

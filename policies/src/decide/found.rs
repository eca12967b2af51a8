//! What an address leads to, in four bytes: so that many addresses fit in little memory, which is what a look-up costs.
//!
//! Most classes have one box, and most of those differ in nothing but their answer. Protocols, ports and kind of the box are a
//! shape, of which there are few; the answer stands beside the number of the shape.

use super::box_at;
use crate::program::{Action, AnswerId, ClassId, L7ChainId, PortBox};
use bulkhead_facts::L4Protocol;
use std::collections::HashMap;
use std::hash::Hash;

/// What is known of an address: nothing, one box (its shape and what it answers), or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found(u32);

/// Marks one box; below it the number of its shape, and in the lower half what it answers.
const ONE: u32 = 1 << 31;
/// Bits of what a box answers.
const ANSWER_BITS: u32 = 16;
/// Shapes that are told apart. More: their boxes count as several.
const SHAPES_MAX: usize = 1 << 15;
/// Ways to inspect that are told apart. More: likewise.
const INSPECTIONS_MAX: usize = 1 << ANSWER_BITS;

/// The boxes of one direction as addresses lead to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Classes {
    shapes: Vec<Shape>,
    /// Chain, and what holds for bytes that it does not read.
    inspections: Vec<(L7ChainId, AnswerId)>,
    /// Positions of the first box and the one after the last.
    several: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    ports: (u16, u16),
    protocols: (u8, u8),
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Answer,
    Learn,
    Inspect,
}

impl Found {
    /// No box.
    pub(super) const NOTHING: Self = Self(0);

    /// Something that is told apart by a number.
    #[cfg(test)]
    pub(super) fn test(number: u32) -> Self {
        Self::several(number as usize)
    }

    fn several(at: usize) -> Self {
        // Programs hold fewer boxes, which `validate` checked before.
        u32::try_from(at + 1).ok().filter(|at| *at < ONE).map_or(Self::NOTHING, Self)
    }
}

impl Classes {
    /// The boxes, sorted by class, and what each class leads to.
    pub(super) fn new(boxes: &[PortBox]) -> (Self, HashMap<ClassId, Found>) {
        let (mut classes, mut found) = (Self::default(), HashMap::new());
        let (mut shapes, mut inspections) = (HashMap::new(), HashMap::new());
        let mut first = 0u32;
        for own in boxes.chunk_by(|one, other| one.class == other.class) {
            let end = first.saturating_add(u32::try_from(own.len()).unwrap_or(u32::MAX));
            let one = if let [only] = own { classes.one(only, &mut shapes, &mut inspections) } else { None };
            let several = || {
                classes.several.push((first, end));
                Found::several(classes.several.len() - 1)
            };
            found.insert(own[0].class, one.unwrap_or_else(several));
            first = end;
        }
        (classes, found)
    }

    fn one(
        &mut self,
        port_box: &PortBox,
        shapes: &mut HashMap<Shape, usize>,
        inspections: &mut HashMap<(L7ChainId, AnswerId), usize>,
    ) -> Option<Found> {
        let (kind, answer) = match port_box.action {
            Action::Answer(id) => (Kind::Answer, u32::from(id.0)),
            Action::Learn(id) => (Kind::Learn, u32::from(id.0)),
            Action::Inspect { chain, opaque } => {
                let at = number((chain, opaque), &mut self.inspections, inspections, INSPECTIONS_MAX)?;
                (Kind::Inspect, at)
            }
            Action::Choose { .. } => return None,
        };
        let PortBox { protocol_first, protocol_last, ports, .. } = port_box;
        let protocols = (protocol_first.0, protocol_last.0);
        let shape = Shape { ports: (ports.first(), ports.last()), protocols, kind };
        let shape = number(shape, &mut self.shapes, shapes, SHAPES_MAX)?;
        Some(Found(ONE | shape << ANSWER_BITS | answer))
    }

    /// The action for a protocol and port of whoever leads here, among all boxes.
    pub(super) fn action(
        &self,
        Found(found): Found,
        boxes: &[PortBox],
        protocol: L4Protocol,
        port: u16,
    ) -> Option<Action> {
        if found & ONE == 0 {
            let (first, end) = *self.several.get(found.checked_sub(1)? as usize)?;
            return box_at(boxes.get(first as usize..end as usize)?, protocol, port);
        }
        let shape = self.shapes.get(((found & !ONE) >> ANSWER_BITS) as usize)?;
        let (first, last) = shape.ports;
        if !(shape.protocols.0..=shape.protocols.1).contains(&protocol.0) || port < first || last < port {
            return None;
        }
        let [low, high, ..] = found.to_le_bytes();
        let answer = u16::from_le_bytes([low, high]);
        match shape.kind {
            Kind::Answer => Some(Action::Answer(AnswerId(answer))),
            Kind::Learn => Some(Action::Learn(AnswerId(answer))),
            Kind::Inspect => {
                let (chain, opaque) = *self.inspections.get(usize::from(answer))?;
                Some(Action::Inspect { chain, opaque })
            }
        }
    }
}

/// The number of an item, given to it if it has none; `None` where too many have one.
fn number<T: Copy + Eq + Hash>(
    item: T,
    items: &mut Vec<T>,
    known: &mut HashMap<T, usize>,
    most: usize,
) -> Option<u32> {
    if !known.contains_key(&item) && items.len() < most {
        known.insert(item, items.len());
        items.push(item);
    }
    known.get(&item).and_then(|at| u32::try_from(*at).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_facts::PortRange;

    fn port_box(class: u32, port: u16, action: Action) -> PortBox {
        PortBox {
            class: ClassId(class),
            protocol_first: L4Protocol::TCP,
            protocol_last: L4Protocol::TCP,
            ports: PortRange::single(port),
            action,
        }
    }

    /// More shapes, and more ways to inspect, than are told apart.
    #[test]
    fn every_class_leads_to_its_own_boxes_however_many_there_are() {
        let inspect = |n: u32| Action::Inspect { chain: L7ChainId(n), opaque: AnswerId(7) };
        let answer = |n: u16| Action::Answer(AnswerId(n));
        let mut boxes: Vec<PortBox> = (0..40_000u16).map(|n| port_box(n.into(), n, answer(n))).collect();
        boxes.extend((40_000..120_000u32).map(|n| port_box(n, 80, inspect(n))));
        boxes.push(port_box(120_000, 80, Action::Learn(AnswerId(3))));
        boxes.extend([port_box(120_001, 80, answer(1)), port_box(120_001, 81, answer(2))]);
        let (classes, found) = Classes::new(&boxes);
        assert_eq!((classes.shapes.len(), classes.inspections.len()), (SHAPES_MAX, INSPECTIONS_MAX));
        for b in &boxes {
            let ask = |port| classes.action(found[&b.class], &boxes, L4Protocol::TCP, port);
            assert_eq!(ask(b.ports.first()), Some(b.action), "{:?}", b.class);
            assert_eq!(ask(u16::MAX), None, "{:?}", b.class);
        }
        assert_eq!(classes.action(Found::NOTHING, &boxes, L4Protocol::TCP, 80), None);
    }
}

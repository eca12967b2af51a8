//! What an address leads to: the only box of its class, or where the boxes of its class are.
//!
//! Most classes have one box. It is kept beside the address, in 12 bytes, so that one line of the cache answers: with ten
//! thousand peers that is what a look-up costs.

use crate::program::{Action, AnswerId, ClassId, L7ChainId, PortBox};
use bulkhead_facts::L4Protocol;
use std::collections::HashMap;
use std::ops::Range;

/// What is known of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    /// No box.
    #[default]
    Nothing,
    /// One box.
    One(SmallBox),
    /// Several: positions of the first and the one after the last.
    Several(u32, u32),
}

/// A box without its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SmallBox {
    ports: (u16, u16),
    protocols: (u8, u8),
    action: SmallAction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SmallAction {
    Answer(u16),
    Learn(u16),
    /// Position in [`ByClass::inspections`].
    Inspect(u16),
}

/// What the boxes of each class come to.
#[derive(Clone, Debug, Default)]
pub(super) struct ByClass {
    found: HashMap<ClassId, Found>,
    inspections: Vec<(L7ChainId, AnswerId)>,
}

impl ByClass {
    /// Boxes sorted by class.
    pub(super) fn new(boxes: &[PortBox]) -> Self {
        let mut by_class = Self::default();
        let mut known = HashMap::new();
        let mut first = 0;
        for own in boxes.chunk_by(|one, other| one.class == other.class) {
            let range = first..first + own.len();
            first = range.end;
            let small = if let [only] = own { by_class.small(only, &mut known) } else { None };
            by_class.found.insert(own[0].class, small.map_or_else(|| several(range), Found::One));
        }
        by_class
    }

    /// What the addresses of a class lead to.
    pub(super) fn found(&self, class: ClassId) -> Found {
        self.found.get(&class).copied().unwrap_or_default()
    }

    /// Which ways to inspect there are, in the order that small boxes name them in.
    pub(super) fn into_inspections(self) -> Vec<(L7ChainId, AnswerId)> {
        self.inspections
    }

    /// `None` if there are more ways to inspect than a small box can name.
    fn small(
        &mut self,
        port_box: &PortBox,
        known: &mut HashMap<(L7ChainId, AnswerId), u16>,
    ) -> Option<SmallBox> {
        let action = match port_box.action {
            Action::Answer(id) => SmallAction::Answer(id.0),
            Action::Learn(id) => SmallAction::Learn(id.0),
            Action::Inspect { chain, opaque } => {
                let next = u16::try_from(self.inspections.len()).ok();
                let at = known.get(&(chain, opaque)).copied().or(next)?;
                if known.insert((chain, opaque), at).is_none() {
                    self.inspections.push((chain, opaque));
                }
                SmallAction::Inspect(at)
            }
        };
        let PortBox { protocol_first, protocol_last, ports, .. } = port_box;
        Some(SmallBox {
            ports: (ports.first(), ports.last()),
            protocols: (protocol_first.0, protocol_last.0),
            action,
        })
    }
}

/// Programs hold fewer boxes than 32 bits count, which [`super::validate`] checked before.
fn several(range: Range<usize>) -> Found {
    let at = |position| u32::try_from(position).unwrap_or(u32::MAX);
    Found::Several(at(range.start), at(range.end))
}

impl SmallBox {
    /// Its action, if it covers the protocol and port.
    pub(super) fn action(
        self,
        protocol: L4Protocol,
        port: u16,
        inspections: &[(L7ChainId, AnswerId)],
    ) -> Option<Action> {
        let (first, last) = self.ports;
        let covers =
            (self.protocols.0..=self.protocols.1).contains(&protocol.0) && first <= port && port <= last;
        if !covers {
            return None;
        }
        match self.action {
            SmallAction::Answer(id) => Some(Action::Answer(AnswerId(id))),
            SmallAction::Learn(id) => Some(Action::Learn(AnswerId(id))),
            SmallAction::Inspect(at) => {
                let (chain, opaque) = inspections.get(usize::from(at)).copied()?;
                Some(Action::Inspect { chain, opaque })
            }
        }
    }
}

//! From line-ups to the tables of a program.
//!
//! Classes whose boxes are equal become one, classes without boxes vanish (what they miss is denied anyway), and the rest
//! are numbered by first appearance.

use super::boxes::{BoxBuilder, Cell};
use super::classes::{Classes, Span, classes};
use super::cluster::Cluster;
use super::intern::{Interner, TooMany};
use super::intervals::Number;
use super::lineup::Lineup;
use super::named::named_classes;
use super::services::ServiceTrouble;
use crate::limits::{BOXES_MAX, CLASSES_MAX, SPANS_MAX};
use crate::program::{AddressSpan, AnswerPair, Choice, ClassId, DirectionProgram, L7Chain, PortBox};
use bulkhead_facts::{IpFamily, L4Protocol};
use std::collections::HashMap;

/// The tables of a program.
pub(crate) struct Emitted {
    pub(crate) answers: Vec<AnswerPair>,
    pub(crate) chains: Vec<L7Chain>,
    pub(crate) choices: Vec<Choice>,
    pub(crate) ingress: DirectionProgram,
    pub(crate) egress: DirectionProgram,
    pub(crate) troubles: Vec<ServiceTrouble>,
}

/// Builds the tables of both directions.
pub(crate) fn emit(cluster: &Cluster<'_>, [ingress, egress]: [&Lineup<'_>; 2]) -> Result<Emitted, TooMany> {
    let mut interner = Interner::new();
    let mut troubles = Vec::new();
    let ingress = direction(cluster, ingress, &mut interner, &mut troubles)?;
    let egress = direction(cluster, egress, &mut interner, &mut troubles)?;
    let Interner { answers, chains, choices, .. } = interner;
    Ok(Emitted { answers, chains, choices, ingress, egress, troubles })
}

fn direction(
    cluster: &Cluster<'_>,
    lineup: &Lineup<'_>,
    interner: &mut Interner,
    troubles: &mut Vec<ServiceTrouble>,
) -> Result<DirectionProgram, TooMany> {
    let classes = classes(cluster, lineup);
    let mut builder = BoxBuilder::new(cluster, lineup, &classes, interner);
    let mut merged = Merged { ids: HashMap::new(), boxes: Vec::new() };
    let v4_class_ids = merged.family(&mut builder, &classes, &classes.v4, true)?;
    let v6_class_ids = merged.family(&mut builder, &classes, &classes.v6, false)?;
    let (v4, v6) = ((&classes.v4, &v4_class_ids), (&classes.v6, &v6_class_ids));
    let mut named = named_classes(&mut builder, &mut merged, &classes, v4.0, v4.1, IpFamily::V4)?;
    named.extend(named_classes(&mut builder, &mut merged, &classes, v6.0, v6.1, IpFamily::V6)?);
    troubles.append(&mut builder.troubles);
    let v4 = spans(&classes.v4, &v4_class_ids);
    let v6 = spans(&classes.v6, &v6_class_ids);
    at_most("peer classes", merged.ids.len(), CLASSES_MAX)?;
    at_most("address spans", v4.len().max(v6.len()), SPANS_MAX)?;
    at_most("port boxes", merged.boxes.len(), BOXES_MAX)?;
    Ok(DirectionProgram { v4, v6, boxes: merged.boxes, named })
}

/// Lists of boxes, each under one class id.
pub(super) struct Merged {
    ids: HashMap<Vec<Cell>, ClassId>,
    boxes: Vec<PortBox>,
}

impl Merged {
    /// The class id of each key that the family's spans use; `None` where nothing but answer 0 holds.
    fn family<N: Number>(
        &mut self,
        builder: &mut BoxBuilder<'_, '_>,
        classes: &Classes,
        spans: &[Span<N>],
        v4: bool,
    ) -> Result<HashMap<usize, Option<ClassId>>, TooMany> {
        let mut by_key = HashMap::new();
        for (_, _, key) in spans {
            if !by_key.contains_key(key) {
                let cells = builder.boxes(&classes.keys[*key], v4)?;
                // What lies inside is told from the outside where a name might lead there.
                let kept =
                    !cells.is_empty() || classes.keys[*key].is_never_named() && builder.lineup.has_names();
                by_key.insert(*key, kept.then(|| self.id(cells)));
            }
        }
        Ok(by_key)
    }

    /// The class with these boxes.
    pub(super) fn id(&mut self, cells: Vec<Cell>) -> ClassId {
        if let Some(id) = self.ids.get(&cells) {
            return *id;
        }
        // Class 0 stays free for "none".
        let class = ClassId(u32::try_from(self.ids.len() + 1).unwrap_or(u32::MAX));
        self.boxes.extend(cells.iter().map(|cell| PortBox {
            class,
            protocol_first: L4Protocol(cell.protocol_first),
            protocol_last: L4Protocol(cell.protocol_last),
            ports: cell.ports,
            action: cell.action,
        }));
        self.ids.insert(cells, class);
        class
    }
}

fn spans<N: Number>(spans: &[Span<N>], ids: &HashMap<usize, Option<ClassId>>) -> Vec<AddressSpan<N>> {
    let mut out: Vec<AddressSpan<N>> = Vec::new();
    for (first, last, key) in spans {
        let Some(class) = ids.get(key).copied().flatten() else { continue };
        match out.last_mut() {
            Some(before) if before.class == class && before.last.next() == Some(*first) => {
                before.last = *last
            }
            Some(_) | None => out.push(AddressSpan { first: *first, last: *last, class }),
        }
    }
    out
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), TooMany> {
    if count > limit { Err(TooMany { what, limit }) } else { Ok(()) }
}

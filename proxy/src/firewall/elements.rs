//! A program's tables as elements of the kernel's maps: a serialisation, no decision of its own.
//!
//! First map: address to class, per direction and family. Second map: class, protocol and port to a mark. Spans and
//! boxes of a program are disjoint, as the kernel demands.

use super::mark::{Class, Mark};
use super::sets::{PerGeneration, class_map};
use bulkhead_facts::{Direction, Effect, IpFamily, L4Protocol};
use bulkhead_netfilter::{Element, Key, Set};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, AddressSpan, AnswerId, ClassId, DirectionProgram, PortBox};

/// The maps of a generation with their elements.
pub(super) fn of_program(generation: u16, judge: &Judge) -> Vec<(Set, Vec<Element>)> {
    Direction::BOTH
        .into_iter()
        .flat_map(|direction| {
            let tables = tables(judge, direction);
            let sets = PerGeneration { direction, generation };
            [
                (class_map(sets, IpFamily::V4), spans(&tables.v4, |address| Key::new().v4(address.into()))),
                (class_map(sets, IpFamily::V6), spans(&tables.v6, |address| Key::new().v6(address.into()))),
                (super::sets::port_map(sets), boxes(&tables.boxes, generation, judge)),
            ]
        })
        .collect()
}

/// Spans and boxes of both directions.
pub(super) fn count(judge: &Judge) -> usize {
    Direction::BOTH
        .into_iter()
        .map(|direction| tables(judge, direction))
        .map(|tables| tables.v4.len() + tables.v6.len() + tables.boxes.len())
        .sum()
}

fn tables(judge: &Judge, direction: Direction) -> &DirectionProgram {
    match direction {
        Direction::Ingress => &judge.program().ingress,
        Direction::Egress => &judge.program().egress,
    }
}

fn spans<A: Copy>(spans: &[AddressSpan<A>], key: impl Fn(A) -> Key) -> Vec<Element> {
    spans
        .iter()
        .map(|span| {
            Element::range(key(span.first), key(span.last)).data(Key::new().mark(class_key(span.class)))
        })
        .collect()
}

/// Classes travel in the packet mark between the two look-ups; 0 is left to "no class".
fn class_key(class: ClassId) -> u32 {
    class.0.wrapping_add(1)
}

fn boxes(boxes: &[PortBox], generation: u16, judge: &Judge) -> Vec<Element> {
    let mut elements = Vec::with_capacity(boxes.len());
    for b in boxes {
        for (first, last) in around_tcp(b) {
            let (class, answer) = class_of(b.action, first == L4Protocol::TCP, judge);
            let key = |protocol: L4Protocol, port| {
                Key::new().mark(class_key(b.class)).protocol(protocol.0).port(port)
            };
            let mark = Mark { generation, class, answer }.bits();
            let range = Element::range(key(first, b.ports.first()), key(last, b.ports.last()));
            elements.push(range.data(Key::new().mark(mark)));
        }
    }
    elements
}

/// The protocols of a box; where TCP is treated differently from others, in up to three parts.
fn around_tcp(b: &PortBox) -> Vec<(L4Protocol, L4Protocol)> {
    let whole = (b.protocol_first, b.protocol_last);
    let holds_tcp = whole.0 <= L4Protocol::TCP && L4Protocol::TCP <= whole.1;
    if matches!(b.action, Action::Answer(_)) || !holds_tcp {
        return vec![whole];
    }
    let below = L4Protocol(L4Protocol::TCP.0 - 1);
    let above = L4Protocol(L4Protocol::TCP.0 + 1);
    [(whole.0, below), (L4Protocol::TCP, L4Protocol::TCP), (above, whole.1)]
        .into_iter()
        .filter(|(first, last)| first <= last)
        .collect()
}

/// What the kernel does. Only TCP can be inspected: other protocols get the answer for what cannot be read where
/// inspection is asked for, and pass by themselves where it is only to learn.
fn class_of(action: Action, is_tcp: bool, judge: &Judge) -> (Class, AnswerId) {
    match action {
        Action::Answer(answer) => (by_effect(answer, judge), answer),
        Action::Inspect { chain, opaque } if is_tcp && judge.only_learns(chain, opaque) => {
            (Class::Learn, opaque)
        }
        Action::Inspect { opaque, .. } if is_tcp => (Class::InspectTcp, opaque),
        Action::Inspect { opaque, .. } => (by_effect(opaque, judge), opaque),
        Action::Learn(answer) => match by_effect(answer, judge) {
            Class::KernelAllow if is_tcp => (Class::Learn, answer),
            class => (class, answer),
        },
    }
}

fn by_effect(answer: AnswerId, judge: &Judge) -> Class {
    match judge.answer(answer).enforced.effect {
        Effect::Allow => Class::KernelAllow,
        Effect::Deny => Class::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_facts::PortRange;

    fn judge() -> Judge {
        Judge::new(crate::test_program::allowing_egress_to([10, 0, 0, 9].into(), 1)).expect("valid")
    }

    fn one_box(protocols: (u8, u8), action: Action) -> PortBox {
        PortBox {
            class: ClassId(0),
            protocol_first: L4Protocol(protocols.0),
            protocol_last: L4Protocol(protocols.1),
            ports: PortRange::ALL,
            action,
        }
    }

    #[test]
    fn a_box_over_all_protocols_is_cut_at_tcp_only_where_tcp_is_inspected() {
        let parts = |action| around_tcp(&one_box((0, 255), action)).len();
        assert_eq!(parts(Action::Answer(AnswerId(0))), 1);
        assert_eq!(parts(Action::Learn(AnswerId(1))), 3);
        assert_eq!(around_tcp(&one_box((6, 6), Action::Learn(AnswerId(1)))).len(), 1);
        assert_eq!(around_tcp(&one_box((17, 17), Action::Learn(AnswerId(1)))).len(), 1);
        assert_eq!(around_tcp(&one_box((0, 6), Action::Learn(AnswerId(1)))).len(), 2);
    }

    #[test]
    fn what_is_not_tcp_gets_the_opaque_answer_where_inspection_is_asked_for() {
        let inspect = |opaque| Action::Inspect {
            chain: bulkhead_policies::program::L7ChainId(0),
            opaque: AnswerId(opaque),
        };
        assert_eq!(class_of(inspect(0), true, &judge()).0, Class::InspectTcp);
        assert_eq!(class_of(inspect(0), false, &judge()).0, Class::Denied);
    }

    #[test]
    fn the_elements_of_a_program_name_its_answers_and_generation() {
        let sets = of_program(7, &judge());
        assert_eq!(sets.len(), 6);
        let ports = sets.iter().find(|(set, _)| set.name() == "egress_ports_7").expect("the map");
        let allow = Mark { generation: 7, class: Class::KernelAllow, answer: AnswerId(1) };
        let expected = Key::new().mark(allow.bits());
        assert!(ports.1.iter().any(|element| *element == element.clone().data(expected.clone())));
        assert_eq!(count(&judge()), sets.iter().map(|(_, elements)| elements.len()).sum::<usize>());
    }
}

//! A program's tables as elements of the kernel's maps: a serialisation, no decision of its own.
//!
//! First map: address to class, per direction and family. Second map: class, protocol and port to a mark. Spans and
//! boxes of a program are disjoint, as the kernel demands.

use super::mark::{Class, Mark};
use super::sets::{Maps, class_map};
use bulkhead_facts::{Direction, Effect, IpFamily, L4Protocol, PortRange};
use bulkhead_netfilter::{Element, Key, Set};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, AddressSpan, AnswerId, ClassId, DirectionProgram, PortBox};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

/// The maps of that number with their elements.
pub(super) fn of_program(number: u16, judge: &Judge) -> Vec<(Set, Vec<Element>)> {
    Direction::BOTH
        .into_iter()
        .flat_map(|direction| {
            let tables = tables(judge, direction);
            let sets = Maps { direction, number };
            [
                (class_map(sets, IpFamily::V4), spans_v4(&tables.v4)),
                (class_map(sets, IpFamily::V6), spans_v6(&tables.v6)),
                (super::sets::port_map(sets), boxes(&tables.boxes, direction, judge)),
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

/// True if there may be flows for the inspector.
pub(super) fn captures(judge: &Judge) -> bool {
    let mut boxes = Direction::BOTH.into_iter().flat_map(|direction| &tables(judge, direction).boxes);
    judge.has_names() || boxes.any(|b| !matches!(b.action, Action::Answer(_)))
}

/// True if there may be UDP for the inspector.
pub(super) fn inspects_datagrams(judge: &Judge) -> bool {
    let mut boxes = Direction::BOTH.into_iter().flat_map(|direction| &tables(judge, direction).boxes);
    let holds_udp = |b: &PortBox| b.protocol_first <= L4Protocol::UDP && L4Protocol::UDP <= b.protocol_last;
    let learned = learns_questions(&judge.program().egress.boxes);
    judge.has_names() || learned || boxes.any(|b| holds_udp(b) && matches!(b.action, Action::Inspect { .. }))
}

/// What the kernel does with an open connection of TCP with that peer; `named` are its classes by names, in the order in which
/// they are asked.
pub(super) fn class_of_stream(
    judge: &Judge,
    direction: Direction,
    (peer, port): (IpAddr, u16),
    named: impl Iterator<Item = ClassId>,
) -> Class {
    let box_of = |class: ClassId| {
        let holds = |b: &&PortBox| {
            let tcp = b.protocol_first <= L4Protocol::TCP && L4Protocol::TCP <= b.protocol_last;
            b.class == class && tcp && b.ports.contains(port)
        };
        tables(judge, direction).boxes.iter().find(holds)
    };
    let by_name = named.filter_map(box_of).map(|b| b.action).next();
    let action = by_name.unwrap_or_else(|| judge.action(direction, peer, L4Protocol::TCP, port));
    let asks = direction == Direction::Egress && judge.has_names() && port == NAME_SERVER_PORT;
    match class_of(action, Some(Carrier::Tcp), judge).0 {
        // See [`parts`].
        Class::KernelAllow if asks => Class::InspectTcp,
        class => class,
    }
}

/// True if questions to name servers are read to learn from them.
fn learns_questions(egress: &[PortBox]) -> bool {
    egress.iter().any(|b| matches!(b.action, Action::Learn(_)) && b.ports.contains(NAME_SERVER_PORT))
}

/// True if TCP that was not inspected may be by the second program. By spans, whose cut may differ where their meaning does not;
/// names lead to other addresses from moment to moment.
pub(super) fn inspects_more(before: &Judge, after: &Judge) -> bool {
    let changes = |d| !inspected_streams(after, d).is_subset(&inspected_streams(before, d));
    before.has_names() || after.has_names() || Direction::BOTH.into_iter().any(changes)
}

/// First and last address, as IPv6 or mapped into it, and ports.
type Span = (u128, u128, PortRange);

fn inspected_streams(judge: &Judge, direction: Direction) -> HashSet<Span> {
    let tables = tables(judge, direction);
    let holds_tcp = |b: &PortBox| b.protocol_first <= L4Protocol::TCP && L4Protocol::TCP <= b.protocol_last;
    let mut ports: HashMap<ClassId, Vec<PortRange>> = HashMap::new();
    for b in tables.boxes.iter().filter(|b| holds_tcp(b)) {
        if let Class::InspectTcp | Class::Led = class_of(b.action, Some(Carrier::Tcp), judge).0 {
            ports.entry(b.class).or_default().push(b.ports);
        }
    }
    let mapped = |address: u32| u128::from(Ipv4Addr::from(address).to_ipv6_mapped());
    let v4 = tables.v4.iter().map(|span| (span.class, mapped(span.first), mapped(span.last)));
    let v6 = tables.v6.iter().map(|span| (span.class, span.first, span.last));
    v4.chain(v6)
        .filter_map(|(class, first, last)| Some((ports.get(&class)?, first, last)))
        .flat_map(|(ports, first, last)| ports.iter().map(move |ports| (first, last, *ports)))
        .collect()
}

fn tables(judge: &Judge, direction: Direction) -> &DirectionProgram {
    match direction {
        Direction::Ingress => &judge.program().ingress,
        Direction::Egress => &judge.program().egress,
    }
}

/// Addresses with their classes, as elements of the first map.
pub(super) fn spans_v4(of: &[AddressSpan<u32>]) -> Vec<Element> {
    spans(of, |address| Key::new().v4(address.into()))
}

/// Likewise.
pub(super) fn spans_v6(of: &[AddressSpan<u128>]) -> Vec<Element> {
    spans(of, |address| Key::new().v6(address.into()))
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
pub(super) fn class_key(class: ClassId) -> u32 {
    class.0.wrapping_add(1)
}

/// What classes may do, as elements of the second map. Their marks have no generation: that is the chains'.
pub(super) fn boxes(boxes: &[PortBox], direction: Direction, judge: &Judge) -> Vec<Element> {
    let mut elements = Vec::with_capacity(boxes.len());
    for b in boxes {
        for part in parts(b, direction, judge) {
            let key = |protocol: L4Protocol, port| {
                Key::new().mark(class_key(b.class)).protocol(protocol.0).port(port)
            };
            let mark = Mark { generation: 0, class: part.class, answer: part.answer }.bits();
            let (first, last) = part.protocols;
            let range = Element::range(key(first, part.ports.first()), key(last, part.ports.last()));
            elements.push(range.data(Key::new().mark(mark)));
        }
    }
    elements
}

/// Protocols and ports that the kernel treats alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    protocols: (L4Protocol, L4Protocol),
    ports: PortRange,
    class: Class,
    answer: AnswerId,
}

/// A box, cut where TCP and UDP are treated differently from others, and where questions to name servers are read though
/// their answer is settled: a program that has names learns their addresses from them, and one under observation what is
/// asked for.
fn parts(b: &PortBox, direction: Direction, judge: &Judge) -> Vec<Part> {
    let asks = direction == Direction::Egress && b.ports.contains(NAME_SERVER_PORT);
    let learns_names = asks && judge.has_names();
    let settled = matches!(b.action, Action::Answer(answer) if by_effect(answer, judge) == Class::Denied || !learns_names);
    if settled {
        let (class, answer) = class_of(b.action, None, judge);
        return vec![Part { protocols: (b.protocol_first, b.protocol_last), ports: b.ports, class, answer }];
    }
    let mut parts = Vec::new();
    for (protocols, carrier) in around_carriers(b) {
        let (class, answer) = class_of(b.action, carrier, judge);
        let captured = match carrier {
            Some(Carrier::Tcp) if class == Class::KernelAllow && learns_names => Class::InspectTcp,
            Some(Carrier::Udp) if class == Class::KernelAllow && learns_names => Class::InspectUdp,
            Some(Carrier::Udp)
                if class == Class::KernelAllow && asks && matches!(b.action, Action::Learn(_)) =>
            {
                Class::Learn
            }
            Some(_) | None => {
                parts.push(Part { protocols, ports: b.ports, class, answer });
                continue;
            }
        };
        let around = [
            (b.ports.first(), NAME_SERVER_PORT - 1, class),
            (NAME_SERVER_PORT, NAME_SERVER_PORT, captured),
            (NAME_SERVER_PORT + 1, b.ports.last(), class),
        ];
        parts.extend(around.into_iter().filter_map(|(first, last, class)| {
            PortRange::new(first, last).map(|ports| Part { protocols, ports, class, answer })
        }));
    }
    parts
}

/// Where name servers are asked.
pub(super) const NAME_SERVER_PORT: u16 = 53;

/// A protocol whose bytes can be inspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Tcp,
    Udp,
}

/// The protocols of a box: the two that can be inspected alone, the others between them.
fn around_carriers(b: &PortBox) -> Vec<((L4Protocol, L4Protocol), Option<Carrier>)> {
    let (tcp, udp) = (L4Protocol::TCP.0, L4Protocol::UDP.0);
    let ranges = [
        (0, tcp - 1, None),
        (tcp, tcp, Some(Carrier::Tcp)),
        (tcp + 1, udp - 1, None),
        (udp, udp, Some(Carrier::Udp)),
        (udp + 1, u8::MAX, None),
    ];
    let within = ranges.into_iter().map(|(first, last, carrier)| {
        let protocols = (b.protocol_first.max(L4Protocol(first)), b.protocol_last.min(L4Protocol(last)));
        (protocols, carrier)
    });
    within.filter(|((first, last), _)| first <= last).collect()
}

/// What the kernel does. Only TCP and UDP can be inspected: other protocols get the answer for what cannot be read where
/// inspection is asked for, and pass by themselves where it is only to learn. Of UDP nothing is learned but what sections
/// ask for, and questions to name servers (see [`parts`]).
fn class_of(action: Action, carrier: Option<Carrier>, judge: &Judge) -> (Class, AnswerId) {
    match (action, carrier) {
        (Action::Answer(answer), _) => (by_effect(answer, judge), answer),
        (Action::Choose { otherwise, .. }, Some(Carrier::Tcp)) => (Class::Led, otherwise),
        (Action::Choose { otherwise, .. }, _) => (by_effect(otherwise, judge), otherwise),
        (Action::Inspect { chain, opaque }, Some(_)) if judge.only_learns(chain, opaque) => {
            (Class::Learn, opaque)
        }
        (Action::Inspect { opaque, .. }, Some(Carrier::Tcp)) => (Class::InspectTcp, opaque),
        (Action::Inspect { opaque, .. }, Some(Carrier::Udp)) => (Class::InspectUdp, opaque),
        (Action::Inspect { opaque, .. }, None) => (by_effect(opaque, judge), opaque),
        (Action::Learn(answer), carrier) => match by_effect(answer, judge) {
            Class::KernelAllow if carrier == Some(Carrier::Tcp) => (Class::Learn, answer),
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
    use bulkhead_policies::program::{L7Chain, L7ChainId, NamedClass};

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
    fn only_what_was_not_inspected_before_is_looked_for() {
        const PORT: u16 = 5432;
        let of = |address: [u8; 4], port, inspects: bool| {
            let mut program = crate::test_program::allowing_egress_to(address.into(), 1);
            let opaque = AnswerId(1);
            program.l7_chains = vec![L7Chain { enforced: Vec::new(), shadow: Vec::new(), end: AnswerId(0) }];
            program.egress.boxes[0].ports = PortRange::single(port);
            if inspects {
                program.egress.boxes[0].action = Action::Inspect { chain: L7ChainId(0), opaque };
            }
            Judge::new(program).expect("valid")
        };
        let (one, other) = ([10, 0, 0, 9], [10, 0, 0, 10]);
        let inspected = of(one, PORT, true);
        for (before, after, expected) in [
            (of(one, PORT, false), &inspected, true),
            (of(other, PORT, true), &inspected, true),
            (of(one, PORT + 1, true), &inspected, true),
            (of(one, PORT, true), &inspected, false),
            (of(one, PORT, true), &of(one, PORT, false), false),
            (of(one, PORT, true), &of(other, PORT, false), false),
        ] {
            assert_eq!(inspects_more(&before, after), expected);
        }
    }

    #[test]
    fn a_box_over_all_protocols_is_cut_at_tcp_and_udp_only_where_they_are_inspected() {
        let count =
            |protocols, action| parts(&one_box(protocols, action), Direction::Ingress, &judge()).len();
        assert_eq!(count((0, 255), Action::Answer(AnswerId(0))), 1);
        assert_eq!(count((0, 255), Action::Learn(AnswerId(1))), 5);
        for (protocols, parts) in [((6, 6), 1), ((17, 17), 1), ((0, 6), 2), ((7, 16), 1), ((6, 17), 3)] {
            assert_eq!(count(protocols, Action::Learn(AnswerId(1))), parts, "{protocols:?}");
        }
    }

    #[test]
    fn questions_to_name_servers_are_learned_from_and_no_other_datagrams() {
        let learn = one_box((0, 255), Action::Learn(AnswerId(1)));
        let class = |direction, port| {
            let parts = parts(&learn, direction, &judge());
            let holds = |part: &&Part| {
                let (first, last) = part.protocols;
                first <= L4Protocol::UDP && L4Protocol::UDP <= last && part.ports.contains(port)
            };
            let found: Vec<Class> = parts.iter().filter(holds).map(|part| part.class).collect();
            assert_eq!(found.len(), 1, "{direction} {port}: {found:?}");
            found[0]
        };
        assert_eq!(class(Direction::Egress, 53), Class::Learn);
        for (direction, port) in [(Direction::Egress, 52), (Direction::Egress, 54), (Direction::Ingress, 53)]
        {
            assert_eq!(class(direction, port), Class::KernelAllow, "{direction} {port}");
        }
        assert!(learns_questions(&[learn]));
        assert!(!learns_questions(&[one_box((0, 255), Action::Answer(AnswerId(1)))]));
    }

    #[test]
    fn what_is_neither_tcp_nor_udp_gets_the_opaque_answer_where_inspection_is_asked_for() {
        let inspect = |opaque| Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(opaque) };
        assert_eq!(class_of(inspect(0), Some(Carrier::Tcp), &judge()).0, Class::InspectTcp);
        assert_eq!(class_of(inspect(0), Some(Carrier::Udp), &judge()).0, Class::InspectUdp);
        assert_eq!(class_of(inspect(0), None, &judge()).0, Class::Denied);
    }

    #[test]
    fn questions_to_name_servers_are_captured_where_the_program_has_names() {
        let mut program = crate::test_program::allowing_egress_to([10, 0, 0, 9].into(), 1);
        let allow = one_box((0, 255), Action::Answer(AnswerId(1)));
        assert_eq!(parts(&allow, Direction::Egress, &judge()).len(), 1);
        let named = NamedClass { family: IpFamily::V4, base: None, rules: vec![], class: ClassId(0) };
        program.egress.named = vec![named];
        let judge = Judge::new(program).expect("valid");
        let found = parts(&allow, Direction::Egress, &judge);
        assert_eq!(found.len(), 3 + 2 * 3);
        let captured: Vec<_> = found.iter().filter(|part| part.class != Class::KernelAllow).collect();
        assert_eq!(
            captured.iter().map(|part| part.class).collect::<Vec<_>>(),
            [Class::InspectTcp, Class::InspectUdp]
        );
        assert!(captured.iter().all(|part| part.ports == PortRange::single(53)));
        assert_eq!(parts(&allow, Direction::Ingress, &judge).len(), 1);
        assert_eq!(
            parts(&one_box((0, 255), Action::Answer(AnswerId(0))), Direction::Egress, &judge).len(),
            1
        );
    }

    #[test]
    fn an_open_connection_has_the_class_of_its_peer_by_name_before_that_by_address() {
        let mut program = crate::test_program::allowing_egress_to([10, 0, 0, 9].into(), 1);
        let allowed = program.egress.boxes[0].class;
        let of = |judge: &Judge, port, named: &[ClassId]| {
            let peer = ([10, 0, 0, 10].into(), port);
            class_of_stream(judge, Direction::Egress, peer, named.iter().copied())
        };
        assert_eq!(of(&judge(), 5432, &[]), Class::Denied);
        assert_eq!(of(&judge(), 5432, &[ClassId(7), allowed]), Class::KernelAllow);
        assert_eq!(of(&judge(), 80, &[allowed]), Class::Denied);
        program.egress.boxes[0].ports = PortRange::ALL;
        program.egress.named =
            vec![NamedClass { family: IpFamily::V4, base: None, rules: vec![], class: allowed }];
        let with_names = Judge::new(program).expect("valid");
        assert_eq!(of(&with_names, NAME_SERVER_PORT, &[allowed]), Class::InspectTcp);
        assert_eq!(of(&with_names, 80, &[allowed]), Class::KernelAllow);
    }

    #[test]
    fn the_elements_of_a_program_name_its_answers() {
        let sets = of_program(7, &judge());
        assert_eq!(sets.len(), 6);
        let ports = sets.iter().find(|(set, _)| set.name() == "egress_ports_7").expect("the map");
        let allow = Mark { generation: 0, class: Class::KernelAllow, answer: AnswerId(1) };
        let expected = Key::new().mark(allow.bits());
        assert!(ports.1.iter().any(|element| *element == element.clone().data(expected.clone())));
        assert_eq!(count(&judge()), sets.iter().map(|(_, elements)| elements.len()).sum::<usize>());
    }
}

//! Every flow of an inventory: between pods, by Services, and with the outside.

use super::extent::{Delta, Gates, compare};
use super::{Change, Difference, Example, Reset, Side};
use crate::decide::Judge;
use crate::inventory::{Inventory, ObjectName, Pod};
use crate::program::{Action, ClassId};
use crate::questions::Version;
use crate::space::{
    Block, Gate, Hop, Programs, ProtocolRange, Ways, boxes, class_of, held, names_told_apart, overlay,
    segments,
};
use bulkhead_facts::{Direction, Effect, HostName, L4Protocol, PortRange};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

/// One end with its old and its new judge.
#[derive(Clone, Copy)]
struct Door<'j> {
    direction: Direction,
    numbers: [usize; 2],
    judges: [&'j Judge; 2],
    /// Both programs are equal.
    same: bool,
}

/// A door with the classes that its peer has, old and new.
type Classed<'j> = (Door<'j>, [Option<ClassId>; 2]);

/// What changes on some protocols and ports, and where flows are cut.
struct CellChange {
    protocols: ProtocolRange,
    ports: PortRange,
    deltas: Vec<Delta>,
    resets: Vec<Direction>,
}

/// The pods of a flow.
type Pair = (Option<ObjectName>, Option<ObjectName>);

/// Programs, actions, protocol and port of a flow by a Service.
type ServiceKey = ([[usize; 2]; 2], [Vec<Action>; 2], L4Protocol, u16);

type MemoKey = Vec<([usize; 2], [Option<ClassId>; 2])>;

pub(super) struct Walk<'a> {
    old: &'a Programs,
    new: &'a Programs,
    inventory: &'a Inventory,
    versions: [Version; 2],
    held: BTreeSet<IpAddr>,
    ways: Rc<Ways<'a>>,
    same: HashMap<[usize; 2], bool>,
    memo: HashMap<MemoKey, Rc<Vec<CellChange>>>,
    by_service: HashMap<ServiceKey, Rc<Vec<CellChange>>>,
    changes: BTreeMap<String, (Change, BTreeSet<Pair>)>,
    resets: Vec<Reset>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        old: &'a Programs,
        new: &'a Programs,
        inventory: &'a Inventory,
        versions: [Version; 2],
    ) -> Self {
        Self {
            old,
            new,
            inventory,
            versions,
            held: held(inventory),
            ways: Rc::new(Ways::new(inventory)),
            same: HashMap::new(),
            memo: HashMap::new(),
            by_service: HashMap::new(),
            changes: BTreeMap::new(),
            resets: Vec::new(),
        }
    }

    pub(super) fn everything(mut self) -> Difference {
        let inventory = self.inventory;
        let pods: Vec<(&ObjectName, &Pod)> =
            inventory.pods.iter().filter(|(_, pod)| !pod.host_network).collect();
        for from in &pods {
            for to in &pods {
                self.pair(*from, *to);
            }
            self.lacking(*from);
            for direction in Direction::BOTH {
                self.outside(*from, direction);
            }
            self.by_name(*from);
        }
        let changes =
            self.changes.into_values().map(|(change, pairs)| Change { flows: pairs.len(), ..change });
        Difference { changes: changes.collect(), resets: self.resets }
    }

    fn door(&mut self, pod: &ObjectName, direction: Direction) -> Option<Door<'a>> {
        let ((old, old_judge), (new, new_judge)) = (self.old.judge(pod)?, self.new.judge(pod)?);
        let numbers = [old, new];
        let alike = self.versions[0] == self.versions[1];
        let same = *self.same.entry(numbers).or_insert_with(|| old_judge.program() == new_judge.program());
        Some(Door { direction, numbers, judges: [old_judge, new_judge], same: same && alike })
    }

    fn pair(&mut self, from: (&'a ObjectName, &'a Pod), to: (&'a ObjectName, &'a Pod)) {
        let egress = self.door(from.0, Direction::Egress);
        let ingress = self.door(to.0, Direction::Ingress);
        let (Some(egress), Some(ingress)) = (egress, ingress) else { return };
        if egress.same && ingress.same {
            return;
        }
        for hop in Rc::clone(&self.ways).hops(from, to) {
            let found = match hop.service {
                None => self.cells(&[classed(egress, hop.destination), classed(ingress, hop.source)]),
                Some(_) => self.by_service([egress, ingress], &hop),
            };
            let target = match hop.service {
                None => Side::Workload(to.1.workload.clone()),
                Some(through) => Side::Service(through.name.clone()),
            };
            let source = Side::Workload(from.1.workload.clone());
            let ends = Ends { from: Some(from.0), to: Some(to.0), name: None, hop };
            for cell in found.iter() {
                self.add(cell, &source, &target, &ends);
                for direction in &cell.resets {
                    let (workload, peer) = match direction {
                        Direction::Egress => (&from.1.workload, target.clone()),
                        Direction::Ingress => (&to.1.workload, source.clone()),
                    };
                    // What a Service leads to is told of the pods behind it.
                    if hop.service.is_none() || *direction == Direction::Egress {
                        self.reset(workload, *direction, peer, cell);
                    }
                }
            }
        }
    }

    fn by_service(&mut self, doors: [Door<'a>; 2], hop: &Hop<'_>) -> Rc<Vec<CellChange>> {
        let Some(through) = hop.service else { return Rc::default() };
        let [old, new] = [0, 1].map(|version| at_ports(doors, version, hop));
        let actions = [&old, &new].map(|gates| gates.iter().map(|gate| gate.action).collect());
        let key = (doors.map(|door| door.numbers), actions, through.protocol, through.port);
        if let Some(found) = self.by_service.get(&key) {
            return Rc::clone(found);
        }
        let gates = Gates { directions: vec![Direction::Egress, Direction::Ingress], old, new };
        let range = ProtocolRange { first: through.protocol, last: through.protocol };
        let cell = cell_change(&gates, self.versions, range, PortRange::single(through.port));
        let found = Rc::new(vec![cell]);
        self.by_service.insert(key, Rc::clone(&found));
        found
    }

    /// Ports of Services without endpoints, which nobody answers but which may be dialled.
    fn lacking(&mut self, from: (&'a ObjectName, &'a Pod)) {
        let Some(door) = self.door(from.0, Direction::Egress) else { return };
        if door.same {
            return;
        }
        let inventory = self.inventory;
        for (name, service) in &inventory.services {
            for spec in service.ports.iter().filter(|spec| spec.endpoints.is_empty()) {
                for address in service.addresses.iter().map(IpAddr::to_canonical) {
                    let Some(own) = from.1.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4())
                    else {
                        continue;
                    };
                    let gate = |version: usize| {
                        let judge = door.judges[version];
                        vec![Gate {
                            judge,
                            action: judge.action(door.direction, address, spec.protocol, spec.port),
                        }]
                    };
                    let gates = Gates { directions: vec![door.direction], old: gate(0), new: gate(1) };
                    let range = ProtocolRange { first: spec.protocol, last: spec.protocol };
                    let cell = cell_change(&gates, self.versions, range, PortRange::single(spec.port));
                    let hop = Hop { source: *own, destination: address, service: None };
                    let ends = Ends { from: Some(from.0), to: None, name: None, hop };
                    let source = Side::Workload(from.1.workload.clone());
                    self.add(&cell, &source, &Side::Service(name.clone()), &ends);
                }
            }
        }
    }

    fn outside(&mut self, pod: (&'a ObjectName, &'a Pod), direction: Direction) {
        let Some(door) = self.door(pod.0, direction) else { return };
        if door.same {
            return;
        }
        let tables = door.judges.map(|judge| judge.program().direction(direction));
        for ((first, last), classes) in segments(&tables, &self.held, &[]) {
            let Some(own) = pod.1.addresses.iter().find(|own| own.is_ipv4() == first.is_ipv4()) else {
                continue;
            };
            let [old, new] = classes[..] else { continue };
            let found = self.cells(&[(door, [old, new])]);
            let here = Side::Workload(pod.1.workload.clone());
            let there = Side::Outside(vec![(first, last)]);
            let (source, target, ends) = match direction {
                Direction::Egress => {
                    let hop = Hop { source: *own, destination: first, service: None };
                    (&here, &there, Ends { from: Some(pod.0), to: None, name: None, hop })
                }
                Direction::Ingress => {
                    let hop = Hop { source: first, destination: *own, service: None };
                    (&there, &here, Ends { from: None, to: Some(pod.0), name: None, hop })
                }
            };
            for cell in found.iter() {
                self.add(cell, source, target, &ends);
                if !cell.resets.is_empty() {
                    self.reset(&pod.1.workload, direction, there.clone(), cell);
                }
            }
        }
    }

    /// What names lead to outside, which has classes of its own.
    fn by_name(&mut self, pod: (&'a ObjectName, &'a Pod)) {
        let Some(door) = self.door(pod.0, Direction::Egress) else { return };
        if door.same {
            return;
        }
        let tables = door.judges.map(|judge| judge.program().direction(Direction::Egress));
        let names = names_told_apart(&door.judges);
        for ((first, _), bases) in segments(&tables, &self.held, &[]) {
            let Some(own) = pod.1.addresses.iter().find(|own| own.is_ipv4() == first.is_ipv4()) else {
                continue;
            };
            let [old, new] = bases[..] else { continue };
            for name in &names {
                let named = door.judges.map(|judge| judge.named_class(first, &judge.rules_naming(name)));
                // Where neither set means the name, it is told of the address.
                if named == [None, None] {
                    continue;
                }
                let found = self.cells(&[(door, [named[0].or(old), named[1].or(new)])]);
                let here = Side::Workload(pod.1.workload.clone());
                let hop = Hop { source: *own, destination: first, service: None };
                let ends = Ends { from: Some(pod.0), to: None, name: Some(name), hop };
                for cell in found.iter() {
                    self.add(cell, &here, &Side::Name(name.clone()), &ends);
                    if !cell.resets.is_empty() {
                        let there = Side::Name(name.clone());
                        self.reset(&pod.1.workload, Direction::Egress, there, cell);
                    }
                }
            }
        }
    }

    fn cells(&mut self, doors: &[Classed<'a>]) -> Rc<Vec<CellChange>> {
        let key: MemoKey = doors.iter().map(|(door, classes)| (door.numbers, *classes)).collect();
        // Both kinds of one-sided keys would meet: the direction tells them apart.
        let mark = doors.iter().map(|(door, _)| ([door.direction as usize; 2], [None; 2]));
        let key: MemoKey = key.into_iter().chain(mark).collect();
        if let Some(found) = self.memo.get(&key) {
            return Rc::clone(found);
        }
        let lists: Vec<_> = doors
            .iter()
            .flat_map(|(door, classes)| {
                [0, 1].map(|at| boxes(door.judges[at].program().direction(door.direction), classes[at]))
            })
            .collect();
        let changes = overlay(&lists).into_iter().map(|cell| {
            let gates = |version: usize| {
                let actions = cell.actions.iter().skip(version).step_by(2);
                doors
                    .iter()
                    .zip(actions)
                    .map(move |((door, _), action)| Gate { judge: door.judges[version], action: *action })
            };
            let directions = doors.iter().map(|(door, _)| door.direction).collect();
            let gates = Gates { directions, old: gates(0).collect(), new: gates(1).collect() };
            cell_change(&gates, self.versions, cell.protocols, cell.ports)
        });
        let found: Rc<Vec<CellChange>> =
            Rc::new(changes.filter(|cell| !cell.deltas.is_empty() || !cell.resets.is_empty()).collect());
        self.memo.insert(key, Rc::clone(&found));
        found
    }

    fn add(&mut self, cell: &CellChange, from: &Side, to: &Side, ends: &Ends<'_>) {
        for delta in &cell.deltas {
            let Delta { kind, extent, before, after } = delta;
            let named = [from, to].map(|side| match side {
                Side::Outside(blocks) => {
                    format!("outside {}", blocks.iter().all(|(first, _)| first.is_ipv4()))
                }
                Side::Workload(_) | Side::Service(_) | Side::Name(_) => format!("{side:?}"),
            });
            let key = format!(
                "{kind:?} {named:?} {:?} {:?} {extent:?} {before:?} {after:?}",
                cell.protocols, cell.ports
            );
            let pair = (ends.from.cloned(), ends.to.cloned());
            if let Some((known, pairs)) = self.changes.get_mut(&key) {
                join(&mut known.from, from, &self.held);
                join(&mut known.to, to, &self.held);
                pairs.insert(pair);
                continue;
            }
            let change = Change {
                kind: *kind,
                from: from.clone(),
                to: to.clone(),
                protocols: cell.protocols,
                ports: cell.ports,
                extent: extent.clone(),
                before: before.clone(),
                after: after.clone(),
                flows: 1,
                risk: 0,
                example: ends.example(cell, delta),
            };
            self.changes.insert(key, (change, BTreeSet::from([pair])));
        }
    }

    fn reset(
        &mut self,
        workload: &bulkhead_facts::WorkloadRef,
        direction: Direction,
        peer: Side,
        cell: &CellChange,
    ) {
        let reset = Reset {
            workload: workload.clone(),
            direction,
            peer,
            protocols: cell.protocols,
            ports: cell.ports,
        };
        if let (Some(last), Side::Outside(_)) = (self.resets.last_mut(), &reset.peer)
            && matches!(last.peer, Side::Outside(_))
            && (&last.workload, last.direction, last.protocols, last.ports)
                == (&reset.workload, direction, reset.protocols, reset.ports)
        {
            join(&mut last.peer, &reset.peer, &self.held);
        } else if !self.resets.contains(&reset) {
            self.resets.push(reset);
        }
    }
}

fn classed(door: Door<'_>, peer: IpAddr) -> Classed<'_> {
    (door, door.judges.map(|judge| class_of(judge, door.direction, peer)))
}

/// The gates of a flow by a Service: its address and port at the source, the target's at the destination.
fn at_ports<'j>(doors: [Door<'j>; 2], version: usize, hop: &Hop<'_>) -> Vec<Gate<'j>> {
    let Some(through) = hop.service else { return Vec::new() };
    let asked = [(through.address, through.port), (hop.source, through.target)];
    let endpoint = (hop.destination, through.target);
    let gate = |(door, asked): (Door<'j>, (IpAddr, u16))| {
        let judge = door.judges[version];
        Gate { judge, action: judge.action_at(door.direction, asked, through.protocol, endpoint) }
    };
    doors.into_iter().zip(asked).map(gate).collect()
}

fn cell_change(
    gates: &Gates<'_>,
    versions: [Version; 2],
    protocols: ProtocolRange,
    ports: PortRange,
) -> CellChange {
    let deltas = compare(gates, versions);
    let becomes_inspected = |(at, (old, new)): (usize, (&Gate<'_>, &Gate<'_>))| {
        let passed = match old.action {
            Action::Answer(id) | Action::Learn(id) => old.judge.answer(id).enforced.effect == Effect::Allow,
            Action::Inspect { .. } | Action::Choose { .. } => false,
        };
        (passed && new.inspects()).then(|| gates.directions[at])
    };
    // Where another end denied all, there is no flow that could be cut.
    let open = |gate: &Gate<'_>| match gate.action {
        Action::Answer(id) | Action::Learn(id) => gate.judge.answer(id).enforced.effect == Effect::Allow,
        Action::Inspect { .. } | Action::Choose { .. } => true,
    };
    let resets = if gates.old.iter().all(open) {
        gates.old.iter().zip(&gates.new).enumerate().filter_map(becomes_inspected).collect()
    } else {
        Vec::new()
    };
    CellChange { protocols, ports, deltas, resets }
}

/// The ends of one flow.
struct Ends<'e> {
    from: Option<&'e ObjectName>,
    to: Option<&'e ObjectName>,
    name: Option<&'e HostName>,
    hop: Hop<'e>,
}

impl Ends<'_> {
    fn example(&self, cell: &CellChange, delta: &Delta) -> Example {
        let usual = [L4Protocol::TCP, L4Protocol::UDP]
            .into_iter()
            .find(|protocol| cell.protocols.contains(*protocol));
        Example {
            from: self.from.cloned(),
            source: self.hop.source,
            to: self.to.cloned(),
            destination: self.hop.destination,
            dialled: self.hop.service.map(|through| (through.address, through.port)),
            name: self.name.cloned(),
            protocol: usual.unwrap_or(cell.protocols.first),
            port: self.hop.service.map_or(cell.ports.first(), |through| through.target),
            request: delta.extent.example().and_then(|kind| kind.request.clone()),
        }
    }
}

/// Adds blocks to those of an outside. Blocks with nothing but addresses of pods and
/// Services between them become one.
fn join(side: &mut Side, more: &Side, held: &BTreeSet<IpAddr>) {
    let (Side::Outside(blocks), Side::Outside(more)) = (side, more) else { return };
    for block in more {
        let known = |(first, last): &Block| {
            first.is_ipv4() == block.0.is_ipv4() && *first <= block.0 && block.1 <= *last
        };
        if blocks.iter().any(known) {
            continue;
        }
        match blocks.last_mut().filter(|last| last.1 < block.0 && meet(last.1, block.0, held)) {
            Some(last) => last.1 = block.1,
            None => blocks.push(*block),
        }
    }
}

fn meet(mut before: IpAddr, first: IpAddr, held: &BTreeSet<IpAddr>) -> bool {
    loop {
        let Some(next) = after(before) else { return false };
        if next == first {
            return true;
        }
        if !held.contains(&next) {
            return false;
        }
        before = next;
    }
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| Ipv4Addr::from(next).into()),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| Ipv6Addr::from(next).into()),
    }
}

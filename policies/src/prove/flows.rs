//! The search for a flow that passes.

use super::Flow;
use crate::decide::{Judge, section_matches};
use crate::inventory::{Inventory, ObjectName, Pod};
use crate::model::L7Section;
use crate::program::{Action, ClassId};
use crate::questions::{RequestQuestion, Version};
use crate::space::{
    Block, Gate, Hop, Programs, RequestKind, Through, TooManyKinds, Ways, allows, boxes, class_of, held,
    names_told_apart, overlay, requests, segments,
};
use bulkhead_facts::{Direction, Effect, L4Protocol, PortRange, Request};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// What a flow has to carry to count.
#[derive(Clone, Default)]
pub(super) struct Traffic<'c> {
    pub(super) ports: Option<&'c [(L4Protocol, PortRange)]>,
    pub(super) section: Option<&'c L7Section>,
}

/// An end: which side it is, its program, and the class that its peer has there.
type MemoKey = (Direction, usize, Option<ClassId>);

/// Programs, actions, protocol and target port of a flow by a Service.
type ServiceKey = ([usize; 2], [Action; 2], L4Protocol, u16);

/// Searches in one set of programs for one kind of traffic.
pub(super) struct Search<'a> {
    programs: &'a Programs,
    version: Version,
    traffic: Traffic<'a>,
    held: BTreeSet<IpAddr>,
    ways: Ways<'a>,
    by_service: HashMap<ServiceKey, Result<Option<Passing>, TooManyKinds>>,
    memo: HashMap<Vec<MemoKey>, Result<Option<Passing>, TooManyKinds>>,
}

/// Where and with what a flow passes.
#[derive(Clone)]
struct Passing {
    protocol: L4Protocol,
    port: u16,
    request: Option<RequestQuestion>,
    rules: Vec<String>,
}

/// A pod with its name.
pub(super) type Named<'i> = (&'i ObjectName, &'i Pod);

impl<'a> Search<'a> {
    pub(super) fn new(
        programs: &'a Programs,
        inventory: &'a Inventory,
        version: Version,
        traffic: Traffic<'a>,
    ) -> Self {
        Self {
            programs,
            version,
            traffic,
            held: held(inventory),
            ways: Ways::new(inventory),
            by_service: HashMap::new(),
            memo: HashMap::new(),
        }
    }

    /// A flow from a pod to another, by its address or by a Service, on a way that is wanted.
    pub(super) fn between(
        &mut self,
        from: Named<'a>,
        to: Named<'a>,
        wanted: impl Fn(&Hop<'_>) -> bool,
    ) -> Result<Option<Flow>, TooManyKinds> {
        let ends = (self.programs.judge(from.0), self.programs.judge(to.0));
        let (Some(egress), Some(ingress)) = ends else { return Ok(None) };
        for hop in self.ways.hops(from, to).into_iter().filter(wanted) {
            let passing = match hop.service {
                None => {
                    let class = class_of(egress.1, Direction::Egress, hop.destination);
                    let opening = (Direction::Egress, egress.0, egress.1, class);
                    let class = class_of(ingress.1, Direction::Ingress, hop.source);
                    self.passing(&[opening, (Direction::Ingress, ingress.0, ingress.1, class)])?
                }
                Some(through) => self.by_service([egress, ingress], &hop, through)?,
            };
            if let Some(passing) = passing {
                return Ok(Some(flow(&hop, Some(from.0), Some(to.0), passing)));
            }
        }
        Ok(None)
    }

    fn by_service(
        &mut self,
        [egress, ingress]: [(usize, &Judge); 2],
        hop: &Hop<'_>,
        through: Through<'_>,
    ) -> Result<Option<Passing>, TooManyKinds> {
        let Through { protocol, address, port, target, .. } = through;
        let endpoint = (hop.destination, target);
        let dialled = egress.1.action_at(Direction::Egress, (address, port), protocol, endpoint);
        let arriving = ingress.1.action(Direction::Ingress, hop.source, protocol, target);
        let key = ([egress.0, ingress.0], [dialled, arriving], protocol, target);
        if let Some(found) = self.by_service.get(&key) {
            return found.clone();
        }
        let gates = [Gate { judge: egress.1, action: dialled }, Gate { judge: ingress.1, action: arriving }];
        let found = match self.port_within(protocol, protocol, PortRange::single(target)) {
            Some((protocol, port)) => self.at(&gates, protocol, port),
            None => Ok(None),
        };
        self.by_service.insert(key, found.clone());
        found
    }

    /// A flow between a pod and an outside address that is wanted.
    pub(super) fn outside(
        &mut self,
        pod: Named<'a>,
        direction: Direction,
        cuts: &[Block],
        wanted: impl Fn(IpAddr, IpAddr) -> bool,
    ) -> Result<Option<Flow>, TooManyKinds> {
        let Some((number, judge)) = self.programs.judge(pod.0) else { return Ok(None) };
        let tables = judge.program().direction(direction);
        let egress = direction == Direction::Egress;
        let names = if egress { names_told_apart(&[judge]) } else { Vec::new() };
        for ((first, _), classes) in segments(&[tables], &self.held, cuts) {
            for own in pod.1.addresses.iter().map(IpAddr::to_canonical) {
                if own.is_ipv4() != first.is_ipv4() || !wanted(own, first) {
                    continue;
                }
                let plain = (None, classes.first().copied().flatten());
                let named = names.iter().filter_map(|name| {
                    Some((Some(name), Some(judge.named_class(first, &judge.rules_naming(name))?)))
                });
                for (name, class) in std::iter::once(plain).chain(named) {
                    let Some(passing) = self.passing(&[(direction, number, judge, class)])? else { continue };
                    let (source, destination) = if egress { (own, first) } else { (first, own) };
                    let hop = Hop { source, destination, service: None };
                    let (from, to) = if egress { (Some(pod.0), None) } else { (None, Some(pod.0)) };
                    return Ok(Some(Flow { name: name.cloned(), ..flow(&hop, from, to, passing) }));
                }
            }
        }
        Ok(None)
    }

    fn passing(
        &mut self,
        ends: &[(Direction, usize, &Judge, Option<ClassId>)],
    ) -> Result<Option<Passing>, TooManyKinds> {
        let key: Vec<_> =
            ends.iter().map(|(direction, number, _, class)| (*direction, *number, *class)).collect();
        if let Some(found) = self.memo.get(&key) {
            return found.clone();
        }
        let found = self.first_passing(ends);
        self.memo.insert(key, found.clone());
        found
    }

    fn first_passing(
        &self,
        ends: &[(Direction, usize, &Judge, Option<ClassId>)],
    ) -> Result<Option<Passing>, TooManyKinds> {
        let lists: Vec<_> = ends
            .iter()
            .map(|(direction, _, judge, class)| boxes(judge.program().direction(*direction), *class))
            .collect();
        for cell in overlay(&lists) {
            let Some((protocol, port)) =
                self.port_within(cell.protocols.first, cell.protocols.last, cell.ports)
            else {
                continue;
            };
            let gates: Vec<Gate<'_>> = ends
                .iter()
                .zip(&cell.actions)
                .map(|((_, _, judge, _), action)| Gate { judge, action: *action })
                .collect();
            if let Some(found) = self.at(&gates, protocol, port)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first protocol and port of a cell that count; TCP where every one does.
    fn port_within(
        &self,
        first: L4Protocol,
        last: L4Protocol,
        ports: PortRange,
    ) -> Option<(L4Protocol, u16)> {
        let inside = |protocol: L4Protocol| first <= protocol && protocol <= last;
        let carries = |protocol| self.traffic.section.is_none_or(|section| section.runs_on(protocol));
        match self.traffic.ports {
            None => {
                let usual = [L4Protocol::TCP, L4Protocol::UDP].into_iter();
                let usual = usual.filter(|protocol| carries(*protocol)).find(|protocol| inside(*protocol));
                let other = self.traffic.section.is_none().then_some(first);
                Some((usual.or(other)?, ports.first()))
            }
            Some(wanted) => wanted.iter().find_map(|(protocol, range)| {
                let lowest = range.first().max(ports.first());
                let meets = lowest <= range.last().min(ports.last());
                (inside(*protocol) && meets && carries(*protocol)).then_some((*protocol, lowest))
            }),
        }
    }

    /// What passes these gates and counts. Bytes that are not read may hold any request, so they count as each.
    fn at(
        &self,
        gates: &[Gate<'_>],
        protocol: L4Protocol,
        port: u16,
    ) -> Result<Option<Passing>, TooManyKinds> {
        let kinds = requests(gates, self.traffic.section, false)?;
        let counts = |kind: &RequestKind| match (&kind.request, self.traffic.section) {
            (None, _) | (_, None) => true,
            (Some(request), Some(section)) => may_be_meant(section, request),
        };
        let carried =
            |kind: &RequestKind| kind.request.as_ref().is_none_or(|request| request.runs_on(protocol));
        let passes =
            |kind: &&RequestKind| carried(kind) && counts(kind) && allows(gates, kind.sent(), self.version);
        // A request says more than bytes that are none.
        let found = kinds.iter().filter(|kind| kind.request.is_some()).find(passes);
        let Some(kind) = found.or_else(|| kinds.iter().find(passes)) else { return Ok(None) };
        let rule = |gate: &Gate<'_>| {
            let rule = gate.judge.rule(gate.answer(kind.sent(), self.version).rule?);
            Some(format!("{}/{}", rule.policy, rule.rule))
        };
        let rules = gates.iter().filter_map(rule).collect();
        Ok(Some(Passing { protocol, port, request: kind.request.clone(), rules }))
    }
}

fn flow(hop: &Hop<'_>, from: Option<&ObjectName>, to: Option<&ObjectName>, passing: Passing) -> Flow {
    Flow {
        from: from.cloned(),
        source: hop.source,
        to: to.cloned(),
        destination: hop.destination,
        name: None,
        service: hop.service.map(|through| (through.name.clone(), through.address, through.port)),
        protocol: passing.protocol,
        port: passing.port,
        request: passing.request,
        rules: passing.rules,
    }
}

/// True if the request may be one that a section means. What TLS hides may be any request.
pub(super) fn may_be_meant(section: &L7Section, request: &RequestQuestion) -> bool {
    request.with(|request| {
        let Ok(request) = request else { return false };
        let same = match (&request, section) {
            (Request::Opaque, _) => return true,
            (Request::Tls(_), L7Section::Tls(_)) => true,
            (Request::Tls(_), _) => return true,
            (Request::Http(_), L7Section::Http(_))
            | (Request::Dns(_), L7Section::Dns(_))
            | (Request::Redis(_), L7Section::Redis(_))
            | (Request::Postgres(_), L7Section::Postgres(_))
            | (Request::Kafka(_), L7Section::Kafka(_)) => true,
            (Request::Http(_) | Request::Dns(_), _)
            | (Request::Redis(_) | Request::Postgres(_) | Request::Kafka(_), _) => false,
        };
        same && section_matches(section, &request, Some(Effect::Deny))
    })
}

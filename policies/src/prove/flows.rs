//! The search for a flow that passes.

use super::Flow;
use crate::decide::Judge;
use crate::inventory::{Inventory, ObjectName, Pod};
use crate::model::{HeaderValueMatch, HttpMatch};
use crate::program::{Action, ClassId};
use crate::questions::{HttpQuestion, Version};
use crate::space::{
    Block, Gate, Hop, Programs, RequestKind, Through, TooManyKinds, Ways, allows, boxes, class_of, folded,
    held, overlay, requests, segments,
};
use bulkhead_facts::{Direction, HostName, L4Protocol, PortRange, UrlPath};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// What a flow has to carry to count.
#[derive(Clone, Default)]
pub(super) struct Traffic<'c> {
    pub(super) ports: Option<&'c [(L4Protocol, PortRange)]>,
    pub(super) requests: Option<&'c [HttpMatch]>,
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
    request: Option<HttpQuestion>,
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
                Some(through) => self.by_service([egress, ingress], hop.source, through)?,
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
        source: IpAddr,
        through: Through<'_>,
    ) -> Result<Option<Passing>, TooManyKinds> {
        let Through { protocol, address, port, target, .. } = through;
        let dialled = egress.1.action(Direction::Egress, address, protocol, port);
        let arriving = ingress.1.action(Direction::Ingress, source, protocol, target);
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
        for ((first, _), classes) in segments(&[tables], &self.held, cuts) {
            for own in pod.1.addresses.iter().map(IpAddr::to_canonical) {
                if own.is_ipv4() != first.is_ipv4() || !wanted(own, first) {
                    continue;
                }
                let class = classes.first().copied().flatten();
                if let Some(passing) = self.passing(&[(direction, number, judge, class)])? {
                    return Ok(Some(match direction {
                        Direction::Egress => flow(
                            &Hop { source: own, destination: first, service: None },
                            Some(pod.0),
                            None,
                            passing,
                        ),
                        Direction::Ingress => flow(
                            &Hop { source: first, destination: own, service: None },
                            None,
                            Some(pod.0),
                            passing,
                        ),
                    }));
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
        match self.traffic.ports {
            None if self.traffic.requests.is_some() => {
                inside(L4Protocol::TCP).then_some((L4Protocol::TCP, ports.first()))
            }
            None => {
                let usual = [L4Protocol::TCP, L4Protocol::UDP].into_iter().find(|protocol| inside(*protocol));
                Some((usual.unwrap_or(first), ports.first()))
            }
            Some(wanted) => wanted.iter().find_map(|(protocol, range)| {
                let lowest = range.first().max(ports.first());
                let meets = lowest <= range.last().min(ports.last());
                let carries = self.traffic.requests.is_none() || *protocol == L4Protocol::TCP;
                (inside(*protocol) && meets && carries).then_some((*protocol, lowest))
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
        let wanted = self.traffic.requests.unwrap_or_default();
        let kinds = if gates.iter().any(Gate::inspects) || !wanted.is_empty() {
            requests(gates, &wanted.iter().collect::<Vec<_>>(), false)?
        } else {
            requests(&[], &[], false)?.into_iter().take(1).collect()
        };
        let counts = |kind: &RequestKind| match &kind.request {
            None => true,
            Some(request) => {
                self.traffic.requests.is_none_or(|all| all.iter().any(|http| matches(http, request)))
            }
        };
        let passes = |kind: &&RequestKind| counts(kind) && allows(gates, kind.sent(), self.version);
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
        service: hop.service.map(|through| (through.name.clone(), through.address, through.port)),
        protocol: passing.protocol,
        port: passing.port,
        request: passing.request,
        rules: passing.rules,
    }
}

/// True if the request may be meant: one instance of a header is enough, and a request without a host may be for any.
pub(super) fn matches(http: &HttpMatch, request: &HttpQuestion) -> bool {
    let method = http.methods.is_empty() || http.methods.contains(&request.method);
    let path = http.path.as_ref().is_none_or(|template| {
        UrlPath::parse(&request.target).is_ok_and(|path| template.matches_text(path.normal()))
    });
    let host = match request.host.as_deref().and_then(|host| HostName::parse(host).ok()) {
        Some(host) => http.hosts.is_empty() || http.hosts.iter().any(|pattern| pattern.matches(&host)),
        None => true,
    };
    let headers = http.headers.iter().all(|header| {
        let same = |field: &&(String, String)| folded(&field.0) == folded(&header.name);
        let mut values = request.headers.iter().filter(same).map(|field| &field.1);
        match &header.value {
            HeaderValueMatch::Present => values.next().is_some(),
            HeaderValueMatch::Absent => {
                !request.headers.iter().any(|field| field.0.eq_ignore_ascii_case(&header.name))
            }
            HeaderValueMatch::Exact(text) => values.any(|value| value == text),
            HeaderValueMatch::Prefix(text) => values.any(|value| value.starts_with(text.as_str())),
        }
    });
    method && path && host && headers
}

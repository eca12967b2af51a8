//! What holds on a Service's own address: what holds for its ready endpoints.
//!
//! The pod's kernel sees the Service's address and port, the network behind it picks an endpoint. Where every ready endpoint
//! of the family is judged alike, on the port that it leads to, so is the Service's port. Where they are not, TCP is led to
//! one of those that may be reached ([`Held::Choice`]), and any other protocol is denied. A deny that names the Service's
//! address itself counts too.

use super::classes::{ClassKey, Classes, ClauseIndex};
use super::evaluate::{Plan, plan};
use super::lineup::{Lineup, Version};
use crate::inventory::{ObjectName, ServicePort};
use crate::limits::ENDPOINTS_PER_CHOICE_MAX;
use crate::model::RuleAction;
use crate::program::{Answer, RuleIndex};
use bulkhead_facts::{Effect, L4Protocol, Reason};
use std::net::IpAddr;

/// One port of a Service, seen from one workload.
pub(crate) struct Asked<'a> {
    /// Name of the Service.
    pub(crate) name: &'a ObjectName,
    /// The port.
    pub(crate) port: &'a ServicePort,
    /// Class of the Service's own address.
    pub(crate) address_class: &'a ClassKey,
    /// Family of the Service's own address.
    pub(crate) v4: bool,
}

/// What holds on a port of a Service, `[enforced, shadow]`.
pub(crate) enum Held {
    /// Whichever endpoint is reached.
    Alike([Plan; 2]),
    /// It depends on the endpoint.
    Choice {
        /// Those that may be reached.
        endpoints: Vec<((IpAddr, u16), [Plan; 2])>,
        /// Holds where nobody picks one of them.
        otherwise: [Plan; 2],
    },
}

/// What a person should know of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceTrouble {
    /// Name of the Service.
    pub(crate) service: ObjectName,
    /// Its port.
    pub(crate) port: u16,
    /// Its protocol.
    pub(crate) protocol: L4Protocol,
    /// True if endpoints are inspected by different rules, false if only some are allowed.
    pub(crate) inspection: bool,
}

/// What the endpoints of one version come to.
enum Agreement {
    /// This holds for every one.
    All(Plan),
    /// Positions of those that may be reached, and the rule that denies another.
    Some(Vec<usize>, Option<RuleIndex>),
}

/// What holds on a port of a Service.
pub(crate) fn held(
    lineup: &Lineup<'_>,
    classes: &Classes,
    asked: &Asked<'_>,
    troubles: &mut Vec<ServiceTrouble>,
) -> Held {
    let endpoints = endpoints(asked);
    if endpoints.is_empty() {
        return Held::Alike(Version::BOTH.map(|version| no_endpoint(lineup, classes, asked, version)));
    }
    let plans = Version::BOTH.map(|version| -> Vec<Plan> {
        endpoints.iter().map(|endpoint| endpoint_plan(lineup, classes, asked, *endpoint, version)).collect()
    });
    let agreements = plans.each_ref().map(|plans| agreement(plans));
    if let Agreement::Some(reached, _) = &agreements[Version::Enforced as usize] {
        let (port, protocol) = (asked.port.port, asked.port.protocol);
        let inspection = reached.len() == endpoints.len();
        troubles.push(ServiceTrouble { service: asked.name.clone(), port, protocol, inspection });
    }
    if asked.port.protocol != L4Protocol::TCP {
        return Held::Alike(agreements.each_ref().map(without_choice));
    }
    let [enforced, shadow] = &agreements;
    match enforced {
        Agreement::All(plan) => Held::Alike([plan.clone(), one_of(&plans[1], shadow)]),
        Agreement::Some(reached, _) => {
            let of = |at: &usize| {
                let other = match shadow {
                    Agreement::Some(reached, _) if !reached.contains(at) => one_of(&plans[1], shadow),
                    Agreement::Some(..) | Agreement::All(_) => plans[1][*at].clone(),
                };
                (endpoints[*at], [plans[0][*at].clone(), other])
            };
            Held::Choice {
                endpoints: reached.iter().take(ENDPOINTS_PER_CHOICE_MAX).map(of).collect(),
                otherwise: agreements.each_ref().map(without_choice),
            }
        }
    }
}

/// Ready endpoints of the family, in order, each once.
fn endpoints(asked: &Asked<'_>) -> Vec<(IpAddr, u16)> {
    let all = asked.port.endpoints.iter().map(|(address, port)| (address.to_canonical(), *port));
    let mut endpoints: Vec<_> = all.filter(|(address, _)| address.is_ipv4() == asked.v4).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}

fn agreement(plans: &[Plan]) -> Agreement {
    let denial = |plan: &Plan| plan.answer().filter(|answer| answer.effect == Effect::Deny);
    let reached: Vec<usize> = (0..plans.len()).filter(|at| denial(&plans[*at]).is_none()).collect();
    let all = |plan: &Plan| Agreement::All(plan.clone());
    match plans.iter().find_map(denial) {
        Some(end) if reached.is_empty() => Agreement::All(Plan { stages: Vec::new(), end }),
        Some(denied) => Agreement::Some(reached, denied.rule),
        None if plans.iter().all(|plan| plan.answer().is_some()) => all(&plans[0]),
        None if plans.iter().all(|plan| *plan == plans[0]) => all(&plans[0]),
        None => Agreement::Some(reached, None),
    }
}

/// What holds if nobody picks an endpoint: for what is no TCP, and where nobody dials for the app.
fn without_choice(agreement: &Agreement) -> Plan {
    match agreement {
        Agreement::All(plan) => plan.clone(),
        Agreement::Some(_, rule) => {
            let end = Answer { effect: Effect::Deny, rule: *rule, reason: Reason::EndpointsDiffer };
            Plan { stages: Vec::new(), end }
        }
    }
}

/// What would hold if one were picked that may be reached: the first one stands for all of them.
fn one_of(plans: &[Plan], agreement: &Agreement) -> Plan {
    match agreement {
        Agreement::All(plan) => plan.clone(),
        Agreement::Some(reached, _) => {
            let mut plan = plans[reached[0]].clone();
            if plan.stages.is_empty() {
                plan.end.reason = Reason::EndpointsDiffer;
            }
            plan
        }
    }
}

fn endpoint_plan(
    lineup: &Lineup<'_>,
    classes: &Classes,
    asked: &Asked<'_>,
    (address, port): (IpAddr, u16),
    version: Version,
) -> Plan {
    let protocol = asked.port.protocol;
    let own_denies = asked
        .address_class
        .clauses
        .iter()
        .filter(|(rule, _)| lineup.rules[*rule as usize].action == RuleAction::Deny);
    let clauses = classes.everybody.iter().chain(&classes.class_of(address).clauses).chain(own_denies);
    let matching = matching(lineup, clauses, protocol, port);
    plan(lineup, &matching, version, protocol)
}

/// Where a workload is confined, a Service without ready endpoint is denied in so many words.
fn no_endpoint(lineup: &Lineup<'_>, classes: &Classes, asked: &Asked<'_>, version: Version) -> Plan {
    if lineup.is_confined(version) {
        let end = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoEndpoint };
        return Plan { stages: Vec::new(), end };
    }
    let (protocol, port) = (asked.port.protocol, asked.port.port);
    let clauses = classes.everybody.iter().chain(&asked.address_class.clauses);
    plan(lineup, &matching(lineup, clauses, protocol, port), version, protocol)
}

/// The rules, ascending, that have a clause which covers the port.
fn matching<'c>(
    lineup: &Lineup<'_>,
    clauses: impl Iterator<Item = &'c ClauseIndex>,
    protocol: L4Protocol,
    port: u16,
) -> Vec<u32> {
    let covers = |(rule, clause): &&ClauseIndex| {
        let ports = &lineup.rules[*rule as usize].clauses[*clause as usize].ports;
        ports.iter().any(|block| block.covers(protocol, port))
    };
    let mut rules: Vec<u32> = clauses.filter(covers).map(|(rule, _)| *rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

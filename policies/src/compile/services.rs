//! What holds on a Service's own address: what holds for all its ready endpoints.
//!
//! The pod's kernel sees the Service's address and port, the network behind it picks an endpoint. So a port of a Service
//! is allowed only if every ready endpoint of the family is, on the port that it leads to. A deny that names the Service's
//! address itself counts too.

use super::classes::{ClassKey, Classes, ClauseIndex};
use super::evaluate::{Plan, plan};
use super::lineup::{Lineup, Version};
use crate::inventory::{ObjectName, ServicePort};
use crate::model::RuleAction;
use crate::program::Answer;
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
    All(Plan),
    SomeAllowed(Answer),
    SeveralChains(Answer),
}

/// The plans of both versions for a port of a Service.
pub(crate) fn plans(
    lineup: &Lineup<'_>,
    classes: &Classes,
    asked: &Asked<'_>,
    troubles: &mut Vec<ServiceTrouble>,
) -> [Plan; 2] {
    let mut endpoints: Vec<_> =
        asked.port.endpoints.iter().map(|(a, port)| (a.to_canonical(), *port)).collect();
    endpoints.retain(|(address, _)| address.is_ipv4() == asked.v4);
    endpoints.sort_unstable();
    endpoints.dedup();
    Version::BOTH.map(|version| {
        let plan = |(address, port): &(IpAddr, u16)| {
            endpoint_plan(lineup, classes, asked, (*address, *port), version)
        };
        if endpoints.is_empty() {
            return no_endpoint(lineup, classes, asked, version);
        }
        let (answer, inspection) = match agreement(endpoints.iter().map(plan).collect()) {
            Agreement::All(plan) => return plan,
            Agreement::SomeAllowed(answer) => (answer, false),
            Agreement::SeveralChains(answer) => (answer, true),
        };
        if version == Version::Enforced {
            let (port, protocol) = (asked.port.port, asked.port.protocol);
            troubles.push(ServiceTrouble { service: asked.name.clone(), port, protocol, inspection });
        }
        Plan { stages: Vec::new(), end: answer }
    })
}

fn agreement(plans: Vec<Plan>) -> Agreement {
    let denial = plans.iter().filter_map(Plan::answer).find(|answer| answer.effect == Effect::Deny);
    let allowed = |plan: &Plan| plan.answer().is_none_or(|answer| answer.effect == Effect::Allow);
    let Some(first) = plans.first().cloned() else { return Agreement::SomeAllowed(DISAGREE) };
    match denial {
        Some(answer) if plans.iter().any(allowed) => Agreement::SomeAllowed(answer),
        Some(answer) => Agreement::All(Plan { stages: Vec::new(), end: answer }),
        None if plans.iter().all(|plan| plan.answer().is_some()) => Agreement::All(first),
        None if plans.iter().all(|plan| *plan == first) => Agreement::All(first),
        None => Agreement::SeveralChains(DISAGREE),
    }
}

/// Endpoints whose requests are judged by different rules.
const DISAGREE: Answer = Answer { effect: Effect::Deny, rule: None, reason: Reason::L7Mismatch };

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

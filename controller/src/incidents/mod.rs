//! Incidents: enforced denials of one attacker, grouped by what they look like together.
//!
//! [`detect`] is a function of its [`Evidence`]: no clock, no state, the same input gives the same list. [`classify`]
//! sorts denials into kinds, [`novelty`] finds what passed for the first time after a policy was approved, [`remedy`]
//! writes the smallest change that would allow a denial. What only audited policies would deny is no incident;
//! `verdicts` lists it.

mod classify;
mod novelty;
mod remedy;

use crate::flows::{SeenEdge, workload};
use crate::limits::{INCIDENT_ATTEMPTS_MAX, INCIDENT_TARGETS_MAX};
use crate::push::Sidecar;
use crate::store::Loss;
use crate::world::World;
use bulkhead_api::rest::{Attempt, Effect, Incident, IncidentKind, Party, PartyKind, Reach};
use bulkhead_facts::L4Protocol;
use bulkhead_index::{Reach as PodReach, Reachable};
use std::collections::{BTreeMap, BTreeSet};

/// What incidents are made of.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What the sidecars saw.
    pub edges: &'a [SeenEdge],
    /// What the sidecars said of themselves, by the UID of their pod.
    pub sidecars: &'a BTreeMap<String, Sidecar>,
    /// Records that found no room.
    pub losses: &'a [Loss],
    /// When a proposal was last approved, by collection.
    pub approved_ms: &'a BTreeMap<String, u64>,
    /// What is in force.
    pub world: &'a World,
}

/// Every incident that the evidence shows, most recent first.
pub fn detect(evidence: Evidence<'_>) -> Vec<Incident> {
    let Evidence { edges, sidecars, losses, approved_ms, world } = evidence;
    let denied: Vec<&SeenEdge> =
        edges.iter().filter(|one| one.edge.enforced.effect == Effect::Deny).collect();
    let mut groups = classify::groups(&denied);
    for one in novelty::new_edges(edges, approved_ms, world) {
        groups.entry((&one.edge.source.party, IncidentKind::NewEdge)).or_default().push(one);
    }
    let mut incidents: BTreeMap<String, Incident> = groups
        .into_iter()
        .map(|((attacker, kind), group)| incident(attacker, kind, &group, world))
        .map(|incident| (incident.id.clone(), incident))
        .collect();
    for (uid, sidecar) in sidecars.iter().filter(|(_, sidecar)| sidecar.tampering > 0) {
        add_tampering(&mut incidents, uid, sidecar, world);
    }
    for loss in losses {
        add_flood(&mut incidents, loss, world);
    }
    add_blast_radius(&mut incidents, world);
    let mut incidents: Vec<Incident> = incidents.into_values().collect();
    incidents.sort_by(|a, b| (b.last_seen_ms, &a.id).cmp(&(a.last_seen_ms, &b.id)));
    incidents
}

fn incident(attacker: &Party, kind: IncidentKind, group: &[&SeenEdge], world: &World) -> Incident {
    let targets: BTreeSet<&Party> = group.iter().map(|one| &one.edge.destination.party).collect();
    let attempts = attempts(group);
    let pods: BTreeSet<&String> = group.iter().filter_map(|one| one.edge.source.pod.as_ref()).collect();
    let (technique, technique_name) = technique(kind);
    Incident {
        id: format!("{}:{attacker}", kind.as_str()),
        kind,
        title: title(kind, attacker, &targets, &attempts),
        attacker: attacker.clone(),
        attacker_pods: pods.into_iter().cloned().collect(),
        targets_more: targets.len().saturating_sub(INCIDENT_TARGETS_MAX),
        targets: targets.into_iter().take(INCIDENT_TARGETS_MAX).cloned().collect(),
        attempts_more: attempts.len().saturating_sub(INCIDENT_ATTEMPTS_MAX),
        smallest_change: remedy::smallest_change(kind, attacker, &attempts, &world.inventory),
        attempts: attempts.into_iter().take(INCIDENT_ATTEMPTS_MAX).collect(),
        blocked: group.iter().all(|one| one.edge.enforced.effect == Effect::Deny),
        count: group.iter().fold(0u64, |sum, one| sum.saturating_add(one.totals.count)),
        first_seen_ms: group.iter().map(|one| one.totals.first_seen_ms).min().unwrap_or_default(),
        last_seen_ms: group.iter().map(|one| one.totals.last_seen_ms).max().unwrap_or_default(),
        technique: technique.to_owned(),
        technique_name: technique_name.to_owned(),
        blast_radius: Vec::new(),
    }
}

/// Equal attempts of all pods and days as one, most frequent first.
fn attempts(group: &[&SeenEdge]) -> Vec<Attempt> {
    let mut counts: BTreeMap<_, Attempt> = BTreeMap::new();
    for one in group {
        let edge = &one.edge;
        let key = (
            (
                &edge.destination.party,
                edge.protocol,
                edge.dialled_port,
                edge.http.as_ref(),
                edge.request.as_ref(),
            ),
            (edge.observed_by, &edge.enforced),
        );
        let attempt = counts.entry(key).or_insert_with(|| Attempt {
            target: edge.destination.party.clone(),
            protocol: L4Protocol(edge.protocol).to_string(),
            port: edge.dialled_port,
            http: edge.http.clone(),
            request: edge.request.clone(),
            stopped_by: edge.observed_by,
            reason: edge.enforced.reason.clone(),
            rule: edge.enforced.rule.clone(),
            count: 0,
        });
        attempt.count = attempt.count.saturating_add(one.totals.count);
    }
    let mut attempts: Vec<Attempt> = counts.into_values().collect();
    attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.count));
    attempts
}

fn title(kind: IncidentKind, attacker: &Party, targets: &BTreeSet<&Party>, attempts: &[Attempt]) -> String {
    let whom = match (targets.first(), targets.len()) {
        (Some(target), 1) => target.to_string(),
        (_, count) => format!("{count} targets"),
    };
    match kind {
        IncidentKind::SidecarTampering => format!("{attacker} reached for a sidecar at {whom}"),
        IncidentKind::MetadataAccess => format!("{attacker} asked for instance metadata at {whom}"),
        IncidentKind::PortScan => {
            let ports: BTreeSet<_> =
                attempts.iter().map(|attempt| (&attempt.protocol, attempt.port)).collect();
            format!("{attacker} tried {} ports of {whom}", ports.len())
        }
        IncidentKind::Sweep => format!("{attacker} tried {whom} one after the other"),
        IncidentKind::L7Probing => format!("{attacker} made requests that it may not make at {whom}"),
        IncidentKind::Exfiltration => format!("{attacker} tried to reach {whom} outside the cluster"),
        IncidentKind::LateralMovement => format!("{attacker} tried to reach {whom}"),
        IncidentKind::NewEdge => format!("{attacker} talked to {whom} for the first time"),
        IncidentKind::Flood => format!("{attacker} did more different things than there is room to list"),
    }
}

/// MITRE ATT&CK for Enterprise, <https://attack.mitre.org/techniques/>.
fn technique(kind: IncidentKind) -> (&'static str, &'static str) {
    match kind {
        IncidentKind::SidecarTampering => ("T1562.004", "Impair Defenses: Disable or Modify System Firewall"),
        IncidentKind::MetadataAccess => ("T1552.005", "Unsecured Credentials: Cloud Instance Metadata API"),
        IncidentKind::PortScan => ("T1046", "Network Service Discovery"),
        IncidentKind::Sweep => ("T1018", "Remote System Discovery"),
        IncidentKind::L7Probing => ("T1210", "Exploitation of Remote Services"),
        IncidentKind::Exfiltration => ("T1048", "Exfiltration Over Alternative Protocol"),
        IncidentKind::LateralMovement | IncidentKind::NewEdge => ("T1021", "Remote Services"),
        IncidentKind::Flood => ("T1562.006", "Impair Defenses: Indicator Blocking"),
    }
}

/// What each attacker's workload can reach as things stand.
fn add_blast_radius(incidents: &mut BTreeMap<String, Incident>, world: &World) {
    if incidents.is_empty() {
        return;
    }
    let reach = match PodReach::new(&world.pods, &world.inventory) {
        Ok(reach) => reach,
        Err(error) => {
            tracing::error!(%error, "a program in force is not valid: incidents lack the blast radius");
            return;
        }
    };
    let mut known: BTreeMap<Party, Vec<Reach>> = BTreeMap::new();
    for incident in incidents.values_mut() {
        let attacker = &incident.attacker;
        let radius = known.entry(attacker.clone()).or_insert_with(|| blast_radius(attacker, &reach, world));
        incident.blast_radius.clone_from(radius);
    }
}

/// The union over the pods of a workload.
fn blast_radius(attacker: &Party, reach: &PodReach<'_>, world: &World) -> Vec<Reach> {
    if attacker.kind != PartyKind::Workload {
        return Vec::new();
    }
    let pods = world.pods.iter().filter(|(_, indexed)| {
        world.inventory.pods.get(&indexed.name).is_some_and(|pod| workload(pod) == *attacker)
    });
    let ways: BTreeSet<Reachable> = pods.flat_map(|(uid, _)| reach.of(uid)).collect();
    let mut by_target: BTreeMap<Party, Vec<String>> = BTreeMap::new();
    for way in ways {
        let (namespace, name) = (Some(way.namespace), way.name);
        let limited = if way.only_some_requests { " (L7)" } else { "" };
        let ports = format!("{}/{}{limited}", way.protocol, way.ports);
        by_target.entry(Party { kind: PartyKind::Workload, namespace, name }).or_default().push(ports);
    }
    by_target.into_iter().map(|(target, ports)| Reach { target, ports }).collect()
}

/// A kernel table that somebody changed: joins what was tried on sidecars' ports by the same workload.
fn add_tampering(incidents: &mut BTreeMap<String, Incident>, uid: &str, sidecar: &Sidecar, world: &World) {
    let kind = IncidentKind::SidecarTampering;
    let (attacker, pod) = owner(uid, world);
    let id = format!("{}:{attacker}", kind.as_str());
    let incident = incidents.entry(id).or_insert_with(|| {
        let mut fresh = incident(&attacker, kind, &[], world);
        fresh.first_seen_ms = sidecar.last_seen_ms;
        fresh.title = format!("{attacker} changed the kernel table of its own sidecar");
        fresh
    });
    if !incident.targets.contains(&attacker) {
        incident.targets.push(attacker);
    }
    if !incident.attacker_pods.contains(&pod) {
        incident.attacker_pods.push(pod);
    }
    incident.count = incident.count.saturating_add(sidecar.tampering);
    incident.last_seen_ms = incident.last_seen_ms.max(sidecar.last_seen_ms);
}

/// Records that found no room: what was tried is counted, but no longer listed.
fn add_flood(incidents: &mut BTreeMap<String, Incident>, loss: &Loss, world: &World) {
    let count = loss.by_sidecar.saturating_add(loss.by_controller);
    if count == 0 {
        return;
    }
    let (attacker, pod) = owner(&loss.pod_uid, world);
    let mut fresh = incident(&attacker, IncidentKind::Flood, &[], world);
    fresh.first_seen_ms = loss.last_ms;
    // Among what is not listed may be something that passed.
    fresh.blocked = false;
    let incident = incidents.entry(fresh.id.clone()).or_insert(fresh);
    incident.attacker_pods.push(pod);
    incident.count = incident.count.saturating_add(count);
    incident.first_seen_ms = incident.first_seen_ms.min(loss.last_ms);
    incident.last_seen_ms = incident.last_seen_ms.max(loss.last_ms);
}

/// Workload and name of a pod; its UID where it is gone.
fn owner(uid: &str, world: &World) -> (Party, String) {
    match world.pod(uid) {
        Some((name, pod)) => (workload(pod), name.name.clone()),
        None => (Party { kind: PartyKind::Workload, namespace: None, name: uid.to_owned() }, uid.to_owned()),
    }
}

#[cfg(test)]
mod tests;

//! The smallest policy change that would allow what was denied, where one can be written down.
//!
//! For a person to read, not to apply: only for one target, one port, and workloads that one label tells apart.

use bulkhead_api::rest::{Attempt, IncidentKind, Party, PartyKind, RequestSummary, RuleSummary};
use bulkhead_policies::inventory::Inventory;
use bulkhead_policies::learn;
use std::collections::BTreeSet;

/// The change as a few lines of YAML; `None` where it would not be simple, or where allowing makes no sense.
pub(super) fn smallest_change(
    kind: IncidentKind,
    attacker: &Party,
    attempts: &[Attempt],
    inventory: &Inventory,
) -> Option<String> {
    match kind {
        IncidentKind::LateralMovement => allow_workload(attacker, only_attempt(attempts)?, inventory),
        IncidentKind::L7Probing => allow_request(only_attempt(attempts)?),
        IncidentKind::Exfiltration => allow_address(attacker, only_attempt(attempts)?, inventory),
        IncidentKind::SidecarTampering
        | IncidentKind::MetadataAccess
        | IncidentKind::PortScan
        | IncidentKind::Sweep
        | IncidentKind::NewEdge
        | IncidentKind::Flood => None,
    }
}

/// Attempts that differ only in which end stopped them and how often count as one.
fn only_attempt(attempts: &[Attempt]) -> Option<&Attempt> {
    let first = attempts.first()?;
    let same = |other: &Attempt| {
        (&other.target, &other.protocol, other.port, &other.http, &other.request)
            == (&first.target, &first.protocol, first.port, &first.http, &first.request)
    };
    attempts.iter().all(same).then_some(first)
}

fn allow_workload(attacker: &Party, attempt: &Attempt, inventory: &Inventory) -> Option<String> {
    let (source, target) = (selector(attacker, inventory)?, selector(&attempt.target, inventory)?);
    let (from, to) = (attacker.namespace.as_ref()?, attempt.target.namespace.as_ref()?);
    let port = port(attempt)?;
    let peer = |namespace: &String, selector: &str| match from == to {
        true => format!("{{workloads: {selector}}}"),
        false => format!("{{namespaces: {{name: {namespace}}}, workloads: {selector}}}"),
    };
    Some(format!(
        "# in a SegmentPolicy of namespace {from} with `workloads: {source}`\negress: [{{name: {name}, to: [{to_peer}], \
         ports: [{port}]}}]\n# in a SegmentPolicy of namespace {to} with `workloads: {target}`\ningress: [{{name: \
         {attacker_name}, from: [{from_peer}], ports: [{port}]}}]\n",
        name = attempt.target.name,
        to_peer = peer(to, &target),
        attacker_name = attacker.name,
        from_peer = peer(from, &source),
    ))
}

fn allow_request(attempt: &Attempt) -> Option<String> {
    if let Some(request) = &attempt.request {
        return allow_command(attempt.rule.as_ref()?, request);
    }
    let http = attempt.http.as_ref()?;
    let writable = |text: &str| !text.is_empty() && !text.contains(['"', '\\', '\n']);
    let RuleSummary { policy, rule, .. } = attempt.rule.as_ref()?;
    // Questions to name servers are told as the type of record and the name.
    if writable(&http.method) && bulkhead_facts::NamePattern::parse(&http.path).is_ok() {
        let (record, name) = (&http.method, &http.path);
        return Some(format!(
            "# in rule `{rule}` of {policy}, under `dns`\n- {{names: [{name}], types: [{record}]}}\n"
        ));
    }
    if !writable(&http.method) || bulkhead_facts::PathTemplate::parse(&http.path).is_err() {
        return None;
    }
    Some(format!(
        "# in rule `{rule}` of {policy}, under `http`\n- {{methods: [{}], path: \"{}\"}}\n",
        http.method, http.path
    ))
}

/// The alternative that means a request of another protocol; `None` where none can.
fn allow_command(rule: &RuleSummary, request: &RequestSummary) -> Option<String> {
    let (section, item) = learn::alternative(&crate::learn::request_kind(request))?;
    let list = if section == "tls" { "" } else { "- " };
    Some(format!("# in rule `{}` of {}, under `{section}`\n{list}{item}\n", rule.rule, rule.policy))
}

fn allow_address(attacker: &Party, attempt: &Attempt, inventory: &Inventory) -> Option<String> {
    let address: std::net::IpAddr = attempt.target.name.parse().ok()?;
    let (namespace, source) = (attacker.namespace.as_ref()?, selector(attacker, inventory)?);
    let bits = if address.is_ipv4() { 32 } else { 128 };
    Some(format!(
        "# in a SegmentPolicy of namespace {namespace} with `workloads: {source}`\negress: [{{name: outside, to: [{{cidr: \
         \"{address}/{bits}\"}}], ports: [{}]}}]\n",
        port(attempt)?
    ))
}

/// The port as a policy writes it; `None` for protocols whose port says something else.
fn port(attempt: &Attempt) -> Option<String> {
    match attempt.protocol.as_str() {
        "tcp" => Some(attempt.port.to_string()),
        "udp" | "sctp" => Some(format!("{}/{}", attempt.protocol, attempt.port)),
        _ => None,
    }
}

/// One label that every pod of the workload has and no other pod of the namespace, as `{key: value}`.
fn selector(party: &Party, inventory: &Inventory) -> Option<String> {
    if party.kind != PartyKind::Workload {
        return None;
    }
    let namespace = party.namespace.as_ref()?;
    let neighbours =
        || inventory.pods.iter().filter(|(name, _)| name.namespace == *namespace).map(|(_, pod)| pod);
    let own = || neighbours().filter(|pod| pod.workload.name == party.name);
    let mut labels: BTreeSet<(&String, &String)> = own().next()?.labels.iter().collect();
    labels.retain(|(key, value)| {
        own().all(|pod| pod.labels.get(*key) == Some(*value))
            && neighbours().all(|pod| pod.workload.name == party.name || pod.labels.get(*key) != Some(*value))
    });
    labels.first().map(|(key, value)| format!("{{{key}: {value}}}"))
}

//! Pods: their workload, addresses, named ports and probed ports.

use super::{Object, address, in_order, list, port_number, protocol, text};
use crate::diagnostics::Report;
use crate::inventory::{NamedPort, Pod};
use crate::yaml::{Node, Scalar, ScalarKind};
use bulkhead_facts::WorkloadRef;
use std::net::IpAddr;

/// Reads one pod; `None` for one that has ended and holds no address any more.
pub(super) fn read(report: &mut Report, object: &Object<'_>) -> Option<Pod> {
    let empty = Node { span: object.node.span, value: crate::yaml::Value::Map(Vec::new()) };
    let spec = object.node.child("spec").unwrap_or(&empty);
    let status = object.node.child("status").unwrap_or(&empty);
    if matches!(text(report, status, "phase"), Some("Succeeded" | "Failed")) {
        return None;
    }
    let containers = containers(report, spec);
    let ports = named_ports(report, &containers);
    let probe_ports = probe_ports(report, &containers, &ports);
    Some(Pod {
        uid: text(report, object.metadata, "uid")
            .map_or_else(|| format!("{}/{}", object.namespace, object.name), str::to_owned),
        workload: workload(report, object),
        labels: object.labels(report),
        service_account: text(report, spec, "serviceAccountName").unwrap_or("default").to_owned(),
        addresses: addresses(report, status),
        host_network: spec
            .child("hostNetwork")
            .and_then(Node::as_scalar)
            .and_then(Scalar::as_bool)
            .unwrap_or(false),
        node: text(report, spec, "nodeName").unwrap_or_default().to_owned(),
        ports,
        probe_ports,
    })
}

/// Each address once, the primary one first.
fn addresses(report: &mut Report, status: &Node) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    if let Some(node) = status.child("podIP").filter(|node| !node.is_null() && node.as_str() != Some("")) {
        found.extend(address(report, node));
    }
    for item in list(report, status, "podIPs") {
        let address = item.child("ip").and_then(|node| address(report, node));
        found.extend(address.filter(|address| !found.contains(address)));
    }
    found
}

/// Containers that run beside each other: the ordinary ones and init containers that stay.
fn containers<'a>(report: &mut Report, spec: &'a Node) -> Vec<&'a Node> {
    let stays = |node: &&Node| node.child("restartPolicy").and_then(Node::as_str) == Some("Always");
    let sidecars = list(report, spec, "initContainers").iter().filter(stays);
    list(report, spec, "containers").iter().chain(sidecars).collect()
}

fn named_ports(report: &mut Report, containers: &[&Node]) -> Vec<NamedPort> {
    let mut ports = Vec::new();
    for port in
        containers.iter().flat_map(|container| container.child("ports")).filter_map(Node::as_list).flatten()
    {
        let number = port.child("containerPort").and_then(|node| port_number(report, node));
        let protocol = protocol(report, port);
        if let (Some(name), Some(port), Some(protocol)) = (text(report, port, "name"), number, protocol) {
            ports.push(NamedPort { name: name.to_owned(), protocol, port });
        }
    }
    in_order(ports)
}

/// Ports that the kubelet connects to: probes and HTTP hooks, by number or by the name of a port.
fn probe_ports(report: &mut Report, containers: &[&Node], named: &[NamedPort]) -> Vec<u16> {
    const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
    const HOOKS: [&str; 2] = ["postStart", "preStop"];
    let mut ports = Vec::new();
    for container in containers {
        let probes = PROBES.iter().filter_map(|name| container.child(name));
        let lifecycle = container.child("lifecycle");
        let hooks = HOOKS.iter().filter_map(|name| lifecycle.and_then(|lifecycle| lifecycle.child(name)));
        for probe in probes.chain(hooks) {
            for kind in ["httpGet", "tcpSocket", "grpc"] {
                if let Some(node) = probe.child(kind).and_then(|handler| handler.child("port")) {
                    ports.extend(probe_port(report, node, named));
                }
            }
        }
    }
    in_order(ports)
}

/// A number or the name of a container port; a name that no container has is probed by nobody.
fn probe_port(report: &mut Report, node: &Node, named: &[NamedPort]) -> Option<u16> {
    if node.as_scalar().is_some_and(|scalar| scalar.kind() == ScalarKind::Text) {
        let name = node.as_str()?;
        return match name.parse() {
            Ok(number) => Some(number),
            Err(_) => named.iter().find(|port| port.name == name).map(|port| port.port),
        };
    }
    port_number(report, node)
}

/// The controlling owner: a Deployment behind its ReplicaSet, a CronJob behind its Job, else the owner itself, else the pod.
fn workload(report: &mut Report, object: &Object<'_>) -> WorkloadRef {
    let owners = list(report, object.metadata, "ownerReferences");
    let controls = |owner: &&Node| {
        owner.child("controller").and_then(Node::as_scalar).and_then(Scalar::as_bool) == Some(true)
    };
    let owner = owners.iter().find(controls).or(owners.first().filter(|_| owners.len() == 1));
    let kind = owner.and_then(|owner| owner.child("kind")).and_then(Node::as_str).unwrap_or_default();
    let name = owner.and_then(|owner| owner.child("name")).and_then(Node::as_str).unwrap_or(object.name);
    let name = match kind {
        "ReplicaSet" => without_hash(name, object),
        "Job" => without_time(name),
        // A static pod is owned by its node; its own name ends in the node's.
        "Node" => {
            object.name.strip_suffix(name).and_then(|front| front.strip_suffix('-')).unwrap_or(object.name)
        }
        _ => name,
    };
    WorkloadRef { namespace: object.namespace.to_owned(), name: name.to_owned() }
}

/// `web-6d4b75cb6d` with the label `pod-template-hash: 6d4b75cb6d` belongs to `web`.
fn without_hash<'a>(name: &'a str, object: &Object<'_>) -> &'a str {
    let hash = object
        .metadata
        .child("labels")
        .and_then(|labels| labels.child("pod-template-hash"))
        .and_then(Node::as_scalar)
        .map(|scalar| scalar.text.as_str())
        .unwrap_or_default();
    let front = name.strip_suffix(hash).and_then(|front| front.strip_suffix('-'));
    front.filter(|front| !front.is_empty() && !hash.is_empty()).unwrap_or(name)
}

/// A CronJob names its Jobs by the minute since 1970: `backup-29012345` belongs to `backup`.
fn without_time(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((front, time)) if (8..=10).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit()) => {
            front
        }
        Some(_) | None => name,
    }
}

//! Services and their ready endpoints, from EndpointSlices, from legacy Endpoints, or from selectors.

use super::{Object, address, in_order, labels, list, port_number, protocol, text};
use crate::diagnostics::Report;
use crate::inventory::{Inventory, Labels, ObjectName, Pod, Service, ServicePort};
use crate::yaml::{Node, Scalar};
use bulkhead_facts::L4Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is known of endpoints until all objects are read.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    slices: BTreeMap<ObjectName, Vec<Endpoint>>,
    legacy: BTreeMap<ObjectName, Vec<Endpoint>>,
    ports: BTreeMap<ObjectName, Vec<PortSpec>>,
    selectors: BTreeMap<ObjectName, Labels>,
}

/// One ready address with one port, by the port's name on the Service.
#[derive(Debug)]
struct Endpoint {
    port_name: String,
    protocol: L4Protocol,
    address: IpAddr,
    port: u16,
}

/// One port of a Service as written.
#[derive(Debug)]
struct PortSpec {
    name: String,
    protocol: L4Protocol,
    port: u16,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Number(u16),
    Name(String),
}

/// Reads a Service; its endpoints are joined at the end. False if it was there before.
pub(super) fn read(
    report: &mut Report,
    object: &Object<'_>,
    inventory: &mut Inventory,
    endpoints: &mut Endpoints,
) -> bool {
    let Some(spec) = object.node.child("spec") else {
        report.error("missing-field", object.node.span, "a Service needs the field `spec`");
        return true;
    };
    if text(report, spec, "type") == Some("ExternalName") {
        return true;
    }
    let service = Service { addresses: cluster_addresses(report, spec), ports: Vec::new() };
    let ports = list(report, spec, "ports").iter().filter_map(|node| read_port(report, node)).collect();
    endpoints.ports.insert(object.key(), ports);
    let selector = labels(report, spec.child("selector"));
    if !selector.is_empty() {
        endpoints.selectors.insert(object.key(), selector);
    }
    inventory.services.insert(object.key(), service).is_none()
}

fn cluster_addresses(report: &mut Report, spec: &Node) -> Vec<IpAddr> {
    let all =
        list(report, spec, "clusterIPs").iter().chain(spec.child("clusterIP").filter(|node| !node.is_null()));
    let real = all.filter(|node| !matches!(node.as_str(), Some("None" | "")));
    in_order(real.filter_map(|node| address(report, node)).collect())
}

fn read_port(report: &mut Report, node: &Node) -> Option<PortSpec> {
    let protocol = protocol(report, node)?;
    let Some(port_node) = node.child("port") else {
        report.error("missing-field", node.span, "a port of a Service needs the field `port`");
        return None;
    };
    let port = port_number(report, port_node)?;
    let target = match node.child("targetPort").filter(|node| !node.is_null()) {
        None => Target::Number(port),
        Some(node) => match node.as_str() {
            Some(name) => name.parse().map_or_else(|_| Target::Name(name.to_owned()), Target::Number),
            None => Target::Number(port_number(report, node)?),
        },
    };
    Some(PortSpec { name: text(report, node, "name").unwrap_or_default().to_owned(), protocol, port, target })
}

/// Reads an EndpointSlice.
pub(super) fn read_slice(report: &mut Report, node: &Node, endpoints: &mut Endpoints) {
    let Some(object) = Object::open(report, node) else { return };
    let service = object.labels(report).remove("kubernetes.io/service-name");
    let is_names = text(report, node, "addressType") == Some("FQDN");
    let Some(service) = service.filter(|_| !is_names) else { return };
    let mut found = Vec::new();
    let mut addresses = Vec::new();
    for endpoint in list(report, node, "endpoints") {
        let ready = endpoint.child("conditions").and_then(|conditions| conditions.child("ready"));
        if ready.and_then(Node::as_scalar).and_then(Scalar::as_bool) == Some(false) {
            continue;
        }
        addresses.extend(list(report, endpoint, "addresses").iter().filter_map(|node| address(report, node)));
    }
    for port in list(report, node, "ports") {
        found.extend(with_port(report, port, &addresses));
    }
    let key = ObjectName { namespace: object.namespace.to_owned(), name: service };
    endpoints.slices.entry(key).or_default().extend(found);
}

/// Reads legacy Endpoints.
pub(super) fn read_legacy(report: &mut Report, node: &Node, endpoints: &mut Endpoints) {
    let Some(object) = Object::open(report, node) else { return };
    let mut found = Vec::new();
    for subset in list(report, node, "subsets") {
        let mut addresses = Vec::new();
        for item in list(report, subset, "addresses") {
            addresses.extend(item.child("ip").and_then(|node| address(report, node)));
        }
        for port in list(report, subset, "ports") {
            found.extend(with_port(report, port, &addresses));
        }
    }
    endpoints.legacy.entry(object.key()).or_default().extend(found);
}

fn with_port(report: &mut Report, node: &Node, addresses: &[IpAddr]) -> Vec<Endpoint> {
    let protocol = protocol(report, node);
    let port = node.child("port").filter(|node| !node.is_null()).and_then(|node| port_number(report, node));
    let (Some(protocol), Some(port)) = (protocol, port) else { return Vec::new() };
    let port_name = text(report, node, "name").unwrap_or_default();
    let endpoint =
        |address: &IpAddr| Endpoint { port_name: port_name.to_owned(), protocol, address: *address, port };
    addresses.iter().map(endpoint).collect()
}

/// Gives every Service its ready endpoints. EndpointSlices win over Endpoints of the same Service; where the inventory
/// has neither kind at all, the selector's pods are taken as ready.
pub(super) fn join(inventory: &mut Inventory, endpoints: Endpoints) {
    let has_objects = !endpoints.slices.is_empty() || !endpoints.legacy.is_empty();
    for (key, specs) in &endpoints.ports {
        let listed = endpoints.slices.get(key).or_else(|| endpoints.legacy.get(key));
        let ports = specs
            .iter()
            .map(|spec| {
                let targets = match (listed, endpoints.selectors.get(key)) {
                    (Some(listed), _) => from_objects(spec, listed),
                    (None, Some(selector)) if !has_objects => from_pods(spec, key, selector, &inventory.pods),
                    (None, Some(_) | None) => Vec::new(),
                };
                ServicePort { port: spec.port, protocol: spec.protocol, endpoints: in_order(targets) }
            })
            .collect();
        if let Some(service) = inventory.services.get_mut(key) {
            service.ports = ports;
        }
    }
}

fn from_objects(spec: &PortSpec, listed: &[Endpoint]) -> Vec<(IpAddr, u16)> {
    let same = |endpoint: &&Endpoint| endpoint.port_name == spec.name && endpoint.protocol == spec.protocol;
    listed.iter().filter(same).map(|endpoint| (endpoint.address, endpoint.port)).collect()
}

fn from_pods(
    spec: &PortSpec,
    key: &ObjectName,
    selector: &Labels,
    pods: &BTreeMap<ObjectName, Pod>,
) -> Vec<(IpAddr, u16)> {
    let chosen = pods.iter().filter(|(name, pod)| {
        name.namespace == key.namespace
            && selector.iter().all(|(label, value)| pod.labels.get(label) == Some(value))
    });
    let mut targets = Vec::new();
    for (_, pod) in chosen {
        let port = match &spec.target {
            Target::Number(port) => Some(*port),
            Target::Name(name) => {
                let named =
                    pod.ports.iter().find(|port| port.name == *name && port.protocol == spec.protocol);
                named.map(|port| port.port)
            }
        };
        targets.extend(
            port.into_iter().flat_map(|port| pod.addresses.iter().map(move |address| (*address, port))),
        );
    }
    targets
}

//! The inventory: what `kubectl get namespaces,pods,services,endpointslices,nodes -A -o yaml` prints, or files in that shape.
//!
//! Foreign data: fields and kinds that say nothing about addresses are passed over. Strict where a guess would be
//! wrong: an address, port or name that cannot be read is an error, and one error refuses the whole.

mod pods;
mod services;

use super::selectors::NAMESPACE_NAME_LABEL;
use super::{items_of, type_of, type_of_item};
use crate::diagnostics::{Diagnostic, Report, Source, quoted};
use crate::inventory::{Inventory, Labels, ObjectName};
use crate::limits::INVENTORY_SOURCE_BYTES_MAX;
use crate::yaml::{self, Fields, Node, Nulls};
use services::Endpoints;
use std::net::IpAddr;

/// Reads namespaces, pods, Services with their endpoints, and nodes, from Lists or single documents.
pub fn load_inventory(sources: &[Source]) -> Result<Inventory, Vec<Diagnostic>> {
    let mut inventory = Inventory::default();
    let mut endpoints = Endpoints::default();
    let mut found = Vec::new();
    for source in sources {
        match yaml::parse_within(source, INVENTORY_SOURCE_BYTES_MAX) {
            Ok(documents) => {
                let mut report = Report::new(&*source.name);
                for document in &documents {
                    read_document(&mut report, document, &mut inventory, &mut endpoints);
                }
                found.extend(report.finish());
            }
            Err(diagnostics) => found.extend(diagnostics),
        }
    }
    if crate::diagnostics::has_errors(&found) {
        return Err(found);
    }
    services::join(&mut inventory, endpoints);
    name_namespaces(&mut inventory);
    Ok(inventory)
}

fn read_document(report: &mut Report, node: &Node, inventory: &mut Inventory, endpoints: &mut Endpoints) {
    let Some((version, kind)) = type_of(report, node) else { return };
    match items_of(report, node, kind) {
        Some(items) => {
            for item in items {
                if let Some((version, kind)) = type_of_item(report, item, (version, kind)) {
                    read_object(report, item, version, kind, inventory, endpoints);
                }
            }
        }
        None => read_object(report, node, version, kind, inventory, endpoints),
    }
}

fn read_object(
    report: &mut Report,
    node: &Node,
    version: &str,
    kind: &str,
    inventory: &mut Inventory,
    endpoints: &mut Endpoints,
) {
    match (version, kind) {
        ("v1", "Namespace") => {
            let Some(object) = Object::open(report, node) else { return };
            let fresh = inventory.namespaces.insert(object.name.to_owned(), object.labels(report)).is_none();
            object.refuse_twice(report, fresh, kind);
        }
        ("v1", "Pod") => {
            let Some(object) = Object::open(report, node) else { return };
            let Some(pod) = pods::read(report, &object) else { return };
            let fresh = inventory.pods.insert(object.key(), pod).is_none();
            object.refuse_twice(report, fresh, kind);
        }
        ("v1", "Service") => {
            let Some(object) = Object::open(report, node) else { return };
            let fresh = services::read(report, &object, inventory, endpoints);
            object.refuse_twice(report, fresh, kind);
        }
        ("discovery.k8s.io/v1", "EndpointSlice") => services::read_slice(report, node, endpoints),
        ("v1", "Endpoints") => services::read_legacy(report, node, endpoints),
        ("v1", "Node") => {
            let Some(object) = Object::open(report, node) else { return };
            let addresses = read_node_addresses(report, node);
            inventory.node_labels.insert(object.name.to_owned(), object.labels(report));
            let fresh = inventory.nodes.insert(object.name.to_owned(), addresses).is_none();
            object.refuse_twice(report, fresh, kind);
        }
        _ => {}
    }
}

/// The API server labels every namespace with its name; one that only pods mention is known by its name alone.
fn name_namespaces(inventory: &mut Inventory) {
    let mentioned: Vec<String> =
        inventory.pods.keys().chain(inventory.services.keys()).map(|key| key.namespace.clone()).collect();
    for name in mentioned {
        inventory.namespaces.entry(name).or_default();
    }
    for (name, labels) in &mut inventory.namespaces {
        labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.clone());
    }
}

/// Addresses of a node, not its host names.
fn read_node_addresses(report: &mut Report, node: &Node) -> Vec<IpAddr> {
    let list = node.child("status").and_then(|status| status.child("addresses"));
    let mut addresses = Vec::new();
    for item in list.and_then(Node::as_list).unwrap_or_default() {
        let is_address =
            matches!(item.child("type").and_then(Node::as_str), Some("InternalIP" | "ExternalIP"));
        if is_address && let Some(node) = item.child("address") {
            addresses.extend(address(report, node));
        }
    }
    in_order(addresses)
}

/// An object with its name, before its kind is read.
struct Object<'a> {
    node: &'a Node,
    metadata: &'a Node,
    name: &'a str,
    namespace: &'a str,
}

impl<'a> Object<'a> {
    fn open(report: &mut Report, node: &'a Node) -> Option<Self> {
        let metadata =
            Fields::open(report, node, "an object", Nulls::Absent)?.required(report, "metadata")?;
        let mut fields = Fields::open(report, metadata, "metadata", Nulls::Absent)?;
        let name = fields.required_text(report, "name");
        let namespace = fields.text(report, "namespace").unwrap_or("default");
        Some(Self { node, metadata, name: name?, namespace })
    }

    fn key(&self) -> ObjectName {
        ObjectName { namespace: self.namespace.to_owned(), name: self.name.to_owned() }
    }

    fn labels(&self, report: &mut Report) -> Labels {
        labels(report, self.metadata.child("labels"))
    }

    /// The place of the name.
    fn span(&self) -> crate::diagnostics::Span {
        self.metadata.child("name").map_or(self.node.span, |name| name.span)
    }

    fn refuse_twice(&self, report: &mut Report, fresh: bool, kind: &str) {
        if !fresh {
            report
                .error(
                    "duplicate-object",
                    self.span(),
                    format!("{kind} {} is there twice", quoted(self.name)),
                )
                .help("keep the newer one");
        }
    }
}

fn labels(report: &mut Report, node: Option<&Node>) -> Labels {
    let mut labels = Labels::new();
    let Some(node) = node.filter(|node| !node.is_null()) else { return labels };
    let Some(entries) = node.as_map() else {
        report.error("wrong-type", node.span, format!("labels must be a mapping, not {}", node.kind_name()));
        return labels;
    };
    for entry in entries {
        if let Some(value) = entry.value.expect_text(report, &entry.key) {
            labels.insert(entry.key.clone(), value.to_owned());
        }
    }
    labels
}

/// An address in its one form; IPv4-mapped IPv6 is folded.
fn address(report: &mut Report, node: &Node) -> Option<IpAddr> {
    let text = node.expect_text(report, "address")?;
    let address = text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if address.is_none() {
        report
            .error("bad-address", node.span, format!("{} is no address", quoted(text)))
            .help("write for example `10.0.0.7` or `fd00::7`");
    }
    address
}

/// The items of a list that may be absent; an error if it is something else.
fn list<'a>(report: &mut Report, node: &'a Node, name: &str) -> &'a [Node] {
    match node.child(name).filter(|child| !child.is_null()) {
        Some(child) => child.expect_list(report, name).unwrap_or_default(),
        None => &[],
    }
}

/// Text that may be absent; an error if it is something else.
fn text<'a>(report: &mut Report, node: &'a Node, name: &str) -> Option<&'a str> {
    node.child(name).filter(|child| !child.is_null())?.expect_text(report, name)
}

fn port_number(report: &mut Report, node: &Node) -> Option<u16> {
    node.expect_integer(report, "port", 1..=65535).and_then(|port| u16::try_from(port).ok())
}

/// A protocol by its Kubernetes name; absent is TCP.
fn protocol(report: &mut Report, node: &Node) -> Option<bulkhead_facts::L4Protocol> {
    use bulkhead_facts::L4Protocol;
    match text(report, node, "protocol") {
        None | Some("TCP") => Some(L4Protocol::TCP),
        Some("UDP") => Some(L4Protocol::UDP),
        Some("SCTP") => Some(L4Protocol::SCTP),
        Some(other) => {
            report
                .error("bad-value", node.span, format!("protocol {} is unknown", quoted(other)))
                .help("write `TCP`, `UDP` or `SCTP`");
            None
        }
    }
}

/// Sorted, each once.
fn in_order<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items.dedup();
    items
}

#[cfg(test)]
mod tests;

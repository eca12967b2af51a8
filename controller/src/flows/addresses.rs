//! Whose an address is: the inventory turned around.

use super::edge::Endpoint;
use bulkhead_api::rest::{Party, PartyKind};
use bulkhead_facts::L4Protocol;
use bulkhead_policies::inventory::{Inventory, Pod, ServicePort};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Owners of addresses at one moment.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    owners: BTreeMap<IpAddr, Owner>,
    /// Addresses that changed hands a moment ago.
    held_down: BTreeSet<IpAddr>,
    backends: BTreeMap<(IpAddr, L4Protocol, u16), Backend>,
}

#[derive(Clone, Debug)]
struct Owner {
    party: Party,
    pod: Option<String>,
}

/// What lies behind one port of a Service's address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Backend {
    /// The workload of every ready endpoint, if it is one and the same.
    workload: Option<Party>,
    /// The target port, if every ready endpoint has the same.
    port: Option<u16>,
}

/// The destination of a flow, after the Service that was dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) via_service: Option<String>,
    pub(super) port: u16,
}

impl Addresses {
    /// Reads the inventory. Pods in a node's network namespace are seen as the node; where an address is claimed
    /// twice the pod wins over the node, and the node over the Service.
    pub fn new(inventory: &Inventory) -> Self {
        let mut addresses = Self::default();
        for (name, service) in &inventory.services {
            let party = party(PartyKind::Service, &name.namespace, &name.name);
            for address in &service.addresses {
                addresses.owners.insert(*address, Owner { party: party.clone(), pod: None });
            }
        }
        for (name, node_addresses) in &inventory.nodes {
            let party = Party { kind: PartyKind::Node, namespace: None, name: name.clone() };
            for address in node_addresses {
                addresses.owners.insert(*address, Owner { party: party.clone(), pod: None });
            }
        }
        for (name, pod) in inventory.pods.iter().filter(|(_, pod)| !pod.host_network) {
            for address in &pod.addresses {
                let owner = Owner { party: workload(pod), pod: Some(name.name.clone()) };
                addresses.owners.insert(*address, owner);
            }
        }
        addresses.add_backends(inventory);
        addresses
    }

    /// The same, where these addresses changed hands a moment ago.
    pub fn with_held_down(self, held_down: BTreeSet<IpAddr>) -> Self {
        Self { held_down, ..self }
    }

    /// True if it changed hands a moment ago, so that only what both holders may is allowed.
    pub(super) fn is_held_down(&self, address: IpAddr) -> bool {
        self.held_down.contains(&address.to_canonical())
    }

    /// Whose an address is.
    pub fn endpoint(&self, address: IpAddr) -> Endpoint {
        match self.owners.get(&address) {
            Some(owner) => Endpoint { party: owner.party.clone(), pod: owner.pod.clone(), address },
            None => {
                let party = Party { kind: PartyKind::Outside, namespace: None, name: address.to_string() };
                Endpoint { party, pod: None, address }
            }
        }
    }

    pub(super) fn target(&self, address: IpAddr, protocol: L4Protocol, port: u16) -> Target {
        let mut endpoint = self.endpoint(address);
        if endpoint.party.kind != PartyKind::Service {
            return Target { endpoint, via_service: None, port };
        }
        let namespace = endpoint.party.namespace.as_deref().unwrap_or_default();
        let via_service = Some(format!("{namespace}/{}", endpoint.party.name));
        let Some(backend) = self.backends.get(&(address, protocol, port)) else {
            return Target { endpoint, via_service, port };
        };
        if let Some(workload) = &backend.workload {
            endpoint.party = workload.clone();
        }
        Target { endpoint, via_service, port: backend.port.unwrap_or(port) }
    }

    fn add_backends(&mut self, inventory: &Inventory) {
        for service in inventory.services.values() {
            for service_port in &service.ports {
                let backend = self.backend(service_port);
                for address in &service.addresses {
                    let key = (*address, service_port.protocol, service_port.port);
                    self.backends.insert(key, backend.clone());
                }
            }
        }
    }

    fn backend(&self, port: &ServicePort) -> Backend {
        let parties: BTreeSet<Party> = port.endpoints.iter().map(|(a, _)| self.endpoint(*a).party).collect();
        let ports: BTreeSet<u16> = port.endpoints.iter().map(|(_, port)| *port).collect();
        let workload = only(parties).filter(|party| party.kind == PartyKind::Workload);
        Backend { workload, port: only(ports) }
    }
}

/// The workload of a pod as a party.
pub fn workload(pod: &Pod) -> Party {
    party(PartyKind::Workload, &pod.workload.namespace, &pod.workload.name)
}

fn party(kind: PartyKind, namespace: &str, name: &str) -> Party {
    Party { kind, namespace: Some(namespace.to_owned()), name: name.to_owned() }
}

fn only<T>(set: BTreeSet<T>) -> Option<T> {
    let mut items = set.into_iter();
    items.next().filter(|_| items.next().is_none())
}

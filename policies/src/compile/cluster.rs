//! The inventory, indexed for the questions that peers ask.
//!
//! Pods in the node's network namespace are seen as their node: no selector finds them. An address that two pods
//! hold at once counts for an allow only if both match, for a deny if one does.

use super::intervals::AddressSet;
use super::selectors::{NAMESPACE_NAME_LABEL, selects};
use crate::inventory::{Inventory, Labels, ObjectName, Pod, Service, ServicePort};
use crate::model::{NamespaceMatch, Operator, Selector};
use bulkhead_facts::L4Protocol;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Spans of [`Cluster::inside`] at most: they are part of every program that learns.
const INSIDE_SPANS_MAX: usize = 512;

/// Position of a pod in [`Cluster::pods`].
pub(crate) type PodIndex = usize;
/// Position of a Service in [`Cluster::services`].
pub(crate) type ServiceIndex = usize;

/// Protocol, port as dialled, port of the endpoint.
pub(crate) type PortChange = (L4Protocol, u16, u16);

/// Services that lead to the same other ports than are dialled.
pub(crate) struct Renumbered {
    /// The ports, sorted; never empty.
    pub(crate) changes: Vec<PortChange>,
    /// The Services, ascending.
    pub(crate) services: Vec<ServiceIndex>,
}

/// Inventory with its indexes. Nothing here depends on any policy.
pub(crate) struct Cluster<'a> {
    /// The inventory itself.
    pub(crate) inventory: &'a Inventory,
    /// Every pod, sorted by name.
    pub(crate) pods: Vec<(&'a ObjectName, &'a Pod)>,
    /// Every Service, sorted by name.
    pub(crate) services: Vec<(&'a ObjectName, &'a Service)>,
    /// Every ready endpoint with its Service, sorted.
    pub(crate) endpoints: Vec<(IpAddr, ServiceIndex)>,
    /// Every Service address with its Service, sorted.
    pub(crate) service_addresses: Vec<(IpAddr, ServiceIndex)>,
    /// Addresses of pods that selectors can find.
    pub(crate) pod_addresses: AddressSet,
    /// Addresses of nodes and of pods in a node's network namespace.
    pub(crate) node_addresses: AddressSet,
    /// Pods, and Service addresses that lead nowhere but to pods; in a large cluster with the gaps between them.
    pub(crate) inside: AddressSet,
    /// Addresses that several pods hold, with those pods.
    pub(crate) contested: BTreeMap<IpAddr, Vec<PodIndex>>,
    /// Services that lead to other ports than are dialled, those with the same ports together.
    pub(crate) renumbered: Vec<Renumbered>,
    /// Services with a port that has no ready endpoint of a family that they have an address of.
    pub(crate) lacking: Vec<ServiceIndex>,
    namespaces: BTreeMap<&'a str, Labels>,
    /// Pods by label; only pods that selectors can find, in order.
    by_label: HashMap<(&'a str, &'a str), Vec<PodIndex>>,
    selectable: Vec<PodIndex>,
    by_port_name: HashMap<&'a str, Vec<(PodIndex, L4Protocol, u16)>>,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(inventory: &'a Inventory) -> Self {
        let pods: Vec<_> = inventory.pods.iter().collect();
        let services: Vec<_> = inventory.services.iter().collect();
        let selectable: Vec<_> = (0..pods.len()).filter(|at| !pods[*at].1.host_network).collect();
        let pod_addresses =
            AddressSet::of(selectable.iter().flat_map(|at| pods[*at].1.addresses.iter().copied()));
        let host_pods = pods.iter().filter(|(_, pod)| pod.host_network);
        let nodes = inventory.nodes.values().flatten().chain(host_pods.flat_map(|(_, pod)| &pod.addresses));
        let mut cluster = Self {
            inventory,
            node_addresses: AddressSet::of(nodes.copied()),
            endpoints: endpoints(&services),
            service_addresses: service_addresses(&services),
            inside: inside(&pod_addresses, &services).coarsened(INSIDE_SPANS_MAX),
            contested: contested(&pods, &selectable),
            renumbered: renumbered(&services),
            lacking: (0..services.len()).filter(|at| lacks_endpoints(services[*at].1)).collect(),
            namespaces: namespaces(inventory),
            by_label: HashMap::with_capacity(selectable.len()),
            by_port_name: HashMap::new(),
            pod_addresses,
            pods,
            services,
            selectable,
        };
        cluster.index_pods();
        cluster
    }

    fn index_pods(&mut self) {
        for at in &self.selectable {
            let pod = self.pods[*at].1;
            for (key, value) in &pod.labels {
                self.by_label.entry((key, value)).or_default().push(*at);
            }
            for named in &pod.ports {
                self.by_port_name.entry(&named.name).or_default().push((*at, named.protocol, named.port));
            }
        }
    }

    /// Position of a pod.
    pub(crate) fn pod(&self, name: &ObjectName) -> Option<PodIndex> {
        self.pods.binary_search_by(|(other, _)| (*other).cmp(name)).ok()
    }

    /// True if the matcher names this namespace.
    pub(crate) fn namespace_matches(&self, matcher: &NamespaceMatch, namespace: &str) -> bool {
        match matcher {
            NamespaceMatch::Own(own) => own == namespace,
            NamespaceMatch::Labels(selector) => {
                self.namespaces.get(namespace).is_some_and(|labels| selects(selector, labels))
            }
        }
    }

    /// The pods that namespaces and labels name, in order; never one in a node's network namespace.
    pub(crate) fn select(&self, namespaces: &NamespaceMatch, workloads: &Selector) -> Vec<PodIndex> {
        let mut matching: HashMap<&str, bool> = HashMap::new();
        self.candidates(namespaces, workloads)
            .into_iter()
            .filter(|at| {
                let (name, pod) = self.pods[*at];
                let in_namespace = *matching
                    .entry(name.namespace.as_str())
                    .or_insert_with(|| self.namespace_matches(namespaces, &name.namespace));
                in_namespace && selects(workloads, &pod.labels)
            })
            .collect()
    }

    /// A superset of the pods that are selected: the shortest list that one requirement or the namespace gives.
    fn candidates(&self, namespaces: &NamespaceMatch, workloads: &Selector) -> Vec<PodIndex> {
        let range = |list: &[PodIndex]| match namespaces {
            NamespaceMatch::Labels(_) => (0, list.len()),
            NamespaceMatch::Own(own) => {
                let first = list.partition_point(|at| self.pods[*at].0.namespace < *own);
                let end = list.partition_point(|at| self.pods[*at].0.namespace <= *own);
                (first, end)
            }
        };
        let mut best = {
            let (first, end) = range(&self.selectable);
            vec![&self.selectable[first..end]]
        };
        for requirement in &workloads.requirements {
            let Operator::In(values) = &requirement.operator else { continue };
            let lists: Vec<_> = values
                .iter()
                .filter_map(|value| self.by_label.get(&(requirement.key.as_str(), value.as_str())))
                .map(|list| {
                    let (first, end) = range(list);
                    &list[first..end]
                })
                .collect();
            let size = |lists: &[&[PodIndex]]| lists.iter().map(|list| list.len()).sum::<usize>();
            if size(&lists) < size(&best) {
                best = lists;
            }
        }
        let mut pods = best.concat();
        pods.sort_unstable();
        pods.dedup();
        pods
    }

    /// Pods with a container port of that name, with its protocol and number.
    pub(crate) fn named_ports(&self, name: &str) -> &[(PodIndex, L4Protocol, u16)] {
        self.by_port_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The Service of that name.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&'a Service> {
        let key = ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
        self.inventory.services.get(&key)
    }

    /// Addresses of the node of that name.
    pub(crate) fn node(&self, name: &str) -> AddressSet {
        AddressSet::of(self.inventory.nodes.get(name).into_iter().flatten().copied())
    }

    /// Every Service address.
    pub(crate) fn all_service_addresses(&self) -> AddressSet {
        AddressSet::of(self.service_addresses.iter().map(|(address, _)| *address))
    }
}

/// Namespaces with the label that the API server guarantees, also those that only pods tell of.
fn namespaces(inventory: &Inventory) -> BTreeMap<&str, Labels> {
    let told = inventory.namespaces.iter().map(|(name, labels)| (name.as_str(), labels.clone()));
    // Pods are sorted by namespace.
    let mut implied: Vec<_> = inventory.pods.keys().map(|pod| pod.namespace.as_str()).collect();
    implied.dedup();
    let implied = implied.into_iter().map(|name| (name, Labels::new()));
    let mut all: BTreeMap<&str, Labels> = implied.chain(told).collect();
    for (name, labels) in &mut all {
        labels.insert(NAMESPACE_NAME_LABEL.to_owned(), (*name).to_owned());
    }
    all
}

fn endpoints(services: &[(&ObjectName, &Service)]) -> Vec<(IpAddr, ServiceIndex)> {
    let all = services.iter().enumerate().flat_map(|(at, (_, service))| {
        service
            .ports
            .iter()
            .flat_map(|port| &port.endpoints)
            .map(move |(address, _)| (address.to_canonical(), at))
    });
    sorted(all)
}

fn service_addresses(services: &[(&ObjectName, &Service)]) -> Vec<(IpAddr, ServiceIndex)> {
    let all = services.iter().enumerate();
    let pairs =
        all.flat_map(|(at, (_, service))| service.addresses.iter().map(move |a| (a.to_canonical(), at)));
    let mut addresses = sorted(pairs);
    addresses.dedup_by_key(|(address, _)| *address);
    addresses
}

fn renumbered(services: &[(&ObjectName, &Service)]) -> Vec<Renumbered> {
    let mut by_ports: BTreeMap<Vec<PortChange>, Vec<ServiceIndex>> = BTreeMap::new();
    for (at, (_, service)) in services.iter().enumerate() {
        let changes = service.ports.iter().flat_map(|port| {
            let targets = port.endpoints.iter().map(|(_, target)| *target);
            targets.filter(|target| *target != port.port).map(|target| (port.protocol, port.port, target))
        });
        let changes = sorted(changes);
        if !changes.is_empty() {
            by_ports.entry(changes).or_default().push(at);
        }
    }
    by_ports.into_iter().map(|(changes, services)| Renumbered { changes, services }).collect()
}

/// True if a port has no ready endpoint of a family that the Service has an address of.
pub(crate) fn lacks_endpoints(service: &Service) -> bool {
    let lacks = |port: &ServicePort, v4: bool| {
        port.endpoints.iter().all(|(address, _)| address.to_canonical().is_ipv4() != v4)
    };
    let families = || service.addresses.iter().map(|own| own.to_canonical().is_ipv4());
    service.ports.iter().any(|port| families().any(|v4| lacks(port, v4)))
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items.dedup();
    items
}

fn inside(pods: &AddressSet, services: &[(&ObjectName, &Service)]) -> AddressSet {
    let leads_to_pods = |service: &Service| {
        service.ports.iter().flat_map(|port| &port.endpoints).all(|(address, _)| pods.contains(*address))
    };
    let services = services.iter().filter(|(_, service)| leads_to_pods(service));
    let addresses = AddressSet::of(services.flat_map(|(_, service)| service.addresses.iter().copied()));
    AddressSet::union([pods, &addresses])
}

fn contested(pods: &[(&ObjectName, &Pod)], selectable: &[PodIndex]) -> BTreeMap<IpAddr, Vec<PodIndex>> {
    let held = selectable.iter().flat_map(|at| {
        let own = pods[*at].1.addresses.iter();
        own.map(move |address| (address.to_canonical(), *at))
    });
    let held = sorted(held);
    let runs = held.chunk_by(|(one, _), (other, _)| one == other).filter(|run| run.len() > 1);
    runs.map(|run| (run[0].0, run.iter().map(|(_, at)| *at).collect())).collect()
}

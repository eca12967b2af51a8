//! From the peers of a rule to a set of addresses.

use super::cluster::{Cluster, PodIndex};
use super::intervals::AddressSet;
use super::selectors::selects;
use super::touched::Touched;
use crate::inventory::{Labels, ObjectName, Pod};
use crate::model::{Entity, Peer, Peers, Selector};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

/// How doubt is read: an allow takes only what is certain, a deny or pass all that is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reading {
    /// Only addresses that match without doubt.
    Certain,
    /// Every address that may match.
    Possible,
}

/// Addresses from which clouds hand out credentials, and which no `world` rule means: the instance metadata of AWS,
/// GCP, Azure and others, ECS tasks and EKS pods, Alibaba, Azure's wire server, and AWS over IPv6.
pub const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// What a rule reaches.
#[derive(Debug)]
pub(crate) enum Reach {
    /// Every address.
    Any,
    /// These.
    Set(Region),
}

/// Addresses, with the Services that they touch.
#[derive(Debug)]
pub(crate) struct Region {
    /// The addresses.
    pub(crate) addresses: AddressSet,
    touched: OnceLock<Touched>,
}

impl Region {
    pub(crate) fn new(addresses: AddressSet) -> Self {
        Self { addresses, touched: OnceLock::new() }
    }

    /// The Services that the addresses touch, looked up once.
    pub(crate) fn touched(&self, cluster: &Cluster<'_>) -> &Touched {
        self.touched.get_or_init(|| Touched::new(cluster, &self.addresses))
    }
}

/// What these peers reach.
pub(crate) fn reach(cluster: &Cluster<'_>, peers: &Peers, reading: Reading) -> Reach {
    let Peers::These(peers) = peers else { return Reach::Any };
    let unknown = peers.iter().any(|peer| matches!(peer, Peer::Unknown(_) | Peer::Name(_)));
    if unknown && reading == Reading::Possible {
        return Reach::Any;
    }
    let sets: Vec<_> = peers.iter().map(|peer| addresses(cluster, peer, reading)).collect();
    Reach::Set(Region::new(AddressSet::union(&sets)))
}

fn addresses(cluster: &Cluster<'_>, peer: &Peer, reading: Reading) -> AddressSet {
    match peer {
        Peer::Workloads { namespaces, workloads } => {
            pod_addresses(cluster, &cluster.select(namespaces, workloads), reading)
        }
        Peer::Service { namespace, name } => service(cluster, namespace, name),
        Peer::Cidr { block, except } => {
            let except: Vec<_> = except.iter().map(|cidr| AddressSet::block(*cidr)).collect();
            AddressSet::block(*block).minus(&AddressSet::union(&except))
        }
        Peer::Nodes(labels) => node_addresses(cluster, labels),
        Peer::Entity(entity) => entity_addresses(cluster, *entity),
        Peer::Unknown(_) | Peer::Name(_) => AddressSet::default(),
    }
}

/// Addresses of these pods (in order); an address that other pods hold as well is certain only if all are among them.
pub(crate) fn pod_addresses(cluster: &Cluster<'_>, pods: &[PodIndex], reading: Reading) -> AddressSet {
    let all = AddressSet::of(pods.iter().flat_map(|at| cluster.pods[*at].1.addresses.iter().copied()));
    if reading == Reading::Possible || cluster.contested.is_empty() {
        return all;
    }
    let doubtful = cluster
        .contested
        .iter()
        .filter(|(_, holders)| holders.iter().any(|holder| pods.binary_search(holder).is_err()))
        .map(|(address, _)| *address);
    all.minus(&AddressSet::of(doubtful))
}

/// Addresses of the nodes with these labels, and of the pods that live in their network namespace.
fn node_addresses(cluster: &Cluster<'_>, labels: &Selector) -> AddressSet {
    let none = Labels::new();
    let inventory = cluster.inventory;
    let selected = |node: &str| selects(labels, inventory.node_labels.get(node).unwrap_or(&none));
    let nodes =
        inventory.nodes.iter().filter(|(node, _)| selected(node)).flat_map(|(_, addresses)| addresses);
    let on_them =
        |pod: &&(&ObjectName, &Pod)| pod.1.host_network && !pod.1.node.is_empty() && selected(&pod.1.node);
    let pods = cluster.pods.iter().filter(on_them).flat_map(|(_, pod)| &pod.addresses);
    AddressSet::of(nodes.chain(pods).copied())
}

/// The Service's own addresses and its ready endpoints.
fn service(cluster: &Cluster<'_>, namespace: &str, name: &str) -> AddressSet {
    let Some(service) = cluster.service(namespace, name) else { return AddressSet::default() };
    let endpoints = service.ports.iter().flat_map(|port| &port.endpoints).map(|(address, _)| *address);
    AddressSet::of(endpoints.chain(service.addresses.iter().copied()))
}

fn entity_addresses(cluster: &Cluster<'_>, entity: Entity) -> AddressSet {
    match entity {
        Entity::World => {
            let metadata = AddressSet::of(METADATA);
            AddressSet::everything().minus(&everything_of_cluster(cluster)).minus(&metadata)
        }
        Entity::Cluster => everything_of_cluster(cluster),
        Entity::Node => cluster.node_addresses.clone(),
        Entity::KubeApiserver => service(cluster, "default", "kubernetes"),
        Entity::Dns => resolver(cluster),
        Entity::Metadata => AddressSet::of(METADATA),
    }
}

fn everything_of_cluster(cluster: &Cluster<'_>) -> AddressSet {
    AddressSet::union([&cluster.pod_addresses, &cluster.node_addresses, &cluster.all_service_addresses()])
}

/// The Service `kube-system/kube-dns` with its endpoints, and the pods that carry its label.
pub(crate) fn resolver(cluster: &Cluster<'_>) -> AddressSet {
    let pods = cluster.pods.iter().filter(|(name, pod)| {
        let labelled = pod.labels.get("k8s-app").is_some_and(|app| app == "kube-dns");
        name.namespace == "kube-system" && labelled && !pod.host_network
    });
    let labelled = AddressSet::of(pods.flat_map(|(_, pod)| pod.addresses.iter().copied()));
    AddressSet::union([&service(cluster, "kube-system", "kube-dns"), &labelled])
}

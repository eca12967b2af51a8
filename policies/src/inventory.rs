//! What is known of the cluster: namespaces, pods, Services, nodes.
//!
//! Plain values, built from Kubernetes objects (`kubectl get … -o yaml`, the API server, or a lab's files) by
//! [`crate::documents`]. Everything is sorted by key, so equal clusters give equal programs.

use bulkhead_facts::{L4Protocol, WorkloadRef};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A namespace and a name within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What is known of the cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Namespaces with their labels.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods that run (Succeeded and Failed ones hold no address any more and are left out).
    pub pods: BTreeMap<ObjectName, Pod>,
    /// Services with their endpoints.
    pub services: BTreeMap<ObjectName, Service>,
    /// Addresses of nodes by name.
    pub nodes: BTreeMap<String, Vec<IpAddr>>,
    /// Labels of nodes by name.
    pub node_labels: BTreeMap<String, Labels>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Unique identifier: an address that changes hands is told apart by it.
    pub uid: String,
    /// The owner: Deployment, StatefulSet, Job, or the pod itself.
    pub workload: WorkloadRef,
    /// Labels.
    pub labels: Labels,
    /// Service account.
    pub service_account: String,
    /// Addresses of both families.
    pub addresses: Vec<IpAddr>,
    /// True if it lives in the node's network namespace: then it is seen as its node.
    pub host_network: bool,
    /// Name of its node; empty if unknown.
    pub node: String,
    /// Named container ports.
    pub ports: Vec<NamedPort>,
    /// Ports that the kubelet probes (HTTP, TCP and gRPC probes of all containers).
    pub probe_ports: Vec<u16>,
}

/// A named container port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    /// Name.
    pub name: String,
    /// Protocol.
    pub protocol: L4Protocol,
    /// Number.
    pub port: u16,
}

/// One Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Cluster addresses of both families; none for a headless Service.
    pub addresses: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service with its ready endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Port on the Service's address.
    pub port: u16,
    /// Protocol.
    pub protocol: L4Protocol,
    /// Ready endpoints: address and target port.
    pub endpoints: Vec<(IpAddr, u16)>,
}

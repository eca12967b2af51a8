//! Which policies a change bears on: each policy under everything by which a pod, a port name or a Service finds it.
//!
//! Finding errs on the side of too many; [`names`] then looks at the rules themselves.

use super::policies::subject_keys;
use super::selectors::{NAMESPACE_NAME_LABEL, selects};
use crate::inventory::{Inventory, Labels, ObjectName, Pod};
use crate::model::{NamespaceMatch, Peer, Peers, Policy, PortMatch, Ports, Rule, Subject};
use bulkhead_facts::Direction;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// A namespace if one is meant, and one label if one is asked for.
type PodHandle = (Option<String>, Option<(String, String)>);

/// By what a policy is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Handle {
    /// Pods that it selects.
    Subject(PodHandle),
    /// Pods that a rule names.
    Peer(PodHandle),
    /// A port name that an egress rule asks for.
    PortName(String),
    /// A Service that a rule names.
    Service(ObjectName),
    /// A rule names an entity.
    Entity,
    /// A rule names a block of addresses.
    Block,
    /// An egress rule names everybody.
    Everybody,
    /// A rule names a name.
    Name,
}

/// Policies by address in memory, so that each counts once.
pub(super) type PolicyBag = BTreeMap<*const Policy, Arc<Policy>>;

/// All policies, by what they depend on.
#[derive(Clone, Default)]
pub(super) struct Dependents {
    by_handle: HashMap<Handle, Vec<Arc<Policy>>>,
}

impl Dependents {
    /// Adds a policy.
    pub(super) fn insert(&mut self, policy: &Arc<Policy>) {
        for handle in handles(policy) {
            self.by_handle.entry(handle).or_default().push(policy.clone());
        }
    }

    /// Takes a policy away.
    pub(super) fn remove(&mut self, policy: &Arc<Policy>) {
        for handle in handles(policy) {
            let Some(held) = self.by_handle.get_mut(&handle) else { continue };
            held.retain(|other| !Arc::ptr_eq(other, policy));
            if held.is_empty() {
                self.by_handle.remove(&handle);
            }
        }
    }

    /// Adds the policies that select the pod.
    pub(super) fn selecting(&self, whose: &Whose<'_>, bag: &mut PolicyBag) {
        for handle in whose.handles() {
            let selects = |policy: &Policy| whose.covered_by(&policy.subject);
            self.add(&Handle::Subject(handle), selects, bag);
        }
    }

    /// Adds the policies with a rule that names the pod, or one of its ports by name.
    pub(super) fn naming(&self, whose: &Whose<'_>, bag: &mut PolicyBag) {
        for handle in whose.handles() {
            self.add(&Handle::Peer(handle), |policy| names(policy, whose), bag);
        }
        for port in &whose.pod.ports {
            self.add(&Handle::PortName(port.name.clone()), |_| true, bag);
        }
    }

    /// Adds the policies that name a Service.
    pub(super) fn naming_service(&self, name: &ObjectName, bag: &mut PolicyBag) {
        self.add(&Handle::Service(name.clone()), |_| true, bag);
    }

    /// Adds the policies that name an entity.
    pub(super) fn naming_entities(&self, bag: &mut PolicyBag) {
        self.add(&Handle::Entity, |_| true, bag);
    }

    /// Adds the policies that name names: never those of the inside.
    pub(super) fn naming_names(&self, bag: &mut PolicyBag) {
        self.add(&Handle::Name, |_| true, bag);
    }

    /// Adds the policies whose egress names everybody.
    pub(super) fn naming_everybody(&self, bag: &mut PolicyBag) {
        self.add(&Handle::Everybody, |_| true, bag);
    }

    /// Adds the policies that name a block with one of these addresses.
    pub(super) fn naming_blocks_of(&self, addresses: &BTreeSet<IpAddr>, bag: &mut PolicyBag) {
        let holds = |peer: &Peer| matches!(peer, Peer::Cidr { block, .. } if addresses.iter().any(|address| block.contains(*address)));
        self.add(&Handle::Block, |policy| peers(policy).any(&holds), bag);
    }

    fn add(&self, handle: &Handle, bears: impl Fn(&Policy) -> bool, bag: &mut PolicyBag) {
        for policy in self.by_handle.get(handle).into_iter().flatten() {
            let key = Arc::as_ptr(policy);
            if !bag.contains_key(&key) && bears(policy) {
                bag.insert(key, policy.clone());
            }
        }
    }
}

/// A pod as selectors see it.
pub(super) struct Whose<'a> {
    /// Its namespace.
    pub(super) namespace: &'a str,
    /// Labels of its namespace, the name's own among them.
    pub(super) namespace_labels: Labels,
    /// The pod.
    pub(super) pod: &'a Pod,
}

impl<'a> Whose<'a> {
    pub(super) fn new(inventory: &Inventory, namespace: &'a str, pod: &'a Pod) -> Self {
        let mut namespace_labels = inventory.namespaces.get(namespace).cloned().unwrap_or_default();
        namespace_labels.insert(NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned());
        Self { namespace, namespace_labels, pod }
    }

    fn covered_by(&self, subject: &Subject) -> bool {
        self.is_in(&subject.namespaces) && selects(&subject.workloads, &self.pod.labels)
    }

    fn is_in(&self, namespaces: &NamespaceMatch) -> bool {
        match namespaces {
            NamespaceMatch::Own(own) => own == self.namespace,
            NamespaceMatch::Labels(selector) => selects(selector, &self.namespace_labels),
        }
    }

    /// Nothing finds a pod in its node's network namespace.
    fn handles(&self) -> Vec<PodHandle> {
        if self.pod.host_network {
            return Vec::new();
        }
        let labels = self.pod.labels.iter().map(|(key, value)| Some((key.clone(), value.clone())));
        let both = |label: Option<(String, String)>| {
            [(Some(self.namespace.to_owned()), label.clone()), (None, label)]
        };
        labels.chain([None]).flat_map(both).collect()
    }
}

/// True if a rule's selectors name the pod.
fn names(policy: &Policy, whose: &Whose<'_>) -> bool {
    peers(policy).any(|peer| match peer {
        Peer::Workloads { namespaces, workloads } => {
            whose.is_in(namespaces) && selects(workloads, &whose.pod.labels)
        }
        Peer::Service { .. }
        | Peer::Cidr { .. }
        | Peer::Nodes(_)
        | Peer::Entity(_)
        | Peer::Name(_)
        | Peer::Unknown(_) => false,
    })
}

fn peers(policy: &Policy) -> impl Iterator<Item = &Peer> {
    let rules = Direction::BOTH.into_iter().flat_map(|direction| policy.rules(direction));
    rules.flat_map(|rule| match &rule.peers {
        Peers::Any => [].iter(),
        Peers::These(these) => these.iter(),
    })
}

fn handles(policy: &Policy) -> BTreeSet<Handle> {
    let owned = |(namespace, label): (Option<&str>, Option<(&str, &str)>)| -> PodHandle {
        (namespace.map(str::to_owned), label.map(|(key, value)| (key.to_owned(), value.to_owned())))
    };
    let subject = subject_keys(&policy.subject.namespaces, &policy.subject.workloads);
    let mut handles: BTreeSet<_> = subject.into_iter().map(|key| Handle::Subject(owned(key))).collect();
    for peer in peers(policy) {
        match peer {
            Peer::Workloads { namespaces, workloads } => {
                let keys = subject_keys(namespaces, workloads).into_iter();
                handles.extend(keys.map(|key| Handle::Peer(owned(key))));
            }
            Peer::Service { namespace, name } => {
                let name = ObjectName { namespace: namespace.clone(), name: name.clone() };
                handles.insert(Handle::Service(name));
            }
            Peer::Cidr { .. } => drop(handles.insert(Handle::Block)),
            Peer::Entity(_) | Peer::Nodes(_) => drop(handles.insert(Handle::Entity)),
            Peer::Name(_) => drop(handles.insert(Handle::Name)),
            Peer::Unknown(_) => {}
        }
    }
    for rule in policy.rules(Direction::Egress) {
        handles.extend(port_names(rule).map(Handle::PortName));
        // A deny that names somebody unknown is read as one that names everybody.
        let unknown = |peers: &[Peer]| peers.iter().any(|peer| matches!(peer, Peer::Unknown(_)));
        if matches!(&rule.peers, Peers::Any) || matches!(&rule.peers, Peers::These(these) if unknown(these)) {
            handles.insert(Handle::Everybody);
        }
    }
    handles
}

fn port_names(rule: &Rule) -> impl Iterator<Item = String> {
    let these = match &rule.ports {
        Ports::Any => &[],
        Ports::These(these) => these.as_slice(),
    };
    these.iter().filter_map(|port| match port {
        PortMatch::Named(_, name) => Some(name.clone()),
        PortMatch::Range(..) => None,
    })
}

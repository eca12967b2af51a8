//! Programs that are kept up to date: a change compiles only what it bears on.
//!
//! A pod bears on itself, on the policies that name it (by labels, by a port's name, by way of an entity) and so on the pods
//! that those select; a Service on the policies that reach its addresses or endpoints; a policy on the pods that it selects.
//! What bears on every program is compiled whole: nodes, labels of namespaces, collections, the resolver, a Service without
//! endpoints. The outcome is that of [`Compiler`] over everything (a property test holds it); which policies are looked at:
//! [`super::dependents`].

use super::cluster::{Cluster, PodIndex, lacks_endpoints};
use super::dependents::{Dependents, PolicyBag, Whose};
use super::intervals::AddressSet;
use super::peers::resolver;
use super::policies::Policies;
use super::{CompileError, CompileWarning, Compiled, Compiler, cover, misplaced};
use crate::inventory::{Inventory, Labels, ObjectName, Pod, Service};
use crate::model::{Collection, Policy, PolicySet};
use crate::program::Program;
use bulkhead_facts::Mode;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// One difference; `None` where something is gone.
#[derive(Clone, Debug)]
pub enum Difference {
    /// A pod comes, changes or goes.
    Pod(ObjectName, Option<Pod>),
    /// A Service or its endpoints.
    Service(ObjectName, Option<Service>),
    /// A policy comes.
    PolicyComes(Arc<Policy>),
    /// A policy goes, found by what it says.
    PolicyGoes(Arc<Policy>),
    /// Labels of a namespace.
    Namespace(String, Option<Labels>),
    /// Addresses of a node.
    Node(String, Option<Vec<IpAddr>>),
    /// Labels of a node.
    NodeLabels(String, Option<Labels>),
    /// All collections.
    Collections(Vec<Collection>),
}

/// The program of one pod.
#[derive(Clone, Debug)]
pub struct KeptProgram {
    /// Unique identifier of the pod.
    pub uid: String,
    /// Its program; pods that were compiled together share it.
    pub program: Arc<Program>,
    warnings: Vec<CompileWarning>,
}

/// What changes came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Pods that are new or whose program has another content than before, sorted.
    pub changed: Vec<ObjectName>,
    /// UIDs of pods that have no program any more, sorted.
    pub gone: Vec<String>,
    /// How many pods were looked at.
    pub compiled: usize,
}

/// Policies, inventory and the programs that they come to.
#[derive(Clone, Default)]
pub struct Kept {
    inventory: Inventory,
    policies: Vec<Arc<Policy>>,
    dependents: Dependents,
    collections: Vec<Collection>,
    programs: BTreeMap<ObjectName, KeptProgram>,
    contested: Vec<CompileWarning>,
    /// What every learning and every confined program holds.
    inside: AddressSet,
    resolver: AddressSet,
    /// What those that name names hold as well.
    nodes: AddressSet,
}

/// Which pods are to be compiled.
enum Extent {
    Whole,
    These(BTreeSet<PodIndex>),
}

/// Fresh programs, and what else is to be remembered.
struct Fresh {
    programs: BTreeMap<ObjectName, KeptProgram>,
    contested: Vec<CompileWarning>,
    inside: AddressSet,
    resolver: AddressSet,
    nodes: AddressSet,
}

impl Kept {
    /// What is known of the cluster.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Programs by pod; pods in their node's network namespace have none.
    pub fn programs(&self) -> &BTreeMap<ObjectName, KeptProgram> {
        &self.programs
    }

    /// Everything that compiles but probably not to what was meant, sorted, each once.
    pub fn warnings(&self) -> Vec<CompileWarning> {
        let own = self.programs.values().flat_map(|kept| &kept.warnings);
        let all: BTreeSet<_> = own.chain(&self.contested).collect();
        all.into_iter().cloned().collect()
    }

    /// What turns the policies and inventory that are kept into these.
    pub fn differences(&self, set: &PolicySet, inventory: &Inventory) -> Vec<Difference> {
        let mut changes = self.policy_differences(&set.policies);
        if set.collections != self.collections {
            changes.push(Difference::Collections(set.collections.clone()));
        }
        changes.extend(self.inventory_differences(inventory));
        changes
    }

    /// What turns the inventory that is kept into this one.
    pub fn inventory_differences(&self, inventory: &Inventory) -> Vec<Difference> {
        let own = &self.inventory;
        let mut changes = Vec::new();
        compare(&own.namespaces, &inventory.namespaces, Difference::Namespace, &mut changes);
        compare(&own.nodes, &inventory.nodes, Difference::Node, &mut changes);
        compare(&own.node_labels, &inventory.node_labels, Difference::NodeLabels, &mut changes);
        compare(&own.pods, &inventory.pods, Difference::Pod, &mut changes);
        compare(&own.services, &inventory.services, Difference::Service, &mut changes);
        changes
    }

    fn policy_differences(&self, policies: &[Policy]) -> Vec<Difference> {
        let same = |(own, other): (&Arc<Policy>, &Policy)| **own == *other;
        if self.policies.len() == policies.len() && self.policies.iter().zip(policies).all(same) {
            return Vec::new();
        }
        let mut counts: BTreeMap<&Policy, (usize, i64)> = BTreeMap::new();
        for (at, own) in self.policies.iter().enumerate() {
            counts.entry(own).or_insert((at, 0)).1 -= 1;
        }
        for other in policies {
            counts.entry(other).or_insert((usize::MAX, 0)).1 += 1;
        }
        let mut changes = Vec::new();
        for (policy, (_, count)) in counts {
            let change = if count < 0 { Difference::PolicyGoes } else { Difference::PolicyComes };
            changes.extend((0..count.unsigned_abs()).map(|_| change(Arc::new(policy.clone()))));
        }
        changes
    }

    /// Applies changes and compiles what they bear on; programs whose content changes get this revision. On errors
    /// nothing changes.
    pub fn apply(&mut self, changes: Vec<Difference>, revision: u64) -> Result<Renewed, Vec<CompileError>> {
        if changes.is_empty() {
            return Ok(Renewed::default());
        }
        let undo = self.exchange(changes);
        match self.fresh(&undo, revision) {
            Ok(fresh) => Ok(self.adopt(fresh, &undo)),
            Err(errors) => {
                self.exchange(undo);
                Err(errors)
            }
        }
    }

    /// Puts the new in place and gives back what undoes it.
    fn exchange(&mut self, changes: Vec<Difference>) -> Vec<Difference> {
        let mut undo: Vec<_> = changes.into_iter().filter_map(|change| self.exchange_one(change)).collect();
        undo.reverse();
        undo
    }

    fn exchange_one(&mut self, change: Difference) -> Option<Difference> {
        let inventory = &mut self.inventory;
        Some(match change {
            Difference::Pod(name, pod) => swap(&mut inventory.pods, name, pod, Difference::Pod),
            Difference::Service(name, service) => {
                swap(&mut inventory.services, name, service, Difference::Service)
            }
            Difference::Namespace(name, labels) => {
                swap(&mut inventory.namespaces, name, labels, Difference::Namespace)
            }
            Difference::Node(name, addresses) => {
                swap(&mut inventory.nodes, name, addresses, Difference::Node)
            }
            Difference::NodeLabels(name, labels) => {
                swap(&mut inventory.node_labels, name, labels, Difference::NodeLabels)
            }
            Difference::Collections(new) => {
                Difference::Collections(std::mem::replace(&mut self.collections, new))
            }
            Difference::PolicyComes(policy) => {
                self.dependents.insert(&policy);
                self.policies.push(policy.clone());
                Difference::PolicyGoes(policy)
            }
            Difference::PolicyGoes(policy) => {
                let at = self.policies.iter().position(|own| *own == policy)?;
                let own = self.policies.swap_remove(at);
                self.dependents.remove(&own);
                Difference::PolicyComes(own)
            }
        })
    }

    fn fresh(&self, before: &[Difference], revision: u64) -> Result<Fresh, Vec<CompileError>> {
        let cluster = Cluster::new(&self.inventory);
        match self.extent(&cluster, before) {
            // Whatever fails in part fails in whole, and there with all errors.
            Extent::These(pods) => match self.compile_these(cluster, &pods, revision) {
                Ok(fresh) => Ok(fresh),
                Err(_) => self.compile_whole(Cluster::new(&self.inventory), revision),
            },
            Extent::Whole => self.compile_whole(cluster, revision),
        }
    }

    fn compile_whole(&self, cluster: Cluster<'_>, revision: u64) -> Result<Fresh, Vec<CompileError>> {
        let policies = Policies::new(self.policies.iter().map(|policy| &**policy));
        let compiler = Compiler::of(cluster, policies, &self.collections)?;
        let pods = 0..compiler.cluster.pods.len();
        self.compile(&compiler, pods, revision)
    }

    fn compile_these(
        &self,
        cluster: Cluster<'_>,
        pods: &BTreeSet<PodIndex>,
        revision: u64,
    ) -> Result<Fresh, Vec<CompileError>> {
        let mut bag = PolicyBag::new();
        for at in pods {
            let (name, pod) = cluster.pods[*at];
            self.dependents.selecting(&Whose::new(&self.inventory, &name.namespace, pod), &mut bag);
        }
        let policies = Policies::new(bag.values().map(|policy| &**policy));
        let mut collections: Vec<&Collection> = self.collections.iter().collect();
        collections.sort_unstable();
        let mut errors = misplaced(&policies);
        let mut covered_by = vec![None; cluster.pods.len()];
        for at in pods {
            covered_by[*at] = cover(&cluster, &collections, *at, &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let compiler = Compiler { cluster, policies, collections, covered_by };
        self.compile(&compiler, pods.iter().copied(), revision)
    }

    fn compile(
        &self,
        compiler: &Compiler<'_>,
        pods: impl Iterator<Item = PodIndex>,
        revision: u64,
    ) -> Result<Fresh, Vec<CompileError>> {
        let mut programs = BTreeMap::new();
        for (pods, selecting) in compiler.groups(pods) {
            let compiled = compiler.compile_selected(pods[0], &selecting, revision);
            let Compiled { program, warnings } = compiled.map_err(|error| vec![error])?;
            let program = Arc::new(program);
            for (name, pod) in pods.iter().map(|at| compiler.cluster.pods[*at]) {
                let (program, warnings) = (program.clone(), warnings.clone());
                programs.insert(name.clone(), KeptProgram { uid: pod.uid.clone(), program, warnings });
            }
        }
        Ok(Fresh {
            programs,
            contested: compiler.contested(),
            inside: compiler.cluster.inside.clone(),
            nodes: compiler.cluster.node_addresses.clone(),
            resolver: resolver(&compiler.cluster),
        })
    }

    /// Takes fresh programs in; one with the content of before keeps its revision.
    fn adopt(&mut self, fresh: Fresh, before: &[Difference]) -> Renewed {
        let Fresh { programs, contested, inside, resolver, nodes } = fresh;
        (self.contested, self.inside, self.resolver) = (contested, inside, resolver);
        self.nodes = nodes;
        let mut renewed = Renewed { compiled: programs.len(), ..Renewed::default() };
        let touched = before.iter().filter_map(|difference| match difference {
            Difference::Pod(name, _) if !programs.contains_key(name) => Some(name),
            _ => None,
        });
        let lost: Vec<_> = touched.filter_map(|name| self.programs.remove(name)).collect();
        renewed.gone.extend(lost.into_iter().map(|kept| kept.uid));
        for (name, mut fresh) in programs {
            match self.programs.get(&name) {
                Some(old) if old.uid == fresh.uid && same_content(&old.program, &fresh.program) => {
                    fresh.program = old.program.clone();
                }
                Some(old) => {
                    if old.uid != fresh.uid {
                        renewed.gone.push(old.uid.clone());
                    }
                    renewed.changed.push(name.clone());
                }
                None => renewed.changed.push(name.clone()),
            }
            self.programs.insert(name, fresh);
        }
        renewed.gone.sort_unstable();
        renewed
    }

    /// The pods that the differences to what was before bear on.
    fn extent(&self, cluster: &Cluster<'_>, before: &[Difference]) -> Extent {
        let mut bag = PolicyBag::new();
        let mut pods = BTreeSet::new();
        for change in before {
            match change {
                Difference::Namespace(..)
                | Difference::Node(..)
                | Difference::NodeLabels(..)
                | Difference::Collections(_) => return Extent::Whole,
                Difference::PolicyComes(policy) | Difference::PolicyGoes(policy) => {
                    bag.insert(Arc::as_ptr(policy), policy.clone());
                }
                Difference::Pod(name, old) => {
                    pods.extend(cluster.pod(name));
                    self.pod_bears_on(name, old.as_ref(), &mut bag);
                }
                Difference::Service(name, old) => {
                    let versions: Vec<_> = old.iter().chain(self.inventory.services.get(name)).collect();
                    if versions.iter().any(|service| self.service_bears_on_all(name, service)) {
                        return Extent::Whole;
                    }
                    self.service_bears_on(cluster, name, &versions, &mut bag);
                }
            }
        }
        if resolver(cluster) != self.resolver {
            return Extent::Whole;
        }
        if cluster.inside != self.inside && self.collections.iter().any(|c| c.mode == Mode::Observe) {
            return Extent::Whole;
        }
        if cluster.inside != self.inside || cluster.node_addresses != self.nodes {
            self.dependents.naming_names(&mut bag);
        }
        for policy in bag.values() {
            pods.extend(cluster.select(&policy.subject.namespaces, &policy.subject.workloads));
        }
        Extent::These(pods)
    }

    /// The policies that name either version of the pod, or a pod with an address in common.
    fn pod_bears_on(&self, name: &ObjectName, old: Option<&Pod>, bag: &mut PolicyBag) {
        let versions: Vec<&Pod> = old.into_iter().chain(self.inventory.pods.get(name)).collect();
        for pod in &versions {
            self.dependents.naming(&Whose::new(&self.inventory, &name.namespace, pod), bag);
        }
        let addresses = versions.iter().flat_map(|pod| &pod.addresses).map(IpAddr::to_canonical).collect();
        self.holders_bear_on(&addresses, bag);
        self.dependents.naming_entities(bag);
    }

    /// The policies that name a pod with one of these addresses.
    fn holders_bear_on(&self, addresses: &BTreeSet<IpAddr>, bag: &mut PolicyBag) {
        let holds = |pod: &Pod| pod.addresses.iter().any(|own| addresses.contains(&own.to_canonical()));
        for (name, pod) in self.inventory.pods.iter().filter(|(_, pod)| holds(pod)) {
            self.dependents.naming(&Whose::new(&self.inventory, &name.namespace, pod), bag);
        }
    }

    /// The Service is part of programs that do not name it: what has no endpoint is a denial of its own in every confined
    /// one, the resolver and whatever lies on a node are built in, and an address that two claim belongs to the first.
    fn service_bears_on_all(&self, name: &ObjectName, service: &Service) -> bool {
        let addresses = addresses_of(service);
        let shared = |other: &Service| {
            other.addresses.iter().any(|address| {
                service.addresses.iter().any(|own| own.to_canonical() == address.to_canonical())
            })
        };
        let mut others = self.inventory.services.iter().filter(|(other, _)| *other != name);
        let mut nodes = self.inventory.nodes.values().flatten();
        lacks_endpoints(service)
            || (name.namespace == "kube-system" && name.name == "kube-dns")
            || addresses.iter().any(|address| self.resolver.contains(*address))
            || nodes.any(|node| addresses.contains(&node.to_canonical()))
            || others.any(|(_, other)| shared(other))
    }

    fn service_bears_on(
        &self,
        cluster: &Cluster<'_>,
        name: &ObjectName,
        versions: &[&Service],
        bag: &mut PolicyBag,
    ) {
        let addresses: BTreeSet<_> = versions.iter().flat_map(|service| addresses_of(service)).collect();
        self.dependents.naming_service(name, bag);
        self.dependents.naming_entities(bag);
        self.dependents.naming_blocks_of(&addresses, bag);
        self.dependents.naming_everybody(bag);
        self.holders_bear_on(&addresses, bag);
        for list in [&cluster.endpoints, &cluster.service_addresses] {
            for (_, at) in list.iter().filter(|(address, _)| addresses.contains(address)) {
                self.dependents.naming_service(cluster.services[*at].0, bag);
            }
        }
    }
}

fn addresses_of(service: &Service) -> BTreeSet<IpAddr> {
    let endpoints = service.ports.iter().flat_map(|port| &port.endpoints).map(|(address, _)| address);
    endpoints.chain(&service.addresses).map(IpAddr::to_canonical).collect()
}

fn swap<K: Ord + Clone, V>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: Option<V>,
    change: fn(K, Option<V>) -> Difference,
) -> Difference {
    let old = match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(&key),
    };
    change(key, old)
}

/// The entries of `new` that `old` has not, and `None` for those that are gone: both are walked once, side by side.
fn compare<K: Ord + Clone, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    change: fn(K, Option<V>) -> Difference,
    changes: &mut Vec<Difference>,
) {
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let gone = if order.is_le() { olds.next() } else { None };
        let come = if order.is_ge() { news.next() } else { None };
        match (gone, come) {
            (Some((_, old)), Some((_, new))) if old == new => {}
            (_, Some((key, new))) => changes.push(change(key.clone(), Some(new.clone()))),
            (Some((key, _)), None) => changes.push(change(key.clone(), None)),
            (None, None) => return,
        }
    }
}

/// True if two programs judge alike and say the same of it, whatever their revisions.
fn same_content(one: &Arc<Program>, other: &Arc<Program>) -> bool {
    Arc::ptr_eq(one, other)
        || (one.ingress == other.ingress
            && one.egress == other.egress
            && Program { revision: one.revision, ..Program::clone(other) } == **one)
}

#[cfg(test)]
mod tests;

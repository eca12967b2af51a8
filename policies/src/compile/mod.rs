//! From checked policies and an inventory to one program per workload.
//!
//! [`Compiler::new`] sorts and indexes; [`Compiler::program`] then looks only at the policies that select one pod. In it:
//! the rules that count, in order ([`lineup`]); peers sorted into classes that no rule tells apart ([`classes`]); per class
//! the disjoint boxes of protocols and ports ([`boxes`]), each evaluated once for both answers ([`evaluate`]).
//!
//! Output depends on the meaning of the input only: permuted documents give the same program.

mod boxes;
mod by_name;
mod classes;
mod clauses;
mod cluster;
mod dependents;
mod emit;
mod evaluate;
mod infrastructure;
mod intern;
mod intervals;
mod kept;
mod lineup;
mod moot;
mod named;
mod peers;
mod policies;
mod selectors;
mod services;
mod sweep;
mod touched;
mod trace;

pub use infrastructure::{BUILTIN_KIND, builtin_policy};
pub use kept::{Difference, Kept, KeptProgram, Renewed};
pub use peers::METADATA;
pub use trace::{PolicyTrace, RuleTrace};

use crate::inventory::{Inventory, ObjectName};
use crate::limits::RULES_PER_WORKLOAD_MAX;
use crate::model::{Collection, PolicySet, RuleAction};
use crate::program::Program;
use bulkhead_facts::{Direction, L4Protocol, Mode, PolicyRef, Tier, WorkloadRef};
use cluster::{Cluster, PodIndex};
use policies::{Policies, PolicyIndex};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Policies and inventory, indexed.
pub struct Compiler<'a> {
    cluster: Cluster<'a>,
    policies: Policies<'a>,
    collections: Vec<&'a Collection>,
    /// By pod: position of the collection that covers it.
    covered_by: Vec<Option<usize>>,
}

/// Why a set cannot be compiled; nothing of it may be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CompileError {
    /// Two collections cover one workload.
    TwoCollections {
        /// The pod.
        pod: ObjectName,
        /// One collection.
        first: String,
        /// The other.
        second: String,
    },
    /// A rule of the namespace tier that is no allow, or a policy in a tier that holds no policies.
    OutOfPlace {
        /// The policy.
        policy: PolicyRef,
        /// The rule, or none if the tier is wrong.
        rule: Option<String>,
    },
    /// A workload's program goes over a limit.
    TooMany {
        /// The pod.
        pod: ObjectName,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoCollections { pod, first, second } => write!(
                f,
                "pod `{}/{}` is covered by collections `{first}` and `{second}`: narrow one of their `covers`",
                pod.namespace, pod.name
            ),
            Self::OutOfPlace { policy, rule: Some(rule) } => {
                write!(f, "rule `{rule}` of `{policy}` denies or passes: only cluster-wide policies can")
            }
            Self::OutOfPlace { policy, rule: None } => {
                write!(f, "`{policy}` is in a tier that holds no policies")
            }
            Self::TooMany { pod, what, limit } => write!(
                f,
                "program of pod `{}/{}` needs more {what} than the limit of {limit}: select fewer peers or join rules, or raise the limit in \
                 policies/src/limits.rs and build anew",
                pod.namespace, pod.name
            ),
        }
    }
}

impl std::error::Error for CompileError {}

/// Something that compiles, but probably not to what was meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CompileWarning {
    /// Only some endpoints of a Service are allowed: TCP is led to those, anything else is denied.
    ServicePartlyAllowed {
        /// Whose egress.
        workload: WorkloadRef,
        /// The Service.
        service: ObjectName,
        /// Its protocol.
        protocol: L4Protocol,
        /// Its port.
        port: u16,
    },
    /// Different rules inspect the requests to endpoints of one Service: each connection is led to one and judged by its.
    ServiceInspectedDifferently {
        /// Whose egress.
        workload: WorkloadRef,
        /// The Service.
        service: ObjectName,
        /// Its protocol.
        protocol: L4Protocol,
        /// Its port.
        port: u16,
    },
    /// A `dns` section decides nothing at the cluster's resolver: the built-in rule lets every question there pass.
    QuestionsOpen {
        /// Whose egress.
        workload: WorkloadRef,
        /// The policy with the section.
        policy: PolicyRef,
        /// Its rule.
        rule: String,
    },
    /// Several pods hold one address: an allow counts only if it names all of them.
    ContestedAddress {
        /// The address.
        address: IpAddr,
        /// The pods.
        pods: Vec<ObjectName>,
    },
    /// A program could not be built; its workload keeps the last good one.
    NoProgram(CompileError),
}

impl fmt::Display for CompileWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServicePartlyAllowed { workload, service, protocol, port } => write!(
                f,
                "`{workload}` may reach only some endpoints of service `{}/{}` on {protocol}/{port}, so {}: allow all of its \
                 endpoints or none",
                service.namespace,
                service.name,
                led(*protocol)
            ),
            Self::ServiceInspectedDifferently { workload, service, protocol, port } => write!(
                f,
                "requests of `{workload}` to service `{}/{}` on {protocol}/{port} would be judged by different rules at \
                 different endpoints, so {}: write one rule for all of its endpoints",
                service.namespace,
                service.name,
                led(*protocol)
            ),
            Self::QuestionsOpen { workload, policy, rule } => write!(
                f,
                "`dns` of rule `{rule}` of {policy} decides nothing for `{workload}` at the cluster's resolver, which the \
                 built-in rule `resolver` lets it ask anything: leave `resolver` out of the collection's `infrastructure`"
            ),
            Self::ContestedAddress { address, pods } => {
                let names: Vec<_> =
                    pods.iter().map(|pod| format!("`{}/{}`", pod.namespace, pod.name)).collect();
                write!(f, "address {address} is held by several pods: {}", names.join(", "))
            }
            Self::NoProgram(error) => write!(f, "{error}"),
        }
    }
}

/// A program with what a person should know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    /// Sorted, each once.
    pub warnings: Vec<CompileWarning>,
}

/// Pods that have the same program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramGroup {
    /// The pods, sorted.
    pub pods: Vec<ObjectName>,
    /// Their program.
    pub program: Program,
}

impl<'a> Compiler<'a> {
    /// Sorts and indexes policies and inventory; refuses a set that contradicts itself.
    pub fn new(set: &'a PolicySet, inventory: &'a Inventory) -> Result<Self, Vec<CompileError>> {
        Self::of(Cluster::new(inventory), Policies::new(&set.policies), &set.collections)
    }

    fn of(
        cluster: Cluster<'a>,
        policies: Policies<'a>,
        collections: &'a [Collection],
    ) -> Result<Self, Vec<CompileError>> {
        let mut collections: Vec<&Collection> = collections.iter().collect();
        collections.sort_unstable();
        let mut errors = misplaced(&policies);
        let pods = 0..cluster.pods.len();
        let covered_by = pods.map(|pod| cover(&cluster, &collections, pod, &mut errors)).collect();
        errors.sort_unstable();
        errors.dedup();
        if errors.is_empty() { Ok(Self { cluster, policies, collections, covered_by }) } else { Err(errors) }
    }

    /// The program of a pod; `None` if there is no such pod, if it lives in its node's network namespace, or if its
    /// program goes over a limit (then [`Compiler::compile`] says which).
    pub fn program(&self, pod: &ObjectName, revision: u64) -> Option<Program> {
        self.compile(pod, revision).ok().flatten().map(|compiled| compiled.program)
    }

    /// The program of a pod with its warnings; `None` if there is no such pod or it lives in its node's network
    /// namespace.
    pub fn compile(&self, pod: &ObjectName, revision: u64) -> Result<Option<Compiled>, CompileError> {
        let Some(at) = self.cluster.pod(pod) else { return Ok(None) };
        if self.cluster.pods[at].1.host_network {
            return Ok(None);
        }
        let selecting = self.policies.selecting(&self.cluster, at);
        self.compile_selected(at, &selecting, revision).map(Some)
    }

    /// Every program, with the pods that share it, sorted by their first pod.
    pub fn programs(&self, revision: u64) -> Result<Vec<ProgramGroup>, CompileError> {
        self.programs_with_warnings(revision).map(|(groups, _)| groups)
    }

    /// Every program, and everything that compiles but probably not to what was meant.
    pub fn programs_with_warnings(
        &self,
        revision: u64,
    ) -> Result<(Vec<ProgramGroup>, Vec<CompileWarning>), CompileError> {
        let mut warnings = self.contested();
        let mut groups = Vec::new();
        for (pods, selecting) in self.groups(0..self.cluster.pods.len()) {
            let compiled = self.compile_selected(pods[0], &selecting, revision)?;
            warnings.extend(compiled.warnings);
            let pods = pods.iter().map(|at| self.cluster.pods[*at].0.clone()).collect();
            groups.push(ProgramGroup { pods, program: compiled.program });
        }
        warnings.sort_unstable();
        warnings.dedup();
        Ok((groups, warnings))
    }

    /// The collection that covers a pod, if any.
    pub fn collection_of(&self, pod: &ObjectName) -> Option<&'a Collection> {
        let at = self.cluster.pod(pod)?;
        self.covered_by[at].map(|collection| self.collections[collection])
    }

    /// Everything that compiles but probably not to what was meant: builds every program.
    pub fn warnings(&self) -> Vec<CompileWarning> {
        match self.programs_with_warnings(0) {
            Ok((_, warnings)) => warnings,
            Err(error) => vec![CompileWarning::NoProgram(error)],
        }
    }

    fn contested(&self) -> Vec<CompileWarning> {
        let warning = |(address, pods): (&IpAddr, &Vec<PodIndex>)| CompileWarning::ContestedAddress {
            address: *address,
            pods: pods.iter().map(|at| self.cluster.pods[*at].0.clone()).collect(),
        };
        self.cluster.contested.iter().map(warning).collect()
    }

    /// These pods, those together for which everything is alike that a program depends on, with the policies that select
    /// them.
    fn groups(&self, pods: impl Iterator<Item = PodIndex>) -> Vec<(Vec<PodIndex>, Vec<PolicyIndex>)> {
        let mut groups: BTreeMap<_, Vec<PodIndex>> = BTreeMap::new();
        for at in pods.filter(|at| !self.cluster.pods[*at].1.host_network) {
            let pod = self.cluster.pods[at].1;
            let selecting = self.policies.selecting(&self.cluster, at);
            let held = (self.covered_by[at], self.mode_of(at));
            let own = (&pod.workload, &pod.node, &pod.ports, &pod.probe_ports, held);
            groups.entry((selecting, own)).or_default().push(at);
        }
        let mut groups: Vec<_> = groups.into_iter().map(|((selecting, _), pods)| (pods, selecting)).collect();
        groups.sort_unstable_by_key(|(pods, _)| pods[0]);
        groups
    }

    /// The mode that the pod is held in.
    fn mode_of(&self, at: PodIndex) -> Mode {
        let collection = self.covered_by[at].map(|collection| self.collections[collection]);
        collection.map_or(Mode::Enforce, |collection| collection.mode_of(&self.cluster.pods[at].1.uid))
    }

    fn compile_selected(
        &self,
        at: PodIndex,
        selecting: &[PolicyIndex],
        revision: u64,
    ) -> Result<Compiled, CompileError> {
        let (name, pod) = self.cluster.pods[at];
        let collection = self.covered_by[at].map(|collection| self.collections[collection]);
        let mut rules = Vec::new();
        let [ingress, egress] = Direction::BOTH.map(|direction| {
            let subject = (at, direction);
            lineup::lineup(&self.cluster, &self.policies, selecting, collection, subject, &mut rules)
        });
        let too_many = |what, limit| CompileError::TooMany { pod: name.clone(), what, limit };
        if rules.len() > RULES_PER_WORKLOAD_MAX {
            return Err(too_many("rules", RULES_PER_WORKLOAD_MAX));
        }
        let emitted = emit::emit(&self.cluster, [&ingress, &egress]);
        let emitted = emitted.map_err(|over| too_many(over.what, over.limit))?;
        let mut warnings: Vec<_> =
            emitted.troubles.into_iter().map(|trouble| warning(&pod.workload, trouble)).collect();
        warnings.extend(moot::open_questions(&egress).into_iter().filter_map(|at| {
            let info = rules.get(at.0 as usize)?;
            let (policy, rule) = (info.policy.clone(), info.rule.clone());
            Some(CompileWarning::QuestionsOpen { workload: pod.workload.clone(), policy, rule })
        }));
        warnings.sort_unstable();
        warnings.dedup();
        let names = lineup::names(&egress);
        let program = Program {
            revision,
            workload: pod.workload.clone(),
            collection: collection.map(|collection| collection.name.clone()),
            mode: self.mode_of(at),
            rules,
            answers: emitted.answers,
            l7_chains: emitted.chains,
            ingress: emitted.ingress,
            egress: emitted.egress,
            names,
            choices: emitted.choices,
        };
        Ok(Compiled { program, warnings })
    }
}

/// The collection that covers each workload, judged by its first pod; the first by name where several claim it.
pub(crate) fn covered_workloads<'c>(
    collections: &'c [Collection],
    inventory: &Inventory,
) -> BTreeMap<WorkloadRef, &'c Collection> {
    let cluster = Cluster::new(inventory);
    let mut sorted: Vec<&Collection> = collections.iter().collect();
    sorted.sort_unstable();
    let mut covered = BTreeMap::new();
    for (at, (_, pod)) in cluster.pods.iter().enumerate().filter(|(_, (_, pod))| !pod.host_network) {
        if let Some(collection) = cover(&cluster, &sorted, at, &mut Vec::new()) {
            covered.entry(pod.workload.clone()).or_insert(sorted[collection]);
        }
    }
    covered
}

fn misplaced(policies: &Policies<'_>) -> Vec<CompileError> {
    let mut errors = Vec::new();
    for policy in &policies.all {
        let rules = || Direction::BOTH.into_iter().flat_map(|direction| policy.rules(direction));
        match policy.tier {
            Tier::Admin | Tier::Baseline => {}
            Tier::Namespace => {
                errors.extend(rules().filter(|rule| rule.action != RuleAction::Allow).map(|rule| {
                    CompileError::OutOfPlace { policy: policy.origin.clone(), rule: Some(rule.name.clone()) }
                }))
            }
            Tier::Infrastructure | Tier::Default => {
                errors.push(CompileError::OutOfPlace { policy: policy.origin.clone(), rule: None });
            }
        }
    }
    errors
}

/// The one collection that covers the pod; two are an error.
fn cover(
    cluster: &Cluster<'_>,
    collections: &[&Collection],
    pod: PodIndex,
    errors: &mut Vec<CompileError>,
) -> Option<usize> {
    let (name, pod) = cluster.pods[pod];
    let covers = |at: &usize| policies::covers(cluster, &collections[*at].covers, &name.namespace, pod);
    let mut covering = (0..collections.len()).filter(covers);
    let first = covering.next()?;
    errors.extend(covering.map(|second| CompileError::TwoCollections {
        pod: name.clone(),
        first: collections[first].name.clone(),
        second: collections[second].name.clone(),
    }));
    Some(first)
}

/// What is done where endpoints of a Service are judged differently.
fn led(protocol: L4Protocol) -> &'static str {
    match protocol {
        L4Protocol::TCP => {
            "each connection is led to one that may be reached, whatever session affinity and topology hints say"
        }
        _ => "the service is denied",
    }
}

fn warning(workload: &WorkloadRef, trouble: services::ServiceTrouble) -> CompileWarning {
    let services::ServiceTrouble { service, port, protocol, inspection } = trouble;
    let workload = workload.clone();
    if inspection {
        CompileWarning::ServiceInspectedDifferently { workload, service, protocol, port }
    } else {
        CompileWarning::ServicePartlyAllowed { workload, service, protocol, port }
    }
}

#[cfg(test)]
mod tests;

//! From edges to the policies of one collection.

use super::cautions::Caution;
use super::document::{Narrowed, PeerText, PolicyText, RequestText, RuleText, port_name};
use super::edges::{Edge, EdgeKey, Edges, Kind, Spoken, Tally};
use super::sections::sections;
use super::selectors::selector;
use super::{HeldBack, Party, Proposal, ProposedRule};
use crate::inventory::{Inventory, Labels, ObjectName};
use crate::model::{Collection, CollectionDefault};
use bulkhead_facts::{Direction, L4Protocol, PolicyRef, WorkloadRef};
use std::collections::{BTreeMap, BTreeSet};

/// The proposal for the workloads of one collection; `None` if nothing was seen of them.
pub(super) fn proposal(
    collection: &Collection,
    workloads: &[&WorkloadRef],
    edges: &Edges,
    inventory: &Inventory,
) -> Option<Proposal> {
    let mut writer = Writer { inventory, collection, selectors: BTreeMap::new(), held: BTreeMap::new() };
    let mut policies = Vec::new();
    let mut rules = Vec::new();
    let mut seen = false;
    for workload in workloads {
        let own =
            |key: &&EdgeKey| [&key.source, &key.destination].contains(&&Party::Workload((*workload).clone()));
        let concerned: Vec<_> = edges.all.iter().filter(|(key, _)| own(key)).collect();
        seen |= !concerned.is_empty();
        policies.extend(writer.policy(workload, &concerned, &mut rules));
    }
    if !seen {
        return None;
    }
    let documents: Vec<_> = policies.iter().map(PolicyText::yaml).collect();
    Some(Proposal {
        collection: collection.name.clone(),
        document: documents.join("---\n"),
        policies: policies.len(),
        rules,
        needs_person: writer.held.into_values().collect(),
    })
}

struct Writer<'a> {
    inventory: &'a Inventory,
    collection: &'a Collection,
    selectors: BTreeMap<WorkloadRef, Option<Labels>>,
    held: BTreeMap<(EdgeKey, Option<Kind>), HeldBack>,
}

impl Writer<'_> {
    fn policy(
        &mut self,
        workload: &WorkloadRef,
        edges: &[(&EdgeKey, &Edge)],
        proposed: &mut Vec<ProposedRule>,
    ) -> Option<PolicyText> {
        let own = Party::Workload(workload.clone());
        let workloads = self.selector(workload);
        let name = format!("learned-{}", workload.name);
        let policy = PolicyRef {
            kind: "SegmentPolicy".to_owned(),
            namespace: Some(workload.namespace.clone()),
            name: name.clone(),
        };
        let [ingress, egress] = Direction::BOTH.map(|direction| {
            let mut rules = Vec::new();
            let ours = edges.iter().filter(|(key, _)| match direction {
                Direction::Ingress => key.destination == own,
                Direction::Egress => key.source == own,
            });
            for (key, edge) in ours {
                if self.is_built_in(key, direction) {
                    continue;
                }
                if workloads.is_none() {
                    self.hold(key, None, edge, BTreeSet::from([Caution::NoSelector]));
                    continue;
                }
                for (mut rule, evidence) in self.rules(key, edge, direction, &workload.namespace) {
                    make_unique(&mut rule.name, &rules);
                    let summary = rule.summary(direction);
                    let rule_name = rule.name.clone();
                    proposed.push(ProposedRule {
                        policy: policy.clone(),
                        direction,
                        rule: rule_name,
                        summary,
                        evidence,
                    });
                    rules.push(rule);
                }
            }
            rules
        });
        let workloads = workloads.filter(|_| !ingress.is_empty() || !egress.is_empty())?;
        Some(PolicyText { namespace: workload.namespace.clone(), name, workloads, ingress, egress })
    }

    /// The rules for one edge, unless something speaks against all of it. More than one only where one cannot say it.
    fn rules(
        &mut self,
        key: &EdgeKey,
        edge: &Edge,
        direction: Direction,
        namespace: &str,
    ) -> Vec<(RuleText, super::Evidence)> {
        let other = match direction {
            Direction::Ingress => &key.source,
            Direction::Egress => &key.destination,
        };
        let peer = self.peer(other, namespace);
        let mut cautions = edge.cautions.clone();
        if peer.is_none() && cautions.is_empty() {
            cautions.insert(Caution::NoSelector);
        }
        let Some(peer) = peer.filter(|_| cautions.is_empty()) else {
            self.hold(key, None, edge, cautions);
            return Vec::new();
        };
        for (kind, cautions) in &edge.kind_cautions {
            self.hold(key, Some(kind), edge, cautions.clone());
        }
        let kinds: Vec<_> = edge.proposed_kinds().collect();
        if kinds.is_empty() && !edge.kinds.is_empty() {
            return Vec::new();
        }
        let spoken = edge.spoken().filter(|spoken| reads(*spoken, key, direction));
        let named: Vec<_> = kinds.into_iter().filter(|_| spoken.is_some()).collect();
        let tallies: Vec<&Tally> = named.iter().map(|(_, tally)| *tally).collect();
        let evidence = edge.total.evidence(&tallies);
        let rule = |narrowed| RuleText {
            name: format!("{}-{}", peer_name(other, namespace), port_name(key.protocol, key.port)),
            peer: peer.clone(),
            protocol: key.protocol,
            port: key.port,
            narrowed,
        };
        let narrowed: Vec<Narrowed> = match spoken {
            None => vec![Narrowed::No],
            Some(Spoken::Http) => vec![Narrowed::Http(requests(&named))],
            Some(_) => {
                let kinds: Vec<&Kind> = named.iter().map(|(kind, _)| *kind).collect();
                sections(&kinds).into_iter().map(Narrowed::To).collect()
            }
        };
        narrowed.into_iter().map(|narrowed| (rule(narrowed), evidence.clone())).collect()
    }

    fn peer(&mut self, party: &Party, namespace: &str) -> Option<PeerText> {
        match party {
            Party::Workload(workload) => {
                let labels = self.selector(workload)?;
                let namespace = (workload.namespace != namespace).then(|| workload.namespace.clone());
                Some(PeerText::Workload { namespace, labels })
            }
            Party::Service(service) => {
                Some(PeerText::Service(format!("{}/{}", service.namespace, service.name)))
            }
            Party::Outside(address) => Some(PeerText::Address(*address)),
            Party::Node(_) => None,
        }
    }

    fn selector(&mut self, workload: &WorkloadRef) -> Option<Labels> {
        let inventory = self.inventory;
        self.selectors.entry(workload.clone()).or_insert_with(|| selector(workload, inventory)).clone()
    }

    /// What the built-in rules allow needs no proposal: probes from the node, and under `default: deny` the resolver.
    fn is_built_in(&self, key: &EdgeKey, direction: Direction) -> bool {
        let built_in = self.collection.infrastructure;
        match direction {
            Direction::Ingress => {
                let allowed = match self.collection.default {
                    CollectionDefault::Kubernetes => built_in.own_node,
                    CollectionDefault::Deny => built_in.probes,
                };
                let probes = matches!(key.source, Party::Node(_)) && key.protocol == L4Protocol::TCP;
                allowed && probes && self.is_probed(key)
            }
            Direction::Egress => {
                let asks = matches!(key.protocol, L4Protocol::UDP | L4Protocol::TCP) && key.port == 53;
                let allowed = self.collection.default == CollectionDefault::Deny && built_in.resolver;
                asks && allowed && self.is_resolver(&key.destination)
            }
        }
    }

    fn is_probed(&self, key: &EdgeKey) -> bool {
        let Party::Workload(workload) = &key.destination else { return false };
        let mut pods = self.inventory.pods.values().filter(|pod| pod.workload == *workload);
        pods.any(|pod| pod.probe_ports.contains(&key.port))
    }

    fn is_resolver(&self, party: &Party) -> bool {
        let name = ObjectName { namespace: "kube-system".to_owned(), name: "kube-dns".to_owned() };
        match party {
            Party::Service(service) => *service == name,
            Party::Workload(workload) => {
                let own = || self.inventory.pods.values().filter(|pod| pod.workload == *workload);
                let labelled =
                    own().all(|pod| pod.labels.get("k8s-app").is_some_and(|app| app == "kube-dns"));
                workload.namespace == name.namespace && own().next().is_some() && labelled
            }
            Party::Node(_) | Party::Outside(_) => false,
        }
    }

    fn hold(&mut self, key: &EdgeKey, kind: Option<&Kind>, edge: &Edge, cautions: BTreeSet<Caution>) {
        let tallies: Vec<&Tally> = kind.and_then(|kind| edge.kinds.get(kind)).into_iter().collect();
        let request =
            kind.filter(|kind| !matches!(kind, Kind::Unread(_) | Kind::Opaque)).map(Kind::to_string);
        let entry = self.held.entry((key.clone(), kind.cloned())).or_insert_with(|| HeldBack {
            source: key.source.clone(),
            destination: key.destination.clone(),
            protocol: key.protocol,
            port: key.port,
            request,
            cautions: Vec::new(),
            evidence: edge.total.evidence(&tallies),
        });
        let all: BTreeSet<Caution> = entry.cautions.iter().copied().chain(cautions).collect();
        entry.cautions = all.into_iter().collect();
    }
}

/// Which end's sidecar reads requests: the destination's, the source's only where there is no other to do it. Questions to
/// name servers are read where they are asked.
fn reads(spoken: Spoken, key: &EdgeKey, direction: Direction) -> bool {
    match direction {
        Direction::Ingress => spoken != Spoken::Dns,
        Direction::Egress => spoken == Spoken::Dns || matches!(key.destination, Party::Outside(_)),
    }
}

/// Verdicts name rules, so no two of a policy are called alike.
fn make_unique(name: &mut String, before: &[RuleText]) {
    let taken = |name: &str| before.iter().any(|rule| rule.name == name);
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    if taken(name) {
        *name = numbered.into_iter().find(|name| !taken(name)).unwrap_or_default();
    }
}

/// Requests by path and host, with their methods.
fn requests(kinds: &[(&Kind, &Tally)]) -> Vec<RequestText> {
    let mut by_path: BTreeMap<(&str, Option<&str>), Vec<String>> = BTreeMap::new();
    for (kind, _) in kinds {
        if let Kind::Http { method, path, host } = kind {
            by_path.entry((path, host.as_deref())).or_default().push(method.clone());
        }
    }
    let texts = by_path.into_iter();
    texts
        .map(|((path, host), methods)| RequestText {
            methods,
            path: path.to_owned(),
            host: host.map(str::to_owned),
        })
        .collect()
}

/// How a rule calls its peer.
fn peer_name(party: &Party, namespace: &str) -> String {
    match party {
        Party::Workload(workload) if workload.namespace == namespace => workload.name.clone(),
        Party::Workload(workload) => format!("{}.{}", workload.namespace, workload.name),
        Party::Service(service) => format!("{}.{}", service.namespace, service.name),
        Party::Node(name) => name.clone(),
        Party::Outside(address) => address.to_string(),
    }
}

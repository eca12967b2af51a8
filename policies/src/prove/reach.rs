//! How far a compromised workload reaches: the closure over all edges that let anything pass.

use super::Flow;
use super::ends::nodes;
use super::flows::{Named, Search, Traffic};
use crate::inventory::{Inventory, ObjectName, Pod};
use crate::questions::Version;
use crate::space::{Block, Programs, TooManyKinds};
use bulkhead_facts::{Direction, WorkloadRef};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where an attacker may stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Station {
    /// In a workload.
    Workload(WorkloadRef),
    /// On a node.
    Nodes,
    /// Outside of the cluster.
    Outside,
}

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(workload) => write!(f, "{workload}"),
            Self::Nodes => f.write_str("nodes"),
            Self::Outside => f.write_str("outside"),
        }
    }
}

/// One station that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Which.
    pub station: Station,
    /// How many steps it takes.
    pub steps: usize,
    /// Where the last step begins.
    pub by: WorkloadRef,
    /// The flow of the last step.
    pub flow: Flow,
}

/// All that is reached from these pods, nearest first. Nodes and the outside are ends: nobody comes back from there.
pub fn reach(
    programs: &Programs,
    inventory: &Inventory,
    from: &BTreeSet<ObjectName>,
    version: Version,
) -> Result<Vec<Reached>, TooManyKinds> {
    let mut search = Search::new(programs, inventory, version, Traffic::default());
    let mut members: BTreeMap<&WorkloadRef, Vec<Named<'_>>> = BTreeMap::new();
    let pods = || inventory.pods.iter().filter(|(_, pod)| !pod.host_network);
    pods().for_each(|(name, pod)| members.entry(&pod.workload).or_default().push((name, pod)));
    let nodes = nodes(inventory);
    let cuts: Vec<Block> = nodes.iter().map(|address| (*address, *address)).collect();
    let mut first: BTreeSet<&WorkloadRef> = BTreeSet::new();
    let mut held: BTreeSet<&ObjectName> = BTreeSet::new();
    let mut front: Vec<(Named<'_>, usize)> = Vec::new();
    for (name, pod) in pods().filter(|(name, _)| from.contains(*name)) {
        first.insert(&pod.workload);
        held.insert(name);
        front.push(((name, pod), 0));
    }
    let mut known: BTreeSet<Station> = first.iter().copied().cloned().map(Station::Workload).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(((name, pod), steps)) = front.get(at).copied() {
        at += 1;
        let reached = |station: Station, flow: Flow| Reached {
            station,
            steps: steps + 1,
            by: pod.workload.clone(),
            flow,
        };
        for (workload, targets) in &members {
            let station = Station::Workload((*workload).clone());
            if known.contains(&station) {
                // Of a workload where it begins at some pods, the others are steps as well.
                for target in targets.iter().filter(|_| first.contains(workload)) {
                    if !held.contains(target.0) && search.between((name, pod), *target, |_| true)?.is_some() {
                        held.insert(target.0);
                        front.push((*target, steps + 1));
                    }
                }
                continue;
            }
            if let Some(flow) = to_workload(&mut search, (name, pod), targets)? {
                known.insert(station.clone());
                found.push(reached(station, flow));
                front.extend(targets.iter().map(|target| (*target, steps + 1)));
            }
        }
        for (station, on_node) in [(Station::Nodes, true), (Station::Outside, false)] {
            if known.contains(&station) {
                continue;
            }
            let wanted = |_, address| nodes.contains(&address) == on_node;
            if let Some(flow) = search.outside((name, pod), Direction::Egress, &cuts, wanted)? {
                known.insert(station.clone());
                found.push(reached(station, flow));
            }
        }
    }
    Ok(found)
}

fn to_workload<'a>(
    search: &mut Search<'a>,
    from: (&'a ObjectName, &'a Pod),
    targets: &[Named<'a>],
) -> Result<Option<Flow>, TooManyKinds> {
    for target in targets {
        if let Some(flow) = search.between(from, *target, |_| true)? {
            return Ok(Some(flow));
        }
    }
    Ok(None)
}

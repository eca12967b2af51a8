//! Objects in, one program per pod out. Pure.
//!
//! [`Index`] holds the program of every pod, compiled from the last good policies and inventory. An update
//! compiles everything or changes nothing; a program gets a new revision only if its content changed, so that a
//! change of one workload reaches the sidecars of that workload and of those that name it, nobody else.
//!
//! Next: [`Reach`], what a pod can reach as things stand.

mod reach;

pub use reach::{Reach, Reachable};

use bulkhead_policies::compile::{CompileError, CompileWarning, Compiler};
use bulkhead_policies::inventory::{Inventory, ObjectName};
use bulkhead_policies::model::PolicySet;
use bulkhead_policies::program::Program;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The programs of all pods.
#[derive(Clone, Debug, Default)]
pub struct Index {
    revision: u64,
    pods: BTreeMap<String, IndexedPod>,
}

/// One pod and its program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedPod {
    /// Namespace and name.
    pub name: ObjectName,
    /// What its sidecar enforces; pods with the same program share it.
    pub program: Arc<Program>,
}

/// What an update changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// UIDs of pods whose program is new or has changed, sorted.
    pub changed: Vec<String>,
    /// UIDs of pods that are gone, sorted.
    pub removed: Vec<String>,
    /// What compiles, but probably not to what was meant.
    pub warnings: Vec<CompileWarning>,
}

impl Index {
    /// An empty index; the first program gets the revision after `last_revision`.
    pub fn new(last_revision: u64) -> Self {
        Self { revision: last_revision, pods: BTreeMap::new() }
    }

    /// The newest revision that a program carries, or the one that the index began with.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Pods by UID, with their programs. Pods in their node's network namespace have none and are not listed.
    pub fn pods(&self) -> &BTreeMap<String, IndexedPod> {
        &self.pods
    }

    /// Compiles everything anew; on errors nothing changes.
    pub fn update(&mut self, set: &PolicySet, inventory: &Inventory) -> Result<Change, Vec<CompileError>> {
        let compiler = Compiler::new(set, inventory)?;
        let revision = self.revision + 1;
        let (groups, warnings) = compiler.programs_with_warnings(revision).map_err(|error| vec![error])?;
        let mut pods = BTreeMap::new();
        let mut changed = Vec::new();
        for group in groups {
            let fresh = Arc::new(group.program);
            for name in group.pods {
                let Some(uid) = inventory.pods.get(&name).map(|pod| pod.uid.clone()) else { continue };
                let program = match self.pods.get(&uid) {
                    Some(old) if same_content(&old.program, &fresh) => old.program.clone(),
                    Some(_) | None => {
                        changed.push(uid.clone());
                        fresh.clone()
                    }
                };
                pods.insert(uid, IndexedPod { name, program });
            }
        }
        let removed = self.pods.keys().filter(|uid| !pods.contains_key(*uid)).cloned().collect();
        changed.sort_unstable();
        if !changed.is_empty() {
            self.revision = revision;
        }
        self.pods = pods;
        Ok(Change { changed, removed, warnings })
    }
}

/// True if two programs judge alike and say the same of it, whatever their revisions.
fn same_content(one: &Arc<Program>, other: &Arc<Program>) -> bool {
    if Arc::ptr_eq(one, other) {
        return true;
    }
    // Taken apart so that a new field cannot be forgotten here.
    let Program { revision: _, workload, collection, mode, rules, answers, l7_chains, ingress, egress } =
        &**one;
    *workload == other.workload
        && *collection == other.collection
        && *mode == other.mode
        && *rules == other.rules
        && *answers == other.answers
        && *l7_chains == other.l7_chains
        && *ingress == other.ingress
        && *egress == other.egress
}

#[cfg(test)]
mod tests;

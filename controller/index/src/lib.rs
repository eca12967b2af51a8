//! Objects in, one program per pod out. Pure.
//!
//! [`Index`] holds the program of every pod, compiled from the last good policies and inventory. An update compiles
//! what the differences bear on, or changes nothing; a program gets a new revision only if its content changed, so
//! that a change of one workload reaches the sidecars of that workload and of those that name it, nobody else.
//!
//! Next: [`Reach`], what a pod can reach as things stand.

mod reach;

pub use reach::{Reach, Reachable};

use bulkhead_policies::compile::{CompileError, CompileWarning, Difference, Kept};
use bulkhead_policies::inventory::{Inventory, ObjectName};
use bulkhead_policies::model::PolicySet;
use bulkhead_policies::program::Program;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The programs of all pods.
#[derive(Clone, Default)]
pub struct Index {
    revision: u64,
    kept: Kept,
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
        Self { revision: last_revision, kept: Kept::default(), pods: BTreeMap::new() }
    }

    /// The newest revision that a program carries, or the one that the index began with.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Pods by UID, with their programs. Pods in their node's network namespace have none and are not listed.
    pub fn pods(&self) -> &BTreeMap<String, IndexedPod> {
        &self.pods
    }

    /// Takes over these policies and this inventory; on errors nothing changes.
    pub fn update(&mut self, set: &PolicySet, inventory: &Inventory) -> Result<Change, Vec<CompileError>> {
        self.apply(self.kept.differences(set, inventory))
    }

    /// Takes over this inventory under the policies that are there; on errors nothing changes. Cheaper than
    /// [`Index::update`], which compares every rule.
    pub fn update_inventory(&mut self, inventory: &Inventory) -> Result<Change, Vec<CompileError>> {
        self.apply(self.kept.inventory_differences(inventory))
    }

    /// Takes over differences that the caller knows; on errors nothing changes.
    pub fn apply(&mut self, differences: Vec<Difference>) -> Result<Change, Vec<CompileError>> {
        let revision = self.revision + 1;
        let renewed = self.kept.apply(differences, revision)?;
        let programs = self.kept.programs();
        for uid in &renewed.gone {
            self.pods.remove(uid);
        }
        let mut changed = Vec::new();
        for name in renewed.changed {
            let kept = &programs[&name];
            changed.push(kept.uid.clone());
            self.pods.insert(kept.uid.clone(), IndexedPod { name, program: kept.program.clone() });
        }
        changed.sort_unstable();
        if !changed.is_empty() {
            self.revision = revision;
        }
        // A pod that got another name is not gone.
        let removed = renewed.gone.into_iter().filter(|uid| !self.pods.contains_key(uid)).collect();
        Ok(Change { changed, removed, warnings: self.kept.warnings() })
    }
}

#[cfg(test)]
mod tests;

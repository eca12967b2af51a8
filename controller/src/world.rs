//! What is in force: the last good policies and inventory, and the program of every pod.
//!
//! One task owns the [`Index`]; everybody else holds the newest [`World`]. A reading that is wrong is refused whole:
//! what was in force stays, and the world says what was refused and why. A policy folder that holds no policy at
//! all counts as wrong: it is more often a lost mount than a wish to open everything.

use crate::clock::now_ms;
use crate::flows::Addresses;
use crate::store::{Records, StoreError};
use crate::watch::{FolderError, Reading};
use bulkhead_api::rest::{Diagnostic, Refusal};
use bulkhead_index::{Index, IndexedPod};
use bulkhead_policies::diagnostics::{self, Source};
use bulkhead_policies::documents::{self, Loaded};
use bulkhead_policies::inventory::{Inventory, ObjectName, Pod};
use bulkhead_policies::model::PolicySet;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What is in force at one moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The newest revision that a program carries.
    pub revision: u64,
    /// The policies.
    pub policies: Arc<Policies>,
    /// What lies in the policy folder now, if it was refused.
    pub policies_refused: Option<Refusal>,
    /// The cluster.
    pub inventory: Arc<Inventory>,
    /// What lies in the inventory folder now, if it was refused.
    pub inventory_refused: Option<Refusal>,
    /// Pods with their programs, by UID.
    pub pods: Arc<BTreeMap<String, IndexedPod>>,
    /// Whose an address is.
    pub addresses: Arc<Addresses>,
    /// What compiles, but probably not to what was meant.
    pub warnings: Vec<String>,
}

/// A set of policies that was loaded without errors.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// When; 0 before the first.
    pub loaded_ms: u64,
    /// The files.
    pub sources: Vec<Source>,
    /// What they say.
    pub loaded: Loaded,
}

impl Policies {
    /// The checked set.
    pub fn set(&self) -> &PolicySet {
        &self.loaded.set
    }
}

impl World {
    /// The pod with that UID, host-network pods included.
    pub fn pod(&self, uid: &str) -> Option<(&ObjectName, &Pod)> {
        if let Some(indexed) = self.pods.get(uid) {
            return self.inventory.pods.get_key_value(&indexed.name);
        }
        self.inventory.pods.iter().find(|(_, pod)| pod.uid == uid)
    }
}

/// Follows both folders until nobody holds the world any more.
pub async fn follow(
    mut policies: watch::Receiver<Reading>,
    mut inventory: watch::Receiver<Reading>,
    records: Records,
    world: watch::Sender<Arc<World>>,
) -> Result<(), StoreError> {
    let index = Index::new(records.read(|store| store.revision()).await?);
    let mut keeper = Keeper { index, records, policies: None, inventory: None };
    let mut current = World::default();
    policies.mark_changed();
    loop {
        tokio::select! {
            biased;
            changed = inventory.changed() => if changed.is_err() { return Ok(()) },
            changed = policies.changed() => if changed.is_err() { return Ok(()) },
            () = world.closed() => return Ok(()),
        }
        // Both are looked at: at the start, and often later, they change together.
        let inventory_reading = inventory.borrow_and_update().clone();
        let policy_reading = policies.borrow_and_update().clone();
        current = keeper.next(&current, &policy_reading, &inventory_reading).await?;
        world.send_replace(Arc::new(current.clone()));
    }
}

struct Keeper {
    index: Index,
    records: Records,
    /// What the last readings said, so that a change of one folder does not read the other again.
    policies: Option<(Reading, Result<Arc<Policies>, Refusal>)>,
    inventory: Option<(Reading, Result<Arc<Inventory>, Refusal>)>,
}

impl Keeper {
    async fn next(
        &mut self,
        last: &World,
        policies: &Reading,
        inventory: &Reading,
    ) -> Result<World, StoreError> {
        let mut next = World { policies_refused: None, inventory_refused: None, ..last.clone() };
        match once(&mut self.inventory, inventory, read_inventory) {
            Ok(inventory) => next.inventory = inventory,
            Err(why) => {
                next.inventory_refused = Some(refused("inventory", last.inventory_refused.as_ref(), why))
            }
        }
        match once(&mut self.policies, policies, read_policies) {
            Ok(policies) => next.policies = policies,
            Err(why) => {
                next.policies_refused = Some(refused("policies", last.policies_refused.as_ref(), why))
            }
        }
        self.compile(last, next).await
    }

    /// Compiles the candidate. If it does not compile, the policies are to blame if they changed, else the inventory;
    /// what is to blame goes back to what it was.
    async fn compile(&mut self, last: &World, mut next: World) -> Result<World, StoreError> {
        loop {
            if next.policies.loaded_ms == 0 {
                next.addresses = Arc::new(Addresses::new(&next.inventory));
                return Ok(next);
            }
            let errors = match self.index.update(next.policies.set(), &next.inventory) {
                Ok(change) => return self.adopt(last, next, change).await,
                Err(errors) => errors,
            };
            let why = refusal_of(errors.iter().map(compile_diagnostic).collect());
            if Arc::ptr_eq(&last.policies, &next.policies) {
                let inventory_refused = Some(refused("inventory", last.inventory_refused.as_ref(), why));
                return Ok(World {
                    policies_refused: next.policies_refused,
                    inventory_refused,
                    ..last.clone()
                });
            }
            next.policies_refused = Some(refused("policies", last.policies_refused.as_ref(), why));
            next.policies = last.policies.clone();
        }
    }

    async fn adopt(
        &mut self,
        last: &World,
        mut next: World,
        change: bulkhead_index::Change,
    ) -> Result<World, StoreError> {
        next.revision = self.index.revision();
        next.pods = Arc::new(self.index.pods().clone());
        next.addresses = Arc::new(Addresses::new(&next.inventory));
        next.warnings = warnings(&next, &change);
        if next.revision != last.revision {
            let revision = next.revision;
            // Before any sidecar sees it: after a restart no revision is given twice.
            self.records.write(move |store| store.set_revision(revision)).await?;
            let (changed, removed) = (change.changed.len(), change.removed.len());
            tracing::info!(revision, changed, removed, "policy in force");
        }
        Ok(next)
    }
}

/// The outcome for the reading: the last one if it is the same reading.
fn once<T>(
    last: &mut Option<(Reading, Result<Arc<T>, Refusal>)>,
    reading: &Reading,
    read: fn(&Reading) -> Result<T, Refusal>,
) -> Result<Arc<T>, Refusal> {
    if let Some((_, outcome)) = last.as_ref().filter(|(before, _)| Arc::ptr_eq(before, reading)) {
        return outcome.clone();
    }
    let outcome = read(reading).map(Arc::new);
    *last = Some((reading.clone(), outcome.clone()));
    outcome
}

fn warnings(world: &World, change: &bulkhead_index::Change) -> Vec<String> {
    let set = world.policies.set();
    let references = documents::references(set, &world.policies.loaded.places, &world.inventory);
    let found = world.policies.loaded.diagnostics.iter().chain(&references).map(ToString::to_string);
    found.chain(change.warnings.iter().map(ToString::to_string)).collect()
}

fn read_policies(reading: &Reading) -> Result<Policies, Refusal> {
    let sources = reading.as_ref().as_ref().map_err(|error| refusal_of(vec![folder_diagnostic(error)]))?;
    let loaded = documents::load(sources);
    if loaded.has_errors() {
        return Err(refusal_of(loaded.diagnostics.iter().map(diagnostic).collect()));
    }
    if loaded.set.policies.is_empty() && loaded.set.collections.is_empty() {
        return Err(refusal_of(vec![without_place(
            "no-policy",
            "the policy folder holds no policy",
            "write at least one Collection; to open everything, say so with `default: kubernetes`",
        )]));
    }
    Ok(Policies { loaded_ms: now_ms(), sources: sources.clone(), loaded })
}

fn read_inventory(reading: &Reading) -> Result<Inventory, Refusal> {
    let sources = reading.as_ref().as_ref().map_err(|error| refusal_of(vec![folder_diagnostic(error)]))?;
    documents::load_inventory(sources).map_err(|found| refusal_of(found.iter().map(diagnostic).collect()))
}

/// Keeps the time of a refusal that was there before; logs a new one, once.
fn refused(what: &'static str, before: Option<&Refusal>, now: Refusal) -> Refusal {
    match before {
        Some(before) if before.diagnostics == now.diagnostics => before.clone(),
        Some(_) | None => {
            for found in now.diagnostics.iter().filter(|found| found.severity == "error") {
                let place = format!("{}:{}:{}", found.file, found.line, found.column);
                tracing::error!(
                    what,
                    place,
                    help = found.help,
                    "refused, the last good set stays: {}",
                    found.message
                );
            }
            now
        }
    }
}

fn refusal_of(diagnostics: Vec<Diagnostic>) -> Refusal {
    Refusal { at_ms: now_ms(), diagnostics }
}

/// A finding of the loaders in the form of the API.
pub fn diagnostic(found: &diagnostics::Diagnostic) -> Diagnostic {
    Diagnostic {
        severity: found.severity.as_str().to_owned(),
        code: found.code.to_owned(),
        file: found.file.clone(),
        line: found.line as usize,
        column: found.column as usize,
        message: found.message.clone(),
        help: found.help.clone().unwrap_or_default(),
    }
}

/// An error of the compiler in the form of the API.
pub fn compile_diagnostic(error: &bulkhead_policies::compile::CompileError) -> Diagnostic {
    without_place("compile", &error.to_string(), "")
}

fn folder_diagnostic(error: &FolderError) -> Diagnostic {
    Diagnostic { file: error.path().to_owned(), ..without_place("unreadable", &error.to_string(), "") }
}

fn without_place(code: &str, message: &str, help: &str) -> Diagnostic {
    Diagnostic {
        severity: "error".to_owned(),
        code: code.to_owned(),
        file: String::new(),
        line: 0,
        column: 0,
        message: message.to_owned(),
        help: help.to_owned(),
    }
}

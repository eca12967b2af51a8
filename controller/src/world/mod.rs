//! What is in force: the last good policies and inventory, and the program of every pod.
//!
//! One task ([`follow`]) makes it; everybody else holds the newest [`World`]. A reading that is wrong is refused whole:
//! what was in force stays, and the world says what was refused and why ([`keeper`]).

mod hold_down;
mod keeper;

use crate::clock::now_ms;
use crate::flows::Addresses;
use crate::store::{Records, StoreError};
use crate::watch::Reading;
use bulkhead_api::rest::{Diagnostic, Refusal};
use bulkhead_index::IndexedPod;
use bulkhead_policies::compile::CompileError;
use bulkhead_policies::diagnostics::{self, Source};
use bulkhead_policies::documents::Loaded;
use bulkhead_policies::inventory::{Inventory, ObjectName, Pod};
use bulkhead_policies::model::{Collection, Date, PolicySet};
use keeper::Keeper;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;

/// After the store failed, the same change is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is looked whether a new day (UTC) has begun: schedules of collections go by days.
const DAY_LOOKED_AT: Duration = Duration::from_secs(60);

/// What is in force at one moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The newest revision that a program carries.
    pub revision: u64,
    /// The policies.
    pub policies: Arc<Policies>,
    /// The collections as their schedules hold them today.
    pub collections: Arc<Vec<Collection>>,
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
    /// True while a policy folder that was read before is not there: whoever writes one anew would seem to delete all
    /// that it held.
    pub fn policies_are_gone(&self) -> bool {
        let found = self.policies_refused.iter().flat_map(|refusal| &refusal.diagnostics);
        found.into_iter().any(|diagnostic| diagnostic.code == keeper::FOLDER_GONE)
    }

    /// The pod with that UID, host-network pods included.
    pub fn pod(&self, uid: &str) -> Option<(&ObjectName, &Pod)> {
        if let Some(indexed) = self.pods.get(uid) {
            return self.inventory.pods.get_key_value(&indexed.name);
        }
        self.inventory.pods.iter().find(|(_, pod)| pod.uid == uid)
    }
}

/// Follows both folders until nobody holds the world any more. Fails only before the first world.
pub async fn follow(
    mut policies: watch::Receiver<Reading>,
    mut inventory: watch::Receiver<Reading>,
    records: Records,
    world: watch::Sender<Arc<World>>,
) -> Result<(), StoreError> {
    let mut keeper = Keeper::new(records.read(|store| store.revision()).await?);
    let mut current = World::default();
    policies.mark_changed();
    let mut day = today();
    loop {
        tokio::select! {
            () = sleep(DAY_LOOKED_AT) => if onwards(day, today()) == day { continue },
            // An address that changed hands is held down no longer.
            () = until(keeper.due()) => {}
            changed = inventory.changed() => if changed.is_err() { return Ok(()) },
            changed = policies.changed() => if changed.is_err() { return Ok(()) },
            () = world.closed() => return Ok(()),
        }
        // Both are looked at: at the start, and often later, they change together.
        let readings = (policies.borrow_and_update().clone(), inventory.borrow_and_update().clone());
        day = onwards(day, today());
        let next = step(&mut keeper, &current, readings, (day, Instant::now())).await;
        if let Err(error) = remember(&records, &current, &next).await {
            tracing::error!(%error, "a new policy waits: its revision cannot be stored");
            sleep(RETRY).await;
            policies.mark_changed();
            continue;
        }
        current = next;
        world.send_replace(Arc::new(current.clone()));
    }
}

/// Reads and compiles on a thread of its own: both take long in a large cluster. A panic there is a mistake of ours
/// and is answered like a mistake of theirs: refused, everything stays.
async fn step(
    keeper: &mut Keeper,
    last: &World,
    (policies, inventory): (Reading, Reading),
    now: (Date, Instant),
) -> World {
    // A keeper that panicked is not used again: the one that is left here compiles everything anew.
    let mut working = std::mem::replace(keeper, Keeper::new(last.revision));
    let before = last.clone();
    let made = tokio::task::spawn_blocking(move || {
        let next = working.next(&before, &policies, &inventory, now);
        (working, next)
    });
    match made.await {
        Ok((working, next)) => {
            *keeper = working;
            next
        }
        Err(panic) => keeper::refused_by_panic(last, &panic.to_string()),
    }
}

/// Waits for a moment; for ever where there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep(moment.saturating_duration_since(Instant::now())).await,
        None => std::future::pending().await,
    }
}

/// The day that schedules are held on: a clock that is set back takes back no step, which might open what is enforced.
fn onwards(last: Date, now: Date) -> Date {
    if now < last {
        tracing::warn!(%last, %now, "the clock was set back: schedules stay where they are; restart if it was ahead before");
    }
    last.max(now)
}

fn today() -> Date {
    Date::of_unix_seconds(now_ms() / 1_000)
}

/// Stores a new revision before any sidecar sees it: after a restart no revision is given twice.
async fn remember(records: &Records, last: &World, next: &World) -> Result<(), StoreError> {
    if next.revision == last.revision {
        return Ok(());
    }
    let revision = next.revision;
    records.write(move |store| store.set_revision(revision)).await?;
    tracing::info!(revision, pods = next.pods.len(), "policy in force");
    Ok(())
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
pub fn compile_diagnostic(error: &CompileError) -> Diagnostic {
    without_place("compile", &error.to_string(), "")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_takes_no_step_back() {
        let [before, after] = ["2026-11-25", "2026-11-26"].map(|day| Date::parse(day).expect("a day"));
        assert_eq!(onwards(before, after), after);
        assert_eq!(onwards(after, before), after);
        assert_eq!(onwards(after, after), after);
    }
}

//! From readings to the next world: a function of what was, what lies in the folders, and the index.
//!
//! A policy folder that holds no policy at all counts as wrong: it is more often a lost mount than a wish to open
//! everything. So does an inventory without namespaces and pods once there were some.

use super::hold_down::HoldDown;
use super::{Policies, World, compile_diagnostic, diagnostic, without_place};
use crate::clock::now_ms;
use crate::flows::Addresses;
use crate::watch::{FolderError, Reading};
use bulkhead_api::rest::{Diagnostic, Refusal};
use bulkhead_index::{Change, Index};
use bulkhead_policies::compile::CompileError;
use bulkhead_policies::documents;
use bulkhead_policies::inventory::{Inventory, ObjectName, Pod};
use bulkhead_policies::model::{Collection, Date};
use std::sync::Arc;
use std::time::Instant;

/// The code of a refusal since a folder is not there any more.
pub(super) const FOLDER_GONE: &str = "folder-gone";

/// Makes worlds.
pub(super) struct Keeper {
    index: Index,
    /// What the index holds: while policies and day stay, only the inventory is compared.
    held: Option<Held>,
    /// What the policies name in vain, for the policies and the inventory that it was looked up for.
    references: Option<(Arc<Policies>, Arc<Inventory>, Vec<String>)>,
    /// What the last readings said, so that a change of one folder does not read the other again.
    policies: Option<(Reading, Result<Arc<Policies>, Refusal>)>,
    inventory: Option<(Reading, Result<Arc<Inventory>, Refusal>)>,
    hold_down: HoldDown,
    /// The inventory that programs are compiled from: with the former holders of addresses that changed hands.
    compiled_from: Arc<Inventory>,
}

/// Policies as their schedules hold them on a day. The world of before may lack them: it stays while a store that fails
/// keeps a new one back.
struct Held {
    policies: Arc<Policies>,
    day: Date,
    collections: Arc<Vec<Collection>>,
}

impl Keeper {
    /// Begins with nothing in force; the first program gets the revision after `last_revision`.
    pub(super) fn new(last_revision: u64) -> Self {
        Self {
            index: Index::new(last_revision),
            held: None,
            references: None,
            policies: None,
            inventory: None,
            hold_down: HoldDown::default(),
            compiled_from: Arc::default(),
        }
    }

    /// When the same readings will mean something else, on the same day.
    pub(super) fn due(&self) -> Option<Instant> {
        self.hold_down.due()
    }

    /// The world after these readings, with collections in the mode that their schedules have come to that day.
    pub(super) fn next(
        &mut self,
        last: &World,
        policies: &Reading,
        inventory: &Reading,
        (today, now): (Date, Instant),
    ) -> World {
        let mut next = World { policies_refused: None, inventory_refused: None, ..last.clone() };
        let inventory = once(&mut self.inventory, inventory, read_inventory);
        match inventory.and_then(|inventory| not_emptied(&last.inventory, inventory)) {
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
        self.compiled_from = self.hold_down.next(&next.inventory, now);
        self.compile(last, next, today)
    }

    /// Compiles the candidate. If it does not compile, the policies are to blame if they changed, else the inventory;
    /// what is to blame goes back to what it was.
    fn compile(&mut self, last: &World, mut next: World, today: Date) -> World {
        loop {
            if next.policies.loaded_ms == 0 {
                next.addresses = self.addresses(&next);
                return next;
            }
            let errors = match self.update(&mut next, today) {
                Ok(change) => return self.adopt(next, &change),
                Err(errors) => errors,
            };
            let why = refusal_of(errors.iter().map(compile_diagnostic).collect());
            if Arc::ptr_eq(&last.policies, &next.policies) {
                let inventory_refused = Some(refused("inventory", last.inventory_refused.as_ref(), why));
                return World { policies_refused: next.policies_refused, inventory_refused, ..last.clone() };
            }
            next.policies_refused = Some(refused("policies", last.policies_refused.as_ref(), why));
            next.policies = last.policies.clone();
        }
    }

    /// Brings the index up to date; only what changed is compared and compiled.
    fn update(&mut self, next: &mut World, today: Date) -> Result<Change, Vec<CompileError>> {
        let is_held = |held: &&Held| Arc::ptr_eq(&held.policies, &next.policies) && held.day == today;
        if let Some(held) = self.held.as_ref().filter(is_held) {
            next.collections = held.collections.clone();
            return self.index.update_inventory(&self.compiled_from);
        }
        let set = next.policies.set().on(today);
        let change = self.index.update(&set, &self.compiled_from)?;
        next.collections = Arc::new(set.collections);
        let (policies, collections) = (next.policies.clone(), next.collections.clone());
        self.held = Some(Held { policies, day: today, collections });
        Ok(change)
    }

    fn adopt(&mut self, mut next: World, change: &Change) -> World {
        next.revision = self.index.revision();
        let mut pods = self.index.pods().clone();
        pods.retain(|uid, _| !self.hold_down.is_former(uid));
        next.pods = Arc::new(pods);
        next.addresses = self.addresses(&next);
        next.warnings = self.warnings(&next, change);
        next
    }

    fn addresses(&self, world: &World) -> Arc<Addresses> {
        let held_down = self.hold_down.held_down().clone();
        Arc::new(Addresses::new(&world.inventory).with_held_down(held_down))
    }

    fn warnings(&mut self, world: &World, change: &Change) -> Vec<String> {
        let found = world.policies.loaded.diagnostics.iter().map(ToString::to_string);
        found.chain(self.references(world)).chain(change.warnings.iter().map(ToString::to_string)).collect()
    }

    /// What the policies name in vain: looked up anew only where a name or a label has changed, since there are many rules.
    fn references(&mut self, world: &World) -> Vec<String> {
        let last = self.references.as_ref().filter(|(policies, inventory, _)| {
            Arc::ptr_eq(policies, &world.policies) && named_alike(inventory, &world.inventory)
        });
        if let Some((_, _, found)) = last {
            return found.clone();
        }
        let set = world.policies.set();
        let found = documents::references(set, &world.policies.loaded.places, &world.inventory);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        self.references = Some((world.policies.clone(), world.inventory.clone(), found.clone()));
        found
    }
}

/// The world of before, saying that we could not make the next.
pub(super) fn refused_by_panic(last: &World, panic: &str) -> World {
    let message = format!("the controller made a mistake in reading or compiling this: {panic}");
    let why = refusal_of(vec![without_place(
        "internal",
        &message,
        "report it with the documents; the last good set stays",
    )]);
    World { policies_refused: Some(refused("policies", last.policies_refused.as_ref(), why)), ..last.clone() }
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

/// True if everything that policies refer to has the same names and labels in both.
fn named_alike(one: &Inventory, other: &Inventory) -> bool {
    let same = |((name, pod), (other, second)): ((&ObjectName, &Pod), (&ObjectName, &Pod))| {
        name == other && pod.host_network == second.host_network && pod.labels == second.labels
    };
    one.namespaces == other.namespaces
        && one.node_labels == other.node_labels
        && one.services.keys().eq(other.services.keys())
        && one.pods.len() == other.pods.len()
        && one.pods.iter().zip(&other.pods).all(same)
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

/// Refuses an inventory in which nothing is left of a cluster that was there.
fn not_emptied(last: &Inventory, next: Arc<Inventory>) -> Result<Arc<Inventory>, Refusal> {
    let is_empty = |inventory: &Inventory| inventory.namespaces.is_empty() && inventory.pods.is_empty();
    if !is_empty(&next) || is_empty(last) {
        return Ok(next);
    }
    Err(refusal_of(vec![without_place(
        "empty-inventory",
        "the inventory folder holds no namespace and no pod any more",
        "restore what lists the cluster; restart the controller if the cluster is meant to be empty",
    )]))
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

fn folder_diagnostic(error: &FolderError) -> Diagnostic {
    let code = match error {
        FolderError::Gone { .. } => FOLDER_GONE,
        FolderError::Unreadable { .. }
        | FolderError::NotText { .. }
        | FolderError::TooLarge { .. }
        | FolderError::Interrupted { .. } => "unreadable",
    };
    Diagnostic { file: error.path().to_owned(), ..without_place(code, &error.to_string(), "") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_facts::{Mode, Reason};
    use bulkhead_policies::diagnostics::Source;

    #[test]
    fn a_wrong_reading_is_refused_and_what_was_in_force_stays() {
        let mut keeper = Keeper::new(0);
        let good = keeper.next(&World::default(), &policies(&["team: shop"]), &inventory("shop"), today());
        assert_eq!((good.revision, good.pods.len()), (1, 1));
        let broken = Arc::new(Ok(vec![source("policies.yaml", "kind: [")]));
        let cases: [(&str, Reading, Reading); 6] = [
            ("an emptied inventory", policies(&["team: shop"]), Arc::new(Ok(vec![]))),
            ("an inventory folder that is gone", policies(&["team: shop"]), gone()),
            ("broken policies", broken.clone(), inventory("shop")),
            ("no policies at all", Arc::new(Ok(vec![])), inventory("shop")),
            ("a folder that cannot be read", unreadable(), inventory("shop")),
            ("a broken inventory", policies(&["team: shop"]), broken),
        ];
        for (name, policies, inventory) in cases {
            let next = keeper.next(&good, &policies, &inventory, today());
            assert!(next.policies_refused.is_some() != next.inventory_refused.is_some(), "{name}");
            assert_eq!((next.revision, &next.pods), (good.revision, &good.pods), "{name}");
        }
        let again = keeper.next(&good, &policies(&["team: shop"]), &inventory("shop"), today());
        assert_eq!(
            (again.policies_refused, again.inventory_refused),
            (None, None),
            "what is mended is in force"
        );
    }

    #[test]
    fn a_schedule_comes_into_force_on_its_day() {
        let collection = "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {name: shop}\nspec:\n  \
             covers: {namespaces: {team: shop}}\n  mode: audit\n  schedule: [{from: 2026-11-26, mode: enforce}]\n";
        let policies: Reading = Arc::new(Ok(vec![source("policies.yaml", collection)]));
        let mut keeper = Keeper::new(0);
        let modes = |world: &World| -> Vec<_> { world.pods.values().map(|pod| pod.program.mode).collect() };
        let before = keeper.next(&World::default(), &policies, &inventory("shop"), today());
        assert_eq!((before.revision, modes(&before)), (1, vec![Mode::Audit]));
        let tomorrow = on("2026-11-26");
        let after = keeper.next(&before, &policies, &inventory("shop"), tomorrow);
        assert_eq!((after.revision, modes(&after)), (2, vec![Mode::Enforce]));
        assert_eq!(after.collections[0].mode, Mode::Enforce, "what is told is what is held");
        let again = keeper.next(&before, &policies, &inventory("shop"), tomorrow);
        assert_eq!((again.revision, modes(&again)), (2, vec![Mode::Enforce]), "the world of before stayed");
        assert_eq!(again.collections[0].mode, Mode::Enforce, "and what is told is still what is held");
    }

    #[test]
    fn a_new_inventory_is_taken_over_and_the_day_is_looked_at_all_the_same() {
        let collection = "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {name: shop}\nspec:\n  \
             covers: {namespaces: {team: shop}}\n  mode: audit\n  schedule: [{from: 2026-11-26, mode: enforce}]\n";
        let policies: Reading = Arc::new(Ok(vec![source("policies.yaml", collection)]));
        let mut keeper = Keeper::new(0);
        let first = keeper.next(&World::default(), &policies, &inventory("shop"), today());
        let moved = keeper.next(&first, &policies, &inventory("other"), today());
        let held = |world: &World| world.pods.values().next().map(|pod| pod.program.collection.clone());
        assert_eq!((held(&first), held(&moved)), (Some(Some("shop".into())), Some(None)));
        let tomorrow = on("2026-11-26");
        let back = keeper.next(&moved, &policies, &inventory("shop"), tomorrow);
        assert_eq!(back.pods.values().next().map(|pod| pod.program.mode), Some(Mode::Enforce));
    }

    fn today() -> (Date, Instant) {
        on("2026-11-25")
    }

    fn on(day: &str) -> (Date, Instant) {
        (Date::parse(day).expect("a day"), Instant::now())
    }

    #[test]
    fn what_is_named_in_vain_is_told_until_it_is_there() {
        let policy = "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {name: web, namespace: shop}\nspec: {workloads: \
             {app: gone}, ingress: []}\n";
        let policies: Reading = Arc::new(Ok(vec![source("policies.yaml", policy)]));
        let mut keeper = Keeper::new(0);
        let first = keeper.next(&World::default(), &policies, &inventory("shop"), today());
        assert!(!first.warnings.is_empty());
        let again = keeper.next(&first, &policies, &inventory("other"), today());
        assert_eq!(again.warnings, first.warnings, "another label of the namespace");
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-0, namespace: shop, uid: u, labels: {app: gone}}\nspec: {containers: \
             []}\nstatus: {phase: Running, podIP: 10.0.0.9}\n";
        let there: Reading = Arc::new(Ok(vec![source("inventory.yaml", text)]));
        assert!(keeper.next(&again, &policies, &there, today()).warnings.is_empty());
    }

    #[test]
    fn what_changed_is_to_blame_for_what_does_not_compile() {
        let mut keeper = Keeper::new(0);
        let (one, both) = (policies(&["team: shop"]), policies(&["team: shop", "stage: live"]));
        let plain = inventory("shop");
        let good = keeper.next(&World::default(), &one, &plain, today());

        let twice = keeper.next(&good, &both, &inventory("shop, stage: live"), today());
        assert!(twice.policies_refused.is_some(), "both changed: the policies are");
        assert_eq!(twice.inventory_refused, None, "the old policies compile with the new inventory");

        let apart = keeper.next(&good, &both, &plain, today());
        assert_eq!((&apart.policies_refused, &apart.inventory_refused), (&None, &None));
        let labelled = keeper.next(&apart, &both, &inventory("shop, stage: live"), today());
        assert!(labelled.inventory_refused.is_some(), "only the inventory changed");
        assert_eq!(labelled.inventory, apart.inventory);
    }

    #[test]
    fn a_refusal_that_lasts_keeps_its_time() {
        let mut keeper = Keeper::new(0);
        let good = keeper.next(&World::default(), &policies(&["team: shop"]), &inventory("shop"), today());
        let mut first = keeper.next(&good, &unreadable(), &inventory("shop"), today());
        if let Some(refusal) = &mut first.policies_refused {
            refusal.at_ms = 7;
        }
        let later = keeper.next(&first, &unreadable(), &inventory("shop"), today());
        assert_eq!(later.policies_refused.map(|refusal| refusal.at_ms), Some(7));
    }

    const CLIENTS: &str = "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {name: c}\nspec: {covers: {namespaces: \
         {team: shop}}, default: deny, mode: enforce}\n---\napiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {name: \
         web, namespace: shop}\nspec:\n  workloads: {app: web}\n  ingress:\n    - {from: [{workloads: {app: old}}], ports: [80]}\n    - \
         {from: [{workloads: {app: new}}], ports: [81]}\n    - {from: [{workloads: {team: all}}], ports: [82]}\n";

    /// `web`, and at 10.0.0.2 a pod of that name and app.
    fn neighbours(at_2: &str) -> Reading {
        let pod = |name: &str, last: u8| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, uid: uid-{name}, labels: {{app: \
                 {name}, team: all}}}}\nspec: {{containers: []}}\nstatus: {{phase: Running, podIP: 10.0.0.{last}}}\n"
            )
        };
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: shop}}\n";
        let text = format!("{namespace}{}{}", pod("web", 1), pod(at_2, 2));
        Arc::new(Ok(vec![source("inventory.yaml", &text)]))
    }

    /// Whether 10.0.0.2 may use ports 80 to 82 of `web`, and why not.
    fn may(world: &World) -> [&'static str; 3] {
        use bulkhead_facts::{Direction, L4Protocol, Request};
        let program = (*world.pods["uid-web"].program).clone();
        let judge = bulkhead_policies::decide::Judge::new(program).expect("valid");
        [80, 81, 82].map(|port| {
            let peer = std::net::Ipv4Addr::new(10, 0, 0, 2).into();
            let answer = judge.decide(Direction::Ingress, peer, L4Protocol::TCP, port, &Request::Opaque);
            answer.enforced.reason.as_str()
        })
    }

    #[test]
    fn an_address_that_changes_hands_may_what_both_may_until_its_hold_down_is_over() {
        let mut keeper = Keeper::new(0);
        let policies: Reading = Arc::new(Ok(vec![source("policies.yaml", CLIENTS)]));
        let (day, start) = today();
        let [allowed, no_rule] = [Reason::AllowedByRule, Reason::NoRule].map(Reason::as_str);
        let old = keeper.next(&World::default(), &policies, &neighbours("old"), (day, start));
        assert_eq!((may(&old), keeper.due()), ([allowed, no_rule, allowed], None));
        let reading = neighbours("new");
        let held = keeper.next(&old, &policies, &reading, (day, start));
        assert_eq!(may(&held), [no_rule, no_rule, allowed]);
        assert_eq!(
            held.pods.keys().collect::<Vec<_>>(),
            ["uid-new", "uid-web"],
            "nobody runs the former one"
        );
        assert_eq!(held.inventory.pods.len(), 2);
        assert!(held.warnings.iter().any(|warning| warning.contains("former holder")), "{:?}", held.warnings);
        let due = keeper.due().expect("held down");
        assert_eq!(due, start + crate::limits::ADDRESS_HOLD_DOWN);
        let over = keeper.next(&held, &policies, &reading, (day, due));
        assert_eq!((may(&over), keeper.due()), ([no_rule, allowed, allowed], None));
        assert!(over.revision > held.revision && held.revision > old.revision);
    }

    /// One collection for each label.
    fn policies(labels: &[&str]) -> Reading {
        let documents = labels.iter().enumerate().map(|(number, label)| {
            format!(
                "---\napiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: c{number}}}\nspec: {{covers: \
                 {{namespaces: {{{label}}}}}, mode: enforce}}\n"
            )
        });
        Arc::new(Ok(vec![source("policies.yaml", &documents.collect::<String>())]))
    }

    /// One pod in a namespace with these labels.
    fn inventory(team: &str) -> Reading {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{team: {team}}}}}\n---\napiVersion: v1\nkind: \
             Pod\nmetadata: {{name: web-0, namespace: shop, uid: uid-web}}\nspec: {{containers: []}}\nstatus: {{phase: \
             Running, podIP: 10.0.0.1}}\n"
        );
        Arc::new(Ok(vec![source("inventory.yaml", &text)]))
    }

    #[test]
    fn an_inventory_may_be_empty_as_long_as_it_always_was() {
        let mut keeper = Keeper::new(0);
        let first =
            keeper.next(&World::default(), &policies(&["team: shop"]), &Arc::new(Ok(vec![])), today());
        assert_eq!(first.inventory_refused, None);
        let next = keeper.next(&first, &gone(), &inventory("shop"), today());
        assert!(next.policies_are_gone());
        assert!(!first.policies_are_gone());
    }

    fn gone() -> Reading {
        Arc::new(Err(FolderError::Gone { path: "folder".into() }))
    }

    fn unreadable() -> Reading {
        Arc::new(Err(FolderError::Unreadable { path: "policies".into(), problem: "gone".into() }))
    }

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.into(), text: text.into() }
    }
}

//! How the controller fares, and what was done with it.

use super::{Api, ApiError};
use crate::world::World;
use axum::Json;
use axum::extract::State;
use bulkhead_api::rest::{AuditEntry, CollectionState, InventoryState, PolicyState, Status};
use bulkhead_facts::Mode;
use bulkhead_policies::model::Collection;

/// `GET /api/v1/status`
pub(super) async fn status(State(api): State<Api>) -> Result<Json<Status>, ApiError> {
    let losses = api.records.read(|store| store.losses()).await?;
    let world = api.world.borrow().clone();
    let sidecars = api.fleet.sidecars();
    let attached = || sidecars.iter().filter(|(_, sidecar)| sidecar.attached);
    let current = attached().filter(|(uid, sidecar)| {
        world.pods.get(*uid).is_some_and(|pod| pod.program.revision == sidecar.revision)
    });
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms: api.started_ms,
        policy: policy_state(&world),
        inventory: inventory_state(&world),
        sidecars_attached: attached().count(),
        sidecars_current: current.count(),
        flows_dropped: losses.iter().map(|loss| loss.by_sidecar.saturating_add(loss.by_controller)).sum(),
    }))
}

/// `GET /api/v1/audit`
pub(super) async fn audit(State(api): State<Api>) -> Result<Json<Vec<AuditEntry>>, ApiError> {
    let entries = api.records.read(|store| store.audit()).await?;
    let newest_first = entries.into_iter().rev().take(crate::limits::HTTP_ITEMS_MAX);
    Ok(Json(newest_first.collect()))
}

fn policy_state(world: &World) -> PolicyState {
    let set = world.policies.set();
    PolicyState {
        revision: world.revision,
        loaded_ms: world.policies.loaded_ms,
        policies: set.policies.len(),
        collections: set.collections.iter().map(|collection| collection.name.clone()).collect(),
        held: world.collections.iter().map(|collection| collection_state(world, collection)).collect(),
        warnings: world.warnings.clone(),
        refused: world.policies_refused.clone(),
    }
}

fn collection_state(world: &World, collection: &Collection) -> CollectionState {
    let programs = world.pods.values().map(|pod| &pod.program);
    let own = programs.filter(|program| program.collection.as_ref() == Some(&collection.name));
    let modes: Vec<Mode> = own.map(|program| program.mode).collect();
    let count = |mode| modes.iter().filter(|own| **own == mode).count();
    CollectionState {
        name: collection.name.clone(),
        mode: collection.mode.as_str().to_owned(),
        canary: collection.canary.as_percent(),
        pods_enforcing: count(Mode::Enforce),
        pods_audited: count(Mode::Audit),
        pods_observed: count(Mode::Observe),
    }
}

fn inventory_state(world: &World) -> InventoryState {
    let inventory = &world.inventory;
    InventoryState {
        namespaces: inventory.namespaces.len(),
        pods: inventory.pods.len(),
        services: inventory.services.len(),
        nodes: inventory.nodes.len(),
        refused: world.inventory_refused.clone(),
    }
}

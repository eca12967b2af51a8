//! The fleet, and how a sidecar gets into it.

use super::{Api, ApiError};
use crate::clock::now_ms;
use crate::identity::{check_name, secret};
use crate::push::Sidecar;
use crate::world::World;
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use bulkhead_api::rest::{AuditEntry, JoinToken, JoinTokenRequest, SidecarStatus};
use std::collections::BTreeMap;

/// `GET /api/v1/sidecars`: every sidecar that was heard of.
pub(super) async fn sidecars(State(api): State<Api>) -> Result<Json<Vec<SidecarStatus>>, ApiError> {
    let losses = api.records.read(|store| store.losses()).await?;
    let lost: BTreeMap<_, _> = losses
        .into_iter()
        .map(|loss| (loss.pod_uid, loss.by_sidecar.saturating_add(loss.by_controller)))
        .collect();
    let world = api.world.borrow().clone();
    let mut list: Vec<_> = api
        .fleet
        .sidecars()
        .iter()
        .map(|(uid, sidecar)| describe(&world, uid, sidecar, lost.get(uid).copied().unwrap_or_default()))
        .collect();
    list.sort_by(|a, b| (&a.namespace, &a.pod, &a.uid).cmp(&(&b.namespace, &b.pod, &b.uid)));
    Ok(Json(list))
}

/// `POST /api/v1/join-tokens`
pub(super) async fn join_token(
    State(api): State<Api>,
    request: Result<Json<JoinTokenRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<JoinToken>), ApiError> {
    let Json(JoinTokenRequest { uid }) = request?;
    check_name(&uid).map_err(|error| ApiError::BadRequest(format!("`uid`: {error}")))?;
    let token = secret::token().map_err(|error| ApiError::Internal(error.to_string()))?;
    let (fingerprint, now_ms) = (secret::fingerprint(&token), now_ms());
    let lifetime_ms = u64::try_from(api.join_token_lifetime.as_millis()).unwrap_or(u64::MAX);
    let expires_ms = now_ms.saturating_add(lifetime_ms);
    let audit = AuditEntry {
        at_ms: now_ms,
        actor: "admin".to_owned(),
        action: "join-token".to_owned(),
        subject: format!("pod {uid}"),
        detail: String::new(),
    };
    api.records
        .write(move |store| {
            store.add_token(&fingerprint, &uid, expires_ms, now_ms)?;
            store.add_audit(&audit)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(JoinToken { token, expires_ms })))
}

fn describe(world: &World, uid: &str, sidecar: &Sidecar, flows_dropped: u64) -> SidecarStatus {
    let pod = world.pod(uid);
    let program = world.pods.get(uid).map(|indexed| &indexed.program);
    SidecarStatus {
        namespace: pod.map(|(name, _)| name.namespace.clone()).unwrap_or_default(),
        pod: pod.map(|(name, _)| name.name.clone()).unwrap_or_default(),
        uid: uid.to_owned(),
        workload: pod.map(|(_, pod)| pod.workload.name.clone()).unwrap_or_default(),
        attached: sidecar.attached,
        version: sidecar.version.clone(),
        capability: sidecar.capability.as_str().to_owned(),
        weaknesses: sidecar.weaknesses.iter().map(|weakness| weakness.as_str().to_owned()).collect(),
        revision: sidecar.revision,
        revision_wanted: program.map_or(0, |program| program.revision),
        mode: program.map(|program| program.mode.as_str().to_owned()).unwrap_or_default(),
        error: sidecar.error.clone(),
        last_seen_ms: sidecar.last_seen_ms,
        connections_open: sidecar.connections_open,
        tampering: sidecar.tampering,
        flows_dropped,
    }
}

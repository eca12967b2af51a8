//! Who talked to whom, who was stopped, and what it looks like.

use super::{Api, ApiError};
use crate::clock::now_ms;
use crate::flows::{self, SeenEdge};
use crate::incidents::{self, Evidence};
use crate::limits::{EDGE_DAYS_MAX, HTTP_ITEMS_MAX};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderName;
use bulkhead_api::rest::{Effect, FlowEdge, Incident, Party, Proposal, ProposalState, VerdictCount};
use serde::Deserialize;
use std::collections::BTreeMap;

const DAY_MS: u64 = 86_400_000;

/// What every report can be narrowed to; what is left out narrows nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Source or destination is of this namespace.
    namespace: Option<String>,
    /// Source or destination is a workload of this name.
    workload: Option<String>,
    /// The verdict.
    verdict: Option<Effect>,
    /// Last seen at this time or later.
    since_ms: Option<u64>,
}

/// `GET /api/v1/flows`
pub(super) async fn flows(
    State(api): State<Api>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Page<FlowEdge>, ApiError> {
    let Query(filter) = filter?;
    let edges = edges(&api, filter.since_ms).await?;
    let mut map = flows::service_map(&edges);
    map.retain(|edge| {
        filter.parties(&edge.source, &edge.destination)
            && filter.seen(edge.last_seen_ms)
            && filter.verdict.is_none_or(|verdict| verdict == edge.verdict)
    });
    Ok(page(map))
}

/// `GET /api/v1/verdicts`
pub(super) async fn verdicts(
    State(api): State<Api>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Page<VerdictCount>, ApiError> {
    let Query(filter) = filter?;
    let edges = edges(&api, filter.since_ms).await?;
    let mut verdicts = flows::verdicts(&edges);
    verdicts.retain(|verdict| {
        let effect = if verdict.enforced { Effect::Deny } else { Effect::Allow };
        filter.parties(&verdict.source, &verdict.destination)
            && filter.seen(verdict.last_seen_ms)
            && filter.verdict.is_none_or(|wanted| wanted == effect)
    });
    Ok(page(verdicts))
}

/// `GET /api/v1/incidents`
pub(super) async fn incidents(
    State(api): State<Api>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Page<Incident>, ApiError> {
    let Query(filter) = filter?;
    let edges = edges(&api, filter.since_ms).await?;
    let (losses, proposals) = api.records.read(|store| Ok((store.losses()?, store.proposals()?))).await?;
    let world = api.world.borrow().clone();
    let sidecars = api.fleet.sidecars();
    let detected = tokio::task::spawn_blocking(move || {
        incidents::detect(Evidence {
            edges: &edges,
            sidecars: &sidecars,
            losses: &losses,
            approved_ms: &approvals(&proposals),
            world: &world,
        })
    });
    let mut incidents = detected.await.map_err(|panic| ApiError::Internal(panic.to_string()))?;
    incidents.retain(|incident| {
        let touches = |party: &Party| filter.parties(&incident.attacker, party);
        filter.seen(incident.last_seen_ms)
            && (touches(&incident.attacker) || incident.targets.iter().any(touches))
    });
    Ok(page(incidents))
}

/// When each collection's newest proposal that is in force was approved.
fn approvals(proposals: &[Proposal]) -> BTreeMap<String, u64> {
    let applied = proposals.iter().filter(|proposal| proposal.state == ProposalState::Applied);
    applied.filter_map(|proposal| Some((proposal.collection.clone(), proposal.decided_ms?))).collect()
}

/// At most [`HTTP_ITEMS_MAX`] items, and in a header how many there are.
type Page<T> = ([(HeaderName, String); 1], Json<Vec<T>>);

fn page<T>(mut items: Vec<T>) -> Page<T> {
    let total = [(HeaderName::from_static("x-total-count"), items.len().to_string())];
    items.truncate(HTTP_ITEMS_MAX);
    (total, Json(items))
}

/// The stored edges from that day on.
pub(super) async fn edges(api: &Api, since_ms: Option<u64>) -> Result<Vec<SeenEdge>, ApiError> {
    let oldest = (now_ms() / DAY_MS).saturating_sub(EDGE_DAYS_MAX);
    let since_day = since_ms.map_or(oldest, |since_ms| (since_ms / DAY_MS).max(oldest));
    Ok(api.records.read(move |store| store.edges(since_day)).await?)
}

impl Filter {
    fn parties(&self, source: &Party, destination: &Party) -> bool {
        let named = |party: &Party| {
            self.namespace.as_ref().is_none_or(|namespace| party.namespace.as_ref() == Some(namespace))
                && self.workload.as_ref().is_none_or(|workload| party.name == *workload)
        };
        named(source) || named(destination)
    }

    fn seen(&self, last_seen_ms: u64) -> bool {
        self.since_ms.is_none_or(|since_ms| last_seen_ms >= since_ms)
    }
}

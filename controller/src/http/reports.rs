//! Who talked to whom, who was stopped, and what it looks like.

use super::{Api, ApiError};
use crate::clock::now_ms;
use crate::flows::{self, Detail, Fold, SeenEdge};
use crate::incidents::{self, Evidence};
use crate::limits::{EDGE_DAYS_MAX, HTTP_ITEMS_MAX};
use crate::store::{Store, StoreError};
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
    report(&api, move |store| {
        let since_day = since_day(filter.since_ms);
        let touched = |one: &SeenEdge| filter.parties(&one.edge.source.party, &one.edge.destination.party);
        let folded = folded(store, since_day, Detail::Workload, touched)?;
        let mut map = flows::service_map(&folded.edges);
        map.retain(|edge| {
            filter.seen(edge.last_seen_ms) && filter.verdict.is_none_or(|verdict| verdict == edge.verdict)
        });
        Ok(page(map, folded.left_out))
    })
    .await
}

/// `GET /api/v1/verdicts`
pub(super) async fn verdicts(
    State(api): State<Api>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Page<VerdictCount>, ApiError> {
    let Query(filter) = filter?;
    report(&api, move |store| {
        let since_day = since_day(filter.since_ms);
        let touched = |one: &SeenEdge| {
            let edge = &one.edge;
            (edge.enforced.effect == Effect::Deny || edge.shadow.effect == Effect::Deny)
                && filter.parties(&edge.source.party, &edge.destination.party)
        };
        let folded = folded(store, since_day, Detail::Workload, touched)?;
        let mut verdicts = flows::verdicts(&folded.edges);
        verdicts.retain(|verdict| {
            let effect = if verdict.enforced { Effect::Deny } else { Effect::Allow };
            filter.seen(verdict.last_seen_ms) && filter.verdict.is_none_or(|wanted| wanted == effect)
        });
        Ok(page(verdicts, folded.left_out))
    })
    .await
}

/// `GET /api/v1/incidents`
pub(super) async fn incidents(
    State(api): State<Api>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Page<Incident>, ApiError> {
    let Query(filter) = filter?;
    let world = api.world.borrow().clone();
    let sidecars = api.fleet.sidecars();
    report(&api, move |store| {
        let (losses, approved_ms) = (store.losses()?, approvals(&store.proposals()?));
        // What passed matters only where something was approved: it may be new since.
        let matters = |one: &SeenEdge| one.edge.enforced.effect == Effect::Deny || !approved_ms.is_empty();
        let folded = folded(store, since_day(filter.since_ms), Detail::Pod, matters)?;
        let evidence = Evidence {
            edges: &folded.edges,
            sidecars: &sidecars,
            losses: &losses,
            approved_ms: &approved_ms,
            world: &world,
        };
        let mut incidents = incidents::detect(evidence);
        incidents.retain(|incident| {
            let touches = |party: &Party| filter.parties(&incident.attacker, party);
            filter.seen(incident.last_seen_ms)
                && (touches(&incident.attacker) || incident.targets.iter().any(touches))
        });
        Ok(page(incidents, folded.left_out))
    })
    .await
}

/// When each collection's newest proposal that is in force was approved.
fn approvals(proposals: &[Proposal]) -> BTreeMap<String, u64> {
    let applied = proposals.iter().filter(|proposal| proposal.state == ProposalState::Applied);
    applied.filter_map(|proposal| Some((proposal.collection.clone(), proposal.decided_ms?))).collect()
}

/// At most [`HTTP_ITEMS_MAX`] items, and in headers how many there are and what they were not made of.
type Page<T> = ([(HeaderName, String); 2], Json<Vec<T>>);

fn page<T>(mut items: Vec<T>, rows_left_out: u64) -> Page<T> {
    let headers = [
        (HeaderName::from_static("x-total-count"), items.len().to_string()),
        (HeaderName::from_static("x-rows-left-out"), rows_left_out.to_string()),
    ];
    items.truncate(HTTP_ITEMS_MAX);
    (headers, Json(items))
}

/// Stored edges, added up.
pub(super) struct Folded {
    pub(super) edges: Vec<SeenEdge>,
    /// Rows that found no room.
    pub(super) left_out: u64,
}

/// Makes a report when it is its turn; the turn is kept until it is made, whoever still waits for it.
pub(super) async fn report<T, F>(api: &Api, work: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
{
    let turn = api.turns.take().await?;
    let made = api.records.report(move |store| {
        let _turn = turn;
        work(store)
    });
    Ok(made.await?)
}

/// The stored edges from that day on that are wanted, added up.
pub(super) fn folded(
    store: &mut dyn Store,
    since_day: u64,
    detail: Detail,
    mut wanted: impl FnMut(&SeenEdge) -> bool,
) -> Result<Folded, StoreError> {
    let mut fold = Fold::new(detail);
    store.each_edge(since_day, &mut |one| {
        if wanted(&one) {
            fold.add(one);
        }
    })?;
    let left_out = fold.left_out();
    if left_out > 0 {
        tracing::warn!(rows = left_out, "a report lacks its oldest rows: ask with `since_ms`");
    }
    Ok(Folded { edges: fold.finish(), left_out })
}

/// The first day that is asked for and still remembered.
pub(super) fn since_day(since_ms: Option<u64>) -> u64 {
    let oldest = (now_ms() / DAY_MS).saturating_sub(EDGE_DAYS_MAX);
    since_ms.map_or(oldest, |since_ms| (since_ms / DAY_MS).max(oldest))
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

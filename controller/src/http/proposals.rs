//! Proposals: learned, listed, approved.

use super::{Api, ApiError, reports};
use crate::approval::ApprovalError;
use crate::clock::now_ms;
use crate::flows::{Detail, SeenEdge};
use crate::learn::{self, LearnError, Relevance};
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bulkhead_api::rest::{AuditEntry, Proposal, ProposalRequest, ProposalState};

/// `GET /api/v1/proposals`
pub(super) async fn proposals(State(api): State<Api>) -> Result<Json<Vec<Proposal>>, ApiError> {
    Ok(Json(api.records.read(|store| store.proposals()).await?))
}

/// `POST /api/v1/proposals`: learns now, from everything that is stored.
pub(super) async fn propose(
    State(api): State<Api>,
    request: Result<Json<ProposalRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<Proposal>), ApiError> {
    let Json(ProposalRequest { collection }) = request?;
    let world = api.world.borrow().clone();
    let learned = reports::report(&api, move |store| {
        let mut relevance = Relevance::new(&collection, &world);
        let wanted = |one: &SeenEdge| relevance.wants(one);
        let edges = reports::folded(store, reports::since_day(None), Detail::Day, wanted)?.edges;
        Ok(learn::propose(&collection, &edges, &world, now_ms()))
    });
    let mut proposal = learned.await??;
    let stored = proposal.clone();
    proposal.id = api.records.write(move |store| store.add_proposal(&stored)).await?;
    tracing::info!(
        collection = proposal.collection,
        id = proposal.id,
        rules = proposal.rules.len(),
        "proposed"
    );
    Ok((StatusCode::CREATED, Json(proposal)))
}

/// `POST /api/v1/proposals/{id}/approve`: writes the document if it is valid together with all others.
pub(super) async fn approve(
    State(api): State<Api>,
    id: Result<Path<u64>, PathRejection>,
) -> Result<Json<Proposal>, ApiError> {
    let Path(id) = id?;
    // One at a time: each is checked with what the one before wrote.
    let _turn = api.approving.lock().await;
    let all = api.records.read(|store| store.proposals()).await?;
    let found = all.into_iter().find(|proposal| proposal.id == id);
    let mut proposal = found.ok_or_else(|| ApiError::NotFound { what: "proposal", name: id.to_string() })?;
    if !matches!(proposal.state, ProposalState::Open | ProposalState::ApprovedNotApplied) {
        return Err(ApiError::Conflict(format!("proposal {id} is {}: learn a new one", proposal.state)));
    }
    if api.world.borrow().policies_are_gone() {
        let text = "a policy folder is gone: mount or restore it, then approve again";
        return Err(ApiError::Conflict(text.to_owned()));
    }
    if proposal.policies == 0 {
        return Err(ApiError::Conflict(format!(
            "proposal {id} holds no policy: let the workloads run, then learn anew"
        )));
    }
    let (state, written_to) = apply(&api, &proposal).await?;
    proposal.state = state;
    proposal.written_to = written_to;
    let (audit, written_to) = (audit(&proposal), proposal.written_to.clone());
    proposal.decided_ms = Some(audit.at_ms);
    api.records.write(move |store| store.decide_proposal(id, state, written_to.as_deref(), &audit)).await?;
    tracing::info!(id, collection = proposal.collection, %state, "approved");
    Ok(Json(proposal))
}

async fn apply(api: &Api, proposal: &Proposal) -> Result<(ProposalState, Option<String>), ApiError> {
    let (approval, inventory) = (api.approval.clone(), api.world.borrow().inventory.clone());
    let (collection, document) = (proposal.collection.clone(), proposal.document.clone());
    let applied =
        tokio::task::spawn_blocking(move || approval.apply(&collection, &document, &inventory)).await;
    match applied.map_err(|panic| ApiError::Internal(panic.to_string()))? {
        Ok(path) => Ok((ProposalState::Applied, Some(path.display().to_string()))),
        Err(ApprovalError::NotWritable { path, error }) => {
            tracing::warn!(path = %path.display(), %error, "approved document was not written: put it in place by hand");
            Ok((ProposalState::ApprovedNotApplied, None))
        }
        Err(ApprovalError::Invalid(diagnostics)) => Err(ApiError::Invalid(diagnostics)),
        Err(error @ (ApprovalError::BadName(_) | ApprovalError::Folder(_))) => {
            Err(ApiError::Conflict(error.to_string()))
        }
    }
}

fn audit(proposal: &Proposal) -> AuditEntry {
    AuditEntry {
        at_ms: now_ms(),
        actor: "admin".to_owned(),
        action: "approve".to_owned(),
        subject: format!("proposal {} for collection {}", proposal.id, proposal.collection),
        detail: match &proposal.written_to {
            Some(path) => format!("written to {path}"),
            None => "not applied: the folder cannot be written".to_owned(),
        },
    }
}

impl From<LearnError> for ApiError {
    fn from(error: LearnError) -> Self {
        match error {
            LearnError::NoCollection(name) => Self::NotFound { what: "collection", name },
            LearnError::NothingSeen(_) => Self::Conflict(error.to_string()),
        }
    }
}

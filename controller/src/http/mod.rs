//! The HTTP API for people and tools: `openapi.json` says what it offers.
//!
//! TLS with a certificate of the controller's CA, a bearer token for everything but the description itself,
//! the size of a body checked before anything else. Handlers read a snapshot or the store and shape it; decisions
//! are made elsewhere.

mod error;
mod guard;
mod policies;
mod proposals;
mod reports;
mod serve;
mod sidecars;
mod status;
mod turns;

pub use error::ApiError;
pub(crate) use serve::serve_connections;
pub use serve::serve_metrics;
pub use turns::Turns;

use crate::approval::Approval;
use crate::metrics::Metrics;
use crate::push::Fleet;
use crate::store::Records;
use crate::world::World;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::routing::{MethodRouter, get, post};
use bulkhead_api::rest::OPENAPI;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What the API needs.
#[derive(Clone)]
pub struct Api {
    /// What is in force.
    pub world: watch::Receiver<Arc<World>>,
    /// Who is attached.
    pub fleet: Arc<Fleet>,
    /// What is remembered.
    pub records: Records,
    /// How a proposal is approved.
    pub approval: Arc<Approval>,
    /// Held while a proposal is approved.
    pub approving: Arc<tokio::sync::Mutex<()>>,
    /// Who makes a report next.
    pub turns: Turns,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The bearer token of administrators.
    pub admin_token: Arc<str>,
    /// How long a join token is good.
    pub join_token_lifetime: Duration,
    /// When the controller started.
    pub started_ms: u64,
}

/// Every path of the API with its methods.
fn routes() -> [(&'static str, MethodRouter<Api>); 10] {
    [
        ("/api/v1/status", get(status::status)),
        ("/api/v1/sidecars", get(sidecars::sidecars)),
        ("/api/v1/join-tokens", post(sidecars::join_token)),
        ("/api/v1/policies", get(policies::policies)),
        ("/api/v1/flows", get(reports::flows)),
        ("/api/v1/verdicts", get(reports::verdicts)),
        ("/api/v1/incidents", get(reports::incidents)),
        ("/api/v1/proposals", get(proposals::proposals).post(proposals::propose)),
        ("/api/v1/proposals/{id}/approve", post(proposals::approve)),
        ("/api/v1/audit", get(status::audit)),
    ]
}

/// The API as a service.
pub fn router(api: Api) -> Router {
    let guarded = routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(async || ApiError::NoSuchPath)
        .method_not_allowed_fallback(async || ApiError::NoSuchMethod)
        .layer(middleware::from_fn_with_state(api.clone(), guard::bearer));
    Router::new()
        .route("/api/v1/openapi.json", get(openapi))
        .merge(guarded)
        .layer(DefaultBodyLimit::max(crate::limits::HTTP_BODY_BYTES_MAX))
        .layer(middleware::from_fn(guard::size))
        .layer(middleware::from_fn_with_state(api.clone(), guard::count))
        .with_state(api)
}

async fn openapi() -> (StatusCode, [(header::HeaderName, &'static str); 1], &'static str) {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

#[cfg(test)]
mod tests;

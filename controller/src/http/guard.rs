//! What every request passes: its size, its token, its count.

use super::Api;
use super::error::ApiError;
use crate::identity::secret;
use crate::limits::HTTP_BODY_BYTES_MAX;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Refuses a body that says it is too large, before anything else looks at the request. A body that does not say is
/// cut off by the limit on reading it.
pub(super) async fn size(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.map(str::parse::<usize>) {
        Some(Ok(length)) if length <= HTTP_BODY_BYTES_MAX => next.run(request).await,
        Some(_) => ApiError::TooLarge(HTTP_BODY_BYTES_MAX).into_response(),
        None => next.run(request).await,
    }
}

/// Lets pass who sends the admin token.
pub(super) async fn bearer(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let token = match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(value), None) => value.strip_prefix("Bearer "),
        (Some(_), Some(_)) | (None, _) => None,
    };
    if token.is_some_and(|token| secret::same(token, &api.admin_token)) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (challenge, ApiError::Unauthorized).into_response()
}

/// Counts answers by class of status.
pub(super) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    api.metrics.answered(response.status().as_u16());
    response
}

//! What the API answers when it cannot do what it was asked.

use crate::store::StoreError;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bulkhead_api::rest::{Diagnostic, Problem};

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No bearer token, or a wrong one.
    #[error("not allowed: the bearer token is missing or wrong")]
    Unauthorized,
    /// The body is over the limit.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    /// Nothing at this path.
    #[error("there is nothing at this path")]
    NoSuchPath,
    /// The path has no such method.
    #[error("this path does not have this method")]
    NoSuchMethod,
    /// The request cannot be read.
    #[error("the request is wrong: {0}")]
    BadRequest(String),
    /// What it names is not there.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It cannot be done in the present state.
    #[error("{0}")]
    Conflict(String),
    /// Documents that would not be valid together with those that are there.
    #[error("the policies would not be valid: nothing was changed")]
    Invalid(Vec<Diagnostic>),
    /// A limit is reached.
    #[error("{0}")]
    Busy(String),
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The operating system failed us.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSuchPath | Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn help(&self) -> &'static str {
        match self {
            Self::Unauthorized => {
                "send `Authorization: Bearer TOKEN` with the token from `admin.token` in the state folder"
            }
            Self::TooLarge(_) => "send less",
            Self::NoSuchPath | Self::NoSuchMethod => "read `/api/v1/openapi.json`",
            Self::BadRequest(_) => "read `/api/v1/openapi.json` for the fields and their types",
            Self::NotFound { .. } => "list what is there with a GET on the collection",
            Self::Conflict(_) => "",
            Self::Invalid(_) => "mend what the diagnostics name, then try again",
            Self::Busy(_) => "wait, then try again",
            Self::Store(_) | Self::Internal(_) => "look into the controller's log",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::error!(error = %self, "request failed");
        }
        let (error, help) = (self.to_string(), self.help().to_owned());
        let diagnostics = match self {
            Self::Invalid(diagnostics) => diagnostics,
            _ => Vec::new(),
        };
        let mut response = (status, Json(Problem { error, help, diagnostics })).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = HeaderValue::from(crate::limits::RETRY_AFTER.as_secs());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooManyTokens => Self::Busy(error.to_string()),
            StoreError::Failed { .. }
            | StoreError::Full { .. }
            | StoreError::Newer { .. }
            | StoreError::Closed => Self::Store(error),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge(crate::limits::HTTP_BODY_BYTES_MAX),
            _ => Self::BadRequest(rejection.body_text()),
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

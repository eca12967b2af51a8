//! A request of HTTP as a person writes it, and a call of gRPC, which is one in other words.
//!
//! Both are brought into the canonical form that rules are asked about, or refused as the sidecar refuses them. Nothing
//! here knows rules; the other protocols are in [`super::others`].

use super::RequestError;
use bulkhead_facts::{HeaderField, HostName, HttpRequest, UrlPath};
use std::fmt;

/// An HTTP request of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpQuestion {
    /// Method.
    pub method: String,
    /// Path, with its query if there is one.
    pub target: String,
    /// Host, with or without port.
    pub host: Option<String>,
    /// Header fields.
    pub headers: Vec<(String, String)>,
}

/// The canonical parts, borrowed from a question.
#[derive(Debug)]
pub(crate) struct Canonical<'a> {
    method: &'a str,
    path: UrlPath<'a>,
    query: Option<&'a str>,
    host: Option<HostName>,
    headers: Vec<HeaderField<'a>>,
}

impl HttpQuestion {
    pub(crate) fn canonical(&self) -> Result<Canonical<'_>, RequestError> {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target.as_str(), None),
        };
        let host =
            self.host.as_deref().map(HostName::parse_authority).transpose().map_err(RequestError::Host)?;
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| HeaderField { name: name.as_bytes(), value: value.as_bytes() });
        Ok(Canonical {
            method: &self.method,
            path: UrlPath::parse(path).map_err(RequestError::Path)?,
            query,
            host: host.map(|(host, _)| host),
            headers: headers.collect(),
        })
    }
}

impl Canonical<'_> {
    pub(crate) fn with<R>(&self, ask: impl FnOnce(HttpRequest<'_>) -> R) -> R {
        ask(HttpRequest {
            method: self.method,
            path: &self.path,
            query: self.query,
            host: self.host.as_ref(),
            headers: &self.headers,
        })
    }
}

impl fmt::Display for HttpQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        match &self.host {
            Some(host) => write!(f, " at {host}"),
            None => Ok(()),
        }
    }
}

/// A call of gRPC of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcQuestion {
    /// Full name of the service.
    pub service: String,
    /// Its method.
    pub method: String,
}

impl GrpcQuestion {
    /// The request that the call is.
    pub fn as_http(&self) -> HttpQuestion {
        HttpQuestion {
            method: "POST".to_owned(),
            target: format!("/{}/{}", self.service, self.method),
            host: None,
            headers: vec![("content-type".to_owned(), "application/grpc".to_owned())],
        }
    }
}

impl fmt::Display for GrpcQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grpc {}/{}", self.service, self.method)
    }
}

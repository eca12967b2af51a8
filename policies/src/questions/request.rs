//! A request as a person writes it, brought into the form that rules are asked about.

use bulkhead_facts::{HeaderField, HostName, HostNameError, HttpRequest, PathError, Reason, UrlPath};
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

/// Why a request has no form that rules could be asked about; the sidecar refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The path.
    Path(PathError),
    /// The host.
    Host(HostNameError),
}

impl RequestError {
    /// The reason that a denial carries.
    pub fn reason(self) -> Reason {
        match self {
            Self::Path(PathError::TooLong) => Reason::Limit,
            Self::Path(PathError::NotAbsolute) | Self::Host(_) => Reason::Malformed,
            Self::Path(_) => Reason::Ambiguous,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => write!(f, "{error}"),
            Self::Host(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RequestError {}

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

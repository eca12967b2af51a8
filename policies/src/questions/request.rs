//! A request of any protocol as a person writes it, brought into the form that rules are asked about.
//!
//! [`RequestQuestion::with`] lends the canonical [`Request`] or says why there is none: then the sidecar refuses the bytes
//! before any rule is asked. In words a request is written as `bulkhead policy explain` takes it ([`super::words`]).

use super::{
    DnsAsked, GrpcQuestion, HttpQuestion, KafkaQuestion, PostgresQuestion, RedisQuestion, TlsQuestion,
};
use bulkhead_facts::{HostName, HostNameError, L4Protocol, PathError, Reason, Request};
use std::fmt;

/// A request of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestQuestion {
    /// A request of HTTP.
    Http(HttpQuestion),
    /// A call of gRPC.
    Grpc(GrpcQuestion),
    /// The first message of a TLS client.
    Tls(TlsQuestion),
    /// A question to a name server.
    Dns(DnsAsked),
    /// A command to Redis.
    Redis(RedisQuestion),
    /// The start of a PostgreSQL session, or statements.
    Postgres(PostgresQuestion),
    /// A request to Kafka.
    Kafka(KafkaQuestion),
}

impl From<HttpQuestion> for RequestQuestion {
    fn from(http: HttpQuestion) -> Self {
        Self::Http(http)
    }
}

impl RequestQuestion {
    /// The protocol's name in documents.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Grpc(_) => "grpc",
            Self::Tls(_) => "tls",
            Self::Dns(_) => "dns",
            Self::Redis(_) => "redis",
            Self::Postgres(_) => "postgres",
            Self::Kafka(_) => "kafka",
        }
    }

    /// The request as one of HTTP, if it is one.
    pub fn as_http(&self) -> Option<HttpQuestion> {
        match self {
            Self::Http(http) => Some(http.clone()),
            Self::Grpc(call) => Some(call.as_http()),
            Self::Tls(_) | Self::Dns(_) | Self::Redis(_) | Self::Postgres(_) | Self::Kafka(_) => None,
        }
    }

    /// A request of HTTP that leaves its host open as clients send it that dial this name; `None` for any other.
    pub(crate) fn hosted(&self, name: &HostName) -> Option<Self> {
        let http = self.as_http().filter(|http| http.host.is_none())?;
        Some(Self::Http(HttpQuestion { host: Some(name.to_string()), ..http }))
    }

    /// True if it can be sent on this protocol.
    pub fn runs_on(&self, protocol: L4Protocol) -> bool {
        protocol == L4Protocol::TCP || (matches!(self, Self::Dns(_)) && protocol == L4Protocol::UDP)
    }

    /// Asks with the canonical form, or with the reason why there is none.
    pub fn with<R>(&self, ask: impl FnOnce(Result<Request<'_>, RequestError>) -> R) -> R {
        match self {
            Self::Http(http) => with_http(http, ask),
            Self::Grpc(call) => with_http(&call.as_http(), ask),
            Self::Tls(hello) => hello.with(ask),
            Self::Dns(question) => question.with(ask),
            Self::Redis(command) => command.with(ask),
            Self::Postgres(message) => ask(Ok(Request::Postgres(message.canonical()))),
            Self::Kafka(request) => request.with(ask),
        }
    }
}

fn with_http<R>(http: &HttpQuestion, ask: impl FnOnce(Result<Request<'_>, RequestError>) -> R) -> R {
    match http.canonical() {
        Ok(canonical) => canonical.with(|request| ask(Ok(Request::Http(request)))),
        Err(error) => ask(Err(error)),
    }
}

impl fmt::Display for RequestQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(http) => write!(f, "{http}"),
            Self::Grpc(call) => write!(f, "{call}"),
            Self::Tls(hello) => write!(f, "{hello}"),
            Self::Dns(question) => write!(f, "{question}"),
            Self::Redis(command) => write!(f, "{command}"),
            Self::Postgres(message) => write!(f, "{message}"),
            Self::Kafka(request) => write!(f, "{request}"),
        }
    }
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

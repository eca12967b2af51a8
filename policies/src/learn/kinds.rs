//! What a request looked like: as much of it as rules can name, and no more. Values never come here.
//!
//! [`RequestKind`] is what the learner is told; what it adds up by is `edges::Kind`, which leaves out how requests were
//! answered.

use bulkhead_facts::{PostgresStatement, TlsVersion};

/// What a request looked like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// A request of HTTP.
    Http(HttpKind),
    /// The first message of a TLS client.
    Tls(TlsKind),
    /// A question to a name server.
    Dns(DnsKind),
    /// A command to Redis.
    Redis(RedisKind),
    /// A message of a session with PostgreSQL.
    Postgres(PostgresKind),
    /// A request to Kafka.
    Kafka(KafkaKind),
    /// Requests that the sidecar did not tell apart any more, because there were too many kinds of them.
    Others,
}

/// A request of HTTP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpKind {
    /// Method.
    pub method: String,
    /// Path with variable segments as `{id}`.
    pub path: String,
    /// Host; empty where none was sent.
    pub host: String,
    /// Class of the answer's status (2 for 2xx), 0 where none was seen.
    pub status_class: u16,
}

/// The first message of a TLS client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsKind {
    /// The name in clear, `*.NAME` or `**.NAME` where its first labels vary; `None` where none was sent.
    pub server_name: Option<String>,
    /// The lowest version that was offered.
    pub lowest: TlsVersion,
    /// Another name was hidden in it.
    pub encrypted: bool,
}

/// A question to a name server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsKind {
    /// The name, `*.NAME` or `**.NAME` where its first labels vary.
    pub name: String,
    /// Type of record.
    pub record: u16,
    /// It was answered without an error.
    pub answered: bool,
}

/// A command to Redis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedisKind {
    /// Name, in lower case.
    pub command: String,
    /// How every key begins, up to a separator; `None` where they have nothing in common, or there is none.
    pub key_prefix: Option<String>,
    /// Database; `None` where that was not known.
    pub database: Option<u32>,
}

/// A message of a session with PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostgresKind {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// What its statements do, each once and in order; none for the message that begins a session.
    pub statements: Vec<PostgresStatement>,
}

/// A request to Kafka.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KafkaKind {
    /// API key.
    pub api: u16,
    /// Topics that it names, each once and in order; none where it names none or means all.
    pub topics: Vec<String>,
}

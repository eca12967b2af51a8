//! Requests of protocols other than HTTP as a person writes them.
//!
//! Each is written as the words that `bulkhead policy explain` takes: `tls sni=api.test version=1.3`. What a part that is
//! left out stands for is what a client sends that was told nothing else; see the fields.

use super::RequestError;
use super::words::{api_name, record_name};
use bulkhead_facts::{
    DnsQuestion, HostName, KafkaRequest, PostgresMessage, PostgresStatement, RedisCommand, Request, TlsHello,
    TlsVersion,
};
use std::fmt;

/// The first message of a TLS client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsQuestion {
    /// The name in clear; `None` where the client sends none.
    pub server_name: Option<String>,
    /// The lowest version that is offered.
    pub lowest: TlsVersion,
    /// The highest one, not below the lowest.
    pub highest: TlsVersion,
    /// Application protocols that are offered.
    pub application_protocols: Vec<String>,
    /// The hello hides another one (ECH).
    pub encrypted: bool,
}

impl Default for TlsQuestion {
    fn default() -> Self {
        Self {
            server_name: None,
            lowest: TlsVersion::V1_2,
            highest: TlsVersion::V1_3,
            application_protocols: Vec::new(),
            encrypted: false,
        }
    }
}

impl TlsQuestion {
    pub(super) fn with<R>(&self, ask: impl FnOnce(Result<Request<'_>, RequestError>) -> R) -> R {
        let name = match self.server_name.as_deref().map(HostName::parse).transpose() {
            Ok(name) => name,
            Err(error) => return ask(Err(RequestError::Host(error))),
        };
        let offered: Vec<&str> = self.application_protocols.iter().map(String::as_str).collect();
        ask(Ok(Request::Tls(TlsHello {
            server_name: name.as_ref(),
            lowest: self.lowest,
            highest: self.highest,
            application_protocols: &offered,
            encrypted: self.encrypted,
        })))
    }
}

impl fmt::Display for TlsQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tls")?;
        if let Some(name) = &self.server_name {
            write!(f, " sni={name}")?;
        }
        if self.lowest == self.highest {
            write!(f, " version={}", self.lowest)?;
        } else {
            write!(f, " version={}-{}", self.lowest, self.highest)?;
        }
        self.application_protocols.iter().try_for_each(|protocol| write!(f, " alpn={protocol}"))?;
        if self.encrypted { f.write_str(" ech=true") } else { Ok(()) }
    }
}

/// A question to a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAsked {
    /// The name.
    pub name: String,
    /// Type of record.
    pub record: u16,
}

impl Default for DnsAsked {
    fn default() -> Self {
        Self { name: String::new(), record: 1 }
    }
}

impl DnsAsked {
    pub(super) fn with<R>(&self, ask: impl FnOnce(Result<Request<'_>, RequestError>) -> R) -> R {
        match HostName::parse(&self.name) {
            Ok(name) => ask(Ok(Request::Dns(DnsQuestion { name: &name, record: self.record }))),
            Err(error) => ask(Err(RequestError::Host(error))),
        }
    }
}

impl fmt::Display for DnsAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dns name={} type={}", self.name, record_name(self.record))
    }
}

/// A command to Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisQuestion {
    /// Name.
    pub command: String,
    /// The keys that it names.
    pub keys: Vec<String>,
    /// The database; `None` where nobody can tell. A connection begins in 0.
    pub database: Option<u32>,
}

impl Default for RedisQuestion {
    fn default() -> Self {
        Self { command: String::new(), keys: Vec::new(), database: Some(0) }
    }
}

impl RedisQuestion {
    pub(super) fn with<R>(&self, ask: impl FnOnce(Result<Request<'_>, RequestError>) -> R) -> R {
        let keys: Vec<&[u8]> = self.keys.iter().map(String::as_bytes).collect();
        ask(Ok(Request::Redis(RedisCommand { name: &self.command, keys: &keys, database: self.database })))
    }
}

impl fmt::Display for RedisQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis command={}", self.command)?;
        self.keys.iter().try_for_each(|key| write!(f, " key={key}"))?;
        match self.database {
            Some(0) => Ok(()),
            Some(number) => write!(f, " database={number}"),
            None => f.write_str(" database=unknown"),
        }
    }
}

/// The start of a PostgreSQL session, or one message with statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresQuestion {
    /// Role.
    pub user: String,
    /// Database; `None` is the one that has the role's name.
    pub database: Option<String>,
    /// Statements; none is the start of the session.
    pub statements: Vec<PostgresStatement>,
}

impl PostgresQuestion {
    pub(super) fn canonical(&self) -> PostgresMessage<'_> {
        PostgresMessage {
            user: &self.user,
            database: self.database.as_deref().unwrap_or(&self.user),
            statements: &self.statements,
        }
    }
}

impl fmt::Display for PostgresQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres user={}", self.user)?;
        if let Some(database) = &self.database {
            write!(f, " database={database}")?;
        }
        self.statements.iter().try_for_each(|statement| write!(f, " statement={statement}"))
    }
}

/// A request to Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaQuestion {
    /// API key.
    pub api: u16,
    /// The topics that it names.
    pub topics: Vec<String>,
}

impl KafkaQuestion {
    pub(super) fn with<R>(&self, ask: impl FnOnce(Result<Request<'_>, RequestError>) -> R) -> R {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        ask(Ok(Request::Kafka(KafkaRequest { api: self.api, topics: &topics })))
    }
}

impl fmt::Display for KafkaQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka api={}", api_name(self.api))?;
        self.topics.iter().try_for_each(|topic| write!(f, " topic={topic}"))
    }
}

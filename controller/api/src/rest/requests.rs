//! Requests of protocols other than HTTP, as far as rules can name them.

use crate::RequestSignature;
use bulkhead_facts::{PostgresStatement, TlsVersion};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A kind of request, under the name of the section that a rule would have for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestSummary {
    /// The first message of a TLS client.
    Tls(TlsSummary),
    /// A command to Redis.
    Redis(RedisSummary),
    /// A message of a session with PostgreSQL.
    Postgres(PostgresSummary),
    /// A request to Kafka.
    Kafka(KafkaSummary),
    /// Requests that are not told apart, because there were too many kinds.
    Others,
}

/// The first message of a TLS client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TlsSummary {
    /// The name in clear, `*.NAME` or `**.NAME` where its first labels vary; `null` where none was sent.
    pub server_name: Option<String>,
    /// The lowest version that was offered: `1.0`, `1.1`, `1.2` or `1.3`.
    pub lowest: String,
    /// Another hello is hidden in it.
    pub encrypted: bool,
}

/// A command to Redis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RedisSummary {
    /// Name, in lower case.
    pub command: String,
    /// How all keys begin, up to a separator; `null` where they have nothing in common.
    pub key_prefix: Option<String>,
    /// Database; `null` where it was not known.
    pub database: Option<u32>,
}

/// A message of a session with PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PostgresSummary {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Classes of its statements; none in the message that begins a session.
    pub statements: Vec<String>,
}

/// A request to Kafka.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KafkaSummary {
    /// API key: 0 is Produce, 1 Fetch.
    pub api: u16,
    /// Topics; none where it names none or means all.
    pub topics: Vec<String>,
}

impl From<&RequestSignature> for RequestSummary {
    fn from(signature: &RequestSignature) -> Self {
        match signature {
            RequestSignature::Tls(hello) => Self::Tls(TlsSummary {
                server_name: hello.server_name.clone(),
                lowest: hello.lowest.as_str().to_owned(),
                encrypted: hello.encrypted,
            }),
            RequestSignature::Redis(command) => Self::Redis(RedisSummary {
                command: command.command.clone(),
                key_prefix: command.key_prefix.clone(),
                database: command.database,
            }),
            RequestSignature::Postgres(message) => Self::Postgres(PostgresSummary {
                user: message.user.clone(),
                database: message.database.clone(),
                statements: message.statements.iter().map(|class| class.as_str().to_owned()).collect(),
            }),
            RequestSignature::Kafka(request) => {
                Self::Kafka(KafkaSummary { api: request.api, topics: request.topics.clone() })
            }
            RequestSignature::Others => Self::Others,
        }
    }
}

impl TlsSummary {
    /// The lowest version; `None` where a newer controller stored one that is not known here.
    pub fn version(&self) -> Option<TlsVersion> {
        TlsVersion::ALL.into_iter().find(|version| version.as_str() == self.lowest)
    }
}

impl PostgresSummary {
    /// Its classes of statements.
    pub fn classes(&self) -> Vec<PostgresStatement> {
        let class = |name: &String| PostgresStatement::NAMED.into_iter().find(|class| class.as_str() == name);
        self.statements.iter().map(|name| class(name).unwrap_or(PostgresStatement::Other)).collect()
    }
}

impl fmt::Display for RequestSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(TlsSummary { encrypted: true, .. }) => f.write_str("hello with a hidden name"),
            Self::Tls(hello) => {
                write!(f, "hello to {}", hello.server_name.as_deref().unwrap_or("no name"))
            }
            Self::Redis(command) => {
                f.write_str(&command.command)?;
                command.key_prefix.iter().try_for_each(|prefix| write!(f, " {prefix}*"))?;
                match command.database {
                    Some(0) => Ok(()),
                    Some(number) => write!(f, " in database {number}"),
                    None => f.write_str(" in an unknown database"),
                }
            }
            Self::Postgres(message) => {
                let what = match message.statements[..] {
                    [] => "session".to_owned(),
                    _ => message.statements.join("+"),
                };
                write!(f, "{what} as {} in {}", message.user, message.database)
            }
            Self::Kafka(request) => match request.topics[..] {
                [] => write!(f, "call {}", request.api),
                _ => write!(f, "call {} on {}", request.api, request.topics.join(", ")),
            },
            Self::Others => f.write_str("others"),
        }
    }
}

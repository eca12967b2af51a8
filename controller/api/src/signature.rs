//! What tells one kind of request from another, for protocols other than HTTP, checked.
//!
//! As much of a request as rules can name: never a value, a key in full, a password or the text of a statement. What a newer
//! sidecar knows and we do not is not told apart, since a report decides nothing.

use crate::InvalidMessage;
use crate::field::{narrow, text};
use crate::limits::{FLOW_TOPICS_MAX, NAME_BYTES_MAX};
use crate::v1;
use bulkhead_facts::{PostgresStatement, TlsVersion};

/// A kind of request of a protocol other than HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestSignature {
    /// The first message of a TLS client.
    Tls(TlsSignature),
    /// A command to Redis.
    Redis(RedisSignature),
    /// A message of a session with PostgreSQL.
    Postgres(PostgresSignature),
    /// A request to Kafka.
    Kafka(KafkaSignature),
    /// Requests of one of these that are not told apart, because there were too many kinds.
    Others,
}

/// The first message of a TLS client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsSignature {
    /// The name in clear, `*.NAME` or `**.NAME` where its first labels vary; `None` where none was sent.
    pub server_name: Option<String>,
    /// The lowest version that was offered.
    pub lowest: TlsVersion,
    /// Another hello is hidden in it.
    pub encrypted: bool,
}

/// A command to Redis.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RedisSignature {
    /// Name, in lower case.
    pub command: String,
    /// How all keys begin, up to a separator; `None` where they have nothing in common.
    pub key_prefix: Option<String>,
    /// Database; `None` where it was not known.
    pub database: Option<u32>,
}

/// A message of a session with PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PostgresSignature {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// What its statements do, each class once and in order; none in the message that begins a session.
    pub statements: Vec<PostgresStatement>,
}

/// A request to Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KafkaSignature {
    /// API key.
    pub api: u16,
    /// Topics, each once and in order; none where it names none or means all.
    pub topics: Vec<String>,
}

impl TryFrom<v1::flow_record::Request> for RequestSignature {
    type Error = InvalidMessage;

    fn try_from(wire: v1::flow_record::Request) -> Result<Self, InvalidMessage> {
        use v1::flow_record::Request;
        match wire {
            Request::Tls(hello) => tls(hello),
            Request::Redis(command) => Ok(Self::Redis(RedisSignature {
                command: text("flow.redis.command", command.command, NAME_BYTES_MAX)?,
                key_prefix: optional("flow.redis.key_prefix", command.key_prefix)?,
                database: command.database,
            })),
            Request::Postgres(message) => Ok(Self::Postgres(PostgresSignature {
                user: text("flow.postgres.user", message.user, NAME_BYTES_MAX)?,
                database: text("flow.postgres.database", message.database, NAME_BYTES_MAX)?,
                statements: statements(&message.statements)?,
            })),
            Request::Kafka(request) => kafka(request),
            Request::Others(_) => Ok(Self::Others),
        }
    }
}

fn tls(hello: v1::TlsSignature) -> Result<RequestSignature, InvalidMessage> {
    let server_name = optional("flow.tls.server_name", hello.server_name)?;
    let lowest = TlsVersion::ALL.into_iter().find(|version| version.as_str() == hello.lowest);
    let signature = |lowest| TlsSignature { server_name, lowest, encrypted: hello.encrypted };
    Ok(lowest.map_or(RequestSignature::Others, |lowest| RequestSignature::Tls(signature(lowest))))
}

fn statements(names: &[String]) -> Result<Vec<PostgresStatement>, InvalidMessage> {
    let known = PostgresStatement::NAMED;
    if names.len() > known.len() + 1 {
        return Err(InvalidMessage::BadLength { field: "flow.postgres.statements", length: names.len() });
    }
    let class = |name: &String| known.into_iter().find(|class| class.as_str() == name);
    Ok(names.iter().map(|name| class(name).unwrap_or(PostgresStatement::Other)).collect())
}

fn kafka(request: v1::KafkaSignature) -> Result<RequestSignature, InvalidMessage> {
    if request.topics.len() > FLOW_TOPICS_MAX {
        let length = request.topics.len();
        return Err(InvalidMessage::BadLength { field: "flow.kafka.topics", length });
    }
    let topic = |topic| text("flow.kafka.topics", topic, NAME_BYTES_MAX);
    let topics = request.topics.into_iter().map(topic).collect::<Result<_, _>>()?;
    Ok(RequestSignature::Kafka(KafkaSignature { api: narrow("flow.kafka.api", request.api)?, topics }))
}

fn optional(field: &'static str, value: Option<String>) -> Result<Option<String>, InvalidMessage> {
    value.map(|value| text(field, value, NAME_BYTES_MAX)).transpose()
}

impl From<&RequestSignature> for v1::flow_record::Request {
    fn from(signature: &RequestSignature) -> Self {
        match signature {
            RequestSignature::Tls(hello) => Self::Tls(v1::TlsSignature {
                server_name: hello.server_name.clone(),
                lowest: hello.lowest.as_str().to_owned(),
                encrypted: hello.encrypted,
            }),
            RequestSignature::Redis(command) => Self::Redis(v1::RedisSignature {
                command: command.command.clone(),
                key_prefix: command.key_prefix.clone(),
                database: command.database,
            }),
            RequestSignature::Postgres(message) => Self::Postgres(v1::PostgresSignature {
                user: message.user.clone(),
                database: message.database.clone(),
                statements: message.statements.iter().map(|class| class.as_str().to_owned()).collect(),
            }),
            RequestSignature::Kafka(request) => {
                Self::Kafka(v1::KafkaSignature { api: request.api.into(), topics: request.topics.clone() })
            }
            RequestSignature::Others => Self::Others(true),
        }
    }
}

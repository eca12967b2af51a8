//! What is asked about: one request of one protocol, borrowed from the bytes that leave if it is allowed.
//!
//! [`Question::with_request`] shows the form that rules know. [`Question::keep`] makes an owned copy of as little as it
//! takes to ask again when the policy changes.

use crate::detect::Protocol;
use crate::fields::FieldList;
use crate::kafka::Call;
use crate::postgres::Statements;
use crate::redis::Command;
use crate::tls::Hello;
use crate::{http1, http2, tls};
use bulkhead_facts::{
    HostName, HttpRequest, KafkaRequest, PathError, PostgresMessage, PostgresStatement, RedisCommand,
    Request, TlsHello, UrlPath,
};
use std::sync::Arc;

/// A request that waits for its verdict.
#[derive(Debug)]
pub struct Question<'a> {
    /// What it was read from, in full; empty where the bytes that leave are others.
    pub bytes: &'a [u8],
    /// Tells it from others that are open at the same time; 0 where answers come in the order of requests.
    pub exchange: u32,
    /// It stays open until the connection ends, whatever is answered: a subscription.
    pub lasting: bool,
    /// What it is.
    pub subject: Subject<'a>,
}

/// A request of one protocol.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a question lives on the stack for one call, as in `Step`")]
pub enum Subject<'a> {
    /// A request of HTTP.
    Http(HttpHead<'a>),
    /// The first message of a TLS client.
    Tls(Hello),
    /// A command to Redis.
    Redis(Command<'a>),
    /// A session of PostgreSQL, or a message of one.
    Postgres(Statements<'a>),
    /// A request to Kafka.
    Kafka(Call<'a>),
}

/// The head of a request of HTTP.
#[derive(Debug)]
pub struct HttpHead<'a> {
    /// Method, an exact, case-sensitive token.
    pub method: &'a str,
    /// What it is about.
    pub target: Target<'a>,
    /// Host without port.
    pub host: Option<Arc<HostName>>,
    /// Header fields that will be released, in the order of the wire.
    pub fields: FieldList<'a>,
}

/// What a request of HTTP is about.
#[derive(Debug)]
pub enum Target<'a> {
    /// A path, and a query without its `?`.
    Path(UrlPath<'a>, Option<&'a str>),
    /// A path that servers read differently.
    Ambiguous(&'a str, PathError),
    /// `*`, the server as a whole.
    Asterisk,
    /// `host:port`, for a tunnel there.
    Authority(&'a str),
}

impl<'a> Question<'a> {
    /// Shows the form that rules are asked about. A target of HTTP without a doubtless path, the server as a whole
    /// and a tunnel are opaque: no allow with an L7 section matches them, a deny does.
    pub fn with_request<T>(&self, decide: impl FnOnce(&Request<'_>) -> T) -> T {
        match &self.subject {
            Subject::Http(head) => decide(&head.request()),
            Subject::Tls(hello) => {
                let protocols: Vec<&str> = hello.application_protocols.iter().map(String::as_str).collect();
                decide(&Request::Tls(TlsHello {
                    server_name: hello.server_name.as_ref(),
                    lowest: hello.lowest,
                    highest: hello.highest,
                    application_protocols: &protocols,
                    encrypted: hello.encrypted,
                }))
            }
            Subject::Redis(command) => decide(&Request::Redis(RedisCommand {
                name: command.name,
                keys: &command.keys,
                database: command.database,
            })),
            Subject::Postgres(message) => decide(&Request::Postgres(PostgresMessage {
                user: message.user,
                database: message.database,
                statements: &message.classes,
            })),
            Subject::Kafka(call) => {
                decide(&Request::Kafka(KafkaRequest { api: call.api, topics: &call.topics }))
            }
        }
    }

    /// Why it can be read in two ways, if it can.
    pub fn ambiguity(&self) -> Option<PathError> {
        match &self.subject {
            Subject::Http(HttpHead { target: Target::Ambiguous(_, error), .. }) => Some(*error),
            Subject::Http(_)
            | Subject::Tls(_)
            | Subject::Redis(_)
            | Subject::Postgres(_)
            | Subject::Kafka(_) => None,
        }
    }

    /// The host of a request of HTTP that is about no path which everybody reads alike: it is all that can be decided on.
    /// `None` for every other request; a tunnel to somebody else asks its host for nothing.
    pub fn unclear_host(&self) -> Option<Option<&HostName>> {
        match &self.subject {
            Subject::Http(HttpHead { target: Target::Ambiguous(..) | Target::Asterisk, host, .. }) => {
                Some(host.as_deref())
            }
            Subject::Http(_)
            | Subject::Tls(_)
            | Subject::Redis(_)
            | Subject::Postgres(_)
            | Subject::Kafka(_) => None,
        }
    }

    /// The head of HTTP, if it is one.
    pub fn http(&self) -> Option<&HttpHead<'a>> {
        match &self.subject {
            Subject::Http(head) => Some(head),
            Subject::Tls(_) | Subject::Redis(_) | Subject::Postgres(_) | Subject::Kafka(_) => None,
        }
    }

    /// True if it asks to become a WebSocket and offers to compress its messages.
    pub fn offers_compression(&self) -> bool {
        let fields = self.http().map_or(&[][..], |head| head.fields.as_slice());
        let extensions = |field: &&bulkhead_facts::HeaderField<'_>| {
            field.name.eq_ignore_ascii_case(b"sec-websocket-extensions")
        };
        fields.iter().filter(extensions).any(|field| crate::websocket::is_compressed(field.value))
    }

    /// The protocol that it belongs to.
    pub fn protocol(&self) -> Protocol {
        match &self.subject {
            Subject::Http(_) if self.exchange == 0 => Protocol::Http1,
            Subject::Http(_) => Protocol::Http2,
            Subject::Tls(_) => Protocol::Tls,
            Subject::Redis(_) => Protocol::Redis,
            Subject::Postgres(_) => Protocol::Postgres,
            Subject::Kafka(_) => Protocol::Kafka,
        }
    }

    /// Bytes that [`keep`](Self::keep) would take.
    pub fn size(&self) -> usize {
        match &self.subject {
            Subject::Http(_) | Subject::Tls(_) => self.bytes.len(),
            Subject::Redis(command) => {
                command.name.len() + command.keys.iter().map(|key| key.len() + PART_BYTES).sum::<usize>()
            }
            Subject::Postgres(message) => {
                message.user.len() + message.database.len() + message.classes.len() + PART_BYTES
            }
            // What is not named cannot be asked about again.
            Subject::Kafka(call) if call.partial => usize::MAX / 2,
            Subject::Kafka(call) => call.topics.iter().map(|topic| topic.len() + PART_BYTES).sum(),
        }
    }

    /// What it takes to ask again.
    pub fn keep(&self) -> Kept {
        match &self.subject {
            Subject::Http(_) if self.exchange == 0 => Kept::Http(self.bytes.into()),
            Subject::Http(_) => Kept::Http2(self.bytes.into(), self.exchange),
            Subject::Tls(_) => Kept::Tls(self.bytes.into()),
            Subject::Redis(command) => Kept::Redis {
                name: command.name.into(),
                keys: command.keys.iter().map(|key| Box::from(*key)).collect(),
                database: command.database,
            },
            Subject::Postgres(message) => Kept::Postgres {
                user: message.user.into(),
                database: message.database.into(),
                classes: message.classes.as_slice().into(),
            },
            Subject::Kafka(call) => Kept::Kafka {
                api: call.api,
                topics: call.topics.iter().map(|topic| Box::from(*topic)).collect(),
            },
        }
    }
}

impl HttpHead<'_> {
    fn request(&self) -> Request<'_> {
        match &self.target {
            Target::Path(path, query) => Request::Http(HttpRequest {
                method: self.method,
                path,
                query: *query,
                host: self.host.as_deref(),
                headers: self.fields.as_slice(),
            }),
            Target::Ambiguous(..) | Target::Asterisk | Target::Authority(_) => Request::Opaque,
        }
    }

    /// The target for a report: a path without its query, `*`, or the authority.
    pub fn target_text(&self) -> &str {
        match &self.target {
            Target::Path(path, _) => path.normal(),
            Target::Ambiguous(raw, _) | Target::Authority(raw) => raw,
            Target::Asterisk => "*",
        }
    }
}

/// A question that was answered and may have to be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The head of a request of HTTP/1.
    Http(Box<[u8]>),
    /// The header block of a request of HTTP/2 as it was encoded for the server, and its stream.
    Http2(Box<[u8]>, u32),
    /// The hello of TLS, in its records.
    Tls(Box<[u8]>),
    /// A command to Redis.
    Redis {
        /// Name.
        name: Box<str>,
        /// Keys.
        keys: Box<[Box<[u8]>]>,
        /// Database.
        database: Option<u32>,
    },
    /// A message of a session of PostgreSQL.
    Postgres {
        /// Role.
        user: Box<str>,
        /// Database.
        database: Box<str>,
        /// What it does.
        classes: Box<[PostgresStatement]>,
    },
    /// A request to Kafka.
    Kafka {
        /// API key.
        api: u16,
        /// Topics.
        topics: Box<[Box<str>]>,
    },
}

/// What one part of a kept question takes beside its text.
const PART_BYTES: usize = 16;

impl Kept {
    /// The question as it was; `None` if it cannot be asked again.
    pub fn question(&self) -> Option<Question<'_>> {
        match self {
            Self::Http(head) => http1::question(head),
            Self::Http2(block, exchange) => http2::question(block, *exchange),
            Self::Tls(hello) => tls::question(hello),
            Self::Redis { name, keys, database } => Some(again(Subject::Redis(Command {
                name,
                keys: keys.iter().map(|key| &**key).collect(),
                database: *database,
            }))),
            Self::Postgres { user, database, classes } => {
                Some(again(Subject::Postgres(Statements { user, database, classes: classes.to_vec() })))
            }
            Self::Kafka { api, topics } => {
                let topics = topics.iter().map(|topic| &**topic).collect();
                Some(again(Subject::Kafka(Call { api: *api, topics, partial: false })))
            }
        }
    }

    /// True if it is that question, but for the exchange; told of HTTP only.
    pub fn is_of(&self, question: &Question<'_>) -> bool {
        match (self, &question.subject) {
            (Self::Http(head), Subject::Http(_)) => question.exchange == 0 && **head == *question.bytes,
            (Self::Http2(block, _), Subject::Http(_)) => question.exchange != 0 && **block == *question.bytes,
            (_, _) => false,
        }
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        match self {
            Self::Http(bytes) | Self::Http2(bytes, _) | Self::Tls(bytes) => bytes.len(),
            Self::Redis { .. } | Self::Postgres { .. } | Self::Kafka { .. } => {
                self.question().map_or(0, |question| question.size())
            }
        }
    }
}

fn again(subject: Subject<'_>) -> Question<'_> {
    Question { bytes: &[], exchange: 0, lasting: false, subject }
}

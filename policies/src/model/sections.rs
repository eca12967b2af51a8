//! What a rule narrows to at layer 7: one section per rule, one variant per protocol.
//!
//! gRPC has none of its own: its reader writes it as the HTTP requests that it is. An empty list means any here, since a
//! document that names none leaves the field out. How each is compared: `decide`.

use bulkhead_facts::{HostPattern, L4Protocol, NamePattern, PathTemplate, PostgresStatement, TlsVersion};

/// What a rule narrows to at layer 7. An empty list of alternatives matches nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum L7Section {
    /// Requests of HTTP, as alternatives.
    Http(Vec<HttpMatch>),
    /// First messages of TLS clients.
    Tls(TlsMatch),
    /// Questions to a name server, as alternatives.
    Dns(Vec<DnsMatch>),
    /// Commands to Redis, as alternatives.
    Redis(Vec<RedisMatch>),
    /// Sessions and statements of PostgreSQL, as alternatives.
    Postgres(Vec<PostgresMatch>),
    /// Requests to Kafka, as alternatives.
    Kafka(Vec<KafkaMatch>),
}

impl L7Section {
    /// The section's field in a document.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tls(_) => "tls",
            Self::Dns(_) => "dns",
            Self::Redis(_) => "redis",
            Self::Postgres(_) => "postgres",
            Self::Kafka(_) => "kafka",
        }
    }

    /// True if the protocol that the section speaks of can run on this one.
    pub fn runs_on(&self, protocol: L4Protocol) -> bool {
        match self {
            Self::Dns(_) => [L4Protocol::TCP, L4Protocol::UDP].contains(&protocol),
            Self::Http(_) | Self::Tls(_) | Self::Redis(_) | Self::Postgres(_) | Self::Kafka(_) => {
                protocol == L4Protocol::TCP
            }
        }
    }

    /// The same meaning in one order, each part once.
    pub fn sorted(&self) -> Self {
        let mut section = self.clone();
        match &mut section {
            Self::Http(requests) => {
                for request in requests.iter_mut() {
                    sort(&mut request.methods);
                    sort(&mut request.hosts);
                    sort(&mut request.headers);
                    sort(&mut request.query);
                }
                sort(requests);
            }
            Self::Tls(hello) => {
                sort(&mut hello.sni);
                sort(&mut hello.alpn);
            }
            Self::Dns(questions) => {
                for question in questions.iter_mut() {
                    sort(&mut question.names);
                    sort(&mut question.records);
                }
                sort(questions);
            }
            Self::Redis(commands) => {
                for command in commands.iter_mut() {
                    sort(&mut command.commands);
                    sort(&mut command.databases);
                }
                sort(commands);
            }
            Self::Postgres(messages) => {
                for message in messages.iter_mut() {
                    sort(&mut message.users);
                    sort(&mut message.databases);
                    sort(&mut message.statements);
                }
                sort(messages);
            }
            Self::Kafka(requests) => {
                for request in requests.iter_mut() {
                    sort(&mut request.apis);
                    sort(&mut request.topics);
                }
                sort(requests);
            }
        }
        section
    }
}

fn sort<T: Ord>(items: &mut Vec<T>) {
    items.sort_unstable();
    items.dedup();
}

/// One kind of HTTP request: all parts that are named must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpMatch {
    /// Methods; empty means any here, since a document that names none leaves the field out.
    pub methods: Vec<String>,
    /// Path template; `None` is any path that has a normal form.
    pub path: Option<PathTemplate>,
    /// Hosts; empty means any.
    pub hosts: Vec<HostPattern>,
    /// Requirements on header fields.
    pub headers: Vec<HeaderMatch>,
    /// Requirements on the query.
    pub query: Vec<QueryMatch>,
    /// Whether it asks to become a WebSocket; `None` does not matter.
    pub websocket: Option<bool>,
    /// Frames of the WebSocket that it becomes are checked (RFC 6455); of allows with `websocket` only.
    pub frames_checked: bool,
    /// Meant as well behind a header of the PROXY protocol; of allows only, since a deny means it always.
    pub proxied: bool,
}

/// A requirement on a header field.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderMatch {
    /// Lower-case name.
    pub name: String,
    /// What must hold for it.
    pub value: HeaderValueMatch,
}

/// What must hold for a header field. For an allow, every instance must match; for a deny, one does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HeaderValueMatch {
    /// At least one instance is there.
    Present,
    /// No instance is there.
    Absent,
    /// The value is exactly this.
    Exact(String),
    /// The value begins with this.
    Prefix(String),
}

/// A requirement on a parameter of the query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryMatch {
    /// Name of unreserved characters (RFC 3986 section 2.3).
    pub name: String,
    /// Whether it has to be there. Servers split and decode queries each in their own way, so a name that only some of them
    /// read neither counts as there nor as absent.
    pub present: bool,
}

/// What a TLS client may say first: all parts that are named must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsMatch {
    /// Server names. Empty, with neither `encrypted` nor `nameless`: the name does not matter.
    pub sni: Vec<NamePattern>,
    /// Lowest version that may be offered.
    pub min: Option<TlsVersion>,
    /// Application protocols; empty means any. No other may be offered.
    pub alpn: Vec<String>,
    /// Hellos with an encrypted one inside (ECH) are meant as well, whatever their name.
    pub encrypted: bool,
    /// Hellos without a server name are meant as well.
    pub nameless: bool,
    /// Meant as well behind a header of the PROXY protocol; of allows only, since a deny means it always.
    pub proxied: bool,
}

/// One kind of question to a name server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnsMatch {
    /// Names; empty means any.
    pub names: Vec<NamePattern>,
    /// Types of records; empty means any.
    pub records: Vec<u16>,
}

/// One kind of command to Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RedisMatch {
    /// Commands in lower case; empty means any.
    pub commands: Vec<String>,
    /// How every key begins.
    pub key_prefix: Option<String>,
    /// Databases; empty means any.
    pub databases: Vec<u32>,
}

/// One kind of session with PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PostgresMatch {
    /// Roles; empty means any.
    pub users: Vec<String>,
    /// Databases; empty means any.
    pub databases: Vec<String>,
    /// Classes of statements; empty means any.
    pub statements: Vec<PostgresStatement>,
}

/// One kind of request to Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KafkaMatch {
    /// API keys; empty means any.
    pub apis: Vec<u16>,
    /// Topics; empty means any.
    pub topics: Vec<TopicMatch>,
}

/// A topic, or those that begin alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicMatch {
    /// This one.
    Exact(String),
    /// Those that begin with this.
    Prefix(String),
}

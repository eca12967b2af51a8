//! What an inspector asks about: the parsed, canonical form of one request.

use crate::{HostName, PostgresStatement, TlsVersion, UrlPath};

/// One request, borrowed from the bytes that will be released if it is allowed.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// An HTTP request head.
    Http(HttpRequest<'a>),
    /// The first message of a TLS client.
    Tls(TlsHello<'a>),
    /// One question to a name server.
    Dns(DnsQuestion<'a>),
    /// One command to Redis.
    Redis(RedisCommand<'a>),
    /// The start of a PostgreSQL session, or one message with statements.
    Postgres(PostgresMessage<'a>),
    /// One request to Kafka.
    Kafka(KafkaRequest<'a>),
    /// Bytes of a protocol that no inspector of ours reads. An allow with an L7 section does not match
    /// it, a deny does.
    Opaque,
}

/// A TLS ClientHello (RFC 8446 section 4.1.2), as far as rules ask about it.
#[derive(Clone, Copy, Debug)]
pub struct TlsHello<'a> {
    /// The server name in clear; `None` where the client sends none.
    pub server_name: Option<&'a HostName>,
    /// The lowest version that the client offers: the server may choose it.
    pub lowest: TlsVersion,
    /// The highest one.
    pub highest: TlsVersion,
    /// Application protocols that it offers, in its order.
    pub application_protocols: &'a [&'a str],
    /// The hello carries another one, encrypted: the name in clear is not the one that is meant.
    pub encrypted: bool,
}

/// One question of a DNS query (RFC 1035 section 4.1.2), class `IN`.
#[derive(Clone, Copy, Debug)]
pub struct DnsQuestion<'a> {
    /// The name that is asked for.
    pub name: &'a HostName,
    /// Type of record: 1 for `A`, 28 for `AAAA`, 255 for any.
    pub record: u16,
}

/// One command to Redis.
#[derive(Clone, Copy, Debug)]
pub struct RedisCommand<'a> {
    /// Name, in the case of the wire; compared without case.
    pub name: &'a str,
    /// The keys that it names.
    pub keys: &'a [&'a [u8]],
    /// The database it acts on; `None` where that is not known.
    pub database: Option<u32>,
}

/// Who speaks to PostgreSQL, and the statements of one message; none in the start-up message.
#[derive(Clone, Copy, Debug)]
pub struct PostgresMessage<'a> {
    /// Role that the session began with.
    pub user: &'a str,
    /// Database that it began with.
    pub database: &'a str,
    /// Every statement of the message.
    pub statements: &'a [PostgresStatement],
}

/// One request to Kafka.
#[derive(Clone, Copy, Debug)]
pub struct KafkaRequest<'a> {
    /// API key: 0 is Produce, 1 Fetch.
    pub api: u16,
    /// The topics that it names.
    pub topics: &'a [&'a str],
}

/// An HTTP request head in canonical form.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// Method, an exact, case-sensitive token (RFC 9110 section 9.1).
    pub method: &'a str,
    /// Path, both raw and normal.
    pub path: &'a UrlPath<'a>,
    /// Query without its `?`; `None` where the target has none.
    pub query: Option<&'a str>,
    /// `Host` or `:authority`, port split off; `None` where HTTP/1.0 sent none.
    pub host: Option<&'a HostName>,
    /// Header fields in the order of the wire.
    pub headers: &'a [HeaderField<'a>],
}

/// One header field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderField<'a> {
    /// Name in the case of the wire; compared without case.
    pub name: &'a [u8],
    /// Value without surrounding white space.
    pub value: &'a [u8],
}

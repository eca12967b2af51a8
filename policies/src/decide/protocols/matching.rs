//! What one alternative of a section asks of a request: all of it, and what filing leaves of it.
//!
//! An allow or a pass takes what is certain, a deny what is possible: what the bytes leave open is decided against the
//! sender.

use super::filed::Candidate;
use super::places::Rest;
use crate::model::{DnsMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch};
use bulkhead_facts::{
    DnsQuestion, KafkaRequest, PostgresMessage, PostgresStatement, RedisCommand, Request, TlsHello,
};

/// The type that asks for records of every type (RFC 8482).
pub(super) const ANY_RECORD: u16 = 255;

/// True if a rule with this section matches, a deny or else an allow or pass. A section of another protocol, and one of HTTP,
/// matches a deny.
pub(in crate::decide) fn matches(section: &L7Section, request: &Request<'_>, deny: bool) -> bool {
    match (section, request) {
        (L7Section::Tls(wanted), Request::Tls(hello)) => tls(wanted, hello, deny),
        (L7Section::Dns(any), Request::Dns(question)) => any.iter().any(|m| dns(m, question, deny)),
        (L7Section::Redis(any), Request::Redis(command)) => any.iter().any(|m| redis(m, command, deny)),
        (L7Section::Postgres(any), Request::Postgres(message)) => {
            any.iter().any(|m| postgres(m, message, deny))
        }
        (L7Section::Kafka(any), Request::Kafka(request)) => any.iter().any(|m| kafka(m, request, deny)),
        (_, _) => deny,
    }
}

/// True if one alternative matches in what its place does not say already.
pub(super) fn rest_matches(
    section: &L7Section,
    candidate: Candidate,
    request: &Request<'_>,
    deny: bool,
) -> bool {
    let (at, whole) = (candidate.alternative as usize, candidate.rest == Rest::Whole);
    match (section, request) {
        (L7Section::Tls(wanted), Request::Tls(hello)) => {
            if whole {
                tls(wanted, hello, deny)
            } else {
                tls_offer(wanted, hello, deny)
            }
        }
        (L7Section::Dns(any), Request::Dns(question)) => {
            any.get(at).is_some_and(|wanted| dns(wanted, question, deny))
        }
        (L7Section::Redis(any), Request::Redis(command)) => any.get(at).is_some_and(|wanted| {
            if whole { redis(wanted, command, deny) } else { redis_keys(wanted, command, deny) }
        }),
        (L7Section::Postgres(any), Request::Postgres(message)) => any.get(at).is_some_and(|wanted| {
            if whole { postgres(wanted, message, deny) } else { postgres_statements(wanted, message, deny) }
        }),
        (L7Section::Kafka(any), Request::Kafka(request)) => any.get(at).is_some_and(|wanted| {
            if whole { kafka(wanted, request, deny) } else { kafka_topics(wanted, request, deny) }
        }),
        (_, _) => false,
    }
}

/// Of how many keys or topics the request speaks.
pub(super) fn items(request: &Request<'_>) -> usize {
    match request {
        Request::Redis(command) => command.keys.len(),
        Request::Kafka(request) => request.topics.len(),
        Request::Http(_) | Request::Tls(_) | Request::Dns(_) | Request::Postgres(_) | Request::Opaque => 1,
    }
}

/// An encrypted hello hides the name that is meant, a hello without one leaves it to the server: a deny matches both.
fn tls(wanted: &TlsMatch, hello: &TlsHello<'_>, deny: bool) -> bool {
    let any_name = wanted.sni.is_empty() && !wanted.encrypted && !wanted.nameless;
    let by_name = any_name
        || match (hello.encrypted, hello.server_name) {
            (true, _) => wanted.encrypted || deny,
            (false, None) => wanted.nameless || deny,
            (false, Some(name)) => wanted.sni.iter().any(|pattern| pattern.matches(name)),
        };
    by_name && tls_offer(wanted, hello, deny)
}

fn tls_offer(wanted: &TlsMatch, hello: &TlsHello<'_>, deny: bool) -> bool {
    let offered = if deny { hello.highest } else { hello.lowest };
    let listed = |protocol: &&str| wanted.alpn.iter().any(|own| own == protocol);
    wanted.min.is_none_or(|min| offered >= min)
        && (wanted.alpn.is_empty() || quantified(hello.application_protocols, deny, false, listed))
}

fn dns(wanted: &DnsMatch, question: &DnsQuestion<'_>, deny: bool) -> bool {
    let by_name = wanted.names.is_empty() || wanted.names.iter().any(|name| name.matches(question.name));
    let by_record = wanted.records.is_empty()
        || wanted.records.contains(&question.record)
        || deny && question.record == ANY_RECORD;
    by_name && by_record
}

fn redis(wanted: &RedisMatch, command: &RedisCommand<'_>, deny: bool) -> bool {
    let by_name = wanted.commands.is_empty()
        || wanted.commands.iter().any(|name| name.eq_ignore_ascii_case(command.name));
    let by_database = wanted.databases.is_empty()
        || command.database.map_or(deny, |database| wanted.databases.contains(&database));
    by_name && by_database && redis_keys(wanted, command, deny)
}

/// A command without keys may act on all (`FLUSHALL`).
fn redis_keys(wanted: &RedisMatch, command: &RedisCommand<'_>, deny: bool) -> bool {
    wanted.key_prefix.as_ref().is_none_or(|prefix| {
        quantified(command.keys, deny, true, |key: &&[u8]| key.starts_with(prefix.as_bytes()))
    })
}

fn postgres(wanted: &PostgresMatch, message: &PostgresMessage<'_>, deny: bool) -> bool {
    let named = |list: &[String], text: &str| list.is_empty() || list.iter().any(|own| own == text);
    named(&wanted.users, message.user)
        && named(&wanted.databases, message.database)
        && postgres_statements(wanted, message, deny)
}

/// A start-up message has no statements: it is judged by user and database alone.
fn postgres_statements(wanted: &PostgresMatch, message: &PostgresMessage<'_>, deny: bool) -> bool {
    let listed = |statement: &PostgresStatement| match statement {
        PostgresStatement::Other => deny,
        statement => wanted.statements.contains(statement),
    };
    wanted.statements.is_empty()
        || if deny { message.statements.iter().any(listed) } else { message.statements.iter().all(listed) }
}

fn kafka(wanted: &KafkaMatch, request: &KafkaRequest<'_>, deny: bool) -> bool {
    (wanted.apis.is_empty() || wanted.apis.contains(&request.api)) && kafka_topics(wanted, request, deny)
}

/// A request without topics may speak of all (`Metadata`).
fn kafka_topics(wanted: &KafkaMatch, request: &KafkaRequest<'_>, deny: bool) -> bool {
    let listed = |topic: &&str| {
        wanted.topics.iter().any(|own| match own {
            TopicMatch::Exact(text) => text == topic,
            TopicMatch::Prefix(text) => topic.starts_with(text.as_str()),
        })
    };
    wanted.topics.is_empty() || quantified(request.topics, deny, true, listed)
}

/// A deny needs one item, or none if `none_is_all`; an allow or a pass needs all, and at least one.
fn quantified<T>(items: &[T], deny: bool, none_is_all: bool, holds: impl Fn(&T) -> bool) -> bool {
    match (items.is_empty(), deny) {
        (true, deny) => deny && none_is_all,
        (false, true) => items.iter().any(holds),
        (false, false) => items.iter().all(holds),
    }
}

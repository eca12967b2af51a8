//! Requests of protocols other than HTTP: which entry of a stage is the first to match.
//!
//! For each protocol a stage keeps the positions of the entries that can match it, so that no others are looked at. An allow
//! or a pass takes what is certain, a deny what is possible: what the bytes leave open is decided against the sender.

use crate::model::{DnsMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch};
use crate::program::{L7Entry, L7Stage};
use bulkhead_facts::{
    DnsQuestion, Effect, KafkaRequest, PostgresMessage, PostgresStatement, RedisCommand, Request, TlsHello,
};

/// The type that asks for records of every type (RFC 8482).
const ANY_RECORD: u16 = 255;

/// Positions of entries by protocol.
#[derive(Clone, Debug)]
pub(super) struct Protocols([Box<[u32]>; 5]);

impl Protocols {
    pub(super) fn new(stage: &L7Stage) -> Self {
        Self([0, 1, 2, 3, 4].map(|protocol| positions(stage, protocol)))
    }

    /// The first entry that matches a request; none for HTTP and for bytes that cannot be read.
    pub(super) fn first_match<'s>(&self, stage: &'s L7Stage, request: &Request<'_>) -> Option<&'s L7Entry> {
        let positions = self.0.get(protocol_of(request)?)?;
        let entries = positions.iter().filter_map(|at| stage.entries.get(*at as usize));
        entries.into_iter().find(|entry| matches(entry, request))
    }
}

/// Entries that can match, up to the first that always does.
fn positions(stage: &L7Stage, protocol: usize) -> Box<[u32]> {
    let mut found = Vec::new();
    for (at, entry) in (0u32..).zip(&stage.entries) {
        let own =
            entry.section.as_ref().is_some_and(|section| protocol_of_section(section) == Some(protocol));
        let always = !own && (entry.section.is_none() || entry.effect == Some(Effect::Deny));
        if own || always {
            found.push(at);
        }
        if always {
            break;
        }
    }
    found.into()
}

fn protocol_of(request: &Request<'_>) -> Option<usize> {
    match request {
        Request::Tls(_) => Some(0),
        Request::Dns(_) => Some(1),
        Request::Redis(_) => Some(2),
        Request::Postgres(_) => Some(3),
        Request::Kafka(_) => Some(4),
        Request::Http(_) | Request::Opaque => None,
    }
}

fn protocol_of_section(section: &L7Section) -> Option<usize> {
    match section {
        L7Section::Tls(_) => Some(0),
        L7Section::Dns(_) => Some(1),
        L7Section::Redis(_) => Some(2),
        L7Section::Postgres(_) => Some(3),
        L7Section::Kafka(_) => Some(4),
        L7Section::Http(_) => None,
    }
}

fn matches(entry: &L7Entry, request: &Request<'_>) -> bool {
    let Some(section) = &entry.section else { return true };
    let deny = entry.effect == Some(Effect::Deny);
    match (section, request) {
        (L7Section::Tls(wanted), Request::Tls(hello)) => tls_matches(wanted, hello, deny),
        (L7Section::Dns(any), Request::Dns(question)) => any.iter().any(|m| dns_matches(m, question, deny)),
        (L7Section::Redis(any), Request::Redis(command)) => {
            any.iter().any(|m| redis_matches(m, command, deny))
        }
        (L7Section::Postgres(any), Request::Postgres(message)) => {
            any.iter().any(|m| postgres_matches(m, message, deny))
        }
        (L7Section::Kafka(any), Request::Kafka(request)) => {
            any.iter().any(|m| kafka_matches(m, request, deny))
        }
        (_, _) => deny,
    }
}

/// An encrypted hello hides the name that is meant, a hello without one leaves it to the server: a deny matches both.
fn tls_matches(wanted: &TlsMatch, hello: &TlsHello<'_>, deny: bool) -> bool {
    let nameless = wanted.sni.is_empty() && !wanted.encrypted && !wanted.nameless;
    let by_name = nameless
        || match (hello.encrypted, hello.server_name) {
            (true, _) => wanted.encrypted || deny,
            (false, None) => wanted.nameless || deny,
            (false, Some(name)) => wanted.sni.iter().any(|pattern| pattern.matches(name)),
        };
    let offered = if deny { hello.highest } else { hello.lowest };
    let listed = |protocol: &&str| wanted.alpn.iter().any(|own| own == protocol);
    by_name
        && wanted.min.is_none_or(|min| offered >= min)
        && (wanted.alpn.is_empty() || quantified(hello.application_protocols, deny, false, listed))
}

fn dns_matches(wanted: &DnsMatch, question: &DnsQuestion<'_>, deny: bool) -> bool {
    let by_name = wanted.names.is_empty() || wanted.names.iter().any(|name| name.matches(question.name));
    let by_record = wanted.records.is_empty()
        || wanted.records.contains(&question.record)
        || deny && question.record == ANY_RECORD;
    by_name && by_record
}

/// A command without keys may act on all (`FLUSHALL`).
fn redis_matches(wanted: &RedisMatch, command: &RedisCommand<'_>, deny: bool) -> bool {
    let by_name = wanted.commands.is_empty()
        || wanted.commands.iter().any(|name| name.eq_ignore_ascii_case(command.name));
    let by_key = wanted.key_prefix.as_ref().is_none_or(|prefix| {
        quantified(command.keys, deny, true, |key: &&[u8]| key.starts_with(prefix.as_bytes()))
    });
    let by_database = wanted.databases.is_empty()
        || command.database.map_or(deny, |database| wanted.databases.contains(&database));
    by_name && by_key && by_database
}

/// A start-up message has no statements: it is judged by user and database alone.
fn postgres_matches(wanted: &PostgresMatch, message: &PostgresMessage<'_>, deny: bool) -> bool {
    let named = |list: &[String], text: &str| list.is_empty() || list.iter().any(|own| own == text);
    let listed = |statement: &PostgresStatement| match statement {
        PostgresStatement::Other => deny,
        statement => wanted.statements.contains(statement),
    };
    let by_statement = wanted.statements.is_empty()
        || if deny { message.statements.iter().any(listed) } else { message.statements.iter().all(listed) };
    named(&wanted.users, message.user) && named(&wanted.databases, message.database) && by_statement
}

/// A request without topics may speak of all (`Metadata`).
fn kafka_matches(wanted: &KafkaMatch, request: &KafkaRequest<'_>, deny: bool) -> bool {
    let listed = |topic: &&str| {
        wanted.topics.iter().any(|own| match own {
            TopicMatch::Exact(text) => text == topic,
            TopicMatch::Prefix(text) => topic.starts_with(text.as_str()),
        })
    };
    (wanted.apis.is_empty() || wanted.apis.contains(&request.api))
        && (wanted.topics.is_empty() || quantified(request.topics, deny, true, listed))
}

/// A deny needs one item, or none if `none_is_all`; an allow or a pass needs all, and at least one.
fn quantified<T>(items: &[T], deny: bool, none_is_all: bool, holds: impl Fn(&T) -> bool) -> bool {
    match (items.is_empty(), deny) {
        (true, deny) => deny && none_is_all,
        (false, true) => items.iter().any(holds),
        (false, false) => items.iter().all(holds),
    }
}

//! The reference for protocols other than HTTP, and for the parts of HTTP that servers read differently.

use crate::model::*;
use bulkhead_facts::*;

/// True if the section matches for a rule of this action; one of another protocol matches a deny.
pub(super) fn matches(section: &L7Section, request: &Request<'_>, action: RuleAction) -> bool {
    let deny = action == RuleAction::Deny;
    match (section, request) {
        (L7Section::Tls(wanted), Request::Tls(hello)) => tls(wanted, hello, deny),
        (L7Section::Dns(any), Request::Dns(question)) => any.iter().any(|wanted| {
            let record = wanted.records.is_empty()
                || wanted.records.iter().any(|r| *r == question.record || deny && question.record == 255);
            record && (wanted.names.is_empty() || wanted.names.iter().any(|p| name(p, question.name)))
        }),
        (L7Section::Redis(any), Request::Redis(command)) => any.iter().any(|wanted| {
            let lower = command.name.to_lowercase();
            let commands = wanted.commands.iter().any(|own| own.to_lowercase() == lower);
            let begins = |key: &[u8]| match &wanted.key_prefix {
                Some(prefix) => key.len() >= prefix.len() && &key[..prefix.len()] == prefix.as_bytes(),
                None => true,
            };
            let hits = command.keys.iter().filter(|key| begins(key)).count();
            let keys = match (deny, command.keys.len()) {
                (true, count) => hits > 0 || count == 0,
                (false, count) => hits == count && count > 0,
            };
            let database = match command.database {
                Some(database) => wanted.databases.contains(&database),
                None => deny,
            };
            (commands || wanted.commands.is_empty())
                && (keys || wanted.key_prefix.is_none())
                && (database || wanted.databases.is_empty())
        }),
        (L7Section::Postgres(any), Request::Postgres(message)) => any.iter().any(|wanted| {
            let user = wanted.users.is_empty() || wanted.users.contains(&message.user.to_owned());
            let database =
                wanted.databases.is_empty() || wanted.databases.contains(&message.database.to_owned());
            let (mut any, mut all) = (false, true);
            for statement in message.statements {
                let hit = match statement {
                    PostgresStatement::Other => deny,
                    known => wanted.statements.contains(known),
                };
                any |= hit;
                all &= hit;
            }
            user && database && (wanted.statements.is_empty() || if deny { any } else { all })
        }),
        (L7Section::Kafka(any), Request::Kafka(request)) => any.iter().any(|wanted| {
            let topic = |sent: &str| {
                wanted.topics.iter().any(|own| match own {
                    TopicMatch::Exact(text) => sent == text,
                    TopicMatch::Prefix(text) => sent.starts_with(text),
                })
            };
            let hits = request.topics.iter().filter(|sent| topic(sent)).count();
            let topics = match (deny, request.topics.len()) {
                (true, count) => hits > 0 || count == 0,
                (false, count) => hits == count && count > 0,
            };
            (wanted.apis.is_empty() || wanted.apis.contains(&request.api))
                && (wanted.topics.is_empty() || topics)
        }),
        _ => deny,
    }
}

fn tls(wanted: &TlsMatch, hello: &TlsHello<'_>, deny: bool) -> bool {
    let asks_name = !wanted.sni.is_empty() || wanted.encrypted || wanted.nameless;
    let by_name = if hello.encrypted {
        wanted.encrypted || deny
    } else if let Some(sent) = hello.server_name {
        wanted.sni.iter().any(|pattern| name(pattern, sent))
    } else {
        wanted.nameless || deny
    };
    let version = match wanted.min {
        Some(min) if deny => hello.highest >= min,
        Some(min) => hello.lowest >= min,
        None => true,
    };
    let offered = hello.application_protocols;
    let hits = offered.iter().filter(|sent| wanted.alpn.contains(&(**sent).to_owned())).count();
    let alpn = if deny { hits > 0 } else { hits > 0 && hits == offered.len() };
    (by_name || !asks_name) && version && (alpn || wanted.alpn.is_empty())
}

fn name(pattern: &NamePattern, sent: &HostName) -> bool {
    let sent: Vec<&str> = sent.as_str().split('.').collect();
    let text = pattern.to_string();
    let wanted: Vec<&str> = text.split('.').collect();
    match wanted[0] {
        "**" => sent.len() >= wanted.len() && sent.ends_with(&wanted[1..]),
        "*" => sent.len() == wanted.len() && sent[1..] == wanted[1..],
        _ => sent == wanted,
    }
}

/// Whether a parameter of the query is there, or absent, as wanted.
pub(super) fn parameter(wanted: &QueryMatch, query: Option<&str>, deny: bool) -> bool {
    let query = query.unwrap_or("");
    let name = |item: &str| item.split('=').next().unwrap_or("").to_owned();
    let certain = query.split('&').any(|item| !item.contains(';') && name(item) == wanted.name);
    // Of the encodings there are, the random queries hold this one.
    let decoded = query.to_lowercase().replace("%64", "d");
    let possible = decoded.split(['&', ';']).any(|item| name(item) == wanted.name.to_lowercase());
    doubtful(certain, possible, wanted.present, deny)
}

/// Whether it asks to become a WebSocket, as wanted.
pub(super) fn websocket(wanted: bool, headers: &[HeaderField<'_>], deny: bool) -> bool {
    let upgrades = headers.iter().filter(|field| field.name.eq_ignore_ascii_case(b"upgrade"));
    let values: Vec<String> =
        upgrades.map(|field| String::from_utf8_lossy(field.value).to_lowercase()).collect();
    let certain = !values.is_empty() && values.iter().all(|value| value == "websocket");
    let possible = values.iter().any(|value| value.split(',').any(|item| item.trim() == "websocket"));
    doubtful(certain, possible, wanted, deny)
}

fn doubtful(certain: bool, possible: bool, wanted: bool, deny: bool) -> bool {
    let (doubt, is) = (certain != possible, certain);
    if doubt { deny } else { is == wanted }
}

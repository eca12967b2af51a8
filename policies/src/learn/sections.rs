//! Sections of rules from the kinds of requests that were seen: as few alternatives as allow these and no others.
//!
//! HTTP is written by [`super::rules`]. A kind that is part of another one is left out; what no alternative can mean exactly
//! never comes here ([`super::cautions`]). Lists are cut where documents limit them.

use super::edges::Kind;
use super::{KafkaKind, PostgresKind, RedisKind, TlsKind};
use crate::limits::REQUEST_ITEMS_MAX;
use crate::model::{DnsMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch};
use bulkhead_facts::{NamePattern, PostgresStatement, TlsVersion};
use std::collections::{BTreeMap, BTreeSet};

/// Sections that together allow these kinds of one protocol, HTTP aside. Several only where one cannot say it.
pub(super) fn sections(kinds: &[&Kind]) -> Vec<L7Section> {
    let (mut hellos, mut questions, mut commands, mut messages, mut requests) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for kind in kinds {
        match kind {
            Kind::Tls(hello) => hellos.push(hello),
            Kind::Dns { name, record } => questions.push((name.as_str(), *record)),
            Kind::Redis(command) => commands.push(command),
            Kind::Postgres(message) => messages.push(message),
            Kind::Kafka(request) => requests.push(request),
            Kind::Http { .. } | Kind::Others | Kind::Unread(_) | Kind::Opaque => {}
        }
    }
    let mut sections: Vec<_> = tls(&hellos).into_iter().map(L7Section::Tls).collect();
    sections.extend(unless_empty(dns(&questions), L7Section::Dns));
    sections.extend(unless_empty(redis(&commands), L7Section::Redis));
    sections.extend(unless_empty(postgres(&messages), L7Section::Postgres));
    sections.extend(unless_empty(kafka(&requests), L7Section::Kafka));
    sections
}

fn unless_empty<T>(items: Vec<T>, section: fn(Vec<T>) -> L7Section) -> Option<L7Section> {
    if items.is_empty() { None } else { Some(section(items)) }
}

/// One for each lowest version. A name that may come with an old one may come with a newer one.
fn tls(hellos: &[&TlsKind]) -> Vec<TlsMatch> {
    let mut by_lowest: BTreeMap<TlsVersion, TlsMatch> = BTreeMap::new();
    let mut told: BTreeSet<(Option<&str>, bool)> = BTreeSet::new();
    let mut hellos = hellos.to_vec();
    hellos.sort_by_key(|hello| hello.lowest);
    for hello in hellos {
        let name = hello.server_name.as_deref().filter(|_| !hello.encrypted);
        if !told.insert((name, hello.encrypted)) {
            continue;
        }
        let of_version = by_lowest.entry(hello.lowest).or_default();
        match name.map(NamePattern::parse) {
            Some(Ok(name)) => of_version.sni.push(name),
            Some(Err(_)) => {}
            None if hello.encrypted => of_version.encrypted = true,
            None => of_version.nameless = true,
        }
    }
    let mut sections = Vec::new();
    for (lowest, mut whole) in by_lowest {
        whole.sni.sort();
        let min = Some(lowest).filter(|lowest| *lowest > TlsVersion::V1_0);
        let rest = whole.sni.split_off(whole.sni.len().min(REQUEST_ITEMS_MAX));
        if !whole.sni.is_empty() || whole.encrypted || whole.nameless {
            sections.push(TlsMatch { min, ..whole });
        }
        let further = rest.chunks(REQUEST_ITEMS_MAX);
        sections.extend(further.map(|sni| TlsMatch { sni: sni.to_vec(), min, ..TlsMatch::default() }));
    }
    sections
}

/// Names that were asked for with the same types of records are one alternative.
fn dns(questions: &[(&str, u16)]) -> Vec<DnsMatch> {
    let mut records: BTreeMap<NamePattern, BTreeSet<u16>> = BTreeMap::new();
    for (name, record) in questions {
        if let Ok(name) = NamePattern::parse(name) {
            records.entry(name).or_default().insert(*record);
        }
    }
    group(records)
        .into_iter()
        .map(|(records, names)| DnsMatch { names, records: records.into_iter().collect() })
        .collect()
}

/// Commands by the keys they took and their databases. A command that took any key needs no beginning of one beside it.
fn redis(commands: &[&RedisKind]) -> Vec<RedisMatch> {
    let any_key: BTreeSet<(&str, u32)> = commands
        .iter()
        .filter(|command| command.key_prefix.is_none())
        .filter_map(|command| Some((command.command.as_str(), command.database?)))
        .collect();
    let mut databases: BTreeMap<(Option<&str>, &str), BTreeSet<u32>> = BTreeMap::new();
    for command in commands {
        let Some(database) = command.database else { continue };
        let prefix = command.key_prefix.as_deref();
        if prefix.is_none() || !any_key.contains(&(command.command.as_str(), database)) {
            databases.entry((prefix, &command.command)).or_default().insert(database);
        }
    }
    let mut alike: BTreeMap<(Option<&str>, BTreeSet<u32>), Vec<String>> = BTreeMap::new();
    for ((prefix, command), databases) in databases {
        alike.entry((prefix, databases)).or_default().push(command.to_owned());
    }
    let alternatives = alike.into_iter().flat_map(|((prefix, databases), commands)| {
        let chunks: Vec<_> = commands.chunks(REQUEST_ITEMS_MAX).map(<[String]>::to_vec).collect();
        let databases: Vec<u32> = databases.into_iter().collect();
        chunks.into_iter().map(move |commands| RedisMatch {
            commands,
            key_prefix: prefix.map(str::to_owned),
            databases: databases.clone(),
        })
    });
    alternatives.collect()
}

/// One alternative for each role and database. The message that begins a session is allowed with any class.
fn postgres(messages: &[&PostgresKind]) -> Vec<PostgresMatch> {
    let mut classes: BTreeMap<(&str, &str), BTreeSet<PostgresStatement>> = BTreeMap::new();
    for message in messages {
        classes.entry((&message.user, &message.database)).or_default().extend(&message.statements);
    }
    let named = classes.into_iter().filter(|(_, classes)| !classes.is_empty());
    let alternative =
        |((user, database), classes): ((&str, &str), BTreeSet<PostgresStatement>)| PostgresMatch {
            users: vec![user.to_owned()],
            databases: vec![database.to_owned()],
            statements: classes.into_iter().collect(),
        };
    named.map(alternative).collect()
}

/// Calls by their topics. A call that named no topic, or all, has none.
fn kafka(requests: &[&KafkaKind]) -> Vec<KafkaMatch> {
    let mut topics: BTreeMap<u16, Option<BTreeSet<TopicMatch>>> = BTreeMap::new();
    for request in requests {
        let of_call = topics.entry(request.api).or_insert_with(|| Some(BTreeSet::new()));
        match of_call {
            Some(_) if request.topics.is_empty() => *of_call = None,
            Some(known) => known.extend(request.topics.iter().cloned().map(TopicMatch::Exact)),
            None => {}
        }
    }
    let mut alike: BTreeMap<Option<BTreeSet<TopicMatch>>, Vec<u16>> = BTreeMap::new();
    for (api, topics) in topics {
        alike.entry(topics).or_default().push(api);
    }
    let alternatives = alike.into_iter().flat_map(|(topics, apis)| {
        let topics: Vec<TopicMatch> = topics.unwrap_or_default().into_iter().collect();
        let parts = topics.chunks(REQUEST_ITEMS_MAX).map(<[TopicMatch]>::to_vec);
        let parts: Vec<_> = if topics.is_empty() { vec![Vec::new()] } else { parts.collect() };
        parts.into_iter().map(move |topics| KafkaMatch { apis: apis.clone(), topics })
    });
    alternatives.collect()
}

/// Keys by equal values, in lists that a document takes.
fn group<K: Ord + Clone, V: Ord + Clone>(values: BTreeMap<K, V>) -> Vec<(V, Vec<K>)> {
    let mut alike: BTreeMap<V, Vec<K>> = BTreeMap::new();
    for (key, value) in values {
        alike.entry(value).or_default().push(key);
    }
    let lists = alike.into_iter().flat_map(|(value, keys)| {
        let parts: Vec<_> = keys.chunks(REQUEST_ITEMS_MAX).map(<[K]>::to_vec).collect();
        parts.into_iter().map(move |keys| (value.clone(), keys))
    });
    lists.collect()
}

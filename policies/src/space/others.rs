//! Kinds of requests of the protocols other than HTTP.

use super::http::takes;
use super::names::{beginnings, fresh, names};
use super::requests::{Asked, Kinds, TooManyKinds};
use super::sets::{Test, told_apart};
use crate::limits::REQUEST_KINDS_MAX;
use crate::model::{DnsMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch};
use crate::questions::{
    DnsAsked, KafkaQuestion, PostgresQuestion, RedisQuestion, RequestQuestion, TlsQuestion,
};
use bulkhead_facts::{Effect, PostgresStatement, TlsVersion};
use std::collections::BTreeSet;

/// Signs that topics may hold, those first that read best.
const TOPIC_SIGNS: &str = "xyzabcdefghijklmnopqrstuvwABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
/// The type of record that asks for all.
const ANY_RECORD: u16 = 255;

/// Adds the kinds of each protocol that a section speaks of.
pub(super) fn add(sections: &[Asked<'_>], found: &mut Kinds) -> Result<(), TooManyKinds> {
    let mut tls: Vec<(bool, &TlsMatch)> = Vec::new();
    let mut dns: Option<Vec<&DnsMatch>> = None;
    let mut redis: Option<Vec<(bool, &RedisMatch)>> = None;
    let mut postgres: Option<Vec<(bool, &PostgresMatch)>> = None;
    let mut kafka: Option<Vec<(bool, &KafkaMatch)>> = None;
    for (deny, section) in sections {
        match section {
            L7Section::Http(_) => {}
            L7Section::Tls(hello) => tls.push((*deny, hello)),
            // One without items matches nothing, and tells the protocol from others all the same.
            L7Section::Dns(any) => dns.get_or_insert_default().extend(any),
            L7Section::Redis(any) => redis.get_or_insert_default().extend(any.iter().map(|own| (*deny, own))),
            L7Section::Postgres(any) => {
                postgres.get_or_insert_default().extend(any.iter().map(|own| (*deny, own)))
            }
            L7Section::Kafka(any) => kafka.get_or_insert_default().extend(any.iter().map(|own| (*deny, own))),
        }
    }
    if !tls.is_empty() {
        add_tls(&tls, found)?;
    }
    dns.map_or(Ok(()), |any| add_dns(&any, found))?;
    redis.map_or(Ok(()), |any| add_redis(&any, found))?;
    postgres.map_or(Ok(()), |any| add_postgres(&any, found))?;
    kafka.map_or(Ok(()), |any| add_kafka(&any, found))
}

/// A test of one item: a section with nothing but the part that is about it, and a request that carries the item alone.
fn test<'t, T: 't>(
    deny: bool,
    section: L7Section,
    carrying: impl Fn(&T) -> RequestQuestion + 't,
) -> Test<'t, T> {
    let effect = if deny { Effect::Deny } else { Effect::Allow };
    Test { deny, takes: Box::new(move |item: &T| takes(&section, &carrying(item), effect)) }
}

fn add_tls(any: &[(bool, &TlsMatch)], found: &mut Kinds) -> Result<(), TooManyKinds> {
    let names = names(any.iter().flat_map(|(_, hello)| &hello.sni));
    let by_name = any.iter().any(|(_, hello)| !hello.sni.is_empty() || hello.encrypted || hello.nameless);
    // Where no section asks for the name, one name is as good as any.
    let named: Vec<(Option<String>, bool)> = match by_name {
        true => {
            names.into_iter().map(|name| (Some(name), false)).chain([(None, false), (None, true)]).collect()
        }
        false => vec![(Some("any.test".to_owned()), false)],
    };
    let cuts: BTreeSet<TlsVersion> =
        any.iter().filter_map(|(_, hello)| hello.min).chain([TlsVersion::V1_0]).collect();
    let versions: Vec<(TlsVersion, TlsVersion)> = match cuts.len() {
        1 => vec![(TlsVersion::V1_2, TlsVersion::V1_3)],
        _ => cuts.iter().flat_map(|low| cuts.range(low..).map(|high| (*low, *high))).collect(),
    };
    let named_protocols: BTreeSet<&str> =
        any.iter().flat_map(|(_, hello)| &hello.alpn).map(String::as_str).collect();
    let other = fresh("other", |text| named_protocols.contains(text));
    let items: Vec<String> = named_protocols.iter().map(|text| (*text).to_owned()).chain([other]).collect();
    let tests: Vec<Test<'_, String>> = any
        .iter()
        .filter(|(_, hello)| !hello.alpn.is_empty())
        .map(|(deny, hello)| {
            let section = L7Section::Tls(TlsMatch { alpn: hello.alpn.clone(), ..TlsMatch::default() });
            test(*deny, section, |protocol: &String| {
                let application_protocols = vec![protocol.clone()];
                RequestQuestion::Tls(TlsQuestion { application_protocols, ..TlsQuestion::default() })
            })
        })
        .collect();
    let offered = sets(items, &tests)?;
    let proxied = any.iter().any(|(_, hello)| hello.proxied);
    found.room_for(&[named.len(), versions.len(), offered.len(), 1 + usize::from(proxied)])?;
    for (server_name, encrypted) in &named {
        for (lowest, highest) in &versions {
            for application_protocols in &offered {
                let hello = TlsQuestion {
                    server_name: server_name.clone(),
                    lowest: *lowest,
                    highest: *highest,
                    application_protocols: application_protocols.clone(),
                    encrypted: *encrypted,
                };
                found.push(RequestQuestion::Tls(hello), None);
                if proxied {
                    found.again_proxied(1);
                }
            }
        }
    }
    Ok(())
}

/// Sets of items; the set of nothing alone where no rule asks for any.
fn sets<T: Clone>(items: Vec<T>, tests: &[Test<'_, T>]) -> Result<Vec<Vec<T>>, TooManyKinds> {
    if tests.is_empty() {
        return Ok(vec![Vec::new()]);
    }
    told_apart(items, tests, REQUEST_KINDS_MAX).ok_or(TooManyKinds)
}

fn add_dns(any: &[&DnsMatch], found: &mut Kinds) -> Result<(), TooManyKinds> {
    let names = names(any.iter().flat_map(|question| &question.names));
    let named: BTreeSet<u16> = any.iter().flat_map(|question| &question.records).copied().collect();
    let other = [1, 28, 16, 15].into_iter().chain(0..=u16::MAX).find(|record| !named.contains(record));
    let mut records: Vec<u16> = named.iter().copied().chain(other).collect();
    if !named.is_empty() && !records.contains(&ANY_RECORD) {
        records.push(ANY_RECORD);
    }
    found.room_for(&[names.len(), records.len()])?;
    for name in names {
        for record in &records {
            found.push(RequestQuestion::Dns(DnsAsked { name: name.clone(), record: *record }), None);
        }
    }
    Ok(())
}

fn add_redis(any: &[(bool, &RedisMatch)], found: &mut Kinds) -> Result<(), TooManyKinds> {
    let lower: BTreeSet<String> =
        any.iter().flat_map(|(_, own)| &own.commands).map(|name| name.to_ascii_lowercase()).collect();
    let usual = ["get", "set", "ping", "del"].into_iter().find(|name| !lower.contains(*name));
    let other = usual.map_or_else(|| fresh("other", |text| lower.contains(text)), str::to_owned);
    let commands: Vec<String> = lower.iter().cloned().chain([other]).collect();
    let prefixes: BTreeSet<&str> = any.iter().filter_map(|(_, own)| own.key_prefix.as_deref()).collect();
    // The longest prefix that a key begins with tells all; the key of no bytes begins with none.
    let items: Vec<String> = prefixes.iter().map(|text| (*text).to_owned()).chain([String::new()]).collect();
    let tests: Vec<Test<'_, String>> = any
        .iter()
        .filter(|(_, own)| own.key_prefix.is_some())
        .map(|(deny, own)| {
            let part = RedisMatch { key_prefix: own.key_prefix.clone(), ..RedisMatch::default() };
            test(*deny, L7Section::Redis(vec![part]), |key: &String| {
                RequestQuestion::Redis(RedisQuestion { keys: vec![key.clone()], ..RedisQuestion::default() })
            })
        })
        .collect();
    let keys = sets(items, &tests)?;
    let named: BTreeSet<u32> = any.iter().flat_map(|(_, own)| &own.databases).copied().collect();
    let databases: Vec<Option<u32>> = match named.is_empty() {
        true => vec![Some(0)],
        false => {
            let other = (0..=u32::MAX).find(|number| !named.contains(number));
            named.iter().copied().chain(other).map(Some).chain([None]).collect()
        }
    };
    found.room_for(&[commands.len(), keys.len(), databases.len()])?;
    for command in &commands {
        for keys in &keys {
            for database in &databases {
                let (command, keys, database) = (command.clone(), keys.clone(), *database);
                found.push(RequestQuestion::Redis(RedisQuestion { command, keys, database }), None);
            }
        }
    }
    Ok(())
}

fn add_postgres(any: &[(bool, &PostgresMatch)], found: &mut Kinds) -> Result<(), TooManyKinds> {
    let with_other = |lists: Vec<&Vec<String>>| -> Vec<String> {
        let named: BTreeSet<&str> = lists.into_iter().flatten().map(String::as_str).collect();
        let other = fresh("other", |text| named.contains(text));
        named.iter().map(|text| (*text).to_owned()).chain([other]).collect()
    };
    let users = with_other(any.iter().map(|(_, own)| &own.users).collect());
    let databases = with_other(any.iter().map(|(_, own)| &own.databases).collect());
    let classes = PostgresStatement::NAMED.into_iter().chain([PostgresStatement::Other]).collect();
    let tests: Vec<Test<'_, PostgresStatement>> = any
        .iter()
        .filter(|(_, own)| !own.statements.is_empty())
        .map(|(deny, own)| {
            let part = PostgresMatch { statements: own.statements.clone(), ..PostgresMatch::default() };
            test(*deny, L7Section::Postgres(vec![part]), |class: &PostgresStatement| {
                let statements = vec![*class];
                RequestQuestion::Postgres(PostgresQuestion { statements, ..PostgresQuestion::default() })
            })
        })
        .collect();
    let statements = sets(classes, &tests)?;
    found.room_for(&[users.len(), databases.len(), statements.len()])?;
    for user in &users {
        for database in &databases {
            for statements in &statements {
                let (user, database) = (user.clone(), Some(database.clone()));
                let message = PostgresQuestion { user, database, statements: statements.clone() };
                found.push(RequestQuestion::Postgres(message), None);
            }
        }
    }
    Ok(())
}

fn add_kafka(any: &[(bool, &KafkaMatch)], found: &mut Kinds) -> Result<(), TooManyKinds> {
    let named: BTreeSet<u16> = any.iter().flat_map(|(_, own)| &own.apis).copied().collect();
    let other = (0..=u16::MAX).find(|api| !named.contains(api));
    let apis: Vec<u16> = named.iter().copied().chain(other).collect();
    let (mut whole, mut stems): (BTreeSet<&str>, BTreeSet<&str>) = Default::default();
    for topic in any.iter().flat_map(|(_, own)| &own.topics) {
        match topic {
            TopicMatch::Exact(text) => whole.insert(text),
            TopicMatch::Prefix(text) => stems.insert(text),
        };
    }
    let mut items: Vec<String> = whole.iter().map(|text| (*text).to_owned()).collect();
    items.extend(stems.iter().map(|text| (*text).to_owned()));
    items.extend(beginnings(&stems, &whole, TOPIC_SIGNS));
    let tests: Vec<Test<'_, String>> = any
        .iter()
        .filter(|(_, own)| !own.topics.is_empty())
        .map(|(deny, own)| {
            let part = KafkaMatch { topics: own.topics.clone(), ..KafkaMatch::default() };
            test(*deny, L7Section::Kafka(vec![part]), |topic: &String| {
                RequestQuestion::Kafka(KafkaQuestion { topics: vec![topic.clone()], api: 0 })
            })
        })
        .collect();
    let topics = sets(items, &tests)?;
    found.room_for(&[apis.len(), topics.len()])?;
    for api in apis {
        for topics in &topics {
            found.push(RequestQuestion::Kafka(KafkaQuestion { api, topics: topics.clone() }), None);
        }
    }
    Ok(())
}

//! Under what the alternatives of each protocol are filed, and where a request looks.
//!
//! | protocol | first thing | second | third |
//! |---|---|---|---|
//! | TLS | server name | | |
//! | DNS | name | type of record | |
//! | Redis | command | how keys begin | database |
//! | PostgreSQL | user | database | |
//! | Kafka | API | topic | |
//!
//! Allows and denies are filed apart, since they are met differently: of several keys or topics an allow needs all, so the
//! first one leads to it; a deny needs one, so each may. What is not known (a hidden name, no key, no database) has a number
//! of its own, under which every deny lies that it could be meant by.

use super::filed::{ANY, FIRST, Place};
use super::matching::ANY_RECORD;
use super::words::Words;
use crate::model::{DnsMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch};
use bulkhead_facts::{KafkaRequest, Request, TlsHello};

/// A name that is encrypted; a key, topic or database that is not known.
const UNKNOWN: u32 = 1;
/// A client that sends no name.
const NAMELESS: u32 = 2;
/// Bytes of the longest command that is looked up; rules for longer ones are looked at one by one.
const COMMAND_BYTES_MAX: usize = 64;

/// What the place of an alternative leaves to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing: whoever looks there matches.
    Nothing,
    /// The other keys or topics, where there are several.
    Others,
    /// What places do not speak of.
    Some,
    /// All of it.
    Whole,
}

/// One alternative of a section on its way to its places.
pub(super) struct Alternative {
    /// What it asks for; nothing of a kind is an empty list.
    pub(super) asked: [Vec<u32>; 3],
    /// What its places do not say of it.
    pub(super) rest: Rest,
    /// The same in words, so that what is the same again can be told.
    pub(super) remaining: L7Section,
    /// All of it.
    pub(super) all: L7Section,
}

/// Every alternative of a section, in order.
pub(super) fn alternatives(section: &L7Section, deny: bool, words: &mut [Words; 2]) -> Vec<Alternative> {
    let [first, second] = words;
    match section {
        L7Section::Http(_) => Vec::new(),
        L7Section::Tls(wanted) => {
            let remaining = TlsMatch { min: wanted.min, alpn: wanted.alpn.clone(), ..TlsMatch::default() };
            let rest = if remaining == TlsMatch::default() { Rest::Nothing } else { Rest::Some };
            let (asked, remaining) = (tls(wanted, deny, first), L7Section::Tls(remaining));
            vec![Alternative { asked, rest, remaining, all: section.clone() }]
        }
        L7Section::Dns(any) => {
            each(any, L7Section::Dns, |wanted| (dns(wanted, deny, first), Rest::Nothing, DnsMatch::default()))
        }
        L7Section::Redis(any) => each(any, L7Section::Redis, |wanted| {
            let key_prefix = wanted.key_prefix.clone().filter(|_| !deny);
            let rest = if key_prefix.is_some() { Rest::Others } else { Rest::Nothing };
            let (asked, is_whole) = redis(wanted, deny, [&mut *first, &mut *second]);
            let rest = if is_whole { Rest::Whole } else { rest };
            (asked, rest, RedisMatch { key_prefix, ..RedisMatch::default() })
        }),
        L7Section::Postgres(any) => each(any, L7Section::Postgres, |wanted| {
            let asked = [exact(&wanted.users, first), exact(&wanted.databases, second), vec![]];
            let rest = if wanted.statements.is_empty() { Rest::Nothing } else { Rest::Some };
            let statements = wanted.statements.clone();
            (asked, rest, PostgresMatch { statements, ..PostgresMatch::default() })
        }),
        L7Section::Kafka(any) => each(any, L7Section::Kafka, |wanted| {
            let topics = if deny { vec![] } else { wanted.topics.clone() };
            let rest = if topics.is_empty() { Rest::Nothing } else { Rest::Others };
            (kafka(wanted, deny, first), rest, KafkaMatch { topics, ..KafkaMatch::default() })
        }),
    }
}

fn each<T: Clone>(
    any: &[T],
    wrap: fn(Vec<T>) -> L7Section,
    mut asked: impl FnMut(&T) -> ([Vec<u32>; 3], Rest, T),
) -> Vec<Alternative> {
    let one = |wanted: &T| {
        let (asked, rest, remaining) = asked(wanted);
        Alternative { asked, rest, remaining: wrap(vec![remaining]), all: wrap(vec![wanted.clone()]) }
    };
    any.iter().map(one).collect()
}

fn tls(wanted: &TlsMatch, deny: bool, names: &mut Words) -> [Vec<u32>; 3] {
    let mut asked: Vec<u32> = wanted.sni.iter().map(|pattern| names.add_name(pattern)).collect();
    let any_name = wanted.sni.is_empty() && !wanted.encrypted && !wanted.nameless;
    if !any_name {
        asked.extend((wanted.encrypted || deny).then_some(UNKNOWN));
        asked.extend((wanted.nameless || deny).then_some(NAMELESS));
    }
    [distinct(asked), vec![], vec![]]
}

fn dns(wanted: &DnsMatch, deny: bool, names: &mut Words) -> [Vec<u32>; 3] {
    let asked = wanted.names.iter().map(|pattern| names.add_name(pattern)).collect();
    let mut records: Vec<u32> = wanted.records.iter().copied().map(number).collect();
    if deny && !records.is_empty() {
        records.push(number(ANY_RECORD));
    }
    [distinct(asked), distinct(records), vec![]]
}

fn redis(wanted: &RedisMatch, deny: bool, [commands, keys]: [&mut Words; 2]) -> ([Vec<u32>; 3], bool) {
    let long = wanted.commands.iter().any(|name| name.len() > COMMAND_BYTES_MAX);
    let lower = wanted.commands.iter().filter(|_| !long).map(|name| name.to_ascii_lowercase());
    let asked = lower.map(|name| commands.add_exact(name.as_bytes())).collect();
    let mut begins: Vec<u32> =
        wanted.key_prefix.iter().map(|prefix| keys.add_prefix(prefix.as_bytes())).collect();
    let mut databases: Vec<u32> =
        wanted.databases.iter().map(|database| keys.add_exact(&database.to_be_bytes())).collect();
    if deny {
        begins.extend(wanted.key_prefix.as_ref().map(|_| UNKNOWN));
        databases.extend((!databases.is_empty()).then_some(UNKNOWN));
    }
    ([distinct(asked), begins, distinct(databases)], long)
}

fn kafka(wanted: &KafkaMatch, deny: bool, topics: &mut Words) -> [Vec<u32>; 3] {
    let apis = wanted.apis.iter().copied().map(number).collect();
    let topic = |topic: &TopicMatch| match topic {
        TopicMatch::Exact(text) => topics.add_exact(text.as_bytes()),
        TopicMatch::Prefix(text) => topics.add_prefix(text.as_bytes()),
    };
    let mut asked: Vec<u32> = wanted.topics.iter().map(topic).collect();
    if deny && !asked.is_empty() {
        asked.push(UNKNOWN);
    }
    [distinct(apis), distinct(asked), vec![]]
}

fn exact(texts: &[String], words: &mut Words) -> Vec<u32> {
    distinct(texts.iter().map(|text| words.add_exact(text.as_bytes())).collect())
}

fn number(number: u16) -> u32 {
    FIRST + u32::from(number)
}

fn distinct(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Tells every place in which an alternative can lie that matches the request.
pub(super) fn each_place(request: &Request<'_>, deny: bool, words: &[Words; 2], mut tell: impl FnMut(Place)) {
    let [first, second] = words;
    match request {
        Request::Http(_) | Request::Opaque => {}
        Request::Tls(hello) => each_name(hello, first, |name| tell([name, ANY, ANY])),
        Request::Dns(question) => {
            let record = number(question.record);
            let mut both = |name| [ANY, record].into_iter().for_each(|record| tell([name, record, ANY]));
            both(ANY);
            first.each_name(question.name, both);
        }
        Request::Redis(command) => {
            let mut lower = [0; COMMAND_BYTES_MAX];
            let asked = [Some(ANY), first.exact(lower_case(command.name, &mut lower))];
            let known = |database: u32| second.exact(&database.to_be_bytes());
            let databases = [Some(ANY), command.database.map_or(Some(UNKNOWN), known)];
            each_begin(command.keys, deny, second, |begins| {
                for asked in asked.into_iter().flatten() {
                    databases.into_iter().flatten().for_each(|database| tell([asked, begins, database]));
                }
            });
        }
        Request::Postgres(message) => {
            let databases = [Some(ANY), second.exact(message.database.as_bytes())];
            for user in [Some(ANY), first.exact(message.user.as_bytes())].into_iter().flatten() {
                databases.into_iter().flatten().for_each(|database| tell([user, database, ANY]));
            }
        }
        Request::Kafka(request) => {
            let apis = [ANY, number(request.api)];
            each_topic(request, deny, first, |topic| {
                apis.into_iter().for_each(|api| tell([api, topic, ANY]));
            });
        }
    }
}

fn each_name(hello: &TlsHello<'_>, names: &Words, mut tell: impl FnMut(u32)) {
    tell(ANY);
    match (hello.encrypted, hello.server_name) {
        (true, _) => tell(UNKNOWN),
        (false, None) => tell(NAMELESS),
        (false, Some(name)) => names.each_name(name, tell),
    }
}

/// How keys may begin: for an allow all have to, so the first one's ways do.
fn each_begin(keys: &[&[u8]], deny: bool, words: &Words, mut tell: impl FnMut(u32)) {
    tell(ANY);
    if keys.is_empty() {
        tell(UNKNOWN);
    }
    let looked_at = if deny { keys } else { keys.get(..1).unwrap_or_default() };
    looked_at.iter().for_each(|key| words.each_prefix(key, &mut tell));
}

/// The topics, whole and by how they begin, likewise.
fn each_topic(request: &KafkaRequest<'_>, deny: bool, words: &Words, mut tell: impl FnMut(u32)) {
    tell(ANY);
    if request.topics.is_empty() {
        tell(UNKNOWN);
    }
    let looked_at = if deny { request.topics } else { request.topics.get(..1).unwrap_or_default() };
    for topic in looked_at {
        words.exact(topic.as_bytes()).into_iter().for_each(&mut tell);
        words.each_prefix(topic.as_bytes(), &mut tell);
    }
}

/// The name in lower case; one that is longer than any that is looked up stays as it is, and is found by nobody.
fn lower_case<'a>(name: &'a str, buffer: &'a mut [u8; COMMAND_BYTES_MAX]) -> &'a [u8] {
    let Some(lower) = buffer.get_mut(..name.len()) else { return name.as_bytes() };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    lower
}

//! Layer-7 sections of an entry on the wire.
//!
//! An entry without a section matches everything, so one whose section is of a kind that is not known here must not be read
//! as such: `narrowed` says that there is one.

use crate::InvalidMessage;
use crate::field::{name, name_pattern, narrow};
use crate::program::all;
use crate::v1;
use crate::v1::l7_entry::Section;
use bulkhead_facts::{PostgresStatement, TlsVersion};
use bulkhead_policies::model::{
    DnsMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch,
};

type Checked<T> = Result<T, InvalidMessage>;

/// Reads the section of an entry, if it has one.
pub(crate) fn section(wire: Option<Section>, narrowed: bool) -> Checked<Option<L7Section>> {
    let Some(wire) = wire else {
        return if narrowed { Err(InvalidMessage::Missing("entry.section")) } else { Ok(None) };
    };
    Ok(Some(match wire {
        Section::Http(http) => L7Section::Http(all(http.alternatives)?),
        Section::Tls(tls) => L7Section::Tls(tls.try_into()?),
        Section::Dns(dns) => L7Section::Dns(all(dns.alternatives)?),
        Section::Redis(redis) => L7Section::Redis(all(redis.alternatives)?),
        Section::Postgres(postgres) => L7Section::Postgres(all(postgres.alternatives)?),
        Section::Kafka(kafka) => L7Section::Kafka(all(kafka.alternatives)?),
    }))
}

/// Writes a section.
pub(crate) fn write_section(section: &L7Section) -> Section {
    match section {
        L7Section::Http(http) => Section::Http(v1::HttpMatches { alternatives: written(http) }),
        L7Section::Tls(tls) => Section::Tls(tls.into()),
        L7Section::Dns(dns) => Section::Dns(v1::DnsMatches { alternatives: written(dns) }),
        L7Section::Redis(redis) => Section::Redis(v1::RedisMatches { alternatives: written(redis) }),
        L7Section::Postgres(postgres) => {
            Section::Postgres(v1::PostgresMatches { alternatives: written(postgres) })
        }
        L7Section::Kafka(kafka) => Section::Kafka(v1::KafkaMatches { alternatives: written(kafka) }),
    }
}

fn written<'a, T, W: From<&'a T>>(matches: &'a [T]) -> Vec<W> {
    matches.iter().map(W::from).collect()
}

fn names(field: &'static str, wire: Vec<String>) -> Checked<Vec<String>> {
    wire.into_iter().map(|text| name(field, text)).collect()
}

impl TryFrom<v1::TlsMatch> for TlsMatch {
    type Error = InvalidMessage;

    fn try_from(wire: v1::TlsMatch) -> Checked<Self> {
        let version = |text: String| {
            let found = TlsVersion::ALL.into_iter().find(|version| version.as_str() == text);
            found.ok_or(InvalidMessage::Unknown { field: "tls.min", value: text })
        };
        let pattern = |text| name_pattern("tls.sni", text);
        Ok(Self {
            sni: wire.sni.into_iter().map(pattern).collect::<Result<_, _>>()?,
            min: wire.min.map(version).transpose()?,
            alpn: names("tls.alpn", wire.alpn)?,
            encrypted: wire.encrypted,
            nameless: wire.nameless,
            proxied: wire.proxied,
        })
    }
}

impl From<&TlsMatch> for v1::TlsMatch {
    fn from(tls: &TlsMatch) -> Self {
        Self {
            sni: tls.sni.iter().map(ToString::to_string).collect(),
            min: tls.min.map(|version| version.as_str().to_owned()),
            alpn: tls.alpn.clone(),
            encrypted: tls.encrypted,
            nameless: tls.nameless,
            proxied: tls.proxied,
        }
    }
}

impl TryFrom<v1::DnsMatch> for DnsMatch {
    type Error = InvalidMessage;

    fn try_from(wire: v1::DnsMatch) -> Checked<Self> {
        let pattern = |text| name_pattern("dns.names", text);
        Ok(Self {
            names: wire.names.into_iter().map(pattern).collect::<Result<_, _>>()?,
            records: wire.records.into_iter().map(|n| narrow("dns.records", n)).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&DnsMatch> for v1::DnsMatch {
    fn from(dns: &DnsMatch) -> Self {
        Self {
            names: dns.names.iter().map(ToString::to_string).collect(),
            records: dns.records.iter().copied().map(u32::from).collect(),
        }
    }
}

impl TryFrom<v1::RedisMatch> for RedisMatch {
    type Error = InvalidMessage;

    fn try_from(wire: v1::RedisMatch) -> Checked<Self> {
        Ok(Self {
            commands: names("redis.commands", wire.commands)?,
            key_prefix: wire.key_prefix.map(|prefix| name("redis.key_prefix", prefix)).transpose()?,
            databases: wire.databases,
        })
    }
}

impl From<&RedisMatch> for v1::RedisMatch {
    fn from(redis: &RedisMatch) -> Self {
        Self {
            commands: redis.commands.clone(),
            key_prefix: redis.key_prefix.clone(),
            databases: redis.databases.clone(),
        }
    }
}

impl TryFrom<v1::PostgresMatch> for PostgresMatch {
    type Error = InvalidMessage;

    fn try_from(wire: v1::PostgresMatch) -> Checked<Self> {
        let statement = |text: String| {
            let found = PostgresStatement::NAMED.into_iter().find(|class| class.as_str() == text);
            found.ok_or(InvalidMessage::Unknown { field: "postgres.statements", value: text })
        };
        Ok(Self {
            users: names("postgres.users", wire.users)?,
            databases: names("postgres.databases", wire.databases)?,
            statements: wire.statements.into_iter().map(statement).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&PostgresMatch> for v1::PostgresMatch {
    fn from(postgres: &PostgresMatch) -> Self {
        Self {
            users: postgres.users.clone(),
            databases: postgres.databases.clone(),
            statements: postgres.statements.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::KafkaMatch> for KafkaMatch {
    type Error = InvalidMessage;

    fn try_from(wire: v1::KafkaMatch) -> Checked<Self> {
        let exact = names("kafka.topics", wire.topics)?.into_iter().map(TopicMatch::Exact);
        let prefixes =
            names("kafka.topic_prefixes", wire.topic_prefixes)?.into_iter().map(TopicMatch::Prefix);
        Ok(Self {
            apis: wire.apis.into_iter().map(|n| narrow("kafka.apis", n)).collect::<Result<_, _>>()?,
            topics: exact.chain(prefixes).collect(),
        })
    }
}

/// Alternatives have no order of their own: prefixes are read back behind whole topics.
impl From<&KafkaMatch> for v1::KafkaMatch {
    fn from(kafka: &KafkaMatch) -> Self {
        let mut wire = Self { apis: kafka.apis.iter().copied().map(u32::from).collect(), ..Self::default() };
        for topic in &kafka.topics {
            match topic {
                TopicMatch::Exact(text) => wire.topics.push(text.clone()),
                TopicMatch::Prefix(text) => wire.topic_prefixes.push(text.clone()),
            }
        }
        wire
    }
}

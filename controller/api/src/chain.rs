//! The layer-7 part of a program on the wire.

use crate::InvalidMessage;
use crate::field::{effect_kind, effect_or_none, name, narrow, required, text};
use crate::limits::FLOW_TEXT_BYTES_MAX;
use crate::program::all;
use crate::section::{section, write_section};
use crate::v1;
use bulkhead_facts::{HostPattern, PathTemplate};
use bulkhead_policies::model::{HeaderMatch, HeaderValueMatch, HttpMatch, QueryMatch};
use bulkhead_policies::program::{AnswerId, L7Chain, L7Entry, L7Stage, RuleIndex};

impl TryFrom<v1::L7Chain> for L7Chain {
    type Error = InvalidMessage;

    fn try_from(wire: v1::L7Chain) -> Result<Self, InvalidMessage> {
        Ok(Self {
            enforced: all(wire.enforced)?,
            shadow: all(wire.shadow)?,
            end: AnswerId(narrow("chain.end", wire.end)?),
        })
    }
}

impl From<&L7Chain> for v1::L7Chain {
    fn from(chain: &L7Chain) -> Self {
        Self {
            enforced: chain.enforced.iter().map(Into::into).collect(),
            shadow: chain.shadow.iter().map(Into::into).collect(),
            end: chain.end.0.into(),
        }
    }
}

impl TryFrom<v1::L7Stage> for L7Stage {
    type Error = InvalidMessage;

    fn try_from(wire: v1::L7Stage) -> Result<Self, InvalidMessage> {
        Ok(Self { entries: all(wire.entries)? })
    }
}

impl From<&L7Stage> for v1::L7Stage {
    fn from(stage: &L7Stage) -> Self {
        Self { entries: stage.entries.iter().map(Into::into).collect() }
    }
}

impl TryFrom<v1::L7Entry> for L7Entry {
    type Error = InvalidMessage;

    fn try_from(wire: v1::L7Entry) -> Result<Self, InvalidMessage> {
        Ok(Self {
            rule: RuleIndex(wire.rule),
            effect: effect_or_none("entry.effect", wire.effect)?,
            section: section(wire.section, wire.narrowed)?,
        })
    }
}

impl From<&L7Entry> for v1::L7Entry {
    fn from(entry: &L7Entry) -> Self {
        Self {
            rule: entry.rule.0,
            effect: entry.effect.map_or(v1::EffectKind::EffectUnspecified, effect_kind).into(),
            section: entry.section.as_ref().map(write_section),
            narrowed: entry.section.is_some(),
        }
    }
}

impl TryFrom<v1::HttpMatch> for HttpMatch {
    type Error = InvalidMessage;

    fn try_from(wire: v1::HttpMatch) -> Result<Self, InvalidMessage> {
        let path = |path: String| {
            PathTemplate::parse(&path).map_err(|e| InvalidMessage::unreadable("http.path", &path, e))
        };
        let host = |host: String| {
            HostPattern::parse(&host).map_err(|e| InvalidMessage::unreadable("http.hosts", &host, e))
        };
        Ok(Self {
            methods: wire.methods.into_iter().map(|m| name("http.methods", m)).collect::<Result<_, _>>()?,
            path: wire.path.map(path).transpose()?,
            hosts: wire.hosts.into_iter().map(host).collect::<Result<_, _>>()?,
            headers: all(wire.headers)?,
            query: all(wire.query)?,
            websocket: wire.websocket,
            frames_checked: wire.frames_checked,
            proxied: wire.proxied,
        })
    }
}

impl From<&HttpMatch> for v1::HttpMatch {
    fn from(http: &HttpMatch) -> Self {
        Self {
            methods: http.methods.clone(),
            path: http.path.as_ref().map(ToString::to_string),
            hosts: http.hosts.iter().map(ToString::to_string).collect(),
            headers: http.headers.iter().map(Into::into).collect(),
            query: http.query.iter().map(Into::into).collect(),
            websocket: http.websocket,
            frames_checked: http.frames_checked,
            proxied: http.proxied,
        }
    }
}

impl TryFrom<v1::QueryMatch> for QueryMatch {
    type Error = InvalidMessage;

    fn try_from(wire: v1::QueryMatch) -> Result<Self, InvalidMessage> {
        Ok(Self { name: name("query.name", wire.name)?, present: wire.present })
    }
}

impl From<&QueryMatch> for v1::QueryMatch {
    fn from(query: &QueryMatch) -> Self {
        Self { name: query.name.clone(), present: query.present }
    }
}

impl TryFrom<v1::HeaderMatch> for HeaderMatch {
    type Error = InvalidMessage;

    fn try_from(wire: v1::HeaderMatch) -> Result<Self, InvalidMessage> {
        let header = name("header.name", wire.name)?;
        if header.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidMessage::unreadable("header.name", &header, "not in lower case"));
        }
        let value = match required("header.value", wire.value)? {
            v1::header_match::Value::Present(true) => HeaderValueMatch::Present,
            v1::header_match::Value::Present(false) => HeaderValueMatch::Absent,
            v1::header_match::Value::Exact(value) => {
                HeaderValueMatch::Exact(text("header.exact", value, FLOW_TEXT_BYTES_MAX)?)
            }
            v1::header_match::Value::Prefix(value) => {
                HeaderValueMatch::Prefix(text("header.prefix", value, FLOW_TEXT_BYTES_MAX)?)
            }
        };
        Ok(Self { name: header, value })
    }
}

impl From<&HeaderMatch> for v1::HeaderMatch {
    fn from(header: &HeaderMatch) -> Self {
        let value = match &header.value {
            HeaderValueMatch::Present => v1::header_match::Value::Present(true),
            HeaderValueMatch::Absent => v1::header_match::Value::Present(false),
            HeaderValueMatch::Exact(value) => v1::header_match::Value::Exact(value.clone()),
            HeaderValueMatch::Prefix(value) => v1::header_match::Value::Prefix(value.clone()),
        };
        Self { name: header.name.clone(), value: Some(value) }
    }
}

//! Sections of rules as documents write them, and values in one line of YAML.

use crate::model::HeaderValueMatch;
use crate::model::{HttpMatch, L7Section, TlsMatch};
use crate::questions::{HttpQuestion, RequestQuestion, api_name, record_name};
use bulkhead_facts::{HostName, HostPattern, PathTemplate, PostgresStatement, UrlPath};
use serde_json::{Map, Value, json};

/// A section that means exactly this request, with its name; `None` where no section can mean it: then it has to be
/// sent in its plain form, or with what a rule can name.
pub(super) fn section(request: &RequestQuestion) -> Option<(&'static str, Value)> {
    let item = item(request, None)?;
    let name = request.protocol();
    Some((name, if name == "tls" { item } else { json!([item]) }))
}

/// One alternative that means this request: what else another alternative asks for, and the request has, is kept.
pub(super) fn item(request: &RequestQuestion, like: Option<(&L7Section, usize)>) -> Option<Value> {
    let mut fields = Map::new();
    if !can_be_named(request) {
        return None;
    }
    match request {
        RequestQuestion::Http(http) => return http_item(http, like),
        RequestQuestion::Grpc(call) => {
            fields.insert("service".into(), call.service.clone().into());
            fields.insert("methods".into(), json!([call.method]));
        }
        RequestQuestion::Tls(hello) => {
            match (&hello.server_name, hello.encrypted) {
                (_, true) => fields.insert("ech".into(), true.into()),
                (Some(name), false) => fields.insert("sni".into(), json!([name])),
                (None, false) => fields.insert("noSni".into(), true.into()),
            };
            if !hello.application_protocols.is_empty() {
                fields.insert("alpn".into(), json!(hello.application_protocols));
            }
        }
        RequestQuestion::Dns(question) => {
            fields.insert("names".into(), json!([question.name]));
            fields.insert("types".into(), json!([record_name(question.record)]));
        }
        RequestQuestion::Redis(command) => {
            fields.insert("commands".into(), json!([command.command.to_ascii_lowercase()]));
            let prefix = common_prefix(&command.keys);
            if is_name(prefix) {
                fields.insert("keyPrefix".into(), prefix.into());
            }
            if let Some(number) = command.database {
                fields.insert("databases".into(), json!([number]));
            }
        }
        RequestQuestion::Postgres(message) => {
            // What no class names is taken only where none is.
            if message.statements.contains(&PostgresStatement::Other) && !message.statements.is_empty() {
                return None;
            }
            let database = message.database.as_ref().unwrap_or(&message.user);
            fields.insert("users".into(), json!([message.user]));
            fields.insert("databases".into(), json!([database]));
            if !message.statements.is_empty() {
                let mut classes: Vec<&str> = message.statements.iter().map(|class| class.as_str()).collect();
                classes.dedup();
                fields.insert("statements".into(), json!(classes));
            }
        }
        RequestQuestion::Kafka(asked) => {
            fields.insert("apis".into(), json!([api_name(asked.api)]));
            if !asked.topics.is_empty() {
                fields.insert("topics".into(), json!(asked.topics));
            }
        }
    }
    Some(fields.into())
}

fn http_item(http: &HttpQuestion, like: Option<(&L7Section, usize)>) -> Option<Value> {
    let like = match like {
        Some((L7Section::Http(any), at)) => any.get(at),
        _ => None,
    };
    let mut fields = Map::new();
    fields.insert("methods".into(), json!([http.method]));
    fields.insert("path".into(), path_of(http, like)?.into());
    if like.is_some_and(|like| !like.hosts.is_empty())
        && let Some(host) = http.host.as_deref().and_then(|host| HostName::parse_authority(host).ok())
    {
        fields.insert("hosts".into(), json!([HostPattern::Exact(host.0).to_string()]));
    }
    let kept = like.map(|like| kept_headers(like, http)).unwrap_or_default();
    if !kept.is_empty() {
        fields.insert("headers".into(), kept.into());
    }
    Some(fields.into())
}

/// The path itself if a template can mean it; else the template that means it already.
fn path_of(http: &HttpQuestion, like: Option<&HttpMatch>) -> Option<String> {
    let raw = http.target.split('?').next().unwrap_or_default();
    let path = UrlPath::parse(raw).ok()?;
    if let Ok(exact) = PathTemplate::parse(path.normal())
        && exact.matches(&path)
    {
        return Some(exact.as_str().to_owned());
    }
    let template = like.and_then(|like| like.path.as_ref())?;
    template.matches(&path).then(|| template.as_str().to_owned())
}

/// Requirements on header fields that the request meets.
fn kept_headers(like: &HttpMatch, http: &HttpQuestion) -> Vec<Value> {
    let met = like.headers.iter().filter(|header| {
        let part = HttpMatch { headers: vec![(*header).clone()], ..HttpMatch::default() };
        let section = L7Section::Http(vec![part]);
        RequestQuestion::Http(http.clone()).with(|request| {
            let allow = Some(bulkhead_facts::Effect::Allow);
            request.is_ok_and(|request| crate::decide::section_matches(&section, &request, allow))
        })
    });
    let written = met.map(|header| match &header.value {
        HeaderValueMatch::Present => json!({"name": header.name, "present": true}),
        HeaderValueMatch::Absent => json!({"name": header.name, "present": false}),
        HeaderValueMatch::Exact(text) => json!({"name": header.name, "exact": text}),
        HeaderValueMatch::Prefix(text) => json!({"name": header.name, "prefix": text}),
    });
    written.collect()
}

/// What of a `tls` section has to change for a field to take a hello: the field, its new value, and whether it is an item
/// that is added to the list that is there.
pub(super) fn tls_field(
    own: &TlsMatch,
    request: &RequestQuestion,
    field: &str,
) -> Option<(&'static str, Value, bool)> {
    let RequestQuestion::Tls(hello) = request else { return None };
    match field {
        "sni" => {
            let name = hello.server_name.as_ref()?;
            Some(match own.sni.is_empty() {
                true => ("sni", json!([name]), false),
                false => ("sni", json!(name), true),
            })
        }
        "ech" => Some(("ech", true.into(), false)),
        "noSni" => Some(("noSni", true.into(), false)),
        "min" => Some(("min", hello.lowest.as_str().into(), false)),
        // A client that offers none meets no list.
        "alpn" if hello.application_protocols.is_empty() => None,
        "alpn" => {
            let all = own.alpn.iter().chain(&hello.application_protocols);
            let all: std::collections::BTreeSet<&String> = all.collect();
            Some(("alpn", json!(all), false))
        }
        _ => None,
    }
}

/// True if a document takes the names of the request.
fn can_be_named(request: &RequestQuestion) -> bool {
    let host = |name: &str| HostName::parse(name).is_ok_and(|name| !name.is_address());
    match request {
        RequestQuestion::Http(_) | RequestQuestion::Grpc(_) => true,
        RequestQuestion::Tls(hello) => hello.encrypted || hello.server_name.as_deref().is_none_or(host),
        RequestQuestion::Dns(question) => host(&question.name),
        RequestQuestion::Redis(command) => is_word(&command.command, "_.-", 64),
        RequestQuestion::Postgres(message) => {
            is_name(&message.user) && message.database.as_deref().is_none_or(is_name)
        }
        RequestQuestion::Kafka(asked) => asked.topics.iter().all(|topic| is_word(topic, "._-", 249)),
    }
}

fn common_prefix(keys: &[String]) -> &str {
    let Some((first, rest)) = keys.split_first() else { return "" };
    let mut length = first.len();
    for key in rest {
        let same = first.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
        length = length.min(same);
    }
    while !first.is_char_boundary(length) {
        length -= 1;
    }
    first.get(..length).unwrap_or_default()
}

/// True for letters, digits and some other signs, up to a length.
pub(crate) fn is_word(text: &str, signs: &str, bytes_max: usize) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || signs.bytes().any(|sign| sign == b);
    !text.is_empty() && text.len() <= bytes_max && text.bytes().all(legal)
}

/// What a document takes as a name that is compared whole.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.chars().any(char::is_control)
        && !text.contains(['*', '?', '^', '$', '|', '(', '['])
}

/// A value in one line of YAML.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| rank(name));
            let each = fields.into_iter().map(|(name, value)| format!("{}: {}", scalar(name), flow(value)));
            format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The order in which people write fields.
fn rank(name: &str) -> usize {
    const ORDER: [&str; 18] = [
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "action",
        "namespaces",
        "namespaceSelector",
        "workloads",
        "podSelector",
        "from",
        "to",
        "ports",
        "protocols",
        "service",
        "methods",
        "path",
        "sni",
        "commands",
    ];
    ORDER.iter().position(|own| *own == name).unwrap_or(ORDER.len())
}

/// Text without quotes where YAML reads it as that text within braces.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/' | b'_'));
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    let number = text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains('/');
    if starts && plain && !word && !number { text.to_owned() } else { Value::from(text).to_string() }
}

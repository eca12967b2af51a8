//! Requests in words: the fields of each protocol, read one by one.
//!
//! The command line gives them as `NAME=VALUE` behind the protocol, a `PolicyTest` as a mapping; both come through
//! [`RequestQuestion::set`], so that both take the same.

use super::{
    DnsAsked, GrpcQuestion, HttpQuestion, KafkaQuestion, PostgresQuestion, RedisQuestion, RequestQuestion,
    TlsQuestion,
};
use crate::diagnostics::{nearest, quoted};
use crate::documents::{APIS, RECORDS};
use bulkhead_facts::{HostName, PostgresStatement, TlsVersion};

/// One field of a request in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordField {
    /// Name on the command line.
    pub name: &'static str,
    /// Name in a document: the plural where several may be given.
    pub in_documents: &'static str,
    /// May be given several times.
    pub several: bool,
    /// Must be given.
    pub required: bool,
}

const fn one(name: &'static str, required: bool) -> WordField {
    WordField { name, in_documents: name, several: false, required }
}

const fn several(name: &'static str, in_documents: &'static str) -> WordField {
    WordField { name, in_documents, several: true, required: false }
}

/// Protocols that are written in words, HTTP apart.
pub const WORD_PROTOCOLS: [&str; 6] = ["grpc", "tls", "dns", "redis", "postgres", "kafka"];

impl RequestQuestion {
    /// A request of a protocol with nothing told yet; `None` for HTTP and for protocols that there are not.
    pub fn begin(protocol: &str) -> Option<Self> {
        match protocol {
            "grpc" => Some(Self::Grpc(GrpcQuestion::default())),
            "tls" => Some(Self::Tls(TlsQuestion::default())),
            "dns" => Some(Self::Dns(DnsAsked::default())),
            "redis" => Some(Self::Redis(RedisQuestion::default())),
            "postgres" => Some(Self::Postgres(PostgresQuestion::default())),
            "kafka" => Some(Self::Kafka(KafkaQuestion::default())),
            _ => None,
        }
    }

    /// The fields of its protocol.
    pub fn word_fields(&self) -> &'static [WordField] {
        const GRPC: [WordField; 2] = [one("service", true), one("method", true)];
        const TLS: [WordField; 4] =
            [one("sni", false), one("version", false), several("alpn", "alpn"), one("ech", false)];
        const DNS: [WordField; 2] = [one("name", true), one("type", false)];
        const REDIS: [WordField; 3] = [one("command", true), several("key", "keys"), one("database", false)];
        const POSTGRES: [WordField; 3] =
            [one("user", true), one("database", false), several("statement", "statements")];
        const KAFKA: [WordField; 2] = [one("api", true), several("topic", "topics")];
        match self {
            Self::Http(_) => &[],
            Self::Grpc(_) => &GRPC,
            Self::Tls(_) => &TLS,
            Self::Dns(_) => &DNS,
            Self::Redis(_) => &REDIS,
            Self::Postgres(_) => &POSTGRES,
            Self::Kafka(_) => &KAFKA,
        }
    }

    /// Reads a request from words: a protocol and `NAME=VALUE`, or `METHOD PATH` of HTTP.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let (first, rest) = words.split_first().ok_or("no request is given")?;
        let Some(mut request) = Self::begin(first) else { return http(words).map(Self::Http) };
        let fields = request.word_fields();
        let mut given: Vec<&str> = Vec::new();
        for (at, word) in rest.iter().enumerate() {
            let (name, value) = match (word.split_once('='), word.split_once('/'), fields.first()) {
                (Some(pair), ..) => pair,
                (None, Some((service, method)), _) if first == "grpc" => {
                    request.set("service", service)?;
                    given.push("service");
                    ("method", method)
                }
                // The first word may be the value of the first field alone: `dns api.test`.
                (None, _, Some(field)) if at == 0 => (field.name, word.as_str()),
                (None, ..) => return Err(not_a_word(word, &request)),
            };
            let field = fields.iter().find(|field| field.name == name);
            let Some(field) = field else { return Err(not_a_word(word, &request)) };
            if !field.several && given.contains(&field.name) {
                return Err(format!("`{name}` is given twice"));
            }
            given.push(field.name);
            request.set(name, value)?;
        }
        match fields.iter().find(|field| field.required && !given.contains(&field.name)) {
            Some(field) => Err(format!("a request of `{first}` needs `{}=…`", field.name)),
            None => Ok(request),
        }
    }

    /// Sets one field, or adds to one that may be given several times; an error says what to write.
    pub fn set(&mut self, field: &str, text: &str) -> Result<(), String> {
        match (self, field) {
            (Self::Grpc(call), "service") => call.service = grpc_name(text)?,
            (Self::Grpc(call), "method") => call.method = grpc_name(text)?,
            (Self::Tls(hello), "sni") => hello.server_name = Some(host(text)?),
            (Self::Tls(hello), "version") => (hello.lowest, hello.highest) = versions(text)?,
            (Self::Tls(hello), "alpn") => hello.application_protocols.push(plain(text)?),
            (Self::Tls(hello), "ech") => hello.encrypted = boolean(text)?,
            (Self::Dns(question), "name") => question.name = host(text)?,
            (Self::Dns(question), "type") => question.record = record(text)?,
            (Self::Redis(command), "command") => command.command = plain(text)?,
            (Self::Redis(command), "key") => command.keys.push(text.to_owned()),
            (Self::Redis(command), "database") => command.database = database(text)?,
            (Self::Postgres(message), "user") => message.user = plain(text)?,
            (Self::Postgres(message), "database") => message.database = Some(plain(text)?),
            (Self::Postgres(message), "statement") => message.statements.push(statement(text)?),
            (Self::Kafka(request), "api") => request.api = api(text)?,
            (Self::Kafka(request), "topic") => request.topics.push(plain(text)?),
            (request, _) => return Err(not_a_word(field, request)),
        }
        Ok(())
    }

    /// The fields as documents name them, each with its texts; those that say nothing are left out. Empty for HTTP.
    pub fn parts(&self) -> Vec<(&'static str, Vec<String>)> {
        let one = |text: &str| vec![text.to_owned()];
        let found = match self {
            Self::Http(_) => Vec::new(),
            Self::Grpc(call) => vec![("service", one(&call.service)), ("method", one(&call.method))],
            Self::Tls(hello) => vec![
                ("sni", hello.server_name.iter().cloned().collect()),
                ("version", vec![shown_versions(hello)]),
                ("alpn", hello.application_protocols.clone()),
                ("ech", if hello.encrypted { one("true") } else { Vec::new() }),
            ],
            Self::Dns(question) => {
                vec![("name", one(&question.name)), ("type", vec![record_name(question.record)])]
            }
            Self::Redis(command) => vec![
                ("command", one(&command.command)),
                ("keys", command.keys.clone()),
                ("database", vec![command.database.map_or("unknown".to_owned(), |n| n.to_string())]),
            ],
            Self::Postgres(message) => vec![
                ("user", one(&message.user)),
                ("database", message.database.iter().cloned().collect()),
                ("statements", message.statements.iter().map(ToString::to_string).collect()),
            ],
            Self::Kafka(request) => {
                vec![("api", vec![api_name(request.api)]), ("topics", request.topics.clone())]
            }
        };
        found.into_iter().filter(|(_, texts)| !texts.is_empty()).collect()
    }
}

fn not_a_word(word: &str, request: &RequestQuestion) -> String {
    let names: Vec<String> =
        request.word_fields().iter().map(|field| format!("`{}=…`", field.name)).collect();
    format!("{} is no field of `{}`: write {}", quoted(word), request.protocol(), names.join(", "))
}

/// `METHOD PATH`, or a path alone.
fn http(words: &[String]) -> Result<HttpQuestion, String> {
    let request = |method: &str, target: &str| HttpQuestion {
        method: method.to_owned(),
        target: target.to_owned(),
        ..HttpQuestion::default()
    };
    let text = words.join(" ");
    let found = match *text.split(' ').collect::<Vec<_>>() {
        [target] if target.starts_with('/') => Some(request("GET", target)),
        [method, target] if target.starts_with('/') || target == "*" => Some(request(method, target)),
        _ => None,
    };
    found.ok_or_else(|| {
        let hint = nearest(words.first().map_or("", String::as_str), WORD_PROTOCOLS);
        let hint = hint.map_or(String::new(), |name| format!(" (did you mean `{name}`?)"));
        format!(
            "{} is no request{hint}: write `GET /path`, or one of `{}` with `NAME=VALUE`",
            quoted(&text),
            WORD_PROTOCOLS.join("`, `")
        )
    })
}

fn host(text: &str) -> Result<String, String> {
    match HostName::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("name {}: {error}", quoted(text))),
    }
}

fn plain(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!(
            "{} is no name: write at least one character, and no control character",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

fn grpc_name(text: &str) -> Result<String, String> {
    let sound = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
    match sound {
        true => Ok(text.to_owned()),
        false => Err(format!("{} is no name of gRPC: write `ledger.v1.Ledger/Append`", quoted(text))),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{} is neither `true` nor `false`", quoted(text)))
}

/// `1.3`, or `1.2-1.3` for what is offered from the lowest to the highest.
fn versions(text: &str) -> Result<(TlsVersion, TlsVersion), String> {
    let version = |text: &str| TlsVersion::ALL.into_iter().find(|version| version.as_str() == text);
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (version(low), version(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        _ => Err(format!("{} is no version of TLS: write `1.3`, or `1.2-1.3` for several", quoted(text))),
    }
}

fn shown_versions(hello: &TlsQuestion) -> String {
    match hello.lowest == hello.highest {
        true => hello.lowest.to_string(),
        false => format!("{}-{}", hello.lowest, hello.highest),
    }
}

fn database(text: &str) -> Result<Option<u32>, String> {
    match (text, text.parse::<u16>()) {
        ("unknown", _) => Ok(None),
        (_, Ok(number)) => Ok(Some(u32::from(number))),
        (_, Err(_)) => Err(format!("{} is no database: write its number, or `unknown`", quoted(text))),
    }
}

fn statement(text: &str) -> Result<PostgresStatement, String> {
    let all = || PostgresStatement::NAMED.into_iter().chain([PostgresStatement::Other]);
    let names: Vec<&str> = all().map(PostgresStatement::as_str).collect();
    all()
        .find(|statement| statement.as_str() == text)
        .ok_or_else(|| unknown("class of statements", text, &names))
}

/// A type of record by its name, or `TYPE65`.
pub(crate) fn record(text: &str) -> Result<u16, String> {
    numbered(text, "type", "TYPE", &RECORDS)
}

/// The number of a type of record by its name as documents write it; `None` where they have none for it.
pub fn record_number(text: &str) -> Option<u16> {
    record(text).ok()
}

/// The name of a type of record.
pub(crate) fn record_name(record: u16) -> String {
    name_of(record, "TYPE", &RECORDS)
}

/// An API key by its name, or `api-3`.
fn api(text: &str) -> Result<u16, String> {
    numbered(text, "API key", "api-", &APIS)
}

/// The name of an API key.
pub(crate) fn api_name(api: u16) -> String {
    name_of(api, "api-", &APIS)
}

fn numbered(text: &str, what: &str, prefix: &str, known: &[(&str, u16)]) -> Result<u16, String> {
    let number = text.strip_prefix(prefix).and_then(|digits| digits.parse().ok());
    let named = || known.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    number.or_else(named).ok_or_else(|| unknown(what, text, &names))
}

fn name_of(number: u16, prefix: &str, known: &[(&str, u16)]) -> String {
    let named = known.iter().find(|(_, own)| *own == number);
    named.map_or_else(|| format!("{prefix}{number}"), |(name, _)| (*name).to_owned())
}

fn unknown(what: &str, text: &str, names: &[&str]) -> String {
    let hint = match nearest(text, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("write {}", crate::yaml::alternatives(names)),
    };
    format!("{what} {} is unknown: {hint}", quoted(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RequestQuestion, String> {
        RequestQuestion::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_request_is_written_as_it_is_read() {
        for text in [
            "GET /a",
            "grpc ledger.v1.Ledger/Append",
            "tls sni=api.test version=1.2-1.3 alpn=h2 alpn=http/1.1 ech=true",
            "tls version=1.3",
            "dns name=api.test type=AAAA",
            "dns name=_grpc._tcp.api.test type=TYPE261",
            "redis command=get key=a key=b",
            "redis command=flushall database=3",
            "redis command=get key= database=unknown",
            "postgres user=app database=shop statement=select statement=other",
            "postgres user=app",
            "kafka api=produce topic=orders",
            "kafka api=api-77",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("/a?b=c").unwrap().to_string(), "GET /a?b=c");
        assert_eq!(parse("grpc service=a.B method=C").unwrap().to_string(), "grpc a.B/C");
        assert_eq!(parse("redis GET key=a").unwrap().to_string(), "redis command=GET key=a");
        assert_eq!(
            parse("tls a.test ech=true").unwrap().to_string(),
            "tls sni=a.test version=1.2-1.3 ech=true"
        );
        assert_eq!(parse("tls").unwrap().to_string(), "tls version=1.2-1.3");
    }

    #[test]
    fn what_is_no_request_is_refused_with_what_to_write() {
        for (text, expected) in [
            ("", "is no request"),
            ("POST", "is no request"),
            ("GET a", "is no request"),
            ("GET /a b", "is no request"),
            ("postgre user=a", "did you mean `postgres`?"),
            ("tls a.test b.test", "`b.test` is no field of `tls`: write `sni=…`"),
            ("tls sni=*.test", "name `*.test`"),
            ("tls version=1.3-1.2", "is no version of TLS"),
            ("tls ech=yes", "neither `true` nor `false`"),
            ("tls sni=a.test sni=b.test", "`sni` is given twice"),
            ("dns type=A", "a request of `dns` needs `name=…`"),
            ("dns name=a.test type=a", "did you mean `A`?"),
            ("redis command=", "is no name"),
            ("redis command=get database=70000", "is no database"),
            ("postgres user=a statement=selct", "did you mean `select`?"),
            ("kafka topic=a", "needs `api=…`"),
            ("kafka api=produc", "did you mean `produce`?"),
            ("grpc Append", "needs `method=…`"),
            ("grpc a/b/c", "is no name of gRPC"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}

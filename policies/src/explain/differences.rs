//! In which parts a request differs from what a rule narrows to.
//!
//! Each part of an alternative is asked on its own, by the function that judges requests: so a part that is told to
//! differ is one that the sidecar sees to differ.

use crate::decide::section_matches;
use crate::model::{
    DnsMatch, HttpMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, Rule, RuleAction, TlsMatch,
};
use crate::questions::{RequestQuestion, TlsQuestion, api_name, record_name};
use std::fmt;

/// One field in which a flow differs from a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The rule does not name the peer.
    Peer,
    /// The rule does not name the port.
    Port,
    /// The bytes cannot be read, or the request was not given.
    NoRequest,
    /// The section speaks of another protocol.
    Section(&'static str),
    /// A part of the section.
    Part {
        /// The field of the section, as documents name it.
        field: &'static str,
        /// Which of several: the name of a header or parameter.
        item: Option<String>,
        /// What differs.
        says: String,
    },
}

impl Difference {
    /// The field of the document that it is about.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Port => "port",
            Self::NoRequest => "request",
            Self::Section(name) => name,
            Self::Part { field, .. } => field,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("the peer is not named"),
            Self::Port => f.write_str("the port is not named"),
            Self::NoRequest => f.write_str("no request is seen"),
            Self::Section(name) => write!(f, "only what `{name}` names is meant, and that is not seen"),
            Self::Part { says, .. } => f.write_str(says),
        }
    }
}

/// What a request lacks for a rule to take it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Nothing if the rule takes it.
    pub(super) differs: Vec<Difference>,
    /// The alternative of the section that comes nearest.
    pub(super) nearest: usize,
}

/// Compares with the alternative that comes nearest.
pub(super) fn compare(rule: &Rule, request: Option<&RequestQuestion>) -> Compared {
    let deny = rule.action == RuleAction::Deny;
    let only = |differs: Vec<Difference>| Compared { differs, nearest: 0 };
    let Some(section) = &rule.l7 else { return Compared::default() };
    let Some(request) = request else {
        // A deny takes what cannot be read.
        return only(if deny { Vec::new() } else { vec![Difference::NoRequest] });
    };
    if !speaks_of(section, request) {
        return only(if deny { Vec::new() } else { vec![Difference::Section(section.name())] });
    }
    let differs = |parts: Vec<(L7Section, Difference)>| -> Vec<Difference> {
        let failing = parts.into_iter().filter(|(part, _)| !takes(part, request, rule.action));
        failing.map(|(_, difference)| difference).collect()
    };
    let each = alternatives(section, request).into_iter().map(differs).enumerate();
    match each.min_by_key(|(_, differs)| differs.len()) {
        Some((nearest, differs)) => Compared { differs, nearest },
        // No alternative: nothing is meant.
        None => only(vec![Difference::Section(section.name())]),
    }
}

/// True if the section speaks of the protocol of the request.
pub(super) fn speaks_of(section: &L7Section, request: &RequestQuestion) -> bool {
    matches!(
        (section, request),
        (L7Section::Http(_), RequestQuestion::Http(_) | RequestQuestion::Grpc(_))
            | (L7Section::Tls(_), RequestQuestion::Tls(_))
            | (L7Section::Dns(_), RequestQuestion::Dns(_))
            | (L7Section::Redis(_), RequestQuestion::Redis(_))
            | (L7Section::Postgres(_), RequestQuestion::Postgres(_))
            | (L7Section::Kafka(_), RequestQuestion::Kafka(_))
    )
}

fn takes(section: &L7Section, request: &RequestQuestion, action: RuleAction) -> bool {
    request.with(|request| match request {
        Ok(request) => section_matches(section, &request, action.effect()),
        // The sidecar refuses it before any rule is asked.
        Err(_) => false,
    })
}

/// The parts of each alternative, with what differs where one does not match.
fn alternatives(section: &L7Section, request: &RequestQuestion) -> Vec<Vec<(L7Section, Difference)>> {
    match section {
        L7Section::Http(any) => any.iter().map(|own| http(own, request)).collect(),
        L7Section::Tls(own) => vec![tls(own, request)],
        L7Section::Dns(any) => any.iter().map(|own| dns(own, request)).collect(),
        L7Section::Redis(any) => any.iter().map(|own| redis(own, request)).collect(),
        L7Section::Postgres(any) => any.iter().map(|own| postgres(own, request)).collect(),
        L7Section::Kafka(any) => any.iter().map(|own| kafka(own, request)).collect(),
    }
}

fn part(section: L7Section, field: &'static str, says: String) -> (L7Section, Difference) {
    (section, Difference::Part { field, item: None, says })
}

fn http(own: &HttpMatch, request: &RequestQuestion) -> Vec<(L7Section, Difference)> {
    let Some(http) = request.as_http() else { return Vec::new() };
    let one = |part: HttpMatch| L7Section::Http(vec![part]);
    let mut found = Vec::new();
    let methods = HttpMatch { methods: own.methods.clone(), ..HttpMatch::default() };
    found.push(part(one(methods), "methods", format!("method `{}` is not named", http.method)));
    let path = http.target.split('?').next().unwrap_or_default();
    let says = match request {
        RequestQuestion::Grpc(call) => format!("call `{}/{}` is not named", call.service, call.method),
        _ => format!("path `{path}` does not match"),
    };
    found.push(part(one(HttpMatch { path: own.path.clone(), ..HttpMatch::default() }), "path", says));
    let says = match &http.host {
        Some(host) => format!("host `{host}` is not named"),
        None => "the request names no host".to_owned(),
    };
    found.push(part(one(HttpMatch { hosts: own.hosts.clone(), ..HttpMatch::default() }), "hosts", says));
    for header in &own.headers {
        let says = format!("header `{}` is not as required", header.name);
        let section = one(HttpMatch { headers: vec![header.clone()], ..HttpMatch::default() });
        found.push((section, Difference::Part { field: "headers", item: Some(header.name.clone()), says }));
    }
    for wanted in &own.query {
        let says = format!("parameter `{}` of the query is not as required", wanted.name);
        let section = one(HttpMatch { query: vec![wanted.clone()], ..HttpMatch::default() });
        found.push((section, Difference::Part { field: "query", item: Some(wanted.name.clone()), says }));
    }
    let says = "whether it becomes a WebSocket is not as required".to_owned();
    found.push(part(one(HttpMatch { websocket: own.websocket, ..HttpMatch::default() }), "websocket", says));
    found
}

fn tls(own: &TlsMatch, request: &RequestQuestion) -> Vec<(L7Section, Difference)> {
    let RequestQuestion::Tls(hello) = request else { return Vec::new() };
    let TlsQuestion { server_name, lowest, application_protocols, encrypted, .. } = hello;
    let (field, says) = match (encrypted, server_name) {
        (true, _) => ("ech", "the client hides the name that it means (ECH)".to_owned()),
        (false, None) => ("noSni", "the client names no server".to_owned()),
        (false, Some(name)) => ("sni", format!("server name `{name}` is not named")),
    };
    let by_name = TlsMatch { min: None, alpn: Vec::new(), ..own.clone() };
    let min = TlsMatch { min: own.min, ..TlsMatch::default() };
    let alpn = TlsMatch { alpn: own.alpn.clone(), ..TlsMatch::default() };
    vec![
        part(L7Section::Tls(by_name), field, says),
        part(L7Section::Tls(min), "min", format!("version `{lowest}` is offered, which is too low")),
        part(
            L7Section::Tls(alpn),
            "alpn",
            match application_protocols.is_empty() {
                true => "no application protocol is offered".to_owned(),
                false => format!(
                    "not every one of the application protocols {} is named",
                    listed(application_protocols)
                ),
            },
        ),
    ]
}

fn dns(own: &DnsMatch, request: &RequestQuestion) -> Vec<(L7Section, Difference)> {
    let RequestQuestion::Dns(question) = request else { return Vec::new() };
    let names = DnsMatch { names: own.names.clone(), ..DnsMatch::default() };
    let types = DnsMatch { records: own.records.clone(), ..DnsMatch::default() };
    let (name, record) = (&question.name, record_name(question.record));
    vec![
        part(L7Section::Dns(vec![names]), "names", format!("name `{name}` is not named")),
        part(L7Section::Dns(vec![types]), "types", format!("type `{record}` is not named")),
    ]
}

fn redis(own: &RedisMatch, request: &RequestQuestion) -> Vec<(L7Section, Difference)> {
    let RequestQuestion::Redis(command) = request else { return Vec::new() };
    let commands = RedisMatch { commands: own.commands.clone(), ..RedisMatch::default() };
    let keys = RedisMatch { key_prefix: own.key_prefix.clone(), ..RedisMatch::default() };
    let databases = RedisMatch { databases: own.databases.clone(), ..RedisMatch::default() };
    let says = match &command.keys[..] {
        [] => "the command names no key, and may act on all".to_owned(),
        keys => format!("not every one of the keys {} begins as required", listed(keys)),
    };
    let database = match command.database {
        Some(number) => format!("database `{number}` is not named"),
        None => "the database is not known".to_owned(),
    };
    vec![
        part(
            L7Section::Redis(vec![commands]),
            "commands",
            format!("command `{}` is not named", command.command),
        ),
        part(L7Section::Redis(vec![keys]), "keyPrefix", says),
        part(L7Section::Redis(vec![databases]), "databases", database),
    ]
}

fn postgres(own: &PostgresMatch, request: &RequestQuestion) -> Vec<(L7Section, Difference)> {
    let RequestQuestion::Postgres(message) = request else { return Vec::new() };
    let users = PostgresMatch { users: own.users.clone(), ..PostgresMatch::default() };
    let databases = PostgresMatch { databases: own.databases.clone(), ..PostgresMatch::default() };
    let statements = PostgresMatch { statements: own.statements.clone(), ..PostgresMatch::default() };
    let classes: Vec<String> = message.statements.iter().map(ToString::to_string).collect();
    let database = message.database.as_deref().unwrap_or(&message.user);
    vec![
        part(L7Section::Postgres(vec![users]), "users", format!("user `{}` is not named", message.user)),
        part(
            L7Section::Postgres(vec![databases]),
            "databases",
            format!("database `{database}` is not named"),
        ),
        part(
            L7Section::Postgres(vec![statements]),
            "statements",
            format!("not every one of the statements {} is named", listed(&classes)),
        ),
    ]
}

fn kafka(own: &KafkaMatch, request: &RequestQuestion) -> Vec<(L7Section, Difference)> {
    let RequestQuestion::Kafka(asked) = request else { return Vec::new() };
    let apis = KafkaMatch { apis: own.apis.clone(), ..KafkaMatch::default() };
    let topics = KafkaMatch { topics: own.topics.clone(), ..KafkaMatch::default() };
    let says = match &asked.topics[..] {
        [] => "the request names no topic, and may speak of all".to_owned(),
        topics => format!("not every one of the topics {} is named", listed(topics)),
    };
    vec![
        part(L7Section::Kafka(vec![apis]), "apis", format!("API key `{}` is not named", api_name(asked.api))),
        part(L7Section::Kafka(vec![topics]), "topics", says),
    ]
}

fn listed(items: &[String]) -> String {
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}

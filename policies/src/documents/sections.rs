//! The L7 sections other than `http`: `grpc`, `tls`, `dns`, `redis`, `postgres`, `kafka`.
//!
//! Each becomes its part of the model, or is refused: a rule with a name that nobody can send would never fire. A call of
//! gRPC is an HTTP request and becomes one. There are no regular expressions anywhere.

use super::peers::name_pattern;
use crate::diagnostics::{Report, Span, nearest, quoted};
use crate::limits::{REQUEST_ITEMS_MAX, RULE_ITEMS_MAX};
use crate::model::{
    DnsMatch, HeaderMatch, HeaderValueMatch, HttpMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch,
    RuleAction, TlsMatch, TopicMatch,
};
use crate::yaml::{Fields, Node, Nulls};
use bulkhead_facts::{PathTemplate, PostgresStatement, TlsVersion};

/// Sections of a rule, in the order of the reference.
pub(crate) const SECTIONS: [&str; 7] = ["http", "grpc", "tls", "dns", "redis", "postgres", "kafka"];

/// Reads a section by its name.
pub(super) fn read(report: &mut Report, name: &str, node: &Node, action: RuleAction) -> Option<L7Section> {
    match name {
        "http" => super::http::read(report, node, action).map(L7Section::Http),
        "grpc" => {
            let calls = each(report, node, "grpc", |report, item| grpc(report, item, action))?;
            Some(L7Section::Http(calls.into_iter().flatten().collect()))
        }
        "tls" => tls(report, node, action).map(L7Section::Tls),
        "dns" => each(report, node, "dns", dns).map(L7Section::Dns),
        "redis" => each(report, node, "redis", redis).map(L7Section::Redis),
        "postgres" => each(report, node, "postgres", postgres).map(L7Section::Postgres),
        "kafka" => each(report, node, "kafka", kafka).map(L7Section::Kafka),
        _ => None,
    }
}

fn each<T: Ord>(
    report: &mut Report,
    node: &Node,
    name: &str,
    read: impl Fn(&mut Report, &Node) -> Option<T>,
) -> Option<Vec<T>> {
    let items = node.expect_list(report, name)?;
    if items.is_empty() {
        report
            .error("matches-nobody", node.span, format!("`{name}` is empty: it matches nothing"))
            .help(format!("say what is meant, or write `{name}: [{{}}]` for everything that it can be"));
        return None;
    }
    if items.len() > RULE_ITEMS_MAX {
        report.over_limit(
            "RULE_ITEMS_MAX",
            node.span,
            format!("more than {RULE_ITEMS_MAX} items in `{name}`"),
            "split the rule",
        );
        return None;
    }
    let mut found: Vec<T> = items.iter().filter_map(|item| read(report, item)).collect();
    found.sort();
    found.dedup();
    Some(found)
}

/// Items of a list of texts, each read; an empty or overlong list is an error.
fn texts<T: Ord>(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl Fn(&mut Report, &str, Span) -> Option<T>,
) -> Vec<T> {
    let Some(node) = fields.get(report, name) else { return Vec::new() };
    let Some(items) = node.expect_list(report, name) else { return Vec::new() };
    check_length(report, node.span, name, items.len());
    let item = |item: &Node| {
        let text = item.expect_text(report, name)?;
        read(report, text, item.span)
    };
    let mut found: Vec<T> = items.iter().filter_map(item).collect();
    found.sort();
    found.dedup();
    found
}

fn check_length(report: &mut Report, span: Span, name: &str, length: usize) {
    if length == 0 {
        report
            .error("empty-list", span, format!("`{name}` is empty: it would match nothing"))
            .help(format!("remove `{name}` if any will do"));
    }
    if length > REQUEST_ITEMS_MAX {
        report.over_limit(
            "REQUEST_ITEMS_MAX",
            span,
            format!("more than {REQUEST_ITEMS_MAX} items in `{name}`"),
            "split the item",
        );
    }
}

fn word<T: Copy>(
    report: &mut Report,
    text: &str,
    span: Span,
    what: &str,
    known: &[(&'static str, T)],
) -> Option<T> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
        return Some(*value);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let help = match nearest(text, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("write {}", crate::yaml::alternatives(&names)),
    };
    report.error("bad-value", span, format!("{what} {} is unknown", quoted(text))).help(help);
    None
}

/// Text that is compared whole: nothing in it means anything else.
fn plain(report: &mut Report, text: &str, span: Span, what: &str) -> Option<String> {
    if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        report
            .error("bad-name", span, format!("{} is no {what}", quoted(text)))
            .help("write between 1 and 255 characters without control characters");
        return None;
    }
    if text.contains(['*', '?', '^', '$', '|', '(', '[']) {
        report
            .error("bad-name", span, format!("{what} {} looks like a pattern", quoted(text)))
            .help("names are compared whole: write each one out");
        return None;
    }
    Some(text.to_owned())
}

/// The requests that a call is: `POST /SERVICE/METHOD` with a content type of gRPC. A deny does not ask for the
/// content type, since a server may take a call without it.
fn grpc(report: &mut Report, node: &Node, action: RuleAction) -> Option<Vec<HttpMatch>> {
    let mut fields = Fields::open(report, node, "a call", Nulls::Refused)?;
    let service = fields.get(report, "service");
    let methods = texts(report, &mut fields, "methods", |report, text, span| {
        grpc_name(report, text, span, "method", |b| b.is_ascii_alphanumeric() || b == b'_')
    });
    let has_methods = fields.has("methods");
    fields.finish(report);
    let service = match service {
        Some(node) => {
            let text = node.expect_text(report, "service")?;
            let part = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
            grpc_name(report, text, node.span, "service", part)?
        }
        None => "{service}".to_owned(),
    };
    if has_methods && methods.is_empty() {
        return None;
    }
    let methods = if methods.is_empty() { vec!["{method}".to_owned()] } else { methods };
    let content_type = HeaderMatch {
        name: "content-type".to_owned(),
        value: HeaderValueMatch::Prefix("application/grpc".to_owned()),
    };
    let request = |method: String| {
        Some(HttpMatch {
            methods: vec!["POST".to_owned()],
            path: Some(PathTemplate::parse(&format!("/{service}/{method}")).ok()?),
            headers: if action == RuleAction::Deny { Vec::new() } else { vec![content_type.clone()] },
            ..HttpMatch::default()
        })
    };
    Some(methods.into_iter().filter_map(request).collect())
}

fn grpc_name(
    report: &mut Report,
    text: &str,
    span: Span,
    what: &str,
    part: impl Fn(u8) -> bool,
) -> Option<String> {
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let sound = begins && text.len() <= 255 && text.bytes().all(part) && !text.contains("..");
    if !sound || text.ends_with('.') {
        let help = match what {
            "service" => {
                "write its full name, for example `ledger.v1.Ledger`; leave it out for every service"
            }
            _ => "write its name, for example `Append`; leave `methods` out for all: there are no patterns",
        };
        report.error("bad-name", span, format!("{} is no {what} of gRPC", quoted(text))).help(help);
        return None;
    }
    Some(text.to_owned())
}

fn tls(report: &mut Report, node: &Node, action: RuleAction) -> Option<TlsMatch> {
    let mut fields = Fields::open(report, node, "`tls`", Nulls::Refused)?;
    let sni = texts(report, &mut fields, "sni", name_pattern);
    let versions = TlsVersion::ALL.map(|version| (version.as_str(), version));
    let min = fields.choice(report, "min", &versions);
    let alpn = texts(report, &mut fields, "alpn", |report, text, span| {
        plain(report, text, span, "application protocol")
    });
    let encrypted = fields.boolean(report, "ech").unwrap_or_default();
    let nameless = fields.boolean(report, "noSni").unwrap_or_default();
    let proxied = super::http::proxied(report, &mut fields, action);
    fields.finish(report);
    Some(TlsMatch { sni, min, alpn, encrypted, nameless, proxied })
}

/// Types of records by name (IANA, DNS Resource Record Types).
pub(crate) const RECORDS: [(&str, u16); 18] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("NULL", 10),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DS", 43),
    ("DNSKEY", 48),
    ("TLSA", 52),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("ANY", 255),
    ("CAA", 257),
];

fn dns(report: &mut Report, node: &Node) -> Option<DnsMatch> {
    let mut fields = Fields::open(report, node, "a question", Nulls::Refused)?;
    let names = texts(report, &mut fields, "names", name_pattern);
    let records = texts(report, &mut fields, "types", |report, text, span| {
        let number = text.strip_prefix("TYPE").and_then(|digits| digits.parse::<u16>().ok());
        number.or_else(|| word(report, text, span, "type", &RECORDS))
    });
    fields.finish(report);
    Some(DnsMatch { names, records })
}

fn redis(report: &mut Report, node: &Node) -> Option<RedisMatch> {
    let mut fields = Fields::open(report, node, "a command", Nulls::Refused)?;
    let commands = texts(report, &mut fields, "commands", |report, text, span| {
        let sound = text.len() <= 64
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if text.is_empty() || !sound {
            report
                .error("bad-name", span, format!("{} is no command of Redis", quoted(text)))
                .help("write the first word of the command, for example `get` or `config`");
            return None;
        }
        Some(text.to_ascii_lowercase())
    });
    let prefix = fields.get(report, "keyPrefix").and_then(|node| {
        let text = node.expect_text(report, "keyPrefix")?;
        plain(report, text, node.span, "prefix of a key")
    });
    let mut databases = Vec::new();
    if let Some(node) = fields.get(report, "databases")
        && let Some(items) = node.expect_list(report, "databases")
    {
        check_length(report, node.span, "databases", items.len());
        let number = |item: &Node| item.expect_integer(report, "databases", 0..=i64::from(u16::MAX));
        databases = items.iter().filter_map(number).filter_map(|n| u32::try_from(n).ok()).collect();
        databases.sort_unstable();
        databases.dedup();
    }
    fields.finish(report);
    Some(RedisMatch { commands, key_prefix: prefix, databases })
}

fn postgres(report: &mut Report, node: &Node) -> Option<PostgresMatch> {
    let mut fields = Fields::open(report, node, "a session", Nulls::Refused)?;
    let users = texts(report, &mut fields, "users", |report, text, span| plain(report, text, span, "user"));
    let databases =
        texts(report, &mut fields, "databases", |report, text, span| plain(report, text, span, "database"));
    let classes = PostgresStatement::NAMED.map(|class| (class.as_str(), class));
    let statements = texts(report, &mut fields, "statements", |report, text, span| {
        word(report, text, span, "class of statements", &classes)
    });
    fields.finish(report);
    Some(PostgresMatch { users, databases, statements })
}

/// API keys by name (Kafka protocol guide).
pub(crate) const APIS: [(&str, u16); 30] = [
    ("produce", 0),
    ("fetch", 1),
    ("list-offsets", 2),
    ("metadata", 3),
    ("offset-commit", 8),
    ("offset-fetch", 9),
    ("find-coordinator", 10),
    ("join-group", 11),
    ("heartbeat", 12),
    ("leave-group", 13),
    ("sync-group", 14),
    ("describe-groups", 15),
    ("list-groups", 16),
    ("sasl-handshake", 17),
    ("api-versions", 18),
    ("create-topics", 19),
    ("delete-topics", 20),
    ("delete-records", 21),
    ("init-producer-id", 22),
    ("offset-for-leader-epoch", 23),
    ("add-partitions-to-txn", 24),
    ("add-offsets-to-txn", 25),
    ("end-txn", 26),
    ("txn-offset-commit", 28),
    ("describe-acls", 29),
    ("create-acls", 30),
    ("delete-acls", 31),
    ("describe-configs", 32),
    ("alter-configs", 33),
    ("sasl-authenticate", 36),
];

fn kafka(report: &mut Report, node: &Node) -> Option<KafkaMatch> {
    let mut fields = Fields::open(report, node, "a request", Nulls::Refused)?;
    let apis = texts(report, &mut fields, "apis", |report, text, span| {
        let number = text.strip_prefix("api-").and_then(|digits| digits.parse::<u16>().ok());
        number.or_else(|| word(report, text, span, "API key", &APIS))
    });
    let topics = texts(report, &mut fields, "topics", topic);
    fields.finish(report);
    Some(KafkaMatch { apis, topics })
}

/// `NAME`, or `PREFIX*`.
fn topic(report: &mut Report, text: &str, span: Span) -> Option<TopicMatch> {
    let (name, prefix) = match text.strip_suffix('*') {
        Some(front) => (front, true),
        None => (text, false),
    };
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 249 || !name.bytes().all(legal) {
        report
            .error("bad-name", span, format!("{} is no topic", quoted(text)))
            .help("write its name, or how several begin: `orders.*` with the star at the end");
        return None;
    }
    let name = name.to_owned();
    Some(if prefix { TopicMatch::Prefix(name) } else { TopicMatch::Exact(name) })
}

//! Proposed policies as YAML, in one canonical form: equal policies are equal bytes.

use crate::inventory::Labels;
use crate::model::{L7Section, TopicMatch};
use crate::questions::{api_name, record_name};
use bulkhead_facts::{Direction, L4Protocol};
use std::fmt::Write;
use std::net::IpAddr;

/// One SegmentPolicy.
pub(super) struct PolicyText {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) workloads: Labels,
    pub(super) ingress: Vec<RuleText>,
    pub(super) egress: Vec<RuleText>,
}

/// One rule.
pub(super) struct RuleText {
    pub(super) name: String,
    pub(super) peer: PeerText,
    pub(super) protocol: L4Protocol,
    pub(super) port: u16,
    pub(super) narrowed: Narrowed,
}

/// What a rule narrows to.
pub(super) enum Narrowed {
    /// Nothing: layer 4.
    No,
    /// Requests of HTTP, sorted by path, then host.
    Http(Vec<RequestText>),
    /// What another protocol's section says.
    To(L7Section),
}

/// Whom a rule names.
#[derive(Clone)]
pub(super) enum PeerText {
    Workload { namespace: Option<String>, labels: Labels },
    Service(String),
    Address(IpAddr),
}

/// Requests of one path.
pub(super) struct RequestText {
    pub(super) methods: Vec<String>,
    pub(super) path: String,
    pub(super) host: Option<String>,
}

impl PolicyText {
    /// The document.
    pub(super) fn yaml(&self) -> String {
        let mut out = String::from("apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\n");
        let (name, namespace) = (scalar(&self.name), scalar(&self.namespace));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "metadata: {{name: {name}, namespace: {namespace}}}");
        let _ = writeln!(out, "spec:\n  workloads: {}", labels(&self.workloads));
        for (direction, rules) in [(Direction::Ingress, &self.ingress), (Direction::Egress, &self.egress)] {
            match rules[..] {
                [] => drop(writeln!(out, "  {direction}: []")),
                _ => drop(writeln!(out, "  {direction}:")),
            }
            rules.iter().for_each(|rule| rule.write(direction, &mut out));
        }
        out
    }
}

impl RuleText {
    fn write(&self, direction: Direction, out: &mut String) {
        let field = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let _ = writeln!(out, "    - name: {}", scalar(&self.name));
        let _ = writeln!(out, "      {field}: [{}]", self.peer.yaml());
        let _ = writeln!(out, "      ports: [{}]", port_yaml(self.protocol, self.port));
        let items: Vec<String> = match &self.narrowed {
            Narrowed::No => return,
            Narrowed::Http(requests) => requests.iter().map(RequestText::yaml).collect(),
            Narrowed::To(section) => items(section),
        };
        let (name, is_list) = match &self.narrowed {
            Narrowed::To(section) => (section.name(), !matches!(section, L7Section::Tls(_))),
            Narrowed::No | Narrowed::Http(_) => ("http", true),
        };
        if !is_list {
            let _ = writeln!(out, "      {name}: {}", items.concat());
            return;
        }
        let _ = writeln!(out, "      {name}:");
        for item in items {
            let _ = writeln!(out, "        - {item}");
        }
    }

    /// The rule in one line.
    pub(super) fn summary(&self, direction: Direction) -> String {
        let word = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let mut out = format!("{word} {} on {}", self.peer.yaml(), port_name(self.protocol, self.port));
        match &self.narrowed {
            Narrowed::No => {}
            Narrowed::Http(requests) => {
                let texts: Vec<_> =
                    requests.iter().map(|r| format!("{} {}", r.methods.join("|"), r.path)).collect();
                let _ = write!(out, ": {}", texts.join(", "));
            }
            Narrowed::To(section) => {
                let _ = write!(out, ": {} {}", section.name(), items(section).join(", "));
            }
        }
        out
    }
}

impl RequestText {
    fn yaml(&self) -> String {
        let methods: Vec<_> = self.methods.iter().map(|method| scalar(method)).collect();
        let mut out = format!("{{methods: [{}], path: {}", methods.join(", "), quoted(&self.path));
        if let Some(host) = &self.host {
            let _ = write!(out, ", hosts: [{}]", quoted(host));
        }
        out + "}"
    }
}

/// The alternatives of a section, each in one line; the whole of `tls`.
pub(super) fn items(section: &L7Section) -> Vec<String> {
    match section {
        // Written from requests, not from what they came to.
        L7Section::Http(_) => Vec::new(),
        L7Section::Tls(hello) => vec![mapping([
            list("sni", hello.sni.iter().map(|name| quoted(&name.to_string()))),
            hello.min.map(|min| format!("min: {}", quoted(min.as_str()))),
            list("alpn", hello.alpn.iter().map(|protocol| quoted(protocol))),
            hello.encrypted.then(|| "ech: true".to_owned()),
            hello.nameless.then(|| "noSni: true".to_owned()),
        ])],
        L7Section::Dns(questions) => questions
            .iter()
            .map(|question| {
                mapping([
                    list("names", question.names.iter().map(|name| quoted(&name.to_string()))),
                    list("types", question.records.iter().map(|record| record_name(*record))),
                ])
            })
            .collect(),
        L7Section::Redis(commands) => commands
            .iter()
            .map(|command| {
                mapping([
                    list("commands", command.commands.iter().map(|name| scalar(name))),
                    command.key_prefix.as_ref().map(|prefix| format!("keyPrefix: {}", quoted(prefix))),
                    list("databases", command.databases.iter().map(u32::to_string)),
                ])
            })
            .collect(),
        L7Section::Postgres(messages) => messages
            .iter()
            .map(|message| {
                mapping([
                    list("users", message.users.iter().map(|user| scalar(user))),
                    list("databases", message.databases.iter().map(|database| scalar(database))),
                    list("statements", message.statements.iter().map(|class| class.as_str().to_owned())),
                ])
            })
            .collect(),
        L7Section::Kafka(requests) => requests
            .iter()
            .map(|request| {
                mapping([
                    list("apis", request.apis.iter().map(|api| api_name(*api))),
                    list("topics", request.topics.iter().map(topic)),
                ])
            })
            .collect(),
    }
}

fn topic(topic: &TopicMatch) -> String {
    match topic {
        TopicMatch::Exact(name) => scalar(name),
        TopicMatch::Prefix(front) => quoted(&format!("{front}*")),
    }
}

/// `NAME: [ITEM, …]`; nothing where there are none, since no list means any.
fn list(name: &str, items: impl Iterator<Item = String>) -> Option<String> {
    let items: Vec<String> = items.collect();
    if items.is_empty() { None } else { Some(format!("{name}: [{}]", items.join(", "))) }
}

fn mapping<const N: usize>(fields: [Option<String>; N]) -> String {
    let fields: Vec<String> = fields.into_iter().flatten().collect();
    format!("{{{}}}", fields.join(", "))
}

impl PeerText {
    fn yaml(&self) -> String {
        match self {
            Self::Workload { namespace: None, labels: own } => format!("{{workloads: {}}}", labels(own)),
            Self::Workload { namespace: Some(namespace), labels: own } => {
                format!("{{namespaces: {{name: {}}}, workloads: {}}}", scalar(namespace), labels(own))
            }
            Self::Service(name) => format!("{{service: {}}}", quoted(name)),
            Self::Address(address) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                format!("{{cidr: {}}}", quoted(&format!("{address}/{bits}")))
            }
        }
    }
}

/// How a port is called in names and summaries.
pub(super) fn port_name(protocol: L4Protocol, port: u16) -> String {
    match protocol {
        L4Protocol::TCP => port.to_string(),
        L4Protocol::ICMP | L4Protocol::ICMPV6 => format!("{protocol}-{}", port >> 8),
        protocol => format!("{protocol}-{port}"),
    }
}

fn port_yaml(protocol: L4Protocol, port: u16) -> String {
    match protocol {
        L4Protocol::TCP => port.to_string(),
        L4Protocol::ICMP | L4Protocol::ICMPV6 => quoted(&format!("{protocol}/{}", port >> 8)),
        protocol => quoted(&format!("{protocol}/{port}")),
    }
}

fn labels(labels: &Labels) -> String {
    let pairs: Vec<_> =
        labels.iter().map(|(key, value)| format!("{}: {}", scalar(key), scalar(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Plain where nobody could read it as anything but this text, else quoted.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    if starts && plain && !word { text.to_owned() } else { quoted(text) }
}

/// A JSON string is a double-quoted scalar of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

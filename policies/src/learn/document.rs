//! Proposed policies as YAML, in one canonical form: equal policies are equal bytes.

use crate::inventory::Labels;
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
    /// Sorted by path, then host.
    pub(super) requests: Vec<RequestText>,
}

/// Whom a rule names.
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
        if !self.requests.is_empty() {
            let _ = writeln!(out, "      http:");
        }
        for request in &self.requests {
            let methods: Vec<_> = request.methods.iter().map(|method| scalar(method)).collect();
            let _ =
                write!(out, "        - {{methods: [{}], path: {}", methods.join(", "), quoted(&request.path));
            if let Some(host) = &request.host {
                let _ = write!(out, ", hosts: [{}]", quoted(host));
            }
            let _ = writeln!(out, "}}");
        }
    }

    /// The rule in one line.
    pub(super) fn summary(&self, direction: Direction) -> String {
        let word = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let mut out = format!("{word} {} on {}", self.peer.yaml(), port_name(self.protocol, self.port));
        for (at, request) in self.requests.iter().enumerate() {
            let _ = write!(
                out,
                "{} {} {}",
                if at == 0 { ":" } else { "," },
                request.methods.join("|"),
                request.path
            );
        }
        out
    }
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

//! Policies of the model as documents, in the layout of `bulkhead policy fmt`.
//!
//! Only what importers build: a peer that is `Unknown` has no document and never gets here.

use crate::diagnostics::Source;
use crate::documents::{API_VERSION, APIS, NAMESPACE_NAME_LABEL};
use crate::model::{
    Entity, HeaderValueMatch, HttpMatch, KafkaMatch, L7Section, NamespaceMatch, Operator, Peer, Peers,
    Policy, PolicyMode, PortMatch, Ports, Requirement, Rule, RuleAction, Selector, TopicMatch,
};
use crate::yaml;
use bulkhead_facts::{Direction, L4Protocol, PortRange, Tier};
use std::fmt::Write;

/// All of them, in the order given.
pub(super) fn documents(policies: &[Policy]) -> String {
    let text: Vec<String> = policies.iter().map(document).collect();
    let source = Source { name: String::new(), text: text.join("---\n") };
    // What is written here is strict YAML; if it were not, the reader of the result says so.
    yaml::format(&source).unwrap_or(source.text)
}

fn document(policy: &Policy) -> String {
    let origin = &policy.origin;
    let mut out = format!("apiVersion: {API_VERSION}\nkind: {}\n", origin.kind);
    // Writing to a string cannot fail.
    let _ = match &origin.namespace {
        Some(namespace) => {
            writeln!(out, "metadata: {{name: {}, namespace: {}}}", scalar(&origin.name), scalar(namespace))
        }
        None => writeln!(out, "metadata: {{name: {}}}", scalar(&origin.name)),
    };
    out.push_str("spec:\n");
    let cluster = policy.tier != Tier::Namespace;
    if cluster {
        let _ = writeln!(out, "  tier: {}\n  priority: {}", policy.tier.as_str(), policy.priority);
        let subject = parts(&policy.subject.namespaces, &policy.subject.workloads);
        let _ = writeln!(out, "  subjects: {subject}");
    } else if !policy.subject.workloads.requirements.is_empty() {
        let _ = writeln!(out, "  workloads: {}", selector(&policy.subject.workloads));
    }
    match policy.mode {
        PolicyMode::Inherit => {}
        PolicyMode::Audit => out.push_str("  mode: audit\n"),
        PolicyMode::AuditRemoval => out.push_str("  mode: audit-removal\n"),
    }
    for direction in Direction::BOTH {
        let rules = policy.rules(direction);
        if rules.is_empty() && policy.isolates[direction as usize] {
            let _ = writeln!(out, "  {direction}: []");
        } else if !rules.is_empty() {
            let _ = writeln!(out, "  {direction}:");
        }
        rules.iter().for_each(|rule| write_rule(&mut out, rule, direction, cluster));
    }
    out
}

fn write_rule(out: &mut String, rule: &Rule, direction: Direction, cluster: bool) {
    let _ = writeln!(out, "    - name: {}", scalar(&rule.name));
    if cluster {
        let action = match rule.action {
            RuleAction::Allow => "allow",
            RuleAction::Deny => "deny",
            RuleAction::Pass => "pass",
        };
        let _ = writeln!(out, "      action: {action}");
    }
    if let Peers::These(peers) = &rule.peers {
        let field = if direction == Direction::Ingress { "from" } else { "to" };
        write_list(out, field, peers.iter().map(peer));
    }
    if let Ports::These(ports) = &rule.ports {
        write_list(out, "ports", ports.iter().map(port));
    }
    match &rule.l7 {
        None => {}
        Some(L7Section::Http(requests)) => write_items(out, "http", requests.iter().map(request)),
        Some(L7Section::Tls(hello)) => {
            let _ =
                writeln!(out, "      tls: {{{}}}", texts("sni", hello.sni.iter().map(ToString::to_string)));
        }
        Some(L7Section::Dns(questions)) => {
            let names = questions.iter().map(|dns| texts("names", dns.names.iter().map(ToString::to_string)));
            write_items(out, "dns", names.map(|fields| format!("{{{fields}}}")));
        }
        Some(L7Section::Kafka(requests)) => write_items(out, "kafka", requests.iter().map(kafka)),
        // Importers name no command and no user.
        Some(L7Section::Redis(_)) => write_items(out, "redis", std::iter::once("{}".to_owned())),
        Some(L7Section::Postgres(_)) => write_items(out, "postgres", std::iter::once("{}".to_owned())),
    }
}

fn write_items(out: &mut String, field: &str, items: impl Iterator<Item = String>) {
    let _ = writeln!(out, "      {field}:");
    items.for_each(|item| {
        let _ = writeln!(out, "        - {item}");
    });
}

/// `field: [a, b]`, or nothing for an empty list.
fn texts(field: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|item| scalar(&item)).collect();
    if items.is_empty() { String::new() } else { format!("{field}: [{}]", items.join(", ")) }
}

fn kafka(request: &KafkaMatch) -> String {
    let api = |api: &u16| match APIS.iter().find(|(_, known)| known == api) {
        Some((name, _)) => (*name).to_owned(),
        None => format!("api-{api}"),
    };
    let topic = |topic: &TopicMatch| match topic {
        TopicMatch::Exact(text) => text.clone(),
        TopicMatch::Prefix(text) => format!("{text}*"),
    };
    let fields =
        [texts("apis", request.apis.iter().map(api)), texts("topics", request.topics.iter().map(topic))];
    let written: Vec<String> = fields.into_iter().filter(|field| !field.is_empty()).collect();
    format!("{{{}}}", written.join(", "))
}

fn write_list(out: &mut String, field: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    let _ = writeln!(out, "      {field}: [{}]", items.join(", "));
}

fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Workloads { namespaces, workloads } => parts(namespaces, workloads),
        Peer::Service { namespace, name } => {
            format!("{{service: {}}}", scalar(&format!("{namespace}/{name}")))
        }
        Peer::Cidr { block, except } if except.is_empty() => {
            format!("{{cidr: {}}}", scalar(&block.to_string()))
        }
        Peer::Cidr { block, except } => {
            let holes: Vec<String> = except.iter().map(|hole| scalar(&hole.to_string())).collect();
            format!("{{cidr: {}, except: [{}]}}", scalar(&block.to_string()), holes.join(", "))
        }
        Peer::Entity(entity) => format!("{{entity: {}}}", entity_name(*entity)),
        Peer::Name(pattern) => format!("{{fqdn: {}}}", scalar(&pattern.to_string())),
        // Importers build no other peer; if one does, the reader of the result refuses this field.
        _ => "{unknown: true}".to_owned(),
    }
}

fn entity_name(entity: Entity) -> &'static str {
    match entity {
        Entity::World => "world",
        Entity::Cluster => "cluster",
        Entity::Node => "node",
        Entity::KubeApiserver => "kube-apiserver",
        Entity::Dns => "dns",
        Entity::Metadata => "metadata",
    }
}

fn parts(namespaces: &NamespaceMatch, workloads: &Selector) -> String {
    match namespaces {
        NamespaceMatch::Own(_) => format!("{{workloads: {}}}", selector(workloads)),
        NamespaceMatch::Labels(labels) if workloads.requirements.is_empty() => {
            format!("{{namespaces: {}}}", namespace_selector(labels))
        }
        NamespaceMatch::Labels(labels) => {
            format!("{{namespaces: {}, workloads: {}}}", namespace_selector(labels), selector(workloads))
        }
    }
}

/// A namespace by name in the short form, where it is nothing else.
fn namespace_selector(labels: &Selector) -> String {
    match &labels.requirements[..] {
        [Requirement { key, operator: Operator::In(values) }] if key == NAMESPACE_NAME_LABEL => {
            match &values[..] {
                [one] => format!("{{name: {}}}", scalar(one)),
                many => format!("{{name: [{}]}}", joined(many)),
            }
        }
        _ => selector(labels),
    }
}

fn selector(selector: &Selector) -> String {
    let short = |requirement: &Requirement| {
        matches!(&requirement.operator, Operator::In(values) if values.len() == 1)
            // The words of the other form, and the short form of a namespace's name.
            && !["matchLabels", "matchExpressions", "name"].contains(&requirement.key.as_str())
    };
    let keys: std::collections::BTreeSet<&str> =
        selector.requirements.iter().map(|r| r.key.as_str()).collect();
    if keys.len() == selector.requirements.len() && selector.requirements.iter().all(short) {
        let pairs: Vec<String> = selector.requirements.iter().filter_map(pair).collect();
        return format!("{{{}}}", pairs.join(", "));
    }
    let expressions: Vec<String> = selector.requirements.iter().map(expression).collect();
    format!("{{matchExpressions: [{}]}}", expressions.join(", "))
}

fn pair(requirement: &Requirement) -> Option<String> {
    match &requirement.operator {
        Operator::In(values) => Some(format!("{}: {}", scalar(&requirement.key), scalar(values.first()?))),
        Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist => None,
    }
}

fn expression(requirement: &Requirement) -> String {
    let (operator, values) = match &requirement.operator {
        Operator::In(values) => ("In", &values[..]),
        Operator::NotIn(values) => ("NotIn", &values[..]),
        Operator::Exists => ("Exists", &[][..]),
        Operator::DoesNotExist => ("DoesNotExist", &[][..]),
    };
    let key = scalar(&requirement.key);
    if values.is_empty() {
        return format!("{{key: {key}, operator: {operator}}}");
    }
    format!("{{key: {key}, operator: {operator}, values: [{}]}}", joined(values))
}

fn joined(values: &[String]) -> String {
    values.iter().map(|value| scalar(value)).collect::<Vec<_>>().join(", ")
}

fn port(port: &PortMatch) -> String {
    match port {
        PortMatch::Named(None, name) => scalar(name),
        PortMatch::Named(Some(protocol), name) => format!("{protocol}/{name}"),
        PortMatch::Range(protocol, range) if *range == PortRange::ALL => protocol.to_string(),
        PortMatch::Range(protocol, range) if protocol.is_icmp() => {
            format!("{protocol}/{}", range.first() >> 8)
        }
        PortMatch::Range(protocol, range) => {
            let (first, last) = (range.first().max(1), range.last());
            let numbers = if first == last { first.to_string() } else { format!("{first}-{last}") };
            let bare = *protocol == L4Protocol::TCP;
            if bare && first == last {
                numbers
            } else if bare {
                quoted(&numbers)
            } else {
                format!("{protocol}/{numbers}")
            }
        }
    }
}

fn request(found: &HttpMatch) -> String {
    let mut fields = Vec::new();
    if !found.methods.is_empty() {
        fields.push(format!("methods: [{}]", joined(&found.methods)));
    }
    if let Some(path) = &found.path {
        fields.push(format!("path: {}", quoted(path.as_str())));
    }
    if !found.hosts.is_empty() {
        let hosts: Vec<String> = found.hosts.iter().map(|host| quoted(&host.to_string())).collect();
        fields.push(format!("hosts: [{}]", hosts.join(", ")));
    }
    if !found.headers.is_empty() {
        let headers: Vec<String> = found
            .headers
            .iter()
            .map(|header| {
                let value = match &header.value {
                    HeaderValueMatch::Present => "present: true".to_owned(),
                    HeaderValueMatch::Absent => "present: false".to_owned(),
                    HeaderValueMatch::Exact(text) => format!("exact: {}", quoted(text)),
                    HeaderValueMatch::Prefix(text) => format!("prefix: {}", quoted(text)),
                };
                format!("{{name: {}, {value}}}", scalar(&header.name))
            })
            .collect();
        fields.push(format!("headers: [{}]", headers.join(", ")));
    }
    format!("{{{}}}", fields.join(", "))
}

/// Plain where nobody could read it as anything but this text, else quoted.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/' | b'_'));
    let word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(text));
    if starts && plain && !word { text.to_owned() } else { quoted(text) }
}

/// A JSON string is a double-quoted scalar of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

//! Ports, ICMP messages and requests of Cilium's rules.

use super::{Carrier, Sense, cilium_peers, items, pattern, present};
use crate::documents::APIS;
use crate::model::{
    DnsMatch, HeaderMatch, HeaderValueMatch, HttpMatch, KafkaMatch, L7Section, PortMatch, Ports, TlsMatch,
    TopicMatch,
};
use crate::yaml::Node;
use bulkhead_facts::{L4Protocol, PortRange};

/// Ports with what they narrow to.
pub(super) type Opening = (Ports, Option<L7Section>);

/// What a rule names; `None` if it says nothing of ports.
pub(super) fn read(carrier: &mut Carrier<'_>, node: &Node, sense: Sense) -> Option<Vec<Opening>> {
    let openings = items(carrier, node, "toPorts");
    let messages = items(carrier, node, "icmps");
    if openings.is_empty() && messages.is_empty() {
        return None;
    }
    if !openings.is_empty() && !messages.is_empty() {
        carrier.refused(node.span, "`toPorts` together with `icmps` in one rule, which Cilium refuses");
        return Some(Vec::new());
    }
    let mut found = Vec::new();
    for opening in openings {
        found.extend(read_opening(carrier, opening, sense));
    }
    for message in messages {
        found.extend(read_messages(carrier, message, sense));
    }
    Some(found)
}

/// What stands in for an opening that cannot be expressed.
fn unexpressed(carrier: &mut Carrier<'_>, node: &Node, sense: Sense, what: &str) -> Option<Opening> {
    carrier.lost(sense, node.span, what);
    (sense == Sense::Deny).then_some((Ports::Any, None))
}

fn read_opening(carrier: &mut Carrier<'_>, node: &Node, sense: Sense) -> Option<Opening> {
    if let Some((what, _)) = carrier.unknown_fields(node, &["ports", "rules", "serverNames"]).first() {
        return unexpressed(carrier, node, sense, what);
    }
    let all = items(carrier, node, "ports");
    if all.is_empty() {
        return unexpressed(carrier, node, sense, "`toPorts` without `ports`");
    }
    let mut ports = Vec::new();
    for item in all {
        match read_port(item) {
            Some(found) => ports.extend(found),
            None => {
                let opening = unexpressed(carrier, item, sense, "this port");
                if opening.is_some() {
                    return opening;
                }
            }
        }
    }
    let names = items(carrier, node, "serverNames");
    let Some(rules) = present(node, "rules") else {
        if names.is_empty() {
            return (!ports.is_empty()).then_some((Ports::These(ports), None));
        }
        let sni: Option<Vec<_>> =
            names.iter().map(|name| name.as_str().and_then(cilium_peers::name_pattern)).collect();
        let Some(sni) = sni.filter(|_| sense == Sense::Allow) else {
            return unexpressed(carrier, node, sense, "these `serverNames`");
        };
        return narrowed(ports, L7Section::Tls(TlsMatch { sni, ..TlsMatch::default() }));
    };
    if !names.is_empty() {
        return unexpressed(carrier, node, sense, "`serverNames` together with `rules`");
    }
    let fields = rules.as_map().unwrap_or_default();
    let section = match fields.first().map(|entry| entry.key.as_str()).filter(|_| fields.len() == 1) {
        Some("http") if sense == Sense::Allow => {
            let requests = each(carrier, rules, "http", read_request);
            L7Section::Http(requests.into_iter().flatten().collect())
        }
        Some("dns") if sense == Sense::Allow => L7Section::Dns(each(carrier, rules, "dns", |_, item| {
            let names = cilium_peers::name(item)?.into_iter().collect();
            Some(DnsMatch { names, records: vec![] })
        })),
        Some("kafka") if sense == Sense::Allow => {
            let requests = each(carrier, rules, "kafka", read_kafka);
            L7Section::Kafka(requests.into_iter().flatten().collect())
        }
        _ => return unexpressed(carrier, rules, sense, "this section"),
    };
    narrowed(ports, section)
}

/// The items of an allow's section that can be expressed; the others are told.
fn each<T>(
    carrier: &mut Carrier<'_>,
    rules: &Node,
    name: &'static str,
    read: impl Fn(&mut Carrier<'_>, &Node) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for item in items(carrier, rules, name) {
        match read(carrier, item) {
            Some(one) => found.push(one),
            None => carrier.lost(Sense::Allow, item.span, "this kind of request"),
        }
    }
    found
}

/// The section on those of the ports that its protocol runs on; `None` if nothing is left of either.
fn narrowed(mut ports: Vec<PortMatch>, section: L7Section) -> Option<Opening> {
    ports.retain(|port| match port {
        PortMatch::Range(protocol, _) | PortMatch::Named(Some(protocol), _) => section.runs_on(*protocol),
        PortMatch::Named(None, _) => true,
    });
    let is_empty = match &section {
        L7Section::Http(requests) => requests.is_empty(),
        L7Section::Dns(questions) => questions.is_empty(),
        L7Section::Kafka(requests) => requests.is_empty(),
        L7Section::Tls(_) | L7Section::Redis(_) | L7Section::Postgres(_) => false,
    };
    (!is_empty && !ports.is_empty()).then_some((Ports::These(ports), Some(section)))
}

/// Requests that name no topic: a rule's topic does not narrow them.
const WITHOUT_TOPICS: [&str; 6] =
    ["api-versions", "find-coordinator", "join-group", "heartbeat", "leave-group", "sync-group"];

/// A role is the requests that it needs. Which version or client a request is of is not read here, so that what asks for one
/// cannot be carried.
fn read_kafka(carrier: &mut Carrier<'_>, node: &Node) -> Option<Vec<KafkaMatch>> {
    if !carrier.unknown_fields(node, &["role", "apiKey", "topic"]).is_empty() {
        return None;
    }
    let field = |name| present(node, name).map(Node::as_str);
    let names: Option<Vec<&str>> = match (field("role"), field("apiKey")) {
        (Some(Some("produce")), None) => Some(vec!["produce", "metadata", "api-versions"]),
        (Some(Some("consume")), None) => {
            let own = ["fetch", "list-offsets", "metadata", "offset-commit", "offset-fetch"];
            Some(own.into_iter().chain(WITHOUT_TOPICS).collect())
        }
        (None, Some(Some(api))) => Some(vec![api]),
        (None, None) => None,
        _ => return None,
    };
    let apis: Option<Vec<u16>> = names.into_iter().flatten().map(kafka_api).collect();
    let apis = apis?;
    let Some(topic) = field("topic") else { return Some(vec![KafkaMatch { apis, topics: vec![] }]) };
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let topic = topic.filter(|topic| !topic.is_empty() && topic.len() <= 249 && topic.bytes().all(legal))?;
    let topics = vec![TopicMatch::Exact(topic.to_owned())];
    if apis.is_empty() {
        return Some(vec![KafkaMatch { apis, topics }]);
    }
    let without: Vec<u16> = WITHOUT_TOPICS.iter().filter_map(|name| kafka_api(name)).collect();
    let (plain, named): (Vec<u16>, Vec<u16>) = apis.into_iter().partition(|api| without.contains(api));
    let found = [KafkaMatch { apis: named, topics }, KafkaMatch { apis: plain, topics: vec![] }];
    Some(found.into_iter().filter(|found| !found.apis.is_empty()).collect())
}

/// Names there are written without hyphens.
fn kafka_api(name: &str) -> Option<u16> {
    let plain = |name: &str| name.replace('-', "").to_ascii_lowercase();
    let asked = if plain(name) == "offsets" { "listoffsets".to_owned() } else { plain(name) };
    APIS.iter().find(|(known, _)| plain(known) == asked).map(|(_, api)| *api)
}

fn read_port(node: &Node) -> Option<Vec<PortMatch>> {
    let known = ["port", "protocol", "endPort"];
    if node.as_map()?.iter().any(|entry| !known.contains(&entry.key.as_str())) {
        return None;
    }
    let text = present(node, "port")?.as_scalar()?.text.as_str();
    let end =
        present(node, "endPort").map(|end| end.as_scalar().and_then(|end| end.text.parse::<u16>().ok()));
    let protocols = match present(node, "protocol").map_or(Some("ANY"), Node::as_str)? {
        "ANY" => vec![L4Protocol::TCP, L4Protocol::UDP, L4Protocol::SCTP],
        name => vec![L4Protocol::parse(name).filter(|protocol| protocol.has_ports())?],
    };
    let Ok(first) = text.parse::<u16>() else {
        let protocol = (protocols.len() == 1).then(|| protocols[0]);
        return Some(vec![PortMatch::Named(protocol, text.to_owned())]);
    };
    let range = match (first, end) {
        (0, None | Some(Some(0))) => PortRange::ALL,
        (first, None | Some(Some(0))) => PortRange::single(first),
        (first, Some(end)) => PortRange::new(first, end?)?,
    };
    Some(protocols.into_iter().map(|protocol| PortMatch::Range(protocol, range)).collect())
}

fn read_messages(carrier: &mut Carrier<'_>, node: &Node, sense: Sense) -> Option<Opening> {
    let mut ports = Vec::new();
    for field in items(carrier, node, "fields") {
        let protocol = match present(field, "family").map_or(Some("IPv4"), Node::as_str) {
            Some("IPv4") => Some(L4Protocol::ICMP),
            Some("IPv6") => Some(L4Protocol::ICMPV6),
            _ => None,
        };
        let number = present(field, "type").and_then(Node::as_scalar).and_then(|kind| {
            let named = match (kind.text.as_str(), protocol == Some(L4Protocol::ICMPV6)) {
                ("EchoRequest", _) => Some(if protocol == Some(L4Protocol::ICMPV6) { 128 } else { 8 }),
                ("EchoReply", true) => Some(129),
                ("EchoReply", false) => Some(0),
                _ => None,
            };
            named.or(kind.text.parse::<u8>().ok())
        });
        match (protocol, number) {
            (Some(protocol), Some(number)) => {
                ports.push(PortMatch::Range(protocol, PortRange::icmp_type(number)));
            }
            _ => {
                let opening = unexpressed(carrier, field, sense, "this message of ICMP");
                if opening.is_some() {
                    return opening;
                }
            }
        }
    }
    (!ports.is_empty()).then_some((Ports::These(ports), None))
}

/// Requests of one item, one for each path; `None` if they cannot be expressed.
fn read_request(carrier: &mut Carrier<'_>, node: &Node) -> Option<Vec<HttpMatch>> {
    if !carrier.unknown_fields(node, &["path", "method", "host", "headers", "headerMatches"]).is_empty() {
        return None;
    }
    let ignore = carrier.options.ignore_query_and_port;
    let text = |name| present(node, name).map(Node::as_str).filter(|text| *text != Some(""));
    let mut narrowed = false;
    let mut found = HttpMatch::default();
    if let Some(expression) = text("method") {
        let methods = pattern::methods(expression?)?;
        narrowed |= methods.narrowed;
        found.methods = methods.any_of.unwrap_or_default();
    }
    if let Some(expression) = text("host") {
        let hosts = pattern::hosts(expression?, ignore)?;
        narrowed |= hosts.narrowed;
        found.hosts = hosts.any_of.unwrap_or_default();
    }
    for item in items(carrier, node, "headers") {
        let (name, value) = match item.as_str()?.split_once(' ') {
            Some((name, value)) => (name.trim_end_matches(':'), Some(value)),
            None => (item.as_str()?, None),
        };
        found.headers.push(header(name, value)?);
    }
    for item in items(carrier, node, "headerMatches") {
        if !carrier.unknown_fields(item, &["name", "value"]).is_empty() {
            return None;
        }
        found
            .headers
            .push(header(item.child("name")?.as_str()?, present(item, "value").and_then(Node::as_str))?);
    }
    let mut requests = vec![found];
    if let Some(expression) = text("path") {
        let paths = pattern::paths(expression?, ignore)?;
        narrowed |= paths.narrowed;
        if let Some(paths) = paths.any_of {
            let first = requests.remove(0);
            requests =
                paths.into_iter().map(|path| HttpMatch { path: Some(path), ..first.clone() }).collect();
        }
    }
    if narrowed {
        carrier.narrowed(
            node.span,
            "an expression that matches more than its template: only the template is allowed",
        );
    }
    Some(requests)
}

fn header(name: &str, value: Option<&str>) -> Option<HeaderMatch> {
    let value = match value.map(str::trim) {
        None | Some("") => HeaderValueMatch::Present,
        Some(text) => HeaderValueMatch::Exact(text.to_owned()),
    };
    let name = name.to_ascii_lowercase();
    (name != "host" && !name.starts_with(':')).then_some(HeaderMatch { name, value })
}

//! Operations of Istio: ports, methods, paths, hosts, and headers of conditions.
//!
//! An allow keeps what is exactly as wide or narrower, a deny what is exactly as wide or wider.

use super::{Carrier, Sense, texts};
use crate::model::{HeaderMatch, HeaderValueMatch, HttpMatch};
use crate::yaml::Node;
use bulkhead_facts::{HostPattern, PathTemplate, PortRange};

/// What a request has to be; `None`: not asked for.
#[derive(Clone, Default)]
pub(super) struct Operation {
    pub(super) ports: Option<Vec<PortRange>>,
    pub(super) requests: Option<Vec<HttpMatch>>,
}

impl Operation {
    /// Both at once; `None` if nothing can be both.
    pub(super) fn and(self, other: &Self) -> Option<Self> {
        let ports = match (self.ports, &other.ports) {
            (Some(left), Some(right)) => Some(overlap(&left, right)),
            (left, right) => left.or_else(|| right.clone()),
        };
        let requests = match (self.requests, &other.requests) {
            (Some(left), Some(right)) => {
                let pairs = left.iter().flat_map(|a| right.iter().map(move |b| joined(a, b)));
                Some(pairs.collect::<Option<Vec<_>>>()?)
            }
            (left, right) => left.or_else(|| right.clone()),
        };
        Some(Self { ports, requests })
    }
}

/// Both requirements in one; conditions only add headers.
fn joined(a: &HttpMatch, b: &HttpMatch) -> Option<HttpMatch> {
    if !b.methods.is_empty() || b.path.is_some() || !b.hosts.is_empty() {
        return None;
    }
    let mut found = a.clone();
    found.headers.extend(b.headers.iter().cloned());
    Some(found)
}

fn overlap(left: &[PortRange], right: &[PortRange]) -> Vec<PortRange> {
    let pairs = left.iter().flat_map(|a| right.iter().map(move |b| (a, b)));
    pairs.filter_map(|(a, b)| PortRange::new(a.first().max(b.first()), a.last().min(b.last()))).collect()
}

/// Ports that are none of these.
pub(super) fn other_ports(taken: &[PortRange]) -> Vec<PortRange> {
    let mut rest = vec![PortRange::ALL];
    for hole in taken {
        let below = |range: &PortRange| {
            hole.first().checked_sub(1).and_then(|last| PortRange::new(range.first(), last.min(range.last())))
        };
        let above = |range: &PortRange| {
            hole.last()
                .checked_add(1)
                .and_then(|first| PortRange::new(first.max(range.first()), range.last()))
        };
        rest = rest.iter().flat_map(|range| below(range).into_iter().chain(above(range))).collect();
    }
    rest
}

fn ports(values: &[&str]) -> Option<Vec<PortRange>> {
    values.iter().map(|text| text.parse().ok().map(PortRange::single)).collect()
}

/// Reads one operation; `None` if an allow is gone with it.
pub(super) fn operation(carrier: &mut Carrier<'_>, node: &Node, sense: Sense) -> Option<Operation> {
    let entries = node.as_map().unwrap_or_default();
    if entries.is_empty() {
        carrier.refused(node.span, "an empty `operation`, which Istio refuses");
        return None;
    }
    let mut found = Operation::default();
    let mut request = HttpMatch::default();
    let mut paths: Option<Vec<PathTemplate>> = None;
    let mut is_http = false;
    for entry in entries {
        let values: Vec<&str> = texts(carrier, node, &entry.key).into_iter().map(|(text, _)| text).collect();
        if values.is_empty() {
            carrier.refused(entry.key_span, format!("`{}` without values, which Istio refuses", entry.key));
            return None;
        }
        let mut part = Part { narrowed: false, widened: false };
        let carried = match entry.key.as_str() {
            "ports" => ports(&values).map(|these| {
                found.ports = Some(found.ports.take().map_or(these.clone(), |those| overlap(&those, &these)))
            }),
            "notPorts" => ports(&values).map(|these| {
                let these = other_ports(&these);
                found.ports = Some(found.ports.take().map_or(these.clone(), |those| overlap(&those, &these)));
            }),
            "methods" => methods(&values).map(|all| request.methods = all),
            "paths" => part.paths(&values, sense).map(|all| paths = all),
            "hosts" => part
                .hosts(&values, sense, carrier.options.ignore_query_and_port)
                .map(|all| request.hosts = all),
            _ => None,
        };
        is_http |= !entry.key.to_ascii_lowercase().ends_with("ports");
        if carried.is_none() {
            carrier.lost(sense, entry.key_span, &format!("`{}` as it is written", entry.key));
            if sense == Sense::Allow {
                return None;
            }
        } else if part.narrowed {
            carrier.narrowed(entry.key_span, format!("part of `{}` is left out of the allow", entry.key));
        } else if part.widened {
            carrier.narrowed(entry.key_span, format!("the deny of these `{}` is widened", entry.key));
        }
    }
    if is_http {
        found.requests = Some(match paths {
            None => vec![request],
            Some(paths) => {
                paths.into_iter().map(|path| HttpMatch { path: Some(path), ..request.clone() }).collect()
            }
        });
    }
    Some(found)
}

/// Methods; none: any.
fn methods(values: &[&str]) -> Option<Vec<String>> {
    if values.contains(&"*") {
        return Some(Vec::new());
    }
    let plain = values.iter().all(|text| !text.contains('*'));
    plain.then(|| values.iter().map(|text| (*text).to_owned()).collect())
}

/// How far a list is from what was written.
struct Part {
    narrowed: bool,
    widened: bool,
}

impl Part {
    /// Paths; inner `None`: any.
    fn paths(&mut self, values: &[&str], sense: Sense) -> Option<Option<Vec<PathTemplate>>> {
        let mut found = Vec::new();
        for value in values {
            if *value == "*" {
                return Some(None);
            }
            match (self.path(value, sense), sense) {
                (Some(Some(paths)), _) => found.extend(paths),
                (Some(None), _) => return Some(None),
                (None, Sense::Allow) => self.narrowed = true,
                (None, Sense::Deny) => return None,
            }
        }
        (!found.is_empty()).then_some(Some(found))
    }

    fn path(&mut self, value: &str, sense: Sense) -> Option<Option<Vec<PathTemplate>>> {
        let parse = |text: &str| PathTemplate::parse(text).ok();
        let templated = value.contains("{*}") || value.contains("{**}");
        if templated {
            let text = value.replace("{*}", "{any}");
            let (text, below) = match text.strip_suffix("/{**}") {
                Some(front) => (front.to_owned(), true),
                None => (text, false),
            };
            if text.contains('*') {
                return None;
            }
            let exact = parse(&text);
            // Whether `{**}` also takes nothing at all differs between readings: each sense takes the strict one.
            return match (below, sense) {
                (false, _) => Some(Some(vec![exact?])),
                (true, Sense::Allow) => Some(Some(vec![parse(&format!("{text}/**"))?])),
                (true, Sense::Deny) => Some(Some(vec![exact?, parse(&format!("{text}/**"))?])),
            };
        }
        if value.contains(['{', '}']) {
            return None;
        }
        let Some(front) = value.strip_suffix('*') else {
            return if value.starts_with('*') { None } else { Some(Some(vec![parse(value)?])) };
        };
        if front.contains('*') {
            return None;
        }
        if let Some(folder) = front.strip_suffix('/') {
            return Some(if folder.is_empty() { None } else { Some(vec![parse(&format!("{folder}/**"))?]) });
        }
        match sense {
            Sense::Allow => {
                self.narrowed = true;
                Some(Some(vec![parse(front)?, parse(&format!("{front}/**"))?]))
            }
            Sense::Deny => {
                self.widened = true;
                let (folder, _) = front.rsplit_once('/')?;
                Some(if folder.is_empty() { None } else { Some(vec![parse(&format!("{folder}/**"))?]) })
            }
        }
    }

    /// Hosts; none: any.
    fn hosts(&mut self, values: &[&str], sense: Sense, ignore_port: bool) -> Option<Vec<HostPattern>> {
        let mut found = Vec::new();
        for value in values {
            if *value == "*" {
                return Some(Vec::new());
            }
            let (name, port) = match value.rsplit_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (*value, None),
            };
            // A name without a port means requests without one, `name:*` those with one: both together are all.
            let twin = match port {
                None => values.contains(&format!("{name}:*").as_str()),
                Some("*") => values.contains(&name),
                Some(_) => false,
            };
            match (HostPattern::parse(name), sense) {
                (Ok(host), Sense::Allow) if ignore_port || twin => found.push(host),
                (Ok(host), Sense::Deny) => {
                    self.widened |= !twin;
                    found.push(host);
                }
                (_, Sense::Allow) => self.narrowed = true,
                (Err(_), Sense::Deny) => return None,
            }
        }
        found.sort();
        found.dedup();
        (!found.is_empty()).then_some(found)
    }
}

/// A condition on a header or a port; `None` if it cannot be expressed.
pub(super) fn condition(key: &str, negated: bool, values: &[&str]) -> Option<Operation> {
    if key == "destination.port" {
        let these = ports(values)?;
        let ports = if negated { other_ports(&these) } else { these };
        return Some(Operation { ports: Some(ports), requests: None });
    }
    let name = key.strip_prefix("request.headers[")?.strip_suffix(']')?.to_ascii_lowercase();
    if negated || values.is_empty() || name == "host" || name.starts_with(':') {
        return None;
    }
    let requests = values.iter().map(|value| {
        let value = match value.strip_suffix('*') {
            Some("") => HeaderValueMatch::Present,
            Some(front) if !front.contains('*') => HeaderValueMatch::Prefix(front.to_owned()),
            None if !value.contains('*') => HeaderValueMatch::Exact((*value).to_owned()),
            Some(_) | None => return None,
        };
        Some(HttpMatch { headers: vec![HeaderMatch { name: name.clone(), value }], ..HttpMatch::default() })
    });
    Some(Operation { ports: None, requests: Some(requests.collect::<Option<_>>()?) })
}

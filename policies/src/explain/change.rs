//! The smallest change of a document that would allow a flow, in the words of the document's own kind.

use super::Difference;
use crate::inventory::{Inventory, ObjectName, Pod};
use crate::model::Policy;
use crate::questions::HttpQuestion;
use bulkhead_facts::{Direction, L4Protocol};
use std::net::IpAddr;

/// A denied flow as one end sees it.
pub(super) struct Flow<'a> {
    pub(super) direction: Direction,
    pub(super) pod: &'a ObjectName,
    pub(super) peer_pod: Option<&'a ObjectName>,
    pub(super) peer: IpAddr,
    pub(super) protocol: L4Protocol,
    pub(super) port: u16,
    pub(super) request: Option<&'a HttpQuestion>,
    pub(super) inventory: &'a Inventory,
}

/// The spellings that differ between kinds.
#[derive(Clone, Copy)]
enum Dialect {
    Ours,
    NetworkPolicy,
    ClusterNetworkPolicy,
}

impl Dialect {
    fn of(policy: &Policy) -> Self {
        match policy.origin.kind.as_str() {
            "NetworkPolicy" => Self::NetworkPolicy,
            "ClusterNetworkPolicy" => Self::ClusterNetworkPolicy,
            _ => Self::Ours,
        }
    }
}

impl Flow<'_> {
    /// What to add to a rule that differs in these fields.
    pub(super) fn widen(&self, policy: &Policy, differs: &[Difference]) -> String {
        let dialect = Dialect::of(policy);
        let new_request = differs
            .iter()
            .any(|d| matches!(d, Difference::Method(_) | Difference::Path(_) | Difference::Host(_)));
        let mut changes: Vec<String> = Vec::new();
        for difference in differs {
            match difference {
                Difference::Peer => {
                    changes.push(format!(
                        "add `{}` to `{}`",
                        self.shown_peer(dialect, policy),
                        self.peer_field()
                    ));
                }
                Difference::Port => changes.push(self.add_port(dialect)),
                Difference::NoRequest => {
                    changes.push("name a request to ask about, or write a rule without `http`".to_owned());
                }
                Difference::Header(name) if !new_request => {
                    changes.push(format!("send the header `{name}` as the rule requires"));
                }
                Difference::Query(name) if !new_request => {
                    changes.push(format!("send the parameter `{name}` as the rule requires"));
                }
                Difference::Websocket if !new_request => {
                    changes.push("ask for a WebSocket as the rule requires".to_owned());
                }
                Difference::Section(name) => changes.push(format!("write a rule without `{name}`")),
                Difference::Header(_)
                | Difference::Query(_)
                | Difference::Websocket
                | Difference::Method(_)
                | Difference::Path(_)
                | Difference::Host(_) => {}
            }
        }
        if let Some(request) = self.request.filter(|_| new_request) {
            changes.push(format!("add `{}` to `http`", shown_request(request, differs)));
        }
        changes.join(", and ")
    }

    /// A whole rule, where none comes near.
    pub(super) fn new_rule(&self, policy: Option<&Policy>) -> String {
        let peer = match policy {
            Some(policy) => self.shown_peer(Dialect::of(policy), policy),
            None => self.peer_as(Dialect::Ours, &self.pod.namespace),
        };
        let dialect = policy.map_or(Dialect::Ours, Dialect::of);
        let rule = format!("{{{}: [{peer}], ports: [{}]}}", self.peer_field(), self.shown_port(dialect));
        match policy {
            Some(policy) => format!("add `{rule}` to `{}` of {}", self.direction, policy.origin),
            None => {
                let labels = self.inventory.pods.get(self.pod).map(selecting_labels).unwrap_or_default();
                format!(
                    "write a SegmentPolicy in namespace `{}` with `workloads: {labels}` and `{}: [{rule}]`",
                    self.pod.namespace, self.direction
                )
            }
        }
    }

    fn peer_field(&self) -> &'static str {
        match self.direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        }
    }

    fn shown_peer(&self, dialect: Dialect, policy: &Policy) -> String {
        // A policy of no namespace has to name the peer's.
        self.peer_as(dialect, policy.origin.namespace.as_deref().unwrap_or_default())
    }

    fn peer_as(&self, dialect: Dialect, own_namespace: &str) -> String {
        let known = self.peer_pod.and_then(|name| Some((name, self.inventory.pods.get(name)?)));
        let Some((name, pod)) = known else { return self.block(dialect) };
        let labels = selecting_labels(pod);
        let elsewhere = name.namespace != own_namespace;
        let namespace = &name.namespace;
        match dialect {
            Dialect::Ours if elsewhere => {
                format!("{{namespaces: {{name: {namespace}}}, workloads: {labels}}}")
            }
            Dialect::Ours => format!("{{workloads: {labels}}}"),
            Dialect::NetworkPolicy if elsewhere => format!(
                "{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}, podSelector: {{matchLabels: {labels}}}}}"
            ),
            Dialect::NetworkPolicy => format!("{{podSelector: {{matchLabels: {labels}}}}}"),
            Dialect::ClusterNetworkPolicy => format!(
                "{{pods: {{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}, podSelector: {{matchLabels: {labels}}}}}}}"
            ),
        }
    }

    fn block(&self, dialect: Dialect) -> String {
        let block = bulkhead_facts::Cidr::host(self.peer);
        match dialect {
            Dialect::Ours => format!("{{cidr: {}}}", quoted(&block.to_string())),
            Dialect::NetworkPolicy => format!("{{ipBlock: {{cidr: {}}}}}", quoted(&block.to_string())),
            Dialect::ClusterNetworkPolicy => format!("{{networks: [{}]}}", quoted(&block.to_string())),
        }
    }

    fn add_port(&self, dialect: Dialect) -> String {
        let field = match dialect {
            Dialect::Ours | Dialect::NetworkPolicy => "ports",
            Dialect::ClusterNetworkPolicy => "protocols",
        };
        format!("add `{}` to `{field}`", self.shown_port(dialect))
    }

    fn shown_port(&self, dialect: Dialect) -> String {
        let (protocol, port) = (self.protocol, self.port);
        match dialect {
            Dialect::Ours if protocol == L4Protocol::TCP => port.to_string(),
            Dialect::Ours if protocol.is_icmp() => format!("{protocol}/{}", port >> 8),
            Dialect::Ours => format!("{protocol}/{port}"),
            Dialect::NetworkPolicy => {
                format!("{{port: {port}, protocol: {}}}", protocol.to_string().to_uppercase())
            }
            Dialect::ClusterNetworkPolicy => {
                format!("{{{protocol}: {{destinationPort: {{number: {port}}}}}}}")
            }
        }
    }
}

/// A colon needs quotes within braces.
fn quoted(text: &str) -> String {
    if text.contains(':') { format!("\"{text}\"") } else { text.to_owned() }
}

fn shown_request(request: &HttpQuestion, differs: &[Difference]) -> String {
    let path = request.target.split('?').next().unwrap_or_default();
    let host = match &request.host {
        Some(host) if differs.iter().any(|difference| matches!(difference, Difference::Host(_))) => {
            format!(", hosts: [{host}]")
        }
        Some(_) | None => String::new(),
    };
    format!("{{methods: [{}], path: {path}{host}}}", request.method)
}

/// Labels by which people know a workload; else all that do not change with every roll-out.
fn selecting_labels(pod: &Pod) -> String {
    const USUAL: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "name"];
    const CHANGING: [&str; 5] = [
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
    ];
    let usual = USUAL.iter().find_map(|key| Some(format!("{{{key}: {}}}", pod.labels.get(*key)?)));
    usual.unwrap_or_else(|| {
        let stable = pod.labels.iter().filter(|(key, _)| !CHANGING.contains(&key.as_str()));
        let shown: Vec<String> = stable.map(|(key, value)| format!("{key}: {value}")).collect();
        format!("{{{}}}", shown.join(", "))
    })
}

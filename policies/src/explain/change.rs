//! The smallest change of documents that would allow a flow, in the words of the documents' own kinds.
//!
//! Where one field of a rule is all that differs, that field is widened; else a rule of its own is added, so that nothing
//! else is allowed with it. A deny of the platform gets an exception in front of it. The change is said in words, and given as
//! operations of RFC 6902 (JSON Patch), which `kubectl patch --type=json` takes.

use super::differences::{Compared, Difference};
use super::written::{flow, item, section, tls_field};
use crate::inventory::{Inventory, ObjectName, Pod};
use crate::model::{L7Section, Policy, Rule};
use crate::questions::RequestQuestion;
use bulkhead_facts::{Cidr, Direction, HostName, L4Protocol, PolicyRef};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// In words.
    pub says: String,
    /// For machines; `None` where no document has to change, or none can.
    pub patch: Option<Patch>,
}

/// What to do with documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// Operations of RFC 6902 on one of them.
    Edit {
        /// Which.
        document: PolicyRef,
        /// In order.
        operations: Vec<Value>,
    },
    /// A new one.
    Create(Value),
}

/// A denied flow as one end sees it.
pub(super) struct Flow<'a> {
    pub(super) direction: Direction,
    pub(super) pod: &'a ObjectName,
    pub(super) peer_pod: Option<&'a ObjectName>,
    /// The Service that the flow is opened to.
    pub(super) service: Option<&'a ObjectName>,
    /// The name that led to the peer.
    pub(super) name: Option<&'a HostName>,
    pub(super) peer: IpAddr,
    pub(super) protocol: L4Protocol,
    pub(super) port: u16,
    pub(super) request: Option<&'a RequestQuestion>,
    pub(super) inventory: &'a Inventory,
}

/// A rule that comes near.
pub(super) struct Near<'p> {
    pub(super) policy: &'p Policy,
    pub(super) rule: &'p Rule,
    pub(super) position: usize,
    /// How its section is written.
    pub(super) section: Option<&'static str>,
    pub(super) compared: Compared,
    /// What the text calls it.
    pub(super) shown: String,
}

/// The spellings that differ between kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Segment,
    ClusterSegment,
    NetworkPolicy,
    ClusterNetworkPolicy,
}

impl Dialect {
    pub(super) fn of(policy: &Policy) -> Self {
        match policy.origin.kind.as_str() {
            "NetworkPolicy" => Self::NetworkPolicy,
            "ClusterNetworkPolicy" => Self::ClusterNetworkPolicy,
            "ClusterSegmentPolicy" => Self::ClusterSegment,
            _ => Self::Segment,
        }
    }
}

impl Flow<'_> {
    /// A rule that differs in one field, with that field widened; `None` if it is not that simple.
    pub(super) fn widen(&self, near: &Near<'_>) -> Option<Change> {
        if self.says_another_name() {
            return None;
        }
        let dialect = Dialect::of(near.policy);
        let at = format!("/spec/{}/{}", self.direction, near.position);
        let (path, value, says) = match near.compared.differs.as_slice() {
            [Difference::Peer] => {
                let (field, peer) = (self.peer_field(), self.peer_of(dialect, near.policy)?);
                (format!("{at}/{field}/-"), peer.clone(), format!("add `{}` to `{field}`", flow(&peer)))
            }
            [Difference::Port] => {
                let port = self.port_of(dialect)?;
                (format!("{at}/ports/-"), port.clone(), format!("add `{}` to `ports`", flow(&port)))
            }
            [Difference::Part { .. }, ..] => self.widen_section(near, &at)?,
            [] | [_, ..] => return None,
        };
        let operation = json!({"op": "add", "path": path, "value": value});
        let says = format!("in {}: {says}", near.shown);
        let document = near.policy.origin.clone();
        Some(Change { says, patch: Some(Patch::Edit { document, operations: vec![operation] }) })
    }

    /// True if the bytes do not mean the name that was dialled: a rule has to say so.
    fn says_another_name(&self) -> bool {
        let (Some(name), Some(request)) = (self.name, self.request) else { return false };
        let means = |said: Option<&str>| {
            said.is_some_and(|said| HostName::parse_authority(said).is_ok_and(|(host, _)| host == *name))
        };
        match request {
            RequestQuestion::Tls(hello) => hello.encrypted || !means(hello.server_name.as_deref()),
            RequestQuestion::Http(http) => http.host.is_some() && !means(http.host.as_deref()),
            RequestQuestion::Grpc(_) | RequestQuestion::Dns(_) | RequestQuestion::Redis(_) => false,
            RequestQuestion::Postgres(_) | RequestQuestion::Kafka(_) => false,
        }
    }

    /// One alternative more; `tls` has none, so its field is widened if it is only one.
    fn widen_section(&self, near: &Near<'_>, at: &str) -> Option<(String, Value, String)> {
        let (request, name) = (self.request?, near.section?);
        let own = near.rule.l7.as_ref()?;
        if let L7Section::Tls(own) = own {
            let [difference] = near.compared.differs.as_slice() else { return None };
            let (field, value, is_item) = tls_field(own, request, difference.field())?;
            let end = if is_item { "/-" } else { "" };
            let says = match is_item {
                true => format!("add `{}` to `{field}` of `tls`", flow(&value)),
                false => format!("write `{field}: {}` in `tls`", flow(&value)),
            };
            return Some((format!("{at}/tls/{field}{end}"), value, says));
        }
        let call = matches!(request, RequestQuestion::Grpc(_));
        let value = match (name, call) {
            ("grpc", false) => return None,
            ("http", true) => item(&request.as_http()?.into(), Some((own, near.compared.nearest)))?,
            (_, _) => item(request, Some((own, near.compared.nearest)))?,
        };
        let mut says = format!("add `{}` to `{name}`", flow(&value));
        if let Some(instead) = sent_otherwise(&near.compared.differs) {
            says = format!("{instead}, or {says}");
        }
        Some((format!("{at}/{name}/-"), value, says))
    }

    /// A rule of its own in a policy; `None` if its kind cannot say it.
    pub(super) fn add_to(&self, policy: &Policy) -> Option<Change> {
        let dialect = Dialect::of(policy);
        let rule = self.rule(dialect, policy.origin.namespace.as_deref().unwrap_or_default())?;
        let (path, value) = match policy.rules(self.direction) {
            [] => (format!("/spec/{}", self.direction), json!([rule])),
            [_, ..] => (format!("/spec/{}/-", self.direction), rule.clone()),
        };
        let says = format!("add `{}` to `{}` of {}", flow(&rule), self.direction, policy.origin);
        let operations = vec![json!({"op": "add", "path": path, "value": value})];
        let patch = Patch::Edit { document: policy.origin.clone(), operations };
        Some(Change { says, patch: Some(patch) })
    }

    /// A rule in front of the one that denies.
    pub(super) fn except_from(&self, policy: &Policy, position: usize) -> Option<Change> {
        let dialect = Dialect::of(policy);
        let mut rule = self.rule(dialect, "")?;
        let action = if dialect == Dialect::ClusterNetworkPolicy { "Accept" } else { "allow" };
        rule.as_object_mut()?.insert("action".to_owned(), action.into());
        let says = format!("put `{}` before it", flow(&rule));
        let path = format!("/spec/{}/{position}", self.direction);
        let operations = vec![json!({"op": "add", "path": path, "value": rule})];
        Some(Change { says, patch: Some(Patch::Edit { document: policy.origin.clone(), operations }) })
    }

    /// A policy of ours in front of one whose kind cannot say the exception; `None` if nothing can stand in front of it.
    pub(super) fn go_before(&self, policy: &Policy) -> Option<Change> {
        let mut rule = self.rule(Dialect::ClusterSegment, "")?;
        rule.as_object_mut()?.insert("action".to_owned(), "allow".into());
        let priority = policy.priority.checked_sub(1).filter(|priority| *priority >= 0)?;
        let pod = self.inventory.pods.get(self.pod)?;
        let tier = policy.tier.as_str();
        let says = format!(
            "write a ClusterSegmentPolicy of tier `{tier}` and priority {priority} with `{}: [{}]`",
            self.direction,
            flow(&rule)
        );
        let document = json!({
            "apiVersion": crate::documents::API_VERSION,
            "kind": "ClusterSegmentPolicy",
            "metadata": {"name": format!("{}-{}-exception", self.pod.namespace, pod.workload.name)},
            "spec": {
                "tier": tier,
                "priority": priority,
                "subjects": {"namespaces": {"name": self.pod.namespace}, "workloads": selecting_labels(pod)},
                self.direction.as_str(): [rule],
            },
        });
        Some(Change { says, patch: Some(Patch::Create(document)) })
    }

    /// A policy of its own, where none of the namespace's speaks for the pod.
    pub(super) fn create(&self) -> Option<Change> {
        let rule = self.rule(Dialect::Segment, &self.pod.namespace)?;
        let pod = self.inventory.pods.get(self.pod)?;
        let labels = selecting_labels(pod);
        let says = format!(
            "write a SegmentPolicy in namespace `{}` with `workloads: {}` and `{}: [{}]`",
            self.pod.namespace,
            flow(&labels),
            self.direction,
            flow(&rule)
        );
        let document = json!({
            "apiVersion": crate::documents::API_VERSION,
            "kind": "SegmentPolicy",
            "metadata": {"name": format!("{}-{}", pod.workload.name, self.direction), "namespace": self.pod.namespace},
            "spec": {"workloads": labels, self.direction.as_str(): [rule]},
        });
        Some(Change { says, patch: Some(Patch::Create(document)) })
    }

    /// A rule that means this flow, with its request if the kind can say it.
    fn rule(&self, dialect: Dialect, own_namespace: &str) -> Option<Value> {
        let peer = self.peer_as(dialect, own_namespace)?;
        let mut rule = json!({self.peer_field(): [peer]});
        let fields = rule.as_object_mut()?;
        let ports = if dialect == Dialect::ClusterNetworkPolicy { "protocols" } else { "ports" };
        fields.insert(ports.to_owned(), json!([self.port_of(dialect)?]));
        let ours = matches!(dialect, Dialect::Segment | Dialect::ClusterSegment);
        if let Some(request) = self.request.filter(|_| ours) {
            let (name, value) = section(request)?;
            fields.insert(name.to_owned(), value);
        }
        Some(rule)
    }

    fn peer_field(&self) -> &'static str {
        match self.direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        }
    }

    fn peer_of(&self, dialect: Dialect, policy: &Policy) -> Option<Value> {
        // A policy of no namespace has to name the peer's.
        self.peer_as(dialect, policy.origin.namespace.as_deref().unwrap_or_default())
    }

    fn peer_as(&self, dialect: Dialect, own_namespace: &str) -> Option<Value> {
        let ours = matches!(dialect, Dialect::Segment | Dialect::ClusterSegment);
        if let Some(name) = self.name {
            // Only ours name names, and only where they allow.
            return ours.then(|| json!({"fqdn": name.as_str()}));
        }
        if let (true, Some(service)) = (ours, self.service) {
            return Some(json!({"service": format!("{}/{}", service.namespace, service.name)}));
        }
        let known = self.peer_pod.and_then(|name| Some((name, self.inventory.pods.get(name)?)));
        // Labels do not reach a pod on its node's network, and a pod without labels has none to be told by.
        let Some((name, pod)) = known.filter(|(_, pod)| !pod.host_network && !pod.labels.is_empty()) else {
            return self.block(dialect);
        };
        let labels = selecting_labels(pod);
        let namespace = &name.namespace;
        let elsewhere = namespace != own_namespace;
        let selected = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
        Some(match dialect {
            Dialect::Segment | Dialect::ClusterSegment if elsewhere => {
                json!({"namespaces": {"name": namespace}, "workloads": labels})
            }
            Dialect::Segment | Dialect::ClusterSegment => json!({"workloads": labels}),
            Dialect::NetworkPolicy if elsewhere => {
                json!({"namespaceSelector": selected, "podSelector": {"matchLabels": labels}})
            }
            Dialect::NetworkPolicy => json!({"podSelector": {"matchLabels": labels}}),
            Dialect::ClusterNetworkPolicy => {
                json!({"pods": {"namespaceSelector": selected, "podSelector": {"matchLabels": labels}}})
            }
        })
    }

    fn block(&self, dialect: Dialect) -> Option<Value> {
        let block = Cidr::host(self.peer).to_string();
        match dialect {
            Dialect::Segment | Dialect::ClusterSegment => Some(json!({"cidr": block})),
            Dialect::NetworkPolicy => Some(json!({"ipBlock": {"cidr": block}})),
            Dialect::ClusterNetworkPolicy if self.direction == Direction::Egress => {
                Some(json!({"networks": [block]}))
            }
            // Its ingress names pods only.
            Dialect::ClusterNetworkPolicy => None,
        }
    }

    fn port_of(&self, dialect: Dialect) -> Option<Value> {
        let (protocol, port) = (self.protocol, self.port);
        match dialect {
            Dialect::Segment | Dialect::ClusterSegment if protocol == L4Protocol::TCP => Some(port.into()),
            Dialect::Segment | Dialect::ClusterSegment if protocol.is_icmp() => {
                Some(format!("{protocol}/{}", port >> 8).into())
            }
            _ if !protocol.has_ports() => None,
            Dialect::Segment | Dialect::ClusterSegment => Some(format!("{protocol}/{port}").into()),
            Dialect::NetworkPolicy => {
                Some(json!({"port": port, "protocol": protocol.to_string().to_uppercase()}))
            }
            Dialect::ClusterNetworkPolicy => {
                Some(json!({protocol.to_string(): {"destinationPort": {"number": port}}}))
            }
        }
    }
}

/// What the client can do instead, where it lacks only what it could send.
fn sent_otherwise(differs: &[Difference]) -> Option<String> {
    let said = differs.iter().map(|difference| match difference {
        Difference::Part { field: "headers", item: Some(name), .. } => {
            Some(format!("send the header `{name}` as the rule requires"))
        }
        Difference::Part { field: "query", item: Some(name), .. } => {
            Some(format!("send the parameter `{name}` as the rule requires"))
        }
        Difference::Part { field: "websocket", .. } => {
            Some("ask for a WebSocket, or not, as the rule requires".to_owned())
        }
        _ => None,
    });
    let said: Option<Vec<String>> = said.collect();
    said.filter(|said| !said.is_empty()).map(|said| said.join(" and "))
}

/// Labels by which people know a workload; else all that do not change with every roll-out.
fn selecting_labels(pod: &Pod) -> Value {
    const USUAL: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "name"];
    const CHANGING: [&str; 5] = [
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
    ];
    let usual = USUAL.iter().find_map(|key| Some(json!({*key: pod.labels.get(*key)?})));
    usual.unwrap_or_else(|| {
        let stable = pod.labels.iter().filter(|(key, _)| !CHANGING.contains(&key.as_str()));
        json!(stable.collect::<std::collections::BTreeMap<_, _>>())
    })
}

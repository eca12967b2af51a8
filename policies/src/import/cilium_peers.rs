//! Peers of Cilium's rules: endpoints, address blocks, entities, Services, names.
//!
//! A block of addresses means nobody inside of the cluster there, and means them as well here: what belongs to the cluster is
//! cut out of an allow.

use super::statement::{in_values, requirements, selector};
use super::{Carrier, Sense, items, present};
use crate::diagnostics::Span;
use crate::documents::NAMESPACE_NAME_LABEL;
use crate::model::{Entity, NamespaceMatch, Operator, Peer, Peers, Requirement};
use crate::yaml::Node;
use bulkhead_facts::{Cidr, Direction, NamePattern};

/// Whose rule it is.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// `None` for a clusterwide policy.
    pub(super) namespace: Option<&'a str>,
}

const INGRESS: [&str; 7] =
    ["fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "fromGroups", "fromNodes", "fromRequires"];
const EGRESS: [&str; 9] = [
    "toEndpoints",
    "toCIDR",
    "toCIDRSet",
    "toEntities",
    "toGroups",
    "toNodes",
    "toRequires",
    "toServices",
    "toFQDNs",
];

/// The fields that name peers.
pub(super) fn fields(direction: Direction) -> &'static [&'static str] {
    match direction {
        Direction::Ingress => &INGRESS,
        Direction::Egress => &EGRESS,
    }
}

/// Everybody that a rule names; `None` if it names nobody in particular.
pub(super) fn read(
    carrier: &mut Carrier<'_>,
    node: &Node,
    direction: Direction,
    sense: Sense,
    scope: Scope<'_>,
) -> Option<Peers> {
    let named: Vec<&'static str> =
        fields(direction).iter().copied().filter(|name| present(node, name).is_some()).collect();
    let field = *named.first()?;
    if named.len() > 1 {
        let message = format!("`{field}` together with `{}` in one rule, which Cilium refuses", named[1]);
        carrier.refused(node.span, message);
        return Some(Peers::These(Vec::new()));
    }
    let all = items(carrier, node, field);
    let kind = field.trim_start_matches("from").trim_start_matches("to");
    if kind == "Requires" {
        carrier.refused(node.span, format!("`{field}`"));
    }
    let mut found = Vec::new();
    for item in all {
        match one(carrier, item, kind, sense, scope) {
            Some(Peers::These(peers)) => found.extend(peers),
            Some(Peers::Any) => return Some(Peers::Any),
            None => {
                carrier.lost(sense, item.span, &format!("this peer of `{field}`"));
                if sense == Sense::Deny {
                    return Some(Peers::Any);
                }
            }
        }
    }
    Some(Peers::These(found))
}

/// One item of a list of peers; `None` if it cannot be expressed.
fn one(carrier: &mut Carrier<'_>, item: &Node, kind: &str, sense: Sense, scope: Scope<'_>) -> Option<Peers> {
    let peers = match kind {
        "Endpoints" => vec![endpoints(item, sense, scope)?],
        "CIDR" => {
            let block = carrier.cidr(item)?;
            blocks(carrier, item.span, block, Vec::new(), sense)
        }
        "CIDRSet" => {
            if !carrier.unknown_fields(item, &["cidr", "except"]).is_empty() {
                return None;
            }
            let block = carrier.cidr(item.child("cidr")?)?;
            let mut holes = Vec::new();
            for hole in items(carrier, item, "except") {
                holes.push(carrier.cidr(hole)?);
            }
            blocks(carrier, item.span, block, holes, sense)
        }
        "Entities" => return entity(carrier, item, sense),
        "Services" => vec![service(item)?],
        "FQDNs" if sense == Sense::Allow => vec![Peer::Name(name(item)??)],
        _ => return None,
    };
    Some(Peers::These(peers))
}

/// Requirements of a selector, by what they ask of.
pub(super) struct Picked {
    pub(super) namespaces: Vec<Requirement>,
    pub(super) workloads: Vec<Requirement>,
}

/// Splits a selector; `None` if it asks for what is no label of a pod or of its namespace.
pub(super) fn pick(node: &Node) -> Option<Picked> {
    let mut picked = Picked { namespaces: Vec::new(), workloads: Vec::new() };
    for mut requirement in requirements(node)? {
        let key = requirement.key.strip_prefix("k8s:").or(requirement.key.strip_prefix("any:"));
        let key = key.unwrap_or(&requirement.key).to_owned();
        if key.contains(':') || key.starts_with("io.cilium.k8s.policy.") || key.starts_with("reserved.") {
            return None;
        }
        if key == "io.kubernetes.pod.namespace" {
            requirement.key = NAMESPACE_NAME_LABEL.to_owned();
            picked.namespaces.push(requirement);
        } else if let Some(label) = key.strip_prefix("io.cilium.k8s.namespace.labels.") {
            requirement.key = label.to_owned();
            picked.namespaces.push(requirement);
        } else {
            requirement.key = key;
            picked.workloads.push(requirement);
        }
    }
    Some(picked)
}

fn endpoints(node: &Node, sense: Sense, scope: Scope<'_>) -> Option<Peer> {
    let mut picked = pick(node)?;
    let by_name = picked.namespaces.iter().any(|r| r.key == NAMESPACE_NAME_LABEL);
    if let (false, Some(namespace)) = (by_name, scope.namespace) {
        // Whether labels of namespaces lift the limit to the own one differs between versions: take the strict reading.
        if sense == Sense::Allow || picked.namespaces.is_empty() {
            picked.namespaces.push(in_values(NAMESPACE_NAME_LABEL, &[namespace]));
        }
    }
    // A negation alone also means who is in no namespace at all.
    let negative = |r: &Requirement| matches!(r.operator, Operator::NotIn(_) | Operator::DoesNotExist);
    if sense == Sense::Deny && !picked.namespaces.is_empty() && picked.namespaces.iter().all(negative) {
        return None;
    }
    let namespaces = NamespaceMatch::Labels(selector(picked.namespaces));
    Some(Peer::Workloads { namespaces, workloads: selector(picked.workloads) })
}

/// Blocks that probably hold pods, nodes and Services where nobody says which do.
const PRIVATE: [&str; 7] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
];

/// A block less its exceptions, and less the cluster's own addresses.
fn blocks(
    carrier: &mut Carrier<'_>,
    span: Span,
    block: Cidr,
    mut holes: Vec<Cidr>,
    sense: Sense,
) -> Vec<Peer> {
    let told = !carrier.options.cluster_networks.is_empty();
    let networks = match told {
        true => carrier.options.cluster_networks.clone(),
        false => PRIVATE.iter().filter_map(|text| text.parse().ok()).collect(),
    };
    let within: Vec<Cidr> =
        networks.into_iter().filter(|network| block.covers(*network) || network.covers(block)).collect();
    if !told && !within.is_empty() {
        let message = match sense {
            Sense::Allow => format!(
                "`{block}` may hold pods, nodes or Services, which Cilium does not mean: private blocks are left out of the allow"
            ),
            Sense::Deny => format!(
                "`{block}` may hold pods, nodes or Services, which Cilium does not mean: the deny takes them too"
            ),
        };
        carrier.narrowed(span, message);
    }
    if told || sense == Sense::Allow {
        holes.extend(within);
    }
    except(block, holes).into_iter().collect()
}

/// The block less others; `None` if nothing is left.
pub(super) fn except(block: Cidr, holes: Vec<Cidr>) -> Option<Peer> {
    if holes.iter().any(|hole| hole.covers(block)) {
        return None;
    }
    let mut except: Vec<Cidr> = holes.into_iter().filter(|hole| block.covers(*hole)).collect();
    except.sort();
    except.dedup();
    Some(Peer::Cidr { block, except })
}

fn entity(carrier: &mut Carrier<'_>, node: &Node, sense: Sense) -> Option<Peers> {
    let text = node.expect_text(&mut carrier.report, "entity")?;
    let these = |entities: &[Entity]| {
        Some(Peers::These(entities.iter().map(|entity| Peer::Entity(*entity)).collect()))
    };
    match (text, sense) {
        ("all", _) => Some(Peers::Any),
        ("none", _) => these(&[]),
        ("world", _) => these(&[Entity::World]),
        ("world-ipv4" | "world-ipv6", _) => {
            let block = if text == "world-ipv4" { "0.0.0.0/0" } else { "::/0" }.parse().ok()?;
            Some(Peers::These(blocks(carrier, node.span, block, Vec::new(), sense)))
        }
        ("cluster", Sense::Allow) => these(&[Entity::Cluster]),
        ("cluster", Sense::Deny) => these(&[Entity::Cluster, Entity::KubeApiserver]),
        ("kube-apiserver", _) => these(&[Entity::KubeApiserver]),
        ("host" | "remote-node", Sense::Deny) => {
            carrier.lost(sense, node.span, &format!("`{text}` apart from other nodes"));
            these(&[Entity::Node])
        }
        _ => None,
    }
}

/// `matchName` or `matchPattern`; `Some(None)` is every name, `None` what cannot be expressed.
pub(super) fn name(node: &Node) -> Option<Option<NamePattern>> {
    let [entry] = node.as_map()? else { return None };
    let text = entry.value.as_str()?;
    match entry.key.as_str() {
        "matchName" if !text.contains('*') => NamePattern::parse(text).ok().map(Some),
        "matchPattern" if text == "*" => Some(None),
        "matchPattern" => name_pattern(text).map(Some),
        _ => None,
    }
}

/// One star in front is one label there as well, two are one or more.
pub(super) fn name_pattern(text: &str) -> Option<NamePattern> {
    NamePattern::parse(text).ok()
}

fn service(node: &Node) -> Option<Peer> {
    let service = node.child("k8sService")?;
    if node.as_map()?.len() != 1 || service.as_map()?.len() != 2 {
        return None;
    }
    let part = |name| service.child(name).and_then(Node::as_str).map(ToOwned::to_owned);
    Some(Peer::Service { namespace: part("namespace")?, name: part("serviceName")? })
}

//! Peers of our own kinds.
//!
//! A peer names workloads, a Service, an address block or an entity. `serviceAccounts` and `identities` need a peer that
//! is proven by mutual TLS, which does not exist yet: in an allow they match nobody and a warning says so; in a deny or
//! pass they would do nothing, which is an error.

use super::names::{is_label, namespace_name};
use super::selectors::{Of, short_or_full};
use crate::diagnostics::{Report, Span, nearest, quoted};
use crate::model::{Entity, NamespaceMatch, Peer, RuleAction, Selector};
use crate::yaml::{Fields, Node, Nulls};
use bulkhead_facts::{Cidr, Direction, HostNameError, NamePattern};

/// What a peer is read for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// The policy's own namespace; `None` for cluster kinds.
    pub(super) namespace: Option<&'a str>,
    pub(super) action: RuleAction,
    pub(super) direction: Direction,
}

/// Reads one peer.
pub(super) fn read(report: &mut Report, node: &Node, scope: Scope<'_>) -> Option<Peer> {
    let mut fields = Fields::open(report, node, "a peer", Nulls::Refused)?;
    let workloads = fields.get(report, "workloads");
    let namespaces = fields.get(report, "namespaces");
    let service = fields.get(report, "service");
    let cidr = fields.get(report, "cidr");
    let except = fields.get(report, "except");
    let entity = fields.get(report, "entity");
    let fqdn = fields.get(report, "fqdn");
    let accounts = fields.get(report, "serviceAccounts");
    let identities = fields.get(report, "identities");
    fields.finish(report);
    let by_label = workloads.is_some() || namespaces.is_some();
    let groups = [service.is_some(), cidr.is_some(), entity.is_some(), fqdn.is_some()];
    let proven = accounts.or(identities);
    let kinds = groups.iter().filter(|named| **named).count() + usize::from(by_label || proven.is_some());
    if except.is_some() && cidr.is_none() {
        report
            .error("bad-peer", node.span, "`except` needs `cidr`")
            .help("name the block that the exceptions are taken from");
        return None;
    }
    if kinds > 1 {
        report
            .error("bad-peer", node.span, "a peer names things that cannot hold together")
            .help("make several peers of it: each begins with its own `- `; only `workloads`, `namespaces`, `serviceAccounts` and `identities` combine");
        return None;
    }
    if let Some(proven) = proven {
        return proven_peer(report, proven, scope.action);
    }
    if by_label {
        return workloads_peer(report, node.span, workloads, namespaces, scope.namespace);
    }
    if let Some(node) = service {
        return service_peer(report, node, scope.namespace);
    }
    if let Some(node) = cidr {
        return cidr_peer(report, node, except);
    }
    if let Some(node) = entity {
        return entity_peer(report, node);
    }
    if let Some(node) = fqdn {
        return named_peer(report, node, scope);
    }
    if node.as_map().is_some_and(<[_]>::is_empty) {
        report
            .error("empty-peer", node.span, "a peer names nobody")
            .help("write `workloads: {}` for every workload of the namespace, or `entity: world` for everybody outside");
    }
    None
}

/// A peer by name: in what a workload may reach, and nowhere else.
fn named_peer(report: &mut Report, node: &Node, scope: Scope<'_>) -> Option<Peer> {
    let text = node.expect_text(report, "fqdn")?;
    let pattern = name_pattern(report, text, node.span)?;
    if scope.direction == Direction::Ingress {
        report
            .error(
                "bad-peer",
                node.span,
                "who connects cannot be told by name: anybody may own the name of an address",
            )
            .help("name the source by `workloads` or `cidr`");
        return None;
    }
    if scope.action != RuleAction::Allow {
        report
            .error("never-fires", node.span, "a deny or pass by name is avoided by dialling the address")
            .help("name the block by `cidr`, or allow the names that are meant and deny the rest");
        return None;
    }
    Some(Peer::Name(pattern))
}

/// `NAME`, `*.NAME` or `**.NAME`.
pub(super) fn name_pattern(report: &mut Report, text: &str, span: Span) -> Option<NamePattern> {
    match NamePattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let why = match error {
                HostNameError::BelowAddress => "an address is no name".to_owned(),
                other => other.to_string(),
            };
            report.error("bad-name", span, format!("name {}: {why}", quoted(text))).help(
                "write the whole name, `*.example.com` for one label before it, or `**.example.com` for any number",
            );
            None
        }
    }
}

fn workloads_peer(
    report: &mut Report,
    span: Span,
    workloads: Option<&Node>,
    namespaces: Option<&Node>,
    own: Option<&str>,
) -> Option<Peer> {
    let selector = match workloads {
        Some(node) => short_or_full(report, node, Of::Workloads),
        None => Some(Selector::default()),
    };
    let namespaces = match (namespaces, own) {
        (Some(node), _) => short_or_full(report, node, Of::Namespaces).map(NamespaceMatch::Labels),
        (None, Some(own)) => Some(NamespaceMatch::Own(own.to_owned())),
        (None, None) => {
            report
                .error("missing-field", span, "a peer of a cluster policy needs `namespaces`")
                .help("write `namespaces: {}` for every namespace, or `namespaces: {name: …}`");
            None
        }
    };
    Some(Peer::Workloads { namespaces: namespaces?, workloads: selector? })
}

/// `name` in the own namespace, or `namespace/name`.
fn service_peer(report: &mut Report, node: &Node, own: Option<&str>) -> Option<Peer> {
    let text = node.expect_text(report, "service")?;
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (own, text),
    };
    let Some(namespace) = namespace else {
        report
            .error("bad-peer", node.span, "a Service in a cluster policy needs its namespace")
            .help(format!("write `NAMESPACE/{text}`"));
        return None;
    };
    if !is_label(name) || namespace_name(report, node.span, namespace).is_none() {
        report
            .error("bad-name", node.span, format!("{} is no name of a Service", quoted(text)))
            .help("write `service: NAMESPACE/NAME`, or only the name within the policy's namespace");
        return None;
    }
    Some(Peer::Service { namespace: namespace.to_owned(), name: name.to_owned() })
}

fn cidr_peer(report: &mut Report, node: &Node, except: Option<&Node>) -> Option<Peer> {
    let text = node.expect_text(report, "cidr")?;
    let block = block(report, text, node.span)?;
    let mut holes = Vec::new();
    if let Some(list) = except {
        let items = list.expect_list(report, "except")?;
        if items.is_empty() {
            report
                .error("empty-list", list.span, "`except` is empty")
                .help("remove it, or name the exceptions");
        }
        for item in items {
            let text = item.expect_text(report, "except")?;
            let hole = self::block(report, text, item.span)?;
            if !block.covers(hole) || hole == block {
                report
                    .error(
                        "bad-except",
                        item.span,
                        format!("{} is no part of {}", quoted(text), quoted(&block.to_string())),
                    )
                    .help("an exception must be smaller than `cidr` and inside of it");
                return None;
            }
            holes.push(hole);
        }
    }
    holes.sort();
    Some(Peer::Cidr { block, except: holes })
}

/// An address block or a single address, written in its one form.
fn block(report: &mut Report, text: &str, span: Span) -> Option<Cidr> {
    let block = match text.parse::<Cidr>() {
        Ok(block) => block,
        Err(error) => {
            report.error("bad-cidr", span, format!("{}: {error}", quoted(text)));
            return None;
        }
    };
    let address: Option<std::net::IpAddr> = text.split('/').next().and_then(|address| address.parse().ok());
    if address.is_some_and(|address| address.to_canonical() != block.first()) {
        report
            .error("host-bits", span, format!("{} has bits beyond its prefix", quoted(text)))
            .help(format!("write `{block}`, or the single address without `/`"));
        return None;
    }
    Some(block)
}

const ENTITIES: [(&str, Entity); 6] = [
    ("world", Entity::World),
    ("cluster", Entity::Cluster),
    ("node", Entity::Node),
    ("kube-apiserver", Entity::KubeApiserver),
    ("dns", Entity::Dns),
    ("metadata", Entity::Metadata),
];

fn entity_peer(report: &mut Report, node: &Node) -> Option<Peer> {
    let text = node.expect_text(report, "entity")?;
    if let Some((_, entity)) = ENTITIES.iter().find(|(name, _)| *name == text) {
        return Some(Peer::Entity(*entity));
    }
    let names = ENTITIES.map(|(name, _)| name);
    let help = match nearest(text, names) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("write {}", crate::yaml::alternatives(&names)),
    };
    report.error("bad-value", node.span, format!("entity {} is unknown", quoted(text))).help(help);
    None
}

fn proven_peer(report: &mut Report, node: &Node, action: RuleAction) -> Option<Peer> {
    let items = node.expect_list(report, "serviceAccounts")?;
    if items.is_empty() {
        report
            .error("matches-nobody", node.span, "the list of identities is empty")
            .help("name at least one, or remove the peer");
    }
    for item in items {
        item.expect_text(report, "serviceAccounts")?;
    }
    match action {
        RuleAction::Allow => {
            report
                .warning(
                    "identity-unproven",
                    node.span,
                    "nobody proves an identity yet: this peer matches nobody",
                )
                .help("name the peer by `workloads` until mutual TLS between sidecars is there");
            Some(Peer::Unknown("an identity that nobody proves yet".to_owned()))
        }
        RuleAction::Deny | RuleAction::Pass => {
            report
                .error("never-fires", node.span, "nobody proves an identity yet: this rule could never fire")
                .help("name the peer by `workloads` or `namespaces`");
            None
        }
    }
}

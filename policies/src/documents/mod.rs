//! Policy documents and inventory: Kubernetes-shaped text in, checked values out.
//!
//! [`load`] reads every kind of policy into one [`PolicySet`]; [`load_inventory`] reads what `kubectl get … -o yaml`
//! prints. Neither stops at the first error: one run shows all there is to mend, and a set with an error is not
//! used at all. What has no error may still not say what was meant: [`load`] warns, and [`references()`] warns of names
//! that the inventory does not know.
//!
//! One file per kind; the parts they share are in `names`, `selectors`, `peers`, `ports` and `http`.

mod cluster_network_policy;
mod collection;
mod companions;
mod dates;
mod foreign;
mod http;
mod inventory;
mod lint;
mod names;
mod network_policy;
mod peers;
mod places;
mod ports;
mod references;
pub mod schema;
mod sections;
mod segment;
mod selectors;

pub(crate) use companions::{companions, joined_ends, named_ends, opened};
pub use inventory::load_inventory;
pub use places::{Place, Places};
pub use references::references;
pub(crate) use sections::{APIS, RECORDS, SECTIONS};
pub(crate) use selectors::NAMESPACE_NAME_LABEL;

use crate::diagnostics::{Diagnostic, Report, Source, nearest, quoted};
use crate::model::{Collection, L7Section, Policy, PolicySet, PortMatch, RuleAction};
use crate::yaml::{self, Fields, Node, Nulls};
use places::PolicyPlace;

/// The group and version of our own kinds.
pub const API_VERSION: &str = "bulkhead.dev/v1alpha1";
/// Our own kinds.
pub const KINDS: [&str; 5] =
    ["SegmentPolicy", "ClusterSegmentPolicy", "Collection", "PolicyTest", "PolicyProof"];

/// What a set of sources says.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Policies and collections, sorted. Not to be used if there are errors.
    pub set: PolicySet,
    /// Findings, in the order of the sources.
    pub diagnostics: Vec<Diagnostic>,
    /// Where everything stands.
    pub places: Places,
}

impl Loaded {
    /// True if the set must not be used.
    pub fn has_errors(&self) -> bool {
        crate::diagnostics::has_errors(&self.diagnostics)
    }
}

/// Reads policies and collections from sources in YAML or JSON.
///
/// Documents of other kinds that are no policies (Deployments, a `PolicyTest` or `PolicyProof`) are left alone; policies of kinds that
/// are not read are errors, since leaving them out would change what is enforced.
pub fn load(sources: &[Source]) -> Loaded {
    let mut loaded = Loaded::default();
    for source in sources {
        match yaml::parse(source) {
            Ok(documents) => {
                let mut report = Report::new(&*source.name);
                for document in &documents {
                    read_document(&mut report, document, &mut loaded);
                }
                loaded.diagnostics.extend(report.finish());
            }
            Err(diagnostics) => loaded.diagnostics.extend(diagnostics),
        }
    }
    loaded.set.policies.sort_by(|a, b| (a.tier, a.priority, &a.origin).cmp(&(b.tier, b.priority, &b.origin)));
    loaded.set.collections.sort_by(|a, b| a.name.cmp(&b.name));
    if !loaded.has_errors() {
        let found = lint::lint(&loaded.set, &loaded.places);
        loaded.diagnostics.extend(found);
        let order = |file: &str| sources.iter().position(|source| source.name == file);
        loaded.diagnostics.sort_by_key(|found| (order(&found.file), found.line, found.column));
    }
    loaded
}

/// A port in the short form of our own kinds; several for a message of ICMP by name.
pub(crate) fn read_port(report: &mut Report, node: &Node) -> Vec<PortMatch> {
    ports::read(report, node)
}

/// A section of a rule by its name, read as one of a deny: what may be meant counts.
pub(crate) fn read_section(report: &mut Report, name: &str, node: &Node) -> Option<L7Section> {
    sections::read(report, name, node, RuleAction::Deny)
}

/// The `apiVersion` and `kind` of a document, or an error.
pub(crate) fn type_of<'a>(report: &mut Report, node: &'a Node) -> Option<(&'a str, &'a str)> {
    let mut fields = Fields::open(report, node, "a document", Nulls::Refused)?;
    let version = fields.required_text(report, "apiVersion");
    let kind = fields.required_text(report, "kind");
    Some((version?, kind?))
}

/// The `apiVersion` and `kind` of an item. Those of a typed list (`PodList`) need not repeat what its name says.
pub(crate) fn type_of_item<'a>(
    report: &mut Report,
    item: &'a Node,
    (list_version, list_kind): (&'a str, &'a str),
) -> Option<(&'a str, &'a str)> {
    let typed = list_kind.strip_suffix("List").filter(|kind| !kind.is_empty());
    match typed {
        Some(kind) if item.child("kind").is_none() && item.child("apiVersion").is_none() => {
            Some((list_version, kind))
        }
        Some(_) | None => type_of(report, item),
    }
}

/// The items of a `List`, or none for another kind.
pub(crate) fn items_of<'a>(report: &mut Report, node: &'a Node, kind: &str) -> Option<&'a [Node]> {
    if !kind.ends_with("List") {
        return None;
    }
    let mut fields = Fields::open(report, node, "a List", Nulls::Absent)?;
    Some(fields.list(report, "items").unwrap_or_default())
}

fn read_document(report: &mut Report, node: &Node, loaded: &mut Loaded) {
    let Some((version, kind)) = type_of(report, node) else { return };
    if let Some(items) = items_of(report, node, kind) {
        for item in items {
            read_item(report, item, (version, kind), loaded);
        }
        return;
    }
    read_kind(report, node, version, kind, loaded);
}

fn read_item(report: &mut Report, node: &Node, list: (&str, &str), loaded: &mut Loaded) {
    let Some((version, kind)) = type_of_item(report, node, list) else { return };
    if kind.ends_with("List") {
        report
            .error("unknown-kind", node.span, "a List inside of a List is not read")
            .help("put its items one level up");
        return;
    }
    read_kind(report, node, version, kind, loaded);
}

fn read_kind(report: &mut Report, node: &Node, version: &str, kind: &str, loaded: &mut Loaded) {
    let read = match (version, kind) {
        (API_VERSION, "SegmentPolicy") => segment::read_namespaced(report, node),
        (API_VERSION, "ClusterSegmentPolicy") => segment::read_cluster(report, node),
        ("networking.k8s.io/v1", "NetworkPolicy") => network_policy::read(report, node),
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy") => {
            cluster_network_policy::read(report, node)
        }
        (API_VERSION, "Collection") => {
            if let Some(collection) = collection::read(report, node) {
                add_collection(report, node, loaded, collection);
            }
            return;
        }
        // Cases are read by `crate::cases`, proofs by `crate::prove`.
        (API_VERSION, "PolicyTest" | "PolicyProof") => return,
        _ => return refuse_kind(report, node, version, kind),
    };
    if let Some((policy, place)) = read {
        add(report, loaded, policy, place);
    }
}

/// A policy with its places, as a reader returns it; `None` if it could not even be named.
type Read = Option<(Policy, PolicyPlace)>;

fn add(report: &mut Report, loaded: &mut Loaded, policy: Policy, place: PolicyPlace) {
    if let Some(first) = loaded.places.policies.get(&policy.origin) {
        report.error("duplicate-policy", place.name, format!("{} is there twice", policy.origin)).help(
            format!(
                "the first one is at {}:{}:{}: rename one or remove it",
                first.file, first.name.line, first.name.column
            ),
        );
        return;
    }
    loaded.places.policies.insert(policy.origin.clone(), place);
    loaded.set.policies.push(policy);
}

fn add_collection(report: &mut Report, node: &Node, loaded: &mut Loaded, collection: Collection) {
    let span = node
        .child("metadata")
        .and_then(|metadata| metadata.child("name"))
        .map_or(node.span, |name| name.span);
    let place = Place { file: report.file().to_owned(), span };
    if let Some(first) = loaded.places.collections.get(&collection.name) {
        report
            .error("duplicate-collection", span, format!("Collection/{} is there twice", collection.name))
            .help(format!("the first one is at {first}: rename one or remove it"));
        return;
    }
    loaded.places.collections.insert(collection.name.clone(), place);
    loaded.set.collections.push(collection);
}

/// Kinds of others that decide on traffic, which we do not read.
const FOREIGN_POLICY_KINDS: [&str; 16] = [
    "NetworkPolicy",
    "ClusterNetworkPolicy",
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "AuthorizationPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "NvSecurityRule",
    "NvClusterSecurityRule",
    "MeshTrafficPermission",
    "ServiceIntentions",
    "ServerAuthorization",
];

fn refuse_kind(report: &mut Report, node: &Node, version: &str, kind: &str) {
    let span = node.child("kind").map_or(node.span, |kind| kind.span);
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if group == "bulkhead.dev" && KINDS.contains(&kind) {
        let span = node.child("apiVersion").map_or(node.span, |version| version.span);
        report
            .error("unknown-kind", span, format!("version {} of {kind} is not read", quoted(version)))
            .help(format!("write `{API_VERSION}`"));
    } else if group == "bulkhead.dev" {
        let help = match nearest(kind, KINDS) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known kinds: {}", KINDS.join(", ")),
        };
        report
            .error("unknown-kind", span, format!("kind {} is unknown in {API_VERSION}", quoted(kind)))
            .help(help);
    } else if FOREIGN_POLICY_KINDS.contains(&kind) {
        report
            .error("unread-policy", span, format!("{kind} of {} is a policy that is not read", quoted(version)))
            .help("convert it to a SegmentPolicy, NetworkPolicy (networking.k8s.io/v1) or ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2), or move it out of the set");
    } else if let Some(meant) = KINDS.into_iter().find(|known| *known == kind) {
        report
            .error("unknown-kind", span, format!("{meant} of {} is unknown", quoted(version)))
            .help(format!("write `apiVersion: {API_VERSION}`"));
    }
}

#[cfg(test)]
mod tests;

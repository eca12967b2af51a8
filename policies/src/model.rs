//! The checked form: what every policy format becomes before it is compiled.
//!
//! One form for all kinds (SegmentPolicy, ClusterSegmentPolicy, NetworkPolicy, ClusterNetworkPolicy):
//! tiers of policies of rules. Nothing here is text that still has to be understood; whoever builds it
//! ([`crate::documents`]) has refused what it could not. Not here: evaluation ([`crate::compile`]).

mod collection;
mod sections;
mod share;

pub use collection::{
    Collection, CollectionDefault, Criticality, Date, Freeze, Infrastructure, ScheduleStep,
};
pub use sections::{
    DnsMatch, HeaderMatch, HeaderValueMatch, HttpMatch, KafkaMatch, L7Section, PostgresMatch, QueryMatch,
    RedisMatch, TlsMatch, TopicMatch,
};
pub use share::Share;

use bulkhead_facts::{Cidr, Direction, Effect, L4Protocol, NamePattern, PolicyRef, PortRange, Tier};

/// Everything that was checked together and is compiled together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicySet {
    /// Policies of all tiers, in no particular order; the compiler sorts.
    pub policies: Vec<Policy>,
    /// Collections, at most one of which covers a workload.
    pub collections: Vec<Collection>,
}

impl PolicySet {
    /// The set as it is held on a day: every collection in the mode that its schedule has come to.
    pub fn on(&self, day: Date) -> Self {
        let collections = self.collections.iter().map(|collection| collection.on(day)).collect();
        Self { policies: self.policies.clone(), collections }
    }
}

/// One policy document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Policy {
    /// Kind, namespace, name.
    pub origin: PolicyRef,
    /// Admin, Namespace or Baseline.
    pub tier: Tier,
    /// Within the admin and baseline tiers, lower first; 0 elsewhere.
    pub priority: i32,
    /// The workloads it speaks for.
    pub subject: Subject,
    /// Whether a selected workload becomes isolated, per direction (`[ingress, egress]`). Only in the
    /// namespace tier.
    pub isolates: [bool; 2],
    /// Enforced, audited, or audited as if it were gone.
    pub mode: PolicyMode,
    /// Rules for traffic towards the subject, in order.
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the subject, in order.
    pub egress: Vec<Rule>,
}

impl Policy {
    /// The rules of one direction.
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// How a policy counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyMode {
    /// As the collection's mode says.
    #[default]
    Inherit,
    /// In the shadow answer only.
    Audit,
    /// In the enforced answer only: the shadow answer shows what would change if it went.
    AuditRemoval,
}

/// Which workloads a policy selects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Namespaces; for namespaced kinds [`NamespaceMatch::Own`].
    pub namespaces: NamespaceMatch,
    /// Labels of the workload's pods; an empty selector selects all.
    pub workloads: Selector,
}

/// Which namespaces a subject or peer names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamespaceMatch {
    /// The named one: the policy's own.
    Own(String),
    /// Those whose labels match; every namespace carries `kubernetes.io/metadata.name`. (The native short form
    /// `name` is written as that label by whoever reads the document.)
    Labels(Selector),
}

/// A label selector with the meaning of Kubernetes: all requirements hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    /// Requirements, all of which must hold.
    pub requirements: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    /// Label key.
    pub key: String,
    /// Operator with its values.
    pub operator: Operator,
}

/// A label operator. `NotIn` and `DoesNotExist` hold for objects without the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// The value is one of these.
    In(Vec<String>),
    /// The value is none of these, or the key is absent.
    NotIn(Vec<String>),
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// Name, unique within policy and direction; `ingress[2]` where the document gave none.
    pub name: String,
    /// What a match means. Only `Allow` in the namespace tier.
    pub action: RuleAction,
    /// Whom it names.
    pub peers: Peers,
    /// Which ports it names.
    pub ports: Ports,
    /// What it narrows to at layer 7.
    pub l7: Option<L7Section>,
}

/// What a match of a rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleAction {
    /// Allow.
    Allow,
    /// Deny.
    Deny,
    /// Leave the tier.
    Pass,
}

impl RuleAction {
    /// The effect, or `None` for `Pass`.
    pub fn effect(self) -> Option<Effect> {
        match self {
            Self::Allow => Some(Effect::Allow),
            Self::Deny => Some(Effect::Deny),
            Self::Pass => None,
        }
    }
}

/// Whom a rule names. An empty list is not "any": it names nobody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peers {
    /// Everybody, inside and outside the cluster.
    Any,
    /// These, as alternatives.
    These(Vec<Peer>),
}

/// One peer: all parts that are named must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// Pods by namespace and labels.
    Workloads {
        /// Their namespaces.
        namespaces: NamespaceMatch,
        /// Their labels.
        workloads: Selector,
    },
    /// The pods behind a Service, and the Service's own addresses.
    Service {
        /// Namespace of the Service.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An address block less others. Matches pods by address as well.
    Cidr {
        /// The block.
        block: Cidr,
        /// Blocks inside it that are not meant.
        except: Vec<Cidr>,
    },
    /// The addresses of nodes with these labels, and so of the pods in their network namespace.
    Nodes(Selector),
    /// A well-known group of addresses.
    Entity(Entity),
    /// The addresses that the name system gives for a name. Nobody learns them yet: it matches none. Only in allows.
    Name(NamePattern),
    /// Something we cannot evaluate. An allow with it matches nothing, a deny or pass with it matches all.
    Unknown(String),
}

/// Well-known groups of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    /// Addresses of no pod, node or Service of the cluster.
    World,
    /// Every pod, node and Service address.
    Cluster,
    /// The addresses of the nodes.
    Node,
    /// The API server's Service and endpoints.
    KubeApiserver,
    /// The cluster's resolver.
    Dns,
    /// 169.254.169.254, fd00:ec2::254 and their like.
    Metadata,
}

/// Which ports a rule names. An empty list is not "any": it names none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ports {
    /// Every port of every protocol.
    Any,
    /// These, as alternatives.
    These(Vec<PortMatch>),
}

/// One port of a rule, always the target's own, after any Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortMatch {
    /// A protocol and a range ([`PortRange::ALL`] for the whole protocol).
    Range(L4Protocol, PortRange),
    /// A container port's name, resolved at each destination; a name that does not resolve there, or with
    /// another protocol, matches nothing. `None` is any protocol (the native short form).
    Named(Option<L4Protocol>, String),
}

//! What a rule means on an address that it knows by name only.
//!
//! Others may have the same address, so that the address alone does not say who is meant: where the bytes name somebody,
//! in the client hello of TLS or as the host of a request, that has to be one of the rule's names. A section that says
//! names itself (`sni`, `hosts`) says which; one that does not is given those of the peers, and a rule without a section
//! both. What names nobody, other protocols, is allowed to a rule without a section.
//!
//! Names in a ClusterNetworkPolicy mean addresses and nothing else, as Kubernetes has it.

use super::clauses::{PortBlock, numeric_ports};
use super::lineup::Bytes;
use crate::model::{HttpMatch, L7Section, Peer, Peers, Policy, Rule, TlsMatch};
use bulkhead_facts::{HostPattern, NamePattern};
use std::collections::BTreeSet;

/// A rule on the addresses of its names.
#[derive(Clone, Debug)]
pub(crate) struct ByName<'a> {
    /// Names among its peers.
    pub(crate) names: Vec<&'a NamePattern>,
    /// The ports that it means there.
    pub(crate) ports: Vec<PortBlock>,
    /// One of them has to match; none runs on the same bytes as another.
    pub(crate) sections: Vec<L7Section>,
    /// It has no section of its own.
    whole: bool,
}

impl<'a> ByName<'a> {
    /// `None` for a rule without names among its peers.
    pub(crate) fn of(policy: &Policy, rule: &'a Rule) -> Option<Self> {
        let names = names_of(&rule.peers);
        let by_address_alone = policy.origin.kind == "ClusterNetworkPolicy";
        (!names.is_empty()).then(|| Self {
            ports: numeric_ports(&rule.ports),
            sections: if by_address_alone { Vec::new() } else { sections(rule.l7.as_ref(), &names) },
            whole: rule.l7.is_none(),
            names,
        })
    }

    /// What holds for bytes that no section reads.
    pub(crate) fn otherwise(&self) -> Bytes {
        if self.whole { Bytes::Any } else { Bytes::Undecidable }
    }
}

fn sections(own: Option<&L7Section>, names: &[&NamePattern]) -> Vec<L7Section> {
    match own {
        None => vec![
            L7Section::Http(vec![hosted(HttpMatch::default(), names)]),
            L7Section::Tls(indicated(TlsMatch::default(), names)),
        ],
        Some(L7Section::Http(requests)) => {
            vec![L7Section::Http(requests.iter().map(|request| hosted(request.clone(), names)).collect())]
        }
        Some(L7Section::Tls(hello)) => vec![L7Section::Tls(indicated(hello.clone(), names))],
        // These protocols do not say whom they mean.
        Some(
            other @ (L7Section::Dns(_) | L7Section::Redis(_) | L7Section::Postgres(_) | L7Section::Kafka(_)),
        ) => vec![other.clone()],
    }
}

fn hosted(mut request: HttpMatch, names: &[&NamePattern]) -> HttpMatch {
    if request.hosts.is_empty() {
        request.hosts = names.iter().map(|name| host(name)).collect();
    }
    request
}

/// Patterns of hosts know one star only, for one or more labels.
fn host(name: &NamePattern) -> HostPattern {
    match name {
        NamePattern::Exact(name) => HostPattern::Exact(name.clone()),
        NamePattern::OneBelow(base) | NamePattern::Below(base) => HostPattern::Below(base.clone()),
    }
}

fn indicated(mut hello: TlsMatch, names: &[&NamePattern]) -> TlsMatch {
    if hello.sni.is_empty() && !hello.encrypted && !hello.nameless {
        hello.sni = names.iter().map(|name| (*name).clone()).collect();
    }
    hello
}

fn names_of(peers: &Peers) -> Vec<&NamePattern> {
    let Peers::These(peers) = peers else { return Vec::new() };
    let names = peers.iter().filter_map(|peer| if let Peer::Name(name) = peer { Some(name) } else { None });
    let names: BTreeSet<&NamePattern> = names.collect();
    names.into_iter().collect()
}

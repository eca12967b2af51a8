//! What holds for an address that a name led to.
//!
//! The program holds a class for every set of rules by name that can meet on an address ([`NamedClass`]); who learns
//! addresses asks here which class one has now, and the kernel and [`Judge`] use that class instead of its own.

use super::{Judge, NOTHING_MATCHED, box_at};
use crate::program::{Action, AddressSpan, ClassId, L7ChainId, NamedClass, RuleIndex};
use bulkhead_facts::{Direction, Effect, HostName, IpFamily, L4Protocol, Request, TlsHello, TlsVersion};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Application protocols that clients offer: a rule may ask for some.
const OFFERS: [&[&str]; 4] = [&[], &["h2", "http/1.1"], &["h2"], &["http/1.1"]];

impl Judge {
    /// True if some rule allows traffic to names: then answers of the name system have to be seen.
    pub fn has_names(&self) -> bool {
        !self.program.egress.named.is_empty()
    }

    /// The rules that allow traffic to this name, in order.
    pub fn rules_naming(&self, name: &HostName) -> Vec<RuleIndex> {
        let naming =
            self.program.names.iter().filter(|named| named.names.iter().any(|own| own.matches(name)));
        let mut rules: Vec<RuleIndex> = naming.map(|named| named.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// True where the pod may greet this host by TLS in clear, and not by a hello that hides its name, as far as what is enforced
    /// says: then keys for such hellos would only make it fail.
    pub fn wants_name_in_clear(&self, name: &HostName) -> bool {
        let endpoints = self.program.choices.iter().flat_map(|choice| &choice.endpoints);
        let boxes = self.program.egress.boxes.iter().map(|one| one.action);
        let chains =
            boxes.chain(endpoints.map(|endpoint| endpoint.action)).filter_map(|action| match action {
                Action::Inspect { chain, .. } => Some(chain),
                Action::Answer(_) | Action::Learn(_) | Action::Choose { .. } => None,
            });
        let chains: BTreeSet<L7ChainId> = chains.collect();
        chains.into_iter().any(|chain| {
            OFFERS.iter().any(|offer| {
                let may = |encrypted| {
                    let hello = TlsHello {
                        server_name: Some(name),
                        lowest: TlsVersion::V1_3,
                        highest: TlsVersion::V1_3,
                        application_protocols: offer,
                        encrypted,
                    };
                    self.decide_l7(chain, &Request::Tls(hello)).enforced.effect == Effect::Allow
                };
                may(false) && !may(true)
            })
        })
    }

    /// The class of an address that names of these rules (in order, each once) lead to; `None` if none of them means it: it
    /// lies inside the cluster, or the rules have no ports. Where the program holds no class for all of the rules together,
    /// the one for most of them.
    pub fn named_class(&self, address: IpAddr, rules: &[RuleIndex]) -> Option<ClassId> {
        let address = address.to_canonical();
        let (family, base) = match address {
            IpAddr::V4(v4) => (IpFamily::V4, class_of(&self.program.egress.v4, v4.into())),
            IpAddr::V6(v6) => (IpFamily::V6, class_of(&self.program.egress.v6, v6.into())),
        };
        let all = &self.program.egress.named;
        let first = all.partition_point(|named| (named.family, named.base) < (family, base));
        let of_base = all[first..].iter().take_while(|named| (named.family, named.base) == (family, base));
        let means = |named: &&NamedClass| named.rules.iter().all(|rule| rules.binary_search(rule).is_ok());
        of_base.filter(means).max_by_key(|named| named.rules.len()).map(|named| named.class)
    }

    /// As [`Judge::action`], for a peer whose class is known.
    pub fn action_of_class(
        &self,
        direction: Direction,
        class: ClassId,
        protocol: L4Protocol,
        port: u16,
    ) -> Action {
        let all = &self.program.direction(direction).boxes;
        let first = all.partition_point(|b| b.class < class);
        let end = all.partition_point(|b| b.class <= class);
        box_at(all.get(first..end).unwrap_or_default(), protocol, port).unwrap_or(NOTHING_MATCHED)
    }
}

fn class_of<A: Ord + Copy>(spans: &[AddressSpan<A>], address: A) -> Option<ClassId> {
    let at = spans.partition_point(|span| span.last < address);
    spans.get(at).filter(|span| span.first <= address).map(|span| span.class)
}

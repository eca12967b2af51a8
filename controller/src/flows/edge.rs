//! An edge as it is stored: what was seen from one side, with the names that addresses had when it came in.

use bulkhead_api::rest::{Effect, HttpSummary, Party, PartyKind, RequestSummary, RuleSummary, Side};
use bulkhead_policies::compile::METADATA;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Everything that tells one edge from another. Its JSON is the key in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// Which end the sidecar that saw it stands at.
    pub observed_by: Side,
    /// Who opened it.
    pub source: Endpoint,
    /// Whom it was opened to.
    pub destination: Endpoint,
    /// The Service whose address was dialled, as `namespace/name`.
    pub via_service: Option<String>,
    /// Protocol number.
    pub protocol: u8,
    /// The target's port where the Service's endpoints agree on one, else as dialled.
    pub port: u16,
    /// Port as dialled.
    pub dialled_port: u16,
    /// The request of HTTP or question to a name server; `None` where only layer 4 was seen.
    pub http: Option<HttpSummary>,
    /// The request of another protocol. Left out where there is none, so that such an edge has the key that it always had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestSummary>,
    /// What the bytes looked like.
    pub application: String,
    /// What held.
    pub enforced: Judgement,
    /// What would hold if audited policies counted.
    pub shadow: Judgement,
}

impl Edge {
    /// True if an end is outside of the cluster, where a pod can name any number of addresses. Those of instance metadata
    /// are few, and are told apart always.
    pub fn is_outside(&self) -> bool {
        let outside = |end: &Endpoint| end.party.kind == PartyKind::Outside;
        (outside(&self.source) || outside(&self.destination)) && !METADATA.contains(&self.destination.address)
    }

    /// The edge that stands for all addresses of a network outside (/16 or /48) and this port, whatever was said.
    pub fn by_network(&self) -> Self {
        let mut edge = Self { http: None, request: None, application: String::new(), ..self.clone() };
        for end in [&mut edge.source, &mut edge.destination] {
            if end.party.kind == PartyKind::Outside {
                let (network, bits) = network(end.address);
                (end.address, end.party.name) = (network, format!("{network}/{bits}"));
            }
        }
        edge
    }
}

fn network(address: IpAddr) -> (IpAddr, u8) {
    match address.to_canonical() {
        IpAddr::V4(address) => (Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 16)).into(), 16),
        IpAddr::V6(address) => (Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into(), 48),
    }
}

/// One end of an edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Whose the address was.
    pub party: Party,
    /// The pod, where it was one.
    pub pod: Option<String>,
    /// The address.
    pub address: IpAddr,
}

/// An answer by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Judgement {
    /// Allow or deny.
    pub effect: Effect,
    /// Why.
    pub reason: String,
    /// The rule; `None` for a default.
    pub rule: Option<RuleSummary>,
}

/// What is counted for an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests, connections or packets.
    pub count: u64,
    /// Bytes from source to destination.
    pub bytes_to_destination: u64,
    /// Bytes from destination to source.
    pub bytes_to_source: u64,
    /// First time, milliseconds since the epoch.
    pub first_seen_ms: u64,
    /// Last time, milliseconds since the epoch.
    pub last_seen_ms: u64,
    /// Newest revision that judged it.
    pub revision: u64,
    /// User of the sending process, where the kernel told.
    pub sender_uid: Option<u32>,
    /// Last identifier that a refused peer was given.
    pub report_id: Option<String>,
}

/// One edge of one pod on one day, as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEdge {
    /// Days since the epoch.
    pub day: u64,
    /// The pod whose sidecar saw it.
    pub pod_uid: String,
    /// The edge.
    pub edge: Edge,
    /// What was counted.
    pub totals: Totals,
}

#[cfg(test)]
mod tests {
    use crate::flows::testing::{Seen, seen};

    #[test]
    fn addresses_of_one_network_outside_are_one_edge_and_the_own_end_stays() {
        let cases = [
            ("8.8.4.4", "8.8.0.0/16"),
            ("8.9.4.4", "8.9.0.0/16"),
            ("::ffff:8.8.8.8", "8.8.0.0/16"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ];
        for (address, network) in cases {
            let edge = seen(Seen { destination: "", address, path: Some("/a"), ..Seen::default() }).edge;
            assert!(edge.is_outside());
            let folded = edge.by_network();
            assert_eq!(folded.destination.party.name, network);
            assert_eq!((folded.source, folded.http, folded.port), (edge.source, None, edge.port));
        }
    }

    #[test]
    fn an_edge_that_an_older_controller_stored_is_read_and_keeps_its_key() {
        let edge = seen(Seen { path: Some("/a"), ..Seen::default() }).edge;
        let key = serde_json::to_string(&edge).expect("JSON");
        assert!(!key.contains("\"request\""), "{key}");
        assert_eq!(serde_json::from_str::<super::Edge>(&key).expect("an edge"), edge);
    }

    #[test]
    fn neighbours_and_metadata_are_not_outside() {
        assert!(!seen(Seen::default()).edge.is_outside());
        let metadata = Seen { destination: "", address: "169.254.169.254", ..Seen::default() };
        assert!(!seen(metadata).edge.is_outside());
    }
}

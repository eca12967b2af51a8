//! Stored edges for tests: the same one each time, but for what a test names.

use super::edge::{Edge, Endpoint, Judgement, SeenEdge, Totals};
use bulkhead_api::rest::{Effect, HttpSummary, Party, PartyKind, RequestSummary, Side};

/// What a test cares about.
pub(crate) struct Seen {
    pub(crate) side: Side,
    pub(crate) source: &'static str,
    pub(crate) pod: &'static str,
    pub(crate) destination: &'static str,
    pub(crate) address: &'static str,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) path: Option<&'static str>,
    pub(crate) request: Option<RequestSummary>,
    pub(crate) denied: Option<&'static str>,
    pub(crate) count: u64,
    pub(crate) last_seen_ms: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            side: Side::Source,
            source: "web",
            pod: "web-0",
            destination: "db",
            address: "10.0.0.2",
            protocol: 6,
            port: 8080,
            path: None,
            request: None,
            denied: None,
            count: 1,
            last_seen_ms: 2_000,
        }
    }
}

/// An edge from `shop/SOURCE` to `shop/DESTINATION`, or to an outsider where the destination is empty.
pub(crate) fn seen(what: Seen) -> SeenEdge {
    let judgement = match what.denied {
        Some(reason) => Judgement { effect: Effect::Deny, reason: reason.into(), rule: None },
        None => Judgement { effect: Effect::Allow, reason: "allowed_by_rule".into(), rule: None },
    };
    let http =
        |path: &str| HttpSummary { method: "GET".into(), path: path.into(), host: String::new(), status: 2 };
    let destination = match what.destination {
        "" => Party { kind: PartyKind::Outside, namespace: None, name: what.address.into() },
        name => workload(name),
    };
    let edge = Edge {
        observed_by: what.side,
        source: Endpoint {
            party: workload(what.source),
            pod: Some(what.pod.into()),
            address: "10.0.0.1".parse().expect("an address"),
        },
        destination: Endpoint {
            party: destination,
            pod: None,
            address: what.address.parse().expect("an address"),
        },
        via_service: None,
        protocol: what.protocol,
        port: what.port,
        dialled_port: what.port,
        http: what.path.map(http),
        request: what.request,
        application: String::new(),
        enforced: judgement.clone(),
        shadow: judgement,
    };
    let totals = Totals {
        count: what.count,
        first_seen_ms: 1_000,
        last_seen_ms: what.last_seen_ms,
        revision: 1,
        ..Totals::default()
    };
    SeenEdge { day: 0, pod_uid: format!("uid-{}", what.pod), edge, totals }
}

fn workload(name: &str) -> Party {
    Party { kind: PartyKind::Workload, namespace: Some("shop".into()), name: name.into() }
}

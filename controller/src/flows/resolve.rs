//! Flows as they come in get names: what an address belonged to at this moment is what reports will say.

use super::addresses::{Addresses, Target};
use super::edge::{Edge, Endpoint, Judgement, Totals};
use crate::limits::FLOW_AGE_MAX;
use bulkhead_api::rest::{HttpSummary, Party, RequestSummary, Side};
use bulkhead_api::{Flow, FlowAnswer};
use bulkhead_facts::{Direction, Reason};

/// The pod whose sidecar reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observer {
    /// Its workload.
    pub party: Party,
    /// Its name.
    pub pod: String,
}

/// Names both ends of a flow. Times are those of the sidecar, held to what can be true.
pub fn resolve(addresses: &Addresses, observer: &Observer, flow: &Flow, received_ms: u64) -> (Edge, Totals) {
    let own =
        Endpoint { party: observer.party.clone(), pod: Some(observer.pod.clone()), address: flow.local };
    let (observed_by, source, target) = match flow.direction {
        Direction::Egress => (Side::Source, own, target(addresses, flow)),
        Direction::Ingress => {
            let target = Target { endpoint: own, via_service: None, port: flow.port };
            (Side::Destination, addresses.endpoint(flow.peer), target)
        }
    };
    let is_held_down = addresses.is_held_down(flow.peer);
    let edge = Edge {
        observed_by,
        source,
        destination: target.endpoint,
        via_service: target.via_service,
        protocol: flow.protocol.0,
        port: target.port,
        dialled_port: flow.port,
        http: flow.http.as_ref().map(HttpSummary::from),
        request: flow.request.as_deref().map(RequestSummary::from),
        application: flow.application.clone(),
        enforced: judgement(&flow.enforced, is_held_down),
        shadow: judgement(&flow.shadow, is_held_down),
    };
    (edge, totals(flow, received_ms))
}

/// A sidecar is told what both holders of an address may, and not why the rest is denied: here it is known.
fn judgement(answer: &FlowAnswer, is_held_down: bool) -> Judgement {
    let reason = match answer.reason {
        Reason::NoRule if is_held_down => Reason::StalePeer,
        reason => reason,
    };
    Judgement {
        effect: answer.effect.into(),
        reason: reason.as_str().to_owned(),
        rule: answer.rule.as_ref().map(Into::into),
    }
}

/// A sidecar's clock may be wrong, or lie: nothing was seen after it came in, nor longer before than a sidecar
/// keeps what it could not send.
fn totals(flow: &Flow, received_ms: u64) -> Totals {
    let age_max_ms = u64::try_from(FLOW_AGE_MAX.as_millis()).unwrap_or(u64::MAX);
    let oldest_ms = received_ms.saturating_sub(age_max_ms);
    let last_seen_ms = flow.last_seen_ms.clamp(oldest_ms, received_ms);
    Totals {
        count: flow.count,
        bytes_to_destination: flow.bytes_to_destination,
        bytes_to_source: flow.bytes_to_source,
        first_seen_ms: flow.first_seen_ms.clamp(oldest_ms, last_seen_ms),
        last_seen_ms,
        revision: flow.revision,
        sender_uid: flow.sender_uid,
        report_id: flow.report_id.clone(),
    }
}

/// The sidecar may have picked the endpoint of the Service itself.
fn target(addresses: &Addresses, flow: &Flow) -> Target {
    let target = addresses.target(flow.peer, flow.protocol, flow.port);
    match flow.endpoint {
        Some(endpoint) => {
            Target { endpoint: addresses.endpoint(endpoint.ip()), port: endpoint.port(), ..target }
        }
        None => target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_api::rest::PartyKind;
    use bulkhead_facts::{Effect, L4Protocol, WorkloadRef};
    use bulkhead_policies::inventory::{Inventory, ObjectName, Pod, Service, ServicePort};
    use std::net::IpAddr;

    const NOW_MS: u64 = 1_000_000_000_000;

    #[test]
    fn the_other_end_is_named_by_what_its_address_is() {
        let cases = [
            ("10.0.0.2", 8080, "shop/db", None, 8080),
            ("10.96.0.1", 80, "shop/db", Some("shop/db"), 8080),
            ("10.96.0.1", 81, "service shop/db", Some("shop/db"), 81),
            ("10.96.0.2", 80, "service shop/mixed", Some("shop/mixed"), 8080),
            ("10.96.0.3", 80, "service shop/empty", Some("shop/empty"), 80),
            ("192.168.0.1", 22, "node one", None, 22),
            ("192.168.0.9", 22, "192.168.0.9", None, 22),
            ("1.1.1.1", 443, "1.1.1.1", None, 443),
        ];
        for (peer, port, name, via, target_port) in cases {
            let (edge, _) = resolved(&flow(Direction::Egress, peer, port));
            let shown = (edge.destination.party.to_string(), edge.via_service.as_deref(), edge.port);
            assert_eq!(shown, (name.to_owned(), via, target_port), "{peer}:{port}");
            assert_eq!((edge.source.party.to_string().as_str(), edge.dialled_port), ("shop/web", port));
            assert_eq!(edge.observed_by, Side::Source);
        }
    }

    #[test]
    fn the_endpoint_that_a_sidecar_picked_is_the_destination_and_the_service_is_named() {
        let endpoint = Some("10.0.0.3:8080".parse().expect("address and port"));
        let (edge, _) = resolved(&Flow { endpoint, ..flow(Direction::Egress, "10.96.0.2", 80) });
        let pod = (edge.destination.party.to_string(), edge.destination.pod);
        assert_eq!(pod, ("shop/cache".to_owned(), Some("cache-0".to_owned())));
        assert_eq!(
            (edge.via_service.as_deref(), edge.port, edge.dialled_port),
            (Some("shop/mixed"), 8080, 80)
        );
    }

    #[test]
    fn towards_the_pod_the_peer_is_the_source() {
        let (edge, _) = resolved(&flow(Direction::Ingress, "10.0.0.2", 80));
        assert_eq!(edge.source.party.to_string(), "shop/db");
        assert_eq!(edge.source.pod.as_deref(), Some("db-0"));
        assert_eq!(edge.destination.party.to_string(), "shop/web");
        assert_eq!(edge.observed_by, Side::Destination);
    }

    #[test]
    fn what_no_rule_allows_an_address_that_changed_hands_is_told_as_such() {
        let held = Addresses::new(&inventory()).with_held_down([address("10.0.0.2")].into());
        let observer = Observer { party: party("web"), pod: "web-0".into() };
        let told = |peer: &str, reason| {
            let mut flow = flow(Direction::Ingress, peer, 80);
            let denied = FlowAnswer { effect: Effect::Deny, reason, rule: None };
            (flow.enforced, flow.shadow) = (denied.clone(), denied);
            let (edge, _) = resolve(&held, &observer, &flow, NOW_MS);
            assert_eq!(edge.enforced, edge.shadow);
            edge.enforced.reason
        };
        assert_eq!(told("10.0.0.2", Reason::NoRule), "stale_peer");
        assert_eq!(told("10.0.0.2", Reason::DeniedByRule), "denied_by_rule");
        assert_eq!(told("10.0.0.3", Reason::NoRule), "no_rule");
    }

    #[test]
    fn times_that_cannot_be_true_are_held_to_those_that_can() {
        let day = 86_400_000;
        let cases = [
            ((NOW_MS - 5, NOW_MS - 2), (NOW_MS - 5, NOW_MS - 2)),
            ((NOW_MS, u64::MAX), (NOW_MS, NOW_MS)),
            ((u64::MAX, NOW_MS - 1), (NOW_MS - 1, NOW_MS - 1)),
            ((0, 0), (NOW_MS - 2 * day, NOW_MS - 2 * day)),
        ];
        for ((first, last), expected) in cases {
            let mut flow = flow(Direction::Egress, "1.1.1.1", 443);
            (flow.first_seen_ms, flow.last_seen_ms) = (first, last);
            let (_, totals) = resolved(&flow);
            assert_eq!((totals.first_seen_ms, totals.last_seen_ms), expected);
        }
    }

    fn resolved(flow: &Flow) -> (Edge, Totals) {
        let observer = Observer { party: party("web"), pod: "web-0".into() };
        resolve(&Addresses::new(&inventory()), &observer, flow, NOW_MS)
    }

    fn party(name: &str) -> Party {
        Party { kind: PartyKind::Workload, namespace: Some("shop".into()), name: name.into() }
    }

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        for (name, workload, ip, host_network) in [
            ("web-0", "web", "10.0.0.1", false),
            ("db-0", "db", "10.0.0.2", false),
            ("cache-0", "cache", "10.0.0.3", false),
            ("agent-0", "agent", "192.168.0.9", true),
        ] {
            inventory.pods.insert(object(name), pod(workload, ip, host_network));
        }
        inventory.nodes.insert("one".into(), vec![address("192.168.0.1")]);
        inventory.services.insert(object("db"), service("10.96.0.1", &["10.0.0.2"]));
        inventory.services.insert(object("mixed"), service("10.96.0.2", &["10.0.0.2", "10.0.0.3"]));
        inventory.services.insert(object("empty"), service("10.96.0.3", &[]));
        inventory
    }

    fn pod(workload: &str, ip: &str, host_network: bool) -> Pod {
        Pod {
            uid: format!("uid-{workload}"),
            workload: WorkloadRef { namespace: "shop".into(), name: workload.into() },
            labels: [].into(),
            service_account: "default".into(),
            addresses: vec![address(ip)],
            host_network,
            node: "one".into(),
            ports: vec![],
            probe_ports: vec![],
        }
    }

    fn service(vip: &str, endpoints: &[&str]) -> Service {
        let endpoints = endpoints.iter().map(|e| (address(e), 8080)).collect();
        let port = ServicePort { port: 80, protocol: L4Protocol::TCP, endpoints };
        Service { addresses: vec![address(vip)], ports: vec![port] }
    }

    fn object(name: &str) -> ObjectName {
        ObjectName { namespace: "shop".into(), name: name.into() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn flow(direction: Direction, peer: &str, port: u16) -> Flow {
        let answer = FlowAnswer { effect: Effect::Deny, reason: Reason::NoRule, rule: None };
        Flow {
            direction,
            peer: address(peer),
            local: address("10.0.0.1"),
            protocol: L4Protocol::TCP,
            port,
            http: None,
            request: None,
            application: String::new(),
            enforced: answer.clone(),
            shadow: answer,
            count: 1,
            bytes_to_destination: 0,
            bytes_to_source: 0,
            first_seen_ms: NOW_MS,
            last_seen_ms: NOW_MS,
            revision: 1,
            sender_uid: None,
            report_id: None,
            endpoint: None,
        }
    }
}

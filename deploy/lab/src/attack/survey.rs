//! What there is to attack in a running lab, and what its canaries must watch: from the ground to targets. Pure.
//!
//! What is worth attacking is named by the lab file's `prizes`; everything else follows from the places there are.
//! Nothing here knows what a policy says: a target that turns out to be allowed shows up as an arrival.

use super::targets::{Endpoint, Link, Pair, Ports, Postgres, Redis, Sidecar, Targets, Tls, Web};
use crate::ground::{Ground, Phase, Place, PlaceKind, Prizes, ServicePlace};

/// Ports on which a sidecar takes captured TCP: nobody may hit them directly.
const CAPTURE: [u16; 2] = [15_001, 15_006];
/// Its administrative port: for the node and for scrapers, not for other pods.
const ADMIN: u16 = 15_020;
/// Where it will take captured datagrams.
const CAPTURE_UDP: [u16; 2] = [15_007, 15_053];
/// Mark and user that a thief of the sidecar's exemption would try.
const SIDECAR_MARK: u32 = 0x4255_4c4b;
const SIDECAR_UID: u32 = 1337;
/// What a scanner tries first.
const SCANNED: [u16; 16] =
    [21, 22, 23, 25, 80, 443, 1433, 2379, 3306, 6379, 8443, 9092, 9200, 10_250, 11_211, 27_017];
/// What a sweep for remote logins tries.
const SWEPT: u16 = 22;
/// Where the node would serve its agent.
const NODE_AGENT: u16 = 10_250;

/// The command of a place's canary.
pub(super) fn canary_command(ground: &Ground, place: &Place, phase: Phase) -> Vec<String> {
    let mut tcp = vec![SWEPT];
    let mut udp = Vec::new();
    let mut command = vec!["bulkhead".to_owned(), "lab-canary".to_owned()];
    match place.kind {
        PlaceKind::Outside => command.push("--packets".into()),
        PlaceKind::Node => {
            tcp.push(NODE_AGENT);
            command.push("--join".into());
        }
        // A sidecar's ports are its own once it is there.
        PlaceKind::Pod if phase == Phase::Control => {
            tcp.extend(CAPTURE);
            tcp.push(ADMIN);
            udp.extend(CAPTURE_UDP);
        }
        PlaceKind::Pod => {}
    }
    // Of the ports that are scanned only those listen that a scanner would take for a find.
    if place.kind == PlaceKind::Pod && is_place(place, &ground.prizes.database) {
        tcp.extend(SCANNED.iter().filter(|port| **port != SWEPT && !place.ports.contains(port)));
    }
    for (flag, ports) in [("--listen-tcp", tcp), ("--listen-udp", udp)] {
        if !ports.is_empty() {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            command.push(format!("{flag}={}", ports.join(",")));
        }
    }
    command
}

/// Everything that attacks from one place may aim at.
pub(super) fn targets(ground: &Ground, attacker: &Place, link: Option<Link>) -> Targets {
    let prizes = &ground.prizes;
    let service = |name: &str| ground.services.iter().find(|service| service.name == name);
    let forbidden = service(&prizes.forbidden_service);
    let database = ground.places.iter().find(|place| is_place(place, &prizes.database));
    let outside = |metadata: bool| {
        ground
            .places
            .iter()
            .find(move |place| place.kind == PlaceKind::Outside && is_metadata(place) == metadata)
    };
    let at = |place: &Place, fallback| Endpoint {
        address: pair(place),
        port: place.ports.first().copied().unwrap_or(fallback),
    };
    let peers =
        || ground.places.iter().filter(|place| place.kind == PlaceKind::Pod && place.name != attacker.name);
    Targets {
        own: pair(attacker),
        link,
        node: ground.places.iter().find(|place| place.kind == PlaceKind::Node).map(pair),
        // The node stops what pretends to be a neighbour, with or without sidecars.
        neighbour: None,
        web: service(&prizes.allowed_service).and_then(|service| web(service, prizes)),
        forbidden_pod: forbidden.and_then(|service| first_endpoint(ground, service)),
        forbidden_service: forbidden.and_then(cluster_address),
        database: database.map(|place| at(place, 5432)),
        sweep: peers().map(pair).collect(),
        sweep_port: SWEPT,
        scan: database.map(|place| Ports { address: pair(place), ports: SCANNED.to_vec() }),
        metadata: outside(true).map(|place| at(place, 80)),
        outside: outside(false).map(|place| at(place, 443)),
        sidecar: Some(Sidecar {
            own_tcp: CAPTURE.to_vec(),
            // Nothing of the sidecar listens there yet, and loopback within a pod is open.
            own_udp: Vec::new(),
            peer_tcp: [&CAPTURE[..], &[ADMIN]].concat(),
            peer_udp: CAPTURE_UDP.to_vec(),
            uid: SIDECAR_UID,
            mark: SIDECAR_MARK,
            frame_mark: SIDECAR_MARK,
        }),
        peer: database.map(pair),
        resolver: service(crate::hosts::RESOLVER).and_then(|service| {
            let (port, _) = service.datagram_ports.first()?;
            Some(Endpoint { address: Pair { v4: service.v4, v6: service.v6 }, port: *port })
        }),
        redis: service(&prizes.redis.0)
            .and_then(cluster_address)
            .map(|at| Redis { at, keys: prizes.redis.1.clone() }),
        postgres: service(&prizes.postgres.0).and_then(cluster_address).map(|at| Postgres {
            at,
            user: prizes.postgres.1.clone(),
            database: prizes.postgres.2.clone(),
        }),
        tls: ground
            .place(&format!("outside/{}", prizes.tls))
            .map(|place| Tls { at: at(place, 443), name: prizes.tls.clone() }),
    }
}

fn cluster_address(service: &ServicePlace) -> Option<Endpoint> {
    let (port, _) = service.ports.first()?;
    Some(Endpoint { address: Pair { v4: service.v4, v6: service.v6 }, port: *port })
}

fn web(service: &ServicePlace, prizes: &Prizes) -> Option<Web> {
    let (port, _) = service.ports.first()?;
    let (namespace, name) = service.name.split_once('/')?;
    Some(Web {
        address: Pair { v4: service.v4, v6: service.v6 },
        port: *port,
        host: format!("{name}.{namespace}:{port}"),
        allowed_path: prizes.allowed_path.clone(),
        admin_path: prizes.admin_path.clone(),
        forbidden_method: "DELETE".into(),
    })
}

fn first_endpoint(ground: &Ground, service: &ServicePlace) -> Option<Endpoint> {
    let place = ground.place(service.endpoints.first()?)?;
    let (_, port) = service.ports.first()?;
    Some(Endpoint { address: pair(place), port: *port })
}

/// Whether a place is the one of this name, or a replica of it.
fn is_place(place: &Place, name: &str) -> bool {
    let rest = place.name.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn is_metadata(place: &Place) -> bool {
    place.v4.is_link_local()
}

/// Both addresses of a place.
pub(super) fn pair(place: &Place) -> Pair {
    Pair { v4: place.v4, v6: place.v6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_the_place_that_a_prize_names() {
        let place = |name: &str| Place {
            name: name.into(),
            kind: PlaceKind::Pod,
            v4: [10, 0, 0, 1].into(),
            v6: [0, 0, 0, 0, 0, 0, 0, 1].into(),
            ports: Vec::new(),
            log: "log".into(),
        };
        assert!(
            is_place(&place("shop/store"), "shop/store") && is_place(&place("shop/store-0"), "shop/store")
        );
        assert!(!is_place(&place("shop/storefront"), "shop/store"));
    }
}

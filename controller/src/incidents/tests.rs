//! Denials in, incidents out, by table.

use super::detect;
use crate::flows::SeenEdge;
use crate::flows::testing::{Seen, seen};
use crate::push::Sidecar;
use crate::world::World;
use bulkhead_api::Capability;
use bulkhead_api::rest::IncidentKind::{
    self, Exfiltration, L7Probing, LateralMovement, MetadataAccess, PortScan, SidecarTampering, Sweep,
};
use bulkhead_api::rest::Side;
use bulkhead_policies::inventory::{Inventory, ObjectName, Pod};
use std::collections::BTreeMap;
use std::sync::Arc;

#[test]
fn denials_are_told_apart_by_what_they_look_like() {
    let cases: Vec<(&str, Vec<SeenEdge>, Vec<IncidentKind>)> = vec![
        ("nothing", vec![], vec![]),
        ("what passes is no incident", vec![seen(Seen::default())], vec![]),
        ("another workload", vec![denied(Seen::default())], vec![LateralMovement]),
        (
            "outside",
            vec![denied(Seen { destination: "", address: "1.1.1.1", ..Seen::default() })],
            vec![Exfiltration],
        ),
        (
            "metadata, though a rule of the platform denied it",
            vec![seen(Seen {
                destination: "",
                address: "169.254.169.254",
                denied: Some("denied_by_rule"),
                ..Seen::default()
            })],
            vec![MetadataAccess],
        ),
        (
            "metadata over IPv6",
            vec![denied(Seen { destination: "", address: "fd00:ec2::254", ..Seen::default() })],
            vec![MetadataAccess],
        ),
        (
            "a request on an allowed connection",
            vec![seen(Seen { path: Some("/admin"), denied: Some("l7_mismatch"), ..Seen::default() })],
            vec![L7Probing],
        ),
        (
            "a request that is none",
            vec![seen(Seen { denied: Some("malformed"), ..Seen::default() })],
            vec![L7Probing],
        ),
        (
            "a sidecar's own port",
            vec![seen(Seen { port: 15001, denied: Some("sidecar_port"), ..Seen::default() })],
            vec![SidecarTampering],
        ),
        ("four ports are no scan yet", ports(4), vec![LateralMovement]),
        ("five ports are", ports(5), vec![PortScan]),
        ("four targets are no sweep yet", hosts(4), vec![Exfiltration]),
        ("five targets are", hosts(5), vec![Sweep]),
        (
            "two attackers are two incidents",
            vec![denied(Seen::default()), denied(Seen { source: "cache", ..Seen::default() })],
            vec![LateralMovement, LateralMovement],
        ),
        (
            "two kinds of one attacker are two incidents",
            ports(5).into_iter().chain(hosts(5)).collect(),
            vec![PortScan, Sweep],
        ),
    ];
    for (name, edges, expected) in cases {
        let mut kinds: Vec<_> =
            detect(&edges, &BTreeMap::new(), &World::default()).iter().map(|i| i.kind).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, expected, "{name}");
    }
}

#[test]
fn the_order_of_the_edges_does_not_matter() {
    let mut edges: Vec<_> = ports(7).into_iter().chain(hosts(6)).chain([denied(Seen::default())]).collect();
    let forward = detect(&edges, &BTreeMap::new(), &World::default());
    edges.reverse();
    assert_eq!(detect(&edges, &BTreeMap::new(), &World::default()), forward);
}

#[test]
fn an_incident_names_attacker_pods_targets_attempts_and_times() {
    let edges = [
        denied(Seen { pod: "web-0", count: 2, ..Seen::default() }),
        denied(Seen { pod: "web-1", count: 3, last_seen_ms: 9_000, ..Seen::default() }),
        denied(Seen { pod: "web-1", port: 22, count: 1, side: Side::Destination, ..Seen::default() }),
    ];
    let incidents = detect(&edges, &BTreeMap::new(), &World::default());
    let [incident] = incidents.as_slice() else { panic!("one incident: {incidents:?}") };
    assert_eq!(incident.id, "lateral_movement:shop/web");
    assert_eq!(incident.title, "shop/web tried to reach shop/db");
    assert_eq!(incident.attacker_pods, ["web-0", "web-1"]);
    assert_eq!((incident.count, incident.first_seen_ms, incident.last_seen_ms), (6, 1_000, 9_000));
    let attempts: Vec<_> = incident.attempts.iter().map(|a| (a.port, a.count, a.stopped_by)).collect();
    assert_eq!(attempts, [(8080, 5, Side::Source), (22, 1, Side::Destination)]);
    assert_eq!(incident.technique, "T1021");
}

#[test]
fn a_changed_kernel_table_is_an_incident_of_the_pods_own_workload() {
    let world = World { inventory: Arc::new(inventory()), ..World::default() };
    let sidecar = Sidecar {
        stream: 1,
        attached: true,
        version: "0.1.0".into(),
        capability: Capability::Enforced,
        revision: 1,
        error: None,
        last_seen_ms: 7,
        connections_open: 0,
        tampering: 2,
    };
    let incidents = detect(&[], &BTreeMap::from([("uid-web".to_owned(), sidecar)]), &world);
    let [incident] = incidents.as_slice() else { panic!("one incident: {incidents:?}") };
    assert_eq!((incident.kind, incident.count), (SidecarTampering, 2));
    assert_eq!(incident.attacker.to_string(), "shop/web");
}

#[test]
fn the_smallest_change_is_written_where_it_is_simple() {
    let world = World { inventory: Arc::new(inventory()), ..World::default() };
    let change = |edges: &[SeenEdge]| detect(edges, &BTreeMap::new(), &world)[0].smallest_change.clone();
    let lateral = change(&[denied(Seen::default())]).expect("one target, one port");
    assert!(
        lateral.contains("egress: [{name: db, to: [{workloads: {app: db}}], ports: [8080]}]"),
        "{lateral}"
    );
    assert!(
        lateral.contains("ingress: [{name: web, from: [{workloads: {app: web}}], ports: [8080]}]"),
        "{lateral}"
    );
    assert_eq!(
        change(&[denied(Seen::default()), denied(Seen { port: 22, ..Seen::default() })]),
        None,
        "two ports"
    );
    assert_eq!(change(&ports(5)), None, "nobody wants to allow a scan");
}

fn denied(what: Seen) -> SeenEdge {
    seen(Seen { denied: Some("no_rule"), ..what })
}

fn ports(count: u16) -> Vec<SeenEdge> {
    (0..count).map(|port| denied(Seen { port: 1 + port, ..Seen::default() })).collect()
}

fn hosts(count: usize) -> Vec<SeenEdge> {
    let addresses = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"];
    addresses[..count]
        .iter()
        .map(|address| denied(Seen { destination: "", address, port: 22, ..Seen::default() }))
        .collect()
}

fn inventory() -> Inventory {
    let mut inventory = Inventory::default();
    for (name, address) in [("web", "10.0.0.1"), ("db", "10.0.0.2")] {
        let pod = Pod {
            uid: format!("uid-{name}"),
            workload: bulkhead_facts::WorkloadRef { namespace: "shop".into(), name: name.into() },
            labels: [("app".to_owned(), name.to_owned())].into(),
            service_account: name.into(),
            addresses: vec![address.parse().expect("an address")],
            host_network: false,
            node: "one".into(),
            ports: vec![],
            probe_ports: vec![],
        };
        inventory.pods.insert(ObjectName { namespace: "shop".into(), name: format!("{name}-0") }, pod);
    }
    inventory
}

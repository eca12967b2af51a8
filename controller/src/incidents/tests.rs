//! Denials in, incidents out, by table.

use super::{Evidence, detect};
use crate::flows::SeenEdge;
use crate::flows::testing::{Seen, seen};
use crate::push::Sidecar;
use crate::store::Loss;
use crate::world::World;
use bulkhead_api::Capability;
use bulkhead_api::rest::IncidentKind::{
    self, Exfiltration, L7Probing, LateralMovement, MetadataAccess, PortScan, SidecarTampering, Sweep,
};
use bulkhead_api::rest::{Incident, RedisSummary, RequestSummary, RuleSummary, Side, TlsSummary};
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
        (
            "a flow that we cut off ourselves is nobody's attack",
            vec![
                seen(Seen { denied: Some("tier_changed"), ..Seen::default() }),
                seen(Seen { denied: Some("no_policy"), ..Seen::default() }),
            ],
            vec![],
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
        let mut kinds: Vec<_> = shown(&edges, &World::default()).iter().map(|i| i.kind).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, expected, "{name}");
    }
}

#[test]
fn the_order_of_the_edges_does_not_matter() {
    let mut edges: Vec<_> = ports(7).into_iter().chain(hosts(6)).chain([denied(Seen::default())]).collect();
    let forward = shown(&edges, &World::default());
    edges.reverse();
    assert_eq!(shown(&edges, &World::default()), forward);
}

#[test]
fn an_incident_names_attacker_pods_targets_attempts_and_times() {
    let edges = [
        denied(Seen { pod: "web-0", count: 2, ..Seen::default() }),
        denied(Seen { pod: "web-1", count: 3, last_seen_ms: 9_000, ..Seen::default() }),
        denied(Seen { pod: "web-1", port: 22, count: 1, side: Side::Destination, ..Seen::default() }),
    ];
    let incidents = shown(&edges, &World::default());
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
        weaknesses: Default::default(),
        capability: Capability::Enforced,
        revision: 1,
        error: None,
        last_seen_ms: 7,
        connections_open: 0,
        tampering: 2,
    };
    let sidecars = BTreeMap::from([("uid-web".to_owned(), sidecar)]);
    let incidents = detect(Evidence { sidecars: &sidecars, ..evidence(&[], &world) });
    let [incident] = incidents.as_slice() else { panic!("one incident: {incidents:?}") };
    assert_eq!((incident.kind, incident.count), (SidecarTampering, 2));
    assert_eq!(incident.attacker.to_string(), "shop/web");
}

#[test]
fn the_smallest_change_is_written_where_it_is_simple() {
    let world = World { inventory: Arc::new(inventory()), ..World::default() };
    let change = |edges: &[SeenEdge]| shown(edges, &world)[0].smallest_change.clone();
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

#[test]
fn the_smallest_change_for_a_command_is_the_alternative_that_means_it() {
    let world = World { inventory: Arc::new(inventory()), ..World::default() };
    let rule = RuleSummary {
        tier: "namespace".into(),
        policy: "SegmentPolicy/shop/cache".into(),
        rule: "web".into(),
        direction: "ingress".into(),
    };
    let change = |request: RequestSummary| {
        let mut one = seen(Seen { denied: Some("l7_mismatch"), request: Some(request), ..Seen::default() });
        one.edge.enforced.rule = Some(rule.clone());
        let incident = &shown(&[one], &world)[0];
        assert_eq!(incident.kind, L7Probing);
        incident.smallest_change.clone()
    };
    let config = RedisSummary { command: "config".into(), key_prefix: None, database: Some(0) };
    assert_eq!(
        change(RequestSummary::Redis(config)).as_deref(),
        Some(
            "# in rule `web` of SegmentPolicy/shop/cache, under `redis`\n- {commands: [config], databases: [0]}\n"
        )
    );
    let hello = TlsSummary { server_name: Some("a.test".into()), lowest: "1.2".into(), encrypted: false };
    assert_eq!(
        change(RequestSummary::Tls(hello)).as_deref(),
        Some("# in rule `web` of SegmentPolicy/shop/cache, under `tls`\n{sni: [\"a.test\"], min: \"1.2\"}\n")
    );
    assert_eq!(change(RequestSummary::Others), None);
}

#[test]
fn records_that_found_no_room_are_an_incident_of_their_own() {
    let world = World { inventory: Arc::new(inventory()), ..World::default() };
    let losses = [
        Loss { pod_uid: "uid-web".into(), by_sidecar: 3, by_controller: 4, last_ms: 9 },
        Loss { pod_uid: "uid-db".into(), ..Loss::default() },
    ];
    let incidents = detect(Evidence { losses: &losses, ..evidence(&[], &world) });
    let [incident] = incidents.as_slice() else { panic!("one incident: {incidents:?}") };
    assert_eq!((incident.kind, incident.count, incident.last_seen_ms), (IncidentKind::Flood, 7, 9));
    assert_eq!((incident.attacker.to_string().as_str(), incident.blocked), ("shop/web", false));
}

#[test]
fn what_passes_is_news_only_where_something_was_approved_before_it_was_first_seen() {
    let world = enforced();
    let approved = |at_ms| BTreeMap::from([("shop".to_owned(), at_ms)]);
    // The edge was first seen at 1,000.
    let cases = [
        ("nothing was approved", BTreeMap::new(), 0),
        ("seen before the approval", approved(1_000), 0),
        ("first seen after it", approved(999), 1),
        ("another collection", BTreeMap::from([("bank".to_owned(), 999)]), 0),
    ];
    for (name, approved_ms, count) in cases {
        let edges = [seen(Seen::default())];
        let incidents = detect(Evidence { approved_ms: &approved_ms, ..evidence(&edges, &world) });
        assert_eq!(incidents.len(), count, "{name}");
        assert!(incidents.iter().all(|incident| incident.kind == IncidentKind::NewEdge && !incident.blocked));
    }
}

/// The world with a program for `web-0` under collection `shop`.
fn enforced() -> World {
    let inventory = inventory();
    let text = "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {name: shop}\nspec: {covers: {namespaces: {}}}\n";
    let source = bulkhead_policies::diagnostics::Source { name: "shop.yaml".into(), text: text.into() };
    let loaded = bulkhead_policies::documents::load(&[source]);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    let mut index = bulkhead_index::Index::new(0);
    index.update(&loaded.set, &inventory).expect("compiles");
    let mut pods = index.pods().clone();
    // Stored edges of tests come from the pod `uid-web-0`.
    let web = pods.remove("uid-web").expect("there");
    pods.insert("uid-web-0".into(), web);
    World { inventory: Arc::new(inventory), pods: Arc::new(pods), ..World::default() }
}

fn evidence<'a>(edges: &'a [SeenEdge], world: &'a World) -> Evidence<'a> {
    static NO_SIDECARS: BTreeMap<String, Sidecar> = BTreeMap::new();
    static NO_APPROVALS: BTreeMap<String, u64> = BTreeMap::new();
    Evidence { edges, sidecars: &NO_SIDECARS, losses: &[], approved_ms: &NO_APPROVALS, world }
}

fn shown(edges: &[SeenEdge], world: &World) -> Vec<Incident> {
    detect(evidence(edges, world))
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

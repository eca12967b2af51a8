//! Names and addresses of ends.

use super::*;
use crate::diagnostics::Source;
use crate::documents::load_inventory;

const INVENTORY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: x, ownerReferences: [{kind: StatefulSet, name: site}]}
status: {podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: x}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: 8080}], selector: {}}
---
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: x}
subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 8080}]}]
"#;

fn inventory() -> Inventory {
    load_inventory(&[Source { name: "i".into(), text: INVENTORY.into() }]).unwrap()
}

#[test]
fn a_name_is_a_pod_a_workload_or_a_service_unless_it_says_which() {
    let inventory = inventory();
    let web = ObjectName { namespace: "x".into(), name: "web".into() };
    for (text, expected) in [
        ("x/web", Ends::Pods(vec![web.clone()])),
        ("x/site", Ends::Pods(vec![web.clone()])),
        ("workload/x/site", Ends::Pods(vec![web.clone()])),
        ("service/x/web", Ends::Service(web.clone())),
        ("10.96.0.1", Ends::Service(web.clone())),
        ("10.0.0.1", Ends::Address("10.0.0.1".parse().unwrap())),
        ("::ffff:192.0.2.1", Ends::Address("192.0.2.1".parse().unwrap())),
    ] {
        assert_eq!(Ends::find(text, &inventory), Ok(expected), "{text}");
    }
    for text in ["web", "y/web", "pod/x/site", "10.0.0", ""] {
        assert!(Ends::find(text, &inventory).is_err(), "{text}");
    }
}

#[test]
fn a_service_leads_to_its_endpoints_on_their_own_port() {
    let inventory = inventory();
    let service = Ends::find("service/x/web", &inventory).unwrap();
    let found = service.destinations(&inventory, L4Protocol::TCP, 80);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].port, found[0].dialled), (8080, Some(("10.96.0.1".parse().unwrap(), 80))));
    assert_eq!(found[0].end.pod.map(|pod| pod.name.as_str()), Some("web"));
    let none = service.destinations(&inventory, L4Protocol::TCP, 81);
    assert_eq!((none.len(), none[0].end.pod), (1, None));
}

//! What the controller is told of the lab: files in the shape of `kubectl get … -o yaml`, and nothing else.
//!
//! No expected flow, no role, no attacker: a cluster's API server would not know either. Hosts outside are not in
//! it. Written before the controller starts and not changed, since the pods of a lab do not come and go.

use crate::addresses::{NODE, Plan, PlannedPod};
use crate::file::{LabFile, PodSpec, PortSpec, ServiceSpec};
use bulkhead_facts::L4Protocol;
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::IpAddr;

/// The UID of the pod with this position in the plan.
pub fn pod_uid(position: usize) -> String {
    format!("6c616200-0000-4000-8000-{position:012}")
}

/// Every file: name and text.
pub fn files(lab: &LabFile, plan: &Plan) -> Vec<(&'static str, String)> {
    let namespaces = lab.namespaces.iter().map(|(name, labels)| {
        let mut labels = labels.clone();
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.clone());
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    });
    let pods =
        plan.pods.iter().enumerate().map(|(at, pod)| pod_object(pod_uid(at), pod, &lab.pods[pod.spec]));
    let services = lab
        .services
        .iter()
        .zip(&plan.services)
        .map(|(service, (v4, v6))| service_object(service, [IpAddr::V4(*v4), IpAddr::V6(*v6)]));
    let slices = lab.services.iter().flat_map(|service| {
        ["IPv4", "IPv6"].map(|family| slice_object(service, family, plan.endpoints(lab, service)))
    });
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node"},
        "status": {"addresses": [
            {"type": "InternalIP", "address": NODE.0.to_string()},
            {"type": "InternalIP", "address": NODE.1.to_string()},
        ]},
    });
    vec![
        ("namespaces.yaml", list(namespaces)),
        ("pods.yaml", list(pods)),
        ("services.yaml", list(services)),
        ("endpointslices.yaml", list(slices)),
        ("nodes.yaml", list(std::iter::once(node))),
    ]
}

fn list(items: impl Iterator<Item = Value>) -> String {
    yaml(&json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()}))
}

fn pod_object(uid: String, pod: &PlannedPod, spec: &PodSpec) -> Value {
    let name = pod.place.rsplit('/').next().unwrap_or(&pod.place);
    let mut container = json!({
        "name": spec.name,
        "image": "lab",
        "ports": spec.ports.iter().map(container_port).collect::<Vec<_>>(),
    });
    if let Some(port) = spec.ready {
        container["readinessProbe"] = json!({"tcpSocket": {"port": port}});
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": spec.namespace,
            "uid": uid,
            "labels": spec.labels,
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": spec.name, "controller": true}
            ],
        },
        "spec": {
            "nodeName": "node",
            "serviceAccountName": spec.service_account,
            "containers": [container],
        },
        "status": {
            "phase": "Running",
            "podIP": pod.v4.to_string(),
            "podIPs": [{"ip": pod.v4.to_string()}, {"ip": pod.v6.to_string()}],
        },
    })
}

fn container_port(port: &PortSpec) -> Value {
    let mut object = json!({"containerPort": port.port, "protocol": protocol(port.protocol)});
    if !port.name.is_empty() {
        object["name"] = json!(port.name);
    }
    object
}

fn service_object(service: &ServiceSpec, addresses: [IpAddr; 2]) -> Value {
    let ports = service.ports.iter().map(|port| {
        let number =
            json!({"port": port.port, "targetPort": port.target, "protocol": protocol(port.protocol)});
        named(number, &port.name, port.port)
    });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses[0].to_string(),
            "clusterIPs": addresses.map(|a| a.to_string()),
            "ipFamilies": ["IPv4", "IPv6"],
            "selector": service.selector,
            "ports": ports.collect::<Vec<_>>(),
        },
    })
}

fn slice_object<'a>(
    service: &ServiceSpec,
    family: &str,
    pods: impl Iterator<Item = &'a PlannedPod>,
) -> Value {
    let endpoints = pods.map(|pod| {
        let address = if family == "IPv4" { pod.v4.to_string() } else { pod.v6.to_string() };
        let (namespace, name) = pod.place.split_once('/').unwrap_or(("", &pod.place));
        json!({
            "addresses": [address],
            "conditions": {"ready": true},
            "nodeName": "node",
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": name},
        })
    });
    let ports = service.ports.iter().map(|port| {
        let number = json!({"port": port.target, "protocol": protocol(port.protocol)});
        named(number, &port.name, port.port)
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{}", service.name, family.to_lowercase()),
            "namespace": service.namespace,
            "labels": {"kubernetes.io/service-name": service.name},
        },
        "addressType": family,
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": ports.collect::<Vec<_>>(),
    })
}

/// Service and slice meet by the port's name, so a port without one gets its number's.
fn named(mut port: Value, name: &str, number: u16) -> Value {
    port["name"] = json!(if name.is_empty() { format!("port-{number}") } else { name.to_owned() });
    port
}

fn protocol(protocol: L4Protocol) -> &'static str {
    match protocol {
        L4Protocol::UDP => "UDP",
        L4Protocol::SCTP => "SCTP",
        _ => "TCP",
    }
}

/// YAML in block style; texts in double quotes, which JSON and YAML share.
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write_yaml(&mut text, value, 0);
    text
}

fn write_yaml(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (at, (key, value)) in fields.iter().enumerate() {
                // The first field of a list item stands behind its dash.
                let indent = if at == 0 { "" } else { &indent };
                // Writing to a String cannot fail.
                let _ = write!(text, "{indent}{}:", Value::from(key.as_str()));
                write_nested(text, value, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                let indent = if at == 0 { "" } else { &indent };
                let _ = write!(text, "{indent}- ");
                write_yaml(text, item, depth + 1);
            }
        }
        plain => {
            let _ = writeln!(text, "{plain}");
        }
    }
}

fn write_nested(text: &mut String, value: &Value, depth: usize) {
    let nested = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        text.push('\n');
        text.push_str(&"  ".repeat(depth + 1));
        write_yaml(text, value, depth + 1);
    } else {
        text.push(' ');
        write_yaml(text, value, depth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{SHOP, read};
    use bulkhead_policies::diagnostics::Source;
    use bulkhead_policies::documents::load_inventory;
    use bulkhead_policies::inventory::{Inventory, ObjectName};

    fn shop() -> (LabFile, Plan, Inventory) {
        let lab = read(&Source { name: "shop.yaml".into(), text: SHOP.into() }).expect("a lab file").0;
        let plan = Plan::new(&lab);
        let sources: Vec<Source> =
            files(&lab, &plan).into_iter().map(|(name, text)| Source { name: name.into(), text }).collect();
        let inventory = load_inventory(&sources).unwrap_or_else(|d| panic!("{d:#?}"));
        (lab, plan, inventory)
    }

    fn name(namespace: &str, name: &str) -> ObjectName {
        ObjectName { namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn the_controller_reads_every_pod_with_its_workload_addresses_and_ports() {
        let (lab, plan, inventory) = shop();
        assert_eq!(inventory.pods.len(), plan.pods.len());
        for (at, planned) in plan.pods.iter().enumerate() {
            let (namespace, pod_name) = planned.place.split_once('/').expect("a place of a pod");
            let pod = &inventory.pods[&name(namespace, pod_name)];
            assert_eq!(pod.uid, pod_uid(at));
            assert_eq!(pod.workload.name, lab.pods[planned.spec].name);
            assert_eq!(pod.addresses, planned.addresses());
            assert_eq!(pod.labels, lab.pods[planned.spec].labels);
            assert_eq!(pod.ports.len(), lab.pods[planned.spec].ports.len());
            assert_eq!(pod.probe_ports, lab.pods[planned.spec].ready.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_controller_reads_every_service_with_the_endpoints_of_both_families() {
        let (lab, plan, inventory) = shop();
        for (spec, (v4, v6)) in lab.services.iter().zip(&plan.services) {
            let service = &inventory.services[&name(&spec.namespace, &spec.name)];
            assert_eq!(service.addresses, [IpAddr::V4(*v4), IpAddr::V6(*v6)]);
            let pods = plan.endpoints(&lab, spec).count();
            assert!(pods > 0 && service.ports.len() == spec.ports.len(), "{service:?}");
            assert!(service.ports.iter().all(|port| port.endpoints.len() == 2 * pods), "{service:?}");
        }
    }

    #[test]
    fn nothing_outside_and_no_attacker_is_told() {
        let (lab, plan, _) = shop();
        let all: String = files(&lab, &plan).into_iter().map(|(_, text)| text).collect();
        for host in &lab.outside {
            assert!(host.addresses.iter().all(|address| !all.contains(&address.to_string())));
        }
        for word in ["compromised", "attack", "prize"] {
            assert!(!all.contains(word), "`{word}` is in the inventory");
        }
    }

    #[test]
    fn texts_that_yaml_would_misread_stay_texts() {
        let text = yaml(&json!({"a": "true", "b": [{"c": "1: 2", "d": []}, "#x"], "e": {"f": 5}}));
        assert_eq!(
            text,
            "\"a\": \"true\"\n\"b\":\n  - \"c\": \"1: 2\"\n    \"d\": []\n  - \"#x\"\n\"e\":\n  \"f\": 5\n"
        );
    }
}

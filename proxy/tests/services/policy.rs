//! Policies of the tests, compiled as the controller would from what Kubernetes tells.

use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::program::Program;

/// `web` is the pod of the tests. `api` runs in two tracks, with a port `http` of different numbers; `agent` is on the node's
/// network. `half` and `whole` lead to both tracks, `tell` does by UDP, `idle` to nobody, `mixed` to the old track and the node.
const INVENTORY: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- {apiVersion: v1, kind: Node, metadata: {name: n}, status: {addresses: [{type: InternalIP, address: 10.0.9.1}, {type: InternalIP, address: 'fd00:0:0:9::1'}]}}
- apiVersion: v1
  kind: Pod
  metadata: {name: web, namespace: shop, labels: {app: web}}
  spec: {nodeName: other, containers: [{name: c, ports: [{name: shop, containerPort: 8000}]}]}
  status: {podIPs: [{ip: 10.0.0.7}, {ip: 'fd00::7'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: api-old, namespace: shop, labels: {app: api, track: old}}
  spec: {nodeName: n, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
  status: {podIPs: [{ip: 10.0.1.2}, {ip: 'fd00:0:0:1::2'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: api-new, namespace: shop, labels: {app: api, track: new}}
  spec: {nodeName: n, containers: [{name: c, ports: [{name: http, containerPort: 9090}]}]}
  status: {podIPs: [{ip: 10.0.2.2}, {ip: 'fd00:0:0:2::2'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: agent, namespace: shop, labels: {app: agent}}
  spec: {nodeName: n, hostNetwork: true, containers: [{name: c}]}
  status: {podIPs: [{ip: 10.0.9.1}, {ip: 'fd00:0:0:9::1'}]}
";

/// Name, number of its address, protocol and port, and its endpoints in both families: network of each and port.
type Listed = (&'static str, u8, &'static str, u16, &'static [(u8, u8, u16)]);

const SERVICES: [Listed; 5] = [
    ("half", 1, "TCP", 80, &[(1, 2, 8080), (2, 2, 9090)]),
    ("tell", 2, "UDP", 81, &[(1, 2, 8181), (2, 2, 8181)]),
    ("idle", 3, "TCP", 80, &[]),
    ("mixed", 4, "TCP", 80, &[(1, 2, 8080), (9, 1, 7070)]),
    ("three", 5, "TCP", 80, &[(1, 2, 8080), (2, 2, 9090), (9, 1, 7070)]),
];

fn inventory() -> String {
    let mut text = INVENTORY.to_owned();
    for (name, number, protocol, port, endpoints) in SERVICES {
        text += &format!(
            "- {{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, spec: {{clusterIPs: [10.96.0.{number}, \
             'fd00:96::{number}'], ports: [{{port: {port}, protocol: {protocol}}}]}}}}\n"
        );
        for (at, (network, host, target)) in endpoints.iter().enumerate() {
            for (family, address) in
                [("IPv4", format!("10.0.{network}.{host}")), ("IPv6", format!("fd00:0:0:{network}::{host}"))]
            {
                let kind = family.to_lowercase();
                text += &format!(
                    "- {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-{kind}-{at}, namespace: shop, \
                     labels: {{kubernetes.io/service-name: {name}}}}}, addressType: {family}, ports: [{{port: {target}, protocol: \
                     {protocol}}}], endpoints: [{{addresses: ['{address}']}}]}}\n"
                );
            }
        }
    }
    text
}

/// The program of the pod: everything is denied but what the rules allow.
pub(crate) fn program(rules: &str) -> Program {
    program_in_mode("enforce", rules)
}

/// The same under another mode of the collection.
pub(crate) fn program_in_mode(mode: &str, rules: &str) -> Program {
    let text = format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: shop}}\nspec: {{covers: {{namespaces: {{}}}}, \
         default: deny, infrastructure: [], mode: {mode}}}\n---\napiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: \
         web, namespace: shop}}\nspec:\n  workloads: {{app: web}}\n  {rules}\n"
    );
    let source = |name: &str, text: String| Source { name: name.to_owned(), text };
    let loaded = load(&[source("p.yaml", text)]);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    let inventory = load_inventory(&[source("i.yaml", inventory())]).expect("an inventory");
    let compiler = Compiler::new(&loaded.set, &inventory).expect("compiles");
    let pod = ObjectName { namespace: "shop".to_owned(), name: "web".to_owned() };
    compiler.program(&pod, 1).expect("a program")
}

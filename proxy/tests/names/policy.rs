//! Policies of the tests, compiled as the controller would.

use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::program::Program;

const INVENTORY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: n}
status: {podIPs: [{ip: 10.0.0.7}, {ip: 'fd00::7'}]}
";

/// Both name servers of the peer, at the usual port.
pub(crate) const SERVERS: &str =
    "to: [{cidr: 10.0.0.9/32}, {cidr: 'fd00::9/128'}, {cidr: 10.0.0.66/32}], ports: [udp/53, 53]";

/// The program of the pod: everything is denied but what the rules allow. `rules` may begin with `ingress:`.
pub(crate) fn program(rules: &str) -> Program {
    program_in_mode("enforce", rules)
}

/// The same under another mode of the collection.
pub(crate) fn program_in_mode(mode: &str, rules: &str) -> Program {
    let rules = if rules.trim_start().starts_with("ingress:") {
        rules.to_owned()
    } else {
        format!("egress:\n{rules}")
    };
    let text = format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: shop}}\nspec: {{covers: {{namespaces: {{}}}}, \
         default: deny, infrastructure: [], mode: {mode}}}\n---\napiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: \
         web, namespace: shop}}\nspec:\n  workloads: {{app: web}}\n  {rules}\n"
    );
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let loaded = load(&[source("p.yaml", &text)]);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    let inventory = load_inventory(&[source("i.yaml", INVENTORY)]).expect("an inventory");
    let compiler = Compiler::new(&loaded.set, &inventory).expect("compiles");
    let pod = ObjectName { namespace: "shop".to_owned(), name: "web-1".to_owned() };
    compiler.program(&pod, 1).expect("a program")
}

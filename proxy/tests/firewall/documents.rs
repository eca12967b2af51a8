//! Programs compiled from documents and an inventory, as in a cluster.

use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::program::Program;
use std::fmt::Write as _;
use std::net::IpAddr;

/// A pod of namespace `shop`: its name, which tells it apart from others, its labels and its addresses.
pub(crate) type Pod = (String, String, [IpAddr; 2]);

/// The program of the first of these pods.
pub(crate) fn program(policies: &str, revision: u64, pods: &[Pod]) -> Program {
    let mut text =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: shop}}\n".to_owned();
    for (name, labels, [v4, v6]) in pods {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, uid: uid-{name}, labels: \
             {{{labels}}}}}\nspec: {{containers: [{{name: c}}]}}\nstatus: {{phase: Running, podIPs: [{{ip: {v4}}}, \
             {{ip: '{v6}'}}]}}\n"
        );
    }
    let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
    let loaded = load(&[source("policies.yaml", policies)]);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    let inventory = load_inventory(&[source("inventory.yaml", &text)]).expect("an inventory");
    let compiler = Compiler::new(&loaded.set, &inventory).expect("compiles");
    let name = ObjectName { namespace: "shop".into(), name: pods[0].0.clone() };
    compiler.program(&name, revision).expect("the pod")
}

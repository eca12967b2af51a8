//! Revisions move only where programs do, and errors move nothing.

use crate::{Index, Reach, Reachable};
use bulkhead_facts::{L4Protocol, PortRange};
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::Inventory;
use bulkhead_policies::model::PolicySet;

const COLLECTION: &str = "
apiVersion: bulkhead.dev/v1alpha1
kind: Collection
metadata: {name: shop}
spec: {covers: {namespaces: {name: shop}}, default: deny, mode: enforce}
---
";

#[test]
fn the_same_objects_again_change_nothing() {
    let mut index = Index::new(10);
    let first = index.update(&policies(WEB_TO_DB), &inventory("10.0.0.2")).expect("compiles");
    assert_eq!(first.changed, ["uid-cache", "uid-db", "uid-web"]);
    assert_eq!(index.revision(), 11);
    let again = index.update(&policies(WEB_TO_DB), &inventory("10.0.0.2")).expect("compiles");
    assert_eq!((again.changed.as_slice(), index.revision()), (&[][..], 11));
}

#[test]
fn a_change_reaches_those_whom_it_concerns_and_nobody_else() {
    let mut index = Index::new(0);
    index.update(&policies(WEB_TO_DB), &inventory("10.0.0.2")).expect("compiles");
    let moved = index.update(&policies(WEB_TO_DB), &inventory("10.0.0.77")).expect("compiles");
    assert!(moved.changed.contains(&"uid-db".to_owned()), "it names web by its address");
    assert!(!moved.changed.contains(&"uid-cache".to_owned()), "it names nobody: {:?}", moved.changed);
    assert_eq!(index.pods()["uid-db"].program.revision, 2);
    assert_eq!(index.pods()["uid-cache"].program.revision, 1);
}

#[test]
fn a_set_that_does_not_compile_changes_nothing() {
    let mut index = Index::new(0);
    index.update(&policies(WEB_TO_DB), &inventory("10.0.0.2")).expect("compiles");
    let before = index.clone();
    let twice =
        policies(&format!("{}{}", COLLECTION.replace("name: shop}\nspec", "name: other}\nspec"), WEB_TO_DB));
    let errors =
        index.update(&twice, &inventory("10.0.0.2")).expect_err("two collections cover one workload");
    assert!(!errors.is_empty());
    assert_eq!((index.revision(), index.pods()), (before.revision(), before.pods()));
}

#[test]
fn a_pod_that_went_is_gone_and_one_that_took_its_name_is_another() {
    let mut index = Index::new(0);
    index.update(&policies(WEB_TO_DB), &inventory("10.0.0.2")).expect("compiles");
    let mut inventory = inventory("10.0.0.2");
    for pod in inventory.pods.values_mut().filter(|pod| pod.uid == "uid-web") {
        pod.uid = "uid-web-again".into();
    }
    let change = index.update(&policies(WEB_TO_DB), &inventory).expect("compiles");
    assert_eq!(change.changed, ["uid-web-again"]);
    assert_eq!(change.removed, ["uid-web"]);
}

#[test]
fn reach_is_where_both_ends_allow() {
    let inventory = inventory("10.0.0.2");
    let mut index = Index::new(0);
    index.update(&policies(WEB_TO_DB), &inventory).expect("compiles");
    let reach = Reach::new(index.pods(), &inventory).expect("valid programs");
    let ways = |uid| reach.of(uid);
    let to_db = Reachable {
        namespace: "shop".into(),
        name: "db".into(),
        protocol: L4Protocol::TCP,
        ports: PortRange::single(5432),
        only_some_requests: false,
    };
    assert_eq!(ways("uid-web"), [to_db]);
    assert_eq!(ways("uid-cache"), [], "its egress would do, db's ingress does not");
    assert_eq!(ways("nobody"), []);
}

/// Web may reach db on both sides; cache may go anywhere by its own egress.
const WEB_TO_DB: &str = "
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: db, namespace: shop}
spec:
  workloads: {app: db}
  ingress: [{name: web, from: [{workloads: {app: web}}], ports: [5432]}]
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: web, namespace: shop}
spec:
  workloads: {app: web}
  egress: [{name: db, to: [{workloads: {app: db}}], ports: ['5000-6000']}]
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: cache, namespace: shop}
spec:
  workloads: {app: cache}
  egress: [{name: all, to: [{cidr: 0.0.0.0/0}], ports: ['tcp/1-65535']}]
";

fn policies(text: &str) -> PolicySet {
    let source = Source { name: "policies.yaml".into(), text: format!("{COLLECTION}{text}") };
    let loaded = load(&[source]);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    loaded.set
}

fn inventory(web: &str) -> Inventory {
    let pods = [("web", web), ("db", "10.0.0.3"), ("cache", "10.0.0.4")].map(|(name, address)| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}-0\n  namespace: shop\n  uid: uid-{name}\n  \
             labels: {{app: {name}}}\n  ownerReferences: [{{kind: StatefulSet, name: {name}, apiVersion: apps/v1, \
             controller: true, uid: o}}]\nspec: {{serviceAccountName: {name}, nodeName: one, containers: []}}\nstatus: \
             {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}\n"
        )
    });
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{kubernetes.io/metadata.name: shop}}}}\n{}",
        pods.join("")
    );
    let source = Source { name: "inventory.yaml".into(), text };
    load_inventory(&[source]).expect("an inventory")
}

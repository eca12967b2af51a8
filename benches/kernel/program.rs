//! The program of a pod that takes connections from so many peers and opens them to the same, compiled from documents as any other.

use crate::network::{PEER, POD};
use crate::traffic::{PORTS, PORTS_END};
use anyhow::{Context, Result, ensure};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::ObjectName;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Peers of the pod, ours among them. No two are neighbours: each is an entry of its own.
pub(crate) fn peers(count: u32) -> Vec<Ipv4Addr> {
    let others = (1..count).map(|n| Ipv4Addr::from(0x0a80_0000 + 2 * n));
    others.chain([PEER]).collect()
}

/// The program of the pod, with peers in both directions or in one.
pub(crate) fn compiled(peers: &[Ipv4Addr], both_ways: bool, revision: u64) -> Result<Arc<Judge>> {
    let source = |name: &str, text| Source { name: name.to_owned(), text };
    let loaded = load(&[source("policy.yaml", policy(both_ways))]);
    ensure!(!loaded.has_errors(), "the policy: {:?}", loaded.diagnostics);
    let inventory = load_inventory(&[source("inventory.yaml", inventory(peers))])
        .map_err(|errors| anyhow::anyhow!("the inventory: {errors:?}"))?;
    let compiler = Compiler::new(&loaded.set, &inventory).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let pod = ObjectName { namespace: "shop".to_owned(), name: "payments-0".to_owned() };
    let program = compiler.program(&pod, revision).context("the pod has no program")?;
    Ok(Arc::new(Judge::new(program)?))
}

fn policy(both_ways: bool) -> String {
    let rule =
        |side| format!("[{{{side}: [{{workloads: {{role: peer}}}}], ports: [\"{PORTS}-{PORTS_END}\"]}}]");
    let egress = if both_ways { rule("to") } else { "[]".to_owned() };
    format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: payments, namespace: shop}}\n\
         spec:\n  mode: enforce\n  workloads: {{app: payments}}\n  ingress: {}\n  egress: {egress}\n",
        rule("from")
    )
}

fn inventory(peers: &[Ipv4Addr]) -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n",
    );
    let mut pod = |name: &str, labels: &str, address: Ipv4Addr| {
        let _ = writeln!(
            text,
            "- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}, \
             status: {{podIPs: [{{ip: {address}}}]}}}}"
        );
    };
    pod("payments-0", "app: payments", POD);
    for (number, address) in peers.iter().enumerate() {
        pod(&format!("peer-{number}"), "role: peer", *address);
    }
    text
}

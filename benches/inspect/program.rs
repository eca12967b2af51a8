//! The policy of the benchmark as documents, and the program that they compile to.
//!
//! Fifty rules on each port, of which the last one allows what is asked. The other contenders get the same fifty
//! questions in their own words ([`super::settings`]).

use anyhow::{Result, anyhow, bail};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents;
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::program::Program;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Rules on each port.
pub(crate) const RULES: usize = 50;
/// HTTP/1.1.
pub(crate) const HTTP1_PORT: u16 = 8080;
/// HTTP/2 with prior knowledge.
pub(crate) const HTTP2_PORT: u16 = 8081;
/// gRPC.
pub(crate) const GRPC_PORT: u16 = 8082;

/// The program for a pod, which these addresses may ask.
///
/// # Errors
/// If the documents do not compile.
pub(crate) fn program(pod: Ipv4Addr, clients: &[Ipv4Addr]) -> Result<Program> {
    let loaded = documents::load(&[source("policies.yaml", policies())]);
    if loaded.has_errors() {
        bail!("the benchmark's policies: {:?}", loaded.diagnostics);
    }
    let inventory = documents::load_inventory(&[source("inventory.yaml", inventory(pod, clients))])
        .map_err(|found| anyhow!("the benchmark's inventory: {found:?}"))?;
    let compiler = Compiler::new(&loaded.set, &inventory)
        .map_err(|errors| anyhow!("the benchmark's policies: {errors:?}"))?;
    let server = ObjectName { namespace: "bench".to_owned(), name: "server".to_owned() };
    compiler.program(&server, 1).ok_or_else(|| anyhow!("no program for the server"))
}

fn source(name: &str, text: String) -> Source {
    Source { name: name.to_owned(), text }
}

fn policies() -> String {
    let mut text = "apiVersion: bulkhead.dev/v1alpha1\n\
        kind: Collection\n\
        metadata: {name: bench}\n\
        spec: {covers: {namespaces: {team: bench}}, owners: [group:bench], default: deny, mode: enforce}\n\
        ---\n\
        apiVersion: bulkhead.dev/v1alpha1\n\
        kind: SegmentPolicy\n\
        metadata: {name: server, namespace: bench}\n\
        spec:\n  workloads: {app: server}\n  ingress:\n"
        .to_owned();
    for rule in 1..=RULES {
        for (name, port, section) in [
            ("one", HTTP1_PORT, format!("http: [{{methods: [GET], path: \"/svc{rule}/**\"}}]")),
            ("two", HTTP2_PORT, format!("http: [{{methods: [GET], path: \"/svc{rule}/**\"}}]")),
            ("rpc", GRPC_PORT, format!("grpc: [{{service: bench.v1.Service{rule}, methods: [Echo]}}]")),
        ] {
            let _ = writeln!(
                text,
                "    - {{name: {name}-{rule}, from: [{{workloads: {{app: client}}}}], ports: [{port}], {section}}}"
            );
        }
    }
    text
}

fn inventory(server: Ipv4Addr, clients: &[Ipv4Addr]) -> String {
    let pod = |name: &str, app: &str, address| {
        format!(
            "  - apiVersion: v1\n    kind: Pod\n    metadata: {{name: {name}, namespace: bench, labels: {{app: {app}}}}}\n    \
             spec: {{nodeName: node, containers: [{{name: main}}]}}\n    \
             status: {{phase: Running, podIPs: [{{ip: {address}}}]}}\n"
        )
    };
    let clients = clients.iter().enumerate();
    format!(
        "apiVersion: v1\nkind: List\nitems:\n  - apiVersion: v1\n    kind: Namespace\n    \
         metadata: {{name: bench, labels: {{team: bench}}}}\n{}{}",
        pod("server", "server", server),
        clients
            .map(|(number, address)| pod(&format!("client-{number}"), "client", *address))
            .collect::<String>(),
    )
}

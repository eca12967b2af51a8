//! An address that passes from one pod to another: open flows of the one stop at the commit, the other has its own rights.
//!
//! Programs are compiled from documents and inventories, as in a cluster. Pods are told apart by UID: while the inventory
//! names both, nobody can say whose packets they are, and only what both may do is allowed.

use crate::network::{PEER, POD, Peer, SILENCE, accept, dial, talk};
use crate::support::in_own_network;
use crate::{at, documents, open};
use bulkhead_policies::decide::Judge;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

const POLICIES: &str = r"
apiVersion: bulkhead.dev/v1alpha1
kind: Collection
metadata: {name: shop}
spec: {covers: {namespaces: {team: shop}}, default: deny, mode: enforce}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: pod, namespace: shop}
spec:
  workloads: {app: pod}
  ingress:
    - {name: clients, from: [{workloads: {app: client}}], ports: [8000]}
    - {name: everybody, from: [{workloads: {team: all}}], ports: [8002]}
  egress:
    - {name: clients, to: [{workloads: {app: client}}], ports: [8000]}
";

/// Our pod, and at the peer's addresses pods of these names and labels.
fn program(revision: u64, at_peer: &[(&str, &str)]) -> Arc<Judge> {
    let ours = [("pod", "app: pod", POD)].into_iter();
    let all = ours.chain(at_peer.iter().map(|(name, labels)| (*name, *labels, PEER)));
    let all: Vec<_> = all.map(|(name, labels, at)| (name.to_owned(), labels.to_owned(), at)).collect();
    Arc::new(Judge::new(documents::program(POLICIES, revision, &all)).expect("valid"))
}

const OLD: (&str, &str) = ("old", "app: client, team: all");
const NEW: (&str, &str) = ("new", "app: other, team: all");

/// True if the other side hears of it.
fn goes_on(client: &mut TcpStream, server: &mut TcpStream) -> bool {
    server.set_read_timeout(Some(SILENCE)).expect("timeout");
    let _ = client.write_all(b"still there");
    matches!(server.read(&mut [0; 16]), Ok(length) if length > 0)
}

#[test]
fn an_address_that_passes_to_another_pod_takes_no_rights_along() {
    in_own_network("reuse::an_address_that_passes_to_another_pod_takes_no_rights_along", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        for (number, family) in [(0, 0), (10, 1)] {
            let apps = [8000, 8002].map(|port| TcpListener::bind(at(POD[family], port)).expect("listen"));
            let there = peer.listen(PEER[family], 8000);
            let reached = || {
                [
                    peer.dial(at(POD[family], 8000)).is_ok(),
                    peer.dial(at(POD[family], 8002)).is_ok(),
                    dial(at(PEER[family], 8000)).is_ok(),
                ]
            };
            firewall.apply(&program(number + 1, &[OLD])).expect("applied");
            let mut inbound = peer.dial(at(POD[family], 8000)).expect("allowed");
            let mut inbound_end = accept(&apps[0]).expect("arrives").0;
            let mut outbound = dial(at(PEER[family], 8000)).expect("allowed");
            let mut outbound_end = accept(&there).expect("arrives").0;
            talk(&mut inbound, &mut inbound_end).expect("allowed");
            assert_eq!(reached(), [true; 3], "{}", POD[family]);

            // The new pod has the address already, the old one is not gone yet.
            firewall.apply(&program(number + 2, &[OLD, NEW])).expect("applied");
            assert!(!goes_on(&mut inbound, &mut inbound_end) && !goes_on(&mut outbound, &mut outbound_end));
            assert_eq!(reached(), [false, true, false], "only what both may");

            firewall.apply(&program(number + 3, &[NEW])).expect("applied");
            assert!(
                !goes_on(&mut inbound, &mut inbound_end),
                "the old pod's connection is not the new one's"
            );
            assert_eq!(reached(), [false, true, false], "as the new pod may");

            // And it has none of the old one's denials either.
            firewall.apply(&program(number + 4, &[("newer", OLD.1)])).expect("applied");
            assert_eq!(reached(), [true; 3]);
        }
    });
}

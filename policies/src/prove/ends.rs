//! Names of assertions to pods and addresses.

use super::Names;
use crate::diagnostics::{Report, Span, nearest, quoted};
use crate::inventory::{Inventory, ObjectName, Pod, Service};
use crate::questions::Ends;
use crate::space::{Block, held};
use bulkhead_facts::Cidr;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Pods and addresses that names stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct EndSet {
    /// True for everybody.
    all: bool,
    pods: BTreeSet<ObjectName>,
    /// True for every address that no pod, Service or node holds.
    outside: bool,
    pub(super) blocks: Vec<Block>,
}

impl EndSet {
    /// Looks names up; those that nothing has are reported.
    pub(super) fn find(report: &mut Report, names: &Names, inventory: &Inventory) -> Self {
        match names {
            None => Self { all: true, ..Self::default() },
            Some(names) => {
                let mut set = Self::default();
                names.iter().for_each(|(name, span)| set.add(report, name, *span, inventory));
                set
            }
        }
    }

    /// With what Services lead to whose addresses are in the blocks: such an address receives nothing itself.
    pub(super) fn with_services(mut self, inventory: &Inventory) -> Self {
        let dialled = |service: &&Service| {
            service.addresses.iter().any(|address| self.in_block(address.to_canonical()))
        };
        let behind: BTreeSet<IpAddr> =
            inventory.services.values().filter(dialled).flat_map(endpoints).collect();
        self.blocks.extend(behind.into_iter().map(|address| (address, address)));
        self
    }

    /// True for a pod with this address.
    pub(super) fn holds_pod(&self, pod: &ObjectName, address: IpAddr) -> bool {
        self.all || self.pods.contains(pod) || self.in_block(address)
    }

    /// True for an address that no pod and no Service holds.
    pub(super) fn holds_outside(&self, address: IpAddr, nodes: &BTreeSet<IpAddr>) -> bool {
        self.all || self.in_block(address) || (self.outside && !nodes.contains(&address))
    }

    fn in_block(&self, address: IpAddr) -> bool {
        let inside = |(first, last): &Block| {
            first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last
        };
        self.blocks.iter().any(inside)
    }

    fn add(&mut self, report: &mut Report, name: &str, span: Span, inventory: &Inventory) {
        if let Ok(block) = name.parse::<Cidr>() {
            self.blocks.push((block.first(), block.last()));
        } else if name == "outside" {
            self.outside = true;
        } else if name == "nodes" {
            self.blocks.extend(nodes(inventory).into_iter().map(|address| (address, address)));
        } else if let Some(namespace) = name.strip_prefix("namespace/") {
            let before = self.pods.len();
            self.add_pods(inventory.pods.iter().filter(|(key, _)| key.namespace == namespace));
            if self.pods.len() == before {
                let diagnostic = report.error(
                    "unknown-reference",
                    span,
                    format!("the inventory has no pod in namespace {}", quoted(namespace)),
                );
                if let Some(near) = nearest(namespace, inventory.namespaces.keys().map(String::as_str)) {
                    diagnostic.help(format!("did you mean `namespace/{near}`?"));
                }
            }
        } else {
            self.add_named(report, name, span, inventory);
        }
    }

    fn add_named(&mut self, report: &mut Report, name: &str, span: Span, inventory: &Inventory) {
        match Ends::find(name, inventory) {
            Ok(Ends::Pods(names)) => {
                self.add_pods(inventory.pods.iter().filter(|(key, _)| names.contains(key)));
            }
            Ok(Ends::Address(address)) => self.blocks.push((address, address)),
            Ok(Ends::Name(_)) => {
                report
                    .error("bad-proof", span, "whom a name stands for is not known before it is asked for")
                    .help("write `outside`, or a block of addresses");
            }
            Ok(Ends::Service(service)) => {
                let addresses: BTreeSet<IpAddr> =
                    inventory.services.get(&service).into_iter().flat_map(endpoints).collect();
                if addresses.is_empty() {
                    report
                        .error("bad-proof", span, format!("no pod stands behind {}", quoted(name)))
                        .help("name the workload, or add its EndpointSlices to the inventory");
                }
                self.blocks.extend(addresses.into_iter().map(|address| (address, address)));
            }
            Err(unknown) => {
                let help = format!(
                    "{}; also `namespace/NAME`, an address or block, `outside` or `nodes`",
                    unknown.help().trim_end_matches('?')
                );
                report.error("unknown-reference", span, unknown.to_string()).help(help);
            }
        }
    }

    /// A pod in its node's network namespace is seen as its node.
    fn add_pods<'i>(&mut self, pods: impl Iterator<Item = (&'i ObjectName, &'i Pod)>) {
        for (name, pod) in pods {
            if pod.host_network {
                self.blocks.extend(
                    pod.addresses.iter().map(|address| (address.to_canonical(), address.to_canonical())),
                );
            } else {
                self.pods.insert(name.clone());
            }
        }
    }
}

fn endpoints(service: &Service) -> impl Iterator<Item = IpAddr> {
    service.ports.iter().flat_map(|port| &port.endpoints).map(|(address, _)| address.to_canonical())
}

/// Addresses of nodes that no pod and no Service holds.
pub(super) fn nodes(inventory: &Inventory) -> BTreeSet<IpAddr> {
    let held = held(inventory);
    let host_pods = inventory.pods.values().filter(|pod| pod.host_network).flat_map(|pod| &pod.addresses);
    let nodes = inventory.nodes.values().flatten().chain(host_pods).map(IpAddr::to_canonical);
    nodes.filter(|address| !held.contains(address)).collect()
}

//! The ways from one pod to another: by its own addresses, and by the Services in front of it.

use crate::inventory::{Inventory, ObjectName, Pod};
use bulkhead_facts::L4Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One way to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hop<'i> {
    /// The source's address.
    pub(crate) source: IpAddr,
    /// The destination's address.
    pub(crate) destination: IpAddr,
    /// By a Service: its name, protocol, its address and port, and the port that it leads to.
    pub(crate) service: Option<Through<'i>>,
}

/// One port of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Through<'i> {
    pub(crate) name: &'i ObjectName,
    pub(crate) protocol: L4Protocol,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) target: u16,
}

/// What leads where: the ports of Services by the address that they lead to.
pub(crate) struct Ways<'i> {
    behind: BTreeMap<IpAddr, Vec<Through<'i>>>,
}

impl<'i> Ways<'i> {
    pub(crate) fn new(inventory: &'i Inventory) -> Self {
        let mut behind: BTreeMap<IpAddr, Vec<Through<'i>>> = BTreeMap::new();
        for (name, service) in &inventory.services {
            for spec in &service.ports {
                for (endpoint, target) in &spec.endpoints {
                    let endpoint = endpoint.to_canonical();
                    let (protocol, port, target) = (spec.protocol, spec.port, *target);
                    let addresses = service.addresses.iter().map(IpAddr::to_canonical);
                    let family = addresses.filter(|address| address.is_ipv4() == endpoint.is_ipv4());
                    let through = family.map(|address| Through { name, protocol, address, port, target });
                    behind.entry(endpoint).or_default().extend(through);
                }
            }
        }
        Self { behind }
    }

    /// Every way from a pod to another; none from a pod to itself.
    pub(crate) fn hops(
        &self,
        (from, source): (&ObjectName, &Pod),
        (to, destination): (&ObjectName, &Pod),
    ) -> Vec<Hop<'i>> {
        let mut found = Vec::new();
        if from == to {
            return found;
        }
        for own in source.addresses.iter().map(IpAddr::to_canonical) {
            let family = |address: &IpAddr| address.is_ipv4() == own.is_ipv4();
            for there in destination.addresses.iter().map(IpAddr::to_canonical).filter(family) {
                let hop = |service| Hop { source: own, destination: there, service };
                let behind = self.behind.get(&there).into_iter().flatten();
                found.extend(std::iter::once(None).chain(behind.copied().map(Some)).map(hop));
            }
        }
        found
    }
}

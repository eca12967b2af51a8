//! The ways from one pod to another: by its own addresses, and by the Services in front of it.

use crate::inventory::{Inventory, ObjectName, Pod};
use bulkhead_facts::L4Protocol;
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

/// Every way from a pod to another; none from a pod to itself.
pub(crate) fn hops<'i>(
    inventory: &'i Inventory,
    (from, source): (&ObjectName, &'i Pod),
    (to, destination): (&ObjectName, &'i Pod),
) -> Vec<Hop<'i>> {
    let mut found = Vec::new();
    if from == to {
        return found;
    }
    for own in source.addresses.iter().map(IpAddr::to_canonical) {
        let family = |address: &IpAddr| address.is_ipv4() == own.is_ipv4();
        for there in destination.addresses.iter().map(IpAddr::to_canonical).filter(family) {
            found.push(Hop { source: own, destination: there, service: None });
            for (name, service) in &inventory.services {
                for spec in &service.ports {
                    let mine = spec.endpoints.iter().filter(|(address, _)| address.to_canonical() == there);
                    for (_, target) in mine {
                        let addresses = service.addresses.iter().map(IpAddr::to_canonical).filter(family);
                        found.extend(addresses.map(|address| Hop {
                            source: own,
                            destination: there,
                            service: Some(Through {
                                name,
                                protocol: spec.protocol,
                                address,
                                port: spec.port,
                                target: *target,
                            }),
                        }));
                    }
                }
            }
        }
    }
    found
}

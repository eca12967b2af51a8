//! Who has which address in a lab: a pure function of the lab file.
//!
//! Pods, the node and Services are numbered in the order of the file, with the same number in both families, so
//! that a person who sees `10.77.1.7` also knows `fd77::1:7`.

use crate::file::{LabFile, PodSpec, ServiceSpec};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The node's own addresses, where the controller listens.
pub const NODE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 77, 0, 1), Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1));

/// Blocks that belong to the lab's cluster.
pub const CLUSTER_BLOCKS: [Block; 4] = [
    Block { address: IpAddr::V4(Ipv4Addr::new(10, 77, 0, 0)), length: 16 },
    Block { address: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), length: 16 },
    Block { address: IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0)), length: 64 },
    Block { address: IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0)), length: 64 },
];

/// Blocks of the Services: an address in them that is nobody's is answered with "unreachable".
pub const SERVICE_BLOCKS: [Block; 2] = [CLUSTER_BLOCKS[1], CLUSTER_BLOCKS[3]];

/// An address block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// First address.
    pub address: IpAddr,
    /// Prefix length.
    pub length: u8,
}

impl Block {
    /// True if the address is in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                (u32::from(block) ^ u32::from(address)).checked_shr(32 - u32::from(self.length)).unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                (u128::from(block) ^ u128::from(address))
                    .checked_shr(128 - u32::from(self.length))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

/// The addresses of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every pod, in the order of the file, replicas in a row.
    pub pods: Vec<PlannedPod>,
    /// Cluster addresses of the Services, in the order of the file.
    pub services: Vec<(Ipv4Addr, Ipv6Addr)>,
}

/// One pod with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPod {
    /// Position of its entry in the lab file.
    pub spec: usize,
    /// `namespace/name-0`.
    pub place: String,
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

impl PlannedPod {
    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)]
    }
}

impl Plan {
    /// Numbers everything in a lab file.
    pub fn new(lab: &LabFile) -> Self {
        let named = lab.pods.iter().enumerate().flat_map(|(spec, pod)| places(pod).map(move |p| (spec, p)));
        let pods = named.zip(1u16..).map(|((spec, place), number)| PlannedPod {
            spec,
            place,
            v4: Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 77, 1, 0)) + u32::from(number)),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, hexadecimal(number)),
        });
        // The first ten are left to the cluster itself, as Kubernetes does with .1 and .10.
        let services = lab.services.iter().zip(11u16..).map(|(_, number)| {
            let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + u32::from(number));
            (v4, Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, hexadecimal(number)))
        });
        Self { pods: pods.collect(), services: services.collect() }
    }

    /// The pods behind a Service.
    pub fn endpoints<'a>(
        &'a self,
        lab: &'a LabFile,
        service: &'a ServiceSpec,
    ) -> impl Iterator<Item = &'a PlannedPod> {
        self.pods.iter().filter(|pod| service.selects(&lab.pods[pod.spec]))
    }
}

fn places(pod: &PodSpec) -> impl Iterator<Item = String> + '_ {
    pod.pod_names().map(|name| format!("{}/{name}", pod.namespace))
}

/// 12 becomes 0x12, so that both families read alike.
fn hexadecimal(number: u16) -> u16 {
    let mut rest = number;
    let mut value = 0;
    for shift in (0..16).step_by(4) {
        value |= (rest % 10) << shift;
        rest /= 10;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{SHOP, read};
    use bulkhead_policies::diagnostics::Source;
    use std::collections::BTreeSet;

    fn shop() -> LabFile {
        read(&Source { name: "shop.yaml".into(), text: SHOP.into() }).expect("the shop is a lab file").0
    }

    #[test]
    fn every_place_has_addresses_of_its_own_in_the_cluster() {
        let lab = shop();
        let plan = Plan::new(&lab);
        let mut seen = BTreeSet::new();
        for pod in &plan.pods {
            for address in [IpAddr::V4(pod.v4), IpAddr::V6(pod.v6)] {
                assert!(seen.insert(address), "{address} is given twice");
                assert!(CLUSTER_BLOCKS.iter().any(|b| b.contains(address)), "{address} is not the cluster's");
                assert!(!SERVICE_BLOCKS.iter().any(|b| b.contains(address)), "{address} is a Service's");
            }
        }
        for (v4, v6) in &plan.services {
            assert!(
                SERVICE_BLOCKS[0].contains(IpAddr::V4(*v4)) && SERVICE_BLOCKS[1].contains(IpAddr::V6(*v6))
            );
            assert!(seen.insert(IpAddr::V4(*v4)) && seen.insert(IpAddr::V6(*v6)));
        }
    }

    #[test]
    fn both_families_carry_the_same_number_to_the_eye() {
        assert_eq!(hexadecimal(7), 0x7);
        assert_eq!(hexadecimal(123), 0x123);
    }

    #[test]
    fn a_block_ends_where_its_prefix_says() {
        let block = SERVICE_BLOCKS[0];
        assert!(block.contains(IpAddr::V4(Ipv4Addr::new(10, 96, 255, 255))));
        assert!(!block.contains(IpAddr::V4(Ipv4Addr::new(10, 97, 0, 0))));
        assert!(!block.contains(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }
}

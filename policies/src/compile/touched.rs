//! Which Services a set of addresses tells apart from the pods behind them.
//!
//! Where a set holds a Service's address and all of its endpoints, or none of them, the Service needs no answer of its own for
//! it: whoever dials the address is judged like whoever dials the pods. Worked out once for each set, since many workloads
//! share it.

use super::cluster::{Cluster, ServiceIndex};
use super::intervals::{AddressSet, Interval, Number};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Services that a set touches, ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    /// Those that it holds in part.
    pub(crate) uneven: Vec<ServiceIndex>,
    /// Those that it holds whole and that lead to other ports than are dialled: a position in
    /// [`Cluster::renumbered`] with the Services.
    pub(crate) renumbered: Vec<(usize, Vec<ServiceIndex>)>,
}

impl Touched {
    /// Looks at the Services that have an address or an endpoint in the set.
    pub(crate) fn new(cluster: &Cluster<'_>, set: &AddressSet) -> Self {
        let mut near = BTreeSet::new();
        for index in [&cluster.endpoints, &cluster.service_addresses] {
            near.extend(within(index, &set.v4, |n| IpAddr::V4(n.into())));
            near.extend(within(index, &set.v6, |n| IpAddr::V6(n.into())));
        }
        let (uneven, even): (Vec<_>, Vec<_>) = near.into_iter().partition(|at| is_uneven(cluster, *at, set));
        let renumbered = cluster.renumbered.iter().enumerate().filter_map(|(at, group)| {
            let held = even.iter().copied().filter(|service| group.services.binary_search(service).is_ok());
            let held: Vec<_> = held.collect();
            (!held.is_empty()).then_some((at, held))
        });
        Self { uneven, renumbered: renumbered.collect() }
    }
}

/// True if, within one family that the Service has an address of, some are in the set and some are not.
fn is_uneven(cluster: &Cluster<'_>, service: ServiceIndex, set: &AddressSet) -> bool {
    let service = cluster.services[service].1;
    let endpoints = || service.ports.iter().flat_map(|port| &port.endpoints).map(|(address, _)| *address);
    service.addresses.iter().any(|own| {
        let inside = set.contains(*own);
        let same_family = |address: &IpAddr| address.to_canonical().is_ipv4() == own.to_canonical().is_ipv4();
        endpoints().filter(same_family).any(|address| set.contains(address) != inside)
    })
}

fn within<N: Number>(
    index: &[(IpAddr, ServiceIndex)],
    intervals: &[Interval<N>],
    address: impl Fn(N) -> IpAddr,
) -> Vec<ServiceIndex> {
    let mut found = Vec::new();
    for (first, last) in intervals {
        let (first, last) = (address(*first), address(*last));
        let begin = index.partition_point(|(at, _)| *at < first);
        found.extend(index[begin..].iter().take_while(|(at, _)| *at <= last).map(|(_, service)| *service));
    }
    found
}

//! The node's own table: Service addresses rewritten to pods, source addresses held to their cable.
//!
//! As in a cluster, a Service is an address that the node rewrites to one of its endpoints at random; the pod's own
//! namespace sees only the Service's address. A packet with a source that is not its sender's is dropped before
//! anything else looks at it: a source address is evidence only where the network sees to that. A pod that
//! reaches itself through a Service gets the node's address as the source, else its answer would go astray.

use crate::addresses::{Plan, PlannedPod};
use crate::file::LabFile;
use crate::network::{Cable, interface_index};
use bulkhead_netfilter::{
    Batch, Chain, ChainType, Connection, Field, Hook, NetlinkError, Policy, Rule, Table, priority,
};
use std::net::{IpAddr, Ipv6Addr};

const SOURCES: &str = "sources";
const SERVICES: &str = "services";
const HAIRPINS: &str = "hairpins";

/// Loads the table in this thread's network namespace, the node's.
pub(crate) fn load(lab: &LabFile, plan: &Plan, cables: &[Cable]) -> Result<(), NetlinkError> {
    let table = Table::inet("node");
    let mut batch = Batch::new();
    batch.add_table(&table);
    let sources = (SOURCES, ChainType::Filter, Hook::Prerouting, priority::RAW);
    let services = (SERVICES, ChainType::Nat, Hook::Prerouting, priority::DESTINATION_NAT);
    let hairpins = (HAIRPINS, ChainType::Nat, Hook::Postrouting, priority::SOURCE_NAT);
    for (name, chain_type, hook, priority) in [sources, services, hairpins] {
        batch.add_chain(&table, &Chain::base(name, chain_type, hook, priority, Policy::Accept));
    }
    for (position, cable) in cables.iter().enumerate() {
        source_rules(interface_index(position), &cable.addresses)
            .for_each(|rule| batch.add_rule(&table, SOURCES, &rule));
    }
    for rule in service_rules(lab, plan) {
        batch.add_rule(&table, SERVICES, &rule);
    }
    for address in plan.pods.iter().flat_map(PlannedPod::addresses) {
        let hairpin = Rule::new().from_address(address).to_address(address).masquerade();
        batch.add_rule(&table, HAIRPINS, &hairpin);
    }
    Connection::open()?.commit(&batch)
}

/// Drops what comes by a cable with another source than its own. Link-local IPv6 is never routed on, and
/// neighbour discovery needs it.
fn source_rules(index: u32, addresses: &[IpAddr]) -> impl Iterator<Item = Rule> {
    let link_local = Rule::new()
        .input_device(index)
        .ipv6()
        .field::<Ipv6Addr>(Field::SOURCE_V6)
        .in_block(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)
        .accept();
    let own = addresses.iter().map(move |address| match address {
        IpAddr::V4(own) => Rule::new().input_device(index).ipv4().field(Field::SOURCE_V4).not_equals(*own),
        IpAddr::V6(own) => Rule::new().input_device(index).ipv6().field(Field::SOURCE_V6).not_equals(*own),
    });
    std::iter::once(link_local).chain(own.map(|rule| rule.counter().drop_packet()).collect::<Vec<_>>())
}

/// For each port of each Service in each family one rule per endpoint, each taking its share of what is left.
fn service_rules(lab: &LabFile, plan: &Plan) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (service, (v4, v6)) in lab.services.iter().zip(&plan.services) {
        let pods: Vec<&PlannedPod> = plan.endpoints(lab, service).collect();
        for port in &service.ports {
            for virtual_address in [IpAddr::V4(*v4), IpAddr::V6(*v6)] {
                for (left, pod) in (1u32..=u32::try_from(pods.len()).unwrap_or(u32::MAX)).rev().zip(&pods) {
                    let endpoint =
                        if virtual_address.is_ipv4() { IpAddr::V4(pod.v4) } else { IpAddr::V6(pod.v6) };
                    let rule =
                        Rule::new().to_address(virtual_address).protocol(port.protocol.0).to_port(port.port);
                    let rule =
                        if left > 1 { rule.field(Field::RandomBelow(left)).equals(0u32) } else { rule };
                    rules.push(rule.destination_nat(endpoint, Some(port.target)));
                }
            }
        }
    }
    rules
}

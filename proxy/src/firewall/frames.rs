//! The guard against frames that never were packets of ours: AF_PACKET sockets bypass every hook of IP.
//!
//! One egress chain per device lets pass what took a route and carries the mark that `output` sets, and takes the
//! mark off, so that nobody who listens on the device learns it; and the kernel's own ARP, told by the frame's own type
//! field and by having no sender among the programs.

use super::infrastructure;
use super::limits::{LOGGED_PACKETS_BURST, LOGGED_PACKETS_PER_SECOND};
use super::options::{FirewallOptions, LOG_GROUP};
use bulkhead_netfilter::route::{Device, LOOPBACK_INDEX};
use bulkhead_netfilter::{Batch, Chain, ChainType, Field, Hook, Policy, Rule, Table, limits, priority};

/// The prefix under which stopped frames are logged.
pub(super) const LOG_PREFIX: &str = "frame";

/// The table of frames.
pub(super) fn table(name: &str) -> Table {
    Table::netdev(name)
}

/// The devices that need a guard.
pub(super) fn guarded(devices: Vec<Device>) -> Vec<Device> {
    devices.into_iter().filter(|device| device.index != LOOPBACK_INDEX).collect()
}

/// The chain of a device.
pub(super) fn chain(device: &Device) -> Chain {
    let hook = Hook::Egress(device.name.clone());
    Chain::base(&chain_name(device), ChainType::Filter, hook, priority::FILTER, Policy::Drop)
}

fn chain_name(device: &Device) -> String {
    format!("egress_{}", device.index)
}

/// The rules of every such chain.
pub(super) fn rules(options: &FirewallOptions) -> Vec<Rule> {
    const ARP: u16 = 0x0806;
    let mut rules = vec![
        // The mark alone would not do: a program with CAP_NET_RAW can try all there are. Its frames have no route.
        Rule::new()
            .field::<u32>(Field::RouteRealm)
            .is_there()
            .packet_mark()
            .equals(options.marks.passed)
            .set_packet_mark(0)
            .accept(),
        Rule::new()
            .named("address resolution by a program")
            .field(Field::ETHER_TYPE)
            .equals(ARP)
            .field::<u32>(Field::SenderUser)
            .is_there()
            .counter()
            .drop_packet(),
        Rule::new().field(Field::ETHER_TYPE).equals(ARP).accept(),
    ];
    rules.extend(infrastructure::frames(options));
    rules.extend([
        Rule::new().named("frame stopped").counter(),
        Rule::new().at_most_per_second(LOGGED_PACKETS_PER_SECOND, LOGGED_PACKETS_BURST).log_to_group(
            LOG_GROUP,
            LOG_PREFIX,
            limits::LOGGED_BYTES_MAX,
        ),
        Rule::new().drop_packet(),
    ]);
    rules
}

/// Adds the guard of a device.
pub(super) fn add(batch: &mut Batch, table: &Table, device: &Device, options: &FirewallOptions) {
    batch.add_chain(table, &chain(device));
    for rule in rules(options) {
        batch.add_rule(table, &chain_name(device), &rule);
    }
}

/// Replaces the rules of a device's guard.
pub(super) fn renew(batch: &mut Batch, table: &Table, device: &Device, options: &FirewallOptions) {
    batch.flush_chain(table, &chain_name(device));
    for rule in rules(options) {
        batch.add_rule(table, &chain_name(device), &rule);
    }
}

//! Names and shapes of the table's sets.

use super::limits::{
    BOUND_SENDER_LIFE, BOUND_SENDERS_MAX, DENIED_EDGE_LIFE, DENIED_EDGES_MAX, NAMED_ADDRESSES_MAX,
};
use super::options::{DNS_PORT, FirewallOptions, INBOUND_PORT, INBOUND_UDP_PORT, OUTBOUND_PORT};
use bulkhead_facts::{Direction, IpFamily};
use bulkhead_netfilter::{Element, FieldKind, Key, Set};
use std::net::IpAddr;

/// The maps of one direction; those that a reload makes have another number than those before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    pub(super) direction: Direction,
    pub(super) number: u16,
}

fn address_kind(family: IpFamily) -> FieldKind {
    match family {
        IpFamily::V4 => FieldKind::Ipv4,
        IpFamily::V6 => FieldKind::Ipv6,
    }
}

fn suffix(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "4",
        IpFamily::V6 => "6",
    }
}

/// Address to class.
pub(super) fn class_map(sets: Maps, family: IpFamily) -> Set {
    let name = format!("{}_classes{}_{}", sets.direction, suffix(family), sets.number);
    Set::new(&name, &[address_kind(family)]).map_to(FieldKind::Mark).intervals()
}

/// Address that names lead to, to class.
pub(super) fn named_map(sets: Maps, family: IpFamily) -> Set {
    by_name("names", sets, family)
}

/// Likewise, for what is open only.
pub(super) fn kept_map(sets: Maps, family: IpFamily) -> Set {
    by_name("names_kept", sets, family)
}

fn by_name(what: &str, sets: Maps, family: IpFamily) -> Set {
    let name = format!("{}_{what}{}_{}", sets.direction, suffix(family), sets.number);
    let set = Set::new(&name, &[address_kind(family)]).map_to(FieldKind::Mark);
    set.timeouts().elements_max(NAMED_ADDRESSES_MAX)
}

/// Class, protocol, port to mark.
pub(super) fn port_map(sets: Maps) -> Set {
    let name = format!("{}_ports_{}", sets.direction, sets.number);
    Set::new(&name, &[FieldKind::Mark, FieldKind::Protocol, FieldKind::Port])
        .map_to(FieldKind::Mark)
        .intervals()
}

/// Denied conversations: peer, mark (which answer of which generation), protocol, port.
pub(super) fn denied(direction: Direction, family: IpFamily) -> Set {
    let name = format!("denied_{}{}", direction, suffix(family));
    let key = [address_kind(family), FieldKind::Mark, FieldKind::Protocol, FieldKind::Port];
    Set::new(&name, &key).dynamic(DENIED_EDGES_MAX, DENIED_EDGE_LIFE)
}

/// Protocols and source ports of sockets that are bound to a device, so that nothing of theirs can be captured.
pub(super) fn bound_senders() -> Set {
    let key = [FieldKind::Protocol, FieldKind::Port];
    Set::new("bound_senders", &key).dynamic(BOUND_SENDERS_MAX, BOUND_SENDER_LIFE)
}

/// Holds the numbers of TCP and UDP while flows are redirected for learning.
pub(super) fn alive() -> Set {
    Set::new("learning", &[FieldKind::Protocol]).timeouts()
}

/// Ports of the sidecar's listeners that nobody may address.
pub(super) fn own_ports() -> Set {
    Set::new("sidecar_ports", &[FieldKind::Port])
}

/// Protocols with a destination port at bytes 2 and 3.
pub(super) fn with_ports() -> Set {
    Set::new("with_ports", &[FieldKind::Protocol])
}

/// Neighbour discovery that is needed: solicitation and advertisement.
pub(super) fn neighbours() -> Set {
    Set::new("neighbour_discovery", &[FieldKind::Icmpv6Type])
}

/// Noise of every link, dropped without a report: listener reports, routers, redirects.
pub(super) fn link_noise() -> Set {
    Set::new("link_noise", &[FieldKind::Icmpv6Type])
}

/// Who may reach the administrative port.
pub(super) fn admin_peers(family: IpFamily) -> Set {
    Set::new(&format!("admin_peers{}", suffix(family)), &[address_kind(family)])
}

/// Sets whose elements only we change, with those elements.
pub(super) fn constant(options: &FirewallOptions) -> Vec<(Set, Vec<Element>)> {
    let keys = |keys: Vec<Key>| keys.into_iter().map(Element::single).collect::<Vec<_>>();
    let types = |types: &[u8]| keys(types.iter().map(|t| Key::new().icmpv6_type(*t)).collect());
    let ports = [OUTBOUND_PORT, INBOUND_PORT, INBOUND_UDP_PORT, DNS_PORT].map(|port| Key::new().port(port));
    let peers = |ipv4: bool| {
        let mut peers: Vec<IpAddr> = options.admin_peers.iter().map(IpAddr::to_canonical).collect();
        peers.retain(|peer| peer.is_ipv4() == ipv4);
        peers.sort_unstable();
        peers.dedup();
        keys(peers.into_iter().map(|peer| Key::new().address(peer)).collect())
    };
    vec![
        (own_ports(), keys(ports.to_vec())),
        (with_ports(), keys([6, 17, 132].map(|protocol| Key::new().protocol(protocol)).to_vec())),
        (neighbours(), types(&[135, 136])),
        (link_noise(), types(&[130, 131, 132, 133, 134, 137, 143])),
        (admin_peers(IpFamily::V4), peers(true)),
        (admin_peers(IpFamily::V6), peers(false)),
    ]
}

/// Sets whose elements come from packets and heartbeats.
pub(super) fn dynamic() -> Vec<Set> {
    let families = [IpFamily::V4, IpFamily::V6];
    let denied = Direction::BOTH.into_iter().flat_map(|d| families.map(|family| denied(d, family)));
    denied.chain([alive(), bound_senders()]).collect()
}

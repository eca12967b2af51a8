//! What passes whatever policies say, since the pod could not live without it. Each rule has a name and a counter, and can be
//! switched off ([`Infrastructure`](super::Infrastructure)).
//!
//! The cluster's resolver and the kubelet's probes are no rules of this kind: they are built-in rules of the policy
//! language, switched off per collection, with verdicts like any other.

use super::chains::leaves;
use super::options::FirewallOptions;
use super::sets;
use bulkhead_facts::L4Protocol;
use bulkhead_netfilter::{Field, Rule};

const UDP: u8 = L4Protocol::UDP.0;
const ICMPV6: u8 = L4Protocol::ICMPV6.0;
const IGMP: u8 = 2;
/// Client and server ports of DHCP (RFC 2131 section 4.1), then of DHCPv6 (RFC 8415 section 7.2).
const DHCP_PORTS: [(u16, u16); 2] = [(68, 67), (546, 547)];

/// Rules of IPv6 packets that arrive (`in`) or are made here (`out`).
pub(super) fn of_v6(way: &str, options: &FirewallOptions) -> Vec<Rule> {
    let icmpv6 = |name: &str| Rule::new().named(&format!("{name} {way}")).ipv6().protocol(ICMPV6);
    let mut rules = Vec::new();
    if options.infrastructure.neighbour_discovery {
        // It never crosses a router: its hop limit is still 255 (RFC 4861 section 7.1).
        let discovery = icmpv6("neighbour discovery").field(Field::HOP_LIMIT).equals(255u8);
        let needed = discovery.field::<u8>(Field::ICMP_TYPE).in_set(sets::neighbours().name());
        rules.push(passes(needed.counter(), way, options));
    }
    let kinds = [
        (options.infrastructure.router_discovery, "router discovery", 255u8, [&[133u8][..], &[134]]),
        (options.infrastructure.multicast_listeners, "multicast listeners", 1, [&[131, 132, 143], &[130]]),
    ];
    for (_, name, hop_limit, [out, into]) in kinds.into_iter().filter(|(asked_for, ..)| *asked_for) {
        for message in if way == "out" { out } else { into } {
            let of_link = |name: &str| {
                let of_link = icmpv6(name).field(Field::HOP_LIMIT).equals(hop_limit);
                of_link.field(Field::ICMP_TYPE).equals(*message)
            };
            if way == "out" {
                let by_a_program = of_link(&format!("{name} by a program"));
                rules.push(by_a_program.field::<u32>(Field::SenderUser).is_there().counter().drop_packet());
            }
            rules.push(passes(of_link(name).counter(), way, options));
        }
    }
    let noise = icmpv6("link noise").field::<u8>(Field::ICMP_TYPE).in_set(sets::link_noise().name());
    rules.push(noise.counter().drop_packet());
    if options.infrastructure.dhcp {
        rules.push(dhcp(Rule::new().ipv6(), DHCP_PORTS[1], way, options));
    }
    rules
}

/// Memberships of groups, of which a pod has none.
pub(super) fn group_membership(way: &str) -> Rule {
    Rule::new().named(&format!("group membership {way}")).ipv4().protocol(IGMP).counter().drop_packet()
}

/// DHCP, where it is asked for; before it is asked whether a packet is addressed to us.
pub(super) fn dhcp_v4(way: &str, options: &FirewallOptions) -> Vec<Rule> {
    match options.infrastructure.dhcp {
        true => vec![dhcp(Rule::new().ipv4(), DHCP_PORTS[0], way, options)],
        false => Vec::new(),
    }
}

fn dhcp(family: Rule, (client, server): (u16, u16), way: &str, options: &FirewallOptions) -> Rule {
    let (from, to) = if way == "out" { (client, server) } else { (server, client) };
    let named = family.named(&format!("dhcp {way}")).protocol(UDP);
    passes(named.field(Field::SOURCE_PORT).equals(from).to_port(to).counter(), way, options)
}

fn passes(rule: Rule, way: &str, options: &FirewallOptions) -> Rule {
    if way == "out" { leaves(rule, options) } else { rule.accept() }
}

/// Frames by which a DHCP client asks before there is an address.
pub(super) fn frames(options: &FirewallOptions) -> Vec<Rule> {
    const IPV4: u16 = 0x0800;
    let (client, server) = DHCP_PORTS[0];
    let ask = Rule::new().named("dhcp frame").field(Field::ETHER_TYPE).equals(IPV4).protocol(UDP);
    let ask = ask.field(Field::SOURCE_PORT).equals(client).to_port(server).counter().accept();
    if options.infrastructure.dhcp { vec![ask] } else { Vec::new() }
}

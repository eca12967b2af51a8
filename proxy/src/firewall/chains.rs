//! The chains that live as long as the table: guards, what happens to the admitted and the denied. See `hooks.rs` for hooks.
//!
//! The way of an arriving packet: `prerouting` (generation G and confirmed? pass) → `arrived_G` →
//! [`ARRIVAL`] (guards) → `ingress_G` or, for answers, `egress_G` (the two look-ups; the mark found goes to the packet) →
//! [`weigh`] (denied, or cut, or marked and let pass). A packet that is made here goes the same way by
//! `output` → `departed_G` → [`DEPARTURE`]. A conversation is judged by its first packet's addresses, whichever way the
//! packet at hand goes. What is denied is counted per edge, logged within limits, and refused. See `judgement.rs` for G.

use super::limits::{LOGGED_PACKETS_BURST, LOGGED_PACKETS_PER_SECOND, RESETS_PER_SECOND};
use super::mark::{Class, Guard, Mark};
use super::options::{FirewallOptions, LOG_GROUP};
use super::{hooks, infrastructure, sets};
use bulkhead_facts::{Direction, IpFamily, L4Protocol};
use bulkhead_netfilter::route::LOOPBACK_INDEX;
use bulkhead_netfilter::{
    Chain, ChainType, Field, Hook, Policy, Refusal, Register, Rule, address_type, connection_state,
    connection_status, limits as netfilter_limits, priority,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// A chain with its rules.
pub(super) type Rules = (Chain, Vec<Rule>);

/// The hook of arriving packets; it knows the generation in force and goes there.
pub(super) const PREROUTING: &str = "prerouting";
/// The hook of packets made here; likewise.
pub(super) const OUTPUT: &str = "output";
/// Guards of arriving packets; comes back if none of them decided.
pub(super) const ARRIVAL: &str = "arrival";
/// Guards of packets made here; comes back if none of them decided.
pub(super) const DEPARTURE: &str = "departure";
/// As [`weigh`], for the inspector's own legs to other pods.
pub(super) const WEIGH_UPSTREAM: &str = "weigh_upstream";
/// Where the packet's mark says what becomes of a message that belongs to no conversation.
pub(super) fn weigh_message(direction: Direction) -> String {
    format!("weigh_message_{direction}")
}

/// The name of the rule that counts our legs to the app.
pub(super) const LOCAL_LEG_RULE: &str = "leg to the app";
/// Names of the connection timeouts.
pub(super) const TCP_TIMEOUTS: [(&str, bool); 2] = [("tcp4", true), ("tcp6", false)];

const ARRIVAL_LOOPBACK: &str = "arrival_loopback";
const ARRIVAL_V6: &str = "arrival_v6";
const ARRIVAL_OWN: &str = "arrival_own";
const DEPARTURE_V6: &str = "departure_v6";
const ASTRAY: &str = "astray";
const LOOPBACK: &str = "loopback";
const REFUSE: &str = "refuse";
const ACCOUNTING: &str = "accounting";
/// What the sidecar's own conversations say; see `judgement.rs` for what opens one.
pub(super) const OWN: &str = "own_conversation";
const TCP: u8 = L4Protocol::TCP.0;
const UDP: u8 = L4Protocol::UDP.0;
const ICMP: u8 = L4Protocol::ICMP.0;
const ICMPV6: u8 = L4Protocol::ICMPV6.0;

/// Where the packet's mark says what becomes of a conversation.
pub(super) fn weigh(direction: Direction) -> String {
    format!("weigh_{direction}")
}

/// Where denied packets of a conversation end.
pub(super) fn deny(direction: Direction) -> String {
    format!("deny_{direction}")
}

/// The two hooks whose rules name a generation.
pub(super) fn switching_hooks() -> [Chain; 2] {
    let hook = |name, hook| Chain::base(name, ChainType::Filter, hook, priority::MANGLE, Policy::Drop);
    [hook(PREROUTING, Hook::Prerouting), hook(OUTPUT, Hook::Output)]
}

/// Every other chain that lives as long as the table; those of [`hooks::capturing`] while there can be captured flows.
pub(super) fn lasting(options: &FirewallOptions, captures: bool) -> Vec<Rules> {
    let regular = |name: &str, rules| (Chain::regular(name), rules);
    let mut chains = vec![
        regular(ARRIVAL, arrival(options)),
        regular(DEPARTURE, departure(options)),
        regular(ARRIVAL_LOOPBACK, arrival_loopback(options)),
        regular(ARRIVAL_V6, arrival_v6(options)),
        regular(ARRIVAL_OWN, arrival_own(options)),
        regular(DEPARTURE_V6, departure_v6(options)),
        regular(ASTRAY, astray()),
        regular(hooks::LISTENER, hooks::listener(options)),
        regular(hooks::AGREEING, hooks::agreeing(options)),
        regular(hooks::LEG, hooks::leg(options)),
        regular(hooks::BOUND, hooks::bound(options)),
        regular(OWN, own(options)),
        regular(LOOPBACK, loopback()),
        regular(REFUSE, refuse()),
        regular(WEIGH_UPSTREAM, weigh_upstream(options)),
        regular(ACCOUNTING, accounting()),
    ];
    for direction in Direction::BOTH {
        chains.push(regular(&weigh(direction), weigh_rules(direction, options)));
        chains.push(regular(
            &weigh_others(direction),
            [without_inspector(direction, options), weigh_others_rules(direction, options)].concat(),
        ));
        chains.push(regular(&weigh_message(direction), weigh_message_rules(direction, options)));
        chains.push(regular(&deny(direction), deny_rules(direction, options)));
        let passes = leaves(Rule::new(), options);
        let unmarked = Rule::new().set_ct_mark(0);
        let told_and = |before, after: Rule| [before, told_rules(direction), vec![after]].concat();
        chains.push(regular(&told(direction), told_and(vec![unmarked], passes)));
        chains.push(regular(&heard(direction), told_and(Vec::new(), Rule::new().drop_packet())));
        chains.push(regular(&count(direction), count_rules(direction)));
    }
    chains.extend(hooks::always());
    if captures {
        chains.extend(hooks::capturing(options));
    }
    chains
}

/// Guards of arriving packets. A new connection meets each rule that stands here, so what concerns few of them stands
/// behind one rule that tells these few. Neighbour discovery comes before the route look-up: it is sent to multicast
/// groups.
fn arrival(options: &FirewallOptions) -> Vec<Rule> {
    let ingress = Direction::Ingress;
    let mut rules = vec![
        Rule::new().input_device(LOOPBACK_INDEX).goto(ARRIVAL_LOOPBACK),
        Rule::new().ipv6().jump(ARRIVAL_V6),
    ];
    rules.extend(infrastructure::dhcp_v4("in", options));
    for field in [Field::SOURCE_V4, Field::DESTINATION_V4] {
        let loopback = Rule::new().ipv4().field::<Ipv4Addr>(field).in_block(Ipv4Addr::LOCALHOST, 8);
        rules.push(guard(loopback, Guard::SpoofedSource, ingress));
    }
    rules.push(Rule::new().field(Field::DestinationAddressType).not_equals(address_type::LOCAL).goto(ASTRAY));
    rules.push(guard(without_conversation(), Guard::InvalidPacket, ingress));
    let own = hooks::near_own_ports(Field::OriginalDestinationPort, options);
    rules.push(own.jump(ARRIVAL_OWN));
    rules
}

/// What the pod's own containers say to each other: was judged when it left, and is known since. A frame that a program puts on
/// the loopback device is not: see [`forged_question`].
fn arrival_loopback(options: &FirewallOptions) -> Vec<Rule> {
    vec![
        hooks::stolen_port(TCP, options.admin_port, options),
        confirmed(Rule::new().named("loopback")).accept(),
        guard(forged_question(), Guard::SpoofedSource, Direction::Ingress),
        Rule::new().named("loopback").accept(),
    ]
}

/// A first packet within the pod that claims to come from elsewhere. What the pod then says to that address would pass as the
/// answer, by the rules of what arrives.
fn forged_question() -> Rule {
    Rule::new().towards_destination().field(Field::SourceAddressType).not_equals(address_type::LOCAL)
}

fn arrival_v6(options: &FirewallOptions) -> Vec<Rule> {
    let loopback = [Field::SOURCE_V6, Field::DESTINATION_V6].map(|field| {
        let loopback = Rule::new().ipv6().field(field).equals(Ipv6Addr::LOCALHOST);
        guard(loopback, Guard::SpoofedSource, Direction::Ingress)
    });
    loopback.into_iter().chain(infrastructure::of_v6("in", options)).collect()
}

/// What arrives for our own ports, or ports between them.
fn arrival_own(options: &FirewallOptions) -> Vec<Rule> {
    let mut rules = own_ports(Direction::Ingress).to_vec();
    rules.push(hooks::stolen_port(TCP, options.admin_port, options));
    if !options.infrastructure.administrative_port {
        return rules;
    }
    for (family, source) in [(IpFamily::V4, Field::OriginalSourceV4), (IpFamily::V6, Field::OriginalSourceV6)]
    {
        let admin = Rule::new()
            .named("administrative port")
            .towards_destination()
            .field(Field::ConnectionProtocol)
            .equals(TCP)
            .field(Field::OriginalDestinationPort)
            .equals(options.admin_port)
            .key_in(&[source], sets::admin_peers(family).name());
        rules.push(admin.set_ct_mark(Mark::OWN).tell_no_events().counter().accept());
    }
    rules
}

/// What arrives and is not addressed to us.
fn astray() -> Vec<Rule> {
    let groups = [("multicast in", address_type::MULTICAST), ("broadcast in", address_type::BROADCAST)];
    let groups = groups.map(|(name, kind)| {
        Rule::new().named(name).field(Field::DestinationAddressType).equals(kind).counter().drop_packet()
    });
    let mut rules = vec![infrastructure::group_membership("in")];
    rules.extend(groups);
    rules.push(guard(Rule::new(), Guard::InvalidPacket, Direction::Ingress));
    rules
}

/// Guards of packets made here. The leg to the app comes before every device test: its source is not ours.
fn departure(options: &FirewallOptions) -> Vec<Rule> {
    let egress = Direction::Egress;
    let legs = [(LOCAL_LEG_RULE, TCP), ("datagrams to the app", UDP)].map(|(name, carrier)| {
        let leg = by_sidecar(Rule::new().named(name), options.marks.local_leg, options).protocol(carrier);
        let to_app = leg.field(Field::DestinationAddressType).equals(address_type::LOCAL);
        to_app.set_ct_mark(Mark::LOCAL_LEG).tell_no_events().counter().accept()
    });
    let mut rules = legs.to_vec();
    rules.push(Rule::new().field(Field::OutputDevice).equals(LOOPBACK_INDEX).goto(LOOPBACK));
    rules.push(Rule::new().ipv6().jump(DEPARTURE_V6));
    rules.push(infrastructure::group_membership("out"));
    rules.extend(infrastructure::dhcp_v4("out", options));
    let spoofed = Rule::new().field(Field::SourceAddressType).not_equals(address_type::LOCAL);
    rules.push(guard(spoofed, Guard::SpoofedSource, egress));
    rules.push(guard(without_conversation(), Guard::InvalidPacket, egress));
    if let Some(controller) = options.controller {
        let own = by_sidecar(Rule::new().named("controller"), options.marks.upstream, options);
        let own = to_socket(own, controller).set_ct_mark(Mark::OWN).tell_no_events().counter();
        rules.push(leaves(own, options));
    }
    rules
}

fn departure_v6(options: &FirewallOptions) -> Vec<Rule> {
    let mut rules = vec![guard(discovery_by_a_program(), Guard::InvalidPacket, Direction::Egress)];
    rules.extend(infrastructure::of_v6("out", options));
    rules
}

/// Packets of conversations that are the sidecar's own, whatever the generation: what has a mark without a generation is a leg
/// to the app or a conversation of [`Mark::OWN`]. A new connection has no mark and is done with the first comparison.
pub(super) fn own_conversations() -> Rule {
    const WITHOUT_GENERATION: u32 = !(Mark::LOCAL_LEG | Mark::OWN);
    let marked = Rule::new().named("own conversation goes on").ct_mark().not_equals(0);
    confirmed(marked.ct_mark().mask(WITHOUT_GENERATION).equals(0))
}

/// A packet of such a conversation that leaves and opens none: only the sidecar writes into those of [`Mark::OWN`], and the kernel.
/// Others would with CAP_NET_RAW. On legs to the app its answers leave.
fn own(options: &FirewallOptions) -> Vec<Rule> {
    let others = Rule::new().named("conversation of ours written into by somebody else");
    let others = others.ct_mark().equals(Mark::OWN).field::<u32>(Field::SenderUser).is_there();
    vec![
        leaves(of_sidecar(Rule::new(), options), options),
        others.counter().drop_packet(),
        leaves(Rule::new(), options),
    ]
}

/// Packets of a socket that carries the mark and is one of [`of_sidecar`].
pub(super) fn by_sidecar(rule: Rule, mark: u32, options: &FirewallOptions) -> Rule {
    of_sidecar(rule.packet_mark().equals(mark), options)
}

/// Packets of a socket that belongs to the sidecar's user and, where it has one of its own, to its control group.
pub(super) fn of_sidecar(rule: Rule, options: &FirewallOptions) -> Rule {
    let rule = rule.field(Field::SenderUser).equals(options.sidecar_uid);
    match options.control_group {
        Some(group) => rule.field(Field::SocketControlGroup(group.level)).equals(group.id),
        None => rule,
    }
}

/// Lets a packet leave: it gets the mark that the guard of frames asks for.
pub(super) fn leaves(rule: Rule, options: &FirewallOptions) -> Rule {
    rule.set_packet_mark(options.marks.passed).accept()
}

/// Packets of connections whose first packet has passed.
pub(super) fn confirmed(rule: Rule) -> Rule {
    rule.field::<u32>(Field::ConnectionStatus).any_bit(connection_status::CONFIRMED)
}

fn to_socket(rule: Rule, to: SocketAddr) -> Rule {
    rule.to_address(to.ip().to_canonical()).protocol(TCP).to_port(to.port())
}

/// Neighbour discovery is the kernel's own affair. From a program with CAP_NET_RAW it would be a way out: its hop limit is
/// 255 at every router that it leaves by, and it has room for data.
fn discovery_by_a_program() -> Rule {
    let discovery = Rule::new().named("neighbour discovery by a program").ipv6().protocol(ICMPV6);
    let discovery = discovery.field::<u8>(Field::ICMP_TYPE).in_set(sets::neighbours().name());
    discovery.field::<u32>(Field::SenderUser).is_there()
}

const SYNCHRONISES: u8 = 2;
const ACKNOWLEDGES: u8 = 16;

/// The packet by which a connection of TCP begins.
pub(super) fn opening(rule: Rule) -> Rule {
    with_flags(rule, SYNCHRONISES)
}

/// The packet by which whoever listens agrees to one.
pub(super) fn agreeing(rule: Rule) -> Rule {
    with_flags(rule, SYNCHRONISES | ACKNOWLEDGES)
}

fn with_flags(rule: Rule, flags: u8) -> Rule {
    rule.protocol(TCP).field::<u8>(Field::TCP_FLAGS).mask(SYNCHRONISES | ACKNOWLEDGES).equals(flags)
}

fn invalid() -> Rule {
    Rule::new().field::<u32>(Field::ConnectionState).any_bit(connection_state::INVALID)
}

/// What opens no conversation and belongs to none, but for ICMP: of that policies may allow each type.
fn without_conversation() -> Rule {
    let not_icmp = invalid().field(Field::TransportProtocol).not_equals(ICMP);
    not_icmp.field(Field::TransportProtocol).not_equals(ICMPV6)
}

/// Messages of ICMP that conntrack knows no conversation of: errors that are about no flow of ours, and types that are
/// neither a question nor an answer. Errors about an allowed flow belong to it and have passed already.
pub(super) fn lone_messages() -> [Rule; 2] {
    [ICMP, ICMPV6].map(|protocol| invalid().protocol(protocol))
}

fn guard(matching: Rule, guard: Guard, direction: Direction) -> Rule {
    matching.set_packet_mark(guard.bits()).goto(&deny(direction))
}

/// Nobody addresses our listeners: what is captured still has its own destination here.
fn own_ports(direction: Direction) -> [Rule; 2] {
    [TCP, UDP].map(|protocol| {
        let direct = Rule::new()
            .towards_destination()
            .field(Field::ConnectionProtocol)
            .equals(protocol)
            .field::<u16>(Field::OriginalDestinationPort)
            .in_set(sets::own_ports().name());
        guard(direct, Guard::SidecarPort, direction)
    })
}

/// Between the pod's own containers everything passes but direct hits on our listeners and forged questions. The kernel's last
/// packets on legs of a sidecar that is gone look like those and have no sender.
fn loopback() -> Vec<Rule> {
    let mut rules = own_ports(Direction::Egress).to_vec();
    rules.push(confirmed(Rule::new().named("loopback")).accept());
    let by_a_program = forged_question().field::<u32>(Field::SenderUser).is_there();
    rules.push(guard(by_a_program, Guard::SpoofedSource, Direction::Egress));
    rules.push(forged_question().named("leg of a sidecar that is gone").counter().drop_packet());
    rules.push(Rule::new().named("loopback").accept());
    rules
}

/// The packet carries the mark that the look-ups found. What the kernel lets pass by itself comes first: it is what there
/// is most of.
fn weigh_rules(direction: Direction, options: &FirewallOptions) -> Vec<Rule> {
    let class = Rule::new().packet_mark().mask(Class::MASK);
    let mut rules = vec![class.not_equals(Class::KernelAllow.bits()).goto(&weigh_others(direction))];
    rules.extend(admitted(&format!("admitted {direction}"), direction, options));
    rules
}

fn weigh_others(direction: Direction) -> String {
    format!("weigh_others_{direction}")
}

/// A flow that the kernel let pass and that now has to be inspected cannot be redirected any more (NAT is decided on the
/// first packet): it is cut.
fn weigh_others_rules(direction: Direction, options: &FirewallOptions) -> Vec<Rule> {
    let class = |class: Class| Rule::new().packet_mark().mask(Class::MASK).equals(class.bits());
    let handed = |class: Class| Rule::new().packet_mark().mask(Class::HANDED).equals(class.bits());
    let cut = [Class::InspectTcp, Class::InspectUdp].map(|inspected| {
        confirmed(handed(inspected))
            .field::<u32>(Field::ConnectionStatus)
            .no_bit(connection_status::DESTINATION_NAT)
            .load(Field::PacketMark, Register::R0)
            .mask_and_flip(Register::R0, Register::R0, !Class::MASK, Class::TierChanged.bits())
            .store_packet_mark(Register::R0)
            .goto(&deny(direction))
    });
    let mut rules = vec![class(Class::Denied).goto(&deny(direction))];
    rules.extend(cut);
    // Its session reports it. Of what is learned only what is redirected has one: see `hooks.rs`.
    rules.push(Rule::new().packet_mark().mask(Class::MASK).not_equals(Class::Learn.bits()).tell_no_events());
    rules.extend(admitted(&format!("admitted {direction}"), direction, options));
    rules
}

/// Where nothing can be handed to the inspector, what needs it is denied. Where somebody chose so, it passes while the
/// inspector is dead, as what is only learned does; not what may reach some endpoints of its destination only.
fn without_inspector(direction: Direction, options: &FirewallOptions) -> Vec<Rule> {
    let inspected = |mask: u32| {
        [Class::InspectTcp, Class::InspectUdp]
            .map(|class| Rule::new().packet_mark().mask(mask).equals(class.bits()))
    };
    match options {
        FirewallOptions { hands_over: false, .. } => {
            inspected(Class::HANDED).map(|rule| rule.goto(&deny(direction))).to_vec()
        }
        FirewallOptions { fail_open: true, .. } => {
            let learned = |rule: Rule| {
                rule.load(Field::PacketMark, Register::R0)
                    .mask_and_flip(Register::R0, Register::R0, !Class::MASK, Class::Learn.bits())
                    .store_packet_mark(Register::R0)
            };
            inspected(Class::MASK).map(learned).to_vec()
        }
        FirewallOptions { .. } => Vec::new(),
    }
}

/// There is no conversation to mark: each message is looked up.
fn weigh_message_rules(direction: Direction, options: &FirewallOptions) -> Vec<Rule> {
    let allowed = Rule::new().packet_mark().mask(Class::MASK).equals(Class::KernelAllow.bits());
    let allowed = allowed.named(&format!("admitted message {direction}")).counter();
    vec![
        match direction {
            Direction::Ingress => allowed.set_packet_mark(0).accept(),
            Direction::Egress => leaves(allowed, options),
        },
        Rule::new().goto(&deny(direction)),
    ]
}

/// The same look-up as an app's, but never redirected; a miss is denied, and so is a Service of which the inspector may reach
/// some endpoints only: those it dials themselves.
fn weigh_upstream(options: &FirewallOptions) -> Vec<Rule> {
    let denied = [Class::Denied, Class::Led].map(|class| {
        let denied = Rule::new().packet_mark().mask(Class::MASK).equals(class.bits());
        denied.goto(&deny(Direction::Egress))
    });
    let upstream = Rule::new()
        .load(Field::PacketMark, Register::R0)
        .mask_and_flip(Register::R0, Register::R0, !Class::MASK, Class::Upstream.bits())
        .store_packet_mark(Register::R0);
    let mut rules = denied.to_vec();
    rules.push(upstream.tell_no_events());
    rules.extend(admitted("admitted upstream", Direction::Egress, options));
    rules
}

/// The connection gets the packet's mark; the packet loses it if it has arrived, and gets the mark of what leaves else.
/// First the usual way of a first packet, then that of an answer.
fn admitted(name: &str, direction: Direction, options: &FirewallOptions) -> Vec<Rule> {
    let (usual, answer) = match direction {
        Direction::Ingress => (0, options.marks.passed),
        Direction::Egress => (options.marks.passed, 0),
    };
    let mark = Rule::new().load(Field::PacketMark, Register::R0).store_ct_mark(Register::R0);
    let tcp = TCP_TIMEOUTS.map(|(object, ipv4)| {
        let family = if ipv4 { Rule::new().ipv4() } else { Rule::new().ipv6() };
        family.protocol(TCP).set_timeouts(object).named(name).counter().accept()
    });
    let mut rules = vec![mark.set_packet_mark(usual), Rule::new().towards_source().set_packet_mark(answer)];
    rules.extend(tcp);
    rules.push(Rule::new().named(name).counter().accept());
    rules
}

/// The packet carries the mark that says why. The resets by which we cut a flow pass here themselves: no more than the
/// two headers at their shortest, so that neither payload nor options leave by them. The reset of a socket itself has the option
/// that says the time: it passes once, and within limits where a packet of the flow was denied before.
fn deny_rules(direction: Direction, options: &FirewallOptions) -> Vec<Rule> {
    let of_socket = || {
        resets(TIMESTAMP_BYTES).map(|reset| {
            let has_option = reset.field(Field::TCP_LENGTH).equals(8u8 << 4).field(Field::TCP_OPTIONS);
            has_option.equals(TIMESTAMP)
        })
    };
    let limited = |reset: Rule| reset.ct_mark().equals(0).at_most_per_second(RESETS_PER_SECOND, 100);
    let mut rules = resets(0).map(|reset| leaves(reset.ct_mark().equals(0), options)).to_vec();
    rules.extend(of_socket().map(|reset| leaves(limited(reset), options)));
    rules.extend(of_socket().map(|reset| reset.ct_mark().not_equals(0).goto(&told(direction))));
    rules.push(word_of_changed(direction).goto(&heard(direction)));
    rules.push(Rule::new().set_ct_mark(0));
    rules.extend(told_rules(direction));
    rules.extend(resets(0).map(|reset| leaves(reset, options)));
    let cut = |rule: Rule| {
        let limited = confirmed(rule.protocol(TCP)).at_most_per_second(RESETS_PER_SECOND, 100);
        limited.refuse(Refusal::TcpReset)
    };
    rules.extend(match direction {
        // Answers leave here, the rest arrived.
        Direction::Ingress => {
            [Rule::new().towards_source().goto(REFUSE), cut(Rule::new()), Rule::new().drop_packet()].to_vec()
        }
        // Answers arrived, the rest leaves here. Nobody is told at an address that is not ours.
        Direction::Egress => vec![
            cut(Rule::new().towards_source()),
            Rule::new().towards_source().drop_packet(),
            Rule::new().packet_mark().equals(Guard::SpoofedSource.bits()).drop_packet(),
            Rule::new().goto(REFUSE),
        ],
    });
    rules
}

/// What the pod says in a flow that has to be inspected now. A reset would tell the pod alone: the flow keeps its mark until its
/// socket is ended, which tells the other end too, or until we give that up.
fn word_of_changed(direction: Direction) -> Rule {
    let leaving = match direction {
        Direction::Ingress => Rule::new().towards_source(),
        Direction::Egress => Rule::new().towards_destination(),
    };
    let changed = leaving.packet_mark().mask(Class::MASK).equals(Class::TierChanged.bits());
    changed.protocol(TCP).ct_mark().not_equals(0)
}

/// Where such a packet ends.
fn heard(direction: Direction) -> String {
    format!("heard_{direction}")
}

/// Bytes of the option that says the time, with two that fill up, and how it begins (RFC 7323 appendix A).
const TIMESTAMP_BYTES: u16 = 12;
const TIMESTAMP: Ipv4Addr = Ipv4Addr::new(1, 1, 8, 10);

/// Resets of known flows with that many bytes behind the shortest headers.
fn resets(more: u16) -> [Rule; 2] {
    const LENGTH_V4: Field = Field::NetworkHeader(2, 2);
    const PAYLOAD_LENGTH_V6: Field = Field::NetworkHeader(4, 2);
    const RESET: u8 = 4;
    let reset = |rule: Rule| confirmed(rule.protocol(TCP).field::<u8>(Field::TCP_FLAGS).any_bit(RESET));
    [
        reset(Rule::new().named("bare reset").ipv4()).field(LENGTH_V4).equals(40 + more),
        reset(Rule::new().named("bare reset").ipv6()).field(PAYLOAD_LENGTH_V6).equals(20 + more),
    ]
}

/// Where a denied flow ends by a reset of its own socket.
fn told(direction: Direction) -> String {
    format!("told_{direction}")
}

/// The packet is counted and, within limits, logged.
fn told_rules(direction: Direction) -> Vec<Rule> {
    vec![
        Rule::new().named(&format!("denied {direction}")).counter().jump(&count(direction)),
        Rule::new().at_most_per_second(LOGGED_PACKETS_PER_SECOND, LOGGED_PACKETS_BURST).log_to_group(
            LOG_GROUP,
            direction.as_str(),
            netfilter_limits::LOGGED_BYTES_MAX,
        ),
    ]
}

/// The app is told at once.
fn refuse() -> Vec<Rule> {
    vec![Rule::new().protocol(TCP).refuse(Refusal::TcpReset), Rule::new().refuse(Refusal::AdminProhibited)]
}

/// Where denied packets are counted.
pub(super) fn count(direction: Direction) -> String {
    format!("count_{direction}")
}

/// Counts the packet under peer, mark, protocol and port: of its conversation, or of itself where it has none.
/// The last rule sees only what no longer fits.
fn count_rules(direction: Direction) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in [IpFamily::V4, IpFamily::V6] {
        let set = sets::denied(direction, family);
        let (conversation, packet) = peer_fields(direction, family);
        let key =
            [conversation, Field::PacketMark, Field::ConnectionProtocol, Field::OriginalDestinationPort];
        rules.push(Rule::new().load_key(&key).count_in(&set).return_to_caller());
        let of_family = || match family {
            IpFamily::V4 => Rule::new().ipv4(),
            IpFamily::V6 => Rule::new().ipv6(),
        };
        let key = |port: Field| [packet, Field::PacketMark, Field::TransportProtocol, port];
        let ports = of_family().field::<u8>(Field::TransportProtocol).in_set(sets::with_ports().name());
        rules.push(ports.load_key(&key(Field::DESTINATION_PORT)).count_in(&set).return_to_caller());
        let icmp = of_family().protocol(if family == IpFamily::V4 { ICMP } else { ICMPV6 });
        rules.push(icmp.load_key(&key(Field::ICMP_TYPE_AND_CODE)).count_in(&set).return_to_caller());
        let port = match family {
            IpFamily::V4 => Register::R3,
            IpFamily::V6 => Register::R6,
        };
        let other = of_family().load_key(&key(Field::ICMP_TYPE_AND_CODE)[..3]).load_constant(0u16, port);
        rules.push(other.count_in(&set).return_to_caller());
    }
    rules.push(Rule::new().named(&overflow(direction)).counter());
    rules
}

/// The name of the rule that counts denied packets for which there was no room.
pub(super) fn overflow(direction: Direction) -> String {
    format!("uncounted {direction}")
}

fn peer_fields(direction: Direction, family: IpFamily) -> (Field, Field) {
    match (direction, family) {
        (Direction::Ingress, IpFamily::V4) => (Field::OriginalSourceV4, Field::SOURCE_V4),
        (Direction::Ingress, IpFamily::V6) => (Field::OriginalSourceV6, Field::SOURCE_V6),
        (Direction::Egress, IpFamily::V4) => (Field::OriginalDestinationV4, Field::DESTINATION_V4),
        (Direction::Egress, IpFamily::V6) => (Field::OriginalDestinationV6, Field::DESTINATION_V6),
    }
}

/// Entered by nobody: that it exists makes the kernel count bytes per connection.
fn accounting() -> Vec<Rule> {
    vec![Rule::new().load(Field::ConnectionBytes, Register::R0).return_to_caller()]
}

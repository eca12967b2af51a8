//! The hooks where packets enter the table, beside the two that judge: see `chains.rs` for those.
//!
//! Every packet pays for every hook, and for each rule that it meets there. So a hook decides with its first rule what concerns
//! most packets, and those that only captured flows need are there only while there can be some.

use super::chains::{self, Rules, by_sidecar, confirmed, count, of_sidecar, opening};
use super::mark::{Class, Guard, Mark};
use super::options::{
    DNS_PORT, FirewallOptions, INBOUND_PORT, INBOUND_UDP_PORT, LOCAL_LEG_ZONE, OUTBOUND_PORT, QUESTION_ZONE,
    ROUTE_MARK, ROUTE_TABLE,
};
use super::{Firewall, FirewallError, elements, goes_without_redirects, sets, table};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_netfilter::conntrack::Flow;
use bulkhead_netfilter::route::LOOPBACK_INDEX;
use bulkhead_netfilter::{
    Chain, ChainType, Comparison, Field, Hook, Policy, Register, Rule, connection_status, priority,
};
use bulkhead_policies::decide::Judge;
use std::net::{Ipv4Addr, Ipv6Addr};

const TCP: u8 = L4Protocol::TCP.0;
const UDP: u8 = L4Protocol::UDP.0;

/// One of the hooks of captured flows, by which they are found.
pub(super) const ZONE: &str = "zone";
/// How the names of the chains that hand flows to the inspector begin.
const REDIRECT: &str = "redirect_";
/// Guards of our listeners.
pub(super) const LISTENER: &str = "listener";
/// Guards of what agrees to connections in the name of our listeners.
pub(super) const AGREEING: &str = "agreeing";
/// Where captured packets end that would leave the pod.
pub(super) const BOUND: &str = "bound";
/// Guard of our legs to other pods.
pub(super) const LEG: &str = "leg";

/// The hooks of every table.
pub(super) fn always() -> Vec<Rules> {
    let forwarded = Rule::new().named("forwarded").counter().drop_packet();
    vec![filter("forward", Hook::Forward, priority::FILTER, Policy::Drop, vec![forwarded])]
}

/// The hooks that hand flows to the inspector, and answers on its legs to the app back to it. They are there before a program
/// that captures begins, and as long as a flow lives that was captured.
pub(super) fn capturing(options: &FirewallOptions) -> Vec<Rules> {
    let nat = |name, hook, rules| {
        let chain = Chain::base(name, ChainType::Nat, hook, priority::DESTINATION_NAT, Policy::Accept);
        (chain, rules)
    };
    let after_output = priority::MANGLE + 1;
    let mut hooks = vec![
        nat(
            "redirect_inbound",
            Hook::Prerouting,
            redirect(Vec::new(), Some(LOOPBACK_INDEX), INBOUND_PORT, INBOUND_UDP_PORT),
        ),
        nat("redirect_outbound", Hook::Output, redirect(left_alone(options), None, OUTBOUND_PORT, DNS_PORT)),
        filter("listeners", Hook::Input, priority::FILTER, Policy::Accept, listeners(options)),
        filter("postrouting", Hook::Postrouting, priority::LAST, Policy::Accept, postrouting()),
        filter(
            ZONE,
            Hook::Output,
            priority::RAW,
            Policy::Accept,
            vec![
                local_leg_zone(options),
                question_zone(options),
                chains::agreeing(near_own_ports(Field::SOURCE_PORT, options)).jump(AGREEING),
            ],
        ),
        (
            Chain::base("answer_route", ChainType::Route, Hook::Output, after_output, Policy::Accept),
            vec![
                Rule::new().towards_source().ct_mark().equals(Mark::LOCAL_LEG).set_packet_mark(ROUTE_MARK),
                known_leg().jump(LEG),
            ],
        ),
    ];
    hooks.retain(|(chain, _)| options.hands_over || !chain.name().starts_with(REDIRECT));
    hooks
}

fn filter(name: &str, hook: Hook, priority: i32, policy: Policy, rules: Vec<Rule>) -> Rules {
    (Chain::base(name, ChainType::Filter, hook, priority, policy), rules)
}

/// What is only learned from passes where it cannot be captured. Where somebody chose to fail open, what has to be inspected
/// is of that class too.
fn left_alone(options: &FirewallOptions) -> Vec<Rule> {
    let bound =
        learned().key_in(&[Field::TransportProtocol, Field::SOURCE_PORT], sets::bound_senders().name());
    if options.fail_open { Vec::new() } else { vec![bound.accept()] }
}

fn learned() -> Rule {
    Rule::new().ct_mark().mask(Class::MASK).equals(Class::Learn.bits())
}

/// Learning's redirect holds only while the heartbeat does.
fn redirect(left_alone: Vec<Rule>, except_device: Option<u32>, tcp_port: u16, udp_port: u16) -> Vec<Rule> {
    let class = |class: Class, mask: u32, carrier: u8| {
        let rule = match except_device {
            Some(device) => Rule::new().field(Field::InputDevice).not_equals(device),
            None => Rule::new(),
        };
        rule.ct_mark().mask(mask).equals(class.bits()).protocol(carrier)
    };
    let learn = |carrier| {
        let learned = class(Class::Learn, Class::MASK, carrier);
        // Redirected, it is its session's to report.
        learned.key_in(&[Field::TransportProtocol], sets::alive().name()).tell_no_events()
    };
    let handed = [
        class(Class::InspectTcp, Class::HANDED, TCP).redirect_to(tcp_port),
        learn(TCP).redirect_to(tcp_port),
        class(Class::InspectUdp, Class::HANDED, UDP).redirect_to(udp_port),
        learn(UDP).redirect_to(udp_port),
    ];
    left_alone.into_iter().chain(handed).collect()
}

/// One rule for what goes to no port of ours, nor between them.
fn listeners(options: &FirewallOptions) -> Vec<Rule> {
    vec![near_own_ports(Field::DESTINATION_PORT, options).jump(LISTENER)]
}

/// What goes to a port from our first to our last.
pub(super) fn near_own_ports(port: Field, options: &FirewallOptions) -> Rule {
    let ports = [INBOUND_PORT, OUTBOUND_PORT, INBOUND_UDP_PORT, DNS_PORT, options.admin_port];
    let (first, last) =
        ports.into_iter().fold((u16::MAX, 0), |(first, last), port| (first.min(port), last.max(port)));
    let at_least = Rule::new().load(port, Register::R0).compare(Register::R0, Comparison::AtLeast, first);
    at_least.compare(Register::R0, Comparison::AtMost, last)
}

/// Only to a socket that carries the listener's mark, and to the capturing ones only by redirect. Nothing goes there by
/// redirect while these hooks are not there; and who addresses a port of ours directly is refused on arrival.
pub(super) fn listener(options: &FirewallOptions) -> Vec<Rule> {
    let to = |name: &str, (carrier, port)| Rule::new().named(name).protocol(carrier).to_port(port);
    let capturing = [(TCP, INBOUND_PORT), (TCP, OUTBOUND_PORT), (UDP, INBOUND_UDP_PORT), (UDP, DNS_PORT)];
    let direct = capturing.map(|port| {
        let direct = to("listener addressed directly", port).field::<u32>(Field::ConnectionStatus);
        direct.no_bit(connection_status::DESTINATION_NAT).counter().drop_packet()
    });
    let stolen = capturing.into_iter().chain([(TCP, options.admin_port)]);
    direct.into_iter().chain(stolen.map(|(carrier, port)| stolen_port(carrier, port, options))).collect()
}

/// Refuses what would reach somebody else who holds a port of ours. On arrival, for new connections, or on delivery.
pub(super) fn stolen_port(carrier: u8, port: u16, options: &FirewallOptions) -> Rule {
    let to = Rule::new().named("listener of somebody else").protocol(carrier).to_port(port);
    to.field(Field::SocketMark).not_equals(options.marks.listener).counter().drop_packet()
}

/// A first packet that meets the remains of a closed connection has no listener yet when it is delivered, and reaches whoever
/// listens then. What that answers carries the listener's mark, which nobody else knows.
pub(super) fn agreeing(options: &FirewallOptions) -> Vec<Rule> {
    let from = |port: u16| {
        let other = Rule::new().named("somebody else in the place of a listener");
        let other = other.field::<u16>(Field::SOURCE_PORT).equals(port);
        other.packet_mark().not_equals(options.marks.listener).counter().drop_packet()
    };
    [INBOUND_PORT, OUTBOUND_PORT, options.admin_port].map(from).into()
}

/// The leg to the app has the client's address and may get its port: a zone keeps it apart from the client's own
/// connection. Answers are found in the default zone, where the client's connection answers from our port. The mark is
/// enough here: the last acknowledgement of a closed socket is the kernel's and has no user, and in the zone an app
/// finds nothing but legs to its own pod.
fn local_leg_zone(options: &FirewallOptions) -> Rule {
    Rule::new().packet_mark().equals(options.marks.local_leg).set_original_zone(LOCAL_LEG_ZONE)
}

/// The kernel remembers a question of ours for a while after its socket is closed. Whoever gets its port then, and asks whom it
/// asked, would go on in its name, unjudged: in a zone only sockets of ours find it. For TCP see [`leg`]: its ends are
/// often the kernel's own packets, which have no mark and would be in no zone.
fn question_zone(options: &FirewallOptions) -> Rule {
    let ours = by_sidecar(Rule::new().protocol(UDP), options.marks.upstream, options);
    ours.set_original_zone(QUESTION_ZONE)
}

/// Packets of a leg to another pod that the kernel knows.
fn known_leg() -> Rule {
    confirmed(Rule::new().ct_mark().mask(Class::MASK).equals(Class::Upstream.bits()))
}

/// What passes as a packet of a leg would be neither judged nor inspected: only sockets of ours write into one, and the
/// kernel, for those that are closed. Others would with CAP_NET_RAW; and a leg that was reset is remembered for seconds and takes
/// whoever opens a connection from its port to its destination for itself. Who is kept away tries again when it is forgotten.
pub(super) fn leg(options: &FirewallOptions) -> Vec<Rule> {
    // The packet has the mark of what leaves by now.
    let ours = Rule::new().field(Field::SocketMark).equals(options.marks.upstream);
    let written = Rule::new().named("leg of ours written into by somebody else");
    let opened = Rule::new().named("leg of ours opened again by somebody else");
    vec![
        of_sidecar(ours, options).accept(),
        written.field::<u32>(Field::SenderUser).is_there().counter().drop_packet(),
        opening(opened).counter().drop_packet(),
    ]
}

/// What stays loses its mark, since an app can read the marks of packets that it receives. Only what is captured carries one of
/// ours there: our legs, and answers of our listeners. What is captured and leaves all the same is lost.
fn postrouting() -> Vec<Rule> {
    let captured = |rule: Rule| {
        let status = rule.field::<u32>(Field::ConnectionStatus);
        status.any_bit(connection_status::DESTINATION_NAT)
    };
    let v4 = captured(Rule::new()).ipv4().field::<Ipv4Addr>(Field::DESTINATION_V4);
    let v6 = captured(Rule::new()).ipv6().field(Field::DESTINATION_V6);
    vec![
        Rule::new().field(Field::OutputDevice).equals(LOOPBACK_INDEX).set_packet_mark(0).accept(),
        v4.in_block(Ipv4Addr::LOCALHOST, 8).goto(BOUND),
        v6.equals(Ipv6Addr::LOCALHOST).goto(BOUND),
    ]
}

/// A socket that is bound to a device sends by no other: what is redirected to us would leave by it, with the first bytes of
/// its program, for a loopback address on the wire. What is only learned from is left alone from its next packet on.
pub(super) fn bound(options: &FirewallOptions) -> Vec<Rule> {
    let lost = Rule::new().named("captured and bound to a device").counter();
    let learned = learned().load_key(&[Field::TransportProtocol, Field::SOURCE_PORT]);
    let learned = learned.count_in(&sets::bound_senders()).drop_packet();
    let denied = lost.set_packet_mark(Guard::InvalidPacket.bits()).jump(&count(Direction::Egress));
    let mut rules = if options.fail_open { Vec::new() } else { vec![learned] };
    rules.extend([denied, Rule::new().drop_packet()]);
    rules
}

impl Firewall {
    /// True if some flows of the program are handed to the inspector.
    pub fn captures(judge: &Judge) -> bool {
        elements::captures(judge)
    }

    /// Makes the hooks of captured flows and the routes of their legs, unless they are there: for a program that captures, and
    /// to try legs to the app. Where the kernel has no redirects the table is closed for what needs them, with what is left of
    /// the hooks.
    pub fn begin_capturing(&mut self) -> Result<(), FirewallError> {
        if self.generation.captures {
            return Ok(());
        }
        self.routes.deliver_marked_locally(ROUTE_MARK, ROUTE_TABLE)?;
        let begun = table::begin_capturing(&mut self.connection, &self.packets, &self.options);
        match begun.map_err(|error| self.explained(error)) {
            Err(error) if goes_without_redirects(&mut self.options, &error) => {
                self.generation.captures = true;
                return self.close();
            }
            begun => begun?,
        }
        self.generation.captures = true;
        self.transactions = None;
        Ok(())
    }

    /// Puts the routes of legs to the app back if there may be legs. Once there was such a rule, the kernel asks it for each
    /// new connection.
    pub(super) fn route_legs(&mut self) -> Result<(), FirewallError> {
        match self.generation.captures {
            true => Ok(self.routes.deliver_marked_locally(ROUTE_MARK, ROUTE_TABLE)?),
            false => Ok(()),
        }
    }

    /// Every packet pays for these hooks: they go with the first program that captures nothing, or later, once the kernel has
    /// forgotten what was captured and our legs. As long as it remembers a leg, a client's own connection from the port of one
    /// to the app needs the rewriting of its port, or its answers could not be told apart and the kernel would drop it; and an
    /// app that has the port of a leg to another pod must not go on in its name.
    pub(super) fn end_capturing(&mut self) -> Result<(), FirewallError> {
        let is_left = |flow: &Flow| {
            let is_leg =
                [Class::LocalLeg, Class::Upstream].map(Class::bits).contains(&(flow.mark & Class::MASK));
            // By loopback only the trial of the sidecar's mark.
            let is_trial = flow.original.destination.is_loopback();
            flow.status & connection_status::DESTINATION_NAT != 0 || is_leg && !is_trial
        };
        if self.generation.captures && !self.conntrack.flows(0, 0)?.iter().any(is_left) {
            table::end_capturing(&mut self.connection, &self.packets, &self.options)?;
            self.generation.captures = false;
            self.transactions = None;
        }
        Ok(())
    }
}

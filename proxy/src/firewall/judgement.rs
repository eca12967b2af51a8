//! The chains of one generation: the only ones that change with a program.
//!
//! They look into maps that may be older than they are: a change of elements alone keeps the maps and, where something
//! open may have become forbidden, moves the generation, so that everything open is judged again.
//! Each direction has two look-ups by the conversation's first packet, as conntrack remembers it: address to class,
//! then class, protocol and port to a mark. The class goes from one to the other in the packet's mark. No entry: the
//! rule does not match, the last rule of the chain denies. Without a program there are no look-ups at all.

use super::chains::{
    self, ARRIVAL, DEPARTURE, OUTPUT, PREROUTING, Rules, WEIGH_UPSTREAM, by_sidecar, confirmed, deny, leaves,
    lone_messages, opening, own_conversations, weigh, weigh_message,
};
use super::mark::{Class, Guard, Mark};
use super::options::FirewallOptions;
use super::sets::{Maps, class_map, kept_map, named_map, port_map};
use bulkhead_facts::{Direction, IpFamily};
use bulkhead_netfilter::{Chain, Field, Register, Rule, Set};
use bulkhead_policies::decide::Judge;

/// The chain of packets of the sidecar's own conversations that leave.
const OWN: &str = "own";

/// A generation with or without a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) number: u16,
    /// The number of its maps: those of the last reload.
    pub(super) maps: u16,
    pub(super) has_program: bool,
    /// Some rule of the program allows traffic to names.
    pub(super) has_names: bool,
    /// The hooks for captured flows are there.
    pub(super) captures: bool,
}

impl Generation {
    /// Without a program.
    pub(super) fn closed(number: u16) -> Self {
        Self { number, maps: number, has_program: false, has_names: false, captures: false }
    }

    /// The next one, with this program in maps of its own.
    pub(super) fn followed_by(self, judge: &Judge) -> Self {
        Self {
            number: self.next_number(),
            maps: following(self.maps),
            has_program: true,
            has_names: judge.has_names(),
            captures: self.captures,
        }
    }

    /// The next one, with the same maps.
    pub(super) fn judging_again(self) -> Self {
        Self { number: self.next_number(), ..self }
    }

    fn chain(self, name: &str) -> String {
        format!("{name}_{}", self.number)
    }

    /// The rules by which a hook enters this generation. First the line-rate path: one rule per packet of a flow that this
    /// generation admitted. Then the sidecar's own conversations.
    pub(super) fn entrance(self, hook: &str, options: &FirewallOptions) -> [Rule; 3] {
        let ours = Rule::new().ct_mark().mask(Mark::GENERATION_MASK);
        let admitted = confirmed(ours.equals(Mark::nothing_matched(self.number)));
        let goes_on = |chain: &str| Rule::new().goto(&self.chain(chain));
        if hook == PREROUTING {
            return [admitted.accept(), own_conversations().accept(), goes_on("arrived")];
        }
        [leaves(admitted, options), own_conversations().goto(&self.chain(OWN)), goes_on("departed")]
    }

    /// The generation whose entrance goes to that chain.
    pub(super) fn number_of(chain: &str) -> Option<u16> {
        let number = chain.strip_prefix("arrived_").or_else(|| chain.strip_prefix("departed_"))?;
        number.parse().ok().filter(|number| (1..=Mark::GENERATION_MAX).contains(number))
    }

    /// The one that comes after it.
    pub(super) fn next_number(self) -> u16 {
        following(self.number)
    }

    fn sets(self, direction: Direction) -> Maps {
        Maps { direction, number: self.maps }
    }

    /// Its chains.
    pub(super) fn chains(self, options: &FirewallOptions) -> Vec<Rules> {
        let chain = |name: &str, rules| (Chain::regular(&self.chain(name)), rules);
        vec![
            chain("arrived", self.arrived()),
            chain("departed", self.departed(options)),
            chain(OWN, self.own()),
            chain("ingress", self.judge(Direction::Ingress, &weigh(Direction::Ingress))),
            chain("egress", self.judge(Direction::Egress, &weigh(Direction::Egress))),
            chain("upstream", self.judge(Direction::Egress, WEIGH_UPSTREAM)),
            chain("message_ingress", self.judge_message(Direction::Ingress)),
            chain("message_egress", self.judge_message(Direction::Egress)),
        ]
    }

    fn arrived(self) -> Vec<Rule> {
        let mut rules = vec![
            Rule::new().jump(ARRIVAL),
            Rule::new().towards_destination().goto(&self.chain("ingress")),
            upstream_leg(Rule::new().towards_source()).goto(&self.chain("upstream")),
            Rule::new().towards_source().goto(&self.chain("egress")),
        ];
        rules.extend(lone_messages().map(|message| message.goto(&self.chain("message_ingress"))));
        rules.push(unjudgeable(Direction::Ingress));
        rules
    }

    fn departed(self, options: &FirewallOptions) -> Vec<Rule> {
        let by_us = by_sidecar(Rule::new().towards_destination(), options.marks.upstream, options);
        let mut rules = vec![
            Rule::new().jump(DEPARTURE),
            upstream_leg(Rule::new().towards_destination()).goto(&self.chain("upstream")),
            by_us.goto(&self.chain("upstream")),
            Rule::new().towards_destination().goto(&self.chain("egress")),
            Rule::new().towards_source().goto(&self.chain("ingress")),
        ];
        rules.extend(lone_messages().map(|message| message.goto(&self.chain("message_egress"))));
        rules.push(unjudgeable(Direction::Egress));
        rules
    }

    /// The kernel remembers such a conversation for seconds after a reset: whoever opens a connection from its port is judged.
    fn own(self) -> Vec<Rule> {
        vec![opening(Rule::new()).goto(&self.chain("departed")), Rule::new().goto(chains::OWN)]
    }

    fn judge(self, direction: Direction, weigh: &str) -> Vec<Rule> {
        if !self.has_program {
            return vec![Rule::new().set_packet_mark(Guard::NoPolicy.bits()).goto(&deny(direction))];
        }
        let mut rules = Vec::new();
        for family in [IpFamily::V4, IpFamily::V6] {
            let sets = self.sets(direction);
            if self.has_names && direction == Direction::Egress {
                let open = confirmed(Rule::new());
                rules
                    .push(self.look_up(Rule::new(), direction, family, &named_map(sets, family)).goto(weigh));
                rules.push(self.look_up(open, direction, family, &kept_map(sets, family)).goto(weigh));
            }
            rules.push(self.look_up(Rule::new(), direction, family, &class_map(sets, family)).goto(weigh));
        }
        let nothing = Rule::new().set_packet_mark(Mark::nothing_matched(self.number));
        rules.push(nothing.goto(&deny(direction)));
        rules
    }

    /// The same look-ups by what the packet itself says.
    fn judge_message(self, direction: Direction) -> Vec<Rule> {
        if !self.has_program {
            return self.judge(direction, &weigh_message(direction));
        }
        let sets = self.sets(direction);
        let look_up = |family: IpFamily| {
            let (of_family, peer) = match (direction, family) {
                (Direction::Ingress, IpFamily::V4) => (Rule::new().ipv4(), Field::SOURCE_V4),
                (Direction::Ingress, IpFamily::V6) => (Rule::new().ipv6(), Field::SOURCE_V6),
                (Direction::Egress, IpFamily::V4) => (Rule::new().ipv4(), Field::DESTINATION_V4),
                (Direction::Egress, IpFamily::V6) => (Rule::new().ipv6(), Field::DESTINATION_V6),
            };
            let peer = of_family.load(peer, Register::R0);
            let what = [Field::TransportProtocol, Field::ICMP_TYPE_AND_CODE];
            self.in_both_maps(peer, &class_map(sets, family), direction, what)
        };
        let mut rules: Vec<Rule> = [IpFamily::V4, IpFamily::V6]
            .into_iter()
            .map(|family| look_up(family).goto(&weigh_message(direction)))
            .collect();
        let nothing = Rule::new().set_packet_mark(Mark::nothing_matched(self.number));
        rules.push(nothing.goto(&deny(direction)));
        rules
    }

    fn look_up(self, rule: Rule, direction: Direction, family: IpFamily, classes: &Set) -> Rule {
        let peer = match (direction, family) {
            (Direction::Ingress, IpFamily::V4) => Field::OriginalSourceV4,
            (Direction::Ingress, IpFamily::V6) => Field::OriginalSourceV6,
            (Direction::Egress, IpFamily::V4) => Field::OriginalDestinationV4,
            (Direction::Egress, IpFamily::V6) => Field::OriginalDestinationV6,
        };
        let what = [Field::ConnectionProtocol, Field::OriginalDestinationPort];
        self.in_both_maps(rule.load(peer, Register::R0), classes, direction, what)
    }

    /// The address that was loaded to its class; the class with protocol and port to a mark, which gets the generation and
    /// goes to the packet.
    fn in_both_maps(self, peer: Rule, classes: &Set, direction: Direction, what: [Field; 2]) -> Rule {
        let generation = Mark::nothing_matched(self.number);
        peer.look_up(classes.name(), Register::R0, Register::R0)
            .store_packet_mark(Register::R0)
            .load_key(&[Field::PacketMark, what[0], what[1]])
            .look_up(port_map(self.sets(direction)).name(), Register::R0, Register::R0)
            .mask_and_flip(Register::R0, Register::R0, !Mark::GENERATION_MASK, generation)
            .store_packet_mark(Register::R0)
    }
}

/// The number that comes after it; never 0.
fn following(number: u16) -> u16 {
    if number >= Mark::GENERATION_MAX { 1 } else { number + 1 }
}

/// A connection that the sidecar dialled, admitted by an older generation.
fn upstream_leg(rule: Rule) -> Rule {
    rule.ct_mark().mask(Class::MASK).equals(Class::Upstream.bits())
}

/// What conntrack does not know.
fn unjudgeable(direction: Direction) -> Rule {
    Rule::new().set_packet_mark(Guard::InvalidPacket.bits()).goto(&deny(direction))
}

/// Both hooks with the rules that enter the generation.
pub(super) fn entrances(generation: Generation, options: &FirewallOptions) -> [(&'static str, [Rule; 3]); 2] {
    [PREROUTING, OUTPUT].map(|hook| (hook, generation.entrance(hook, options)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_wrap_from_the_last_to_the_first_and_never_are_0() {
        let next = |number| Generation::closed(number).next_number();
        assert_eq!((next(1), next(4094), next(4095)), (2, 4095, 1));
    }

    #[test]
    fn the_generation_in_force_is_read_from_where_a_hook_goes() {
        assert_eq!(Generation::number_of("arrived_17"), Some(17));
        assert_eq!(Generation::number_of("departed_4095"), Some(4095));
        for foreign in ["arrived_0", "arrived_4096", "arrived_", "ingress_17", "arrived_-1"] {
            assert_eq!(Generation::number_of(foreign), None, "{foreign}");
        }
    }
}

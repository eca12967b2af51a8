//! What a class may do: disjoint boxes of protocols and ports.
//!
//! Protocols are cut where some clause begins or ends, ports likewise within each slice; each cell is evaluated once and
//! neighbours with the same action are joined.

use super::classes::{ClassKey, Classes, ClauseIndex};
use super::clauses::PortBlock;
use super::cluster::Cluster;
use super::evaluate::plan;
use super::intern::{Interner, TooMany};
use super::lineup::{Bytes, Lineup, Version};
use super::services::{self, Held, ServiceTrouble};
use crate::program::{Action, AnswerId};
use bulkhead_facts::{Direction, L4Protocol, Mode, PortRange};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A box that belongs to no class yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    /// First protocol number.
    pub(crate) protocol_first: u8,
    /// Last protocol number.
    pub(crate) protocol_last: u8,
    /// Ports.
    pub(crate) ports: PortRange,
    /// What holds.
    pub(crate) action: Action,
}

/// Makes the boxes of one direction.
pub(crate) struct BoxBuilder<'a, 'b> {
    pub(crate) cluster: &'b Cluster<'a>,
    pub(crate) lineup: &'b Lineup<'a>,
    pub(crate) classes: &'b Classes,
    pub(crate) interner: &'b mut Interner,
    /// What a person should know of Services.
    pub(crate) troubles: Vec<ServiceTrouble>,
    known: HashMap<(Vec<u32>, L4Protocol, bool), Action>,
}

/// Every port, in consecutive ranges.
type PortActions = Vec<(PortRange, Action)>;
/// Ports of one Service that lead to endpoints, with what holds for them.
type ServicePorts = BTreeMap<(u8, u16), Action>;

impl<'a, 'b> BoxBuilder<'a, 'b> {
    pub(crate) fn new(
        cluster: &'b Cluster<'a>,
        lineup: &'b Lineup<'a>,
        classes: &'b Classes,
        interner: &'b mut Interner,
    ) -> Self {
        Self { cluster, lineup, classes, interner, troubles: Vec::new(), known: HashMap::new() }
    }

    /// The boxes of a class, without those where answer 0 holds anyway.
    pub(crate) fn boxes(&mut self, class: &ClassKey, v4: bool) -> Result<Vec<Cell>, TooMany> {
        let blocks = self.blocks(class);
        let overrides = self.service_ports(class, v4)?;
        let mut slices: Vec<(u8, u8, PortActions)> = Vec::new();
        for (first, last) in self.protocol_slices(&blocks, &overrides) {
            let ports = self.ports(class, &blocks, &overrides, first)?;
            match slices.last_mut() {
                Some(before) if before.2 == ports => before.1 = last,
                Some(_) | None => slices.push((first, last, ports)),
            }
        }
        let cells = slices.into_iter().flat_map(|(protocol_first, protocol_last, ports)| {
            ports.into_iter().map(move |(ports, action)| Cell {
                protocol_first,
                protocol_last,
                ports,
                action,
            })
        });
        Ok(cells.filter(|cell| cell.action != Action::Answer(AnswerId(0))).collect())
    }

    fn blocks(&self, class: &ClassKey) -> Vec<(u32, PortBlock)> {
        let clauses = self.classes.everybody.iter().chain(&class.clauses);
        let of = |(rule, clause): &ClauseIndex| {
            let ports = &self.lineup.rules[*rule as usize].clauses[*clause as usize].ports;
            ports.iter().map(|block| (*rule, *block)).collect::<Vec<_>>()
        };
        let by_name = class.named.iter().flat_map(|rule| {
            let named = self.lineup.rules[*rule as usize].by_name.iter();
            named.flat_map(|named| &named.ports).map(|block| (*rule, *block))
        });
        clauses.flat_map(of).chain(by_name).collect()
    }

    fn protocol_slices(&self, blocks: &[(u32, PortBlock)], overrides: &ServicePorts) -> Vec<(u8, u8)> {
        let mut cuts = BTreeSet::from([0u16]);
        let mut cut = |first: u8, last: u8| cuts.extend([u16::from(first), u16::from(last) + 1]);
        blocks.iter().for_each(|(_, block)| cut(block.protocol_first, block.protocol_last));
        overrides.keys().for_each(|(protocol, _)| cut(*protocol, *protocol));
        let rules = || blocks.iter().map(|(rule, _)| &self.lineup.rules[*rule as usize]);
        for protocol in [L4Protocol::TCP, L4Protocol::UDP] {
            let learns = self.lineup.mode == Mode::Observe
                && (protocol == L4Protocol::TCP || self.lineup.direction == Direction::Egress);
            if learns || rules().any(|rule| rule.bytes(protocol) == Bytes::Decide) {
                cut(protocol.0, protocol.0);
            }
        }
        let cuts: Vec<u8> = cuts.into_iter().filter_map(|cut| u8::try_from(cut).ok()).collect();
        let ends = cuts.iter().skip(1).map(|next| next - 1).chain([u8::MAX]);
        cuts.iter().copied().zip(ends).collect()
    }

    /// Every port of one protocol, in consecutive ranges.
    fn ports(
        &mut self,
        class: &ClassKey,
        blocks: &[(u32, PortBlock)],
        overrides: &ServicePorts,
        protocol: u8,
    ) -> Result<PortActions, TooMany> {
        let covers = |block: &PortBlock| (block.protocol_first..=block.protocol_last).contains(&protocol);
        let mut events: Vec<(u32, i32, u32)> = Vec::new();
        for (rule, block) in blocks.iter().filter(|(_, block)| covers(block)) {
            events.push((u32::from(block.ports.first()), 1, *rule));
            events.push((u32::from(block.ports.last()) + 1, -1, *rule));
        }
        let own = overrides.range((protocol, 0)..=(protocol, u16::MAX));
        let own: BTreeMap<u32, Action> = own.map(|((_, port), action)| (u32::from(*port), *action)).collect();
        let mut cuts: BTreeSet<u32> = events.iter().map(|(at, ..)| *at).chain([0, 1 << 16]).collect();
        cuts.extend(own.keys().flat_map(|port| [*port, port + 1]));
        if self.learns_questions(L4Protocol(protocol), NAME_SERVER_PORT) {
            cuts.extend([NAME_SERVER_PORT, NAME_SERVER_PORT + 1].map(u32::from));
        }
        events.sort_unstable();
        let mut events = events.into_iter().peekable();
        let mut depth: BTreeMap<u32, i32> = BTreeMap::new();
        let mut ranges = PortActions::new();
        let cuts: Vec<u32> = cuts.into_iter().collect();
        for (first, end) in cuts.iter().zip(cuts.iter().skip(1)) {
            while let Some((_, change, rule)) = events.next_if(|(at, ..)| at <= first) {
                *depth.entry(rule).or_default() += change;
                depth.retain(|other, depth| *other != rule || *depth > 0);
            }
            let action = match own.get(first) {
                Some(action) => *action,
                None => self.action(depth.keys().copied().collect(), (protocol, *first), class)?,
            };
            let Some(range) = range(*first, *end - 1) else { continue };
            match ranges.last_mut() {
                Some((before, same)) if *same == action => {
                    *before = PortRange::new(before.first(), range.last()).unwrap_or(range);
                }
                Some(_) | None => ranges.push((range, action)),
            }
        }
        Ok(ranges)
    }

    fn action(
        &mut self,
        rules: Vec<u32>,
        (protocol, port): (u8, u32),
        class: &ClassKey,
    ) -> Result<Action, TooMany> {
        let tcp = protocol == L4Protocol::TCP.0;
        let asks = u16::try_from(port).is_ok_and(|port| self.learns_questions(L4Protocol(protocol), port));
        let learn = asks || tcp && self.learns(class.inside || class.service.is_some());
        // No section runs on any other protocol, so that those share their answers.
        let carriers = [L4Protocol::TCP, L4Protocol::UDP];
        let carrier =
            carriers.into_iter().find(|carrier| carrier.0 == protocol).unwrap_or(L4Protocol(u8::MAX));
        let key = (rules, carrier, learn);
        if let Some(action) = self.known.get(&key) {
            return Ok(*action);
        }
        let [enforced, shadow] = Version::BOTH.map(|version| plan(self.lineup, &key.0, version, carrier));
        let action = self.interner.action(self.lineup, enforced, shadow, learn)?;
        self.known.insert(key, action);
        Ok(action)
    }

    /// Under `observe` the workload learns what reaches it, and what it reaches outside.
    fn learns(&self, inside: bool) -> bool {
        self.lineup.mode == Mode::Observe && (self.lineup.direction == Direction::Ingress || !inside)
    }

    /// Under `observe` questions to name servers are learned by those who ask, wherever the server is.
    fn learns_questions(&self, protocol: L4Protocol, port: u16) -> bool {
        let observed = self.lineup.mode == Mode::Observe && self.lineup.direction == Direction::Egress;
        observed && protocol == L4Protocol::UDP && port == NAME_SERVER_PORT
    }

    /// What holds on the ports of a Service's address.
    fn service_ports(&mut self, class: &ClassKey, v4: bool) -> Result<ServicePorts, TooMany> {
        let Some(at) = class.service else { return Ok(ServicePorts::new()) };
        let (name, service) = self.cluster.services[at];
        let mut ports = ServicePorts::new();
        for port in &service.ports {
            let asked = services::Asked { name, port, address_class: class, v4 };
            let held = services::held(self.lineup, self.classes, &asked, &mut self.troubles);
            let tcp = port.protocol == L4Protocol::TCP;
            let asks = self.learns_questions(port.protocol, port.port);
            let learn = !port.endpoints.is_empty() && (asks || tcp && self.learns(class.inside));
            let action = match held {
                Held::Alike([enforced, shadow]) => {
                    self.interner.action(self.lineup, enforced, shadow, learn)?
                }
                Held::Choice { endpoints, otherwise } => {
                    self.interner.choice(self.lineup, endpoints, otherwise, learn)?
                }
            };
            // The first of two ports that are written alike holds.
            ports.entry((port.protocol.0, port.port)).or_insert(action);
        }
        Ok(ports)
    }
}

/// Where name servers are asked.
const NAME_SERVER_PORT: u16 = 53;

fn range(first: u32, last: u32) -> Option<PortRange> {
    PortRange::new(u16::try_from(first).ok()?, u16::try_from(last).ok()?)
}

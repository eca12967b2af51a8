//! Programs for tests, rule by rule. Answer 0 denies; each rule has an answer of its own.

use bulkhead_facts::{Direction, Effect, L4Protocol, Mode, PolicyRef, PortRange, Reason, Tier, WorkloadRef};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, ClassId, DirectionProgram, L7Chain, L7ChainId,
    L7Stage, PortBox, Program, RuleIndex, RuleInfo,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What a rule asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Allow,
    Inspect,
    /// Inspected, and denied in the shadow only.
    Audit,
    Learn,
    Deny,
}

/// A program in the making.
#[derive(Default)]
pub(crate) struct Rules(Vec<(Direction, Vec<IpAddr>, L4Protocol, PortRange, What)>);

impl Rules {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One rule for each direction.
    pub(crate) fn both_ways(what: What, peers: &[IpAddr], protocol: L4Protocol, port: u16) -> Self {
        let directions = Direction::BOTH.into_iter();
        directions.fold(Self::new(), |rules, direction| rules.rule(what, direction, peers, protocol, port))
    }

    pub(crate) fn rule(
        mut self,
        what: What,
        direction: Direction,
        peers: &[IpAddr],
        protocol: L4Protocol,
        port: u16,
    ) -> Self {
        let ports = if protocol.is_icmp() { PortRange::ALL } else { PortRange::single(port) };
        self.0.push((direction, peers.to_vec(), protocol, ports, what));
        self
    }

    /// TCP in one direction.
    pub(crate) fn tcp(self, what: What, direction: Direction, peers: &[IpAddr], port: u16) -> Self {
        self.rule(what, direction, peers, L4Protocol::TCP, port)
    }

    pub(crate) fn judge(self) -> Arc<Judge> {
        let mut program = empty();
        for (direction, peers, protocol, ports, what) in self.0 {
            let id = AnswerId(u16::try_from(program.answers.len()).expect("few"));
            let rule = RuleIndex(u32::try_from(program.rules.len()).expect("few"));
            let (effect, reason) = match what {
                What::Deny => (Effect::Deny, Reason::DeniedByRule),
                What::Allow | What::Learn => (Effect::Allow, Reason::AllowedByRule),
                What::Inspect | What::Audit => (Effect::Deny, Reason::L7Mismatch),
            };
            let shadow = Answer { effect, rule: Some(rule), reason };
            let enforced = match what {
                What::Audit => Answer { effect: Effect::Allow, rule: None, reason: Reason::NotIsolated },
                _ => shadow,
            };
            program.answers.push(AnswerPair { enforced, shadow });
            program.rules.push(rule_info(direction, &format!("rule-{}", id.0)));
            let action = match what {
                What::Allow | What::Deny => Action::Answer(id),
                What::Learn => Action::Learn(id),
                What::Inspect | What::Audit => {
                    // A shadow without stages would be the enforced answer.
                    let shadow = vec![L7Stage { entries: Vec::new() }];
                    program.l7_chains.push(L7Chain { end: id, shadow, ..L7Chain::default() });
                    let chain = u32::try_from(program.l7_chains.len() - 1).expect("few");
                    Action::Inspect { chain: L7ChainId(chain), opaque: id }
                }
            };
            let tables = match direction {
                Direction::Ingress => &mut program.ingress,
                Direction::Egress => &mut program.egress,
            };
            for peer in peers {
                let class = class_of(tables, peer);
                tables.boxes.push(PortBox {
                    class,
                    protocol_first: protocol,
                    protocol_last: protocol,
                    ports,
                    action,
                });
            }
        }
        for tables in [&mut program.ingress, &mut program.egress] {
            sort(tables);
        }
        Arc::new(Judge::new(program).expect("a valid program"))
    }
}

/// One class per address, in the order in which addresses are named.
fn class_of(tables: &mut DirectionProgram, peer: IpAddr) -> ClassId {
    let known = match peer {
        IpAddr::V4(a) => tables.v4.iter().find(|s| s.first == u32::from(a)).map(|s| s.class),
        IpAddr::V6(a) => tables.v6.iter().find(|s| s.first == u128::from(a)).map(|s| s.class),
    };
    let class = ClassId(u32::try_from(tables.v4.len() + tables.v6.len()).expect("few"));
    known.unwrap_or_else(|| {
        match peer {
            IpAddr::V4(a) => tables.v4.push(AddressSpan { first: a.into(), last: a.into(), class }),
            IpAddr::V6(a) => tables.v6.push(AddressSpan { first: a.into(), last: a.into(), class }),
        }
        class
    })
}

/// A program wants classes in the order of their boxes, all sorted.
fn sort(tables: &mut DirectionProgram) {
    tables.v4.sort();
    tables.v6.sort();
    tables.boxes.sort_by_key(|b| (b.class, b.protocol_first, b.ports));
    let mut seen = BTreeMap::new();
    tables.boxes.retain(|b| seen.insert((b.class, b.protocol_first, b.ports), ()).is_none());
}

fn rule_info(direction: Direction, rule: &str) -> RuleInfo {
    RuleInfo {
        tier: Tier::Namespace,
        policy: PolicyRef {
            kind: "SegmentPolicy".to_owned(),
            namespace: Some("shop".to_owned()),
            name: "policy".to_owned(),
        },
        rule: rule.to_owned(),
        direction,
    }
}

fn empty() -> Program {
    let denied = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    Program {
        revision: 1,
        workload: WorkloadRef { namespace: "shop".to_owned(), name: "pod".to_owned() },
        collection: None,
        mode: Mode::Enforce,
        rules: Vec::new(),
        answers: vec![AnswerPair { enforced: denied, shadow: denied }],
        l7_chains: Vec::new(),
        ingress: DirectionProgram::default(),
        egress: DirectionProgram::default(),
        names: vec![],
        choices: vec![],
    }
}

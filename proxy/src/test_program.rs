//! Small programs for tests.

use bulkhead_facts::{Direction, Effect, L4Protocol, Mode, PolicyRef, PortRange, Reason, Tier, WorkloadRef};
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, ClassId, DirectionProgram, PortBox, Program,
    RuleIndex, RuleInfo,
};
use std::net::Ipv4Addr;

/// A program that denies everything.
pub(crate) fn allowing_nothing(revision: u64) -> Program {
    let denied = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    Program {
        revision,
        workload: WorkloadRef { namespace: "shop".to_owned(), name: "payments".to_owned() },
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

/// A program that lets the workload reach TCP port 5432 of one address, by answer 1.
pub(crate) fn allowing_egress_to(address: Ipv4Addr, revision: u64) -> Program {
    let allowed = Answer { effect: Effect::Allow, rule: Some(RuleIndex(0)), reason: Reason::AllowedByRule };
    let mut program = allowing_nothing(revision);
    program.answers.push(AnswerPair { enforced: allowed, shadow: allowed });
    program.rules.push(RuleInfo {
        tier: Tier::Namespace,
        policy: PolicyRef {
            kind: "SegmentPolicy".to_owned(),
            namespace: Some("shop".to_owned()),
            name: "payments".to_owned(),
        },
        rule: "database".to_owned(),
        direction: Direction::Egress,
    });
    let address = u32::from(address);
    program.egress.v4.push(AddressSpan { first: address, last: address, class: ClassId(1) });
    program.egress.boxes.push(PortBox {
        class: ClassId(1),
        protocol_first: L4Protocol::TCP,
        protocol_last: L4Protocol::TCP,
        ports: PortRange::new(5432, 5432).expect("a range"),
        action: Action::Answer(AnswerId(1)),
    });
    program
}

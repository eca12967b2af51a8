//! Policies about one name server, and what a plain reading of them allows.

use bulkhead_facts::{Direction, Effect, IpFamily, L4Protocol, NamePattern, PortRange, Reason};
use bulkhead_inspect::dns::{A, AAAA, HTTPS, IN};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::{DnsMatch, L7Section};
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, ClassId, L7Chain, L7ChainId, L7Entry, L7Stage,
    NamedClass, PortBox, RuleIndex, RuleNames,
};
use bulkhead_proxy::policy::Current;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

/// The name server.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 53);
/// Some names, all but one, nothing; what only learns, and what would deny.
pub(crate) const POLICIES: usize = 5;

/// True if something can be denied.
pub(crate) fn is_strict(policy: usize) -> bool {
    policy < 3
}

/// True if a question may be asked, where something can be denied.
pub(crate) fn allows(policy: usize, labels: &[&[u8]], kind: u16, class: u16) -> bool {
    let labels: Vec<String> =
        labels.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if class != IN || !labels.iter().all(|label| label.bytes().all(plain)) {
        return false;
    }
    match (policy, &labels[..]) {
        (0, [_, "ok", "test"]) if kind == A || kind == AAAA => true,
        (0, ["svc", "ok", "test"]) => kind == HTTPS,
        (0, ["in", "internal"]) => true,
        (1, ["bad", "ok", "test"]) => false,
        (1, [_, .., "test"] | ["in", "internal"]) => true,
        _ => false,
    }
}

pub(crate) fn current(policy: usize) -> &'static Arc<Current> {
    static ALL: OnceLock<Vec<Arc<Current>>> = OnceLock::new();
    &ALL.get_or_init(|| (0..POLICIES).map(|policy| Arc::new(build(policy))).collect())[policy]
}

fn section(matches: &[(&str, &[u16])]) -> Option<L7Section> {
    let one = |(name, records): &(&str, &[u16])| DnsMatch {
        names: vec![NamePattern::parse(name).expect("a pattern")],
        records: records.to_vec(),
    };
    Some(L7Section::Dns(matches.iter().map(one).collect()))
}

fn build(policy: usize) -> Current {
    let allow = |section| L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section };
    let deny = |section| L7Entry { rule: RuleIndex(0), effect: Some(Effect::Deny), section };
    let some = section(&[("*.ok.test", &[A, AAAA]), ("svc.ok.test", &[HTTPS]), ("in.internal", &[])]);
    let stage = |entries| vec![L7Stage { entries }];
    let (enforced, shadow, end) = match policy {
        1 => {
            let all = section(&[("**.test", &[]), ("in.internal", &[])]);
            (stage(vec![deny(section(&[("bad.ok.test", &[])])), allow(all)]), Vec::new(), 0)
        }
        4 => (stage(vec![allow(None)]), stage(vec![allow(some)]), 1),
        _ => (stage(vec![allow(some)]), Vec::new(), 0),
    };
    let mut program = super::sessions::program(L7Section::Dns(Vec::new()));
    let allowed = Answer { effect: Effect::Allow, rule: Some(RuleIndex(0)), reason: Reason::AllowedByRule };
    let denied = program.answers[0].enforced;
    program
        .answers
        .push(AnswerPair { enforced: allowed, shadow: if policy == 4 { denied } else { allowed } });
    program.rules[0].direction = Direction::Egress;
    program.l7_chains = vec![L7Chain { enforced, shadow, end: AnswerId(end) }];
    program.ingress = Default::default();
    let server = u32::from(SERVER);
    program.egress.v4 = vec![AddressSpan { first: server, last: server, class: ClassId(1) }];
    let action = match policy {
        2 => Action::Answer(AnswerId(0)),
        3 => Action::Answer(AnswerId(1)),
        _ => Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(end) },
    };
    let opened = |class, protocol, ports, action| PortBox {
        class: ClassId(class),
        protocol_first: protocol,
        protocol_last: protocol,
        ports,
        action,
    };
    let dns = PortRange::new(53, 53).expect("a port");
    program.egress.boxes = [L4Protocol::TCP, L4Protocol::UDP]
        .map(|protocol| opened(1, protocol, dns, action))
        .into_iter()
        .chain(
            [11, 12].map(|class| opened(class, L4Protocol::TCP, PortRange::ALL, Action::Answer(AnswerId(0)))),
        )
        .collect();
    let named =
        |family, class| NamedClass { family, base: None, rules: vec![RuleIndex(0)], class: ClassId(class) };
    program.egress.named = vec![named(IpFamily::V4, 11), named(IpFamily::V6, 12)];
    let names = ["**.ok.test", "in.internal"].map(|name| NamePattern::parse(name).expect("a pattern"));
    program.names = vec![RuleNames { rule: RuleIndex(0), names: names.into() }];
    let judge = Arc::new(Judge::new(program).expect("a valid program"));
    Current { judge, generation: 1, named: Default::default() }
}

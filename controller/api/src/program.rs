//! Programs on the wire: `From` writes them, `TryFrom` reads them and refuses what it does not know.
//!
//! Checked here is the form of each field. That indexes point at something and that tables are sorted and
//! disjoint is checked by whoever builds a judge from the program (`bulkhead_policies::decide`). An empty list
//! stays an empty list: it never turns into "any" on the way.

use crate::InvalidMessage;
use crate::field::{
    address, address_bytes, direction, direction_kind, effect, effect_kind, mode, name, name_pattern, narrow,
    protocol, reason, reason_words, required, tier,
};
use crate::v1;
use bulkhead_facts::{IpFamily, L4Protocol, PolicyRef, PortRange, WorkloadRef};
use bulkhead_policies::model::{HttpMatch, L7Section};
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, Choice, ChoiceId, ClassId, DirectionProgram, Endpoint,
    L7ChainId, NamedClass, PortBox, Program, RuleIndex, RuleInfo, RuleNames,
};

/// The highest format of programs that is known here.
const FORMAT: u32 = 3;

/// The lowest format that has every word of a program: 1, 2 with WebSockets whose frames are checked, or 3 with headers of
/// the PROXY protocol.
fn format(program: &Program) -> u32 {
    let stages = program.l7_chains.iter().flat_map(|chain| chain.enforced.iter().chain(&chain.shadow));
    let needs = |section: &L7Section| match section {
        L7Section::Http(requests) => requests.iter().map(of_request).max().unwrap_or(1),
        L7Section::Tls(hello) if hello.proxied => 3,
        _ => 1,
    };
    let sections = stages.flat_map(|stage| &stage.entries).filter_map(|entry| entry.section.as_ref());
    sections.map(needs).max().unwrap_or(1)
}

fn of_request(request: &HttpMatch) -> u32 {
    match (request.proxied, request.frames_checked) {
        (true, _) => 3,
        (false, true) => 2,
        (false, false) => 1,
    }
}

impl TryFrom<v1::Program> for Program {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Program) -> Result<Self, InvalidMessage> {
        if wire.format > FORMAT {
            return Err(InvalidMessage::unknown("program.format", wire.format));
        }
        Ok(Self {
            revision: wire.revision,
            workload: WorkloadRef {
                namespace: name("program.workload_namespace", wire.workload_namespace)?,
                name: name("program.workload_name", wire.workload_name)?,
            },
            collection: wire.collection.map(|c| name("program.collection", c)).transpose()?,
            mode: mode("program.mode", &wire.mode)?,
            rules: all(wire.rules)?,
            answers: all(wire.answers)?,
            l7_chains: all(wire.l7_chains)?,
            ingress: required("program.ingress", wire.ingress)?.try_into()?,
            egress: required("program.egress", wire.egress)?.try_into()?,
            names: all(wire.names)?,
            choices: all(wire.choices)?,
        })
    }
}

impl From<&Program> for v1::Program {
    fn from(program: &Program) -> Self {
        Self {
            revision: program.revision,
            workload_namespace: program.workload.namespace.clone(),
            workload_name: program.workload.name.clone(),
            collection: program.collection.clone(),
            mode: program.mode.as_str().to_owned(),
            rules: program.rules.iter().map(Into::into).collect(),
            answers: program.answers.iter().copied().map(Into::into).collect(),
            l7_chains: program.l7_chains.iter().map(Into::into).collect(),
            ingress: Some((&program.ingress).into()),
            egress: Some((&program.egress).into()),
            names: program.names.iter().map(Into::into).collect(),
            choices: program.choices.iter().map(Into::into).collect(),
            format: format(program),
        }
    }
}

impl TryFrom<v1::RuleNames> for RuleNames {
    type Error = InvalidMessage;

    fn try_from(wire: v1::RuleNames) -> Result<Self, InvalidMessage> {
        let pattern = |text| name_pattern("rule_names.names", text);
        Ok(Self {
            rule: RuleIndex(wire.rule),
            names: wire.names.into_iter().map(pattern).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&RuleNames> for v1::RuleNames {
    fn from(named: &RuleNames) -> Self {
        Self { rule: named.rule.0, names: named.names.iter().map(ToString::to_string).collect() }
    }
}

/// Reads every element or refuses all.
pub(crate) fn all<W, T>(wire: Vec<W>) -> Result<Vec<T>, InvalidMessage>
where
    T: TryFrom<W, Error = InvalidMessage>,
{
    wire.into_iter().map(T::try_from).collect()
}

impl TryFrom<v1::RuleName> for RuleInfo {
    type Error = InvalidMessage;

    fn try_from(wire: v1::RuleName) -> Result<Self, InvalidMessage> {
        let namespace = Some(wire.policy_namespace).filter(|n| !n.is_empty());
        Ok(Self {
            tier: tier("rule.tier", &wire.tier)?,
            policy: PolicyRef {
                kind: name("rule.policy_kind", wire.policy_kind)?,
                namespace: namespace.map(|n| name("rule.policy_namespace", n)).transpose()?,
                name: name("rule.policy_name", wire.policy_name)?,
            },
            rule: name("rule.rule", wire.rule)?,
            direction: direction("rule.direction", wire.direction)?,
        })
    }
}

impl From<&RuleInfo> for v1::RuleName {
    fn from(info: &RuleInfo) -> Self {
        Self {
            tier: info.tier.as_str().to_owned(),
            policy_kind: info.policy.kind.clone(),
            policy_namespace: info.policy.namespace.clone().unwrap_or_default(),
            policy_name: info.policy.name.clone(),
            rule: info.rule.clone(),
            direction: direction_kind(info.direction).into(),
        }
    }
}

impl TryFrom<v1::AnswerPair> for AnswerPair {
    type Error = InvalidMessage;

    fn try_from(wire: v1::AnswerPair) -> Result<Self, InvalidMessage> {
        Ok(Self {
            enforced: required("answer_pair.enforced", wire.enforced)?.try_into()?,
            shadow: required("answer_pair.shadow", wire.shadow)?.try_into()?,
        })
    }
}

impl From<AnswerPair> for v1::AnswerPair {
    fn from(pair: AnswerPair) -> Self {
        Self { enforced: Some(pair.enforced.into()), shadow: Some(pair.shadow.into()) }
    }
}

impl TryFrom<v1::Answer> for Answer {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Answer) -> Result<Self, InvalidMessage> {
        Ok(Self {
            effect: effect("answer.effect", wire.effect)?,
            rule: wire.rule.map(RuleIndex),
            reason: reason("answer.reason", &wire.reason, &wire.newer_reason)?,
        })
    }
}

impl From<Answer> for v1::Answer {
    fn from(answer: Answer) -> Self {
        let [reason, newer_reason] = reason_words(answer.reason, answer.effect);
        let rule = answer.rule.map(|r| r.0);
        Self { effect: effect_kind(answer.effect).into(), rule, reason, newer_reason }
    }
}

impl TryFrom<v1::DirectionProgram> for DirectionProgram {
    type Error = InvalidMessage;

    fn try_from(wire: v1::DirectionProgram) -> Result<Self, InvalidMessage> {
        Ok(Self {
            v4: wire
                .v4
                .into_iter()
                .map(|span| read_span(span, u32::from_be_bytes))
                .collect::<Result<_, _>>()?,
            v6: wire
                .v6
                .into_iter()
                .map(|span| read_span(span, u128::from_be_bytes))
                .collect::<Result<_, _>>()?,
            boxes: all(wire.boxes)?,
            named: all(wire.named)?,
        })
    }
}

impl From<&DirectionProgram> for v1::DirectionProgram {
    fn from(program: &DirectionProgram) -> Self {
        Self {
            v4: program.v4.iter().map(|span| write_span(span, u32::to_be_bytes)).collect(),
            v6: program.v6.iter().map(|span| write_span(span, u128::to_be_bytes)).collect(),
            boxes: program.boxes.iter().map(Into::into).collect(),
            named: program.named.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::NamedClass> for NamedClass {
    type Error = InvalidMessage;

    fn try_from(wire: v1::NamedClass) -> Result<Self, InvalidMessage> {
        Ok(Self {
            family: if wire.v6 { IpFamily::V6 } else { IpFamily::V4 },
            base: wire.base.map(ClassId),
            rules: wire.rules.into_iter().map(RuleIndex).collect(),
            class: ClassId(wire.class),
        })
    }
}

impl From<&NamedClass> for v1::NamedClass {
    fn from(named: &NamedClass) -> Self {
        Self {
            v6: named.family == IpFamily::V6,
            base: named.base.map(|class| class.0),
            rules: named.rules.iter().map(|rule| rule.0).collect(),
            class: named.class.0,
        }
    }
}

fn read_span<A, const N: usize>(
    wire: v1::AddressSpan,
    number: fn([u8; N]) -> A,
) -> Result<AddressSpan<A>, InvalidMessage> {
    let read = |field, bytes: &[u8]| match <[u8; N]>::try_from(bytes) {
        Ok(array) => Ok(number(array)),
        Err(_) => Err(InvalidMessage::BadLength { field, length: bytes.len() }),
    };
    Ok(AddressSpan {
        first: read("span.first", &wire.first)?,
        last: read("span.last", &wire.last)?,
        class: ClassId(wire.class),
    })
}

fn write_span<A: Copy, const N: usize>(span: &AddressSpan<A>, bytes: fn(A) -> [u8; N]) -> v1::AddressSpan {
    v1::AddressSpan {
        first: bytes(span.first).to_vec(),
        last: bytes(span.last).to_vec(),
        class: span.class.0,
    }
}

impl TryFrom<v1::PortBox> for PortBox {
    type Error = InvalidMessage;

    fn try_from(wire: v1::PortBox) -> Result<Self, InvalidMessage> {
        let first = protocol("box.protocol_first", wire.protocol_first)?;
        let last = protocol("box.protocol_last", wire.protocol_last)?;
        if last < first {
            return Err(out_of_range("box.protocol_last", last));
        }
        let port_first = narrow("box.port_first", wire.port_first)?;
        let port_last = narrow("box.port_last", wire.port_last)?;
        let ports = PortRange::new(port_first, port_last)
            .ok_or(InvalidMessage::OutOfRange { field: "box.port_last", value: u64::from(port_last) })?;
        Ok(Self {
            class: ClassId(wire.class),
            protocol_first: first,
            protocol_last: last,
            ports,
            action: box_action(required("box.action", wire.action)?, wire.choice)?,
        })
    }
}

fn out_of_range(field: &'static str, protocol: L4Protocol) -> InvalidMessage {
    InvalidMessage::OutOfRange { field, value: u64::from(protocol.0) }
}

impl From<&PortBox> for v1::PortBox {
    fn from(port_box: &PortBox) -> Self {
        Self {
            class: port_box.class.0,
            protocol_first: port_box.protocol_first.0.into(),
            protocol_last: port_box.protocol_last.0.into(),
            port_first: port_box.ports.first().into(),
            port_last: port_box.ports.last().into(),
            action: Some(port_box.action.into()),
            choice: match port_box.action {
                Action::Choose { choice, .. } => Some(choice.0),
                Action::Answer(_) | Action::Learn(_) | Action::Inspect { .. } => None,
            },
        }
    }
}

/// A choice stands beside the denial that holds where nobody picks.
fn box_action(action: v1::port_box::Action, choice: Option<u32>) -> Result<Action, InvalidMessage> {
    match (action.try_into()?, choice) {
        (action, None) => Ok(action),
        (Action::Answer(otherwise), Some(choice)) => {
            Ok(Action::Choose { choice: ChoiceId(choice), otherwise })
        }
        (_, Some(choice)) => Err(InvalidMessage::OutOfRange { field: "box.choice", value: choice.into() }),
    }
}

impl TryFrom<v1::Choice> for Choice {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Choice) -> Result<Self, InvalidMessage> {
        Ok(Self { endpoints: all(wire.endpoints)? })
    }
}

impl From<&Choice> for v1::Choice {
    fn from(choice: &Choice) -> Self {
        Self { endpoints: choice.endpoints.iter().map(Into::into).collect() }
    }
}

impl TryFrom<v1::Endpoint> for Endpoint {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Endpoint) -> Result<Self, InvalidMessage> {
        let action = match required("endpoint.action", wire.action)? {
            v1::endpoint::Action::Answer(id) => v1::port_box::Action::Answer(id),
            v1::endpoint::Action::Learn(id) => v1::port_box::Action::Learn(id),
            v1::endpoint::Action::Inspect(inspect) => v1::port_box::Action::Inspect(inspect),
        };
        Ok(Self {
            address: address("endpoint.address", &wire.address)?,
            port: narrow("endpoint.port", wire.port)?,
            action: action.try_into()?,
        })
    }
}

impl From<&Endpoint> for v1::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        let action = match endpoint.action.into() {
            v1::port_box::Action::Answer(id) => v1::endpoint::Action::Answer(id),
            v1::port_box::Action::Learn(id) => v1::endpoint::Action::Learn(id),
            v1::port_box::Action::Inspect(inspect) => v1::endpoint::Action::Inspect(inspect),
        };
        let (address, port) = (address_bytes(endpoint.address), endpoint.port.into());
        Self { address, port, action: Some(action) }
    }
}

impl TryFrom<v1::port_box::Action> for Action {
    type Error = InvalidMessage;

    fn try_from(wire: v1::port_box::Action) -> Result<Self, InvalidMessage> {
        Ok(match wire {
            v1::port_box::Action::Answer(id) => Self::Answer(AnswerId(narrow("box.answer", id)?)),
            v1::port_box::Action::Learn(id) => Self::Learn(AnswerId(narrow("box.learn", id)?)),
            v1::port_box::Action::Inspect(inspect) => Self::Inspect {
                chain: L7ChainId(inspect.chain),
                opaque: AnswerId(narrow("box.inspect.opaque", inspect.opaque)?),
            },
        })
    }
}

impl From<Action> for v1::port_box::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Answer(id) | Action::Choose { otherwise: id, .. } => Self::Answer(id.0.into()),
            Action::Learn(id) => Self::Learn(id.0.into()),
            Action::Inspect { chain, opaque } => {
                Self::Inspect(v1::Inspect { chain: chain.0, opaque: opaque.0.into() })
            }
        }
    }
}

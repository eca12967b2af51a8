//! Questions about flows: who may talk to whom, asked of both ends at once.
//!
//! A flow passes if the source's egress and the destination's ingress both allow it; an end outside of the cluster
//! allows everything. Every answer comes from [`Judge`], as in the sidecar. Used by cases ([`crate::cases`])
//! and by the command line; the full truth table is `matrix`.

mod ends;
mod http;
mod others;
mod request;
mod words;

pub use ends::{Destination, End, Ends, UnknownEnd};
pub use http::{GrpcQuestion, HttpQuestion};
pub use others::{DnsAsked, KafkaQuestion, PostgresQuestion, RedisQuestion, TlsQuestion};
pub use request::{RequestError, RequestQuestion};
pub use words::{WORD_PROTOCOLS, WordField, record_number};
pub(crate) use words::{api_name, record_name};

use crate::compile::{CompileError, Compiler};
use crate::decide::{Around, InvalidProgram, Judge};
use crate::inventory::{Inventory, ObjectName};
use crate::program::{Action, Answer, AnswerPair, RuleInfo};
use bulkhead_facts::{Direction, Effect, HostName, L4Protocol, Reason, WorkloadRef};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Programs of pods, built when first asked for.
pub struct Judges<'a> {
    compiler: &'a Compiler<'a>,
    inventory: &'a Inventory,
    judges: BTreeMap<ObjectName, Option<Judge>>,
}

/// Why a pod cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoJudge {
    /// Its program cannot be compiled.
    Compile(CompileError),
    /// Its program is not sound: a fault of ours.
    Invalid(InvalidProgram),
}

impl fmt::Display for NoJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compile(error) => write!(f, "{error}"),
            Self::Invalid(error) => write!(f, "compiled program is not sound: {error}"),
        }
    }
}

impl std::error::Error for NoJudge {}

/// One flow between two addresses, and the request on it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// Who opens it.
    pub source: End<'q>,
    /// Towards whom.
    pub destination: End<'q>,
    /// Address and port that the source dials where they differ from the destination's own: a Service's.
    pub dialled: Option<(IpAddr, u16)>,
    /// The name that led the source to the destination's address, as an answer of the name system.
    pub name: Option<&'q HostName>,
    /// Protocol.
    pub protocol: L4Protocol,
    /// The destination's port; `type << 8 | code` for ICMP.
    pub port: u16,
    /// The request; `None` is a flow whose bytes nobody can read, and so is one that this protocol cannot carry.
    pub request: Option<&'q RequestQuestion>,
}

/// What one end says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideAnswer {
    /// Egress at the source, ingress at the destination.
    pub direction: Direction,
    /// The pod that was asked.
    pub pod: ObjectName,
    /// Its workload.
    pub workload: WorkloadRef,
    /// True if the bytes had to be read for it.
    pub inspected: bool,
    /// Both answers.
    pub pair: AnswerPair,
    /// The rule behind the enforced answer.
    pub enforced_rule: Option<RuleInfo>,
    /// The rule behind the shadow answer.
    pub shadow_rule: Option<RuleInfo>,
}

impl SideAnswer {
    /// The enforced or the shadow answer with its rule.
    pub fn version(&self, version: Version) -> (Answer, Option<&RuleInfo>) {
        match version {
            Version::Enforced => (self.pair.enforced, self.enforced_rule.as_ref()),
            Version::Shadow => (self.pair.shadow, self.shadow_rule.as_ref()),
        }
    }
}

/// Which of the two answers is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// What holds.
    #[default]
    Enforced,
    /// What would hold if audited policies counted.
    Shadow,
}

/// What both ends say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowAnswer {
    /// The ends that have a sidecar: egress first.
    pub sides: Vec<SideAnswer>,
}

impl FlowAnswer {
    /// Allow if every end allows.
    pub fn effect(&self, version: Version) -> Effect {
        let denied = self.sides.iter().any(|side| side.version(version).0.effect == Effect::Deny);
        if denied { Effect::Deny } else { Effect::Allow }
    }

    /// The end that settles it: the first that denies, else the destination, else the source; `None` if neither end
    /// is protected.
    pub fn deciding(&self, version: Version) -> Option<&SideAnswer> {
        let denies = |side: &&SideAnswer| side.version(version).0.effect == Effect::Deny;
        self.sides.iter().find(denies).or(self.sides.last())
    }
}

impl<'a> Judges<'a> {
    /// Judges of the pods of an inventory.
    pub fn new(compiler: &'a Compiler<'a>, inventory: &'a Inventory) -> Self {
        Self { compiler, inventory, judges: BTreeMap::new() }
    }

    /// The inventory that names and addresses are looked up in.
    pub fn inventory(&self) -> &'a Inventory {
        self.inventory
    }

    /// The judge of a pod; `None` if it has none, as a pod in its node's network namespace.
    pub fn judge(&mut self, pod: &ObjectName) -> Result<Option<&Judge>, NoJudge> {
        if !self.judges.contains_key(pod) {
            let compiled = self.compiler.compile(pod, 1).map_err(NoJudge::Compile)?;
            let judge = compiled
                .map(|compiled| Judge::new(compiled.program))
                .transpose()
                .map_err(NoJudge::Invalid)?;
            self.judges.insert(pod.clone(), judge);
        }
        Ok(self.judges.get(pod).and_then(Option::as_ref))
    }

    /// What both ends say of a flow.
    pub fn ask(&mut self, question: &Question<'_>) -> Result<FlowAnswer, NoJudge> {
        let (dialled, dialled_port) =
            question.dialled.unwrap_or((question.destination.address, question.port));
        let mut answer = FlowAnswer::default();
        let egress = Asked { direction: Direction::Egress, peer: dialled, port: dialled_port, question };
        answer.sides.extend(self.side(question.source.pod, &egress)?);
        let ingress = Asked {
            direction: Direction::Ingress,
            peer: question.source.address,
            port: question.port,
            question,
        };
        answer.sides.extend(self.side(question.destination.pod, &ingress)?);
        Ok(answer)
    }

    fn side(&mut self, pod: Option<&ObjectName>, asked: &Asked<'_>) -> Result<Option<SideAnswer>, NoJudge> {
        let Some(pod) = pod else { return Ok(None) };
        let Some(judge) = self.judge(pod)? else { return Ok(None) };
        let action = asked.action(judge);
        let sent = asked.question.request.filter(|request| request.runs_on(asked.question.protocol));
        let hosted = sent.zip(asked.question.name).and_then(|(request, name)| request.hosted(name));
        let pair = answer(judge, action, hosted.as_ref().or(sent), Around::default());
        let rule = |answer: Answer| answer.rule.map(|rule| judge.rule(rule).clone());
        Ok(Some(SideAnswer {
            direction: asked.direction,
            pod: pod.clone(),
            workload: judge.program().workload.clone(),
            inspected: matches!(action, Action::Inspect { .. }),
            pair,
            enforced_rule: rule(pair.enforced),
            shadow_rule: rule(pair.shadow),
        }))
    }
}

/// What a judge says of a request on a flow that it acts on so; `None` is bytes that cannot be read.
pub(crate) fn answer(
    judge: &Judge,
    action: Action,
    request: Option<&RequestQuestion>,
    around: Around,
) -> AnswerPair {
    match (action, request) {
        (Action::Answer(id) | Action::Learn(id), _) => judge.answer(id),
        (Action::Inspect { opaque, .. }, None) => judge.answer(opaque),
        (Action::Inspect { chain, opaque }, Some(request)) => request.with(|request| match request {
            Ok(request) => judge.decide_l7_among(chain, &request, around),
            Err(error) => refused(judge.answer(opaque), error.reason()),
        }),
        (Action::Choose { choice, otherwise }, _) => {
            judge.least_of(choice, otherwise, |action| answer(judge, action, request, around))
        }
    }
}

/// One end's part of a question.
struct Asked<'q> {
    direction: Direction,
    peer: IpAddr,
    port: u16,
    question: &'q Question<'q>,
}

impl Asked<'_> {
    /// What holds at layer 4; an address outside that a name leads to has the class of that name.
    fn action(&self, judge: &Judge) -> Action {
        let Question { protocol, name, .. } = *self.question;
        let name = name.filter(|_| self.direction == Direction::Egress);
        match name.and_then(|name| judge.named_class(self.peer, &judge.rules_naming(name))) {
            Some(class) => judge.action_of_class(self.direction, class, protocol, self.port),
            // A Service is led to some endpoints only: this is one, or it is not reached.
            None if self.question.dialled.is_some() && self.direction == Direction::Egress => {
                let endpoint = (self.question.destination.address, self.question.port);
                judge.action_at(self.direction, (self.peer, self.port), protocol, endpoint)
            }
            None => judge.action(self.direction, self.peer, protocol, self.port),
        }
    }
}

/// A request without canonical form is refused before any rule is asked, where anything is refused at all.
fn refused(opaque: AnswerPair, reason: Reason) -> AnswerPair {
    let refuse = |answer: Answer| match answer.effect {
        Effect::Deny => Answer { effect: Effect::Deny, rule: None, reason },
        Effect::Allow => answer,
    };
    AnswerPair { enforced: refuse(opaque.enforced), shadow: refuse(opaque.shadow) }
}

#[cfg(test)]
mod tests;

//! What is told of questions: to the flow recorder, and to whoever was refused.

use super::verdict::Way;
use crate::flows::{HttpSignature, Observation, Recorder};
use crate::policy::Current;
use crate::session::new_report_id;
use bulkhead_facts::{Direction, Reason};
use bulkhead_inspect::dns::{Query, record_text};
use bulkhead_inspect::signature;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Answer, AnswerPair};
use std::sync::Arc;

/// What flows of the name system are called in reports.
const APPLICATION: &str = "dns";

/// Bytes of a question and of its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bytes {
    pub(super) question: usize,
    pub(super) answer: usize,
}

/// What was asked for, as far as it could be read, and how it went.
#[derive(Clone, Copy)]
pub(super) struct Told<'q> {
    pub(super) query: Option<&'q Query>,
    pub(super) outcome: Outcome,
}

/// How it went, in the classes in which requests of HTTP are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Refused,
    /// No such name, a server's own refusal, or nobody answered.
    Failed,
}

/// Records one question that was let through or refused.
pub(super) fn record(
    recorder: &Recorder,
    current: &Current,
    way: Way,
    answers: AnswerPair,
    told: Told<'_>,
    bytes: Bytes,
    report_id: Option<String>,
) {
    let count = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let observation = Observation {
        direction: way.direction,
        peer: way.peer,
        local: way.local,
        protocol: way.protocol,
        port: way.port,
        http: told.query.map(|query| Arc::new(told_as(query, told.outcome))),
        request: None,
        application: APPLICATION,
        answers,
        bytes_to_destination: count(bytes.question),
        bytes_to_source: count(bytes.answer),
        sender_uid: None,
        count: 1,
        report_id,
        endpoint: way.endpoint,
    };
    recorder.record(&current.judge, observation);
}

/// A question as reports hold requests: the type of record, and the name. Of those that passed, labels that vary are not told.
fn told_as(query: &Query, outcome: Outcome) -> HttpSignature {
    let asked = query.name.to_string();
    let name = match outcome {
        Outcome::Refused => asked,
        Outcome::Answered | Outcome::Failed => signature::name(&asked).into_owned(),
    };
    HttpSignature {
        method: record_text(query.record).into_owned(),
        path_template: name,
        host: String::new(),
        status: match outcome {
            Outcome::Answered => 2,
            Outcome::Refused => 4,
            Outcome::Failed => 5,
        },
    }
}

/// A refusal in words, and the identifier under which it is reported. A peer learns the reason, the pod's own app what to
/// change as well.
pub(super) fn words(judge: &Judge, answer: Answer, way: Way, query: &Query) -> (String, String) {
    let report_id = new_report_id();
    let text = format!("denied by bulkhead: {} (report {report_id})", answer.reason.as_str());
    match way.direction {
        Direction::Ingress => (text, report_id),
        Direction::Egress => (format!("{text} {}", change(judge, answer, query)), report_id),
    }
}

/// The smallest change that would let it pass.
fn change(judge: &Judge, answer: Answer, query: &Query) -> String {
    let item = format!("{{names: [{}], types: [{}]}}", query.name, record_text(query.record));
    match answer.rule.map(|rule| judge.rule(rule)) {
        Some(rule) if answer.reason == Reason::DeniedByRule => {
            format!("{}: narrow rule `{}` so that it spares {item}", rule.policy, rule.rule)
        }
        Some(rule) => format!("{}: add {item} to `dns` of rule `{}`", rule.policy, rule.rule),
        None => format!("add {item} to `dns` of an egress rule of {}", judge.program().workload),
    }
}

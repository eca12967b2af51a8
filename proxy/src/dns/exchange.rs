//! One question and its answer, whatever carries them: no sockets and no clock.
//!
//! [`QuestionJudge::ask`] says what becomes of a question, [`QuestionJudge::answered`] what becomes of the message that came
//! for it. Carriers send what they are told to.

use super::counters::{DNS_COUNTERS, count};
use super::limits::{ANSWER_BYTES_MAX, ANSWER_BYTES_MIN};
use super::report::{Bytes, Outcome, Told, record, words};
use super::verdict::{Verdict, Way, is_rebinding, learnable, verdict};
use crate::enforcement::Answered;
use crate::flows::Recorder;
use crate::policy::Current;
use bulkhead_facts::{Direction, Effect, HostName, Reason};
use bulkhead_inspect::dns::{
    Answer, AnswerFault, ExtendedError, HelloKeys, Query, QueryFault, Refusal, ResponseCode, is_internal,
    refusal, take_out_hello_keys,
};
use bulkhead_policies::program::{self, AnswerPair};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;

/// Decides on questions and on what comes for them, and reports both.
#[derive(Clone)]
pub struct QuestionJudge {
    /// Where observations go.
    pub recorder: Arc<Recorder>,
    /// Names that may have private addresses, beside those that no public name looks like.
    pub internal: Arc<[HostName]>,
    /// Chooses the identifier under which a question leaves that has this one: [`random_identifier`].
    pub identifier: fn(u16) -> u16,
}

/// What becomes of a question.
pub enum Asked {
    /// It leaves, and its answer is waited for.
    Release {
        /// The question as it leaves.
        message: Vec<u8>,
        /// What its answer is judged by.
        open: Box<Open>,
    },
    /// Its asker is told so.
    Refuse(Vec<u8>),
    /// Nothing leaves and nobody is told: it was none.
    Drop,
}

/// A question that left.
pub struct Open {
    current: Arc<Current>,
    answers: AnswerPair,
    /// `None` where the message could not be read and nothing can be denied: it and its answer pass as they are.
    query: Option<Query>,
    /// Its identifier on the way to the name server.
    pub(super) id: u16,
    /// What could have been denied was decided on: what comes back is judged as well.
    strictly: bool,
    question_bytes: usize,
}

/// What becomes of a message that came for a question.
pub enum Came {
    /// It is passed on so.
    Pass(Vec<u8>),
    /// Its addresses are admitted before; then [`QuestionJudge::admitted`] says what is passed on.
    Admit {
        /// Which name has which addresses.
        answered: Answered,
        /// What is passed on if they are.
        message: Vec<u8>,
    },
    /// It answers something else: the answer may still come.
    Foreign,
}

impl QuestionJudge {
    /// Decides on a question.
    pub fn ask(&self, current: &Arc<Current>, way: Way, bytes: &[u8]) -> Asked {
        let parsed = Query::parse(bytes);
        match (verdict(current, way, parsed.as_ref().map_err(|fault| *fault)), parsed) {
            (Verdict::Release { answers, strictly }, parsed) => {
                count(&DNS_COUNTERS.released);
                let query = parsed.ok();
                // Never the one that an app has chosen, which others may know.
                let (id, message) = match &query {
                    Some(query) => {
                        let id = (self.identifier)(query.id);
                        (id, released(query, id, bytes, strictly))
                    }
                    None => (0, bytes.to_vec()),
                };
                let current = Arc::clone(current);
                let question_bytes = bytes.len();
                Asked::Release {
                    message,
                    open: Box::new(Open { current, answers, query, id, strictly, question_bytes }),
                }
            }
            (Verdict::SearchEnd(answers), Ok(query)) => {
                count(&DNS_COUNTERS.search_ends);
                let text = "denied by bulkhead: a search domain behind a name that is allowed";
                let told = Refusal { code: ResponseCode::NoSuchName, error: ExtendedError::Blocked, text };
                let told = refusal(&query, told);
                if !query.host().is_some_and(|name| is_internal(name, &self.internal)) {
                    self.refuse(current, way, answers, Ok(query), bytes.len(), ResponseCode::NoSuchName);
                }
                Asked::Refuse(told)
            }
            (Verdict::Refuse(answers), parsed) => {
                count(&DNS_COUNTERS.refused);
                self.refuse(current, way, answers, parsed, bytes.len(), ResponseCode::Refused)
            }
            (Verdict::OtherFamily(answers), parsed) => {
                count(&DNS_COUNTERS.refused);
                self.refuse(current, way, answers, parsed, bytes.len(), ResponseCode::NoRecords)
            }
            (Verdict::SearchEnd(_), Err(_)) => Asked::Drop,
        }
    }

    fn refuse(
        &self,
        current: &Current,
        way: Way,
        answers: AnswerPair,
        parsed: Result<Query, QueryFault>,
        bytes: usize,
        code: ResponseCode,
    ) -> Asked {
        let bytes = Bytes { question: bytes, answer: 0 };
        let (asked, report_id) = match &parsed {
            Ok(query) => {
                let (text, report_id) = words(&current.judge, answers.enforced, way, query);
                let told = Refusal { code, error: ExtendedError::Prohibited, text: &text };
                (Asked::Refuse(refusal(query, told)), Some(report_id))
            }
            Err(QueryFault::Malformed { id, .. }) => (Asked::Refuse(Refusal::of_malformed(*id)), None),
            Err(QueryFault::NoQuestion) => (Asked::Drop, None),
        };
        let told = Told { query: parsed.as_ref().ok(), outcome: Outcome::Refused };
        record(&self.recorder, current, way, answers, told, bytes, report_id);
        asked
    }

    /// Decides on a message that came for a question.
    pub fn answered(&self, way: Way, open: &Open, mut bytes: Vec<u8>) -> Came {
        let Some(query) = &open.query else { return Came::Pass(self.pass(way, open, bytes)) };
        let mut read = Answer::parse(query, open.id, &bytes);
        if read.as_ref().is_ok_and(|answer| answer.names_service) && must_be_readable(way, open, query) {
            match take_out_hello_keys(&mut bytes) {
                HelloKeys::None => {}
                HelloKeys::Signed => count(&DNS_COUNTERS.hello_keys_left),
                HelloKeys::TakenOut => {
                    count(&DNS_COUNTERS.hello_keys_taken_out);
                    // What is decided on is what is passed on.
                    read = Answer::parse(query, open.id, &bytes);
                }
            }
        }
        let answer = match read {
            Ok(answer) => answer,
            Err(AnswerFault::Foreign) => {
                count(&DNS_COUNTERS.foreign_answers);
                return Came::Foreign;
            }
            Err(AnswerFault::Malformed(_)) if open.strictly => {
                return Came::Pass(self.withhold(way, open, query, "unreadable"));
            }
            Err(AnswerFault::Malformed(_)) => {
                Answer::restore_id(&mut bytes, query.id);
                return Came::Pass(self.pass(way, open, bytes));
            }
        };
        let outbound = way.direction == Direction::Egress;
        if outbound && open.strictly && is_rebinding(query.host(), &answer, &self.internal) {
            let why = "an address inside for a name outside";
            return Came::Pass(self.withhold(way, open, query, why));
        }
        match answer.broken && open.strictly {
            true => bytes = Answer::only_truncated(query),
            false => Answer::restore_id(&mut bytes, query.id),
        }
        match query.host().filter(|_| outbound).and_then(|name| self.admits(open, name, &answer)) {
            Some(answered) => Came::Admit { answered, message: bytes },
            None => Came::Pass(self.pass(way, open, bytes)),
        }
    }

    /// What an answer has admitted: nothing if no rule names the name.
    fn admits(&self, open: &Open, name: &HostName, answer: &Answer) -> Option<Answered> {
        if open.current.judge.rules_naming(name).is_empty() {
            return None;
        }
        let addresses = learnable(name, answer, &self.internal);
        (!addresses.is_empty()).then(|| Answered { name: name.clone(), addresses })
    }

    /// What is passed on once the addresses of an answer are admitted, or could not be.
    pub fn admitted(&self, way: Way, open: &Open, message: Vec<u8>, admitted: bool) -> Vec<u8> {
        match &open.query {
            Some(query) if !admitted => {
                count(&DNS_COUNTERS.not_admitted);
                failure(query)
            }
            _ => self.pass(way, open, message),
        }
    }

    fn pass(&self, way: Way, open: &Open, bytes: Vec<u8>) -> Vec<u8> {
        let size = Bytes { question: open.question_bytes, answer: bytes.len() };
        // How it went stands in the lowest bits of the fourth byte.
        let outcome = if bytes.get(3).is_some_and(|byte| byte & 0x0f == 0) {
            Outcome::Answered
        } else {
            Outcome::Failed
        };
        let told = Told { query: open.query.as_ref(), outcome };
        record(&self.recorder, &open.current, way, open.answers, told, size, None);
        bytes
    }

    fn withhold(&self, way: Way, open: &Open, query: &Query, why: &str) -> Vec<u8> {
        count(&DNS_COUNTERS.answers_withheld);
        let denied =
            program::Answer { effect: Effect::Deny, reason: Reason::Malformed, ..open.answers.enforced };
        let answers = AnswerPair { enforced: denied, shadow: denied };
        let (_, report_id) = words(&open.current.judge, denied, way, query);
        let text = format!("denied by bulkhead: the answer is {why} (report {report_id})");
        let told = Refusal { code: ResponseCode::Refused, error: ExtendedError::Filtered, text: &text };
        let size = Bytes { question: open.question_bytes, answer: 0 };
        let about = Told { query: Some(query), outcome: Outcome::Refused };
        record(&self.recorder, &open.current, way, answers, about, size, Some(report_id));
        refusal(query, told)
    }

    /// Nobody answers: what is told instead, if anything could be.
    pub fn unanswered(&self, way: Way, open: &Open) -> Option<Vec<u8>> {
        count(&DNS_COUNTERS.unanswered);
        let size = Bytes { question: open.question_bytes, answer: 0 };
        let told = Told { query: open.query.as_ref(), outcome: Outcome::Failed };
        record(&self.recorder, &open.current, way, open.answers, told, size, None);
        open.query.as_ref().map(failure)
    }
}

impl Open {
    /// Bytes that its answer may have in one datagram.
    pub fn answer_bytes(&self) -> usize {
        self.query.as_ref().map_or(ANSWER_BYTES_MAX, |query| query.udp_bytes().max(ANSWER_BYTES_MIN))
    }

    /// True if it could be read.
    pub(super) fn is_readable(&self) -> bool {
        self.query.is_some()
    }

    /// True for a question that any number of messages may answer.
    pub(super) fn is_transfer(&self) -> bool {
        self.query.as_ref().is_some_and(|query| bulkhead_inspect::dns::is_transfer(query.record))
    }
}

/// True where some rule lets the pod greet by TLS in clear whoever is asked for, and not by an encrypted hello.
fn must_be_readable(way: Way, open: &Open, query: &Query) -> bool {
    let outbound = way.direction == Direction::Egress;
    let host = query.service_host().filter(|_| outbound);
    host.is_some_and(|host| open.current.judge.wants_name_in_clear(&host))
}

fn failure(query: &Query) -> Vec<u8> {
    let text = "the name server cannot be reached, or its answer cannot be used";
    refusal(query, Refusal { code: ResponseCode::ServerFailure, error: ExtendedError::NetworkError, text })
}

/// An identifier that nobody can know, whichever the asker has chosen.
pub fn random_identifier(asker: u16) -> u16 {
    let mut random = [0; 2];
    match SystemRandom::new().fill(&mut random) {
        Ok(()) => u16::from_be_bytes(random),
        Err(_) => asker,
    }
}

/// What leaves of a question that could be read; strictly, it is written anew.
fn released(query: &Query, id: u16, bytes: &[u8], strictly: bool) -> Vec<u8> {
    if strictly {
        return query.released(id);
    }
    let mut message = bytes.to_vec();
    Answer::restore_id(&mut message, id);
    message
}

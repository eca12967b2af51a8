//! One question and its answer, whatever carries them.
//!
//! [`Dns::ask`] says what becomes of a question, [`Dns::answered`] what becomes of the message that came for it. Carriers
//! send what they are told to.

use super::Dns;
use super::counters::{DNS_COUNTERS, count};
use super::limits::{ANSWER_BYTES_MAX, ANSWER_BYTES_MIN, LEARNING_TIMEOUT};
use super::report::{Bytes, Outcome, Told, record, words};
use super::verdict::{Verdict, Way, is_rebinding, learnable, verdict};
use crate::enforcement::Answered;
use crate::policy::Current;
use bulkhead_facts::{Direction, Effect, HostName, Reason};
use bulkhead_inspect::dns::{
    Answer, AnswerFault, ExtendedError, Query, QueryFault, Refusal, ResponseCode, is_internal, refusal,
};
use bulkhead_policies::program::{self, AnswerPair};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use tokio::time::timeout;

/// What becomes of a question.
pub(super) enum Asked {
    /// It leaves as `message`, and its answer is waited for.
    Release { message: Vec<u8>, open: Box<Open> },
    /// Its asker is told so.
    Refuse(Vec<u8>),
    /// Nothing leaves and nobody is told: it was none.
    Drop,
}

/// A question that left.
pub(super) struct Open {
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
pub(super) enum Came {
    /// It is passed on so.
    Pass(Vec<u8>),
    /// It answers something else: the answer may still come.
    Foreign,
}

impl Dns {
    /// Decides on a question.
    pub(super) fn ask(&self, current: &Arc<Current>, way: Way, bytes: &[u8]) -> Asked {
        let parsed = Query::parse(bytes);
        match (verdict(current, way, parsed.as_ref().map_err(|fault| *fault)), parsed) {
            (Verdict::Release { answers, strictly }, parsed) => {
                count(&DNS_COUNTERS.released);
                let query = parsed.ok();
                let (id, message) = released(query.as_ref(), bytes, strictly);
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
                    self.refuse(current, way, answers, Ok(query), bytes.len());
                }
                Asked::Refuse(told)
            }
            (Verdict::Refuse(answers), parsed) => {
                count(&DNS_COUNTERS.refused);
                self.refuse(current, way, answers, parsed, bytes.len())
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
    ) -> Asked {
        let bytes = Bytes { question: bytes, answer: 0 };
        let (asked, report_id) = match &parsed {
            Ok(query) => {
                let (text, report_id) = words(&current.judge, answers.enforced, way, query);
                let told =
                    Refusal { code: ResponseCode::Refused, error: ExtendedError::Prohibited, text: &text };
                (Asked::Refuse(refusal(query, told)), Some(report_id))
            }
            Err(QueryFault::Malformed { id, .. }) => (Asked::Refuse(Refusal::of_malformed(*id)), None),
            Err(QueryFault::NoQuestion) => (Asked::Drop, None),
        };
        let told = Told { query: parsed.as_ref().ok(), outcome: Outcome::Refused };
        record(&self.recorder, current, way, answers, told, bytes, report_id);
        asked
    }

    /// Decides on a message that came for a question. Returns when its addresses are admitted.
    pub(super) async fn answered(&self, way: Way, open: &Open, mut bytes: Vec<u8>) -> Came {
        let Some(query) = &open.query else { return self.pass(way, open, bytes) };
        let answer = match Answer::parse(query, open.id, &bytes) {
            Ok(answer) => answer,
            Err(AnswerFault::Foreign) => {
                count(&DNS_COUNTERS.foreign_answers);
                return Came::Foreign;
            }
            Err(AnswerFault::Malformed(_)) if open.strictly => {
                return self.withhold(way, open, query, "unreadable");
            }
            Err(AnswerFault::Malformed(_)) => {
                Answer::restore_id(&mut bytes, query.id);
                return self.pass(way, open, bytes);
            }
        };
        let outbound = way.direction == Direction::Egress;
        if outbound && open.strictly && is_rebinding(query.host(), &answer, &self.internal) {
            return self.withhold(way, open, query, "an address inside for a name outside");
        }
        if outbound
            && let Some(name) = query.host()
            && !self.admit(open, name, &answer).await
        {
            count(&DNS_COUNTERS.not_admitted);
            return Came::Pass(failure(query));
        }
        Answer::restore_id(&mut bytes, query.id);
        self.pass(way, open, bytes)
    }

    /// Has the addresses of an answer admitted, if some rule names the name.
    async fn admit(&self, open: &Open, name: &HostName, answer: &Answer) -> bool {
        if open.current.judge.rules_naming(name).is_empty() {
            return true;
        }
        let addresses = learnable(name, answer, &self.internal);
        if addresses.is_empty() {
            return true;
        }
        let learned = self.enforcement.learn(Answered { name: name.clone(), addresses });
        match timeout(LEARNING_TIMEOUT, learned).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the addresses of a name are not admitted");
                false
            }
            Err(_) => false,
        }
    }

    fn pass(&self, way: Way, open: &Open, bytes: Vec<u8>) -> Came {
        let size = Bytes { question: open.question_bytes, answer: bytes.len() };
        // How it went stands in the lowest bits of the fourth byte.
        let outcome = if bytes.get(3).is_some_and(|byte| byte & 0x0f == 0) {
            Outcome::Answered
        } else {
            Outcome::Failed
        };
        let told = Told { query: open.query.as_ref(), outcome };
        record(&self.recorder, &open.current, way, open.answers, told, size, None);
        Came::Pass(bytes)
    }

    fn withhold(&self, way: Way, open: &Open, query: &Query, why: &str) -> Came {
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
        Came::Pass(refusal(query, told))
    }

    /// Nobody answers: what is told instead, if anything could be.
    pub(super) fn unanswered(&self, way: Way, open: &Open) -> Option<Vec<u8>> {
        count(&DNS_COUNTERS.unanswered);
        let size = Bytes { question: open.question_bytes, answer: 0 };
        let told = Told { query: open.query.as_ref(), outcome: Outcome::Failed };
        record(&self.recorder, &open.current, way, open.answers, told, size, None);
        open.query.as_ref().map(failure)
    }
}

impl Open {
    /// Bytes that its answer may have in one datagram.
    pub(super) fn answer_bytes(&self) -> usize {
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

fn failure(query: &Query) -> Vec<u8> {
    let text = "the name server cannot be reached, or its answer cannot be used";
    refusal(query, Refusal { code: ResponseCode::ServerFailure, error: ExtendedError::NetworkError, text })
}

/// What leaves, and its identifier: never the one that an app has chosen, which others may know.
fn released(query: Option<&Query>, bytes: &[u8], strictly: bool) -> (u16, Vec<u8>) {
    let Some(query) = query else {
        let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
        return (id, bytes.to_vec());
    };
    let mut random = [0; 2];
    let id = match SystemRandom::new().fill(&mut random) {
        Ok(()) => u16::from_be_bytes(random),
        Err(_) => query.id,
    };
    if strictly {
        return (id, query.released(id));
    }
    let mut message = bytes.to_vec();
    Answer::restore_id(&mut message, id);
    (id, message)
}

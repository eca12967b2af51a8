//! Questions on one TCP connection and their answers: what its bytes mean, however they are cut. No sockets and no clock.
//!
//! Whoever carries it puts what each side says into [`Conversation::client`] and [`Conversation::server`], and does what
//! [`Conversation::answer`] and [`Conversation::question`] say, until they say [`Step::Wait`].

use super::exchange::{Asked, Came, Open, QuestionJudge};
use super::limits::{QUESTION_BYTES_MAX, STREAM_QUESTIONS_MAX};
use super::verdict::{Verdict, Way, is_over, verdict};
use crate::enforcement::Answered;
use crate::policy::Current;
use bulkhead_inspect::dns::{Answer, Frame, Query, QueryFault, frame};
use std::collections::HashMap;
use std::sync::Arc;

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Nothing, until somebody says more.
    Wait,
    /// Send this to the name server.
    ToServer(Vec<u8>),
    /// Send this to whoever asks.
    ToClient(Vec<u8>),
    /// Have these addresses admitted, and then ask [`Conversation::admitted`].
    Admit(Answered),
    /// It is none of the name system, and may be what it wants: pass on what was said, and everything that follows.
    Tunnel,
    /// End it towards both.
    Reset,
}

/// One connection.
pub struct Conversation {
    way: Way,
    /// By the identifier on the way to the name server.
    open: HashMap<u16, Box<Open>>,
    from_client: Said,
    from_server: Said,
    /// The answer whose addresses are being admitted, and the identifier of its question.
    admitting: Option<(u16, Vec<u8>)>,
    /// A question was read: whoever is asked may speak.
    has_asked: bool,
}

impl Conversation {
    /// Nothing was said yet.
    pub fn new(way: Way) -> Self {
        Self {
            way,
            open: HashMap::new(),
            from_client: Said::default(),
            from_server: Said::default(),
            admitting: None,
            has_asked: false,
        }
    }

    /// Where what whoever asks says is put.
    pub fn client(&mut self) -> &mut Vec<u8> {
        self.from_client.more()
    }

    /// Where what the name server says is put.
    pub fn server(&mut self) -> &mut Vec<u8> {
        self.from_server.more()
    }

    /// True if a further question would be taken.
    pub fn has_room(&self) -> bool {
        self.open.len() < STREAM_QUESTIONS_MAX
    }

    /// True if no answer is waited for.
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    /// True if nothing at all may be asked here any more.
    pub fn is_over(&self, current: &Current) -> bool {
        is_over(current, self.way)
    }

    /// Takes the next question, if it is complete.
    pub fn question(&mut self, judge: &QuestionJudge, current: &Arc<Current>) -> Step {
        if !self.has_room() {
            return Step::Wait;
        }
        // Before it is complete, so that it makes no difference how it comes.
        if !self.may_be_question() {
            return self.no_question(judge, current);
        }
        let (message, used) = match frame(self.from_client.rest()) {
            Frame::Message { message, used } => (message, used),
            Frame::NeedMore => return Step::Wait,
            Frame::TooShort => return self.no_question(judge, current),
        };
        let step = match judge.ask(current, self.way, message) {
            Asked::Release { open, .. } if !open.is_readable() => return Step::Tunnel,
            Asked::Release { mut message, mut open } => {
                // An answer belongs to one question only.
                while self.open.contains_key(&open.id) {
                    open.id = open.id.wrapping_add(1);
                }
                Answer::restore_id(&mut message, open.id);
                self.open.insert(open.id, open);
                Step::ToServer(framed(&message))
            }
            Asked::Refuse(refusal) => Step::ToClient(framed(&refusal)),
            Asked::Drop => return Step::Reset,
        };
        self.has_asked = true;
        self.from_client.take(used);
        step
    }

    /// True while the first message may still become a question. None is as long as what other protocols begin with.
    fn may_be_question(&self) -> bool {
        let Some((length, message)) = self.from_client.rest().split_first_chunk() else { return true };
        let length = usize::from(u16::from_be_bytes(*length));
        length <= QUESTION_BYTES_MAX && Query::may_begin(message.get(..length).unwrap_or(message))
    }

    /// What begins like no question.
    fn no_question(&self, judge: &QuestionJudge, current: &Arc<Current>) -> Step {
        match verdict(current, self.way, Err(QueryFault::NoQuestion)) {
            Verdict::Release { .. } => Step::Tunnel,
            Verdict::Refuse(_) | Verdict::OtherFamily(_) | Verdict::SearchEnd(_) => {
                judge.ask(current, self.way, &[]);
                Step::Reset
            }
        }
    }

    /// Takes the next answer, if it is complete.
    pub fn answer(&mut self, judge: &QuestionJudge, current: &Arc<Current>) -> Step {
        loop {
            let (message, used) = match frame(self.from_server.rest()) {
                // A server that speaks first, or in another way.
                _ if !self.has_asked && !self.from_server.rest().is_empty() => {
                    return self.no_question(judge, current);
                }
                Frame::TooShort => return self.no_question(judge, current),
                Frame::NeedMore => return Step::Wait,
                Frame::Message { message, used } => (message.to_vec(), used),
            };
            self.from_server.take(used);
            let id = message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
            let Some(open) = self.open.get(&id) else { continue };
            match judge.answered(self.way, open, message) {
                Came::Pass(answer) => return self.passed(id, &answer),
                Came::Admit { answered, message } => {
                    self.admitting = Some((id, message));
                    return Step::Admit(answered);
                }
                Came::Foreign => {}
            }
        }
    }

    /// The addresses that the last step named are admitted, or could not be.
    pub fn admitted(&mut self, judge: &QuestionJudge, admitted: bool) -> Step {
        let Some((id, message)) = self.admitting.take() else { return Step::Wait };
        let Some(open) = self.open.get(&id) else { return Step::Wait };
        let answer = judge.admitted(self.way, open, message, admitted);
        self.passed(id, &answer)
    }

    fn passed(&mut self, id: u16, answer: &[u8]) -> Step {
        if self.open.get(&id).is_some_and(|open| !open.is_transfer()) {
            self.open.remove(&id);
        }
        Step::ToClient(framed(answer))
    }

    /// What was said and not taken yet, of both sides.
    pub fn into_rest(self) -> (Vec<u8>, Vec<u8>) {
        (self.from_client.rest().to_vec(), self.from_server.rest().to_vec())
    }
}

/// What one side has said. Where nothing is left it holds nothing.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    /// So many of them are done with: they go with the next that are said, however many messages they were.
    taken: usize,
}

impl Said {
    fn more(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        &mut self.bytes
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    fn take(&mut self, count: usize) {
        self.taken = self.bytes.len().min(self.taken + count);
        if self.taken == self.bytes.len() {
            *self = Self::default();
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(0);
    [&length.to_be_bytes()[..], message].concat()
}

//! What bytes mean: the steps of the inspector, under the gate and under the tee.
//!
//! Under the gate a step is obeyed. Under the tee everything leaves at once, every question is answered with yes,
//! and what the gate would have refused is only reported.

use super::connection::{Connection, End, Event, Reading};
use super::counters::{COUNTERS, add};
use super::denial::{Denial, denial, item, new_report_id};
use super::report::{Asked, Report};
use super::verdict::Verdicts;
use bulkhead_facts::{Effect, Reason};
use bulkhead_inspect::{Progress, Protocol, Question, Refusal, Side, Step};
use bulkhead_policies::program::AnswerPair;

impl Connection {
    /// Judges what came from the client.
    pub(super) fn judge_client(&mut self) -> Result<(), Event> {
        self.report.client_bytes = self.client.received;
        if self.reading != Reading::Understood {
            self.report.bytes_to_destination += self.client.inbound.approve_all();
            return Ok(());
        }
        loop {
            if self.judging_waits() {
                return Ok(());
            }
            let Self { client, conversation, verdicts, report, gate, head_since, .. } = self;
            verdicts.proxied = conversation.is_proxied();
            match conversation.client(client.inbound.unjudged()) {
                Step::NeedMore => break,
                Step::Forward(count) => report.bytes_to_destination += client.inbound.approve(count),
                Step::Discard(count) if !*gate => {
                    report.bytes_to_destination += client.inbound.approve(count);
                }
                Step::Discard(count) => {
                    if !client.inbound.discard(count) {
                        return Err(Event::End(End::Reset));
                    }
                }
                Step::Ask(question) => {
                    // This head is complete; what comes after it is another one.
                    *head_since = None;
                    let denial = decide(verdicts, report, *gate, &question);
                    let checks = denial.is_none() && *gate && verdicts.wants_frames_checked(&question);
                    let compressed = checks && question.offers_compression();
                    drop(question);
                    if checks {
                        conversation.check_frames(compressed);
                    }
                    match denial {
                        None => conversation.allow(),
                        Some(denial) => self.deny(&denial)?,
                    }
                }
                Step::Opaque => return self.go_opaque(),
                Step::Refuse(refusal) => {
                    self.refuse_client(refusal)?;
                    if !self.conversation.survives() {
                        return Ok(());
                    }
                }
            }
            self.insert()?;
            let (progress, application) = (self.conversation.take_progress(), self.application());
            self.report.progress(progress, application);
        }
        if !self.client.inbound.is_stuck() || self.client.inbound.grow(self.conversation.bytes_max()) {
            return Ok(());
        }
        let standing = self.conversation.standing();
        match self.gate {
            false => self.lose_track(),
            true if standing.in_question && !standing.waits_for_server => {
                let detail = "message larger than what is kept to judge it";
                return self.refuse_client(Refusal { reason: Reason::Limit, status: None, detail });
            }
            true => {}
        }
        Ok(())
    }

    /// True while nothing further of the client is judged: what was rewritten has to leave first.
    pub(super) fn judging_waits(&self) -> bool {
        let answers_wait = || self.server.as_ref().is_some_and(|server| server.inbound.holds_enough());
        self.client.inbound.holds_enough() || answers_wait()
    }

    /// Says no to what was asked about. Where nothing can be said, both sides are closed.
    fn deny(&mut self, denial: &Denial) -> Result<(), Event> {
        match self.conversation.deny(&denial.notice(403)) {
            true => Ok(()),
            false => Err(Event::End(End::Reset)),
        }
    }

    /// Takes what the conversation itself has to say to either side.
    pub(super) fn insert(&mut self) -> Result<(), Event> {
        let to_server = self.conversation.insertion(Side::Server);
        if !to_server.is_empty() {
            self.report.bytes_to_destination += u64::try_from(to_server.len()).unwrap_or_default();
            if !self.client.inbound.insert(to_server) {
                return Err(Event::End(End::Reset));
            }
            self.conversation.inserted(Side::Server);
        }
        let Some(server) = &mut self.server else { return Ok(()) };
        loop {
            let to_client = self.conversation.insertion(Side::Client);
            // Before what has left unjudged is through, nothing has a place.
            if to_client.is_empty() || server.inbound.left() > 0 {
                return Ok(());
            }
            self.report.bytes_to_source += u64::try_from(to_client.len()).unwrap_or_default();
            if !server.inbound.insert(to_client) {
                return Err(Event::End(End::Reset));
            }
            self.conversation.inserted(Side::Client);
        }
    }

    /// Judges what came from the server.
    pub(super) fn judge_server(&mut self) -> Result<(), Event> {
        loop {
            let Some(server) = &mut self.server else { return Ok(()) };
            if self.reading != Reading::Understood {
                self.report.bytes_to_source += server.inbound.approve_all();
                return Ok(());
            }
            if server.inbound.holds_enough() {
                break;
            }
            match self.conversation.server(server.inbound.unjudged()) {
                Step::NeedMore | Step::Ask(_) => break,
                Step::Forward(count) => self.report.bytes_to_source += server.inbound.approve(count),
                Step::Discard(count) if !self.gate => {
                    self.report.bytes_to_source += server.inbound.approve(count);
                }
                Step::Discard(count) => {
                    if !server.inbound.discard(count) {
                        return Err(Event::End(End::Reset));
                    }
                }
                Step::Opaque => self.go_opaque()?,
                Step::Refuse(refusal) => {
                    self.refuse_server(refusal)?;
                }
            }
            self.insert()?;
            self.end_if_answered_early();
            self.note_progress();
        }
        let bytes_max = self.conversation.bytes_max();
        if let Some(server) = self.server.as_mut().filter(|server| server.inbound.is_stuck()) {
            match self.gate {
                // An answer that is changed is there in full before: of Kafka, what its brokers and topics are.
                true => drop(server.inbound.grow(bytes_max)),
                false => self.lose_track(),
            }
        }
        Ok(())
    }

    /// The bytes mean nothing to us from here on: a tunnel that was agreed on, or another protocol.
    fn go_opaque(&mut self) -> Result<(), Event> {
        let application = self.application();
        if self.conversation.is_judged() {
            self.report.progress(self.conversation.take_progress(), application);
        } else {
            let answers = self.verdicts.opaque();
            if self.gate && answers.enforced.effect == Effect::Deny {
                return self.close_opaque(answers);
            }
            self.report.opaque(&self.verdicts.current, answers, application);
        }
        self.reading = Reading::Opaque;
        self.approve_all();
        Ok(())
    }

    /// What may not pass unread ends here, with a word where the protocol has one.
    fn close_opaque(&mut self, answers: AnswerPair) -> Result<(), Event> {
        let about = self.report.about(None, Some("bytes that cannot be read"));
        let denial = denial(&self.verdicts.current.judge, answers.enforced, about);
        let told = self.conversation.close_opaque(&denial.notice(403));
        let report_id = told.then_some(denial.report_id);
        self.report.denied(&self.verdicts.current, answers, None, self.application(), report_id);
        self.client.inbound.drop_unjudged();
        if told { Ok(()) } else { Err(Event::End(End::Reset)) }
    }

    fn refuse_client(&mut self, refusal: Refusal) -> Result<(), Event> {
        add(&COUNTERS.refusals, 1);
        let (answers, application) = (self.verdicts.refused(&refusal), self.application());
        if !self.gate && self.conversation.survives() {
            self.report.denied(&self.verdicts.current, answers, None, application, None);
            self.conversation.allow();
            return Ok(());
        }
        if !self.gate {
            self.report.opaque(&self.verdicts.current, answers, application);
            self.lose_track();
            return Ok(());
        }
        let about = self.report.about(None, Some(refusal.detail));
        let denial = denial(&self.verdicts.current.judge, answers.enforced, about);
        let told = self.conversation.reject(&refusal, &denial.notice(refusal.status.unwrap_or(400)));
        let report_id = told.then_some(denial.report_id);
        self.report.denied(&self.verdicts.current, answers, None, application, report_id);
        if !self.conversation.survives() {
            self.client.inbound.drop_unjudged();
        }
        if self.conversation.checks_frames(0) {
            self.insert()?;
        }
        if told { Ok(()) } else { Err(Event::End(End::Reset)) }
    }

    /// Tells the report how far open requests got.
    pub(super) fn note_progress(&mut self) {
        loop {
            let progress = self.conversation.take_progress();
            if progress == Progress::default() {
                return;
            }
            self.report.progress(progress, self.application());
        }
    }

    /// What a server says unasked answers what was not judged here, so it is reported like a request that was denied.
    fn refuse_server(&mut self, refusal: Refusal) -> Result<(), Event> {
        add(&COUNTERS.refusals, 1);
        tracing::debug!(server = %self.ends.destination, detail = refusal.detail, "response refused");
        if !self.gate {
            self.report.mistaken();
            self.lose_track();
            return Ok(());
        }
        if self.conversation.checks_frames(0) {
            if let Some(server) = &mut self.server {
                server.inbound.drop_unjudged();
            }
            return self.refuse_client(refusal);
        }
        let unasked = self.conversation.outstanding() == 0;
        // A server that waited for too long denies nobody anything.
        if !(unasked && refusal.reason == Reason::Limit) {
            let (answers, application) = (self.verdicts.refused(&refusal), self.application());
            let report_id = new_report_id();
            tracing::info!(
                server = %self.ends.destination, client = %self.ends.client, report = report_id,
                detail = refusal.detail, "response refused"
            );
            self.report.denied(&self.verdicts.current, answers, None, application, Some(report_id));
        }
        if unasked && self.conversation.protocol() == Some(Protocol::Http1) {
            self.give_up_server();
            return Ok(());
        }
        Err(Event::End(End::Reset))
    }

    /// Nothing more goes to the server, and nothing more comes from it than what it was asked for, which the client still gets
    /// whole: a server that did not read a body answers its request, and then says that it does not understand the body.
    fn give_up_server(&mut self) {
        if let Some(server) = &mut self.server {
            server.inbound.drop_unjudged();
            (server.ended, server.broken) = (true, true);
        }
    }

    /// Under the gate nothing follows a request that was answered before it was complete.
    pub(super) fn end_if_answered_early(&mut self) {
        if self.gate && self.conversation.answered_early() {
            self.conversation.end_after_exchange();
        }
    }

    /// Under the tee only: what cannot be followed passes unread.
    fn lose_track(&mut self) {
        self.reading = Reading::Lost;
        self.approve_all();
    }

    fn approve_all(&mut self) {
        self.report.bytes_to_destination += self.client.inbound.approve_all();
        if let Some(server) = &mut self.server {
            self.report.bytes_to_source += server.inbound.approve_all();
        }
    }
}

/// Decides on a request and reports it; what the client is told if it may not pass.
fn decide(verdicts: &Verdicts, report: &mut Report, gate: bool, question: &Question<'_>) -> Option<Denial> {
    let known = report.known(&verdicts.current, question);
    let answers = known.as_deref().map_or_else(|| verdicts.request(question), Asked::answers);
    if !gate || answers.enforced.effect == Effect::Allow {
        report.released(&verdicts.current, answers, question, known);
        return None;
    }
    let about = report.about(Some(question), None);
    let denial = denial(&verdicts.current.judge, answers.enforced, about);
    let application = question.protocol().as_str();
    tracing::debug!(application, report = denial.report_id, request = item(question).1, "request denied");
    report.denied(&verdicts.current, answers, Some(question), application, Some(denial.report_id.clone()));
    Some(denial)
}

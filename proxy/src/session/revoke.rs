//! Requests that are open while the policy changes, where each can be ended without the others.
//!
//! A stream of HTTP/2 that is not allowed any more ends alone: its client is told as for a denial, its server that nobody
//! waits, and the connection goes on. Where a protocol answers in order, the whole connection ends instead.

use super::connection::{Connection, End, end};
use super::counters::{COUNTERS, add};
use super::denial::denial;
use bulkhead_facts::Effect;

impl Connection {
    /// Ends what may not go on.
    pub(super) fn revoke_denied(&mut self) -> Result<(), End> {
        let Self { report, verdicts, .. } = self;
        let denied = report.take_denied(|released| {
            released.verdict(verdicts).filter(|answers| answers.enforced.effect == Effect::Deny)
        });
        for (released, answers) in denied {
            add(&COUNTERS.streams_revoked_on_policy_change, 1);
            let question = released.question();
            let about = self.report.about(question.as_ref(), None);
            let denial = denial(&self.verdicts.current.judge, answers.enforced, about);
            let application = self.application();
            let (current, report_id) = (&self.verdicts.current, Some(denial.report_id.clone()));
            self.report.denied(current, answers, question.as_ref(), application, report_id);
            if !self.conversation.revoke(released.exchange, &denial.notice(403)) {
                return Err(End::Reset);
            }
        }
        self.insert().map_err(end)
    }
}

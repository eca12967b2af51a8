//! How bytes move: read, judged, sent, ended, in both directions, until nothing moves any more.

use super::connection::{Connection, End, Event, Phase, Reading};
use super::counters::{COUNTERS, add};
use super::limits::{LINGER_BYTES_MAX, REPLIES_BYTES_MAX};
use bulkhead_inspect::Side;
use std::task::Context;
use tokio::time::Instant;

impl Connection {
    /// One round. True if something moved.
    pub(super) fn relay(&mut self, context: &mut Context<'_>) -> Result<bool, Event> {
        if let Phase::Lingering { bytes_left, .. } = self.phase {
            return self.linger(bytes_left, context);
        }
        let mut moved = self.relay_client(context)?;
        moved |= self.relay_server(context)?;
        moved |= self.send_replies(context)?;
        moved |= self.pass_on_ends(moved, context)?;
        Ok(moved)
    }

    /// True if another round would find nothing: everything that came was judged and sent, and both sides will wake us. It
    /// spares most rounds a second look at everything.
    pub(super) fn is_quiet(&mut self, context: &mut Context<'_>) -> bool {
        let standing = self.conversation.standing();
        let has_reply = self.has_own_reply() || standing.has_reply;
        let Some(server) = &mut self.server else { return false };
        self.phase == Phase::Open
            && !self.draining
            && !standing.finished
            && !standing.over
            && !has_reply
            && self.client.is_quiet(context)
            && server.is_quiet(context)
    }

    fn relay_client(&mut self, context: &mut Context<'_>) -> Result<bool, Event> {
        let passable = self.passable(Side::Client);
        if self.client.should_splice(passable) && self.server.is_some() {
            return self.splice(Side::Client, passable, context);
        }
        let mut moved = self.client.poll_fill(context).map_err(|_| Event::End(End::Reset))?;
        self.judge_client()?;
        match &mut self.server {
            None if !self.client.inbound.unsent(self.gate).is_empty() => return Err(Event::Dial),
            None => {}
            Some(server) => moved |= server.poll_send(&mut self.client.inbound, self.gate, false, context),
        }
        Ok(moved)
    }

    fn relay_server(&mut self, context: &mut Context<'_>) -> Result<bool, Event> {
        let passable = self.passable(Side::Server);
        let Some(server) = &mut self.server else { return Ok(false) };
        // What the client was to be told before comes before it.
        let told = self.replies.is_empty();
        if told && server.should_splice(passable) {
            return self.splice(Side::Server, passable, context);
        }
        let mut moved = server.poll_fill(context).map_err(|_| Event::End(End::Reset))?;
        self.judge_server()?;
        let end_follows = self.is_over();
        let Some(server) = &mut self.server else { return Ok(moved) };
        if told {
            moved |= self.client.poll_send(&mut server.inbound, self.gate, end_follows, context);
        }
        self.unless_client_broke(moved)
    }

    fn splice(&mut self, side: Side, limit: u64, context: &mut Context<'_>) -> Result<bool, Event> {
        let Some(server) = &mut self.server else { return Ok(false) };
        let result = match side {
            Side::Client => self.client.poll_splice(server, limit, context),
            Side::Server => server.poll_splice(&mut self.client, limit, context),
        };
        let spliced = result.map_err(|_| Event::End(End::Reset))?;
        add(&COUNTERS.spliced_bytes, spliced.taken);
        match side {
            Side::Client => self.report.bytes_to_destination += spliced.taken,
            Side::Server => self.report.bytes_to_source += spliced.taken,
        }
        if self.reading == Reading::Understood {
            self.conversation.passed(side, spliced.taken);
            let (progress, application) = (self.conversation.take_progress(), self.application());
            self.report.progress(progress, application);
        }
        self.unless_client_broke(spliced.taken + spliced.given > 0)
    }

    /// Our own replies, in their turn: several at a time, since whoever asks for many asks with little.
    fn send_replies(&mut self, context: &mut Context<'_>) -> Result<bool, Event> {
        let mut moved = false;
        while self.takes_reply()
            && let Some(reply) = self.conversation.reply()
        {
            self.replies.extend_from_slice(reply);
            self.replies_end = !self.conversation.replied();
            moved = true;
            if !self.replies_end {
                self.judge_client()?;
            }
        }
        if !self.replies.is_empty()
            && let Some(count) = self.client.poll_send_bytes(&self.replies, context)
        {
            self.replies.drain(..count.min(self.replies.len()));
            moved = true;
        }
        if self.replies_end && self.replies.is_empty() {
            self.replies_end = false;
            self.start_lingering(context);
        }
        self.unless_client_broke(moved)
    }

    /// True if everything before the next reply has left, and there is room for it.
    fn takes_reply(&self) -> bool {
        !self.replies_end
            && self.replies.len() < REPLIES_BYTES_MAX
            && self.server.as_ref().is_none_or(|server| server.is_flushed(self.gate))
    }

    /// An end of one side becomes an end for the other, once everything before it is through.
    fn pass_on_ends(&mut self, moves: bool, context: &mut Context<'_>) -> Result<bool, Event> {
        if self.phase != Phase::Open {
            return Ok(true);
        }
        if !self.replies.is_empty() {
            return Ok(false);
        }
        if self.draining && self.is_at_rest() {
            return Err(Event::End(End::Closed));
        }
        let mut moved = false;
        if self.client.ended && self.client_is_through()? {
            match &mut self.server {
                None => return Err(Event::End(End::Closed)),
                Some(server) if !server.shut => {
                    server.shut(context);
                    moved = true;
                }
                Some(_) => {}
            }
        }
        // Nothing below changes it before it is asked for the last time.
        let standing = self.conversation.standing();
        if standing.finished {
            return self.close_finished(context);
        }
        if self.gate && standing.answered_early && self.conversation.outstanding() == 0 {
            moved |= self.tell_end(context);
        }
        if standing.over && self.is_over() && self.client.is_flushed(true) {
            return self.close_over(moves, context);
        }
        let understood = self.gate && self.reading == Reading::Understood;
        let idle = standing.idle && self.conversation.is_inspected();
        let Some(server) = &mut self.server else { return Ok(moved) };
        if understood && idle && server.shut && server.is_flushed(true) {
            return Err(Event::End(End::Closed));
        }
        if !server.ended || !server.is_flushed(self.gate) {
            return Ok(moved);
        }
        if understood {
            if standing.in_response || !server.inbound.unjudged().is_empty() {
                return Err(Event::End(End::Reset));
            }
            self.start_lingering(context);
            return Ok(true);
        }
        if !self.client.shut {
            self.client.shut(context);
            moved = true;
        }
        if self.client.ended && server.shut { Err(Event::End(End::Closed)) } else { Ok(moved) }
    }

    /// True if the client said of its last request that nothing follows, and has its answer, or will have.
    fn is_over(&self) -> bool {
        self.gate
            && self.reading == Reading::Understood
            && self.phase == Phase::Open
            && self.conversation.standing().over
            && self.client.inbound.is_empty()
    }

    /// The client has been promised nothing more, and has promised to say nothing more: it need not be waited for. It is told
    /// by the packet that carries the end of the answer, unless the server takes its time to end. What the server says still
    /// is seen, and refused.
    fn close_over(&mut self, moves: bool, context: &mut Context<'_>) -> Result<bool, Event> {
        let Some(server) = &mut self.server else { return Ok(false) };
        let ended = server.ended || self.client.ended;
        if !server.is_flushed(true) || moves && !ended {
            return Ok(false);
        }
        if ended && self.client.has_nothing_to_read(context) {
            return Err(Event::End(End::Closed));
        }
        if ended {
            self.start_lingering(context);
            return Ok(true);
        }
        let told = self.client.shut;
        if !told {
            self.finished_since = Some(Instant::now());
            self.client.shut(context);
        }
        Ok(!told)
    }

    /// The last answer is through, and what is left of its request is dropped as it comes: a client that waits for it, or that
    /// sends no body after all, is not to use the connection again.
    fn tell_end(&mut self, context: &mut Context<'_>) -> bool {
        let through = self.server.as_ref().is_some_and(|server| server.is_flushed(true)) && !self.client.shut;
        if through {
            self.client.shut(context);
        }
        through
    }

    /// Both sides are told that nothing follows. What the server says still is seen, and refused.
    fn close_finished(&mut self, context: &mut Context<'_>) -> Result<bool, Event> {
        let Some(server) = &mut self.server else { return Err(Event::End(End::Closed)) };
        self.client.inbound.drop_unjudged();
        if !server.is_flushed(true) || !self.client.is_flushed(true) {
            return Ok(false);
        }
        if server.ended {
            self.start_lingering(context);
            return Ok(true);
        }
        let moved = self.finished_since.is_none();
        if moved {
            self.finished_since = Some(Instant::now());
            server.shut(context);
            self.client.shut(context);
        }
        Ok(moved)
    }

    /// True between two requests, and before the first byte.
    fn is_at_rest(&self) -> bool {
        self.reading == Reading::Understood
            && self.conversation.standing().idle
            && self.client.inbound.is_empty()
            && self.client.is_flushed(self.gate)
            && self.server.as_ref().is_none_or(|server| server.inbound.is_empty() && !server.holds_in_pipe())
    }

    /// True if everything that the client will ever send was judged and sent. Half a head is dropped.
    fn client_is_through(&mut self) -> Result<bool, Event> {
        if self.conversation.protocol().is_none() && !self.client.inbound.unjudged().is_empty() {
            self.conversation.give_up_detection();
        }
        // What became readable in this round, for example after a reply of ours.
        self.judge_client()?;
        let standing = self.conversation.standing();
        if self.gate && self.has_reply() {
            return Ok(false);
        }
        if !self.client.inbound.unjudged().is_empty() {
            if self.gate && (standing.waits_for_server || self.judging_waits()) {
                return Ok(false);
            }
            if self.gate {
                self.client.inbound.drop_unjudged();
            } else {
                self.report.bytes_to_destination += self.client.inbound.approve_all();
            }
        }
        Ok(self.client.is_flushed(self.gate))
    }

    fn start_lingering(&mut self, context: &mut Context<'_>) {
        self.client.shut(context);
        self.server = None;
        self.phase = Phase::Lingering { since: Instant::now(), bytes_left: LINGER_BYTES_MAX };
    }

    /// Reads and drops, so that a reset for unread bytes does not overtake our last words.
    fn linger(&mut self, bytes_left: usize, context: &mut Context<'_>) -> Result<bool, Event> {
        self.client.inbound.approve_all();
        self.client.inbound.drop_unsent();
        let moved = self.client.poll_fill(context).map_err(|_| Event::End(End::Closed))?;
        let left = bytes_left.saturating_sub(self.client.inbound.unjudged().len());
        if self.client.ended || left == 0 {
            return Err(Event::End(End::Closed));
        }
        if let Phase::Lingering { bytes_left, .. } = &mut self.phase {
            *bytes_left = left;
        }
        Ok(moved)
    }

    fn passable(&self, side: Side) -> u64 {
        match self.reading {
            Reading::Understood => self.conversation.passable(side),
            Reading::Opaque | Reading::Lost => u64::MAX,
        }
    }

    fn unless_client_broke(&self, moved: bool) -> Result<bool, Event> {
        if self.client.broken { Err(Event::End(End::Reset)) } else { Ok(moved) }
    }
}

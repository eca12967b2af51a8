//! What the kernel tier let through and refused, turned into observations.
//!
//! Connections come from a periodic dump, and as events when they end, which may be told minutes late; each is
//! counted once and its bytes as they grow. What is opened and cut between two dumps is told as a denial only. Denials come as exact counts per edge; logged packets only add who sent.
//! Answers are those of the program that marked the flow. Inspected flows and our own legs never get here: their
//! sessions report them.
//!
//! Pure but for the lock: the caller reads the kernel and the clock.

use super::{Observation, Recorder};
use crate::firewall::{Answers, Denials, DeniedEdge, DeniedPacket, KernelFlow, Mark, MarkedAnswer};
use crate::limits::{DENIAL_DETAILS_MAX, DENIED_EDGES_WAITING_MAX, KERNEL_FLOWS_TRACKED_MAX};
use bulkhead_facts::{Direction, Effect, L4Protocol, Reason};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, Answer, AnswerPair};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Turns what the kernel tells into observations.
pub struct KernelFlows {
    recorder: Arc<Recorder>,
    pod_addresses: Vec<IpAddr>,
    answers: Answers,
    state: Mutex<State>,
}

struct State {
    current: Arc<Judge>,
    connections: HashMap<u32, Tracked>,
    dumps: u64,
    details: HashMap<Edge, Detail>,
    /// Denials that found no room in the report, by edge and mark.
    waiting: HashMap<(Edge, u32), DeniedEdge>,
}

/// Who talks to whom.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Edge {
    direction: Direction,
    peer: IpAddr,
    protocol: L4Protocol,
    port: u16,
}

/// What a logged packet adds to a denial.
#[derive(Clone, Copy)]
struct Detail {
    local: IpAddr,
    sender_uid: Option<u32>,
}

#[derive(Clone, Copy)]
struct Tracked {
    mark: Mark,
    bytes_to_destination: u64,
    bytes_to_source: u64,
    packets: u64,
    seen_in_dump: u64,
}

impl KernelFlows {
    /// For a pod with these addresses. `answers` knows what marks say, `closed` answers until there is a program.
    pub fn new(
        recorder: Arc<Recorder>,
        pod_addresses: Vec<IpAddr>,
        answers: Answers,
        closed: Arc<Judge>,
    ) -> Self {
        let state = State {
            current: closed,
            connections: HashMap::new(),
            dumps: 0,
            details: HashMap::new(),
            waiting: HashMap::new(),
        };
        Self { recorder, pod_addresses, answers, state: Mutex::new(state) }
    }

    /// Another program is in force: it answers where a mark does not.
    pub fn replace_program(&self, judge: Arc<Judge>) {
        self.state().current = judge;
    }

    /// A connection has ended.
    pub fn ended(&self, flow: &KernelFlow, now_ms: u64) {
        let state = &mut *self.state();
        let known = state.connections.remove(&flow.id);
        let Some(mark) = known.map(|known| known.mark).or(flow.mark) else { return };
        let grown = grown_since(flow, known.as_ref());
        self.count(state, flow, mark, u64::from(known.is_none()), grown, now_ms);
        self.count_packets(state, flow, mark, known.as_ref());
    }

    /// Every connection that is open now. The first dump finds those of a sidecar before: they are not counted again.
    pub fn dumped(&self, flows: &[KernelFlow], now_ms: u64) {
        let state = &mut *self.state();
        let is_first = state.dumps == 0;
        state.dumps += 1;
        for flow in flows {
            self.seen(state, flow, is_first, now_ms);
        }
        let current = state.dumps;
        state.connections.retain(|_, tracked| tracked.seen_in_dump + 1 >= current);
    }

    /// A denied packet was logged. What it tells waits for the counts; a frame is in no count and is one itself.
    pub fn denial_logged(&self, packet: &DeniedPacket, now_ms: u64) {
        let state = &mut *self.state();
        let edge = Edge::of_packet(packet);
        let detail = Detail { local: packet.local, sender_uid: packet.sender_uid };
        if packet.is_frame {
            let observation = Observation {
                count: 1,
                sender_uid: packet.sender_uid,
                ..observed(edge, packet.local, refused(Reason::InvalidPacket))
            };
            self.recorder.record_at(&state.current, observation, now_ms);
        } else if state.details.len() < DENIAL_DETAILS_MAX || state.details.contains_key(&edge) {
            state.details.insert(edge, detail);
        }
    }

    /// What was denied since the call before. What finds no room in the report is told by a later call.
    pub fn denied(&self, denials: &Denials, now_ms: u64) {
        let state = &mut *self.state();
        let mut untold = std::mem::take(&mut state.waiting);
        for denied in &denials.edges {
            add_denied(&mut untold, denied);
        }
        for (key, denied) in untold {
            match self.report_denial(state, &denied, now_ms) {
                true => {}
                false if state.waiting.len() < DENIED_EDGES_WAITING_MAX => {
                    state.waiting.insert(key, denied);
                }
                false => self.recorder.give_up(denied.packets),
            }
        }
        state.details.clear();
    }

    fn seen(&self, state: &mut State, flow: &KernelFlow, is_first: bool, now_ms: u64) {
        let known = state.connections.get(&flow.id).copied();
        let Some(mark) = flow.mark.or(known.map(|known| known.mark)) else { return };
        if known.is_none() && state.connections.len() >= KERNEL_FLOWS_TRACKED_MAX {
            return;
        }
        let tracked = Tracked {
            mark,
            bytes_to_destination: flow.bytes_to_destination,
            bytes_to_source: flow.bytes_to_source,
            packets: packets(flow),
            seen_in_dump: state.dumps,
        };
        state.connections.insert(flow.id, tracked);
        let grown = grown_since(flow, known.as_ref());
        let is_of_a_sidecar_before = known.is_none() && is_first;
        if !is_of_a_sidecar_before && (known.is_none() || grown != [0, 0]) {
            self.count(state, flow, mark, u64::from(known.is_none()), grown, now_ms);
            self.count_packets(state, flow, mark, known.as_ref());
        }
    }

    fn count_packets(&self, state: &State, flow: &KernelFlow, mark: Mark, known: Option<&Tracked>) {
        let (judge, answers) = state.answers(self.answers.of(mark.bits()), Edge::of_flow(flow));
        let grown = packets(flow).saturating_sub(known.map_or(0, |known| known.packets));
        self.recorder.packets(&judge, flow.direction, passed(answers).enforced, grown);
    }

    fn count(&self, state: &State, flow: &KernelFlow, mark: Mark, count: u64, grown: [u64; 2], now_ms: u64) {
        let edge = Edge::of_flow(flow);
        let (judge, answers) = state.answers(self.answers.of(mark.bits()), edge);
        let answers = passed(answers);
        let observation = Observation {
            count,
            bytes_to_destination: grown[0],
            bytes_to_source: grown[1],
            ..observed(edge, flow.local, answers)
        };
        self.recorder.record_at(&judge, observation, now_ms);
    }

    fn report_denial(&self, state: &State, denied: &DeniedEdge, now_ms: u64) -> bool {
        let edge = Edge::of_denial(denied);
        let detail = state.details.get(&edge);
        let (judge, answers) = state.answers(denied.answer.clone(), edge);
        let local = detail.map_or_else(|| self.local_for(denied.peer), |detail| detail.local);
        let observation = Observation {
            count: denied.packets,
            sender_uid: detail.and_then(|detail| detail.sender_uid),
            ..observed(edge, local, never_allowed(answers))
        };
        self.recorder.record_if_room(&judge, observation, now_ms)
    }

    /// The pod's address of the peer's family.
    fn local_for(&self, peer: IpAddr) -> IpAddr {
        let own = self.pod_addresses.iter().find(|address| address.is_ipv4() == peer.is_ipv4());
        own.copied().unwrap_or(match peer {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the mark says, or the program in force where the mark's program is no longer known.
    fn answers(&self, marked: Option<MarkedAnswer>, edge: Edge) -> (Arc<Judge>, AnswerPair) {
        if let Some(marked) = marked {
            return (marked.judge.unwrap_or_else(|| self.current.clone()), marked.answers);
        }
        let id = match self.current.action(edge.direction, edge.peer, edge.protocol, edge.port) {
            Action::Answer(id) | Action::Learn(id) => id,
            Action::Inspect { opaque: id, .. } | Action::Choose { otherwise: id, .. } => id,
        };
        (self.current.clone(), self.current.answer(id))
    }
}

impl Edge {
    fn of_flow(flow: &KernelFlow) -> Self {
        Self { direction: flow.direction, peer: flow.peer, protocol: flow.protocol, port: flow.port }
    }

    fn of_denial(denied: &DeniedEdge) -> Self {
        Self { direction: denied.direction, peer: denied.peer, protocol: denied.protocol, port: denied.port }
    }

    fn of_packet(packet: &DeniedPacket) -> Self {
        Self { direction: packet.direction, peer: packet.peer, protocol: packet.protocol, port: packet.port }
    }
}

fn add_denied(all: &mut HashMap<(Edge, u32), DeniedEdge>, denied: &DeniedEdge) {
    match all.entry((Edge::of_denial(denied), denied.mark)) {
        Entry::Occupied(mut known) => {
            let known = known.get_mut();
            known.packets = known.packets.saturating_add(denied.packets);
            known.bytes = known.bytes.saturating_add(denied.bytes);
        }
        Entry::Vacant(place) => {
            place.insert(denied.clone());
        }
    }
}

fn packets(flow: &KernelFlow) -> u64 {
    flow.packets_to_destination.saturating_add(flow.packets_to_source)
}

fn grown_since(flow: &KernelFlow, known: Option<&Tracked>) -> [u64; 2] {
    let (to_destination, to_source) =
        known.map_or((0, 0), |known| (known.bytes_to_destination, known.bytes_to_source));
    [flow.bytes_to_destination.saturating_sub(to_destination), flow.bytes_to_source.saturating_sub(to_source)]
}

/// The kernel let it pass, so that is what is reported, even where nobody was there to inspect it (`--fail-open`); what
/// should have become of it stays visible in the shadow.
fn passed(answers: AnswerPair) -> AnswerPair {
    AnswerPair { enforced: Answer { effect: Effect::Allow, ..answers.enforced }, ..answers }
}

/// The kernel refused it, so that is what is reported, even if the answer that we find allows by now.
fn never_allowed(answers: AnswerPair) -> AnswerPair {
    match answers.enforced.effect {
        Effect::Deny => answers,
        Effect::Allow => refused(Reason::InvalidPacket),
    }
}

fn refused(reason: Reason) -> AnswerPair {
    let answer = Answer { effect: Effect::Deny, rule: None, reason };
    AnswerPair { enforced: answer, shadow: answer }
}

fn observed(edge: Edge, local: IpAddr, answers: AnswerPair) -> Observation {
    Observation {
        direction: edge.direction,
        peer: edge.peer,
        local,
        protocol: edge.protocol,
        port: edge.port,
        http: None,
        request: None,
        application: "",
        answers,
        bytes_to_destination: 0,
        bytes_to_source: 0,
        sender_uid: None,
        count: 0,
        report_id: None,
        endpoint: None,
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;

//! What the kernel tier let through and refused, turned into observations.
//!
//! Connections come as events (opened, closed) and from a periodic dump, since an end may be told minutes late; each is
//! counted once and its bytes as they grow. Denials come as exact counts per edge; logged packets only add who sent.
//! Answers are looked up in the program that marked the flow. Our own legs are left out: the session that opened them
//! reports the conversation.
//!
//! Pure but for the lock: the caller reads the kernel and the clock.

use super::{Observation, Recorder};
use crate::limits::{DENIAL_DETAILS_MAX, KERNEL_FLOWS_TRACKED_MAX, PROGRAMS_REMEMBERED_MAX};
use bulkhead_facts::{Direction, Effect, L4Protocol, Reason};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, Answer, AnswerId, AnswerPair};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who talks to whom, as the kernel tier knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// Who opened the conversation.
    pub direction: Direction,
    /// The other side.
    pub peer: IpAddr,
    /// Transport protocol.
    pub protocol: L4Protocol,
    /// Destination port; `type << 8 | code` for ICMP.
    pub port: u16,
}

/// The part of a mark that names an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkedAnswer {
    /// Generation of the program.
    pub generation: u16,
    /// Position in its answers.
    pub answer: AnswerId,
}

/// A connection of the kernel tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelConnection {
    /// The kernel's name for it; used again only after its end.
    pub id: u32,
    /// Who talks to whom.
    pub edge: Edge,
    /// The workload's own address.
    pub local: IpAddr,
    /// What admitted it; `None` once it was cut off.
    pub marked: Option<MarkedAnswer>,
    /// Bytes from who opened it, so far.
    pub bytes_to_destination: u64,
    /// Bytes to who opened it, so far.
    pub bytes_to_source: u64,
}

/// What a logged packet adds to a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenialDetail {
    /// The workload's own address.
    pub local: IpAddr,
    /// Answer that the packet was marked with.
    pub marked: Option<MarkedAnswer>,
    /// User of the sending process.
    pub sender_uid: Option<u32>,
}

/// An edge with the packets that were denied on it so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeniedCount {
    /// Who was refused by whom.
    pub edge: Edge,
    /// Packets since the kernel began to count this edge.
    pub packets: u64,
    /// Why, where it was no rule but a guard of the table itself.
    pub reason: Option<Reason>,
}

/// Turns what the kernel tells into observations.
pub struct KernelFlows {
    recorder: Arc<Recorder>,
    pod_addresses: Vec<IpAddr>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    programs: VecDeque<(u16, Arc<Judge>)>,
    connections: HashMap<u32, Tracked>,
    dumps: u64,
    denied: HashMap<(Edge, Option<Reason>), u64>,
    details: HashMap<Edge, DenialDetail>,
}

#[derive(Clone, Copy)]
struct Tracked {
    marked: MarkedAnswer,
    bytes_to_destination: u64,
    bytes_to_source: u64,
    seen_in_dump: u64,
}

impl KernelFlows {
    /// For a pod with these addresses. `closed` answers until the first program is remembered.
    pub fn new(recorder: Arc<Recorder>, pod_addresses: Vec<IpAddr>, closed: Arc<Judge>) -> Self {
        let state = State { programs: VecDeque::from([(0, closed)]), ..State::default() };
        Self { recorder, pod_addresses, state: Mutex::new(state) }
    }

    /// From now on marks of this generation are answered by this program.
    pub fn remember(&self, generation: u16, judge: Arc<Judge>) {
        let mut state = self.state();
        state.programs.retain(|(known, _)| *known != generation);
        state.programs.push_back((generation, judge));
        while state.programs.len() > PROGRAMS_REMEMBERED_MAX {
            state.programs.pop_front();
        }
    }

    /// A connection was admitted.
    pub fn opened(&self, connection: &KernelConnection, now_ms: u64) {
        let state = &mut *self.state();
        let Some(marked) = connection.marked else { return };
        if state.connections.len() >= KERNEL_FLOWS_TRACKED_MAX
            || state.connections.contains_key(&connection.id)
        {
            return;
        }
        let seen_in_dump = state.dumps;
        state
            .connections
            .insert(connection.id, Tracked { seen_in_dump, ..Tracked::from(marked, connection) });
        self.count(state, connection, marked, 1, [0, 0], now_ms);
    }

    /// A connection has ended.
    pub fn closed(&self, connection: &KernelConnection, now_ms: u64) {
        let state = &mut *self.state();
        let known = state.connections.remove(&connection.id);
        let Some(marked) = known.map(|known| known.marked).or(connection.marked) else { return };
        let grown = connection.grown_since(known.as_ref());
        self.count(state, connection, marked, u64::from(known.is_none()), grown, now_ms);
    }

    /// Every connection that is open now. The first dump finds those of a sidecar before: they are not counted again.
    pub fn dumped(&self, connections: &[KernelConnection], now_ms: u64) {
        let state = &mut *self.state();
        let is_first = state.dumps == 0;
        state.dumps += 1;
        for connection in connections {
            self.seen(state, connection, is_first, now_ms);
        }
        let current = state.dumps;
        state.connections.retain(|_, tracked| tracked.seen_in_dump + 1 >= current);
    }

    /// Remembers what a logged packet tells, for the next counts.
    pub fn denial_logged(&self, edge: Edge, detail: DenialDetail) {
        let state = &mut *self.state();
        if state.details.len() < DENIAL_DETAILS_MAX || state.details.contains_key(&edge) {
            state.details.insert(edge, detail);
        }
    }

    /// All denied edges with their counts; what was counted before is not counted again.
    pub fn denied(&self, counts: &[DeniedCount], now_ms: u64) {
        let state = &mut *self.state();
        let before = std::mem::take(&mut state.denied);
        for count in counts {
            let key = (count.edge, count.reason);
            let known = before.get(&key).copied().unwrap_or(0);
            // Fewer than before: the kernel forgot the edge in between and began anew.
            let packets = count.packets.checked_sub(known).unwrap_or(count.packets);
            state.denied.insert(key, count.packets);
            if packets > 0 {
                self.report_denial(state, count, packets, now_ms);
            }
        }
        state.details.clear();
    }

    fn seen(&self, state: &mut State, connection: &KernelConnection, is_first: bool, now_ms: u64) {
        let current = state.dumps;
        if let Some(known) = state.connections.get_mut(&connection.id) {
            let grown = connection.grown_since(Some(known));
            let marked = connection.marked.unwrap_or(known.marked);
            *known = Tracked { seen_in_dump: current, ..Tracked::from(marked, connection) };
            if grown != [0, 0] {
                self.count(state, connection, marked, 0, grown, now_ms);
            }
            return;
        }
        let Some(marked) = connection.marked else { return };
        if state.connections.len() >= KERNEL_FLOWS_TRACKED_MAX {
            return;
        }
        let tracked = Tracked { seen_in_dump: current, ..Tracked::from(marked, connection) };
        state.connections.insert(connection.id, tracked);
        if !is_first {
            self.count(state, connection, marked, 1, connection.grown_since(None), now_ms);
        }
    }

    fn count(
        &self,
        state: &State,
        connection: &KernelConnection,
        marked: MarkedAnswer,
        count: u64,
        grown: [u64; 2],
        now_ms: u64,
    ) {
        let (judge, answers) = state.answers(Some(marked), &connection.edge);
        let observation = Observation {
            count,
            bytes_to_destination: grown[0],
            bytes_to_source: grown[1],
            ..observed(connection.edge, connection.local, answers)
        };
        self.recorder.record_at(judge, observation, now_ms);
    }

    fn report_denial(&self, state: &State, count: &DeniedCount, packets: u64, now_ms: u64) {
        let detail = state.details.get(&count.edge);
        let (judge, answers) = state.answers(detail.and_then(|detail| detail.marked), &count.edge);
        let observation = Observation {
            count: packets,
            sender_uid: detail.and_then(|detail| detail.sender_uid),
            ..observed(
                count.edge,
                detail.map_or_else(|| self.local_for(count.edge.peer), |detail| detail.local),
                denied_answers(answers, count.reason),
            )
        };
        self.recorder.record_at(judge, observation, now_ms);
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
    /// What the program that marked it says, or the newest one if that is no longer known.
    fn answers(&self, marked: Option<MarkedAnswer>, edge: &Edge) -> (&Judge, AnswerPair) {
        let by_mark = marked.and_then(|marked| {
            let (_, judge) = self.programs.iter().find(|(generation, _)| *generation == marked.generation)?;
            Some((judge.as_ref(), judge.answer(marked.answer)))
        });
        by_mark.unwrap_or_else(|| {
            // INVARIANT: there is always a program, the closed one if nothing else.
            let judge = &self.programs[self.programs.len() - 1].1;
            let id = match judge.action(edge.direction, edge.peer, edge.protocol, edge.port) {
                Action::Answer(id) | Action::Learn(id) => id,
                Action::Inspect { opaque, .. } => opaque,
            };
            (judge.as_ref(), judge.answer(id))
        })
    }
}

impl Tracked {
    fn from(marked: MarkedAnswer, connection: &KernelConnection) -> Self {
        Self {
            marked,
            bytes_to_destination: connection.bytes_to_destination,
            bytes_to_source: connection.bytes_to_source,
            seen_in_dump: 0,
        }
    }
}

impl KernelConnection {
    fn grown_since(&self, known: Option<&Tracked>) -> [u64; 2] {
        let (to_destination, to_source) =
            known.map_or((0, 0), |known| (known.bytes_to_destination, known.bytes_to_source));
        [
            self.bytes_to_destination.saturating_sub(to_destination),
            self.bytes_to_source.saturating_sub(to_source),
        ]
    }
}

/// The kernel refused it, so that is what is reported, even if a rule would have allowed it: then it was a guard of the
/// table, and the reason is the guard's.
fn denied_answers(answers: AnswerPair, reason: Option<Reason>) -> AnswerPair {
    let guard = |reason| Answer { effect: Effect::Deny, rule: None, reason };
    match (reason, answers.enforced.effect) {
        (Some(reason), _) => AnswerPair { enforced: guard(reason), shadow: guard(reason) },
        (None, Effect::Deny) => answers,
        (None, Effect::Allow) => {
            let denied = guard(Reason::InvalidPacket);
            AnswerPair { enforced: denied, shadow: denied }
        }
    }
}

fn observed(edge: Edge, local: IpAddr, answers: AnswerPair) -> Observation {
    Observation {
        direction: edge.direction,
        peer: edge.peer,
        local,
        protocol: edge.protocol,
        port: edge.port,
        http: None,
        application: "",
        answers,
        bytes_to_destination: 0,
        bytes_to_source: 0,
        sender_uid: None,
        count: 0,
        report_id: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::test_program;
    use bulkhead_api::Flow;

    const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    fn kernel() -> (KernelFlows, Arc<Recorder>) {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let recorder = Arc::new(Recorder::new(metrics));
        let closed = Arc::new(Judge::new(test_program::allowing_nothing(0)).expect("valid"));
        let kernel = KernelFlows::new(recorder.clone(), vec![POD], closed);
        kernel
            .remember(1, Arc::new(Judge::new(test_program::allowing_egress_to(DATABASE, 8)).expect("valid")));
        (kernel, recorder)
    }

    fn flows(recorder: &Recorder) -> Vec<Flow> {
        recorder.make_batch();
        recorder.next_batch().map(|batch| batch.flows).unwrap_or_default()
    }

    /// Connections, bytes to destination, bytes to source of all flows.
    fn sums(recorder: &Recorder) -> (u64, u64, u64) {
        flows(recorder).iter().fold((0, 0, 0), |sum, flow| {
            (sum.0 + flow.count, sum.1 + flow.bytes_to_destination, sum.2 + flow.bytes_to_source)
        })
    }

    fn edge() -> Edge {
        Edge { direction: Direction::Egress, peer: DATABASE.into(), protocol: L4Protocol::TCP, port: 5432 }
    }

    fn connection(id: u32, bytes: u64) -> KernelConnection {
        KernelConnection {
            id,
            edge: edge(),
            local: POD,
            marked: Some(MarkedAnswer { generation: 1, answer: AnswerId(1) }),
            bytes_to_destination: bytes,
            bytes_to_source: bytes * 10,
        }
    }

    #[test]
    fn a_connection_is_counted_once_and_its_bytes_as_they_grow() {
        let (kernel, recorder) = kernel();
        kernel.dumped(&[], 0);
        kernel.opened(&connection(1, 0), 1);
        kernel.dumped(&[connection(1, 100)], 2);
        kernel.opened(&connection(1, 0), 3);
        kernel.dumped(&[connection(1, 250)], 4);
        kernel.closed(&connection(1, 300), 5);
        assert_eq!(sums(&recorder), (1, 300, 3_000));
    }

    #[test]
    fn a_connection_whose_opening_was_lost_is_found_by_the_dump_or_the_end() {
        let (kernel, recorder) = kernel();
        kernel.dumped(&[], 0);
        kernel.dumped(&[connection(1, 100)], 1);
        kernel.closed(&connection(2, 40), 2);
        assert_eq!(sums(&recorder), (2, 140, 1_400));
    }

    #[test]
    fn connections_of_the_sidecar_before_are_not_counted_again() {
        let (kernel, recorder) = kernel();
        kernel.dumped(&[connection(1, 1_000)], 0);
        kernel.dumped(&[connection(1, 1_500)], 1);
        assert_eq!(sums(&recorder), (0, 500, 5_000));
    }

    #[test]
    fn a_connection_that_vanished_without_an_end_is_forgotten() {
        let (kernel, _recorder) = kernel();
        kernel.dumped(&[], 0);
        kernel.opened(&connection(1, 0), 1);
        for now_ms in 2..5 {
            kernel.dumped(&[], now_ms);
        }
        assert!(kernel.state().connections.is_empty());
    }

    #[test]
    fn a_flow_names_the_program_that_admitted_it() {
        let (kernel, recorder) = kernel();
        kernel.opened(&connection(1, 0), 1);
        kernel.remember(2, Arc::new(Judge::new(test_program::allowing_nothing(9)).expect("valid")));
        kernel.closed(&KernelConnection { marked: None, ..connection(1, 5) }, 2);
        let flows = flows(&recorder);
        assert_eq!(flows.len(), 1);
        assert_eq!((flows[0].revision, flows[0].enforced.effect), (8, Effect::Allow));
        assert_eq!(flows[0].enforced.rule.as_ref().expect("a rule").rule, "database");
    }

    #[test]
    fn denied_packets_are_counted_exactly_also_after_the_kernel_forgot() {
        let (kernel, recorder) = kernel();
        let denied = |port, packets| DeniedCount { edge: Edge { port, ..edge() }, packets, reason: None };
        kernel.denied(&[denied(22, 3), denied(23, 1)], 1);
        kernel.denied(&[denied(22, 5)], 2);
        kernel.denied(&[denied(22, 2), denied(23, 1)], 3);
        let mut counts: Vec<_> = flows(&recorder).iter().map(|flow| (flow.port, flow.count)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [(22, 7), (23, 2)]);
    }

    #[test]
    fn a_logged_packet_adds_its_sender_and_rule() {
        let (kernel, recorder) = kernel();
        let local: IpAddr = Ipv4Addr::new(10, 0, 0, 77).into();
        let marked = Some(MarkedAnswer { generation: 1, answer: AnswerId(0) });
        kernel.denial_logged(edge(), DenialDetail { local, marked, sender_uid: Some(1_000) });
        kernel.denied(&[DeniedCount { edge: edge(), packets: 2, reason: None }], 1);
        let flows = flows(&recorder);
        assert_eq!((flows[0].sender_uid, flows[0].local, flows[0].count), (Some(1_000), local, 2));
        assert_eq!(flows[0].enforced.reason, Reason::NoRule);
    }

    #[test]
    fn a_guard_of_the_table_is_never_reported_as_allowed() {
        let (kernel, recorder) = kernel();
        let reason = Some(Reason::SidecarPort);
        kernel.denied(&[DeniedCount { edge: edge(), packets: 1, reason }], 1);
        kernel.denied(&[DeniedCount { edge: edge(), packets: 1, reason: None }], 2);
        let mut answers: Vec<_> =
            flows(&recorder).iter().map(|flow| (flow.enforced.effect, flow.enforced.reason)).collect();
        answers.sort_unstable();
        assert_eq!(answers, [(Effect::Deny, Reason::SidecarPort), (Effect::Deny, Reason::InvalidPacket)]);
    }

    #[test]
    fn before_the_first_program_denials_say_that_there_is_none() {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let recorder = Arc::new(Recorder::new(metrics));
        let kernel = KernelFlows::new(recorder.clone(), vec![POD], crate::policy::closed());
        kernel.denied(&[DeniedCount { edge: edge(), packets: 4, reason: None }], 1);
        let flows = flows(&recorder);
        assert_eq!((flows[0].enforced.reason, flows[0].revision, flows[0].local), (Reason::NoPolicy, 0, POD));
    }
}

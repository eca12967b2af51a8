//! Kernel flows and denials as the controller will see them.

use super::*;
use crate::firewall::Class;
use crate::limits::FLOW_ENTRIES_MAX;
use crate::metrics::Metrics;
use crate::policy;
use crate::test_program;
use bulkhead_api::Flow;
use bulkhead_policies::program::AnswerId;

const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

fn judge(revision: u64) -> Arc<Judge> {
    Arc::new(Judge::new(test_program::allowing_egress_to(DATABASE, revision)).expect("valid"))
}

/// With the program of revision 8 under generation 1.
fn kernel() -> (KernelFlows, Arc<Recorder>) {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let recorder = Arc::new(Recorder::new(metrics));
    let answers = Answers::default();
    answers.remember(1, judge(8));
    let kernel = KernelFlows::new(recorder.clone(), vec![POD], answers, policy::closed());
    kernel.replace_program(judge(8));
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

fn connection(id: u32, bytes: u64) -> KernelFlow {
    KernelFlow {
        id,
        direction: Direction::Egress,
        peer: DATABASE.into(),
        local: POD,
        protocol: L4Protocol::TCP,
        port: 5432,
        mark: Some(Mark { generation: 1, class: Class::KernelAllow, answer: AnswerId(1) }),
        packets_to_destination: 1,
        bytes_to_destination: bytes,
        packets_to_source: 1,
        bytes_to_source: bytes * 10,
    }
}

fn ended(kernel: &KernelFlows, flow: KernelFlow) {
    kernel.ended(&flow, 9);
}

fn denied(kernel: &KernelFlows, port: u16, packets: u64, mark: u32) {
    let edge = DeniedEdge {
        direction: Direction::Egress,
        peer: DATABASE.into(),
        protocol: L4Protocol::TCP,
        port,
        mark,
        answer: kernel.answers.of(mark),
        packets,
        bytes: packets * 60,
    };
    kernel.denied(&Denials { edges: vec![edge], overflowed: 0 }, 1);
}

fn logged(local: IpAddr, is_frame: bool) -> DeniedPacket {
    DeniedPacket {
        direction: Direction::Egress,
        peer: DATABASE.into(),
        local,
        protocol: L4Protocol::TCP,
        port: 22,
        source_port: Some(40_000),
        sender_uid: Some(1_000),
        is_frame,
        answer: None,
    }
}

/// Nothing matched, under generation 1.
const NO_RULE: u32 = Mark::nothing_matched(1);

#[test]
fn a_connection_is_counted_once_and_its_bytes_as_they_grow() {
    let (kernel, recorder) = kernel();
    kernel.dumped(&[], 0);
    kernel.dumped(&[connection(1, 0)], 1);
    kernel.dumped(&[connection(1, 100)], 2);
    kernel.dumped(&[connection(1, 250)], 4);
    ended(&kernel, connection(1, 300));
    assert_eq!(sums(&recorder), (1, 300, 3_000));
}

#[test]
fn a_connection_is_found_by_the_dump_or_by_its_end() {
    let (kernel, recorder) = kernel();
    kernel.dumped(&[], 0);
    kernel.dumped(&[connection(1, 100)], 1);
    ended(&kernel, connection(2, 40));
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
    kernel.dumped(&[connection(1, 0)], 1);
    for now_ms in 2..5 {
        kernel.dumped(&[], now_ms);
    }
    assert!(kernel.state().connections.is_empty());
}

#[test]
fn a_flow_names_the_program_that_admitted_it_also_when_it_was_cut() {
    let (kernel, recorder) = kernel();
    kernel.dumped(&[], 0);
    kernel.dumped(&[connection(1, 0)], 1);
    kernel.replace_program(judge(9));
    ended(&kernel, KernelFlow { mark: None, ..connection(1, 5) });
    let flows = flows(&recorder);
    assert_eq!(flows.len(), 1);
    assert_eq!((flows[0].revision, flows[0].enforced.effect), (8, Effect::Allow));
    assert_eq!(flows[0].enforced.rule.as_ref().expect("a rule").rule, "database");
}

#[test]
fn a_logged_packet_adds_its_sender_to_the_exact_count() {
    let (kernel, recorder) = kernel();
    let local: IpAddr = Ipv4Addr::new(10, 0, 0, 77).into();
    kernel.denial_logged(&logged(local, false), 1);
    denied(&kernel, 22, 7, NO_RULE);
    let flows = flows(&recorder);
    assert_eq!((flows[0].sender_uid, flows[0].local, flows[0].count), (Some(1_000), local, 7));
    assert_eq!((flows[0].enforced.reason, flows[0].revision), (Reason::NoRule, 8));
}

#[test]
fn denials_that_find_no_room_in_the_report_are_told_later() {
    let (kernel, recorder) = kernel();
    let ports = u16::try_from(FLOW_ENTRIES_MAX).expect("a port") + 1_000;
    for port in 0..ports {
        denied(&kernel, port, 2, NO_RULE);
    }
    denied(&kernel, 0, 1, NO_RULE);
    let mut told = 0;
    while told < 2 * u64::from(ports) + 1 {
        recorder.make_batch();
        let batch = recorder.next_batch().expect("all is told in the end");
        assert_eq!(batch.dropped, 0);
        told += batch.flows.iter().map(|flow| flow.count).sum::<u64>();
        recorder.acknowledge(batch.sequence);
        kernel.denied(&Denials::default(), 2);
    }
    assert_eq!(told, 2 * u64::from(ports) + 1);
    assert!(kernel.state().waiting.is_empty());
}

#[test]
fn a_frame_that_no_rule_saw_is_reported_by_itself() {
    let (kernel, recorder) = kernel();
    kernel.denial_logged(&logged(POD, true), 1);
    let flows = flows(&recorder);
    assert_eq!((flows[0].count, flows[0].enforced.reason), (1, Reason::InvalidPacket));
}

#[test]
fn what_the_kernel_refused_is_never_reported_as_allowed() {
    let (kernel, recorder) = kernel();
    denied(&kernel, 5432, 1, 0xfff0_0001);
    let flows = flows(&recorder);
    assert_eq!((flows[0].enforced.effect, flows[0].enforced.reason), (Effect::Deny, Reason::InvalidPacket));
    assert_eq!(flows[0].local, POD);
}

#[test]
fn before_the_first_program_denials_say_that_there_is_none() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let recorder = Arc::new(Recorder::new(metrics));
    let kernel = KernelFlows::new(recorder.clone(), vec![POD], Answers::default(), policy::closed());
    denied(&kernel, 22, 4, 0);
    let flows = flows(&recorder);
    assert_eq!((flows[0].enforced.reason, flows[0].revision, flows[0].count), (Reason::NoPolicy, 0, 4));
}

//! Connections to name servers, over real sockets, while programs change.

use super::{Dns, QuestionJudge, is_for_us, random_identifier, serve_stream};
use crate::advisory::Advisory;
use crate::drain::Stage;
use crate::enforcement::{self, Enforcement, Pulse};
use crate::flows::Recorder;
use crate::intercept::Sockets;
use crate::metrics::Metrics;
use crate::policy::{Current, NamedClasses};
use crate::session::{Dial, Ends};
use crate::test_program::allowing_egress_to;
use bulkhead_facts::{Direction, Effect, PortRange};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::{DnsMatch, L7Section};
use bulkhead_policies::program::{
    Action, AnswerId, Choice, ChoiceId, Endpoint, L7Chain, L7ChainId, L7Entry, L7Stage, RuleIndex,
};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// What whoever listens at the test's own address stands for.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PATIENCE: Duration = Duration::from_secs(10);
/// No question, nor the beginning of one.
const OTHER: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n";

struct To(SocketAddr);

impl Dial for To {
    async fn dial(&self, _: Ends) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

/// A program with this action for the name server. Its chains let nothing pass, and every question.
pub(super) fn program(revision: u64, action: Action) -> Arc<Current> {
    let mut program = allowing_egress_to(SERVER, revision);
    program.l7_chains =
        [0, 1].map(|end| L7Chain { enforced: vec![], shadow: vec![], end: AnswerId(end) }).into();
    for open in &mut program.egress.boxes {
        (open.ports, open.action) = (PortRange::new(53, 53).expect("a port"), action);
    }
    let judge = Arc::new(Judge::new(program).expect("valid"));
    Arc::new(Current { judge, generation: 1, named: NamedClasses::default() })
}

/// What questions share; until it is ended.
struct Ground {
    dns: Dns,
    enforcement: Enforcement,
    thread: JoinHandle<()>,
    _stage: watch::Sender<Stage>,
}

impl Ground {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let table = Advisory::new("a test".to_owned());
        let (enforcement, thread) =
            enforcement::start(table, Pulse::default(), metrics.clone()).expect("a thread");
        let (_stage, stage) = watch::channel(Stage::Serving);
        let dns = Dns {
            enforcement: enforcement.clone(),
            sockets: Sockets::unmarked(),
            judge: QuestionJudge {
                recorder: Arc::new(Recorder::new(metrics)),
                internal: Arc::new([]),
                identifier: random_identifier,
            },
            stage,
        };
        Self { dns, enforcement, thread, _stage }
    }

    fn end(self) {
        self.enforcement.stop();
        self.thread.join().expect("no panic");
    }
}

#[tokio::test]
async fn what_is_no_question_goes_on_only_until_a_program_denies_it() {
    let ground = Ground::new();
    let dns = ground.dns.clone();
    let allowed = Action::Answer(AnswerId(1));
    let judged = Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(0) };
    let (programs, policy) = watch::channel(program(1, allowed));

    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listens");
    let ours = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listens");
    let mut client = TcpStream::connect(ours.local_addr().expect("address")).await.expect("connects");
    let (captured, from) = ours.accept().await.expect("a client");
    let (ends, to) =
        (Ends { client: from, destination: (SERVER, 53).into() }, To(server.local_addr().expect("address")));
    let served = tokio::spawn(async move {
        serve_stream(&dns, Direction::Egress, captured, ends, policy, &to).await;
    });
    let (mut other, _) = server.accept().await.expect("dialled");
    let mut buffer = [0; 64];
    for revision in 1..=2 {
        client.write_all(OTHER).await.expect("sent");
        let arrived = timeout(PATIENCE, other.read_exact(&mut buffer[..OTHER.len()])).await.expect("in time");
        assert_eq!((arrived.expect("passes"), &buffer[..OTHER.len()]), (OTHER.len(), OTHER));
        programs.send_replace(program(revision + 1, allowed));
    }
    programs.send_replace(program(4, judged));
    timeout(PATIENCE, served).await.expect("in time").expect("no panic");
    for end in [&mut client, &mut other] {
        let error = end.read(&mut buffer).await.expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    ground.end();
}

/// Dials where it is told to.
struct AsTold;

impl Dial for AsTold {
    async fn dial(&self, ends: Ends) -> io::Result<TcpStream> {
        TcpStream::connect(ends.destination).await
    }
}

/// A Service that leads to these, at each of which every question may be asked.
fn service(endpoints: &[SocketAddr]) -> Arc<Current> {
    let mut program = allowing_egress_to(SERVER, 1);
    let section = L7Section::Dns(vec![DnsMatch::default()]);
    let entry = L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section: Some(section) };
    let stage = L7Stage { entries: vec![entry] };
    program.l7_chains = vec![L7Chain { enforced: vec![stage], shadow: vec![], end: AnswerId(0) }];
    let action = Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(0) };
    let mut endpoints: Vec<Endpoint> =
        endpoints.iter().map(|at| Endpoint { address: at.ip(), port: at.port(), action }).collect();
    endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
    program.choices = vec![Choice { endpoints }];
    for open in &mut program.egress.boxes {
        open.ports = PortRange::new(53, 53).expect("a port");
        open.action = Action::Choose { choice: ChoiceId(0), otherwise: AnswerId(0) };
    }
    let judge = Arc::new(Judge::new(program).expect("valid"));
    Arc::new(Current { judge, generation: 1, named: NamedClasses::default() })
}

#[tokio::test]
async fn questions_to_a_service_are_led_to_an_endpoint_that_may_be_asked() {
    let ground = Ground::new();
    let dns = ground.dns.clone();
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listens");
    let endpoint = server.local_addr().expect("address");
    // Bound, and nobody listens: it refuses.
    let taken = TcpSocket::new_v4().expect("a socket");
    taken.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    let refusing = taken.local_addr().expect("address");
    let current = service(&[endpoint, refusing]);
    assert!(is_for_us(&current, Direction::Egress, SERVER.into(), 53));
    assert!(!is_for_us(&program(1, Action::Answer(AnswerId(0))), Direction::Egress, SERVER.into(), 53));
    let (programs, policy) = watch::channel(current);
    let ours = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listens");
    let mut client = TcpStream::connect(ours.local_addr().expect("address")).await.expect("connects");
    let (captured, from) = ours.accept().await.expect("a client");
    let ends = Ends { client: from, destination: (SERVER, 53).into() };
    let served = tokio::spawn(async move {
        serve_stream(&dns, Direction::Egress, captured, ends, policy, &AsTold).await;
    });
    let (mut other, _) = timeout(PATIENCE, server.accept()).await.expect("in time").expect("dialled");
    client
        .write_all(b"\0\x18\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01")
        .await
        .expect("sent");
    let mut message = [0; 26];
    timeout(PATIENCE, other.read_exact(&mut message)).await.expect("in time").expect("asked");
    message[4] |= 0x80;
    other.write_all(&message).await.expect("answered");
    let mut told = [0; 26];
    timeout(PATIENCE, client.read_exact(&mut told)).await.expect("in time").expect("told");
    assert_eq!(told[2..5], [1, 2, 0x81], "under its own identifier");
    ground.dns.judge.recorder.make_batch();
    let batch = ground.dns.judge.recorder.next_batch().expect("a batch");
    let [flow] = &batch.flows[..] else { panic!("{} flows", batch.flows.len()) };
    assert_eq!((flow.peer, flow.endpoint), (SERVER.into(), Some(endpoint)));
    // An endpoint that may not be asked any more.
    programs.send_replace(service(&[refusing]));
    timeout(PATIENCE, served).await.expect("in time").expect("no panic");
    let error = client.read(&mut told).await.expect_err("reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    ground.end();
}

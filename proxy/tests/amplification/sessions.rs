//! Sessions on a thread of their own, under a program that lets through what one section names.

use bulkhead_facts::{Direction, Effect, L4Protocol, Mode, PolicyRef, PortRange, Reason, Tier, WorkloadRef};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::L7Section;
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, ClassId, DirectionProgram, L7Chain, L7ChainId,
    L7Entry, L7Stage, PortBox, Program, RuleIndex, RuleInfo,
};
use bulkhead_proxy::advisory::Advisory;
use bulkhead_proxy::dns::{Dns, QuestionJudge, Way, random_identifier, serve_stream};
use bulkhead_proxy::drain::Stage;
use bulkhead_proxy::enforcement::{self, Pulse};
use bulkhead_proxy::flows::Recorder;
use bulkhead_proxy::intercept::Sockets;
use bulkhead_proxy::metrics::Metrics;
use bulkhead_proxy::policy::Current;
use bulkhead_proxy::session::{Dial, Ends, Shared, serve};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use tokio::sync::watch;

struct To(SocketAddr);

impl Dial for To {
    async fn dial(&self, _: Ends) -> io::Result<tokio::net::TcpStream> {
        tokio::net::TcpStream::connect(self.0).await
    }
}

/// Where sessions to `origin` begin. `begin` is called on their thread.
pub(super) fn start(
    origin: SocketAddr,
    section: L7Section,
    begin: impl FnOnce() + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a socket");
    let dns = matches!(section, L7Section::Dns(_)).then(dns);
    let judge = Arc::new(Judge::new(program(section)).expect("a valid program"));
    thread::spawn(move || {
        begin();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let current = Current { judge, generation: 1, named: Default::default() };
            let (policy, stage) = (watch::channel(Arc::new(current)).0, watch::channel(Stage::Serving).0);
            let recorder = Arc::new(Recorder::new(Arc::new(Metrics::new().expect("metrics"))));
            while let Ok((stream, client)) = listener.accept().await {
                let (policy, recorder, stage) = (policy.subscribe(), recorder.clone(), stage.subscribe());
                let ends = Ends { client, destination: origin };
                if let Some(dns) = dns.clone() {
                    tokio::spawn(async move {
                        serve_stream(&dns, Direction::Ingress, stream, ends, policy, &To(origin)).await;
                    });
                    continue;
                }
                tokio::spawn(async move {
                    let shared = Shared { policy, recorder, stage };
                    serve(Direction::Ingress, stream, ends, shared, &To(origin)).await;
                });
            }
        });
    });
    address
}

/// What decides on questions to name servers; nothing is enforced.
pub(super) fn dns() -> Dns {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let table = Advisory::new("measured".to_owned());
    let (enforcement, _) = enforcement::start(table, Pulse::default(), metrics.clone()).expect("a thread");
    let (sender, stage) = watch::channel(Stage::Serving);
    // As long as the process.
    std::mem::forget(sender);
    let recorder = Arc::new(Recorder::new(metrics));
    let judge = QuestionJudge { recorder, internal: Arc::new([]), identifier: random_identifier };
    Dns { enforcement, sockets: Sockets::unmarked(), judge, stage }
}

/// The same section for questions by UDP that the workload asks.
pub(super) fn by_datagrams(section: L7Section) -> Arc<Current> {
    let mut program = program(section);
    program.rules[0].direction = Direction::Egress;
    for open in &mut program.ingress.boxes {
        (open.protocol_first, open.protocol_last) = (L4Protocol::UDP, L4Protocol::UDP);
    }
    std::mem::swap(&mut program.ingress, &mut program.egress);
    let judge = Arc::new(Judge::new(program).expect("a valid program"));
    Arc::new(Current { judge, generation: 1, named: Default::default() })
}

/// The way of such a question.
pub(super) fn way_to(server: SocketAddr) -> Way {
    Way {
        direction: Direction::Egress,
        peer: server.ip(),
        local: server.ip(),
        protocol: L4Protocol::UDP,
        port: server.port(),
        endpoint: None,
    }
}

/// Only what the section names passes.
pub(super) fn program(section: L7Section) -> Program {
    let denied = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    let policy =
        PolicyRef { kind: "SegmentPolicy".into(), namespace: Some("shop".into()), name: "orders".into() };
    let entry = L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section: Some(section) };
    Program {
        revision: 1,
        workload: WorkloadRef { namespace: "shop".into(), name: "orders".into() },
        collection: None,
        mode: Mode::Enforce,
        rules: vec![RuleInfo {
            tier: Tier::Namespace,
            policy,
            rule: "ok".into(),
            direction: Direction::Ingress,
        }],
        answers: vec![AnswerPair { enforced: denied, shadow: denied }],
        l7_chains: vec![L7Chain {
            enforced: vec![L7Stage { entries: vec![entry] }],
            shadow: Vec::new(),
            end: AnswerId(0),
        }],
        ingress: DirectionProgram {
            v4: vec![AddressSpan { first: 0, last: u32::MAX, class: ClassId(0) }],
            v6: Vec::new(),
            boxes: vec![PortBox {
                class: ClassId(0),
                protocol_first: L4Protocol::TCP,
                protocol_last: L4Protocol::TCP,
                ports: PortRange::ALL,
                action: Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(0) },
            }],
            named: Vec::new(),
        },
        egress: DirectionProgram::default(),
        names: Vec::new(),
        choices: Vec::new(),
    }
}

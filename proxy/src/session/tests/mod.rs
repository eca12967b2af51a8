//! Sessions between real sockets on loopback: a client, the session, an origin that keeps what it received.

mod change;
mod choices;
mod claims;
mod databases;
mod deadlines;
mod desync;
mod evasion;
mod gate;
mod gate_bodies;
mod grpc;
mod h2spec;
mod http2;
mod http2_agree;
mod http2_change;
mod http2_clients;
mod http2_oracle;
mod kafka_peer;
mod large;
mod names;
mod origin;
mod patient;
mod programs;
mod slow;
mod slow_protocols;
mod tee;
mod tls;
mod websocket;

use super::{Dial, Ends, Shared, serve};
use crate::drain::Stage;
use crate::flows::Recorder;
use crate::metrics::Metrics;
use crate::policy::Current;
use crate::test_program::allowing_nothing;
use bulkhead_api::Flow;
use bulkhead_facts::{Direction, Effect, L4Protocol, PathTemplate, PolicyRef, PortRange, Reason, Tier};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::{HttpMatch, L7Section};
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, ClassId, L7Chain, L7ChainId, L7Entry, L7Stage,
    PortBox, Program, RuleIndex, RuleInfo,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What a program does with every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Requests to `/ok/**` and `/ws` pass, all else is denied.
    Gate,
    /// Requests to `/ok/left/**` pass, all else is denied.
    Narrow,
    /// Everything passes; requests elsewhere than to `/ok/**` and `/ws` would be denied.
    Audit,
    /// Everything passes and is read to learn from it.
    Observe,
    /// Everything passes.
    Open,
    /// Nothing passes.
    Closed,
}

fn program(hold: Hold, direction: Direction) -> Program {
    let denied = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    let allowed = Answer { effect: Effect::Allow, rule: Some(RuleIndex(0)), reason: Reason::AllowedByRule };
    let mismatch = Answer { effect: Effect::Deny, rule: Some(RuleIndex(0)), reason: Reason::L7Mismatch };
    let mut program = allowing_nothing(7);
    program.collection = Some("shop".to_owned());
    program.answers.push(AnswerPair { enforced: allowed, shadow: allowed });
    program.answers.push(AnswerPair { enforced: allowed, shadow: denied });
    program.answers.push(AnswerPair { enforced: mismatch, shadow: mismatch });
    program.rules.push(RuleInfo {
        tier: Tier::Namespace,
        policy: PolicyRef {
            kind: "SegmentPolicy".into(),
            namespace: Some("shop".into()),
            name: "orders".into(),
        },
        rule: "web".into(),
        direction,
    });
    let paths = ["/ok/**", "/ws"]
        .map(|path| HttpMatch { path: PathTemplate::parse(path).ok(), ..HttpMatch::default() });
    let section = match hold {
        Hold::Narrow => {
            vec![HttpMatch { path: PathTemplate::parse("/ok/left/**").ok(), ..HttpMatch::default() }]
        }
        Hold::Gate | Hold::Audit | Hold::Observe | Hold::Open | Hold::Closed => paths.into(),
    };
    let section = Some(L7Section::Http(section));
    let narrow = L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section };
    let wide = L7Entry { section: None, ..narrow.clone() };
    let stage = |entry| vec![L7Stage { entries: vec![entry] }];
    let (action, chain) = match hold {
        Hold::Gate | Hold::Narrow => (
            Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(3) },
            Some(L7Chain { enforced: stage(narrow), shadow: Vec::new(), end: AnswerId(3) }),
        ),
        Hold::Audit => (
            Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(2) },
            Some(L7Chain { enforced: stage(wide), shadow: stage(narrow), end: AnswerId(2) }),
        ),
        Hold::Observe => (Action::Learn(AnswerId(1)), None),
        Hold::Open => (Action::Answer(AnswerId(1)), None),
        Hold::Closed => (Action::Answer(AnswerId(0)), None),
    };
    program.l7_chains.extend(chain);
    let tables = match direction {
        Direction::Ingress => &mut program.ingress,
        Direction::Egress => &mut program.egress,
    };
    tables.v4.push(AddressSpan { first: 0, last: u32::MAX, class: ClassId(0) });
    tables.boxes.push(PortBox {
        class: ClassId(0),
        protocol_first: L4Protocol::TCP,
        protocol_last: L4Protocol::TCP,
        ports: PortRange::ALL,
        action,
    });
    program
}

pub(super) fn current(hold: Hold, direction: Direction) -> Arc<Current> {
    let judge = Judge::new(program(hold, direction)).expect("a valid program");
    Arc::new(Current { judge: Arc::new(judge), generation: 1, named: Default::default() })
}

/// A session's surroundings.
struct Lab {
    direction: Direction,
    policy: watch::Sender<Arc<Current>>,
    recorder: Arc<Recorder>,
    stage: watch::Sender<Stage>,
    destination: SocketAddr,
}

struct To(SocketAddr);

impl Dial for To {
    async fn dial(&self, _: Ends) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

/// A client of a session, and the session.
struct Client {
    stream: TcpStream,
    session: JoinHandle<()>,
}

impl Lab {
    fn new(hold: Hold, direction: Direction, destination: SocketAddr) -> Self {
        Self {
            direction,
            policy: watch::channel(current(hold, direction)).0,
            recorder: Arc::new(Recorder::new(Arc::new(Metrics::new().expect("metrics")))),
            stage: watch::channel(Stage::Serving).0,
            destination,
        }
    }

    /// Inbound, as most of what is tested is the same in both directions.
    fn inbound(hold: Hold, destination: SocketAddr) -> Self {
        Self::new(hold, Direction::Ingress, destination)
    }

    fn change(&self, hold: Hold) {
        self.policy.send_replace(current(hold, self.direction));
    }

    fn shared(&self) -> Shared {
        Shared {
            policy: self.policy.subscribe(),
            recorder: Arc::clone(&self.recorder),
            stage: self.stage.subscribe(),
        }
    }

    async fn connect(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (accepted, peer) = accepted.expect("a connection");
        let ends = Ends { client: peer, destination: self.destination };
        let shared = self.shared();
        let (direction, dial) = (self.direction, To(self.destination));
        let session = tokio::spawn(async move { serve(direction, accepted, ends, shared, &dial).await });
        Client { stream: stream.expect("a connection"), session }
    }

    /// What was reported until now.
    fn flows(&self) -> Vec<Flow> {
        self.recorder.make_batch();
        let Some(batch) = self.recorder.next_batch() else { return Vec::new() };
        self.recorder.acknowledge(batch.sequence);
        batch.flows
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the session reads");
    }

    /// Reads until `count` bytes or the end.
    async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut filled = 0;
        while filled < count {
            let read =
                timeout(PATIENCE, self.stream.read(&mut bytes[filled..])).await.expect("bytes in time");
            match read {
                Ok(0) | Err(_) => break,
                Ok(more) => filled += more,
            }
        }
        bytes.truncate(filled);
        bytes
    }

    /// Reads until the text ends like this.
    async fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let byte = self.read(1).await;
            assert!(!byte.is_empty(), "ended before `{end}`: {}", String::from_utf8_lossy(&text));
            text.extend(byte);
        }
        String::from_utf8(text).expect("text")
    }

    /// Everything until the end, and whether that was orderly.
    async fn read_to_end(&mut self) -> (String, bool) {
        let mut bytes = Vec::new();
        let result = timeout(PATIENCE, self.stream.read_to_end(&mut bytes)).await.expect("an end in time");
        (String::from_utf8_lossy(&bytes).into_owned(), result.is_ok())
    }

    async fn shut(&mut self) {
        self.stream.shutdown().await.expect("an open socket");
    }

    /// Waits until the session is over.
    async fn finish(self) {
        drop(self.stream);
        timeout(PATIENCE, self.session).await.expect("the session ends").expect("no panic");
    }
}

/// One line per flow: what it was, what was answered, how often.
fn lines(flows: &[Flow]) -> Vec<String> {
    let mut lines: Vec<String> = flows.iter().map(line).collect();
    lines.sort();
    lines
}

fn line(flow: &Flow) -> String {
    let what = match &flow.http {
        Some(http) => format!("{} {} {}", http.method, http.path_template, http.status),
        None => flow.application.clone(),
    };
    let (enforced, shadow) = (&flow.enforced, &flow.shadow);
    format!("{what} {}/{} {} x{}", enforced.effect, shadow.effect, enforced.reason, flow.count)
}

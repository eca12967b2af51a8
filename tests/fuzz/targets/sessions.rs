//! The session itself between two sockets, with a client, an origin, the policy and the clock under the fuzzer's hand.
//!
//! Events are those of `session`. Whatever happens it ends once both sides are gone, without a panic; and where something
//! could be denied from the first byte to the last, an origin of HTTP reads no request that no policy allows.
#![no_main]

mod http1_read;
#[path = "../../../proxy/src/session/tests/http2_agree.rs"]
#[allow(dead_code)]
mod http2_agree;
mod session;
#[path = "../../../proxy/tests/amplification/sessions.rs"]
#[allow(dead_code)]
mod sessions;

use bulkhead_facts::{Direction, Effect, PathTemplate, PostgresStatement, Reason};
use bulkhead_inspect::Side;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::{
    HttpMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch,
};
use bulkhead_policies::program::{Action, Answer, AnswerId, AnswerPair, L7Entry, L7Stage, RuleIndex};
use bulkhead_proxy::drain::Stage;
use bulkhead_proxy::flows::Recorder;
use bulkhead_proxy::metrics::Metrics;
use bulkhead_proxy::policy::Current;
use bulkhead_proxy::session::{Dial, Ends, Shared, serve};
use libfuzzer_sys::fuzz_target;
use session::{Event, event};
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{advance, sleep, timeout};

const PROTOCOLS: usize = 5;
/// Policies that deny something, and then those that do not.
const STRICT: usize = 3;
const HOLDS: usize = 5;

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
}

fuzz_target!(|input: &[u8]| {
    let Some((begin, events)) = input.split_first() else { return };
    RUNTIME.with(|runtime| runtime.block_on(converse(usize::from(*begin), events)));
});

async fn converse(begin: usize, mut events: &[u8]) {
    let (protocol, strict) = (begin % PROTOCOLS, begin / PROTOCOLS % 2 == 0);
    let direction = if begin & 0x80 == 0 { Direction::Ingress } else { Direction::Egress };
    let policies = if strict { STRICT } else { HOLDS };
    let current = |policy: usize| {
        Arc::clone(&programs()[usize::from(direction == Direction::Egress)][protocol][policy])
    };
    let policy = watch::channel(current((begin / 16) % policies)).0;
    let stage = watch::channel(Stage::Serving).0;
    let (entrance, entrance_at) = listener().await;
    let (exit, exit_at) = listener().await;
    let origin = Arc::new(Origin { listener: exit, accepted: Mutex::default() });
    let mut client = Talk::new(TcpStream::connect(entrance_at).await.expect("a listener"));
    let (accepted, peer) = entrance.accept().await.expect("a connection");
    let shared = Shared {
        policy: policy.subscribe(),
        recorder: Arc::new(Recorder::new(Arc::clone(metrics()))),
        stage: stage.subscribe(),
    };
    let ends = Ends { client: peer, destination: exit_at };
    let dial = Arc::clone(&origin);
    let task = tokio::spawn(async move { serve(direction, accepted, ends, shared, &*dial).await });
    let mut server: Option<Talk> = None;
    while let Some(event) = event(&mut events) {
        match event {
            Event::Says(Side::Client, bytes) => client.say(bytes),
            Event::Says(Side::Server, bytes) => {
                if let Some(server) = &mut server {
                    server.say(bytes);
                }
            }
            Event::Policy(number) => drop(policy.send_replace(current(usize::from(number) % policies))),
            Event::Time(ms) => advance(Duration::from_millis(ms)).await,
            Event::Drain => drop(stage.send_replace(Stage::Draining)),
            Event::Revoke(number) => match number % 2 {
                0 => client.shut(),
                _ => server.iter_mut().for_each(Talk::shut),
            },
        }
        for _ in 0..3 {
            sleep(Duration::from_millis(1)).await;
            if let Some(stream) = origin.accepted.lock().expect("no panic").take() {
                server = Some(Talk::new(stream));
            }
            let read = client.listen() + server.as_mut().map_or(0, Talk::listen);
            if read == 0 {
                break;
            }
        }
    }
    let heard = server.map(|server| server.heard).unwrap_or_default();
    drop(client);
    *origin.accepted.lock().expect("no panic") = None;
    timeout(Duration::from_secs(20_000), task).await.expect("it ends").expect("no panic");
    if strict && protocol == 0 {
        agree(&heard);
    }
}

/// Everything that an origin of HTTP reads is for `/ok`.
fn agree(heard: &[u8]) {
    let requests = match heard.starts_with(b"PRI ") {
        true => http2_agree::reads(heard),
        false => http1_read::requests(heard).0,
    };
    for request in requests {
        assert!(request.split(' ').nth(1).is_some_and(|target| target.contains("/ok")), "{request} arrived");
    }
}

struct Origin {
    listener: TcpListener,
    accepted: Mutex<Option<TcpStream>>,
}

impl Dial for Origin {
    async fn dial(&self, ends: Ends) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(ends.destination).await?;
        let (accepted, _) = self.listener.accept().await?;
        *self.accepted.lock().expect("no panic") = Some(accepted);
        Ok(stream)
    }
}

/// One end of the conversation, and what it has heard.
struct Talk {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Talk {
    fn new(stream: TcpStream) -> Self {
        // Nothing waits in the kernel once it is dropped.
        stream.set_zero_linger().expect("a socket");
        Self { stream, heard: Vec::new() }
    }

    /// As much as there is room for.
    fn say(&mut self, bytes: &[u8]) {
        let _ = self.stream.try_write(bytes);
    }

    fn listen(&mut self) -> usize {
        let before = self.heard.len();
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = self.stream.try_read(&mut bytes) {
            self.heard.extend_from_slice(&bytes[..count]);
        }
        self.heard.len() - before
    }

    fn shut(&mut self) {
        let socket = std::os::fd::AsFd::as_fd(&self.stream).try_clone_to_owned().expect("a socket");
        let _ = std::net::TcpStream::from(socket).shutdown(std::net::Shutdown::Write);
    }
}

async fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn metrics() -> &'static Arc<Metrics> {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    METRICS.get_or_init(|| Arc::new(Metrics::new().expect("metrics")))
}

/// By direction, protocol and policy.
fn programs() -> &'static Vec<Vec<Vec<Arc<Current>>>> {
    static PROGRAMS: OnceLock<Vec<Vec<Vec<Arc<Current>>>>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let of = |direction, protocol| (0..HOLDS).map(|hold| current(direction, protocol, hold)).collect();
        let all = |direction| (0..PROTOCOLS).map(|protocol| of(direction, protocol)).collect();
        vec![all(Direction::Ingress), all(Direction::Egress)]
    })
}

fn current(direction: Direction, protocol: usize, hold: usize) -> Arc<Current> {
    let section = section(protocol, hold == 1);
    let mut program = sessions::program(section.clone());
    let answer = |effect| Answer {
        effect,
        rule: (effect == Effect::Allow).then_some(RuleIndex(0)),
        reason: if effect == Effect::Allow { Reason::AllowedByRule } else { Reason::NoRule },
    };
    let (allowed, denied) = (answer(Effect::Allow), answer(Effect::Deny));
    program.answers.push(AnswerPair { enforced: allowed, shadow: denied });
    program.rules[0].direction = direction;
    let tables = &mut program.ingress;
    match hold {
        2 => tables.boxes[0].action = Action::Answer(AnswerId(0)),
        3 => tables.boxes[0].action = Action::Answer(AnswerId(1)),
        4 => {
            let chain = &mut program.l7_chains[0];
            let wide = L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section: None };
            chain.shadow = std::mem::replace(&mut chain.enforced, vec![L7Stage { entries: vec![wide] }]);
            chain.end = AnswerId(1);
            if let Action::Inspect { opaque, .. } = &mut tables.boxes[0].action {
                *opaque = AnswerId(1);
            }
        }
        _ => {}
    }
    if direction == Direction::Egress {
        std::mem::swap(&mut program.ingress, &mut program.egress);
    }
    let judge = Arc::new(Judge::new(program).expect("a valid program"));
    Arc::new(Current { judge, generation: 1, named: Default::default() })
}

fn section(protocol: usize, narrow: bool) -> L7Section {
    let path = PathTemplate::parse(if narrow { "/ok/left/**" } else { "/ok/**" }).ok();
    match protocol {
        0 => L7Section::Http(vec![HttpMatch { path, ..HttpMatch::default() }]),
        1 => L7Section::Redis(vec![RedisMatch {
            commands: ["get", "select", "multi", "exec", "subscribe", "client"].map(str::to_owned).into(),
            key_prefix: narrow.then(|| "left".to_owned()),
            ..RedisMatch::default()
        }]),
        2 => L7Section::Postgres(vec![PostgresMatch {
            statements: if narrow { vec![PostgresStatement::Select] } else { Vec::new() },
            ..PostgresMatch::default()
        }]),
        3 => {
            let topics = vec![TopicMatch::Prefix(if narrow { "orders.left" } else { "orders" }.to_owned())];
            L7Section::Kafka(vec![KafkaMatch { topics, ..KafkaMatch::default() }])
        }
        _ => L7Section::Tls(TlsMatch { nameless: narrow, ..TlsMatch::default() }),
    }
}

//! What a client can make the sidecar hold: at most ten times what it sent, beside the connection itself.
//!
//! Sessions run on a thread whose allocations are counted; clients and the origin on others.
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use bulkhead_facts::{
    Direction, Effect, L4Protocol, Mode, PathTemplate, PolicyRef, PortRange, Reason, Tier, WorkloadRef,
};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::{HttpMatch, L7Section};
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, ClassId, DirectionProgram, L7Chain, L7ChainId,
    L7Entry, L7Stage, PortBox, Program, RuleIndex, RuleInfo,
};
use bulkhead_proxy::drain::Stage;
use bulkhead_proxy::flows::Recorder;
use bulkhead_proxy::metrics::Metrics;
use bulkhead_proxy::policy::Current;
use bulkhead_proxy::session::{Dial, Ends, Shared, serve};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;
use tokio::sync::watch;

/// Bytes that each client sends.
const SENT: usize = 1024;
/// Bytes that it may cost.
const COST_MAX: usize = 10 * SENT;
const CLIENTS: usize = 64;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.get() {
            HELD.fetch_add(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if COUNTS.get() {
            HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// The only test of this file: the count is that of one thread of this process.
#[test]
fn a_kibibyte_from_a_client_costs_at_most_ten() {
    let entrance = start(silent_origin());
    let head = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n");
    let half_a_head = head("/ok") + "x: " + &"y".repeat(SENT);
    let requests = (head("/ok") + "\r\n").repeat(SENT / 32);
    let denied = (head("/no") + "\r\n").repeat(SENT / 32);
    let body = format!("POST /ok HTTP/1.1\r\nhost: a\r\ncontent-length: 9999\r\n\r\n{}", "x".repeat(SENT));
    let chunks = "POST /ok HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
        + &"1\r\nx\r\n".repeat(SENT);
    let trickle = head("/ok") + &"a: b\r\n".repeat(99);
    // Buffers in pools, tables of the report: once for all.
    cost(entrance, &half_a_head);
    cost(entrance, &requests);
    let connection = cost(entrance, "");
    println!("a connection: {connection} bytes");
    for (what, bytes) in [
        ("half a head", half_a_head),
        ("a head of many fields", trickle),
        ("many requests", requests),
        ("denied requests", denied),
        ("a body", body),
        ("a body in chunks", chunks),
    ] {
        let cost = cost(entrance, &bytes).saturating_sub(connection);
        println!("{what}: {cost} bytes");
        assert!(cost <= COST_MAX, "{what}: {cost} bytes held for {SENT}");
    }
}

/// Bytes that are held for each of many clients that have sent the first kibibyte of this and stay.
fn cost(entrance: SocketAddr, bytes: &str) -> usize {
    let before = settled();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = TcpStream::connect(entrance).expect("sessions");
        stream.write_all(&bytes.as_bytes()[..SENT.min(bytes.len())]).expect("room");
        clients.push(stream);
    }
    let held = settled().saturating_sub(before);
    drop(clients);
    held / CLIENTS
}

/// The count once it stays.
fn settled() -> usize {
    let (mut count, mut same) = (HELD.load(Ordering::Relaxed), 0);
    while same < 10 {
        sleep(Duration::from_millis(20));
        let now = HELD.load(Ordering::Relaxed);
        same = if now == count { same + 1 } else { 0 };
        count = now;
    }
    count
}

/// It accepts, and takes and says nothing.
fn silent_origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let mut held = Vec::new();
        held.extend(listener.incoming());
    });
    address
}

struct To(SocketAddr);

impl Dial for To {
    async fn dial(&self, _: Ends) -> io::Result<tokio::net::TcpStream> {
        tokio::net::TcpStream::connect(self.0).await
    }
}

/// Sessions on a thread of their own.
fn start(origin: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a socket");
    let judge = Arc::new(Judge::new(program()).expect("a valid program"));
    thread::spawn(move || {
        COUNTS.set(true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let current = Current { judge, generation: 1, named: Default::default() };
            let (policy, stage) = (watch::channel(Arc::new(current)).0, watch::channel(Stage::Serving).0);
            let recorder = Arc::new(Recorder::new(Arc::new(Metrics::new().expect("metrics"))));
            while let Ok((stream, client)) = listener.accept().await {
                let (policy, recorder, stage) = (policy.subscribe(), recorder.clone(), stage.subscribe());
                let ends = Ends { client, destination: origin };
                tokio::spawn(async move {
                    let shared = Shared { policy, recorder, stage };
                    serve(Direction::Ingress, stream, ends, shared, &To(origin)).await;
                });
            }
        });
    });
    address
}

/// Only requests for `/ok` pass.
fn program() -> Program {
    let denied = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoRule };
    let policy =
        PolicyRef { kind: "SegmentPolicy".into(), namespace: Some("shop".into()), name: "orders".into() };
    let path = Some(PathTemplate::parse("/ok").expect("a path"));
    let section = Some(L7Section::Http(vec![HttpMatch { path, ..HttpMatch::default() }]));
    let entry = L7Entry { rule: RuleIndex(0), effect: Some(Effect::Allow), section };
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
        choices: vec![],
    }
}

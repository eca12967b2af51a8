//! Deciding allocates nothing, at layer 4 and for a request of any protocol: counted by an allocator of our own.
#![allow(unsafe_code, reason = "a global allocator can only be written with unsafe")]

use bulkhead_facts::{
    Direction, DnsQuestion, HeaderField, HostName, HttpRequest, KafkaRequest, L4Protocol, PostgresMessage,
    PostgresStatement, RedisCommand, Request, TlsHello, TlsVersion, UrlPath,
};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::ObjectName;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged; counting touches no memory but a thread-local number that
// needs no allocation itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const POLICY: &str = r#"
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: web, namespace: shop}
spec:
  ingress:
    - name: one
      from: [{cidr: 10.0.0.0/8}]
      ports: [80]
      http: [{methods: [GET], path: "/orders/{id}", hosts: ["*.shop.test"], headers: [{name: x-tenant, present: true}]}]
    - {name: two, from: [{cidr: 10.0.0.0/8}], ports: [443], tls: {sni: ["*.shop.test"], min: "1.2", alpn: [h2]}}
    - {name: three, from: [{cidr: 10.0.0.0/8}], ports: [53], dns: [{names: ["*.shop.test"], types: [A]}]}
    - {name: four, from: [{cidr: 10.0.0.0/8}], ports: [6379], redis: [{commands: [get], keyPrefix: "cart:", databases: [0]}]}
    - {name: five, from: [{cidr: 10.0.0.0/8}], ports: [5432], postgres: [{users: [shop], databases: [shop], statements: [select]}]}
    - {name: six, from: [{cidr: 10.0.0.0/8}], ports: [9092], kafka: [{apis: [produce], topics: [orders]}]}
"#;

const INVENTORY: &str = r#"
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}}
"#;

#[test]
fn a_decision_allocates_nothing() {
    let source = |text: &str| Source { name: "x.yaml".into(), text: text.into() };
    let loaded = load(&[source(POLICY)]);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    let inventory = load_inventory(&[source(INVENTORY)]).expect("a sound inventory");
    let compiler = Compiler::new(&loaded.set, &inventory).expect("a sound set");
    let pod = ObjectName { namespace: "shop".into(), name: "web".into() };
    let judge = Judge::new(compiler.program(&pod, 1).expect("a program")).expect("a valid program");
    let headers = [HeaderField { name: b"X-Tenant", value: b"blue" }];
    let peer = "10.1.2.3".parse().expect("an address");

    let before = ALLOCATIONS.with(Cell::get);
    let path = UrlPath::parse("/orders/17").expect("a path");
    let host = HostName::parse("API.shop.test.").expect("a host");
    let http = HttpRequest { method: "GET", path: &path, query: None, host: Some(&host), headers: &headers };
    let read = judge.decide(Direction::Ingress, peer, L4Protocol::TCP, 80, &Request::Http(http));
    let hello = TlsHello {
        server_name: Some(&host),
        lowest: TlsVersion::V1_2,
        highest: TlsVersion::V1_3,
        application_protocols: &["h2"],
        encrypted: false,
    };
    let question = DnsQuestion { name: &host, record: 1 };
    let command = RedisCommand { name: "GET", keys: &[b"cart:1"], database: Some(0) };
    let message =
        PostgresMessage { user: "shop", database: "shop", statements: &[PostgresStatement::Select] };
    let produce = KafkaRequest { api: 0, topics: &["orders"] };
    let others = [
        (443, Request::Tls(hello)),
        (53, Request::Dns(question)),
        (6379, Request::Redis(command)),
        (5432, Request::Postgres(message)),
        (9092, Request::Kafka(produce)),
    ];
    let others =
        others.map(|(port, request)| judge.decide(Direction::Ingress, peer, L4Protocol::TCP, port, &request));
    let opaque = judge.decide(Direction::Ingress, peer, L4Protocol::TCP, 80, &Request::Opaque);
    let denied = judge.decide(Direction::Ingress, peer, L4Protocol::UDP, 80, &Request::Opaque);
    let after = ALLOCATIONS.with(Cell::get);

    assert_eq!(after - before, 0, "reading a usual path and host, and deciding, allocates nothing");
    let effects = [read, opaque, denied].map(|pair| pair.enforced.effect.as_str());
    assert_eq!(effects, ["allow", "deny", "deny"]);
    assert_eq!(others.map(|pair| pair.enforced.effect.as_str()), ["allow"; 5]);
    assert!(before > 0, "the allocator counts");
}

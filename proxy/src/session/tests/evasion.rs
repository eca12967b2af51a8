//! Hostile bytes against real origins: what an origin reads is what was decided on, once, and nothing else.
//!
//! Every payload of ours carries a canary of its own below `/no`, which no rule allows; without the gate a canary
//! arrives, or the test would prove nothing. With the gate each line that an origin logs must be a request that was
//! allowed, as often as it was allowed, and none of ours may be malformed to the origin (some cases of llhttp are, where
//! an origin is stricter than the standard: then it reads none). Payloads are sent whole and cut in two: at some points
//! in each run, at every point with `BULKHEAD_LONG`.

use super::programs::{Program, Running};
use super::{Client, Hold, Lab, origin, program};
use crate::policy::Current;
use bulkhead_facts::{Direction, Effect, PathTemplate};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::model::{HttpMatch, L7Section};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

#[path = "../../../inspect/tests/support/llhttp.rs"]
#[allow(dead_code)]
mod llhttp;

/// Requests that some server, or some pair of servers, reads otherwise than its author pretends. `CANARY` becomes a
/// path below `/no`; what surrounds it is for an allowed path.
const PAYLOADS: &[&str] = &[
    // The plain question, and spellings of it.
    "GET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/..CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/%2e%2eCANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/..%2f..CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/.%2e/../CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/..;CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/..\\CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://aCANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a/ok/../..CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET CANARY#/ok/1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET CANARY?/ok/1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET CANARY\r\n\r\n",
    "GET CANARY HTTP/1.0\r\n\r\n",
    "get CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\tCANARY\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1\0CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET CANARY HTTP/1.1\nHost: a\n\n",
    // Behind an allowed request.
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\nHost: a\n\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nX: y\n\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    // Two framings of one body.
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nXGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 45\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 45\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0x0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent_Length: 200\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    // Chunks that servers end at different bytes.
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\n\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nZ\r\nQ\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n3f\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    // Bodies of denied and of odd requests.
    "POST /no/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 45\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /no/1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 45\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Revision of the program for cases that others wrote.
const ALLOWING_ALL: u64 = 99;

/// What an origin read, one line for each request; each line is handed out once.
pub(super) struct Log<'a> {
    /// What it has written from this byte on.
    written: &'a dyn Fn(usize) -> Vec<u8>,
    read_line: &'a dyn Fn(&str) -> Option<String>,
    seen_bytes: Cell<usize>,
}

impl<'a> Log<'a> {
    fn new(written: &'a dyn Fn(usize) -> Vec<u8>, read_line: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { written, read_line, seen_bytes: Cell::new(0) }
    }

    /// Whole lines since the last call.
    fn take(&self) -> Vec<String> {
        let bytes = (self.written)(self.seen_bytes.get());
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.seen_bytes.set(self.seen_bytes.get() + end);
        String::from_utf8_lossy(&bytes[..end]).lines().filter_map(self.read_line).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_reads_exactly_what_was_allowed() {
    each_origin(attack).await;
}

/// Does this to every origin that is here.
pub(super) async fn each_origin(attack: impl AsyncFn(&str, SocketAddr, &Log<'_>)) {
    let hyper = origin::http().await;
    let (written, whole) = (|from| hyper.seen.bytes_from(from), |line: &str| Some(line.to_owned()));
    attack("hyper", hyper.address, &Log::new(&written, &whole)).await;
    for program in Program::ALL {
        if let Some(running) = Running::start(program).await {
            let (written, line) = (|from| running.written(from), |line: &str| program.read_line(line));
            attack(program.name(), running.address, &Log::new(&written, &line)).await;
        }
    }
}

/// Requests that were allowed and that the origin has not logged, by method and beginning of the path: a busy machine makes it late.
#[derive(Default)]
pub(super) struct Late(Vec<(String, String)>);

impl Late {
    /// True if the line is one of them; then it is none any more.
    fn take(&mut self, line: &str) -> bool {
        let is_it = |(method, path): &(String, String)| {
            line.split_once(' ').is_some_and(|(word, rest)| word == method && rest.contains(path.as_str()))
        };
        let found = self.0.iter().position(is_it);
        found.map(|at| self.0.swap_remove(at)).is_some()
    }

    /// Takes one of the lines away that is one of them; false if there is none.
    fn take_one_of(&mut self, lines: &mut Vec<String>) -> bool {
        let found = lines.iter().position(|line| !line.contains("/no/") && self.take(line));
        found.map(|at| lines.remove(at)).is_some()
    }
}

/// Every payload of ours, and the cases of llhttp where they are; then what the origin logged.
async fn attack(name: &str, address: SocketAddr, log: &Log<'_>) {
    let mut open = TcpStream::connect(address).await.expect("the origin listens");
    open.write_all(b"GET /no/control HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("room");
    let _ = timeout(Duration::from_secs(5), open.read_to_end(&mut Vec::new())).await;
    wait_for(name, log, "/no/control").await;

    let mut late = Late::default();
    let lab = Lab::inbound(Hold::Gate, address);
    for (number, payload) in PAYLOADS.iter().enumerate() {
        let bytes = payload.replace("CANARY", &format!("/no/canary-{number}"));
        let cuts = cuts(replaced(bytes.as_bytes()).len(), number);
        assert_eq!(send(&lab, name, bytes.as_bytes(), &cuts, log, &mut late).await, None);
    }
    let lab = Lab::inbound(Hold::Gate, address);
    lab.policy.send_replace(allowing_all());
    for (number, case) in llhttp::all().unwrap_or_default().iter().enumerate() {
        for input in [&case.input, &case.with_host().input] {
            assert_eq!(send(&lab, name, input, &cuts(input.len(), number), log, &mut late).await, None);
        }
    }
}

/// Sends bytes whole and cut, each on a connection of its own, and compares what was read with what was allowed; what was
/// wrong, if something was.
pub(super) async fn send(
    lab: &Lab,
    name: &str,
    bytes: &[u8],
    places: &[usize],
    log: &Log<'_>,
    late: &mut Late,
) -> Option<String> {
    let mut bytes = replaced(bytes);
    for &cut in places {
        let own = number(&mut bytes);
        let mut client = lab.connect().await;
        for part in [&bytes[..cut], &bytes[cut..]] {
            let _ = client.stream.write_all(part).await;
            tokio::task::yield_now().await;
        }
        let _ = client.stream.shutdown().await;
        let _ = timeout(Duration::from_secs(5), client.stream.read_to_end(&mut Vec::new())).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Client { stream, session } = client;
        drop(stream);
        match timeout(Duration::from_secs(40), session).await {
            Ok(ended) => ended.expect("no panic"),
            Err(_) => return Some(format!("{name}: the session does not end: {text:?} cut at {cut}")),
        }
        let flows = lab.flows();
        let allowed = flows.iter().filter(|flow| flow.enforced.effect == Effect::Allow);
        let mut requests = Late::default();
        for (flow, http) in allowed.filter_map(|flow| Some((flow, flow.http.as_ref()?))) {
            // What a flow says of a path stops being the path where a part may be anything.
            let path = http.path_template.split('{').next().unwrap_or_default();
            (0..flow.count).for_each(|_| requests.0.push((http.method.clone(), path.to_owned())));
        }
        let allowed = requests.0.len();
        let mut read = read(log, allowed).await;
        if lab.policy.borrow().revision() == ALLOWING_ALL {
            read.retain(|line| !line.starts_with("BAD "));
        }
        if bytes.starts_with(b"PRI * HTTP/2.0\r\n") {
            // The greeting of HTTP/2 asks for nothing, so it passes; a server of HTTP/1 does not know it.
            requests.0.push(("PRI".into(), "*".into()));
            read.retain(|line| line.contains("/no/"));
        }
        // Some servers log a request only once its connection is over: what belongs to another case is late.
        read.retain(|line| line.contains(&own) || !line.contains("/ok/") || line.contains("/no/"));
        while read.len() > allowed && late.take_one_of(&mut read) {}
        for line in &read {
            requests.take(line);
        }
        late.0.extend(requests.0.into_iter().filter(|(_, path)| !path.contains("/ok/")));
        let wrong = read.iter().find(|line| line.contains("/no/") || line.starts_with("BAD "));
        if read.len() > allowed || wrong.is_some() {
            return Some(format!("{name} read {read:?}, {allowed} allowed: {text:?} cut at {cut}"));
        }
    }
    None
}

/// With room for a number in the allowed path.
fn replaced(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(5).position(|path| path == b"/ok/1") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"/ok/0000000");
        rest = &rest[at + 5..];
    }
    out.extend_from_slice(rest);
    out
}

/// Numbers it, so that the requests of one connection are told from those of others.
fn number(bytes: &mut [u8]) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    if count.is_multiple_of(10_000) {
        eprintln!("{count} connections of hostile clients until now");
    }
    let own = format!("/ok/{count:07}");
    for at in 0..bytes.len().saturating_sub(own.len()) {
        if bytes[at..].starts_with(b"/ok/0") {
            bytes[at..at + own.len()].copy_from_slice(own.as_bytes());
        }
    }
    own
}

/// The lines that came; so many are waited for in vain only where a request was left incomplete.
async fn read(log: &Log<'_>, expected: usize) -> Vec<String> {
    let mut lines = log.take();
    for _ in 0..20 {
        if lines.len() >= expected {
            break;
        }
        sleep(Duration::from_millis(2)).await;
        lines.extend(log.take());
    }
    lines
}

/// Where to cut: not at all, and at some points or at all.
pub(super) fn cuts(length: usize, number: usize) -> Vec<usize> {
    if std::env::var_os("BULKHEAD_LONG").is_some() {
        return (1..=length).collect();
    }
    let some = |part: usize| (length * part / 4 + number % 5).clamp(1, length.max(1));
    vec![length, some(1 + number % 3), some(1 + (number + 1) % 3)]
}

/// Every request that can be read is allowed: so the origin must agree on where each one ends.
fn allowing_all() -> Arc<Current> {
    let mut program = program(Hold::Gate, Direction::Ingress);
    program.revision = ALLOWING_ALL;
    let paths =
        ["/", "/**"].map(|path| HttpMatch { path: PathTemplate::parse(path).ok(), ..HttpMatch::default() });
    program.l7_chains[0].enforced[0].entries[0].section = Some(L7Section::Http(paths.into()));
    let judge = Judge::new(program).expect("a valid program");
    Arc::new(Current { judge: Arc::new(judge), generation: 1, named: Default::default() })
}

async fn wait_for(name: &str, log: &Log<'_>, what: &str) {
    let mut lines = Vec::new();
    for _ in 0..500 {
        lines.extend(log.take());
        if lines.iter().any(|line: &String| line.contains(what)) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} never logged `{what}`: {lines:?}");
}

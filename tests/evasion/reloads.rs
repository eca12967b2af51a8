//! Programs change without pause under mixed traffic: what both the old and the new one allow never notices, what both
//! deny never passes.
//!
//! Both pods have real sidecars, each with a controller that pushes the next program as soon as the one before is in
//! force. Traffic of both families goes by the kernel alone (port 9000) and through the inspector (port 8080), on
//! connections that stay and on new ones. Two programs alternate that mean the same for this traffic and differ in
//! everything that a program is made of: classes, boxes, answer ids, rules. After each such reload comes a pod, or goes the
//! one that came: a change of elements. For each reload there are [`REQUESTS_PER_RELOAD`] requests, so that the load is that
//! of 3,000 a second at the wanted pace whatever the machine can do; what it did is printed.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bulkhead_api::Capability;
use bulkhead_lab::attack::targets::Family;
use bulkhead_lab::attack::token::Token;
use bulkhead_lab::attack::{Needs, Rights};
use bulkhead_policies::program::Program;

use crate::controller::Controller;
use crate::ground::{Ground, WEB};
use crate::sidecars::{CAPTURES, Sidecar, compile_among};
use crate::storm::{expect_silence, probe, rounds, show_that_probes_arrive, watch};
use crate::trial::able;

/// 3,000 a second and 1,000 reloads in 60 s.
const REQUESTS_PER_RELOAD: u64 = 180;
/// When the next reload is due, if requests allow: a little sooner than it must be, so that a late one is caught up with.
const PACE: Duration = Duration::from_millis(55);
/// The port that needs the inspector.
const INSPECTED: u16 = 8080;
/// The port that the kernel passes by itself.
const PLAIN: u16 = 9000;
/// A port that nobody may use, though somebody listens.
const FORBIDDEN: u16 = 9001;
/// Between what one client does and what it does next: together they ask some 5,000 times a second.
const BREATH: Duration = Duration::from_millis(1);
/// Longer than any stall of a busy machine, shorter than TCP needs to give up.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_thousand_reloads_under_load_drop_nothing_allowed_and_pass_nothing_denied() -> anyhow::Result<()> {
    reload_under_load(CAPTURES[0])
}

#[test]
fn a_thousand_reloads_where_apps_see_the_pods_own_address_do_no_harm_either() -> anyhow::Result<()> {
    reload_under_load(CAPTURES[1])
}

/// One at a time: the load of one is all that the machine has.
static ALONE: Mutex<()> = Mutex::new(());

fn reload_under_load(capture: &'static str) -> anyhow::Result<()> {
    let Some(()) = able() else { return Ok(()) };
    let _alone = ALONE.lock();
    let reloads = u64::from(rounds(50, 1000));
    let ground = Ground::lay(true)?;
    watch(&ground)?;
    show_that_probes_arrive(&ground)?;
    let seen = Arc::new(Seen::default());
    serve(&ground, &seen)?;
    let pods = [Pod::start(&ground, "attacker", capture)?, Pod::start(&ground, "web", capture)?];
    push_to_both(&pods, 0)?;
    let traffic = Traffic::start(&ground)?;
    let (started, mut took) = (Instant::now(), [Vec::new(), Vec::new()]);
    for number in 1..=reloads {
        took[0].push(push_to_both(&pods, 2 * number - 1)?);
        took[1].push(push_to_both(&pods, 2 * number)?);
        let wanted = number * REQUESTS_PER_RELOAD;
        while started.elapsed() < PACE * u32::try_from(number)? || traffic.requests() < wanted {
            traffic.is_well()?;
            sleep(Duration::from_millis(1));
        }
    }
    let (elapsed, requests) = (started.elapsed().as_secs_f64(), traffic.requests());
    let told = traffic.finish()?;
    seen.expect_nothing_denied()?;
    expect_silence(&ground)?;
    pods.iter().try_for_each(|pod| pod.expect_both_means(&ground, reloads))?;
    println!(
        "{capture}: {reloads} reloads and as many changes of elements of two sidecars in {elapsed:.1} s under {:.0} requests/s \
         ({requests} in all: {told}); in force after {} and {}",
        requests as f64 / elapsed,
        told_times(&mut took[0]),
        told_times(&mut took[1]),
    );
    Ok(())
}

fn told_times(took: &mut [Duration]) -> String {
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).or(took.last()).copied().unwrap_or_default();
    format!("{:.1?} (median; 99 %: {:.1?}, slowest {:.1?})", at(50), at(99), at(100))
}

/// Gives how long it took until the next program was in force at both.
fn push_to_both(pods: &[Pod; 2], number: u64) -> anyhow::Result<Duration> {
    std::thread::scope(|scope| {
        let pushing = pods.each_ref().map(|pod| scope.spawn(move || pod.push(number)));
        let mut slowest = Duration::ZERO;
        for push in pushing {
            slowest = slowest.max(push.join().ok().context("a push panicked")??);
        }
        Ok(slowest)
    })
}

/// A pod's sidecar with its controller and the programs that alternate.
struct Pod {
    sidecar: Sidecar,
    controller: Controller,
    programs: [Program; 4],
}

impl Pod {
    fn start(ground: &Ground, name: &'static str, capture: &'static str) -> anyhow::Result<Self> {
        let (other, more) = (elsewhere(), more_pods());
        // Reload, one pod more, reload, one pod less.
        let programs = [("", ""), ("", more.as_str()), (&other, &more), (&other, "")];
        let [a, b, c, d] = programs.map(|(policies, pods)| compile_among(name, policies, pods));
        let programs = [a?, b?, c?, d?];
        ensure!(programs[0].answers != programs[2].answers, "the programs of `{name}` do not differ");
        let mut sidecar = Sidecar::init(ground, name)?;
        sidecar.capture(capture);
        let controller = sidecar.controller(ground)?;
        sidecar.run(ground)?;
        let (capability, _) = controller.said()?;
        ensure!(capability == Capability::Enforced, "the sidecar of `{name}` says {capability:?}");
        Ok(Self { sidecar, controller, programs })
    }

    /// Has the next program in force under that revision, after that of the start: reloads by odd numbers.
    fn push(&self, number: u64) -> anyhow::Result<Duration> {
        let mut program = self.programs[usize::try_from((number + 3) % 4)?].clone();
        program.revision = number + 2;
        self.controller.push(program)
    }

    fn expect_both_means(&self, ground: &Ground, each: u64) -> anyhow::Result<()> {
        let of = |name| self.sidecar.metric(ground, name);
        let elements = of("bulkhead_program_element_changes_total")?;
        let reloads = of("bulkhead_programs_applied_total")? - elements;
        ensure!(elements >= each && reloads >= each, "{reloads} reloads, {elements} changes of elements");
        ensure!(of("bulkhead_table_tampering_total")? == 0, "the sidecar put its own table back");
        Ok(())
    }
}

/// A pod of each kind at addresses that no traffic here has.
fn more_pods() -> String {
    let pod = |app: &str, last: u8| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: another-{app}, namespace: shop, uid: uid-{last}, labels: {{app: \
             {app}}}}}\nspec: {{containers: [{{name: c}}]}}\nstatus: {{phase: Running, podIPs: [{{ip: 10.77.0.{last}}}, {{ip: \
             'fd77::{last}'}}]}}\n"
        )
    };
    pod("web", 50) + &pod("attacker", 60)
}

/// Policies about addresses that no traffic here has: they move every class and answer of the others.
fn elsewhere() -> String {
    let blocks: Vec<String> =
        (0..100).map(|n| format!("{{cidr: 10.9.{n}.0/24}}, {{cidr: 'fd99:{n}::/64'}}")).collect();
    let blocks = blocks.join(", ");
    let rules = |pod: &str, way: &str, side: &str| {
        format!(
            "---\napiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: a-{pod}, namespace: shop}}\nspec:\n  \
             workloads: {{app: {pod}}}\n  {way}:\n    - {{name: first, {side}: [{blocks}], ports: [5000-5100, 7000]}}\n    \
             - {{name: second, {side}: [{{cidr: 10.9.7.0/26}}], ports: [7001]}}\n"
        )
    };
    rules("attacker", "egress", "to") + &rules("web", "ingress", "from")
}

/// What the app saw that it must not see.
#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    connections: AtomicU64,
    datagrams: AtomicU64,
}

impl Seen {
    fn expect_nothing_denied(&self) -> anyhow::Result<()> {
        let requests = self.requests.lock().expect("no panic while held");
        ensure!(requests.is_empty(), "denied requests reached the app: {requests:?}");
        let (connections, datagrams) =
            (self.connections.load(Ordering::Relaxed), self.datagrams.load(Ordering::Relaxed));
        ensure!(
            (connections, datagrams) == (0, 0),
            "{connections} connections and {datagrams} datagrams passed"
        );
        Ok(())
    }
}

/// An app that answers 200 to everything, and notes what should not have come.
fn serve(ground: &Ground, seen: &Arc<Seen>) -> anyhow::Result<()> {
    for port in [INSPECTED, PLAIN, FORBIDDEN] {
        let (listener, seen) = (ground.web.run(|| TcpListener::bind(("::", port)))??, seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = seen.clone();
                if port == FORBIDDEN {
                    seen.connections.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::spawn(move || answer_all(stream, &seen));
            }
        });
    }
    let (socket, seen) = (ground.web.run(|| UdpSocket::bind(("::", FORBIDDEN)))??, seen.clone());
    std::thread::spawn(move || {
        while socket.recv_from(&mut [0; 64]).is_ok() {
            seen.datagrams.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(())
}

fn answer_all(mut stream: TcpStream, seen: &Seen) {
    let _ = stream.set_nodelay(true);
    while let Ok(head) = read_head(&mut stream) {
        if head.contains("/admin") {
            seen.requests.lock().expect("no panic while held").push(head);
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// A head up to its empty line.
fn read_head(stream: &mut TcpStream) -> anyhow::Result<String> {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the connection ended");
        head.extend_from_slice(&buffer[..length]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Everything that is tried at once.
struct Traffic {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    inspected: AtomicU64,
    plain: AtomicU64,
    denied: AtomicU64,
    probes: AtomicU64,
    wrong: Mutex<Option<String>>,
}

impl Traffic {
    fn start(ground: &Ground) -> anyhow::Result<Self> {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let mut traffic = Self { stop, counts, threads: Vec::new() };
        for address in [WEB.of(Family::V4), WEB.of(Family::V6)] {
            for port in [INSPECTED, PLAIN] {
                traffic.run(ground, "attacker", move |counts| stay(address, port, counts))?;
                traffic.run(ground, "attacker", move |counts| come_and_go(address, port, counts))?;
            }
            traffic.run(ground, "outside", move |counts| intrude(address, counts))?;
        }
        traffic.run(ground, "attacker", |counts| {
            probe(Token::new(1, 1));
            counts.probes.fetch_add(4, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(traffic)
    }

    /// Does something again and again as an app, in a place, until told to stop or something is wrong.
    fn run(
        &mut self,
        ground: &Ground,
        place: &str,
        mut work: impl FnMut(&Counts) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let (stop, counts) = (self.stop.clone(), self.counts.clone());
        let told = if place == "attacker" { &ground.attacker } else { &ground.outside };
        let thread = told.run_joinable(move || {
            let result = Rights::App.take(Needs::App, 65_534).map_err(anyhow::Error::from);
            let result = result.and_then(|()| {
                while !stop.load(Ordering::Relaxed) {
                    work(&counts)?;
                    sleep(BREATH);
                }
                Ok(())
            });
            if let Err(error) = result {
                counts.wrong.lock().expect("no panic while held").get_or_insert(format!("{error:#}"));
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Requests that were answered, one way or the other; probes come on top.
    fn requests(&self) -> u64 {
        let Counts { inspected, plain, denied, .. } = &*self.counts;
        [inspected, plain, denied].into_iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn is_well(&self) -> anyhow::Result<()> {
        let wrong = self.counts.wrong.lock().expect("no panic while held").clone();
        wrong.map_or(Ok(()), |wrong| Err(anyhow::anyhow!(wrong)))
    }

    fn finish(self) -> anyhow::Result<String> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().ok().context("a thread of the traffic panicked")?;
        }
        let counts = &*self.counts;
        if let Some(wrong) = counts.wrong.lock().expect("no panic while held").take() {
            anyhow::bail!(wrong);
        }
        let [inspected, plain, denied, probes] =
            [&counts.inspected, &counts.plain, &counts.denied, &counts.probes]
                .map(|c| c.load(Ordering::Relaxed));
        let told = format!(
            "{inspected} inspected, {plain} by the kernel alone, {denied} denied by their path; {probes} denied probes"
        );
        ensure!(
            [inspected, plain, denied, probes].iter().all(|count| *count > 0),
            "no mixed traffic: {told}"
        );
        Ok(told)
    }
}

/// Requests on one connection that outlives many programs; on the inspected port each eighth is one that is denied.
fn stay(address: IpAddr, port: u16, counts: &Counts) -> anyhow::Result<()> {
    let mut stream = connect(address, port)?;
    for number in 0..4_000 {
        sleep(BREATH);
        let denied = port == INSPECTED && number % 8 == 7;
        ask(&mut stream, port, denied, counts)
            .with_context(|| format!("request {number} of a connection to port {port}"))?;
    }
    Ok(())
}

/// One request on a connection of its own.
fn come_and_go(address: IpAddr, port: u16, counts: &Counts) -> anyhow::Result<()> {
    let mut stream = connect(address, port)?;
    ask(&mut stream, port, false, counts)
        .with_context(|| format!("the only request of a connection to port {port}"))
}

fn connect(address: IpAddr, port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)
        .with_context(|| format!("allowed connection to {address} port {port}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream, port: u16, denied: bool, counts: &Counts) -> anyhow::Result<()> {
    let (path, status) = if denied { ("/admin/keys", "403") } else { ("/api/orders/1", "200") };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: web.shop\r\n\r\n").as_bytes())?;
    let head = read_answer(stream)?;
    ensure!(head.split(' ').nth(1) == Some(status), "`{path}` was answered {head}");
    let count = match (denied, port) {
        (true, _) => &counts.denied,
        (false, INSPECTED) => &counts.inspected,
        (false, _) => &counts.plain,
    };
    count.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// A head, with the body that its length says.
fn read_answer(stream: &mut TcpStream) -> anyhow::Result<String> {
    let (mut answer, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the connection ended before an answer");
        answer.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0usize) {
            return Ok(head.to_owned());
        }
    }
}

/// From a place that may do nothing: a datagram and a connection to ports where somebody listens.
fn intrude(address: IpAddr, counts: &Counts) -> anyhow::Result<()> {
    let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    UdpSocket::bind((any, 0))?.send_to(b"intruder", (address, FORBIDDEN))?;
    for port in [FORBIDDEN, INSPECTED, PLAIN] {
        let connected =
            TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_millis(40));
        ensure!(connected.is_err(), "an intruder connected to port {port}");
    }
    counts.probes.fetch_add(4, Ordering::Relaxed);
    Ok(())
}

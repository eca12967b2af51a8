//! With real sidecars: nothing of the catalogue arrives, with whatever rights short of CAP_NET_ADMIN it is made, while
//! what the policy allows goes on.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bulkhead_api::Capability;
use bulkhead_lab::attack::arrival::{CAPTURE_PORTS, Via};
use bulkhead_lab::attack::targets::Family;
use bulkhead_lab::attack::token::Token;
use bulkhead_lab::attack::{Attempted, KINDS, Kind, KnownBy};

use bulkhead_proxy::firewall::Firewall;
use bulkhead_tests::skip;

use crate::ground::{Ground, Seen, WEB, match_seen};
use crate::namespaces;
use crate::sidecars::{self, Sidecar};
use crate::table;

/// The pods with a sidecar.
const PODS: [&str; 3] = ["attacker", "web", "store"];
/// The port of `web` whose requests are judged.
const INSPECTED: u16 = 8080;
/// The port of `web` that is allowed without inspection.
const PLAIN: u16 = 9000;

/// A mistake: the attacker may open any TCP connection to `store`.
const TOO_MUCH: &str = r"
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: mistake, namespace: shop}
spec:
  workloads: {app: attacker}
  egress:
    - {name: anything, to: [{workloads: {app: store}}], ports: ['1-15000']}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: mistake-too, namespace: shop}
spec:
  workloads: {app: store}
  ingress:
    - {name: anything, from: [{workloads: {app: attacker}}], ports: ['1-15000']}
";

/// How long an attack may take, whatever becomes of what it sends; on a busy machine its process may start late.
const LONGEST: Duration = Duration::from_secs(5);

/// Attacks under way at once.
const AT_ONCE: usize = 8;

/// What arrived of each kind: the families in which something did.
pub(crate) type Arrived = BTreeMap<&'static str, Vec<u8>>;

#[test]
fn what_arrives_is_what_the_threat_model_says() -> anyhow::Result<()> {
    let Some(()) = able() else { return Ok(()) };
    let mut columns = Vec::new();
    for rights in table::RIGHTS {
        let ground = Ground::lay(true)?;
        ground.serve()?;
        let mut sidecars = protect(&ground)?;
        let mut modes = sidecars::CAPTURES.map(|_| Arrived::new());
        for (capture, arrived) in sidecars::CAPTURES.into_iter().zip(&mut modes) {
            for sidecar in &mut sidecars {
                sidecar.kill()?;
                sidecar.capture(capture);
                sidecar.run(&ground)?;
            }
            if capture == sidecars::CAPTURES[0] {
                ground.watch(false)?;
            }
            expect_allowed(&ground, INSPECTED)?;
            *arrived = make_all(&ground, rights)?;
            expect_allowed(&ground, INSPECTED)?;
            ground.forget();
        }
        columns.push(modes);
    }
    table::compare(&columns)
}

/// As the lab runs for an ordinary user: sidecars and attackers are one user to the host.
#[test]
fn what_arrives_is_the_same_in_the_user_namespace_of_an_ordinary_user() -> anyhow::Result<()> {
    const NOBODY: u32 = 65_534;
    let Some(()) = able() else { return Ok(()) };
    let binary = std::env::current_exe()?;
    let unshare = || {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user"])
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .env_remove("UPDATE");
        command
    };
    let possible = unshare().arg(&binary).arg("--list").output().is_ok_and(|output| output.status.success());
    if !possible {
        skip("an ordinary user may not make user namespaces here, or not run the test's own binary");
        return Ok(());
    }
    let output = unshare()
        .arg(binary)
        .args(["--exact", "trial::what_arrives_is_what_the_threat_model_says"])
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if text.contains("skipped: ") {
        skip("in a user namespace the trial cannot be made: see above");
        return Ok(());
    }
    ensure!(output.status.success() && text.contains("1 passed"), "{text}");
    Ok(())
}

#[test]
fn nothing_passes_the_kernel_tier_alone_though_user_and_marks_of_the_sidecar_are_known() -> anyhow::Result<()>
{
    if !namespaces::possible() {
        skip("needs root, or `unshare --user --map-root-user` around the tests");
        return Ok(());
    }
    let ground = Ground::lay(true)?;
    ground.serve()?;
    let _firewalls = enforce_in_kernel(&ground, &PODS, "")?;
    ground.watch(true)?;
    expect_allowed(&ground, PLAIN)?;
    let arrived = make_all(&ground, "root-net-raw")?;
    ensure!(arrived.is_empty(), "arrived past the kernel tier: {arrived:?}");
    ensure!(ask(&ground, INSPECTED).is_err(), "a request passed that nobody inspected");
    expect_allowed(&ground, PLAIN)
}

#[test]
fn nothing_reaches_a_protected_pod_from_one_that_has_no_firewall() -> anyhow::Result<()> {
    if !namespaces::possible() {
        skip("needs root, or `unshare --user --map-root-user` around the tests");
        return Ok(());
    }
    let ground = Ground::lay(true)?;
    ground.serve()?;
    let _firewalls = enforce_in_kernel(&ground, &["web", "store"], "")?;
    ground.watch(true)?;
    expect_allowed(&ground, PLAIN)?;
    let arrived = make_all(&ground, "root-net-raw")?;
    ensure!(arrived.contains_key("tcp-outside"), "the attacker was held back after all");
    let reached: Vec<_> = ground.seen(|_| true).into_iter().filter(is_at_a_protected_pod).collect();
    ensure!(reached.is_empty(), "reached a protected pod: {reached:#?}");
    Ok(())
}

#[test]
fn nothing_leaves_a_protected_pod_for_those_that_have_no_firewall() -> anyhow::Result<()> {
    if !namespaces::possible() {
        skip("needs root, or `unshare --user --map-root-user` around the tests");
        return Ok(());
    }
    let ground = Ground::lay(true)?;
    ground.serve()?;
    let _firewalls = enforce_in_kernel(&ground, &["attacker"], "")?;
    ground.watch(true)?;
    expect_allowed(&ground, INSPECTED)?;
    let mut arrived = make_all(&ground, "root-net-raw")?;
    // Requests on an allowed connection are the destination's to judge.
    arrived.retain(|name, _| Kind::named(name).is_some_and(|kind| kind.known_by != KnownBy::Token));
    ensure!(arrived.is_empty(), "left the pod: {arrived:?}");
    Ok(())
}

#[test]
fn a_rule_that_allows_too_much_shows_up_as_arrivals() -> anyhow::Result<()> {
    if !namespaces::possible() {
        skip("needs root, or `unshare --user --map-root-user` around the tests");
        return Ok(());
    }
    let ground = Ground::lay(true)?;
    ground.serve()?;
    let _firewalls = enforce_in_kernel(&ground, &PODS, TOO_MUCH)?;
    ground.watch(true)?;
    let arrived = make_all(&ground, "app")?;
    for kind in ["tcp-forbidden-pod", "tcp-forbidden-service", "tcp-database", "tcp-port-scan"] {
        ensure!(arrived.get(kind) == Some(&vec![4, 6]), "{kind} did not arrive: {arrived:?}");
    }
    for kind in ["tcp-outside", "tcp-metadata", "icmp-pod", "raw-gre", "tcp-peer-sidecar"] {
        ensure!(!arrived.contains_key(kind), "{kind} arrived: {arrived:?}");
    }
    Ok(())
}

#[test]
fn nothing_passes_before_the_first_program() -> anyhow::Result<()> {
    let Some(()) = able() else { return Ok(()) };
    let ground = Ground::lay(true)?;
    ground.serve()?;
    let _sidecars = protect(&ground)?;
    ground.watch(false)?;
    let arrived = make_all(&ground, "root-net-raw")?;
    ensure!(arrived.is_empty(), "arrived through the closed table: {arrived:?}");
    ensure!(ask(&ground, INSPECTED).is_err(), "an allowed request passed without a program");
    Ok(())
}

#[test]
fn nothing_passes_while_every_sidecar_is_dead() -> anyhow::Result<()> {
    let Some(()) = able() else { return Ok(()) };
    let ground = Ground::lay(true)?;
    ground.serve()?;
    let mut sidecars = protect(&ground)?;
    for sidecar in &mut sidecars {
        sidecar.run(&ground)?;
    }
    expect_allowed(&ground, INSPECTED)?;
    for sidecar in &mut sidecars {
        sidecar.kill()?;
    }
    // Canaries take the sidecars' ports: an app that does so must receive nothing that was meant for inspection.
    ground.watch(true)?;
    ensure!(ask(&ground, INSPECTED).is_err(), "a request passed that nobody inspected");
    let arrived = make_all(&ground, "root-net-raw")?;
    expect_allowed(&ground, PLAIN).context("a flow that needs no inspection must go on")?;
    ensure!(arrived.is_empty(), "arrived while the sidecars were dead: {arrived:?}");
    let stolen: Vec<_> =
        ground.seen(|_| false).into_iter().filter(|(_, arrival)| arrival.via == Via::Listener).collect();
    ensure!(stolen.is_empty(), "taken from a dead sidecar: {stolen:#?}");
    Ok(())
}

#[test]
fn a_sidecar_that_may_not_enforce_tells_its_controller() -> anyhow::Result<()> {
    let Some(()) = able() else { return Ok(()) };
    let ground = Ground::lay(true)?;
    let mut sidecar = Sidecar::prepare(&ground, "web")?;
    let controller = sidecar.controller(&ground)?;
    sidecar.start_powerless(&ground)?;
    let (capability, weaknesses) = controller.said()?;
    ensure!(capability == Capability::Advisory && weaknesses.is_empty(), "{capability:?} {weaknesses:?}");
    let reason = controller.push_in_vain(sidecars::compile("web", "")?)?;
    ensure!(reason.contains("advisory") && reason.contains("CAP_NET_ADMIN"), "refused because `{reason}`");
    sidecar.kill()
}

#[test]
fn a_killed_sidecar_comes_back_to_the_table_it_left() -> anyhow::Result<()> {
    let Some(()) = able() else { return Ok(()) };
    let ground = Ground::lay(true)?;
    ground.serve()?;
    let mut sidecars = protect(&ground)?;
    for _ in 0..2 {
        for sidecar in &mut sidecars {
            sidecar.run(&ground)?;
        }
        expect_allowed(&ground, INSPECTED)?;
        for sidecar in &mut sidecars {
            sidecar.kill()?;
        }
        ensure!(ask(&ground, INSPECTED).is_err(), "a request passed that nobody inspected");
        expect_allowed(&ground, PLAIN).context("a flow that needs no inspection must go on")?;
    }
    Ok(())
}

/// `None`, with the reason on screen, where these trials cannot be made.
pub(crate) fn able() -> Option<()> {
    if !namespaces::possible() {
        skip("needs root, or `unshare --user --map-root-user` around the tests");
        return None;
    }
    if sidecars::program().is_none() {
        skip("BULKHEAD_BIN_DIR names no folder with bulkhead-proxy; `make test` builds it and sets that");
        return None;
    }
    Some(())
}

/// Loads the closed table in every pod.
fn protect(ground: &Ground) -> anyhow::Result<Vec<Sidecar>> {
    PODS.into_iter().map(|name| Sidecar::init(ground, name)).collect()
}

/// Loads the programs of some pods into their kernel tables. The worst case: the attacker knows user and marks of its own
/// sidecar. They open nothing: see THREATS.
fn enforce_in_kernel(ground: &Ground, pods: &[&str], more: &str) -> anyhow::Result<Vec<Firewall>> {
    let mut firewalls = Vec::new();
    for name in pods {
        let firewall = sidecars::enforce_in_kernel(ground, name, more)?;
        if *name == "attacker" {
            ground.betray(firewall.marks());
        }
        firewalls.push(firewall);
    }
    Ok(firewalls)
}

/// Makes the whole catalogue with some rights, a few attacks at a time, and gives what arrived.
fn make_all(ground: &Ground, rights: &str) -> anyhow::Result<Arrived> {
    let families = [Family::V4, Family::V6].into_iter();
    let all: Vec<(&Kind, Family)> = families
        .flat_map(|family| {
            KINDS.iter().filter(move |kind| kind.exists_in(family)).map(move |kind| (kind, family))
        })
        .collect();
    let next = Mutex::new(all.iter().zip(0u32..));
    let made = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let following = next.lock().expect("no panic while held").next();
                        let Some(((kind, family), index)) = following else { return anyhow::Ok(()) };
                        let started = Instant::now();
                        let attempted = ground.attack(kind, *family, Token::new(1, index), rights)?;
                        let elapsed = started.elapsed();
                        ensure!(elapsed < LONGEST, "{} took {elapsed:?}", kind.name);
                        made.lock().expect("no panic while held").push(attempted);
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic in a worker"))
    })?;
    judge(ground, &made.into_inner().expect("no panic while held"))
}

fn judge(ground: &Ground, made: &[Attempted]) -> anyhow::Result<Arrived> {
    let seen = ground.seen(|_| false);
    ensure!(ground.lost() == 0, "the canaries lost {} packets", ground.lost());
    let matched = match_seen(made, &seen);
    let strays: Vec<_> = matched.strays.iter().map(|index| &seen[*index]).collect();
    ensure!(strays.is_empty(), "arrived from nowhere: {strays:#?}");
    let mut arrived = Arrived::new();
    for (attempted, indexes) in made.iter().zip(&matched.of_attack) {
        let kind = Kind::named(&attempted.kind).context("a kind of the catalogue")?;
        ensure!(
            attempted.not_made.is_none() || table::NOT_MADE.contains(&kind.name) || attempted.unsupported(),
            "{}: {:?}",
            kind.name,
            attempted.not_made
        );
        for index in indexes {
            println!("arrived: {} {:?}: {:?}", kind.name, attempted.family, seen[*index]);
        }
        if !indexes.is_empty() {
            arrived.entry(kind.name).or_default().push(attempted.family.digit());
        }
    }
    arrived.values_mut().for_each(|families| families.sort_unstable());
    Ok(arrived)
}

/// At `web` or `store`, and not only at a port where a sidecar would have taken it.
fn is_at_a_protected_pod((place, arrival): &Seen) -> bool {
    matches!(*place, "web" | "store")
        && (arrival.via == Via::Listener || !CAPTURE_PORTS.contains(&arrival.destination_port))
}

/// What the policy allows succeeds, in both families.
fn expect_allowed(ground: &Ground, port: u16) -> anyhow::Result<()> {
    let answers = ask(ground, port)?;
    ensure!(
        answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")),
        "allowed, but answered {answers:?}"
    );
    Ok(())
}

fn ask(ground: &Ground, port: u16) -> anyhow::Result<Vec<String>> {
    ground.attacker.run(|| {
        [Family::V4, Family::V6]
            .into_iter()
            .map(|family| get(SocketAddr::new(WEB.of(family), port)))
            .collect()
    })?
}

fn get(address: SocketAddr) -> anyhow::Result<String> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET /api/orders/1 HTTP/1.1\r\nhost: web.shop\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

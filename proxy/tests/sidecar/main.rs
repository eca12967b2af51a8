//! The sidecar as a process: how it starts, dies, comes back and ends, with real traffic and nobody who controls it.
//!
//! Each test runs in a network namespace of its own (`support::in_own_network`); where the machine allows none, it says
//! `skipped:` and why. The controller's side is tested in `src/control/stream_tests.rs` and in `tests/`.

#[allow(dead_code)]
#[path = "../firewall/network.rs"]
mod network;
mod process;
#[allow(dead_code)]
#[path = "../firewall/program.rs"]
mod program;
#[path = "../../netfilter/tests/support/mod.rs"]
mod support;

use bulkhead_facts::{Direction, Effect, PathTemplate};
use bulkhead_policies::model::{HttpMatch, L7Section};
use bulkhead_policies::program::{L7Entry, L7Stage, Program, RuleIndex};
use bulkhead_proxy::firewall::INBOUND_PORT;
use bulkhead_proxy::firewall::limits::HEARTBEAT_LIFE;
use network::{PEER, POD, Peer, SILENCE, accept, dial, talk};
use process::{Sidecar, as_users_run_it};
use program::{Rules, What};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use support::{in_own_network, run, skipped};

const OPEN: u16 = 8000;
const INSPECTED: u16 = 8080;

/// The peer may reach port 8000, and `/ok` on port 8080; the pod may reach the peer's port 8000.
fn program() -> Program {
    let rules = Rules::new()
        .tcp(What::Allow, Direction::Ingress, &PEER, OPEN)
        .tcp(What::Inspect, Direction::Ingress, &PEER, INSPECTED)
        .tcp(What::Allow, Direction::Egress, &PEER, OPEN);
    let mut program = rules.judge().program().clone();
    let path = Some(PathTemplate::parse("/ok").expect("a path"));
    let section = Some(L7Section::Http(vec![HttpMatch { path, ..HttpMatch::default() }]));
    let allow = L7Entry { rule: RuleIndex(1), effect: Some(Effect::Allow), section };
    program.l7_chains[0].enforced = vec![L7Stage { entries: vec![allow] }];
    program
}

/// An app that answers every request on the inspected port with 200, in both families.
fn start_app() {
    for pod in POD {
        let listener = TcpListener::bind((pod, INSPECTED)).expect("listen");
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || answer_all(stream));
            }
        });
    }
}

fn answer_all(mut stream: TcpStream) {
    while read_head(&mut stream).is_ok_and(|head| !head.is_empty()) {
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// A head up to its empty line; empty at the end of the stream.
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte)? {
            0 => return Ok(String::new()),
            _ => head.push(byte[0]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The status that a request on an open connection gets; 0 if there was no answer.
fn status_on(stream: &mut TcpStream, path: &str) -> u16 {
    let sent = write!(stream, "GET {path} HTTP/1.1\r\nhost: pod\r\n\r\n");
    let head = sent.and_then(|()| read_head(stream)).unwrap_or_default();
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The status that the peer's request gets; 0 if it could not connect or there was no answer.
fn status(peer: &Peer, family: usize, path: &str) -> u16 {
    let connected = peer.dial(SocketAddr::new(POD[family], INSPECTED));
    connected.map_or(0, |mut stream| status_on(&mut stream, path))
}

#[test]
fn a_sidecar_that_never_had_a_program_denies_everything_and_is_not_ready() {
    in_own_network("a_sidecar_that_never_had_a_program_denies_everything_and_is_not_ready", &[], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised("new");
        sidecar.start();
        sidecar.wait_for("/readyz", |answer| answer.contains("503") && answer.contains("no program yet"));
        let _server = peer.listen(PEER[0], OPEN);
        for family in [0, 1] {
            assert_eq!(status(&peer, family, "/ok"), 0);
            assert!(dial(SocketAddr::new(PEER[family], OPEN)).is_err());
        }
    });
}

#[test]
fn the_last_good_program_is_enforced_before_anybody_is_asked() {
    in_own_network("the_last_good_program_is_enforced_before_anybody_is_asked", &[], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised("last-good").with_last_good(&program());
        sidecar.start_until_ready();
        for family in [0, 1] {
            assert_eq!(status(&peer, family, "/ok"), 200);
            assert_eq!(status(&peer, family, "/admin"), 403);
        }
        let metrics = sidecar.ask("/metrics").expect("metrics");
        let denied = r#"bulkhead_denials_total{direction="ingress",reason="l7_mismatch"} 2"#;
        assert!(metrics.contains(denied), "{metrics}");
        let infrastructure = r#"bulkhead_table_packets_total{rule="neighbour discovery in"} "#;
        sidecar.wait_for("/metrics", |metrics| {
            metrics.lines().any(|line| line.strip_prefix(infrastructure).is_some_and(|count| count != "0"))
        });
    });
}

#[test]
fn what_the_kernel_passes_by_itself_is_counted_by_its_rule() {
    in_own_network("what_the_kernel_passes_by_itself_is_counted_by_its_rule", &[], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised("by-rule").with_last_good(&program());
        sidecar.start_until_ready();
        let app = TcpListener::bind((POD[0], OPEN)).expect("listen");
        let mut client = peer.dial(SocketAddr::new(POD[0], OPEN)).expect("allowed");
        let (mut server, _) = accept(&app).expect("arrives");
        for _ in 0..10 {
            talk(&mut client, &mut server).expect("a conversation");
        }
        assert!(peer.dial(SocketAddr::new(POD[0], OPEN + 1)).is_err());
        let of = |name: &str, effect: &str, metrics: &str| -> u64 {
            let series = format!("bulkhead_rule_{name}_total{{direction=\"ingress\",effect=\"{effect}\",");
            let lines = metrics.lines().filter(|line| line.starts_with(&series));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        // While it is open still: by the periodic dump.
        sidecar.wait_for("/metrics", |metrics| {
            let counted = ["connections", "packets", "bytes"].map(|name| of(name, "allow", metrics));
            counted[0] == 1
                && counted[1] > 20
                && counted[2] > 20 * 40
                && of("connections", "deny", metrics) > 0
        });
        let metrics = sidecar.ask("/metrics").expect("metrics");
        assert!(metrics.contains(r#"policy="SegmentPolicy/shop/policy",rule="rule-1""#), "{metrics}");
    });
}

#[test]
fn a_damaged_last_good_program_is_not_used() {
    in_own_network("a_damaged_last_good_program_is_not_used", &[], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised("damaged").with_last_good(&program());
        let path = sidecar.state().join("program");
        let mut bytes = std::fs::read(&path).expect("read");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).expect("write");
        sidecar.start();
        sidecar.wait_for("/readyz", |answer| answer.contains("no program yet"));
        assert_eq!(status(&peer, 0, "/ok"), 0);
    });
}

#[test]
fn killing_a_sidecar_leaks_nothing_and_flows_of_the_kernel_go_on() {
    in_own_network("killing_a_sidecar_leaks_nothing_and_flows_of_the_kernel_go_on", &[], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised("killed").with_last_good(&program());
        sidecar.start_until_ready();
        let app = TcpListener::bind((POD[0], OPEN)).expect("listen");
        let mut client = peer.dial(SocketAddr::new(POD[0], OPEN)).expect("allowed");
        let (mut server, _) = accept(&app).expect("arrives");
        talk(&mut client, &mut server).expect("a conversation");

        sidecar.kill();
        talk(&mut client, &mut server).expect("the conversation goes on");
        assert!(peer.dial(SocketAddr::new(POD[0], OPEN)).is_ok(), "allowed by the kernel alone");
        for family in [0, 1] {
            assert_eq!(status(&peer, family, "/ok"), 0, "nobody inspects");
        }
        assert!(peer.dial(SocketAddr::new(POD[0], OPEN + 1)).is_err());

        sidecar.start_until_ready();
        talk(&mut client, &mut server).expect("the conversation outlives the takeover");
        assert_eq!((status(&peer, 0, "/ok"), status(&peer, 0, "/admin")), (200, 403));
    });
}

#[test]
fn a_sidecar_that_dies_under_audit_stops_nothing() {
    in_own_network("a_sidecar_that_dies_under_audit_stops_nothing", &[], || {
        let peer = Peer::connect();
        start_app();
        let audited = Rules::new().tcp(What::Audit, Direction::Ingress, &PEER, INSPECTED).judge();
        let mut sidecar = Sidecar::initialised("audit").with_last_good(audited.program());
        sidecar.start_until_ready();
        let seen =
            r#"bulkhead_verdicts_total{direction="ingress",enforced="allow",layer="l7",shadow="deny"} "#;
        sidecar.wait_for("/metrics", |metrics| {
            assert_eq!(status(&peer, 0, "/admin"), 200);
            metrics.lines().any(|line| line.strip_prefix(seen).is_some_and(|count| count != "0"))
        });

        sidecar.kill();
        thread::sleep(HEARTBEAT_LIFE);
        for family in [0, 1] {
            assert_eq!(status(&peer, family, "/admin"), 200, "nobody inspects, nothing is stopped");
        }
    });
}

#[test]
fn fail_open_lets_pass_what_nobody_inspects_and_nothing_else_and_says_so() {
    let name = "fail_open_lets_pass_what_nobody_inspects_and_nothing_else_and_says_so";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised_with("fail-open", &["--fail-open"]).with_last_good(&program());
        for family in [0, 1] {
            assert_eq!(status(&peer, family, "/ok"), 0, "closed until there is a program");
        }
        sidecar.start_until_ready();
        // From the first heartbeat on what is inspected is captured.
        sidecar.wait_for("/metrics", |_| [0, 1].iter().all(|family| status(&peer, *family, "/admin") == 403));
        let metrics = sidecar.ask("/metrics").expect("metrics");
        assert!(metrics.contains(r#"bulkhead_weakness{weakness="fail_open"} 1"#), "{metrics}");

        sidecar.kill();
        thread::sleep(HEARTBEAT_LIFE);
        let _app = TcpListener::bind((POD[0], OPEN + 1)).expect("listen");
        for family in [0, 1] {
            assert_eq!((status(&peer, family, "/ok"), status(&peer, family, "/admin")), (200, 200));
        }
        assert!(
            peer.dial(SocketAddr::new(POD[0], OPEN + 1)).is_err(),
            "what the kernel denies it still denies"
        );
        let _there = peer.listen(PEER[0], OPEN + 1);
        assert!(dial(SocketAddr::new(PEER[0], OPEN + 1)).is_err());

        sidecar.start_until_ready();
        sidecar.wait_for("/metrics", |_| [0, 1].iter().all(|family| status(&peer, *family, "/admin") == 403));
    });
}

#[test]
fn without_net_admin_a_sidecar_says_that_it_is_advisory_and_is_not_ready() {
    let name = "without_net_admin_a_sidecar_says_that_it_is_advisory_and_is_not_ready";
    in_own_network(name, &["setpriv"], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::powerless("advisory", &[]).with_last_good(&program());
        assert_eq!(sidecar.init().code(), Some(1), "the app must not start unprotected");
        sidecar.start();
        sidecar.wait_for("/readyz", |answer| answer.contains("503") && answer.contains("advisory"));
        let metrics = sidecar.ask("/metrics").expect("metrics");
        for line in [r#"bulkhead_capability{capability="advisory"} 1"#, "bulkhead_program_revision 0"] {
            assert!(metrics.contains(line), "`{line}` is not in: {metrics}");
        }
        assert_eq!(status(&peer, 0, "/admin"), 200, "and it is right: nothing is enforced");
    });
}

#[test]
fn without_net_admin_an_app_runs_unprotected_only_if_somebody_chose_so() {
    let name = "without_net_admin_an_app_runs_unprotected_only_if_somebody_chose_so";
    in_own_network(name, &["setpriv"], || {
        let _peer = Peer::connect();
        let mut sidecar = Sidecar::powerless("unprotected", &["--fail-open"]).with_last_good(&program());
        assert_eq!(sidecar.init().code(), Some(0));
        sidecar.start_until_ready();
        let metrics = sidecar.ask("/metrics").expect("metrics");
        for line in [
            r#"bulkhead_capability{capability="advisory"} 1"#,
            r#"bulkhead_weakness{weakness="fail_open"} 1"#,
        ] {
            assert!(metrics.contains(line), "`{line}` is not in: {metrics}");
        }
    });
}

#[test]
fn a_sidecar_without_the_right_leaves_a_closed_table_closed() {
    let name = "a_sidecar_without_the_right_leaves_a_closed_table_closed";
    in_own_network(name, &["setpriv"], || {
        let peer = Peer::connect();
        start_app();
        let _with_the_right = Sidecar::initialised("closed-before");
        let mut sidecar = Sidecar::powerless("closed", &["--fail-open"]).with_last_good(&program());
        sidecar.start();
        for family in [0, 1, 0, 1] {
            assert_eq!(status(&peer, family, "/ok"), 0);
        }
        assert_eq!(sidecar.ask("/readyz"), None, "nor does the table know it for the sidecar");
    });
}

#[test]
fn a_table_that_was_flushed_is_back_within_a_second_and_rules_of_others_are_told_of() {
    let name = "a_table_that_was_flushed_is_back_within_a_second_and_rules_of_others_are_told_of";
    in_own_network(name, &["nft"], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised("flushed").with_last_good(&program());
        sidecar.start_until_ready();
        let _app = TcpListener::bind((POD[0], OPEN + 1)).expect("listen");
        // The machine may be busy with other tests: the best of some says how soon the sidecar looks.
        let noticed = (1..=3).map(|number| {
            let flushed = Instant::now();
            run("nft", &["flush", "ruleset"]);
            let told = format!("bulkhead_table_tampering_total {number}");
            sidecar.wait_for("/metrics", |metrics| metrics.contains(&told));
            flushed.elapsed()
        });
        let soonest = noticed.min().expect("some");
        println!("noticed, put back and told within {soonest:?}");
        assert!(soonest < Duration::from_secs(1), "{soonest:?}");
        assert!(peer.dial(SocketAddr::new(POD[0], OPEN + 1)).is_err());
        assert_eq!((status(&peer, 0, "/ok"), status(&peer, 1, "/admin")), (200, 403));
        run("nft", &["add", "table", "ip", "foreign"]);
        run("nft", &["add", "chain", "ip", "foreign", "c", "{ type nat hook output priority 0 ; }"]);
        let foreign = r#"bulkhead_weakness{weakness="foreign_rules"} 1"#;
        sidecar.wait_for("/metrics", |metrics| metrics.contains(foreign));
    });
}

#[test]
fn an_app_on_the_administrative_port_neither_receives_anything_nor_keeps_enforcement_from_starting() {
    let name =
        "an_app_on_the_administrative_port_neither_receives_anything_nor_keeps_enforcement_from_starting";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised("admin-port").with_last_good(&program());
        let thief = TcpListener::bind((POD[0], 15020)).expect("the port is free");
        assert!(dial(SocketAddr::new(POD[0], 15020)).is_err(), "not even from the pod itself");
        sidecar.start();
        let started = Instant::now();
        while status(&peer, 0, "/ok") != 200 {
            assert!(started.elapsed() < Duration::from_secs(20), "the sidecar does not enforce");
        }
        assert_eq!(status(&peer, 0, "/admin"), 403);
        drop(thief);
        sidecar.wait_for("/readyz", |answer| answer.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn an_app_on_a_capturing_port_receives_nothing_and_keeps_only_inspection_from_starting() {
    let name = "an_app_on_a_capturing_port_receives_nothing_and_keeps_only_inspection_from_starting";
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised("capture-port").with_last_good(&program());
        let thief = TcpListener::bind((POD[0], INBOUND_PORT)).expect("the port is free");
        sidecar.start();
        sidecar.wait_for("/readyz", |answer| answer.contains("503") && answer.contains("listeners"));
        let _app = TcpListener::bind((POD[0], OPEN)).expect("listen");
        assert!(peer.dial(SocketAddr::new(POD[0], OPEN)).is_ok(), "the program is in force");
        assert_eq!((status(&peer, 0, "/ok"), status(&peer, 0, "/admin")), (0, 0), "nobody inspects");
        thief.set_nonblocking(true).expect("option");
        assert!(thief.accept().is_err(), "the app received what was to be inspected");
        drop(thief);
        sidecar.wait_for("/readyz", |answer| answer.starts_with("HTTP/1.1 200"));
        assert_eq!((status(&peer, 0, "/ok"), status(&peer, 0, "/admin")), (200, 403));
    });
}

#[test]
fn a_drain_lets_open_connections_finish_and_leaves_the_table() {
    in_own_network("a_drain_lets_open_connections_finish_and_leaves_the_table", &["kill"], || {
        let peer = Peer::connect();
        let app = TcpListener::bind((POD[0], INSPECTED)).expect("listen");
        let mut sidecar = Sidecar::initialised("drained").with_last_good(&program());
        sidecar.start_until_ready();
        let mut client = peer.dial(SocketAddr::new(POD[0], INSPECTED)).expect("captured");
        client.write_all(b"GET /ok HTTP/1.1\r\nhost: pod\r\n\r\n").expect("send");
        let (mut server, _) = accept(&app).expect("the request is let through");
        assert!(read_head(&mut server).expect("a head").starts_with("GET /ok"));

        sidecar.terminate();
        sidecar.wait_for("/readyz", |answer| answer.contains("draining"));
        assert_eq!(status(&peer, 0, "/ok"), 0, "a new connection while draining");
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").expect("answer");
        assert!(read_head(&mut client).expect("a head").starts_with("HTTP/1.1 200"));
        drop((client, server));
        assert_eq!(sidecar.wait().code(), Some(0));
        assert_eq!(status(&peer, 0, "/ok"), 0, "nobody inspects any more");
        assert!(dial(SocketAddr::new(PEER[0], OPEN + 1)).is_err(), "the table stays");
    });
}

#[test]
fn an_idle_sidecar_is_small_and_soon_ready() {
    const MEMORY_KIB_MAX: u64 = 12 * 1024;
    const READY_MAX: Duration = Duration::from_millis(100);
    let name = "an_idle_sidecar_is_small_and_soon_ready";
    if as_users_run_it().is_none() {
        return skipped(name, "needs the folder of the binaries that users run in BULKHEAD_BIN_DIR");
    }
    in_own_network(name, &[], || {
        let peer = Peer::connect();
        start_app();
        let mut sidecar = Sidecar::initialised("small").with_last_good(&program());
        // The machine may be busy with other tests: the best of some starts says what the sidecar needs.
        let ready = (0..5).map(|_| {
            let ready = sidecar.start_until_ready();
            sidecar.kill();
            ready
        });
        let fastest = ready.min().expect("some");
        sidecar.start_until_ready();
        assert_eq!(status(&peer, 0, "/ok"), 200);
        thread::sleep(2 * SILENCE);
        let memory_kib = sidecar.memory_kib();
        println!("ready in {fastest:?}, {memory_kib} KiB");
        assert!(fastest < READY_MAX, "ready after {fastest:?}");
        assert!(memory_kib < MEMORY_KIB_MAX, "{memory_kib} KiB");
    });
}

//! Addresses that names lead to: admitted before the answer comes, for the ports of the rule, as long as the answer says.

use crate::network::{PEER, accept, dial};
use crate::policy::{self, SERVERS};
use crate::server::{A, AAAA, ask, ask_tcp};
use crate::support::{in_own_network, run};
use crate::{CARD, Ground, INSIDE, ground};
use bulkhead_proxy::control::last_good::LastGood;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Every name may be asked for; what `*.card.example` has may be reached on port 443.
fn by_name() -> String {
    format!(
        "    - {{name: names, {SERVERS}}}\n    - {{name: card, to: [{{fqdn: '*.card.example'}}], ports: [443]}}"
    )
}

fn card(family: usize, port: u16) -> SocketAddr {
    SocketAddr::new(CARD[family].parse().expect("address"), port)
}

fn listen(ground: &Ground, address: &str, port: u16) -> TcpListener {
    ground.peer.listen(address.parse().expect("address"), port)
}

/// A line each way, of a protocol that names nobody: a connection by name is read for whom it means.
fn talk(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    let pass = |from: &mut TcpStream, to: &mut TcpStream| {
        let mut line = [0; 7];
        from.write_all(b"hello\r\n")?;
        to.set_read_timeout(Some(Duration::from_secs(2)))?;
        to.read_exact(&mut line)
    };
    pass(client, server)?;
    pass(server, client)
}

#[test]
fn an_address_is_admitted_when_its_name_is_answered_and_only_on_the_ports_of_the_rule() {
    in_own_network(
        "learned::an_address_is_admitted_when_its_name_is_answered_and_only_on_the_ports_of_the_rule",
        &[],
        || {
            let ground = ground("admitted", &by_name());
            for (family, record) in [(0, A), (1, AAAA)] {
                let there = listen(&ground, CARD[family], 443);
                let _other_port = listen(&ground, CARD[family], 80);
                assert!(dial(card(family, 443)).is_err(), "nobody has asked for its name");
                // Again and again: the address is there as soon as the answer is.
                assert_eq!(ask(PEER[family], "api.card.example", record).expect("answered").records, 1);
                let mut client = dial(card(family, 443)).expect("admitted");
                talk(&mut client, &mut accept(&there).expect("arrives").0).expect("both directions");
                assert!(dial(card(family, 80)).is_err(), "another port");
            }
            let metrics = ground.sidecar.ask("/metrics").expect("answers");
            assert!(metrics.contains("bulkhead_named_addresses 2"), "{metrics}");
        },
    );
}

#[test]
fn only_what_the_name_leads_to_is_admitted() {
    in_own_network("learned::only_what_the_name_leads_to_is_admitted", &[], || {
        let ground = ground("leads", &by_name());
        let _there = [
            listen(&ground, CARD[0], 443),
            listen(&ground, "203.0.113.10", 443),
            listen(&ground, INSIDE, 443),
        ];
        // No rule names it.
        ask(PEER[0], "api.evil.example", A).expect("answered");
        assert!(dial(card(0, 443)).is_err());
        // A record of another name, an address inside, and what answers another question.
        ask(PEER[0], "stray.card.example", A).expect("answered");
        ask(PEER[0], "rebind.card.example", A).expect("answered");
        ask(PEER[0], "forged.card.example", A).expect("answered");
        assert!(dial(SocketAddr::new("203.0.113.10".parse().expect("address"), 443)).is_err());
        assert!(dial(SocketAddr::new(INSIDE.parse().expect("address"), 443)).is_err());
        assert!(dial(card(0, 443)).is_ok(), "the right answer of the forged ones");
    });
}

#[test]
fn answers_by_tcp_admit_as_well() {
    in_own_network("learned::answers_by_tcp_admit_as_well", &[], || {
        let ground = ground("by-tcp", &by_name());
        let _there = listen(&ground, CARD[0], 443);
        assert_eq!(ask_tcp(PEER[0], &[("api.card.example", A)]).expect("answered")[0].records, 1);
        assert!(dial(card(0, 443)).is_ok());
    });
}

#[test]
fn another_protocol_on_the_port_of_name_servers_passes_where_nothing_is_judged() {
    in_own_network(
        "learned::another_protocol_on_the_port_of_name_servers_passes_where_nothing_is_judged",
        &[],
        || {
            let rules =
                format!("{}\n    - {{name: all, to: [{{cidr: 203.0.113.0/24}}], ports: [53]}}", by_name());
            let ground = ground("tunnel", &rules);
            let there = listen(&ground, CARD[0], 53);
            let mut client = dial(card(0, 53)).expect("captured");
            let (mut server, _) = accept(&there).expect("arrives");
            talk(&mut client, &mut server).expect("`ping` is no question: it passes");
            talk(&mut server, &mut client).expect("and whoever speaks");
        },
    );
}

#[test]
fn every_answer_admits_before_it_is_told() {
    in_own_network("learned::every_answer_admits_before_it_is_told", &[], || {
        let ground = ground("race", &by_name());
        let there = listen(&ground, "203.0.113.10", 443);
        let second = SocketAddr::new("203.0.113.10".parse().expect("address"), 443);
        assert!(dial(second).is_err());
        let asked = ask(PEER[0], "second.card.example", A);
        let connected = dial(second);
        assert!(asked.is_some() && connected.is_ok(), "no time between the answer and the admission");
        drop(there);
    });
}

#[test]
fn what_was_learned_is_there_after_a_restart() {
    in_own_network("learned::what_was_learned_is_there_after_a_restart", &[], || {
        let mut ground = ground("restart", &by_name());
        let there = listen(&ground, CARD[0], 443);
        ask(PEER[0], "api.card.example", A).expect("answered");
        let mut client = dial(card(0, 443)).expect("admitted");
        talk(&mut client, &mut accept(&there).expect("arrives").0).expect("open");
        // A second later it is kept: then the process may die in any way.
        sleep(Duration::from_millis(1_300));
        ground.sidecar.kill();
        assert!(dial(card(0, 443)).is_err(), "nobody reads for whom it means");
        ground.sidecar.start_until_ready();
        let mut client = dial(card(0, 443)).expect("nobody had to ask again");
        talk(&mut client, &mut accept(&there).expect("arrives").0).expect("open");
    });
}

#[test]
fn a_new_program_keeps_what_its_rules_still_name_and_ends_the_rest() {
    in_own_network("learned::a_new_program_keeps_what_its_rules_still_name_and_ends_the_rest", &[], || {
        let rules =
            format!("{}\n    - {{name: post, to: [{{fqdn: '*.post.example'}}], ports: [25]}}", by_name());
        let mut ground = ground("reload", &rules);
        let (there, post) = (listen(&ground, CARD[0], 443), listen(&ground, "203.0.113.10", 25));
        ask(PEER[0], "api.card.example", A).expect("answered");
        ask(PEER[0], "second.post.example", A).expect("answered");
        let second = SocketAddr::new("203.0.113.10".parse().expect("address"), 25);
        let mut kept = dial(card(0, 443)).expect("admitted");
        talk(&mut kept, &mut accept(&there).expect("arrives").0).expect("open");
        let mut ended = dial(second).expect("admitted");
        talk(&mut ended, &mut accept(&post).expect("arrives").0).expect("open");
        ground.sidecar.terminate();
        ground.sidecar.wait();
        LastGood::within(&ground.sidecar.state()).write(&policy::program(&by_name())).expect("written");
        ground.sidecar.start_until_ready();
        let mut kept = dial(card(0, 443)).expect("still named");
        talk(&mut kept, &mut accept(&there).expect("arrives").0).expect("open");
        assert!(dial(second).is_err(), "no rule names it any more");
    });
}

/// The names of one address are told apart where the bytes say which is meant.
#[test]
fn cilium_31803_another_name_on_an_admitted_address_is_refused_where_it_shows() {
    in_own_network(
        "learned::cilium_31803_another_name_on_an_admitted_address_is_refused_where_it_shows",
        &[],
        || {
            let rules = format!(
                "    - {{name: names, {SERVERS}}}\n    - {{name: card, to: [{{fqdn: api.card.example}}], ports: [80], http: \
                 [{{hosts: [api.card.example]}}]}}"
            );
            let ground = ground("shared", &rules);
            let there = listen(&ground, CARD[0], 80);
            ask(PEER[0], "api.card.example", A).expect("answered");
            for (host, passes) in [("other.card.example", false), ("api.card.example", true)] {
                let mut client = dial(card(0, 80)).expect("captured");
                client.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
                let (mut server, _) = accept(&there).expect("dialled at accept");
                server.set_read_timeout(Some(Duration::from_millis(600))).expect("timeout");
                write!(client, "GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").expect("written");
                let mut buffer = [0; 512];
                let arrived = server.read(&mut buffer).unwrap_or(0);
                assert_eq!(arrived > 0, passes, "{host}");
                if !passes {
                    let length = client.read(&mut buffer).expect("refused");
                    assert!(buffer[..length].starts_with(b"HTTP/1.1 403"), "{host}");
                }
            }
        },
    );
}

/// A long trial: the grace of half a minute has to pass.
#[test]
fn a_time_that_is_over_admits_nothing_new_and_keeps_what_is_open() {
    if std::env::var_os("BULKHEAD_LONG").is_none() {
        return crate::support::skipped(
            "learned::a_time_that_is_over_admits_nothing_new_and_keeps_what_is_open",
            "takes a minute: set BULKHEAD_LONG=1; `dns::tests` holds the same with a clock of its own",
        );
    }
    in_own_network("learned::a_time_that_is_over_admits_nothing_new_and_keeps_what_is_open", &[], || {
        let ground = ground("over", &by_name());
        let there = listen(&ground, CARD[0], 443);
        ask(PEER[0], "short.card.example", A).expect("answered");
        let mut client = dial(card(0, 443)).expect("admitted");
        let (mut server, _) = accept(&there).expect("arrives");
        let started = Instant::now();
        while dial(card(0, 443)).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(60), "never over");
            sleep(Duration::from_secs(1));
        }
        talk(&mut client, &mut server).expect("open before, open still");
    });
}

#[test]
fn a_table_that_somebody_adds_an_address_to_is_put_back() {
    in_own_network("learned::a_table_that_somebody_adds_an_address_to_is_put_back", &["nft"], || {
        let ground = ground("tampering", &by_name());
        ask(PEER[0], "api.card.example", A).expect("answered");
        let sets = run("nft", &["list", "sets", "inet"]);
        let all = run("nft", &["list", "maps", "inet"]);
        let name =
            all.lines().chain(sets.lines()).find(|line| line.contains("egress_names4_")).expect("the map");
        let name = name.split_whitespace().nth(1).expect("a name").to_owned();
        let listed = run("nft", &["list", "map", "inet", "bulkhead", &name]);
        let class =
            listed.split("203.0.113.9").nth(1).expect("the address").split(" : ").nth(1).expect("a class");
        let class = class.split_whitespace().next().expect("a class").trim_end_matches(',').to_owned();
        let element = format!("{{ 203.0.113.10 : {class} }}");
        run("nft", &["add", "element", "inet", "bulkhead", &name, &element]);
        let there = listen(&ground, "203.0.113.10", 443);
        let second: IpAddr = "203.0.113.10".parse().expect("address");
        let started = Instant::now();
        while dial(SocketAddr::new(second, 443)).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(5), "nobody noticed");
            sleep(Duration::from_millis(50));
        }
        drop(there);
        let _there = listen(&ground, CARD[0], 443);
        // The table is closed for a moment while it is put back.
        while dial(card(0, 443)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(5), "what was learned is gone");
            sleep(Duration::from_millis(20));
        }
    });
}

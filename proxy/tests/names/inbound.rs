//! A name server in a pod: questions from outside are judged as well, and the app sees who asks.

use crate::network::{PEER, POD, Peer, SILENCE, with_timeout};
use crate::policy::SERVERS;
use crate::process::Sidecar;
use crate::server::{A, TXT, ask, question_message};
use crate::support::in_own_network;
use crate::{Ground, ground_under, policy};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

const RULES: &str = "ingress:
    - {name: names, from: [{cidr: 10.0.0.9/32}, {cidr: 'fd00::9/128'}], ports: [udp/53, 53], dns: [{names: ['*.card.example']}]}";

#[test]
fn questions_to_a_name_server_of_the_pod_are_judged_and_it_sees_who_asks() {
    const TEST: &str = "inbound::questions_to_a_name_server_of_the_pod_are_judged_and_it_sees_who_asks";
    judges_questions(TEST, "client-address", |_, client| client);
}

#[test]
fn questions_to_a_name_server_of_the_pod_are_judged_where_it_sees_the_pods_own_address() {
    const TEST: &str =
        "inbound::questions_to_a_name_server_of_the_pod_are_judged_where_it_sees_the_pods_own_address";
    judges_questions(TEST, "redirect", |pod, _| pod);
}

/// `asker` says of the pod's and the client's address which one the app sees.
fn judges_questions(test: &str, capture: &'static str, asker: fn(IpAddr, IpAddr) -> IpAddr) {
    in_own_network(test, &[], || {
        let flags: &[&str] = match capture {
            "redirect" => &["--capture", "redirect"],
            _ => &["--capture", "client-address"],
        };
        let peer = Peer::connect();
        let (seen, arrived) = channel();
        for address in POD {
            let app = UdpSocket::bind((address, 53)).expect("bind");
            let seen = seen.clone();
            thread::spawn(move || {
                let mut buffer = [0; 512];
                while let Ok((length, from)) = app.recv_from(&mut buffer) {
                    let _ = seen.send((buffer[..length].to_vec(), from));
                    buffer[2] |= 0x80;
                    let _ = app.send_to(&buffer[..length], from);
                }
            });
        }
        let sidecar = Sidecar::initialised("inbound").with_last_good(&policy::program(RULES));
        let mut sidecar = sidecar.running_with(flags);
        sidecar.start_until_ready();
        for (pod, from) in POD.into_iter().zip(PEER) {
            let client = peer.udp(from, 0);
            let server = SocketAddr::new(pod, 53);
            client.send_to(&question_message(7, "api.card.example", A), server).expect("sent");
            let mut buffer = [0; 512];
            let (_, answered_by) = client.recv_from(&mut buffer).expect("answered");
            assert_eq!((answered_by, buffer[..2] == [0, 7], buffer[3] & 15), (server, true, 0));
            let (_, seen) = arrived.recv().expect("the app was asked");
            assert_eq!(seen.ip(), asker(pod, from));
            client.send_to(&question_message(8, "secret.evil.example", TXT), server).expect("sent");
            let (length, _) = client.recv_from(&mut buffer).expect("refused");
            assert_eq!(buffer[3] & 15, 5);
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            assert!(text.contains("l7_mismatch") && !text.contains("rule"), "a peer learns no more: {text}");
            assert!(arrived.try_recv().is_err(), "the app was not asked");
        }
        let stranger = with_timeout(peer.run(|| UdpSocket::bind("10.0.0.66:0").expect("bind")));
        stranger.send_to(&question_message(9, "api.card.example", A), (POD[0], 53)).expect("sent");
        assert!(stranger.recv(&mut [0; 512]).is_err(), "whom no rule names is not even refused");
        let direct = peer.udp(PEER[0], 0);
        direct.send_to(&question_message(9, "api.card.example", A), (POD[0], 15_007)).expect("sent");
        assert!(direct.recv(&mut [0; 512]).is_err(), "our port cannot be addressed");
    });
}

#[test]
fn whoever_asks_the_pod_more_than_there_is_room_for_does_not_keep_it_from_asking() {
    in_own_network(
        "inbound::whoever_asks_the_pod_more_than_there_is_room_for_does_not_keep_it_from_asking",
        &[],
        || {
            let rules = format!("{RULES}\n  egress:\n    - {{name: names, {SERVERS}, dns: [{{}}]}}");
            let Ground { sidecar, peer, server: _server } = ground_under("crowd", &policy::program(&rules));
            let silent = POD.map(|pod| UdpSocket::bind((pod, 53)).expect("bind"));
            let client = peer.udp(PEER[0], 0);
            let started = Instant::now();
            let none = "bulkhead_dns_no_room_total 0\n";
            while sidecar.ask("/metrics").is_none_or(|metrics| metrics.contains(none)) {
                assert!(started.elapsed() < Duration::from_secs(5), "there is always room");
                for id in 0..100 {
                    client.send_to(&question_message(id, "api.card.example", A), (POD[0], 53)).expect("sent");
                }
            }
            assert_eq!(ask(PEER[0], "api.card.example", A).expect("answered").code, 0);
            // Nor others from asking it.
            let other = peer.udp(PEER[1], 0);
            other.send_to(&question_message(7, "api.card.example", A), (POD[1], 53)).expect("sent");
            silent[1].set_read_timeout(Some(3 * SILENCE)).expect("timeout");
            silent[1].recv(&mut [0; 512]).expect("the question of another peer");
        },
    );
}

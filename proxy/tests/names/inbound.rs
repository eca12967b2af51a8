//! A name server in a pod: questions from outside are judged as well, and the app sees who asks.

use crate::network::{PEER, POD, Peer, with_timeout};
use crate::policy;
use crate::process::Sidecar;
use crate::server::{A, TXT, question_message};
use crate::support::in_own_network;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::channel;
use std::thread;

const RULES: &str = "ingress:
    - {name: names, from: [{cidr: 10.0.0.9/32}, {cidr: 'fd00::9/128'}], ports: [udp/53, 53], dns: [{names: ['*.card.example']}]}";

#[test]
fn questions_to_a_name_server_of_the_pod_are_judged_and_it_sees_who_asks() {
    in_own_network(
        "inbound::questions_to_a_name_server_of_the_pod_are_judged_and_it_sees_who_asks",
        &[],
        || {
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
            let mut sidecar = Sidecar::initialised("inbound").with_last_good(&policy::program(RULES));
            sidecar.start_until_ready();
            for (pod, from) in POD.into_iter().zip(PEER) {
                let client = peer.udp(from, 0);
                let server = SocketAddr::new(pod, 53);
                client.send_to(&question_message(7, "api.card.example", A), server).expect("sent");
                let mut buffer = [0; 512];
                let (_, answered_by) = client.recv_from(&mut buffer).expect("answered");
                assert_eq!((answered_by, buffer[..2] == [0, 7], buffer[3] & 15), (server, true, 0));
                let (_, asker) = arrived.recv().expect("the app was asked");
                assert_eq!(asker.ip(), from, "the client's address is kept");
                client.send_to(&question_message(8, "secret.evil.example", TXT), server).expect("sent");
                let (length, _) = client.recv_from(&mut buffer).expect("refused");
                assert_eq!(buffer[3] & 15, 5);
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                assert!(
                    text.contains("l7_mismatch") && !text.contains("rule"),
                    "a peer learns no more: {text}"
                );
                assert!(arrived.try_recv().is_err(), "the app was not asked");
            }
            let stranger = with_timeout(peer.run(|| UdpSocket::bind("10.0.0.66:0").expect("bind")));
            stranger.send_to(&question_message(9, "api.card.example", A), (POD[0], 53)).expect("sent");
            assert!(stranger.recv(&mut [0; 512]).is_err(), "whom no rule names is not even refused");
            let direct = peer.udp(PEER[0], 0);
            direct.send_to(&question_message(9, "api.card.example", A), (POD[0], 15_007)).expect("sent");
            assert!(direct.recv(&mut [0; 512]).is_err(), "our port cannot be addressed");
        },
    );
}

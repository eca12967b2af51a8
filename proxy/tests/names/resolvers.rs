//! What the resolvers of C libraries, Go and name servers do beyond asking one question: it works, and opens nothing.

use crate::network::{PEER, SILENCE, dial};
use crate::policy::SERVERS;
use crate::server::{A, AAAA, TXT, ask, ask_tcp, question_message, read_framed, write_framed};
use crate::support::in_own_network;
use crate::{Ground, ground};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

const AXFR: u16 = 252;

/// Addresses of one family only.
fn one_family() -> String {
    format!("    - {{name: names, {SERVERS}, dns: [{{names: ['*.card.example'], types: [A]}}]}}")
}

/// Asks for both families at once from one socket, as C libraries do; how it went and records by identifier.
fn ask_for_both(server: IpAddr, name: &str) -> BTreeMap<u16, (u8, u8)> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("bind");
    socket.set_read_timeout(Some(3 * SILENCE)).expect("timeout");
    for record in [A, AAAA] {
        socket.send_to(&question_message(record, name, record), (server, 53)).expect("sent");
    }
    let mut buffer = [0; 512];
    let mut told = || {
        let (_, from) = socket.recv_from(&mut buffer).expect("answered");
        assert_eq!(from, SocketAddr::new(server, 53));
        (u16::from_be_bytes([buffer[0], buffer[1]]), (buffer[3] & 15, buffer[7]))
    };
    [told(), told()].into()
}

#[test]
fn both_families_can_be_asked_for_at_once_from_one_socket() {
    in_own_network("resolvers::both_families_can_be_asked_for_at_once_from_one_socket", &[], || {
        let rule = format!("    - {{name: names, {SERVERS}, dns: [{{names: ['*.card.example']}}]}}");
        let Ground { server: _server, sidecar: _sidecar, peer: _peer } = ground("both", &rule);
        for address in PEER {
            let told = ask_for_both(address, "aPi.CARD.example");
            assert_eq!(told, [(A, (0, 1)), (AAAA, (0, 1))].into(), "{address}");
        }
    });
}

#[test]
fn a_family_that_may_not_be_asked_for_has_no_addresses_while_the_other_has() {
    in_own_network(
        "resolvers::a_family_that_may_not_be_asked_for_has_no_addresses_while_the_other_has",
        &[],
        || {
            let Ground { server, sidecar, peer: _peer } = ground("family", &one_family());
            let told = ask_for_both(PEER[0], "api.card.example");
            assert_eq!(told, [(A, (0, 1)), (AAAA, (0, 0))].into(), "resolvers go on with what there is");
            assert_eq!(server.all().len(), 1, "the other question did not leave");
            let told = ask_for_both(PEER[0], "api.card.example.shop.svc.cluster.local");
            assert_eq!(told, [(A, (3, 0)), (AAAA, (3, 0))].into(), "with an end of a search list");
            let told = ask(PEER[0], "api.card.example", AAAA).expect("told");
            assert!(told.text.contains("to `dns` of rule `names`"), "{}", told.text);
            for (name, record) in [("api.card.example", TXT), ("api.evil.example", AAAA)] {
                assert_eq!(ask(PEER[0], name, record).expect("refused").code, 5, "{name} {record}");
            }
            let metrics = sidecar.ask("/metrics").expect("answers");
            assert!(metrics.contains("bulkhead_dns_refused_total 4"), "{metrics}");
        },
    );
}

#[test]
fn of_an_answer_that_was_cut_within_a_record_only_that_it_was_cut_is_told() {
    in_own_network(
        "resolvers::of_an_answer_that_was_cut_within_a_record_only_that_it_was_cut_is_told",
        &[],
        || {
            let Ground { server: _server, sidecar: _sidecar, peer: _peer } = ground("broken", &one_family());
            // Resolvers that do not ask again by TCP would take the record that is whole.
            let told = ask(PEER[0], "broken.card.example", A).expect("answered");
            assert_eq!((told.code, told.cut, told.records), (0, true, 0));
        },
    );
}

#[test]
fn who_answers_from_elsewhere_is_not_heard() {
    in_own_network("resolvers::who_answers_from_elsewhere_is_not_heard", &[], || {
        let rules = format!(
            "{}\n    - {{name: cards, to: [{{fqdn: '*.card.example'}}], ports: [443]}}",
            one_family()
        );
        let Ground { server, sidecar: _sidecar, peer: _peer } = ground("elsewhere", &rules);
        assert_eq!(ask(PEER[0], "elsewhere.card.example", A), None);
        assert_eq!(server.names(), ["elsewhere.card.example"], "it was asked");
        assert!(dial(SocketAddr::new(crate::CARD[0].parse().expect("address"), 443)).is_err());
    });
}

#[test]
fn a_transfer_is_passed_on_to_its_last_message() {
    in_own_network("resolvers::a_transfer_is_passed_on_to_its_last_message", &[], || {
        let rule = format!("    - {{name: names, {SERVERS}, dns: [{{names: ['zone.card.example']}}]}}");
        let Ground { server: _server, sidecar: _sidecar, peer: _peer } = ground("transfer", &rule);
        let mut stream = TcpStream::connect((PEER[0], 53)).expect("captured");
        stream.set_read_timeout(Some(3 * SILENCE)).expect("timeout");
        write_framed(&mut stream, &question_message(7, "zone.card.example", AXFR)).expect("sent");
        let questions = [1, 0].map(|_| read_framed(&mut stream).expect("passed on")[5]);
        assert_eq!(questions, [1, 0], "the second does not repeat the question");
        assert_eq!(ask_tcp(PEER[0], &[("api.card.example", AXFR)]).expect("answered")[0].code, 5);
    });
}

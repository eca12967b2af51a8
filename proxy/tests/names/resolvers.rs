//! What the resolvers of C libraries, Go and name servers do beyond asking one question: it works, and opens nothing.

use crate::network::{PEER, SILENCE, dial};
use crate::policy::SERVERS;
use crate::server::{A, AAAA, TXT, ask, ask_tcp, question_message, read_framed, write_framed};
use crate::support::{in_own_network, run};
use crate::{Ground, ground};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use tempfile::NamedTempFile;

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

/// What the C library finds for a name with such a configuration.
fn getent(name: &str, configuration: &str) -> Vec<String> {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), configuration).expect("written");
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec getent ahosts \"$1\"";
    let output =
        Command::new("unshare").args(["--mount", "sh", "-c", script]).arg(file.path()).arg(name).output();
    let output = output.expect("unshare runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found: Vec<String> =
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    found.dedup();
    found
}

#[test]
fn the_resolver_of_the_c_library_finds_what_may_be_asked_in_every_way_that_it_has() {
    let test = "resolvers::the_resolver_of_the_c_library_finds_what_may_be_asked_in_every_way_that_it_has";
    in_own_network(test, &["getent", "mount", "sh"], || {
        let Ground { server, sidecar: _sidecar, peer: _peer } = ground("library", &one_family());
        let search = "search shop.svc.cluster.local svc.cluster.local cluster.local";
        for way in ["", "edns0 trust-ad", "single-request", "single-request-reopen", "use-vc", "no-tld-query"]
        {
            for address in PEER {
                let configuration =
                    format!("nameserver {address}\n{search}\noptions ndots:5 timeout:2 {way}\n");
                assert_eq!(getent("api.card.example", &configuration), [crate::CARD[0]], "{address} {way}");
                assert_eq!(getent("api.evil.example", &configuration), [""; 0], "{address} {way}");
            }
        }
        assert!(server.all().iter().all(|asked| asked.name() == "api.card.example"), "{:?}", server.names());
        assert!(server.all().iter().any(|asked| asked.tcp), "by TCP too");
    });
}

/// Asks for addresses of both families and for text, with the case of the name as it is, by c-ares.
const NODE: &str = "
const { Resolver } = require('dns').promises;
const resolver = new Resolver({ timeout: 2000, tries: 2 });
resolver.setServers([process.argv[1]]);
const told = (asked) => asked.then(String, (error) => error.code);
const [name, text] = ['ApI.cArD.example', 'api.card.example'];
Promise.all([told(resolver.resolve4(name)), told(resolver.resolve6(name)), told(resolver.resolveTxt(text))])
    .then((all) => console.log(all.join(' ')));
";

#[test]
fn the_resolver_of_node_is_told_what_may_be_asked_and_what_not() {
    let test = "resolvers::the_resolver_of_node_is_told_what_may_be_asked_and_what_not";
    in_own_network(test, &["node"], || {
        let Ground { server, sidecar: _sidecar, peer: _peer } = ground("node", &one_family());
        for address in PEER {
            let address = address.to_string();
            let told = run("node", &["-e", NODE, &address]);
            assert_eq!(told.trim(), format!("{} ENODATA EREFUSED", crate::CARD[0]), "{address}");
        }
        assert!(server.names().iter().all(|name| name == "api.card.example"), "{:?}", server.names());
    });
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

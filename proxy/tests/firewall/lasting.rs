//! The table outlives the sidecar, is adopted by the next one, and is put back when somebody changes it.

use crate::network::{
    PEER, POD, Peer, SILENCE, accept, datagram_arrives, dial, echo_answered, talk, with_timeout,
};
use crate::program::{Rules, What};
use crate::support::{in_own_network, ip, raw_socket, run};
use crate::{at, open, options};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_netfilter::{Batch, Connection, Rule, Table};
use bulkhead_proxy::firewall::{Firewall, TableState, load_closed};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

fn rules(port: u16) -> Rules {
    Rules::both_ways(What::Allow, &PEER, L4Protocol::TCP, port)
}

#[test]
fn the_next_sidecar_adopts_the_table_and_no_flow_notices() {
    in_own_network("lasting::the_next_sidecar_adopts_the_table_and_no_flow_notices", &[], || {
        let peer = Peer::connect();
        load_closed(options()).expect("loads");
        let mut firewall = open();
        let generation = firewall.apply(&rules(8000).judge()).expect("applied").generation;
        let app = TcpListener::bind(at(POD[0], 8000)).expect("listen");
        let mut client = peer.dial(at(POD[0], 8000)).expect("allowed");
        let mut server = accept(&app).expect("arrives").0;
        let marks = firewall.marks();
        drop(firewall);
        talk(&mut client, &mut server).expect("without a sidecar");
        assert!(dial(at(PEER[0], 8001)).is_err());

        let mut firewall = open();
        assert_eq!(firewall.generation(), generation, "adopted, not replaced");
        assert_ne!(firewall.marks(), marks);
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
        talk(&mut client, &mut server).expect("after adoption");
        assert!(peer.dial(at(POD[0], 8000)).is_ok(), "new flows under the program of the sidecar before");
        let next = firewall.apply(&rules(8000).judge()).expect("applied").generation;
        assert_eq!(next, generation + 1);
        talk(&mut client, &mut server).expect("after a reload");
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
    });
}

#[test]
fn loading_the_closed_table_again_changes_nothing() {
    in_own_network("lasting::loading_the_closed_table_again_changes_nothing", &[], || {
        let peer = Peer::connect();
        load_closed(options()).expect("loads");
        let mut firewall = open();
        let generation = firewall.apply(&rules(8000).judge()).expect("applied").generation;
        load_closed(options()).expect("again");
        assert_eq!(open().generation(), generation);
        let _app = TcpListener::bind(at(POD[0], 8000)).expect("listen");
        assert!(peer.dial(at(POD[0], 8000)).is_ok());
    });
}

/// A change to the table, and whether it must be seen.
type Tampering = (&'static str, fn(&mut Connection, &Table));

const TAMPERINGS: [Tampering; 11] = [
    ("all rules of all chains gone", |connection, table| {
        let mut batch = Batch::new();
        for chain in connection.chains(table).expect("dump") {
            batch.flush_chain(table, &chain.name);
        }
        connection.commit(&batch).expect("committed");
    }),
    ("the table gone", |connection, table| {
        let mut batch = Batch::new();
        batch.delete_table(table);
        connection.commit(&batch).expect("committed");
    }),
    ("the guard of frames gone", |connection, _| {
        let mut batch = Batch::new();
        batch.delete_table(&Table::netdev("bulkhead"));
        connection.commit(&batch).expect("committed");
    }),
    ("a rule more", |connection, table| {
        let mut batch = Batch::new();
        batch.add_rule(table, "deny_ingress", &Rule::new().accept());
        connection.commit(&batch).expect("committed");
    }),
    ("an accept in place of the entrance", |connection, table| {
        let mut batch = Batch::new();
        batch.flush_chain(table, "output");
        batch.add_rule(table, "output", &Rule::new().accept());
        connection.commit(&batch).expect("committed");
    }),
    ("everything of everybody gone", |_, _| {
        run("nft", &["flush", "ruleset"]);
    }),
    ("the guarded device under another name", |_, _| {
        for words in ["link set eth0 down", "link set eth0 name moved", "link set moved up"] {
            ip(words);
        }
        for words in ["addr add fd00::7/64 dev moved nodad", "route add default via 10.0.0.9"] {
            ip(words);
        }
        ip("-6 route add default via fd00::9");
    }),
    ("one of several elements less", |connection, table| {
        let sets = connection.sets(table).expect("dump");
        let name = &sets.iter().find(|set| set.name.starts_with("ingress_classes6_")).expect("a map").name;
        run("nft", &["delete", "element", "inet", "bulkhead", name, "{ fd00::9 }"]);
    }),
    ("an element of a lasting set less", |_, _| {
        run("nft", &["delete", "element", "inet", "bulkhead", "sidecar_ports", "{ 15006 }"]);
    }),
    ("an element less", |connection, table| {
        let sets = connection.sets(table).expect("dump");
        let name = &sets.iter().find(|set| set.name.starts_with("egress_ports_")).expect("a map").name;
        run("nft", &["flush", "map", "inet", "bulkhead", name]);
    }),
    ("an element more", |connection, table| {
        let sets = connection.sets(table).expect("dump");
        let name = &sets.iter().find(|set| set.name.starts_with("egress_classes4_")).expect("a map").name;
        let element = "{ 10.9.9.9 : 0x1 }";
        run("nft", &["add", "element", "inet", "bulkhead", name, element]);
    }),
];

#[test]
fn every_kind_of_tampering_is_noticed_and_put_back() {
    in_own_network("lasting::every_kind_of_tampering_is_noticed_and_put_back", &["nft"], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let mut connection = Connection::open().expect("socket");
        let table = Table::inet("bulkhead");
        firewall.apply(&rules(8000).judge()).expect("applied");
        let _servers = [peer.listen(PEER[0], 8000), peer.listen(PEER[0], 8001)];
        for (what, tamper) in TAMPERINGS {
            assert_eq!(firewall.verify().expect("compared"), TableState::Intact, "before {what}");
            tamper(&mut connection, &table);
            let state = firewall.verify().expect("compared");
            assert!(matches!(state, TableState::Restored(_)), "{what}: {state:?}");
            assert!(dial(at(PEER[0], 8000)).is_ok(), "{what}: the program is back");
            assert!(dial(at(PEER[0], 8001)).is_err(), "{what}: and nothing else");
        }
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
    });
}

#[test]
fn where_the_table_is_gone_nothing_leaves_until_it_is_back() {
    in_own_network("lasting::where_the_table_is_gone_nothing_leaves_until_it_is_back", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let everything = Direction::BOTH.into_iter().fold(Rules::new(), |rules, direction| {
            let icmp = [L4Protocol::ICMP, L4Protocol::ICMPV6].into_iter();
            icmp.fold(rules.tcp(What::Allow, direction, &PEER, 8000), |rules, protocol| {
                rules.rule(What::Allow, direction, &PEER, protocol, 0)
            })
            .rule(What::Allow, direction, &PEER, L4Protocol::UDP, 9000)
        });
        firewall.apply(&everything.judge()).expect("applied");
        for (pod, there) in POD.into_iter().zip(PEER) {
            let (app, server) = (TcpListener::bind(at(pod, 8000)).expect("listen"), peer.listen(there, 8000));
            let (ours, theirs) =
                (with_timeout(UdpSocket::bind(at(pod, 9000)).expect("bind")), peer.udp(there, 9000));
            let ping = with_timeout(
                raw_socket(there.is_ipv4(), if there.is_ipv4() { 1 } else { 58 }).expect("a socket"),
            );
            let mut out = dial(at(there, 8000)).expect("allowed");
            let mut out_end = accept(&server).expect("arrives").0;
            let mut into = peer.dial(at(pod, 8000)).expect("allowed");
            let mut into_end = accept(&app).expect("arrives").0;
            talk(&mut out, &mut out_end).and_then(|()| talk(&mut into, &mut into_end)).expect("allowed");
            let mut passes = || {
                let heard = |from: &mut TcpStream, to: &mut TcpStream| {
                    to.set_read_timeout(Some(SILENCE)).expect("timeout");
                    from.write_all(b"x").is_ok() && to.read_exact(&mut [0]).is_ok()
                };
                [
                    ("a connection that was open", heard(&mut out, &mut out_end)),
                    ("an answer on one", heard(&mut into_end, &mut into)),
                    ("a new connection", dial(at(there, 8000)).is_ok()),
                    ("an answer to a new one", peer.dial(at(pod, 8000)).is_ok()),
                    ("a datagram", datagram_arrives(&ours, &theirs)),
                    ("a message", echo_answered(&ping, there)),
                ]
            };
            for (what, passed) in passes() {
                assert!(passed, "{there}: {what} is allowed");
            }
            let mut batch = Batch::new();
            batch.delete_table(&Table::inet("bulkhead"));
            Connection::open().and_then(|mut connection| connection.commit(&batch)).expect("deleted");
            for (what, passed) in passes() {
                assert!(!passed, "{there}: {what} leaves without a table");
            }
            assert!(matches!(firewall.verify().expect("compared"), TableState::Restored(_)));
            assert!(dial(at(there, 8000)).is_ok(), "{there}: the program is back");
        }
    });
}

#[test]
fn rules_of_others_are_left_alone_and_told_of() {
    in_own_network("lasting::rules_of_others_are_left_alone_and_told_of", &["nft"], || {
        let peer = Peer::connect();
        let mut firewall = open();
        firewall.apply(&rules(8000).judge()).expect("applied");
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
        assert_eq!(firewall.foreign_rules(), None);
        let chain = "{ type filter hook output priority -400 ; policy accept ; }";
        run("nft", &["add", "table", "ip", "early"]);
        run("nft", &["add", "chain", "ip", "early", "output", chain]);
        run("nft", &["add", "rule", "ip", "early", "output", "accept"]);
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
        assert_eq!(firewall.foreign_rules(), Some("`ip early`"));
        let _server = peer.listen(PEER[0], 8001);
        assert!(dial(at(PEER[0], 8001)).is_err(), "what they accept we still deny");
        run("nft", &["delete", "table", "ip", "early"]);
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
        assert_eq!(firewall.foreign_rules(), None);
    });
}

#[test]
fn tables_of_others_are_left_alone_and_do_not_count_as_tampering() {
    in_own_network(
        "lasting::tables_of_others_are_left_alone_and_do_not_count_as_tampering",
        &["nft"],
        || {
            let _peer = Peer::connect();
            let mut firewall = open();
            firewall.apply(&rules(8000).judge()).expect("applied");
            run("nft", &["add", "table", "inet", "other"]);
            run("nft", &["add", "chain", "inet", "other", "c"]);
            assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
            firewall.heartbeat().expect("beats");
            assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
            assert!(run("nft", &["list", "tables"]).contains("table inet other"));
        },
    );
}

#[test]
fn a_table_that_was_opened_while_no_sidecar_lived_is_closed_by_the_next_one() {
    in_own_network(
        "lasting::a_table_that_was_opened_while_no_sidecar_lived_is_closed_by_the_next_one",
        &[],
        || {
            let peer = Peer::connect();
            let mut firewall = open();
            firewall.apply(&rules(8000).judge()).expect("applied");
            drop(firewall);
            let mut connection = Connection::open().expect("socket");
            for (what, tamper) in &TAMPERINGS[..5] {
                tamper(&mut connection, &Table::inet("bulkhead"));
                let mut firewall = open();
                let _server = peer.listen(PEER[0], 8001);
                assert!(dial(at(PEER[0], 8001)).is_err(), "{what}");
                firewall.apply(&rules(8000).judge()).expect("applied");
                assert_eq!(firewall.verify().expect("compared"), TableState::Intact, "{what}");
            }
        },
    );
}

#[test]
fn a_device_that_comes_later_is_guarded_too() {
    in_own_network("lasting::a_device_that_comes_later_is_guarded_too", &[], || {
        let _peer = Peer::connect();
        let mut firewall = open();
        ip("link add late type veth peer name end");
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
        let mut connection = Connection::open().expect("socket");
        let guards = || connection.chains(&Table::netdev("bulkhead")).expect("dump").len();
        let mut guards = guards;
        assert_eq!(guards(), 3, "eth0 and both ends of the new pair");
        ip("link del late");
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
    });
}

#[test]
fn what_nft_lists_can_be_read() {
    in_own_network("lasting::what_nft_lists_can_be_read", &["nft"], || {
        let _peer = Peer::connect();
        let mut firewall: Firewall = open();
        let captured = rules(8000).tcp(What::Inspect, Direction::Ingress, &PEER, 8001);
        let generation = firewall.apply(&captured.judge()).expect("applied").generation;
        let text = run("nft", &["list", "ruleset"]);
        for line in [
            "type filter hook prerouting priority mangle; policy drop;",
            &format!("goto arrived_{generation}"),
            &format!("meta mark set ct original ip saddr map @ingress_classes4_{generation}"),
            "comment \"neighbour discovery in\"",
            "redirect to :15006",
            "update @denied_ingress4 { ct original ip saddr . meta mark . ct protocol . ct original proto-dst",
            "type filter hook egress device \"eth0\" priority filter; policy drop;",
        ] {
            assert!(text.contains(line), "`{line}` is not in\n{text}");
        }
    });
}

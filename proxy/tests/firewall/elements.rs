//! Programs that differ by elements only: the maps in force change, and what is open is judged as by a reload.

use crate::network::{OTHER_PEER, PEER, POD, Peer, SILENCE, accept, dial, talk};
use crate::program::{Rules, What};
use crate::support::{enter_new_network, in_own_network, run};
use crate::{at, documents, open};
use bulkhead_facts::L4Protocol;
use bulkhead_netfilter::{Batch, Connection, Element, FieldKind, Key, LoadedElement, Set, Table};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::Program;
use bulkhead_proxy::firewall::{Firewall, Means, TABLE_NAME, TableState};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

/// Port 8000 from and to these, all of one class.
fn open_to(peers: &[IpAddr]) -> Arc<Judge> {
    let rules = Rules::both_ways(What::Allow, &[far_away()], L4Protocol::TCP, 8000);
    let mut program = rules.judge().program().clone();
    for tables in [&mut program.ingress, &mut program.egress] {
        let class = tables.v4[0].class;
        for peer in peers {
            match peer {
                IpAddr::V4(a) => tables.v4.push(span((*a).into(), class)),
                IpAddr::V6(a) => tables.v6.push(span((*a).into(), class)),
            }
        }
        tables.v4.sort();
        tables.v6.sort();
    }
    Arc::new(Judge::new(program).expect("valid"))
}

fn span<A: Copy>(
    address: A,
    class: bulkhead_policies::program::ClassId,
) -> bulkhead_policies::program::AddressSpan<A> {
    bulkhead_policies::program::AddressSpan { first: address, last: address, class }
}

fn far_away() -> IpAddr {
    Ipv4Addr::new(10, 9, 9, 9).into()
}

/// Flows of both directions and families between the pod and that peer, as (client, server).
fn flows(peer: &Peer, with: [IpAddr; 2]) -> Vec<(TcpStream, TcpStream)> {
    let mut flows = Vec::new();
    for family in [0, 1] {
        let app = TcpListener::bind(at(POD[family], 8000)).expect("listen");
        let there = peer.listen(with[family], 8000);
        let inbound = peer.dial_from(with[family], at(POD[family], 8000)).expect("allowed");
        flows.push((inbound, accept(&app).expect("arrives").0));
        let outbound = dial(at(with[family], 8000)).expect("allowed");
        flows.push((outbound, accept(&there).expect("arrives").0));
    }
    flows
}

fn is_cut(client: &mut TcpStream, server: &mut TcpStream) -> bool {
    let hears = |from: &mut TcpStream, to: &mut TcpStream| {
        to.set_read_timeout(Some(SILENCE)).expect("timeout");
        let _ = from.write_all(b"late");
        matches!(to.read(&mut [0; 4]), Ok(length) if length > 0)
    };
    !hears(client, server) && !hears(server, client)
}

#[test]
fn a_peer_that_goes_loses_its_open_flows_and_no_other_does() {
    in_own_network("elements::a_peer_that_goes_loses_its_open_flows_and_no_other_does", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let both = [PEER, OTHER_PEER].concat();
        let first = firewall.apply(&open_to(&both)).expect("applied");
        assert_eq!(first.means, Means::Reload);
        let (mut stays, mut goes) = (flows(&peer, PEER), flows(&peer, OTHER_PEER));
        for (client, server) in stays.iter_mut().chain(&mut goes) {
            talk(client, server).expect("allowed");
        }
        let second = firewall.apply(&open_to(&PEER)).expect("applied");
        assert_eq!((second.means, second.generation), (Means::Elements, first.generation + 1));
        for (client, server) in &mut goes {
            assert!(is_cut(client, server), "{client:?} to {server:?}");
        }
        for (client, server) in &mut stays {
            talk(client, server).expect("an allowed flow never notices");
        }
        for family in [0, 1] {
            let _there = peer.listen(OTHER_PEER[family], 8000);
            assert!(dial(at(OTHER_PEER[family], 8000)).is_err());
        }
        let denied = firewall.denials().expect("dump").edges;
        let peers: BTreeSet<IpAddr> = denied.iter().map(|edge| edge.peer).collect();
        assert_eq!(peers, OTHER_PEER.into_iter().collect(), "{denied:?}");
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
    });
}

#[test]
fn a_peer_that_comes_is_let_in_and_no_flow_is_judged_again() {
    in_own_network("elements::a_peer_that_comes_is_let_in_and_no_flow_is_judged_again", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let first = firewall.apply(&open_to(&PEER)).expect("applied");
        let mut stays = flows(&peer, PEER);
        assert!(peer.dial_from(OTHER_PEER[0], at(POD[0], 8000)).is_err());
        let both = [PEER, OTHER_PEER].concat();
        let second = firewall.apply(&open_to(&both)).expect("applied");
        assert_eq!((second.means, second.generation), (Means::Elements, first.generation));
        for (client, server) in flows(&peer, OTHER_PEER).iter_mut().chain(&mut stays) {
            talk(client, server).expect("allowed");
        }
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
    });
}

#[test]
fn an_address_that_passes_to_another_class_is_judged_by_that() {
    in_own_network("elements::an_address_that_passes_to_another_class_is_judged_by_that", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let (old, new) =
            (pods(1, &[("a", PEER), ("b", OTHER_PEER)]), pods(2, &[("b", PEER), ("a", OTHER_PEER)]));
        let first = firewall.apply(&judge(&old)).expect("applied");
        // `a` may use 8000, `b` may use 8001.
        let app = TcpListener::bind(at(POD[0], 8000)).expect("listen");
        let mut client = peer.dial_from(PEER[0], at(POD[0], 8000)).expect("allowed");
        let mut server = accept(&app).expect("arrives").0;
        talk(&mut client, &mut server).expect("allowed");
        let second = firewall.apply(&judge(&new.numbered_like(&old))).expect("applied");
        assert_eq!((second.means, second.generation), (Means::Elements, first.generation + 1));
        assert!(is_cut(&mut client, &mut server));
        assert!(peer.dial_from(PEER[0], at(POD[0], 8000)).is_err());
        assert!(peer.dial_from(OTHER_PEER[0], at(POD[0], 8000)).is_ok());
        let _other = TcpListener::bind(at(POD[0], 8001)).expect("listen");
        assert!(peer.dial_from(PEER[0], at(POD[0], 8001)).is_ok());
    });
}

#[test]
fn a_change_that_fails_part_way_becomes_a_reload() {
    in_own_network("elements::a_change_that_fails_part_way_becomes_a_reload", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let both = [PEER, OTHER_PEER].concat();
        firewall.apply(&open_to(&both)).expect("applied");
        let (mut stays, mut goes) = (flows(&peer, PEER), flows(&peer, OTHER_PEER));
        // Somebody else took the element that is to go: it cannot be deleted.
        let table = Table::inet(TABLE_NAME);
        let mut kernel = Connection::open().expect("socket");
        let name = kernel.sets(&table).expect("sets").into_iter().map(|set| set.name);
        let name = name.into_iter().find(|name| name.starts_with("ingress_classes4_")).expect("the map");
        let set = Set::new(&name, &[FieldKind::Ipv4]).map_to(FieldKind::Mark).intervals();
        let IpAddr::V4(address) = OTHER_PEER[0] else { unreachable!("the first is IPv4") };
        let mut batch = Batch::new();
        let key = Key::new().v4(address);
        batch.delete_elements(&table, &set, &[Element::range(key.clone(), key)]);
        kernel.commit(&batch).expect("deleted");
        let applied = firewall.apply(&open_to(&PEER)).expect("applied");
        assert_eq!(applied.means, Means::Reload);
        for (client, server) in &mut goes {
            assert!(is_cut(client, server));
        }
        for (client, server) in &mut stays {
            talk(client, server).expect("an allowed flow never notices");
        }
        assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
    });
}

#[test]
fn an_edit_by_somebody_else_after_a_change_of_elements_is_undone() {
    in_own_network(
        "elements::an_edit_by_somebody_else_after_a_change_of_elements_is_undone",
        &["nft"],
        || {
            let _peer = Peer::connect();
            let mut firewall = open();
            firewall.apply(&open_to(&PEER)).expect("applied");
            let maps = |firewall: &mut Firewall| {
                assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
                let sets = Connection::open().expect("socket").sets(&Table::inet(TABLE_NAME)).expect("sets");
                sets.into_iter()
                    .map(|set| set.name)
                    .find(|name| name.starts_with("egress_classes4_"))
                    .expect("the map")
            };
            let both = [PEER, OTHER_PEER].concat();
            for peers in [&both[..], &PEER, &both] {
                firewall.apply(&open_to(peers)).expect("applied");
                let map = maps(&mut firewall);
                run("nft", &["delete", "element", "inet", TABLE_NAME, &map, "{ 10.9.9.9 }"]);
                let state = firewall.verify().expect("compared");
                assert!(matches!(state, TableState::Restored(_)), "{state:?}");
                assert_eq!(firewall.verify().expect("compared"), TableState::Intact);
            }
        },
    );
}

const POLICIES: &str = r"
apiVersion: bulkhead.dev/v1alpha1
kind: Collection
metadata: {name: shop}
spec: {covers: {namespaces: {team: shop}}, default: deny, mode: enforce}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: pod, namespace: shop}
spec:
  workloads: {app: pod}
  ingress:
    - {name: a, from: [{workloads: {app: a}}], ports: [8000]}
    - {name: b, from: [{workloads: {app: b}}], ports: [8001, udp/8001]}
    - {name: c, from: [{workloads: {app: c}}], ports: [8000-8010], http: [{methods: [GET]}]}
    - {name: block, from: [{cidr: 10.7.0.0/16, except: [10.7.3.0/24]}], ports: [8002]}
  egress:
    - {name: all, to: [{workloads: {team: all}}], ports: [8000]}
    - {name: world, to: [{entity: world}], ports: [443]}
";

/// The program of our pod among pods of these apps at these addresses.
fn pods(revision: u64, pods: &[(&str, [IpAddr; 2])]) -> Program {
    let all = [("pod", POD)].into_iter().chain(pods.iter().copied()).enumerate();
    let all: Vec<_> = all
        .map(|(number, (app, addresses))| (format!("p{number}"), format!("app: {app}, team: all"), addresses))
        .collect();
    documents::program(POLICIES, revision, &all)
}

fn judge(program: &Program) -> Arc<Judge> {
    Arc::new(Judge::new(program.clone()).expect("valid"))
}

/// A seeded generator (xorshift64): the same seed gives the same changes on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).expect("small")).expect("small")
    }
}

/// Everything in the table but numbers of generations and what counters count: chains with the names of their rules, maps with
/// their elements.
type Content = (BTreeMap<String, Vec<Option<String>>>, BTreeMap<String, Vec<LoadedElement>>);

fn content() -> Content {
    let table = Table::inet(TABLE_NAME);
    let mut kernel = Connection::open().expect("socket");
    let without_number = |name: &str| match name.rsplit_once('_') {
        Some((stem, number)) if number.parse::<u16>().is_ok() => stem.to_owned(),
        _ => name.to_owned(),
    };
    let mut chains: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for rule in kernel.rules(&table).expect("rules") {
        chains.entry(without_number(&rule.chain)).or_default().push(rule.name);
    }
    let mut sets = BTreeMap::new();
    for set in kernel.sets(&table).expect("sets") {
        let mut elements = kernel.elements(&table, &set.name).expect("elements");
        elements.sort();
        let before = sets.insert(without_number(&set.name), elements);
        assert!(before.is_none(), "two sets `{}`", set.name);
    }
    (chains, sets)
}

/// The content of a table that has never had another program.
fn fresh(options: bulkhead_proxy::firewall::FirewallOptions, judge: Arc<Judge>) -> Content {
    std::thread::spawn(move || {
        enter_new_network();
        crate::support::ip("link set lo up");
        let mut firewall = crate::open_with(options);
        firewall.apply(&judge).expect("applied");
        content()
    })
    .join()
    .expect("the other namespace")
}

#[test]
fn whatever_changes_in_whatever_order_the_kernel_holds_what_a_fresh_table_would() {
    in_own_network(
        "elements::whatever_changes_in_whatever_order_the_kernel_holds_what_a_fresh_table_would",
        &[],
        || {
            let (seeds, steps) = if std::env::var_os("BULKHEAD_LONG").is_some() { (60, 80) } else { (4, 30) };
            let _peer = Peer::connect();
            let (mut by_elements, mut reloads) = (0, 0);
            for seed in 1..=seeds {
                let mut random = Random(seed * 0x9e37_79b9);
                let options = crate::options();
                let mut firewall = crate::open_with(options.clone());
                let mut present: BTreeMap<usize, &str> = BTreeMap::new();
                let mut program: Option<Program> = None;
                for step in 0..steps {
                    for _ in 0..=random.below(3) {
                        let app = ["a", "b", "c", "d"][random.below(4)];
                        let host = random.below(40);
                        match random.below(3) {
                            0 => drop(present.remove(&host)),
                            _ => drop(present.insert(host, app)),
                        }
                    }
                    let next: Vec<_> = present.iter().map(|(host, app)| (*app, address(*host))).collect();
                    let mut next = pods(step + 1, &next);
                    if let Some(before) = &program {
                        next = next.numbered_like(before);
                    }
                    match firewall.apply(&judge(&next)).expect("applied").means {
                        Means::Elements => by_elements += 1,
                        Means::Reload => reloads += 1,
                    }
                    // The whole dump against the serialisation of this program.
                    assert_eq!(
                        firewall.verify().expect("compared"),
                        TableState::Intact,
                        "seed {seed}, step {step}"
                    );
                    program = Some(next);
                }
                let last = judge(&program.expect("some"));
                assert_eq!(content(), fresh(options, last), "seed {seed}");
            }
            println!("{by_elements} changes by elements, {reloads} reloads");
            assert!(by_elements > reloads, "{by_elements} changes by elements, {reloads} reloads");
        },
    );
}

/// Neighbours, addresses within blocks of rules, and addresses that the world has.
fn address(host: usize) -> [IpAddr; 2] {
    let low = u8::try_from(host).expect("few");
    let v4 = match host % 3 {
        0 => Ipv4Addr::new(10, 7, low % 5, low),
        1 => Ipv4Addr::new(10, 0, 0, 100 + low),
        _ => Ipv4Addr::new(10, 7, 3, low),
    };
    [v4.into(), format!("fd00:1::{host:x}").parse().expect("an address")]
}

#[test]
fn a_datagram_of_a_peer_that_goes_is_the_last() {
    in_own_network("elements::a_datagram_of_a_peer_that_goes_is_the_last", &[], || {
        let peer = Peer::connect();
        let mut firewall = open();
        let (old, new) = (pods(1, &[("b", PEER), ("b", OTHER_PEER)]), pods(2, &[("b", OTHER_PEER)]));
        firewall.apply(&judge(&old)).expect("applied");
        let bind = |address| std::net::UdpSocket::bind(at(address, 8001)).expect("bind");
        for family in [0, 1] {
            let app = crate::network::with_timeout(bind(POD[family]));
            let from = peer.udp(PEER[family], 4_000);
            assert!(crate::network::datagram_arrives(&from, &app));
            if family == 1 {
                let applied = firewall.apply(&judge(&new.clone().numbered_like(&old))).expect("applied");
                assert_eq!(applied.means, Means::Elements);
                assert!(!crate::network::datagram_arrives(&from, &app));
                assert!(crate::network::datagram_arrives(&peer.udp(OTHER_PEER[family], 4_001), &app));
            }
        }
        let edges = firewall.denials().expect("dump").edges;
        assert!(edges.iter().all(|edge| edge.protocol == L4Protocol::UDP && PEER.contains(&edge.peer)));
    });
}

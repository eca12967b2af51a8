//! Loads tables of every kind of object into a network namespace and compares them with the kernel's dump,
//! and with what `nft` reads in them.

use bulkhead_netfilter::*;
use std::net::Ipv4Addr;
use std::time::Duration;

mod support;
use support::{in_own_network, run};

/// Key and data of a map like the firewall's: class, protocol, port to a mark.
fn ports() -> Set {
    Set::new("ports", &[FieldKind::Mark, FieldKind::Protocol, FieldKind::Port])
        .map_to(FieldKind::Mark)
        .intervals()
}

fn classes() -> Set {
    Set::new("classes", &[FieldKind::Ipv4]).map_to(FieldKind::Mark).intervals()
}

fn classes_v6() -> Set {
    Set::new("classes6", &[FieldKind::Ipv6]).map_to(FieldKind::Mark).intervals()
}

fn denied() -> Set {
    Set::new("denied", &[FieldKind::Ipv4, FieldKind::Mark, FieldKind::Protocol, FieldKind::Port])
        .dynamic(1000, Duration::from_secs(60))
}

fn alive() -> Set {
    Set::new("alive", &[FieldKind::Protocol]).timeouts()
}

fn chains() -> Vec<Chain> {
    let filter = |name, hook, priority, policy| Chain::base(name, ChainType::Filter, hook, priority, policy);
    vec![
        Chain::regular("judge"),
        filter("prerouting", Hook::Prerouting, priority::MANGLE, Policy::Drop),
        filter("zone", Hook::Output, priority::RAW, Policy::Accept),
        filter("input", Hook::Input, priority::FILTER, Policy::Accept),
        filter("output", Hook::Output, priority::MANGLE, Policy::Accept),
        Chain::base("nat_out", ChainType::Nat, Hook::Output, priority::DESTINATION_NAT, Policy::Accept),
        Chain::base("nat_post", ChainType::Nat, Hook::Postrouting, priority::SOURCE_NAT, Policy::Accept),
        Chain::base("route", ChainType::Route, Hook::Output, -149, Policy::Accept),
    ]
}

/// Every expression once, in a chain where the kernel takes it.
fn rules() -> Vec<(&'static str, Rule)> {
    let pair = [Field::ConnectionMark, Field::ConnectionProtocol, Field::OriginalDestinationPort];
    vec![
        (
            "prerouting",
            Rule::new()
                .named("established")
                .ct_mark()
                .mask(0xfff0_0000)
                .equals(0x0010_0000)
                .field(Field::ConnectionStatus)
                .any_bit(connection_status::CONFIRMED)
                .counter()
                .accept(),
        ),
        (
            "prerouting",
            Rule::new().field(Field::DestinationAddressType).not_equals(address_type::LOCAL).drop_packet(),
        ),
        ("prerouting", Rule::new().towards_destination().goto("judge")),
        ("prerouting", Rule::new().ipv6().field(Field::HOP_LIMIT).equals(255u8).protocol(58).accept()),
        ("prerouting", Rule::new().ipv4().protocol(17).hand_to_transparent_socket(15007).accept()),
        (
            "judge",
            Rule::new()
                .load(Field::OriginalSourceV4, Register::R0)
                .look_up("classes", Register::R0, Register::R0)
                .store_packet_mark(Register::R0)
                .load_key(&[Field::PacketMark, Field::ConnectionProtocol, Field::OriginalDestinationPort])
                .look_up("ports", Register::R0, Register::R0)
                .store_ct_mark(Register::R0)
                .load(Field::PacketMark, Register::R0)
                .mask_and_flip(Register::R0, Register::R0, 0xfff0_ffffu32, 0x4_0000)
                .store_packet_mark(Register::R0)
                .accept(),
        ),
        (
            "judge",
            Rule::new()
                .load(Field::OriginalSourceV6, Register::R0)
                .look_up("classes6", Register::R0, Register::R0)
                .accept(),
        ),
        (
            "judge",
            Rule::new()
                .load_key(&[
                    Field::OriginalSourceV4,
                    Field::PacketMark,
                    Field::ConnectionProtocol,
                    Field::OriginalDestinationPort,
                ])
                .count_in(&denied())
                .return_to_caller(),
        ),
        (
            "judge",
            Rule::new().load_key(&pair).look_up("ports", Register::R0, Register::R0).set_packet_mark(7),
        ),
        ("judge", Rule::new().at_most_per_second(50, 100).log_to_group(5, "in", 128)),
        ("judge", Rule::new().protocol(6).refuse(Refusal::TcpReset)),
        ("judge", Rule::new().refuse(Refusal::AdminProhibited)),
        ("judge", Rule::new().protocol(6).set_timeouts("tcp4")),
        ("judge", Rule::new().tell_no_events()),
        ("prerouting", Rule::new().field(Field::ReversePathDevice).equals(0u32).set_ct_mark(0).drop_packet()),
        (
            "input",
            Rule::new().protocol(6).to_port(15006).field(Field::SocketMark).not_equals(9u32).drop_packet(),
        ),
        ("input", Rule::new().field::<u8>(Field::TransportProtocol).not_in_set("alive").accept()),
        ("input", Rule::new().field::<u16>(Field::ETHER_TYPE).between(1, 9).accept()),
        (
            "input",
            Rule::new()
                .ipv4()
                .field::<Ipv4Addr>(Field::SOURCE_V4)
                .in_block([127, 0, 0, 0].into(), 8)
                .drop_packet(),
        ),
        ("zone", Rule::new().field(Field::SenderUser).equals(1337u32).set_original_zone(1)),
        ("zone", Rule::new().packet_mark().equals(1).no_track()),
        ("zone", Rule::new().field::<u32>(Field::RouteRealm).is_there().packet_mark().equals(3).accept()),
        ("zone", Rule::new().field::<u32>(Field::SenderUser).is_there().drop_packet()),
        ("output", Rule::new().field::<u32>(Field::RoundRobin(2)).equals(0).jump("judge")),
        ("nat_out", Rule::new().protocol(6).key_in(&[Field::TransportProtocol], "alive").redirect_to(15001)),
        ("nat_out", Rule::new().protocol(6).to_port(80).destination_nat([10, 0, 0, 9].into(), Some(8080))),
        (
            "nat_out",
            Rule::new()
                .to_address("fd00::1".parse().expect("address"))
                .destination_nat("fd00::2".parse().expect("address"), None),
        ),
        ("nat_post", Rule::new().ipv4().masquerade()),
        ("route", Rule::new().ct_mark().equals(0x6_0000).set_packet_mark(9)),
    ]
}

fn class_spans() -> Vec<Element> {
    let class = |first: [u8; 4], last: [u8; 4], class| {
        Element::range(Key::new().v4(first.into()), Key::new().v4(last.into())).data(Key::new().mark(class))
    };
    vec![
        class([0, 0, 0, 0], [9, 255, 255, 255], 1),
        class([10, 0, 0, 0], [10, 0, 0, 0], 2),
        class([10, 0, 0, 1], [255, 255, 255, 255], 3),
    ]
}

fn elements(batch: &mut Batch, table: &Table) {
    batch.add_elements(table, &classes(), &class_spans());
    let all =
        Element::range(Key::new().v6(0.into()), Key::new().v6(u128::MAX.into())).data(Key::new().mark(4));
    batch.add_elements(table, &classes_v6(), &[all]);
    let port = |class, protocols: (u8, u8), ports: (u16, u16), mark| {
        let key = |protocol, port| Key::new().mark(class).protocol(protocol).port(port);
        Element::range(key(protocols.0, ports.0), key(protocols.1, ports.1)).data(Key::new().mark(mark))
    };
    batch.add_elements(
        table,
        &ports(),
        &[
            port(1, (6, 6), (80, 90), 0x11_0001),
            port(1, (0, 5), (0, 65535), 0x10_0002),
            port(2, (0, 255), (0, 65535), 0x11_0003),
        ],
    );
    batch.add_elements(
        table,
        &alive(),
        &[Element::single(Key::new().protocol(6)).timeout(Duration::from_secs(60))],
    );
}

fn whole_table(table: &Table) -> Batch {
    let mut batch = Batch::new();
    batch.add_table(table);
    for set in [ports(), classes(), classes_v6(), denied(), alive()] {
        batch.add_set(table, &set);
    }
    elements(&mut batch, table);
    let timeouts = TcpTimeouts {
        established_s: 86_400,
        fin_wait_s: 30,
        close_wait_s: 60,
        last_ack_s: 15,
        time_wait_s: 5,
        close_s: 3,
    };
    batch.add_tcp_timeout(table, "tcp4", true, &timeouts);
    chains().iter().for_each(|chain| batch.add_chain(table, chain));
    rules().iter().for_each(|(chain, rule)| batch.add_rule(table, chain, rule));
    batch
}

#[test]
fn the_kernels_dump_equals_what_was_loaded_for_every_kind_of_object() {
    in_own_network("the_kernels_dump_equals_what_was_loaded_for_every_kind_of_object", &[], || {
        let table = Table::inet("t");
        let mut connection = Connection::open().expect("socket");
        connection.commit(&whole_table(&table)).expect("loaded");
        assert!(connection.table_exists(&table).expect("dump"));

        let loaded = connection.rules(&table).expect("dump");
        let expected = rules();
        assert_eq!(loaded.len(), expected.len());
        let missing: Vec<usize> = (0..expected.len())
            .filter(|n| !loaded.iter().any(|l| l.chain == expected[*n].0 && l.is(&expected[*n].1)))
            .collect();
        assert_eq!(missing, Vec::<usize>::new(), "positions of rules that differ from the dump");
        let ambiguous =
            loaded.iter().filter(|l| expected.iter().filter(|(c, r)| l.chain == *c && l.is(r)).count() != 1);
        assert_eq!(ambiguous.count(), 0, "each loaded rule equals exactly one of ours");
        let chains_loaded = connection.chains(&table).expect("dump");
        assert!(chains().iter().all(|chain| chains_loaded.iter().any(|l| l.is(chain))), "{chains_loaded:?}");
        let sets = connection.sets(&table).expect("dump");
        for set in [ports(), classes(), classes_v6(), denied(), alive()] {
            assert!(sets.iter().any(|l| l.is(&set)), "{set:?} among {sets:?}");
        }
        assert_eq!(connection.elements(&table, "ports").expect("dump").len(), 3);
        assert_eq!(
            connection.elements(&table, "classes6").expect("dump").len(),
            1,
            "no end after the last address"
        );
        let alive = connection.elements(&table, "alive").expect("dump");
        assert!(alive[0].expires_in.is_some_and(|left| left > Duration::from_secs(50)));
    });
}

#[test]
fn a_refused_message_is_named_and_nothing_of_its_batch_holds() {
    in_own_network("a_refused_message_is_named_and_nothing_of_its_batch_holds", &[], || {
        let table = Table::inet("t");
        let mut connection = Connection::open().expect("socket");
        let mut batch = Batch::new();
        batch.add_table(&table);
        batch.add_chain(&table, &Chain::regular("c"));
        batch.add_rule(&table, "c", &Rule::new().named("fine").accept());
        batch.add_rule(
            &table,
            "c",
            &Rule::new().named("broken").key_in(&[Field::TransportProtocol], "nowhere").accept(),
        );
        batch.add_rule(&table, "c", &Rule::new().accept());
        let error = connection.commit(&batch).expect_err("refused");
        assert!(error.is_not_found());
        assert!(error.to_string().contains("rule `broken` of chain `c`"), "{error}");
        assert!(!connection.table_exists(&table).expect("dump"));
        // The connection goes on working, also after the answers that were not awaited.
        let before = connection.generation().expect("generation");
        connection.commit(&whole_table(&table)).expect("loaded");
        assert_eq!(connection.generation().expect("generation"), before + 1);
    });
}

#[test]
fn ten_thousand_elements_load_in_parts_that_fit_the_send_buffer() {
    in_own_network("ten_thousand_elements_load_in_parts_that_fit_the_send_buffer", &[], || {
        let table = Table::inet("t");
        let mut connection = Connection::open().expect("socket");
        let key = |n: u32, port: u16| Key::new().mark(n).protocol(6).port(port);
        let elements: Vec<Element> =
            (0..10_000).map(|n| Element::range(key(n, 80), key(n, 90)).data(Key::new().mark(n))).collect();
        let mut batch = Batch::new();
        batch.add_table(&table);
        batch.add_set(&table, &ports());
        batch.add_elements(&table, &ports(), &elements);
        batch.split(100_000).iter().for_each(|part| connection.commit(part).expect("loaded"));
        assert_eq!(connection.elements(&table, "ports").expect("dump").len(), 10_000);
    });
}

#[test]
fn nft_reads_our_table_as_we_meant_it() {
    in_own_network("nft_reads_our_table_as_we_meant_it", &["nft"], || {
        let table = Table::inet("t");
        Connection::open().expect("socket").commit(&whole_table(&table)).expect("loaded");
        let text = run("nft", &["list", "table", "inet", "t"]);
        for line in [
            "type filter hook prerouting priority mangle; policy drop;",
            "ct mark 0x00100000/12 ct status confirmed counter packets 0 bytes 0 accept comment \"established\"",
            "fib daddr type != local drop",
            "ct direction original goto judge",
            "meta l4proto ipv6-icmp accept",
            "limit rate 50/second burst 100 packets log prefix \"in\" group 5 snaplen 128 queue-threshold 1",
            "meta l4proto tcp reject with tcp reset",
            "reject with icmpx admin-prohibited",
            "ct timeout set \"tcp4\"",
            "tcp dport 15006 socket mark != 0x00000009 drop",
            "ip saddr 127.0.0.0/8 drop",
            "meta skuid 1337 ct original zone set 1",
            "notrack",
            "redirect to :15001",
            "tcp dport 80 dnat ip to 10.0.0.9:8080",
            "ip6 daddr fd00::1 dnat ip6 to fd00::2",
            "masquerade",
            "tproxy to :15007",
            "10.0.0.1-255.255.255.255 : 0x",
            "meta mark set ct original ip saddr map @classes",
            "ct mark set meta mark . ct protocol . ct original proto-dst map @ports",
            "meta mark set meta mark & 0xfff4ffff | 0x00040000 accept",
            "update @denied { ct original ip saddr . meta mark . ct protocol . ct original proto-dst timeout 1m counter } return",
            "numgen inc mod 2 0 jump judge",
        ] {
            assert!(text.contains(line), "`{line}` not in\n{text}");
        }
    });
}

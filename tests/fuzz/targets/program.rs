//! Programs on the wire: bytes that a judge accepts are written again as bytes that read the same, and every question gets an
//! answer.
#![no_main]

use bulkhead_api::v1;
use bulkhead_facts::{
    Direction, DnsQuestion, Effect, HostName, HttpRequest, KafkaRequest, L4Protocol, PostgresMessage,
    PostgresStatement, RedisCommand, Request, TlsHello, TlsVersion, UrlPath,
};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, AnswerPair, L7ChainId, Program};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fuzz_target!(|bytes: &[u8]| {
    let Ok(wire) = v1::Program::decode(bytes) else { return };
    let Ok(program) = Program::try_from(wire) else { return };
    let written = v1::Program::from(&program).encode_to_vec();
    let again = v1::Program::decode(written.as_slice()).expect("what we write can be read");
    assert_eq!(Program::try_from(again).ok().as_ref(), Some(&program));
    let Ok(judge) = Judge::new(program) else { return };
    ask_about_bytes(&judge);
    for direction in Direction::BOTH {
        let tables = judge.program().direction(direction);
        let v4 = tables.v4.iter().flat_map(|span| [span.first, span.last]).chain([0, u32::MAX]);
        let v6 = tables.v6.iter().flat_map(|span| [span.first, span.last]).chain([0, u128::MAX]);
        let peers: Vec<IpAddr> =
            v4.map(|n| Ipv4Addr::from(n).into()).chain(v6.map(|n| Ipv6Addr::from(n).into())).collect();
        for peer in peers {
            for protocol in [L4Protocol::TCP, L4Protocol::UDP, L4Protocol(0)] {
                match judge.action(direction, peer, protocol, 80) {
                    Action::Answer(id) | Action::Learn(id) => drop(judge.answer(id)),
                    Action::Inspect { opaque, .. } => drop(judge.answer(opaque)),
                    action @ Action::Choose { choice, otherwise } => {
                        assert_eq!(judge.answer(otherwise).enforced.effect, Effect::Deny);
                        assert!(!judge.choice(choice).is_empty());
                        let endpoint = (peer, 80);
                        assert_ne!(judge.action_at(direction, (peer, 80), protocol, endpoint), action);
                        names_a_rule(&judge, judge.decide(direction, peer, protocol, 80, &Request::Opaque));
                    }
                }
            }
        }
    }
});

/// Every chain is asked about every protocol, with words that short inputs are likely to hold.
fn ask_about_bytes(judge: &Judge) {
    let (Ok(name), Ok(path)) = (HostName::parse("a.a"), UrlPath::parse("/a")) else { return };
    let hello = |server_name, encrypted| TlsHello {
        server_name,
        lowest: TlsVersion::V1_2,
        highest: TlsVersion::V1_3,
        application_protocols: &["a"],
        encrypted,
    };
    let redis = |keys| RedisCommand { name: "A", keys, database: Some(0) };
    let requests = [
        Request::Opaque,
        Request::Http(HttpRequest {
            method: "a",
            path: &path,
            query: Some("a"),
            host: Some(&name),
            headers: &[],
        }),
        Request::Tls(hello(Some(&name), false)),
        Request::Tls(hello(None, true)),
        Request::Dns(DnsQuestion { name: &name, record: 1 }),
        Request::Redis(redis(&[b"a", b"aa"])),
        Request::Redis(redis(&[])),
        Request::Postgres(PostgresMessage {
            user: "a",
            database: "a",
            statements: &[PostgresStatement::Other],
        }),
        Request::Kafka(KafkaRequest { api: 0, topics: &["a", "aa"] }),
        Request::Kafka(KafkaRequest { api: 1, topics: &[] }),
    ];
    for chain in (0u32..).take(judge.program().l7_chains.len()) {
        for request in &requests {
            names_a_rule(judge, judge.decide_l7(L7ChainId(chain), request));
        }
    }
}

/// One of the program's, or none.
fn names_a_rule(judge: &Judge, pair: AnswerPair) {
    let count = judge.program().rules.len();
    for answer in [pair.enforced, pair.shadow] {
        assert!(answer.rule.is_none_or(|rule| (rule.0 as usize) < count), "{answer:?} of {count} rules");
    }
}

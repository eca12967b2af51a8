//! Answers: only what follows from the question counts.

use crate::message::{Message, wire};
use bulkhead_inspect::dns::{
    A, AAAA, ANY, AXFR, AddressKind, Answer, AnswerFault, CNAME, HTTPS, IXFR, NS, Query, SRV, TXT,
};
use proptest::prelude::*;
use std::net::IpAddr;

const ID: u16 = 0x4321;
const ADDRESS: [u8; 4] = [203, 0, 113, 7];
const OTHER: [u8; 4] = [203, 0, 113, 8];

fn query(name: &str, record: u16) -> Query {
    Query::parse(&Message::question(name, record).build()).expect("a question")
}

fn parsed(message: Message) -> Result<Answer, AnswerFault> {
    let bytes = message.build();
    // The question that the answer repeats.
    let end = 12 + bytes[12..].iter().position(|byte| *byte == 0).expect("a name") + 5;
    let question = [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &bytes[12..end]].concat();
    Answer::parse(&Query::parse(&question).expect("a question"), ID, &bytes)
}

fn addresses(message: Message) -> Vec<(String, u32)> {
    let answer = parsed(message).expect("an answer");
    answer.addresses.iter().map(|(address, ttl_s)| (address.to_string(), *ttl_s)).collect()
}

fn one(address: &str, ttl_s: u32) -> Vec<(String, u32)> {
    vec![(address.to_owned(), ttl_s)]
}

#[test]
fn addresses_of_the_name_count_with_their_time() {
    let message =
        Message::answer("a.test", A).record(1, "A.TEST", A, 300, &ADDRESS).record(1, "a.test", A, 30, &OTHER);
    let expected = [("203.0.113.7".to_owned(), 300), ("203.0.113.8".to_owned(), 30)];
    assert_eq!(addresses(message), expected);
    let v6 = "2001:db8::7".parse::<std::net::Ipv6Addr>().expect("address").octets();
    assert_eq!(
        addresses(Message::answer("a.test", AAAA).record(1, "a.test", AAAA, 5, &v6)),
        one("2001:db8::7", 5)
    );
}

#[test]
fn a_chain_of_aliases_counts_in_any_order_with_its_shortest_time() {
    let message = Message::answer("www.test", A)
        .record(1, "c.cdn.test", A, 300, &ADDRESS)
        .record(1, "b.cdn.test", CNAME, 20, &wire("c.cdn.test"))
        .record(1, "www.test", CNAME, 60, &wire("b.cdn.test"));
    assert_eq!(addresses(message), one("203.0.113.7", 20));
}

#[test]
fn what_no_chain_leads_to_does_not_count() {
    let other = || Message::answer("a.test", A);
    for (message, why) in [
        (other().record(1, "b.test", A, 9, &ADDRESS), "another name"),
        (other().record(2, "a.test", A, 9, &ADDRESS), "authority"),
        (other().record(3, "a.test", A, 9, &ADDRESS), "additional"),
        (other().record(2, "a.test", NS, 9, &wire("ns.test")).record(3, "ns.test", A, 9, &ADDRESS), "glue"),
        (
            other().record(1, "a.test", CNAME, 9, &wire("b.test")).record(1, "c.test", A, 9, &ADDRESS),
            "broken",
        ),
        (
            other().record(1, "a.test", CNAME, 9, &wire("b.test")).record(1, "a.test", A, 9, &ADDRESS),
            "beside an alias",
        ),
        (
            other().record(1, "b.test", CNAME, 9, &wire("a.test")).record(1, "b.test", A, 9, &ADDRESS),
            "backwards",
        ),
        (other().record(1, "a.test", AAAA, 9, &[0x20; 16]), "another type"),
    ] {
        assert_eq!(addresses(message), [], "{why}");
    }
}

#[test]
fn two_aliases_of_one_name_and_circles_lead_nowhere() {
    let twice = Message::answer("a.test", A)
        .record(1, "a.test", CNAME, 9, &wire("b.test"))
        .record(1, "a.test", CNAME, 9, &wire("c.test"))
        .record(1, "b.test", A, 9, &ADDRESS);
    assert_eq!(addresses(twice), []);
    let circle = Message::answer("a.test", A)
        .record(1, "a.test", CNAME, 9, &wire("b.test"))
        .record(1, "b.test", CNAME, 9, &wire("a.test"))
        .record(1, "b.test", A, 9, &ADDRESS);
    assert_eq!(addresses(circle), []);
}

#[test]
fn a_chain_of_a_hundred_aliases_is_not_followed_to_its_end() {
    let chain = |links: usize| {
        let mut message = Message::answer("n0.test", A);
        for link in 0..links {
            message =
                message.record(1, &format!("n{link}.test"), CNAME, 9, &wire(&format!("n{}.test", link + 1)));
        }
        addresses(message.record(1, &format!("n{links}.test"), A, 9, &ADDRESS))
    };
    assert_eq!(chain(16), one("203.0.113.7", 9));
    assert_eq!(chain(17), []);
    assert_eq!(chain(100), []);
}

#[test]
fn an_answer_to_another_question_is_foreign() {
    let asked = query("a.test", A);
    let answer = || Message::new(ID, 0x8180);
    for (message, why) in [
        (answer().ask("b.test", A, 1), "another name"),
        (answer().ask("a.test", AAAA, 1), "another type"),
        (answer().ask("a.test", A, 3), "another class"),
        (Message::new(ID + 1, 0x8180).ask("a.test", A, 1), "another identifier"),
        (Message::new(ID, 0x0100).ask("a.test", A, 1), "a question"),
        (Message::new(ID, 0xa000).ask("a.test", A, 1), "another operation"),
        (answer(), "no question in a good answer"),
        (answer().ask("a.test", A, 1).ask("a.test", A, 1), "two questions"),
    ] {
        let message = message.record(1, "a.test", A, 9, &ADDRESS);
        assert_eq!(Answer::parse(&asked, ID, &message.build()).err(), Some(AnswerFault::Foreign), "{why}");
    }
    assert!(Answer::parse(&asked, ID, &answer().ask("A.tESt", A, 1).build()).is_ok(), "another case");
    assert!(
        Answer::parse(&asked, ID, &Message::new(ID, 0x8185).build()).is_ok(),
        "a refusal without a question"
    );
}

#[test]
fn the_first_address_inside_is_told_wherever_it_stands() {
    let inside = |message| parsed(message).expect("an answer").inside;
    let answer = || Message::answer("a.test", A).record(1, "a.test", A, 9, &ADDRESS);
    assert_eq!(inside(answer()), None);
    let private: IpAddr = [10, 0, 0, 5].into();
    assert_eq!(
        inside(answer().record(1, "b.test", A, 9, &[10, 0, 0, 5])),
        Some((private, AddressKind::Private))
    );
    let hint = [&[0, 1, 0, 0, 4, 0, 4][..], &[10, 0, 0, 5]].concat();
    assert_eq!(inside(answer().record(1, "a.test", HTTPS, 9, &hint)), Some((private, AddressKind::Private)));
    let metadata: IpAddr = [169, 254, 169, 254].into();
    let message = answer().record(1, "a.test", A, 0, &[169, 254, 169, 254]);
    assert_eq!(inside(message), Some((metadata, AddressKind::Never)));
    assert_eq!(inside(answer().record(3, "ns.test", A, 9, &[10, 0, 0, 5])), None, "glue is nobody's answer");
}

#[test]
fn what_simple_readers_take_for_an_address_is_told_as_well() {
    let answer = || Message::answer("a.test", A).record(1, "a.test", A, 9, &ADDRESS);
    let inside = |record| answer().record_of(1, &wire("a.test"), record, 9, &[10, 0, 0, 5]);
    for record in [[A, 3], [257, 1], [0x1101, 254]] {
        let told = parsed(inside(record)).expect("an answer");
        assert_eq!(told.inside, Some(([10, 0, 0, 5].into(), AddressKind::Private)), "{record:?}");
        assert_eq!(told.addresses.len(), 1, "learned is what counts for everybody");
    }
    let hint = [&[0, 1, 0, 0, 4, 0, 4][..], &[10, 0, 0, 5]].concat();
    let chaos = answer().record_of(1, &wire("a.test"), [HTTPS, 3], 9, &hint);
    assert!(parsed(chaos).expect("an answer").inside.is_some(), "by those that look at no class");
    let other = answer().record_of(1, &wire("a.test"), [A, 3], 9, &[0; 7]);
    assert_eq!(parsed(other).expect("an address of another kind").inside, None);
    let loopback = IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1]);
    let mapped = answer().record_of(1, &wire("a.test"), [0x021c, 1], 9, &[&[0; 15][..], &[1]].concat());
    assert_eq!(parsed(mapped).expect("an answer").inside, Some((loopback, AddressKind::Never)));
    assert_eq!(
        parsed(answer().record(1, "a.test", 257, 9, b"\0\x05issueca.test")).expect("CAA").inside,
        None
    );
}

#[test]
fn an_answer_with_a_name_that_ends_elsewhere_for_simple_readers_is_malformed() {
    for owner in [&b"\x03a\0b\x04test\0"[..], b"\x03a\x80b\x04test\0", b"\x03a\xffb\x04test\0"] {
        let message = |kind| {
            let answer = Message::answer("a.test", kind).record(1, "a.test", kind, 9, &ADDRESS);
            answer.record_of(1, owner, [TXT, 1], 9, &[0])
        };
        assert!(matches!(parsed(message(A)), Err(AnswerFault::Malformed(_))), "{owner:?}");
        assert!(parsed(message(TXT)).is_ok(), "nobody looks for addresses there");
    }
    let long = [&[63][..], &[b'x'; 63], &[0]].concat();
    assert!(parsed(Message::answer("a.test", A).record_of(1, &long, [TXT, 1], 9, &[0])).is_ok());
}

#[test]
fn an_alias_ends_where_its_record_ends() {
    let chain = |content: &[u8]| {
        let message = Message::answer("a.test", A).record(1, "a.test", CNAME, 9, content);
        parsed(message.record(1, "b.test", A, 9, &ADDRESS))
    };
    assert_eq!(chain(&wire("b.test")).expect("an answer").addresses.len(), 1);
    for content in [[wire("b.test"), vec![0]].concat(), b"\x01b\x04test".to_vec(), vec![0xc0]] {
        assert!(matches!(chain(&content), Err(AnswerFault::Malformed(_))), "{content:?}");
    }
}

#[test]
fn of_a_transfer_only_the_first_message_has_to_repeat_the_question() {
    let next = || Message::new(ID, 0x8180).record(1, "b.test", A, 9, &ADDRESS).build();
    for (record, goes_on) in [(AXFR, true), (IXFR, true), (A, false), (ANY, false)] {
        let first = Message::answer("test", record).record(1, "test", NS, 9, &wire("ns.test")).build();
        assert!(Answer::parse(&query("test", record), ID, &first).is_ok());
        assert_eq!(Answer::parse(&query("test", record), ID, &next()).is_ok(), goes_on, "{record}");
    }
    let other = Message::new(ID, 0x8180).ask("other", AXFR, 1).build();
    assert_eq!(Answer::parse(&query("test", AXFR), ID, &other), Err(AnswerFault::Foreign));
}

#[test]
fn hints_of_a_service_are_addresses_of_its_name() {
    let hints = [&[0, 1, 0, 0, 1, 0, 3, 2, b'h', b'3', 0, 4, 0, 8][..], &ADDRESS, &OTHER].concat();
    let found = addresses(Message::answer("a.test", HTTPS).record(1, "a.test", HTTPS, 7, &hints));
    assert_eq!(found, [("203.0.113.7".to_owned(), 7), ("203.0.113.8".to_owned(), 7)]);
    for garbage in [&[0, 1, 0, 0, 4, 0, 9][..], &[0, 1], &[0, 1, 0xc0, 0], &[0, 1, 0, 0, 4]] {
        let message = Message::answer("a.test", HTTPS).record(1, "a.test", HTTPS, 7, garbage);
        assert!(matches!(parsed(message), Err(AnswerFault::Malformed(_))), "{garbage:?}");
    }
}

#[test]
fn a_question_for_everything_is_answered_by_addresses_of_both_families() {
    let message = Message::answer("a.test", ANY)
        .record(1, "a.test", A, 9, &ADDRESS)
        .record(1, "a.test", AAAA, 9, &[0x20; 16])
        .record(1, "a.test", SRV, 9, &[0; 7]);
    assert_eq!(addresses(message).len(), 2);
}

#[test]
fn a_truncated_answer_may_end_anywhere() {
    let whole = Message::new(ID, 0x8380).ask("a.test", A, 1).record(1, "a.test", A, 9, &ADDRESS).build();
    let asked = query("a.test", A);
    for end in 24..whole.len() {
        let answer = Answer::parse(&asked, ID, &whole[..end]).expect("cut off");
        assert!(answer.truncated && answer.addresses.is_empty());
        assert!(answer.broken, "{end}");
    }
    let answer = Answer::parse(&asked, ID, &whole).expect("whole");
    assert_eq!((answer.addresses.len(), answer.broken), (1, false));
    let told = Answer::only_truncated(&asked);
    assert_eq!(
        told,
        Message::new(asked.id, 0x8380).ask("a.test", A, 1).build(),
        "what is passed on of a broken one"
    );
}

#[test]
fn every_other_prefix_is_refused() {
    let whole = Message::answer("a.test", A).record(1, "a.test", A, 9, &ADDRESS).options(1232, &[]).build();
    let asked = query("a.test", A);
    for end in 0..whole.len() {
        assert!(Answer::parse(&asked, ID, &whole[..end]).is_err(), "{end} bytes");
    }
    assert!(Answer::parse(&asked, ID, &[&whole[..], &[0]].concat()).is_err(), "bytes behind");
}

#[test]
fn limits_hold() {
    let mut many = Message::answer("a.test", A);
    for at in 0..200u8 {
        many = many.record(1, "a.test", A, 9, &[203, 0, 113, at]);
    }
    assert_eq!(addresses(many).len(), 64);
    let mut flood = Message::answer("a", A);
    for _ in 0..2_049 {
        flood = flood.record(2, "", NS, 9, &[0]);
    }
    assert!(matches!(parsed(flood), Err(AnswerFault::Malformed(_))));
}

#[test]
fn a_message_of_pointers_only_is_refused_in_no_time() {
    let mut bytes = Message::answer("a.test", A).build();
    bytes[6..8].copy_from_slice(&2_000u16.to_be_bytes());
    let mut at = 12u16;
    while bytes.len() < 65_000 {
        let back = u16::try_from(bytes.len() - 1).unwrap_or(0).min(0x3fff);
        bytes.extend((0xc000 | back.min(at)).to_be_bytes());
        at = at.wrapping_add(2).min(0x3ffe);
    }
    assert!(Answer::parse(&query("a.test", A), ID, &bytes).is_err());
}

proptest! {
    #[test]
    fn changed_bytes_never_stumble_and_never_bring_an_address_that_is_not_there(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = Message::answer("www.test", A)
            .record(1, "www.test", CNAME, 60, &[1, b'b', 0xc0, 16])
            .record(1, "b.test", A, 300, &ADDRESS)
            .record(2, "test", NS, 9, &wire("ns.test"))
            .build();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(answer) = Answer::parse(&query("www.test", A), ID, &bytes) {
            for (address, _) in answer.addresses {
                let IpAddr::V4(v4) = address else { panic!("an A record holds {address}") };
                prop_assert!(bytes.windows(4).any(|window| window == v4.octets()));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_stumble(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Query::parse(&bytes);
        let _ = Answer::parse(&query("a.test", A), ID, &bytes);
    }
}

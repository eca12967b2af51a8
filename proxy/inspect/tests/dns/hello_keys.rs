//! Keys for encrypted hellos are taken out of answers, and nothing else changes.

use crate::message::{Message, wire};
use bulkhead_inspect::dns::{A, Answer, AnswerFault, HTTPS, HelloKeys, Query, SVCB, take_out_hello_keys};
use proptest::prelude::*;

const RRSIG: u16 = 46;

/// A parameter of a service.
fn parameter(key: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("short").to_be_bytes();
    [key.to_be_bytes().as_slice(), &length, value].concat()
}

fn service(target: &str, parameters: &[(u16, &[u8])]) -> Vec<u8> {
    let parameters = parameters.iter().flat_map(|(key, value)| parameter(*key, value));
    [&[0, 1], wire(target).as_slice()].concat().into_iter().chain(parameters).collect()
}

const ALPN: (u16, &[u8]) = (1, b"\x02h2");
const HINT: (u16, &[u8]) = (4, &[203, 0, 113, 7]);
const KEYS: (u16, &[u8]) = (5, b"\x00\x05\xfe\x0dkey");
const HINT6: (u16, &[u8]) = (6, &[0x20; 16]);
/// What stands in their place.
const NONE: (u16, &[u8]) = (65_534, &[0; 7]);

fn taken_out(message: Message) -> (HelloKeys, Vec<u8>) {
    let mut bytes = message.build();
    let query = Query::parse(&Message::question("a.test", HTTPS).build()).expect("a question");
    assert!(Answer::parse(&query, 0x4321, &bytes).is_ok_and(|answer| answer.names_service));
    let keys = take_out_hello_keys(&mut bytes);
    assert!(Answer::parse(&query, 0x4321, &bytes).is_ok(), "it reads as before");
    (keys, bytes)
}

#[test]
fn keys_become_a_parameter_that_nobody_knows_and_all_else_stays() {
    let with = |parameters: &[(u16, &[u8])]| {
        let content = service("svc.test", parameters);
        // A compressed owner, an alias that leads into the record, and what follows the record.
        Message::answer("a.test", HTTPS)
            .record_of(1, &[0xc0, 12], [HTTPS, 1], 300, &content)
            .record_of(3, b"\xc0\x26", [A, 1], 300, &[203, 0, 113, 7])
            .options(1232, &[])
    };
    for (before, after) in [
        (vec![ALPN, HINT, KEYS, HINT6], vec![ALPN, HINT, HINT6, NONE]),
        (vec![KEYS], vec![NONE]),
        (vec![ALPN, KEYS, (65_534, b"x")], vec![ALPN, (65_534, b"x"), (65_533, NONE.1)]),
        (vec![(5, b"")], vec![(65_534, b"")]),
    ] {
        assert_eq!(taken_out(with(&before)), (HelloKeys::TakenOut, with(&after).build()), "{before:?}");
    }
    assert_eq!(taken_out(with(&[ALPN, HINT])), (HelloKeys::None, with(&[ALPN, HINT]).build()));
}

/// Who must know the keys to use a record leaves it alone.
#[test]
fn a_record_that_is_of_no_use_without_keys_asks_for_what_nobody_knows() {
    let with = |parameters: &[(u16, &[u8])]| {
        Message::answer("a.test", HTTPS).record(1, "a.test", HTTPS, 60, &service("", parameters))
    };
    for (before, after) in [
        (&[0, 5][..], &[0xff, 0xfe][..]),
        (&[0, 1, 0, 5], &[0, 1, 0xff, 0xfe]),
        (&[0, 1, 0, 5, 0, 6], &[0, 1, 0, 6, 0xff, 0xfe]),
        (&[0, 1, 0, 6], &[0, 1, 0, 6]),
    ] {
        let (keys, bytes) = taken_out(with(&[(0, before), ALPN, KEYS, HINT6]));
        assert_eq!((keys, bytes), (HelloKeys::TakenOut, with(&[(0, after), ALPN, HINT6, NONE]).build()));
    }
}

#[test]
fn keys_are_found_in_every_section_and_every_form_of_the_record() {
    for section in 1..=3 {
        for kind in [SVCB, HTTPS] {
            let message = |keys| {
                Message::answer("a.test", HTTPS).record(section, "b.test", kind, 60, &service("", &[keys]))
            };
            assert_eq!(taken_out(message(KEYS)), (HelloKeys::TakenOut, message(NONE).build()));
        }
    }
    let two = |keys| {
        let record = service("", &[keys]);
        let message = Message::answer("a.test", HTTPS).record(1, "a.test", HTTPS, 60, &record);
        message.record(1, "a.test", HTTPS, 60, &record)
    };
    assert_eq!(taken_out(two(KEYS)), (HelloKeys::TakenOut, two(NONE).build()));
}

/// Who checks signatures would take the answer for a forgery. Who does not ask for them gets none.
#[test]
fn signed_records_are_left_as_they_are_and_nobody_vouches_for_changed_ones() {
    let signature = |kind: u16| [&kind.to_be_bytes()[..], &[8; 16], &wire("test"), &[1; 64]].concat();
    let signed =
        |kind| {
            Message::answer("a.test", HTTPS)
                .record(1, "a.test", HTTPS, 60, &service("", &[ALPN, KEYS]))
                .record(1, "a.test", RRSIG, 60, &signature(kind))
        };
    assert_eq!(taken_out(signed(HTTPS)), (HelloKeys::Signed, signed(HTTPS).build()));
    assert_eq!(taken_out(signed(A)).0, HelloKeys::TakenOut);
    let vouched = |flags, keys| {
        Message::new(0x4321, flags).ask("a.test", HTTPS, 1).record(
            1,
            "a.test",
            HTTPS,
            60,
            &service("", &[keys]),
        )
    };
    assert_eq!(taken_out(vouched(0x81a0, KEYS)).1, vouched(0x8180, NONE).build());
}

#[test]
fn what_cannot_be_read_stays_as_it_is() {
    let whole = Message::answer("a.test", HTTPS).record(1, "a.test", HTTPS, 60, &service("", &[ALPN, KEYS]));
    let whole = whole.build();
    for cut in 0..whole.len() {
        let mut bytes = whole[..cut].to_vec();
        assert_eq!(take_out_hello_keys(&mut bytes), HelloKeys::None);
        assert_eq!(bytes, whole[..cut]);
    }
    let query = Query::parse(&Message::question("a.test", HTTPS).build()).expect("a question");
    let cut = Answer::parse(&query, 0x4321, &whole[..whole.len() - 1]);
    assert!(matches!(cut, Err(AnswerFault::Malformed(_))), "and is passed on to nobody where that counts");
}

proptest! {
    /// Whatever a server sends: it keeps its length and what it is read as, and what is done is done.
    #[test]
    fn a_message_reads_as_before_and_has_no_keys_after(
        parameters in prop::collection::vec((0u16..8, prop::collection::vec(any::<u8>(), 0..6)), 0..6),
        garbage in prop::collection::vec(any::<u8>(), 0..8),
        kind in prop::sample::select(vec![HTTPS, SVCB, RRSIG, A]),
    ) {
        let parameters: Vec<(u16, &[u8])> =
            parameters.iter().map(|(key, value)| (*key, value.as_slice())).collect();
        let content = [service("a.test", &parameters), garbage].concat();
        let before = Message::answer("a.test", HTTPS)
            .record(1, "a.test", kind, 60, &content)
            .record(1, "a.test", HTTPS, 60, &service("", &[ALPN, KEYS]))
            .build();
        let query = Query::parse(&Message::question("a.test", HTTPS).build()).expect("a question");
        let mut after = before.clone();
        let keys = take_out_hello_keys(&mut after);
        prop_assert_eq!(after.len(), before.len());
        prop_assert_eq!(Answer::parse(&query, 0x4321, &after), Answer::parse(&query, 0x4321, &before));
        let mut again = after.clone();
        let done = take_out_hello_keys(&mut again);
        prop_assert_eq!(done, if keys == HelloKeys::Signed { HelloKeys::Signed } else { HelloKeys::None });
        prop_assert_eq!(again, after);
    }
}

//! Questions: what is decided on is what leaves.

use crate::message::Message;
use bulkhead_facts::Request;
use bulkhead_inspect::dns::{
    A, AAAA, AXFR, ExtendedError, Frame, HTTPS, Query, QueryFault, Refusal, ResponseCode, frame, refusal,
};
use proptest::prelude::*;

fn parsed(message: Message) -> Query {
    Query::parse(&message.build()).expect("a question")
}

#[test]
fn a_question_becomes_a_request_whatever_its_case() {
    for name in ["api.cardnet.example", "API.cardNET.eXample"] {
        let query = parsed(Message::question(name, AAAA));
        let Request::Dns(question) = query.request() else { panic!("{:?}", query.request()) };
        assert_eq!((question.name.as_str(), question.record), ("api.cardnet.example", AAAA));
    }
}

#[test]
fn the_case_of_a_name_leaves_as_it_came_and_the_identifier_does_not() {
    let query = parsed(Message::question("aPi.Test", A));
    let released = query.released(0xbeef);
    assert_eq!(released[..2], [0xbe, 0xef]);
    assert_eq!(released[2..], Message::question("aPi.Test", A).build()[2..]);
}

#[test]
fn options_and_unused_flags_do_not_leave() {
    let secret = [&[0xfd, 0xe9, 0, 6][..], b"secret"].concat();
    let query = parsed(Message::new(7, 0x0138 | 0x0240).ask("a.test", A, 1).options(4096, &secret));
    let released = query.released(9);
    assert!(!released.windows(6).any(|window| window == b"secret"));
    assert_eq!(released, Message::new(9, 0x0130).ask("a.test", A, 1).options(4096, &[]).build());
    assert_eq!(query.udp_bytes(), 4096);
}

#[test]
fn what_has_room_for_more_than_one_question_is_refused() {
    let plain = || Message::question("a.test", A);
    for (message, what) in [
        (plain().ask("b.test", A, 1), "two questions"),
        (Message::new(1, 0x0100), "none"),
        (plain().record(1, "a.test", A, 0, &[1, 2, 3, 4]), "an answer"),
        (plain().record(2, "a.test", A, 0, &[1, 2, 3, 4]), "an authority"),
        (plain().record(3, "a.test", 16, 0, b"\x06secret"), "an additional record"),
        (plain().options(512, &[]).record(3, "a.test", 250, 0, &[0; 40]), "a signature"),
        (plain().options(512, &[]).options(512, &[]), "options twice"),
        (plain().options(512, &[0; 600]), "many options"),
        (plain().raw(b"more"), "bytes behind"),
        (Message::new(1, 0x2800).ask("a.test", 6, 1), "an update"),
        (Message::new(1, 0x0800).ask("a.test", 6, 1), "an inverse question"),
        (Message::new(1, 0x0100).raw(&[]), "no question"),
    ] {
        assert!(matches!(Query::parse(&message.build()), Err(QueryFault::Malformed { .. })), "{what}");
    }
    let mut compressed = plain().build();
    compressed[12..14].copy_from_slice(&[0xc0, 0x0c]);
    assert!(matches!(Query::parse(&compressed), Err(QueryFault::Malformed { id: 0x1234, .. })));
}

#[test]
fn nobody_answers_an_answer() {
    assert_eq!(Query::parse(&Message::answer("a.test", A).build()).err(), Some(QueryFault::NoQuestion));
    assert_eq!(Query::parse(&[0; 11]).err(), Some(QueryFault::NoQuestion));
}

#[test]
fn what_is_no_host_name_of_the_internet_is_opaque_to_rules() {
    for message in [
        Message::new(1, 0).ask("", 2, 1),
        Message::new(1, 0).ask("version.bind", 16, 3),
        Message::new(1, 0).ask("a.test", A, 255),
        Message::new(1, 0).ask("10.0.0.1", A, 1),
        Message::new(1, 0).ask("a b.test", A, 1),
        Message::new(1, 0).ask("xn--example-.org", A, 1),
    ] {
        assert!(matches!(parsed(message).request(), Request::Opaque));
    }
}

#[test]
fn the_ends_of_search_lists_can_be_taken_off() {
    let query = parsed(Message::question("api.test.shop.svc", A));
    let shortened: Vec<String> = query.shortened().map(|name| name.to_string()).collect();
    assert_eq!(shortened, ["api.test.shop", "api.test", "api"]);
    assert_eq!(parsed(Message::question("api", A)).shortened().count(), 0);
}

#[test]
fn a_refusal_repeats_the_question_and_says_why_to_those_who_understand() {
    let told = Refusal { code: ResponseCode::Refused, error: ExtendedError::Prohibited, text: "no rule" };
    let plain = parsed(Message::question("a.Test", HTTPS));
    assert_eq!(refusal(&plain, told), Message::new(0x1234, 0x8185).ask("a.Test", HTTPS, 1).build());
    let with_options = parsed(Message::question("a.Test", HTTPS).options(1232, &[]));
    let reason = [&[0, 15, 0, 9, 0, 18][..], b"no rule"].concat();
    let expected = Message::new(0x1234, 0x8185).ask("a.Test", HTTPS, 1).options(1232, &reason).build();
    assert_eq!(refusal(&with_options, told), expected);
}

#[test]
fn the_longest_refusal_fits_into_every_datagram() {
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    let query = parsed(Message::question(&name, A).options(0, &[]));
    let text = "é".repeat(400);
    let told = Refusal { code: ResponseCode::NoSuchName, error: ExtendedError::Blocked, text: &text };
    let message = refusal(&query, told);
    assert!(message.len() <= 512, "{} bytes", message.len());
    assert!(std::str::from_utf8(&message[message.len() - 200..]).is_ok(), "cut within a character");
}

#[test]
fn frames_are_told_at_every_split() {
    let message = Message::question("a.test", AXFR).build();
    let framed =
        [&u16::try_from(message.len()).expect("short").to_be_bytes()[..], &message, &message].concat();
    for end in 0..message.len() + 2 {
        assert_eq!(frame(&framed[..end]), Frame::NeedMore);
    }
    assert_eq!(frame(&framed), Frame::Message { message: &message, used: message.len() + 2 });
    assert_eq!(frame(&[0, 11]), Frame::TooShort);
}

#[test]
fn other_protocols_do_not_look_like_a_question() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        assert!(!Query::may_begin(bytes), "{bytes:?}");
    }
    let question = Message::question("a.test", A).options(512, &[]).build();
    for end in 0..=question.len() {
        assert!(Query::may_begin(&question[..end]));
    }
}

#[test]
fn every_prefix_of_a_question_is_refused() {
    let message =
        Message::question("www.api.test", A).options(4096, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]).build();
    for end in 0..message.len() {
        assert!(Query::parse(&message[..end]).is_err(), "{end} bytes");
    }
    assert!(Query::parse(&message).is_ok());
}

proptest! {
    #[test]
    fn what_leaves_reads_as_what_was_decided_on(bytes in question_like(), id: u16) {
        if let Ok(query) = Query::parse(&bytes) {
            let again = Query::parse(&query.released(id)).expect("what we write we read");
            prop_assert_eq!(&again.name, &query.name);
            prop_assert_eq!(again.name.as_wire(), query.name.as_wire());
            prop_assert_eq!((again.id, again.record), (id, query.record));
            prop_assert_eq!(again.released(7), query.released(7));
            let told = Refusal { code: ResponseCode::Refused, error: ExtendedError::Blocked, text: "x" };
            prop_assert!(refusal(&query, told).len() <= 512);
        }
    }
}

/// Arbitrary bytes, and questions with some of them changed.
fn question_like() -> impl Strategy<Value = Vec<u8>> {
    let changed =
        (prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)).prop_map(|changes| {
            let mut bytes = Message::question("a.bc.test", A).options(1232, &[0, 12, 0, 2, 0, 0]).build();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..80), changed]
}

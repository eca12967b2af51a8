//! The name system: what leaves reads as what was decided on, to us and to hickory; what is learned of an answer stands in it,
//! and hickory reads it there as well.
#![no_main]

use bulkhead_inspect::dns::{
    A, AAAA, Answer, ExtendedError, Frame, Query, Refusal, ResponseCode, frame, refusal,
};
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData};
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;

fuzz_target!(|input: (bool, &[u8])| {
    let (question, bytes) = input;
    if let Frame::Message { message, used } = frame(bytes) {
        assert!(message.len() + 2 == used && used <= bytes.len());
    }
    if question { asked(bytes) } else { answered(bytes) }
});

/// Reads a question; what we write of it is read alike by both.
fn asked(bytes: &[u8]) {
    let Ok(query) = Query::parse(bytes) else { return };
    let released = query.released(0x1234);
    let again = Query::parse(&released).expect("what we write we read");
    assert!(again.name == query.name && again.record == query.record && again.id == 0x1234);
    let theirs = Message::from_vec(&released).expect("a question that left");
    let [asked] = theirs.queries() else { panic!("{} questions left", theirs.queries().len()) };
    assert_eq!(u16::from(asked.query_type()), query.record);
    assert!(same_name(asked.name(), query.name.as_wire()), "{} is not {}", asked.name(), query.name);
    let told = Refusal { code: ResponseCode::Refused, error: ExtendedError::Prohibited, text: "no rule" };
    let refused = refusal(&query, told);
    assert!(refused.len() <= 512);
    Message::from_vec(&refused).expect("a refusal that was sent");
}

/// Reads bytes as the answer to the question that they repeat.
fn answered(bytes: &[u8]) {
    let Some(query) = repeated(bytes) else { return };
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let Ok(answer) = Answer::parse(&query, id, bytes) else { return };
    if !matches!(query.record, A | AAAA) || answer.addresses.is_empty() {
        return;
    }
    let Ok(theirs) = Message::from_vec(bytes) else { return };
    let all: Vec<IpAddr> = theirs
        .answers()
        .iter()
        .filter_map(|record| match record.data() {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
        .collect();
    for (address, _) in answer.addresses {
        assert!(all.contains(&address), "{address} is not in {all:?}");
    }
}

/// The question that an answer repeats, as it would have been asked.
fn repeated(bytes: &[u8]) -> Option<Query> {
    let end = 12 + bytes.get(12..)?.iter().position(|byte| *byte == 0)? + 5;
    let question = [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], bytes.get(12..end)?].concat();
    Query::parse(&question).ok()
}

fn same_name(theirs: &Name, ours: &[u8]) -> bool {
    let wire: Vec<u8> = theirs
        .iter()
        .flat_map(|label| [&[u8::try_from(label.len()).expect("short")], label].concat())
        .chain([0])
        .collect();
    wire.eq_ignore_ascii_case(ours)
}

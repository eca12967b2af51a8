//! Questions to name servers by TCP.

use super::{Kind, client, letters, long};
use bulkhead_facts::NamePattern;
use bulkhead_policies::model::{DnsMatch, L7Section};

pub(super) fn kind() -> Kind {
    let names = ["**.test", "a"].map(|name| NamePattern::parse(name).expect("a pattern")).into();
    let again = |message: Vec<u8>| long(&[], |_| message.clone());
    let name = |text: &str| {
        let labels = text
            .split('.')
            .map(|label| [&[u8::try_from(label.len()).expect("a short label")], label.as_bytes()].concat());
        [labels.collect::<Vec<_>>().concat(), vec![0]].concat()
    };
    let options = |bytes: u16| {
        let length = bytes.to_be_bytes();
        [&[0, 0, 41, 255, 255, 0, 0, 0, 0][..], &length, &vec![0; usize::from(bytes)]].concat()
    };
    let plain = |text: &str| question(&name(text), &[]);
    let many_labels = [b"\x01a".repeat(118), name("no.thing")].concat();
    let long_name = [name(&["x".repeat(63), "y".repeat(63), "z".repeat(63)].join(".")), name("test")];
    let long_name = [&long_name[0][..192], &long_name[1]].concat();
    Kind {
        protocol: "DNS",
        section: L7Section::Dns(vec![DnsMatch { names, ..DnsMatch::default() }]),
        greeting: Vec::new(),
        answer,
        ordinary: client("ordinary", again(question(&name("api.example.test"), &options(0)))),
        hostile: vec![
            client("half a length", vec![0]),
            client("half a question", long(&[15, 255, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], |_| vec![63; 64])),
            client("the smallest questions", again(plain("a"))),
            client("questions for long names", again(question(&long_name, &[]))),
            client("questions with many options", again(question(&name("a"), &options(500)))),
            client("questions that take much", again(question(&name("a"), &options(0)))),
            client("other names", long(&[], |number| plain(&format!("{}.test", letters(number))))),
            client("denied questions", again(plain("no.thing"))),
            client("other denied names", long(&[], |number| plain(&format!("{}.no.thing", letters(number))))),
            client("denied names of many labels", again(question(&many_labels, &options(0)))),
            client("ends behind a name that is allowed", again(plain("a.test.no.thing"))),
            client("names in a circle", again(question(&[0xc0, 12], &[]))),
            client("names that no host has", again(question(b"\x02\xff\x00\x04test\0", &[]))),
            client("transfers", again(with_type(plain("a"), 252))),
        ],
    }
}

/// With its length in front, without options if there are none.
fn question(name: &[u8], options: &[u8]) -> Vec<u8> {
    let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!options.is_empty())];
    let message = [&head[..], name, &[0, 1, 0, 1], options].concat();
    [&u16::try_from(message.len()).expect("a short message").to_be_bytes()[..], &message].concat()
}

fn with_type(mut question: Vec<u8>, record: u8) -> Vec<u8> {
    let at = question.len() - 3;
    question[at] = record;
    question
}

/// Each question comes back as the answer that there is nothing.
fn answer(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    while let Some(length) = pending.first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)) + 2;
        if pending.len() < length {
            return;
        }
        let mut one: Vec<u8> = pending.drain(..length).collect();
        one[4] |= 0x80;
        out.extend(one);
    }
}

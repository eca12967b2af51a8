//! Weaknesses that others had in reading the name system, each by its identifier.

use crate::message::{Message, wire};
use bulkhead_facts::Request;
use bulkhead_inspect::dns::{A, AAAA, AXFR, AddressKind, Answer, AnswerFault, CNAME, HTTPS, NS, Query, TXT};

const PUBLIC: [u8; 4] = [203, 0, 113, 7];

fn learned(name: &str, record: u16, answer: Message) -> Result<usize, AnswerFault> {
    let query = Query::parse(&Message::question(name, record).build()).expect("a question");
    Answer::parse(&query, 0x4321, &answer.build()).map(|answer| answer.addresses.len())
}

/// Records of a sibling in the authority and additional sections are nobody's answer.
#[test]
fn rustsec_2026_0106() {
    let answer = Message::answer("other.example", A)
        .record(1, "other.example", A, 60, &PUBLIC)
        .record(2, "good.example", NS, 60, &wire("good.example"))
        .record(3, "good.example", A, 60, &PUBLIC);
    assert_eq!(learned("good.example", A, answer.clone()), Err(AnswerFault::Foreign));
    assert_eq!(learned("other.example", A, answer), Ok(1));
}

/// An answer with another identifier, or to another question, is not believed.
#[test]
fn cve_2008_1447_cve_2023_30464_cve_2020_25705() {
    let record = |message: Message| message.record(1, "api.test", A, 60, &PUBLIC);
    let guesses = [
        record(Message::new(0x4322, 0x8180).ask("api.test", A, 1)),
        record(Message::new(0x4321, 0x8180).ask("api.test", AAAA, 1)),
        record(Message::new(0x4321, 0x8180).ask("xapi.test", A, 1)),
        record(Message::new(0x4321, 0x8180)),
    ];
    for guess in guesses {
        assert_eq!(learned("api.test", A, guess), Err(AnswerFault::Foreign));
    }
}

/// An address that hands out credentials, of the link or of the machine is told apart from all others.
#[test]
fn cve_2020_8562_cve_2026_27127() {
    for address in
        ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "127.0.0.1", "::1", "fe80::1"]
    {
        assert_eq!(AddressKind::of(address.parse().expect("address")), AddressKind::Never, "{address}");
    }
}

/// An alias counts if the chain from the question is unbroken within the same answer.
#[test]
fn cilium_20191() {
    let alias = Message::answer("www.test", A).record(1, "www.test", CNAME, 60, &wire("cdn.test"));
    assert_eq!(learned("www.test", A, alias.clone().record(1, "cdn.test", A, 60, &PUBLIC)), Ok(1));
    assert_eq!(learned("www.test", A, alias.record(1, "edge.cdn.test", A, 60, &PUBLIC)), Ok(0));
}

/// What is asked about is the name that leaves: with whatever end a list of search domains added, and in any case.
#[test]
fn cve_2026_26017_cve_2026_33489() {
    for (text, record) in [("A.Example.ORG.svc.cluster.local", A), ("a.example.org", AXFR)] {
        let query = Query::parse(&Message::question(text, record).build()).expect("a question");
        let Request::Dns(question) = query.request() else { panic!("{text}") };
        assert_eq!((question.name.as_str(), question.record), (text.to_ascii_lowercase().as_str(), record));
        let left = Query::parse(&query.released(1)).expect("a question");
        assert_eq!((left.name, left.record), (query.name.clone(), record));
    }
}

/// Circles, long chains of pointers and garbage in service records are refused, and soon.
#[test]
fn cve_2024_24788_rustsec_2018_0007_rustsec_2026_0119_go_2026_5942() {
    let query = Query::parse(&Message::question("a.test", HTTPS).build()).expect("a question");
    let circle = Message::answer("a.test", HTTPS).raw(&[0xc0, 24, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]).build();
    let mut counted = circle;
    counted[7] = 1;
    let refused =
        |bytes: &[u8]| matches!(Answer::parse(&query, 0x4321, bytes), Err(AnswerFault::Malformed(_)));
    assert!(refused(&counted));
    let mut pointers = Message::answer("a.test", HTTPS);
    for at in 0..255u16 {
        pointers = pointers.raw(&(0xc000 | (12 + 2 * at).max(12)).to_be_bytes());
    }
    let mut pointers = pointers.build();
    pointers[7] = 1;
    assert!(refused(&pointers));
    for length in 0..40 {
        let garbage: Vec<u8> = (0..length).map(|at: u8| at.wrapping_mul(37) ^ 0xa5).collect();
        let answer = Message::answer("a.test", HTTPS).record(1, "a.test", HTTPS, 1, &garbage).build();
        let _ = Answer::parse(&query, 0x4321, &answer);
    }
}

/// A crafted answer is refused or read, and never more than that.
#[test]
fn cve_2025_23028() {
    let query = Query::parse(&Message::question("a.test", TXT).build()).expect("a question");
    let whole = Message::answer("a.test", TXT)
        .record(1, "a.test", TXT, 1, b"\x03abc")
        .record(1, "a.test", A, 1, &PUBLIC)
        .options(1232, &[0, 15, 0, 2, 0, 18])
        .build();
    for at in 0..whole.len() {
        for value in [0, 1, 0x3f, 0xc0, 0xff] {
            let mut crafted = whole.clone();
            crafted[at] = value;
            let addresses =
                Answer::parse(&query, 0x4321, &crafted).map_or(0, |answer| answer.addresses.len());
            assert_eq!(addresses, 0, "byte {at} is {value}");
        }
    }
}

/// A chain of a hundred aliases is followed for sixteen.
#[test]
fn cve_2021_23017_cve_2016_0746_cve_2016_0747() {
    let mut answer = Message::answer("n0.test", A);
    for link in 0..100 {
        answer = answer.record(1, &format!("n{link}.test"), CNAME, 60, &wire(&format!("n{}.test", link + 1)));
    }
    assert_eq!(learned("n0.test", A, answer.record(1, "n100.test", A, 60, &PUBLIC)), Ok(0));
}

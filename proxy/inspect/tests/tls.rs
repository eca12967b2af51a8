//! TLS: hellos over any number of records and segments, read strictly; nothing leaves before the verdict.

#[path = "support/gate.rs"]
mod gate;

use bulkhead_facts::Reason;
use bulkhead_inspect::{Protocol, Question};
use gate::{End, World, describe, run, run_all_splits};

const WORLD: World =
    World { expected: Some(Protocol::Tls), allow: not_secret, answer: server_hello, opaque: false };

/// What a server of TLS 1.3 says to a hello: that version where it is offered, else the client's highest.
fn server_hello(mut got: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(&[22, _, _, high, low]) = got.first_chunk() {
        let size = usize::from(u16::from_be_bytes([high, low]));
        content.extend(got.iter().skip(5).take(size));
        got = got.get(5 + size..).unwrap_or_default();
    }
    let offers = content.windows(2).any(|pair| pair == [3, 4]);
    match content.get(4..6) {
        None => Vec::new(),
        Some(_) if offers => chosen(0x0303, Some(0x0304)),
        Some(version) => chosen(u16::from_be_bytes([version[0], version[1]]).min(0x0303), None),
    }
}

/// A hello of a server, with the version of TLS 1.3 in an extension.
fn chosen(version: u16, extended: Option<u16>) -> Vec<u8> {
    let extensions = extended.map_or(Vec::new(), |version| extension(43, &version.to_be_bytes()));
    let extensions = if extensions.is_empty() { Vec::new() } else { length16(&extensions) };
    let body = [&version.to_be_bytes()[..], &[9; 32], &[0, 0x13, 1, 0], &extensions].concat();
    let length = u8::try_from(body.len()).expect("a sound test");
    records(&[&[2, 0, 0, length], body.as_slice()].concat(), 1 << 14)
}

/// The random of a server hello that asks for another hello (RFC 8446 section 4.1.3): SHA-256 of `HelloRetryRequest`.
const RETRY: [u8; 32] = *b"\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\
    \xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c";

fn answer(random: [u8; 32]) -> Vec<u8> {
    let body = [&[3, 3][..], &random, &[0, 0x13, 1, 0, 0, 0]].concat();
    let length = u8::try_from(body.len()).expect("a sound test");
    records(&[&[2, 0, 0, length], body.as_slice()].concat(), 1 << 14)
}

fn not_secret(question: &Question<'_>) -> bool {
    !describe(question).starts_with("secret")
}

const DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
const MALFORMED: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];

fn length16(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).expect("a sound test").to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), length16(body)].concat()
}

fn sni(name: &str) -> Vec<u8> {
    extension(0, &length16(&[vec![0], length16(name.as_bytes())].concat()))
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|name| [&[u8::try_from(name.len()).expect("a sound test")], *name].concat())
        .collect();
    extension(16, &length16(&list))
}

fn versions(list: &[u16]) -> Vec<u8> {
    let list: Vec<u8> = list.iter().flat_map(|version| version.to_be_bytes()).collect();
    extension(43, &[&[u8::try_from(list.len()).expect("a sound test")], list.as_slice()].concat())
}

/// A hello with these extensions, as a handshake message.
fn message(version: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(length16(&[0x13, 0x01, 0x0a, 0x0a]));
    body.extend([1, 0]);
    body.extend(length16(&extensions.concat()));
    let length = u32::try_from(body.len()).expect("a sound test").to_be_bytes();
    [&[1], &length[1..], body.as_slice()].concat()
}

/// In records of so many bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [vec![22, 3, 1], length16(part)].concat()).collect()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(0x0303, extensions), 1 << 14)
}

fn check_asked(input: &[u8], expected: &str) {
    let outcome = run_all_splits(WORLD, input);
    assert_eq!(outcome.asked, [expected]);
    assert_eq!((outcome.to_server.as_slice(), outcome.end), (input, End::Opaque), "{expected}");
}

fn check_malformed(input: &[u8], what: &str) {
    let outcome = run_all_splits(WORLD, input);
    assert_eq!((outcome.asked.len(), outcome.to_server.len()), (0, 0), "{what}");
    assert_eq!((outcome.to_client.as_slice(), outcome.end), (&MALFORMED[..], End::Told), "{what}");
}

#[test]
fn name_versions_and_protocols_are_read_in_one_form() {
    let grease = extension(0x1a1a, &[]);
    check_asked(
        &hello(&[
            grease,
            sni("API.Example.com"),
            versions(&[0x3a3a, 0x0304, 0x0303]),
            alpn(&[b"h2", b"http/1.1"]),
        ]),
        "api.example.com 1.2-1.3 [\"h2\", \"http/1.1\"]",
    );
    check_asked(&hello(&[versions(&[0x0304])]), "- 1.3-1.3 []");
    check_asked(&hello(&[sni("a.test"), alpn(&[b"\xfa\xfa", b"\xff"])]), "a.test 1.0-1.2 [\"\u{fffd}\"]");
    check_asked(&records(&message(0x0302, &[]), 9_000), "- 1.0-1.1 []");
}

#[test]
fn an_encrypted_hello_is_a_fact_and_its_outer_name_is_not_the_one_that_is_meant() {
    let ech = extension(0xfe0d, &[0, 0, 1, 0, 1, 9, 0, 0, 0, 0]);
    check_asked(&hello(&[sni("front.test"), versions(&[0x0304]), ech]), "front.test 1.3-1.3 [] encrypted");
    check_malformed(&hello(&[sni("front.test"), extension(0xfe0d, &[1])]), "an inner hello outside");
}

#[test]
fn a_refused_hello_gets_an_alert_and_nothing_of_it_leaves() {
    let outcome = run_all_splits(WORLD, &hello(&[sni("secret.test")]));
    assert_eq!(outcome.asked, ["secret.test 1.0-1.2 []"]);
    assert_eq!((outcome.to_server.len(), outcome.to_client.as_slice()), (0, &DENIED[..]));
    assert_eq!(outcome.end, End::Told);
}

/// CVE-2026-32305, CVE-2024-11738: a hello in many records, and one of more than a segment.
#[test]
fn cve_2026_32305_cve_2024_11738() {
    let mut long = message(0x0303, &[extension(0x0015, &[0; 1_800]), sni("secret.test")]);
    for size in [1, 2, 3, 5, 100, 1_000] {
        let outcome = run(WORLD, &records(&long, size), 77);
        assert_eq!((outcome.to_server.len(), outcome.to_client.as_slice()), (0, &DENIED[..]), "{size}");
    }
    let short = message(0x0303, &[sni("secret.test")]);
    for size in 1..short.len() {
        let outcome = run(WORLD, &records(&short, size), 1);
        assert_eq!((outcome.to_server.len(), outcome.to_client.as_slice()), (0, &DENIED[..]), "{size}");
    }
    // Longer than what is kept: refused, not passed.
    long = message(0x0303, &[extension(0x0015, &[0; 17_000]), sni("open.test")]);
    let outcome = run(WORLD, &records(&long, 1_000), 1_000);
    assert_eq!((outcome.asked.len(), outcome.to_server.len(), outcome.end), (0, 0, End::Told));
}

#[test]
fn cve_2020_8660() {
    let outcome = run_all_splits(WORLD, &hello(&[sni("secret.test"), versions(&[0x0304])]));
    assert_eq!(outcome.to_client, DENIED);
}

#[test]
fn cve_2026_53622() {
    check_asked(&hello(&[sni("OPEN.Example.com")]), "open.example.com 1.0-1.2 []");
    assert_eq!(run_all_splits(WORLD, &hello(&[sni("SECRET.example.com")])).to_client, DENIED);
}

/// The name is one of Istio's internal ones: it is compared as it is, and no part of it selects anything.
#[test]
fn cve_2021_31921() {
    check_asked(&hello(&[sni("outbound_.80_._.b.svc")]), "outbound_.80_._.b.svc 1.0-1.2 []");
}

#[test]
fn cve_2026_1642() {
    let world = World { answer: |_| b"220 hello\r\n".to_vec(), ..WORLD };
    let outcome = run(world, &hello(&[sni("open.test")])[..20], 100);
    assert_eq!((outcome.to_client.len(), outcome.end), (0, End::Reset(Reason::Malformed)));
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let good = message(0x0303, &[sni("open.test")]);
    check_malformed(&hello(&[sni("open.test"), sni("secret.test")]), "two names");
    let two = [vec![0], length16(b"open.test"), vec![0], length16(b"secret.test")].concat();
    check_malformed(&hello(&[extension(0, &length16(&two))]), "a list of two names");
    check_malformed(&hello(&[sni("10.0.0.1")]), "an address");
    check_malformed(&hello(&[sni("a\0.test")]), "a zero byte");
    check_malformed(&hello(&[sni("")]), "an empty name");
    check_malformed(&hello(&[extension(0, &[0, 9, 0])]), "a list that is cut short");
    check_malformed(&hello(&[extension(43, &[3, 3, 4, 3])]), "versions of an odd length");
    check_malformed(
        &records(&[good.clone(), vec![1]].concat(), 16_000),
        "bytes behind the hello in its record",
    );
    check_malformed(&records(&[&[2], &good[1..]].concat(), 16_000), "another message");
    let mut short = good.clone();
    short.truncate(good.len() - 3);
    short[3] -= 3;
    check_malformed(&records(&short, 16_000), "extensions cut short");
    let alert_between = [records(&good[..10], 10), vec![21, 3, 3, 0, 2, 1, 0], records(&good[10..], 900)];
    check_malformed(&alert_between.concat(), "another record between");
    check_malformed(&[vec![22, 3, 1, 0, 0], records(&good, 900)].concat(), "an empty record");
}

#[test]
fn early_data_behind_the_hello_leaves_with_it_and_not_before() {
    let input = [hello(&[sni("open.test")]), vec![23, 3, 3, 0, 2, 9, 9]].concat();
    let outcome = run(WORLD, &input, input.len());
    assert_eq!((outcome.end, outcome.to_server), (End::Opaque, input.clone()));
    let silent = World { answer: |_| Vec::new(), ..WORLD };
    let outcome = run_all_splits(silent, &input);
    assert_eq!((outcome.end, outcome.to_server), (End::Open, input), "it waits for no answer");
    let denied = [hello(&[sni("secret.test")]), vec![23, 3, 3, 0, 2, 9, 9]].concat();
    assert_eq!(run(WORLD, &denied, denied.len()).to_server.len(), 0);
}

/// The first hello, and everything that the client says once the server has asked for another one.
fn asked_again(first: &[Vec<u8>], then: &[u8], piece: usize) -> (usize, gate::Outcome) {
    let world = World { answer: |got| if got.is_empty() { Vec::new() } else { answer(RETRY) }, ..WORLD };
    let first = hello(first);
    let mut gate = gate::Gate::new(world, piece);
    gate.client(&first);
    for bytes in then.chunks(piece) {
        gate.client(bytes);
    }
    (first.len(), gate.outcome)
}

#[test]
fn another_hello_that_the_server_asks_for_says_what_the_first_did() {
    let first = [sni("open.test"), versions(&[0x0304]), alpn(&[b"h2"])];
    let same = [alpn(&[b"h2"]), extension(0x0033, &[1; 70]), sni("OPEN.test"), versions(&[0x0a0a, 0x0304])];
    let change_cipher = [20, 3, 3, 0, 1, 1];
    for size in [1, 40, 9_000] {
        let then =
            [&change_cipher[..], &records(&message(0x0303, &same), size), &[23, 3, 3, 0, 1, 9]].concat();
        for piece in [1, 2, 7, 1 << 14] {
            let (begun, outcome) = asked_again(&first, &then, piece);
            let all = [hello(&first), then[..then.len() - 6].to_vec()].concat();
            assert_eq!((outcome.end, outcome.asked.len()), (End::Opaque, 1), "{size} {piece}");
            assert!(outcome.to_server.starts_with(&all), "{size} {piece}");
            assert!(outcome.to_server.len() > begun);
        }
    }
    for other in [
        &[sni("secret.test"), versions(&[0x0304]), alpn(&[b"h2"])][..],
        &[sni("other.test"), versions(&[0x0304]), alpn(&[b"h2"])],
        &[versions(&[0x0304]), alpn(&[b"h2"])],
        &[sni("open.test"), versions(&[0x0303]), alpn(&[b"h2"])],
        &[sni("open.test"), versions(&[0x0304]), alpn(&[b"http/1.1"])],
        &[sni("open.test"), versions(&[0x0304]), alpn(&[b"h2"]), extension(0xfe0d, &[0, 0, 1])],
        &[sni("open.test"), sni("secret.test"), versions(&[0x0304])],
    ] {
        for size in [1, 40, 9_000] {
            let then = [&change_cipher[..], &records(&message(0x0303, other), size)].concat();
            for piece in [1, 7, 1 << 14] {
                let (begun, outcome) = asked_again(&first, &then, piece);
                assert_eq!((outcome.end, outcome.asked.len()), (End::Told, 1), "{other:?}");
                assert_eq!(outcome.to_server.len(), begun + change_cipher.len(), "{other:?}");
                assert!(outcome.to_client.starts_with(&answer(RETRY)), "{other:?}");
            }
        }
    }
}

/// A server that does not know the list of versions chooses by the field in front, which every client of 1.3 fills with 1.2.
#[test]
fn a_server_chooses_no_version_that_was_not_decided_on() {
    fn old(got: &[u8]) -> Vec<u8> {
        if got.is_empty() { Vec::new() } else { chosen(0x0303, None) }
    }
    fn older(got: &[u8]) -> Vec<u8> {
        if got.is_empty() { Vec::new() } else { [chosen(0x0301, None), vec![22, 3, 1, 0, 9]].concat() }
    }
    for (answer, offered, passes) in [
        (old as fn(&[u8]) -> Vec<u8>, &[0x0304][..], false),
        (old, &[0x0304, 0x0303], true),
        (older, &[0x0304, 0x0303], false),
        (older, &[0x0303, 0x0302, 0x0301], true),
        (server_hello, &[0x0304], true),
    ] {
        let input = hello(&[sni("open.test"), versions(offered)]);
        let outcome = run_all_splits(World { answer, ..WORLD }, &input);
        let expected = if passes { End::Opaque } else { End::Reset(Reason::Ambiguous) };
        assert_eq!((outcome.end, outcome.to_server), (expected, input), "{offered:x?}");
        assert!(passes || outcome.to_client.is_empty());
    }
}

#[test]
fn another_hello_waits_until_the_server_has_asked_for_it() {
    let first = hello(&[sni("open.test")]);
    let input = [first.clone(), hello(&[sni("secret.test")])].concat();
    let silent = World { answer: |_| Vec::new(), ..WORLD };
    let outcome = run_all_splits(silent, &input);
    assert_eq!((outcome.end, outcome.to_server), (End::Open, first.clone()));
    let input = [first.clone(), vec![24, 3, 3, 0, 1, 1]].concat();
    let outcome = run_all_splits(silent, &input);
    assert_eq!((outcome.end, outcome.to_server), (End::Told, first), "no client says that");
}

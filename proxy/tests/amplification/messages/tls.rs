//! TLS, of which only the first message is read.

use super::{Kind, answer_nothing, client, long};
use bulkhead_facts::NamePattern;
use bulkhead_policies::model::{L7Section, TlsMatch};

pub(super) fn kind() -> Kind {
    let name = NamePattern::parse("open.test").expect("a name");
    let record = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("a short record").to_be_bytes();
        [&[0x16, 3, 1], length.as_slice(), bytes].concat()
    };
    let hello = |name: &str, more: &[u8]| {
        let length = |count: usize| u16::try_from(count).expect("short").to_be_bytes();
        let host = [&[0], length(name.len()).as_slice(), name.as_bytes()].concat();
        let list = [length(host.len()).as_slice(), &host].concat();
        let extension = [&[0, 0], length(list.len()).as_slice(), &list].concat();
        let extensions = [&extension, more].concat();
        let body =
            [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2f, 1, 0], &length(extensions.len()), &extensions]
                .concat();
        [&[1, 0], length(body.len()).as_slice(), &body].concat()
    };
    let many: Vec<u8> = (100..4_100u16).flat_map(|kind| [kind.to_be_bytes(), [0, 0]].concat()).collect();
    let protocols = {
        let names = [1, b'h'].repeat(4_000);
        let length = |count: usize| u16::try_from(count).expect("short").to_be_bytes();
        [&[0, 16], length(names.len() + 2).as_slice(), &length(names.len()), &names].concat()
    };
    let bytewise = |message: &[u8]| message.iter().flat_map(|byte| record(&[*byte])).collect::<Vec<u8>>();
    Kind {
        protocol: "TLS",
        section: L7Section::Tls(TlsMatch { sni: vec![name], ..TlsMatch::default() }),
        greeting: Vec::new(),
        answer: answer_nothing,
        // What follows the hello is not read.
        ordinary: client(
            "ordinary",
            long(&record(&hello("open.test", &[])), |_| [&[0x17, 3, 3, 0, 100][..], &[0; 100]].concat()),
        ),
        hostile: vec![
            client("a denied name", record(&hello("secret.test", &[]))),
            client("records of one byte", bytewise(&hello("open.test", &many))),
            client("many extensions", record(&hello("open.test", &many[..15_000]))),
            client("many protocols", record(&hello("open.test", &protocols))),
        ],
    }
}

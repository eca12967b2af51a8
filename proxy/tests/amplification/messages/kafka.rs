//! Kafka.

use super::{Client, Kind, client, letters, long};
use bulkhead_policies::model::{KafkaMatch, L7Section, TopicMatch};

pub(super) fn kind() -> Kind {
    let request = |api: u16, version: u16, body: &[u8]| {
        let size = u32::try_from(body.len() + 11).expect("a length").to_be_bytes();
        let head = [api.to_be_bytes(), version.to_be_bytes()].concat();
        [size.as_slice(), &head, &[0, 0, 0, 7, 0, 1, b'c'], body].concat()
    };
    let about = |names: &[Vec<u8>]| {
        let count = u32::try_from(names.len()).expect("few").to_be_bytes();
        request(3, 5, &[count.as_slice(), &names.concat(), &[1]].concat())
    };
    let metadata = |topics: usize| {
        let names: Vec<Vec<u8>> = (0..topics).map(|number| name("t", number % 676)).collect();
        about(&names)
    };
    let denied = |topics: usize| about(&(0..topics).map(|number| name("u", number)).collect::<Vec<_>>());
    let fetch = |session: u8, epoch: u8, topics: usize| {
        let names: Vec<u8> =
            (0..topics).flat_map(|number| [name("t", number), vec![0; 4]].concat()).collect();
        let count = u32::try_from(topics).expect("few").to_be_bytes();
        let begin = [[0; 17].as_slice(), &[0, 0, 0, session, 0, 0, 0, epoch], &count].concat();
        request(1, 11, &[begin.as_slice(), &names, &[0; 6]].concat())
    };
    // It is begun with so many topics, and then goes on with nothing new.
    let session = |what: &'static str, topics: usize| {
        let begin = fetch(0, 0, topics);
        let pause = begin.len();
        let words = FETCHED.to_vec();
        Client { words, ..client(what, long(&begin, |_| fetch(SESSION, 1, 0))).after(pause) }
    };
    let topics = vec![TopicMatch::Prefix("t".to_owned())];
    Kind {
        protocol: "Kafka",
        section: L7Section::Kafka(vec![KafkaMatch { topics, ..KafkaMatch::default() }]),
        greeting: Vec::new(),
        answer,
        ordinary: client("ordinary", long(&[], |_| metadata(4))),
        hostile: vec![
            client("many topics", long(&[], |_| metadata(190))),
            client("a topic again and again", long(&[], |_| metadata(4_000))),
            client("fetches of many topics", long(&[], |_| fetch(0, 0, 90))),
            client("sessions that go on elsewhere", long(&[], |_| fetch(6, 1, 60))),
            session("a session of some topics", 60),
            session("a session of many topics", 1_000),
            client("denied topics", long(&[], |_| denied(190))),
            client("one denied topic", long(&[], |_| denied(1))),
            client("denied topics that are all different", long(&[], |_| denied(4_000))),
            client("small requests", long(&[], |_| metadata(1))),
            client("denied requests", long(&[], |_| request(20, 0, &[]))),
        ],
    }
}

/// Number of the session that a broker opens.
const SESSION: u8 = 5;
/// An answer to a fetch: its length, its number, no time, no error, the session, nothing new.
const FETCHED: &[u8] = &[0, 0, 0, 18, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, SESSION, 0, 0, 0, 0];

/// A topic of five letters.
fn name(first: &str, number: usize) -> Vec<u8> {
    [&[0, 5], first.as_bytes(), letters(number).as_bytes()].concat()
}

fn answer(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    while let Some(length) = pending.first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("short") + 4;
        if pending.len() < length {
            return;
        }
        let request: Vec<u8> = pending.drain(..length).collect();
        match request[5] {
            1 => out.extend(FETCHED),
            _ => out.extend([0, 0, 0, 4, 0, 0, 0, 7]),
        }
    }
}

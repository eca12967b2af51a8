//! Who waits for long and means no harm: nobody is cut who waits for an answer, or whose session is quiet, for more than a day
//! of virtual time; and then goes on.

use super::databases::gated;
use super::origin::raw;
use super::*;
use bulkhead_facts::PostgresStatement;
use bulkhead_policies::model::{KafkaMatch, PostgresMatch, RedisMatch, TopicMatch};
use tokio::sync::Notify;
use tokio::time::sleep;

const DAY: Duration = Duration::from_secs(26 * 3600);

/// What a client says and a server answers, in turns; after a day it is the server's turn, or the client's.
struct Case {
    what: &'static str,
    section: L7Section,
    talk: Vec<Turn>,
    after: Then,
}

type Turn = (&'static [u8], &'static [u8]);

enum Then {
    Server(&'static [u8]),
    Client(&'static [u8]),
}

async fn assert_lasts(Case { what, section, talk, after }: Case) {
    let later = if let Then::Server(later) = after { later } else { b"" };
    let answers: Vec<&[u8]> = talk.iter().map(|(_, answer)| *answer).collect();
    let turn = Arc::new(Notify::new());
    let servers_turn = Arc::clone(&turn);
    let origin = raw(move |mut stream, seen| {
        let (answers, turn) = (answers.clone(), Arc::clone(&servers_turn));
        async move {
            // Virtual time does not wait for what the kernel holds back.
            stream.set_nodelay(true).expect("a socket");
            let mut bytes = [0; 4096];
            for answer in answers {
                let count = stream.read(&mut bytes).await.expect("a session");
                seen.push(&bytes[..count]);
                stream.write_all(answer).await.expect("room");
            }
            if !later.is_empty() {
                turn.notified().await;
                stream.write_all(later).await.expect("room");
            }
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                seen.push(&bytes[..count]);
            }
        }
    })
    .await;
    let lab = gated(origin.address, Direction::Ingress, section);
    let mut client = lab.connect().await;
    for (asks, answer) in talk {
        client.send(asks).await;
        assert_eq!(client.read(answer.len()).await, answer, "{what}: the answer");
    }
    sleep(DAY).await;
    assert!(!client.session.is_finished(), "{what}: cut within a day");
    match after {
        Then::Server(later) => {
            turn.notify_one();
            assert_eq!(client.read(later.len()).await, later, "{what}: a day later");
        }
        Then::Client(later) => client.send(later).await,
    }
    client.shut().await;
    client.read_to_end().await;
    if let Then::Client(later) = after {
        let seen = origin.seen.text();
        assert!(seen.ends_with(&*String::from_utf8_lossy(later)), "{what}: nothing passes later: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_answer_of_http_is_not_cut() {
    let path = PathTemplate::parse("/ok").ok();
    let section = L7Section::Http(vec![HttpMatch { path, ..HttpMatch::default() }]);
    let case =
        |what, talk: &[Turn], after| Case { what, section: section.clone(), talk: talk.to_vec(), after };
    let get: &[u8] = b"GET /ok HTTP/1.1\r\nhost: a\r\n\r\n";
    let post: &[u8] = b"POST /ok HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let open: [Turn; 2] = [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"),
        (b"\0\0\x0a\x01\x04\0\0\0\x01\x82\x86\x01\x01a\x04\x03/ok", b"\0\0\x01\x01\x04\0\0\0\x01\x88"),
    ];
    for case in [
        case("a long poll", &[(get, b"")], Then::Server(b"HTTP/1.1 204 N\r\n\r\n")),
        case("a long poll with a body", &[(post, b"")], Then::Server(b"HTTP/1.1 204 N\r\n\r\n")),
        case(
            "events that a server sends",
            &[(get, b"HTTP/1.1 200 O\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")],
            Then::Server(b"1\r\nx\r\n"),
        ),
        case("an open stream, for the server", &open, Then::Server(b"\0\0\x01\0\0\0\0\0\x01x")),
        case("an open stream, for the client", &open, Then::Client(b"\0\0\x01\0\x01\0\0\0\x01x")),
    ] {
        assert_lasts(case).await;
    }
}

#[tokio::test(start_paused = true)]
async fn quiet_sessions_of_databases_and_brokers_are_not_cut() {
    let commands = ["get", "blpop", "subscribe"].map(str::to_owned).to_vec();
    let redis = L7Section::Redis(vec![RedisMatch { commands, ..RedisMatch::default() }]);
    let statements = vec![PostgresStatement::Select, PostgresStatement::Session];
    let postgres = L7Section::Postgres(vec![PostgresMatch { statements, ..PostgresMatch::default() }]);
    let topics = vec![TopicMatch::Prefix("t".to_owned())];
    let kafka = L7Section::Kafka(vec![KafkaMatch { topics, ..KafkaMatch::default() }]);
    let case = |what, section: &L7Section, talk: &[Turn], after| Case {
        what,
        section: section.clone(),
        talk: talk.to_vec(),
        after,
    };
    let startup: Turn = (b"\0\0\0\x13\0\x03\0\0user\0apps\0\0", b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I");
    let done: &[u8] = b"C\0\0\0\x06a\0Z\0\0\0\x05I";
    let metadata: &[u8] = b"\0\0\0\x13\0\x03\0\x05\0\0\0\x07\0\x01c\0\0\0\x01\0\x01t\x01";
    for case in [
        case("Redis between commands", &redis, &[(b"GET a\r\n", b"$-1\r\n")], Then::Client(b"GET b\r\n")),
        case("BLPOP without a limit", &redis, &[(b"BLPOP a 0\r\n", b"")], Then::Server(b"*-1\r\n")),
        case(
            "a subscription",
            &redis,
            &[(b"SUBSCRIBE c\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")],
            Then::Server(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"),
        ),
        case("PostgreSQL between statements", &postgres, &[startup], Then::Client(b"Q\0\0\0\x0dselect 1\0")),
        case(
            "a statement that takes long",
            &postgres,
            &[startup, (b"Q\0\0\0\x0dselect 1\0", b"")],
            Then::Server(done),
        ),
        case(
            "LISTEN",
            &postgres,
            &[startup, (b"Q\0\0\0\x0dlisten a\0", done)],
            Then::Server(b"A\0\0\0\x0c\0\0\0\x01a\0x\0"),
        ),
        case("an answer of Kafka", &kafka, &[(metadata, b"")], Then::Server(b"\0\0\0\x04\0\0\0\x07")),
        case(
            "Kafka between requests",
            &kafka,
            &[(metadata, b"\0\0\0\x04\0\0\0\x07")],
            Then::Client(metadata),
        ),
    ] {
        assert_lasts(case).await;
    }
}

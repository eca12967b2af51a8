//! Messages that are judged in full and are larger than a buffer is at first: they pass, and what they took is given back.

use super::databases::gated;
use super::origin::raw;
use super::{PATIENCE, lines};
use bulkhead_facts::{Direction, PostgresStatement};
use bulkhead_policies::model::{KafkaMatch, L7Section, PostgresMatch, RedisMatch, TopicMatch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const MEBIBYTE: usize = 1024 * 1024;

/// Sends `first`, waits for `greeting`, sends `large` and expects that all of it arrives and is allowed.
async fn passes(section: L7Section, first: Vec<u8>, greeting: &'static [u8], large: Vec<u8>) {
    let total = first.len() + large.len();
    let origin = raw(move |mut stream, seen| async move {
        let (mut bytes, mut received) = (vec![0; 64 * 1024], 0);
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            if received == 0 {
                let _ = stream.write_all(greeting).await;
            }
            received += count;
            if received == total {
                seen.push(b"all");
                let _ = stream.write_all(b"!").await;
            }
        }
    })
    .await;
    let lab = gated(origin.address, Direction::Ingress, section);
    let mut client = lab.connect().await;
    client.send(&first).await;
    assert_eq!(client.read(greeting.len()).await, greeting);
    let sending = timeout(PATIENCE, client.stream.write_all(&large)).await.expect("it is read in time");
    sending.unwrap_or_else(|error| panic!("{error}: {:?}", lines(&lab.flows())));
    let seen = timeout(PATIENCE, origin.seen.has(b"all")).await;
    assert!(seen.is_ok(), "{:?}", lines(&lab.flows()));
    client.finish().await;
}

/// Psycopg 2 writes values into its statements: a picture in a column was refused.
#[tokio::test]
async fn a_statement_of_several_mebibytes_is_judged_and_passes() {
    let item = PostgresMatch { statements: vec![PostgresStatement::Insert], ..PostgresMatch::default() };
    let text = format!("insert into pictures values ('{}')", "x".repeat(5 * MEBIBYTE));
    let length = u32::try_from(text.len() + 5).expect("a length").to_be_bytes();
    let statement = [b"Q".as_slice(), &length, text.as_bytes(), &[0]].concat();
    let startup = b"\0\0\0\x13\0\x03\0\0user\0apps\0\0".to_vec();
    passes(L7Section::Postgres(vec![item]), startup, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", statement).await;
}

/// Clients of Kafka send what waits for many partitions as one request.
#[tokio::test]
async fn a_request_to_kafka_of_several_mebibytes_is_judged_and_passes() {
    let item = KafkaMatch { apis: vec![], topics: vec![TopicMatch::Exact("orders".into())] };
    let partition = |number: u8| {
        let size = u32::try_from(MEBIBYTE).expect("a size").to_be_bytes();
        [&[0, 0, 0, number], size.as_slice(), &vec![7; MEBIBYTE]].concat()
    };
    let partitions: Vec<u8> = (0..5).flat_map(partition).collect();
    let topic = [b"\0\x06orders\0\0\0\x05".as_slice(), &partitions].concat();
    let body = [b"\xff\xff\0\x01\0\0\0\x09\0\0\0\x01".as_slice(), &topic].concat();
    let header = [b"\0\0\0\x03\0\0\0\x07\xff\xff".as_slice(), &body].concat();
    let length = u32::try_from(header.len()).expect("a length").to_be_bytes();
    passes(L7Section::Kafka(vec![item]), Vec::new(), b"", [length.as_slice(), &header].concat()).await;
}

#[tokio::test]
async fn a_command_to_redis_with_keys_behind_several_mebibytes_is_judged_and_passes() {
    let item = RedisMatch { key_prefix: Some("app:".into()), ..RedisMatch::default() };
    let value = [format!("${}\r\n", 3 * MEBIBYTE).as_bytes(), &vec![b'v'; 3 * MEBIBYTE], b"\r\n"].concat();
    let pair = |key: &str| [format!("$5\r\n{key}\r\n").as_bytes(), &value].concat();
    let command = [b"*5\r\n$4\r\nMSET\r\n".as_slice(), &pair("app:a"), &pair("app:b")].concat();
    passes(L7Section::Redis(vec![item]), Vec::new(), b"", command).await;
}

/// Where a cluster has many brokers, or a topic many partitions, the answer to a client that may see some of what it asked for
/// was waited for in vain.
#[tokio::test]
async fn a_large_answer_of_kafka_is_changed_and_passes() {
    let origin = raw(|mut stream, _| async move {
        let mut request = [0; 512];
        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
            let broker = [b"\0\0\0\x01\0\x0a".as_slice(), b"kafka.test", b"\0\0\x23\x84\xff\xff"].concat();
            let brokers = [20_000u32.to_be_bytes().as_slice(), &broker.repeat(20_000)].concat();
            let body = [b"\0\0\0\x07".as_slice(), &brokers, &[0; 8]].concat();
            let length = u32::try_from(body.len()).expect("a length").to_be_bytes();
            let _ = stream.write_all(&[length.as_slice(), &body].concat()).await;
        }
    })
    .await;
    let item = KafkaMatch { apis: vec![], topics: vec![TopicMatch::Exact("orders".into())] };
    let lab = gated(origin.address, Direction::Ingress, L7Section::Kafka(vec![item]));
    let mut client = lab.connect().await;
    client.send(b"\0\0\0\x16\0\x03\0\x01\0\0\0\x07\xff\xff\0\0\0\x01\0\x06secret").await;
    let length = client.read(4).await;
    let length = u32::from_be_bytes(length.try_into().expect("an answer"));
    let answer = client.read(usize::try_from(length).expect("a length")).await;
    assert_eq!(answer.len(), usize::try_from(length).expect("a length"));
    assert!(answer.len() > 20_000 * 22 && answer.windows(6).any(|name| name == b"secret"));
    client.finish().await;
}

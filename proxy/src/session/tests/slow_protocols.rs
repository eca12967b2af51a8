//! Slow clients of every protocol but HTTP/1, in every state that a client can be slow in: each is dropped on time, in
//! virtual time.

use super::databases::gated;
use super::origin::raw;
use super::{Client, Lab};
use crate::session::limits::{HEAD_TIMEOUT, PACE_TIMEOUT};
use bulkhead_facts::{Direction, PathTemplate, PostgresStatement};
use bulkhead_policies::model::{
    HttpMatch, KafkaMatch, L7Section, PostgresMatch, RedisMatch, TlsMatch, TopicMatch,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0apps\0\0";
const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// A server that says this after the first bytes, and takes everything.
async fn lab(section: L7Section, greeting: &'static [u8]) -> Lab {
    let origin = raw(move |mut stream, _| async move {
        let (mut bytes, mut greeted) = ([0; 4096], false);
        while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {
            if !std::mem::replace(&mut greeted, true) {
                let _ = stream.write_all(greeting).await;
            }
        }
    })
    .await;
    gated(origin.address, Direction::Ingress, section)
}

/// Time until a session ends whose client says `first`, and then a byte of `trickle` after the other.
async fn lasts(lab: &Lab, first: &[u8], trickle: u8) -> Option<Duration> {
    let Client { mut stream, session } = lab.connect().await;
    stream.write_all(first).await.expect("room");
    let start = Instant::now();
    while start.elapsed() < PACE_TIMEOUT * 10 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let _ = stream.try_read(&mut [0; 4096]);
        if session.is_finished() {
            session.await.expect("no panic");
            return Some(start.elapsed());
        }
        let _ = stream.write_all(&[trickle]).await;
    }
    None
}

async fn assert_dropped(lab: &Lab, what: &str, first: &[u8], trickle: u8, limit: Duration) {
    let after = lasts(lab, first, trickle).await;
    assert!(after.is_some_and(|after| after < limit), "{what}: {after:?}");
}

#[tokio::test(start_paused = true)]
async fn slow_clients_of_http2_are_dropped_on_time() {
    let path = PathTemplate::parse("/ok").ok();
    let section = L7Section::Http(vec![HttpMatch { path, ..HttpMatch::default() }]);
    let lab = lab(section, SETTINGS).await;
    let begun = [PREFACE, SETTINGS].concat();
    let on = |more: &[u8]| [&begun, more].concat();
    let cases = [
        ("a greeting cut short", PREFACE[..10].to_vec()),
        ("settings cut short", [PREFACE, &SETTINGS[..5]].concat()),
        ("a frame's header", on(b"\0\0")),
        ("a block cut short", on(b"\0\x0f\xff\x01\x04\0\0\0\x01")),
        ("a block that goes on", on(b"\0\0\x01\x01\0\0\0\0\x01\x82\0\x0f\xff\x09\0\0\0\0\x01")),
        ("a ping cut short", on(b"\0\0\x08\x06\0\0\0\0\0")),
    ];
    for (what, first) in cases {
        assert_dropped(&lab, what, &first, 0, HEAD_TIMEOUT * 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn slow_clients_of_tls_redis_and_kafka_are_dropped_on_time() {
    let tls = lab(L7Section::Tls(TlsMatch { nameless: true, ..TlsMatch::default() }), b"").await;
    assert_dropped(
        &tls,
        "a hello cut short",
        b"\x16\x03\x01\x10\0\x01\0\x0f\xfc\x03\x03",
        0,
        HEAD_TIMEOUT * 3,
    )
    .await;
    assert_dropped(&tls, "records of nothing", b"\x16\x03\x01\0\x01\x01\x16", 0, HEAD_TIMEOUT * 3).await;

    let get = RedisMatch { commands: vec!["get".to_owned(), "set".to_owned()], ..RedisMatch::default() };
    let redis = lab(L7Section::Redis(vec![get]), b"").await;
    for (what, first, limit) in [
        ("a command cut short", &b"*2\r\n$3\r\nGET\r\n$9999\r\n"[..], HEAD_TIMEOUT * 3),
        ("a line cut short", b"GET ", HEAD_TIMEOUT * 3),
        ("a value", b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$99999\r\n", PACE_TIMEOUT * 3),
        ("a denied value", b"*3\r\n$6\r\nAPPEND\r\n$1\r\na\r\n$99999\r\n", PACE_TIMEOUT * 3),
    ] {
        assert_dropped(&redis, what, first, b'x', limit).await;
    }

    let topics = vec![TopicMatch::Prefix("t".to_owned())];
    let kafka = lab(L7Section::Kafka(vec![KafkaMatch { topics, apis: vec![3, 22] }]), b"").await;
    for (what, first, limit) in [
        ("a length cut short", &b"\0\0"[..], HEAD_TIMEOUT * 3),
        ("a request cut short", b"\0\0\x10\0\0\x03\0\x05\0\0\0\x07\0\x01c", HEAD_TIMEOUT * 3),
    ] {
        assert_dropped(&kafka, what, first, 0, limit).await;
    }
}

#[tokio::test(start_paused = true)]
async fn slow_clients_of_postgresql_are_dropped_on_time() {
    let statements = vec![PostgresStatement::Select, PostgresStatement::Copy];
    let section = L7Section::Postgres(vec![PostgresMatch { statements, ..PostgresMatch::default() }]);
    let waiting = lab(section.clone(), b"N").await;
    let encryption = b"\0\0\0\x08\x04\xd2\x16\x2f";
    assert_dropped(&waiting, "a session cut short", &STARTUP[..9], b'a', HEAD_TIMEOUT * 3).await;
    let cut_short = [&encryption[..], &[]].concat();
    assert_dropped(&waiting, "nothing behind a refused encryption", &cut_short, 0, HEAD_TIMEOUT * 4).await;
    let ready = lab(section, READY).await;
    let on = |more: &[u8]| [STARTUP, more].concat();
    for (what, first, limit) in [
        ("a statement cut short", on(b"Q\0\0\x10\0select"), HEAD_TIMEOUT * 3),
        ("data", on(b"d\0\x01\0\0abc"), PACE_TIMEOUT * 3),
        ("values", on(b"B\0\x01\0\0\0\0\0\0"), PACE_TIMEOUT * 3),
        ("a message behind a denied one", on(b"P\0\0\0\x0c\0drop\0\0\0B\0\x01\0\0\0"), PACE_TIMEOUT * 3),
    ] {
        assert_dropped(&ready, what, &first, b'a', limit).await;
    }
}

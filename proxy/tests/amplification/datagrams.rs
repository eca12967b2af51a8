//! What a question by UDP holds while nobody answers it. There is no connection: each question is a flow of its own, so its
//! price stands beside its bytes, and a question may cost no more than an ordinary one but for its bytes.

use super::counting::Count;
use super::sessions;
use bulkhead_facts::NamePattern;
use bulkhead_policies::model::{DnsMatch, L7Section};
use bulkhead_proxy::dns::limits::QUESTIONS_OPEN_MAX;
use bulkhead_proxy::dns::{Dns, answer_datagram};
use bulkhead_proxy::policy::Current;
use std::net::UdpSocket;
use std::sync::Arc;
use tokio::runtime::Builder;
use tokio::task::yield_now;

/// What an open question holds beside ten times its bytes, sockets of the runtime among them.
const QUESTION_COST_MAX: usize = 2 * 1024;
/// What all that may be open hold together.
const ALL_COST_MAX: usize = 2 * 1024 * 1024;
const QUESTIONS: usize = 128;

fn current() -> Arc<Current> {
    let names = vec![NamePattern::parse("**.test").expect("a pattern")];
    sessions::by_datagrams(L7Section::Dns(vec![DnsMatch { names, ..DnsMatch::default() }]))
}

/// A question with options of these lengths: what it takes at once, and what it brings.
fn question(name: &[u8], options: Option<(u16, usize)>) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(options.is_some())];
    message.extend(name);
    message.extend([0, 1, 0, 1]);
    if let Some((takes, brings)) = options {
        message.extend([0, 0, 41]);
        message.extend(takes.to_be_bytes());
        message.extend([0; 4]);
        message.extend(u16::try_from(brings).expect("short").to_be_bytes());
        message.extend(vec![0; brings]);
    }
    message
}

#[test]
fn a_question_by_udp_holds_little_until_it_is_answered() {
    let count: &'static Count = Box::leak(Box::new(Count::new()));
    count.count_this_thread();
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let dns = sessions::dns();
    let longest = [[&[63][..], &[b'a'; 63]].concat().repeat(3), vec![4], b"test".to_vec(), vec![0]].concat();
    let labels = [b"\x01a".repeat(120), b"\x04test\0".to_vec()].concat();
    let (one, ordinary) = (b"\x01a\x04test\0", b"\x03api\x07example\x04test\0");
    let kinds = [
        ("ordinary", question(ordinary, Some((1232, 0)))),
        ("without options", question(one, None)),
        ("that takes 64 KiB", question(one, Some((u16::MAX, 0)))),
        ("with many options", question(one, Some((1232, 500)))),
        ("for a long name", question(&longest, Some((u16::MAX, 0)))),
        ("for a name of many labels", question(&labels, Some((u16::MAX, 0)))),
        ("that no rule allows", question(b"\x06secret\x07example\0", Some((u16::MAX, 0)))),
        ("that cannot be read", question(b"\xc0\x0c", Some((u16::MAX, 0)))),
    ];
    for (what, bytes) in kinds {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let held = runtime.block_on(held(count, &dns, &server, &bytes));
        println!("a question {what}: {held} bytes held for {}", bytes.len());
        assert!(held <= QUESTION_COST_MAX + 10 * bytes.len(), "{what}: {held} bytes for {}", bytes.len());
        assert!(held * QUESTIONS_OPEN_MAX <= ALL_COST_MAX, "{what}: {held} bytes for each that may be open");
    }
}

/// Bytes that are held for each of many such questions.
async fn held(count: &'static Count, dns: &Dns, server: &UdpSocket, bytes: &[u8]) -> usize {
    let destination = server.local_addr().expect("an address");
    let way = sessions::way_to(destination);
    let current = current();
    let before = count.held();
    for _ in 0..QUESTIONS {
        let asked = dns.judge.ask(&current, way, bytes);
        let dns = dns.clone();
        tokio::spawn(async move {
            let asked = answer_datagram(&dns, way, asked, dns.sockets.ask_upstream(destination));
            asked.await.map_or(0, |told| told.len())
        });
        yield_now().await;
    }
    for _ in 0..8 {
        yield_now().await;
    }
    count.held().saturating_sub(before) / QUESTIONS
}

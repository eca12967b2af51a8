//! What a client can make the sidecar hold: at most ten times what it sent, beside the connection itself and its open streams.
//!
//! Sessions run on threads whose allocations are counted; clients and origins on others.

mod counting;
#[allow(dead_code, reason = "a benchmark asks for more")]
mod messages;
mod sessions;

use counting::{count_this_thread, held};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, sleep};
use std::time::Duration;

/// Bytes that each client sends.
const SENT: usize = 1024;
/// Bytes that it may cost.
const COST_MAX: usize = 10 * SENT;
const CLIENTS: usize = 32;
/// What an open stream of HTTP/2 may cost beside: a client may have a hundred.
const STREAM_BYTES: usize = 400;

// The only test of this file: the count is that of the whole process.
#[test]
fn a_kibibyte_from_a_client_costs_at_most_ten() {
    let mut too_much = Vec::new();
    for kind in messages::all() {
        let entrance = sessions::start(origin(kind.greeting), kind.section, count_this_thread);
        // Buffers in pools, tables of the report: once for all.
        for (_, bytes) in &kind.hostile {
            cost(entrance, bytes);
        }
        cost(entrance, &kind.ordinary);
        let connection = cost(entrance, b"");
        println!("{}: a connection: {connection} bytes", kind.protocol);
        assert!(connection > 0, "{}: a connection that costs nothing is not counted", kind.protocol);
        for (what, bytes) in kind.hostile.iter().chain([&("ordinary", kind.ordinary)]) {
            let (cost, streams) = (cost(entrance, bytes).saturating_sub(connection), streams(bytes));
            println!("{}: {what}: {cost} bytes, {streams} streams", kind.protocol);
            if cost > COST_MAX + streams * STREAM_BYTES {
                too_much.push(format!("{}: {what}: {cost} bytes held for {SENT}", kind.protocol));
            }
        }
    }
    assert!(too_much.is_empty(), "{too_much:#?}");
}

/// Streams of HTTP/2 that the first kibibyte opens.
fn streams(bytes: &[u8]) -> usize {
    let mut rest =
        bytes[..SENT.min(bytes.len())].strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or(b"");
    let mut count = 0;
    while let Some(&[a, b, c, kind, ..]) = rest.first_chunk::<9>() {
        let length = 9 + usize::from(a) * 65_536 + usize::from(b) * 256 + usize::from(c);
        let Some((_, behind)) = rest.split_at_checked(length) else { break };
        count += usize::from(kind == 1);
        rest = behind;
    }
    count
}

/// Bytes that are held for each of many clients that have sent the first kibibyte of this and stay.
fn cost(entrance: SocketAddr, bytes: &[u8]) -> usize {
    let before = settled();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = TcpStream::connect(entrance).expect("sessions");
        // A session may be over before all of it is sent.
        let _ = stream.write_all(&bytes[..SENT.min(bytes.len())]);
        clients.push(stream);
    }
    let held = settled().saturating_sub(before);
    drop(clients);
    held / CLIENTS
}

/// The count once it stays.
fn settled() -> usize {
    let (mut count, mut same) = (held(), 0);
    while same < 8 {
        sleep(Duration::from_millis(10));
        let now = held();
        same = if now == count { same + 1 } else { 0 };
        count = now;
    }
    count
}

/// It accepts, says its greeting, and takes nothing but the first bytes.
fn origin(greeting: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if !greeting.is_empty() && stream.read(&mut [0; 16]).is_ok_and(|count| count > 0) {
                let _ = stream.write_all(&greeting);
            }
            held.push(stream);
        }
    });
    address
}

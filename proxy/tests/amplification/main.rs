//! What a client can make the sidecar hold: at most ten times what it sent, beside the connection itself.
//!
//! Sessions run on threads whose allocations are counted; clients and origins on others.

mod counting;
mod datagrams;
#[allow(dead_code, reason = "a benchmark asks for more")]
mod messages;
mod sessions;

use counting::Count;
use messages::Kind;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

/// Bytes that each client sends.
const SENT: usize = 1024;
/// Bytes that it may cost.
const COST_MAX: usize = 10 * SENT;
const CLIENTS: usize = 32;

/// What origins hold open.
type Held = Arc<Mutex<Vec<TcpStream>>>;

#[test]
fn a_kibibyte_from_a_client_costs_at_most_ten() {
    // Most of the time goes by waiting until nothing moves.
    let kinds = messages::all().into_iter().map(|kind| thread::spawn(|| costs_too_much(kind)));
    let too_much: Vec<String> = kinds
        .collect::<Vec<_>>()
        .into_iter()
        .flat_map(|kind| kind.join().expect("a protocol that was measured"))
        .collect();
    assert!(too_much.is_empty(), "{too_much:#?}");
}

/// What costs too much of one protocol.
fn costs_too_much(Kind { protocol, section, greeting, ordinary, hostile, .. }: Kind) -> Vec<String> {
    let count: &'static Count = Box::leak(Box::new(Count::new()));
    let counted = move || {
        count.watch_this_thread();
        count.count_this_thread();
    };
    let held = Held::default();
    let start =
        |words: &[u8]| sessions::start(origin(words.to_vec(), count, held.clone()), section.clone(), counted);
    let usual = start(&greeting);
    let clients: Vec<_> = hostile
        .into_iter()
        .chain([ordinary])
        .map(|client| (if client.words.is_empty() { usual } else { start(&client.words) }, client))
        .collect();
    // Buffers in pools, tables of the report: once for all.
    for (entrance, client) in &clients {
        cost((count, &held), *entrance, &client.bytes, client.pause);
    }
    let connection = cost((count, &held), usual, b"", 0);
    println!("{protocol}: a connection: {connection} bytes");
    assert!(connection > 0, "{protocol}: a connection that costs nothing is not counted");
    let mut too_much = Vec::new();
    for (entrance, client) in &clients {
        let cost = cost((count, &held), *entrance, &client.bytes, client.pause).saturating_sub(connection);
        println!("{protocol}: {}: {cost} bytes", client.what);
        if cost > COST_MAX {
            too_much.push(format!("{protocol}: {}: {cost} bytes held for {SENT}", client.what));
        }
    }
    too_much
}

/// Bytes that are held for each of many clients that have sent the first kibibyte of this and stay.
fn cost((count, origins): (&Count, &Held), entrance: SocketAddr, bytes: &[u8], pause: usize) -> usize {
    let before = settled(count);
    let clients = connected(entrance, bytes, pause);
    let held = settled(count).saturating_sub(before);
    // Else their sessions would end by themselves, at some time during what is measured next.
    drop(clients);
    origins.lock().expect("no panic while held").clear();
    held / CLIENTS
}

/// Clients that have sent that.
fn connected(entrance: SocketAddr, bytes: &[u8], pause: usize) -> Vec<TcpStream> {
    let (first, rest) = bytes[..SENT.min(bytes.len())].split_at(pause.min(SENT));
    let connect = |_| {
        let mut stream = TcpStream::connect(entrance).expect("sessions");
        // A session may be over before all of it is sent.
        let _ = stream.write_all(first);
        if pause > 0 && !rest.is_empty() {
            let _ = stream.read(&mut [0; 4_096]);
        }
        let _ = stream.write_all(rest);
        stream
    };
    (0..CLIENTS).map(connect).collect()
}

/// The count once it stays.
fn settled(count: &Count) -> usize {
    let (mut last, mut same) = (count.held(), 0);
    while same < 4 {
        sleep(Duration::from_millis(10));
        let now = count.held();
        same = if now == last && count.is_at_rest() { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// It accepts, says its greeting, and takes nothing but the first bytes.
fn origin(greeting: Vec<u8>, count: &'static Count, held: Held) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        count.watch_this_thread();
        for mut stream in listener.incoming().flatten() {
            if !greeting.is_empty() && stream.read(&mut [0; 16]).is_ok_and(|count| count > 0) {
                let _ = stream.write_all(&greeting);
            }
            held.lock().expect("no panic while held").push(stream);
        }
    });
    address
}

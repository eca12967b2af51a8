//! What hostile bytes cost the sidecar beside ordinary ones: processor time of sessions, for as many bytes on as many
//! connections.
//!
//! An ordinary client of the same protocol is measured with connections of several lengths, which gives what a connection
//! and what a kibibyte of it costs; a hostile one is compared with an ordinary one that sends as many bytes before it ends.
//! `cargo bench -p bulkhead-benches --bench amplification`, or `make bench-amplification`.

#[path = "../proxy/tests/amplification/messages.rs"]
mod messages;
#[path = "../proxy/tests/amplification/sessions.rs"]
mod sessions;

use messages::{Answer, Kind};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Processor time of a hostile client beside that of an ordinary one, at most.
const TIMES_MAX: f64 = 10.0;
/// Connections of each length.
const CONNECTIONS: usize = 50;
/// Bytes of ordinary connections.
const LENGTHS: [usize; 2] = [1024, 16 * 1024];
/// Bytes of a hostile connection, at most.
const HOSTILE_BYTES: usize = 16 * 1024;

fn main() {
    println!("protocol     what                                        KiB   µs/KiB  times");
    let mut worst = 0.0f64;
    for kind in messages::all() {
        worst = worst.max(measure(kind));
    }
    println!("worst: {worst:.1} times an ordinary client, at most {TIMES_MAX}");
    if worst > TIMES_MAX {
        std::process::exit(1);
    }
}

/// One protocol; the worst of it.
fn measure(kind: Kind) -> f64 {
    THREAD.store(0, Ordering::SeqCst);
    let entrance = sessions::start(origin(kind.greeting, kind.answer), kind.section, note_thread);
    while THREAD.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let ordinary = |bytes: usize| costs(entrance, &kind.ordinary[..bytes.min(kind.ordinary.len())]);
    ordinary(LENGTHS[1]);
    let [(short, short_us), (long, long_us)] = LENGTHS.map(ordinary);
    // A hello is sent once: then a connection is all there is.
    let slope = if long > short { ((long_us - short_us) / (long - short)).max(0.0) } else { 0.0 };
    let connection = short_us - slope * short;
    row(kind.protocol, "a connection", 0.0, connection, None);
    row(kind.protocol, "ordinary", long, long_us / long.max(0.001), Some(1.0));
    let mut worst = 0.0f64;
    for (what, bytes) in &kind.hostile {
        let (kib, us) = costs(entrance, &bytes[..bytes.len().min(HOSTILE_BYTES)]);
        let times = us / (connection + slope * kib);
        row(kind.protocol, what, kib, us / kib.max(0.001), Some(times));
        worst = worst.max(times);
    }
    worst
}

fn row(protocol: &str, what: &str, kib: f64, us: f64, times: Option<f64>) {
    let times = times.map_or(String::new(), |times| format!("{times:6.1}"));
    println!("{protocol:<12} {what:<40} {kib:6.1} {us:8.1} {times}");
}

/// The thread of the sessions that are measured.
static THREAD: AtomicI32 = AtomicI32::new(0);

fn note_thread() {
    let own = std::fs::read_link("/proc/thread-self").expect("a thread");
    let number = own.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    THREAD.store(number.expect("its number"), Ordering::SeqCst);
}

/// Microseconds of processor time that it has used.
fn used_us() -> f64 {
    let file = format!("/proc/self/task/{}/schedstat", THREAD.load(Ordering::SeqCst));
    let text = std::fs::read_to_string(file).expect("statistics of the scheduler");
    let ns: f64 = text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds");
    ns / 1000.0
}

/// KiB and microseconds of a connection that sends this, or as much of it as is taken; the median of three rounds.
fn costs(entrance: SocketAddr, bytes: &[u8]) -> (f64, f64) {
    let mut rounds: Vec<(f64, f64)> = (0..3)
        .map(|_| {
            let before = used_us();
            let sent: usize = (0..CONNECTIONS).map(|_| talk(entrance, bytes)).sum();
            thread::sleep(Duration::from_millis(20));
            let each = CONNECTIONS as f64;
            (sent as f64 / 1024.0 / each, (used_us() - before) / each)
        })
        .collect();
    rounds.sort_by(|one, other| one.1.total_cmp(&other.1));
    rounds[1]
}

/// Sends a kibibyte after the other while somebody takes them, reads what comes, and ends; bytes that were sent.
fn talk(entrance: SocketAddr, bytes: &[u8]) -> usize {
    let mut stream = TcpStream::connect(entrance).expect("sessions");
    stream.set_nonblocking(true).expect("a socket");
    let (mut sent, mut heard) = (0, [0; 64 * 1024]);
    let mut quiet = Instant::now();
    let mut asked = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..bytes.len().min(sent + 1024)]) {
            Ok(count) => {
                sent += count;
                quiet = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        thread::yield_now();
        match stream.read(&mut heard) {
            Ok(0) => break,
            Ok(_) => quiet = Instant::now(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        asked += 1;
        // One that nobody reads on has said enough.
        if quiet.elapsed() > Duration::from_millis(20) || asked > 100_000 {
            break;
        }
    }
    // What is on its way is taken before the end.
    thread::sleep(Duration::from_micros(300));
    while let Ok(1..) = stream.read(&mut heard) {}
    sent
}

/// It takes everything, and answers as its protocol has it.
fn origin(greeting: Vec<u8>, answer: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let greeting = greeting.clone();
            thread::spawn(move || {
                let (mut bytes, mut pending, mut greeted) = (vec![0; 64 * 1024], Vec::new(), false);
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    let mut out = if greeted { Vec::new() } else { greeting.clone() };
                    greeted = true;
                    pending.extend_from_slice(&bytes[..count]);
                    answer(&mut pending, &mut out);
                    if !out.is_empty() && stream.write_all(&out).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

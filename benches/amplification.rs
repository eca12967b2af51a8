//! What hostile bytes cost the sidecar beside ordinary ones: processor time of sessions, for as many bytes on as many
//! connections.
//!
//! An ordinary client of the same protocol, which waits for what it is answered, is measured with connections of two
//! lengths: that gives what a connection costs, and a kibibyte of it. A hostile one is compared with an ordinary one that
//! sends as many bytes before it ends: all at once; by turns with those who answer; and in small pieces, which ordinary
//! clients then send too: whoever reads the same again with each piece is found by that.
//! Questions by UDP have no connection: each is compared with an ordinary one, whatever its length.
//! `cargo bench -p bulkhead-benches --bench amplification`, or `make bench-amplification`; `-- WORD` for protocols of that
//! name only.

#[path = "../proxy/tests/amplification/messages/mod.rs"]
mod messages;
#[path = "../proxy/tests/amplification/sessions.rs"]
mod sessions;

use bulkhead_proxy::dns::answer_datagram;
use bulkhead_proxy::dns::limits::QUESTION_BYTES_MAX;
use messages::{Answer, Client, Kind};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Processor time of a hostile client beside that of an ordinary one, at most.
const TIMES_MAX: f64 = 10.0;

/// How clients send.
#[derive(Clone, Copy)]
struct Manner {
    what: &'static str,
    /// Connections of each length.
    connections: usize,
    /// Bytes of ordinary connections; hostile ones send as many as the longer.
    lengths: [usize; 2],
    /// Bytes that are sent at a time.
    piece: usize,
    /// Hostile clients wait for answers too, so that nothing is refused because it is too much at a time.
    waits: bool,
}

const MANNERS: [Manner; 3] = [
    // The first length is about one request.
    Manner { what: "at once", connections: 10, lengths: [256, 16 * 1024], piece: 1024, waits: false },
    Manner { what: "by turns", connections: 5, lengths: [256, 16 * 1024], piece: 1024, waits: true },
    Manner { what: "in pieces", connections: 5, lengths: [256, 4 * 1024], piece: 32, waits: true },
];

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("{:<12} {:<56} {:>6} {:>8}  times", "protocol", "what", "KiB", "µs/KiB");
    let mut worst = (0.0f64, String::new());
    for kind in messages::all().into_iter().filter(|kind| kind.protocol.starts_with(&wanted)) {
        let (times, what) = measure(kind);
        if times > worst.0 {
            worst = (times, what);
        }
    }
    if let Some(kind) =
        messages::all().into_iter().find(|kind| kind.protocol == "DNS" && DATAGRAMS.starts_with(&wanted))
    {
        let (times, what) = measure_datagrams(&kind);
        if times > worst.0 {
            worst = (times, what);
        }
    }
    println!("worst: {:.1} times an ordinary client ({}), at most {TIMES_MAX}", worst.0, worst.1);
    if worst.0 > TIMES_MAX {
        std::process::exit(1);
    }
}

/// One protocol; the worst of it.
fn measure(kind: Kind) -> (f64, String) {
    THREAD.store(0, Ordering::SeqCst);
    let entrance = sessions::start(origin(kind.greeting, kind.answer), kind.section, note_thread);
    while THREAD.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let mut worst = (0.0, String::new());
    for manner in MANNERS {
        let ordinary =
            |bytes: usize| costs(entrance, &kind.ordinary, bytes, Manner { waits: true, ..manner });
        ordinary(manner.lengths[1]);
        let [(short, short_us), (long, long_us)] = manner.lengths.map(ordinary);
        let slope = ((long_us - short_us) / (long - short)).max(0.0);
        let connection = short_us - slope * short;
        println!("{:<12} {}", kind.protocol, manner.what);
        row(kind.protocol, "a connection", 0.0, connection, None);
        row(kind.protocol, "ordinary", long, slope, Some(1.0));
        for client in &kind.hostile {
            let (kib, us) = costs(entrance, client, manner.lengths[1], manner);
            let times = us / (connection + slope * kib);
            row(kind.protocol, client.what, kib, us / kib.max(0.001), Some(times));
            if times > worst.0 {
                worst = (times, format!("{}, {}, {}", kind.protocol, client.what, manner.what));
            }
        }
    }
    worst
}

/// What questions by UDP are called.
const DATAGRAMS: &str = "DNS by UDP";
/// Questions of each kind in a round.
const QUESTIONS: usize = 300;

/// Questions by UDP, one after the other, each to its answer; the worst of them. The look at the kernel's list of connections, which
/// costs each of them the same, is not among it.
fn measure_datagrams(kind: &Kind) -> (f64, String) {
    note_thread();
    let server = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    thread::spawn(move || {
        let mut bytes = [0; 64 * 1024];
        while let Ok((count, client)) = server.recv_from(&mut bytes) {
            bytes[2] |= 0x80;
            // Whoever asked may be gone.
            let _ = server.send_to(&bytes[..count], client);
        }
    });
    let (dns, current, way) =
        (sessions::dns(), sessions::by_datagrams(kind.section.clone()), sessions::way_to(address));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cost = |client: &Client| {
        let questions = datagrams(&client.bytes).take(QUESTIONS);
        let questions: Vec<&[u8]> =
            questions.map(|bytes| &bytes[..bytes.len().min(QUESTION_BYTES_MAX)]).collect();
        let mut rounds: Vec<f64> = (0..5)
            .map(|_| {
                let before = used_by_now_us();
                for question in questions.iter().cycle().take(QUESTIONS) {
                    let asked = dns.judge.ask(&current, way, question);
                    let reach = dns.sockets.ask_upstream(address);
                    runtime.block_on(answer_datagram(&dns, way, asked, reach));
                }
                (used_by_now_us() - before) / QUESTIONS as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        let bytes: usize = questions.iter().map(|question| question.len()).sum();
        (bytes as f64 / 1024.0 / questions.len() as f64, rounds[2])
    };
    cost(&kind.ordinary);
    let (kib, ordinary) = cost(&kind.ordinary);
    println!("{DATAGRAMS:<12} one after the other");
    row(DATAGRAMS, "ordinary", kib, ordinary / kib, Some(1.0));
    let mut worst = (0.0, String::new());
    for client in kind.hostile.iter().filter(|client| datagrams(&client.bytes).next().is_some()) {
        let (kib, us) = cost(client);
        let times = us / ordinary;
        row(DATAGRAMS, client.what, kib, us / kib, Some(times));
        if times > worst.0 {
            worst = (times, format!("{DATAGRAMS}, {}", client.what));
        }
    }
    worst
}

/// The same of this thread, up to now: the kernel counts when it stops.
fn used_by_now_us() -> f64 {
    thread::sleep(Duration::from_millis(1));
    used_us()
}

/// The messages of a stream of them, without the length in front of each.
fn datagrams(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (message, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        bytes = rest;
        Some(message)
    })
}

fn row(protocol: &str, what: &str, kib: f64, us: f64, times: Option<f64>) {
    let times = times.map_or(String::new(), |times| format!("{times:6.1}"));
    println!("{protocol:<12} {what:<56} {kib:6.1} {us:8.1} {times}");
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

/// The same once it has nothing more to do: what it was given before is its cost too.
fn used_at_rest_us() -> f64 {
    let mut used = used_us();
    loop {
        thread::sleep(Duration::from_millis(10));
        let now = used_us();
        if now - used < REST_US {
            return now;
        }
        used = now;
    }
}

/// Microseconds of processor time of somebody who has nothing to do, at most, from one look to the next.
const REST_US: f64 = 20.0;

/// KiB and microseconds of a connection that sends this, or as much of it as is taken; the median of three rounds.
fn costs(entrance: SocketAddr, client: &Client, bytes_max: usize, manner: Manner) -> (f64, f64) {
    let bytes = &client.bytes[..client.bytes.len().min(bytes_max)];
    let mut rounds: Vec<(f64, f64)> = (0..3)
        .map(|_| {
            let before = used_at_rest_us();
            let talk = |_| talk(entrance, bytes, client.pause, manner);
            let sent: usize = (0..manner.connections).map(talk).sum();
            let each = manner.connections as f64;
            (sent as f64 / 1024.0 / each, (used_at_rest_us() - before) / each)
        })
        .collect();
    rounds.sort_by(|one, other| one.1.total_cmp(&other.1));
    rounds[1]
}

/// Sends a piece after the other while somebody takes them, reads what comes, and ends; bytes that were sent.
fn talk(entrance: SocketAddr, bytes: &[u8], pause: usize, manner: Manner) -> usize {
    let mut stream = TcpStream::connect(entrance).expect("sessions");
    stream.set_nodelay(true).expect("a socket");
    let mut heard = [0; 64 * 1024];
    let mut sent = 0;
    if pause > 0 && pause < bytes.len() {
        stream.write_all(&bytes[..pause]).expect("sessions that listen");
        let _ = stream.read(&mut heard);
        sent = pause;
    }
    stream.set_nonblocking(true).expect("a socket");
    let mut quiet = Instant::now();
    while sent < bytes.len() {
        match stream.write(&bytes[sent..bytes.len().min(sent + manner.piece)]) {
            Ok(count) => {
                sent += count;
                quiet = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        thread::yield_now();
        let heard = match manner.waits {
            true => listen_to_the_end(&mut stream, &mut heard),
            false => listen(&mut stream, &mut heard, Duration::ZERO),
        };
        match heard {
            Some(true) => quiet = Instant::now(),
            Some(false) => {}
            None => break,
        }
        // One that nobody reads on has said enough.
        if quiet.elapsed() > Duration::from_millis(20) {
            break;
        }
    }
    // Whoever ends now has bytes dropped that were sent and cost nothing yet.
    listen_to_the_end(&mut stream, &mut heard);
    sent
}

/// Time in which somebody who says something more says it.
const ANSWER_TIME: Duration = Duration::from_micros(300);

/// Reads until nothing comes and sessions do nothing. True if something came, `None` at the end.
fn listen_to_the_end(stream: &mut TcpStream, heard: &mut [u8]) -> Option<bool> {
    let (mut any, mut used) = (false, used_us());
    loop {
        any |= listen(stream, heard, ANSWER_TIME)?;
        let now = used_us();
        if now - used < REST_US {
            return Some(any);
        }
        used = now;
    }
}

/// Reads until nothing comes for so long. True if something came, `None` at the end.
fn listen(stream: &mut TcpStream, heard: &mut [u8], patience: Duration) -> Option<bool> {
    let (mut any, mut until) = (false, Instant::now() + patience);
    loop {
        match stream.read(heard) {
            Ok(0) => return None,
            Ok(_) => {
                any = true;
                until = Instant::now() + patience;
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock => return None,
            Err(_) if Instant::now() >= until => return Some(any),
            Err(_) => thread::yield_now(),
        }
    }
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

//! Many slow clients at once: they cost what they may, and everybody else is served.
//!
//! Clients of our own in every run; with `BULKHEAD_LONG` also Debian's slowhttptest, where it is installed.

use super::{Hold, Lab, To, origin};
use crate::session::limits::HEAD_TIMEOUT;
use crate::session::{Ends, serve};
use bulkhead_facts::Direction;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// Slow clients of each kind.
const EACH: usize = 60;
/// An answer to somebody else may take so long while they are there.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a slow client says at first, and then again and again.
const KINDS: [(&str, &str); 4] = [
    ("", ""),
    ("GET /ok/1 HTTP/1.1\r\nhost: a\r\n", "x: y\r\n"),
    ("POST /ok/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n", "x"),
    ("GET /ok/big/20000000 HTTP/1.1\r\nhost: a\r\n\r\n", ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_of_every_kind_leave_the_origin_available() {
    let entrance = enter().await;
    let (started, mut slow) = (Instant::now(), Vec::new());
    for (first, next) in KINDS {
        for _ in 0..EACH {
            let mut stream = TcpStream::connect(entrance).await.expect("the session listens");
            stream.write_all(first.as_bytes()).await.expect("room");
            slow.push((stream, next));
        }
    }
    while started.elapsed() < HEAD_TIMEOUT + Duration::from_secs(2) {
        assert_served(entrance).await;
        for (stream, next) in &mut slow {
            let _ = stream.write_all(next.as_bytes()).await;
        }
        sleep(Duration::from_millis(300)).await;
    }
    let heads = &mut slow[EACH..2 * EACH];
    let mut ended = 0;
    for (stream, _) in heads {
        let read = timeout(PATIENCE, stream.read(&mut [0; 16])).await.expect("dropped on time");
        ended += usize::from(matches!(read, Ok(0) | Err(_)));
    }
    assert_eq!(ended, EACH, "slow heads that were dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slowhttptest_finds_the_origin_available() {
    if std::env::var_os("BULKHEAD_LONG").is_none() {
        return;
    }
    let entrance = enter().await;
    let modes: [&[&str]; 4] =
        [&["-H"], &["-B", "-s", "8192"], &["-X", "-w", "10", "-y", "20", "-z", "32", "-n", "5"], &["-R"]];
    for mode in modes {
        let url = format!("http://{entrance}/ok/big/100000");
        let mut command = Command::new("slowhttptest");
        command.args(mode).args(["-c", "300", "-r", "100", "-i", "5", "-l", "30", "-p", "3", "-u", &url]);
        let Ok(output) = command.output().await else {
            return eprintln!("skipped: `slowhttptest` is not installed");
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().rev().find(|line| line.contains("service available"));
        assert!(last.is_some_and(|line| line.contains("YES")), "{mode:?}: {text}");
        assert_served(entrance).await;
    }
}

/// Where connections come in: each is a session to an origin.
async fn enter() -> SocketAddr {
    let origin = origin::http().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let lab = Lab::inbound(Hold::Gate, origin.address);
        while let Ok((stream, client)) = listener.accept().await {
            let (shared, destination) = (lab.shared(), origin.address);
            let ends = Ends { client, destination };
            tokio::spawn(async move {
                serve(Direction::Ingress, stream, ends, shared, &To(destination)).await;
            });
        }
    });
    address
}

/// Somebody else asks and is answered soon.
async fn assert_served(entrance: SocketAddr) {
    let asked = async {
        let mut stream = TcpStream::connect(entrance).await.expect("the session listens");
        let request = b"GET /ok/else HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("room");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    let answer = timeout(PATIENCE, asked).await.expect("served in time");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

//! A store in the place of a database: answers `GET key` with `VALUE key`, a line over TCP, a datagram over UDP.
//!
//! It stands for every protocol that is not HTTP: the firewall sees bytes it cannot read.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::{plain, say};
use crate::limits;

/// What a datastore is told.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The name that its log lines carry
    #[arg(long, default_value = "datastore")]
    name: String,
    /// TCP ports to answer on, both families
    #[arg(long, value_delimiter = ',')]
    listen: Vec<u16>,
    /// UDP ports to answer on, both families
    #[arg(long, value_delimiter = ',')]
    listen_udp: Vec<u16>,
}

/// Serves until the process is told to end.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    listen(arguments).await?;
    super::service::until_told_to_end().await?;
    Ok(ExitCode::SUCCESS)
}

/// Opens every port, serves them from now on, and gives their numbers, TCP before UDP.
pub(super) async fn listen(arguments: Arguments) -> anyhow::Result<Vec<u16>> {
    let nothing = arguments.listen.is_empty() && arguments.listen_udp.is_empty();
    anyhow::ensure!(!nothing, "nothing to do: give --listen or --listen-udp");
    let name: Arc<str> = arguments.name.into();
    let mut ports = Vec::new();
    for port in arguments.listen {
        let listener = TcpListener::bind(("::", port)).await;
        let listener = listener.with_context(|| format!("cannot listen on TCP port {port}"))?;
        ports.push(listener.local_addr()?.port());
        tokio::spawn(accept(listener, name.clone()));
    }
    for port in arguments.listen_udp {
        let socket = UdpSocket::bind(("::", port)).await;
        let socket = socket.with_context(|| format!("cannot listen on UDP port {port}"))?;
        ports.push(socket.local_addr()?.port());
        tokio::spawn(answer_datagrams(socket, name.clone()));
    }
    say(&json!({"event": "listening", "role": &*name, "ports": ports}));
    Ok(ports)
}

async fn accept(listener: TcpListener, name: Arc<str>) {
    let slots = Arc::new(Semaphore::new(limits::DEMO_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let name = name.clone();
        tokio::spawn(async move {
            say(&json!({"event": "connection", "role": &*name, "peer": plain(peer).to_string()}));
            // A peer that breaks off is the peer's affair.
            let _ = answer_lines(stream).await;
            drop(slot);
        });
    }
}

async fn answer_lines(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(limits::DEMO_STREAM_BYTES)).split(b'\n');
    while let Some(line) = lines.next_segment().await? {
        write.write_all(&answer(&line)).await?;
    }
    Ok(())
}

async fn answer_datagrams(socket: UdpSocket, name: Arc<str>) {
    let mut buffer = vec![0; limits::DEMO_LINE_BYTES];
    loop {
        let Ok((bytes, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let line = buffer[..bytes].strip_suffix(b"\n").unwrap_or(&buffer[..bytes]);
        say(&json!({"event": "datagram", "role": &*name, "peer": plain(peer).to_string()}));
        let _ = socket.send_to(&answer(line), peer).await;
    }
}

fn answer(line: &[u8]) -> Vec<u8> {
    match line.strip_prefix(b"GET ") {
        Some(key) => [b"VALUE ", key, b"\n"].concat(),
        None => b"ERROR say GET key\n".to_vec(),
    }
}

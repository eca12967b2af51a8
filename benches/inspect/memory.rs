//! Resident memory of each contender: idle, with 1,000 connections under load, and for each connection that is idle.

use super::contenders::Contender;
use super::cost::memory_kib;
use super::ground::{Ground, Running, pod_address, within};
use super::load::wrk_with;
use super::program::{HTTP1_PORT, HTTP2_PORT};
use anyhow::{Context, Result, anyhow, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// Connections that are open before those that are counted, so that what the first one costs is not theirs.
const BEFORE: usize = 20;
/// Connections that are counted.
const COUNTED: usize = 1_000;
/// Threads that open connections.
const OPENERS: usize = 20;
const SETTLED: Duration = Duration::from_millis(800);

/// What a contender holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// After its start, in MiB.
    pub(crate) idle_mib: f64,
    /// For each idle connection that has had one HTTP/1.1 request, in KiB.
    pub(crate) per_http1_kib: f64,
    /// For each idle connection that has had one HTTP/2 request, in KiB.
    pub(crate) per_http2_kib: f64,
    /// The most while 1,000 HTTP/1.1 connections are under load, in MiB.
    pub(crate) loaded_mib: f64,
}

/// Measures one contender that was just started.
///
/// # Errors
/// If it does not serve.
pub(crate) fn measure(contender: &Contender, ground: &Ground) -> Result<Option<Memory>> {
    let Some(process) = contender.process() else { return Ok(None) };
    ground.spread_clients(contender.at)?;
    thread::sleep(SETTLED);
    let idle_mib = mib(memory_kib(process)?);
    let per_http1_kib = per_connection(contender, ground, process, HTTP1_PORT)?;
    let per_http2_kib = per_connection(contender, ground, process, HTTP2_PORT)?;
    let url = format!("http://{}:{HTTP1_PORT}/svc50/1k", pod_address(contender.at));
    let loaded = thread::scope(|scope| {
        let load = scope.spawn(|| wrk_with(ground, 0, Duration::from_secs(4), COUNTED, &[], &url));
        let mut most = 0;
        while !load.is_finished() {
            most = most.max(memory_kib(process).unwrap_or_default());
            thread::sleep(Duration::from_millis(50));
        }
        load.join().map(|outcome| outcome.map(|_| most))
    });
    let loaded = loaded.ok().context("the load's thread panicked")??;
    Ok(Some(Memory { idle_mib, per_http1_kib, per_http2_kib, loaded_mib: mib(loaded) }))
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn per_connection(contender: &Contender, ground: &Ground, process: u32, port: u16) -> Result<f64> {
    let address = SocketAddr::from((pod_address(contender.at), port));
    let first = Idle::open(ground, address, BEFORE)?;
    thread::sleep(SETTLED);
    let before = memory_kib(process)?;
    let counted = Idle::open(ground, address, COUNTED)?;
    thread::sleep(SETTLED);
    let after = memory_kib(process)?;
    drop((first, counted));
    thread::sleep(SETTLED);
    Ok(after.saturating_sub(before) as f64 / COUNTED as f64)
}

/// Connections that another process holds open.
struct Idle(#[expect(dead_code, reason = "held until dropped")] Running);

impl Idle {
    fn open(ground: &Ground, address: SocketAddr, count: usize) -> Result<Self> {
        let mut command = within(&ground.client(), Some(0), std::env::current_exe()?);
        command.args(["idle", &address.to_string(), &count.to_string()]).stdout(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        let mut line = String::new();
        BufReader::new(running.output()?).read_line(&mut line)?;
        if line.trim() != "open" {
            bail!("{count} connections to {address} could not be opened")
        }
        Ok(Self(running))
    }
}

/// `idle ADDRESS COUNT`: opens connections, asks once on each, says so, and keeps them until killed.
///
/// # Errors
/// If a request is not answered.
pub(crate) fn hold(arguments: &[String]) -> Result<()> {
    let [address, count] = arguments else { bail!("idle ADDRESS COUNT") };
    let (address, count): (SocketAddr, usize) = (address.parse()?, count.parse()?);
    let (request, farewell) = if address.port() == HTTP1_PORT {
        (b"GET /svc50/1k HTTP/1.1\r\nhost: server\r\n\r\n".to_vec(), &[][..])
    } else {
        (http2_request(), SETTINGS_SEEN)
    };
    // Some proxies let a first answer wait, so several ask at a time.
    let opened: Result<Vec<Vec<TcpStream>>> = thread::scope(|scope| {
        let open = |count: usize| (0..count).map(|_| ask(address, &request, farewell)).collect();
        let parts: Vec<_> =
            (0..OPENERS).map(|part| scope.spawn(move || open((count + part) / OPENERS))).collect();
        parts.into_iter().map(|part| part.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    });
    let _connections = opened?;
    println!("open");
    loop {
        thread::park();
    }
}

/// A connection on which one request was answered.
fn ask(address: SocketAddr, request: &[u8], farewell: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request)?;
    read_body(&mut stream)?;
    stream.write_all(farewell)?;
    Ok(stream)
}

/// Reads until 1 KiB of the body has come.
fn read_body(stream: &mut TcpStream) -> Result<()> {
    let (mut body, mut bytes) = (0, [0; 4096]);
    while body < 1024 {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            bail!("closed before the answer");
        }
        body += bytes.iter().take(count).filter(|byte| **byte == b'x').count();
    }
    Ok(())
}

/// Acknowledges the server's settings.
const SETTINGS_SEEN: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];

/// Preface, settings, and one request without any indexing.
fn http2_request() -> Vec<u8> {
    let path = b"/svc50/1k";
    let mut block = vec![0x82, 0x86, 0x04, 9];
    block.extend_from_slice(path);
    block.extend_from_slice(b"\x01\x06server");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap_or_default(), 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    bytes
}

//! What is measured: a stream, requests with answers, and new connections, each between the peer and the pod.
//!
//! Client and servers stay on one CPU, so that no wake-up of an idle CPU is measured and nothing is done elsewhere. CPU time is
//! that of their threads: this kernel accounts to them what it does for their packets. Other programs on the machine
//! do not count. Connections are opened a second time, on all CPUs, by several clients to a server that starts a thread for each,
//! to see how many there are in a second of the
//! processors' time, which is a second where nothing else runs.

use crate::network::{Link, POD};
use crate::{kernel_threads, system};
use anyhow::{Context, Result};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The first of the ports on which the pod serves.
pub(crate) const PORTS: u16 = 7000;
/// The last of them.
pub(crate) const PORTS_END: u16 = PORTS + 3;
/// Clients that open connections at a time.
const CLIENTS: u32 = 4;
const MESSAGE_BYTES: usize = 64;
const CHUNK_BYTES: usize = 64 * 1024;

/// Where connections of each kind go.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    first: u16,
}

impl Ports {
    pub(crate) fn from(first: u16) -> Self {
        Self { first }
    }

    fn at(self, kind: u16) -> SocketAddr {
        (POD, self.first + kind).into()
    }
}

const ECHO: u16 = 0;
const SINK: u16 = 1;
const ONCE: u16 = 2;
const CROWD: u16 = 3;

/// Servers in the pod and the client's lasting connections to them.
pub(crate) struct Traffic {
    threads: Vec<i32>,
    ports: Ports,
    echo: TcpStream,
    sink: TcpStream,
}

impl Traffic {
    /// Starts the pod's servers; returns their threads.
    pub(crate) fn serve(link: &Link) -> Result<Vec<i32>> {
        let servers: [fn(&TcpListener) -> io::Result<()>; 3] = [serve_echo, serve_sink, serve_once];
        let mut threads = Vec::new();
        for (kind, serve) in (0..).zip(servers) {
            let listener = link.pod.run(|| TcpListener::bind(Ports::from(PORTS).at(kind)))??;
            threads.push(helper(move || {
                let _ = serve(&listener);
            })?);
        }
        let listener = link.pod.run(|| TcpListener::bind(Ports::from(PORTS).at(CROWD)))??;
        helper(move || {
            let _ = system::stay_anywhere().and_then(|()| serve_crowd(&listener));
        })?;
        Ok(threads)
    }

    /// Connects the client. `threads` are all that carry its traffic beside the calling one.
    pub(crate) fn connect(link: &Link, ports: Ports, mut threads: Vec<i32>) -> Result<Self> {
        threads.push(system::thread_id());
        let dial = |kind| -> Result<TcpStream> {
            let stream =
                link.peer.run(|| TcpStream::connect_timeout(&ports.at(kind), Duration::from_secs(3)))?;
            let stream = stream.context("no connection to the pod")?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        Ok(Self { threads, ports, echo: dial(ECHO)?, sink: dial(SINK)? })
    }

    /// Sends so many bytes; CPU seconds per GB.
    pub(crate) fn stream(&mut self, bytes: u64) -> Result<f64> {
        let before = self.cpu_time()?;
        self.sink.write_all(&bytes.to_be_bytes())?;
        let chunk = vec![7u8; CHUNK_BYTES];
        let mut left = bytes;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            self.sink.write_all(&chunk[..length])?;
            left -= length as u64;
        }
        self.sink.read_exact(&mut [0])?;
        Ok((self.cpu_time()? - before).as_secs_f64() / (bytes as f64 / 1e9))
    }

    /// Asks so often; the median time to an answer in microseconds.
    pub(crate) fn request(&mut self, count: usize) -> Result<f64> {
        let mut times = Vec::with_capacity(count);
        let mut buffer = [0; MESSAGE_BYTES];
        for _ in 0..count {
            let started = Instant::now();
            self.echo.write_all(&buffer)?;
            self.echo.read_exact(&mut buffer)?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        Ok(times[count / 2].as_secs_f64() * 1e6)
    }

    /// Opens so many connections, each with one request, one answer and an end; microseconds of CPU per connection.
    pub(crate) fn open(&mut self, link: &Link, count: u32) -> Result<f64> {
        let before = self.cpu_time()?;
        let to = self.ports.at(ONCE);
        link.peer.run(|| (0..count).try_for_each(|_| converse_once(to)))?.context("a connection failed")?;
        Ok((self.cpu_time()? - before).as_secs_f64() * 1e6 / f64::from(count))
    }

    /// Opens so many connections from several clients; connections per second of all CPUs, as far as they worked for them.
    pub(crate) fn open_many(&mut self, link: &Link, count: u32) -> Result<f64> {
        let to = self.ports.at(CROWD);
        let cpu_time =
            || -> Result<Duration> { Ok(kernel_threads::deferred_anywhere()? + system::cpu_time_of_all()?) };
        let before = cpu_time()?;
        let results: Vec<Result<io::Result<()>>> = thread::scope(|scope| {
            let client = || {
                system::stay_anywhere()?;
                link.peer.run(|| (0..count / CLIENTS).try_for_each(|_| converse_once(to)))
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            // One that panicked opened fewer connections than are counted below.
            let panicked = |_| Err(anyhow::anyhow!("a client panicked"));
            let ended = |client: thread::ScopedJoinHandle<'_, _>| client.join().unwrap_or_else(panicked);
            clients.into_iter().map(ended).collect()
        });
        results.into_iter().try_for_each(|result| result.and_then(|result| Ok(result?)))?;
        let cpus = (system::last_cpu() + 1) as f64;
        Ok(f64::from(count) * cpus / (cpu_time()? - before).as_secs_f64())
    }

    fn cpu_time(&self) -> Result<Duration> {
        let mut sum = kernel_threads::deferred()?;
        for thread in &self.threads {
            sum += system::cpu_time_of(*thread)?;
        }
        Ok(sum)
    }
}

fn converse_once(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    let mut buffer = [0; MESSAGE_BYTES];
    stream.write_all(&buffer)?;
    stream.read_exact(&mut buffer)
}

fn serve_echo(listener: &TcpListener) -> io::Result<()> {
    let mut buffer = [0; MESSAGE_BYTES];
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer)?;
        }
    }
    Ok(())
}

fn serve_sink(listener: &TcpListener) -> io::Result<()> {
    let mut buffer = vec![0; 4 * CHUNK_BYTES];
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut announced = [0; 8];
        while stream.read_exact(&mut announced).is_ok() {
            let mut left = u64::from_be_bytes(announced);
            while left > 0 {
                match stream.read(&mut buffer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    length => left = left.saturating_sub(length as u64),
                }
            }
            stream.write_all(&[0])?;
        }
    }
    Ok(())
}

fn serve_once(listener: &TcpListener) -> io::Result<()> {
    let mut buffer = [0; MESSAGE_BYTES];
    for stream in listener.incoming() {
        let mut stream = stream?;
        if stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer)?;
        }
    }
    Ok(())
}

/// A thread per connection, as simple servers do.
fn serve_crowd(listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            let mut buffer = [0; MESSAGE_BYTES];
            stream.read_exact(&mut buffer).and_then(|()| stream.write_all(&buffer))
        })?;
    }
    Ok(())
}

/// Runs something in a thread of its own, on the calling thread's CPU; its id.
pub(crate) fn helper(job: impl FnOnce() + Send + 'static) -> Result<i32> {
    let (tell, told): (Sender<i32>, _) = channel();
    thread::Builder::new().spawn(move || {
        let _ = tell.send(system::thread_id());
        job();
    })?;
    Ok(told.recv()?)
}

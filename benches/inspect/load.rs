//! What is asked: one workload, sent by wrk or h2load, and what they say of it.

use super::ground::{Ground, pod_address, within};
use super::program::{GRPC_PORT, HTTP1_PORT, HTTP2_PORT};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// HTTP/1.1, 1 KiB, 32 connections that stay.
    Http1,
    /// HTTP/2, 1 KiB, 8 connections with 32 streams each.
    Http2,
    /// gRPC, 64 bytes each way, 8 connections with 32 streams each.
    Grpc,
    /// HTTP/1.1, 100 KiB, 32 connections that stay.
    Body100k,
    /// HTTP/1.1, 1 MiB, 32 connections that stay.
    Body1m,
    /// HTTP/1.1, a connection for each request of 1 KiB, 32 at a time.
    Connections,
}

/// What a run of a workload gave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Requests that were answered with 200.
    pub(crate) requests: u64,
    /// Half of them were answered within so many microseconds.
    pub(crate) p50_us: f64,
    /// 99 of 100 were.
    pub(crate) p99_us: f64,
}

impl Workload {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Http1, Self::Http2, Self::Grpc, Self::Body100k, Self::Body1m, Self::Connections];

    /// Its name on the command line and in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Body100k => "body-100k",
            Self::Body1m => "body-1m",
            Self::Connections => "connections",
        }
    }

    /// Its name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1, 1 KiB, keep-alive",
            Self::Http2 => "HTTP/2, 1 KiB, 8 x 32 streams",
            Self::Grpc => "gRPC, 64 B, 8 x 32 streams",
            Self::Body100k => "HTTP/1.1, 100 KiB",
            Self::Body1m => "HTTP/1.1, 1 MiB",
            Self::Connections => "new connections, 1 KiB",
        }
    }

    /// Sends it to a pod for a while, from one core.
    ///
    /// # Errors
    /// If the load generator fails, or a request did.
    pub(crate) fn run(
        self,
        ground: &Ground,
        at: usize,
        core: usize,
        time: Duration,
        folder: &Path,
    ) -> Result<Outcome> {
        match self {
            Self::Http1 => wrk(ground, at, core, time, "1k", &[]),
            Self::Body100k => wrk(ground, at, core, time, "100k", &[]),
            Self::Body1m => wrk(ground, at, core, time, "1m", &[]),
            Self::Connections => wrk(ground, at, core, time, "1k", &["-H", "Connection: close"]),
            Self::Http2 => h2load(ground, at, core, time, folder, &format!("{HTTP2_PORT}/svc50/1k"), &[]),
            Self::Grpc => {
                let message = folder.join("message");
                let body = message.to_string_lossy();
                let call = ["-d", &body, "-H", "content-type: application/grpc", "-H", "te: trailers"];
                let target = format!("{GRPC_PORT}/bench.v1.Service50/Echo");
                h2load(ground, at, core, time, folder, &target, &call)
            }
        }
    }
}

/// Files that are asked for and sent.
///
/// # Errors
/// If they cannot be written.
pub(crate) fn write_files(folder: &Path) -> Result<()> {
    let files = folder.join("files/svc50");
    fs::create_dir_all(&files)?;
    for (name, bytes) in [("1k", 1 << 10), ("100k", 100 << 10), ("1m", 1 << 20)] {
        fs::write(files.join(name), vec![b'x'; bytes])?;
    }
    // One gRPC message: no compression, 59 bytes.
    let message: Vec<u8> = [0, 0, 0, 0, 59].into_iter().chain([b'x'; 59]).collect();
    fs::write(folder.join("message"), message)?;
    Ok(())
}

fn wrk(
    ground: &Ground,
    at: usize,
    core: usize,
    time: Duration,
    file: &str,
    more: &[&str],
) -> Result<Outcome> {
    let url = format!("http://{}:{HTTP1_PORT}/svc50/{file}", pod_address(at));
    wrk_with(ground, core, time, 32, more, &url)
}

/// wrk with so many connections.
///
/// # Errors
/// If a request fails.
pub(crate) fn wrk_with(
    ground: &Ground,
    core: usize,
    time: Duration,
    connections: usize,
    more: &[&str],
    url: &str,
) -> Result<Outcome> {
    let seconds = format!("{}s", time.as_secs().max(1));
    let output = within(&ground.client(), Some(core), "wrk")
        .args(["-t1", &format!("-c{connections}"), "-d", &seconds, "--latency"])
        .args(more)
        .arg(url)
        .output()
        .context("wrk")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some(wrong) = text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors"))
    {
        bail!("wrk {url}: {}", wrong.trim());
    }
    read_wrk(&text).with_context(|| format!("wrk {url}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn read_wrk(text: &str) -> Option<Outcome> {
    let after = |label: &str| text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let requests = text.lines().find(|line| line.contains(" requests in "))?;
    Some(Outcome {
        requests: requests.split_whitespace().next()?.parse().ok()?,
        p50_us: microseconds(after("50%")?)?,
        p99_us: microseconds(after("99%")?)?,
    })
}

/// A time as wrk writes it: `512.00us`, `1.23ms`, `1.05s`.
fn microseconds(text: &str) -> Option<f64> {
    let (number, factor) = match text {
        text if text.ends_with("us") => (text.strip_suffix("us")?, 1.0),
        text if text.ends_with("ms") => (text.strip_suffix("ms")?, 1e3),
        text => (text.strip_suffix('s')?, 1e6),
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn h2load(
    ground: &Ground,
    at: usize,
    core: usize,
    time: Duration,
    folder: &Path,
    target: &str,
    more: &[&str],
) -> Result<Outcome> {
    let (url, log) = (format!("http://{}:{target}", pod_address(at)), folder.join("h2load.log"));
    let _ = fs::remove_file(&log);
    let output = within(&ground.client(), Some(core), "h2load")
        .args(["-t1", "-c8", "-m32", "-D", &time.as_secs().max(1).to_string(), "--log-file"])
        .arg(&log)
        .args(more)
        .arg(&url)
        .output()
        .context("h2load")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers = fs::read_to_string(&log).with_context(|| format!("h2load {url}: {text}"))?;
    // Start, status, time in microseconds.
    let mut times = Vec::new();
    for line in answers.lines() {
        let mut columns = line.split('\t').skip(1);
        match columns.next() {
            Some("200") => times.extend(columns.next().and_then(|time| time.parse::<u64>().ok())),
            status => bail!("h2load {url}: status {}", status.unwrap_or("none")),
        }
    }
    if times.len() < 100 {
        bail!("h2load {url}: {} answers: {text}", times.len());
    }
    times.sort_unstable();
    let part = |percent: usize| times.get(times.len() * percent / 100).map_or(f64::NAN, |time| *time as f64);
    Ok(Outcome { requests: u64::try_from(times.len())?, p50_us: part(50), p99_us: part(99) })
}

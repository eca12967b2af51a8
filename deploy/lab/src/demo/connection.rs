//! Makes one call and says whether it succeeded.
//!
//! A call succeeds only with the expected answer: a 2xx for HTTP, the line or datagram for its key otherwise. HTTP
//! connections are kept and used again unless the caller asks for a fresh one. As ordinary HTTP clients do, a call
//! that finds its kept connection dead is made again on a fresh one; how often that was needed is counted beside.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::call::{Call, Protocol};
use super::names::Names;
use crate::limits;

type Sender = SendRequest<Full<Bytes>>;

/// Makes calls; shared by all tasks of a process.
pub(super) struct Caller {
    names: Names,
    timeout: Duration,
    kept: Mutex<BTreeMap<SocketAddr, Vec<Sender>>>,
    retried: AtomicU64,
}

/// Why a call did not succeed, with what was tried.
#[derive(Debug)]
pub(super) struct Failure {
    /// Where the call went, if its name had an address.
    pub(super) address: Option<SocketAddr>,
    /// What happened.
    pub(super) detail: String,
}

impl Caller {
    /// A caller that gives up a call after `timeout`.
    pub(super) fn new(names: Names, timeout: Duration) -> Self {
        Self { names, timeout, kept: Mutex::default(), retried: AtomicU64::new(0) }
    }

    /// How often a kept connection was found dead and the call made again on a fresh one.
    pub(super) fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// Makes the `number`th request of a call, on a connection of its own if `fresh`.
    pub(super) async fn make(&self, call: &Call, number: u64, fresh: bool) -> Result<(), Failure> {
        let address = match self.names.address(&call.host, call.port, number).await {
            Ok(address) => address,
            Err(error) => return Err(Failure { address: None, detail: error.to_string() }),
        };
        let made = tokio::time::timeout(self.timeout, self.make_to(address, call, number, fresh)).await;
        let detail = match made {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", self.timeout.as_millis()),
        };
        Err(Failure { address: Some(address), detail })
    }

    async fn make_to(&self, address: SocketAddr, call: &Call, number: u64, fresh: bool) -> io::Result<()> {
        let path = call.path_of(number);
        match &call.protocol {
            Protocol::Http(method) if fresh => {
                let mut sender = connect(address).await?;
                request(&mut sender, method, call, &path).await
            }
            Protocol::Http(method) => self.on_kept(address, method, call, &path).await,
            // A key, not a path: a line that begins like a request would be taken for HTTP.
            Protocol::Tcp => line(address, path.trim_start_matches('/')).await,
            Protocol::Udp => datagram(address, path.trim_start_matches('/')).await,
        }
    }

    async fn on_kept(&self, address: SocketAddr, method: &str, call: &Call, path: &str) -> io::Result<()> {
        let (mut sender, reused) = match self.take(address) {
            Some(sender) => (sender, true),
            None => (connect(address).await?, false),
        };
        if let Err(error) = request(&mut sender, method, call, path).await {
            // An answer that was not the expected one is an answer all the same.
            if !reused || error.kind() == io::ErrorKind::InvalidData {
                return Err(error);
            }
            self.retried.fetch_add(1, Ordering::Relaxed);
            sender = connect(address).await?;
            request(&mut sender, method, call, path).await?;
        }
        self.keep(address, sender);
        Ok(())
    }

    fn take(&self, address: SocketAddr) -> Option<Sender> {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let list = kept.get_mut(&address)?;
        std::iter::from_fn(|| list.pop()).find(|sender| !sender.is_closed())
    }

    fn keep(&self, address: SocketAddr, sender: Sender) {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let list = kept.entry(address).or_default();
        if list.len() < limits::DEMO_KEPT_CONNECTIONS_PER_PEER {
            list.push(sender);
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<Sender> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends when the sender is dropped or the peer closes.
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends a request and reads its answer; an answer other than 2xx is an error of the kind `InvalidData`.
async fn request(sender: &mut Sender, method: &str, call: &Call, path: &str) -> io::Result<()> {
    let body = if matches!(method, "POST" | "PUT" | "PATCH") { r#"{"quantity":1}"# } else { "" };
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", format!("{}:{}", call.host, call.port))
        .header("user-agent", "shop/1")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .map_err(io::Error::other)?;
    sender.ready().await.map_err(describe)?;
    let response = sender.send_request(request).await.map_err(describe)?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(describe)?.to_bytes();
    if status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&body);
    let head: String = text.chars().take(limits::DEMO_DETAIL_CHARACTERS).collect();
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("answered {status}: {head}")))
}

/// hyper's error with its cause, which its own text leaves out.
fn describe(error: hyper::Error) -> io::Error {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    io::Error::other(format!("{error}{cause}"))
}

async fn line(address: SocketAddr, key: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("GET {key}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n") && answer.len() < limits::DEMO_LINE_BYTES {
        if stream.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    expect(&answer, &format!("VALUE {key}\n"))
}

async fn datagram(address: SocketAddr, key: &str) -> io::Result<()> {
    let local: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(address).await?;
    let mut answer = vec![0; limits::DEMO_LINE_BYTES];
    for _ in 0..limits::DEMO_DATAGRAM_TRIES {
        socket.send(format!("GET {key}\n").as_bytes()).await?;
        let received = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut answer)).await;
        if let Ok(bytes) = received {
            return expect(&answer[..bytes?], &format!("VALUE {key}\n"));
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no datagram came back"))
}

fn expect(answer: &[u8], expected: &str) -> io::Result<()> {
    if answer == expected.as_bytes() {
        return Ok(());
    }
    let got =
        String::from_utf8_lossy(&answer[..answer.len().min(limits::DEMO_DETAIL_CHARACTERS)]).into_owned();
    Err(io::Error::other(format!(
        "answered `{}` where `{}` was expected",
        got.trim_end(),
        expected.trim_end()
    )))
}

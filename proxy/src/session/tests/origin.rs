//! Origins: one that speaks HTTP by hyper, and one that does what a test says. Both keep what they received.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};

/// A server on loopback.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    /// Request lines, or raw bytes, in order of arrival; and connections.
    pub(super) seen: Seen,
}

/// What an origin received.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<(Vec<u8>, usize)>>);

impl Seen {
    pub(super) fn push(&self, bytes: &[u8]) {
        self.0.lock().expect("no panic").0.extend_from_slice(bytes);
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic").0).into_owned()
    }

    /// What arrived from this byte on.
    pub(super) fn bytes_from(&self, from: usize) -> Vec<u8> {
        self.0.lock().expect("no panic").0.get(from..).unwrap_or_default().to_vec()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("no panic").0.clone()
    }

    /// Waits until what arrived ends so.
    pub(super) async fn has(&self, end: &[u8]) {
        for _ in 0..1_000 {
            if self.bytes().ends_with(end) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("did not arrive: {end:?} at the end of {:?}", self.bytes());
    }

    pub(super) fn connections(&self) -> usize {
        self.0.lock().expect("no panic").1
    }

    fn connected(&self) {
        self.0.lock().expect("no panic").1 += 1;
    }
}

/// An origin that does `what` with each connection.
pub(super) async fn raw<F, W>(what: W) -> Origin
where
    F: Future<Output = ()> + Send + 'static,
    W: Fn(TcpStream, Seen) -> F + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let seen = Seen::default();
    let theirs = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            theirs.connected();
            tokio::spawn(what(stream, theirs.clone()));
        }
    });
    Origin { address, seen }
}

/// An HTTP/1.1 origin. It answers with the method, the path and the length of the body; below `/ok/big/N` with
/// `N` bytes, below `/ok/chunked` in chunks.
pub(super) async fn http() -> Origin {
    raw(|stream, seen| async move {
        let service = service_fn(move |request| answer(request, seen.clone()));
        let _ = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, seen: Seen) -> Result<Response<Body>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().to_string());
    seen.push(format!("{method} {path}\n").as_bytes());
    let Ok(body) = request.into_body().collect().await.map(http_body_util::Collected::to_bytes) else {
        return Ok(Response::builder()
            .status(StatusCode::BAD_REQUEST)
            .body(full(Vec::new()))
            .expect("a response"));
    };
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    let content = match path.strip_prefix("/ok/big/").and_then(|count| count.parse::<usize>().ok()) {
        Some(count) => pattern(count),
        None => format!("{method} {path} {} {sum}\n", body.len()).into_bytes(),
    };
    let body = if path.starts_with("/ok/chunked") { in_chunks(content) } else { full(content) };
    Ok(Response::new(body))
}

fn full(content: Vec<u8>) -> Body {
    Full::new(Bytes::from(content)).boxed()
}

/// Of unknown length, so that it is sent in chunks.
fn in_chunks(content: Vec<u8>) -> Body {
    full(content).map_frame(|frame| frame).boxed_unsized()
}

trait Unsized {
    fn boxed_unsized(self) -> Body;
}

/// Hides the size hint.
struct NoHint<B>(B);

impl<B> hyper::body::Body for NoHint<B>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(context)
    }
}

impl<B> Unsized for B
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Unpin + Send + Sync + 'static,
{
    fn boxed_unsized(self) -> Body {
        NoHint(self).boxed()
    }
}

/// Bytes that show a piece that is lost, doubled or moved.
pub(super) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at * 31 + at / 251) % 251).unwrap_or_default()).collect()
}

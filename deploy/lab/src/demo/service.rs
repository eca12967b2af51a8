//! An HTTP/1.1 JSON service of the demo shop.
//!
//! `/api/**` makes the service's own calls first and answers 200, or 502 when one of them failed. `/admin/**` exists
//! and answers: what an attacker is after. `/healthz` and `/metrics` are what a platform asks for. Each request is
//! written to standard output with its `x-lab-token`: the service itself bears witness of what reached it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::call::Call;
use super::connection::Caller;
use super::names::{Family, Names};
use super::{plain, say};
use crate::limits;

/// What a service is told.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The name of the service: it appears in its answers and log lines
    #[arg(long)]
    name: String,
    /// TCP ports to serve on, both families
    #[arg(long, value_delimiter = ',', required = true)]
    listen: Vec<u16>,
    /// A call made for each request under /api, for example `GET http://users.shop:8080/api/users/{id}`; repeatable
    #[arg(long = "call")]
    calls: Vec<Call>,
    /// Which address of an upstream with two is used
    #[arg(long, value_enum, default_value = "both")]
    family: Family,
    /// A hosts file to resolve names with, instead of the system's
    #[arg(long)]
    hosts: Option<PathBuf>,
    /// How long an upstream may take, in milliseconds
    #[arg(long, default_value_t = 10_000)]
    timeout_ms: u64,
    /// Log only requests that carry a token or go to /admin
    #[arg(long)]
    quiet: bool,
}

struct Service {
    name: String,
    calls: Vec<Call>,
    caller: Caller,
    quiet: bool,
    requests: AtomicU64,
    failures: AtomicU64,
}

/// Serves until the process is told to end.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    listen(arguments).await?;
    until_told_to_end().await?;
    Ok(ExitCode::SUCCESS)
}

/// Opens every port, serves them from now on, and gives their numbers (a port 0 was the kernel's choice).
pub(super) async fn listen(arguments: Arguments) -> anyhow::Result<Vec<u16>> {
    let names = Names { hosts: arguments.hosts, family: arguments.family };
    let service = Arc::new(Service {
        name: arguments.name,
        calls: arguments.calls,
        caller: Caller::new(names, Duration::from_millis(arguments.timeout_ms)),
        quiet: arguments.quiet,
        requests: AtomicU64::new(0),
        failures: AtomicU64::new(0),
    });
    let mut ports = Vec::new();
    for port in arguments.listen {
        let listener = TcpListener::bind(("::", port)).await;
        let listener = listener.with_context(|| format!("cannot listen on TCP port {port}"))?;
        ports.push(listener.local_addr()?.port());
        tokio::spawn(accept(listener, service.clone()));
    }
    say(&json!({"event": "listening", "role": service.name, "ports": ports}));
    Ok(ports)
}

/// Returns at SIGTERM or SIGINT.
pub(super) async fn until_told_to_end() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn accept(listener: TcpListener, service: Arc<Service>) {
    let slots = Arc::new(Semaphore::new(limits::DEMO_CONNECTIONS));
    loop {
        // At the limit nothing is accepted until a connection ends; the kernel's backlog holds the rest.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            serve(stream, plain(peer), service).await;
            drop(slot);
        });
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, service: Arc<Service>) {
    let _ = stream.set_nodelay(true);
    let handler = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request, peer).await) }
    });
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), handler).await;
    if let Err(error) = served {
        say(&json!({"event": "broken", "peer": peer.to_string(), "detail": error.to_string()}));
    }
}

impl Service {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        self.witness(&request, peer);
        let path = request.uri().path().to_owned();
        if Limited::new(request.into_body(), limits::DEMO_BODY_BYTES).collect().await.is_err() {
            return reply(StatusCode::BAD_REQUEST, &json!({"error": "the body could not be read"}));
        }
        match path.as_str() {
            "/healthz" => reply(StatusCode::OK, &json!({"status": "ok"})),
            "/metrics" => self.metrics(),
            "/" => reply(StatusCode::OK, &json!({"service": self.name})),
            path if path.starts_with("/api/") => self.api(path, number).await,
            path if path.starts_with("/admin/") || path == "/admin" => {
                reply(StatusCode::OK, &json!({"service": self.name, "keys": ["signing", "storage"]}))
            }
            _ => reply(StatusCode::NOT_FOUND, &json!({"error": "no such path"})),
        }
    }

    fn witness(&self, request: &Request<Incoming>, peer: SocketAddr) {
        let token = request.headers().get("x-lab-token").and_then(|value| value.to_str().ok());
        let path = request.uri().path();
        if self.quiet && token.is_none() && !path.starts_with("/admin") {
            return;
        }
        say(&json!({
            "event": "request",
            "role": self.name,
            "method": request.method().as_str(),
            "path": path,
            "token": token,
            "peer": peer.to_string(),
        }));
    }

    async fn api(&self, path: &str, number: u64) -> Response<Full<Bytes>> {
        let mut answered = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            let fresh = number % 4 == 3;
            if let Err(failure) = self.caller.make(call, number, fresh).await {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let text = call.to_string();
                let to = failure.address.map(|address| address.to_string());
                say(
                    &json!({"event": "failure", "role": self.name, "call": text, "address": to, "detail": failure.detail}),
                );
                let error = format!("{text}: {}", failure.detail);
                return reply(StatusCode::BAD_GATEWAY, &json!({"service": self.name, "error": error}));
            }
            answered.push(call.host.clone());
        }
        reply(StatusCode::OK, &json!({"service": self.name, "path": path, "asked": answered}))
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let text = format!(
            "# TYPE shop_requests_total counter\nshop_requests_total {}\n# TYPE shop_upstream_failures_total counter\nshop_upstream_failures_total {}\n",
            self.requests.load(Ordering::Relaxed),
            self.failures.load(Ordering::Relaxed)
        );
        let mut response = Response::new(Full::new(Bytes::from(text)));
        response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("text/plain"));
        response
    }
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

//! Health, readiness and metrics on a port of their own.
//!
//! `GET /healthz`, `/readyz`, `/metrics`; nothing else, nothing secret, nothing that changes anything. Lives on the
//! control thread, so that a slow scraper never costs traffic anything; connections are few and short-lived.

use crate::drain::{Stage, StageReceiver};
use crate::enforcement::Enforcement;
use crate::intercept::Sockets;
use crate::limits::{ADMIN_CONNECTION_LIFE_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_BYTES_MAX};
use crate::metrics::Metrics;
use crate::posture::Posture;
use bulkhead_api::Capability;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// What the administrative port answers from.
pub struct Admin {
    /// What was measured.
    pub metrics: Arc<Metrics>,
    /// What can be promised.
    pub posture: Posture,
    /// Whether there is a program.
    pub enforcement: Enforcement,
    /// Whether the listeners accept.
    pub accepting: Arc<AtomicBool>,
    /// Life of the process.
    pub stage: StageReceiver,
}

/// Between tries to open a port that somebody else holds.
const PORT_RETRY: Duration = Duration::from_secs(5);

impl Admin {
    /// Opens the port and answers until the process ends. A port that an app holds is tried again: what is enforced does
    /// not wait for it, and the app receives nothing there ([`Sockets::listen_admin`] has a mark that the table asks for).
    pub async fn run(self, sockets: Sockets, port: u16) {
        let listener = loop {
            match sockets.listen_admin(port) {
                Ok(listener) => break listener,
                Err(error) => tracing::error!(
                    %error,
                    "cannot listen on the administrative port {port}, trying again: no health, readiness or metrics until \
                     whoever holds it lets go"
                ),
            }
            sleep(PORT_RETRY).await;
        };
        self.serve(listener).await;
    }

    async fn serve(self, listener: TcpListener) {
        let admin = Arc::new(self);
        let room = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
        let mut stage = admin.stage.clone();
        let ending = async move {
            let _ = stage.wait_for(|stage| *stage == Stage::Ending).await;
        };
        tokio::pin!(ending);
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut ending => return,
            };
            let Ok((stream, _)) = accepted else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let admin = admin.clone();
            tokio::spawn(async move {
                let _ = timeout(ADMIN_CONNECTION_LIFE_MAX, admin.converse(stream)).await;
                drop(place);
            });
        }
    }

    async fn converse(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| {
            let response = self.respond(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let result = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(5))
            .max_buf_size(ADMIN_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = result {
            tracing::debug!(%error, "administrative connection");
        }
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.missing() {
                None => text(StatusCode::OK, "ready\n"),
                Some(missing) => text(StatusCode::SERVICE_UNAVAILABLE, missing),
            },
            "/metrics" => match self.metrics.text() {
                Ok(metrics) => text(StatusCode::OK, metrics),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, "not here: /healthz, /readyz, /metrics\n"),
        }
    }

    /// What keeps the sidecar from being ready.
    fn missing(&self) -> Option<&'static str> {
        if *self.stage.borrow() != Stage::Serving {
            return Some("draining\n");
        }
        if self.posture.capability() == Capability::Advisory {
            // Somebody chose that the app runs all the same.
            let not_held = "advisory: nothing can be enforced here\n";
            return (!self.posture.fails_open()).then_some(not_held);
        }
        if self.enforcement.current().is_none() {
            return Some("no program yet: everything is denied\n");
        }
        (!self.accepting.load(Ordering::Acquire)).then_some("listeners do not accept yet\n")
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforcement::{self, Pulse, Table};
    use crate::test_program;
    use bulkhead_policies::decide::Judge;
    use std::io;
    use std::net::{Ipv4Addr, SocketAddr};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::watch;

    struct NoKernel;

    impl Table for NoKernel {
        type Error = io::Error;

        fn apply(&mut self, _: &Arc<Judge>) -> io::Result<u16> {
            Ok(1)
        }

        fn heartbeat(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn restore_if_changed(&mut self) -> io::Result<Option<String>> {
            Ok(None)
        }

        fn collect(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Port {
        address: SocketAddr,
        enforcement: Enforcement,
        accepting: Arc<AtomicBool>,
        stage: watch::Sender<Stage>,
    }

    async fn port() -> Port {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (enforcement, _) =
            enforcement::start(NoKernel, Pulse::default(), metrics.clone()).expect("thread");
        let (stage, stages) = watch::channel(Stage::Serving);
        let accepting = Arc::new(AtomicBool::new(false));
        let posture = Posture::new(Capability::Enforced, metrics.clone());
        let admin = Admin {
            metrics,
            posture,
            enforcement: enforcement.clone(),
            accepting: accepting.clone(),
            stage: stages,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("address");
        tokio::spawn(admin.serve(listener));
        Port { address, enforcement, accepting, stage }
    }

    async fn ask(port: &Port, request: &str) -> String {
        let mut stream = TcpStream::connect(port.address).await.expect("connect");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        answer
    }

    async fn get(port: &Port, path: &str) -> String {
        ask(port, &format!("GET {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n")).await
    }

    #[tokio::test]
    async fn readiness_needs_a_program_and_listeners_and_ends_with_the_drain() {
        let port = port().await;
        assert!(get(&port, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(&port, "/readyz").await.contains("no program yet"));
        let judge = Judge::new(test_program::allowing_nothing(3)).expect("valid");
        port.enforcement.apply(Arc::new(judge)).await.expect("applied");
        assert!(get(&port, "/readyz").await.contains("listeners do not accept yet"));
        port.accepting.store(true, Ordering::Release);
        assert!(get(&port, "/readyz").await.starts_with("HTTP/1.1 200"));
        port.stage.send_replace(Stage::Draining);
        assert!(get(&port, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(get(&port, "/healthz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn metrics_have_every_series_from_the_start() {
        let text = get(&port().await, "/metrics").await;
        for line in [
            r#"bulkhead_denials_total{direction="egress",reason="no_rule"} 0"#,
            r#"bulkhead_verdicts_total{direction="ingress",enforced="allow",layer="l7",shadow="deny"} 0"#,
            "bulkhead_program_revision 0",
            "bulkhead_table_tampering_total 0",
        ] {
            assert!(text.contains(line), "`{line}` is not in: {text}");
        }
    }

    #[tokio::test]
    async fn nothing_but_get_and_three_paths_is_answered() {
        let port = port().await;
        assert!(get(&port, "/").await.starts_with("HTTP/1.1 404"));
        let post = ask(&port, "POST /readyz HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n").await;
        assert!(post.starts_with("HTTP/1.1 405"));
        let endless = format!("GET /healthz HTTP/1.1\r\nhost: pod\r\nx: {}\r\n\r\n", "y".repeat(20_000));
        assert!(!ask(&port, &endless).await.contains("200 OK"));
    }
}

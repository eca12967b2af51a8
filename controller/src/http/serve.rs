//! Serving HTTP/1.1 on connections that were accepted, and the metrics port, until drain.

use crate::drain::Drain;
use crate::limits::{DRAIN_TIMEOUT, HTTP_HEAD_TIMEOUT, METRICS_CONNECTIONS_MAX};
use crate::listen::Connection;
use crate::metrics::Metrics;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Serves the API on TLS connections until drain.
pub(crate) async fn serve_connections(
    router: Router,
    mut connections: mpsc::Receiver<Connection>,
    mut drain: Drain,
) {
    let mut open = JoinSet::new();
    loop {
        let connection = tokio::select! {
            connection = connections.recv() => connection,
            () = drain.begun() => None,
        };
        let Some(connection) = connection else { break };
        while open.try_join_next().is_some() {}
        open.spawn(serve_one(router.clone(), connection, drain.clone()));
    }
    end(open).await;
}

/// Serves the counters, without TLS and without secrets, until drain.
pub async fn serve_metrics(metrics: Arc<Metrics>, listener: TcpListener, mut drain: Drain) {
    let text = async move || metrics_text(&metrics);
    let router = Router::new().route("/metrics", get(text)).route("/healthz", get(async || "ok\n"));
    let places = Arc::new(Semaphore::new(METRICS_CONNECTIONS_MAX));
    let mut open = JoinSet::new();
    loop {
        // INVARIANT: the semaphore is never closed.
        let place = places.clone().acquire_owned().await.expect("never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.begun() => break,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let served = serve_one(router.clone(), stream, drain.clone());
                open.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the metrics port");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
    end(open).await;
}

fn metrics_text(metrics: &Metrics) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn serve_one(
    router: Router,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut drain: Drain,
) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = drain.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// Waits for open requests, but not for ever.
async fn end(mut open: JoinSet<()>) {
    let all = async { while open.join_next().await.is_some() {} };
    if timeout(DRAIN_TIMEOUT, all).await.is_err() {
        tracing::warn!("HTTP connections were cut off: they did not end in {DRAIN_TIMEOUT:?}");
    }
}

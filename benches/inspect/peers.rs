//! Two contenders of our own: a reverse proxy made of hyper on both sides, and a bare copy of bytes.
//!
//! Both run as `peer KIND FROM=ADDRESS:PORT...`: for each pair they listen on port `FROM` and pass on to the address.
//! Each has one thread, and one connection to the origin for each from a client, as the sidecar has.

use super::program::{GRPC_PORT, HTTP1_PORT, RULES};
use super::settings::captured;
use anyhow::{Context, Result, bail};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Mutex;
use tokio::task::LocalSet;

/// Serves until killed.
///
/// # Errors
/// If the arguments are wrong or a port is taken.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (kind, pairs) = arguments.split_first().context("peer KIND FROM=ADDRESS:PORT...")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut accepting = Vec::new();
        for pair in pairs {
            let (from, to) = pair.split_once('=').context("FROM=ADDRESS:PORT")?;
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, from.parse()?)).await?;
            let (to, rules) = (to.parse()?, Arc::new(Rules::of(from.parse()?)));
            accepting.push(match kind.as_str() {
                "copy" => tokio::task::spawn_local(accept(listener, move |stream| copy(stream, to))),
                "hyper" => {
                    tokio::task::spawn_local(accept(listener, move |stream| proxy(stream, to, rules.clone())))
                }
                _ => bail!("unknown peer `{kind}`"),
            });
        }
        for task in accepting {
            task.await?;
        }
        Ok(())
    })
}

async fn accept<F: Future<Output = Result<()>> + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            // A connection that fails concerns nobody else.
            tokio::task::spawn_local(serve(stream));
        }
    }
}

async fn dial(to: SocketAddr) -> Result<TcpStream> {
    let server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

async fn copy(mut client: TcpStream, to: SocketAddr) -> Result<()> {
    client.set_nodelay(true)?;
    let mut server = dial(to).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 64 << 10, 64 << 10).await?;
    Ok(())
}

/// Fifty questions, asked in turn.
struct Rules(Vec<(&'static str, String)>);

impl Rules {
    fn of(from: u16) -> Self {
        let calls = from == captured(GRPC_PORT);
        Self(
            (1..=RULES)
                .map(|rule| match calls {
                    true => ("POST", format!("/bench.v1.Service{rule}/")),
                    false => ("GET", format!("/svc{rule}/")),
                })
                .collect(),
        )
    }

    fn allow(&self, request: &Request<Incoming>) -> bool {
        let (method, path) = (request.method().as_str(), request.uri().path());
        self.0.iter().any(|(allowed, prefix)| *allowed == method && path.starts_with(prefix))
    }
}

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

async fn proxy(client: TcpStream, to: SocketAddr, rules: Arc<Rules>) -> Result<()> {
    client.set_nodelay(true)?;
    let (client, server) = (TokioIo::new(client), TokioIo::new(dial(to).await?));
    if to.port() == HTTP1_PORT {
        let (sender, connection) = hyper::client::conn::http1::handshake(server).await?;
        tokio::task::spawn_local(connection);
        let sender = Rc::new(Mutex::new(sender));
        let service = service_fn(move |request| {
            let (sender, allowed) = (sender.clone(), rules.allow(&request));
            async move {
                if !allowed {
                    return refuse();
                }
                let mut sender = sender.lock().await;
                sender.ready().await?;
                Ok(sender.send_request(request).await?.map(BodyExt::boxed_unsync))
            }
        });
        hyper::server::conn::http1::Builder::new().serve_connection(client, service).await?;
    } else {
        let (sender, connection) = hyper::client::conn::http2::handshake(Local, server).await?;
        tokio::task::spawn_local(connection);
        let service = service_fn(move |request| {
            let (mut sender, allowed) = (sender.clone(), rules.allow(&request));
            async move {
                if !allowed {
                    return refuse();
                }
                Ok(sender.send_request(request).await?.map(BodyExt::boxed_unsync))
            }
        });
        hyper::server::conn::http2::Builder::new(Local).serve_connection(client, service).await?;
    }
    Ok(())
}

fn refuse() -> Result<Response<Body>> {
    let mut refusal = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *refusal.status_mut() = StatusCode::FORBIDDEN;
    Ok(refusal)
}

/// Runs what a connection needs on this thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

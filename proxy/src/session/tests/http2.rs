//! HTTP/2 through the gate, between a client and a server that are nobody's but the protocol's.

use super::*;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason as Code, SendStream, server};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use std::sync::Mutex;

/// An origin that speaks HTTP/2, and what it was asked.
pub(super) struct Http2Origin {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Http2Origin {
    /// Answers each request with its own body, `x-method`, and a trailer.
    pub(super) async fn echo() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_echo(stream, Arc::clone(&record)));
            }
        });
        Self { address, asked }
    }

    /// Answers each request with a short text at once, and says how many streams it takes.
    pub(super) async fn plain() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_plain(stream));
            }
        });
        Self { address, asked: Arc::default() }
    }

    /// Never answers.
    pub(super) async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut builder = server::Builder::new();
            builder.enable_connect_protocol();
            let mut connection = builder.handshake::<_, Bytes>(stream).await.expect("a connection");
            let mut kept = Vec::new();
            while let Some(Ok((request, respond))) = connection.accept().await {
                record.lock().expect("no panic").push(request.uri().path().to_owned());
                kept.push((request, respond));
            }
        });
        Self { address, asked }
    }

    /// Waits until so many requests are here.
    pub(super) async fn has(&self, count: usize) {
        let here = async {
            while self.asked().len() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, here).await.expect("requests in time");
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn serve_echo(stream: TcpStream, record: Arc<Mutex<Vec<String>>>) {
    let mut builder = server::Builder::new();
    builder.enable_connect_protocol();
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        record.lock().expect("no panic").push(format!("{} {}", request.method(), request.uri().path()));
        tokio::spawn(async move {
            let response =
                Response::builder().header("x-method", request.method().as_str()).body(()).expect("sound");
            let Ok(mut out) = respond.send_response(response, false) else { return };
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                if send(&mut out, data).await.is_err() {
                    return;
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("sound"));
            let _ = out.send_trailers(trailers);
        });
    }
}

async fn serve_plain(stream: TcpStream) {
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(100);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            let Ok(mut out) = respond.send_response(Response::new(()), false) else { return };
            if send(&mut out, Bytes::from_static(b"short text")).await.is_ok() {
                let _ = out.send_data(Bytes::new(), true);
            }
        });
    }
}

/// Sends as the window allows.
pub(super) async fn send(out: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        out.reserve_capacity(data.len());
        let room = std::future::poll_fn(|context| out.poll_capacity(context)).await;
        let room = room.ok_or(Code::CANCEL)??;
        out.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}

/// A client of HTTP/2 on a session.
pub(super) struct Http2Client {
    pub(super) send: SendRequest<Bytes>,
    pub(super) session: JoinHandle<()>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Http2Client {
    pub(super) async fn connect(lab: &Lab) -> Self {
        let Client { stream, session } = lab.connect().await;
        let (send, connection) = h2::client::handshake(stream).await.expect("a connection");
        Self { send, session, driver: tokio::spawn(connection) }
    }

    pub(super) async fn start(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut ready = self.send.clone().ready().await.expect("room for a stream");
        ready.send_request(request, end).expect("a sound request")
    }

    pub(super) async fn get(&mut self, path: &str) -> (StatusCode, String) {
        let (response, _) = self.start(request("GET", path), true).await;
        whole(response).await.expect("a response")
    }

    pub(super) async fn post(&mut self, path: &str, body: Bytes) -> Result<(StatusCode, String), h2::Error> {
        let (response, mut out) = self.start(request("POST", path), false).await;
        let sending = async {
            if send(&mut out, body).await.is_ok() {
                let _ = out.send_data(Bytes::new(), true);
            }
        };
        tokio::join!(whole(response), sending).0
    }

    pub(super) async fn finish(self) {
        drop(self.send);
        let _ = timeout(PATIENCE, self.driver).await.expect("the connection ends");
        timeout(PATIENCE, self.session).await.expect("the session ends").expect("no panic");
    }
}

pub(super) fn request(method: &str, path: &str) -> Request<()> {
    let method: Method = method.parse().expect("a method");
    Request::builder().method(method).uri(format!("http://shop.test{path}")).body(()).expect("sound")
}

/// Status and body.
pub(super) async fn whole(response: ResponseFuture) -> Result<(StatusCode, String), h2::Error> {
    let response = timeout(PATIENCE, response).await.expect("a response in time")?;
    let status = response.status();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("a body in time") {
        let data = data?;
        text.extend_from_slice(&data);
        let _ = body.flow_control().release_capacity(data.len());
    }
    Ok((status, String::from_utf8(text).expect("text")))
}

#[tokio::test]
async fn each_stream_has_its_own_verdict_and_the_connection_goes_on() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    assert_eq!(client.get("/ok/a").await, (StatusCode::OK, String::new()));
    let (status, body) = client.get("/no").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("\"denied by bulkhead\"") && body.contains("\"report\""), "{body}");
    assert_eq!(client.get("/ok/b").await, (StatusCode::OK, String::new()));
    let text = client.post("/ok/c", Bytes::from_static(b"text")).await.expect("a response");
    assert_eq!(text, (StatusCode::OK, "text".to_owned()));
    client.finish().await;
    assert_eq!(origin.asked(), ["GET /ok/a", "GET /ok/b", "POST /ok/c"]);
    assert_eq!(
        lines(&lab.flows()),
        [
            "GET /no 4 deny/deny l7_mismatch x1",
            "GET /ok/a 2 allow/allow allowed_by_rule x1",
            "GET /ok/b 2 allow/allow allowed_by_rule x1",
            "POST /ok/c 2 allow/allow allowed_by_rule x1",
        ]
    );
}

#[tokio::test]
async fn a_denied_upload_costs_the_connection_no_window() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    let upload = Bytes::from(vec![b'x'; 1024 * 1024]);
    for _ in 0..5 {
        let (status, _) = client.post("/no", upload.clone()).await.expect("a response");
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    let (status, body) = client.post("/ok/up", upload.clone()).await.expect("a response");
    assert_eq!((status, body.len()), (StatusCode::OK, upload.len()));
    client.finish().await;
    assert_eq!(origin.asked(), ["POST /ok/up"]);
}

#[tokio::test]
async fn many_streams_at_once_are_told_apart() {
    let origin = Http2Origin::echo().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = Http2Client::connect(&lab).await;
    // With its answer the settings are known, and with them how many streams may be open at once.
    assert_eq!(client.get("/ok/first").await.0, StatusCode::OK);
    let mut waiting = Vec::new();
    for number in 0..300 {
        let path = if number % 3 == 0 { format!("/no/{number}") } else { format!("/ok/{number}") };
        let (response, mut out) = client.start(request("POST", &path), false).await;
        let _ = out.send_data(Bytes::from(format!("{number} ").repeat(400)), true);
        waiting.push(tokio::spawn(async move { (number, whole(response).await.expect("a response")) }));
    }
    for one in waiting {
        let (number, (status, body)) = one.await.expect("no panic");
        match number % 3 {
            0 => assert_eq!(status, StatusCode::FORBIDDEN, "{number}"),
            _ => assert_eq!((status, body), (StatusCode::OK, format!("{number} ").repeat(400)), "{number}"),
        }
    }
    client.finish().await;
    assert_eq!(origin.asked().len(), 201);
}

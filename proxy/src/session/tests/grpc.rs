//! gRPC through the gate: calls of every kind between a client and a server of tonic.

use super::h2spec::front;
use super::*;
use http::uri::PathAndQuery;
use std::convert::Infallible;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

type Codec = ProstCodec<String, String>;

/// `Unary`, `Collect`, `Repeat` and `Chat` of any service whose name begins with `ok`.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "ok";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "Unary" => grpc.unary(service_fn(unary), request).await,
                "Collect" => grpc.client_streaming(service_fn(collect), request).await,
                "Repeat" => grpc.server_streaming(service_fn(repeat), request).await,
                _ => grpc.streaming(service_fn(chat), request).await,
            })
        })
    }
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

async fn unary(request: Request<String>) -> Result<Response<String>, Status> {
    match request.into_inner() {
        text if text == "fail" => Err(Status::not_found("no such thing")),
        text => Ok(Response::new(text)),
    }
}

async fn collect(request: Request<tonic::Streaming<String>>) -> Result<Response<String>, Status> {
    let mut all = String::new();
    let mut messages = request.into_inner();
    while let Some(message) = messages.message().await? {
        all.push_str(&message);
    }
    Ok(Response::new(all))
}

async fn repeat(request: Request<String>) -> Result<Response<Answers>, Status> {
    let text = request.into_inner();
    Ok(Response::new(Box::pin(tokio_stream::iter((0..50).map(move |number| Ok(format!("{text}{number}")))))))
}

async fn chat(request: Request<tonic::Streaming<String>>) -> Result<Response<Answers>, Status> {
    Ok(Response::new(Box::pin(request.into_inner())))
}

async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(Server::builder().add_service(Echo).serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// A client of the origin through sessions of `lab`.
async fn client(lab: &Arc<Lab>) -> tonic::client::Grpc<Channel> {
    let address = front(Arc::clone(lab)).await;
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    tonic::client::Grpc::new(channel.connect().await.expect("a connection"))
}

/// The client, once it may send a call.
async fn ready(grpc: &mut tonic::client::Grpc<Channel>) -> &mut tonic::client::Grpc<Channel> {
    grpc.ready().await.expect("a connection");
    grpc
}

fn path(text: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(text)
}

#[tokio::test]
async fn calls_of_every_kind_pass_and_a_denied_one_says_so() {
    let lab = Arc::new(Lab::inbound(Hold::Gate, origin().await));
    let mut grpc = client(&lab).await;
    let codec = Codec::default;
    let answer = ready(&mut grpc)
        .await
        .unary(Request::new("one".to_owned()), path("/ok/Unary"), codec())
        .await
        .expect("an answer");
    assert_eq!(answer.into_inner(), "one");
    let status = ready(&mut grpc)
        .await
        .unary(Request::new("fail".to_owned()), path("/ok/Unary"), codec())
        .await
        .expect_err("a status");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such thing"), "the origin's own");

    let messages = tokio_stream::iter((0..100).map(|number| format!("{number},")));
    let answer = ready(&mut grpc)
        .await
        .client_streaming(Request::new(messages), path("/ok/Collect"), codec())
        .await
        .expect("an answer");
    assert_eq!(answer.into_inner().matches(',').count(), 100);

    let answer = ready(&mut grpc)
        .await
        .server_streaming(Request::new("m".to_owned()), path("/ok/Repeat"), codec())
        .await;
    let all: Vec<_> = answer.expect("an answer").into_inner().collect::<Vec<_>>().await;
    assert_eq!((all.len(), all[49].as_ref().expect("a message").as_str()), (50, "m49"));

    let large = "x".repeat(300_000);
    let messages = tokio_stream::iter(vec![large.clone(); 5]);
    let answer = ready(&mut grpc)
        .await
        .streaming(Request::new(messages), path("/ok/Chat"), codec())
        .await
        .expect("an answer");
    let all: Vec<_> = answer.into_inner().collect::<Vec<_>>().await;
    assert!(all.len() == 5 && all.iter().all(|message| message.as_ref().is_ok_and(|text| *text == large)));

    let status = ready(&mut grpc)
        .await
        .unary(Request::new("x".to_owned()), path("/no/Unary"), codec())
        .await
        .expect_err("denied");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("denied by bulkhead"), "{}", status.message());
    let answer = ready(&mut grpc)
        .await
        .unary(Request::new("on".to_owned()), path("/ok/Unary"), codec())
        .await
        .expect("an answer");
    assert_eq!(answer.into_inner(), "on", "the connection goes on");
    let flows = lines(&lab.flows());
    assert!(flows.contains(&"POST /no/Unary 4 deny/deny l7_mismatch x1".to_owned()), "{flows:?}");
    assert!(flows.contains(&"POST /ok/Unary 2 allow/allow allowed_by_rule x3".to_owned()), "{flows:?}");
}

#[tokio::test]
async fn a_streaming_call_ends_alone_when_it_is_not_allowed_any_more() {
    let lab = Arc::new(Lab::inbound(Hold::Gate, origin().await));
    let mut grpc = client(&lab).await;
    let (left_in, left_messages) = mpsc::channel(4);
    let (right_in, right_messages) = mpsc::channel(4);
    let stream = |messages| Request::new(ReceiverStream::new(messages));
    let (codec, codec_again) = (Codec::default(), Codec::default());
    left_in.send("left".to_owned()).await.expect("room");
    right_in.send("right".to_owned()).await.expect("room");
    let left = ready(&mut grpc)
        .await
        .streaming(stream(left_messages), path("/ok/left/Chat"), codec)
        .await
        .expect("an answer");
    let right = ready(&mut grpc)
        .await
        .streaming(stream(right_messages), path("/ok/right/Chat"), codec_again)
        .await
        .expect("an answer");
    let (mut left, mut right) = (left.into_inner(), right.into_inner());
    assert_eq!(left.message().await.expect("a message").as_deref(), Some("left"));
    assert_eq!(right.message().await.expect("a message").as_deref(), Some("right"));

    lab.change(Hold::Narrow);
    let status = timeout(PATIENCE, right.message()).await.expect("in time").expect_err("denied");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    left_in.send("still".to_owned()).await.expect("room");
    assert_eq!(left.message().await.expect("a message").as_deref(), Some("still"));
    let flows = lines(&lab.flows());
    assert!(flows.contains(&"POST /ok/right/Chat 4 deny/deny l7_mismatch x1".to_owned()), "{flows:?}");
}

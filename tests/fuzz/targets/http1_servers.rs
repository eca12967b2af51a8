//! HTTP/1 against two readers of others: what leaves towards a server, httparse and hyper must read as exactly the
//! requests that were asked about, in this order, with bodies that end where ours end; or not at all.
#![no_main]

#[path = "../../../proxy/inspect/tests/support/mod.rs"]
mod support;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::convert::Infallible;
use support::{OK, World, run};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime");
}

/// More fields than any head that is let through may have.
const FIELDS: usize = 128;

fuzz_target!(|input: &[u8]| {
    let everything = World { allow: |_| true, answer: |_| OK };
    let outcome = run(&everything, input, input.len());
    if outcome.lines.is_empty() || outcome.released.starts_with(b"PRI ") {
        return;
    }
    first_head(&outcome.released, &outcome.lines);
    let seen = served(&outcome.released);
    assert!(seen.len() <= outcome.lines.len(), "hyper reads {seen:?}, we {:?}", outcome.lines);
    for (theirs, ours) in seen.iter().zip(&outcome.lines) {
        assert_eq!(theirs, &without_host(ours), "of {:?}", outcome.lines);
    }
});

/// httparse reads the first head to the same end, or refuses it.
fn first_head(released: &[u8], lines: &[String]) {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    if let Ok(httparse::Status::Complete(end)) = request.parse(released) {
        assert!(released[..end].ends_with(b"\r\n\r\n"), "a head that ends otherwise");
        let line = format!("{} {}", request.method.unwrap_or_default(), request.path.unwrap_or_default());
        assert_eq!(Some(&line), lines.first());
    }
}

/// Method and path of each request that a server made of hyper is given.
fn served(released: &[u8]) -> Vec<String> {
    let seen = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        seen.borrow_mut().push(format!("{} {target}", request.method()));
        async move {
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let stream = tokio::io::join(released, tokio::io::sink());
    let connection = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(stream), service);
    RUNTIME.with(|runtime| {
        // An error is a refusal.
        let _ = runtime.block_on(connection);
    });
    seen.into_inner()
}

/// `METHOD /path`, though the target names a host as well, or nothing but one.
fn without_host(line: &str) -> String {
    let Some((method, target)) = line.split_once(' ') else { return line.to_owned() };
    match target.split_once("://") {
        _ if target.starts_with('/') || target == "*" => line.to_owned(),
        None => format!("{method} "),
        Some((_, rest)) => match rest.find(['/', '?']) {
            Some(at) if rest[at..].starts_with('/') => format!("{method} {}", &rest[at..]),
            Some(at) => format!("{method} /{}", &rest[at..]),
            None => format!("{method} /"),
        },
    }
}

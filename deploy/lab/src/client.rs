//! The lab as a client of the controller's HTTP API: TLS with the controller's CA pinned, one request a connection.

use crate::limits::{ANSWER_BYTES_MAX, REQUEST_TIMEOUT};
use bulkhead_api::rest::Problem;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A client with the administrator's token.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    tls: TlsConnector,
    token: String,
}

impl Client {
    /// A client of the controller at `address`, whose CA and token are in these files.
    pub(crate) fn new(address: SocketAddr, ca: &Path, token: &Path) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).map_err(io::Error::other)? {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let token = std::fs::read_to_string(token)?.trim().to_owned();
        Ok(Self { address, tls: TlsConnector::from(Arc::new(config)), token })
    }

    /// What is at `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> io::Result<T> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// What comes of sending `body` to `path`.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> io::Result<T> {
        self.request(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    async fn request<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> io::Result<T> {
        let what = format!("{method} {path}");
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(method, path, body));
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
        };
        let answer = answer.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        answer.map_err(|error| io::Error::new(error.kind(), format!("controller, {what}: {error}")))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> io::Result<Bytes> {
        let stream = TcpStream::connect(self.address).await?;
        let stream = self.tls.connect(ServerName::from(self.address.ip()), stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
        driver.abort();
        if status.is_success() {
            return Ok(bytes);
        }
        let problem = serde_json::from_slice::<Problem>(&bytes)
            .map(|problem| format!("{} {}", problem.error, problem.help))
            .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned());
        Err(io::Error::other(format!("{status}: {}", problem.trim())))
    }
}

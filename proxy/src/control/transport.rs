//! One TLS connection to the controller.
//!
//! The controller is verified against the pinned CA and nothing else; the sidecar shows its certificate once it has
//! one. Dialling is the caller's: in a pod the socket carries our mark, or the closed table would not let it out.
//! A channel has one connection: when that ends, so does the channel, and the control task starts anew.

use super::ControlError;
use super::identity::Certificate;
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// Opens a connection that the pod's own table lets out.
pub type Dial =
    Arc<dyn Fn(SocketAddr) -> Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>> + Send + Sync>;

/// How the controller is reached and recognised.
#[derive(Clone)]
pub struct Transport {
    /// Where it listens.
    pub controller: SocketAddr,
    /// The name that its certificate must carry.
    pub name: ServerName<'static>,
    /// The pinned CA.
    pub roots: Arc<RootCertStore>,
    /// Opens connections.
    pub dial: Dial,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

impl Transport {
    /// Connects, with the certificate if there is one.
    pub(super) async fn connect(&self, certificate: Option<&Certificate>) -> Result<Channel, ControlError> {
        let config = client_config(self.roots.clone(), certificate)?;
        let stream = timed((self.dial)(self.controller))
            .await
            .map_err(|source| ControlError::Dial { controller: self.controller, source })?;
        let _ = stream.set_nodelay(true);
        let stream = timed(TlsConnector::from(Arc::new(config)).connect(self.name.clone(), stream))
            .await
            .map_err(|source| ControlError::Handshake { controller: self.controller, source })?;
        let once = Mutex::new(Some(TokioIo::new(stream)));
        let connector = tower::service_fn(move |_| {
            let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        Ok(endpoint().connect_with_connector(connector).await?)
    }
}

/// Reads a CA, or several, from a file in PEM.
///
/// # Errors
///
/// A text for the operator if the file holds no certificate that can be trusted.
pub fn read_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("not PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("not a CA certificate: {error}"))?;
    }
    match roots.is_empty() {
        true => Err("no `-----BEGIN CERTIFICATE-----` in it".to_owned()),
        false => Ok(roots),
    }
}

/// TLS is below tonic here, hence the scheme.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://controller")
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .buffer_size(16)
}

fn client_config(
    roots: Arc<RootCertStore>,
    certificate: Option<&Certificate>,
) -> Result<ClientConfig, ControlError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ControlError::Certificate)?
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some(certificate) => {
            builder.with_client_cert_resolver(Arc::new(Always(certificate.certified.clone())))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

async fn timed<T>(attempt: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(CONNECT_TIMEOUT, attempt).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

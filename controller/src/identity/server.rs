//! TLS of the controller's own ports: its certificate, renewed while it runs, and what clients must show.

use super::authority::{Authority, AuthorityError};
use rustls::crypto::CryptoProvider;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// Lifetime of the controller's own certificate; it is renewed at half of it.
const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// The controller's certificate in use.
pub struct ServerCertificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// How often [`Self::renew`] should be called.
    pub const RENEW_INTERVAL: Duration = Duration::from_secs(15 * 86_400);

    /// Issues the first certificate for these names and addresses.
    pub fn new(
        authority: Arc<Authority>,
        names: Vec<String>,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let current = RwLock::new(issue(&authority, &names, now)?);
        Ok(Self { authority, names, current })
    }

    /// Replaces the certificate by a fresh one; new connections get it.
    pub fn renew(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let fresh = issue(&self.authority, &self.names, now)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn issue(
    authority: &Authority,
    names: &[String],
    now: SystemTime,
) -> Result<Arc<CertifiedKey>, AuthorityError> {
    let (certificate, key) = authority.certify_server(names, now, LIFETIME)?;
    let chain = vec![certificate, authority.certificate().clone()];
    let certified = CertifiedKey::from_der(chain, key, &provider())
        // INVARIANT: the key was made by the same library a moment ago and its kind is one that rustls signs with.
        .expect("a fresh P-256 key signs");
    Ok(Arc::new(certified))
}

/// TLS 1.3 with a client certificate of our CA, if the client shows one; whoever needs it checks that it did.
/// No resumption: every connection shows its certificate anew.
pub fn tls_for_sidecars(certificate: Arc<ServerCertificate>) -> Result<ServerConfig, VerifierBuilderError> {
    let mut roots = RootCertStore::empty();
    let parsed = roots.add(certificate.authority.certificate().clone());
    debug_assert!(parsed.is_ok(), "the CA certificate was read before");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()?;
    let mut config = builder().with_client_cert_verifier(verifier).with_cert_resolver(certificate);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// TLS 1.3 for people and tools; they are recognised by a bearer token.
pub fn tls_for_people(certificate: Arc<ServerCertificate>) -> ServerConfig {
    let mut config = builder().with_no_client_auth().with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        // INVARIANT: the provider below brings suites for TLS 1.3.
        .expect("ring speaks TLS 1.3")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

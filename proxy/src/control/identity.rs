//! The sidecar's key and certificate.
//!
//! The key is made here, lies in the state directory for the owner only, never leaves it, and survives kill -9. The
//! certificate comes from the controller and is kept with the time at which it came, so that it is renewed after
//! two thirds of its life. A certificate that does not belong to the key is not used.

use super::ControlError;
use super::sealed::{self, Kind, StateError};
use bulkhead_api::v1;
use prost::Message;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor};
use rustls::sign::CertifiedKey;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Key, and certificate once there is one.
pub(super) struct Identity {
    state: PathBuf,
    key: KeyPair,
    certificate: Option<Certificate>,
}

/// What the controller gave for the key.
pub(super) struct Certificate {
    /// Key and chain, checked to belong together.
    pub(super) certified: Arc<CertifiedKey>,
    issued_ms: u64,
    not_after_ms: u64,
}

impl Certificate {
    /// True until its end.
    pub(super) fn is_valid_at(&self, now_ms: u64) -> bool {
        now_ms < self.not_after_ms
    }

    /// When it should be replaced: after two thirds of its life.
    pub(super) fn renewal_due_ms(&self) -> u64 {
        let life = self.not_after_ms.saturating_sub(self.issued_ms);
        self.issued_ms.saturating_add(life / 3 * 2)
    }
}

impl Identity {
    /// Reads key and certificate from the state directory, or makes the key. What is damaged is discarded, loudly; so is
    /// a certificate of another CA than the pinned one, which a controller that was set up anew would never accept.
    pub(super) fn open(state: &Path, roots: &RootCertStore) -> Result<Self, ControlError> {
        let key = match read_key(&key_path(state)) {
            Some(key) => key,
            None => make_key(&key_path(state))?,
        };
        let mut identity = Self { state: state.to_owned(), key, certificate: None };
        identity.certificate = identity.read_certificate(roots);
        Ok(identity)
    }

    /// The certificate, if there is one.
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// A request for a certificate, in DER. The controller chooses the names.
    pub(super) fn request(&self) -> Result<Vec<u8>, ControlError> {
        let request = CertificateParams::default().serialize_request(&self.key).map_err(ControlError::Key)?;
        Ok(request.der().to_vec())
    }

    /// Takes what the controller answered and keeps it.
    pub(super) fn adopt(&mut self, response: &v1::EnrollResponse, now_ms: u64) -> Result<(), ControlError> {
        self.certificate = Some(self.certify(response, now_ms)?);
        let path = certificate_path(&self.state);
        Ok(sealed::write(&path, Kind::Certificate, &response.encode_to_vec(), now_ms)?)
    }

    fn read_certificate(&self, roots: &RootCertStore) -> Option<Certificate> {
        let path = certificate_path(&self.state);
        let sealed = sealed::read(&path, Kind::Certificate)
            .inspect_err(|error| tracing::error!(%error, "certificate discarded: enrolling again"))
            .ok()??;
        let response = v1::EnrollResponse::decode(sealed.payload.as_slice()).ok()?;
        if !is_pinned(&response.ca, roots) {
            tracing::warn!("certificate is of another controller than the pinned one: enrolling again");
            return None;
        }
        self.certify(&response, sealed.written_ms)
            .inspect_err(|error| tracing::error!(%error, "certificate discarded: enrolling again"))
            .ok()
    }

    fn certify(&self, response: &v1::EnrollResponse, issued_ms: u64) -> Result<Certificate, ControlError> {
        if response.chain.is_empty() {
            return Err(ControlError::Certificate(rustls::Error::NoCertificatesPresented));
        }
        let chain = response.chain.iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(ControlError::Certificate)?;
        Ok(Certificate { certified: Arc::new(certified), issued_ms, not_after_ms: response.not_after_ms })
    }
}

fn is_pinned(ca: &[u8], roots: &RootCertStore) -> bool {
    let mut issuer = RootCertStore::empty();
    let read = issuer.add(CertificateDer::from(ca));
    let is_issuer = |pinned: &TrustAnchor<'_>| {
        issuer.roots.iter().any(|issuer| {
            issuer.subject == pinned.subject
                && issuer.subject_public_key_info == pinned.subject_public_key_info
        })
    };
    read.is_ok() && roots.roots.iter().any(is_issuer)
}

fn key_path(state: &Path) -> PathBuf {
    state.join("key.pem")
}

fn certificate_path(state: &Path) -> PathBuf {
    state.join("certificate")
}

fn read_key(path: &Path) -> Option<KeyPair> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "key unreadable: making a new one");
            return None;
        }
    };
    KeyPair::from_pem(&text)
        .inspect_err(|error| tracing::error!(path = %path.display(), %error, "key damaged: making a new one"))
        .ok()
}

fn make_key(path: &Path) -> Result<KeyPair, ControlError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(ControlError::Key)?;
    sealed::replace(path, key.serialize_pem().as_bytes())
        .map_err(|error: StateError| ControlError::State(error))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_directory::TestDirectory;
    use rcgen::{BasicConstraints, CertificateSigningRequestParams, IsCa, Issuer};
    use std::os::unix::fs::PermissionsExt;

    /// A CA with what it signs.
    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        ca: CertificateDer<'static>,
        roots: RootCertStore,
    }

    fn authority() -> Authority {
        let key = KeyPair::generate().expect("key");
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = parameters.self_signed(&key).expect("sign").der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).expect("a CA");
        Authority { issuer: Issuer::new(parameters, key), ca, roots }
    }

    impl Authority {
        fn issue(&self, request: Vec<u8>) -> v1::EnrollResponse {
            let request = CertificateSigningRequestParams::from_der(&request.into()).expect("a request");
            let leaf = request.signed_by(&self.issuer).expect("sign");
            let chain = vec![leaf.der().to_vec()];
            v1::EnrollResponse { chain, ca: self.ca.to_vec(), not_after_ms: 3_000 }
        }

        /// An identity in the directory, enrolled at time 0.
        fn enrol(&self, directory: &TestDirectory) -> Identity {
            let mut identity = Identity::open(directory.path(), &self.roots).expect("open");
            let response = self.issue(identity.request().expect("request"));
            identity.adopt(&response, 0).expect("adopt");
            identity
        }
    }

    #[test]
    fn the_key_is_private_and_stays_the_same() {
        let (directory, authority) = (TestDirectory::new(), authority());
        let open = || Identity::open(directory.path(), &authority.roots).expect("open");
        assert_eq!(open().key.serialize_der(), open().key.serialize_der());
        let mode = fs::metadata(key_path(directory.path())).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_survives_a_restart_and_is_due_after_two_thirds() {
        let (directory, authority) = (TestDirectory::new(), authority());
        let identity = authority.enrol(&directory);
        let certificate = identity.certificate().expect("certificate");
        assert_eq!(certificate.renewal_due_ms(), 2_000);
        assert!(certificate.is_valid_at(2_999) && !certificate.is_valid_at(3_000));
        let again = Identity::open(directory.path(), &authority.roots).expect("open again");
        assert!(again.certificate().is_some());
    }

    #[test]
    fn a_certificate_of_another_key_is_refused() {
        let (one, other, authority) = (TestDirectory::new(), TestDirectory::new(), authority());
        let foreign =
            Identity::open(other.path(), &authority.roots).expect("open").request().expect("request");
        let mut identity = Identity::open(one.path(), &authority.roots).expect("open");
        assert!(identity.adopt(&authority.issue(foreign), 0).is_err());
    }

    #[test]
    fn a_damaged_key_is_replaced_and_its_certificate_with_it() {
        let (directory, authority) = (TestDirectory::new(), authority());
        authority.enrol(&directory);
        fs::write(key_path(directory.path()), "nonsense").expect("damage");
        let again = Identity::open(directory.path(), &authority.roots).expect("open again");
        assert!(again.certificate().is_none());
    }

    #[test]
    fn a_certificate_of_another_authority_than_the_pinned_one_is_not_used() {
        let directory = TestDirectory::new();
        authority().enrol(&directory);
        let again = Identity::open(directory.path(), &authority().roots).expect("open again");
        assert!(again.certificate().is_none());
    }
}

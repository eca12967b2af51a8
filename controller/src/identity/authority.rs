//! The controller's CA: kept in the state folder, made at the first start.

use super::names::PodIdentity;
use super::secret::{self, NoRandomness, write_private, write_public};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The CA's own certificate is good for ten years.
const AUTHORITY_DAYS: u64 = 3650;
/// Certificates begin a little earlier than now, since clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate that was issued to a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate in DER.
    pub certificate: Vec<u8>,
    /// Fingerprint of the key that it certifies.
    pub public_key: String,
    /// End of validity, milliseconds since the epoch.
    pub not_after_ms: u64,
}

/// Why the CA cannot be used, or did not issue.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of the CA cannot be read or written.
    #[error("cannot use `{path}`: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The files are there and no CA.
    #[error(
        "`{path}` is no {what}: restore it, or remove both `ca.key` and `ca.pem` and enrol every sidecar anew"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// The sidecar's request cannot be read or is not signed by its key.
    #[error("the certificate request is not valid: {0}")]
    BadRequest(rcgen::Error),
    /// The key cannot sign.
    #[error("cannot sign: {0}")]
    Signing(rcgen::Error),
    /// No random numbers for serials.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl Authority {
    /// Opens the CA in the state folder; makes it if neither key nor certificate is there.
    pub fn open(state: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let (key_path, pem_path) = (state.join("ca.key"), state.join("ca.pem"));
        let key = read(&key_path)?;
        let pem = read(&pem_path)?;
        match (key, pem) {
            (Some(key), Some(pem)) => Self::load(&key, &pem, &key_path, &pem_path),
            (None, Some(_)) => {
                Err(AuthorityError::Broken { path: key_path, what: "private key of `ca.pem`" })
            }
            // A key alone is what a crash between the two writes leaves behind.
            (Some(_) | None, None) => Self::create(&key_path, &pem_path, now),
        }
    }

    /// The CA's certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Certifies the key of a sidecar's request for one pod, whatever names the request asks for.
    pub fn certify_pod(
        &self,
        request: &[u8],
        pod: &PodIdentity,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<Issued, AuthorityError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(AuthorityError::BadRequest)?;
        let uri = SanType::URI(pod.spiffe_id().try_into().map_err(AuthorityError::Signing)?);
        let mut params = leaf(&pod.uid, vec![uri], ExtendedKeyUsagePurpose::ClientAuth)?;
        let not_after = now + lifetime;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = not_after.into();
        let public_key = secret::fingerprint_of(request.public_key.der_bytes());
        let certificate = CertificateSigningRequestParams { params, public_key: request.public_key }
            .signed_by(&self.issuer)
            .map_err(AuthorityError::Signing)?;
        let since_epoch = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Issued {
            certificate: certificate.der().to_vec(),
            public_key,
            not_after_ms: since_epoch.as_secs().saturating_mul(1000),
        })
    }

    /// Makes a key and a certificate for the controller's own ports.
    pub fn certify_server(
        &self,
        names: &[String],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), AuthorityError> {
        let names = names.iter().map(|name| server_name(name)).collect::<Result<_, _>>()?;
        let mut params = leaf("bulkhead-controller", names, ExtendedKeyUsagePurpose::ServerAuth)?;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + lifetime).into();
        let key = KeyPair::generate().map_err(AuthorityError::Signing)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Signing)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok((certificate.der().clone(), key))
    }

    fn create(key_path: &Path, pem_path: &Path, now: SystemTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Signing)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Bulkhead controller CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + Duration::from_secs(AUTHORITY_DAYS * 86_400)).into();
        let certificate = params.self_signed(&key).map_err(AuthorityError::Signing)?;
        write_private(key_path, key.serialize_pem().as_bytes()).map_err(|e| file_error(key_path, e))?;
        write_public(pem_path, certificate.pem().as_bytes()).map_err(|e| file_error(pem_path, e))?;
        Ok(Self { issuer: Issuer::new(params, key), certificate: certificate.der().clone() })
    }

    fn load(key: &str, pem: &str, key_path: &Path, pem_path: &Path) -> Result<Self, AuthorityError> {
        let no_key = || AuthorityError::Broken { path: key_path.to_owned(), what: "private key of `ca.pem`" };
        let no_certificate = || AuthorityError::Broken { path: pem_path.to_owned(), what: "CA certificate" };
        let key = KeyPair::from_pem(key).map_err(|_| no_key())?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| no_certificate())?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| no_certificate())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(no_key());
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| no_certificate())?;
        Ok(Self { issuer, certificate })
    }
}

fn leaf(
    name: &str,
    alternative_names: Vec<SanType>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.subject_alt_names = alternative_names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial()?);
    Ok(params)
}

fn server_name(name: &str) -> Result<SanType, AuthorityError> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.try_into().map_err(AuthorityError::Signing)?)),
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

/// A positive random number of 16 bytes (RFC 5280 section 4.1.2.2).
fn serial() -> Result<SerialNumber, NoRandomness> {
    let mut bytes = secret::random::<16>()?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn read(path: &Path) -> Result<Option<String>, AuthorityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path, error)),
    }
}

fn file_error(path: &Path, error: io::Error) -> AuthorityError {
    AuthorityError::File { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_ca_is_the_same_after_a_restart_and_its_key_is_private() {
        let state = tempfile::tempdir().expect("a folder");
        let first = Authority::open(state.path(), SystemTime::now()).expect("made");
        let second = Authority::open(state.path(), SystemTime::now()).expect("opened");
        assert_eq!(first.certificate(), second.certificate());
        let mode = fs::metadata(state.path().join("ca.key")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn files_that_are_no_ca_are_named_and_left_alone() {
        let state = tempfile::tempdir().expect("a folder");
        Authority::open(state.path(), SystemTime::now()).expect("made");
        let cases = [("ca.key", "rubbish"), ("ca.pem", "rubbish")];
        for (file, content) in cases {
            let path = state.path().join(file);
            let good = fs::read(&path).expect("there");
            fs::write(&path, content).expect("written");
            let refused =
                Authority::open(state.path(), SystemTime::now()).err().expect("refused").to_string();
            assert!(refused.contains(file), "{refused}");
            assert_eq!(fs::read_to_string(&path).expect("there"), content, "left alone");
            fs::write(&path, good).expect("restored");
        }
    }

    #[test]
    fn a_key_of_another_ca_is_refused() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        for state in [&one, &other] {
            Authority::open(state.path(), SystemTime::now()).expect("made");
        }
        fs::copy(other.path().join("ca.key"), one.path().join("ca.key")).expect("copied");
        assert!(matches!(Authority::open(one.path(), SystemTime::now()), Err(AuthorityError::Broken { .. })));
    }

    #[test]
    fn a_certificate_names_the_pod_of_the_token_whatever_the_request_asks_for() {
        let state = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(state.path(), SystemTime::now()).expect("made");
        let pod = PodIdentity::new("shop", "checkout", "uid-1").expect("good names");
        let issued = authority
            .certify_pod(&request("spiffe://bulkhead/ns/kube-system/sa/root"), &pod, now(), hours(24))
            .expect("issued");
        assert_eq!(PodIdentity::of_certificate(&issued.certificate), Ok(pod));
        assert_eq!(
            super::super::names::not_after_seconds(&issued.certificate).map(|s| s * 1000),
            Ok(issued.not_after_ms)
        );
    }

    #[test]
    fn a_request_that_is_not_signed_by_its_key_is_refused() {
        let state = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(state.path(), SystemTime::now()).expect("made");
        let pod = PodIdentity::new("shop", "checkout", "uid-1").expect("good names");
        let mut forged = request("spiffe://bulkhead/ns/shop/sa/checkout");
        *forged.last_mut().expect("not empty") ^= 1;
        for bad in [forged.as_slice(), b"", b"rubbish"] {
            let refused = authority.certify_pod(bad, &pod, now(), hours(24));
            assert!(matches!(refused, Err(AuthorityError::BadRequest(_))));
        }
    }

    #[test]
    fn the_controllers_own_certificate_is_no_pod() {
        let state = tempfile::tempdir().expect("a folder");
        let authority = Authority::open(state.path(), SystemTime::now()).expect("made");
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let (certificate, _) = authority.certify_server(&names, now(), hours(1)).expect("issued");
        assert!(PodIdentity::of_certificate(&certificate).is_err());
        assert!(PodIdentity::of_certificate(authority.certificate()).is_err());
    }

    fn request(uri: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        let key = KeyPair::generate().expect("a key");
        params.serialize_request(&key).expect("a request").der().to_vec()
    }

    fn now() -> SystemTime {
        SystemTime::now()
    }

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3600)
    }
}

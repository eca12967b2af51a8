//! The names in a sidecar's certificate: written when it is issued, read when it is presented.

use crate::limits::UID_BYTES_MAX;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Trust domain of the built-in CA.
const TRUST_DOMAIN: &str = "bulkhead";

/// Who a sidecar's certificate says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// UID of the pod.
    pub uid: String,
}

/// Why a certificate or a name is no pod's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not an X.509 certificate.
    #[error("certificate is unreadable")]
    Unreadable,
    /// No single SPIFFE ID of ours, or no pod UID.
    #[error("certificate names no pod")]
    NotAPod,
    /// A name with characters that would change the meaning of the certificate.
    #[error("`{0}` cannot stand in a certificate: letters, digits, `-`, `_` and `.` only")]
    BadName(String),
}

impl PodIdentity {
    /// Checks that every part can stand in a certificate.
    pub fn new(namespace: &str, service_account: &str, uid: &str) -> Result<Self, IdentityError> {
        for part in [namespace, service_account, uid] {
            check_name(part)?;
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            uid: uid.to_owned(),
        })
    }

    /// `spiffe://bulkhead/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
    pub fn spiffe_id(&self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/ns/{}/sa/{}", self.namespace, self.service_account)
    }

    /// Reads a certificate whose chain has been verified.
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| IdentityError::Unreadable)?
            .ok_or(IdentityError::NotAPod)?;
        let [GeneralName::URI(spiffe_id)] = names.value.general_names.as_slice() else {
            return Err(IdentityError::NotAPod);
        };
        let mut common_names = certificate.subject().iter_common_name();
        let uid = common_names.next().and_then(|name| name.as_str().ok()).ok_or(IdentityError::NotAPod)?;
        if common_names.next().is_some() {
            return Err(IdentityError::NotAPod);
        }
        let (namespace, service_account) = spiffe_id
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(TRUST_DOMAIN))
            .and_then(|rest| rest.strip_prefix("/ns/"))
            .and_then(|rest| rest.split_once("/sa/"))
            .ok_or(IdentityError::NotAPod)?;
        Self::new(namespace, service_account, uid)
    }
}

/// When a certificate ends, in seconds since the epoch.
pub fn not_after_seconds(der: &[u8]) -> Result<u64, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
    u64::try_from(certificate.validity().not_after.timestamp()).map_err(|_| IdentityError::Unreadable)
}

/// Checks the UID of a pod as it comes from a person or program.
pub fn check_name(name: &str) -> Result<(), IdentityError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > UID_BYTES_MAX.max(63) || !name.bytes().all(good) {
        return Err(IdentityError::BadName(name.chars().take(UID_BYTES_MAX).collect()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_change_the_path_of_the_spiffe_id_is_refused() {
        for bad in ["", "a/b", "a/sa/root", "a b", "ä", "a%2fb", &"x".repeat(65)] {
            assert!(PodIdentity::new(bad, "default", "u").is_err(), "{bad}");
            assert!(PodIdentity::new("shop", bad, "u").is_err(), "{bad}");
            assert!(PodIdentity::new("shop", "default", bad).is_err(), "{bad}");
        }
    }
}

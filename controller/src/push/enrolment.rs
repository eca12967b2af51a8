//! Enrolment: a join token, or the certificate that is about to end, for a certificate.

use crate::clock::now_ms;
use crate::identity::{Authority, AuthorityError, Issued, PodIdentity, secret};
use crate::store::{Records, Store, StoreError};
use crate::world::World;
use bulkhead_api::rest::AuditEntry;
use std::time::{Duration, SystemTime};
use tonic::Status;

/// Why nobody is enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Neither a token nor a certificate.
    #[error("no join token and no client certificate: give the sidecar a token")]
    Nothing,
    /// The token was never issued, was used for another key, or has expired.
    #[error("join token is unknown, expired or used for another key: ask for a new one")]
    BadToken,
    /// The pod is not in the inventory, or not any more.
    #[error("pod `{0}` is not in the inventory: try again when it is, the token stays good")]
    UnknownPod(String),
    /// The certificate is of a pod that has changed hands.
    #[error("certificate names another namespace or service account than pod `{0}` has")]
    NotThatPod(String),
    /// The pod's names cannot stand in a certificate.
    #[error(transparent)]
    BadName(#[from] crate::identity::IdentityError),
    /// The request is wrong, or the CA cannot sign.
    #[error(transparent)]
    NotIssued(#[from] AuthorityError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<EnrolmentError> for Status {
    fn from(error: EnrolmentError) -> Self {
        let text = error.to_string();
        match error {
            EnrolmentError::Nothing | EnrolmentError::BadToken => Self::unauthenticated(text),
            EnrolmentError::NotThatPod(_) => Self::permission_denied(text),
            EnrolmentError::UnknownPod(_) | EnrolmentError::Store(_) => Self::unavailable(text),
            EnrolmentError::NotIssued(AuthorityError::BadRequest(_)) | EnrolmentError::BadName(_) => {
                Self::invalid_argument(text)
            }
            EnrolmentError::NotIssued(_) => Self::internal(text),
        }
    }
}

/// What enrolment needs.
pub(super) struct Enrolment<'a> {
    pub(super) authority: &'a Authority,
    pub(super) records: &'a Records,
    pub(super) world: &'a World,
    pub(super) lifetime: Duration,
}

impl Enrolment<'_> {
    /// The token is used up only when everything else is in order, and by one key only: a sidecar that was killed
    /// before it had stored its certificate comes again with the same key and gets another.
    pub(super) async fn by_token(
        &self,
        token: &str,
        request: &[u8],
    ) -> Result<(PodIdentity, Issued), EnrolmentError> {
        let fingerprint = secret::fingerprint(token);
        let looked_up = fingerprint.clone();
        let uid = self.records.read(move |store| store.token_pod(&looked_up, now_ms())).await?;
        let pod = self.pod(&uid.ok_or(EnrolmentError::BadToken)?)?;
        let issued = self.authority.certify_pod(request, &pod, SystemTime::now(), self.lifetime)?;
        let audit = AuditEntry {
            at_ms: now_ms(),
            actor: format!("pod {}", pod.uid),
            action: "enrol".to_owned(),
            subject: pod.spiffe_id(),
            detail: "by join token".to_owned(),
        };
        let key = issued.public_key.clone();
        let used = self.records.write(move |store| use_token(store, &fingerprint, &key, &audit)).await?;
        if used { Ok((pod, issued)) } else { Err(EnrolmentError::BadToken) }
    }

    /// `presented` was verified by TLS: it is renewed as long as its pod is there and is still who it was.
    pub(super) fn by_certificate(
        &self,
        presented: &PodIdentity,
        request: &[u8],
    ) -> Result<(PodIdentity, Issued), EnrolmentError> {
        let pod = self.pod(&presented.uid)?;
        if pod != *presented {
            return Err(EnrolmentError::NotThatPod(pod.uid));
        }
        let issued = self.authority.certify_pod(request, &pod, SystemTime::now(), self.lifetime)?;
        Ok((pod, issued))
    }

    fn pod(&self, uid: &str) -> Result<PodIdentity, EnrolmentError> {
        let (name, pod) = self.world.pod(uid).ok_or_else(|| EnrolmentError::UnknownPod(uid.to_owned()))?;
        Ok(PodIdentity::new(&name.namespace, &pod.service_account, uid)?)
    }
}

fn use_token(
    store: &mut dyn Store,
    fingerprint: &str,
    public_key: &str,
    audit: &AuditEntry,
) -> Result<bool, StoreError> {
    let used = store.use_token(fingerprint, public_key, audit.at_ms)?;
    if used {
        store.add_audit(audit)?;
    }
    Ok(used)
}

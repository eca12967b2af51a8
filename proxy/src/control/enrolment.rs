//! How the sidecar comes by its certificate: once by the join token, later by the certificate before.
//!
//! `Enroll` is the only call that the controller serves to somebody without a certificate, and then it wants the token.
//! With a valid certificate the same call renews it and the token is left empty.

use super::identity::Identity;
use super::{Control, ControlError};
use crate::clock;
use crate::limits::TOKEN_BYTES_MAX;
use bulkhead_api::v1;
use bulkhead_api::v1::sidecars_client::SidecarsClient;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::Channel;

const ENROL_TIMEOUT: Duration = Duration::from_secs(10);

impl Control {
    /// Enrols if there is no valid certificate, renews if it is due. A renewal that fails is tried again later, as
    /// long as the certificate is valid.
    pub(super) async fn ensure_certificate(&mut self, identity: &mut Identity) -> Result<(), ControlError> {
        let now_ms = clock::unix_ms();
        let Some(certificate) = identity.certificate().filter(|certificate| certificate.is_valid_at(now_ms))
        else {
            return self.enrol(identity).await;
        };
        if now_ms < certificate.renewal_due_ms() {
            return Ok(());
        }
        let channel = self.transport.connect(Some(certificate)).await?;
        match ask(channel, String::new(), identity).await {
            Ok(()) => tracing::info!("certificate renewed"),
            Err(error) => {
                tracing::error!(%error, "certificate not renewed: the controller drops us when it ends")
            }
        }
        Ok(())
    }

    async fn enrol(&self, identity: &mut Identity) -> Result<(), ControlError> {
        let token = read_token(self.token_file.as_deref()).map_err(ControlError::Token)?;
        let channel = self.transport.connect(None).await?;
        ask(channel, token, identity).await?;
        tracing::info!("enrolled with the controller");
        Ok(())
    }
}

async fn ask(channel: Channel, token: String, identity: &mut Identity) -> Result<(), ControlError> {
    let request = v1::EnrollRequest { token, csr: identity.request()? };
    let mut client = SidecarsClient::new(channel);
    let answer = timeout(ENROL_TIMEOUT, client.enroll(request)).await;
    let answer = answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
    let response =
        answer.map_err(|status| ControlError::Refused { call: "Enroll", status: Box::new(status) })?;
    identity.adopt(response.get_ref(), clock::unix_ms())
}

fn read_token(path: Option<&Path>) -> Result<String, String> {
    let path = path.ok_or("give its file with --token-file")?;
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(format!("`{}` is empty", path.display()));
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(format!("`{}` has more than {TOKEN_BYTES_MAX} bytes", path.display()));
    }
    Ok(token.to_owned())
}

//! The gRPC service: who may call what, and one task per stream.

use super::enrolment::{Enrolment, EnrolmentError};
use super::fleet::Fleet;
use super::session::Session;
use crate::drain::Drain;
use crate::identity::{Authority, IdentityError, PodIdentity, not_after_seconds};
use crate::limits::{SIDECAR_QUEUE, SIDECAR_STREAMS_MAX};
use crate::listen::Connection;
use crate::metrics::Metrics;
use crate::store::Records;
use crate::world::World;
use bulkhead_api::limits::{MESSAGE_FROM_SIDECAR_BYTES_MAX, MESSAGE_TO_SIDECAR_BYTES_MAX};
use bulkhead_api::v1;
use bulkhead_api::v1::sidecars_server::{Sidecars, SidecarsServer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// An idle connection is asked for a sign of life.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// And has this long to give it.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the sidecars' port needs.
#[derive(Clone)]
pub struct SidecarPort {
    /// Issues certificates.
    pub authority: Arc<Authority>,
    /// How long they are good.
    pub certificate_lifetime: Duration,
    /// What is in force.
    pub world: watch::Receiver<Arc<World>>,
    /// Who is attached.
    pub fleet: Arc<Fleet>,
    /// Where flows go.
    pub records: Records,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Turns true when the controller shuts down.
    pub drain: Drain,
}

/// Serves connections until drain.
pub(crate) async fn serve(
    port: SidecarPort,
    connections: mpsc::Receiver<Connection>,
) -> Result<(), tonic::transport::Error> {
    let mut drain = port.drain.clone();
    let service = SidecarsServer::new(port)
        .max_decoding_message_size(MESSAGE_FROM_SIDECAR_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_TO_SIDECAR_BYTES_MAX);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(SIDECAR_STREAMS_MAX)
        .add_service(service)
        .serve_with_incoming_shutdown(
            ReceiverStream::new(connections).map(Ok::<_, std::io::Error>),
            async move {
                // A sender that is gone means shutdown too.
                let () = drain.begun().await;
            },
        )
        .await
}

#[tonic::async_trait]
impl Sidecars for SidecarPort {
    type AttachStream = ReceiverStream<Result<v1::ToSidecar, Status>>;

    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let presented = presented(&request).transpose();
        let v1::EnrollRequest { token, csr } = request.into_inner();
        let world = self.world.borrow().clone();
        let enrolment = Enrolment {
            authority: &self.authority,
            records: &self.records,
            world: &world,
            lifetime: self.certificate_lifetime,
        };
        let outcome = match presented {
            _ if !token.is_empty() => enrolment.by_token(&token, &csr).await,
            Some(Ok((pod, _))) => enrolment.by_certificate(&pod, &csr),
            Some(Err(error)) => Err(error.into()),
            None => Err(EnrolmentError::Nothing),
        };
        self.metrics.enrolled(outcome.is_ok());
        let (pod, issued) = outcome.inspect_err(|error| tracing::warn!(%error, "enrolment refused"))?;
        tracing::info!(
            namespace = pod.namespace,
            service_account = pod.service_account,
            uid = pod.uid,
            "enrolled"
        );
        let ca = self.authority.certificate().to_vec();
        Ok(Response::new(v1::EnrollResponse {
            chain: vec![issued.certificate],
            ca,
            not_after_ms: issued.not_after_ms,
        }))
    }

    async fn attach(
        &self,
        request: Request<Streaming<v1::FromSidecar>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let presented = presented(&request).map_err(|error| Status::permission_denied(error.to_string()))?;
        let (pod, not_after_seconds) = presented.ok_or_else(|| {
            Status::unauthenticated("no client certificate: enrol first, with a join token")
        })?;
        let (outbound, messages) = mpsc::channel(SIDECAR_QUEUE);
        let session = Session::new(self.clone(), pod, not_after_seconds, outbound);
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// The pod of the client certificate, which TLS has verified, and when the certificate ends; `None` without one.
fn presented<T>(request: &Request<T>) -> Result<Option<(PodIdentity, u64)>, IdentityError> {
    let Some(chain) = request.peer_certs() else { return Ok(None) };
    let Some(leaf) = chain.first() else { return Ok(None) };
    Ok(Some((PodIdentity::of_certificate(leaf)?, not_after_seconds(leaf)?)))
}

//! The connection to the controller, for the life of the sidecar.
//!
//! [`Control::run`] is the story: have a certificate ([`enrolment`]), connect ([`transport`]), stay attached
//! ([`stream`]), and when that ends, wait ([`backoff`]) and start anew. Enforcement never depends on any of it: the
//! program in force stays, and it is on disk ([`last_good`]) for a sidecar that starts again.
//!
//! Not here: enforcing a program ([`crate::enforcement`]), what is reported ([`crate::flows`]).

mod backoff;
mod enrolment;
mod identity;
pub mod last_good;
pub mod sealed;
mod stream;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
pub(crate) mod test_directory;
mod transport;

pub use transport::{Dial, Transport, read_roots};

use crate::clock;
use crate::drain::{Stage, StageReceiver};
use crate::enforcement::Enforcement;
use crate::flows::Recorder;
use crate::metrics::Metrics;
use crate::posture::Posture;
use backoff::Backoff;
use identity::Identity;
use last_good::LastGood;
use ring::rand::{SecureRandom, SystemRandom};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Everything that the connection to the controller needs.
pub struct Control {
    /// How the controller is reached.
    pub transport: Transport,
    /// Private directory: key, certificate, last good program.
    pub state: PathBuf,
    /// File with the one-time join token; needed until there is a certificate.
    pub token_file: Option<PathBuf>,
    /// What this sidecar can promise here.
    pub posture: Posture,
    /// Takes programs.
    pub enforcement: Enforcement,
    /// Gives flows.
    pub recorder: Arc<Recorder>,
    /// Where the last good program lies.
    pub last_good: LastGood,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// Life of the process.
    pub stage: StageReceiver,
}

/// Why an attempt to be attached ended.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No TCP connection.
    #[error("cannot connect to the controller at `{controller}`: {source}")]
    Dial {
        /// Where.
        controller: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No TLS session.
    #[error("the controller at `{controller}` was not accepted, or did not accept us: {source}")]
    Handshake {
        /// Where.
        controller: SocketAddr,
        /// What TLS said.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("connection to the controller: {0}")]
    Connection(#[from] tonic::transport::Error),
    /// The controller refused a call.
    #[error("the controller refused {call}: {} ({:?})", status.message(), status.code())]
    Refused {
        /// Which.
        call: &'static str,
        /// What it said.
        status: Box<tonic::Status>,
    },
    /// The controller ended the stream.
    #[error("the controller ended the stream")]
    Ended,
    /// The controller does not read what we send.
    #[error("the controller does not read: nothing could be sent for {0:?}")]
    Stalled(Duration),
    /// A message that makes no sense.
    #[error("the controller sent a message that is refused: {0}")]
    Message(#[from] bulkhead_api::InvalidMessage),
    /// There is no token and no certificate.
    #[error("no certificate, and no join token: {0}")]
    Token(String),
    /// The state directory.
    #[error(transparent)]
    State(#[from] sealed::StateError),
    /// Our key.
    #[error("the sidecar's key: {0}")]
    Key(rcgen::Error),
    /// A certificate.
    #[error("a certificate: {0}")]
    Certificate(rustls::Error),
}

/// A stream that lived this long was well: the next wait is short again.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);
/// For the last flows at the end of the process.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

impl Control {
    /// Stays attached until the process ends. Nothing that the controller does or fails to do ends it earlier.
    ///
    /// # Errors
    ///
    /// If the sidecar's own key can neither be read nor made.
    pub async fn run(mut self) -> Result<(), ControlError> {
        let mut identity = Identity::open(&self.state, &self.transport.roots)?;
        let instance = instance_name();
        let mut backoff = Backoff::default();
        let mut stage = self.stage.clone();
        while *stage.borrow() != Stage::Ending {
            let started = Instant::now();
            let attempt = self.attempt(&mut identity, &instance);
            let error = tokio::select! {
                ended = attempt => match ended {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                () = farewell(&mut stage) => break,
            };
            self.metrics.controller_attached.set(0);
            if started.elapsed() > HEALTHY_AFTER {
                backoff.reset();
            }
            let wait = backoff.next(random());
            tracing::warn!(%error, wait_ms = wait.as_millis(), "not attached to the controller: enforcement goes on");
            let _ = timeout(wait, stage.wait_for(|stage| *stage == Stage::Ending)).await;
        }
        Ok(())
    }

    /// One connection from its beginning to its end. `Ok` if it ended for a reason of ours.
    async fn attempt(&mut self, identity: &mut Identity, instance: &str) -> Result<(), ControlError> {
        self.ensure_certificate(identity).await?;
        let channel = self.transport.connect(identity.certificate()).await?;
        let renewal_due_ms = identity.certificate().map_or(u64::MAX, identity::Certificate::renewal_due_ms);
        let ended = self.stay_attached(channel, instance, renewal_due_ms).await;
        self.metrics.controller_attached.set(0);
        ended
    }
}

/// Resolves some time after the end of the process has begun, so that an attempt in the middle of something ends.
async fn farewell(stage: &mut StageReceiver) {
    let _ = stage.wait_for(|stage| *stage == Stage::Ending).await;
    tokio::time::sleep(FAREWELL_TIMEOUT).await;
}

/// Names this run of the sidecar: batch numbers count within it.
fn instance_name() -> String {
    format!("{:x}-{:08x}", clock::unix_ms(), random())
}

/// Only spreads attempts and tells runs apart, so a failing source is no danger.
fn random() -> u32 {
    let mut bytes = [0; 4];
    let _ = SystemRandom::new().fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

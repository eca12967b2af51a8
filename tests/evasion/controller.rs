//! A controller that follows a script: the real protocol over real TLS, and programs when a trial wants them.
//!
//! The product's own controller sends what its folders say, and at most some twenty programs a second; a trial of reloads
//! needs each one at its moment, and to know that it is in force. Runs at the node, on a thread of its own.

use std::collections::BTreeSet;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use bulkhead_api::v1::sidecars_server::{Sidecars, SidecarsServer};
use bulkhead_api::{Capability, ControllerMessage, ProgramResult, SidecarMessage, Weakness, v1};
use bulkhead_policies::program::Program;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::ground::{Ground, NODE};

/// The name in its certificate.
pub(crate) const NAME: &str = "bulkhead-controller";
/// The token that it takes.
pub(crate) const TOKEN: &str = "evasion";
/// How long a sidecar may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate authority that a controller and its sidecars trust.
pub(crate) struct Authority {
    key_pem: String,
    parameters: CertificateParams,
    der: Vec<u8>,
    /// Its certificate, as sidecars are given it.
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(vec![NAME.to_owned()])?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key)?;
        Ok(Self {
            key_pem: key.serialize_pem(),
            parameters,
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
        })
    }

    fn issuer(&self) -> anyhow::Result<Issuer<'static, KeyPair>> {
        Ok(Issuer::new(self.parameters.clone(), KeyPair::from_pem(&self.key_pem)?))
    }

    fn tls(&self) -> anyhow::Result<ServerTlsConfig> {
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &self.issuer()?)?;
        Ok(ServerTlsConfig::new()
            .identity(Identity::from_pem(leaf.pem(), key.serialize_pem()))
            .client_ca_root(Certificate::from_pem(&self.pem))
            .client_auth_optional(true))
    }
}

/// A running one, for one sidecar.
pub(crate) struct Controller {
    pushes: mpsc::Sender<Push>,
    said: Arc<Mutex<Option<Said>>>,
}

/// What a sidecar said last of what it can promise.
type Said = (Capability, BTreeSet<Weakness>);

struct Push {
    program: Program,
    answer: blocking::Sender<ProgramResult>,
}

impl Controller {
    /// Listens at the node on that port.
    pub(crate) fn start(ground: &Ground, authority: &Authority, port: u16) -> anyhow::Result<Self> {
        let (pushes, inbox) = mpsc::channel(1);
        let said = Arc::default();
        let script = Script {
            issuer: authority.issuer()?,
            ca_der: authority.der.clone(),
            inbox: Arc::new(tokio::sync::Mutex::new(inbox)),
            said: Arc::clone(&said),
        };
        let tls = authority.tls()?;
        let (ready, is_ready) = blocking::channel();
        ground.node.run_aside(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let served = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
                runtime.block_on(async {
                    let listener = TcpListener::bind((NODE.v4, port)).await?;
                    let mut server = Server::builder().tls_config(tls)?;
                    let _ = ready.send(());
                    server
                        .add_service(SidecarsServer::new(script))
                        .serve_with_incoming(TcpListenerStream::new(listener))
                        .await?;
                    Ok(())
                })
            });
            if let Err(error) = served {
                eprintln!("the scripted controller ended: {error}");
            }
        })?;
        is_ready.recv().context("the scripted controller does not listen")?;
        Ok(Self { pushes, said })
    }

    /// Sends a program and waits until the sidecar says that it is in force.
    pub(crate) fn push(&self, program: Program) -> anyhow::Result<Duration> {
        let (revision, started) = (program.revision, Instant::now());
        let (answer, answered) = blocking::channel();
        self.pushes.blocking_send(Push { program, answer }).ok().context("the scripted controller ended")?;
        let result = answered.recv_timeout(PATIENCE).context("no sidecar took the program")?;
        ensure!(result.error.is_none() && result.revision == revision, "program {revision}: {result:?}");
        Ok(started.elapsed())
    }

    /// Sends a program that the sidecar must refuse; gives its reason.
    pub(crate) fn push_in_vain(&self, program: Program) -> anyhow::Result<String> {
        let (answer, answered) = blocking::channel();
        self.pushes.blocking_send(Push { program, answer }).ok().context("the scripted controller ended")?;
        let result = answered.recv_timeout(PATIENCE).context("no sidecar answered")?;
        result.error.context("the program was taken")
    }

    /// What the sidecar reported last that it can promise; waits for its first report.
    pub(crate) fn said(&self) -> anyhow::Result<Said> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(said) = &*self.said.lock().expect("no panic while held") {
                return Ok(said.clone());
            }
            ensure!(Instant::now() < deadline, "no sidecar attached");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Script {
    issuer: Issuer<'static, KeyPair>,
    ca_der: Vec<u8>,
    inbox: Arc<tokio::sync::Mutex<mpsc::Receiver<Push>>>,
    said: Arc<Mutex<Option<Said>>>,
}

#[tonic::async_trait]
impl Sidecars for Script {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        if request.token != TOKEN {
            return Err(Status::unauthenticated("token not good"));
        }
        let invalid = |error: rcgen::Error| Status::invalid_argument(error.to_string());
        let csr = CertificateSigningRequestParams::from_der(&request.csr.into()).map_err(invalid)?;
        let leaf = csr.signed_by(&self.issuer).map_err(invalid)?;
        let day = SystemTime::now() + Duration::from_secs(86_400);
        let not_after = day.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Response::new(v1::EnrollResponse {
            chain: vec![leaf.der().to_vec()],
            ca: self.ca_der.clone(),
            not_after_ms: u64::try_from(not_after.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    type AttachStream = ReceiverStream<Result<v1::ToSidecar, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::FromSidecar>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if request.peer_certs().is_none() {
            return Err(Status::unauthenticated("no client certificate"));
        }
        let (down, messages) = mpsc::channel(16);
        let (inbox, said) = (self.inbox.clone(), self.said.clone());
        tokio::spawn(converse(request.into_inner(), down, inbox, said));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// Programs down, acknowledgements both ways, until the sidecar goes.
async fn converse(
    mut up: Streaming<v1::FromSidecar>,
    down: mpsc::Sender<Result<v1::ToSidecar, Status>>,
    inbox: Arc<tokio::sync::Mutex<mpsc::Receiver<Push>>>,
    said: Arc<Mutex<Option<Said>>>,
) {
    let mut inbox = inbox.lock().await;
    let (mut nonce, mut unanswered) = (0, None);
    loop {
        let reply = tokio::select! {
            push = inbox.recv(), if unanswered.is_none() => {
                let Some(push) = push else { return };
                nonce += 1;
                unanswered = Some(push.answer);
                ControllerMessage::Program { nonce, program: Box::new(push.program) }
            }
            message = up.message() => {
                let Ok(Some(message)) = message else { return };
                match SidecarMessage::try_from(message) {
                    Ok(SidecarMessage::Flows(batch)) => ControllerMessage::FlowAck { sequence: batch.sequence },
                    Ok(SidecarMessage::Result(result)) => {
                        if let Some(answer) = unanswered.take() {
                            let _ = answer.send(result);
                        }
                        continue;
                    }
                    Ok(SidecarMessage::Hello(_)) => continue,
                    Ok(SidecarMessage::Report(report)) => {
                        *said.lock().expect("no panic while held") = Some((report.capability, report.weaknesses));
                        continue;
                    }
                    Err(error) => {
                        eprintln!("a sidecar said what makes no sense: {error}");
                        return;
                    }
                }
            }
        };
        if down.send(Ok((&reply).into())).await.is_err() {
            return;
        }
    }
}

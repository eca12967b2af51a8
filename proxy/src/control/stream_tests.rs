//! The control connection against a controller that follows a script: the real protocol over real TLS.

use super::test_directory::TestDirectory;
use super::*;
use crate::enforcement::{self, Pulse, Table};
use crate::flows::Observation;
use crate::posture::Posture;
use crate::test_program;
use bulkhead_api::v1::sidecars_server::{Sidecars, SidecarsServer};
use bulkhead_api::{Capability, v1};
use bulkhead_api::{ControllerMessage, ProgramResult, SidecarMessage};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{AnswerId, Program};
use rcgen::{CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate as PemCertificate, Identity as PemIdentity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

const NAME: &str = "bulkhead-controller";
const TOKEN: &str = "good-once";
const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

/// A stream that a sidecar opened, as the test sees it.
struct AttachedStream {
    up: Streaming<v1::FromSidecar>,
    down: mpsc::Sender<Result<v1::ToSidecar, Status>>,
}

impl AttachedStream {
    async fn hear(&mut self) -> SidecarMessage {
        let message = self.up.message().await.expect("the stream lives").expect("a message");
        SidecarMessage::try_from(message).expect("a message that makes sense")
    }

    /// The next message that is neither a report nor a batch of nothing.
    async fn hear_result(&mut self) -> ProgramResult {
        loop {
            if let SidecarMessage::Result(result) = self.hear().await {
                return result;
            }
        }
    }

    async fn hear_flows(&mut self) -> bulkhead_api::FlowBatch {
        loop {
            if let SidecarMessage::Flows(batch) = self.hear().await {
                return batch;
            }
        }
    }

    async fn say(&self, message: ControllerMessage) {
        self.say_raw((&message).into()).await;
    }

    async fn say_raw(&self, message: v1::ToSidecar) {
        self.down.send(Ok(message)).await.expect("the sidecar listens");
    }

    async fn push(&mut self, nonce: u64, program: Program) -> ProgramResult {
        self.say(ControllerMessage::Program { nonce, program: Box::new(program) }).await;
        self.hear_result().await
    }
}

/// The controller's service; what it does with an enrolment is scripted.
struct Script {
    issuer: Issuer<'static, KeyPair>,
    ca_der: Vec<u8>,
    life_ms: u64,
    tokens_left: Mutex<Vec<&'static str>>,
    enrolments: Arc<AtomicUsize>,
    attached: mpsc::Sender<AttachedStream>,
}

#[tonic::async_trait]
impl Sidecars for Script {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let renewal = request.peer_certs().is_some();
        let request = request.into_inner();
        if !renewal {
            let mut tokens = self.tokens_left.lock().expect("no panic");
            let position = tokens.iter().position(|token| *token == request.token);
            tokens.remove(position.ok_or_else(|| Status::unauthenticated("token not good"))?);
        }
        self.enrolments.fetch_add(1, Ordering::SeqCst);
        let csr = CertificateSigningRequestParams::from_der(&request.csr.into())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let leaf = csr.signed_by(&self.issuer).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::EnrollResponse {
            chain: vec![leaf.der().to_vec()],
            ca: self.ca_der.clone(),
            not_after_ms: clock::unix_ms() + self.life_ms,
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
        let stream = AttachedStream { up: request.into_inner(), down };
        self.attached.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

struct NoKernel;

impl Table for NoKernel {
    type Error = std::io::Error;

    fn apply(&mut self, judge: &Arc<Judge>) -> std::io::Result<u16> {
        match judge.program().revision {
            13 => Err(std::io::Error::other("no room for more elements")),
            revision => Ok(u16::try_from(revision).unwrap_or(1)),
        }
    }

    fn heartbeat(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn restore_if_changed(&mut self) -> std::io::Result<Option<String>> {
        Ok(None)
    }

    fn collect(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A certificate authority that a controller and its sidecars trust.
struct Authority {
    key_pem: String,
    parameters: CertificateParams,
    pem: String,
    der: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("key");
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).expect("sign");
        Self {
            key_pem: key.serialize_pem(),
            parameters,
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
        }
    }

    fn issuer(&self) -> Issuer<'static, KeyPair> {
        Issuer::new(self.parameters.clone(), KeyPair::from_pem(&self.key_pem).expect("key"))
    }

    fn server_identity(&self) -> PemIdentity {
        let key = KeyPair::generate().expect("key");
        let parameters = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        let leaf = parameters.signed_by(&key, &self.issuer()).expect("sign");
        PemIdentity::from_pem(leaf.pem(), key.serialize_pem())
    }
}

/// A scripted controller on a port of its own.
struct Controller {
    address: SocketAddr,
    attached: mpsc::Receiver<AttachedStream>,
    enrolments: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

async fn controller(authority: &Authority, port: u16, life_ms: u64) -> Controller {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a port");
    let address = listener.local_addr().expect("address");
    let (attached, streams) = mpsc::channel(4);
    let enrolments = Arc::new(AtomicUsize::new(0));
    let script = Script {
        issuer: authority.issuer(),
        ca_der: authority.der.clone(),
        life_ms,
        tokens_left: Mutex::new(vec![TOKEN]),
        enrolments: enrolments.clone(),
        attached,
    };
    let tls = ServerTlsConfig::new()
        .identity(authority.server_identity())
        .client_ca_root(PemCertificate::from_pem(&authority.pem))
        .client_auth_optional(true);
    let server = tokio::spawn(async move {
        Server::builder()
            .tls_config(tls)
            .expect("TLS")
            .add_service(SidecarsServer::new(script))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .expect("serve");
    });
    Controller { address, attached: streams, enrolments, server }
}

impl Controller {
    async fn next_stream(&mut self) -> AttachedStream {
        self.attached.recv().await.expect("a sidecar attaches")
    }

    /// Stops at once, as if killed: listener and connections go.
    async fn kill(self) -> u16 {
        self.server.abort();
        let _ = self.server.await;
        self.address.port()
    }
}

/// A control connection with nothing behind it but the enforcement thread.
struct Sidecar {
    state: TestDirectory,
    stage: watch::Sender<Stage>,
    enforcement: Enforcement,
    recorder: Arc<Recorder>,
    metrics: Arc<Metrics>,
    task: JoinHandle<Result<(), ControlError>>,
}

fn sidecar(authority: &Authority, controller: SocketAddr, token: &str) -> Sidecar {
    let state = TestDirectory::new();
    std::fs::write(state.path().join("token"), token).expect("write");
    start_sidecar(authority, controller, state)
}

fn start_sidecar(authority: &Authority, controller: SocketAddr, state: TestDirectory) -> Sidecar {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let recorder = Arc::new(Recorder::new(metrics.clone()));
    let (enforcement, _thread) =
        enforcement::start(NoKernel, Pulse::default(), metrics.clone()).expect("thread");
    let (stage, stages) = watch::channel(Stage::Serving);
    let control = Control {
        transport: Transport {
            controller,
            name: NAME.try_into().expect("a name"),
            roots: Arc::new(read_roots(authority.pem.as_bytes()).expect("roots")),
            dial: Arc::new(|address| Box::pin(TcpStream::connect(address))),
        },
        state: state.path().to_owned(),
        token_file: Some(state.path().join("token")),
        posture: Posture::new(Capability::Enforced, metrics.clone()),
        enforcement: enforcement.clone(),
        recorder: recorder.clone(),
        last_good: LastGood::within(state.path()),
        metrics: metrics.clone(),
        stage: stages,
    };
    Sidecar { state, stage, enforcement, recorder, metrics, task: tokio::spawn(control.run()) }
}

fn see_connection(recorder: &Recorder) {
    let judge = Judge::new(test_program::allowing_egress_to(DATABASE, 1)).expect("valid");
    let observation = Observation {
        direction: Direction::Egress,
        peer: DATABASE.into(),
        local: Ipv4Addr::new(10, 0, 0, 7).into(),
        protocol: L4Protocol::TCP,
        port: 5432,
        http: None,
        request: None,
        application: "",
        answers: judge.answer(AnswerId(1)),
        bytes_to_destination: 1,
        bytes_to_source: 1,
        sender_uid: None,
        count: 1,
        report_id: None,
        endpoint: None,
    };
    recorder.record(&judge, observation);
}

const DAY_MS: u64 = 86_400_000;

#[tokio::test]
async fn a_sidecar_enrols_attaches_and_acknowledges_a_program() {
    let authority = Authority::new();
    let mut controller = controller(&authority, 0, DAY_MS).await;
    let sidecar = sidecar(&authority, controller.address, TOKEN);
    let mut stream = controller.next_stream().await;
    let SidecarMessage::Hello(hello) = stream.hear().await else { panic!("hello is first") };
    assert_eq!((hello.revision, hello.capability), (0, Capability::Enforced));

    let program = test_program::allowing_egress_to(DATABASE, 4);
    let result = stream.push(77, program.clone()).await;
    assert_eq!(result, ProgramResult { nonce: 77, revision: 4, error: None });
    assert_eq!(sidecar.enforcement.revision(), 4);
    assert_eq!(LastGood::within(sidecar.state.path()).read().expect("read"), Some(program));
}

#[tokio::test]
async fn a_program_that_is_not_valid_is_refused_and_the_last_good_one_stays() {
    let authority = Authority::new();
    let mut controller = controller(&authority, 0, DAY_MS).await;
    let sidecar = sidecar(&authority, controller.address, TOKEN);
    let mut stream = controller.next_stream().await;
    stream.push(1, test_program::allowing_nothing(5)).await;

    let mut without_answers = test_program::allowing_nothing(6);
    without_answers.answers.clear();
    let result = stream.push(2, without_answers).await;
    assert_eq!((result.nonce, result.revision), (2, 5));
    assert!(result.error.expect("refused").contains("no answer 0"));

    let unknown_reason =
        v1::Program { mode: "lenient".to_owned(), ..(&test_program::allowing_nothing(7)).into() };
    let update = v1::ProgramUpdate { nonce: 3, program: Some(unknown_reason) };
    stream.say_raw(v1::ToSidecar { message: Some(v1::to_sidecar::Message::Program(update)) }).await;
    let result = stream.hear_result().await;
    assert_eq!((result.nonce, result.revision), (3, 5));
    assert!(result.error.expect("refused").contains("lenient"));

    let result = stream.push(4, test_program::allowing_nothing(13)).await;
    assert!(result.error.expect("refused by the kernel").contains("no room"));
    assert_eq!(sidecar.enforcement.revision(), 5);
    assert_eq!(sidecar.metrics.programs_refused.get(), 3);
    let kept = LastGood::within(sidecar.state.path()).read().expect("read").expect("there");
    assert_eq!(kept.revision, 5);
}

#[tokio::test]
async fn flows_are_sent_again_until_they_are_acknowledged() {
    let authority = Authority::new();
    let mut first = controller(&authority, 0, DAY_MS).await;
    let sidecar = sidecar(&authority, first.address, TOKEN);
    let mut stream = first.next_stream().await;
    see_connection(&sidecar.recorder);
    let batch = stream.hear_flows().await;
    assert_eq!((batch.sequence, batch.flows.len()), (1, 1));
    drop(stream);
    let port = first.kill().await;

    let mut second = controller(&authority, port, DAY_MS).await;
    let mut stream = second.next_stream().await;
    assert_eq!(stream.hear_flows().await, batch);
    stream.say(ControllerMessage::FlowAck { sequence: 1 }).await;
    see_connection(&sidecar.recorder);
    assert_eq!(stream.hear_flows().await.sequence, 2);
    assert_eq!(second.enrolments.load(Ordering::SeqCst), 0, "enrolled a second time");
}

#[tokio::test]
async fn a_token_is_used_once_and_the_certificate_survives_a_restart() {
    let authority = Authority::new();
    let mut controller = controller(&authority, 0, DAY_MS).await;
    let first = sidecar(&authority, controller.address, TOKEN);
    drop(controller.next_stream().await);
    first.task.abort();
    let again = start_sidecar(&authority, controller.address, first.state);
    let mut stream = controller.next_stream().await;
    assert!(matches!(stream.hear().await, SidecarMessage::Hello(_)));
    assert_eq!(controller.enrolments.load(Ordering::SeqCst), 1);
    assert!(!again.task.is_finished());
}

#[tokio::test]
async fn a_certificate_past_two_thirds_of_its_life_is_renewed_without_a_token() {
    let authority = Authority::new();
    let mut controller = controller(&authority, 0, DAY_MS).await;
    let state = TestDirectory::new();
    let now_ms = clock::unix_ms();
    let roots = read_roots(authority.pem.as_bytes()).expect("roots");
    let mut identity = Identity::open(state.path(), &roots).expect("open");
    let request = identity.request().expect("request").into();
    let request = CertificateSigningRequestParams::from_der(&request).expect("a request");
    let leaf = request.signed_by(&authority.issuer()).expect("sign");
    let chain = vec![leaf.der().to_vec()];
    let old = v1::EnrollResponse { chain, ca: authority.der.clone(), not_after_ms: now_ms + DAY_MS };
    identity.adopt(&old, now_ms - 3 * DAY_MS).expect("adopt");

    let sidecar = start_sidecar(&authority, controller.address, state);
    assert!(matches!(controller.next_stream().await.hear().await, SidecarMessage::Hello(_)));
    assert_eq!(controller.enrolments.load(Ordering::SeqCst), 1);
    let renewed = Identity::open(sidecar.state.path(), &roots).expect("open");
    assert!(renewed.certificate().expect("certificate").renewal_due_ms() > now_ms);
}

#[tokio::test]
async fn a_controller_of_another_authority_gets_neither_token_nor_flows() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut controller = controller(&theirs, 0, DAY_MS).await;
    let transport = Transport {
        controller: controller.address,
        name: NAME.try_into().expect("a name"),
        roots: Arc::new(read_roots(ours.pem.as_bytes()).expect("roots")),
        dial: Arc::new(|address| Box::pin(TcpStream::connect(address))),
    };
    let error = transport.connect(None).await.map(drop).expect_err("a stranger was believed");
    assert!(matches!(error, ControlError::Handshake { .. }), "{error}");

    let sidecar = sidecar(&ours, controller.address, TOKEN);
    see_connection(&sidecar.recorder);
    let attached = timeout(Duration::from_millis(400), controller.attached.recv()).await;
    assert!(attached.is_err(), "attached to a stranger");
    assert_eq!(controller.enrolments.load(Ordering::SeqCst), 0);
    assert!(sidecar.recorder.has_pending() && !sidecar.task.is_finished());
}

#[tokio::test]
async fn the_last_flows_are_reported_before_the_end() {
    let authority = Authority::new();
    let mut controller = controller(&authority, 0, DAY_MS).await;
    let sidecar = sidecar(&authority, controller.address, TOKEN);
    let mut stream = controller.next_stream().await;
    assert!(matches!(stream.hear().await, SidecarMessage::Hello(_)));
    see_connection(&sidecar.recorder);
    sidecar.stage.send_replace(Stage::Ending);
    let batch = stream.hear_flows().await;
    stream.say(ControllerMessage::FlowAck { sequence: batch.sequence }).await;
    sidecar.task.await.expect("no panic").expect("a good end");
    assert!(!sidecar.recorder.has_pending());
}

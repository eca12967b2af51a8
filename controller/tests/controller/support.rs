//! A controller with folders of its own, a sidecar that speaks for one pod, and a client of the HTTP API.

use bulkhead_api::rest::{JoinToken, Status};
use bulkhead_api::v1::sidecars_client::SidecarsClient;
use bulkhead_api::{
    Capability, ControllerMessage, Flow, FlowBatch, Hello, ProgramResult, SidecarMessage, v1,
};
use bulkhead_controller::app::App;
use bulkhead_controller::config::Config;
use bulkhead_policies::program::Program;
use clap::Parser;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status as Refusal, Streaming};

/// Longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const COLLECTION: &str = "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {name: shop}\nspec: {covers: \
    {namespaces: {name: shop}}, default: deny, mode: MODE}\n";

/// A controller and its folders.
pub struct Controller {
    folder: TempDir,
    place: Place,
    running: Option<Running>,
    pub sidecars: SocketAddr,
    pub http: SocketAddr,
    pub metrics: SocketAddr,
}

/// Where a controller runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this process: stopped by draining.
    Here,
    /// In a process of its own: stopped by kill -9.
    Process,
}

enum Running {
    Here(App),
    Process(Child),
}

impl Controller {
    /// Starts here, with a collection in that mode and the inventory of a shop of three pods.
    pub async fn start(mode: &str) -> Self {
        Self::start_at(Place::Here, mode).await
    }

    /// Starts here or in a process of its own.
    pub async fn start_at(place: Place, mode: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["policies", "inventory"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        fs::write(folder.path().join("policies/collection.yaml"), COLLECTION.replace("MODE", mode))
            .expect("written");
        fs::write(folder.path().join("inventory/cluster.yaml"), inventory()).expect("written");
        let mut controller =
            Self { folder, place, running: None, sidecars: none(), http: none(), metrics: none() };
        controller.run().await;
        controller
    }

    /// Ends it and starts it again on the same folders.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    /// Ends it: gently here, with kill -9 elsewhere.
    pub async fn stop(&mut self) {
        match self.running.take() {
            Some(Running::Here(app)) => app.shutdown().await,
            Some(Running::Process(mut child)) => {
                child.kill().expect("killed");
                child.wait().expect("gone");
            }
            None => {}
        }
    }

    async fn run(&mut self) {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let flags = [
            format!("--state={}", path("state")),
            format!("--policies={}", path("policies")),
            format!("--inventory={}", path("inventory")),
            "--listen-sidecars=127.0.0.1:0".to_owned(),
            "--listen-http=127.0.0.1:0".to_owned(),
            "--listen-metrics=127.0.0.1:0".to_owned(),
        ];
        match self.place {
            Place::Here => self.run_here(&flags).await,
            Place::Process => self.run_process(&flags),
        }
        self.until(|status| status.inventory.pods == 3).await;
    }

    async fn run_here(&mut self, flags: &[String]) {
        let config = Config::try_parse_from([&["controller".to_owned()], flags].concat()).expect("flags");
        config.check().expect("a good configuration");
        let app = App::start(config).await.expect("starts");
        (self.sidecars, self.http, self.metrics) = (app.sidecars, app.http, app.metrics);
        self.running = Some(Running::Here(app));
    }

    /// A line of the log tells the ports.
    fn run_process(&mut self, flags: &[String]) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bulkhead-controller"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
        // Held before anything can fail, so that it is killed then too.
        self.running = Some(Running::Process(child));
        let started =
            log.by_ref().map(|line| line.expect("text")).find(|line| line.contains("controller started"));
        let started = started.expect("it started");
        let port = |name: &str| {
            let value = started.split_whitespace().find_map(|word| word.strip_prefix(name));
            value.unwrap_or_else(|| panic!("no `{name}` in `{started}`")).parse().expect("an address")
        };
        (self.sidecars, self.http, self.metrics) = (port("sidecars="), port("http="), port("metrics="));
        // A pipe that nobody reads would fill up and hold the process.
        std::thread::spawn(move || log.for_each(drop));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a policy file.
    pub fn write_policy(&self, name: &str, text: &str) {
        fs::write(self.path("policies").join(name), text).expect("written");
    }

    pub fn admin_token(&self) -> String {
        fs::read_to_string(self.path("state/admin.token")).expect("there").trim().to_owned()
    }

    pub fn ca(&self) -> String {
        fs::read_to_string(self.path("state/ca.pem")).expect("there")
    }

    /// Asks for the status until it is as expected.
    pub async fn until(&self, expected: impl Fn(&Status) -> bool) -> Status {
        let asked = async {
            loop {
                let status: Status = self.get("/api/v1/status").await;
                if expected(&status) {
                    return status;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, asked).await.expect("the status in time")
    }

    /// A GET that must succeed.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.request("GET", path, "", Some(&self.admin_token())).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// A POST with its status.
    pub async fn post(&self, path: &str, body: &str) -> (u16, String) {
        self.request("POST", path, body, Some(&self.admin_token())).await
    }

    /// Any request.
    pub async fn request(&self, method: &str, path: &str, body: &str, token: Option<&str>) -> (u16, String) {
        let length = body.len();
        let authorization =
            token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: controller\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{authorization}\r\n{body}"
        ))
        .await
    }

    /// These bytes over TLS, and what comes back until the end.
    pub async fn raw(&self, bytes: &str) -> (u16, String) {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca().as_bytes()).expect("PEM")).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.http).await.expect("connects");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
        stream.write_all(bytes.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// What the metrics port says.
    pub async fn metrics_text(&self) -> String {
        let mut stream = TcpStream::connect(self.metrics).await.expect("connects");
        let request = b"GET /metrics HTTP/1.1\r\nhost: controller\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    pub async fn join_token(&self, uid: &str) -> String {
        let (status, body) = self.post("/api/v1/join-tokens", &format!("{{\"uid\":\"{uid}\"}}")).await;
        assert_eq!(status, 201, "{body}");
        serde_json::from_str::<JoinToken>(&body).expect("a token").token
    }

    /// A channel to the sidecars' port, with a certificate or without.
    pub async fn channel(&self, identity: Option<&Enrolled>) -> Channel {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.ca())).domain_name("127.0.0.1");
        if let Some(enrolled) = identity {
            tls = tls.identity(Identity::from_pem(&enrolled.certificate, enrolled.key.serialize_pem()));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.sidecars)).expect("an address");
        endpoint.tls_config(tls).expect("TLS").connect().await.expect("connects")
    }

    /// Enrols with that token.
    pub async fn enrol(&self, token: &str) -> Result<Enrolled, Refusal> {
        self.enrol_over(self.channel(None).await, token).await
    }

    /// Enrols over that channel; without a token, its certificate counts.
    pub async fn enrol_over(&self, channel: Channel, token: &str) -> Result<Enrolled, Refusal> {
        self.enrol_key(channel, token, KeyPair::generate().expect("a key")).await
    }

    /// Enrols a key that is there already.
    pub async fn enrol_key(&self, channel: Channel, token: &str, key: KeyPair) -> Result<Enrolled, Refusal> {
        let csr = CertificateParams::default().serialize_request(&key).expect("a request").der().to_vec();
        let request = v1::EnrollRequest { token: token.to_owned(), csr };
        let response = SidecarsClient::new(channel).enroll(request).await?.into_inner();
        let certificate = pem(&response.chain[0]);
        Ok(Enrolled { key, certificate, not_after_ms: response.not_after_ms })
    }

    /// Enrols and attaches the sidecar of that pod.
    pub async fn sidecar(&self, uid: &str) -> Sidecar {
        let token = self.join_token(uid).await;
        let enrolled = self.enrol(&token).await.expect("enrolled");
        self.attach(&enrolled, &format!("first run of {uid}")).await.expect("attached")
    }

    /// Attaches with a certificate.
    pub async fn attach(&self, enrolled: &Enrolled, instance: &str) -> Result<Sidecar, Refusal> {
        attach_over(self.channel(Some(enrolled)).await, instance).await
    }
}

/// A key and its certificate.
pub struct Enrolled {
    pub key: KeyPair,
    pub certificate: String,
    pub not_after_ms: u64,
}

/// A stream that is open.
pub struct Sidecar {
    up: mpsc::Sender<v1::FromSidecar>,
    down: Streaming<v1::ToSidecar>,
}

/// Opens a stream and says hello, without a program.
pub async fn attach_over(channel: Channel, instance: &str) -> Result<Sidecar, Refusal> {
    attach_with(channel, instance, 0).await
}

/// Opens a stream and says hello, with a program of that revision.
pub async fn attach_with(channel: Channel, instance: &str, revision: u64) -> Result<Sidecar, Refusal> {
    let (up, messages) = mpsc::channel(16);
    let hello = Hello {
        version: "test".into(),
        revision,
        capability: Capability::Enforced,
        instance: instance.into(),
    };
    up.send((&SidecarMessage::Hello(hello)).into()).await.expect("room");
    let attached = SidecarsClient::new(channel).attach(Request::new(ReceiverStream::new(messages))).await?;
    Ok(Sidecar { up, down: attached.into_inner() })
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(Running::Process(child)) = &mut self.running {
            // It may have ended by itself; a test that failed already says why.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Sidecar {
    pub async fn say(&self, message: SidecarMessage) {
        self.up.send((&message).into()).await.expect("the stream is open");
    }

    /// The next message, or how the stream ended.
    pub async fn hear(&mut self) -> Result<ControllerMessage, Refusal> {
        let next = timeout(PATIENCE, self.down.message()).await.expect("a message in time")?;
        let message = next.ok_or_else(|| Refusal::cancelled("the controller ended the stream"))?;
        Ok(message.try_into().expect("a good message"))
    }

    /// The next program, which is acknowledged.
    pub async fn program(&mut self) -> Program {
        let (nonce, program) = self.unanswered_program().await;
        self.answer(nonce, program.revision, None).await;
        program
    }

    /// The next program.
    pub async fn unanswered_program(&mut self) -> (u64, Program) {
        match self.hear().await.expect("a program") {
            ControllerMessage::Program { nonce, program } => (nonce, *program),
            other @ ControllerMessage::FlowAck { .. } => panic!("no program: {other:?}"),
        }
    }

    pub async fn answer(&self, nonce: u64, revision: u64, error: Option<&str>) {
        let error = error.map(ToOwned::to_owned);
        self.say(SidecarMessage::Result(ProgramResult { nonce, revision, error })).await;
    }

    /// Sends a batch and waits for its acknowledgement.
    pub async fn report(&mut self, sequence: u64, flows: Vec<Flow>) {
        self.say(SidecarMessage::Flows(FlowBatch { sequence, flows, dropped: 0 })).await;
        let acknowledged = self.hear().await.expect("an acknowledgement");
        assert_eq!(acknowledged, ControllerMessage::FlowAck { sequence });
    }

    /// Sends a batch; true if it was acknowledged, false if the stream ended before.
    pub async fn try_report(&mut self, sequence: u64, flows: Vec<Flow>) -> bool {
        let message = SidecarMessage::Flows(FlowBatch { sequence, flows, dropped: 0 });
        if self.up.send((&message).into()).await.is_err() {
            return false;
        }
        match self.hear().await {
            Ok(ControllerMessage::FlowAck { sequence: acknowledged }) => acknowledged == sequence,
            Ok(ControllerMessage::Program { .. }) | Err(_) => false,
        }
    }

    /// True if nothing comes for a while.
    pub async fn silence(&mut self) -> bool {
        timeout(Duration::from_millis(300), self.down.message()).await.is_err()
    }
}

fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bytes = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let number = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for position in 0..4 {
            let index = (number >> (18 - 6 * position)) & 63;
            text.push(if position > chunk.len() { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn none() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

/// A namespace with `web`, `db` and `cache`, one pod each, as `kubectl get -o yaml` prints them.
fn inventory() -> String {
    let mut text = String::from(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {kubernetes.io/metadata.name: shop}}\n",
    );
    for (name, address) in [("web", "10.0.0.1"), ("db", "10.0.0.2"), ("cache", "10.0.0.3")] {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}-0\n  namespace: shop\n  uid: uid-{name}\n  labels: \
             {{app: {name}}}\n  ownerReferences: [{{kind: StatefulSet, name: {name}, apiVersion: apps/v1, controller: \
             true, uid: o-{name}}}]\nspec: {{serviceAccountName: {name}, nodeName: one, containers: []}}\nstatus: {{phase: \
             Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}\n"
        ));
    }
    text
}

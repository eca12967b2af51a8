//! Clients and servers of HTTP/2 that others wrote, with sessions between them: curl, nghttp, Node, Go, nginx.
//!
//! What is not installed is named, counted as skipped, and left out. `deploy/tools.sh lab` installs them and builds the
//! one of Go.

use super::h2spec::front;
use super::programs::free_address;
use super::{Hold, Lab};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// What a whole conversation of the clients of Node and Go comes to, through a session.
const TALK: &str = "get 200 0 0 0 -
denied 403 denied -
mixed 20 10
upload 200 10485760 1268776960 0 -
download 200 10485760 -
denied upload 403 denied -
large 200 0 0 12000 -
trailers 200 4 430 0 end
last 200 0 0 0 -
gone away
";

/// A program of others that runs until it is dropped, and its log.
struct Peer {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    async fn start(name: &str) -> Option<Self> {
        let (folder, address) = (tempfile::tempdir().expect("a folder"), free_address().await);
        let port = address.port().to_string();
        let mut command = match name {
            "nginx" => {
                let file = folder.path().join("nginx.conf");
                std::fs::write(&file, nginx(folder.path(), address)).expect("a file");
                let mut command = Command::new("nginx");
                command.arg("-p").arg(folder.path()).arg("-c").arg(file);
                command
            }
            name => {
                let mut command = program(name)?;
                command.args(["server", &port]);
                command
            }
        };
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let started = command.stdout(log).stderr(Stdio::null()).spawn();
        let Ok(child) = started else {
            eprintln!("skipped: {name} is not installed; run deploy/tools.sh lab");
            return None;
        };
        let peer = Self { child, address, folder };
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return Some(peer);
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{name} does not listen");
    }

    /// The requests that it read.
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }
}

/// Node with our script, or the program of Go.
fn program(name: &str) -> Option<Command> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if name == "node" {
        let mut command = Command::new(name);
        command.arg(here.join("src/session/tests/peers/http2.js"));
        return Some(command);
    }
    let built: PathBuf = here.join("../target/tools/http2-peer");
    if !built.is_file() {
        eprintln!("skipped: http2-peer is not here; `deploy/tools.sh h2spec` builds it with Go");
        return None;
    }
    Some(Command::new(built))
}

fn nginx(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error;
        events {{}}
        http {{
            access_log {folder}/log;
            client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
            uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; client_max_body_size 0;
            log_format read 'READ $request_method $request_uri';
            server {{ listen {address} http2; access_log {folder}/log read; location / {{ return 200 'ok'; }} }}
        }}"
    )
}

/// Standard output of a client, which has to end soon. `None` where it is not installed.
async fn output(mut command: Command) -> Option<String> {
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(Duration::from_secs(60), run).await.expect("an end in time");
    let output = output.expect("no panic").ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_and_go_talk_http2_through_a_session_whichever_of_them_is_the_server() {
    for server in ["node", "go"] {
        let Some(peer) = Peer::start(server).await else { continue };
        let lab = Arc::new(Lab::inbound(Hold::Gate, peer.address));
        let entrance = front(lab).await;
        for client in ["node", "go"] {
            let Some(mut command) = program(client) else { continue };
            command.args(["client", &entrance.port().to_string()]);
            let Some(talk) = output(command).await else { continue };
            assert_eq!(talk, TALK, "{client} to {server}");
        }
        assert!(peer.log().contains("READ POST /ok/up"), "{}", peer.log());
        assert!(!peer.log().contains("/no"), "{}", peer.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_nghttp_are_refused_on_one_stream_while_others_go_on() {
    for server in ["nginx", "node", "go"] {
        let Some(peer) = Peer::start(server).await else { continue };
        let lab = Arc::new(Lab::inbound(Hold::Gate, peer.address));
        let base = format!("http://{}", front(lab).await);
        let folder = tempfile::tempdir().expect("a folder");
        let upload = folder.path().join("upload");
        std::fs::write(&upload, vec![b'y'; 10 << 20]).expect("a file");
        assert_curl(server, &base, &upload).await;
        assert_nghttp(server, &base).await;
        let (log, read) = (peer.log(), peer.log().lines().filter(|line| line.contains("READ")).count());
        assert!(!log.contains("/no"), "{server}: {log}");
        assert!(read >= 6, "{server} read {read}: {log}");
    }
}

async fn assert_curl(server: &str, base: &str, upload: &Path) {
    let curl = || {
        let mut command = Command::new("curl");
        command.args(["--silent", "--http2-prior-knowledge", "--max-time", "30"]);
        command.args(["--output", "/dev/null", "--write-out", "%{http_version} %{response_code}\n"]);
        command
    };
    // This version of curl cannot use a connection of HTTP/2 again when it knew of that beforehand.
    for (path, status) in [("ok/1", "2 200\n"), ("no/1", "2 403\n"), ("ok/2", "2 200\n")] {
        let mut one = curl();
        one.arg(format!("{base}/{path}"));
        let Some(text) = output(one).await else {
            eprintln!("skipped: curl is not installed; run deploy/tools.sh lab");
            return;
        };
        assert_eq!(text, status, "curl with {path} to {server}");
    }
    let file = format!("@{}", upload.display());
    // This curl loses every answer that comes while it sends much: that of an nginx which does not look at the body, too.
    let all = [("ok/up", file.as_str(), "2 200\n"), ("no/up", "a=b", "2 403\n")];
    for (path, body, status) in all.into_iter().skip(usize::from(server == "nginx")) {
        let mut one = curl();
        one.args(["--data-binary", body]).arg(format!("{base}/{path}"));
        assert_eq!(output(one).await.as_deref(), Some(status), "curl with {path} to {server}");
    }
    let mut large = curl();
    large.arg("--header").arg(format!("x-large: {}", "z".repeat(6_000))).arg(format!("{base}/ok/large"));
    assert_eq!(output(large).await.as_deref(), Some("2 200\n"), "curl with a large field to {server}");
}

async fn assert_nghttp(server: &str, base: &str) {
    let mut command = Command::new("nghttp");
    command.args(["--null-out", "--stat", "--no-dep", "--trailer", "x-end: end", "--data"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    for path in ["ok/1", "no/1", "ok/2", "no/2", "ok/3"] {
        command.arg(format!("{base}/{path}"));
    }
    let Some(text) = output(command).await else {
        eprintln!("skipped: nghttp is not installed; run deploy/tools.sh peers");
        return;
    };
    let count = |status: &str| {
        text.lines().filter(|line| line.split_ascii_whitespace().any(|word| word == status)).count()
    };
    assert_eq!((count("200"), count("403")), (3, 2), "nghttp to {server}: {text}");
}

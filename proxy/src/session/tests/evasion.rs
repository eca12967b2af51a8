//! Hostile bytes against real origins: a request for a denied path must not reach what the origin itself logs.
//!
//! Every payload carries a canary of its own below `/no`, which no rule allows. Without the gate a canary arrives,
//! or the test would prove nothing. An origin that is not installed is named and skipped.

use super::origin;
use super::{Hold, Lab};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Requests that some server, or some pair of servers, reads otherwise than its author pretends. `CANARY` becomes a
/// path below `/no`; what surrounds it is for an allowed path.
const PAYLOADS: &[&str] = &[
    // The plain question, and spellings of it.
    "GET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/..CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/%2e%2eCANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/..%2f..CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/.%2e/../CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/..;CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/..\\CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://aCANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a/ok/../..CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET CANARY#/ok/1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET CANARY?/ok/1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET CANARY\r\n\r\n",
    "GET CANARY HTTP/1.0\r\n\r\n",
    "get CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\tCANARY\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1\0CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET CANARY HTTP/1.1\nHost: a\n\n",
    // Behind an allowed request.
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\nHost: a\n\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nX: y\n\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    // Two framings of one body.
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nXGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 45\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 45\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0x0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nContent_Length: 200\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    // Chunks that servers end at different bytes.
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\n\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nZ\r\nQ\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n3f\r\n0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /ok/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-0\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    // Bodies of denied and of odd requests.
    "POST /no/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 45\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /no/1 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 45\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /ok/1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET CANARY HTTP/1.1\r\nHost: a\r\n\r\n",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_canary_reaches_what_an_origin_logs() {
    let hyper = origin::http().await;
    attack("hyper", hyper.address, &|| hyper.seen.text()).await;
    for program in [Program::Python, Program::Nginx] {
        match Running::start(program).await {
            None => println!("SKIPPED: `{}` is not installed", program.command()),
            Some(running) => attack(program.command(), running.address, &|| running.log()).await,
        }
    }
}

/// Every payload, whole and in two pieces; then what the origin logged.
async fn attack(name: &str, address: SocketAddr, log: &dyn Fn() -> String) {
    let mut open = TcpStream::connect(address).await.expect("the origin listens");
    open.write_all(b"GET /no/control HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("room");
    let _ = timeout(Duration::from_secs(5), open.read_to_end(&mut Vec::new())).await;
    wait_for(name, log, "/no/control").await;

    let lab = Lab::inbound(Hold::Gate, address);
    for (number, payload) in PAYLOADS.iter().enumerate() {
        let bytes = payload.replace("CANARY", &format!("/no/canary-{number}"));
        for cut in [bytes.len(), bytes.len() / 2] {
            let mut client = lab.connect().await;
            for part in [&bytes.as_bytes()[..cut], &bytes.as_bytes()[cut..]] {
                let _ = client.stream.write_all(part).await;
                tokio::task::yield_now().await;
            }
            let _ = client.stream.shutdown().await;
            let _ = timeout(Duration::from_secs(5), client.stream.read_to_end(&mut Vec::new())).await;
            client.finish().await;
        }
    }
    let mut last = lab.connect().await;
    last.send("GET /ok/last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    last.read_to_end().await;
    wait_for(name, log, "/ok/last").await;
    let arrived: Vec<String> =
        log().lines().filter(|line| line.contains("canary")).map(str::to_owned).collect();
    assert!(arrived.is_empty(), "{name} saw {arrived:#?}");
}

async fn wait_for(name: &str, log: &dyn Fn() -> String, what: &str) {
    for _ in 0..500 {
        if log().contains(what) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} never logged `{what}`:\n{}", log());
}

#[derive(Clone, Copy)]
enum Program {
    Python,
    Nginx,
}

impl Program {
    fn command(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::Nginx => "nginx",
        }
    }
}

/// A program of another project in a folder of its own; both end with this.
struct Running {
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Running {
    /// `None` if it is not installed.
    async fn start(program: Program) -> Option<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let folder = std::env::temp_dir().join(format!("bulkhead-{}-{}", program.command(), address.port()));
        fs::create_dir_all(&folder).expect("a folder");
        let log = fs::File::create(folder.join("log")).expect("a file");
        let mut command = Command::new(program.command());
        match program {
            Program::Python => command.args(["-u", "-m", "http.server", "--protocol", "HTTP/1.1"]).args([
                "--bind",
                "127.0.0.1",
                &address.port().to_string(),
            ]),
            Program::Nginx => {
                command.arg("-p").arg(&folder).arg("-c").arg(nginx_configuration(&folder, address))
            }
        };
        let child = command
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .ok()?;
        let running = Self { address, folder, child };
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return Some(running);
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{} does not listen: {}", program.command(), running.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// One process that answers everything and logs every request line, bad ones too, to standard error.
fn nginx_configuration(folder: &Path, address: SocketAddr) -> PathBuf {
    let file = folder.join("nginx.conf");
    let text = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log {}/log; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi; underscores_in_headers on;\n\
         server {{ listen {address}; location / {{ return 200 \"ok\\n\"; }} }} }}\n",
        folder.display()
    );
    fs::write(&file, text).expect("a file");
    file
}

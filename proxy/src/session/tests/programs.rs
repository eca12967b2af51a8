//! Servers of other projects as origins: each says in its log which requests it read.
//!
//! What is not installed is named, counted as skipped, and left out. `deploy/tools.sh lab` installs them.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Nginx,
    Python,
    Node,
    Gunicorn,
}

const NODE: &str = "
const server = require('http').createServer((request, response) => {
    console.log('READ', request.method, request.url);
    request.resume();
    request.on('end', () => response.end('ok\\n'));
});
server.on('clientError', (error, socket) => {
    if (error.code !== 'HPE_INVALID_EOF_STATE' && error.code !== 'ECONNRESET') console.log('BAD', error.code);
    socket.end('HTTP/1.1 400 Bad Request\\r\\n\\r\\n');
});
server.keepAliveTimeout = 60000;
server.listen(process.argv[2], '127.0.0.1');
";

/// Everything that is asked for is there, and no body is read: what follows an answer is the next request.
const PYTHON: &str = "
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
class Handler(SimpleHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def send_head(self):
        self.send_response(200)
        self.send_header('Content-Length', '3')
        self.end_headers()
    def do_GET(self):
        self.send_head()
        self.wfile.write(b'ok\\n')
ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";

const GUNICORN: &str = "
import sys
def app(environ, start_response):
    print('READ', environ['REQUEST_METHOD'], environ['RAW_URI'], file=sys.stderr, flush=True)
    while environ['wsgi.input'].read(65536):
        pass
    start_response('200 OK', [('Content-Length', '3')])
    return [b'ok\\n']
";

impl Program {
    pub(super) const ALL: [Self; 4] = [Self::Nginx, Self::Python, Self::Node, Self::Gunicorn];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Python => "http.server",
            Self::Node => "node",
            Self::Gunicorn => "gunicorn",
        }
    }

    fn command(self, folder: &Path, address: SocketAddr) -> Option<Command> {
        let port = address.port().to_string();
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::write(&file, text).expect("a file");
            file
        };
        let mut command = Command::new(if self == Self::Node { "node" } else { "python3" });
        match self {
            Self::Nginx => {
                command = Command::new("nginx");
                command.arg("-p").arg(folder).arg("-c").arg(write("nginx.conf", &nginx(folder, address)));
            }
            Self::Python => {
                command.arg("-u").arg(write("server.py", PYTHON)).arg(port);
            }
            Self::Node => {
                command.arg(write("server.js", NODE)).arg(port);
            }
            Self::Gunicorn => {
                let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/origins");
                packages.join("gunicorn").is_dir().then_some(())?;
                write("app.py", GUNICORN);
                command.env("PYTHONPATH", packages).args(["-m", "gunicorn", "--log-level", "warning"]);
                // More than one worker, since one waits for the end of a connection.
                command.args([
                    "--worker-class",
                    "gthread",
                    "--threads",
                    "8",
                    "--bind",
                    &address.to_string(),
                    "app:app",
                ]);
            }
        }
        Some(command)
    }

    /// What it read, from a line of its log: `METHOD TARGET`, or `BAD ...` for what it could not read.
    pub(super) fn read_line(self, line: &str) -> Option<String> {
        match self {
            Self::Nginx | Self::Node | Self::Gunicorn => {
                let invalid = line.contains("Invalid request").then(|| format!("BAD {line}"));
                let read = line.strip_prefix("READ ").map(str::to_owned);
                invalid.or(read).or_else(|| line.starts_with("BAD ").then(|| line.to_owned()))
            }
            Self::Python if line.contains("code 400") => Some(format!("BAD {line}")),
            Self::Python => {
                let (_, quoted) = line.split_once(" \"")?;
                let (request, status) = quoted.rsplit_once("\" ")?;
                (!status.starts_with("400"))
                    .then(|| request.rsplit_once(' ').map_or(request, |(line, _)| line).to_owned())
            }
        }
    }
}

/// A server in a folder of its own; both end with this.
pub(super) struct Running {
    pub(super) program: Program,
    pub(super) address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Running {
    /// `None`, said past the harness, if it is not installed.
    pub(super) async fn start(program: Program) -> Option<Self> {
        for _ in 0..STARTS_MAX {
            let Some(mut running) = Self::spawn(program).await else {
                eprintln!("skipped: `{}` is not installed", program.name());
                return None;
            };
            if running.listens().await {
                return Some(running);
            }
        }
        panic!("{} does not listen", program.name());
    }

    async fn spawn(program: Program) -> Option<Self> {
        let address = free_address().await;
        let folder = std::env::temp_dir().join(format!("bulkhead-{}-{}", program.name(), address.port()));
        fs::create_dir_all(&folder).expect("a folder");
        let log = fs::File::create(folder.join("log")).expect("a file");
        let child = program.command(&folder, address).and_then(|mut command| {
            let output = log.try_clone().expect("a file");
            command.current_dir(&folder).stdin(Stdio::null()).stdout(output).stderr(log).spawn().ok()
        });
        let Some(child) = child else {
            let _ = fs::remove_dir_all(&folder);
            return None;
        };
        Some(Self { program, address, folder, child })
    }

    /// False if somebody else took its port before it could.
    async fn listens(&mut self) -> bool {
        for _ in 0..1_000 {
            if self.child.try_wait().expect("a child").is_some() {
                return false;
            }
            if TcpStream::connect(self.address).await.is_ok() {
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{} does not listen: {:?}", self.program.name(), String::from_utf8_lossy(&self.written(0)));
    }

    /// What it has written from this byte on; [`Program::read_line`] tells what that means.
    pub(super) fn written(&self, from_bytes: usize) -> Vec<u8> {
        let mut text = Vec::new();
        if let Ok(mut file) = fs::File::open(self.folder.join("log")) {
            file.seek(SeekFrom::Start(from_bytes as u64)).expect("a file");
            file.read_to_end(&mut text).expect("a file");
        }
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // gunicorn's worker follows its master.
        let terminated = self.program == Program::Gunicorn
            && Command::new("kill")
                .arg(self.child.id().to_string())
                .status()
                .is_ok_and(|status| status.success());
        if !terminated {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Starts of a server whose port was taken meanwhile. More: the test fails.
const STARTS_MAX: u32 = 5;
/// Below those that the system gives to connections: each of those of a busy machine may be the one that was just free.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// One where nobody listens.
pub(super) async fn free_address() -> SocketAddr {
    loop {
        let random = RandomState::new().hash_one(());
        let port = PORTS.start + u16::try_from(random % u64::from(PORTS.end - PORTS.start)).expect("a port");
        if let Ok(free) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return free.local_addr().expect("an address");
        }
    }
}

/// One process that answers everything and logs every request it could read.
fn nginx(folder: &Path, address: SocketAddr) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr crit;\n\
         events {{ worker_connections 64; }}\n\
         http {{ log_format read '$word $request_method $request_uri'; access_log {0}/log read;\n\
         map $status $word {{ default READ; 400 BAD; }}\n\
         client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/fastcgi;\n\
         uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi; underscores_in_headers on;\n\
         server {{ listen {address}; location / {{ return 200 \"ok\\n\"; }} }} }}\n",
        folder.display()
    )
}

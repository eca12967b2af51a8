//! Conformance of HTTP/2 as a client sees it through a session: the origin's own result, case by case.
//!
//! Needs the program `h2spec`: `deploy/tools.sh h2spec` builds it. Without it the test is skipped and says so.

use super::http2::Http2Origin;
use super::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2spec_gives_the_result_of_the_origin() {
    let Some(program) = program_path() else {
        eprintln!("skipped: h2spec is not here; `deploy/tools.sh h2spec` builds it");
        return;
    };
    let origin = Http2Origin::plain().await;
    let lab = Arc::new(Lab::inbound(Hold::Gate, origin.address));
    let front = front(Arc::clone(&lab)).await;
    let (direct, through) = tokio::join!(results(&program, origin.address), results(&program, front));
    assert!(direct.len() > 140, "{} cases", direct.len());
    let differing: Vec<_> =
        direct.iter().filter(|(case, result)| through.get(*case) != Some(*result)).collect();
    assert!(differing.is_empty(), "other results through the session: {differing:#?}");
    assert_eq!(direct.len(), through.len());
    let passed = direct.values().filter(|result| *result == "passed").count();
    println!("h2spec: {} cases, {passed} passed, as at the origin itself", direct.len());
}

fn program_path() -> Option<PathBuf> {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tools/h2spec");
    let named = std::env::var_os("BULKHEAD_H2SPEC").map(PathBuf::from);
    named.into_iter().chain([built]).find(|path| path.is_file())
}

/// Accepts connections and serves each through a session.
pub(super) async fn front(lab: Arc<Lab>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, client)) = listener.accept().await {
            let (shared, destination) = (lab.shared(), lab.destination);
            let ends = Ends { client, destination };
            tokio::spawn(async move {
                serve(Direction::Ingress, stream, ends, shared, &To(destination)).await;
            });
        }
    });
    address
}

/// Runs all cases; what became of each.
async fn results(program: &PathBuf, address: SocketAddr) -> BTreeMap<String, String> {
    let report = tempfile::NamedTempFile::new().expect("a file");
    let output = Command::new(program)
        .args(["--host", "127.0.0.1", "--port", &address.port().to_string(), "--path", "/ok/"])
        .args(["--timeout", "1", "--junit-report"])
        .arg(report.path())
        .output()
        .await
        .expect("h2spec runs");
    let text = std::fs::read_to_string(report.path()).unwrap_or_default();
    let results = cases(&text);
    assert!(!results.is_empty(), "no report: {}", String::from_utf8_lossy(&output.stdout));
    results
}

/// Reads a report in the format of JUnit.
fn cases(report: &str) -> BTreeMap<String, String> {
    let attribute = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    report
        .split("<testcase ")
        .skip(1)
        .map(|case| {
            let result = match case {
                case if case.contains("<failure") => "failed",
                case if case.contains("<skipped") => "skipped",
                case if case.contains("<error") => "error",
                _ => "passed",
            };
            let name = |attribute_name| attribute(case, attribute_name).unwrap_or_default();
            (format!("{} {}", name("package"), name("classname")), result.to_owned())
        })
        .collect()
}

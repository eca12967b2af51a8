//! Connections to addresses that names lead to: the bytes have to mean one of the names that rules of the address mean.

use super::tls::{client, greeted, server};
use super::*;
use bulkhead_facts::HostName;
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::ObjectName;
use rustls::version::{TLS12, TLS13};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1, namespace: shop, labels: {app: web}}\n\
                   spec: {nodeName: n}\nstatus: {podIPs: [{ip: 10.0.0.7}]}\n";

/// Egress of a pod whose rules are these, to an address that these names lead to.
fn lab(rules: &str, names: &[&str], destination: SocketAddr) -> Lab {
    lab_under("enforce", rules, names, destination)
}

fn lab_under(mode: &str, rules: &str, names: &[&str], destination: SocketAddr) -> Lab {
    let text = format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {{name: shop}}\nspec: {{covers: {{namespaces: {{}}}}, \
         default: deny, mode: {mode}}}\n---\napiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: web, \
         namespace: shop}}\nspec:\n  workloads: {{app: web}}\n  egress:\n{rules}\n"
    );
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let loaded = load(&[source("p.yaml", &text)]);
    assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
    let inventory = load_inventory(&[source("i.yaml", POD)]).expect("an inventory");
    let compiler = Compiler::new(&loaded.set, &inventory).expect("it compiles");
    let pod = ObjectName { namespace: "shop".to_owned(), name: "web-1".to_owned() };
    let program = compiler.program(&pod, 1).expect("a program");
    let judge = Arc::new(Judge::new(program).expect("valid"));
    let mut meant: Vec<_> =
        names.iter().flat_map(|name| judge.rules_naming(&HostName::parse(name).expect("a name"))).collect();
    meant.sort_unstable();
    meant.dedup();
    let current = Current { judge, generation: 1, named: Default::default() };
    let class = current.judge.named_class(destination.ip(), &meant);
    assert!(class.is_some(), "a name leads there");
    current.named.set(destination.ip(), class);
    let lab = Lab::new(Hold::Gate, Direction::Egress, destination);
    lab.policy.send_replace(Arc::new(current));
    lab
}

/// Reads one request and answers that it came; says nothing to bytes that are none.
async fn web() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).await? > 0 {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                }
                io::Result::Ok(())
            });
        }
    });
    address
}

const OPEN: &str = "    - {name: out, to: [{fqdn: open.test}]}";

#[tokio::test]
async fn a_hello_that_names_another_server_than_the_address_is_allowed_for_is_refused() {
    let (destination, roots) = server().await;
    let lab = lab(OPEN, &["open.test"], destination);
    for versions in [&[&TLS12, &TLS13][..], &[&TLS13]] {
        let config = client(roots.clone(), versions);
        assert_eq!(greeted(&lab, config.clone(), "open.test").await, Ok("welcome".to_owned()));
        let refused = greeted(&lab, config.clone(), "secret.test").await.expect_err("a refusal");
        assert!(refused.contains("AccessDenied"), "{refused}");
        let mut nameless = config;
        nameless.enable_sni = false;
        let refused = greeted(&lab, nameless, "open.test").await.expect_err("a refusal");
        assert!(refused.contains("AccessDenied"), "{refused}");
    }
    let told = lines(&lab.flows());
    for said in
        ["tls allow/allow allowed_by_rule", "tls deny/deny name_mismatch", "tls deny/deny name_hidden"]
    {
        assert!(told.iter().any(|line| line.starts_with(said)), "{said}: {told:?}");
    }
}

#[tokio::test]
async fn an_address_that_a_name_without_rule_shares_serves_the_name_with_one() {
    // Nobody asks for `secret.test` by our name servers: the address is all that they have in common.
    let (destination, roots) = server().await;
    let rules = "    - {name: out, to: [{fqdn: open.test}]}\n    - {name: other, to: [{fqdn: '*.secret.test'}], ports: [1]}";
    let lab = lab(rules, &["open.test", "a.secret.test"], destination);
    let config = client(roots, &[&TLS13]);
    assert_eq!(greeted(&lab, config.clone(), "open.test").await, Ok("welcome".to_owned()));
    assert!(greeted(&lab, config, "secret.test").await.is_err());
}

#[tokio::test]
async fn under_audit_a_wrong_name_passes_and_is_told() {
    let (destination, roots) = server().await;
    let lab = lab_under("audit", OPEN, &["open.test"], destination);
    let config = client(roots, &[&TLS13]);
    assert_eq!(greeted(&lab, config.clone(), "open.test").await, Ok("welcome".to_owned()));
    assert_eq!(greeted(&lab, config, "secret.test").await, Ok("welcome".to_owned()));
    let told = lines(&lab.flows());
    assert!(told.iter().any(|line| line.starts_with("tls allow/deny")), "{told:?}");
}

#[tokio::test]
async fn the_host_of_a_request_decides_at_an_address_that_is_known_by_name() {
    let destination = web().await;
    let lab = lab(OPEN, &["open.test"], destination);
    let port = destination.port();
    let status = async |request: String| {
        let mut client = lab.connect().await;
        client.send(request).await;
        let head = client.read_until("\r\n").await;
        head.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let hosts = [
        ("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n".to_owned(), "204"),
        (format!("GET / HTTP/1.1\r\nHost: OPEN.test:{port}\r\n\r\n"), "204"),
        ("GET / HTTP/1.1\r\nHost: secret.test\r\n\r\n".to_owned(), "403"),
        ("GET http://secret.test/ HTTP/1.1\r\nHost: secret.test\r\n\r\n".to_owned(), "403"),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), "403"),
        // What has no clear path is held by its host all the same.
        ("GET /a%2fb HTTP/1.1\r\nHost: open.test\r\n\r\n".to_owned(), "204"),
        ("GET /a%2fb HTTP/1.1\r\nHost: secret.test\r\n\r\n".to_owned(), "403"),
        ("OPTIONS * HTTP/1.1\r\nHost: open.test\r\n\r\n".to_owned(), "204"),
        ("OPTIONS * HTTP/1.1\r\nHost: secret.test\r\n\r\n".to_owned(), "403"),
    ];
    for (request, expected) in hosts {
        assert_eq!(status(request.clone()).await, expected, "{request}");
    }
    let told = lines(&lab.flows());
    assert!(told.iter().any(|line| line.contains("deny/deny name_mismatch")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("deny/deny name_hidden")), "{told:?}");
}

#[tokio::test]
async fn on_one_connection_each_request_has_to_mean_the_name() {
    let destination = web().await;
    let lab = lab(OPEN, &["open.test"], destination);
    let mut client = lab.connect().await;
    client.send("GET /1 HTTP/1.1\r\nHost: open.test\r\n\r\n").await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 204"));
    client.send("GET /2 HTTP/1.1\r\nHost: secret.test\r\n\r\n").await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn protocols_that_name_nobody_and_servers_that_speak_first_pass_an_address_known_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let lab = lab(OPEN, &["open.test"], listener.local_addr().expect("an address"));
    let client = async {
        let mut client = lab.connect().await;
        assert_eq!(client.read(9).await, b"SSH-2.0-a");
        client.send("SSH-2.0-client\r\n").await;
        assert_eq!(client.read(4).await, b"done");
    };
    let origin = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(b"SSH-2.0-a").await.expect("it is read");
        let mut bytes = [0; 16];
        stream.read_exact(&mut bytes).await.expect("what was sent");
        stream.write_all(b"done").await.expect("it is read");
    };
    timeout(PATIENCE, async { tokio::join!(client, origin) }).await.expect("in time");
}

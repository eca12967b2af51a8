//! TLS through sessions, with rustls at both ends; and hellos that rustls and the inspector read, which must mean the same.

use super::*;
use bulkhead_api::RequestSignature;
use bulkhead_facts::NamePattern;
use bulkhead_inspect::{Conversation, Hello, Protocol, Step, Subject};
use bulkhead_policies::model::TlsMatch;
use rcgen::generate_simple_self_signed;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::Acceptor;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::path::Path;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAMES: [&str; 2] = ["open.test", "secret.test"];

/// A server that greets whoever completes a handshake, and what its clients trust.
pub(super) async fn server() -> (SocketAddr, RootCertStore) {
    let made = generate_simple_self_signed(NAMES.map(str::to_owned)).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a sound configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                stream.write_all(b"welcome").await?;
                stream.shutdown().await
            });
        }
    });
    (address, roots)
}

pub(super) fn client(roots: RootCertStore, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots).with_no_client_auth()
}

/// A session that lets through who means to reach `open.test`, in a version from 1.2 on.
fn lab(destination: SocketAddr) -> Lab {
    let lab = Lab::new(Hold::Gate, Direction::Egress, destination);
    let sni = vec![NamePattern::parse("open.test").expect("a name")];
    let section = TlsMatch { sni, min: Some(bulkhead_facts::TlsVersion::V1_2), ..TlsMatch::default() };
    let mut program = program(Hold::Gate, Direction::Egress);
    program.l7_chains[0].enforced[0].entries[0].section = Some(L7Section::Tls(section));
    let judge = Arc::new(Judge::new(program).expect("a valid program"));
    let current = Current { judge, ..(*current(Hold::Gate, Direction::Egress)).clone() };
    lab.policy.send_replace(Arc::new(current));
    lab
}

/// What a client reads, or the error it shows.
pub(super) async fn greeted(lab: &Lab, config: ClientConfig, name: &'static str) -> Result<String, String> {
    let through = lab.connect().await;
    let name = ServerName::try_from(name).expect("a name");
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, through.stream);
    let mut stream =
        timeout(PATIENCE, connecting).await.expect("in time").map_err(|error| error.to_string())?;
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text))
        .await
        .expect("in time")
        .map_err(|error| error.to_string())?;
    Ok(text)
}

#[tokio::test]
async fn a_client_of_tls_reaches_the_names_it_may_and_is_told_of_others() {
    let (destination, roots) = server().await;
    let lab = lab(destination);
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
    let flows = lab.flows();
    let told = lines(&flows);
    let count = |line: &str| told.iter().filter(|told| **told == line).count();
    assert_eq!(count("tls allow/allow allowed_by_rule x1"), 2, "one for each lowest version: {told:?}");
    assert_eq!(count("tls deny/deny l7_mismatch x1"), 4, "{told:?}");
    let mut said: Vec<_> = flows
        .iter()
        .filter_map(|flow| match flow.request.as_deref() {
            Some(RequestSignature::Tls(hello)) => Some((hello.server_name.clone(), hello.lowest.as_str())),
            _ => None,
        })
        .collect();
    said.sort();
    let hello = |name: Option<&str>, lowest| (name.map(str::to_owned), lowest);
    let names = [None, Some("open.test"), Some("secret.test")];
    assert_eq!(said, names.map(|name| [hello(name, "1.2"), hello(name, "1.3")]).concat());
}

#[tokio::test]
async fn a_client_of_tls_whose_name_is_not_allowed_any_more_is_reset() {
    let (destination, roots) = server().await;
    let lab = lab(destination);
    let config = client(roots, &[&TLS12, &TLS13]);
    let through = lab.connect().await;
    let name = ServerName::try_from("open.test").expect("a name");
    let mut stream =
        TlsConnector::from(Arc::new(config)).connect(name, through.stream).await.expect("a handshake");
    let mut greeting = [0; 7];
    stream.read_exact(&mut greeting).await.expect("a greeting");
    lab.change(Hold::Gate);
    timeout(PATIENCE, through.session).await.expect("the session ends").expect("no panic");
    assert!(lines(&lab.flows()).iter().any(|line| line.starts_with("tls deny/deny")), "a denial is told");
}

/// Hellos as rustls writes them, with and without names, protocols and versions.
fn hellos() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for versions in [&[&TLS12, &TLS13][..], &[&TLS12], &[&TLS13]] {
        for protocols in [&[][..], &["h2"], &["h2", "http/1.1"]] {
            for sni in [true, false] {
                let mut config = client(RootCertStore::empty(), versions);
                config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
                config.enable_sni = sni;
                let name = ServerName::try_from("Mixed.Case.test").expect("a name");
                let mut connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
                let mut bytes = Vec::new();
                connection.write_tls(&mut bytes).expect("a hello");
                found.push(bytes);
            }
        }
    }
    found
}

fn ours(bytes: &[u8]) -> Option<Hello> {
    let mut conversation = Conversation::expecting(Some(Protocol::Tls));
    match conversation.client(bytes) {
        Step::Ask(question) => match question.subject {
            Subject::Tls(hello) => Some(hello),
            _ => None,
        },
        _ => None,
    }
}

/// Name and protocols, as rustls reads them.
fn theirs(bytes: &[u8]) -> Option<(Option<String>, Vec<Vec<u8>>)> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).ok()?;
        match acceptor.accept() {
            Err(_) => return None,
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let protocols = hello.alpn().map(|names| names.map(<[u8]>::to_vec).collect());
                let name = hello.server_name().map(str::to_ascii_lowercase);
                return Some((name, protocols.unwrap_or_default()));
            }
        }
    }
    None
}

/// True if both read it; where both do, it means the same.
fn agree(bytes: &[u8]) -> bool {
    let (Some(ours), Some((name, protocols))) = (ours(bytes), theirs(bytes)) else { return false };
    let shown = bytes.escape_ascii();
    assert_eq!(ours.server_name.map(|name| name.as_str().to_owned()), name, "{shown}");
    // Names that mean nothing, and those that are no text, are told in our own way.
    let plain = protocols.iter().filter_map(|name| std::str::from_utf8(name).ok());
    let plain: Vec<&str> = plain.filter(|name| !matches!(name.as_bytes(), [a, b] if a == b)).collect();
    let own = ours.application_protocols.iter().map(String::as_str);
    let own: Vec<&str> =
        own.filter(|name| *name != "\u{fffd}" && !matches!(name.as_bytes(), [a, b] if a == b)).collect();
    assert_eq!(own, plain, "{shown}");
    true
}

#[test]
fn hellos_mean_to_us_what_they_mean_to_rustls() {
    let hellos = hellos();
    assert!(hellos.iter().all(|hello| agree(hello)), "rustls reads its own, and so do we");
    let mut read = 0;
    for hello in &hellos {
        for at in 0..hello.len() {
            // The random part means nothing.
            if (11..43).contains(&at) {
                continue;
            }
            for changed in [0, 1, 0xff, hello[at] ^ 1, hello[at].wrapping_add(1)] {
                let mut bytes = hello.clone();
                bytes[at] = changed;
                read += usize::from(agree(&bytes));
            }
        }
    }
    assert!(read > 1_000, "{read} changed hellos were read by both");
}

#[test]
fn what_servers_of_a_fuzzing_corpus_say_is_no_hello() {
    let suites = std::env::var("BULKHEAD_SUITES").unwrap_or_else(|_| "../../shared/suites".to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(suites).join("go-fuzz-corpus/tlsclient/corpus");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: no `{}`; set BULKHEAD_SUITES", folder.display());
        return;
    };
    let mut count = 0;
    for file in files.flatten() {
        let bytes = std::fs::read(file.path()).expect("a file");
        agree(&bytes);
        count += 1;
    }
    assert!(count > 100, "{count} files");
}

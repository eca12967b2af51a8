//! A peer is whoever connected, whatever it says of itself.

use super::*;

/// Both versions of the PROXY protocol, each with another address, before a request that would pass.
const CLAIMS: [&[u8]; 2] = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /ok/1 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02GET /ok/1 HTTP/1.1\r\nhost: a\r\n\r\n",
];

#[tokio::test]
async fn a_header_of_the_proxy_protocol_names_nobody_and_does_not_pass() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    for claim in CLAIMS {
        let mut client = lab.connect().await;
        client.send(claim).await;
        let (answer, _) = client.read_to_end().await;
        assert!(!answer.contains("200 OK"), "{answer}");
        client.finish().await;
    }
    assert_eq!(origin.seen.text(), "");
    let flows = lab.flows();
    assert!(!flows.is_empty(), "both are reported");
    for flow in flows {
        assert_eq!(flow.enforced.effect, Effect::Deny);
        assert!(flow.peer.is_loopback(), "{}", flow.peer);
    }
}

/// Requests for `/in/**` may come behind a header if so said, those for `/ok/**` never.
fn accepting(accepted: bool) -> Arc<Current> {
    let mut program = program(Hold::Gate, Direction::Ingress);
    let below =
        |path, proxied| HttpMatch { path: PathTemplate::parse(path).ok(), proxied, ..HttpMatch::default() };
    let requests = vec![below("/ok/**", false), below("/in/**", accepted)];
    program.l7_chains[0].enforced[0].entries[0].section = Some(L7Section::Http(requests));
    let judge = Arc::new(Judge::new(program).expect("a valid program"));
    Arc::new(Current { judge, ..(*current(Hold::Gate, Direction::Ingress)).clone() })
}

/// Answers whatever ends in an empty line.
async fn answering(mut stream: TcpStream, seen: origin::Seen) {
    let mut bytes = [0; 4096];
    let mut said = Vec::new();
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        seen.push(&bytes[..count]);
        said.extend_from_slice(&bytes[..count]);
        if said.ends_with(b"host: a\r\n\r\n") {
            said.clear();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes()
}

/// The header of a claim.
fn header(claim: &[u8]) -> &[u8] {
    let at = claim.windows(4).position(|four| four == b"GET ").expect("a request behind it");
    &claim[..at]
}

#[tokio::test]
async fn where_a_rule_accepts_it_a_header_passes_before_its_request_however_it_is_cut() {
    for claim in CLAIMS {
        let bytes = [header(claim), &get("/in/1")].concat();
        for cut in 0..bytes.len() {
            let origin = origin::raw(answering).await;
            let lab = Lab::inbound(Hold::Gate, origin.address);
            lab.policy.send_replace(accepting(true));
            let mut client = lab.connect().await;
            client.send(&bytes[..cut]).await;
            client.send(&bytes[cut..]).await;
            let answer = client.read_until("ok").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{cut}: {answer}");
            client.finish().await;
            assert_eq!(origin.seen.bytes(), bytes, "{cut}");
            assert_eq!(lines(&lab.flows()), ["GET /in/{id} 2 allow/allow allowed_by_rule x1"], "{cut}");
        }
    }
}

#[tokio::test]
async fn behind_a_header_only_those_rules_hold_that_accept_it() {
    for claim in CLAIMS {
        let origin = origin::raw(answering).await;
        let lab = Lab::inbound(Hold::Gate, origin.address);
        lab.policy.send_replace(accepting(true));
        let mut client = lab.connect().await;
        client.send([header(claim), &get("/in/1")].concat()).await;
        client.read_until("ok").await;
        let asterisk = b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
        for request in [get("/ok/1"), get("/no/1"), asterisk] {
            client.send(request).await;
            let answer = client.read_until("\r\n\r\n").await;
            assert!(answer.contains("HTTP/1.1 403"), "{answer}");
        }
        client.finish().await;
        assert_eq!(origin.seen.bytes(), [header(claim), &get("/in/1")].concat());
        let mut plain = lab.connect().await;
        plain.send(get("/ok/1")).await;
        assert!(plain.read_until("ok").await.starts_with("HTTP/1.1 200"), "without one it is allowed");
        plain.finish().await;
        let told = lines(&lab.flows());
        let expected = [
            "GET /in/{id} 2 allow/allow allowed_by_rule x1",
            "GET /no/{id} 4 deny/deny l7_mismatch x1",
            "GET /ok/{id} 2 allow/allow allowed_by_rule x1",
            "GET /ok/{id} 4 deny/deny protocol_mismatch x1",
        ];
        assert!(expected.iter().all(|line| told.iter().any(|told| told == line)), "{told:?}");
    }
}

#[tokio::test]
async fn a_header_that_is_not_accepted_any_more_lets_no_further_request_pass() {
    let origin = origin::raw(answering).await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    lab.policy.send_replace(accepting(true));
    let mut client = lab.connect().await;
    client.send([header(CLAIMS[0]), &get("/in/1")].concat()).await;
    client.read_until("ok").await;
    lab.policy.send_replace(accepting(false));
    client.send(get("/in/2")).await;
    let answer = client.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    client.finish().await;
    assert!(!origin.seen.text().contains("/in/2"));
}

#[tokio::test]
async fn what_is_no_header_to_everybody_and_what_no_rule_reads_behind_one_does_not_pass() {
    let origin = origin::raw(answering).await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    lab.policy.send_replace(accepting(true));
    let again = [header(CLAIMS[0]), header(CLAIMS[0]), &get("/in/1")].concat();
    let wrong = [b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", get("/in/1").as_slice()].concat();
    for bytes in [wrong, again] {
        let mut client = lab.connect().await;
        client.send(bytes).await;
        let (answer, _) = client.read_to_end().await;
        assert!(!answer.contains("200 OK"), "{answer}");
        client.finish().await;
    }
    assert!(!origin.seen.text().contains("GET"), "{}", origin.seen.text());
}

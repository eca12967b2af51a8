//! A peer is whoever connected, whatever it says of itself.

use super::{Hold, Lab, origin};
use bulkhead_facts::Effect;

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

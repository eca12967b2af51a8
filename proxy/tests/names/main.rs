//! Questions to name servers, and addresses that names lead to: real sockets, the real sidecar, policies as people write them.
//!
//! Each test runs in a network namespace of its own (`support::in_own_network`); where the machine allows none, it says
//! `skipped:` and why.

mod inbound;
mod learned;
#[allow(dead_code)]
#[path = "../firewall/network.rs"]
mod network;
mod policy;
#[allow(dead_code)]
#[path = "../sidecar/process.rs"]
mod process;
mod questions;
mod resolvers;
mod server;
#[path = "../../netfilter/tests/support/mod.rs"]
mod support;

use bulkhead_policies::program::Program;
use network::Peer;
use process::Sidecar;
use server::NameServer;

/// A pod with its sidecar under a policy, and a name server at the peer.
struct Ground {
    sidecar: Sidecar,
    server: NameServer,
    peer: Peer,
}

/// The addresses that `api.card.example` has, and that only its rule allows.
const CARD: [&str; 2] = ["203.0.113.9", "2001:db8::9"];
/// An address inside, which nothing allows.
const INSIDE: &str = "10.0.0.66";

fn ground(test: &str, egress: &str) -> Ground {
    ground_under(test, &policy::program(egress))
}

fn ground_under(test: &str, program: &Program) -> Ground {
    let peer = Peer::connect();
    peer.run(|| {
        support::ip("addr add 203.0.113.9/32 dev lo");
        support::ip("addr add 203.0.113.10/32 dev lo");
        support::ip("addr add 2001:db8::9/128 dev lo nodad");
    });
    let server = NameServer::start(&peer);
    let mut sidecar = Sidecar::initialised(test).with_last_good(program);
    sidecar.start_until_ready();
    Ground { sidecar, server, peer }
}

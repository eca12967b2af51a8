//! The kernel tier with real sockets: a pod and a peer in network namespaces of their own.
//!
//! Each test runs in a process and namespace of its own (`support::in_own_network`), as root or in a user namespace.
//! Where the machine allows neither, a test says `skipped:` and why.

mod documents;
mod inspector;
mod network;
mod program;
#[path = "../../netfilter/tests/support/mod.rs"]
mod support;

mod closed;
mod elements;
mod ended;
mod forged;
mod guards;
mod inspected;
mod lasting;
mod led;
mod legs;
mod messages;
mod reload;
mod reports;
mod reuse;

use bulkhead_proxy::firewall::{Firewall, FirewallOptions};
use std::net::{IpAddr, SocketAddr};

/// The user of the sidecar's sockets: another one than the app's where the machine lets us have two.
fn sidecar_uid() -> u32 {
    if support::as_root() { 1337 } else { 0 }
}

fn options() -> FirewallOptions {
    FirewallOptions::new(sidecar_uid()).expect("random marks")
}

fn open() -> Firewall {
    open_with(options())
}

fn open_with(options: FirewallOptions) -> Firewall {
    support::as_user(sidecar_uid(), || Firewall::open(options)).expect("the table loads")
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

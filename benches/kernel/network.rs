//! A pod and a peer: two network namespaces of our own with a wire between them. They go with their last user.

use crate::system;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

/// The pod's address.
pub(crate) const POD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The peer's address.
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 4);

/// A network namespace.
pub(crate) struct Namespace(File);

/// Two namespaces and the wire between them.
pub(crate) struct Link {
    pub(crate) pod: Namespace,
    pub(crate) peer: Namespace,
}

impl Link {
    pub(crate) fn new() -> Result<Self> {
        let (pod, peer) = (Namespace::new()?, Namespace::new()?);
        pod.run(|| ip("link add eth0 type veth peer name peer0"))??;
        let (told, done) = channel::<()>();
        let (tell_thread, thread_known) = channel();
        let file = peer.0.try_clone()?;
        // A device moves to the namespace of a thread: this one lives until it has.
        let holder = thread::spawn(move || {
            let entered = system::enter_network(&file);
            let _ = tell_thread.send(entered.map(|()| system::thread_id()));
            let _ = done.recv();
        });
        let thread = thread_known.recv().context("a thread in the peer's namespace")??;
        let moved = pod.run(|| ip(&format!("link set peer0 netns {thread} name eth0")));
        drop(told);
        let _ = holder.join();
        moved??;
        for (side, address) in [(&pod, POD), (&peer, PEER)] {
            side.run(|| configure(address))??;
            // The kernel's own default: others pace by timers, which is not what is to be measured.
            side.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "cubic"))?.ok();
        }
        // Ports come back into use at once: thousands of connections are opened per second.
        peer.run(|| std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535"))??;
        peer.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1"))??;
        Ok(Self { pod, peer })
    }
}

fn configure(address: Ipv4Addr) -> Result<()> {
    ip("link set lo up")?;
    ip(&format!("addr add {address}/16 dev eth0"))?;
    ip("link set eth0 up")
}

impl Namespace {
    fn new() -> Result<Self> {
        let made = thread::spawn(|| {
            system::enter_new_network()?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().map_err(|_| anyhow::anyhow!("a thread ended early"))?;
        Ok(Self(file.context("a new network namespace")?))
    }

    pub(crate) fn clone(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Runs something in this namespace; sockets that it makes stay there.
    pub(crate) fn run<T>(&self, job: impl FnOnce() -> T) -> Result<T> {
        let before = File::open("/proc/thread-self/ns/net")?;
        system::enter_network(&self.0).context("entering a network namespace")?;
        let result = job();
        system::enter_network(&before).context("leaving a network namespace")?;
        Ok(result)
    }
}

/// Runs `ip` with the words of the text.
fn ip(words: &str) -> Result<()> {
    run("ip", &words.split_whitespace().collect::<Vec<_>>())
}

/// Runs a program in the calling thread's namespace.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {error}");
    Ok(())
}

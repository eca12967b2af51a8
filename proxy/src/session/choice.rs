//! Which endpoint of a Service the app's connection is led to, where not all of them may be reached.
//!
//! The network behind the Service's address would pick any. So the sidecar picks one that the program lists, at random: each
//! gets its share, and nothing has to be remembered. Session affinity and topology hints are not followed. What holds on the
//! connection is what holds at that endpoint ([`super::verdict`]).

use super::counters::{COUNTERS, add};
use super::limits::ENDPOINT_TRIES_MAX;
use super::{Dial, Ends};
use crate::policy::Current;
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_policies::program::Action;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpStream;

/// The endpoints to try, in this order; none where the destination is dialled itself.
pub(crate) fn candidates(
    current: &Current,
    direction: Direction,
    peer: IpAddr,
    port: u16,
) -> Vec<SocketAddr> {
    if direction == Direction::Ingress {
        return Vec::new();
    }
    let Action::Choose { choice, .. } = current.action(direction, peer, L4Protocol::TCP, port) else {
        return Vec::new();
    };
    let all = current.judge.choice(choice).iter();
    let mut endpoints: Vec<SocketAddr> =
        all.map(|endpoint| SocketAddr::new(endpoint.address, endpoint.port)).collect();
    let count = endpoints.len();
    let tries = count.min(ENDPOINT_TRIES_MAX);
    for at in 0..tries {
        endpoints.swap(at, at + random_below(count - at));
    }
    endpoints.truncate(tries);
    endpoints.shrink_to_fit();
    endpoints
}

/// Connects to the first of these that does not refuse.
pub(crate) async fn dial_one_of<D: Dial>(
    dial: &D,
    ends: Ends,
    endpoints: Vec<SocketAddr>,
) -> io::Result<(SocketAddr, TcpStream)> {
    for destination in endpoints {
        match dial.dial(Ends { destination, ..ends }).await {
            Ok(stream) => return Ok((destination, stream)),
            Err(error) if refuses(&error) => add(&COUNTERS.endpoints_refused, 1),
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::ConnectionRefused.into())
}

/// True if another endpoint may be tried: nobody is there, or refuses. One that does not answer has used up the time.
fn refuses(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable)
}

/// Evenly from 0 on; `count` is not 0.
fn random_below(count: usize) -> usize {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let number = KEYS.hash_one(ASKED.fetch_add(1, Ordering::Relaxed));
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    usize::try_from(number % count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_share() {
        let mut counts = [0u32; 5];
        (0..10_000).for_each(|_| counts[random_below(5)] += 1);
        assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    }
}

//! How long it takes until the kernel enforces a large program, and one more pod of it.

use crate::network::Link;
use crate::{program, system};
use anyhow::Result;
use bulkhead_netfilter::Connection;
use bulkhead_proxy::firewall::{Firewall, FirewallOptions};
use std::time::Instant;

/// Entries of the program.
pub(crate) const ENTRIES: u32 = 10_000;

/// Milliseconds that one change took.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) all: f64,
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// Medians of each way to change.
pub(crate) struct Applied {
    /// Another program of [`ENTRIES`] entries in place of one.
    pub(crate) whole: Took,
    /// One pod more.
    pub(crate) pod_comes: Took,
    /// One pod less.
    pub(crate) pod_goes: Took,
    /// Transactions that one pod more took.
    pub(crate) transactions: u32,
}

/// Changes programs so often and takes the medians.
pub(crate) fn measure(rounds: usize) -> Result<Applied> {
    let link = Link::new()?;
    let mut firewall =
        link.pod.run(|| Firewall::open(FirewallOptions::new(0)?).map_err(anyhow::Error::from))??;
    let mut kernel = link.pod.run(Connection::open)??;
    // With the entries for ports, that many.
    let peers = program::peers(ENTRIES + 1);
    let (one, other) = peers.split_at(ENTRIES as usize / 2);
    let small = [one, &other[1..]].concat();
    let shifted: Vec<_> = small.iter().map(|peer| (u32::from(*peer) ^ 1).into()).collect();
    let mut changes = [Vec::new(), Vec::new(), Vec::new()];
    let mut transactions = 0;
    for round in 0..=rounds {
        let revision = 4 * round as u64;
        let steps = [shifted.as_slice(), &small, &peers, &small];
        for (step, peers) in steps.into_iter().enumerate() {
            let judge = program::compiled(peers, false, revision + step as u64 + 1)?;
            // The sidecar does this once a second, before it knows of a change.
            firewall.verify()?;
            firewall.prepare_next()?;
            let before = kernel.generation()?;
            let took = timed(|| firewall.apply(&judge))?;
            transactions = if step == 2 { kernel.generation()?.wrapping_sub(before) } else { transactions };
            if round > 0 && step > 0 {
                changes[step - 1].push(took);
            }
        }
    }
    let [whole, pod_comes, pod_goes] = changes.map(median);
    Ok(Applied { whole, pod_comes, pod_goes, transactions })
}

fn timed<T, E: Into<anyhow::Error>>(work: impl FnOnce() -> Result<T, E>) -> Result<Took> {
    let (user, system) = system::user_and_system_time()?;
    let started = Instant::now();
    work().map_err(Into::into)?;
    let all = started.elapsed();
    let (user_after, system_after) = system::user_and_system_time()?;
    let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    Ok(Took {
        all: milliseconds(all),
        user: milliseconds(user_after - user),
        system: milliseconds(system_after - system),
    })
}

fn median(mut all: Vec<Took>) -> Took {
    all.sort_by(|one, other| one.all.total_cmp(&other.all));
    all[all.len() / 2]
}

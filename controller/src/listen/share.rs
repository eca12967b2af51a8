//! One address's share of something: nobody takes it all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts by address, up to a bound.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    held: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    most: usize,
}

/// One unit of an address's share; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    address: IpAddr,
}

impl Shares {
    pub(super) fn new(most: usize) -> Self {
        Self { held: Arc::default(), most }
    }

    /// One unit; `None` if the address holds its bound.
    pub(super) fn take(&self, address: IpAddr) -> Option<Share> {
        let mut held = self.lock();
        let count = held.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { shares: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        // Every change is one number; a panic elsewhere leaves none half-done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.lock();
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_holds_its_share_gets_no_more_and_others_do() {
        let shares = Shares::new(2);
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().expect("an address"));
        let first = shares.take(one).expect("free");
        let second = shares.take(one).expect("free");
        assert!(shares.take(one).is_none());
        assert!(shares.take(other).is_some());
        drop(first);
        assert!(shares.take(one).is_some(), "given back");
        drop(second);
        assert!(shares.lock().is_empty(), "nothing is kept of who went");
    }
}

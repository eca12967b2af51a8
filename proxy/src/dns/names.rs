//! Which addresses names lead to, and for how long.
//!
//! Pure: time is an argument, in milliseconds since the epoch. A name that is answered keeps its addresses for the answer's
//! time and [`GRACE`]. When that is over nothing new may go there by this name; what is open to the address is kept until it
//! ends. Names and addresses come from the network, so every dimension is bounded, and what is given up is told.

use super::limits::{ADDRESSES_MAX, ADDRESSES_PER_NAME_MAX, GRACE, NAMES_PER_ADDRESS_MAX, TIME_TO_LIVE_MAX};
use bulkhead_facts::HostName;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{ClassId, RuleIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// What is known of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    addresses: BTreeMap<IpAddr, Known>,
    /// Addresses by name, the reverse of the above.
    by_name: BTreeMap<HostName, BTreeSet<IpAddr>>,
    given_up: u64,
}

/// The names of one address with the end of their time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    names: BTreeMap<HostName, u64>,
}

/// What holds for an address now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its class by the names whose time is not over, with the end of the longest.
    pub admitted: Option<(ClassId, u64)>,
    /// Its class by all names, where that is another one: for what is open.
    pub kept: Option<ClassId>,
}

/// Ends of a time that are the same: answers count in seconds.
const SAME_TIME_MS: u64 = 1_000;

impl Names {
    /// A name was answered with these addresses and seconds. Returns the addresses for which something changed, those that
    /// were given up for them among them. Most answers come from a cache, which says the same again with less time each second.
    pub fn learn(&mut self, name: &HostName, addresses: &[(IpAddr, u32)], now_ms: u64) -> Vec<IpAddr> {
        let mut changed = Vec::new();
        for (address, ttl_s) in addresses {
            let time = Duration::from_secs(u64::from(*ttl_s)).min(TIME_TO_LIVE_MAX) + GRACE;
            let until_ms = now_ms.saturating_add(milliseconds(time));
            let address = address.to_canonical();
            let known_ms = self.addresses.get(&address).and_then(|known| known.names.get(name)).copied();
            if known_ms.is_some_and(|known_ms| known_ms > now_ms && known_ms + SAME_TIME_MS >= until_ms) {
                continue;
            }
            changed.extend(self.make_room(name, address));
            let until = self.addresses.entry(address).or_default().names.entry(name.clone()).or_default();
            *until = until_ms.max(*until);
            self.by_name.entry(name.clone()).or_default().insert(address);
            changed.push(address);
        }
        changed
    }

    /// What was learned of these last could not be made to hold: whoever gives them again is no older news.
    pub fn doubt(&mut self, name: &HostName, addresses: &[(IpAddr, u32)], now_ms: u64) {
        for (address, _) in addresses {
            let known = self.addresses.get_mut(&address.to_canonical());
            if let Some(until_ms) = known.and_then(|known| known.names.get_mut(name)) {
                *until_ms = now_ms.min(*until_ms);
            }
        }
    }

    /// Gives up what goes beyond a limit; returns the addresses that lost a name.
    fn make_room(&mut self, name: &HostName, address: IpAddr) -> Vec<IpAddr> {
        let mut lost = Vec::new();
        let known = self.addresses.get(&address);
        if known.is_none() && self.addresses.len() >= ADDRESSES_MAX {
            let ends = |known: &Known| known.names.values().copied().max().unwrap_or(0);
            let first =
                self.addresses.iter().min_by_key(|(_, known)| ends(known)).map(|(address, _)| *address);
            lost.extend(first);
        }
        for address in &lost {
            let names: Vec<_> = self
                .addresses
                .get(address)
                .into_iter()
                .flat_map(|known| known.names.keys())
                .cloned()
                .collect();
            names.iter().for_each(|name| self.forget(name, *address));
        }
        let known = self.addresses.get(&address);
        if let Some(known) = known
            .filter(|known| known.names.len() >= NAMES_PER_ADDRESS_MAX && !known.names.contains_key(name))
        {
            let first =
                known.names.iter().min_by_key(|(_, until_ms)| **until_ms).map(|(name, _)| name.clone());
            first.iter().for_each(|name| self.forget(name, address));
            self.given_up += 1;
        }
        let own = self.by_name.get(name);
        if let Some(own) = own.filter(|own| own.len() >= ADDRESSES_PER_NAME_MAX && !own.contains(&address)) {
            let ends = |address: &&IpAddr| {
                self.addresses.get(*address).and_then(|known| known.names.get(name)).copied()
            };
            let first = own.iter().min_by_key(ends).copied();
            first.iter().for_each(|address| self.forget(name, *address));
            lost.extend(first);
        }
        self.given_up += u64::try_from(lost.len()).unwrap_or(0);
        lost
    }

    fn forget(&mut self, name: &HostName, address: IpAddr) {
        if let Some(known) = self.addresses.get_mut(&address) {
            known.names.remove(name);
            if known.names.is_empty() {
                self.addresses.remove(&address);
            }
        }
        if let Some(own) = self.by_name.get_mut(name) {
            own.remove(&address);
            if own.is_empty() {
                self.by_name.remove(name);
            }
        }
    }

    /// Forgets names whose time is over, but for addresses to which something is open. Returns the addresses for which
    /// something may have changed.
    pub fn expire(&mut self, now_ms: u64, open: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        let over: Vec<(IpAddr, HostName)> = self
            .addresses
            .iter()
            .flat_map(|(address, known)| {
                known.names.iter().map(move |(name, until_ms)| (address, name, until_ms))
            })
            .filter(|(_, _, until_ms)| **until_ms <= now_ms)
            .map(|(address, name, _)| (*address, name.clone()))
            .collect();
        let mut changed: Vec<IpAddr> = over.iter().map(|(address, _)| *address).collect();
        changed.dedup();
        for (address, name) in over.iter().filter(|(address, _)| !open.contains(address)) {
            self.forget(name, *address);
        }
        changed
    }

    /// The first time after that one that is over.
    pub fn next_end(&self, after_ms: u64) -> Option<u64> {
        let ends = self.addresses.values().flat_map(|known| known.names.values()).copied();
        ends.filter(|end_ms| *end_ms > after_ms).min()
    }

    /// What holds for an address in a program.
    pub fn held(&self, judge: &Judge, address: IpAddr, now_ms: u64) -> Held {
        let Some(known) = self.addresses.get(&address) else { return Held { admitted: None, kept: None } };
        let valid = || known.names.iter().filter(|(_, until_ms)| **until_ms > now_ms);
        let until_ms = valid().map(|(_, until_ms)| *until_ms).max().unwrap_or(0);
        let admitted = judge.named_class(address, &rules(judge, valid().map(|(name, _)| name)));
        let all = judge.named_class(address, &rules(judge, known.names.keys()));
        Held {
            admitted: admitted.map(|class| (class, until_ms)),
            kept: all.filter(|all| Some(*all) != admitted),
        }
    }

    /// Every address that is known.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.keys().copied()
    }

    /// Every address with its names and the end of their time.
    pub fn entries(&self) -> impl Iterator<Item = (IpAddr, &HostName, u64)> {
        self.addresses.iter().flat_map(|(address, known)| {
            known.names.iter().map(|(name, until_ms)| (*address, name, *until_ms))
        })
    }

    /// Takes up what another run of the sidecar knew. What goes beyond a limit is left out.
    pub fn restore(&mut self, entries: impl Iterator<Item = (IpAddr, HostName, u64)>, now_ms: u64) {
        let longest_ms = now_ms.saturating_add(milliseconds(TIME_TO_LIVE_MAX + GRACE));
        for (address, name, until_ms) in entries.take(ADDRESSES_MAX * NAMES_PER_ADDRESS_MAX) {
            let address = address.to_canonical();
            self.make_room(&name, address);
            self.addresses.entry(address).or_default().names.insert(name.clone(), until_ms.min(longest_ms));
            self.by_name.entry(name).or_default().insert(address);
        }
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Names and addresses that were given up for others since the last call.
    pub fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }
}

fn rules<'n>(judge: &Judge, names: impl Iterator<Item = &'n HostName>) -> Vec<RuleIndex> {
    let mut rules: Vec<RuleIndex> = names.flat_map(|name| judge.rules_naming(name)).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! Addresses that names lead to: two maps beside the look-up by address, filled while a program is in force.
//!
//! The first admits, the second only keeps what is open: an address whose time is over admits nothing new, and a
//! connection to it lives on over reloads. Elements vanish by themselves some time after the sidecar would have removed
//! them, so that a dead sidecar leaves no address behind.

use super::Firewall;
use super::FirewallError;
use super::elements::class_key;
use super::limits::NAMED_ADDRESS_MARGIN;
use super::mark::Class;
use super::sets::{Maps, kept_map, named_map};
use bulkhead_facts::{Direction, IpFamily};
use bulkhead_netfilter::conntrack::Flow;
use bulkhead_netfilter::{Batch, Element, Key, LoadedElement, NetlinkError, Set};
use bulkhead_policies::program::ClassId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// An address that names lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedAddress {
    /// The address.
    pub address: IpAddr,
    /// Its class in the program in force.
    pub class: ClassId,
    /// When the sidecar will remove it, if nothing happens before.
    pub until: Instant,
    /// Nothing new is admitted, what is open is kept.
    pub only_open: bool,
}

/// The addresses that are loaded, in which of the two maps. One may be in both: new connections by some of its names, open
/// ones by all.
pub(super) type Named = BTreeMap<(IpAddr, bool), NamedAddress>;

/// As they are loaded.
pub(super) fn loaded(named: &[NamedAddress]) -> Named {
    named.iter().map(|named| (named.place(), *named)).collect()
}

/// What is loaded and goes, and what comes; an address whose class or time is another one is in both.
pub(super) fn difference(old: &Named, new: &[NamedAddress]) -> (Vec<NamedAddress>, Vec<NamedAddress>) {
    let new = loaded(new);
    let stays = |was: &NamedAddress, is: &NamedAddress| was.class == is.class && was.outlives(is);
    let gone = old.iter().filter(|(place, was)| !new.get(*place).is_some_and(|is| stays(was, is)));
    let come = new.iter().filter(|(place, is)| !old.get(*place).is_some_and(|was| stays(was, is)));
    (gone.map(|(_, was)| *was).collect(), come.map(|(_, is)| *is).collect())
}

impl NamedAddress {
    /// Which address in which of the two maps.
    pub(super) fn place(&self) -> (IpAddr, bool) {
        (self.address, self.only_open)
    }

    /// True if it need not be loaded anew for the time of the other.
    fn outlives(&self, other: &Self) -> bool {
        self.until + NAMED_ADDRESS_MARGIN / 2 >= other.until
    }

    pub(super) fn set(&self, number: u16) -> Set {
        let family = if self.address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
        let sets = Maps { direction: Direction::Egress, number };
        if self.only_open { kept_map(sets, family) } else { named_map(sets, family) }
    }

    fn key(&self) -> Key {
        Key::new().address(self.address)
    }

    pub(super) fn element(&self, now: Instant) -> Element {
        let life = self.until.saturating_duration_since(now) + NAMED_ADDRESS_MARGIN;
        Element::single(self.key()).data(self.data()).timeout(life)
    }

    fn data(&self) -> Key {
        Key::new().mark(class_key(self.class))
    }
}

impl Firewall {
    /// Replaces what is loaded of these addresses: one transaction, done when this returns. Without a program that has names
    /// there is nothing to change.
    pub fn change_named(
        &mut self,
        addresses: &[IpAddr],
        named: &[NamedAddress],
    ) -> Result<(), FirewallError> {
        let places = addresses.iter().flat_map(|address| [(*address, false), (*address, true)]);
        let before: Vec<NamedAddress> = places.filter_map(|place| self.named.get(&place).copied()).collect();
        let outlives = |new: &NamedAddress| {
            let alike = before.iter().find(|old| {
                (old.address, old.class, old.only_open) == (new.address, new.class, new.only_open)
            });
            alike.is_some_and(|old| old.outlives(new))
        };
        let unchanged = before.len() == named.len() && named.iter().all(outlives);
        if !self.generation.has_names || unchanged {
            return Ok(());
        }
        let (table, number) = (self.packets.clone(), self.generation.maps);
        let mut batch = Batch::new();
        for old in before {
            self.named.remove(&old.place());
            batch.delete_elements(&table, &old.set(number), &[Element::single(old.key())]);
        }
        add(&mut batch, &table, number, named);
        self.named.extend(loaded(named));
        match self.commit_counted(&batch) {
            // Some have vanished by themselves, as the clock of the kernel has it.
            Err(error) if error.is_not_found() => Ok(self.refill_named()?),
            result => Ok(result?),
        }
    }

    /// The addresses outside that connections through the kernel and the inspector are open to.
    pub fn open_destinations(&mut self) -> Result<BTreeSet<IpAddr>, FirewallError> {
        const OPEN: [Class; 3] = [Class::KernelAllow, Class::Learn, Class::Upstream];
        // One dump for all, since it walks over every connection of the machine: what they share, only the denied have too.
        const NONE_OF_THEIRS: u32 = Class::MASK & !(OPEN[0].bits() | OPEN[1].bits() | OPEN[2].bits());
        let flows = self.conntrack.flows(0, NONE_OF_THEIRS)?;
        let is_open = |flow: &&Flow| OPEN.iter().any(|class| class.bits() == flow.mark & Class::MASK);
        Ok(flows.iter().filter(is_open).map(|flow| flow.original.destination.to_canonical()).collect())
    }

    fn refill_named(&mut self) -> Result<(), NetlinkError> {
        let mut batch = Batch::new();
        for set in maps(self.generation.maps) {
            let loaded = self.connection.elements(&self.packets, set.name())?;
            let keys: Vec<Element> = loaded.into_iter().map(|element| Element::single(element.key)).collect();
            batch.delete_elements(&self.packets, &set, &keys);
        }
        let named: Vec<NamedAddress> = self.named.values().copied().collect();
        add(&mut batch, &self.packets, self.generation.maps, &named);
        self.commit_counted(&batch)
    }

    /// What the maps hold and should not, in words.
    pub(super) fn named_difference(&mut self) -> Result<Option<String>, FirewallError> {
        if !self.generation.has_names {
            return Ok(None);
        }
        for set in maps(self.generation.maps) {
            let loaded = self.connection.elements(&self.packets, set.name())?;
            let known = |element: &LoadedElement| {
                let mut own =
                    self.named.values().filter(|named| named.set(self.generation.maps).name() == set.name());
                own.any(|named| named.key() == element.key && element.data.as_ref() == Some(&named.data()))
            };
            if !loaded.iter().all(known) {
                return Ok(Some(format!("the elements of set `{}` differ", set.name())));
            }
        }
        Ok(None)
    }
}

/// The maps of that number.
pub(super) fn maps(number: u16) -> Vec<Set> {
    let sets = Maps { direction: Direction::Egress, number };
    let families = [IpFamily::V4, IpFamily::V6];
    families.into_iter().flat_map(|family| [named_map(sets, family), kept_map(sets, family)]).collect()
}

/// Adds addresses to the maps of that number.
pub(super) fn add(batch: &mut Batch, table: &bulkhead_netfilter::Table, number: u16, named: &[NamedAddress]) {
    let now = Instant::now();
    for named in named {
        batch.add_elements(table, &named.set(number), &[named.element(now)]);
    }
}

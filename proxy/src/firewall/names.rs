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
use super::sets::{PerGeneration, kept_map, named_map};
use bulkhead_facts::{Direction, IpFamily};
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
    named.iter().map(|named| ((named.address, named.only_open), *named)).collect()
}

impl NamedAddress {
    fn set(&self, generation: u16) -> Set {
        let family = if self.address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
        let sets = PerGeneration { direction: Direction::Egress, generation };
        if self.only_open { kept_map(sets, family) } else { named_map(sets, family) }
    }

    fn key(&self) -> Key {
        Key::new().address(self.address)
    }

    fn element(&self, now: Instant) -> Element {
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
            alike.is_some_and(|old| old.until + NAMED_ADDRESS_MARGIN / 2 >= new.until)
        };
        let unchanged = before.len() == named.len() && named.iter().all(outlives);
        if !self.generation.has_names || unchanged {
            return Ok(());
        }
        let (table, number) = (self.packets.clone(), self.generation.number);
        let mut batch = Batch::new();
        for old in before {
            self.named.remove(&(old.address, old.only_open));
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
        let mut open = BTreeSet::new();
        for class in [Class::KernelAllow, Class::Learn, Class::Upstream] {
            let flows = self.conntrack.flows(class.bits(), Class::MASK)?;
            open.extend(flows.iter().map(|flow| flow.original.destination.to_canonical()));
        }
        Ok(open)
    }

    fn refill_named(&mut self) -> Result<(), NetlinkError> {
        let mut batch = Batch::new();
        for set in maps(self.generation.number) {
            let loaded = self.connection.elements(&self.packets, set.name())?;
            let keys: Vec<Element> = loaded.into_iter().map(|element| Element::single(element.key)).collect();
            batch.delete_elements(&self.packets, &set, &keys);
        }
        let named: Vec<NamedAddress> = self.named.values().copied().collect();
        add(&mut batch, &self.packets, self.generation.number, &named);
        self.commit_counted(&batch)
    }

    /// What the maps hold and should not, in words.
    pub(super) fn named_difference(&mut self) -> Result<Option<String>, FirewallError> {
        if !self.generation.has_names {
            return Ok(None);
        }
        for set in maps(self.generation.number) {
            let loaded = self.connection.elements(&self.packets, set.name())?;
            let known = |element: &LoadedElement| {
                let mut own = self
                    .named
                    .values()
                    .filter(|named| named.set(self.generation.number).name() == set.name());
                own.any(|named| named.key() == element.key && element.data.as_ref() == Some(&named.data()))
            };
            if !loaded.iter().all(known) {
                return Ok(Some(format!("the elements of set `{}` differ", set.name())));
            }
        }
        Ok(None)
    }
}

/// The maps of a generation.
pub(super) fn maps(generation: u16) -> Vec<Set> {
    let sets = PerGeneration { direction: Direction::Egress, generation };
    let families = [IpFamily::V4, IpFamily::V6];
    families.into_iter().flat_map(|family| [named_map(sets, family), kept_map(sets, family)]).collect()
}

/// Adds addresses to the maps of a generation.
pub(super) fn add(
    batch: &mut Batch,
    table: &bulkhead_netfilter::Table,
    generation: u16,
    named: &[NamedAddress],
) {
    let now = Instant::now();
    for named in named {
        batch.add_elements(table, &named.set(generation), &[named.element(now)]);
    }
}

//! Addresses that change hands.
//!
//! An address that one pod gave up and another pod has now might still be used by the first: sidecars learn of it one after
//! the other, packets are on their way, and the inventory may tell of both in either order. So for
//! [`ADDRESS_HOLD_DOWN`] after a pod gave it up, the one before counts as a holder beside the new one, and the compiler
//! allows what both may, no more. Pods are told apart by their UID alone.
//!
//! Pure: whoever calls says what time it is. Begins with nothing: what changed hands while no controller ran is not known.

use crate::limits::{ADDRESS_HOLD_DOWN, ADDRESSES_GIVEN_UP_MAX};
use bulkhead_policies::inventory::{Inventory, ObjectName, Pod};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Who held what until lately.
#[derive(Default)]
pub(super) struct HoldDown {
    last: Arc<Inventory>,
    /// By address and the UID of who gave it up.
    given_up: BTreeMap<(IpAddr, String), Arc<Former>>,
    /// UIDs of the former holders in the inventory that was given last.
    counted: BTreeSet<String>,
    /// The addresses that they hold in it.
    held_down: BTreeSet<IpAddr>,
    /// When the next of them stops to count.
    due: Option<Instant>,
}

/// Pods of the cluster's resolver carry it.
const RESOLVER_LABEL: &str = "k8s-app";

/// A holder of before.
struct Former {
    name: ObjectName,
    pod: Pod,
    until: Instant,
}

impl HoldDown {
    /// The inventory with the former holders that still count.
    pub(super) fn next(&mut self, inventory: &Arc<Inventory>, now: Instant) -> Arc<Inventory> {
        self.given_up.retain(|_, former| former.until > now);
        if !Arc::ptr_eq(&self.last, inventory) {
            self.compare(inventory, now);
            self.last = inventory.clone();
        }
        let mut counting: Vec<_> = self.given_up.iter().collect();
        if !counting.is_empty() {
            let holders = holders(inventory);
            counting.retain(|((address, _), _)| holders.contains_key(address));
        }
        self.due = counting.iter().map(|(_, former)| former.until).min();
        self.held_down = counting.iter().map(|((address, _), _)| *address).collect();
        self.counted.clear();
        if counting.is_empty() {
            return inventory.clone();
        }
        let mut with_former = Inventory::clone(inventory);
        for ((address, uid), former) in counting {
            let (name, pod) = former.beside(uid);
            self.counted.insert(pod.uid.clone());
            with_former.pods.entry(name).or_insert(pod).addresses.push(*address);
        }
        Arc::new(with_former)
    }

    /// When [`Self::next`] would say something else of the same inventory.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The addresses that more than one counts for.
    pub(super) fn held_down(&self) -> &BTreeSet<IpAddr> {
        &self.held_down
    }

    /// True for a former holder in the inventory that was given last.
    pub(super) fn is_former(&self, uid: &str) -> bool {
        self.counted.contains(uid)
    }

    fn compare(&mut self, inventory: &Inventory, now: Instant) {
        let after = holders(inventory);
        let has = |address: &IpAddr, uid: &str| {
            after.get(address).is_some_and(|pods| pods.iter().any(|(_, pod)| pod.uid == uid))
        };
        for (name, pod) in self.last.pods.iter().filter(|(_, pod)| !pod.host_network) {
            let own = pod.addresses.iter().map(IpAddr::to_canonical);
            let gone: Vec<IpAddr> = own.filter(|address| !has(address, &pod.uid)).collect();
            if gone.is_empty() {
                continue;
            }
            let until = now + ADDRESS_HOLD_DOWN;
            let former = Arc::new(Former { name: name.clone(), pod: pod.clone(), until });
            self.given_up
                .extend(gone.into_iter().map(|address| ((address, pod.uid.clone()), former.clone())));
        }
        // Whoever has it again is no former holder.
        self.given_up.retain(|(address, uid), _| !has(address, uid));
        self.forget_beyond_limit();
    }

    fn forget_beyond_limit(&mut self) {
        let beyond = self.given_up.len().saturating_sub(ADDRESSES_GIVEN_UP_MAX);
        if beyond == 0 {
            return;
        }
        let mut ends: Vec<_> =
            self.given_up.iter().map(|(key, former)| (former.until, key.clone())).collect();
        ends.sort_unstable();
        for (_, key) in ends.into_iter().take(beyond) {
            self.given_up.remove(&key);
        }
    }
}

impl Former {
    /// The pod as it counts beside the new holder: with its labels, without ports that others would name. The one by which
    /// the resolver is known is no restriction but opens the address by itself, which a former holder must not.
    fn beside(&self, uid: &str) -> (ObjectName, Pod) {
        let name = format!("{} (former holder, {uid})", self.name.name);
        let mut labels = self.pod.labels.clone();
        labels.remove(RESOLVER_LABEL);
        let pod = Pod {
            labels,
            uid: format!("{uid} (former holder)"),
            addresses: Vec::new(),
            ports: Vec::new(),
            probe_ports: Vec::new(),
            ..self.pod.clone()
        };
        (ObjectName { namespace: self.name.namespace.clone(), name }, pod)
    }
}

/// Pods by their addresses; one in its node's network namespace is its node.
fn holders(inventory: &Inventory) -> BTreeMap<IpAddr, Vec<(&ObjectName, &Pod)>> {
    let mut holders: BTreeMap<IpAddr, Vec<_>> = BTreeMap::new();
    for (name, pod) in inventory.pods.iter().filter(|(_, pod)| !pod.host_network) {
        for address in &pod.addresses {
            holders.entry(address.to_canonical()).or_default().push((name, pod));
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_facts::WorkloadRef;
    use std::time::Duration;

    const ONE: &str = "10.0.0.1";
    const TWO: &str = "10.0.0.2";

    fn inventory(pods: &[(&str, &str, &[&str])]) -> Arc<Inventory> {
        let pod = |(name, uid, addresses): &(&str, &str, &[&str])| {
            let object = ObjectName { namespace: "shop".into(), name: (*name).into() };
            let pod = Pod {
                uid: (*uid).into(),
                workload: WorkloadRef { namespace: "shop".into(), name: (*name).into() },
                labels: ["app", RESOLVER_LABEL].map(|key| (key.to_owned(), (*name).to_owned())).into(),
                service_account: "default".into(),
                addresses: addresses.iter().map(|a| a.parse().expect("an address")).collect(),
                host_network: *name == "node",
                node: "n".into(),
                ports: vec![],
                probe_ports: vec![],
            };
            (object, pod)
        };
        Arc::new(Inventory { pods: pods.iter().map(pod).collect(), ..Inventory::default() })
    }

    /// UIDs of the holders of an address, former ones with a `-`.
    fn at(inventory: &Inventory, address: &str) -> Vec<String> {
        let address = address.parse().expect("an address");
        let all = holders(inventory).remove(&address).unwrap_or_default();
        let mut uids: Vec<String> =
            all.iter().map(|(_, pod)| pod.uid.replace(" (former holder)", "-")).collect();
        uids.sort();
        uids
    }

    /// A clock that stands until it is moved.
    struct Trial {
        hold_down: HoldDown,
        now: Instant,
    }

    impl Trial {
        fn new() -> Self {
            Self { hold_down: HoldDown::default(), now: Instant::now() }
        }

        fn after(&mut self, time: Duration, inventory: &Arc<Inventory>) -> Arc<Inventory> {
            self.now += time;
            self.hold_down.next(inventory, self.now)
        }
    }

    const MOMENT: Duration = Duration::from_millis(10);

    #[test]
    fn the_one_before_counts_beside_the_new_holder_for_the_time_of_the_hold_down() {
        let mut trial = Trial::new();
        trial.after(MOMENT, &inventory(&[("a", "1", &[ONE]), ("c", "3", &[TWO])]));
        let new = inventory(&[("b", "2", &[ONE]), ("c", "3", &[TWO])]);
        let told = trial.after(MOMENT, &new);
        assert_eq!((at(&told, ONE), at(&told, TWO)), (vec!["1-".into(), "2".into()], vec!["3".into()]));
        assert!(trial.hold_down.is_former("1 (former holder)") && !trial.hold_down.is_former("2"));
        let former = told.pods.values().find(|pod| pod.uid.starts_with('1')).expect("there");
        let labels: Vec<_> = former.labels.iter().collect();
        assert_eq!(labels, [(&"app".to_owned(), &"a".to_owned())], "no former holder is the resolver");
        assert_eq!(trial.hold_down.due(), Some(trial.now + ADDRESS_HOLD_DOWN));
        let still = trial.after(ADDRESS_HOLD_DOWN - MOMENT, &new);
        assert_eq!(at(&still, ONE).len(), 2);
        let over = trial.after(MOMENT, &new);
        assert!(Arc::ptr_eq(&over, &new) && trial.hold_down.due().is_none());
    }

    #[test]
    fn an_address_that_lies_idle_is_held_down_from_when_it_was_given_up() {
        let mut trial = Trial::new();
        trial.after(MOMENT, &inventory(&[("a", "1", &[ONE])]));
        let told = trial.after(MOMENT, &inventory(&[]));
        assert!(at(&told, ONE).is_empty(), "who holds nothing may nothing");
        assert_eq!(trial.hold_down.due(), None);
        let next = inventory(&[("b", "2", &[ONE])]);
        assert_eq!(at(&trial.after(ADDRESS_HOLD_DOWN / 2, &next), ONE), ["1-", "2"]);
        assert_eq!(at(&trial.after(ADDRESS_HOLD_DOWN / 2, &next), ONE), ["2"]);
    }

    #[test]
    fn a_pod_that_only_has_other_labels_or_another_name_is_no_other_holder() {
        let mut trial = Trial::new();
        trial.after(MOMENT, &inventory(&[("a", "1", &[ONE])]));
        let renamed = inventory(&[("b", "1", &[ONE])]);
        assert!(Arc::ptr_eq(&trial.after(MOMENT, &renamed), &renamed));
    }

    #[test]
    fn a_pod_of_the_same_name_with_another_uid_is_another_holder() {
        let mut trial = Trial::new();
        trial.after(MOMENT, &inventory(&[("db-0", "1", &[ONE])]));
        assert_eq!(at(&trial.after(MOMENT, &inventory(&[("db-0", "2", &[ONE])])), ONE), ["1-", "2"]);
    }

    #[test]
    fn whoever_has_it_again_is_no_former_holder_and_each_of_several_counts_for_its_own_time() {
        let mut trial = Trial::new();
        let half = ADDRESS_HOLD_DOWN / 2;
        trial.after(MOMENT, &inventory(&[("a", "1", &[ONE])]));
        trial.after(MOMENT, &inventory(&[("b", "2", &[ONE])]));
        let third = inventory(&[("c", "3", &[ONE])]);
        assert_eq!(at(&trial.after(half, &third), ONE), ["1-", "2-", "3"]);
        assert_eq!(at(&trial.after(half, &third), ONE), ["2-", "3"]);
        assert_eq!(at(&trial.after(MOMENT, &inventory(&[("b", "2", &[ONE])])), ONE), ["2", "3-"]);
    }

    #[test]
    fn both_in_the_inventory_count_as_long_as_they_are_there_and_the_one_that_goes_for_a_while() {
        let mut trial = Trial::new();
        let both = inventory(&[("a", "1", &[ONE]), ("b", "2", &[ONE])]);
        assert_eq!(at(&trial.after(MOMENT, &both), ONE), ["1", "2"]);
        assert_eq!(at(&trial.after(10 * ADDRESS_HOLD_DOWN, &both), ONE), ["1", "2"]);
        let one = inventory(&[("b", "2", &[ONE])]);
        assert_eq!(at(&trial.after(MOMENT, &one), ONE), ["1-", "2"]);
        assert_eq!(at(&trial.after(ADDRESS_HOLD_DOWN, &one), ONE), ["2"]);
    }

    #[test]
    fn a_pod_on_its_nodes_network_gives_up_nothing() {
        let mut trial = Trial::new();
        trial.after(MOMENT, &inventory(&[("node", "1", &[ONE])]));
        let next = inventory(&[("b", "2", &[ONE])]);
        assert!(Arc::ptr_eq(&trial.after(MOMENT, &next), &next));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut trial = Trial::new();
        let many: Vec<String> = (0..=ADDRESSES_GIVEN_UP_MAX)
            .map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + u32::try_from(n).expect("few")).to_string())
            .collect();
        let addresses: Vec<&str> = many.iter().map(String::as_str).collect();
        trial.after(MOMENT, &inventory(&[("a", "1", &addresses)]));
        trial.after(MOMENT, &inventory(&[]));
        assert_eq!(trial.hold_down.given_up.len(), ADDRESSES_GIVEN_UP_MAX);
    }
}

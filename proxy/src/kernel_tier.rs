//! The kernel tier as the process runs it: the table behind the enforcement thread, and two threads that read what the
//! kernel tells by itself.
//!
//! The readers only add detail: without them enforcement, counts of denials and bytes are the same, told later. They
//! end with the table's owner.

use crate::clock;
use crate::config::{InfrastructureRule, Place};
use crate::enforcement::Table;
use crate::firewall::{
    self, DenialReader, Firewall, FirewallError, FirewallOptions, FlowReader, Fullness, Infrastructure,
    Marks, Means, NamedAddress, Recognition, TableState,
};
use crate::flows::Recorder;
use crate::flows::kernel::KernelFlows;
use crate::limits::{TABLE_RULES_MAX, THREAD_STACK_BYTES};
use crate::metrics::Metrics;
use crate::posture::Posture;
use crate::{policy, system};
use bulkhead_api::{Capability, Weakness};
use bulkhead_netfilter::NetlinkError;
use bulkhead_policies::decide::Judge;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The table, with what is collected from it.
pub struct KernelTier {
    firewall: Firewall,
    flows: Arc<KernelFlows>,
    metrics: Arc<Metrics>,
    posture: Posture,
    dump_due: Instant,
    forgetting_due: Instant,
    open_queue: Option<String>,
    foreign_rules: Option<String>,
    nearly_full: bool,
    /// Packets and bytes of each named rule of the table, as told last.
    counted: HashMap<String, (u64, u64)>,
    /// Finds out how the app can see its clients, before the first program that captures.
    leg_trial: Option<LegTrial>,
    /// Ends them when the table's owner ends.
    _readers: Readers,
}

/// Tries a leg to the app, which takes the hooks of captured flows.
pub type LegTrial = Box<dyn FnOnce() + Send>;

/// Why there is no kernel tier.
#[derive(Debug, thiserror::Error)]
pub enum KernelTierError {
    /// The table.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The system.
    #[error("no thread or random numbers from the system: {0}")]
    System(#[from] io::Error),
}

const DUMP_INTERVAL: Duration = Duration::from_secs(5);
/// A list of all connections takes at most one part in so many of the thread's time: with very many connections, bytes of
/// open ones are told later.
const DUMP_SHARE: u32 = 50;
/// At latest so.
const DUMP_INTERVAL_MAX: Duration = Duration::from_secs(60);
const FORGETTING_INTERVAL: Duration = Duration::from_secs(60);
/// A reader that fails tries again after this time.
const READER_RETRY: Duration = Duration::from_secs(1);

/// Loads the closed table, unless there is one of ours.
///
/// # Errors
///
/// If the kernel refuses.
pub fn load_closed(place: &Place) -> Result<(), KernelTierError> {
    Ok(firewall::load_closed(options(place)?)?)
}

impl KernelTierError {
    /// True if the sidecar goes on without a table: it may not load one, or somebody chose so.
    pub fn leaves_advisory(&self, place: &Place) -> bool {
        place.fail_open || matches!(self, Self::Firewall(FirewallError::NotPermitted(_)))
    }
}

impl KernelTier {
    /// Takes over the table that is there, else loads the closed one, and begins to read what the kernel tells.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn open(
        place: &Place,
        recorder: Arc<Recorder>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, KernelTierError> {
        let mut firewall = Firewall::open(options(place)?)?;
        let pod_addresses = place.pod_addresses.clone();
        let flows = Arc::new(KernelFlows::new(recorder, pod_addresses, firewall.answers(), policy::closed()));
        let mut readers = Readers::default();
        match firewall.flow_reader() {
            Ok(reader) => readers.read_connections(reader, flows.clone(), metrics.clone())?,
            Err(error) => tracing::warn!(%error, "connections are told by the dump only"),
        }
        match firewall.denial_reader() {
            Ok(reader) => readers.read_denials(reader, flows.clone(), metrics.clone())?,
            Err(error) => tracing::warn!(%error, "denials are reported without their senders"),
        }
        // What is open now was opened under a sidecar before. What opens from here on is found by the next list.
        flows.dumped(&firewall.flows()?, clock::unix_ms());
        let now = Instant::now();
        let posture = posture(&firewall, place, metrics.clone());
        Ok(Self {
            firewall,
            flows,
            metrics,
            posture,
            dump_due: now,
            forgetting_due: now + FORGETTING_INTERVAL,
            open_queue: None,
            foreign_rules: None,
            nearly_full: false,
            counted: HashMap::new(),
            leg_trial: None,
            _readers: readers,
        })
    }

    /// Has legs to the app tried before the first program that needs some. Until then connections do not pay for their routes.
    pub fn try_legs_by(&mut self, trial: LegTrial) {
        self.leg_trial = Some(trial);
    }

    /// How the sidecar's sockets must be marked.
    pub fn marks(&self) -> Marks {
        self.firewall.marks()
    }

    /// What can be promised here, kept up to date.
    pub fn posture(&self) -> Posture {
        self.posture.clone()
    }

    /// Says once what stays open to programs that hold CAP_NET_RAW, and again when that changes. Right after a start the
    /// queues may still be those of a sidecar that has just ended.
    fn tell_of_open_queue(&mut self) {
        let open = self.firewall.open_queue();
        if open != self.open_queue.as_deref() {
            self.open_queue = open.map(str::to_owned);
            self.posture.note(Weakness::FramesOpen, self.open_queue.is_some());
            if let Some(queue) = &self.open_queue {
                tracing::warn!(
                    queue,
                    "frames of AF_XDP sockets are not stopped here: grant no app CAP_NET_RAW"
                );
            }
        }
    }

    /// Says once that rules of somebody else are there, and again when they change.
    fn tell_of_foreign_rules(&mut self) {
        let foreign = self.firewall.foreign_rules();
        if foreign != self.foreign_rules.as_deref() {
            self.foreign_rules = foreign.map(str::to_owned);
            self.posture.note(Weakness::ForeignRules, self.foreign_rules.is_some());
            if let Some(tables) = &self.foreign_rules {
                tracing::warn!(
                    tables,
                    "rules of somebody else are in this network namespace: what they rewrite is judged by what it was"
                );
            }
        }
    }

    /// Says once that connections will soon be dropped for want of room, and again when that changes: no rule sees them.
    fn tell_of_fullness(&mut self) -> Result<(), FirewallError> {
        let full = self.firewall.fullness()?;
        self.metrics.connections_tracked.set(full.tracked.into());
        self.metrics.connections_tracked_max.set(full.most.into());
        let before = std::mem::replace(&mut self.nearly_full, is_nearly_full(full));
        if self.nearly_full && !before {
            tracing::warn!(
                tracked = full.tracked,
                most = full.most,
                "the kernel's list of connections is nearly full, beyond its end new ones are dropped without a verdict: raise \
                 net.netfilter.nf_conntrack_max on the node"
            );
        }
        Ok(())
    }

    /// What the named rules of the table saw: infrastructure, guards, verdicts.
    fn count_rules(&mut self) -> Result<(), FirewallError> {
        for counter in self.firewall.counters()? {
            let room = self.counted.len() < TABLE_RULES_MAX;
            if !room && !self.counted.contains_key(&counter.name) {
                continue;
            }
            let now = (counter.packets, counter.bytes);
            let before = self.counted.insert(counter.name.clone(), now).unwrap_or_default();
            // A rule that was loaded anew counts from 0.
            let before = if before.0 <= now.0 { before } else { (0, 0) };
            self.metrics.table_rule(&counter.name, now.0 - before.0, now.1.saturating_sub(before.1));
        }
        Ok(())
    }

    fn collect_denials(&mut self) -> Result<(), FirewallError> {
        let denials = self.firewall.denials()?;
        if denials.overflowed > 0 {
            self.metrics.denied_edges_overflowed.inc_by(denials.overflowed);
            tracing::warn!(
                packets = denials.overflowed,
                "more edges were denied than can be told apart: a scan?"
            );
        }
        self.flows.denied(&denials, clock::unix_ms());
        Ok(())
    }
}

impl Table for KernelTier {
    type Error = FirewallError;

    fn apply(&mut self, judge: &Arc<Judge>) -> Result<u16, FirewallError> {
        self.apply_with_names(judge, &[])
    }

    fn apply_with_names(&mut self, judge: &Arc<Judge>, named: &[NamedAddress]) -> Result<u16, FirewallError> {
        if self.leg_trial.is_some() && Firewall::captures(judge) {
            // Where this fails the next program tries again.
            self.firewall.begin_capturing()?;
            if let Some(try_legs) = self.leg_trial.take() {
                try_legs();
            }
        }
        let applied = self.firewall.apply_with_names(judge, named)?;
        if applied.means == Means::Elements {
            self.metrics.program_element_changes.inc();
        }
        self.flows.replace_program(judge.clone());
        Ok(applied.generation)
    }

    fn change_named(&mut self, addresses: &[IpAddr], named: &[NamedAddress]) -> Result<(), FirewallError> {
        self.firewall.change_named(addresses, named)
    }

    fn open_destinations(&mut self) -> Result<BTreeSet<IpAddr>, FirewallError> {
        self.firewall.open_destinations()
    }

    fn heartbeat(&mut self) -> Result<(), FirewallError> {
        self.firewall.heartbeat()
    }

    fn restore_if_changed(&mut self) -> Result<Option<String>, FirewallError> {
        let changed = self.firewall.verify();
        self.tell_of_open_queue();
        self.tell_of_foreign_rules();
        Ok(match changed? {
            TableState::Intact => None,
            TableState::Restored(difference) => Some(difference),
        })
    }

    fn fails_open(&self) -> bool {
        self.posture.fails_open()
    }

    fn collect(&mut self) -> Result<(), FirewallError> {
        self.collect_denials()?;
        let now = Instant::now();
        if now >= self.dump_due {
            self.dump_due = now + DUMP_INTERVAL;
            self.flows.dumped(&self.firewall.flows()?, clock::unix_ms());
            self.count_rules()?;
            self.tell_of_fullness()?;
            self.dump_due = now + dump_interval(now.elapsed());
        }
        if now >= self.forgetting_due {
            self.forgetting_due = now + FORGETTING_INTERVAL;
            self.firewall.forget_replaced_programs()?;
        }
        self.firewall.prepare_next()
    }
}

/// True if nine of ten places are taken. A kernel that tells no limit has none.
fn is_nearly_full(full: Fullness) -> bool {
    full.most > 0 && u64::from(full.tracked) * 10 >= u64::from(full.most) * 9
}

/// Time from one list of all connections to the next, where one took so long.
fn dump_interval(took: Duration) -> Duration {
    (took * DUMP_SHARE).clamp(DUMP_INTERVAL, DUMP_INTERVAL_MAX)
}

/// Threads that end when told.
#[derive(Default)]
struct Readers {
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    fn read_connections(
        &mut self,
        mut reader: FlowReader,
        flows: Arc<KernelFlows>,
        metrics: Arc<Metrics>,
    ) -> io::Result<()> {
        self.start("connections", move || {
            let read = reader.read()?;
            if read.overrun {
                metrics.lost_connection_events.inc();
            }
            let now_ms = clock::unix_ms();
            read.flows.iter().for_each(|flow| flows.ended(flow, now_ms));
            Ok(())
        })
    }

    fn read_denials(
        &mut self,
        mut reader: DenialReader,
        flows: Arc<KernelFlows>,
        metrics: Arc<Metrics>,
    ) -> io::Result<()> {
        self.start("denials", move || {
            let read = reader.read()?;
            metrics.lost_denial_details.inc_by(read.lost);
            let now_ms = clock::unix_ms();
            read.packets.iter().for_each(|packet| flows.denial_logged(packet, now_ms));
            Ok(())
        })
    }

    fn start(
        &mut self,
        name: &'static str,
        mut read: impl FnMut() -> Result<(), NetlinkError> + Send + 'static,
    ) -> io::Result<()> {
        let ending = self.ending.clone();
        let read_until_told = move || {
            while !ending.load(Ordering::Acquire) {
                if let Err(error) = read() {
                    tracing::warn!(%error, reader = name, "the kernel's words are not readable");
                    thread::sleep(READER_RETRY);
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(THREAD_STACK_BYTES);
        self.threads.push(thread.spawn(read_until_told)?);
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn posture(firewall: &Firewall, place: &Place, metrics: Arc<Metrics>) -> Posture {
    let capability = match firewall.capability() {
        firewall::Capability::Enforced => Capability::Enforced,
        firewall::Capability::L4Only => Capability::L4Only,
        firewall::Capability::Advisory => Capability::Advisory,
    };
    let recognition = firewall.recognition();
    let posture = Posture::new(capability, metrics);
    posture.note(Weakness::RecognisedByMarkAndUser, recognition == Recognition::User);
    posture.note(Weakness::RecognisedByMark, recognition == Recognition::Mark);
    posture.note(Weakness::FailOpen, place.fail_open);
    if capability != Capability::Enforced {
        tracing::warn!("{}: requests cannot be inspected here, what needs it is denied", capability.as_str());
    }
    if place.fail_open {
        tracing::warn!("fail-open: while this sidecar is dead, what it would inspect passes uninspected");
    }
    tracing::info!(capability = capability.as_str(), ?recognition, "what can be promised here");
    posture
}

fn infrastructure(place: &Place) -> Infrastructure {
    let holds = |rule| place.infrastructure.contains(&rule);
    Infrastructure {
        neighbour_discovery: holds(InfrastructureRule::NeighbourDiscovery),
        administrative_port: holds(InfrastructureRule::AdministrativePort),
        dhcp: holds(InfrastructureRule::Dhcp),
        router_discovery: holds(InfrastructureRule::RouterDiscovery),
        multicast_listeners: holds(InfrastructureRule::MulticastListeners),
    }
}

fn options(place: &Place) -> io::Result<FirewallOptions> {
    Ok(FirewallOptions {
        controller: Some(place.controller),
        admin_port: place.admin_port,
        admin_peers: place.node_addresses.clone(),
        fail_open: place.fail_open,
        infrastructure: infrastructure(place),
        ..FirewallOptions::new(system::effective_user())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_connections_that_takes_long_is_asked_for_less_often() {
        let of = |ms| dump_interval(Duration::from_millis(ms)).as_secs();
        assert_eq!([of(0), of(100), of(300), of(1_200), of(10_000)], [5, 5, 15, 60, 60]);
    }

    #[test]
    fn nine_tenths_of_the_room_for_connections_are_told_and_no_limit_is_not() {
        let of = |tracked, most| is_nearly_full(Fullness { tracked, most });
        assert_eq!([of(0, 0), of(89, 100), of(90, 100), of(u32::MAX, u32::MAX)], [false, false, true, true]);
    }
}

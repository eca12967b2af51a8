//! The kernel tier: a program becomes the table `bulkhead`, and the table says what it did.
//!
//! [`Firewall`] owns the table. It is loaded closed before any app starts ([`load_closed`]), outlives the sidecar, is
//! adopted by the next one, and changes programs without a gap. Enforcement needs nobody: what a dead
//! sidecar would inspect is refused, the rest goes on. Reading order: `mark.rs` for what a mark says, `chains.rs`
//! for the way of a packet, `judgement.rs` for what changes with a program, `apply.rs` and `table.rs` for how.
//! Everything blocks on netlink: call it from a thread of its own.

mod answers;
mod apply;
mod chains;
mod change;
mod counters;
mod denials;
mod elements;
mod foreign;
mod frames;
mod hooks;
mod infrastructure;
mod judgement;
mod kernel_options;
pub mod limits;
mod mark;
mod names;
mod options;
mod queues;
mod readers;
mod recognition;
mod sets;
mod table;
mod uncaptured;

pub use answers::{Answers, MarkedAnswer};
pub use counters::Counter;
pub use denials::{Denials, DeniedEdge};
pub use kernel_options::{KernelOption, missing_kernel_option};
pub use mark::{Class, Guard, Mark};
pub use names::NamedAddress;
pub use options::{
    ControlGroup, DNS_PORT, FirewallOptions, INBOUND_PORT, INBOUND_UDP_PORT, Infrastructure, Marks,
    OUTBOUND_PORT, ROUTE_MARK,
};
pub use readers::{DenialReader, DeniedPacket, DeniedPackets, EndedFlows, FlowReader, KernelFlow};

use bulkhead_facts::L4Protocol;
use bulkhead_netfilter::conntrack::Conntrack;
pub use bulkhead_netfilter::conntrack::Fullness;
use bulkhead_netfilter::local_sockets::LocalSockets;
use bulkhead_netfilter::route::{Device, Routes};
use bulkhead_netfilter::{Batch, Connection, Element, Key, NetlinkError, Table};
use bulkhead_policies::decide::Judge;
use denials::DenialCounts;
use judgement::Generation;
use kernel_options::REDIRECT_OPTION;
use queues::Queues;
use readers::LocalAddresses;
use std::io;
use std::sync::Arc;
use table::Content;

/// The name of both tables: of packets (`inet`) and of frames (`netdev`).
pub const TABLE_NAME: &str = "bulkhead";

/// Why the kernel tier cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// We may not administer this network: nothing is enforced.
    #[error("nothing can be enforced here: {0}")]
    NotPermitted(#[source] NetlinkError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(NetlinkError),
    /// The kernel was built without something that the table needs.
    #[error(
        "this kernel lacks {}, needed for {}: the table is not loaded; boot a kernel built with {}, or load its module \
         on the host ({source})",
        option.name, option.purpose, option.name
    )]
    KernelOption {
        /// What it was built without.
        option: KernelOption,
        /// What it refused.
        source: NetlinkError,
    },
    /// The program is too large.
    #[error("the program has {entries} entries, the kernel table takes {most}: select fewer peers or ports")]
    TooLarge {
        /// Spans and boxes of the program.
        entries: usize,
        /// The limit.
        most: usize,
    },
    /// Our own packets do not look to the table like the sidecar's: it would capture them for ever.
    #[error(
        "the kernel does not take this process for the sidecar: run it as user {uid}, in the user namespace that owns \
         this network namespace"
    )]
    NotRecognised {
        /// The user that the table expects.
        uid: u32,
    },
    /// The loopback device does not carry our own packets.
    #[error("no connection over the loopback device: {0}; bring up the device `lo`")]
    Loopback(#[source] io::Error),
    /// There are too many devices.
    #[error("{devices} network devices: at most {most} can be guarded", most = limits::DEVICES_MAX)]
    TooManyDevices {
        /// How many there are.
        devices: usize,
    },
}

impl From<NetlinkError> for FirewallError {
    fn from(error: NetlinkError) -> Self {
        if error.is_not_permitted() { Self::NotPermitted(error) } else { Self::Kernel(error) }
    }
}

/// What a program became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The generation that its marks carry; never 0.
    pub generation: u16,
    /// How.
    pub means: Means,
}

/// How a program came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Elements of the maps that were in force have changed.
    Elements,
    /// It has maps and chains of its own.
    Reload,
}

/// Whether the table is still ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableState {
    /// As we left it.
    Intact,
    /// It was changed by somebody else and has been put back; what was found.
    Restored(String),
}

/// What of the promises holds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Everything.
    Enforced,
    /// Addresses and ports are enforced, requests are not: flows cannot be handed to the inspector.
    L4Only,
    /// Nothing: verdicts are only reported.
    Advisory,
}

impl Capability {
    /// `enforced`, `l4_only` or `advisory`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::L4Only => "l4_only",
            Self::Advisory => "advisory",
        }
    }
}

/// By what the table tells the sidecar's own sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// By mark, user and a control group that is the sidecar's own.
    ControlGroup,
    /// By mark and user.
    User,
    /// By mark: the sidecar's user is root, as an app's may be.
    Mark,
}

/// Loads the closed table, unless there is one of ours already: nothing passes but what the pod and the sidecar need
/// to live. For the moment before any app starts; doing it again changes nothing.
pub fn load_closed(options: FirewallOptions) -> Result<(), FirewallError> {
    Firewall::take_over(options).map(|_| ())
}

/// The owner of the table.
#[derive(Debug)]
pub struct Firewall {
    connection: Connection,
    conntrack: Conntrack,
    routes: Routes,
    sockets: LocalSockets,
    options: FirewallOptions,
    packets: Table,
    frames: Table,
    generation: Generation,
    judge: Option<Arc<Judge>>,
    named: names::Named,
    answers: Answers,
    devices: Vec<Device>,
    local: LocalAddresses,
    denials: DenialCounts,
    queues: Queues,
    /// Rules of somebody else, in words.
    foreign: Option<String>,
    /// The last of the generations to come whose marks no flow carries.
    cleared_to: Option<u16>,
    /// The kernel's count of transactions after our last one; `None` if somebody else's may have come between.
    transactions: Option<u32>,
}

impl Firewall {
    /// Takes over the table that is there, else loads the closed one; makes sure that it takes this process for the
    /// sidecar. Finds the control group that tells it best, unless one is given.
    pub fn open(mut options: FirewallOptions) -> Result<Self, FirewallError> {
        if options.control_group.is_none() {
            options.control_group = recognition::find(&mut Connection::open()?);
        }
        let mut firewall = Self::take_over(options)?;
        let before = firewall.local_legs()?;
        crate::intercept::make_local_leg(firewall.marks()).map_err(FirewallError::Loopback)?;
        if firewall.local_legs()? == before {
            return Err(FirewallError::NotRecognised { uid: firewall.options.sidecar_uid });
        }
        firewall.queues.hold(&firewall.devices);
        Ok(firewall)
    }

    /// How many legs to the app the table has seen.
    fn local_legs(&mut self) -> Result<u64, FirewallError> {
        let rules = self.connection.rules(&self.packets)?;
        let rule = rules.iter().find(|rule| rule.name.as_deref() == Some(chains::LOCAL_LEG_RULE));
        Ok(rule.map_or(0, |rule| rule.packets))
    }

    fn take_over(options: FirewallOptions) -> Result<Self, FirewallError> {
        let mut firewall = Self {
            connection: Connection::open()?,
            conntrack: Conntrack::open()?,
            routes: Routes::open()?,
            sockets: LocalSockets::open()?,
            options,
            packets: table::packets(TABLE_NAME),
            frames: frames::table(TABLE_NAME),
            generation: Generation::closed(Mark::GENERATION_MAX),
            judge: None,
            named: names::Named::default(),
            answers: Answers::default(),
            devices: Vec::new(),
            local: LocalAddresses::default(),
            denials: DenialCounts::default(),
            queues: Queues::default(),
            foreign: None,
            cleared_to: None,
            transactions: None,
        };
        firewall.devices = firewall.current_devices()?;
        firewall.local.replace(firewall.routes.addresses()?);
        match table::found_generation(&mut firewall.connection, &firewall.packets)? {
            Some(found) if firewall.adopt(found)? => {}
            found => {
                firewall.generation = found.unwrap_or(firewall.generation);
                firewall.close()?;
            }
        }
        firewall.route_legs()?;
        Ok(firewall)
    }

    /// Keeps learning's redirect alive for [`limits::HEARTBEAT_LIFE`].
    pub fn heartbeat(&mut self) -> Result<(), FirewallError> {
        let set = sets::alive();
        let carriers = [L4Protocol::TCP, L4Protocol::UDP].map(|p| Element::single(Key::new().protocol(p.0)));
        let alive = carriers.clone().map(|carrier| carrier.timeout(limits::HEARTBEAT_LIFE));
        let mut renewal = Batch::new();
        renewal.delete_elements(&self.packets, &set, &carriers);
        renewal.add_elements(&self.packets, &set, &alive);
        match self.commit_counted(&renewal) {
            // It had expired: then there is nothing to delete.
            Err(error) if error.is_not_found() => {
                let mut first = Batch::new();
                first.add_elements(&self.packets, &set, &alive);
                Ok(self.commit_counted(&first)?)
            }
            result => Ok(result?),
        }
    }

    /// Commits what leaves the rules as they are, so that it need not look like tampering.
    fn commit_counted(&mut self, batch: &Batch) -> Result<(), NetlinkError> {
        self.connection.commit(batch)?;
        // What is empty is no transaction: counted, it would hide one of somebody else.
        if !batch.is_empty() {
            self.transactions = self.transactions.map(|transactions| transactions.wrapping_add(1));
        }
        Ok(())
    }

    /// What was denied since the call before.
    pub fn denials(&mut self) -> Result<Denials, FirewallError> {
        Ok(self.denials.dump(&mut self.connection, &self.packets, &self.answers)?)
    }

    /// Compares what is loaded with what we loaded; puts back what differs: the closed table first, then the program.
    /// Cheap while nobody else changes any table of this namespace. For every second.
    pub fn verify(&mut self) -> Result<TableState, FirewallError> {
        self.local.replace(self.routes.addresses()?);
        // Without them the legs to the app would hang, nothing would leak: put back without a word.
        self.route_legs()?;
        let devices = self.current_devices()?;
        if devices != self.devices {
            self.devices = devices;
            self.transactions = None;
            self.guard_new_devices()?;
        }
        self.queues.hold(&self.devices);
        let transactions = self.connection.generation()?;
        if self.transactions == Some(transactions) {
            return Ok(TableState::Intact);
        }
        let state = match self.difference()? {
            None => TableState::Intact,
            Some(difference) => {
                self.restore()?;
                TableState::Restored(difference)
            }
        };
        self.foreign = foreign::rules(&mut self.connection)?;
        // Taken before the comparison: a change meanwhile is found by the next call.
        self.transactions = (state == TableState::Intact).then_some(transactions);
        Ok(state)
    }

    /// Which queue of a device could not be kept from programs that hold CAP_NET_RAW, and why; `None` if all are.
    pub fn open_queue(&self) -> Option<&str> {
        self.queues.lacking()
    }

    /// Rules of somebody else that [`Self::verify`] found beside ours; they are left alone.
    pub fn foreign_rules(&self) -> Option<&str> {
        self.foreign.as_deref()
    }

    fn difference(&mut self) -> Result<Option<String>, FirewallError> {
        // A program adopted from a sidecar before is known by its shape only.
        let known = self.judge.is_some() || !self.generation.has_program;
        let content = Content::whole(&self.options, self.generation, self.judge.as_deref());
        if let Some(difference) = content.difference(&mut self.connection, &self.packets, known)? {
            return Ok(Some(difference));
        }
        if known && let Some(difference) = self.named_difference()? {
            return Ok(Some(difference));
        }
        self.frames_difference()
    }

    fn frames_difference(&mut self) -> Result<Option<String>, FirewallError> {
        if !self.connection.table_exists(&self.frames)? {
            return Ok(Some("the table of frames is gone".to_owned()));
        }
        let chains = self.connection.chains(&self.frames)?;
        let rules = self.connection.rules(&self.frames)?;
        let expected = frames::rules(&self.options);
        for device in &self.devices {
            let chain = frames::chain(device);
            let of_chain: Vec<_> = rules.iter().filter(|rule| rule.chain == chain.name()).collect();
            let same = of_chain.len() == expected.len()
                && of_chain.iter().zip(&expected).all(|(loaded, rule)| loaded.is(rule));
            if !same || !chains.iter().any(|loaded| loaded.is(&chain)) {
                return Ok(Some(format!("the guard of device `{}` differs", device.name)));
            }
        }
        Ok(None)
    }

    fn guard_new_devices(&mut self) -> Result<(), FirewallError> {
        if !self.connection.table_exists(&self.frames)? {
            return Ok(());
        }
        let guarded = self.connection.chains(&self.frames)?;
        let mut batch = Batch::new();
        for device in &self.devices {
            if !guarded.iter().any(|chain| chain.name == frames::chain(device).name()) {
                frames::add(&mut batch, &self.frames, device, &self.options);
            }
        }
        Ok(self.connection.commit(&batch)?)
    }

    /// The open connections that the kernel passes by itself.
    pub fn flows(&mut self) -> Result<Vec<KernelFlow>, FirewallError> {
        // One dump for both classes, since it walks over every connection of the machine: what they share, no other class has.
        const EITHER: u32 = Class::MASK & !(Class::KernelAllow.bits() ^ Class::Learn.bits());
        let flows = self.conntrack.flows(Class::KernelAllow.bits(), EITHER)?;
        Ok(flows.iter().filter_map(|flow| self.local.kernel_flow(flow)).collect())
    }

    /// How full the kernel's list of connections is: beyond its end new ones are dropped without a verdict.
    pub fn fullness(&mut self) -> Result<Fullness, FirewallError> {
        Ok(self.conntrack.fullness()?)
    }

    /// Forgets replaced programs of which no flow is left, and hooks that nothing needs any more. For every minute or so.
    pub fn forget_replaced_programs(&mut self) -> Result<(), FirewallError> {
        if self.judge.as_ref().is_some_and(|judge| !Self::captures(judge)) {
            self.end_capturing()?;
        }
        for generation in self.answers.replaced() {
            let mark = Mark::nothing_matched(generation);
            if self.conntrack.flows(mark, Mark::GENERATION_MASK)?.is_empty() {
                self.answers.forget(generation);
            }
        }
        Ok(())
    }

    /// What marks say, for readers in other threads.
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }

    /// The generation in force.
    pub fn generation(&self) -> u16 {
        self.generation.number
    }

    /// How the sidecar's sockets must be marked: see [`crate::intercept`].
    pub fn marks(&self) -> Marks {
        self.options.marks
    }

    /// What holds while this table is loaded.
    pub fn capability(&self) -> Capability {
        if self.options.hands_over { Capability::Enforced } else { Capability::L4Only }
    }

    /// By what it tells us.
    pub fn recognition(&self) -> Recognition {
        match (self.options.control_group, self.options.sidecar_uid) {
            (Some(_), _) => Recognition::ControlGroup,
            (None, 0) => Recognition::Mark,
            (None, _) => Recognition::User,
        }
    }

    /// A reader of denied packets.
    pub fn denial_reader(&self) -> Result<DenialReader, FirewallError> {
        Ok(DenialReader::open(self.answers.clone())?)
    }

    /// A reader of connections that open and end.
    pub fn flow_reader(&self) -> Result<FlowReader, FirewallError> {
        Ok(FlowReader::open(self.local.clone())?)
    }

    /// Takes over a table that looks like ours; false if it does not.
    fn adopt(&mut self, found: Generation) -> Result<bool, FirewallError> {
        let tables = (&self.packets, &self.frames);
        if !self.connection.table_exists(&self.frames)? {
            return Ok(false);
        }
        match table::renew_lasting_chains(&mut self.connection, tables, &self.options, found, &self.devices) {
            Ok(()) => {}
            // Something that our rules name is missing or of another kind: it is the table of another version.
            Err(error) if error.is_not_permitted() => return Err(error.into()),
            Err(_) => return Ok(false),
        }
        self.generation = found;
        Ok(self.difference()?.is_none())
    }

    /// Replaces whatever is there by the closed table, under a generation of its own.
    fn close(&mut self) -> Result<(), FirewallError> {
        let closed = Generation::closed(self.generation.next_number());
        let closed = Generation { captures: self.generation.captures, ..closed };
        self.clear_marks_of(closed.number)?;
        let tables = (&self.packets, &self.frames);
        let loaded = table::load_closed(&mut self.connection, tables, &self.options, closed, &self.devices);
        if loaded.is_err() {
            // It may have begun.
            self.cleared_to = None;
        }
        match loaded.map_err(|error| self.explained(error)) {
            Err(error) if goes_without_redirects(&mut self.options, &error) => return self.close(),
            loaded => loaded?,
        }
        self.generation = closed;
        self.transactions = None;
        Ok(())
    }

    /// Names the option that the kernel lacks, if that is why it refused the table.
    fn explained(&mut self, source: NetlinkError) -> FirewallError {
        let lacks = kernel_options::may_be_missing(&source);
        match lacks.then(|| kernel_options::first_refused(&mut self.connection)).flatten() {
            Some(option) => FirewallError::KernelOption { option, source },
            None => source.into(),
        }
    }

    fn current_devices(&mut self) -> Result<Vec<Device>, FirewallError> {
        let devices = frames::guarded(self.routes.devices()?);
        match devices.len() {
            count if count > limits::DEVICES_MAX => Err(FirewallError::TooManyDevices { devices: count }),
            _ => Ok(devices),
        }
    }
}

/// True if the kernel only lacks redirects, and this is found out now: addresses and ports can be held to policy all the
/// same, by a table that denies what needs the inspector.
fn goes_without_redirects(options: &mut FirewallOptions, error: &FirewallError) -> bool {
    let lacks = matches!(error, FirewallError::KernelOption { option, .. } if option.name == REDIRECT_OPTION);
    lacks && std::mem::replace(&mut options.hands_over, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(name: &'static str) -> FirewallError {
        let source = NetlinkError::Refused { message: "a rule".to_owned(), errno: libc::ENOENT, text: None };
        FirewallError::KernelOption { option: KernelOption { name, purpose: "a test" }, source }
    }

    #[test]
    fn a_kernel_without_redirects_is_gone_without_once_and_one_that_lacks_something_else_never() {
        let mut options = FirewallOptions::new(1).expect("random");
        assert!(!goes_without_redirects(&mut options, &lacking("CONFIG_NFT_CT")) && options.hands_over);
        assert!(goes_without_redirects(&mut options, &lacking(REDIRECT_OPTION)) && !options.hands_over);
        assert!(!goes_without_redirects(&mut options, &lacking(REDIRECT_OPTION)), "refused again");
    }
}

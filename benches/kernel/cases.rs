//! What stands between the peer and the pod: our firewall, and other ways to do its work.

use crate::network::{self, Link, POD};
use crate::proxy;
use crate::queue;
use crate::traffic::{PORTS, PORTS_END, Ports, Traffic, helper};
use crate::{program, system};
use anyhow::{Context, Result};
use bulkhead_netfilter::{
    Batch, Chain, ChainType, Comparison, Connection, Field, Hook, Policy, Register, Rule, Table,
    connection_state, priority,
};
use bulkhead_proxy::firewall::{Firewall, FirewallOptions};
use bulkhead_proxy::flows::Recorder;
use bulkhead_proxy::flows::kernel::KernelFlows;
use bulkhead_proxy::metrics::Metrics;
use std::sync::Arc;

/// A way to stand in between.
pub(crate) enum Way {
    /// Nothing.
    Nothing,
    /// The kernel tracks connections and judges nothing.
    Tracking,
    /// Our table, from documents with so many peers, and whether connections are accounted.
    Firewall { peers: u32, accounting: bool },
    /// One rule for each of so many peers, after a rule for established connections.
    Linear { peers: u32 },
    /// A program that copies bytes.
    Proxy,
    /// A program that says yes to each packet.
    Queue,
    /// A table in the language of `nft`.
    File(String),
}

/// A pod behind something, with traffic to it, next to one behind nothing.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) behind: Side,
    pub(crate) bare: Side,
    /// Holds the table.
    _firewall: Option<Firewall>,
    /// Threads that account connections.
    pub(crate) accounting: Vec<i32>,
}

/// A link with its traffic.
pub(crate) struct Side {
    pub(crate) link: Link,
    pub(crate) traffic: Traffic,
}

impl Case {
    pub(crate) fn new(name: &str, way: &Way) -> Result<Self> {
        let bare = Side::open(&Way::Nothing)?.0;
        let (behind, firewall, accounting) = Side::open(way).with_context(|| name.to_owned())?;
        Ok(Self { name: name.to_owned(), behind, bare, _firewall: firewall, accounting })
    }
}

impl Side {
    fn open(way: &Way) -> Result<(Self, Option<Firewall>, Vec<i32>)> {
        let link = Link::new()?;
        let mut threads = Traffic::serve(&link)?;
        let mut ports = PORTS;
        let mut firewall = None;
        let mut accounting = Vec::new();
        match *way {
            Way::Nothing => {}
            Way::Tracking => link.pod.run(|| load(&[Rule::new().ct_mark().is_there().accept()]))??,
            Way::Firewall { peers, accounting: accounted } => {
                let mut table = link.pod.run(|| enforce(peers))??;
                if accounted {
                    accounting.push(link.pod.run(|| account(&mut table))??);
                }
                firewall = Some(table);
            }
            Way::Linear { peers } => link.pod.run(|| load(&linear(peers)))??,
            Way::Proxy => {
                ports = proxy::PORTS;
                threads.extend(proxy::start(&link)?);
            }
            Way::Queue => threads.push(queue::start(&link)?),
            Way::File(ref file) => link.pod.run(|| network::run("nft", &["-f", file]))??,
        }
        let traffic = Traffic::connect(&link, Ports::from(ports), threads)?;
        Ok((Self { link, traffic }, firewall, accounting))
    }
}

fn enforce(peers: u32) -> Result<Firewall> {
    let judge = program::compiled(&program::peers(peers), true, 1)?;
    // The sidecar's user is this program's, which is root: its sockets carry no mark of the sidecar's.
    let mut firewall = Firewall::open(FirewallOptions::new(0)?)?;
    firewall.apply(&judge)?;
    Ok(firewall)
}

/// What the sidecar does with connections whose end it is told of.
fn account(firewall: &mut Firewall) -> Result<i32> {
    let recorder = Arc::new(Recorder::new(Arc::new(Metrics::new()?)));
    let flows =
        KernelFlows::new(recorder, vec![POD.into()], firewall.answers(), bulkhead_proxy::policy::closed());
    firewall.verify()?;
    let mut reader = firewall.flow_reader()?;
    helper(move || {
        while let Ok(read) = reader.read() {
            let now_ms = bulkhead_proxy::clock::unix_ms();
            read.flows.iter().for_each(|flow| flows.ended(flow, now_ms));
        }
    })
}

fn linear(peers: u32) -> Vec<Rule> {
    let established = connection_state::ESTABLISHED | connection_state::RELATED;
    let mut rules = vec![Rule::new().field::<u32>(Field::ConnectionState).any_bit(established).accept()];
    rules.extend(program::peers(peers).into_iter().map(|peer| {
        let port =
            Rule::new().from_address(peer.into()).protocol(6).load(Field::DESTINATION_PORT, Register::R0);
        let from = port.compare(Register::R0, Comparison::AtLeast, PORTS);
        from.compare(Register::R0, Comparison::AtMost, PORTS_END).accept()
    }));
    rules
}

/// A table of its own with these rules for what arrives. The answers pass.
fn load(rules: &[Rule]) -> Result<()> {
    let table = Table::inet("contrast");
    let mut batch = Batch::new();
    batch.add_table(&table);
    let chain = Chain::base("arrives", ChainType::Filter, Hook::Input, priority::FILTER, Policy::Drop);
    batch.add_chain(&table, &chain);
    for rule in rules {
        batch.add_rule(&table, chain.name(), rule);
    }
    Ok(Connection::open()?.commit(&batch)?)
}

/// CPU time of threads, in seconds.
pub(crate) fn seconds(threads: &[i32]) -> Result<f64> {
    let mut sum = 0.0;
    for thread in threads {
        sum += system::cpu_time_of(*thread)?.as_secs_f64();
    }
    Ok(sum)
}

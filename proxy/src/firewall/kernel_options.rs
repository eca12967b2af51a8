//! Which option the kernel was built without, where it refuses the table.
//!
//! The kernel refuses a whole transaction with one number for "no such thing", which is also its answer where a feature is
//! not built in. So each feature is tried alone, in a table that goes with the same transaction: nothing remains.

use super::chains::TCP_TIMEOUTS;
use super::table::TIMEOUTS;
use bulkhead_netfilter::{
    Batch, Chain, ChainType, Connection, Field, Hook, NetlinkError, Policy, Refusal, Rule, Table, priority,
};

/// A build option of the kernel that the table needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelOption {
    /// Its name in the kernel's configuration.
    pub name: &'static str,
    /// What the table needs it for.
    pub purpose: &'static str,
}

/// Without it addresses and ports can be enforced, requests cannot.
pub(super) const REDIRECT_OPTION: &str = "CONFIG_NFT_REDIR";

type Probe = (KernelOption, fn(&mut Batch) -> Table);

const PROBES: [Probe; 12] = [
    probe("CONFIG_NF_TABLES_INET", "one table for IPv4 and IPv6", |batch| packets(batch, None)),
    probe("CONFIG_NFT_CT", "verdicts per connection", |batch| {
        packets(batch, Some(Rule::new().set_ct_mark(0)))
    }),
    probe(REDIRECT_OPTION, "handing flows to the inspector", |batch| {
        packets(batch, Some(Rule::new().protocol(6).redirect_to(1)))
    }),
    probe("CONFIG_NFT_SOCKET", "telling our listeners from others", |batch| {
        packets(batch, Some(Rule::new().field(Field::SocketMark).equals(1u32)))
    }),
    probe("CONFIG_NFT_FIB_INET", "telling the pod's own addresses", |batch| {
        packets(batch, Some(Rule::new().field(Field::DestinationAddressType).equals(2u32)))
    }),
    probe("CONFIG_NFT_REJECT_INET", "refusing at once", |batch| {
        packets(batch, Some(Rule::new().refuse(Refusal::AdminProhibited)))
    }),
    probe("CONFIG_NFT_LOG", "reporting senders", |batch| {
        packets(batch, Some(Rule::new().log_to_group(1, "probe", 64)))
    }),
    probe("CONFIG_NFT_LIMIT", "bounding the log", |batch| {
        packets(batch, Some(Rule::new().at_most_per_second(1, 1)))
    }),
    probe("CONFIG_NF_CONNTRACK_TIMEOUT", "hearing soon of ends of connections", |batch| {
        let table = packets(batch, None);
        let (name, ipv4) = TCP_TIMEOUTS[0];
        batch.add_tcp_timeout(&table, name, ipv4, &TIMEOUTS);
        table
    }),
    probe("CONFIG_NF_CONNTRACK_EVENTS", "hearing of ends of connections", |batch| {
        packets(batch, Some(Rule::new().tell_no_events()))
    }),
    probe("CONFIG_NETFILTER_EGRESS", "stopping raw frames; it needs CONFIG_NF_TABLES_NETDEV too", |batch| {
        frames(batch, None)
    }),
    probe("CONFIG_IP_ROUTE_CLASSID", "telling routed packets from raw frames", |batch| {
        frames(batch, Some(Rule::new().field::<u32>(Field::RouteRealm).is_there()))
    }),
];

const fn probe(name: &'static str, purpose: &'static str, fill: fn(&mut Batch) -> Table) -> Probe {
    (KernelOption { name, purpose }, fill)
}

/// The first option that this kernel lacks; `None` if it has all that are known to be needed.
pub fn missing_kernel_option() -> Result<Option<KernelOption>, NetlinkError> {
    Ok(first_refused(&mut Connection::open()?))
}

/// True if this may be the answer of a kernel without a feature.
pub(super) fn may_be_missing(error: &NetlinkError) -> bool {
    const ANSWERS: [i32; 5] =
        [libc::ENOENT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT, libc::EINVAL];
    error.errno().is_some_and(|errno| ANSWERS.contains(&errno))
}

pub(super) fn first_refused(connection: &mut Connection) -> Option<KernelOption> {
    first_of(&PROBES, |batch| connection.commit(batch))
}

fn first_of(
    probes: &[Probe],
    mut commit: impl FnMut(&Batch) -> Result<(), NetlinkError>,
) -> Option<KernelOption> {
    let refused = probes.iter().find(|(_, fill)| {
        let mut batch = Batch::new();
        let table = fill(&mut batch);
        batch.delete_table(&table);
        commit(&batch).is_err_and(|error| may_be_missing(&error))
    });
    refused.map(|(option, _)| *option)
}

fn packets(batch: &mut Batch, rule: Option<Rule>) -> Table {
    within(batch, Table::inet("bulkhead_probe"), &Chain::regular("probe"), rule)
}

fn frames(batch: &mut Batch, rule: Option<Rule>) -> Table {
    let hook = Hook::Egress("lo".to_owned());
    let chain = Chain::base("egress", ChainType::Filter, hook, priority::FILTER, Policy::Accept);
    within(batch, Table::netdev("bulkhead_probe"), &chain, rule)
}

fn within(batch: &mut Batch, table: Table, chain: &Chain, rule: Option<Rule>) -> Table {
    batch.add_table(&table);
    batch.add_chain(&table, chain);
    if let Some(rule) = rule {
        batch.add_rule(&table, chain.name(), &rule);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::FirewallError;

    fn refusal(errno: i32) -> NetlinkError {
        NetlinkError::Refused { message: "a rule of chain `egress_2`".to_owned(), errno, text: None }
    }

    #[test]
    fn the_option_whose_probe_is_refused_is_named_with_a_remedy() {
        for (refused, (expected, _)) in PROBES.iter().enumerate() {
            let mut tried = 0;
            let missing = first_of(&PROBES, |_| {
                tried += 1;
                if tried > refused { Err(refusal(libc::EOPNOTSUPP)) } else { Ok(()) }
            });
            let option = missing.expect("one is refused");
            assert_eq!(option, *expected);
            let error = FirewallError::KernelOption { option, source: refusal(libc::EOPNOTSUPP) }.to_string();
            let remedy = format!("boot a kernel built with {}", option.name);
            assert!(error.contains(option.purpose) && error.contains(&remedy), "{error}");
        }
    }

    #[test]
    fn another_refusal_than_that_of_a_missing_feature_names_no_option() {
        assert_eq!(first_of(&PROBES, |_| Err(refusal(libc::EPERM))), None);
        assert_eq!(first_of(&PROBES, |_| Ok(())), None);
    }
}

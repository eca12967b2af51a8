//! What the kernel must offer, tried for real in namespaces that are thrown away.
//!
//! A process of its own makes the namespaces and then one small nf_tables table for each thing that sidecars and the
//! node need. What it could not do comes back through a pipe; with the process everything is gone.

use crate::system::{self, Fork};
use bulkhead_netfilter::{
    Batch, Chain, ChainType, Connection, Element, Field, FieldKind, Hook, Key, Policy, Refusal, Rule, Set,
    Table, priority,
};
use rtnetlink::{LinkMessageBuilder, LinkVeth};
use std::fs;
use std::io::{self, Read, Write};
use std::process;

/// What is missing and what to do about it, in pairs.
pub(super) fn missing(root: bool) -> io::Result<Vec<(String, String)>> {
    let (mut answers, writer) = io::pipe()?;
    match system::fork()? {
        Fork::Child => {
            drop(answers);
            report(writer, try_namespaces(root))
        }
        Fork::Parent(pid) => {
            drop(writer);
            let mut text = String::new();
            answers.read_to_string(&mut text)?;
            system::wait_for(pid)?;
            Ok(text
                .lines()
                .filter_map(|line| line.split_once('\t'))
                .map(|(a, b)| (a.into(), b.into()))
                .collect())
        }
    }
}

/// Writes what is missing and ends this process.
fn report(mut writer: io::PipeWriter, missing: Vec<(String, String)>) -> ! {
    for (what, remedy) in missing {
        // Nobody to tell if the pipe is closed.
        let _ = writeln!(writer, "{}\t{remedy}", what.replace(['\t', '\n'], " "));
    }
    process::exit(0)
}

fn try_namespaces(root: bool) -> Vec<(String, String)> {
    if let Err(error) = enter_namespaces(root) {
        return vec![refusal(root, &error)];
    }
    let (mut answers, writer) = match io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => return vec![(error.to_string(), "try again".into())],
    };
    // Only a child is inside of the new PID namespace.
    match system::fork() {
        Err(error) => vec![refusal(root, &error)],
        Ok(Fork::Child) => {
            drop(answers);
            report(writer, try_inside())
        }
        Ok(Fork::Parent(_)) => {
            drop(writer);
            let mut text = String::new();
            let read = answers.read_to_string(&mut text);
            let lines = text.lines().filter_map(|line| line.split_once('\t'));
            let found = lines.map(|(a, b)| (a.to_owned(), b.to_owned()));
            found.chain(read.err().map(|e| (e.to_string(), "try again".to_owned()))).collect()
        }
    }
}

fn enter_namespaces(root: bool) -> io::Result<()> {
    if !root {
        let (uid, gid) = (system::effective_uid(), system::effective_gid());
        system::unshare(libc::CLONE_NEWUSER)?;
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))?;
    }
    let rest = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    system::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWPID | rest)
}

fn refusal(root: bool, error: &io::Error) -> (String, String) {
    if root {
        let what = format!("root may not create namespaces here: {error}");
        let remedy =
            "run the lab with CAP_SYS_ADMIN and CAP_NET_ADMIN, and look at sysctl user.max_net_namespaces";
        return (what, remedy.into());
    }
    (
        format!("this user may not create user namespaces: {error}"),
        "sysctl -w user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 \
         kernel.apparmor_restrict_unprivileged_userns=0, or run the lab as root"
            .into(),
    )
}

fn try_inside() -> Vec<(String, String)> {
    let mut missing = Vec::new();
    let mounted = system::mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "")
        .and_then(|()| {
            system::mount("proc", "/proc", "proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, "")
        })
        .and_then(|()| system::mount("tmpfs", "/run", "tmpfs", 0, "size=64k"));
    if let Err(error) = mounted {
        missing.push((format!("a private /proc and /run cannot be mounted: {error}"), UNMASK.into()));
    }
    if let Err(error) = try_cable() {
        missing.push((format!("no virtual cable can be made: {error}"), "modprobe veth".into()));
    }
    for (what, module, batch) in needs() {
        let tried = Connection::open().and_then(|mut connection| connection.commit(&batch));
        if let Err(error) = tried {
            missing.push((format!("nf_tables lacks {what}: {error}"), format!("modprobe {module}")));
        }
    }
    missing
}

const UNMASK: &str = "inside a container, run it with an unmasked /proc (podman: --security-opt unmask=ALL)";

fn try_cable() -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let pair = LinkMessageBuilder::<LinkVeth>::new("probe0", "probe1").build();
        handle.link().add(pair).execute().await.map_err(io::Error::other)
    })
}

/// What, the kernel module that has it, and a transaction that uses it.
fn needs() -> Vec<(&'static str, &'static str, Batch)> {
    let filter = ChainType::Filter;
    let inside = |hook: Hook| (hook, priority::MANGLE);
    vec![
        ("tables", "nf_tables", table(|_, _| {})),
        (
            "connection marks",
            "nft_ct",
            rule(filter, inside(Hook::Output), Rule::new().ct_mark().equals(1).accept()),
        ),
        (
            "route look-ups",
            "nft_fib_inet",
            rule(
                filter,
                inside(Hook::Prerouting),
                Rule::new().field::<u32>(Field::SourceAddressType).equals(2).accept(),
            ),
        ),
        (
            "socket look-ups",
            "nft_socket",
            rule(filter, inside(Hook::Input), Rule::new().field::<u32>(Field::SocketMark).equals(1).accept()),
        ),
        (
            "packet logs",
            "nft_log nfnetlink_log",
            rule(filter, inside(Hook::Input), Rule::new().log_to_group(5, "p", 64)),
        ),
        (
            "rate limits",
            "nft_limit",
            rule(filter, inside(Hook::Input), Rule::new().at_most_per_second(1, 1).accept()),
        ),
        (
            "refusals",
            "nft_reject_inet",
            rule(filter, (Hook::Output, priority::FILTER), Rule::new().protocol(6).refuse(Refusal::TcpReset)),
        ),
        (
            "redirection",
            "nft_redir",
            rule(
                ChainType::Nat,
                (Hook::Prerouting, priority::DESTINATION_NAT),
                Rule::new().protocol(6).redirect_to(15006),
            ),
        ),
        (
            "random choice and address translation",
            "nft_numgen nft_nat",
            rule(
                ChainType::Nat,
                (Hook::Prerouting, priority::DESTINATION_NAT),
                Rule::new()
                    .to_address([10, 96, 0, 1].into())
                    .field::<u32>(Field::RandomBelow(2))
                    .equals(0)
                    .destination_nat([10, 77, 1, 1].into(), None),
            ),
        ),
        (
            "masquerading",
            "nft_masq",
            rule(ChainType::Nat, (Hook::Postrouting, priority::SOURCE_NAT), Rule::new().masquerade()),
        ),
        ("maps of intervals over several fields", "nf_tables (kernel 5.6)", table(interval_map)),
        ("the egress hook of devices", "nf_tables (kernel 5.16, CONFIG_NETFILTER_EGRESS)", egress()),
    ]
}

fn table(fill: impl FnOnce(&Table, &mut Batch)) -> Batch {
    let table = Table::inet("probe");
    let mut batch = Batch::new();
    batch.add_table(&table);
    fill(&table, &mut batch);
    batch.delete_table(&table);
    batch
}

fn rule(chain_type: ChainType, (hook, priority): (Hook, i32), rule: Rule) -> Batch {
    table(|table, batch| {
        batch.add_chain(table, &Chain::base("chain", chain_type, hook, priority, Policy::Accept));
        batch.add_rule(table, "chain", &rule);
    })
}

fn interval_map(table: &Table, batch: &mut Batch) {
    let map = Set::new("map", &[FieldKind::Ipv4, FieldKind::Protocol, FieldKind::Port])
        .map_to(FieldKind::Mark)
        .intervals();
    let key = |last: u8, port: u16| Key::new().v4([10, 0, 0, last].into()).protocol(6).port(port);
    batch.add_set(table, &map);
    batch.add_elements(table, &map, &[Element::range(key(1, 1), key(9, 9)).data(Key::new().mark(1))]);
}

fn egress() -> Batch {
    let table = Table::netdev("probe");
    let mut batch = Batch::new();
    batch.add_table(&table);
    let hook = Hook::Egress("lo".into());
    batch.add_chain(&table, &Chain::base("chain", ChainType::Filter, hook, priority::FILTER, Policy::Accept));
    batch.delete_table(&table);
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_is_a_transaction_that_says_what_to_load() {
        for (what, module, batch) in needs() {
            assert!(!batch.is_empty() && !module.is_empty(), "{what}");
        }
    }

    #[test]
    fn a_refusal_names_the_settings_that_allow_namespaces() {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(refusal(false, &error).1.contains("max_user_namespaces"));
        assert!(refusal(true, &error).1.contains("CAP_SYS_ADMIN"));
    }
}

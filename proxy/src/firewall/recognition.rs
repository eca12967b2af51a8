//! By what the kernel can tell this process's sockets from an app's, beside mark and user.
//!
//! A mark is forged with CAP_NET_RAW and a user is become with CAP_SETUID, but nobody in a container leaves its control
//! group. So a group of our own is part of every rule that exempts us. At which level of the hierarchy rules see it
//! depends on kernel and namespace: each level is tried with a packet of our own, in a table that goes again.

use super::options::ControlGroup;
use bulkhead_netfilter::{
    Batch, Chain, ChainType, Connection, Field, Hook, NetlinkError, Policy, Rule, Table, priority,
};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Levels that are tried; a container lies some six below the top.
const LEVELS_MAX: u32 = 32;
const TABLE: &str = "bulkhead_recognition";
const CHAIN: &str = "output";

/// The group of this process, if it is of its own and the kernel's rules can name it.
pub(super) fn find(connection: &mut Connection) -> Option<ControlGroup> {
    let id = own_group()?;
    let level = level_of(connection, id).ok().flatten();
    // It may be there though the answer was lost.
    let mut batch = Batch::new();
    batch.add_table(&Table::inet(TABLE));
    batch.delete_table(&Table::inet(TABLE));
    let _ = connection.commit(&batch);
    Some(ControlGroup { id, level: level? })
}

/// The identifier of our group; `None` if there is none, if it is everybody's, or if others are in it too.
fn own_group() -> Option<u64> {
    /// The top of the hierarchy.
    const TOP: u64 = 1;
    let folder = folder(
        &fs::read_to_string("/proc/self/cgroup").ok()?,
        &fs::read_to_string("/proc/self/mountinfo").ok()?,
    )?;
    let programs = fs::read_to_string(folder.join("cgroup.procs")).ok()?;
    let alone = programs.lines().eq([std::process::id().to_string().as_str()]);
    let id = fs::metadata(folder).ok()?.ino();
    (alone && id != TOP).then_some(id)
}

/// Where our group of version 2 lies, from what /proc says of groups and mounts (proc(5), cgroups(7)).
fn folder(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_ours = kind.split(' ').next()? == "cgroup2";
        let below = Path::new(path).strip_prefix(root).ok().filter(|_| is_ours)?;
        Some(Path::new(point).join(below))
    })
}

/// The level at which a packet of ours is seen to be of that group.
fn level_of(connection: &mut Connection, id: u64) -> Result<Option<u32>, NetlinkError> {
    let table = Table::inet(TABLE);
    let mut batch = Batch::new();
    // What is left of a try that was killed has counted packets of another group.
    batch.add_table(&table);
    batch.delete_table(&table);
    batch.add_table(&table);
    batch.add_chain(
        &table,
        &Chain::base(CHAIN, ChainType::Filter, Hook::Output, priority::FILTER, Policy::Accept),
    );
    for level in 1..=LEVELS_MAX {
        let rule = Rule::new().named(&level.to_string()).field(Field::SocketControlGroup(level)).equals(id);
        batch.add_rule(&table, CHAIN, &rule.counter());
    }
    connection.commit(&batch)?;
    say_something();
    let rules = connection.rules(&table)?;
    let seen = rules.iter().find(|rule| rule.packets > 0).and_then(|rule| rule.name.as_deref());
    Ok(seen.and_then(|level| level.parse().ok()))
}

/// To nobody, over the loopback device. If it cannot be sent, no level is found.
fn say_something() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let _ = socket.and_then(|socket| socket.send_to(b"which level", socket.local_addr()?));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_group_is_found_whatever_is_mounted_where() {
        let mounts = "29 23 0:26 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
        let of = |groups, mounts| folder(groups, mounts).map(|path| path.display().to_string());
        assert_eq!(of("0::/pods/one\n", mounts).as_deref(), Some("/sys/fs/cgroup/pods/one"));
        assert_eq!(of("4:memory:/x\n0::/\n", mounts).as_deref(), Some("/sys/fs/cgroup/"));
        let hybrid = "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            32 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(of("0::/a\n", hybrid).as_deref(), Some("/sys/fs/cgroup/unified/a"));
        let bound = "40 30 0:26 /pods/one /sys/fs/cgroup ro - cgroup2 cgroup ro\n";
        assert_eq!(of("0::/pods/one\n", bound).as_deref(), Some("/sys/fs/cgroup/"));
        for (groups, mounts) in [("4:memory:/x\n", mounts), ("0::/a\n", ""), ("0::/other\n", bound)] {
            assert_eq!(of(groups, mounts), None, "{groups}");
        }
    }
}

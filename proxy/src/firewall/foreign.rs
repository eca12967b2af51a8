//! Rules of somebody else in this network namespace.
//!
//! Nothing that they accept passes us: each hook asks every chain, and what one drops is gone. But a destination that they
//! rewrite after we judged it, a mark that they set or a connection that they keep out of conntrack is beyond us. It takes
//! CAP_NET_ADMIN, as changing our own table does; we leave it alone, since it may be wanted, and say so.

use super::TABLE_NAME;
use bulkhead_netfilter::{Connection, NetlinkError};
use std::collections::BTreeSet;
use std::fs;

/// Names told at once; more are counted.
const NAMES_MAX: usize = 4;

/// In words what was found; `None` if there is nothing.
pub(super) fn rules(connection: &mut Connection) -> Result<Option<String>, NetlinkError> {
    let chains = connection.hooked_chains()?;
    let tables = chains.into_iter().filter(|(_, table, _)| table != TABLE_NAME);
    let mut found: BTreeSet<String> =
        tables.map(|(family, table, _)| format!("{} {table}", family_name(family))).collect();
    found.extend(legacy_tables());
    Ok(told(&found))
}

/// Tables of the older interface, which is not netlink.
pub(super) fn legacy_tables() -> BTreeSet<String> {
    let files = [("ip", "ip_tables_names"), ("ip6", "ip6_tables_names")];
    let of = |(family, file): (&str, &str)| {
        let names = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        names.lines().map(|name| format!("{family} {name} (legacy)")).collect::<Vec<_>>()
    };
    files.into_iter().flat_map(of).collect()
}

fn told(found: &BTreeSet<String>) -> Option<String> {
    let names: Vec<_> = found.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
    match found.len() {
        0 => None,
        count if count > NAMES_MAX => Some(format!("{} and {} more", names.join(", "), count - NAMES_MAX)),
        _ => Some(names.join(", ")),
    }
}

fn family_name(number: u8) -> String {
    match number {
        1 => "inet".to_owned(),
        2 => "ip".to_owned(),
        3 => "arp".to_owned(),
        5 => "netdev".to_owned(),
        7 => "bridge".to_owned(),
        10 => "ip6".to_owned(),
        other => format!("family {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tables_are_named_and_many_counted() {
        let some = |count: usize| (0..count).map(|n| format!("ip t{n}")).collect::<BTreeSet<_>>();
        assert_eq!(told(&some(0)), None);
        assert_eq!(told(&some(2)).as_deref(), Some("`ip t0`, `ip t1`"));
        assert_eq!(told(&some(6)).as_deref(), Some("`ip t0`, `ip t1`, `ip t2`, `ip t3` and 2 more"));
        assert_eq!((family_name(2), family_name(99)), ("ip".to_owned(), "family 99".to_owned()));
    }
}

//! Where a peer is: by a hosts file if one is given, else as the system resolves names.
//!
//! Names are resolved for every new connection, as a program without a cache would. `Family` says which address of
//! a peer with two is used; `Both` alternates, so that each family carries half of the calls.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Which addresses of a peer are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Family {
    /// IPv4 only.
    #[value(name = "4")]
    V4,
    /// IPv6 only.
    #[value(name = "6")]
    V6,
    /// The first address that the system names.
    Any,
    /// IPv4 and IPv6 in turn; a peer with one family is called on that.
    Both,
}

/// How names become addresses.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// A file in the form of /etc/hosts, read at each look-up; `None`: ask the system.
    pub(super) hosts: Option<PathBuf>,
    /// Which address is taken.
    pub(super) family: Family,
}

impl Names {
    /// The address for the `number`th call to `host:port`.
    pub(super) async fn address(&self, host: &str, port: u16, number: u64) -> io::Result<SocketAddr> {
        let all = match (&self.hosts, host.parse::<IpAddr>()) {
            (_, Ok(address)) => vec![address],
            (Some(file), Err(_)) => in_hosts(&tokio::fs::read_to_string(file).await?, host),
            (None, Err(_)) => {
                tokio::net::lookup_host((host, port)).await?.map(|address| address.ip()).collect()
            }
        };
        choose(&all, self.family, number)
            .map(|address| SocketAddr::new(address, port))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("`{host}` has no address")))
    }
}

fn choose(all: &[IpAddr], family: Family, number: u64) -> Option<IpAddr> {
    let v4 = all.iter().copied().find(IpAddr::is_ipv4);
    let v6 = all.iter().copied().find(IpAddr::is_ipv6);
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
        Family::Any => all.first().copied(),
        Family::Both if number.is_multiple_of(2) => v4.or(v6),
        Family::Both => v6.or(v4),
    }
}

/// Addresses of a name in a hosts file.
pub(super) fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str =
        "127.0.0.1 localhost\n10.1.0.2 orders.shop orders # orders\nfd00::2\torders.shop\n#10.9.9.9 orders\n";

    #[test]
    fn a_hosts_file_names_every_family_and_no_comment() {
        let found = in_hosts(HOSTS, "orders.shop");
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.2", "fd00::2"]);
        assert_eq!(in_hosts(HOSTS, "orders").len(), 1);
        assert!(in_hosts(HOSTS, "payments").is_empty());
    }

    #[test]
    fn both_families_take_turns_and_one_family_serves_alone() {
        let both = in_hosts(HOSTS, "orders.shop");
        let chosen = |number| choose(&both, Family::Both, number).expect("an address");
        assert!(chosen(0).is_ipv4() && chosen(1).is_ipv6());
        assert!(choose(&in_hosts(HOSTS, "orders"), Family::Both, 1).is_some());
        assert_eq!(choose(&in_hosts(HOSTS, "orders"), Family::V6, 1), None);
    }
}

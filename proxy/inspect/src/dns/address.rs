//! Which addresses the name system may give for which names.
//!
//! Whoever owns a public name decides what it resolves to, and may let it resolve to an address inside: the way of DNS
//! rebinding. So private addresses belong to names that are resolved inside only.

use bulkhead_facts::HostName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who can be behind an address; the later, the fewer names may lead there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressKind {
    /// Anybody on the Internet.
    Public,
    /// Somebody inside: only names of the inside may lead there.
    Private,
    /// The machine itself, the link, everybody, or what hands out credentials: no name leads there.
    Never,
}

impl AddressKind {
    /// The kind of an address; of the IPv4 address where an IPv6 one holds it.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }
}

/// Beside those on the link: where clouds that use other addresses hand out credentials.
const CREDENTIALS_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const CREDENTIALS_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

fn of_v4(address: Ipv4Addr) -> AddressKind {
    let [first, second, third, _] = address.octets();
    let never = matches!(first, 0 | 127 | 224..=255)
        || (first, second) == (169, 254)
        || CREDENTIALS_V4.contains(&address);
    let private = address.is_private()
        || (first == 100 && (64..128).contains(&second))
        || (first, second, third) == (192, 0, 0)
        || (first == 198 && (18..20).contains(&second));
    kind(never, private)
}

fn of_v6(address: Ipv6Addr) -> AddressKind {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        of_v4(Ipv4Addr::new(a, b, c, d))
    };
    let never = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || segments[0] & 0xffc0 == 0xfe80
        || CREDENTIALS_V6.contains(&address);
    match segments {
        _ if never => AddressKind::Never,
        // Translated (RFC 6052, RFC 2765), 6to4 (RFC 3056), and the form that mapped addresses replaced (RFC 4291 section
        // 2.5.5.1).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x2002, high, low, ..]
        | [0, 0, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 1, ..] => of_translated(address),
        // Unique local, and site local.
        [first, ..] => kind(false, first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0),
    }
}

/// Translated by one's own network (RFC 8215). Its prefix may end after 48, 56, 64 or 96 bits, which decides where the IPv4
/// address stands (RFC 6052 section 2.2); nobody here knows, so it is as private as any of those that it may hold.
fn of_translated(address: Ipv6Addr) -> AddressKind {
    let bytes = address.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| bytes[place]));
    // What begins with 0 is no address of somebody, but what a longer prefix leaves empty.
    let shorter = [at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12])];
    let shorter = shorter.into_iter().filter(|held| held.octets()[0] != 0);
    shorter.chain([at([12, 13, 14, 15])]).map(of_v4).max().unwrap_or(AddressKind::Never)
}

fn kind(never: bool, private: bool) -> AddressKind {
    match (never, private) {
        (true, _) => AddressKind::Never,
        (false, true) => AddressKind::Private,
        (false, false) => AddressKind::Public,
    }
}

/// Ends of names that no public name has (RFC 6761, RFC 6762 and its appendix G, RFC 8375, ICANN's `internal`), the cluster's
/// own among them.
const INTERNAL_ENDS: [&str; 11] = [
    "local",
    "internal",
    "localdomain",
    "lan",
    "home.arpa",
    "intranet",
    "private",
    "corp",
    "home",
    "localhost",
    "in-addr.arpa",
];

/// True if the name can be resolved inside only: it has one label, a reserved end, or lies in one of `domains`.
pub fn is_internal(name: &HostName, domains: &[HostName]) -> bool {
    let name = name.as_str();
    let below =
        |end: &str| name.strip_suffix(end).is_some_and(|front| front.is_empty() || front.ends_with('.'));
    !name.contains('.')
        || INTERNAL_ENDS.into_iter().any(below)
        || domains.iter().any(|domain| below(domain.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_as_private_as_the_one_that_it_holds() {
        let check = |kind, addresses: &[&str]| {
            for address in addresses {
                assert_eq!(AddressKind::of(address.parse().expect("address")), kind, "{address}");
            }
        };
        check(
            AddressKind::Public,
            &["203.0.113.7", "8.8.8.8", "2001:db8::1", "64:ff9b::808:808", "2002:808:808::1"],
        );
        check(
            AddressKind::Private,
            &[
                "10.0.0.5",
                "172.16.0.1",
                "192.168.9.9",
                "100.64.0.1",
                "fd12::1",
                "::ffff:10.0.0.5",
                "64:ff9b::a00:5",
            ],
        );
        check(AddressKind::Private, &["2002:a00:5::1", "::a00:5", "64:ff9b:1::a00:5", "198.18.0.1"]);
        check(AddressKind::Private, &["::ffff:0:a00:5", "fec0::1"]);
        // Translated by one's own network, whichever prefix it uses.
        check(AddressKind::Public, &["64:ff9b:1::808:808", "64:ff9b:1:0:1::cb00:7107"]);
        check(AddressKind::Private, &["64:ff9b:1:a00:0:500:808:808", "64:ff9b:1:a:0:5:808:808"]);
        check(AddressKind::Private, &["64:ff9b:1:0:a:0:508:808"]);
        check(AddressKind::Never, &["64:ff9b:1::a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00:808:808", "64:ff9b:1::"]);
        check(
            AddressKind::Never,
            &[
                "127.0.0.1",
                "0.0.0.0",
                "169.254.169.254",
                "224.0.0.1",
                "255.255.255.255",
                "::1",
                "::",
                "fe80::1",
            ],
        );
        check(AddressKind::Never, &["::ffff:127.0.0.1", "64:ff9b::7f00:1", "ff02::1", "fd00:ec2::254"]);
        check(AddressKind::Never, &["::ffff:0:a9fe:a9fe", "fd00:42::42"]);
        check(AddressKind::Never, &["100.100.100.200", "168.63.129.16", "64:ff9b::a9fe:a9fe"]);
    }

    #[test]
    fn internal_are_names_without_a_public_end_and_those_that_were_told() {
        let name = |text| HostName::parse(text).expect("a name");
        let told = [name("corp.example.com")];
        for text in ["db", "payments.shop.svc.cluster.local", "db.corp.internal", "A.Corp.Example.COM"] {
            assert!(is_internal(&name(text), &told), "{text}");
        }
        for text in ["api.cardnet.example", "xcorp.example.com", "local.example.com", "example.com"] {
            assert!(!is_internal(&name(text), &told), "{text}");
        }
    }
}

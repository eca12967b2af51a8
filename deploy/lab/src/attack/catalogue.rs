//! Every kind of attack: what it tries, what it needs, how its arrival is recognised.
//!
//! One table; the code of a kind is the function that its row names. A kind of one family only says so.

use serde::Serialize;

use super::attempt::{Attempt, NotMade};
use super::targets::Family;
use super::{datagram, raw, session, stream, web};

/// What a kind needs to be made at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// Nothing: any program in a pod can do it.
    App,
    /// CAP_NET_RAW, which container runtimes grant by default.
    NetRaw,
    /// CAP_SETUID: root inside the container.
    SetUid,
    /// Both.
    NetRawAndSetUid,
}

/// How an arrival is known to be of this attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownBy {
    /// By its token: the connection that carries it is allowed.
    Token,
    /// By its token or by the ports and addresses that it announced: not one packet may pass.
    TokenOrPacket,
}

/// One kind of attack.
#[derive(Clone, Copy, Serialize)]
pub struct Kind {
    /// Its name: lower case and hyphens.
    pub name: &'static str,
    /// What it tries, in one line.
    pub tries: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// How its arrival is recognised.
    pub known_by: KnownBy,
    /// Whether it exists in IPv4.
    pub v4: bool,
    /// Whether it exists in IPv6.
    pub v6: bool,
    /// Technique of ATT&CK that it is an example of.
    pub technique: &'static str,
    /// Whether a lab's campaign makes it. Not what needs root in the container, what the node's own source filter
    /// stops, or what never leaves the link: those are for the evasion tests.
    pub in_campaigns: bool,
    #[serde(skip)]
    pub(super) make: fn(&mut Attempt) -> Result<(), NotMade>,
}

impl Kind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().chain(ALLOWED).find(|kind| kind.name == name)
    }

    /// Whether it exists in a family.
    pub fn exists_in(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

type Make = fn(&mut Attempt) -> Result<(), NotMade>;

/// A forbidden request on an allowed connection.
const fn request(name: &'static str, tries: &'static str, technique: &'static str, make: Make) -> Kind {
    Kind {
        name,
        tries,
        needs: Needs::App,
        known_by: KnownBy::Token,
        v4: true,
        v6: true,
        technique,
        in_campaigns: true,
        make,
    }
}

/// Packets of which none may pass.
const fn packets(
    name: &'static str,
    tries: &'static str,
    needs: Needs,
    technique: &'static str,
    make: Make,
) -> Kind {
    Kind {
        name,
        tries,
        needs,
        known_by: KnownBy::TokenOrPacket,
        v4: true,
        v6: true,
        technique,
        in_campaigns: true,
        make,
    }
}

const fn only_v4(kind: Kind) -> Kind {
    Kind { v6: false, ..kind }
}

const fn only_v6(kind: Kind) -> Kind {
    Kind { v4: false, ..kind }
}

const fn not_in_campaigns(kind: Kind) -> Kind {
    Kind { in_campaigns: false, ..kind }
}

const EXPLOIT: &str = "T1210 exploitation of remote services";
const LATERAL: &str = "T1021 remote services";
const SCAN: &str = "T1046 network service discovery";
const SWEEP: &str = "T1018 remote system discovery";
const METADATA: &str = "T1552.005 cloud instance metadata";
const DATABASE: &str = "T1213 data from information repositories";
const TUNNEL: &str = "T1572 protocol tunneling";
const EXFILTRATION: &str = "T1048 exfiltration over alternative protocol";
const CHANNEL: &str = "T1095 non-application layer protocol";
const IMPAIR: &str = "T1562.004 disable or modify firewall";
const SPOOF: &str = "T1036 masquerading";

/// Kinds that abuse what the attacker is allowed in part: a name server, a database, a host outside. For labs only, whose file
/// says what there is.
pub static ALLOWED: &[Kind] = &[
    request("dns-tunnel", "asks the resolver for a name that carries data", TUNNEL, session::dns_tunnel),
    request(
        "dns-forbidden-type",
        "asks the resolver for text that carries data, below a name of the cluster",
        TUNNEL,
        session::dns_text,
    ),
    request("redis-forbidden-command", "reads the configuration of Redis", EXPLOIT, session::redis_command),
    request("redis-forbidden-key", "reads a key of somebody else", DATABASE, session::redis_key),
    request(
        "redis-pipelined",
        "sends a forbidden command in the packet of an allowed one",
        EXPLOIT,
        session::redis_pipelined,
    ),
    request(
        "postgres-forbidden-class",
        "drops a table where it may only read",
        EXPLOIT,
        session::postgres_class,
    ),
    request(
        "postgres-second-statement",
        "hides a forbidden statement behind an allowed one",
        EXPLOIT,
        session::postgres_second,
    ),
    request("postgres-forbidden-user", "begins a session as another role", DATABASE, session::postgres_user),
    request(
        "tls-forbidden-name",
        "says hello to another name at an allowed address",
        EXFILTRATION,
        session::tls_name,
    ),
    request("tls-no-name", "says hello to nobody at an allowed address", EXFILTRATION, session::tls_nameless),
    request("tls-not-spoken", "speaks no TLS where a name decides", TUNNEL, session::tls_plain),
];

/// Every other kind, in the order in which they are made.
pub static KINDS: &[Kind] = &[
    request("http-admin-path", "asks an allowed service for its admin path", EXPLOIT, web::admin_path),
    request(
        "http-forbidden-method",
        "uses a method that is not allowed on an allowed path",
        EXPLOIT,
        web::forbidden_method,
    ),
    request(
        "http-second-request",
        "asks for the admin path on a connection that served an allowed request",
        EXPLOIT,
        web::second_request,
    ),
    request(
        "http-pipelined",
        "sends the admin request in the packet of an allowed one",
        EXPLOIT,
        web::pipelined,
    ),
    request(
        "http-smuggled",
        "hides the admin request in a body with two contradicting lengths",
        EXPLOIT,
        web::smuggled,
    ),
    request("http-absolute-form", "names the admin path in absolute form", EXPLOIT, web::absolute_form),
    request("http-double-slash", "puts an empty segment before the admin path", EXPLOIT, web::double_slash),
    request("http-escaped-path", "escapes a letter of the admin path", EXPLOIT, web::escaped_path),
    request(
        "http-dot-segments",
        "reaches the admin path from an allowed one by escaped dot segments",
        EXPLOIT,
        web::dot_segments,
    ),
    request("http-fragment", "puts a fragment behind the admin path", EXPLOIT, web::fragment),
    request(
        "http-old-version",
        "asks for the admin path in HTTP/1.0 without a host",
        EXPLOIT,
        web::old_version,
    ),
    request(
        "http-bare-newlines",
        "ends the lines of the admin request without carriage returns",
        EXPLOIT,
        web::bare_newlines,
    ),
    request("http-split", "cuts the admin request in the middle of its path", EXPLOIT, web::split),
    request(
        "http-leading-newlines",
        "puts empty lines before the admin request",
        EXPLOIT,
        web::leading_newlines,
    ),
    request("http-tab", "puts a tab before the admin path", EXPLOIT, web::tab),
    request("http-two-hosts", "names two hosts, the first of which is allowed", EXPLOIT, web::two_hosts),
    request(
        "http-connect",
        "asks an allowed service for a tunnel to the database",
        TUNNEL,
        web::connect_method,
    ),
    request(
        "http2-prior-knowledge",
        "asks for the admin path in HTTP/2 from the first byte",
        EXPLOIT,
        web::http2,
    ),
    request(
        "http2-upgrade",
        "sends the admin request in HTTP/2 right behind an allowed upgrade",
        EXPLOIT,
        web::http2_upgrade,
    ),
    request("tls-on-http-port", "speaks TLS where requests are judged", TUNNEL, web::tls),
    request("opaque-on-http-port", "speaks no HTTP where requests are judged", TUNNEL, web::opaque),
    packets(
        "tcp-forbidden-pod",
        "connects to a pod that it may not talk to",
        Needs::App,
        LATERAL,
        stream::pod,
    ),
    packets(
        "tcp-forbidden-service",
        "connects to a service by its cluster address",
        Needs::App,
        LATERAL,
        stream::service,
    ),
    packets("tcp-database", "connects to the database directly", Needs::App, DATABASE, stream::database),
    packets("tcp-sweep", "tries one port at every address of the subnet", Needs::App, SWEEP, stream::sweep),
    packets("tcp-port-scan", "tries many ports of one pod", Needs::App, SCAN, stream::scan),
    packets(
        "tcp-metadata",
        "asks the metadata address for credentials",
        Needs::App,
        METADATA,
        stream::metadata,
    ),
    packets(
        "tcp-outside",
        "connects to a host outside the cluster",
        Needs::App,
        EXFILTRATION,
        stream::outside,
    ),
    packets("tcp-node", "connects to the node's own port", Needs::App, LATERAL, stream::node),
    packets(
        "tcp-trusted-source-port",
        "connects from a source port that careless rules trust",
        Needs::App,
        IMPAIR,
        stream::trusted_source_port,
    ),
    only_v4(packets(
        "tcp-mapped-address",
        "writes the IPv4 address as IPv6",
        Needs::App,
        IMPAIR,
        stream::mapped,
    )),
    packets("tcp-multipath", "connects by multipath TCP", Needs::App, LATERAL, stream::multipath),
    packets("tcp-fast-open", "sends its data in the SYN", Needs::App, EXFILTRATION, stream::fast_open),
    packets(
        "tcp-bound-to-interface",
        "binds its socket to the interface",
        Needs::App,
        IMPAIR,
        stream::bound_to_interface,
    ),
    only_v4(packets(
        "tcp-record-route",
        "puts an option in every packet",
        Needs::App,
        IMPAIR,
        stream::record_route,
    )),
    packets(
        "delete-tables",
        "tries to delete the firewall's tables, then connects",
        Needs::App,
        IMPAIR,
        stream::delete_tables,
    ),
    packets(
        "delete-tables-as-namespace-root",
        "the same as root of a user namespace of its own",
        Needs::App,
        IMPAIR,
        stream::delete_tables_as_root_of_a_namespace,
    ),
    packets(
        "tcp-own-sidecar",
        "hits the sidecar's ports in its own pod",
        Needs::App,
        IMPAIR,
        stream::own_sidecar,
    ),
    packets(
        "tcp-peer-sidecar",
        "hits the sidecar's ports in another pod",
        Needs::App,
        IMPAIR,
        stream::peer_sidecar,
    ),
    packets(
        "udp-forbidden-pod",
        "sends a datagram to a pod that it may not talk to",
        Needs::App,
        LATERAL,
        datagram::pod,
    ),
    packets(
        "udp-forbidden-service",
        "sends a datagram to a service's cluster address",
        Needs::App,
        LATERAL,
        datagram::service,
    ),
    packets("udp-outside", "sends a datagram to a host outside", Needs::App, EXFILTRATION, datagram::outside),
    packets(
        "udp-quic",
        "sends what looks like QUIC to a host outside",
        Needs::App,
        EXFILTRATION,
        datagram::quic,
    ),
    packets(
        "udp-dns",
        "asks a resolver outside a question whose name carries data",
        Needs::App,
        EXFILTRATION,
        datagram::dns,
    ),
    packets(
        "udp-trusted-source-port",
        "sends a datagram from a source port that careless rules trust",
        Needs::App,
        IMPAIR,
        datagram::trusted_source_port,
    ),
    packets(
        "udp-metadata",
        "sends a datagram to the metadata address",
        Needs::App,
        METADATA,
        datagram::metadata,
    ),
    packets(
        "udp-fragmented",
        "sends a datagram so large that it leaves in pieces",
        Needs::App,
        LATERAL,
        datagram::fragmented,
    ),
    packets(
        "udp-multicast",
        "sends a datagram to every listener of the link",
        Needs::App,
        SWEEP,
        datagram::multicast,
    ),
    only_v4(packets(
        "udp-broadcast",
        "sends a datagram to everybody on the link",
        Needs::App,
        SWEEP,
        datagram::broadcast,
    )),
    packets(
        "udp-own-sidecar",
        "sends datagrams to the sidecar's ports in its own pod",
        Needs::App,
        IMPAIR,
        datagram::own_sidecar,
    ),
    packets(
        "udp-peer-sidecar",
        "sends datagrams to the sidecar's ports in another pod",
        Needs::App,
        IMPAIR,
        datagram::peer_sidecar,
    ),
    packets(
        "udplite",
        "sends by UDP-Lite, which filters for UDP do not see",
        Needs::App,
        CHANNEL,
        datagram::udplite,
    ),
    packets("icmp-pod", "pings a pod that it may not talk to", Needs::App, SWEEP, datagram::ping_pod),
    packets("icmp-outside", "pings a host outside", Needs::App, CHANNEL, datagram::ping_outside),
    packets(
        "icmp-tunnel",
        "pings a host outside with a kilobyte of data",
        Needs::App,
        TUNNEL,
        datagram::ping_tunnel,
    ),
    packets("raw-icmp", "pings a host outside by a raw socket", Needs::NetRaw, CHANNEL, raw::ping),
    packets(
        "raw-odd-icmp",
        "asks a pod a question of ICMP that filters forget",
        Needs::NetRaw,
        CHANNEL,
        raw::odd_icmp,
    ),
    packets("raw-syn", "sends a SYN with data without the kernel's TCP", Needs::NetRaw, LATERAL, raw::syn),
    packets(
        "raw-data",
        "sends data of a connection that was never opened",
        Needs::NetRaw,
        LATERAL,
        raw::data_without_connection,
    ),
    not_in_campaigns(packets(
        "raw-spoofed-syn",
        "sends a SYN from another pod's address",
        Needs::NetRaw,
        SPOOF,
        raw::spoofed_syn,
    )),
    not_in_campaigns(packets(
        "raw-spoofed-datagram",
        "sends a datagram from another pod's address",
        Needs::NetRaw,
        SPOOF,
        raw::spoofed_datagram,
    )),
    packets(
        "raw-tiny-fragments",
        "cuts a SYN in two fragments, as early as receivers allow",
        Needs::NetRaw,
        IMPAIR,
        raw::tiny_fragments,
    ),
    packets(
        "raw-fragmented-datagram",
        "sends a datagram in two fragments of its own making",
        Needs::NetRaw,
        IMPAIR,
        raw::fragmented_datagram,
    ),
    packets(
        "raw-options",
        "puts options or an extension header before a SYN",
        Needs::NetRaw,
        IMPAIR,
        raw::options,
    ),
    only_v6(packets(
        "raw-hop-by-hop",
        "puts hop-by-hop options before a SYN",
        Needs::NetRaw,
        IMPAIR,
        raw::hop_by_hop,
    )),
    only_v6(packets(
        "raw-header-chain",
        "puts two extension headers before a SYN",
        Needs::NetRaw,
        IMPAIR,
        raw::header_chain,
    )),
    only_v6(packets(
        "raw-atomic-fragment",
        "sends a SYN in a fragment that is the whole packet",
        Needs::NetRaw,
        IMPAIR,
        raw::atomic_fragment,
    )),
    only_v6(packets(
        "raw-neighbour-discovery",
        "hides data in a message of neighbour discovery to a host outside",
        Needs::NetRaw,
        TUNNEL,
        raw::neighbour_discovery,
    )),
    packets("raw-gre", "sends a packet of a generic tunnel", Needs::NetRaw, TUNNEL, raw::gre),
    packets("raw-sctp", "opens an SCTP association", Needs::NetRaw, CHANNEL, raw::sctp),
    packets("raw-esp", "sends what looks like IPsec", Needs::NetRaw, TUNNEL, raw::esp),
    packets("raw-ip-in-ip", "sends IP inside IP", Needs::NetRaw, TUNNEL, raw::tunnel),
    packets(
        "raw-experiment",
        "sends a packet of a protocol kept for experiments",
        Needs::NetRaw,
        CHANNEL,
        raw::experiment,
    ),
    packets("frame", "puts a frame on the link past the network stack", Needs::NetRaw, IMPAIR, raw::frame),
    packets(
        "frame-past-queue",
        "the same past the queueing discipline",
        Needs::NetRaw,
        IMPAIR,
        raw::frame_past_queue,
    ),
    packets("frame-xdp", "sends a frame by AF_XDP, past every hook", Needs::NetRaw, IMPAIR, raw::xdp_frame),
    packets(
        "frame-marked",
        "puts a frame on the link with the mark of packets that were judged",
        Needs::NetRaw,
        IMPAIR,
        raw::marked_frame,
    ),
    not_in_campaigns(only_v4(packets(
        "frame-arp",
        "hides data in a frame of address resolution",
        Needs::NetRaw,
        TUNNEL,
        raw::arp_frame,
    ))),
    packets(
        "mark-tcp",
        "connects with the sidecar's socket mark",
        Needs::NetRaw,
        IMPAIR,
        stream::sidecar_mark,
    ),
    packets(
        "mark-udp",
        "sends a datagram with the sidecar's socket mark",
        Needs::NetRaw,
        IMPAIR,
        raw::marked_datagram,
    ),
    not_in_campaigns(packets(
        "transparent-tcp",
        "connects from another pod's address by a transparent socket",
        Needs::NetRaw,
        SPOOF,
        stream::transparent,
    )),
    not_in_campaigns(packets(
        "sidecar-user",
        "becomes the sidecar's user and connects",
        Needs::SetUid,
        IMPAIR,
        stream::sidecar_user,
    )),
    not_in_campaigns(packets(
        "sidecar-user-and-mark",
        "becomes the sidecar's user and connects with its mark",
        Needs::NetRawAndSetUid,
        IMPAIR,
        stream::sidecar_user_and_mark,
    )),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_family_has_at_least_sixty_kinds() {
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        for family in [Family::V4, Family::V6] {
            let count = KINDS.iter().filter(|kind| kind.exists_in(family)).count();
            assert!(count >= 60, "{count} in {family:?}");
        }
    }

    #[test]
    fn at_least_twenty_kinds_of_each_family_need_no_privilege() {
        for family in [Family::V4, Family::V6] {
            let app = KINDS.iter().filter(|kind| kind.exists_in(family) && kind.needs == Needs::App);
            assert!(app.count() >= 20);
        }
    }
}

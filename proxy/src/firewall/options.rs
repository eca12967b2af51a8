//! What the table has to know of the sidecar and its pod.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};

/// Where captured inbound TCP arrives.
pub const INBOUND_PORT: u16 = 15006;
/// Where captured outbound TCP arrives.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where captured inbound UDP arrives.
pub const INBOUND_UDP_PORT: u16 = 15007;
/// Where captured outbound UDP arrives: questions to name servers.
pub const DNS_PORT: u16 = 15053;
/// The NFLOG group of denied packets.
pub(super) const LOG_GROUP: u16 = 15006;
/// The conntrack zone of the leg to the app, for its original direction.
pub(super) const LOCAL_LEG_ZONE: u16 = 15006;
/// The conntrack zone of questions that the sidecar asks name servers, for their original direction.
pub(super) const QUESTION_ZONE: u16 = 15007;
/// The packet mark that sends answers on the leg to the app back to the sidecar. Worthless to an app: what it
/// marks so comes back to the pod itself.
pub const ROUTE_MARK: u32 = 0x4255_4c52;
/// The routing table for it.
pub(super) const ROUTE_TABLE: u32 = 15_006;

/// Settings of the kernel tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallOptions {
    /// User id of the sidecar as this network namespace's owner sees it.
    pub sidecar_uid: u32,
    /// Where the controller's sidecar port is: only the sidecar may go there by this rule.
    pub controller: Option<SocketAddr>,
    /// Port of health and metrics.
    pub admin_port: u16,
    /// Who may reach it beside what policies allow: the node.
    pub admin_peers: Vec<IpAddr>,
    /// How the sidecar's sockets are told from others.
    pub marks: Marks,
    /// By what else they are told; [`Firewall::open`](super::Firewall::open) finds out.
    pub control_group: Option<ControlGroup>,
    /// False where flows cannot be handed to the inspector: what needs it is then denied.
    pub hands_over: bool,
    /// True if what the inspector would look into passes while it is dead.
    pub fail_open: bool,
    /// What passes whatever policies say.
    pub infrastructure: Infrastructure,
}

/// What passes whatever policies say, since the pod could not live without it; each can be switched off, and is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infrastructure {
    /// Neighbour discovery of IPv6, by the kernel itself.
    pub neighbour_discovery: bool,
    /// The sidecar's administrative port, from [`FirewallOptions::admin_peers`].
    pub administrative_port: bool,
    /// DHCP of both families, for the few networks that give pods their addresses so; off unless asked for.
    pub dhcp: bool,
    /// Announcements of routers to the pod and its question for them, by the kernel itself, for the few networks that give pods
    /// their routes so; off unless asked for.
    pub router_discovery: bool,
    /// Questions which groups the pod listens to and the kernel's answers, for networks that keep the pod's neighbours from it
    /// else; off unless asked for.
    pub multicast_listeners: bool,
}

impl Default for Infrastructure {
    fn default() -> Self {
        Self {
            neighbour_discovery: true,
            administrative_port: true,
            dhcp: false,
            router_discovery: false,
            multicast_listeners: false,
        }
    }
}

/// The control group (version 2) of the sidecar, as rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlGroup {
    /// Its identifier.
    pub id: u64,
    /// How many levels below the top of the hierarchy that the kernel's rules see.
    pub level: u32,
}

impl FirewallOptions {
    /// For a sidecar of that user, with fresh marks and nothing else allowed.
    pub fn new(sidecar_uid: u32) -> io::Result<Self> {
        Ok(Self {
            sidecar_uid,
            controller: None,
            admin_port: 15020,
            admin_peers: Vec::new(),
            marks: Marks::random()?,
            control_group: None,
            hands_over: true,
            fail_open: false,
            infrastructure: Infrastructure::default(),
        })
    }
}

/// Packet and socket marks of this run of the sidecar: random, and never shown to the app.
///
/// A mark alone opens nothing, the user id is asked as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// On sockets that dial out: upstream legs and the controller.
    pub upstream: u32,
    /// On sockets that dial the pod's own app.
    pub local_leg: u32,
    /// On the sidecar's listeners; an app that binds their ports while we are down lacks it.
    pub listener: u32,
    /// On packets that passed the table; frames without it never saw it.
    pub passed: u32,
}

impl Marks {
    /// Fresh ones.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0u8; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let mut parts = bytes.chunks_exact(4).zip(1u32..).map(|(chunk, kind)| {
            let random = chunk.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
            // The lowest bits keep the four apart from each other and from 0.
            random & !0x7 | kind
        });
        let mut next = || parts.next().unwrap_or(u32::MAX);
        Ok(Self { upstream: next(), local_leg: next(), listener: next(), passed: next() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_one_run_differ_from_each_other_and_from_the_next_run() {
        let (one, two) = (Marks::random().expect("random"), Marks::random().expect("random"));
        let mut all = [one.upstream, one.local_leg, one.listener, one.passed, ROUTE_MARK];
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]) && all[0] != 0);
        assert_ne!(one, two);
    }
}

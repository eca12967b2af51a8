//! The network of the lab: one namespace for each place, a cable from each to the node, no shared bridge.
//!
//! Every place owns a /32 and a /128 and reaches everything else through its gateway, which has the same two
//! link-local addresses on every cable. The node routes between the cables; a packet whose source does not
//! belong to its cable is dropped there (`rp_filter` for IPv4; [`crate::services`] does both families). Runs
//! before the runtime starts: namespaces belong to threads, so each is set up by a thread of its own.

use crate::addresses::NODE;
use crate::{paths, system};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

/// The node's end of every cable.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The node's end of every cable.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Number of the interface in each place; loopback is 1.
const PLACE_INTERFACE: u32 = 2;

/// Numbers of the node's ends begin here.
const NODE_INTERFACE_FIRST: u32 = 100;

/// One place with its addresses.
#[derive(Clone, Debug)]
pub(crate) struct Cable {
    /// `namespace/pod` or `outside/host`.
    pub(crate) place: String,
    /// Every address, of both families.
    pub(crate) addresses: Vec<IpAddr>,
}

/// Number of the node's end of the cable with this position; [`crate::limits::PLACES_MAX`] keeps it small.
pub(crate) fn interface_index(position: usize) -> u32 {
    NODE_INTERFACE_FIRST + u32::try_from(position).unwrap_or(u32::MAX - NODE_INTERFACE_FIRST)
}

/// Makes every namespace, cable, address and route, the node's included.
pub(crate) fn build(cables: &[Cable], root: bool) -> io::Result<()> {
    node_settings()?;
    fs::create_dir_all(paths::NETWORKS)?;
    for cable in cables {
        make_namespace(&paths::network(&cable.place))?;
    }
    block_on(lay_cables(cables))?;
    for cable in cables {
        let file = fs::File::open(paths::network(&cable.place))?;
        in_thread(|| {
            system::setns(file.as_fd(), libc::CLONE_NEWNET)?;
            place_settings(root)?;
            block_on(configure_place(&cable.addresses))
        })
        .map_err(|e| io::Error::new(e.kind(), format!("network of `{}`: {e}", cable.place)))?;
    }
    Ok(())
}

/// Makes a network namespace that lives as long as the file it is bound to.
fn make_namespace(path: &Path) -> io::Result<()> {
    fs::write(path, "")?;
    in_thread(|| {
        system::unshare(libc::CLONE_NEWNET)?;
        settings(&[
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv6/conf/default/dad_transmits", "0"),
            ("ipv6/conf/default/accept_ra", "0"),
        ])?;
        system::mount("/proc/thread-self/ns/net", &path.to_string_lossy(), "", libc::MS_BIND, "")
    })
}

fn node_settings() -> io::Result<()> {
    settings(&[
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/default/rp_filter", "1"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv6/conf/default/forwarding", "1"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/dad_transmits", "0"),
        ("ipv6/conf/default/addr_gen_mode", "1"),
    ])
}

/// What container runtimes set too: ports below 1024 and unprivileged ICMP sockets for apps without capability.
/// An ordinary user has one group to give.
fn place_settings(root: bool) -> io::Result<()> {
    let groups = if root { "0 65534" } else { "0 0" };
    settings(&[("ipv4/ip_unprivileged_port_start", "0"), ("ipv4/ping_group_range", groups)])
}

fn settings(values: &[(&str, &str)]) -> io::Result<()> {
    for (name, value) in values {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value)
            .map_err(|e| io::Error::new(e.kind(), format!("writing `{value}` to {path}: {e}")))?;
    }
    Ok(())
}

async fn lay_cables(cables: &[Cable]) -> io::Result<()> {
    let net = connect()?;
    up(&net, 1).await?;
    for address in [IpAddr::V4(NODE.0), IpAddr::V6(NODE.1)] {
        add_address(&net, 1, address, prefix(address)).await?;
    }
    for (position, cable) in cables.iter().enumerate() {
        lay_cable(&net, position, cable)
            .await
            .map_err(|e| io::Error::new(e.kind(), format!("cable of `{}`: {e}", cable.place)))?;
    }
    Ok(())
}

async fn lay_cable(net: &Handle, position: usize, cable: &Cable) -> io::Result<()> {
    let index = interface_index(position);
    let file = fs::File::open(paths::network(&cable.place))?;
    let far_end = LinkMessageBuilder::<LinkUnspec>::new()
        .name("eth0".to_owned())
        .index(PLACE_INTERFACE)
        .setns_by_fd(file.as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new(&format!("cable{position}"), "eth0")
        .index(index)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(far_end)))
        .build();
    net.link().add(pair).execute().await.map_err(failed("making the cable"))?;
    up(net, index).await?;
    add_address(net, index, GATEWAY_V4.into(), 32).await?;
    add_address(net, index, GATEWAY_V6.into(), 64).await?;
    for address in &cable.addresses {
        let route = match address {
            IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(*address, 32)
                .output_interface(index)
                .scope(RouteScope::Link)
                .pref_source(NODE.0)
                .build(),
            IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(*address, 128)
                .output_interface(index)
                .pref_source(NODE.1)
                .build(),
        };
        net.route().add(route).execute().await.map_err(failed("routing to it"))?;
    }
    Ok(())
}

async fn configure_place(addresses: &[IpAddr]) -> io::Result<()> {
    let net = connect()?;
    up(&net, 1).await?;
    up(&net, PLACE_INTERFACE).await?;
    for address in addresses {
        add_address(&net, PLACE_INTERFACE, *address, prefix(*address)).await?;
    }
    let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(GATEWAY_V4, 32)
        .output_interface(PLACE_INTERFACE)
        .scope(RouteScope::Link);
    let default_v4 =
        RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY_V4).output_interface(PLACE_INTERFACE);
    let default_v6 =
        RouteMessageBuilder::<Ipv6Addr>::new().gateway(GATEWAY_V6).output_interface(PLACE_INTERFACE);
    for route in [to_gateway.build(), default_v4.build(), default_v6.build()] {
        net.route().add(route).execute().await.map_err(failed("routing"))?;
    }
    Ok(())
}

/// Whether something listens on a TCP port of a place, asked on its loopback, where no firewall stands.
pub(crate) fn answers(network: &Path, port: u16) -> io::Result<bool> {
    const PATIENCE: Duration = Duration::from_millis(200);
    let file = fs::File::open(network)?;
    in_thread(|| {
        system::setns(file.as_fd(), libc::CLONE_NEWNET)?;
        Ok([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            .iter()
            .any(|address| TcpStream::connect_timeout(&SocketAddr::new(*address, port), PATIENCE).is_ok()))
    })
}

/// Answers "unreachable" to whoever calls an address of these blocks that nothing else routes.
pub(crate) fn refuse(blocks: &[(IpAddr, u8)]) -> io::Result<()> {
    block_on(async {
        let net = connect()?;
        for (address, length) in blocks {
            let mut route = match address {
                IpAddr::V4(address) => {
                    RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(*address, *length).build()
                }
                IpAddr::V6(address) => {
                    RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(*address, *length).build()
                }
            };
            route.header.kind = RouteType::Unreachable;
            debug_assert!(route.header.address_family != AddressFamily::Unspec);
            net.route().add(route).execute().await.map_err(failed("refusing a block"))?;
        }
        Ok(())
    })
}

async fn up(net: &Handle, index: u32) -> io::Result<()> {
    let link = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
    net.link().change(link).execute().await.map_err(failed("bringing an interface up"))
}

async fn add_address(net: &Handle, index: u32, address: IpAddr, length: u8) -> io::Result<()> {
    let mut request = net.address().add(index, address, length);
    if address.is_ipv6() {
        // Usable at once: nobody else is on the cable.
        request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    request.execute().await.map_err(failed("adding an address"))
}

fn prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A connection to the kernel in this thread's network namespace, driven until the runtime ends.
fn connect() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

fn block_on<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(work)
}

fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join()).map_err(|_| io::Error::other("a thread panicked"))?
}

fn failed(what: &str) -> impl Fn(rtnetlink::Error) -> io::Error + '_ {
    move |error| io::Error::other(format!("{what} failed: {error}"))
}

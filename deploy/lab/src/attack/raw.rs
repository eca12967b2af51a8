//! Packets built by hand, which need CAP_NET_RAW: other protocols, spoofed sources, fragments, extension headers,
//! frames that pass by the network stack.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use super::attempt::{Attempt, NoTarget, NotMade, anywhere, domain, icmp, portless, raw_socket};
use super::packet::{self, Ends, protocol};
use super::targets::Family;
use super::{system, xdp};

type Made = Result<(), NotMade>;

/// Whole packets with their IP header.
const IPPROTO_RAW: u8 = 255;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_ARP: u16 = 0x0806;
/// Option of packet sockets (packet(7)): past the queueing discipline.
const PACKET_QDISC_BYPASS: i32 = 20;
/// An option of IPv4 that every router passes on: no operation, then the end of options.
const HARMLESS_OPTIONS: [u8; 4] = [1, 1, 1, 0];

/// A ping of a host outside.
pub(super) fn ping(attempt: &mut Attempt) -> Made {
    let target = attempt.targets.outside.ok_or(NoTarget("outside"))?.address.of(attempt.family);
    let number = icmp(attempt.family);
    let message = packet::echo_request(attempt.own(), target, 7, &attempt.payload(0));
    send(attempt, number, SocketAddr::new(target, 0), &message)
}

/// A timestamp request, or in IPv6 a node information query: questions that filters forget.
pub(super) fn odd_icmp(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let number = icmp(attempt.family);
    let mut message = packet::echo_request(attempt.own(), target.ip(), 7, &attempt.payload(24));
    let (old, new) = if attempt.family == Family::V4 { (8, 13) } else { (128, 139) };
    message[0] = new;
    // The checksum is a sum of words: the type is the high byte of the first.
    let sum = u16::from_be_bytes([message[2], message[3]]);
    let less = u16::from(new - old) << 8;
    let (sum, borrowed) = sum.overflowing_sub(less);
    message[2..4].copy_from_slice(&sum.wrapping_sub(u16::from(borrowed)).to_be_bytes());
    send(attempt, number, target, &message)
}

/// A generic tunnel.
pub(super) fn gre(attempt: &mut Attempt) -> Made {
    let payload = [&[0, 0, 0x65, 0x58][..], &attempt.payload(0)].concat();
    to_pod(attempt, protocol::GRE, &payload)
}

/// The first packet of an SCTP association.
pub(super) fn sctp(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let packet = packet::sctp_init(attempt.token.source_port(0), target.port(), &attempt.payload(0));
    to_pod(attempt, protocol::SCTP, &packet)
}

/// What looks like IPsec.
pub(super) fn esp(attempt: &mut Attempt) -> Made {
    let payload = [&[0, 0, 0x12, 0x34, 0, 0, 0, 1][..], &attempt.payload(40)].concat();
    to_pod(attempt, protocol::ESP, &payload)
}

/// A protocol number kept for experiments.
pub(super) fn experiment(attempt: &mut Attempt) -> Made {
    let payload = attempt.payload(0);
    to_pod(attempt, protocol::EXPERIMENT, &payload)
}

/// IP inside IP.
pub(super) fn tunnel(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let ends = attempt.ends(0, target);
    let inner = packet::ip(ends, protocol::UDP, &[], &packet::udp(ends, &attempt.payload(0)));
    let outer = if attempt.family == Family::V4 { protocol::IPIP } else { protocol::IPV6 };
    to_pod(attempt, outer, &inner)
}

/// A SYN from another pod's address.
pub(super) fn spoofed_syn(attempt: &mut Attempt) -> Made {
    let ends = spoofed(attempt)?;
    let segment = packet::tcp(ends, packet::SYN, &attempt.payload(0));
    send_whole(attempt, ends, protocol::TCP, &[packet::ip(ends, protocol::TCP, &[], &segment)])
}

/// A datagram from another pod's address.
pub(super) fn spoofed_datagram(attempt: &mut Attempt) -> Made {
    let ends = spoofed(attempt)?;
    let datagram = packet::udp(ends, &attempt.payload(0));
    send_whole(attempt, ends, protocol::UDP, &[packet::ip(ends, protocol::UDP, &[], &datagram)])
}

/// A SYN without the kernel's TCP.
pub(super) fn syn(attempt: &mut Attempt) -> Made {
    segment(attempt, packet::SYN, &[], |_, segment| (protocol::TCP, segment))
}

/// Data of a connection that was never opened.
pub(super) fn data_without_connection(attempt: &mut Attempt) -> Made {
    segment(attempt, packet::ACK_PUSH, &[], |_, segment| (protocol::TCP, segment))
}

/// A SYN cut in two fragments: in IPv4 within its header. IPv6 receivers refuse that (RFC 7112), so there the header
/// is whole and what follows is not.
pub(super) fn tiny_fragments(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let ends = attempt.ends(0, target);
    let segment = packet::tcp(ends, packet::SYN, &attempt.payload(0));
    let identifier = attempt.token.source_port(0);
    let first = if attempt.family == Family::V4 { 8 } else { 24 };
    let parts = packet::fragments(ends, protocol::TCP, &segment, first, identifier);
    send_whole(attempt, ends, protocol::TCP, &parts)
}

/// A datagram in two fragments, the second of which has no port.
pub(super) fn fragmented_datagram(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let ends = attempt.ends(0, target);
    let datagram = packet::udp(ends, &attempt.payload(600));
    let identifier = attempt.token.source_port(1);
    let parts = packet::fragments(ends, protocol::UDP, &datagram, 64, identifier);
    send_whole(attempt, ends, protocol::UDP, &parts)
}

/// A SYN behind options of IPv4, or behind a header of destination options.
pub(super) fn options(attempt: &mut Attempt) -> Made {
    segment(attempt, packet::SYN, &HARMLESS_OPTIONS, |family, segment| match family {
        Family::V4 => (protocol::TCP, segment),
        Family::V6 => (protocol::DESTINATION_OPTIONS, packet::options_header(protocol::TCP, &segment)),
    })
}

/// A SYN behind hop-by-hop options (IPv6 only).
pub(super) fn hop_by_hop(attempt: &mut Attempt) -> Made {
    segment(attempt, packet::SYN, &[], |_, segment| (0, packet::options_header(protocol::TCP, &segment)))
}

/// A SYN behind two extension headers (IPv6 only).
pub(super) fn header_chain(attempt: &mut Attempt) -> Made {
    segment(attempt, packet::SYN, &[], |_, segment| {
        let inner = packet::options_header(protocol::TCP, &segment);
        (0, packet::options_header(protocol::DESTINATION_OPTIONS, &inner))
    })
}

/// A SYN in a fragment that is the whole packet (IPv6 only).
pub(super) fn atomic_fragment(attempt: &mut Attempt) -> Made {
    segment(attempt, packet::SYN, &[], |_, segment| {
        (protocol::FRAGMENT, packet::atomic_fragment(protocol::TCP, 7, &segment))
    })
}

/// A datagram with the sidecar's socket mark.
pub(super) fn marked_datagram(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let mark = attempt.targets.sidecar.as_ref().ok_or(NoTarget("sidecar"))?.mark;
    attempt.announce(protocol::UDP, attempt.ends(0, target));
    let sent = Socket::new(domain(target.ip()), Type::DGRAM, Some(Protocol::UDP)).and_then(|socket| {
        socket.bind(&SocketAddr::new(anywhere(attempt.family), attempt.token.source_port(0)).into())?;
        socket.set_mark(mark)?;
        socket.send_to(&attempt.payload(0), &target.into())
    });
    attempt.note("sent", &sent);
    Ok(())
}

/// A frame put on the link, past every hook of the network stack.
pub(super) fn frame(attempt: &mut Attempt) -> Made {
    send_frame(attempt, &|_| Ok(()))
}

/// The same, past the queueing discipline as well.
pub(super) fn frame_past_queue(attempt: &mut Attempt) -> Made {
    send_frame(attempt, &|socket| system::set_option(socket, libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1))
}

/// The same with the mark that tells the guard of frames which packets were judged: a guess, unless it was betrayed.
pub(super) fn marked_frame(attempt: &mut Attempt) -> Made {
    let mark = attempt.targets.sidecar.as_ref().ok_or(NoTarget("sidecar"))?.frame_mark;
    send_frame(attempt, &|socket| socket.set_mark(mark))
}

/// A frame by an AF_XDP socket, which no hook of the kernel's firewall sees.
pub(super) fn xdp_frame(attempt: &mut Attempt) -> Made {
    let target = forbidden_pod(attempt)?;
    let link = attempt.targets.link.as_ref().ok_or(NoTarget("link"))?;
    let gateway = hardware(&link.gateway_mac).ok_or(NoTarget("readable gateway_mac"))?;
    let ends = attempt.ends(0, target);
    attempt.announce(protocol::UDP, ends);
    let packet = packet::ip(ends, protocol::UDP, &[], &packet::udp(ends, &attempt.payload(0)));
    let kind = if attempt.family == Family::V4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let frame = [&gateway[..], &[2, 0, 0, 0, 0, 2], &kind.to_be_bytes(), &packet].concat();
    let sent = system::interface_index(&link.interface).and_then(|index| xdp::send(index, &frame));
    attempt.note_if_supported("AF_XDP", &sent)
}

/// A frame of address resolution that holds data; it goes no farther than the link (IPv4 only).
pub(super) fn arp_frame(attempt: &mut Attempt) -> Made {
    let bytes = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &attempt.payload(40)].concat();
    let own = SocketAddr::new(attempt.own(), 0);
    attempt.announce(0, Ends { source_port: 0, ..attempt.ends(0, own) });
    put_on_link(attempt, ETHERTYPE_ARP, &bytes, &|_| Ok(()))
}

/// A question for a neighbour, with data in an option, to a host that is none (IPv6 only).
pub(super) fn neighbour_discovery(attempt: &mut Attempt) -> Made {
    let target = attempt.targets.outside.ok_or(NoTarget("outside"))?.address.of(attempt.family);
    let number = icmp(attempt.family);
    let ends = Ends { source_port: 0, destination_port: 0, ..attempt.ends(0, SocketAddr::new(target, 0)) };
    attempt.announce(number, ends);
    // Type 135, the target address, then an option of three units of eight bytes; the kernel writes the checksum.
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    message.extend([1, 3]);
    message.extend(attempt.payload(22));
    let sent = raw_socket(attempt.family, number).and_then(|socket| {
        socket.set_unicast_hops_v6(255)?;
        socket.send_to(&message, &portless(target))
    });
    attempt.note("sent", &sent);
    Ok(())
}

/// Changes a packet socket before it sends.
type Prepare<'a> = dyn Fn(&Socket) -> std::io::Result<()> + 'a;

fn send_frame(attempt: &mut Attempt, prepare: &Prepare<'_>) -> Made {
    let target = forbidden_pod(attempt)?;
    let ends = attempt.ends(0, target);
    attempt.announce(protocol::UDP, ends);
    let packet = packet::ip(ends, protocol::UDP, &[], &packet::udp(ends, &attempt.payload(0)));
    let kind = if attempt.family == Family::V4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    put_on_link(attempt, kind, &packet, prepare)
}

/// Sends bytes behind a link header that the kernel writes, to the node's end of the link.
fn put_on_link(attempt: &mut Attempt, kind: u16, bytes: &[u8], prepare: &Prepare<'_>) -> Made {
    let link = attempt.targets.link.as_ref().ok_or(NoTarget("link"))?;
    let gateway = hardware(&link.gateway_mac).ok_or(NoTarget("readable gateway_mac"))?;
    // Protocol 0: it receives nothing.
    let sent = system::interface_index(&link.interface).and_then(|index| {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        prepare(&socket)?;
        socket.send_to(bytes, &system::link_address(index, kind, gateway)?)
    });
    attempt.note("sent", &sent);
    Ok(())
}

fn forbidden_pod(attempt: &Attempt) -> Result<SocketAddr, NotMade> {
    Ok(attempt.targets.forbidden_pod.ok_or(NoTarget("forbidden_pod"))?.of(attempt.family))
}

fn spoofed(attempt: &Attempt) -> Result<Ends, NotMade> {
    let source = attempt.targets.neighbour.ok_or(NoTarget("neighbour"))?.of(attempt.family);
    Ok(Ends { source, ..attempt.ends(0, forbidden_pod(attempt)?) })
}

/// A packet of `number` to the forbidden pod; the kernel writes the IP header.
fn to_pod(attempt: &mut Attempt, number: u8, payload: &[u8]) -> Made {
    let target = forbidden_pod(attempt)?;
    send(attempt, number, target, payload)
}

fn send(attempt: &mut Attempt, number: u8, target: SocketAddr, payload: &[u8]) -> Made {
    let ends = Ends { source_port: 0, destination_port: 0, ..attempt.ends(0, target) };
    attempt.announce(number, ends);
    let sent =
        raw_socket(attempt.family, number).and_then(|socket| socket.send_to(payload, &portless(target.ip())));
    attempt.note("sent", &sent);
    Ok(())
}

/// A TCP segment with data to the forbidden pod, wrapped in whatever `wrap` puts around it.
fn segment(
    attempt: &mut Attempt,
    flags: u8,
    options: &[u8],
    wrap: fn(Family, Vec<u8>) -> (u8, Vec<u8>),
) -> Made {
    let target = forbidden_pod(attempt)?;
    let ends = attempt.ends(0, target);
    let (next, payload) = wrap(attempt.family, packet::tcp(ends, flags, &attempt.payload(0)));
    send_whole(attempt, ends, protocol::TCP, &[packet::ip(ends, next, options, &payload)])
}

/// Sends whole packets, IP header included.
fn send_whole(attempt: &mut Attempt, ends: Ends, number: u8, packets: &[Vec<u8>]) -> Made {
    attempt.announce(number, ends);
    let socket = raw_socket(attempt.family, IPPROTO_RAW);
    attempt.note("opened", &socket);
    let Ok(socket) = socket else { return Ok(()) };
    for packet in packets {
        let sent = socket.send_to(packet, &portless(ends.destination));
        attempt.note("sent", &sent);
    }
    Ok(())
}

fn hardware(text: &str) -> Option<[u8; 6]> {
    let mut bytes = text.split(':').map(|pair| u8::from_str_radix(pair, 16).ok());
    let mut address = [0; 6];
    for byte in &mut address {
        *byte = bytes.next()??;
    }
    bytes.next().is_none().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::hardware;

    #[test]
    fn a_hardware_address_has_six_bytes() {
        assert_eq!(hardware("02:00:00:0a:00:01"), Some([2, 0, 0, 10, 0, 1]));
        for text in ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "zz:00:00:00:00:01"] {
            assert_eq!(hardware(text), None, "{text}");
        }
    }
}

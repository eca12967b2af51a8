//! Datagrams with the address that they were sent to, and sockets that are marked before they are bound.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Room for one control message of either family.
const CONTROL_BYTES: usize = 128;

/// Control messages want the alignment of their header.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Has the kernel tell to which address each datagram was sent.
pub(super) fn tell_local_address(socket: &impl AsFd, ipv4: bool) -> io::Result<()> {
    let (level, option) = match ipv4 {
        true => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        false => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: pointer and length describe `on`; the descriptor is borrowed from a live socket.
    let result = unsafe {
        let fd = socket.as_fd().as_raw_fd();
        libc::setsockopt(fd, level, option, (&raw const on).cast(), length_of::<libc::c_int>())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A datagram socket that is neither bound nor connected.
pub(super) fn datagram_socket(ipv4: bool) -> io::Result<OwnedFd> {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers only; the result is checked before use.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned `fd` and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a socket of [`datagram_socket`].
pub(super) fn bind(socket: OwnedFd, address: SocketAddr) -> io::Result<UdpSocket> {
    let (storage, length) = raw_address(address);
    // SAFETY: pointer and length describe `storage`, which outlives the call; `socket` owns the descriptor.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), length) };
    if result == 0 { Ok(UdpSocket::from(socket)) } else { Err(io::Error::last_os_error()) }
}

/// The next datagram: its length, who sent it, and to which address.
pub(super) fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, IpAddr)> {
    // SAFETY: all-zero is a value of these plain structures.
    let (mut storage, mut message): (libc::sockaddr_storage, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    let mut control = MaybeUninit::<Control>::uninit();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut storage).cast();
    message.msg_namelen = length_of::<libc::sockaddr_storage>();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES;
    // SAFETY: every pointer in `message` describes a live local or `buffer`, with its length.
    let length = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let from = read_address(&storage).ok_or_else(|| io::Error::other("a sender of an unknown family"))?;
    // SAFETY: the kernel has filled `message` and the control messages that it counts.
    let local = unsafe { local_address(&message) };
    let local = local.ok_or_else(|| io::Error::other("a datagram without its destination"))?;
    Ok((length, from, local.to_canonical()))
}

/// Sends a datagram that comes from `local`, an address of ours.
pub(super) fn send(socket: &impl AsFd, bytes: &[u8], to: SocketAddr, local: IpAddr) -> io::Result<()> {
    let (mut storage, length) = raw_address(to);
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a value of this plain structure.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut storage).cast();
    message.msg_namelen = length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_BYTES;
    // SAFETY: `message` has room for one control message of either family.
    message.msg_controllen = unsafe { write_local(&message, local) };
    // SAFETY: every pointer in `message` describes a live local or `bytes`, with its length; the kernel only reads.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// # Safety
/// `message` comes from a `recvmsg` that succeeded, and its control buffer is live.
unsafe fn local_address(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: as the caller promises; the macros stay within the control buffer.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(found) = header.as_ref() {
            let data = libc::CMSG_DATA(header);
            match (found.cmsg_level, found.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => header = libc::CMSG_NXTHDR(message, header),
            }
        }
    }
    None
}

/// Writes the control message that names our address; returns its length.
///
/// # Safety
/// The control buffer of `message` is live, zeroed and [`CONTROL_BYTES`] long.
unsafe fn write_local(message: &libc::msghdr, local: IpAddr) -> usize {
    // SAFETY: as the caller promises, there is room for the one control message that is written.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        let (level, kind, length) = match local {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, length_of::<libc::in_pktinfo>()),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, length_of::<libc::in6_pktinfo>()),
        };
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = usize::try_from(libc::CMSG_LEN(length)).unwrap_or(0);
        let data = libc::CMSG_DATA(header);
        match local {
            IpAddr::V4(address) => {
                let address = libc::in_addr { s_addr: u32::from(address).to_be() };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: address };
                data.cast::<libc::in_pktinfo>().write_unaligned(info);
            }
            IpAddr::V6(address) => {
                let address = libc::in6_addr { s6_addr: address.octets() };
                let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
                data.cast::<libc::in6_pktinfo>().write_unaligned(info);
            }
        }
        usize::try_from(libc::CMSG_SPACE(length)).unwrap_or(0)
    }
}

fn raw_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a value of this plain structure.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger than and aligned for every kind of address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
            length_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: the storage is larger than and aligned for every kind of address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            length_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length)
}

fn read_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let kind = libc::c_int::from(storage.ss_family);
    if kind == libc::AF_INET {
        // SAFETY: the family says that the storage holds such an address.
        let raw = unsafe { (&raw const *storage).cast::<libc::sockaddr_in>().read() };
        let address = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
        return Some((address, u16::from_be(raw.sin_port)).into());
    }
    if kind == libc::AF_INET6 {
        // SAFETY: the family says that the storage holds such an address.
        let raw = unsafe { (&raw const *storage).cast::<libc::sockaddr_in6>().read() };
        let address = Ipv6Addr::from(raw.sin6_addr.s6_addr);
        return Some(SocketAddrV6::new(address, u16::from_be(raw.sin6_port), 0, raw.sin6_scope_id).into());
    }
    None
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or(0)
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_tells_its_destination_and_is_answered_from_it() {
        for (ours, theirs) in [("127.0.0.1", "127.0.0.9"), ("::1", "::1")] {
            let (ours, theirs): (IpAddr, IpAddr) =
                (ours.parse().expect("address"), theirs.parse().expect("address"));
            let Ok(client) = UdpSocket::bind((ours, 0)) else {
                assert!(ours.is_ipv6(), "IPv4 is there");
                continue;
            };
            let any: IpAddr =
                if ours.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = datagram_socket(ours.is_ipv4()).expect("a socket");
            tell_local_address(&socket, ours.is_ipv4()).expect("an option");
            let server = bind(socket, (any, 0).into()).expect("bound");
            let port = server.local_addr().expect("address").port();
            client.send_to(b"question", (theirs, port)).expect("sent");
            server.set_nonblocking(false).expect("an option");
            server.peek_from(&mut [0; 1]).expect("arrived");
            let mut buffer = [0; 64];
            let received = receive(&server, &mut buffer).expect("received");
            assert_eq!(received, (8, client.local_addr().expect("address"), theirs));
            send(&server, b"answer", received.1, received.2).expect("sent");
            let (length, from) = client.recv_from(&mut buffer).expect("answered");
            assert_eq!((&buffer[..length], from), (&b"answer"[..], (theirs, port).into()));
        }
    }
}

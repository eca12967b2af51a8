//! Socket options that the standard library has no words for.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Marks every packet of the socket, and of what it accepts. Needs CAP_NET_ADMIN, but for 0, which every socket has.
pub(super) fn set_mark(socket: &impl AsFd, mark: u32) -> io::Result<()> {
    if mark == 0 {
        return Ok(());
    }
    set(socket, libc::SOL_SOCKET, libc::SO_MARK, &mark)
}

/// Keeps an IPv6 listener off IPv4 where that has a listener of its own.
pub(super) fn set_ipv6_only(socket: &impl AsFd, only: bool) -> io::Result<()> {
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &i32::from(only))
}

/// Lets the socket speak with an address that is not ours. Needs CAP_NET_ADMIN.
pub(super) fn set_transparent(socket: &impl AsFd, ipv4: bool) -> io::Result<()> {
    match ipv4 {
        true => set(socket, libc::SOL_IP, libc::IP_TRANSPARENT, &1i32),
        false => set(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, &1i32),
    }
}

/// Leaves the choice of the port to `connect`, which knows the destination: ports then do not run out.
pub(super) fn set_bind_without_port(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1i32)
}

/// Where a redirected connection was going.
pub(super) fn original_destination(socket: &impl AsFd, ipv4: bool) -> io::Result<SocketAddr> {
    /// `SO_ORIGINAL_DST` and `IP6T_SO_ORIGINAL_DST`.
    const ORIGINAL_DESTINATION: i32 = 80;
    if ipv4 {
        let address: libc::sockaddr_in = get(socket, libc::SOL_IP, ORIGINAL_DESTINATION)?;
        let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
        Ok((ip, u16::from_be(address.sin_port)).into())
    } else {
        let address: libc::sockaddr_in6 = get(socket, libc::SOL_IPV6, ORIGINAL_DESTINATION)?;
        let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
        Ok((ip, u16::from_be(address.sin6_port)).into())
    }
}

/// Connects over the loopback device with a marked socket, which a listener there makes immediate.
pub(super) fn connect_marked_v4(mark: u32, port: u16) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; the result is checked before use.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned `fd` and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_mark(&socket, mark)?;
    let address = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(0),
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: pointer and length describe `address`, which outlives the call; `fd` is owned by `socket`.
    let result = unsafe { libc::connect(fd, (&raw const address).cast(), length_of::<libc::sockaddr_in>()) };
    if result == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Plain numbers and socket addresses: any bytes are a valid value.
trait Plain: Copy {}
impl Plain for i32 {}
impl Plain for u32 {}
impl Plain for libc::sockaddr_in {}
impl Plain for libc::sockaddr_in6 {}

fn set<T: Plain>(socket: &impl AsFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which is plain and outlives the call; the descriptor is borrowed
    // from a live socket.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            length_of::<T>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn get<T: Plain>(socket: &impl AsFd, level: i32, option: i32) -> io::Result<T> {
    // SAFETY: `T` is plain: all-zero is a value of it.
    let mut value: T = unsafe { zeroed() };
    let mut length = length_of::<T>();
    // SAFETY: both pointers describe live locals, and `length` is the size of `value`.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

//! The few system calls that tests need and the standard library lacks.
#![allow(unsafe_code, unreachable_pub)]

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Moves the calling thread into a new network namespace.
pub fn enter_new_network() {
    // SAFETY: no pointers; the result is checked.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "unshare: {}", io::Error::last_os_error());
}

/// True if this process is the root user of its user namespace.
pub fn is_root() -> bool {
    // SAFETY: the call has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Runs `body` so that sockets made in it belong to another user; the thread keeps its network rights.
pub fn as_user<T>(uid: u32, body: impl FnOnce() -> T) -> T {
    // SAFETY: no pointers; the call changes only this thread and returns the user before.
    let before = unsafe { libc::setfsuid(uid) };
    let result = body();
    // SAFETY: as above.
    unsafe { libc::setfsuid(u32::try_from(before).unwrap_or(0)) };
    result
}

/// Marks a socket's packets.
pub fn set_mark(socket: &impl AsFd, mark: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_MARK, mark)
}

/// Lets a socket speak with an address that is not ours.
pub fn set_transparent(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_TRANSPARENT, 1)
}

fn set(socket: &impl AsFd, level: i32, option: i32, value: u32) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`; the descriptor is borrowed from a live socket.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, (&raw const value).cast(), 4) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A raw socket for a protocol, with the face of a UDP socket: `send_to` with port 0 sends what comes after the IP header.
pub fn raw_socket(ipv4: bool, protocol: u8) -> io::Result<UdpSocket> {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    Ok(socket(family, libc::SOCK_RAW, i32::from(protocol))?.into())
}

/// A UDP socket without an address.
pub fn unbound_udp() -> io::Result<UdpSocket> {
    Ok(socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?.into())
}

/// Gives a socket an address.
pub fn bind_v4(to: &impl AsFd, address: Ipv4Addr) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sockaddr_in`.
    let mut name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    name.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(0);
    name.sin_addr.s_addr = u32::from(address).to_be();
    let length = u32::try_from(size_of_val(&name)).unwrap_or(0);
    // SAFETY: pointer and length describe `name`; the descriptor is borrowed from a live socket.
    let result = unsafe { libc::bind(to.as_fd().as_raw_fd(), (&raw const name).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a frame past every hook of IP.
pub fn send_frame(device: u32, frame: &[u8]) -> io::Result<()> {
    let socket = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    // SAFETY: all-zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_ifindex = i32::try_from(device).unwrap_or(0);
    address.sll_halen = 6;
    let length = u32::try_from(size_of_val(&address)).unwrap_or(0);
    // SAFETY: pointers and lengths describe `frame` and `address`, which outlive the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before use.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned `fd`, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

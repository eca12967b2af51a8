//! The one place that makes system calls: a netlink socket with timeouts and extended acknowledgements.
//!
//! Knows nothing of message contents. A datagram that does not come from the kernel is dropped; one that
//! was cut is an error. See `wire.rs` for what is inside.
#![allow(unsafe_code)]

use crate::error::NetlinkError;
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A bound netlink socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
}

/// What a receive call brought.
pub(crate) enum Received {
    /// A datagram of that many bytes.
    Datagram(usize),
    /// Nothing before the receive timeout.
    Nothing,
    /// The kernel had to drop messages for us (ENOBUFS).
    Overrun,
}

impl Socket {
    /// Opens a socket of a netlink protocol that listens to the groups of the bit mask.
    pub(crate) fn open(protocol: i32, groups: u32, receive_timeout: Duration) -> Result<Self, NetlinkError> {
        // SAFETY: no pointers are passed; the result is checked before use.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(failure("opening a socket"));
        }
        // SAFETY: `fd` was just returned by the kernel and nobody else owns it.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        socket.bind(groups)?;
        socket.set_receive_timeout(receive_timeout)?;
        // Older kernels lack these; the answers are then less telling, nothing more.
        let _ = socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        let _ = socket.set_option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        Ok(socket)
    }

    fn bind(&self, groups: u32) -> Result<(), NetlinkError> {
        // SAFETY: all-zero is a valid `sockaddr_nl`.
        let mut address: libc::sockaddr_nl = unsafe { zeroed() };
        address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or(0);
        address.nl_groups = groups;
        // SAFETY: the pointer and length describe `address`, which outlives the call.
        let result =
            unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), socket_length(&address)) };
        if result < 0 { Err(failure("binding a socket")) } else { Ok(()) }
    }

    /// Limits the wait of [`Self::receive`]; at least a millisecond.
    pub(crate) fn set_receive_timeout(&self, timeout: Duration) -> Result<(), NetlinkError> {
        let timeout = timeout.max(Duration::from_millis(1));
        let value = libc::timeval {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: libc::suseconds_t::from(timeout.subsec_micros()),
        };
        // SAFETY: the pointer and length describe `value`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const value).cast(),
                socket_length(&value),
            )
        };
        if result < 0 { Err(failure("setting the receive timeout")) } else { Ok(()) }
    }

    /// Enlarges the send buffer; false if only the system's limit could be had.
    pub(crate) fn enlarge_send_buffer(&self, bytes: i32) -> bool {
        self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes).is_ok() || {
            let _ = self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, bytes);
            false
        }
    }

    /// Enlarges the receive buffer as far as allowed.
    pub(crate) fn enlarge_receive_buffer(&self, bytes: i32) {
        if self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_err() {
            let _ = self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, bytes);
        }
    }

    /// The send buffer's size as the kernel accounts it.
    pub(crate) fn send_buffer_bytes(&self) -> usize {
        let mut value: libc::c_int = 0;
        let mut length = socket_length(&value);
        // SAFETY: both pointers describe live locals of the right size.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUF,
                (&raw mut value).cast(),
                &raw mut length,
            )
        };
        if result < 0 { 0 } else { usize::try_from(value).unwrap_or(0) }
    }

    fn set_option(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        // SAFETY: the pointer and length describe `value`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                socket_length(&value),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends one datagram to the kernel.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        loop {
            // SAFETY: the pointer and length describe `bytes`.
            let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            if sent >= 0 {
                return Ok(());
            }
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return Err(failure("sending"));
            }
        }
    }

    /// Receives one datagram from the kernel into `buffer`.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Received, NetlinkError> {
        self.receive_with(buffer, 0)
    }

    /// As [`Self::receive`], without any wait.
    pub(crate) fn receive_now(&self, buffer: &mut [u8]) -> Result<Received, NetlinkError> {
        self.receive_with(buffer, libc::MSG_DONTWAIT)
    }

    fn receive_with(&self, buffer: &mut [u8], flags: i32) -> Result<Received, NetlinkError> {
        loop {
            // SAFETY: all-zero is a valid `sockaddr_nl`.
            let mut sender: libc::sockaddr_nl = unsafe { zeroed() };
            let mut sender_length = socket_length(&sender);
            // SAFETY: pointers and lengths describe `buffer` and `sender`; MSG_TRUNC only changes the result.
            let received = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_TRUNC | flags,
                    (&raw mut sender).cast(),
                    &raw mut sender_length,
                )
            };
            match usize::try_from(received) {
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
                    error if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Received::Overrun),
                    source => return Err(NetlinkError::Socket { operation: "receiving", source }),
                },
                Ok(_) if sender.nl_pid != 0 => {}
                Ok(length) if length > buffer.len() => {
                    let source = io::Error::from_raw_os_error(libc::EMSGSIZE);
                    return Err(NetlinkError::Socket { operation: "receiving a whole datagram", source });
                }
                Ok(length) => return Ok(Received::Datagram(length)),
            }
        }
    }
}

fn failure(operation: &'static str) -> NetlinkError {
    NetlinkError::Socket { operation, source: io::Error::last_os_error() }
}

fn socket_length<T>(value: &T) -> libc::socklen_t {
    const { assert!(size_of::<T>() <= 1024) };
    libc::socklen_t::try_from(size_of_val(value)).unwrap_or(0)
}

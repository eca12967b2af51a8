//! What attacks ask of the kernel that no safe library offers: link-layer addresses, a few socket options, giving
//! up privileges of the calling thread.
//!
//! The only file of the attacks with `unsafe` in it. Privileges are changed by plain system calls, which concern the
//! calling thread only (the C library's own functions change every thread of the process).

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::time::Duration;

use libc::{c_int, c_long};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// CAP_SETGID.
pub(super) const CAP_SETGID: u32 = 6;
/// CAP_SETUID.
pub(super) const CAP_SETUID: u32 = 7;
/// CAP_NET_BIND_SERVICE.
pub(super) const CAP_NET_BIND_SERVICE: u32 = 10;
/// CAP_NET_RAW.
pub(super) const CAP_NET_RAW: u32 = 13;

/// Sets a socket option that is a number.
pub(crate) fn set_option(socket: &Socket, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(4);
    // SAFETY: the pointer is to a live `c_int` and the length is its size; the kernel only reads it.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    check(c_long::from(result))
}

/// Sets the options that every IPv4 packet of a socket carries.
pub(super) fn set_ip_options(socket: &Socket, options: &[u8]) -> io::Result<()> {
    let length =
        libc::socklen_t::try_from(options.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: pointer and length are those of a live slice; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_OPTIONS,
            options.as_ptr().cast(),
            length,
        )
    };
    check(c_long::from(result))
}

/// Asks nf_tables to delete the firewall's tables of this thread's network namespace.
pub(super) fn delete_tables() -> io::Result<()> {
    const NETFILTER: i32 = 12;
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(NETFILTER)))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    socket.send(&delete_tables_batch())?;
    let mut answer = [0; 256];
    let length = io::Read::read(&mut &socket, &mut answer)?;
    // An error message: its header, then the error number, negative.
    let error = answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
    match error.map_or(0, i32::from_ne_bytes) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// Batch begin, deletion of both tables, batch end (linux/netfilter/nfnetlink.h).
fn delete_tables_batch() -> Vec<u8> {
    const BATCH_BEGIN: u16 = 16;
    const BATCH_END: u16 = 17;
    const DELETE_TABLE: u16 = 10 << 8 | 2;
    const REQUEST: u16 = 1;
    const REQUEST_ACK: u16 = 5;
    const INET: u8 = 1;
    const NETDEV: u8 = 5;
    let subsystem: &[u8] = &[0, 0, 0, 10];
    // The attribute NFTA_TABLE_NAME: its length with header, its number, the name with its NUL, padded to four bytes.
    let name = [&13u16.to_ne_bytes()[..], &1u16.to_ne_bytes(), b"bulkhead\0\0\0\0"].concat();
    let table = |family: u8| [&[family, 0, 0, 0], name.as_slice()].concat();
    let messages = [
        (BATCH_BEGIN, REQUEST, subsystem.to_vec()),
        (DELETE_TABLE, REQUEST_ACK, table(INET)),
        (DELETE_TABLE, REQUEST_ACK, table(NETDEV)),
        (BATCH_END, REQUEST, subsystem.to_vec()),
    ];
    let mut batch = Vec::new();
    for (number, (kind, flags, body)) in (0u32..).zip(messages) {
        batch.extend(u32::try_from(16 + body.len()).unwrap_or(0).to_ne_bytes());
        batch.extend(kind.to_ne_bytes());
        batch.extend(flags.to_ne_bytes());
        batch.extend(number.to_ne_bytes());
        batch.extend(0u32.to_ne_bytes());
        batch.extend(body);
    }
    batch
}

/// Makes a user namespace and becomes root of it; works only in a process with one thread.
pub(super) fn enter_user_namespace() -> io::Result<()> {
    // SAFETY: takes a number.
    check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) }))
}

/// The number of a network interface in this thread's network namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let text = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the pointer is to a string that ends with NUL and lives until the call returns.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(io::Error::new(io::ErrorKind::NotFound, format!("no interface `{name}`"))),
        index => Ok(index),
    }
}

/// The link-layer address of a packet socket: interface, protocol (host order) and the receiver's hardware address.
pub(crate) fn link_address(interface: u32, protocol: u16, hardware: [u8; 6]) -> io::Result<SockAddr> {
    // SAFETY: the storage is zeroed and large enough for every address; the fields written are those of an
    // AF_PACKET address, and the length is that of `sockaddr_ll`.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).unwrap_or(17);
            (*link).sll_protocol = protocol.to_be();
            (*link).sll_ifindex = interface.cast_signed();
            (*link).sll_halen = 6;
            (&mut (*link).sll_addr)[..6].copy_from_slice(&hardware);
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(20);
            Ok(())
        })?
    };
    Ok(address)
}

/// Becomes another user, real, effective and saved, and keeps those of `kept` that it has.
pub(super) fn become_user(uid: u32, kept: &[u32]) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1)?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    set_capabilities(kept)
}

/// Gives up everything but `kept` capabilities, for good, and becomes `uid` if one is given.
///
/// In a user namespace that knows only one user the user stays what it is; the capabilities go all the same.
pub(super) fn give_up(kept: &[u32], uid: Option<u32>) -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    for capability in 0..=63 {
        if !kept.contains(&capability) {
            // Refused for numbers that this kernel has no capability for.
            let _ = prctl(libc::PR_CAPBSET_DROP, capability);
        }
    }
    if let Some(uid) = uid {
        // SAFETY: takes numbers and, for no groups at all, a null pointer that is not read.
        let _ = unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) };
        // SAFETY: takes numbers only.
        let _ = unsafe { libc::syscall(libc::SYS_setresgid, uid, uid, uid) };
        let _ = become_user(uid, kept);
    }
    set_capabilities(kept)
}

fn set_capabilities(kept: &[u32]) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    // _LINUX_CAPABILITY_VERSION_3: two words for each set.
    let header = Header { version: 0x2008_0522, pid: 0 };
    let bits = kept.iter().fold(0u32, |bits, capability| bits | 1 << capability);
    let low = Sets { effective: bits, permitted: bits, inheritable: 0 };
    let sets = [low, Sets { effective: 0, permitted: 0, inheritable: 0 }];
    // SAFETY: both pointers are to live values of the layout that version 3 of the call prescribes.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })
}

fn prctl(option: c_int, value: u32) -> io::Result<()> {
    // SAFETY: the options used here take numbers only.
    check(c_long::from(unsafe { libc::prctl(option, libc::c_ulong::from(value), 0, 0, 0) }))
}

fn check(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_address_holds_interface_protocol_and_receiver() {
        let address = link_address(7, 0x0800, [2, 0, 0, 0, 0, 9]).expect("an address");
        assert_eq!(i32::from(address.family()), libc::AF_PACKET);
        assert_eq!(address.len() as usize, size_of::<libc::sockaddr_ll>());
    }

    #[test]
    fn deletion_of_the_tables_is_a_batch_of_whole_messages() {
        let batch = delete_tables_batch();
        let mut rest = &batch[..];
        let mut lengths = Vec::new();
        while let Some(length) = rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes) as usize) {
            lengths.push(length);
            rest = &rest[length..];
        }
        assert_eq!(lengths, [20, 36, 36, 20]);
    }

    #[test]
    fn a_thread_that_gave_up_everything_cannot_open_a_raw_socket() {
        let refused = std::thread::spawn(|| {
            give_up(&[], None).expect("capabilities can always be given up");
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).is_err()
        });
        assert!(refused.join().expect("the thread ends"));
    }
}

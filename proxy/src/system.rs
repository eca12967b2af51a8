//! What the process asks the system about itself: its user, its limit of open files, its memory.
//!
//! A connection through the inspector takes two descriptors; the usual soft limit of 1,024 would be reached long before
//! our own limit of connections. The hard limit is the operator's and stays.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The user whose rights the process has.
pub fn effective_user() -> u32 {
    // SAFETY: has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Raises the soft limit of open files to the hard one. Returns what holds now.
///
/// # Errors
///
/// If the system refuses; the old limit stays.
pub fn raise_open_files_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer and outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is valid and only read.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

/// How many files may be open now. `None` if the system does not say.
pub fn open_files_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer and outlives the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (result == 0).then_some(limit.rlim_cur)
}

/// Gives memory that was freed back to the system, which the allocator does by itself only at the end of its heaps.
/// Takes locks of the allocator for up to some milliseconds.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: has no preconditions; the allocator locks what it walks through.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The address of ours from which a destination would be reached. Sends nothing.
///
/// # Errors
///
/// If there is no route.
pub fn local_address_towards(destination: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match destination {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(destination)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_twice_is_the_same_as_once() {
        let once = raise_open_files_limit().expect("may raise the soft limit");
        assert_eq!(raise_open_files_limit().expect("again"), once);
        assert_eq!(open_files_limit(), Some(once));
    }
}

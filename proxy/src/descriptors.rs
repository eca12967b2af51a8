//! The process's limit of open files.
//!
//! A connection through the inspector takes two descriptors; the usual soft limit of 1,024 would be reached long before
//! our own limit of connections. The hard limit is the operator's and stays.
#![allow(unsafe_code)]

use std::io;

/// Raises the soft limit to the hard one. Returns what holds now.
///
/// # Errors
///
/// If the system refuses; the old limit stays.
pub fn raise_limit() -> io::Result<u64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_twice_is_the_same_as_once() {
        let once = raise_limit().expect("may raise the soft limit");
        assert_eq!(raise_limit().expect("again"), once);
    }
}

//! The two system calls that the tests' namespaces need.
#![allow(unsafe_code, unreachable_pub)]

/// Moves the calling thread into a new network namespace.
pub fn enter_new_network() {
    // SAFETY: no pointers; the result is checked.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "unshare: {}", std::io::Error::last_os_error());
}

/// True if this process is the root user of its user namespace.
pub fn is_root() -> bool {
    // SAFETY: the call has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
